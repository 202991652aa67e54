//! An issuer's side: balances, orders, transfers, refunds. One device writes all of it.
//!
//! Every function decides and stages in the transaction of its input; what it answers leaves
//! after the commit. The ledger is the truth about money; a holder's statement says the same in
//! signed words, and both move together or not at all.

use rand_core::Rng;
use teahouse_protocols::bugs::planted;
use teahouse_protocols::codec;
use teahouse_protocols::ids::{AccountId, AssetId, Millis, OrderId, VoucherId};
use teahouse_protocols::pay::frames::OfferState;
use teahouse_protocols::pay::{
    Asset, EntryKind, Offer, Outcome, Paid, PaymentOrder, Refund, Refusal, TransferAnswer, VERSION,
    Verdict,
};
use teahouse_protocols::sign::Signed;

use super::tables::{
    ENTRIES, HELD, HOLDER, HOLDINGS, Holding, ISSUED, OFFERS, ORDER_KEYS, ORDER_TIMES, ORDERS,
    ORDERS_REFUSED, OfferRow, OrderRow, OrderState, REFUNDS, RESERVE, TAKINGS, order_id,
};
use super::{channels, service, shop};
use crate::command;
use crate::features::functions;
use crate::ledger::{
    AccountKey, Ledger, LedgerError, Limit, MAX_EXPIRE, Movement, StagedLedger, Transfer,
    TransferId, What, Why,
};
use crate::store::{Key, KeyRange, Read, ReadExt, StorageError};
use crate::tx::{Fail, Tx};

/// The code of a ledger's transfers: value was created.
const CREATED: u16 = 1;
/// An order was paid.
const PAID: u16 = 2;
/// An order is held.
const HOLDS: u16 = 3;
/// What was held was taken, or goes back.
const RESOLVED: u16 = 4;
/// Something was given back.
const REFUNDED: u16 = 5;

/// How long a transfer to a friend is held, in milliseconds: a day.
pub(super) const HOLD: Millis = 24 * 60 * 60 * 1000;
/// Most orders of one device that are kept though they were refused.
pub(super) const MAX_REFUSED: usize = 1_024;
/// Most refunds of one order.
const MAX_REFUNDS: usize = teahouse_protocols::pay::frames::MAX_REFUNDS;

/// Why an ask is not answered with a signed word.
pub(super) enum Not {
    /// With this reason, unsigned: it is not final.
    Refused(Refusal),
    /// The input fails.
    Fail(Fail),
}

impl From<Refusal> for Not {
    fn from(why: Refusal) -> Self {
        Self::Refused(why)
    }
}

impl From<Fail> for Not {
    fn from(fail: Fail) -> Self {
        Self::Fail(fail)
    }
}

impl From<StorageError> for Not {
    fn from(e: StorageError) -> Self {
        Self::Fail(e.into())
    }
}

pub(super) fn key(asset: AssetId, kind: u16, of: [u8; 32]) -> AccountKey {
    AccountKey { asset, kind, of }
}

pub(super) fn holder(asset: AssetId, account: AccountId) -> AccountKey {
    key(asset, HOLDER, account.0)
}

/// Posts a chain. What the ledger refuses is `Ok(Err(why))`.
pub(super) fn post(tx: &mut Tx<'_>, chain: &[Transfer]) -> Result<Result<bool, Why>, Fail> {
    let now = tx.now;
    match StagedLedger::new(tx).post(chain, now) {
        Ok(chain) => Ok(Ok(chain.existed)),
        Err(LedgerError::Refused { why, .. }) => Ok(Err(why)),
        Err(LedgerError::Storage(e)) => Err(e.into()),
        Err(e) => Err(Fail::peer(e)),
    }
}

fn open(tx: &mut Tx<'_>, key: AccountKey, limit: Limit) -> Result<(), Fail> {
    match StagedLedger::new(tx).open(key, limit) {
        Ok(_) => Ok(()),
        Err(LedgerError::Storage(e)) => Err(e.into()),
        Err(e) => Err(Fail::peer(e)),
    }
}

pub(super) fn moves(debit: AccountKey, credit: AccountKey, amount: u64) -> Movement {
    Movement { debit, credit, amount: u128::from(amount), at_most: None }
}

