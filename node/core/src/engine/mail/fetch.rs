//! Fetching: each own relay is told once which tags to watch; then one fetch is held there, and
//! what it brings is handed on to be opened ([`super::open`]).

use std::collections::{BTreeMap, BTreeSet};

use teahouse_protocols::account::RelayAddr;
use teahouse_protocols::ids::{Millis, RelayId, Tag};
use teahouse_protocols::mailbox::{self, MAX_READS, MAX_WATCHED, Read as TagRead, Request};

use super::pump::Pump;
use super::session::{Brought, Fetch, Hush, Pending};
use super::tags::{TAGS_EVERY, tag_key};
use crate::store::{KeyRange, ReadExt, StorageError};
use crate::tables::{TAGS, TagRow, TagSource, pair_key};
use crate::tx::{Fail, Memory, Tx, capped};

/// How long the relay watches before it is told anew: should it forget something, it is not
/// for ever, and a tag that is watched does not look unused. Where there are more tags than
/// one session watches, the next ones have their turn sooner.
const WATCH: Millis = 12 * 60 * 60 * 1000;
const TURN: Millis = 10 * 60 * 1000;
/// Answers that overtook earlier ones, kept until those come.
const MAX_EARLY: usize = 8;
/// How long nothing is asked after an answer of which nothing was of use.
const UNUSABLE: Millis = 1_000;
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
    /// Names the tags that the relay does not watch yet, and keeps one fetch held.
    pub(super) fn fetch(&mut self, relay: &RelayAddr) -> Result<(), Fail> {
        let now = self.tx.now;
        if !self.ready(relay) {
            return Ok(());
        }
        let session = self.session(relay.id);
        if session.empty.until > now {
            let until = session.empty.until;
            self.wake_at(until);
            return Ok(());
        }
        let generation = session.generation;
        let held = session.inflight.values().any(|p| p.is_fetch_of(generation));
        if held && !session.look && session.hushed_until.is_none_or(|at| at > now) {
            if let Some(again) = session.hushed_until {
                self.wake_at(again);
            }
            return Ok(());
        }
        let (mut reads, crowd) = self.unwatched(relay.id)?;
        let session = self.session(relay.id);
        let turn = if crowd { TURN } else { WATCH };
        if now >= session.watched_since.saturating_add(turn) || now < session.watched_since {
            session.end();
            // Says hello.
            self.ready(relay);
            return Ok(());
        }
        let rest = reads.len() > MAX_READS;
        reads.truncate(MAX_READS);
        session.look = rest;
        if reads.is_empty() && (held || session.watched.is_empty()) {
            return Ok(());
        }
        self.ask(relay, reads, !rest)
    }

    /// Tags that the relay does not watch, or not from where they stand here: the own ones
    /// first. And whether there are more than it takes.
    fn unwatched(&mut self, relay: RelayId) -> Result<(Vec<(Tag, TagRow)>, bool), Fail> {
        let now = self.tx.now;
        let session = self.session(relay);
        session.hushed_until = None;
        let mut asked: BTreeSet<Tag> = BTreeSet::new();
        for pending in session.inflight.values() {
            if let Pending::Fetch(fetch) = pending
                && fetch.generation == session.generation
            {
                asked.extend(fetch.reads.keys().copied());
            }
        }
        let rows: Vec<(Vec<u8>, TagRow)> =
            self.tx.scan_typed(&TAGS, &KeyRange::prefix(&relay.0), false, 65_536)?;
        let (mut own, mut topics) = (Vec::new(), Vec::new());
        for (key, row) in rows {
            let Some(tag) = key.last_chunk::<32>().map(|t| Tag(*t)) else { continue };
            let session = self.session(relay);
            match session.served.remove(&tag) {
                Some(after) if after == row.after => session.hush(tag.0, now),
                Some(_) => {
                    session.hushed.remove(&tag.0);
                }
                None => {}
            }
            let watched = session.watched.get(&tag).is_some_and(|upto| *upto <= row.after);
            if watched || asked.contains(&tag) {
                continue;
            }
            if let Some(until) = session.quiet(&tag.0, now) {
                session.hushed_until = session.hushed_until.into_iter().chain([until]).min();
                self.wake_at(until);
                continue;
            }
            match row.source {
                TagSource::Topic(..) => topics.push((tag, row)),
                _ => own.push((tag, row)),
            }
        }
        let session = self.session(relay);
        // What is watched already and named once more needs no room.
        let again = |(tag, _): &(Tag, TagRow)| session.watched.contains_key(tag);
        let (mut all, mut fresh): (Vec<_>, Vec<_>) = own.into_iter().partition(again);
        let (mut known, mut topics): (Vec<_>, Vec<_>) = topics.into_iter().partition(again);
        all.append(&mut known);
        let room = MAX_WATCHED.saturating_sub(session.watched.len() + asked.len());
        let crowd = fresh.len() + topics.len() > room;
        if crowd {
            fresh.truncate(room);
            topics = following(topics, session.named, room - fresh.len(), |(tag, _)| *tag);
        }
        fresh.append(&mut all);
        fresh.append(&mut topics);
        Ok((fresh, crowd))
    }

    /// Sends one fetch.
    fn ask(&mut self, relay: &RelayAddr, rows: Vec<(Tag, TagRow)>, wait: bool) -> Result<(), Fail> {
        let Some(challenge) = self.session(relay.id).challenge else { return Ok(()) };
        let mut named = Vec::new();
        let mut reads = BTreeMap::new();
        for (tag, row) in rows {
            let Some(key) = tag_key(self.tx, row.source)? else { continue };
            let proof = mailbox::read_proof(&key, relay.id, &challenge);
            named.push(TagRead { tag, after: row.after, proof });
            reads.insert(tag, row.after);
            if matches!(row.source, TagSource::Topic(..)) {
                self.session(relay.id).named = Some(tag);
            }
        }
        let request = Request::Fetch { reads: capped(named), wait };
        let (sent, generation) = (self.tx.now, self.session(relay.id).generation);
        let fetch = Fetch { reads, wait, generation, sent };
        self.send(relay, &request, Pending::Fetch(fetch));
        Ok(())
    }
}

