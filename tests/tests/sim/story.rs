//! Plain stories on a well-behaved network, and with one fault at a time.

use teahouse_core::command::{Command, Contacts, Devices, Groups, Reply};
use teahouse_core::{query, view};
use teahouse_tests::world::World;

/// Two people who are online talk.
#[test]
fn two_people_talk_live() {
    let mut w = World::new(1);
    let (relay, a, b) = (w.add_relay(), w.add_device(), w.add_device());
    w.create(a, "Ann");
    w.create(b, "Bob");
    let link = w.invite(relay, None);
    w.use_relay(a, &link);
    w.use_relay(b, &link);
    let chat = w.befriend(a, b);
    w.run(5_000);
    let m = w.say(a, chat, "good morning").unwrap();
    w.run(1_000);
    assert_eq!(w.texts(b, chat), ["good morning"]);
    let d = w.delivery(a, chat, m);
    assert_eq!(d.words(), "delivered");
    w.say(b, chat, "早上好").unwrap();
    w.run(1_000);
    assert_eq!(w.texts(a, chat), ["good morning", "早上好"]);
}

/// Sender and receiver are never online together: the relay carries everything.
#[test]
fn the_relay_carries_what_nobody_is_there_for() {
    let mut w = World::new(2);
    let (relay, a, b) = (w.add_relay(), w.add_device(), w.add_device());
    w.create(a, "Ann");
    w.create(b, "Bob");
    let link = w.invite(relay, None);
    w.use_relay(a, &link);
    w.use_relay(b, &link);
    w.run(5_000);
    w.cut.insert((a, b));
    let chat = w.befriend(a, b);
    w.run(20_000);
    w.set_online(b, false);
    let m = w.say(a, chat, "are you there?").unwrap();
    assert_eq!(w.delivery(a, chat, m).words(), "queued");
    w.run(10_000);
    assert_eq!(w.delivery(a, chat, m).words(), "relayed 1 of 1");
    w.set_online(a, false);
    w.set_online(b, true);
    w.run(60_000);
    assert_eq!(w.texts(b, chat), ["are you there?"]);
    w.say(b, chat, "now I am").unwrap();
    w.run(60_000);
    w.set_online(b, false);
    w.set_online(a, true);
    w.run(60_000);
    assert_eq!(w.texts(a, chat), ["are you there?", "now I am"]);
    assert_eq!(w.delivery(a, chat, m).words(), "delivered");
}

/// A group with a removal: who is removed opens nothing later.
#[test]
fn a_removed_member_reads_nothing_more() {
    let mut w = World::new(3);
    let relay = w.add_relay();
    let d: Vec<usize> = (0..3).map(|_| w.add_device()).collect();
    let accounts: Vec<_> =
        d.iter().zip(["Ann", "Bob", "Cy"]).map(|(d, n)| w.create(*d, n)).collect();
    let link = w.invite(relay, None);
    for i in &d {
        w.use_relay(*i, &link);
    }
    w.befriend(d[0], d[1]);
    w.befriend(d[0], d[2]);
    w.run(5_000);
    let group = w.group(d[0], "tea", vec![accounts[1], accounts[2]]);
    w.run(5_000);
    w.say(d[1], group, "hello all").unwrap();
    w.run(5_000);
    for i in &d {
        assert_eq!(w.texts(*i, group), ["hello all"], "device {i}");
        let chats = query::chats(&w.snapshot(*i)).unwrap();
        assert!(chats.iter().any(|c| c.title == "tea"), "device {i}");
    }
    w.ask(d[0], Command::Groups(Groups::Remove { topic: group, account: accounts[2] })).unwrap();
    w.run(5_000);
    w.say(d[0], group, "just us").unwrap();
    w.run(30_000);
    assert_eq!(w.texts(d[1], group), ["hello all", "just us"]);
    assert_eq!(w.texts(d[2], group), ["hello all"]);
    assert!(w.say(d[2], group, "me too").is_err());
    let left = query::chat(&w.snapshot(d[2]), group).unwrap().unwrap();
    assert_eq!(left.state, view::ChatState::Left);
}

