//! Epochs that are known here: taking their secrets in, and giving them to whom they are due.

use std::sync::Arc;

use teahouse_protocols::epoch::{
    EpochHead, EpochSecret, GroupKeys, PairwiseHpke, Parcel, epoch_id,
};
use teahouse_protocols::ids::{AccountId, DeviceId, EpochId, OpId, TopicId};
use teahouse_protocols::membership::{History, MemberOp};
use teahouse_protocols::seal::OpeningKey;
use teahouse_protocols::sign::Signed;

use super::readers::{author, may_read, note_sealed};
use super::sealing::cut_devices;
use super::{is_member, row, state};
use crate::engine::{accounts, letters};
use crate::store::{Key, KeyRange, Read, ReadExt, StorageError};
use crate::tables::{EPOCHS, Epoch, TOPIC_EPOCHS, TOPICS};
use crate::tx::{Fail, TopicState, Tx};

/// Most epochs of one topic that are looked at, newest first.
pub(crate) const MAX_EPOCHS: usize = 256;
/// Most epochs of one topic that others can bring.
const MAX_EPOCHS_KEPT: u64 = 16_384;

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
    // A public topic's epoch was made by nobody.
    if row.head.is_empty() {
        return Ok(None);
    }
    Signed::<EpochHead>::from_stored(&row.head, &epoch.0)
        .map(Some)
        .map_err(|_| StorageError::corrupt(EPOCHS.name, "epoch head"))
}

/// The topic that a parcel says it is for.
pub(crate) fn parcel_topic(parcel: &Parcel) -> Option<TopicId> {
    Signed::<EpochHead>::from_bytes(&parcel.head).ok().map(|h| h.get().topic)
}

/// The epoch that a parcel says it is of.
pub(crate) fn parcel_epoch(parcel: &Parcel) -> Option<EpochId> {
    Signed::<EpochHead>::from_bytes(&parcel.head).ok().map(|h| epoch_id(&h))
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

/// Whether a device may have an epoch's secret: it was named a recipient, or its account is
/// a member whose grant covers the epoch.
pub(crate) fn may_have(
    tx: &mut Tx<'_>,
    topic: TopicId,
    device: DeviceId,
    head: &EpochHead,
) -> Result<bool, StorageError> {
    if !may_read(tx, topic, device)? {
        return Ok(false);
    }
    let Some(account) = accounts::account_of(tx, device)? else { return Ok(false) };
    // Who is let read may read what came before. But a reader is given a key by its maker
    // alone, who notes it: else the maker would go on sealing under a key of which it does not
    // know who has it. A maker that is out seals nothing any more.
    if author(tx, topic)?.is_some() {
        let me = tx.me()?;
        return Ok(me.account == Some(account)
            || head.author == me.device
            || !accounts::is_active(tx, head.author)?);
    }
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

/// Seals an epoch of a topic to a device that [may have](may_have) it.
pub(crate) fn key_for(
    tx: &mut Tx<'_>,
    topic: TopicId,
    epoch: EpochId,
    device: DeviceId,
) -> Result<Option<Parcel>, StorageError> {
    let Some(head) = head(tx, epoch)? else { return Ok(None) };
    if head.get().topic != topic || !may_have(tx, topic, device, head.get())? {
        return Ok(None);
    }
    let parcel = parcel_for(tx, epoch, device)?;
    if parcel.is_some() {
        note_sealed(tx, epoch, device)?;
    }
    Ok(parcel)
}

/// Seals an epoch to one device, whoever it is.
pub(super) fn parcel_for(
    tx: &mut Tx<'_>,
    epoch: EpochId,
    device: DeviceId,
) -> Result<Option<Parcel>, StorageError> {
    let Some(bundle) = accounts::bundle_of(tx, device)? else { return Ok(None) };
    let Some(head) = head(tx, epoch)? else { return Ok(None) };
    let Some((_, secret)) = secret(tx, epoch)? else { return Ok(None) };
    Ok(PairwiseHpke.parcel(&head, &secret, device.0, &bundle.prekey, tx.rng).ok())
}

/// Takes an epoch's secret in, once its author proves to be a member's device.
pub(super) fn add_epoch(
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
