//! Mini Programs: installing them by link, from each other, on all devices; what they keep.

use std::collections::BTreeMap;

use teahouse_core::command::{Command, Groups, Refusal, Reply};
use teahouse_core::programs::query::{
    LoginKey, OneProgram, PackageOf, Program, Programs, Shared, SharedKeys, Stored, StoredKeys,
};
use teahouse_core::programs::state::{MAX_STATE_BYTES, MAX_STATE_ROOM, MAX_STATE_WRITES};
use teahouse_core::programs::tables::{PROGRAM_COMING, PROGRAM_PAGES};
use teahouse_core::programs::{Command as Ask, MAX_KEYS, MAX_PROGRAMS, MAX_ROOM, MAX_VALUE};
use teahouse_core::query::Query;
use teahouse_core::store::{KeyRange, ReadExt};
use teahouse_core::view::Blob;
use teahouse_protocols::codec::{self, List, Text};
use teahouse_protocols::ids::{AppId, TopicId};
use teahouse_protocols::link::{Link, ProgramLink, Provider};
use teahouse_protocols::package::{
    self, Manifest, PAGE, Permission, Power, ProgramFrame, Release, VerifiedPackage,
};
use teahouse_protocols::sign::SigningKey;
use teahouse_protocols::sync::Frame;
use teahouse_tests::world::World;

use crate::town::{link, town};

fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

/// A package of several pages.
fn package(by: u8, name: &str, code: u32, page: u8) -> VerifiedPackage {
    let draft = Manifest {
        form: package::VERSION,
        developer: [0; 32],
        name: name.try_into().unwrap(),
        version: Release { code, name: Text::default() },
        description: Text::default(),
        lang: Text::default(),
        pages: vec!["main.js".try_into().unwrap()].try_into().unwrap(),
        icons: List::default(),
        req_permissions: vec![Permission { power: Power::Storage, reason: Text::default() }]
            .try_into()
            .unwrap(),
        cloud: None,
        files: List::default(),
    };
    let big: Vec<u8> = (0..6 * PAGE + 9).map(|i| (i / PAGE) as u8 ^ page).collect();
    let main = format!("// {code}\nexport const update = () => undefined;").into_bytes();
    let files = BTreeMap::from([("main.js".to_owned(), main), ("big.bin".to_owned(), big)]);
    VerifiedPackage::new(draft, &files, &key(by)).unwrap()
}

fn ask(w: &mut World, device: usize, c: Ask) -> Result<Reply, Refusal> {
    w.ask(device, Command::Programs(c))
}

fn install(w: &mut World, device: usize, package: &VerifiedPackage) -> AppId {
    match ask(w, device, Ask::Install { package: Blob(package.to_bytes().unwrap()) }) {
        Ok(Reply::Program { app }) => app,
        other => panic!("install: {other:?}"),
    }
}

fn share(w: &mut World, device: usize, app: AppId) -> String {
    match ask(w, device, Ask::Share { app, launch: String::new() }) {
        Ok(Reply::Link { link }) => link,
        other => panic!("share: {other:?}"),
    }
}

fn add(w: &mut World, device: usize, link: &str) -> AppId {
    match ask(w, device, Ask::Add { link: link.to_owned() }) {
        Ok(Reply::Program { app }) => app,
        other => panic!("add: {other:?}"),
    }
}

fn put(w: &mut World, device: usize, app: AppId, key: &str, value: &[u8]) -> Result<(), Refusal> {
    let value = Some(Blob(value.to_vec()));
    ask(w, device, Ask::Put { app, key: key.to_owned(), value }).map(|_| ())
}

fn query<Q: Query>(w: &World, device: usize, query: &Q) -> Q::Out {
    query.run(&w.snapshot(device)).unwrap()
}

fn shown(w: &World, device: usize, app: AppId) -> Option<Program> {
    query(w, device, &OneProgram { app })
}

fn bytes(w: &World, device: usize, app: AppId) -> Option<Vec<u8>> {
    query(w, device, &PackageOf { app }).map(|b| b.0)
}

