//! At the developer's node: calls as they come, what functions did, and what they are told.

use rand_core::Rng;
use teahouse_protocols::functions::{Call, CallAnswer, CallFrame, CallRefusal};
use teahouse_protocols::ids::{AppId, DeviceId, Millis, OfferId, OrderId};
use teahouse_protocols::pay::frames::OfferState;
use teahouse_protocols::pay::{MAX_AHEAD, Offer};
use teahouse_protocols::sign::Signed;

use super::command::{NewOffer, NewRefund, Ran};
use super::tables::{
    Aside, Called, FUNCTION_CALL_TIMES, FUNCTION_CALLERS, FUNCTION_CALLS, FUNCTION_FORGOTTEN,
    FUNCTION_JOBS, FUNCTION_OFFERS, FUNCTION_REFERENCES, FUNCTIONS_ASIDE, FUNCTIONS_SERVED, Job,
    News, Offered, Served, What, offer_id,
};
use super::{MAX_REFUNDS, MAX_WRITES, SHELF, caller, service};
use crate::command::Refusal;
use crate::features::pay;
use crate::store::{Key, KeyRange, KeyReader, Read, ReadExt, StorageError};
use crate::tx::{Fail, Tx};

/// Most calls and news of one program that wait to be run.
const MAX_WAITING: usize = 256;
/// Most calls of one device that wait, so that nobody keeps the others waiting alone. Devices
/// are counted, not callers: a caller's key costs nothing.
const MAX_OF_DEVICE: usize = 8;
/// Most calls of one device whose answers are kept.
const MAX_KEPT_OF_DEVICE: usize = 256;
/// Most calls whose answers are kept.
const MAX_KEPT: usize = 4_096;
/// Most news that are set aside for one program. Beyond it they stay first, and nothing runs.
const MAX_ASIDE: usize = 4_096;
/// Most calls that are forgotten in one step.
const MAX_PRUNED: usize = 256;
/// Longest name that functions give an offer, in bytes.
const MAX_REFERENCE: usize = 64;

fn invalid(why: &str) -> Fail {
    Refusal::Invalid { why: why.into() }.into()
}

fn call_key(app: AppId, caller: &[u8; 32], id: &[u8; 16]) -> Vec<u8> {
    Key::new().fixed(&app.0).fixed(caller).fixed(id).into_bytes()
}

fn job_key(app: AppId, number: u64) -> Vec<u8> {
    Key::new().fixed(&app.0).u64(number).into_bytes()
}

/// How a program is served here, if it is.
pub(super) fn served(read: &dyn Read, app: AppId) -> Result<Option<Served>, StorageError> {
    read.get_typed(&FUNCTIONS_SERVED, &app.0)
}

/// Takes a call in. What is known of it already is answered at once; `None` where it waits.
pub(super) fn called(
    tx: &mut Tx<'_>,
    from: DeviceId,
    call: &Signed<Call>,
) -> Result<Option<CallAnswer>, Fail> {
    let c = call.get();
    let refused = |why| Ok(Some(CallAnswer::Refused(why)));
    if c.device != tx.me()?.device || served(tx, c.program)?.is_none() {
        return refused(CallRefusal::NotServed);
    }
    let place = call_key(c.program, &c.caller, &c.id);
    if let Some(known) = tx.typed::<Called>(&FUNCTION_CALLS, &place)? {
        if known.hash != call.id() {
            return refused(CallRefusal::SameIdOtherBytes);
        }
        return Ok(known.answer);
    }
    // What was forgotten is not run again, should this clock be set back.
    let forgotten: Millis = tx.typed(&FUNCTION_FORGOTTEN, b"")?.unwrap_or(0);
    let begun = c.made <= tx.now.saturating_add(MAX_AHEAD);
    if tx.now >= c.expires || c.expires <= forgotten || !begun {
        return refused(CallRefusal::Expired);
    }
    let jobs: Vec<(Vec<u8>, Job)> =
        tx.scan_typed(&FUNCTION_JOBS, &KeyRange::prefix(&c.program.0), false, MAX_WAITING)?;
    let of_device = |job: &Job| matches!(&job.what, What::Call { device, .. } if *device == from);
    let waiting = jobs.iter().filter(|(_, job)| of_device(job)).count();
    let kept_of = tx.count(&FUNCTION_CALLERS, &KeyRange::prefix(&from.0), MAX_KEPT_OF_DEVICE)?;
    if jobs.len() == MAX_WAITING
        || waiting >= MAX_OF_DEVICE
        || kept_of == MAX_KEPT_OF_DEVICE
        || tx.count(&FUNCTION_CALL_TIMES, &KeyRange::all(), MAX_KEPT)? == MAX_KEPT
    {
        return refused(CallRefusal::Busy);
    }
    let row = Called {
        hash: call.id(),
        waiting: Some((c.function.to_string(), c.payload.to_vec())),
        answer: None,
    };
    tx.put(&FUNCTION_CALLS, &place, &row)?;
    let at = Key::new().u64(c.expires).rest(&place);
    tx.put_raw(&FUNCTION_CALL_TIMES, &at, from.0.to_vec())?;
    tx.put_raw(&FUNCTION_CALLERS, &Key::new().fixed(&from.0).rest(&place), Vec::new())?;
    let what = What::Call { caller: c.caller, id: c.id, device: from };
    put_job(tx, c.program, what)?;
    Ok(None)
}

