//! Mini Programs in the window: over a made-up node what the page does, and over a real one,
//! with the real child process, a program from the shelf to its first sum.

#[path = "window_programs/bounds.rs"]
mod bounds;
mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use common::made_up::{MEI, MINUTE, MadeUp, NOW, WITH_MEI, chats, conversation, full, message};
use common::{Window, click, field, gone, has, wait, window, window_of};
use egui_kittest::kittest::{NodeT as _, Queryable as _};
use teahouse_app::bridge::{Action, Bridge, Link as _, ProgramAct, Source};
use teahouse_app::pages::Shared;
use teahouse_app::pages::programs::vm::{Running, Shelf};
use teahouse_app::pages::programs::words;
use teahouse_app::shell::Shell;
use teahouse_node::NodeConfig;
use teahouse_node::config::store_options;
use teahouse_node::core::command::{Command, Devices, Reply};
use teahouse_node::core::programs::Command as Ask;
use teahouse_node::core::programs::query::{Asks, Packed, Program};
use teahouse_node::core::view::Blob;
use teahouse_node::programs::ui::{
    Button, ButtonStyle, Canvas, Draw, Event, Kind, Node, Paint, Role as Colour, Stepper, Text,
    TextField, TextStyle,
};
use teahouse_node::programs::{Wish, pack};
use teahouse_node::protocols::codec::List;
use teahouse_node::protocols::ids::{AppId, PackageId};
use teahouse_node::protocols::link::{Link as ProgramCard, ProgramLink};
use teahouse_node::protocols::package::Power;
use teahouse_node::protocols::sign::SigningKey;

const TEA: AppId = AppId([7; 32]);

fn over(node: &MadeUp) -> Window {
    let mut window = window(node, [1000.0, 900.0]);
    window.run();
    window.get_by_label(words::title()).click();
    window.run();
    window
}

fn tea() -> Program {
    Program {
        app: TEA,
        name: "Tea".into(),
        developer: PackageId([1; 32]),
        since: NOW,
        package: Some(Packed {
            id: PackageId([2; 32]),
            version: "1.0".into(),
            code: 1,
            description: "Counts cups".into(),
            cloud: false,
        }),
        coming: None,
        powers: vec![Asks {
            power: Power::Storage,
            reason: "to count".into(),
            allowed: Some(true),
        }],
        keeps: 0,
    }
}

fn node() -> MadeUp {
    let node = MadeUp::new(full(WITH_MEI));
    node.change(|m| {
        m.pages.insert("programs", Ok(Shared::new(Shelf { programs: vec![tea()] })));
    });
    node
}

fn run(node: &MadeUp, running: Running) {
    node.change(|m| m.program = Some(Arc::new(running)));
}

/// Until the window's question has stood for long enough to be answered.
fn stand(window: &mut Window) {
    for _ in 0..4 {
        window.step();
    }
}

/// What the page did with programs since the last call.
fn acts(node: &MadeUp) -> Vec<ProgramAct> {
    let actions = core::mem::take(&mut node.0.borrow_mut().actions);
    let act = |action| match action {
        Action::Program(act) => Some(act),
        _ => None,
    };
    actions.into_iter().filter_map(act).collect()
}

fn picture(cups: i32, name: &str, said: &str) -> Arc<[Node]> {
    let node = |key: &str, parent, kind| Node { key: key.into(), parent, kind };
    let button = |label: &str, action: &str, enabled| {
        let (label, action) = (label.into(), action.into());
        Kind::Button(Button { label, action, style: ButtonStyle::Primary, enabled })
    };
    let square = Draw::Rect {
        x: 10.0,
        y: 10.0,
        width: 80.0,
        height: 30.0,
        radius: 4.0,
        stroke: 0.0,
        paint: Paint::Role(Colour::Accent),
    };
    vec![
        node("page", None, Kind::Page("Tea".into())),
        node(
            "said",
            Some(0),
            Kind::Text(Text {
                content: said.into(),
                style: TextStyle::Body,
                colour: Colour::Normal,
            }),
        ),
        node("card", Some(0), Kind::Card),
        node(
            "cups",
            Some(2),
            Kind::Stepper(Stepper {
                label: "Cups".into(),
                value: cups,
                min: 0,
                max: 3,
                action: "cups".into(),
            }),
        ),
        node(
            "name",
            Some(2),
            Kind::TextField(TextField {
                label: "Name".into(),
                value: name.into(),
                action: "name".into(),
                multiline: false,
                max_length: 20,
            }),
        ),
        node("row", Some(0), Kind::Row),
        node("go", Some(5), button("Pour", "pour", true)),
        node("no", Some(5), button("Drink", "drink", false)),
        node(
            "map",
            Some(0),
            Kind::Canvas(Canvas {
                width: 200.0,
                height: 100.0,
                label: "Map of the table".into(),
                commands: vec![square],
                action: Some("place".into()),
            }),
        ),
    ]
    .into()
}