fn code(w: &World, device: usize, app: AppId) -> u32 {
    shown(w, device, app).and_then(|p| p.package).map_or(0, |p| p.code)
}

fn stored(w: &World, device: usize, app: AppId, key: &str) -> Option<Vec<u8>> {
    query(w, device, &Stored { app, key: key.to_owned() }).map(|b| b.0)
}

fn rows(w: &World, device: usize) -> usize {
    let s = w.snapshot(device);
    let count = |table| s.count(table, &KeyRange::all(), 10_000).unwrap();
    count(&PROGRAM_COMING) + count(&PROGRAM_PAGES)
}

fn people(w: &mut World, names: &[&str]) -> Vec<usize> {
    let devices: Vec<usize> = names
        .iter()
        .map(|name| {
            let device = w.add_device();
            w.create(device, name);
            device
        })
        .collect();
    w.run(2_000);
    devices
}

/// A stranger installs by a link, and passes the program on while its developer is off.
#[test]
fn whoever_has_a_program_gives_it_to_who_has_a_link() {
    let mut w = World::new(61);
    let [a, b, c] = people(&mut w, &["Ann", "Bob", "Cy"])[..] else { unreachable!() };
    let tea = package(1, "Tea", 1, 0);
    let app = install(&mut w, a, &tea);
    let from_ann = share(&mut w, a, app);
    assert_eq!(add(&mut w, b, &from_ann), app);
    let before = shown(&w, b, app).unwrap();
    assert_eq!((before.name.as_str(), before.package), ("Tea", None));
    w.run(10_000);
    assert_eq!(bytes(&w, b, app), tea.to_bytes().ok());
    w.set_online(a, false);
    let from_bob = share(&mut w, b, app);
    add(&mut w, c, &from_bob);
    w.run(30_000);
    assert_eq!(bytes(&w, c, app), tea.to_bytes().ok());
    assert!(query(&w, c, &Programs {})[0].coming.is_none());
}

/// Pages are lost, devices crash: it comes all the same, and what came is not asked again.
#[test]
fn a_package_comes_through_loss_and_crashes() {
    let mut w = World::new(62);
    let [a, b] = people(&mut w, &["Ann", "Bob"])[..] else { unreachable!() };
    let tea = package(1, "Tea", 1, 0);
    let app = install(&mut w, a, &tea);
    let shared = share(&mut w, a, app);
    add(&mut w, b, &shared);
    for _ in 0..6 {
        w.run(40);
        w.crash(b, false);
        w.start(b);
        w.flap(a);
        w.reconnect();
    }
    w.run(120_000);
    assert_eq!(bytes(&w, b, app), tea.to_bytes().ok());
    let seven_and_main = 8;
    assert_eq!(rows(&w, b), seven_and_main, "nothing is left over");
}

/// Who shares a program is asked, and others are not told that it is here.
#[test]
fn a_program_that_was_not_shared_is_not_told() {
    let mut w = World::new(63);
    let [a, b] = people(&mut w, &["Ann", "Bob"])[..] else { unreachable!() };
    let tea = package(1, "Tea", 1, 0);
    let app = install(&mut w, a, &tea);
    let provider =
        Provider { device: w.devices[a].id, addrs: List::default(), relays: List::default() };
    let guessed = Link::Program(ProgramLink {
        version: 1,
        app,
        developer: tea.manifest().get().developer,
        name: "Tea".try_into().unwrap(),
        code: 1,
        providers: vec![provider].try_into().unwrap(),
        launch: Text::default(),
    });
    add(&mut w, b, &guessed.to_uri());
    w.run(30_000);
    assert_eq!(code(&w, b, app), 0);
    share(&mut w, a, app);
    w.run(120_000);
    assert_eq!(code(&w, b, app), 1, "asked again, and given now");
}

