//! Asking for feeds, and giving them to whoever asks.
//!
//! Followers ask the providers that they know whenever they meet one; whoever gives the feed
//! answers page by page, and remembers for as long as the connection lasts that there is
//! somebody to be told news. Envelopes prove themselves, so that a follower serves as well as
//! the publisher; it does where it shared a link, and else does not say that it follows.
//!
//! Nothing is taken from, and nothing said to, a device that was not asked in this connection.

use std::sync::Arc;

use teahouse_protocols::codec::{self, Bytes, List};
use teahouse_protocols::epoch::{EpochSecret, public_epoch};
use teahouse_protocols::feed::{self, FeedFrame, PAGE_BYTES};
use teahouse_protocols::ids::{AccountId, DeviceId, OpId, RecordId, TopicId};
use teahouse_protocols::inbox::{AccountPack, MAX_OP};

use super::tables::Following;
use super::{NAME, following};
use crate::engine::{accounts, letters, sync, topics};
use crate::features::contents;
use crate::features::services::{self, Prepared, Service, Wanted};
use crate::store::{Key, KeyRange, Read, ReadExt, StorageError};
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

/// A frame without an order.
enum Heard {
    Frame(FeedFrame),
    Page(Page),
}

/// A page with its envelopes verified.
struct Page {
    topic: TopicId,
    records: Vec<Vec<u8>>,
    packs: Vec<AccountPack>,
    letters: Vec<letters::Prepared>,
    more: bool,
}

fn prepare(read: &dyn Read, bytes: &[u8]) -> Option<Prepared> {
    let frame = codec::decode::<FeedFrame>(bytes).ok()?;
    let heard = match frame {
        FeedFrame::Page { topic, records, accounts, letters: list, more } => {
            // Cheap reasons first.
            following(read, topic).ok()??;
            // It may be the first page: then the key is not stored yet.
            let public = (topic, Arc::new(EpochSecret::public(topic)));
            let secrets = letters::Secrets::from([(public_epoch(topic), public)]);
            let letters = list
                .into_iter()
                .filter_map(|letter| letters::prepare(read, &secrets, letter).ok())
                .filter(|prepared| prepared.envelope.topic == topic)
                .collect();
            let records = records.into_iter().map(codec::Bytes::into_inner).collect();
            Heard::Page(Page { topic, records, packs: accounts.into_inner(), letters, more })
        }
        other => Heard::Frame(other),
    };
    Some(Box::new(heard))
}

fn take(tx: &mut Tx<'_>, from: DeviceId, prepared: Prepared) -> Result<(), Fail> {
    let Ok(heard) = prepared.downcast::<Heard>() else { return Ok(()) };
    match *heard {
        Heard::Frame(FeedFrame::Ask { topic, ops, chains, accounts }) => {
            if !gives(tx, topic)? {
                return say(tx, from, &FeedFrame::Unknown { topic });
            }
            listen(tx, from, topic);
            contents::tell(tx, from)?;
            give(tx, from, topic, &Held { ops: &ops, chains: &chains, accounts: &accounts })
        }
        Heard::Frame(FeedFrame::News { topic }) if was_asked(tx, from, topic) => {
            ask(tx, from, topic)
        }
        Heard::Page(page) if was_asked(tx, from, page.topic) => page_came(tx, from, page),
        Heard::Frame(FeedFrame::Unknown { topic }) => {
            if let Some(peer) = tx.mem.peers.get_mut(&from) {
                peer.feeds.remove(&topic);
            }
            Ok(())
        }
        Heard::Frame(_) | Heard::Page(_) => Ok(()),
    }
}

fn was_asked(tx: &Tx<'_>, device: DeviceId, topic: TopicId) -> bool {
    tx.mem.peers.get(&device).is_some_and(|p| p.feeds.contains(&topic))
}

fn page_came(tx: &mut Tx<'_>, from: DeviceId, page: Page) -> Result<(), Fail> {
    let Page { topic, records, packs, letters: list, more } = page;
    if following(tx, topic)?.is_none() {
        return Ok(());
    }
    let before = heads(tx, topic)?;
    topics::adopt(tx, topic, &records, &packs)?;
    let judged = topics::judged(tx, topic)?;
    let mut news = heads(tx, topic)? != before;
    for letter in list {
        // What nobody vouches for does not wait here: the page has its author's account.
        let author = accounts::account_of(tx, letter.envelope.device)?;
        if author.is_none_or(|author| !judged.contains(&author)) {
            continue;
        }
        let now = tx.now;
        match letters::accept(tx, letter, now) {
            Ok(letters::Outcome::Stored(_)) => {
                news = true;
                sync::note_news(tx, topic, Some(from));
            }
            Ok(_) | Err(Fail::Peer(_) | Fail::Later(_)) => {}
            Err(other) => return Err(other),
        }
    }
    // Who goes on saying that there is more, and sends nothing, is asked no further.
    if more && news { ask(tx, from, topic) } else { Ok(()) }
}

