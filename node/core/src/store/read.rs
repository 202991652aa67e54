//! Reading: one small trait, implemented by snapshots and by staged writes above them.

use std::ops::{Bound, ControlFlow};

use serde::de::DeserializeOwned;

use super::error::StorageError;
use super::tables::Table;

/// A row: key and value.
pub type Row = (Vec<u8>, Vec<u8>);

/// A view of all tables. `Sync`, so that a batch can be prepared on several threads.
pub trait Read: Sync {
    /// The value under `key`.
    fn get(&self, t: &'static Table, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError>;

    /// Calls `f` for each row of `range` in key order (or against it) until it breaks.
    fn visit(
        &self,
        t: &'static Table,
        range: &KeyRange,
        reverse: bool,
        f: &mut Visitor<'_>,
    ) -> Result<(), StorageError>;
}

/// Called with key and value; [`ControlFlow::Break`] ends the visit.
pub type Visitor<'f> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'f;

/// Conveniences on every [`Read`].
pub trait ReadExt: Read {
    /// At most `limit` rows of `range`, in key order or against it.
    fn scan(
        &self,
        t: &'static Table,
        range: &KeyRange,
        reverse: bool,
        limit: usize,
    ) -> Result<Vec<Row>, StorageError> {
        let mut rows = Vec::new();
        if limit == 0 {
            return Ok(rows);
        }
        self.visit(t, range, reverse, &mut |k, v| {
            rows.push((k.to_vec(), v.to_vec()));
            if rows.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok(rows)
    }

    /// Whether there is a row under `key`.
    fn contains(&self, t: &'static Table, key: &[u8]) -> Result<bool, StorageError> {
        Ok(self.get(t, key)?.is_some())
    }

    /// The row with the lowest key that starts with `prefix`.
    fn first(&self, t: &'static Table, prefix: &[u8]) -> Result<Option<Row>, StorageError> {
        Ok(self.scan(t, &KeyRange::prefix(prefix), false, 1)?.pop())
    }

    /// The row with the highest key that starts with `prefix`.
    fn last(&self, t: &'static Table, prefix: &[u8]) -> Result<Option<Row>, StorageError> {
        Ok(self.scan(t, &KeyRange::prefix(prefix), true, 1)?.pop())
    }

    /// How many rows `range` has, counted no further than `limit`. Costs time linear in the result.
    fn count(
        &self,
        t: &'static Table,
        range: &KeyRange,
        limit: usize,
    ) -> Result<usize, StorageError> {
        let mut n = 0;
        self.visit(t, range, false, &mut |_, _| {
            if n == limit {
                return ControlFlow::Break(());
            }
            n += 1;
            ControlFlow::Continue(())
        })?;
        Ok(n)
    }

    /// The value under `key`, decoded with postcard.
    fn get_typed<T: DeserializeOwned>(
        &self,
        t: &'static Table,
        key: &[u8],
    ) -> Result<Option<T>, StorageError> {
        self.get(t, key)?.map(|v| decode(t, &v)).transpose()
    }

    /// [`ReadExt::scan`] with values decoded with postcard.
    fn scan_typed<T: DeserializeOwned>(
        &self,
        t: &'static Table,
        range: &KeyRange,
        reverse: bool,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, T)>, StorageError> {
        self.scan(t, range, reverse, limit)?
            .into_iter()
            .map(|(k, v)| Ok((k, decode(t, &v)?)))
            .collect()
    }
}

impl<R: Read + ?Sized> ReadExt for R {}

/// Decodes a stored value; anything but exactly one value is damage.
pub fn decode<T: DeserializeOwned>(t: &'static Table, bytes: &[u8]) -> Result<T, StorageError> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(StorageError::corrupt(t.name, "trailing bytes in a value")),
        Err(_) => Err(StorageError::corrupt(t.name, "undecodable value")),
    }
}

/// A range of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    /// Where it starts.
    pub from: Bound<Vec<u8>>,
    /// Where it ends.
    pub to: Bound<Vec<u8>>,
}

impl KeyRange {
    /// Every key.
    #[must_use]
    pub const fn all() -> Self {
        Self { from: Bound::Unbounded, to: Bound::Unbounded }
    }

    /// Every key that starts with `prefix`, `prefix` itself included.
    #[must_use]
    pub fn prefix(prefix: &[u8]) -> Self {
        // The least key above all that start with the prefix: drop trailing 0xff, add one.
        let to = match prefix.iter().rposition(|b| *b != 0xff) {
            None => Bound::Unbounded,
            Some(i) => {
                let mut end = prefix[..=i].to_vec();
                end[i] += 1;
                Bound::Excluded(end)
            }
        };
        Self { from: Bound::Included(prefix.to_vec()), to }
    }

    /// This range without what is at or below `key`: the next page of a forward scan.
    #[must_use]
    pub fn after(mut self, key: &[u8]) -> Self {
        if lower(&self.from).is_none_or(|from| from <= key) {
            self.from = Bound::Excluded(key.to_vec());
        }
        self
    }

    /// This range without what is below `key`.
    #[must_use]
    pub fn starting_at(mut self, key: &[u8]) -> Self {
        if lower(&self.from).is_none_or(|from| from < key) {
            self.from = Bound::Included(key.to_vec());
        }
        self
    }

    /// This range without what is at or above `key`: the next page of a reverse scan.
    #[must_use]
    pub fn before(mut self, key: &[u8]) -> Self {
        if lower(&self.to).is_none_or(|to| to >= key) {
            self.to = Bound::Excluded(key.to_vec());
        }
        self
    }

    /// Whether no key can be in it. An inverted range is empty, never an error.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match (&self.from, &self.to) {
            (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
            (Bound::Included(a), Bound::Included(b)) => a > b,
            (Bound::Included(a) | Bound::Excluded(a), Bound::Included(b) | Bound::Excluded(b)) => {
                a >= b
            }
        }
    }

    /// Whether `key` is in it.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        std::ops::RangeBounds::contains(&self.bounds(), key)
    }

    pub(super) fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        (self.from.as_ref().map(Vec::as_slice), self.to.as_ref().map(Vec::as_slice))
    }
}

fn lower(bound: &Bound<Vec<u8>>) -> Option<&[u8]> {
    match bound {
        Bound::Unbounded => None,
        Bound::Included(k) | Bound::Excluded(k) => Some(k),
    }
}
