//! Fetching: a few long fetches are held at each own relay, round and round over all tags, and
//! what they bring is handed on to be opened ([`super::open`]).

use std::collections::{BTreeMap, BTreeSet};

use teahouse_protocols::account::RelayAddr;
use teahouse_protocols::codec;
use teahouse_protocols::ids::{Millis, RelayId, Tag};
use teahouse_protocols::mailbox::{self, MAX_ITEM, MAX_READS, Read as TagRead, Request};

use super::pump::Pump;
use super::session::{Fetch, Hush, Pending};
use super::tags::{TAGS_EVERY, tag_key};
use crate::store::{KeyRange, ReadExt, StorageError};
use crate::tables::{TAGS, TagRow, TagSource, pair_key};
use crate::tx::{Fail, Memory, Tx, capped};

/// Fetches held at one relay (it takes no more), and how many of them are for topics: inboxes
/// and the card never wait behind those.
const MAX_FETCHES: usize = 4;
const TOPIC_FETCHES: usize = 3;
/// An empty answer that comes sooner than this to a fetch that was to be held is no good sign.
const EMPTY_SOON: Millis = 2_000;

/// An item fetched from a relay, to be taken in on its own.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) relay: RelayId,
    pub(crate) tag: Tag,
    pub(crate) index: u64,
    pub(crate) bytes: Vec<u8>,
}

/// Notes that an item was taken in, or refused for good.
pub(crate) fn note(tx: &mut Tx<'_>, fetched: &Fetched) -> Result<(), StorageError> {
    let key = pair_key(&fetched.relay.0, &fetched.tag.0);
    if let Some(mut row) = tx.typed::<TagRow>(&TAGS, &key)?
        && fetched.index > row.after
    {
        row.after = fetched.index;
        tx.put(&TAGS, &key, &row)?;
    }
    Ok(())
}

/// Something under a tag came too early: it is not asked for again for a while.
pub(crate) fn stall(mem: &mut Memory, relay: RelayId, tag: Tag, now: Millis) {
    mem.mail.entry(relay).or_default().hush(tag.0, now);
}

impl Pump<'_, '_> {
    /// Keeps long fetches under way, round and round over all tags.
    pub(super) fn fetch(&mut self, relay: &RelayAddr) -> Result<(), Fail> {
        let now = self.tx.now;
        if !self.ready(relay) {
            return Ok(());
        }
        let session = self.session(relay.id);
        let until = session.empty.until;
        let mut covered: BTreeSet<Tag> = BTreeSet::new();
        let (mut held, mut held_topics) = (0, 0);
        for pending in session.inflight.values() {
            if let Pending::Fetch(fetch) = pending {
                held += 1;
                held_topics += usize::from(fetch.topics);
                covered.extend(fetch.tags.keys().copied());
            }
        }
        if until > now {
            self.wake_at(until);
            return Ok(());
        }
        if held >= MAX_FETCHES {
            return Ok(());
        }
        let rows: Vec<(Vec<u8>, TagRow)> =
            self.tx.scan_typed(&TAGS, &KeyRange::prefix(&relay.id.0), false, 65_536)?;
        let mut own = Vec::new();
        let mut topics = Vec::new();
        for (key, row) in rows {
            let Some(tag) = key.last_chunk::<32>().map(|t| Tag(*t)) else { continue };
            if covered.contains(&tag) {
                continue;
            }
            let session = self.session(relay.id);
            match session.served.remove(&tag) {
                Some(after) if after == row.after => session.hush(tag.0, now),
                Some(_) => {
                    session.hushed.remove(&tag.0);
                }
                None => {}
            }
            if let Some(until) = session.quiet(&tag.0, now) {
                self.wake_at(until);
                continue;
            }
            let list = match row.source {
                TagSource::Topic(..) => &mut topics,
                _ => &mut own,
            };
            list.push((tag, row));
        }
        own.truncate(MAX_READS);
        if !own.is_empty() {
            self.ask(relay, own, false)?;
            held += 1;
        }
        if held >= MAX_FETCHES || held_topics >= TOPIC_FETCHES {
            return Ok(());
        }
        let asked = self.session(relay.id).asked;
        let topics = following(topics, asked, |(tag, _)| *tag);
        if let Some((last, _)) = topics.last() {
            self.session(relay.id).asked = Some(*last);
            self.ask(relay, topics, true)?;
        }
        Ok(())
    }

    /// Sends one fetch.
    fn ask(
        &mut self,
        relay: &RelayAddr,
        rows: Vec<(Tag, TagRow)>,
        topics: bool,
    ) -> Result<(), Fail> {
        let Some(challenge) = self.session(relay.id).challenge else { return Ok(()) };
        let mut reads = Vec::new();
        let mut tags = BTreeMap::new();
        for (tag, row) in rows {
            let Some(key) = tag_key(self.tx, row.source)? else { continue };
            let proof = mailbox::read_proof(&key, relay.id, &challenge);
            reads.push(TagRead { tag, after: row.after, proof });
            tags.insert(tag, row.after);
        }
        if !reads.is_empty() && self.ready(relay) {
            let request = Request::Fetch { reads: capped(reads), wait: true };
            let sent = self.tx.now;
            self.send(relay, &request, Pending::Fetch(Fetch { tags, topics, sent }));
        }
        Ok(())
    }
}

/// At most [`MAX_READS`] of a list in rising order: those after `last`, then from the beginning.
pub(super) fn following<T>(list: Vec<T>, last: Option<Tag>, tag: impl Fn(&T) -> Tag) -> Vec<T> {
    let (mut before, mut after): (Vec<T>, Vec<T>) =
        list.into_iter().partition(|t| last.is_some_and(|last| tag(t) <= last));
    after.append(&mut before);
    after.truncate(MAX_READS);
    after
}

/// What a fetch brought.
pub(super) fn fetched(
    tx: &mut Tx<'_>,
    relay: RelayId,
    fetch: &Fetch,
    items: Vec<(Tag, u64, codec::Bytes<MAX_ITEM>)>,
    more: bool,
) -> Result<Vec<Fetched>, Fail> {
    let now = tx.now;
    let session = tx.mem.mail.entry(relay).or_default();
    if items.is_empty() && now < fetch.sent.saturating_add(EMPTY_SOON) {
        session.empty.again(now);
        return Ok(Vec::new());
    }
    session.empty = Hush::default();
    let mut came: BTreeSet<Tag> = BTreeSet::new();
    let mut out = Vec::new();
    for (tag, index, bytes) in items {
        if let Some(after) = fetch.tags.get(&tag) {
            session.served.insert(tag, *after);
            came.insert(tag);
            out.push(Fetched { relay, tag, index, bytes: bytes.into_inner() });
        }
    }
    if out.is_empty() && !fetch.tags.is_empty() && now < fetch.sent.saturating_add(EMPTY_SOON) {
        session.empty.again(now);
    }
    if !more {
        // The rest was read to its end. It is noted seldom: hours don't matter, commits do.
        for tag in fetch.tags.keys().filter(|t| !came.contains(*t)) {
            let key = pair_key(&relay.0, &tag.0);
            if let Some(mut row) = tx.typed::<TagRow>(&TAGS, &key)?
                && fetch.sent >= row.read.saturating_add(TAGS_EVERY)
            {
                row.read = fetch.sent;
                tx.put(&TAGS, &key, &row)?;
            }
        }
    }
    Ok(out)
}
