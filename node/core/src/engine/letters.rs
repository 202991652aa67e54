//! Envelopes in and out.
//!
//! In: [`prepare`] (parallel: parse, verify, open, inspect) → [`accept`] (in order: judge,
//! store, apply). An envelope that can't be judged yet waits, and is tried again when its
//! predecessor, an operation or a key arrives ([`release`]). What is accepted is a function
//! of what is held: when membership changes, stored envelopes are judged again
//! ([`rejudge`]) and the topic's rows are replayed ([`replay`]).
//!
//! Out: [`append`] makes the next envelope of this device's chain, and runs it through the
//! same `apply` as everybody else's.

use std::collections::BTreeMap;
use std::sync::Arc;

use teahouse_crdt::segment::{
    Actor, Entry, Inspected, OwnChain, SEGMENT_BYTES, SEGMENT_CHANGES, SegmentRef, Tip, inspect,
};
use teahouse_protocols::codec;
use teahouse_protocols::envelope::{
    self, Draft, Envelope, Header, MAX_BODIES, open_body, sealed_hash,
};
use teahouse_protocols::epoch::EpochSecret;
use teahouse_protocols::ids::{
    AccountId, DeviceId, EnvelopeId, EpochId, Millis, OpId, SealedHash, TopicId,
};
use teahouse_protocols::inbox::Letter;
use teahouse_protocols::membership::{History, Reason, Role, Verdict};
use teahouse_protocols::sync::Frame;

use crate::command::{MessageId, Refusal};
use crate::engine::{accounts, forks, inbox, topics};
use crate::features::{self, Applied, FEATURES};
use crate::store::{Key, KeyRange, Read, ReadExt, StorageError};
use crate::tables::{
    BODIES, CHAINS, Chain, EPOCHS, Epoch, LOG, LogRow, MISSING_BODIES, SEGMENTS, Segment, Status,
    TIPS, UNOPENED, WAITING, Waiting, WaitingOn, body_key, chain_key, log_key, pair_key,
};
use crate::tx::{Effect, Fail, TopicState, Tx, capped};

/// Most envelopes of one topic that wait.
const MAX_WAITING: usize = 4_096;
/// Waiting envelopes looked at for a body that came alone.
const LONE_BODY_LOOKS: usize = 512;
/// Most envelopes of a device that no known account names.
const MAX_UNKNOWN: usize = 64;
/// Most letters of one inbox message.
pub(crate) const MAX_RUN: usize = 64;
/// A chain of which nothing is held.
const FRESH: Chain = Chain { low: 1, high: 0, head: EnvelopeId([0; 32]), segment: 0, loose: false };

/// An envelope from outside, as far as it can be checked without an order.
pub(crate) struct Prepared {
    pub(crate) envelope: Envelope,
    sealed: Vec<Vec<u8>>,
    content: Content,
}

impl Prepared {
    /// Positions of the bodies that did not come with it.
    pub(crate) fn absent(&self) -> Vec<u8> {
        let came: Vec<SealedHash> = self.sealed.iter().map(|b| sealed_hash(b)).collect();
        let Some(header) = &self.envelope.header else { return Vec::new() };
        let all = header.bodies.iter().enumerate().take(MAX_BODIES);
        all.filter(|(_, hash)| !came.contains(hash)).map(|(i, _)| i as u8).collect()
    }
}

enum Content {
    /// Held already, to the byte.
    Duplicate,
    /// The secret of its epoch is not known.
    NoKey,
    /// Opened and inspected.
    Good(Box<Good>),
    /// Signed by its author, but its content breaks the rules; in words.
    Bad(String),
    /// Made by a newer version.
    Newer,
}

/// What an opened envelope says.
struct Good {
    change: Inspected,
    /// By position in the header: sealed and opened.
    bodies: Vec<Option<(Vec<u8>, Vec<u8>)>>,
}

/// What became of an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Stored; it counts or not as its status says.
    Stored(Status),
    /// Held already.
    Duplicate,
    /// Kept until something arrives.
    Waits,
}

/// The actor of a device in a segment: fresh per device, topic and segment.
pub(crate) fn actor(topic: TopicId, device: DeviceId, segment: u32) -> Actor {
    let mut h = blake3::Hasher::new_derive_key("teahouse/v1/actor");
    h.update(&topic.0);
    h.update(&device.0);
    h.update(&segment.to_le_bytes());
    let mut out = [0; 16];
    out.copy_from_slice(&h.finalize().as_bytes()[..16]);
    Actor(out)
}

/// Secrets known before a batch, for [`prepare`] on several threads.
pub(crate) type Secrets = BTreeMap<EpochId, (TopicId, Arc<EpochSecret>)>;

/// Parses, verifies, opens and inspects. Cheap checks come first.
pub(crate) fn prepare(
    read: &dyn Read,
    secrets: &Secrets,
    letter: Letter,
) -> Result<Prepared, String> {
    let envelope = Envelope::from_bytes(&letter.envelope).map_err(|e| e.to_string())?;
    let sealed: Vec<Vec<u8>> = letter.bodies.into_iter().map(codec::Bytes::into_inner).collect();
    // An exact copy of what is held needs no signature check.
    let held = read
        .get(&LOG, &log_key(envelope.topic, envelope.device, envelope.seq))
        .map_err(|e| e.to_string())?;
    if held.is_some_and(|row| row.get(9..) == Some(envelope.bytes())) {
        return Ok(Prepared { envelope, sealed, content: Content::Duplicate });
    }
    envelope.verify().map_err(|e| e.to_string())?;
    let content = open(read, secrets, &envelope, &sealed);
    Ok(Prepared { envelope, sealed, content })
}