/// An asset that this device issues.
pub(super) fn issued(
    read: &dyn Read,
    asset: AssetId,
) -> Result<Option<Signed<Asset>>, StorageError> {
    let Some(bytes) = read.get(&ISSUED, &asset.0)? else { return Ok(None) };
    let damaged = |_| StorageError::corrupt(ISSUED.name, "an asset");
    Signed::from_stored(&bytes, &asset.0).map(Some).map_err(damaged)
}

/// Begins a money of this device's.
pub(super) fn begin(tx: &mut Tx<'_>, asset: Asset) -> Result<AssetId, Fail> {
    let me = tx.me()?;
    let signed = Signed::new(asset, &me.key);
    let id = Asset::id(&signed);
    tx.put_raw(&ISSUED, &id.0, signed.bytes().to_vec())?;
    open(tx, key(id, RESERVE, [0; 32]), Limit::None)?;
    open(tx, key(id, TAKINGS, [0; 32]), Limit::DebitsWithinCredits)?;
    Ok(id)
}

fn holding_key(asset: AssetId, account: AccountId) -> Vec<u8> {
    Key::new().fixed(&asset.0).fixed(&account.0).into_bytes()
}

/// A holder's statement.
pub(super) fn holding(
    read: &dyn Read,
    asset: AssetId,
    account: AccountId,
) -> Result<Option<Holding>, StorageError> {
    read.get_typed(&HOLDINGS, &holding_key(asset, account))
}

/// Adds an entry to a holder's statement, which it opens if need be, and signs the head.
/// Returns the entry's number. A holder that is connected hears of it.
pub(super) fn enter(
    tx: &mut Tx<'_>,
    asset: &Signed<Asset>,
    account: AccountId,
    entry: (EntryKind, u64, Option<AccountId>, [u8; 32]),
) -> Result<u64, Fail> {
    let id = Asset::id(asset);
    let held = holding(tx, id, account)?;
    let (now, opening) = (tx.now, held.is_none());
    let mut tally =
        held.map_or_else(|| teahouse_protocols::pay::Tally::new(asset, account), |h| h.tally);
    let mut add = |tx: &mut Tx<'_>, kind, amount, other, of| -> Result<(), Fail> {
        let (after, entry) = tally.next(kind, amount, other, of, now).map_err(Fail::peer)?;
        let at = Key::new().fixed(&id.0).fixed(&account.0).u64(entry.number);
        tx.put(&ENTRIES, &at, &entry)?;
        tally = after;
        Ok(())
    };
    if opening {
        add(tx, EntryKind::Opened, 0, None, None)?;
    }
    let (kind, amount, other, of) = entry;
    add(tx, kind, amount, other, Some(of))?;
    let head = Signed::new(tally.head(), &tx.me()?.key).bytes().to_vec();
    let number = tally.number;
    tx.put(&HOLDINGS, &holding_key(id, account), &Holding { tally, head })?;
    service::nudge(tx, id, account)?;
    Ok(number)
}

/// Creates value for an account, once for each number.
pub(super) fn create(
    tx: &mut Tx<'_>,
    asset: AssetId,
    account: AccountId,
    amount: u64,
    number: [u8; 16],
) -> Result<(), Fail> {
    let signed = required(tx, asset)?;
    if amount == 0 {
        return Err(invalid("an amount is at least one"));
    }
    if account == signed.get().issuer {
        return Err(invalid("a shop keeps no balance at itself"));
    }
    if !fits(tx, asset, account, amount)? {
        return Err(invalid("more than a balance can be"));
    }
    open(tx, holder(asset, account), Limit::DebitsWithinCredits)?;
    let id = TransferId::of("created", &[&asset.0, &number]);
    let what = What::Move(moves(key(asset, RESERVE, [0; 32]), holder(asset, account), amount));
    match post(tx, &[Transfer { id, code: CREATED, what }])? {
        Ok(true) => Ok(()),
        Ok(false) => {
            enter(tx, &signed, account, (EntryKind::ToppedUp, amount, None, id.0)).map(|_| ())
        }
        Err(Why::IdTaken) => Err(invalid("this number was used for another amount or account")),
        Err(why) => Err(invalid(&why.to_string())),
    }
}

