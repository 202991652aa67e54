//! Changing who is in a topic: making it, operating on it, learning what others did, and the
//! consequences that a change has here.

use std::collections::BTreeSet;
use std::sync::Arc;

use rand_core::Rng;
use teahouse_protocols::codec;
use teahouse_protocols::ids::{AccountId, OpId, TopicId};
use teahouse_protocols::inbox::InboxItem;
use teahouse_protocols::membership::{Cut, History, MemberOp, MembershipRecord, TopicKind};
use teahouse_protocols::sign::Signed;

use super::readers::{is_public, open_public};
use super::rekey::rekey;
use super::sealing::note_new_epoch;
use super::{audience, devices, members, oracle, require, row, state};
use crate::command::Refusal;
use crate::engine::{accounts, inbox, latecomers, letters};
use crate::store::StorageError;
use crate::tables::{CHAINS, Chain, OP_TIMES, OPS, TOPICS, Topic, pair_key};
use crate::tx::{Effect, Fail, TopicState, Tx, capped};

/// Most void records of one account that are kept: an honest one makes few.
const MAX_VOID: usize = 64;

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
    if kind == TopicKind::Feed {
        open_public(tx, topic)?;
    }
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
    if (gone || cut) && !is_public(tx, topic)? && after.now().members.contains_key(&account) {
        parcels = rekey(tx, topic)?;
        note_new_epoch(tx, topic)?;
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

/// Draws the consequences of a changed account for the topics it is in; `devices` says
/// whether its devices changed, on which verdicts depend.
pub(crate) fn account_changed(
    tx: &mut Tx<'_>,
    account: AccountId,
    devices: bool,
) -> Result<(), Fail> {
    tx.mem.mail_due = true;
    tx.mem.readers_due = true;
    for topic in accounts::topic_ids(tx)? {
        let Some(state) = state(tx, topic)? else { continue };
        let wrote = state.log.records().any(|r| r.get().account == account);
        if devices && (wrote || state.now().members.contains_key(&account)) {
            letters::rejudge(tx, topic)?;
        }
        if wrote || audience(tx, topic)?.contains(&account) {
            // It may fetch elsewhere, or can be sealed to now.
            tx.mem.mail_topics.insert(topic);
            letters::release(tx, topic)?;
            inbox::unpark(tx, topic)?;
        }
    }
    Ok(())
}

/// Stores records and draws the consequences.
fn insert(
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
    let mut gone = BTreeSet::new();
    for account in b.members.keys().filter(|account| !a.members.contains_key(account)) {
        gone.extend(accounts::devices_of(tx, *account)?);
    }
    latecomers::makers_gone(tx, topic, &gone)?;
    Ok(true)
}

/// Notes when an operation came: operations carry no time of their own, and people want to
/// see who joined and who left where it happened in the conversation.
pub(super) fn note_time(tx: &mut Tx<'_>, topic: TopicId, op: OpId) -> Result<(), StorageError> {
    let now = tx.now;
    tx.put(&OP_TIMES, &pair_key(&topic.0, &op.0), &now)
}
