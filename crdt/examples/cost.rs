//! What a change costs, in microseconds and bytes: `cargo run -p teahouse-crdt --release
//! --example cost`. One message entry per change, 20 devices, segments of 2,000 changes.

#![allow(clippy::cast_precision_loss, reason = "figures for people")]

use std::error::Error;
use std::time::Instant;

use teahouse_crdt::chat::Message;
use teahouse_crdt::{
    Actor, ChatEntry, Document, Inspected, OwnChain, SegmentRef, TypedEntry, inspect,
};

const SEGMENTS: u32 = 10;
const DEVICES: u8 = 20;
const PER_DEVICE: u64 = 100;

/// Bytes that don't compress, as the hash of a sealed body doesn't.
fn body(seed: u64) -> [u8; 32] {
    let mut state = seed;
    core::array::from_fn(|_| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let changes = f64::from(SEGMENTS) * f64::from(DEVICES) * PER_DEVICE as f64;
    let mut written = Vec::new();
    let start = Instant::now();
    for number in 0..SEGMENTS {
        let segment = SegmentRef { topic: [1; 32], number };
        for device in 0..DEVICES {
            let actor = Actor([device; 16]);
            let mut own = OwnChain::new(segment, actor);
            for i in 0..PER_DEVICE {
                let seq = u64::from(number) * PER_DEVICE + i;
                let message = ChatEntry::Message(Message {
                    body: body(seq * 256 + u64::from(device)),
                    reply_to: None,
                    mentions: Vec::new(),
                    forwarded: false,
                    expires_after: None,
                });
                written.push((segment, actor, own.append(&[message.to_entry(seq)?])?));
            }
        }
    }
    let report = |what: &str, start: Instant| {
        let micros = start.elapsed().as_secs_f64() * 1e6;
        println!("{what:<24}{:>8.2} µs a change", micros / changes);
    };
    report("append", start);
    let bytes: usize = written.iter().map(|(_, _, b)| b.len()).sum();
    println!("{:<24}{:>8.0} bytes a change", "size", bytes as f64 / changes);

    let start = Instant::now();
    let inspected: Vec<Inspected> = written
        .iter()
        .map(|(segment, actor, bytes)| inspect(bytes, *segment, *actor))
        .collect::<Result<_, _>>()?;
    report("inspect", start);

    let mut docs = Vec::new();
    let start = Instant::now();
    for batch in inspected.chunks(usize::from(DEVICES) * PER_DEVICE as usize) {
        let mut doc = Document::new(batch[0].segment());
        doc.apply(batch.iter().cloned())?;
        docs.push(doc);
    }
    report("apply, one batch", start);
    let start = Instant::now();
    for batch in inspected.chunks(usize::from(DEVICES) * PER_DEVICE as usize) {
        let mut doc = Document::new(batch[0].segment());
        for part in batch.chunks(256) {
            doc.apply(part.iter().cloned())?;
        }
    }
    report("apply, batches of 256", start);
    let mut last = docs.first().cloned().ok_or("no documents")?;
    let first = inspected.first().ok_or("no changes")?;
    let mut own = OwnChain::resume_at(first.segment(), first.actor(), last.tip(first.actor()));
    let start = Instant::now();
    for i in 0..100u64 {
        let entry = ChatEntry::Title { text: "Tea".into(), lamport: i };
        let bytes = own.append(&[entry.to_entry(0)?])?;
        last.apply([inspect(&bytes, first.segment(), first.actor())?])?;
    }
    println!(
        "{:<24}{:>8.2} µs a change",
        "apply one to 2,000",
        start.elapsed().as_secs_f64() * 1e6 / 100.0
    );

    let start = Instant::now();
    let saved: Vec<_> = docs.iter().map(Document::save).collect();
    report("save", start);
    let stored: usize = saved.iter().map(Vec::len).sum();
    println!("{:<24}{:>8.0} bytes a change", "saved", stored as f64 / changes);
    let start = Instant::now();
    for (doc, bytes) in docs.iter().zip(&saved) {
        Document::load(doc.segment(), bytes)?;
    }
    report("load", start);
    let start = Instant::now();
    let entries: usize = docs.iter().map(|d| d.entries().count()).sum();
    report("entries", start);
    println!("{:<24}{entries:>8}", "entries read");

    // The worst a device can do with honest changes: one key, again and again.
    let segment = SegmentRef { topic: [2; 32], number: 0 };
    let actor = Actor([1; 16]);
    let mut own = OwnChain::new(segment, actor);
    let mut doc = Document::new(segment);
    let start = Instant::now();
    for _ in 0..20 {
        let mut batch = Vec::new();
        for i in 0..100 {
            let title = ChatEntry::Title { text: "Tea".into(), lamport: i };
            batch.push(inspect(&own.append(&[title.to_entry(0)?])?, segment, actor)?);
        }
        doc.apply(batch)?;
    }
    let read = doc.entries().count();
    println!(
        "{:<24}{:>8.2} µs a change ({read} entry)",
        "one key 2,000 times",
        start.elapsed().as_secs_f64() * 1e6 / 2_000.0
    );
    Ok(())
}
