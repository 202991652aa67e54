//! A live message between two real nodes, over QUIC on loopback, durable on both: how long
//! until it shows at the other side, how many a second, and how fast 5,000 missed ones come.
//!
//! The floor is two bare redb commits, one after the other, and a QUIC round trip; floor and
//! message take turns.

#![allow(clippy::cast_precision_loss, reason = "figures for people")]

mod common;
mod floors;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use common::people::{
    befriend, create, met, newest, relay, send, shown, start, stop, until, use_relay,
};
use common::{Reach, Report, Samples, count, folder, note, text};
use floors::live::Floor;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use teahouse_core::store::ChangeSet;
use teahouse_core::{query, tables};
use teahouse_node::Handle;
use teahouse_node::handle::Subscription;
use teahouse_protocols::ids::TopicId;
use tokio::time::sleep;

/// Messages under way when many are sent at once.
const IN_FLIGHT: usize = 8;
/// Long enough for acknowledgements, so that floor and message don't disturb each other.
const PAUSE: Duration = Duration::from_millis(40);

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run())
}

async fn run() -> Result<()> {
    let mut report = Report::new("latency");
    let dir = folder()?;
    let at = |name: &str| dir.path().join(name);
    let (relay, invite) = relay(&at("relay")).await?;
    let (a, b) = (start(&at("a"))?, start(&at("b"))?);
    for (node, name) in [(&a, "Ann"), (&b, "Bob")] {
        create(node.handle(), name).await?;
        use_relay(node.handle(), &invite).await?;
    }
    note("making friends");
    let topic = befriend(a.handle(), b.handle()).await?;
    // Settled: prekeys, cursors and tags have been exchanged.
    sleep(Duration::from_secs(3)).await;

    let mut sent = 0;
    let (a_handle, b_handle) = (a.handle().clone(), b.handle().clone());
    let mut both = Both { a: a_handle, b: b_handle.clone(), changes: b_handle.changes(), topic };

    note("single messages");
    let mut floor = Floor::new(dir.path()).await?;
    let (mut shown, mut durable) = (Samples::default(), Samples::default());
    let [mut floors, mut commits, mut round_trips] = [(); 3].map(|()| Samples::default());
    let warm = count(20, 3);
    for lap in 0..warm + count(300, 30) {
        let ours = both.one(sent).await?;
        sent += 1;
        sleep(PAUSE).await;
        let bare = floor.lap().await?;
        sleep(PAUSE).await;
        if lap >= warm {
            durable.push(ours.0);
            shown.push(ours.1);
            floors.push(bare.all);
            commits.push(bare.commit);
            round_trips.push(bare.round_trip);
        }
    }
    report.figure("single_p50_ms", shown.p50_ms());
    report.figure("single_p99_ms", shown.p99_ms());
    report.figure("durable_here_p50_ms", durable.p50_ms());
    report.figure("floor_p50_ms", floors.p50_ms());
    report.figure("floor_p99_ms", floors.p99_ms());
    report.figure("floor_one_commit_p50_ms", commits.p50_ms());
    report.figure("floor_round_trip_p50_ms", round_trips.p50_ms());
    report.reach("ratio", shown.p50_ms() / floors.p50_ms(), Reach::AtMost(2.0));

    note("many in flight");
    let many = count(4_000, 200);
    let took = both.many(sent, many).await?;
    sent += many;
    report.figure("in_flight_8_msgs_per_s", many as f64 / took.as_secs_f64());
    drop(both);

    let missed = count(5_000, 200);
    report.figure("missed_messages", missed as f64);

    note("missed messages, directly");
    // A relay that drains still introduces people to each other but keeps nothing for them.
    relay.handle().drain(true).await?;
    stop(b).await?;
    write(a.handle(), topic, sent, missed).await?;
    sent += missed;
    sleep(Duration::from_secs(1)).await;
    let began = Instant::now();
    let b = start(&at("b"))?;
    let first = sent - missed;
    let caught = catch_up(b.handle(), topic, first, sent - 1).await?;
    report.figure("missed_direct_from_start_s", (caught.1 - began).as_secs_f64());
    report.figure("missed_direct_from_first_s", (caught.1 - caught.0).as_secs_f64());
    met(a.handle(), b.handle()).await?;

    note("missed messages, through the relay");
    relay.handle().drain(false).await?;
    stop(b).await?;
    write(a.handle(), topic, sent, missed).await?;
    sent += missed;
    until(a.handle(), "all deposited", |s| {
        let newest = query::messages(s, topic, None, 1)?.pop();
        Ok(newest.and_then(|m| m.delivery).filter(|d| d.relayed > 0))
    })
    .await?;
    stop(a).await?;
    let began = Instant::now();
    let b = start(&at("b"))?;
    let first = sent - missed;
    let caught = catch_up(b.handle(), topic, first, sent - 1).await?;
    report.figure("missed_relay_from_start_s", (caught.1 - began).as_secs_f64());
    report.figure("missed_relay_from_first_s", (caught.1 - caught.0).as_secs_f64());
    stop(b).await?;
    report.print();
    Ok(())
}

