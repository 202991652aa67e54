//! Epoch keys: who may open what, and how the key gets there.
//!
//! An *epoch* is a random 32-byte secret for one topic. Its author signs an [`EpochHead`]
//! that commits to the secret and names the membership heads and the devices that get it;
//! the epoch's id is the hash of that signed head. The secret travels in a [`Parcel`] per
//! device: HPKE-sealed to the device's prekey, with topic, epoch and device bound as info.
//! Recipients check the commitment and that they are named. Concurrent epochs all stay
//! valid for opening; nobody seals under an epoch that names a removed device.
//!
//! From the secret are derived, each under its own context: the key that seals changes,
//! the key that seals deposits once more, and the weekly mailbox tag.
//!
//! Everything that engine code needs stands behind [`GroupKeys`], so that an audited group
//! key agreement can take this module's place.

use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::codec::{Bytes, DecodeError, List, Wire, check_ascending};
use crate::ids::{DeviceId, EpochId, Millis, OpId, Tag, TopicId};
use crate::seal::{self, OpenError, OpeningKey};
use crate::sign::{Domain, Signable, Signed, SignedError, SigningKey};

/// Most devices that one epoch can be for.
pub const MAX_RECIPIENTS: usize = 1_024;

/// The secret of one epoch. Wiped when dropped, absent from `Debug`.
#[derive(Clone)]
pub struct EpochSecret(Zeroizing<[u8; 32]>);

impl core::fmt::Debug for EpochSecret {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("EpochSecret(..)")
    }
}

/// Weeks since the Unix epoch: the granularity at which topic tags change.
pub type Week = u32;

/// The week that a moment falls into.
#[must_use]
pub const fn week_of(time: Millis) -> Week {
    (time / (7 * 24 * 3600 * 1000)) as Week
}

impl EpochSecret {
    /// A fresh secret.
    #[must_use]
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut b = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *b);
        Self(b)
    }

    /// From stored bytes.
    #[must_use]
    pub fn from_bytes(b: [u8; 32]) -> Self {
        Self(Zeroizing::new(b))
    }

    /// The secret of a public topic's one epoch: whoever knows the topic has it. It keeps the
    /// topic's words from those who only carry them.
    #[must_use]
    pub fn public(topic: TopicId) -> Self {
        Self(Zeroizing::new(blake3::derive_key("teahouse/v1/public epoch secret", &topic.0)))
    }

    /// The bytes to store.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        self.0.clone()
    }

    /// What the head commits to.
    #[must_use]
    pub fn commitment(&self) -> [u8; 32] {
        *self.derive("teahouse/v1/epoch commitment")
    }

    /// The key that seals changes.
    #[must_use]
    pub fn change_key(&self) -> Zeroizing<[u8; 32]> {
        self.derive("teahouse/v1/epoch change key")
    }

    /// The key that seals mailbox deposits once more.
    #[must_use]
    pub fn deposit_key(&self) -> Zeroizing<[u8; 32]> {
        self.derive("teahouse/v1/epoch deposit key")
    }

    /// What stands for the topic's readers in keys that need several circles at once
    /// ([`crate::moments`]).
    #[must_use]
    pub fn circle_key(&self) -> Zeroizing<[u8; 32]> {
        self.derive("teahouse/v1/epoch circle key")
    }

    /// The key pair of the topic's mailbox tag in a week: who can sign for the tag is a
    /// member.
    #[must_use]
    pub fn tag_key(&self, week: Week) -> SigningKey {
        let mut h = blake3::Hasher::new_derive_key("teahouse/v1/topic tag");
        h.update(&*self.0);
        h.update(&week.to_le_bytes());
        SigningKey::from_bytes(h.finalize().as_bytes())
    }

    /// The topic's mailbox tag in a week.
    #[must_use]
    pub fn tag(&self, week: Week) -> Tag {
        Tag(self.tag_key(week).verifying_key().to_bytes())
    }

    fn derive(&self, context: &str) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(blake3::derive_key(context, &*self.0))
    }
}

