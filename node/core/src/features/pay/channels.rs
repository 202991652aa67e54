//! Channels at the payee, which is the issuer: opening, vouchers, credits, freezes, settling.
//!
//! A channel's capacity is a reserve in the ledger, from its opening to its settlement. Vouchers
//! and credits move no money: they are counted in the lane, and the settlement pays what they
//! come to. Lane, voucher, offer and answer change in the transaction of one input; so every
//! voucher is counted by the issuer at once, and can be given back from at once.
//!
//! A refusal is signed only where it can never become untrue: the channel is settled, or the
//! lane frozen, durably. What follows the chain and can't be served is taken and credited.

use teahouse_protocols::ids::{
    AccountId, AssetId, ChannelId, DeviceId, Millis, OfferId, OrderId, VoucherId,
};
use teahouse_protocols::pay::frames::{MAX_CREDITS, MAX_REFUNDS, OfferState};
use teahouse_protocols::pay::{
    Answer, Asset, Channel, ChannelRequest, Contradiction, Credit, CreditReason, EntryKind,
    FREEZE_GRACE, Freeze, Lane, MAX_AHEAD, Offer, Paid, PayFrame, PayReply, Refusal, VERSION,
    Voucher, VoucherAck, VoucherRefusal,
};
use teahouse_protocols::sign::Signed;

use super::issuer::{self, MAX_REFUSED, Not, enter, holder, invalid, issued, key, moves, post};
use super::tables::{
    CHANNEL_TIMES, CHANNELS, CHANNELS_OPEN, CHANNELS_OPENED, CREDITS, ChannelRow, FROZEN, LANES,
    OFFERS, ORDER_TIMES, ORDERS_REFUSED, OfferRow, TAKINGS, VOUCHER_IDS, VOUCHER_REFUNDS, VOUCHERS,
    VoucherRow, Word,
};
use super::{service, shop, wallet};
use crate::command;
use crate::features::functions;
use crate::ledger::{Transfer, TransferId, What, Why};
use crate::store::{Key, KeyRange, KeyReader, Read, ReadExt, StorageError};
use crate::tx::{Fail, Tx, capped};

/// The code of a ledger's transfers: a channel's capacity was reserved.
const RESERVED: u16 = 6;
/// A channel was settled.
const SETTLED: u16 = 7;
/// Something was given back of a channel that was settled before.
const CREDITED: u16 = 8;

/// Most channels of an account that are open in one money: as many as it is expected to have
/// devices.
const MAX_OPEN: usize = 16;
/// Most channels that an account opens in one money within a day: each leaves rows behind.
const MAX_A_DAY: usize = 64;
const DAY: Millis = 24 * 60 * 60 * 1000;
/// Most channels that one command or one look at the clock settles.
pub(super) const MAX_SETTLED: usize = 64;

/// A channel that this device opened.
pub(super) fn channel(read: &dyn Read, id: ChannelId) -> Result<Option<ChannelRow>, StorageError> {
    read.get_typed(&CHANNELS, &id.0)
}

fn stored(row: &ChannelRow) -> Result<Signed<Channel>, StorageError> {
    Signed::from_bytes(&row.channel).map_err(|_| StorageError::corrupt(CHANNELS.name, "a channel"))
}

fn lane_key(channel: ChannelId, device: DeviceId) -> Vec<u8> {
    Key::new().fixed(&channel.0).fixed(&device.0).into_bytes()
}

fn voucher_key(channel: ChannelId, device: DeviceId, nonce: u64) -> Vec<u8> {
    Key::new().fixed(&channel.0).fixed(&device.0).u64(nonce).into_bytes()
}

fn lane(tx: &Tx<'_>, channel: ChannelId, device: DeviceId) -> Result<Option<Lane>, StorageError> {
    tx.typed(&LANES, &lane_key(channel, device))
}

