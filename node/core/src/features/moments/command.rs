//! What can be asked of Moments.

use rand_core::Rng;
use serde::{Deserialize, Serialize};
use teahouse_crdt::segment::Entry;
use teahouse_crdt::{MessageRef, MomentsEntry, TypedEntry};
use teahouse_protocols::ids::{AccountId, TopicId};
use teahouse_protocols::membership::{History, TopicKind};
use teahouse_protocols::moments::{MAX_COMMENT, Place, Said};

use super::tables::{CIRCLES, POSTS, PostRow, WORDS, WordRow};
use super::{Audience, MAX_AUDIENCES, MAX_NAMED, NAME, shown_to, words};
use crate::command::{MessageId, Refusal, Reply};
use crate::engine::{accounts, letters, topics};
use crate::features::chat::invalid;
use crate::features::photos::{self, NewPhoto};
use crate::features::{contacts, next_lamport};
use crate::store::ReadExt;
use crate::tables::log_key;
use crate::tx::{Fail, Tx};

/// A command to Moments.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Post. Replies [`Reply::Message`].
    Post {
        /// At most 16 KiB; may be empty where there are photos.
        text: String,
        /// At most 9.
        #[serde(default)]
        photos: Vec<NewPhoto>,
        /// Who may see it.
        audience: Audience,
    },
    /// Like a post, or no longer. Mutual friends see it.
    Like {
        /// The post's topic.
        topic: TopicId,
        /// The post.
        post: MessageId,
        /// Yes or no.
        on: bool,
    },
    /// Comment on a post. Mutual friends see it. Replies [`Reply::Message`].
    Comment {
        /// The post's topic.
        topic: TopicId,
        /// The post.
        post: MessageId,
        /// 1 to 1,024 bytes.
        text: String,
        /// The comment that this answers: its topic and name.
        #[serde(default)]
        reply_to: Option<(TopicId, MessageId)>,
    },
    /// Take back an own post or comment.
    Delete {
        /// Its topic.
        topic: TopicId,
        /// Its name.
        target: MessageId,
    },
}

pub(crate) fn command(tx: &mut Tx<'_>, c: Command) -> Result<Reply, Fail> {
    match c {
        Command::Post { text, photos, audience } => post(tx, &text, photos, audience),
        Command::Like { topic, post, on } => {
            let own = own_topic(tx, &Audience::Friends)?;
            let lamport = words::last_like(tx, topic, post)?.saturating_add(1);
            say(tx, own, (topic, post), None, Said::Like { on, lamport })?;
            Ok(Reply::Done)
        }
        Command::Comment { topic, post, text, reply_to } => {
            let text = text.trim();
            let too_long =
                || Refusal::Invalid { why: format!("a comment has 1 to {MAX_COMMENT} bytes") };
            if text.is_empty() {
                return Err(too_long().into());
            }
            let text = text.try_into().map_err(|_| too_long())?;
            let own = own_topic(tx, &Audience::Friends)?;
            let message = say(tx, own, (topic, post), reply_to, Said::Comment { text })?;
            Ok(Reply::Message { topic: own, message })
        }
        Command::Delete { topic, target } => delete(tx, topic, target),
    }
}

fn post(
    tx: &mut Tx<'_>,
    text: &str,
    photos: Vec<NewPhoto>,
    audience: Audience,
) -> Result<Reply, Fail> {
    let bodies = photos::bodies(text.trim_end(), photos)?;
    let audience = checked(tx, audience)?;
    let topic = own_topic(tx, &audience)?;
    let mut key = [0; 32];
    tx.rng.fill_bytes(&mut key);
    let bodies: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
    let circle = circle_due(tx, topic)?;
    let message = letters::append(tx, topic, &bodies, |seq, hashes| {
        let post = MomentsEntry::Post { body: hashes[0].0, key };
        entries(seq, circle.into_iter().chain([post]))
    })?;
    Ok(Reply::Message { topic, message })
}

/// Who may read an own topic has changed: makes the key that what comes next is sealed under,
/// and tells its readers where it takes the place of one that others may have.
pub(crate) fn renew(tx: &mut Tx<'_>, topic: TopicId) -> Result<(), Fail> {
    if let Some(circle) = circle_due(tx, topic)? {
        letters::append(tx, topic, &[], |seq, _| entries(seq, [circle]))?;
    }
    Ok(())
}

/// What says which key words are to be sealed under, if the next envelope has to say so.
pub(super) fn circle_due(tx: &mut Tx<'_>, topic: TopicId) -> Result<Option<MomentsEntry>, Fail> {
    let (epoch, _) = topics::epoch_for_sending(tx, topic)?;
    if topics::take_renewed(tx, topic, epoch)? || !tx.contains(&CIRCLES, &topic.0)? {
        let lamport = next_lamport(tx, topic)?;
        return Ok(Some(MomentsEntry::Circle { lamport }));
    }
    Ok(None)
}

