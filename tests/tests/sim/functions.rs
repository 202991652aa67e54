//! Functions of Mini Programs at their developer's node: calls through loss and crashes, seats
//! that two people want, offers that are paid, expire and go back.

use std::collections::{BTreeMap, BTreeSet};

use teahouse_core::command::{Command, Refusal, Reply};
use teahouse_core::functions::query::{
    AnswerOf, CallState, Due, DueView, DueWhat, Functions, Kept, KeptKeys,
};
use teahouse_core::functions::tables::News;
use teahouse_core::functions::{Command as Ask, NewOffer, NewRefund, Ran, Write};
use teahouse_core::pay::Command as Pay;
use teahouse_core::pay::programs::Bill;
use teahouse_core::pay::query::Orders;
use teahouse_core::pay::tables::{Number, PayState};
use teahouse_core::programs::Command as Programs;
use teahouse_core::query::Query;
use teahouse_core::view::Blob;
use teahouse_protocols::codec::{self, List, Text};
use teahouse_protocols::functions::{self, Call, CallAnswer, CallFrame, MAX_CALL_LIFE};
use teahouse_protocols::ids::{AppId, AssetId};
use teahouse_protocols::package::{
    self, Cloud, Manifest, Permission, Power, Release, VerifiedPackage,
};
use teahouse_protocols::sign::{Signed, SigningKey};
use teahouse_protocols::sync::Frame;
use teahouse_tests::world::{Faults, World};

const MINUTE: u64 = 60 * 1_000;
/// The cinema's device: it issues, and runs the functions.
const CINEMA: usize = 0;
const ANN: usize = 1;
const BOB: usize = 2;

fn package(w: &World, device: usize, by: u8) -> VerifiedPackage {
    let permission = |power| Permission { power, reason: Text::default() };
    let path = |path: &str| path.try_into().unwrap();
    let draft = Manifest {
        form: package::VERSION,
        developer: [0; 32],
        name: "Cinema".try_into().unwrap(),
        version: Release { code: 1, name: Text::default() },
        description: Text::default(),
        lang: Text::default(),
        pages: vec![path("main.js")].try_into().unwrap(),
        icons: List::default(),
        req_permissions: vec![permission(Power::Call), permission(Power::Pay)].try_into().unwrap(),
        cloud: Some(Cloud { device: w.devices[device].id, main: path("server.js") }),
        files: List::default(),
    };
    let file = |name: &str| (name.to_owned(), b"export const update = 1".to_vec());
    let files = BTreeMap::from([file("main.js"), file("server.js")]);
    VerifiedPackage::new(draft, &files, &SigningKey::from_bytes(&[by; 32])).unwrap()
}

fn ask(w: &mut World, device: usize, c: Ask) -> Result<Reply, Refusal> {
    w.ask(device, Command::Functions(c))
}

fn query<Q: Query>(w: &World, device: usize, query: &Q) -> Q::Out {
    query.run(&w.snapshot(device)).unwrap()
}

/// A cinema that serves its program, and people who have it and 100.00 each.
fn cinema(seed: u64) -> (World, AssetId, AppId) {
    let mut w = World::new(seed);
    for name in ["Cinema", "Ann", "Bob"] {
        let device = w.add_device();
        w.create(device, name);
    }
    let asset = w.issue(CINEMA);
    let package = Blob(package(&w, CINEMA, 1).to_bytes().unwrap());
    let installed = w.ask(CINEMA, Command::Programs(Programs::Install { package }));
    let Ok(Reply::Program { app }) = installed else { panic!("{installed:?}") };
    ask(&mut w, CINEMA, Ask::Serve { app, asset: None }).unwrap();
    let share = Programs::Share { app, launch: String::new() };
    let Ok(Reply::Link { link }) = w.ask(CINEMA, Command::Programs(share)) else { panic!() };
    for device in [ANN, BOB] {
        let account = w.account(device);
        w.credit(CINEMA, asset, account, 10_000);
        w.ask(device, Command::Programs(Programs::Add { link: link.clone() })).unwrap();
        w.run(10_000);
        for power in [Power::Call, Power::Pay] {
            let grant = Programs::Grant { app, power, allowed: Some(true) };
            w.ask(device, Command::Programs(grant)).unwrap();
        }
    }
    w.run(10_000);
    (w, asset, app)
}

