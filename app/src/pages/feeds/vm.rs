//! Official Accounts as the page shows them, as plain values, and how they are made.

use std::sync::Arc;

use teahouse_node::core::command::MessageId;
use teahouse_node::core::feeds::query::{Article, Articles, Feed, Feeds, OneArticle};
use teahouse_node::core::query::Query;
use teahouse_node::core::replies::{Automatic, Current};
use teahouse_node::core::store::{ChangeSet, Snapshot, StorageError};
use teahouse_node::protocols::ids::{Millis, TopicId};

use super::markdown::Text;
use super::words;
use crate::pages::Around;
use crate::vm::{PhotoRow, Zone, one_line};

/// Articles asked for at first, and more each time the end is near.
pub const PAGE: usize = 30;
/// Articles listed at most.
pub const MOST: usize = 300;
/// Letters of an article's beginning in the list.
const LEAD: usize = 160;
/// An article that is longer is not read for the list: its beginning is.
const LEAD_BYTES: usize = 4 * 1024;

/// An article's place.
pub type Key = (TopicId, MessageId);

/// What the page wants to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Whose articles.
    pub feed: Option<TopicId>,
    /// How many of them.
    pub limit: usize,
    /// The article that is read.
    pub article: Option<Key>,
}

impl Default for Ask {
    fn default() -> Self {
        Self { feed: None, limit: PAGE, article: None }
    }
}

/// All that the page shows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Press {
    /// One's own and those that are followed, the newest first.
    pub feeds: Arc<[FeedRow]>,
    /// The chosen feed's articles.
    pub listed: Option<Listed>,
    /// The article that is read; `Err` for one that is not here any more.
    pub article: Option<(Key, Option<Arc<Reading>>)>,
    /// What is answered automatically, and whether by this device.
    pub automatic: Option<Automatic>,
}

/// A feed in the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedRow {
    /// Which.
    pub topic: TopicId,
    /// Its name.
    pub name: String,
    /// What it is about.
    pub about: String,
    /// Who publishes it, in words; empty while nothing has come.
    pub by: String,
    /// The newest article's title, or what there is to say instead.
    pub line: String,
    /// When that was published, in words.
    pub when: String,
    /// Whether its publisher answers who writes.
    pub service: bool,
    /// Whether it is one's own.
    pub mine: bool,
    /// Whether anything of it has come.
    pub here: bool,
    /// Articles that were not seen yet.
    pub unread: u64,
}

/// Articles of a feed.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// The feed.
    pub topic: TopicId,
    /// The newest first.
    pub articles: Vec<Arc<Headline>>,
    /// How many were asked for.
    pub limit: usize,
    /// Whether there are older ones.
    pub more: bool,
}

/// An article in the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headline {
    /// Its place.
    pub key: Key,
    /// Its title; `None` while it has not come.
    pub title: Option<String>,
    /// When it was published, in words.
    pub when: String,
    /// Its first words.
    pub lead: String,
    /// Its first photo.
    pub photo: Option<PhotoRow>,
}

/// An article that is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// Its title; `None` while it has not come.
    pub title: Option<String>,
    /// Who published it, and when, in words.
    pub by: String,
    /// Its text.
    pub text: Text,
    /// Its photos.
    pub photos: Vec<PhotoRow>,
}

impl Press {
    /// A feed by its topic.
    #[must_use]
    pub fn feed(&self, topic: TopicId) -> Option<&FeedRow> {
        self.feeds.iter().find(|f| f.topic == topic)
    }

    /// Articles not seen yet, in all feeds.
    #[must_use]
    pub fn unread(&self) -> u64 {
        self.feeds.iter().map(|f| f.unread).sum()
    }
}

/// Whether the model may differ after these changes.
pub(super) fn depends(changes: &ChangeSet) -> bool {
    Feeds::depends(changes) || Articles::depends(changes) || Current::depends(changes)
}

/// Makes the model.
pub(super) fn load(ask: &Ask, around: &Around<'_, Press>) -> Result<Press, StorageError> {
    let nothing = Press::default();
    let was = around.was.unwrap_or(&nothing);
    let (s, zone, now) = (around.snapshot, around.zone, around.now);
    let mut new = was.clone();
    if around.fresh {
        new.feeds = feed_rows(&Feeds {}.run(s)?, now, zone);
        new.automatic = Current {}.run(s)?;
    }
    let limit = ask.limit.clamp(1, MOST);
    let same = |l: &Listed| Some(l.topic) == ask.feed && l.limit == limit;
    if around.fresh || !was.listed.as_ref().is_some_and(same) {
        new.listed = match ask.feed {
            Some(feed) => Some(listed(s, feed, limit, was, now, zone)?),
            None => None,
        };
    }
    if around.fresh || was.article.as_ref().map(|(key, _)| *key) != ask.article {
        new.article = match ask.article {
            Some(key) => Some((key, reading(s, key, was, now, zone)?)),
            None => None,
        };
    }
    Ok(new)
}

