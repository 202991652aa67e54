//! Membership and epochs: who is in a topic, and which secret opens what.
//!
//! Membership records are a set; everything else follows from the set
//! ([`teahouse_protocols::membership`]). Epochs are a set too; a sender picks one that is
//! *adequate*: it names every active device of every member, and no device that is none.

use std::collections::BTreeSet;
use std::sync::Arc;

use rand_core::Rng;
use teahouse_protocols::codec;
use teahouse_protocols::epoch::{
    EpochHead, EpochSecret, GroupKeys, PairwiseHpke, Parcel, epoch_id,
};
use teahouse_protocols::ids::{AccountId, DeviceId, EnvelopeId, EpochId, OpId, TopicId};
use teahouse_protocols::inbox::{InboxItem, Welcome};
use teahouse_protocols::membership::{
    Cut, History, MemberOp, MembershipLog, MembershipRecord, Role, TopicKind,
};
use teahouse_protocols::seal::OpeningKey;
use teahouse_protocols::sign::Signed;

use crate::command::Refusal;
use crate::engine::{accounts, inbox, latecomers, letters};
use crate::features::contacts;
use crate::store::{Key, KeyRange, Read, ReadExt, StorageError};
use crate::tables::{
    CHAINS, Chain, DEVICE_ACCOUNT, EPOCHS, Epoch, OP_TIMES, OPS, REKEY_DUE, TOPIC_EPOCHS, TOPICS,
    Topic, pair_key,
};
use crate::tx::{Effect, Fail, TopicState, Tx, capped};

/// Most membership records of one topic.
const MAX_OPS: usize = 4_096;
/// Most epochs of one topic that others can bring.
const MAX_EPOCHS_KEPT: u64 = 16_384;
/// Most void records of one account that are kept: an honest one makes few.
const MAX_VOID: usize = 64;
/// Most epochs of one topic that are looked at, newest first.
pub(crate) const MAX_EPOCHS: usize = 256;

/// The topic's row.
pub(crate) fn row(tx: &Tx<'_>, topic: TopicId) -> Result<Option<Topic>, StorageError> {
    tx.typed(&TOPICS, &topic.0)
}

/// The topic's membership, if the topic is known.
pub(crate) fn state(
    tx: &mut Tx<'_>,
    topic: TopicId,
) -> Result<Option<Arc<TopicState>>, StorageError> {
    if let Some(state) = tx.mem.topics.get(&topic) {
        return Ok(Some(state.clone()));
    }
    let Some(state) = load(&tx.stage, topic)? else { return Ok(None) };
    let state = Arc::new(state);
    tx.mem.topics.insert(topic, state.clone());
    Ok(Some(state))
}

/// Reads a topic's membership from the tables.
pub(crate) fn load(read: &dyn Read, topic: TopicId) -> Result<Option<TopicState>, StorageError> {
    let rows = read.scan(&OPS, &KeyRange::prefix(&topic.0), false, MAX_OPS)?;
    if rows.is_empty() {
        return Ok(None);
    }
    let damaged = || StorageError::corrupt(OPS.name, "membership record");
    let mut records = Vec::with_capacity(rows.len());
    for (_, bytes) in rows {
        records.push(Signed::<MembershipRecord>::from_bytes(&bytes).map_err(|_| damaged())?);
    }
    let log = MembershipLog::from_records(topic, records).map_err(|_| damaged())?;
    let eval = log.evaluate(&oracle(read));
    Ok(Some(TopicState { log, eval }))
}

/// Whether a device was ever validly added to an account.
pub(crate) fn oracle(read: &dyn Read) -> impl Fn(&AccountId, &DeviceId) -> bool + '_ {
    |account, device| {
        read.get_typed::<AccountId>(&DEVICE_ACCOUNT, &device.0).ok().flatten() == Some(*account)
    }
}

/// The topic's membership, or the refusal that there is no such chat.
pub(crate) fn require(tx: &mut Tx<'_>, topic: TopicId) -> Result<Arc<TopicState>, Fail> {
    Ok(state(tx, topic)?.ok_or_else(|| Refusal::NotFound { what: "chat".into() })?)
}

/// Current members; empty for an unknown topic.
pub(crate) fn members(tx: &mut Tx<'_>, topic: TopicId) -> Result<Vec<AccountId>, StorageError> {
    Ok(state(tx, topic)?.map(|s| s.now().members.keys().copied().collect()).unwrap_or_default())
}

/// Accounts whose device lists a topic's envelopes are judged by: members, and of who is out
/// by now those that wrote.
pub(crate) fn judged(tx: &mut Tx<'_>, topic: TopicId) -> Result<BTreeSet<AccountId>, StorageError> {
    let Some(state) = state(tx, topic)? else { return Ok(BTreeSet::new()) };
    let mut out: BTreeSet<AccountId> = state.now().members.keys().copied().collect();
    for (device, _) in chains(&tx.stage, topic)? {
        let account = accounts::account_of(tx, device)?;
        out.extend(account.filter(|a| state.now().former.contains(a)));
    }
    Ok(out)
}

