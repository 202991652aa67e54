//! Channels that this device asked for, and its lane in each.
//!
//! With the third payment to one shop this device asks for a channel there: a bounded share of
//! the balance is set aside, and later payments are vouchers out of it. A channel has the lane of
//! the device that asked, and no other: nothing lies idle for devices that don't pay. What
//! doesn't fit the lane is paid by an order.
//!
//! A lane is paid from only once the payee has said, since this process began, where it stands:
//! a device that was restored from an older copy learns so that it signed more than it knows of.
//! Then the lane is dead here, and the rest of the channel is given back. One voucher is out at a
//! time; lane, payment and outbox are durable together before it leaves, and only its bytes are
//! ever said again.

use rand_core::Rng;
use teahouse_protocols::bugs::planted;
use teahouse_protocols::ids::{AccountId, AssetId, ChannelId, DeviceId, VoucherId};
use teahouse_protocols::pay::{
    Ask, Asset, Channel, ChannelRequest, Contradiction, Credit, CreditReason, Entry, EntryKind,
    LaneOut, Offer, Receipt, Refusal, VERSION, Voucher, VoucherAck, VoucherRefusal,
};
use teahouse_protocols::sign::Signed;

use super::known::asset;
use super::orders::{ORDER_LIFE, pay_expected, payment, sign, under_way};
use super::outbox::{CHANNEL, LANE, SETTLE, VOUCHER, answered, ask, own_log, wide};
use super::{ASKED, LaneSaid, contradiction, receipts};
use crate::features::pay::tables::{
    BALANCES, Balance, CHANNEL_NOW, CHANNELS_OUT, ChannelOut, ChannelState, PAYMENT_ORDERS,
    PAYMENT_TIMES, PAYMENT_VOUCHERS, PAYMENTS, PayState, Payment, SET_ASIDE, VoucherOut, Word,
};
use crate::store::{Key, KeyRange, Read, ReadExt, StorageError};
use crate::tx::{Fail, Tx};

/// With which payment to one shop a channel is asked for.
const OPENS_WITH: usize = 3;
/// How many of this device's last payments are looked at for that.
const LOOK_BACK: usize = 64;
/// A channel takes this part of the balance at most: a quarter.
const SHARE: u64 = 4;
/// And so many times what was just paid, at most.
const MOST: u64 = 32;
/// And so many times at least: else there is none.
const LEAST: u64 = 2;
/// A lane is used up when less than this part of its cap is left, and it is too little.
const USED_UP: u64 = 4;
/// Most channels in one money that are looked at.
const MAX_CHANNELS: usize = 64;

/// Whether a lane may be paid from, as long as this process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checked {
    /// The payee was asked where it stands, under this number.
    Asked([u8; 16]),
    /// It stands there as it does here.
    InStep,
}

fn out(read: &dyn Read, id: ChannelId) -> Result<Option<ChannelOut>, StorageError> {
    read.get_typed(&CHANNELS_OUT, &id.0)
}

/// The channel that this device pays from in a money, or waits for.
pub(crate) fn current(
    read: &dyn Read,
    money: AssetId,
) -> Result<Option<(ChannelId, ChannelOut)>, StorageError> {
    let Some(id) = read.get(&CHANNEL_NOW, &money.0)? else { return Ok(None) };
    let Ok(id) = <[u8; 32]>::try_from(id.as_slice()) else { return Ok(None) };
    Ok(out(read, ChannelId(id))?.map(|row| (ChannelId(id), row)))
}

/// How a payment was made out of a channel, if it was.
pub(crate) fn voucher_of(
    read: &dyn Read,
    payment: [u8; 16],
) -> Result<Option<VoucherOut>, StorageError> {
    read.get_typed(&PAYMENT_VOUCHERS, &payment)
}