fn open(read: &dyn Read, secrets: &Secrets, envelope: &Envelope, sealed: &[Vec<u8>]) -> Content {
    let Some(header) = &envelope.header else { return Content::Newer };
    let (topic, secret) = match secrets.get(&header.epoch) {
        Some((topic, secret)) => (*topic, secret.clone()),
        None => match read.get_typed::<Epoch>(&EPOCHS, &header.epoch.0) {
            Ok(Some(row)) => (row.topic, Arc::new(EpochSecret::from_bytes(row.secret))),
            _ => return Content::NoKey,
        },
    };
    if topic != envelope.topic {
        return Content::Bad("sealed under another topic's epoch".into());
    }
    let opened = match envelope.open(&secret) {
        Ok(opened) => opened,
        Err(e) => return Content::Bad(e.to_string()),
    };
    if opened.body_keys.len() != header.bodies.len() {
        return Content::Bad("as many bodies as keys are needed".into());
    }
    let segment = SegmentRef { topic: envelope.topic.0, number: header.segment };
    let actor = actor(envelope.topic, envelope.device, header.segment);
    let change = match inspect(&opened.change, segment, actor) {
        Ok(change) => change,
        Err(e) => return Content::Bad(e.to_string()),
    };
    let by_hash: BTreeMap<SealedHash, &Vec<u8>> =
        sealed.iter().map(|b| (sealed_hash(b), b)).collect();
    let mut bodies = Vec::with_capacity(header.bodies.len());
    for (hash, key) in header.bodies.iter().zip(&opened.body_keys) {
        match by_hash.get(hash) {
            None => bodies.push(None),
            // A body that doesn't open is as good as none, in whichever order things come.
            Some(body) => {
                let plain = open_body(key, body).ok();
                bodies.push(plain.map(|plain| ((*body).clone(), plain)));
            }
        }
    }
    Content::Good(Box::new(Good { change, bodies }))
}

/// Takes one envelope in. `received` is now, unless it waited.
pub(crate) fn accept(
    tx: &mut Tx<'_>,
    prepared: Prepared,
    received: Millis,
) -> Result<Outcome, Fail> {
    let (topic, device, seq) =
        (prepared.envelope.topic, prepared.envelope.device, prepared.envelope.seq);
    let outcome = accept_one(tx, prepared, received)?;
    if matches!(outcome, Outcome::Stored(_)) {
        continue_chain(tx, topic, device, seq)?;
    }
    Ok(outcome)
}

/// Tries what waited for `seq`, and what waited for that, and so on.
fn continue_chain(
    tx: &mut Tx<'_>,
    topic: TopicId,
    device: DeviceId,
    mut seq: u64,
) -> Result<(), Fail> {
    loop {
        seq += 1;
        if !retry(tx, &log_key(topic, device, seq))? {
            return Ok(());
        }
    }
}

fn accept_one(tx: &mut Tx<'_>, prepared: Prepared, received: Millis) -> Result<Outcome, Fail> {
    let Prepared { envelope, sealed, mut content } = prepared;
    let (topic, device) = (envelope.topic, envelope.device);
    if matches!(content, Content::Duplicate) {
        take_bodies(tx, topic, &sealed)?;
        return Ok(Outcome::Duplicate);
    }
    let Some(state) = topics::state(tx, topic)? else {
        return Err(Fail::peer("an envelope of an unknown topic"));
    };
    let ckey = chain_key(topic, device);
    let mut chain = tx.typed::<Chain>(&CHAINS, &ckey)?.unwrap_or(FRESH);
    // Whatever its author is by now: a place that is taken is a fork, or nothing new.
    if (chain.low..=chain.high).contains(&envelope.seq) {
        let held = log_row(&tx.stage, topic, device, envelope.seq)?;
        let same = held.is_some_and(|row| row.envelope == envelope.bytes());
        if same {
            take_bodies(tx, topic, &sealed)?;
            return Ok(Outcome::Duplicate);
        }
        forks::note(tx, &envelope)?;
        return Ok(Outcome::Duplicate);
    }
    let Some(account) = accounts::account_of(tx, device)? else {
        // A member's new device, perhaps, of which the account's log will tell.
        return wait(tx, &envelope, sealed, received, WaitingOn::Operations);
    };
    if envelope.seq < chain.low {
        return backfill(tx, &state, account, chain, envelope, content, received);
    }
    if envelope.seq > chain.high + 1 {
        return wait(tx, &envelope, sealed, received, WaitingOn::Predecessor);
    }
    // Where nothing above the base is held, the base is only an inviter's word; what the
    // author signed goes before it.
    let on_base = chain.low > 1 && chain.high < chain.low;
    if envelope.prev != chain.head && !on_base {
        // Its author continues another branch than the one held. The envelope that proves
        // it is asked for by sync, which sees two heads for one number.
        return wait(tx, &envelope, sealed, received, WaitingOn::Predecessor);
    }
    let Some(header) = envelope.header.clone() else {
        if !state.now().members.contains_key(&account) {
            return Err(Fail::peer("a newer version's envelope by somebody who is no member"));
        }
        chain.loose = true;
        advance(tx, &mut chain, &envelope, None)?;
        store(tx, &envelope, received, Status::Unknown)?;
        return Ok(Outcome::Stored(Status::Unknown));
    };
    let status = match judge(tx, &state, account, &envelope, &header.heads)? {
        Verdict::Accepted => Status::Accepted,
        Verdict::Pending { .. } => {
            return wait(tx, &envelope, sealed, received, WaitingOn::Operations);
        }
        // Who was no member when writing is not even stored.
        Verdict::Void(why @ (Reason::NotAMember | Reason::NotADevice))
            if !cfg!(sim_bug = "outsiders_stored")
                && !forks::covers(tx, topic, device, envelope.seq)? =>
        {
            return Err(Fail::peer(why));
        }
        Verdict::Void(_) => Status::Void,
    };
    if matches!(content, Content::NoKey) {
        content = open(&tx.stage, &Secrets::new(), &envelope, &sealed);
    }
    let good = match content {
        Content::Good(good) => good,
        // What doesn't count need not open.
        Content::NoKey if status == Status::Void || !entitled(tx, &state, &header)? => {
            let status = if status == Status::Void { status } else { Status::Sealed };
            chain.loose = true;
            let segment = header.segment.max(chain.segment);
            advance(tx, &mut chain, &envelope, Some(segment))?;
            store(tx, &envelope, received, status)?;
            tx.put_raw(&UNOPENED, &unopened_key(&envelope, header.epoch), Vec::new())?;
            return Ok(Outcome::Stored(status));
        }
        Content::NoKey => {
            return wait(tx, &envelope, sealed, received, WaitingOn::Epoch(header.epoch));
        }
        Content::Bad(why) => {
            return garbage(tx, &mut chain, &envelope, received, account, &why);
        }
        Content::Duplicate | Content::Newer => return Ok(Outcome::Duplicate),
    };
    let tkey = tip_key(topic, device, header.segment);
    let segment = SegmentRef { topic: topic.0, number: header.segment };
    let mut tip = tx.typed::<Tip>(&TIPS, &tkey)?.unwrap_or_else(|| Tip::start(segment));
    let newest = tx.typed::<Segment>(&SEGMENTS, &topic.0)?.unwrap_or_default();
    if header.segment < chain.segment {
        return garbage(tx, &mut chain, &envelope, received, account, "segment falls");
    }
    // Where what it builds on is not held or not opened here, it stands for itself.
    let partial = chain.loose || chain.low > 1 && tip.len == 0;
    chain.loose = false;
    if partial {
        tip = Tip { len: good.change.seq(), head: good.change.hash() };
    } else if let Err(why) = tip.follow(&good.change) {
        return garbage(tx, &mut chain, &envelope, received, account, &why.to_string());
    }
    tx.put(&TIPS, &tkey, &tip)?;
    advance(tx, &mut chain, &envelope, Some(header.segment))?;
    store(tx, &envelope, received, status)?;
    note_segment(tx, topic, newest, header.segment, good.change.bytes().len())?;
    store_bodies(tx, &envelope, &header, &good.bodies)?;
    if status == Status::Accepted {
        let opened: Vec<Option<Vec<u8>>> =
            good.bodies.into_iter().map(|b| b.map(|(_, plain)| plain)).collect();
        apply(tx, &state, account, &envelope, &header, received, &opened, good.change.entries())?;
    }
    Ok(Outcome::Stored(status))
}