fn call(w: &mut World, device: usize, app: AppId, function: &str, payload: &str) -> Number {
    let payload = Blob(payload.as_bytes().to_vec());
    match ask(w, device, Ask::Call { app, function: function.into(), payload }) {
        Ok(Reply::Call { call }) => call,
        other => panic!("call: {other:?}"),
    }
}

fn state(w: &World, device: usize, call: Number) -> CallState {
    query(w, device, &AnswerOf { call }).expect("a call")
}

fn kept(w: &World, app: AppId, key: &str) -> Option<String> {
    let kept = query(w, CINEMA, &Kept { app, key: key.to_owned() });
    kept.map(|b| String::from_utf8(b.0).unwrap())
}

fn write(key: &str, value: Option<String>) -> Write {
    Write { key: key.to_owned(), value: value.map(|v| Blob(v.into_bytes())) }
}

/// The cinema's functions: what `server.js` would be.
fn run(w: &World, due: &DueView) -> Result<Ran, String> {
    let app = due.app;
    match &due.what {
        DueWhat::Gone => Err("gone".into()),
        DueWhat::Call { id, function, payload, .. } => {
            let asked = String::from_utf8(payload.0.clone()).unwrap();
            match function.as_str() {
                "count" => {
                    let count: u64 = kept(w, app, "count").map_or(0, |c| c.parse().unwrap());
                    let next = (count + 1).to_string();
                    let answer = Blob(next.clone().into_bytes());
                    let writes = vec![write("count", Some(next))];
                    Ok(Ran { writes, answer, ..Ran::default() })
                }
                "book" => {
                    let seat = format!("seat {asked}");
                    if kept(w, app, &seat).is_some() {
                        return Ok(Ran { answer: Blob(b"taken".to_vec()), ..Ran::default() });
                    }
                    let reference = id.to_string();
                    let offer = NewOffer {
                        reference: reference.clone(),
                        title: seat.clone(),
                        lines: vec![(seat.clone(), 1, 900)],
                        seconds: 600,
                    };
                    Ok(Ran {
                        writes: vec![
                            write(&seat, Some(format!("held {reference}"))),
                            write(&format!("of {reference}"), Some(seat)),
                        ],
                        offer: Some(offer),
                        answer: Blob(reference.into_bytes()),
                        ..Ran::default()
                    })
                }
                "back" => {
                    let refund =
                        NewRefund { reference: asked, amount: None, memo: "no film".into() };
                    Ok(Ran { refunds: vec![refund], ..Ran::default() })
                }
                "flood" => Ok(Ran {
                    writes: vec![write("flood", Some("x".into())), write("", None)],
                    ..Ran::default()
                }),
                _ => Err("no such function".into()),
            }
        }
        DueWhat::Told { reference, news, .. } => {
            if kept(w, app, "broken").is_some() {
                return Err("broken".into());
            }
            let of = format!("of {reference}");
            let seat = kept(w, app, &of).expect("a seat that was held");
            let now = kept(w, app, &seat);
            assert_eq!(now.as_ref().map(|n| n.ends_with(reference.as_str())), Some(true));
            let writes = match news {
                News::Paid { amount: 900 } => vec![write(&seat, Some(format!("sold {reference}")))],
                News::Paid { amount } => panic!("paid {amount}"),
                News::Expired => vec![write(&seat, None), write(&of, None)],
                News::Refunded { .. } => vec![write(&seat, Some(format!("back {reference}")))],
            };
            Ok(Ran { writes, ..Ran::default() })
        }
    }
}

