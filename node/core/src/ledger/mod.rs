//! A double-entry ledger: accounts, and transfers between them that are never half done.
//!
//! The model is that of `TigerBeetle` (<https://docs.tigerbeetle.com/reference/>): each account counts
//! its debits and credits, posted and pending, in 128 bits; a transfer adds one amount to the
//! debits of one account and the credits of another. So, for each asset and at any time, the
//! sum of all debits is the sum of all credits. Nothing is ever subtracted from what is posted.
//!
//! # Rules
//! 1. A transfer's id is its idempotency key: the same transfer again is answered with what
//!    became of it; another one under the same id is refused.
//! 2. Transfers are posted in *chains*: all of a chain or nothing of it.
//! 3. A reserve is resolved at most once: posted (in full or in part, the rest is let go),
//!    voided, or expired. From its time on it can only expire, whether or not
//!    [`Ledger::expire`] has come to it yet; until then it still counts as reserved.
//! 4. An account may be limited: its debits, pending ones included, never exceed its posted
//!    credits (a holder can't overdraw), or the other way round.
//! 5. Whatever would overflow is refused.
//!
//! Where `TigerBeetle` has flags, there are variants here, so that what makes no sense can't be
//! said; a chain is a slice instead of a flag.
//!
//! Amounts are minor units of the asset. Behind a trait, so that an issuer can outgrow one
//! machine; [`StagedLedger`] keeps it in the core's own tables, staged with everything else
//! that happens in the same transaction.

mod staged;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use teahouse_protocols::ids::{AssetId, Millis};
use teahouse_protocols::sign::{self, Domain};

use crate::store::StorageError;

pub use staged::{Rows, StagedLedger};

crate::tables::tables! {
    /// asset, kind (u16), whose (32) → [`Account`].
    truth LEDGER_ACCOUNTS = "ledger_accounts";
    /// transfer → [`Record`].
    truth LEDGER_TRANSFERS = "ledger_transfers";
    /// until (u64), transfer → nothing: reserves that can expire.
    truth LEDGER_PENDING_BY_TIME = "ledger_pending_by_time";
}

/// Most transfers in a chain. One payment takes a handful; a settlement two for each lane.
pub const MAX_CHAIN: usize = 64;
/// Most reserves that one call of [`Ledger::expire`] ends, so that a step of the core stays
/// short.
pub const MAX_EXPIRE: usize = 1_024;

/// Which account: in which asset, of which kind, whose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AccountKey {
    /// The asset. Transfers stay within one.
    pub asset: AssetId,
    /// What it is for, as the feature that uses it counts its kinds.
    pub kind: u16,
    /// Whose: a holder, a channel, or zeros for the issuer's own.
    pub of: [u8; 32],
}

/// A transfer's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TransferId(pub [u8; 32]);

/// What an account's sums may not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Limit {
    /// Anything.
    None,
    /// Debits, posted and pending, never exceed posted credits: it can't be overdrawn.
    DebitsWithinCredits,
    /// Credits, posted and pending, never exceed posted debits.
    CreditsWithinDebits,
}

/// An account and its sums. Each sum, and posted and pending together, fit into 128 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Which.
    pub key: AccountKey,
    /// What its sums may not do.
    pub limit: Limit,
    /// Takes part in nothing any more. It was empty when it was closed.
    pub closed: bool,
    /// Debits that are reserved.
    pub debits_pending: u128,
    /// Debits that were made.
    pub debits_posted: u128,
    /// Credits that are reserved.
    pub credits_pending: u128,
    /// Credits that were made.
    pub credits_posted: u128,
}

/// The side of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Side {
    /// The debited account.
    Debit,
    /// The credited account.
    Credit,
}

/// From where to where, how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Movement {
    /// The account that is debited.
    pub debit: AccountKey,
    /// The account that is credited.
    pub credit: AccountKey,
    /// Minor units; at least 1.
    pub amount: u128,
    /// Balancing: the amount is the most, and what is moved is no more than what is left on
    /// the debited account (its posted credits less its debits), or on the credited one (its
    /// posted debits less its credits).
    pub at_most: Option<Side>,
}

