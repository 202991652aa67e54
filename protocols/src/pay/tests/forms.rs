//! What each form's own rules refuse, orders and refunds, statements, proofs.

use proptest::prelude::*;

use super::samples::{
    HOUR, NOW, asset, channel, community, customer, item, lanes, nobody, offer, order, outcome,
    plain_offer, plain_order, plain_voucher, request, stall,
};
use crate::account::testing::{device, key, signed_holds, wire_holds};
use crate::card::{CardError, ContactCard};
use crate::codec::{Wire, decode, encode};
use crate::ids::{AccountId, AssetId, OfferId, VoucherId};
use crate::link::{self, LinkError, MAX_LINK};
use crate::pay::{
    Asset, Channel, ChannelRequest, Contradiction, Currency, Entry, EntryKind, Kind, Offer, Paid,
    PaymentOrder, Product, ProofError, Refund, RefundError, Refusal, StatementError, StatementHead,
    Tally, VERSION, Verdict, VerifiedAsset, VerifiedProduct, Voucher,
};
use crate::sign::Signed;

/// A value that the codec takes, and changes to it that it must not.
fn refused<T: Wire + Clone + PartialEq + std::fmt::Debug>(good: &T, changes: &[&dyn Fn(&mut T)]) {
    wire_holds(good);
    for (n, change) in changes.iter().enumerate() {
        let mut bad = good.clone();
        change(&mut bad);
        assert!(decode::<T>(&encode(&bad)).is_err(), "{}: change {n}", T::NAME);
    }
}

#[test]
fn rules_of_forms() {
    refused(asset().get(), &[&|a| a.version = 2, &|a| a.exponent = 9]);
    let day = 24 * HOUR;
    refused(
        offer().get(),
        &[
            &|o| o.version = 0,
            &|o| o.price = 0,
            &|o| o.price = 1_351,
            &|o| (o.price, o.items) = (0, vec![].try_into().unwrap()),
            &|o| o.items = vec![item("none", 0, 5)].try_into().unwrap(),
            &|o| o.expires = o.made,
            &|o| o.expires = o.made - 1,
            &|o| o.expires = o.made + 30 * day + 1,
            // Sums that wrap round to the price.
            &|o| o.items = vec![item("a", 1, u64::MAX), item("b", 1, 1_351)].try_into().unwrap(),
            &|o| o.items = vec![item("a", 2, (1 << 63) + 675)].try_into().unwrap(),
        ],
    );
    refused(
        order().get(),
        &[
            &|o| o.version = 2,
            &|o| o.amount = 0,
            &|o| o.to = o.account,
            &|o| o.expires = o.made,
            &|o| o.expires = o.made + day + 1,
        ],
    );
    wire_holds(outcome(&order(), Verdict::Refused(Refusal::OutOfStock)).get());
    let open = request(30, vec![(device(21), 10), (device(22), 20)]);
    refused(
        &open,
        &[
            &|r| r.capacity = 29,
            &|r| r.lanes = lanes(vec![]),
            &|r| r.lanes = lanes(vec![(device(21), 0)]),
            &|r| r.lanes = lanes(vec![(device(21), 1), (device(21), 2)]),
            &|r| r.lanes = r.lanes.iter().rev().copied().collect::<Vec<_>>().try_into().unwrap(),
            &|r| r.lanes = lanes(vec![(device(21), u64::MAX), (device(22), 31)]),
            &|r| r.payee = r.account,
        ],
    );
    refused(
        channel(5).get(),
        &[&|c| c.capacity = 5, &|c| c.expires += 1, &|c| c.settle_by = c.expires, &|c| {
            c.settle_by += 1;
        }],
    );
    let first = plain_voucher(channel(5).get(), 1, 5, VoucherId([0; 32]));
    refused(
        &first,
        &[
            &|v| v.nonce = 0,
            &|v| v.nonce = 2,
            &|v| v.prev = VoucherId([1; 32]),
            &|v| v.cumulative = 0,
            &|v| (v.nonce, v.prev) = (6, VoucherId([1; 32])),
            &|v| v.expires = v.made + day + 1,
        ],
    );
    signed_holds(&asset());
    signed_holds(&order());
}

