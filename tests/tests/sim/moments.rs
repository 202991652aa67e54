//! Moments: who sees what, and who sees which word on it.

use std::collections::BTreeSet;

use proptest::prelude::*;
use teahouse_core::moments::Audience;
use teahouse_core::store::{KeyRange, ReadExt};
use teahouse_core::tables::{EPOCHS, Epoch, LOG, TOPICS};
use teahouse_protocols::ids::TopicId;
use teahouse_tests::world::World;

use crate::town::link;

/// People with a relay each can use, befriended as asked; device n is person n.
fn town(seed: u64, people: usize, friends: &[(usize, usize)]) -> World {
    let mut w = World::new(seed);
    let relay = w.add_relay();
    let link = w.invite(relay, None);
    for n in 0..people {
        let device = w.add_device();
        w.create(device, &format!("P{n}"));
        w.use_relay(device, &link);
    }
    w.run(5_000);
    for (a, b) in friends {
        w.befriend(*a, *b);
    }
    w.run(20_000);
    w
}

/// Whether a device knows a topic, any key of it, or any of its envelopes.
fn has_any(w: &World, device: usize, topic: TopicId) -> bool {
    let s = w.snapshot(device);
    let epochs: Vec<(Vec<u8>, Epoch)> =
        s.scan_typed(&EPOCHS, &KeyRange::all(), false, 100_000).unwrap();
    s.contains(&TOPICS, &topic.0).unwrap()
        || s.first(&LOG, &topic.0).unwrap().is_some()
        || epochs.iter().any(|(_, e)| e.topic == topic)
}

/// A post reaches friends, live and through the relay; who is no friend has nothing of it.
#[test]
fn a_post_reaches_friends_and_nobody_else() {
    let mut w = town(31, 4, &[(0, 1), (0, 2), (1, 3)]);
    w.set_online(2, false);
    let post = w.post(0, "what a morning", Audience::Friends).unwrap();
    w.run(20_000);
    assert_eq!(w.posts(1), ["what a morning"]);
    w.set_online(0, false);
    w.set_online(2, true);
    w.run(60_000);
    assert_eq!(w.posts(2), ["what a morning"], "through the relay");
    assert!(w.posts(3).is_empty() && !has_any(&w, 3, post.0));
    // Who becomes a friend sees what was posted before.
    w.set_online(0, true);
    w.befriend(3, 0);
    w.run(60_000);
    assert_eq!(w.posts(3), ["what a morning"]);
    w.delete(0, post).unwrap();
    w.run(60_000);
    for device in 0..4 {
        assert!(w.posts(device).is_empty(), "device {device}");
        w.rebuild(device).unwrap();
        assert!(w.posts(device).is_empty(), "device {device}");
    }
}

/// "All except …" and "only …": a device outside the audience gets neither key nor envelope.
#[test]
fn an_audience_is_kept() {
    let mut w = town(32, 4, &[(0, 1), (0, 2), (0, 3)]);
    let (one, two) = (w.account(1), w.account(2));
    let hidden = w.post(0, "not for one", Audience::Except(vec![one])).unwrap();
    let chosen = w.post(0, "for two alone", Audience::Only(vec![two])).unwrap();
    let myself = w.post(0, "for me", Audience::Only(Vec::new())).unwrap();
    w.run(60_000);
    assert_eq!(w.posts(0), ["for me", "for two alone", "not for one"]);
    assert!(w.posts(1).is_empty());
    assert_eq!(w.posts(2), ["for two alone", "not for one"]);
    assert_eq!(w.posts(3), ["not for one"]);
    assert!(!has_any(&w, 1, hidden.0) && !has_any(&w, 1, chosen.0));
    assert!(!has_any(&w, 3, chosen.0));
    assert!((1..4).all(|d| !has_any(&w, d, myself.0)));
}

