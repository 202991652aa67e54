//! Content: files and pictures, sealed before they are hashed, so that whoever stores or
//! carries them learns no more than their size.
//!
//! Every content has a random key of its own, which travels in the message's body. Sealed
//! content is a row of chunks: [`CHUNK`] bytes of plain text each and a [`TAG`]; only the
//! last may be shorter, and it is empty only where the whole content is. Each is sealed with
//! ChaCha20-Poly1305 (RFC 8439) under a key derived from the content's, with the nonce
//!
//! ```text
//! chunk number from 0 (88 bits, big endian) ‖ 1 for the last chunk, else 0 (8 bits)
//! ```
//!
//! and no associated data. This is the STREAM construction (Hoang, Reyhanitabar, Rogaway,
//! Vizár: Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance, CRYPTO
//! 2015) in the shape that age gave it (C2SP `age.md`, "Payload"). A chunk opens at its own
//! place only, and the last one as the last only: what was truncated at a chunk's end,
//! reordered, repeated or extended does not open. Both directions work chunk by chunk, in
//! constant memory. A nonce can't repeat: a key seals one content, in order, once.
//!
//! What is *not* hidden is the size. What is *not* promised is that a ciphertext opens under
//! one key only: name a content by the hash of its sealed form *and* its key.

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

/// Bytes of plain text in every chunk but the last.
pub const CHUNK: usize = 64 * 1024;

/// Bytes that sealing adds to a chunk.
pub const TAG: usize = 16;

/// Bytes of a sealed chunk that is not the last.
pub const SEALED_CHUNK: usize = CHUNK + TAG;

/// Most bytes of plain text: 8 GiB. A bound for sums and disks; the construction itself
/// would hold far more.
pub const MAX_SIZE: u64 = 8 << 30;

/// The key of one content. Wiped when dropped, absent from `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct ContentKey(Zeroizing<[u8; 32]>);

impl core::fmt::Debug for ContentKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("ContentKey(..)")
    }
}

impl ContentKey {
    /// A fresh key. One content, one key: two contents under one key would share nonces.
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

    fn cipher(&self) -> ChaCha20Poly1305 {
        let key = Zeroizing::new(blake3::derive_key("teahouse/v1/content stream", &*self.0));
        ChaCha20Poly1305::new(&Key::from(*key))
    }
}

/// All that somebody needs to find, bound and open a content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentRef {
    /// BLAKE3 of the sealed form.
    pub hash: [u8; 32],
    /// The key that opens it.
    pub key: ContentKey,
    /// Bytes of plain text.
    pub size: u64,
}

impl ContentRef {
    /// Bytes of the sealed form. A provider that says otherwise is refused. `None` where
    /// the size is beyond [`MAX_SIZE`].
    #[must_use]
    pub const fn sealed_size(&self) -> Option<u64> {
        sealed_size(self.size)
    }
}

/// Bytes that `size` bytes have once sealed; `None` beyond [`MAX_SIZE`].
#[must_use]
pub const fn sealed_size(size: u64) -> Option<u64> {
    if size > MAX_SIZE {
        return None;
    }
    let chunks = if size == 0 { 1 } else { size.div_ceil(CHUNK as u64) };
    Some(size + chunks * TAG as u64)
}

/// Bytes of plain text in `sealed` bytes; `None` where no content has that size.
#[must_use]
pub const fn plain_size(sealed: u64) -> Option<u64> {
    let (whole, rest) = (sealed / SEALED_CHUNK as u64, sealed % SEALED_CHUNK as u64);
    let size = match (whole, rest) {
        (_, 0) => whole * CHUNK as u64,
        // An empty chunk exists only where it is all there is.
        (0, r) if r >= TAG as u64 => r - TAG as u64,
        (_, r) if r > TAG as u64 => whole * CHUNK as u64 + r - TAG as u64,
        _ => return None,
    };
    if sealed == 0 || size > MAX_SIZE { None } else { Some(size) }
}

/// Why a chunk was not sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// Its length is none that a chunk at this place has.
    #[error("a chunk of {0} bytes can't stand here")]
    Length(usize),
    /// There was a last chunk already.
    #[error("there is more after the last chunk")]
    AfterLast,
    /// More than [`MAX_SIZE`].
    #[error("content has at most {MAX_SIZE} bytes")]
    TooLong,
    /// Not sealed with this key, or changed, or not at its place.
    #[error("the content does not open with its key: it was changed, cut off or extended")]
    Refused,
}

/// Where in its row a chunk stands.
struct Place {
    number: u64,
    over: bool,
}