/// What an epoch's author signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochHead {
    /// Always 1.
    pub version: u8,
    /// The topic.
    pub topic: TopicId,
    /// Membership heads that the author had applied, ascending.
    pub heads: List<OpId, 16>,
    /// [`EpochSecret::commitment`].
    pub commitment: [u8; 32],
    /// Devices that the secret was sealed to, ascending.
    pub recipients: List<DeviceId, MAX_RECIPIENTS>,
    /// The device that made the epoch; it signs.
    pub author: DeviceId,
}

impl Wire for EpochHead {
    const NAME: &'static str = "epoch head";
    const MAX_BYTES: usize = 1 + 32 + 16 * 32 + 2 + 32 + MAX_RECIPIENTS * 32 + 4 + 32;
    fn check(&self) -> Result<(), DecodeError> {
        if self.version != 1 {
            return Err(DecodeError::UnknownVersion { name: Self::NAME, version: self.version });
        }
        check_ascending(Self::NAME, &self.heads)?;
        check_ascending(Self::NAME, &self.recipients)
    }
}

impl Signable for EpochHead {
    const DOMAIN: Domain = Domain::EPOCH;
    fn signer(&self) -> [u8; 32] {
        self.author.0
    }
}

/// Most bytes of a signed [`EpochHead`].
pub const MAX_HEAD: usize = EpochHead::MAX_BYTES + 69;

/// An epoch's secret on its way to one recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parcel {
    /// The signed [`EpochHead`].
    pub head: Bytes<MAX_HEAD>,
    /// The recipient: a device, or an account reached through its contact card.
    pub to: [u8; 32],
    /// The secret, HPKE-sealed (32 bytes and the overhead).
    pub sealed: Bytes<{ 32 + seal::HPKE_OVERHEAD }>,
}

impl Wire for Parcel {
    const NAME: &'static str = "key parcel";
    const MAX_BYTES: usize = MAX_HEAD + 32 + 32 + seal::HPKE_OVERHEAD + 8;
}

