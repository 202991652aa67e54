//! Watched queries: a query runs again when a batch touched what it reads, and its value is
//! told when it differs.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use teahouse_core::store::{ChangeSet, Snapshot, StorageError, Table};
use teahouse_core::tables;
use teahouse_protocols::ids::TopicId;

use crate::handle::{Handle, NodeError, Subscription};

/// A group of queries that read the same tables, by the name of its API resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum View {
    /// Who this device is.
    Identity,
    /// The chat list.
    Chats,
    /// Messages with their reactions and delivery.
    Messages,
    /// Members of chats.
    Members,
    /// Contacts and requests.
    Contacts,
    /// Devices of the account.
    Devices,
    /// Linking under way.
    Linking,
    /// Relays.
    Relays,
    /// Alarms.
    Alarms,
}

/// Tables whose keys begin with a topic.
static BY_TOPIC: [&Table; 13] = [
    &tables::TOPICS,
    &tables::OPS,
    &tables::MESSAGES,
    &tables::REACTIONS,
    &tables::RECALLS,
    &tables::FIELDS,
    &tables::CHANGES,
    &tables::NICKNAMES,
    &tables::READ_MARKS,
    &tables::DRAFTS,
    &tables::ACKS,
    &tables::DEPOSITS,
    &tables::MISSING_BODIES,
];

/// A list of tables. References to statics can be put together only in a static.
macro_rules! reads {
    ($($t:ident),*) => {{
        static READS: &[&Table] = &[$(&tables::$t),*];
        READS
    }};
}

impl View {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Identity,
        Self::Chats,
        Self::Messages,
        Self::Members,
        Self::Contacts,
        Self::Devices,
        Self::Linking,
        Self::Relays,
        Self::Alarms,
    ];

    fn tables(self) -> &'static [&'static Table] {
        match self {
            Self::Identity | Self::Devices => reads![ME, ACCOUNT_RECORDS],
            Self::Chats => reads![
                TOPICS,
                OPS,
                MESSAGES,
                RECALLS,
                FIELDS,
                CONTACTS,
                REQUESTS,
                READ_MARKS,
                DRAFTS,
                SETTINGS,
                ACKS,
                DEPOSITS,
                ACCOUNT_RECORDS
            ],
            Self::Messages => reads![
                MESSAGES,
                REACTIONS,
                RECALLS,
                ACKS,
                DEPOSITS,
                OPS,
                CHANGES,
                NICKNAMES,
                CONTACTS,
                ACCOUNT_RECORDS,
                RELAYS
            ],
            Self::Members => reads![OPS, NICKNAMES, CONTACTS, ACCOUNT_RECORDS],
            Self::Contacts => reads![CONTACTS, REQUESTS, ACCOUNT_RECORDS],
            Self::Linking => reads![LINKING, ME, TOPICS, CHAINS, OPS],
            Self::Relays => reads![RELAYS, TOKENS, TAGS, DEPOSITS, OUTBOX, ACCOUNT_RECORDS],
            Self::Alarms => reads![ALARMS],
        }
    }

    /// Whether a batch may have changed what this view shows.
    pub fn depends(self, changes: &ChangeSet) -> bool {
        self.tables().iter().any(|t| changes.touches(t))
    }

    /// As [`View::depends`], for what the view shows of one topic: batches that touched only
    /// other topics don't count.
    pub fn depends_in(self, topic: TopicId, changes: &ChangeSet) -> bool {
        self.tables().iter().any(|t| {
            if BY_TOPIC.contains(t) {
                changes.touches_prefix(t, &topic.0)
            } else {
                changes.touches(t)
            }
        })
    }
}

/// The topics that a batch touched; `None` if they are too many to tell.
pub fn topics(changes: &ChangeSet) -> Option<BTreeSet<TopicId>> {
    let mut all = BTreeSet::new();
    for t in BY_TOPIC {
        for key in changes.keys(t)? {
            if let Some(topic) = key.first_chunk::<32>() {
                all.insert(TopicId(*topic));
            }
        }
    }
    Some(all)
}

type Query<T> = dyn Fn(&Snapshot) -> Result<T, StorageError> + Send + Sync;
type Depends = dyn Fn(&ChangeSet) -> bool + Send + Sync;

/// A watched query.
pub struct Watch<T> {
    handle: Handle,
    changes: Subscription,
    query: Arc<Query<T>>,
    depends: Box<Depends>,
    last: Option<T>,
    /// Whether the value may have changed since the query last ran.
    stale: bool,
}

/// Watches a query; `depends` tells whether a batch may have changed its value.
pub fn watch<T>(
    handle: &Handle,
    query: impl Fn(&Snapshot) -> Result<T, StorageError> + Send + Sync + 'static,
    depends: impl Fn(&ChangeSet) -> bool + Send + Sync + 'static,
) -> Watch<T>
where
    T: Clone + PartialEq + Send + 'static,
{
    Watch {
        // Subscribed before the first query runs: nothing falls in between.
        changes: handle.changes(),
        handle: handle.clone(),
        query: Arc::new(query),
        depends: Box::new(depends),
        last: None,
        stale: true,
    }
}

impl<T: Clone + PartialEq + Send + 'static> Watch<T> {
    /// The present value at the first call, then each that differs from the last one told.
    /// `None` once the node has stopped. An error is told each time it occurs. Safe to
    /// cancel: at worst a query runs once more.
    pub async fn next(&mut self) -> Option<Result<T, NodeError>> {
        loop {
            while !self.stale {
                let changes = self.changes.next().await?;
                self.stale = (self.depends)(&changes);
            }
            // What has come meanwhile is seen by the query that follows.
            self.changes.take();
            let (handle, query) = (self.handle.clone(), Arc::clone(&self.query));
            // Queries read from the disk; the async workers must not wait for it.
            let ran = tokio::task::spawn_blocking(move || handle.query(|s| query(s))).await;
            // A panicked query ends the watch.
            let ran = ran.ok()?;
            self.stale = false;
            match ran {
                Ok(value) if self.last.as_ref() == Some(&value) => {}
                Ok(value) => {
                    self.last = Some(value.clone());
                    return Some(Ok(value));
                }
                Err(e) => return Some(Err(e)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_touched_touches_no_view_and_everything_all() {
        let (nothing, everything) = (ChangeSet::new(), ChangeSet::everything());
        for view in View::ALL {
            assert!(!view.depends(&nothing), "{view:?}");
            assert!(view.depends(&everything), "{view:?}");
            assert!(view.depends_in(TopicId([1; 32]), &everything), "{view:?}");
        }
        assert_eq!(topics(&nothing), Some(BTreeSet::new()));
        assert_eq!(topics(&everything), None);
    }
}
