//! The client of relays: admission, tags, fetching, depositing.
//!
//! Everything to be done follows from tables (which tags are wanted, how far each relay has
//! the own chain, what waits in the outbox); [`pump`] compares and asks. A lost request or
//! reply costs time, nothing else: deposits are idempotent at the relay, and fetches start
//! after the highest index that is durable here.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::{Discriminant, discriminant};
use std::ops::ControlFlow;

use rayon::prelude::*;
use teahouse_protocols::account::RelayAddr;
use teahouse_protocols::codec;
use teahouse_protocols::cursor::MAX_ACKS;
use teahouse_protocols::envelope::{Envelope, sealed_hash};
use teahouse_protocols::epoch::{EpochSecret, week_of};
use teahouse_protocols::ids::{DeviceId, EpochId, Millis, RelayId, SealedHash, Tag, TopicId};
use teahouse_protocols::inbox::{InboxItem, Letter};
use teahouse_protocols::mailbox::{
    self, Item, MAX_ITEM, MAX_READS, Read as TagRead, Refusal, Reply, Request, Right, TagKind,
    Token, TopicMail,
};
use teahouse_protocols::sign::SigningKey;

use crate::engine::{accounts, cursors, inbox, letters, topics};
use crate::features;
use crate::store::{Key, KeyRange, Read, ReadExt, StorageError};
use crate::tables::{
    CHAINS, Chain, DEPOSITS, Deposit, EPOCHS, Epoch, MAX_RUNS, OUTBOX, OWN_CURSORS, OWN_PREKEYS,
    OutItem, OwnCursor, OwnPrekey, RELAYS, RelayRow, TAGS, TOKENS, TagRow, TagSource, chain_key,
    pair_key,
};
use crate::tx::{Fail, Memory, Tx, capped};

/// How long a connected recipient may take before a relay gets the message.
const LIVE_PATIENCE: Millis = 1_500;
/// How long cursors are collected before they are mailed.
const CURSOR_PATIENCE: Millis = 2_000;
/// Weeks for which tags are read.
const WEEKS: u32 = 6;
/// Requests under way at one relay.
const MAX_INFLIGHT: usize = 16;
/// Bytes of one deposit or of letters in one inbox message.
const DEPOSIT_BYTES: usize = 512 * 1024;
/// Tokens below which more are fetched.
const FEW_TOKENS: usize = 16;
/// How often tags are compared with what is wanted.
const TAGS_EVERY: Millis = 60 * 60 * 1000;
/// Epochs of a topic whose tags are opened here; those of older ones are read only, for whoever
/// still leaves something under them opens them too.
const OPENED_EPOCHS: usize = 16;
/// Tags read at one relay, newest epochs first.
const MAX_TAGS: usize = 32_768;
/// Fetches held at one relay (it takes no more), and how many of them are for topics: inboxes
/// and the card never wait behind those.
const MAX_FETCHES: usize = 4;
const TOPIC_FETCHES: usize = 3;
/// An empty answer that comes sooner than this to a fetch that was to be held is no good sign.
const EMPTY_SOON: Millis = 2_000;
/// Rows and bytes of the outbox that are looked at in one go, and when the look goes on.
const LOOK_ROWS: usize = 2_048;
const LOOK_BYTES: usize = 8 * 1024 * 1024;
const LOOK_AGAIN: Millis = 100;
/// How long a refusal stands that is not repeated: longer than anything waits ([`Hush`]).
const REFUSAL_STANDS: Millis = 10 * 60 * 1000;
/// Tags and topics of one relay whose trouble is remembered.
const MAX_HUSHED: usize = 4_096;
/// One week.
const WEEK: Millis = 7 * 24 * 60 * 60 * 1000;

/// The session with one relay. Volatile.
#[derive(Debug, Default)]
pub(crate) struct Session {
    challenge: Option<[u8; 32]>,
    inflight: BTreeMap<u64, Pending>,
    retry_at: Millis,
    fails: u32,
    tags_checked: Millis,
    /// Tags to be opened.
    to_open: BTreeMap<Tag, TagSource>,
    /// The last topic tag asked for: the next fetch begins after it.
    asked: Option<Tag>,
    /// Where each tag stood when items came for it: if it stands there still when it is asked
    /// for again, they were of no use.
    served: BTreeMap<Tag, u64>,
    /// Tags, and topics, that wait on their own: what is wrong with one is no reason to leave
    /// the others alone.
    hushed: BTreeMap<[u8; 32], Hush>,
    /// The same for fetches that come back at once with nothing.
    empty: Hush,
    /// When each topic's cursor may be mailed.
    cursor_due: BTreeMap<TopicId, Millis>,
    /// The last refusal.
    refused: Option<Refused>,
}

/// A refusal that is told to people: until the same succeeds, or it was not repeated for
/// longer than anything waits to be tried again. That the relay answers something else is no
/// reason to forget it.
#[derive(Debug)]
struct Refused {
    kind: Discriminant<Pending>,
    /// The tag or topic it is about; `None` when it says something of the relay.
    about: Option<[u8; 32]>,
    at: Millis,
}

impl Refused {
    fn is_settled_by(&self, success: &Pending, now: Millis) -> bool {
        now >= self.at.saturating_add(REFUSAL_STANDS)
            || self.kind == discriminant(success)
                && (self.about.is_none() || self.about == success.about())
    }
}

/// How long something waits after it failed.
#[derive(Debug, Default, Clone, Copy)]
struct Hush {
    until: Millis,
    fails: u32,
}

impl Hush {
    /// Twice as long each time, up to nine minutes. What fails together counts once.
    const fn again(&mut self, now: Millis) {
        if self.until <= now {
            self.until = now + (1_000 << self.fails);
            self.fails = if self.fails < 9 { self.fails + 1 } else { 9 };
        }
    }
}

