//! Linking a device: the machinery of [`teahouse_protocols::pairing`] in the engine.
//!
//! The old device shows a code; the new one dials it, both show six digits, a person
//! compares them and confirms on the old device, which then adds the new one to the account
//! and hands over the account. Topics follow as welcomes, newest history first, once the
//! new device has published its prekey.

use serde::{Deserialize, Serialize};
use teahouse_protocols::account::AccountOp;
use teahouse_protocols::codec::{self, Text};
use teahouse_protocols::ids::{AccountId, DeviceId, Millis, RelayId};
use teahouse_protocols::inbox::AccountPack;
use teahouse_protocols::link::{Link, PairCode};
use teahouse_protocols::pairing::{NewStep, OldStep, PairFrame, PairNew, PairOld};
use teahouse_protocols::sync::Frame;

use crate::command::{Refusal, Reply};
use crate::engine::{accounts, mail};
use crate::store::StorageError;
use crate::tables::{LINKING, LinkingRow};
use crate::tx::{Effect, Fail, Tx, capped};
use crate::view::Linking;

/// How long a code is good.
const CODE_GOOD: Millis = 10 * 60 * 1000;

/// A pairing under way; it does not survive a restart.
#[derive(Debug, Default)]
pub(crate) enum Pairing {
    /// None.
    #[default]
    Idle,
    /// This device shows a code.
    Old {
        machine: Box<PairOld>,
        made: Millis,
        /// What the new device is called, once it has said so.
        name: Option<Text<64>>,
        partner: Option<DeviceId>,
    },
    /// This device typed one in.
    New {
        machine: Box<PairNew>,
        code: Box<PairCode>,
        hello: PairFrame,
        account: Option<AccountId>,
        device_name: Text<64>,
    },
}

/// What the old device hands over.
#[derive(Serialize, Deserialize)]
struct Grant {
    pack: AccountPack,
    tokens: Vec<(RelayId, Vec<[u8; 16]>)>,
}

/// Shows a code.
pub(crate) fn start(tx: &mut Tx<'_>) -> Result<Reply, Fail> {
    let account = tx.account()?;
    let me = tx.me()?;
    if !accounts::is_active(tx, me.device)? {
        return Err(Refusal::Revoked.into());
    }
    let machine = PairOld::new(me.device, account, tx.rng);
    let addrs: Vec<Text<160>> =
        tx.mem.addrs.iter().filter_map(|a| Text::try_from(a.as_str()).ok()).collect();
    let code = machine.code(capped(addrs));
    tx.mem.pairing =
        Pairing::Old { machine: Box::new(machine), made: tx.now, name: None, partner: None };
    show(tx, Linking::Waiting)?;
    Ok(Reply::Code { link: Link::Pair(code).to_uri() })
}

/// Types a code in, on a device without an account.
pub(crate) fn join(tx: &mut Tx<'_>, code: &str, device_name: String) -> Result<Reply, Fail> {
    let me = tx.me()?;
    if me.account.is_some() {
        return Err(Refusal::AccountExists.into());
    }
    let device_name = Text::try_from(device_name.trim())
        .map_err(|_| Refusal::Invalid { why: "a device's name has at most 64 bytes".into() })?;
    let link = Link::parse(code).map_err(|e| Refusal::Invalid { why: e.to_string() })?;
    let Link::Pair(code) = link else {
        return Err(Refusal::Invalid { why: "this link is not for linking a device".into() }.into());
    };
    let (machine, hello) = PairNew::new(&code, me.device, tx.rng);
    let old = code.device;
    tx.mem.pairing = Pairing::New {
        machine: Box::new(machine),
        code: Box::new(code),
        hello,
        account: None,
        device_name,
    };
    show(tx, Linking::Waiting)?;
    tx.out.push(Effect::Peers);
    peer_up(tx, old)?;
    Ok(Reply::Done)
}

