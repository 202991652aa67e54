//! What Moments keep.

use serde::{Deserialize, Serialize};
use teahouse_protocols::ids::AccountId;
use teahouse_protocols::ids::Millis;
use teahouse_protocols::moments::Hint;

use crate::command::MessageId;
use crate::store::Key;

crate::tables::tables! {
    /// topic, device, seq → [`PostRow`].
    projection POSTS = "posts";
    /// time (u64), topic, device, seq → nothing: all posts in the order in which they are shown.
    projection TIMELINE = "timeline";
    /// topic, device, seq → [`WordRow`].
    projection WORDS = "words";
    /// post reference, topic, device, seq → nothing: words on a post.
    projection WORDS_ON = "words_on";
    /// topic, device, seq of the target → nothing.
    projection DELETED = "moments_deleted";
    /// topic → the epoch to seal words on its posts under (`Chosen<EpochId>`).
    projection CIRCLES = "circles";
}

/// A post.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostRow {
    /// The author.
    pub account: AccountId,
    /// Its key: words on it are sealed under it.
    pub key: [u8; 32],
    /// For display.
    pub time: Millis,
    /// The text; `None` while its body is missing.
    pub text: Option<String>,
    /// Position of the first body in the envelope.
    pub body: u8,
    /// Number of bodies.
    pub bodies: u8,
}

/// A word on a post, as it came: who can open it does so when it is shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WordRow {
    /// Who says it.
    pub account: AccountId,
    /// The post's reference.
    pub on: [u8; 32],
    /// Which epochs of the circles were taken.
    pub hints: Vec<Hint>,
    /// The sealed word.
    pub sealed: Vec<u8>,
    /// For display.
    pub time: Millis,
}

/// A key that ends with a place: what comes before, topic, device, seq.
pub(super) fn placed(before: Key, topic: [u8; 32], id: MessageId) -> Vec<u8> {
    before.fixed(&topic).fixed(&id.device.0).u64(id.seq).into_bytes()
}
