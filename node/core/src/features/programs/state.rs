//! What the members of a chat share through a program: entries in the chat's own log.
//!
//! So members, keys, removals and sync are the chat's, and nothing is added for a program. A
//! device writes under its own keys, with a Lamport number; the rows choose. Each write stays
//! in the log for good, on every member's devices: what this device writes for a program is
//! counted, by the day. What a modified device of a member writes beyond these bounds costs no
//! more than its messages would; queries answer a bounded part of it.

use serde::{Deserialize, Serialize};
use teahouse_crdt::ChatEntry;
use teahouse_crdt::TypedEntry;
use teahouse_crdt::chat::{MAX_STATE_KEY_BYTES, is_state};
use teahouse_crdt::segment::Entry;
use teahouse_protocols::ids::{AppId, DeviceId, Millis, TopicId};
use teahouse_protocols::package::Power;

use super::granted;
use super::tables::{PROGRAM_STATE, PROGRAM_STATE_ROOM, PROGRAM_STATE_SPENT, Room};
pub use teahouse_crdt::chat::MAX_STATE_BYTES;

use crate::command::{Refusal, Reply};
use crate::engine::letters;
use crate::features::{Applied, chat, choose, next_lamport};
use crate::store::{Key, KeyRange, Read, ReadExt, StorageError};
use crate::tables::Chosen;
use crate::tx::{Fail, Tx};

/// Most keys that a program shares in one chat.
pub const MAX_STATE_KEYS: u64 = 1_024;
/// Most bytes of keys and values that a program shares in one chat.
pub const MAX_STATE_ROOM: u64 = 1024 * 1024;
/// Writes of one program in one chat by this device, a day.
pub const MAX_STATE_WRITES: u32 = 1_000;
/// Bytes of them.
pub const MAX_STATE_WRITTEN: u64 = 2 * 1024 * 1024;
/// What each write takes beside key and value, about: header, signature, seals.
const OVERHEAD: u64 = 512;
const DAY: Millis = 24 * 60 * 60 * 1000;

/// What this device wrote for a program in a chat on one day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// The day, counted from 1970.
    day: u64,
    writes: u32,
    bytes: u64,
}

/// One key, and who wrote it last: what tells a program that something has changed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Stamp {
    /// The key.
    pub key: String,
    /// The device.
    pub device: DeviceId,
    /// The number of its envelope.
    pub seq: u64,
}

fn prefix(topic: TopicId, app: AppId) -> Key {
    Key::new().fixed(&topic.0).fixed(&app.0)
}

fn place(topic: TopicId, app: AppId, key: &str) -> Vec<u8> {
    prefix(topic, app).rest(key.as_bytes()).into_bytes()
}

/// Program first: what was counted goes with it.
fn spent_key(app: AppId, topic: TopicId) -> Vec<u8> {
    Key::new().fixed(&app.0).fixed(&topic.0).into_bytes()
}

/// Writes a value for all members. Whether one is a member is the engine's to say.
pub(super) fn put(
    tx: &mut Tx<'_>,
    app: AppId,
    topic: TopicId,
    key: String,
    value: Vec<u8>,
) -> Result<Reply, Fail> {
    let invalid = |why: &str| Fail::from(Refusal::Invalid { why: why.into() });
    let limit = |what: &str, max| Fail::from(Refusal::Limit { what: what.into(), max });
    if key.is_empty() || key.len() > MAX_STATE_KEY_BYTES {
        return Err(invalid("a key has 1 to 128 bytes"));
    }
    if value.len() > MAX_STATE_BYTES {
        return Err(invalid("what a program shares has at most 16 KiB"));
    }
    if granted(tx, app, Power::State)? != Some(true) {
        let why = "the program may not share things with the members of a chat".into();
        return Err(Refusal::NotAllowed { why }.into());
    }
    let size = (key.len() + value.len()) as u64;
    let before: Option<Chosen<Vec<u8>>> = tx.typed(&PROGRAM_STATE, &place(topic, app, &key))?;
    if before.as_ref().is_some_and(|b| b.value == value) {
        return Ok(Reply::Done);
    }
    let room = room(tx, topic, app)?;
    let freed = before.as_ref().map_or(0, |b| (key.len() + b.value.len()) as u64);
    if before.is_none() && room.keys >= MAX_STATE_KEYS {
        return Err(limit("keys that a program shares in a chat", MAX_STATE_KEYS));
    }
    if room.bytes.saturating_sub(freed) + size > MAX_STATE_ROOM {
        return Err(limit("bytes that a program shares in a chat", MAX_STATE_ROOM));
    }
    let spent_key = spent_key(app, topic);
    let day = tx.now / DAY;
    let spent: Option<Spent> = tx.typed(&PROGRAM_STATE_SPENT, &spent_key)?;
    let mut spent = spent.filter(|s| s.day == day).unwrap_or(Spent { day, ..Spent::default() });
    spent.writes = spent.writes.saturating_add(1);
    spent.bytes = spent.bytes.saturating_add(size + OVERHEAD);
    if spent.writes > MAX_STATE_WRITES {
        return Err(limit("writes of a program into a chat a day", u64::from(MAX_STATE_WRITES)));
    }
    if spent.bytes > MAX_STATE_WRITTEN {
        return Err(limit("bytes that a program writes into a chat a day", MAX_STATE_WRITTEN));
    }
    let lamport = next_lamport(tx, topic)?;
    chat::require_open(tx, topic)?;
    let entry = ChatEntry::State { app: app.0, key, value, lamport };
    let message = letters::append(tx, topic, &[], |seq, _| {
        Ok(vec![entry.to_entry(seq).map_err(chat::invalid)?])
    })?;
    tx.put(&PROGRAM_STATE_SPENT, &spent_key, &spent)?;
    Ok(Reply::Message { topic, message })
}

