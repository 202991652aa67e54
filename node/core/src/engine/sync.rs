//! Frames with connected devices: after the greeting, where digests differ, frontiers, then
//! exactly the missing runs.
//!
//! A topic is named only to a device that is a current member of it as far as is known
//! here. Runs are pulled page by page, one page of a topic under way per peer, so neither
//! side buffers more than a page for the other.

use std::collections::{BTreeMap, BTreeSet};

use teahouse_protocols::codec;
use teahouse_protocols::envelope::sealed_hash;
use teahouse_protocols::ids::{DeviceId, EpochId, Millis, TopicId};
use teahouse_protocols::membership::{History, MemberOp};
use teahouse_protocols::sign::Signed;
use teahouse_protocols::sync::{Digest, Frame, Held, PAGE_BYTES, PAGE_LETTERS, Run};

use crate::engine::{accounts, cursors, forks, greeting, inbox, letters, pairing, topics};
use crate::features::{contacts, feeds, services};
use crate::store::StorageError;
use crate::tables::Chain;
use crate::tx::{Effect, Fail, Tx, capped};

/// Envelopes of one chain asked for at once.
const RUN: u64 = 2_048;
/// Envelopes with missing bodies asked for at once.
const MISSING_AT_ONCE: usize = 64;
/// How long news of others' envelopes may take before a peer that lacks them is told.
const HINT_AFTER: Millis = 1_000;

/// A connected device. Volatile: everything here can be lost at the cost of a round trip.
#[derive(Debug, Default)]
pub(crate) struct Peer {
    /// The network's queue to it is full: push nothing until it drains.
    pub(crate) full: bool,
    /// What it said it holds.
    frontiers: BTreeMap<TopicId, Vec<Held>>,
    /// Topics with a page under way, and since when.
    wants: BTreeMap<TopicId, Millis>,
    /// What it was last asked for.
    last_runs: BTreeMap<TopicId, Vec<Run>>,
    /// Keys that it was asked for.
    asked: BTreeSet<EpochId>,
    /// Topics that it lacked and was welcomed into, sealed to the prekey with this counter: the
    /// outbox has it until it came.
    pub(super) welcomed: BTreeMap<TopicId, u64>,
    /// When the outbox was last handed over once more.
    handed: Millis,
    /// The summary of what it was last told digests of.
    pub(super) told: Option<Digest>,
    /// Public topics of which it asked to be told news.
    pub(crate) listens: BTreeSet<TopicId>,
    /// Public topics that it was asked for: only of those it is listened to.
    pub(crate) feeds: BTreeSet<TopicId>,
    /// Topics of which it may be told news, and when.
    hints: BTreeMap<TopicId, Millis>,
}

/// A page that doesn't come in this time is asked for again.
const PAGE_PATIENCE: Millis = 30_000;

/// A device connected.
pub(crate) fn peer_up(tx: &mut Tx<'_>, device: DeviceId) -> Result<(), Fail> {
    tx.mem.peers.insert(device, Peer::default());
    inbox::hand_over(tx, device)?;
    pairing::peer_up(tx, device)?;
    services::met(tx, device)?;
    greeting::hello(tx, device)
}

/// The network's queue to a device has room again: what was dropped meanwhile is found by
/// comparing, and of feeds by asking.
pub(crate) fn peer_drained(tx: &mut Tx<'_>, device: DeviceId) -> Result<(), Fail> {
    let old = tx.mem.peers.remove(&device).unwrap_or_default();
    let (listens, feeds) = (old.listens, old.feeds);
    let told = listens.clone();
    tx.mem.peers.insert(device, Peer { listens, feeds, ..Peer::default() });
    for topic in told {
        feeds::tell(tx, device, topic)?;
    }
    inbox::hand_over(tx, device)?;
    services::met(tx, device)?;
    greeting::hello(tx, device)
}