/// Who is a friend no longer reads nothing that is posted or said later.
#[test]
fn a_former_friend_gets_no_key() {
    use teahouse_core::command::{Command, Contacts};
    let mut w = town(33, 3, &[(0, 1), (0, 2), (1, 2)]);
    w.post(0, "before", Audience::Friends).unwrap();
    w.run(20_000);
    assert_eq!(w.posts(2), ["before"]);
    let two = w.account(2);
    w.ask(0, Command::Contacts(Contacts::Delete { account: two })).unwrap();
    let later = w.post(0, "after", Audience::Friends).unwrap();
    w.run(20_000);
    w.comment(1, later, "quite so", None).unwrap();
    w.run(60_000);
    assert_eq!(w.posts(1), ["after", "before"]);
    assert_eq!(w.posts(2), ["before"]);
    assert_eq!(w.comments(0, later), ["quite so"]);
}

/// A second device of the author, and one of a reader, have the same timeline.
#[test]
fn other_devices_follow() {
    let mut w = town(34, 2, &[(0, 1)]);
    let post = w.post(0, "from the first", Audience::Friends).unwrap();
    w.run(20_000);
    let (a2, b2) = (link(&mut w, 0), link(&mut w, 1));
    w.run(60_000);
    assert_eq!(w.posts(a2), ["from the first"]);
    assert_eq!(w.posts(b2), ["from the first"]);
    let again = w.post(a2, "from the second", Audience::Friends).unwrap();
    assert_eq!(again.0, post.0, "one topic for one audience");
    w.run(60_000);
    for device in [0, 1, a2, b2] {
        assert_eq!(w.posts(device), ["from the second", "from the first"], "device {device}");
    }
    let said = w.comment(b2, post, "and mine", None).unwrap();
    w.run(20_000);
    assert_eq!(w.comments(0, post), ["and mine"]);
    w.delete(1, said).unwrap();
    w.run(20_000);
    for device in [0, 1, a2, b2] {
        assert!(w.comments(device, post).is_empty(), "device {device}");
    }
}

/// Likes count once for each person, and can be taken back.
#[test]
fn likes() {
    let mut w = town(35, 3, &[(0, 1), (0, 2)]);
    let post = w.post(0, "tea", Audience::Friends).unwrap();
    w.run(20_000);
    for device in 1..3 {
        w.like(device, post, true).unwrap();
        w.like(device, post, true).unwrap();
    }
    w.run(20_000);
    let names = |w: &World, d: usize| -> Vec<String> {
        w.shown(d, post).unwrap().likes.into_iter().map(|p| p.name).collect()
    };
    assert_eq!(names(&w, 0).len(), 2);
    // The two do not know each other.
    assert_eq!(names(&w, 1), ["P1"]);
    assert_eq!(names(&w, 2), ["P2"]);
    w.like(1, post, false).unwrap();
    w.run(20_000);
    assert_eq!(names(&w, 0), ["P2"]);
}

/// Of two devices of one person, the one that was asked last says whether it likes a post.
#[test]
fn likes_of_two_devices() {
    let mut w = town(36, 2, &[(0, 1)]);
    let post = w.post(0, "tea", Audience::Friends).unwrap();
    let second = link(&mut w, 1);
    w.run(60_000);
    for (device, on) in [(1, true), (second, false), (1, true), (second, true), (1, false)] {
        w.like(device, post, on).unwrap();
        w.run(20_000);
        for reader in [0, 1, second] {
            let likes = w.shown(reader, post).unwrap().likes.len();
            assert_eq!(likes, usize::from(on), "device {reader}, after {device} said {on}");
        }
    }
}

/// A reply tells whom it answers, also where its author's clock is behind.
#[test]
fn a_reply_from_the_past_answers() {
    let mut w = town(37, 2, &[(0, 1)]);
    let post = w.post(0, "tea", Audience::Friends).unwrap();
    w.run(20_000);
    let question = w.comment(1, post, "green?", None).unwrap();
    w.run(20_000);
    w.set_skew(0, -3_600_000);
    w.comment(0, post, "black", Some(question)).unwrap();
    w.run(20_000);
    let asker = w.account(1);
    for device in [0, 1] {
        let comments = w.shown(device, post).unwrap().comments;
        let reply = comments.iter().find(|c| c.text == "black").unwrap();
        assert_eq!(reply.answers.as_ref().map(|p| p.account), Some(asker), "device {device}");
    }
}