/// An envelope older than what is held: taken from the newest backwards, each proved by the
/// `prev` of its successor.
fn backfill(
    tx: &mut Tx<'_>,
    state: &TopicState,
    account: AccountId,
    mut chain: Chain,
    envelope: Envelope,
    content: Content,
    received: Millis,
) -> Result<Outcome, Fail> {
    let (topic, device) = (envelope.topic, envelope.device);
    if envelope.seq + 1 != chain.low {
        return Ok(Outcome::Duplicate);
    }
    let expected = match log_row(&tx.stage, topic, device, chain.low)? {
        Some(row) => Envelope::from_bytes(&row.envelope).map_err(Fail::peer)?.prev,
        None => chain.head,
    };
    if envelope.id() != expected {
        return Err(Fail::peer("an older envelope that its successor does not name"));
    }
    let header = envelope.header.clone();
    let verdict = match &header {
        None => Status::Unknown,
        Some(header) => match judge(tx, state, account, &envelope, &header.heads)? {
            Verdict::Accepted => Status::Accepted,
            Verdict::Pending { .. } => return Err(Fail::peer("older history too early")),
            Verdict::Void(_) => Status::Void,
        },
    };
    let status = match (&content, verdict) {
        (Content::Bad(_), _) => Status::Garbage,
        (Content::NoKey, Status::Accepted) => Status::Sealed,
        (_, verdict) => verdict,
    };
    chain.low = envelope.seq;
    tx.put(&CHAINS, &chain_key(topic, device), &chain)?;
    store(tx, &envelope, received, status)?;
    let Some(header) = header else { return Ok(Outcome::Stored(status)) };
    let Content::Good(good) = content else {
        if matches!(content, Content::NoKey) {
            tx.put_raw(&UNOPENED, &unopened_key(&envelope, header.epoch), Vec::new())?;
            // Whoever gave it gives the key, too, if it is this account's to have.
            crate::engine::sync::want_key(tx, topic, header.epoch)?;
        }
        return Ok(Outcome::Stored(status));
    };
    store_bodies(tx, &envelope, &header, &good.bodies)?;
    if status == Status::Accepted {
        let opened: Vec<Option<Vec<u8>>> =
            good.bodies.into_iter().map(|b| b.map(|(_, plain)| plain)).collect();
        apply(tx, state, account, &envelope, &header, received, &opened, good.change.entries())?;
    }
    Ok(Outcome::Stored(status))
}

fn garbage(
    tx: &mut Tx<'_>,
    chain: &mut Chain,
    envelope: &Envelope,
    received: Millis,
    account: AccountId,
    why: &str,
) -> Result<Outcome, Fail> {
    advance(tx, chain, envelope, None)?;
    store(tx, envelope, received, Status::Garbage)?;
    let name = accounts::log(tx, account)?.map(|l| l.state().name.clone()).unwrap_or_default();
    tx.alarm(format!(
        "A device of {} sent something that breaks the rules ({why}); it was ignored.",
        if name.is_empty() { "a member" } else { &name }
    ))?;
    Ok(Outcome::Stored(Status::Garbage))
}