/// What the account's statement says is set aside in a money: channel and amount.
fn set_aside(read: &dyn Read, money: AssetId) -> Result<Vec<(ChannelId, u64)>, StorageError> {
    let rows: Vec<(Vec<u8>, u64)> =
        read.scan_typed(&SET_ASIDE, &KeyRange::prefix(&money.0), false, MAX_CHANNELS)?;
    let id = |key: &[u8]| key.last_chunk::<32>().copied().map(ChannelId);
    Ok(rows.iter().filter_map(|(key, amount)| Some((id(key)?, *amount))).collect())
}

/// What is set aside in a money, by all devices of this account, in minor units.
pub(crate) fn reserved(read: &dyn Read, money: AssetId) -> Result<u64, StorageError> {
    let rows = set_aside(read, money)?;
    Ok(rows.iter().fold(0, |sum: u64, (_, n)| sum.saturating_add(*n)))
}

/// What this device may still spend of it, in minor units.
pub(crate) fn room(read: &dyn Read, money: AssetId) -> Result<u64, StorageError> {
    let open = current(read, money)?.filter(|(_, row)| row.state == ChannelState::Open);
    let lane = open.and_then(|(_, row)| row.lane).filter(|lane| !lane.stopped);
    Ok(lane.map_or(0, |lane| lane.room()))
}

/// What a channel that is being opened takes of a money and the statement does not show yet, in
/// minor units.
pub(super) fn opening(tx: &Tx<'_>, money: AssetId) -> Result<u64, Fail> {
    let Some((id, row)) = current(tx, money)? else { return Ok(0) };
    let shown = tx.contains(&SET_ASIDE, &Key::new().fixed(&money.0).fixed(&id.0).into_bytes())?;
    let opens = match row.state {
        // Later it can't be opened any more.
        ChannelState::Asked => tx.now < row.until,
        ChannelState::Open => !shown,
        _ => false,
    };
    if !opens {
        return Ok(0);
    }
    let request = Signed::<ChannelRequest>::from_bytes(&row.request).map_err(Fail::peer)?;
    Ok(request.get().capacity)
}

/// Asks for a channel where this device pays again and again.
pub(super) fn consider(tx: &mut Tx<'_>, asset: &Signed<Asset>, price: u64) -> Result<(), Fail> {
    let (money, a) = (Asset::id(asset), asset.get());
    if let Some((_, row)) = current(tx, money)? {
        let waits = row.state == ChannelState::Asked && tx.now < row.until;
        if waits || row.state == ChannelState::Open {
            return Ok(());
        }
    }
    let mut paid = 0;
    for (key, _) in tx.scan(&PAYMENT_TIMES, &KeyRange::all(), true, LOOK_BACK)? {
        let Some(id) = key.last_chunk::<16>().copied() else { continue };
        let Some(row) = payment(tx, id)? else { continue };
        if row.asset == money && row.offer.is_some() && row.state == PayState::Paid {
            paid += 1;
        }
    }
    if paid + 1 < OPENS_WITH {
        return Ok(());
    }
    let Some(balance) = tx.typed::<Balance>(&BALANCES, &money.0)? else { return Ok(()) };
    // The payment just made is among those under way.
    let free = balance.tally.balance.saturating_sub(under_way(tx, a.key, money)?);
    let capacity = (free / SHARE).min(price.saturating_mul(MOST));
    if capacity < price.saturating_mul(LEAST) {
        return Ok(());
    }
    let (account, me) = (tx.account()?, tx.me()?);
    let mut nonce = [0; 16];
    tx.rng.fill_bytes(&mut nonce);
    let until = tx.now.saturating_add(ORDER_LIFE);
    let request = ChannelRequest {
        version: VERSION,
        asset: money,
        account,
        device: me.device,
        payee: a.issuer,
        payee_key: a.key,
        capacity,
        lanes: vec![(me.device, capacity)].try_into().map_err(Fail::peer)?,
        nonce,
        made: tx.now,
        expires: until,
    };
    let request = Signed::new(request, &me.key);
    let id = ChannelId(request.id());
    let row = ChannelOut {
        asset: money,
        issuer: a.key,
        request: request.bytes().to_vec(),
        until,
        channel: None,
        lane: None,
        state: ChannelState::Asked,
    };
    tx.put(&CHANNELS_OUT, &id.0, &row)?;
    tx.put_raw(&CHANNEL_NOW, &money.0, id.0.to_vec())?;
    let log = own_log(tx)?;
    let request = Box::new(row.request.try_into().map_err(Fail::peer)?);
    // Until it is answered: past its time it is refused, or what was opened is told.
    ask(tx, a.key, (CHANNEL, id.0), Ask::Channel { log, request }, None)
}