/// The lanes of a channel; at most `MAX_LANES`, as its form has it.
pub(super) fn lanes(read: &dyn Read, channel: ChannelId) -> Result<Vec<Lane>, StorageError> {
    let most = teahouse_protocols::pay::MAX_LANES;
    let rows: Vec<(Vec<u8>, Lane)> =
        read.scan_typed(&LANES, &KeyRange::prefix(&channel.0), false, most)?;
    Ok(rows.into_iter().map(|(_, lane)| lane).collect())
}

fn is_frozen(tx: &Tx<'_>, asset: AssetId, device: DeviceId) -> Result<bool, StorageError> {
    tx.contains(&FROZEN, &Key::new().fixed(&asset.0).fixed(&device.0))
}

/// Opens a channel for a device that is connected and acts for the account, as the caller saw
/// to. The same bytes get the same channel.
pub(super) fn open(tx: &mut Tx<'_>, request: &Signed<ChannelRequest>) -> Result<Vec<u8>, Not> {
    let r = request.get();
    let id = ChannelId(request.id());
    if let Some(row) = channel(tx, id)? {
        return Ok(row.channel);
    }
    let asset = issued(tx, r.asset)?.ok_or(Refusal::UnknownAsset)?;
    if (r.payee, r.payee_key) != (asset.get().issuer, asset.get().key) {
        return Err(Refusal::UnknownPayee.into());
    }
    if issuer::holding(tx, r.asset, r.account)?.is_none() {
        return Err(Refusal::UnknownHolder.into());
    }
    if tx.now >= r.expires || r.made > tx.now.saturating_add(MAX_AHEAD) {
        return Err(Refusal::Expired.into());
    }
    for (device, _) in &r.lanes {
        if is_frozen(tx, r.asset, *device)? {
            return Err(Refusal::LaneFrozen.into());
        }
    }
    let of = Key::new().fixed(&r.asset.0).fixed(&r.account.0);
    let day = of.clone().u64(tx.now.saturating_sub(DAY));
    let lately = KeyRange::prefix(&of).after(&day);
    if tx.count(&CHANNELS_OPEN, &KeyRange::prefix(&of), MAX_OPEN)? == MAX_OPEN
        || tx.count(&CHANNELS_OPENED, &lately, MAX_A_DAY)? == MAX_A_DAY
    {
        return Err(Refusal::SlowDown.into());
    }
    let me = tx.me()?;
    let channel = Channel::answering(request, me.device, tx.now).ok_or(Refusal::TooLarge)?;
    let channel = Signed::new(channel, &me.key);
    let movement = moves(holder(r.asset, r.account), key(r.asset, TAKINGS, [0; 32]), r.capacity);
    let reserve = Transfer {
        id: TransferId::of("channel", &[&id.0]),
        code: RESERVED,
        what: What::Reserve { movement, timeout: None },
    };
    match post(tx, &[reserve])? {
        Ok(_) => {}
        Err(Why::ExceedsCredits) => return Err(Refusal::InsufficientBalance.into()),
        Err(Why::Overflow) => return Err(Refusal::TooLarge.into()),
        Err(why) => return Err(Fail::peer(why).into()),
    }
    for (device, _) in &r.lanes {
        let lane = Lane::open(&channel, &asset, *device);
        let lane = lane.ok_or_else(|| Fail::peer("a channel without its lane"))?;
        tx.put(&LANES, &lane_key(id, *device), &lane)?;
    }
    let row = ChannelRow {
        asset: r.asset,
        payer: r.account,
        channel: channel.bytes().to_vec(),
        capacity: r.capacity,
        opened: tx.now,
        expires: channel.get().expires,
        settled: None,
    };
    tx.put(&CHANNELS, &id.0, &row)?;
    tx.put_raw(&CHANNELS_OPEN, &of.clone().fixed(&id.0), Vec::new())?;
    tx.put_raw(&CHANNELS_OPENED, &of.u64(row.opened).fixed(&id.0), Vec::new())?;
    tx.put_raw(&CHANNEL_TIMES, &Key::new().u64(row.expires).fixed(&id.0), Vec::new())?;
    enter(tx, &asset, r.account, (EntryKind::Reserved, r.capacity, Some(r.payee), id.0))?;
    Ok(row.channel)
}

