//! The log's rows: stored envelopes, their chains, tips, segments and bodies, and the letters
//! in which they travel.

use teahouse_crdt::segment::Actor;
use teahouse_protocols::codec;
use teahouse_protocols::envelope::{Envelope, Header, MAX_BODIES};
use teahouse_protocols::ids::{DeviceId, EnvelopeId, EpochId, Millis, TopicId};
use teahouse_protocols::inbox::Letter;

use crate::engine::inbox;
use crate::store::{Key, KeyRange, Read, ReadExt, StorageError};
use crate::tables::{
    BODIES, CHAINS, Chain, LOG, LogRow, MISSING_BODIES, SEGMENTS, Segment, Status, body_key,
    chain_key, log_key, pair_key,
};
use crate::tx::{Tx, capped};

/// Most letters of one inbox message.
pub(crate) const MAX_RUN: usize = 64;
/// A chain of which nothing is held.
pub(super) const FRESH: Chain =
    Chain { low: 1, high: 0, head: EnvelopeId([0; 32]), segment: 0, loose: false };

/// A stored envelope.
pub(crate) fn log_row(
    read: &dyn Read,
    topic: TopicId,
    device: DeviceId,
    seq: u64,
) -> Result<Option<LogRow>, StorageError> {
    let Some(bytes) = read.get(&LOG, &log_key(topic, device, seq))? else { return Ok(None) };
    LogRow::from_bytes(&bytes).map(Some).ok_or_else(|| StorageError::corrupt(LOG.name, "row"))
}

/// A stored envelope with its bodies, as it travels.
pub(crate) fn letter(
    read: &dyn Read,
    topic: TopicId,
    device: DeviceId,
    seq: u64,
) -> Result<Option<Letter>, StorageError> {
    let Some(row) = log_row(read, topic, device, seq)? else { return Ok(None) };
    let prefix = Key::new().fixed(&topic.0).fixed(&device.0).u64(seq).into_bytes();
    let bodies = read.scan(&BODIES, &KeyRange::prefix(&prefix), false, MAX_BODIES)?;
    let Ok(envelope) = codec::Bytes::try_from(row.envelope) else { return Ok(None) };
    let bodies: Vec<_> = bodies
        .into_iter()
        .filter(|(_, b)| !b.is_empty())
        .filter_map(|(_, b)| codec::Bytes::try_from(b).ok())
        .collect();
    Ok(Some(Letter { envelope, bodies: capped(bodies) }))
}

/// Bytes of an envelope and the bodies with it.
pub(crate) fn size(letter: &Letter) -> usize {
    letter.envelope.len() + letter.bodies.iter().map(|b| b.len()).sum::<usize>()
}

/// Letters of a chain from `first` to `last` at most, as many as fit one inbox message.
pub(crate) fn run(
    read: &dyn Read,
    topic: TopicId,
    device: DeviceId,
    first: u64,
    last: u64,
) -> Result<Vec<Letter>, StorageError> {
    fitting(read, topic, device, first..=last)
}

/// The newest envelopes of a run that fit into one inbox message, oldest first.
pub(crate) fn newest(
    read: &dyn Read,
    topic: TopicId,
    device: DeviceId,
    first: u64,
    last: u64,
) -> Result<Vec<Letter>, StorageError> {
    let mut out = fitting(read, topic, device, (first..=last).rev())?;
    out.reverse();
    Ok(out)
}

/// Letters of a chain in the order of `seqs`, up to the first that is not here or has no more
/// room in one inbox message. The first always has.
fn fitting(
    read: &dyn Read,
    topic: TopicId,
    device: DeviceId,
    seqs: impl Iterator<Item = u64>,
) -> Result<Vec<Letter>, StorageError> {
    let mut out: Vec<Letter> = Vec::new();
    let mut bytes = 0;
    for seq in seqs {
        let Some(letter) = letter(read, topic, device, seq)? else { break };
        bytes += size(&letter);
        if !out.is_empty() && (bytes > inbox::LETTER_BYTES || out.len() >= MAX_RUN) {
            break;
        }
        out.push(letter);
    }
    Ok(out)
}

/// The actor of a device in a segment: fresh per device, topic and segment.
pub(super) fn actor(topic: TopicId, device: DeviceId, segment: u32) -> Actor {
    let mut h = blake3::Hasher::new_derive_key("teahouse/v1/actor");
    h.update(&topic.0);
    h.update(&device.0);
    h.update(&segment.to_le_bytes());
    let mut out = [0; 16];
    out.copy_from_slice(&h.finalize().as_bytes()[..16]);
    Actor(out)
}

pub(super) fn advance(
    tx: &mut Tx<'_>,
    chain: &mut Chain,
    envelope: &Envelope,
    segment: Option<u32>,
) -> Result<(), StorageError> {
    chain.high = envelope.seq;
    chain.head = envelope.id();
    if let Some(segment) = segment {
        chain.segment = segment;
    }
    tx.put(&CHAINS, &chain_key(envelope.topic, envelope.device), chain)
}

pub(super) fn store(
    tx: &mut Tx<'_>,
    envelope: &Envelope,
    received: Millis,
    status: Status,
) -> Result<(), StorageError> {
    let row = LogRow { received, status, envelope: envelope.bytes().to_vec() };
    let key = log_key(envelope.topic, envelope.device, envelope.seq);
    tx.put_raw(&LOG, &key, row.to_bytes())?;
    tx.mem.acks_due.insert(envelope.topic);
    Ok(())
}

pub(super) fn store_bodies(
    tx: &mut Tx<'_>,
    envelope: &Envelope,
    header: &Header,
    bodies: &[Option<(Vec<u8>, Vec<u8>)>],
) -> Result<(), StorageError> {
    for (i, body) in bodies.iter().enumerate().take(MAX_BODIES) {
        let index = i as u8;
        let slot = (envelope.topic, envelope.device, envelope.seq);
        match body {
            Some((sealed, _)) => {
                tx.put_raw(&BODIES, &body_key(slot.0, slot.1, slot.2, index), sealed.clone())?;
            }
            None => {
                let key = body_key(slot.0, slot.1, slot.2, index);
                tx.put_raw(&MISSING_BODIES, &key, header.bodies[i].0.to_vec())?;
            }
        }
    }
    Ok(())
}

pub(super) fn note_segment(
    tx: &mut Tx<'_>,
    topic: TopicId,
    mut newest: Segment,
    number: u32,
    bytes: usize,
) -> Result<(), StorageError> {
    // A member can't push the others' next segment out of reach.
    if number > newest.number && number <= newest.number.saturating_add(64) {
        newest = Segment { number, changes: 0, bytes: 0 };
    }
    if number == newest.number {
        newest.changes += 1;
        newest.bytes += bytes as u64;
        tx.put(&SEGMENTS, &topic.0, &newest)?;
    }
    Ok(())
}

pub(super) fn tip_key(topic: TopicId, device: DeviceId, segment: u32) -> Vec<u8> {
    let mut key = pair_key(&topic.0, &device.0);
    key.extend_from_slice(&segment.to_be_bytes());
    key
}

pub(super) fn unopened_key(envelope: &Envelope, epoch: EpochId) -> Vec<u8> {
    Key::new()
        .fixed(&envelope.topic.0)
        .fixed(&epoch.0)
        .fixed(&envelope.device.0)
        .u64(envelope.seq)
        .into_bytes()
}
