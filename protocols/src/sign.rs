//! Signatures and hashes, each bound to one purpose.
//!
//! A signature is ed25519 (RFC 8032) over `domain ‖ 0x00 ‖ bytes`, where `domain` is
//! `"teahouse/v1/<what>"` and `bytes` are exactly the bytes sent. It is checked with
//! `verify_strict` and keys of small order are refused, so all parties agree on every
//! signature. A hash is BLAKE3 in key-derivation mode with the domain as its context.

pub use ed25519_dalek::SigningKey;
use ed25519_dalek::{Signer, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::codec::{self, DecodeError, Wire};

/// What a signature or hash is for. Two purposes never share a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Domain(pub &'static str);

macro_rules! domains {
    ($($(#[$doc:meta])* $name:ident = $s:literal;)*) => {
        impl Domain {
            $($(#[$doc])* pub const $name: Domain = Domain(concat!("teahouse/v1/", $s));)*
            /// Every domain, for the test that they are distinct.
            pub const ALL: &'static [Domain] = &[$(Domain::$name),*];
        }
    };
}

domains! {
    /// Account log records.
    ACCOUNT = "account record";
    /// A device's consent to be added to an account.
    DEVICE_CONSENT = "device consent";
    /// A new root's consent to a rotation.
    ROOT_CONSENT = "root consent";
    /// Prekey bundles.
    PREKEYS = "prekey bundle";
    /// Contact cards.
    CARD = "contact card";
    /// Membership operations.
    MEMBERSHIP = "membership operation";
    /// Envelope frames.
    ENVELOPE = "envelope";
    /// Sealed changes and bodies.
    SEALED = "sealed item";
    /// Epoch key messages.
    EPOCH = "epoch";
    /// Delivery cursors.
    CURSOR = "cursor";
    /// Items of a device's inbox.
    INBOX = "inbox item";
    /// Requests of strangers.
    REQUEST = "contact request";
    /// Proof of the right to read a mailbox tag.
    MAILBOX_READ = "mailbox read";
    /// Proof of the right to write to a topic's tag.
    MAILBOX_WRITE = "mailbox write";
    /// Opening a mailbox tag.
    MAILBOX_OPEN = "mailbox open";
    /// Invite and delete secrets as a relay knows them.
    MAILBOX_SECRET = "mailbox secret";
    /// Safety numbers.
    SAFETY = "safety number";
    /// Device pairing.
    PAIRING = "device pairing";
    /// Community and relay invitations.
    INVITE = "relay invite";
    /// What an issuer's money is.
    ASSET = "asset";
    /// Offers of a payee.
    OFFER = "offer";
    /// What is for sale, on a poster.
    PRODUCT = "product";
    /// Transfers that a holder orders at the issuer.
    PAYMENT_ORDER = "payment order";
    /// What an issuer made of a payment order.
    OUTCOME = "payment outcome";
    /// What a payee says to a transfer that is held for it.
    TRANSFER_ANSWER = "transfer answer";
    /// Refunds of payment orders.
    REFUND = "refund";
    /// Requests to open a payment channel.
    CHANNEL_REQUEST = "channel request";
    /// Payment channels.
    CHANNEL = "payment channel";
    /// Vouchers.
    VOUCHER = "voucher";
    /// A payee's word that it took a voucher.
    VOUCHER_ACK = "voucher taken";
    /// A payee's word that it did not take a voucher.
    VOUCHER_REFUSAL = "voucher refused";
    /// What a payee gives back in a lane.
    CREDIT = "credit";
    /// A payer's request to freeze a lane.
    FREEZE_REQUEST = "freeze request";
    /// An issuer's freeze of a lane.
    FREEZE = "freeze";
    /// A payee's release of a channel.
    RELEASE = "channel release";
    /// Heads of statements.
    STATEMENT = "statement head";
    /// The chain of a statement's entries.
    STATEMENT_CHAIN = "statement chain";
    /// Ids of an issuer's ledger: what a transfer is for, and of what.
    LEDGER = "ledger transfer";
    /// Names of Mini Programs.
    PROGRAM = "program";
    /// Manifests of Mini Programs.
    PACKAGE = "program package";
    /// Keys by which Mini Programs know a person.
    PROGRAM_LOGIN = "program login";
    /// Names of what Mini Programs were allowed.
    PROGRAM_GRANT = "program grant";
    /// What Mini Programs ask of their developers' nodes.
    PROGRAM_CALL = "program call";
}

/// An ed25519 signature.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Signature(#[serde(with = "codec::array64")] pub [u8; 64]);

impl core::fmt::Debug for Signature {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Signature(..)")
    }
}

/// A signature that doesn't hold, or a key that can't sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("signature does not verify")]
pub struct BadSignature;

fn message(domain: Domain, bytes: &[u8]) -> Vec<u8> {
    let mut m = Vec::with_capacity(domain.0.len() + 1 + bytes.len());
    m.extend_from_slice(domain.0.as_bytes());
    m.push(0);
    m.extend_from_slice(bytes);
    m
}

/// Signs `bytes` for `domain`.
#[must_use]
pub fn sign(domain: Domain, key: &SigningKey, bytes: &[u8]) -> Signature {
    Signature(key.sign(&message(domain, bytes)).to_bytes())
}

/// Verifies a signature over `bytes` for `domain`.
///
/// # Errors
/// [`BadSignature`] for any reason; the reason is of no use to an honest party.
pub fn verify(
    domain: Domain,
    public: &[u8; 32],
    bytes: &[u8],
    signature: &Signature,
) -> Result<(), BadSignature> {
    let key = VerifyingKey::from_bytes(public).map_err(|_| BadSignature)?;
    if key.is_weak() {
        return Err(BadSignature);
    }
    let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
    key.verify_strict(&message(domain, bytes), &signature).map_err(|_| BadSignature)
}

/// Hashes `parts` for `domain`; each part is preceded by its length (u64, little endian),
/// so that no two lists of parts collide.
#[must_use]
pub fn hash(domain: Domain, parts: &[&[u8]]) -> [u8; 32] {
    let mut h = blake3::Hasher::new_derive_key(domain.0);
    for p in parts {
        h.update(&(p.len() as u64).to_le_bytes());
        h.update(p);
    }
    *h.finalize().as_bytes()
}

/// A value that travels with a signature by a key that the value itself names.
pub trait Signable: Wire {
    /// The purpose of the signature.
    const DOMAIN: Domain;
    /// The key that must have signed.
    fn signer(&self) -> [u8; 32];
}

#[derive(Serialize, Deserialize)]
struct SignedWire<'a> {
    payload: &'a [u8],
    signature: Signature,
}

/// A value, the exact bytes that were signed, and the signature.
///
/// A `Signed<T>` has always been verified: both constructors see to it.
#[derive(Clone, PartialEq, Eq)]
pub struct Signed<T> {
    value: T,
    bytes: Vec<u8>,
    id: [u8; 32],
}

// Not derived: value and bytes can hold secrets (a card's, a request's), and this is printed
// wherever a log or a batch is.
impl<T: Wire> core::fmt::Debug for Signed<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let id = data_encoding::HEXLOWER.encode(&self.id[..4]);
        write!(f, "Signed({}, {id}, {} bytes)", T::NAME, self.bytes.len())
    }
}

/// Why a signed value was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignedError {
    /// The bytes are not one.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The signature doesn't hold.
    #[error(transparent)]
    Signature(#[from] BadSignature),
}

impl<T: Signable> Signed<T> {
    /// Most bytes the signature and framing add to the payload.
    pub const OVERHEAD: usize = 64 + 5;

    /// Signs a value. The key must be the one the value names.
    ///
    /// # Panics
    /// When it isn't: that is a bug of the caller, never outside data.
    pub fn new(value: T, key: &SigningKey) -> Self {
        assert_eq!(key.verifying_key().to_bytes(), value.signer(), "wrong signing key");
        let payload = codec::encode(&value);
        let signature = sign(T::DOMAIN, key, &payload);
        let bytes =
            postcard::to_stdvec(&SignedWire { payload: &payload, signature }).expect("plain data");
        let id = hash(T::DOMAIN, &[&bytes]);
        Self { value, bytes, id }
    }

    /// Decodes and verifies. Cheap checks (length, form) come first.
    ///
    /// # Errors
    /// See [`SignedError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SignedError> {
        let (value, wire) = Self::decode(bytes)?;
        verify(T::DOMAIN, &value.signer(), wire.payload, &wire.signature)?;
        Ok(Self { value, bytes: bytes.to_vec(), id: Self::id_of(bytes) })
    }

    /// Decodes what was verified once and has been kept under its id since: that the bytes
    /// still have this id says that they are the same, for a fraction of the price.
    ///
    /// # Errors
    /// As [`Signed::from_bytes`]; [`SignedError::Signature`] where the id is another one.
    pub fn from_stored(bytes: &[u8], id: &[u8; 32]) -> Result<Self, SignedError> {
        let (value, _) = Self::decode(bytes)?;
        let actual = Self::id_of(bytes);
        if actual != *id {
            return Err(BadSignature.into());
        }
        Ok(Self { value, bytes: bytes.to_vec(), id: actual })
    }

    /// The id of bytes that were verified before: what [`Signed::id`] of them is.
    #[must_use]
    pub fn id_of(bytes: &[u8]) -> [u8; 32] {
        hash(T::DOMAIN, &[bytes])
    }

    /// What the bytes say, be it true or not: for checks that cost less than a signature.
    ///
    /// # Errors
    /// [`SignedError::Decode`].
    pub fn claimed(bytes: &[u8]) -> Result<T, SignedError> {
        Ok(Self::decode(bytes)?.0)
    }

    fn decode(bytes: &[u8]) -> Result<(T, SignedWire<'_>), SignedError> {
        let name = T::NAME;
        if bytes.len() > T::MAX_BYTES + Self::OVERHEAD {
            return Err(DecodeError::TooLong {
                name,
                len: bytes.len(),
                max: T::MAX_BYTES + Self::OVERHEAD,
            }
            .into());
        }
        let (wire, rest) = postcard::take_from_bytes::<SignedWire<'_>>(bytes)
            .map_err(|_| DecodeError::malformed(name, "not a signed value"))?;
        if !rest.is_empty() {
            return Err(DecodeError::malformed(name, "trailing bytes").into());
        }
        let value: T = codec::decode(wire.payload)?;
        let canonical = postcard::to_stdvec(&wire).expect("plain data");
        if canonical != bytes {
            return Err(DecodeError::NotCanonical { name }.into());
        }
        Ok((value, wire))
    }

    /// The value.
    pub const fn get(&self) -> &T {
        &self.value
    }

    /// The bytes to store and send: they are what was signed, never re-encoded.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The hash of [`Signed::bytes`] under the type's domain. It covers the signature.
    pub const fn id(&self) -> [u8; 32] {
        self.id
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Domain, Signable, Signed, SigningKey};
    use crate::codec::{Text, Wire};

    #[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
    struct Secretive {
        by: [u8; 32],
        secret: Text<16>,
    }

    impl Wire for Secretive {
        const NAME: &'static str = "secretive";
        const MAX_BYTES: usize = 49;
    }

    impl Signable for Secretive {
        const DOMAIN: Domain = Domain::CARD;
        fn signer(&self) -> [u8; 32] {
            self.by
        }
    }

    #[test]
    fn no_two_purposes_share_a_string() {
        let distinct: BTreeSet<&str> = Domain::ALL.iter().map(|d| d.0).collect();
        assert_eq!(distinct.len(), Domain::ALL.len());
        // The zero byte ends the domain in what is signed, so none may hold one.
        assert!(distinct.iter().all(|d| d.starts_with("teahouse/v1/") && !d.contains('\0')));
    }

    #[test]
    fn what_is_stored_is_known_by_its_id() {
        let key = SigningKey::from_bytes(&[1; 32]);
        let by = key.verifying_key().to_bytes();
        let signed = Signed::new(Secretive { by, secret: "sesame".try_into().unwrap() }, &key);
        let again = Signed::<Secretive>::from_stored(signed.bytes(), &signed.id()).unwrap();
        assert!(again.get() == signed.get() && again.id() == signed.id());
        for at in 0..signed.bytes().len() {
            let mut bytes = signed.bytes().to_vec();
            bytes[at] ^= 1;
            assert!(Signed::<Secretive>::from_stored(&bytes, &signed.id()).is_err(), "{at}");
        }
        assert!(Signed::<Secretive>::from_stored(signed.bytes(), &[0; 32]).is_err());
    }

    #[test]
    fn debug_shows_which_but_not_what() {
        let key = SigningKey::from_bytes(&[1; 32]);
        let by = key.verifying_key().to_bytes();
        let value = Secretive { by, secret: "sesame".try_into().unwrap() };
        let signed = Signed::new(value, &key);
        let shown = format!("{signed:?}");
        let id = data_encoding::HEXLOWER.encode(&signed.id());
        assert_eq!(shown, format!("Signed(secretive, {}, 104 bytes)", &id[..8]));
        assert_eq!(format!("{signed:#?}"), shown);
    }
}
