//! Official Accounts in the window: over a made-up node what the page does, and over real
//! ones, with a relay between, what is published, followed and read.

mod common;

use std::time::{Duration, Instant};

use common::made_up::{MINUTE, MadeUp, NOW, WITH_MEI, full};
use common::people::{Person, Street};
use common::{Window, click, field, gone, has, until, wait, window, write};
use egui::{Key, Modifiers};
use egui_kittest::kittest::{NodeT as _, Queryable as _};
use teahouse_app::bridge::Action;
use teahouse_app::pages::Shared;
use teahouse_app::pages::feeds::vm::{Ask, Key as Place, Listed, PAGE, Press};
use teahouse_app::pages::feeds::vm::{feed_rows, headline, read};
use teahouse_app::pages::feeds::words;
use teahouse_app::strings;
use teahouse_app::vm::Zone;
use teahouse_node::core::command::{Command, MessageId, Reply};
use teahouse_node::core::feeds::Command as Feeds;
use teahouse_node::core::feeds::query::{Article, Feed, Publisher};
use teahouse_node::core::replies::{Automatic, Command as Replies};
use teahouse_node::core::view::{Blob, Photo};
use teahouse_node::protocols::ids::{AccountId, DeviceId, TopicId};

const PAPER: TopicId = TopicId([51; 32]);
const OWN: TopicId = TopicId([52; 32]);
const AWAY: TopicId = TopicId([53; 32]);

fn feed(topic: TopicId, name: &str) -> Feed {
    Feed {
        topic,
        name: name.into(),
        about: "What happens in our street 街坊新闻".into(),
        service: false,
        mine: topic == OWN,
        here: topic != AWAY,
        publishers: vec![Publisher { account: AccountId([9; 32]), name: "Ann".into() }],
        newest: (topic == PAPER).then(|| (NOW - 3 * MINUTE, "Rain at last".into())),
        unread: u64::from(topic == PAPER) * 2,
    }
}

fn article(seq: u64, title: &str, text: &str) -> Article {
    Article {
        topic: PAPER,
        id: MessageId { device: DeviceId([9; 32]), seq },
        time: NOW - seq * 3 * MINUTE,
        by: "Ann".into(),
        said: Some((title.into(), text.into())),
        photos: Vec::new(),
    }
}

fn photo(n: u8) -> Photo {
    let photo = teahouse_node::protocols::photo::Photo {
        hash: [n; 32],
        key: [0; 32],
        size: 200_000,
        width: 640,
        height: 480,
    };
    Photo { photo, preview: Some(Blob(vec![1])) }
}

fn listed(topic: TopicId, articles: &[Article]) -> Listed {
    let headline = |a: &Article| headline(a, NOW, &Zone::utc()).into();
    let articles = articles.iter().map(headline).collect();
    Listed { topic, articles, limit: PAGE, more: false }
}

fn press() -> Press {
    let feeds = [feed(PAPER, "Morning paper"), feed(OWN, "My bakery"), feed(AWAY, "Far away")];
    Press { feeds: feed_rows(&feeds, NOW, &Zone::utc()), ..Press::default() }
}

fn show(node: &MadeUp, press: Press) {
    node.change(|m| {
        m.pages.insert("feeds", Ok(Shared::new(press)));
    });
}

fn node() -> MadeUp {
    let node = MadeUp::new(full(WITH_MEI));
    show(&node, press());
    node
}

fn over(node: &MadeUp) -> Window {
    let mut window = window(node, [1100.0, 760.0]);
    window.input_mut().focused = true;
    window.run();
    open(&mut window);
    window
}

fn open(window: &mut Window) {
    window.get_all_by_label_contains(words::title()).next().expect("on the rail").click();
    window.run();
}

/// Commands to Official Accounts since the last call.
fn asked(node: &MadeUp) -> Vec<(u64, Feeds)> {
    let only = |(ticket, command)| match command {
        Command::Feeds(c) => Some((ticket, c)),
        _ => None,
    };
    node.commands().into_iter().filter_map(only).collect()
}

