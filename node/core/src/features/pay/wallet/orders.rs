//! Payments of this device: from the question what something costs to the issuer's final word.

use teahouse_protocols::ids::{AccountId, AssetId, DeviceId, Millis, OrderId};
use teahouse_protocols::pay::{
    Ask, Contradiction, Line, Money, Offer, Outcome, Paid, PaymentOrder, Receipt, Refund, Refusal,
    VERSION, Verdict,
};
use teahouse_protocols::sign::Signed;

use super::friends::notify;
use super::known::{asset, known};
use super::outbox::{LOOK, MONEY, OFFER, PAY, answered, ask, out_key, own_log, wide};
use super::{ASKED, contradiction, invalid, lanes, receipts};
use crate::command;
use crate::features::pay::tables::{
    BALANCES, Balance, MET_BY, OUT, PAYMENT_ORDERS, PAYMENT_TIMES, PAYMENTS, PayState, Payment,
};
use crate::store::{Key, KeyRange, Read, ReadExt, StorageError};
use crate::tx::{Fail, Tx};

/// How long an order may wait for its issuer, in milliseconds: an hour. Then it can't be carried
/// out any more, and is known not to be.
pub(super) const ORDER_LIFE: Millis = 60 * 60 * 1000;

/// Most payments under way at once.
const MAX_OPEN: usize = 256;

/// A payment of this device's.
pub(crate) fn payment(read: &dyn Read, id: [u8; 16]) -> Result<Option<Payment>, StorageError> {
    read.get_typed(&PAYMENTS, &id)
}

