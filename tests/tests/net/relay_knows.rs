//! A relay's disk, metrics and log after a lively day: nothing of what it carried.

use std::fs;
use std::path::Path;

use libp2p::identity::{PublicKey, ed25519};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use serde_json::Value;
use teahouse_core::view;
use teahouse_node::config;
use teahouse_protocols::ids::DeviceId;

use crate::process::{Home, Node, active_chat, deposited, invite, text, texts, until, use_relay};
use crate::search::{FORMS, Form, Needle, Search};

const ANN: &str = "Wilhelmina Featherstone";
const BOB: &str = "欧阳静怡和她的猫";
const GREETING: &str = "Greetings from the bookbinder's stall";
const GROUP: &str = "Thursday lantern committee";
const NOTICE: &str = "Bring paper, wire and 浆糊 on Thursday";
const TABLET: &str = "the spare tablet upstairs";
const TO_BOB: [&str; 3] = [
    "The lanterns are kept in the third cupboard",
    "灯笼放在第三个柜子里，别忘了带钥匙",
    "and mind the cat, please",
];
const TO_ANN: [&str; 2] = ["I shall bring the ladder tomorrow", "明天我会把梯子带过来"];
const TO_GROUP: [&str; 2] = ["Who paints the big dragon?", "谁来画那条大龙呢"];
const LAST: [&str; 3] =
    ["Nobody has fetched this message yet", "这条消息还没有人取走", "nor this one, which waits"];

/// Ann links a second device to her account.
fn link(old: &Node, new: &Node) {
    let code = text(&old.json(&["device", "link", "--no-wait"]), "/link");
    new.json(&["device", "join", &code, "--name", TABLET, "--no-wait"]);
    let digits = |node: &Node| match node.read(&["device", "status"]) {
        view::Linking::Compare { digits } => Some(digits),
        view::Linking::Failed { why } => panic!("linking failed: {why}"),
        _ => None,
    };
    let (a, b) = until("both show digits", || Some((digits(old)?, digits(new)?)));
    assert_eq!(a, b);
    old.json(&["device", "confirm"]);
}

/// Waits until the relay has the newest message.
fn relayed(node: &Node, chat: &str) {
    until("the relay has the newest message", || {
        let all: Vec<view::Message> = node.read(&["read", chat, "--peek"]);
        all.iter().rfind(|m| m.mine)?.delivery.filter(|d| d.relayed > 0).map(drop)
    });
    deposited(node);
}

fn device(node: &Node) -> DeviceId {
    let status: Value = node.json(&["status"]);
    DeviceId::from_hex(&text(&status, "/identity/device")).expect("a device's id")
}

/// Its libp2p name, as bytes.
fn peer_id(device: DeviceId) -> Vec<u8> {
    let key = ed25519::PublicKey::try_from_bytes(&device.0).expect("a key");
    PublicKey::from(key).to_peer_id().to_bytes()
}

fn metrics(node: &Node) -> String {
    let api = config::api_file(&node.dir).expect("readable").expect("it runs");
    let mut answer = ureq::get(format!("http://127.0.0.1:{}/metrics", api.port))
        .header("authorization", format!("Bearer {}", api.token))
        .call()
        .expect("metrics");
    answer.body_mut().read_to_string().expect("text")
}

/// All that must be nowhere, and the devices' libp2p names.
fn needles(ann: &Node, tablet: &Node, bob: &Node) -> (Vec<Needle>, Vec<Needle>) {
    let mut all: Vec<Needle> = [ANN, BOB, GREETING, GROUP, NOTICE, TABLET]
        .iter()
        .chain(TO_BOB.iter().chain(&TO_ANN).chain(&TO_GROUP).chain(&LAST))
        .map(|text| Needle::new(&format!("“{text}”"), *text))
        .collect();
    let mut peers = Vec::new();
    for (who, node) in [("Ann", ann), ("Ann's tablet", tablet), ("Bob", bob)] {
        let id = device(node);
        all.push(Needle::new(&format!("the key of {who}'s device"), id.0));
        peers.push(Needle::new(&format!("the PeerId of {who}'s device"), peer_id(id)));
    }
    for (who, node) in [("Ann", ann), ("Bob", bob)] {
        let hex = text(&node.json(&["status"]), "/identity/account");
        let id = Form::HexLower;
        let bytes = data_encoding::HEXLOWER.decode(hex.as_bytes()).expect("an account's id");
        assert_eq!(id.write(&bytes), hex.as_bytes());
        all.push(Needle::new(&format!("{who}'s account"), bytes));
    }
    (all, peers)
}

