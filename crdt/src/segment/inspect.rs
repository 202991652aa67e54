//! Validating one change from outside.
//!
//! Automerge's parser is not made for hostile bytes: a column of a hundred bytes can claim
//! 2^60 operations, which it walks, and a compressed chunk inflates without a bound. So the
//! bytes are first read here, by a small bounded reader of only those columns that honest
//! changes have. What it finds is encoded again as an honest device would, and the bytes must
//! be equal. The reader may therefore overlook things (checksums, columns that carry no
//! content): the comparison doesn't.
//!
//! Format: <https://automerge.org/automerge-binary-format-spec/#_change_chunks>.

use std::panic::{AssertUnwindSafe, catch_unwind};

use automerge::Change;

use super::{
    Actor, Entry, InvalidEntries, MAX_CHAIN, MAX_CHANGE_BYTES, MAX_ENTRIES, MAX_VALUE_BYTES,
    SegmentRef, check_entries, encode_change,
};

const MAGIC: [u8; 4] = [0x85, 0x6f, 0x4a, 0x83];
/// Type of a change that is not compressed; 2 is the compressed one.
const CHUNK_CHANGE: u8 = 1;
const CHUNK_COMPRESSED: u8 = 2;
const COLUMN_KEY: u64 = 0x15;
const COLUMN_VALUE_META: u64 = 0x56;
const COLUMN_VALUE: u64 = 0x57;
/// Type of a bytes scalar, in the low four bits of a value's metadata.
const TYPE_BYTES: u64 = 7;
/// Honest changes have eight at most.
const MAX_COLUMNS: u64 = 16;

/// A change that passed [`inspect`]: what it says, ready to be applied to a document.
#[derive(Debug, Clone)]
pub struct Inspected {
    segment: SegmentRef,
    actor: Actor,
    seq: u64,
    prev: [u8; 32],
    entries: Vec<Entry>,
    change: Change,
}

impl Inspected {
    /// The segment it was inspected for.
    pub const fn segment(&self) -> SegmentRef {
        self.segment
    }

    /// Its author.
    pub const fn actor(&self) -> Actor {
        self.actor
    }

    /// Its number in its author's chain in this segment, from 1. Not the envelope's number.
    pub const fn seq(&self) -> u64 {
        self.seq
    }

    /// Hash of the author's previous change in this segment, or of the genesis.
    pub const fn prev(&self) -> [u8; 32] {
        self.prev
    }

    /// Its automerge hash, which the author's next change names.
    pub fn hash(&self) -> [u8; 32] {
        self.change.hash().0
    }

    /// What it writes, ascending by key.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The bytes it was read from.
    pub fn bytes(&self) -> &[u8] {
        self.change.raw_bytes()
    }

    pub(crate) fn into_change(self) -> Change {
        self.change
    }
}