/// Whether a statement can count so much more, what is held and may come back included: it
/// counts in 64 bits, the ledger could go on.
fn fits(tx: &Tx<'_>, asset: AssetId, account: AccountId, more: u64) -> Result<bool, StorageError> {
    let Some(Holding { tally, .. }) = holding(tx, asset, account)? else { return Ok(true) };
    let sum = tally.balance.checked_add(tally.pending).and_then(|sum| sum.checked_add(more));
    Ok(sum.is_some())
}

pub(super) fn invalid(why: &str) -> Fail {
    command::Refusal::Invalid { why: why.into() }.into()
}

/// An asset of this device's, or the refusal that it is none.
pub(super) fn required(tx: &Tx<'_>, asset: AssetId) -> Result<Signed<Asset>, Fail> {
    let none = || command::Refusal::NotFound { what: "money issued by this device".into() };
    Ok(issued(tx, asset)?.ok_or_else(none)?)
}

/// An order's row.
pub(super) fn order(read: &dyn Read, id: OrderId) -> Result<Option<OrderRow>, StorageError> {
    read.get_typed(&ORDERS, &id.0)
}

/// Reads an order that was kept.
pub(super) fn stored(id: OrderId, row: &OrderRow) -> Result<Signed<PaymentOrder>, StorageError> {
    let damaged = |_| StorageError::corrupt(ORDERS.name, "an order");
    Signed::from_stored(&row.order, &id.0).map_err(damaged)
}

/// Decides an order of a device that is connected and acts for the account, as the caller saw
/// to. The same bytes get the same answer, word for word.
pub(super) fn pay(
    tx: &mut Tx<'_>,
    order: &Signed<PaymentOrder>,
    offer: Option<&Signed<Offer>>,
) -> Result<Vec<u8>, Not> {
    let o = order.get();
    let id = PaymentOrder::id(order);
    let asset = issued(tx, o.asset)?.ok_or(Refusal::UnknownAsset)?;
    let place = Key::new().fixed(&o.device.0).fixed(&o.nonce);
    if let Some(known) = tx.get(&ORDER_KEYS, &place)?
        && !planted("double_post")
    {
        if known != id.0 {
            return Err(Refusal::SameKeyOtherBytes.into());
        }
        let row = self::order(tx, id)?;
        let row = row.ok_or(StorageError::corrupt(ORDERS.name, "an order is missing"))?;
        return Ok(row.outcome);
    }
    // Kept like every answer: should this clock be set back, the word stays the same.
    let expired = tx.now >= o.expires;
    if !expired && o.in_time(tx.now).is_err() {
        // It claims to be made later: then it may be right.
        return Err(Refusal::Unavailable.into());
    }
    let range = KeyRange::prefix(&o.device.0);
    if tx.count(&ORDERS_REFUSED, &range, MAX_REFUSED)? == MAX_REFUSED {
        return Err(Refusal::SlowDown.into());
    }
    let now = tx.now;
    let done = if expired { Err(Refusal::Expired) } else { carry_out(tx, &asset, order, offer)? };
    let (verdict, state) = match done {
        Ok(done) => done,
        Err(why) => (Verdict::Refused(why), OrderState::Refused),
    };
    let outcome = say(tx, &asset, id, verdict, now)?.bytes().to_vec();
    if planted("answer_before_commit") && id.0[0] < 64 {
        return Ok(outcome);
    }
    let row = OrderRow {
        order: order.bytes().to_vec(),
        offer: o.offer,
        outcome: outcome.clone(),
        at: now,
        state,
    };
    tx.put(&ORDERS, &id.0, &row)?;
    tx.put_raw(&ORDER_KEYS, &place, id.0.to_vec())?;
    if state == OrderState::Refused {
        let at = Key::new().fixed(&o.device.0).fixed(&id.0);
        tx.put_raw(&ORDERS_REFUSED, &at, Vec::new())?;
    } else {
        tx.put_raw(&ORDER_TIMES, &Key::new().u64(now).fixed(&id.0), Vec::new())?;
    }
    Ok(outcome)
}

