//! Encryption: HPKE (RFC 9180: DHKEM X25519, HKDF-SHA256, ChaCha20Poly1305, base mode) to
//! a key pair, and XChaCha20Poly1305 under a shared key. Both bind a context, so that a
//! ciphertext moved elsewhere doesn't open.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use hpke::aead::ChaCha20Poly1305 as HpkeAead;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

/// Bytes that [`aead_seal`] adds: a 24-byte nonce before and a 16-byte tag after.
pub const AEAD_OVERHEAD: usize = 24 + 16;
/// Bytes that [`hpke_seal`] adds: a 32-byte encapsulated key before, a 16-byte tag after.
pub const HPKE_OVERHEAD: usize = 32 + 16;

/// A ciphertext that doesn't open under this key and context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("does not open with this key")]
pub struct OpenError;

/// An X25519 private key, wiped when dropped.
#[derive(Clone)]
pub struct OpeningKey(Zeroizing<[u8; 32]>);

impl OpeningKey {
    /// A fresh key.
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

    /// The bytes to store.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        self.0.clone()
    }

    /// The public half.
    ///
    /// # Panics
    /// Never: every 32 bytes are an X25519 private key.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        X25519HkdfSha256::sk_to_pk(&self.private()).to_bytes().into()
    }

    fn private(&self) -> <X25519HkdfSha256 as Kem>::PrivateKey {
        <X25519HkdfSha256 as Kem>::PrivateKey::from_bytes(&*self.0)
            .expect("every 32 bytes are an X25519 private key")
    }
}

impl core::fmt::Debug for OpeningKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("OpeningKey(..)")
    }
}

/// Seals to a public key. Output: encapsulated key ‖ ciphertext ‖ tag.
///
/// # Errors
/// [`OpenError`] when `public` is a point that no honest party has (a low-order point).
pub fn hpke_seal(
    public: &[u8; 32],
    info: &[&[u8]],
    plaintext: &[u8],
    rng: &mut impl CryptoRng,
) -> Result<Vec<u8>, OpenError> {
    let public = <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(public).map_err(|_| OpenError)?;
    let (enc, ct) = hpke::single_shot_seal_with_rng::<HpkeAead, HkdfSha256, X25519HkdfSha256>(
        &OpModeS::Base,
        &public,
        &join(info),
        plaintext,
        &[],
        rng,
    )
    .map_err(|_| OpenError)?;
    let mut out = enc.to_bytes().to_vec();
    out.extend_from_slice(&ct);
    Ok(out)
}

/// Opens what [`hpke_seal`] made for the same `info`.
///
/// # Errors
/// [`OpenError`].
pub fn hpke_open(key: &OpeningKey, info: &[&[u8]], sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
    let (enc, ct) = sealed.split_at_checked(32).ok_or(OpenError)?;
    let enc = <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(enc).map_err(|_| OpenError)?;
    hpke::single_shot_open::<HpkeAead, HkdfSha256, X25519HkdfSha256>(
        &OpModeR::Base,
        &key.private(),
        &enc,
        &join(info),
        ct,
        &[],
    )
    .map_err(|_| OpenError)
}

/// Seals under a shared key with a random nonce. Output: nonce ‖ ciphertext ‖ tag.
///
/// # Panics
/// Never: the cipher fails only beyond 256 GiB.
pub fn aead_seal(
    key: &[u8; 32],
    context: &[&[u8]],
    plaintext: &[u8],
    rng: &mut impl CryptoRng,
) -> Vec<u8> {
    let mut nonce = [0; 24];
    rng.fill_bytes(&mut nonce);
    seal_with(key, nonce, context, plaintext)
}

