//! Queries by name, with JSON in and out: what the HTTP API serves.

use serde_json::Value;

use super::Query;
use crate::features::FEATURES;
use crate::store::{ChangeSet, Read, StorageError};

/// A [`Query`] without its type.
#[derive(Clone, Copy)]
pub struct Asked {
    /// `feature.question`.
    pub name: &'static str,
    /// What it answers and which fields it has, in a sentence.
    pub about: &'static str,
    /// Answers a question.
    ///
    /// # Errors
    /// See [`Failed`].
    pub run: fn(&dyn Read, Value) -> Result<Value, Failed>,
    /// Whether the answer may differ after these changes.
    pub depends: fn(&ChangeSet) -> bool,
}

impl Asked {
    /// A query, without its type.
    pub(crate) const fn of<Q: Query>() -> Self {
        Self { name: Q::NAME, about: Q::ABOUT, run: run::<Q>, depends: Q::depends }
    }
}

/// Why a query had no answer.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// It is not one.
    #[error("not understood: {0}")]
    Question(serde_json::Error),
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Every feature's queries.
pub fn all() -> impl Iterator<Item = &'static Asked> {
    FEATURES.iter().flat_map(|f| f.queries)
}

/// The query of a name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Asked> {
    all().find(|q| q.name == name)
}

fn run<Q: Query>(s: &dyn Read, question: Value) -> Result<Value, Failed> {
    let question: Q = serde_json::from_value(question).map_err(Failed::Question)?;
    serde_json::to_value(question.run(s)?).map_err(Failed::Question)
}