fn advance(
    tx: &mut Tx<'_>,
    chain: &mut Chain,
    envelope: &Envelope,
    segment: Option<u32>,
) -> Result<(), StorageError> {
    chain.high = envelope.seq;
    chain.head = envelope.id();
    if let Some(segment) = segment {
        chain.segment = segment;
    }
    tx.put(&CHAINS, &chain_key(envelope.topic, envelope.device), chain)
}

fn store(
    tx: &mut Tx<'_>,
    envelope: &Envelope,
    received: Millis,
    status: Status,
) -> Result<(), StorageError> {
    let row = LogRow { received, status, envelope: envelope.bytes().to_vec() };
    let key = log_key(envelope.topic, envelope.device, envelope.seq);
    tx.put_raw(&LOG, &key, row.to_bytes())?;
    tx.mem.acks_due.insert(envelope.topic);
    Ok(())
}

fn store_bodies(
    tx: &mut Tx<'_>,
    envelope: &Envelope,
    header: &Header,
    bodies: &[Option<(Vec<u8>, Vec<u8>)>],
) -> Result<(), StorageError> {
    for (i, body) in bodies.iter().enumerate().take(MAX_BODIES) {
        let index = i as u8;
        let slot = (envelope.topic, envelope.device, envelope.seq);
        match body {
            Some((sealed, _)) => {
                tx.put_raw(&BODIES, &body_key(slot.0, slot.1, slot.2, index), sealed.clone())?;
            }
            None => {
                let key = body_key(slot.0, slot.1, slot.2, index);
                tx.put_raw(&MISSING_BODIES, &key, header.bodies[i].0.to_vec())?;
            }
        }
    }
    Ok(())
}

fn note_segment(
    tx: &mut Tx<'_>,
    topic: TopicId,
    mut newest: Segment,
    number: u32,
    bytes: usize,
) -> Result<(), StorageError> {
    // A member can't push the others' next segment out of reach.
    if number > newest.number && number <= newest.number.saturating_add(64) {
        newest = Segment { number, changes: 0, bytes: 0 };
    }
    if number == newest.number {
        newest.changes += 1;
        newest.bytes += bytes as u64;
        tx.put(&SEGMENTS, &topic.0, &newest)?;
    }
    Ok(())
}

/// Judges an envelope against what is known of membership and forks.
fn judge(
    tx: &mut Tx<'_>,
    state: &TopicState,
    account: AccountId,
    envelope: &Envelope,
    heads: &[OpId],
) -> Result<Verdict, StorageError> {
    let (device, seq) = (envelope.device, envelope.seq);
    if forks::covers(tx, envelope.topic, device, seq)? && !cfg!(sim_bug = "forks_ignored") {
        return Ok(Verdict::Void(Reason::NotADevice));
    }
    let now = state.now();
    // The common case: written under the membership that holds now, by an uncut device.
    if heads == now.heads && now.members.contains_key(&account) && !now.cuts.contains_key(&device) {
        return Ok(Verdict::Accepted);
    }
    let oracle = topics::oracle(&tx.stage);
    Ok(state.eval.judge(&oracle, account, device, seq, envelope.id(), heads))
}

/// Whether this account may have the key of an envelope: its grant covers all history, or
/// it was a member when the envelope was written.
fn entitled(tx: &mut Tx<'_>, state: &TopicState, header: &Header) -> Result<bool, StorageError> {
    let Some(account) = tx.me()?.account else { return Ok(false) };
    let granted = state.now().members.get(&account).is_some_and(|m| m.history == History::All);
    Ok(granted
        || *header.heads == *state.now().heads
        || state.eval.at(&header.heads).is_some_and(|m| m.members.contains_key(&account)))
}

fn unopened_key(envelope: &Envelope, epoch: EpochId) -> Vec<u8> {
    Key::new()
        .fixed(&envelope.topic.0)
        .fixed(&epoch.0)
        .fixed(&envelope.device.0)
        .u64(envelope.seq)
        .into_bytes()
}

/// Opens what was stored under an epoch whose key has just come.
pub(crate) fn open_stored(tx: &mut Tx<'_>, topic: TopicId, epoch: EpochId) -> Result<(), Fail> {
    let prefix = pair_key(&topic.0, &epoch.0);
    let rows = tx.scan(&UNOPENED, &KeyRange::prefix(&prefix), false, MAX_WAITING)?;
    let Some(state) = topics::state(tx, topic)? else { return Ok(()) };
    for (key, _) in rows {
        tx.del(&UNOPENED, &key)?;
        let mut reader = crate::store::KeyReader::new(&UNOPENED, &key[prefix.len()..]);
        let (device, seq) = (DeviceId(reader.fixed()?), reader.u64()?);
        let Some(mut row) = log_row(&tx.stage, topic, device, seq)? else { continue };
        if row.status == Status::Sealed {
            row.status = Status::Accepted;
            tx.put_raw(&LOG, &log_key(topic, device, seq), row.to_bytes())?;
        }
        if row.status == Status::Accepted {
            reapply(tx, &state, &row)?;
        }
    }
    Ok(())
}

#[allow(clippy::too_many_arguments)]
fn apply(
    tx: &mut Tx<'_>,
    state: &TopicState,
    account: AccountId,
    envelope: &Envelope,
    header: &Header,
    received: Millis,
    bodies: &[Option<Vec<u8>>],
    entries: &[Entry],
) -> Result<(), StorageError> {
    let now = state.now();
    let role = if *header.heads == *now.heads {
        now.members.get(&account).map(|m| m.role)
    } else {
        state.eval.at(&header.heads).and_then(|m| m.members.get(&account).map(|m| m.role))
    };
    let applied = Applied {
        topic: envelope.topic,
        kind: now.kind,
        account,
        device: envelope.device,
        seq: envelope.seq,
        role: role.unwrap_or(Role::Member),
        time: header.time.min(received),
        header,
        bodies,
    };
    features::apply(tx, &applied, entries)
}