/// What is installed on one device is on all, with what it may and as the same person.
#[test]
fn the_devices_of_an_account_share_programs_and_grants() {
    let mut w = World::new(64);
    let [a, b] = people(&mut w, &["Ann", "Bob"])[..] else { unreachable!() };
    let a2 = link(&mut w, a);
    let app = install(&mut w, a, &package(1, "Tea", 1, 0));
    let other = install(&mut w, a, &package(1, "Coffee", 1, 7));
    ask(&mut w, a, Ask::Grant { app, power: Power::Storage, allowed: Some(true) }).unwrap();
    w.run(30_000);
    assert_eq!(code(&w, a2, app), 1);
    let allowed = |w: &World, device| shown(w, device, app).unwrap().powers[0].allowed;
    assert_eq!(allowed(&w, a2), Some(true));
    assert_eq!(shown(&w, a2, other).unwrap().powers[0].allowed, None, "not another program's");
    ask(&mut w, a2, Ask::Grant { app, power: Power::Storage, allowed: Some(false) }).unwrap();
    w.run(10_000);
    assert_eq!(allowed(&w, a), Some(false), "taken back");
    // One person to one program, on all devices; two to two.
    let login = |w: &World, device, app| query(w, device, &LoginKey { app });
    assert_eq!(login(&w, a, app), login(&w, a2, app));
    assert!(login(&w, a, app).is_some() && login(&w, a, app) != login(&w, a, other));
    install(&mut w, b, &package(1, "Tea", 1, 0));
    assert!(login(&w, a, app) != login(&w, b, app));
    // A newer version comes to the other device, too.
    install(&mut w, a, &package(1, "Tea", 2, 0));
    w.run(30_000);
    assert_eq!(code(&w, a2, app), 2);
    put(&mut w, a2, app, "cups", b"3").unwrap();
    ask(&mut w, a, Ask::Uninstall { app }).unwrap();
    w.run(10_000);
    assert!(shown(&w, a2, app).is_none() && bytes(&w, a2, app).is_none());
    assert_eq!(stored(&w, a2, app, "cups"), None, "what it kept went with it");
    install(&mut w, a, &package(1, "Tea", 2, 0));
    w.run(10_000);
    assert_eq!(allowed(&w, a), None, "and what it was allowed");
    w.rebuild(a).unwrap();
    assert_eq!(code(&w, a, app), 2);
}

/// The version code only rises, whoever offers what.
#[test]
fn no_older_version_takes_a_newer_ones_place() {
    let mut w = World::new(65);
    let [a, b] = people(&mut w, &["Ann", "Bob"])[..] else { unreachable!() };
    let (old, new) = (package(1, "Tea", 3, 0), package(1, "Tea", 5, 1));
    let app = install(&mut w, a, &new);
    let refused = |w: &mut World, p: &VerifiedPackage| {
        ask(w, a, Ask::Install { package: Blob(p.to_bytes().unwrap()) }).is_err()
    };
    assert!(refused(&mut w, &old));
    assert!(refused(&mut w, &package(1, "Tea", 5, 9)), "another of the same code");
    assert!(!refused(&mut w, &new), "the same again is no harm");
    assert_ne!(install(&mut w, a, &package(2, "Tea", 1, 0)), app, "another developer's");
    // Whoever has an older one only can't pass it off by a link to the newer.
    let shared = share(&mut w, a, app);
    w.set_online(a, false);
    let [c] = people(&mut w, &["Cy"])[..] else { unreachable!() };
    install(&mut w, c, &old);
    share(&mut w, c, app);
    add(&mut w, b, &shared);
    let through = Link::parse(&share(&mut w, c, app)).unwrap();
    let Link::Program(mut through) = through else { unreachable!() };
    through.code = 5;
    add(&mut w, b, &Link::Program(through).to_uri());
    w.run(60_000);
    assert_eq!(code(&w, b, app), 3, "what its developer signed, whatever the link says");
    w.set_online(a, true);
    w.run(120_000);
    assert_eq!(code(&w, b, app), 5);
    w.run(120_000);
    assert_eq!(code(&w, b, app), 5);
}

