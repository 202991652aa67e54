//! The wallet in the window: over a made-up node what is shown and asked, and over real ones,
//! with a relay between, a shop that is paid and money that a friend takes.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::made_up::{CHEN, ME, MEI, MINUTE, MadeUp, NOW, WITH_MEI, contacts, full};
use common::people::{Person, Street};
use common::{Window, click, field, gone, has, wait, window, write};
use egui::{Key, Role};
use egui_kittest::kittest::{NodeT as _, Queryable as _};
use teahouse_app::bridge::Action;
use teahouse_app::pages::Shared;
use teahouse_app::pages::wallet::vm::{Ask, Known, Line, Purse, Receipt, lists};
use teahouse_app::pages::wallet::words;
use teahouse_app::strings;
use teahouse_app::vm::Zone;
use teahouse_node::core::command::{Command, Reply};
use teahouse_node::core::pay::Command as Pay;
use teahouse_node::core::pay::query::{BalanceView, PaymentView, WaitingView};
use teahouse_node::core::pay::tables::{IncomingState, Number, PayState};
use teahouse_node::protocols::ids::{AccountId, AssetId, OrderId};

const SHOP: AccountId = AccountId([70; 32]);
const TEA: AssetId = AssetId([71; 32]);
const MEIS: AssetId = AssetId([72; 32]);

fn balance(asset: AssetId, issuer: AccountId, name: &str) -> BalanceView {
    BalanceView {
        asset,
        issuer,
        name: name.into(),
        currency: "EUR".into(),
        exponent: 2,
        balance: Some("20.00 EUR".into()),
        minor: Some(2_000),
        held: None,
        heard: Some(NOW - 2 * MINUTE),
        reserved: None,
        room: None,
    }
}

fn payment(n: u8, state: PayState, words: &str) -> PaymentView {
    PaymentView {
        payment: Number([n; 16]),
        at: NOW - u64::from(n) * MINUTE,
        asset: TEA,
        to: SHOP,
        to_name: "Old Street Tea".into(),
        title: format!("Oolong {n}"),
        amount: "3.50 EUR".into(),
        minor: 350,
        state,
        words: words.into(),
        agreed: false,
        refunded: None,
        fulfilled: false,
        order: (state != PayState::Offered).then_some(OrderId([n; 32])),
        channel: false,
    }
}

fn sent(state: IncomingState) -> WaitingView {
    WaitingView {
        order: OrderId([80; 32]),
        asset: TEA,
        from: "Chen".into(),
        amount: "5.00 EUR".into(),
        memo: "for the tea".into(),
        until: NOW + 600 * MINUTE,
        state,
    }
}

fn purse(payments: &[PaymentView], waiting: &[WaitingView]) -> Purse {
    let balances = [balance(TEA, SHOP, "Old Street Tea"), balance(MEIS, MEI, "Old Street Tea")];
    let known = Known::of(Some(ME), &contacts());
    lists(&balances, payments, waiting, &known, NOW, &Zone::utc())
}

fn show(node: &MadeUp, purse: Purse) {
    node.change(|m| {
        m.pages.insert("wallet", Ok(Shared::new(purse)));
    });
}

fn node(purse: Purse) -> MadeUp {
    let node = MadeUp::new(full(WITH_MEI));
    show(&node, purse);
    node
}

fn over(node: &MadeUp) -> Window {
    let mut window = window(node, [1100.0, 1000.0]);
    window.run();
    open(&mut window);
    window
}

fn open(window: &mut Window) {
    window.get_all_by_label_contains(words::title()).next().expect("on the rail").click();
    window.run();
}

/// Commands to payments since the last call.
fn asked(node: &MadeUp) -> Vec<(u64, Pay)> {
    let only = |(ticket, command)| match command {
        Command::Pay(c) => Some((ticket, c)),
        _ => None,
    };
    node.commands().into_iter().filter_map(only).collect()
}

