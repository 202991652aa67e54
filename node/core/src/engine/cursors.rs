//! Acknowledgements: what this device says it holds, and what others' words prove.

use std::collections::BTreeMap;

use teahouse_protocols::codec;
use teahouse_protocols::cursor::{Ack, Cursor, MAX_ACKS};
use teahouse_protocols::envelope::Envelope;
use teahouse_protocols::ids::{AccountId, DeviceId, TopicId};
use teahouse_protocols::sign::Signed;
use teahouse_protocols::sync::Frame;

use crate::engine::{accounts, letters, topics};
use crate::store::{Key, KeyRange, Read, ReadExt, StorageError};
use crate::tables::{ACKS, AckRow, DEPOSITS, Deposit, OWN_CURSORS, OwnCursor};
use crate::tx::{Effect, Fail, Tx, capped};
use crate::view::Delivery;

/// Publishes what changed in the topics that this batch stored something in. The cursor
/// leaves after the batch is durable, like every output: it claims what is.
pub(crate) fn publish(tx: &mut Tx<'_>) -> Result<(), Fail> {
    let due = std::mem::take(&mut tx.mem.acks_due);
    let me = tx.me()?;
    let Some(account) = me.account else { return Ok(()) };
    for topic in due {
        let mut own = tx.typed::<OwnCursor>(&OWN_CURSORS, &topic.0)?.unwrap_or_default();
        let mut published: BTreeMap<DeviceId, u64> = own.published.iter().copied().collect();
        let mut acks = Vec::new();
        for (device, chain) in topics::chains(&tx.stage, topic)? {
            let known = published.get(&device).copied().unwrap_or(0);
            if device == me.device || chain.high <= known || chain.high < chain.low {
                continue;
            }
            published.insert(device, chain.high);
            acks.push(Ack { device, seq: chain.high, id: chain.head });
        }
        acks.truncate(MAX_ACKS);
        if acks.is_empty() {
            continue;
        }
        own.counter += 1;
        own.published = published.into_iter().collect();
        tx.put(&OWN_CURSORS, &topic.0, &own)?;
        tx.mem.mail_topics.insert(topic);
        let signed = sign(tx, account, topic, own.counter, acks)?;
        let Ok(bytes) = codec::Bytes::try_from(signed.bytes().to_vec()) else { continue };
        let audience = topics::devices(tx, topic)?;
        let connected: Vec<DeviceId> =
            tx.mem.peers.keys().filter(|d| audience.contains(*d)).copied().collect();
        for device in connected {
            tx.out.push(Effect::Frame(device, Frame::Cursor(bytes.clone())));
        }
    }
    Ok(())
}

/// Signs a cursor.
pub(crate) fn sign(
    tx: &mut Tx<'_>,
    account: AccountId,
    topic: TopicId,
    counter: u64,
    acks: Vec<Ack>,
) -> Result<Signed<Cursor>, Fail> {
    let me = tx.me()?;
    let mut acks = acks;
    if cfg!(sim_bug = "cursor_overclaims") {
        for ack in &mut acks {
            ack.seq += 1;
        }
    }
    let cursor = Cursor {
        version: 1,
        topic,
        account,
        device: me.device,
        counter,
        acks: capped(acks),
        read: codec::List::default(),
    };
    Ok(Signed::new(cursor, &me.key))
}

/// Takes a cursor in. Anybody may pass it on: its signature speaks for itself.
pub(crate) fn learn(tx: &mut Tx<'_>, bytes: &[u8]) -> Result<(), Fail> {
    let signed = Signed::<Cursor>::from_bytes(bytes).map_err(Fail::peer)?;
    let cursor = signed.get();
    if accounts::account_of(tx, cursor.device)? != Some(cursor.account) {
        return Err(Fail::peer("a cursor by a device that is not its account's"));
    }
    if !topics::is_member(tx, cursor.topic, cursor.device)? {
        return Err(Fail::peer("a cursor by a device that is no member's"));
    }
    let me = tx.me()?;
    for ack in &cursor.acks {
        // An acknowledgement of a branch that is not ours proves nothing about ours.
        match letters::log_row(&tx.stage, cursor.topic, ack.device, ack.seq)? {
            Some(row) => {
                let held = Envelope::from_bytes(&row.envelope).map_err(Fail::peer)?;
                if held.id() != ack.id {
                    continue;
                }
            }
            // Nobody can hold what this device has not written.
            None if ack.device == me.device && !cfg!(sim_bug = "status_overclaims") => continue,
            None => {}
        }
        let key = ack_key(cursor.topic, cursor.device, ack.device);
        let mut row = tx.typed::<AckRow>(&ACKS, &key)?.unwrap_or(AckRow {
            account: cursor.account,
            seq: 0,
            read: 0,
        });
        if ack.seq > row.seq {
            row.seq = ack.seq;
            tx.put(&ACKS, &key, &row)?;
            if ack.device == me.device {
                tx.mem.mail_topics.insert(cursor.topic);
            }
        }
    }
    Ok(())
}

/// What a device acknowledged of a chain.
pub(crate) fn acked(
    read: &dyn Read,
    topic: TopicId,
    by: DeviceId,
    chain: DeviceId,
) -> Result<u64, StorageError> {
    let row: Option<AckRow> = read.get_typed(&ACKS, &ack_key(topic, by, chain))?;
    Ok(row.map_or(0, |r| r.seq))
}

/// What is proved about message `seq` of `device`, one of this account's.
pub(crate) fn delivery(
    read: &dyn Read,
    topic: TopicId,
    own: AccountId,
    members: &[AccountId],
    device: DeviceId,
    seq: u64,
) -> Result<Delivery, StorageError> {
    let mut delivered = std::collections::BTreeSet::new();
    let mut seen = std::collections::BTreeSet::new();
    let rows = read.scan(&ACKS, &KeyRange::prefix(&topic.0), false, 65_536)?;
    for (key, value) in rows {
        if key.last_chunk::<32>() != Some(&device.0) {
            continue;
        }
        let row: AckRow = crate::store::decode(&ACKS, &value)?;
        if row.account == own || !members.contains(&row.account) {
            continue;
        }
        if row.seq >= seq || cfg!(sim_bug = "delivered_without_ack") {
            delivered.insert(row.account);
        }
        if row.read >= seq {
            seen.insert(row.account);
        }
    }
    let deposits: Vec<(Vec<u8>, Deposit)> =
        read.scan_typed(&DEPOSITS, &KeyRange::prefix(&topic.0), false, 64)?;
    let meant = deposits.iter().filter(|(_, d)| d.from < seq);
    let (mut relays, mut relayed) = (0, 0);
    for (_, d) in meant {
        relays += 1;
        relayed += u32::from(d.upto >= seq);
    }
    Ok(Delivery {
        relayed,
        relays,
        delivered: delivered.len() as u32,
        recipients: members.iter().filter(|m| **m != own).count() as u32,
        read: seen.len() as u32,
    })
}

fn ack_key(topic: TopicId, by: DeviceId, chain: DeviceId) -> Vec<u8> {
    Key::new().fixed(&topic.0).fixed(&by.0).fixed(&chain.0).into_bytes()
}
