//! Devices that became known late: a joiner's, a contact's or one's own new one; and those that
//! may wait for a key whose maker is gone.
//!
//! What this device wrote before it knew of them lies at relays under keys that they may not
//! have, and whoever welcomed them may not have held it. Where the others lack it too, nobody
//! else can be counted on: it goes to their inboxes, newest last.

use std::collections::BTreeSet;

use teahouse_protocols::envelope::Envelope;
use teahouse_protocols::ids::{AccountId, DeviceId, EpochId, TopicId};
use teahouse_protocols::inbox::{InboxItem, Letter};

use crate::engine::{accounts, cursors, inbox, letters, topics};
use crate::features::contacts;
use crate::store::{KeyRange, ReadExt, StorageError};
use crate::tables::{CHAINS, Chain, OUTBOX, chain_key};
use crate::tx::{Fail, Tx, best_effort, capped};

/// Devices of one account that are sent something; further ones ask when they connect.
const MOST_DEVICES: usize = 8;
/// Epochs looked at for makers who are gone, the newest.
const MOST_EPOCHS: usize = 64;
/// Messages for one device that lacks keys of a maker who is gone.
const MOST_RUNS: usize = 8;
/// Keys in one message: with the largest heads there is room for the letters as well.
const MOST_KEYS: usize = 7;
/// The outbox has room for this only while it is no fuller: what must leave goes first.
const OUTBOX_SHARE: usize = inbox::MAX_OUTBOX / 4;

/// A device can be sealed to from now on: it gets what nobody else is sure to have.
pub(crate) fn reachable(tx: &mut Tx<'_>, device: DeviceId) -> Result<(), StorageError> {
    for topic in accounts::topic_ids(tx)? {
        if topics::may_read(tx, topic, device)? {
            hand_over(tx, topic, device)?;
        }
    }
    Ok(())
}

/// An account came into a topic by somebody else's word.
pub(crate) fn joined(
    tx: &mut Tx<'_>,
    topic: TopicId,
    account: AccountId,
) -> Result<(), StorageError> {
    for device in accounts::devices_of(tx, account)?.into_iter().take(MOST_DEVICES) {
        hand_over(tx, topic, device)?;
    }
    Ok(())
}

/// A reader's device was welcomed. What this device wrote before, relays may not have for it:
/// it went to those who could read it then. Sent even to a device that is connected: it may go
/// before the two have compared what they hold.
pub(crate) fn welcomed(tx: &mut Tx<'_>, topic: TopicId, to: DeviceId) -> Result<(), StorageError> {
    if !has_room(tx)? {
        return Ok(());
    }
    let me = tx.me()?.device;
    let held = cursors::acked(&tx.stage, topic, to, me)?;
    let run = newest_own(tx, topic, held)?;
    if run.is_empty() { Ok(()) } else { best_effort(send(tx, topic, to, run)) }
}

/// Devices are out of a topic, or of their accounts. Keys that they made may never have left
/// them: whoever has not acknowledged what this device wrote under those gets them with it.
pub(crate) fn makers_gone(
    tx: &mut Tx<'_>,
    topic: TopicId,
    makers: &BTreeSet<DeviceId>,
) -> Result<(), StorageError> {
    if makers.is_empty() {
        return Ok(());
    }
    let mut theirs = BTreeSet::new();
    for epoch in topics::epochs(&tx.stage, topic, MOST_EPOCHS)? {
        if topics::head(tx, epoch)?.is_some_and(|head| makers.contains(&head.get().author)) {
            theirs.insert(epoch);
        }
    }
    if theirs.is_empty() {
        return Ok(());
    }
    let me = tx.me()?.device;
    let chain: Option<Chain> = tx.typed(&CHAINS, &chain_key(topic, me))?;
    let high = chain.map_or(0, |c| c.high);
    for to in topics::devices(tx, topic)? {
        if !is_owed(tx, topic, to)? {
            continue;
        }
        // From the first that they lack: what follows waits for it.
        let mut next = cursors::acked(&tx.stage, topic, to, me)? + 1;
        for _ in 0..MOST_RUNS {
            let run = letters::run(&tx.stage, topic, me, next, high)?;
            if run.is_empty() {
                break;
            }
            next += run.len() as u64;
            if !epochs_of(&run).is_disjoint(&theirs) {
                best_effort(send(tx, topic, to, run))?;
            }
        }
    }
    Ok(())
}

