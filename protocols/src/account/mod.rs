//! The account log: who an account is, by signed records that anybody can judge.
//!
//! An account begins with a *genesis* record that names its root key; the genesis's id is
//! the [`AccountId`] and outlives every key. Further records add and revoke devices,
//! rotate the root, and set what contacts should know. Each names the heads that its
//! author had seen, so the records form a graph; [`AccountLog`] folds it into an
//! [`AccountState`] that depends on the set of records only.
//!
//! # Wire
//! A record is postcard of [`AccountRecord`]'s fields in order, signed by the key that
//! `signer` names, for [`Domain::ACCOUNT`]. Consents are signatures over 64 bytes, account
//! id ‖ key, by that key: a device's for [`Domain::DEVICE_CONSENT`], a new root's for
//! [`Domain::ROOT_CONSENT`]. So nobody can list a key that isn't theirs.
//!
//! # Rules
//! A *key* is a root key or a device. A record *grants* a key (genesis, add device, rotate
//! root) or *ends* one (revoke device; rotate root ends the old root). "Past" is a
//! record's strict ancestry.
//!
//! 1. A record is **admitted** if its key was active in its past; otherwise it is refused
//!    for good, whoever sends it. Only its past decides, so everybody decides alike.
//! 2. A key is active in a set of records if a grant of it stands there and overcomes every
//!    end of it there. A grant of a device by the root overcomes ends in its past, and, as
//!    the root outranks devices, ends by devices that are concurrent with it. Other grants
//!    overcome nothing: after a revocation only the root can add the device again.
//! 3. **Ends hold for ever** once admitted. So concurrent revocations all hold, even by
//!    devices that turn out void: a thief who forges an older revocation of the device that
//!    added the one which revoked him gains nothing; the words resolve it.
//! 4. Every other record **stands** unless its key was ended concurrently with it, or the
//!    grant that its key rests on doesn't stand. So what a stolen device backdates is void,
//!    as is what an old root does beside its rotation, and all that rests on either.
//! 5. Concurrent rotations of one root to different keys make the account **disputed**.
//!    Neither grant stands then; no device can be added by either or after both. Nothing
//!    clears it: ends hold for ever.
//! 6. Of records that set one field, those with a standing later one in their descent are
//!    replaced; among the rest the root's outrank devices', then the later in the graph's
//!    order ([`crate::dag`]) wins.

mod authority;
mod log;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};

pub use self::log::{AccountError, AccountLog, AccountState, CardKeys, DeviceInfo, Inserted};
use crate::codec::{DecodeError, List, Text, Wire, check_ascending};
use crate::ids::{AccountId, DeviceId, RecordId, RelayId, Tag};
use crate::sign::{self, BadSignature, Domain, Signable, Signature};

/// The version this build writes and reads.
pub const VERSION: u8 = 1;

/// Most records that a log holds.
pub const MAX_RECORDS: usize = 4096;

/// How many of [`MAX_RECORDS`] only the root may use: a stolen device that fills the log
/// can't keep the words from taking the account back.
pub const ROOT_RESERVE: usize = 256;

/// Most records that wait for parents.
pub const MAX_PENDING: usize = 256;

/// One record of an account log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountRecord {
    /// [`VERSION`].
    pub version: u8,
    /// The account; none in the genesis, whose id it is.
    pub account: Option<AccountId>,
    /// The heads that the author had seen, strictly ascending; none in the genesis.
    pub parents: List<RecordId, 8>,
    /// Who signs.
    pub signer: Signer,
    /// What happens.
    pub op: AccountOp,
}

/// A key that acts for the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Signer {
    /// A root key.
    Root([u8; 32]),
    /// A device.
    Device(DeviceId),
}

/// What a record does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AccountOp {
    /// Begins the account. Signed by `root`.
    Genesis {
        /// The first root key.
        root: [u8; 32],
        /// Random, so that one root can begin several accounts.
        nonce: [u8; 16],
    },
    /// Adds a device.
    AddDevice {
        /// The device.
        device: DeviceId,
        /// What its owner calls it.
        name: Text<64>,
        /// The device's consent, see [`device_consent`].
        consent: Signature,
    },
    /// Revokes a device.
    RevokeDevice {
        /// The device.
        device: DeviceId,
    },
    /// Replaces the root key. Signed by the old one.
    RotateRoot {
        /// The new root key.
        root: [u8; 32],
        /// Its consent, see [`root_consent`].
        consent: Signature,
    },
    /// Names the relays where the account is reached, best first.
    SetRelays {
        /// The relays.
        relays: List<RelayAddr, 8>,
    },
    /// Sets the name shown to others.
    SetProfile {
        /// The name.
        name: Text<64>,
    },
    /// Sets where requests of strangers go, as contact cards say it.
    SetCard {
        /// X25519 public key to seal requests to.
        inbox_key: [u8; 32],
        /// Mailbox tag to leave them under.
        tag: Tag,
    },
    /// Sets the features that the account offers.
    SetFeatures {
        /// Their numbers, strictly ascending.
        features: List<u16, 64>,
    },
}