/// Decides a voucher of a device that is connected and acts for the channel's payer, as the
/// caller saw to. The same bytes get the same answer, word for word.
pub(super) fn voucher(
    tx: &mut Tx<'_>,
    row: &ChannelRow,
    voucher: &Signed<Voucher>,
    offer: &Signed<Offer>,
) -> Result<Word, Not> {
    let v = voucher.get();
    let asset = issued(tx, row.asset)?.ok_or(Refusal::UnknownAsset)?;
    let held = lane(tx, v.channel, v.lane)?.ok_or(Refusal::UnknownChannel)?;
    let known: Option<VoucherRow> =
        tx.typed(&VOUCHERS, &voucher_key(v.channel, v.lane, v.nonce))?;
    if let Some(known) = known {
        if known.voucher == voucher.bytes() {
            return Ok(known.word);
        }
        let damaged = |_| StorageError::corrupt(VOUCHERS.name, "a voucher");
        let before = Signed::<Voucher>::from_bytes(&known.voucher).map_err(damaged)?;
        let Some(proof) = Contradiction::of_vouchers(&before, voucher) else {
            // The same words signed once more: no fraud, and no payment.
            return Err(Refusal::SameKeyOtherBytes.into());
        };
        freeze(tx, &asset, row.payer, v.lane, &proof)?;
        return refuse(tx, &asset, voucher, Refusal::LaneFrozen);
    }
    if row.settled.is_some() {
        return refuse(tx, &asset, voucher, Refusal::ChannelOver);
    }
    if held.frozen {
        return refuse(tx, &asset, voucher, Refusal::LaneFrozen);
    }
    if tx.now >= row.expires {
        // Durable before it is signed for, should this clock be set back.
        settle(tx, v.channel)?;
        return refuse(tx, &asset, voucher, Refusal::ChannelOver);
    }
    if tx.count(&ORDERS_REFUSED, &KeyRange::prefix(&v.lane.0), MAX_REFUSED)? == MAX_REFUSED {
        return Err(Refusal::SlowDown.into());
    }
    let taken = held.accept(voucher, tx.now).map_err(|why| Not::Refused(why.refusal()))?;
    let after = taken.lane.shown(v.cumulative).map_err(Fail::peer)?;
    let served = if taken.late { Err(Refusal::Expired) } else { Ok(()) };
    let channel = stored(row)?;
    let served = served
        .and(stands(tx, v)?)
        .and_then(|()| channel.get().serves(v, taken.amount, offer, tx.now));
    let mut paid = Paid::new(taken.amount);
    let (lane, word) = match served {
        Ok(()) => {
            shop::close(tx, v.offer, OfferState::Paid)?;
            functions::ordered(tx, v.offer, OrderId(voucher.id()))?;
            let ack = VoucherAck {
                version: VERSION,
                channel: v.channel,
                lane: v.lane,
                key: asset.get().key,
                voucher: Voucher::id(voucher),
                nonce: v.nonce,
                amount: taken.amount,
                offer: v.offer,
                at: tx.now,
            };
            let at = Key::new().u64(tx.now).fixed(&voucher.id());
            tx.put_raw(&ORDER_TIMES, &at, Vec::new())?;
            (after, Word::Taken(Signed::new(ack, &tx.me()?.key).bytes().to_vec()))
        }
        Err(why) => {
            let (lane, back) =
                after.credit(v.cumulative, &paid, taken.amount).map_err(Fail::peer)?;
            paid = back;
            let id = Voucher::id(voucher);
            let credit = credit(tx, &asset, &lane, (id, v.offer), CreditReason::Refused(why))?;
            let at = Key::new().fixed(&v.lane.0).fixed(&id.0);
            tx.put_raw(&ORDERS_REFUSED, &at, Vec::new())?;
            (lane, Word::Credited(credit.bytes().to_vec()))
        }
    };
    let row = VoucherRow {
        voucher: voucher.bytes().to_vec(),
        word: word.clone(),
        cumulative: v.cumulative,
        paid,
        offer: v.offer,
        at: tx.now,
        fulfilled: false,
    };
    let at = voucher_key(v.channel, v.lane, v.nonce);
    tx.put(&LANES, &lane_key(v.channel, v.lane), &lane)?;
    tx.put(&VOUCHERS, &at, &row)?;
    tx.put_raw(&VOUCHER_IDS, &voucher.id(), at)?;
    Ok(word)
}