/// What the runtime does: the first of what is due, to its end. It may crash before it says so.
fn work(w: &mut World, crashes: bool) -> bool {
    let due = query(w, CINEMA, &Due {});
    let Some(due) = due.into_iter().next() else { return false };
    let ran = run(w, &due);
    if crashes && w.below(3) == 0 {
        w.crash(CINEMA, false);
        w.start(CINEMA);
        return true;
    }
    let (app, job) = (due.app, due.job);
    if let Err(why) = ask(w, CINEMA, Ask::Finish { app, job, ran }) {
        ask(w, CINEMA, Ask::Finish { app, job, ran: Err(why.to_string()) }).unwrap();
    }
    // Said twice: it is no news.
    assert!(ask(w, CINEMA, Ask::Finish { app, job, ran: Ok(Ran::default()) }).is_err());
    true
}

/// Runs the world and the functions for a while.
fn serve(w: &mut World, millis: u64, crashes: bool) {
    let (until, step) = (w.now + millis, (millis / 100).max(500));
    while w.now < until {
        w.run(step);
        while work(w, crashes) {}
        w.check_money().unwrap();
    }
}

fn offer(w: &World, device: usize, call: Number) -> Option<Vec<u8>> {
    match state(w, device, call) {
        CallState::Value { offer, .. } => offer.map(|o| o.0),
        other => panic!("{other:?}"),
    }
}

fn pay(w: &mut World, device: usize, app: AppId, offer: Vec<u8>) -> Number {
    let bill = ask(w, device, Ask::Bill { app, offer: Blob(offer) });
    let Ok(Reply::Payment { payment }) = bill else { panic!("{bill:?}") };
    w.money(device, Pay::Pay { payment }).unwrap();
    payment
}