/// Who was blocked for a while reads what was posted meanwhile, also by a device that is out of
/// the author's account since: the key is asked for.
#[test]
fn what_was_posted_meanwhile_comes() {
    use teahouse_core::command::{Command, Contacts, Devices};
    let mut w = town(38, 2, &[(0, 1)]);
    let second = link(&mut w, 0);
    w.post(0, "before", Audience::Friends).unwrap();
    w.run(60_000);
    let account = w.account(1);
    w.ask(0, Command::Contacts(Contacts::Block { account })).unwrap();
    w.run(20_000);
    w.post(second, "meanwhile", Audience::Friends).unwrap();
    w.run(20_000);
    let device = w.devices[second].id;
    w.ask(0, Command::Devices(Devices::Revoke { device })).unwrap();
    w.run(60_000);
    assert_eq!(w.posts(1), ["before"]);
    w.ask(0, Command::Contacts(Contacts::Unblock { account })).unwrap();
    w.run(20_000);
    w.flap(1);
    w.run(60_000);
    assert_eq!(w.posts(1), ["meanwhile", "before"]);
}

/// Who is let in after having been out reads what was said meanwhile, too, and taken out again
/// nothing later: neither what is posted, nor what is said about old posts.
#[test]
fn in_and_out_again() {
    use teahouse_core::command::{Command, Contacts};
    let mut w = town(39, 3, &[(0, 1), (0, 2), (1, 2)]);
    let old = w.post(0, "old", Audience::Friends).unwrap();
    w.run(20_000);
    let account = w.account(2);
    let block = |w: &mut World, on: bool| {
        let command = if on { Contacts::Block { account } } else { Contacts::Unblock { account } };
        w.ask(0, Command::Contacts(command)).unwrap();
        w.run(20_000);
    };
    block(&mut w, true);
    w.post(0, "while out", Audience::Friends).unwrap();
    w.run(20_000);
    w.comment(1, old, "said while out", None).unwrap();
    w.run(20_000);
    assert_eq!(w.posts(2), ["old"]);
    assert!(w.comments(2, old).is_empty());
    block(&mut w, false);
    w.flap(2);
    w.run(60_000);
    assert_eq!(w.posts(2), ["while out", "old"]);
    assert_eq!(w.comments(2, old), ["said while out"]);
    block(&mut w, true);
    w.post(0, "out again", Audience::Friends).unwrap();
    w.comment(1, old, "said when out again", None).unwrap();
    w.run(60_000);
    w.flap(2);
    w.run(60_000);
    assert_eq!(w.posts(1), ["out again", "while out", "old"]);
    assert_eq!(w.comments(1, old), ["said while out", "said when out again"]);
    assert_eq!(w.posts(2), ["while out", "old"]);
    assert_eq!(w.comments(2, old), ["said while out"]);
}

/// Who was made a friend and let go while the author's other device was away has none of that
/// device's keys; and where only that device wrote, words on its posts are sealed anew all the
/// same.
#[test]
fn keys_of_an_absent_sibling() {
    use teahouse_core::command::{Command, Contacts};
    let mut w = town(40, 3, &[(0, 1), (1, 2)]);
    let second = link(&mut w, 0);
    w.run(60_000);
    let old = w.post(second, "by the second", Audience::Friends).unwrap();
    w.run(60_000);
    w.befriend(0, 2);
    w.run(60_000);
    assert_eq!(w.posts(2), ["by the second"]);
    w.set_online(second, false);
    let account = w.account(2);
    w.ask(0, Command::Contacts(Contacts::Delete { account })).unwrap();
    w.run(60_000);
    // One and two are friends: only the circle of nought keeps two out.
    w.comment(1, old, "said when out", None).unwrap();
    w.run(60_000);
    assert_eq!(w.comments(0, old), ["said when out"]);
    assert!(w.comments(2, old).is_empty(), "{:?}", w.comments(2, old));
    w.set_online(second, true);
    w.run(60_000);
    w.post(second, "later by the second", Audience::Friends).unwrap();
    w.run(60_000);
    assert_eq!(w.posts(1), ["later by the second", "by the second"]);
    assert_eq!(w.posts(2), ["by the second"]);
}

