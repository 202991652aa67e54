//! What is sealed to one device, or to an account through its contact card.
//!
//! An [`InboxMessage`] is signed by the sending device and HPKE-sealed to the recipient
//! device's prekey; it carries what has to reach exactly that device: epoch keys, welcomes,
//! account logs, and envelopes where no topic tag is open. On the wire:
//!
//! ```text
//! prekey id (8) ‖ encapsulated key (32) ‖ ciphertext ‖ tag (16)
//! ```
//!
//! A [`ContactRequest`] is a stranger's first word: signed by the stranger's device and
//! HPKE-sealed to the inbox key of a contact card. Nothing of either is visible to a relay.

use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use crate::codec::{Bytes, DecodeError, List, Text, Wire};
use crate::cursor::MAX_CURSOR;
use crate::envelope::{MAX_BODY, MAX_ENVELOPE};
use crate::epoch::Parcel;
use crate::ids::{AccountId, DeviceId, EnvelopeId, TopicId};
use crate::seal::{self, OpenError, OpeningKey};
use crate::sign::{self, Domain, Signable, Signed, SignedError, SigningKey};

/// Most bytes of a signed account record on the wire.
pub const MAX_RECORD: usize = 6 * 1024;
/// Most bytes of a signed membership record on the wire.
pub const MAX_OP: usize = 8 * 1024;
/// Most bytes of a signed prekey bundle on the wire.
pub const MAX_PREKEYS: usize = 512;
/// Most plaintext bytes of one inbox message.
pub const MAX_INBOX: usize = 768 * 1024;

/// What one account's peers need to know of it: log records and prekey bundles, each a
/// signed value in its wire form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct AccountPack {
    /// Signed account records, parents before children.
    pub records: List<Bytes<MAX_RECORD>, 512>,
    /// Signed prekey bundles of its devices.
    pub prekeys: List<Bytes<MAX_PREKEYS>, 64>,
}

/// An envelope with those of its bodies that the sender has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letter {
    /// The encoded envelope.
    pub envelope: Bytes<MAX_ENVELOPE>,
    /// Sealed bodies, in any order; they are known by their hash.
    pub bodies: List<Bytes<MAX_BODY>, 8>,
}

/// What a joiner needs to take part in a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The topic.
    pub topic: TopicId,
    /// Signed membership records, the genesis first.
    pub records: List<Bytes<MAX_OP>, 1_024>,
    /// Epoch keys that the history policy grants, sealed to the joiner.
    pub parcels: List<Parcel, 256>,
    /// The members' account logs and prekeys.
    pub accounts: List<AccountPack, 1_024>,
    /// Where each device's chain begins for the joiner: the last envelope before it.
    /// Chains not named begin at their first envelope.
    pub base: List<(DeviceId, u64, EnvelopeId), 1_024>,
}

/// One thing sealed to a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum InboxItem {
    /// News of an account.
    Account(AccountPack),
    /// An epoch's secret.
    Key(Parcel),
    /// An invitation into a topic.
    Welcome(Box<Welcome>),
    /// Membership records of a topic that the recipient is in, or was.
    Ops(TopicId, List<Bytes<MAX_OP>, 64>),
    /// Envelopes, where no topic tag of the recipient is open.
    Letters(List<Letter, 64>),
    /// A signed cursor.
    Cursor(Bytes<MAX_CURSOR>),
    /// "I accept your contact request"; the topic is the direct chat that it proposed.
    Accepted(TopicId),
}

/// What one device says to another, and to nobody else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboxMessage {
    /// Always 1.
    pub version: u8,
    /// The account of the sending device.
    pub account: AccountId,
    /// The sending device; it signs.
    pub from: DeviceId,
    /// The receiving device.
    pub to: DeviceId,
    /// In the order to be applied.
    pub items: List<InboxItem, 64>,
}

impl Wire for InboxMessage {
    const NAME: &'static str = "inbox message";
    const MAX_BYTES: usize = MAX_INBOX;
    fn check(&self) -> Result<(), DecodeError> {
        if self.version == 1 {
            return Ok(());
        }
        Err(DecodeError::UnknownVersion { name: Self::NAME, version: self.version })
    }
}

impl Signable for InboxMessage {
    const DOMAIN: Domain = Domain::INBOX;
    fn signer(&self) -> [u8; 32] {
        self.from.0
    }
}

/// A stranger's first word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContactRequest {
    /// Always 1.
    pub version: u8,
    /// The stranger's account.
    pub account: AccountId,
    /// The stranger's device; it signs.
    pub from: DeviceId,
    /// Whose card it answers.
    pub to: AccountId,
    /// The invite secret on that card.
    pub secret: [u8; 16],
    /// The name the stranger goes by.
    pub name: Text<64>,
    /// What the stranger says.
    pub greeting: Text<400>,
    /// The stranger's account.
    pub pack: AccountPack,
    /// The direct chat that it proposes; the epoch key is sealed to the card's inbox key.
    pub welcome: Welcome,
}

