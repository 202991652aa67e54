//! Questions and answers between a wallet and an issuer's device.
//!
//! A request comes over a connection whose other end's device key is authenticated: that is
//! the device it is judged for. What speaks for an account carries the account's log, so that
//! the issuer learns of revoked devices from whoever shows them. Whoever gets no answer asks
//! again with the same bytes: what moves money is signed and has a key of its own, so asking
//! twice does nothing twice. Signed forms are carried as their bytes. The enums grow at the end
//! only. Payees that are not the issuer have no words yet: these come with the feature that
//! speaks them.

use serde::{Deserialize, Serialize};

use super::{
    Asset, Channel, ChannelRequest, Credit, Entry, Grant, MAX_ITEMS, MAX_MEMO, Offer, Outcome,
    PaymentOrder, Refund, Refusal, StatementHead, TransferAnswer, Voucher, VoucherAck,
    VoucherRefusal, check_version, rule,
};
use crate::codec::{Bytes, DecodeError, List, Text, Wire};
use crate::ids::{AccountId, AssetId, ChannelId, OfferId, OrderId};
use crate::inbox::MAX_RECORD;
use crate::sync::MAX_SERVICE;

/// Most entries of a statement in one reply.
pub const MAX_ENTRIES: usize = 128;
/// Most assets that an issuer tells of.
pub const MAX_ASSETS: usize = 8;
/// Most refunds of one order.
pub const MAX_REFUNDS: usize = 16;
/// Most credits of a lane in one reply.
pub const MAX_CREDITS: usize = 16;
/// Most records of an account's log that a request carries. The frame's own bound is lower
/// where they are long.
pub const MAX_RECORDS: usize = 512;

/// An account's log, parents before children.
pub type Log = List<Bytes<MAX_RECORD>, MAX_RECORDS>;

/// A line of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The payee's number for the product.
    pub product: [u8; 16],
    /// How many; at least 1.
    pub quantity: u32,
}

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
    /// "Who are you, and what money is issued here?" Answered with [`Answer::Money`].
    Money,
    /// "What does this cost me now?" Answered with [`Answer::Offer`]. The same device and nonce
    /// are the same request.
    Offer {
        /// Random.
        nonce: [u8; 16],
        /// What; at least one line.
        lines: List<Line, MAX_ITEMS>,
        /// For the payee to read.
        note: Text<MAX_MEMO>,
    },
    /// A signed payment order, with the signed offer that it pays. Answered with
    /// [`Answer::Outcome`].
    Pay {
        /// The payer's account.
        log: Log,
        /// The signed order.
        order: Bytes<{ PaymentOrder::MAX_SIGNED }>,
        /// The signed offer, where the order names one.
        offer: Option<Box<Bytes<{ Offer::MAX_SIGNED }>>>,
    },
    /// Entries of the asker's own statement. Answered with [`Answer::Statement`].
    Statement {
        /// Whose.
        account: AccountId,
        /// That account.
        log: Log,
        /// In which money.
        asset: AssetId,
        /// The last entry that the asker has; 0 for none.
        after: u64,
    },
    /// The signed word on a transfer that is held for the asker. Answered with [`Answer::Done`],
    /// or [`Answer::Refused`] where it is not held any more.
    Transfer {
        /// The asker's account.
        log: Log,
        /// The signed word.
        answer: Bytes<{ TransferAnswer::MAX_SIGNED }>,
    },
    /// What became of an order that this device or its account gave. Answered with
    /// [`Answer::Order`], or [`Answer::Unknown`].
    OrderOf {
        /// Whose.
        account: AccountId,
        /// That account.
        log: Log,
        /// The order.
        order: OrderId,
    },
    /// How an offer stands. Answered with [`Answer::OfferIs`], or [`Answer::Unknown`].
    OfferOf {
        /// The offer.
        offer: OfferId,
    },
    /// From a payer to whom it pays: money waits for you at that issuer. Not answered.
    Waiting {
        /// The issuer's signed asset.
        asset: Bytes<{ Asset::MAX_SIGNED }>,
        /// Shows whose key it is.
        grant: Grant,
        /// Where the issuer's device is met.
        relays: List<crate::account::RelayAddr, 4>,
        /// The payer's signed order.
        order: Bytes<{ PaymentOrder::MAX_SIGNED }>,
        /// The issuer's signed word that it is held.
        outcome: Bytes<{ Outcome::MAX_SIGNED }>,
    },
    /// A signed request for a channel. Answered with [`Answer::Channel`].
    Channel {
        /// The payer's account.
        log: Log,
        /// The signed request.
        request: Box<Bytes<{ ChannelRequest::MAX_SIGNED }>>,
    },
    /// A signed voucher, with the signed offer that it pays. Answered with [`Answer::Taken`],
    /// [`Answer::Credited`] or [`Answer::NotTaken`].
    Voucher {
        /// The payer's account.
        log: Log,
        /// The signed voucher.
        voucher: Bytes<{ Voucher::MAX_SIGNED }>,
        /// The signed offer.
        offer: Box<Bytes<{ Offer::MAX_SIGNED }>>,
    },
    /// Where the asker's lane of a channel stands: asked before it is paid from, whenever the
    /// payer's device has started anew. Answered with [`Answer::Lane`], or [`Answer::Unknown`].
    Lane {
        /// The payer's account.
        log: Log,
        /// The channel.
        channel: ChannelId,
        /// Random; comes back in the answer, so that an old answer is not taken for a new one.
        nonce: [u8; 16],
        /// Credits up to this sum are known to the asker, in minor units.
        credited: u64,
    },
    /// Settle a channel of the asker's account before its time, so that what is over of it goes
    /// back. Answered with [`Answer::Done`].
    Settle {
        /// The payer's account.
        log: Log,
        /// The channel.
        channel: ChannelId,
    },
}

