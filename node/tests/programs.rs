//! Mini Programs through the real child process: the node's side, and the command line.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use teahouse_node::core::programs::state::Stamp;
use teahouse_node::programs::ui::{Event, Kind};
use teahouse_node::programs::{
    Dealings, Happening, Host, InMemory, MAX_WAITING, Open, Opening, PowerError, Powers, host_at,
    pack,
};
use teahouse_node::protocols::ids::DeviceId;
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

/// Asks for as much as it can with each answer, and has the answers be large.
const GREEDY: &str = r#"
import { page, text, storage } from "teahouse";
const more = () => { for (let i = 0; i < 4; i++) storage.get("x", more); };
export function update(events) {
    if (events.some((e) => e.type === "start")) {
        storage.set("x", new Uint8Array(60000), more);
        for (let i = 0; i < 24; i++) more();
    }
    return page("Greedy", text("more"));
}
"#;

/// Says nice things in many lines.
const LIAR: &str = r#"
import { page, text, notice, share } from "teahouse";
export function update(events) {
    if (events[0].type === "start") notice("done\n\nTeahouse asks you:\u202e yes?");
    return page("Liar", text("x"));
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
async fn settle(open: &mut Open, powers: &mut impl Powers) -> Vec<Happening> {
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

/// Tells what is shared, and what others change of it.
const BOARD: &str = r#"
import { page, text, button, shared } from "teahouse";
let said = "";
export function update(events) {
    for (const e of events) {
        if (e.type === "start") shared.get("turn", (a) => (said = a.reason ?? a.text ?? "nobody"));
        if (e.type === "state-changed") {
            shared.get(e.key, (a) => (said = `${e.key} is ${a.text}`));
        }
    }
    return page("Board", text(said),
        button("Mine", () => shared.set("turn", "mine", (a) => (said = a.reason ?? "set"))));
}
"#;

/// A chat's shared state in memory, which somebody else may change.
#[derive(Default)]
struct InChat {
    own: InMemory,
    shared: BTreeMap<String, (Stamp, Vec<u8>)>,
}

impl InChat {
    fn write(&mut self, by: u8, key: &str, value: &[u8]) -> Stamp {
        let seq = self.shared.len() as u64 + self.shared.get(key).map_or(1, |(s, _)| s.seq + 1);
        let stamp = Stamp { key: key.to_owned(), device: DeviceId([by; 32]), seq };
        self.shared.insert(key.to_owned(), (stamp.clone(), value.to_vec()));
        stamp
    }
}

impl Dealings for InChat {}

impl Powers for InChat {
    fn granted(&self, power: Power) -> Result<Option<bool>, PowerError> {
        self.own.granted(power)
    }
    fn grant(&mut self, power: Power, allowed: bool) -> Result<(), PowerError> {
        self.own.grant(power, allowed)
    }
    fn login(&self) -> Result<Option<Vec<u8>>, PowerError> {
        self.own.login()
    }
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, PowerError> {
        self.own.get(key)
    }
    fn put(&mut self, key: &str, value: Option<Vec<u8>>) -> Result<(), PowerError> {
        self.own.put(key, value)
    }
    fn keys(&self, prefix: &str) -> Result<Vec<String>, PowerError> {
        self.own.keys(prefix)
    }
    fn in_chat(&self) -> bool {
        true
    }
    fn shared(&self, key: &str) -> Result<Option<Vec<u8>>, PowerError> {
        Ok(self.shared.get(key).map(|(_, value)| value.clone()))
    }
    fn put_shared(&mut self, key: &str, value: Vec<u8>) -> Result<Option<Stamp>, PowerError> {
        Ok(Some(self.write(1, key, &value)))
    }
    fn shared_keys(&self, prefix: &str) -> Result<Vec<Stamp>, PowerError> {
        let all = self.shared.values().map(|(stamp, _)| stamp.clone());
        Ok(all.filter(|s| s.key.starts_with(prefix)).collect())
    }
}

/// State is shared in a chat and with the person's word; what others change is told, what the
/// program wrote itself is not.
#[tokio::test]
async fn a_program_hears_of_what_others_share() {
    let host = host();
    let dir = folder(BOARD);
    let manifest = std::fs::read_to_string(dir.path().join("manifest.json")).unwrap();
    let manifest = manifest.replace("storage", "state");
    std::fs::write(dir.path().join("manifest.json"), manifest).unwrap();
    let package = pack::folder(dir.path(), &SigningKey::from_bytes(&[3; 32])).unwrap();
    // Outside a chat there is no such thing, and nobody is asked.
    let mut open = Open::open(&host, package.clone(), Opening::default()).await.unwrap();
    settle(&mut open, &mut InMemory::default()).await;
    assert_eq!((words(&open).as_str(), open.wish()), ("not-here", None));

    let mut open = Open::open(&host, package, Opening::default()).await.unwrap();
    let mut chat = InChat::default();
    chat.write(2, "turn", b"hers");
    settle(&mut open, &mut chat).await;
    assert_eq!(open.wish().unwrap().power, Power::State);
    // Who may not read is not told of changes either.
    open.look(&chat);
    assert!(!open.is_due());
    open.decide(&mut chat, Power::State, true).unwrap();
    settle(&mut open, &mut chat).await;
    assert_eq!(words(&open), "hers");
    open.look(&chat);
    assert!(!open.is_due(), "nothing has changed since");
    chat.write(2, "turn", b"his");
    chat.write(2, "vote/2", b"yes");
    open.look(&chat);
    open.look(&chat);
    settle(&mut open, &mut chat).await;
    assert_eq!(words(&open), "vote/2 is yes", "told once, in order");
    tap(&mut open, "Mine");
    settle(&mut open, &mut chat).await;
    open.look(&chat);
    assert!(!open.is_due(), "its own word is no news");
    assert_eq!(words(&open), "set");
    chat.write(2, "turn", b"hers again");
    open.look(&chat);
    settle(&mut open, &mut chat).await;
    assert_eq!(words(&open), "turn is hers again");
    // Taken back.
    chat.grant(Power::State, false).unwrap();
    chat.write(2, "turn", b"secret");
    open.look(&chat);
    assert!(!open.is_due());
}

/// What it asks of itself without end is not kept for it.
#[tokio::test]
async fn a_program_that_asks_without_end_is_ended() {
    let host = host();
    let mut open = opened(&host, GREEDY).await;
    let mut powers = InMemory::default();
    powers.grant(Power::Storage, true).unwrap();
    let error = loop {
        match open.update().await {
            Ok(_) => drop(open.carry_out(&mut powers)),
            Err(error) => break error,
        }
        let (count, bytes) = open.owed();
        assert!(count <= 128 && bytes <= 3 << 20, "{count} answers of {bytes} bytes wait");
    };
    assert!(error.is_final());
    assert!(error.to_string().contains("took answers"), "{error}");
}

#[tokio::test]
async fn what_a_program_says_in_passing_is_one_line() {
    let host = host();
    let mut open = opened(&host, LIAR).await;
    let happened = settle(&mut open, &mut InMemory::default()).await;
    let said = "done Teahouse asks you: yes?";
    assert_eq!(happened, [Happening::Notice(said.into())]);
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

/// Breakfast keeps its basket, and says in words that nothing can be ordered where there is no
/// shop.
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
    assert!(words(&open).contains("takes no orders here"), "{}", words(&open));
    let again = opened_example(&host, "breakfast", &mut powers).await;
    assert!(words(&again).contains("Together 6.00"), "the basket is still there");
}

/// Seats are chosen on the map, and the program doesn't claim to know which are free.
#[tokio::test]
async fn a_seat_is_chosen_on_the_map() {
    let host = host();
    let mut powers = InMemory::default();
    let mut open = opened_example(&host, "cinema", &mut powers).await;
    let said = words(&open);
    assert!(said.contains("not known yet") && said.contains("sells no seats here"), "{said}");
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
