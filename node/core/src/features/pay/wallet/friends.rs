//! Money between friends: what waits for this account, and telling a friend that something does.

use teahouse_protocols::account::RelayAddr;
use teahouse_protocols::codec;
use teahouse_protocols::ids::{DeviceId, Millis, OrderId};
use teahouse_protocols::pay::{
    Ask, Asset, Grant, Outcome, PayFrame, PayRequest, PaymentOrder, TransferAnswer, VERSION,
    Verdict,
};
use teahouse_protocols::sign::Signed;

use super::invalid;
use super::known::{known, learn};
use super::outbox::{TRANSFER, ask, own_log};
use crate::command;
use crate::engine::accounts;
use crate::features::contacts;
use crate::features::pay::service::say;
use crate::features::pay::tables::{INCOMING, Incoming, IncomingState, NOTICES, Out, Payment};
use crate::store::{Key, KeyRange, ReadExt};
use crate::tx::{Fail, Tx, capped};

/// Most that may wait for this account: strangers can send word of something.
const MAX_INCOMING: usize = 256;

/// Takes or declines what waits for this account.
pub(crate) fn decide(tx: &mut Tx<'_>, id: OrderId, accept: bool) -> Result<(), Fail> {
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

/// Tells a friend's devices that something waits for them, for as long as it does.
pub(super) fn notify(tx: &mut Tx<'_>, row: &Payment, until: Millis) -> Result<(), Fail> {
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
pub(crate) fn waiting(
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
