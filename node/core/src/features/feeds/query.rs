//! Feeds and articles as they are shown.

use serde::{Deserialize, Serialize};
use teahouse_protocols::ids::{AccountId, DeviceId, Millis, TopicId};
use teahouse_protocols::membership::TopicKind;

use super::tables::{ARTICLE_TIMES, ARTICLES, About, ArticleRow, FEEDS, Following};
use super::{NAME, following};
use crate::command::MessageId;
use crate::engine::topics;
use crate::features::photos;
use crate::query::{Names, Query, me};
use crate::store::{Key, KeyRange, KeyReader, Read, ReadExt, StorageError, Table};
use crate::tables::{
    ACCOUNT_RECORDS, CONTACTS, Chosen, OPS, READ_MARKS, RECORDS, TOPICS, Topic, log_key,
    message_key,
};
use crate::view;

/// Most articles of one answer.
pub const MAX_ARTICLES: usize = 100;

/// A feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feed {
    /// The feed.
    pub topic: TopicId,
    /// Its name; of one that has not come, as the link had it.
    pub name: String,
    /// What it is about.
    pub about: String,
    /// Whether its publisher answers, too.
    pub service: bool,
    /// Whether it is one's own.
    pub mine: bool,
    /// Whether anything of it has come.
    pub here: bool,
    /// Who publishes it.
    pub publishers: Vec<Publisher>,
    /// The newest article: its time and title.
    pub newest: Option<(Millis, String)>,
    /// Articles published since this account read it last, or began to follow it; counted up
    /// to [`MAX_ARTICLES`].
    #[serde(default)]
    pub unread: u64,
}

/// Who publishes a feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publisher {
    /// The account.
    pub account: AccountId,
    /// What it is called here.
    pub name: String,
}

/// An article.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Article {
    /// Its feed.
    pub topic: TopicId,
    /// Its name there.
    pub id: MessageId,
    /// When it was published.
    pub time: Millis,
    /// Who published it.
    pub by: String,
    /// Title and Markdown; `None` while it has not come.
    pub said: Option<(String, String)>,
    /// Its photos; `photo:0` in the text is the first.
    pub photos: Vec<view::Photo>,
}

/// One's own feeds and those that are followed, the newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feeds {}

impl Query for Feeds {
    type Out = Vec<Feed>;
    const NAME: &'static str = "feeds.list";
    const ABOUT: &'static str = "one's own feeds and those followed";
    const READS: &'static [&'static Table] =
        &[&FEEDS, &ARTICLES, &RECORDS, &READ_MARKS, &TOPICS, &OPS, &CONTACTS, &ACCOUNT_RECORDS];

    fn run(&self, s: &dyn Read) -> Result<Self::Out, StorageError> {
        let Some(own) = me(s)?.account else { return Ok(Vec::new()) };
        let mut names = Names::new(s);
        let mut out = Vec::new();
        let rows: Vec<(Vec<u8>, Topic)> = s.scan_typed(&TOPICS, &KeyRange::all(), false, 65_536)?;
        for (key, row) in rows {
            let Ok(id) = <[u8; 32]>::try_from(key.as_slice()) else { continue };
            if row.kind == TopicKind::Feed {
                out.extend(feed(s, own, &mut names, TopicId(id))?);
            }
        }
        // Followed, and nothing of it here yet.
        let prefix = Key::new().text(NAME).into_bytes();
        let rows: Vec<(Vec<u8>, Chosen<Vec<u8>>)> =
            s.scan_typed(&RECORDS, &KeyRange::prefix(&prefix), false, 4_096)?;
        for (key, row) in rows {
            let Some(topic) = key.last_chunk::<32>().map(|t| TopicId(*t)) else { continue };
            let Ok(value) = postcard::from_bytes::<Following>(&row.value) else { continue };
            if out.iter().all(|f: &Feed| f.topic != topic) {
                out.push(Feed {
                    topic,
                    name: value.name,
                    about: String::new(),
                    service: false,
                    mine: false,
                    here: false,
                    publishers: Vec::new(),
                    newest: None,
                    unread: 0,
                });
            }
        }
        out.sort_by(|a, b| b.newest.cmp(&a.newest).then(a.topic.cmp(&b.topic)));
        Ok(out)
    }
}

