//! Money: channels from a payer's device to the issuer, and vouchers out of them.

use teahouse_core::pay::Command as Ask;
use teahouse_core::pay::query::{Balances, Channels, Evidence, History, Orders, Receipts, Verify};
use teahouse_core::pay::tables::{
    Number, OrderState, PAYMENTS, PayState, Payment, VOUCHERS, VoucherRow,
};
use teahouse_core::query::Query;
use teahouse_core::store::{KeyRange, ReadExt};
use teahouse_core::tables::{ALARMS, AlarmRow, ME, Me};
use teahouse_protocols::codec::encode;
use teahouse_protocols::ids::VoucherId;
use teahouse_protocols::pay::frames::Log;
use teahouse_protocols::pay::{Ask as Words, Offer, PayFrame, PayRequest, Voucher};
use teahouse_protocols::sign::{Signed, SigningKey};
use teahouse_protocols::sync::Frame;
use teahouse_tests::world::{Faults, World};

use crate::market::{DAY, HOUR, market, pays, settle, state, watch};
use crate::town::{link, town};

/// Buys for 3.50 until there is a channel, which takes three payments; returns these.
fn open_channel(w: &mut World, device: usize, poster: &str) -> Vec<Number> {
    let paid: Vec<Number> = (0..3)
        .map(|_| {
            let payment = w.buy(device, poster, Some(350));
            watch(w, 10_000);
            payment
        })
        .collect();
    for payment in &paid {
        assert_eq!(state(w, device, *payment), PayState::Paid);
        assert!(!w.payment(device, *payment).channel);
    }
    assert!(set_aside(w, device).1.is_some(), "a channel is open, and may be paid from");
    paid
}

/// What is set aside in the only money, by the account and for this device.
fn set_aside(w: &World, device: usize) -> (Option<String>, Option<String>) {
    let all = Balances {}.run(&w.snapshot(device)).unwrap();
    assert_eq!(all.len(), 1);
    (all[0].reserved.clone(), all[0].room.clone())
}

/// The restored device 1 paid by an order, said what is wrong, and signed nothing twice.
fn paid_out_of_step(w: &World, hasty: Number) {
    let seen = w.payment(1, hasty);
    assert_eq!((seen.state, seen.channel), (PayState::Paid, false));
    let alarms: Vec<(Vec<u8>, AlarmRow)> =
        w.snapshot(1).scan_typed(&ALARMS, &KeyRange::all(), false, 99).unwrap();
    assert!(alarms.iter().any(|(_, a)| a.text.contains("older copy")), "it is said in words");
    assert!(Evidence {}.run(&w.snapshot(0)).unwrap().is_empty(), "nothing was signed twice");
}

#[test]
fn a_channel_opens_with_the_third_payment() {
    let (mut w, asset, poster) = market(81, &["Ann"]);
    let ann = 1;
    open_channel(&mut w, ann, &poster);
    // A quarter of what was free: what is set aside is not shown as free, and is not lost sight of.
    let aside = Some("22.37 EUR".to_owned());
    assert_eq!(set_aside(&w, ann), (aside.clone(), aside));
    assert_eq!(w.balance(ann, asset), Some(10_000 - 3 * 350 - 2_237));
    let fourth = pays(&mut w, ann, &poster);
    assert!(w.payment(ann, fourth).channel, "out of the channel");
    assert_eq!(set_aside(&w, ann).1.as_deref(), Some("18.87 EUR"));
    assert_eq!(w.balance(ann, asset), Some(10_000 - 3 * 350 - 2_237));
    // The shop sees it like any order, and a stranger verifies the receipt.
    let orders = Orders::default().run(&w.snapshot(0)).unwrap();
    assert_eq!((orders.len(), orders[0].amount.as_str()), (4, "3.50 EUR"));
    assert_eq!(orders[0].lines, [("oolong".to_owned(), 1)]);
    let order = w.payment(ann, fourth).order;
    let receipts = Receipts { order, ..Receipts::default() }.run(&w.snapshot(ann)).unwrap();
    let stranger = w.add_device();
    let text = receipts[0].text.clone();
    let shown = Verify { text }.run(&w.snapshot(stranger)).unwrap().unwrap();
    assert_eq!((shown.payer, shown.payee), (w.account(ann), w.account(0)));
    assert_eq!(shown.amount, "3.50 EUR");
    // Settled, twice: paid out once.
    settle(&mut w);
    settle(&mut w);
    assert_eq!(set_aside(&w, ann), (None, None));
    assert_eq!(w.balance(ann, asset), Some(10_000 - 4 * 350));
    let lines = History { asset, before: None, limit: 3 }.run(&w.snapshot(ann)).unwrap();
    let seen: Vec<(&str, &str)> =
        lines.iter().map(|l| (l.what.as_str(), l.amount.as_str())).collect();
    assert_eq!(
        seen,
        [
            ("set aside, and came back from", "18.87 EUR"),
            ("paid out of what was set aside for", "3.50 EUR"),
            ("set aside for payments to", "22.37 EUR"),
        ]
    );
    // The next one is an order again, and asks for another channel.
    let fifth = pays(&mut w, ann, &poster);
    assert!(!w.payment(ann, fifth).channel);
    assert!(set_aside(&w, ann).1.is_some());
}

