//! Money: paying, lost answers, races, crashes, refunds, friends.

use teahouse_core::command::{Command, Devices, Refusal};
use teahouse_core::pay::Command as Ask;
use teahouse_core::pay::query::{Evidence, History, Orders, Receipts, Verify};
use teahouse_core::pay::tables::{IncomingState, Number, OUT, OrderState, Out, PayState};
use teahouse_core::query::Query;
use teahouse_core::store::{KeyRange, ReadExt};
use teahouse_tests::world::Faults;

use crate::market::{DAY, HOUR, market, settle, state, watch};
use crate::town::{link, town};

#[test]
fn a_stranger_orders_and_pays() {
    let (mut w, asset, poster) = market(71, &["Ann"]);
    let ann = 1;
    let payment = w.buy(ann, &poster, None);
    assert_eq!(state(&w, ann, payment), PayState::Asked);
    watch(&mut w, 5_000);
    let seen = w.payment(ann, payment);
    assert_eq!((seen.state, seen.amount.as_str()), (PayState::Offered, "3.50 EUR"));
    assert_eq!(w.balance(ann, asset), Some(10_000), "asking costs nothing");
    w.money(ann, Ask::Pay { payment }).unwrap();
    watch(&mut w, 5_000);
    assert_eq!(state(&w, ann, payment), PayState::Paid);
    assert_eq!(w.balance(ann, asset), Some(9_650));
    w.money(ann, Ask::Pay { payment }).unwrap();
    watch(&mut w, 5_000);
    assert_eq!(w.balance(ann, asset), Some(9_650), "paid once");
    // Both sides have it in writing.
    let orders = Orders::default().run(&w.snapshot(0)).unwrap();
    assert_eq!(orders.len(), 1);
    assert_eq!(orders[0].lines, [("oolong".to_owned(), 1)]);
    assert_eq!((orders[0].note.as_str(), orders[0].evidence.len()), ("less sugar", 3));
    let receipts = Receipts::default().run(&w.snapshot(ann)).unwrap();
    assert_eq!(receipts[0].amount, "3.50 EUR");
    // A stranger checks the receipt, offline; a harmed one shows nothing.
    let stranger = w.add_device();
    let text = receipts[0].text.clone();
    let shown = Verify { text: text.clone() }.run(&w.snapshot(stranger)).unwrap().unwrap();
    assert_eq!((shown.payer, shown.payee), (w.account(ann), w.account(0)));
    let mut harmed = text.into_bytes();
    let middle = harmed.len() / 2;
    harmed[middle] = if harmed[middle] == b'a' { b'b' } else { b'a' };
    let text = String::from_utf8(harmed).unwrap();
    assert!(Verify { text }.run(&w.snapshot(stranger)).unwrap().is_err());
    // Handed over: the payer sees it, once it looks.
    w.money(0, Ask::Fulfil { order: orders[0].order }).unwrap();
    watch(&mut w, 2_000);
    let lines = History { asset, before: None, limit: 0 }.run(&w.snapshot(ann)).unwrap();
    let what: Vec<&str> = lines.iter().map(|l| l.what.as_str()).collect();
    assert_eq!(what, ["paid", "paid in", "opened"]);
    assert!(Evidence {}.run(&w.snapshot(ann)).unwrap().is_empty());
}

#[test]
fn it_costs_no_more_than_was_said() {
    let (mut w, asset, poster) = market(72, &["Ann"]);
    let paid = w.buy(1, &poster, Some(350));
    watch(&mut w, 10_000);
    assert_eq!(state(&w, 1, paid), PayState::Paid);
    let dear = w.buy(1, &poster, Some(349));
    watch(&mut w, 10_000);
    assert_eq!(state(&w, 1, dear), PayState::Offered);
    w.money(1, Ask::Cancel { payment: dear }).unwrap();
    watch(&mut w, 10_000);
    assert!(matches!(state(&w, 1, dear), PayState::Refused { .. }));
    assert_eq!(w.balance(1, asset), Some(9_650));
}

#[test]
fn answers_are_lost_and_frames_come_twice() {
    for seed in 0..12 {
        let (mut w, asset, poster) = market(100 + seed, &["Ann", "Bob"]);
        w.faults = Faults { lose: 250, double: 250, delay: 400, ..w.faults };
        let mut paid = 0;
        for round in 0..4 {
            for device in [1, 2] {
                w.buy(device, &poster, Some(350));
                paid += 1;
                watch(&mut w, 3_000 + 500 * round);
            }
            // The connection breaks, and comes back.
            w.flap(0);
            watch(&mut w, 10_000);
        }
        w.faults = Faults { delay: 20, ..Faults::default() };
        for _ in 0..3 {
            w.flap(0);
            watch(&mut w, 20_000);
        }
        settle(&mut w);
        let left: u64 = [1, 2].iter().map(|d| w.balance(*d, asset).unwrap()).sum();
        assert_eq!(left, 20_000 - 350 * paid, "seed {seed}: each was paid once");
        for device in [1, 2] {
            assert_eq!(w.snapshot(device).count(&OUT, &KeyRange::all(), 9).unwrap(), 0);
        }
    }
}