/// Whether the offer that a voucher pays can be paid.
fn stands(tx: &Tx<'_>, v: &Voucher) -> Result<Result<(), Refusal>, StorageError> {
    let row: Option<OfferRow> = tx.typed(&OFFERS, &v.offer.0)?;
    Ok(match row.map(|row| row.state) {
        None => Err(Refusal::UnknownOffer),
        Some(OfferState::Open) => Ok(()),
        Some(OfferState::Paid | OfferState::Fulfilled) => Err(Refusal::AlreadyPaid),
        Some(OfferState::Expired | OfferState::Withdrawn) => Err(Refusal::OfferExpired),
    })
}

/// Signs and keeps a credit of a lane, which already counts it.
fn credit(
    tx: &mut Tx<'_>,
    asset: &Signed<Asset>,
    lane: &Lane,
    (voucher, offer): (VoucherId, OfferId),
    reason: CreditReason,
) -> Result<Signed<Credit>, Fail> {
    let credit = Credit {
        version: VERSION,
        channel: lane.channel,
        lane: lane.device,
        key: asset.get().key,
        credited: lane.credited,
        voucher,
        offer,
        reason,
        at: tx.now,
    };
    let credit = Signed::new(credit, &tx.me()?.key);
    let at = voucher_key(lane.channel, lane.device, lane.credited);
    tx.put_raw(&CREDITS, &at, credit.bytes().to_vec())?;
    Ok(credit)
}

/// Signs that a voucher was not taken. Only of a channel that was settled, or a lane that is
/// frozen: it never will be.
fn refuse(
    tx: &mut Tx<'_>,
    asset: &Signed<Asset>,
    voucher: &Signed<Voucher>,
    why: Refusal,
) -> Result<Word, Not> {
    let v = voucher.get();
    let lane = lane(tx, v.channel, v.lane)?.ok_or(Refusal::UnknownChannel)?;
    let before = match v.nonce.checked_sub(1) {
        None | Some(0) => 0,
        Some(nonce) => {
            let row: Option<VoucherRow> =
                tx.typed(&VOUCHERS, &voucher_key(v.channel, v.lane, nonce))?;
            row.ok_or(Refusal::Gap)?.cumulative
        }
    };
    let refusal = VoucherRefusal {
        version: VERSION,
        channel: v.channel,
        lane: v.lane,
        key: asset.get().key,
        voucher: Voucher::id(voucher),
        nonce: v.nonce,
        amount: v.cumulative.saturating_sub(before),
        offer: v.offer,
        why,
        taken: lane.nonce,
        at: tx.now,
    };
    Ok(Word::NotTaken(Signed::new(refusal, &tx.me()?.key).bytes().to_vec()))
}