#[test]
fn an_order_pays_just_its_offer() {
    let offer = offer();
    let good = plain_order(Some(Offer::id(&offer)));
    assert_eq!(good.pays(&offer, NOW), Ok(()));
    assert_eq!(good.pays(&offer, NOW + HOUR), Err(Refusal::OfferExpired));
    assert_eq!(good.in_time(NOW + HOUR - 1), Ok(()));
    assert_eq!(good.in_time(NOW + HOUR), Err(Refusal::Expired));
    assert_eq!(good.in_time(NOW - HOUR), Err(Refusal::Expired), "made in the future");
    assert_eq!(good.pays(&offer, NOW - HOUR), Err(Refusal::OfferExpired));
    let changed = |change: &dyn Fn(&mut PaymentOrder)| {
        let mut o = good.clone();
        change(&mut o);
        o.pays(&offer, NOW).unwrap_err()
    };
    assert_eq!(changed(&|o| o.amount -= 1), Refusal::WrongAmount);
    assert_eq!(changed(&|o| o.amount += 1), Refusal::WrongAmount);
    assert_eq!(changed(&|o| o.offer = None), Refusal::UnknownOffer);
    assert_eq!(changed(&|o| o.offer = Some(OfferId([1; 32]))), Refusal::UnknownOffer);
    assert_eq!(changed(&|o| o.to = nobody()), Refusal::UnknownOffer);
    assert_eq!(changed(&|o| o.asset = AssetId([1; 32])), Refusal::UnknownOffer);
    let mut theirs = plain_offer(Asset::id(&asset()));
    theirs.for_device = Some(device(22));
    let theirs = Signed::new(theirs, &key(11));
    let order = plain_order(Some(Offer::id(&theirs)));
    assert_eq!(order.pays(&theirs, NOW), Err(Refusal::NotYourOffer));
}

fn refund(nonce: u8, amount: u64) -> Refund {
    Refund {
        version: VERSION,
        asset: Asset::id(&asset()),
        order: PaymentOrder::id(&order()),
        payee: stall().account(),
        key: device(11),
        amount,
        nonce: [nonce; 16],
        memo: "sorry".try_into().unwrap(),
        at: NOW,
    }
}

#[test]
fn no_more_goes_back_than_was_paid() {
    let order = order();
    let paid = Paid::new(1_350);
    let by = |paid: &Paid, refund: Refund| paid.refund(&order, &Signed::new(refund, &key(11)));
    let once = by(&paid, refund(1, 350)).unwrap();
    // Another device of the payee gives back as much: both count.
    let other = Refund { key: device(12), ..refund(2, 350) };
    let twice = once.refund(&order, &Signed::new(other, &key(12))).unwrap();
    assert_eq!((twice.refunded, twice.left()), (700, 650));
    let all = by(&twice, refund(3, 650)).unwrap();
    assert_eq!(all.left(), 0);
    for (state, amount) in [(once, 1_001), (once, u64::MAX), (all, 1)] {
        assert_eq!(by(&state, refund(4, amount)), Err(RefundError::TooMuch));
    }
    let other = Refund { payee: nobody(), ..refund(1, 1) };
    assert_eq!(by(&paid, other), Err(RefundError::Other));
    let other = Refund { asset: AssetId([1; 32]), ..refund(1, 1) };
    assert_eq!(by(&paid, other), Err(RefundError::Other));
    refused(&refund(1, 350), &[&|r| r.amount = 0, &|r| r.version = 2]);
}