/// Puts something on the list of what is to be run.
fn put_job(tx: &mut Tx<'_>, app: AppId, what: What) -> Result<(), Fail> {
    let number = tx.number()?;
    let job = Job { at: tx.now, seed: tx.rng.next_u32(), what };
    Ok(tx.put(&FUNCTION_JOBS, &job_key(app, number), &job)?)
}

/// The first job of a program.
pub(super) fn first_job(read: &dyn Read, app: AppId) -> Result<Option<(u64, Job)>, StorageError> {
    let rows: Vec<(Vec<u8>, Job)> =
        read.scan_typed(&FUNCTION_JOBS, &KeyRange::prefix(&app.0), false, 1)?;
    let Some((key, job)) = rows.into_iter().next() else { return Ok(None) };
    let mut reader = KeyReader::new(&FUNCTION_JOBS, &key);
    let _app: [u8; 32] = reader.fixed()?;
    Ok(Some((reader.u64()?, job)))
}

/// What a call that waits asks for; `None` where it was forgotten meanwhile.
pub(super) fn asked(
    read: &dyn Read,
    app: AppId,
    caller: &[u8; 32],
    id: &[u8; 16],
) -> Result<Option<(String, Vec<u8>)>, StorageError> {
    let row: Option<Called> = read.get_typed(&FUNCTION_CALLS, &call_key(app, caller, id))?;
    Ok(row.and_then(|row| row.waiting))
}

/// A run came to its end: all that it did, or nothing and why. Only the first job's: what ran on
/// an older state has no say.
pub(super) fn finish(
    tx: &mut Tx<'_>,
    app: AppId,
    number: u64,
    ran: Result<Ran, String>,
) -> Result<(), Fail> {
    let served = served(tx, app)?;
    let served = served.ok_or_else(|| Refusal::NotFound { what: "program served here".into() })?;
    let first = first_job(tx, app)?.filter(|(first, _)| *first == number);
    let Some((_, job)) = first else {
        return Err(Refusal::NotAllowed { why: "this is not what is to be run".into() }.into());
    };
    let key = job_key(app, number);
    tx.del(&FUNCTION_JOBS, &key)?;
    match (&job.what, ran) {
        (What::Call { caller, id, device }, ran) => {
            let place = call_key(app, caller, id);
            let Some(row) = tx.typed::<Called>(&FUNCTION_CALLS, &place)? else {
                // Its time was up before it came to its turn: it is not carried out.
                return Ok(());
            };
            let answer = match ran {
                Ok(ran) => {
                    let answer = ran.answer.0.clone().try_into();
                    let value = answer.map_err(|_| invalid("an answer has at most 48 KiB"))?;
                    let offer = carry_out(tx, app, &served, Some((*caller, *device)), ran)?;
                    CallAnswer::Value { value, offer }
                }
                Err(_) => CallAnswer::Refused(CallRefusal::Failed),
            };
            let row = Called { waiting: None, answer: Some(answer.clone()), ..row };
            tx.put(&FUNCTION_CALLS, &place, &row)?;
            answered(tx, *device, *id, answer)
        }
        (What::Told { .. }, Ok(ran)) => carry_out(tx, app, &served, None, ran).map(|_| ()),
        (What::Told { .. }, Err(why)) => {
            if tx.count(&FUNCTIONS_ASIDE, &KeyRange::prefix(&app.0), MAX_ASIDE)? == MAX_ASIDE {
                let (what, max) = ("news that functions could not be told".into(), MAX_ASIDE);
                return Err(Refusal::Limit { what, max: max as u64 }.into());
            }
            let why: String = why.chars().take(200).collect();
            tx.put(&FUNCTIONS_ASIDE, &key, &Aside { job, why })?;
            let words = "A program's functions could not be told what became of an offer: see \
                         `teahouse program functions`.";
            Ok(tx.alarm(words.to_owned())?)
        }
    }
}

