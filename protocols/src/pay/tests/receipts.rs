//! Receipts: what they show, and that no other parts do.

use super::samples::{
    NOW, ack, asset, asset_of, channel, community, customer, grant, log, offer, order, outcome,
    plain_offer, plain_order, plain_voucher, revoke, stall,
};
use crate::account::testing::{device, key, wire_holds};
use crate::card::CardError;
use crate::codec::{List, encode};
use crate::ids::{ChannelId, VoucherId};
use crate::pay::{
    Asset, Channel, Evidence, Grant, Offer, PaymentOrder, Receipt, ReceiptError, Refusal, Verdict,
    Voucher,
};
use crate::sign::Signed;

const PAID: Verdict = Verdict::Paid { entry: 2 };

fn grants() -> Vec<Grant> {
    vec![grant(&stall(), 11), grant(&customer(), 21)]
}

fn by_order() -> Receipt {
    let outcome = outcome(&order(), PAID);
    Receipt::of_order(&asset(), Some(&offer()), &order(), &outcome, grants()).unwrap()
}

fn voucher(channel: &Channel) -> Signed<Voucher> {
    Signed::new(plain_voucher(channel, 1, 1_350, VoucherId([0; 32])), &key(21))
}

fn by_voucher() -> Receipt {
    let channel = channel(5_000);
    let voucher = voucher(channel.get());
    let ack = ack(&voucher, 1_350, NOW + 5);
    Receipt::of_voucher(&asset(), &offer(), &channel, &voucher, &ack, grants()).unwrap()
}

#[test]
fn receipts_say_who_paid_whom_how_much_for_what() {
    for receipt in [by_order(), by_voucher()] {
        let seen = receipt.verify().unwrap();
        assert_eq!((seen.issuer, seen.payee), (stall().account(), stall().account()));
        assert_eq!((seen.payer, seen.device), (customer().account(), device(21)));
        assert_eq!(seen.asset, Asset::id(&asset()));
        assert_eq!(seen.amount.to_string(), "13.50 CNY");
        assert_eq!(seen.offer.as_ref(), Some(offer().get()));
        assert_eq!((seen.made, seen.at), (NOW, NOW + 5));
        let bytes = encode(&receipt);
        assert!(bytes.len() < 3_000, "{} bytes", bytes.len());
        let read: Receipt = crate::codec::decode(&bytes).unwrap();
        assert_eq!(read, receipt);
        let text = crate::link::receipt_uri(&receipt);
        assert_eq!(crate::link::parse_receipt(&text), Ok(receipt.clone()));
        assert!(crate::link::parse_receipt(&text[..text.len() - 9]).is_err());
    }
    wire_holds(&by_voucher());
    assert_eq!(by_order().verify().unwrap().payment, order().id());
}

#[test]
fn a_friend_is_paid_without_an_offer() {
    let mut order = plain_order(None);
    order.to = log(40, 41).account();
    order.memo = "for the tea".try_into().unwrap();
    let order = Signed::new(order, &key(21));
    let outcome = outcome(&order, PAID);
    let receipt = Receipt::of_order(&asset(), None, &order, &outcome, grants()).unwrap();
    let seen = receipt.verify().unwrap();
    assert_eq!(seen.payee, log(40, 41).account());
    assert_eq!((seen.memo.as_str(), seen.offer), ("for the tea", None));
}

#[test]
fn parts_of_other_payments_show_nothing() {
    let with = |evidence: Evidence| Receipt { evidence, ..by_order() }.verify().unwrap_err();
    let bytes = |signed: &[u8]| signed.to_vec();
    let evidence = |o: &Signed<PaymentOrder>, verdict| Evidence::Order {
        order: bytes(o.bytes()).try_into().unwrap(),
        outcome: bytes(outcome(o, verdict).bytes()).try_into().unwrap(),
    };
    // Refused.
    let refused = Verdict::Refused(Refusal::OutOfStock);
    assert_eq!(with(evidence(&order(), refused)), ReceiptError::NotPaid(Refusal::OutOfStock));
    let held = Verdict::Held { entry: 2, until: NOW + 9 };
    assert_eq!(with(evidence(&order(), held)), ReceiptError::Held);
    // The outcome of another order.
    let mut other = plain_order(Some(Offer::id(&offer())));
    other.nonce = [1; 16];
    let other = Signed::new(other, &key(21));
    let mixed = Evidence::Order {
        order: bytes(order().bytes()).try_into().unwrap(),
        outcome: bytes(outcome(&other, PAID).bytes()).try_into().unwrap(),
    };
    assert_eq!(with(mixed), ReceiptError::Mismatch);
    // Less paid than the offer asks, or to somebody else.
    let mut less = plain_order(Some(Offer::id(&offer())));
    less.amount = 1;
    assert_eq!(with(evidence(&Signed::new(less, &key(21)), PAID)), ReceiptError::Amount);
    let mut elsewhere = plain_order(Some(Offer::id(&offer())));
    elsewhere.to = community().account();
    assert_eq!(with(evidence(&Signed::new(elsewhere, &key(21)), PAID)), ReceiptError::Offer);
    // An order without the offer that the receipt shows, and the other way round.
    assert_eq!(
        with(evidence(&Signed::new(plain_order(None), &key(21)), PAID)),
        ReceiptError::Offer
    );
    assert_eq!(Receipt { offer: None, ..by_order() }.verify(), Err(ReceiptError::Offer));
    assert_eq!(Receipt { offer: None, ..by_voucher() }.verify(), Err(ReceiptError::Offer));
    // An outcome that the issuer's key didn't sign.
    let mut forged = outcome(&order(), PAID).get().clone();
    forged.key = device(12);
    let forged = Evidence::Order {
        order: bytes(order().bytes()).try_into().unwrap(),
        outcome: bytes(Signed::new(forged, &key(12)).bytes()).try_into().unwrap(),
    };
    assert_eq!(with(forged), ReceiptError::Mismatch);
    // Another issuer's money.
    let other = asset_of(&community(), 31);
    let receipt = Receipt { asset: other.bytes().to_vec().try_into().unwrap(), ..by_order() };
    assert_eq!(receipt.verify(), Err(ReceiptError::Mismatch));
    // An offer to another device.
    let mut theirs = plain_offer(Asset::id(&asset()));
    theirs.for_device = Some(device(22));
    let theirs = Signed::new(theirs, &key(11));
    let order = Signed::new(plain_order(Some(Offer::id(&theirs))), &key(21));
    let outcome = outcome(&order, PAID);
    let receipt = Receipt::of_order(&asset(), Some(&theirs), &order, &outcome, grants()).unwrap();
    assert_eq!(receipt.verify(), Err(ReceiptError::Offer));
}

