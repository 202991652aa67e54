//! Packing folders, and pictures as text. Programs that run are in `tests/programs.rs`.

use std::fs;

use teahouse_programs::ui::{
    Button, ButtonStyle, Canvas, Event, Kind, Node, Role, Stepper, Text, TextField, TextStyle,
};
use teahouse_protocols::package::VerifiedPackage;
use teahouse_protocols::sign::SigningKey;

use super::pack::{self, PackError};
use super::shown;

fn key() -> SigningKey {
    SigningKey::from_bytes(&[3; 32])
}

const MANIFEST: &str = r#"{
    "name": "Tea", "version": { "code": 2, "name": "0.2" }, "lang": "en",
    "description": "Counts cups", "pages": ["main.js"], "icons": [{ "src": "art/cup.png" }],
    "req_permissions": [
        { "name": "share", "reason": "to tell friends" },
        { "name": "storage", "reason": "to remember cups" }
    ],
    "color_scheme": "auto"
}"#;

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let at = |path: &str| dir.path().join(path);
    fs::create_dir(at("art")).unwrap();
    fs::write(at("manifest.json"), MANIFEST).unwrap();
    fs::write(at("main.js"), "export const update = () => undefined;").unwrap();
    fs::write(at("art/cup.png"), [1, 2, 3]).unwrap();
    fs::write(at("README.md"), "for people").unwrap();
    fs::write(at(".secret"), "not for anybody").unwrap();
    dir
}

#[test]
fn a_folder_becomes_a_package() {
    let dir = folder();
    let package = pack::folder(dir.path(), &key()).unwrap();
    let again = VerifiedPackage::from_bytes(&package.to_bytes().unwrap()).unwrap();
    let manifest = again.manifest().get();
    assert_eq!((&*manifest.name, manifest.version.code), ("Tea", 2));
    let paths: Vec<&str> = manifest.files.iter().map(|f| &*f.path).collect();
    assert_eq!(paths, ["art/cup.png", "main.js"], "neither hidden files nor the manifest");
    assert_eq!(again.file("art/cup.png"), Some(vec![1, 2, 3]));
    assert_eq!(manifest.req_permissions.len(), 2);
    assert_eq!(manifest.developer, key().verifying_key().to_bytes());
}

#[test]
fn keys_and_what_programs_do_not_use_stay_behind() {
    let dir = folder();
    let at = |path: &str| dir.path().join(path);
    fs::write(at("developer.key"), [3; 32]).unwrap();
    fs::write(at("id_ed25519.txt"), "mine").unwrap();
    fs::write(at("art/cup.xcf"), "a painter's own file").unwrap();
    let package = pack::folder(dir.path(), &key()).unwrap();
    let paths: Vec<&str> = package.manifest().get().files.iter().map(|f| &*f.path).collect();
    assert_eq!(paths, ["art/cup.png", "main.js"]);
    let mut left = pack::left_out(dir.path()).unwrap();
    left.sort();
    assert_eq!(left, [".secret", "art/cup.xcf", "developer.key", "id_ed25519.txt"]);
    // Under a harmless name it is found by what it holds.
    let digits = "03".repeat(32);
    for held in [&[3; 32][..], format!("const key = '{digits}'").as_bytes()] {
        fs::write(at("notes.txt"), held).unwrap();
        assert!(matches!(pack::folder(dir.path(), &key()), Err(PackError::File { .. })));
    }
    let pem = "-----BEGIN OPENSSH PRIVATE KEY-----";
    fs::write(at("notes.txt"), pem).unwrap();
    assert!(pack::folder(dir.path(), &SigningKey::from_bytes(&[4; 32])).is_err());
    fs::write(at("notes.txt"), "two cups").unwrap();
    assert!(pack::folder(dir.path(), &key()).is_ok());
}

#[test]
fn what_can_not_be_packed_is_told() {
    let dir = folder();
    let with = |manifest: &str| {
        fs::write(dir.path().join("manifest.json"), manifest).unwrap();
        pack::folder(dir.path(), &key()).map(|_| ())
    };
    assert!(matches!(with("{}"), Err(PackError::Manifest(_))));
    assert!(matches!(
        with(&MANIFEST.replace("storage", "everything")),
        Err(PackError::Manifest(_))
    ));
    assert!(matches!(with(&MANIFEST.replace("main.js", "index.js")), Err(PackError::Package(_))));
    assert!(with(&MANIFEST.replace("\"code\": 2", "\"code\": 0")).is_err());
    assert!(with(MANIFEST).is_ok());
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("passwd")).unwrap();
        assert!(matches!(with(MANIFEST), Err(PackError::File { .. })), "a link out of it");
    }
}

fn node(key: &str, parent: Option<u32>, kind: Kind) -> Node {
    Node { key: key.into(), parent, kind }
}

fn picture() -> Vec<Node> {
    let button = |label: &str, enabled| {
        Kind::Button(Button {
            label: label.into(),
            action: format!("do {label}"),
            style: ButtonStyle::Primary,
            enabled,
        })
    };
    let text = Text { content: "Hello".into(), style: TextStyle::Body, colour: Role::Normal };
    let stepper = Stepper { label: "Cups".into(), value: 2, min: 0, max: 3, action: "cups".into() };
    let field = TextField {
        label: "Name".into(),
        value: String::new(),
        action: "name".into(),
        multiline: false,
        max_length: 3,
    };
    let canvas = Canvas {
        width: 100.0,
        height: 50.0,
        label: "Seats".into(),
        commands: Vec::new(),
        action: Some("seat".into()),
    };
    vec![
        node("page", None, Kind::Page("Tea".into())),
        node("text", Some(0), Kind::Text(text)),
        node("row", Some(0), Kind::Row),
        node("a", Some(2), button("More", true)),
        node("b", Some(2), button("Less", false)),
        node("c", Some(0), Kind::Stepper(stepper)),
        node("d", Some(0), Kind::TextField(field)),
        node("e", Some(0), Kind::Canvas(canvas)),
    ]
}

#[test]
fn a_picture_in_lines_and_a_line_as_an_event() {
    let nodes = picture();
    let lines = shown::lines(&nodes, |_| String::new());
    let numbers: Vec<usize> = lines.iter().map(|l| l.number).collect();
    assert_eq!(numbers, [0, 0, 1, 0, 2, 3, 4]);
    let on = |line: &str| shown::event(&nodes, line);
    let tap =
        |key: &str, action: &str, x, y| Event::Tap { key: key.into(), action: action.into(), x, y };
    assert_eq!(on("1"), Ok(tap("a", "do More", 0.0, 0.0)));
    assert_eq!(on("4 10, 20"), Ok(tap("e", "seat", 10.0, 20.0)));
    let step = |value| Event::Step { key: "c".into(), action: "cups".into(), value };
    assert_eq!([on("2 +"), on("2 -"), on("2 9")], [Ok(step(3)), Ok(step(1)), Ok(step(3))]);
    let text = Event::Input { key: "d".into(), action: "name".into(), text: "Meiy".into() };
    assert_ne!(on("3 Meiy"), Ok(text), "no longer than the field");
    for wrong in ["", "x", "0", "5", "4", "4 1000,1", "4 NaN,1", "2 many"] {
        assert!(on(wrong).is_err(), "{wrong}");
    }
}
