//! Devices that became known late: a joiner's, a contact's or one's own new one.
//!
//! What this device wrote before it knew of them lies at relays under keys that they may not
//! have, and whoever welcomed them may not have held it. Where the others lack it too, nobody
//! else can be counted on: it goes to their inboxes, newest last.

use std::collections::BTreeSet;

use teahouse_protocols::envelope::Envelope;
use teahouse_protocols::ids::{AccountId, DeviceId, EpochId, TopicId};
use teahouse_protocols::inbox::InboxItem;

use crate::engine::{accounts, cursors, inbox, letters, topics};
use crate::features::contacts;
use crate::store::{KeyRange, ReadExt, StorageError};
use crate::tables::{CHAINS, Chain, OUTBOX, chain_key};
use crate::tx::{Fail, Tx, capped};

/// Devices of one account that are sent something; further ones ask when they connect.
const MOST_DEVICES: usize = 8;
/// The outbox has room for this only while it is no fuller: what must leave goes first.
const OUTBOX_SHARE: usize = inbox::MAX_OUTBOX / 4;

/// A device can be sealed to from now on: it gets what nobody else is sure to have.
pub(crate) fn reachable(tx: &mut Tx<'_>, device: DeviceId) -> Result<(), StorageError> {
    for topic in accounts::topic_ids(tx)? {
        if topics::is_member(tx, topic, device)? {
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

/// One message at most: the newest of the own chain that not everybody else has, with the
/// keys that the device may have.
fn hand_over(tx: &mut Tx<'_>, topic: TopicId, to: DeviceId) -> Result<(), StorageError> {
    let me = tx.me()?;
    // Who is connected compares what both hold.
    if to == me.device || tx.mem.peers.contains_key(&to) || contacts::is_quiet(tx, topic)? {
        return Ok(());
    }
    let chain: Option<Chain> = tx.typed(&CHAINS, &chain_key(topic, me.device))?;
    let high = chain.map_or(0, |c| c.high);
    if high == 0
        || accounts::bundle_of(tx, to)?.is_none()
        || tx.count(&OUTBOX, &KeyRange::all(), OUTBOX_SHARE)? >= OUTBOX_SHARE
    {
        return Ok(());
    }
    // Devices of its own account are in no better place.
    let theirs = accounts::account_of(tx, to)?;
    let mut floor = None;
    for device in topics::devices(tx, topic)? {
        if device == me.device || accounts::account_of(tx, device)? == theirs {
            continue;
        }
        let held = cursors::acked(&tx.stage, topic, device, me.device)?;
        floor = Some(floor.map_or(held, |floor: u64| floor.min(held)));
    }
    let held = cursors::acked(&tx.stage, topic, to, me.device)?;
    let newest = high.saturating_sub(letters::MAX_RUN as u64);
    let run = letters::newest(
        &tx.stage,
        topic,
        me.device,
        floor.unwrap_or(0).max(held).max(newest) + 1,
        high,
    )?;
    if run.is_empty() {
        return Ok(());
    }
    let epochs: BTreeSet<EpochId> = run
        .iter()
        .filter_map(|l| Envelope::from_bytes(&l.envelope).ok()?.header.map(|h| h.epoch))
        .collect();
    let mut items = Vec::new();
    for epoch in epochs {
        if let Some(head) = topics::head(tx, epoch)?
            && topics::may_have(tx, topic, to, head.get())?
            && let Some(parcel) = topics::parcel_for(tx, epoch, to)?
        {
            items.push(InboxItem::Key(parcel));
        }
    }
    items.push(InboxItem::Letters(capped(run)));
    // Where this fails it waits for a connection.
    if let Err(Fail::Storage(e)) = inbox::send(tx, to, items) {
        return Err(e);
    }
    Ok(())
}
