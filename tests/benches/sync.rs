//! Catching up with 100,000 messages: between two cores with frames handed over, and between
//! real nodes over QUIC on loopback, where a person goes on writing meanwhile; memory; and how
//! long a node with so many messages takes to start.
//!
//! The floor is one loop that verifies, opens, applies and commits as many messages.
//! `--big` adds a start with 1,000,000 messages.

#![allow(clippy::cast_precision_loss, reason = "figures for people")]

mod common;
mod floors;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command as Process, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use common::cores::{self, Side};
use common::people::{group, send, start, stop, until};
use common::{Reach, Report, Samples, count, folder, median, memory_mb, note, text};
use floors::catch_up::Data;
use serde_json::{Value, json};
use teahouse_core::command::{Command, Devices, Reply};
use teahouse_core::store::FILE;
use teahouse_core::{query, view};
use teahouse_protocols::ids::TopicId;
use tokio::time::sleep;

/// Says which part a child process plays.
const PART: &str = "TEAHOUSE_BENCH_PART";
/// Its data folder.
const FOLDER: &str = "TEAHOUSE_BENCH_FOLDER";

fn main() -> Result<()> {
    match std::env::var(PART).ok().as_deref() {
        None => {
            let dir = folder()?;
            parent(dir.path())
        }
        Some(part) => {
            let dir = PathBuf::from(std::env::var_os(FOLDER).context("a folder")?);
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            let told = runtime.block_on(async {
                match part {
                    "receiver" => receiver(&dir).await,
                    "start" => first_query(&dir).await,
                    other => bail!("no such part: {other}"),
                }
            })?;
            println!("{told}");
            Ok(())
        }
    }
}

fn parent(dir: &Path) -> Result<()> {
    let mut report = Report::new("sync");
    let messages = count(100_000, 2_000);
    report.figure("messages", messages as f64);

    let at = |name: &str| dir.join(name);
    let mut writer = Side::open(&at("writer"))?;
    let create = Devices::Create { name: "Ann".into(), device_name: "desk".into() };
    writer.ask(Command::Devices(create))?;
    let Reply::Topic { topic } = writer.ask(group("tea"))? else { bail!("no topic") };
    writer.ask(group("notes"))?;

    // Linked while there is nothing yet, and away while everything is written.
    let mut away = Side::open(&at("away"))?;
    cores::link(&mut writer, &mut away)?;
    cores::settle(&mut writer, &mut away, topic)?;
    cores::disconnect(&mut writer, &away)?;
    drop(away);

    note("writing");
    let began = Instant::now();
    write(&mut writer, topic, 0, messages)?;
    report.figure("write_msgs_per_s", messages as f64 / began.elapsed().as_secs_f64());
    let bytes = fs::metadata(at("writer").join(FILE))?.len();
    report.figure("stored_bytes_per_msg", bytes as f64 / messages as f64);
    let data = Data::new(messages, text)?;
    report.figure("floor_bytes_per_msg", data.bytes_each() as f64);

    note("floor and cores, in turn");
    let per_s = |took: Duration| messages as f64 / took.as_secs_f64();
    let mut floor = Vec::new();
    let [mut both, mut receiving, mut fresh] = [const { Vec::new() }; 3];
    for round in 0..count(3, 2) {
        floor.push(per_s(data.run(dir)?));

        let folder = at(&format!("away-{round}"));
        copy(&at("away"), &folder)?;
        let mut reader = Side::open(&folder)?;
        reader.spent = Duration::ZERO;
        let began = Instant::now();
        cores::connect(&mut writer, &mut reader);
        cores::talk(&mut writer, &mut reader)?;
        both.push(per_s(began.elapsed()));
        receiving.push(per_s(reader.spent));
        note(&format!(
            "caught up: {:.0}/s, the floor {:.0}/s; {} steps",
            both[round], floor[round], reader.steps
        ));
        let (held, all) = (reader.held(topic)?, writer.held(topic)?);
        ensure!(held == all, "{held} of {all} envelopes came");
        ensure!(round > 0 || cores::same(&writer, &reader, topic)?, "the two differ");
        cores::disconnect(&mut writer, &reader)?;
        drop(reader);
        fs::remove_dir_all(folder)?;

        let folder = at(&format!("fresh-{round}"));
        let mut reader = Side::open(&folder)?;
        cores::link(&mut writer, &mut reader)?;
        let began = Instant::now();
        cores::settle(&mut writer, &mut reader, topic)?;
        fresh.push(per_s(began.elapsed()));
        note(&format!("linked afresh: {:.0}/s", fresh[round]));
        ensure!(round > 0 || cores::same(&writer, &reader, topic)?, "the two differ");
        cores::disconnect(&mut writer, &reader)?;
        drop(reader);
        fs::remove_dir_all(folder)?;
    }
    drop(data);
    let floor = median(floor);
    report.figure("floor_msgs_per_s", floor);
    report.figure("cores_msgs_per_s", median(both.clone()));
    report.figure("cores_receiver_alone_msgs_per_s", median(receiving));
    report.figure("cores_fresh_device_msgs_per_s", median(fresh));
    report.reach("ratio", median(both) / floor, Reach::AtLeast(0.5));
    drop(writer);

    note("real nodes, commands meanwhile");
    let receiver = real_nodes(dir, topic, messages)?;
    let number = |key: &str| receiver[key].as_f64().unwrap_or(f64::NAN);
    report.figure("nodes_fresh_device_msgs_per_s", messages as f64 / number("seconds"));
    report.reach("ratio_nodes", messages as f64 / number("seconds") / floor, Reach::AtLeast(0.5));
    report.figure("nodes_first_message_s", number("first_s"));
    report.reach("receiver_memory_peak_mb", number("memory_peak_mb"), Reach::AtMost(150.0));
    report.figure("commands_meanwhile", number("commands"));
    report.figure("command_p50_ms", number("command_p50_ms"));
    report.reach("command_p99_ms", number("command_p99_ms"), Reach::AtMost(50.0));

    note("starting");
    let started = starts(&at("receiver"), dir)?;
    report.reach("start_to_first_query_ms", started.0, Reach::AtMost(1_000.0));
    report.reach("started_memory_mb", started.1, Reach::AtMost(150.0));
    if std::env::args().any(|a| a == "--big") {
        note("writing up to 1,000,000 messages");
        let mut writer = Side::open(&at("writer"))?;
        write(&mut writer, topic, messages, 1_000_000 - messages)?;
        // Copied while it is open: what a kill would leave.
        let started = starts(&at("writer"), dir)?;
        report.reach("big_start_to_first_query_ms", started.0, Reach::AtMost(1_000.0));
        report.figure("big_started_memory_mb", started.1);
    }
    report.print();
    Ok(())
}

