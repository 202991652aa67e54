//! What once went wrong among one person's devices: one that did not hear that it was out,
//! chats that only one of them was in, and a request that only the asking one knew of.

use std::collections::BTreeSet;

use teahouse_core::command::{Chat, Command, Contacts, Devices, Reply};
use teahouse_core::query;
use teahouse_core::store::{KeyRange, ReadExt};
use teahouse_core::tables::{EPOCHS, Epoch};
use teahouse_core::view::ChatState;
use teahouse_protocols::codec::{self, List};
use teahouse_protocols::cursor::{Ack, Cursor};
use teahouse_protocols::epoch::EpochHead;
use teahouse_protocols::ids::{DeviceId, EnvelopeId, TopicId};
use teahouse_protocols::sign::{Signed, SigningKey};
use teahouse_protocols::sync::Frame;
use teahouse_tests::world::World;

use crate::town::{link, town};

/// Nobody meets anybody but at the relay.
fn apart(w: &mut World) {
    let n = w.devices.len();
    w.cut = (0..n).flat_map(|a| (a + 1..n).map(move |b| (a, b))).collect();
    w.reconnect();
}

fn chats(w: &World, device: usize) -> BTreeSet<TopicId> {
    query::chats(&w.snapshot(device)).unwrap().iter().map(|c| c.topic).collect()
}

fn out(w: &World, device: usize) -> bool {
    query::identity(&w.snapshot(device)).unwrap().revoked
}

fn revoke(w: &mut World, by: usize, device: usize) {
    let device = w.devices[device].id;
    w.ask(by, Command::Devices(Devices::Revoke { device })).unwrap();
}

/// A device that was removed hears of it: from whom it connects to, or at its relay.
#[test]
fn a_removed_device_learns_that_it_is_out() {
    for by_mail in [false, true] {
        let (mut w, _, d) = town(40, &["Ann"]);
        let tablet = link(&mut w, d[0]);
        w.set_online(tablet, false);
        w.run(5_000);
        revoke(&mut w, d[0], tablet);
        w.run(60_000);
        if by_mail {
            apart(&mut w);
        } else {
            w.relays[0].online = false;
        }
        w.set_online(tablet, true);
        w.run(60_000);
        assert!(out(&w, tablet), "by mail: {by_mail}");
        assert!(!out(&w, d[0]));
    }
}

/// Two devices that removed each other while apart both hear of it, and agree.
#[test]
fn devices_that_remove_each_other_agree() {
    let (mut w, _, d) = town(41, &["Ann"]);
    let tablet = link(&mut w, d[0]);
    apart(&mut w);
    w.relays[0].online = false;
    revoke(&mut w, d[0], tablet);
    revoke(&mut w, tablet, d[0]);
    w.run(5_000);
    w.relays[0].online = true;
    w.run(120_000);
    assert!(out(&w, d[0]) && out(&w, tablet));
}

/// What a removed device is told is its own end; who is let in later it never learns.
#[test]
fn a_removed_device_learns_nothing_that_came_later() {
    let (mut w, _, d) = town(42, &["Ann"]);
    let tablet = link(&mut w, d[0]);
    w.set_online(tablet, false);
    w.run(5_000);
    revoke(&mut w, d[0], tablet);
    let later = link(&mut w, d[0]);
    w.set_online(tablet, true);
    w.run(120_000);
    assert!(out(&w, tablet));
    let known: Vec<DeviceId> =
        query::devices(&w.snapshot(tablet)).unwrap().iter().map(|d| d.device).collect();
    assert!(!known.contains(&w.devices[later].id), "{known:?}");
}

/// Bob invites Ann before he knows of her new device: it gets into the group all the same.
#[test]
fn an_invitation_reaches_the_device_that_the_inviter_does_not_know() {
    for by_mail in [false, true] {
        let (mut w, _, d) = town(43, &["Ann", "Bob"]);
        w.befriend(d[0], d[1]);
        w.run(10_000);
        w.set_online(d[1], false);
        let tablet = link(&mut w, d[0]);
        w.relays[0].online = false;
        w.set_online(d[0], false);
        w.set_online(d[1], true);
        let account = w.account(d[0]);
        let group = w.group(d[1], "tea", vec![account]);
        w.run(10_000);
        if by_mail {
            apart(&mut w);
        }
        w.relays[0].online = true;
        w.set_online(d[0], true);
        w.run(120_000);
        w.say(d[1], group, "welcome").unwrap();
        w.run(120_000);
        for device in [d[0], tablet] {
            assert!(chats(&w, device).contains(&group), "{device}, by mail: {by_mail}");
            // What was sealed to the devices that he knew is passed on when they meet.
            if !by_mail {
                assert_eq!(w.texts(device, group), ["welcome"], "{device}");
            }
        }
    }
}