/// A link may say that there is a version which there is not: real ones come all the same, and
/// the tale is not passed on.
#[test]
fn a_forged_link_stops_no_update() {
    let mut w = World::new(68);
    let [a, b] = people(&mut w, &["Ann", "Bob"])[..] else { unreachable!() };
    let b2 = link(&mut w, b);
    let app = install(&mut w, a, &package(1, "Tea", 1, 0));
    let shared = share(&mut w, a, app);
    let Ok(Link::Program(mut forged)) = Link::parse(&shared) else { unreachable!() };
    forged.code = u32::MAX;
    add(&mut w, b, &Link::Program(forged).to_uri());
    w.run(60_000);
    assert_eq!((code(&w, b, app), code(&w, b2, app)), (1, 1));
    install(&mut w, a, &package(1, "Tea", 2, 0));
    w.flap(a);
    w.run(120_000);
    assert_eq!((code(&w, b, app), code(&w, b2, app)), (2, 2));
    let Ok(Link::Program(own)) = Link::parse(&share(&mut w, b, app)) else { unreachable!() };
    assert_eq!(own.code, 2);
}

fn share_state(
    w: &mut World,
    device: usize,
    app: AppId,
    topic: TopicId,
    (key, value): (&str, &[u8]),
) -> Result<Reply, Refusal> {
    let (key, value) = (key.to_owned(), Blob(value.to_vec()));
    ask(w, device, Ask::PutShared { app, topic, key, value })
}

fn state(w: &World, device: usize, app: AppId, topic: TopicId, key: &str) -> Option<Vec<u8>> {
    query(w, device, &Shared { app, topic, key: key.to_owned() }).map(|b| b.0)
}

fn state_keys(w: &World, device: usize, app: AppId, topic: TopicId) -> Vec<String> {
    let keys = query(w, device, &SharedKeys { app, topic, prefix: String::new() });
    keys.into_iter().map(|s| s.key).collect()
}

/// A program that may share state.
fn board(code: u32) -> VerifiedPackage {
    let plain = package(1, "Board", code, 0);
    let Manifest { name, version, pages, .. } = plain.manifest().get().clone();
    let power = |power| Permission { power, reason: Text::default() };
    let draft = Manifest {
        name,
        version,
        pages,
        req_permissions: vec![power(Power::State), power(Power::Share)].try_into().unwrap(),
        ..plain.manifest().get().clone()
    };
    let files = BTreeMap::from([("main.js".to_owned(), b"export {}".to_vec())]);
    VerifiedPackage::new(draft, &files, &key(1)).unwrap()
}

/// Three members of a group with a program that may share state there.
fn table(seed: u64) -> (World, Vec<usize>, TopicId, AppId) {
    let (mut w, _, d) = town(seed, &["Ann", "Bob", "Cy"]);
    w.befriend(d[0], d[1]);
    w.befriend(d[0], d[2]);
    w.run(5_000);
    let others = vec![w.account(d[1]), w.account(d[2])];
    let group = w.group(d[0], "tea", others);
    w.run(10_000);
    let mut app = AppId([0; 32]);
    for device in &d {
        app = install(&mut w, *device, &board(1));
        let allowed = Some(true);
        ask(&mut w, *device, Ask::Grant { app, power: Power::State, allowed }).unwrap();
    }
    (w, d, group, app)
}

/// Two members change the same key at once: all come to the same value, and so does a replay.
#[test]
fn members_share_state_and_agree() {
    let (mut w, d, group, app) = table(71);
    share_state(&mut w, d[0], app, group, ("turn", b"Ann")).unwrap();
    w.run(10_000);
    for device in &d {
        assert_eq!(state(&w, *device, app, group, "turn").as_deref(), Some(&b"Ann"[..]));
    }
    w.set_online(d[0], false);
    w.set_online(d[1], false);
    share_state(&mut w, d[0], app, group, ("turn", b"Bob")).unwrap();
    share_state(&mut w, d[0], app, group, ("move/1", b"e4")).unwrap();
    share_state(&mut w, d[1], app, group, ("turn", b"Cy")).unwrap();
    assert_ne!(state(&w, d[0], app, group, "turn"), state(&w, d[1], app, group, "turn"));
    w.set_online(d[0], true);
    w.set_online(d[1], true);
    w.run(60_000);
    let agreed = state(&w, d[2], app, group, "turn").unwrap();
    assert!(agreed == b"Bob" || agreed == b"Cy");
    for device in &d {
        assert_eq!(state(&w, *device, app, group, "turn").as_ref(), Some(&agreed));
        assert_eq!(state_keys(&w, *device, app, group), ["move/1", "turn"]);
        assert!(w.texts(*device, group).is_empty(), "it is no message");
    }
    // Whoever writes next has the last word, whoever it was before.
    share_state(&mut w, d[2], app, group, ("turn", b"Ann")).unwrap();
    w.run(10_000);
    for device in &d {
        assert_eq!(state(&w, *device, app, group, "turn").as_deref(), Some(&b"Ann"[..]));
        w.rebuild(*device).unwrap();
        assert_eq!(state(&w, *device, app, group, "turn").as_deref(), Some(&b"Ann"[..]));
    }
    // Another program's keys, and another chat's, are others.
    assert_eq!(state(&w, d[0], AppId([1; 32]), group, "turn"), None);
    assert_eq!(state(&w, d[0], app, TopicId([1; 32]), "turn"), None);
}

