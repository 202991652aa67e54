//! Keys and names: ed25519 public keys ↔ libp2p `PeerId`s, and addresses that name them.

use core::fmt;

use libp2p::identity::{PublicKey, ed25519};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

/// The libp2p name of a key; `None` when the bytes are not a point of the curve.
pub(super) fn peer_id(key: &[u8; 32]) -> Option<PeerId> {
    let key = ed25519::PublicKey::try_from_bytes(key).ok()?;
    Some(PublicKey::from(key).to_peer_id())
}

/// The key in a `PeerId`; `None` for keys of another kind, which we never talk to.
pub(super) fn key_of(peer: &PeerId) -> Option<[u8; 32]> {
    let bytes = peer.to_bytes();
    // An identity multihash (code 0) holds the key itself; its length is one byte.
    let encoded = bytes.strip_prefix(&[0]).and_then(|b| b.get(1..))?;
    let key = PublicKey::try_decode_protobuf(encoded).ok()?;
    Some(key.try_into_ed25519().ok()?.to_bytes())
}

/// The address without a trailing `/p2p/…`: we name peers ourselves.
pub(super) fn without_peer(mut addr: Multiaddr) -> Multiaddr {
    if matches!(addr.iter().last(), Some(Protocol::P2p(_))) {
        addr.pop();
    }
    addr
}

/// Whether the address runs through a relay.
pub(super) fn is_circuit(addr: &Multiaddr) -> bool {
    addr.iter().any(|p| p == Protocol::P2pCircuit)
}

/// A peer in a log line: enough to tell two apart, too little to be an address.
pub(super) struct Short<'a>(pub(super) &'a PeerId);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match key_of(self.0) {
            Some(key) => key[..4].iter().try_for_each(|b| write!(f, "{b:02x}")),
            None => f.write_str("foreign"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libp2p::identity::Keypair;

    #[test]
    fn keys_and_peer_ids_are_two_spellings_of_one_thing() {
        for seed in 0..32_u8 {
            let keypair = Keypair::ed25519_from_bytes([seed; 32]).unwrap();
            let peer = keypair.public().to_peer_id();
            let key = key_of(&peer).unwrap();
            assert_eq!(key, keypair.try_into_ed25519().unwrap().public().to_bytes());
            assert_eq!(peer_id(&key), Some(peer));
            assert_eq!(Short(&peer).to_string().len(), 8);
        }
        // A hashed key hides the key, so it can't be one of ours.
        let hashed = libp2p::multihash::Multihash::wrap(0x12, &[7; 32]).unwrap();
        let peer = PeerId::from_multihash(hashed).unwrap();
        assert_eq!(key_of(&peer), None);
    }
}
