//! Random values of every form of money, each within its type's rules.

use proptest::prelude::*;
use teahouse_protocols::codec::{Bytes, List};
use teahouse_protocols::ids::{AccountId, DeviceId, Millis, VoucherId};
use teahouse_protocols::pay::frames::OfferState;
use teahouse_protocols::pay::{
    Answer, Ask, Asset, CHANNEL_LIFE, Channel, ChannelRequest, Credit, CreditReason, Currency,
    Entry, EntryKind, Equivocation, Evidence, FREEZE_GRACE, FraudProof, Freeze, FreezeRequest,
    Grant, Item, MAX_ITEMS, MAX_LANES, MAX_OFFER_LIFE, MAX_ORDER_LIFE, Offer, Outcome, PayReply,
    PayRequest, PaymentOrder, Product, Receipt, Refund, Refusal, Release, SETTLE_TIME,
    StatementHead, VERSION, Verdict, Voucher, VoucherAck, VoucherRefusal,
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
    prop::sample::select(Refusal::ALL.to_vec())
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
    (who, text(), some(), list(relay()), list(bytes())).prop_map(
        |((asset, (currency, exponent), payee, product), title, price, relays, proof)| Product {
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
            proof,
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
        refusal().prop_map(Verdict::Refused)
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
    (ids(), ids(), ids(), 1..=u32::MAX, some(), text(), number()).prop_map(
        |(asset, order, payee, number, refunded, memo, at)| Refund {
            version: VERSION,
            asset,
            order,
            payee,
            key: me(),
            number,
            refunded,
            memo,
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
    let keys = (ids(), ids(), prop::option::of(ids()), any::<[u8; 16]>());
    (keys, two(), lanes(), span(MAX_ORDER_LIFE)).prop_map(
        |((asset, payee_key, renews, nonce), (account, payee), (capacity, lanes), times)| {
            ChannelRequest {
                version: VERSION,
                asset,
                account,
                device: me(),
                payee,
                payee_key,
                renews,
                capacity,
                lanes,
                nonce,
                made: times.0,
                expires: times.1,
            }
        },
    )
}

pub(crate) fn channel() -> impl Strategy<Value = Channel> {
    let which = (ids(), 1..=u32::MAX, ids(), ids(), ids());
    (which, two(), lanes(), span(CHANNEL_LIFE), 1..=SETTLE_TIME).prop_map(
        |((id, epoch, request, asset, payee_key), (payer, payee), (capacity, lanes), t, settle)| {
            Channel {
                version: VERSION,
                id,
                epoch,
                request: if epoch == 1 { id } else { request },
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
            }
        },
    )
}

pub(crate) fn voucher() -> impl Strategy<Value = Voucher> {
    (ids(), any::<u32>(), some(), some(), ids(), ids(), span(MAX_ORDER_LIFE)).prop_map(
        |(channel, epoch, a, b, offer, prev, (made, expires))| {
            let (nonce, cumulative) = (a.min(b), a.max(b));
            let prev = if nonce == 1 { VoucherId([0; 32]) } else { prev };
            Voucher {
                version: VERSION,
                channel,
                epoch,
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
    (ids(), any::<u32>(), ids(), ids(), (some(), some()), ids(), number()).prop_map(
        |(channel, epoch, lane, voucher, (nonce, amount), offer, at)| VoucherAck {
            version: VERSION,
            channel,
            epoch,
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
    (ids(), any::<u32>(), ids(), ids(), refusal(), number(), number()).prop_map(
        |(channel, epoch, lane, voucher, why, taken, at)| VoucherRefusal {
            version: VERSION,
            channel,
            epoch,
            lane,
            key: me(),
            voucher,
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
    let sums = (1..=u32::MAX, number()).prop_map(|(n, sum)| (n, sum.max(n.into())));
    (ids(), any::<u32>(), ids(), sums, (ids(), ids()), reason, number()).prop_map(
        |(channel, epoch, lane, (number, credited), (voucher, offer), reason, at)| Credit {
            version: VERSION,
            channel,
            epoch,
            lane,
            key: me(),
            number,
            credited,
            voucher,
            offer,
            reason,
            at,
        },
    )
}

pub(crate) fn freeze_request() -> impl Strategy<Value = FreezeRequest> {
    (ids(), any::<u32>(), ids(), number()).prop_map(|(channel, epoch, lane, made)| FreezeRequest {
        version: VERSION,
        channel,
        epoch,
        lane,
        device: me(),
        made,
    })
}

pub(crate) fn freeze() -> impl Strategy<Value = Freeze> {
    (ids(), any::<u32>(), ids(), span(FREEZE_GRACE), any::<bool>()).prop_map(
        |(channel, epoch, lane, (at, honoured_until), fraud)| Freeze {
            version: VERSION,
            channel,
            epoch,
            lane,
            key: me(),
            at,
            honoured_until,
            fraud,
        },
    )
}

pub(crate) fn release() -> impl Strategy<Value = Release> {
    (ids(), any::<u32>(), number()).prop_map(|(channel, epoch, at)| Release {
        version: VERSION,
        channel,
        epoch,
        key: me(),
        at,
    })
}

pub(crate) fn statement_head() -> impl Strategy<Value = StatementHead> {
    (ids(), ids(), some(), any::<[u8; 32]>(), number(), number(), number()).prop_map(
        |(asset, holder, number, chain, balance, pending, at)| StatementHead {
            version: VERSION,
            asset,
            key: me(),
            holder,
            number,
            chain,
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

pub(crate) fn fraud_proof() -> impl Strategy<Value = FraudProof> {
    (bytes(), bytes()).prop_map(|(first, second)| FraudProof { version: VERSION, first, second })
}

pub(crate) fn equivocation() -> impl Strategy<Value = Equivocation> {
    (bytes(), bytes()).prop_map(|(first, second)| Equivocation { version: VERSION, first, second })
}

pub(crate) fn pay_request() -> impl Strategy<Value = PayRequest> {
    let shown = (bytes(), prop::option::of(bytes()), prop::option::of(bytes()));
    let nonce = any::<[u8; 16]>;
    let ask = prop_oneof![
        grant().prop_map(|grant| Ask::Hello { grant }),
        (nonce(), 1..=u32::MAX, text()).prop_map(|(product, quantity, note)| Ask::Offer {
            product,
            quantity,
            note
        }),
        bytes().prop_map(Ask::Pay),
        bytes().prop_map(Ask::Open),
        bytes().prop_map(Ask::Voucher),
        (ids(), number()).prop_map(|(asset, after)| Ask::Statement { asset, after }),
        nonce().prop_map(|nonce| Ask::OrderOf { nonce }),
        (ids(), any::<u32>(), some()).prop_map(|(channel, epoch, nonce)| Ask::VoucherOf {
            channel,
            epoch,
            nonce
        }),
        ids().prop_map(|offer| Ask::OfferOf { offer }),
        (ids(), some(), nonce(), text()).prop_map(|(asset, amount, nonce, note)| Ask::TopUp {
            asset,
            amount,
            nonce,
            note
        }),
        bytes().prop_map(Ask::Freeze),
        fraud_proof().prop_map(|proof| Ask::Fraud(Box::new(proof))),
        shown.prop_map(|(voucher, credit, ack)| Ask::Settle {
            voucher: Some(voucher),
            credit,
            ack
        }),
        bytes().prop_map(Ask::Refund),
        bytes().prop_map(Ask::Release),
    ];
    (number(), ask).prop_map(|(id, ask)| PayRequest { version: VERSION, id, ask })
}

fn entries() -> impl Strategy<Value = Answer> {
    (prop::collection::vec(entry(), 0..4), 2..u64::MAX - 4, any::<bool>()).prop_map(
        |(mut entries, from, more)| {
            entries.retain(|e| e.number > 1);
            for (entry, number) in entries.iter_mut().zip(from..) {
                entry.number = number;
            }
            Answer::Statement { entries: entries.try_into().unwrap(), more }
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
    let hello = (grant(), prop::collection::vec(bytes(), 0..3));
    let answer = prop_oneof![
        hello.prop_map(|(grant, assets)| Answer::Hello {
            grant,
            assets: assets.try_into().unwrap()
        }),
        bytes().prop_map(Answer::Offer),
        bytes().prop_map(Answer::Outcome),
        bytes().prop_map(Answer::Channel),
        bytes().prop_map(Answer::Acked),
        bytes().prop_map(Answer::Credited),
        bytes().prop_map(Answer::VoucherRefused),
        entries(),
        prop::sample::select(states).prop_map(Answer::OfferIs),
        Just(Answer::Noted),
        bytes().prop_map(Answer::Frozen),
        (number(), any::<u32>()).prop_map(|(nonce, credits)| Answer::Settled { nonce, credits }),
        Just(Answer::Done),
        Just(Answer::Unknown),
        refusal().prop_map(Answer::Refused),
    ];
    let head: BoxedStrategy<Option<Bytes<_>>> = prop::option::of(bytes()).boxed();
    (number(), head, answer).prop_map(|(id, head, answer)| PayReply {
        version: VERSION,
        id,
        head,
        answer,
    })
}
