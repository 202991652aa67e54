//! What is wrong, verdict first and in words; the reasons why messages wait.
//!
//! Pure judgement over [`Facts`] that the command line gathers, so that it can be tested
//! without breaking a disk.

use std::path::{Path, PathBuf};

use serde::Serialize;
use teahouse_core::{query, view};
use teahouse_protocols::ids::{Millis, RelayId};
use teahouse_protocols::mailbox::Refusal;

use crate::config::{self, Role};
use crate::handle::{Health, NodeStatus};
use crate::roles::relay::RelayView;
use crate::runtime::now;

/// Newest messages of each chat that are looked at.
pub const LOOKED_AT: usize = 100;

/// Below this many free bytes the disk counts as nearly full.
const LOW_DISK: u64 = 256 << 20;

/// A message that waits for less time is on its way. Less than `send --wait` waits unless told
/// otherwise: whoever is sent here by it is to find something.
const ON_ITS_WAY: Millis = 15_000;

/// An alarm is news for so long; later it is history.
const NEWS: Millis = 24 * 60 * 60_000;

/// How the alarm ends that says no more than that a contact has one device more.
const ANOTHER_DEVICE: &str = " now uses another device.";

/// A relay that has not answered for longer is a reason to look.
const SILENT: Millis = 15 * 60_000;

/// Clocks may differ by so much without a word.
const SKEW: Millis = 10 * 60_000;

/// No honest clock shows an earlier time: 2026-01-01.
const BUILT: Millis = 1_767_225_600_000;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing to do.
    Fine,
    /// Something to know.
    Warning,
    /// Something to mend.
    Trouble,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub verdict: Verdict,
    /// What it is, as a sentence.
    pub text: String,
}

/// The outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The worst of the findings.
    pub verdict: Verdict,
    /// It in a sentence.
    pub summary: String,
    /// Everything looked at, the worst first.
    pub findings: Vec<Finding>,
}

/// What is known.
#[derive(Debug)]
pub struct Facts {
    /// The folder.
    pub data: PathBuf,
    /// What it belongs to; `None` when there is nothing.
    pub role: Option<Role>,
    /// Whether others than its owner may read it.
    pub readable_by_others: bool,
    /// Whether a node runs on it.
    pub running: bool,
    /// Why it can't be opened or read.
    pub broken: Option<String>,
    /// Bytes free on its disk, where that can be found out.
    pub disk_free: Option<u64>,
    /// The clock.
    pub now: Millis,
    /// Of a device.
    pub device: Option<DeviceFacts>,
    /// Of a relay.
    pub relay: Option<RelayView>,
}

/// What is known of a device.
#[derive(Debug)]
pub struct DeviceFacts {
    /// The node's state.
    pub status: NodeStatus,
    /// Who it is.
    pub identity: view::Identity,
    /// Its relays.
    pub relays: Vec<view::Relay>,
    /// What waits, chat by chat and relay by relay.
    pub waiting: Vec<view::Waiting>,
    /// Its alarms.
    pub alarms: Vec<view::Alarm>,
    /// Chats with messages that are not delivered.
    pub undelivered: Vec<Undelivered>,
}

/// Messages of a chat that have not reached everybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undelivered {
    /// The chat's title.
    pub chat: String,
    /// How this account stands to it.
    pub state: view::ChatState,
    /// How many are nowhere but here.
    pub queued: usize,
    /// How many wait at relays.
    pub relayed: usize,
    /// The time of the oldest queued one.
    pub oldest: Millis,
    /// Relays that the newest queued one is meant for.
    pub relays: u32,
}

/// What waits among a chat's newest messages; `None` for nothing.
pub fn undelivered(chat: &view::Chat, newest: &[view::Message]) -> Option<Undelivered> {
    let mut all = Undelivered {
        chat: chat.title.clone(),
        state: chat.state,
        queued: 0,
        relayed: 0,
        oldest: Millis::MAX,
        relays: 0,
    };
    for m in newest {
        let Some(d) = m.delivery.filter(|d| d.delivered < d.recipients) else { continue };
        if d.relayed > 0 {
            all.relayed += 1;
        } else if d.delivered == 0 {
            all.queued += 1;
            all.oldest = all.oldest.min(m.time);
            all.relays = d.relays;
        }
    }
    (all.queued + all.relayed > 0).then_some(all)
}

