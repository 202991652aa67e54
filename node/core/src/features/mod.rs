//! Features: what people see, each a module of one shape over the engine.
//!
//! - `command` decides and appends through the engine; it writes no rows.
//! - `apply` is the only writer of the feature's rows. It sees own and others' changes
//!   alike, in any order, and must come to the same rows in every order.
//! - queries read rows (`crate::query`).
//!
//! - `service`, where it answers other devices (`services`).
//!
//! To add a feature: write its module and a `FEATURE`; name it here, in `commands!` and in
//! [`FEATURES`]. Nothing else of this crate goes by a list of features.

pub(crate) mod chat;
pub(crate) mod contacts;
pub mod contents;
pub(crate) mod devices;
pub mod feeds;
pub mod functions;
pub(crate) mod groups;
pub mod moments;
pub mod pay;
pub mod photos;
pub mod programs;
pub mod replies;
pub(crate) mod services;
#[cfg(test)]
mod tests;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use teahouse_crdt::segment::Entry;
use teahouse_protocols::envelope::Header;
use teahouse_protocols::ids::{AccountId, DeviceId, Millis, TopicId};
use teahouse_protocols::membership::{Role, TopicKind};

use crate::command::{self, MessageId, Reply};
use crate::features::services::Service;
use crate::query::Asked;
use crate::store::{StorageError, Table};
use crate::tables::{BODIES, Chosen, LAMPORT, MISSING_BODIES, body_key};
use crate::tx::{Fail, Tx};

/// A change that counts, opened: what `apply` sees.
pub(crate) struct Applied<'a> {
    pub(crate) topic: TopicId,
    pub(crate) kind: TopicKind,
    pub(crate) account: AccountId,
    pub(crate) device: DeviceId,
    pub(crate) seq: u64,
    /// The author's role when it wrote.
    pub(crate) role: Role,
    /// For display: min(claimed, received).
    pub(crate) time: Millis,
    pub(crate) header: &'a Header,
    /// Opened bodies in header order; `None` while missing.
    pub(crate) bodies: &'a [Option<Vec<u8>>],
}

impl Applied<'_> {
    pub(crate) const fn id(&self) -> MessageId {
        MessageId { device: self.device, seq: self.seq }
    }
}

/// Clears rows of a topic that do not begin with it.
pub(crate) type Forget = fn(&mut Tx<'_>, TopicId) -> Result<(), StorageError>;

/// Writes rows for one entry; ignores entries that are not the feature's own.
pub(crate) type Apply = fn(&mut Tx<'_>, &Applied<'_>, &Entry) -> Result<(), StorageError>;

/// Does what is due; returns when to look again.
pub(crate) type Tend = fn(&mut Tx<'_>) -> Result<Option<Millis>, Fail>;

/// What a feature gives the node.
pub(crate) struct Feature {
    /// As in `crate::tables::RECORDS`, and for the reader.
    #[allow(dead_code)]
    pub(crate) name: &'static str,
    /// Kinds of topics that it looks at.
    pub(crate) kinds: &'static [TopicKind],
    /// What it makes of their entries.
    pub(crate) apply: Apply,
    /// Projections that begin with the topic in their key, and are cleared with it.
    pub(crate) projects: &'static [&'static Table],
    /// Clears what else follows from a topic's rows, before these are cleared.
    pub(crate) forget: Option<Forget>,
    /// Tables that it declares.
    pub(crate) tables: &'static [&'static Table],
    /// Questions that it answers.
    pub(crate) queries: &'static [Asked],
    /// Its half that answers other devices.
    pub(crate) service: Option<Service>,
    /// What is due by now, asked at the end of every batch; when to look again.
    pub(crate) tend: Option<Tend>,
}

impl Feature {
    /// One that gives nothing, to fill in.
    pub(crate) const NONE: Self = Self {
        name: "",
        kinds: &[],
        apply: |_, _, _| Ok(()),
        projects: &[],
        forget: None,
        tables: &[],
        queries: &[],
        service: None,
        tend: None,
    };
}

/// All features, in the order they see an entry.
pub(crate) static FEATURES: &[Feature] = &[
    chat::FEATURE,
    groups::FEATURE,
    contacts::FEATURE,
    photos::FEATURE,
    contents::FEATURE,
    moments::FEATURE,
    feeds::FEATURE,
    replies::FEATURE,
    pay::FEATURE,
    programs::FEATURE,
    functions::FEATURE,
];