/// A look at the outbox that did not reach its end goes on from here. Volatile.
#[derive(Debug, Default)]
pub(crate) struct Look {
    from: Vec<u8>,
    /// Tags that something earlier is for.
    busy: BTreeSet<(RelayId, Tag)>,
}

impl Session {
    /// Waits longer after each failure, up to half a minute. Requests that fail together
    /// count once.
    fn back_off(&mut self, now: Millis) {
        if self.retry_at > now {
            return;
        }
        self.retry_at = now + (500 << self.fails).min(30_000);
        self.fails = (self.fails + 1).min(6);
    }

    /// Leaves one tag or topic alone for a while, longer each time.
    fn hush(&mut self, id: [u8; 32], now: Millis) {
        if self.hushed.len() >= MAX_HUSHED && !self.hushed.contains_key(&id) {
            self.hushed.retain(|_, h| h.until > now);
            if self.hushed.len() >= MAX_HUSHED {
                self.hushed.pop_first();
            }
        }
        self.hushed.entry(id).or_default().again(now);
    }

    /// Until when a tag or topic is left alone, if it is.
    fn quiet(&self, id: &[u8; 32], now: Millis) -> Option<Millis> {
        self.hushed.get(id).map(|h| h.until).filter(|until| *until > now)
    }
}

/// What a request under way is for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Pending {
    Hello,
    Admit,
    Refill(Token),
    Open(Tag, Token),
    Fetch(Fetch),
    Run { topic: TopicId, first: u64, upto: u64 },
    Cursor { topic: TopicId, acks: Vec<(DeviceId, u64)> },
    Out { key: Vec<u8>, tag: Tag },
}

impl Pending {
    /// The tag or topic it is about; `None` when it concerns the whole relay.
    const fn about(&self) -> Option<[u8; 32]> {
        match self {
            Self::Run { topic, .. } | Self::Cursor { topic, .. } => Some(topic.0),
            Self::Open(tag, _) | Self::Out { tag, .. } => Some(tag.0),
            Self::Hello | Self::Admit | Self::Refill(_) | Self::Fetch(_) => None,
        }
    }
}

/// A fetch under way.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fetch {
    /// Its tags, and the highest index held of each.
    tags: BTreeMap<Tag, u64>,
    /// Whether they are topics' tags.
    topics: bool,
    sent: Millis,
}

/// A request to leave.
#[derive(Debug, Clone)]
pub struct MailOut {
    /// Number by which the reply is known.
    pub id: u64,
    /// The relay.
    pub relay: RelayId,
    /// Its addresses.
    pub addrs: Vec<String>,
    /// The encoded request.
    pub request: Vec<u8>,
}

/// An item fetched from a relay, to be taken in on its own.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) relay: RelayId,
    pub(crate) tag: Tag,
    pub(crate) index: u64,
    pub(crate) bytes: Vec<u8>,
}

/// Compares what is with what should be, and asks relays for the difference. Returns when to
/// look again.
pub(crate) fn pump(tx: &mut Tx<'_>, out: &mut Vec<MailOut>) -> Result<Option<Millis>, Fail> {
    let Some(account) = tx.me()?.account else { return Ok(None) };
    let own: Vec<RelayAddr> = accounts::relays_of(tx, account)?;
    let mut pump = Pump { tx, out, wake: None };
    let me = pump.tx.me()?.device;
    let active = accounts::is_active(pump.tx, me)?;
    if pump.tx.mem.mail_due {
        for relay in &own {
            pump.session(relay.id).tags_checked = 0;
        }
    }
    for relay in &own {
        if active {
            pump.tend_own(relay)?;
        }
    }
    if active {
        pump.topics()?;
    }
    pump.outbox()?;
    let wake = pump.wake;
    tx.mem.mail_due = false;
    tx.mem.mail_all = false;
    Ok(wake)
}

struct Pump<'p, 'a> {
    tx: &'p mut Tx<'a>,
    out: &'p mut Vec<MailOut>,
    wake: Option<Millis>,
}

impl Pump<'_, '_> {
    fn wake_at(&mut self, at: Millis) {
        self.wake = Some(self.wake.map_or(at, |w| w.min(at)));
    }

    fn session(&mut self, relay: RelayId) -> &mut Session {
        self.tx.mem.mail.entry(relay).or_default()
    }

    /// Whether a request may be sent; says hello first where needed.
    fn ready(&mut self, relay: &RelayAddr) -> bool {
        let now = self.tx.now;
        let session = self.session(relay.id);
        if session.retry_at > now {
            let at = session.retry_at;
            self.wake_at(at);
            return false;
        }
        if session.challenge.is_none() {
            if !session.inflight.values().any(|p| *p == Pending::Hello) {
                self.send(relay, &Request::Hello, Pending::Hello);
            }
            return false;
        }
        session.inflight.len() < MAX_INFLIGHT
    }

    fn send(&mut self, relay: &RelayAddr, request: &Request, pending: Pending) {
        self.tx.mem.next_request += 1;
        let id = self.tx.mem.next_request;
        self.session(relay.id).inflight.insert(id, pending);
        self.out.push(MailOut {
            id,
            relay: relay.id,
            addrs: relay.addrs.iter().map(|a| a.to_string()).collect(),
            request: codec::encode(request),
        });
    }

    fn inflight(&mut self, relay: RelayId, f: impl Fn(&Pending) -> bool) -> bool {
        self.session(relay).inflight.values().any(f)
    }