impl Facts {
    /// What can be seen from outside.
    pub fn of_folder(data: &Path) -> Self {
        Self {
            data: data.to_owned(),
            role: config::role_of(data),
            readable_by_others: readable_by_others(data),
            running: false,
            broken: None,
            disk_free: disk_free(data),
            now: now(),
            device: None,
            relay: None,
        }
    }

    /// The judgement.
    pub fn report(&self) -> Report {
        let mut findings = Findings(Vec::new());
        self.folder(&mut findings);
        if let Some(device) = &self.device {
            self.device(device, &mut findings);
        }
        if let Some(relay) = &self.relay {
            self.relay(relay, &mut findings);
        }
        let mut findings = findings.0;
        findings.sort_by_key(|f| std::cmp::Reverse(f.verdict));
        let verdict = findings.first().map_or(Verdict::Fine, |f| f.verdict);
        let worst = findings.first().map_or("", |f| f.text.as_str());
        let summary = match verdict {
            Verdict::Fine => "All is well.".to_owned(),
            Verdict::Warning => format!("Warning: {worst}"),
            Verdict::Trouble => format!("Trouble: {worst}"),
        };
        Report { verdict, summary, findings }
    }

    fn folder(&self, out: &mut Findings) {
        let dir = self.data.display();
        match (&self.broken, self.role) {
            (Some(why), _) => out.trouble(format!("{dir} can't be used: {why}")),
            (None, None) => out.warn(format!("there is nothing in {dir}: `teahouse init` begins")),
            (None, Some(role)) => {
                out.fine(format!("{dir} belongs to a {}, its database opens", role.word()));
            }
        }
        if self.readable_by_others {
            out.warn(format!("others on this machine can read {dir}: chmod 700 it"));
        }
        match self.disk_free {
            Some(0) => out.trouble("the disk is full: nothing can be stored".into()),
            Some(free) if free < LOW_DISK => {
                out.warn(format!("only {} MiB are free on the disk", free >> 20));
            }
            Some(free) => out.fine(format!("{} GiB are free on the disk", free >> 30)),
            None => {}
        }
        if self.now < BUILT {
            out.trouble("the clock of this machine shows a time in the past".into());
        }
    }

    fn device(&self, d: &DeviceFacts, out: &mut Findings) {
        // First, because it is what people ask: the summary is the first of the worst.
        for waiting in &d.undelivered {
            self.waiting(d, waiting, out);
        }
        if self.running {
            let connected = match d.status.peers.len() {
                1 => "1 device is connected".to_owned(),
                n => format!("{n} devices are connected"),
            };
            out.fine(format!("a node runs, {connected}"));
        } else {
            out.warn("no node runs, so nothing is sent or received: `teahouse run`".into());
        }
        if let Health::NotStoring { why } = &d.status.health {
            out.trouble(format!("nothing can be stored: {why}"));
        }
        if d.identity.account.is_none() {
            out.warn("there is no account yet: `teahouse init`".into());
        }
        if d.identity.revoked {
            out.trouble("this device was removed from its account".into());
        }
        if d.identity.disputed {
            out.trouble("the account's root key was changed twice at once".into());
        }
        self.relays(d, out);
        self.alarms(d, out);
    }

    /// Nothing takes alarms back, so only fresh ones are a warning.
    fn alarms(&self, d: &DeviceFacts, out: &mut Findings) {
        let news = |a: &&view::Alarm| {
            self.now.saturating_sub(a.time) < NEWS && !a.text.ends_with(ANOTHER_DEVICE)
        };
        let (fresh, told): (Vec<_>, Vec<_>) = d.alarms.iter().partition(news);
        if let Some(newest) = fresh.iter().max_by_key(|a| a.time) {
            out.warn(format!("{}, the newest: {}", alarms(fresh.len(), ""), newest.text));
        }
        if let Some(newest) = told.iter().max_by_key(|a| a.time) {
            let text = newest.text.as_str();
            out.fine(match told.len() {
                1 if text.ends_with(ANOTHER_DEVICE) => format!("to know: {text}"),
                n => format!("{}, the newest: {text}", alarms(n, "earlier ")),
            });
        }
    }

