//! Official Accounts: publishing, following, and serving each other.

use teahouse_core::command::{Command, MessageId, Refusal, Reply};
use teahouse_core::feeds::Command as Ask;
use teahouse_core::feeds::query::{Articles, Feed, Feeds};
use teahouse_core::query::{self, Query};
use teahouse_core::store::{KeyRange, ReadExt};
use teahouse_core::tables::{ACCOUNT_RECORDS, ACKS};
use teahouse_protocols::codec::List;
use teahouse_protocols::ids::TopicId;
use teahouse_protocols::link::{Link, Provider};
use teahouse_tests::world::World;

use crate::town::link;

fn ask(w: &mut World, device: usize, c: Ask) -> Result<Reply, Refusal> {
    w.ask(device, Command::Feeds(c))
}

fn create(w: &mut World, device: usize, name: &str) -> TopicId {
    let (name, about) = (name.to_owned(), "what there is".to_owned());
    match ask(w, device, Ask::Create { name, about, service: false }) {
        Ok(Reply::Topic { topic }) => topic,
        other => panic!("create: {other:?}"),
    }
}

fn publish(w: &mut World, device: usize, feed: TopicId, title: &str) -> MessageId {
    let (title, text) = (title.to_owned(), format!("# {title}\n\nIt is so."));
    match ask(w, device, Ask::Publish { feed, title, text, photos: Vec::new() }) {
        Ok(Reply::Message { message, .. }) => message,
        other => panic!("publish: {other:?}"),
    }
}

fn share(w: &mut World, device: usize, feed: TopicId) -> String {
    match ask(w, device, Ask::Share { feed }) {
        Ok(Reply::Link { link }) => link,
        other => panic!("share: {other:?}"),
    }
}

fn follow(w: &mut World, device: usize, link: &str) -> TopicId {
    match ask(w, device, Ask::Follow { link: link.to_owned() }) {
        Ok(Reply::Topic { topic }) => topic,
        other => panic!("follow: {other:?}"),
    }
}

fn titles(w: &World, device: usize, feed: TopicId) -> Vec<String> {
    let all = Articles { feed, before: None, limit: 0 }.run(&w.snapshot(device)).unwrap();
    all.into_iter().map(|a| a.said.map_or_else(|| "?".into(), |(title, _)| title)).collect()
}

fn feeds(w: &World, device: usize) -> Vec<Feed> {
    Feeds {}.run(&w.snapshot(device)).unwrap()
}

/// A stranger follows by a link, reads what was published, and what comes.
#[test]
fn a_stranger_follows_and_reads() {
    let mut w = World::new(41);
    let (a, b) = (w.add_device(), w.add_device());
    w.create(a, "Ann");
    w.create(b, "Bob");
    w.run(2_000);
    let feed = create(&mut w, a, "Morning paper");
    for n in 0..150 {
        publish(&mut w, a, feed, &format!("number {n}"));
    }
    let link = share(&mut w, a, feed);
    assert_eq!(follow(&mut w, b, &link), feed);
    let known = feeds(&w, b);
    assert_eq!((known[0].name.as_str(), known[0].here), ("Morning paper", false));
    w.run(20_000);
    assert_eq!(titles(&w, b, feed)[0], "number 149");
    assert_eq!(titles(&w, b, feed).len(), 100);
    let known = feeds(&w, b);
    assert_eq!(known[0].publishers[0].name, "Ann");
    assert!(known[0].here && !known[0].mine);
    assert_eq!(known[0].unread, 0, "what is older than the following");
    // Live.
    let late = publish(&mut w, a, feed, "late news");
    w.run(3_000);
    assert_eq!(feeds(&w, b)[0].unread, 1);
    ask(&mut w, b, Ask::Read { feed }).unwrap();
    assert_eq!(feeds(&w, b)[0].unread, 0);
    assert!(ask(&mut w, a, Ask::Read { feed }).is_err(), "one's own");
    assert_eq!(titles(&w, b, feed)[0], "late news");
    ask(&mut w, a, Ask::Delete { feed, article: late }).unwrap();
    w.run(3_000);
    assert_eq!(titles(&w, b, feed)[0], "number 149");
    w.rebuild(b).unwrap();
    assert_eq!(titles(&w, b, feed)[0], "number 149");
    // The publisher has no list of who follows, and no chat came of it.
    let s = w.snapshot(a);
    let theirs = w.account(b);
    let accounts = s.scan(&ACCOUNT_RECORDS, &KeyRange::all(), false, 1_000).unwrap();
    assert!(accounts.iter().all(|(k, _)| !k.starts_with(&theirs.0)), "knows its follower");
    assert!(query::contacts(&s).unwrap().is_empty() && query::chats(&s).unwrap().is_empty());
    // Who follows no longer is told nothing.
    ask(&mut w, b, Ask::Unfollow { feed }).unwrap();
    assert!(feeds(&w, b).is_empty());
    publish(&mut w, a, feed, "after");
    w.run(5_000);
    assert_eq!(titles(&w, b, feed)[0], "number 149");
    assert!(
        ask(
            &mut w,
            b,
            Ask::Publish { feed, title: "mine".into(), text: String::new(), photos: Vec::new() }
        )
        .is_err()
    );
}

