//! Linking a second device: two state machines and the frames between them.
//!
//! The *old* device, already of the account, shows a [`PairCode`]; the *new* one reads it
//! and connects. The connection is authenticated: each side knows the other's device key
//! from the transport and passes it to `receive`. In order:
//!
//! | frame | by | content |
//! |---|---|---|
//! | `Hello` | new | its device, a commitment to its nonce, proof that it has the code's secret |
//! | `Challenge` | old | the account, its nonce, proof that it has the secret |
//! | `Reveal` | new | its nonce, its consent to belong to the account |
//! | `Name` | new | what its owner calls it; may be left out |
//! | `Grant` | old | what a device of the account needs, opaque here |
//!
//! After `Reveal` both show six digits, the *short authentication string*, and each user
//! presses "the same" ([`PairOld::confirm`], [`PairNew::confirm`]). Only then does the old
//! device write `AddDevice` with the consent, and the new one hand out what it was granted.
//! Somebody in the middle who has seen the code makes both sides show the same digits with
//! a chance of one in a million, once: the nonce is committed to before the other is known.
//!
//! A code is good for one attempt. Any frame from the other side that is wrong or out of
//! place burns it for good; so does a stranger's `Hello` with a bad proof, for the price of
//! a guess must not be nothing. Frames from third devices, once a pairing is under way, are
//! refused and change nothing. How long a code lives is up to the caller, as is wiping the
//! new device's key when nothing comes of it: its consent has left the device by then.
//!
//! # Derivation
//! With `key = hash(PAIRING, ["key", secret])` and `mac(parts) = BLAKE3-keyed(key,
//! hash(PAIRING, parts))`:
//! - commitment = `hash(PAIRING, ["commit", new device, new nonce])`
//! - hello proof = `mac(["hello", old device, new device, commitment])`
//! - challenge proof = `mac(["challenge", old device, new device, commitment, account, old nonce])`
//! - digits = the first 8 bytes, little endian, modulo 1,000,000, of
//!   `mac(["sas", old device, new device, account, old nonce, new nonce])`

use std::fmt;

use ed25519_dalek::SigningKey;
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::account::{device_consent, verify_device_consent};
use crate::card::LinkSecret;
use crate::codec::{Bytes, DecodeError, List, Text, Wire};
use crate::ids::{AccountId, DeviceId};
use crate::link::{self, PairCode};
use crate::sign::{self, Domain, Signature};

/// The version this build speaks.
pub const VERSION: u8 = 1;

/// Most bytes of a grant.
pub const MAX_GRANT: usize = 880 * 1024;

/// What a granted device receives, in a form that the caller defines.
pub type GrantPayload = Bytes<MAX_GRANT>;

/// One message of a pairing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PairFrame {
    /// New to old: I have the code.
    Hello {
        /// [`VERSION`].
        version: u8,
        /// The new device.
        device: DeviceId,
        /// Commitment to the nonce in `Reveal`.
        commitment: [u8; 32],
        /// Proof of the secret.
        proof: [u8; 32],
    },
    /// Old to new: so have I, and this is the account.
    Challenge {
        /// The account that the new device would belong to.
        account: AccountId,
        /// Random.
        nonce: [u8; 32],
        /// Proof of the secret.
        proof: [u8; 32],
    },
    /// New to old: what I committed to, and my consent.
    Reveal {
        /// Random.
        nonce: [u8; 32],
        /// See [`device_consent`].
        consent: Signature,
    },
    /// Old to new: you are in.
    Grant {
        /// Opaque.
        payload: GrantPayload,
    },
    /// Either way: no more of this.
    Abort,
    /// New to old, after `Reveal`: what to call me. Whoever does not know this frame yet has
    /// all it needs without it.
    Name {
        /// Empty for nothing.
        name: Text<64>,
    },
}

/// The six digits to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sas(u32);