/// Copies the folder and hides each needle in each form in it, at a random place and
/// alignment: all must be found.
fn control(search: &Search, dir: &Path, copy: &Path) {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let mut some = |most: u32| {
        let mut bytes = vec![0; (rng.next_u32() % most) as usize];
        rng.fill_bytes(&mut bytes);
        bytes
    };
    fs::create_dir(copy).expect("a folder");
    for entry in fs::read_dir(dir).expect("the relay's folder").map(|e| e.expect("an entry")) {
        fs::copy(entry.path(), copy.join(entry.file_name())).expect("a copy");
    }
    assert!(search.folder(copy).is_empty(), "nothing is hidden yet");
    let database = copy.join(teahouse_core::store::FILE);
    let image = fs::read(&database).expect("the database");
    let mut hidden = image.clone();
    let mut planted = 0;
    // One after the other, over the database itself, each in the middle of other bytes.
    let mut at = 0;
    for needle in search.needles() {
        for form in FORMS {
            let inner = match form {
                Form::Base58 => needle.bytes.clone(),
                _ => [some(9), needle.bytes.clone(), some(9)].concat(),
            };
            let written = form.write(&inner);
            at += some(200).len() + 1;
            if at + written.len() > hidden.len() {
                hidden.resize(at + written.len() + 1, 0);
            }
            hidden[at..at + written.len()].copy_from_slice(&written);
            at += written.len();
            planted += 1;
        }
    }
    fs::write(&database, &hidden).expect("written");
    let found = search.folder(copy);
    assert_eq!(found.len(), planted, "what was hidden is not all found: {found:?}");

    // And a single one in the midst of everything else.
    let middle = image.len() / 2;
    let needle = &search.needles()[0];
    let mut hidden = image;
    hidden[middle..middle + needle.bytes.len()].copy_from_slice(&needle.bytes);
    fs::write(&database, &hidden).expect("written");
    assert_eq!(search.folder(copy).into_keys().collect::<Vec<_>>(), [(0, Form::Raw)]);
}