impl Place {
    const fn start() -> Self {
        Self { number: 0, over: false }
    }

    /// The nonce of the next chunk, of `len` bytes of plain text.
    fn next(&mut self, len: usize, last: bool) -> Result<Nonce, ContentError> {
        if self.over {
            return Err(ContentError::AfterLast);
        }
        let fits = if last { len <= CHUNK && (len > 0 || self.number == 0) } else { len == CHUNK };
        if !fits {
            return Err(ContentError::Length(len));
        }
        if self.number * CHUNK as u64 + len as u64 > MAX_SIZE {
            return Err(ContentError::TooLong);
        }
        let mut nonce = [0; 12];
        nonce[3..11].copy_from_slice(&self.number.to_be_bytes());
        nonce[11] = u8::from(last);
        self.number += 1;
        self.over = last;
        Ok(Nonce::from(nonce))
    }
}

/// Seals one content, chunk by chunk.
pub struct Sealer {
    cipher: ChaCha20Poly1305,
    place: Place,
}

impl Sealer {
    /// Begins. The key must be fresh: see [`ContentKey::generate`].
    #[must_use]
    pub fn new(key: &ContentKey) -> Self {
        Self { cipher: key.cipher(), place: Place::start() }
    }

    /// Seals the next chunk in place, which grows it by [`TAG`] bytes. All but the last have
    /// [`CHUNK`] bytes.
    ///
    /// # Errors
    /// [`ContentError::Length`], [`ContentError::AfterLast`], [`ContentError::TooLong`]: the
    /// chunk is as it was.
    ///
    /// # Panics
    /// Never: the cipher fails only beyond 256 GiB.
    pub fn seal(&mut self, chunk: &mut Vec<u8>, last: bool) -> Result<(), ContentError> {
        let nonce = self.place.next(chunk.len(), last)?;
        self.cipher.encrypt_in_place(&nonce, &[], chunk).expect("a chunk is short");
        Ok(())
    }
}

/// Opens one content, chunk by chunk. What came out before an error is genuine, but not the
/// whole: throw it away.
pub struct Opener {
    cipher: ChaCha20Poly1305,
    place: Place,
}

impl Opener {
    /// Begins.
    #[must_use]
    pub fn new(key: &ContentKey) -> Self {
        Self { cipher: key.cipher(), place: Place::start() }
    }

    /// Opens the next chunk in place. `last` says that nothing follows it.
    ///
    /// # Errors
    /// See [`ContentError`].
    pub fn open(&mut self, chunk: &mut Vec<u8>, last: bool) -> Result<(), ContentError> {
        let len = chunk.len().checked_sub(TAG).ok_or(ContentError::Length(chunk.len()))?;
        let nonce = self.place.next(len, last)?;
        self.cipher.decrypt_in_place(&nonce, &[], chunk).map_err(|_| ContentError::Refused)
    }
}

/// Seals what is in memory.
///
/// # Errors
/// [`ContentError::TooLong`].
pub fn seal(key: &ContentKey, plain: &[u8]) -> Result<Vec<u8>, ContentError> {
    let size = sealed_size(plain.len() as u64).ok_or(ContentError::TooLong)?;
    let mut sealer = Sealer::new(key);
    pieces(plain, CHUNK, size, |chunk, last| sealer.seal(chunk, last))
}

/// Opens what [`seal`] or a [`Sealer`] made, in memory.
///
/// # Errors
/// See [`ContentError`].
pub fn open(key: &ContentKey, sealed: &[u8]) -> Result<Vec<u8>, ContentError> {
    let size = plain_size(sealed.len() as u64).ok_or(ContentError::Refused)?;
    let mut opener = Opener::new(key);
    pieces(sealed, SEALED_CHUNK, size, |chunk, last| opener.open(chunk, last))
}