fn wait(
    tx: &mut Tx<'_>,
    envelope: &Envelope,
    bodies: Vec<Vec<u8>>,
    received: Millis,
    on: WaitingOn,
) -> Result<Outcome, Fail> {
    let key = log_key(envelope.topic, envelope.device, envelope.seq);
    let all = KeyRange::prefix(&envelope.topic.0);
    let mut bodies = bodies;
    if let Some(known) = tx.typed::<Waiting>(&WAITING, &key)? {
        // A body that came with another copy is kept.
        if known.envelope == envelope.bytes() {
            for body in known.bodies {
                if !bodies.contains(&body) && bodies.len() < MAX_BODIES {
                    bodies.push(body);
                }
            }
        }
    } else {
        let chain = KeyRange::prefix(&chain_key(envelope.topic, envelope.device));
        if accounts::account_of(tx, envelope.device)?.is_none()
            && tx.count(&WAITING, &chain, MAX_UNKNOWN)? >= MAX_UNKNOWN
        {
            return Err(Fail::peer("too much of an unknown device"));
        }
        if tx.count(&WAITING, &all, MAX_WAITING)? >= MAX_WAITING {
            return Err(Fail::Later("too many envelopes wait in this topic".into()));
        }
    }
    let row = Waiting { received, on, envelope: envelope.bytes().to_vec(), bodies };
    tx.put(&WAITING, &key, &row)?;
    if let WaitingOn::Epoch(epoch) = on {
        crate::engine::sync::want_key(tx, envelope.topic, epoch)?;
    }
    Ok(Outcome::Waits)
}

/// Tries one waiting envelope again.
fn retry(tx: &mut Tx<'_>, key: &[u8]) -> Result<bool, Fail> {
    let Some(row) = tx.typed::<Waiting>(&WAITING, key)? else { return Ok(false) };
    let envelope = Envelope::from_bytes(&row.envelope)
        .map_err(|_| StorageError::corrupt(WAITING.name, "envelope"))?;
    let content = open(&tx.stage, &Secrets::new(), &envelope, &row.bodies);
    tx.del(&WAITING, key)?;
    let prepared = Prepared { envelope, sealed: row.bodies, content };
    match accept_one(tx, prepared, row.received) {
        Ok(outcome) => Ok(matches!(outcome, Outcome::Stored(_))),
        // It is dropped, and spoils nothing of the input that released it.
        Err(Fail::Peer(_) | Fail::Later(_)) => Ok(false),
        Err(other) => Err(other),
    }
}

/// Tries a topic's waiting envelopes again: each chain's next one.
pub(crate) fn release(tx: &mut Tx<'_>, topic: TopicId) -> Result<(), Fail> {
    let rows = tx.scan(&WAITING, &KeyRange::prefix(&topic.0), false, MAX_WAITING)?;
    for (key, _) in rows {
        let Some((rest, seq)) = key.split_last_chunk::<8>() else { continue };
        let seq = u64::from_be_bytes(*seq);
        let chain: Option<Chain> = tx.typed(&CHAINS, rest)?;
        if chain.map_or(0, |c| c.high).checked_add(1) == Some(seq) && retry(tx, &key)? {
            let device = chain_device(rest);
            if let Some(device) = device {
                continue_chain(tx, topic, device, seq)?;
            }
        }
    }
    Ok(())
}

/// Whether something held waits for an epoch's key.
pub(crate) fn waits_for(tx: &Tx<'_>, topic: TopicId, epoch: EpochId) -> Result<bool, StorageError> {
    if tx.first(&UNOPENED, &pair_key(&topic.0, &epoch.0))?.is_some() {
        return Ok(true);
    }
    let mut found = false;
    tx.visit(&WAITING, &KeyRange::prefix(&topic.0), false, &mut |_, value| {
        let row: Result<Waiting, _> = crate::store::decode(&WAITING, value);
        found = row.is_ok_and(|r| r.on == WaitingOn::Epoch(epoch));
        if found { std::ops::ControlFlow::Break(()) } else { std::ops::ControlFlow::Continue(()) }
    })?;
    Ok(found)
}

fn chain_device(chain_key: &[u8]) -> Option<DeviceId> {
    chain_key.last_chunk::<32>().map(|d| DeviceId(*d))
}

/// Judges every stored envelope of a topic again, and replays the rows if anything changed.
pub(crate) fn rejudge(tx: &mut Tx<'_>, topic: TopicId) -> Result<(), Fail> {
    let Some(state) = topics::state(tx, topic)? else { return Ok(()) };
    let mut changed = false;
    let mut range = KeyRange::prefix(&topic.0);
    loop {
        let rows = tx.scan(&LOG, &range, false, 1_024)?;
        let Some((last, _)) = rows.last() else { break };
        range = range.after(&last.clone());
        for (key, bytes) in rows {
            let damaged = || StorageError::corrupt(LOG.name, "envelope");
            let mut row = LogRow::from_bytes(&bytes).ok_or_else(damaged)?;
            if !matches!(row.status, Status::Accepted | Status::Void | Status::Sealed) {
                continue;
            }
            let envelope = Envelope::from_bytes(&row.envelope).map_err(|_| damaged())?;
            let Some(header) = &envelope.header else { continue };
            let Some(account) = accounts::account_of(tx, envelope.device)? else { continue };
            let status = match judge(tx, &state, account, &envelope, &header.heads)? {
                Verdict::Accepted => Status::Accepted,
                Verdict::Void(_) => Status::Void,
                Verdict::Pending { .. } => continue,
            };
            if status == Status::Accepted && row.status == Status::Sealed {
                continue;
            }
            if status != row.status {
                row.status = status;
                changed = true;
                tx.put_raw(&LOG, &key, row.to_bytes())?;
            }
        }
    }
    if changed {
        // What no longer counts holds no acknowledgement up.
        tx.mem.acks_due.insert(topic);
        replay(tx, topic)?;
    }
    Ok(())
}

