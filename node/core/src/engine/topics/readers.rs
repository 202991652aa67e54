//! Who reads a topic without being a member of it.
//!
//! In a chat whoever reads is a member, and members know each other. A Moments topic has one
//! member, its author; whom the author lets read is known to the author's devices alone. So
//!
//! - at the author, the readers are those that the feature names (`features::moments`); they
//!   learn of the topic, and get its keys, by a welcome to each of their devices;
//! - at a reader, the readers are the reader's own account: its devices share what they have;
//! - a feed is public: it has one epoch that whoever knows the topic has, and its followers
//!   ask for it by a service (`features::feeds`). Among the devices of a follower it is synced
//!   like anything else; nobody else is told that it is followed.
//! - an epoch's head names the author's devices only. Whom else it was sealed to is known to
//!   the device that made it alone ([`SEALED_TO`]): nobody else of the author's gives it to
//!   readers, and the maker notes whoever it gives it to (a reader's own devices share it). So
//!   each of the author's devices seals under the newest epoch that it made itself, or makes
//!   another.
//! - where that was in place of one that somebody has who may read no more, readers are told
//!   ([`RENEWED`], `moments::renew`): what they say about older posts is sealed under it.

use std::collections::BTreeSet;

use teahouse_protocols::epoch::{EpochHead, EpochSecret, Parcel, public_epoch};
use teahouse_protocols::ids::{AccountId, DeviceId, EpochId, TopicId};
use teahouse_protocols::inbox::InboxItem;
use teahouse_protocols::membership::{History, TopicKind};

use super::rekey::is_renewal_due;
use super::{is_member, members, row, welcome};
use crate::engine::{accounts, inbox, latecomers};
use crate::features::{feeds, moments};
use crate::store::{Key, KeyRange, Read, ReadExt, StorageError};
use crate::tables::{
    CHAINS, Chain, EPOCHS, Epoch, OUTBOX, READERS_TOLD, REKEY_DUE, RENEWED, SEALED_TO,
    TOPIC_EPOCHS, chain_key, pair_key,
};
use crate::tx::{Fail, Tx, best_effort};

/// Most devices of readers of one topic.
const MAX_TOLD: usize = 65_536;

/// The author of a topic that is read by others than its members, if it is one.
pub(crate) fn author(tx: &mut Tx<'_>, topic: TopicId) -> Result<Option<AccountId>, StorageError> {
    if row(tx, topic)?.is_none_or(|r| r.kind != TopicKind::Moments) {
        return Ok(None);
    }
    Ok(members(tx, topic)?.first().copied())
}

/// Whether whoever knows the topic may read it.
pub(crate) fn is_public(tx: &Tx<'_>, topic: TopicId) -> Result<bool, StorageError> {
    Ok(row(tx, topic)?.is_some_and(|r| r.kind == TopicKind::Feed))
}

/// Whether a topic is public, and none that this account publishes in: nobody is told that it
/// is read here.
pub(crate) fn is_followed(tx: &mut Tx<'_>, topic: TopicId) -> Result<bool, StorageError> {
    let Some(own) = tx.me()?.account else { return Ok(false) };
    Ok(is_public(tx, topic)? && !members(tx, topic)?.contains(&own))
}

/// Takes in the one epoch of a public topic.
pub(crate) fn open_public(tx: &mut Tx<'_>, topic: TopicId) -> Result<(), StorageError> {
    let id = public_epoch(topic);
    let secret = *EpochSecret::public(topic).to_bytes();
    let epoch = Epoch { topic, head: Vec::new(), secret, received: tx.now };
    tx.put(&EPOCHS, &id.0, &epoch)?;
    let key = Key::new().fixed(&topic.0).u64(1).fixed(&id.0).into_bytes();
    tx.put_raw(&TOPIC_EPOCHS, &key, Vec::new())
}

/// Accounts that read a topic without being members, as far as it is known here.
pub(crate) fn readers(
    tx: &mut Tx<'_>,
    topic: TopicId,
) -> Result<BTreeSet<AccountId>, StorageError> {
    let Some(own) = tx.me()?.account else { return Ok(BTreeSet::new()) };
    if is_public(tx, topic)? && feeds::follows(tx, topic)? {
        return Ok(BTreeSet::from([own]));
    }
    let Some(author) = author(tx, topic)? else { return Ok(BTreeSet::new()) };
    if author == own { moments::audience(tx, topic) } else { Ok(BTreeSet::from([own])) }
}

