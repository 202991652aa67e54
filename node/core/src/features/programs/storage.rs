//! What programs keep: bounded values under keys of their own, on this device.
//!
//! Every row's key begins with the program's id, and nobody passes a key without one: no
//! program reaches another's.

use teahouse_protocols::ids::AppId;

use super::tables::{PROGRAM_ROOM, PROGRAM_STORAGE, Room};
use crate::command::Refusal;
use crate::store::{Key, KeyRange, Read, ReadExt, StorageError};
use crate::tx::{Fail, Tx};

/// Longest key, in bytes.
pub const MAX_KEY: usize = 128;
/// Longest value, in bytes.
pub const MAX_VALUE: usize = 64 * 1024;
/// Most keys of one program.
pub const MAX_KEYS: u64 = 1_024;
/// Most bytes of keys and values of one program.
pub const MAX_ROOM: u64 = 4 * 1024 * 1024;

fn place(app: AppId, key: &str) -> Vec<u8> {
    Key::new().fixed(&app.0).rest(key.as_bytes()).into_bytes()
}

/// Keeps a value, or drops what is there.
pub(super) fn put(
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
    let before = tx.get(&PROGRAM_STORAGE, &place)?;
    let mut room: Room = tx.typed(&PROGRAM_ROOM, &app.0)?.unwrap_or_default();
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
            if room.keys > MAX_KEYS {
                return Err(limit("things that a program keeps", MAX_KEYS).into());
            }
            if room.bytes > MAX_ROOM {
                return Err(limit("bytes that a program keeps", MAX_ROOM).into());
            }
            tx.put_raw(&PROGRAM_STORAGE, &place, value)?;
        }
        None => tx.del(&PROGRAM_STORAGE, &place)?,
    }
    Ok(tx.put(&PROGRAM_ROOM, &app.0, &room)?)
}

/// A value.
pub(super) fn get(read: &dyn Read, app: AppId, key: &str) -> Result<Option<Vec<u8>>, StorageError> {
    if key.is_empty() || key.len() > MAX_KEY {
        return Ok(None);
    }
    read.get(&PROGRAM_STORAGE, &place(app, key))
}

/// The keys that begin so, in order.
pub(super) fn keys(read: &dyn Read, app: AppId, prefix: &str) -> Result<Vec<String>, StorageError> {
    if prefix.len() > MAX_KEY {
        return Ok(Vec::new());
    }
    let range = KeyRange::prefix(&place(app, prefix));
    let rows = read.scan(&PROGRAM_STORAGE, &range, false, MAX_KEYS as usize)?;
    let key = |key: Vec<u8>| String::from_utf8(key.get(32..)?.to_vec()).ok();
    Ok(rows.into_iter().filter_map(|(k, _)| key(k)).collect())
}

/// Forgets all that a program keeps.
pub(super) fn clear(tx: &mut Tx<'_>, app: AppId) -> Result<(), StorageError> {
    let rows = tx.scan(&PROGRAM_STORAGE, &KeyRange::prefix(&app.0), false, MAX_KEYS as usize)?;
    for (key, _) in rows {
        tx.del(&PROGRAM_STORAGE, &key)?;
    }
    tx.del(&PROGRAM_ROOM, &app.0)
}
