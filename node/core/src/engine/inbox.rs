//! What is sealed to one device: sending, keeping until somebody has it, and receiving.

use teahouse_protocols::codec;
use teahouse_protocols::envelope::sealed_hash;
use teahouse_protocols::ids::{AccountId, DeviceId, EpochId, Millis, RelayId, SealedHash, TopicId};
use teahouse_protocols::inbox::{
    self, InboxItem, InboxMessage, message_prekey, open_message, seal_message,
};
use teahouse_protocols::membership::TopicKind;
use teahouse_protocols::seal::OpeningKey;
use teahouse_protocols::sync::Frame;

use crate::command::Refusal;
use crate::engine::{accounts, cursors, letters, mail, topics};
use crate::features;
use crate::store::{KeyRange, ReadExt, StorageError};
use crate::tables::{EPOCHS, OUTBOX, OutItem, OwnPrekey, PARKED, Parked, pair_key};
use crate::tx::{Fail, Tx, capped};

/// Most items that wait to leave.
pub(crate) const MAX_OUTBOX: usize = 16_384;
/// Items handed to a device at once when it connects.
const HANDOVER: usize = 64;
/// How long an item is kept: nobody has the prekey any longer.
const KEPT: Millis = accounts::PREKEY_KEPT;

/// Seals items to a device: handed over at once if it is connected, left at its relays if
/// not, and kept until one of them has it.
pub(crate) fn send(tx: &mut Tx<'_>, device: DeviceId, items: Vec<InboxItem>) -> Result<(), Fail> {
    send_run(tx, device, items, None)
}

/// Like [`send`], for envelopes that stand for a run at one relay.
pub(crate) fn send_run(
    tx: &mut Tx<'_>,
    device: DeviceId,
    items: Vec<InboxItem>,
    run: Option<(TopicId, RelayId, u64)>,
) -> Result<(), Fail> {
    let account = tx.account()?;
    let me = tx.me()?;
    if device == me.device {
        return Ok(());
    }
    // Without a prekey nothing can be sealed; sync tells the device when it connects.
    let Some(bundle) = accounts::bundle_of(tx, device)? else { return Ok(()) };
    let message =
        InboxMessage { version: 1, account, from: me.device, to: device, items: capped(items) };
    let Ok(sealed) = seal_message(message, &me.key, &bundle.prekey, tx.rng) else {
        return Ok(());
    };
    let mut relays = accounts::relays_of(tx, bundle.account)?;
    if let Some((_, relay, _)) = run {
        relays.retain(|r| r.id == relay);
    }
    queue(tx, Some(device), bundle.inbox, None, sealed, relays, run)
}

/// Keeps something sealed until a relay or its device has it.
pub(crate) fn queue(
    tx: &mut Tx<'_>,
    device: Option<DeviceId>,
    tag: teahouse_protocols::ids::Tag,
    secret: Option<[u8; 16]>,
    sealed: Vec<u8>,
    relays: Vec<teahouse_protocols::account::RelayAddr>,
    run: Option<(TopicId, RelayId, u64)>,
) -> Result<(), Fail> {
    if tx.count(&OUTBOX, &KeyRange::all(), MAX_OUTBOX)? >= MAX_OUTBOX {
        return Err(Refusal::Limit {
            what: "things waiting to be sent".into(),
            max: MAX_OUTBOX as u64,
        }
        .into());
    }
    if let Some(device) = device {
        direct(tx, device, &sealed);
    }
    let n = tx.number()?;
    let item = OutItem { device, tag, secret, sealed, relays, made: tx.now, run };
    tx.put(&OUTBOX, &n.to_be_bytes(), &item)?;
    tx.mem.mail_due = true;
    Ok(())
}

/// Queues a contact request for the tag on a card: every device of its owner fetches there.
/// Where the card names no relay, the device that made it is the only one to be met.
pub(crate) fn ask(
    tx: &mut Tx<'_>,
    device: DeviceId,
    tag: teahouse_protocols::ids::Tag,
    secret: [u8; 16],
    sealed: Vec<u8>,
    relays: Vec<teahouse_protocols::account::RelayAddr>,
) -> Result<(), Fail> {
    if relays.is_empty() {
        return queue(tx, Some(device), tag, Some(secret), sealed, relays, None);
    }
    // Next door it comes at once; a second copy changes nothing.
    direct(tx, device, &sealed);
    queue(tx, None, tag, Some(secret), sealed, relays, None)
}

