//! Contact cards: what somebody needs to ask for my friendship, small enough for a QR code.
//!
//! A card is signed by one of the account's devices and carries the account records which
//! show, on their own, that the device belongs to the account: the genesis, whose id is
//! the account id, and a chain of grants down to the device. So a card in which somebody
//! swapped a key, the relays or the account is refused before anything else is known of the
//! account. What a card alone can't show is that nothing was revoked since: the account
//! log, fetched next, does.
//!
//! # Wire
//! Postcard of the fields in the order below, signed by the device for [`Domain::CARD`]. An
//! account with one device and one relay has a card of about 750 bytes.

use std::collections::BTreeSet;
use std::fmt;

use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use crate::account::{AccountLog, AccountOp, AccountRecord, RelayAddr, Signer};
use crate::codec::{Bytes, DecodeError, List, Text, Wire};
use crate::ids::{AccountId, DeviceId, Tag};
use crate::sign::{Domain, Signable, Signed, SignedError};

/// The version this build writes and reads.
pub const VERSION: u8 = 1;

/// A secret that travels in a card or link: 128 random bits.
///
/// Compared in constant time, wiped when dropped, never shown by `Debug`.
#[derive(Clone, Serialize, Deserialize)]
pub struct LinkSecret(pub [u8; 16]);

/// What a person shows to be found and written to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContactCard {
    /// [`VERSION`].
    pub version: u8,
    /// The account.
    pub account: AccountId,
    /// The device that signs.
    pub device: DeviceId,
    /// The account's name, as its owner writes it.
    pub name: Text<64>,
    /// X25519 public key to seal the request to.
    pub inbox_key: [u8; 32],
    /// Mailbox tag to leave the request under.
    pub tag: Tag,
    /// Relays where the tag is kept, best first.
    pub relays: List<RelayAddr, 4>,
    /// Goes into the request; the owner limits and revokes its use.
    pub secret: LinkSecret,
    /// Signed account records: genesis, then each record signed by a key granted before.
    pub proof: List<Bytes<1024>, 8>,
}

/// A contact card whose signature and proof hold.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifiedCard {
    signed: Signed<ContactCard>,
    root: [u8; 32],
}

/// Why a card was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CardError {
    /// Malformed, or not signed by the device that it names.
    #[error(transparent)]
    Signed(#[from] SignedError),
    /// The proof doesn't begin with the genesis of the account.
    #[error("card's proof doesn't begin with the account's genesis")]
    Genesis,
    /// A record of the proof isn't one, or its consent doesn't hold.
    #[error("card's proof holds a bad record")]
    Record,
    /// A record of the proof is signed by a key that the proof hasn't granted.
    #[error("card's proof has a gap")]
    Gap,
    /// The proof doesn't lead to the device that signs the card.
    #[error("card's proof is not about its device")]
    Device,
    /// The key given is not the one that the card names.
    #[error("wrong signing key")]
    WrongKey,
    /// The device can't be proven in so few records, or isn't active.
    #[error("no proof for this device")]
    NoProof,
}

impl ContactCard {
    /// The records for [`ContactCard::proof`].
    pub fn proof_for(
        log: &AccountLog,
        device: &DeviceId,
    ) -> Result<List<Bytes<1024>, 8>, CardError> {
        let records = log.proof_of(device).ok_or(CardError::NoProof)?;
        let bytes: Result<Vec<_>, _> =
            records.iter().map(|r| Bytes::try_from(r.bytes().to_vec())).collect();
        bytes.and_then(List::try_from).map_err(|_| CardError::NoProof)
    }

    /// Checks that the proof shows the device to belong to the account. Returns the newest
    /// root key that the proof shows.
    pub fn verify_proof(&self) -> Result<[u8; 32], CardError> {
        verify_grants(&self.account, &self.device, self.proof.iter().map(|bytes| &**bytes))
    }
}

/// Checks that records, each signed by a key granted before, lead from the account's genesis
/// to the device. Returns the newest root key that they show. They can't show that nothing
/// was revoked since.
pub fn verify_grants<'a>(
    account: &AccountId,
    device: &DeviceId,
    records: impl IntoIterator<Item = &'a [u8]>,
) -> Result<[u8; 32], CardError> {
    let mut records = records
        .into_iter()
        .map(|bytes| Signed::<AccountRecord>::from_bytes(bytes).map_err(|_| CardError::Record));
    let genesis = records.next().ok_or(CardError::Genesis)??;
    let AccountOp::Genesis { mut root, .. } = genesis.get().op else {
        return Err(CardError::Genesis);
    };
    if genesis.id() != account.0 {
        return Err(CardError::Genesis);
    }
    let mut granted = BTreeSet::from([Signer::Root(root)]);
    for record in records {
        let record = record?;
        let record = record.get();
        if record.account != Some(*account) || record.verify_consent().is_err() {
            return Err(CardError::Record);
        }
        if !granted.contains(&record.signer) {
            return Err(CardError::Gap);
        }
        match &record.op {
            AccountOp::AddDevice { device, .. } => {
                granted.insert(Signer::Device(*device));
            }
            AccountOp::RotateRoot { root: new, .. } => {
                granted.remove(&record.signer);
                granted.insert(Signer::Root(*new));
                root = *new;
            }
            _ => return Err(CardError::Record),
        }
    }
    if !granted.contains(&Signer::Device(*device)) {
        return Err(CardError::Device);
    }
    Ok(root)
}

