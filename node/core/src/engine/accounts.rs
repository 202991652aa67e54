//! Account logs, their devices, and prekeys: who is who.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rand_core::Rng;
use teahouse_protocols::account::{AccountLog, AccountOp, AccountRecord, RelayAddr, Signer};
use teahouse_protocols::codec;
use teahouse_protocols::ids::{AccountId, DeviceId, Millis, RecordId, Tag, TopicId};
use teahouse_protocols::inbox::{AccountPack, InboxItem, prekey_id};
use teahouse_protocols::prekey::PrekeyBundle;
use teahouse_protocols::seal::OpeningKey;
use teahouse_protocols::sign::{Signed, SigningKey};
use teahouse_protocols::sync::Frame;

use crate::engine::{latecomers, topics};
use crate::features::contacts;
use crate::store::{Key, KeyRange, ReadExt, StorageError};
use crate::tables::{
    ACCOUNT_RECORDS, BUNDLES, DEVICE_ACCOUNT, OWN_PREKEYS, OwnPrekey, TOPICS, Topic, pair_key,
};
use crate::tx::{Effect, Fail, Tx, capped};

/// How long an old prekey still opens what was sealed to it.
pub(crate) const PREKEY_KEPT: Millis = 90 * 24 * 3600 * 1000;
/// Age at which the own prekey is replaced.
const PREKEY_FRESH: Millis = 7 * 24 * 3600 * 1000;
/// Most records of one account that are kept.
const MAX_RECORDS: usize = 4_096;

/// An account's log, if it is known.
pub(crate) fn log(
    tx: &mut Tx<'_>,
    account: AccountId,
) -> Result<Option<Arc<AccountLog>>, StorageError> {
    if let Some(log) = tx.mem.accounts.get(&account) {
        return Ok(Some(log.clone()));
    }
    let loaded = load(&tx.stage, account)?.map(Arc::new);
    if let Some(log) = &loaded {
        tx.mem.accounts.insert(account, log.clone());
    }
    Ok(loaded)
}

/// Reads an account's log from the tables.
pub(crate) fn load(
    read: &dyn crate::store::Read,
    account: AccountId,
) -> Result<Option<AccountLog>, StorageError> {
    let damaged = |why| StorageError::corrupt(ACCOUNT_RECORDS.name, why);
    let rows = read.scan(&ACCOUNT_RECORDS, &KeyRange::prefix(&account.0), false, MAX_RECORDS)?;
    if rows.is_empty() {
        return Ok(None);
    }
    let mut records = Vec::with_capacity(rows.len());
    for (key, bytes) in rows {
        let damaged = || damaged("account record");
        let id = key.last_chunk::<32>().ok_or_else(damaged)?;
        records.push(Signed::<AccountRecord>::from_stored(&bytes, id).map_err(|_| damaged())?);
    }
    AccountLog::from_records(records).map(Some).map_err(|_| damaged("account log"))
}

/// Stores news of accounts that are known or `wanted`; others are ignored. Returns whether
/// anything was new. Records that are refused spoil no others.
pub(crate) fn learn(
    tx: &mut Tx<'_>,
    pack: &AccountPack,
    wanted: &dyn Fn(&AccountId) -> bool,
) -> Result<bool, Fail> {
    let mut by_account: BTreeMap<AccountId, Vec<Signed<AccountRecord>>> = BTreeMap::new();
    for bytes in &pack.records {
        let record = Signed::<AccountRecord>::from_bytes(bytes).map_err(Fail::peer)?;
        let account = record.get().account.unwrap_or(AccountId(record.id()));
        by_account.entry(account).or_default().push(record);
    }
    let mut changed = false;
    for (account, records) in by_account {
        if wanted(&account) || log(tx, account)?.is_some() {
            changed |= learn_records(tx, account, records)?;
        }
    }
    for bytes in &pack.prekeys {
        let bundle = Signed::<PrekeyBundle>::from_bytes(bytes).map_err(Fail::peer)?;
        if log(tx, bundle.get().account)?.is_some() {
            changed |= learn_bundle(tx, &bundle)?;
        }
    }
    Ok(changed)
}