/// The offer that a function asked for, as it travels.
type MadeOffer = Option<Box<teahouse_protocols::codec::Bytes<{ Offer::MAX_SIGNED }>>>;

/// Does what a function did: all of it, or none where any of it is refused.
fn carry_out(
    tx: &mut Tx<'_>,
    app: AppId,
    served: &Served,
    of: Option<([u8; 32], DeviceId)>,
    ran: Ran,
) -> Result<MadeOffer, Fail> {
    let Ran { writes, offer, refunds, answer: _ } = ran;
    if writes.len() > MAX_WRITES || refunds.len() > MAX_REFUNDS {
        return Err(invalid("a run changes at most 256 things, and gives back at most 8 times"));
    }
    for write in writes {
        SHELF.put(tx, app, &write.key, write.value.map(|v| v.0))?;
    }
    for refund in refunds {
        give_back(tx, app, refund)?;
    }
    let Some(offer) = offer else { return Ok(None) };
    let (caller, device) =
        of.ok_or_else(|| invalid("an offer is made to who calls: nobody does"))?;
    put_up(tx, app, served, caller, device, offer).map(Some)
}

fn reference_key(app: AppId, reference: &str) -> Vec<u8> {
    Key::new().fixed(&app.0).rest(reference.as_bytes()).into_bytes()
}

/// Makes the offer that a function asked for, in the shop of this device.
fn put_up(
    tx: &mut Tx<'_>,
    app: AppId,
    served: &Served,
    caller: [u8; 32],
    device: DeviceId,
    offer: NewOffer,
) -> Result<Box<teahouse_protocols::codec::Bytes<{ Offer::MAX_SIGNED }>>, Fail> {
    let asset = served.asset.ok_or_else(|| invalid("no money was named for this program"))?;
    let reference = offer.reference.clone();
    if reference.is_empty() || reference.len() > MAX_REFERENCE {
        return Err(invalid("a reference has 1 to 64 bytes"));
    }
    let place = reference_key(app, &reference);
    if tx.contains(&FUNCTION_REFERENCES, &place)? {
        return Err(invalid("there is an offer of this reference already"));
    }
    let (id, bytes) = pay::put_up(tx, asset, device, &offer.title, &offer.lines, offer.seconds)?;
    let row = Offered { app, reference, caller, order: None };
    tx.put(&FUNCTION_OFFERS, &id.0, &row)?;
    tx.put_raw(&FUNCTION_REFERENCES, &place, id.0.to_vec())?;
    Ok(Box::new(bytes.try_into().map_err(Fail::peer)?))
}

/// Gives back of what paid an offer of this program's.
fn give_back(tx: &mut Tx<'_>, app: AppId, refund: NewRefund) -> Result<(), Fail> {
    let none = || invalid("no paid offer of this program has this reference");
    let offer = tx.get(&FUNCTION_REFERENCES, &reference_key(app, &refund.reference))?;
    let offer = offer.as_deref().and_then(offer_id).ok_or_else(none)?;
    let row: Option<Offered> = tx.typed(&FUNCTION_OFFERS, &offer.0)?;
    let order = row.and_then(|row| row.order).ok_or_else(none)?;
    pay::give_back(tx, order, refund.amount, &refund.memo)
}

/// Says an answer to who asked.
fn answered(
    tx: &mut Tx<'_>,
    device: DeviceId,
    id: [u8; 16],
    answer: CallAnswer,
) -> Result<(), Fail> {
    if device == tx.me()?.device {
        return caller::heard(tx, device, id, answer);
    }
    service::say(tx, device, &CallFrame::Answer { id, answer })
}