/// Writes messages in batches, as a flood of commands would.
fn write(writer: &mut Side, topic: TopicId, first: usize, count: usize) -> Result<()> {
    let numbers: Vec<usize> = (first..first + count).collect();
    for batch in numbers.chunks(192) {
        let commands = batch.iter().map(|n| send(topic, text(*n))).collect();
        writer.ask_all(commands)?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    fs::copy(from.join(FILE), to.join(FILE))?;
    // On the disk, like what was copied: else the first commit on it writes all of it out.
    fs::File::open(to.join(FILE))?.sync_all()?;
    Ok(())
}

/// This bench again, in a process of its own.
fn child(part: &str, dir: &Path) -> Result<(Child, BufReader<ChildStdout>)> {
    let mut child = Process::new(std::env::current_exe()?)
        .env(PART, part)
        .env(FOLDER, dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let out = child.stdout.take().context("its output")?;
    Ok((child, BufReader::new(out)))
}

fn line(from: &mut impl BufRead) -> Result<Value> {
    let mut line = String::new();
    ensure!(from.read_line(&mut line)? > 0, "the process has ended");
    Ok(serde_json::from_str(&line)?)
}

/// A node here, and a fresh device of the same account in a process of its own.
fn real_nodes(dir: &Path, topic: TopicId, messages: usize) -> Result<Value> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let node = start(&dir.join("writer"))?;
        let handle = node.handle();
        common::people::listening(handle).await?;
        let held = handle.query(|s| cores::held(s, topic))?;
        let (mut process, mut out) = child("receiver", &dir.join("receiver"))?;
        // The address is known to the core a moment after it is to the status.
        sleep(Duration::from_millis(300)).await;
        let Reply::Code { link } = handle.submit(Command::Devices(Devices::LinkStart)).await?
        else {
            bail!("no code")
        };
        let told = json!({ "code": link, "topic": topic, "held": held, "messages": messages });
        let mut input = process.stdin.take().context("its input")?;
        writeln!(input, "{told}")?;
        until(handle, "digits", |s| {
            let linking = query::linking(s)?;
            Ok(matches!(linking, view::Linking::Compare { .. }).then_some(()))
        })
        .await?;
        handle.submit(Command::Devices(Devices::LinkConfirm)).await?;
        let told = tokio::task::spawn_blocking(move || line(&mut out)).await??;
        // As a power cut would: it has no chance to close its database.
        process.kill()?;
        process.wait()?;
        stop(node).await?;
        Ok(told)
    })
}

