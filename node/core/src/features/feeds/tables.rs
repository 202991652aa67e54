//! What Official Accounts keep.

use serde::{Deserialize, Serialize};
use teahouse_protocols::ids::{AccountId, Millis};
use teahouse_protocols::link::Provider;

crate::tables::tables! {
    /// topic → [`crate::tables::Chosen`] [`About`].
    projection FEEDS = "feeds";
    /// topic, time (u64), device, seq → [`ArticleRow`].
    projection ARTICLES = "articles";
    /// topic, device, seq → display time (u64).
    projection ARTICLE_TIMES = "article_times";
    /// topic, device, seq of the target → nothing.
    projection WITHDRAWN = "withdrawn";
}

/// What a feed says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Its name.
    pub name: String,
    /// What it is about.
    pub about: String,
    /// Whether its publisher answers, too.
    pub service: bool,
}

/// An article.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArticleRow {
    /// Who published it.
    pub account: AccountId,
    /// Title and text; `None` while the body is missing.
    pub said: Option<(String, String)>,
    /// Number of bodies.
    pub bodies: u8,
}

/// What this account's devices share about a feed that is followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Following {
    /// What it was called when it was followed.
    pub name: String,
    /// Whom to ask for it.
    pub providers: Vec<Provider>,
    /// Since when.
    pub since: Millis,
    /// Whether this account's devices give it to whoever asks: a link of theirs says so.
    pub shared: bool,
}
