//! The private topic: entries that this account's devices write to each other.

use teahouse_crdt::{PrivateEntry, TypedEntry};
use teahouse_protocols::ids::TopicId;

use crate::command::{Refusal, Reply};
use crate::engine::letters;
use crate::features::chat::invalid;
use crate::features::next_lamport;
use crate::store::StorageError;
use crate::tables::{Chosen, SECRETS};
use crate::tx::{Fail, Tx};

/// The private topic of this account.
pub(crate) fn private_topic(tx: &mut Tx<'_>) -> Result<TopicId, Fail> {
    tx.me()?.private.ok_or_else(|| {
        Refusal::NotAllowed { why: "this device is still taking over the account".into() }.into()
    })
}

/// Writes one entry into the private topic.
pub(crate) fn write(tx: &mut Tx<'_>, entry: PrivateEntry) -> Result<Reply, Fail> {
    let topic = private_topic(tx)?;
    letters::append(tx, topic, &[], |seq, _| Ok(vec![entry.to_entry(seq).map_err(invalid)?]))?;
    Ok(Reply::Done)
}

/// Keeps something of a feature's, for all devices of this account; empty to drop it.
pub(crate) fn put_record(
    tx: &mut Tx<'_>,
    feature: &str,
    id: [u8; 32],
    value: Vec<u8>,
) -> Result<(), Fail> {
    let topic = private_topic(tx)?;
    let lamport = next_lamport(tx, topic)?;
    write(tx, PrivateEntry::Record { feature: feature.to_owned(), id, value, lamport })?;
    Ok(())
}

/// Keeps a key for all devices of this account; empty to drop it.
pub(crate) fn put_secret(tx: &mut Tx<'_>, name: &str, value: Vec<u8>) -> Result<(), Fail> {
    let topic = private_topic(tx)?;
    let lamport = next_lamport(tx, topic)?;
    write(tx, PrivateEntry::Secret { name: name.to_owned(), value, lamport })?;
    Ok(())
}

/// A key that all devices of this account hold.
pub(crate) fn secret(tx: &Tx<'_>, name: &str) -> Result<Option<Vec<u8>>, StorageError> {
    let row: Option<Chosen<Vec<u8>>> = tx.typed(&SECRETS, name.as_bytes())?;
    Ok(row.map(|r| r.value).filter(|v| !v.is_empty()))
}
