//! Moments in the window: over a made-up node what the page does, and over real ones, with a
//! relay between, what reaches whom.

mod common;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use common::made_up::{self, CHEN, MEI, MINUTE, MadeUp, NOW, WITH_MEI, full};
use common::people::{Person, Street};
use common::{Window, click, field, has, until, wait, window, write};
use egui::{Key, Modifiers};
use egui_kittest::kittest::Queryable as _;
use teahouse_app::bridge::Action;
use teahouse_app::pages::Shared;
use teahouse_app::pages::moments::pictures::Picture;
use teahouse_app::pages::moments::vm::{Ask, Feed, PAGE, cards};
use teahouse_app::pages::moments::words;
use teahouse_app::strings;
use teahouse_app::vm::Zone;
use teahouse_node::core::command::{Command, MessageId, Reply};
use teahouse_node::core::moments::query::{Comment, Person as Who, Post};
use teahouse_node::core::moments::{Audience, Command as Moment};
use teahouse_node::core::view::{Blob, Photo};
use teahouse_node::protocols::ids::{AccountId, DeviceId, TopicId};

fn open(window: &mut Window) {
    window.input_mut().focused = true;
    window.get_all_by_label_contains(words::title()).next().expect("on the rail").click();
    window.run();
}

const FROM_MEI: TopicId = TopicId([31; 32]);

fn post(seq: u64, account: AccountId, text: &str) -> Post {
    Post {
        topic: FROM_MEI,
        id: MessageId { device: DeviceId(account.0), seq },
        account,
        name: if account == MEI { "Mei 梅" } else { "Lin" }.into(),
        time: NOW - seq * 7 * MINUTE,
        text: Some(text.into()),
        photos: Vec::new(),
        mine: account == made_up::ME,
        audience: (account == made_up::ME).then_some(Audience::Friends),
        likes: Vec::new(),
        liked: false,
        comments: Vec::new(),
    }
}

fn comment(seq: u64, account: AccountId, text: &str) -> Comment {
    let name = if account == CHEN { "Chen" } else { "Lin" };
    Comment {
        topic: TopicId(account.0),
        id: MessageId { device: DeviceId(account.0), seq },
        by: Who { account, name: name.into() },
        time: NOW - MINUTE,
        text: text.into(),
        answers: None,
        mine: account == made_up::ME,
    }
}

fn feed(posts: &[Post]) -> Feed {
    let named = [(MEI, "Mei 梅".to_owned())].into();
    Feed {
        posts: cards(posts, &named, NOW, &Zone::utc()),
        limit: PAGE,
        more: false,
        pictures: BTreeMap::new(),
    }
}

fn show(node: &MadeUp, feed: Feed) {
    node.change(|m| {
        m.pages.insert("moments", Ok(Shared::new(feed)));
    });
}

fn node_with(posts: &[Post]) -> MadeUp {
    let node = MadeUp::new(full(WITH_MEI));
    show(&node, feed(posts));
    node
}

/// Commands to Moments since the last call.
fn asked(node: &MadeUp) -> Vec<(u64, Moment)> {
    let only = |(ticket, command)| match command {
        Command::Moments(m) => Some((ticket, m)),
        _ => None,
    };
    node.commands().into_iter().filter_map(only).collect()
}

fn choose_audience(window: &mut Window, now: &str, kind: &str, who: &[&str]) {
    click(window, &words::shown_to_whom(now));
    click(window, kind);
    for name in who {
        click(window, name);
    }
    click(window, words::audience_done());
}