/// Freezes a device that signed two vouchers for one place, in all its account's channels.
fn freeze(
    tx: &mut Tx<'_>,
    asset: &Signed<Asset>,
    account: AccountId,
    device: DeviceId,
    proof: &Contradiction,
) -> Result<(), Fail> {
    let id = Asset::id(asset);
    if is_frozen(tx, id, device)? {
        return Ok(());
    }
    let freeze = Freeze {
        version: VERSION,
        asset: id,
        account,
        lane: device,
        key: asset.get().key,
        at: tx.now,
        honoured_until: tx.now.saturating_add(FREEZE_GRACE),
        fraud: true,
    };
    let freeze = Signed::new(freeze, &tx.me()?.key);
    let at = Key::new().fixed(&id.0).fixed(&device.0);
    tx.put_raw(&FROZEN, &at, freeze.bytes().to_vec())?;
    for (key, _) in tx.scan(&CHANNELS_OPEN, &open_of(id, account), false, MAX_OPEN)? {
        let Some(channel) = last_id(&key) else { continue };
        if let Some(held) = lane(tx, channel, device)? {
            let frozen = held.freeze(&freeze, asset).map_err(Fail::peer)?;
            tx.put(&LANES, &lane_key(channel, device), &frozen)?;
        }
    }
    wallet::keep_evidence(tx, proof)?;
    let text = "A customer's device signed two payments for one place: the proof is kept, and it \
                pays by orders only.";
    Ok(tx.alarm(text.to_owned())?)
}

fn open_of(asset: AssetId, account: AccountId) -> KeyRange {
    KeyRange::prefix(&Key::new().fixed(&asset.0).fixed(&account.0))
}

fn last_id(key: &[u8]) -> Option<ChannelId> {
    key.last_chunk::<32>().copied().map(ChannelId)
}

/// Settles a channel, once: what its lanes owe is the payee's, the rest goes back.
pub(super) fn settle(tx: &mut Tx<'_>, id: ChannelId) -> Result<(), Fail> {
    let Some(row) = channel(tx, id)? else { return Ok(()) };
    if row.settled.is_some() {
        return Ok(());
    }
    let Some(asset) = issued(tx, row.asset)? else { return Ok(()) };
    // Invariant: no lane owes more than its cap, and the caps add up to the capacity at most.
    let owed: u64 = lanes(tx, id)?.iter().map(|lane| lane.owed().min(lane.cap)).sum();
    let rest = row.capacity.checked_sub(owed).ok_or_else(|| Fail::peer("more than reserved"))?;
    let pending = TransferId::of("channel", &[&id.0]);
    let what = match owed {
        0 => What::Void { pending },
        _ => What::Post { pending, amount: u128::from(owed) },
    };
    let transfer = Transfer { id: TransferId::of("settled", &[&id.0]), code: SETTLED, what };
    if let Err(why) = post(tx, &[transfer])? {
        return Err(Fail::peer(why));
    }
    let of = Key::new().fixed(&row.asset.0).fixed(&row.payer.0).fixed(&id.0);
    tx.del(&CHANNELS_OPEN, &of)?;
    tx.del(&CHANNEL_TIMES, &Key::new().u64(row.expires).fixed(&id.0))?;
    let to = Some(asset.get().issuer);
    if owed > 0 {
        enter(tx, &asset, row.payer, (EntryKind::Spent, owed, to, id.0))?;
    }
    if rest > 0 {
        enter(tx, &asset, row.payer, (EntryKind::Released, rest, to, id.0))?;
    }
    let settled = Some((tx.now, owed));
    Ok(tx.put(&CHANNELS, &id.0, &ChannelRow { settled, ..row })?)
}

/// Settles the open channels of an account, or all, oldest id first; at most [`MAX_SETTLED`].
pub(super) fn settle_all(tx: &mut Tx<'_>, account: Option<AccountId>) -> Result<(), Fail> {
    let ids = open_channels(tx, account, None, MAX_SETTLED)?;
    ids.into_iter().try_for_each(|id| settle(tx, id))
}