/// Why a pairing doesn't go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PairError {
    /// The frame comes from a third device. Nothing has changed.
    #[error("frame from another device")]
    OtherDevice,
    /// The proof of the secret, the commitment or the consent doesn't hold. The code is
    /// burnt.
    #[error("pairing proof does not hold")]
    BadProof,
    /// A frame or call out of place. The code is burnt.
    #[error("pairing step out of order")]
    OutOfOrder,
    /// A user said that the digits differ, or the other side gave up. The code is burnt.
    #[error("pairing was aborted")]
    Aborted,
    /// The code was used up or burnt before.
    #[error("pairing code is no longer good")]
    Burnt,
}

/// The existing device's side.
#[derive(Debug)]
pub struct PairOld {
    own: DeviceId,
    account: AccountId,
    secret: LinkSecret,
    nonce: [u8; 32],
    state: Old,
}

/// What the existing device does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OldStep {
    /// Send this frame.
    Send(PairFrame),
    /// Show these digits and ask the user.
    Compare(Sas),
    /// Add the device under this name.
    Named(Text<64>),
}

/// A new device that the user confirmed: write `AddDevice` with this, then
/// [`PairOld::grant`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confirmed {
    /// The new device.
    pub device: DeviceId,
    /// Its consent.
    pub consent: Signature,
}

/// The new device's side.
#[derive(Debug)]
pub struct PairNew {
    own: DeviceId,
    old: DeviceId,
    secret: LinkSecret,
    nonce: [u8; 32],
    commitment: [u8; 32],
    state: New,
}

/// What the new device does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewStep {
    /// Send this frame, show these digits and ask the user.
    Compare {
        /// The `Reveal`.
        send: PairFrame,
        /// The digits.
        sas: Sas,
        /// The account that asks.
        account: AccountId,
    },
    /// The grant has come; it waits for [`PairNew::confirm`].
    Waiting,
    /// The grant.
    Granted(GrantPayload),
}

#[derive(Debug)]
enum Old {
    Waiting,
    Challenged { device: DeviceId, commitment: [u8; 32] },
    Comparing(Confirmed),
    Confirmed(DeviceId),
    Over,
}

#[derive(Debug)]
enum New {
    Greeted,
    // The user's yes and the grant, whichever comes first.
    Revealed { confirmed: bool, grant: Option<GrantPayload> },
    Over,
}

impl PairOld {
    /// Begins with a fresh secret. `own` is this device.
    pub fn new(own: DeviceId, account: AccountId, rng: &mut impl CryptoRng) -> Self {
        let mut secret = LinkSecret([0; 16]);
        rng.fill_bytes(&mut secret.0);
        let mut nonce = [0; 32];
        rng.fill_bytes(&mut nonce);
        Self { own, account, secret, nonce, state: Old::Waiting }
    }

    /// The code to show; `addrs` say where this device can be reached.
    #[must_use]
    pub fn code(&self, addrs: List<Text<160>, 8>) -> PairCode {
        let secret = self.secret.clone();
        PairCode { version: link::VERSION, device: self.own, secret, addrs }
    }