/// Two friends: one writes, one watches.
struct Both {
    a: Handle,
    b: Handle,
    changes: Subscription,
    topic: TopicId,
}

impl Both {
    /// Sends one message: until the reply says that it is durable here, and until the other
    /// side's query shows it.
    async fn one(&mut self, number: usize) -> Result<(Duration, Duration)> {
        let began = Instant::now();
        let reply = self.a.submit(send(self.topic, text(number)));
        let reply = tokio::spawn(async move {
            reply.await?;
            anyhow::Ok(began.elapsed())
        });
        loop {
            self.change().await?;
            if self.b.query(|s| newest(s, self.topic))? == Some(number) {
                break;
            }
        }
        let shown = began.elapsed();
        Ok((reply.await??, shown))
    }

    /// Sends messages, a few at a time in flight, until all show at the other side.
    async fn many(&mut self, first: usize, count: usize) -> Result<Duration> {
        let began = Instant::now();
        let (mut sent, mut seen) = (0, 0);
        let mut replies = FuturesUnordered::new();
        while seen < count {
            while sent < count && sent - seen < IN_FLIGHT {
                replies.push(self.a.submit(send(self.topic, text(first + sent))));
                sent += 1;
            }
            tokio::select! {
                Some(reply) = replies.next() => { reply?; }
                touched = change(&mut self.changes, self.topic) => {
                    touched?;
                    let newest = self.b.query(|s| {
                        let newest = query::messages(s, self.topic, None, 2 * IN_FLIGHT)?;
                        // Messages of one millisecond are shown by their names' order.
                        Ok(newest.iter().filter_map(shown).max())
                    })?;
                    seen = newest.map_or(0, |n| (n + 1).saturating_sub(first));
                }
            }
        }
        Ok(began.elapsed())
    }

    async fn change(&mut self) -> Result<()> {
        change(&mut self.changes, self.topic).await
    }
}

/// Waits for a change of the chat's messages.
async fn change(changes: &mut Subscription, topic: TopicId) -> Result<()> {
    let touches = |c: &ChangeSet| c.touches_prefix(&tables::MESSAGES, &topic.0);
    while !touches(&*changes.next().await.context("the node has stopped")?) {}
    Ok(())
}

/// Writes messages while the other side is away.
async fn write(a: &Handle, topic: TopicId, first: usize, count: usize) -> Result<()> {
    let mut replies = FuturesUnordered::new();
    for number in first..first + count {
        while replies.len() >= 64 {
            replies.next().await.context("a reply")??;
        }
        replies.push(a.submit(send(topic, text(number))));
    }
    while let Some(reply) = replies.next().await {
        reply?;
    }
    Ok(())
}

/// Waits until the first and the last missed message show.
async fn catch_up(
    b: &Handle,
    topic: TopicId,
    first: usize,
    last: usize,
) -> Result<(Instant, Instant)> {
    until(b, "a missed message", |s| Ok(newest(s, topic)?.filter(|n| *n >= first))).await?;
    let began = Instant::now();
    until(b, "all missed messages", |s| {
        // Nothing is acknowledged out of order: with the last, all are there.
        let newest = query::messages(s, topic, None, 16)?;
        Ok(newest.iter().any(|m| shown(m) == Some(last)).then_some(()))
    })
    .await?;
    let count = last + 1 - first;
    let done = Instant::now();
    let there = b.query(|s| query::messages(s, topic, None, count))?;
    let numbers: std::collections::BTreeSet<_> = there.iter().filter_map(shown).collect();
    anyhow::ensure!((first..=last).all(|n| numbers.contains(&n)), "messages are missing");
    Ok((began, done))
}
