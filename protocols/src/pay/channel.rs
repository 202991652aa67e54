//! Channels: many small payments from one payer to one payee, settled at the issuer.
//!
//! A payer's device asks ([`ChannelRequest`]); the issuer reserves the capacity and signs the
//! [`Channel`]. Each device of the payer has a *lane* of its own with a cap. It pays by
//! [`Voucher`]s, which count up: the lane's last voucher says all that was ever paid in it.
//! The payee takes each voucher ([`VoucherAck`]), takes it and gives the amount back
//! ([`Credit`]), or doesn't take it ([`VoucherRefusal`]). Credits count up as well. Settling
//! pays `cumulative − credited`, at most the cap. A channel is never renewed: whoever goes on
//! asks for another one.
//!
//! A payer's device signs one voucher for each nonce, ever, and resends just that. Therefore a
//! payee that can't serve a voucher which follows the chain rightly (the offer is gone, it came
//! late) takes it and credits it: refusing it would leave the lane with a nonce that is neither
//! used nor free. What doesn't follow the chain is refused without being taken.
//!
//! The rules are in [`super::lane`].

use serde::{Deserialize, Serialize};

use super::{
    Asset, CHANNEL_LIFE, FREEZE_GRACE, MAX_LANES, MAX_MEMO, MAX_ORDER_LIFE, Offer, Refusal,
    SETTLE_TIME, amount, check_span, check_version, rule, signed_by,
};
use crate::codec::{DecodeError, List, Text, Wire};
use crate::ids::{AccountId, AssetId, ChannelId, DeviceId, Millis, OfferId, VoucherId};
use crate::sign::Signed;

/// A device's lane and the most that it may owe, in minor units; at least 1.
pub type LaneCap = (DeviceId, u64);

/// "Reserve so much of mine for that payee."
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelRequest {
    /// [`super::VERSION`].
    pub version: u8,
    /// In which money, and so at which issuer.
    pub asset: AssetId,
    /// Whose balance.
    pub account: AccountId,
    /// The payer's device; it signs.
    pub device: DeviceId,
    /// Who will be paid.
    pub payee: AccountId,
    /// The payee's key, which takes vouchers and gives credits.
    pub payee_key: DeviceId,
    /// What is reserved, in minor units.
    pub capacity: u64,
    /// The lanes, strictly ascending by device. Their caps add up to the capacity at most.
    pub lanes: List<LaneCap, MAX_LANES>,
    /// Random.
    pub nonce: [u8; 16],
    /// When it was made.
    pub made: Millis,
    /// Not to be opened from then on; at most [`MAX_ORDER_LIFE`] later.
    pub expires: Millis,
}

/// The issuer's word that the capacity is reserved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    /// [`super::VERSION`].
    pub version: u8,
    /// The channel: the id of the signed request that it answers.
    pub id: ChannelId,
    /// In which money.
    pub asset: AssetId,
    /// The issuer's key; it signs.
    pub key: DeviceId,
    /// Whose balance.
    pub payer: AccountId,
    /// Who is paid.
    pub payee: AccountId,
    /// The payee's key.
    pub payee_key: DeviceId,
    /// What is reserved, in minor units.
    pub capacity: u64,
    /// The lanes, strictly ascending by device.
    pub lanes: List<LaneCap, MAX_LANES>,
    /// From when.
    pub opened: Millis,
    /// Vouchers are taken until then, exclusive; at most [`CHANNEL_LIFE`] later.
    pub expires: Millis,
    /// And settled until then, exclusive; at most [`SETTLE_TIME`] later.
    pub settle_by: Millis,
}

/// "All that this lane has paid is now so much."
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voucher {
    /// [`super::VERSION`].
    pub version: u8,
    /// The channel.
    pub channel: ChannelId,
    /// The lane's device; it signs.
    pub lane: DeviceId,
    /// Counts the lane's vouchers from 1.
    pub nonce: u64,
    /// Paid in the lane by this voucher and those before it, in minor units; at least 1.
    pub cumulative: u64,
    /// The offer that this voucher pays.
    pub offer: OfferId,
    /// The voucher before; zeros for the first.
    pub prev: VoucherId,
    /// When it was made.
    pub made: Millis,
    /// The payee serves it until then, exclusive; at most [`MAX_ORDER_LIFE`] later.
    pub expires: Millis,
}

