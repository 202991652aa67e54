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
//! - `lanes`: channels that this device asked for, and pays from.
//! - `statement`: how the balance came to be what it is.

mod friends;
mod known;
mod lanes;
mod orders;
mod outbox;
mod receipts;
mod statement;

use teahouse_protocols::account::RelayAddr;
use teahouse_protocols::codec;
use teahouse_protocols::ids::{AssetId, ChannelId, DeviceId, Millis};
use teahouse_protocols::pay::{
    Answer, Asset, Channel, Contradiction, Credit, Entry, Grant, Offer, Outcome, PayReply, Refund,
    Refusal, StatementHead, Voucher, VoucherAck, VoucherRefusal,
};
use teahouse_protocols::sign::Signed;

use self::known::learn;
use self::orders::{decided, offered, pay_expected, refunds_came};
use self::outbox::{
    CHANNEL, LOOK, OFFER, PAY, SETTLE, TRANSFER, VOUCHER, answered, asked, out_key,
};
use self::statement::{followed, head_came};
use super::tables::{
    EVIDENCE, INCOMING, Incoming, IncomingState, MET_BY, OUT, PAYMENTS, PayState, Payment,
};
use crate::command;
use crate::store::{Key, KeyRange, ReadExt, StorageError};
use crate::tx::{Fail, Tx};

pub(super) use self::friends::{decide, waiting};
pub(super) use self::known::{all_known, asset, known};
pub(crate) use self::lanes::Checked;
pub(super) use self::lanes::{reserved, room, voucher_of};
pub(super) use self::orders::{begin, cancel, order, pay, payment, transfer};
pub(super) use self::outbox::{MONEY, ask, met, tend, wanted};
pub(super) use self::receipts::receipt;
pub(super) use self::statement::{follow, follow_due};

/// How long a question about a price is asked, in milliseconds: a day.
const ASKED: Millis = 24 * 60 * 60 * 1000;

/// Most questions about one device's moneys that are ended by one answer.
const MAX_MONEYS: usize = 64;

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
    Channel(Box<Signed<Channel>>),
    Taken(Signed<VoucherAck>),
    Credited(Signed<Credit>),
    NotTaken(Signed<VoucherRefusal>),
    Lane(Box<LaneSaid>),
    Nothing,
}

/// What a payee says of a lane.
struct LaneSaid {
    nonce: [u8; 16],
    channel: ChannelId,
    taken: Option<Signed<Voucher>>,
    credits: Vec<Signed<Credit>>,
    more: bool,
    settled: bool,
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
            Answer::Channel(bytes) => Said::Channel(Box::new(Signed::from_bytes(&bytes).ok()?)),
            Answer::Taken(bytes) => Said::Taken(Signed::from_bytes(&bytes).ok()?),
            Answer::Credited(bytes) => Said::Credited(Signed::from_bytes(&bytes).ok()?),
            Answer::NotTaken(bytes) => Said::NotTaken(Signed::from_bytes(&bytes).ok()?),
            Answer::Lane { nonce, channel, taken, credits, more, settled } => {
                let taken = match taken {
                    Some(bytes) => Some(Signed::from_bytes(&bytes).ok()?),
                    None => None,
                };
                let credits: Result<Vec<_>, _> =
                    credits.iter().map(|bytes| Signed::from_bytes(bytes)).collect();
                let credits = credits.ok()?;
                Said::Lane(Box::new(LaneSaid { nonce, channel, taken, credits, more, settled }))
            }
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
            // It named all that it issues: what else was asked for is not there any more.
            let asked = Key::new().fixed(&from.0).u8(MONEY).into_bytes();
            for (key, _) in tx.scan(&OUT, &KeyRange::prefix(&asked), false, MAX_MONEYS)? {
                tx.del(&OUT, &key)?;
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
        Said::Channel(channel) => lanes::granted(tx, from, &channel)?,
        Said::Taken(ack) => lanes::taken(tx, &ack)?,
        Said::Credited(credit) => lanes::credited(tx, &credit)?,
        Said::NotTaken(refusal) => lanes::not_taken(tx, &refusal)?,
        Said::Lane(said) => lanes::stands(tx, from, *said)?,
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
        OFFER | PAY | VOUCHER => {
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
        CHANNEL => {
            answered(tx, from, kind, of)?;
            lanes::refused(tx, ChannelId(of))
        }
        _ => Ok(answered(tx, from, kind, of)?),
    }
}

fn done(tx: &mut Tx<'_>, from: DeviceId, number: u64) -> Result<(), Fail> {
    if number == 0 {
        return Ok(());
    }
    let Some((kind, of)) = asked(tx, from, number)? else { return Ok(()) };
    match kind {
        SETTLE => return Ok(answered(tx, from, kind, of)?),
        TRANSFER => answered(tx, from, kind, of)?,
        _ => return Ok(()),
    }
    let Some(row) = tx.typed::<Incoming>(&INCOMING, &of)? else { return Ok(()) };
    let state = match row.state {
        IncomingState::Accepting => IncomingState::Accepted,
        other => other,
    };
    Ok(tx.put(&INCOMING, &of, &Incoming { state, ..row })?)
}

/// Keeps a proof, as long as there is room.
pub(super) fn keep_evidence(tx: &mut Tx<'_>, proof: &Contradiction) -> Result<(), StorageError> {
    let bytes = codec::encode(proof);
    if tx.count(&EVIDENCE, &KeyRange::all(), MAX_EVIDENCE)? < MAX_EVIDENCE {
        tx.put_raw(&EVIDENCE, blake3::hash(&bytes).as_bytes(), bytes)?;
    }
    Ok(())
}

fn contradiction(
    tx: &mut Tx<'_>,
    asset: &Signed<Asset>,
    proof: &Contradiction,
) -> Result<(), Fail> {
    keep_evidence(tx, proof)?;
    let name = asset.get().name.to_string();
    Ok(tx.alarm(format!("{name} told two stories about money: the proof is kept."))?)
}

fn invalid(why: &str) -> Fail {
    command::Refusal::Invalid { why: why.into() }.into()
}