#[test]
fn crashes_between_the_steps() {
    for seed in 0..24 {
        let (mut w, asset, poster) = market(200 + seed, &["Ann"]);
        let mut paid = Vec::new();
        for round in 0..6 {
            paid.push(w.buy(1, &poster, Some(350)));
            let steps = w.below(30);
            for _ in 0..steps {
                w.next();
                w.check_money().unwrap();
            }
            let victim = (round + seed as usize) % 2;
            w.crash(victim, true);
            watch(&mut w, 1_000);
            w.start(victim);
            w.check_money().unwrap();
            watch(&mut w, 3_000);
        }
        watch(&mut w, 60_000);
        w.flap(0);
        watch(&mut w, 60_000);
        for payment in &paid {
            assert_eq!(state(&w, 1, *payment), PayState::Paid, "seed {seed}");
        }
        settle(&mut w);
        assert_eq!(w.balance(1, asset), Some(10_000 - 350 * 6), "seed {seed}");
    }
}

#[test]
fn nobody_knows_yet_resolves_itself() {
    let (mut w, asset, poster) = market(73, &["Ann"]);
    let payment = w.buy(1, &poster, None);
    watch(&mut w, 5_000);
    // The stall goes away before it hears of the order.
    w.set_online(0, false);
    w.money(1, Ask::Pay { payment }).unwrap();
    watch(&mut w, 5_000);
    assert_eq!(state(&w, 1, payment), PayState::Sent);
    assert!(w.payment(1, payment).words.contains("not known yet"));
    let cancelled = w.money(1, Ask::Cancel { payment });
    assert!(matches!(cancelled, Err(Refusal::Invalid { .. })), "what was signed is out");
    w.crash(1, true);
    w.start(1);
    w.set_online(0, true);
    watch(&mut w, 30_000);
    assert_eq!(state(&w, 1, payment), PayState::Paid, "the same order, said again");
    // Another one comes too late, and is known not to be paid.
    let late = w.buy(1, &poster, None);
    watch(&mut w, 5_000);
    w.set_online(0, false);
    w.money(1, Ask::Pay { payment: late }).unwrap();
    w.warp(2 * HOUR);
    w.set_online(0, true);
    watch(&mut w, 60_000);
    assert!(matches!(state(&w, 1, late), PayState::Refused { .. }));
    assert_eq!(w.balance(1, asset), Some(9_650));
}

#[test]
fn two_devices_race_for_one_balance() {
    let (mut w, _, people) = town(74, &["Stall", "Ann"]);
    let (stall, ann) = (people[0], people[1]);
    let asset = w.issue(stall);
    let account = w.account(ann);
    w.credit(stall, asset, account, 500);
    let second = link(&mut w, ann);
    let (_, poster) = w.sell(stall, asset, 350, None);
    // Both know the shop, so that both sign at one time.
    let both = [w.buy(ann, &poster, None), w.buy(second, &poster, None)];
    watch(&mut w, 10_000);
    for (device, payment) in [(ann, both[0]), (second, both[1])] {
        assert_eq!(state(&w, device, payment), PayState::Offered);
        w.command(device, Command::Pay(Ask::Pay { payment }));
    }
    watch(&mut w, 30_000);
    let states = [state(&w, ann, both[0]), state(&w, second, both[1])];
    let paid = states.iter().filter(|s| **s == PayState::Paid).count();
    assert_eq!(paid, 1, "{states:?}");
    for device in [ann, second] {
        assert_eq!(w.balance(device, asset), Some(150), "both see what is left");
        let receipts = Receipts::default().run(&w.snapshot(device)).unwrap();
        assert_eq!(receipts.len(), 1, "both have the receipt");
    }
}