/// The issuer opened a channel. One that was given up meanwhile is paid from all the same,
/// unless there is another.
pub(super) fn granted(
    tx: &mut Tx<'_>,
    from: DeviceId,
    channel: &Signed<Channel>,
) -> Result<(), Fail> {
    let c = channel.get();
    let Some(row) = out(tx, c.id)? else { return Ok(()) };
    let Some(asset) = asset(tx, row.asset)? else { return Ok(()) };
    let request = Signed::<ChannelRequest>::from_bytes(&row.request).map_err(Fail::peer)?;
    if from != row.issuer || !c.is_in(&asset) || !c.grants(&request) {
        return Err(Fail::peer("another channel than was asked for"));
    }
    answered(tx, from, CHANNEL, c.id.0)?;
    if row.channel.is_some() {
        return Ok(());
    }
    let lane = LaneOut::open(channel, &asset, tx.me()?.device);
    let lane = lane.ok_or_else(|| Fail::peer("a channel without this device's lane"))?;
    let money = row.asset;
    let other =
        current(tx, money)?.is_some_and(|(id, now)| id != c.id && now.state == ChannelState::Open);
    let row = ChannelOut {
        channel: Some(channel.bytes().to_vec()),
        lane: Some(lane),
        state: if other { ChannelState::Over } else { ChannelState::Open },
        ..row
    };
    tx.put(&CHANNELS_OUT, &c.id.0, &row)?;
    if other {
        return give_up(tx, c.id, row.issuer);
    }
    tx.put_raw(&CHANNEL_NOW, &money.0, c.id.0.to_vec())?;
    check(tx, money)
}

/// The issuer doesn't open it: the next payment may ask again.
pub(super) fn refused(tx: &mut Tx<'_>, id: ChannelId) -> Result<(), Fail> {
    match out(tx, id)? {
        Some(row) if row.state == ChannelState::Asked => {
            let money = row.asset;
            over(tx, id, row, ChannelState::Over)?;
            pay_expected(tx, money)
        }
        _ => Ok(()),
    }
}

/// Pays no more from a channel.
fn over(tx: &mut Tx<'_>, id: ChannelId, row: ChannelOut, state: ChannelState) -> Result<(), Fail> {
    if current(tx, row.asset)?.is_some_and(|(now, _)| now == id) {
        tx.del(&CHANNEL_NOW, &row.asset.0)?;
    }
    tx.mem.pay_lanes.remove(&id);
    Ok(tx.put(&CHANNELS_OUT, &id.0, &ChannelOut { state, ..row })?)
}

/// Asks the issuer to settle a channel, so that the rest of it comes back.
fn give_up(tx: &mut Tx<'_>, id: ChannelId, issuer: DeviceId) -> Result<(), Fail> {
    let log = own_log(tx)?;
    // Until it is done: payments may wait for it.
    ask(tx, issuer, (SETTLE, id.0), Ask::Settle { log, channel: id }, None)
}

/// More is wanted than is free: asks for what this device has set aside, if that is enough.
pub(super) fn free_up(tx: &mut Tx<'_>, money: AssetId, missing: u64) -> Result<bool, Fail> {
    let mut own = Vec::new();
    let mut sum = 0_u64;
    for (id, aside) in set_aside(tx, money)? {
        let Some(row) = out(tx, id)? else { continue };
        // Where the answer to the request was lost, nothing was paid out of it.
        let left = row.lane.as_ref().map_or(aside, LaneOut::room);
        sum = sum.saturating_add(left);
        own.push((id, row.issuer));
    }
    if sum < missing {
        return Ok(false);
    }
    for (id, issuer) in own {
        give_up(tx, id, issuer)?;
    }
    Ok(true)
}