/// What the page wanted to see last.
fn wanted(node: &MadeUp) -> Ask {
    let ask = |a: &Action| match a {
        Action::Page { page: "feeds", ask } => ask.get::<Ask>(),
        _ => None,
    };
    let ask = node.0.borrow().actions.iter().rev().find_map(ask);
    Ask::clone(&ask.expect("asked"))
}

/// Opens the paper with these articles.
fn paper(node: &MadeUp, window: &mut Window, articles: &[Article]) {
    click(window, &strings::with_unread("Morning paper", 2));
    assert_eq!(wanted(node).feed, Some(PAPER));
    show(node, Press { listed: Some(listed(PAPER, articles)), ..press() });
    window.run();
}

/// Opens this article of the paper.
fn reading(node: &MadeUp, window: &mut Window, article: &Article) {
    let articles = core::slice::from_ref(article);
    paper(node, window, articles);
    let title = article.said.as_ref().map(|(title, _)| title.clone()).expect("it has come");
    click(window, &title);
    let key: Place = (article.topic, article.id);
    assert_eq!(wanted(node).article, Some(key));
    let reading = read(article, NOW, &Zone::utc());
    let model = Press {
        listed: Some(listed(PAPER, articles)),
        article: Some((key, Some(reading.into()))),
        ..press()
    };
    show(node, model);
    window.run();
}

#[test]
fn new_articles_are_counted_until_they_are_seen() {
    let node = node();
    let mut window = window(&node, [1100.0, 760.0]);
    window.input_mut().focused = true;
    window.run();
    click(&mut window, &strings::with_unread(words::title(), 2));
    assert!(has(&window, words::choose()));
    assert!(asked(&node).is_empty(), "the list alone reads nothing");
    paper(&node, &mut window, &[article(1, "Rain at last", "At *last*.")]);
    let read: Vec<_> = asked(&node);
    assert!(matches!(read[..], [(_, Feeds::Read { feed: PAPER })]), "{read:?}");
    node.answer(read[0].0, Err("no"));
    window.run();
    assert!(asked(&node).is_empty(), "said once, though it was refused");
    let seen = feed_rows(&[Feed { unread: 0, ..feed(PAPER, "Morning paper") }], NOW, &Zone::utc());
    show(&node, Press { feeds: seen, ..press() });
    window.run();
    assert!(window.query_by_label(&strings::with_unread(words::title(), 2)).is_none());
}

#[test]
fn an_article_is_read_with_its_photos_and_escape_goes_back() {
    let node = node();
    let mut window = over(&node);
    let mut rain = article(
        1,
        "Rain at last",
        "# The *street*\n\nIt rains.\n\n- buckets\n- cats\n\n![the bridge](photo:1)\n\n`umbrella()`",
    );
    rain.photos = vec![photo(1), photo(2)];
    reading(&node, &mut window, &rain);
    for words in ["Rain at last", "The street", "It rains.", "buckets", "cats", "umbrella()"] {
        assert!(has(&window, words), "{words}");
    }
    assert!(has(&window, "Ann · "));
    // The first photo stands at the end: the text does not name it.
    let heights = [words::photo(2, "the bridge"), words::photo(1, "")]
        .map(|name| window.get_by_label(&name).rect().top());
    assert!(heights[0] < heights[1]);
    node.0.borrow_mut().actions.clear();
    click(&mut window, &words::photo(2, "the bridge"));
    let actions = core::mem::take(&mut node.0.borrow_mut().actions);
    assert!(actions.iter().any(|a| matches!(a, Action::Look(Some(w)) if w.index == 1)));
    window.key_press(Key::Escape);
    window.run();
    window.key_press(Key::Escape);
    window.run();
    assert!(has(&window, words::end()), "back on the list");
    window.key_press(Key::Escape);
    window.run();
    assert!(has(&window, words::choose()));
}