#[test]
fn a_device_that_was_removed_pays_nothing() {
    let (mut w, _, people) = town(75, &["Stall", "Ann"]);
    let (stall, ann) = (people[0], people[1]);
    let asset = w.issue(stall);
    let account = w.account(ann);
    w.credit(stall, asset, account, 1_000);
    let stolen = link(&mut w, ann);
    let (_, poster) = w.sell(stall, asset, 350, None);
    let payment = w.buy(stolen, &poster, None);
    watch(&mut w, 10_000);
    assert_eq!(state(&w, stolen, payment), PayState::Offered);
    // The thief's device is apart from its siblings; the stall hears of the revocation from
    // whoever shows it.
    w.cut.insert((ann.min(stolen), ann.max(stolen)));
    w.reconnect();
    let device = w.devices[stolen].id;
    w.ask(ann, Command::Devices(Devices::Revoke { device })).unwrap();
    let other = w.buy(ann, &poster, Some(350));
    watch(&mut w, 20_000);
    assert_eq!(state(&w, ann, other), PayState::Paid);
    w.command(stolen, Command::Pay(Ask::Pay { payment }));
    watch(&mut w, 30_000);
    assert_ne!(state(&w, stolen, payment), PayState::Paid);
    assert_eq!(w.balance(ann, asset), Some(650));
    // A new device of the account, as after a loss, goes on where the account stands.
    let new = link(&mut w, ann);
    let again = w.buy(new, &poster, Some(350));
    watch(&mut w, 30_000);
    assert_eq!(state(&w, new, again), PayState::Paid);
    assert_eq!(w.balance(new, asset), Some(300));
    assert_eq!(Receipts::default().run(&w.snapshot(new)).unwrap().len(), 2);
}

#[test]
fn what_is_given_back() {
    let (mut w, asset, poster) = market(76, &["Ann"]);
    let payment = w.buy(1, &poster, Some(350));
    watch(&mut w, 10_000);
    let order = w.payment(1, payment).order.unwrap();
    let number = Some(Number([7; 16]));
    let refund = |amount, number| Ask::Refund { order, amount, memo: "cold".into(), number };
    w.money(0, refund(Some(100), number)).unwrap();
    w.money(0, refund(Some(100), number)).unwrap();
    watch(&mut w, 10_000);
    let seen = w.payment(1, payment);
    assert_eq!(seen.refunded.as_deref(), Some("1.00 EUR"), "the same refund twice is one");
    assert_eq!(w.balance(1, asset), Some(9_750));
    assert!(w.money(0, refund(Some(99), number)).is_err(), "another amount under one number");
    assert!(w.money(0, refund(Some(251), None)).is_err(), "more than is left");
    // The stall crashes right after; what it gave is given.
    w.money(0, refund(None, None)).unwrap();
    w.crash(0, true);
    w.start(0);
    watch(&mut w, 30_000);
    assert_eq!(w.payment(1, payment).refunded.as_deref(), Some("3.50 EUR"));
    assert_eq!(w.balance(1, asset), Some(10_000));
    assert!(w.money(0, refund(Some(1), None)).is_err());
    let orders = Orders::default().run(&w.snapshot(0)).unwrap();
    assert_eq!(orders[0].state, OrderState::Paid { refunded: 350, fulfilled: false });
}

#[test]
fn friends_send_each_other_money() {
    let (mut w, _, people) = town(77, &["Stall", "Ann", "Bob"]);
    let [stall, ann, bob] = people[..] else { panic!("three") };
    w.befriend(ann, bob);
    w.run(10_000);
    let asset = w.issue(stall);
    let (a, b) = (w.account(ann), w.account(bob));
    w.credit(stall, asset, a, 1_000);
    let (_, poster) = w.sell(stall, asset, 1, None);
    w.buy(ann, &poster, Some(1));
    watch(&mut w, 10_000);
    let taken = w.send_money(ann, asset, b, 300).unwrap();
    watch(&mut w, 10_000);
    assert!(matches!(state(&w, ann, taken), PayState::Held { .. }));
    assert_eq!(w.balance(ann, asset), Some(699));
    let waits = w.waits(bob);
    assert_eq!((waits[0].amount.as_str(), waits[0].state), ("3.00 EUR", IncomingState::Waits));
    w.money(bob, Ask::Answer { order: waits[0].order, accept: true }).unwrap();
    watch(&mut w, 10_000);
    assert_eq!(w.waits(bob)[0].state, IncomingState::Accepted);
    assert_eq!(state(&w, ann, taken), PayState::Paid);
    assert_eq!((w.balance(ann, asset), w.balance(bob, asset)), (Some(699), Some(300)));
    // Declined.
    let back = w.send_money(ann, asset, b, 200).unwrap();
    watch(&mut w, 10_000);
    let order = w.payment(ann, back).order.unwrap();
    w.money(bob, Ask::Answer { order, accept: false }).unwrap();
    watch(&mut w, 10_000);
    assert_eq!(state(&w, ann, back), PayState::Returned);
    assert_eq!(w.balance(ann, asset), Some(699));
    // Not answered for a day; then it is too late.
    let late = w.send_money(ann, asset, b, 400).unwrap();
    watch(&mut w, 10_000);
    assert_eq!(w.balance(ann, asset), Some(299));
    w.warp(DAY + HOUR);
    for device in [stall, ann, bob] {
        w.flap(device);
    }
    watch(&mut w, 60_000);
    assert_eq!(state(&w, ann, late), PayState::Returned);
    assert_eq!(w.balance(ann, asset), Some(699));
    let order = w.payment(ann, late).order.unwrap();
    w.money(bob, Ask::Answer { order, accept: true }).unwrap();
    watch(&mut w, 30_000);
    let row = w.waits(bob).into_iter().find(|r| r.order == order).unwrap();
    assert_eq!(row.state, IncomingState::Gone);
    assert_eq!(w.balance(bob, asset), Some(300));
}