/// What a transfer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// Moves at once.
    Move(Movement),
    /// Reserves, to be posted or voided later.
    Reserve {
        /// What is reserved.
        movement: Movement,
        /// Expires after so many milliseconds, at least 1; none for never.
        timeout: Option<Millis>,
    },
    /// Posts a reserve, and lets go what is over.
    Post {
        /// The transfer that reserved.
        pending: TransferId,
        /// Minor units; at least 1, at most what was reserved.
        amount: u128,
    },
    /// Lets a reserve go.
    Void {
        /// The transfer that reserved.
        pending: TransferId,
    },
}

/// A transfer, as it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// Its id.
    pub id: TransferId,
    /// What it is for, as the feature that uses it counts its codes.
    pub code: u16,
    /// What it does.
    pub what: What,
}

/// Where a transfer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Done, for good. Of a transfer that moved, posted or voided.
    Done,
    /// Reserved, until then if there is a time.
    Pending {
        /// Exclusive.
        until: Option<Millis>,
    },
    /// The reserve was posted.
    Posted {
        /// How much of it.
        amount: u128,
    },
    /// The reserve was voided.
    Voided,
    /// The reserve expired.
    Expired,
}

/// A transfer that was accepted, and what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// As it was asked for.
    pub transfer: Transfer,
    /// What it moved, reserved, posted or let go.
    pub amount: u128,
    /// When it was accepted.
    pub at: Millis,
    /// Where it stands.
    pub state: State,
}

/// What became of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its transfers, in order.
    pub records: Vec<Record>,
    /// It had been accepted before: nothing was done.
    pub existed: bool,
}

/// All of an asset's accounts, summed. In a ledger that holds, debits equal credits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// How many accounts.
    pub accounts: u64,
    /// Debits that are reserved.
    pub debits_pending: u128,
    /// Debits that were made.
    pub debits_posted: u128,
    /// Credits that are reserved.
    pub credits_pending: u128,
    /// Credits that were made.
    pub credits_posted: u128,
}

/// Why a transfer was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// Another transfer has this id.
    #[error("another transfer has this id")]
    IdTaken,
    /// An earlier transfer of the chain has this id.
    #[error("an id stands twice in the chain")]
    IdTwice,
    /// It was accepted before, but others of its chain were not.
    #[error("a part of the chain was accepted before")]
    PartlyThere,
    /// An amount of zero.
    #[error("an amount of nothing")]
    NoAmount,
    /// A timeout of zero, or beyond the end of time.
    #[error("no time to be reserved for")]
    NoTime,
    /// There is no such account.
    #[error("there is no such account")]
    UnknownAccount,
    /// The account was opened with another limit.
    #[error("the account was opened with another limit")]
    OtherLimit,
    /// The account is closed.
    #[error("the account is closed")]
    Closed,
    /// There is money on the account, or reserved, so that it can't be closed.
    #[error("there is money on the account")]
    NotEmpty,
    /// From an account to itself.
    #[error("from an account to itself")]
    SameAccount,
    /// From one asset to another.
    #[error("from one asset to another")]
    OtherAsset,
    /// The debited account's debits would exceed its credits.
    #[error("the balance is not enough")]
    ExceedsCredits,
    /// The credited account's credits would exceed its debits.
    #[error("credits would exceed debits")]
    ExceedsDebits,
    /// Nothing is left to move.
    #[error("nothing is left to move")]
    NothingLeft,
    /// A sum would not fit into 128 bits.
    #[error("too much to be counted")]
    Overflow,
    /// There is no such transfer.
    #[error("there is no such reserve")]
    UnknownPending,
    /// That transfer reserved nothing.
    #[error("that transfer reserved nothing")]
    NotPending,
    /// The reserve was posted before.
    #[error("the reserve was posted already")]
    AlreadyPosted,
    /// The reserve was voided before.
    #[error("the reserve was voided already")]
    AlreadyVoided,
    /// The reserve's time was up.
    #[error("the reserve has expired")]
    Expired,
    /// More than was reserved.
    #[error("more than was reserved")]
    MoreThanReserved,
}