pub(crate) fn begin(tx: &mut Tx<'_>, id: [u8; 16], payment: &Payment) -> Result<(), Fail> {
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
pub(crate) fn order(
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
pub(crate) fn pay(tx: &mut Tx<'_>, id: [u8; 16]) -> Result<(), Fail> {
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
pub(crate) fn transfer(
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

/// What this device's orders take of a money that the statement, as far as it was followed, does
/// not show yet, in minor units.
pub(super) fn under_way(tx: &mut Tx<'_>, issuer: DeviceId, money: AssetId) -> Result<u64, Fail> {
    let followed = tx.typed::<Balance>(&BALANCES, &money.0)?.map_or(0, |b| b.tally.number);
    let ahead = tx.mem.pay_ahead.entry(money).or_default();
    ahead.retain(|entry, _| *entry > followed);
    let mut sum: u64 = ahead.values().fold(0, |sum, n| sum.saturating_add(*n));
    let prefix = Key::new().fixed(&issuer.0).u8(PAY).into_bytes();
    for (key, _) in tx.scan(&OUT, &KeyRange::prefix(&prefix), false, MAX_OPEN)? {
        let id = key.get(prefix.len()..).and_then(|of| of.first_chunk::<16>()).copied();
        let Some(row) = id.map_or(Ok(None), |id| payment(tx, id))? else { continue };
        if row.asset == money && row.state == PayState::Sent {
            sum = sum.saturating_add(row.amount);
        }
    }
    Ok(sum)
}

/// Pays: out of a channel if there is one that it fits, else by an order, which is signed and
/// sent. Row, outbox and order are durable together before it leaves. Where only what is set
/// aside would be enough beside what is under way, that is asked for first; and what a channel
/// that is just being opened may take is not spent twice: the payment waits until that is known.
pub(super) fn sign(
    tx: &mut Tx<'_>,
    id: [u8; 16],
    row: Payment,
    offer: Option<&Signed<Offer>>,
    memo: &str,
) -> Result<(), Fail> {
    let amount = offer.map_or(row.amount, |o| o.get().price);
    if let Some(offer) = offer
        && lanes::pay(tx, id, &row, offer)?
    {
        return Ok(answered(tx, row.issuer, OFFER, wide(id))?);
    }
    let asset = asset(tx, row.asset)?;
    if let Some(asset) = &asset
        && let Some(balance) = tx.typed::<Balance>(&BALANCES, &row.asset.0)?
    {
        let (balance, opening) = (balance.tally.balance, lanes::opening(tx, row.asset)?);
        let taken = under_way(tx, row.issuer, row.asset)?.saturating_add(opening);
        let free = balance.saturating_sub(taken);
        if free < amount {
            let back = lanes::free_up(tx, row.asset, amount.saturating_sub(free))?;
            if back || balance >= amount && opening > 0 {
                let hint = Some(Refusal::InsufficientBalance.into());
                let up_to = Some(asset.get().money(amount));
                return Ok(tx.put(&PAYMENTS, &id, &Payment { up_to, hint, ..row })?);
            }
        }
        // What is under way may be in the statement already: the issuer decides.
        if balance < amount {
            return Err(invalid("the balance is not enough"));
        }
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
    let shop = offer.is_some();
    // Until it is answered: past its time it can only be refused, and then that is known.
    ask(tx, issuer, (PAY, wide(id)), Ask::Pay { log, order, offer }, None)?;
    match asset {
        Some(asset) if shop => lanes::consider(tx, &asset, amount),
        _ => Ok(()),
    }
}

/// Gives up a payment that was not signed.
pub(crate) fn cancel(tx: &mut Tx<'_>, id: [u8; 16]) -> Result<(), Fail> {
    let none = || command::Refusal::NotFound { what: "payment".into() };
    let row = payment(tx, id)?.ok_or_else(none)?;
    if !matches!(row.state, PayState::Asked | PayState::Offered) {
        return Err(invalid("what was signed can't be taken back: it resolves itself"));
    }
    answered(tx, row.issuer, OFFER, wide(id))?;
    let state = PayState::Refused { why: Refusal::Declined.into() };
    Ok(tx.put(&PAYMENTS, &id, &Payment { state, ..row })?)
}

pub(super) fn offered(
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
    if !is_expected(tx, &row, offer.get().price)? {
        return Ok(());
    }
    if !offer.get().stands(tx.now) {
        // Agreed to, and never signed.
        let state = PayState::Refused { why: Refusal::OfferExpired.into() };
        return Ok(tx.put(&PAYMENTS, &id, &Payment { state, ..row })?);
    }
    // What can't be paid now stays offered; a refusal comes before anything is staged.
    match sign(tx, id, row, Some(offer), "") {
        Ok(()) | Err(Fail::Refusal(_)) => Ok(()),
        Err(e) => Err(e),
    }
}

/// A money became known, or more is known of what is free: what was offered in it before is
/// paid, if it was to be.
pub(super) fn pay_expected(tx: &mut Tx<'_>, asset: AssetId) -> Result<(), Fail> {
    for (key, _) in tx.scan(&PAYMENT_TIMES, &KeyRange::all(), true, MAX_OPEN)? {
        let Some(id) = key.last_chunk::<16>().copied() else { continue };
        let Some(row) = payment(tx, id)? else { continue };
        if row.asset != asset || row.state != PayState::Offered {
            continue;
        }
        if let Some(offer) = &row.offer {
            let offer = Signed::<Offer>::from_bytes(offer).map_err(Fail::peer)?;
            pay_if_expected(tx, id, row, &offer)?;
        } else {
            // A transfer that waited for what was set aside.
            let memo = row.title.clone();
            match sign(tx, id, row, None, &memo) {
                Ok(()) | Err(Fail::Refusal(_)) => {}
                Err(e) => return Err(e),
            }
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
pub(super) fn decided(tx: &mut Tx<'_>, outcome: &Signed<Outcome>) -> Result<(), Fail> {
    let o = outcome.get();
    let Some(id) = tx.get(&PAYMENT_ORDERS, &o.order.0)? else { return Ok(()) };
    let Ok(id) = <[u8; 16]>::try_from(id.as_slice()) else { return Ok(()) };
    let Some(row) = payment(tx, id)? else { return Ok(()) };
    let Some(asset) = asset(tx, row.asset)? else { return Ok(()) };
    let bytes = row.order.as_deref();
    let order = bytes.and_then(|b| Signed::<PaymentOrder>::from_stored(b, &o.order.0).ok());
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
    if let Verdict::Paid { entry } | Verdict::Held { entry, .. } = o.verdict {
        let ahead = tx.mem.pay_ahead.entry(row.asset).or_default();
        if ahead.len() < MAX_OPEN {
            ahead.insert(entry, row.amount);
        }
    }
    let bytes = outcome.bytes().to_vec();
    let row = Payment { state, hint: None, outcome: Some(bytes), ..row };
    tx.put(&PAYMENTS, &id, &row)?;
    match o.verdict {
        Verdict::Paid { .. } => {
            let offer =
                row.offer.as_deref().and_then(|bytes| Signed::<Offer>::from_bytes(bytes).ok());
            receipts::keep(tx, row.asset, order.id(), |grants| {
                Receipt::of_order(&asset, offer.as_ref(), &order, outcome, grants)
            })
        }
        Verdict::Held { until, .. } => notify(tx, &row, until),
        Verdict::Refused(_) => Ok(()),
    }
}

pub(super) fn refunds_came(
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

/// Asks what became of an order of this device's since.
pub(crate) fn look(tx: &mut Tx<'_>, issuer: DeviceId, order: OrderId) -> Result<(), Fail> {
    if !tx.contains(&PAYMENT_ORDERS, &order.0)? {
        return Ok(());
    }
    // Out of a channel it was paid by a voucher, of which credits give back.
    if let Some(id) = tx.get(&PAYMENT_ORDERS, &order.0)?
        && let Ok(id) = <[u8; 16]>::try_from(id.as_slice())
        && let Some(made) = lanes::voucher_of(tx, id)?
        && made.id.0 == order.0
    {
        return lanes::look_at(tx, made.channel);
    }
    let (account, log) = (tx.account()?, own_log(tx)?);
    let until = Some(tx.now.saturating_add(ASKED));
    ask(tx, issuer, (LOOK, order.0), Ask::OrderOf { account, log, order }, until)
}
