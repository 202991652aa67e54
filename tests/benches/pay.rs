//! Payments at a merchant's node, in a process of its own, by the nodes of ten payers, over QUIC
//! on loopback, durable on both sides: how many a second, and how long from a person's order
//! until the wallet says that it is paid. Offer, order, answer and statement are all in it.
//!
//! The floor is one loop that verifies and commits as many. Payers and merchant share the
//! machine: what the merchant's processor time alone would allow is printed beside it.

#![allow(clippy::cast_precision_loss, reason = "figures for people")]

mod common;
mod floors;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use common::people::{create, listening, start, stop, until};
use common::{Reach, Report, Samples, count, folder, median, note};
use futures::future::join_all;
use serde_json::{Value, json};
use teahouse_core::command::{Command, Reply};
use teahouse_core::pay::Command as Ask;
use teahouse_core::pay::query::{Balances, OnePayment};
use teahouse_core::pay::tables::{
    CHANNELS_OUT, ChannelOut, ChannelState, Number, OUT, PAYMENTS, PayState,
};
use teahouse_core::query::Query;
use teahouse_core::store::{FILE, KeyRange, ReadExt};
use teahouse_node::{Handle, Node};
use teahouse_protocols::ids::AccountId;
use teahouse_protocols::link;

/// Says that this process is the merchant's.
const PART: &str = "TEAHOUSE_BENCH_PART";
/// Its data folder.
const FOLDER: &str = "TEAHOUSE_BENCH_FOLDER";

/// One payer's payments under way: a shop lets so many offers stand for one device.
const IN_FLIGHT: usize = 8;
/// Minor units.
const PRICE: u64 = 350;

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if std::env::var_os(PART).is_some() {
        let dir = PathBuf::from(std::env::var_os(FOLDER).context("a folder")?);
        return runtime.block_on(merchant(&dir));
    }
    runtime.block_on(run())
}

/// The merchant's process. Stopped when dropped.
struct Merchant(Child);