/// Who follows and shared no link serves nobody, and says to nobody that it follows: neither to
/// a stranger who asks, nor to the publisher whom it knows from elsewhere.
#[test]
fn who_follows_keeps_it_to_itself() {
    let mut w = World::new(47);
    let (a, b, c) = (w.add_device(), w.add_device(), w.add_device());
    for (device, name) in [(a, "Ann"), (b, "Bob"), (c, "Cy")] {
        w.create(device, name);
    }
    let relay = w.add_relay();
    let invite = w.invite(relay, None);
    for device in [a, b, c] {
        w.use_relay(device, &invite);
    }
    w.run(2_000);
    w.befriend(a, b);
    let feed = create(&mut w, a, "Paper");
    publish(&mut w, a, feed, "one");
    let link = share(&mut w, a, feed);
    follow(&mut w, b, &link);
    w.run(20_000);
    assert_eq!(titles(&w, b, feed), ["one"]);
    // Friends compare what they share: the feed is not among it, so that nothing of it is
    // acknowledged.
    w.flap(b);
    w.run(20_000);
    let acks = w.snapshot(a).scan(&ACKS, &KeyRange::prefix(&feed.0), false, 10).unwrap();
    assert!(acks.is_empty(), "the publisher knows who reads");
    let Ok(Link::Feed(mut guess)) = Link::parse(&link) else { panic!("a feed's link") };
    guess.providers = vec![Provider {
        device: w.devices[b].id,
        addrs: List::default(),
        relays: guess.providers[0].relays.clone(),
    }]
    .try_into()
    .unwrap();
    follow(&mut w, c, &Link::Feed(guess.clone()).to_uri());
    w.run(20_000);
    assert!(titles(&w, c, feed).is_empty(), "told a stranger");
    share(&mut w, b, feed);
    w.flap(c);
    w.run(20_000);
    assert_eq!(titles(&w, c, feed), ["one"]);
}

/// The publisher is off: whoever has a follower's link reads through that follower.
#[test]
fn a_follower_serves_while_the_publisher_is_off() {
    let mut w = World::new(42);
    let (a, b, c) = (w.add_device(), w.add_device(), w.add_device());
    for (device, name) in [(a, "Ann"), (b, "Bob"), (c, "Cy")] {
        w.create(device, name);
    }
    w.run(2_000);
    let feed = create(&mut w, a, "Paper");
    publish(&mut w, a, feed, "one");
    let link = share(&mut w, a, feed);
    follow(&mut w, b, &link);
    w.run(10_000);
    w.set_online(a, false);
    w.cut.insert((a, c));
    let through = share(&mut w, b, feed);
    follow(&mut w, c, &through);
    w.run(20_000);
    assert_eq!(titles(&w, c, feed), ["one"]);
    // What the follower hears later, it passes on.
    w.set_online(a, true);
    publish(&mut w, a, feed, "two");
    w.run(20_000);
    assert_eq!(titles(&w, c, feed), ["two", "one"]);
}

/// All devices of an account follow, and all of a publisher's publish.
#[test]
fn devices_of_one_account_follow_and_publish_together() {
    let mut w = World::new(43);
    let (a, b) = (w.add_device(), w.add_device());
    w.create(a, "Ann");
    w.create(b, "Bob");
    w.run(2_000);
    let (a2, b2) = (link(&mut w, a), link(&mut w, b));
    let feed = create(&mut w, a, "Paper");
    publish(&mut w, a, feed, "one");
    w.run(20_000);
    publish(&mut w, a2, feed, "two");
    let shared = share(&mut w, a2, feed);
    follow(&mut w, b, &shared);
    w.run(60_000);
    for device in [a, a2, b, b2] {
        assert_eq!(titles(&w, device, feed), ["two", "one"], "device {device}");
        assert_eq!(feeds(&w, device)[0].mine, device == a || device == a2);
    }
    w.set_online(b, false);
    publish(&mut w, a, feed, "three");
    w.run(30_000);
    assert_eq!(titles(&w, b2, feed)[0], "three");
}

/// A service account answers who writes to it, once, by one device; two that both answer
/// automatically say one thing each.
#[test]
fn a_service_answers() {
    use teahouse_core::replies;
    let mut w = World::new(48);
    let (a, b) = (w.add_device(), w.add_device());
    w.create(a, "Bakery");
    w.create(b, "Bob");
    let relay = w.add_relay();
    let invite = w.invite(relay, None);
    w.use_relay(a, &invite);
    w.use_relay(b, &invite);
    w.run(2_000);
    let topic = w.befriend(b, a);
    let second = link(&mut w, a);
    w.run(60_000);
    let answer = |w: &mut World, device: usize, text: &str| {
        let command = replies::Command::Set { text: text.to_owned() };
        w.ask(device, Command::Replies(command)).unwrap();
        w.run(5_000);
    };
    answer(&mut w, a, "we bake");
    let texts = |w: &World, device: usize| w.texts(device, topic);
    w.say(b, topic, "open?").unwrap();
    w.run(20_000);
    w.say(b, topic, "hello?").unwrap();
    w.run(20_000);
    assert_eq!(texts(&w, b).iter().filter(|t| *t == "we bake").count(), 1, "{:?}", texts(&w, b));
    w.rebuild(a).unwrap();
    w.run(20_000);
    assert_eq!(texts(&w, second), texts(&w, b));
    // The next day, and both automatic.
    answer(&mut w, b, "on the road");
    w.run(25 * 3_600_000);
    w.say(b, topic, "today?").unwrap();
    w.run(60_000);
    let said = texts(&w, b);
    assert_eq!(said.iter().filter(|t| *t == "we bake").count(), 2, "{said:?}");
    assert!(!said.iter().any(|t| t == "on the road"), "{said:?}");
}
