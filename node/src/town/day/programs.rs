//! Mini Programs: breakfast from a shop's menu, and two seats at the cinema. The programs are
//! those of `examples`, their functions run at the merchants' nodes.

use std::fs;
use std::io::Write;

use anyhow::{Context, Result, bail, ensure};
use teahouse_core::command::{Command, Reply};
use teahouse_core::functions::Command as Functions;
use teahouse_core::pay::Command as Pay;
use teahouse_core::pay::query::{Balances, OrderView, Orders};
use teahouse_core::pay::tables::OrderState;
use teahouse_core::programs::Command as Programs;
use teahouse_core::view::{Blob, Content};
use teahouse_protocols::ids::{AppId, AssetId};
use teahouse_protocols::link::Link;
use teahouse_protocols::sign::SigningKey;

use super::cast::Person;
use super::hand::Hand;
use super::{Cast, Day, Stage, morning};
use crate::config;
use crate::programs::{card, host_at, pack};
use crate::town::wait;

/// A program's folder, as it is in `examples`.
struct Example {
    name: &'static str,
    files: &'static [(&'static str, &'static str)],
}

macro_rules! example {
    ($name:literal, $($file:literal),+) => {
        Example {
            name: $name,
            files: &[$((
                $file,
                include_str!(concat!("../../../../examples/", $name, "/", $file)),
            )),+],
        }
    };
}

const BREAKFAST: Example =
    example!("breakfast", "manifest.json", "main.js", "menu.js", "functions.js");
const CINEMA: Example = example!("cinema", "manifest.json", "main.js", "hall.js", "functions.js");

/// What each brings to the cinema, in minor units.
const PURSE: u64 = 2_000;
/// What a seat costs.
const SEAT: u64 = 900;
/// Where two seats are on the map of the hall: the second of the first row, and the third.
const FIRST: &str = "80,75";
const SECOND: &str = "115,75";

/// What Bob orders in the program.
pub(super) const ORDERED: u64 = 700;

impl<W: Write> Day<'_, W> {
    /// Breakfast by the shop's program: one keeps it, one gives it back.
    pub(super) fn menu(&mut self, stage: &Stage<'_>, cast: &Cast, shop: &Person) -> Result<()> {
        let link = publish(stage, shop, &BREAKFAST)?;
        self.done("the shop publishes its Mini Program, whose functions run at its node")?;

        let host = host_at(stage.program.to_owned());
        let mut bob = Hand::open(&cast.bob, &host, &link)?;
        bob.reads("Steamed bun")?;
        bob.uses("Steamed bun", "2")?;
        bob.uses("Tea egg", "+")?;
        bob.reads("Together 7.00")?;
        bob.uses("<Order>", "")?;
        bob.reads("The shop says: offered")?;
        bob.pays("7.00 EUR")?;
        bob.reads("The kitchen has your order")?;
        let order = orders(shop)?.into_iter().find(|o| o.lines.iter().any(|(_, n)| *n == 2));
        let order = order.context("the shop knows nothing of the order")?;
        ensure!(
            order.payer == cast.bob.account()? && order.amount == "7.00 EUR",
            "the shop has another order: {order:?}"
        );
        self.done("Bob gets it by its link, fills a basket, pays; the shop has what he chose")?;

        let app = app_of(&link)?;
        let (topic, title) = (cast.chat, "Breakfast menu".to_owned());
        let send = Programs::Send { app, topic, title, launch: String::new() };
        cast.bob.ask(Command::Programs(send))?;
        let mut found = None;
        wait("Bob's card at Mei", || {
            let all = cast.mei.messages(topic)?;
            let texts = all.into_iter().filter_map(|m| match m.content {
                Content::Text(text) => Some(text),
                _ => None,
            });
            found = texts.filter_map(|t| card(&t)).next_back();
            Ok(found.is_some())
        })?;
        let link = Link::Program(found.context("there is no card")?).to_uri();
        let mut mei = Hand::open(&cast.mei, &host, &link)?;
        mei.reads("Tea egg")?;
        mei.uses("Tea egg", "+")?;
        mei.uses("<Order>", "")?;
        mei.reads("The shop says: offered")?;
        mei.pays("2.00 EUR")?;
        mei.reads("The kitchen has your order")?;
        wait("the shop's word that it is paid", || {
            mei.uses("<Ask again>", "")?;
            Ok(mei.shows("The shop says: paid"))
        })?;
        mei.uses("<Give it back>", "")?;
        mei.reads("The shop says: given back")?;
        let (payer, sold) = (cast.mei.account()?, orders(shop)?);
        ensure!(
            sold.iter().any(|o| o.payer == payer
                && o.amount == "2.00 EUR"
                && matches!(o.state, OrderState::Paid { refunded: 200, .. })),
            "the shop gave nothing back: {sold:?}"
        );
        self.done("Mei has it from Bob's card in their chat, orders, pays, and gives it back")
    }

    /// Two people want the same seat. Gives the cinema's node back.
    pub(super) fn cinema(&mut self, stage: &Stage<'_>, cast: &Cast) -> Result<Person> {
        let data = stage.dir.join("cinema");
        let cinema = Person::start_apart(stage.program, &data, "merchant")?.named("The Lantern")?;
        morning::join(&cinema, &cast.invite)?;
        let open = Pay::Open { currency: "EUR".into(), name: "The Lantern".into() };
        let Reply::Asset { asset } = cinema.ask(Command::Pay(open))? else { bail!("no money") };
        for person in [&cast.bob, &cast.mei] {
            let account = person.account()?;
            let create = Pay::Create { asset, account, amount: PURSE, number: None };
            cinema.ask(Command::Pay(create))?;
        }
        let link = publish(stage, &cinema, &CINEMA)?;
        self.done("a cinema opens, a node of its own, and publishes its hall")?;

        let host = host_at(stage.program.to_owned());
        let mut hands =
            [Hand::open(&cast.bob, &host, &link)?, Hand::open(&cast.mei, &host, &link)?];
        for hand in &mut hands {
            hand.reads("96 seats are free")?;
            hand.uses("(drawing", FIRST)?;
            hand.reads("Chosen: A2")?;
        }
        for hand in &mut hands {
            hand.uses("<Book>", "")?;
        }
        wait("the cinema's answers", || {
            for hand in &mut hands {
                hand.turn()?;
            }
            Ok(hands.iter().all(|h| h.shows("Held for you") || h.shows("Somebody was faster")))
        })?;
        let (mut held, mut late): (Vec<Hand<'_>>, Vec<Hand<'_>>) =
            hands.into_iter().partition(|h| h.shows("Held for you"));
        let (Some(mut first), Some(mut second), 0) = (held.pop(), late.pop(), held.len()) else {
            bail!("one seat was given to two people, or to nobody")
        };
        self.done("Bob and Mei tap the same seat at once: one has it, one is told so")?;

        first.pays("9.00 EUR")?;
        first.reads("They are yours")?;
        second.uses("(drawing", SECOND)?;
        second.reads("Chosen: A3")?;
        second.uses("<Book>", "")?;
        second.reads("Held for you")?;
        second.pays("9.00 EUR")?;
        second.reads("They are yours")?;
        first.uses("<Ask again>", "")?;
        first.reads("94 seats are free")?;
        let sold = orders(&cinema)?;
        let mut seats: Vec<&str> =
            sold.iter().flat_map(|o| o.lines.iter().map(|(title, _)| title.as_str())).collect();
        seats.sort_unstable();
        ensure!(seats == ["Seat A2", "Seat A3"], "the cinema sold {seats:?}");
        for person in [&cast.bob, &cast.mei] {
            paid(person, asset)?;
        }
        self.done("two seats beside each other, each paid; the cinema's books have both")?;
        Ok(cinema)
    }
}

