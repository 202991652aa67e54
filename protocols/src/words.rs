//! The 24 recovery words: the account's root key in a form that fits on paper.
//!
//! The words are BIP-39, English: 256 bits of entropy and 8 bits of checksum
//! (<https://github.com/bitcoin/bips/blob/master/bip-0039.mediawiki>). From them comes the
//! BIP-39 seed (PBKDF2-HMAC-SHA512, 2,048 rounds, empty passphrase), and from the seed, by
//! BLAKE3 in key-derivation mode, three keys that can't be computed from one another:
//!
//! | key | context |
//! |---|---|
//! | root key, ed25519 | `teahouse/v1/root key` |
//! | key of the recovery mailbox tag, ed25519 | `teahouse/v1/recovery tag key` |
//! | key that seals the recovery capsule, 32 bytes | `teahouse/v1/recovery key` |

use std::borrow::Cow;
use std::fmt;

use bip39::{Language, Mnemonic};
use ed25519_dalek::SigningKey;
use zeroize::{Zeroize, Zeroizing};

/// How many words there are.
pub const WORD_COUNT: usize = 24;

/// Longest text that [`RecoveryWords::parse`] looks at, in bytes: 24 words of 8 full-width
/// letters take 650.
pub const MAX_TEXT: usize = 1024;

/// The recovery words. Whoever has them is the account; they are wiped when dropped.
///
/// [`Display`](fmt::Display) writes the words, for the recovery sheet. `Debug` never does.
pub struct RecoveryWords {
    words: Mnemonic,
    seed: Zeroizing<[u8; 64]>,
}

/// Why a text is not 24 recovery words. It never repeats what was typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WordsError {
    /// Not the right number of words.
    #[error("there are {found} words, not 24")]
    Count {
        /// Words found.
        found: usize,
    },
    /// A word that is not in the list.
    #[error("word {position} is not in the list")]
    Unknown {
        /// Which one, counted from 1.
        position: usize,
    },
    /// Every word is in the list, but together they are not what was written down.
    #[error("the words don't fit together: one is wrong or two are swapped")]
    Checksum,
    /// Longer than [`MAX_TEXT`].
    #[error("the text is too long to be 24 words")]
    TooLong,
}

impl RecoveryWords {
    /// The words for 256 random bits.
    #[must_use]
    pub fn from_entropy(mut entropy: [u8; 32]) -> Self {
        let words =
            Mnemonic::from_entropy_in(Language::English, &entropy).expect("32 bytes are 24 words");
        entropy.zeroize();
        Self::from_mnemonic(words)
    }

    /// Reads words as people type them: any white space, any case, full-width letters.
    pub fn parse(text: &str) -> Result<Self, WordsError> {
        let text = text.trim();
        if text.len() > MAX_TEXT {
            return Err(WordsError::TooLong);
        }
        let mut normal = Cow::Borrowed(text);
        Mnemonic::normalize_utf8_cow(&mut normal);
        let lower = Zeroizing::new(normal.to_lowercase());
        if let Cow::Owned(mut copy) = normal {
            copy.zeroize();
        }
        let found = lower.split_whitespace().count();
        if found != WORD_COUNT {
            return Err(WordsError::Count { found });
        }
        match Mnemonic::parse_in_normalized(Language::English, &lower) {
            Ok(words) => Ok(Self::from_mnemonic(words)),
            Err(bip39::Error::UnknownWord(at)) => Err(WordsError::Unknown { position: at + 1 }),
            Err(_) => Err(WordsError::Checksum),
        }
    }

    /// The 256 bits that the words spell.
    #[must_use]
    pub fn entropy(&self) -> Zeroizing<[u8; 32]> {
        let (mut all, _) = self.words.to_entropy_array();
        let mut entropy = Zeroizing::new([0; 32]);
        entropy.copy_from_slice(&all[..32]);
        all.zeroize();
        entropy
    }

