//! Money: every signed form, proofs, receipts, requests and replies.

use teahouse_protocols::account::AccountLog;
use teahouse_protocols::card::ContactCard;
use teahouse_protocols::codec::{Text, encode};
use teahouse_protocols::ids::{AccountId, DeviceId, Millis, VoucherId};
use teahouse_protocols::link;
use teahouse_protocols::pay::frames::{Log, OfferState};
use teahouse_protocols::pay::{
    Answer, Ask, Asset, Channel, ChannelRequest, Contradiction, Credit, CreditReason, Currency,
    Entry, EntryKind, Freeze, FreezeRequest, Grant, Item, Line, Offer, Outcome, PayReply,
    PayRequest, PaymentOrder, Product, Receipt, Refund, Refusal, Release, StatementHead, Tally,
    TransferAnswer, VERSION, Verdict, VerifiedProduct, Voucher, VoucherAck, VoucherRefusal, amount,
};
use teahouse_protocols::sign::{Signable, Signed};

use crate::json::{Node, fields, hex, node};
use crate::samples::{self, add, device, key, list, relay, root, text};
use crate::suite::{Suite, variant};

const NOW: Millis = 1_790_000_000_000;
const HOUR: Millis = 3_600_000;

/// A tea stall that issues its own balance: root 5, device 6. Its customer is the sample
/// account: root 1, device 2.
fn stall() -> AccountLog {
    let mut log = AccountLog::create(&key(5), [0x55; 16]);
    log.append(&key(5), root(5), add(log.account(), 6, "till")).unwrap();
    log
}

fn customer() -> AccountId {
    samples::account().account()
}

fn grant(log: &AccountLog, n: u8) -> Grant {
    let records = ContactCard::proof_for(log, &device(n)).unwrap();
    Grant { account: log.account(), device: device(n), records }
}

fn grants() -> Vec<Grant> {
    vec![grant(&stall(), 6), grant(&samples::account(), 2)]
}

fn asset() -> Asset {
    Asset {
        version: VERSION,
        issuer: stall().account(),
        key: device(6),
        currency: Currency::parse("CNY").unwrap(),
        exponent: 2,
        name: text("老街茶馆"),
    }
}

fn signed_asset() -> Signed<Asset> {
    Signed::new(asset(), &key(6))
}

fn offer() -> Offer {
    let item = |title: &str, quantity, unit| Item { title: text(title), quantity, unit };
    Offer {
        version: VERSION,
        asset: Asset::id(&signed_asset()),
        order: [0x0d; 16],
        payee: stall().account(),
        key: device(6),
        price: 1_350,
        title: text("早餐"),
        items: list([item("乌龙茶", 2, 500), item("油条", 1, 350)]),
        made: NOW,
        expires: NOW + HOUR,
        for_device: None,
    }
}

fn signed_offer() -> Signed<Offer> {
    Signed::new(offer(), &key(6))
}

fn product() -> Product {
    Product {
        version: VERSION,
        asset: Asset::id(&signed_asset()),
        currency: asset().currency,
        exponent: 2,
        payee: stall().account(),
        key: device(6),
        product: [0x9d; 16],
        title: text("油条"),
        price: 350,
        relays: list([relay()]),
        addrs: list([text("/ip4/203.0.113.7/udp/4001/quic-v1")]),
        proof: ContactCard::proof_for(&stall(), &device(6)).unwrap(),
    }
}

fn order() -> PaymentOrder {
    PaymentOrder {
        version: VERSION,
        asset: Asset::id(&signed_asset()),
        account: customer(),
        device: device(2),
        to: stall().account(),
        amount: 1_350,
        offer: Some(Offer::id(&signed_offer())),
        memo: text("少糖"),
        nonce: [0x0e; 16],
        made: NOW,
        expires: NOW + HOUR,
    }
}

fn signed_order() -> Signed<PaymentOrder> {
    Signed::new(order(), &key(2))
}

