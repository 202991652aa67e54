//! Mini Programs through the real child process: the node's side, and the command line.

#![allow(clippy::unwrap_used)]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use teahouse_node::programs::ui::{Event, Kind};
use teahouse_node::programs::{
    Happening, Host, InMemory, MAX_WAITING, Open, Opening, Powers as _, host_at, pack,
};
use teahouse_node::protocols::package::Power;
use teahouse_node::protocols::sign::SigningKey;

const TEAHOUSE: &str = env!("CARGO_BIN_EXE_teahouse");

/// Counts cups, and keeps how many.
const CUPS: &str = r#"
import { page, text, button, storage, login, notice, call, close } from "teahouse";
let cups = 0, said = "";
export function update(events) {
    for (const e of events) {
        if (e.type === "start") storage.get("cups", (a) => (cups = a.json ?? 0));
    }
    return page("Tea", text(`${cups} cups ${said}`),
        button("One more", () => storage.set("cups", ++cups, (a) => (said = a.reason ?? "kept"))),
        button("Who", () => login((a) => (said = a.ok ? `known by ${a.bytes.length}` : a.reason))),
        button("Say", () => notice("hello")),
        button("Ask", () => call("f", "x", (a) => (said = a.reason))),
        button("Spin", () => { for (;;) {} }),
        button("Leave", () => close()));
}
"#;

/// Makes itself a wish with every answer.
const BUSY: &str = r#"
import { page, text, storage } from "teahouse";
let rounds = 0;
const again = () => { rounds += 1; storage.get("x", again); };
export function update(events) {
    if (events.some((e) => e.type === "start")) again();
    return page("Busy", text(`${rounds}`));
}
"#;

fn folder(main: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let manifest = r#"{ "name": "Tea", "version": { "code": 1, "name": "1.0" },
        "pages": ["main.js"], "req_permissions": [{ "name": "storage", "reason": "to count" }] }"#;
    std::fs::write(dir.path().join("manifest.json"), manifest).unwrap();
    std::fs::write(dir.path().join("main.js"), main).unwrap();
    dir
}

fn host() -> Host {
    host_at(PathBuf::from(TEAHOUSE))
}

async fn opened(host: &Host, main: &str) -> Open {
    let package = pack::folder(folder(main).path(), &SigningKey::from_bytes(&[3; 32])).unwrap();
    Open::open(host, package, Opening::default()).await.unwrap()
}

/// Until it has nothing more to hear.
async fn settle(open: &mut Open, powers: &mut InMemory) -> Vec<Happening> {
    let mut happened = Vec::new();
    while open.is_due() {
        open.update().await.unwrap();
        happened.extend(open.carry_out(powers));
    }
    happened
}

fn words(open: &Open) -> String {
    let texts = open.nodes().iter().filter_map(|n| match &n.kind {
        Kind::Text(text) => Some(text.content.clone()),
        _ => None,
    });
    texts.collect::<Vec<_>>().join(" ")
}

fn tap(open: &mut Open, label: &str) {
    let tapped = open.nodes().iter().find_map(|n| match &n.kind {
        Kind::Button(b) if b.label == label => {
            Some(Event::Tap { key: n.key.clone(), action: b.action.clone(), x: 0.0, y: 0.0 })
        }
        _ => None,
    });
    assert!(open.tell(tapped.unwrap()));
}

