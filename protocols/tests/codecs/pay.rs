//! Random values of every form of money, each within its type's rules.

use proptest::prelude::*;
use teahouse_protocols::codec::{Bytes, List};
use teahouse_protocols::ids::{AccountId, DeviceId, Millis, VoucherId};
use teahouse_protocols::pay::frames::{Log, OfferState};
use teahouse_protocols::pay::{
    Answer, Ask, Asset, CHANNEL_LIFE, Channel, ChannelRequest, Contradiction, Credit, CreditReason,
    Currency, Entry, EntryKind, Evidence, FREEZE_GRACE, Freeze, FreezeRequest, Grant, Item, Kind,
    Line, MAX_ITEMS, MAX_LANES, MAX_OFFER_LIFE, MAX_ORDER_LIFE, Offer, Outcome, PayReply,
    PayRequest, PaymentOrder, Product, Receipt, Refund, Refusal, Release, SETTLE_TIME,
    StatementHead, TransferAnswer, VERSION, Verdict, Voucher, VoucherAck, VoucherRefusal,
};

use crate::values::{bytes, ids, list, me, number, relay, text};

/// At least 1.
fn some() -> impl Strategy<Value = u64> {
    number().prop_map(|n| n.max(1))
}

/// From and until, at most so far apart.
fn span(longest: Millis) -> impl Strategy<Value = (Millis, Millis)> {
    (0..1_u64 << 60, 1..=longest).prop_map(|(from, life)| (from, from + life))
}

fn currency() -> impl Strategy<Value = (Currency, u8)> {
    prop_oneof![
        "[A-Z]{3}".prop_map(|code| {
            let currency = Currency::parse(&code).unwrap();
            (currency, currency.decimals().unwrap_or(8))
        }),
        Just((Currency::parse("EUR").unwrap(), 2)),
    ]
}

/// Two accounts.
fn two() -> impl Strategy<Value = (AccountId, AccountId)> {
    (ids::<AccountId>(), ids()).prop_filter("apart", |(a, b)| a != b)
}

fn refusal() -> impl Strategy<Value = Refusal> {
    any::<u8>().prop_map(Refusal::from)
}

/// One that may be signed.
fn final_refusal() -> impl Strategy<Value = Refusal> {
    refusal().prop_filter("passes", |r| !r.passes())
}

pub(crate) fn asset() -> impl Strategy<Value = Asset> {
    (ids(), currency(), text()).prop_map(|(issuer, (currency, exponent), name)| Asset {
        version: VERSION,
        issuer,
        key: me(),
        currency,
        exponent,
        name,
    })
}

fn items() -> impl Strategy<Value = (u64, List<Item, MAX_ITEMS>)> {
    let item = (text(), 1..=u32::MAX, 0..1_u64 << 28);
    let lines = prop::collection::vec(item, 1..4).prop_map(|lines| {
        let lines: Vec<Item> = lines
            .into_iter()
            .map(|(title, quantity, unit)| Item { title, quantity, unit: unit + 1 })
            .collect();
        let price = lines.iter().map(|i| u64::from(i.quantity) * i.unit).sum();
        (price, lines.try_into().unwrap())
    });
    prop_oneof![lines, some().prop_map(|price| (price, List::default()))]
}

pub(crate) fn offer() -> impl Strategy<Value = Offer> {
    let who = (ids(), any::<[u8; 16]>(), ids(), prop::option::of(ids()));
    (who, items(), text(), span(MAX_OFFER_LIFE)).prop_map(
        |((asset, order, payee, for_device), (price, items), title, (made, expires))| Offer {
            version: VERSION,
            asset,
            order,
            payee,
            key: me(),
            price,
            title,
            items,
            made,
            expires,
            for_device,
        },
    )
}

pub(crate) fn product() -> impl Strategy<Value = Product> {
    let who = (ids(), currency(), ids(), any::<[u8; 16]>());
    (who, text(), some(), (list(relay()), list(text())), list(bytes())).prop_map(
        |((asset, (currency, exponent), payee, product), title, price, (relays, addrs), proof)| {
            Product {
                version: VERSION,
                asset,
                currency,
                exponent,
                payee,
                key: me(),
                product,
                title,
                price,
                relays,
                addrs,
                proof,
            }
        },
    )
}

