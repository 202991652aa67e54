//! What programs keep: bounded values under keys of their own, on this device.
//!
//! Every row's key begins with the program's id, and nobody passes a key without one: no
//! program reaches another's.

use teahouse_protocols::ids::AppId;

use super::tables::{PROGRAM_ROOM, PROGRAM_STORAGE, Room};
use crate::command::Refusal;
use crate::store::{Key, KeyRange, Read, ReadExt, StorageError, Table};
use crate::tx::{Fail, Tx};

/// Longest key, in bytes.
pub const MAX_KEY: usize = 128;
/// Longest value, in bytes.
pub const MAX_VALUE: usize = 64 * 1024;
/// Most keys of one program.
pub const MAX_KEYS: u64 = 1_024;
/// Most bytes of keys and values of one program.
pub const MAX_ROOM: u64 = 4 * 1024 * 1024;

/// A place where programs keep things: two tables and their bounds.
pub(crate) struct Shelf {
    /// program, key → value (raw).
    pub(crate) rows: &'static Table,
    /// program → [`Room`].
    pub(crate) room: &'static Table,
    /// Most keys of one program.
    pub(crate) keys: u64,
    /// Most bytes of its keys and values.
    pub(crate) bytes: u64,
}

/// What programs keep on the device of who uses them.
pub(super) const OWN: Shelf =
    Shelf { rows: &PROGRAM_STORAGE, room: &PROGRAM_ROOM, keys: MAX_KEYS, bytes: MAX_ROOM };

fn place(app: AppId, key: &str) -> Vec<u8> {
    Key::new().fixed(&app.0).rest(key.as_bytes()).into_bytes()
}

impl Shelf {
    /// Keeps a value, or drops what is there.
    pub(crate) fn put(
        &self,
        tx: &mut Tx<'_>,
        app: AppId,
        key: &str,
        value: Option<Vec<u8>>,
    ) -> Result<(), Fail> {
        let invalid = |why: &str| Fail::from(Refusal::Invalid { why: why.into() });
        if key.is_empty() || key.len() > MAX_KEY {
            return Err(invalid("a key has 1 to 128 bytes"));
        }
        if value.as_ref().is_some_and(|v| v.len() > MAX_VALUE) {
            return Err(invalid("a value has at most 64 KiB"));
        }
        let place = place(app, key);
        let before = tx.get(self.rows, &place)?;
        let mut room: Room = tx.typed(self.room, &app.0)?.unwrap_or_default();
        let size = |value: &[u8]| (key.len() + value.len()) as u64;
        if let Some(old) = &before {
            room.keys = room.keys.saturating_sub(1);
            room.bytes = room.bytes.saturating_sub(size(old));
        }
        match value {
            Some(value) => {
                room.keys += 1;
                room.bytes += size(&value);
                let limit = |what: &str, max| Refusal::Limit { what: what.into(), max };
                if room.keys > self.keys {
                    return Err(limit("things that a program keeps", self.keys).into());
                }
                if room.bytes > self.bytes {
                    return Err(limit("bytes that a program keeps", self.bytes).into());
                }
                tx.put_raw(self.rows, &place, value)?;
            }
            None => tx.del(self.rows, &place)?,
        }
        Ok(tx.put(self.room, &app.0, &room)?)
    }

    /// A value.
    pub(crate) fn get(
        &self,
        read: &dyn Read,
        app: AppId,
        key: &str,
    ) -> Result<Option<Vec<u8>>, StorageError> {
        if key.is_empty() || key.len() > MAX_KEY {
            return Ok(None);
        }
        read.get(self.rows, &place(app, key))
    }

    /// The keys that begin so, in order, [`MAX_KEYS`] at most.
    pub(crate) fn keys(
        &self,
        read: &dyn Read,
        app: AppId,
        prefix: &str,
    ) -> Result<Vec<String>, StorageError> {
        if prefix.len() > MAX_KEY {
            return Ok(Vec::new());
        }
        let range = KeyRange::prefix(&place(app, prefix));
        let rows = read.scan(self.rows, &range, false, MAX_KEYS as usize)?;
        let key = |key: Vec<u8>| String::from_utf8(key.get(32..)?.to_vec()).ok();
        Ok(rows.into_iter().filter_map(|(k, _)| key(k)).collect())
    }

    /// How much a program keeps.
    pub(crate) fn room(&self, read: &dyn Read, app: AppId) -> Result<Room, StorageError> {
        Ok(read.get_typed(self.room, &app.0)?.unwrap_or_default())
    }
}

/// Forgets all that a program keeps.
pub(super) fn clear(tx: &mut Tx<'_>, app: AppId) -> Result<(), StorageError> {
    let rows = tx.scan(&PROGRAM_STORAGE, &KeyRange::prefix(&app.0), false, MAX_KEYS as usize)?;
    for (key, _) in rows {
        tx.del(&PROGRAM_STORAGE, &key)?;
    }
    tx.del(&PROGRAM_ROOM, &app.0)
}