/// Whether a device is an active one of a current member.
pub(crate) fn is_member(
    tx: &mut Tx<'_>,
    topic: TopicId,
    device: DeviceId,
) -> Result<bool, StorageError> {
    let Some(account) = accounts::account_of(tx, device)? else { return Ok(false) };
    let Some(state) = state(tx, topic)? else { return Ok(false) };
    Ok(state.now().members.contains_key(&account) && accounts::is_active(tx, device)?)
}

/// Active devices of all members, this one too.
pub(crate) fn devices(tx: &mut Tx<'_>, topic: TopicId) -> Result<BTreeSet<DeviceId>, StorageError> {
    let mut all = BTreeSet::new();
    for member in members(tx, topic)? {
        all.extend(accounts::devices_of(tx, member)?);
    }
    Ok(all)
}

/// Makes a topic of which this account is the owner.
pub(crate) fn create(
    tx: &mut Tx<'_>,
    kind: TopicKind,
    history: History,
    peer: Option<AccountId>,
) -> Result<TopicId, Fail> {
    let account = tx.account()?;
    let me = tx.me()?;
    let mut nonce = [0; 16];
    tx.rng.fill_bytes(&mut nonce);
    let record = MembershipRecord::create(account, me.device, kind, history, nonce);
    let signed = Signed::new(record, &me.key);
    let topic = TopicId(signed.id());
    let row = Topic { kind, created: tx.now, peer, proposed: false, hidden: false, epochs: 0 };
    tx.put(&TOPICS, &topic.0, &row)?;
    tx.put_raw(&OPS, &pair_key(&topic.0, &signed.id()), signed.bytes().to_vec())?;
    note_time(tx, topic, OpId(signed.id()))?;
    tx.out.push(Effect::Peers);
    Ok(topic)
}

/// Makes a membership operation of one's own, and tells everybody concerned: members get
/// it with the new epoch's key, and whoever is removed gets the removal and nothing else.
pub(crate) fn operate(tx: &mut Tx<'_>, topic: TopicId, op: MemberOp) -> Result<(), Fail> {
    let account = tx.account()?;
    let me = tx.me()?;
    let before = require(tx, topic)?;
    before
        .eval
        .allowed(&oracle(&tx.stage), account, me.device, &op)
        .map_err(|e| Refusal::NotAllowed { why: e.to_string() })?;
    let mut audience = devices(tx, topic)?;
    let signed = Signed::new(before.eval.next(account, me.device, op), &me.key);
    insert(tx, topic, vec![signed.clone()])?;
    audience.extend(devices(tx, topic)?);
    audience.remove(&me.device);
    let after = require(tx, topic)?;
    let bytes = codec::Bytes::try_from(signed.bytes().to_vec()).map_err(Fail::peer)?;
    let item = InboxItem::Ops(topic, capped(vec![bytes.clone()]));
    // Rekey at once when somebody went; in the same message as the operation.
    let gone = before.now().members.keys().any(|m| !after.now().members.contains_key(m));
    let cut = before.now().cuts != after.now().cuts;
    let mut parcels = Vec::new();
    if (gone || cut) && after.now().members.contains_key(&account) {
        parcels = rekey(tx, topic)?;
    }
    let pack = InboxItem::Account(accounts::pack(tx, account, &[])?);
    for device in audience {
        // Whoever does not know this device yet would refuse its word.
        let mut items = vec![pack.clone(), item.clone()];
        items
            .extend(parcels.iter().filter(|p| p.to == device.0).map(|p| InboxItem::Key(p.clone())));
        inbox::send(tx, device, items)?;
    }
    Ok(())
}

/// What of each member device's chain is held here: the cut that keeps it all.
pub(crate) fn cuts_of(
    tx: &mut Tx<'_>,
    topic: TopicId,
    account: AccountId,
) -> Result<Vec<Cut>, StorageError> {
    let Some(log) = accounts::log(tx, account)? else { return Ok(Vec::new()) };
    let mut cuts = Vec::new();
    for device in log.state().devices.keys() {
        let chain: Option<Chain> = tx.typed(&CHAINS, &pair_key(&topic.0, &device.0))?;
        if let Some(c) = chain
            && c.high > 0
        {
            cuts.push(Cut { device: *device, seq: c.high, id: c.head });
        }
    }
    cuts.truncate(64);
    Ok(cuts)
}

/// Takes membership records in. Records of an unknown topic are refused: only a welcome
/// brings a topic.
pub(crate) fn learn(
    tx: &mut Tx<'_>,
    topic: TopicId,
    records: &[impl AsRef<[u8]>],
) -> Result<bool, Fail> {
    if row(tx, topic)?.is_none() {
        return Err(Fail::peer("membership records of an unknown topic"));
    }
    let mut signed = Vec::with_capacity(records.len());
    for bytes in records {
        signed.push(Signed::<MembershipRecord>::from_bytes(bytes.as_ref()).map_err(Fail::peer)?);
    }
    let before: Vec<AccountId> = members(tx, topic)?;
    let news = insert(tx, topic, signed)?;
    if news {
        // Whom this account adds itself gets what it has with the welcome.
        for account in members(tx, topic)? {
            if !before.contains(&account) {
                latecomers::joined(tx, topic, account)?;
            }
        }
    }
    Ok(news)
}