/// A reply. With number 0 it answers nothing: an issuer says that the statement grew.
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
    /// Who answers, and the signed assets issued here.
    Money {
        /// Of the answering device.
        grant: Grant,
        /// The assets.
        assets: List<Bytes<{ Asset::MAX_SIGNED }>, MAX_ASSETS>,
    },
    /// A signed offer.
    Offer {
        /// The request's.
        nonce: [u8; 16],
        /// The offer.
        offer: Box<Bytes<{ Offer::MAX_SIGNED }>>,
    },
    /// The issuer's signed word on an order.
    Outcome(Bytes<{ Outcome::MAX_SIGNED }>),
    /// Entries of a statement, ascending, without gaps. With the last of them the head is
    /// reached, unless there are more: then it shows only once these have come.
    Statement {
        /// In which money.
        asset: AssetId,
        /// The entries.
        entries: List<Entry, MAX_ENTRIES>,
        /// There are more.
        more: bool,
    },
    /// What became of an order.
    Order {
        /// The issuer's signed word.
        outcome: Bytes<{ Outcome::MAX_SIGNED }>,
        /// The payee has handed over what was paid.
        fulfilled: bool,
        /// The payee's signed refunds.
        refunds: List<Bytes<{ Refund::MAX_SIGNED }>, MAX_REFUNDS>,
    },
    /// How an offer stands.
    OfferIs(OfferState),
    /// It is done, or was before.
    Done,
    /// Nothing of that kind has come here. It may be on its way: not final.
    Unknown,
    /// Not done. Never final for an order: only a signed [`Outcome`] is.
    Refused(Refusal),
    /// The signed channel that a request asked for.
    Channel(Box<Bytes<{ Channel::MAX_SIGNED }>>),
    /// The payee's signed word that it took a voucher and serves it.
    Taken(Bytes<{ VoucherAck::MAX_SIGNED }>),
    /// The payee's signed word that it gave something back: all of a voucher that it took and
    /// doesn't serve, or, with number 0, of something paid before.
    Credited(Bytes<{ Credit::MAX_SIGNED }>),
    /// The payee's signed word that it did not take a voucher, and never will.
    NotTaken(Bytes<{ VoucherRefusal::MAX_SIGNED }>),
    /// Where a lane stands.
    Lane {
        /// The question's.
        nonce: [u8; 16],
        /// The channel.
        channel: ChannelId,
        /// The lane's newest voucher that was taken, as its device signed it.
        taken: Option<Bytes<{ Voucher::MAX_SIGNED }>>,
        /// The payee's signed credits after what the asker knows, the lowest first.
        credits: List<Bytes<{ Credit::MAX_SIGNED }>, MAX_CREDITS>,
        /// There are more.
        more: bool,
        /// The channel was settled: nothing is taken any more.
        settled: bool,
    },
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

/// What travels: a request or a reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PayFrame {
    /// A question.
    Request(Box<PayRequest>),
    /// An answer.
    Reply(Box<PayReply>),
}

/// The number of this service (`Frame::Service`).
pub const SERVICE: u8 = 1;

impl Wire for PayFrame {
    const NAME: &'static str = "payment frame";
    const MAX_BYTES: usize = 1 + PayRequest::MAX_BYTES;

    fn check(&self) -> Result<(), DecodeError> {
        match self {
            Self::Request(request) => request.check(),
            Self::Reply(reply) => reply.check(),
        }
    }
}

impl Wire for PayRequest {
    const NAME: &'static str = "payment request";
    // What a frame carries, less its kind: a log may be as long as that leaves.
    const MAX_BYTES: usize = MAX_SERVICE - 1;

    fn check(&self) -> Result<(), DecodeError> {
        check_version(Self::NAME, self.version)?;
        let counts = match &self.ask {
            Ask::Offer { lines, .. } => {
                !lines.is_empty() && lines.iter().all(|line| line.quantity > 0)
            }
            _ => true,
        };
        rule(Self::NAME, counts, "a request for nothing")
    }
}

impl Wire for PayReply {
    const NAME: &'static str = "payment reply";
    // The largest is a full page of a statement.
    const MAX_BYTES: usize = 1
        + 10
        + (1 + 2 + StatementHead::MAX_SIGNED)
        + 1
        + 32
        + 2
        + MAX_ENTRIES * Entry::MAX_BYTES
        + 1;

    fn check(&self) -> Result<(), DecodeError> {
        check_version(Self::NAME, self.version)?;
        let Answer::Statement { entries, .. } = &self.answer else { return Ok(()) };
        entries.iter().try_for_each(Wire::check)?;
        let follow = entries.windows(2).all(|w| w[0].number.checked_add(1) == Some(w[1].number));
        rule(Self::NAME, follow, "entries are missing")
    }
}

const _: () = assert!(PayReply::MAX_BYTES <= PayRequest::MAX_BYTES);
// The others are shorter than a full page.
const _: () = assert!(
    Grant::MAX_BYTES + MAX_ASSETS * (2 + Asset::MAX_SIGNED) + 2 < MAX_ENTRIES * Entry::MAX_BYTES
        && MAX_REFUNDS * (2 + Refund::MAX_SIGNED) + Outcome::MAX_SIGNED + 8
            < MAX_ENTRIES * Entry::MAX_BYTES
        && Offer::MAX_SIGNED + 20 < MAX_ENTRIES * Entry::MAX_BYTES
        && Channel::MAX_SIGNED + 2 < MAX_ENTRIES * Entry::MAX_BYTES
        && MAX_CREDITS * (2 + Credit::MAX_SIGNED) + Voucher::MAX_SIGNED + 60
            < MAX_ENTRIES * Entry::MAX_BYTES
);
