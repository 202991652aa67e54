//! What people told after trying the app: blocking, what happened in a group, chats off the
//! list, clocks that were set back.

use teahouse_core::command::{Chat, Command, Contacts, Groups, Reply};
use teahouse_core::view::{ChatState, Event, Happened};
use teahouse_core::{query, view};
use teahouse_protocols::ids::TopicId;
use teahouse_protocols::membership::Role;
use teahouse_tests::world::World;

use crate::town::{link, town};

fn chat(w: &World, device: usize, topic: TopicId) -> view::Chat {
    query::chat(&w.snapshot(device), topic).unwrap().expect("the chat")
}

fn happened(w: &World, device: usize, topic: TopicId) -> Vec<String> {
    let events = query::events(&w.snapshot(device), topic, 0, 1_000).unwrap();
    events.iter().map(Event::words).collect()
}

/// Whoever is blocked is told nothing: not that their messages come, connected or by relay.
/// Nothing of theirs is shown, on any page; after the block all of it is, and is delivered.
#[test]
fn a_blocked_contact_is_told_nothing_and_not_shown() {
    let (mut w, _, d) = town(41, &["Ann", "Bob"]);
    let (a, b) = (d[0], d[1]);
    let topic = w.befriend(a, b);
    w.run(5_000);
    for i in 0..5 {
        w.say(b, topic, &format!("early {i}")).unwrap();
        w.run(1_000);
    }
    let bob = w.account(b);
    w.ask(a, Command::Contacts(Contacts::Block { account: bob })).unwrap();
    w.run(1_000);
    let mut sent = Vec::new();
    for i in 0..40 {
        sent.push(w.say(b, topic, &format!("late {i}")).unwrap());
        w.run(500);
        if i == 20 {
            w.set_online(b, false);
        } else if i == 30 {
            w.set_online(b, true);
        }
    }
    // A remark changes nothing about since when.
    let remark = Contacts::Remark { account: bob, name: "Robert".into() };
    w.ask(a, Command::Contacts(remark)).unwrap();
    w.run(20 * 60_000);
    for m in &sent {
        assert_eq!(w.delivery(b, topic, *m).delivered, 0);
    }
    let early = ["early 0", "early 1", "early 2", "early 3", "early 4"];
    assert_eq!(w.texts(a, topic), early);
    let row = chat(&w, a, topic);
    assert_eq!((row.state, row.unread, row.preview.as_str()), (ChatState::Blocked, 0, ""));
    let shown = query::messages(&w.snapshot(a), topic, None, 2).unwrap();
    assert_eq!(shown.len(), 2, "pages are full: {shown:?}");
    assert!(query::message(&w.snapshot(a), topic, sent[3]).unwrap().is_none());
    assert!(w.say(a, topic, "hello?").is_err(), "nothing is said to whom one blocked");

    w.ask(a, Command::Contacts(Contacts::Unblock { account: bob })).unwrap();
    w.run(20 * 60_000);
    assert_eq!(w.texts(a, topic).len(), 45);
    assert_eq!(chat(&w, a, topic).state, ChatState::Active);
    for m in &sent {
        assert_eq!(w.delivery(b, topic, *m).words(), "delivered");
    }
}

/// A stranger's messages beside a request are acknowledged once the answer is yes.
#[test]
fn a_request_is_acknowledged_when_it_is_accepted() {
    let (mut w, _, d) = town(42, &["Ann", "Bob"]);
    let (a, b) = (d[0], d[1]);
    let card = w.card(b);
    w.run(5_000);
    let Ok(Reply::Added { topic: Some(topic), .. }) = w.add(a, &card) else { panic!("asked") };
    let m = w.say(a, topic, "are you there?").unwrap();
    w.run(10 * 60_000);
    assert_eq!(w.delivery(a, topic, m).delivered, 0);
    let account = w.account(a);
    w.ask(b, Command::Contacts(Contacts::Accept { account })).unwrap();
    w.run(10 * 60_000);
    assert_eq!(w.delivery(a, topic, m).words(), "delivered");
    assert_eq!(w.texts(b, topic), ["are you there?"]);
}

