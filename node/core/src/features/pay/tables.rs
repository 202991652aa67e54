//! What payments keep: an issuer's rows, and a wallet's.

use data_encoding::HEXLOWER;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use teahouse_protocols::account::RelayAddr;
use teahouse_protocols::ids::{
    AccountId, AssetId, ChannelId, DeviceId, Millis, OfferId, OrderId, VoucherId,
};
use teahouse_protocols::pay::frames::OfferState;
use teahouse_protocols::pay::{Grant, LaneOut, Money, Paid, Tally};

crate::tables::tables! {
    /// asset → signed asset (raw): money that this device issues.
    truth ISSUED = "pay_issued";
    /// asset, account → [`Holding`]: statements of this device's holders.
    truth HOLDINGS = "pay_holdings";
    /// asset, account, number (u64) → `Entry` of a statement that this device signs.
    truth ENTRIES = "pay_entries";
    /// order → [`OrderRow`]: orders that came to this device as an issuer.
    truth ORDERS = "pay_orders";
    /// device, nonce (16) → order (raw): the payment's key.
    truth ORDER_KEYS = "pay_order_keys";
    /// time (u64), order or voucher → nothing: carried out or held, by time.
    truth ORDER_TIMES = "pay_order_times";
    /// device, order or voucher → nothing: refused for good, or taken and given back.
    truth ORDERS_REFUSED = "pay_orders_refused";
    /// ledger transfer → order (raw): held for whoever is paid.
    truth HELD = "pay_held";
    /// order, refund → signed refund (raw).
    truth REFUNDS = "pay_refunds";
    /// product (16) → [`ProductRow`].
    truth PRODUCTS = "pay_products";
    /// offer → [`OfferRow`]: offers that this device made.
    truth OFFERS = "pay_offers";
    /// device, nonce (16) → offer (raw): the request's key.
    truth OFFER_KEYS = "pay_offer_keys";
    /// expires (u64), offer → nothing: offers that can be paid.
    truth OFFER_TIMES = "pay_offer_times";
    /// device, offer → nothing: offers that can be paid, by whom they were made to.
    truth OFFERS_OPEN = "pay_offers_open";

    /// channel → [`ChannelRow`]: channels that this device opened as an issuer.
    truth CHANNELS = "pay_channels";
    /// asset, account, channel → nothing: those that are not settled.
    truth CHANNELS_OPEN = "pay_channels_open";
    /// asset, account, opened (u64), channel → nothing: all of them.
    truth CHANNELS_OPENED = "pay_channels_opened";
    /// expires (u64), channel → nothing: those that are not settled, by time.
    truth CHANNEL_TIMES = "pay_channel_times";
    /// channel, device → `Lane`, as the payee keeps it.
    truth LANES = "pay_lanes";
    /// channel, device, nonce (u64) → [`VoucherRow`]: vouchers that were taken.
    truth VOUCHERS = "pay_vouchers";
    /// voucher → channel, device, nonce (u64).
    truth VOUCHER_IDS = "pay_voucher_ids";
    /// channel, device, credited (u64) → signed credit (raw).
    truth CREDITS = "pay_credits";
    /// voucher, number (16) → what was given back under that number (u64).
    truth VOUCHER_REFUNDS = "pay_voucher_refunds";
    /// asset, device → signed freeze (raw): devices whose lanes are frozen here.
    truth FROZEN = "pay_frozen";

    /// payment (16) → [`Payment`]: what this device pays.
    truth PAYMENTS = "pay_payments";
    /// time (u64), payment (16) → nothing.
    truth PAYMENT_TIMES = "pay_payment_times";
    /// order or voucher → payment (16, raw).
    truth PAYMENT_ORDERS = "pay_payment_orders";
    /// payment (16) → [`VoucherOut`]: what this device pays out of a channel.
    truth PAYMENT_VOUCHERS = "pay_payment_vouchers";
    /// channel → [`ChannelOut`]: channels that this device asked for.
    truth CHANNELS_OUT = "pay_channels_out";
    /// asset → channel (raw): the one that this device pays from.
    truth CHANNEL_NOW = "pay_channel_now";
    /// asset, channel → minor units (u64): what the account's statement says is set aside.
    truth SET_ASIDE = "pay_set_aside";
    /// device → relays and addresses: an issuer's device, as a poster has it.
    truth MET_BY = "pay_met_by";
    /// device, kind (u8), of (32) → [`Out`]: what this device asked and is not answered yet.
    truth OUT = "pay_out";
    /// account, order → [`Out`]: friends who are to hear that something waits for them.
    truth NOTICES = "pay_notices";
    /// asset → [`Balance`]: the account's own statement, as this device has it.
    truth BALANCES = "pay_balances";
    /// asset, number (u64) → `Entry` of the account's own statement.
    truth STATEMENT = "pay_statement";
    /// order → [`Incoming`]: what waits for this account at an issuer.
    truth INCOMING = "pay_incoming";
    /// hash → proof that somebody cheats (encoded).
    truth EVIDENCE = "pay_evidence";
}

