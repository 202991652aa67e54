//! Moments: posts to friends, and words on them that only mutual friends can read.
//!
//! Each audience of an account has a topic of its own, in which only the account's devices
//! write. To whom a topic is shown stands in a record that the account's devices share
//! ([`Audience`]); the engine welcomes those readers (`engine::topics`). A word on
//! somebody's post stands in its author's own topic for all friends, sealed once more for the
//! post's circle ([`teahouse_protocols::moments`]); opening is the query's.
//!
//! - `command`: what can be asked for.
//! - `tables`: the rows.
//! - `words`: sealing and opening words.
//! - `query`: the timeline.

mod command;
pub mod query;
pub mod tables;
mod words;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use teahouse_crdt::segment::Entry;
use teahouse_crdt::{MomentsEntry, TypedEntry};
use teahouse_protocols::bugs::planted;
use teahouse_protocols::ids::{AccountId, DeviceId, TopicId};
use teahouse_protocols::membership::TopicKind;

use crate::command::MessageId;
use crate::features::{Applied, Feature, choose, letters_erased, photos};
use crate::query::Asked;
use crate::store::{Key, KeyRange, Read, ReadExt, StorageError};
use crate::tables::{CONTACTS, Chosen, ContactValue, LAMPORT, RECORDS, log_key, record_key};
use crate::tx::Tx;

use self::tables::{CIRCLES, DELETED, POSTS, PostRow, TIMELINE, WORDS, WORDS_ON, WordRow, placed};

pub use self::command::Command;
pub(crate) use self::command::{command, renew};

/// The feature's name, as in [`RECORDS`].
const NAME: &str = "moments";

/// Most accounts that an audience names.
pub const MAX_NAMED: usize = 512;
/// Most audiences, each a topic, of one account.
pub const MAX_AUDIENCES: usize = 1_024;

pub(crate) const FEATURE: Feature = Feature {
    name: NAME,
    kinds: &[TopicKind::Moments],
    apply,
    projects: &[&POSTS, &WORDS, &DELETED, &CIRCLES, &LAMPORT, &photos::PHOTOS, &photos::PREVIEWS],
    forget: Some(forget),
    tables: tables::ALL,
    queries: &[Asked::of::<query::Timeline>(), Asked::of::<query::OnePost>()],
    ..Feature::NONE
};

/// Who may see a topic's posts, beside their author.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Audience {
    /// All friends.
    Friends,
    /// All friends but these, ascending.
    Except(Vec<AccountId>),
    /// Of these, ascending, whoever is a friend; nobody else.
    Only(Vec<AccountId>),
}

impl Audience {
    fn allows(&self, account: &AccountId) -> bool {
        match self {
            Self::Friends => true,
            _ if planted("audience_leak") => true,
            Self::Except(list) => !list.contains(account),
            Self::Only(list) => list.contains(account),
        }
    }
}

/// Whom a topic of this account is shown to.
pub(crate) fn shown_to(read: &dyn Read, topic: TopicId) -> Result<Option<Audience>, StorageError> {
    let row: Option<Chosen<Vec<u8>>> = read.get_typed(&RECORDS, &record_key(NAME, &topic.0))?;
    // What a newer version wrote is shown to nobody here.
    Ok(row.and_then(|r| postcard::from_bytes(&r.value).ok()))
}

/// Whether an account may see this account's posts in a topic.
pub(crate) fn shows(
    read: &dyn Read,
    topic: TopicId,
    account: AccountId,
) -> Result<bool, StorageError> {
    let Some(audience) = shown_to(read, topic)? else { return Ok(false) };
    let contact: Option<Chosen<ContactValue>> = read.get_typed(&CONTACTS, &account.0)?;
    Ok(contact.is_some_and(|c| c.value.friend && !c.value.blocked) && audience.allows(&account))
}

/// Whether an account is meant to see this account's posts in a topic while it is a friend.
pub(crate) fn allows(
    read: &dyn Read,
    topic: TopicId,
    account: AccountId,
) -> Result<bool, StorageError> {
    Ok(shown_to(read, topic)?.is_some_and(|a| a.allows(&account)))
}

/// All accounts that may see this account's posts in a topic.
pub(crate) fn audience(
    read: &dyn Read,
    topic: TopicId,
) -> Result<BTreeSet<AccountId>, StorageError> {
    let Some(audience) = shown_to(read, topic)? else { return Ok(BTreeSet::new()) };
    let mut all = friends(read)?;
    all.retain(|account| audience.allows(account));
    Ok(all)
}

/// Friends who are not blocked.
fn friends(read: &dyn Read) -> Result<BTreeSet<AccountId>, StorageError> {
    let rows: Vec<(Vec<u8>, Chosen<ContactValue>)> =
        read.scan_typed(&CONTACTS, &KeyRange::all(), false, 65_536)?;
    Ok(rows
        .into_iter()
        .filter(|(_, c)| c.value.friend && !c.value.blocked)
        .filter_map(|(key, _)| Some(AccountId(key.try_into().ok()?)))
        .collect())
}

