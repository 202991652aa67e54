//! Asking for feeds, and giving them to whoever asks.
//!
//! Followers ask the providers that they know whenever they meet one; whoever has the feed
//! answers page by page, and remembers for as long as the connection lasts that there is
//! somebody to be told news. Envelopes prove themselves, so that a follower serves as well as
//! the publisher.

use teahouse_protocols::codec;
use teahouse_protocols::feed::{self, FeedFrame, PAGE_BYTES};
use teahouse_protocols::ids::{DeviceId, OpId, TopicId};
use teahouse_protocols::inbox::AccountPack;

use super::tables::Following;
use super::{NAME, following};
use crate::engine::{accounts, letters, sync, topics};
use crate::features::contents;
use crate::features::services::{self, Prepared, Service, Wanted};
use crate::store::{Key, KeyRange, ReadExt, StorageError};
use crate::tables::{Chain, Chosen, RECORDS};
use crate::tx::{Fail, Tx, capped};

pub(super) const SERVICE: Service =
    Service { number: feed::SERVICE, prepare, take, met, tend: |_| Ok(None), wanted };

/// Most connected devices that are told news of one feed.
const MAX_LISTENERS: usize = 1_024;
/// Most feeds of which one device is told news.
const MAX_LISTENED: usize = super::command::MAX_FOLLOWED as usize;
/// Most providers of one feed to be connected to.
const DIALLED: usize = 3;

fn prepare(bytes: &[u8]) -> Option<Prepared> {
    let frame = codec::decode::<FeedFrame>(bytes).ok()?;
    Some(Box::new(frame))
}

fn take(tx: &mut Tx<'_>, from: DeviceId, prepared: Prepared) -> Result<(), Fail> {
    let Ok(frame) = prepared.downcast::<FeedFrame>() else { return Ok(()) };
    match *frame {
        FeedFrame::Ask { topic, ops, chains } => {
            if !has(tx, topic)? {
                return say(tx, from, &FeedFrame::Unknown { topic });
            }
            listen(tx, from, topic);
            contents::tell(tx, from)?;
            give(tx, from, topic, &ops, &chains)
        }
        FeedFrame::Page { topic, records, accounts: packs, letters: list, more } => {
            // Only what was asked for, of whoever it comes.
            if following(tx, topic)?.is_none() {
                return Ok(());
            }
            let records: Vec<Vec<u8>> = records.into_iter().map(codec::Bytes::into_inner).collect();
            topics::adopt(tx, topic, &records, &packs)?;
            // A page of nothing says that there is news.
            let mut go_on = list.is_empty();
            let mut stored = false;
            for letter in list {
                let secrets = letters::Secrets::new();
                let Ok(prepared) = letters::prepare(&tx.stage, &secrets, letter) else { continue };
                if prepared.envelope.topic != topic {
                    continue;
                }
                let now = tx.now;
                match letters::accept(tx, prepared, now) {
                    Ok(letters::Outcome::Stored(_)) => stored = true,
                    Ok(_) | Err(Fail::Peer(_) | Fail::Later(_)) => {}
                    Err(other) => return Err(other),
                }
            }
            if stored {
                go_on = true;
                sync::note_news(tx, topic, Some(from));
            }
            if more && go_on { ask(tx, from, topic) } else { Ok(()) }
        }
        FeedFrame::Unknown { .. } => Ok(()),
    }
}

fn met(tx: &mut Tx<'_>, device: DeviceId) -> Result<(), Fail> {
    for (topic, row) in followed(tx)? {
        if row.providers.iter().any(|p| p.device == device) || publishes(tx, topic, device)? {
            ask(tx, device, topic)?;
        }
    }
    Ok(())
}

/// Whether a device is a publisher's.
fn publishes(tx: &mut Tx<'_>, topic: TopicId, device: DeviceId) -> Result<bool, StorageError> {
    topics::is_member(tx, topic, device)
}

fn wanted(tx: &mut Tx<'_>) -> Result<Vec<Wanted>, StorageError> {
    let own = tx.me()?.device;
    let mut all = Vec::new();
    for (_, row) in followed(tx)? {
        for p in row.providers.into_iter().filter(|p| p.device != own).take(DIALLED) {
            all.push(Wanted {
                device: p.device,
                relays: p.relays.into_inner(),
                addrs: p.addrs.iter().map(|a| a.to_string()).collect(),
            });
        }
    }
    Ok(all)
}

/// Feeds that this account follows.
pub(super) fn followed(tx: &Tx<'_>) -> Result<Vec<(TopicId, Following)>, StorageError> {
    let prefix = Key::new().text(NAME).into_bytes();
    let rows: Vec<(Vec<u8>, Chosen<Vec<u8>>)> =
        tx.scan_typed(&RECORDS, &KeyRange::prefix(&prefix), false, 4_096)?;
    Ok(rows
        .into_iter()
        .filter_map(|(key, row)| {
            let topic = TopicId(*key.last_chunk::<32>()?);
            Some((topic, postcard::from_bytes(&row.value).ok()?))
        })
        .collect())
}