fn met(tx: &mut Tx<'_>, device: DeviceId) -> Result<(), Fail> {
    for (topic, row) in followed(tx)? {
        // Nobody else, not even a publisher's device that happens to be met.
        if row.providers.iter().any(|p| p.device == device) {
            ask(tx, device, topic)?;
        }
    }
    Ok(())
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

/// Devices of those who share a feed, as the links say by which it is followed.
pub(crate) fn providers(read: &dyn Read, topic: TopicId) -> Result<Vec<DeviceId>, StorageError> {
    let row = following(read, topic)?;
    Ok(row.into_iter().flat_map(|r| r.providers).map(|p| p.device).collect())
}

/// Whether this device gives a feed to whoever asks: it publishes it, or its person shared it.
fn gives(tx: &mut Tx<'_>, topic: TopicId) -> Result<bool, StorageError> {
    if !topics::is_public(tx, topic)? {
        return Ok(false);
    }
    Ok(!topics::is_followed(tx, topic)? || following(tx, topic)?.is_some_and(|f| f.shared))
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
    let Some(peer) = tx.mem.peers.get_mut(&device) else { return Ok(()) };
    peer.feeds.insert(topic);
    let (ops, accounts) = heads(tx, topic)?;
    let chains: Vec<(DeviceId, u64)> = topics::chains(&tx.stage, topic)?
        .into_iter()
        .map(|(device, c): (_, Chain)| (device, c.high))
        .collect();
    let accounts: Vec<_> =
        accounts.into_iter().map(|(account, heads)| (account, capped(heads))).collect();
    let (ops, chains, accounts) = (capped(ops), capped(chains), capped(accounts));
    say(tx, device, &FeedFrame::Ask { topic, ops, chains, accounts })
}

/// Heads of a feed's membership log, and of its publishers' account logs.
type Heads = (Vec<OpId>, Vec<(AccountId, Vec<RecordId>)>);

fn heads(tx: &mut Tx<'_>, topic: TopicId) -> Result<Heads, StorageError> {
    let Some(state) = topics::state(tx, topic)? else { return Ok(Heads::default()) };
    let mut accounts = Vec::new();
    for account in topics::judged(tx, topic)? {
        let log = accounts::log(tx, account)?;
        accounts.extend(log.map(|log| (account, log.heads().to_vec())));
    }
    Ok((state.log.heads(), accounts))
}

/// Tells connected followers of a feed that there is more of it.
pub(super) fn news(tx: &mut Tx<'_>, topic: TopicId) -> Result<(), Fail> {
    let peers = tx.mem.peers.iter().filter(|(_, p)| p.listens.contains(&topic) && !p.full);
    let devices: Vec<DeviceId> = peers.map(|(d, _)| *d).collect();
    devices.into_iter().try_for_each(|device| tell(tx, device, topic))
}

/// Tells one that there is more of a feed: it asks for what it lacks.
pub(crate) fn tell(tx: &mut Tx<'_>, device: DeviceId, topic: TopicId) -> Result<(), Fail> {
    say(tx, device, &FeedFrame::News { topic })
}

/// What a follower has of a feed.
struct Held<'a> {
    ops: &'a [OpId],
    chains: &'a [(DeviceId, u64)],
    accounts: &'a [(AccountId, List<RecordId, 16>)],
}

/// A page's bytes, as they are filled.
struct Room {
    used: usize,
    more: bool,
}

impl Room {
    /// Whether something is still taken in; nothing more is after the first that is not. What
    /// is larger than a page makes one alone.
    fn takes(&mut self, bytes: usize) -> bool {
        self.more |= self.used > 0 && self.used + bytes > PAGE_BYTES;
        self.used += if self.more { 0 } else { bytes };
        !self.more
    }
}

fn give(tx: &mut Tx<'_>, to: DeviceId, topic: TopicId, held: &Held<'_>) -> Result<(), Fail> {
    let Some(state) = topics::state(tx, topic)? else { return Ok(()) };
    let mut room = Room { used: 0, more: false };
    // Parents come before children, so that any beginning of a log is one.
    let mut records: Vec<Bytes<MAX_OP>> = Vec::new();
    for record in state.log.records_unknown_to(held.ops) {
        if records.len() == 64 || !room.takes(record.bytes().len()) {
            room.more = true;
            break;
        }
        records.extend(Bytes::try_from(record.bytes().to_vec()));
    }
    let mut packs: Vec<AccountPack> = Vec::new();
    for account in topics::judged(tx, topic)?.into_iter().take(8) {
        let known = held.accounts.iter().find(|(a, _)| *a == account).map(|(_, heads)| &**heads);
        let pack = accounts::pack(tx, account, known.unwrap_or_default())?;
        let mut records = pack.records.into_inner();
        let fit = records.iter().take_while(|r| room.takes(r.len())).count();
        records.truncate(fit);
        if !records.is_empty() {
            packs.push(AccountPack { records: capped(records), ..AccountPack::default() });
        }
    }
    let mut list = Vec::new();
    'chains: for (device, chain) in topics::chains(&tx.stage, topic)? {
        let from = held
            .chains
            .iter()
            .find(|(d, _)| *d == device)
            .map_or(0, |(_, seq)| *seq)
            .saturating_add(1);
        for seq in from.max(chain.low)..=chain.high {
            let Some(letter) = letters::letter(&tx.stage, topic, device, seq)? else { break };
            if list.len() == 64 || !room.takes(letters::size(&letter)) {
                room.more = true;
                break 'chains;
            }
            list.push(letter);
        }
    }
    let page = FeedFrame::Page {
        topic,
        records: capped(records),
        accounts: capped(packs),
        letters: capped(list),
        more: room.more,
    };
    say(tx, to, &page)
}

fn say(tx: &mut Tx<'_>, to: DeviceId, frame: &FeedFrame) -> Result<(), Fail> {
    services::say(tx, to, feed::SERVICE, codec::encode(frame))
}