impl Merchant {
    /// Starts one that sells something, and gives each payer so much.
    fn start(dir: &Path, payers: &[AccountId], amount: u64) -> Result<(Self, String)> {
        let mut child = Process::new(std::env::current_exe()?)
            .env(PART, "merchant")
            .env(FOLDER, dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut input = child.stdin.take().context("its input")?;
        let out = child.stdout.take().context("its output")?;
        let merchant = Self(child);
        writeln!(input, "{}", json!({ "payers": payers, "amount": amount }))?;
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        let told: Value = serde_json::from_str(&line).context("the merchant has ended")?;
        Ok((merchant, told["poster"].as_str().context("a poster")?.to_owned()))
    }

    /// Processor time that it has used.
    fn processor(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        // After the name, which is in brackets: fields 14 and 15 of proc(5), in hundredths.
        let (_, fields) = stat.rsplit_once(')').context("a name")?;
        let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
        let ticks: u64 = ticks.sum::<Result<u64, _>>()?;
        Ok(Duration::from_millis(10 * ticks))
    }
}

impl Drop for Merchant {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// In a process of its own: opens a shop, credits payers, and serves until it is killed.
async fn merchant(dir: &Path) -> Result<()> {
    let mut told = String::new();
    std::io::stdin().read_line(&mut told)?;
    let told: Value = serde_json::from_str(&told)?;
    let payers: Vec<AccountId> = serde_json::from_value(told["payers"].clone())?;
    let amount = told["amount"].as_u64().context("an amount")?;
    let node = start(dir)?;
    let handle = node.handle();
    create(handle, "Shop").await?;
    listening(handle).await?;
    let ask = |ask| handle.submit(Command::Pay(ask));
    let open = Ask::Open { currency: "EUR".into(), name: "Old Street Tea".into() };
    let Reply::Asset { asset } = ask(open).await? else { bail!("no asset") };
    for account in payers {
        ask(Ask::Create { asset, account, amount, number: None }).await?;
    }
    let offer = Ask::Offer { asset, title: "Oolong".into(), price: PRICE, stock: None };
    let Reply::Product { product, .. } = ask(offer).await? else { bail!("no product") };
    // The address is known to the core a moment after it is to the status.
    let poster = loop {
        let Reply::Product { link, .. } = ask(Ask::Poster { product }).await? else {
            bail!("no poster")
        };
        if !link::parse_order(&link)?.product().addrs.is_empty() {
            break link;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    println!("{}", json!({ "poster": poster }));
    std::future::pending().await
}

/// What a payer does.
struct Payer {
    handle: Handle,
    poster: String,
}

impl Payer {
    /// Buys `count` times, `at_once` under way: how long each took.
    async fn buy(&self, count: usize, at_once: usize) -> Result<Samples> {
        let mut changes = self.handle.changes();
        let (mut begun, mut open) = (0, BTreeMap::<Number, Instant>::new());
        let mut took = Samples::default();
        loop {
            let more = (count - begun).min(at_once - open.len());
            begun += more;
            let now = Instant::now();
            let asked: Vec<_> = (0..more).map(|_| self.handle.submit(self.order())).collect();
            for reply in join_all(asked).await {
                let Reply::Payment { payment } = reply? else { bail!("no payment") };
                open.insert(payment, now);
            }
            if open.is_empty() {
                return Ok(took);
            }
            while !changes.next().await.context("the node has stopped")?.touches(&PAYMENTS) {}
            let s = self.handle.snapshot()?;
            for payment in open.keys().copied().collect::<Vec<_>>() {
                let seen = OnePayment { payment }.run(&s)?.context("a payment")?;
                match seen.state {
                    PayState::Paid => {
                        let began = open.remove(&payment).context("it was under way")?;
                        took.push(began.elapsed());
                    }
                    PayState::Asked | PayState::Offered | PayState::Sent => {}
                    other => bail!("{other:?}: {}", seen.words),
                }
            }
        }
    }

    fn order(&self) -> Command {
        let lines = vec![(self.poster.clone(), 1)];
        let ask = Ask::Order { lines, note: String::new(), up_to: Some(PRICE), number: None };
        Command::Pay(ask)
    }

    /// Waits until it has heard all of its balance that the merchant has to say.
    async fn settled(&self, left: u64) -> Result<()> {
        until(&self.handle, "the balance", |s| {
            let balance = Balances {}.run(s)?.pop().and_then(|b| b.minor);
            // What is set aside and not spent is its own, too.
            let lanes: Vec<(Vec<u8>, ChannelOut)> =
                s.scan_typed(&CHANNELS_OUT, &KeyRange::all(), false, usize::MAX)?;
            let open = lanes.iter().filter(|(_, row)| row.state == ChannelState::Open);
            let room: u64 = open.filter_map(|(_, row)| Some(row.lane.as_ref()?.room())).sum();
            let all = balance.map(|free| free + room);
            Ok((all == Some(left) && s.first(&OUT, b"")?.is_none()).then_some(()))
        })
        .await
    }
}

async fn run() -> Result<()> {
    let mut report = Report::new("pay");
    let dir = folder()?;
    let at = |name: String| dir.path().join(name);
    let payers = count(10, 2);
    // All of them are under way at the same time.
    let (each, alone, rounds) = (count(500, 20), count(200, 10), 3);
    note("starting");
    let nodes: Vec<Node> =
        (0..payers).map(|n| start(&at(format!("payer-{n}")))).collect::<Result<_>>()?;
    let mut accounts = Vec::new();
    for node in &nodes {
        create(node.handle(), "Payer").await?;
        accounts.push(node.handle().status().account.context("an account")?);
    }
    let paid_in = PRICE * (alone + rounds * each + 10) as u64;
    let shop = at("shop".to_owned());
    let (merchant, poster) = tokio::task::spawn_blocking({
        let shop = shop.clone();
        move || Merchant::start(&shop, &accounts, paid_in)
    })
    .await??;
    let payer = |node: &Node| Payer { handle: node.handle().clone(), poster: poster.clone() };
    let people: Vec<Payer> = nodes.iter().map(payer).collect();
    let mut left = vec![paid_in; payers];
    let mut pays = |n: usize, times: usize| {
        left[n] -= PRICE * times as u64;
        left[n]
    };
    for (n, person) in people.iter().enumerate() {
        person.buy(2, 1).await?;
        person.settled(pays(n, 2)).await?;
    }

    note("one at a time");
    let single = people[0].buy(alone, 1).await?;
    people[0].settled(pays(0, alone)).await?;

    note("many in flight, and the floor, in turn");
    let stored = fs::metadata(shop.join(FILE))?.len();
    let (mut floor, mut ours, mut used) = (Vec::new(), Vec::new(), Vec::new());
    let mut took = Samples::default();
    let all = payers * each;
    for _ in 0..rounds {
        let (folder, at_once) = (dir.path().to_owned(), payers * IN_FLIGHT);
        let run =
            tokio::task::spawn_blocking(move || floors::pay::run(&folder, all, payers, at_once));
        floor.push(all as f64 / run.await??.as_secs_f64());
        let (began, processor) = (Instant::now(), merchant.processor()?);
        for bought in join_all(people.iter().map(|p| p.buy(each, IN_FLIGHT))).await {
            took.extend(bought?);
        }
        ours.push(all as f64 / began.elapsed().as_secs_f64());
        for (n, person) in people.iter().enumerate() {
            person.settled(pays(n, each)).await?;
        }
        used.push(
            merchant.processor()?.checked_sub(processor).context("time goes on")?.as_secs_f64()
                / all as f64,
        );
    }
    ensure!(took.len() == rounds * all, "not all was paid");
    let (floor, ours, used) = (median(floor), median(ours), median(used));
    report.figure("payers", payers as f64);
    report.figure("payments", (rounds * all) as f64);
    report.figure("single_p50_ms", single.p50_ms());
    report.figure("single_p99_ms", single.p99_ms());
    report.figure("payments_per_s", ours);
    report.figure("in_flight_p50_ms", took.p50_ms());
    report.figure("in_flight_p99_ms", took.p99_ms());
    report.figure("floor_payments_per_s", floor);
    report.reach("ratio", ours / floor, Reach::AtLeast(0.5));
    report.figure("merchant_processor_us_per_payment", used * 1e6);
    report.figure("merchant_alone_payments_per_s", 1.0 / used);
    report.figure("ratio_merchant_alone", 1.0 / used / floor);
    let grown =
        fs::metadata(shop.join(FILE))?.len().checked_sub(stored).context("it only grows")?;
    report.figure("stored_bytes_per_payment", grown as f64 / (rounds * all) as f64);
    report.print();
    drop(merchant);
    for node in nodes {
        stop(node).await?;
    }
    Ok(())
}