/// Chooses something in a list that opens.
fn choose(window: &mut Window, list: &str, item: &str) {
    window.run();
    window.get_by_role_and_label(Role::ComboBox, list).click();
    window.run();
    window.get_all_by_label_contains(item).last().expect("in the list").click();
    window.run();
}

#[test]
fn money_is_never_shown_without_whose_it_is() {
    let node = node(purse(&[], &[]));
    let mut window = over(&node);
    // Two of one currency and one name: who owes them tells them apart.
    let (of_shop, of_mei) = ("“Old Street Tea” · 4646 4646 4646", "“Old Street Tea” of Mei 梅");
    click(&mut window, &words::balance("20.00 EUR", of_shop));
    assert!(has(&window, "no friend of yours") && has(&window, &SHOP.to_hex()));
    click(&mut window, &words::balance("20.00 EUR", of_mei));
    assert!(has(&window, "your friend Mei 梅") && has(&window, &MEI.to_hex()));
    // What nobody signed is not shown as a number.
    let mut unknown = balance(TEA, SHOP, "Old Street Tea");
    (unknown.balance, unknown.minor, unknown.heard) = (None, None, None);
    let known = Known::of(Some(ME), &contacts());
    show(&node, lists(&[unknown], &[], &[], &known, NOW, &Zone::utc()));
    window.run();
    assert!(has(&window, words::nothing_signed()) && !has(&window, "20.00"));
}

#[test]
fn a_statement_is_asked_for_and_shown_with_signs() {
    let node = node(purse(&[], &[]));
    let mut window = over(&node);
    let row = words::balance("20.00 EUR", "“Old Street Tea” · 4646 4646 4646");
    click(&mut window, &row);
    let ask = |a: &Action| match a {
        Action::Page { page: "wallet", ask } => ask.get::<Ask>(),
        _ => None,
    };
    let ask = node.0.borrow().actions.iter().rev().find_map(ask).expect("asked");
    assert_eq!(ask.statement, Some(TEA));
    assert!(has(&window, words::statement_waits()));
    let line = |number, rises| Line {
        number,
        what: "Paid in".into(),
        amount: if rises { "+20.00 EUR".into() } else { "−3.50 EUR".into() },
        rises,
        at: "Today 09:00".into(),
    };
    let lines: Arc<[Line]> = [line(2, false), line(1, true)].into();
    show(&node, Purse { statement: Some((TEA, lines)), ..purse(&[], &[]) });
    window.run();
    assert!(has(&window, "+20.00 EUR") && has(&window, "−3.50 EUR"));
    click(&mut window, words::refresh());
    assert!(matches!(asked(&node)[..], [(_, Pay::Refresh { asset: TEA })]));
}

#[test]
fn an_offer_is_confirmed_once_and_what_is_not_known_is_called_so() {
    let offer = payment(1, PayState::Offered, "offered: yours to pay");
    let node = node(purse(std::slice::from_ref(&offer), &[]));
    let mut window = window(&node, [1100.0, 1000.0]);
    window.run();
    click(&mut window, &strings::with_unread(words::title(), 1));
    window.get_by_label_contains("Oolong 1, ").click();
    window.run();
    assert!(has(&window, words::confirm_title()) && has(&window, "no friend of yours"));
    let pay = words::pay_amount("3.50 EUR");
    click(&mut window, &pay);
    let sent = asked(&node);
    let [(ticket, Pay::Pay { payment: number })] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(*number, offer.payment);
    assert!(window.get_by_label(&pay).accesskit_node().is_disabled(), "once");
    node.answer(*ticket, Ok(Reply::Payment { payment: *number }));
    let words_now = "not known yet: sent, and it resolves itself when the issuer answers";
    show(&node, purse(&[payment(1, PayState::Sent, words_now)], &[]));
    window.run();
    assert!(has(&window, "Not known yet: sent") && has(&window, words::sent_how()));
    assert!(window.query_by_label(&pay).is_none(), "nothing to press");
    assert!(!has(&window, words::receipt_copy()));
}