/// Who came, who went, what the group was called: told in order, on every device; not told
/// is what was before somebody joined, and what has no effect. A rebuild changes nothing.
#[test]
fn what_happens_in_a_group_is_told() {
    let (mut w, _, d) = town(43, &["Ann", "Bob", "Cy"]);
    let (a, b, c) = (d[0], d[1], d[2]);
    let direct = w.befriend(a, b);
    w.befriend(a, c);
    w.run(5_000);
    let (bob, cy) = (w.account(b), w.account(c));
    let group = w.group(a, "Walk", vec![bob]);
    w.run(5_000);
    let give = Groups::SetRole { topic: group, account: bob, role: Role::Admin };
    w.ask(a, Command::Groups(give)).unwrap();
    w.run(5_000);
    let rename = Groups::Rename { topic: group, title: "Sunday walk".into() };
    w.ask(b, Command::Groups(rename)).unwrap();
    w.run(5_000);
    w.ask(a, Command::Groups(Groups::Invite { topic: group, account: cy })).unwrap();
    w.run(5_000);
    w.ask(c, Command::Groups(Groups::Leave { topic: group })).unwrap();
    w.run(5_000);
    w.ask(a, Command::Groups(Groups::Remove { topic: group, account: bob })).unwrap();
    w.run(5_000);
    let later = ["You added Cy", "Cy left", "You removed Bob"];
    let at_ann = happened(&w, a, group);
    assert_eq!(at_ann[..3], ["You made the group", "You added Bob", "You named the group “Walk”"]);
    assert_eq!(at_ann[3..5], ["You made Bob an admin", "Bob named the group “Sunday walk”"]);
    assert_eq!(at_ann[5..], later);
    assert_eq!(
        happened(&w, b, group),
        [
            // Written before he was in.
            "Ann named the group “Walk”",
            "Ann added you",
            "Ann made you an admin",
            "You named the group “Sunday walk”",
            "Ann added Cy",
            "Cy left",
            "Ann removed you",
        ]
    );
    let at_cy = happened(&w, c, group);
    assert!(!at_cy.iter().any(|e| e.contains("Bob an admin")), "before Cy's time: {at_cy:?}");
    assert_eq!(at_cy.last().unwrap(), "You left");
    let asked = "You asked for contact: “hi”";
    assert_eq!(happened(&w, a, direct), [asked], "nobody joins or leaves a direct chat");
    w.ask(b, Command::Chat(Chat::Timer { topic: direct, seconds: 3_600 })).unwrap();
    w.run(5_000);
    let timer = "Bob decided: new messages disappear after 1 hour";
    assert_eq!(happened(&w, a, direct), [asked, timer]);
    w.ask(a, Command::Groups(Groups::Notice { topic: group, text: "Bring tea".into() })).unwrap();
    let at_ann = happened(&w, a, group);
    assert_eq!(at_ann.last().unwrap(), "You set a new notice");
    w.rebuild(a).unwrap();
    assert_eq!(happened(&w, a, group), at_ann);
    // Only what is asked for: since a time, and the newest.
    let s = w.snapshot(a);
    let all = query::events(&s, group, 0, 1_000).unwrap();
    assert_eq!(query::events(&s, group, 0, 2).unwrap(), all[all.len() - 2..]);
    assert_eq!(query::events(&s, group, all[5].time, 1_000).unwrap(), all[5..]);
    assert!(matches!(all[0].happened, Happened::Created));
}

/// What somebody said when they asked stands in the chat: at the asker's from the beginning, at
/// the other's once they said yes, and stays when they block them later.
#[test]
fn a_greeting_stays_with_the_chat() {
    let (mut w, _, d) = town(46, &["Ann", "Bob"]);
    let (a, b) = (d[0], d[1]);
    let card = w.card(b);
    let greeting = "We met\nat the pond".to_owned();
    let add = Command::Contacts(Contacts::Add { link: card, greeting });
    let Ok(Reply::Added { topic: Some(topic), .. }) = w.ask(a, add) else { panic!("no chat") };
    let mine = "You asked for contact: “We met\nat the pond”";
    assert_eq!(happened(&w, a, topic), [mine]);
    w.run(10_000);
    assert_eq!(happened(&w, b, topic), [""; 0], "it is a request yet");
    let ann = w.account(a);
    w.ask(b, Command::Contacts(Contacts::Accept { account: ann })).unwrap();
    w.run(10_000);
    let theirs = "Ann asked for contact: “We met\nat the pond”";
    for _ in 0..2 {
        assert_eq!(happened(&w, a, topic), [mine]);
        assert_eq!(happened(&w, b, topic), [theirs]);
        w.rebuild(a).unwrap();
        w.rebuild(b).unwrap();
    }
    w.ask(b, Command::Contacts(Contacts::Block { account: ann })).unwrap();
    assert_eq!(happened(&w, b, topic), [theirs], "it was said before");
}