/// A device went.
pub(crate) fn peer_down(tx: &mut Tx<'_>, device: DeviceId) {
    tx.mem.peers.remove(&device);
    // What it had not acknowledged goes to relays.
    tx.mem.mail_due = true;
    tx.mem.mail_all = true;
}

/// What two devices compare of a topic: the frontier and the membership heads.
pub(crate) fn digest(tx: &mut Tx<'_>, topic: TopicId) -> Result<Digest, StorageError> {
    let mut h = blake3::Hasher::new_derive_key("teahouse/v1/topic digest");
    let forks = forks::of(tx, topic)?;
    for (device, chain) in topics::chains(&tx.stage, topic)? {
        h.update(&device.0);
        // Of who told two stories, each may hold another: they agree on where these part.
        if let Some(fork) = forks.get(&device) {
            h.update(b"fork");
            h.update(&fork.seq.to_le_bytes());
        } else {
            h.update(&chain.high.to_le_bytes());
            h.update(&chain.head.0);
        }
    }
    if let Some(state) = topics::state(tx, topic)? {
        for head in state.log.heads() {
            h.update(&head.0);
        }
    }
    let mut out = [0; 16];
    out.copy_from_slice(&h.finalize().as_bytes()[..16]);
    Ok(out)
}

fn frontier(tx: &mut Tx<'_>, topic: TopicId, ask: bool) -> Result<Frame, StorageError> {
    let forks = forks::of(tx, topic)?;
    let chains: Vec<Held> = topics::chains(&tx.stage, topic)?
        .into_iter()
        .filter(|(_, c)| c.high >= c.low)
        .map(|(device, c)| {
            let fork = forks.get(&device).map_or(0, |f| f.seq);
            Held { device, low: c.low, high: c.high, head: c.head, fork }
        })
        .collect();
    let ops = topics::state(tx, topic)?.map(|s| s.log.heads()).unwrap_or_default();
    Ok(Frame::Frontier { topic, ops: capped(ops), chains: capped(chains), ask })
}

/// Takes a frame in. Letters come separately ([`letters::accept`]), then [`page_end`].
pub(crate) fn frame(tx: &mut Tx<'_>, from: DeviceId, frame: Frame) -> Result<(), Fail> {
    match frame {
        Frame::Pair(bytes) => pairing::receive(tx, from, &bytes),
        Frame::Inbox(sealed) => {
            let hash = sealed_hash(&sealed);
            inbox::handed(tx, &sealed)?;
            tx.send(from, Frame::InboxHeld(hash));
            Ok(())
        }
        Frame::InboxHeld(hash) => {
            if accounts::account_of(tx, from)?.is_none() {
                return Err(Fail::peer("a frame from a stranger"));
            }
            inbox::held(tx, from, hash)
        }
        Frame::Cursor(bytes) => cursors::learn(tx, &bytes),
        Frame::Account(pack) => {
            if accounts::account_of(tx, from)?.is_none() {
                return Err(Fail::peer("a frame from a stranger"));
            }
            let judged = greeting::judged(tx, from)?;
            if accounts::learn(tx, &pack, &|a| judged.contains(a))? {
                greeting::hello(tx, from)?;
            }
            Ok(())
        }
        other => {
            if let Frame::Digests { accounts: list, .. } = &other
                && greeting::dismiss(tx, from, list)?
            {
                return Ok(());
            }
            if matches!(other, Frame::Hello { .. })
                && tx.me()?.account.is_some()
                && accounts::account_of(tx, from)?.is_none()
            {
                greeting::ask_stranger(tx, from);
                return Ok(());
            }
            // Everything below is for devices that share something with us.
            if tx.me()?.account.is_none() || accounts::account_of(tx, from)?.is_none() {
                return Err(Fail::peer("a frame from a stranger"));
            }
            known_peer(tx, from, other)
        }
    }
}

