//! Devices that became known late: a joiner's, a contact's or one's own new one.
//!
//! What this device wrote before it knew of them lies at relays under keys that they may not
//! have, and whoever welcomed them may not have held it. Where the others lack it too, nobody
//! else can be counted on: it goes to their inboxes, newest last.

use teahouse_protocols::ids::{AccountId, DeviceId, TopicId};
use teahouse_protocols::inbox::InboxItem;

use crate::engine::{accounts, cursors, inbox, letters, topics};
use crate::features::contacts;
use crate::store::StorageError;
use crate::tables::{CHAINS, Chain, chain_key};
use crate::tx::{Fail, Tx, capped};

/// Most envelopes handed over to one device in one topic; older ones come by sync.
const NEWEST: u64 = letters::MAX_RUN as u64;

/// A device can be sealed to from now on: it gets what nobody else is sure to have.
pub(crate) fn reachable(tx: &mut Tx<'_>, device: DeviceId) -> Result<(), StorageError> {
    for topic in accounts::topic_ids(tx)? {
        if topics::is_member(tx, topic, device)? {
            hand_over(tx, topic, device)?;
        }
    }
    Ok(())
}

/// An account came into a topic.
pub(crate) fn joined(
    tx: &mut Tx<'_>,
    topic: TopicId,
    account: AccountId,
) -> Result<(), StorageError> {
    for device in accounts::devices_of(tx, account)? {
        hand_over(tx, topic, device)?;
    }
    Ok(())
}

fn hand_over(tx: &mut Tx<'_>, topic: TopicId, to: DeviceId) -> Result<(), StorageError> {
    let Ok(me) = tx.me() else { return Ok(()) };
    // Who is connected compares what both hold.
    if to == me.device || tx.mem.peers.contains_key(&to) || contacts::is_quiet(tx, topic)? {
        return Ok(());
    }
    let chain: Option<Chain> = tx.typed(&CHAINS, &chain_key(topic, me.device))?;
    let high = chain.map_or(0, |c| c.high);
    if high == 0 || accounts::bundle_of(tx, to)?.is_none() {
        return Ok(());
    }
    let mut floor = high;
    for device in topics::devices(tx, topic)? {
        if device != to && device != me.device {
            floor = floor.min(cursors::acked(&tx.stage, topic, device, me.device)?);
        }
    }
    let held = cursors::acked(&tx.stage, topic, to, me.device)?;
    let mut next = floor.max(held).max(high.saturating_sub(NEWEST)) + 1;
    while next <= high {
        let run = letters::run(&tx.stage, topic, me.device, next, high)?;
        if run.is_empty() {
            break;
        }
        next += run.len() as u64;
        match inbox::send(tx, to, vec![InboxItem::Letters(capped(run))]) {
            Ok(_) => {}
            Err(Fail::Storage(e)) => return Err(e),
            // With the outbox full it waits for a connection.
            Err(_) => break,
        }
    }
    Ok(())
}