/// Why a parcel was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParcelError {
    /// The head is not one, or not signed by its author.
    #[error("epoch head: {0}")]
    Head(#[from] SignedError),
    /// Sealed to somebody else, or tampered with.
    #[error("key parcel {0}")]
    Open(#[from] OpenError),
    /// The secret is not the one that the head commits to.
    #[error("key parcel: the secret is not the one its author committed to")]
    Commitment,
}

/// How a topic's members come to share a secret.
pub trait GroupKeys {
    /// Makes a new epoch for `recipients` (any order; at most [`MAX_RECIPIENTS`]).
    fn rekey(
        &self,
        topic: TopicId,
        heads: &[OpId],
        recipients: &[DeviceId],
        author: &SigningKey,
        rng: &mut impl CryptoRng,
    ) -> (Signed<EpochHead>, EpochSecret);

    /// Seals an epoch's secret to one recipient's prekey.
    ///
    /// # Errors
    /// [`OpenError`] when the prekey can't be sealed to.
    fn parcel(
        &self,
        head: &Signed<EpochHead>,
        secret: &EpochSecret,
        to: [u8; 32],
        prekey: &[u8; 32],
        rng: &mut impl CryptoRng,
    ) -> Result<Parcel, OpenError>;

    /// Opens a parcel and checks it against its head.
    ///
    /// # Errors
    /// [`ParcelError`].
    fn open(
        &self,
        parcel: &Parcel,
        key: &OpeningKey,
    ) -> Result<(Signed<EpochHead>, EpochSecret), ParcelError>;
}

/// Pairwise HPKE: one sealed copy of the secret per device. Simple, asynchronous, without
/// an order on changes; cost grows with the number of devices.
#[derive(Debug, Clone, Copy, Default)]
pub struct PairwiseHpke;

impl GroupKeys for PairwiseHpke {
    fn rekey(
        &self,
        topic: TopicId,
        heads: &[OpId],
        recipients: &[DeviceId],
        author: &SigningKey,
        rng: &mut impl CryptoRng,
    ) -> (Signed<EpochHead>, EpochSecret) {
        let secret = EpochSecret::generate(rng);
        let mut heads = heads.to_vec();
        heads.sort_unstable();
        heads.dedup();
        heads.truncate(16);
        let mut recipients = recipients.to_vec();
        recipients.sort_unstable();
        recipients.dedup();
        recipients.truncate(MAX_RECIPIENTS);
        let head = EpochHead {
            version: 1,
            topic,
            heads: heads.try_into().expect("truncated to the bound"),
            commitment: secret.commitment(),
            recipients: recipients.try_into().expect("truncated to the bound"),
            author: DeviceId(author.verifying_key().to_bytes()),
        };
        (Signed::new(head, author), secret)
    }

    fn parcel(
        &self,
        head: &Signed<EpochHead>,
        secret: &EpochSecret,
        to: [u8; 32],
        prekey: &[u8; 32],
        rng: &mut impl CryptoRng,
    ) -> Result<Parcel, OpenError> {
        let info = [head.get().topic.as_bytes().as_slice(), &head.id(), &to];
        let sealed = seal::hpke_seal(prekey, &info, &*secret.0, rng)?;
        Ok(Parcel {
            head: head.bytes().to_vec().try_into().map_err(|_| OpenError)?,
            to,
            sealed: sealed.try_into().map_err(|_| OpenError)?,
        })
    }

    fn open(
        &self,
        parcel: &Parcel,
        key: &OpeningKey,
    ) -> Result<(Signed<EpochHead>, EpochSecret), ParcelError> {
        let head = Signed::<EpochHead>::from_bytes(&parcel.head)?;
        let info = [head.get().topic.as_bytes().as_slice(), &head.id(), &parcel.to];
        let plain = Zeroizing::new(seal::hpke_open(key, &info, &parcel.sealed)?);
        let bytes: [u8; 32] = plain.as_slice().try_into().map_err(|_| ParcelError::Commitment)?;
        let secret = EpochSecret::from_bytes(bytes);
        if !bool::from(secret.commitment().ct_eq(&head.get().commitment)) {
            return Err(ParcelError::Commitment);
        }
        Ok((head, secret))
    }
}

/// The id of a public topic's one epoch, which has no head.
#[must_use]
pub fn public_epoch(topic: TopicId) -> EpochId {
    EpochId(blake3::derive_key("teahouse/v1/public epoch", &topic.0))
}

/// The id of an epoch: the hash of its signed head.
#[must_use]
pub fn epoch_id(head: &Signed<EpochHead>) -> EpochId {
    EpochId(head.id())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    #[test]
    fn a_parcel_opens_for_its_recipient_only() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let author = SigningKey::from_bytes(&[3; 32]);
        let (alice, bob) = (OpeningKey::generate(&mut rng), OpeningKey::generate(&mut rng));
        let (head, secret) =
            PairwiseHpke.rekey(TopicId([1; 32]), &[], &[DeviceId([9; 32])], &author, &mut rng);
        let parcel =
            PairwiseHpke.parcel(&head, &secret, [9; 32], &alice.public(), &mut rng).unwrap();
        let (h, s) = PairwiseHpke.open(&parcel, &alice).unwrap();
        assert_eq!((h.id(), s.to_bytes()), (head.id(), secret.to_bytes()));
        assert!(PairwiseHpke.open(&parcel, &bob).is_err());
        let moved = Parcel { to: [8; 32], ..parcel.clone() };
        assert!(PairwiseHpke.open(&moved, &alice).is_err(), "bound to the recipient");

        // A parcel whose secret is not the committed one is refused.
        let (other, _) =
            PairwiseHpke.rekey(TopicId([1; 32]), &[], &[DeviceId([9; 32])], &author, &mut rng);
        let swapped =
            PairwiseHpke.parcel(&other, &secret, [9; 32], &alice.public(), &mut rng).unwrap();
        assert_eq!(PairwiseHpke.open(&swapped, &alice).unwrap_err(), ParcelError::Commitment);
    }

    #[test]
    fn tags_change_by_week_and_epoch() {
        let mut rng = ChaCha20Rng::seed_from_u64(2);
        let (a, b) = (EpochSecret::generate(&mut rng), EpochSecret::generate(&mut rng));
        assert_ne!(a.tag(1), a.tag(2));
        assert_ne!(a.tag(1), b.tag(1));
        assert_eq!(week_of(7 * 24 * 3600 * 1000), 1);
    }
}