pub(crate) fn payment_order() -> impl Strategy<Value = PaymentOrder> {
    let what = (some(), prop::option::of(ids()), text(), any::<[u8; 16]>());
    (ids(), two(), what, span(MAX_ORDER_LIFE)).prop_map(
        |(asset, (account, to), (amount, offer, memo, nonce), (made, expires))| PaymentOrder {
            version: VERSION,
            asset,
            account,
            device: me(),
            to,
            amount,
            offer,
            memo,
            nonce,
            made,
            expires,
        },
    )
}

pub(crate) fn outcome() -> impl Strategy<Value = Outcome> {
    let verdict = prop_oneof![
        number().prop_map(|entry| Verdict::Paid { entry }),
        final_refusal().prop_map(Verdict::Refused),
        (number(), number()).prop_map(|(entry, until)| Verdict::Held { entry, until }),
    ];
    (ids(), ids(), verdict, number()).prop_map(|(asset, order, verdict, at)| Outcome {
        version: VERSION,
        asset,
        key: me(),
        order,
        verdict,
        at,
    })
}

pub(crate) fn refund() -> impl Strategy<Value = Refund> {
    (ids(), ids(), ids(), any::<[u8; 16]>(), some(), text(), number()).prop_map(
        |(asset, order, payee, nonce, amount, memo, at)| Refund {
            version: VERSION,
            asset,
            order,
            payee,
            key: me(),
            amount,
            nonce,
            memo,
            at,
        },
    )
}

pub(crate) fn transfer_answer() -> impl Strategy<Value = TransferAnswer> {
    (ids(), ids(), ids(), any::<bool>(), number()).prop_map(
        |(asset, order, account, accept, at)| TransferAnswer {
            version: VERSION,
            asset,
            order,
            account,
            device: me(),
            accept,
            at,
        },
    )
}

fn lanes() -> impl Strategy<Value = (u64, List<(DeviceId, u64), MAX_LANES>)> {
    let lanes = prop::collection::btree_map(ids(), 1..1_u64 << 60, 1..4);
    (lanes, 0..1_u64 << 60).prop_map(|(lanes, spare)| {
        let capacity = lanes.values().sum::<u64>() + spare;
        (capacity, lanes.into_iter().collect::<Vec<_>>().try_into().unwrap())
    })
}

pub(crate) fn channel_request() -> impl Strategy<Value = ChannelRequest> {
    let keys = (ids(), ids(), any::<[u8; 16]>());
    (keys, two(), lanes(), span(MAX_ORDER_LIFE)).prop_map(
        |((asset, payee_key, nonce), (account, payee), (capacity, lanes), times)| ChannelRequest {
            version: VERSION,
            asset,
            account,
            device: me(),
            payee,
            payee_key,
            capacity,
            lanes,
            nonce,
            made: times.0,
            expires: times.1,
        },
    )
}

pub(crate) fn channel() -> impl Strategy<Value = Channel> {
    let which = (ids(), ids(), ids());
    (which, two(), lanes(), span(CHANNEL_LIFE), 1..=SETTLE_TIME).prop_map(
        |((id, asset, payee_key), (payer, payee), (capacity, lanes), t, settle)| Channel {
            version: VERSION,
            id,
            asset,
            key: me(),
            payer,
            payee,
            payee_key,
            capacity,
            lanes,
            opened: t.0,
            expires: t.1,
            settle_by: t.1 + settle,
        },
    )
}

pub(crate) fn voucher() -> impl Strategy<Value = Voucher> {
    (ids(), some(), some(), ids(), ids(), span(MAX_ORDER_LIFE)).prop_map(
        |(channel, a, b, offer, prev, (made, expires))| {
            let (nonce, cumulative) = (a.min(b), a.max(b));
            let prev = if nonce == 1 { VoucherId([0; 32]) } else { prev };
            Voucher {
                version: VERSION,
                channel,
                lane: me(),
                nonce,
                cumulative,
                offer,
                prev,
                made,
                expires,
            }
        },
    )
}

pub(crate) fn voucher_ack() -> impl Strategy<Value = VoucherAck> {
    (ids(), ids(), ids(), (some(), some()), ids(), number()).prop_map(
        |(channel, lane, voucher, (nonce, amount), offer, at)| VoucherAck {
            version: VERSION,
            channel,
            lane,
            key: me(),
            voucher,
            nonce,
            amount,
            offer,
            at,
        },
    )
}

pub(crate) fn voucher_refusal() -> impl Strategy<Value = VoucherRefusal> {
    (ids(), ids(), ids(), (some(), some(), ids()), final_refusal(), number(), number()).prop_map(
        |(channel, lane, voucher, (nonce, amount, offer), why, taken, at)| VoucherRefusal {
            version: VERSION,
            channel,
            lane,
            key: me(),
            voucher,
            nonce,
            amount,
            offer,
            why,
            taken,
            at,
        },
    )
}

