//! A view of the last commit that stays as it is while the writer goes on.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, PoisonError, RwLock};

use redb::{ReadOnlyTable, ReadTransaction, TableDefinition, TableError};

use super::error::{PANICKED, StorageError, guarded};
use super::read::{KeyRange, Read, Visitor};
use super::tables::Table;

type Raw = ReadOnlyTable<&'static [u8], &'static [u8]>;

/// A consistent view of all tables. Cheap to take and to clone; usable from any thread.
///
/// It keeps the pages it may read from being reused: let go of it within seconds, not hours.
/// After [`Store::reopen`](super::Store::reopen) it answers [`StorageError::Closed`] to what it
/// does not have in memory yet.
#[derive(Clone)]
pub struct Snapshot(Arc<Inner>);

struct Inner {
    transaction: ReadTransaction,
    // Opening a table costs a lookup in the file; a table that doesn't exist stays so.
    tables: RwLock<BTreeMap<&'static Table, Option<Arc<Raw>>>>,
}

impl Snapshot {
    pub(super) fn new(transaction: ReadTransaction) -> Self {
        Self(Arc::new(Inner { transaction, tables: RwLock::default() }))
    }

    pub(super) fn transaction(&self) -> &ReadTransaction {
        &self.0.transaction
    }

    fn table(&self, t: &'static Table) -> Result<Option<Arc<Raw>>, redb::Error> {
        // The map is only ever inserted into, so it is sound after a panic too.
        let cached = self.0.tables.read().unwrap_or_else(PoisonError::into_inner).get(t).cloned();
        if let Some(table) = cached {
            return Ok(table);
        }
        let opened = match self.0.transaction.open_table(TableDefinition::new(&t.disk_name())) {
            Ok(table) => Some(Arc::new(table)),
            Err(TableError::TableDoesNotExist(_)) => None,
            Err(e) => return Err(e.into()),
        };
        let mut tables = self.0.tables.write().unwrap_or_else(PoisonError::into_inner);
        tables.insert(t, opened.clone());
        Ok(opened)
    }
}

impl Read for Snapshot {
    fn get(&self, t: &'static Table, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        guarded(t.name, || {
            let Some(table) = self.table(t)? else { return Ok(None) };
            Ok(table.get(key)?.map(|value| value.value().to_vec()))
        })
    }

    fn visit(
        &self,
        t: &'static Table,
        range: &KeyRange,
        reverse: bool,
        f: &mut Visitor<'_>,
    ) -> Result<(), StorageError> {
        if range.is_empty() {
            return Ok(());
        }
        // Like `guarded`, but a panic of the caller's own closure goes on to the caller.
        let mut in_closure = false;
        let outcome = catch_unwind(AssertUnwindSafe(|| -> Result<(), redb::Error> {
            let Some(table) = self.table(t)? else { return Ok(()) };
            let mut rows = table.range::<&[u8]>(range.bounds())?;
            while let Some(row) = if reverse { rows.next_back() } else { rows.next() } {
                let (key, value) = row?;
                let (key, value) = (key.value(), value.value());
                in_closure = true;
                let flow = f(key, value);
                in_closure = false;
                if flow == ControlFlow::Break(()) {
                    break;
                }
            }
            Ok(())
        }));
        match outcome {
            Ok(result) => result.map_err(|e| StorageError::from_redb(t.name, e)),
            Err(panic) if in_closure => resume_unwind(panic),
            Err(_) => Err(StorageError::corrupt(t.name, PANICKED)),
        }
    }
}