/// A second device gets the history; revoked, it gets nothing more.
#[test]
fn a_second_device_joins_and_is_revoked() {
    let mut w = World::new(4);
    let relay = w.add_relay();
    let (a, b, a2) = (w.add_device(), w.add_device(), w.add_device());
    w.create(a, "Ann");
    w.create(b, "Bob");
    let link = w.invite(relay, None);
    w.use_relay(a, &link);
    w.use_relay(b, &link);
    let chat = w.befriend(a, b);
    w.run(5_000);
    for i in 0..5 {
        w.say(a, chat, &format!("message {i}")).unwrap();
    }
    w.run(5_000);
    let Ok(Reply::Code { link: code }) = w.ask(a, Command::Devices(Devices::LinkStart)) else {
        panic!("a code")
    };
    w.ask(a2, Command::Devices(Devices::LinkJoin { code, device_name: "tablet".into() })).unwrap();
    w.run(2_000);
    let (x, y) =
        (query::linking(&w.snapshot(a)).unwrap(), query::linking(&w.snapshot(a2)).unwrap());
    assert_eq!(x, y);
    assert!(matches!(x, view::Linking::Compare { .. }), "{x:?}");
    w.ask(a, Command::Devices(Devices::LinkConfirm)).unwrap();
    w.run(20_000);
    for d in [a, a2] {
        let devices = query::devices(&w.snapshot(d)).unwrap();
        assert!(devices.iter().any(|d| d.name == "tablet"), "{devices:?}");
    }
    assert_eq!(w.texts(a2, chat).len(), 5);
    w.say(b, chat, "welcome, tablet").unwrap();
    w.run(5_000);
    assert_eq!(w.texts(a2, chat).len(), 6);
    w.say(a2, chat, "from the tablet").unwrap();
    w.run(5_000);
    assert_eq!(w.texts(b, chat).len(), 7);
    assert_eq!(w.texts(a, chat).len(), 7);
    let tablet = w.devices[a2].id;
    w.ask(a, Command::Devices(Devices::Revoke { device: tablet })).unwrap();
    w.run(5_000);
    w.say(b, chat, "not for the tablet").unwrap();
    w.run(30_000);
    assert_eq!(w.texts(a, chat).len(), 8);
    assert_eq!(w.texts(a2, chat).len(), 7);
}

/// A decline is silent, a block too; both asking at once ends in one chat.
#[test]
fn both_ask_at_once() {
    let mut w = World::new(5);
    let relay = w.add_relay();
    let (a, b) = (w.add_device(), w.add_device());
    w.create(a, "Ann");
    w.create(b, "Bob");
    let link = w.invite(relay, None);
    w.use_relay(a, &link);
    w.use_relay(b, &link);
    w.run(10_000);
    w.cut.insert((a, b));
    let (ca, cb) = (w.card(a), w.card(b));
    w.run(10_000);
    w.set_online(a, false);
    w.set_online(b, false);
    w.add(a, &cb).unwrap();
    w.add(b, &ca).unwrap();
    w.set_online(a, true);
    w.set_online(b, true);
    w.run(120_000);
    let chats: Vec<_> = [a, b].iter().map(|d| query::chats(&w.snapshot(*d)).unwrap()).collect();
    assert_eq!(chats[0].len(), 1, "{:#?}", chats[0]);
    assert_eq!(chats[1].len(), 1);
    assert_eq!(chats[0][0].topic, chats[1][0].topic);
    let chat = chats[0][0].topic;
    w.say(a, chat, "we both asked").unwrap();
    w.run(60_000);
    assert_eq!(w.texts(b, chat), ["we both asked"]);
}

/// One link gives a newcomer a relay, a greeter and the community's group.
#[test]
fn a_community_invite_is_enough() {
    let mut w = World::new(6);
    let relay = w.add_relay();
    let (host, new) = (w.add_device(), w.add_device());
    w.create(host, "Host");
    let link = w.invite(relay, None);
    w.use_relay(host, &link);
    w.run(5_000);
    let group = w.group(host, "the town", vec![]);
    let Ok(Reply::Card { link: card }) =
        w.ask(host, Command::Contacts(Contacts::Card { uses: 100, welcome_to: Some(group) }))
    else {
        panic!("a card")
    };
    w.run(5_000);
    let invite = w.invite(relay, Some(&card));
    w.create(new, "Newcomer");
    w.cut.insert((host, new));
    w.add(new, &invite).unwrap();
    w.run(120_000);
    let chats = query::chats(&w.snapshot(new)).unwrap();
    assert!(chats.iter().any(|c| c.topic == group && c.title == "the town"), "{chats:#?}");
    w.say(new, group, "hello, town").unwrap();
    w.run(60_000);
    assert_eq!(w.texts(host, group), ["hello, town"]);
}

/// A crash between commit and send loses nothing.
#[test]
fn what_is_acknowledged_survives_a_crash() {
    let mut w = World::new(7);
    let relay = w.add_relay();
    let (a, b) = (w.add_device(), w.add_device());
    w.create(a, "Ann");
    w.create(b, "Bob");
    let link = w.invite(relay, None);
    w.use_relay(a, &link);
    w.use_relay(b, &link);
    let chat = w.befriend(a, b);
    w.run(5_000);
    for i in 0..20 {
        w.say(a, chat, &format!("m{i}")).unwrap();
        w.crash(a, true);
        w.start(a);
        if i % 3 == 0 {
            w.crash(b, true);
            w.start(b);
        }
    }
    w.run(60_000);
    let want: Vec<String> = (0..20).map(|i| format!("m{i}")).collect();
    assert_eq!(w.texts(a, chat), want);
    assert_eq!(w.texts(b, chat), want);
}