/// The payee's word that it took a voucher and owes what the offer says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoucherAck {
    /// [`super::VERSION`].
    pub version: u8,
    /// The channel.
    pub channel: ChannelId,
    /// The lane.
    pub lane: DeviceId,
    /// The payee's key; it signs.
    pub key: DeviceId,
    /// The voucher.
    pub voucher: VoucherId,
    /// Its nonce.
    pub nonce: u64,
    /// What it added to the lane, in minor units.
    pub amount: u64,
    /// The offer that it paid.
    pub offer: OfferId,
    /// When.
    pub at: Millis,
}

/// The payee's word that it did not take a voucher, and where it has the lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoucherRefusal {
    /// [`super::VERSION`].
    pub version: u8,
    /// The channel.
    pub channel: ChannelId,
    /// The lane.
    pub lane: DeviceId,
    /// The payee's key; it signs.
    pub key: DeviceId,
    /// The voucher.
    pub voucher: VoucherId,
    /// Its nonce.
    pub nonce: u64,
    /// What it would have added to the lane, in minor units, by the payee's reckoning.
    pub amount: u64,
    /// The offer that it was to pay.
    pub offer: OfferId,
    /// Why; never a reason that passes ([`Refusal::passes`]).
    pub why: Refusal,
    /// The nonce of the last voucher that the payee took; 0 for none.
    pub taken: u64,
    /// When.
    pub at: Millis,
}

/// Why something is given back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CreditReason {
    /// The voucher was taken, but not served.
    Refused(Refusal),
    /// What was paid goes back, in part or in full.
    Refund(Text<MAX_MEMO>),
}

/// "All that I have given back in this lane is now so much."
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credit {
    /// [`super::VERSION`].
    pub version: u8,
    /// The channel.
    pub channel: ChannelId,
    /// The lane.
    pub lane: DeviceId,
    /// The payee's key; it signs.
    pub key: DeviceId,
    /// Given back by this credit and those before it, in minor units; at least 1. Of two
    /// credits the one with the higher sum is the later.
    pub credited: u64,
    /// The voucher of which something is given back.
    pub voucher: VoucherId,
    /// The offer that it paid.
    pub offer: OfferId,
    /// Why.
    pub reason: CreditReason,
    /// When.
    pub at: Millis,
}

/// A payer's device asks to freeze all that another device of its account may pay: it was lost
/// or stolen. The issuer judges by the account's log who may ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreezeRequest {
    /// [`super::VERSION`].
    pub version: u8,
    /// In which money, and so at which issuer.
    pub asset: AssetId,
    /// Whose device.
    pub account: AccountId,
    /// The device whose lanes are to be frozen.
    pub lane: DeviceId,
    /// The account's device that asks; it signs.
    pub device: DeviceId,
    /// When.
    pub made: Millis,
}

/// The issuer's word that a device's lanes are frozen, in all channels of its account.
/// Vouchers that are shown to the issuer before `honoured_until` are settled, up to the cap;
/// later ones are not, whatever time an acknowledgement names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    /// [`super::VERSION`].
    pub version: u8,
    /// In which money.
    pub asset: AssetId,
    /// Whose device.
    pub account: AccountId,
    /// The device whose lanes are frozen.
    pub lane: DeviceId,
    /// The issuer's key; it signs.
    pub key: DeviceId,
    /// From when.
    pub at: Millis,
    /// At most [`FREEZE_GRACE`] later, exclusive.
    pub honoured_until: Millis,
    /// It follows a proof that the device cheats; else the account's log, or its request.
    pub fraud: bool,
}

/// The payee's word that it claims nothing more of a channel, so that what is left of the
/// reserve goes back before its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// [`super::VERSION`].
    pub version: u8,
    /// The channel.
    pub channel: ChannelId,
    /// The payee's key; it signs.
    pub key: DeviceId,
    /// When.
    pub at: Millis,
}

impl Channel {
    /// Most bytes of a signed channel.
    pub const MAX_SIGNED: usize = Self::MAX_BYTES + Signed::<Self>::OVERHEAD;

    /// The channel that answers a request; none where the times can't be counted.
    #[must_use]
    pub fn answering(request: &Signed<ChannelRequest>, key: DeviceId, now: Millis) -> Option<Self> {
        let r = request.get();
        let expires = now.checked_add(CHANNEL_LIFE)?;
        Some(Self {
            version: super::VERSION,
            id: ChannelId(request.id()),
            asset: r.asset,
            key,
            payer: r.account,
            payee: r.payee,
            payee_key: r.payee_key,
            capacity: r.capacity,
            lanes: r.lanes.clone(),
            opened: now,
            expires,
            settle_by: expires.checked_add(SETTLE_TIME)?,
        })
    }