fn outcome() -> Outcome {
    Outcome {
        version: VERSION,
        asset: Asset::id(&signed_asset()),
        key: device(6),
        order: PaymentOrder::id(&signed_order()),
        verdict: Verdict::Paid { entry: 3 },
        at: NOW + 7,
    }
}

fn transfer_answer() -> TransferAnswer {
    TransferAnswer {
        version: VERSION,
        asset: Asset::id(&signed_asset()),
        order: PaymentOrder::id(&signed_order()),
        account: customer(),
        device: device(2),
        accept: true,
        at: NOW + 8,
    }
}

fn refund() -> Refund {
    Refund {
        version: VERSION,
        asset: Asset::id(&signed_asset()),
        order: PaymentOrder::id(&signed_order()),
        payee: stall().account(),
        key: device(6),
        amount: 350,
        nonce: [0x0f; 16],
        memo: text("油条没了"),
        at: NOW + 9,
    }
}

fn channel_request() -> ChannelRequest {
    let mut lanes = vec![(device(2), 5_000), (device(3), 2_000)];
    lanes.sort_unstable();
    ChannelRequest {
        version: VERSION,
        asset: Asset::id(&signed_asset()),
        account: customer(),
        device: device(2),
        payee: stall().account(),
        payee_key: device(6),
        capacity: 8_000,
        lanes: list(lanes),
        nonce: [0x0c; 16],
        made: NOW,
        expires: NOW + HOUR,
    }
}

fn channel() -> Channel {
    let request = Signed::new(channel_request(), &key(2));
    Channel::answering(&request, device(6), NOW).unwrap()
}

fn voucher() -> Voucher {
    Voucher {
        version: VERSION,
        channel: channel().id,
        lane: device(2),
        nonce: 1,
        cumulative: 1_350,
        offer: Offer::id(&signed_offer()),
        prev: VoucherId([0; 32]),
        made: NOW,
        expires: NOW + HOUR,
    }
}

fn signed_voucher() -> Signed<Voucher> {
    Signed::new(voucher(), &key(2))
}

fn ack() -> VoucherAck {
    VoucherAck {
        version: VERSION,
        channel: channel().id,
        lane: device(2),
        key: device(6),
        voucher: Voucher::id(&signed_voucher()),
        nonce: 1,
        amount: 1_350,
        offer: voucher().offer,
        at: NOW + 3,
    }
}

fn voucher_refusal() -> VoucherRefusal {
    VoucherRefusal {
        version: VERSION,
        channel: channel().id,
        lane: device(2),
        key: device(6),
        voucher: Voucher::id(&signed_voucher()),
        nonce: 1,
        amount: 1_350,
        offer: voucher().offer,
        why: Refusal::LaneFrozen,
        taken: 0,
        at: NOW + 3,
    }
}

fn credit(reason: CreditReason) -> Credit {
    Credit {
        version: VERSION,
        channel: channel().id,
        lane: device(2),
        key: device(6),
        credited: 1_350,
        voucher: Voucher::id(&signed_voucher()),
        offer: voucher().offer,
        reason,
        at: NOW + 4,
    }
}

fn entries() -> (Tally, Vec<Entry>) {
    let mut tally = Tally::new(&signed_asset(), customer());
    let mut entries = Vec::new();
    for (kind, amount, of) in [
        (EntryKind::Opened, 0, None),
        (EntryKind::ToppedUp, 10_000, None),
        (EntryKind::Paid, 1_350, Some(signed_order().id())),
    ] {
        let other = of.map(|_| stall().account());
        let (after, entry) = tally.next(kind, amount, other, of, NOW + 7).unwrap();
        entries.push(entry);
        tally = after;
    }
    (tally, entries)
}