#[test]
fn vouchers_that_don_t_fit_show_nothing() {
    let channel = channel(5_000);
    let good = voucher(channel.get());
    let with = |channel: &Signed<Channel>, voucher: &Signed<Voucher>, amount| {
        let ack = ack(voucher, amount, NOW);
        Receipt::of_voucher(&asset(), &offer(), channel, voucher, &ack, grants()).unwrap().verify()
    };
    assert!(with(&channel, &good, 1_350).is_ok());
    assert_eq!(with(&channel, &good, 1_349), Err(ReceiptError::Amount));
    let small = Voucher { cumulative: 1_349, ..good.get().clone() };
    assert_eq!(with(&channel, &Signed::new(small, &key(21)), 1_350), Err(ReceiptError::Amount));
    let elsewhere = Voucher { channel: ChannelId([2; 32]), ..good.get().clone() };
    let elsewhere = Signed::new(elsewhere, &key(21));
    assert_eq!(with(&channel, &elsewhere, 1_350), Err(ReceiptError::Mismatch));
    let stranger = Voucher { lane: device(24), ..good.get().clone() };
    assert_eq!(
        with(&channel, &Signed::new(stranger, &key(24)), 1_350),
        Err(ReceiptError::Mismatch)
    );
    // A channel that the payer signed himself.
    let own = Channel { key: device(21), ..channel.get().clone() };
    assert_eq!(with(&Signed::new(own, &key(21)), &good, 1_350), Err(ReceiptError::Mismatch));
    // The acknowledgement of another voucher.
    let other = Voucher { made: NOW + 1, ..good.get().clone() };
    let ack = ack(&Signed::new(other, &key(21)), 1_350, NOW);
    let receipt = Receipt::of_voucher(&asset(), &offer(), &channel, &good, &ack, grants()).unwrap();
    assert_eq!(receipt.verify(), Err(ReceiptError::Mismatch));
}

#[test]
fn every_key_is_shown_to_be_its_account_s() {
    for receipt in [by_order(), by_voucher()] {
        let with = |grants: Vec<Grant>| {
            Receipt { grants: grants.try_into().unwrap(), ..receipt.clone() }.verify()
        };
        assert_eq!(with(vec![]), Err(ReceiptError::NoGrant));
        assert_eq!(with(vec![grant(&stall(), 11)]), Err(ReceiptError::NoGrant));
        assert_eq!(with(vec![grant(&customer(), 21)]), Err(ReceiptError::NoGrant));
        let more = [grants(), vec![grant(&community(), 31)]].concat();
        assert_eq!(with(more), Err(ReceiptError::Unneeded));
        let twice = [grants(), vec![grant(&stall(), 11)]].concat();
        assert_eq!(with(twice), Err(ReceiptError::Unneeded));
        // Records of another account, or none.
        let forged = Grant { records: grant(&community(), 31).records, ..grant(&stall(), 11) };
        let err = with(vec![forged, grant(&customer(), 21)]);
        assert_eq!(err, Err(ReceiptError::Grant(CardError::Genesis)));
        let bare = Grant { records: List::default(), ..grant(&stall(), 11) };
        let err = with(vec![bare, grant(&customer(), 21)]);
        assert_eq!(err, Err(ReceiptError::Grant(CardError::Genesis)));
        // What was granted then and revoked since still shows who it was.
        let mut since = customer();
        let then = grant(&since, 21);
        revoke(&mut since, 20, 21);
        assert!(with(vec![grant(&stall(), 11), then]).is_ok());
    }
}