    /// At an own relay: admission, tokens, tags, fetching.
    fn tend_own(&mut self, relay: &RelayAddr) -> Result<(), Fail> {
        if !self.ready(relay) {
            return Ok(());
        }
        let row: RelayRow = self.tx.typed(&RELAYS, &relay.id.0)?.unwrap_or_default();
        let tokens =
            self.tx.scan(&TOKENS, &KeyRange::prefix(&relay.id.0), false, FEW_TOKENS + 1)?;
        let getting = self.inflight(relay.id, |p| matches!(p, Pending::Admit | Pending::Refill(_)));
        if tokens.is_empty() {
            if let Some(code) = row.code
                && !getting
            {
                self.send(relay, &Request::Admit { code }, Pending::Admit);
            }
        } else if tokens.len() < FEW_TOKENS && !getting {
            let token = token_of(&tokens[0].0);
            self.send(relay, &Request::Refill { token }, Pending::Refill(token));
        }
        self.tags(relay, &row)?;
        self.fetch(relay)
    }

    /// Compares the tags that should be read with those that are, and opens what is to be open.
    fn tags(&mut self, relay: &RelayAddr, row: &RelayRow) -> Result<(), Fail> {
        let now = self.tx.now;
        let checked = self.session(relay.id).tags_checked;
        if checked == 0 || now > checked.saturating_add(TAGS_EVERY) || now < checked {
            self.compare(relay.id, row.clone())?;
            self.session(relay.id).tags_checked = now.max(1);
        }
        let to_open: Vec<(Tag, TagSource)> =
            self.session(relay.id).to_open.iter().map(|(t, s)| (*t, *s)).collect();
        for (tag, source) in to_open {
            if !self.ready(relay) {
                break;
            }
            let session = self.session(relay.id);
            if let Some(until) = session.quiet(&tag.0, now) {
                self.wake_at(until);
                continue;
            }
            if self.inflight(relay.id, |p| matches!(p, Pending::Open(t, _) if *t == tag)) {
                continue;
            }
            let Some(key) = tag_key(self.tx, source)? else { continue };
            let Some(token) = self.take_token(relay.id)? else { break };
            let kind = kind_of(self.tx, source)?;
            let proof = mailbox::open_proof(&key, relay.id, &kind);
            self.send(relay, &Request::Open { tag, kind, token, proof }, Pending::Open(tag, token));
        }
        Ok(())
    }

    /// Adds tags that are wanted, drops those that are of no more use, and notes which are to
    /// be opened.
    fn compare(&mut self, relay: RelayId, mut row: RelayRow) -> Result<(), Fail> {
        let now = self.tx.now;
        let week = week_of(now);
        let rows: Vec<(Vec<u8>, TagRow)> =
            self.tx.scan_typed(&TAGS, &KeyRange::prefix(&relay.0), false, 65_536)?;
        // Read completely up to here: the earliest of all tags.
        let complete = rows
            .iter()
            .filter(|(_, r)| !matches!(r.source, TagSource::Topic(_, w) if w > week))
            .map(|(_, r)| r.read)
            .min()
            .unwrap_or(0);
        if complete > row.fetched {
            row.fetched = complete;
            self.tx.put(&RELAYS, &relay.0, &row)?;
        }
        let wanted = wanted(self.tx, row.fetched)?;
        let mut to_open = BTreeMap::new();
        let mut known: BTreeSet<TagSource> = BTreeSet::new();
        for (key, row) in rows {
            let Some(tag) = key.last_chunk::<32>().map(|t| Tag(*t)) else { continue };
            let keep = match row.source {
                // Whatever was left until a week after its own was fetched, or is gone.
                TagSource::Topic(_, w) => {
                    let fetched = row.read >= Millis::from(w + 2) * WEEK;
                    wanted.contains_key(&row.source) || !fetched && w + WEEKS + 2 >= week
                }
                // These have one tag at a time.
                source => {
                    wanted.contains_key(&source)
                        && tag_key(self.tx, source)?
                            .is_some_and(|k| k.verifying_key().to_bytes() == tag.0)
                }
            };
            if !keep {
                self.tx.del(&TAGS, &key)?;
                continue;
            }
            known.insert(row.source);
            if !row.open && wanted.get(&row.source) == Some(&true) {
                to_open.insert(tag, row.source);
            }
        }
        for (source, open) in &wanted {
            if known.contains(source) {
                continue;
            }
            let Some(key) = tag_key(self.tx, *source)? else { continue };
            let tag = Tag(key.verifying_key().to_bytes());
            let row = TagRow { source: *source, after: 0, open: false, since: now, read: 0 };
            self.tx.put(&TAGS, &pair_key(&relay.0, &tag.0), &row)?;
            if *open {
                to_open.insert(tag, *source);
            }
        }
        self.session(relay).to_open = to_open;
        Ok(())
    }

    /// A token that no request under way uses.
    fn take_token(&mut self, relay: RelayId) -> Result<Option<Token>, Fail> {
        let used: BTreeSet<Token> = self
            .session(relay)
            .inflight
            .values()
            .filter_map(|p| match p {
                Pending::Open(_, token) | Pending::Refill(token) => Some(*token),
                _ => None,
            })
            .collect();
        let rows = self.tx.scan(&TOKENS, &KeyRange::prefix(&relay.0), false, MAX_INFLIGHT + 2)?;
        Ok(rows.iter().map(|(k, _)| token_of(k)).find(|t| !used.contains(t)))
    }