    fn relays(&self, d: &DeviceFacts, out: &mut Findings) {
        if d.relays.is_empty() && d.identity.account.is_some() {
            out.warn(
                "no relay is used, so messages pass only while both sides are on: \
                 `teahouse relay use LINK`"
                    .into(),
            );
        }
        for r in &d.relays {
            let name = relay_name(r);
            let waiting = match r.waiting {
                0 => String::new(),
                1 => "; 1 entry waits for it".into(),
                n => format!("; {n} entries wait for it"),
            };
            if !r.trouble.is_empty() {
                let (verdict, text) = says(&name, &r.trouble);
                out.add(verdict, format!("{text}{waiting}"));
                continue;
            }
            match r.last_answer {
                None if self.running => {
                    out.warn(format!("the relay {name} has never answered{waiting}"));
                }
                None => {}
                Some(t) if t > self.now + SKEW => {
                    out.warn("the clock of this machine has gone back".into());
                }
                Some(t) if self.running && self.now - t.min(self.now) > SILENT && r.waiting > 0 => {
                    let minutes = (self.now - t) / 60_000;
                    out.warn(format!(
                        "the relay {name} has not answered for {minutes} minutes{waiting}"
                    ));
                }
                Some(t) if !self.running => {
                    out.fine(format!("the relay {name} last answered {}", self.ago(t)));
                }
                Some(_) => match slow(r.relay, &d.waiting, self.now) {
                    Some(words) => out.warn(format!("the relay {name} answers, but {words}")),
                    None => out.fine(format!("the relay {name} answers")),
                },
            }
            if r.tokens == 0 && r.last_answer.is_some() {
                out.warn(format!("no tokens are left for the relay {name}"));
            }
        }
    }

    fn ago(&self, time: Millis) -> String {
        let minutes = self.now.saturating_sub(time) / 60_000;
        match minutes {
            0 => "just now".into(),
            1 => "a minute ago".into(),
            2..120 => format!("{minutes} minutes ago"),
            120..2880 => format!("{} hours ago", minutes / 60),
            _ => format!("{} days ago", minutes / 1440),
        }
    }

    /// Why a chat's messages are not delivered.
    fn waiting(&self, d: &DeviceFacts, w: &Undelivered, out: &mut Findings) {
        let chat = &w.chat;
        if w.relayed > 0 {
            out.fine(format!(
                "{} to {chat} {} at relays until fetched",
                count(w.relayed),
                verb(w.relayed)
            ));
        }
        if w.queued == 0 {
            return;
        }
        let what = format!("{} to {chat} {}", count(w.queued), verb(w.queued));
        let late = self.now.saturating_sub(w.oldest) >= ON_ITS_WAY;
        let troubled = d.relays.iter().find(|r| !r.trouble.is_empty() && r.waiting > 0);
        let others = d.waiting.iter().find_map(|x| {
            let relay = x.relay?;
            let contacts = d.relays.iter().all(|r| r.relay != relay);
            let worth = late || x.why != query::NOT_REACHED && x.why != query::NOT_TAKEN;
            (x.title == *chat && contacts && worth).then_some((relay, &x.why))
        });
        let untaken = d
            .relays
            .iter()
            .find(|r| d.waiting.iter().any(|x| x.title == *chat && x.relay == Some(r.relay)));
        if w.state == view::ChatState::Requested {
            out.fine(format!("{what}, because the request for contact is not accepted yet"));
        } else if w.state == view::ChatState::Left {
            out.fine(format!("{what}, and stay: this chat was left"));
        } else if d.identity.revoked {
            out.trouble(format!("{what}, because this device was removed from its account"));
        } else if !self.running {
            out.warn(format!("{what}, because no node runs"));
        } else if let Some(r) = troubled {
            let (verdict, text) = says(&relay_name(r), &r.trouble);
            out.add(verdict, format!("{what}, because {text}"));
        } else if let Some((relay, why)) = others {
            let relay = short(&relay.to_hex());
            if why == query::NOT_TAKEN {
                let it = them(w.queued);
                out.warn(format!(
                    "{what}, because the contact's relay {relay} has not taken {it} yet"
                ));
            } else if is_closing(why) {
                out.warn(format!("{what}, because the contact's relay {relay} {CLOSING}"));
            } else {
                out.trouble(format!("{what}, because the contact's relay {relay}: {why}"));
            }
        } else if d.relays.is_empty() || w.relays == 0 {
            out.warn(format!(
                "{what}, because no relay is known that both sides use, and no device of the \
                 other side is connected"
            ));
        } else if let Some(r) = d.relays.iter().find(|r| r.last_answer.is_none()) {
            out.trouble(format!("{what}, because the relay {} has never answered", relay_name(r)));
        } else if !late {
            out.fine(format!("{what} to be sent"));
        } else if let Some(r) = untaken {
            let it = them(w.queued);
            out.warn(format!("{what}, because the relay {} has not taken {it} yet", relay_name(r)));
        } else {
            out.warn(format!("{what}, because no relay has acknowledged {} yet", them(w.queued)));
        }
    }

