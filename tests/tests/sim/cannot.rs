//! What SECURITY.md says that somebody cannot do, played where no smaller test shows it.

use std::collections::BTreeSet;

use teahouse_core::command::{Command, Contacts, Devices, Reply};
use teahouse_core::query;
use teahouse_protocols::ids::TopicId;
use teahouse_tests::world::World;

use crate::town::{link, town};

fn chats(w: &World, device: usize) -> BTreeSet<TopicId> {
    query::chats(&w.snapshot(device)).unwrap().iter().map(|c| c.topic).collect()
}

fn asking(w: &World, device: usize) -> usize {
    query::requests(&w.snapshot(device)).unwrap().len()
}

fn revoke(w: &mut World, by: usize, device: usize) {
    let device = w.devices[device].id;
    w.ask(by, Command::Devices(Devices::Revoke { device })).unwrap();
}

/// A revocation makes new card keys: who asks with a card from after it is not read by the
/// device that is out.
#[test]
fn a_request_after_a_revocation_is_not_for_the_revoked_device() {
    let (mut w, _, d) = town(61, &["Ann", "Bob"]);
    let (a, b) = (d[0], d[1]);
    let tablet = link(&mut w, a);
    assert_eq!(query::devices(&w.snapshot(a)).unwrap().len(), 2);
    w.set_online(tablet, false);
    w.run(5_000);
    revoke(&mut w, a, tablet);
    w.run(60_000);
    let card = w.card(a);
    w.run(5_000);
    w.add(b, &card).unwrap();
    w.run(60_000);
    w.set_online(tablet, true);
    w.run(30 * 60_000);
    assert_eq!((asking(&w, a), asking(&w, tablet)), (1, 0));
}

/// Whoever is blocked may ask with card after card: no request comes of it.
#[test]
fn a_blocked_stranger_asks_in_vain() {
    let (mut w, _, d) = town(62, &["Ann", "Bob"]);
    let (a, b) = (d[0], d[1]);
    let card = w.card(a);
    w.run(5_000);
    w.add(b, &card).unwrap();
    w.run(60_000);
    assert_eq!(asking(&w, a), 1);
    let bob = w.account(b);
    w.ask(a, Command::Contacts(Contacts::Block { account: bob })).unwrap();
    assert_eq!(asking(&w, a), 0);
    for _ in 0..3 {
        let card = w.card(a);
        w.run(5_000);
        w.add(b, &card).unwrap();
        w.run(10 * 60_000);
        assert_eq!(asking(&w, a), 0);
        assert!(chats(&w, a).is_empty());
    }
}

/// A revoked card is no invitation any more: who comes with it waits in the list like
/// everybody, and is not let into the group that the card promised.
#[test]
fn a_revoked_card_opens_no_group() {
    let (mut w, _, d) = town(63, &["Ann", "Bob", "Cy"]);
    let (a, b, c) = (d[0], d[1], d[2]);
    let group = w.group(a, "Walk", Vec::new());
    let card = Contacts::Card { uses: 5, welcome_to: Some(group) };
    let Ok(Reply::Card { link }) = w.ask(a, Command::Contacts(card)) else { panic!("a card") };
    w.run(5_000);
    w.add(b, &link).unwrap();
    w.run(60_000);
    assert!(chats(&w, b).contains(&group), "while it held");
    w.ask(a, Command::Contacts(Contacts::RevokeCard { link: link.clone() })).unwrap();
    w.run(5_000);
    w.add(c, &link).unwrap();
    w.run(30 * 60_000);
    assert!(!chats(&w, c).contains(&group));
    assert!(query::members(&w.snapshot(a), group).unwrap().len() == 2);
}

/// What a revoked device seals to an inbox before it hears that it is out is refused by who
/// knows better: its invitations, and what it writes.
#[test]
fn what_a_revoked_device_sends_is_refused() {
    let (mut w, _, d) = town(64, &["Ann", "Bob"]);
    let (a, b) = (d[0], d[1]);
    let direct = w.befriend(a, b);
    w.run(10_000);
    let tablet = link(&mut w, a);
    w.say(tablet, direct, "still in").unwrap();
    w.run(10_000);
    w.set_online(tablet, false);
    w.run(5_000);
    revoke(&mut w, a, tablet);
    w.run(60_000);
    let before = chats(&w, b);
    let bob = w.account(b);
    let group = w.group(tablet, "a trap", vec![bob]);
    w.say(tablet, group, "come in").unwrap();
    w.say(tablet, direct, "it is still me").unwrap();
    w.set_online(tablet, true);
    w.run(30 * 60_000);
    assert_eq!(chats(&w, b), before);
    for device in [a, b] {
        assert_eq!(w.texts(device, direct), ["still in"], "device {device}");
    }
}