fn known_peer(tx: &mut Tx<'_>, from: DeviceId, frame: Frame) -> Result<(), Fail> {
    match frame {
        Frame::Hello { summary, .. } => greeting::hear(tx, from, summary),
        Frame::Digests { accounts: list, topics: topic_list, ask } => {
            greeting::compare(tx, from, &list, &topic_list, ask)
        }
        Frame::AccountWant(account, heads) => {
            // Only what is known to concern both: the own account, and co-members'.
            let concerns = greeting::Concerns::of(tx, from)?;
            if concerns.contains(&account) {
                // What it has and we lack is asked for in turn by its own hello.
                let mut pack = accounts::pack(tx, account, &heads)?;
                // Of who is out only what its devices wrote is judged: nobody seals to it.
                if !concerns.member(&account) {
                    pack.prekeys = codec::List::default();
                }
                tx.send(from, Frame::Account(pack));
            }
            Ok(())
        }
        Frame::Frontier { topic, ops, chains, ask } => {
            if !topics::may_read(tx, topic, from)? {
                return removed(tx, from, topic);
            }
            let Some(state) = topics::state(tx, topic)? else { return Ok(()) };
            // Who has a topic has its first record: this device is not in yet.
            if ops.is_empty() {
                if accounts::account_of(tx, from)? != tx.me()?.account {
                    return Ok(topics::tell_anew(tx, topic, from)?);
                }
                let Some(bundle) = accounts::bundle_of(tx, from)? else { return Ok(()) };
                let sealed = tx.mem.peers.get(&from).and_then(|p| p.welcomed.get(&topic));
                if sealed == Some(&bundle.counter) {
                    // What it was handed may have been refused; seldom, for it lacks many at once.
                    let now = tx.now;
                    let again = tx.mem.peers.get_mut(&from).is_some_and(|p| {
                        let due = now >= p.handed.saturating_add(PAGE_PATIENCE);
                        p.handed = if due { now } else { p.handed };
                        due
                    });
                    return if again { inbox::hand_over(tx, from) } else { Ok(()) };
                }
                topics::welcome_device(tx, topic, from)?;
                if let Some(peer) = tx.mem.peers.get_mut(&from) {
                    peer.welcomed.insert(topic, bundle.counter);
                }
                return Ok(());
            }
            let lacking = state.log.records_unknown_to(&ops);
            for chunk in lacking.chunks(64) {
                let records: Vec<_> = chunk
                    .iter()
                    .filter_map(|r| codec::Bytes::try_from(r.bytes().to_vec()).ok())
                    .collect();
                tx.send(from, Frame::Ops(topic, capped(records)));
            }
            if ask {
                let frame = frontier(tx, topic, false)?;
                tx.send(from, frame);
            }
            for proof in forks::proofs(tx, topic, &chains)? {
                tx.send(from, proof);
            }
            if let Some(peer) = tx.mem.peers.get_mut(&from) {
                peer.frontiers.insert(topic, chains.to_vec());
                peer.wants.retain(|_, since| *since + PAGE_PATIENCE > tx.now);
            }
            want(tx, from, topic)
        }
        Frame::Ops(topic, records) => {
            // A removed device learns of its removal from members, as it knows them.
            if !topics::may_read(tx, topic, from)? {
                return Err(Fail::peer("operations from a device that is no member's"));
            }
            let records: Vec<Vec<u8>> = records.iter().map(|b| b.to_vec()).collect();
            topics::learn(tx, topic, &records)?;
            want(tx, from, topic)
        }
        Frame::Want(topic, runs) => page(tx, from, topic, &runs),
        Frame::KeysWant(topic, epochs) => {
            let mut parcels = Vec::new();
            for epoch in &epochs {
                parcels.extend(topics::key_for(tx, topic, *epoch, from)?);
            }
            if !parcels.is_empty() {
                tx.send(from, Frame::Keys(capped(parcels)));
            }
            Ok(())
        }
        Frame::Keys(parcels) => {
            let keys = inbox::opening_keys(tx)?;
            let mut came = BTreeSet::new();
            for parcel in &parcels {
                match topics::take_parcel(tx, parcel, &keys) {
                    Ok(true) => came.extend(topics::parcel_topic(parcel)),
                    Ok(false) | Err(Fail::Peer(_) | Fail::Refusal(_)) => {}
                    Err(other) => return Err(other),
                }
            }
            // What waited for a key may have held the rest up.
            for topic in came {
                want(tx, from, topic)?;
            }
            Ok(())
        }
        Frame::Page { .. }
        | Frame::Push(..)
        | Frame::Account(_)
        | Frame::Inbox(_)
        | Frame::InboxHeld(_)
        | Frame::Cursor(_)
        | Frame::Service(..)
        | Frame::Pair(_) => Ok(()),
    }
}