/// What a removed member writes after the removal shows nowhere.
#[test]
fn a_removed_member_shares_nothing_more() {
    let (mut w, d, group, app) = table(72);
    share_state(&mut w, d[2], app, group, ("cy", b"here")).unwrap();
    w.run(10_000);
    w.set_online(d[2], false);
    let account = w.account(d[2]);
    w.ask(d[0], Command::Groups(Groups::Remove { topic: group, account })).unwrap();
    w.run(10_000);
    // It has not heard of it yet.
    share_state(&mut w, d[2], app, group, ("cy", b"still")).unwrap();
    share_state(&mut w, d[2], app, group, ("more", b"x")).unwrap();
    w.set_online(d[2], true);
    w.run(60_000);
    for device in &d[..2] {
        assert_eq!(state(&w, *device, app, group, "cy").as_deref(), Some(&b"here"[..]));
        assert_eq!(state_keys(&w, *device, app, group), ["cy"]);
    }
    assert!(share_state(&mut w, d[2], app, group, ("cy", b"again")).is_err());
    // And hears no more of it.
    share_state(&mut w, d[0], app, group, ("ann", b"just us")).unwrap();
    w.run(30_000);
    assert_eq!(state(&w, d[1], app, group, "ann").as_deref(), Some(&b"just us"[..]));
    assert_eq!(state(&w, d[2], app, group, "ann"), None);
}

/// Only in a chat, only with the person's word, and within bounds.
#[test]
fn what_a_program_shares_is_allowed_and_bounded() {
    let (mut w, d, group, app) = table(73);
    let a = d[0];
    let refused = |w: &mut World, topic, key: &str, value: &[u8]| {
        share_state(w, a, app, topic, (key, value)).unwrap_err()
    };
    assert!(matches!(refused(&mut w, TopicId([9; 32]), "k", b""), Refusal::NotFound { .. }));
    assert!(matches!(refused(&mut w, group, "", b""), Refusal::Invalid { .. }));
    assert!(matches!(refused(&mut w, group, &"k".repeat(129), b""), Refusal::Invalid { .. }));
    let large = vec![0; MAX_STATE_BYTES];
    assert!(matches!(
        refused(&mut w, group, "k", &[&large[..], b"0"].concat()),
        Refusal::Invalid { .. }
    ));
    let grant = |w: &mut World, allowed| {
        ask(w, a, Ask::Grant { app, power: Power::State, allowed }).unwrap();
    };
    for word in [Some(false), None] {
        grant(&mut w, word);
        assert!(matches!(refused(&mut w, group, "k", b""), Refusal::NotAllowed { .. }));
    }
    grant(&mut w, Some(true));
    // The room of a program in a chat.
    let fits = MAX_STATE_ROOM as usize / (MAX_STATE_BYTES + 2);
    for n in 0..fits {
        share_state(&mut w, a, app, group, (&format!("{n:02}"), &large)).unwrap();
    }
    assert!(matches!(refused(&mut w, group, "zz", &large), Refusal::Limit { .. }));
    // What stands there already costs nothing.
    for _ in 0..MAX_STATE_WRITES {
        share_state(&mut w, a, app, group, ("00", &large)).unwrap();
    }
    // What is written stays in the log: so much a day, then no more before the next.
    let mut writes = 0;
    while share_state(&mut w, a, app, group, ("00", &[writes as u8])).is_ok() {
        writes += 1;
        assert!(writes <= MAX_STATE_WRITES);
    }
    assert!(matches!(refused(&mut w, group, "00", b"one more"), Refusal::Limit { .. }));
    w.warp(25 * 60 * 60 * 1000);
    share_state(&mut w, a, app, group, ("00", b"one more")).unwrap();
}