/// Why nothing was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// A transfer of the chain was refused, and therefore all of it.
    #[error("transfer {nth}: {why}")]
    Refused {
        /// Its place in the chain, from 0.
        nth: usize,
        /// Why.
        why: Why,
    },
    /// The chain has no transfers, or more than [`MAX_CHAIN`].
    #[error("a chain of {0} transfers")]
    ChainLength(usize),
    /// An account was refused.
    #[error("{0}")]
    Account(Why),
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// A ledger. Every method decides and stages, or leaves everything as it was.
pub trait Ledger {
    /// Opens an account. Opening it again with the same limit does nothing.
    fn open(&mut self, key: AccountKey, limit: Limit) -> Result<Account, LedgerError>;

    /// Closes an account on which nothing is left or reserved ([`Why::NotEmpty`]): money is never
    /// locked away. Closing it again does nothing.
    fn close(&mut self, key: AccountKey) -> Result<Account, LedgerError>;

    /// An account, if it was opened.
    fn account(&self, key: AccountKey) -> Result<Option<Account>, LedgerError>;

    /// A transfer, if it was accepted.
    fn record(&self, id: TransferId) -> Result<Option<Record>, LedgerError>;

    /// Carries out a chain of at most [`MAX_CHAIN`] transfers, all or nothing. A chain that was
    /// carried out before does nothing and returns what became of it.
    fn post(&mut self, chain: &[Transfer], now: Millis) -> Result<Chain, LedgerError>;

    /// Ends reserves whose time is up, oldest first; at most `most` and [`MAX_EXPIRE`]. Returns
    /// which. As many as that: there may be more.
    fn expire(&mut self, now: Millis, most: usize) -> Result<Vec<TransferId>, LedgerError>;

    /// Sums all accounts of an asset: an audit, whose time is linear in their number. Refused
    /// ([`Why::Overflow`]) where the sums don't fit into 128 bits, as amounts of 64 bits can't
    /// come to.
    fn totals(&self, asset: AssetId) -> Result<Totals, LedgerError>;
}

impl TransferId {
    /// The id of a transfer for some purpose: what for, and of what (an order's id, a request's
    /// number). Two purposes never share an id.
    #[must_use]
    pub fn of(purpose: &str, parts: &[&[u8]]) -> Self {
        let all: Vec<&[u8]> =
            core::iter::once(purpose.as_bytes()).chain(parts.iter().copied()).collect();
        Self(sign::hash(Domain::LEDGER, &all))
    }
}

impl Account {
    /// Whether it holds and reserves nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.debits_pending == 0
            && self.credits_pending == 0
            && self.debits_posted == self.credits_posted
    }

    /// An account without transfers.
    #[must_use]
    pub const fn new(key: AccountKey, limit: Limit) -> Self {
        Self {
            key,
            limit,
            closed: false,
            debits_pending: 0,
            debits_posted: 0,
            credits_pending: 0,
            credits_posted: 0,
        }
    }

    /// What may still be debited: posted credits less all debits. Of a holder's account, the
    /// balance that may be spent.
    #[must_use]
    pub const fn left_to_debit(&self) -> u128 {
        let debits = self.debits_posted.saturating_add(self.debits_pending);
        self.credits_posted.saturating_sub(debits)
    }

    /// What may still be credited: posted debits less all credits.
    #[must_use]
    pub const fn left_to_credit(&self) -> u128 {
        let credits = self.credits_posted.saturating_add(self.credits_pending);
        self.debits_posted.saturating_sub(credits)
    }
}

impl Totals {
    /// Whether debits equal credits, as they must.
    #[must_use]
    pub const fn balanced(&self) -> bool {
        self.debits_pending == self.credits_pending && self.debits_posted == self.credits_posted
    }
}