#[test]
fn stock_is_reserved_and_comes_back() {
    let (mut w, asset, _) = market(78, &["Ann", "Bob"]);
    let (cake, poster) = w.sell(0, asset, 500, Some(1));
    let first = w.buy(1, &poster, None);
    watch(&mut w, 5_000);
    assert_eq!(w.stock(0, cake), Some(0));
    let second = w.buy(2, &poster, None);
    watch(&mut w, 5_000);
    assert!(matches!(state(&w, 2, second), PayState::Refused { .. }), "the last is reserved");
    // The offer's time is up.
    watch(&mut w, 16 * 60_000);
    assert_eq!(w.stock(0, cake), Some(1));
    assert!(w.money(1, Ask::Pay { payment: first }).is_err());
    let third = w.buy(2, &poster, Some(500));
    watch(&mut w, 10_000);
    assert_eq!(state(&w, 2, third), PayState::Paid);
    watch(&mut w, HOUR);
    assert_eq!(w.stock(0, cake), Some(0), "sold is sold");
}

/// Nobody meets anew: what was asked is said again by itself.
#[test]
fn who_pays_in_late_has_paid() {
    let (mut w, asset, poster) = market(80, &["Ann"]);
    let account = w.account(1);
    let dear = w.sell(0, asset, 20_000, None).1;
    w.buy(1, &poster, Some(350));
    watch(&mut w, 10_000);
    let late = w.add_device();
    let eve = w.create(late, "Eve");
    w.run(2_000);
    let payment = w.buy(late, &poster, Some(350));
    watch(&mut w, 10_000);
    let seen = w.payment(late, payment);
    assert_eq!(seen.state, PayState::Sent);
    assert!(seen.words.contains("no balance"), "{}", seen.words);
    w.credit(0, asset, eve, 1_000);
    watch(&mut w, 3 * 60_000);
    assert_eq!(state(&w, late, payment), PayState::Paid);
    assert_eq!(w.balance(late, asset), Some(650));
    // More than there is isn't even signed; who tries anyway is told for good.
    let much = w.buy(1, &dear, Some(20_000));
    watch(&mut w, 10_000);
    assert_eq!(state(&w, 1, much), PayState::Offered);
    assert!(w.money(1, Ask::Pay { payment: much }).is_err());
    assert_eq!(w.holders(0, asset)[&account], 9_650);
}

#[test]
fn strangers_are_bounded_and_others_words_are_nothing() {
    let (mut w, asset, poster) = market(79, &["Ann"]);
    let stranger = w.add_device();
    w.create(stranger, "Eve");
    w.run(2_000);
    let asked: Vec<Number> = (0..12).map(|_| w.buy(stranger, &poster, None)).collect();
    watch(&mut w, 20_000);
    let offered = asked.iter().filter(|p| state(&w, stranger, **p) == PayState::Offered).count();
    assert_eq!(offered, 8, "so many offers stand for one device");
    // Without a balance nothing is paid, and nothing is kept of it.
    w.money(stranger, Ask::Pay { payment: asked[0] }).unwrap();
    watch(&mut w, 10_000);
    assert_eq!(state(&w, stranger, asked[0]), PayState::Sent);
    assert!(Orders::default().run(&w.snapshot(0)).unwrap().is_empty());
    // Ann's own words, said by another device, do nothing.
    w.set_online(0, false);
    w.set_online(0, true);
    let payment = w.buy(1, &poster, None);
    watch(&mut w, 10_000);
    w.set_online(0, false);
    w.money(1, Ask::Pay { payment }).unwrap();
    let rows: Vec<(Vec<u8>, Out)> =
        w.snapshot(1).scan_typed(&OUT, &KeyRange::all(), false, 9).unwrap();
    w.set_online(1, false);
    w.set_online(0, true);
    watch(&mut w, 10_000);
    for (_, out) in rows {
        let frame = teahouse_protocols::sync::Frame::Service(1, out.bytes.try_into().unwrap());
        w.forge(stranger, 0, teahouse_protocols::codec::encode(&frame));
    }
    watch(&mut w, 10_000);
    assert_eq!(w.holders(0, asset).values().sum::<u128>(), 10_000);
    w.set_online(1, true);
    watch(&mut w, 30_000);
    assert_eq!(state(&w, 1, payment), PayState::Paid);
    assert_eq!(w.holders(0, asset).values().sum::<u128>(), 9_650);
}
