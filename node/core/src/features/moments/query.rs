//! The timeline: friends' posts and one's own, with the words on them that mutual friends said.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use teahouse_protocols::ids::{AccountId, DeviceId, Millis, TopicId};
use teahouse_protocols::moments::{Place, Said};

use super::tables::{POSTS, PostRow, TIMELINE, WORDS};
use super::{Audience, shown_to, words};
use crate::command::MessageId;
use crate::features::photos;
use crate::query::{Names, Query, me};
use crate::store::{Key, KeyRange, KeyReader, Read, ReadExt, StorageError, Table};
use crate::tables::{
    ACCOUNT_RECORDS, CONTACTS, Chosen, ContactValue, RECORDS, TOPIC_EPOCHS, log_key,
};
use crate::view;

/// Most posts of one answer.
pub const MAX_POSTS: usize = 100;

/// A post as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Post {
    /// Its topic.
    pub topic: TopicId,
    /// Its name there.
    pub id: MessageId,
    /// The author.
    pub account: AccountId,
    /// What the author is called here.
    pub name: String,
    /// When it was posted.
    pub time: Millis,
    /// The text; `None` while it has not come.
    pub text: Option<String>,
    /// Its photos.
    pub photos: Vec<view::Photo>,
    /// Whether it is one's own.
    pub mine: bool,
    /// Of an own post: to whom it is shown.
    pub audience: Option<Audience>,
    /// Who likes it, of those whom one may know to.
    pub likes: Vec<Person>,
    /// Whether oneself does.
    pub liked: bool,
    /// Comments of mutual friends, the oldest first.
    pub comments: Vec<Comment>,
}

/// Somebody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// The account.
    pub account: AccountId,
    /// What it is called here.
    pub name: String,
}

/// A comment on a post.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comment {
    /// The topic in which it stands.
    pub topic: TopicId,
    /// Its name there.
    pub id: MessageId,
    /// Who says it.
    pub by: Person,
    /// When.
    pub time: Millis,
    /// What.
    pub text: String,
    /// Whom it answers.
    pub answers: Option<Person>,
    /// Whether it is one's own.
    pub mine: bool,
}

/// Posts, the newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    /// Only posts before this place: a post's time, topic and name.
    #[serde(default)]
    pub before: Option<(Millis, TopicId, MessageId)>,
    /// Only of this account.
    #[serde(default)]
    pub of: Option<AccountId>,
    /// How many, at most [`MAX_POSTS`]; 0 for as many.
    #[serde(default)]
    pub limit: usize,
}

impl Query for Timeline {
    type Out = Vec<Post>;
    const NAME: &'static str = "moments.timeline";
    const ABOUT: &'static str = "posts, the newest first (`before`, `of`, `limit`)";
    const READS: &'static [&'static Table] = &[
        &TIMELINE,
        &POSTS,
        &WORDS,
        &photos::PREVIEWS,
        &CONTACTS,
        &RECORDS,
        &TOPIC_EPOCHS,
        &ACCOUNT_RECORDS,
    ];

    fn run(&self, s: &dyn Read) -> Result<Self::Out, StorageError> {
        let Some(own) = me(s)?.account else { return Ok(Vec::new()) };
        let limit = if self.limit == 0 { MAX_POSTS } else { self.limit.min(MAX_POSTS) };
        let mut shown = Shown::new(s, own);
        let mut range = KeyRange::all();
        if let Some((time, topic, id)) = self.before {
            range = range.before(&super::tables::placed(Key::new().u64(time), topic.0, id));
        }
        let mut out = Vec::new();
        // Posts that are not shown, of who is no friend any more, are few: pages of some.
        while out.len() < limit {
            let rows = s.scan(&TIMELINE, &range, true, limit)?;
            let Some((last, _)) = rows.last() else { break };
            range = range.before(&last.clone());
            for (key, _) in rows {
                let mut reader = KeyReader::new(&TIMELINE, &key[8..]);
                let topic = TopicId(reader.fixed()?);
                let id = MessageId { device: DeviceId(reader.fixed()?), seq: reader.u64()? };
                if out.len() < limit
                    && let Some(post) = shown.post(topic, id)?
                    && self.of.is_none_or(|of| of == post.account)
                {
                    out.push(post);
                }
            }
        }
        Ok(out)
    }
}