/// The same picture below a line more.
fn below(nodes: &[Node]) -> Arc<[Node]> {
    let mut all = nodes.to_vec();
    for parent in all.iter_mut().filter_map(|n| n.parent.as_mut()).filter(|p| **p > 0) {
        *parent += 1;
    }
    let mut line = all[1].clone();
    line.key = "line".into();
    all.insert(1, line);
    all.into()
}

fn showing() -> Running {
    let mut running = Running::new(TEA, String::new());
    running.name = "Tea".into();
    running.nodes = picture(1, "", "Hello");
    running.rev = 1;
    running
}

#[test]
fn a_program_is_opened_used_and_closed() {
    let node = node();
    let mut window = over(&node);
    assert!(has(&window, "Counts cups"));
    click(&mut window, "Open: Tea");
    let (launch, chat) = (String::new(), None);
    let opened = ProgramAct::Open { app: TEA, launch, chat, dark_mode: false };
    let acted = acts(&node);
    assert!(
        acted.len() == 1 && matches!(&acted[0], ProgramAct::Open { app: TEA, .. }),
        "{opened:?}"
    );
    run(&node, showing());
    window.run();
    assert!(has(&window, "Hello"));
    click(&mut window, "Pour");
    click(&mut window, "more: Cups");
    let tap = |key: &str, action: &str, x, y| {
        ProgramAct::Tell(Event::Tap { key: key.into(), action: action.into(), x, y })
    };
    let step = Event::Step { key: "cups".into(), action: "cups".into(), value: 2 };
    assert_eq!(acts(&node), [tap("go", "pour", 0.0, 0.0), ProgramAct::Tell(step)]);
    assert!(window.get_by_label("Drink").accesskit_node().is_disabled());
    click(&mut window, "Map of the table");
    // A click by its name falls on the middle.
    assert_eq!(acts(&node), [tap("map", "place", 100.0, 50.0)]);
    click(&mut window, words::back());
    window.run();
    assert_eq!(acts(&node), [ProgramAct::Close]);
    assert!(has(&window, "Counts cups"), "back on the shelf");
}

#[test]
fn a_field_keeps_what_is_written_while_pictures_change() {
    let node = node();
    let mut window = over(&node);
    click(&mut window, "Open: Tea");
    run(&node, showing());
    window.run();
    acts(&node);
    field(&window, "Name").focus();
    window.run();
    field(&window, "Name").type_text("Mei");
    window.run();
    // Another picture comes, with the same field further down.
    let mut next = showing();
    (next.nodes, next.rev) = (below(&picture(1, "", "Something else")), 2);
    run(&node, next);
    window.run();
    assert!(window.query_all_by_label("Something else").count() == 2);
    field(&window, "Name").type_text("ling");
    window.run();
    assert_eq!(field(&window, "Name").accesskit_node().value().as_deref(), Some("Meiling"));
    window.key_press(egui::Key::Enter);
    window.run();
    let told = acts(&node);
    let last = Event::Input { key: "name".into(), action: "name".into(), text: "Meiling".into() };
    assert_eq!(told.last(), Some(&ProgramAct::Tell(last)));
    // What the program says stands in it, stands in it.
    let mut next = showing();
    (next.nodes, next.rev) = (picture(1, "Lin", "Something else"), 3);
    run(&node, next);
    window.run();
    assert_eq!(field(&window, "Name").accesskit_node().value().as_deref(), Some("Lin"));
}