#[test]
fn an_offer_in_money_that_is_not_known_can_not_be_paid() {
    let mut offer = payment(1, PayState::Offered, "offered: yours to pay");
    offer.asset = AssetId([99; 32]);
    let node = node(purse(&[offer], &[]));
    let mut window = over(&node);
    window.get_by_label_contains("Oolong 1, ").click();
    window.run();
    assert!(has(&window, words::whose_unknown()));
    let pay = words::pay_amount("3.50 EUR");
    assert!(window.get_by_label(&pay).accesskit_node().is_disabled());
    click(&mut window, words::give_up());
    assert!(matches!(asked(&node)[..], [(_, Pay::Cancel { .. })]));
}

#[test]
fn every_state_has_its_words_and_a_receipt_can_be_taken_along() {
    let mut refunded = payment(2, PayState::Paid, "paid, and handed over");
    (refunded.refunded, refunded.fulfilled) = (Some("1.00 EUR".into()), true);
    let all = [
        payment(1, PayState::Asked, "asked; the shop has not answered yet"),
        refunded,
        payment(3, PayState::Held { until: NOW + MINUTE }, "held until it is taken, a day at most"),
        payment(4, PayState::Returned, "not taken; it came back"),
        payment(5, PayState::Refused { why: 1 }, "not paid: no"),
    ];
    let node = node(purse(&all, &[]));
    let mut window = over(&node);
    for (n, said) in (1..).zip(["price asked", "refunded", "held", "came back", "not paid"]) {
        window.get_by_label_contains(&format!("Oolong {n}, ")).click();
        window.run();
        assert!(has(&window, said), "{said}");
    }
    window.get_by_label_contains("Oolong 2, ").click();
    window.run();
    assert!(has(&window, "1.00 EUR"));
    let receipt = Receipt {
        amount: "3.50 EUR".into(),
        title: "Oolong 2".into(),
        at: "Today 09:28".into(),
        accounts: [ME, SHOP, SHOP].map(|a| a.to_hex()),
        text: "teahouse:receipt/abc".into(),
    };
    let order = OrderId([2; 32]);
    show(&node, Purse { receipt: Some((order, Some(receipt.into()))), ..purse(&all, &[]) });
    window.run();
    window.get_by_label(words::receipt_copy()).click();
    window.step();
    let commands = &window.output().platform_output.commands;
    assert!(commands.iter().any(|c| matches!(c,
        egui::OutputCommand::CopyText(text) if text == "teahouse:receipt/abc")));
}

#[test]
fn money_is_sent_after_a_second_look() {
    let node = node(purse(&[], &[]));
    let mut window = over(&node);
    click(&mut window, words::send());
    click(&mut window, words::review());
    assert!(asked(&node).is_empty());
    choose(&mut window, words::which_money(), "4646");
    choose(&mut window, words::to_whom(), "Chen");
    write(&mut window, words::how_much(), "20.01");
    assert!(has(&window, words::not_more()));
    for (text, wrong) in
        [("0", words::not_nothing()), ("1.234", "decimals"), ("x", "not an amount")]
    {
        field(&window, words::how_much()).focus();
        window.run();
        window.key_press_modifiers(egui::Modifiers::COMMAND, Key::A);
        window.run();
        write(&mut window, words::how_much(), text);
        assert!(has(&window, wrong), "{text}");
    }
    window.key_press_modifiers(egui::Modifiers::COMMAND, Key::A);
    window.run();
    write(&mut window, words::how_much(), "5");
    write(&mut window, words::memo(), "for the tea");
    click(&mut window, words::review());
    assert!(has(&window, &words::send_this("5.00 EUR", "Chen")));
    assert!(has(&window, "no friend of yours"), "whose money it is");
    window.key_press(Key::Escape);
    window.run();
    click(&mut window, words::review());
    click(&mut window, words::send_now());
    let sent = asked(&node);
    let [(ticket, Pay::Transfer { asset: TEA, to: CHEN, amount: 500, memo, .. })] = &sent[..]
    else {
        panic!("{sent:?}");
    };
    assert_eq!(memo, "for the tea");
    click(&mut window, words::sending());
    assert!(asked(&node).is_empty(), "once");
    node.answer(*ticket, Err("no"));
    window.run();
    assert!(has(&window, &words::send_this("5.00 EUR", "Chen")), "it stays");
    click(&mut window, words::send_now());
    let ticket = asked(&node)[0].0;
    node.answer(ticket, Ok(Reply::Payment { payment: Number([3; 16]) }));
    let held = payment(3, PayState::Held { until: NOW + MINUTE }, "held until it is taken");
    show(&node, purse(&[held], &[]));
    window.run();
    assert!(has(&window, words::held_how()));
}