#[test]
fn a_call_is_carried_out_once() {
    for seed in 0..8 {
        let (mut w, _, app) = cinema(900 + seed);
        w.faults = Faults { lose: 250, double: 250, delay: 300, ..w.faults };
        let mut calls = Vec::new();
        for round in 0..6 {
            for device in [ANN, BOB] {
                calls.push((device, call(&mut w, device, app, "count", "")));
            }
            serve(&mut w, 2_000, true);
            if round % 2 == 0 {
                w.flap(CINEMA);
            }
        }
        w.faults = Faults { delay: 20, ..Faults::default() };
        serve(&mut w, MINUTE, false);
        let answers: BTreeSet<String> = calls
            .iter()
            .map(|(device, call)| match state(&w, *device, *call) {
                CallState::Value { value, offer: None } => String::from_utf8(value.0).unwrap(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(answers.len(), calls.len(), "seed {seed}: each is its own");
        assert_eq!(kept(&w, app, "count"), Some("12".into()), "seed {seed}");
    }
}

#[test]
fn two_buyers_never_get_one_seat() {
    for seed in 0..8 {
        let (mut w, asset, app) = cinema(920 + seed);
        w.faults = Faults { lose: 150, double: 150, delay: 300, ..w.faults };
        let calls = [ANN, BOB].map(|device| (device, call(&mut w, device, app, "book", "5")));
        serve(&mut w, 30_000, true);
        w.faults = Faults { delay: 20, ..Faults::default() };
        serve(&mut w, 30_000, true);
        let offers: Vec<(usize, Vec<u8>)> = calls
            .iter()
            .filter_map(|(device, call)| Some((*device, offer(&w, *device, *call)?)))
            .collect();
        let [(winner, first)] = &offers[..] else { panic!("seed {seed}: {} offers", offers.len()) };
        let bill = query(&w, *winner, &Bill { offer: Blob(first.clone()) }).unwrap();
        assert!(bill.sound && bill.lines.len() == 1, "{bill:?}");
        let loser = if *winner == ANN { BOB } else { ANN };
        let not_theirs = Ask::Bill { app, offer: Blob(first.clone()) };
        assert!(ask(&mut w, loser, not_theirs).is_err(), "an offer is one device's");
        let (buyer, paid) = if seed % 2 == 0 {
            (*winner, pay(&mut w, *winner, app, first.clone()))
        } else {
            // They think too long: the seat is free again, and somebody else's.
            serve(&mut w, 11 * MINUTE, true);
            assert_eq!(kept(&w, app, "seat 5"), None, "seed {seed}");
            assert!(ask(&mut w, *winner, Ask::Bill { app, offer: Blob(first.clone()) }).is_err());
            let again = call(&mut w, loser, app, "book", "5");
            serve(&mut w, 10_000, true);
            let second = offer(&w, loser, again).expect("free");
            (loser, pay(&mut w, loser, app, second))
        };
        serve(&mut w, 30_000, true);
        assert_eq!(w.payment(buyer, paid).state, PayState::Paid, "seed {seed}");
        assert!(kept(&w, app, "seat 5").unwrap().starts_with("sold"), "seed {seed}");
        // The offer's time passes: what was sold stays sold.
        serve(&mut w, 16 * MINUTE, true);
        assert!(kept(&w, app, "seat 5").unwrap().starts_with("sold"), "seed {seed}");
        let late = call(&mut w, ANN, app, "book", "5");
        serve(&mut w, 10_000, false);
        assert_eq!(offer(&w, ANN, late), None);
        let left: u64 = [ANN, BOB].iter().map(|d| w.balance(*d, asset).unwrap_or(10_000)).sum();
        assert_eq!(left, 20_000 - 900, "seed {seed}: one seat was paid");
    }
}

#[test]
fn what_was_paid_goes_back_and_functions_hear_of_it() {
    let (mut w, asset, app) = cinema(940);
    let booked = call(&mut w, ANN, app, "book", "7");
    serve(&mut w, 5_000, false);
    let bytes = offer(&w, ANN, booked).unwrap();
    let bill = ask(&mut w, ANN, Ask::Bill { app, offer: Blob(bytes.clone()) }).unwrap();
    assert_eq!(ask(&mut w, ANN, Ask::Bill { app, offer: Blob(bytes.clone()) }), Ok(bill));
    serve(&mut w, 5_000, false);
    let shown = query(&w, ANN, &Bill { offer: Blob(bytes.clone()) }).unwrap();
    assert_eq!(shown.amount.as_deref(), Some("9.00 EUR"));
    assert_eq!(
        (shown.to_name.as_deref(), shown.state),
        (Some("Tea stall"), Some(PayState::Offered))
    );
    // What functions can't be told is set aside, shown, and told later.
    let mine = Ask::Call { app, function: "x".into(), payload: Blob(Vec::new()) };
    assert!(ask(&mut w, CINEMA, mine).is_err(), "its own developer did not allow it either");
    let broken = call(&mut w, BOB, app, "count", "");
    w.run(2_000);
    let due = query(&w, CINEMA, &Due {}).remove(0);
    let ran = Ran { writes: vec![write("broken", Some("x".into()))], ..Ran::default() };
    ask(&mut w, CINEMA, Ask::Finish { app, job: due.job, ran: Ok(ran) }).unwrap();
    w.run(2_000);
    assert!(matches!(state(&w, BOB, broken), CallState::Value { .. }));
    let paid = pay(&mut w, ANN, app, bytes);
    serve(&mut w, 10_000, false);
    assert_eq!(w.payment(ANN, paid).state, PayState::Paid);
    let served = query(&w, CINEMA, &Functions {}).remove(0);
    assert_eq!((served.waiting, served.aside.len()), (0, 1));
    assert_eq!(served.aside[0].1, News::Paid { amount: 900 });
    let mend = call(&mut w, BOB, app, "count", "");
    w.run(2_000);
    let due = query(&w, CINEMA, &Due {}).remove(0);
    let ran = Ran { writes: vec![write("broken", None)], ..Ran::default() };
    ask(&mut w, CINEMA, Ask::Finish { app, job: due.job, ran: Ok(ran) }).unwrap();
    ask(&mut w, CINEMA, Ask::Retry { app }).unwrap();
    serve(&mut w, 5_000, false);
    assert!(matches!(state(&w, BOB, mend), CallState::Value { .. }));
    assert!(kept(&w, app, "seat 7").unwrap().starts_with("sold"));
    // Given back, by a function; nothing that isn't its own can be.
    let nothing = call(&mut w, ANN, app, "back", "another");
    let back = call(&mut w, ANN, app, "back", &booked.to_string());
    serve(&mut w, 10_000, false);
    assert!(matches!(state(&w, ANN, nothing), CallState::Refused { .. }));
    assert!(matches!(state(&w, ANN, back), CallState::Value { .. }));
    assert_eq!(w.balance(ANN, asset), Some(10_000));
    assert_eq!(kept(&w, app, "seat 7").unwrap(), format!("back {booked}"));
    let again = call(&mut w, ANN, app, "back", &booked.to_string());
    serve(&mut w, 10_000, false);
    assert!(matches!(state(&w, ANN, again), CallState::Refused { .. }), "nothing is left");
    assert_eq!(w.balance(ANN, asset), Some(10_000));
    // The shop's list shows what it was for.
    let orders = Orders::default().run(&w.snapshot(CINEMA)).unwrap();
    assert_eq!(orders[0].lines, [("seat 7".to_owned(), 1)]);
}

/// Whoever pays again and again pays out of a channel: functions hear of that, and can give it
/// back, as if it were an order.
#[test]
fn what_a_channel_paid_goes_back_too() {
    let (mut w, asset, app) = cinema(945);
    let ann = w.account(ANN);
    w.credit(CINEMA, asset, ann, 90_000);
    let mut last = None;
    for seat in ["1", "2", "3", "4"] {
        let booked = call(&mut w, ANN, app, "book", seat);
        serve(&mut w, 5_000, false);
        let bytes = offer(&w, ANN, booked).unwrap();
        let paid = pay(&mut w, ANN, app, bytes);
        serve(&mut w, 15_000, false);
        assert_eq!(w.payment(ANN, paid).state, PayState::Paid);
        assert!(kept(&w, app, &format!("seat {seat}")).unwrap().starts_with("sold"));
        last = Some((booked, paid));
    }
    let (booked, paid) = last.unwrap();
    assert!(w.payment(ANN, paid).channel, "the fourth is paid by a voucher");
    let back = call(&mut w, ANN, app, "back", &booked.to_string());
    serve(&mut w, 15_000, false);
    assert!(matches!(state(&w, ANN, back), CallState::Value { .. }));
    assert_eq!(kept(&w, app, "seat 4").unwrap(), format!("back {booked}"));
    assert_eq!(w.payment(ANN, paid).refunded.as_deref(), Some("9.00 EUR"));
    let again = call(&mut w, ANN, app, "back", &booked.to_string());
    serve(&mut w, 10_000, false);
    assert!(matches!(state(&w, ANN, again), CallState::Refused { .. }), "nothing is left");
    w.money(CINEMA, Pay::Settle { account: None }).unwrap();
    serve(&mut w, 120_000, false);
    assert_eq!(w.balance(ANN, asset), Some(100_000 - 3 * 900));
}

#[test]
fn a_run_that_fails_leaves_nothing() {
    let (mut w, _, app) = cinema(950);
    let flood = call(&mut w, ANN, app, "flood", "");
    let none = call(&mut w, ANN, app, "nothing", "");
    serve(&mut w, 10_000, false);
    for call in [flood, none] {
        assert!(matches!(state(&w, ANN, call), CallState::Refused { not_here: false, .. }));
    }
    assert!(query(&w, CINEMA, &KeptKeys { app, prefix: String::new() }).is_empty());
    // An offer needs a caller, and a price; a reference is used once.
    let offer = |reference: &str, price| NewOffer {
        reference: reference.into(),
        title: "seat".into(),
        lines: vec![("seat".into(), 1, price)],
        seconds: 0,
    };
    for (reference, price, goes) in
        [("a", 5, true), ("a", 5, false), ("", 5, false), ("b", 0, false)]
    {
        call(&mut w, ANN, app, "x", "");
        w.run(2_000);
        let due = query(&w, CINEMA, &Due {}).remove(0);
        let writes = vec![write(&format!("{reference}{price}{goes}"), Some("x".into()))];
        let ran = Ran { writes, offer: Some(offer(reference, price)), ..Ran::default() };
        let done = ask(&mut w, CINEMA, Ask::Finish { app, job: due.job, ran: Ok(ran) });
        assert_eq!(done.is_ok(), goes, "{reference} {price}");
        if !goes {
            let failed = Ask::Finish { app, job: due.job, ran: Err("no".into()) };
            ask(&mut w, CINEMA, failed).unwrap();
        }
    }
    assert_eq!(query(&w, CINEMA, &KeptKeys { app, prefix: String::new() }), ["a5true"]);
}

/// A signed call of somebody who has no program, but knows how.
fn signed(w: &World, app: AppId, key: u8, id: u8, function: &str, made: u64) -> Vec<u8> {
    let key = SigningKey::from_bytes(&[key; 32]);
    let call = Call {
        version: functions::VERSION,
        program: app,
        device: w.devices[CINEMA].id,
        caller: key.verifying_key().to_bytes(),
        id: [id; 16],
        function: function.try_into().unwrap(),
        made,
        expires: made + MAX_CALL_LIFE,
        payload: codec::Bytes::default(),
    };
    let call = Signed::new(call, &key).bytes().to_vec();
    service(&CallFrame::Call {
        program: app,
        id: [id; 16],
        call: Box::new(call.try_into().unwrap()),
    })
}

fn service(frame: &CallFrame) -> Vec<u8> {
    let bytes = codec::encode(frame).try_into().unwrap();
    codec::encode(&Frame::Service(functions::SERVICE, bytes))
}

#[test]
fn hostile_callers_are_bounded_and_get_no_others_answer() {
    let (mut w, _, app) = cinema(960);
    w.befriend(ANN, BOB);
    w.befriend(ANN, CINEMA);
    let first = call(&mut w, ANN, app, "count", "");
    serve(&mut w, 5_000, false);
    assert!(matches!(state(&w, ANN, first), CallState::Value { .. }));
    let waiting = |w: &World| query(w, CINEMA, &Functions {}).remove(0).waiting;
    // Keys cost nothing: a device's calls are counted, not a caller's.
    call(&mut w, ANN, app, "count", "");
    w.run(2_000);
    for n in 0..40 {
        let now = w.now;
        let frame = signed(&w, app, n, n, "count", now);
        assert!(w.forge(ANN, CINEMA, frame));
    }
    w.run(5_000);
    assert_eq!(waiting(&w), 8);
    // Others still come to their turn.
    let bobs = call(&mut w, BOB, app, "count", "");
    serve(&mut w, 10_000, false);
    assert!(matches!(state(&w, BOB, bobs), CallState::Value { .. }));
    let count = kept(&w, app, "count").unwrap();
    // The same again is answered, not run; another one under its id, one that is over or not
    // begun, and one that was changed on its way are not run either.
    let now = w.now;
    let other = signed(&w, app, 0, 0, "book", now);
    let old = signed(&w, app, 90, 90, "count", now - MAX_CALL_LIFE);
    let early = signed(&w, app, 91, 91, "count", now + 60 * MINUTE);
    let mut harmed = signed(&w, app, 92, 92, "count", now);
    let last = harmed.len() - 1;
    harmed[last] ^= 1;
    for frame in [other, old, early, harmed] {
        assert!(w.forge(ANN, CINEMA, frame));
    }
    serve(&mut w, 5_000, false);
    assert_eq!(kept(&w, app, "count"), Some(count));
    // An answer by somebody who was not asked is none.
    let mine = call(&mut w, ANN, app, "count", "");
    let lie = CallAnswer::Value { value: b"lie".to_vec().try_into().unwrap(), offer: None };
    let lie = service(&CallFrame::Answer { id: mine.0, answer: lie });
    assert!(w.forge(BOB, ANN, lie));
    serve(&mut w, 5_000, false);
    let CallState::Value { value, .. } = state(&w, ANN, mine) else { panic!() };
    assert!(value.0 != b"lie");
}

#[test]
fn what_was_forgotten_is_not_run_again() {
    let (mut w, _, app) = cinema(970);
    w.befriend(ANN, CINEMA);
    let now = w.now;
    let frame = signed(&w, app, 50, 50, "count", now);
    assert!(w.forge(ANN, CINEMA, frame.clone()));
    serve(&mut w, 5_000, false);
    let count = kept(&w, app, "count");
    serve(&mut w, 12 * MINUTE, false);
    // The cinema's clock is set back: the call's time seems not to be up.
    w.set_skew(CINEMA, -(12 * MINUTE).cast_signed());
    assert!(w.forge(ANN, CINEMA, frame));
    serve(&mut w, 5_000, false);
    assert_eq!(kept(&w, app, "count"), count);
}

#[test]
fn without_an_answer_a_call_ends_by_itself() {
    let (mut w, _, app) = cinema(980);
    w.set_online(CINEMA, false);
    let lost = call(&mut w, ANN, app, "count", "");
    w.run(5_000);
    assert_eq!(state(&w, ANN, lost), CallState::Waits);
    w.run(MAX_CALL_LIFE);
    assert_eq!(state(&w, ANN, lost), CallState::NoAnswer);
    w.set_online(CINEMA, true);
    serve(&mut w, MINUTE, false);
    assert_eq!(kept(&w, app, "count"), None, "it is not carried out after that");
    w.run(11 * MINUTE);
    assert_eq!(query(&w, ANN, &AnswerOf { call: lost }), None, "and forgotten");
    // No longer served: said so.
    ask(&mut w, CINEMA, Ask::Stop { app }).unwrap();
    let refused = call(&mut w, ANN, app, "count", "");
    w.run(MINUTE);
    assert!(matches!(state(&w, ANN, refused), CallState::Refused { not_here: true, .. }));
}

#[test]
fn a_bill_is_the_developers_own() {
    let (mut w, _, app) = cinema(990);
    // Bob has a shop and a program, too; his offer is none for the cinema's program.
    w.issue(BOB);
    let own = Blob(package(&w, BOB, 2).to_bytes().unwrap());
    let installed = w.ask(BOB, Command::Programs(Programs::Install { package: own }));
    let Ok(Reply::Program { app: his }) = installed else { panic!("{installed:?}") };
    ask(&mut w, BOB, Ask::Serve { app: his, asset: None }).unwrap();
    assert!(ask(&mut w, BOB, Ask::Serve { app, asset: None }).is_err(), "another device's");
    let share = Programs::Share { app: his, launch: String::new() };
    let Ok(Reply::Link { link }) = w.ask(BOB, Command::Programs(share)) else { panic!() };
    w.ask(ANN, Command::Programs(Programs::Add { link })).unwrap();
    w.run(10_000);
    let call_him = |w: &mut World| {
        let c = Ask::Call { app: his, function: "book".into(), payload: Blob(b"5".to_vec()) };
        ask(w, ANN, c)
    };
    assert!(call_him(&mut w).is_err(), "not allowed");
    let grant = |allowed, power| Programs::Grant { app: his, power, allowed: Some(allowed) };
    w.ask(ANN, Command::Programs(grant(true, Power::Call))).unwrap();
    let Ok(Reply::Call { call }) = call_him(&mut w) else { panic!() };
    w.run(5_000);
    let due = query(&w, BOB, &Due {}).remove(0);
    let ran = run(&w, &due);
    ask(&mut w, BOB, Ask::Finish { app: his, job: due.job, ran }).unwrap();
    w.run(5_000);
    let bytes = Blob(offer(&w, ANN, call).unwrap());
    let bill = |app| Ask::Bill { app, offer: bytes.clone() };
    assert!(ask(&mut w, ANN, bill(app)).is_err(), "of another developer");
    assert!(ask(&mut w, ANN, bill(his)).is_err(), "not allowed to show a bill");
    w.ask(ANN, Command::Programs(grant(true, Power::Pay))).unwrap();
    ask(&mut w, ANN, bill(his)).unwrap();
    let mut harmed = bytes.0.clone();
    harmed[40] ^= 1;
    assert!(ask(&mut w, ANN, Ask::Bill { app: his, offer: Blob(harmed) }).is_err());
    w.run(5_000);
    // Ann has no balance there: she sees what it costs, and can't pay it.
    let shown = query(&w, ANN, &Bill { offer: bytes.clone() }).unwrap();
    assert_eq!(shown.amount.as_deref(), Some("9.00 EUR"), "the shop told of its money");
}