fn direct(tx: &mut Tx<'_>, device: DeviceId, sealed: &[u8]) {
    if let Ok(bytes) = codec::Bytes::try_from(sealed.to_vec()) {
        tx.send(device, Frame::Inbox(bytes));
    }
}

/// Hands a device that has just connected what waits for it.
pub(crate) fn hand_over(tx: &mut Tx<'_>, device: DeviceId) -> Result<(), Fail> {
    let rows: Vec<(Vec<u8>, OutItem)> =
        tx.scan_typed(&OUTBOX, &KeyRange::all(), false, MAX_OUTBOX)?;
    for (_, item) in rows.into_iter().filter(|(_, i)| i.device == Some(device)).take(HANDOVER) {
        direct(tx, device, &item.sealed);
    }
    Ok(())
}

/// A device has something of ours, durably.
pub(crate) fn held(tx: &mut Tx<'_>, device: DeviceId, hash: SealedHash) -> Result<(), Fail> {
    let rows: Vec<(Vec<u8>, OutItem)> =
        tx.scan_typed(&OUTBOX, &KeyRange::all(), false, MAX_OUTBOX)?;
    for (key, item) in rows {
        if item.device == Some(device) && sealed_hash(&item.sealed) == hash {
            tx.del(&OUTBOX, &key)?;
            if let Some(run) = item.run {
                mail::run_settled(tx, run)?;
            }
            if rows_left(tx, device)? {
                hand_over(tx, device)?;
            }
            return Ok(());
        }
    }
    Ok(())
}

fn rows_left(tx: &Tx<'_>, device: DeviceId) -> Result<bool, StorageError> {
    let rows: Vec<(Vec<u8>, OutItem)> =
        tx.scan_typed(&OUTBOX, &KeyRange::all(), false, MAX_OUTBOX)?;
    Ok(rows.iter().filter(|(_, i)| i.device == Some(device)).count() >= HANDOVER)
}

/// Drops what nobody can open any longer.
pub(crate) fn tend(tx: &mut Tx<'_>) -> Result<(), Fail> {
    tend_parked(tx)?;
    let rows: Vec<(Vec<u8>, OutItem)> =
        tx.scan_typed(&OUTBOX, &KeyRange::all(), false, MAX_OUTBOX)?;
    for (key, item) in rows {
        let gone = match item.device {
            Some(device) => !accounts::is_active(tx, device)? && item.made + 1_000 < tx.now,
            None => false,
        };
        if tx.now > item.made.saturating_add(KEPT) || gone && item.relays.is_empty() {
            tx.del(&OUTBOX, &key)?;
            if let Some(run) = item.run {
                mail::run_settled(tx, run)?;
            }
        }
    }
    Ok(())
}

/// Takes what a connected device, known or not, hands over: something sealed to this device,
/// or a request sealed to the account's card.
pub(crate) fn handed(tx: &mut Tx<'_>, sealed: &[u8]) -> Result<(), Fail> {
    match message_prekey(sealed) {
        Some(id) if accounts::own_prekey(tx, id)?.is_some() => receive(tx, sealed).map(|_| ()),
        _ => features::contacts::request(tx, sealed),
    }
}

