//! Words on posts: sealing one's own, and opening those that this device has the keys to.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use teahouse_crdt::MomentsEntry;
use teahouse_protocols::epoch::EpochSecret;
use teahouse_protocols::ids::{AccountId, DeviceId, EpochId, Millis, TopicId};
use teahouse_protocols::moments::{
    Hint, Place, PostRef, Said, Word, hint, open_word, post_ref, seal_word,
};

use super::command::{circle_due, entries};
use super::tables::{CIRCLES, POSTS, PostRow, WORDS, WORDS_ON, WordRow};
use crate::command::{MessageId, Refusal};
use crate::engine::topics::MAX_EPOCHS;
use crate::engine::{letters, topics};
use crate::store::{Key, KeyRange, KeyReader, Read, ReadExt, StorageError};
use crate::tables::{Chosen, EPOCHS, Epoch, log_key};
use crate::tx::{Fail, Tx};

/// Most words of a post that are looked at.
const MAX_WORDS: usize = 4_096;
/// Of those, most in one topic: nobody's words push out everybody else's.
const MAX_WORDS_EACH: usize = 128;
/// How deep replies go: further ones are not opened.
const MAX_DEPTH: usize = 16;

/// The reference of a post.
pub(super) fn reference(post: &PostRow) -> [u8; 32] {
    post_ref(&post.key).0
}

/// Writes a word into the own topic.
pub(super) fn append(
    tx: &mut Tx<'_>,
    own: TopicId,
    post: &PostRow,
    at: Place,
    parent: Option<Place>,
    said: Said,
) -> Result<MessageId, Fail> {
    let (by, device) = (tx.account()?, tx.me()?.device);
    let on = post_ref(&post.key);
    let mut circles = vec![newest(tx, at.topic)?];
    if let Some(parent) = parent {
        circles.push(newest(tx, parent.topic)?);
    }
    let hints = circles.iter().map(|c| hint(&on, c)).collect();
    let word = Word { version: 1, post: at, parent, by, said };
    let due = circle_due(tx, own)?;
    let mut rng = ChaCha20Rng::from_rng(tx.rng);
    letters::append(tx, own, &[], |seq, _| {
        let here = Place { topic: own, device, seq };
        let circles: Vec<&EpochSecret> = circles.iter().collect();
        let sealed = seal_word(&word, &here, &post.key, &circles, &mut rng);
        let word = MomentsEntry::Word { on: on.0, hints, sealed };
        entries(seq, due.into_iter().chain([word]))
    })
}

/// The Lamport number of this account's newest like of a post; 0 where it never said.
pub(super) fn last_like(tx: &mut Tx<'_>, topic: TopicId, id: MessageId) -> Result<u64, Fail> {
    let own = tx.account()?;
    let key = log_key(topic, id.device, id.seq);
    let Some(post) = tx.typed::<PostRow>(&POSTS, &key)? else { return Ok(0) };
    let at = Place { topic, device: id.device, seq: id.seq };
    let said = opened(&tx.stage, &mut Circles::default(), &post, at)?;
    let numbers = said.iter().filter(|w| w.account == own).filter_map(|w| match w.said {
        Said::Like { lamport, .. } => Some(lamport),
        Said::Comment { .. } => None,
    });
    Ok(numbers.max().unwrap_or(0))
}

/// The secret of a circle: of the epoch that its author names for this, else of the newest
/// that came.
fn newest(tx: &mut Tx<'_>, topic: TopicId) -> Result<EpochSecret, Fail> {
    let named: Option<Chosen<EpochId>> = tx.typed(&CIRCLES, &topic.0)?;
    let epoch = match named {
        Some(named) => Some(named.value),
        None => topics::epochs(&tx.stage, topic, 1)?.first().copied(),
    };
    let epoch = epoch.ok_or_else(|| Refusal::NotAllowed {
        why: "the keys to this post have not come yet".into(),
    })?;
    secret(&tx.stage, epoch)?.ok_or_else(|| Fail::peer("an epoch without a secret"))
}

fn secret(read: &dyn Read, epoch: EpochId) -> Result<Option<EpochSecret>, StorageError> {
    let row: Option<Epoch> = read.get_typed(&EPOCHS, &epoch.0)?;
    Ok(row.map(|r| EpochSecret::from_bytes(r.secret)))
}