/// Declares what a person can ask of which feature, and who decides it.
macro_rules! commands {
    ($($(#[$doc:meta])* $name:ident($of:ty) => $decide:path;)*) => {
        /// A command.
        #[derive(Debug, Clone, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Command {
            $($(#[$doc])* $name($of),)*
        }

        /// Decides a command.
        pub(crate) fn decide(tx: &mut Tx<'_>, command: Command) -> Result<Reply, Fail> {
            match command {
                $(Command::$name(c) => $decide(tx, c),)*
            }
        }
    };
}

commands! {
    /// The account and its devices.
    Devices(command::Devices) => devices::command;
    /// People.
    Contacts(command::Contacts) => contacts::command;
    /// Messages.
    Chat(command::Chat) => chat::command;
    /// Groups.
    Groups(command::Groups) => groups::command;
    /// The relays of this account.
    Relays(command::Relays) => contacts::relays;
    /// Moments.
    Moments(moments::Command) => moments::command;
    /// Official Accounts.
    Feeds(feeds::Command) => feeds::command;
    /// Automatic replies.
    Replies(replies::Command) => replies::command;
    /// Payments.
    Pay(pay::Command) => pay::command;
    /// Mini Programs.
    Programs(programs::Command) => programs::command;
    /// Functions of Mini Programs.
    Functions(functions::Command) => functions::command;
}

/// Tables that features declare themselves.
pub(crate) fn tables() -> impl Iterator<Item = &'static Table> {
    FEATURES.iter().flat_map(|f| f.tables).copied()
}

/// Hands one change's entries to the features of its topic's kind.
pub(crate) fn apply(
    tx: &mut Tx<'_>,
    change: &Applied<'_>,
    entries: &[Entry],
) -> Result<(), StorageError> {
    for entry in entries {
        for feature in FEATURES {
            if feature.kinds.contains(&change.kind) {
                (feature.apply)(tx, change, entry)?;
            }
        }
    }
    Ok(())
}

/// Erases bodies of an envelope: what they said was taken back.
pub(crate) fn letters_erased(
    tx: &mut Tx<'_>,
    topic: TopicId,
    id: MessageId,
    bodies: std::ops::Range<u8>,
) -> Result<(), StorageError> {
    // What is erased is not missing: the chain may be whole with it, and acknowledged.
    tx.mem.acks_due.insert(topic);
    for index in bodies {
        let key = body_key(topic, id.device, id.seq, index);
        tx.del(&MISSING_BODIES, &key)?;
        tx.del(&BODIES, &key)?;
    }
    Ok(())
}

/// The highest Lamport number that counts. Nobody gets there by counting; a member that
/// lies its way there leaves the others able to go on (see [`rank`]).
pub(crate) const MAX_LAMPORT: u64 = 1 << 48;

/// Puts a shared field's value if it ranks above what is there. A number beyond
/// [`MAX_LAMPORT`] is no number: the entry shows nothing, on every replica alike.
pub(crate) fn choose<T: Serialize + DeserializeOwned>(
    tx: &mut Tx<'_>,
    table: &'static Table,
    key: &[u8],
    change: &Applied<'_>,
    lamport: u64,
    value: T,
) -> Result<(), StorageError> {
    if lamport > MAX_LAMPORT {
        return Ok(());
    }
    saw_lamport(tx, change.topic, lamport)?;
    let candidate = Chosen { lamport, device: change.device, seq: change.seq, value };
    let now: Option<Chosen<T>> = tx.typed(table, key)?;
    if now.is_none_or(|now| rank(&candidate) >= rank(&now)) {
        tx.put(table, key, &candidate)?;
    }
    Ok(())
}

/// What shared fields are chosen by: highest Lamport number, then device, then envelope of
/// that device; a total order, so that the order of arrival decides nothing. Where numbers
/// have run out, whoever wrote more goes before the device: else one device would keep the
/// last word for ever.
pub(crate) fn rank<T>(c: &Chosen<T>) -> (u64, u64, DeviceId, u64) {
    let exhausted = if c.lamport >= MAX_LAMPORT { c.seq } else { 0 };
    (c.lamport, exhausted, c.device, c.seq)
}

fn saw_lamport(tx: &mut Tx<'_>, topic: TopicId, lamport: u64) -> Result<(), StorageError> {
    let now: u64 = tx.typed(&LAMPORT, &topic.0)?.unwrap_or(0);
    if lamport > now {
        tx.put(&LAMPORT, &topic.0, &lamport)?;
    }
    Ok(())
}

/// The number to write the next shared field with, at most [`MAX_LAMPORT`].
pub(crate) fn next_lamport(tx: &Tx<'_>, topic: TopicId) -> Result<u64, StorageError> {
    let now: u64 = tx.typed(&LAMPORT, &topic.0)?.unwrap_or(0);
    Ok(now.saturating_add(1).min(MAX_LAMPORT))
}