/// Why a change is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidChange {
    /// Longer than [`MAX_CHANGE_BYTES`].
    #[error("{0} bytes exceed the limit of {MAX_CHANGE_BYTES}")]
    TooLarge(usize),
    /// Not one change chunk and nothing else.
    #[error("malformed ({0})")]
    Malformed(&'static str),
    /// A compressed chunk: its size can't be known before it is inflated.
    #[error("compressed")]
    Compressed,
    /// Written by another actor.
    #[error("another actor")]
    Actor,
    /// It has not exactly one dependency.
    #[error("{0} dependencies instead of one")]
    Deps(u64),
    /// The first change of a chain that doesn't depend on the segment's genesis.
    #[error("does not begin at the genesis")]
    Genesis,
    /// A number of 0 or beyond [`MAX_CHAIN`].
    #[error("number {0} is outside a chain")]
    Seq(u64),
    /// A time other than 0.
    #[error("carries a time")]
    Time,
    /// A commit message.
    #[error("carries a message")]
    Message,
    /// It refers to other actors' operations.
    #[error("refers to other actors")]
    OtherActors,
    /// A value that is not a bytes scalar.
    #[error("a value that is not bytes")]
    NotBytes,
    /// A key outside the actor's own prefix.
    #[error("a key outside the author's prefix")]
    Prefix,
    /// The entries break a bound.
    #[error(transparent)]
    Entries(#[from] InvalidEntries),
    /// Not what an honest device would have written to say this: operations other than puts
    /// into the root map, another first op number, predecessors, extra bytes, a wrong checksum,
    /// or a second spelling.
    #[error("not the canonical encoding")]
    NotCanonical,
    /// Automerge panicked while encoding it again.
    #[error("automerge panicked")]
    Panicked,
}

/// Checks one change that claims to be `actor`'s in `segment`.
///
/// Pure and without state. Whether it is the *next* change of its chain is [`super::Tip::follow`].
///
/// # Errors
/// [`InvalidChange`], the first reason found. Sizes are refused before anything is read.
pub fn inspect(
    bytes: &[u8],
    segment: SegmentRef,
    actor: Actor,
) -> Result<Inspected, InvalidChange> {
    if bytes.len() > MAX_CHANGE_BYTES {
        return Err(InvalidChange::TooLarge(bytes.len()));
    }
    let Claim { seq, prev, entries } = read(bytes, actor)?;
    if seq == 1 && prev != segment.genesis_hash() {
        return Err(InvalidChange::Genesis);
    }
    // The reader leaves automerge only what `append` would give it; should it panic even so,
    // the change is refused like any other.
    let change = catch_unwind(AssertUnwindSafe(|| encode_change(actor, seq, prev, entries.iter())))
        .map_err(|_| InvalidChange::Panicked)?;
    if change.raw_bytes() != bytes {
        return Err(InvalidChange::NotCanonical);
    }
    Ok(Inspected { segment, actor, seq, prev, entries, change })
}

/// What a change claims to say.
struct Claim {
    seq: u64,
    prev: [u8; 32],
    entries: Vec<Entry>,
}

fn read(bytes: &[u8], actor: Actor) -> Result<Claim, InvalidChange> {
    let mut r = Reader(bytes);
    if r.array::<4>()? != MAGIC {
        return Err(InvalidChange::Malformed("magic"));
    }
    let _checksum = r.array::<4>()?;
    match r.byte()? {
        CHUNK_CHANGE => {}
        CHUNK_COMPRESSED => return Err(InvalidChange::Compressed),
        _ => return Err(InvalidChange::Malformed("chunk type")),
    }
    if r.unsigned()? != r.0.len() as u64 {
        return Err(InvalidChange::Malformed("length"));
    }
    let deps = r.unsigned()?;
    if deps != 1 {
        return Err(InvalidChange::Deps(deps));
    }
    let prev = r.array()?;
    if r.prefixed()? != actor.0 {
        return Err(InvalidChange::Actor);
    }
    let seq = r.unsigned()?;
    if seq == 0 || seq > MAX_CHAIN {
        return Err(InvalidChange::Seq(seq));
    }
    let _start_op = r.unsigned()?;
    if r.signed()? != 0 {
        return Err(InvalidChange::Time);
    }
    if r.unsigned()? != 0 {
        return Err(InvalidChange::Message);
    }
    if r.unsigned()? != 0 {
        return Err(InvalidChange::OtherActors);
    }
    let entries = read_entries(r, actor)?;
    check_entries(entries.iter())?;
    Ok(Claim { seq, prev, entries })
}

/// Reads the keys and the values from the operations' columns.
fn read_entries(mut r: Reader<'_>, actor: Actor) -> Result<Vec<Entry>, InvalidChange> {
    let columns = r.unsigned()?;
    if columns > MAX_COLUMNS {
        return Err(InvalidChange::Malformed("columns"));
    }
    let mut layout = Vec::with_capacity(columns as usize);
    for _ in 0..columns {
        layout.push((r.unsigned()?, r.length()?));
    }
    let (mut keys, mut metas, mut values) = (Reader(&[]), Reader(&[]), Reader(&[]));
    for (spec, len) in layout {
        let data = Reader(r.take(len)?);
        match spec {
            COLUMN_KEY => keys = data,
            COLUMN_VALUE_META => metas = data,
            COLUMN_VALUE => values = data,
            // Columns that are the same in all honest changes: left to the comparison.
            _ => {}
        }
    }
    let prefix = actor.prefix();
    let keys = keys.runs(|r| {
        let key = core::str::from_utf8(r.prefixed()?)
            .map_err(|_| InvalidChange::Malformed("a key is not UTF-8"))?;
        key.strip_prefix(&prefix).ok_or(InvalidChange::Prefix)
    })?;
    let metas = metas.runs(Reader::unsigned)?;
    if keys.len() != metas.len() {
        return Err(InvalidChange::Malformed("keys and values differ in number"));
    }
    let mut entries = Vec::with_capacity(keys.len());
    for (key, meta) in keys.into_iter().zip(metas) {
        if meta & 15 != TYPE_BYTES {
            return Err(InvalidChange::NotBytes);
        }
        let len = usize::try_from(meta >> 4).unwrap_or(usize::MAX);
        if len > MAX_VALUE_BYTES {
            return Err(InvalidEntries::ValueLength(len).into());
        }
        entries.push(Entry { key: key.to_owned(), value: values.take(len)?.to_vec() });
    }
    Ok(entries)
}

/// Bytes not yet read. Nothing here allocates or loops by a length that the bytes only claim.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], InvalidChange> {
        let (head, rest) =
            self.0.split_at_checked(n).ok_or(InvalidChange::Malformed("truncated"))?;
        self.0 = rest;
        Ok(head)
    }

    fn byte(&mut self) -> Result<u8, InvalidChange> {
        Ok(self.array::<1>()?[0])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], InvalidChange> {
        let (head, rest) =
            self.0.split_first_chunk().ok_or(InvalidChange::Malformed("truncated"))?;
        self.0 = rest;
        Ok(*head)
    }

    /// LEB128. Over-long spellings are left to the comparison.
    fn unsigned(&mut self) -> Result<u64, InvalidChange> {
        let mut n = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            n |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(n);
            }
        }
        // 63 bits are more than any field of an honest change has.
        Err(InvalidChange::Malformed("number too large"))
    }

    /// Signed LEB128.
    fn signed(&mut self) -> Result<i64, InvalidChange> {
        let mut n = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            n |= i64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                let negative = byte & 0x40 != 0;
                return Ok(if negative { n | -1 << (shift + 7) } else { n });
            }
        }
        Err(InvalidChange::Malformed("number too large"))
    }

    fn length(&mut self) -> Result<usize, InvalidChange> {
        usize::try_from(self.unsigned()?).map_err(|_| InvalidChange::Malformed("truncated"))
    }

    fn prefixed(&mut self) -> Result<&'a [u8], InvalidChange> {
        let n = self.length()?;
        self.take(n)
    }

    /// A run-length encoded column, at most [`MAX_ENTRIES`] values: a positive count repeats
    /// the value after it, a negative one is followed by that many values.
    fn runs<T: Clone>(
        mut self,
        item: impl Fn(&mut Self) -> Result<T, InvalidChange>,
    ) -> Result<Vec<T>, InvalidChange> {
        let mut out = Vec::new();
        while !self.0.is_empty() {
            let count = self.signed()?;
            if count == 0 {
                return Err(InvalidChange::Malformed("a null in a column"));
            }
            if count.unsigned_abs() > (MAX_ENTRIES - out.len()) as u64 {
                return Err(InvalidEntries::TooMany.into());
            }
            if count > 0 {
                let value = item(&mut self)?;
                out.extend((0..count).map(|_| value.clone()));
            } else {
                for _ in 0..count.unsigned_abs() {
                    out.push(item(&mut self)?);
                }
            }
        }
        Ok(out)
    }
}
