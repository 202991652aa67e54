//! The window, driven through its accessibility tree as a screen reader would, over a
//! made-up node. The harness itself fails on controls without a name and on letters that no
//! font has.

mod common;

use common::made_up::{
    self, CHEN, MEI, MINUTE, MadeUp, NOW, WALK, WITH_MEI, chat, chats, conversation, full, message,
    nobody, talk,
};
use common::{Window, click, field, wait, window, window_of, write};
use egui::{Event, ImeEvent, Key, Modifiers};
use egui_kittest::kittest::Queryable as _;
use teahouse_app::bridge::{Action, Bridge, Source};
use teahouse_app::shell::{Shell, Tour};
use teahouse_app::strings;
use teahouse_node::NodeConfig;
use teahouse_node::core::command::{Chat, Command, Contacts, Devices, Groups, Relays, Reply};
use teahouse_node::core::view;
use teahouse_node::protocols::ids::TopicId;
use teahouse_node::protocols::membership;

fn over(node: &MadeUp) -> Window {
    window(node, [1100.0, 720.0])
}

fn open(window: &mut Window, title: &str) {
    window.get_by_label_contains(title).click();
    window.run();
}

/// Turns the mouse's wheel; positive scrolls up.
fn wheel(window: &mut Window, points: f32) {
    window.event(Event::MouseWheel {
        unit: egui::MouseWheelUnit::Point,
        delta: egui::vec2(0.0, points),
        phase: egui::TouchPhase::Move,
        source: egui::MouseWheelSource::Wheel,
        modifiers: Modifiers::NONE,
    });
    window.step();
}

fn sent(node: &MadeUp) -> Vec<(u64, String)> {
    node.commands()
        .into_iter()
        .filter_map(|(ticket, command)| match command {
            Command::Chat(Chat::Send { text, .. }) => Some((ticket, text)),
            _ => None,
        })
        .collect()
}

#[test]
fn an_account_is_created_and_its_words_are_shown_until_written_down() {
    let node = MadeUp::new(nobody());
    let mut window = over(&node);
    write(&mut window, strings::welcome_name(), "Lin 林");
    click(&mut window, strings::welcome_create());
    let commands = node.commands();
    let [(ticket, Command::Devices(Devices::Create { name, .. }))] = commands.as_slice() else {
        panic!("{commands:?}");
    };
    assert_eq!(name, "Lin 林");
    // Asked once, however often the button is hit meanwhile.
    click(&mut window, strings::welcome_creating());
    assert!(node.commands().is_empty());

    let words = ["abandon"; 23].join(" ") + " art";
    node.answer(*ticket, Ok(Reply::Created { account: made_up::ME, words }));
    node.set(full(WITH_MEI));
    window.run();
    window.get_by_label("24 art");
    window.key_press(Key::Escape);
    window.run();
    window.get_by_label("24 art");
    click(&mut window, strings::words_done());
    assert!(window.query_by_label("24 art").is_none());
    window.get_by_label_contains("Mei");
}

#[test]
fn a_device_is_linked_and_a_failure_told() {
    let node = MadeUp::new(nobody());
    let mut window = over(&node);
    write(&mut window, strings::welcome_link_field(), " teahouse:pair/abc\n");
    click(&mut window, strings::welcome_link_button());
    let commands = node.commands();
    assert!(matches!(commands.as_slice(),
        [(_, Command::Devices(Devices::LinkJoin { code, .. }))] if code == "teahouse:pair/abc"));
    node.change(|m| m.linking = Some(view::Linking::Compare { digits: "421907".into() }));
    window.run();
    window.get_by_label("421 907");
    node.change(|m| m.linking = Some(view::Linking::Failed { why: "it took too long".into() }));
    window.run();
    window.get_by_label_contains("it took too long");
}

#[test]
fn the_town_is_asked_for() {
    let node = MadeUp::new(nobody());
    let mut window = over(&node);
    click(&mut window, strings::welcome_look_button());
    assert!(node.0.borrow().actions.iter().any(|a| matches!(a, Action::Town)));
}

#[test]
fn enter_sends_once_and_shift_enter_breaks_the_line() {
    let node = MadeUp::new(full(WITH_MEI));
    let mut window = over(&node);
    open(&mut window, "Mei");
    write(&mut window, strings::compose_hint(), "one");
    window.key_press_modifiers(Modifiers::SHIFT, Key::Enter);
    window.run();
    assert!(sent(&node).is_empty());
    field(&window, strings::compose_hint()).type_text("two");
    window.key_press(Key::Enter);
    window.run();
    assert_eq!(sent(&node).iter().map(|(_, t)| t.as_str()).collect::<Vec<_>>(), ["one\ntwo"]);
    // The field is empty and still focused: nothing more goes.
    window.key_press(Key::Enter);
    window.run();
    assert!(sent(&node).is_empty());
}