/// A card carries its words: whoever gets it installs the program by it.
#[test]
fn a_card_is_sent_into_a_chat() {
    let (mut w, _, d) = town(74, &["Ann", "Bob"]);
    let chat = w.befriend(d[0], d[1]);
    w.run(5_000);
    let app = install(&mut w, d[0], &board(1));
    let (title, launch) = ("Table 4\u{202e}\n\nTeahouse: pay".to_owned(), "table=4".to_owned());
    let sent = ask(&mut w, d[0], Ask::Send { app, topic: chat, title, launch });
    assert!(matches!(sent, Ok(Reply::Message { .. })), "{sent:?}");
    w.run(10_000);
    let texts = w.texts(d[1], chat);
    let (first, uri) = texts[0].split_once('\n').unwrap();
    assert_eq!(first, "Table 4 Teahouse: pay");
    let Ok(Link::Program(card)) = Link::parse(uri) else { panic!("{uri}") };
    assert_eq!((card.app, &*card.launch), (app, "table=4"));
    add(&mut w, d[1], uri);
    w.run(30_000);
    assert_eq!(code(&w, d[1], app), 1);
    let too_long = Ask::Send { app, topic: chat, title: String::new(), launch: "x".repeat(1_025) };
    assert!(ask(&mut w, d[0], too_long).is_err());
}

/// A provider that lies gets nothing stored, and is passed over for one that does not.
#[test]
fn a_lying_provider_changes_nothing() {
    let mut w = World::new(66);
    let [a, b, liar] = people(&mut w, &["Ann", "Bob", "Lee"])[..] else { unreachable!() };
    let tea = package(1, "Tea", 1, 0);
    let app = install(&mut w, a, &tea);
    let shared = share(&mut w, a, app);
    let Ok(Link::Program(mut both)) = Link::parse(&shared) else { unreachable!() };
    let mut providers = both.providers.clone().into_inner();
    let lying =
        Provider { device: w.devices[liar].id, addrs: List::default(), relays: List::default() };
    providers.insert(0, lying);
    both.providers = providers.try_into().unwrap();
    w.set_online(a, false);
    // Its honest half hears nothing, and so says nothing.
    w.full.insert((b, liar));
    add(&mut w, b, &Link::Program(both).to_uri());
    w.run(1_000);
    let say = |w: &mut World, frame: &ProgramFrame| {
        let bytes = codec::encode(frame).try_into().unwrap();
        let sent = w.forge(liar, b, codec::encode(&Frame::Service(package::SERVICE, bytes)));
        assert!(sent, "they are connected");
        w.run(500);
    };
    let offer = |p: &VerifiedPackage, app| {
        let manifest = p.manifest().bytes().to_vec().try_into().unwrap();
        ProgramFrame::Offer { app, manifest }
    };
    let page = |bytes: Vec<u8>| ProgramFrame::Page { app, bytes: bytes.try_into().unwrap() };
    // Another developer's, in this program's name and in its own; a damaged one; a page unasked.
    let theirs = package(2, "Tea", 9, 0);
    say(&mut w, &offer(&theirs, app));
    say(&mut w, &offer(&theirs, theirs.manifest().get().app()));
    let mut damaged = tea.manifest().bytes().to_vec();
    damaged[40] ^= 1;
    let manifest = damaged.try_into().unwrap();
    say(&mut w, &ProgramFrame::Offer { app, manifest });
    say(&mut w, &page(b"what nobody asked for".to_vec()));
    assert_eq!(rows(&w, b), 0, "nothing of it is stored");
    // The true manifest, and then false pages.
    say(&mut w, &offer(&tea, app));
    assert_eq!(rows(&w, b), 1, "what is coming");
    let mut wrong = tea.pages().values().next().unwrap().clone();
    wrong[0] ^= 1;
    say(&mut w, &page(wrong));
    say(&mut w, &page(Vec::new()));
    let bytes_of = vec![1, 2, 3].try_into().unwrap();
    say(&mut w, &ProgramFrame::Page { app: AppId([9; 32]), bytes: bytes_of });
    assert_eq!(rows(&w, b), 1);
    assert_eq!(code(&w, b, app), 0);
    // Then it is silent. The other has it.
    w.set_online(a, true);
    w.run(60_000);
    assert_eq!(bytes(&w, b, app), tea.to_bytes().ok());
    // Nothing is asked of the liar any more, which therefore is not connected.
    let bytes = codec::encode(&offer(&tea, app)).try_into().unwrap();
    assert!(!w.forge(liar, b, codec::encode(&Frame::Service(package::SERVICE, bytes))));
    assert_eq!(rows(&w, b), 8);
}