    /// Takes a frame that the transport says is `from` this device.
    pub fn receive(&mut self, from: &DeviceId, frame: &PairFrame) -> Result<OldStep, PairError> {
        let partner = match &self.state {
            Old::Waiting => None,
            Old::Challenged { device, .. } | Old::Confirmed(device) => Some(*device),
            Old::Comparing(confirmed) => Some(confirmed.device),
            Old::Over => return Err(PairError::Burnt),
        };
        if partner.is_some_and(|p| p != *from) {
            return Err(PairError::OtherDevice);
        }
        // Whatever goes wrong below, the code is gone.
        match (std::mem::replace(&mut self.state, Old::Over), frame) {
            (Old::Waiting, PairFrame::Hello { device, commitment, proof, .. }) => {
                let keys = Keys::new(&self.secret, &self.own, from);
                if device != from || !same(proof, &keys.hello(commitment)) {
                    return Err(PairError::BadProof);
                }
                let proof = keys.challenge(commitment, &self.account, &self.nonce);
                self.state = Old::Challenged { device: *from, commitment: *commitment };
                let (account, nonce) = (self.account, self.nonce);
                Ok(OldStep::Send(PairFrame::Challenge { account, nonce, proof }))
            }
            (Old::Challenged { device, commitment }, PairFrame::Reveal { nonce, consent }) => {
                if !same(&commitment, &commit(&device, nonce)) {
                    return Err(PairError::BadProof);
                }
                verify_device_consent(&self.account, &device, consent)
                    .map_err(|_| PairError::BadProof)?;
                self.state = Old::Comparing(Confirmed { device, consent: *consent });
                let keys = Keys::new(&self.secret, &self.own, &device);
                Ok(OldStep::Compare(keys.sas(&self.account, &self.nonce, nonce)))
            }
            (state @ Old::Comparing(_), PairFrame::Name { name }) => {
                self.state = state;
                Ok(OldStep::Named(name.clone()))
            }
            (_, PairFrame::Abort) => Err(PairError::Aborted),
            _ => Err(PairError::OutOfOrder),
        }
    }

    /// The user's answer: are the digits the same? After a yes the caller writes
    /// `AddDevice`; after a no it sends [`PairFrame::Abort`].
    pub fn confirm(&mut self, same: bool) -> Result<Confirmed, PairError> {
        match std::mem::replace(&mut self.state, Old::Over) {
            Old::Comparing(confirmed) if same => {
                self.state = Old::Confirmed(confirmed.device);
                Ok(confirmed)
            }
            Old::Comparing(_) => Err(PairError::Aborted),
            Old::Over => Err(PairError::Burnt),
            _ => Err(PairError::OutOfOrder),
        }
    }

    /// The last frame. The code is used up.
    pub fn grant(&mut self, payload: GrantPayload) -> Result<PairFrame, PairError> {
        match std::mem::replace(&mut self.state, Old::Over) {
            Old::Confirmed(_) => Ok(PairFrame::Grant { payload }),
            Old::Over => Err(PairError::Burnt),
            _ => Err(PairError::OutOfOrder),
        }
    }
}

impl PairNew {
    /// Begins with a code that the user scanned or typed. Send the frame to `code.device`.
    pub fn new(code: &PairCode, own: DeviceId, rng: &mut impl CryptoRng) -> (Self, PairFrame) {
        let mut nonce = [0; 32];
        rng.fill_bytes(&mut nonce);
        let commitment = commit(&own, &nonce);
        let proof = Keys::new(&code.secret, &code.device, &own).hello(&commitment);
        let new = Self {
            own,
            old: code.device,
            secret: code.secret.clone(),
            nonce,
            commitment,
            state: New::Greeted,
        };
        (new, PairFrame::Hello { version: VERSION, device: own, commitment, proof })
    }

    /// Takes a frame that the transport says is `from` this device. `key` is this device's
    /// own, for the consent.
    ///
    /// # Panics
    /// When it isn't: that is a bug of the caller, never outside data.
    pub fn receive(
        &mut self,
        from: &DeviceId,
        frame: &PairFrame,
        key: &SigningKey,
    ) -> Result<NewStep, PairError> {
        assert_eq!(key.verifying_key().to_bytes(), self.own.0, "wrong signing key");
        if matches!(self.state, New::Over) {
            return Err(PairError::Burnt);
        }
        if *from != self.old {
            return Err(PairError::OtherDevice);
        }
        match (std::mem::replace(&mut self.state, New::Over), frame) {
            (New::Greeted, PairFrame::Challenge { account, nonce, proof }) => {
                let keys = Keys::new(&self.secret, &self.old, &self.own);
                if !same(proof, &keys.challenge(&self.commitment, account, nonce)) {
                    return Err(PairError::BadProof);
                }
                self.state = New::Revealed { confirmed: false, grant: None };
                let consent = device_consent(account, key);
                Ok(NewStep::Compare {
                    send: PairFrame::Reveal { nonce: self.nonce, consent },
                    sas: keys.sas(account, nonce, &self.nonce),
                    account: *account,
                })
            }
            (New::Revealed { confirmed: true, .. }, PairFrame::Grant { payload }) => {
                Ok(NewStep::Granted(payload.clone()))
            }
            (New::Revealed { grant: None, .. }, PairFrame::Grant { payload }) => {
                self.state = New::Revealed { confirmed: false, grant: Some(payload.clone()) };
                Ok(NewStep::Waiting)
            }
            (_, PairFrame::Abort) => Err(PairError::Aborted),
            _ => Err(PairError::OutOfOrder),
        }
    }