/// A word that opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Opened {
    pub(super) at: Place,
    pub(super) account: AccountId,
    pub(super) time: Millis,
    pub(super) parent: Option<Place>,
    pub(super) said: Said,
}

/// All words on a post that this device has the keys to, in the order of their times.
pub(super) fn opened(
    read: &dyn Read,
    known: &mut Circles,
    post: &PostRow,
    at: Place,
) -> Result<Vec<Opened>, StorageError> {
    let on = post_ref(&post.key);
    let mut left = on_post(read, &on)?;
    let circle = known.of(read, at.topic, &on)?;
    // Whoever wrote a comment that opened, and in which circle.
    let mut circles: BTreeMap<TopicId, Circle> = BTreeMap::new();
    let mut comments: BTreeSet<Place> = BTreeSet::new();
    let mut out = Vec::new();
    for depth in 0..MAX_DEPTH {
        let mut next = Vec::new();
        let before = out.len();
        for (here, row) in left {
            let Some(first) = row.hints.first().and_then(|h| circle.0.get(h)) else { continue };
            // Whoever is answered: a word opens with the circle of a comment that is known.
            let second = row.hints.get(1).map(|h| circles.values().find_map(|c| c.0.get(h)));
            let keys = match second {
                None => vec![first],
                Some(Some(second)) => vec![first, second],
                Some(None) => {
                    next.push((here, row));
                    continue;
                }
            };
            let word = open_word(&row.sealed, &here, row.account, &at, &post.key, &keys);
            let Ok(word) = word else { continue };
            match (&word.parent, row.hints.len()) {
                (None, 1) => {}
                // What it answers is on this post, and was read.
                (Some(parent), 2) if comments.contains(parent) => {}
                (Some(_), 2) if depth + 1 < MAX_DEPTH => {
                    next.push((here, row));
                    continue;
                }
                _ => continue,
            }
            if matches!(word.said, Said::Comment { .. }) {
                comments.insert(here);
                if let Entry::Vacant(slot) = circles.entry(here.topic) {
                    slot.insert(known.of(read, here.topic, &on)?);
                }
            }
            let (account, time) = (row.account, row.time);
            out.push(Opened { at: here, account, time, parent: word.parent, said: word.said });
        }
        left = next;
        if out.len() == before {
            break;
        }
    }
    out.sort_by_key(|w| (w.time, w.at));
    Ok(out)
}

/// Secrets of circles, read once for one answer.
#[derive(Default)]
pub(super) struct Circles(BTreeMap<TopicId, Vec<EpochSecret>>);

impl Circles {
    fn of(
        &mut self,
        read: &dyn Read,
        topic: TopicId,
        on: &PostRef,
    ) -> Result<Circle, StorageError> {
        let secrets = match self.0.entry(topic) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(slot) => {
                let mut all = Vec::new();
                for epoch in topics::epochs(read, topic, MAX_EPOCHS)? {
                    all.extend(secret(read, epoch)?);
                }
                slot.insert(all)
            }
        };
        Ok(Circle(secrets.iter().map(|s| (hint(on, s), s.clone())).collect()))
    }
}

/// The epochs of a circle, by the hint that each has on one post.
struct Circle(BTreeMap<Hint, EpochSecret>);

/// Words on a post, of each topic the newest of each device.
fn on_post(read: &dyn Read, on: &PostRef) -> Result<Vec<(Place, WordRow)>, StorageError> {
    let mut out = Vec::new();
    let mut range = KeyRange::prefix(&on.0);
    while let Some((key, _)) = read.scan(&WORDS_ON, &range, true, 1)?.pop()
        && out.len() < MAX_WORDS
    {
        let topic = TopicId(KeyReader::new(&WORDS_ON, &key[32..]).fixed()?);
        let of_topic = Key::new().fixed(&on.0).fixed(&topic.0).into_bytes();
        let each = KeyRange::prefix(&of_topic);
        for (key, _) in read.scan(&WORDS_ON, &each, true, MAX_WORDS_EACH)? {
            let mut reader = KeyReader::new(&WORDS_ON, &key[64..]);
            let (device, seq) = (DeviceId(reader.fixed()?), reader.u64()?);
            let row: Option<WordRow> = read.get_typed(&WORDS, &log_key(topic, device, seq))?;
            out.extend(row.map(|row| (Place { topic, device, seq }, row)));
        }
        range = range.before(&of_topic);
    }
    Ok(out)
}
