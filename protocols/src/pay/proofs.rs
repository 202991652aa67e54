//! Proofs that somebody cheats: two signed words that can't both be honest. Anybody can check
//! them, without knowing anything else.

use serde::{Deserialize, Serialize};

use super::{StatementHead, VERSION, Voucher, check_version};
use crate::codec::{Bytes, DecodeError, Wire};
use crate::sign::{Signable, Signed, SignedError};

/// Two vouchers of one lane with one nonce: the device signed two payments in one place.
///
/// Built only by [`FraudProof::of`], or checked by [`FraudProof::verify`]; each pair has one
/// spelling, the voucher with the lower id first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FraudProof {
    /// [`super::VERSION`].
    pub version: u8,
    /// A signed voucher.
    pub first: Bytes<{ Voucher::MAX_SIGNED }>,
    /// Another one.
    pub second: Bytes<{ Voucher::MAX_SIGNED }>,
}

/// Two heads of one statement with one number: the issuer told two stories.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Equivocation {
    /// [`super::VERSION`].
    pub version: u8,
    /// A signed head.
    pub first: Bytes<{ StatementHead::MAX_SIGNED }>,
    /// Another one.
    pub second: Bytes<{ StatementHead::MAX_SIGNED }>,
}

/// Why a proof proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// One of the two isn't signed.
    #[error(transparent)]
    Signed(#[from] SignedError),
    /// The two are about different places, or say the same.
    #[error("the two don't contradict each other")]
    NoConflict,
    /// The two stand in the wrong order.
    #[error("the two stand in the wrong order")]
    Order,
}

/// Two values that were signed for one place. A second signature over the same value is no
/// second value.
fn conflict<T: Signable + PartialEq, P: PartialEq>(
    a: &Signed<T>,
    b: &Signed<T>,
    place: impl Fn(&T) -> P,
) -> bool {
    place(a.get()) == place(b.get()) && a.get() != b.get()
}

fn pair<T, const N: usize>(a: &Signed<T>, b: &Signed<T>) -> Option<(Bytes<N>, Bytes<N>)>
where
    T: Signable,
{
    let (a, b) = if a.id() < b.id() { (a, b) } else { (b, a) };
    let bytes = |s: &Signed<T>| Bytes::try_from(s.bytes().to_vec()).ok();
    Some((bytes(a)?, bytes(b)?))
}

fn read<T: Signable>(first: &[u8], second: &[u8]) -> Result<(Signed<T>, Signed<T>), ProofError> {
    let (a, b) = (Signed::<T>::from_bytes(first)?, Signed::<T>::from_bytes(second)?);
    if a.id() >= b.id() {
        return Err(ProofError::Order);
    }
    Ok((a, b))
}

impl FraudProof {
    /// The proof that two vouchers make, if they do.
    #[must_use]
    pub fn of(a: &Signed<Voucher>, b: &Signed<Voucher>) -> Option<Self> {
        if !conflict(a, b, Voucher::place) {
            return None;
        }
        let (first, second) = pair(a, b)?;
        Some(Self { version: VERSION, first, second })
    }

    /// Checks it; returns the two vouchers, whose lane's device cheats.
    pub fn verify(&self) -> Result<(Signed<Voucher>, Signed<Voucher>), ProofError> {
        let (a, b) = read(&self.first, &self.second)?;
        if !conflict(&a, &b, Voucher::place) {
            return Err(ProofError::NoConflict);
        }
        Ok((a, b))
    }
}

impl Equivocation {
    /// The proof that two heads make, if they do.
    #[must_use]
    pub fn of(a: &Signed<StatementHead>, b: &Signed<StatementHead>) -> Option<Self> {
        if !conflict(a, b, StatementHead::place) {
            return None;
        }
        let (first, second) = pair(a, b)?;
        Some(Self { version: VERSION, first, second })
    }

    /// Checks it; returns the two heads, whose signer cheats.
    pub fn verify(&self) -> Result<(Signed<StatementHead>, Signed<StatementHead>), ProofError> {
        let (a, b) = read(&self.first, &self.second)?;
        if !conflict(&a, &b, StatementHead::place) {
            return Err(ProofError::NoConflict);
        }
        Ok((a, b))
    }
}

impl Wire for FraudProof {
    const NAME: &'static str = "fraud proof";
    const MAX_BYTES: usize = 1 + 2 * (2 + Voucher::MAX_SIGNED);

    fn check(&self) -> Result<(), DecodeError> {
        check_version(Self::NAME, self.version)
    }
}

impl Wire for Equivocation {
    const NAME: &'static str = "equivocation";
    const MAX_BYTES: usize = 1 + 2 * (2 + StatementHead::MAX_SIGNED);

    fn check(&self) -> Result<(), DecodeError> {
        check_version(Self::NAME, self.version)
    }
}