/// Entries as they are written.
pub(super) fn entries(
    seq: u64,
    all: impl IntoIterator<Item = MomentsEntry>,
) -> Result<Vec<Entry>, Fail> {
    all.into_iter().map(|e| e.to_entry(seq).map_err(invalid)).collect()
}

/// An audience in the one form that names its topic.
fn checked(tx: &mut Tx<'_>, audience: Audience) -> Result<Audience, Fail> {
    let own = tx.account()?;
    let list = |tx: &mut Tx<'_>, mut list: Vec<AccountId>| -> Result<Vec<AccountId>, Fail> {
        list.sort_unstable();
        list.dedup();
        list.retain(|a| *a != own);
        if list.len() > MAX_NAMED {
            let what = "people named for one post".into();
            return Err(Refusal::Limit { what, max: MAX_NAMED as u64 }.into());
        }
        for account in &list {
            if !contacts::is_friend(tx, *account)? {
                let why = "posts are shown to friends, or not: somebody named is none".into();
                return Err(Refusal::NotAllowed { why }.into());
            }
        }
        Ok(list)
    };
    Ok(match audience {
        Audience::Except(names) => match list(tx, names)? {
            names if names.is_empty() => Audience::Friends,
            names => Audience::Except(names),
        },
        Audience::Only(names) => Audience::Only(list(tx, names)?),
        Audience::Friends => Audience::Friends,
    })
}

/// The topic of an audience of this account; made if there is none yet.
fn own_topic(tx: &mut Tx<'_>, audience: &Audience) -> Result<TopicId, Fail> {
    let own = tx.account()?;
    let mut audiences = 0;
    for topic in accounts::topic_ids(tx)? {
        if topics::author(tx, topic)? == Some(own) {
            if shown_to(tx, topic)?.as_ref() == Some(audience) {
                return Ok(topic);
            }
            audiences += 1;
        }
    }
    // Friends take in no more.
    if audiences >= MAX_AUDIENCES {
        let what = "different audiences".into();
        return Err(Refusal::Limit { what, max: MAX_AUDIENCES as u64 }.into());
    }
    // Refused while this device is still taking over the account: it can't tell the others.
    contacts::private_topic(tx)?;
    let topic = topics::create(tx, TopicKind::Moments, History::All, None)?;
    let value = postcard::to_stdvec(audience).map_err(Fail::peer)?;
    contacts::put_record(tx, NAME, topic.0, value)?;
    topics::welcome_own(tx, topic)?;
    Ok(topic)
}

/// Says something about a post, in the own topic for all friends.
fn say(
    tx: &mut Tx<'_>,
    own: TopicId,
    (topic, id): (TopicId, MessageId),
    reply_to: Option<(TopicId, MessageId)>,
    said: Said,
) -> Result<MessageId, Fail> {
    let no_post = || Refusal::NotFound { what: "post".into() };
    let post: PostRow =
        tx.typed(&POSTS, &log_key(topic, id.device, id.seq))?.ok_or_else(no_post)?;
    if contacts::is_blocked(tx, post.account)? {
        return Err(Refusal::NotAllowed { why: "you blocked this contact".into() }.into());
    }
    let at = Place { topic, device: id.device, seq: id.seq };
    let parent = reply_to.map(|(t, m)| Place { topic: t, device: m.device, seq: m.seq });
    if let Some(parent) = parent {
        let key = log_key(parent.topic, parent.device, parent.seq);
        let row: Option<WordRow> = tx.typed(&WORDS, &key)?;
        if row.is_none_or(|r| r.on != words::reference(&post)) {
            return Err(Refusal::NotFound { what: "comment on this post".into() }.into());
        }
    }
    words::append(tx, own, &post, at, parent, said)
}

fn delete(tx: &mut Tx<'_>, topic: TopicId, target: MessageId) -> Result<Reply, Fail> {
    let own = tx.account()?;
    let key = log_key(topic, target.device, target.seq);
    let mine = |account: Option<AccountId>| -> Result<(), Refusal> {
        match account {
            Some(account) if account == own => Ok(()),
            Some(_) => Err(Refusal::NotAllowed {
                why: "only what you wrote yourself can be taken back".into(),
            }),
            None => Err(Refusal::NotFound { what: "post or comment".into() }),
        }
    };
    let post: Option<PostRow> = tx.typed(&POSTS, &key)?;
    let word: Option<WordRow> = tx.typed(&WORDS, &key)?;
    mine(post.map(|p| p.account).or(word.map(|w| w.account)))?;
    let target = MessageRef { device: target.device.0, seq: target.seq };
    letters::append(tx, topic, &[], |seq, _| entries(seq, [MomentsEntry::Delete { target }]))?;
    Ok(Reply::Done)
}
