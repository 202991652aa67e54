//! What a review found in contacts, devices and queries, as people would meet it.

use std::collections::BTreeMap;

use teahouse_core::command::{Chat, Command, Contacts, Devices, Groups, Reply};
use teahouse_core::store::{KeyRange, ReadExt};
use teahouse_core::tables::{DEVICE_ACCOUNT, OPS};
use teahouse_core::{query, view};
use teahouse_protocols::ids::{AccountId, DeviceId, TopicId};
use teahouse_protocols::membership::{AuthorisedCut, MembershipLog};
use teahouse_protocols::sign::Signed;
use teahouse_tests::world::World;

use crate::town::town;

/// Two people, each with a relay of their own; returns the relays and the devices.
fn two_towns(seed: u64) -> (World, [usize; 2], [usize; 2]) {
    let mut w = World::new(seed);
    let relays = [w.add_relay(), w.add_relay()];
    let devices = [w.add_device(), w.add_device()];
    for (i, name) in ["Ann", "Bob"].iter().enumerate() {
        w.create(devices[i], name);
        let link = w.invite(relays[i], None);
        w.use_relay(devices[i], &link);
    }
    w.run(10_000);
    (w, relays, devices)
}

fn topics(w: &World, device: usize) -> Vec<TopicId> {
    query::chats(&w.snapshot(device)).unwrap().iter().map(|c| c.topic).collect()
}

fn asked(w: &mut World, device: usize, card: &str) -> TopicId {
    match w.add(device, card) {
        Ok(Reply::Added { topic: Some(topic), .. }) => topic,
        other => panic!("{other:?}"),
    }
}

/// Ann hears Bob's yes to her request before she gets the request that he had made himself:
/// both must still settle for the same chat, whichever id is smaller, and what somebody
/// writes in the other one is shown.
#[test]
fn a_yes_that_overtakes_a_request_hides_no_chat() {
    let mut smaller = [0; 2];
    for seed in 100..106 {
        let (mut w, relays, [a, b]) = two_towns(seed);
        let (ca, cb) = (w.card(a), w.card(b));
        w.run(10_000);
        w.relays[relays[0]].online = false;
        let theirs = asked(&mut w, b, &ca);
        w.run(5_000);
        let mine = asked(&mut w, a, &cb);
        w.run(60_000);
        let friend = |w: &World| {
            let all = query::contacts(&w.snapshot(a)).unwrap();
            all.iter().any(|c| c.state == teahouse_core::view::ContactState::Friend)
        };
        assert!(friend(&w), "seed {seed}: the yes came");
        w.relays[relays[0]].online = true;
        w.run(900_000);
        let keep = mine.min(theirs);
        smaller[usize::from(keep == mine)] += 1;
        assert_eq!(topics(&w, a), [keep], "seed {seed}");
        assert_eq!(topics(&w, b), [keep], "seed {seed}");
        w.say(a, keep, "here").unwrap();
        w.say(b, keep, "here, too").unwrap();
        w.run(30_000);
        assert_eq!(w.texts(a, keep).len(), 2, "seed {seed}");
        assert_eq!(w.texts(b, keep).len(), 2, "seed {seed}");
        let other = mine.max(theirs);
        w.say(a, other, "there").unwrap();
        w.run(30_000);
        assert_eq!(w.texts(b, other), ["there"], "seed {seed}");
        assert!(topics(&w, a).contains(&other) && topics(&w, b).contains(&other), "seed {seed}");
    }
    assert!(smaller.iter().all(|n| *n > 0), "both cases were met: {smaller:?}");
}

