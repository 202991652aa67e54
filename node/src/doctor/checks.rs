//! The judgement: what is looked at, and from where on it is worth a word.

use teahouse_core::{query, view};
use teahouse_protocols::ids::{Millis, RelayId};

use super::words::{CLOSING, alarms, count, is_closing, relay_name, says, short, them, verb};
use super::{DeviceFacts, Facts, Findings, Report, Undelivered, Verdict};
use crate::handle::Health;
use crate::roles::relay::RelayView;

/// Below this many free bytes the disk counts as nearly full.
const LOW_DISK: u64 = 256 << 20;

/// A message that waits for less time is on its way. Less than `send --wait` waits unless told
/// otherwise: whoever is sent here by it is to find something.
pub(super) const ON_ITS_WAY: Millis = 15_000;

/// An alarm is news for so long; later it is history.
pub(super) const NEWS: Millis = 24 * 60 * 60_000;

/// How the alarm ends that says no more than that a contact has one device more.
const ANOTHER_DEVICE: &str = " now uses another device.";

/// A relay that has not answered for longer is a reason to look.
const SILENT: Millis = 15 * 60_000;

/// Clocks may differ by so much without a word.
pub(super) const SKEW: Millis = 10 * 60_000;

/// No honest clock shows an earlier time: 2026-01-01.
pub(super) const BUILT: Millis = 1_767_225_600_000;

impl Facts {
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
        for request in d.waiting.iter().filter(|w| w.request) {
            out.warn(format!("{}: {}", request.title, request.why));
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
        } else if let Some(x) =
            d.waiting.iter().find(|x| x.title == *chat && x.relay.is_none() && !x.request)
        {
            out.warn(format!("{what}: {}", x.why));
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