/// Stores records and draws the consequences.
pub(crate) fn insert(
    tx: &mut Tx<'_>,
    topic: TopicId,
    records: Vec<Signed<MembershipRecord>>,
) -> Result<bool, Fail> {
    let before = require(tx, topic)?;
    let mut log = before.log.clone();
    let result = log.extend(records);
    if let Some((_, error)) = result.refused.first()
        && result.new.is_empty()
    {
        return Err(Fail::peer(error));
    }
    if result.new.is_empty() {
        return Ok(false);
    }
    for id in &result.new {
        if let Some(record) = log.get(id) {
            tx.put_raw(&OPS, &pair_key(&topic.0, &id.0), record.bytes().to_vec())?;
            note_time(tx, topic, *id)?;
        }
    }
    let eval = log.evaluate(&oracle(&tx.stage));
    let mut void: std::collections::BTreeMap<AccountId, usize> = std::collections::BTreeMap::new();
    for id in eval.membership().void.keys() {
        if let Some(record) = log.get(id) {
            *void.entry(record.get().account).or_default() += 1;
        }
    }
    for id in &result.new {
        let author = log.get(id).map(|r| r.get().account);
        let flooded = author.is_some_and(|a| void.get(&a).is_some_and(|n| *n > MAX_VOID));
        if flooded && eval.membership().void.contains_key(id) {
            return Err(Fail::peer("too many operations without effect"));
        }
    }
    let after = Arc::new(TopicState { log, eval });
    tx.mem.topics.insert(topic, after.clone());
    tx.out.push(Effect::Peers);
    tx.mem.mail_due = true;
    tx.mem.mail_topics.insert(topic);
    let (b, a) = (before.now(), after.now());
    if b.former != a.former || b.cuts != a.cuts || b.void != a.void {
        letters::rejudge(tx, topic)?;
    }
    letters::release(tx, topic)?;
    inbox::unpark(tx, topic)?;
    Ok(true)
}

/// Notes when an operation came: operations carry no time of their own, and people want to
/// see who joined and who left where it happened in the conversation.
fn note_time(tx: &mut Tx<'_>, topic: TopicId, op: OpId) -> Result<(), StorageError> {
    let now = tx.now;
    tx.put(&OP_TIMES, &pair_key(&topic.0, &op.0), &now)
}

/// Draws the consequences of a changed account for the topics it is in; `devices` says
/// whether its devices changed, on which verdicts depend.
pub(crate) fn account_changed(
    tx: &mut Tx<'_>,
    account: AccountId,
    devices: bool,
) -> Result<(), Fail> {
    tx.mem.mail_due = true;
    for topic in accounts::topic_ids(tx)? {
        let Some(state) = state(tx, topic)? else { continue };
        let wrote = state.log.records().any(|r| r.get().account == account);
        if devices && (wrote || state.now().members.contains_key(&account)) {
            letters::rejudge(tx, topic)?;
        }
        if wrote || state.now().members.contains_key(&account) {
            // It may fetch elsewhere, or can be sealed to now.
            tx.mem.mail_topics.insert(topic);
            letters::release(tx, topic)?;
            inbox::unpark(tx, topic)?;
        }
    }
    Ok(())
}

/// The secret of an epoch, if it is known here.
pub(crate) fn secret(
    tx: &mut Tx<'_>,
    epoch: EpochId,
) -> Result<Option<(TopicId, Arc<EpochSecret>)>, StorageError> {
    if let Some(found) = tx.mem.epochs.get(&epoch) {
        return Ok(Some(found.clone()));
    }
    let Some(row) = tx.typed::<Epoch>(&EPOCHS, &epoch.0)? else { return Ok(None) };
    let found = (row.topic, Arc::new(EpochSecret::from_bytes(row.secret)));
    tx.mem.epochs.insert(epoch, found.clone());
    Ok(Some(found))
}

/// A topic's epochs, newest first.
pub(crate) fn epochs(
    read: &dyn Read,
    topic: TopicId,
    limit: usize,
) -> Result<Vec<EpochId>, StorageError> {
    let rows = read.scan(&TOPIC_EPOCHS, &KeyRange::prefix(&topic.0), true, limit)?;
    Ok(rows.into_iter().filter_map(|(k, _)| Some(EpochId(*k.last_chunk::<32>()?))).collect())
}

/// The signed head of a known epoch.
pub(crate) fn head(tx: &Tx<'_>, epoch: EpochId) -> Result<Option<Signed<EpochHead>>, StorageError> {
    let Some(row) = tx.typed::<Epoch>(&EPOCHS, &epoch.0)? else { return Ok(None) };
    Signed::<EpochHead>::from_bytes(&row.head)
        .map(Some)
        .map_err(|_| StorageError::corrupt(EPOCHS.name, "epoch head"))
}