/// A signed form, and what is refused of it. `varint` counts from the payload's end.
fn form<T: Signable + PartialEq + Clone + std::fmt::Debug>(
    suite: &mut Suite,
    name: &str,
    value: &T,
    signer: u8,
    varint: usize,
    by: impl Fn(&mut T, DeviceId),
) {
    let mut own = Suite::new("unused", "", "");
    let signed = suite.signed(name, value, &key(signer));
    let end = encode(value).len();
    own.refuse_usual_signed(&signed, &key(signer), end - varint, |weak| {
        let mut value = value.clone();
        by(&mut value, DeviceId(weak));
        value
    });
    suite.adopt(name, own);
}

pub(crate) fn pay_forms() -> Suite {
    let mut suite = Suite::new(
        "pay_forms",
        "protocols/src/pay (asset.rs, offer.rs, order.rs, channel.rs, statement.rs)",
        "What is signed about money.",
    );
    suite.seeding("pay_form");
    let s = &mut suite;
    let name_length = 1 + "老街茶馆".len();
    form(s, "asset", &asset(), 6, name_length, |v, k| v.key = k);
    form(s, "offer", &offer(), 6, 2, |v, k| v.key = k);
    let mut bare = offer();
    (bare.items, bare.for_device) = (list([]), Some(device(2)));
    s.signed("an offer without lines, for one device", &bare, &key(6));
    let title = encode(&product()).len() - (1 + 32 + 3 + 1 + 32 + 32 + 16);
    form(s, "product", &product(), 6, title, |v, k| v.key = k);
    form(s, "payment order", &order(), 2, 1, |v, k| v.device = k);
    let friend = PaymentOrder { offer: None, to: AccountId([0xfe; 32]), ..order() };
    s.signed("a payment to a friend", &friend, &key(2));
    form(s, "payment outcome", &outcome(), 6, 1, |v, k| v.key = k);
    let refused = Outcome { verdict: Verdict::Refused(Refusal::OutOfStock), ..outcome() };
    s.signed("a refused payment", &refused, &key(6));
    let held = Verdict::Held { entry: 3, until: NOW + 24 * HOUR };
    s.signed("a payment that is held", &Outcome { verdict: held, ..outcome() }, &key(6));
    let later = Outcome { verdict: Verdict::Refused(Refusal::Other(200)), ..outcome() };
    s.signed("refused for a reason of a later version", &later, &key(6));
    form(s, "transfer answer", &transfer_answer(), 2, 1, |v, k| v.device = k);
    form(s, "refund", &refund(), 6, 1, |v, k| v.key = k);
    form(s, "channel request", &channel_request(), 2, 1, |v, k| v.device = k);
    form(s, "payment channel", &channel(), 6, 1, |v, k| v.key = k);
    form(s, "voucher", &voucher(), 2, 1, |v, k| v.lane = k);
    let second =
        Voucher { nonce: 2, cumulative: 1_400, prev: Voucher::id(&signed_voucher()), ..voucher() };
    s.signed("the voucher after", &second, &key(2));
    form(s, "voucher taken", &ack(), 6, 1, |v, k| v.key = k);
    form(s, "voucher refused", &voucher_refusal(), 6, 1, |v, k| v.key = k);
    let refund = credit(CreditReason::Refund(text("凉了")));
    form(s, "credit", &refund, 6, 1, |v, k| v.key = k);
    s.signed("taken and given back", &credit(CreditReason::Refused(Refusal::OutOfStock)), &key(6));
    let request = FreezeRequest {
        version: VERSION,
        asset: Asset::id(&signed_asset()),
        account: customer(),
        lane: device(2),
        device: device(3),
        made: NOW,
    };
    form(s, "freeze request", &request, 3, 1, |v, k| v.device = k);
    let freeze = Freeze {
        version: VERSION,
        asset: Asset::id(&signed_asset()),
        account: customer(),
        lane: device(2),
        key: device(6),
        at: NOW,
        honoured_until: NOW + 600_000,
        fraud: false,
    };
    form(s, "freeze", &freeze, 6, 2, |v, k| v.key = k);
    let release = Release { version: VERSION, channel: channel().id, key: device(6), at: NOW };
    form(s, "channel release", &release, 6, 1, |v, k| v.key = k);
    let head = entries().0.head();
    form(s, "statement head", &head, 6, 1, |v, k| v.key = k);
    broken_rules(s);
    suite
}