/// The kind of the ledger account that value is created from: the issuer's own. Its debits are
/// all that was ever created.
pub const RESERVE: u16 = 1;
/// The kind of a holder's balance.
pub const HOLDER: u16 = 2;
/// The kind of the account of what the issuer was paid.
pub const TAKINGS: u16 = 3;

/// The number of a payment, a product or a request: random, 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Number(pub [u8; 16]);

impl core::fmt::Display for Number {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl core::str::FromStr for Number {
    type Err = &'static str;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let wrong = "a number is 32 hexadecimal digits";
        let bytes = HEXLOWER.decode(s.to_ascii_lowercase().as_bytes()).map_err(|_| wrong)?;
        bytes.try_into().map(Self).map_err(|_| wrong)
    }
}

// In tables 16 bytes; in text formats (the API's JSON) hexadecimal.
impl Serialize for Number {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() { s.collect_str(self) } else { self.0.serialize(s) }
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        if d.is_human_readable() {
            String::deserialize(d)?.parse().map_err(de::Error::custom)
        } else {
            <[u8; 16]>::deserialize(d).map(Self)
        }
    }
}

/// A holder's statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    /// Where it stands.
    pub tally: Tally,
    /// The signed head.
    pub head: Vec<u8>,
}

/// What became of an order, in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OrderState {
    /// Paid; so much was given back, in minor units.
    Paid {
        /// Given back.
        refunded: u64,
        /// What was paid for was handed over.
        fulfilled: bool,
    },
    /// Held for whoever is paid.
    Held,
    /// Held, and taken.
    Taken,
    /// Held, and it went back.
    Returned,
    /// Refused for good.
    Refused,
}

/// An order that came to this device as an issuer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderRow {
    /// The signed order.
    pub order: Vec<u8>,
    /// The offer that it pays.
    pub offer: Option<OfferId>,
    /// The signed outcome: the answer, word for word.
    pub outcome: Vec<u8>,
    /// When it was answered.
    pub at: Millis,
    /// Where it stands.
    pub state: OrderState,
}

/// Something for sale.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductRow {
    /// In which money.
    pub asset: AssetId,
    /// What it is.
    pub title: String,
    /// Price of one, in minor units.
    pub price: u64,
    /// How many are left; none for any number.
    pub stock: Option<u32>,
    /// Whether it is for sale.
    pub open: bool,
}

/// An offer that this device made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferRow {
    /// The signed offer.
    pub offer: Vec<u8>,
    /// To whom.
    pub device: DeviceId,
    /// Products and how many of each.
    pub lines: Vec<([u8; 16], u32)>,
    /// What the asker wrote.
    pub note: String,
    /// How it stands.
    pub state: OfferState,
}

/// Where a payment of this device stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PayState {
    /// The price was asked for.
    Asked,
    /// There is an offer; the person decides.
    Offered,
    /// Signed and sent: not known yet. It resolves itself when the issuer is met, at the latest
    /// when the order's time is up.
    Sent,
    /// Paid; of a transfer, taken.
    Paid,
    /// Held at the issuer for whoever is paid.
    Held {
        /// Exclusive; then it goes back.
        until: Millis,
    },
    /// It was held, and came back.
    Returned,
    /// Not paid, for good.
    Refused {
        /// The reason's number ([`teahouse_protocols::pay::Refusal`]).
        why: u8,
    },
}

/// What this device pays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    /// When it was begun.
    pub at: Millis,
    /// In which money.
    pub asset: AssetId,
    /// The issuer's device.
    pub issuer: DeviceId,
    /// Who is paid.
    pub to: AccountId,
    /// What it is for: the product's title, the offer's, or a memo.
    pub title: String,
    /// In minor units; of what was only asked for, what the poster said.
    pub amount: u64,
    /// Paid without asking again if it costs no more, in the money that the poster showed.
    pub up_to: Option<Money>,
    /// Where it stands.
    pub state: PayState,
    /// What the issuer said last without signing it: no final word.
    pub hint: Option<u8>,
    /// The signed offer.
    pub offer: Option<Vec<u8>>,
    /// The signed order.
    pub order: Option<Vec<u8>>,
    /// The issuer's signed word.
    pub outcome: Option<Vec<u8>>,
    /// The payee's signed refunds.
    pub refunds: Vec<Vec<u8>>,
    /// Given back, in minor units.
    pub refunded: u64,
    /// The payee has handed over what was paid.
    pub fulfilled: bool,
}

