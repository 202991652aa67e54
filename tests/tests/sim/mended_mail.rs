//! What once went wrong between a device and its relays: claims that nobody proved, mailboxes
//! that were never read, and requests made at the speed of the network.

use teahouse_core::command::{Command, Devices, Groups, Reply};
use teahouse_protocols::ids::TopicId;
use teahouse_tests::world::World;

use crate::town::town;

fn closed_group(w: &mut World, device: usize, members: Vec<usize>) -> TopicId {
    let members = members.into_iter().map(|d| w.account(d)).collect();
    let command =
        Command::Groups(Groups::Create { title: "tea".into(), members, share_history: false });
    match w.ask(device, command) {
        Ok(Reply::Topic { topic }) => topic,
        other => panic!("group: {other:?}"),
    }
}

/// What went from device to device is at no relay, and none is said to have it.
#[test]
fn a_relay_is_credited_only_with_what_it_has() {
    let (mut w, _, d) = town(11, &["Ann", "Bob"]);
    let chat = w.befriend(d[0], d[1]);
    w.run(60_000);
    // Something was deposited before, so that depositing has begun.
    w.set_online(d[1], false);
    let left = w.say(d[0], chat, "for later").unwrap();
    w.run(10_000);
    assert_eq!(w.delivery(d[0], chat, left).relayed, 1);
    w.set_online(d[1], true);
    w.run(60_000);
    let live = w.say(d[0], chat, "now").unwrap();
    w.run(60_000);
    let proved = w.delivery(d[0], chat, live);
    assert_eq!((proved.delivered, proved.relayed), (1, 0), "{proved:?}");
    let proved = w.delivery(d[0], chat, left);
    assert_eq!((proved.delivered, proved.relayed), (1, 1), "{proved:?}");
}

/// A device knows of its own deposits only.
#[test]
fn no_relay_is_claimed_for_the_other_device() {
    let (mut w, _, d) = town(12, &["Ann", "Bob"]);
    let chat = w.befriend(d[0], d[1]);
    let tablet = w.add_device();
    w.run(5_000);
    let Ok(Reply::Code { link: code }) = w.ask(d[0], Command::Devices(Devices::LinkStart)) else {
        panic!("a code")
    };
    let join = Devices::LinkJoin { code, device_name: "tablet".into() };
    w.ask(tablet, Command::Devices(join)).unwrap();
    w.run(2_000);
    w.ask(d[0], Command::Devices(Devices::LinkConfirm)).unwrap();
    w.run(30_000);
    w.set_online(d[1], false);
    w.say(d[0], chat, "from the phone").unwrap();
    w.run(10_000);
    let m = w.say(tablet, chat, "from the tablet").unwrap();
    w.run(20_000);
    assert_eq!(w.delivery(tablet, chat, m).relayed, 1);
    let proved = w.delivery(d[0], chat, m);
    assert_eq!((proved.relays, proved.relayed), (0, 0), "{proved:?}");
}

/// Whoever joins without the history acknowledges nothing of what was before.
#[test]
fn a_joiner_was_not_there_before() {
    let (mut w, _, d) = town(13, &["Ann", "Bob", "Cy"]);
    w.befriend(d[0], d[1]);
    w.befriend(d[0], d[2]);
    w.run(5_000);
    let group = closed_group(&mut w, d[0], vec![d[1]]);
    w.run(10_000);
    w.set_online(d[1], false);
    let before = w.say(d[0], group, "before").unwrap();
    w.run(10_000);
    let cy = w.account(d[2]);
    w.ask(d[0], Command::Groups(Groups::Invite { topic: group, account: cy })).unwrap();
    w.run(30_000);
    let after = w.say(d[0], group, "after").unwrap();
    w.run(30_000);
    assert_eq!(w.texts(d[2], group), ["after"]);
    let proved = w.delivery(d[0], group, before);
    assert_eq!((proved.delivered, proved.recipients), (0, 1), "{proved:?}");
    let proved = w.delivery(d[0], group, after);
    assert_eq!((proved.delivered, proved.recipients), (1, 2), "{proved:?}");
}

