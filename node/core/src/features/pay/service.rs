//! Questions and answers: an issuer answers wallets, a wallet takes in what issuers say.
//!
//! Whoever speaks for an account shows its log; the account's engine keeps it for holders, so
//! that a device that was revoked anywhere is refused here once anybody has shown it.

use teahouse_protocols::account::AccountRecord;
use teahouse_protocols::card::ContactCard;
use teahouse_protocols::codec;
use teahouse_protocols::ids::{AccountId, AssetId, DeviceId, Millis, OrderId};
use teahouse_protocols::inbox::AccountPack;
use teahouse_protocols::pay::frames::{Log, MAX_ENTRIES, SERVICE as NUMBER};
use teahouse_protocols::pay::{
    Answer, Ask, ChannelRequest, Entry, Grant, Offer, PayFrame, PayReply, PayRequest, PaymentOrder,
    Refusal, TransferAnswer, VERSION, Voucher,
};
use teahouse_protocols::sign::{Signable, Signed, hash};

use super::issuer::{self, Not};
use super::tables::{
    CHANNEL_TIMES, ENTRIES, ISSUED, OFFER_TIMES, OFFERS, OfferRow, OrderState, Word,
};
use super::{channels, shop, wallet};
use crate::engine::accounts;
use crate::features::services::{self, Prepared, Service};
use crate::ledger::LEDGER_PENDING_BY_TIME;
use crate::store::{Key, KeyRange, KeyReader, Read, ReadExt, StorageError, Table};
use crate::tx::{Fail, Tx, capped};

pub(super) const SERVICE: Service =
    Service { number: NUMBER, prepare, take, met: wallet::met, tend, wanted: wallet::wanted };

/// A frame whose signed parts were checked.
enum Frame {
    Pay { id: u64, log: Log, order: Box<Signed<PaymentOrder>>, offer: Option<Box<Signed<Offer>>> },
    Transfer { id: u64, log: Log, answer: Box<Signed<TransferAnswer>> },
    Channel { id: u64, log: Log, request: Box<Signed<ChannelRequest>> },
    Voucher { id: u64, log: Log, voucher: Box<Signed<Voucher>>, offer: Box<Signed<Offer>> },
    Other(Box<PayRequest>),
    Reply(Box<wallet::Heard>),
}

fn prepare(read: &dyn Read, bytes: &[u8]) -> Option<Prepared> {
    let frame = match codec::decode::<PayFrame>(bytes).ok()? {
        PayFrame::Reply(reply) => Frame::Reply(Box::new(wallet::Heard::check(*reply)?)),
        PayFrame::Request(request) => {
            let PayRequest { version, id, ask } = *request;
            match ask {
                Ask::Pay { log, order, offer } => {
                    let offer = match offer {
                        Some(bytes) => Some(Box::new(offer_of(read, &bytes)?)),
                        None => None,
                    };
                    let order = Box::new(Signed::from_bytes(&order).ok()?);
                    Frame::Pay { id, log, order, offer }
                }
                Ask::Transfer { log, answer } => {
                    Frame::Transfer { id, log, answer: Box::new(Signed::from_bytes(&answer).ok()?) }
                }
                Ask::Channel { log, request } => {
                    let request = Box::new(Signed::from_bytes(&request).ok()?);
                    Frame::Channel { id, log, request }
                }
                Ask::Voucher { log, voucher, offer } => {
                    let offer = Box::new(offer_of(read, &offer)?);
                    let voucher = Box::new(Signed::from_bytes(&voucher).ok()?);
                    Frame::Voucher { id, log, voucher, offer }
                }
                ask => Frame::Other(Box::new(PayRequest { version, id, ask })),
            }
        }
    };
    Some(Box::new(frame))
}

/// An offer that comes back: one that this device keeps was signed here, and is known by its
/// bytes.
fn offer_of(read: &dyn Read, bytes: &[u8]) -> Option<Signed<Offer>> {
    let id = hash(<Offer as Signable>::DOMAIN, &[bytes]);
    match read.get_typed::<OfferRow>(&OFFERS, &id) {
        Ok(Some(own)) if own.offer == bytes => Signed::from_stored(bytes, &id).ok(),
        _ => Signed::from_bytes(bytes).ok(),
    }
}