/// Open channels, of an account or all, in the order of their rows: after one, at most so many.
pub(super) fn open_channels(
    read: &dyn Read,
    account: Option<AccountId>,
    after: Option<ChannelId>,
    most: usize,
) -> Result<Vec<ChannelId>, StorageError> {
    let assets = read.scan(&super::tables::ISSUED, &KeyRange::all(), false, 64)?;
    let mut out = Vec::new();
    let mut skip = after;
    for (asset, _) in assets {
        let prefix = match account {
            Some(account) => [&asset[..], &account.0].concat(),
            None => asset,
        };
        // The place to go on is found by the row of the channel, which names its account.
        let mut range = KeyRange::prefix(&prefix);
        if let Some(id) = skip
            && let Some(row) = channel(read, id)?
        {
            if !prefix.starts_with(&row.asset.0) {
                continue;
            }
            let at = Key::new().fixed(&row.asset.0).fixed(&row.payer.0).fixed(&id.0);
            range = range.after(&at);
            skip = None;
        }
        let rows = read.scan(&CHANNELS_OPEN, &range, false, most.saturating_sub(out.len()))?;
        out.extend(rows.iter().filter_map(|(key, _)| last_id(key)));
    }
    Ok(out)
}

/// Settles channels whose time is up.
pub(super) fn expire(tx: &mut Tx<'_>) -> Result<(), Fail> {
    for (key, _) in tx.scan(&CHANNEL_TIMES, &KeyRange::all(), false, MAX_SETTLED)? {
        let mut reader = KeyReader::new(&CHANNEL_TIMES, &key);
        if reader.u64()? > tx.now {
            break;
        }
        settle(tx, ChannelId(reader.fixed()?))?;
    }
    Ok(())
}

/// Where a device's lane stands, with the credits after a sum.
pub(super) fn lane_of(
    tx: &Tx<'_>,
    id: ChannelId,
    row: &ChannelRow,
    device: DeviceId,
    (nonce, credited): ([u8; 16], u64),
) -> Result<Answer, Not> {
    let Some(held) = lane(tx, id, device)? else { return Ok(Answer::Unknown) };
    let taken: Option<VoucherRow> = tx.typed(&VOUCHERS, &voucher_key(id, device, held.nonce))?;
    let taken = match taken {
        Some(row) => Some(row.voucher.try_into().map_err(Fail::peer)?),
        None => None,
    };
    let prefix = lane_key(id, device);
    let range = KeyRange::prefix(&prefix).after(&voucher_key(id, device, credited));
    let rows = tx.scan(&CREDITS, &range, false, MAX_CREDITS + 1)?;
    let more = rows.len() > MAX_CREDITS;
    let credits: Vec<_> =
        rows.into_iter().take(MAX_CREDITS).filter_map(|(_, b)| b.try_into().ok()).collect();
    let (credits, settled) = (capped(credits), row.settled.is_some());
    Ok(Answer::Lane { nonce, channel: id, taken, credits, more, settled })
}

/// A voucher that was taken, by its id.
pub(super) fn taken(
    read: &dyn Read,
    id: VoucherId,
) -> Result<Option<(Vec<u8>, VoucherRow)>, StorageError> {
    let Some(at) = read.get(&VOUCHER_IDS, &id.0)? else { return Ok(None) };
    let row: Option<VoucherRow> = read.get_typed(&VOUCHERS, &at)?;
    Ok(row.map(|row| (at, row)))
}

