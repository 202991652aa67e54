//! What this device acknowledges, for authors that are not connected.

use std::collections::BTreeMap;

use teahouse_protocols::account::RelayAddr;
use teahouse_protocols::codec;
use teahouse_protocols::cursor::MAX_ACKS;
use teahouse_protocols::epoch::week_of;
use teahouse_protocols::ids::{DeviceId, Millis, RelayId, Tag, TopicId};
use teahouse_protocols::inbox::InboxItem;
use teahouse_protocols::mailbox::{self, Item, Request, Right, TopicMail};

use super::pump::Pump;
use super::session::Pending;
use crate::engine::{accounts, cursors, inbox, topics};
use crate::features::contacts;
use crate::tables::{OWN_CURSORS, OwnCursor};
use crate::tx::{Fail, Tx, capped};

/// How long cursors are collected before they are mailed.
const CURSOR_PATIENCE: Millis = 2_000;

impl Pump<'_, '_> {
    /// Mails what this device acknowledges to authors that are not connected.
    pub(super) fn cursor(
        &mut self,
        topic: TopicId,
        targets: &BTreeMap<RelayId, (RelayAddr, Vec<DeviceId>)>,
    ) -> Result<bool, Fail> {
        // What was published before a block stays here, too.
        if contacts::is_quiet(self.tx, topic)? {
            return Ok(false);
        }
        let Some(own) = self.tx.typed::<OwnCursor>(&OWN_CURSORS, &topic.0)? else {
            return Ok(false);
        };
        let mailed: BTreeMap<DeviceId, u64> = own.mailed.iter().copied().collect();
        let news: Vec<(DeviceId, u64)> = own
            .published
            .iter()
            .filter(|(d, seq)| mailed.get(d).copied().unwrap_or(0) < *seq)
            .copied()
            .collect();
        let absent: Vec<DeviceId> =
            news.iter().map(|(d, _)| *d).filter(|d| !self.tx.mem.peers.contains_key(d)).collect();
        if absent.is_empty() {
            return Ok(false);
        }
        let now = self.tx.now;
        // One relay at a time, and none that is in trouble while there is another.
        let reaches =
            |(_, devices): &&(RelayAddr, Vec<DeviceId>)| absent.iter().any(|d| devices.contains(d));
        let mut troubled = |relay: RelayId| {
            let session = self.session(relay);
            session.retry_at.max(session.quiet(&topic.0, now).unwrap_or(0)) > now
        };
        let Some((relay, devices)) =
            targets.values().filter(reaches).min_by_key(|(relay, _)| troubled(relay.id))
        else {
            return Ok(false);
        };
        let relay = relay.clone();
        if let Some(until) = self.session(relay.id).quiet(&topic.0, now) {
            self.wake_at(until);
            return Ok(true);
        }
        // Whoever fetches elsewhere is told there; who is connected, too, should it go before it
        // has heard.
        let mut news: Vec<(DeviceId, u64)> =
            news.into_iter().filter(|(d, _)| devices.contains(d)).collect();
        news.sort_by_key(|(d, _)| self.tx.mem.peers.contains_key(d));
        news.truncate(MAX_ACKS);
        // A cursor names them in order.
        news.sort_unstable();
        let due = *self.session(relay.id).cursor_due.entry(topic).or_insert(now + CURSOR_PATIENCE);
        if due > now {
            self.wake_at(due);
            return Ok(true);
        }
        if self.inflight(relay.id, |p| matches!(p, Pending::Cursor { topic: t, .. } if *t == topic))
            || !self.ready(&relay)
        {
            return Ok(true);
        }
        // Whoever can't read what is left under the topic's tag gets it sealed, once it has a
        // prekey.
        let epoch = topics::epoch_for_cursors(self.tx, topic)?;
        let (mut left, mut apart, mut awaited) = (Vec::new(), Vec::new(), false);
        for (device, seq) in news {
            let connected = self.tx.mem.peers.contains_key(&device);
            let named = epoch.as_ref().is_some_and(|e| e.named.contains(&device));
            if named {
                awaited |= !connected;
                left.push((device, seq));
            } else if !connected && accounts::bundle_of(self.tx, device)?.is_some() {
                apart.push((device, seq));
            }
        }
        if !apart.is_empty() {
            self.session(relay.id).cursor_due.remove(&topic);
            // With the outbox full there is no room for them: what leaves it makes room.
            if let Err(Fail::Storage(e)) = cursor_to_inboxes(self.tx, topic, &apart) {
                return Err(e.into());
            }
            return Ok(true);
        }
        if !awaited {
            return Ok(false);
        }
        let Some(secret) = epoch.map(|e| e.secret) else { return Ok(false) };
        let account = self.tx.account()?;
        let acks = cursors::acks(self.tx, topic, &left)?;
        if acks.is_empty() {
            return Ok(false);
        }
        let signed = cursors::sign(self.tx, account, topic, own.counter, acks)?;
        let Ok(bytes) = codec::Bytes::try_from(signed.bytes().to_vec()) else {
            return Ok(false);
        };
        let key = secret.tag_key(week_of(now));
        let tag = Tag(key.verifying_key().to_bytes());
        let sealed = mailbox::seal_topic_mail(&TopicMail::Cursor(bytes), &secret, tag);
        let items =
            vec![Item { bytes: codec::Bytes::try_from(sealed).map_err(Fail::peer)?, delete: None }];
        let right = Right::Member(mailbox::write_proof(&key, relay.id, &items));
        self.session(relay.id).cursor_due.remove(&topic);
        self.send(
            &relay,
            &Request::Deposit { tag, items: capped(items), right },
            Pending::Cursor { topic, acks: left },
        );
        Ok(true)
    }
}

pub(super) fn cursor_to_inboxes(
    tx: &mut Tx<'_>,
    topic: TopicId,
    acks: &[(DeviceId, u64)],
) -> Result<(), Fail> {
    let account = tx.account()?;
    let own = tx.typed::<OwnCursor>(&OWN_CURSORS, &topic.0)?.unwrap_or_default();
    let list = cursors::acks(tx, topic, acks)?;
    let signed = cursors::sign(tx, account, topic, own.counter, list)?;
    let bytes = codec::Bytes::try_from(signed.bytes().to_vec()).map_err(Fail::peer)?;
    for (device, _) in acks {
        inbox::send(tx, *device, vec![InboxItem::Cursor(bytes.clone())])?;
    }
    note_mailed(tx, topic, acks)
}

pub(super) fn note_mailed(
    tx: &mut Tx<'_>,
    topic: TopicId,
    acks: &[(DeviceId, u64)],
) -> Result<(), Fail> {
    let Some(mut own) = tx.typed::<OwnCursor>(&OWN_CURSORS, &topic.0)? else { return Ok(()) };
    let mut mailed: BTreeMap<DeviceId, u64> = own.mailed.iter().copied().collect();
    for (device, seq) in acks {
        let known = mailed.entry(*device).or_default();
        *known = (*known).max(*seq);
    }
    own.mailed = mailed.into_iter().collect();
    Ok(tx.put(&OWN_CURSORS, &topic.0, &own)?)
}