/// Payloads that are rightly signed, and break a rule of their form.
fn broken_rules(s: &mut Suite) {
    let o = offer();
    for (name, bad) in [
        ("lines that don't add up", Offer { price: 1_351, ..o.clone() }),
        ("a price of nothing", Offer { price: 0, items: list([]), ..o.clone() }),
        ("an offer of 31 days", Offer { expires: NOW + 31 * 24 * HOUR, ..o.clone() }),
        ("an offer that ends before it begins", Offer { expires: NOW - 1, ..o.clone() }),
        ("lines that wrap round to the price", {
            let item = |unit| Item { title: Text::default(), quantity: 1, unit };
            Offer { items: list([item(u64::MAX), item(1_351)]), ..o.clone() }
        }),
        ("an offer, version 2", Offer { version: 2, ..o }),
    ] {
        s.refuse_payload::<Offer>(name, &encode(&bad), &key(6));
    }
    let fine = Asset { currency: Currency::parse("XTS").unwrap(), exponent: 9, ..asset() };
    s.refuse_payload::<Asset>("nine decimals", &encode(&fine), &key(6));
    let mut small = encode(&asset());
    small[65] = b'c';
    s.refuse_payload::<Asset>("a currency in small letters", &small, &key(6));
    for (name, bad) in [
        ("an order of nothing", PaymentOrder { amount: 0, ..order() }),
        ("an order to oneself", PaymentOrder { to: customer(), ..order() }),
        ("an order for two days", PaymentOrder { expires: NOW + 48 * HOUR, ..order() }),
    ] {
        s.refuse_payload::<PaymentOrder>(name, &encode(&bad), &key(2));
    }
    let c = channel();
    let mut turned: Vec<_> = c.lanes.to_vec();
    turned.reverse();
    for (name, bad) in [
        ("more in the lanes than reserved", Channel { capacity: 6_999, ..c.clone() }),
        ("lanes out of order", Channel { lanes: list(turned), ..c.clone() }),
        ("a channel without lanes", Channel { lanes: list([]), ..c.clone() }),
        ("caps that wrap round", {
            let lanes = [(c.lanes[0].0, u64::MAX), (c.lanes[1].0, 2)];
            Channel { lanes: list(lanes), ..c.clone() }
        }),
        ("a channel of 91 days", Channel { expires: c.expires + 24 * HOUR, ..c.clone() }),
        ("31 days to settle", Channel { settle_by: c.settle_by + 24 * HOUR, ..c }),
    ] {
        s.refuse_payload::<Channel>(name, &encode(&bad), &key(6));
    }
    for (name, bad) in [
        ("nonce 0", Voucher { nonce: 0, ..voucher() }),
        ("a first voucher that follows one", Voucher { prev: VoucherId([1; 32]), ..voucher() }),
        ("a second voucher that follows none", Voucher { nonce: 2, ..voucher() }),
        ("a voucher of nothing", Voucher { cumulative: 0, ..voucher() }),
    ] {
        s.refuse_payload::<Voucher>(name, &encode(&bad), &key(2));
    }
    let head = StatementHead { number: 0, ..entries().0.head() };
    s.refuse_payload::<StatementHead>("a head before the first entry", &encode(&head), &key(6));
}