    fn relay(&self, r: &RelayView, out: &mut Findings) {
        if self.running {
            out.fine(format!("the relay runs, with {} mailboxes", r.mailbox.tags));
        } else {
            out.trouble("the relay does not run: `teahouse run --role relay`".into());
        }
        if let Health::NotStoring { why } = &r.health {
            out.trouble(format!("nothing can be stored: {why}"));
        }
        if r.mailbox.draining {
            out.warn("the relay is draining: it takes nothing new".into());
        }
        let percent = u128::from(r.mailbox.bytes) * 100 / u128::from(r.max_bytes.max(1));
        match percent {
            100.. => out.trouble("the relay is full and refuses deposits: raise --max-mb".into()),
            80.. => out.warn(format!("{percent} % of the relay's space is used")),
            _ => out.fine(format!("{percent} % of the relay's space is used")),
        }
        if r.addrs.is_empty() && self.running {
            out.warn("the relay has no address to be reached at".into());
        }
    }
}

struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, verdict: Verdict, text: String) {
        self.0.push(Finding { verdict, text });
    }
    fn fine(&mut self, text: String) {
        self.add(Verdict::Fine, text);
    }
    fn warn(&mut self, text: String) {
        self.add(Verdict::Warning, text);
    }
    fn trouble(&mut self, text: String) {
        self.add(Verdict::Trouble, text);
    }
}

/// What is told of a relay that is about to go away. Whoever runs it means it: there is
/// nothing to mend, but something to know.
const CLOSING: &str = "is closing down and takes nothing new";

fn is_closing(trouble: &str) -> bool {
    trouble == Refusal::Draining.to_string()
}

/// A relay's trouble in words, and how bad it is.
fn says(name: &str, trouble: &str) -> (Verdict, String) {
    if is_closing(trouble) {
        (Verdict::Warning, format!("the relay {name} {CLOSING}"))
    } else {
        (Verdict::Trouble, format!("the relay {name}: {trouble}"))
    }
}

/// Says so when messages have waited for a relay longer than they should: it may answer, and
/// refuse them all the same.
pub fn slow(relay: RelayId, waiting: &[view::Waiting], now: Millis) -> Option<String> {
    let late =
        |w: &&view::Waiting| w.relay == Some(relay) && now.saturating_sub(w.since) >= ON_ITS_WAY;
    let count: u64 = waiting.iter().filter(late).map(|w| w.count).sum();
    match count {
        0 => None,
        1 => Some("has not taken 1 entry yet".into()),
        n => Some(format!("has not taken {n} entries yet")),
    }
}

fn alarms(n: usize, kind: &str) -> String {
    if n == 1 { format!("1 {kind}alarm") } else { format!("{n} {kind}alarms") }
}

fn count(n: usize) -> String {
    if n == 1 { "1 message".into() } else { format!("{n} messages") }
}

const fn verb(n: usize) -> &'static str {
    if n == 1 { "waits" } else { "wait" }
}

const fn them(n: usize) -> &'static str {
    if n == 1 { "it" } else { "them" }
}

/// A relay's host name; the first digits of its id where it has none.
pub fn relay_name(relay: &view::Relay) -> String {
    let host = relay.addrs.iter().find_map(|addr| {
        let mut parts = addr.split('/').skip(1);
        let kind = parts.next()?;
        ["dns", "dns4", "dns6", "ip4", "ip6"].contains(&kind).then(|| parts.next())?
    });
    host.map_or_else(|| short(&relay.relay.to_hex()), ToOwned::to_owned)
}

/// The first eight digits of an id.
fn short(id: &str) -> String {
    id.chars().take(8).collect()
}