/// A declined stranger can write what they like: nothing of it is shown.
#[test]
fn what_was_declined_stays_hidden() {
    let (mut w, _, [a, b]) = two_towns(7);
    let card = w.card(b);
    w.run(5_000);
    let chat = asked(&mut w, a, &card);
    w.run(30_000);
    let account = w.account(a);
    w.ask(b, Command::Contacts(Contacts::Decline { account })).unwrap();
    w.say(a, chat, "but why?").unwrap();
    w.run(60_000);
    assert!(topics(&w, b).is_empty());
    assert!(query::requests(&w.snapshot(b)).unwrap().is_empty());
    // Asked by whom was declined, the person can still change their mind.
    w.ask(b, Command::Contacts(Contacts::Accept { account })).unwrap();
    w.run(60_000);
    assert_eq!(topics(&w, b), [chat]);
}

fn link(w: &mut World, old: usize, new: usize) {
    let Ok(Reply::Code { link: code }) = w.ask(old, Command::Devices(Devices::LinkStart)) else {
        panic!("a code")
    };
    let join = Devices::LinkJoin { code, device_name: "tablet".into() };
    w.ask(new, Command::Devices(join)).unwrap();
    w.run(2_000);
    w.ask(old, Command::Devices(Devices::LinkConfirm)).unwrap();
    w.run(20_000);
}

/// The cuts of a topic, as a device has them.
fn cuts(w: &World, device: usize, topic: TopicId) -> BTreeMap<DeviceId, Vec<AuthorisedCut>> {
    let s = w.snapshot(device);
    let rows = s.scan(&OPS, &KeyRange::prefix(&topic.0), false, 4_096).unwrap();
    let records = rows.iter().map(|(_, b)| Signed::from_bytes(b).unwrap());
    let log = MembershipLog::from_records(topic, records).unwrap();
    let eval = log.evaluate(&|account, device| {
        s.get_typed::<AccountId>(&DEVICE_ACCOUNT, &device.0).unwrap() == Some(*account)
    });
    eval.membership().cuts.clone()
}

/// A revoked device is cut off everywhere: where it wrote, where it never did, and in what
/// begins later. A yes of one device is known to the other.
#[test]
fn a_revoked_device_is_cut_off_everywhere() {
    let mut w = World::new(8);
    let relay = w.add_relay();
    let d: Vec<usize> = (0..4).map(|_| w.add_device()).collect();
    let (a, b, c, tablet) = (d[0], d[1], d[2], d[3]);
    let invite = w.invite(relay, None);
    for (device, name) in [(a, "Ann"), (b, "Bob"), (c, "Cy")] {
        w.create(device, name);
        w.use_relay(device, &invite);
    }
    let wrote = w.befriend(a, b);
    w.run(5_000);
    link(&mut w, a, tablet);
    // Asked after the tablet came, answered on the other device.
    let silent = w.befriend(c, a);
    w.run(20_000);
    assert!(topics(&w, tablet).contains(&silent));
    assert!(query::requests(&w.snapshot(tablet)).unwrap().is_empty());
    w.say(tablet, wrote, "mine").unwrap();
    w.run(5_000);
    let gone = w.devices[tablet].id;
    w.ask(a, Command::Devices(Devices::Revoke { device: gone })).unwrap();
    w.run(20_000);
    for (device, topic, kept) in [(b, wrote, 1), (c, silent, 0)] {
        for holder in [a, device] {
            let cuts = cuts(&w, holder, topic);
            let list = cuts.get(&gone).expect("a cut");
            assert_eq!(list.iter().map(|c| c.cut.seq).max(), Some(kept));
        }
    }
    assert_eq!(w.texts(b, wrote), ["mine"]);
    let bob = w.account(b);
    let later = w.group(a, "later", vec![bob]);
    w.run(25 * 60_000);
    for holder in [a, b] {
        assert!(cuts(&w, holder, later).contains_key(&gone), "device {holder}");
    }
}