/// Asks where this device's lane in a money stands.
pub(super) fn check(tx: &mut Tx<'_>, money: AssetId) -> Result<(), Fail> {
    match current(tx, money)? {
        Some((id, row)) if row.state == ChannelState::Open => look_at(tx, id),
        _ => Ok(()),
    }
}

/// Asks where a lane stands, and what was given back in it.
pub(super) fn look_at(tx: &mut Tx<'_>, id: ChannelId) -> Result<(), Fail> {
    let Some(row) = out(tx, id)? else { return Ok(()) };
    let Some(lane) = &row.lane else { return Ok(()) };
    let mut nonce = [0; 16];
    tx.rng.fill_bytes(&mut nonce);
    if row.state == ChannelState::Open && tx.mem.pay_lanes.get(&id) != Some(&Checked::InStep) {
        tx.mem.pay_lanes.insert(id, Checked::Asked(nonce));
    }
    let (log, credited) = (own_log(tx)?, lane.credited);
    let question = Ask::Lane { log, channel: id, nonce, credited };
    let until = Some(tx.now.saturating_add(ASKED));
    ask(tx, row.issuer, (LANE, id.0), question, until)
}

/// Pays an offer by a voucher, if there is a lane that it fits.
pub(super) fn pay(
    tx: &mut Tx<'_>,
    payment: [u8; 16],
    row: &Payment,
    offer: &Signed<Offer>,
) -> Result<bool, Fail> {
    let Some((id, channel)) = current(tx, row.asset)? else { return Ok(false) };
    let Some(lane) = channel.lane.clone() else { return Ok(false) };
    let open = channel.state == ChannelState::Open && channel.issuer == row.issuer;
    if !open || lane.stopped || tx.now >= lane.until || lane.unanswered.is_some() {
        return Ok(false);
    }
    match tx.mem.pay_lanes.get(&id).copied() {
        Some(Checked::InStep) => {}
        // The question is said again until it is answered.
        Some(Checked::Asked(_)) => return Ok(false),
        None => {
            check(tx, row.asset)?;
            return Ok(false);
        }
    }
    let amount = offer.get().price;
    if lane.room() < amount {
        if lane.room() < lane.cap / USED_UP {
            give_up(tx, id, channel.issuer)?;
        }
        return Ok(false);
    }
    let me = tx.me()?;
    let expires = tx.now.saturating_add(ORDER_LIFE);
    let (lane, voucher) =
        lane.pay(&me.key, amount, Offer::id(offer), tx.now, expires).map_err(Fail::peer)?;
    let issuer = channel.issuer;
    // As if some left before their lane was durable, and the process ended between.
    if !planted("voucher_before_commit") || voucher.id()[0] >= 64 {
        tx.put(&CHANNELS_OUT, &id.0, &ChannelOut { lane: Some(lane), ..channel })?;
    }
    let bytes = voucher.bytes().to_vec();
    let made =
        VoucherOut { channel: id, voucher: bytes.clone(), id: Voucher::id(&voucher), word: None };
    tx.put(&PAYMENT_VOUCHERS, &payment, &made)?;
    tx.put_raw(&PAYMENT_ORDERS, &voucher.id(), payment.to_vec())?;
    let row = Payment { amount, state: PayState::Sent, hint: None, ..row.clone() };
    tx.put(&PAYMENTS, &payment, &row)?;
    let log = own_log(tx)?;
    let voucher = bytes.try_into().map_err(Fail::peer)?;
    let offer = Box::new(offer.bytes().to_vec().try_into().map_err(Fail::peer)?);
    // Until it is answered: past its time it is taken and given back, and then that is known.
    let question = Ask::Voucher { log, voucher, offer };
    ask(tx, issuer, (VOUCHER, wide(payment)), question, None)?;
    Ok(true)
}

