//! Statements: what an issuer says about a holder's balance, entry by entry, signed.
//!
//! Every entry has a number, from 1. The *chain* hashes each entry onto those before it, and a
//! head signs number, chain and balances. So a head and the entries since another head show,
//! together, how one became the other; and as each number has one head ever, two heads for one
//! number, or one that doesn't follow the head before, prove that the issuer tells two stories
//! ([`super::Contradiction`]). Every reply of an
//! issuer carries the newest head.

use serde::{Deserialize, Serialize};

use super::{Asset, check_version, rule, signed_by};
use crate::codec::{self, DecodeError, Wire};
use crate::ids::{AccountId, AssetId, DeviceId, Millis};
use crate::sign::{self, Domain, Signed};

/// What an entry does to the balance (what may be spent) and to what is reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum EntryKind {
    /// The account was opened. An amount of zero, and the first entry.
    Opened,
    /// Balance paid in at the issuer.
    ToppedUp,
    /// Balance paid out by the issuer.
    Withdrawn,
    /// Paid to somebody.
    Paid,
    /// Received from somebody.
    Received,
    /// Given back by a payee.
    RefundReceived,
    /// Given back to a payer.
    RefundGiven,
    /// From the balance into the reserve of a channel.
    Reserved,
    /// From the reserve back to the balance.
    Released,
    /// Out of the reserve to the payee.
    Spent,
    /// Back into the reserve: the payee gave it back after it was settled.
    Unspent,
    /// Earned by a channel.
    Earned,
    /// Given back of what was earned by a channel.
    Unearned,
}

/// A line of a statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// From 1.
    pub number: u64,
    /// What it does.
    pub kind: EntryKind,
    /// Minor units; at least 1 but for [`EntryKind::Opened`].
    pub amount: u64,
    /// The other side, if there is one.
    pub other: Option<AccountId>,
    /// The order, voucher, channel or request behind it, if there is one.
    pub of: Option<[u8; 32]>,
    /// When.
    pub at: Millis,
}

/// The issuer's word on a holder's balance after an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatementHead {
    /// [`super::VERSION`].
    pub version: u8,
    /// In which money.
    pub asset: AssetId,
    /// The issuer's key; it signs.
    pub key: DeviceId,
    /// Whose.
    pub holder: AccountId,
    /// The last entry's number.
    pub number: u64,
    /// The hash over it and all before it.
    pub chain: [u8; 32],
    /// The hash over all before it: what the head with the number before says; zeros for none.
    pub prev: [u8; 32],
    /// What may be spent, in minor units.
    pub balance: u64,
    /// What is reserved, in minor units.
    pub pending: u64,
    /// When the last entry was made.
    pub at: Millis,
}

/// A statement's running state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// In which money.
    pub asset: AssetId,
    /// The issuer's key.
    pub key: DeviceId,
    /// Whose.
    pub holder: AccountId,
    /// Entries so far.
    pub number: u64,
    /// The hash over them; zeros for none.
    pub chain: [u8; 32],
    /// The hash over all but the last; zeros for none.
    pub prev: [u8; 32],
    /// What may be spent, in minor units.
    pub balance: u64,
    /// What is reserved, in minor units.
    pub pending: u64,
    /// When the last entry was made; 0 for none.
    pub at: Millis,
}

/// Why a statement doesn't hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// An entry is missing or out of order.
    #[error("an entry is missing")]
    Number,
    /// An entry takes more than there is, or more than can be counted is added.
    #[error("an entry doesn't add up")]
    Amount,
    /// The first entry, and no other, opens the account.
    #[error("the first entry opens the account, and no other")]
    Opening,
    /// The entries don't lead to the head.
    #[error("the entries don't lead to the head")]
    Head,
    /// Of another holder, money or key.
    #[error("a statement of something else")]
    Other,
}

impl Tally {
    /// Before the first entry.
    #[must_use]
    pub fn new(asset: &Signed<Asset>, holder: AccountId) -> Self {
        Self {
            asset: Asset::id(asset),
            key: asset.get().key,
            holder,
            number: 0,
            chain: [0; 32],
            prev: [0; 32],
            balance: 0,
            pending: 0,
            at: 0,
        }
    }

    /// Where a head left off.
    #[must_use]
    pub const fn of(head: &StatementHead) -> Self {
        Self {
            asset: head.asset,
            key: head.key,
            holder: head.holder,
            number: head.number,
            chain: head.chain,
            prev: head.prev,
            balance: head.balance,
            pending: head.pending,
            at: head.at,
        }
    }

