//! Welcomes: all that a device needs to be in a topic, given and taken.

use std::collections::BTreeSet;
use std::sync::Arc;

use teahouse_protocols::codec;
use teahouse_protocols::epoch::Parcel;
use teahouse_protocols::ids::{AccountId, DeviceId, EnvelopeId, TopicId};
use teahouse_protocols::inbox::{AccountPack, InboxItem, Welcome};
use teahouse_protocols::membership::{
    History, MemberOp, MembershipLog, MembershipRecord, TopicKind,
};
use teahouse_protocols::seal::OpeningKey;
use teahouse_protocols::sign::Signed;

use super::epochs::{MAX_EPOCHS, epochs, key_for, parcel_for, take_parcel};
use super::operations::{learn, note_time};
use super::readers::{author, open_public, takes_part};
use super::rekey::note_removed;
use super::sealing::epoch_for_cursors;
use super::{chains, oracle, require, row};
use crate::engine::{accounts, inbox, letters};
use crate::features::contacts;
use crate::features::moments;
use crate::store::{ReadExt, StorageError};
use crate::tables::{CHAINS, Chain, OPS, TOPICS, Topic, pair_key};
use crate::tx::{Effect, Fail, TopicState, Tx, capped};

/// How many of each chain's newest envelopes a new device of one's own gets first; the rest
/// follows backwards.
const NEWEST_FIRST: u64 = 512;
/// Most topics of one author that this account reads without being a member.
const MAX_OF_AUTHOR: usize = moments::MAX_AUDIENCES;
/// No honest chain is longer.
pub(crate) const MAX_SEQ: u64 = 1 << 48;

