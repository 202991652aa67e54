//! From envelopes that count to rows: what `apply` is given, when an envelope comes, when its
//! key or body comes later, and when a topic's rows are made anew.

use teahouse_crdt::segment::Entry;
use teahouse_protocols::envelope::{Envelope, Header};
use teahouse_protocols::ids::{AccountId, DeviceId, EpochId, Millis, TopicId};
use teahouse_protocols::membership::Role;

use super::log::{log_row, unopened_key};
use super::prepare::{Content, Secrets, open, opened};
use super::waiting::MAX_WAITING;
use crate::engine::{accounts, topics};
use crate::features::{self, Applied, FEATURES};
use crate::store::{KeyRange, Read, ReadExt, StorageError};
use crate::tables::{
    BODIES, LOG, LogRow, MISSING_BODIES, Status, UNOPENED, body_key, log_key, pair_key,
};
use crate::tx::{Fail, TopicState, Tx};

/// Clears a topic's rows and makes them again from its log.
pub(crate) fn replay(tx: &mut Tx<'_>, topic: TopicId) -> Result<u64, Fail> {
    let Some(state) = topics::state(tx, topic)? else { return Ok(0) };
    let kind = state.now().kind;
    for feature in FEATURES.iter().filter(|f| f.kinds.contains(&kind)) {
        if let Some(forget) = feature.forget {
            forget(tx, topic)?;
        }
        for table in feature.projects {
            // The private topic has rows of its own that are keyed by what they are about.
            let private = kind == teahouse_protocols::membership::TopicKind::Private;
            let range = if private && **table != crate::tables::LAMPORT {
                KeyRange::all()
            } else {
                KeyRange::prefix(&topic.0)
            };
            loop {
                let rows = tx.scan(table, &range, false, 4_096)?;
                if rows.is_empty() {
                    break;
                }
                for (key, _) in rows {
                    tx.del(table, &key)?;
                }
            }
        }
    }
    let mut applied = 0;
    let mut range = KeyRange::prefix(&topic.0);
    loop {
        let rows = tx.scan(&LOG, &range, false, 1_024)?;
        let Some((last, _)) = rows.last() else { break };
        range = range.after(&last.clone());
        for (_, bytes) in rows {
            let row = LogRow::from_bytes(&bytes)
                .ok_or_else(|| StorageError::corrupt(LOG.name, "envelope"))?;
            if row.status == Status::Accepted {
                reapply(tx, &state, &row)?;
                applied += 1;
            }
        }
    }
    Ok(applied)
}

/// Opens what was stored under an epoch whose key has just come.
pub(crate) fn open_stored(tx: &mut Tx<'_>, topic: TopicId, epoch: EpochId) -> Result<(), Fail> {
    let prefix = pair_key(&topic.0, &epoch.0);
    let rows = tx.scan(&UNOPENED, &KeyRange::prefix(&prefix), false, MAX_WAITING)?;
    let Some(state) = topics::state(tx, topic)? else { return Ok(()) };
    for (key, _) in rows {
        tx.del(&UNOPENED, &key)?;
        let mut reader = crate::store::KeyReader::new(&UNOPENED, &key[prefix.len()..]);
        let (device, seq) = (DeviceId(reader.fixed()?), reader.u64()?);
        let Some(mut row) = log_row(&tx.stage, topic, device, seq)? else { continue };
        if row.status == Status::Sealed {
            row.status = Status::Accepted;
            tx.put_raw(&LOG, &log_key(topic, device, seq), row.to_bytes())?;
        }
        if row.status == Status::Accepted {
            reapply(tx, &state, &row)?;
        }
    }
    Ok(())
}

/// Applies a stored, accepted envelope again.
pub(super) fn reapply(tx: &mut Tx<'_>, state: &TopicState, row: &LogRow) -> Result<(), Fail> {
    let damaged = |why| StorageError::corrupt(LOG.name, why);
    let envelope = Envelope::from_bytes(&row.envelope).map_err(|_| damaged("envelope"))?;
    let Some(account) = accounts::account_of(tx, envelope.device)? else { return Ok(()) };
    let Some(header) = envelope.header.clone() else { return Ok(()) };
    let (mut sealed, mut absent) = (Vec::new(), Vec::new());
    for (index, hash) in (0..).zip(&header.bodies) {
        let key = body_key(envelope.topic, envelope.device, envelope.seq, index);
        match tx.get(&BODIES, &key)? {
            // An empty one was erased.
            Some(body) if body.is_empty() => {}
            Some(body) => sealed.push(body),
            None => absent.push((key, hash)),
        }
    }
    let good = match open(&tx.stage, &Secrets::new(), &envelope, &sealed) {
        Content::Good(good) => good,
        // It counts, and is shown once its key has come.
        Content::NoKey => {
            tx.put_raw(&UNOPENED, &unopened_key(&envelope, header.epoch), Vec::new())?;
            return Ok(());
        }
        _ => return Ok(()),
    };
    // Not kept while it couldn't be opened, or erased: what it says, here or later, settles which.
    for (key, hash) in absent {
        if !tx.contains(&MISSING_BODIES, &key)? {
            tx.put_raw(&MISSING_BODIES, &key, hash.0.to_vec())?;
        }
    }
    let bodies = opened(good.bodies);
    apply(tx, state, account, &envelope, &header, row.received, &bodies, good.change.entries())?;
    Ok(())
}

#[allow(clippy::too_many_arguments)]
pub(super) fn apply(
    tx: &mut Tx<'_>,
    state: &TopicState,
    account: AccountId,
    envelope: &Envelope,
    header: &Header,
    received: Millis,
    bodies: &[Option<Vec<u8>>],
    entries: &[Entry],
) -> Result<(), StorageError> {
    let now = state.now();
    let role = if *header.heads == *now.heads {
        now.members.get(&account).map(|m| m.role)
    } else {
        state.eval.at(&header.heads).and_then(|m| m.members.get(&account).map(|m| m.role))
    };
    let applied = Applied {
        topic: envelope.topic,
        kind: now.kind,
        account,
        device: envelope.device,
        seq: envelope.seq,
        role: role.unwrap_or(Role::Member),
        time: header.time.min(received),
        header,
        bodies,
    };
    features::apply(tx, &applied, entries)
}