#[test]
fn a_post_is_written_for_whom_one_chooses_and_stays_until_it_is_durable() {
    let node = node_with(&[]);
    let mut window = window(&node, [1100.0, 720.0]);
    open(&mut window);
    assert!(has(&window, words::empty()));
    click(&mut window, words::write());
    write(&mut window, words::text(), "Tea 茶");
    choose_audience(&mut window, words::all(), words::except(), &["Chen"]);
    let except = words::except_names("Chen");
    // Leaving the page takes nothing away.
    click(&mut window, strings::rail_me());
    open(&mut window);
    assert_eq!(field(&window, words::text()).value().as_deref(), Some("Tea 茶"));
    assert!(has(&window, &words::shown_to_whom(&except)));
    field(&window, words::text()).focus();
    window.run();
    window.key_press_modifiers(Modifiers::COMMAND, Key::Enter);
    window.run();
    let posts = asked(&node);
    let [(ticket, Moment::Post { text, photos, audience })] = posts.as_slice() else {
        panic!("{posts:?}");
    };
    assert_eq!((text.as_str(), photos.len()), ("Tea 茶", 0));
    assert_eq!(*audience, Audience::Except(vec![CHEN]));
    click(&mut window, words::posting());
    assert!(asked(&node).is_empty(), "once");
    node.answer(*ticket, Err("no"));
    window.run();
    assert_eq!(field(&window, words::text()).value().as_deref(), Some("Tea 茶"), "refused");
    click(&mut window, words::post());
    let ticket = asked(&node)[0].0;
    let message = MessageId { device: DeviceId([1; 32]), seq: 1 };
    node.answer(ticket, Ok(Reply::Message { topic: FROM_MEI, message }));
    window.run();
    assert!(!has(&window, words::posting()) && has(&window, words::write()));

    // The next one is for all again, unless somebody says so.
    click(&mut window, words::write());
    choose_audience(&mut window, words::all(), words::nobody(), &[]);
    write(&mut window, words::text(), "for me");
    click(&mut window, words::post());
    let posts = asked(&node);
    assert!(matches!(&posts[0].1,
        Moment::Post { audience: Audience::Only(who), .. } if who.is_empty()));
}

#[test]
fn some_friends_means_at_least_one_and_escape_goes_back() {
    let node = node_with(&[]);
    let mut window = window(&node, [760.0, 520.0]);
    open(&mut window);
    window.key_press_modifiers(Modifiers::COMMAND, Key::N);
    window.run();
    click(&mut window, &words::shown_to_whom(words::all()));
    click(&mut window, words::only());
    click(&mut window, words::audience_done());
    assert!(has(&window, words::audience_title()), "nobody was chosen");
    write(&mut window, words::search(), "che");
    assert!(window.query_by_label("Mei 梅").is_none());
    click(&mut window, "Chen");
    window.key_press(Key::Escape);
    window.run();
    assert!(!has(&window, words::audience_title()));
    assert!(has(&window, &words::shown_to_whom(words::all())), "as before");
    choose_audience(&mut window, words::all(), words::only(), &["Mei 梅", "Chen"]);
    assert!(has(&window, &words::shown_to_whom(&words::only_names("Mei 梅, Chen"))));
    window.key_press(Key::Escape);
    window.run();
    assert!(!has(&window, words::shown_to()), "the composer is folded away");
    window.key_press(Key::Escape);
    window.run();
    assert!(has(&window, strings::conversation_none()), "and then the page");
}

#[test]
fn texts_that_are_too_long_are_told_before_they_are_sent() {
    let node = node_with(&[post(1, MEI, "hello")]);
    let mut window = window(&node, [1100.0, 720.0]);
    open(&mut window);
    click(&mut window, words::write());
    write(&mut window, words::text(), &"a".repeat(16 * 1024 - 10));
    assert!(has(&window, &words::left(10)));
    field(&window, words::text()).type_text(&"b".repeat(11));
    window.run();
    assert!(has(&window, words::too_long()));
    click(&mut window, words::post());
    assert!(asked(&node).is_empty());
    click(&mut window, words::close());
    click(&mut window, &words::doing(words::comment(), "Mei 梅"));
    write(&mut window, words::comment_hint(), &"茶".repeat(342));
    assert!(has(&window, words::too_long()));
    window.key_press(Key::Enter);
    window.run();
    assert!(asked(&node).is_empty());
}

