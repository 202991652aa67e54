//! What was asked of issuers' devices and is not answered: it is said again, the same bytes.

use std::collections::BTreeSet;

use teahouse_protocols::account::RelayAddr;
use teahouse_protocols::codec;
use teahouse_protocols::ids::{DeviceId, Millis};
use teahouse_protocols::pay::frames::{Log, MAX_RECORDS, SERVICE};
use teahouse_protocols::pay::{Ask, PayFrame, PayRequest, VERSION};

use super::known::all_known;
use super::statement::follow;
use crate::engine::accounts;
use crate::features::pay::service::say;
use crate::features::pay::tables::{BALANCES, MET_BY, NOTICES, OUT, Out};
use crate::features::services::Wanted;
use crate::store::{Key, KeyRange, KeyReader, ReadExt, StorageError};
use crate::tx::{Effect, Fail, Tx, capped};

/// How often what a connected issuer has not answered is said again, in milliseconds: a minute.
const AGAIN: Millis = 60 * 1000;

/// Most of what is said again to one device when it is met.
pub(super) const MAX_AGAIN: usize = 256;
/// What is asked of an issuer's device, by kind; with what it is about, the place in `OUT`.
pub(crate) const MONEY: u8 = 0;

pub(super) const OFFER: u8 = 1;
pub(super) const PAY: u8 = 2;
pub(super) const FOLLOW: u8 = 3;
pub(super) const TRANSFER: u8 = 4;
pub(super) const LOOK: u8 = 5;
pub(super) const CHANNEL: u8 = 6;
pub(super) const VOUCHER: u8 = 7;
pub(super) const LANE: u8 = 8;
pub(super) const SETTLE: u8 = 9;

pub(super) fn out_key(device: DeviceId, kind: u8, of: [u8; 32]) -> Vec<u8> {
    Key::new().fixed(&device.0).u8(kind).fixed(&of).into_bytes()
}

/// A payment's number where 32 bytes are.
pub(super) fn wide(id: [u8; 16]) -> [u8; 32] {
    let mut of = [0; 32];
    of[..16].copy_from_slice(&id);
    of
}

/// Asks an issuer's device, until it answers.
pub(crate) fn ask(
    tx: &mut Tx<'_>,
    device: DeviceId,
    (kind, of): (u8, [u8; 32]),
    ask: Ask,
    until: Option<Millis>,
) -> Result<(), Fail> {
    let id = tx.number()?;
    let frame = PayFrame::Request(Box::new(PayRequest { version: VERSION, id, ask }));
    let bytes = codec::encode(&frame);
    tx.put(&OUT, &out_key(device, kind, of), &Out { bytes, until })?;
    tx.out.push(Effect::Peers);
    say(tx, device, &frame)
}

/// The place in `OUT` of what was asked under a number.
pub(super) fn asked(
    tx: &Tx<'_>,
    device: DeviceId,
    id: u64,
) -> Result<Option<(u8, [u8; 32])>, StorageError> {
    let rows: Vec<(Vec<u8>, Out)> =
        tx.scan_typed(&OUT, &KeyRange::prefix(&device.0), false, MAX_AGAIN)?;
    for (key, out) in rows {
        if let Ok(PayFrame::Request(request)) = codec::decode(&out.bytes)
            && request.id == id
        {
            let mut reader = KeyReader::new(&OUT, key.get(32..).unwrap_or_default());
            return Ok(Some((reader.u8()?, reader.fixed()?)));
        }
    }
    Ok(None)
}

pub(super) fn answered(
    tx: &mut Tx<'_>,
    device: DeviceId,
    kind: u8,
    of: [u8; 32],
) -> Result<(), StorageError> {
    tx.del(&OUT, &out_key(device, kind, of))
}

/// This account's log, to show.
pub(super) fn own_log(tx: &mut Tx<'_>) -> Result<Log, Fail> {
    let account = tx.account()?;
    let pack = accounts::pack(tx, account, &[])?;
    let mut records = pack.records.into_inner();
    records.truncate(MAX_RECORDS);
    Ok(capped(records))
}