/// Who did not want to hear of somebody for a while hears of what was posted meanwhile.
#[test]
fn an_invitation_refused_while_blocked_comes_again() {
    use teahouse_core::command::{Command, Contacts};
    let mut w = town(41, 2, &[(0, 1)]);
    let account = w.account(0);
    w.ask(1, Command::Contacts(Contacts::Block { account })).unwrap();
    w.post(0, "meanwhile", Audience::Friends).unwrap();
    w.run(60_000);
    assert!(w.posts(1).is_empty());
    w.ask(1, Command::Contacts(Contacts::Unblock { account })).unwrap();
    w.run(60_000);
    assert_eq!(w.posts(1), ["meanwhile"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    /// A comment opens exactly for whoever is, or is a friend of, both the post's author and
    /// the comment's; a reply also of whoever is answered. Random friends, by brute force.
    #[test]
    fn words_open_for_mutual_friends_alone(seed: u64, edges in proptest::collection::vec(any::<bool>(), 10)) {
        const PEOPLE: usize = 5;
        let pairs: Vec<(usize, usize)> =
            (0..PEOPLE).flat_map(|a| (a + 1..PEOPLE).map(move |b| (a, b))).collect();
        let friends: Vec<(usize, usize)> =
            pairs.into_iter().zip(edges).filter_map(|(p, on)| on.then_some(p)).collect();
        let near = |a: usize, b: usize| a == b || friends.contains(&(a.min(b), a.max(b)));
        let mut w = town(seed, PEOPLE, &friends);
        let posts: Vec<_> =
            (0..PEOPLE).map(|p| w.post(p, &format!("post of {p}"), Audience::Friends).unwrap()).collect();
        w.run(60_000);
        // Everybody comments wherever they can, then answers every comment that they see.
        let mut said = Vec::new();
        for who in 0..PEOPLE {
            for (of, post) in posts.iter().enumerate() {
                let result = w.comment(who, *post, &format!("{who} on {of}"), None);
                prop_assert_eq!(result.is_ok(), near(who, of), "{} comments on {}", who, of);
                said.extend(result.ok().map(|place| (who, of, place)));
            }
        }
        w.run(60_000);
        let mut expected: Vec<(String, usize, Vec<usize>)> = said
            .iter()
            .map(|(who, of, _)| (format!("{who} on {of}"), *of, vec![*who, *of]))
            .collect();
        for (to, of, place) in &said {
            for who in 0..PEOPLE {
                if near(who, *of) && near(who, *to) {
                    w.comment(who, posts[*of], &format!("{who} to {to} on {of}"), Some(*place)).unwrap();
                    expected.push((format!("{who} to {to} on {of}"), *of, vec![who, *to, *of]));
                } else {
                    let refused = w.comment(who, posts[*of], "?", Some(*place));
                    prop_assert!(refused.is_err(), "{who} answered {to} on {of}");
                }
            }
        }
        w.run(120_000);
        for viewer in 0..PEOPLE {
            for (of, post) in posts.iter().enumerate() {
                let shown: BTreeSet<String> = w.comments(viewer, *post).into_iter().collect();
                let right: BTreeSet<String> = expected
                    .iter()
                    .filter(|(_, on, circles)| *on == of && circles.iter().all(|c| near(viewer, *c)))
                    .map(|(text, ..)| text.clone())
                    .collect();
                prop_assert_eq!(shown, right, "what {} sees on {}", viewer, of);
            }
        }
    }
}