/// The payment that a voucher of this device's made.
fn payment_of(
    tx: &Tx<'_>,
    voucher: VoucherId,
) -> Result<Option<([u8; 16], Payment, VoucherOut)>, StorageError> {
    let Some(id) = tx.get(&PAYMENT_ORDERS, &voucher.0)? else { return Ok(None) };
    let Ok(id) = <[u8; 16]>::try_from(id.as_slice()) else { return Ok(None) };
    let (Some(row), Some(made)) = (payment(tx, id)?, voucher_of(tx, id)?) else { return Ok(None) };
    Ok((made.id == voucher).then_some((id, row, made)))
}

/// A payment has its final word.
fn finish(
    tx: &mut Tx<'_>,
    (id, row, made): ([u8; 16], Payment, VoucherOut),
    word: Word,
    state: PayState,
) -> Result<Payment, Fail> {
    answered(tx, row.issuer, VOUCHER, wide(id))?;
    tx.put(&PAYMENT_VOUCHERS, &id, &VoucherOut { word: Some(word), ..made })?;
    let row = Payment { state, hint: None, ..row };
    tx.put(&PAYMENTS, &id, &row)?;
    Ok(row)
}

/// The payee took a voucher.
pub(super) fn taken(tx: &mut Tx<'_>, ack: &Signed<VoucherAck>) -> Result<(), Fail> {
    let a = ack.get();
    let Some(row) = out(tx, a.channel)? else { return Ok(()) };
    let Some(lane) = &row.lane else { return Ok(()) };
    let after = lane.acked(ack).map_err(Fail::peer)?;
    let Some((id, paid, made)) = payment_of(tx, a.voucher)? else { return Ok(()) };
    let Some(asset) = asset(tx, row.asset)? else { return Ok(()) };
    if a.amount != paid.amount {
        return Err(Fail::peer("a word on another amount"));
    }
    if let Some(word) = &made.word {
        return said_before(tx, &asset, word, ack);
    }
    let channel = row.channel.clone();
    tx.put(&CHANNELS_OUT, &a.channel.0, &ChannelOut { lane: Some(after), ..row })?;
    let voucher = made.voucher.clone();
    let word = Word::Taken(ack.bytes().to_vec());
    let paid = finish(tx, (id, paid, made), word, PayState::Paid)?;
    let (Some(channel), Some(offer)) = (channel, paid.offer.as_deref()) else { return Ok(()) };
    let channel = Signed::<Channel>::from_bytes(&channel).map_err(Fail::peer)?;
    let voucher = Signed::<Voucher>::from_bytes(&voucher).map_err(Fail::peer)?;
    let offer = Signed::<Offer>::from_bytes(offer).map_err(Fail::peer)?;
    receipts::keep(tx, paid.asset, voucher.id(), |grants| {
        Receipt::of_voucher(&asset, &offer, &channel, &voucher, ack, grants)
    })
}

/// Whether what was said of a voucher before contradicts that it was taken.
fn said_before(
    tx: &mut Tx<'_>,
    asset: &Signed<Asset>,
    word: &Word,
    ack: &Signed<VoucherAck>,
) -> Result<(), Fail> {
    let proof = match word {
        Word::Taken(before) => Signed::<VoucherAck>::from_bytes(before)
            .ok()
            .and_then(|before| Contradiction::of_acks(&before, ack)),
        Word::NotTaken(before) => Signed::<VoucherRefusal>::from_bytes(before)
            .ok()
            .and_then(|before| Contradiction::of_answers(ack, &before)),
        Word::Credited(_) => None,
    };
    proof.map_or(Ok(()), |proof| contradiction(tx, asset, &proof))
}

