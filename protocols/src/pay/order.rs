//! A payment at the issuer: the payer orders, the issuer says what became of it, the payee may
//! give back.
//!
//! The same device and nonce mean the same payment. The issuer keeps the order's bytes and its
//! signed [`Outcome`]: the same bytes again get the same outcome, other bytes are refused
//! ([`Refusal::SameKeyOtherBytes`]). An outcome is final, also one that refuses: what was
//! refused is ordered anew, with a new nonce.

use serde::{Deserialize, Serialize};

use super::{
    Asset, MAX_MEMO, MAX_ORDER_LIFE, Offer, Refusal, begun, check_span, check_version, rule,
    signed_by,
};
use crate::codec::{DecodeError, Text, Wire};
use crate::ids::{AccountId, AssetId, DeviceId, Millis, OfferId, OrderId};
use crate::sign::Signed;

/// "Pay this amount of mine to that account."
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentOrder {
    /// [`super::VERSION`].
    pub version: u8,
    /// In which money, and so at which issuer.
    pub asset: AssetId,
    /// Whose balance.
    pub account: AccountId,
    /// The payer's device; it signs.
    pub device: DeviceId,
    /// Who is paid: another holder, or the issuer itself.
    pub to: AccountId,
    /// Minor units; at least 1.
    pub amount: u64,
    /// The offer that is paid, if any: then the amount is its price and the payee its payee.
    pub offer: Option<OfferId>,
    /// For the payee to read.
    pub memo: Text<MAX_MEMO>,
    /// Random. With the device it is the payment's key.
    pub nonce: [u8; 16],
    /// When it was made.
    pub made: Millis,
    /// Not to be carried out from then on; at most [`MAX_ORDER_LIFE`] later.
    pub expires: Millis,
}

/// What became of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// Carried out.
    Paid {
        /// The entry's number in the payer's statement.
        entry: u64,
    },
    /// Not carried out, and it never will be. Never for a reason that passes.
    Refused(Refusal),
    /// Held for whoever is paid, who accepts or declines ([`TransferAnswer`]); from `until` on it
    /// goes back. The payer's statement says which.
    Held {
        /// The entry's number in the payer's statement.
        entry: u64,
        /// Exclusive.
        until: Millis,
    },
}

/// The issuer's word on an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// [`super::VERSION`].
    pub version: u8,
    /// In which money.
    pub asset: AssetId,
    /// The issuer's key; it signs.
    pub key: DeviceId,
    /// The order.
    pub order: OrderId,
    /// What became of it.
    pub verdict: Verdict,
    /// When.
    pub at: Millis,
}

/// "I take what was sent me", or "I don't": the word of whoever a held order pays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferAnswer {
    /// [`super::VERSION`].
    pub version: u8,
    /// In which money.
    pub asset: AssetId,
    /// The order.
    pub order: OrderId,
    /// Who is paid.
    pub account: AccountId,
    /// Its device; it signs.
    pub device: DeviceId,
    /// Whether it is taken.
    pub accept: bool,
    /// When.
    pub at: Millis,
}

/// "I give back so much of that order, besides what I gave back before." Each signed refund
/// counts once, by its id: two devices of a payee that give back at one time both do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refund {
    /// [`super::VERSION`].
    pub version: u8,
    /// In which money.
    pub asset: AssetId,
    /// The order.
    pub order: OrderId,
    /// Who was paid.
    pub payee: AccountId,
    /// The payee's device; it signs.
    pub key: DeviceId,
    /// Minor units; at least 1.
    pub amount: u64,
    /// Random: tells refunds of one amount apart.
    pub nonce: [u8; 16],
    /// For the payer to read.
    pub memo: Text<MAX_MEMO>,
    /// When.
    pub at: Millis,
}

/// What is known of something paid: how much, and how much of it went back. `refunded` never
/// exceeds `amount` and never falls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paid {
    /// Paid, in minor units.
    pub amount: u64,
    /// Given back so far.
    pub refunded: u64,
}

/// Why a refund was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RefundError {
    /// Not of this order, money or payee.
    #[error("a refund of something else")]
    Other,
    /// More than was paid.
    #[error("more would be given back than was paid")]
    TooMuch,
}

impl PaymentOrder {
    /// Most bytes of a signed order.
    pub const MAX_SIGNED: usize = Self::MAX_BYTES + Signed::<Self>::OVERHEAD;

    /// The id of a signed order.
    #[must_use]
    pub const fn id(signed: &Signed<Self>) -> OrderId {
        OrderId(signed.id())
    }

