//! A wallet: what this device pays, and what it knows of its account's balances.
//!
//! What was asked and is not answered stands in `OUT`, and is said again, the same bytes, when
//! the issuer's device is met. What an issuer says counts if it is signed by the asset's key;
//! what it says unsigned is a hint. A statement is followed entry by entry, and contradictions
//! are kept as evidence.
//!
//! - `outbox`: what is asked until it is answered.
//! - `known`: the issuers.
//! - `orders`: this device's payments. `friends`: what waits for this account.
//! - `statement`: how the balance came to be what it is.

mod friends;
mod known;
mod orders;
mod outbox;
mod statement;

use teahouse_protocols::account::RelayAddr;
use teahouse_protocols::codec;
use teahouse_protocols::ids::{AssetId, DeviceId, Millis};
use teahouse_protocols::pay::{
    Answer, Asset, Contradiction, Entry, Grant, Offer, Outcome, PayReply, Refund, Refusal,
    StatementHead,
};
use teahouse_protocols::sign::Signed;

use self::known::learn;
use self::orders::{decided, offered, pay_expected, refunds_came};
use self::outbox::{LOOK, MONEY, OFFER, PAY, TRANSFER, answered, asked, out_key};
use self::statement::{followed, head_came};
use super::tables::{
    EVIDENCE, INCOMING, Incoming, IncomingState, MET_BY, OUT, PAYMENTS, PayState, Payment,
};
use crate::command;
use crate::store::{KeyRange, ReadExt};
use crate::tx::{Fail, Tx};

pub(super) use self::friends::{decide, waiting};
pub(super) use self::known::{all_known, asset, known};
pub(super) use self::orders::{cancel, order, pay, payment, receipt, transfer};
pub(super) use self::outbox::{met, tend, wanted};
pub(super) use self::statement::{follow, follow_due};

/// How long a question about a price is asked, in milliseconds: a day.
const ASKED: Millis = 24 * 60 * 60 * 1000;

/// Most proofs that are kept.
const MAX_EVIDENCE: usize = 64;

/// A reply whose signatures were checked; by whom they are is judged later.
pub(super) struct Heard {
    head: Option<Signed<StatementHead>>,
    said: Said,
}

enum Said {
    Money(Grant, Vec<Signed<Asset>>),
    Offer([u8; 16], Box<Signed<Offer>>),
    Outcome(Signed<Outcome>),
    Statement(AssetId, Vec<Entry>, bool),
    Order(Signed<Outcome>, bool, Vec<Signed<Refund>>),
    Refused(u64, Refusal),
    Done(u64),
    Nothing,
}

impl Heard {
    pub(super) fn check(reply: PayReply) -> Option<Self> {
        let head = match &reply.head {
            Some(bytes) => Some(Signed::from_bytes(bytes).ok()?),
            None => None,
        };
        let said = match reply.answer {
            Answer::Money { grant, assets } => {
                let assets: Result<Vec<_>, _> =
                    assets.iter().map(|bytes| Signed::from_bytes(bytes)).collect();
                Said::Money(grant, assets.ok()?)
            }
            Answer::Offer { nonce, offer } => {
                Said::Offer(nonce, Box::new(Signed::from_bytes(&offer).ok()?))
            }
            Answer::Outcome(bytes) => Said::Outcome(Signed::from_bytes(&bytes).ok()?),
            Answer::Statement { asset, entries, more } => {
                Said::Statement(asset, entries.into_inner(), more)
            }
            Answer::Order { outcome, fulfilled, refunds } => {
                let refunds: Result<Vec<_>, _> =
                    refunds.iter().map(|bytes| Signed::from_bytes(bytes)).collect();
                Said::Order(Signed::from_bytes(&outcome).ok()?, fulfilled, refunds.ok()?)
            }
            Answer::Refused(why) => Said::Refused(reply.id, why),
            Answer::Done => Said::Done(reply.id),
            Answer::OfferIs(_) | Answer::Unknown => Said::Nothing,
        };
        Some(Self { head, said })
    }
}

