//! A wallet: what this device pays, and what it knows of its account's balances.
//!
//! What was asked and is not answered stands in `OUT`, and is said again, the same bytes, when
//! the issuer's device is met. What an issuer says counts if it is signed by the asset's key;
//! what it says unsigned is a hint. A statement is followed entry by entry, and contradictions
//! are kept as evidence.

use std::collections::BTreeSet;

use teahouse_protocols::account::RelayAddr;
use teahouse_protocols::codec;
use teahouse_protocols::ids::{AccountId, AssetId, DeviceId, Millis, OrderId};
use teahouse_protocols::pay::frames::{Log, MAX_RECORDS, SERVICE};
use teahouse_protocols::pay::{
    Answer, Ask, Asset, Contradiction, Entry, EntryKind, Grant, Line, Money, Offer, Outcome, Paid,
    PayFrame, PayReply, PayRequest, PaymentOrder, Receipt, Refund, Refusal, StatementHead, Tally,
    TransferAnswer, VERSION, Verdict, VerifiedAsset,
};
use teahouse_protocols::sign::Signed;

use super::service::{own_grant, say};
use super::tables::{
    BALANCES, Balance, EVIDENCE, INCOMING, Incoming, IncomingState, Known, MET_BY, NOTICES, OUT,
    Out, PAYMENT_ORDERS, PAYMENT_TIMES, PAYMENTS, PayState, Payment, STATEMENT,
};
use super::{NAME, RECEIPTS};
use crate::command;
use crate::engine::accounts;
use crate::features::contacts;
use crate::features::services::Wanted;
use crate::store::{Key, KeyRange, KeyReader, Read, ReadExt, StorageError};
use crate::tables::{Chosen, RECORDS, record_key};
use crate::tx::{Effect, Fail, Tx, capped};

/// How long an order may wait for its issuer, in milliseconds: an hour. Then it can't be carried
/// out any more, and is known not to be.
const ORDER_LIFE: Millis = 60 * 60 * 1000;
/// How long a question about a price is asked, in milliseconds: a day.
const ASKED: Millis = 24 * 60 * 60 * 1000;
/// How often what a connected issuer has not answered is said again, in milliseconds: a minute.
const AGAIN: Millis = 60 * 1000;
/// Most of what is said again to one device when it is met.
const MAX_AGAIN: usize = 256;
/// Most payments under way at once.
const MAX_OPEN: usize = 256;
/// Most that may wait for this account: strangers can send word of something.
const MAX_INCOMING: usize = 256;
/// Most proofs that are kept.
const MAX_EVIDENCE: usize = 64;

/// What is asked of an issuer's device, by kind; with what it is about, the place in `OUT`.
pub(super) const MONEY: u8 = 0;
const OFFER: u8 = 1;
const PAY: u8 = 2;
const FOLLOW: u8 = 3;
const TRANSFER: u8 = 4;
const LOOK: u8 = 5;

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

/// An issuer that this account knows.
pub(super) fn known(read: &dyn Read, asset: AssetId) -> Result<Option<Known>, StorageError> {
    let row: Option<Chosen<Vec<u8>>> = read.get_typed(&RECORDS, &record_key(NAME, &asset.0))?;
    Ok(row.and_then(|row| postcard::from_bytes(&row.value).ok()))
}

/// The verified asset of an issuer that this account knows.
pub(super) fn asset(read: &dyn Read, id: AssetId) -> Result<Option<Signed<Asset>>, StorageError> {
    let Some(known) = known(read, id)? else { return Ok(None) };
    // A record of this account's own devices: verified before it was written.
    Ok(Signed::from_stored(&known.asset, &id.0).ok())
}

/// All of them.
pub(super) fn all_known(read: &dyn Read) -> Result<Vec<(AssetId, Known)>, StorageError> {
    let prefix = Key::new().text(NAME).into_bytes();
    let rows: Vec<(Vec<u8>, Chosen<Vec<u8>>)> =
        read.scan_typed(&RECORDS, &KeyRange::prefix(&prefix), false, 1_024)?;
    Ok(rows
        .into_iter()
        .filter_map(|(key, row)| {
            let id = AssetId(*key.last_chunk::<32>()?);
            Some((id, postcard::from_bytes(&row.value).ok()?))
        })
        .collect())
}