/// Whether an account is among the [`readers`].
fn reads(tx: &mut Tx<'_>, topic: TopicId, account: AccountId) -> Result<bool, StorageError> {
    let Some(own) = tx.me()?.account else { return Ok(false) };
    if account == own && is_public(tx, topic)? {
        return feeds::follows(tx, topic);
    }
    let Some(author) = author(tx, topic)? else { return Ok(false) };
    if author == own { moments::shows(tx, topic, account) } else { Ok(account == own) }
}

/// Whether a device may have what is in a topic, and is told of it: it is a member's or a
/// reader's. Who publishes a feed that is followed here has all of it, and asks nobody.
pub(crate) fn may_read(
    tx: &mut Tx<'_>,
    topic: TopicId,
    device: DeviceId,
) -> Result<bool, StorageError> {
    // Whoever publishes a feed is not told by this that it is followed here.
    let followed = is_followed(tx, topic)?;
    if !followed && is_member(tx, topic, device)? {
        return Ok(true);
    }
    let Some(account) = accounts::account_of(tx, device)? else { return Ok(false) };
    Ok(reads(tx, topic, account)? && accounts::is_active(tx, device)?)
}

/// Whether this account is a member of a topic, or reads it.
pub(crate) fn takes_part(tx: &mut Tx<'_>, topic: TopicId) -> Result<bool, StorageError> {
    let Some(own) = tx.me()?.account else { return Ok(false) };
    Ok(members(tx, topic)?.contains(&own) || reads(tx, topic, own)?)
}

/// Devices that an epoch was sealed to when it was made. Of a topic with readers this is known
/// to the device that made it alone.
pub(super) fn sealed_to(
    read: &dyn Read,
    kind: TopicKind,
    epoch: EpochId,
    head: &EpochHead,
) -> Result<Option<Vec<DeviceId>>, StorageError> {
    if kind == TopicKind::Moments {
        return read.get_typed(&SEALED_TO, &epoch.0);
    }
    Ok(Some(head.recipients.to_vec()))
}

/// Whether a device of a reader has been told of the topic.
pub(super) fn told(tx: &Tx<'_>, topic: TopicId, device: DeviceId) -> Result<bool, StorageError> {
    tx.contains(&READERS_TOLD, &pair_key(&topic.0, &device.0))
}

/// Gives a new epoch's parcels out: a key to whoever knows the topic, a welcome with all keys
/// to readers who do not.
pub(super) fn give(tx: &mut Tx<'_>, topic: TopicId, parcels: Vec<Parcel>) -> Result<(), Fail> {
    let account = tx.account()?;
    let pack = InboxItem::Account(accounts::pack(tx, account, &[])?);
    for parcel in parcels {
        let to = DeviceId(parcel.to);
        inbox::send(tx, to, vec![pack.clone(), InboxItem::Key(parcel)])?;
    }
    tell(tx, topic)
}

/// Welcomes the devices of readers that were not told of the topic yet.
pub(super) fn tell(tx: &mut Tx<'_>, topic: TopicId) -> Result<(), Fail> {
    let account = tx.account()?;
    if author(tx, topic)? != Some(account) {
        return Ok(());
    }
    for reader in readers(tx, topic)? {
        for device in accounts::devices_of(tx, reader)? {
            if told(tx, topic, device)? || accounts::bundle_of(tx, device)?.is_none() {
                continue;
            }
            let welcome = welcome(tx, topic, device, History::All)?;
            let pack = InboxItem::Account(accounts::pack(tx, account, &[])?);
            let items = vec![pack, InboxItem::Welcome(Box::new(welcome))];
            inbox::send(tx, device, items)?;
            tx.put_raw(&READERS_TOLD, &pair_key(&topic.0, &device.0), Vec::new())?;
            latecomers::welcomed(tx, topic, device)?;
        }
    }
    Ok(())
}

/// Readers or their devices have changed: whoever may read by now what this device wrote is
/// told of it. So is who may read what a removed device of this account wrote: nobody else gives
/// its keys any more, and readers that it had not told yet would never know.
pub(crate) fn tell_all(tx: &mut Tx<'_>) -> Result<(), Fail> {
    let me = tx.me()?;
    let Some(own) = me.account else { return Ok(()) };
    for topic in accounts::topic_ids(tx)? {
        if author(tx, topic)? != Some(own) {
            continue;
        }
        forget_told(tx, topic)?;
        let wrote = || tx.typed::<Chain>(&CHAINS, &chain_key(topic, me.device));
        let due = is_renewal_due(tx, topic)? || tx.contains(&RENEWED, &topic.0)?;
        if due || wrote()?.is_some_and(|c| c.high > 0) {
            // Who may read no more can't read what is sealed from now on, words on old posts
            // among it. Where this fails, the next post sees to it.
            best_effort(moments::renew(tx, topic))?;
        }
    }
    Ok(())
}