#[tokio::test]
async fn wishes_wait_for_the_persons_word() {
    let host = host();
    let mut open = opened(&host, CUPS).await;
    let mut powers = InMemory::default();
    settle(&mut open, &mut powers).await;
    let wish = open.wish().unwrap();
    assert_eq!((wish.power, wish.reason.as_str()), (Power::Storage, "to count"));
    // Nothing happens before they said so.
    tap(&mut open, "One more");
    settle(&mut open, &mut powers).await;
    assert_eq!(powers.get("cups").unwrap(), None);
    open.decide(&mut powers, Power::Storage, true).unwrap();
    settle(&mut open, &mut powers).await;
    assert!(open.wish().is_none());
    assert_eq!(powers.get("cups").unwrap(), Some(b"1".to_vec()));
    assert_eq!(words(&open), "0 cups kept", "what was there came first");
    // Taken back.
    powers.grant(Power::Storage, false).unwrap();
    tap(&mut open, "One more");
    settle(&mut open, &mut powers).await;
    assert!(words(&open).ends_with("no-grant"), "{}", words(&open));
    assert_eq!(powers.get("cups").unwrap(), Some(b"1".to_vec()));
    // What its manifest doesn't name, nobody is asked for.
    tap(&mut open, "Who");
    settle(&mut open, &mut powers).await;
    assert!(words(&open).ends_with("no-grant") && open.wish().is_none());
    tap(&mut open, "Ask");
    settle(&mut open, &mut powers).await;
    assert!(words(&open).ends_with("not-here"), "{}", words(&open));
    tap(&mut open, "Say");
    let happened = settle(&mut open, &mut powers).await;
    assert_eq!(happened, [Happening::Notice("hello".into())]);
    tap(&mut open, "Leave");
    assert_eq!(settle(&mut open, &mut powers).await, [Happening::Close]);
    tap(&mut open, "Spin");
    let error = open.update().await.unwrap_err();
    assert!(error.is_final(), "{error}");
}

#[tokio::test]
async fn a_flood_of_events_is_bounded() {
    let host = host();
    let mut open = opened(&host, CUPS).await;
    let mut powers = InMemory::default();
    powers.grant(Power::Storage, true).unwrap();
    settle(&mut open, &mut powers).await;
    let tapped = |n: usize| Event::Tap { key: n.to_string(), action: "x".into(), x: 0.0, y: 0.0 };
    let taken = (0..10_000).filter(|n| open.tell(tapped(*n))).count();
    assert_eq!(taken, MAX_WAITING);
    settle(&mut open, &mut powers).await;
    // Of what is written into one field only the last word is told.
    for n in 0..10_000 {
        let text = n.to_string();
        assert!(open.tell(Event::Input { key: "f".into(), action: "x".into(), text }));
    }
    settle(&mut open, &mut powers).await;
}

#[tokio::test]
async fn a_program_that_keeps_itself_busy_is_slowed_down() {
    let host = host();
    let mut open = opened(&host, BUSY).await;
    let mut powers = InMemory::default();
    powers.grant(Power::Storage, true).unwrap();
    let began = tokio::time::Instant::now();
    for _ in 0..36 {
        assert!(open.is_due());
        open.update().await.unwrap();
        open.carry_out(&mut powers);
    }
    // Four of them had to wait.
    assert!(began.elapsed().as_millis() >= 400);
    assert_eq!(words(&open), "36");
}

