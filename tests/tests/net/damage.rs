//! What must be refused, and told in words.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use teahouse_core::store::FILE;
use teahouse_core::view;
use teahouse_protocols::ids::TopicId;

use crate::process::{Home, Node, text, texts, until};

fn words(output: &Output) -> String {
    let both = [&*output.stdout, &*output.stderr].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// Words for people, not the inside of a program.
fn no_panic(what: &str, words: &str) {
    for text in ["panicked at", "stack backtrace", "RUST_BACKTRACE", "src/"] {
        assert!(!words.contains(text), "{what}: {words}");
    }
}

/// Runs `run` on a folder on which it must not stay.
fn refused_run(node: &mut Node) -> String {
    let before = fs::read_to_string(&node.log).unwrap_or_default().len();
    node.start();
    let status = until("`run` gives up", || node.ended());
    assert_eq!(status.code(), Some(1), "a refusal's exit code");
    node.kill();
    fs::read_to_string(&node.log).expect("its log")[before..].to_owned()
}

/// One folder, one process: the second is told of the first, which goes on.
#[test]
fn a_second_process_is_refused() {
    let home = Home::new();
    for role in ["device", "relay"] {
        let make = |name: &str| match role {
            "device" => Node::device(&home, name),
            _ => Node::relay(&home, name),
        };
        let mut first = make(role);
        first.up();
        let pid = first.pid().expect("it runs");

        let mut second = make(role);
        second.dir.clone_from(&first.dir);
        second.log = home.path().join("second.log");
        let said = refused_run(&mut second);
        let told = format!("another Teahouse is already using this folder (process {pid})");
        assert!(said.contains(&told), "{said}");
        no_panic(role, &said);

        // The first is not disturbed, and commands attach to it.
        assert_eq!(first.ended(), None);
        match role {
            "device" => {
                first.json(&["init", "--name", "Ann"]);
                assert_eq!(first.json(&["status"])["running"], true);
            }
            _ => assert_eq!(first.json(&["relay", "status"])["running"], true),
        }
        first.kill();
        // A lock does not outlive its holder.
        second.up();
        second.stop();
    }
}

/// A device with something in it: an account, a group, messages.
fn with_messages(home: &Home, name: &str) -> (Node, TopicId) {
    let node = Node::device(home, name).with_account("Ann");
    let made = node.json(&["group", "create", "Diary"]);
    let topic = TopicId::from_hex(&text(&made, "/topic/topic")).expect("a chat's id");
    for n in 0..5 {
        node.json(&["send", "Diary", &format!("entry {n}")]);
    }
    (node, topic)
}

/// A damage: what it is called, and what it does to the file.
type Damage = (&'static str, fn(&mut Vec<u8>));

const DAMAGES: [Damage; 6] = [
    ("cut in half", |bytes| bytes.truncate(bytes.len() / 2)),
    ("only its beginning", |bytes| bytes.truncate(100)),
    ("another file", |bytes| *bytes = b"Dear diary, this is no database.".to_vec()),
    ("another beginning", |bytes| bytes[..64].fill(b'x')),
    ("all but the beginning zeroed", |bytes| bytes[4096..].fill(0)),
    ("a bit in every 64 bytes", |bytes| {
        for byte in bytes[4096..].iter_mut().step_by(64) {
            *byte ^= 0x10;
        }
    }),
];

/// A damaged database is told as such by every command, with an exit code for monitoring, and
/// is left for whoever may be able to mend it.
#[test]
fn a_corrupted_database_is_told() {
    let home = Home::new();
    let (device, _) = with_messages(&home, "device");
    let mut relay = Node::relay(&home, "relay");
    relay.up();
    relay.stop();
    for mut node in [device, relay] {
        let file = node.dir.join(FILE);
        let whole = fs::read(&file).expect("the database");
        for (what, damage) in DAMAGES {
            let mut bytes = whole.clone();
            damage(&mut bytes);
            fs::write(&file, &bytes).expect("written");

            let said = refused_run(&mut node);
            assert!(said.contains("the database is damaged"), "{what}: {said}");
            no_panic(what, &said);

            let doctor = node.tell(&["doctor"]);
            let said = words(&doctor);
            assert_eq!(doctor.status.code(), Some(2), "{what}: {said}");
            assert!(said.starts_with("Trouble: "), "the verdict comes first: {what}: {said}");
            assert!(said.contains("the database is damaged"), "{what}: {said}");
            no_panic(what, &said);

            let doctor = node.tell(&["--json", "doctor"]);
            let report: serde_json::Value =
                serde_json::from_slice(&doctor.stdout).expect("a report");
            assert_eq!(report["verdict"], "trouble", "{what}");

            let other = node.tell(&["chats"]);
            assert_eq!(other.status.code(), Some(1), "{what}");
            no_panic(what, &words(&other));

            assert!(fs::read(&file).is_ok_and(|now| now == bytes), "{what}: the file was changed");
        }
        // Nothing but the file was wrong.
        fs::write(&file, &whole).expect("written");
        let doctor = node.tell(&["doctor"]);
        assert_ne!(words(&doctor).lines().next(), None);
        assert!(!words(&doctor).contains("damaged"), "{}", words(&doctor));
    }
}

/// One wrong byte, anywhere: it may lie where nothing is, and go unnoticed. Whatever happens,
/// no command panics or hangs.
#[test]
fn a_wrong_byte_anywhere_panics_nowhere() {
    const TRIES: u32 = 24;
    let home = Home::new();
    let (node, _) = with_messages(&home, "device");
    let file = node.dir.join(FILE);
    let whole = fs::read(&file).expect("the database");
    let mut rng = ChaCha20Rng::seed_from_u64(7);
    let mut noticed = 0;
    for n in 0..TRIES {
        let mut bytes = whole.clone();
        // Half of them in the header, where each counts.
        let span = if n % 2 == 0 { 320 } else { bytes.len() };
        let at = (rng.next_u64() % span as u64) as usize;
        bytes[at] ^= 1 << (rng.next_u32() % 8);
        fs::write(&file, &bytes).expect("written");
        for arguments in [&["doctor"][..], &["read", "Diary", "--peek"], &["send", "Diary", "hm"]] {
            let output = node.tell(arguments);
            let what = format!("byte {at}, {arguments:?}");
            no_panic(&what, &words(&output));
            assert!(matches!(output.status.code(), Some(0..=2)), "{what}: {}", output.status);
            noticed += u32::from(words(&output).contains("damaged"));
        }
    }
    println!("{TRIES} wrong bytes, {noticed} of {} commands noticed", TRIES * 3);
}

/// Writes until there is no room. Gives what was acknowledged, and the message after it, which
/// was refused in words.
fn write_until_refused(node: &Node, why: &str) -> (Vec<String>, String) {
    let long = "all work and no play ".repeat(400);
    let mut written = Vec::new();
    for n in 0..4000 {
        let message = format!("{n} {long}");
        let output = node.tell(&["send", "Diary", &message]);
        if output.status.success() {
            written.push(message);
            continue;
        }
        let said = words(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("stor") && said.contains(why), "{said}");
        no_panic("a full disk", &said);
        return (written, message);
    }
    panic!("there is always room");
}

/// What must hold on a disk that is full, and once there is room again.
fn full(node: &Node, why: &str, free: impl FnOnce()) {
    let mut all = texts(node, "Diary");
    let (written, refused) = write_until_refused(node, why);
    all.extend(written);
    // A commit that failed may have reached the disk all the same; then it counts.
    let check = |there: &[String], after: &[&str]| {
        let rest = there.strip_prefix(&*all).expect("what was acknowledged is there, in order");
        let rest = rest.strip_prefix(std::slice::from_ref(&refused)).unwrap_or(rest);
        assert_eq!(rest, after);
    };
    // Reading goes on, and the state is told.
    until("it is told", || {
        let doctor = node.tell(&["doctor"]);
        no_panic("doctor", &words(&doctor));
        let told = format!("nothing can be stored: {why}");
        (doctor.status.code() == Some(2) && words(&doctor).contains(&told)).then_some(())
    });
    check(&texts(node, "Diary"), &[]);

    free();
    until("it stores again by itself", || {
        node.tell(&["send", "Diary", "room again"]).status.success().then_some(())
    });
    check(&texts(node, "Diary"), &["room again"]);
    let doctor = words(&node.tell(&["doctor"]));
    assert!(!doctor.contains("nothing can be stored"), "{doctor}");
}

/// A file that may grow no further (`RLIMIT_FSIZE`): a disk that is full, as far as anybody
/// can make one without privileges.
#[test]
fn a_file_that_cannot_grow_refuses_in_words() {
    let home = Home::new();
    let (mut node, _) = with_messages(&home, "device");
    // By default the limit kills; ignored, writes fail.
    node.under = ["sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh"].map(str::to_owned).to_vec();
    node.up();
    let pid = node.pid().expect("it runs").to_string();
    let limit = |most: &str| {
        let set =
            Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={most}")]).status();
        set.is_ok_and(|status| status.success())
    };
    let now = fs::metadata(node.dir.join(FILE)).expect("the database").len();
    if !limit(&format!("{}:unlimited", now + (64 << 10))) {
        println!("skipped: no `prlimit` (util-linux) here");
        return;
    }
    full(&node, "storage failed: File too large", || assert!(limit("unlimited")));
    node.stop();
}

/// A disk of four megabytes, full to the last block: a tmpfs in a namespace of its own, where
/// the system lets its users make one.
#[test]
fn a_full_disk_refuses_in_words() {
    const MOUNT: &str = "mount -t tmpfs -o size=4m,mode=700 tmpfs \"$0\" && exec \"$@\"";
    let home = Home::new();
    let disk = home.path().join("disk");
    fs::create_dir(&disk).expect("a folder");
    let mut under =
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"].map(str::to_owned).to_vec();
    under.extend([MOUNT.to_owned(), disk.display().to_string()]);
    let works = Command::new(&under[0]).args(&under[1..]).arg("true").output();
    if !works.is_ok_and(|output| output.status.success()) {
        println!("skipped: no user namespace with a tmpfs here");
        return;
    }
    let mut node = Node::device(&home, "device");
    node.dir = disk.join("device");
    node.under = under;
    node.start();
    // The process sees its disk where it is mounted; from outside it is reached through it.
    let pid = node.pid().expect("it runs");
    let through = |path: &Path| {
        let path = path.strip_prefix("/").expect("an absolute path");
        Path::new("/proc").join(pid.to_string()).join("root").join(path)
    };
    let filler = through(&disk).join("filler");
    node.dir = through(&node.dir);
    node.under.clear();
    node.answers();

    let made = ["init", "--name", "Ann"];
    node.json(&made);
    node.json(&["group", "create", "Diary"]);
    node.json(&["send", "Diary", "entry 0"]);
    fill(&filler);
    full(&node, "the disk is full", || fs::remove_file(&filler).expect("removed"));
    let chats: Vec<view::Chat> = node.read(&["chats"]);
    assert_eq!(chats.len(), 1);
    node.stop();
}

/// Takes all room that is left.
fn fill(path: &Path) {
    let mut file: File = OpenOptions::new().create(true).append(true).open(path).expect("a file");
    let block = [0x42; 4096];
    while file.write_all(&block).is_ok() {}
}