/// Clears a topic's rows and makes them again from its log.
pub(crate) fn replay(tx: &mut Tx<'_>, topic: TopicId) -> Result<u64, Fail> {
    let Some(state) = topics::state(tx, topic)? else { return Ok(0) };
    let kind = state.now().kind;
    for feature in FEATURES.iter().filter(|f| f.kinds.contains(&kind)) {
        for table in feature.tables {
            // The private topic has rows of its own that are keyed by what they are about.
            let private = kind == teahouse_protocols::membership::TopicKind::Private;
            let range = if private && **table != crate::tables::LAMPORT {
                KeyRange::all()
            } else {
                KeyRange::prefix(&topic.0)
            };
            loop {
                let rows = tx.scan(table, &range, false, 4_096)?;
                if rows.is_empty() {
                    break;
                }
                for (key, _) in rows {
                    tx.del(table, &key)?;
                }
            }
        }
    }
    let mut applied = 0;
    let mut range = KeyRange::prefix(&topic.0);
    loop {
        let rows = tx.scan(&LOG, &range, false, 1_024)?;
        let Some((last, _)) = rows.last() else { break };
        range = range.after(&last.clone());
        for (_, bytes) in rows {
            let row = LogRow::from_bytes(&bytes)
                .ok_or_else(|| StorageError::corrupt(LOG.name, "envelope"))?;
            if row.status == Status::Accepted {
                reapply(tx, &state, &row)?;
                applied += 1;
            }
        }
    }
    Ok(applied)
}

/// Applies a stored, accepted envelope again.
fn reapply(tx: &mut Tx<'_>, state: &TopicState, row: &LogRow) -> Result<(), Fail> {
    let damaged = |why| StorageError::corrupt(LOG.name, why);
    let envelope = Envelope::from_bytes(&row.envelope).map_err(|_| damaged("envelope"))?;
    let Some(account) = accounts::account_of(tx, envelope.device)? else { return Ok(()) };
    let Some(header) = envelope.header.clone() else { return Ok(()) };
    let (mut sealed, mut absent) = (Vec::new(), Vec::new());
    for (index, hash) in (0..).zip(&header.bodies) {
        let key = body_key(envelope.topic, envelope.device, envelope.seq, index);
        match tx.get(&BODIES, &key)? {
            // An empty one was erased.
            Some(body) if body.is_empty() => {}
            Some(body) => sealed.push(body),
            None => absent.push((key, hash)),
        }
    }
    let good = match open(&tx.stage, &Secrets::new(), &envelope, &sealed) {
        Content::Good(good) => good,
        // It counts, and is shown once its key has come.
        Content::NoKey => {
            tx.put_raw(&UNOPENED, &unopened_key(&envelope, header.epoch), Vec::new())?;
            return Ok(());
        }
        _ => return Ok(()),
    };
    // Not kept while it couldn't be opened, or erased: what it says, here or later, settles which.
    for (key, hash) in absent {
        if !tx.contains(&MISSING_BODIES, &key)? {
            tx.put_raw(&MISSING_BODIES, &key, hash.0.to_vec())?;
        }
    }
    let bodies: Vec<Option<Vec<u8>>> =
        good.bodies.into_iter().map(|b| b.map(|(_, plain)| plain)).collect();
    apply(tx, state, account, &envelope, &header, row.received, &bodies, good.change.entries())?;
    Ok(())
}

/// Takes sealed bodies that are missing here; others are ignored.
pub(crate) fn take_bodies(tx: &mut Tx<'_>, topic: TopicId, bodies: &[Vec<u8>]) -> Result<(), Fail> {
    if bodies.is_empty() {
        return Ok(());
    }
    // Missing bodies are rare: a scan serves.
    let missing = tx.scan(&MISSING_BODIES, &KeyRange::prefix(&topic.0), false, MAX_WAITING)?;
    for (key, hash) in missing {
        let Some(body) = bodies.iter().find(|b| hash.starts_with(&sealed_hash(b).0)) else {
            continue;
        };
        let mut reader = crate::store::KeyReader::new(&MISSING_BODIES, &key[32..]);
        let (device, seq) = (DeviceId(reader.fixed()?), reader.u64()?);
        let index = usize::from(reader.u8()?);
        let Some(row) = log_row(&tx.stage, topic, device, seq)? else { continue };
        let Ok(envelope) = Envelope::from_bytes(&row.envelope) else { continue };
        let opens = match open(&tx.stage, &Secrets::new(), &envelope, std::slice::from_ref(body)) {
            Content::Good(good) => good.bodies.get(index).is_some_and(Option::is_some),
            _ => false,
        };
        if !opens {
            continue;
        }
        tx.put_raw(&BODIES, &key, body.clone())?;
        tx.del(&MISSING_BODIES, &key)?;
        tx.mem.acks_due.insert(topic);
        if let Some(state) = topics::state(tx, topic)?
            && row.status == Status::Accepted
        {
            reapply(tx, &state, &row)?;
        }
    }
    Ok(())
}

/// Bodies that their author's own device has no longer hold no acknowledgement up: a recall
/// need not be readable to everybody, and can lose its effect after it was carried out. Others
/// are still asked for them.
pub(crate) fn given_up(
    tx: &mut Tx<'_>,
    topic: TopicId,
    device: DeviceId,
    seq: u64,
    absent: &[u8],
) -> Result<(), StorageError> {
    for index in absent {
        let key = body_key(topic, device, seq, *index);
        if let Some(mut hash) = tx.get(&MISSING_BODIES, &key)?
            && hash.len() == HASH
        {
            hash.push(1);
            tx.put_raw(&MISSING_BODIES, &key, hash)?;
            tx.mem.acks_due.insert(topic);
        }
    }
    Ok(())
}

