//! Proofs that somebody cheats: two signed words of one signer that can't both be honest.
//! Anybody can check them, without knowing anything else. They are evidence: no honest
//! payment waits for them.

use serde::{Deserialize, Serialize};

use super::{Outcome, StatementHead, VERSION, Voucher, VoucherAck, VoucherRefusal, check_version};
use crate::codec::{Bytes, DecodeError, Wire};
use crate::ids::DeviceId;
use crate::sign::{Signable, Signed, SignedError};

/// Most bytes of one of the two words: of the longest form that a proof may hold.
const MAX_WORD: usize = VoucherRefusal::MAX_SIGNED;
const _: () = assert!(
    MAX_WORD >= Voucher::MAX_SIGNED
        && MAX_WORD >= VoucherAck::MAX_SIGNED
        && MAX_WORD >= StatementHead::MAX_SIGNED
        && MAX_WORD >= Outcome::MAX_SIGNED
);

/// What the two words are, and why they contradict each other. Grows at the end only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Two vouchers of one lane: one nonce and two values, or a higher nonce whose sum is not
    /// higher.
    Vouchers,
    /// Two heads of one statement: one number and two values, or the next number upon another
    /// chain.
    Heads,
    /// Two outcomes of one order.
    Outcomes,
    /// Two acknowledgements of one place in a lane that differ in more than their time.
    Acks,
    /// A voucher that was taken, and refused: the acknowledgement stands first.
    AckAndRefusal,
}

/// Two words that can't both be honest. Made by [`Contradiction::of_vouchers`] and the like, or
/// checked by [`Contradiction::verify`]; each pair has one spelling, the lower id first (but for
/// [`Kind::AckAndRefusal`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contradiction {
    /// [`super::VERSION`].
    pub version: u8,
    /// What they are.
    pub kind: Kind,
    /// A signed word.
    pub first: Bytes<MAX_WORD>,
    /// Another one.
    pub second: Bytes<MAX_WORD>,
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

fn vouchers(a: &Voucher, b: &Voucher) -> bool {
    let (low, high) = if a.nonce <= b.nonce { (a, b) } else { (b, a) };
    (a.channel, a.lane) == (b.channel, b.lane)
        && if low.nonce == high.nonce { a != b } else { low.cumulative >= high.cumulative }
}

fn heads(a: &StatementHead, b: &StatementHead) -> bool {
    let (low, high) = if a.number <= b.number { (a, b) } else { (b, a) };
    a.of() == b.of()
        && match high.number.saturating_sub(low.number) {
            0 => a != b,
            1 => high.prev != low.chain,
            _ => false,
        }
}

/// An issuer that answers an order again sends the same bytes.
fn outcomes(a: &Outcome, b: &Outcome) -> bool {
    (a.asset, a.key, a.order) == (b.asset, b.key, b.order) && a != b
}

fn acks(a: &VoucherAck, b: &VoucherAck) -> bool {
    let place = |v: &VoucherAck| (v.channel, v.lane, v.key, v.nonce);
    let said = |v: &VoucherAck| (v.voucher, v.amount, v.offer);
    place(a) == place(b) && said(a) != said(b)
}

fn ack_and_refusal(a: &VoucherAck, b: &VoucherRefusal) -> bool {
    (a.channel, a.lane, a.key, a.voucher) == (b.channel, b.lane, b.key, b.voucher)
}

/// The two, the lower id first.
fn sorted<'a, T: Signable>(a: &'a Signed<T>, b: &'a Signed<T>) -> (&'a Signed<T>, &'a Signed<T>) {
    if a.id() < b.id() { (a, b) } else { (b, a) }
}

impl Contradiction {
    fn made<A: Signable, B: Signable>(kind: Kind, a: &Signed<A>, b: &Signed<B>) -> Option<Self> {
        let first = a.bytes().to_vec().try_into().ok()?;
        let second = b.bytes().to_vec().try_into().ok()?;
        Some(Self { version: VERSION, kind, first, second })
    }

    fn alike<T: Signable>(
        kind: Kind,
        a: &Signed<T>,
        b: &Signed<T>,
        conflict: impl Fn(&T, &T) -> bool,
    ) -> Option<Self> {
        let (a, b) = sorted(a, b);
        conflict(a.get(), b.get()).then(|| Self::made(kind, a, b))?
    }

    /// The proof that two vouchers make, if they do.
    #[must_use]
    pub fn of_vouchers(a: &Signed<Voucher>, b: &Signed<Voucher>) -> Option<Self> {
        Self::alike(Kind::Vouchers, a, b, vouchers)
    }

    /// The proof that two heads make, if they do.
    #[must_use]
    pub fn of_heads(a: &Signed<StatementHead>, b: &Signed<StatementHead>) -> Option<Self> {
        Self::alike(Kind::Heads, a, b, heads)
    }

    /// The proof that two outcomes make, if they do.
    #[must_use]
    pub fn of_outcomes(a: &Signed<Outcome>, b: &Signed<Outcome>) -> Option<Self> {
        Self::alike(Kind::Outcomes, a, b, outcomes)
    }

    /// The proof that two acknowledgements make, if they do.
    #[must_use]
    pub fn of_acks(a: &Signed<VoucherAck>, b: &Signed<VoucherAck>) -> Option<Self> {
        Self::alike(Kind::Acks, a, b, acks)
    }

    /// The proof that an acknowledgement and a refusal make, if they do.
    #[must_use]
    pub fn of_answers(ack: &Signed<VoucherAck>, refusal: &Signed<VoucherRefusal>) -> Option<Self> {
        ack_and_refusal(ack.get(), refusal.get())
            .then(|| Self::made(Kind::AckAndRefusal, ack, refusal))?
    }

    /// Checks it; returns the key that signed both.
    pub fn verify(&self) -> Result<DeviceId, ProofError> {
        match self.kind {
            Kind::Vouchers => self.both(vouchers),
            Kind::Heads => self.both(heads),
            Kind::Outcomes => self.both(outcomes),
            Kind::Acks => self.both(acks),
            Kind::AckAndRefusal => {
                let ack = Signed::<VoucherAck>::from_bytes(&self.first)?;
                let refusal = Signed::<VoucherRefusal>::from_bytes(&self.second)?;
                if !ack_and_refusal(ack.get(), refusal.get()) {
                    return Err(ProofError::NoConflict);
                }
                Ok(ack.get().key)
            }
        }
    }

    fn both<T: Signable>(&self, conflict: impl Fn(&T, &T) -> bool) -> Result<DeviceId, ProofError> {
        let a = Signed::<T>::from_bytes(&self.first)?;
        let b = Signed::<T>::from_bytes(&self.second)?;
        if a.id() >= b.id() {
            return Err(ProofError::Order);
        }
        if !conflict(a.get(), b.get()) {
            return Err(ProofError::NoConflict);
        }
        Ok(DeviceId(a.get().signer()))
    }
}

impl Wire for Contradiction {
    const NAME: &'static str = "contradiction";
    const MAX_BYTES: usize = 1 + 1 + 2 * (2 + MAX_WORD);

    fn check(&self) -> Result<(), DecodeError> {
        check_version(Self::NAME, self.version)
    }
}
