//! New epochs: making one for all who are in, and what devices that were removed demand until
//! the topic's log cuts them off ([`Demand`]).

use std::collections::BTreeSet;

use teahouse_protocols::bugs::planted;
use teahouse_protocols::epoch::{GroupKeys, PairwiseHpke, Parcel};
use teahouse_protocols::ids::{AccountId, DeviceId, EpochId, TopicId};
use teahouse_protocols::membership::TopicKind;

use super::epochs::add_epoch;
use super::readers::{author, is_public, told};
use super::{audience, devices, is_member, members, require, row};
use crate::engine::{accounts, latecomers};
use crate::features::moments;
use crate::store::{KeyRange, ReadExt, StorageError};
use crate::tables::{REKEY_DUE, SEALED_TO, pair_key};
use crate::tx::{Fail, Tx};

/// Removed devices looked at in one topic.
const MAX_REKEY_DUE: usize = 4_096;

/// Makes a new epoch for all current members; returns the parcels for the others.
pub(crate) fn rekey(tx: &mut Tx<'_>, topic: TopicId) -> Result<Vec<Parcel>, Fail> {
    let me = tx.me()?;
    let mut recipients: Vec<DeviceId> = reachable(tx, topic)?.into_iter().collect();
    if planted("rekey_includes_removed") {
        let former: Vec<AccountId> = require(tx, topic)?.now().former.iter().copied().collect();
        for account in former {
            recipients.extend(accounts::devices_of(tx, account)?);
        }
    }
    let heads = require(tx, topic)?.eval.parents();
    let named = named(tx, topic, &recipients)?;
    let (head, secret) = PairwiseHpke.rekey(topic, &heads, &named, &me.key, tx.rng);
    add_epoch(tx, &head, &secret)?;
    if named.len() < recipients.len() || author(tx, topic)?.is_some() {
        tx.put(&SEALED_TO, &head.id(), &recipients)?;
    }
    let mut parcels = Vec::new();
    for device in recipients {
        // Readers who do not know the topic yet get all keys with their welcome.
        if device == me.device || !named.contains(&device) && !told(tx, topic, device)? {
            continue;
        }
        if let Some(bundle) = accounts::bundle_of(tx, device)? {
            // A device whose prekey can't be sealed to is skipped: it asks later.
            if let Ok(p) = PairwiseHpke.parcel(&head, &secret, device.0, &bundle.prekey, tx.rng) {
                parcels.push(p);
            }
        }
    }
    Ok(parcels)
}

/// Recipients whose names an epoch's head tells: readers do not learn of each other.
fn named(
    tx: &mut Tx<'_>,
    topic: TopicId,
    recipients: &[DeviceId],
) -> Result<Vec<DeviceId>, StorageError> {
    if author(tx, topic)?.is_none() {
        return Ok(recipients.to_vec());
    }
    let mut named = Vec::new();
    for device in recipients {
        if is_member(tx, topic, *device)? {
            named.push(*device);
        }
    }
    Ok(named)
}

/// Notes that a member's devices were found removed: until the topic's log says where each
/// was cut off ([`super::sealing`]), no epoch from before serves for sending. A device may
/// have come and gone without being known here, and was given the keys by its siblings.
pub(crate) fn devices_removed(
    tx: &mut Tx<'_>,
    account: AccountId,
    removed: &[DeviceId],
) -> Result<(), StorageError> {
    let Some(me) = tx.me()?.account.filter(|_| !removed.is_empty()) else { return Ok(()) };
    for topic in accounts::topic_ids(tx)? {
        // A reader counts that is out just now: it may be in again, and the key the same.
        let meant = audience(tx, topic)?.contains(&account) || moments::allows(tx, topic, account)?;
        let within = meant && members(tx, topic)?.contains(&me);
        if within && !is_public(tx, topic)? {
            for device in removed {
                tx.put_raw(&REKEY_DUE, &pair_key(&topic.0, &device.0), Vec::new())?;
            }
            latecomers::makers_gone(tx, topic, &removed.iter().copied().collect())?;
        }
    }
    Ok(())
}

/// The same for a topic that was joined just now: its members' devices that were removed.
pub(super) fn note_removed(tx: &mut Tx<'_>, topic: TopicId) -> Result<(), StorageError> {
    for member in members(tx, topic)? {
        let Some(log) = accounts::log(tx, member)? else { continue };
        for (device, info) in &log.state().devices {
            if info.revoked.is_some() {
                tx.put_raw(&REKEY_DUE, &pair_key(&topic.0, &device.0), Vec::new())?;
            }
        }
    }
    Ok(())
}

/// What removed devices that the topic's log does not cut off yet demand of an epoch.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Demand {
    Nothing,
    /// That this device made it since. In a topic with readers always: of others' epochs it
    /// does not know who has them.
    Own,
    /// That it be made now.
    Fresh,
}

pub(super) fn demand(
    tx: &Tx<'_>,
    topic: TopicId,
    cut: &BTreeSet<DeviceId>,
) -> Result<Demand, StorageError> {
    let has_readers = row(tx, topic)?.is_some_and(|r| r.kind == TopicKind::Moments);
    let mut demand = if has_readers { Demand::Own } else { Demand::Nothing };
    for (key, since) in tx.scan(&REKEY_DUE, &KeyRange::prefix(&topic.0), false, MAX_REKEY_DUE)? {
        if key.last_chunk::<32>().is_some_and(|d| cut.contains(&DeviceId(*d))) {
            continue;
        }
        let kept = planted("former_friend_keeps_reading") && has_readers;
        if since.is_empty() && !kept {
            return Ok(Demand::Fresh);
        }
        demand = Demand::Own;
    }
    Ok(demand)
}

/// Notes the epoch that was made after the removals known here.
pub(super) fn note_rekey(
    tx: &mut Tx<'_>,
    topic: TopicId,
    epoch: EpochId,
) -> Result<(), StorageError> {
    let has_readers = author(tx, topic)?.is_some();
    let rows = tx.scan(&REKEY_DUE, &KeyRange::prefix(&topic.0), false, MAX_REKEY_DUE)?;
    for (key, since) in rows {
        if has_readers {
            // There an own epoch is demanded always.
            tx.del(&REKEY_DUE, &key)?;
        } else if since.is_empty() {
            tx.put_raw(&REKEY_DUE, &key, epoch.0.to_vec())?;
        }
    }
    Ok(())
}

/// Whether somebody may have the keys of a topic with readers who may read it no more.
pub(super) fn is_renewal_due(tx: &Tx<'_>, topic: TopicId) -> Result<bool, StorageError> {
    Ok(tx.first(&REKEY_DUE, &topic.0)?.is_some())
}

/// Devices of members to which a key can be sealed: active, with a known prekey. This one
/// too.
pub(super) fn reachable(
    tx: &mut Tx<'_>,
    topic: TopicId,
) -> Result<BTreeSet<DeviceId>, StorageError> {
    let mut out = BTreeSet::new();
    for device in devices(tx, topic)? {
        if accounts::bundle_of(tx, device)?.is_some() {
            out.insert(device);
        }
    }
    Ok(out)
}