#[test]
fn enter_that_chooses_a_word_sends_nothing() {
    let node = MadeUp::new(full(WITH_MEI));
    let mut window = over(&node);
    open(&mut window, "Mei");
    field(&window, strings::compose_hint()).focus();
    window.run();
    let preedit =
        |text: &str| Event::Ime(ImeEvent::Preedit { text: text.into(), active_range_chars: None });
    let enter = |pressed| Event::Key {
        key: Key::Enter,
        physical_key: None,
        pressed,
        repeat: false,
        modifiers: Modifiers::NONE,
    };
    window.event(preedit("ni hao"));
    window.run();
    window.key_press(Key::Enter);
    window.run();
    assert!(sent(&node).is_empty(), "while composing");
    // Some platforms deliver the Enter that ends a composition in the same frame.
    window.input_mut().events.push(Event::Ime(ImeEvent::Commit("你好".into())));
    window.input_mut().events.push(enter(true));
    window.step();
    window.event(enter(false));
    window.run();
    assert!(sent(&node).is_empty(), "while committing");
    window.key_press(Key::Enter);
    window.run();
    assert_eq!(sent(&node).iter().map(|(_, t)| t.as_str()).collect::<Vec<_>>(), ["你好"]);
}

#[test]
fn a_message_is_shown_as_sending_and_comes_back_when_refused() {
    let node = MadeUp::new(full(WITH_MEI));
    let mut window = over(&node);
    open(&mut window, "Mei");
    write(&mut window, strings::compose_hint(), "hello");
    click(&mut window, strings::compose_send());
    let (ticket, _) = sent(&node)[0];
    window.get_by_label(strings::compose_sending());
    assert!(window.query_all_by_label("hello").count() == 1, "not among the messages");
    write(&mut window, strings::compose_hint(), "more");
    node.answer(ticket, Err("this device was removed from its account"));
    window.run();
    assert!(window.query_by_label(strings::compose_sending()).is_none());
    window.get_by_label("this device was removed from its account");
    let composer = field(&window, strings::compose_hint());
    assert_eq!(composer.value().as_deref(), Some("hello\nmore"));
}

#[test]
fn a_full_queue_is_told_and_loses_nothing() {
    let node = MadeUp::new(full(WITH_MEI));
    let mut window = over(&node);
    open(&mut window, "Mei");
    write(&mut window, strings::compose_hint(), "hello");
    node.0.borrow_mut().full = true;
    click(&mut window, strings::compose_send());
    window.get_by_label(strings::busy());
    assert_eq!(field(&window, strings::compose_hint()).value().as_deref(), Some("hello"));
}

#[test]
fn drafts_are_kept_when_a_chat_is_left() {
    let node = MadeUp::new(full(WITH_MEI));
    let mut window = over(&node);
    open(&mut window, "Mei");
    write(&mut window, strings::compose_hint(), "not yet");
    node.commands();
    open(&mut window, "Sunday walk");
    let drafts: Vec<_> = node.commands();
    assert!(drafts.iter().any(|(_, c)| matches!(c,
        Command::Chat(Chat::Draft { topic, text }) if *topic == WITH_MEI && text == "not yet")));
    // A draft of an earlier day is in the composer.
    let old = TopicId([40; 32]);
    node.change(|m| {
        let all = chats();
        let chat = all.iter().find(|c| c.topic == old).expect("made up above");
        m.conversation = Some(conversation(chat, &[]));
    });
    open(&mut window, "Old Wang");
    let composer = field(&window, strings::compose_hint());
    assert_eq!(composer.value().as_deref(), Some("I will be there at"));
}

#[test]
fn every_kind_of_message_is_told_in_words() {
    let node = MadeUp::new(full(WITH_MEI));
    let mut window = window(&node, [1100.0, 1100.0]);
    open(&mut window, "Mei");
    for words in [
        "Good morning! 早上好！今天天气真好，要不要一起去喝茶？",
        "Yes! 好啊 😀👍",
        strings::message_recalled(),
        strings::message_pending(),
        strings::message_forwarded(),
        strings::yesterday(),
        strings::today(),
    ] {
        assert!(window.query_all_by_label(words).count() > 0, "{words}");
    }
    let delivery = view::Delivery {
        relayed: 1,
        relays: 2,
        delivered: 0,
        recipients: 1,
        read: 0,
        without_relay: 0,
        elsewhere: false,
    };
    assert_eq!(window.query_all_by_label_contains(&delivery.words()).count(), 2);
    assert_eq!(window.query_all_by_label_contains("disappears").count(), 1);
}