pub(crate) fn pay_receipt() -> Suite {
    let mut suite = Suite::new(
        "pay_receipt",
        "protocols/src/pay/receipt.rs, protocols/src/pay/proofs.rs, protocols/src/pay/statement.rs",
        "Receipts and what they show, proofs that somebody cheats, and the chain of a \
         statement. A case with `shows nothing` decodes but doesn't verify.",
    );
    suite.seeding("pay_receipt");
    let signed_outcome = Signed::new(outcome(), &key(6));
    let asset = signed_asset();
    let by_order = Receipt::of_order(
        &asset,
        Some(&signed_offer()),
        &signed_order(),
        &signed_outcome,
        grants(),
    );
    let by_order = by_order.unwrap();
    let by_voucher = Receipt::of_voucher(
        &asset,
        &signed_offer(),
        &Signed::new(channel(), &key(6)),
        &signed_voucher(),
        &Signed::new(ack(), &key(6)),
        grants(),
    );
    let by_voucher = by_voucher.unwrap();
    for (name, receipt) in [("by order", &by_order), ("by voucher", &by_voucher)] {
        let wire = suite.plain(name, receipt);
        let seen = receipt.verify().unwrap();
        suite.case(fields! {
            "name": format!("{name}: what it shows"),
            "wire": hex(&wire),
            "issuer": hex(seen.issuer.0),
            "payer": hex(seen.payer.0),
            "device": hex(seen.device.0),
            "payee": hex(seen.payee.0),
            "amount": seen.amount.to_string(),
            "memo": seen.memo,
            "made": seen.made,
            "at": seen.at,
        });
    }
    let refused = Outcome { verdict: Verdict::Refused(Refusal::OutOfStock), ..outcome() };
    let refused = Receipt::of_order(
        &asset,
        Some(&signed_offer()),
        &signed_order(),
        &Signed::new(refused, &key(6)),
        grants(),
    );
    for (name, receipt) in [
        ("a refused order", refused.unwrap()),
        ("without the offer", Receipt { offer: None, ..by_order.clone() }),
        ("without a key's records", Receipt { grants: list(grants().pop()), ..by_order.clone() }),
        ("a voucher without its offer", Receipt { offer: None, ..by_voucher }),
    ] {
        let why = variant(&receipt.verify().expect_err(name));
        let wire = encode(&receipt);
        suite.seed(name, &wire);
        suite.case(fields! { "name": name, "wire": hex(wire), "shows nothing": why });
    }
    let wire = encode(&by_order);
    suite.refuse_usual::<Receipt>(&wire, 2);

    let other = Signed::new(Voucher { cumulative: 1_351, ..voucher() }, &key(2));
    let fraud = Contradiction::of_vouchers(&signed_voucher(), &other).unwrap();
    fraud.verify().unwrap();
    suite.plain("two vouchers with one nonce", &fraud);
    let both = Contradiction::of_answers(
        &Signed::new(ack(), &key(6)),
        &Signed::new(voucher_refusal(), &key(6)),
    );
    suite.plain("taken and refused", &both.unwrap());
    let late = Outcome { verdict: Verdict::Refused(Refusal::Expired), ..outcome() };
    let two = Contradiction::of_outcomes(&signed_outcome, &Signed::new(late, &key(6))).unwrap();
    suite.plain("two outcomes of one order", &two);
    let (tally, all) = entries();
    let head = tally.head();
    let other = StatementHead { balance: head.balance - 1, ..head.clone() };
    let two = [Signed::new(head.clone(), &key(6)), Signed::new(other, &key(6))];
    let equivocation = Contradiction::of_heads(&two[0], &two[1]).unwrap();
    equivocation.verify().unwrap();
    suite.plain("two heads with one number", &equivocation);

    let mut running = Tally::new(&asset, tally.holder);
    let mut steps = Vec::new();
    for entry in &all {
        running = running.apply(entry).unwrap();
        steps.push(fields! {
            "entry": node(entry),
            "wire": hex(encode(entry)),
            "chain": hex(running.chain),
            "balance": running.balance,
            "pending": running.pending,
        });
    }
    suite.case(fields! {
        "name": "a statement",
        "asset": hex(tally.asset.0),
        "holder": hex(tally.holder.0),
        "entries": steps,
        "head": hex(Signed::new(head, &key(6)).bytes()),
    });
    let poster = VerifiedProduct::sign(product(), &key(6)).unwrap();
    suite.case(fields! {
        "name": "a poster",
        "wire": hex(poster.bytes()),
        "text": link::order_uri(&poster),
        "QR text": link::order_qr_text(&poster),
    });
    for (minor, exponent) in [(350, 2), (5, 2), (0, 0), (12, 0), (1_234, 3), (u64::MAX, 8)] {
        suite.case(fields! {
            "name": format!("{minor} with {exponent} decimals"),
            "minor": minor,
            "exponent": u64::from(exponent),
            "text": amount::show(minor, exponent),
        });
    }
    suite
}