#[test]
fn what_a_friend_sent_is_taken_or_declined() {
    let node = node(purse(&[], &[sent(IncomingState::Waits)]));
    let mut window = over(&node);
    let row = strings::with_unread(&words::sent_by("5.00 EUR", "Chen"), 1);
    click(&mut window, &row);
    assert!(has(&window, "for the tea") && has(&window, "no friend of yours"));
    click(&mut window, words::take());
    let commands = asked(&node);
    let [(ticket, Pay::Answer { accept: true, .. })] = commands[..] else { panic!("{commands:?}") };
    click(&mut window, words::take());
    assert!(asked(&node).is_empty(), "once");
    node.answer(ticket, Err("no"));
    window.run();
    click(&mut window, words::decline());
    assert!(matches!(asked(&node)[..], [(_, Pay::Answer { accept: false, .. })]));
    show(&node, purse(&[], &[sent(IncomingState::Accepting)]));
    window.run();
    assert!(has(&window, words::waiting_state(IncomingState::Accepting)));
    assert!(window.query_by_label(words::take()).is_none());
}

#[test]
fn a_link_that_is_none_is_told_before_anything_is_asked() {
    let node = node(Purse::default());
    let mut window = over(&node);
    assert!(has(&window, words::empty()));
    click(&mut window, words::copy_account());
    assert!(has(&window, words::copied()));
    click(&mut window, words::pay());
    write(&mut window, words::link(), "teahouse:order/abc");
    click(&mut window, words::ask_price());
    assert!(asked(&node).is_empty());
    assert!(!has(&window, words::poster_says()));
    window.key_press(Key::Escape);
    window.run();
    assert!(has(&window, words::empty()));
}

#[test]
fn an_idle_page_draws_nothing() {
    let node = node(purse(&[payment(1, PayState::Paid, "paid")], &[]));
    let mut window = over(&node);
    window.get_by_label_contains("Oolong 1, ").click();
    window.run();
    for _ in 0..3 {
        window.step();
        let output = window.output().viewport_output.values().next().unwrap();
        assert!(output.repaint_delay > Duration::from_secs(1), "an idle window draws");
    }
}