/// One post, if it is shown here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnePost {
    /// Its topic.
    pub topic: TopicId,
    /// Its name there.
    pub id: MessageId,
}

impl Query for OnePost {
    type Out = Option<Post>;
    const NAME: &'static str = "moments.post";
    const ABOUT: &'static str = "one post (`topic`, `id`)";
    const READS: &'static [&'static Table] = Timeline::READS;

    fn run(&self, s: &dyn Read) -> Result<Self::Out, StorageError> {
        let Some(own) = me(s)?.account else { return Ok(None) };
        Shown::new(s, own).post(self.topic, self.id)
    }
}

struct Shown<'s> {
    s: &'s dyn Read,
    own: AccountId,
    names: Names<'s>,
    friends: BTreeMap<AccountId, bool>,
    circles: words::Circles,
}

impl<'s> Shown<'s> {
    fn new(s: &'s dyn Read, own: AccountId) -> Self {
        let (friends, circles) = (BTreeMap::new(), words::Circles::default());
        Self { s, own, names: Names::new(s), friends, circles }
    }
}

impl Shown<'_> {
    /// Whether what an account posts and says is shown: one's own, and friends'.
    fn is_shown(&mut self, account: AccountId) -> Result<bool, StorageError> {
        if account == self.own {
            return Ok(true);
        }
        if let Some(known) = self.friends.get(&account) {
            return Ok(*known);
        }
        let contact: Option<Chosen<ContactValue>> = self.s.get_typed(&CONTACTS, &account.0)?;
        let shown = contact.is_some_and(|c| c.value.friend && !c.value.blocked);
        self.friends.insert(account, shown);
        Ok(shown)
    }

    fn person(&mut self, account: AccountId) -> Result<Person, StorageError> {
        Ok(Person { account, name: self.names.of(account)? })
    }

    fn post(&mut self, topic: TopicId, id: MessageId) -> Result<Option<Post>, StorageError> {
        let row: Option<PostRow> = self.s.get_typed(&POSTS, &log_key(topic, id.device, id.seq))?;
        let Some(row) = row else { return Ok(None) };
        if !self.is_shown(row.account)? {
            return Ok(None);
        }
        let mine = row.account == self.own;
        let at = Place { topic, device: id.device, seq: id.seq };
        let mut comments = Vec::new();
        let mut likes: BTreeMap<AccountId, (u64, DeviceId, u64, bool)> = BTreeMap::new();
        let words = words::opened(self.s, &mut self.circles, &row, at)?;
        // By place: an answer may seem older than what it answers, where a clock is off.
        let said_by: BTreeMap<Place, AccountId> = words.iter().map(|w| (w.at, w.account)).collect();
        for word in words {
            if !self.is_shown(word.account)? {
                continue;
            }
            match word.said {
                Said::Like { on, lamport } => {
                    let new = (lamport, word.at.device, word.at.seq, on);
                    let known = likes.entry(word.account).or_insert(new);
                    *known = new.max(*known);
                }
                Said::Comment { text } => {
                    let answers = match word.parent.and_then(|p| said_by.get(&p).copied()) {
                        Some(account) => Some(self.person(account)?),
                        None => None,
                    };
                    comments.push(Comment {
                        topic: word.at.topic,
                        id: MessageId { device: word.at.device, seq: word.at.seq },
                        by: self.person(word.account)?,
                        time: word.time,
                        text: text.into_inner(),
                        answers,
                        mine: word.account == self.own,
                    });
                }
            }
        }
        likes.retain(|_, (.., on)| *on);
        let liked = likes.contains_key(&self.own);
        let mut people = Vec::with_capacity(likes.len());
        for account in likes.into_keys() {
            people.push(self.person(account)?);
        }
        Ok(Some(Post {
            topic,
            id,
            account: row.account,
            name: self.names.of(row.account)?,
            time: row.time,
            text: row.text,
            photos: photos::shown(self.s, topic, id)?,
            mine,
            audience: if mine { shown_to(self.s, topic)? } else { None },
            likes: people,
            liked,
            comments,
        }))
    }
}