impl VerifiedCard {
    /// Signs a card with the device's key.
    pub fn sign(card: ContactCard, key: &SigningKey) -> Result<Self, CardError> {
        if key.verifying_key().to_bytes() != card.device.0 {
            return Err(CardError::WrongKey);
        }
        // Reading it back refuses what others would refuse.
        Self::from_bytes(Signed::new(card, key).bytes())
    }

    /// Decodes a card and verifies signature and proof.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CardError> {
        Self::from_signed(Signed::from_bytes(bytes)?)
    }

    /// Verifies the proof of a card whose signature holds.
    pub fn from_signed(signed: Signed<ContactCard>) -> Result<Self, CardError> {
        let root = signed.get().verify_proof()?;
        Ok(Self { signed, root })
    }

    /// The card.
    #[must_use]
    pub const fn card(&self) -> &ContactCard {
        self.signed.get()
    }

    /// The bytes to send.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.signed.bytes()
    }

    /// The newest root key that the proof shows. The account log may know a newer one.
    #[must_use]
    pub const fn root(&self) -> &[u8; 32] {
        &self.root
    }
}

impl fmt::Debug for VerifiedCard {
    // Not derived: the signed bytes hold the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let card = self.card();
        f.debug_struct("VerifiedCard")
            .field("account", &card.account)
            .field("device", &card.device)
            .finish_non_exhaustive()
    }
}

impl Wire for ContactCard {
    const NAME: &'static str = "contact card";
    // Less than the fields' bounds together, so that every card fits into a link.
    const MAX_BYTES: usize = 4096;

    fn check(&self) -> Result<(), DecodeError> {
        if self.version != VERSION {
            return Err(DecodeError::UnknownVersion { name: Self::NAME, version: self.version });
        }
        Ok(())
    }
}

impl Signable for ContactCard {
    const DOMAIN: Domain = Domain::CARD;

    fn signer(&self) -> [u8; 32] {
        self.device.0
    }
}

impl PartialEq for LinkSecret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for LinkSecret {}

