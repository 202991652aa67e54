//! Keys and small values that several files use.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use teahouse_protocols::account::{
    AccountLog, AccountOp, RelayAddr, Signer, device_consent, root_consent,
};
use teahouse_protocols::codec::{Bytes, List, Text};
use teahouse_protocols::ids::{AccountId, DeviceId, RelayId};
use teahouse_protocols::sign::SigningKey;

/// The private key of 32 times this byte.
pub(crate) fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

pub(crate) fn public(n: u8) -> [u8; 32] {
    key(n).verifying_key().to_bytes()
}

pub(crate) fn device(n: u8) -> DeviceId {
    DeviceId(public(n))
}

pub(crate) fn root(n: u8) -> Signer {
    Signer::Root(public(n))
}

pub(crate) fn dev(n: u8) -> Signer {
    Signer::Device(device(n))
}

/// Fixed randomness.
pub(crate) fn rng(n: u8) -> ChaCha20Rng {
    ChaCha20Rng::from_seed([n; 32])
}

pub(crate) fn text<const N: usize>(s: &str) -> Text<N> {
    s.try_into().unwrap()
}

pub(crate) fn bytes<const N: usize>(b: &[u8]) -> Bytes<N> {
    b.to_vec().try_into().unwrap()
}

pub(crate) fn list<T, const N: usize>(items: impl IntoIterator<Item = T>) -> List<T, N> {
    items.into_iter().collect::<Vec<_>>().try_into().unwrap()
}

pub(crate) fn relay() -> RelayAddr {
    RelayAddr {
        id: RelayId(public(90)),
        addrs: list([
            text("/dns4/relay.example.org/udp/4001/quic-v1"),
            text("/ip4/192.0.2.7/tcp/4001"),
        ]),
    }
}

pub(crate) fn add(account: AccountId, n: u8, name: &str) -> AccountOp {
    let consent = device_consent(&account, &key(n));
    AccountOp::AddDevice { device: device(n), name: text(name), consent }
}

pub(crate) fn revoke(n: u8) -> AccountOp {
    AccountOp::RevokeDevice { device: device(n) }
}

pub(crate) fn rotate(account: AccountId, n: u8) -> AccountOp {
    AccountOp::RotateRoot { root: public(n), consent: root_consent(&account, &key(n)) }
}

/// An account with root key 1 and device key 2.
pub(crate) fn account() -> AccountLog {
    let mut log = AccountLog::create(&key(1), [0x11; 16]);
    log.append(&key(1), root(1), add(log.account(), 2, "laptop")).unwrap();
    log
}