    /// Whether it grants just what was asked.
    #[must_use]
    pub fn grants(&self, request: &Signed<ChannelRequest>) -> bool {
        let r = request.get();
        self.id == ChannelId(request.id())
            && self.asset == r.asset
            && self.payer == r.account
            && self.payee == r.payee
            && self.payee_key == r.payee_key
            && self.capacity == r.capacity
            && self.lanes == r.lanes
    }

    /// Whether the issuer of that money signed it.
    #[must_use]
    pub fn is_in(&self, asset: &Signed<Asset>) -> bool {
        self.asset == Asset::id(asset) && self.key == asset.get().key
    }

    /// Whether a voucher that was taken is to be served: it pays just this offer of the payee's,
    /// by a device that may, in time. If not, it is credited for this reason.
    pub fn serves(
        &self,
        voucher: &Voucher,
        amount: u64,
        offer: &Signed<Offer>,
        now: Millis,
    ) -> Result<(), Refusal> {
        let o = offer.get();
        let ours = (o.asset, o.payee, o.key) == (self.asset, self.payee, self.payee_key);
        if voucher.offer != Offer::id(offer) || !ours {
            return Err(Refusal::UnknownOffer);
        }
        if amount != o.price {
            return Err(Refusal::WrongAmount);
        }
        if !o.is_for(&voucher.lane) {
            return Err(Refusal::NotYourOffer);
        }
        if now >= voucher.expires {
            return Err(Refusal::Expired);
        }
        if !o.stands(now) {
            return Err(Refusal::OfferExpired);
        }
        Ok(())
    }

    /// The cap of a device's lane.
    #[must_use]
    pub fn cap(&self, device: &DeviceId) -> Option<u64> {
        self.lanes.iter().find(|(d, _)| d == device).map(|(_, cap)| *cap)
    }
}

impl Voucher {
    /// Most bytes of a signed voucher.
    pub const MAX_SIGNED: usize = Self::MAX_BYTES + Signed::<Self>::OVERHEAD;

    /// The id of a signed voucher.
    #[must_use]
    pub const fn id(signed: &Signed<Self>) -> VoucherId {
        VoucherId(signed.id())
    }

    /// The place in the lane that is paid only once.
    #[must_use]
    pub const fn place(&self) -> (ChannelId, DeviceId, u64) {
        (self.channel, self.lane, self.nonce)
    }
}

impl VoucherAck {
    /// Most bytes of a signed acknowledgement.
    pub const MAX_SIGNED: usize = Self::MAX_BYTES + Signed::<Self>::OVERHEAD;
}

impl ChannelRequest {
    /// Most bytes of a signed request.
    pub const MAX_SIGNED: usize = Self::MAX_BYTES + Signed::<Self>::OVERHEAD;
}

impl Credit {
    /// Most bytes of a signed credit.
    pub const MAX_SIGNED: usize = Self::MAX_BYTES + Signed::<Self>::OVERHEAD;
}

impl VoucherRefusal {
    /// Most bytes when signed.
    pub const MAX_SIGNED: usize = Self::MAX_BYTES + Signed::<Self>::OVERHEAD;
}

impl FreezeRequest {
    /// Most bytes when signed.
    pub const MAX_SIGNED: usize = Self::MAX_BYTES + Signed::<Self>::OVERHEAD;
}

impl Freeze {
    /// Most bytes when signed.
    pub const MAX_SIGNED: usize = Self::MAX_BYTES + Signed::<Self>::OVERHEAD;
}

impl Release {
    /// Most bytes when signed.
    pub const MAX_SIGNED: usize = Self::MAX_BYTES + Signed::<Self>::OVERHEAD;
}

fn check_lanes(name: &'static str, capacity: u64, lanes: &[LaneCap]) -> Result<(), DecodeError> {
    let ascending = lanes.windows(2).all(|w| w[0].0 < w[1].0);
    rule(name, !lanes.is_empty() && ascending, "lanes not strictly ascending")?;
    rule(name, lanes.iter().all(|(_, cap)| *cap > 0), "a lane of nothing")?;
    let caps = amount::sum(lanes.iter().map(|(_, cap)| *cap));
    rule(name, caps.is_some_and(|sum| sum <= capacity), "more in the lanes than reserved")
}

impl Wire for ChannelRequest {
    const NAME: &'static str = "channel request";
    const MAX_BYTES: usize = 1 + 5 * 32 + 10 + (1 + MAX_LANES * (32 + 10)) + 16 + 10 + 10;

