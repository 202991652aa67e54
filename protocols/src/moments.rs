//! Words on a post: likes, comments and replies that only mutual friends can read, and that
//! nobody needs to work out who those are.
//!
//! Whoever comments writes into its own Moments topic, so that all its friends, and nobody
//! else, get the envelope. Inside, the word is sealed once more, under a key that takes the
//! post's own random key and a secret of the circle that the post was shown to: only who is in
//! both circles has both. A reply takes a secret of the commenter's circle as well. Which epoch
//! of a circle was taken shows in a hint that only its members can recognise.
//!
//! The post is named by a reference derived from its key; the sealed words are padded, so that
//! neither a like nor a comment shows by its length; the plaintext names post, parent and
//! author, and the seal binds the envelope that carries it: a word can't be moved to another
//! post, nor be passed off as somebody else's.

use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::codec::{self, DecodeError, Text, Wire};
use crate::epoch::EpochSecret;
use crate::ids::{AccountId, DeviceId, TopicId};
use crate::seal::{self, AEAD_OVERHEAD, OpenError};

/// Most bytes of a comment.
pub const MAX_COMMENT: usize = 1_024;
/// Sealed words are padded to a multiple of this many bytes.
pub const PADDING: usize = 256;
/// Most circles of one word: the post's, and that of whoever is answered.
pub const MAX_CIRCLES: usize = 2;
/// Most bytes of a sealed word.
pub const MAX_SEALED: usize = (Word::MAX_BYTES + 2).div_ceil(PADDING) * PADDING + AEAD_OVERHEAD;

/// Names a post to whoever can read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PostRef(pub [u8; 32]);

/// The reference of the post with this key.
#[must_use]
pub fn post_ref(post_key: &[u8; 32]) -> PostRef {
    PostRef(blake3::derive_key("teahouse/v1/moments post reference", post_key))
}

/// Where something stands: in which topic, by which device, in which of its envelopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The topic.
    pub topic: TopicId,
    /// The device.
    pub device: DeviceId,
    /// The number of the envelope.
    pub seq: u64,
}

impl Place {
    fn context<'a>(&'a self, on: &'a PostRef, seq: &'a [u8; 8]) -> [&'a [u8]; 4] {
        [&on.0, &self.topic.0, &self.device.0, seq]
    }
}

/// What somebody says about a post.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Said {
    /// Likes it, or no longer does; the highest Lamport number of an account counts.
    Like {
        /// Yes or no.
        on: bool,
        /// Lamport number.
        lamport: u64,
    },
    /// A comment, or a reply to one.
    Comment {
        /// 1 to [`MAX_COMMENT`] bytes.
        text: Text<MAX_COMMENT>,
    },
}

/// A word, as its author sealed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    /// Always 1.
    pub version: u8,
    /// The post.
    pub post: Place,
    /// The comment that it answers.
    pub parent: Option<Place>,
    /// Who says it.
    pub by: AccountId,
    /// What.
    pub said: Said,
}

impl Wire for Word {
    const NAME: &'static str = "word on a post";
    const MAX_BYTES: usize = 1 + 74 + 75 + 32 + 1 + 2 + MAX_COMMENT;
    fn check(&self) -> Result<(), DecodeError> {
        if self.version != 1 {
            return Err(DecodeError::UnknownVersion { name: Self::NAME, version: self.version });
        }
        match &self.said {
            Said::Comment { text } if text.is_empty() => {
                Err(DecodeError::malformed(Self::NAME, "an empty comment"))
            }
            Said::Like { .. } if self.parent.is_some() => {
                Err(DecodeError::malformed(Self::NAME, "a like of a comment"))
            }
            _ => Ok(()),
        }
    }
}

/// By what a circle's member recognises which of the circle's epochs a word was sealed under.
pub type Hint = [u8; 8];

/// The hint of an epoch on a post.
#[must_use]
pub fn hint(on: &PostRef, circle: &EpochSecret) -> Hint {
    let mut h = blake3::Hasher::new_derive_key("teahouse/v1/moments circle hint");
    h.update(&*circle.circle_key());
    h.update(&on.0);
    let mut hint = [0; 8];
    hint.copy_from_slice(&h.finalize().as_bytes()[..8]);
    hint
}

fn key(post_key: &[u8; 32], circles: &[&EpochSecret]) -> Zeroizing<[u8; 32]> {
    let mut h = blake3::Hasher::new_derive_key("teahouse/v1/moments word");
    h.update(post_key);
    h.update(&(circles.len() as u64).to_le_bytes());
    for circle in circles {
        h.update(&*circle.circle_key());
    }
    Zeroizing::new(*h.finalize().as_bytes())
}

