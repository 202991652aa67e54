//! What can be asked of Official Accounts.

use serde::{Deserialize, Serialize};
use teahouse_crdt::{FeedEntry, MessageRef, PrivateEntry, TypedEntry};
use teahouse_protocols::codec::{self, Text};
use teahouse_protocols::feed::Article;
use teahouse_protocols::ids::TopicId;
use teahouse_protocols::link::{FeedLink, Link, Provider, VERSION};
use teahouse_protocols::membership::{History, TopicKind};

use super::query::{newest, read_up_to};
use super::tables::{ARTICLE_TIMES, About, FEEDS, Following};
use super::{NAME, following, service};
use crate::command::{MessageId, Refusal, Reply};
use crate::engine::{accounts, letters, topics};
use crate::features::chat::invalid;
use crate::features::photos::{self, NewPhoto};
use crate::features::{contacts, next_lamport};
use crate::store::ReadExt;
use crate::tables::{Chosen, log_key};
use crate::tx::{Effect, Fail, Tx, capped};

/// Most feeds that an account follows.
pub(super) const MAX_FOLLOWED: u64 = 512;

/// A command to Official Accounts.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Open a feed of one's own. Replies [`Reply::Topic`].
    Create {
        /// 1 to 64 bytes.
        name: String,
        /// At most 1,024 bytes.
        about: String,
        /// Whether one answers who writes, too.
        service: bool,
    },
    /// Say anew what a feed of one's own is.
    Describe {
        /// The feed.
        feed: TopicId,
        /// 1 to 64 bytes.
        name: String,
        /// At most 1,024 bytes.
        about: String,
        /// Whether one answers who writes, too.
        service: bool,
    },
    /// Publish an article. Replies [`Reply::Message`].
    Publish {
        /// A feed of one's own.
        feed: TopicId,
        /// 1 to 256 bytes.
        title: String,
        /// Markdown, at most 60 KiB.
        text: String,
        /// At most 9.
        #[serde(default)]
        photos: Vec<NewPhoto>,
    },
    /// Take an article back.
    Delete {
        /// The feed.
        feed: TopicId,
        /// The article.
        article: MessageId,
    },
    /// Follow a feed by its link. Whoever the link names is asked for it and sees which device
    /// asks; there is no list. Replies [`Reply::Topic`].
    Follow {
        /// `teahouse:feed/…`.
        link: String,
    },
    /// No longer follow a feed.
    Unfollow {
        /// The feed.
        feed: TopicId,
    },
    /// All that is here of a feed that one follows was read.
    Read {
        /// The feed.
        feed: TopicId,
    },
    /// A link to a feed that one publishes or follows; this account's devices serve whoever
    /// asks, from then on. Replies [`Reply::Link`].
    Share {
        /// The feed.
        feed: TopicId,
    },
}

pub(crate) fn command(tx: &mut Tx<'_>, c: Command) -> Result<Reply, Fail> {
    match c {
        Command::Create { name, about, service } => {
            // Refused while this device is still taking over the account.
            contacts::private_topic(tx)?;
            let topic = topics::create(tx, TopicKind::Feed, History::All, None)?;
            describe(tx, topic, name, about, service)?;
            topics::welcome_own(tx, topic)?;
            Ok(Reply::Topic { topic })
        }
        Command::Describe { feed, name, about, service } => {
            describe(tx, feed, name, about, service)?;
            Ok(Reply::Done)
        }
        Command::Publish { feed, title, text, photos } => publish(tx, feed, &title, &text, photos),
        Command::Delete { feed, article } => {
            require_own(tx, feed)?;
            let key = log_key(feed, article.device, article.seq);
            if !tx.contains(&ARTICLE_TIMES, &key)? {
                return Err(Refusal::NotFound { what: "article".into() }.into());
            }
            let target = MessageRef { device: article.device.0, seq: article.seq };
            append(tx, feed, &[], |_| FeedEntry::Delete { target })?;
            Ok(Reply::Done)
        }
        Command::Follow { link } => follow(tx, &link),
        Command::Unfollow { feed } => {
            if following(tx, feed)?.is_none() {
                return Err(Refusal::NotFound { what: "feed that you follow".into() }.into());
            }
            contacts::put_record(tx, NAME, feed.0, Vec::new())?;
            service::forget(tx, feed);
            tx.out.push(Effect::Peers);
            Ok(Reply::Done)
        }
        Command::Read { feed } => read(tx, feed),
        Command::Share { feed } => share(tx, feed),
    }
}

fn describe(
    tx: &mut Tx<'_>,
    feed: TopicId,
    name: String,
    about: String,
    service: bool,
) -> Result<(), Fail> {
    require_own(tx, feed)?;
    let lamport = next_lamport(tx, feed)?;
    append(tx, feed, &[], |_| FeedEntry::About { name, about, service, lamport })?;
    Ok(())
}

