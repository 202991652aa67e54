//! Devices that told two stories: two envelopes of one device with one number.
//!
//! Both envelopes are kept as the proof, the person is told, and what the device wrote from
//! there on counts for nothing, on every replica: frontiers name the number
//! ([`Held::fork`]), whoever lacks the proof gets it, and where replicas hold different
//! branches they look for the place where these part ([`suspect`]). The lowest number
//! proved is what counts, so replicas end with the same one in whatever order proofs come.
//!
//! Proofs travel between connected devices. Mailboxes carry each device's own chain only.

use std::collections::BTreeMap;

use teahouse_protocols::envelope::Envelope;
use teahouse_protocols::ids::{DeviceId, TopicId};
use teahouse_protocols::inbox::Letter;
use teahouse_protocols::sync::{Frame, Held, Run};

use crate::engine::{accounts, letters};
use crate::store::{KeyRange, ReadExt, StorageError};
use crate::tables::{Chain, FORKS, Fork, WAITING, Waiting, chain_key, log_key};
use crate::tx::{Fail, Tx, capped};

/// How far back from a disagreement one page looks for the parting.
const LOOK_BACK: u64 = 256;
/// Most proofs that one frontier is answered with; the next frontier brings the rest.
const MAX_PROOFS: usize = 16;

/// All known forks of a topic.
pub(crate) fn of(tx: &Tx<'_>, topic: TopicId) -> Result<BTreeMap<DeviceId, Fork>, StorageError> {
    let rows: Vec<(Vec<u8>, Fork)> =
        tx.scan_typed(&FORKS, &KeyRange::prefix(&topic.0), false, 4_096)?;
    Ok(rows.into_iter().filter_map(|(k, f)| Some((DeviceId(*k.last_chunk()?), f))).collect())
}

/// Whether a device is known to have told two stories at or before `seq`.
pub(crate) fn covers(
    tx: &Tx<'_>,
    topic: TopicId,
    device: DeviceId,
    seq: u64,
) -> Result<bool, StorageError> {
    let fork: Option<Fork> = tx.typed(&FORKS, &chain_key(topic, device))?;
    Ok(fork.is_some_and(|f| seq >= f.seq))
}

/// Notes a second envelope for a place in the log: `other` is not the one held there.
pub(crate) fn note(tx: &mut Tx<'_>, other: &Envelope) -> Result<(), Fail> {
    let key = chain_key(other.topic, other.device);
    let known: Option<Fork> = tx.typed(&FORKS, &key)?;
    let first = known.is_none();
    if known.is_some_and(|f| f.seq <= other.seq) {
        return Ok(());
    }
    tx.put(&FORKS, &key, &Fork { seq: other.seq, other: other.bytes().to_vec() })?;
    if first {
        let account = accounts::account_of(tx, other.device)?;
        let name = match account {
            Some(a) => {
                accounts::log(tx, a)?.map(|l| l.state().name.to_string()).unwrap_or_default()
            }
            None => String::new(),
        };
        tx.alarm(format!(
            "A device of {} told different people different things. What it wrote from there on is not shown.",
            if name.is_empty() { "a member" } else { &name }
        ))?;
    }
    // A page can prove many, each lower than the one before.
    tx.mem.rejudge_due.insert(other.topic);
    Ok(())
}

/// Where to look for the place at which a peer's branch of a chain parts from the one held
/// here, if there is reason to think that it does.
pub(crate) fn suspect(
    tx: &Tx<'_>,
    topic: TopicId,
    chain: &Chain,
    held: &Held,
    fork: Option<&Fork>,
) -> Result<Option<Run>, StorageError> {
    let to = match fork {
        Some(fork) => {
            // The two part where their predecessors are the same. Else further back.
            let other = Envelope::from_bytes(&fork.other).ok().map(|e| e.prev);
            let ours = envelope(tx, topic, held.device, fork.seq)?.map(|e| e.prev);
            if fork.seq <= chain.low.max(held.low) || other.is_none() || other == ours {
                return Ok(None);
            }
            fork.seq - 1
        }
        None if held.high > chain.high => {
            let next = log_key(topic, held.device, chain.high + 1);
            let waiting: Option<Waiting> = tx.typed(&WAITING, &next)?;
            let prev = waiting.and_then(|w| Envelope::from_bytes(&w.envelope).ok()).map(|e| e.prev);
            if prev.is_none_or(|prev| prev == chain.head) {
                return Ok(None);
            }
            chain.high
        }
        None => {
            let ours = envelope(tx, topic, held.device, held.high)?;
            if ours.is_none_or(|e| e.id() == held.head) {
                return Ok(None);
            }
            held.high
        }
    };
    let from = to.saturating_sub(LOOK_BACK - 1).max(chain.low).max(held.low).max(1);
    Ok((from <= to).then_some(Run { device: held.device, from, to }))
}

/// Proofs of forks that a peer, by its frontier, does not know of: for each the two envelopes.
pub(crate) fn proofs(
    tx: &Tx<'_>,
    topic: TopicId,
    theirs: &[Held],
) -> Result<Vec<Frame>, StorageError> {
    let mut frames = Vec::new();
    for (device, fork) in of(tx, topic)? {
        // Who doesn't hold the place yet gets both when it asks for it.
        let lacks = theirs.iter().any(|h| {
            h.device == device
                && (h.low..=h.high).contains(&fork.seq)
                && (h.fork == 0 || h.fork > fork.seq)
        });
        if !lacks {
            continue;
        }
        let Some(held) = letters::letter(&tx.stage, topic, device, fork.seq)? else { continue };
        let Some(other) = other(&fork) else { continue };
        frames.push(Frame::Push(topic, capped(vec![held, other])));
        if frames.len() == MAX_PROOFS {
            break;
        }
    }
    Ok(frames)
}

/// A fork's second envelope, as it travels.
pub(crate) fn other(fork: &Fork) -> Option<Letter> {
    let envelope = fork.other.clone().try_into().ok()?;
    Some(Letter { envelope, bodies: capped(Vec::new()) })
}

fn envelope(
    tx: &Tx<'_>,
    topic: TopicId,
    device: DeviceId,
    seq: u64,
) -> Result<Option<Envelope>, StorageError> {
    let row = letters::log_row(&tx.stage, topic, device, seq)?;
    Ok(row.and_then(|r| Envelope::from_bytes(&r.envelope).ok()))
}
