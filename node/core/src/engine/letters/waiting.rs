//! Envelopes that can't be judged yet: for their predecessor, an operation or a key. They wait
//! in a table, bounded, and are tried again when it comes.

use std::collections::BTreeSet;

use teahouse_protocols::envelope::{Envelope, MAX_BODIES};
use teahouse_protocols::ids::{DeviceId, EpochId, Millis, TopicId};

use super::accept::{Outcome, accept_one};
use super::prepare::{Prepared, Secrets, open};
use crate::engine::{accounts, topics};
use crate::store::{KeyRange, Read, ReadExt, StorageError};
use crate::tables::{
    CHAINS, Chain, UNOPENED, WAITING, Waiting, WaitingOn, chain_key, log_key, pair_key,
};
use crate::tx::{Fail, Tx};

/// Most envelopes of one topic that wait.
pub(super) const MAX_WAITING: usize = 4_096;
/// Most envelopes of a device that no known account names.
const MAX_UNKNOWN: usize = 64;

/// Tries a topic's waiting envelopes again: each chain's next one.
pub(crate) fn release(tx: &mut Tx<'_>, topic: TopicId) -> Result<(), Fail> {
    let rows = tx.scan(&WAITING, &KeyRange::prefix(&topic.0), false, MAX_WAITING)?;
    for (key, _) in rows {
        let Some((rest, seq)) = key.split_last_chunk::<8>() else { continue };
        let seq = u64::from_be_bytes(*seq);
        let chain: Option<Chain> = tx.typed(&CHAINS, rest)?;
        if chain.map_or(0, |c| c.high).checked_add(1) == Some(seq) && retry(tx, &key)? {
            let device = chain_device(rest);
            if let Some(device) = device {
                continue_chain(tx, topic, device, seq)?;
            }
        }
    }
    Ok(())
}

/// Whether something held waits for an epoch's key.
pub(crate) fn waits_for(
    tx: &mut Tx<'_>,
    topic: TopicId,
    epoch: EpochId,
) -> Result<bool, StorageError> {
    if tx.first(&UNOPENED, &pair_key(&topic.0, &epoch.0))?.is_some() {
        return Ok(true);
    }
    let mut found = false;
    let mut later = BTreeSet::new();
    tx.visit(&WAITING, &KeyRange::prefix(&topic.0), false, &mut |_, value| {
        let row: Result<Waiting, _> = crate::store::decode(&WAITING, value);
        // What waits for its predecessor needs the key after that.
        found = row.is_ok_and(|r| match r.on {
            WaitingOn::Epoch(e) => e == epoch,
            WaitingOn::Predecessor => {
                if let Ok(envelope) = Envelope::from_bytes(&r.envelope)
                    && envelope.header.is_some_and(|h| h.epoch == epoch)
                {
                    later.insert(envelope.device);
                }
                false
            }
            WaitingOn::Operations => false,
        });
        if found { std::ops::ControlFlow::Break(()) } else { std::ops::ControlFlow::Continue(()) }
    })?;
    // Nobody has judged those yet: only a member's count.
    for device in later {
        found = found || topics::is_member(tx, topic, device)?;
    }
    Ok(found)
}

pub(super) fn wait(
    tx: &mut Tx<'_>,
    envelope: &Envelope,
    bodies: Vec<Vec<u8>>,
    received: Millis,
    on: WaitingOn,
) -> Result<Outcome, Fail> {
    let key = log_key(envelope.topic, envelope.device, envelope.seq);
    let all = KeyRange::prefix(&envelope.topic.0);
    let mut bodies = bodies;
    if let Some(known) = tx.typed::<Waiting>(&WAITING, &key)? {
        // A body that came with another copy is kept.
        if known.envelope == envelope.bytes() {
            for body in known.bodies {
                if !bodies.contains(&body) && bodies.len() < MAX_BODIES {
                    bodies.push(body);
                }
            }
        }
    } else {
        let chain = KeyRange::prefix(&chain_key(envelope.topic, envelope.device));
        if accounts::account_of(tx, envelope.device)?.is_none()
            && tx.count(&WAITING, &chain, MAX_UNKNOWN)? >= MAX_UNKNOWN
        {
            return Err(Fail::peer("too much of an unknown device"));
        }
        if tx.count(&WAITING, &all, MAX_WAITING)? >= MAX_WAITING {
            return Err(Fail::Later("too many envelopes wait in this topic".into()));
        }
    }
    let row = Waiting { received, on, envelope: envelope.bytes().to_vec(), bodies };
    tx.put(&WAITING, &key, &row)?;
    if let WaitingOn::Epoch(epoch) = on {
        crate::engine::sync::want_key(tx, envelope.topic, epoch)?;
    }
    Ok(Outcome::Waits)
}

/// Tries what waited for `seq`, and what waited for that, and so on.
pub(super) fn continue_chain(
    tx: &mut Tx<'_>,
    topic: TopicId,
    device: DeviceId,
    mut seq: u64,
) -> Result<(), Fail> {
    loop {
        seq += 1;
        if !retry(tx, &log_key(topic, device, seq))? {
            return Ok(());
        }
    }
}

/// Tries one waiting envelope again.
fn retry(tx: &mut Tx<'_>, key: &[u8]) -> Result<bool, Fail> {
    let Some(row) = tx.typed::<Waiting>(&WAITING, key)? else { return Ok(false) };
    let envelope = Envelope::from_bytes(&row.envelope)
        .map_err(|_| StorageError::corrupt(WAITING.name, "envelope"))?;
    let content = open(&tx.stage, &Secrets::new(), &envelope, &row.bodies);
    tx.del(&WAITING, key)?;
    let prepared = Prepared { envelope, sealed: row.bodies, content };
    match accept_one(tx, prepared, row.received) {
        Ok(outcome) => Ok(matches!(outcome, Outcome::Stored(_))),
        // It is dropped, and spoils nothing of the input that released it.
        Err(Fail::Peer(_) | Fail::Later(_)) => Ok(false),
        Err(other) => Err(other),
    }
}

fn chain_device(chain_key: &[u8]) -> Option<DeviceId> {
    chain_key.last_chunk::<32>().map(|d| DeviceId(*d))
}