fn apply(tx: &mut Tx<'_>, change: &Applied<'_>, entry: &Entry) -> Result<(), StorageError> {
    // A newer version's entries show nothing here, and nonsense shows nothing anywhere.
    let Ok(entry) = MomentsEntry::from_entry(change.seq, entry) else { return Ok(()) };
    let (topic, id) = (change.topic, change.id());
    let key = log_key(topic, id.device, id.seq);
    match entry {
        MomentsEntry::Post { body, key: post_key } => {
            let Some(first) = change.header.bodies.iter().position(|h| h.0 == body) else {
                return Ok(());
            };
            let bodies = change.header.bodies.len() as u8;
            if tx.contains(&DELETED, &key)? && !planted("deleted_post_returns") {
                return letters_erased(tx, topic, id, 0..bodies);
            }
            let said = photos::put(tx, change, first)?;
            let row = PostRow {
                account: change.account,
                key: post_key,
                time: change.time,
                text: said.map(|s| s.text.into_inner()),
                body: first as u8,
                bodies,
            };
            tx.put(&POSTS, &key, &row)?;
            tx.put_raw(&TIMELINE, &placed(Key::new().u64(row.time), topic.0, id), Vec::new())
        }
        MomentsEntry::Word { on, hints, sealed } => {
            if tx.contains(&DELETED, &key)? {
                return Ok(());
            }
            let row = WordRow { account: change.account, on, hints, sealed, time: change.time };
            tx.put(&WORDS, &key, &row)?;
            tx.put_raw(&WORDS_ON, &placed(Key::new().fixed(&on), topic.0, id), Vec::new())
        }
        MomentsEntry::Delete { target } => {
            let id = MessageId { device: DeviceId(target.device), seq: target.seq };
            tx.put_raw(&DELETED, &log_key(topic, id.device, id.seq), Vec::new())?;
            drop_post(tx, topic, id)?;
            drop_word(tx, topic, id)
        }
        MomentsEntry::Circle { lamport } => {
            choose(tx, &CIRCLES, &topic.0, change, lamport, change.header.epoch)
        }
    }
}

fn drop_post(tx: &mut Tx<'_>, topic: TopicId, id: MessageId) -> Result<(), StorageError> {
    let key = log_key(topic, id.device, id.seq);
    let Some(row) = tx.typed::<PostRow>(&POSTS, &key)? else { return Ok(()) };
    tx.del(&POSTS, &key)?;
    unlist(tx, topic, id, &row)?;
    photos::forget(tx, topic, id)?;
    letters_erased(tx, topic, id, 0..row.bodies)
}

fn unlist(
    tx: &mut Tx<'_>,
    topic: TopicId,
    id: MessageId,
    row: &PostRow,
) -> Result<(), StorageError> {
    tx.del(&TIMELINE, &placed(Key::new().u64(row.time), topic.0, id))
}

fn drop_word(tx: &mut Tx<'_>, topic: TopicId, id: MessageId) -> Result<(), StorageError> {
    let key = log_key(topic, id.device, id.seq);
    let Some(row) = tx.typed::<WordRow>(&WORDS, &key)? else { return Ok(()) };
    tx.del(&WORDS, &key)?;
    tx.del(&WORDS_ON, &placed(Key::new().fixed(&row.on), topic.0, id))
}

/// Rows that do not begin with the topic.
fn forget(tx: &mut Tx<'_>, topic: TopicId) -> Result<(), StorageError> {
    let place = |key: &[u8]| -> Option<MessageId> {
        let (device, seq) = key.get(32..)?.split_first_chunk::<32>()?;
        Some(MessageId { device: DeviceId(*device), seq: u64::from_be_bytes(seq.try_into().ok()?) })
    };
    let mut range = KeyRange::prefix(&topic.0);
    loop {
        let rows: Vec<(Vec<u8>, PostRow)> = tx.scan_typed(&POSTS, &range, false, 1_024)?;
        let Some((last, _)) = rows.last() else { break };
        range = range.after(&last.clone());
        for (key, row) in rows {
            if let Some(id) = place(&key) {
                unlist(tx, topic, id, &row)?;
            }
        }
    }
    let mut range = KeyRange::prefix(&topic.0);
    loop {
        let rows: Vec<(Vec<u8>, WordRow)> = tx.scan_typed(&WORDS, &range, false, 1_024)?;
        let Some((last, _)) = rows.last() else { break };
        range = range.after(&last.clone());
        for (key, row) in rows {
            if let Some(id) = place(&key) {
                tx.del(&WORDS_ON, &placed(Key::new().fixed(&row.on), topic.0, id))?;
            }
        }
    }
    Ok(())
}
