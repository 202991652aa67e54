//! Why money didn't move, in words for people.

use serde::{Deserialize, Serialize};

/// A reason. On the wire one byte: its place in [`Refusal::ALL`], which grows at the end only.
/// What a later version says reads as [`Refusal::Other`].
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, thiserror::Error,
)]
#[serde(from = "u8", into = "u8")]
pub enum Refusal {
    /// The bytes don't read, or a signature doesn't hold.
    #[error("this can't be read, or its signature doesn't hold")]
    Malformed,
    /// Another asset, or one that is not issued here.
    #[error("this money is not issued here")]
    UnknownAsset,
    /// The device isn't one of the account's, or the account isn't known.
    #[error("this device doesn't act for that account")]
    NotYourDevice,
    /// The account has no balance here.
    #[error("there is no balance here under that account")]
    UnknownHolder,
    /// Nobody of that name is paid here.
    #[error("nobody can be paid here under that account")]
    UnknownPayee,
    /// Not enough is left.
    #[error("the balance is not enough")]
    InsufficientBalance,
    /// An amount of zero, or one that doesn't fit what it is for.
    #[error("the amount is not what was asked for")]
    WrongAmount,
    /// More than can be counted.
    #[error("the amount is too large")]
    TooLarge,
    /// It came after its time.
    #[error("it came too late: its time was up")]
    Expired,
    /// The offer isn't known.
    #[error("this offer is not known")]
    UnknownOffer,
    /// The offer's time is up.
    #[error("the offer has expired")]
    OfferExpired,
    /// The offer was made to another device.
    #[error("the offer was made to somebody else")]
    NotYourOffer,
    /// The offer was paid before.
    #[error("this has been paid already")]
    AlreadyPaid,
    /// Nothing left to sell.
    #[error("out of stock")]
    OutOfStock,
    /// The product isn't sold.
    #[error("this is not for sale here")]
    UnknownProduct,
    /// The nonce was used for something else.
    #[error("this number was used for another payment")]
    SameKeyOtherBytes,
    /// No such channel or lane.
    #[error("there is no such payment channel")]
    UnknownChannel,
    /// The channel's time is up.
    #[error("the payment channel has ended")]
    ChannelOver,
    /// The lane is frozen.
    #[error("payments from this device are frozen")]
    LaneFrozen,
    /// More than the lane's cap allows.
    #[error("this is more than the device may spend")]
    OverCap,
    /// A voucher before this one hasn't come.
    #[error("an earlier payment hasn't arrived yet")]
    Gap,
    /// The voucher doesn't follow the last one.
    #[error("this payment doesn't follow the last one")]
    BrokenChain,
    /// More would be given back than was paid.
    #[error("more would be given back than was paid")]
    TooMuchBack,
    /// The payee doesn't want it; for reasons of its own.
    #[error("the shop declined")]
    Declined,
    /// Too much at once.
    #[error("too many requests; try again later")]
    SlowDown,
    /// It can't be decided now.
    #[error("not possible at the moment; try again later")]
    Unavailable,
    /// Whoever is paid has not accepted it, or is not the one who may.
    #[error("this transfer can't be answered any more")]
    NotHeld,
    /// A reason that this build doesn't know.
    #[error("refused for a reason that this version doesn't know ({0})")]
    Other(u8),
}

impl From<u8> for Refusal {
    fn from(code: u8) -> Self {
        Self::ALL.get(usize::from(code)).copied().unwrap_or(Self::Other(code))
    }
}

impl From<Refusal> for u8 {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Other(code) => code,
            // Invariant: far fewer than 256 reasons.
            known => Refusal::ALL
                .iter()
                .position(|r| *r == known)
                .and_then(|n| Self::try_from(n).ok())
                .unwrap_or(Self::MAX),
        }
    }
}

impl Refusal {
    /// Whether asking again later may end otherwise: such a reason is never signed, and
    /// changes nothing.
    #[must_use]
    pub const fn passes(self) -> bool {
        matches!(self, Self::SlowDown | Self::Unavailable)
    }

    /// Every reason, in wire order.
    pub const ALL: [Self; 27] = [
        Self::Malformed,
        Self::UnknownAsset,
        Self::NotYourDevice,
        Self::UnknownHolder,
        Self::UnknownPayee,
        Self::InsufficientBalance,
        Self::WrongAmount,
        Self::TooLarge,
        Self::Expired,
        Self::UnknownOffer,
        Self::OfferExpired,
        Self::NotYourOffer,
        Self::AlreadyPaid,
        Self::OutOfStock,
        Self::UnknownProduct,
        Self::SameKeyOtherBytes,
        Self::UnknownChannel,
        Self::ChannelOver,
        Self::LaneFrozen,
        Self::OverCap,
        Self::Gap,
        Self::BrokenChain,
        Self::TooMuchBack,
        Self::Declined,
        Self::SlowDown,
        Self::Unavailable,
        Self::NotHeld,
    ];
}