/// Takes in what an issuer's device says.
pub(super) fn hear(tx: &mut Tx<'_>, from: DeviceId, heard: Heard) -> Result<(), Fail> {
    let Heard { head, said } = heard;
    match said {
        Said::Money(grant, assets) => {
            if grant.device != from {
                return Err(Fail::peer("another device's money"));
            }
            let met: Option<(Vec<RelayAddr>, Vec<String>)> = tx.typed(&MET_BY, &from.0)?;
            let (relays, addrs) = met.unwrap_or_default();
            for asset in assets {
                let id = Asset::id(&asset);
                // Only what was asked for.
                if !tx.contains(&OUT, &out_key(from, MONEY, id.0))? {
                    continue;
                }
                learn(tx, asset, &grant, relays.clone(), addrs.clone())?;
                answered(tx, from, MONEY, id.0)?;
                pay_expected(tx, id)?;
                follow(tx, id)?;
            }
        }
        Said::Offer(nonce, offer) => offered(tx, from, nonce, &offer)?,
        Said::Outcome(outcome) => decided(tx, &outcome)?,
        Said::Statement(asset, entries, more) => {
            if let Some(head) = &head {
                return followed(tx, from, asset, &entries, more, head);
            }
        }
        Said::Order(outcome, fulfilled, refunds) => {
            decided(tx, &outcome)?;
            refunds_came(tx, outcome.get().order, fulfilled, &refunds)?;
            answered(tx, from, LOOK, outcome.get().order.0)?;
        }
        Said::Refused(id, why) => refused(tx, from, id, why)?,
        Said::Done(id) => done(tx, from, id)?,
        Said::Nothing => {}
    }
    match head {
        Some(head) => head_came(tx, &head),
        None => Ok(()),
    }
}

/// An unsigned no. It ends questions; of an order it is a hint.
fn refused(tx: &mut Tx<'_>, from: DeviceId, number: u64, why: Refusal) -> Result<(), Fail> {
    let Some((kind, of)) = asked(tx, from, number)? else { return Ok(()) };
    if why.passes() {
        return Ok(());
    }
    match kind {
        OFFER | PAY => {
            let Some(id) = of.first_chunk::<16>().copied() else { return Ok(()) };
            let Some(row) = payment(tx, id)? else { return Ok(()) };
            let state = if kind == OFFER {
                answered(tx, from, kind, of)?;
                PayState::Refused { why: why.into() }
            } else {
                row.state
            };
            Ok(tx.put(&PAYMENTS, &id, &Payment { state, hint: Some(why.into()), ..row })?)
        }
        TRANSFER => {
            answered(tx, from, kind, of)?;
            let Some(row) = tx.typed::<Incoming>(&INCOMING, &of)? else { return Ok(()) };
            Ok(tx.put(&INCOMING, &of, &Incoming { state: IncomingState::Gone, ..row })?)
        }
        _ => Ok(answered(tx, from, kind, of)?),
    }
}

fn done(tx: &mut Tx<'_>, from: DeviceId, number: u64) -> Result<(), Fail> {
    if number == 0 {
        return Ok(());
    }
    let Some((TRANSFER, of)) = asked(tx, from, number)? else { return Ok(()) };
    answered(tx, from, TRANSFER, of)?;
    let Some(row) = tx.typed::<Incoming>(&INCOMING, &of)? else { return Ok(()) };
    let state = match row.state {
        IncomingState::Accepting => IncomingState::Accepted,
        other => other,
    };
    Ok(tx.put(&INCOMING, &of, &Incoming { state, ..row })?)
}

fn contradiction(
    tx: &mut Tx<'_>,
    asset: &Signed<Asset>,
    proof: &Contradiction,
) -> Result<(), Fail> {
    let bytes = codec::encode(proof);
    if tx.count(&EVIDENCE, &KeyRange::all(), MAX_EVIDENCE)? < MAX_EVIDENCE {
        tx.put_raw(&EVIDENCE, blake3::hash(&bytes).as_bytes(), bytes)?;
    }
    let name = asset.get().name.to_string();
    Ok(tx.alarm(format!("{name} told two stories about money: the proof is kept."))?)
}

fn invalid(why: &str) -> Fail {
    command::Refusal::Invalid { why: why.into() }.into()
}
