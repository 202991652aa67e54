//! One device's chain of changes in one segment: its names, its bounds, and its only encoding.
//!
//! Everything about a change but its entries follows from its place in the chain:
//!
//! | field | value |
//! |---|---|
//! | actor | the device's actor for this segment |
//! | seq | the change's number in the chain, from 1 |
//! | deps | one hash: the previous change of this chain, or the genesis |
//! | start op | `2 + (seq − 1) × 64`: room for the most entries a change may have |
//! | time, message, extra bytes | 0, none, none |
//! | ops | puts of bytes into the root map, strictly ascending by key, without predecessors |
//!
//! Puts name no predecessors, and op numbers leave gaps, so that a change's bytes depend on
//! nothing but the table above: a validator needs no state, and an author needs only its chain's
//! [`Tip`]. Automerge resolves several values of one key to the one with the highest op number.
//! A key has one writer, whose op numbers rise with its chain: the newest value is what is read.

mod inspect;
mod own;

use std::num::NonZeroU64;

use automerge::legacy::{Key, ObjectId, Op, OpType};
use automerge::{ActorId, Change, ChangeHash, ExpandedChange, ScalarValue};
use serde::{Deserialize, Serialize};

use crate::text;

pub use inspect::{Inspected, InvalidChange, inspect};
pub use own::{AppendError, OwnChain, ResumeError};

/// Most entries in one change.
pub const MAX_ENTRIES: usize = 64;
/// Longest key of an entry, in bytes, without the actor's prefix.
pub const MAX_KEY_BYTES: usize = 96;
/// Longest value of an entry, in bytes.
pub const MAX_VALUE_BYTES: usize = 64 * 1024;
/// Longest change, in bytes as encoded.
pub const MAX_CHANGE_BYTES: usize = 256 * 1024;
/// Most changes of one device in one segment. An honest device goes on to the next segment
/// long before, at [`SEGMENT_CHANGES`].
pub const MAX_CHAIN: u64 = 8 * SEGMENT_CHANGES;
/// About how many changes, of all devices, make a segment full.
pub const SEGMENT_CHANGES: u64 = 2_000;
/// About how many bytes of changes, of all devices, make a segment full.
pub const SEGMENT_BYTES: u64 = 1024 * 1024;

/// The genesis's actor. Its length keeps it apart from every device's actor.
const GENESIS_ACTOR: &[u8] = b"genesis";
/// The genesis's one key. Its length keeps it apart from every prefixed key.
const GENESIS_KEY: &str = "teahouse";
/// Characters of an actor in a key's prefix, before the slash.
const PREFIX_CHARS: usize = 22;

/// Which segment of which topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SegmentRef {
    /// The topic.
    pub topic: [u8; 32],
    /// The segment's number in the topic, from 0.
    pub number: u32,
}

impl SegmentRef {
    /// The hash of the segment's genesis: what the first change of every chain depends on.
    #[must_use]
    pub fn genesis_hash(&self) -> [u8; 32] {
        self.genesis().hash().0
    }

    /// The bytes of the segment's genesis, the same on every device.
    #[must_use]
    pub fn genesis_bytes(&self) -> Vec<u8> {
        self.genesis().raw_bytes().to_vec()
    }

    pub(crate) fn genesis(&self) -> Change {
        let mut name = self.topic.to_vec();
        name.extend_from_slice(&self.number.to_be_bytes());
        encode(Header {
            actor: ActorId::from(GENESIS_ACTOR),
            seq: 1,
            start_op: 1,
            deps: Vec::new(),
            ops: vec![put(GENESIS_KEY, name)],
        })
    }
}

/// A device's actor in one segment. The caller derives a fresh one per device, topic and
/// segment: a reused actor would fork its chain for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Actor(pub [u8; 16]);

impl Actor {
    /// What every key of this actor begins with: 22 characters and a slash. Prefixes sort as
    /// actors do.
    #[must_use]
    pub fn prefix(&self) -> String {
        let mut s = String::with_capacity(PREFIX_CHARS + 1 + MAX_KEY_BYTES);
        text::encode_bytes(&self.0, &mut s);
        s.push('/');
        s
    }

    /// Splits a key of the root map into its writer and the rest.
    pub(crate) fn split_key(key: &str) -> Option<(Self, &str)> {
        let (actor, rest) = key.split_at_checked(PREFIX_CHARS)?;
        Some((Self(text::decode_bytes(actor)?), rest.strip_prefix('/')?))
    }
}

/// One key and its value, as its device sees it: without the prefix.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    /// 1 to [`MAX_KEY_BYTES`] bytes.
    pub key: String,
    /// At most [`MAX_VALUE_BYTES`] bytes.
    pub value: Vec<u8>,
}

// Values are content: they never reach a log by accident.
impl core::fmt::Debug for Entry {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Entry({} bytes)", self.value.len())
    }
}