#[test]
fn links_are_shown_and_never_opened() {
    let node = node();
    let mut window = over(&node);
    let text =
        "Read [my bank](https://evil.example/?q=1), and ![this](https://evil.example/p.png).";
    reading(&node, &mut window, &article(1, "Trust me", text));
    click(&mut window, "my bank");
    assert!(has(&window, "https://evil.example/?q=1"));
    let opened = |w: &Window| {
        let commands = &w.output().platform_output.commands;
        commands.iter().any(|c| matches!(c, egui::OutputCommand::OpenUrl(_)))
    };
    assert!(!opened(&window));
    window.get_by_label(words::copy_address()).click();
    window.step();
    assert!(!opened(&window));
    window.run();
    assert!(!has(&window, words::link_title()));
    // A picture from elsewhere is a link: nothing is fetched, and nothing waits for it.
    click(&mut window, "this");
    assert!(has(&window, "https://evil.example/p.png"));
    window.key_press(Key::Escape);
    window.run();
    assert!(!has(&window, words::link_title()));
    assert!(has(&window, "Read my bank"), "the article is still there");
}

#[test]
fn a_hostile_article_is_drawn_within_bounds_and_a_long_one_quickly() {
    let node = node();
    let mut window = over(&node);
    let patterns = [
        ">".repeat(60_000),
        "- ".repeat(30_000),
        "[a](b) ".repeat(8_000),
        "**a *b ".repeat(8_000),
        "word ".repeat(12_000),
        "![](photo:0)\n\n".repeat(4_000),
        "a\n\n".repeat(20_000),
        "W".repeat(60_000),
        "<b>".repeat(20_000),
    ];
    for (seq, text) in (1..).zip(&patterns) {
        let mut hostile = article(seq, "Hostile", text);
        hostile.photos = vec![photo(1)];
        reading(&node, &mut window, &hostile);
        let started = Instant::now();
        for _ in 0..10 {
            window.step();
        }
        let frame = started.elapsed() / 10;
        // A development build, and the tree of a screen reader on top.
        assert!(frame < Duration::from_millis(60), "{frame:?} a frame: {}", &text[..10]);
        window.key_press(Key::Escape);
        window.run();
        window.key_press(Key::Escape);
        window.run();
    }
}

#[test]
fn an_article_is_written_previewed_and_stays_until_it_is_published() {
    let node = node();
    let mut window = over(&node);
    click(&mut window, "My bakery");
    show(&node, Press { listed: Some(listed(OWN, &[])), ..press() });
    window.run();
    assert!(has(&window, words::first_article()));
    click(&mut window, words::write());
    click(&mut window, words::publish());
    assert!(asked(&node).is_empty(), "an article has a title");
    write(&mut window, words::article_title(), "New oven");
    write(&mut window, words::article_text(), "It is **hot**. See [it](https://oven.example).");
    click(&mut window, words::preview());
    assert!(has(&window, "It is hot."));
    click(&mut window, "it");
    assert!(has(&window, "https://oven.example"));
    click(&mut window, words::close());
    window.key_press(Key::Escape);
    window.run();
    // It is kept while one looks at something else.
    click(&mut window, words::later());
    click(&mut window, words::go_on());
    assert_eq!(field(&window, words::article_title()).value().as_deref(), Some("New oven"));
    field(&window, words::article_text()).focus();
    window.run();
    window.key_press_modifiers(Modifiers::COMMAND, Key::Enter);
    window.run();
    let sent = asked(&node);
    let [(ticket, Feeds::Publish { feed: OWN, title, text, photos })] = &sent[..] else {
        panic!("{sent:?}");
    };
    assert_eq!((title.as_str(), photos.len()), ("New oven", 0));
    assert!(text.starts_with("It is **hot**."));
    click(&mut window, words::publishing());
    assert!(asked(&node).is_empty(), "once");
    node.answer(*ticket, Err("no"));
    window.run();
    assert_eq!(field(&window, words::article_title()).value().as_deref(), Some("New oven"));
    click(&mut window, words::publish());
    let ticket = asked(&node)[0].0;
    let message = MessageId { device: DeviceId([1; 32]), seq: 1 };
    node.answer(ticket, Ok(Reply::Message { topic: OWN, message }));
    window.run();
    assert!(has(&window, words::write()) && !has(&window, words::go_on()));
}