/// Of what another device of one's own sent, nothing is known here until somebody signed for
/// it: it is not called queued, for a relay may have it.
#[test]
fn what_the_other_device_sent_is_not_called_queued() {
    let (mut w, _, d) = town(47, &["Ann", "Bob"]);
    let (a, b) = (d[0], d[1]);
    let topic = w.befriend(a, b);
    w.run(10_000);
    w.set_online(b, false);
    let id = w.say(a, topic, "are you there?").unwrap();
    w.run(10_000);
    assert_eq!(w.delivery(a, topic, id).words(), "relayed 1 of 1");
    let a2 = link(&mut w, a);
    w.run(20_000);
    assert_eq!(w.delivery(a2, topic, id).words(), "written on your other device");
    w.set_online(b, true);
    w.run(60_000);
    assert_eq!(w.delivery(a, topic, id).words(), "delivered");
    assert_eq!(w.delivery(a2, topic, id).words(), "delivered");
}

/// A chat that was taken off the list stays off it on all devices, loses nothing, and comes
/// back with the next message.
#[test]
fn a_hidden_chat_comes_back_when_somebody_writes() {
    let (mut w, _, d) = town(44, &["Ann", "Bob"]);
    let (a, b) = (d[0], d[1]);
    let topic = w.befriend(a, b);
    w.run(5_000);
    w.say(b, topic, "first").unwrap();
    w.run(5_000);
    w.ask(a, Command::Chat(Chat::Hide { topic })).unwrap();
    assert!(chat(&w, a, topic).hidden);
    assert!(!chat(&w, b, topic).hidden, "that is Ann's own affair");
    w.rebuild(a).unwrap();
    assert!(chat(&w, a, topic).hidden);
    assert_eq!(w.texts(a, topic), ["first"]);
    w.run(5_000);
    w.say(b, topic, "second").unwrap();
    w.run(5_000);
    assert!(!chat(&w, a, topic).hidden);
}

/// The chat list tells who wrote last, and of one's own how far it is.
#[test]
fn the_list_tells_who_wrote_last() {
    let (mut w, _, d) = town(45, &["Ann", "Bob"]);
    let (a, b) = (d[0], d[1]);
    let topic = w.befriend(a, b);
    w.run(5_000);
    w.say(a, topic, "tea?").unwrap();
    w.run(5_000);
    let (mine, theirs) = (chat(&w, a, topic), chat(&w, b, topic));
    assert_eq!(mine.delivery.unwrap().words(), "delivered");
    assert_eq!((mine.preview_by.as_str(), theirs.preview_by.as_str()), ("", "Ann"));
    assert_eq!(theirs.delivery, None);
}

/// A request for contact that can't leave is told, and why: the card names no relay.
#[test]
fn a_request_that_cannot_leave_is_told() {
    let (mut w, _, d) = town(47, &["Ann"]);
    let b = w.add_device();
    w.create(b, "Bob");
    w.cut.insert((d[0], b));
    let card = w.card(b);
    w.add(d[0], &card).unwrap();
    w.run(60_000);
    let waiting = query::waiting(&w.snapshot(d[0])).unwrap();
    assert_eq!(waiting.len(), 1, "{waiting:?}");
    assert!(waiting[0].request && waiting[0].title == "Bob", "{waiting:?}");
    assert!(waiting[0].why.contains("names no relay"), "{waiting:?}");
    w.cut.clear();
    w.reconnect();
    w.run(60_000);
    assert_eq!(query::requests(&w.snapshot(b)).unwrap().len(), 1, "next door it came");
    assert!(query::waiting(&w.snapshot(d[0])).unwrap().iter().all(|w| !w.request));
}

/// A clock that was set back does not let an old answer answer a new question.
#[test]
fn a_clock_set_back_loses_no_request() {
    let (mut w, _, d) = town(46, &["Ann", "Bob"]);
    let (a, b) = (d[0], d[1]);
    w.befriend(a, b);
    w.run(60_000);
    let bob = w.account(b);
    w.ask(a, Command::Contacts(Contacts::Delete { account: bob })).unwrap();
    w.run(5_000);
    w.set_skew(a, -3_600_000);
    let card = w.card(b);
    w.add(a, &card).unwrap();
    let state = |w: &World| {
        let all = query::contacts(&w.snapshot(a)).unwrap();
        all.iter().find(|c| c.account == bob).unwrap().state
    };
    let before = (state(&w), query::chats(&w.snapshot(a)).unwrap());
    w.rebuild(a).unwrap();
    assert_eq!((state(&w), query::chats(&w.snapshot(a)).unwrap()), before);
}