/// The device to be dialled for pairing, with its addresses.
pub(crate) fn target(pairing: &Pairing) -> Option<(DeviceId, Vec<String>)> {
    match pairing {
        Pairing::New { code, .. } => {
            Some((code.device, code.addrs.iter().map(|a| a.to_string()).collect()))
        }
        _ => None,
    }
}

/// A device connected: if it is the one whose code was typed in, greet it.
pub(crate) fn peer_up(tx: &mut Tx<'_>, device: DeviceId) -> Result<(), Fail> {
    if let Pairing::New { code, hello, account: None, .. } = &tx.mem.pairing
        && code.device == device
        && tx.mem.peers.contains_key(&device)
    {
        let frame = pair_frame(hello)?;
        tx.send(device, frame);
    }
    Ok(())
}

/// Takes a pairing frame in.
pub(crate) fn receive(tx: &mut Tx<'_>, from: DeviceId, bytes: &[u8]) -> Result<(), Fail> {
    let frame: PairFrame = codec::decode(bytes).map_err(Fail::peer)?;
    let me = tx.me()?;
    match std::mem::take(&mut tx.mem.pairing) {
        // Somebody has a code that is used up: nobody should wait for an answer in vain.
        Pairing::Idle if matches!(frame, PairFrame::Hello { .. }) => {
            let abort = pair_frame(&PairFrame::Abort)?;
            tx.send(from, abort);
            Ok(())
        }
        Pairing::Idle => Err(Fail::peer("pairing was not asked for")),
        Pairing::Old { mut machine, made, name, partner } => {
            if tx.now > made.saturating_add(CODE_GOOD) {
                let abort = pair_frame(&PairFrame::Abort)?;
                tx.send(from, abort);
                return failed(tx, "the code was shown too long ago");
            }
            match machine.receive(&from, &frame) {
                Ok(OldStep::Send(reply)) => {
                    tx.mem.pairing = Pairing::Old { machine, made, name, partner: Some(from) };
                    let frame = pair_frame(&reply)?;
                    tx.send(from, frame);
                    Ok(())
                }
                Ok(OldStep::Compare(sas)) => {
                    tx.mem.pairing = Pairing::Old { machine, made, name, partner: Some(from) };
                    Ok(show(tx, Linking::Compare { digits: sas.to_string() })?)
                }
                Ok(OldStep::Named(name)) => {
                    let name = Some(name).filter(|n| !n.is_empty());
                    tx.mem.pairing = Pairing::Old { machine, made, name, partner };
                    Ok(())
                }
                // A stranger's frame burns nothing.
                Err(teahouse_protocols::pairing::PairError::OtherDevice) => {
                    tx.mem.pairing = Pairing::Old { machine, made, name, partner };
                    Err(Fail::peer("pairing frame from another device"))
                }
                Err(e) => {
                    let abort = pair_frame(&PairFrame::Abort)?;
                    tx.send(from, abort);
                    failed(tx, &e.to_string())
                }
            }
        }
        Pairing::New { mut machine, code, hello, account, device_name } => {
            match machine.receive(&from, &frame, &me.key) {
                Ok(NewStep::Compare { send, sas, account }) => {
                    // The new device's person compares too; the old one's yes decides.
                    let _ = machine.confirm(true);
                    let frame = pair_frame(&send)?;
                    tx.send(from, frame);
                    if !device_name.is_empty() {
                        let frame = pair_frame(&PairFrame::Name { name: device_name.clone() })?;
                        tx.send(from, frame);
                    }
                    tx.mem.pairing =
                        Pairing::New { machine, code, hello, account: Some(account), device_name };
                    Ok(show(tx, Linking::Compare { digits: sas.to_string() })?)
                }
                Ok(NewStep::Waiting) => {
                    tx.mem.pairing = Pairing::New { machine, code, hello, account, device_name };
                    Ok(())
                }
                Ok(NewStep::Granted(payload)) => {
                    let Some(account) = account else {
                        return failed(tx, "the other device skipped a step");
                    };
                    granted(tx, account, &payload)
                }
                Err(teahouse_protocols::pairing::PairError::OtherDevice) => {
                    tx.mem.pairing = Pairing::New { machine, code, hello, account, device_name };
                    Err(Fail::peer("pairing frame from another device"))
                }
                Err(e) => failed(tx, &e.to_string()),
            }
        }
    }
}

