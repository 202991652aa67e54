//! A relay in a process of its own, with 1,000 mailboxes whose owners each hold a connection of
//! their own and wait for mail: deposits a second, how long a fetch and a held fetch take, and
//! the relay's memory.
//!
//! The floor is one loop that verifies and stores as many deposits.

#![allow(clippy::cast_precision_loss, reason = "figures for people")]

mod common;
mod floors;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use common::relay_process::{Invitation, RelayProcess};
use common::{Reach, Report, Samples, count, folder, median, memory_mb, note};
use floors::quic::Caller;
use futures::stream::{self, StreamExt, TryStreamExt};
use teahouse_protocols::codec;
use teahouse_protocols::ids::{RelayId, Tag};
use teahouse_protocols::mailbox::{
    Item, Read, Reply, Request, Right, TagKind, open_proof, read_proof, write_proof,
};
use teahouse_protocols::sign::SigningKey;
use tokio::time::sleep;

/// The mailbox protocol's name on the wire.
const MAIL: &str = "/teahouse/mail/1";
/// Bytes of what is deposited for one message: the sealed envelope and the sealed body.
const SIZES: [usize; 2] = [700, 190];
/// Requests under way at once.
const AT_ONCE: usize = 64;

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run())
}

async fn run() -> Result<()> {
    let mut report = Report::new("relay");
    let dir = folder()?;
    note("starting the relay");
    let path = dir.path().join("relay");
    let relay = tokio::task::spawn_blocking(move || RelayProcess::start(&path)).await??;
    let mailboxes = count(1_000, 40);
    let invitation = tokio::task::block_in_place(|| relay.invite(mailboxes))?;
    report.figure("mailboxes", mailboxes as f64);
    report.figure("relay_memory_empty_mb", memory_mb(&relay.pid(), "VmRSS")?);

    note("opening mailboxes");
    let began = Instant::now();
    let boxes: Vec<Arc<Mailbox>> = stream::iter(0..mailboxes)
        .map(|n| Mailbox::open(n, &invitation))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    report.figure("opened_per_s", mailboxes as f64 / began.elapsed().as_secs_f64());

    note("deposits and floor, in turn");
    let each = count(10, 5);
    let deposits = mailboxes * each;
    let (mut floor, mut ours) = (Vec::new(), Vec::new());
    for round in 0..2 {
        let folder = dir.path().to_owned();
        let took = tokio::task::spawn_blocking(move || {
            floors::deposits::run(&folder, deposits, &SIZES, AT_ONCE)
        });
        floor.push(deposits as f64 / took.await??.as_secs_f64());
        let began = Instant::now();
        stream::iter((0..each).flat_map(|n| boxes.iter().map(move |b| (n, b))))
            .map(|(n, mailbox)| mailbox.deposit(round * each + n))
            .buffer_unordered(AT_ONCE)
            .try_collect::<Vec<_>>()
            .await?;
        ours.push(deposits as f64 / began.elapsed().as_secs_f64());
    }
    let (floor, ours) = (median(floor), median(ours));
    report.figure("deposits_per_s", ours);
    report.figure("floor_deposits_per_s", floor);
    report.figure("ratio", ours / floor);

    note("fetches");
    let mut alone = Samples::default();
    for mailbox in &boxes {
        alone.push(mailbox.fetch(2 * each).await?);
    }
    report.figure("fetch_alone_p50_ms", alone.p50_ms());
    report.figure("fetch_alone_p99_ms", alone.p99_ms());
    report.figure("fetched_messages_each", (2 * each) as f64);
    let began = Instant::now();
    let busy: Vec<Duration> = stream::iter(&boxes)
        .map(|mailbox| mailbox.fetch(2 * each))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    report.figure("fetches_per_s", mailboxes as f64 / began.elapsed().as_secs_f64());
    let mut crowd = Samples::default();
    for took in busy {
        crowd.push(took);
    }
    report.figure("fetch_crowd_p50_ms", crowd.p50_ms());
    report.figure("fetch_crowd_p99_ms", crowd.p99_ms());

    note("everybody waits, mail comes");
    let mut held = Samples::default();
    let waiting: Vec<_> = boxes
        .iter()
        .map(|mailbox| {
            let mailbox = Arc::clone(mailbox);
            tokio::spawn(async move {
                let found = mailbox.wait((2 * each * SIZES.len()) as u64).await?;
                anyhow::Ok((found, Instant::now()))
            })
        })
        .collect();
    sleep(Duration::from_millis(count(1_500, 300) as u64)).await;
    report.figure("relay_memory_all_waiting_mb", memory_mb(&relay.pid(), "VmRSS")?);
    let mut sent = Vec::new();
    for mailbox in &boxes {
        sent.push(Instant::now());
        mailbox.deposit(3 * each).await?;
        sleep(Duration::from_millis(2)).await;
    }
    for (waiter, sent) in waiting.into_iter().zip(sent) {
        let (found, came) = waiter.await??;
        ensure!(found > 0, "a wait ended without mail");
        held.push(came - sent);
    }
    report.figure("deposit_to_waiting_owner_p50_ms", held.p50_ms());
    report.figure("deposit_to_waiting_owner_p99_ms", held.p99_ms());
    let peak = memory_mb(&relay.pid(), "VmHWM")?;
    report.reach("relay_memory_peak_mb", peak, Reach::AtMost(512.0));
    let stored = common::folder_bytes(&dir.path().join("relay"))?;
    let content = (mailboxes * (2 * each + 1) * SIZES.iter().sum::<usize>()) as f64;
    report.figure("relay_disk_bytes_per_content_byte", stored as f64 / content);
    report.print();
    Ok(())
}

