//! Questions and answers between a payer and whoever it pays or has a balance at.
//!
//! A request comes over a connection whose other end's device key is authenticated: that is
//! the device it is judged for. It is answered once, by `id`. Whoever gets no answer asks
//! again: what moves money is signed and has a key of its own, so asking twice does nothing
//! twice. Signed forms are carried as their bytes. Both enums grow at the end only; a request
//! of an unknown kind doesn't decode and is answered [`Refusal::Malformed`].

use serde::{Deserialize, Serialize};

use super::{
    Asset, Channel, ChannelRequest, Credit, Entry, FraudProof, Freeze, FreezeRequest, Grant,
    MAX_MEMO, Offer, Outcome, PaymentOrder, Refund, Refusal, Release, StatementHead, Voucher,
    VoucherAck, VoucherRefusal, check_version, rule,
};
use crate::codec::{Bytes, DecodeError, List, Text, Wire};
use crate::ids::{AssetId, ChannelId, OfferId};

/// Most entries of a statement in one reply.
pub const MAX_ENTRIES: usize = 128;
/// Most assets that an issuer tells of.
pub const MAX_ASSETS: usize = 8;

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayRequest {
    /// [`super::VERSION`].
    pub version: u8,
    /// The asker's number for it; comes back in the reply.
    pub id: u64,
    /// What is asked.
    pub ask: Ask,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// "This is whose device I am. Who are you, and what money is issued here?" Comes first.
    Hello {
        /// Of the asking device.
        grant: Grant,
    },
    /// "What does this cost me now?" Answered with [`Answer::Offer`].
    Offer {
        /// The payee's number for the product.
        product: [u8; 16],
        /// How many; at least 1.
        quantity: u32,
        /// For the payee to read.
        note: Text<MAX_MEMO>,
    },
    /// A signed payment order. Answered with [`Answer::Outcome`].
    Pay(Bytes<{ PaymentOrder::MAX_SIGNED }>),
    /// A signed request for a channel. Answered with [`Answer::Channel`].
    Open(Bytes<{ ChannelRequest::MAX_SIGNED }>),
    /// A signed voucher. Answered with [`Answer::Acked`], [`Answer::Credited`] or
    /// [`Answer::VoucherRefused`].
    Voucher(Bytes<{ Voucher::MAX_SIGNED }>),
    /// Entries of the asker's own statement. Answered with [`Answer::Statement`].
    Statement {
        /// In which money.
        asset: AssetId,
        /// The last entry that the asker has; 0 for none.
        after: u64,
    },
    /// What became of this device's order of that nonce. Answered like [`Ask::Pay`], or with
    /// [`Answer::Unknown`].
    OrderOf {
        /// The order's.
        nonce: [u8; 16],
    },
    /// What became of this device's voucher. Answered like [`Ask::Voucher`], or with
    /// [`Answer::Unknown`].
    VoucherOf {
        /// The channel.
        channel: ChannelId,
        /// Its epoch.
        epoch: u32,
        /// The voucher's.
        nonce: u64,
    },
    /// What became of an offer. Answered with [`Answer::OfferIs`], or [`Answer::Unknown`].
    OfferOf {
        /// The offer.
        offer: OfferId,
    },
    /// "I would like to pay this in." A person at the issuer sees to it. The same device and
    /// nonce are the same request.
    TopUp {
        /// In which money.
        asset: AssetId,
        /// Minor units; at least 1.
        amount: u64,
        /// Random.
        nonce: [u8; 16],
        /// For the issuer to read.
        note: Text<MAX_MEMO>,
    },
    /// A signed request to freeze a lane. Answered with [`Answer::Frozen`].
    Freeze(Bytes<{ FreezeRequest::MAX_SIGNED }>),
    /// A device cheats. Answered with [`Answer::Frozen`].
    Fraud(Box<FraudProof>),
    /// What a lane came to. Answered with [`Answer::Settled`].
    Settle {
        /// The last voucher.
        voucher: Option<Bytes<{ Voucher::MAX_SIGNED }>>,
        /// The last credit.
        credit: Option<Bytes<{ Credit::MAX_SIGNED }>>,
        /// The voucher's acknowledgement, where the lane is frozen.
        ack: Option<Bytes<{ VoucherAck::MAX_SIGNED }>>,
    },
    /// A payee gives back what an order paid. Answered with [`Answer::Done`].
    Refund(Bytes<{ Refund::MAX_SIGNED }>),
    /// A payee claims nothing more of a channel. Answered with [`Answer::Done`].
    Release(Bytes<{ Release::MAX_SIGNED }>),
}