/// What is wrong with a change's entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEntries {
    /// A change without entries says nothing.
    #[error("no entries")]
    Empty,
    /// More than [`MAX_ENTRIES`].
    #[error("more than {MAX_ENTRIES} entries")]
    TooMany,
    /// A key that is empty or longer than [`MAX_KEY_BYTES`].
    #[error("a key of {0} bytes")]
    KeyLength(usize),
    /// A value longer than [`MAX_VALUE_BYTES`].
    #[error("a value of {0} bytes")]
    ValueLength(usize),
    /// Keys that are not strictly ascending; to an author: one key twice.
    #[error("keys not strictly ascending")]
    Order,
}

/// Where a chain has got to: the number and the hash of its last change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tip {
    /// Changes in the chain so far; 0 for the genesis alone.
    pub len: u64,
    /// Hash of the last change, or of the genesis.
    pub head: [u8; 32],
}

impl Tip {
    /// The tip of a chain that has no change yet.
    #[must_use]
    pub fn start(segment: SegmentRef) -> Self {
        Self { len: 0, head: segment.genesis_hash() }
    }

    /// Moves on to `next`, if it is the chain's next change.
    ///
    /// # Errors
    /// [`Misfit`]; the tip is unchanged.
    pub fn follow(&mut self, next: &Inspected) -> Result<(), Misfit> {
        if next.seq() <= self.len {
            return Err(Misfit::Past);
        }
        if next.seq() > self.len + 1 {
            return Err(Misfit::Gap { missing: self.len + 1 });
        }
        if next.prev() != self.head {
            return Err(Misfit::Fork);
        }
        *self = Self { len: next.seq(), head: next.hash() };
        Ok(())
    }
}

/// Why a change is not the next one of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// The chain has a change of that number already: this one, or a fork of it.
    #[error("the chain is past this change")]
    Past,
    /// A change between is missing.
    #[error("change {missing} of the chain is missing")]
    Gap {
        /// Number of the first missing change.
        missing: u64,
    },
    /// Its previous change is another one than the chain's last.
    #[error("follows another change than the chain's last")]
    Fork,
}

/// Checks entries that are in the order they are encoded in.
fn check_entries<'a>(
    entries: impl ExactSizeIterator<Item = &'a Entry>,
) -> Result<(), InvalidEntries> {
    if entries.len() == 0 {
        return Err(InvalidEntries::Empty);
    }
    if entries.len() > MAX_ENTRIES {
        return Err(InvalidEntries::TooMany);
    }
    let mut last: Option<&str> = None;
    for Entry { key, value } in entries {
        if key.is_empty() || key.len() > MAX_KEY_BYTES {
            return Err(InvalidEntries::KeyLength(key.len()));
        }
        if value.len() > MAX_VALUE_BYTES {
            return Err(InvalidEntries::ValueLength(value.len()));
        }
        if last.is_some_and(|last| last >= key.as_str()) {
            return Err(InvalidEntries::Order);
        }
        last = Some(key);
    }
    Ok(())
}

/// The one encoding of a content change (see the module's table).
///
/// `seq` is within 1..=[`MAX_CHAIN`] and the entries have passed [`check_entries`].
fn encode_change<'a>(
    actor: Actor,
    seq: u64,
    prev: [u8; 32],
    entries: impl Iterator<Item = &'a Entry>,
) -> Change {
    let prefix = actor.prefix();
    let ops = entries
        .map(|e| {
            let mut key = prefix.clone();
            key.push_str(&e.key);
            put(&key, e.value.clone())
        })
        .collect();
    encode(Header {
        actor: ActorId::from(actor.0),
        seq,
        start_op: 2 + (seq - 1) * MAX_ENTRIES as u64,
        deps: vec![ChangeHash(prev)],
        ops,
    })
}

/// The fields of a change that differ from one to the next.
struct Header {
    actor: ActorId,
    seq: u64,
    start_op: u64,
    deps: Vec<ChangeHash>,
    ops: Vec<Op>,
}

/// Encodes through automerge's own encoder. Uncompressed: only `Change::bytes` compresses.
fn encode(h: Header) -> Change {
    ExpandedChange {
        operations: h.ops,
        actor_id: h.actor,
        hash: None,
        seq: h.seq,
        start_op: NonZeroU64::new(h.start_op).unwrap_or(NonZeroU64::MIN),
        time: 0,
        message: None,
        deps: h.deps,
        extra_bytes: Vec::new(),
        author: None,
    }
    .into()
}

fn put(key: &str, value: Vec<u8>) -> Op {
    Op {
        action: OpType::Put(ScalarValue::Bytes(value)),
        obj: ObjectId::Root,
        key: Key::Map(key.into()),
        pred: Vec::new().into(),
        insert: false,
    }
}

#[cfg(test)]
mod tests;