/// Asks for what a device has of a topic and is missing here, where the two know the same or
/// not; tells who is out that it is.
pub(crate) fn compare(
    tx: &mut Tx<'_>,
    from: DeviceId,
    topic: TopicId,
    same: bool,
) -> Result<(), Fail> {
    if topics::may_read(tx, topic, from)? {
        if !same || lacks(tx, from, topic)? {
            let frame = frontier(tx, topic, true)?;
            tx.send(from, frame);
        }
        return Ok(());
    }
    let known = topics::row(tx, topic)?.is_some();
    if accounts::is_active(tx, from)?
        && let Some(account) = accounts::account_of(tx, from)?
    {
        // Another device of one's own is in what this one is not, as far as it knows; or an
        // author counts this device among those that it told, and a relay lost that.
        let own = tx.me()?.account == Some(account);
        if own || !known && contacts::welcomes_from(tx, account)? {
            let (ops, chains) = (codec::List::default(), codec::List::default());
            tx.send(from, Frame::Frontier { topic, ops, chains, ask: true });
        }
    }
    if known { removed(tx, from, topic) } else { Ok(()) }
}

/// A device that is no member gets the records that say so, if it ever was one, and
/// nothing else.
fn removed(tx: &mut Tx<'_>, to: DeviceId, topic: TopicId) -> Result<(), Fail> {
    // Nobody is told by this that a feed is followed here.
    if topics::is_followed(tx, topic)? {
        return Ok(());
    }
    let Some(account) = accounts::account_of(tx, to)? else { return Ok(()) };
    let Some(state) = topics::state(tx, topic)? else { return Ok(()) };
    if !state.now().former.contains(&account) {
        return Ok(());
    }
    // The removals of this account and what they build on; nothing that came after.
    let ends: Vec<[u8; 32]> = state
        .log
        .records()
        .filter(|r| match &r.get().op {
            MemberOp::Remove { account: gone, .. } => *gone == account,
            MemberOp::Leave { .. } => r.get().account == account,
            _ => false,
        })
        .map(Signed::id)
        .collect();
    let Some(past) = state.log.dag().closure(&ends) else { return Ok(()) };
    let records: Vec<_> = state
        .log
        .records()
        .filter(|r| past.contains(&r.id()))
        .filter_map(|r| codec::Bytes::try_from(r.bytes().to_vec()).ok())
        .collect();
    for chunk in records.chunks(64) {
        tx.send(to, Frame::Ops(topic, capped(chunk.to_vec())));
    }
    Ok(())
}

/// Whether what was before this device's part of a topic may be asked of a peer: where all
/// history was granted; and one's own devices share what they have.
fn backwards(tx: &mut Tx<'_>, peer: DeviceId, topic: TopicId) -> Result<bool, StorageError> {
    let (Some(state), Some(account)) = (topics::state(tx, topic)?, tx.me()?.account) else {
        return Ok(false);
    };
    let granted = state.now().members.get(&account).is_some_and(|m| m.history == History::All);
    Ok(granted || accounts::account_of(tx, peer)? == Some(account))
}

/// Whether this device lacks something that a peer may have though their digests are equal:
/// bodies, or what is before the part held here.
fn lacks(tx: &mut Tx<'_>, peer: DeviceId, topic: TopicId) -> Result<bool, Fail> {
    Ok(!letters::missing(tx, topic, &topic.0, 1, true)?.is_empty()
        || backwards(tx, peer, topic)?
            && topics::chains(&tx.stage, topic)?.iter().any(|(_, chain)| chain.low > 1))
}

