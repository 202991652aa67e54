//! Money: what is signed and sent when somebody pays, and the rules by which a stranger can
//! judge it later. Pure: the ledger and the tables are the core's.
//!
//! Read in this order: [`amount`] (numbers and their text), [`asset`] (an issuer's money),
//! [`offer`] (what is for sale), [`order`] (a transfer at the issuer), [`channel`] (many small
//! payments to one payee), [`lane`] (the rules of a channel, as states whose every step is a
//! function), [`statement`] (the issuer's signed word about a balance), [`receipt`] (what a
//! payer keeps), [`frames`] (questions and answers).
//!
//! # Who and what
//! An *issuer* is an account that owes: a merchant for its own prepaid balance, or a
//! community's node. Its [`Asset`] names one device key that signs all it says. *Holders* have
//! balances at it. A *payer* is a holder, acting by one of its devices; a *payee* is another
//! holder, or the issuer itself, acting by one key.
//!
//! # Rules
//! 1. Amounts are whole minor units (cents, fen) in a `u64`. All arithmetic on them is
//!    checked; what would overflow is refused.
//! 2. The same order twice is one payment: an issuer gives the same bytes the same answer, and
//!    refuses other bytes under the same nonce.
//! 3. Nobody signs a word that isn't durable: states change first, in the transaction that
//!    also keeps the signed bytes; then these leave. Resending sends the same bytes.
//! 4. A lane of a channel has one writer. Two vouchers of one lane that can't both be next prove
//!    by themselves that its device cheats ([`proofs`]); they hold up nobody's honest money.
//! 5. A statement has one head for each number, an order one outcome. Two of them prove that
//!    the issuer cheats.
//! 6. What passes (too many requests, not now) is never signed, and changes nothing.
//!
//! # Wire
//! Postcard of the fields in order, each form signed for a [`Domain`](crate::sign::Domain) of
//! its own by the key that it names. A form within another is carried as its signed bytes.

pub mod amount;
pub mod asset;
pub mod channel;
pub mod frames;
pub mod lane;
pub mod offer;
pub mod order;
pub mod proofs;
pub mod receipt;
pub mod refusal;
pub mod statement;
#[cfg(test)]
mod tests;

use crate::codec::DecodeError;
use crate::ids::Millis;

pub use self::amount::{AmountError, Currency, MAX_EXPONENT, Money};
pub use self::asset::{Asset, VerifiedAsset};
pub use self::channel::{
    Channel, ChannelRequest, Credit, CreditReason, Freeze, FreezeRequest, Release, Voucher,
    VoucherAck, VoucherRefusal,
};
pub use self::frames::{Answer, Ask, Line, PayFrame, PayReply, PayRequest};
pub use self::lane::{
    Accepted, Lane, LaneOut, LaneRefusal, Move, Outstanding, SettleError, Settlement,
};
pub use self::offer::{Item, Offer, Product, VerifiedProduct};
pub use self::order::{Outcome, Paid, PaymentOrder, Refund, RefundError, TransferAnswer, Verdict};
pub use self::proofs::{Contradiction, Kind, ProofError};
pub use self::receipt::{Evidence, Grant, Receipt, ReceiptError, Verified};
pub use self::refusal::Refusal;
pub use self::statement::{Entry, EntryKind, StatementError, StatementHead, Tally};

/// The version of every form that this build writes and reads.
pub const VERSION: u8 = 1;

/// Most bytes of a memo.
pub const MAX_MEMO: usize = 140;
/// Most bytes of a title.
pub const MAX_TITLE: usize = 120;
/// Most lines of an offer.
pub const MAX_ITEMS: usize = 64;
/// Most lanes of a channel: as many as an account is expected to have devices.
pub const MAX_LANES: usize = 16;

/// Longest time that a payment order or a voucher may be valid, in milliseconds: a day. What
/// was signed and forgotten can't be cashed in much later.
pub const MAX_ORDER_LIFE: Millis = 24 * HOUR;
/// Longest time that an offer may stand, in milliseconds: 30 days. It reserves stock.
pub const MAX_OFFER_LIFE: Millis = 30 * 24 * HOUR;
/// Longest time that vouchers of a channel are taken, in milliseconds: 90 days.
pub const CHANNEL_LIFE: Millis = 90 * 24 * HOUR;
/// Longest time to settle a channel after that, in milliseconds: 30 days.
pub const SETTLE_TIME: Millis = 30 * 24 * HOUR;
/// How long credits of a channel count after its time to settle, in milliseconds: a week, so
/// that a payee can't settle in the last moment and keep a credit back.
pub const CREDIT_TIME: Millis = 7 * 24 * HOUR;
/// How long after a freeze vouchers are honoured that the payee shows to the issuer, in
/// milliseconds: an hour, for the news to reach it. What a thief spends until then, up to the
/// lane's cap, is the payer's loss.
pub const FREEZE_GRACE: Millis = HOUR;
/// How far ahead of one's own clock the time may be that a form claims, in milliseconds: ten
/// minutes.
pub const MAX_AHEAD: Millis = 10 * 60 * 1000;

const HOUR: Millis = 60 * 60 * 1000;

/// Whether what claims to be made then is not made in the future.
const fn begun(made: Millis, now: Millis) -> bool {
    made <= now.saturating_add(MAX_AHEAD)
}

/// Refuses versions that this build doesn't know.
const fn check_version(name: &'static str, version: u8) -> Result<(), DecodeError> {
    if version != VERSION {
        return Err(DecodeError::UnknownVersion { name, version });
    }
    Ok(())
}

/// Refuses what ends before it begins, or lasts longer than it may.
const fn check_span(
    name: &'static str,
    from: Millis,
    to: Millis,
    longest: Millis,
) -> Result<(), DecodeError> {
    match to.checked_sub(from) {
        Some(span) if span > 0 && span <= longest => Ok(()),
        _ => Err(DecodeError::malformed(name, "times don't fit")),
    }
}

/// Refuses a broken rule of a form.
const fn rule(name: &'static str, holds: bool, why: &'static str) -> Result<(), DecodeError> {
    if holds { Ok(()) } else { Err(DecodeError::malformed(name, why)) }
}

/// Names the purpose of a form's signature, and which field holds the key.
macro_rules! signed_by {
    ($($form:ty: $domain:ident, $key:ident;)*) => {$(
        impl crate::sign::Signable for $form {
            const DOMAIN: crate::sign::Domain = crate::sign::Domain::$domain;

            fn signer(&self) -> [u8; 32] {
                self.$key.0
            }
        }
    )*};
}
use signed_by;