/// One message at most: the newest of the own chain that not everybody else has, with the
/// keys that the device may have.
fn hand_over(tx: &mut Tx<'_>, topic: TopicId, to: DeviceId) -> Result<(), StorageError> {
    if !is_owed(tx, topic, to)? {
        return Ok(());
    }
    let me = tx.me()?.device;
    // Devices of its own account are in no better place.
    let theirs = accounts::account_of(tx, to)?;
    let mut floor = None;
    for device in topics::devices(tx, topic)? {
        if device == me || accounts::account_of(tx, device)? == theirs {
            continue;
        }
        let held = cursors::acked(&tx.stage, topic, device, me)?;
        floor = Some(floor.map_or(held, |floor: u64| floor.min(held)));
    }
    let held = cursors::acked(&tx.stage, topic, to, me)?;
    let run = newest_own(tx, topic, floor.unwrap_or(0).max(held))?;
    if run.is_empty() { Ok(()) } else { best_effort(send(tx, topic, to, run)) }
}

/// Whether anything may be sent to a device now.
fn is_owed(tx: &mut Tx<'_>, topic: TopicId, to: DeviceId) -> Result<bool, StorageError> {
    // Who is connected compares what both hold.
    Ok(to != tx.me()?.device
        && !tx.mem.peers.contains_key(&to)
        && !contacts::is_quiet(tx, topic)?
        && accounts::bundle_of(tx, to)?.is_some()
        && has_room(tx)?)
}

fn has_room(tx: &Tx<'_>) -> Result<bool, StorageError> {
    Ok(tx.count(&OUTBOX, &KeyRange::all(), OUTBOX_SHARE)? < OUTBOX_SHARE)
}

/// The newest letters of the own chain after `held` that fit into one message.
fn newest_own(tx: &mut Tx<'_>, topic: TopicId, held: u64) -> Result<Vec<Letter>, StorageError> {
    let me = tx.me()?.device;
    let chain: Option<Chain> = tx.typed(&CHAINS, &chain_key(topic, me))?;
    let high = chain.map_or(0, |c| c.high);
    let oldest = high.saturating_sub(letters::MAX_RUN as u64);
    if high == 0 {
        return Ok(Vec::new());
    }
    letters::newest(&tx.stage, topic, me, held.max(oldest) + 1, high)
}

fn epochs_of(run: &[Letter]) -> BTreeSet<EpochId> {
    let header = |l: &Letter| Envelope::from_bytes(&l.envelope).ok()?.header;
    run.iter().filter_map(|l| header(l).map(|h| h.epoch)).collect()
}

/// Letters for one device's inbox, with the keys to them that it may have.
pub(crate) fn send(
    tx: &mut Tx<'_>,
    topic: TopicId,
    to: DeviceId,
    run: Vec<Letter>,
) -> Result<(), Fail> {
    // A key by somebody who is out is taken for what waits for it only: after the letters.
    let (mut items, mut last) = (Vec::new(), Vec::new());
    for epoch in epochs_of(&run).into_iter().take(MOST_KEYS) {
        if let Some(head) = topics::head(tx, epoch)?
            && let Some(parcel) = topics::key_for(tx, topic, epoch, to)?
        {
            let maker_is_in = topics::is_member(tx, topic, head.get().author)?;
            let list = if maker_is_in { &mut items } else { &mut last };
            list.push(InboxItem::Key(parcel));
        }
    }
    items.push(InboxItem::Letters(capped(run)));
    items.append(&mut last);
    inbox::send(tx, to, items)
}