/// Runs that a peer holds and this device lacks.
fn runs(tx: &mut Tx<'_>, peer: DeviceId, topic: TopicId) -> Result<Vec<Run>, Fail> {
    let Some(theirs) = tx.mem.peers.get(&peer).and_then(|p| p.frontiers.get(&topic)).cloned()
    else {
        return Ok(Vec::new());
    };
    let ours: BTreeMap<DeviceId, Chain> = topics::chains(&tx.stage, topic)?.into_iter().collect();
    let me = tx.me()?;
    let backwards = backwards(tx, peer, topic)?;
    let forks = forks::of(tx, topic)?;
    let mut runs = Vec::new();
    let mut looks = Vec::new();
    for held in theirs {
        let chain = ours.get(&held.device);
        let (low, high) = chain.map_or((1, 0), |c| (c.low, c.high));
        let fork = forks.get(&held.device);
        if let Some(chain) = chain
            && held.device != me.device
        {
            looks.extend(forks::suspect(tx, topic, chain, &held, fork)?);
        }
        // What comes after a fork counts for nothing.
        if held.high > high && fork.is_none() {
            // A chain that is not held at all and begins late there begins late here too.
            let from = (high + 1).max(if chain.is_none() { held.low } else { 1 });
            let to = held.high.min(from.saturating_add(RUN - 1));
            runs.push(Run { device: held.device, from, to });
        }
        if backwards && low > held.low && held.device != me.device {
            // From the newest backwards: each is proved by its successor.
            let oldest = low.saturating_sub(RUN).max(held.low).max(1);
            runs.push(Run { device: held.device, from: low - 1, to: oldest });
        }
    }
    // Envelopes whose bodies have not come.
    for (device, seq) in letters::missing(tx, topic, &topic.0, MISSING_AT_ONCE, true)? {
        runs.push(Run { device, from: seq, to: seq });
    }
    // Looking for forks never holds up what others wrote.
    runs.extend(looks);
    runs.truncate(256);
    Ok(runs)
}

/// Asks a peer for what it holds and this device lacks, if no page is under way.
pub(crate) fn want(tx: &mut Tx<'_>, peer: DeviceId, topic: TopicId) -> Result<(), Fail> {
    let now = tx.now;
    let Some(p) = tx.mem.peers.get(&peer) else { return Ok(()) };
    if p.wants.get(&topic).is_some_and(|since| since + PAGE_PATIENCE > now) {
        return Ok(());
    }
    let runs = runs(tx, peer, topic)?;
    if runs.is_empty() {
        return Ok(());
    }
    if let Some(p) = tx.mem.peers.get_mut(&peer) {
        p.wants.insert(topic, now);
        p.last_runs.insert(topic, runs.clone());
    }
    tx.send(peer, Frame::Want(topic, capped(runs)));
    Ok(())
}

/// Answers a wish for runs with one page.
fn page(tx: &mut Tx<'_>, to: DeviceId, topic: TopicId, runs: &[Run]) -> Result<(), Fail> {
    if !topics::may_read(tx, topic, to)? {
        return removed(tx, to, topic);
    }
    let forks = forks::of(tx, topic)?;
    let mut letters = Vec::new();
    let mut bytes = 0;
    let mut more = false;
    'runs: for run in runs {
        let backwards = run.from > run.to;
        let length = run.from.abs_diff(run.to).saturating_add(1);
        for step in 0..length {
            let seq = if backwards { run.from - step } else { run.from + step };
            if letters.len() + 1 >= PAGE_LETTERS || bytes >= PAGE_BYTES {
                more = true;
                break 'runs;
            }
            let Some(letter) = letters::letter(&tx.stage, topic, run.device, seq)? else {
                break;
            };
            bytes += letters::size(&letter);
            letters.push(letter);
            // Where a device told two stories, both are told.
            if let Some(other) =
                forks.get(&run.device).filter(|f| f.seq == seq).and_then(forks::other)
            {
                bytes += letters::size(&other);
                letters.push(other);
            }
        }
    }
    tx.send(to, Frame::Page { topic, letters: capped(letters), more });
    Ok(())
}

