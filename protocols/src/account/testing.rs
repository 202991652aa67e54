//! What the tests of the identity modules share.

use std::fmt::Debug;

use ed25519_dalek::SigningKey;

use super::{AccountLog, AccountOp, Signer, device_consent};
use crate::codec::{Text, Wire, decode, encode};
use crate::ids::DeviceId;
use crate::sign::{Signable, Signed};

/// A key that only tests use.
pub(crate) fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

/// The device with [`key`] `n`.
pub(crate) fn device(n: u8) -> DeviceId {
    DeviceId(key(n).verifying_key().to_bytes())
}

/// A value has one encoding, within its bound; nothing shorter, longer or altered is it.
pub(crate) fn wire_holds<T: Wire + PartialEq + Debug>(value: &T) {
    let bytes = encode(value);
    assert!(bytes.len() <= T::MAX_BYTES, "{} of {}", bytes.len(), T::MAX_BYTES);
    assert_eq!(&decode::<T>(&bytes).unwrap(), value);
    for len in 0..bytes.len() {
        assert!(decode::<T>(&bytes[..len]).is_err(), "cut at {len}");
    }
    for at in 0..bytes.len() {
        for mask in [0x01, 0x80, 0xff] {
            let mut other = bytes.clone();
            other[at] ^= mask;
            if let Ok(read) = decode::<T>(&other) {
                assert_ne!(&read, value, "byte {at} doesn't matter");
            }
        }
    }
    let mut longer = bytes;
    longer.push(0);
    assert!(decode::<T>(&longer).is_err());
}

/// A signed value reads back, and with any byte altered or missing it is refused.
pub(crate) fn signed_holds<T: Signable + PartialEq + Debug>(signed: &Signed<T>) {
    let bytes = signed.bytes();
    let read = Signed::<T>::from_bytes(bytes).unwrap();
    assert_eq!(&read, signed);
    for at in 0..bytes.len() {
        assert!(Signed::<T>::from_bytes(&bytes[..at]).is_err(), "cut at {at}");
        let mut other = bytes.to_vec();
        other[at] ^= 1 << (at % 8);
        assert!(Signed::<T>::from_bytes(&other).is_err(), "byte {at} altered");
    }
}

/// Root `by` adds device `n`.
pub(crate) fn add(log: &mut AccountLog, by: u8, n: u8) {
    let consent = device_consent(&log.account(), &key(n));
    let op = AccountOp::AddDevice { device: device(n), name: Text::default(), consent };
    log.append(&key(by), Signer::Root(key(by).verifying_key().to_bytes()), op).unwrap();
}
