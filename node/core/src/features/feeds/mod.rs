//! Official Accounts: public feeds of articles, published by an account's devices and passed on
//! by whoever follows.
//!
//! A feed is a public topic (`engine::topics`). What is followed stands in a record
//! that the account's devices share, and in no place that others see. A follower asks the
//! link's providers, and serves whoever asks it (`service`).
//!
//! - `command`: what can be asked for.
//! - `tables`: the rows.
//! - `service`: asking for feeds, and giving them.
//! - `query`: feeds and articles as they are shown.

mod command;
pub mod query;
mod service;
pub mod tables;

use teahouse_crdt::segment::Entry;
use teahouse_crdt::{FeedEntry, TypedEntry};
use teahouse_protocols::codec;
use teahouse_protocols::feed::Article;
use teahouse_protocols::ids::{DeviceId, Millis, TopicId};
use teahouse_protocols::membership::TopicKind;

use crate::command::MessageId;
use crate::features::{Applied, Feature, choose, letters_erased, photos};
use crate::query::Asked;
use crate::store::{Read, ReadExt, StorageError};
use crate::tables::{Chosen, LAMPORT, RECORDS, log_key, message_key, record_key};
use crate::tx::Tx;

use self::tables::{ARTICLE_TIMES, ARTICLES, About, ArticleRow, FEEDS, Following, WITHDRAWN};

pub use self::command::Command;
pub(crate) use self::command::command;
pub(crate) use self::service::{providers, tell};

/// The feature's name, as in [`RECORDS`].
const NAME: &str = "feeds";

pub(crate) const FEATURE: Feature = Feature {
    name: NAME,
    kinds: &[TopicKind::Feed],
    apply,
    projects: &[
        &FEEDS,
        &ARTICLES,
        &ARTICLE_TIMES,
        &WITHDRAWN,
        &photos::PHOTOS,
        &photos::PREVIEWS,
        &LAMPORT,
    ],
    tables: tables::ALL,
    queries: &[
        Asked::of::<query::Feeds>(),
        Asked::of::<query::Articles>(),
        Asked::of::<query::OneArticle>(),
    ],
    service: Some(service::SERVICE),
    ..Feature::NONE
};

/// What is kept about a feed that this account follows; `None` for one that it does not.
pub(crate) fn following(
    read: &dyn Read,
    topic: TopicId,
) -> Result<Option<Following>, StorageError> {
    let row: Option<Chosen<Vec<u8>>> = read.get_typed(&RECORDS, &record_key(NAME, &topic.0))?;
    Ok(row.and_then(|r| postcard::from_bytes(&r.value).ok()))
}

/// Whether this account follows a feed.
pub(crate) fn follows(read: &dyn Read, topic: TopicId) -> Result<bool, StorageError> {
    Ok(following(read, topic)?.is_some())
}

fn apply(tx: &mut Tx<'_>, change: &Applied<'_>, entry: &Entry) -> Result<(), StorageError> {
    // A newer version's entries show nothing here, and nonsense shows nothing anywhere.
    let Ok(entry) = FeedEntry::from_entry(change.seq, entry) else { return Ok(()) };
    let (topic, id) = (change.topic, change.id());
    match entry {
        FeedEntry::Article { body } => {
            let Some(first) = change.header.bodies.iter().position(|h| h.0 == body) else {
                return Ok(());
            };
            let bodies = change.header.bodies.len() as u8;
            if tx.contains(&WITHDRAWN, &log_key(topic, id.device, id.seq))? {
                return letters_erased(tx, topic, id, 0..bodies);
            }
            let said = change.bodies.get(first).and_then(Option::as_ref);
            let said = said.and_then(|b| codec::decode::<Article>(b).ok());
            if let Some(article) = &said {
                photos::put_all(tx, change, first, &article.photos)?;
            }
            let said = said.map(|a| (a.title.into_inner(), a.text.into_inner()));
            let row = ArticleRow { account: change.account, said, bodies };
            tx.put(&ARTICLES, &message_key(topic, change.time, id), &row)?;
            tx.put(&ARTICLE_TIMES, &log_key(topic, id.device, id.seq), &change.time)
        }
        FeedEntry::Delete { target } => {
            let id = MessageId { device: DeviceId(target.device), seq: target.seq };
            let key = log_key(topic, id.device, id.seq);
            tx.put_raw(&WITHDRAWN, &key, Vec::new())?;
            let Some(time) = tx.typed::<Millis>(&ARTICLE_TIMES, &key)? else { return Ok(()) };
            let place = message_key(topic, time, id);
            let row: Option<ArticleRow> = tx.typed(&ARTICLES, &place)?;
            tx.del(&ARTICLES, &place)?;
            tx.del(&ARTICLE_TIMES, &key)?;
            photos::forget(tx, topic, id)?;
            letters_erased(tx, topic, id, 0..row.map_or(0, |r| r.bodies))
        }
        FeedEntry::About { name, about, service, lamport } => {
            choose(tx, &FEEDS, &topic.0, change, lamport, About { name, about, service })
        }
    }
}