#[test]
fn vouchers_are_lost_and_come_twice() {
    for seed in 0..8 {
        let (mut w, asset, poster) = market(300 + seed, &["Ann"]);
        open_channel(&mut w, 1, &poster);
        w.faults = Faults { lose: 250, double: 250, delay: 400, ..w.faults };
        let mut paid = Vec::new();
        for round in 0..5 {
            paid.push(w.buy(1, &poster, Some(350)));
            let steps = w.below(30);
            for _ in 0..steps {
                w.next();
                w.check_money().unwrap();
            }
            if round % 2 == 0 {
                let victim = (round / 2 + seed as usize) % 2;
                w.crash(victim, true);
                watch(&mut w, 1_000);
                w.start(victim);
            } else {
                w.flap(0);
            }
            watch(&mut w, 20_000);
        }
        w.faults = Faults { delay: 20, ..Faults::default() };
        for _ in 0..3 {
            w.flap(0);
            watch(&mut w, 20_000);
        }
        for payment in &paid {
            assert_eq!(state(&w, 1, *payment), PayState::Paid, "seed {seed}");
        }
        settle(&mut w);
        assert_eq!(w.balance(1, asset), Some(10_000 - 350 * 8), "seed {seed}: each once");
    }
}

#[test]
fn a_voucher_that_comes_too_late_is_given_back() {
    let (mut w, asset, poster) = market(82, &["Ann"]);
    open_channel(&mut w, 1, &poster);
    let late = w.buy(1, &poster, None);
    watch(&mut w, 5_000);
    w.set_online(0, false);
    w.money(1, Ask::Pay { payment: late }).unwrap();
    watch(&mut w, 5_000);
    let seen = w.payment(1, late);
    assert!(seen.channel && seen.state == PayState::Sent, "not known yet");
    // One is out: another payment meanwhile would be an order, but nobody answers.
    w.warp(2 * HOUR);
    w.set_online(0, true);
    watch(&mut w, 60_000);
    assert!(matches!(state(&w, 1, late), PayState::Refused { .. }));
    assert_eq!(set_aside(&w, 1).1.as_deref(), Some("22.37 EUR"), "its room is back");
    let next = pays(&mut w, 1, &poster);
    assert!(w.payment(1, next).channel, "the lane goes on");
    settle(&mut w);
    assert_eq!(w.balance(1, asset), Some(10_000 - 4 * 350));
}

#[test]
fn what_does_not_fit_the_lane_is_an_order() {
    let (mut w, asset, poster) = market(83, &["Ann"]);
    open_channel(&mut w, 1, &poster);
    let free = 10_000 - 3 * 350 - 2_237;
    let dear = w.sell(0, asset, 2_300, None).1;
    let payment = w.buy(1, &dear, Some(2_300));
    watch(&mut w, 10_000);
    assert_eq!(state(&w, 1, payment), PayState::Paid);
    assert!(!w.payment(1, payment).channel);
    assert_eq!(w.balance(1, asset), Some(free - 2_300));
    // More than is free, and no more than free and set aside: that comes back first.
    let all = w.sell(0, asset, free - 2_300 + 1_000, None).1;
    let payment = w.buy(1, &all, None);
    watch(&mut w, 10_000);
    w.money(1, Ask::Pay { payment }).unwrap();
    watch(&mut w, 30_000);
    assert_eq!(state(&w, 1, payment), PayState::Paid);
    assert_eq!(set_aside(&w, 1), (None, None));
    assert_eq!(w.balance(1, asset), Some(2_237 - 1_000));
}

#[test]
fn two_devices_have_a_lane_each() {
    let (mut w, _, people) = town(84, &["Stall", "Ann"]);
    let (stall, ann) = (people[0], people[1]);
    assert_eq!(stall, 0);
    let asset = w.issue(stall);
    let account = w.account(ann);
    w.credit(stall, asset, account, 10_000);
    let second = link(&mut w, ann);
    let (_, poster) = w.sell(stall, asset, 350, None);
    for device in [ann, second] {
        open_channel(&mut w, device, &poster);
    }
    assert_eq!(Channels::default().run(&w.snapshot(stall)).unwrap().len(), 2);
    let mut paid = Vec::new();
    for _ in 0..3 {
        let both = [ann, second].map(|d| (d, w.buy(d, &poster, Some(350))));
        watch(&mut w, 10_000);
        paid.extend(both);
    }
    for (device, payment) in paid {
        let seen = w.payment(device, payment);
        assert!(seen.channel && seen.state == PayState::Paid);
    }
    let [one, two] = [ann, second].map(|d| set_aside(&w, d));
    assert_eq!(one.0, two.0, "both see all that is set aside");
    assert_ne!(one.1, two.1, "each has its own");
    settle(&mut w);
    for device in [ann, second] {
        assert_eq!(w.balance(device, asset), Some(10_000 - 12 * 350));
        assert_eq!(Receipts::default().run(&w.snapshot(device)).unwrap().len(), 12);
    }
}