#[test]
fn only_visible_messages_are_laid_out() {
    let long: Vec<_> = (0..10_000)
        .map(|i| {
            let text = "words and more words ".repeat(1 + i as usize % 17);
            message(
                i,
                if i % 3 == 0 { made_up::ME } else { MEI },
                NOW - (10_000 - i) * MINUTE,
                &text,
            )
        })
        .collect();
    let with_mei = chat(WITH_MEI, "Mei 梅", Some(MEI));
    let mut model = full(WITH_MEI);
    model.conversation = Some(conversation(&with_mei, &long));
    let node = MadeUp::new(model);
    let mut window = over(&node);
    open(&mut window, "Mei");
    let visible = window.state().visible_messages().unwrap();
    assert_eq!(visible.end, 10_000, "it opens at the newest message");
    assert!((3..40).contains(&visible.len()), "{visible:?}");

    // Scrolled up, what is read stays where it is while messages come.
    let center = window.ctx.content_rect().center();
    window.hover_at(center + egui::vec2(200.0, 0.0));
    for _ in 0..40 {
        wheel(&mut window, 120.0);
    }
    window.run_steps(20);
    let before = window.state().visible_messages().unwrap();
    assert!(before.end < 9_990, "{before:?}");
    let mut longer = long;
    longer.extend((10_000..10_003).map(|i| message(i, MEI, NOW, "new")));
    node.change(|m| m.conversation = Some(conversation(&with_mei, &longer)));
    window.run();
    assert_eq!(window.state().visible_messages().unwrap(), before);
    click(&mut window, &strings::below(3));
    assert_eq!(window.state().visible_messages().unwrap().end, 10_003);
    assert!(window.query_by_label_contains(strings::conversation_bottom()).is_none());
}

#[test]
fn older_messages_are_asked_for_at_the_beginning() {
    let with_mei = chat(WITH_MEI, "Mei 梅", Some(MEI));
    let mut model = full(WITH_MEI);
    let mut some = std::sync::Arc::unwrap_or_clone(conversation(&with_mei, &talk()));
    some.more = true;
    some.messages = (0..30)
        .flat_map(|i| {
            let mut all = some.messages.clone();
            for m in &mut all {
                m.id.seq += 100 * i;
            }
            all
        })
        .take(200)
        .collect();
    model.conversation = Some(some.into());
    let node = MadeUp::new(model);
    let mut window = over(&node);
    open(&mut window, "Mei");
    node.0.borrow_mut().actions.clear();
    let center = window.ctx.content_rect().center();
    window.hover_at(center + egui::vec2(200.0, 0.0));
    for _ in 0..30 {
        wheel(&mut window, 2_000.0);
    }
    window.run_steps(20);
    let asked: Vec<_> = node
        .0
        .borrow()
        .actions
        .iter()
        .filter_map(|a| match a {
            Action::Show { limit, .. } => Some(*limit),
            _ => None,
        })
        .collect();
    assert_eq!(asked.len(), 1, "once, until they come: {asked:?}");
    assert!(asked[0] > 200);
}

#[test]
fn details_and_a_narrow_window_keep_the_end_in_view() {
    let node = MadeUp::new(full(WALK));
    let mut window = over(&node);
    open(&mut window, "Sunday walk");
    click(&mut window, strings::conversation_details());
    assert!(window.query_by_label(strings::conversation_bottom()).is_none());
    assert_eq!(window.state().visible_messages().unwrap().end, talk().len());
    window.set_size(egui::vec2(760.0, 500.0));
    window.run();
    assert!(window.query_by_label(strings::conversation_bottom()).is_none());
    assert_eq!(window.state().visible_messages().unwrap().end, talk().len());
}

#[test]
fn a_chat_on_the_screen_is_marked_as_read_once() {
    let node = MadeUp::new(full(WALK));
    let mut window = over(&node);
    open(&mut window, "Sunday walk");
    window.run();
    let marks = |node: &MadeUp| {
        let marks = |(_, c): &(u64, Command)| matches!(c, Command::Chat(Chat::MarkRead { .. }));
        node.commands().iter().filter(|c| marks(c)).count()
    };
    // The harness's window has no focus at first: nobody looks.
    let unfocused = marks(&node);
    window.input_mut().focused = true;
    window.run();
    assert_eq!(unfocused + marks(&node), 1);
}

