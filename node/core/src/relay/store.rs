//! What a relay keeps on disk: tags, hashes, sizes, times and sealed bytes.
//!
//! An item is four rows: its bytes by (tag, index), its head by (time, tag, index), which is
//! what expiry walks, and its index by the hash of its bytes and by its delete secret's hash.
//! So neither expiry nor deletion reads the bytes, and nothing about items is in memory.

use serde::{Deserialize, Serialize};
use teahouse_protocols::ids::{Millis, Tag};
use teahouse_protocols::mailbox::TagKind;

use crate::store::{Key, Table};

/// [`Totals`], under [`TOTALS`].
pub(super) static META: Table = Table::truth("relay.meta");
/// Hash of an invite code → [`Code`].
pub(super) static CODES: Table = Table::truth("relay.codes");
/// Member number → [`Member`].
pub(super) static MEMBERS: Table = Table::truth("relay.members");
/// Hash of an unspent token → (member, serial).
pub(super) static TOKENS: Table = Table::truth("relay.tokens");
/// (member, serial) → hash of an unspent token.
pub(super) static SERIALS: Table = Table::truth("relay.serials");
/// Tag → [`TagRow`].
pub(super) static TAGS: Table = Table::truth("relay.tags");
/// (tag, index) → the sealed bytes.
pub(super) static ITEMS: Table = Table::truth("relay.items");
/// (time of deposit, tag, index) → [`Head`].
pub(super) static HEADS: Table = Table::truth("relay.heads");
/// (tag, hash of the bytes) → index.
pub(super) static HASHES: Table = Table::truth("relay.hashes");
/// (tag, hash of the delete secret, index) → time of deposit.
pub(super) static DELETES: Table = Table::truth("relay.deletes");
/// (day, [`DUE_TAG`] or [`DUE_CODE`], tag or hash of a code) → (): what to look at that day.
pub(super) static DUE: Table = Table::truth("relay.due");

pub(super) const TOTALS: &[u8] = b"totals";
pub(super) const DUE_TAG: u8 = 0;
pub(super) const DUE_CODE: u8 = 1;

/// One day, in milliseconds.
pub(super) const DAY: Millis = 24 * 60 * 60 * 1000;

/// Numbers over the whole relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Totals {
    /// The latest time known to be past. Stored about hourly; never falls.
    pub(super) clock: Millis,
    /// Nothing new is taken.
    pub(super) draining: bool,
    /// Members ever admitted: the number of the last one.
    pub(super) members: u64,
    /// Open tags.
    pub(super) tags: u64,
    /// Items kept.
    pub(super) items: u64,
    /// What the items are charged, see [`charge`].
    pub(super) bytes: u64,
}

impl Totals {
    /// Days since the Unix epoch.
    pub(super) const fn today(&self) -> u64 {
        self.clock / DAY
    }
}

/// An invite code in force.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Code {
    pub(super) uses: u32,
    pub(super) expires: Millis,
}

/// Who was admitted. Nothing leads from a member to its tags.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Member {
    /// The day `issued` is about.
    pub(super) day: u64,
    /// Tokens given on that day.
    pub(super) issued: u32,
    /// Serial of the next token.
    pub(super) next: u64,
}

/// A tag: open, or closed and remembered so that its indices go on when it is opened again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TagRow {
    /// `None` when closed.
    pub(super) kind: Option<TagKind>,
    /// The highest index ever given. Never falls.
    pub(super) last: u64,
    /// Items kept.
    pub(super) items: u64,
    /// What they are charged.
    pub(super) bytes: u64,
    /// The last day of a fetch or a deposit.
    pub(super) used: u64,
    /// Day of this tag's one entry in [`DUE`].
    pub(super) due: u64,
    /// The day `asked` is about.
    pub(super) asked_day: u64,
    /// Items taken on that day without an invite secret (card tags).
    pub(super) asked: u32,
}

/// What is known of an item besides its bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) hash: [u8; 32],
    pub(super) delete: Option<[u8; 32]>,
    pub(super) size: u32,
}

/// What an item of `size` bytes counts against quotas: its rows' keys and heads take space
/// too, so that a flood of tiny items can't take many times the disk that was granted.
pub(super) const fn charge(size: usize) -> u64 {
    size as u64 + 256
}

pub(super) fn item_key(tag: Tag, index: u64) -> Key {
    Key::new().fixed(&tag.0).u64(index)
}

pub(super) fn head_key(at: Millis, tag: Tag, index: u64) -> Key {
    Key::new().u64(at).fixed(&tag.0).u64(index)
}

pub(super) fn hash_key(tag: Tag, hash: &[u8; 32]) -> Key {
    Key::new().fixed(&tag.0).fixed(hash)
}

pub(super) fn delete_key(tag: Tag, hash: &[u8; 32], index: u64) -> Key {
    hash_key(tag, hash).u64(index)
}

pub(super) fn serial_key(member: u64, serial: u64) -> Key {
    Key::new().u64(member).u64(serial)
}

pub(super) fn due_key(day: u64, what: u8, id: &[u8; 32]) -> Key {
    Key::new().u64(day).u8(what).fixed(id)
}