#[test]
fn what_a_program_wants_is_asked_by_the_window() {
    let node = node();
    let mut window = over(&node);
    click(&mut window, "Open: Tea");
    let mut running = showing();
    running.wish = Some(Wish { power: Power::Storage, reason: "to count".into() });
    run(&node, running);
    acts(&node);
    window.step();
    assert!(has(&window, words::from_teahouse()) && has(&window, "“to count”"));
    // It stands where a button of the program was a moment ago: that tap is no answer.
    window.get_by_label(words::allow()).click();
    window.step();
    assert_eq!(acts(&node), []);
    assert!(window.get_by_label(words::allow()).accesskit_node().is_disabled());
    // Nor is it answered while a finger is down, however long.
    window.event(egui::Event::PointerButton {
        pos: egui::pos2(500.0, 700.0),
        button: egui::PointerButton::Primary,
        pressed: true,
        modifiers: egui::Modifiers::NONE,
    });
    stand(&mut window);
    assert!(window.get_by_label(words::allow()).accesskit_node().is_disabled());
    window.event(egui::Event::PointerButton {
        pos: egui::pos2(500.0, 700.0),
        button: egui::PointerButton::Primary,
        pressed: false,
        modifiers: egui::Modifiers::NONE,
    });
    stand(&mut window);
    acts(&node);
    click(&mut window, words::refuse());
    let decided = |allowed| ProgramAct::Decide { app: TEA, power: Power::Storage, allowed };
    assert_eq!(acts(&node), [decided(false)]);
    click(&mut window, words::allow());
    assert_eq!(acts(&node), [decided(true)]);
    run(&node, showing());
    window.run();
    assert!(!has(&window, words::from_teahouse()));
}

#[test]
fn a_program_that_was_stopped_says_so_and_starts_again() {
    let node = node();
    let mut window = over(&node);
    click(&mut window, "Open: Tea");
    let mut running = showing();
    running.trouble = Some("the program took too long and was stopped".into());
    running.ended = true;
    run(&node, running);
    window.run();
    acts(&node);
    assert!(has(&window, "took too long"));
    assert!(window.get_by_label("Pour").accesskit_node().is_disabled());
    click(&mut window, words::again());
    assert!(matches!(acts(&node)[..], [ProgramAct::Open { app: TEA, .. }]));
}

#[test]
fn the_shelf_installs_takes_back_and_asks_before_it_removes() {
    let node = node();
    let mut window = over(&node);
    node.commands();
    click(&mut window, "Take back: Tea, keep things on this device");
    let commands = node.commands();
    assert!(matches!(
        commands[..],
        [(_, Command::Programs(Ask::Grant { app: TEA, allowed: Some(false), .. }))]
    ));
    field(&window, words::link()).focus();
    window.run();
    field(&window, words::link()).type_text("teahouse:program/abc");
    window.run();
    click(&mut window, words::install());
    let commands = node.commands();
    assert!(matches!(&commands[..], [(_, Command::Programs(Ask::Add { .. }))]));
    node.answer(commands[0].0, Ok(Reply::Program { app: TEA }));
    window.run();
    assert_eq!(field(&window, words::link()).accesskit_node().value().as_deref(), Some(""));
    click(&mut window, "Remove: Tea");
    assert!(node.commands().is_empty() && has(&window, words::remove_how()));
}

#[test]
fn a_card_is_offered_and_its_link_taken_along() {
    let node = node();
    let mut window = over(&node);
    click(&mut window, "Open: Tea");
    let mut running = showing();
    running.offers = 1;
    running.offer = Some(("Table 4".into(), "table=4".into()));
    run(&node, running);
    window.run();
    node.commands();
    assert!(has(&window, "Table 4"));
    stand(&mut window);
    click(&mut window, words::card_copy());
    let commands = node.commands();
    let [(ticket, Command::Programs(Ask::Share { app: TEA, launch }))] = &commands[..] else {
        panic!("{commands:?}")
    };
    assert_eq!(launch, "table=4");
    node.answer(*ticket, Ok(Reply::Link { link: "teahouse:program/x".into() }));
    window.run();
    assert!(has(&window, "Copied") && !has(&window, "Table 4"));
}

#[test]
fn a_card_is_sent_to_a_chat_that_the_person_picks() {
    let node = node();
    let mut window = over(&node);
    click(&mut window, "Open: Tea");
    let mut running = showing();
    running.offers = 1;
    running.offer = Some(("Table 4".into(), "table=4".into()));
    run(&node, running);
    window.run();
    stand(&mut window);
    node.commands();
    click(&mut window, words::card_send());
    assert!(node.commands().is_empty(), "nobody was named yet");
    window.run();
    let topic_of_mei = chats()[1].topic;
    let row = window.get_all_by_label_contains("Mei 梅").last().expect("her chat");
    row.click();
    window.run();
    let commands = node.commands();
    let [(_, Command::Programs(Ask::Send { app: TEA, topic, title, launch }))] = &commands[..]
    else {
        panic!("{commands:?}")
    };
    assert_eq!((*topic, title.as_str(), launch.as_str()), (topic_of_mei, "Table 4", "table=4"));
    assert!(!has(&window, "Table 4"));
}