fn pieces(
    bytes: &[u8],
    len: usize,
    size: u64,
    mut turn: impl FnMut(&mut Vec<u8>, bool) -> Result<(), ContentError>,
) -> Result<Vec<u8>, ContentError> {
    let mut out = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    let mut rest = bytes;
    loop {
        let (piece, after) = rest.split_at(rest.len().min(len));
        let mut chunk = Vec::with_capacity(piece.len() + TAG);
        chunk.extend_from_slice(piece);
        turn(&mut chunk, after.is_empty())?;
        out.append(&mut chunk);
        if after.is_empty() {
            return Ok(out);
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(n: u8) -> ContentKey {
        ContentKey::from_bytes([n; 32])
    }

    fn plain(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i % 251) as u8).collect()
    }

    /// Lengths around the ends of chunks, which is where mistakes live.
    fn length() -> impl Strategy<Value = usize> {
        prop_oneof![
            0..64_usize,
            (1..4_usize, -2..3_isize).prop_map(|(n, d)| (n * CHUNK).saturating_add_signed(d)),
            0..4 * CHUNK,
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn content_opens_whole_under_its_key_only(len in length(), n: u8) {
            let text = plain(len);
            let sealed = seal(&key(n), &text).unwrap();
            prop_assert_eq!(sealed_size(len as u64), Some(sealed.len() as u64));
            prop_assert_eq!(plain_size(sealed.len() as u64), Some(len as u64));
            prop_assert_eq!(open(&key(n), &sealed).unwrap(), text);
            prop_assert!(open(&key(n ^ 1), &sealed).is_err());
        }

        #[test]
        fn changed_content_does_not_open(
            len in length(), at: prop::sample::Index, bit in 0..8_u8, cut: prop::sample::Index,
            more in prop::collection::vec(any::<u8>(), 1..40),
        ) {
            let sealed = seal(&key(1), &plain(len)).unwrap();
            let mut flipped = sealed.clone();
            flipped[at.index(sealed.len())] ^= 1 << bit;
            prop_assert!(open(&key(1), &flipped).is_err());
            prop_assert!(open(&key(1), &sealed[..cut.index(sealed.len())]).is_err());
            let mut longer = sealed.clone();
            longer.extend_from_slice(&more);
            prop_assert!(open(&key(1), &longer).is_err());
        }

        /// Chunks dropped, swapped, repeated, or taken from another content: none opens,
        /// unless the row is as it was.
        #[test]
        fn only_the_row_as_sealed_opens(
            last in 1..=CHUNK, order in prop::collection::vec((0..4_usize, any::<bool>()), 1..6),
        ) {
            let text = plain(3 * CHUNK + last);
            let own = seal(&key(1), &text).unwrap();
            let other = seal(&key(2), &text).unwrap();
            let pick = |(i, mine): &(usize, bool)| {
                if *mine { own.chunks(SEALED_CHUNK) } else { other.chunks(SEALED_CHUNK) }
                    .nth(*i).unwrap().to_vec()
            };
            let row: Vec<u8> = order.iter().flat_map(pick).collect();
            prop_assert_eq!(open(&key(1), &row).is_ok(), row == own);
        }

        #[test]
        fn garbage_does_not_open(bytes in prop::collection::vec(any::<u8>(), 0..600), big: bool) {
            let mut bytes = bytes;
            if big {
                bytes.resize(bytes.len() + SEALED_CHUNK, 7);
            }
            prop_assert!(open(&key(1), &bytes).is_err());
        }

        #[test]
        fn sizes_are_a_bijection(size in 0..=MAX_SIZE, sealed: u64) {
            prop_assert_eq!(plain_size(sealed_size(size).unwrap()), Some(size));
            if let Some(size) = plain_size(sealed) {
                prop_assert_eq!(sealed_size(size), Some(sealed));
            }
            if let Some(size) = plain_size(sealed % (1 << 21)) {
                prop_assert_eq!(sealed_size(size), Some(sealed % (1 << 21)));
            }
        }
    }

    #[test]
    fn chunks_have_one_length_and_one_end() {
        let mut sealer = Sealer::new(&key(1));
        assert_eq!(sealer.seal(&mut plain(CHUNK - 1), false), Err(ContentError::Length(CHUNK - 1)));
        assert_eq!(sealer.seal(&mut plain(CHUNK + 1), true), Err(ContentError::Length(CHUNK + 1)));
        sealer.seal(&mut plain(CHUNK), false).unwrap();
        assert_eq!(sealer.seal(&mut Vec::new(), true), Err(ContentError::Length(0)));
        sealer.seal(&mut plain(1), true).unwrap();
        assert_eq!(sealer.seal(&mut plain(1), true), Err(ContentError::AfterLast));

        let mut opener = Opener::new(&key(1));
        assert_eq!(opener.open(&mut plain(TAG - 1), true), Err(ContentError::Length(TAG - 1)));
        assert_eq!(sealed_size(MAX_SIZE + 1), None);
        assert_eq!(plain_size(0), None);
        assert_eq!(plain_size(TAG as u64), Some(0));
        assert_eq!(plain_size((SEALED_CHUNK + TAG) as u64), None, "no empty chunk at the end");
        let mut sealer = Sealer::new(&key(1));
        sealer.place.number = MAX_SIZE / CHUNK as u64;
        assert_eq!(sealer.seal(&mut plain(1), true), Err(ContentError::TooLong));
    }
}
