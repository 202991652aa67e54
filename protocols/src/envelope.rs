//! Envelopes: what is stored and sent of every change to a topic.
//!
//! Outer frame, hand-specified and frozen for ever (integers little endian):
//!
//! ```text
//! offset  size  field
//!      0     1  version (1)
//!      1    32  topic
//!     33    32  device (ed25519 public key of the author)
//!     65     8  seq (first is 1)
//!     73    32  prev (EnvelopeId of seq - 1; zero for the first)
//!    105    32  hash of the sealed change
//!    137     2  header length h (at most 1024)
//!    139     h  header
//! 139+h    64  signature over bytes 0 .. 139+h, domain "envelope"
//! 203+h     4  sealed change length c (at most MAX_CHANGE)
//! 207+h     c  sealed change
//! ```
//!
//! The header is postcard ([`Header`]) behind one byte of header version, so an old client
//! still verifies, stores and forwards an envelope whose header or content it can't read.
//! `seq` and `prev` make a hash chain per (topic, device). The sealed change is
//! XChaCha20Poly1305 under the epoch's change key, with topic, device and seq bound.
//! *Bodies* (message text and the like) are separate items: each sealed with its own
//! random key, which lies in the sealed change; the header names their hashes. So a body
//! can be erased and the chain still verifies.

use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::codec::{self, Bytes, DecodeError, List, Wire, check_ascending};
use crate::epoch::EpochSecret;
use crate::ids::{DeviceId, EnvelopeId, EpochId, Millis, OpId, SealedHash, TopicId};
use crate::seal::{self, OpenError};
use crate::sign::{self, BadSignature, Domain, Signature, SigningKey};

/// Most bytes of a change before sealing.
pub const MAX_CHANGE_PLAIN: usize = 256 * 1024;
/// Most bytes of a sealed change.
pub const MAX_CHANGE: usize = MAX_CHANGE_PLAIN + 8 * 32 + 8 + seal::AEAD_OVERHEAD;
/// Most bodies of one envelope.
pub const MAX_BODIES: usize = 8;
/// Most bytes of a body before sealing.
pub const MAX_BODY_PLAIN: usize = 64 * 1024;
/// Most bytes of a sealed body.
pub const MAX_BODY: usize = MAX_BODY_PLAIN + 16;
/// Most bytes of a header.
pub const MAX_HEADER: usize = 1_024;
/// Most bytes of an encoded envelope, without bodies.
pub const MAX_ENVELOPE: usize = 207 + MAX_HEADER + MAX_CHANGE;

const FIXED: usize = 139;
const VERSION: u8 = 1;
const HEADER_VERSION: u8 = 1;
const NAME: &str = "envelope";

/// The signed facts about a change, readable by members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The document segment that the change belongs to.
    pub segment: u32,
    /// Membership heads that the author had applied, ascending.
    pub heads: List<OpId, 16>,
    /// The epoch that the change is sealed under.
    pub epoch: EpochId,
    /// When the author says it was written. Orders the display, decides nothing.
    pub time: Millis,
    /// Hashes of the sealed bodies.
    pub bodies: List<SealedHash, MAX_BODIES>,
}

impl Wire for Header {
    const NAME: &'static str = "envelope header";
    const MAX_BYTES: usize = MAX_HEADER - 1;
    fn check(&self) -> Result<(), DecodeError> {
        check_ascending(Self::NAME, &self.heads)
    }
}

/// What the sealed change holds.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Plain {
    change: Bytes<MAX_CHANGE_PLAIN>,
    body_keys: List<[u8; 32], MAX_BODIES>,
}

impl Wire for Plain {
    const NAME: &'static str = "change";
    const MAX_BYTES: usize = MAX_CHANGE - seal::AEAD_OVERHEAD;
}

/// A change opened by a member.
#[derive(Clone)]
pub struct Opened {
    /// The document change (raw automerge bytes; not yet validated).
    pub change: Vec<u8>,
    /// The keys of the bodies, in the order of [`Header::bodies`].
    pub body_keys: Vec<[u8; 32]>,
}