fn say(
    tx: &mut Tx<'_>,
    asset: &Signed<Asset>,
    order: OrderId,
    verdict: Verdict,
    at: Millis,
) -> Result<Signed<Outcome>, Fail> {
    let (key, asset) = (asset.get().key, Asset::id(asset));
    let outcome = Outcome { version: VERSION, asset, key, order, verdict, at };
    Ok(Signed::new(outcome, &tx.me()?.key))
}

type Done = (Verdict, OrderState);

/// Moves the money of an order, or says why never.
fn carry_out(
    tx: &mut Tx<'_>,
    asset: &Signed<Asset>,
    order: &Signed<PaymentOrder>,
    offer: Option<&Signed<Offer>>,
) -> Result<Result<Done, Refusal>, Not> {
    let (o, id) = (order.get(), PaymentOrder::id(order));
    if holding(tx, o.asset, o.account)?.is_none() {
        return Err(Refusal::UnknownHolder.into());
    }
    if o.offer.is_some() != offer.is_some() {
        return Err(Refusal::UnknownOffer.into());
    }
    let mine = o.to == asset.get().issuer;
    if let Some(offer) = offer {
        let row: Option<OfferRow> = tx.typed(&OFFERS, &Offer::id(offer).0)?;
        match row.map(|row| row.state) {
            _ if !mine => return Ok(Err(Refusal::UnknownPayee)),
            None => return Ok(Err(Refusal::UnknownOffer)),
            Some(OfferState::Open) => {}
            Some(OfferState::Paid | OfferState::Fulfilled) => {
                return Ok(Err(Refusal::AlreadyPaid));
            }
            Some(OfferState::Expired | OfferState::Withdrawn) => {
                return Ok(Err(Refusal::OfferExpired));
            }
        }
        if let Err(why) = o.pays(offer, tx.now) {
            return Ok(Err(why));
        }
    }
    let from = holder(o.asset, o.account);
    let (transfer, code, what) = if mine {
        let to = key(o.asset, TAKINGS, [0; 32]);
        (TransferId::of("paid", &[&id.0]), PAID, What::Move(moves(from, to, o.amount)))
    } else {
        let to = holder(o.asset, o.to);
        open(tx, to, Limit::DebitsWithinCredits)?;
        let movement = moves(from, to, o.amount);
        let what = What::Reserve { movement, timeout: Some(HOLD) };
        (TransferId::of("held", &[&id.0]), HOLDS, what)
    };
    let transfer = if planted("double_post") {
        TransferId::of("paid", &[&id.0, &tx.rng.next_u64().to_le_bytes()])
    } else {
        transfer
    };
    if planted("answer_before_commit") && id.0[0] < 64 {
        return Ok(Ok((
            Verdict::Paid { entry: 0 },
            OrderState::Paid { refunded: 0, fulfilled: false },
        )));
    }
    match post(tx, &[Transfer { id: transfer, code, what }])? {
        Ok(_) => {}
        Err(Why::ExceedsCredits) => return Ok(Err(Refusal::InsufficientBalance)),
        Err(Why::Overflow) => return Ok(Err(Refusal::TooLarge)),
        Err(why) => return Err(Fail::peer(why).into()),
    }
    if mine {
        if let Some(offer) = o.offer {
            shop::close(tx, offer, OfferState::Paid)?;
            functions::ordered(tx, offer, id)?;
        }
        let entry = enter(tx, asset, o.account, (EntryKind::Paid, o.amount, Some(o.to), id.0))?;
        let state = OrderState::Paid { refunded: 0, fulfilled: false };
        return Ok(Ok((Verdict::Paid { entry }, state)));
    }
    tx.put_raw(&HELD, &transfer.0, id.0.to_vec())?;
    let entry = enter(tx, asset, o.account, (EntryKind::Reserved, o.amount, Some(o.to), id.0))?;
    let until = tx.now.saturating_add(HOLD);
    Ok(Ok((Verdict::Held { entry, until }, OrderState::Held)))
}