/// However many tags are read, each has its turn.
#[test]
fn every_mailbox_is_read() {
    let (mut w, _, d) = town(14, &["Ann", "Bob"]);
    w.cut.insert((d[0], d[1]));
    let chat = w.befriend(d[0], d[1]);
    for n in 0..150 {
        w.group(d[1], &format!("group {n}"), vec![]);
    }
    w.run(30_000);
    let bob = w.account(d[1]);
    let groups: Vec<TopicId> =
        (0..8).map(|n| w.group(d[0], &format!("tea {n}"), vec![bob])).collect();
    w.run(120_000);
    w.set_online(d[1], false);
    for topic in groups.iter().chain([&chat]) {
        w.say(d[0], *topic, "are you there?").unwrap();
    }
    w.run(30_000);
    w.set_online(d[0], false);
    w.set_online(d[1], true);
    w.run(180_000);
    for (n, topic) in groups.iter().chain([&chat]).enumerate() {
        assert_eq!(w.texts(d[1], *topic), ["are you there?"], "chat {n}");
    }
}

/// A relay that answers fetches at once with nothing is not asked at the speed of the network.
#[test]
fn a_relay_that_withholds_is_asked_seldom() {
    let (mut w, relay, d) = town(15, &["Ann", "Bob"]);
    w.cut.insert((d[0], d[1]));
    let chat = w.befriend(d[0], d[1]);
    w.run(60_000);
    w.set_online(d[1], false);
    w.say(d[0], chat, "are you there?").unwrap();
    w.run(20_000);
    w.watch = true;
    w.relays[relay].manners.withhold = 1_000;
    w.set_online(d[1], true);
    w.run(120_000);
    let asked = w.counts.get("relay_withheld").copied().unwrap_or(0);
    assert!((1..40).contains(&asked), "asked {asked} times");
    w.relays[relay].manners.withhold = 0;
    w.run(300_000);
    assert_eq!(w.texts(d[1], chat), ["are you there?"]);
}

/// An acknowledgement reaches each author at the relay where that author fetches.
#[test]
fn authors_of_different_relays_all_hear_of_it() {
    let mut w = World::new(16);
    let (one, two) = (w.add_relay(), w.add_relay());
    let (one, two) = (w.invite(one, None), w.invite(two, None));
    let d: Vec<usize> = (0..3).map(|_| w.add_device()).collect();
    for (device, name) in d.iter().zip(["Ann", "Bob", "Cy"]) {
        w.create(*device, name);
    }
    w.use_relay(d[0], &one);
    w.use_relay(d[1], &one);
    w.use_relay(d[1], &two);
    w.use_relay(d[2], &two);
    w.run(5_000);
    w.befriend(d[1], d[0]);
    w.befriend(d[1], d[2]);
    w.run(10_000);
    let members = vec![w.account(d[0]), w.account(d[2])];
    let group = w.group(d[1], "tea", members);
    w.run(60_000);
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        w.cut.insert((d[a], d[b]));
    }
    w.reconnect();
    w.set_online(d[1], false);
    let ann = w.say(d[0], group, "from Ann").unwrap();
    let cy = w.say(d[2], group, "from Cy").unwrap();
    w.run(60_000);
    w.set_online(d[0], false);
    w.set_online(d[2], false);
    w.set_online(d[1], true);
    w.run(60_000);
    assert_eq!(w.texts(d[1], group).len(), 2);
    w.set_online(d[1], false);
    let before = (w.delivery(d[0], group, ann).delivered, w.delivery(d[2], group, cy).delivered);
    w.set_online(d[0], true);
    w.set_online(d[2], true);
    w.run(120_000);
    let after = (w.delivery(d[0], group, ann).delivered, w.delivery(d[2], group, cy).delivered);
    assert!(before.0 < after.0 && before.1 < after.1, "{before:?} {after:?}");
}