/// What a program keeps is its own, bounded, and there after a crash.
#[test]
fn what_a_program_keeps_is_its_own_and_bounded() {
    let mut w = World::new(67);
    let [a] = people(&mut w, &["Ann"])[..] else { unreachable!() };
    let tea = install(&mut w, a, &package(1, "Tea", 1, 0));
    let coffee = install(&mut w, a, &package(1, "Coffee", 1, 0));
    put(&mut w, a, tea, "cups", b"three").unwrap();
    put(&mut w, a, coffee, "cups", b"none").unwrap();
    put(&mut w, a, tea, "cup/1", b"green").unwrap();
    w.crash(a, false);
    w.start(a);
    assert_eq!(stored(&w, a, tea, "cups").as_deref(), Some(&b"three"[..]));
    assert_eq!(stored(&w, a, coffee, "cups").as_deref(), Some(&b"none"[..]));
    let keys =
        |w: &World, app, prefix: &str| query(w, a, &StoredKeys { app, prefix: prefix.to_owned() });
    assert_eq!(keys(&w, tea, "cup"), ["cup/1", "cups"]);
    assert_eq!(keys(&w, coffee, ""), ["cups"]);
    assert!(put(&mut w, a, AppId([1; 32]), "x", b"").is_err(), "not installed");
    assert!(
        put(&mut w, a, tea, "", b"").is_err()
            && put(&mut w, a, tea, "cups", &vec![0; MAX_VALUE + 1]).is_err()
    );
    // Room runs out, and comes back.
    let full = vec![0; MAX_VALUE];
    let fits = MAX_ROOM as usize / (MAX_VALUE + 2);
    for n in 0..fits - 1 {
        put(&mut w, a, tea, &format!("{n:02}"), &full).unwrap();
    }
    let mut refused = 0;
    for n in fits - 1..fits + 2 {
        refused += usize::from(put(&mut w, a, tea, &format!("{n:02}"), &full).is_err());
    }
    assert!((1..=3).contains(&refused));
    assert!(shown(&w, a, tea).unwrap().keeps <= MAX_ROOM);
    put(&mut w, a, tea, "00", b"little").unwrap();
    put(&mut w, a, tea, "zz", &full).unwrap();
    ask(&mut w, a, Ask::Put { app: tea, key: "zz".into(), value: None }).unwrap();
    assert_eq!(stored(&w, a, tea, "zz"), None);
    for n in 1..MAX_KEYS {
        put(&mut w, a, coffee, &format!("{n}"), b"").unwrap();
    }
    assert!(put(&mut w, a, coffee, "one more", b"").is_err());
    put(&mut w, a, coffee, "1", b"another value").unwrap();
    // Programs, too, are counted.
    for n in 2..MAX_PROGRAMS {
        install(&mut w, a, &package(1, &format!("n{n}"), 1, 0));
    }
    let more = Blob(package(1, "more", 1, 0).to_bytes().unwrap());
    assert!(matches!(ask(&mut w, a, Ask::Install { package: more }), Err(Refusal::Limit { .. })));
}