#[test]
fn what_is_given_back_of_a_channel() {
    let (mut w, asset, poster) = market(85, &["Ann"]);
    open_channel(&mut w, 1, &poster);
    let payment = pays(&mut w, 1, &poster);
    let order = w.payment(1, payment).order.unwrap();
    let number = Some(Number([7; 16]));
    let refund = |amount, number| Ask::Refund { order, amount, memo: "cold".into(), number };
    w.money(0, refund(Some(100), number)).unwrap();
    w.money(0, refund(Some(100), number)).unwrap();
    // The payer is away when more is given back, and hears of it when it is met.
    w.set_online(1, false);
    w.money(0, refund(Some(50), None)).unwrap();
    w.set_online(1, true);
    watch(&mut w, 30_000);
    assert_eq!(w.payment(1, payment).refunded.as_deref(), Some("1.50 EUR"));
    assert_eq!(set_aside(&w, 1).1.as_deref(), Some("20.37 EUR"), "it can be spent again");
    assert!(w.money(0, refund(Some(99), number)).is_err(), "another amount under one number");
    assert!(w.money(0, refund(Some(201), None)).is_err(), "more than is left");
    w.money(0, Ask::Fulfil { order }).unwrap();
    settle(&mut w);
    assert_eq!(w.balance(1, asset), Some(10_000 - 4 * 350 + 150));
    // Of what was settled, money moves.
    w.money(0, refund(None, None)).unwrap();
    w.crash(0, true);
    w.start(0);
    watch(&mut w, 60_000);
    assert_eq!(w.balance(1, asset), Some(10_000 - 3 * 350));
    assert_eq!(w.payment(1, payment).refunded.as_deref(), Some("3.50 EUR"));
    assert!(w.money(0, refund(Some(1), None)).is_err());
    let orders = Orders::default().run(&w.snapshot(0)).unwrap();
    assert_eq!(orders[0].state, OrderState::Paid { refunded: 350, fulfilled: true });
}

#[test]
fn settled_while_a_voucher_is_on_its_way() {
    let (mut w, asset, poster) = market(86, &["Ann"]);
    open_channel(&mut w, 1, &poster);
    let payment = w.buy(1, &poster, None);
    watch(&mut w, 5_000);
    w.set_online(0, false);
    w.money(1, Ask::Pay { payment }).unwrap();
    w.money(0, Ask::Settle { account: Some(w.account(1)) }).unwrap();
    watch(&mut w, 5_000);
    assert!(w.payment(1, payment).channel);
    w.set_online(0, true);
    watch(&mut w, 60_000);
    let seen = w.payment(1, payment);
    assert_eq!((seen.state, seen.channel), (PayState::Paid, false), "by an order instead");
    settle(&mut w);
    assert_eq!(w.balance(1, asset), Some(10_000 - 4 * 350));
    assert!(Evidence {}.run(&w.snapshot(1)).unwrap().is_empty());
    // Nobody settles: it ends by itself.
    pays(&mut w, 1, &poster);
    let next = pays(&mut w, 1, &poster);
    assert!(w.payment(1, next).channel);
    w.warp(91 * DAY);
    w.flap(0);
    watch(&mut w, 60_000);
    assert!(Channels::default().run(&w.snapshot(0)).unwrap().is_empty());
    assert_eq!(set_aside(&w, 1), (None, None));
    assert_eq!(w.balance(1, asset), Some(10_000 - 6 * 350));
}

#[test]
fn a_restored_device_does_not_resume_its_lane() {
    let (mut w, asset, poster) = market(87, &["Ann"]);
    open_channel(&mut w, 1, &poster);
    pays(&mut w, 1, &poster);
    w.crash(1, true);
    let backup = w.devices[1].disk.copy();
    w.start(1);
    watch(&mut w, 10_000);
    for _ in 0..2 {
        let next = pays(&mut w, 1, &poster);
        assert!(w.payment(1, next).channel);
    }
    w.crash(1, true);
    w.restore(1, backup);
    w.start(1);
    // It pays at once, before it has heard of anything.
    let hasty = w.buy(1, &poster, Some(350));
    watch(&mut w, 30_000);
    paid_out_of_step(&w, hasty);
    // The rest came back, and it has a new lane.
    assert_eq!(Channels::default().run(&w.snapshot(0)).unwrap().len(), 1);
    let next = pays(&mut w, 1, &poster);
    assert!(w.payment(1, next).channel);
    settle(&mut w);
    assert_eq!(w.balance(1, asset), Some(10_000 - 8 * 350));
}