/// Opens a sealed message and does what it says. Returns the sender.
pub(crate) fn receive(tx: &mut Tx<'_>, sealed: &[u8]) -> Result<DeviceId, Fail> {
    let me = tx.me()?;
    let own_account = tx.account()?;
    let id = message_prekey(sealed).ok_or_else(|| Fail::peer("not an inbox message"))?;
    let key = accounts::own_prekey(tx, id)?
        .ok_or_else(|| Fail::peer("sealed to a prekey that is gone"))?;
    let message = open_message(sealed, me.device, &key).map_err(Fail::peer)?;
    let message = message.get();
    // A first word brings its account along; everything else is from a known device.
    let mut items: Vec<&InboxItem> = message.items.iter().collect();
    if let Some(InboxItem::Account(pack)) = items.first() {
        // Strangers' accounts are not collected: only of whom we asked for contact.
        let sender = message.account;
        let asked = features::contacts::welcomes_from(tx, sender)?;
        accounts::learn(tx, pack, &|a| asked && *a == sender)?;
        items.remove(0);
    }
    if accounts::account_of(tx, message.from)? != Some(message.account) {
        return Err(Fail::peer("an inbox message by a device that is not its account's"));
    }
    // Account records prove themselves, whoever sends them: two devices that removed each
    // other hear it so.
    if items.is_empty() {
        return Ok(message.from);
    }
    if !accounts::is_active(tx, message.from)? {
        return Err(Fail::peer("an inbox message by a revoked device"));
    }
    for item in items {
        take(tx, own_account, message.account, message.from, item)?;
    }
    Ok(message.from)
}

fn take(
    tx: &mut Tx<'_>,
    own: AccountId,
    account: AccountId,
    from: DeviceId,
    item: &InboxItem,
) -> Result<(), Fail> {
    match item {
        InboxItem::Account(pack) => {
            // Of a contact or co-member: somebody who joins what we share.
            let trusted = account == own || features::contacts::welcomes_from(tx, account)?;
            let mut members = std::collections::BTreeSet::new();
            for topic in accounts::topic_ids(tx)? {
                members.extend(topics::judged(tx, topic)?);
            }
            accounts::learn(tx, pack, &|a| trusted || members.contains(a))?;
        }
        InboxItem::Key(parcel) => {
            let keys = opening_keys(tx)?;
            match topics::take_parcel(tx, parcel, &keys) {
                Ok(_) => {}
                Err(Fail::Peer(_)) => {
                    if let Some(topic) = topics::parcel_topic(parcel) {
                        park(tx, topic, from, item)?;
                    }
                }
                Err(other) => return Err(other),
            }
        }
        InboxItem::Welcome(welcome) => {
            if account != own && !features::contacts::welcomes_from(tx, account)? {
                return Err(Fail::peer("an invitation by somebody who is no contact"));
            }
            let keys = opening_keys(tx)?;
            // Of a direct chat, one's own device says so if both are in it by their will.
            let proposed = account == own;
            let topic = topics::take_welcome(tx, welcome, &keys, account, proposed)?;
            let kind = topics::row(tx, topic)?.map(|r| r.kind);
            if kind == Some(TopicKind::Private) {
                if account != own {
                    return Err(Fail::peer("somebody else's private topic"));
                }
                tx.edit_me(|me| me.private = Some(topic))?;
            }
            tx.mem.hello_due = true;
        }
        InboxItem::Ops(topic, records) => {
            // Only members are listened to: who is none yet may be one by what comes next.
            if topics::row(tx, *topic)?.is_none() || !topics::is_member(tx, *topic, from)? {
                return park(tx, *topic, from, item);
            }
            let records: Vec<Vec<u8>> = records.iter().map(|b| b.to_vec()).collect();
            topics::learn(tx, *topic, &records)?;
        }
        InboxItem::Letters(list) => {
            for letter in list {
                let secrets = letters::Secrets::new();
                let prepared = letters::prepare(&tx.stage, &secrets, letter.clone());
                if let Ok(prepared) = prepared {
                    let now = tx.now;
                    match letters::accept(tx, prepared, now) {
                        Ok(_) | Err(Fail::Peer(_)) => {}
                        // One that is too early makes the message come again.
                        Err(other) => return Err(other),
                    }
                }
            }
        }
        InboxItem::Cursor(bytes) => cursors::learn(tx, bytes)?,
        InboxItem::Accepted(topic) if account == own => {
            features::contacts::agreed(tx, *topic)?;
        }
        InboxItem::Accepted(topic) => features::contacts::accepted(tx, account, from, *topic)?,
    }
    Ok(())
}

/// Most parked items of one topic, and of all.
const MAX_PARKED: usize = 128;
const MAX_PARKED_ALL: usize = 2_048;