/// Takes an epoch's secret in, once its author proves to be a member's device.
pub(crate) fn add_epoch(
    tx: &mut Tx<'_>,
    head: &Signed<EpochHead>,
    secret: &EpochSecret,
) -> Result<bool, Fail> {
    let id = epoch_id(head);
    let topic = head.get().topic;
    let mut row = row(tx, topic)?.ok_or_else(|| Fail::peer("key of an unknown topic"))?;
    if tx.contains(&EPOCHS, &id.0)? {
        return Ok(false);
    }
    let own = head.get().author == tx.me()?.device;
    if row.epochs >= MAX_EPOCHS_KEPT && !own {
        return Err(Fail::peer("too many epochs"));
    }
    let stored =
        Epoch { topic, head: head.bytes().to_vec(), secret: *secret.to_bytes(), received: tx.now };
    tx.put(&EPOCHS, &id.0, &stored)?;
    row.epochs += 1;
    let key = Key::new().fixed(&topic.0).u64(row.epochs).fixed(&id.0).into_bytes();
    tx.put_raw(&TOPIC_EPOCHS, &key, Vec::new())?;
    tx.put(&TOPICS, &topic.0, &row)?;
    tx.mem.mail_due = true;
    tx.mem.mail_topics.insert(topic);
    letters::open_stored(tx, topic, id)?;
    letters::release(tx, topic)?;
    Ok(true)
}

/// The topic that a parcel says it is for.
pub(crate) fn parcel_topic(parcel: &Parcel) -> Option<TopicId> {
    Signed::<EpochHead>::from_bytes(&parcel.head).ok().map(|h| h.get().topic)
}

/// Opens a parcel with one of the keys that it may be sealed to, and takes it in.
pub(crate) fn take_parcel(
    tx: &mut Tx<'_>,
    parcel: &Parcel,
    keys: &[OpeningKey],
) -> Result<bool, Fail> {
    let head = Signed::<EpochHead>::from_bytes(&parcel.head).map_err(Fail::peer)?;
    if tx.contains(&EPOCHS, &head.id())? {
        return Ok(false);
    }
    // Cheap reasons to refuse come before opening.
    let me = tx.me()?;
    if parcel.to != me.device.0 && Some(parcel.to) != me.account.map(|a| a.0) {
        return Err(Fail::peer("a key parcel for somebody else"));
    }
    if row(tx, head.get().topic)?.is_none() {
        return Err(Fail::peer("key of an unknown topic"));
    }
    for key in keys {
        if let Ok((head, secret)) = PairwiseHpke.open(parcel, key) {
            let author = head.get().author;
            let topic = head.get().topic;
            let account = accounts::account_of(tx, author)?
                .ok_or_else(|| Fail::peer("key by an unknown device"))?;
            let state = state(tx, topic)?.ok_or_else(|| Fail::peer("key of an unknown topic"))?;
            let heads: Vec<OpId> = head.get().heads.to_vec();
            // Its author must have been a member where it says it stood.
            let was = state.eval.at(&heads).is_some_and(|m| m.members.contains_key(&account))
                || state.now().members.contains_key(&account);
            if !was {
                return Err(Fail::peer("key by a device that is no member's"));
            }
            // Of who is no longer a member, only keys that something held waits for.
            let current = is_member(tx, topic, author)? && !cut_devices(&state).contains(&author);
            if !current && !letters::waits_for(tx, topic, epoch_id(&head))? {
                return Err(Fail::peer("a key that nothing waits for, by a former member"));
            }
            return add_epoch(tx, &head, &secret);
        }
    }
    Err(Fail::peer("key parcel does not open"))
}

/// The epoch to seal under, made now if none is adequate.
pub(crate) fn epoch_for_sending(
    tx: &mut Tx<'_>,
    topic: TopicId,
) -> Result<(EpochId, Arc<EpochSecret>), Fail> {
    let needed = reachable(tx, topic)?;
    let current = devices(tx, topic)?;
    let state = require(tx, topic)?;
    let cut = cut_devices(&state);
    let me = tx.me()?.device;
    let demand = demand(tx, topic, &cut)?;
    let usable = if demand == Demand::Fresh { 0 } else { 8 };
    for epoch in epochs(&tx.stage, topic, usable)? {
        let Some(head) = head(tx, epoch)? else { continue };
        if demand == Demand::Own && head.get().author != me {
            continue;
        }
        let recipients = &head.get().recipients;
        let covers = needed.iter().all(|d| recipients.binary_search(d).is_ok());
        let clean = clean(head.get(), &current, &cut);
        let later = saw_all_removals(&state, head.get(), me);
        if !clean && !cfg!(sim_bug = "stale_epoch") && !cfg!(sim_bug = "granted_epoch") {
            break;
        }
        let adequate = covers
            && (clean && (later || cfg!(sim_bug = "granted_epoch"))
                || cfg!(sim_bug = "stale_epoch"));
        if adequate && let Some((_, secret)) = secret(tx, epoch)? {
            return Ok((epoch, secret));
        }
        // Older ones of one's own may be from before.
        if demand == Demand::Own {
            break;
        }
    }
    let account = tx.account()?;
    let pack = InboxItem::Account(accounts::pack(tx, account, &[])?);
    for parcel in rekey(tx, topic)? {
        let to = DeviceId(parcel.to);
        inbox::send(tx, to, vec![pack.clone(), InboxItem::Key(parcel)])?;
    }
    let newest = epochs(&tx.stage, topic, 1)?;
    let epoch = *newest.first().ok_or_else(|| Fail::peer("no epoch after a rekey"))?;
    note_rekey(tx, topic, epoch)?;
    let (_, secret) = secret(tx, epoch)?.ok_or_else(|| Fail::peer("no epoch after a rekey"))?;
    Ok((epoch, secret))
}

