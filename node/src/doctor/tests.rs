//! Verdicts on facts that are made up.

use std::path::Path;

use teahouse_core::command::MessageId;
use teahouse_core::{query, view};
use teahouse_protocols::ids::{AccountId, DeviceId, Millis, RelayId, TopicId};
use teahouse_protocols::mailbox::Refusal;

use super::checks::{BUILT, NEWS, ON_ITS_WAY, SKEW};
use super::facts::disk_free;
use super::{DeviceFacts, Facts, Report, Undelivered, Verdict, undelivered};
use crate::config::Role;
use crate::handle::{Health, NodeStatus};

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
        name: String::new(),
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
        report.findings.iter().any(|f| f.text == "1 message to Bob waits, because no node runs")
    );

    let report = with(|_, d| {
        d.undelivered = vec![Undelivered { state: view::ChatState::Requested, ..waiting(1, 1) }];
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
            request: false,
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
        photos: Vec::new(),
        content: view::Content::Pending,
        reply_to: None,
        mentions: vec![],
        forwarded: false,
        expires: None,
        reactions: vec![],
        delivery: Some(view::Delivery {
            relayed,
            relays: 2,
            delivered,
            recipients,
            read: 0,
            without_relay: 0,
            elsewhere: false,
        }),
    };
    let chat = view::Chat {
        topic: TopicId([1; 32]),
        kind: view::ChatKind::Direct,
        title: "Bob".into(),
        peer: None,
        state: view::ChatState::Active,
        preview: String::new(),
        preview_by: String::new(),
        delivery: None,
        time: 0,
        hidden: false,
        unread: 0,
        draft: String::new(),
        notice: String::new(),
        timer: 0,
        members: 2,
    };
    let all = [message(0, 0, 1), message(1, 0, 1), message(2, 1, 1), message(0, 1, 3)];
    let found = undelivered(&chat, &all).unwrap();
    assert_eq!((found.queued, found.relayed, found.oldest, found.relays), (2, 1, 7, 2));
    assert_eq!(undelivered(&chat, &all[2..3]), None);
}

#[test]
fn the_disk_has_a_size() {
    if let Some(free) = disk_free(Path::new("/nowhere/at/all")) {
        assert!(free > 0);
    }
}