/// Whether this device can give a feed: it publishes or follows it.
fn has(tx: &mut Tx<'_>, topic: TopicId) -> Result<bool, StorageError> {
    Ok(topics::is_public(tx, topic)? && topics::takes_part(tx, topic)?)
}

fn listen(tx: &mut Tx<'_>, from: DeviceId, topic: TopicId) {
    let listeners = tx.mem.peers.values().filter(|p| p.listens.contains(&topic)).count();
    if let Some(peer) = tx.mem.peers.get_mut(&from)
        && listeners < MAX_LISTENERS
        && peer.listens.len() < MAX_LISTENED
    {
        peer.listens.insert(topic);
    }
}

/// Nobody is told of a feed any longer by this device.
pub(super) fn forget(tx: &mut Tx<'_>, topic: TopicId) {
    for peer in tx.mem.peers.values_mut() {
        peer.listens.remove(&topic);
    }
}

/// Asks every connected provider.
pub(super) fn ask_everybody(tx: &mut Tx<'_>, topic: TopicId) -> Result<(), Fail> {
    let Some(row) = following(tx, topic)? else { return Ok(()) };
    for provider in row.providers {
        ask(tx, provider.device, topic)?;
    }
    Ok(())
}

fn ask(tx: &mut Tx<'_>, device: DeviceId, topic: TopicId) -> Result<(), Fail> {
    let ops = topics::state(tx, topic)?.map(|s| s.log.heads()).unwrap_or_default();
    let chains: Vec<(DeviceId, u64)> = topics::chains(&tx.stage, topic)?
        .into_iter()
        .map(|(device, c): (_, Chain)| (device, c.high))
        .collect();
    say(tx, device, &FeedFrame::Ask { topic, ops: capped(ops), chains: capped(chains) })
}

/// Tells connected followers of a feed that there is more of it.
pub(super) fn news(tx: &mut Tx<'_>, topic: TopicId) -> Result<(), Fail> {
    let peers = tx.mem.peers.iter().filter(|(_, p)| p.listens.contains(&topic) && !p.full);
    let devices: Vec<DeviceId> = peers.map(|(d, _)| *d).collect();
    devices.into_iter().try_for_each(|device| tell(tx, device, topic))
}

/// Tells one that there is more of a feed: it asks for what it lacks.
pub(crate) fn tell(tx: &mut Tx<'_>, device: DeviceId, topic: TopicId) -> Result<(), Fail> {
    let page = FeedFrame::Page {
        topic,
        records: codec::List::default(),
        accounts: codec::List::default(),
        letters: codec::List::default(),
        more: true,
    };
    say(tx, device, &page)
}

fn give(
    tx: &mut Tx<'_>,
    to: DeviceId,
    topic: TopicId,
    ops: &[OpId],
    held: &[(DeviceId, u64)],
) -> Result<(), Fail> {
    let Some(state) = topics::state(tx, topic)? else { return Ok(()) };
    let records: Vec<_> = state
        .log
        .records_unknown_to(ops)
        .into_iter()
        .filter_map(|r| codec::Bytes::try_from(r.bytes().to_vec()).ok())
        .collect();
    let mut packs: Vec<AccountPack> = Vec::new();
    for account in topics::judged(tx, topic)?.into_iter().take(8) {
        let mut pack = accounts::pack(tx, account, &[])?;
        // Nobody seals anything to a publisher for being read.
        pack.prekeys = codec::List::default();
        packs.push(pack);
    }
    let mut list = Vec::new();
    let (mut bytes, mut more) = (0, false);
    for (device, chain) in topics::chains(&tx.stage, topic)? {
        let from = held.iter().find(|(d, _)| *d == device).map_or(0, |(_, seq)| *seq) + 1;
        for seq in from.max(chain.low)..=chain.high {
            if bytes >= PAGE_BYTES || list.len() == 64 {
                more = true;
                break;
            }
            let Some(letter) = letters::letter(&tx.stage, topic, device, seq)? else { break };
            bytes += letters::size(&letter);
            list.push(letter);
        }
    }
    let page = FeedFrame::Page {
        topic,
        records: capped(records),
        accounts: capped(packs),
        letters: capped(list),
        more,
    };
    say(tx, to, &page)
}

fn say(tx: &mut Tx<'_>, to: DeviceId, frame: &FeedFrame) -> Result<(), Fail> {
    services::say(tx, to, feed::SERVICE, codec::encode(frame))
}