/// An envelope: well-formed, its change's hash checked, its signature only after
/// [`Envelope::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    bytes: Vec<u8>,
    /// The topic.
    pub topic: TopicId,
    /// The author's device.
    pub device: DeviceId,
    /// Position in the device's chain for this topic, from 1.
    pub seq: u64,
    /// The predecessor in the chain.
    pub prev: EnvelopeId,
    /// The header; `None` when its version is newer than this build.
    pub header: Option<Header>,
    id: EnvelopeId,
    signed_len: usize,
}

/// What goes into a new envelope.
#[derive(Debug)]
pub struct Draft<'a> {
    /// The topic.
    pub topic: TopicId,
    /// Position in the device's chain, from 1.
    pub seq: u64,
    /// Predecessor; zeros for the first.
    pub prev: EnvelopeId,
    /// The document segment.
    pub segment: u32,
    /// Membership heads; sorted here.
    pub heads: &'a [OpId],
    /// The epoch to seal under.
    pub epoch: EpochId,
    /// The author's clock.
    pub time: Millis,
    /// The document change, at most [`MAX_CHANGE_PLAIN`] bytes.
    pub change: &'a [u8],
    /// Sealed bodies with their keys, from [`seal_body`].
    pub bodies: &'a [SealedBody],
}

/// A body with the key that opens it.
#[derive(Clone)]
pub struct SealedBody {
    /// The hash that names it.
    pub hash: SealedHash,
    /// Ciphertext.
    pub sealed: Vec<u8>,
    /// Its own key.
    pub key: Zeroizing<[u8; 32]>,
}

impl core::fmt::Debug for SealedBody {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "SealedBody({:?}, {} bytes)", self.hash, self.sealed.len())
    }
}

/// A draft beyond a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too large for one envelope: {what}")]
pub struct DraftTooLarge {
    /// Which part.
    pub what: &'static str,
}

/// The hash that names a sealed item.
#[must_use]
pub fn sealed_hash(sealed: &[u8]) -> SealedHash {
    SealedHash(sign::hash(Domain::SEALED, &[sealed]))
}

/// Seals a body under a fresh random key.
///
/// # Errors
/// [`DraftTooLarge`] beyond [`MAX_BODY_PLAIN`].
pub fn seal_body(plain: &[u8], rng: &mut impl CryptoRng) -> Result<SealedBody, DraftTooLarge> {
    if plain.len() > MAX_BODY_PLAIN {
        return Err(DraftTooLarge { what: "body" });
    }
    let mut key = Zeroizing::new([0; 32]);
    rng.fill_bytes(&mut *key);
    let sealed = seal::seal_once(&key, plain);
    Ok(SealedBody { hash: sealed_hash(&sealed), sealed, key })
}

/// Opens a sealed body.
///
/// # Errors
/// [`OpenError`].
pub fn open_body(key: &[u8; 32], sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
    seal::open_once(key, sealed)
}