fn learn(
    tx: &mut Tx<'_>,
    asset: Signed<Asset>,
    grant: &Grant,
    relays: Vec<RelayAddr>,
    addrs: Vec<String>,
) -> Result<(), Fail> {
    let asset = VerifiedAsset::new(asset, grant).map_err(Fail::peer)?;
    let asset = asset.asset();
    let id = Asset::id(asset);
    let held = known(tx, id)?;
    let newer = held.as_ref().is_none_or(|k| {
        (!relays.is_empty() && k.relays != relays) || (!addrs.is_empty() && k.addrs != addrs)
    });
    if !newer {
        return Ok(());
    }
    let old = held.map(|k| (k.relays, k.addrs)).unwrap_or_default();
    let value = Known {
        asset: asset.bytes().to_vec(),
        grant: grant.clone(),
        relays: if relays.is_empty() { old.0 } else { relays },
        addrs: if addrs.is_empty() { old.1 } else { addrs },
    };
    let value = postcard::to_stdvec(&value).map_err(Fail::peer)?;
    contacts::put_record(tx, NAME, id.0, value)?;
    tx.out.push(Effect::Peers);
    Ok(())
}

fn out_key(device: DeviceId, kind: u8, of: [u8; 32]) -> Vec<u8> {
    Key::new().fixed(&device.0).u8(kind).fixed(&of).into_bytes()
}

/// A payment's number where 32 bytes are.
fn wide(id: [u8; 16]) -> [u8; 32] {
    let mut of = [0; 32];
    of[..16].copy_from_slice(&id);
    of
}