/// Whoever a held order pays says whether it takes it; the device acts for that account, as the
/// caller saw to.
pub(super) fn answer(tx: &mut Tx<'_>, answer: &Signed<TransferAnswer>) -> Result<(), Not> {
    let a = answer.get();
    let row = order(tx, a.order)?.ok_or(Refusal::NotHeld)?;
    let order = stored(a.order, &row)?;
    let o = order.get();
    if o.to != a.account || o.asset != a.asset {
        return Err(Refusal::NotHeld.into());
    }
    match (row.state, a.accept) {
        (OrderState::Held, _) => {}
        // It was done before.
        (OrderState::Taken, true) | (OrderState::Returned, false) => return Ok(()),
        _ => return Err(Refusal::NotHeld.into()),
    }
    let asset = issued(tx, a.asset)?.ok_or(Refusal::UnknownAsset)?;
    if a.accept && !fits(tx, a.asset, a.account, o.amount)? {
        return Err(Refusal::TooLarge.into());
    }
    let pending = TransferId::of("held", &[&a.order.0]);
    let id = TransferId::of("resolved", &[&a.order.0]);
    let what = if a.accept {
        What::Post { pending, amount: u128::from(o.amount) }
    } else {
        What::Void { pending }
    };
    match post(tx, &[Transfer { id, code: RESOLVED, what }])? {
        Ok(_) => {}
        Err(_) => return Err(Refusal::NotHeld.into()),
    }
    tx.del(&HELD, &pending.0)?;
    let of = a.order.0;
    let state = if a.accept {
        enter(tx, &asset, o.account, (EntryKind::Spent, o.amount, Some(o.to), of))?;
        enter(tx, &asset, o.to, (EntryKind::Received, o.amount, Some(o.account), of))?;
        OrderState::Taken
    } else {
        enter(tx, &asset, o.account, (EntryKind::Released, o.amount, Some(o.to), of))?;
        OrderState::Returned
    };
    Ok(tx.put(&ORDERS, &a.order.0, &OrderRow { state, ..row })?)
}

/// Ends what was held for its time; what is over goes back to whoever sent it.
pub(super) fn expire(tx: &mut Tx<'_>) -> Result<(), Fail> {
    let now = tx.now;
    let ended = match StagedLedger::new(tx).expire(now, MAX_EXPIRE.min(64)) {
        Ok(ended) => ended,
        Err(LedgerError::Storage(e)) => return Err(e.into()),
        Err(e) => return Err(Fail::peer(e)),
    };
    for transfer in ended {
        let Some(id) = tx.get(&HELD, &transfer.0)?.as_deref().and_then(order_id) else { continue };
        let Some(row) = order(tx, id)? else { continue };
        let order = stored(id, &row)?;
        let o = order.get();
        let Some(asset) = issued(tx, o.asset)? else { continue };
        tx.del(&HELD, &transfer.0)?;
        enter(tx, &asset, o.account, (EntryKind::Released, o.amount, Some(o.to), id.0))?;
        tx.put(&ORDERS, &id.0, &OrderRow { state: OrderState::Returned, ..row })?;
    }
    Ok(())
}

/// What was given back of an order, and what may be.
pub(super) fn paid(row: &OrderRow, order: &PaymentOrder) -> Option<(Paid, bool)> {
    let OrderState::Paid { refunded, fulfilled } = row.state else { return None };
    Some((Paid { amount: order.amount, refunded }, fulfilled))
}