/// Lin pays at the tea shop by its link, and sends some of what is left to Mei.
#[test]
fn a_shop_is_paid_and_a_friend_takes_money() {
    let street = Street::new();
    let mut shop = Person::new(&street, "Old Street Tea");
    let mut lin = Person::new(&street, "Lin");
    let mut mei = Person::new(&street, "Mei");
    lin.befriend(&mut mei);
    let begin = Pay::Open { currency: "EUR".into(), name: "Old Street Tea".into() };
    let Reply::Asset { asset } = shop.tell(Command::Pay(begin)) else { panic!("no money") };
    let offer = Pay::Offer { asset, title: "Oolong".into(), price: 350, stock: None };
    let Reply::Product { link, .. } = shop.tell(Command::Pay(offer)) else { panic!("no poster") };
    let (account, amount) = (lin.account(), 2_000);
    shop.tell(Command::Pay(Pay::Create { asset, account, amount, number: None }));
    let (mut lin, mut mei) = (lin.window(), mei.window());
    for window in [&mut lin, &mut mei] {
        wait(window, words::title());
        open(window);
        wait(window, words::empty());
    }

    click(&mut lin, words::pay());
    write(&mut lin, words::link(), &link);
    wait(&mut lin, "3.50 EUR each");
    click(&mut lin, words::ask_price());
    wait(&mut lin, words::confirm_title());
    wait(&mut lin, "no friend of yours");
    let pay = words::pay_amount("3.50 EUR");
    click(&mut lin, &pay);
    wait(&mut lin, words::receipt_copy());
    gone(&mut lin, &pay);
    wait(&mut lin, "16.50 EUR");

    click(&mut lin, words::send());
    choose(&mut lin, words::to_whom(), "Mei");
    write(&mut lin, words::how_much(), "5.00");
    click(&mut lin, words::review());
    click(&mut lin, words::send_now());
    wait(&mut lin, words::held_how());
    wait(&mut lin, "11.50 EUR");

    wait(&mut mei, &words::sent_by("5.00 EUR", "Lin"));
    mei.run();
    mei.get_by_label_contains(&words::sent_by("5.00 EUR", "Lin")).click();
    mei.run();
    wait(&mut mei, "Old Street Tea");
    click(&mut mei, words::take());
    gone(&mut mei, words::take());
    wait(&mut mei, words::waiting_state(IncomingState::Accepted));
    wait(&mut mei, "5.00 EUR, “Old Street Tea”");
    gone(&mut lin, words::held_how());
    wait(&mut lin, words::receipt_none());
}

/// The tea shop opens, sells a pot, hands it over and gives some of it back, all in its window.
#[test]
fn a_shop_is_opened_and_run_in_the_window() {
    let street = Street::new();
    let mut shop = Person::new(&street, "Tea").window();
    let mut lin = Person::new(&street, "Lin");
    wait(&mut shop, words::title());
    open(&mut shop);
    wait(&mut shop, words::empty());
    click(&mut shop, words::open_shop());
    write(&mut shop, words::shop_name(), "Old Street Tea");
    write(&mut shop, words::currency(), "eur");
    click(&mut shop, words::open_now());
    wait(&mut shop, words::products_none());
    write(&mut shop, words::product_title(), "Oolong");
    write(&mut shop, words::price(), "3.50");
    click(&mut shop, words::product_add());
    wait(&mut shop, words::poster_qr());
    let link = shop.get_by_label_contains("teahouse:order/");
    let link = link.accesskit_node().label().or(link.accesskit_node().value()).unwrap();
    gone(&mut shop, words::products_none());

    // Lin paid 20.00 in, in cash.
    click(&mut shop, words::credit());
    write(&mut shop, words::credit_account(), &lin.account().to_hex());
    write(&mut shop, words::how_much(), "20");
    click(&mut shop, words::review());
    assert!(has(&shop, &words::credit_this("20.00 EUR", words::credit_stranger())));
    click(&mut shop, words::credit_now());
    gone(&mut shop, words::credit_now());

    let (lines, note) = (vec![(link, 1)], "less sugar".into());
    lin.tell(Command::Pay(Pay::Order { lines, note, up_to: Some(350), number: None }));
    let due = strings::with_unread(words::orders(), 1);
    wait(&mut shop, &due);
    click(&mut shop, &due);
    shop.get_by_label_contains("1 × Oolong, ").click();
    shop.run();
    wait(&mut shop, "less sugar");
    click(&mut shop, words::fulfil());
    wait(&mut shop, "paid, handed over");
    gone(&mut shop, &due);
    write(&mut shop, words::refund_amount(), "1.00");
    click(&mut shop, words::refund());
    assert!(has(&shop, "Give 1.00 EUR back to"));
    click(&mut shop, words::refund_now());
    wait(&mut shop, "paid, something given back");
    gone(&mut shop, words::refund_now());
}