/// Asks an issuer's device, until it answers.
pub(super) fn ask(
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
fn asked(tx: &Tx<'_>, device: DeviceId, id: u64) -> Result<Option<(u8, [u8; 32])>, StorageError> {
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

fn answered(tx: &mut Tx<'_>, device: DeviceId, kind: u8, of: [u8; 32]) -> Result<(), StorageError> {
    tx.del(&OUT, &out_key(device, kind, of))
}

/// This account's log, to show.
fn own_log(tx: &mut Tx<'_>) -> Result<Log, Fail> {
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
pub(super) fn tend(tx: &mut Tx<'_>) -> Result<Option<Millis>, Fail> {
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
pub(super) fn met(tx: &mut Tx<'_>, device: DeviceId) -> Result<(), Fail> {
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
        }
    }
    Ok(())
}

/// Whom to be connected to: issuers that owe an answer.
pub(super) fn wanted(tx: &mut Tx<'_>) -> Result<Vec<Wanted>, StorageError> {
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

fn invalid(why: &str) -> Fail {
    command::Refusal::Invalid { why: why.into() }.into()
}

/// A payment of this device's.
pub(super) fn payment(read: &dyn Read, id: [u8; 16]) -> Result<Option<Payment>, StorageError> {
    read.get_typed(&PAYMENTS, &id)
}

pub(super) fn begin(tx: &mut Tx<'_>, id: [u8; 16], payment: &Payment) -> Result<(), Fail> {
    let out = tx.count(&OUT, &KeyRange::all(), MAX_OPEN)?;
    if out == MAX_OPEN {
        let (what, max) = ("payments under way".into(), MAX_OPEN as u64);
        return Err(command::Refusal::Limit { what, max }.into());
    }
    tx.put(&PAYMENTS, &id, payment)?;
    let at = Key::new().u64(payment.at).fixed(&id);
    Ok(tx.put_raw(&PAYMENT_TIMES, &at, Vec::new())?)
}

/// Asks for an offer of what stands on a poster.
pub(super) fn order(
    tx: &mut Tx<'_>,
    id: [u8; 16],
    product: &teahouse_protocols::pay::Product,
    lines: Vec<Line>,
    note: &str,
    up_to: Option<u64>,
) -> Result<(), Fail> {
    if payment(tx, id)?.is_some() {
        return Ok(());
    }
    let account = tx.account()?;
    if product.payee == account {
        return Err(invalid("this is your own shop"));
    }
    let count: u64 = lines.iter().map(|l| u64::from(l.quantity)).sum();
    let row = Payment {
        at: tx.now,
        asset: product.asset,
        issuer: product.key,
        to: product.payee,
        title: product.title.to_string(),
        amount: product.price.saturating_mul(count),
        up_to: up_to.map(|minor| Money { minor, ..product.money() }),
        state: PayState::Asked,
        hint: None,
        offer: None,
        order: None,
        outcome: None,
        refunds: Vec::new(),
        refunded: 0,
        fulfilled: false,
    };
    begin(tx, id, &row)?;
    let addrs: Vec<String> = product.addrs.iter().map(|a| a.to_string()).collect();
    let met_by = (product.relays.to_vec(), addrs);
    tx.put(&MET_BY, &product.key.0, &met_by)?;
    if known(tx, product.asset)?.is_none() {
        ask(tx, product.key, (MONEY, product.asset.0), Ask::Money, None)?;
    }
    let note = note.try_into().map_err(|_| invalid("a note has at most 140 bytes"))?;
    let lines = lines.try_into().map_err(|_| invalid("too many lines"))?;
    let until = Some(tx.now.saturating_add(ASKED));
    ask(tx, product.key, (OFFER, wide(id)), Ask::Offer { nonce: id, lines, note }, until)
}

/// Pays what was offered.
pub(super) fn pay(tx: &mut Tx<'_>, id: [u8; 16]) -> Result<(), Fail> {
    let none = || command::Refusal::NotFound { what: "payment".into() };
    let row = payment(tx, id)?.ok_or_else(none)?;
    match row.state {
        PayState::Asked => return Err(invalid("the shop has not answered yet")),
        PayState::Offered => {}
        // It was said before.
        PayState::Sent | PayState::Paid | PayState::Held { .. } | PayState::Returned => {
            return Ok(());
        }
        PayState::Refused { .. } => return Err(invalid("this payment was refused")),
    }
    let offer = row.offer.as_deref().and_then(|bytes| Signed::<Offer>::from_bytes(bytes).ok());
    let offer = offer.ok_or_else(|| invalid("the offer is damaged"))?;
    if !offer.get().stands(tx.now) {
        return Err(invalid("the offer has expired: ask again"));
    }
    sign(tx, id, row, Some(&offer), "")
}

/// Sends an amount to another account through an issuer.
pub(super) fn transfer(
    tx: &mut Tx<'_>,
    id: [u8; 16],
    money: AssetId,
    to: AccountId,
    amount: u64,
    memo: &str,
) -> Result<(), Fail> {
    if payment(tx, id)?.is_some() {
        return Ok(());
    }
    let none = || command::Refusal::NotFound { what: "money".into() };
    let asset = self::asset(tx, money)?.ok_or_else(none)?;
    if to == tx.account()? {
        return Err(invalid("this is your own account"));
    }
    if amount == 0 {
        return Err(invalid("an amount is at least one"));
    }
    let row = Payment {
        at: tx.now,
        asset: money,
        issuer: asset.get().key,
        to,
        title: memo.to_owned(),
        amount,
        up_to: None,
        state: PayState::Offered,
        hint: None,
        offer: None,
        order: None,
        outcome: None,
        refunds: Vec::new(),
        refunded: 0,
        fulfilled: false,
    };
    begin(tx, id, &row)?;
    sign(tx, id, row, None, memo)
}

/// Signs an order and sends it: row, outbox and order are durable together before it leaves.
fn sign(
    tx: &mut Tx<'_>,
    id: [u8; 16],
    row: Payment,
    offer: Option<&Signed<Offer>>,
    memo: &str,
) -> Result<(), Fail> {
    let amount = offer.map_or(row.amount, |o| o.get().price);
    if let Some(balance) = tx.typed::<Balance>(&BALANCES, &row.asset.0)?
        && balance.tally.balance < amount
    {
        return Err(invalid("the balance is not enough"));
    }
    let (account, me) = (tx.account()?, tx.me()?);
    let expires = tx.now.saturating_add(ORDER_LIFE);
    let order = PaymentOrder {
        version: VERSION,
        asset: row.asset,
        account,
        device: me.device,
        to: row.to,
        amount,
        offer: offer.map(Offer::id),
        memo: memo.try_into().map_err(|_| invalid("a note has at most 140 bytes"))?,
        nonce: id,
        made: tx.now,
        expires,
    };
    let order = Signed::new(order, &me.key);
    tx.put_raw(&PAYMENT_ORDERS, &PaymentOrder::id(&order).0, id.to_vec())?;
    answered(tx, row.issuer, OFFER, wide(id))?;
    let (issuer, order_bytes) = (row.issuer, order.bytes().to_vec());
    let row = Payment {
        amount,
        state: PayState::Sent,
        hint: None,
        order: Some(order_bytes.clone()),
        ..row
    };
    tx.put(&PAYMENTS, &id, &row)?;
    let log = own_log(tx)?;
    let order = order_bytes.try_into().map_err(Fail::peer)?;
    let offer = match offer {
        Some(offer) => Some(Box::new(offer.bytes().to_vec().try_into().map_err(Fail::peer)?)),
        None => None,
    };
    // Until it is answered: past its time it can only be refused, and then that is known.
    ask(tx, issuer, (PAY, wide(id)), Ask::Pay { log, order, offer }, None)
}

/// Gives up a payment that was not signed.
pub(super) fn cancel(tx: &mut Tx<'_>, id: [u8; 16]) -> Result<(), Fail> {
    let none = || command::Refusal::NotFound { what: "payment".into() };
    let row = payment(tx, id)?.ok_or_else(none)?;
    if !matches!(row.state, PayState::Asked | PayState::Offered) {
        return Err(invalid("what was signed can't be taken back: it resolves itself"));
    }
    answered(tx, row.issuer, OFFER, wide(id))?;
    let state = PayState::Refused { why: Refusal::Declined.into() };
    Ok(tx.put(&PAYMENTS, &id, &Payment { state, ..row })?)
}

/// Takes or declines what waits for this account.
pub(super) fn decide(tx: &mut Tx<'_>, id: OrderId, accept: bool) -> Result<(), Fail> {
    let none = || command::Refusal::NotFound { what: "transfer".into() };
    let row: Incoming = tx.typed(&INCOMING, &id.0)?.ok_or_else(none)?;
    if row.state != IncomingState::Waits {
        return Err(invalid("this was answered before"));
    }
    let (account, me) = (tx.account()?, tx.me()?);
    let answer = TransferAnswer {
        version: VERSION,
        asset: row.asset,
        order: id,
        account,
        device: me.device,
        accept,
        at: tx.now,
    };
    let answer = Signed::new(answer, &me.key);
    let log = own_log(tx)?;
    let answer = answer.bytes().to_vec().try_into().map_err(Fail::peer)?;
    ask(tx, row.issuer, (TRANSFER, id.0), Ask::Transfer { log, answer }, None)?;
    let state = if accept { IncomingState::Accepting } else { IncomingState::Declined };
    Ok(tx.put(&INCOMING, &id.0, &Incoming { state, ..row })?)
}

/// Asks an issuer for the account's statement, from where it was followed to.
pub(super) fn follow(tx: &mut Tx<'_>, money: AssetId) -> Result<(), Fail> {
    let Some(asset) = asset(tx, money)? else { return Ok(()) };
    let account = tx.account()?;
    let balance: Option<Balance> = tx.typed(&BALANCES, &money.0)?;
    let after = balance.map_or(0, |b| b.tally.number);
    let log = own_log(tx)?;
    let question = Ask::Statement { account, log, asset: money, after };
    ask(tx, asset.get().key, (FOLLOW, money.0), question, None)
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

fn offered(
    tx: &mut Tx<'_>,
    from: DeviceId,
    id: [u8; 16],
    offer: &Signed<Offer>,
) -> Result<(), Fail> {
    let Some(row) = payment(tx, id)? else { return Ok(()) };
    let o = offer.get();
    let fits = row.state == PayState::Asked
        && from == row.issuer
        && (o.asset, o.payee, o.key) == (row.asset, row.to, row.issuer)
        && o.is_for(&tx.me()?.device)
        // What was asked for too long ago is wanted no more.
        && tx.contains(&OUT, &out_key(from, OFFER, wide(id)))?;
    if !fits {
        return Ok(());
    }
    answered(tx, from, OFFER, wide(id))?;
    let row = Payment {
        title: o.title.to_string(),
        amount: o.price,
        state: PayState::Offered,
        hint: None,
        offer: Some(offer.bytes().to_vec()),
        ..row
    };
    tx.put(&PAYMENTS, &id, &row)?;
    pay_if_expected(tx, id, row, offer)
}

fn pay_if_expected(
    tx: &mut Tx<'_>,
    id: [u8; 16],
    row: Payment,
    offer: &Signed<Offer>,
) -> Result<(), Fail> {
    if !offer.get().stands(tx.now) || !is_expected(tx, &row, offer.get().price)? {
        return Ok(());
    }
    // What can't be paid now stays offered; a refusal comes before anything is staged.
    match sign(tx, id, row, Some(offer), "") {
        Ok(()) | Err(Fail::Refusal(_)) => Ok(()),
        Err(e) => Err(e),
    }
}

/// A money became known: what was offered in it before is paid, if it was to be.
fn pay_expected(tx: &mut Tx<'_>, asset: AssetId) -> Result<(), Fail> {
    for (key, _) in tx.scan(&PAYMENT_TIMES, &KeyRange::all(), true, MAX_OPEN)? {
        let Some(id) = key.last_chunk::<16>().copied() else { continue };
        let Some(row) = payment(tx, id)? else { continue };
        if row.asset == asset
            && row.state == PayState::Offered
            && let Some(offer) = &row.offer
            && let Ok(offer) = Signed::<Offer>::from_bytes(offer)
        {
            pay_if_expected(tx, id, row, &offer)?;
        }
    }
    Ok(())
}

/// Whether a price is within what the person said to pay without being asked again: in the
/// money that the poster showed, and the issuer's whose poster it was.
fn is_expected(tx: &Tx<'_>, row: &Payment, price: u64) -> Result<bool, Fail> {
    let (Some(most), Some(asset)) = (row.up_to, asset(tx, row.asset)?) else { return Ok(false) };
    let a = asset.get();
    Ok(price <= most.minor
        && (a.currency, a.exponent) == (most.currency, most.exponent)
        && (a.issuer, a.key) == (row.to, row.issuer))
}

/// The issuer's final word on an order.
fn decided(tx: &mut Tx<'_>, outcome: &Signed<Outcome>) -> Result<(), Fail> {
    let o = outcome.get();
    let Some(id) = tx.get(&PAYMENT_ORDERS, &o.order.0)? else { return Ok(()) };
    let Ok(id) = <[u8; 16]>::try_from(id.as_slice()) else { return Ok(()) };
    let Some(row) = payment(tx, id)? else { return Ok(()) };
    let Some(asset) = asset(tx, row.asset)? else { return Ok(()) };
    let order = row.order.as_deref().and_then(|b| Signed::<PaymentOrder>::from_bytes(b).ok());
    let Some(order) = order else { return Ok(()) };
    if !o.is_of(&order, &asset) {
        return Err(Fail::peer("a word on an order by somebody else"));
    }
    if let Some(before) = &row.outcome {
        if before != outcome.bytes()
            && let Ok(before) = Signed::from_bytes(before)
            && let Some(proof) = Contradiction::of_outcomes(&before, outcome)
        {
            contradiction(tx, &asset, &proof)?;
        }
        return Ok(());
    }
    answered(tx, row.issuer, PAY, wide(id))?;
    let state = match o.verdict {
        Verdict::Paid { .. } => PayState::Paid,
        Verdict::Held { until, .. } => PayState::Held { until },
        Verdict::Refused(why) => PayState::Refused { why: why.into() },
    };
    let bytes = outcome.bytes().to_vec();
    let row = Payment { state, hint: None, outcome: Some(bytes), ..row };
    tx.put(&PAYMENTS, &id, &row)?;
    match o.verdict {
        Verdict::Paid { .. } => keep_receipt(tx, &row, &asset, &order, outcome),
        Verdict::Held { until, .. } => notify(tx, &row, until),
        Verdict::Refused(_) => Ok(()),
    }
}

/// Keeps a receipt where all of this account's devices find it.
fn keep_receipt(
    tx: &mut Tx<'_>,
    row: &Payment,
    asset: &Signed<Asset>,
    order: &Signed<PaymentOrder>,
    outcome: &Signed<Outcome>,
) -> Result<(), Fail> {
    let Some(known) = known(tx, row.asset)? else { return Ok(()) };
    let offer = row.offer.as_deref().and_then(|bytes| Signed::<Offer>::from_bytes(bytes).ok());
    let grants = vec![known.grant, own_grant(tx)?];
    let Some(receipt) = Receipt::of_order(asset, offer.as_ref(), order, outcome, grants) else {
        return Ok(());
    };
    if receipt.verify().is_err() {
        tx.alarm("A payment's receipt does not hold: keep its evidence.".to_owned())?;
        return Ok(());
    }
    match contacts::put_record(tx, RECEIPTS, order.id(), codec::encode(&receipt)) {
        // Longer than a record may be: this device has its parts.
        Err(Fail::Refusal(_)) => Ok(()),
        other => other,
    }
}

/// Tells a friend's devices that something waits for them, for as long as it does.
fn notify(tx: &mut Tx<'_>, row: &Payment, until: Millis) -> Result<(), Fail> {
    let Some(known) = known(tx, row.asset)? else { return Ok(()) };
    let (Some(order), Some(outcome)) = (&row.order, &row.outcome) else { return Ok(()) };
    let id = Signed::<PaymentOrder>::from_bytes(order).map_err(Fail::peer)?.id();
    let ask = Ask::Waiting {
        asset: known.asset.try_into().map_err(Fail::peer)?,
        grant: known.grant,
        relays: capped(known.relays),
        order: order.clone().try_into().map_err(Fail::peer)?,
        outcome: outcome.clone().try_into().map_err(Fail::peer)?,
    };
    let frame = PayFrame::Request(Box::new(PayRequest { version: VERSION, id: 0, ask }));
    let out = Out { bytes: codec::encode(&frame), until: Some(until) };
    tx.put(&NOTICES, &Key::new().fixed(&row.to.0).fixed(&id), &out)?;
    for device in accounts::devices_of(tx, row.to)? {
        say(tx, device, &frame)?;
    }
    Ok(())
}

/// Word of something that waits for this account: from a friend, signed by the issuer.
pub(super) fn waiting(
    tx: &mut Tx<'_>,
    from: DeviceId,
    asset: &[u8],
    grant: &Grant,
    relays: Vec<RelayAddr>,
    order: &[u8],
    outcome: &[u8],
) -> Result<(), Fail> {
    let sender = accounts::account_of(tx, from)?;
    let Some(sender) = sender.filter(|_| tx.mem.peers.contains_key(&from)) else { return Ok(()) };
    if !contacts::is_friend(tx, sender)? || contacts::is_blocked(tx, sender)? {
        return Ok(());
    }
    let asset = Signed::<Asset>::from_bytes(asset).map_err(Fail::peer)?;
    let order = Signed::<PaymentOrder>::from_bytes(order).map_err(Fail::peer)?;
    let outcome = Signed::<Outcome>::from_bytes(outcome).map_err(Fail::peer)?;
    let (o, id) = (order.get(), PaymentOrder::id(&order));
    let Verdict::Held { until, .. } = outcome.get().verdict else { return Ok(()) };
    let fits =
        outcome.get().is_of(&order, &asset) && o.account == sender && o.to == tx.account()?;
    if !fits || tx.now >= until || tx.contains(&INCOMING, &id.0)? {
        return Ok(());
    }
    if tx.count(&INCOMING, &KeyRange::all(), MAX_INCOMING)? == MAX_INCOMING {
        forget_incoming(tx)?;
    }
    let issuer = asset.get().key;
    learn(tx, asset, grant, relays, Vec::new())?;
    let row = Incoming {
        asset: o.asset,
        issuer,
        from: sender,
        amount: o.amount,
        memo: o.memo.to_string(),
        until,
        state: IncomingState::Waits,
    };
    Ok(tx.put(&INCOMING, &id.0, &row)?)
}

/// Makes room: what is over goes, and if nothing is, there is none.
fn forget_incoming(tx: &mut Tx<'_>) -> Result<(), Fail> {
    let rows: Vec<(Vec<u8>, Incoming)> =
        tx.scan_typed(&INCOMING, &KeyRange::all(), false, MAX_INCOMING)?;
    let before = rows.len();
    let over: Vec<Vec<u8>> = rows
        .into_iter()
        .filter(|(_, row)| row.state != IncomingState::Accepting && row.until <= tx.now)
        .map(|(key, _)| key)
        .collect();
    if over.is_empty() && before >= MAX_INCOMING {
        return Err(Fail::peer("too much waits already"));
    }
    over.iter().try_for_each(|key| tx.del(&INCOMING, key))?;
    Ok(())
}

fn refunds_came(
    tx: &mut Tx<'_>,
    order: OrderId,
    fulfilled: bool,
    refunds: &[Signed<Refund>],
) -> Result<(), Fail> {
    let Some(id) = tx.get(&PAYMENT_ORDERS, &order.0)? else { return Ok(()) };
    let Ok(id) = <[u8; 16]>::try_from(id.as_slice()) else { return Ok(()) };
    let Some(row) = payment(tx, id)? else { return Ok(()) };
    let signed = row.order.as_deref().and_then(|b| Signed::<PaymentOrder>::from_bytes(b).ok());
    let Some(signed) = signed else { return Ok(()) };
    let mut paid = Paid { amount: row.amount, refunded: row.refunded };
    let mut held = row.refunds.clone();
    for refund in refunds {
        let bytes = refund.bytes().to_vec();
        // The payee's key, as far as is known here: the issuer's.
        if refund.get().key != row.issuer || held.contains(&bytes) {
            continue;
        }
        paid = paid.refund(&signed, refund).map_err(Fail::peer)?;
        held.push(bytes);
    }
    let fulfilled = fulfilled || row.fulfilled;
    let row = Payment { refunds: held, refunded: paid.refunded, fulfilled, ..row };
    Ok(tx.put(&PAYMENTS, &id, &row)?)
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

/// A head that came with something: whether there is more than was followed, or two stories.
fn head_came(tx: &mut Tx<'_>, head: &Signed<StatementHead>) -> Result<(), Fail> {
    let h = head.get();
    let Some(asset) = asset(tx, h.asset)? else { return Ok(()) };
    if h.key != asset.get().key || h.holder != tx.account()? {
        return Ok(());
    }
    let balance: Option<Balance> = tx.typed(&BALANCES, &h.asset.0)?;
    if let Some(held) = &balance {
        let before = Signed::<StatementHead>::from_bytes(&held.head);
        if let Ok(before) = before
            && let Some(proof) = Contradiction::of_heads(&before, head)
        {
            return contradiction(tx, &asset, &proof);
        }
        tx.put(&BALANCES, &h.asset.0, &Balance { heard: tx.now, ..held.clone() })?;
    }
    if balance.is_none_or(|b| b.tally.number < h.number) {
        follow(tx, h.asset)?;
    }
    Ok(())
}

/// Entries of the account's own statement.
fn followed(
    tx: &mut Tx<'_>,
    from: DeviceId,
    money: AssetId,
    entries: &[Entry],
    more: bool,
    head: &Signed<StatementHead>,
) -> Result<(), Fail> {
    let Some(asset) = asset(tx, money)? else { return Ok(()) };
    let account = tx.account()?;
    // Entries are not signed one by one: they are taken from the issuer's own device, and from
    // nobody else.
    let (key, h) = (asset.get().key, head.get());
    let ours = (h.asset, h.key, h.holder) == (money, key, account);
    if from != key || !ours {
        return Ok(());
    }
    let balance: Option<Balance> = tx.typed(&BALANCES, &money.0)?;
    let tally = balance.as_ref().map_or_else(|| Tally::new(&asset, account), |b| b.tally.clone());
    // What was followed meanwhile is here already.
    let fresh: Vec<Entry> = entries.iter().filter(|e| e.number > tally.number).cloned().collect();
    if more {
        // The head is of the whole: this page is checked with the last one, and kept until then
        // only as far as it adds up.
        let after = fresh.iter().try_fold(tally, |t, e| t.apply(e)).map_err(Fail::peer)?;
        keep(tx, money, &fresh)?;
        let held = balance.map(|b| b.head).unwrap_or_default();
        tx.put(&BALANCES, &money.0, &Balance { tally: after, head: held, heard: tx.now })?;
        return follow(tx, money);
    }
    answered(tx, asset.get().key, FOLLOW, money.0)?;
    match tally.follow(&fresh, head) {
        Ok(after) => {
            keep(tx, money, &fresh)?;
            let head = head.bytes().to_vec();
            tx.put(&BALANCES, &money.0, &Balance { tally: after, head, heard: tx.now })?;
        }
        Err(_) => {
            if let Some(held) = &balance
                && let Ok(before) = Signed::<StatementHead>::from_bytes(&held.head)
                && let Some(proof) = Contradiction::of_heads(&before, head)
            {
                return contradiction(tx, &asset, &proof);
            }
            // An older page than what is held, come late, says nothing.
            if head.get().number > balance.map_or(0, |b| b.tally.number) {
                let name = asset.get().name.to_string();
                tx.alarm(format!("The statement of {name} does not add up."))?;
                // It is followed anew, from the beginning.
                tx.del(&BALANCES, &money.0)?;
            }
            return Ok(());
        }
    }
    look_again(tx, asset.get().key, &fresh)
}

fn keep(tx: &mut Tx<'_>, money: AssetId, entries: &[Entry]) -> Result<(), StorageError> {
    for entry in entries {
        tx.put(&STATEMENT, &Key::new().fixed(&money.0).u64(entry.number), entry)?;
    }
    Ok(())
}

/// What entries say of this device's own payments. What was given back is signed by the payee:
/// that is asked for.
fn look_again(tx: &mut Tx<'_>, issuer: DeviceId, entries: &[Entry]) -> Result<(), Fail> {
    for entry in entries {
        let Some(of) = entry.of else { continue };
        let state = match entry.kind {
            EntryKind::RefundReceived => {
                look(tx, issuer, OrderId(of))?;
                continue;
            }
            EntryKind::Spent => PayState::Paid,
            EntryKind::Released => PayState::Returned,
            _ => continue,
        };
        let Some(id) = tx.get(&PAYMENT_ORDERS, &of)? else { continue };
        let Some(row) = tx.typed::<Payment>(&PAYMENTS, &id)? else { continue };
        if let PayState::Held { .. } = row.state {
            tx.del(&NOTICES, &Key::new().fixed(&row.to.0).fixed(&of))?;
            tx.put(&PAYMENTS, &id, &Payment { state, ..row })?;
        }
    }
    Ok(())
}

/// Asks what became of an order of this device's since.
pub(super) fn look(tx: &mut Tx<'_>, issuer: DeviceId, order: OrderId) -> Result<(), Fail> {
    if !tx.contains(&PAYMENT_ORDERS, &order.0)? {
        return Ok(());
    }
    let (account, log) = (tx.account()?, own_log(tx)?);
    let until = Some(tx.now.saturating_add(ASKED));
    ask(tx, issuer, (LOOK, order.0), Ask::OrderOf { account, log, order }, until)
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

/// The receipt of a payment of this account's, by order.
pub(super) fn receipt(read: &dyn Read, order: OrderId) -> Result<Option<Receipt>, StorageError> {
    let row: Option<Chosen<Vec<u8>>> = read.get_typed(&RECORDS, &record_key(RECEIPTS, &order.0))?;
    Ok(row.and_then(|row| codec::decode(&row.value).ok()))
}
