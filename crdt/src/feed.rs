//! What a publisher's device writes into a public feed.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::chat::MessageRef;
use crate::text;
use crate::typed::{EntryError, TypedEntry, check_len};

/// Longest name of a feed, in bytes.
pub const MAX_NAME_BYTES: usize = 64;
/// Longest description of a feed, in bytes.
pub const MAX_ABOUT_BYTES: usize = 1024;

/// What a publisher's device writes into a feed. Grows at its end only.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum FeedEntry {
    /// An article. At most one per envelope, whose number names it.
    Article {
        /// Hash of the sealed body with title and text.
        body: [u8; 32],
    },
    /// Takes an article back.
    Delete {
        /// Which.
        target: MessageRef,
    },
    /// What the feed is.
    About {
        /// 1 to [`MAX_NAME_BYTES`] bytes.
        name: String,
        /// At most [`MAX_ABOUT_BYTES`] bytes.
        about: String,
        /// Whether its publisher also answers: a service account, else a subscription.
        service: bool,
        /// Lamport number.
        lamport: u64,
    },
}

impl fmt::Debug for FeedEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Article { .. } => "Article",
            Self::Delete { .. } => "Delete",
            Self::About { .. } => "About",
        })
    }
}

impl TypedEntry for FeedEntry {
    const VARIANTS: u8 = 3;

    fn check(&self) -> Result<(), EntryError> {
        match self {
            Self::About { name, about, .. } => {
                if name.trim().is_empty() {
                    return Err(EntryError::Malformed("no name"));
                }
                check_len(name.len(), MAX_NAME_BYTES, "name too long")?;
                check_len(about.len(), MAX_ABOUT_BYTES, "description too long")
            }
            Self::Article { .. } | Self::Delete { .. } => Ok(()),
        }
    }

    fn key(&self, seq: u64) -> String {
        let mut key = String::new();
        match self {
            Self::Article { .. } => {
                key.push_str("a/");
                text::encode_number(seq, &mut key);
            }
            Self::Delete { target } => {
                key.push_str("x/");
                text::encode_bytes(&target.device, &mut key);
                key.push('/');
                text::encode_number(target.seq, &mut key);
            }
            Self::About { .. } => key.push_str("about"),
        }
        key
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry() -> impl Strategy<Value = FeedEntry> {
        prop_oneof![
            any::<[u8; 32]>().prop_map(|body| FeedEntry::Article { body }),
            any::<([u8; 32], u64)>()
                .prop_map(|(device, seq)| FeedEntry::Delete { target: MessageRef { device, seq } }),
            ("[a-z]{1,20}", ".{0,40}", any::<bool>(), any::<u64>()).prop_map(
                |(name, about, service, lamport)| FeedEntry::About {
                    name,
                    about,
                    service,
                    lamport
                }
            ),
        ]
    }

    proptest! {
        #[test]
        fn entries_come_back(entry in entry(), seq in 0u64..1000) {
            let wire = entry.to_entry(seq).unwrap();
            prop_assert_eq!(FeedEntry::from_entry(seq, &wire).unwrap(), entry);
        }

        #[test]
        fn one_spelling(entry in entry(), at: prop::sample::Index, to: u8) {
            let mut wire = entry.to_entry(7).unwrap();
            let at = at.index(wire.value.len());
            wire.value[at] = to;
            if let Ok(read) = FeedEntry::from_entry(7, &wire) {
                prop_assert_eq!(read.to_entry(7).unwrap(), wire);
            }
        }
    }

    #[test]
    fn bounds() {
        let about = |name: usize, about: usize| FeedEntry::About {
            name: "x".repeat(name),
            about: "x".repeat(about),
            service: false,
            lamport: 1,
        };
        assert!(about(MAX_NAME_BYTES, MAX_ABOUT_BYTES).to_entry(1).is_ok());
        for bad in [about(0, 0), about(MAX_NAME_BYTES + 1, 0), about(1, MAX_ABOUT_BYTES + 1)] {
            assert!(matches!(bad.to_entry(1), Err(EntryError::Malformed(_))), "{bad:?}");
        }
    }
}