#[test]
fn an_asset_is_its_issuer_s() {
    let grant = super::samples::grant(&stall(), 11);
    assert_eq!(VerifiedAsset::new(asset(), &grant).unwrap().asset(), &asset());
    let other = super::samples::grant(&community(), 31);
    assert_eq!(VerifiedAsset::new(asset(), &other), Err(CardError::WrongKey));
    let forged = crate::pay::Grant { records: other.records, ..grant };
    assert_eq!(VerifiedAsset::new(asset(), &forged), Err(CardError::Genesis));
    assert!(asset().get().is_usual());
    let yen = Asset { currency: Currency::parse("JPY").unwrap(), ..asset().get().clone() };
    assert!(!yen.is_usual() && yen.check().is_ok(), "lists of currencies change, forms don't");
}

#[test]
fn a_channel_grants_what_was_asked() {
    let asked = Signed::new(request(30, vec![(device(21), 10)]), &key(21));
    let good = Channel::answering(&asked, device(11), NOW).unwrap();
    assert!(good.grants(&asked) && good.check().is_ok());
    for change in [
        (|c| c.capacity += 1) as fn(&mut Channel),
        |c| c.payee = nobody(),
        |c| c.payee_key = device(12),
        |c| c.payer = nobody(),
        |c| c.asset = AssetId([1; 32]),
        |c| c.lanes = lanes(vec![(device(21), 11)]),
        |c| c.id.0[0] ^= 1,
    ] {
        let mut other = good.clone();
        change(&mut other);
        assert!(!other.grants(&asked));
    }
    let again = ChannelRequest { nonce: [4; 16], ..asked.get().clone() };
    let again = Signed::new(again, &key(21));
    let next = Channel::answering(&again, device(11), NOW).unwrap();
    assert!(next.grants(&again) && !next.grants(&asked) && next.id != good.id);
    assert_eq!(Channel::answering(&asked, device(11), u64::MAX), None);
    let signed = Signed::new(good, &key(11));
    assert!(signed.get().is_in(&asset()));
    assert!(!signed.get().is_in(&super::samples::asset_of(&community(), 31)));
}

#[test]
fn a_voucher_is_served_for_just_its_offer() {
    let channel = channel(5_000);
    let channel = channel.get();
    let good = plain_voucher(channel, 1, 1_350, VoucherId([0; 32]));
    assert_eq!(channel.serves(&good, 1_350, &offer(), NOW), Ok(()));
    let why = |v: &Voucher, amount, now| channel.serves(v, amount, &offer(), now).unwrap_err();
    assert_eq!(why(&good, 1_349, NOW), Refusal::WrongAmount);
    assert_eq!(why(&good, 1_350, NOW + HOUR), Refusal::Expired);
    let longer = Voucher { expires: NOW + 2 * HOUR, ..good.clone() };
    assert_eq!(why(&longer, 1_350, NOW + HOUR), Refusal::OfferExpired);
    let other = Voucher { offer: OfferId([1; 32]), ..good.clone() };
    assert_eq!(why(&other, 1_350, NOW), Refusal::UnknownOffer);
    for change in [
        (|o| o.payee = nobody()) as fn(&mut Offer),
        |o| o.asset = AssetId([1; 32]),
        |o| o.for_device = Some(device(22)),
    ] {
        let mut theirs = plain_offer(Asset::id(&asset()));
        change(&mut theirs);
        let theirs = Signed::new(theirs, &key(11));
        let v = Voucher { offer: Offer::id(&theirs), ..good.clone() };
        assert!(channel.serves(&v, 1_350, &theirs, NOW).is_err());
    }
    let theirs = Offer { key: device(12), ..plain_offer(Asset::id(&asset())) };
    let theirs = Signed::new(theirs, &key(12));
    let v = Voucher { offer: Offer::id(&theirs), ..good };
    assert_eq!(channel.serves(&v, 1_350, &theirs, NOW), Err(Refusal::UnknownOffer));
}

fn head(tally: &Tally) -> Signed<StatementHead> {
    Signed::new(tally.head(), &key(11))
}

fn tally() -> Tally {
    Tally::new(&asset(), customer().account())
}