    /// The entry that comes next.
    pub fn next(
        &self,
        kind: EntryKind,
        amount: u64,
        other: Option<AccountId>,
        of: Option<[u8; 32]>,
        at: Millis,
    ) -> Result<(Self, Entry), StatementError> {
        let number = self.number.checked_add(1).ok_or(StatementError::Number)?;
        let entry = Entry { number, kind, amount, other, of, at };
        Ok((self.apply(&entry)?, entry))
    }

    /// What an entry makes of it.
    pub fn apply(&self, entry: &Entry) -> Result<Self, StatementError> {
        use EntryKind as K;
        if self.number.checked_add(1) != Some(entry.number) {
            return Err(StatementError::Number);
        }
        let opens = entry.kind == K::Opened;
        if opens != (self.number == 0) {
            return Err(StatementError::Opening);
        }
        if opens != (entry.amount == 0) {
            return Err(StatementError::Amount);
        }
        let n = entry.amount;
        let more = |held: u64| held.checked_add(n).ok_or(StatementError::Amount);
        let less = |held: u64| held.checked_sub(n).ok_or(StatementError::Amount);
        let (balance, pending) = match entry.kind {
            K::Opened => (self.balance, self.pending),
            K::ToppedUp | K::Received | K::RefundReceived | K::Earned => {
                (more(self.balance)?, self.pending)
            }
            K::Withdrawn | K::Paid | K::RefundGiven | K::Unearned => {
                (less(self.balance)?, self.pending)
            }
            K::Reserved => (less(self.balance)?, more(self.pending)?),
            K::Released => (more(self.balance)?, less(self.pending)?),
            K::Spent => (self.balance, less(self.pending)?),
            K::Unspent => (self.balance, more(self.pending)?),
        };
        let parts: [&[u8]; 4] = [&self.chain, &self.asset.0, &self.holder.0, &codec::encode(entry)];
        let chain = sign::hash(Domain::STATEMENT_CHAIN, &parts);
        let (number, prev, at) = (entry.number, self.chain, entry.at);
        Ok(Self { number, chain, prev, balance, pending, at, ..self.clone() })
    }

    /// The head to sign.
    #[must_use]
    pub const fn head(&self) -> StatementHead {
        StatementHead {
            version: super::VERSION,
            asset: self.asset,
            key: self.key,
            holder: self.holder,
            number: self.number,
            chain: self.chain,
            prev: self.prev,
            balance: self.balance,
            pending: self.pending,
            at: self.at,
        }
    }

    /// Checks that the entries lead from here to a head.
    pub fn follow(
        &self,
        entries: &[Entry],
        head: &Signed<StatementHead>,
    ) -> Result<Self, StatementError> {
        let head = head.get();
        if (head.asset, head.key, head.holder) != (self.asset, self.key, self.holder) {
            return Err(StatementError::Other);
        }
        let after = entries.iter().try_fold(self.clone(), |tally, entry| tally.apply(entry))?;
        if after != Self::of(head) {
            return Err(StatementError::Head);
        }
        Ok(after)
    }
}

impl StatementHead {
    /// Most bytes of a signed head.
    pub const MAX_SIGNED: usize = Self::MAX_BYTES + Signed::<Self>::OVERHEAD;

    /// The statement that it belongs to.
    #[must_use]
    pub const fn of(&self) -> (AssetId, DeviceId, AccountId) {
        (self.asset, self.key, self.holder)
    }
}

impl Entry {
    /// Upper bound of its encoding, in bytes.
    pub const MAX_BYTES: usize = 10 + 1 + 10 + 33 + 33 + 10;
}

impl Wire for Entry {
    const NAME: &'static str = "statement entry";
    const MAX_BYTES: usize = Self::MAX_BYTES;

    fn check(&self) -> Result<(), DecodeError> {
        let opens = self.kind == EntryKind::Opened;
        rule(Self::NAME, self.number > 0 && opens == (self.number == 1), "first or not")?;
        rule(Self::NAME, opens == (self.amount == 0), "an amount of nothing")
    }
}

impl Wire for StatementHead {
    const NAME: &'static str = "statement head";
    const MAX_BYTES: usize = 1 + 32 + 32 + 32 + 10 + 32 + 32 + 10 + 10 + 10;

    fn check(&self) -> Result<(), DecodeError> {
        check_version(Self::NAME, self.version)?;
        rule(Self::NAME, self.number > 0, "entries count from 1")?;
        rule(Self::NAME, (self.number == 1) == (self.prev == [0; 32]), "first or not")
    }
}

signed_by! {
    StatementHead: STATEMENT, key;
}
