//! Bodies: which are missing here, taking them when they come, and how far a chain is complete
//! with them.

use teahouse_protocols::envelope::{Envelope, MAX_BODIES, sealed_hash};
use teahouse_protocols::ids::{DeviceId, EnvelopeId, TopicId};

use super::log::log_row;
use super::prepare::{Content, Secrets, open};
use super::replay::reapply;
use super::waiting::MAX_WAITING;
use crate::engine::topics;
use crate::store::{KeyRange, Read, ReadExt, StorageError};
use crate::tables::{
    BODIES, Chain, LOG, MISSING_BODIES, Status, WAITING, Waiting, body_key, chain_key,
};
use crate::tx::{Fail, Tx};

/// Waiting envelopes looked at for a body that came alone.
const LONE_BODY_LOOKS: usize = 512;
/// Length of a missing body's row; a longer one was given up.
const HASH: usize = 32;

/// Takes sealed bodies that are missing here; others are ignored.
pub(super) fn take_bodies(tx: &mut Tx<'_>, topic: TopicId, bodies: &[Vec<u8>]) -> Result<(), Fail> {
    if bodies.is_empty() {
        return Ok(());
    }
    // Missing bodies are rare: a scan serves.
    let missing = tx.scan(&MISSING_BODIES, &KeyRange::prefix(&topic.0), false, MAX_WAITING)?;
    for (key, hash) in missing {
        let Some(body) = bodies.iter().find(|b| hash.starts_with(&sealed_hash(b).0)) else {
            continue;
        };
        let mut reader = crate::store::KeyReader::new(&MISSING_BODIES, &key[32..]);
        let (device, seq) = (DeviceId(reader.fixed()?), reader.u64()?);
        let index = usize::from(reader.u8()?);
        let Some(row) = log_row(&tx.stage, topic, device, seq)? else { continue };
        let Ok(envelope) = Envelope::from_bytes(&row.envelope) else { continue };
        let opens = match open(&tx.stage, &Secrets::new(), &envelope, std::slice::from_ref(body)) {
            Content::Good(good) => good.bodies.get(index).is_some_and(Option::is_some),
            _ => false,
        };
        if !opens {
            continue;
        }
        tx.put_raw(&BODIES, &key, body.clone())?;
        tx.del(&MISSING_BODIES, &key)?;
        tx.mem.acks_due.insert(topic);
        if let Some(state) = topics::state(tx, topic)?
            && row.status == Status::Accepted
        {
            reapply(tx, &state, &row)?;
        }
    }
    Ok(())
}

/// Bodies that their author's own device has no longer hold no acknowledgement up: a recall
/// need not be readable to everybody, and can lose its effect after it was carried out. Others
/// are still asked for them.
pub(crate) fn given_up(
    tx: &mut Tx<'_>,
    topic: TopicId,
    device: DeviceId,
    seq: u64,
    absent: &[u8],
) -> Result<(), StorageError> {
    for index in absent {
        let key = body_key(topic, device, seq, *index);
        if let Some(mut hash) = tx.get(&MISSING_BODIES, &key)?
            && hash.len() == HASH
        {
            hash.push(1);
            tx.put_raw(&MISSING_BODIES, &key, hash)?;
            tx.mem.acks_due.insert(topic);
        }
    }
    Ok(())
}

/// Takes a body that came alone: its envelope may be here without it, or wait.
pub(crate) fn take_lone_body(tx: &mut Tx<'_>, topic: TopicId, body: Vec<u8>) -> Result<(), Fail> {
    let bodies = [body];
    take_bodies(tx, topic, &bodies)?;
    let [body] = bodies;
    let hash = sealed_hash(&body);
    let rows = tx.scan(&WAITING, &KeyRange::prefix(&topic.0), false, LONE_BODY_LOOKS)?;
    for (key, value) in rows {
        let mut row: Waiting = crate::store::decode(&WAITING, &value)?;
        let named = Envelope::from_bytes(&row.envelope)
            .ok()
            .and_then(|e| e.header)
            .is_some_and(|h| h.bodies.contains(&hash));
        if named && !row.bodies.contains(&body) && row.bodies.len() < MAX_BODIES {
            row.bodies.push(body.clone());
            tx.put(&WAITING, &key, &row)?;
        }
    }
    Ok(())
}

/// Envelopes under `prefix` that count and whose bodies have not come. What doesn't count is
/// not waited for: its text may be erased everywhere without anybody here knowing that it was
/// to be. `all` says whether those that were given up are among them.
pub(crate) fn missing(
    tx: &Tx<'_>,
    topic: TopicId,
    prefix: &[u8],
    most: usize,
    all: bool,
) -> Result<Vec<(DeviceId, u64)>, StorageError> {
    let mut out = Vec::new();
    for (key, hash) in tx.scan(&MISSING_BODIES, &KeyRange::prefix(prefix), false, MAX_WAITING)? {
        if !all && hash.len() > HASH {
            continue;
        }
        let mut reader = crate::store::KeyReader::new(&MISSING_BODIES, &key[32..]);
        let at = (DeviceId(reader.fixed()?), reader.u64()?);
        if out.len() == most {
            break;
        }
        if out.last() != Some(&at)
            && log_row(&tx.stage, topic, at.0, at.1)?.is_some_and(|r| r.status != Status::Void)
        {
            out.push(at);
        }
    }
    Ok(out)
}

/// How far a chain is complete here: all before it stored, and no body missing.
pub(crate) fn complete_upto(
    tx: &Tx<'_>,
    topic: TopicId,
    device: DeviceId,
    chain: &Chain,
) -> Result<Option<(u64, EnvelopeId)>, StorageError> {
    let missing = missing(tx, topic, &chain_key(topic, device), 1, false)?;
    let Some((_, seq)) = missing.first() else {
        return Ok((chain.high >= chain.low).then_some((chain.high, chain.head)));
    };
    let seq = seq.saturating_sub(1);
    if seq < chain.low {
        return Ok(None);
    }
    let Some(row) = log_row(&tx.stage, topic, device, seq)? else { return Ok(None) };
    let envelope = Envelope::from_bytes(&row.envelope)
        .map_err(|_| StorageError::corrupt(LOG.name, "envelope"))?;
    Ok(Some((seq, envelope.id())))
}
