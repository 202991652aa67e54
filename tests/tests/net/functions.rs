//! Breakfast is ordered and paid, and cinema seats are booked: the examples, between running
//! nodes, their functions in the real child process.

use std::thread;
use std::time::Duration;

use serde_json::Value;
use teahouse_core::functions::query::{AnswerOf, CallState};
use teahouse_core::pay::tables::Number;
use teahouse_core::programs::query::Program;
use teahouse_protocols::link::Link;

use crate::process::{Home, Node, text, until};

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");

/// A shop that serves an example.
fn shop(home: &Home, example: &str) -> (Node, String) {
    let mut shop = Node::merchant(home, example).with_account(example);
    shop.up();
    shop.json(&["merchant", "open", "--currency", "EUR", "--name", example]);
    let folder = format!("{EXAMPLES}/{example}");
    let link = until("the link names an address", || {
        let link = text(&shop.json(&["program", "publish", &folder]), "/link");
        let Ok(Link::Program(program)) = Link::parse(&link) else { panic!("{link}") };
        (!program.providers.first()?.addrs.is_empty()).then_some(link)
    });
    shop.json(&["program", "serve", example]);
    (shop, link)
}

/// A customer with 50.00 there, who has the program.
fn customer(home: &Home, shop: &Node, link: &str, name: &str) -> Node {
    let mut node = Node::device(home, name).with_account(name);
    node.up();
    node.json(&["program", "install", link]);
    let program = until("the package has come", || {
        let all: Vec<Program> = node.read(&["program"]);
        all.into_iter().next().filter(|p| p.package.is_some())
    });
    for power in ["call", "pay"] {
        node.json(&["program", "grant", &program.name, power]);
    }
    let account = text(&node.json(&["status"]), "/identity/account");
    shop.json(&["merchant", "create-value", &account, "50.00"]);
    node
}

/// Calls a function and waits for its answer, however long the shop is away: the answer, and an
/// offer.
fn call(node: &Node, function: &str, payload: &str) -> Option<(Value, Option<String>)> {
    let program = text(&node.json(&["program"]), "/0/name");
    let output = node.tell(&["--json", "program", "call", &program, function, payload]);
    if !output.status.success() {
        return None;
    }
    let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let offer = |said: &Value| said.get("offer").and_then(Value::as_str).map(str::to_owned);
    if said.get("answer").is_some() {
        return Some((said["answer"].clone(), offer(&said)));
    }
    let call: Number = text(&said, "/call").parse().expect("a number");
    until("the call is answered", || {
        let state = node.client().ask(&AnswerOf { call }).ok()??;
        match state {
            CallState::Waits => None,
            CallState::Value { value, offer } => {
                let offer = offer.map(|o| data_encoding::BASE64.encode(&o.0));
                Some(Some((serde_json::from_slice(&value.0).expect("JSON"), offer)))
            }
            CallState::Refused { .. } | CallState::NoAnswer => Some(None),
        }
    })
}

fn pay(node: &Node, offer: &str) -> Value {
    let program = text(&node.json(&["program"]), "/0/name");
    node.json(&["program", "pay", &program, offer])
}

fn balance(node: &Node) -> String {
    let all = node.json(&["wallet"]);
    format!("{all}")
}

#[test]
fn breakfast_is_ordered_paid_and_given_back() {
    let home = Home::new();
    let (shop, link) = shop(&home, "breakfast");
    let ann = customer(&home, &shop, &link, "ann");
    assert!(call(&ann, "order", r#"{ "basket": {} }"#).is_none(), "an empty basket");
    assert!(call(&ann, "no such function", "{}").is_none());
    let basket = r#"{ "basket": { "bun": 2, "egg": 1 } }"#;
    let (order, offer) = call(&ann, "order", basket).expect("an answer");
    assert_eq!((order["id"].as_u64(), order["state"].as_str()), (Some(1), Some("offered")));
    let paid = pay(&ann, &offer.expect("an offer"));
    assert_eq!(paid["state"], "paid", "{paid}");
    assert_eq!(paid["amount"], "7.00 EUR");
    let state = |node: &Node| {
        let (order, _) = call(node, "status", r#"{ "id": 1 }"#)?;
        Some(order["state"].as_str()?.to_owned())
    };
    until("the shop's functions hear of it", || (state(&ann)? == "paid").then_some(()));
    // Somebody else's order is nobody's business.
    let bob = customer(&home, &shop, &link, "bob");
    assert_eq!(state(&bob), None);
    assert!(balance(&ann).contains("43.00"), "{}", balance(&ann));
    let (back, _) = call(&ann, "refund", r#"{ "id": 1 }"#).expect("an answer");
    assert_eq!(back["state"], "given back");
    until("the money is back", || balance(&ann).contains("50.00").then_some(()));
    let (again, _) = call(&ann, "refund", r#"{ "id": 1 }"#).expect("an answer");
    assert_eq!(again["state"], "given back");
    let orders = shop.json(&["merchant", "orders"]);
    assert_eq!(orders.as_array().map(Vec::len), Some(1), "{orders}");
    // What the person sees, in the terminal.
    let opened = ann.tell(&["program", "open", "breakfast"]);
    let shown = String::from_utf8_lossy(&opened.stdout).into_owned();
    assert!(opened.status.success() && shown.contains("Soy milk"), "{shown}");
}

#[test]
fn two_buyers_race_for_a_seat_while_the_cinema_crashes() {
    let home = Home::new();
    let (mut cinema, link) = shop(&home, "cinema");
    let people = ["ann", "bob"].map(|name| customer(&home, &cinema, &link, name));
    for seat in 5..8 {
        let wish = format!(r#"{{ "seats": [{seat}] }}"#);
        let answers = thread::scope(|scope| {
            let asking = people.each_ref().map(|node| {
                let wish = &wish;
                scope.spawn(move || call(node, "book", wish).expect("an answer"))
            });
            // Somewhere between the steps; a little later each time.
            thread::sleep(Duration::from_millis(150 * (seat - 4)));
            cinema.kill();
            cinema.up();
            asking.map(|a| a.join().expect("no panic"))
        });
        let held: Vec<bool> = answers.iter().map(|(said, _)| said["held"] == true).collect();
        assert_eq!(held.iter().filter(|h| **h).count(), 1, "seat {seat}: {answers:?}");
        let (winner, loser) = if held[0] { (0, 1) } else { (1, 0) };
        assert!(answers[loser].1.is_none());
        let offer = answers[winner].1.as_deref().expect("an offer");
        let refused = people[loser].tell(&["program", "pay", "cinema", offer]);
        assert!(!refused.status.success(), "an offer is for one device");
        assert_eq!(pay(&people[winner], offer)["state"], "paid");
        until("the seat is sold", || {
            let (said, _) = call(&people[winner], "seats", "{}")?;
            said["mine"].as_array()?.iter().any(|s| *s == seat).then_some(())
        });
        let (said, _) = call(&people[loser], "seats", "{}").expect("an answer");
        assert!(said["taken"].as_array().is_some_and(|all| all.iter().any(|s| *s == seat)));
        assert!(said["mine"].as_array().is_some_and(|all| all.iter().all(|s| *s != seat)));
    }
    let orders = cinema.json(&["merchant", "orders"]);
    assert_eq!(orders.as_array().map(Vec::len), Some(3), "three seats, three payments: {orders}");
}