/// What was given back of a voucher that an older copy knows nothing of doesn't add up there: that
/// it is out of step is seen all the same.
#[test]
fn a_restored_device_was_given_something_back() {
    let (mut w, asset, poster) = market(89, &["Ann"]);
    open_channel(&mut w, 1, &poster);
    w.crash(1, true);
    let backup = w.devices[1].disk.copy();
    w.start(1);
    watch(&mut w, 10_000);
    let paid = pays(&mut w, 1, &poster);
    let order = w.payment(1, paid).order.unwrap();
    let refund = Ask::Refund { order, amount: None, memo: "cold".into(), number: None };
    w.money(0, refund).unwrap();
    watch(&mut w, 10_000);
    w.crash(1, true);
    w.restore(1, backup);
    w.start(1);
    let hasty = w.buy(1, &poster, Some(350));
    watch(&mut w, 60_000);
    paid_out_of_step(&w, hasty);
    settle(&mut w);
    assert_eq!(w.balance(1, asset), Some(10_000 - 4 * 350));
}

/// What a modified app could say: nothing that doesn't follow is taken, and two vouchers for one
/// place are kept as a proof and freeze the device. Then it pays by orders.
#[test]
fn vouchers_that_do_not_follow_are_refused() {
    let (mut w, asset, poster) = market(88, &["Ann"]);
    open_channel(&mut w, 1, &poster);
    pays(&mut w, 1, &poster);
    let rows: Vec<(Vec<u8>, VoucherRow)> =
        w.snapshot(0).scan_typed(&VOUCHERS, &KeyRange::all(), false, 9).unwrap();
    let first = Signed::<Voucher>::from_bytes(&rows[0].1.voucher).unwrap();
    let me: Me = w.snapshot(1).get_typed(&ME, b"").unwrap().unwrap();
    let key = SigningKey::from_bytes(&me.seed);
    let payment = w.buy(1, &poster, None);
    watch(&mut w, 5_000);
    let row: Payment = w.snapshot(1).get_typed(&PAYMENTS, &payment.0).unwrap().unwrap();
    let offer = Signed::<Offer>::from_bytes(&row.offer.unwrap()).unwrap();
    let prev = Voucher::id(&first);
    let next = Voucher {
        nonce: 2,
        cumulative: 700,
        prev,
        offer: Offer::id(&offer),
        ..first.get().clone()
    };
    let say = |w: &mut World, voucher: Voucher| {
        let voucher = Signed::new(voucher, &key).bytes().to_vec().try_into().unwrap();
        let offer = Box::new(offer.bytes().to_vec().try_into().unwrap());
        let ask = Words::Voucher { log: Log::default(), voucher, offer };
        let frame = PayFrame::Request(Box::new(PayRequest { version: 1, id: 99, ask }));
        let frame = Frame::Service(1, encode(&frame).try_into().unwrap());
        assert!(w.forge(1, 0, encode(&frame)));
        w.run(5_000);
    };
    let taken = |w: &World| w.snapshot(0).count(&VOUCHERS, &KeyRange::all(), 9).unwrap();
    // More than the lane has, one too far on, upon another one, less than before, and again.
    say(&mut w, Voucher { cumulative: 2_238, ..next.clone() });
    say(&mut w, Voucher { nonce: 3, ..next.clone() });
    say(&mut w, Voucher { prev: VoucherId([1; 32]), ..next.clone() });
    say(&mut w, Voucher { cumulative: 349, ..next.clone() });
    say(&mut w, first.get().clone());
    w.check_money().unwrap();
    assert_eq!(taken(&w), 1);
    assert!(Evidence {}.run(&w.snapshot(0)).unwrap().is_empty());
    // Another one in the first one's place.
    say(&mut w, Voucher { cumulative: 351, ..first.get().clone() });
    assert_eq!(Evidence {}.run(&w.snapshot(0)).unwrap().len(), 1, "the proof is kept");
    say(&mut w, next);
    assert_eq!(taken(&w), 1, "frozen");
    w.money(1, Ask::Pay { payment }).unwrap();
    w.run(60_000);
    let seen = w.payment(1, payment);
    assert_eq!((seen.state, seen.channel), (PayState::Paid, false));
    assert_eq!(w.balance(1, asset), Some(10_000 - 5 * 350));
}