fn publish(
    tx: &mut Tx<'_>,
    feed: TopicId,
    title: &str,
    text: &str,
    photos: Vec<NewPhoto>,
) -> Result<Reply, Fail> {
    require_own(tx, feed)?;
    let invalid = |why: &str| Fail::from(Refusal::Invalid { why: why.into() });
    let (photos, previews) = photos::split(photos)?;
    let article = Article {
        title: title.trim().try_into().map_err(|_| invalid("a title has at most 256 bytes"))?,
        text: text.try_into().map_err(|_| invalid("an article has at most 60 KiB"))?,
        photos,
    };
    codec::Wire::check(&article).map_err(|_| invalid("an article has a title"))?;
    let mut bodies = vec![codec::encode(&article)];
    bodies.extend(previews);
    let message = append(tx, feed, &bodies, |hash| FeedEntry::Article { body: hash })?;
    Ok(Reply::Message { topic: feed, message })
}

/// Appends an entry, and tells followers that are connected.
fn append(
    tx: &mut Tx<'_>,
    feed: TopicId,
    bodies: &[Vec<u8>],
    entry: impl FnOnce([u8; 32]) -> FeedEntry,
) -> Result<MessageId, Fail> {
    let bodies: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
    let message = letters::append(tx, feed, &bodies, |seq, hashes| {
        let entry = entry(hashes.first().map_or([0; 32], |h| h.0));
        Ok(vec![entry.to_entry(seq).map_err(invalid)?])
    })?;
    service::news(tx, feed)?;
    Ok(message)
}

fn require_own(tx: &mut Tx<'_>, feed: TopicId) -> Result<(), Fail> {
    if topics::is_public(tx, feed)? && topics::my_role(tx, feed)?.is_some() {
        return Ok(());
    }
    Err(Refusal::NotFound { what: "feed of yours".into() }.into())
}

fn follow(tx: &mut Tx<'_>, link: &str) -> Result<Reply, Fail> {
    let link = Link::parse(link).map_err(|e| Refusal::Invalid { why: e.to_string() })?;
    let Link::Feed(link) = link else {
        return Err(Refusal::Invalid { why: "this link is no feed".into() }.into());
    };
    let feed = link.topic;
    if topics::my_role(tx, feed)?.is_some() {
        return Err(Refusal::NotAllowed { why: "this feed is your own".into() }.into());
    }
    let known = following(tx, feed)?;
    if known.is_none() && service::followed(tx)?.len() as u64 >= MAX_FOLLOWED {
        return Err(Refusal::Limit { what: "feeds followed".into(), max: MAX_FOLLOWED }.into());
    }
    // Whoever shares it now is asked first; who was known stays.
    let mut providers: Vec<Provider> = link.providers.into_inner();
    for old in known.iter().flat_map(|k| &k.providers) {
        if providers.len() < 8 && providers.iter().all(|p| p.device != old.device) {
            providers.push(old.clone());
        }
    }
    let (since, shared) = known.map_or((tx.now, false), |k| (k.since, k.shared));
    put(tx, feed, &Following { name: link.name.into_inner(), providers, since, shared })?;
    tx.out.push(Effect::Peers);
    service::ask_everybody(tx, feed)?;
    Ok(Reply::Topic { topic: feed })
}

fn put(tx: &mut Tx<'_>, feed: TopicId, value: &Following) -> Result<(), Fail> {
    let value = postcard::to_stdvec(value).map_err(Fail::peer)?;
    contacts::put_record(tx, NAME, feed.0, value)
}

fn read(tx: &mut Tx<'_>, feed: TopicId) -> Result<Reply, Fail> {
    if following(tx, feed)?.is_none() {
        return Err(Refusal::NotFound { what: "feed that you follow".into() }.into());
    }
    let Some((upto_time, _)) = newest(tx, feed)? else { return Ok(Reply::Done) };
    if read_up_to(tx, feed)?.is_some_and(|known| known >= upto_time) {
        return Ok(Reply::Done);
    }
    let private = contacts::private_topic(tx)?;
    let lamport = next_lamport(tx, private)?;
    contacts::write(tx, PrivateEntry::ReadMark { topic: feed.0, upto_time, lamport })
}

fn share(tx: &mut Tx<'_>, feed: TopicId) -> Result<Reply, Fail> {
    let own = topics::my_role(tx, feed)?.is_some() && topics::is_public(tx, feed)?;
    let known = following(tx, feed)?;
    if !own && known.is_none() {
        return Err(Refusal::NotFound { what: "feed".into() }.into());
    }
    if let Some(known) = known.as_ref().filter(|k| !k.shared) {
        put(tx, feed, &Following { shared: true, ..known.clone() })?;
    }
    let (account, device) = (tx.account()?, tx.me()?.device);
    let addrs: Vec<Text<160>> =
        tx.mem.addrs.iter().filter_map(|a| a.as_str().try_into().ok()).collect();
    let relays = accounts::relays_of(tx, account)?;
    let mut providers = vec![Provider { device, addrs: capped(addrs), relays: capped(relays) }];
    providers.extend(known.into_iter().flat_map(|k| k.providers).filter(|p| p.device != device));
    let about: Option<Chosen<About>> = tx.typed(&FEEDS, &feed.0)?;
    let name = about.map(|a| a.value.name).unwrap_or_default();
    let link = FeedLink {
        version: VERSION,
        topic: feed,
        name: name.as_str().try_into().unwrap_or_default(),
        providers: capped(providers),
    };
    Ok(Reply::Link { link: Link::Feed(link).to_uri() })
}