fn park(tx: &mut Tx<'_>, topic: TopicId, from: DeviceId, item: &InboxItem) -> Result<(), Fail> {
    let parked = Parked { received: tx.now, from, item: item.clone() };
    let bytes = postcard::to_stdvec(item).map_err(Fail::peer)?;
    let key = pair_key(&topic.0, blake3::hash(&bytes).as_bytes());
    let full = tx.count(&PARKED, &KeyRange::prefix(&topic.0), MAX_PARKED)? >= MAX_PARKED
        || tx.count(&PARKED, &KeyRange::all(), MAX_PARKED_ALL)? >= MAX_PARKED_ALL;
    if full {
        tend_parked(tx)?;
        return Err(Fail::peer("too much came too early"));
    }
    Ok(tx.put(&PARKED, &key, &parked)?)
}

/// How long something early is kept.
const PARKED_FOR: Millis = 14 * 24 * 3600 * 1000;

/// Drops what was parked too long ago.
fn tend_parked(tx: &mut Tx<'_>) -> Result<(), Fail> {
    let rows: Vec<(Vec<u8>, Parked)> =
        tx.scan_typed(&PARKED, &KeyRange::all(), false, MAX_PARKED_ALL)?;
    for (key, parked) in rows {
        if parked.received.saturating_add(PARKED_FOR) < tx.now {
            tx.del(&PARKED, &key)?;
        }
    }
    Ok(())
}

/// Tries what was parked for a topic again: something about it became known.
pub(crate) fn unpark(tx: &mut Tx<'_>, topic: TopicId) -> Result<(), Fail> {
    if topics::row(tx, topic)?.is_none() {
        return Ok(());
    }
    let rows: Vec<(Vec<u8>, Parked)> =
        tx.scan_typed(&PARKED, &KeyRange::prefix(&topic.0), false, MAX_PARKED)?;
    if rows.is_empty() {
        return Ok(());
    }
    let keys = opening_keys(tx)?;
    for (key, parked) in rows {
        let done = match &parked.item {
            InboxItem::Key(parcel) => match topics::take_parcel(tx, parcel, &keys) {
                Ok(_) => true,
                Err(Fail::Peer(_)) => parked.received.saturating_add(KEPT) < tx.now,
                Err(other) => return Err(other),
            },
            InboxItem::Ops(topic, records) => {
                if !topics::is_member(tx, *topic, parked.from)? {
                    continue;
                }
                let records: Vec<Vec<u8>> = records.iter().map(|b| b.to_vec()).collect();
                tx.del(&PARKED, &key)?;
                match topics::learn(tx, *topic, &records) {
                    Ok(_) | Err(Fail::Peer(_)) => true,
                    Err(other) => return Err(other),
                }
            }
            _ => true,
        };
        if done {
            tx.del(&PARKED, &key)?;
        }
    }
    Ok(())
}

/// Tries one key that came when nothing waited for it.
pub(crate) fn unpark_key(tx: &mut Tx<'_>, topic: TopicId, epoch: EpochId) -> Result<(), Fail> {
    if tx.contains(&EPOCHS, &epoch.0)? {
        return Ok(());
    }
    let rows: Vec<(Vec<u8>, Parked)> =
        tx.scan_typed(&PARKED, &KeyRange::prefix(&topic.0), false, MAX_PARKED)?;
    for (key, parked) in rows {
        if let InboxItem::Key(parcel) = &parked.item
            && topics::parcel_epoch(parcel) == Some(epoch)
        {
            let keys = opening_keys(tx)?;
            match topics::take_parcel(tx, parcel, &keys) {
                Ok(_) => return tx.del(&PARKED, &key).map_err(Fail::from),
                Err(Fail::Peer(_)) => {}
                Err(other) => return Err(other),
            }
        }
    }
    Ok(())
}

/// Keys that something sealed to this device may open with, newest first.
pub(crate) fn opening_keys(tx: &Tx<'_>) -> Result<Vec<OpeningKey>, StorageError> {
    Ok(accounts::own_prekeys(tx)?
        .into_iter()
        .rev()
        .map(|OwnPrekey { secret, .. }| OpeningKey::from_bytes(secret))
        .collect())
}

/// Most bytes of one inbox message's letters.
pub(crate) const LETTER_BYTES: usize = inbox::MAX_INBOX / 2;