/// Who is out and comes again is welcomed again: there are keys in between.
fn forget_told(tx: &mut Tx<'_>, topic: TopicId) -> Result<(), StorageError> {
    for (key, _) in tx.scan(&READERS_TOLD, &KeyRange::prefix(&topic.0), false, MAX_TOLD)? {
        let Some(device) = key.last_chunk::<32>().map(|d| DeviceId(*d)) else { continue };
        let account = accounts::account_of(tx, device)?;
        if !account.map_or(Ok(false), |account| reads(tx, topic, account))? {
            tx.del(&READERS_TOLD, &key)?;
        }
    }
    Ok(())
}

/// An account may read this account's topics no more: this device decided so. It sees to it
/// that none of them is sealed under a key that the account may have, whoever wrote there.
pub(crate) fn shut_out(tx: &mut Tx<'_>, account: AccountId) -> Result<(), StorageError> {
    let Some(own) = tx.me()?.account else { return Ok(()) };
    for topic in accounts::topic_ids(tx)? {
        if author(tx, topic)? == Some(own) && moments::allows(tx, topic, account)? {
            tx.put_raw(&REKEY_DUE, &pair_key(&topic.0, &account.0), Vec::new())?;
        }
    }
    tx.mem.readers_due = true;
    Ok(())
}

/// A reader's device lacks a topic of this account's that it may have been told of: a relay may
/// have lost that. It is welcomed again, once a connection.
pub(crate) fn tell_anew(
    tx: &mut Tx<'_>,
    topic: TopicId,
    device: DeviceId,
) -> Result<(), StorageError> {
    let own = tx.me()?.account;
    if own.is_none() || author(tx, topic)? != own {
        return Ok(());
    }
    let Some(bundle) = accounts::bundle_of(tx, device)? else { return Ok(()) };
    let Some(peer) = tx.mem.peers.get_mut(&device) else { return Ok(()) };
    if peer.welcomed.insert(topic, bundle.counter) != Some(bundle.counter) {
        tx.del(&READERS_TOLD, &pair_key(&topic.0, &device.0))?;
        tx.mem.readers_due = true;
    }
    Ok(())
}

/// An account takes part again, which may have refused to be told of this account's topics
/// meanwhile.
pub(crate) fn tell_again(tx: &mut Tx<'_>, account: AccountId) -> Result<(), StorageError> {
    let Some(own) = tx.me()?.account else { return Ok(()) };
    // Whoever says so again and again fills no outbox with welcomes.
    if tx.count(&OUTBOX, &KeyRange::all(), inbox::MAX_OUTBOX / 4)? >= inbox::MAX_OUTBOX / 4 {
        return Ok(());
    }
    let devices = accounts::devices_of(tx, account)?;
    for topic in accounts::topic_ids(tx)? {
        if author(tx, topic)? == Some(own) {
            for device in &devices {
                tx.del(&READERS_TOLD, &pair_key(&topic.0, &device.0))?;
            }
        }
    }
    tx.mem.readers_due = true;
    Ok(())
}

/// Notes an epoch made just now: whether readers are to be told that older ones are `outdated`.
pub(super) fn note_renewal(
    tx: &mut Tx<'_>,
    topic: TopicId,
    epoch: EpochId,
    outdated: bool,
) -> Result<(), StorageError> {
    // One made only because somebody came replaces it: whoever was not told yet is told of that.
    let untold = tx.contains(&RENEWED, &topic.0)?;
    if author(tx, topic)?.is_some() && (outdated || untold) {
        tx.put(&RENEWED, &topic.0, &epoch)?;
    }
    Ok(())
}

/// Whether readers were not told yet of the epoch that is sealed under now; they are from here
/// on.
pub(crate) fn take_renewed(
    tx: &mut Tx<'_>,
    topic: TopicId,
    epoch: EpochId,
) -> Result<bool, StorageError> {
    let due = tx.typed::<EpochId>(&RENEWED, &topic.0)? == Some(epoch);
    if due {
        tx.del(&RENEWED, &topic.0)?;
    }
    Ok(due)
}

/// Notes that a device has an epoch by now, where it matters.
pub(super) fn note_sealed(
    tx: &mut Tx<'_>,
    epoch: EpochId,
    device: DeviceId,
) -> Result<(), StorageError> {
    if let Some(mut to) = tx.typed::<Vec<DeviceId>>(&SEALED_TO, &epoch.0)?
        && !to.contains(&device)
    {
        to.push(device);
        tx.put(&SEALED_TO, &epoch.0, &to)?;
    }
    Ok(())
}
