//! Membership and epochs: who is in a topic, and which secret opens what.
//!
//! Membership records are a set; everything else follows from the set
//! ([`teahouse_protocols::membership`]). Epochs are a set too; a sender picks one that is
//! *adequate*: it names every active device of every member, and no device that is none.
//!
//! This file answers who is in. Beside it:
//!
//! - [`operations`]: changing the membership, and learning of changes.
//! - [`mod@epochs`]: the secrets that are known, taking them in, giving them on.
//! - [`sealing`]: which epoch serves for sending, and which for acknowledgements.
//! - [`mod@rekey`]: making a new epoch, and when removed devices demand one.
//! - [`mod@welcome`]: how a device or an account comes into a topic.
//! - [`readers`]: who reads a topic without being a member of it.

mod epochs;
mod operations;
mod readers;
mod rekey;
mod sealing;
mod welcome;

use std::collections::BTreeSet;
use std::sync::Arc;

use teahouse_protocols::ids::{AccountId, DeviceId, TopicId};
use teahouse_protocols::membership::{MembershipLog, MembershipRecord, Role};
use teahouse_protocols::sign::Signed;

use crate::command::Refusal;
use crate::engine::accounts;
use crate::store::{KeyRange, Read, ReadExt, StorageError};
use crate::tables::{CHAINS, Chain, DEVICE_ACCOUNT, OPS, TOPICS, Topic};
use crate::tx::{Fail, TopicState, Tx};

pub(crate) use self::epochs::{
    MAX_EPOCHS, epochs, head, key_for, parcel_epoch, parcel_topic, secret, take_parcel,
};
pub(crate) use self::operations::{account_changed, create, cuts_of, learn, operate};
use self::readers::readers;
pub(crate) use self::readers::{
    author, is_followed, is_public, may_read, shut_out, take_renewed, takes_part, tell_again,
    tell_all, tell_anew,
};
pub(crate) use self::rekey::{devices_removed, rekey};
pub(crate) use self::sealing::{epoch_for_cursors, epoch_for_sending};
pub(crate) use self::welcome::{
    MAX_SEQ, adopt, take_welcome, welcome, welcome_device, welcome_everywhere, welcome_own,
    welcome_with,
};

/// Most membership records of one topic.
const MAX_OPS: usize = 4_096;

/// The topic's row.
pub(crate) fn row(tx: &Tx<'_>, topic: TopicId) -> Result<Option<Topic>, StorageError> {
    tx.typed(&TOPICS, &topic.0)
}

/// The topic's membership, if the topic is known.
pub(crate) fn state(
    tx: &mut Tx<'_>,
    topic: TopicId,
) -> Result<Option<Arc<TopicState>>, StorageError> {
    if let Some(state) = tx.mem.topics.get(&topic) {
        return Ok(Some(state.clone()));
    }
    let Some(state) = load(&tx.stage, topic)? else { return Ok(None) };
    let state = Arc::new(state);
    tx.mem.topics.insert(topic, state.clone());
    Ok(Some(state))
}

/// Reads a topic's membership from the tables.
pub(crate) fn load(read: &dyn Read, topic: TopicId) -> Result<Option<TopicState>, StorageError> {
    let rows = read.scan(&OPS, &KeyRange::prefix(&topic.0), false, MAX_OPS)?;
    if rows.is_empty() {
        return Ok(None);
    }
    let damaged = || StorageError::corrupt(OPS.name, "membership record");
    let mut records = Vec::with_capacity(rows.len());
    for (key, bytes) in rows {
        let id = key.last_chunk::<32>().ok_or_else(damaged)?;
        records.push(Signed::<MembershipRecord>::from_stored(&bytes, id).map_err(|_| damaged())?);
    }
    let log = MembershipLog::from_records(topic, records).map_err(|_| damaged())?;
    let eval = log.evaluate(&oracle(read));
    Ok(Some(TopicState { log, eval }))
}

/// Whether a device was ever validly added to an account.
pub(crate) fn oracle(read: &dyn Read) -> impl Fn(&AccountId, &DeviceId) -> bool + '_ {
    |account, device| {
        read.get_typed::<AccountId>(&DEVICE_ACCOUNT, &device.0).ok().flatten() == Some(*account)
    }
}

/// The topic's membership, or the refusal that there is no such chat.
pub(crate) fn require(tx: &mut Tx<'_>, topic: TopicId) -> Result<Arc<TopicState>, Fail> {
    Ok(state(tx, topic)?.ok_or_else(|| Refusal::NotFound { what: "chat".into() })?)
}

/// Current members; empty for an unknown topic.
pub(crate) fn members(tx: &mut Tx<'_>, topic: TopicId) -> Result<Vec<AccountId>, StorageError> {
    Ok(state(tx, topic)?.map(|s| s.now().members.keys().copied().collect()).unwrap_or_default())
}

/// Accounts whose device lists a topic's envelopes are judged by: members, and of who is out
/// by now those that wrote.
pub(crate) fn judged(tx: &mut Tx<'_>, topic: TopicId) -> Result<BTreeSet<AccountId>, StorageError> {
    let Some(state) = state(tx, topic)? else { return Ok(BTreeSet::new()) };
    let mut out: BTreeSet<AccountId> = state.now().members.keys().copied().collect();
    for (device, _) in chains(&tx.stage, topic)? {
        let account = accounts::account_of(tx, device)?;
        out.extend(account.filter(|a| state.now().former.contains(a)));
    }
    Ok(out)
}

/// Whether a device is an active one of a current member.
pub(crate) fn is_member(
    tx: &mut Tx<'_>,
    topic: TopicId,
    device: DeviceId,
) -> Result<bool, StorageError> {
    let Some(account) = accounts::account_of(tx, device)? else { return Ok(false) };
    let Some(state) = state(tx, topic)? else { return Ok(false) };
    Ok(state.now().members.contains_key(&account) && accounts::is_active(tx, device)?)
}

/// Accounts for which things are sealed: members, and readers as far as they are known here.
pub(crate) fn audience(
    tx: &mut Tx<'_>,
    topic: TopicId,
) -> Result<BTreeSet<AccountId>, StorageError> {
    let mut all = readers(tx, topic)?;
    all.extend(members(tx, topic)?);
    Ok(all)
}

/// Active devices of the whole audience, this one too.
pub(crate) fn devices(tx: &mut Tx<'_>, topic: TopicId) -> Result<BTreeSet<DeviceId>, StorageError> {
    let mut all = BTreeSet::new();
    for account in audience(tx, topic)? {
        all.extend(accounts::devices_of(tx, account)?);
    }
    Ok(all)
}

/// This account's role in a topic.
pub(crate) fn my_role(tx: &mut Tx<'_>, topic: TopicId) -> Result<Option<Role>, Fail> {
    let account = tx.account()?;
    Ok(state(tx, topic)?.and_then(|s| s.now().members.get(&account).map(|m| m.role)))
}

/// All chains of a topic.
pub(crate) fn chains(
    read: &dyn Read,
    topic: TopicId,
) -> Result<Vec<(DeviceId, Chain)>, StorageError> {
    let rows: Vec<(Vec<u8>, Chain)> =
        read.scan_typed(&CHAINS, &KeyRange::prefix(&topic.0), false, 4_096)?;
    Ok(rows.into_iter().filter_map(|(k, c)| Some((DeviceId(*k.last_chunk::<32>()?), c))).collect())
}
