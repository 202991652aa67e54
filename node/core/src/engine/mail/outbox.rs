//! What is sealed to single devices, on its way to their relays ([`crate::engine::inbox`] puts
//! it into the outbox).

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use teahouse_protocols::account::RelayAddr;
use teahouse_protocols::codec;
use teahouse_protocols::ids::{DeviceId, Millis, RelayId, Tag, TopicId};
use teahouse_protocols::mailbox::{Item, Request, Right};

use super::pump::{LIVE_PATIENCE, Pump};
use super::session::Pending;
use crate::store::{KeyRange, Read, StorageError};
use crate::tables::{DEPOSITS, Deposit, OUTBOX, OutItem, pair_key};
use crate::tx::{Fail, Tx, capped};

/// Rows and bytes of the outbox that are looked at in one go, and when the look goes on.
const LOOK_ROWS: usize = 2_048;
const LOOK_BYTES: usize = 8 * 1024 * 1024;
const LOOK_AGAIN: Millis = 100;

/// A look at the outbox that did not reach its end goes on from here. Volatile.
#[derive(Debug, Default)]
pub(crate) struct Look {
    from: Vec<u8>,
    /// Tags that something earlier is for.
    busy: BTreeSet<(RelayId, Tag)>,
}

/// A copy of a run left the outbox otherwise than to its relay: its device has it, or nobody
/// can open it any longer. To be called once for each row deleted.
pub(crate) fn run_settled(
    tx: &mut Tx<'_>,
    run: (TopicId, RelayId, u64),
) -> Result<(), StorageError> {
    settle_run(tx, run, false)
}

impl Pump<'_, '_> {
    /// What is sealed to single devices, for their relays. In order per tag: what comes later
    /// may build on what came before.
    pub(super) fn outbox(&mut self) -> Result<(), Fail> {
        let now = self.tx.now;
        let mut look = std::mem::take(&mut self.tx.mem.outbox);
        let resumed = !look.from.is_empty();
        let range = if resumed { KeyRange::all().after(&look.from) } else { KeyRange::all() };
        let mut rows: Vec<(Vec<u8>, Waits)> = Vec::new();
        let (mut seen, mut bytes, mut ended) = (0, 0, true);
        let mut damage = None;
        self.tx.visit(&OUTBOX, &range, false, &mut |key, value| {
            if seen == LOOK_ROWS || bytes > LOOK_BYTES {
                ended = false;
                return ControlFlow::Break(());
            }
            seen += 1;
            bytes += value.len();
            look.from.clear();
            look.from.extend_from_slice(key);
            match Waits::read(value) {
                // Without a relay it waits for its device to connect.
                Ok(item) if item.relays.is_empty() => {}
                Ok(item) => rows.push((key.to_vec(), item)),
                Err(e) => damage = Some(e),
            }
            ControlFlow::Continue(())
        })?;
        if let Some(e) = damage {
            return Err(e.into());
        }
        let mut passed = false;
        for (key, item) in rows {
            let patient = item.device.is_some_and(|d| self.tx.mem.peers.contains_key(&d))
                && now < item.made.saturating_add(LIVE_PATIENCE);
            for relay in &item.relays {
                if !look.busy.insert((relay.id, item.tag)) {
                    passed = true;
                    continue;
                }
                if patient {
                    self.wake_at(item.made + LIVE_PATIENCE);
                    continue;
                }
                if let Some(until) = self.session(relay.id).quiet(&item.tag.0, now) {
                    self.wake_at(until);
                    continue;
                }
                let under_way = |p: &Pending| matches!(p, Pending::Out { key: k, .. } if *k == key);
                if self.inflight(relay.id, under_way) {
                    continue;
                }
                if !self.ready(relay) {
                    passed = true;
                    continue;
                }
                let Some(whole) = self.tx.typed::<OutItem>(&OUTBOX, &key)? else { continue };
                let Ok(bytes) = codec::Bytes::try_from(whole.sealed) else { continue };
                let right = item.secret.map_or(Right::None, Right::Invite);
                let items = capped(vec![Item { bytes, delete: None }]);
                self.send(
                    relay,
                    &Request::Deposit { tag: item.tag, items, right },
                    Pending::Out { key: key.clone(), tag: item.tag },
                );
            }
        }
        if !ended {
            self.wake_at(now + LOOK_AGAIN);
            self.tx.mem.outbox = look;
        } else if resumed && passed {
            // The beginning may have come free meanwhile.
            self.wake_at(now + 10 * LOOK_AGAIN);
        }
        Ok(())
    }
}

/// An [`OutItem`] without its sealed bytes, which may be many.
pub(super) struct Waits {
    pub(super) device: Option<DeviceId>,
    pub(super) tag: Tag,
    pub(super) secret: Option<[u8; 16]>,
    pub(super) relays: Vec<RelayAddr>,
    pub(super) made: Millis,
}

impl Waits {
    pub(super) fn read(value: &[u8]) -> Result<Self, StorageError> {
        // The fields of `OutItem`, in its order.
        #[derive(serde::Deserialize)]
        struct Borrowed<'a> {
            device: Option<DeviceId>,
            tag: Tag,
            secret: Option<[u8; 16]>,
            #[serde(borrow)]
            _sealed: &'a [u8],
            relays: Vec<RelayAddr>,
            made: Millis,
            _run: Option<(TopicId, RelayId, u64)>,
        }
        let row: Borrowed<'_> = postcard::from_bytes(value)
            .map_err(|_| StorageError::corrupt(OUTBOX.name, "undecodable value"))?;
        let Borrowed { device, tag, secret, relays, made, .. } = row;
        Ok(Self { device, tag, secret, relays, made })
    }
}

/// A relay stored an outbox item. One durable copy is enough: the device fetches at each
/// of its relays.
pub(super) fn stored(tx: &mut Tx<'_>, relay: RelayId, key: &[u8]) -> Result<(), Fail> {
    let Some(mut item) = tx.typed::<OutItem>(&OUTBOX, key)? else { return Ok(()) };
    item.relays.retain(|r| r.id != relay);
    if item.relays.is_empty() || item.run.is_some() {
        tx.del(&OUTBOX, key)?;
    } else {
        tx.put(&OUTBOX, key, &item)?;
    }
    match item.run {
        Some(run) => Ok(settle_run(tx, run, true)?),
        None => Ok(()),
    }
}

fn settle_run(
    tx: &mut Tx<'_>,
    (topic, relay, last): (TopicId, RelayId, u64),
    at_relay: bool,
) -> Result<(), StorageError> {
    let key = pair_key(&topic.0, &relay.0);
    if let Some(mut deposit) = tx.typed::<Deposit>(&DEPOSITS, &key)? {
        deposit.copy_settled(last, at_relay);
        tx.put(&DEPOSITS, &key, &deposit)?;
        tx.mem.mail_topics.insert(topic);
    }
    Ok(())
}