#[cfg(unix)]
fn readable_by_others(dir: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(dir).is_ok_and(|m| m.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn readable_by_others(_: &Path) -> bool {
    false
}

/// Bytes free on the folder's disk, asked of `df` (POSIX): the standard library has no call
/// for it. `None` where there is no `df`.
fn disk_free(dir: &Path) -> Option<u64> {
    let mut dir = dir;
    while !dir.exists() {
        dir = dir.parent()?;
    }
    let out = std::process::Command::new("df").arg("-Pk").arg(dir).output().ok()?;
    let text = String::from_utf8(out.stdout).ok()?;
    let free = text.lines().nth(1)?.split_whitespace().rev().nth(2)?;
    free.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use teahouse_core::command::MessageId;
    use teahouse_protocols::ids::{AccountId, DeviceId, RelayId, TopicId};

    const NOW: Millis = BUILT + 1_000_000_000;

    fn facts() -> Facts {
        let identity = view::Identity {
            account: Some(AccountId([1; 32])),
            name: "Ada".into(),
            device: DeviceId([2; 32]),
            revoked: false,
            disputed: false,
        };
        let status = NodeStatus {
            device: DeviceId([2; 32]),
            account: identity.account,
            online: true,
            listen: vec![],
            peers: vec![],
            relays: vec![],
            public: None,
            health: Health::Good,
        };
        let device = DeviceFacts {
            status,
            identity,
            relays: vec![relay("")],
            waiting: vec![],
            alarms: vec![],
            undelivered: vec![],
        };
        Facts {
            data: "/tea".into(),
            role: Some(Role::Device),
            readable_by_others: false,
            running: true,
            broken: None,
            disk_free: Some(1 << 40),
            now: NOW,
            device: Some(device),
            relay: None,
        }
    }

    fn relay(trouble: &str) -> view::Relay {
        view::Relay {
            relay: RelayId([0xab; 32]),
            addrs: vec!["/dns/tea.example/udp/4747/quic-v1".into()],
            tokens: 9,
            tags: 3,
            last_answer: Some(NOW - 1000),
            trouble: trouble.into(),
            waiting: u64::from(!trouble.is_empty()),
        }
    }

    fn waiting(queued: usize, relays: u32) -> Undelivered {
        Undelivered {
            chat: "Bob".into(),
            state: view::ChatState::Active,
            queued,
            relayed: 0,
            oldest: NOW - 10 * ON_ITS_WAY,
            relays,
        }
    }

    fn with(change: impl FnOnce(&mut Facts, &mut DeviceFacts)) -> Report {
        let mut facts = facts();
        let mut device = facts.device.take().unwrap();
        change(&mut facts, &mut device);
        facts.device = Some(device);
        facts.report()
    }

    #[test]
    fn all_well() {
        let report = with(|_, _| {});
        assert_eq!(report.verdict, Verdict::Fine, "{report:?}");
        assert_eq!(report.summary, "All is well.");
    }

    #[test]
    fn the_reason_for_waiting_is_told() {
        let report = with(|_, d| {
            d.relays = vec![relay("refuses: the recipient has no such mailbox")];
            d.undelivered = vec![waiting(2, 1)];
        });
        assert_eq!(report.verdict, Verdict::Trouble);
        let text = "2 messages to Bob wait, because the relay tea.example: refuses: the \
                    recipient has no such mailbox";
        assert!(report.findings.iter().any(|f| f.text == text), "{report:#?}");

        let report = with(|f, d| {
            f.running = false;
            d.undelivered = vec![waiting(1, 1)];
        });
        assert_eq!(report.verdict, Verdict::Warning);
        assert!(
            report
                .findings
                .iter()
                .any(|f| f.text == "1 message to Bob waits, because no node runs")
        );

        let report = with(|_, d| {
            d.undelivered =
                vec![Undelivered { state: view::ChatState::Requested, ..waiting(1, 1) }];
        });
        assert_eq!(report.verdict, Verdict::Fine, "waiting for an answer is no fault: {report:?}");
    }

    #[test]
    fn a_relay_that_takes_nothing_is_no_good_news() {
        let closing = Refusal::Draining.to_string();
        let report = with(|_, d| {
            d.relays = vec![relay(&closing)];
            d.undelivered = vec![waiting(1, 1)];
        });
        assert_eq!(report.verdict, Verdict::Warning);
        let text = "1 message to Bob waits, because the relay tea.example is closing down and \
                    takes nothing new";
        assert!(report.findings.iter().any(|f| f.text == text), "{report:#?}");

        // It answers something else in between, so that its refusal is forgotten.
        let report = with(|_, d| {
            d.undelivered = vec![Undelivered { oldest: NOW - 20_000, ..waiting(1, 1) }];
            d.waiting = vec![view::Waiting {
                topic: TopicId([1; 32]),
                title: "Bob".into(),
                relay: Some(d.relays[0].relay),
                count: 1,
                since: NOW - 20_000,
                why: query::NOT_TAKEN.into(),
            }];
        });
        assert_eq!(report.verdict, Verdict::Warning);
        for text in [
            "1 message to Bob waits, because the relay tea.example has not taken it yet",
            "the relay tea.example answers, but has not taken 1 entry yet",
        ] {
            assert!(report.findings.iter().any(|f| f.text == text), "{report:#?}");
        }

        let report = with(|f, _| f.running = false);
        let old = "the relay tea.example last answered just now";
        assert!(report.findings.iter().any(|f| f.text == old), "{report:#?}");
    }

    #[test]
    fn alarms_grow_old() {
        let alarm = |age, text: &str| view::Alarm { time: NOW - age, text: text.into() };
        let verdict = |alarms| with(|_, d| d.alarms = alarms).verdict;
        assert_eq!(verdict(vec![alarm(1000, "Beware.")]), Verdict::Warning);
        assert_eq!(verdict(vec![alarm(NEWS, "Beware.")]), Verdict::Fine);
        assert_eq!(verdict(vec![alarm(0, "Bob now uses another device.")]), Verdict::Fine);
        let both = vec![alarm(0, "Bob now uses another device."), alarm(5, "Beware.")];
        assert_eq!(verdict(both), Verdict::Warning);
    }

    #[test]
    fn faults_of_the_machine() {
        assert_eq!(with(|f, _| f.disk_free = Some(0)).verdict, Verdict::Trouble);
        assert_eq!(with(|f, _| f.disk_free = Some(1 << 20)).verdict, Verdict::Warning);
        assert_eq!(with(|f, _| f.readable_by_others = true).verdict, Verdict::Warning);
        assert_eq!(with(|f, _| f.now = 1000).verdict, Verdict::Trouble);
        assert_eq!(with(|f, _| f.broken = Some("damaged".into())).verdict, Verdict::Trouble);
        assert_eq!(with(|_, d| d.identity.revoked = true).verdict, Verdict::Trouble);
        let silent = with(|_, d| d.relays[0].last_answer = Some(NOW + 2 * SKEW));
        assert!(silent.summary.contains("clock"), "{silent:?}");
    }

    #[test]
    fn what_waits_is_counted() {
        let message = |relayed, delivered, recipients| view::Message {
            topic: TopicId([1; 32]),
            id: MessageId { device: DeviceId([1; 32]), seq: 1 },
            author: AccountId([1; 32]),
            author_name: "me".into(),
            mine: true,
            time: 7,
            content: view::Content::Pending,
            reply_to: None,
            mentions: vec![],
            forwarded: false,
            expires: None,
            reactions: vec![],
            delivery: Some(view::Delivery { relayed, relays: 2, delivered, recipients, read: 0 }),
        };
        let chat = view::Chat {
            topic: TopicId([1; 32]),
            kind: view::ChatKind::Direct,
            title: "Bob".into(),
            peer: None,
            state: view::ChatState::Active,
            preview: String::new(),
            time: 0,
            unread: 0,
            draft: String::new(),
            notice: String::new(),
            timer: 0,
            members: 2,
        };
        let all = [message(0, 0, 1), message(1, 0, 1), message(2, 1, 1), message(0, 1, 3)];
        let found = undelivered(&chat, &all).unwrap();
        assert_eq!((found.queued, found.relayed, found.oldest, found.relays), (1, 1, 7, 2));
        assert_eq!(undelivered(&chat, &all[2..3]), None);
    }

    #[test]
    fn the_disk_has_a_size() {
        if let Some(free) = disk_free(Path::new("/nowhere/at/all")) {
            assert!(free > 0);
        }
    }
}