impl Wire for ContactRequest {
    const NAME: &'static str = "contact request";
    const MAX_BYTES: usize = 192 * 1024;
    fn check(&self) -> Result<(), DecodeError> {
        if self.version == 1 {
            return Ok(());
        }
        Err(DecodeError::UnknownVersion { name: Self::NAME, version: self.version })
    }
}

impl Signable for ContactRequest {
    const DOMAIN: Domain = Domain::REQUEST;
    fn signer(&self) -> [u8; 32] {
        self.from.0
    }
}

/// Why an inbox item was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InboxError {
    /// Sealed to another key, or tampered with.
    #[error("inbox item {0}")]
    Open(#[from] OpenError),
    /// What was inside is not a signed message.
    #[error(transparent)]
    Signed(#[from] SignedError),
    /// Meant for somebody else, and passed on.
    #[error("inbox item is addressed to somebody else")]
    Misaddressed,
}

/// Names a prekey: the first 8 bytes of its hash.
#[must_use]
pub fn prekey_id(prekey: &[u8; 32]) -> [u8; 8] {
    let h = sign::hash(Domain::PREKEYS, &[prekey]);
    let mut out = [0; 8];
    out.copy_from_slice(&h[..8]);
    out
}

/// Signs and seals a message to a device's prekey.
///
/// # Errors
/// [`OpenError`] when the prekey can't be sealed to.
pub fn seal_message(
    message: InboxMessage,
    key: &SigningKey,
    prekey: &[u8; 32],
    rng: &mut impl CryptoRng,
) -> Result<Vec<u8>, OpenError> {
    let to = message.to;
    let signed = Signed::new(message, key);
    let info = [Domain::INBOX.0.as_bytes(), to.as_bytes().as_slice()];
    let mut out = prekey_id(prekey).to_vec();
    out.extend_from_slice(&seal::hpke_seal(prekey, &info, signed.bytes(), rng)?);
    Ok(out)
}

/// The prekey id that a sealed message names; `None` when it is too short to be one.
#[must_use]
pub fn message_prekey(sealed: &[u8]) -> Option<[u8; 8]> {
    sealed.first_chunk::<8>().copied()
}

/// Opens and verifies a sealed message for device `me`.
///
/// # Errors
/// [`InboxError`].
pub fn open_message(
    sealed: &[u8],
    me: DeviceId,
    key: &OpeningKey,
) -> Result<Signed<InboxMessage>, InboxError> {
    let info = [Domain::INBOX.0.as_bytes(), me.as_bytes().as_slice()];
    let plain = seal::hpke_open(key, &info, sealed.get(8..).ok_or(OpenError)?)?;
    let message = Signed::<InboxMessage>::from_bytes(&plain)?;
    if message.get().to != me {
        return Err(InboxError::Misaddressed);
    }
    Ok(message)
}

/// Signs and seals a request to the inbox key of a contact card.
///
/// # Errors
/// [`OpenError`] when the inbox key can't be sealed to.
pub fn seal_request(
    request: ContactRequest,
    key: &SigningKey,
    inbox_key: &[u8; 32],
    rng: &mut impl CryptoRng,
) -> Result<Vec<u8>, OpenError> {
    let to = request.to;
    let signed = Signed::new(request, key);
    let info = [Domain::REQUEST.0.as_bytes(), to.as_bytes().as_slice()];
    seal::hpke_seal(inbox_key, &info, signed.bytes(), rng)
}

/// Opens and verifies a request to account `me`.
///
/// # Errors
/// [`InboxError`].
pub fn open_request(
    sealed: &[u8],
    me: AccountId,
    key: &OpeningKey,
) -> Result<Signed<ContactRequest>, InboxError> {
    let info = [Domain::REQUEST.0.as_bytes(), me.as_bytes().as_slice()];
    let plain = seal::hpke_open(key, &info, sealed)?;
    let request = Signed::<ContactRequest>::from_bytes(&plain)?;
    if request.get().to != me {
        return Err(InboxError::Misaddressed);
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    #[test]
    fn a_message_opens_for_its_device_only() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let sender = SigningKey::from_bytes(&[1; 32]);
        let key = OpeningKey::generate(&mut rng);
        let message = InboxMessage {
            version: 1,
            account: AccountId([2; 32]),
            from: DeviceId(sender.verifying_key().to_bytes()),
            to: DeviceId([3; 32]),
            items: vec![InboxItem::Accepted(TopicId([4; 32]))].try_into().unwrap(),
        };
        let sealed = seal_message(message.clone(), &sender, &key.public(), &mut rng).unwrap();
        assert_eq!(message_prekey(&sealed), Some(prekey_id(&key.public())));
        let opened = open_message(&sealed, DeviceId([3; 32]), &key).unwrap();
        assert_eq!(opened.get(), &message);
        assert!(open_message(&sealed, DeviceId([9; 32]), &key).is_err());
        assert!(open_message(&sealed[..20], DeviceId([3; 32]), &key).is_err());
    }
}