impl Drop for LinkSecret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for LinkSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkSecret(..)")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{CardError, ContactCard, LinkSecret, VERSION, VerifiedCard};
    use crate::account::testing::{add, device, key, signed_holds, wire_holds};
    use crate::account::{AccountLog, AccountOp, RelayAddr, Signer, root_consent};
    use crate::codec::{Bytes, List};
    use crate::ids::{DeviceId, RelayId, Tag};
    use crate::sign::Signed;

    /// An account with root 1 and device 2.
    fn account() -> AccountLog {
        let mut log = AccountLog::create(&key(1), [0; 16]);
        add(&mut log, 1, 2);
        log
    }

    pub(crate) fn relay() -> RelayAddr {
        RelayAddr {
            id: RelayId([9; 32]),
            addrs: vec!["/dns4/relay.example.org/udp/4001/quic-v1".try_into().unwrap()]
                .try_into()
                .unwrap(),
        }
    }

    fn card(log: &AccountLog, device: DeviceId) -> ContactCard {
        ContactCard {
            version: VERSION,
            account: log.account(),
            device,
            name: "梅".try_into().unwrap(),
            inbox_key: [5; 32],
            tag: Tag([6; 32]),
            relays: vec![relay()].try_into().unwrap(),
            secret: LinkSecret(*b"sixteen bytes..."),
            proof: ContactCard::proof_for(log, &device).unwrap(),
        }
    }

    pub(crate) fn verified() -> VerifiedCard {
        VerifiedCard::sign(card(&account(), device(2)), &key(2)).unwrap()
    }

    #[test]
    fn a_usual_card_is_small_and_any_altered_byte_is_refused() {
        let card = verified();
        assert!(card.bytes().len() < 800, "{} bytes", card.bytes().len());
        assert_eq!(card.root(), &key(1).verifying_key().to_bytes());
        wire_holds(card.card());
        signed_holds(&Signed::<ContactCard>::from_bytes(card.bytes()).unwrap());
        let shown = format!("{card:?} {:?}", card.card());
        assert!(!shown.contains("sixteen") && !shown.contains("115"), "{shown}");
    }

    #[test]
    fn a_swapped_key_is_refused_even_when_signed_anew() {
        let log = account();
        // Somebody (key 66) puts their own device into my card and signs it.
        let mut swapped = card(&log, device(2));
        swapped.device = device(66);
        assert_eq!(VerifiedCard::sign(swapped, &key(66)).unwrap_err(), CardError::Device);
        // With their own account's proof it is no longer my account.
        let mut theirs = AccountLog::create(&key(65), [0; 16]);
        add(&mut theirs, 65, 66);
        let mut mixed = card(&log, device(2));
        mixed.device = device(66);
        mixed.proof = ContactCard::proof_for(&theirs, &device(66)).unwrap();
        assert_eq!(VerifiedCard::sign(mixed, &key(66)).unwrap_err(), CardError::Genesis);
        // My genesis followed by their record.
        let mut spliced = card(&log, device(2));
        spliced.device = device(66);
        let mut proof = spliced.proof.clone().into_inner();
        proof[1] = ContactCard::proof_for(&theirs, &device(66)).unwrap()[1].clone();
        spliced.proof = proof.try_into().unwrap();
        assert_eq!(VerifiedCard::sign(spliced, &key(66)).unwrap_err(), CardError::Record);
        // A signature by another key than the card's.
        assert_eq!(
            VerifiedCard::sign(card(&log, device(2)), &key(3)).unwrap_err(),
            CardError::WrongKey
        );
    }

    #[test]
    fn proofs_follow_chains_and_have_no_gaps() {
        let mut log = account();
        let new_root = root_consent(&log.account(), &key(7));
        let root = key(7).verifying_key().to_bytes();
        let old = Signer::Root(key(1).verifying_key().to_bytes());
        log.append(&key(1), old, AccountOp::RotateRoot { root, consent: new_root }).unwrap();
        add(&mut log, 7, 3);
        // Added by device 2.
        log.append(
            &key(2),
            Signer::Device(device(2)),
            AccountOp::AddDevice {
                device: device(4),
                name: "".try_into().unwrap(),
                consent: crate::account::device_consent(&log.account(), &key(4)),
            },
        )
        .unwrap();
        let by_new_root = VerifiedCard::sign(card(&log, device(3)), &key(3)).unwrap();
        assert_eq!(by_new_root.root(), &root);
        let by_device = VerifiedCard::sign(card(&log, device(4)), &key(4)).unwrap();
        assert_eq!(by_device.card().proof.len(), 3);

        for (without, why) in [(0, CardError::Genesis), (1, CardError::Gap), (2, CardError::Device)]
        {
            let mut gap = card(&log, device(4));
            let mut proof = gap.proof.into_inner();
            proof.remove(without);
            gap.proof = proof.try_into().unwrap();
            assert_eq!(VerifiedCard::sign(gap, &key(4)).unwrap_err(), why);
        }
        let mut empty = card(&log, device(4));
        empty.proof = List::default();
        assert_eq!(VerifiedCard::sign(empty, &key(4)).unwrap_err(), CardError::Genesis);
    }

    #[test]
    fn the_old_root_can_t_prove_after_its_rotation() {
        let mut log = account();
        let root = key(7).verifying_key().to_bytes();
        let old = Signer::Root(key(1).verifying_key().to_bytes());
        let consent = root_consent(&log.account(), &key(7));
        let mut before = log.clone();
        log.append(&key(1), old, AccountOp::RotateRoot { root, consent }).unwrap();
        add(&mut log, 7, 3);
        add(&mut before, 1, 66);
        let mut forged = card(&before, device(66));
        let late: Vec<Bytes<1024>> = ContactCard::proof_for(&log, &device(3))
            .unwrap()
            .iter()
            .chain(forged.proof.iter().skip(1))
            .cloned()
            .collect();
        forged.proof = late.try_into().unwrap();
        assert_eq!(VerifiedCard::sign(forged, &key(66)).unwrap_err(), CardError::Gap);
    }

    #[test]
    fn a_revoked_device_has_no_proof_and_big_cards_don_t_pass() {
        let mut log = account();
        let mut big = card(&log, device(2));
        let addr: crate::codec::Text<128> = "a".repeat(128).try_into().unwrap();
        let long = RelayAddr { id: RelayId([1; 32]), addrs: vec![addr; 4].try_into().unwrap() };
        big.relays = vec![long; 4].try_into().unwrap();
        let mut proof = big.proof.clone().into_inner();
        proof.extend(vec![proof[1].clone(); 6]);
        big.proof = proof.try_into().unwrap();
        assert!(matches!(VerifiedCard::sign(big, &key(2)), Err(CardError::Signed(_))));

        let root = Signer::Root(key(1).verifying_key().to_bytes());
        log.append(&key(1), root, AccountOp::RevokeDevice { device: device(2) }).unwrap();
        assert_eq!(ContactCard::proof_for(&log, &device(2)), Err(CardError::NoProof));
    }
}