/// Why something waits is said once of a chat that was not accepted, and never of a blocked
/// contact's.
#[test]
fn waiting_is_explained_once() {
    let (mut w, _, [a, b]) = two_towns(9);
    let card = w.card(b);
    w.run(5_000);
    let chat = asked(&mut w, a, &card);
    w.say(a, chat, "hello?").unwrap();
    w.run(60_000);
    let waiting = query::waiting(&w.snapshot(a)).unwrap();
    assert_eq!(waiting.len(), 1, "{waiting:#?}");
    assert_eq!((waiting[0].topic, waiting[0].relay), (chat, None));
    assert!(waiting[0].why.contains("not accepted"));
    let account = w.account(b);
    w.ask(a, Command::Contacts(Contacts::Block { account })).unwrap();
    assert!(query::waiting(&w.snapshot(a)).unwrap().is_empty());
}

/// Unread messages are counted up to a hundred, one's own not at all.
#[test]
fn unread_ends_at_a_hundred() {
    let (mut w, _, [a, b]) = two_towns(10);
    let chat = w.befriend(a, b);
    w.run(10_000);
    let unread = |w: &World, d: usize| query::chat(&w.snapshot(d), chat).unwrap().unwrap().unread;
    for i in 0..60 {
        w.say(a, chat, &format!("{i}")).unwrap();
    }
    w.run(10_000);
    for i in 0..150 {
        w.say(b, chat, &format!("{i}")).unwrap();
    }
    w.run(10_000);
    assert_eq!((unread(&w, a), unread(&w, b)), (100, 60));
    w.ask(a, Command::Chat(Chat::MarkRead { topic: chat })).unwrap();
    assert_eq!(unread(&w, a), 0);
}

/// Next door, a contact request needs no relay.
#[test]
fn a_request_reaches_whom_it_meets_without_any_relay() {
    let mut w = World::new(31);
    let (a, b) = (w.add_device(), w.add_device());
    w.create(a, "Ann");
    w.create(b, "Bob");
    let chat = w.befriend(a, b);
    w.run(5_000);
    let m = w.say(a, chat, "no relay at all").unwrap();
    w.run(1_000);
    assert_eq!(w.texts(b, chat), ["no relay at all"]);
    assert_eq!(w.delivery(a, chat, m).words(), "delivered");
}

/// Whoever proposed a direct chat is no admin over the other.
#[test]
fn nobody_takes_back_what_the_other_wrote_in_a_direct_chat() {
    let (mut w, _, d) = town(32, &["Ann", "Bob"]);
    let chat = w.befriend(d[0], d[1]);
    w.run(5_000);
    let m = w.say(d[1], chat, "mine").unwrap();
    w.run(2_000);
    let recall = |message| Command::Chat(Chat::Recall { topic: chat, message });
    for device in [d[0], d[1]] {
        let result = w.ask(device, recall(m));
        assert_eq!(result.is_ok(), device == d[1], "{result:?}");
        w.run(2_000);
        let shown = query::message(&w.snapshot(d[1]), chat, m).unwrap().unwrap().content;
        let expected = if device == d[0] {
            view::Content::Text("mine".into())
        } else {
            view::Content::Recalled
        };
        assert_eq!(shown, expected);
    }
}

/// What was delivered stays delivered when who has it leaves and somebody else comes.
#[test]
fn delivered_stays_delivered_when_the_reader_leaves() {
    let (mut w, _, d) = town(33, &["Ann", "Bob", "Cy"]);
    w.befriend(d[0], d[1]);
    w.befriend(d[0], d[2]);
    w.run(5_000);
    let (bob, cy) = (w.account(d[1]), w.account(d[2]));
    let group = w.group(d[0], "trio", vec![cy]);
    w.run(5_000);
    let m = w.say(d[0], group, "without Bob").unwrap();
    w.run(2_000);
    assert_eq!(w.delivery(d[0], group, m).words(), "delivered");
    w.ask(d[0], Command::Groups(Groups::Invite { topic: group, account: bob })).unwrap();
    w.run(5_000);
    w.ask(d[2], Command::Groups(Groups::Leave { topic: group })).unwrap();
    w.run(5_000);
    assert_eq!(w.delivery(d[0], group, m).words(), "delivered");
}
