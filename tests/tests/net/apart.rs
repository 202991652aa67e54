//! Two people who are never online at the same time.

use std::time::{Duration, Instant};

use teahouse_core::view;

use crate::process::{Home, Node, active_chat, deposited, invite, text, texts, until, use_relay};

/// The state of the newest message of one's own, in words.
fn state(node: &Node, chat: &str) -> String {
    let all: Vec<view::Message> = node.read(&["read", chat, "--peek"]);
    let mine = all.iter().rfind(|m| m.mine).expect("a message of one's own");
    mine.delivery.expect("it is one's own").words()
}

fn becomes(node: &Node, chat: &str, words: &str) {
    until(&format!("the newest message to {chat} is {words}"), || {
        (state(node, chat) == words).then_some(())
    });
}

/// Waits until the running device has told the relay all that it wants to: what arrived is
/// acknowledged a little later, for many messages at once, and nothing shows when that is
/// done but that the relay is left in peace.
fn says_no_more(relay: &Node) {
    const PEACE: Duration = Duration::from_secs(4);
    let mut last = (Instant::now(), 0);
    until("the relay is left in peace", || {
        let status = relay.json(&["relay", "status"]);
        let deposits = status["relay"]["mailbox"]["deposits"].as_u64()?;
        if deposits != last.1 {
            last = (Instant::now(), deposits);
        }
        (last.0.elapsed() > PEACE).then_some(())
    });
}

/// Runs `one` for as long as `work` takes, alone.
fn alone<T>(one: &mut Node, other: &Node, work: impl FnOnce(&Node) -> T) -> T {
    assert!(!other.is_up(), "never online together");
    one.up();
    let done = work(one);
    one.stop();
    done
}

/// First contact and messages both ways, all carried by the relay; each state is shown when
/// its proof exists and no earlier.
#[test]
fn never_online_together() {
    let home = Home::new();
    let mut relay = Node::relay(&home, "relay");
    let mut ann = Node::device(&home, "ann").with_account("Ann");
    let mut bob = Node::device(&home, "bob").with_account("Bob");
    relay.up();
    let link = invite(&relay);

    let card = alone(&mut bob, &ann, |bob| {
        use_relay(bob, &link);
        let card = text(&bob.json(&["card"]), "/link");
        deposited(bob);
        card
    });
    alone(&mut ann, &bob, |ann| {
        use_relay(ann, &link);
        ann.json(&["add", &card, "--greeting", "Ann from the boat"]);
        let chats: Vec<view::Chat> = ann.read(&["chats"]);
        assert_eq!(chats[0].state, view::ChatState::Requested);
        deposited(ann);
    });
    alone(&mut bob, &ann, |bob| {
        let requests = until("the request was kept", || {
            let all: Vec<view::Contact> = bob.read(&["requests"]);
            (!all.is_empty()).then_some(all)
        });
        assert_eq!((&*requests[0].name, &*requests[0].greeting), ("Ann", "Ann from the boat"));
        bob.json(&["requests", "accept", "Ann"]);
        deposited(bob);
    });

    // Ann learns of it, and writes while the relay is away.
    alone(&mut ann, &bob, |ann| {
        active_chat(ann, "Bob");
        relay.stop();
        ann.json(&["send", "Bob", "are you there?"]);
        assert_eq!(state(ann, "Bob"), "queued");
    });
    // Without a node the folder itself is opened, and claims no more.
    ann.json(&["send", "Bob", "你在吗？"]);
    assert_eq!(state(&ann, "Bob"), "queued");

    relay.up();
    alone(&mut ann, &bob, |ann| becomes(ann, "Bob", "relayed 1 of 1"));
    assert_eq!(state(&ann, "Bob"), "relayed 1 of 1");

    // The relay forgets nothing when it is restarted.
    relay.stop();
    relay.up();
    alone(&mut bob, &ann, |bob| {
        until("both messages arrive", || {
            (texts(bob, "Ann") == ["are you there?", "你在吗？"]).then_some(())
        });
        bob.json(&["send", "Ann", "now I am"]);
        becomes(bob, "Ann", "relayed 1 of 1");
        says_no_more(&relay);
    });
    // Bob has them, but nothing has told Ann so yet.
    assert_eq!(state(&ann, "Bob"), "relayed 1 of 1");

    alone(&mut ann, &bob, |ann| {
        becomes(ann, "Bob", "delivered");
        until("the answer arrives", || {
            (texts(ann, "Bob") == ["are you there?", "你在吗？", "now I am"]).then_some(())
        });
        let all: Vec<view::Message> = ann.read(&["read", "Bob", "--peek"]);
        for m in all.iter().filter(|m| m.mine) {
            assert_eq!(m.delivery.map(|d| d.words()).as_deref(), Some("delivered"), "{m:?}");
        }
        says_no_more(&relay);
    });
    assert_eq!(state(&bob, "Ann"), "relayed 1 of 1");
    alone(&mut bob, &ann, |bob| becomes(bob, "Ann", "delivered"));
}
