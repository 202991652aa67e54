//! Money: forms, requests, replies, receipts.

use std::fmt::Debug;

use teahouse_protocols::account::AccountLog;
use teahouse_protocols::ids::{AccountId, DeviceId, VoucherId};
use teahouse_protocols::link;
use teahouse_protocols::pay::frames::Log;
use teahouse_protocols::pay::{
    Answer, Ask, Asset, Channel, ChannelRequest, Contradiction, Credit, Currency, Entry, Freeze,
    FreezeRequest, Lane, LaneOut, Offer, Outcome, Paid, PayReply, PayRequest, PaymentOrder,
    Product, Receipt, Refund, Release, Settlement, StatementHead, Tally, TransferAnswer, VERSION,
    VerifiedProduct, Voucher, VoucherAck, VoucherRefusal, amount,
};
use teahouse_protocols::sign::{Signable, Signed};

use super::{device, key, plain, signed};

/// Any of the signed forms.
pub(crate) fn pay_form(data: &[u8]) {
    if let Some(asset) = signed::<Asset>(data) {
        let shown = amount::show(u64::MAX, asset.exponent);
        assert_eq!(amount::parse(&shown, asset.exponent), Ok(u64::MAX));
    }
    if let Some(offer) = signed::<Offer>(data) {
        let sum: u128 =
            offer.items.iter().map(|i| u128::from(i.quantity) * u128::from(i.unit)).sum();
        assert!(offer.items.is_empty() || sum == u128::from(offer.price));
        assert!(offer.price > 0 && !offer.stands(offer.expires));
    }
    if let Some(product) = signed::<Product>(data) {
        let _ = product.money().to_string();
    }
    if let Ok(poster) = VerifiedProduct::from_bytes(data) {
        assert_eq!(link::parse_order(&link::order_uri(&poster)).unwrap(), poster);
    }
    if let Some(order) = signed::<PaymentOrder>(data) {
        assert!(order.amount > 0 && order.account != order.to);
        assert!(order.in_time(order.expires).is_err());
    }
    signed::<Outcome>(data);
    signed::<Refund>(data);
    signed::<TransferAnswer>(data);
    if let Some(request) = signed::<ChannelRequest>(data) {
        caps(request.capacity, &request.lanes);
    }
    if let Some(channel) = signed::<Channel>(data) {
        caps(channel.capacity, &channel.lanes);
        lanes(&channel);
    }
    if let Some(voucher) = signed::<Voucher>(data) {
        at_a_payee(&voucher);
    }
    signed::<VoucherAck>(data);
    signed::<VoucherRefusal>(data);
    signed::<Credit>(data);
    signed::<FreezeRequest>(data);
    signed::<Freeze>(data);
    signed::<Release>(data);
    if let Some(head) = signed::<StatementHead>(data) {
        let tally = Tally::of(&head);
        assert_eq!(tally.head(), head);
    }
}

fn caps(capacity: u64, lanes: &[(DeviceId, u64)]) {
    let sum: u128 = lanes.iter().map(|(_, cap)| u128::from(*cap)).sum();
    assert!(sum <= u128::from(capacity) && !lanes.is_empty());
}

/// An asset of this device's.
fn money() -> Signed<Asset> {
    let asset = Asset {
        version: VERSION,
        issuer: AccountId([1; 32]),
        key: device(6),
        currency: Currency::parse("EUR").unwrap(),
        exponent: 2,
        name: "x".try_into().unwrap(),
    };
    Signed::new(asset, &key(6))
}

/// Signed by the issuer here, in its own money, a channel opens its lanes.
fn lanes(channel: &Channel) {
    let asset = money();
    let channel = Channel { asset: Asset::id(&asset), key: device(6), ..channel.clone() };
    let channel = Signed::new(channel, &key(6));
    for (device, cap) in &channel.get().lanes {
        let lane = Lane::open(&channel, &asset, *device).unwrap();
        assert_eq!((lane.room(), lane.owed()), (*cap, 0));
        assert_eq!(LaneOut::open(&channel, &asset, *device).unwrap().room(), *cap);
        assert_eq!(Settlement::open(&channel, &asset, *device).unwrap().paid(), 0);
    }
}