/// Gives back of what a voucher paid, once for each number. Of an open channel it is only
/// counted; of one that was settled it moves.
pub(super) fn refund(
    tx: &mut Tx<'_>,
    id: VoucherId,
    amount: Option<u64>,
    memo: &str,
    number: [u8; 16],
) -> Result<(), Fail> {
    let none = || command::Refusal::NotFound { what: "order".into() };
    let (at, row) = taken(tx, id)?.ok_or_else(none)?;
    let numbered = Key::new().fixed(&id.0).fixed(&number);
    if let Some(before) = tx.typed::<u64>(&VOUCHER_REFUNDS, &numbered)? {
        let same = amount.is_none_or(|n| n == before);
        return if same { Ok(()) } else { Err(invalid("this number was used for another amount")) };
    }
    if !matches!(row.word, Word::Taken(_)) {
        return Err(invalid("this order was not paid"));
    }
    if tx.count(&VOUCHER_REFUNDS, &KeyRange::prefix(&id.0), MAX_REFUNDS)? == MAX_REFUNDS {
        let (what, max) = ("refunds of one order".into(), MAX_REFUNDS as u64);
        return Err(command::Refusal::Limit { what, max }.into());
    }
    let amount = amount.unwrap_or(row.paid.left());
    if amount == 0 {
        return Err(invalid("nothing is left to give back"));
    }
    let mut reader = KeyReader::new(&VOUCHERS, &at);
    let (channel_id, device) = (ChannelId(reader.fixed()?), DeviceId(reader.fixed()?));
    let missing = || StorageError::corrupt(LANES.name, "a lane is missing");
    let held = lane(tx, channel_id, device)?.ok_or_else(missing)?;
    let of = channel(tx, channel_id)?.ok_or_else(missing)?;
    let asset = issuer::required(tx, of.asset)?;
    let (lane, paid) = held
        .credit(row.cumulative, &row.paid, amount)
        .map_err(|e| invalid(&e.refusal().to_string()))?;
    let memo = memo.try_into().map_err(|_| invalid("a note has at most 140 bytes"))?;
    let credit = credit(tx, &asset, &lane, (id, row.offer), CreditReason::Refund(memo))?;
    tx.put(&LANES, &lane_key(channel_id, device), &lane)?;
    let (offer, refunded) = (row.offer, paid.refunded);
    tx.put(&VOUCHERS, &at, &VoucherRow { paid, ..row })?;
    functions::refunded(tx, offer, refunded)?;
    tx.put(&VOUCHER_REFUNDS, &numbered, &amount)?;
    if of.settled.is_some() {
        let movement = moves(key(of.asset, TAKINGS, [0; 32]), holder(of.asset, of.payer), amount);
        let transfer = Transfer {
            id: TransferId::of("credited", &[&credit.id()]),
            code: CREDITED,
            what: What::Move(movement),
        };
        if let Err(why) = post(tx, &[transfer])? {
            return Err(invalid(&why.to_string()));
        }
        let to = Some(asset.get().issuer);
        enter(tx, &asset, of.payer, (EntryKind::RefundReceived, amount, to, id.0))?;
    }
    // A hint besides: the device asks for what it lacks whenever it is met.
    let answer = Answer::Credited(credit.bytes().to_vec().try_into().map_err(Fail::peer)?);
    let reply = PayReply { version: VERSION, id: 0, head: None, answer };
    service::say(tx, device, &PayFrame::Reply(Box::new(reply)))
}

/// What a voucher paid for was handed over.
pub(super) fn fulfil(tx: &mut Tx<'_>, id: VoucherId) -> Result<(), Fail> {
    let none = || command::Refusal::NotFound { what: "order".into() };
    let (at, row) = taken(tx, id)?.ok_or_else(none)?;
    if !matches!(row.word, Word::Taken(_)) {
        return Err(invalid("this order was not paid"));
    }
    shop::close(tx, row.offer, OfferState::Fulfilled)?;
    Ok(tx.put(&VOUCHERS, &at, &VoucherRow { fulfilled: true, ..row })?)
}

/// The signed credits of a voucher.
pub(super) fn credits(read: &dyn Read, id: VoucherId) -> Result<Vec<Vec<u8>>, StorageError> {
    let Some(at) = read.get(&VOUCHER_IDS, &id.0)? else { return Ok(Vec::new()) };
    let prefix = at.get(..64).unwrap_or_default();
    let rows = read.scan(&CREDITS, &KeyRange::prefix(prefix), true, 256)?;
    Ok(rows
        .into_iter()
        .map(|(_, bytes)| bytes)
        .filter(|b| Signed::<Credit>::from_bytes(b).is_ok_and(|c| c.get().voucher == id))
        .collect())
}
