//! What a commit touched: watches decide by it whether to run their query again.

use std::collections::{BTreeMap, BTreeSet};

use super::read::KeyRange;
use super::stage::WriteSet;
use super::tables::Table;

/// Most keys of a table that are listed; beyond, the whole table counts as touched.
pub const MAX_KEYS: usize = 1024;

/// The keys a commit wrote or deleted. Answers may err towards "touched", never the other way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChangeSet {
    tables: BTreeMap<&'static Table, Touched>,
    everything: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Touched {
    Keys(BTreeSet<Vec<u8>>),
    Whole,
}

impl ChangeSet {
    /// Nothing touched.
    #[must_use]
    pub const fn new() -> Self {
        Self { tables: BTreeMap::new(), everything: false }
    }

    /// Every table touched: after a rebuild.
    #[must_use]
    pub const fn everything() -> Self {
        Self { tables: BTreeMap::new(), everything: true }
    }

    /// Whether nothing was touched.
    pub fn is_empty(&self) -> bool {
        !self.everything && self.tables.is_empty()
    }

    /// Whether any row of the table was touched.
    pub fn touches(&self, t: &'static Table) -> bool {
        self.everything || self.tables.contains_key(t)
    }

    /// Whether the row was touched.
    pub fn touches_key(&self, t: &'static Table, key: &[u8]) -> bool {
        self.any(t, |keys| keys.contains(key))
    }

    /// Whether any row of the range was touched.
    pub fn touches_range(&self, t: &'static Table, range: &KeyRange) -> bool {
        !range.is_empty()
            && self.any(t, |keys| keys.range::<[u8], _>(range.bounds()).next().is_some())
    }

    /// Whether any row whose key starts with `prefix` was touched.
    pub fn touches_prefix(&self, t: &'static Table, prefix: &[u8]) -> bool {
        self.touches_range(t, &KeyRange::prefix(prefix))
    }

    fn any(&self, t: &'static Table, f: impl FnOnce(&BTreeSet<Vec<u8>>) -> bool) -> bool {
        self.everything
            || match self.tables.get(t) {
                None => false,
                Some(Touched::Whole) => true,
                Some(Touched::Keys(keys)) => f(keys),
            }
    }

    /// The keys touched in a table, in order; `None` if they are too many to list.
    pub fn keys(&self, t: &'static Table) -> Option<impl Iterator<Item = &[u8]>> {
        let keys = match self.tables.get(t) {
            _ if self.everything => return None,
            Some(Touched::Whole) => return None,
            Some(Touched::Keys(keys)) => Some(keys),
            None => None,
        };
        Some(keys.into_iter().flatten().map(Vec::as_slice))
    }

    /// Takes over what another commit touched: for a watch that was too slow for both.
    pub fn merge(&mut self, other: &Self) {
        self.everything |= other.everything;
        for (t, touched) in &other.tables {
            match touched {
                Touched::Whole => {
                    self.tables.insert(t, Touched::Whole);
                }
                Touched::Keys(keys) => self.add(t, keys.iter().map(Vec::as_slice)),
            }
        }
    }

    fn add<'k>(&mut self, t: &'static Table, keys: impl Iterator<Item = &'k [u8]>) {
        let entry = self.tables.entry(t).or_insert_with(|| Touched::Keys(BTreeSet::new()));
        for key in keys {
            let Touched::Keys(have) = entry else { return };
            have.insert(key.to_vec());
            if have.len() > MAX_KEYS {
                *entry = Touched::Whole;
            }
        }
    }
}

impl From<&WriteSet> for ChangeSet {
    fn from(writes: &WriteSet) -> Self {
        let mut changes = Self::new();
        for (t, rows) in writes.tables() {
            changes.add(t, rows.map(|(key, _)| key));
        }
        changes
    }
}