fn learn_records(
    tx: &mut Tx<'_>,
    account: AccountId,
    records: Vec<Signed<AccountRecord>>,
) -> Result<bool, Fail> {
    let known = log(tx, account)?;
    let mut fresh = Vec::new();
    let mut updated = match &known {
        Some(log) => (**log).clone(),
        None => {
            let genesis = records
                .iter()
                .find(|r| AccountId(r.id()) == account)
                .ok_or_else(|| Fail::peer("records of an unknown account"))?;
            fresh.push(RecordId(genesis.id()));
            AccountLog::from_records([genesis.clone()]).map_err(Fail::peer)?
        }
    };
    // What was accepted is what is kept: earlier arrivals that waited are among it.
    fresh.extend(updated.insert_all(records).accepted);
    if fresh.is_empty() {
        return Ok(false);
    }
    if updated.state().devices.len() > MAX_DEVICES {
        return Err(Fail::peer("an account with too many devices"));
    }
    for id in &fresh {
        if let Some(record) = updated.get(id) {
            tx.put_raw(&ACCOUNT_RECORDS, &pair_key(&account.0, &id.0), record.bytes().to_vec())?;
        }
    }
    let before = known.as_ref().map(|l| l.state().clone());
    install(tx, account, updated)?;
    let me = tx.me()?;
    let after = log(tx, account)?.ok_or_else(|| Fail::peer("account vanished"))?;
    let after = after.state();
    if let Some(before) = before {
        if after.disputed && !before.disputed {
            tx.alarm(format!(
                "The root of {} changed in two ways at once: trust nothing new from them until you scan a fresh card.",
                &*after.name
            ))?;
        }
        let revoked: Vec<DeviceId> = after
            .devices
            .iter()
            .filter(|(d, i)| {
                i.revoked.is_some() && before.devices.get(d).is_none_or(|b| b.revoked.is_none())
            })
            .map(|(d, _)| *d)
            .collect();
        let added = after.devices.keys().any(|d| !before.devices.contains_key(d));
        if me.account != Some(account) && added {
            tx.alarm(format!("{} now uses another device.", &*after.name))?;
        }
        if revoked.contains(&me.device) {
            tx.alarm("This device was removed from its account.".to_owned())?;
        }
    }
    Ok(true)
}

/// Most devices that one account can have had. Membership is settled pairwise between
/// concurrent restrictions, so a crowd of devices would be a way to keep others busy.
const MAX_DEVICES: usize = 128;

/// Replaces the cached log and what is derived from it.
fn install(tx: &mut Tx<'_>, account: AccountId, log: AccountLog) -> Result<(), Fail> {
    let mut changed = false;
    let all: Vec<(DeviceId, bool)> =
        log.state().devices.keys().map(|d| (*d, log.was_ever(d))).collect();
    let active: BTreeSet<DeviceId> = log.state().active_devices().copied().collect();
    let before: BTreeSet<DeviceId> = match self::log(tx, account)? {
        Some(old) => old.state().active_devices().copied().collect(),
        None => BTreeSet::new(),
    };
    changed |= active != before;
    let removed: Vec<DeviceId> = {
        let old = self::log(tx, account)?;
        let was = |d: &DeviceId| {
            let held = old.as_ref().and_then(|l| l.state().devices.get(d));
            held.is_some_and(|i| i.revoked.is_some())
        };
        let now = log.state().devices.iter();
        now.filter(|(d, i)| i.revoked.is_some() && !was(d)).map(|(d, _)| *d).collect()
    };
    for (device, rightly) in all {
        let holder: Option<AccountId> = tx.typed(&DEVICE_ACCOUNT, &device.0)?;
        // A device belongs to one account. Who claims another's device gets nothing by it:
        // its consent is signed for one account only, so the log itself refuses the record.
        if rightly && holder.is_none() {
            tx.put(&DEVICE_ACCOUNT, &device.0, &account)?;
            changed = true;
        } else if !rightly && holder == Some(account) {
            tx.del(&DEVICE_ACCOUNT, &device.0)?;
            changed = true;
        }
    }
    tx.mem.accounts.insert(account, Arc::new(log));
    // Evaluations ask which devices belong to an account: those it appears in are made anew.
    if changed {
        tx.mem.topics.retain(|_, state| {
            !state.now().members.contains_key(&account)
                && !state.now().former.contains(&account)
                && !state.log.records().any(|r| r.get().account == account)
        });
    }
    tx.out.push(Effect::Peers);
    topics::devices_removed(tx, account, &removed)?;
    topics::account_changed(tx, account, changed)?;
    let me = tx.me()?;
    if me.account == Some(account) && active.contains(&me.device) {
        for device in before.difference(&active) {
            dismiss(tx, account, *device)?;
        }
    }
    Ok(())
}

