//! The store: ordered tables of bytes in one redb file, one durable transaction per batch.
//!
//! The core owns the [`Store`] and is its only writer. It decides a batch into staged writes
//! ([`Stage`], [`WriteSet`]) above a [`Snapshot`], commits them in one transaction that is on
//! the disk when [`Store::commit`] returns, and hands out the [`ChangeSet`]. Everybody else
//! reads snapshots, through a [`Reader`], and never waits for the core.
//!
//! Durability: two-phase commit with quick repair. A crash at any moment leaves the state
//! before or after a commit, and opening again takes time independent of the file's size.

pub mod backends;
mod changes;
mod error;
mod keys;
mod lock;
mod migrate;
mod read;
mod snapshot;
mod stage;
mod tables;
#[cfg(test)]
mod tests;

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use redb::backends::FileBackend;
use redb::{
    Builder, Database, Durability, ReadableDatabase, ReadableTableMetadata, StorageBackend,
    TableDefinition, TableHandle, WriteTransaction,
};

use backends::{LossyFile, SimDisk, restart_unfinished};
use error::{PANICKED, guarded};
use lock::FolderLock;

pub use changes::{ChangeSet, MAX_KEYS};
pub use error::{OpenError, StorageError};
pub use keys::{Key, KeyReader};
pub use read::{KeyRange, Read, ReadExt, Row, Visitor, decode};
pub use snapshot::Snapshot;
pub use stage::{MAX_KEY, MAX_VALUE, Stage, WriteSet};
pub use tables::{Table, TableKind};

/// The database's name in its folder.
pub const FILE: &str = "teahouse.redb";

/// How to open a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreOptions {
    /// Keep unsynced writes in the process ([`LossyFile`]), so that killing it is like cutting
    /// the power. For tests.
    pub lossy: bool,
    /// Bytes of memory for cached pages.
    pub cache_bytes: usize,
    /// Check every page's checksum on opening. Reads the whole file; without it damage shows
    /// when the damaged page is read.
    pub verify: bool,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { lossy: false, cache_bytes: 32 << 20, verify: false }
    }
}

/// The database and, for one in a folder, the folder's lock.
pub struct Store {
    shared: Arc<Shared>,
    open: Box<Opener>,
    options: StoreOptions,
    /// A commit failed and redb's state is unknown until it is opened again.
    broken: bool,
    // Released after `drop` has closed the database.
    _lock: Option<FolderLock>,
}

type Opener = dyn Fn(&Builder) -> Result<Database, redb::Error> + Send + Sync;

/// Takes snapshots from any thread, across reopenings. Cheap to clone.
#[derive(Clone)]
pub struct Reader(Arc<Shared>);

struct Shared {
    /// `None` after a reopening that failed and after the store was dropped.
    db: RwLock<Option<Database>>,
}

/// What a table takes up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableStats {
    /// The table's name.
    pub name: String,
    /// Cache or truth.
    pub kind: TableKind,
    /// Number of rows.
    pub rows: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
}

impl Store {
    /// Opens the database in `dir`, creating both if need be: the folder readable by its owner
    /// only (0700), the files likewise (0600).
    ///
    /// A second store on the folder is refused, in this process or another.
    pub fn open(dir: &Path, options: StoreOptions) -> Result<Self, OpenError> {
        let failed = |e| OpenError::io(format!("create {}", dir.display()), e);
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(dir).map_err(failed)?;

        let lock = FolderLock::acquire(dir)?;
        let path = dir.join(FILE);
        if !path.try_exists().map_err(failed)? {
            private_file(&path).and_then(|f| f.sync_all()).map_err(failed)?;
            // The commits of a file that is not in its folder are not durable.
            #[cfg(unix)]
            File::open(dir).and_then(|d| d.sync_all()).map_err(failed)?;
        }
        let lossy = options.lossy;
        let open = move |builder: &Builder| {
            let file = private_file(&path)?;
            if lossy {
                create(builder, LossyFile::new(file)?)
            } else {
                create(builder, FileBackend::new(file)?)
            }
        };
        Self::new(Box::new(open), options, Some(lock))
    }