/// Takes in what somebody wrote.
pub(super) fn apply(
    tx: &mut Tx<'_>,
    change: &Applied<'_>,
    entry: &Entry,
) -> Result<(), StorageError> {
    if !is_state(entry) {
        return Ok(());
    }
    let Ok(ChatEntry::State { app, key, value, lamport }) =
        ChatEntry::from_entry(change.seq, entry)
    else {
        return Ok(());
    };
    let (topic, app) = (change.topic, AppId(app));
    let place = place(topic, app, &key);
    let row = |tx: &Tx<'_>| -> Result<Option<u64>, StorageError> {
        let row: Option<Chosen<Vec<u8>>> = tx.typed(&PROGRAM_STATE, &place)?;
        Ok(row.map(|r| (key.len() + r.value.len()) as u64))
    };
    let before = row(tx)?;
    choose(tx, &PROGRAM_STATE, &place, change, lamport, value)?;
    let after = row(tx)?;
    // The sum over the rows as they are: the same in whichever order they came to be so.
    let mut room = room(tx, topic, app)?;
    room.keys = room.keys + u64::from(after.is_some()) - u64::from(before.is_some());
    room.bytes = (room.bytes + after.unwrap_or(0)).saturating_sub(before.unwrap_or(0));
    tx.put(&PROGRAM_STATE_ROOM, &prefix(topic, app).into_bytes(), &room)
}

fn room(read: &dyn Read, topic: TopicId, app: AppId) -> Result<Room, StorageError> {
    Ok(read.get_typed(&PROGRAM_STATE_ROOM, &prefix(topic, app).into_bytes())?.unwrap_or_default())
}

/// A value.
pub(super) fn get(
    read: &dyn Read,
    topic: TopicId,
    app: AppId,
    key: &str,
) -> Result<Option<Vec<u8>>, StorageError> {
    if key.is_empty() || key.len() > MAX_STATE_KEY_BYTES {
        return Ok(None);
    }
    let row: Option<Chosen<Vec<u8>>> = read.get_typed(&PROGRAM_STATE, &place(topic, app, key))?;
    Ok(row.map(|r| r.value))
}

/// The keys that begin so, in order, each with who wrote it last: the first
/// [`MAX_STATE_KEYS`].
pub(super) fn stamps(
    read: &dyn Read,
    topic: TopicId,
    app: AppId,
    begin: &str,
) -> Result<Vec<Stamp>, StorageError> {
    if begin.len() > MAX_STATE_KEY_BYTES {
        return Ok(Vec::new());
    }
    let range = KeyRange::prefix(&place(topic, app, begin));
    let rows: Vec<(Vec<u8>, Chosen<Vec<u8>>)> =
        read.scan_typed(&PROGRAM_STATE, &range, false, MAX_STATE_KEYS as usize)?;
    let stamp = |(key, row): (Vec<u8>, Chosen<Vec<u8>>)| {
        let key = String::from_utf8(key.get(64..)?.to_vec()).ok()?;
        Some(Stamp { key, device: row.device, seq: row.seq })
    };
    Ok(rows.into_iter().filter_map(stamp).collect())
}

/// Forgets what was counted.
pub(super) fn clear(tx: &mut Tx<'_>, app: AppId) -> Result<(), StorageError> {
    for (key, _) in tx.scan(&PROGRAM_STATE_SPENT, &KeyRange::prefix(&app.0), false, 4_096)? {
        tx.del(&PROGRAM_STATE_SPENT, &key)?;
    }
    Ok(())
}