#[test]
fn two_stories_prove_themselves() {
    let (opened, _) = tally().next(EntryKind::Opened, 0, None, None, NOW).unwrap();
    let (one, _) = opened.next(EntryKind::ToppedUp, 5, None, None, NOW).unwrap();
    let (two, _) = opened.next(EntryKind::ToppedUp, 6, None, None, NOW).unwrap();
    let (a, b) = (head(&one), head(&two));
    let proof = Contradiction::of_heads(&a, &b).unwrap();
    assert_eq!(Contradiction::of_heads(&b, &a), Some(proof.clone()), "one spelling");
    wire_holds(&proof);
    assert_eq!(proof.verify(), Ok(device(11)));
    let swapped =
        Contradiction { first: proof.second.clone(), second: proof.first.clone(), ..proof.clone() };
    assert_eq!(swapped.verify(), Err(ProofError::Order));
    let same = Contradiction { second: swapped.first.clone(), ..swapped };
    assert_eq!(same.verify(), Err(ProofError::Order));
    let other = Contradiction { kind: Kind::Outcomes, ..proof };
    assert!(matches!(other.verify(), Err(ProofError::Signed(_))), "no outcomes");
    // The next head stands on another chain than the one before says.
    let (three, _) = two.next(EntryKind::ToppedUp, 1, None, None, NOW).unwrap();
    assert!(Contradiction::of_heads(&a, &head(&three)).unwrap().verify().is_ok());
    // Heads of other numbers, holders or issuers don't contradict each other.
    assert_eq!(Contradiction::of_heads(&a, &head(&opened)), None);
    assert_eq!(Contradiction::of_heads(&b, &head(&three)), None);
    let theirs = Tally { holder: nobody(), ..one.clone() };
    assert_eq!(Contradiction::of_heads(&a, &head(&theirs)), None);
    let elsewhere = Tally { key: device(12), ..two };
    let elsewhere = Signed::new(elsewhere.head(), &key(12));
    assert_eq!(Contradiction::of_heads(&a, &elsewhere), None);
    let opened = head(&opened);
    let (low, high) = if a.id() < opened.id() { (a, opened) } else { (opened, a) };
    let none = Contradiction {
        version: VERSION,
        kind: Kind::Heads,
        first: low.bytes().to_vec().try_into().unwrap(),
        second: high.bytes().to_vec().try_into().unwrap(),
    };
    assert_eq!(none.verify(), Err(ProofError::NoConflict));
}

#[test]
fn an_issuer_answers_an_order_once() {
    let order = order();
    let paid = outcome(&order, Verdict::Paid { entry: 2 });
    let refused = outcome(&order, Verdict::Refused(Refusal::Expired));
    let proof = Contradiction::of_outcomes(&paid, &refused).unwrap();
    assert_eq!(proof.verify(), Ok(device(11)));
    assert_eq!(Contradiction::of_outcomes(&paid, &paid), None);
    wire_holds(&proof);
}

#[test]
fn what_passes_is_never_signed() {
    for why in [Refusal::SlowDown, Refusal::Unavailable] {
        let outcome = outcome(&order(), Verdict::Refused(why)).get().clone();
        assert!(decode::<crate::pay::Outcome>(&encode(&outcome)).is_err());
        assert!(why.passes());
    }
    assert!(!Refusal::Gap.passes() && !Refusal::Other(200).passes());
}