/// The digits are equal: lets the new device in.
pub(crate) fn confirm(tx: &mut Tx<'_>) -> Result<Reply, Fail> {
    let nothing = || Refusal::NotAllowed { why: "there are no digits to compare".into() };
    let Pairing::Old { mut machine, name, .. } = std::mem::take(&mut tx.mem.pairing) else {
        return Err(nothing().into());
    };
    let confirmed = machine.confirm(true).map_err(|_| nothing())?;
    let name = match name {
        Some(name) => name,
        None => Text::try_from("new device").map_err(Fail::peer)?,
    };
    accounts::append(
        tx,
        AccountOp::AddDevice { device: confirmed.device, name, consent: confirmed.consent },
    )?;
    let account = tx.account()?;
    let grant =
        Grant { pack: accounts::pack(tx, account, &[])?, tokens: mail::share_tokens(tx, 32)? };
    let payload = postcard::to_stdvec(&grant).map_err(Fail::peer)?;
    let payload = codec::Bytes::try_from(payload).map_err(Fail::peer)?;
    let frame = machine.grant(payload).map_err(Fail::peer)?;
    let frame = pair_frame(&frame)?;
    tx.send(confirmed.device, frame);
    show(tx, Linking::Idle)?;
    Ok(Reply::Done)
}

/// Stops a pairing.
pub(crate) fn cancel(tx: &mut Tx<'_>) -> Result<Reply, Fail> {
    match std::mem::take(&mut tx.mem.pairing) {
        Pairing::Old { partner: Some(device), .. } => {
            let frame = pair_frame(&PairFrame::Abort)?;
            tx.send(device, frame);
        }
        Pairing::New { code, .. } => {
            let frame = pair_frame(&PairFrame::Abort)?;
            tx.send(code.device, frame);
        }
        _ => {}
    }
    show(tx, Linking::Idle)?;
    Ok(Reply::Done)
}

fn granted(tx: &mut Tx<'_>, account: AccountId, payload: &[u8]) -> Result<(), Fail> {
    let grant: Grant = postcard::from_bytes(payload).map_err(Fail::peer)?;
    accounts::learn(tx, &grant.pack, &|a| *a == account)?;
    let me = tx.me()?;
    let log = accounts::log(tx, account)?;
    if !log.is_some_and(|l| l.is_active(&me.device)) {
        return failed(tx, "the other device did not add this one");
    }
    tx.edit_me(|me| me.account = Some(account))?;
    mail::take_tokens(tx, &grant.tokens)?;
    accounts::rotate_prekey(tx)?;
    let pack = accounts::pack(tx, account, &[])?;
    let own: Vec<DeviceId> = accounts::devices_of(tx, account)?;
    for device in own {
        tx.send(device, Frame::Account(pack.clone()));
    }
    tx.out.push(Effect::Peers);
    tx.mem.mail_all = true;
    Ok(show(tx, Linking::Copying { topics: 0, envelopes: 0 })?)
}

fn failed(tx: &mut Tx<'_>, why: &str) -> Result<(), Fail> {
    tx.mem.pairing = Pairing::Idle;
    Ok(show(tx, Linking::Failed { why: why.to_owned() })?)
}

fn show(tx: &mut Tx<'_>, linking: Linking) -> Result<(), StorageError> {
    tx.put(&LINKING, b"", &LinkingRow(linking))
}

fn pair_frame(frame: &PairFrame) -> Result<Frame, Fail> {
    codec::Bytes::try_from(codec::encode(frame)).map(Frame::Pair).map_err(Fail::peer)
}