#[test]
fn posts_are_liked_commented_on_answered_and_taken_back() {
    let mut own = post(2, made_up::ME, "mine");
    own.audience = Some(Audience::Only(vec![MEI]));
    let mut of_mei = post(1, MEI, "hello");
    of_mei.likes = vec![Who { account: CHEN, name: "Chen".into() }];
    of_mei.comments = vec![comment(4, CHEN, "first"), comment(5, made_up::ME, "second")];
    let node = node_with(&[of_mei, own]);
    let mut window = window(&node, [1100.0, 900.0]);
    open(&mut window);
    assert!(has(&window, &words::liked_by("Chen")));
    assert!(has(&window, &words::only_names("Mei 梅")));
    click(&mut window, &words::doing(words::like(), "Mei 梅"));
    assert!(matches!(asked(&node).as_slice(), [(_, Moment::Like { on: true, .. })]));

    click(&mut window, "Chen: first");
    let answer = words::reply_to("Chen");
    write(&mut window, &answer, " indeed ");
    window.key_press(Key::Enter);
    window.run();
    let sent = asked(&node);
    let [(ticket, Moment::Comment { text, reply_to, .. })] = sent.as_slice() else {
        panic!("{sent:?}");
    };
    assert_eq!(text, "indeed");
    assert_eq!(*reply_to, Some((TopicId(CHEN.0), comment(4, CHEN, "").id)));
    node.answer(*ticket, Err("no"));
    window.run();
    assert_eq!(field(&window, &answer).value().as_deref(), Some(" indeed "), "refused");
    field(&window, &answer).focus();
    window.run();
    window.key_press(Key::Enter);
    window.run();
    let ticket = asked(&node)[0].0;
    node.answer(ticket, Ok(Reply::Done));
    window.run();
    assert!(window.query_by_label(&answer).is_none(), "done");

    click(&mut window, "Lin: second");
    assert!(asked(&node).is_empty(), "asked first");
    click(&mut window, words::delete_comment());
    assert!(matches!(asked(&node).as_slice(),
        [(_, Moment::Delete { topic, .. })] if *topic == TopicId(made_up::ME.0)));
    click(&mut window, words::delete_post());
    window.get_all_by_label(words::delete_post()).last().unwrap().click();
    window.run();
    assert!(matches!(asked(&node).as_slice(),
        [(_, Moment::Delete { topic, .. })] if *topic == FROM_MEI));
}

#[test]
fn long_texts_and_many_comments_are_folded() {
    let mut long = post(1, MEI, &format!("{}the end", "words and more words\n".repeat(40)));
    long.comments = (0..100).map(|i| comment(i, CHEN, &format!("number {i}"))).collect();
    let node = node_with(&[long]);
    let mut window = window(&node, [1100.0, 1600.0]);
    open(&mut window);
    assert!(!has(&window, "the end"));
    click(&mut window, &words::doing(words::more(), "Mei 梅"));
    assert!(has(&window, "the end"));
    click(&mut window, &words::doing(words::less(), "Mei 梅"));
    assert!(!has(&window, "the end"));
    assert!(has(&window, "Chen: number 94") && !has(&window, "Chen: number 93"));
    click(&mut window, &words::doing(&words::earlier(94), "Mei 梅"));
    assert!(has(&window, "Chen: number 90"));
}

#[test]
fn what_is_missing_is_told_and_photos_are_shown() {
    let mut waiting = post(1, MEI, "");
    waiting.text = None;
    let photo = |n: u8, here: bool| Photo {
        photo: teahouse_node::protocols::photo::Photo {
            hash: [n; 32],
            key: [0; 32],
            size: 1,
            width: 640,
            height: 480,
        },
        preview: here.then(|| Blob(vec![n])),
    };
    // A picture is known by its preview's bytes.
    let name = |n: u8| *blake3::hash(&[n]).as_bytes();
    let mut many = post(2, MEI, "many");
    many.photos = (0..9).map(|n| photo(n, n > 1)).collect();
    let mut one = post(3, MEI, "one");
    one.photos = vec![photo(50, true)];
    let node = node_with(&[waiting.clone(), many.clone(), one.clone()]);
    let mut window = window(&node, [1100.0, 1400.0]);
    open(&mut window);
    assert!(has(&window, words::pending()));
    assert_eq!(window.query_all_by_label(words::photo_waiting()).count(), 2);
    // The bridge is told what is on the screen, and decodes that.
    let near = |node: &MadeUp| {
        let ask = |a: &Action| match a {
            Action::Page { page: "moments", ask } => ask.get::<Ask>(),
            _ => None,
        };
        node.0.borrow().actions.iter().rev().find_map(ask).expect("asked").near
    };
    assert_eq!(near(&node).0, 0);
    assert!(near(&node).1 >= 3);
    let mut feed = feed(&[waiting, many, one]);
    let pixels = egui::ColorImage::filled([40, 30], egui::Color32::RED);
    let pixels = std::sync::Arc::new(pixels);
    for n in (3..9).chain([50]) {
        feed.pictures.insert(name(n), Picture::Shown(std::sync::Arc::clone(&pixels)));
    }
    feed.pictures.insert(name(2), Picture::Broken);
    show(&node, feed);
    window.run();
    assert_eq!(window.query_all_by_label(words::photo()).count(), 7);
    assert_eq!(window.query_all_by_label(words::photo_broken()).count(), 1);
}