/// Whether whoever stood at `heads` had seen every removal with effect. Whoever joined was
/// given what was older, too: an epoch from before a removal is the removed one's, even if
/// it was never named in it, and even if it is in and out again since. The same goes for
/// devices that were cut off: their account's other devices shared what they had.
fn saw_all_removals(state: &TopicState, head: &EpochHead, me: DeviceId) -> bool {
    // A head names a bounded number of operations: with more side by side, one made now by
    // this device would see no more.
    let heads = &head.heads;
    if **heads == state.now().heads[..] || head.author == me && **heads == state.eval.parents()[..]
    {
        return true;
    }
    let heads: Vec<[u8; 32]> = heads.iter().map(|h| h.0).collect();
    let Some(past) = state.log.dag().closure(&heads) else { return false };
    state.log.records().all(|r| {
        let ends = matches!(
            r.get().op,
            MemberOp::Remove { .. } | MemberOp::Leave { .. } | MemberOp::CutDevice { .. }
        );
        !ends || past.contains(&r.id()) || state.now().void.contains_key(&OpId(r.id()))
    })
}

/// Notes that a member's devices were found removed: until the topic's log says where each
/// was cut off ([`saw_all_removals`]), no epoch from before serves for sending. A device may
/// have come and gone without being known here, and was given the keys by its siblings.
pub(crate) fn devices_removed(
    tx: &mut Tx<'_>,
    account: AccountId,
    removed: &[DeviceId],
) -> Result<(), StorageError> {
    let Some(me) = tx.me()?.account.filter(|_| !removed.is_empty()) else { return Ok(()) };
    for topic in accounts::topic_ids(tx)? {
        let members = members(tx, topic)?;
        if members.contains(&account) && members.contains(&me) {
            for device in removed {
                tx.put_raw(&REKEY_DUE, &pair_key(&topic.0, &device.0), Vec::new())?;
            }
        }
    }
    Ok(())
}

/// The same for a topic that was joined just now: its members' devices that were removed.
fn note_removed(tx: &mut Tx<'_>, topic: TopicId) -> Result<(), StorageError> {
    for member in members(tx, topic)? {
        let Some(log) = accounts::log(tx, member)? else { continue };
        for (device, info) in &log.state().devices {
            if info.revoked.is_some() {
                tx.put_raw(&REKEY_DUE, &pair_key(&topic.0, &device.0), Vec::new())?;
            }
        }
    }
    Ok(())
}

/// What removed devices that the topic's log does not cut off yet demand of an epoch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Demand {
    Nothing,
    /// That this device made it since.
    Own,
    /// That it be made now.
    Fresh,
}

fn demand(tx: &Tx<'_>, topic: TopicId, cut: &BTreeSet<DeviceId>) -> Result<Demand, StorageError> {
    let mut demand = Demand::Nothing;
    for (key, since) in tx.scan(&REKEY_DUE, &KeyRange::prefix(&topic.0), false, MAX_REKEY_DUE)? {
        if key.last_chunk::<32>().is_some_and(|d| cut.contains(&DeviceId(*d))) {
            continue;
        }
        if since.is_empty() {
            return Ok(Demand::Fresh);
        }
        demand = Demand::Own;
    }
    Ok(demand)
}

/// Notes the epoch that was made after the removals known here.
fn note_rekey(tx: &mut Tx<'_>, topic: TopicId, epoch: EpochId) -> Result<(), StorageError> {
    let rows = tx.scan(&REKEY_DUE, &KeyRange::prefix(&topic.0), false, MAX_REKEY_DUE)?;
    for (key, since) in rows {
        if since.is_empty() {
            tx.put_raw(&REKEY_DUE, &key, epoch.0.to_vec())?;
        }
    }
    Ok(())
}

/// Removed devices looked at in one topic.
const MAX_REKEY_DUE: usize = 4_096;

/// Whether an epoch is known only to who is in. It is as good as who made it: a removed device
/// knows the secret it chose.
fn clean(head: &EpochHead, current: &BTreeSet<DeviceId>, cut: &BTreeSet<DeviceId>) -> bool {
    head.recipients.iter().all(|d| current.contains(d))
        && current.contains(&head.author)
        && !cut.contains(&head.author)
}

/// An epoch under which acknowledgements may be mailed.
pub(crate) struct ForCursors {
    pub(crate) secret: Arc<EpochSecret>,
    /// Whom it names.
    pub(crate) named: Vec<DeviceId>,
}

