//! `POST /v1/queries/{name}`: the features' queries, by name, with JSON in and out.
//!
//! A feature adds its queries to [`QUERIES`]; the command line asks the same ones, through this
//! route or in its own process.

use serde::de::Error as _;
use serde_json::Value;
use teahouse_core::contents;
use teahouse_core::feeds::query as feeds;
use teahouse_core::moments::query as moments;
use teahouse_core::query::Query;
use teahouse_core::store::{ChangeSet, Snapshot, StorageError};

/// A query without its type.
pub(super) struct Asked {
    pub(super) name: &'static str,
    pub(super) run: fn(&Snapshot, Value) -> Result<Value, Failed>,
    pub(super) depends: fn(&ChangeSet) -> bool,
}

/// Why a query had no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    /// It is not one.
    #[error("not understood: {0}")]
    Question(serde_json::Error),
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

macro_rules! queries {
    ($($query:ty),* $(,)?) => {
        /// All of them.
        pub(super) static QUERIES: &[Asked] = &[$(Asked {
            name: <$query as Query>::NAME,
            run: run::<$query>,
            depends: <$query as Query>::depends,
        }),*];
    };
}

queries! {
    contents::Sources,
    feeds::Feeds,
    feeds::Articles,
    feeds::OneArticle,
    moments::Timeline,
    moments::OnePost,
}

fn run<Q: Query>(s: &Snapshot, question: Value) -> Result<Value, Failed> {
    let question: Q = serde_json::from_value(question).map_err(Failed::Question)?;
    let answer = question.run(s)?;
    serde_json::to_value(answer).map_err(|e| Failed::Question(serde_json::Error::custom(e)))
}

/// The query of a name.
pub(super) fn find(name: &str) -> Option<&'static Asked> {
    QUERIES.iter().find(|q| q.name == name)
}