impl Envelope {
    /// Seals and signs.
    ///
    /// # Errors
    /// [`DraftTooLarge`] when a part is beyond its bound.
    pub fn seal(
        draft: &Draft<'_>,
        secret: &EpochSecret,
        key: &SigningKey,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, DraftTooLarge> {
        let device = DeviceId(key.verifying_key().to_bytes());
        let mut heads = draft.heads.to_vec();
        heads.sort_unstable();
        heads.dedup();
        let header = Header {
            segment: draft.segment,
            heads: heads.try_into().map_err(|_| DraftTooLarge { what: "membership heads" })?,
            epoch: draft.epoch,
            time: draft.time,
            bodies: draft
                .bodies
                .iter()
                .map(|b| b.hash)
                .collect::<Vec<_>>()
                .try_into()
                .map_err(|_| DraftTooLarge { what: "bodies" })?,
        };
        let plain = Plain {
            change: draft
                .change
                .to_vec()
                .try_into()
                .map_err(|_| DraftTooLarge { what: "change" })?,
            body_keys: draft
                .bodies
                .iter()
                .map(|b| *b.key)
                .collect::<Vec<_>>()
                .try_into()
                .map_err(|_| DraftTooLarge { what: "bodies" })?,
        };
        let seq_bytes = draft.seq.to_le_bytes();
        let context: [&[u8]; 3] = [draft.topic.as_bytes(), device.as_bytes(), &seq_bytes];
        let plain = Zeroizing::new(codec::encode(&plain));
        let change = seal::aead_seal(&secret.change_key(), &context, &plain, rng);

        let mut header_bytes = vec![HEADER_VERSION];
        header_bytes.extend_from_slice(&codec::encode(&header));
        let mut bytes = Vec::with_capacity(FIXED + header_bytes.len() + 68 + change.len());
        bytes.push(VERSION);
        bytes.extend_from_slice(draft.topic.as_bytes());
        bytes.extend_from_slice(device.as_bytes());
        bytes.extend_from_slice(&seq_bytes);
        bytes.extend_from_slice(draft.prev.as_bytes());
        bytes.extend_from_slice(sealed_hash(&change).as_bytes());
        bytes.extend_from_slice(&(header_bytes.len() as u16).to_le_bytes());
        bytes.extend_from_slice(&header_bytes);
        let signed_len = bytes.len();
        let signature = sign::sign(Domain::ENVELOPE, key, &bytes);
        bytes.extend_from_slice(&signature.0);
        let id = EnvelopeId(sign::hash(Domain::ENVELOPE, &[&bytes]));
        bytes.extend_from_slice(&(change.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&change);
        Ok(Self {
            bytes,
            topic: draft.topic,
            device,
            seq: draft.seq,
            prev: draft.prev,
            header: Some(header),
            id,
            signed_len,
        })
    }

    /// Parses, checks every length and the hash of the sealed change. The signature is
    /// checked by [`Envelope::verify`], after cheaper reasons to refuse.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let short = DecodeError::malformed(NAME, "truncated");
        if bytes.len() > MAX_ENVELOPE {
            return Err(DecodeError::TooLong { name: NAME, len: bytes.len(), max: MAX_ENVELOPE });
        }
        let mut rest = bytes;
        let [version] = take::<1>(&mut rest).ok_or(short.clone())?;
        if version != VERSION {
            return Err(DecodeError::UnknownVersion { name: NAME, version });
        }
        let topic = TopicId(take(&mut rest).ok_or(short.clone())?);
        let device = DeviceId(take(&mut rest).ok_or(short.clone())?);
        let seq = u64::from_le_bytes(take(&mut rest).ok_or(short.clone())?);
        let prev = EnvelopeId(take(&mut rest).ok_or(short.clone())?);
        let change_hash = SealedHash(take(&mut rest).ok_or(short.clone())?);
        let header_len = usize::from(u16::from_le_bytes(take(&mut rest).ok_or(short.clone())?));
        if header_len == 0 || header_len > MAX_HEADER {
            return Err(DecodeError::malformed(NAME, "header length"));
        }
        if seq == 0 || (seq == 1) != (prev.0 == [0; 32]) {
            return Err(DecodeError::malformed(NAME, "seq and prev disagree"));
        }
        let (header_bytes, after) = rest.split_at_checked(header_len).ok_or(short.clone())?;
        rest = after;
        let signed_len = FIXED + header_len;
        let _signature: [u8; 64] = take(&mut rest).ok_or(short.clone())?;
        let change_len = u32::from_le_bytes(take(&mut rest).ok_or(short.clone())?) as usize;
        if change_len > MAX_CHANGE || rest.len() != change_len {
            return Err(DecodeError::malformed(NAME, "change length"));
        }
        if sealed_hash(rest) != change_hash {
            return Err(DecodeError::malformed(NAME, "change is not the one signed for"));
        }
        let header = if header_bytes[0] == HEADER_VERSION {
            Some(codec::decode::<Header>(&header_bytes[1..])?)
        } else {
            None
        };
        let id = EnvelopeId(sign::hash(Domain::ENVELOPE, &[&bytes[..signed_len + 64]]));
        Ok(Self { bytes: bytes.to_vec(), topic, device, seq, prev, header, id, signed_len })
    }

    /// Checks the signature.
    ///
    /// # Errors
    /// [`BadSignature`].
    pub fn verify(&self) -> Result<(), BadSignature> {
        let signature: [u8; 64] = self.bytes[self.signed_len..self.signed_len + 64]
            .try_into()
            .map_err(|_| BadSignature)?;
        sign::verify(
            Domain::ENVELOPE,
            &self.device.0,
            &self.bytes[..self.signed_len],
            &Signature(signature),
        )
    }

    /// Opens the sealed change with the secret of the epoch that the header names.
    ///
    /// # Errors
    /// [`OpenError`] for another secret, a tampered change, or a plaintext that is not one.
    pub fn open(&self, secret: &EpochSecret) -> Result<Opened, OpenError> {
        let seq_bytes = self.seq.to_le_bytes();
        let context: [&[u8]; 3] = [self.topic.as_bytes(), self.device.as_bytes(), &seq_bytes];
        let sealed = &self.bytes[self.signed_len + 68..];
        let plain = Zeroizing::new(seal::aead_open(&secret.change_key(), &context, sealed)?);
        let plain: Plain = codec::decode(&plain).map_err(|_| OpenError)?;
        Ok(Opened { change: plain.change.into_inner(), body_keys: plain.body_keys.into_inner() })
    }

    /// The encoded envelope, as received or made.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The hash of the signed frame: what the next envelope's `prev` names.
    #[must_use]
    pub const fn id(&self) -> EnvelopeId {
        self.id
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    fn make(seed: u64, text: &[u8]) -> (Envelope, SealedBody, EpochSecret) {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let secret = EpochSecret::generate(&mut rng);
        let body = seal_body(text, &mut rng).unwrap();
        let draft = Draft {
            topic: TopicId([1; 32]),
            seq: 2,
            prev: EnvelopeId([4; 32]),
            segment: 0,
            heads: &[OpId([2; 32])],
            epoch: EpochId([3; 32]),
            time: 1_700_000_000_000,
            change: b"change",
            bodies: std::slice::from_ref(&body),
        };
        let key = SigningKey::from_bytes(&[5; 32]);
        (Envelope::seal(&draft, &secret, &key, &mut rng).unwrap(), body, secret)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn round_trip_and_no_mutation_survives(seed: u64, text: Vec<u8>, at: usize, bit in 0..8u8) {
            let (envelope, body, secret) = make(seed, &text);
            let back = Envelope::from_bytes(envelope.bytes()).unwrap();
            prop_assert_eq!(&back, &envelope);
            prop_assert!(back.verify().is_ok());
            let opened = back.open(&secret).unwrap();
            prop_assert_eq!(opened.change, b"change");
            prop_assert_eq!(open_body(&opened.body_keys[0], &body.sealed).unwrap(), text);

            let mut bad = envelope.bytes().to_vec();
            let i = at % bad.len();
            bad[i] ^= 1 << bit;
            let survived = Envelope::from_bytes(&bad).is_ok_and(|e| e.verify().is_ok());
            prop_assert!(!survived, "bit {bit} of byte {i}");
            let cut = &envelope.bytes()[..at % envelope.bytes().len()];
            prop_assert!(Envelope::from_bytes(cut).is_err());
        }

        #[test]
        fn garbage_is_refused_without_panic(bytes: Vec<u8>) {
            prop_assert!(Envelope::from_bytes(&bytes).is_err());
        }
    }

    #[test]
    fn an_unknown_header_still_verifies() {
        let key = SigningKey::from_bytes(&[5; 32]);
        let (envelope, _, _) = make(1, b"x");
        let mut bytes = envelope.bytes()[..envelope.signed_len].to_vec();
        bytes[FIXED] = 9;
        let signature = sign::sign(Domain::ENVELOPE, &key, &bytes);
        bytes.extend_from_slice(&signature.0);
        bytes.extend_from_slice(&envelope.bytes()[envelope.signed_len + 64..]);
        let old = Envelope::from_bytes(&bytes).unwrap();
        assert!(old.header.is_none());
        assert!(old.verify().is_ok());
    }
}