/// The epoch under which acknowledgements are mailed: the newest that only who is in can know.
/// None is made for them: where there is none, or somebody is not named in it, they go to
/// inboxes.
pub(crate) fn epoch_for_cursors(
    tx: &mut Tx<'_>,
    topic: TopicId,
) -> Result<Option<ForCursors>, Fail> {
    let current = devices(tx, topic)?;
    let state = require(tx, topic)?;
    let cut = cut_devices(&state);
    let me = tx.me()?.device;
    let demand = demand(tx, topic, &cut)?;
    let usable = if demand == Demand::Fresh { 0 } else { 8 };
    for epoch in epochs(&tx.stage, topic, usable)? {
        let Some(head) = head(tx, epoch)? else { continue };
        if demand == Demand::Own && head.get().author != me {
            continue;
        }
        if clean(head.get(), &current, &cut)
            && saw_all_removals(&state, head.get(), me)
            && let Some((_, secret)) = secret(tx, epoch)?
        {
            return Ok(Some(ForCursors { secret, named: head.get().recipients.to_vec() }));
        }
        if demand == Demand::Own {
            break;
        }
    }
    Ok(None)
}

/// Devices that were cut off for good. (A removal cuts, too; but who is added again writes
/// on.)
fn cut_devices(state: &TopicState) -> BTreeSet<DeviceId> {
    let for_good = |op: &OpId| {
        state.log.get(op).is_some_and(|r| matches!(r.get().op, MemberOp::CutDevice { .. }))
    };
    state
        .now()
        .cuts
        .iter()
        .filter(|(_, cuts)| cuts.iter().any(|c| for_good(&c.op)))
        .map(|(device, _)| *device)
        .collect()
}

/// Devices of members to which a key can be sealed: active, with a known prekey. This one
/// too.
fn reachable(tx: &mut Tx<'_>, topic: TopicId) -> Result<BTreeSet<DeviceId>, StorageError> {
    let mut out = BTreeSet::new();
    for device in devices(tx, topic)? {
        if accounts::bundle_of(tx, device)?.is_some() {
            out.insert(device);
        }
    }
    Ok(out)
}

/// Makes a new epoch for all current members; returns the parcels for the others.
pub(crate) fn rekey(tx: &mut Tx<'_>, topic: TopicId) -> Result<Vec<Parcel>, Fail> {
    let me = tx.me()?;
    let mut recipients: Vec<DeviceId> = reachable(tx, topic)?.into_iter().collect();
    if cfg!(sim_bug = "rekey_includes_removed") {
        let former: Vec<AccountId> = require(tx, topic)?.now().former.iter().copied().collect();
        for account in former {
            recipients.extend(accounts::devices_of(tx, account)?);
        }
    }
    let heads = require(tx, topic)?.eval.parents();
    let (head, secret) = PairwiseHpke.rekey(topic, &heads, &recipients, &me.key, tx.rng);
    add_epoch(tx, &head, &secret)?;
    let mut parcels = Vec::new();
    for device in recipients {
        if device == me.device {
            continue;
        }
        if let Some(bundle) = accounts::bundle_of(tx, device)? {
            // A device whose prekey can't be sealed to is skipped: it asks later.
            if let Ok(p) = PairwiseHpke.parcel(&head, &secret, device.0, &bundle.prekey, tx.rng) {
                parcels.push(p);
            }
        }
    }
    Ok(parcels)
}

/// Whether a device may have an epoch's secret: it was named a recipient, or its account is
/// a member whose grant covers the epoch.
pub(crate) fn may_have(
    tx: &mut Tx<'_>,
    topic: TopicId,
    device: DeviceId,
    head: &EpochHead,
) -> Result<bool, StorageError> {
    if !is_member(tx, topic, device)? {
        return Ok(false);
    }
    let Some(account) = accounts::account_of(tx, device)? else { return Ok(false) };
    let Some(state) = state(tx, topic)? else { return Ok(false) };
    let Some(member) = state.now().members.get(&account) else { return Ok(false) };
    if head.recipients.binary_search(&device).is_ok() {
        return Ok(true);
    }
    // Where the epoch's author had seen operations that are not here yet, the device may be
    // out by one of them: only who was named may have it.
    let Some(then) = state.eval.at(&head.heads) else { return Ok(false) };
    // The same goes where an operation that would take it out is here, by a device that its
    // account's log, as it is known here, does not name yet.
    if may_be_out(tx, &state, account)? {
        return Ok(false);
    }
    Ok(member.history == History::All || then.members.contains_key(&account))
}