#[test]
fn only_what_is_near_is_laid_out_and_older_posts_are_asked_for_once() {
    let many: Vec<_> = (1..=100)
        .map(|i| {
            let mut p = post(i, MEI, &"words and more words ".repeat(1 + i as usize % 17));
            p.comments = (0..100).map(|n| comment(1_000 * i + n, CHEN, "yes, indeed")).collect();
            p
        })
        .collect();
    let node = node_with(&many);
    let mut longer = feed(&many);
    longer.more = true;
    show(&node, longer);
    let mut window = window(&node, [1100.0, 720.0]);
    open(&mut window);
    let likes = |w: &Window| w.query_all_by_label(&words::doing(words::like(), "Mei 梅")).count();
    assert!((1..8).contains(&likes(&window)), "{}", likes(&window));
    let started = Instant::now();
    for _ in 0..20 {
        window.step();
    }
    let frame = started.elapsed() / 20;
    // A development build, and the tree of a screen reader on top: some 3 ms.
    assert!(frame < Duration::from_millis(40), "{frame:?} a frame");

    let limits = |node: &MadeUp| -> Vec<usize> {
        let ask = |a: &Action| match a {
            Action::Page { ask, .. } => ask.get::<Ask>().map(|a| a.limit),
            _ => None,
        };
        let mut all: Vec<_> = node.0.borrow().actions.iter().filter_map(ask).collect();
        all.dedup();
        all
    };
    window.hover_at(window.ctx.content_rect().center());
    for _ in 0..60 {
        window.event(egui::Event::MouseWheel {
            unit: egui::MouseWheelUnit::Point,
            delta: egui::vec2(0.0, -4_000.0),
            phase: egui::TouchPhase::Move,
            source: egui::MouseWheelSource::Wheel,
            modifiers: Modifiers::NONE,
        });
        window.step();
    }
    window.run_steps(20);
    assert_eq!(limits(&node).last(), Some(&(2 * PAGE)), "{:?}", limits(&node));
    assert!(has(&window, words::loading_older()));
    assert!((1..8).contains(&likes(&window)), "{}", likes(&window));
}

#[test]
fn what_is_read_stays_in_its_place_and_new_posts_are_counted() {
    let some: Vec<_> = (10..60).map(|i| post(i, MEI, &format!("post {i}."))).collect();
    let node = node_with(&some);
    let mut window = window(&node, [1100.0, 720.0]);
    assert!(window.query_by_label(&strings::with_unread(words::title(), 50)).is_none());
    open(&mut window);
    window.hover_at(window.ctx.content_rect().center());
    for _ in 0..10 {
        window.event(egui::Event::MouseWheel {
            unit: egui::MouseWheelUnit::Point,
            delta: egui::vec2(0.0, -100.0),
            phase: egui::TouchPhase::Move,
            source: egui::MouseWheelSource::Wheel,
            modifiers: Modifiers::NONE,
        });
        window.step();
    }
    window.run_steps(20);
    let place = |w: &Window| w.get_by_label("post 18.").rect().top();
    let before = place(&window);
    let mut more = vec![post(8, MEI, &"new ".repeat(90)), post(9, made_up::ME, "own")];
    more.extend(some);
    show(&node, feed(&more));
    window.run();
    assert!((place(&window) - before).abs() < 2.0, "{before} {}", place(&window));
    assert!(window.query_by_label(&strings::with_unread(words::title(), 1)).is_none(), "seen");

    click(&mut window, strings::rail_me());
    more.insert(0, post(7, MEI, "newer"));
    more.insert(0, post(6, made_up::ME, "own again"));
    more.truncate(40);
    more.push(post(99, MEI, "older, come late"));
    show(&node, feed(&more));
    window.run();
    click(&mut window, &strings::with_unread(words::title(), 1));
    window.run();
    assert!(window.query_by_label(&strings::with_unread(words::title(), 1)).is_none());
}

#[test]
fn an_idle_page_draws_nothing() {
    let node = node_with(&[post(1, MEI, "hello"), post(2, made_up::ME, "mine")]);
    let mut window = window(&node, [1100.0, 720.0]);
    open(&mut window);
    window.run();
    for _ in 0..3 {
        window.step();
        let output = window.output().viewport_output.values().next().unwrap();
        assert!(output.repaint_delay > Duration::from_secs(1), "an idle window draws");
    }
}