    /// Keeps long fetches under way, round and round over all tags.
    fn fetch(&mut self, relay: &RelayAddr) -> Result<(), Fail> {
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

    /// The own chain and cursors, for whoever is not connected.
    fn topics(&mut self) -> Result<(), Fail> {
        let topics: BTreeSet<TopicId> = if self.tx.mem.mail_all {
            accounts::topic_ids(self.tx)?.into_iter().collect()
        } else {
            std::mem::take(&mut self.tx.mem.mail_topics)
        };
        self.tx.mem.mail_topics.clear();
        for topic in topics {
            let keep = self.topic(topic)?;
            if keep {
                self.tx.mem.mail_topics.insert(topic);
            }
        }
        Ok(())
    }

    /// Returns whether the topic needs another look.
    fn topic(&mut self, topic: TopicId) -> Result<bool, Fail> {
        let me = self.tx.me()?;
        let Some(account) = me.account else { return Ok(false) };
        // Who is out by now still owes the others what it had written before.
        let members = topics::members(self.tx, topic)?;
        let within = members.contains(&account);
        let chain: Option<Chain> = self.tx.typed(&CHAINS, &chain_key(topic, me.device))?;
        let high = chain.map_or(0, |c| c.high);
        let mut again = false;
        // Everybody's relays, with the devices that fetch there.
        let mut targets: BTreeMap<RelayId, (RelayAddr, Vec<DeviceId>)> = BTreeMap::new();
        let mut floor = u64::MAX;
        let mut all_live = true;
        for member in members {
            let devices = accounts::devices_of(self.tx, member)?;
            let others: Vec<DeviceId> = devices.into_iter().filter(|d| *d != me.device).collect();
            if member != account && others.is_empty() {
                floor = 0;
                all_live = false;
            }
            for device in &others {
                floor = floor.min(cursors::acked(&self.tx.stage, topic, *device, me.device)?);
                all_live &= self.tx.mem.peers.get(device).is_some_and(|p| !p.full);
            }
            if member == account && others.is_empty() {
                continue;
            }
            for relay in accounts::relays_of(self.tx, member)? {
                targets
                    .entry(relay.id)
                    .or_insert_with(|| (relay, Vec::new()))
                    .1
                    .extend(others.iter().copied());
            }
        }
        let floor = if floor == u64::MAX { high } else { floor };
        for (relay, _) in targets.values() {
            let key = pair_key(&topic.0, &relay.id.0);
            let known: Option<Deposit> = self.tx.typed(&DEPOSITS, &key)?;
            let mut deposit = known.clone().unwrap_or_else(|| Deposit::beginning(floor));
            // What every device has is no relay's business any more.
            deposit.skip(floor);
            if known.as_ref() != Some(&deposit) {
                self.tx.put(&DEPOSITS, &key, &deposit)?;
            }
            if deposit.handed < high {
                again = true;
                self.run(topic, relay, &deposit, high, all_live)?;
            }
        }
        if within {
            again |= self.cursor(topic, &targets)?;
        }
        Ok(again)
    }

    /// Deposits the next stretch of the own chain at one relay.
    fn run(
        &mut self,
        topic: TopicId,
        relay: &RelayAddr,
        deposit: &Deposit,
        high: u64,
        all_live: bool,
    ) -> Result<(), Fail> {
        let me = self.tx.me()?;
        let from = deposit.handed + 1;
        let first = letters::log_row(&self.tx.stage, topic, me.device, from)?;
        let written = first.map_or(0, |r| r.received);
        if all_live && self.tx.now < written.saturating_add(LIVE_PATIENCE) {
            self.wake_at(written + LIVE_PATIENCE);
            return Ok(());
        }
        if self.inflight(relay.id, |p| matches!(p, Pending::Run { topic: t, .. } if *t == topic)) {
            return Ok(());
        }
        let now = self.tx.now;
        if let Some(until) = self.session(relay.id).quiet(&topic.0, now) {
            self.wake_at(until);
            return Ok(());
        }
        if !self.ready(relay) {
            return Ok(());
        }
        let mut items = Vec::new();
        let mut bytes = 0;
        let mut epoch: Option<EpochId> = None;
        let mut upto = from - 1;
        for seq in from..=high {
            let Some(letter) = letters::letter(&self.tx.stage, topic, me.device, seq)? else {
                break;
            };
            let Ok(envelope) = Envelope::from_bytes(&letter.envelope) else { break };
            let Some(header) = &envelope.header else { break };
            let size = letter.envelope.len() + letter.bodies.iter().map(|b| b.len()).sum::<usize>();
            if epoch.is_some_and(|e| e != header.epoch)
                || !items.is_empty() && bytes + size > DEPOSIT_BYTES
                || items.len() + 1 + letter.bodies.len() > 256
            {
                break;
            }
            epoch = Some(header.epoch);
            bytes += size;
            items.push(TopicMail::Envelope(letter.envelope));
            items.extend(letter.bodies.into_iter().map(TopicMail::Body));
            upto = seq;
        }
        let Some(epoch) = epoch else { return Ok(()) };
        let Some((_, secret)) = topics::secret(self.tx, epoch)? else { return Ok(()) };
        let key = secret.tag_key(week_of(self.tx.now));
        let tag = Tag(key.verifying_key().to_bytes());
        let items: Vec<Item> = items
            .iter()
            .filter_map(|m| {
                let bytes = mailbox::seal_topic_mail(m, &secret, tag);
                Some(Item { bytes: codec::Bytes::try_from(bytes).ok()?, delete: None })
            })
            .collect();
        let right = Right::Member(mailbox::write_proof(&key, relay.id, &items));
        self.send(
            relay,
            &Request::Deposit { tag, items: capped(items), right },
            Pending::Run { topic, first: from, upto },
        );
        Ok(())
    }

    /// Mails what this device acknowledges to authors that are not connected.
    fn cursor(
        &mut self,
        topic: TopicId,
        targets: &BTreeMap<RelayId, (RelayAddr, Vec<DeviceId>)>,
    ) -> Result<bool, Fail> {
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
        // Whoever is connected was told; whoever fetches elsewhere is told there.
        let news: Vec<(DeviceId, u64)> = news
            .into_iter()
            .filter(|(d, _)| self.tx.mem.peers.contains_key(d) || devices.contains(d))
            .take(MAX_ACKS)
            .collect();
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
            if connected || named {
                awaited |= !connected;
                left.push((device, seq));
            } else if accounts::bundle_of(self.tx, device)?.is_some() {
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

    /// What is sealed to single devices, for their relays. In order per tag: what comes later
    /// may build on what came before.
    fn outbox(&mut self) -> Result<(), Fail> {
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
struct Waits {
    device: Option<DeviceId>,
    tag: Tag,
    secret: Option<[u8; 16]>,
    relays: Vec<RelayAddr>,
    made: Millis,
}

impl Waits {
    fn read(value: &[u8]) -> Result<Self, StorageError> {
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

/// At most [`MAX_READS`] of a list in rising order: those after `last`, then from the beginning.
fn following<T>(list: Vec<T>, last: Option<Tag>, tag: impl Fn(&T) -> Tag) -> Vec<T> {
    let (mut before, mut after): (Vec<T>, Vec<T>) =
        list.into_iter().partition(|t| last.is_some_and(|last| tag(t) <= last));
    after.append(&mut before);
    after.truncate(MAX_READS);
    after
}

/// Sources of the tags that this device should read at each of its relays, and whether it is to
/// open them.
fn wanted(tx: &mut Tx<'_>, last_fetch: Millis) -> Result<BTreeMap<TagSource, bool>, Fail> {
    let mut wanted = BTreeMap::new();
    let prekeys = tx.scan(&OWN_PREKEYS, &KeyRange::all(), false, 256)?;
    for (key, _) in prekeys {
        let Ok(id) = <[u8; 8]>::try_from(key.as_slice()) else { continue };
        wanted.insert(TagSource::Inbox(id), true);
    }
    if features::contacts::card_tag_key(tx)?.is_some() {
        wanted.insert(TagSource::Card, true);
    }
    let account = tx.account()?;
    let now = week_of(tx.now);
    let since = week_of(last_fetch).max(now.saturating_sub(WEEKS)).saturating_sub(1);
    let horizon = tx.now.saturating_sub(Millis::from(WEEKS) * WEEK);
    let mut epochs: Vec<(usize, EpochId)> = Vec::new();
    for topic in accounts::topic_ids(tx)? {
        if !topics::members(tx, topic)?.contains(&account) {
            continue;
        }
        // Whoever lags leaves things under an epoch until it hears of the next one: the newest
        // is read, and each that was the newest within this many weeks.
        let mut superseded = Millis::MAX;
        let all = topics::epochs(&tx.stage, topic, topics::MAX_EPOCHS)?;
        for (age, epoch) in all.into_iter().enumerate() {
            if superseded < horizon {
                break;
            }
            let Some(row) = tx.typed::<Epoch>(&EPOCHS, &epoch.0)? else { continue };
            superseded = row.received;
            epochs.push((age, epoch));
        }
    }
    epochs.sort_unstable();
    for (age, epoch) in epochs {
        if wanted.len() >= MAX_TAGS {
            break;
        }
        for week in since..=now + 1 {
            let open = age < OPENED_EPOCHS && week >= now;
            wanted.insert(TagSource::Topic(epoch, week), open);
        }
    }
    Ok(wanted)
}

fn tag_key(tx: &mut Tx<'_>, source: TagSource) -> Result<Option<SigningKey>, Fail> {
    Ok(match source {
        TagSource::Inbox(id) => {
            let row: Option<OwnPrekey> = tx.typed(&OWN_PREKEYS, &id)?;
            row.map(|r| SigningKey::from_bytes(&r.inbox))
        }
        TagSource::Card => features::contacts::card_tag_key(tx)?,
        TagSource::Topic(epoch, week) => {
            topics::secret(tx, epoch)?.map(|(_, secret)| secret.tag_key(week))
        }
    })
}

fn kind_of(tx: &mut Tx<'_>, source: TagSource) -> Result<TagKind, Fail> {
    Ok(match source {
        TagSource::Inbox(_) => TagKind::Inbox,
        TagSource::Card => {
            TagKind::Card { secrets: capped(features::contacts::card_secret_hashes(tx)?) }
        }
        TagSource::Topic(..) => TagKind::Topic,
    })
}

/// The card's secrets changed: its tag is opened anew with the new ones.
pub(crate) fn reopen_card(tx: &mut Tx<'_>) -> Result<(), Fail> {
    let rows: Vec<(Vec<u8>, TagRow)> = tx.scan_typed(&TAGS, &KeyRange::all(), false, 65_536)?;
    for (key, mut row) in rows {
        if row.source == TagSource::Card {
            row.open = false;
            tx.put(&TAGS, &key, &row)?;
            let opening = |p: &Pending| matches!(p, Pending::Open(tag, _) if key.last_chunk::<32>() == Some(&tag.0));
            tx.mem.card_dirty |= tx.mem.mail.values().any(|s| s.inflight.values().any(opening));
        }
    }
    tx.mem.mail_due = true;
    Ok(())
}

/// Takes a reply in; items are returned, to be taken in one by one.
pub(crate) fn reply(
    tx: &mut Tx<'_>,
    id: u64,
    result: Result<&[u8], &str>,
) -> Result<Vec<Fetched>, Fail> {
    let Some((relay, pending)) =
        tx.mem.mail.iter_mut().find_map(|(relay, s)| s.inflight.remove(&id).map(|p| (*relay, p)))
    else {
        return Ok(Vec::new());
    };
    let decoded = match result {
        Ok(bytes) => codec::decode::<Reply>(bytes).map_err(|e| e.to_string()),
        Err(why) => Err(why.to_owned()),
    };
    let mut row: RelayRow = tx.typed(&RELAYS, &relay.0)?.unwrap_or_default();
    let reply = match decoded {
        Ok(reply) => reply,
        Err(why) => {
            // Unreachable: everything at this relay waits, longer each time.
            let now = tx.now;
            let session = tx.mem.mail.entry(relay).or_default();
            session.back_off(now);
            session.challenge = None;
            session.refused = None;
            requeue(tx, &pending);
            if row.trouble != why {
                row.trouble = why;
                tx.put(&RELAYS, &relay.0, &row)?;
            }
            return Ok(Vec::new());
        }
    };
    let refused = matches!(reply, Reply::Refused(_));
    let now = tx.now;
    let session = tx.mem.mail.entry(relay).or_default();
    let settled =
        !refused && session.refused.as_ref().is_none_or(|r| r.is_settled_by(&pending, now));
    if settled {
        session.refused = None;
    }
    // A relay that answers again is noted once a minute, not for every answer.
    let well_again = settled && !row.trouble.is_empty();
    if well_again || row.last_answer.is_none_or(|t| t + 60_000 < now) {
        row.last_answer = Some(now);
        if well_again {
            row.trouble.clear();
        }
        tx.put(&RELAYS, &relay.0, &row)?;
    }
    if let Reply::Refused(refusal) = reply {
        refuse(tx, relay, row, pending, refusal)?;
        return Ok(Vec::new());
    }
    // A greeting is no success: what it is followed by may be refused.
    if pending != Pending::Hello {
        tx.mem.mail.entry(relay).or_default().fails = 0;
    }
    answered(tx, relay, row, pending, reply)
}

fn answered(
    tx: &mut Tx<'_>,
    relay: RelayId,
    mut row: RelayRow,
    pending: Pending,
    reply: Reply,
) -> Result<Vec<Fetched>, Fail> {
    match (pending, reply) {
        (Pending::Hello, Reply::Hello { challenge, .. }) => {
            tx.mem.mail.entry(relay).or_default().challenge = Some(challenge);
            tx.mem.mail_all = true;
            tx.mem.mail_due = true;
        }
        (Pending::Admit, Reply::Tokens(tokens)) => {
            row.code = None;
            tx.put(&RELAYS, &relay.0, &row)?;
            add_tokens(tx, relay, &tokens)?;
        }
        (Pending::Refill(token), Reply::Tokens(tokens)) => {
            tx.del(&TOKENS, &token_key(relay, &token))?;
            add_tokens(tx, relay, &tokens)?;
        }
        (Pending::Open(tag, token), Reply::Opened { spent }) => {
            if spent {
                tx.del(&TOKENS, &token_key(relay, &token))?;
            }
            let key = pair_key(&relay.0, &tag.0);
            let mut opened = None;
            if let Some(mut row) = tx.typed::<TagRow>(&TAGS, &key)? {
                // Opened with secrets that have changed since: once more, with the new ones.
                let stale = row.source == TagSource::Card && std::mem::take(&mut tx.mem.card_dirty);
                row.open = !stale;
                tx.mem.mail_due |= stale;
                tx.put(&TAGS, &key, &row)?;
                if let TagSource::Topic(epoch, _) = row.source {
                    opened = topics::secret(tx, epoch)?.map(|(topic, _)| topic);
                }
            }
            let session = tx.mem.mail.entry(relay).or_default();
            session.to_open.remove(&tag);
            session.hushed.remove(&tag.0);
            if let Some(topic) = opened {
                session.hushed.remove(&topic.0);
            }
            // What was refused because the tag was closed may be left now.
            tx.mem.mail_all = true;
        }
        (Pending::Run { topic, first, upto }, Reply::Deposited { .. }) => {
            let key = pair_key(&topic.0, &relay.0);
            if let Some(mut deposit) = tx.typed::<Deposit>(&DEPOSITS, &key)? {
                deposit.deposited(first, upto);
                tx.put(&DEPOSITS, &key, &deposit)?;
            }
            tx.mem.mail.entry(relay).or_default().hushed.remove(&topic.0);
            tx.mem.mail_topics.insert(topic);
        }
        (Pending::Cursor { topic, acks }, Reply::Deposited { .. }) => {
            note_mailed(tx, topic, &acks)?;
        }
        (Pending::Out { key, tag }, Reply::Deposited { .. }) => {
            tx.mem.mail.entry(relay).or_default().hushed.remove(&tag.0);
            stored(tx, relay, &key)?;
        }
        (Pending::Fetch(fetch), Reply::Items { items, more, .. }) => {
            return fetched(tx, relay, &fetch, items.into_inner(), more);
        }
        (pending, _) => {
            // Nothing that can be worked with: it is left alone for a while.
            let now = tx.now;
            tx.mem.mail.entry(relay).or_default().back_off(now);
            requeue(tx, &pending);
            return Err(Fail::peer("a relay answered something else than was asked"));
        }
    }
    Ok(Vec::new())
}

/// What a fetch brought.
fn fetched(
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

fn refuse(
    tx: &mut Tx<'_>,
    relay: RelayId,
    mut row: RelayRow,
    pending: Pending,
    refusal: Refusal,
) -> Result<(), Fail> {
    let now = tx.now;
    match (&pending, refusal) {
        (_, Refusal::NoSession) => {
            let session = tx.mem.mail.entry(relay).or_default();
            session.challenge = None;
            session.back_off(now);
            requeue(tx, &pending);
            return Ok(());
        }
        (Pending::Open(_, token) | Pending::Refill(token), Refusal::BadToken) => {
            tx.del(&TOKENS, &token_key(relay, token))?;
            return Ok(());
        }
        (Pending::Admit, Refusal::BadCode) => {
            row.code = None;
        }
        (Pending::Run { topic, upto, .. }, Refusal::Closed)
            if closed(tx, relay, *topic, *upto)? =>
        {
            return Ok(());
        }
        // The cursor's author has no open tag there: it will be told when it connects.
        (Pending::Cursor { topic, acks }, Refusal::Closed) => {
            return cursor_to_inboxes(tx, *topic, acks);
        }
        _ => {}
    }
    let words = refusal.to_string();
    if row.trouble != words {
        row.trouble = words;
        tx.put(&RELAYS, &relay.0, &row)?;
    }
    let session = tx.mem.mail.entry(relay).or_default();
    // What concerns one mailbox stops that mailbox.
    let one = pending.about();
    if let Some(id) = one {
        session.hush(id, now);
    }
    let whole = matches!(
        refusal,
        Refusal::SlowDown | Refusal::RelayFull | Refusal::Storage | Refusal::Draining
    );
    let about = one.filter(|_| !whole);
    session.refused = Some(Refused { kind: discriminant(&pending), about, at: now });
    if whole || one.is_none() {
        session.back_off(now);
    }
    requeue(tx, &pending);
    Ok(())
}

/// Nobody opened the topic's tag there: leaves the run in the inboxes of the devices that fetch
/// there. False when none of them can be reached so.
fn closed(tx: &mut Tx<'_>, relay: RelayId, topic: TopicId, upto: u64) -> Result<bool, Fail> {
    let me = tx.me()?;
    let key = pair_key(&topic.0, &relay.0);
    let Some(mut deposit) = tx.typed::<Deposit>(&DEPOSITS, &key)? else { return Ok(false) };
    if deposit.runs.len() >= MAX_RUNS {
        return Ok(false);
    }
    let first = deposit.handed + 1;
    let run = letters::run(&tx.stage, topic, me.device, first, upto)?;
    let last = deposit.handed + run.len() as u64;
    if run.is_empty() {
        // It was handed over meanwhile.
        tx.mem.mail_topics.insert(topic);
        return Ok(deposit.handed >= upto);
    }
    let mut copies = 0;
    for device in topics::devices(tx, topic)? {
        let account = accounts::account_of(tx, device)?;
        let Some(account) = account else { continue };
        let fetches_there = accounts::relays_of(tx, account)?.iter().any(|r| r.id == relay);
        if device == me.device || !fetches_there || accounts::bundle_of(tx, device)?.is_none() {
            continue;
        }
        // Every item in the outbox has a number: whether one was made shows there.
        let before = tx.me_row()?.next;
        let items = vec![InboxItem::Letters(capped(run.clone()))];
        inbox::send_run(tx, device, items, Some((topic, relay, last)))?;
        copies += u32::from(tx.me_row()?.next > before);
    }
    if copies == 0 {
        return Ok(false);
    }
    deposit.hand(first, last, copies);
    tx.put(&DEPOSITS, &key, &deposit)?;
    tx.mem.mail_topics.insert(topic);
    Ok(true)
}

fn cursor_to_inboxes(
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

fn note_mailed(tx: &mut Tx<'_>, topic: TopicId, acks: &[(DeviceId, u64)]) -> Result<(), Fail> {
    let Some(mut own) = tx.typed::<OwnCursor>(&OWN_CURSORS, &topic.0)? else { return Ok(()) };
    let mut mailed: BTreeMap<DeviceId, u64> = own.mailed.iter().copied().collect();
    for (device, seq) in acks {
        let known = mailed.entry(*device).or_default();
        *known = (*known).max(*seq);
    }
    own.mailed = mailed.into_iter().collect();
    Ok(tx.put(&OWN_CURSORS, &topic.0, &own)?)
}

/// A relay stored an outbox item. One durable copy is enough: the device fetches at each
/// of its relays.
fn stored(tx: &mut Tx<'_>, relay: RelayId, key: &[u8]) -> Result<(), Fail> {
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

/// A copy of a run left the outbox otherwise than to its relay: its device has it, or nobody
/// can open it any longer. To be called once for each row deleted.
pub(crate) fn run_settled(
    tx: &mut Tx<'_>,
    run: (TopicId, RelayId, u64),
) -> Result<(), StorageError> {
    settle_run(tx, run, false)
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

fn requeue(tx: &mut Tx<'_>, pending: &Pending) {
    match pending {
        Pending::Run { topic, .. } | Pending::Cursor { topic, .. } => {
            tx.mem.mail_topics.insert(*topic);
        }
        _ => {}
    }
}

/// A fetched item, opened as far as no order is needed.
pub(crate) enum Mail {
    /// An envelope, with the bodies that came beside it.
    Letter(Box<letters::Prepared>),
    /// A body that came alone.
    Body(TopicId, Vec<u8>),
    /// A cursor.
    Cursor(Vec<u8>),
    /// A membership record.
    Op(TopicId, Vec<u8>),
    /// Sealed to this device.
    Inbox,
    /// Sealed to the account's card.
    Card,
    /// Taken along with an envelope.
    Joined,
    /// Nothing that a member left; in words.
    Refused(String),
}

/// Opens fetched items on several threads: the outer seal first, then each envelope with
/// the bodies that belong to it.
pub(crate) fn prepare(
    read: &(dyn crate::store::Read + Sync),
    secrets: &letters::Secrets,
    fetched: Vec<Fetched>,
) -> Vec<(Fetched, Mail)> {
    let opened: Vec<(Fetched, Result<Outer, String>)> = fetched
        .into_par_iter()
        .map(|f| {
            let outer = open_outer(read, secrets, &f);
            (f, outer)
        })
        .collect();
    // A body belongs to the envelope whose header names its hash.
    let mut bodies: BTreeMap<SealedHash, usize> = BTreeMap::new();
    for (i, (_, outer)) in opened.iter().enumerate() {
        if let Ok(Outer::Topic(_, TopicMail::Body(body))) = outer {
            bodies.insert(sealed_hash(body), i);
        }
    }
    let mut taken: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let mut joined: BTreeSet<usize> = BTreeSet::new();
    for (i, (_, outer)) in opened.iter().enumerate() {
        if let Ok(Outer::Topic(_, TopicMail::Envelope(bytes))) = outer
            && let Ok(envelope) = Envelope::from_bytes(bytes)
            && let Some(header) = envelope.header
        {
            for hash in &header.bodies {
                if let Some(j) = bodies.get(hash) {
                    taken.entry(i).or_default().push(*j);
                    joined.insert(*j);
                }
            }
        }
    }
    let prepared: Vec<Mail> = (0..opened.len())
        .into_par_iter()
        .map(|i| match &opened[i].1 {
            Err(why) => Mail::Refused(why.clone()),
            Ok(Outer::Inbox) => Mail::Inbox,
            Ok(Outer::Card) => Mail::Card,
            Ok(Outer::Topic(topic, mail)) => match mail {
                TopicMail::Envelope(bytes) => {
                    let with: Vec<_> = taken
                        .get(&i)
                        .into_iter()
                        .flatten()
                        .filter_map(|j| match &opened[*j].1 {
                            Ok(Outer::Topic(_, TopicMail::Body(body))) => Some(body.clone()),
                            _ => None,
                        })
                        .collect();
                    let letter = Letter { envelope: bytes.clone(), bodies: capped(with) };
                    match letters::prepare(read, secrets, letter) {
                        // An envelope of one topic under another's tag is a lie.
                        Ok(p) if p.envelope.topic == *topic => Mail::Letter(Box::new(p)),
                        Ok(_) => Mail::Refused("an envelope of another topic".into()),
                        Err(why) => Mail::Refused(why),
                    }
                }
                TopicMail::Body(_) if joined.contains(&i) => Mail::Joined,
                TopicMail::Body(body) => Mail::Body(*topic, body.to_vec()),
                TopicMail::Cursor(bytes) => Mail::Cursor(bytes.to_vec()),
                TopicMail::Op(bytes) => Mail::Op(*topic, bytes.to_vec()),
            },
        })
        .collect();
    opened.into_iter().map(|(f, _)| f).zip(prepared).collect()
}

enum Outer {
    Topic(TopicId, TopicMail),
    Inbox,
    Card,
}

fn open_outer(
    read: &dyn crate::store::Read,
    secrets: &letters::Secrets,
    f: &Fetched,
) -> Result<Outer, String> {
    let row: Option<TagRow> =
        read.get_typed(&TAGS, &pair_key(&f.relay.0, &f.tag.0)).map_err(|e| e.to_string())?;
    let row = row.ok_or("an item under a tag that is not ours")?;
    let epoch = match row.source {
        TagSource::Inbox(_) => return Ok(Outer::Inbox),
        TagSource::Card => return Ok(Outer::Card),
        TagSource::Topic(epoch, _) => epoch,
    };
    let (topic, secret) = match secrets.get(&epoch) {
        Some((topic, secret)) => (*topic, secret.clone()),
        None => {
            let row: Option<Epoch> =
                read.get_typed(&EPOCHS, &epoch.0).map_err(|e| e.to_string())?;
            let row = row.ok_or("the epoch is gone")?;
            (row.topic, std::sync::Arc::new(EpochSecret::from_bytes(row.secret)))
        }
    };
    let mail = mailbox::open_topic_mail(&f.bytes, &secret, f.tag).map_err(|e| e.to_string())?;
    Ok(Outer::Topic(topic, mail))
}

/// Takes one fetched item in. Its index is noted by the caller even if it is refused.
pub(crate) fn take(tx: &mut Tx<'_>, fetched: &Fetched, mail: Mail) -> Result<(), Fail> {
    match mail {
        Mail::Letter(prepared) => {
            let topic = prepared.envelope.topic;
            let now = tx.now;
            let outcome = letters::accept(tx, *prepared, now)?;
            if matches!(outcome, letters::Outcome::Stored(_)) {
                crate::engine::sync::note_news(tx, topic, None);
            }
            Ok(())
        }
        Mail::Body(topic, body) => letters::take_lone_body(tx, topic, body),
        Mail::Cursor(bytes) => cursors::learn(tx, &bytes),
        Mail::Op(topic, bytes) => topics::learn(tx, topic, &[bytes]).map(|_| ()),
        Mail::Inbox => inbox::receive(tx, &fetched.bytes).map(|_| ()),
        Mail::Card => features::contacts::request(tx, &fetched.bytes),
        Mail::Joined => Ok(()),
        Mail::Refused(why) => Err(Fail::Peer(why)),
    }
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

/// Takes tokens out, for a new device of the account.
pub(crate) fn share_tokens(
    tx: &mut Tx<'_>,
    most: usize,
) -> Result<Vec<(RelayId, Vec<Token>)>, Fail> {
    let account = tx.account()?;
    let mut out = Vec::new();
    for relay in accounts::relays_of(tx, account)? {
        let rows = tx.scan(&TOKENS, &KeyRange::prefix(&relay.id.0), true, most)?;
        let mut tokens = Vec::new();
        for (key, _) in rows {
            tokens.push(token_of(&key));
            tx.del(&TOKENS, &key)?;
        }
        out.push((relay.id, tokens));
    }
    Ok(out)
}

/// Puts tokens in.
pub(crate) fn take_tokens(
    tx: &mut Tx<'_>,
    list: &[(RelayId, Vec<Token>)],
) -> Result<(), StorageError> {
    for (relay, tokens) in list.iter().take(8) {
        for token in tokens.iter().take(64) {
            tx.put_raw(&TOKENS, &token_key(*relay, token), Vec::new())?;
        }
    }
    tx.mem.mail_due = true;
    Ok(())
}

fn add_tokens(tx: &mut Tx<'_>, relay: RelayId, tokens: &[Token]) -> Result<(), StorageError> {
    for token in tokens {
        tx.put_raw(&TOKENS, &token_key(relay, token), Vec::new())?;
    }
    tx.mem.mail_due = true;
    Ok(())
}

fn token_key(relay: RelayId, token: &Token) -> Vec<u8> {
    Key::new().fixed(&relay.0).fixed(token).into_bytes()
}

fn token_of(key: &[u8]) -> Token {
    key.last_chunk::<16>().copied().unwrap_or_default()
}

/// Something under a tag came too early: it is not asked for again for a while.
pub(crate) fn stall(mem: &mut Memory, relay: RelayId, tag: Tag, now: Millis) {
    mem.mail.entry(relay).or_default().hush(tag.0, now);
}

#[cfg(test)]
mod tests;