#[test]
fn a_program_that_nobody_looks_at_does_not_run() {
    let node = node();
    let mut window = over(&node);
    click(&mut window, "Open: Tea");
    run(&node, showing());
    window.run();
    acts(&node);
    window.get_by_label_contains("Chats,").click();
    window.run();
    assert_eq!(acts(&node), [ProgramAct::Show(false)]);
    click(&mut window, words::title());
    window.run();
    assert_eq!(acts(&node), [ProgramAct::Show(true)]);
}

#[test]
fn a_link_in_a_message_is_a_card() {
    let link = ProgramLink {
        version: 1,
        app: AppId::of(&[1; 32], "Tea"),
        developer: [1; 32],
        name: "Tea".try_into().unwrap(),
        code: 1,
        providers: List::default(),
        launch: "table=4".try_into().unwrap(),
    };
    let app = link.app;
    let uri = ProgramCard::Program(link).to_uri();
    let node = node();
    node.change(|m| {
        let said = message(1, MEI, NOW - MINUTE, &format!("Try this: {uri}"));
        m.conversation = Some(conversation(&chats()[1], &[said]));
    });
    let mut window = window(&node, [1000.0, 900.0]);
    window.run();
    window.get_by_label_contains("Mei 梅").click();
    window.run();
    node.commands();
    click(&mut window, "Mini Program: Tea");
    let commands = node.commands();
    let [(_, Command::Programs(Ask::Add { link }))] = &commands[..] else { panic!("{commands:?}") };
    assert_eq!(*link, uri);
    assert!(has(&window, "Counts cups"), "the shelf is shown");
    // Once it is here, it opens in that chat and hears what the card says.
    node.change(|m| {
        let here = Program { app, name: "Green".into(), ..tea() };
        let shelf = Shelf { programs: vec![here, tea()] };
        m.pages.insert("programs", Ok(Shared::new(shelf)));
    });
    window.run();
    acts(&node);
    click(&mut window, "Open: Green");
    let opened = acts(&node);
    let [ProgramAct::Open { app: green, launch, chat, .. }] = &opened[..] else {
        panic!("{opened:?}")
    };
    assert_eq!((*green, launch.as_str(), *chat), (app, "table=4", Some(chats()[1].topic)));
}

fn tell(bridge: &mut Bridge, command: Command) -> Reply {
    assert!(bridge.send(Action::Submit { ticket: 1, command }));
    let started = Instant::now();
    loop {
        if let Some(answer) = bridge.answer() {
            return answer.result.expect("nothing is refused here");
        }
        assert!(started.elapsed().as_secs() < 60, "no answer");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// A real node and the real child process: breakfast from the shelf to its sum.
#[test]
fn breakfast_is_chosen_in_the_window() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("tea");
    let config = NodeConfig { data, store: store_options(false), network: None };
    let child = Some(PathBuf::from(env!("CARGO_BIN_EXE_teahouse-app")));
    let source = Source::Home(config.clone());
    let mut bridge = Bridge::start_with(source, config, child, || {}).unwrap();
    let create = Devices::Create { name: "Lin".into(), device_name: "home".into() };
    tell(&mut bridge, Command::Devices(create));
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/breakfast");
    let package = pack::folder(&example, &SigningKey::from_bytes(&[3; 32])).unwrap();
    let package = Blob(package.to_bytes().unwrap());
    tell(&mut bridge, Command::Programs(Ask::Install { package }));
    let mut window = window_of(Shell::new(Box::new(bridge)), [1000.0, 1400.0]);
    wait(&mut window, words::title());
    click(&mut window, words::title());
    wait(&mut window, "Open: Breakfast");
    click(&mut window, "Open: Breakfast");
    wait(&mut window, "keep things on this device");
    stand(&mut window);
    click(&mut window, words::allow());
    wait(&mut window, "Nothing chosen yet");
    // What is asked stands above the program: once it is gone, nothing moves any more.
    gone(&mut window, "keep things on this device");
    click(&mut window, "more: Soy milk: how many");
    wait(&mut window, "Together 3.00");
    click(&mut window, "Order");
    // It was packed without its functions: there is no shop to ask.
    wait(&mut window, "takes no orders here");
    click(&mut window, words::back());
    wait(&mut window, "Open: Breakfast");
    click(&mut window, "Open: Breakfast");
    wait(&mut window, "Together 3.00");
}
