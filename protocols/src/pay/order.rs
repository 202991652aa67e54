//! A payment at the issuer: the payer orders, the issuer says what became of it, the payee may
//! give back.
//!
//! The same device and nonce mean the same payment. The issuer keeps the order's bytes and its
//! signed [`Outcome`]: the same bytes again get the same outcome, other bytes are refused
//! ([`Refusal::SameKeyOtherBytes`]). An outcome is final, also one that refuses: what was
//! refused is ordered anew, with a new nonce.

use serde::{Deserialize, Serialize};

use super::{
    Asset, MAX_MEMO, MAX_ORDER_LIFE, Offer, Refusal, check_span, check_version, rule, signed_by,
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
    /// Not carried out, and it never will be.
    Refused(Refusal),
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

/// "I give back so much of that order, in all."
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
    /// Counts the refunds of the order from 1.
    pub number: u32,
    /// Given back by this refund and those before it, in minor units; at least 1.
    pub refunded: u64,
    /// For the payer to read.
    pub memo: Text<MAX_MEMO>,
    /// When.
    pub at: Millis,
}

/// What is known of a paid order: how much, and how much of it went back. The issuer and the
/// payee keep it; `refunded` never exceeds `amount` and never falls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paid {
    /// Paid, in minor units.
    pub amount: u64,
    /// Refunds so far.
    pub refunds: u32,
    /// Given back so far.
    pub refunded: u64,
}

/// Why a refund was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RefundError {
    /// Not of this order, money or payee.
    #[error("a refund of something else")]
    Other,
    /// Not the next one.
    #[error("not the next refund of the order")]
    Number,
    /// Less than was given back already, or the same.
    #[error("refunds only add up")]
    Fell,
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

    /// Whether the order's own time is not up.
    pub const fn in_time(&self, now: Millis) -> Result<(), Refusal> {
        if now < self.expires { Ok(()) } else { Err(Refusal::Expired) }
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
        Self { amount, refunds: 0, refunded: 0 }
    }

    /// What becomes of it by a refund, and how much is to be moved back now. The refund that
    /// was taken last moves nothing again.
    pub fn refund(
        &self,
        order: &Signed<PaymentOrder>,
        refund: &Refund,
    ) -> Result<(Self, u64), RefundError> {
        let o = order.get();
        if refund.order != PaymentOrder::id(order)
            || refund.asset != o.asset
            || refund.payee != o.to
        {
            return Err(RefundError::Other);
        }
        if refund.number == self.refunds && refund.refunded == self.refunded {
            return Ok((*self, 0));
        }
        if self.refunds.checked_add(1) != Some(refund.number) {
            return Err(RefundError::Number);
        }
        if refund.refunded > self.amount {
            return Err(RefundError::TooMuch);
        }
        let back = match refund.refunded.checked_sub(self.refunded) {
            Some(back) if back > 0 => back,
            _ => return Err(RefundError::Fell),
        };
        Ok((Self { refunds: refund.number, refunded: refund.refunded, ..*self }, back))
    }
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
    const MAX_BYTES: usize = 1 + 3 * 32 + (1 + 10) + 10;

    fn check(&self) -> Result<(), DecodeError> {
        check_version(Self::NAME, self.version)
    }
}

impl Wire for Refund {
    const NAME: &'static str = "refund";
    const MAX_BYTES: usize = 1 + 4 * 32 + 5 + 10 + (2 + MAX_MEMO) + 10;

    fn check(&self) -> Result<(), DecodeError> {
        check_version(Self::NAME, self.version)?;
        rule(Self::NAME, self.number > 0 && self.refunded > 0, "a refund of nothing")
    }
}

signed_by! {
    PaymentOrder: PAYMENT_ORDER, device;
    Outcome: OUTCOME, key;
    Refund: REFUND, key;
}