/// Gives back of a paid order, once for each number.
pub(super) fn refund(
    tx: &mut Tx<'_>,
    id: OrderId,
    amount: Option<u64>,
    memo: &str,
    number: [u8; 16],
) -> Result<(), Fail> {
    // What was paid out of a channel is called by its voucher.
    let Some(row) = order(tx, id)? else {
        return channels::refund(tx, VoucherId(id.0), amount, memo, number);
    };
    let order = stored(id, &row)?;
    let o = order.get();
    let (paid, fulfilled) = paid(&row, o).ok_or_else(|| invalid("this order was not paid"))?;
    let asset = required(tx, o.asset)?;
    let transfer = TransferId::of("refunded", &[&id.0, &number]);
    if let Some(before) = StagedLedger::new(tx).record(transfer).map_err(storage)? {
        let same = amount.is_none_or(|n| u128::from(n) == before.amount);
        return if same { Ok(()) } else { Err(invalid("this number was used for another amount")) };
    }
    let count = tx.count(&REFUNDS, &KeyRange::prefix(&id.0), MAX_REFUNDS)?;
    if count == MAX_REFUNDS {
        let (what, max) = ("refunds of one order".into(), MAX_REFUNDS as u64);
        return Err(command::Refusal::Limit { what, max }.into());
    }
    let me = tx.me()?;
    let refund = Refund {
        version: VERSION,
        asset: o.asset,
        order: id,
        payee: o.to,
        key: me.device,
        amount: amount.unwrap_or(paid.left()),
        nonce: number,
        memo: memo.try_into().map_err(|_| invalid("a note has at most 140 bytes"))?,
        at: tx.now,
    };
    if refund.amount == 0 {
        return Err(invalid("nothing is left to give back"));
    }
    let refund = Signed::new(refund, &me.key);
    let after = paid.refund(&order, &refund).map_err(|e| invalid(&e.to_string()))?;
    let amount = refund.get().amount;
    let what =
        What::Move(moves(key(o.asset, TAKINGS, [0; 32]), holder(o.asset, o.account), amount));
    if let Err(why) = post(tx, &[Transfer { id: transfer, code: REFUNDED, what }])? {
        return Err(invalid(&why.to_string()));
    }
    enter(tx, &asset, o.account, (EntryKind::RefundReceived, amount, Some(o.to), id.0))?;
    let at = Key::new().fixed(&id.0).fixed(&refund.id());
    tx.put_raw(&REFUNDS, &at, refund.bytes().to_vec())?;
    if let Some(offer) = row.offer {
        functions::refunded(tx, offer, after.refunded)?;
    }
    let state = OrderState::Paid { refunded: after.refunded, fulfilled };
    Ok(tx.put(&ORDERS, &id.0, &OrderRow { state, ..row })?)
}

fn storage(e: LedgerError) -> Fail {
    match e {
        LedgerError::Storage(e) => e.into(),
        other => Fail::peer(other),
    }
}

/// What was paid for was handed over.
pub(super) fn fulfil(tx: &mut Tx<'_>, id: OrderId) -> Result<(), Fail> {
    let Some(row) = order(tx, id)? else { return channels::fulfil(tx, VoucherId(id.0)) };
    let OrderState::Paid { refunded, .. } = row.state else {
        return Err(invalid("this order was not paid"));
    };
    if let Some(offer) = row.offer {
        shop::close(tx, offer, OfferState::Fulfilled)?;
    }
    let order = stored(id, &row)?;
    let state = OrderState::Paid { refunded, fulfilled: true };
    tx.put(&ORDERS, &id.0, &OrderRow { state, ..row })?;
    service::nudge(tx, order.get().asset, order.get().account)
}

/// The refunds of an order, signed.
pub(super) fn refunds(read: &dyn Read, id: OrderId) -> Result<Vec<Vec<u8>>, StorageError> {
    let rows = read.scan(&REFUNDS, &KeyRange::prefix(&id.0), false, MAX_REFUNDS)?;
    Ok(rows.into_iter().map(|(_, bytes)| bytes).collect())
}

/// The newest head of a holder's statement.
pub(super) fn head<const N: usize>(
    read: &dyn Read,
    asset: AssetId,
    account: AccountId,
) -> Result<Option<codec::Bytes<N>>, StorageError> {
    Ok(holding(read, asset, account)?.and_then(|h| h.head.try_into().ok()))
}

/// Whether a device issues anything.
pub(super) fn any(read: &dyn Read) -> Result<bool, StorageError> {
    Ok(read.first(&ISSUED, b"")?.is_some())
}

/// Whether an account has a balance in any money here, or something is held for it.
pub(super) fn holds(read: &dyn Read, account: AccountId) -> Result<bool, StorageError> {
    for (asset, _) in read.scan(&ISSUED, &KeyRange::all(), false, 64)? {
        let Ok(asset) = <[u8; 32]>::try_from(asset.as_slice()) else { continue };
        let key = Key::new().fixed(&asset).u16(HOLDER).fixed(&account.0);
        if read.contains(&crate::ledger::LEDGER_ACCOUNTS, &key)? {
            return Ok(true);
        }
    }
    Ok(false)
}
