//! What once went wrong with acknowledgements and with what a device lacks: words that never
//! came, and things nobody asked for.

use teahouse_core::Input;
use teahouse_core::command::{Chat, Command, Devices, Groups, MessageId, Reply};
use teahouse_core::store::Read;
use teahouse_core::tables::{LOG, LogRow};
use teahouse_protocols::codec;
use teahouse_protocols::ids::TopicId;
use teahouse_protocols::inbox::Letter;
use teahouse_protocols::sync::Frame;
use teahouse_tests::world::World;

use crate::town::town;

/// Nobody is connected to anybody any longer.
fn apart(w: &mut World) {
    let n = w.devices.len();
    w.cut = (0..n).flat_map(|a| (a + 1..n).map(move |b| (a, b))).collect();
    w.reconnect();
    w.run(5_000);
}

/// Writes a message of which only the envelope arrives, after one that arrives whole.
fn say_without_body(w: &mut World, from: usize, to: usize, topic: TopicId) -> MessageId {
    w.say(from, topic, "first").unwrap();
    w.run(5_000);
    w.faults.lose = 1_000;
    let id = w.say(from, topic, "here it is").unwrap();
    w.run(5_000);
    w.faults.lose = 0;
    let key = [&topic.0[..], &id.device.0, &id.seq.to_be_bytes()].concat();
    let row = w.snapshot(from).get(&LOG, &key).unwrap().unwrap();
    let envelope = LogRow::from_bytes(&row).unwrap().envelope;
    let letter = Letter { envelope: envelope.try_into().unwrap(), bodies: codec::List::default() };
    let frame = Frame::Push(topic, vec![letter].try_into().unwrap());
    assert!(w.forge(from, to, codec::encode(&frame)));
    w.run(5_000);
    id
}

/// The network says late that a queue has room again: its device is not there for that.
#[test]
fn a_drained_queue_connects_nobody() {
    let (mut w, _, d) = town(41, &["Ann", "Bob"]);
    let chat = w.befriend(d[0], d[1]);
    w.run(60_000);
    apart(&mut w);
    let ann = w.devices[d[0]].id;
    w.input(d[1], Input::PeerDrained { device: ann });
    w.run(5_000);
    let id = w.say(d[0], chat, "by mail").unwrap();
    w.run(120_000);
    assert_eq!(w.texts(d[1], chat), ["by mail"]);
    assert_eq!(w.delivery(d[0], chat, id).delivered, 1);
}

/// What was acknowledged before its author left comes to those who stay.
#[test]
fn what_was_written_before_leaving_arrives() {
    let (mut w, relay, d) = town(42, &["Ann", "Bob", "Cy"]);
    w.befriend(d[0], d[1]);
    w.befriend(d[0], d[2]);
    w.run(10_000);
    let members = vec![w.account(d[1]), w.account(d[2])];
    let group = w.group(d[0], "tea", members);
    w.run(60_000);
    apart(&mut w);
    w.relays[relay].online = false;
    w.say(d[1], group, "farewell").unwrap();
    w.ask(d[1], Command::Groups(Groups::Leave { topic: group })).unwrap();
    w.run(10_000);
    w.relays[relay].online = true;
    w.run(300_000);
    assert_eq!(w.texts(d[0], group), ["farewell"]);
    assert_eq!(w.texts(d[2], group), ["farewell"]);
}

/// Two devices with equal chains, one of which lacks a text, are not done.
#[test]
fn a_missing_text_is_asked_for() {
    let (mut w, relay, d) = town(43, &["Ann", "Bob"]);
    let chat = w.befriend(d[0], d[1]);
    w.run(60_000);
    w.relays[relay].online = false;
    let id = say_without_body(&mut w, d[0], d[1], chat);
    assert_eq!(w.texts(d[1], chat), ["first", "Pending"]);
    assert_eq!(w.delivery(d[0], chat, id).delivered, 0);
    w.flap(d[1]);
    w.run(10_000);
    assert_eq!(w.texts(d[1], chat), ["first", "here it is"]);
    assert_eq!(w.delivery(d[0], chat, id).delivered, 1);
}

/// A text whose time was up before it came is not waited for.
#[test]
fn what_has_disappeared_holds_nothing_up() {
    let (mut w, relay, d) = town(44, &["Ann", "Bob"]);
    let chat = w.befriend(d[0], d[1]);
    w.run(60_000);
    w.ask(d[0], Command::Chat(Chat::Timer { topic: chat, seconds: 60 })).unwrap();
    w.run(5_000);
    w.relays[relay].online = false;
    let id = say_without_body(&mut w, d[0], d[1], chat);
    assert_eq!(w.delivery(d[0], chat, id).delivered, 0);
    w.run(120_000);
    assert_eq!(w.delivery(d[0], chat, id).delivered, 1);
}

/// Whoever comes back without the history still has what its other device kept.
#[test]
fn own_devices_share_what_was_before() {
    let (mut w, _, d) = town(45, &["Ann", "Bob"]);
    w.befriend(d[0], d[1]);
    w.run(10_000);
    let bob = w.account(d[1]);
    let create = Groups::Create { title: "tea".into(), members: vec![bob], share_history: false };
    let Ok(Reply::Topic { topic: group }) = w.ask(d[0], Command::Groups(create)) else {
        panic!("a group")
    };
    w.run(30_000);
    w.say(d[0], group, "from Ann").unwrap();
    w.say(d[1], group, "from Bob").unwrap();
    w.run(30_000);
    w.ask(d[1], Command::Groups(Groups::Leave { topic: group })).unwrap();
    w.run(30_000);
    let tablet = w.add_device();
    let Ok(Reply::Code { link: code }) = w.ask(d[1], Command::Devices(Devices::LinkStart)) else {
        panic!("a code")
    };
    let join = Devices::LinkJoin { code, device_name: "tablet".into() };
    w.ask(tablet, Command::Devices(join)).unwrap();
    w.run(2_000);
    w.ask(d[1], Command::Devices(Devices::LinkConfirm)).unwrap();
    w.run(30_000);
    w.ask(d[0], Command::Groups(Groups::Invite { topic: group, account: bob })).unwrap();
    w.run(60_000);
    w.flap(tablet);
    w.run(60_000);
    assert_eq!(w.texts(d[1], group).len(), 2);
    assert_eq!(w.texts(tablet, group), w.texts(d[1], group));
}