    /// The account's root key.
    #[must_use]
    pub fn root_key(&self) -> SigningKey {
        SigningKey::from_bytes(&self.derive("teahouse/v1/root key"))
    }

    /// The key of the mailbox tag under which relays keep the recovery capsule.
    #[must_use]
    pub fn recovery_tag_key(&self) -> SigningKey {
        SigningKey::from_bytes(&self.derive("teahouse/v1/recovery tag key"))
    }

    /// The key that seals the recovery capsule.
    #[must_use]
    pub fn recovery_key(&self) -> Zeroizing<[u8; 32]> {
        self.derive("teahouse/v1/recovery key")
    }

    fn from_mnemonic(words: Mnemonic) -> Self {
        let seed = Zeroizing::new(words.to_seed_normalized(""));
        Self { words, seed }
    }

    fn derive(&self, context: &str) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(blake3::derive_key(context, &self.seed[..]))
    }
}

impl fmt::Display for RecoveryWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.words.fmt(f)
    }
}

impl fmt::Debug for RecoveryWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecoveryWords(..)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{RecoveryWords, WordsError};

    const ZERO: &str = "abandon abandon abandon abandon abandon abandon abandon abandon \
        abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon \
        abandon abandon abandon abandon abandon art";

    #[test]
    fn the_published_vector() {
        // First 256-bit vector of BIP-39; its published seed is with the passphrase TREZOR,
        // this one without.
        let words = RecoveryWords::from_entropy([0; 32]);
        assert_eq!(words.to_string(), ZERO);
        assert_eq!(
            data_encoding::HEXLOWER.encode(&words.seed[..]),
            "408b285c123836004f4b8842c89324c1f01382450c0d439af345ba7fc49acf70\
             5489c6fc77dbd4e3dc1dd8cc6bc9f043db8ada1e243c4a0eafb290d399480840"
        );
    }

    #[test]
    fn forgives_spelling_but_not_words() {
        let typed = format!("\n {} \t", ZERO.replace(' ', "\u{3000} ").to_uppercase());
        let wide = ZERO.replace("art", "ａｒｔ");
        for text in [typed, wide] {
            assert_eq!(*RecoveryWords::parse(&text).unwrap().entropy(), [0; 32]);
        }
        let mut words: Vec<&str> = ZERO.split(' ').collect();
        words[6] = "teahouse";
        assert_eq!(
            RecoveryWords::parse(&words.join(" ")).unwrap_err(),
            WordsError::Unknown { position: 7 }
        );
        words[6] = "ability";
        assert_eq!(RecoveryWords::parse(&words.join(" ")).unwrap_err(), WordsError::Checksum);
        assert_eq!(
            RecoveryWords::parse(&words[..12].join(" ")).unwrap_err(),
            WordsError::Count { found: 12 }
        );
        assert_eq!(RecoveryWords::parse(&"a ".repeat(600)).unwrap_err(), WordsError::TooLong);
        assert_eq!(RecoveryWords::parse("").unwrap_err(), WordsError::Count { found: 0 });
    }

    #[test]
    fn the_keys_differ_and_are_fixed() {
        let words = RecoveryWords::from_entropy([7; 32]);
        let keys = [
            words.root_key().to_bytes(),
            words.recovery_tag_key().to_bytes(),
            *words.recovery_key(),
        ];
        assert!(keys[0] != keys[1] && keys[1] != keys[2] && keys[0] != keys[2]);
        // A second derivation, written out: the contexts are part of the format.
        let again = blake3::derive_key("teahouse/v1/root key", &words.seed[..]);
        assert_eq!(keys[0], again);
        assert_eq!(format!("{words:?}"), "RecoveryWords(..)");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn words_and_entropy_are_one(entropy: [u8; 32]) {
            let words = RecoveryWords::from_entropy(entropy);
            let read = RecoveryWords::parse(&words.to_string()).unwrap();
            prop_assert_eq!(*read.entropy(), entropy);
            prop_assert_eq!(read.root_key().to_bytes(), words.root_key().to_bytes());
        }
    }
}