/// Feeds as they are listed.
#[must_use]
pub fn feed_rows(feeds: &[Feed], now: Millis, zone: &Zone) -> Arc<[FeedRow]> {
    let row = |f: &Feed| {
        let names: Vec<String> = f.publishers.iter().map(|p| one_line(p.name.trim())).collect();
        let line = match &f.newest {
            Some((_, title)) if title.is_empty() => words::coming().into(),
            Some((_, title)) => one_line(title),
            None if f.mine => words::nothing_published().into(),
            None if f.here => words::nothing_yet().into(),
            None => words::nobody_met().into(),
        };
        FeedRow {
            topic: f.topic,
            name: name(&f.name),
            about: f.about.trim().to_owned(),
            by: names.join(crate::strings::either(", ", "，")),
            line,
            when: f.newest.as_ref().map_or_else(String::new, |(at, _)| zone.short(*at, now)),
            service: f.service,
            mine: f.mine,
            here: f.here,
            unread: f.unread,
        }
    };
    feeds.iter().map(row).collect()
}

fn name(name: &str) -> String {
    match one_line(name.trim()) {
        name if name.is_empty() => words::unnamed().into(),
        name => name,
    }
}

fn listed(
    s: &Snapshot,
    feed: TopicId,
    limit: usize,
    was: &Press,
    now: Millis,
    zone: &Zone,
) -> Result<Listed, StorageError> {
    let mut all: Vec<Article> = Vec::new();
    while all.len() <= limit {
        let before = all.last().map(|a| (a.time, a.id));
        // An answer has a bound of its own.
        let next = Articles { feed, before, limit: limit + 1 - all.len() }.run(s)?;
        if next.is_empty() {
            break;
        }
        all.extend(next);
    }
    let more = all.len() > limit;
    all.truncate(limit);
    let old = was.listed.as_ref().filter(|l| l.topic == feed);
    let old = old.map(|l| l.articles.as_slice()).unwrap_or_default();
    let articles = all.iter().enumerate().map(|(at, article)| {
        let new = headline(article, now, zone);
        // Pointers stay the same where nothing changed: it is cheap to compare.
        let near = old.get(at.saturating_sub(1)..).unwrap_or_default().iter().take(3);
        let same = near.filter(|o| o.key == new.key).find(|o| ***o == new);
        same.map_or_else(|| Arc::new(new), Arc::clone)
    });
    Ok(Listed { topic: feed, articles: articles.collect(), limit, more })
}

/// An article as it is listed.
#[must_use]
pub fn headline(a: &Article, now: Millis, zone: &Zone) -> Headline {
    let lead = |text: &str| {
        let end = (0..=LEAD_BYTES.min(text.len())).rev().find(|i| text.is_char_boundary(*i));
        Text::read(&text[..end.unwrap_or(0)], 0).lead(LEAD)
    };
    Headline {
        key: (a.topic, a.id),
        title: a.said.as_ref().map(|(title, _)| one_line(title.trim())),
        when: zone.short(a.time, now),
        lead: a.said.as_ref().map_or_else(String::new, |(_, text)| lead(text)),
        photo: a.photos.first().map(photo),
    }
}

fn reading(
    s: &Snapshot,
    (feed, id): Key,
    was: &Press,
    now: Millis,
    zone: &Zone,
) -> Result<Option<Arc<Reading>>, StorageError> {
    let Some(article) = (OneArticle { feed, id }).run(s)? else { return Ok(None) };
    let new = read(&article, now, zone);
    let old = was.article.as_ref().and_then(|(_, reading)| reading.as_ref());
    Ok(Some(match old {
        Some(old) if **old == new => Arc::clone(old),
        _ => Arc::new(new),
    }))
}

/// An article as it is read.
#[must_use]
pub fn read(a: &Article, now: Millis, zone: &Zone) -> Reading {
    let moment = zone.moment(a.time);
    let when = format!("{} {}", zone.day(a.time, now), moment.clock());
    let by = one_line(a.by.trim());
    let text = a.said.as_ref().map_or("", |(_, text)| text);
    Reading {
        title: a.said.as_ref().map(|(title, _)| one_line(title.trim())),
        by: if by.is_empty() { when } else { format!("{by} · {when}") },
        text: Text::read(text, a.photos.len()),
        photos: a.photos.iter().map(photo).collect(),
    }
}

fn photo(p: &teahouse_node::core::view::Photo) -> PhotoRow {
    PhotoRow {
        hash: p.photo.hash,
        shape: (p.photo.width.max(1), p.photo.height.max(1)),
        bytes: p.photo.size,
        preview: p.preview.as_ref().map(|b| b.0.clone().into()),
    }
}