/// Somebody's mailbox and their connection.
struct Mailbox {
    caller: Caller,
    relay: RelayId,
    key: SigningKey,
    tag: Tag,
    challenge: [u8; 32],
}

impl Mailbox {
    /// Connects, is admitted and opens a tag.
    async fn open(number: usize, to: &Invitation) -> Result<Arc<Self>> {
        let caller = Caller::new(MAIL, to.peer, to.addr.clone())?;
        let key = SigningKey::from_bytes(blake3::hash(&number.to_le_bytes()).as_bytes());
        let tag = Tag(key.verifying_key().to_bytes());
        let mut mailbox = Self { caller, relay: to.relay, key, tag, challenge: [0; 32] };
        let Reply::Hello { challenge, .. } = mailbox.ask(Request::Hello).await? else {
            bail!("no challenge")
        };
        mailbox.challenge = challenge;
        let Reply::Tokens(tokens) = mailbox.ask(Request::Admit { code: to.code }).await? else {
            bail!("not admitted")
        };
        let (kind, token) = (TagKind::Topic, *tokens.first().context("a token")?);
        let proof = open_proof(&mailbox.key, to.relay, &kind);
        let opened = mailbox.ask(Request::Open { tag, kind, token, proof }).await?;
        ensure!(matches!(opened, Reply::Opened { .. }), "not opened: {opened:?}");
        Ok(Arc::new(mailbox))
    }

    async fn ask(&self, request: Request) -> Result<Reply> {
        let reply = self.caller.ask(codec::encode(&request)).await?;
        match codec::decode(&reply)? {
            Reply::Refused(why) => bail!("{why}"),
            reply => Ok(reply),
        }
    }

    /// Leaves one message.
    async fn deposit(&self, number: usize) -> Result<()> {
        let mut items = Vec::new();
        for (part, size) in SIZES.into_iter().enumerate() {
            let mut bytes = vec![0; size];
            let name = [number.to_le_bytes(), part.to_le_bytes()].concat();
            blake3::Hasher::new_keyed(&self.tag.0).update(&name).finalize_xof().fill(&mut bytes);
            items.push(Item { bytes: bytes.try_into()?, delete: None });
        }
        let right = Right::Member(write_proof(&self.key, self.relay, &items));
        let deposit = Request::Deposit { tag: self.tag, items: items.try_into()?, right };
        let reply = self.ask(deposit).await?;
        ensure!(matches!(reply, Reply::Deposited { .. }), "not deposited: {reply:?}");
        Ok(())
    }

    async fn read(&self, after: u64, wait: bool) -> Result<usize> {
        let proof = read_proof(&self.key, self.relay, &self.challenge);
        let reads = vec![Read { tag: self.tag, after, proof }].try_into()?;
        let Reply::Items { items, .. } = self.ask(Request::Fetch { reads, wait }).await? else {
            bail!("no items")
        };
        Ok(items.len())
    }

    /// Fetches all there is.
    async fn fetch(&self, messages: usize) -> Result<Duration> {
        let began = Instant::now();
        let found = self.read(0, false).await?;
        ensure!(found == messages * SIZES.len(), "{found} items of {messages} messages");
        Ok(began.elapsed())
    }

    /// Waits for what comes.
    async fn wait(&self, after: u64) -> Result<usize> {
        self.read(after, true).await
    }
}