/// Whether a member may be out by an operation that is void here only because its author's
/// device is not known to be its account's: news of that account may be on the way.
fn may_be_out(tx: &Tx<'_>, state: &TopicState, account: AccountId) -> Result<bool, StorageError> {
    for record in state.log.records().map(Signed::get) {
        let against = match &record.op {
            MemberOp::Remove { account: gone, .. } => *gone == account,
            MemberOp::Leave { .. } => record.account == account,
            _ => false,
        };
        if against && accounts::account_of(tx, record.device)?.is_none() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Seals an epoch to one device.
pub(crate) fn parcel_for(
    tx: &mut Tx<'_>,
    epoch: EpochId,
    device: DeviceId,
) -> Result<Option<Parcel>, StorageError> {
    let Some(bundle) = accounts::bundle_of(tx, device)? else { return Ok(None) };
    let Some(head) = head(tx, epoch)? else { return Ok(None) };
    let Some((_, secret)) = secret(tx, epoch)? else { return Ok(None) };
    Ok(PairwiseHpke.parcel(&head, &secret, device.0, &bundle.prekey, tx.rng).ok())
}

/// What a joiner's device needs, with the epochs that its grant covers.
pub(crate) fn welcome(
    tx: &mut Tx<'_>,
    topic: TopicId,
    device: DeviceId,
    grant: History,
) -> Result<Welcome, Fail> {
    let mut parcels = Vec::new();
    let limit = if grant == History::All { MAX_EPOCHS } else { 1 };
    for epoch in epochs(&tx.stage, topic, limit)? {
        if let Some(p) = parcel_for(tx, epoch, device)? {
            parcels.push(p);
        }
    }
    // Oldest first, so that the newest is the newest there too.
    parcels.reverse();
    welcome_with(tx, topic, parcels, grant)
}

/// A welcome with given parcels.
pub(crate) fn welcome_with(
    tx: &mut Tx<'_>,
    topic: TopicId,
    parcels: Vec<Parcel>,
    grant: History,
) -> Result<Welcome, Fail> {
    let state = require(tx, topic)?;
    let records: Vec<_> = state
        .log
        .records_unknown_to(&[])
        .into_iter()
        .filter_map(|r| codec::Bytes::try_from(r.bytes().to_vec()).ok())
        .collect();
    let mut involved: BTreeSet<AccountId> = state.now().members.keys().copied().collect();
    involved.extend(state.now().former.iter().copied());
    let mut packs = Vec::new();
    for account in involved {
        packs.push(accounts::pack(tx, account, &[])?);
    }
    let base = if grant == History::All {
        Vec::new()
    } else {
        chains(&tx.stage, topic)?
            .into_iter()
            .filter(|(_, c)| c.high > 0)
            .map(|(d, c)| (d, c.high, c.head))
            .collect()
    };
    Ok(Welcome {
        topic,
        records: capped(records),
        parcels: capped(parcels),
        accounts: capped(packs),
        base: capped(base),
    })
}

/// How many of each chain's newest envelopes a new device of one's own gets first; the rest
/// follows backwards.
const NEWEST_FIRST: u64 = 512;

/// Welcomes this account's other devices into a topic.
pub(crate) fn welcome_own(tx: &mut Tx<'_>, topic: TopicId) -> Result<(), Fail> {
    let account = tx.account()?;
    let me = tx.me()?;
    for device in accounts::devices_of(tx, account)? {
        if device != me.device {
            welcome_device(tx, topic, device)?;
        }
    }
    Ok(())
}

/// Welcomes a new device of this account into everything, the private topic first.
pub(crate) fn welcome_everywhere(tx: &mut Tx<'_>, device: DeviceId) -> Result<(), Fail> {
    let account = tx.account()?;
    let private = tx.me()?.private;
    let mut all = accounts::topic_ids(tx)?;
    all.sort_by_key(|t| Some(*t) != private);
    for topic in all {
        if members(tx, topic)?.contains(&account) {
            welcome_device(tx, topic, device)?;
        }
    }
    Ok(())
}

/// Welcomes one of this account's devices into a topic. A stranger's proposal came to each
/// of them, or was not meant for a later one.
pub(crate) fn welcome_device(
    tx: &mut Tx<'_>,
    topic: TopicId,
    device: DeviceId,
) -> Result<(), Fail> {
    if contacts::is_proposal(tx, topic)? {
        return Ok(());
    }
    let mut welcome = welcome(tx, topic, device, History::All)?;
    let mut base = Vec::new();
    for (author, chain) in chains(&tx.stage, topic)? {
        let seq = chain.high.saturating_sub(NEWEST_FIRST);
        if seq >= chain.low
            && let Some(row) = letters::log_row(&tx.stage, topic, author, seq)?
            && let Ok(envelope) = teahouse_protocols::envelope::Envelope::from_bytes(&row.envelope)
        {
            base.push((author, seq, envelope.id()));
        }
    }
    welcome.base = capped(base);
    let account = tx.account()?;
    let pack = accounts::pack(tx, account, &[])?;
    let mut items = vec![InboxItem::Account(pack), InboxItem::Welcome(Box::new(welcome))];
    // A direct chat begins as a proposal there, too, unless this says otherwise.
    if row(tx, topic)?.is_some_and(|r| r.kind == TopicKind::Direct && !r.proposed) {
        items.push(InboxItem::Accepted(topic));
    }
    inbox::send(tx, device, items)
}

/// All chains of a topic.
pub(crate) fn chains(
    read: &dyn Read,
    topic: TopicId,
) -> Result<Vec<(DeviceId, Chain)>, StorageError> {
    let rows: Vec<(Vec<u8>, Chain)> =
        read.scan_typed(&CHAINS, &KeyRange::prefix(&topic.0), false, 4_096)?;
    Ok(rows.into_iter().filter_map(|(k, c)| Some((DeviceId(*k.last_chunk::<32>()?), c))).collect())
}

/// Takes a welcome in: the topic's records, accounts, keys, and where its chains begin.
pub(crate) fn take_welcome(
    tx: &mut Tx<'_>,
    welcome: &Welcome,
    keys: &[OpeningKey],
    from: AccountId,
    proposed: bool,
) -> Result<TopicId, Fail> {
    let topic = welcome.topic;
    let account = tx.account()?;
    let was_member = members(tx, topic)?.contains(&account);
    // Its operations can come before it: who was out and has a key since has just joined, too.
    let had_key = was_member && epoch_for_cursors(tx, topic)?.is_some();
    if row(tx, topic)?.is_none() {
        let mut records = Vec::new();
        for bytes in &welcome.records {
            records.push(Signed::<MembershipRecord>::from_bytes(bytes).map_err(Fail::peer)?);
        }
        let log = MembershipLog::from_records(topic, records).map_err(Fail::peer)?;
        let kind = log.kind();
        // Only accounts that the topic names are learnt with it.
        let named: BTreeSet<AccountId> = log
            .records()
            .flat_map(|r| {
                let added = match &r.get().op {
                    MemberOp::Add { account, .. } => Some(*account),
                    _ => None,
                };
                [Some(r.get().account), added]
            })
            .flatten()
            .collect();
        for pack in &welcome.accounts {
            accounts::learn(tx, pack, &|a| named.contains(a))?;
        }
        let eval = log.evaluate(&oracle(&tx.stage));
        let now = eval.membership();
        let Some(mine) = now.members.get(&account) else {
            return Err(Fail::peer("a welcome to a topic that this account is not in"));
        };
        // Whoever added this account speaks for where its history begins; nobody else.
        let host = log.get(&mine.added_by).map(|r| r.get().account);
        if from != account && host != Some(from) {
            return Err(Fail::peer("a welcome by somebody else than who added this account"));
        }
        if from != account {
            // Of what came before, nobody here saw the time.
            note_time(tx, topic, mine.added_by)?;
        }
        let based = from == account || mine.history == History::FromJoining;
        let peer = match kind {
            TopicKind::Direct => now.members.keys().find(|m| **m != account).copied(),
            _ => None,
        };
        for record in log.records() {
            tx.put_raw(&OPS, &pair_key(&topic.0, &record.id()), record.bytes().to_vec())?;
        }
        let proposed = proposed && kind == TopicKind::Direct;
        let row = Topic { kind, created: tx.now, peer, proposed, hidden: false, epochs: 0 };
        tx.put(&TOPICS, &topic.0, &row)?;
        for (device, seq, id) in welcome.base.iter().filter(|_| based) {
            base(tx, topic, *device, *seq, *id)?;
        }
        tx.mem.topics.insert(topic, Arc::new(TopicState { log, eval }));
        note_removed(tx, topic)?;
        tx.out.push(Effect::Peers);
    } else {
        let state = require(tx, topic)?;
        let known =
            |a: &AccountId| state.now().members.contains_key(a) || state.now().former.contains(a);
        for pack in &welcome.accounts {
            accounts::learn(tx, pack, &known)?;
        }
        let records: Vec<Vec<u8>> = welcome.records.iter().map(|b| b.to_vec()).collect();
        let back = state.now().former.contains(&account);
        if !records.is_empty()
            && (back || from == account || state.now().members.contains_key(&from))
        {
            learn(tx, topic, &records)?;
        }
    }
    for parcel in &welcome.parcels {
        // One parcel that doesn't open spoils no other: the key can be asked for.
        if let Err(Fail::Storage(e)) = take_parcel(tx, parcel, keys) {
            return Err(e.into());
        }
    }
    inbox::unpark(tx, topic)?;
    tx.mem.mail_due = true;
    // Whoever invites this account may not know its newest devices yet. On joining only: a
    // member who sends one key after the other makes no work for the outbox.
    let joined = members(tx, topic)?.contains(&account)
        && (!was_member || !had_key && epoch_for_cursors(tx, topic)?.is_some());
    if joined && !proposed && from != account {
        // Where this fails, they ask when they connect.
        if let Err(Fail::Storage(e)) = welcome_own(tx, topic) {
            return Err(e.into());
        }
    }
    Ok(topic)
}

/// No honest chain is longer.
pub(crate) const MAX_SEQ: u64 = 1 << 48;

fn base(
    tx: &mut Tx<'_>,
    topic: TopicId,
    device: DeviceId,
    seq: u64,
    id: EnvelopeId,
) -> Result<(), StorageError> {
    let key = pair_key(&topic.0, &device.0);
    // The own chain is never told by others.
    if device == tx.me()?.device || seq == 0 || seq > MAX_SEQ {
        return Ok(());
    }
    if !tx.contains(&CHAINS, &key)? {
        let chain = Chain { low: seq + 1, high: seq, head: id, segment: 0, loose: true };
        tx.put(&CHAINS, &key, &chain)?;
    }
    Ok(())
}

/// This account's role in a topic.
pub(crate) fn my_role(tx: &mut Tx<'_>, topic: TopicId) -> Result<Option<Role>, Fail> {
    let account = tx.account()?;
    Ok(state(tx, topic)?.and_then(|s| s.now().members.get(&account).map(|m| m.role)))
}