/// What a joiner's device needs, with the epochs that its grant covers; a reader's, with those
/// that are this device's to give.
pub(crate) fn welcome(
    tx: &mut Tx<'_>,
    topic: TopicId,
    device: DeviceId,
    grant: History,
) -> Result<Welcome, Fail> {
    let mut parcels = Vec::new();
    let limit = if grant == History::All { MAX_EPOCHS } else { 1 };
    let has_readers = author(tx, topic)?.is_some();
    for epoch in epochs(&tx.stage, topic, limit)? {
        let parcel = if has_readers {
            key_for(tx, topic, epoch, device)?
        } else {
            parcel_for(tx, epoch, device)?
        };
        parcels.extend(parcel);
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
    let private = tx.me()?.private;
    let mut all = accounts::topic_ids(tx)?;
    all.sort_by_key(|t| Some(*t) != private);
    for topic in all {
        if takes_part(tx, topic)? {
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
    let was_in = takes_part(tx, topic)?;
    // Its operations can come before it: who was out and has a key since has just joined, too.
    let had_key = was_in && has_key(tx, topic)?;
    if row(tx, topic)?.is_none() {
        let mut records = Vec::new();
        for bytes in &welcome.records {
            records.push(Signed::<MembershipRecord>::from_bytes(bytes).map_err(Fail::peer)?);
        }
        let log = MembershipLog::from_records(topic, records).map_err(Fail::peer)?;
        let kind = log.kind();
        let named = named(&log);
        for pack in &welcome.accounts {
            accounts::learn(tx, pack, &|a| named.contains(a))?;
        }
        let eval = log.evaluate(&oracle(&tx.stage));
        let now = eval.membership();
        let based = if let Some(mine) = now.members.get(&account) {
            // Whoever added this account speaks for where its history begins; nobody else.
            let host = log.get(&mine.added_by).map(|r| r.get().account);
            // Nobody makes this account a publisher.
            if from != account && (host != Some(from) || kind == TopicKind::Feed) {
                return Err(Fail::peer("a welcome by somebody else than who added this account"));
            }
            if from != account {
                // Of what came before, nobody here saw the time.
                note_time(tx, topic, mine.added_by)?;
            }
            from == account || mine.history == History::FromJoining
        } else if kind == TopicKind::Moments {
            // Whose it is lets whom it likes read it.
            let Some(author) = now.members.keys().next().copied() else {
                return Err(Fail::peer("a topic of nobody's"));
            };
            if from != account && from != author {
                return Err(Fail::peer("a welcome to read what is somebody else's"));
            }
            require_room(tx, author)?;
            from == account
        } else if kind == TopicKind::Feed && from == account {
            // Another device of one's own follows it.
            true
        } else {
            return Err(Fail::peer("a welcome to a topic that this account is not in"));
        };
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
        if kind == TopicKind::Feed {
            open_public(tx, topic)?;
        }
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
    let joined = takes_part(tx, topic)? && (!was_in || !had_key && has_key(tx, topic)?);
    if joined && !proposed && from != account {
        // Where this fails, they ask when they connect.
        if let Err(Fail::Storage(e)) = welcome_own(tx, topic) {
            return Err(e.into());
        }
    }
    Ok(topic)
}

/// Takes in a public topic that this account follows, from whoever had it: its id vouches for
/// its first record, and that for the rest. More records and accounts of one that is known are
/// taken in, too.
pub(crate) fn adopt(
    tx: &mut Tx<'_>,
    topic: TopicId,
    records: &[impl AsRef<[u8]>],
    packs: &[AccountPack],
) -> Result<(), Fail> {
    let fresh = row(tx, topic)?.is_none();
    let log = if fresh {
        let mut signed = Vec::new();
        for bytes in records {
            signed
                .push(Signed::<MembershipRecord>::from_bytes(bytes.as_ref()).map_err(Fail::peer)?);
        }
        MembershipLog::from_records(topic, signed).map_err(Fail::peer)?
    } else {
        require(tx, topic)?.log.clone()
    };
    if log.kind() != TopicKind::Feed {
        return Err(Fail::peer("a topic that is no feed"));
    }
    let named = named(&log);
    for pack in packs {
        // Nobody seals anything to a publisher for being read.
        let pack = AccountPack { records: pack.records.clone(), ..AccountPack::default() };
        accounts::learn(tx, &pack, &|a| named.contains(a))?;
    }
    if !fresh {
        if !records.is_empty() {
            learn(tx, topic, records)?;
        }
        return Ok(());
    }
    let eval = log.evaluate(&oracle(&tx.stage));
    for record in log.records() {
        tx.put_raw(&OPS, &pair_key(&topic.0, &record.id()), record.bytes().to_vec())?;
    }
    let row = Topic {
        kind: TopicKind::Feed,
        created: tx.now,
        peer: None,
        proposed: false,
        hidden: false,
        epochs: 0,
    };
    tx.put(&TOPICS, &topic.0, &row)?;
    open_public(tx, topic)?;
    tx.mem.topics.insert(topic, Arc::new(TopicState { log, eval }));
    Ok(())
}

/// Accounts that a topic's records name: only those are learnt with it.
fn named(log: &MembershipLog) -> BTreeSet<AccountId> {
    log.records()
        .flat_map(|r| {
            let added = match &r.get().op {
                MemberOp::Add { account, .. } => Some(*account),
                _ => None,
            };
            [Some(r.get().account), added]
        })
        .flatten()
        .collect()
}

/// Whether something could be sealed, or at least read, now.
fn has_key(tx: &mut Tx<'_>, topic: TopicId) -> Result<bool, Fail> {
    if author(tx, topic)?.is_some() {
        return Ok(!epochs(&tx.stage, topic, 1)?.is_empty());
    }
    Ok(epoch_for_cursors(tx, topic)?.is_some())
}

/// Refuses more topics of one author than anybody needs.
fn require_room(tx: &mut Tx<'_>, of: AccountId) -> Result<(), Fail> {
    let mut known = 0;
    for topic in accounts::topic_ids(tx)? {
        known += usize::from(author(tx, topic)? == Some(of));
    }
    if known < MAX_OF_AUTHOR { Ok(()) } else { Err(Fail::peer("too many topics of one author")) }
}

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