/// An offer of the shop's came to its end: if functions made it, they are told.
pub(crate) fn closed(
    tx: &mut Tx<'_>,
    id: OfferId,
    state: OfferState,
    amount: u64,
) -> Result<(), Fail> {
    let Some(row) = tx.typed::<Offered>(&FUNCTION_OFFERS, &id.0)? else { return Ok(()) };
    let news = match state {
        OfferState::Paid | OfferState::Fulfilled => News::Paid { amount },
        OfferState::Expired | OfferState::Withdrawn => {
            // Nothing can come of it any more.
            tx.del(&FUNCTION_OFFERS, &id.0)?;
            tx.del(&FUNCTION_REFERENCES, &reference_key(row.app, &row.reference))?;
            News::Expired
        }
        OfferState::Open => return Ok(()),
    };
    tell(tx, row, news)
}

fn tell(tx: &mut Tx<'_>, row: Offered, news: News) -> Result<(), Fail> {
    let Offered { app, reference, caller, .. } = row;
    put_job(tx, app, What::Told { reference, caller, news })
}

/// Which order paid an offer: what functions give back is given back of it.
pub(crate) fn ordered(tx: &mut Tx<'_>, offer: OfferId, order: OrderId) -> Result<(), Fail> {
    let Some(row) = tx.typed::<Offered>(&FUNCTION_OFFERS, &offer.0)? else { return Ok(()) };
    Ok(tx.put(&FUNCTION_OFFERS, &offer.0, &Offered { order: Some(order), ..row })?)
}

/// Of what paid an offer, so much was given back altogether.
pub(crate) fn refunded(tx: &mut Tx<'_>, offer: OfferId, refunded: u64) -> Result<(), Fail> {
    let Some(row) = tx.typed::<Offered>(&FUNCTION_OFFERS, &offer.0)? else { return Ok(()) };
    tell(tx, row, News::Refunded { refunded })
}

/// Stops serving a program. What its functions keep stays, and so do news for them.
pub(super) fn stop(tx: &mut Tx<'_>, app: AppId) -> Result<(), Fail> {
    tx.del(&FUNCTIONS_SERVED, &app.0)?;
    let jobs: Vec<(Vec<u8>, Job)> =
        tx.scan_typed(&FUNCTION_JOBS, &KeyRange::prefix(&app.0), false, 2 * MAX_ASIDE)?;
    for (key, job) in jobs {
        if let What::Call { caller, id, device } = job.what {
            tx.del(&FUNCTION_JOBS, &key)?;
            let place = call_key(app, &caller, &id);
            let Some(row) = tx.typed::<Called>(&FUNCTION_CALLS, &place)? else { continue };
            let answer = CallAnswer::Refused(CallRefusal::NotServed);
            let row = Called { waiting: None, answer: Some(answer.clone()), ..row };
            tx.put(&FUNCTION_CALLS, &place, &row)?;
            answered(tx, device, id, answer)?;
        }
    }
    Ok(())
}

/// Tells a program's functions once more what they could not be told.
pub(super) fn retry(tx: &mut Tx<'_>, app: AppId) -> Result<(), Fail> {
    let range = KeyRange::prefix(&app.0);
    let rows: Vec<(Vec<u8>, Aside)> = tx.scan_typed(&FUNCTIONS_ASIDE, &range, false, MAX_ASIDE)?;
    for (key, aside) in rows {
        tx.del(&FUNCTIONS_ASIDE, &key)?;
        let number = tx.number()?;
        tx.put(&FUNCTION_JOBS, &job_key(app, number), &aside.job)?;
    }
    Ok(())
}

/// Forgets calls whose time is up; when to look again.
pub(super) fn prune(tx: &mut Tx<'_>) -> Result<Option<Millis>, Fail> {
    let (mut latest, mut next, mut pruned) = (None, None, 0);
    for (key, device) in tx.scan(&FUNCTION_CALL_TIMES, &KeyRange::all(), false, MAX_PRUNED)? {
        let expires = KeyReader::new(&FUNCTION_CALL_TIMES, &key).u64()?;
        if expires > tx.now {
            next = Some(expires);
            break;
        }
        let place = key.get(8..).unwrap_or_default();
        tx.del(&FUNCTION_CALLS, place)?;
        tx.del(&FUNCTION_CALLERS, &[&device[..], place].concat())?;
        tx.del(&FUNCTION_CALL_TIMES, &key)?;
        latest = Some(expires);
        pruned += 1;
    }
    if pruned == MAX_PRUNED {
        next = Some(tx.now);
    }
    if let Some(latest) = latest {
        let before: Millis = tx.typed(&FUNCTION_FORGOTTEN, b"")?.unwrap_or(0);
        tx.put(&FUNCTION_FORGOTTEN, b"", &latest.max(before))?;
    }
    Ok(next)
}