/// Seals a word that will stand at `at`, for whoever has the post's key and is in each of the
/// `circles`.
#[must_use]
pub fn seal_word(
    word: &Word,
    at: &Place,
    post_key: &[u8; 32],
    circles: &[&EpochSecret],
    rng: &mut impl CryptoRng,
) -> Vec<u8> {
    let encoded = Zeroizing::new(codec::encode(word));
    let mut plain = Zeroizing::new(Vec::with_capacity(encoded.len() + 2 + PADDING));
    plain.extend_from_slice(&(encoded.len() as u16).to_le_bytes());
    plain.extend_from_slice(&encoded);
    let padded = plain.len().next_multiple_of(PADDING);
    plain.resize(padded, 0);
    let on = post_ref(post_key);
    let seq = at.seq.to_le_bytes();
    seal::aead_seal(&key(post_key, circles), &at.context(&on, &seq), &plain, rng)
}

/// Opens a word that stands at `at` in an envelope of the account `by`.
///
/// # Errors
/// [`OpenError`] where a key is missing, the word was moved here, or it is not by `by` or not
/// on `post`.
pub fn open_word(
    sealed: &[u8],
    at: &Place,
    by: AccountId,
    post: &Place,
    post_key: &[u8; 32],
    circles: &[&EpochSecret],
) -> Result<Word, OpenError> {
    let on = post_ref(post_key);
    let seq = at.seq.to_le_bytes();
    let plain = seal::aead_open(&key(post_key, circles), &at.context(&on, &seq), sealed)?;
    let plain = Zeroizing::new(plain);
    let (len, rest) = plain.split_first_chunk::<2>().ok_or(OpenError)?;
    let len = usize::from(u16::from_le_bytes(*len));
    let (encoded, padding) = rest.split_at_checked(len).ok_or(OpenError)?;
    if padding.iter().any(|b| *b != 0) || !plain.len().is_multiple_of(PADDING) {
        return Err(OpenError);
    }
    let word: Word = codec::decode(encoded).map_err(|_| OpenError)?;
    if word.by == by && word.post == *post { Ok(word) } else { Err(OpenError) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    fn place(n: u8) -> Place {
        Place { topic: TopicId([n; 32]), device: DeviceId([n + 1; 32]), seq: u64::from(n) }
    }

    fn comment(text: &str) -> Word {
        Word {
            version: 1,
            post: place(1),
            parent: None,
            by: AccountId([7; 32]),
            said: Said::Comment { text: text.try_into().unwrap() },
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_word_opens_where_it_stands_with_all_keys_and_nowhere_else(
            seed: u64, text in "\\PC{1,200}", bit in 0..4096usize,
        ) {
            let rng = &mut ChaCha20Rng::seed_from_u64(seed);
            let (post_key, other_key) = ([3; 32], [4; 32]);
            let (circle, second) = (EpochSecret::generate(rng), EpochSecret::generate(rng));
            let word = comment(&text);
            let (at, by, post) = (place(5), word.by, word.post);
            let sealed = seal_word(&word, &at, &post_key, &[&circle], rng);
            let open = |sealed: &[u8], at, by, post, key: &[u8; 32], circles: &[&EpochSecret]| {
                open_word(sealed, &at, by, &post, key, circles)
            };
            prop_assert_eq!(open(&sealed, at, by, post, &post_key, &[&circle]).unwrap(), word);
            // Without the post's key, or the circle, or with one circle more.
            prop_assert!(open(&sealed, at, by, post, &other_key, &[&circle]).is_err());
            prop_assert!(open(&sealed, at, by, post, &post_key, &[&second]).is_err());
            prop_assert!(open(&sealed, at, by, post, &post_key, &[&circle, &second]).is_err());
            prop_assert!(open(&sealed, at, by, post, &post_key, &[]).is_err());
            // Moved to another envelope, or told of another post or author.
            prop_assert!(open(&sealed, place(6), by, post, &post_key, &[&circle]).is_err());
            prop_assert!(open(&sealed, at, by, place(2), &post_key, &[&circle]).is_err());
            let somebody = AccountId([8; 32]);
            prop_assert!(open(&sealed, at, somebody, post, &post_key, &[&circle]).is_err());
            let mut bad = sealed.clone();
            let i = bit / 8 % bad.len();
            bad[i] ^= 1 << (bit % 8);
            prop_assert!(open(&bad, at, by, post, &post_key, &[&circle]).is_err());
            prop_assert!(sealed.len() <= MAX_SEALED);
        }

        #[test]
        fn garbage_opens_nothing(bytes: Vec<u8>) {
            let circle = EpochSecret::from_bytes([1; 32]);
            let at = place(1);
            prop_assert!(
                open_word(&bytes, &at, AccountId([1; 32]), &at, &[2; 32], &[&circle]).is_err()
            );
        }
    }

    #[test]
    fn a_like_and_a_short_comment_look_alike() {
        let rng = &mut ChaCha20Rng::seed_from_u64(1);
        let circle = EpochSecret::generate(rng);
        let short = comment("so it is");
        let like = Word { said: Said::Like { on: true, lamport: 1 }, ..short.clone() };
        let lengths =
            [&short, &like].map(|w| seal_word(w, &place(5), &[3; 32], &[&circle], rng).len());
        assert_eq!(lengths[0], lengths[1]);
        assert_ne!(hint(&PostRef([1; 32]), &circle), hint(&PostRef([2; 32]), &circle));
    }
}
