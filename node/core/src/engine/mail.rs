//! The client of relays: admission, tags, fetching, depositing.
//!
//! Everything to be done follows from tables (which tags are wanted, how far each relay has
//! the own chain, what waits in the outbox); [`pump`] compares and asks. A lost request or
//! reply costs time, nothing else: deposits are idempotent at the relay, and fetches start
//! after the highest index that is durable here.

use std::collections::{BTreeMap, BTreeSet};

use teahouse_protocols::account::RelayAddr;
use teahouse_protocols::codec;
use teahouse_protocols::cursor::Ack;
use rayon::prelude::*;
use teahouse_protocols::envelope::{Envelope, sealed_hash};
use teahouse_protocols::epoch::{EpochSecret, week_of};
use teahouse_protocols::ids::{DeviceId, EpochId, Millis, RelayId, SealedHash, Tag, TopicId};
use teahouse_protocols::inbox::{InboxItem, Letter};
use teahouse_protocols::mailbox::{
    self, Item, MAX_READS, Read as TagRead, Refusal, Reply, Request, Right, TagKind, Token,
    TopicMail,
};
use teahouse_protocols::sign::SigningKey;

use crate::engine::{accounts, cursors, inbox, letters, topics};
use crate::features;
use crate::store::{Key, KeyRange, ReadExt, StorageError};
use crate::tables::{
    CHAINS, Chain, DEPOSITS, Deposit, EPOCHS, Epoch, OUTBOX, OWN_CURSORS, OWN_PREKEYS, OutItem, OwnCursor,
    OwnPrekey, RELAYS, RelayRow, TAGS, TOKENS, TagRow, TagSource, chain_key, pair_key,
};
use crate::tx::{Fail, Tx, capped};

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

/// The session with one relay. Volatile.
#[derive(Debug, Default)]
pub(crate) struct Session {
    challenge: Option<[u8; 32]>,
    inflight: BTreeMap<u64, Pending>,
    retry_at: Millis,
    fails: u32,
    tags_checked: Millis,
    /// When each topic's cursor may be mailed.
    cursor_due: BTreeMap<TopicId, Millis>,
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
}