    /// A store that lives in memory, until it is dropped.
    pub fn in_memory() -> Result<Self, OpenError> {
        Self::on_disk(&SimDisk::new())
    }

    /// Opens the file on a simulated disk. An earlier store on it loses its power.
    pub fn on_disk(disk: &SimDisk) -> Result<Self, OpenError> {
        let disk = disk.clone();
        // Simulations hold hundreds of stores.
        let options = StoreOptions { cache_bytes: 1 << 20, ..StoreOptions::default() };
        Self::with_backend(move || Ok(disk.attach()), options)
    }

    /// Opens a store on any backend; `attach` makes one for each opening.
    pub fn with_backend<B: StorageBackend>(
        attach: impl Fn() -> io::Result<B> + Send + Sync + 'static,
        options: StoreOptions,
    ) -> Result<Self, OpenError> {
        let open = move |builder: &Builder| create(builder, attach()?);
        Self::new(Box::new(open), options, None)
    }

    fn new(
        open: Box<Opener>,
        options: StoreOptions,
        lock: Option<FolderLock>,
    ) -> Result<Self, OpenError> {
        let db = open_database(&*open, &options)?;
        let shared = Arc::new(Shared { db: RwLock::new(Some(db)) });
        Ok(Self { shared, open, options, broken: false, _lock: lock })
    }

    /// Closes the database and opens it again, in place: the way on after any error of
    /// [`Store::commit`] that [breaks](Store::is_broken) the store.
    ///
    /// Afterwards the state is that of some commit: the last that was acknowledged, or the one
    /// that failed. Snapshots from before are closed, readers go on. On an error nothing is
    /// open, and `reopen` can be tried again.
    pub fn reopen(&mut self) -> Result<(), OpenError> {
        let mut db = self.shared.db.write().unwrap_or_else(PoisonError::into_inner);
        self.broken = true;
        // A database whose locks a panic has poisoned may panic once more.
        let old = db.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(old)));
        *db = Some(open_database(&*self.open, &self.options)?);
        self.broken = false;
        Ok(())
    }

    /// Whether a failed commit makes [`Store::reopen`] necessary.
    pub const fn is_broken(&self) -> bool {
        self.broken
    }

    /// A view of the last commit.
    pub fn snapshot(&self) -> Result<Snapshot, StorageError> {
        self.shared.snapshot()
    }

    /// A handle with which other threads take snapshots.
    pub fn reader(&self) -> Reader {
        Reader(Arc::clone(&self.shared))
    }

    /// Writes everything in one transaction and returns when it is on the disk.
    ///
    /// On an error the store is broken, and whether the writes will be there after
    /// [`Store::reopen`] is unknown: decide again from a new snapshot.
    pub fn commit(&mut self, writes: &WriteSet) -> Result<ChangeSet, StorageError> {
        if !writes.is_empty() {
            self.transact(|transaction| write(transaction, writes))?;
        }
        Ok(writes.into())
    }

    /// Empties every projection and applies `writes`, in one transaction: what starts a
    /// rebuild, and the note that one is under way.
    pub fn clear_projections(&mut self, writes: &WriteSet) -> Result<ChangeSet, StorageError> {
        self.transact(|transaction| {
            let all: Vec<_> = transaction.list_tables()?.collect();
            for table in all {
                if let Some((TableKind::Projection, _)) = tables::parse_disk_name(table.name()) {
                    transaction.delete_table(table)?;
                }
            }
            write(transaction, writes)
        })?;
        Ok(ChangeSet::everything())
    }

    fn transact(
        &mut self,
        work: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), StorageError> {
        if self.broken {
            return Err(StorageError::NeedsReopen);
        }
        let result = self.shared.with(|db| {
            guarded("database", || {
                let transaction = durable(db)?;
                work(&transaction)?;
                Ok(transaction.commit()?)
            })
        });
        self.broken = result.is_err();
        result
    }

    /// The tables in the file with their sizes, by kind and name. Reads every page.
    pub fn stats(&self) -> Result<Vec<TableStats>, StorageError> {
        let snapshot = self.snapshot()?;
        guarded("database", || {
            let transaction = snapshot.transaction();
            let mut all = Vec::new();
            for handle in transaction.list_tables()? {
                let Some((kind, name)) = tables::parse_disk_name(handle.name()) else { continue };
                let name = name.to_owned();
                let table = transaction.open_untyped_table(handle)?;
                let bytes = table.stats()?.stored_bytes();
                all.push(TableStats { name, kind, rows: table.len()?, bytes });
            }
            all.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
            Ok(all)
        })
    }

    /// Gives free pages back to the file system; returns whether there were any.
    ///
    /// [`StorageError::Busy`] while snapshots are alive. Slow, readers wait, and a crash
    /// meanwhile makes the next opening slow, too.
    pub fn compact(&mut self) -> Result<bool, StorageError> {
        if self.broken {
            return Err(StorageError::NeedsReopen);
        }
        let mut db = self.shared.db.write().unwrap_or_else(PoisonError::into_inner);
        let db = db.as_mut().ok_or(StorageError::NeedsReopen)?;
        let result = guarded("database", || Ok(db.compact()?));
        self.broken = !matches!(result, Ok(_) | Err(StorageError::Busy));
        result
    }
}