fn feed(
    s: &dyn Read,
    own: AccountId,
    names: &mut Names<'_>,
    topic: TopicId,
) -> Result<Option<Feed>, StorageError> {
    let Some(state) = topics::load(s, topic)? else { return Ok(None) };
    let mine = state.now().members.contains_key(&own);
    let known = following(s, topic)?;
    if !mine && known.is_none() {
        return Ok(None);
    }
    let unread = match &known {
        Some(known) if !mine => {
            let seen = read_up_to(s, topic)?.unwrap_or(0).max(known.since);
            let from = Key::new().fixed(&topic.0).u64(seen.saturating_add(1)).into_bytes();
            let range = KeyRange::prefix(&topic.0).starting_at(&from);
            s.count(&ARTICLES, &range, MAX_ARTICLES)? as u64
        }
        _ => 0,
    };
    let about: Option<Chosen<About>> = s.get_typed(&FEEDS, &topic.0)?;
    let about = about.map(|a| a.value);
    let here = about.is_some();
    let about = about.unwrap_or_else(|| About {
        name: known.map(|k| k.name).unwrap_or_default(),
        about: String::new(),
        service: false,
    });
    let mut publishers = Vec::new();
    for account in state.now().members.keys() {
        publishers.push(Publisher { account: *account, name: names.of(*account)? });
    }
    let newest = newest(s, topic)?.map(|(time, row)| {
        let title = row.said.map(|(title, _)| title).unwrap_or_default();
        (time, title)
    });
    let About { name, about, service } = about;
    Ok(Some(Feed { topic, name, about, service, mine, here, publishers, newest, unread }))
}

/// The newest article of a feed, and its time.
pub(super) fn newest(
    read: &dyn Read,
    feed: TopicId,
) -> Result<Option<(Millis, ArticleRow)>, StorageError> {
    let Some((key, value)) = read.last(&ARTICLES, &feed.0)? else { return Ok(None) };
    Ok(Some((place(&key)?.0, crate::store::decode(&ARTICLES, &value)?)))
}

/// The time of the newest article that this account has read.
pub(super) fn read_up_to(read: &dyn Read, feed: TopicId) -> Result<Option<Millis>, StorageError> {
    let mark: Option<Chosen<u64>> = read.get_typed(&READ_MARKS, &feed.0)?;
    Ok(mark.map(|m| m.value))
}

/// Articles of one feed, the newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Articles {
    /// The feed.
    pub feed: TopicId,
    /// Only articles before this place.
    #[serde(default)]
    pub before: Option<(Millis, MessageId)>,
    /// How many, at most [`MAX_ARTICLES`]; 0 for as many.
    #[serde(default)]
    pub limit: usize,
}

impl Query for Articles {
    type Out = Vec<Article>;
    const NAME: &'static str = "feeds.articles";
    const ABOUT: &'static str = "articles of a `feed`, the newest first (`before`, `limit`)";
    const READS: &'static [&'static Table] =
        &[&ARTICLES, &photos::PREVIEWS, &RECORDS, &CONTACTS, &ACCOUNT_RECORDS];

    fn run(&self, s: &dyn Read) -> Result<Self::Out, StorageError> {
        let limit = if self.limit == 0 { MAX_ARTICLES } else { self.limit.min(MAX_ARTICLES) };
        let mut range = KeyRange::prefix(&self.feed.0);
        if let Some((time, id)) = self.before {
            range = range.before(&message_key(self.feed, time, id));
        }
        let mut names = Names::new(s);
        let rows: Vec<(Vec<u8>, ArticleRow)> = s.scan_typed(&ARTICLES, &range, true, limit)?;
        let mut out = Vec::with_capacity(rows.len());
        for (key, row) in rows {
            let (time, id) = place(&key)?;
            out.push(article(s, &mut names, self.feed, (time, id), row)?);
        }
        Ok(out)
    }
}

/// One article.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OneArticle {
    /// The feed.
    pub feed: TopicId,
    /// The article.
    pub id: MessageId,
}

impl Query for OneArticle {
    type Out = Option<Article>;
    const NAME: &'static str = "feeds.article";
    const ABOUT: &'static str = "one article (`feed`, `id`)";
    const READS: &'static [&'static Table] = Articles::READS;

    fn run(&self, s: &dyn Read) -> Result<Self::Out, StorageError> {
        let key = log_key(self.feed, self.id.device, self.id.seq);
        let Some(time) = s.get_typed::<Millis>(&ARTICLE_TIMES, &key)? else { return Ok(None) };
        let row = s.get_typed::<ArticleRow>(&ARTICLES, &message_key(self.feed, time, self.id))?;
        let Some(row) = row else { return Ok(None) };
        article(s, &mut Names::new(s), self.feed, (time, self.id), row).map(Some)
    }
}

fn article(
    s: &dyn Read,
    names: &mut Names<'_>,
    topic: TopicId,
    (time, id): (Millis, MessageId),
    row: ArticleRow,
) -> Result<Article, StorageError> {
    let (by, photos) = (names.of(row.account)?, photos::shown(s, topic, id)?);
    Ok(Article { topic, id, time, by, said: row.said, photos })
}

fn place(key: &[u8]) -> Result<(Millis, MessageId), StorageError> {
    let mut reader = KeyReader::new(&ARTICLES, key.get(32..).unwrap_or_default());
    let time = reader.u64()?;
    Ok((time, MessageId { device: DeviceId(reader.fixed()?), seq: reader.u64()? }))
}