fn teahouse(data: &Path, args: &[&str], input: &str) -> Output {
    let mut child = Command::new(TEAHOUSE)
        .arg("--data")
        .arg(data)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn said(data: &Path, args: &[&str], input: &str) -> String {
    let output = teahouse(data, args, input);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {text}{errors}");
    text
}

/// From a folder to a program that remembers, in the terminal.
#[test]
fn a_program_is_packed_published_opened_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("tea");
    let source = folder(CUPS);
    let source = source.path().to_str().unwrap();
    said(&data, &["init", "--name", "Ann"], "");
    let file = dir.path().join("tea.program");
    said(&data, &["program", "pack", source, "-o", file.to_str().unwrap()], "");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(data.join("developer.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let link = said(&data, &["program", "publish", file.to_str().unwrap()], "");
    assert!(link.starts_with("teahouse:program/"), "{link}");
    assert!(said(&data, &["program"], "").contains("Tea"));
    let first = said(&data, &["program", "open", "tea"], "y\n");
    assert!(first.contains("asks to keep things on this device"), "{first}");
    assert!(first.contains("to count") && first.contains("0 cups"), "{first}");
    let second = said(&data, &["program", "open", "tea"], "1\n1\n");
    assert!(second.contains("2 cups kept"), "{second}");
    let third = said(&data, &["program", "open", "tea"], "");
    assert!(third.contains("2 cups"), "{third}");
    said(&data, &["program", "revoke", "tea", "storage"], "");
    assert!(said(&data, &["program", "open", "tea"], "").contains("0 cups"));
    // The same version again says nothing new; another of its code is refused.
    said(&data, &["program", "publish", source], "");
    let other = folder("export const update = () => undefined;");
    let refused = teahouse(&data, &["program", "publish", other.path().to_str().unwrap()], "");
    assert!(!refused.status.success());
    // A damaged file is refused.
    let mut bytes = std::fs::read(&file).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let args = ["program", "install", file.to_str().unwrap()];
    assert!(!teahouse(&data, &args, "").status.success());
    said(&data, &["program", "remove", "tea"], "");
    assert!(said(&data, &["program"], "").contains("None yet"));
    assert!(said(&data, &["program", "dev", source], "y\n1\nq\n").contains("cups"));
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name)
}

async fn opened_example(host: &Host, name: &str, powers: &mut InMemory) -> Open {
    let package = pack::folder(&example(name), &SigningKey::from_bytes(&[3; 32])).unwrap();
    let mut open = Open::open(host, package, Opening::default()).await.unwrap();
    powers.grant(Power::Storage, true).unwrap();
    settle(&mut open, powers).await;
    open
}

/// Breakfast keeps its basket, and says in words that nothing can be ordered yet.
#[tokio::test]
async fn breakfast_is_chosen_and_not_pretended_to_be_ordered() {
    let host = host();
    let mut powers = InMemory::default();
    let mut open = opened_example(&host, "breakfast", &mut powers).await;
    assert!(words(&open).contains("Nothing chosen yet"));
    let stepper = open.nodes().iter().find_map(|n| match &n.kind {
        Kind::Stepper(s) => Some((n.key.clone(), s.action.clone())),
        _ => None,
    });
    let (key, action) = stepper.unwrap();
    assert!(open.tell(Event::Step { key, action, value: 2 }));
    settle(&mut open, &mut powers).await;
    assert!(words(&open).contains("Together 6.00"), "{}", words(&open));
    tap(&mut open, "Order");
    settle(&mut open, &mut powers).await;
    assert!(words(&open).contains("not available yet"), "{}", words(&open));
    let again = opened_example(&host, "breakfast", &mut powers).await;
    assert!(words(&again).contains("Together 6.00"), "the basket is still there");
}

/// Seats are chosen on the map, and the program doesn't claim to know which are free.
#[tokio::test]
async fn a_seat_is_chosen_on_the_map() {
    let host = host();
    let mut powers = InMemory::default();
    let mut open = opened_example(&host, "cinema", &mut powers).await;
    assert!(words(&open).contains("not known yet") && words(&open).contains("not available yet"));
    let hall = open.nodes().iter().find_map(|n| match &n.kind {
        Kind::Canvas(c) => Some((n.key.clone(), c.action.clone().unwrap(), c.commands.len())),
        _ => None,
    });
    let (key, action, drawn) = hall.unwrap();
    assert!(drawn > 96);
    for (x, y) in [(50.0, 80.0), (84.0, 80.0), (64.0, 80.0)] {
        let (key, action) = (key.clone(), action.clone());
        assert!(open.tell(Event::Tap { key, action, x, y }));
    }
    settle(&mut open, &mut powers).await;
    assert!(words(&open).contains("Chosen: A1, A2"), "{}", words(&open));
    tap(&mut open, "Book");
    settle(&mut open, &mut powers).await;
    assert!(!words(&open).contains("yours"), "{}", words(&open));
    let again = opened_example(&host, "cinema", &mut powers).await;
    assert!(words(&again).contains("Chosen: A1, A2"));
}