pub(crate) fn pay_frames() -> Suite {
    let mut suite = Suite::new(
        "pay_frames",
        "protocols/src/pay/frames.rs",
        "Questions and answers about money. Signed forms within them are real ones.",
    );
    suite.seeding("pay_request");
    let carried = |b: &[u8]| b.to_vec();
    let asset = Asset::id(&signed_asset());
    let account = customer();
    let log = || {
        let records = grant(&samples::account(), 2).records;
        let records: Vec<_> =
            records.into_iter().map(|r| r.into_inner().try_into().unwrap()).collect();
        Log::try_from(records).unwrap()
    };
    let order = || carried(signed_order().bytes()).try_into().unwrap();
    let word = || carried(Signed::new(outcome(), &key(6)).bytes()).try_into().unwrap();
    let offered = || Box::new(carried(signed_offer().bytes()).try_into().unwrap());
    let paid = || carried(signed_voucher().bytes()).try_into().unwrap();
    let line = |quantity| Line { product: [0x9d; 16], quantity };
    let mut first = Vec::new();
    for (name, ask) in [
        ("money", Ask::Money),
        ("offer", { Ask::Offer { nonce: [3; 16], lines: list([line(2)]), note: text("少糖") } }),
        ("pay", Ask::Pay { log: log(), order: order(), offer: Some(offered()) }),
        ("statement", Ask::Statement { account, log: log(), asset, after: 2 }),
        ("transfer", {
            let answer = Signed::new(transfer_answer(), &key(2));
            Ask::Transfer { log: log(), answer: carried(answer.bytes()).try_into().unwrap() }
        }),
        ("order of", {
            Ask::OrderOf { account, log: log(), order: PaymentOrder::id(&signed_order()) }
        }),
        ("offer of", Ask::OfferOf { offer: Offer::id(&signed_offer()) }),
        (
            "waiting",
            Ask::Waiting {
                asset: carried(signed_asset().bytes()).try_into().unwrap(),
                grant: grant(&stall(), 6),
                relays: list([relay()]),
                order: order(),
                outcome: word(),
            },
        ),
        ("channel", {
            let request = Signed::new(channel_request(), &key(2));
            let request = Box::new(carried(request.bytes()).try_into().unwrap());
            Ask::Channel { log: log(), request }
        }),
        ("voucher", Ask::Voucher { log: log(), voucher: paid(), offer: offered() }),
        ("lane", {
            Ask::Lane { log: log(), channel: channel().id, nonce: [5; 16], credited: 350 }
        }),
        ("settle", Ask::Settle { log: log(), channel: channel().id }),
    ] {
        let wire = suite.plain(name, &PayRequest { version: VERSION, id: 7, ask });
        if name == "offer of" {
            first = wire;
        }
    }
    suite.refuse_usual::<PayRequest>(&first, 1);
    for (name, wire) in [
        ("request, version 2", encode(&PayRequest { version: 2, id: 7, ask: Ask::Money })),
        ("an unknown kind of request", vec![1, 7, 8]),
        ("a kind of request of a later version", vec![1, 7, 12]),
        ("an offer of none", {
            let ask = Ask::Offer { nonce: [3; 16], lines: list([line(0)]), note: text("") };
            encode(&PayRequest { version: VERSION, id: 7, ask })
        }),
        ("an offer of nothing", {
            let ask = Ask::Offer { nonce: [3; 16], lines: list([]), note: text("") };
            encode(&PayRequest { version: VERSION, id: 7, ask })
        }),
        ("four billion records claimed", vec![1, 7, 2, 0xff, 0xff, 0xff, 0xff, 0x0f]),
    ] {
        suite.refuse::<PayRequest>(name, &wire);
    }

    suite.seeding("pay_reply");
    let (tally, all) = entries();
    let head = Signed::new(tally.head(), &key(6));
    let reply = |answer| PayReply {
        version: VERSION,
        id: 7,
        head: Some(carried(head.bytes()).try_into().unwrap()),
        answer,
    };
    let mut last = Vec::new();
    for (name, answer) in [
        (
            "reply: money",
            Answer::Money {
                grant: grant(&stall(), 6),
                assets: list([carried(signed_asset().bytes()).try_into().unwrap()]),
            },
        ),
        ("reply: offer", Answer::Offer { nonce: [3; 16], offer: offered() }),
        ("reply: outcome", Answer::Outcome(word())),
        ("reply: statement", {
            Answer::Statement { asset, entries: list(all.clone()), more: false }
        }),
        ("reply: order", {
            let refund = Signed::new(refund(), &key(6));
            let refunds = list([carried(refund.bytes()).try_into().unwrap()]);
            Answer::Order { outcome: word(), fulfilled: true, refunds }
        }),
        ("reply: the offer is open", Answer::OfferIs(OfferState::Open)),
        ("reply: the offer was fulfilled", Answer::OfferIs(OfferState::Fulfilled)),
        ("reply: done", Answer::Done),
        ("reply: unknown", Answer::Unknown),
        ("reply: refused for a reason of a later version", Answer::Refused(Refusal::Other(200))),
        ("reply: refused", Answer::Refused(Refusal::SlowDown)),
    ] {
        last = suite.plain(name, &reply(answer));
    }
    let back = || Signed::new(credit(CreditReason::Refund(text("凉了"))), &key(6));
    for (name, answer) in [
        ("reply: channel", {
            let channel = Signed::new(channel(), &key(6));
            Answer::Channel(Box::new(carried(channel.bytes()).try_into().unwrap()))
        }),
        ("reply: voucher taken", {
            let ack = Signed::new(ack(), &key(6));
            Answer::Taken(carried(ack.bytes()).try_into().unwrap())
        }),
        ("reply: credit", Answer::Credited(carried(back().bytes()).try_into().unwrap())),
        ("reply: voucher refused", {
            let refusal = Signed::new(voucher_refusal(), &key(6));
            Answer::NotTaken(carried(refusal.bytes()).try_into().unwrap())
        }),
        (
            "reply: lane",
            Answer::Lane {
                nonce: [5; 16],
                channel: channel().id,
                taken: Some(paid()),
                credits: list([carried(back().bytes()).try_into().unwrap()]),
                more: false,
                settled: true,
            },
        ),
    ] {
        suite.plain(name, &reply(answer));
    }
    let bare = PayReply { head: None, ..reply(Answer::Refused(Refusal::UnknownHolder)) };
    suite.plain("reply: to no holder", &bare);
    let mut gap = all;
    gap.remove(1);
    for (name, wire) in [
        ("reply: entries with a gap", {
            encode(&reply(Answer::Statement { asset, entries: list(gap), more: false }))
        }),
        ("reply: a trailing byte", [&last[..], &[0]].concat()),
        ("reply, version 2", encode(&PayReply { version: 2, ..bare })),
    ] {
        suite.refuse::<PayReply>(name, &wire);
    }
    let refusals: Vec<Node> = Refusal::ALL.iter().map(node).collect();
    suite.case(fields! { "name": "refusals in wire order", "refusals": refusals });
    suite
}