pub(crate) fn credit() -> impl Strategy<Value = Credit> {
    let reason = prop_oneof![
        refusal().prop_map(CreditReason::Refused),
        text().prop_map(CreditReason::Refund)
    ];
    (ids(), ids(), some(), (ids(), ids()), reason, number()).prop_map(
        |(channel, lane, credited, (voucher, offer), reason, at)| Credit {
            version: VERSION,
            channel,
            lane,
            key: me(),
            credited,
            voucher,
            offer,
            reason,
            at,
        },
    )
}

pub(crate) fn freeze_request() -> impl Strategy<Value = FreezeRequest> {
    (ids(), ids(), ids(), number()).prop_map(|(asset, account, lane, made)| FreezeRequest {
        version: VERSION,
        asset,
        account,
        lane,
        device: me(),
        made,
    })
}

pub(crate) fn freeze() -> impl Strategy<Value = Freeze> {
    (ids(), ids(), ids(), span(FREEZE_GRACE), any::<bool>()).prop_map(
        |(asset, account, lane, (at, honoured_until), fraud)| Freeze {
            version: VERSION,
            asset,
            account,
            lane,
            key: me(),
            at,
            honoured_until,
            fraud,
        },
    )
}

pub(crate) fn release() -> impl Strategy<Value = Release> {
    (ids(), number()).prop_map(|(channel, at)| Release { version: VERSION, channel, key: me(), at })
}

pub(crate) fn statement_head() -> impl Strategy<Value = StatementHead> {
    (ids(), ids(), some(), any::<([u8; 32], [u8; 32])>(), number(), number(), number()).prop_map(
        |(asset, holder, number, (chain, prev), balance, pending, at)| StatementHead {
            version: VERSION,
            asset,
            key: me(),
            holder,
            number,
            chain,
            prev: if number == 1 { [0; 32] } else { prev },
            balance,
            pending,
            at,
        },
    )
}

pub(crate) fn entry() -> impl Strategy<Value = Entry> {
    use EntryKind as K;
    let kinds = vec![
        K::ToppedUp,
        K::Withdrawn,
        K::Paid,
        K::Received,
        K::RefundReceived,
        K::RefundGiven,
        K::Reserved,
        K::Released,
        K::Spent,
        K::Unspent,
        K::Earned,
        K::Unearned,
    ];
    let other = prop::option::of(ids());
    let of = prop::option::of(any::<[u8; 32]>());
    (some(), prop::sample::select(kinds), some(), other, of, number()).prop_map(
        |(number, kind, amount, other, of, at)| {
            let (kind, amount) = if number == 1 { (K::Opened, 0) } else { (kind, amount) };
            Entry { number, kind, amount, other, of, at }
        },
    )
}

fn grant() -> impl Strategy<Value = Grant> {
    (ids(), ids(), list(bytes())).prop_map(|(account, device, records)| Grant {
        account,
        device,
        records,
    })
}

pub(crate) fn receipt() -> impl Strategy<Value = Receipt> {
    let evidence = prop_oneof![
        (bytes(), bytes()).prop_map(|(order, outcome)| Evidence::Order { order, outcome }),
        (bytes(), bytes(), bytes()).prop_map(|(channel, voucher, ack)| Evidence::Voucher {
            channel,
            voucher,
            ack
        }),
    ];
    (bytes(), prop::option::of(bytes()), evidence, prop::collection::vec(grant(), 0..=3)).prop_map(
        |(asset, offer, evidence, grants)| Receipt {
            version: VERSION,
            asset,
            offer,
            evidence,
            grants: grants.try_into().unwrap(),
        },
    )
}

pub(crate) fn contradiction() -> impl Strategy<Value = Contradiction> {
    let kinds = vec![Kind::Vouchers, Kind::Heads, Kind::Outcomes, Kind::Acks, Kind::AckAndRefusal];
    (prop::sample::select(kinds), bytes(), bytes())
        .prop_map(|(kind, first, second)| Contradiction { version: VERSION, kind, first, second })
}

fn log() -> impl Strategy<Value = Log> {
    prop::collection::vec(bytes(), 0..3).prop_map(|records| records.try_into().unwrap())
}