/// Length of a missing body's row; a longer one was given up.
const HASH: usize = 32;

/// Takes a body that came alone: its envelope may be here without it, or wait.
pub(crate) fn take_lone_body(tx: &mut Tx<'_>, topic: TopicId, body: Vec<u8>) -> Result<(), Fail> {
    let bodies = [body];
    take_bodies(tx, topic, &bodies)?;
    let [body] = bodies;
    let hash = sealed_hash(&body);
    let rows = tx.scan(&WAITING, &KeyRange::prefix(&topic.0), false, LONE_BODY_LOOKS)?;
    for (key, value) in rows {
        let mut row: Waiting = crate::store::decode(&WAITING, &value)?;
        let named = Envelope::from_bytes(&row.envelope)
            .ok()
            .and_then(|e| e.header)
            .is_some_and(|h| h.bodies.contains(&hash));
        if named && !row.bodies.contains(&body) && row.bodies.len() < MAX_BODIES {
            row.bodies.push(body.clone());
            tx.put(&WAITING, &key, &row)?;
        }
    }
    Ok(())
}

/// Envelopes under `prefix` that count and whose bodies have not come. What doesn't count is
/// not waited for: its text may be erased everywhere without anybody here knowing that it was
/// to be. `all` says whether those that were given up are among them.
pub(crate) fn missing(
    tx: &Tx<'_>,
    topic: TopicId,
    prefix: &[u8],
    most: usize,
    all: bool,
) -> Result<Vec<(DeviceId, u64)>, StorageError> {
    let mut out = Vec::new();
    for (key, hash) in tx.scan(&MISSING_BODIES, &KeyRange::prefix(prefix), false, MAX_WAITING)? {
        if !all && hash.len() > HASH {
            continue;
        }
        let mut reader = crate::store::KeyReader::new(&MISSING_BODIES, &key[32..]);
        let at = (DeviceId(reader.fixed()?), reader.u64()?);
        if out.len() == most {
            break;
        }
        if out.last() != Some(&at)
            && log_row(&tx.stage, topic, at.0, at.1)?.is_some_and(|r| r.status != Status::Void)
        {
            out.push(at);
        }
    }
    Ok(out)
}

/// How far a chain is complete here: all before it stored, and no body missing.
pub(crate) fn complete_upto(
    tx: &Tx<'_>,
    topic: TopicId,
    device: DeviceId,
    chain: &Chain,
) -> Result<Option<(u64, EnvelopeId)>, StorageError> {
    let missing = missing(tx, topic, &chain_key(topic, device), 1, false)?;
    let Some((_, seq)) = missing.first() else {
        return Ok((chain.high >= chain.low).then_some((chain.high, chain.head)));
    };
    let seq = seq.saturating_sub(1);
    if seq < chain.low {
        return Ok(None);
    }
    let Some(row) = log_row(&tx.stage, topic, device, seq)? else { return Ok(None) };
    let envelope = Envelope::from_bytes(&row.envelope)
        .map_err(|_| StorageError::corrupt(LOG.name, "envelope"))?;
    Ok(Some((seq, envelope.id())))
}

/// A stored envelope.
pub(crate) fn log_row(
    read: &dyn Read,
    topic: TopicId,
    device: DeviceId,
    seq: u64,
) -> Result<Option<LogRow>, StorageError> {
    let Some(bytes) = read.get(&LOG, &log_key(topic, device, seq))? else { return Ok(None) };
    LogRow::from_bytes(&bytes).map(Some).ok_or_else(|| StorageError::corrupt(LOG.name, "row"))
}

/// A stored envelope with its bodies, as it travels.
pub(crate) fn letter(
    read: &dyn Read,
    topic: TopicId,
    device: DeviceId,
    seq: u64,
) -> Result<Option<Letter>, StorageError> {
    let Some(row) = log_row(read, topic, device, seq)? else { return Ok(None) };
    let prefix = Key::new().fixed(&topic.0).fixed(&device.0).u64(seq).into_bytes();
    let bodies = read.scan(&BODIES, &KeyRange::prefix(&prefix), false, MAX_BODIES)?;
    let Ok(envelope) = codec::Bytes::try_from(row.envelope) else { return Ok(None) };
    let bodies: Vec<_> = bodies
        .into_iter()
        .filter(|(_, b)| !b.is_empty())
        .filter_map(|(_, b)| codec::Bytes::try_from(b).ok())
        .collect();
    Ok(Some(Letter { envelope, bodies: capped(bodies) }))
}

/// Letters of a chain from `first` to `last` at most, as many as fit one inbox message.
pub(crate) fn run(
    read: &dyn Read,
    topic: TopicId,
    device: DeviceId,
    first: u64,
    last: u64,
) -> Result<Vec<Letter>, StorageError> {
    let mut run: Vec<Letter> = Vec::new();
    let mut bytes = 0;
    for seq in first..=last {
        let Some(letter) = letter(read, topic, device, seq)? else { break };
        bytes += letter.envelope.len() + letter.bodies.iter().map(|b| b.len()).sum::<usize>();
        if !run.is_empty() && (bytes > inbox::LETTER_BYTES || run.len() >= MAX_RUN) {
            break;
        }
        run.push(letter);
    }
    Ok(run)
}

