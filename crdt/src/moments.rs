//! What a device writes into its account's Moments topics: posts, and words on others' posts.
//!
//! A post's text and photos are bodies, detachable; its key is here. A word is sealed so that
//! only mutual friends can open it; to this crate it is bytes.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::chat::MessageRef;
use crate::text;
use crate::typed::{EntryError, TypedEntry, check_len};

/// Most hints of a word.
pub const MAX_HINTS: usize = 2;
/// Longest sealed word, in bytes.
pub const MAX_WORD_BYTES: usize = 2 * 1024;

/// What a device writes into a Moments topic. Grows at its end only.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum MomentsEntry {
    /// A post. At most one per envelope, whose number names it.
    Post {
        /// Hash of the sealed body with the text.
        body: [u8; 32],
        /// Random; words on the post are sealed under it, among others.
        key: [u8; 32],
    },
    /// A word on somebody's post. At most one per envelope.
    Word {
        /// The post's reference.
        on: [u8; 32],
        /// By what each circle's members recognise the epoch: 1 to [`MAX_HINTS`].
        hints: Vec<[u8; 8]>,
        /// 1 to [`MAX_WORD_BYTES`].
        sealed: Vec<u8>,
    },
    /// Takes back a post or a word of one's own account.
    Delete {
        /// What.
        target: MessageRef,
    },
    /// The epoch under which this envelope is sealed is the one to seal words on the topic's
    /// posts under: all who may read have it, and nobody who may no more. The highest number
    /// counts.
    Circle {
        /// Lamport number.
        lamport: u64,
    },
}

// Content never reaches a log by accident: kinds only.
impl fmt::Debug for MomentsEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Post { .. } => "Post",
            Self::Word { .. } => "Word",
            Self::Delete { .. } => "Delete",
            Self::Circle { .. } => "Circle",
        })
    }
}

impl TypedEntry for MomentsEntry {
    const VARIANTS: u8 = 4;

    fn check(&self) -> Result<(), EntryError> {
        match self {
            Self::Word { hints, sealed, .. } => {
                if hints.is_empty() || sealed.is_empty() {
                    return Err(EntryError::Malformed("an empty word"));
                }
                check_len(hints.len(), MAX_HINTS, "too many hints")?;
                check_len(sealed.len(), MAX_WORD_BYTES, "word too long")
            }
            Self::Post { .. } | Self::Delete { .. } | Self::Circle { .. } => Ok(()),
        }
    }

    fn key(&self, seq: u64) -> String {
        let mut key = String::new();
        match self {
            Self::Post { .. } => {
                key.push_str("p/");
                text::encode_number(seq, &mut key);
            }
            Self::Word { .. } => {
                key.push_str("w/");
                text::encode_number(seq, &mut key);
            }
            Self::Delete { target } => {
                key.push_str("x/");
                text::encode_bytes(&target.device, &mut key);
                key.push('/');
                text::encode_number(target.seq, &mut key);
            }
            Self::Circle { .. } => key.push('c'),
        }
        key
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry() -> impl Strategy<Value = MomentsEntry> {
        let hints = proptest::collection::vec(any::<[u8; 8]>(), 1..=MAX_HINTS);
        let sealed = proptest::collection::vec(any::<u8>(), 1..40);
        prop_oneof![
            any::<([u8; 32], [u8; 32])>().prop_map(|(body, key)| MomentsEntry::Post { body, key }),
            (any::<[u8; 32]>(), hints, sealed).prop_map(|(on, hints, sealed)| MomentsEntry::Word {
                on,
                hints,
                sealed
            }),
            any::<([u8; 32], u64)>().prop_map(|(device, seq)| MomentsEntry::Delete {
                target: MessageRef { device, seq }
            }),
            any::<u64>().prop_map(|lamport| MomentsEntry::Circle { lamport }),
        ]
    }

    proptest! {
        #[test]
        fn entries_come_back(entry in entry(), seq in 0u64..1000) {
            let wire = entry.to_entry(seq).unwrap();
            prop_assert_eq!(MomentsEntry::from_entry(seq, &wire).unwrap(), entry);
        }

        #[test]
        fn one_spelling(entry in entry(), at: prop::sample::Index, to: u8) {
            let mut wire = entry.to_entry(7).unwrap();
            let at = at.index(wire.value.len());
            wire.value[at] = to;
            if let Ok(read) = MomentsEntry::from_entry(7, &wire) {
                prop_assert_eq!(read.to_entry(7).unwrap(), wire);
            }
        }
    }

    #[test]
    fn bounds() {
        let word = |hints, bytes| MomentsEntry::Word {
            on: [1; 32],
            hints: vec![[0; 8]; hints],
            sealed: vec![0; bytes],
        };
        assert!(word(1, 1).to_entry(1).is_ok());
        assert!(word(MAX_HINTS, MAX_WORD_BYTES).to_entry(1).is_ok());
        for bad in [word(0, 1), word(1, 0), word(MAX_HINTS + 1, 1), word(1, MAX_WORD_BYTES + 1)] {
            assert!(matches!(bad.to_entry(1), Err(EntryError::Malformed(_))), "{bad:?}");
        }
    }
}