/// Leaves word for a device of one's own that it is out: it may find nobody to tell it.
fn dismiss(tx: &mut Tx<'_>, account: AccountId, device: DeviceId) -> Result<(), Fail> {
    for pack in end_of(tx, account, device)? {
        let sent = crate::engine::inbox::send(tx, device, vec![InboxItem::Account(pack)]);
        // Whom it connects to tells it, too.
        if let Err(Fail::Storage(e)) = sent {
            return Err(e.into());
        }
    }
    Ok(())
}

/// What a device that is out gets of its account: the records that say so, nothing else.
pub(crate) fn end_of(
    tx: &mut Tx<'_>,
    account: AccountId,
    device: DeviceId,
) -> Result<Vec<AccountPack>, StorageError> {
    let Some(log) = log(tx, account)? else { return Ok(Vec::new()) };
    let records: Vec<_> = log
        .end_of(&device)
        .into_iter()
        .filter_map(|r| codec::Bytes::try_from(r.bytes().to_vec()).ok())
        .collect();
    let pack = |records: &[_]| AccountPack {
        records: capped(records.to_vec()),
        prekeys: codec::List::default(),
    };
    Ok(records.chunks(512).map(pack).collect())
}

fn learn_bundle(tx: &mut Tx<'_>, bundle: &Signed<PrekeyBundle>) -> Result<bool, Fail> {
    let b = bundle.get();
    let owner: Option<AccountId> = tx.typed(&DEVICE_ACCOUNT, &b.device.0)?;
    if owner != Some(b.account) {
        return Err(Fail::peer("prekeys of a device that is not its account's"));
    }
    if let Some(held) = bundle_of(tx, b.device)?
        && held.counter >= b.counter
    {
        return Ok(false);
    }
    let first = bundle_of(tx, b.device)?.is_none();
    tx.put_raw(&BUNDLES, &b.device.0, bundle.bytes().to_vec())?;
    tx.mem.bundles.remove(&b.device);
    topics::account_changed(tx, b.account, false)?;
    // A new device of one's own can now be sealed to: it gets everything.
    if first && tx.me()?.account == Some(b.account) && is_active(tx, b.device)? {
        topics::welcome_everywhere(tx, b.device)?;
        // Others can seal to it, too: they may be met at relays only.
        // With the outbox full they hear it when they connect.
        if let Err(Fail::Storage(e)) = announce(tx) {
            return Err(e.into());
        }
    }
    // After the welcome: what is of an unknown topic is not kept.
    if first && is_active(tx, b.device)? {
        latecomers::reachable(tx, b.device)?;
    }
    Ok(true)
}

/// A device's newest prekey bundle.
pub(crate) fn bundle_of(
    tx: &mut Tx<'_>,
    device: DeviceId,
) -> Result<Option<Arc<PrekeyBundle>>, StorageError> {
    use crate::store::Read;
    if let Some(known) = tx.mem.bundles.get(&device) {
        return Ok(Some(known.clone()));
    }
    let Some(bytes) = tx.get(&BUNDLES, &device.0)? else { return Ok(None) };
    let signed = Signed::<PrekeyBundle>::from_bytes(&bytes)
        .map_err(|_| StorageError::corrupt(BUNDLES.name, "prekey bundle"))?;
    let bundle = Arc::new(signed.get().clone());
    tx.mem.bundles.insert(device, bundle.clone());
    Ok(Some(bundle))
}

/// The account that a device belongs, or belonged, to.
pub(crate) fn account_of(tx: &Tx<'_>, device: DeviceId) -> Result<Option<AccountId>, StorageError> {
    tx.typed(&DEVICE_ACCOUNT, &device.0)
}

/// Active devices of an account.
pub(crate) fn devices_of(
    tx: &mut Tx<'_>,
    account: AccountId,
) -> Result<Vec<DeviceId>, StorageError> {
    let Some(log) = log(tx, account)? else { return Ok(Vec::new()) };
    Ok(log.state().active_devices().copied().collect())
}

/// Whether a device is an active one of its account.
pub(crate) fn is_active(tx: &mut Tx<'_>, device: DeviceId) -> Result<bool, StorageError> {
    let Some(account) = account_of(tx, device)? else { return Ok(false) };
    Ok(log(tx, account)?.is_some_and(|l| l.is_active(&device)))
}

/// An account's relays, at most two: where its devices fetch.
pub(crate) fn relays_of(
    tx: &mut Tx<'_>,
    account: AccountId,
) -> Result<Vec<RelayAddr>, StorageError> {
    Ok(log(tx, account)?.iter().flat_map(|log| relays(log)).cloned().collect())
}

/// The relays at which an account's devices fetch, at most two.
pub(crate) fn relays(log: &AccountLog) -> impl Iterator<Item = &RelayAddr> {
    log.state().relays.iter().take(2)
}