/// The payee gave something back. The one credit that answers the voucher that is out is taken
/// as it is; else those between are asked for, each of which names what it gives back of.
pub(super) fn credited(tx: &mut Tx<'_>, credit: &Signed<Credit>) -> Result<(), Fail> {
    let c = credit.get();
    let Some(row) = out(tx, c.channel)? else { return Ok(()) };
    let Some(lane) = &row.lane else { return Ok(()) };
    if c.credited <= lane.credited {
        return Ok(());
    }
    let back = c.credited.saturating_sub(lane.credited);
    let next = c.voucher == lane.head
        && matches!(c.reason, CreditReason::Refused(_))
        && lane.unanswered.as_ref().is_some_and(|out| out.amount == back);
    if next { count(tx, c.channel, row, credit).map(|_| ()) } else { look_at(tx, c.channel) }
}

/// Counts the credit after those that are known.
fn count(
    tx: &mut Tx<'_>,
    id: ChannelId,
    row: ChannelOut,
    credit: &Signed<Credit>,
) -> Result<ChannelOut, Fail> {
    let c = credit.get();
    let Some(lane) = row.lane.clone() else { return Ok(row) };
    let after = lane.credit(credit).map_err(Fail::peer)?;
    let back = after.credited.saturating_sub(lane.credited);
    let answers = lane.unanswered.is_some() && after.unanswered.is_none();
    let row = ChannelOut { lane: Some(after), ..row };
    tx.put(&CHANNELS_OUT, &id.0, &row)?;
    let Some((number, paid, made)) = payment_of(tx, c.voucher)? else { return Ok(row) };
    let bytes = credit.bytes().to_vec();
    match c.reason {
        CreditReason::Refused(why) if answers && made.word.is_none() => {
            let state = PayState::Refused { why: why.into() };
            finish(tx, (number, paid, made), Word::Credited(bytes), state)?;
        }
        CreditReason::Refused(_) => {}
        CreditReason::Refund(_) => {
            let refunded = paid.refunded.saturating_add(back).min(paid.amount);
            let mut refunds = paid.refunds.clone();
            refunds.push(bytes);
            tx.put(&PAYMENTS, &number, &Payment { refunds, refunded, ..paid })?;
        }
    }
    Ok(row)
}

/// The payee did not take a voucher, and never will: the lane has ended, and the offer is paid
/// by an order if it still stands.
pub(super) fn not_taken(tx: &mut Tx<'_>, refusal: &Signed<VoucherRefusal>) -> Result<(), Fail> {
    let r = refusal.get();
    let Some(row) = out(tx, r.channel)? else { return Ok(()) };
    let Some(lane) = &row.lane else { return Ok(()) };
    let after = lane.refused(refusal).map_err(Fail::peer)?;
    let Some((id, paid, made)) = payment_of(tx, r.voucher)? else { return Ok(()) };
    let Some(asset) = asset(tx, row.asset)? else { return Ok(()) };
    match &made.word {
        None => {}
        Some(Word::Taken(ack)) => {
            let ack = Signed::<VoucherAck>::from_bytes(ack).map_err(Fail::peer)?;
            let proof = Contradiction::of_answers(&ack, refusal);
            return proof.map_or(Ok(()), |proof| contradiction(tx, &asset, &proof));
        }
        Some(_) => return Ok(()),
    }
    let (issuer, frozen) = (row.issuer, r.why == Refusal::LaneFrozen);
    let row = ChannelOut { lane: Some(after), ..row };
    over(tx, r.channel, row, ChannelState::Over)?;
    if frozen {
        give_up(tx, r.channel, issuer)?;
    }
    let offer = paid.offer.as_deref().and_then(|b| Signed::<Offer>::from_bytes(b).ok());
    let offer = offer.filter(|offer| offer.get().stands(tx.now));
    let word = Word::NotTaken(refusal.bytes().to_vec());
    let Some(offer) = offer else {
        finish(tx, (id, paid, made), word, PayState::Refused { why: r.why.into() })?;
        return Ok(());
    };
    let up_to = Some(asset.get().money(paid.amount));
    let paid = finish(tx, (id, Payment { up_to, ..paid }, made), word, PayState::Offered)?;
    match sign(tx, id, paid, Some(&offer), "") {
        Ok(()) | Err(Fail::Refusal(_)) => Ok(()),
        Err(e) => Err(e),
    }
}