#[test]
fn a_proof_can_t_be_forged() {
    let channel = channel(50);
    let honest = plain_voucher(channel.get(), 1, 5, VoucherId([0; 32]));
    let a = Signed::new(honest.clone(), &key(21));
    let b = Signed::new(Voucher { cumulative: 6, ..honest.clone() }, &key(21));
    let proof = Contradiction::of_vouchers(&a, &b).unwrap();
    wire_holds(&proof);
    // A voucher whose signature is another's.
    let mut forged = proof.clone();
    let mut bytes = forged.second.into_inner();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    forged.second = bytes.try_into().unwrap();
    assert!(matches!(forged.verify(), Err(ProofError::Signed(_))));
    // Places apart: another lane or channel, the next nonce with a higher sum.
    for (other, by) in [
        (Voucher { lane: device(22), ..honest.clone() }, 22),
        (Voucher { channel: crate::ids::ChannelId([1; 32]), ..honest.clone() }, 21),
        (Voucher { nonce: 2, prev: Voucher::id(&a), cumulative: 9, ..honest }, 21),
    ] {
        assert_eq!(Contradiction::of_vouchers(&a, &Signed::new(other, &key(by))), None);
    }
    // A payee that says two things of one voucher.
    let ack = |amount, at| super::samples::ack(&a, amount, at);
    assert!(Contradiction::of_acks(&ack(5, NOW), &ack(4, NOW)).unwrap().verify().is_ok());
    assert_eq!(Contradiction::of_acks(&ack(5, NOW), &ack(5, NOW + 1)), None);
    let refusal = crate::pay::VoucherRefusal {
        version: VERSION,
        channel: channel.get().id,
        lane: device(21),
        key: device(11),
        voucher: Voucher::id(&a),
        nonce: 1,
        amount: 5,
        offer: a.get().offer,
        why: Refusal::LaneFrozen,
        taken: 0,
        at: NOW,
    };
    let refusal = Signed::new(refusal, &key(11));
    let proof = Contradiction::of_answers(&ack(5, NOW), &refusal).unwrap();
    assert_eq!(proof.verify(), Ok(device(11)));
    wire_holds(&proof);
    let other = Contradiction::of_answers(&super::samples::ack(&b, 5, NOW), &refusal);
    assert_eq!(other, None);
}

fn kind() -> impl Strategy<Value = EntryKind> {
    use EntryKind as K;
    prop::sample::select(vec![
        K::Opened,
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
    ])
}

proptest! {
    /// Balances are what the entries add up to, and nothing but all the entries, in order,
    /// leads from one head to another.
    #[test]
    fn statements_add_up(
        steps in prop::collection::vec((kind(), prop_oneof![4 => 0_u64..100, 1 => any::<u64>()]), 1..40),
        cut in any::<prop::sample::Index>(),
        harm in any::<prop::sample::Index>(),
    ) {
        use EntryKind as K;
        let (mut now, _) = tally().next(K::Opened, 0, None, None, NOW).unwrap();
        let mut all = vec![now.clone()];
        let mut entries: Vec<Entry> = Vec::new();
        let (mut balance, mut pending) = (0_i128, 0_i128);
        for (kind, amount) in steps {
            let n = i128::from(amount);
            let (b, p) = match kind {
                K::Opened => (0, 0),
                K::ToppedUp | K::Received | K::RefundReceived | K::Earned => (n, 0),
                K::Withdrawn | K::Paid | K::RefundGiven | K::Unearned => (-n, 0),
                K::Reserved => (-n, n),
                K::Released => (n, -n),
                K::Spent => (0, -n),
                K::Unspent => (0, n),
            };
            let range = 0..=i128::from(u64::MAX);
            let fits = kind != K::Opened
                && amount > 0
                && range.contains(&(balance + b))
                && range.contains(&(pending + p));
            match now.next(kind, amount, None, Some([1; 32]), NOW) {
                Ok((after, entry)) => {
                    prop_assert!(fits);
                    (balance, pending) = (balance + b, pending + p);
                    prop_assert_eq!((i128::from(after.balance), i128::from(after.pending)), (balance, pending));
                    entries.push(entry);
                    all.push(after.clone());
                    now = after;
                }
                Err(_) => prop_assert!(!fits),
            }
        }
        let sign = |head: StatementHead| Signed::new(head, &key(11));
        let head = now.head();
        let from = cut.index(all.len());
        let signed = sign(head.clone());
        prop_assert_eq!(all[from].follow(&entries[from..], &signed), Ok(now.clone()));
        let other = StatementHead { holder: nobody(), ..head.clone() };
        prop_assert_eq!(now.follow(&[], &sign(other)), Err(StatementError::Other));
        let other = StatementHead { key: device(12), ..head.clone() };
        let other = Signed::new(other, &key(12));
        prop_assert_eq!(now.follow(&[], &other), Err(StatementError::Other));
        let other = StatementHead { balance: head.balance ^ 1, ..head };
        prop_assert_eq!(now.follow(&[], &sign(other)), Err(StatementError::Head));
        if !entries.is_empty() {
            // Any change to an entry, or one left out, leads elsewhere.
            let at = harm.index(entries.len());
            let mut wrong = entries.clone();
            wrong[at].of = None;
            prop_assert_eq!(all[0].follow(&wrong, &signed), Err(StatementError::Head));
            wrong.remove(at);
            prop_assert!(all[0].follow(&wrong, &signed).is_err());
        }
    }
}