/// Everything about an account that its peers need, beyond `heads`.
pub(crate) fn pack(
    tx: &mut Tx<'_>,
    account: AccountId,
    heads: &[RecordId],
) -> Result<AccountPack, StorageError> {
    use crate::store::Read;
    let Some(log) = log(tx, account)? else { return Ok(AccountPack::default()) };
    let records: Vec<_> = log
        .records_unknown_to(heads)
        .into_iter()
        .filter_map(|r| codec::Bytes::try_from(r.bytes().to_vec()).ok())
        .collect();
    let mut prekeys = Vec::new();
    for device in devices_of(tx, account)? {
        if let Some(bytes) = tx.get(&BUNDLES, &device.0)?
            && let Ok(bytes) = codec::Bytes::try_from(bytes)
        {
            prekeys.push(bytes);
        }
    }
    Ok(AccountPack { records: capped(records), prekeys: capped(prekeys) })
}

/// What two devices compare of an account: log heads and, where somebody seals to it, prekey
/// counters.
pub(crate) fn digest(
    tx: &mut Tx<'_>,
    account: AccountId,
    prekeys: bool,
) -> Result<[u8; 16], StorageError> {
    let mut h = blake3::Hasher::new_derive_key("teahouse/v1/account digest");
    if let Some(log) = log(tx, account)? {
        for head in log.heads() {
            h.update(&head.0);
        }
        for device in devices_of(tx, account)? {
            if prekeys && let Some(bundle) = bundle_of(tx, device)? {
                h.update(&device.0);
                h.update(&bundle.counter.to_le_bytes());
            }
        }
    }
    let mut out = [0; 16];
    out.copy_from_slice(&h.finalize().as_bytes()[..16]);
    Ok(out)
}

/// Asks a device for what it knows of an account beyond what is known here.
pub(crate) fn want(tx: &mut Tx<'_>, from: DeviceId, account: AccountId) -> Result<(), Fail> {
    let heads = log(tx, account)?.map(|l| l.heads().to_vec()).unwrap_or_default();
    tx.send(from, Frame::AccountWant(account, capped(heads)));
    Ok(())
}

/// Adds a record to the own account's log, signed by this device.
pub(crate) fn append(tx: &mut Tx<'_>, op: AccountOp) -> Result<(), Fail> {
    let account = tx.account()?;
    let me = tx.me()?;
    let current = log(tx, account)?.ok_or_else(|| Fail::peer("own account is missing"))?;
    let mut updated = (*current).clone();
    let record = updated
        .append(&me.key, Signer::Device(me.device), op)
        .map_err(|e| crate::command::Refusal::NotAllowed { why: e.to_string() })?;
    tx.put_raw(&ACCOUNT_RECORDS, &pair_key(&account.0, &record.id()), record.bytes().to_vec())?;
    install(tx, account, updated)?;
    announce(tx)
}

/// Tells everybody who shares a topic with this account the news of it.
pub(crate) fn announce(tx: &mut Tx<'_>) -> Result<(), Fail> {
    let account = tx.account()?;
    let pack = pack(tx, account, &[])?;
    let mut told = BTreeSet::new();
    for topic in topic_ids(tx)? {
        // Strangers who wait for an answer learn nothing, nor do those whose feeds are read.
        if contacts::is_proposal(tx, topic)? || topics::is_followed(tx, topic)? {
            continue;
        }
        for member in topics::members(tx, topic)? {
            told.extend(devices_of(tx, member)?);
        }
    }
    told.remove(&tx.me()?.device);
    for device in told {
        crate::engine::inbox::send(tx, device, vec![InboxItem::Account(pack.clone())])?;
    }
    Ok(())
}

/// Every topic here.
pub(crate) fn topic_ids(tx: &Tx<'_>) -> Result<Vec<TopicId>, StorageError> {
    let rows: Vec<(Vec<u8>, Topic)> = tx.scan_typed(&TOPICS, &KeyRange::all(), false, 65_536)?;
    Ok(rows.into_iter().filter_map(|(k, _)| Some(TopicId(k.try_into().ok()?))).collect())
}