fn take(tx: &mut Tx<'_>, from: DeviceId, prepared: Prepared) -> Result<(), Fail> {
    let Ok(frame) = prepared.downcast::<Frame>() else { return Ok(()) };
    match *frame {
        Frame::Reply(heard) => wallet::hear(tx, from, *heard),
        Frame::Pay { id, log, order, offer } => {
            let (asset, account) = (order.get().asset, order.get().account);
            // The one that signed is the one that speaks: others have nothing to say here.
            let answer = if order.get().device == from {
                acts(tx, from, account, log)
                    .and_then(|()| issuer::pay(tx, &order, offer.as_deref()))
                    .and_then(|outcome| {
                        Ok(Answer::Outcome(outcome.try_into().map_err(Fail::peer)?))
                    })
            } else {
                Err(Refusal::NotYourDevice.into())
            };
            reply(tx, from, id, Some((asset, account)), answer)
        }
        Frame::Transfer { id, log, answer: word } => {
            let (asset, account) = (word.get().asset, word.get().account);
            let answer = if word.get().device == from {
                acts(tx, from, account, log)
                    .and_then(|()| issuer::answer(tx, &word))
                    .map(|()| Answer::Done)
            } else {
                Err(Refusal::NotYourDevice.into())
            };
            reply(tx, from, id, Some((asset, account)), answer)
        }
        Frame::Channel { id, log, request } => {
            let (asset, account) = (request.get().asset, request.get().account);
            let answer = if request.get().device == from {
                acts(tx, from, account, log).and_then(|()| channels::open(tx, &request)).and_then(
                    |channel| {
                        let channel = Box::new(channel.try_into().map_err(Fail::peer)?);
                        Ok(Answer::Channel(channel))
                    },
                )
            } else {
                Err(Refusal::NotYourDevice.into())
            };
            reply(tx, from, id, Some((asset, account)), answer)
        }
        Frame::Voucher { id, log, voucher, offer } => {
            let answer = if voucher.get().lane == from {
                pay_out(tx, from, log, &voucher, &offer)
            } else {
                Err(Refusal::NotYourDevice.into())
            };
            reply(tx, from, id, None, answer)
        }
        Frame::Other(request) => other(tx, from, *request),
    }
}

/// Pays out of a channel.
fn pay_out(
    tx: &mut Tx<'_>,
    from: DeviceId,
    log: Log,
    voucher: &Signed<Voucher>,
    offer: &Signed<Offer>,
) -> Result<Answer, Not> {
    let row = channels::channel(tx, voucher.get().channel)?.ok_or(Refusal::UnknownChannel)?;
    acts(tx, from, row.payer, log)?;
    Ok(match channels::voucher(tx, &row, voucher, offer)? {
        Word::Taken(ack) => Answer::Taken(ack.try_into().map_err(Fail::peer)?),
        Word::Credited(credit) => Answer::Credited(credit.try_into().map_err(Fail::peer)?),
        Word::NotTaken(refusal) => Answer::NotTaken(refusal.try_into().map_err(Fail::peer)?),
    })
}