/// Signed by a device here, the voucher comes to a lane that may fit.
fn at_a_payee(v: &Voucher) {
    let voucher = Signed::new(Voucher { lane: device(2), ..v.clone() }, &key(2));
    for (nonce, head, cumulative) in [
        (0, VoucherId([0; 32]), 0),
        (v.nonce - 1, v.prev, v.cumulative - 1),
        (v.nonce, Voucher::id(&voucher), v.cumulative),
    ] {
        let lane = Lane {
            channel: v.channel,
            device: device(2),
            cap: u64::MAX,
            until: u64::MAX,
            nonce,
            head,
            cumulative,
            shown: cumulative,
            credited: 0,
            frozen: false,
        };
        let Ok(accepted) = lane.accept(&voucher, 0) else { continue };
        assert_eq!(accepted.lane.cumulative, v.cumulative);
        assert_eq!(accepted.lane.nonce, lane.nonce + 1);
        assert!(accepted.lane.accept(&voucher, 0).is_err());
        let shown = accepted.lane.shown(v.cumulative).unwrap();
        let paid = Paid::new(accepted.amount);
        let (back, paid) = shown.credit(v.cumulative, &paid, accepted.amount).unwrap();
        assert_eq!((back.owed(), paid.left()), (lane.owed(), 0));
        assert_eq!(Contradiction::of_vouchers(&voucher, &voucher), None);
    }
}

fn opaque<T: Signable + PartialEq + Debug>(data: &[u8]) {
    signed::<T>(data);
}

pub(crate) fn pay_request(data: &[u8]) {
    let Some(request) = plain::<PayRequest>(data) else { return };
    let account = |log: &Log| {
        let records = log.iter().filter_map(|r| Signed::from_bytes(r).ok());
        let _ = AccountLog::from_records(records);
    };
    match request.ask {
        Ask::Offer { lines, .. } => assert!(lines.iter().all(|line| line.quantity > 0)),
        Ask::Pay { log, order, offer } => {
            account(&log);
            opaque::<PaymentOrder>(&order);
            let _ = offer.map(|b| opaque::<Offer>(&b));
        }
        Ask::Statement { log, .. }
        | Ask::OrderOf { log, .. }
        | Ask::Lane { log, .. }
        | Ask::Settle { log, .. } => account(&log),
        Ask::Transfer { log, answer } => {
            account(&log);
            opaque::<TransferAnswer>(&answer);
        }
        Ask::Waiting { asset, grant, order, outcome, .. } => {
            let _ = grant.verify();
            opaque::<Asset>(&asset);
            opaque::<PaymentOrder>(&order);
            opaque::<Outcome>(&outcome);
        }
        Ask::Channel { log, request } => {
            account(&log);
            opaque::<ChannelRequest>(&request);
        }
        Ask::Voucher { log, voucher, offer } => {
            account(&log);
            opaque::<Voucher>(&voucher);
            opaque::<Offer>(&offer);
        }
        Ask::Money | Ask::OfferOf { .. } => {}
    }
}

pub(crate) fn pay_reply(data: &[u8]) {
    let Some(reply) = plain::<PayReply>(data) else { return };
    reply.head.iter().for_each(|b| opaque::<StatementHead>(b));
    match reply.answer {
        Answer::Money { assets, .. } => assets.iter().for_each(|b| opaque::<Asset>(b)),
        Answer::Offer { offer, .. } => opaque::<Offer>(&offer),
        Answer::Outcome(b) => opaque::<Outcome>(&b),
        Answer::Order { outcome, refunds, .. } => {
            opaque::<Outcome>(&outcome);
            refunds.iter().for_each(|b| opaque::<Refund>(b));
        }
        Answer::Statement { entries, .. } => statement(&entries),
        Answer::Channel(b) => opaque::<Channel>(&b),
        Answer::Taken(b) => opaque::<VoucherAck>(&b),
        Answer::Credited(b) => opaque::<Credit>(&b),
        Answer::NotTaken(b) => opaque::<VoucherRefusal>(&b),
        Answer::Lane { taken, credits, .. } => {
            if let Some(b) = taken {
                opaque::<Voucher>(&b);
            }
            credits.iter().for_each(|b| opaque::<Credit>(b));
        }
        _ => {}
    }
}

/// Entries as a holder follows them, from the first and from the middle.
fn statement(entries: &[Entry]) {
    let Some(first) = entries.first() else { return };
    let mut tally = Tally::new(&money(), AccountId([2; 32]));
    tally.number = first.number - 1;
    for entry in entries {
        let Ok(after) = tally.apply(entry) else { return };
        let (before, now) = (total(&tally), total(&after));
        assert!(now.abs_diff(before) == 0 || now.abs_diff(before) == u128::from(entry.amount));
        tally = after;
    }
    let head = Signed::new(tally.head(), &key(6));
    assert_eq!(tally.follow(&[], &head), Ok(tally));
}

fn total(tally: &Tally) -> u128 {
    u128::from(tally.balance) + u128::from(tally.pending)
}

pub(crate) fn pay_receipt(data: &[u8]) {
    if let Some(receipt) = plain::<Receipt>(data)
        && let Ok(seen) = receipt.verify()
    {
        assert!(seen.amount.minor > 0);
        assert!(seen.offer.is_none_or(|o| o.price == seen.amount.minor && o.payee == seen.payee));
    }
    if let Some(proof) = plain::<Contradiction>(data) {
        let _ = proof.verify();
    }
}
