//! Prekey bundles: the key to which one device's messages are sealed, and where to leave
//! them.
//!
//! A device publishes a bundle, signed by itself, and replaces it now and then; the bundle
//! with the higher counter is the one in use. Old private prekeys are kept for 90 days by
//! the device, so that what was sealed to them still opens.
//!
//! Wire: postcard of the fields in the order below, signed by the device for
//! [`Domain::PREKEYS`].

use serde::{Deserialize, Serialize};

use crate::codec::{DecodeError, List, Wire, check_ascending};
use crate::ids::{AccountId, DeviceId, Tag};
use crate::sign::{self, Domain, Signable};

/// The version this build writes and reads.
pub const VERSION: u8 = 1;

/// One device's current prekey.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrekeyBundle {
    /// [`VERSION`].
    pub version: u8,
    /// The account that the device belongs to; that it does, only the account log shows.
    pub account: AccountId,
    /// The device, which signs.
    pub device: DeviceId,
    /// Rises with every bundle of the device.
    pub counter: u64,
    /// The X25519 public key to seal to.
    pub prekey: [u8; 32],
    /// The mailbox tag that the device reads.
    pub inbox: Tag,
    /// Numbers of the features that the device has, strictly ascending.
    pub features: List<u16, 32>,
}

/// A short name for a prekey: which of its private keys a device should open with.
///
/// The first 8 bytes of the hash of the prekey. A collision costs a failed opening, no
/// more, for the sealing itself is bound to the whole key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PrekeyId(pub [u8; 8]);

impl PrekeyId {
    /// The id of an X25519 public key.
    #[must_use]
    pub fn of(prekey: &[u8; 32]) -> Self {
        let hash = sign::hash(Domain::PREKEYS, &[b"prekey id", prekey]);
        let mut id = [0; 8];
        id.copy_from_slice(&hash[..8]);
        Self(id)
    }
}

impl PrekeyBundle {
    /// The id of its prekey.
    #[must_use]
    pub fn prekey_id(&self) -> PrekeyId {
        PrekeyId::of(&self.prekey)
    }

    /// Whether this one takes the place of `held`: same account and device, higher counter.
    #[must_use]
    pub fn replaces(&self, held: &Self) -> bool {
        self.account == held.account && self.device == held.device && self.counter > held.counter
    }
}

impl Wire for PrekeyBundle {
    const NAME: &'static str = "prekey bundle";
    const MAX_BYTES: usize = 1 + 4 * 32 + 10 + 1 + 32 * 3;

    fn check(&self) -> Result<(), DecodeError> {
        if self.version != VERSION {
            return Err(DecodeError::UnknownVersion { name: Self::NAME, version: self.version });
        }
        check_ascending(Self::NAME, &self.features)
    }
}

impl Signable for PrekeyBundle {
    const DOMAIN: Domain = Domain::PREKEYS;

    fn signer(&self) -> [u8; 32] {
        self.device.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{PrekeyBundle, PrekeyId, VERSION};
    use crate::account::testing::{device, key, signed_holds, wire_holds};
    use crate::codec::{Wire, decode, encode};
    use crate::ids::{AccountId, Tag};
    use crate::sign::Signed;

    fn bundle(counter: u64, features: Vec<u16>) -> PrekeyBundle {
        PrekeyBundle {
            version: VERSION,
            account: AccountId([1; 32]),
            device: device(2),
            counter,
            prekey: [3; 32],
            inbox: Tag([4; 32]),
            features: features.try_into().unwrap(),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]
        #[test]
        fn one_encoding(
            counter: u64,
            features in prop::collection::btree_set(any::<u16>(), 0..=32),
        ) {
            let bundle = bundle(counter, features.into_iter().collect());
            wire_holds(&bundle);
            signed_holds(&Signed::new(bundle, &key(2)));
        }
    }

    #[test]
    fn the_bound_is_enough() {
        let features = (u16::MAX - 31..=u16::MAX).collect();
        assert_eq!(encode(&bundle(u64::MAX, features)).len(), PrekeyBundle::MAX_BYTES);
    }

    #[test]
    fn refuses_unsorted_features_and_other_versions() {
        assert!(decode::<PrekeyBundle>(&encode(&bundle(0, vec![2, 1]))).is_err());
        assert!(decode::<PrekeyBundle>(&encode(&bundle(0, vec![1, 1]))).is_err());
        let mut later = bundle(0, vec![]);
        later.version = 2;
        assert!(decode::<PrekeyBundle>(&encode(&later)).is_err());
    }

    #[test]
    fn a_higher_counter_replaces() {
        let (old, new) = (bundle(4, vec![]), bundle(5, vec![]));
        assert!(new.replaces(&old) && !old.replaces(&new) && !old.replaces(&old));
        let mut other = new.clone();
        other.device = device(9);
        assert!(!other.replaces(&old));
        assert_ne!(PrekeyId::of(&[1; 32]), PrekeyId::of(&[2; 32]));
        assert_eq!(old.prekey_id(), PrekeyId::of(&[3; 32]));
    }
}