/// Makes a fresh prekey with a fresh inbox tag, and a bundle that names them.
pub(crate) fn rotate_prekey(tx: &mut Tx<'_>) -> Result<(), Fail> {
    let account = tx.account()?;
    let me = tx.me()?;
    let prekey = OpeningKey::generate(tx.rng);
    let mut inbox = [0; 32];
    tx.rng.fill_bytes(&mut inbox);
    let tag = Tag(SigningKey::from_bytes(&inbox).verifying_key().to_bytes());
    let now = tx.now;
    let counter = tx.edit_me(|me| {
        me.prekey_counter += 1;
        me.prekey_made = now;
        me.prekey_counter
    })?;
    let id = prekey_id(&prekey.public());
    let row = OwnPrekey { secret: *prekey.to_bytes(), inbox, made: tx.now };
    tx.put(&OWN_PREKEYS, &id, &row)?;
    let bundle = PrekeyBundle {
        version: 1,
        account,
        device: me.device,
        counter,
        prekey: prekey.public(),
        inbox: tag,
        features: codec::List::default(),
    };
    let signed = Signed::new(bundle, &me.key);
    tx.put_raw(&BUNDLES, &me.device.0, signed.bytes().to_vec())?;
    tx.mem.bundles.remove(&me.device);
    tx.mem.mail_due = true;
    Ok(())
}

/// Rotates the own prekey when it is old, and drops those beyond their time.
pub(crate) fn tend_prekeys(tx: &mut Tx<'_>) -> Result<(), Fail> {
    let row = tx.me_row()?;
    if row.account.is_none() || tx.now < row.prekey_made.saturating_add(PREKEY_FRESH) {
        return Ok(());
    }
    let old: Vec<(Vec<u8>, OwnPrekey)> =
        tx.scan_typed(&OWN_PREKEYS, &KeyRange::all(), false, 256)?;
    for (key, prekey) in old {
        if tx.now > prekey.made.saturating_add(PREKEY_KEPT) {
            tx.del(&OWN_PREKEYS, &key)?;
        }
    }
    rotate_prekey(tx)?;
    announce(tx)
}

/// This device's prekeys, newest last.
pub(crate) fn own_prekeys(tx: &Tx<'_>) -> Result<Vec<OwnPrekey>, StorageError> {
    let rows: Vec<(Vec<u8>, OwnPrekey)> =
        tx.scan_typed(&OWN_PREKEYS, &KeyRange::all(), false, 256)?;
    let mut all: Vec<OwnPrekey> = rows.into_iter().map(|(_, p)| p).collect();
    all.sort_by_key(|p| p.made);
    Ok(all)
}

/// Finds the prekey that an inbox message names.
pub(crate) fn own_prekey(tx: &Tx<'_>, id: [u8; 8]) -> Result<Option<OpeningKey>, StorageError> {
    let row: Option<OwnPrekey> =
        tx.typed(&OWN_PREKEYS, Key::new().fixed(&id).into_bytes().as_slice())?;
    Ok(row.map(|r| OpeningKey::from_bytes(r.secret)))
}

/// Creates the account on this device; returns the words' entropy.
pub(crate) fn create(
    tx: &mut Tx<'_>,
    name: &str,
    device_name: &str,
) -> Result<(AccountId, [u8; 32]), Fail> {
    use crate::command::Refusal;
    if tx.me()?.account.is_some() {
        return Err(Refusal::AccountExists.into());
    }
    let mut entropy = [0; 32];
    tx.rng.fill_bytes(&mut entropy);
    let mut nonce = [0; 16];
    tx.rng.fill_bytes(&mut nonce);
    let words = teahouse_protocols::words::RecoveryWords::from_entropy(entropy);
    let root = words.root_key();
    let mut log = AccountLog::create(&root, nonce);
    let account = log.state().account;
    let me = tx.me()?;
    let long = |_| Refusal::Invalid { why: "a name has at most 64 bytes".into() };
    let consent = teahouse_protocols::account::device_consent(&account, &me.key);
    let root_signer = Signer::Root(root.verifying_key().to_bytes());
    let refused =
        |e: teahouse_protocols::account::AccountError| Refusal::NotAllowed { why: e.to_string() };
    log.append(
        &root,
        root_signer,
        AccountOp::AddDevice {
            device: me.device,
            name: device_name.try_into().map_err(long)?,
            consent,
        },
    )
    .map_err(refused)?;
    // The name is signed by the device, so that any device may change it later.
    log.append(
        &me.key,
        Signer::Device(me.device),
        AccountOp::SetProfile { name: name.try_into().map_err(long)? },
    )
    .map_err(refused)?;
    for record in log.records() {
        tx.put_raw(&ACCOUNT_RECORDS, &pair_key(&account.0, &record.id()), record.bytes().to_vec())?;
    }
    tx.edit_me(|me| me.account = Some(account))?;
    install(tx, account, log)?;
    rotate_prekey(tx)?;
    Ok((account, entropy))
}