/// Where a relay is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayAddr {
    /// The relay's key, which is what a client authenticates.
    pub id: RelayId,
    /// Multiaddresses without the peer id, best first. Hints: whoever answers must have
    /// the key.
    pub addrs: List<Text<128>, 4>,
}

impl RelayAddr {
    /// Upper bound of its encoding, in bytes.
    pub const MAX_BYTES: usize = 32 + 1 + 4 * (2 + 128);
}

impl Signer {
    /// The ed25519 public key.
    #[must_use]
    pub const fn key(&self) -> &[u8; 32] {
        match self {
            Self::Root(key) => key,
            Self::Device(device) => &device.0,
        }
    }

    /// Whether it is a root key.
    #[must_use]
    pub const fn is_root(&self) -> bool {
        matches!(self, Self::Root(_))
    }
}

impl AccountRecord {
    /// The key that the record grants, if any.
    #[must_use]
    pub const fn grants(&self) -> Option<Signer> {
        match &self.op {
            AccountOp::Genesis { root, .. } | AccountOp::RotateRoot { root, .. } => {
                Some(Signer::Root(*root))
            }
            AccountOp::AddDevice { device, .. } => Some(Signer::Device(*device)),
            _ => None,
        }
    }

    /// The key that the record ends, if any.
    #[must_use]
    pub const fn ends(&self) -> Option<Signer> {
        match &self.op {
            AccountOp::RotateRoot { .. } => Some(self.signer),
            AccountOp::RevokeDevice { device } => Some(Signer::Device(*device)),
            _ => None,
        }
    }

    /// Verifies the consent that the record carries, if its kind carries one.
    pub fn verify_consent(&self) -> Result<(), BadSignature> {
        let (domain, key, consent) = match &self.op {
            AccountOp::AddDevice { device, consent, .. } => {
                (Domain::DEVICE_CONSENT, &device.0, consent)
            }
            AccountOp::RotateRoot { root, consent } => (Domain::ROOT_CONSENT, root, consent),
            _ => return Ok(()),
        };
        let account = self.account.ok_or(BadSignature)?;
        sign::verify(domain, key, &consent_bytes(&account, key), consent)
    }
}

impl Wire for AccountRecord {
    const NAME: &'static str = "account record";
    const MAX_BYTES: usize = 1 + 33 + (1 + 8 * 32) + 33 + (1 + 1 + 8 * RelayAddr::MAX_BYTES);

    fn check(&self) -> Result<(), DecodeError> {
        if self.version != VERSION {
            return Err(DecodeError::UnknownVersion { name: Self::NAME, version: self.version });
        }
        check_ascending(Self::NAME, &self.parents)?;
        let begins = self.account.is_none() && self.parents.is_empty();
        let follows = self.account.is_some() && !self.parents.is_empty();
        let fits = match &self.op {
            AccountOp::Genesis { root, .. } => begins && self.signer == Signer::Root(*root),
            AccountOp::RotateRoot { .. } => follows && self.signer.is_root(),
            AccountOp::SetFeatures { features } => {
                check_ascending(Self::NAME, features)?;
                follows
            }
            _ => follows,
        };
        if !fits {
            return Err(DecodeError::malformed(Self::NAME, "signer or parents don't fit"));
        }
        Ok(())
    }
}

impl Signable for AccountRecord {
    const DOMAIN: Domain = Domain::ACCOUNT;

    fn signer(&self) -> [u8; 32] {
        *self.signer.key()
    }
}

/// A device's consent to belong to an account.
#[must_use]
pub fn device_consent(account: &AccountId, device: &SigningKey) -> Signature {
    let public = device.verifying_key().to_bytes();
    sign::sign(Domain::DEVICE_CONSENT, device, &consent_bytes(account, &public))
}

/// A new root key's consent to root an account.
#[must_use]
pub fn root_consent(account: &AccountId, root: &SigningKey) -> Signature {
    let public = root.verifying_key().to_bytes();
    sign::sign(Domain::ROOT_CONSENT, root, &consent_bytes(account, &public))
}

/// Verifies [`device_consent`].
pub fn verify_device_consent(
    account: &AccountId,
    device: &DeviceId,
    consent: &Signature,
) -> Result<(), BadSignature> {
    sign::verify(Domain::DEVICE_CONSENT, &device.0, &consent_bytes(account, &device.0), consent)
}

fn consent_bytes(account: &AccountId, key: &[u8; 32]) -> [u8; 64] {
    let mut bytes = [0; 64];
    bytes[..32].copy_from_slice(&account.0);
    bytes[32..].copy_from_slice(key);
    bytes
}