#[test]
fn a_message_can_be_answered_reacted_to_and_recalled() {
    let node = MadeUp::new(full(WITH_MEI));
    let mut window = over(&node);
    open(&mut window, "Mei");
    let menu = |window: &mut Window, n: usize| {
        window.get_all_by_label(strings::message_actions()).nth(n).unwrap().click();
        window.run();
    };
    node.commands();
    menu(&mut window, 1);
    click(&mut window, &strings::doing(strings::message_react(), "😂"));
    assert!(matches!(node.commands().as_slice(),
        [(_, Command::Chat(Chat::React { emoji, on: true, .. }))] if emoji == "😂"));
    menu(&mut window, 1);
    click(&mut window, strings::message_reply());
    write(&mut window, strings::compose_hint(), "indeed");
    window.key_press(Key::Enter);
    window.run();
    assert!(
        node.commands()
            .iter()
            .any(|(_, c)| matches!(c, Command::Chat(Chat::Send { reply_to: Some(_), .. })))
    );
    menu(&mut window, 1);
    click(&mut window, strings::message_recall());
    assert!(node.commands().is_empty(), "asked first");
    click(&mut window, strings::message_recall());
    assert!(matches!(node.commands().as_slice(), [(_, Command::Chat(Chat::Recall { .. }))]));
}

#[test]
fn requests_are_answered_and_people_blocked() {
    let node = MadeUp::new(full(WITH_MEI));
    let mut window = over(&node);
    open(&mut window, strings::rail_contacts());
    click(&mut window, "Old Wang");
    window.get_by_label_contains("It's Wang");
    click(&mut window, strings::contact_accept());
    assert!(matches!(
        node.commands().as_slice(),
        [(_, Command::Contacts(Contacts::Accept { .. }))]
    ));
    click(&mut window, strings::contact_block());
    window.get_all_by_label(strings::contact_block()).last().unwrap().click();
    window.run();
    assert!(matches!(node.commands().as_slice(), [(_, Command::Contacts(Contacts::Block { .. }))]));
    click(&mut window, "Mei 梅");
    window.get_by_label_contains("12345 67890");
    click(&mut window, strings::contact_verified());
    assert!(matches!(
        node.commands().as_slice(),
        [(_, Command::Contacts(Contacts::Verify { account: MEI, verified: true }))]
    ));
}

#[test]
fn a_link_is_pasted_whatever_a_mail_program_did_to_it() {
    let node = MadeUp::new(full(WITH_MEI));
    let mut window = over(&node);
    open(&mut window, strings::rail_contacts());
    click(&mut window, strings::contacts_add());
    // What is no link is told where it was typed, and nothing is lost.
    write(&mut window, strings::contacts_link(), "hello world");
    write(&mut window, strings::contacts_greeting(), "It's Lin");
    click(&mut window, strings::contacts_add_button());
    assert!(node.commands().is_empty());
    window.get_by_label_contains("not a teahouse link");
    let real = include_str!("../../protocols/vectors/links.json");
    let real = &real[real.find("teahouse:card/").unwrap()..];
    let real = &real[..real.find('"').unwrap()];
    let (one, other) = real.split_at(60);
    field(&window, strings::contacts_link()).focus();
    window.key_press_modifiers(egui::Modifiers::COMMAND, egui::Key::A);
    window.run();
    write(&mut window, strings::contacts_link(), &format!("{one}\n{other} "));
    click(&mut window, strings::contacts_add_button());
    let commands = node.commands();
    let [(ticket, Command::Contacts(Contacts::Add { link, greeting }))] = commands.as_slice()
    else {
        panic!("{commands:?}");
    };
    assert_eq!((link.as_str(), greeting.as_str()), (real, "It's Lin"));
    node.answer(*ticket, Ok(Reply::Added { account: Some(CHEN), topic: None, relay: None }));
    window.run();
    window.get_by_label(strings::contacts_asked());
}