#[test]
fn texts_that_are_too_long_are_told_before_they_are_published() {
    let node = node();
    let mut window = over(&node);
    click(&mut window, "My bakery");
    show(&node, Press { listed: Some(listed(OWN, &[])), ..press() });
    click(&mut window, words::write());
    write(&mut window, words::article_title(), &"茶".repeat(86));
    assert!(has(&window, words::too_long()));
    click(&mut window, words::publish());
    assert!(asked(&node).is_empty());
}

#[test]
fn an_account_is_opened_named_anew_and_its_link_shown() {
    let node = node();
    let mut window = over(&node);
    click(&mut window, words::new());
    write(&mut window, words::name(), "Tea news");
    write(&mut window, words::about(), "Leaves and water");
    click(&mut window, words::is_service());
    click(&mut window, words::create());
    let sent = asked(&node);
    let [(ticket, Feeds::Create { name, about, service: true })] = &sent[..] else {
        panic!("{sent:?}");
    };
    assert_eq!((name.as_str(), about.as_str()), ("Tea news", "Leaves and water"));
    let made = TopicId([60; 32]);
    node.answer(*ticket, Ok(Reply::Topic { topic: made }));
    window.run();
    // It is shown as soon as the model has it.
    let news = Feed { mine: true, service: true, ..feed(made, "Tea news") };
    let feeds = feed_rows(&[news], NOW, &Zone::utc());
    let automatic = Some(Automatic { text: "Tonight".into(), device: DeviceId([1; 32]) });
    let listed = Some(listed(made, &[]));
    show(&node, Press { feeds, listed, automatic, ..Press::default() });
    window.run();
    assert!(has(&window, words::service()));

    click(&mut window, words::link());
    assert!(asked(&node).is_empty(), "a link is made when somebody says so");
    click(&mut window, words::link_show());
    let ticket = match &asked(&node)[..] {
        [(ticket, Feeds::Share { .. })] => *ticket,
        other => panic!("{other:?}"),
    };
    node.answer(ticket, Ok(Reply::Link { link: "teahouse:feed/abc".into() }));
    window.run();
    assert!(has(&window, words::link_qr()) && has(&window, "teahouse:feed/abc"));
    click(&mut window, words::back());

    click(&mut window, words::describe());
    assert_eq!(field(&window, words::name()).value().as_deref(), Some("Tea news"));
    write(&mut window, words::name(), "!");
    click(&mut window, words::save());
    let sent = asked(&node);
    let [(ticket, Feeds::Describe { feed, name, service: true, .. })] = &sent[..] else {
        panic!("{sent:?}");
    };
    assert_eq!((*feed, name.as_str()), (made, "Tea news!"));
    node.answer(*ticket, Ok(Reply::Done));
    window.run();

    click(&mut window, words::replies());
    assert!(has(&window, words::replies_are_on()));
    click(&mut window, words::replies_off());
    let off = node.commands();
    assert!(matches!(off[..], [(_, Command::Replies(Replies::Off))]), "{off:?}");
}

#[test]
fn a_link_is_followed_and_an_account_left_after_a_question() {
    let node = node();
    let mut window = over(&node);
    write(&mut window, words::follow_link(), " teahouse:feed/ab\ncd ");
    click(&mut window, words::follow());
    let sent = asked(&node);
    let [(ticket, Feeds::Follow { link })] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(link, "teahouse:feed/abcd");
    node.answer(*ticket, Err("this link is no feed"));
    window.run();
    assert!(has(&window, "this link is no feed"));
    assert!(field(&window, words::follow_link()).value().is_some_and(|l| !l.is_empty()));
    click(&mut window, words::follow());
    let ticket = asked(&node)[0].0;
    node.answer(ticket, Ok(Reply::Topic { topic: AWAY }));
    window.run();
    assert!(has(&window, words::nobody_met()));
    assert_eq!(field(&window, words::follow_link()).value().as_deref(), Some(""));
    click(&mut window, words::unfollow());
    assert!(asked(&node).is_empty(), "asked first");
    assert!(has(&window, words::unfollow_how()));
    window.get_all_by_label(words::unfollow()).last().unwrap().click();
    window.run();
    assert!(matches!(asked(&node)[..], [(_, Feeds::Unfollow { feed: AWAY })]));
}