fn other(tx: &mut Tx<'_>, from: DeviceId, request: PayRequest) -> Result<(), Fail> {
    let id = request.id;
    if let Ask::Waiting { asset, grant, relays, order, outcome } = request.ask {
        return wallet::waiting(tx, from, &asset, &grant, relays.into_inner(), &order, &outcome);
    }
    // Who issues nothing says nothing about money: it isn't asked for by those who know.
    if !issuer::any(tx)? {
        return reply(tx, from, id, None, Err(Refusal::UnknownAsset.into()));
    }
    match request.ask {
        Ask::Money => {
            let answer = money(tx)?;
            reply(tx, from, id, None, Ok(answer))
        }
        Ask::Offer { nonce, lines, note } => {
            let answer = shop::offer(tx, from, nonce, &lines, &note).and_then(|offer| {
                let offer = Box::new(offer.try_into().map_err(Fail::peer)?);
                Ok(Answer::Offer { nonce, offer })
            });
            reply(tx, from, id, None, answer)
        }
        Ask::Statement { account, log, asset, after } => {
            let answer =
                acts(tx, from, account, log).and_then(|()| statement(tx, asset, account, after));
            reply(tx, from, id, Some((asset, account)), answer)
        }
        Ask::OrderOf { account, log, order } => {
            let answer = acts(tx, from, account, log).and_then(|()| order_of(tx, account, order));
            reply(tx, from, id, None, answer)
        }
        Ask::OfferOf { offer } => {
            let row: Option<OfferRow> = tx.typed(&OFFERS, &offer.0)?;
            let row = row.filter(|row| row.device == from);
            let answer = row.map_or(Answer::Unknown, |row| Answer::OfferIs(row.state));
            reply(tx, from, id, None, Ok(answer))
        }
        Ask::Lane { log, channel, nonce, credited } => {
            let answer = match channels::channel(tx, channel)? {
                Some(row) => acts(tx, from, row.payer, log)
                    .and_then(|()| channels::lane_of(tx, channel, &row, from, (nonce, credited))),
                None => Ok(Answer::Unknown),
            };
            reply(tx, from, id, None, answer)
        }
        Ask::Settle { log, channel } => {
            let Some(row) = channels::channel(tx, channel)? else {
                return reply(tx, from, id, None, Err(Refusal::UnknownChannel.into()));
            };
            let holder = Some((row.asset, row.payer));
            let answer = acts(tx, from, row.payer, log)
                .and_then(|()| Ok(channels::settle(tx, channel)?))
                .map(|()| Answer::Done);
            reply(tx, from, id, holder, answer)
        }
        // Prepared apart, or answered above.
        Ask::Pay { .. }
        | Ask::Transfer { .. }
        | Ask::Waiting { .. }
        | Ask::Channel { .. }
        | Ask::Voucher { .. } => Ok(()),
    }
}

/// Whether a connected device may speak for an account, by all that is known of its log. The
/// log is kept of holders only: strangers leave nothing here.
fn acts(tx: &mut Tx<'_>, from: DeviceId, account: AccountId, log: Log) -> Result<(), Not> {
    if !issuer::holds(tx, account)? {
        return Err(Refusal::UnknownHolder.into());
    }
    // Signatures that are known to hold need no second look.
    let known = accounts::log(tx, account)?;
    let news = log.iter().any(|bytes| {
        let id = hash(<AccountRecord as Signable>::DOMAIN, &[bytes]);
        known.as_ref().is_none_or(|log| log.get(&id.into()).is_none())
    });
    if news {
        let pack = AccountPack { records: capped(log.into_inner()), prekeys: capped(Vec::new()) };
        // Records that are refused change nothing: what is known decides.
        if let Err(Fail::Storage(e)) = accounts::learn(tx, &pack, &|a| *a == account) {
            return Err(e.into());
        }
    }
    let log = accounts::log(tx, account)?;
    if log.is_some_and(|log| !log.state().disputed && log.is_active(&from)) {
        return Ok(());
    }
    Err(Refusal::NotYourDevice.into())
}

/// Who this device is, and what it issues.
fn money(tx: &mut Tx<'_>) -> Result<Answer, Fail> {
    let grant = own_grant(tx)?;
    let mut assets = Vec::new();
    for (_, bytes) in tx.scan(&ISSUED, &KeyRange::all(), false, 8)? {
        assets.push(bytes.try_into().map_err(Fail::peer)?);
    }
    Ok(Answer::Money { grant, assets: capped(assets) })
}

/// Shows that this device is its account's.
pub(super) fn own_grant(tx: &mut Tx<'_>) -> Result<Grant, Fail> {
    let (account, device) = (tx.account()?, tx.me()?.device);
    let log = accounts::log(tx, account)?.ok_or_else(|| Fail::peer("no account log"))?;
    let records = ContactCard::proof_for(&log, &device).map_err(Fail::peer)?;
    Ok(Grant { account, device, records })
}