#[test]
fn a_group_is_made_changed_and_left() {
    let node = MadeUp::new(full(WALK));
    let mut window = over(&node);
    click(&mut window, strings::chats_new_group());
    write(&mut window, strings::group_title(), "Cinema");
    click(&mut window, "Chen");
    click(&mut window, strings::group_create());
    let commands = node.commands();
    assert!(
        matches!(commands.as_slice(), [(_, Command::Groups(Groups::Create { title, members, .. }))]
        if title == "Cinema" && members == &[CHEN]),
        "{commands:?}"
    );
    open(&mut window, "Sunday walk");
    click(&mut window, strings::conversation_details());
    node.commands();
    click(&mut window, &strings::doing(strings::group_remove(), "Chen"));
    click(&mut window, strings::group_remove());
    assert!(matches!(
        node.commands().as_slice(),
        [(_, Command::Groups(Groups::Remove { account: CHEN, .. }))]
    ));
    write(&mut window, strings::group_title(), "!");
    click(&mut window, strings::group_rename());
    assert!(matches!(node.commands().as_slice(), [(_, Command::Groups(Groups::Rename { .. }))]));
    // The only owner names another one first.
    window.get_by_label(strings::group_last_owner());
    click(&mut window, &strings::doing(strings::group_role(), "Chen"));
    window.get_all_by_label(strings::role_owner()).last().unwrap().click();
    window.run();
    assert!(matches!(
        node.commands().as_slice(),
        [(
            _,
            Command::Groups(Groups::SetRole { account: CHEN, role: membership::Role::Owner, .. })
        )]
    ));
    node.change(|m| {
        let mut group = m.conversation.as_deref().unwrap().clone();
        group.members.iter_mut().for_each(|m| m.role = membership::Role::Owner);
        m.conversation = Some(std::sync::Arc::new(group));
    });
    window.run();
    click(&mut window, strings::group_leave());
    window.get_all_by_label(strings::group_leave()).last().unwrap().click();
    window.run();
    assert!(matches!(node.commands().as_slice(), [(_, Command::Groups(Groups::Leave { .. }))]));
}

#[test]
fn my_card_my_devices_my_relays() {
    let node = MadeUp::new(full(WITH_MEI));
    let mut window = over(&node);
    click(&mut window, strings::rail_me());
    let commands = node.commands();
    let [(ticket, Command::Contacts(Contacts::Card { .. }))] = commands.as_slice() else {
        panic!("{commands:?}");
    };
    let link = format!("teahouse:card/{}", "a2".repeat(200));
    node.answer(*ticket, Ok(Reply::Card { link }));
    window.run();
    window.get_by_label(strings::card_qr());
    click(&mut window, strings::card_copy());

    click(&mut window, strings::me_devices());
    click(&mut window, strings::device_link());
    let (ticket, _) = node.commands()[0];
    node.change(|m| m.linking = Some(view::Linking::Waiting));
    node.answer(ticket, Ok(Reply::Code { link: "teahouse:pair/xyz".into() }));
    window.run();
    window.get_by_label("teahouse:pair/xyz");
    node.change(|m| m.linking = Some(view::Linking::Compare { digits: "123456".into() }));
    window.run();
    window.get_by_label("123 456");
    click(&mut window, strings::device_equal());
    assert!(matches!(node.commands().as_slice(), [(_, Command::Devices(Devices::LinkConfirm))]));
    node.change(|m| m.linking = Some(view::Linking::Idle));
    window.run();
    click(&mut window, &strings::doing(strings::device_revoke(), "Laptop"));
    click(&mut window, strings::device_revoke());
    assert!(matches!(node.commands().as_slice(), [(_, Command::Devices(Devices::Revoke { .. }))]));

    click(&mut window, strings::me_relays());
    window.get_by_label_contains("could not be reached");
    write(&mut window, strings::relay_link(), "teahouse:relay/abc");
    click(&mut window, strings::relay_add());
    assert!(matches!(node.commands().as_slice(), [(_, Command::Relays(Relays::Use { .. }))]));
}

#[test]
fn alarms_stand_above_everything_until_hidden() {
    let node = MadeUp::new(full(WITH_MEI));
    let alarm = |time, text: &str| view::Alarm { time, text: text.into() };
    node.change(|m| m.alarms = [alarm(2, "newer"), alarm(1, "older")].into());
    let mut window = over(&node);
    window.get_by_label("newer");
    window.get_by_label(&strings::alarms_more(1));
    click(&mut window, strings::alarms_hide());
    assert!(window.query_by_label("newer").is_none());
    node.change(|m| m.alarms = [alarm(3, "newest"), alarm(2, "newer")].into());
    window.run();
    window.get_by_label("newest");
}