fn product() -> Product {
    Product {
        version: VERSION,
        asset: Asset::id(&asset()),
        currency: Currency::parse("CNY").unwrap(),
        exponent: 2,
        payee: stall().account(),
        key: device(11),
        product: [1; 16],
        title: "老街油条".try_into().unwrap(),
        price: 350,
        relays: vec![crate::card::tests::relay()].try_into().unwrap(),
        addrs: crate::codec::List::default(),
        proof: ContactCard::proof_for(&stall(), &device(11)).unwrap(),
    }
}

#[test]
fn a_poster_stands_for_its_payee() {
    let product = product();
    let poster = VerifiedProduct::sign(product.clone(), &key(11)).unwrap();
    assert!(poster.bytes().len() < 850, "{} bytes", poster.bytes().len());
    assert_eq!(product.money().to_string(), "3.50 CNY");
    assert!(product.is_in(&asset()));
    assert!(!Product { exponent: 3, ..product.clone() }.is_in(&asset()));
    for text in [link::order_uri(&poster), link::order_qr_text(&poster)] {
        assert_eq!(link::parse_order(&text).unwrap(), poster);
        assert_eq!(link::Link::parse(&text), Err(LinkError::UnknownKind));
        for at in 0..text.len() {
            let mut other = text.clone().into_bytes();
            other[at] = if other[at] == b'b' { b'c' } else { b'b' };
            let read = link::parse_order(&String::from_utf8(other).unwrap());
            assert!(read.is_err() || text.as_bytes()[at].eq_ignore_ascii_case(&b'b'), "{at}");
        }
    }
    const { assert!(15 + (Product::MAX_BYTES + 69) * 8 / 5 < MAX_LINK) };
    // Somebody else's key, or account, on the poster.
    let swapped = Product { key: device(31), ..product.clone() };
    assert_eq!(VerifiedProduct::sign(swapped, &key(31)), Err(CardError::Device));
    let stolen = Product { payee: community().account(), ..product.clone() };
    assert_eq!(VerifiedProduct::sign(stolen, &key(11)), Err(CardError::Genesis));
    assert_eq!(VerifiedProduct::sign(product.clone(), &key(21)), Err(CardError::WrongKey));
    refused(&product, &[&|p| p.price = 0, &|p| p.exponent = 9, &|p| p.version = 2]);
}

#[test]
fn refusals_have_words() {
    let words: std::collections::BTreeSet<String> =
        Refusal::ALL.iter().map(ToString::to_string).collect();
    assert_eq!(words.len(), Refusal::ALL.len());
    for (n, refusal) in Refusal::ALL.iter().enumerate() {
        assert_eq!(postcard::to_stdvec(refusal).unwrap(), [n as u8], "wire order");
    }
    for code in 0..=u8::MAX {
        let read: Refusal = postcard::from_bytes(&[code]).unwrap();
        assert_eq!(u8::from(read), code, "unknown reasons keep their number");
        assert_eq!(matches!(read, Refusal::Other(_)), usize::from(code) >= words.len());
    }
    let _: AccountId = nobody();
}