/// At most `most` of a list in rising order: those after `last`, then from the beginning.
pub(super) fn following<T>(
    list: Vec<T>,
    last: Option<Tag>,
    most: usize,
    tag: impl Fn(&T) -> Tag,
) -> Vec<T> {
    let (mut before, mut after): (Vec<T>, Vec<T>) =
        list.into_iter().partition(|t| last.is_some_and(|last| tag(t) <= last));
    after.append(&mut before);
    after.truncate(most);
    after
}

/// Takes in what a fetch brought. Answers can overtake each other: each is taken when those
/// before it were, for the relay left out of it what they held.
pub(super) fn fetched(
    tx: &mut Tx<'_>,
    relay: RelayId,
    brought: Brought,
    nth: u64,
) -> Result<Vec<Fetched>, Fail> {
    let session = tx.mem.mail.entry(relay).or_default();
    session.look = true;
    // What was asked before the last greeting is in no order with what was since.
    if brought.fetch.generation != session.generation || nth == 0 {
        return take(tx, relay, brought);
    }
    if nth <= session.taken || session.early.len() >= MAX_EARLY {
        // No honest relay counts so: from the beginning, later.
        session.empty.again(tx.now);
        session.end();
        return Ok(Vec::new());
    }
    session.early.insert(nth, brought);
    let mut out = Vec::new();
    loop {
        let session = tx.mem.mail.entry(relay).or_default();
        let next = session.taken + 1;
        let Some(brought) = session.early.remove(&next) else { return Ok(out) };
        session.taken = next;
        out.append(&mut take(tx, relay, brought)?);
    }
}

fn take(tx: &mut Tx<'_>, relay: RelayId, brought: Brought) -> Result<Vec<Fetched>, Fail> {
    let Brought { fetch, items, more, watched } = brought;
    let now = tx.now;
    let session = tx.mem.mail.entry(relay).or_default();
    let current = fetch.generation == session.generation;
    // A fetch that another one took the place of is answered at once, with nothing.
    let replaced = session.inflight.values().any(|p| matches!(p, Pending::Fetch(_)))
        || !session.early.is_empty();
    if current {
        session.watched.extend(&fetch.reads);
        if (watched as usize) < session.watched.len() {
            // It has forgotten some of it: from the beginning, but not at once.
            session.empty.again(now);
            session.end();
        }
    }
    let soon = fetch.wait && current && !replaced && now < fetch.sent.saturating_add(EMPTY_SOON);
    if items.is_empty() && soon {
        // Whatever it kept back it takes for given: from the beginning, later.
        session.empty.again(now);
        session.end();
        return Ok(Vec::new());
    }
    let mut out = Vec::new();
    // Of each tag, what is held goes without a gap up to where the relay went on.
    let mut usable: BTreeMap<Tag, bool> = BTreeMap::new();
    for (tag, index, bytes) in items {
        let known = match usable.get(&tag) {
            Some(known) => *known,
            None => {
                let row = tx.typed::<TagRow>(&TAGS, &pair_key(&relay.0, &tag.0))?;
                let session = tx.mem.mail.entry(relay).or_default();
                let watched = session.watched.get(&tag).filter(|_| current);
                let from = fetch.reads.get(&tag).or(watched);
                let known = match (row, from) {
                    (Some(row), Some(from)) if row.after == *from => {
                        session.served.insert(tag, row.after);
                        true
                    }
                    _ => false,
                };
                usable.insert(tag, known);
                known
            }
        };
        let session = tx.mem.mail.entry(relay).or_default();
        if let Some(upto) = session.watched.get_mut(&tag).filter(|_| current) {
            *upto = index.max(*upto);
        }
        if known {
            out.push(Fetched { relay, tag, index, bytes });
        }
    }
    let session = tx.mem.mail.entry(relay).or_default();
    if !out.is_empty() || !soon {
        session.empty = Hush::default();
    } else {
        // Nothing of it was of use: not at the speed of the network.
        session.empty.until = now + UNUSABLE;
    }
    if !more && current && !replaced {
        note_read(tx, relay, fetch.sent, &usable)?;
    }
    Ok(out)
}

/// Notes that what is watched was read to its end, except where something came. It is noted
/// seldom: hours don't matter, commits do.
fn note_read(
    tx: &mut Tx<'_>,
    relay: RelayId,
    sent: Millis,
    came: &BTreeMap<Tag, bool>,
) -> Result<(), Fail> {
    let session = tx.mem.mail.entry(relay).or_default();
    if sent < session.noted.saturating_add(TAGS_EVERY) && sent >= session.noted {
        return Ok(());
    }
    session.noted = sent;
    let tags: Vec<(Tag, u64)> = session
        .watched
        .iter()
        .filter(|(tag, _)| !came.contains_key(tag))
        .map(|(tag, upto)| (*tag, *upto))
        .collect();
    for (tag, upto) in tags {
        let key = pair_key(&relay.0, &tag.0);
        // Of what could not be taken in yet, the rest is still to be read.
        if let Some(mut row) = tx.typed::<TagRow>(&TAGS, &key)?
            && upto <= row.after
            && sent > row.read
        {
            row.read = sent;
            tx.put(&TAGS, &key, &row)?;
        }
    }
    Ok(())
}
