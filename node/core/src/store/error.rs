//! What can go wrong with storage, in words for people.

use std::borrow::Cow;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Why a database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process (or another `Store` of this one) holds the folder.
    #[error("another Teahouse is already using this folder{}", display_pid(*pid))]
    Locked {
        /// Its process id, where the lock file could be read.
        pid: Option<u32>,
    },
    /// The file is not a database, or a damaged one.
    #[error("the database is damaged: {why}")]
    Corrupt {
        /// What was noticed, for a log line.
        why: Cow<'static, str>,
    },
    /// The file was written by a later version of this software.
    #[error(
        "this data was written by a newer Teahouse (format {found}, this one knows {supported}): please update"
    )]
    NewerVersion {
        /// The format of the file.
        found: u32,
        /// The newest format this build knows.
        supported: u32,
    },
    /// No room left on the disk.
    #[error("the disk is full")]
    Full,
    /// The operating system refused.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was attempted.
        action: Cow<'static, str>,
        /// Why it failed.
        source: io::Error,
    },
}

fn display_pid(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}

/// Why a read or a commit failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// A stored key or value is not what this software writes, or a page is damaged.
    #[error("stored data is damaged in {table}: {why}")]
    Corrupt {
        /// The table's name; `"database"` where it is not known.
        table: &'static str,
        /// What was noticed.
        why: Cow<'static, str>,
    },
    /// A key or value beyond its bound. Nothing was written and the store stays usable.
    #[error("{table}: {len} bytes exceed the limit of {max}")]
    TooLarge {
        /// The table's name.
        table: &'static str,
        /// Length given, in bytes.
        len: usize,
        /// The bound, in bytes.
        max: usize,
    },
    /// No room left on the disk.
    #[error("the disk is full")]
    Full,
    /// The operating system refused.
    #[error("storage failed: {message}")]
    Io {
        /// The kind of failure.
        kind: io::ErrorKind,
        /// What it said.
        message: String,
    },
    /// A commit failed earlier: [`Store::reopen`](super::Store::reopen) first.
    #[error("storage failed earlier and has to be reopened")]
    NeedsReopen,
    /// The database was closed, or reopened since this snapshot was taken.
    #[error("this view of the database is closed")]
    Closed,
    /// Snapshots are alive that this operation can't work around.
    #[error("the database is in use")]
    Busy,
}

impl StorageError {
    /// A stored key or value that this software did not write.
    pub const fn corrupt(table: &'static str, why: &'static str) -> Self {
        Self::Corrupt { table, why: Cow::Borrowed(why) }
    }

    pub(super) fn from_redb(table: &'static str, e: redb::Error) -> Self {
        match e {
            redb::Error::Io(e) => Self::from_io(table, &e),
            redb::Error::PreviousIo | redb::Error::LockPoisoned(_) => Self::NeedsReopen,
            redb::Error::DatabaseClosed => Self::Closed,
            redb::Error::TransactionInProgress => Self::Busy,
            other => Self::Corrupt { table, why: other.to_string().into() },
        }
    }

    fn from_io(table: &'static str, e: &io::Error) -> Self {
        match e.kind() {
            io::ErrorKind::StorageFull => Self::Full,
            // Only reading past the end of a truncated file gives this.
            io::ErrorKind::UnexpectedEof => Self::corrupt(table, "the file is truncated"),
            kind => Self::Io { kind, message: e.to_string() },
        }
    }
}

impl OpenError {
    pub(super) fn io(action: impl Into<Cow<'static, str>>, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::StorageFull {
            return Self::Full;
        }
        Self::Io { action: action.into(), source }
    }

    pub(super) fn corrupt(why: impl Into<Cow<'static, str>>) -> Self {
        Self::Corrupt { why: why.into() }
    }
}

impl From<redb::Error> for OpenError {
    fn from(e: redb::Error) -> Self {
        match e {
            redb::Error::DatabaseAlreadyOpen => Self::Locked { pid: None },
            redb::Error::Io(e) => match e.kind() {
                io::ErrorKind::InvalidData => Self::corrupt("not a Teahouse database"),
                io::ErrorKind::UnexpectedEof => Self::corrupt("the file is truncated"),
                _ => Self::io("open the database", e),
            },
            redb::Error::PreviousIo | redb::Error::DatabaseClosed => {
                Self::io("open the database", io::Error::other(e))
            }
            other => Self::corrupt(other.to_string()),
        }
    }
}

/// Runs `work` on redb. redb may panic on a file that was altered from outside (its
/// `Database::open` says so); here that is an error like any other damage.
pub(super) fn guarded<T>(
    table: &'static str,
    work: impl FnOnce() -> Result<T, redb::Error>,
) -> Result<T, StorageError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|e| StorageError::from_redb(table, e)),
        Err(_) => Err(StorageError::corrupt(table, PANICKED)),
    }
}

pub(super) const PANICKED: &str = "reading it panicked";
