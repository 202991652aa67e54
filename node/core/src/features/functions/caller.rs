//! At who calls: calls of this device's programs, said until they are answered.

use std::collections::BTreeSet;

use rand_core::Rng;
use teahouse_protocols::codec;
use teahouse_protocols::functions::{
    Call, CallAnswer, CallFrame, MAX_CALL_LIFE, MAX_FUNCTION, MAX_PAYLOAD, SERVICE, VERSION,
};
use teahouse_protocols::ids::{AppId, DeviceId, Millis};
use teahouse_protocols::package::Power;
use teahouse_protocols::sign::Signed;

use super::tables::{CALL_TIMES, CALLS_MADE, CALLS_OUT, Made, MadeState};
use super::{bills, server};
use crate::command::Refusal;
use crate::features::programs;
use crate::features::services::{self, Wanted};
use crate::store::{Key, KeyRange, KeyReader, ReadExt, StorageError};
use crate::tx::{Effect, Fail, Tx};

/// Most calls that wait for an answer.
const MAX_OUT: usize = 64;
/// Most calls whose answers are kept.
const MAX_MADE: usize = 256;
/// How long an answer is kept after its call's time, in milliseconds.
const KEEP: Millis = MAX_CALL_LIFE;
/// How often what a connected device has not answered is said again, in milliseconds.
const AGAIN: Millis = 5_000;

fn out_key(device: DeviceId, id: &[u8; 16]) -> Vec<u8> {
    Key::new().fixed(&device.0).fixed(id).into_bytes()
}

fn invalid(why: &str) -> Fail {
    Refusal::Invalid { why: why.into() }.into()
}

/// Calls a function of a program, as far as the person allowed it.
pub(super) fn call(
    tx: &mut Tx<'_>,
    app: AppId,
    function: &str,
    payload: Vec<u8>,
) -> Result<[u8; 16], Fail> {
    let manifest = bills::allowed(tx, app, Power::Call)?;
    let none = || Refusal::NotFound { what: "part of this program at its developer's".into() };
    let cloud = manifest.get().cloud.as_ref().ok_or_else(none)?;
    if tx.count(&CALLS_OUT, &KeyRange::all(), MAX_OUT)? == MAX_OUT {
        let what = "calls that wait for an answer".into();
        return Err(Refusal::Limit { what, max: MAX_OUT as u64 }.into());
    }
    make_room(tx)?;
    let key = programs::login_key(tx, app)?;
    let key = key.ok_or_else(|| Refusal::NotFound { what: "key for this program".into() })?;
    let mut id = [0; 16];
    tx.rng.fill_bytes(&mut id);
    let until = tx.now.saturating_add(MAX_CALL_LIFE);
    let function: codec::Text<MAX_FUNCTION> =
        function.try_into().map_err(|_| invalid("a function's name has at most 64 bytes"))?;
    if function.is_empty() || function.contains(char::is_control) {
        return Err(invalid("a function has a name"));
    }
    let payload: codec::Bytes<MAX_PAYLOAD> =
        payload.try_into().map_err(|_| invalid("a call carries at most 64 KiB"))?;
    let call = Call {
        version: VERSION,
        program: app,
        device: cloud.device,
        caller: key.verifying_key().to_bytes(),
        id,
        function,
        made: tx.now,
        expires: until,
        payload,
    };
    let device = call.device;
    let call = Signed::new(call, &key);
    let made = Made { app, device, until, state: MadeState::Waits };
    tx.put(&CALLS_MADE, &id, &made)?;
    tx.put_raw(&CALL_TIMES, &Key::new().u64(until).fixed(&id), Vec::new())?;
    let bytes = Box::new(call.bytes().to_vec().try_into().map_err(Fail::peer)?);
    let frame = codec::encode(&CallFrame::Call { program: app, id, call: bytes });
    tx.put_raw(&CALLS_OUT, &out_key(device, &id), frame.clone())?;
    if device == tx.me()?.device {
        // A developer uses its own program.
        if let Some(answer) = server::called(tx, device, &call)? {
            heard(tx, device, id, answer)?;
        }
    } else {
        tx.out.push(Effect::Peers);
        services::say(tx, device, SERVICE, frame)?;
    }
    Ok(id)
}

/// Drops the oldest answers where many are kept.
fn make_room(tx: &mut Tx<'_>) -> Result<(), Fail> {
    if tx.count(&CALL_TIMES, &KeyRange::all(), MAX_MADE)? < MAX_MADE {
        return Ok(());
    }
    for (key, _) in tx.scan(&CALL_TIMES, &KeyRange::all(), false, MAX_MADE)? {
        let Some(id) = key.last_chunk::<16>() else { continue };
        let made: Option<Made> = tx.typed(&CALLS_MADE, id)?;
        if made.is_none_or(|m| m.state != MadeState::Waits) {
            tx.del(&CALLS_MADE, id)?;
            tx.del(&CALL_TIMES, &key)?;
            return Ok(());
        }
    }
    Ok(())
}