/// Where the payee has a lane.
pub(super) fn stands(tx: &mut Tx<'_>, from: DeviceId, said: LaneSaid) -> Result<(), Fail> {
    let id = said.channel;
    let Some(mut row) = out(tx, id)? else { return Ok(()) };
    if row.issuer != from {
        return Ok(());
    }
    answered(tx, from, LANE, id.0)?;
    let Some(lane) = row.lane.clone() else { return Ok(()) };
    let (nonce, head) = match &said.taken {
        None => (0, VoucherId([0; 32])),
        Some(v) if (v.get().channel, v.get().lane) == (id, lane.device) => {
            (v.get().nonce, Voucher::id(v))
        }
        Some(_) => return Err(Fail::peer("another lane's voucher")),
    };
    // Before what was given back is counted: of vouchers that this device doesn't know of it
    // doesn't add up.
    let ahead = nonce > lane.nonce || nonce == lane.nonce && head != lane.head;
    if row.state == ChannelState::Open && ahead {
        // This device signed it, and doesn't know of it.
        over(tx, id, row, ChannelState::OutOfStep)?;
        let text = "This device was restored from an older copy: it paid more at a shop than it \
                    remembers. It pays there by orders, and what was set aside comes back.";
        tx.alarm(text.to_owned())?;
        return give_up(tx, id, from);
    }
    if ahead {
        return Ok(());
    }
    for credit in &said.credits {
        let known = row.lane.as_ref().map_or(0, |lane| lane.credited);
        if credit.get().channel == id && credit.get().credited > known {
            row = count(tx, id, row, credit)?;
        }
    }
    let Some(lane) = row.lane.clone() else { return Ok(()) };
    if row.state != ChannelState::Open {
        return if said.more { look_at(tx, id) } else { Ok(()) };
    }
    if said.settled {
        return over(tx, id, row, ChannelState::Over);
    }
    let asked = tx.mem.pay_lanes.get(&id) == Some(&Checked::Asked(said.nonce));
    // One less than here where the last voucher is on its way.
    let in_step = nonce == lane.nonce
        || lane.unanswered.is_some() && nonce.checked_add(1) == Some(lane.nonce);
    if asked && in_step {
        tx.mem.pay_lanes.insert(id, Checked::InStep);
        pay_expected(tx, row.asset)?;
    }
    if said.more { look_at(tx, id) } else { Ok(()) }
}

/// What an entry of the account's statement says of channels: entries between the account and
/// its issuer that reserve or release are about nothing else.
pub(super) fn entered(
    tx: &mut Tx<'_>,
    money: AssetId,
    issuer: AccountId,
    entry: &Entry,
) -> Result<(), Fail> {
    let Some(of) = entry.of.filter(|_| entry.other == Some(issuer)) else { return Ok(()) };
    let key = Key::new().fixed(&money.0).fixed(&of);
    match entry.kind {
        EntryKind::Reserved => Ok(tx.put(&SET_ASIDE, &key, &entry.amount)?),
        EntryKind::Spent | EntryKind::Released => {
            let before: u64 = tx.typed(&SET_ASIDE, &key)?.unwrap_or(0);
            match before.saturating_sub(entry.amount) {
                0 => tx.del(&SET_ASIDE, &key)?,
                left => tx.put(&SET_ASIDE, &key, &left)?,
            }
            let id = ChannelId(of);
            match out(tx, id)? {
                Some(row) if matches!(row.state, ChannelState::Open | ChannelState::Asked) => {
                    over(tx, id, row, ChannelState::Over)
                }
                _ => Ok(()),
            }
        }
        _ => Ok(()),
    }
}