/// A device that was away for longer than anything sealed to it is kept asks for the chats
/// that it lacks.
#[test]
fn a_chat_that_one_device_lacks_is_asked_for() {
    let (mut w, _, d) = town(44, &["Ann"]);
    let tablet = link(&mut w, d[0]);
    w.relays[0].online = false;
    w.set_online(tablet, false);
    let topic = w.group(d[0], "notes", vec![]);
    w.say(d[0], topic, "buy tea").unwrap();
    for _ in 0..13 {
        w.warp(7 * 24 * 3_600_000);
        w.run(60_000);
    }
    w.set_online(tablet, true);
    w.run(60_000);
    assert_eq!(w.texts(tablet, topic), ["buy tea"]);
}

fn state(w: &World, device: usize, topic: TopicId) -> Option<ChatState> {
    query::chat(&w.snapshot(device), topic).unwrap().map(|c| c.state)
}

/// A chat that awaits the other's yes does so on every device of who asked, linked before or
/// after; when the yes comes, whichever device is left makes it a chat.
#[test]
fn a_request_is_known_to_all_devices_of_who_asked() {
    for lost in [false, true] {
        let (mut w, _, d) = town(45, &["Ann", "Bob"]);
        let before = link(&mut w, d[0]);
        let card = w.card(d[1]);
        w.run(5_000);
        let Ok(Reply::Added { topic: Some(topic), .. }) = w.add(d[0], &card) else {
            panic!("asked")
        };
        w.run(10_000);
        let after = link(&mut w, d[0]);
        for device in [d[0], before, after] {
            assert_eq!(state(&w, device, topic), Some(ChatState::Requested), "{device}");
        }
        let mut left = vec![before, after];
        if lost {
            w.set_online(d[0], false);
            revoke(&mut w, before, d[0]);
        } else {
            left.push(d[0]);
        }
        w.run(30_000);
        let account = w.account(d[0]);
        w.ask(d[1], Command::Contacts(Contacts::Accept { account })).unwrap();
        w.run(60_000);
        w.say(d[1], topic, "hello").unwrap();
        w.run(60_000);
        for device in left {
            assert_eq!(state(&w, device, topic), Some(ChatState::Active), "{device}, {lost}");
            assert_eq!(w.texts(device, topic), ["hello"], "{device}, {lost}");
        }
    }
}

/// A member says that it holds more of a chain than there can ever be: whoever revokes the
/// chain's device does not count on from there.
#[test]
fn a_forged_acknowledgement_does_not_stop_a_revocation() {
    let (mut w, _, d) = town(46, &["Ann", "Bob"]);
    let topic = w.befriend(d[0], d[1]);
    let tablet = link(&mut w, d[0]);
    let text = "from the tablet".to_owned();
    let send = Chat::Send { topic, text, reply_to: None, mentions: vec![] };
    w.ask(tablet, Command::Chat(send)).unwrap();
    w.run(10_000);
    let key = SigningKey::from_bytes(&w.devices[d[1]].core.as_ref().unwrap().device_secret());
    let ack = Ack { device: w.devices[tablet].id, seq: u64::MAX, id: EnvelopeId([7; 32]) };
    let cursor = Cursor {
        version: 1,
        topic,
        account: w.account(d[1]),
        device: w.devices[d[1]].id,
        counter: u64::MAX,
        acks: vec![ack].try_into().unwrap(),
        read: List::default(),
    };
    let bytes = Signed::new(cursor, &key).bytes().to_vec().try_into().unwrap();
    assert!(w.forge(d[1], d[0], codec::encode(&Frame::Cursor(bytes))));
    w.run(1_000);
    revoke(&mut w, d[0], tablet);
    w.run(60_000);
    assert!(out(&w, tablet));
}

/// A device makes a key, writes nothing that arrives, and is removed for good. What its sibling
/// wrote under that key is read all the same, by people who meet nobody: the sibling sends it.
#[test]
fn a_key_outlives_the_device_that_made_it() {
    let (mut w, _, d) = town(36, &["Ann", "Cy"]);
    let (ann, cy) = (d[0], d[1]);
    let topic = w.befriend(ann, cy);
    w.run(10_000);
    w.cut.insert((ann, cy));
    w.reconnect();
    let lost = link(&mut w, cy);
    w.cut.insert((ann, lost));
    w.reconnect();
    w.run(20_000);
    w.relays[0].online = false;
    w.say(lost, topic, "never to leave").unwrap();
    w.run(5_000);
    w.say(cy, topic, "read me").unwrap();
    let s = w.snapshot(cy);
    let keys: Vec<(Vec<u8>, Epoch)> =
        s.scan_typed(&EPOCHS, &KeyRange::all(), false, 1_000).unwrap();
    let by = |e: &Epoch| Signed::<EpochHead>::from_bytes(&e.head).unwrap().get().author;
    let maker = w.devices[lost].id;
    assert!(keys.iter().any(|(_, e)| e.topic == topic && by(e) == maker), "its key is in use");
    w.set_online(lost, false);
    revoke(&mut w, cy, lost);
    w.relays[0].online = true;
    w.run(120_000);
    let read = w.texts(ann, topic);
    // What the lost device wrote was known to its sibling when that cut it off: it counts.
    for text in ["never to leave", "read me"] {
        assert!(read.contains(&text.to_owned()), "{text}: {read:?}");
    }
}