fn statement(tx: &Tx<'_>, asset: AssetId, account: AccountId, after: u64) -> Result<Answer, Not> {
    let held = issuer::holding(tx, asset, account)?.ok_or(Refusal::UnknownHolder)?;
    let prefix = Key::new().fixed(&asset.0).fixed(&account.0);
    let range = KeyRange::prefix(&prefix).after(&prefix.clone().u64(after));
    let rows: Vec<(Vec<u8>, Entry)> = tx.scan_typed(&ENTRIES, &range, false, MAX_ENTRIES)?;
    let entries: Vec<Entry> = rows.into_iter().map(|(_, entry)| entry).collect();
    let last = entries.last().map_or(after, |e| e.number);
    Ok(Answer::Statement { asset, entries: capped(entries), more: last < held.tally.number })
}

fn order_of(tx: &Tx<'_>, account: AccountId, id: OrderId) -> Result<Answer, Not> {
    let Some(row) = issuer::order(tx, id)? else { return Ok(Answer::Unknown) };
    let order = issuer::stored(id, &row)?;
    if order.get().account != account {
        return Ok(Answer::Unknown);
    }
    let fulfilled = matches!(row.state, OrderState::Paid { fulfilled: true, .. });
    let refunds = issuer::refunds(tx, id)?;
    let refunds = refunds.into_iter().filter_map(|r| r.try_into().ok()).collect();
    let outcome = row.outcome.try_into().map_err(Fail::peer)?;
    Ok(Answer::Order { outcome, fulfilled, refunds: capped(refunds) })
}

/// Answers. A storage error fails the input; any other failure is no answer at all, and what was
/// decided until then is dropped with the input.
fn reply(
    tx: &mut Tx<'_>,
    to: DeviceId,
    id: u64,
    holder: Option<(AssetId, AccountId)>,
    answer: Result<Answer, Not>,
) -> Result<(), Fail> {
    let (answer, known) = match answer {
        Ok(answer) => (answer, true),
        // Who may not speak for an account is not told its balance.
        Err(Not::Refused(why)) => (Answer::Refused(why), false),
        Err(Not::Fail(fail)) => return Err(fail),
    };
    let head = match holder.filter(|_| known) {
        Some((asset, account)) => issuer::head(tx, asset, account)?,
        None => None,
    };
    say(tx, to, &PayFrame::Reply(Box::new(PayReply { version: VERSION, id, head, answer })))
}

pub(super) fn say(tx: &mut Tx<'_>, to: DeviceId, frame: &PayFrame) -> Result<(), Fail> {
    services::say(tx, to, NUMBER, codec::encode(frame))
}

/// Tells a holder's connected devices that its statement grew.
pub(super) fn nudge(tx: &mut Tx<'_>, asset: AssetId, account: AccountId) -> Result<(), Fail> {
    let Some(head) = issuer::head(tx, asset, account)? else { return Ok(()) };
    for device in accounts::devices_of(tx, account)? {
        let reply =
            PayReply { version: VERSION, id: 0, head: Some(head.clone()), answer: Answer::Done };
        say(tx, device, &PayFrame::Reply(Box::new(reply)))?;
    }
    Ok(())
}

/// Says again what is not answered; ends offers and transfers whose time is up. When to look
/// again.
fn tend(tx: &mut Tx<'_>) -> Result<Option<Millis>, Fail> {
    wallet::follow_due(tx)?;
    let mut next = wallet::tend(tx)?;
    if !issuer::any(tx)? {
        return Ok(next);
    }
    shop::expire(tx)?;
    issuer::expire(tx)?;
    channels::expire(tx)?;
    for table in [&OFFER_TIMES, &LEDGER_PENDING_BY_TIME, &CHANNEL_TIMES] {
        if let Some(at) = first_time(tx, table)? {
            next = Some(next.map_or(at, |n| n.min(at)));
        }
    }
    Ok(next)
}

fn first_time(tx: &Tx<'_>, table: &'static Table) -> Result<Option<Millis>, StorageError> {
    let Some((key, _)) = tx.first(table, b"")? else { return Ok(None) };
    KeyReader::new(table, &key).u64().map(Some)
}
