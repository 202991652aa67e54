//! Staged writes: decide first, write later.
//!
//! An input's writes are staged above what is committed, so that an input that fails leaves
//! nothing behind. Stages nest without copying: the batch is a [`Stage`] over a snapshot, each
//! input a [`Stage`] over the batch.
//!
//! ```ignore
//! let mut batch = Stage::new(&snapshot);
//! for input in inputs {
//!     let mut own = Stage::new(&batch);
//!     if decide(&mut own, input).is_ok() {
//!         let writes = own.into_writes();
//!         batch.absorb(writes);
//!     }
//! }
//! store.commit(&batch.into_writes())?;
//! ```

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use serde::Serialize;

use super::error::StorageError;
use super::read::{KeyRange, Read, Visitor};
use super::tables::Table;

/// Longest key in bytes.
pub const MAX_KEY: usize = 1024;
/// Longest value in bytes. Larger things are blobs, not rows.
pub const MAX_VALUE: usize = 16 << 20;

/// Puts and deletions by table and key; at most one per key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WriteSet {
    // `None` is a deletion.
    tables: BTreeMap<&'static Table, BTreeMap<Vec<u8>, Option<Vec<u8>>>>,
    len: usize,
    bytes: usize,
}

impl WriteSet {
    /// No writes.
    #[must_use]
    pub const fn new() -> Self {
        Self { tables: BTreeMap::new(), len: 0, bytes: 0 }
    }

    /// Puts a value. Refuses what exceeds [`MAX_KEY`] or [`MAX_VALUE`], so that one oversized
    /// row fails its own input and not the batch.
    pub fn put(
        &mut self,
        t: &'static Table,
        key: &[u8],
        value: Vec<u8>,
    ) -> Result<(), StorageError> {
        check(t, value.len(), MAX_VALUE)?;
        self.write(t, key, Some(value))
    }

    /// Deletes a row, whether or not it exists.
    pub fn del(&mut self, t: &'static Table, key: &[u8]) -> Result<(), StorageError> {
        self.write(t, key, None)
    }

    fn write(
        &mut self,
        t: &'static Table,
        key: &[u8],
        value: Option<Vec<u8>>,
    ) -> Result<(), StorageError> {
        check(t, key.len(), MAX_KEY)?;
        self.insert(t, key.to_vec(), value);
        Ok(())
    }

    fn insert(&mut self, t: &'static Table, key: Vec<u8>, value: Option<Vec<u8>>) {
        let size = |v: &Option<Vec<u8>>| v.as_ref().map_or(0, Vec::len);
        let key_len = key.len();
        self.bytes += size(&value);
        if let Some(old) = self.tables.entry(t).or_default().insert(key, value) {
            self.bytes -= size(&old);
        } else {
            self.len += 1;
            self.bytes += key_len;
        }
    }

    /// Takes over all of `later`; where both write a key, `later` wins.
    pub fn absorb(&mut self, later: Self) {
        for (t, rows) in later.tables {
            for (key, value) in rows {
                self.insert(t, key, value);
            }
        }
    }

    /// What is staged for a key: a value, a deletion (`Some(None)`), or nothing.
    pub fn staged(&self, t: &'static Table, key: &[u8]) -> Option<Option<&[u8]>> {
        Some(self.tables.get(t)?.get(key)?.as_deref())
    }

    /// Whether nothing is written.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of keys written.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Bytes of keys and values: what bounds a batch.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The writes of each table, tables and keys in order.
    pub fn tables(
        &self,
    ) -> impl Iterator<Item = (&'static Table, impl Iterator<Item = (&[u8], Option<&[u8]>)>)> {
        self.tables
            .iter()
            .map(|(t, rows)| (*t, rows.iter().map(|(k, v)| (k.as_slice(), v.as_deref()))))
    }
}

const fn check(t: &'static Table, len: usize, max: usize) -> Result<(), StorageError> {
    if len > max {
        return Err(StorageError::TooLarge { table: t.name, len, max });
    }
    Ok(())
}

/// Writes staged above a [`Read`]; itself a [`Read`] that shows them as if they were committed.
pub struct Stage<'a> {
    base: &'a dyn Read,
    writes: WriteSet,
}

impl<'a> Stage<'a> {
    /// Nothing staged yet.
    pub fn new(base: &'a dyn Read) -> Self {
        Self { base, writes: WriteSet::new() }
    }

    /// Stages a put. See [`WriteSet::put`].
    pub fn put(
        &mut self,
        t: &'static Table,
        key: &[u8],
        value: Vec<u8>,
    ) -> Result<(), StorageError> {
        self.writes.put(t, key, value)
    }

    /// Stages a put of a value encoded with postcard.
    pub fn put_typed<T: Serialize + ?Sized>(
        &mut self,
        t: &'static Table,
        key: &[u8],
        value: &T,
    ) -> Result<(), StorageError> {
        // postcard fails only on sequences that can't tell their length.
        let bytes = postcard::to_stdvec(value)
            .map_err(|_| StorageError::corrupt(t.name, "a value that can't be encoded"))?;
        self.put(t, key, bytes)
    }

    /// Stages a deletion.
    pub fn del(&mut self, t: &'static Table, key: &[u8]) -> Result<(), StorageError> {
        self.writes.del(t, key)
    }

    /// Takes over the writes of a finished child stage.
    pub fn absorb(&mut self, later: WriteSet) {
        self.writes.absorb(later);
    }

    /// What is staged so far, without the base.
    pub const fn writes(&self) -> &WriteSet {
        &self.writes
    }

    /// Ends the stage. Dropping it instead forgets its writes.
    #[must_use]
    pub fn into_writes(self) -> WriteSet {
        self.writes
    }
}

impl Read for Stage<'_> {
    fn get(&self, t: &'static Table, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        match self.writes.staged(t, key) {
            Some(staged) => Ok(staged.map(<[u8]>::to_vec)),
            None => self.base.get(t, key),
        }
    }

    fn visit(
        &self,
        t: &'static Table,
        range: &KeyRange,
        reverse: bool,
        f: &mut Visitor<'_>,
    ) -> Result<(), StorageError> {
        // `BTreeMap::range` panics on an inverted range.
        if range.is_empty() {
            return Ok(());
        }
        let Some(staged) = self.writes.tables.get(t) else {
            return self.base.visit(t, range, reverse, f);
        };
        let mut staged = staged.range::<[u8], _>(range.bounds());
        let mut next = || if reverse { staged.next_back() } else { staged.next() };
        // Invariant: `head` is the first staged write that has not been shown yet.
        let mut head = next();
        let mut stopped = false;

        self.base.visit(t, range, reverse, &mut |key, value| {
            let mut show = |key: &[u8], value: &[u8]| {
                let flow = f(key, value);
                stopped = flow.is_break();
                flow
            };
            while let Some((staged_key, staged_value)) = head {
                let order = staged_key.as_slice().cmp(key);
                match if reverse { order.reverse() } else { order } {
                    Ordering::Greater => break,
                    Ordering::Less => {
                        head = next();
                        if let Some(value) = staged_value {
                            show(staged_key, value)?;
                        }
                    }
                    Ordering::Equal => {
                        head = next();
                        return staged_value
                            .as_ref()
                            .map_or(ControlFlow::Continue(()), |value| show(staged_key, value));
                    }
                }
            }
            show(key, value)
        })?;

        while let (false, Some((key, value))) = (stopped, head) {
            head = next();
            if let Some(value) = value {
                stopped = f(key, value).is_break();
            }
        }
        Ok(())
    }
}