/// An answer came. What is not final leaves the call waiting.
pub(super) fn heard(
    tx: &mut Tx<'_>,
    from: DeviceId,
    id: [u8; 16],
    answer: CallAnswer,
) -> Result<(), Fail> {
    let Some(made) = tx.typed::<Made>(&CALLS_MADE, &id)? else { return Ok(()) };
    let passes = matches!(answer, CallAnswer::Refused(why) if why.passes());
    if made.device != from || made.state != MadeState::Waits || passes {
        return Ok(());
    }
    tx.del(&CALLS_OUT, &out_key(from, &id))?;
    tx.put(&CALLS_MADE, &id, &Made { state: MadeState::Answered(answer), ..made })?;
    tx.out.push(Effect::Peers);
    Ok(())
}

/// Says again what a connected device has not answered.
pub(super) fn again(tx: &mut Tx<'_>, device: DeviceId) -> Result<(), Fail> {
    for (_, frame) in tx.scan(&CALLS_OUT, &KeyRange::prefix(&device.0), false, MAX_OUT)? {
        services::say(tx, device, SERVICE, frame)?;
    }
    Ok(())
}

/// Devices that owe an answer, and calls that they owe it to.
fn owing(tx: &Tx<'_>) -> Result<Vec<(DeviceId, [u8; 16])>, StorageError> {
    let mut all = Vec::new();
    let mut range = KeyRange::all();
    // Frames are large: one a device is read, not all.
    while let Some((key, _)) = tx.scan(&CALLS_OUT, &range, false, 1)?.into_iter().next() {
        let mut reader = KeyReader::new(&CALLS_OUT, &key);
        let device = DeviceId(reader.fixed()?);
        all.push((device, reader.fixed()?));
        range = range.after(&Key::new().fixed(&device.0).fixed(&[0xff; 16]).into_bytes());
        if all.len() == MAX_OUT {
            break;
        }
    }
    Ok(all)
}

/// Ends what got no answer in time, forgets what was answered long ago, says the rest again now
/// and then; when to look again.
pub(super) fn tend(tx: &mut Tx<'_>) -> Result<Option<Millis>, Fail> {
    let mut next = None;
    for (key, _) in tx.scan(&CALL_TIMES, &KeyRange::all(), false, MAX_MADE)? {
        let mut reader = KeyReader::new(&CALL_TIMES, &key);
        let at = reader.u64()?;
        if at > tx.now {
            next = Some(at);
            break;
        }
        let id: [u8; 16] = reader.fixed()?;
        tx.del(&CALL_TIMES, &key)?;
        let Some(made) = tx.typed::<Made>(&CALLS_MADE, &id)? else { continue };
        if at > made.until {
            tx.del(&CALLS_MADE, &id)?;
            continue;
        }
        let later = at.saturating_add(KEEP);
        tx.put_raw(&CALL_TIMES, &Key::new().u64(later).fixed(&id), Vec::new())?;
        next = next.or(Some(later));
        if made.state == MadeState::Waits {
            tx.del(&CALLS_OUT, &out_key(made.device, &id))?;
            tx.put(&CALLS_MADE, &id, &Made { state: MadeState::NoAnswer, ..made })?;
            tx.out.push(Effect::Peers);
        }
    }
    let owing: BTreeSet<DeviceId> = owing(tx)?.into_iter().map(|(device, _)| device).collect();
    let met: Vec<DeviceId> = owing.into_iter().filter(|d| tx.mem.peers.contains_key(d)).collect();
    if met.is_empty() {
        tx.mem.calls_again = 0;
        return Ok(next);
    }
    let (now, at) = (tx.now, tx.mem.calls_again);
    let then = now.saturating_add(AGAIN);
    if at == 0 || at > then {
        // Just asked, or the clock was set back.
        tx.mem.calls_again = then;
    } else if at <= now {
        tx.mem.calls_again = then;
        for device in met {
            again(tx, device)?;
        }
    }
    let at = tx.mem.calls_again;
    Ok(Some(next.map_or(at, |n| n.min(at))))
}

/// Whom to be connected to: who owes an answer, reached as the program's links say.
pub(super) fn wanted(tx: &mut Tx<'_>) -> Result<Vec<Wanted>, StorageError> {
    let own = tx.me()?.device;
    let mut all = Vec::new();
    for (device, id) in owing(tx)? {
        let Some(made) = tx.typed::<Made>(&CALLS_MADE, &id)? else { continue };
        if device == own {
            continue;
        }
        let (relays, addrs) = bills::way(tx, made.app, device)?;
        all.push(Wanted { device, relays, addrs });
    }
    Ok(all)
}