    /// The user's answer: are the digits the same? Returns the grant if it has come
    /// already. After a no the caller sends [`PairFrame::Abort`].
    pub fn confirm(&mut self, same: bool) -> Result<Option<GrantPayload>, PairError> {
        match std::mem::replace(&mut self.state, New::Over) {
            New::Revealed { .. } if !same => Err(PairError::Aborted),
            New::Revealed { grant: Some(payload), .. } => Ok(Some(payload)),
            New::Revealed { grant: None, .. } => {
                self.state = New::Revealed { confirmed: true, grant: None };
                Ok(None)
            }
            New::Over => Err(PairError::Burnt),
            New::Greeted => Err(PairError::OutOfOrder),
        }
    }
}

impl Sas {
    /// The number, below 1,000,000.
    #[must_use]
    pub const fn number(&self) -> u32 {
        self.0
    }
}

/// Two groups of three digits.
impl fmt::Display for Sas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03} {:03}", self.0 / 1000, self.0 % 1000)
    }
}

impl Wire for PairFrame {
    const NAME: &'static str = "pairing frame";
    const MAX_BYTES: usize = 1 + 3 + MAX_GRANT;

    fn check(&self) -> Result<(), DecodeError> {
        match self {
            Self::Hello { version, .. } if *version != VERSION => {
                Err(DecodeError::UnknownVersion { name: Self::NAME, version: *version })
            }
            _ => Ok(()),
        }
    }
}

/// The key from the code's secret, and whom it is between.
struct Keys<'a> {
    key: Zeroizing<[u8; 32]>,
    old: &'a DeviceId,
    new: &'a DeviceId,
}

impl<'a> Keys<'a> {
    fn new(secret: &LinkSecret, old: &'a DeviceId, new: &'a DeviceId) -> Self {
        let key = Zeroizing::new(sign::hash(Domain::PAIRING, &[b"key", &secret.0]));
        Self { key, old, new }
    }

    fn hello(&self, commitment: &[u8; 32]) -> [u8; 32] {
        self.mac(&[b"hello", &self.old.0, &self.new.0, commitment])
    }

    fn challenge(&self, commitment: &[u8; 32], account: &AccountId, nonce: &[u8; 32]) -> [u8; 32] {
        self.mac(&[b"challenge", &self.old.0, &self.new.0, commitment, &account.0, nonce])
    }

    fn sas(&self, account: &AccountId, old_nonce: &[u8; 32], new_nonce: &[u8; 32]) -> Sas {
        let mac = self.mac(&[b"sas", &self.old.0, &self.new.0, &account.0, old_nonce, new_nonce]);
        let number = mac[..8].iter().rev().fold(0_u64, |n, b| n << 8 | u64::from(*b));
        Sas((number % 1_000_000) as u32)
    }

    fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        *blake3::keyed_hash(&self.key, &sign::hash(Domain::PAIRING, parts)).as_bytes()
    }
}

fn commit(device: &DeviceId, nonce: &[u8; 32]) -> [u8; 32] {
    sign::hash(Domain::PAIRING, &[b"commit", &device.0, nonce])
}

fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    a.ct_eq(b).into()
}

#[cfg(test)]
mod tests;