/// A page was taken in; `stored` says whether it brought anything.
pub(crate) fn page_end(
    tx: &mut Tx<'_>,
    from: DeviceId,
    topic: TopicId,
    stored: bool,
) -> Result<(), Fail> {
    if let Some(peer) = tx.mem.peers.get_mut(&from) {
        peer.wants.remove(&topic);
    }
    // Without progress the same page would come for ever. What waited for a key may have
    // been stored meanwhile: that is progress, too.
    let last = tx.mem.peers.get_mut(&from).and_then(|p| p.last_runs.remove(&topic));
    if stored || last.is_some_and(|last| runs(tx, from, topic).is_ok_and(|now| now != last)) {
        want(tx, from, topic)
    } else {
        Ok(())
    }
}

/// An envelope came whose predecessors are missing: the peer that sent it has them.
pub(crate) fn gap(tx: &mut Tx<'_>, from: DeviceId, topic: TopicId) -> Result<(), Fail> {
    if topics::may_read(tx, topic, from)? {
        let frame = frontier(tx, topic, true)?;
        tx.send(from, frame);
    }
    Ok(())
}

/// Asks connected members for an epoch's key, each once per connection.
pub(crate) fn want_key(tx: &mut Tx<'_>, topic: TopicId, epoch: EpochId) -> Result<(), Fail> {
    if tx.mem.peers.is_empty() || topics::is_followed(tx, topic)? {
        return Ok(());
    }
    let members = topics::devices(tx, topic)?;
    let mut asked = Vec::new();
    for (device, peer) in &mut tx.mem.peers {
        if members.contains(device) && peer.asked.len() < 4_096 && peer.asked.insert(epoch) {
            asked.push(*device);
        }
    }
    for device in asked {
        tx.out.push(Effect::Frame(device, Frame::KeysWant(topic, capped(vec![epoch]))));
    }
    Ok(())
}

/// Notes that something new of others is here, for peers that may lack it.
pub(crate) fn note_news(tx: &mut Tx<'_>, topic: TopicId, source: Option<DeviceId>) {
    let due = tx.now + HINT_AFTER;
    for (device, peer) in &mut tx.mem.peers {
        if Some(*device) != source {
            peer.hints.entry(topic).or_insert(due);
        }
    }
}

/// Tells peers of news that they have not acknowledged. Returns when to look again.
pub(crate) fn tend(tx: &mut Tx<'_>) -> Result<Option<Millis>, Fail> {
    let now = tx.now;
    let mut due = Vec::new();
    let mut next: Option<Millis> = None;
    for (device, peer) in &mut tx.mem.peers {
        peer.hints.retain(|topic, at| {
            if *at <= now {
                due.push((*device, *topic));
                false
            } else {
                next = Some(next.map_or(*at, |n| n.min(*at)));
                true
            }
        });
    }
    for (device, topic) in due {
        if topics::may_read(tx, topic, device)? && lags(tx, topic, device)? {
            let frame = frontier(tx, topic, false)?;
            tx.send(device, frame);
        } else if tx.mem.peers.get(&device).is_some_and(|p| p.listens.contains(&topic)) {
            feeds::tell(tx, device, topic)?;
        }
    }
    Ok(next)
}

fn lags(tx: &mut Tx<'_>, topic: TopicId, device: DeviceId) -> Result<bool, StorageError> {
    let forks = forks::of(tx, topic)?;
    for (author, chain) in topics::chains(&tx.stage, topic)? {
        if author != device
            && !forks.contains_key(&author)
            && cursors::acked(&tx.stage, topic, device, author)? < chain.high
        {
            return Ok(true);
        }
    }
    Ok(false)
}