    fn check(&self) -> Result<(), DecodeError> {
        check_version(Self::NAME, self.version)?;
        check_span(Self::NAME, self.made, self.expires, MAX_ORDER_LIFE)?;
        rule(Self::NAME, self.account != self.payee, "a channel to oneself")?;
        check_lanes(Self::NAME, self.capacity, &self.lanes)
    }
}

impl Wire for Channel {
    const NAME: &'static str = "payment channel";
    const MAX_BYTES: usize = 1 + 6 * 32 + 10 + (1 + MAX_LANES * (32 + 10)) + 10 + 10 + 10;

    fn check(&self) -> Result<(), DecodeError> {
        check_version(Self::NAME, self.version)?;
        check_span(Self::NAME, self.opened, self.expires, CHANNEL_LIFE)?;
        check_span(Self::NAME, self.expires, self.settle_by, SETTLE_TIME)?;
        rule(Self::NAME, self.payer != self.payee, "a channel to oneself")?;
        check_lanes(Self::NAME, self.capacity, &self.lanes)
    }
}

impl Wire for Voucher {
    const NAME: &'static str = "voucher";
    const MAX_BYTES: usize = 1 + 32 + 32 + 10 + 10 + 32 + 32 + 10 + 10;

    fn check(&self) -> Result<(), DecodeError> {
        check_version(Self::NAME, self.version)?;
        check_span(Self::NAME, self.made, self.expires, MAX_ORDER_LIFE)?;
        rule(Self::NAME, self.nonce > 0 && self.cumulative > 0, "a voucher of nothing")?;
        // Every voucher adds at least 1.
        rule(Self::NAME, self.cumulative >= self.nonce, "less than its vouchers add up to")?;
        let first = self.nonce == 1;
        rule(Self::NAME, first == (self.prev == VoucherId([0; 32])), "first or not")
    }
}

impl Wire for VoucherAck {
    const NAME: &'static str = "voucher taken";
    const MAX_BYTES: usize = 1 + 4 * 32 + 10 + 10 + 32 + 10;

    fn check(&self) -> Result<(), DecodeError> {
        check_version(Self::NAME, self.version)?;
        rule(Self::NAME, self.nonce > 0 && self.amount > 0, "an amount of nothing")
    }
}

impl Wire for VoucherRefusal {
    const NAME: &'static str = "voucher refused";
    const MAX_BYTES: usize = 1 + 4 * 32 + 10 + 10 + 32 + 1 + 10 + 10;

    fn check(&self) -> Result<(), DecodeError> {
        check_version(Self::NAME, self.version)?;
        rule(Self::NAME, !self.why.passes(), "signed, though it may pass")
    }
}

impl Wire for Credit {
    const NAME: &'static str = "credit";
    const MAX_BYTES: usize = 1 + 3 * 32 + 10 + 32 + 32 + (1 + 2 + MAX_MEMO) + 10;

    fn check(&self) -> Result<(), DecodeError> {
        check_version(Self::NAME, self.version)?;
        rule(Self::NAME, self.credited > 0, "a credit of nothing")
    }
}

impl Wire for FreezeRequest {
    const NAME: &'static str = "freeze request";
    const MAX_BYTES: usize = 1 + 4 * 32 + 10;

    fn check(&self) -> Result<(), DecodeError> {
        check_version(Self::NAME, self.version)
    }
}

impl Wire for Freeze {
    const NAME: &'static str = "freeze";
    const MAX_BYTES: usize = 1 + 4 * 32 + 10 + 10 + 1;

    fn check(&self) -> Result<(), DecodeError> {
        check_version(Self::NAME, self.version)?;
        check_span(Self::NAME, self.at, self.honoured_until, FREEZE_GRACE)
    }
}

impl Wire for Release {
    const NAME: &'static str = "channel release";
    const MAX_BYTES: usize = 1 + 32 + 32 + 10;

    fn check(&self) -> Result<(), DecodeError> {
        check_version(Self::NAME, self.version)
    }
}

signed_by! {
    ChannelRequest: CHANNEL_REQUEST, device;
    Channel: CHANNEL, key;
    Voucher: VOUCHER, lane;
    VoucherAck: VOUCHER_ACK, key;
    VoucherRefusal: VOUCHER_REFUSAL, key;
    Credit: CREDIT, key;
    FreezeRequest: FREEZE_REQUEST, device;
    Freeze: FREEZE, key;
    Release: RELEASE, key;
}