/// What lies at one's own relay for one's own other device is on its way to nobody else.
#[test]
fn a_relay_that_only_one_side_uses_counts_for_nothing() {
    let mut w = World::new(48);
    let relay = w.add_relay();
    let (a, b) = (w.add_device(), w.add_device());
    w.create(a, "Ann");
    w.create(b, "Bob");
    let invite = w.invite(relay, None);
    w.use_relay(a, &invite);
    w.run(5_000);
    let topic = w.befriend(a, b);
    w.run(10_000);
    let a2 = link(&mut w, a);
    w.set_online(a2, false);
    w.set_online(b, false);
    let id = w.say(a, topic, "are you there?").unwrap();
    w.run(30_000);
    assert_eq!(w.delivery(a, topic, id).words(), "queued");
    let waits = query::waiting_here(&w.snapshot(a), topic).unwrap();
    assert!(waits.iter().any(|line| line.why.contains("no relay is known")), "{waits:?}");
    // Once Bob fetches there, it is on its way.
    w.set_online(b, true);
    w.set_online(a, false);
    w.use_relay(b, &invite);
    w.run(10_000);
    assert_eq!(w.delivery(a, topic, id).words(), "queued");
    w.set_online(a, true);
    w.run(60_000);
    assert_eq!(w.delivery(a, topic, id).words(), "delivered");
}

/// Who declined and then adds the other's card says yes to what was proposed: there is one
/// chat, and what was written in it meanwhile arrives.
#[test]
fn after_a_decline_the_card_is_a_yes() {
    let (mut w, _, d) = town(49, &["Ann", "Bob"]);
    let (a, b) = (d[0], d[1]);
    let card = w.card(b);
    let Ok(Reply::Added { topic: Some(topic), .. }) = w.add(a, &card) else { panic!("no chat") };
    w.say(a, topic, "first").unwrap();
    w.run(10_000);
    let ann = w.account(a);
    w.ask(b, Command::Contacts(Contacts::Decline { account: ann })).unwrap();
    w.run(5_000);
    assert!(query::chats(&w.snapshot(b)).unwrap().is_empty());
    let card = w.card(a);
    w.run(5_000);
    w.add(b, &card).unwrap();
    w.run(30_000);
    for device in [a, b] {
        let chats = query::chats(&w.snapshot(device)).unwrap();
        let chats: Vec<_> = chats.iter().map(|c| (c.topic, c.state)).collect();
        assert_eq!(chats, [(topic, ChatState::Active)]);
        assert_eq!(w.texts(device, topic), ["first"]);
    }
}

/// A nickname never stands alone: another member's name would be as good as its own.
#[test]
fn a_nickname_stands_beside_the_name() {
    let (mut w, _, d) = town(50, &["Ann", "Bob"]);
    let (a, b) = (d[0], d[1]);
    w.befriend(a, b);
    w.run(5_000);
    let bob = w.account(b);
    let group = w.group(a, "Walk", vec![bob]);
    w.run(5_000);
    let nick = Groups::Nickname { topic: group, name: "Ann".into() };
    w.ask(b, Command::Groups(nick)).unwrap();
    w.say(b, group, "give me your money").unwrap();
    w.run(5_000);
    let all = query::messages(&w.snapshot(a), group, None, 10).unwrap();
    assert_eq!(all.last().unwrap().author_name, "Ann (Bob)");
}

/// Of what was taken back nothing is claimed: who has heard of that is not known.
#[test]
fn a_recall_claims_nothing() {
    let (mut w, _, d) = town(51, &["Ann", "Bob"]);
    let (a, b) = (d[0], d[1]);
    let topic = w.befriend(a, b);
    w.run(5_000);
    let message = w.say(a, topic, "oh no").unwrap();
    w.run(5_000);
    assert_eq!(w.delivery(a, topic, message).words(), "delivered");
    w.set_online(b, false);
    w.ask(a, Command::Chat(Chat::Recall { topic, message })).unwrap();
    let all = query::messages(&w.snapshot(a), topic, None, 10).unwrap();
    assert_eq!((&all[0].content, all[0].delivery), (&view::Content::Recalled, None));
    assert_eq!(chat(&w, a, topic).delivery, None);
}