/// What is said until it is answered: always the same bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Out {
    /// The encoded frame.
    pub bytes: Vec<u8>,
    /// Not said any more from then on.
    pub until: Option<Millis>,
}

/// The account's own statement, as this device has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balance {
    /// As far as it was followed.
    pub tally: Tally,
    /// The signed head.
    pub head: Vec<u8>,
    /// When the issuer was heard last.
    pub heard: Millis,
}

/// A channel that this device opened as an issuer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelRow {
    /// In which money.
    pub asset: AssetId,
    /// Who pays.
    pub payer: AccountId,
    /// The signed channel: the answer, word for word.
    pub channel: Vec<u8>,
    /// What is reserved, in minor units.
    pub capacity: u64,
    /// From when.
    pub opened: Millis,
    /// Vouchers are taken until then, exclusive; then it is settled.
    pub expires: Millis,
    /// Settled: when, and what came to the payee, in minor units.
    pub settled: Option<(Millis, u64)>,
}

/// What the payee signed about a voucher that it took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Word {
    /// Taken, and served.
    Taken(Vec<u8>),
    /// Taken, and given back at once.
    Credited(Vec<u8>),
    /// Not taken; a payer's device keeps it.
    NotTaken(Vec<u8>),
}

/// A voucher that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoucherRow {
    /// The signed voucher.
    pub voucher: Vec<u8>,
    /// The payee's signed word: the answer, word for word.
    pub word: Word,
    /// The lane's sum with it, in minor units.
    pub cumulative: u64,
    /// What it paid, and what went back of it.
    pub paid: Paid,
    /// The offer that it pays.
    pub offer: OfferId,
    /// When it was taken.
    pub at: Millis,
    /// What was paid for was handed over.
    pub fulfilled: bool,
}

/// A payment of this device's out of a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoucherOut {
    /// The channel.
    pub channel: ChannelId,
    /// The signed voucher.
    pub voucher: Vec<u8>,
    /// Its id.
    pub id: VoucherId,
    /// The payee's signed word.
    pub word: Option<Word>,
}

/// Where a channel stands that this device asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChannelState {
    /// Asked for.
    Asked,
    /// It is paid from.
    Open,
    /// It is not: refused, settled, ended or frozen.
    Over,
    /// It is not: the payee has more of the lane than this device, which was restored from an
    /// older copy, or less, as the payee was.
    OutOfStep,
}

/// A channel that this device asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelOut {
    /// In which money.
    pub asset: AssetId,
    /// The issuer's device.
    pub issuer: DeviceId,
    /// The signed request.
    pub request: Vec<u8>,
    /// The request is void from then on.
    pub until: Millis,
    /// The signed channel.
    pub channel: Option<Vec<u8>>,
    /// This device's lane.
    pub lane: Option<LaneOut>,
    /// Where it stands.
    pub state: ChannelState,
}

/// Where something that waits for this account stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IncomingState {
    /// The person decides.
    Waits,
    /// Taken; the issuer has not said so yet.
    Accepting,
    /// Taken, says the issuer.
    Accepted,
    /// Declined.
    Declined,
    /// The issuer doesn't hold it any more.
    Gone,
}

/// What waits for this account at an issuer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incoming {
    /// In which money.
    pub asset: AssetId,
    /// The issuer's device.
    pub issuer: DeviceId,
    /// Who sent it.
    pub from: AccountId,
    /// Minor units.
    pub amount: u64,
    /// What the sender wrote.
    pub memo: String,
    /// Until when it can be taken, exclusive.
    pub until: Millis,
    /// Where it stands.
    pub state: IncomingState,
}

/// An issuer that this account knows: a record that its devices share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// The signed asset.
    pub asset: Vec<u8>,
    /// Shows that its key is the issuer's.
    pub grant: Grant,
    /// Where the issuer's device is met.
    pub relays: Vec<RelayAddr>,
    /// Its multiaddresses.
    pub addrs: Vec<String>,
}

/// An order's id as it is stored.
pub(super) fn order_id(raw: &[u8]) -> Option<OrderId> {
    Some(OrderId(raw.try_into().ok()?))
}