    /// Whether the order pays just this offer, by a device that may, in time.
    pub fn pays(&self, offer: &Signed<Offer>, now: Millis) -> Result<(), Refusal> {
        let o = offer.get();
        if self.offer != Some(Offer::id(offer)) || self.asset != o.asset || self.to != o.payee {
            return Err(Refusal::UnknownOffer);
        }
        if self.amount != o.price {
            return Err(Refusal::WrongAmount);
        }
        if !o.is_for(&self.device) {
            return Err(Refusal::NotYourOffer);
        }
        if !o.stands(now) {
            return Err(Refusal::OfferExpired);
        }
        Ok(())
    }

    /// Whether the order's own time has begun and is not up.
    pub const fn in_time(&self, now: Millis) -> Result<(), Refusal> {
        if now < self.expires && begun(self.made, now) { Ok(()) } else { Err(Refusal::Expired) }
    }
}

impl Outcome {
    /// Most bytes of a signed outcome.
    pub const MAX_SIGNED: usize = Self::MAX_BYTES + Signed::<Self>::OVERHEAD;

    /// Whether this is the issuer's word on that order.
    #[must_use]
    pub fn is_of(&self, order: &Signed<PaymentOrder>, asset: &Signed<Asset>) -> bool {
        self.asset == Asset::id(asset)
            && self.key == asset.get().key
            && order.get().asset == self.asset
            && self.order == PaymentOrder::id(order)
    }
}

impl Refund {
    /// Most bytes of a signed refund.
    pub const MAX_SIGNED: usize = Self::MAX_BYTES + Signed::<Self>::OVERHEAD;
}

impl Paid {
    /// A payment of which nothing was given back.
    #[must_use]
    pub const fn new(amount: u64) -> Self {
        Self { amount, refunded: 0 }
    }

    /// What may still be given back, in minor units.
    #[must_use]
    pub const fn left(&self) -> u64 {
        self.amount.saturating_sub(self.refunded)
    }

    /// What becomes of it by a refund that did not count before; the caller keeps the ids of
    /// those that did.
    pub fn refund(
        &self,
        order: &Signed<PaymentOrder>,
        refund: &Signed<Refund>,
    ) -> Result<Self, RefundError> {
        let (o, r) = (order.get(), refund.get());
        if (r.order, r.asset, r.payee) != (PaymentOrder::id(order), o.asset, o.to) {
            return Err(RefundError::Other);
        }
        if r.amount > self.left() {
            return Err(RefundError::TooMuch);
        }
        Ok(Self { refunded: self.refunded.saturating_add(r.amount), ..*self })
    }
}

impl TransferAnswer {
    /// Most bytes of a signed answer.
    pub const MAX_SIGNED: usize = Self::MAX_BYTES + Signed::<Self>::OVERHEAD;
}

impl Wire for PaymentOrder {
    const NAME: &'static str = "payment order";
    const MAX_BYTES: usize = 1 + 4 * 32 + 10 + 33 + (2 + MAX_MEMO) + 16 + 10 + 10;

    fn check(&self) -> Result<(), DecodeError> {
        check_version(Self::NAME, self.version)?;
        check_span(Self::NAME, self.made, self.expires, MAX_ORDER_LIFE)?;
        rule(Self::NAME, self.amount > 0, "an amount of nothing")?;
        rule(Self::NAME, self.account != self.to, "a payment to oneself")
    }
}

impl Wire for Outcome {
    const NAME: &'static str = "payment outcome";
    const MAX_BYTES: usize = 1 + 3 * 32 + (1 + 10 + 10) + 10;

    fn check(&self) -> Result<(), DecodeError> {
        check_version(Self::NAME, self.version)?;
        let passes = matches!(self.verdict, Verdict::Refused(why) if why.passes());
        rule(Self::NAME, !passes, "signed, though it may pass")
    }
}

impl Wire for TransferAnswer {
    const NAME: &'static str = "transfer answer";
    const MAX_BYTES: usize = 1 + 4 * 32 + 1 + 10;

    fn check(&self) -> Result<(), DecodeError> {
        check_version(Self::NAME, self.version)
    }
}

impl Wire for Refund {
    const NAME: &'static str = "refund";
    const MAX_BYTES: usize = 1 + 4 * 32 + 10 + 16 + (2 + MAX_MEMO) + 10;

    fn check(&self) -> Result<(), DecodeError> {
        check_version(Self::NAME, self.version)?;
        rule(Self::NAME, self.amount > 0, "a refund of nothing")
    }
}

signed_by! {
    PaymentOrder: PAYMENT_ORDER, device;
    Outcome: OUTCOME, key;
    TransferAnswer: TRANSFER_ANSWER, device;
    Refund: REFUND, key;
}