impl Drop for Store {
    // Readers may outlive the store; the database must not outlive the folder's lock.
    fn drop(&mut self) {
        let db = self.shared.db.write().unwrap_or_else(PoisonError::into_inner).take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(db)));
    }
}

impl Reader {
    /// A view of the last commit. [`StorageError::Closed`] once the store is gone.
    pub fn snapshot(&self) -> Result<Snapshot, StorageError> {
        self.0.snapshot()
    }
}

impl Shared {
    fn with<T>(
        &self,
        f: impl FnOnce(&Database) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
        f(db.as_ref().ok_or(StorageError::Closed)?)
    }

    fn snapshot(&self) -> Result<Snapshot, StorageError> {
        self.with(|db| guarded("database", || Ok(Snapshot::new(db.begin_read()?))))
    }
}

/// A transaction that is on the disk once committed.
fn durable(db: &Database) -> Result<WriteTransaction, redb::Error> {
    let mut transaction = db.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    transaction.set_two_phase_commit(true);
    transaction.set_quick_repair(true);
    Ok(transaction)
}

fn write(transaction: &WriteTransaction, writes: &WriteSet) -> Result<(), redb::Error> {
    for (t, rows) in writes.tables() {
        let name = t.disk_name();
        let mut table = transaction.open_table(TableDefinition::<&[u8], &[u8]>::new(&name))?;
        for (key, value) in rows {
            match value {
                Some(value) => table.insert(key, value)?,
                None => table.remove(key)?,
            };
        }
    }
    Ok(())
}

fn create(builder: &Builder, backend: impl StorageBackend) -> Result<Database, redb::Error> {
    restart_unfinished(&backend)?;
    Ok(builder.create_with_backend(backend)?)
}

fn open_database(open: &Opener, options: &StoreOptions) -> Result<Database, OpenError> {
    let work = || {
        let mut builder = Builder::new();
        builder.set_cache_size(options.cache_bytes);
        builder.set_check_integrity_on_open(options.verify);
        let db = open(&builder)?;
        migrate::run(&db, migrate::STEPS)?;
        Ok(db)
    };
    // redb may panic on a file that was altered from outside.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(OpenError::corrupt(PANICKED)))
}

/// Opens a file for reading and writing, created for its owner's eyes only.
fn private_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}