/// The newest envelopes of a run that fit into one inbox message, oldest first.
pub(crate) fn newest(
    read: &dyn Read,
    topic: TopicId,
    device: DeviceId,
    first: u64,
    last: u64,
) -> Result<Vec<Letter>, StorageError> {
    let mut out: Vec<Letter> = Vec::new();
    let mut bytes = 0;
    for seq in (first..=last).rev() {
        let Some(letter) = letter(read, topic, device, seq)? else { break };
        bytes += letter.envelope.len() + letter.bodies.iter().map(|b| b.len()).sum::<usize>();
        if !out.is_empty() && (bytes > inbox::LETTER_BYTES || out.len() >= MAX_RUN) {
            break;
        }
        out.push(letter);
    }
    out.reverse();
    Ok(out)
}

/// Writes the next envelope of this device's chain in a topic. `entries` gets the number
/// that the envelope will have and the hashes of the sealed bodies.
pub(crate) fn append(
    tx: &mut Tx<'_>,
    topic: TopicId,
    bodies: &[&[u8]],
    entries: impl FnOnce(u64, &[SealedHash]) -> Result<Vec<Entry>, Fail>,
) -> Result<MessageId, Fail> {
    let account = tx.account()?;
    let me = tx.me()?;
    let state = topics::require(tx, topic)?;
    if !accounts::is_active(tx, me.device)? {
        return Err(Refusal::Revoked.into());
    }
    if !state.now().members.contains_key(&account) {
        return Err(Refusal::NotAllowed { why: "you are no longer in this chat".into() }.into());
    }
    let (epoch, secret) = topics::epoch_for_sending(tx, topic)?;
    let mut chain = tx.typed::<Chain>(&CHAINS, &chain_key(topic, me.device))?.unwrap_or(FRESH);
    let seq = chain.high + 1;
    let mut sealed = Vec::with_capacity(bodies.len());
    for body in bodies {
        sealed.push(envelope::seal_body(body, tx.rng).map_err(too_large)?);
    }
    let hashes: Vec<SealedHash> = sealed.iter().map(|b| b.hash).collect();
    let entries = entries(seq, &hashes)?;

    // Continue in the newest segment; open the next when it is full.
    let newest = tx.typed::<Segment>(&SEGMENTS, &topic.0)?.unwrap_or_default();
    let full = newest.changes >= SEGMENT_CHANGES || newest.bytes >= SEGMENT_BYTES;
    let mut segment = (newest.number + u32::from(full)).max(chain.segment);
    // After a time in which one's own envelopes did not count, a fresh segment: others may
    // not hold what the old one would build on.
    if chain.high > 0
        && log_row(&tx.stage, topic, me.device, chain.high)?
            .is_some_and(|r| r.status != Status::Accepted)
    {
        segment = segment.max(chain.segment + 1);
    }
    let place = SegmentRef { topic: topic.0, number: segment };
    let tkey = tip_key(topic, me.device, segment);
    let tip = tx.typed::<Tip>(&TIPS, &tkey)?.unwrap_or_else(|| Tip::start(place));
    let mut own = OwnChain::resume_at(place, actor(topic, me.device, segment), tip);
    let change = own.append(&entries).map_err(|e| Refusal::Invalid { why: e.to_string() })?;
    tx.put(&TIPS, &tkey, &own.tip())?;

    let heads = state.eval.parents();
    let draft = Draft {
        topic,
        seq,
        prev: chain.head,
        segment,
        heads: &heads,
        epoch,
        time: tx.now,
        change: &change,
        bodies: &sealed,
    };
    let envelope = Envelope::seal(&draft, &secret, &me.key, tx.rng).map_err(too_large)?;
    let now = tx.now;
    chain.segment = segment;
    advance(tx, &mut chain, &envelope, Some(segment))?;
    store(tx, &envelope, now, Status::Accepted)?;
    note_segment(tx, topic, newest, segment, change.len())?;
    for (i, body) in sealed.iter().enumerate() {
        let key = body_key(topic, me.device, seq, i as u8);
        tx.put_raw(&BODIES, &key, body.sealed.clone())?;
    }
    let header =
        envelope.header.clone().ok_or_else(|| Fail::peer("own envelope without a header"))?;
    let plain: Vec<Option<Vec<u8>>> = bodies.iter().map(|b| Some(b.to_vec())).collect();
    apply(tx, &state, account, &envelope, &header, now, &plain, &entries)?;
    push(tx, topic, &envelope, sealed.into_iter().map(|b| b.sealed).collect())?;
    tx.mem.mail_topics.insert(topic);
    Ok(MessageId { device: me.device, seq })
}

/// Hands a new envelope to connected members.
fn push(
    tx: &mut Tx<'_>,
    topic: TopicId,
    envelope: &Envelope,
    bodies: Vec<Vec<u8>>,
) -> Result<(), Fail> {
    if tx.mem.peers.is_empty() {
        return Ok(());
    }
    let bodies: Vec<_> =
        bodies.into_iter().filter_map(|b| codec::Bytes::try_from(b).ok()).collect();
    let Ok(bytes) = codec::Bytes::try_from(envelope.bytes().to_vec()) else { return Ok(()) };
    let letter = Letter { envelope: bytes, bodies: capped(bodies) };
    let audience = topics::devices(tx, topic)?;
    let connected: Vec<DeviceId> = tx
        .mem
        .peers
        .iter()
        .filter(|(d, p)| audience.contains(*d) && !p.full)
        .map(|(d, _)| *d)
        .collect();
    for device in connected {
        tx.out.push(Effect::Frame(device, Frame::Push(topic, capped(vec![letter.clone()]))));
    }
    Ok(())
}

fn too_large(e: envelope::DraftTooLarge) -> Fail {
    Refusal::Invalid { why: e.to_string() }.into()
}

fn tip_key(topic: TopicId, device: DeviceId, segment: u32) -> Vec<u8> {
    let mut key = pair_key(&topic.0, &device.0);
    key.extend_from_slice(&segment.to_be_bytes());
    key
}