#[test]
fn the_keyboard_reaches_everything() {
    let node = MadeUp::new(full(WITH_MEI));
    let mut window = over(&node);
    window.key_press_modifiers(Modifiers::ALT, Key::ArrowDown);
    window.run();
    let shown = |node: &MadeUp| {
        let inner = node.0.borrow();
        inner.actions.iter().rev().find_map(|a| match a {
            Action::Show { topic, .. } => Some(*topic),
            _ => None,
        })
    };
    assert_eq!(shown(&node), Some(Some(WALK)));
    window.key_press_modifiers(Modifiers::ALT, Key::ArrowDown);
    window.run();
    assert_eq!(shown(&node), Some(Some(WITH_MEI)));
    window.key_press_modifiers(Modifiers::ALT, Key::ArrowUp);
    window.run();
    assert_eq!(shown(&node), Some(Some(WALK)));

    window.key_press_modifiers(Modifiers::COMMAND, Key::F);
    window.run();
    field(&window, strings::chats_filter()).type_text("wang");
    window.run();
    assert!(window.query_by_label_contains("Sunday walk").is_none(), "filtered, and not open yet");
    window.key_press(Key::Escape);
    window.run();
    window.get_by_label_contains("Sunday walk");

    window.key_press_modifiers(Modifiers::COMMAND, Key::K);
    window.run();
    field(&window, strings::go_title()).type_text("mei");
    window.run();
    window.key_press(Key::Enter);
    window.run();
    assert_eq!(shown(&node), Some(Some(WITH_MEI)));
    window.key_press(Key::Escape);
    window.run();
    window.key_press(Key::Escape);
    window.run();
    assert_eq!(shown(&node), Some(None), "Escape leaves the chat");
}

#[test]
fn nothing_moves_when_nothing_happens() {
    let node = MadeUp::new(full(WITH_MEI));
    let mut window = over(&node);
    open(&mut window, "Mei");
    window.run();
    for _ in 0..3 {
        window.step();
        let output = window.output().viewport_output.values().next().unwrap();
        assert!(output.repaint_delay > std::time::Duration::from_secs(1), "an idle window draws");
    }
}

/// The same window over a real node, without a network: an account, a group of one, a
/// message, and all of it still there after a restart.
#[test]
fn a_real_node_keeps_what_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let config = NodeConfig {
        data: dir.path().join("data"),
        store: teahouse_node::config::store_options(false),
        network: None,
    };
    let start = || {
        let bridge = Bridge::start(Source::Home(config.clone()), config.clone(), || {}).unwrap();
        window_of(Shell::new(Box::new(bridge)), [1100.0, 720.0])
    };
    let mut window = start();
    wait(&mut window, strings::welcome_create());
    write(&mut window, strings::welcome_name(), "Lin");
    click(&mut window, strings::welcome_create());
    wait(&mut window, strings::words_done());
    click(&mut window, strings::words_done());
    click(&mut window, strings::chats_new_group());
    write(&mut window, strings::group_title(), "Notes 笔记");
    click(&mut window, strings::group_create());
    wait(&mut window, strings::compose_send());
    write(&mut window, strings::compose_hint(), "buy tea 🍵");
    window.key_press(Key::Enter);
    wait(&mut window, "buy tea 🍵");
    wait(&mut window, "queued");
    drop(window);

    let mut window = start();
    wait(&mut window, "Notes 笔记");
    open(&mut window, "Notes 笔记");
    wait(&mut window, "queued");
    assert!(window.query_all_by_label_contains("buy tea 🍵").count() > 0);
}

#[test]
fn the_tour_ends_once_a_reply_is_on_the_screen() {
    let mut model = full(WITH_MEI);
    model.demo = true;
    model.conversation = None;
    let node = MadeUp::new(model);
    let (tour, outcome) = Tour::new();
    let mut window = window_of(Shell::new(Box::new(node.clone())).with_tour(tour), [1100.0, 720.0]);
    window.run();
    let with_mei = chat(WITH_MEI, "Mei 梅", Some(MEI));
    let mut all = talk();
    node.change(|m| m.conversation = Some(conversation(&with_mei, &all)));
    window.run();
    let said = sent(&node);
    assert_eq!(said.len(), 1);
    all.push(message(50, made_up::ME, NOW, &said[0].1));
    node.change(|m| m.conversation = Some(conversation(&with_mei, &all)));
    window.run();
    assert!(outcome.get().is_none(), "what came before is no reply");
    all.push(message(51, MEI, NOW, "Good morning to you!"));
    node.change(|m| m.conversation = Some(conversation(&with_mei, &all)));
    window.run();
    assert_eq!(outcome.get(), Some(&Ok(())));
}