/// Packs a program for a merchant's node, installs it there and serves its functions. Its link.
fn publish(stage: &Stage<'_>, keeper: &Person, example: &Example) -> Result<String> {
    let dir = stage.dir.join("programs").join(example.name);
    fs::create_dir_all(&dir).context("a folder for a program")?;
    for (file, text) in example.files {
        fs::write(dir.join(file), text).context("a program's file")?;
    }
    let seed = config::secret_at(&dir.with_extension("key"))?;
    let key = SigningKey::from_bytes(&seed);
    let package = pack::folder_for(&dir, &key, keeper.device()?)?.to_bytes()?;
    let install = Programs::Install { package: Blob(package) };
    let Reply::Program { app } = keeper.ask(Command::Programs(install))? else {
        bail!("nothing was installed")
    };
    keeper.ask(Command::Functions(Functions::Serve { app, asset: None }))?;
    let mut link = String::new();
    wait("a link that names an address", || {
        let share = Programs::Share { app, launch: String::new() };
        let Reply::Link { link: made } = keeper.ask(Command::Programs(share))? else {
            bail!("no link was made")
        };
        link = made;
        let Ok(Link::Program(program)) = Link::parse(&link) else { bail!("no program's link") };
        Ok(program.providers.first().is_some_and(|p| !p.addrs.is_empty()))
    })?;
    Ok(link)
}

fn app_of(link: &str) -> Result<AppId> {
    match Link::parse(link) {
        Ok(Link::Program(program)) => Ok(program.app),
        _ => bail!("no program's link"),
    }
}

fn orders(keeper: &Person) -> Result<Vec<OrderView>> {
    keeper.query(&Orders { before: None, limit: 0 })
}

/// Waits until a seat is off somebody's balance.
fn paid(person: &Person, asset: AssetId) -> Result<()> {
    wait("the balance at the cinema", || {
        let all = person.query(&Balances {})?;
        Ok(all.iter().any(|b| b.asset == asset && b.minor == Some(PURSE - SEAT)))
    })
}