#[test]
fn who_has_no_friends_is_told_how() {
    let node = node_with(&[]);
    node.change(|m| m.contacts = [].into());
    let mut window = window(&node, [640.0, 420.0]);
    open(&mut window);
    click(&mut window, words::add_friend());
    assert!(window.query_by_label(strings::contacts_link()).is_some());
    window.key_press(Key::Escape);
    window.run();
    click(&mut window, words::show_card());
    assert!(has(&window, strings::me_card()));
}

/// Lin knows Mei and Bob; Mei and Bob don't know each other.
#[test]
fn posts_and_words_reach_whom_they_are_for_and_nobody_else() {
    let street = Street::new();
    let mut lin = Person::new(&street, "Lin");
    let mut mei = Person::new(&street, "Mei");
    let mut bob = Person::new(&street, "Bob");
    lin.befriend(&mut mei);
    lin.befriend(&mut bob);
    let (mut lin, mut mei, mut bob) = (lin.window(), mei.window(), bob.window());
    for window in [&mut lin, &mut mei, &mut bob] {
        wait(window, words::title());
        open(window);
    }
    // To all friends.
    wait(&mut lin, words::write());
    click(&mut lin, words::write());
    write(&mut lin, words::text(), "The plum tree blossoms 梅花开了");
    click(&mut lin, words::post());
    wait(&mut lin, "梅花开了");
    wait(&mut lin, words::delete_post());
    wait(&mut mei, "梅花开了");
    wait(&mut bob, "梅花开了");
    assert!(!has(&mei, words::delete_post()) && !has(&mei, words::all()), "Mei's screen");

    // Words: Bob is not Mei's friend.
    click(&mut mei, &words::doing(words::like(), "Lin"));
    wait(&mut mei, words::liked());
    click(&mut mei, &words::doing(words::comment(), "Lin"));
    write(&mut mei, words::comment_hint(), "How lovely");
    mei.key_press(Key::Enter);
    wait(&mut mei, "Mei: How lovely");
    wait(&mut lin, "Mei: How lovely");
    wait(&mut lin, &words::liked_by("Mei"));
    click(&mut lin, "Mei: How lovely");
    write(&mut lin, &words::reply_to("Mei"), "Come and see!");
    lin.key_press(Key::Enter);
    wait(&mut lin, &words::replies("Lin", "Mei"));
    wait(&mut mei, &words::replies("Lin", "Mei"));

    // Except Bob.
    wait(&mut lin, words::write());
    click(&mut lin, words::write());
    write(&mut lin, words::text(), "A surprise for Bob");
    choose_audience(&mut lin, words::all(), words::except(), &["Bob"]);
    click(&mut lin, words::post());
    wait(&mut lin, words::write());
    wait(&mut lin, &words::except_names("Bob"));
    wait(&mut mei, "A surprise for Bob");
    // What comes later has come, so that is not to come any more.
    click(&mut lin, words::write());
    write(&mut lin, words::text(), "Good night");
    click(&mut lin, words::post());
    wait(&mut bob, "Good night");
    bob.run();
    assert!(!has(&bob, "surprise"), "Bob's screen");
    assert!(!has(&bob, "How lovely") && !has(&bob, &words::liked_by("Mei")), "Bob's screen");

    wait(&mut mei, "Good night");
    // Taken back: a like, a comment, a post.
    click(&mut mei, &words::doing(words::liked(), "Lin"));
    for window in [&mut mei, &mut lin] {
        until(window, "no like", |w| !has(w, &words::liked_by("Mei")));
    }
    click(&mut mei, "Mei: How lovely");
    click(&mut mei, words::delete_comment());
    until(&mut lin, "no comment", |w| !has(w, "Mei: How lovely"));
    lin.run();
    let oldest = lin.get_all_by_label(words::delete_post()).last().unwrap();
    oldest.click();
    lin.run();
    lin.get_all_by_label(words::delete_post()).last().unwrap().click();
    lin.run();
    until(&mut lin, "no post", |w| !has(w, "梅花开了"));
    until(&mut mei, "no post", |w| !has(w, "梅花开了"));
    until(&mut bob, "no post", |w| !has(w, "梅花开了"));
}
