//! One tea stall, its customer, and what they sign.

use crate::account::testing::{add, device, key};
use crate::account::{AccountLog, AccountOp, Signer};
use crate::card::ContactCard;
use crate::codec::{List, Text};
use crate::ids::{AccountId, AssetId, DeviceId, Millis, OfferId, VoucherId};
use crate::pay::{
    Asset, Channel, ChannelRequest, Credit, CreditReason, Currency, Grant, Item, Offer, Outcome,
    PaymentOrder, VERSION, Verdict, Voucher, VoucherAck,
};
use crate::sign::Signed;

pub(super) const NOW: Millis = 1_790_000_000_000;
pub(super) const HOUR: Millis = 60 * 60 * 1000;

/// An account with this root and device.
pub(super) fn log(root: u8, dev: u8) -> AccountLog {
    let mut log = AccountLog::create(&key(root), [root; 16]);
    add(&mut log, root, dev);
    log
}

/// The stall issues its own prepaid balance: root 10, device 11.
pub(super) fn stall() -> AccountLog {
    log(10, 11)
}

/// The customer: root 20, device 21.
pub(super) fn customer() -> AccountLog {
    log(20, 21)
}

/// A community's node that issues: root 30, device 31.
pub(super) fn community() -> AccountLog {
    log(30, 31)
}

pub(super) fn grant(log: &AccountLog, dev: u8) -> Grant {
    Grant {
        account: log.account(),
        device: device(dev),
        records: ContactCard::proof_for(log, &device(dev)).unwrap(),
    }
}

pub(super) fn revoke(log: &mut AccountLog, root: u8, dev: u8) {
    let by = Signer::Root(device(root).0);
    log.append(&key(root), by, AccountOp::RevokeDevice { device: device(dev) }).unwrap();
}

pub(super) fn asset_of(issuer: &AccountLog, dev: u8) -> Signed<Asset> {
    let asset = Asset {
        version: VERSION,
        issuer: issuer.account(),
        key: device(dev),
        currency: Currency::parse("CNY").unwrap(),
        exponent: 2,
        name: "老街茶馆".try_into().unwrap(),
    };
    Signed::new(asset, &key(dev))
}

pub(super) fn asset() -> Signed<Asset> {
    asset_of(&stall(), 11)
}

pub(super) fn item(title: &str, quantity: u32, unit: u64) -> Item {
    Item { title: title.try_into().unwrap(), quantity, unit }
}

pub(super) fn plain_offer(asset: AssetId) -> Offer {
    Offer {
        version: VERSION,
        asset,
        order: [7; 16],
        payee: stall().account(),
        key: device(11),
        price: 1_350,
        title: "Breakfast".try_into().unwrap(),
        items: vec![item("oolong", 2, 500), item("bun", 1, 350)].try_into().unwrap(),
        made: NOW,
        expires: NOW + HOUR,
        for_device: None,
    }
}

pub(super) fn offer() -> Signed<Offer> {
    Signed::new(plain_offer(Asset::id(&asset())), &key(11))
}

pub(super) fn plain_order(offer: Option<OfferId>) -> PaymentOrder {
    PaymentOrder {
        version: VERSION,
        asset: Asset::id(&asset()),
        account: customer().account(),
        device: device(21),
        to: stall().account(),
        amount: 1_350,
        offer,
        memo: Text::default(),
        nonce: [9; 16],
        made: NOW,
        expires: NOW + HOUR,
    }
}

pub(super) fn order() -> Signed<PaymentOrder> {
    Signed::new(plain_order(Some(Offer::id(&offer()))), &key(21))
}

pub(super) fn outcome(order: &Signed<PaymentOrder>, verdict: Verdict) -> Signed<Outcome> {
    let outcome = Outcome {
        version: VERSION,
        asset: Asset::id(&asset()),
        key: device(11),
        order: PaymentOrder::id(order),
        verdict,
        at: NOW + 5,
    };
    Signed::new(outcome, &key(11))
}

pub(super) fn lanes(mut lanes: Vec<(DeviceId, u64)>) -> List<(DeviceId, u64), 16> {
    lanes.sort_unstable();
    lanes.try_into().unwrap()
}

pub(super) fn request(capacity: u64, caps: Vec<(DeviceId, u64)>) -> ChannelRequest {
    ChannelRequest {
        version: VERSION,
        asset: Asset::id(&asset()),
        account: customer().account(),
        device: device(21),
        payee: stall().account(),
        payee_key: device(11),
        capacity,
        lanes: lanes(caps),
        nonce: [3; 16],
        made: NOW,
        expires: NOW + HOUR,
    }
}

/// A channel with lanes of devices 21 and 22.
pub(super) fn channel(cap: u64) -> Signed<Channel> {
    let caps = vec![(device(21), cap), (device(22), 1)];
    let request = Signed::new(request(cap.checked_add(1).unwrap(), caps), &key(21));
    let channel = Channel::answering(&request, device(11), NOW).unwrap();
    assert!(channel.grants(&request));
    Signed::new(channel, &key(11))
}

pub(super) fn plain_voucher(
    channel: &Channel,
    nonce: u64,
    cumulative: u64,
    prev: VoucherId,
) -> Voucher {
    Voucher {
        version: VERSION,
        channel: channel.id,
        lane: device(21),
        nonce,
        cumulative,
        offer: Offer::id(&offer()),
        prev,
        made: NOW,
        expires: NOW + HOUR,
    }
}

pub(super) fn ack(voucher: &Signed<Voucher>, amount: u64, at: Millis) -> Signed<VoucherAck> {
    let v = voucher.get();
    let ack = VoucherAck {
        version: VERSION,
        channel: v.channel,
        lane: v.lane,
        key: device(11),
        voucher: Voucher::id(voucher),
        nonce: v.nonce,
        amount,
        offer: v.offer,
        at,
    };
    Signed::new(ack, &key(11))
}

pub(super) fn credit(voucher: &Signed<Voucher>, credited: u64) -> Signed<Credit> {
    let v = voucher.get();
    let credit = Credit {
        version: VERSION,
        channel: v.channel,
        lane: v.lane,
        key: device(11),
        credited,
        voucher: Voucher::id(voucher),
        offer: v.offer,
        reason: CreditReason::Refund(Text::default()),
        at: NOW,
    };
    Signed::new(credit, &key(11))
}

pub(super) fn nobody() -> AccountId {
    AccountId([0xee; 32])
}
