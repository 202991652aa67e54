//! What was posted and said in Moments, to whom, and what was taken back.

use std::collections::{BTreeMap, BTreeSet};

use teahouse_core::moments::Audience;
use teahouse_protocols::ids::{AccountId, Millis, TopicId};

use crate::world::moments::Place;

/// What people did in Moments.
#[derive(Debug, Default)]
pub struct Moments {
    /// Posts whose authors were told that they are durable, by their numbers.
    pub posts: BTreeMap<u64, Post>,
    /// Comments, likewise.
    pub comments: BTreeMap<u64, Comment>,
    /// Whose every number is, from before it was acknowledged.
    pub written_by: BTreeMap<u64, AccountId>,
    /// Whose each topic is, and to whom it is shown.
    pub topics: BTreeMap<TopicId, (AccountId, Audience)>,
    /// Likes: the post, and whose.
    pub likes: BTreeMap<(Place, AccountId), Likes>,
    /// What somebody asked to take back, on which devices.
    pub taken_back: BTreeMap<Place, BTreeSet<usize>>,
}

/// A post.
#[derive(Debug, Clone)]
pub struct Post {
    /// Where it stands.
    pub at: Place,
    /// Who posted it.
    pub author: AccountId,
    /// On which device.
    pub device: usize,
    /// When.
    pub time: Millis,
    /// Devices that all who could give it to them knew to be out of their accounts.
    pub out: BTreeSet<usize>,
}

/// A comment.
#[derive(Debug, Clone)]
pub struct Comment {
    /// Where it stands.
    pub at: Place,
    /// Who says it.
    pub by: AccountId,
    /// On which device.
    pub device: usize,
    /// The post.
    pub post: Place,
    /// The comment that it answers.
    pub answers: Option<Place>,
}

/// What somebody asked for about liking a post.
#[derive(Debug, Clone, Default)]
pub struct Likes {
    /// How often.
    pub asked: usize,
    /// How often there was an answer: a device that goes down meanwhile gives none.
    pub answered: usize,
    /// What was acknowledged: on which device, yes or no.
    pub done: Vec<(usize, bool)>,
}

impl Moments {
    /// Whether a topic's rule lets an account read; its author's it does not judge.
    #[must_use]
    pub fn rule_allows(&self, topic: TopicId, account: AccountId) -> bool {
        match self.topics.get(&topic) {
            None | Some((_, Audience::Friends)) => true,
            Some((_, Audience::Except(names))) => !names.contains(&account),
            Some((_, Audience::Only(names))) => names.contains(&account),
        }
    }
}