/// A reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayReply {
    /// [`super::VERSION`].
    pub version: u8,
    /// The request's.
    pub id: u64,
    /// The newest signed head of the asker's statement in the money concerned, wherever an
    /// issuer replies to one of its holders.
    pub head: Option<Bytes<{ StatementHead::MAX_SIGNED }>>,
    /// What is answered.
    pub answer: Answer,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Who answers.
    Hello {
        /// Of the answering device.
        grant: Grant,
        /// The signed assets that are issued or taken here.
        assets: List<Bytes<{ Asset::MAX_SIGNED }>, MAX_ASSETS>,
    },
    /// A signed offer.
    Offer(Bytes<{ Offer::MAX_SIGNED }>),
    /// The issuer's signed word on an order.
    Outcome(Bytes<{ Outcome::MAX_SIGNED }>),
    /// A signed channel.
    Channel(Bytes<{ Channel::MAX_SIGNED }>),
    /// The voucher was taken: the payee's signed word.
    Acked(Bytes<{ VoucherAck::MAX_SIGNED }>),
    /// The voucher was taken and is given back: the payee's signed credit.
    Credited(Bytes<{ Credit::MAX_SIGNED }>),
    /// The voucher was not taken: the payee's signed word.
    VoucherRefused(Bytes<{ VoucherRefusal::MAX_SIGNED }>),
    /// Entries of a statement, ascending, without gaps. With the last of them the head is
    /// reached.
    Statement {
        /// The entries.
        entries: List<Entry, MAX_ENTRIES>,
        /// There are more.
        more: bool,
    },
    /// How an offer stands.
    OfferIs(OfferState),
    /// Noted; a person will see to it.
    Noted,
    /// The issuer's signed freeze.
    Frozen(Bytes<{ Freeze::MAX_SIGNED }>),
    /// The lane is settled up to here.
    Settled {
        /// The last voucher's nonce.
        nonce: u64,
        /// The last credit's number.
        credits: u32,
    },
    /// It is done, or was before.
    Done,
    /// Nothing of that kind has come here. It may be on its way: not final.
    Unknown,
    /// Not done. Final only where a signed form says so.
    Refused(Refusal),
}

/// How an offer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OfferState {
    /// It can be paid.
    Open,
    /// It was paid.
    Paid,
    /// Its time was up before it was paid.
    Expired,
    /// The payee took it back before it was paid.
    Withdrawn,
    /// Paid and fulfilled.
    Fulfilled,
}

impl Ask {
    const fn counts(&self) -> bool {
        match self {
            Self::Offer { quantity, .. } => *quantity > 0,
            Self::TopUp { amount, .. } => *amount > 0,
            Self::VoucherOf { nonce, .. } => *nonce > 0,
            Self::Settle { voucher, credit, .. } => voucher.is_some() || credit.is_some(),
            _ => true,
        }
    }
}

impl Wire for PayRequest {
    const NAME: &'static str = "payment request";
    // The largest are the records of a greeting.
    const MAX_BYTES: usize = 1 + 10 + 1 + Grant::MAX_BYTES;

    fn check(&self) -> Result<(), DecodeError> {
        check_version(Self::NAME, self.version)?;
        if let Ask::Fraud(proof) = &self.ask {
            proof.check()?;
        }
        rule(Self::NAME, self.ask.counts(), "a request for nothing")
    }
}

impl Wire for PayReply {
    const NAME: &'static str = "payment reply";
    // The largest is a full page of a statement.
    const MAX_BYTES: usize =
        1 + 10 + (1 + 2 + StatementHead::MAX_SIGNED) + 1 + 2 + MAX_ENTRIES * Entry::MAX_BYTES + 1;

    fn check(&self) -> Result<(), DecodeError> {
        check_version(Self::NAME, self.version)?;
        let Answer::Statement { entries, .. } = &self.answer else { return Ok(()) };
        entries.iter().try_for_each(Wire::check)?;
        let follow = entries.windows(2).all(|w| w[0].number.checked_add(1) == Some(w[1].number));
        rule(Self::NAME, follow, "entries are missing")
    }
}