/// What a request under way is for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Pending {
    Hello,
    Admit,
    Refill(Token),
    Open(Tag, Token),
    Fetch(BTreeSet<Tag>),
    Run { topic: TopicId, tag: Tag, upto: u64 },
    Cursor { topic: TopicId, acks: Vec<(DeviceId, u64)> },
    Out(Vec<u8>),
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
        let getting = self
            .inflight(relay.id, |p| matches!(p, Pending::Admit | Pending::Refill(_)));
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

    /// Compares the tags that should be read with those that are.
    fn tags(&mut self, relay: &RelayAddr, row: &RelayRow) -> Result<(), Fail> {
        let now = self.tx.now;
        let checked = self.session(relay.id).tags_checked;
        if self.tx.mem.mail_due || now > checked.saturating_add(TAGS_EVERY) || checked == 0 {
            let wanted = wanted_tags(self.tx, row.fetched)?;
            for (tag, source) in &wanted {
                let key = pair_key(&relay.id.0, &tag.0);
                if !self.tx.contains(&TAGS, &key)? {
                    let row =
                        TagRow { source: *source, after: 0, open: false, since: now };
                    self.tx.put(&TAGS, &key, &row)?;
                }
            }
            let rows: Vec<(Vec<u8>, TagRow)> =
                self.tx.scan_typed(&TAGS, &KeyRange::prefix(&relay.id.0), false, 65_536)?;
            for (key, row) in rows {
                let Some(tag) = key.last_chunk::<32>() else { continue };
                let stale = match row.source {
                    TagSource::Topic(_, week) => week + WEEKS + 2 < week_of(now),
                    _ => false,
                };
                if stale || !wanted.contains_key(&Tag(*tag)) && matches!(row.source, TagSource::Inbox(_)) {
                    self.tx.del(&TAGS, &key)?;
                }
            }
            self.session(relay.id).tags_checked = now.max(1);
        }
        // Open what is to be open: inboxes, the card, and topics this week and next.
        let rows: Vec<(Vec<u8>, TagRow)> =
            self.tx.scan_typed(&TAGS, &KeyRange::prefix(&relay.id.0), false, 65_536)?;
        let week = week_of(now);
        for (key, row) in rows {
            let Some(tag) = key.last_chunk::<32>().map(|t| Tag(*t)) else { continue };
            let to_open = match row.source {
                TagSource::Topic(_, w) => w >= week,
                _ => true,
            };
            if row.open || !to_open || !self.ready(relay) {
                continue;
            }
            if self.inflight(relay.id, |p| matches!(p, Pending::Open(t, _) if *t == tag)) {
                continue;
            }
            let Some(key) = tag_key(self.tx, row.source)? else { continue };
            let Some(token) = self.take_token(relay.id)? else { break };
            let kind = kind_of(self.tx, row.source)?;
            let proof = mailbox::open_proof(&key, relay.id, &kind);
            self.send(
                relay,
                &Request::Open { tag, kind, token, proof },
                Pending::Open(tag, token),
            );
        }
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

    /// Keeps a long fetch under way over all tags.
    fn fetch(&mut self, relay: &RelayAddr) -> Result<(), Fail> {
        let Some(challenge) = self.session(relay.id).challenge else { return Ok(()) };
        let covered: BTreeSet<Tag> = self
            .session(relay.id)
            .inflight
            .values()
            .filter_map(|p| match p {
                Pending::Fetch(tags) => Some(tags.iter().copied()),
                _ => None,
            })
            .flatten()
            .collect();
        let rows: Vec<(Vec<u8>, TagRow)> =
            self.tx.scan_typed(&TAGS, &KeyRange::prefix(&relay.id.0), false, 65_536)?;
        let mut reads = Vec::new();
        let mut tags = BTreeSet::new();
        for (key, row) in rows {
            let Some(tag) = key.last_chunk::<32>().map(|t| Tag(*t)) else { continue };
            if covered.contains(&tag) || reads.len() == MAX_READS {
                continue;
            }
            let Some(key) = tag_key(self.tx, row.source)? else { continue };
            let proof = mailbox::read_proof(&key, relay.id, &challenge);
            reads.push(TagRead { tag, after: row.after, proof });
            tags.insert(tag);
        }
        if reads.is_empty() || !self.ready(relay) {
            return Ok(());
        }
        // At most four fetches wait at a relay; beyond that, the next round takes the rest.
        let waiting = self
            .session(relay.id)
            .inflight
            .values()
            .filter(|p| matches!(p, Pending::Fetch(_)))
            .count();
        if waiting >= 4 {
            return Ok(());
        }
        let request = Request::Fetch { reads: capped(reads), wait: true };
        self.send(relay, &request, Pending::Fetch(tags));
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
        let members = topics::members(self.tx, topic)?;
        if !members.contains(&account) {
            return Ok(false);
        }
        let chain: Option<Chain> =
            self.tx.typed(&CHAINS, &chain_key(topic, me.device))?;
        let high = chain.map_or(0, |c| c.high);
        let mut again = false;
        // Everybody's relays, with the devices that fetch there.
        let mut targets: BTreeMap<RelayId, (RelayAddr, Vec<DeviceId>)> = BTreeMap::new();
        let mut floor = u64::MAX;
        let mut all_live = true;
        for member in members {
            let devices = accounts::devices_of(self.tx, member)?;
            let others: Vec<DeviceId> =
                devices.into_iter().filter(|d| *d != me.device).collect();
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
        for (relay, devices) in targets.values() {
            let key = pair_key(&topic.0, &relay.id.0);
            let known: Option<Deposit> = self.tx.typed(&DEPOSITS, &key)?;
            let mut deposit = known.unwrap_or(Deposit { from: floor, upto: floor, inboxed: 0 });
            if known.is_none() {
                self.tx.put(&DEPOSITS, &key, &deposit)?;
            }
            // What every device has is no relay's business any more.
            if floor > deposit.upto && deposit.inboxed <= deposit.upto {
                if deposit.from == deposit.upto {
                    deposit.from = floor;
                }
                deposit.upto = floor;
                self.tx.put(&DEPOSITS, &key, &deposit)?;
            }
            if deposit.upto.max(deposit.inboxed) < high {
                again = true;
                self.run(topic, relay, devices, deposit, high, all_live)?;
            }
        }
        again |= self.cursor(topic, &targets)?;
        Ok(again)
    }

    /// Deposits the next stretch of the own chain at one relay.
    fn run(
        &mut self,
        topic: TopicId,
        relay: &RelayAddr,
        devices: &[DeviceId],
        deposit: Deposit,
        high: u64,
        all_live: bool,
    ) -> Result<(), Fail> {
        let me = self.tx.me()?;
        let from = deposit.upto.max(deposit.inboxed) + 1;
        let first = letters::log_row(&self.tx.stage, topic, me.device, from)?;
        let written = first.map_or(0, |r| r.received);
        if all_live && self.tx.now < written.saturating_add(LIVE_PATIENCE) {
            self.wake_at(written + LIVE_PATIENCE);
            return Ok(());
        }
        if self.inflight(relay.id, |p| matches!(p, Pending::Run { topic: t, .. } if *t == topic)) {
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
            if epoch.is_some_and(|e| e != header.epoch)
                || bytes > DEPOSIT_BYTES
                || items.len() + 1 + letter.bodies.len() > 256
            {
                break;
            }
            epoch = Some(header.epoch);
            bytes += letter.envelope.len();
            items.push(TopicMail::Envelope(letter.envelope));
            for body in letter.bodies {
                bytes += body.len();
                items.push(TopicMail::Body(body));
            }
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
        let _ = devices;
        self.send(
            relay,
            &Request::Deposit { tag, items: capped(items), right },
            Pending::Run { topic, tag, upto },
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
        let absent: Vec<DeviceId> = news
            .iter()
            .map(|(d, _)| *d)
            .filter(|d| !self.tx.mem.peers.contains_key(d))
            .collect();
        if absent.is_empty() {
            return Ok(false);
        }
        let Some((relay, _)) = targets
            .values()
            .find(|(_, devices)| absent.iter().any(|d| devices.contains(d)))
        else {
            return Ok(false);
        };
        let relay = relay.clone();
        let now = self.tx.now;
        let due = *self
            .session(relay.id)
            .cursor_due
            .entry(topic)
            .or_insert(now + CURSOR_PATIENCE);
        if due > now {
            self.wake_at(due);
            return Ok(true);
        }
        if self.inflight(relay.id, |p| matches!(p, Pending::Cursor { topic: t, .. } if *t == topic))
            || !self.ready(&relay)
        {
            return Ok(true);
        }
        let Some(epoch) = topics::epochs(&self.tx.stage, topic, 1)?.first().copied() else {
            return Ok(false);
        };
        let Some((_, secret)) = topics::secret(self.tx, epoch)? else { return Ok(false) };
        let account = self.tx.account()?;
        let mut acks = Vec::new();
        for (device, seq) in &news {
            if let Some(row) = letters::log_row(&self.tx.stage, topic, *device, *seq)?
                && let Ok(envelope) = Envelope::from_bytes(&row.envelope)
            {
                acks.push(Ack { device: *device, seq: *seq, id: envelope.id() });
            }
        }
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
        let items = vec![Item {
            bytes: codec::Bytes::try_from(sealed).map_err(Fail::peer)?,
            delete: None,
        }];
        let right = Right::Member(mailbox::write_proof(&key, relay.id, &items));
        self.session(relay.id).cursor_due.remove(&topic);
        self.send(
            &relay,
            &Request::Deposit { tag, items: capped(items), right },
            Pending::Cursor { topic, acks: news },
        );
        Ok(true)
    }

    /// What is sealed to single devices, for their relays.
    fn outbox(&mut self) -> Result<(), Fail> {
        let rows: Vec<(Vec<u8>, OutItem)> =
            self.tx.scan_typed(&OUTBOX, &KeyRange::all(), false, 1_024)?;
        // In order per tag: what comes later may build on what came before.
        let mut busy: BTreeSet<(RelayId, Tag)> = BTreeSet::new();
        for (key, item) in rows {
            let live = item.device.is_some_and(|d| self.tx.mem.peers.contains_key(&d));
            if live && self.tx.now < item.made.saturating_add(LIVE_PATIENCE) {
                self.wake_at(item.made + LIVE_PATIENCE);
                continue;
            }
            for relay in item.relays.clone() {
                if !busy.insert((relay.id, item.tag))
                    || self.inflight(relay.id, |p| matches!(p, Pending::Out(k) if *k == key))
                    || !self.ready(&relay)
                {
                    continue;
                }
                let Ok(bytes) = codec::Bytes::try_from(item.sealed.clone()) else { continue };
                let right = item.secret.map_or(Right::None, Right::Invite);
                let items = capped(vec![Item { bytes, delete: None }]);
                self.send(
                    &relay,
                    &Request::Deposit { tag: item.tag, items, right },
                    Pending::Out(key.clone()),
                );
            }
        }
        Ok(())
    }
}

/// Tags that this device should read at each of its relays, and where their keys are from.
fn wanted_tags(
    tx: &mut Tx<'_>,
    last_fetch: Millis,
) -> Result<BTreeMap<Tag, TagSource>, Fail> {
    let mut wanted = BTreeMap::new();
    let prekeys: Vec<(Vec<u8>, OwnPrekey)> =
        tx.scan_typed(&OWN_PREKEYS, &KeyRange::all(), false, 256)?;
    for (key, row) in prekeys {
        let Ok(id) = <[u8; 8]>::try_from(key.as_slice()) else { continue };
        let tag = Tag(SigningKey::from_bytes(&row.inbox).verifying_key().to_bytes());
        wanted.insert(tag, TagSource::Inbox(id));
    }
    if let Some(key) = features::contacts::card_tag_key(tx)? {
        wanted.insert(Tag(key.verifying_key().to_bytes()), TagSource::Card);
    }
    let account = tx.account()?;
    let now = week_of(tx.now);
    let since = week_of(last_fetch).max(now.saturating_sub(WEEKS)).saturating_sub(1);
    for topic in accounts::topic_ids(tx)? {
        if !topics::members(tx, topic)?.contains(&account) {
            continue;
        }
        let epochs = topics::epochs(&tx.stage, topic, 16)?;
        for (age, epoch) in epochs.into_iter().enumerate() {
            let Some((_, secret)) = topics::secret(tx, epoch)? else { continue };
            // Old epochs are read for what was left under them, not for what may come.
            let from = if age < 4 { since } else { now.saturating_sub(1) };
            for week in from..=now + 1 {
                wanted.insert(secret.tag(week), TagSource::Topic(epoch, week));
            }
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
        TagSource::Card => TagKind::Card {
            secrets: capped(features::contacts::card_secret_hashes(tx)?),
        },
        TagSource::Topic(..) => TagKind::Topic,
    })
}

/// The card's secrets changed: its tag is opened anew with the new ones.
pub(crate) fn reopen_card(tx: &mut Tx<'_>) -> Result<(), Fail> {
    let rows: Vec<(Vec<u8>, TagRow)> =
        tx.scan_typed(&TAGS, &KeyRange::all(), false, 65_536)?;
    for (key, mut row) in rows {
        if row.source == TagSource::Card {
            row.open = false;
            tx.put(&TAGS, &key, &row)?;
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
    let Some((relay, pending)) = tx
        .mem
        .mail
        .iter_mut()
        .find_map(|(relay, s)| s.inflight.remove(&id).map(|p| (*relay, p)))
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
            requeue(tx, &pending);
            if row.trouble != why {
                row.trouble = why;
                tx.put(&RELAYS, &relay.0, &row)?;
            }
            return Ok(Vec::new());
        }
    };
    tx.mem.mail.entry(relay).or_default().fails = 0;
    // A relay that answers again is noted once a minute, not for every answer.
    let refused = matches!(reply, Reply::Refused(_));
    if !refused && !row.trouble.is_empty()
        || row.last_answer.is_none_or(|t| t + 60_000 < tx.now)
    {
        row.last_answer = Some(tx.now);
        if !refused {
            row.trouble.clear();
        }
        tx.put(&RELAYS, &relay.0, &row)?;
    }
    if let Reply::Refused(refusal) = reply {
        refuse(tx, relay, row, pending, refusal)?;
        return Ok(Vec::new());
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
            if let Some(mut row) = tx.typed::<TagRow>(&TAGS, &key)? {
                row.open = true;
                tx.put(&TAGS, &key, &row)?;
            }
            // What was refused because the tag was closed may be left now.
            tx.mem.mail_all = true;
        }
        (Pending::Run { topic, upto, .. }, Reply::Deposited { .. }) => {
            let key = pair_key(&topic.0, &relay.0);
            if let Some(mut deposit) = tx.typed::<Deposit>(&DEPOSITS, &key)? {
                deposit.upto = deposit.upto.max(upto);
                tx.put(&DEPOSITS, &key, &deposit)?;
            }
            tx.mem.mail_topics.insert(topic);
        }
        (Pending::Cursor { topic, acks }, Reply::Deposited { .. }) => {
            if let Some(mut own) = tx.typed::<OwnCursor>(&OWN_CURSORS, &topic.0)? {
                let mut mailed: BTreeMap<DeviceId, u64> = own.mailed.iter().copied().collect();
                for (device, seq) in acks {
                    let known = mailed.entry(device).or_default();
                    *known = (*known).max(seq);
                }
                own.mailed = mailed.into_iter().collect();
                tx.put(&OWN_CURSORS, &topic.0, &own)?;
            }
        }
        (Pending::Out(key), Reply::Deposited { .. }) => stored(tx, relay, &key)?,
        (Pending::Fetch(tags), Reply::Items { items, more, .. }) => {
            if !more && row.fetched + 60_000 < tx.now {
                row.fetched = tx.now;
                tx.put(&RELAYS, &relay.0, &row)?;
            }
            let _ = tags;
            let fetched: Vec<Fetched> = items
                .into_iter()
                .map(|(tag, index, bytes)| Fetched { relay, tag, index, bytes: bytes.into_inner() })
                .collect();
            return Ok(fetched);
        }
        (pending, _) => {
            requeue(tx, &pending);
            return Err(Fail::peer("a relay answered something else than was asked"));
        }
    }
    Ok(Vec::new())
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
            tx.mem.mail.entry(relay).or_default().challenge = None;
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
        (Pending::Run { topic, upto, .. }, Refusal::Closed) => {
            return closed(tx, relay, *topic, *upto);
        }
        // The cursor's author has no open tag there: it will be told when it connects.
        (Pending::Cursor { topic, acks }, Refusal::Closed) => {
            return cursor_to_inboxes(tx, *topic, acks);
        }
        _ => {}
    }
    row.trouble = refusal.to_string();
    tx.put(&RELAYS, &relay.0, &row)?;
    tx.mem.mail.entry(relay).or_default().back_off(now);
    requeue(tx, &pending);
    Ok(())
}

/// Nobody opened the topic's tag there: open it with an own token where this account is
/// admitted, else leave the run in the inboxes of the devices that fetch there.
fn closed(tx: &mut Tx<'_>, relay: RelayId, topic: TopicId, upto: u64) -> Result<(), Fail> {
    let me = tx.me()?;
    let key = pair_key(&topic.0, &relay.0);
    let Some(mut deposit) = tx.typed::<Deposit>(&DEPOSITS, &key)? else { return Ok(()) };
    let from = deposit.upto.max(deposit.inboxed) + 1;
    let mut run: Vec<Letter> = Vec::new();
    let mut bytes = 0;
    let mut last = from - 1;
    for seq in from..=upto {
        let Some(letter) = letters::letter(&tx.stage, topic, me.device, seq)? else { break };
        bytes += letter.envelope.len() + letter.bodies.iter().map(|b| b.len()).sum::<usize>();
        if !run.is_empty() && (bytes > inbox::LETTER_BYTES || run.len() >= 64) {
            break;
        }
        run.push(letter);
        last = seq;
    }
    if run.is_empty() {
        return Ok(());
    }
    let mut any = false;
    for device in topics::devices(tx, topic)? {
        let account = accounts::account_of(tx, device)?;
        let Some(account) = account else { continue };
        let fetches_there =
            accounts::relays_of(tx, account)?.iter().any(|r| r.id == relay);
        if device == me.device || !fetches_there || accounts::bundle_of(tx, device)?.is_none() {
            continue;
        }
        let items = vec![InboxItem::Letters(capped(run.clone()))];
        inbox::send_run(tx, device, items, Some((topic, relay, last)))?;
        any = true;
    }
    if any {
        deposit.inboxed = last;
        tx.put(&DEPOSITS, &key, &deposit)?;
        tx.mem.mail_topics.insert(topic);
    }
    Ok(())
}

fn cursor_to_inboxes(
    tx: &mut Tx<'_>,
    topic: TopicId,
    acks: &[(DeviceId, u64)],
) -> Result<(), Fail> {
    let account = tx.account()?;
    let mut own = tx.typed::<OwnCursor>(&OWN_CURSORS, &topic.0)?.unwrap_or_default();
    let mut list = Vec::new();
    for (device, seq) in acks {
        if let Some(row) = letters::log_row(&tx.stage, topic, *device, *seq)?
            && let Ok(envelope) = Envelope::from_bytes(&row.envelope)
        {
            list.push(Ack { device: *device, seq: *seq, id: envelope.id() });
        }
    }
    let signed = cursors::sign(tx, account, topic, own.counter, list)?;
    let bytes = codec::Bytes::try_from(signed.bytes().to_vec()).map_err(Fail::peer)?;
    for (device, _) in acks {
        inbox::send(tx, *device, vec![InboxItem::Cursor(bytes.clone())])?;
    }
    let mut mailed: BTreeMap<DeviceId, u64> = own.mailed.iter().copied().collect();
    for (device, seq) in acks {
        let known = mailed.entry(*device).or_default();
        *known = (*known).max(*seq);
    }
    own.mailed = mailed.into_iter().collect();
    tx.put(&OWN_CURSORS, &topic.0, &own)?;
    Ok(())
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
    if let Some((topic, relay, upto)) = item.run {
        // The run counts as stored there when the last of its copies is.
        let rows: Vec<(Vec<u8>, OutItem)> =
            tx.scan_typed(&OUTBOX, &KeyRange::all(), false, 16_384)?;
        let left = rows.iter().any(|(_, i)| {
            i.run.is_some_and(|(t, r, u)| t == topic && r == relay && u <= upto)
        });
        let key = pair_key(&topic.0, &relay.0);
        if !left && let Some(mut deposit) = tx.typed::<Deposit>(&DEPOSITS, &key)? {
            deposit.upto = deposit.upto.max(upto);
            tx.put(&DEPOSITS, &key, &deposit)?;
        }
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
    let row: Option<TagRow> = read
        .get_typed(&TAGS, &pair_key(&f.relay.0, &f.tag.0))
        .map_err(|e| e.to_string())?;
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
        Mail::Body(topic, body) => letters::take_bodies(tx, topic, &[body]),
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