#[test]
fn who_follows_nothing_is_told_how() {
    let node = node();
    show(&node, Press::default());
    let mut window = window(&node, [640.0, 420.0]);
    window.run();
    open(&mut window);
    assert!(has(&window, words::empty()) && has(&window, words::empty_how()));
}

#[test]
fn an_idle_page_draws_nothing() {
    let node = node();
    let mut window = over(&node);
    reading(&node, &mut window, &article(1, "Rain", "It *rains* [here](https://a.example)."));
    window.run();
    for _ in 0..3 {
        window.step();
        let output = window.output().viewport_output.values().next().unwrap();
        assert!(output.repaint_delay > Duration::from_secs(1), "an idle window draws");
    }
}

/// Ann publishes; Bob, whom she does not know, follows by her link, and reads.
#[test]
fn an_article_is_published_followed_and_read() {
    let street = Street::new();
    let mut ann = Person::new(&street, "Ann").window();
    let mut bob = Person::new(&street, "Bob").window();
    for window in [&mut ann, &mut bob] {
        window.input_mut().focused = true;
        wait(window, words::title());
        open(window);
        wait(window, words::empty());
    }
    click(&mut ann, words::new());
    write(&mut ann, words::name(), "Morning paper");
    write(&mut ann, words::about(), "What happens in our street");
    click(&mut ann, words::create());
    wait(&mut ann, words::write());
    wait(&mut ann, words::first_article());
    click(&mut ann, words::write());
    write(&mut ann, words::article_title(), "Rain at last");
    write(&mut ann, words::article_text(), "It *rains*: **buckets**.\n\n- cats\n- dogs 狗\n");
    click(&mut ann, words::publish());
    wait(&mut ann, words::end());
    gone(&mut ann, words::first_article());

    click(&mut ann, words::link());
    click(&mut ann, words::link_show());
    wait(&mut ann, words::link_qr());
    let link = ann.get_by_label_contains("teahouse:feed/");
    let link = link.accesskit_node().label().or(link.accesskit_node().value()).unwrap();
    click(&mut ann, words::back());

    write(&mut bob, words::follow_link(), &link);
    click(&mut bob, words::follow());
    wait(&mut bob, "What happens in our street");
    wait(&mut bob, &words::published_by("Ann"));
    wait(&mut bob, words::end());
    click(&mut bob, "Rain at last");
    wait(&mut bob, "It rains: buckets.");
    assert!(has(&bob, "dogs 狗") && !has(&bob, words::delete()), "Bob's screen");
    click(&mut bob, words::back());

    // What comes later is new until it is seen, on whatever page Bob is.
    click(&mut bob, strings::rail_me());
    click(&mut ann, words::write());
    write(&mut ann, words::article_title(), "Sun again");
    click(&mut ann, words::publish());
    wait(&mut ann, "Sun again");
    let badge = strings::with_unread(words::title(), 1);
    until(&mut bob, "a badge", |w| w.query_by_label(&badge).is_some());
    open(&mut bob);
    wait(&mut bob, "Sun again");
    until(&mut bob, "no badge", |w| w.query_by_label(&badge).is_none());

    // Taken back.
    wait(&mut ann, words::end());
    ann.run();
    let newest = ann.get_all_by_label("Sun again").last().unwrap();
    newest.click();
    ann.run();
    wait(&mut ann, words::delete());
    click(&mut ann, words::delete());
    click(&mut ann, words::delete_what());
    wait(&mut ann, words::taken_back());
    gone(&mut bob, "Sun again");
    assert!(has(&bob, "Rain at last"));
    click(&mut bob, words::unfollow());
    bob.get_all_by_label(words::unfollow()).last().unwrap().click();
    bob.run();
    wait(&mut bob, words::empty());
}