/// In a process of its own: joins an account, takes everything over, writes meanwhile.
async fn receiver(dir: &Path) -> Result<Value> {
    let mut told = String::new();
    std::io::stdin().read_line(&mut told)?;
    let told: Value = serde_json::from_str(&told)?;
    let topic: TopicId = serde_json::from_value(told["topic"].clone())?;
    let held = told["held"].as_u64().context("held")?;
    let code = told["code"].as_str().context("a code")?.to_owned();
    let node = start(dir)?;
    let handle = node.handle().clone();
    let join = Devices::LinkJoin { code, device_name: "second".into() };
    handle.submit(Command::Devices(join)).await?;
    until(&handle, "an account", |s| Ok(query::identity(s)?.account)).await?;
    let began = Instant::now();

    let writing = tokio::spawn({
        let handle = handle.clone();
        async move {
            let notes = until(&handle, "the notes", |s| {
                Ok(query::chats(s)?.into_iter().find(|c| c.title == "notes"))
            })
            .await?;
            let mut samples = Samples::default();
            loop {
                if handle.query(|s| cores::held(s, topic))? >= held {
                    return anyhow::Ok(samples);
                }
                let began = Instant::now();
                handle.submit(send(notes.topic, text(samples.len()))).await?;
                samples.push(began.elapsed());
                sleep(Duration::from_millis(20)).await;
            }
        }
    });
    until(&handle, "a message", |s| Ok(query::messages(s, topic, None, 1)?.pop())).await?;
    let first = began.elapsed();
    until(&handle, "everything", |s| Ok((cores::held(s, topic)? >= held).then_some(()))).await?;
    let seconds = began.elapsed().as_secs_f64();
    let samples = writing.await??;
    let messages = told["messages"].as_u64().context("messages")?;
    let shown = handle.query(|s| query::messages(s, topic, None, 10_000))?.len() as u64;
    ensure!(shown == messages.min(10_000), "{shown} messages show");
    let told = json!({
        "seconds": seconds,
        "first_s": first.as_secs_f64(),
        "memory_peak_mb": memory_mb("self", "VmHWM")?,
        "commands": samples.len(),
        "command_p50_ms": samples.p50_ms(),
        "command_p99_ms": samples.p99_ms(),
    });
    println!("{told}");
    // Until it is killed.
    sleep(Duration::from_mins(10)).await;
    drop(node);
    Ok(Value::Null)
}

/// Starts a few times on copies: milliseconds from the start of the process to its first
/// answer, and its memory in MiB then.
fn starts(from: &Path, dir: &Path) -> Result<(f64, f64)> {
    let (mut took, mut memory) = (Vec::new(), Vec::new());
    for round in 0..count(5, 2) {
        let folder = dir.join(format!("start-{round}"));
        copy(from, &folder)?;
        let began = Instant::now();
        let (mut process, mut out) = child("start", &folder)?;
        let told = line(&mut out)?;
        took.push(began.elapsed().as_secs_f64() * 1e3);
        memory.push(told["memory_mb"].as_f64().context("memory")?);
        process.wait()?;
        fs::remove_dir_all(folder)?;
    }
    Ok((median(took), median(memory)))
}

/// In a process of its own: starts a node, and asks what a window would ask first.
async fn first_query(dir: &Path) -> Result<Value> {
    let node = start(dir)?;
    let (chats, messages) = node.handle().query(|s| {
        let chats = query::chats(s)?;
        let newest = chats.first().map(|c| query::messages(s, c.topic, None, 50)).transpose()?;
        Ok((chats.len(), newest.map_or(0, |m| m.len())))
    })?;
    ensure!(chats >= 2 && messages > 0, "nothing shows");
    let told = json!({ "memory_mb": memory_mb("self", "VmRSS")? });
    println!("{told}");
    stop(node).await?;
    Ok(Value::Null)
}