/// Says again what a connected device has not answered.
fn again(tx: &mut Tx<'_>, device: DeviceId) -> Result<(), Fail> {
    let rows: Vec<(Vec<u8>, Out)> =
        tx.scan_typed(&OUT, &KeyRange::prefix(&device.0), false, MAX_AGAIN)?;
    for (key, out) in rows {
        if out.until.is_some_and(|until| until <= tx.now) {
            tx.del(&OUT, &key)?;
        } else {
            crate::features::services::say(tx, device, SERVICE, out.bytes)?;
        }
    }
    Ok(())
}

/// What connected issuers have not answered is said again now and then: an answer can be lost,
/// or be another one later.
pub(crate) fn tend(tx: &mut Tx<'_>) -> Result<Option<Millis>, Fail> {
    let mut devices = BTreeSet::new();
    for (key, _) in tx.scan(&OUT, &KeyRange::all(), false, MAX_AGAIN)? {
        let device = DeviceId(KeyReader::new(&OUT, &key).fixed()?);
        if tx.mem.peers.contains_key(&device) {
            devices.insert(device);
        }
    }
    if devices.is_empty() {
        tx.mem.pay_again = 0;
        return Ok(None);
    }
    let (now, at) = (tx.now, tx.mem.pay_again);
    let next = now.saturating_add(AGAIN);
    if at == 0 || at > next {
        // Just asked, or the clock was set back.
        tx.mem.pay_again = next;
    } else if at <= now {
        tx.mem.pay_again = next;
        for device in devices {
            again(tx, device)?;
        }
    }
    Ok(Some(tx.mem.pay_again))
}

/// A device was met: says again what it has not answered, and asks an issuer for news.
pub(crate) fn met(tx: &mut Tx<'_>, device: DeviceId) -> Result<(), Fail> {
    again(tx, device)?;
    if let Some(account) = accounts::account_of(tx, device)? {
        let rows: Vec<(Vec<u8>, Out)> =
            tx.scan_typed(&NOTICES, &KeyRange::prefix(&account.0), false, MAX_AGAIN)?;
        for (key, out) in rows {
            if out.until.is_some_and(|until| until <= tx.now) {
                tx.del(&NOTICES, &key)?;
            } else {
                crate::features::services::say(tx, device, SERVICE, out.bytes)?;
            }
        }
    }
    for (id, known) in all_known(tx)? {
        if known.grant.device == device {
            follow(tx, id)?;
            super::lanes::check(tx, id)?;
        }
    }
    Ok(())
}

/// Whom to be connected to: issuers that owe an answer.
pub(crate) fn wanted(tx: &mut Tx<'_>) -> Result<Vec<Wanted>, StorageError> {
    let own = tx.me()?.device;
    let mut all: Vec<Wanted> = Vec::new();
    let known = all_known(tx)?;
    let mut devices: Vec<DeviceId> = Vec::new();
    for (key, _) in tx.scan(&OUT, &KeyRange::all(), false, MAX_AGAIN)? {
        let device = DeviceId(KeyReader::new(&OUT, &key).fixed()?);
        if device != own && devices.last() != Some(&device) {
            devices.push(device);
        }
    }
    // Issuers with a balance of this account: that news of it come by themselves.
    for (id, issuer) in &known {
        if tx.contains(&BALANCES, &id.0)? && !devices.contains(&issuer.grant.device) {
            devices.push(issuer.grant.device);
        }
    }
    for device in devices {
        let of = known.iter().find(|(_, k)| k.grant.device == device);
        let mut relays = of.map(|(_, k)| k.relays.clone()).unwrap_or_default();
        let mut addrs = of.map(|(_, k)| k.addrs.clone()).unwrap_or_default();
        if of.is_none() {
            // Met by a poster, and not known yet.
            let row: Option<(Vec<RelayAddr>, Vec<String>)> = tx.typed(&MET_BY, &device.0)?;
            (relays, addrs) = row.unwrap_or_default();
        }
        if device != own {
            all.push(Wanted { device, relays, addrs });
        }
    }
    Ok(all)
}