/// People meet, chat, make a group and link a device, all by one relay that logs as much as
/// it can. Afterwards its disk, metrics and log are searched for every text, name, account
/// and device key, in eight forms.
///
/// `PeerId`s are device keys in another spelling. The disk and the metrics must not hold
/// them either; the log at `debug` may: whoever uses the circuit relay shows its `PeerId`
/// (SECURITY.md, "What a relay sees live"), and libp2p logs it.
#[test]
fn the_relay_knows_nothing() {
    let home = Home::new();
    let mut relay = Node::relay(&home, "relay");
    relay.logs = "debug";
    let mut ann = Node::device(&home, "ann").with_account(ANN);
    let mut bob = Node::device(&home, "bob").with_account(BOB);
    let mut tablet = Node::device(&home, "tablet");
    for node in [&mut relay, &mut ann, &mut bob, &mut tablet] {
        node.up();
    }
    let link_to_relay = invite(&relay);
    use_relay(&ann, &link_to_relay);
    use_relay(&bob, &link_to_relay);

    // First apart, so that the relay carries everything.
    let card = text(&bob.json(&["card"]), "/link");
    bob.stop();
    ann.json(&["add", &card, "--greeting", GREETING]);
    deposited(&ann);
    ann.stop();
    bob.up();
    until("Ann's request", || {
        let all: Vec<view::Contact> = bob.read(&["requests"]);
        all.iter().find(|c| c.name == ANN && c.greeting == GREETING).map(drop)
    });
    let greeting = Search::new(vec![Needle::new("greeting", GREETING)]);
    assert!(!greeting.folder(&bob.dir).is_empty(), "Bob has it, until he answers");
    bob.json(&["requests", "accept", ANN]);
    for text in TO_ANN {
        bob.json(&["send", ANN, text]);
    }
    relayed(&bob, ANN);
    bob.stop();
    ann.up();
    active_chat(&ann, BOB);
    for text in TO_BOB {
        ann.json(&["send", BOB, text]);
    }
    ann.json(&["group", "create", GROUP, BOB]);
    ann.json(&["group", "notice", GROUP, NOTICE]);
    ann.json(&["send", GROUP, TO_GROUP[0]]);
    relayed(&ann, BOB);
    relayed(&ann, GROUP);
    // A newcomer's invite carries a greeter's card through the operator's hands.
    let card = text(&ann.json(&["card", "--welcome-to", GROUP]), "/link");
    relay.json(&["relay", "invite", "--greeter", &card]);
    link(&ann, &tablet);

    // Then together, so that it connects them.
    bob.up();
    until("Bob is in the group", || {
        let chats: Vec<view::Chat> = bob.read(&["chats"]);
        chats.iter().find(|c| c.title == GROUP && c.notice == NOTICE).map(drop)
    });
    bob.json(&["send", GROUP, TO_GROUP[1]]);
    bob.json(&["react", ANN, "last", "🏮"]);
    let direct: Vec<&str> = TO_BOB.iter().chain(&TO_ANN).copied().collect();
    for (node, other) in [(&ann, BOB), (&tablet, BOB), (&bob, ANN)] {
        for (chat, expected) in [(other, &*direct), (GROUP, &TO_GROUP)] {
            until("everybody has everything", || {
                let chats: Vec<view::Chat> = node.read(&["chats"]);
                chats.iter().find(|c| c.title == chat)?;
                let there = texts(node, chat);
                expected.iter().all(|text| there.iter().any(|t| t == text)).then_some(())
            });
        }
    }

    // Bob goes, the tablet too: what is written now stays at the relay.
    bob.stop();
    tablet.stop();
    for text in LAST {
        ann.json(&["send", BOB, text]);
    }
    relayed(&ann, BOB);
    ann.stop();

    let status = relay.json(&["relay", "status"]);
    let metrics = metrics(&relay);
    relay.stop();

    // It carried something, and holds it.
    let mailbox = &status["relay"]["mailbox"];
    let number = |name: &str| mailbox[name].as_u64().unwrap_or_default();
    let shown = format!(
        "the relay holds {} items, {} bytes, in {} mailboxes; {} deposits, {} fetches",
        number("items"),
        number("bytes"),
        number("tags"),
        number("deposits"),
        number("fetches")
    );
    println!("{shown}");
    let least: usize = LAST.iter().map(|t| t.len()).sum();
    assert!(number("items") >= LAST.len() as u64, "{shown}");
    assert!(number("bytes") >= least as u64, "{shown}");
    assert!(number("deposits") > 5 && number("fetches") > 1, "{shown}");
    assert!(metrics.contains("teahouse_relay_mailboxes"), "{metrics}");
    let log = fs::read(&relay.log).expect("the relay's log");
    assert!(log.len() > 10_000, "a log at debug says more");

    let (secrets, peers) = needles(&ann, &tablet, &bob);
    let everything = Search::new(secrets.iter().chain(&peers).cloned().collect());
    let secrets = Search::new(secrets);

    // The search finds what is there.
    control(&everything, &relay.dir, &home.path().join("control"));
    let mut own = everything.folder(&ann.dir);
    own.extend(everything.folder(&bob.dir));
    for (number, needle) in everything.needles().iter().enumerate() {
        // A device spells its key as a PeerId only in passing, the greeting was seen above,
        // and the name that a joining device is given is not kept yet.
        let elsewhere = ["PeerId", GREETING, TABLET].iter().any(|w| needle.what.contains(w));
        let there = own.contains_key(&(number, Form::Raw));
        assert!(there || elsewhere, "not even on the people's own disks: {}", needle.what);
    }

    // Nothing of it is at the relay.
    let found = everything.folder(&relay.dir);
    assert!(found.is_empty(), "on the disk: {:#?}", everything.words(&found));
    let found = everything.bytes(metrics.as_bytes());
    assert!(found.is_empty(), "in the metrics: {:#?}", everything.words(&found));
    let found = secrets.bytes(&log);
    assert!(found.is_empty(), "in the log: {:#?}", secrets.words(&found));
    let found = everything.bytes(&log);
    println!(
        "looked for {} things in {} forms; the log of {} bytes names PeerIds: {:?}",
        everything.needles().len(),
        FORMS.len(),
        log.len(),
        everything.words(&found)
    );
}