/// Like [`aead_seal`], with a nonce that is a keyed hash of context and plaintext: equal
/// input gives equal output (and shows that it is equal), different input never shares a
/// nonce. The construction of SIV modes (RFC 5297 §1.3.2).
#[must_use]
pub fn aead_seal_repeatable(key: &[u8; 32], context: &[&[u8]], plaintext: &[u8]) -> Vec<u8> {
    let nonce_key = Zeroizing::new(blake3::derive_key("teahouse/v1/repeatable nonce", key));
    let mut h = blake3::Hasher::new_keyed(&nonce_key);
    h.update(&join(context));
    h.update(plaintext);
    let mut nonce = [0; 24];
    nonce.copy_from_slice(&h.finalize().as_bytes()[..24]);
    seal_with(key, nonce, context, plaintext)
}

fn seal_with(key: &[u8; 32], nonce: [u8; 24], context: &[&[u8]], plaintext: &[u8]) -> Vec<u8> {
    let ct = cipher(key)
        .encrypt(&XNonce::from(nonce), Payload { msg: plaintext, aad: &join(context) })
        .expect("plaintext is bounded");
    let mut out = Vec::with_capacity(24 + ct.len());
    out.extend_from_slice(&nonce);
    out.extend_from_slice(&ct);
    out
}

/// Opens what [`aead_seal`] made for the same `context`.
///
/// # Errors
/// [`OpenError`].
pub fn aead_open(key: &[u8; 32], context: &[&[u8]], sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
    let (nonce, ct) = sealed.split_first_chunk::<24>().ok_or(OpenError)?;
    cipher(key)
        .decrypt(&XNonce::from(*nonce), Payload { msg: ct, aad: &join(context) })
        .map_err(|_| OpenError)
}

/// Seals once under a key that is used for nothing else, ever: the nonce is zero.
/// Output: ciphertext ‖ tag, so the result is a function of key and plaintext.
///
/// # Panics
/// Never: the cipher fails only beyond 256 GiB.
#[must_use]
pub fn seal_once(single_use_key: &[u8; 32], plaintext: &[u8]) -> Vec<u8> {
    cipher(single_use_key).encrypt(&XNonce::from([0; 24]), plaintext).expect("plaintext is bounded")
}

/// Opens what [`seal_once`] made.
///
/// # Errors
/// [`OpenError`].
pub fn open_once(single_use_key: &[u8; 32], sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
    cipher(single_use_key).decrypt(&XNonce::from([0; 24]), sealed).map_err(|_| OpenError)
}

fn cipher(key: &[u8; 32]) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(&Key::from(*key))
}

/// Parts with their lengths (u64, little endian), so that no two lists collide.
fn join(parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::with_capacity(parts.iter().map(|p| p.len() + 8).sum());
    for p in parts {
        out.extend_from_slice(&(p.len() as u64).to_le_bytes());
        out.extend_from_slice(p);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn opens_only_in_its_context(seed: u64, text: Vec<u8>, flip: usize) {
            let mut rng = ChaCha20Rng::seed_from_u64(seed);
            let key = OpeningKey::generate(&mut rng);
            let sealed = hpke_seal(&key.public(), &[b"a", b"b"], &text, &mut rng).unwrap();
            prop_assert_eq!(sealed.len(), text.len() + HPKE_OVERHEAD);
            prop_assert_eq!(hpke_open(&key, &[b"a", b"b"], &sealed).unwrap(), text.clone());
            prop_assert!(hpke_open(&key, &[b"ab"], &sealed).is_err());
            let mut bad = sealed.clone();
            let i = flip % bad.len();
            bad[i] ^= 1;
            // X25519 ignores the top bit of a point; every other bit counts.
            prop_assert!(hpke_open(&key, &[b"a", b"b"], &bad).is_err());

            let shared = [7; 32];
            let sealed = aead_seal(&shared, &[b"x"], &text, &mut rng);
            prop_assert_eq!(sealed.len(), text.len() + AEAD_OVERHEAD);
            prop_assert_eq!(aead_open(&shared, &[b"x"], &sealed).unwrap(), text);
            prop_assert!(aead_open(&shared, &[b"y"], &sealed).is_err());
        }
    }
}