pub(crate) fn pay_request() -> impl Strategy<Value = PayRequest> {
    let nonce = any::<[u8; 16]>;
    let line = (nonce(), 1..=u32::MAX).prop_map(|(product, quantity)| Line { product, quantity });
    let lines = prop::collection::vec(line, 1..4);
    let offer = || prop::option::of(bytes().prop_map(Box::new));
    let waiting = (bytes(), grant(), list(relay()), bytes(), bytes());
    let ask = prop_oneof![
        Just(Ask::Money),
        (nonce(), lines, text()).prop_map(|(nonce, lines, note)| Ask::Offer {
            nonce,
            lines: lines.try_into().unwrap(),
            note
        }),
        (log(), bytes(), offer()).prop_map(|(log, order, offer)| Ask::Pay { log, order, offer }),
        (ids(), log(), ids(), number()).prop_map(|(account, log, asset, after)| {
            Ask::Statement { account, log, asset, after }
        }),
        (log(), bytes()).prop_map(|(log, answer)| Ask::Transfer { log, answer }),
        (ids(), log(), ids()).prop_map(|(account, log, order)| Ask::OrderOf {
            account,
            log,
            order
        }),
        ids().prop_map(|offer| Ask::OfferOf { offer }),
        waiting.prop_map(|(asset, grant, relays, order, outcome)| Ask::Waiting {
            asset,
            grant,
            relays,
            order,
            outcome
        }),
        (log(), bytes())
            .prop_map(|(log, request)| Ask::Channel { log, request: Box::new(request) }),
        (log(), bytes(), bytes()).prop_map(|(log, voucher, offer)| Ask::Voucher {
            log,
            voucher,
            offer: Box::new(offer)
        }),
        (log(), ids(), nonce(), number()).prop_map(|(log, channel, nonce, credited)| {
            Ask::Lane { log, channel, nonce, credited }
        }),
        (log(), ids()).prop_map(|(log, channel)| Ask::Settle { log, channel }),
    ];
    (number(), ask).prop_map(|(id, ask)| PayRequest { version: VERSION, id, ask })
}

fn entries() -> impl Strategy<Value = Answer> {
    (ids(), prop::collection::vec(entry(), 0..4), 2..u64::MAX - 4, any::<bool>()).prop_map(
        |(asset, mut entries, from, more)| {
            entries.retain(|e| e.number > 1);
            for (entry, number) in entries.iter_mut().zip(from..) {
                entry.number = number;
            }
            Answer::Statement { asset, entries: entries.try_into().unwrap(), more }
        },
    )
}

fn lane_answer() -> impl Strategy<Value = Answer> {
    let credits = prop::collection::vec(bytes(), 0..3);
    let said = (any::<bool>(), any::<bool>());
    (any::<[u8; 16]>(), ids(), prop::option::of(bytes()), credits, said).prop_map(
        |(nonce, channel, taken, credits, (more, settled))| Answer::Lane {
            nonce,
            channel,
            taken,
            credits: credits.try_into().unwrap(),
            more,
            settled,
        },
    )
}

pub(crate) fn pay_reply() -> impl Strategy<Value = PayReply> {
    let states = vec![
        OfferState::Open,
        OfferState::Paid,
        OfferState::Expired,
        OfferState::Withdrawn,
        OfferState::Fulfilled,
    ];
    let money = (grant(), prop::collection::vec(bytes(), 0..3));
    let order = (bytes(), any::<bool>(), prop::collection::vec(bytes(), 0..3));
    let answer = prop_oneof![
        money.prop_map(|(grant, assets)| Answer::Money {
            grant,
            assets: assets.try_into().unwrap()
        }),
        (any::<[u8; 16]>(), bytes())
            .prop_map(|(nonce, offer)| Answer::Offer { nonce, offer: Box::new(offer) }),
        bytes().prop_map(Answer::Outcome),
        entries(),
        order.prop_map(|(outcome, fulfilled, refunds)| Answer::Order {
            outcome,
            fulfilled,
            refunds: refunds.try_into().unwrap()
        }),
        prop::sample::select(states).prop_map(Answer::OfferIs),
        Just(Answer::Done),
        Just(Answer::Unknown),
        refusal().prop_map(Answer::Refused),
        bytes().prop_map(|channel| Answer::Channel(Box::new(channel))),
        bytes().prop_map(Answer::Taken),
        bytes().prop_map(Answer::Credited),
        bytes().prop_map(Answer::NotTaken),
        lane_answer(),
    ];
    let head: BoxedStrategy<Option<Bytes<_>>> = prop::option::of(bytes()).boxed();
    (number(), head, answer).prop_map(|(id, head, answer)| PayReply {
        version: VERSION,
        id,
        head,
        answer,
    })
}
