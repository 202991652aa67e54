//! A word that somebody honest said, moved: to another post, or told as one's own.

use teahouse_core::moments::tables::{POSTS, PostRow, WORDS, WordRow};
use teahouse_core::store::{KeyRange, ReadExt, Snapshot};
use teahouse_core::tables::{CHAINS, Chain, EPOCHS, Epoch, TOPICS, Topic};
use teahouse_crdt::segment::{OwnChain, SegmentRef};
use teahouse_crdt::{MomentsEntry, TypedEntry};
use teahouse_protocols::envelope::{Draft, Envelope};
use teahouse_protocols::epoch::EpochSecret;
use teahouse_protocols::ids::TopicId;
use teahouse_protocols::membership::TopicKind;
use teahouse_protocols::moments::{
    Place, PostRef, Said, Word, hint, open_word, post_ref, seal_word,
};

use super::Pen;
use crate::chaos::check::{actor, id_in};
use crate::chaos::plan::{Town, short};
use crate::chaos::truth::Branch;

/// A comment that the villain can read.
#[derive(Clone)]
struct Heard {
    row: WordRow,
    word: Word,
}

impl Town {
    /// Moves a word that the villain can read into its own topic: as it is, or sealed anew for
    /// the post or for another.
    pub(super) fn transplant(&mut self, pen: &Pen) {
        let s = self.world.snapshot(pen.device);
        let Some(topic) = own_topic(&s, pen) else {
            // It needs Moments of its own to write into.
            self.post_as(pen.account, pen.device);
            return;
        };
        let Some(pen) = self.pen_in(pen.device, pen.account, topic) else { return };
        let posts = posts(&s);
        let Some(heard) = self.pick(&heard(&s, &pen, &posts)) else { return };
        let Some((onto, post_key)) = self.pick(&posts) else { return };
        let at = self.branch(&pen);
        let here = Place { topic, device: pen.id, seq: at.seq + 1 };
        let (how, entry) = match self.below(4) {
            0 => {
                let WordRow { on, hints, sealed, .. } = heard.row.clone();
                ("as it is", MomentsEntry::Word { on, hints, sealed })
            }
            1 => {
                let WordRow { hints, sealed, .. } = heard.row.clone();
                (
                    "as it is, to another post",
                    MomentsEntry::Word { on: post_ref(&post_key).0, hints, sealed },
                )
            }
            how => {
                // Sealed anew, for whoever reads that post: only what it says of itself is old.
                let (onto, post_key) = match posts.iter().find(|(p, _)| *p == heard.word.post) {
                    Some(same) if how == 2 => *same,
                    _ => (onto, post_key),
                };
                let Some(circle) = secrets(&s, onto.topic).pop() else { return };
                let on = post_ref(&post_key);
                let hints = vec![hint(&on, &circle)];
                let word = Word { parent: None, ..heard.word.clone() };
                let sealed = seal_word(&word, &here, &post_key, &[&circle], &mut self.rng);
                ("sealed anew", MomentsEntry::Word { on: on.0, hints, sealed })
            }
        };
        self.tell("hostile: a word moved", format!("{how}, in {}", short(topic)));
        self.write_entry(&pen, at, &entry);
    }

    /// Writes a valid change of one entry into the villain's own topic, and hands it to all who
    /// are connected.
    fn write_entry(&mut self, pen: &Pen, at: Branch, entry: &MomentsEntry) {
        let s = self.world.snapshot(pen.device);
        let key = [pen.topic.0, pen.id.0].concat();
        let chain: Option<Chain> = s.get_typed(&CHAINS, &key).expect("reads");
        let (high, segment) = chain.map_or((0, 0), |c| (c.high, c.segment));
        // A segment of its own, whose first change follows nothing.
        let segment = segment + 1 + u32::try_from(at.seq - high).unwrap_or(0);
        let place = SegmentRef { topic: pen.topic.0, number: segment };
        let Ok(entry) = entry.to_entry(at.seq + 1) else { return };
        let mut own = OwnChain::new(place, actor(pen.topic, pen.id, segment));
        let Ok(change) = own.append(&[entry]) else { return };
        let draft = Draft {
            topic: pen.topic,
            seq: at.seq + 1,
            prev: at.head,
            segment,
            heads: &pen.heads,
            epoch: pen.epoch,
            time: self.world.now,
            change: &change,
            bodies: &[],
        };
        let envelope = Envelope::seal(&draft, &pen.secret, &pen.key, &mut self.rng).expect("fits");
        let all = self.world.connected(pen.device);
        self.push(pen, &all, &envelope, Vec::new(), pen.topic);
        self.branches.insert(pen.topic, Branch { seq: at.seq + 1, head: envelope.id() });
    }
}

/// The villain's own Moments, in which somebody reads.
fn own_topic(s: &Snapshot, pen: &Pen) -> Option<TopicId> {
    let rows = s.scan_typed::<Topic>(&TOPICS, &KeyRange::all(), false, 4_096).ok()?;
    let moments = rows.into_iter().filter(|(_, row)| row.kind == TopicKind::Moments);
    let mut topics = moments.filter_map(|(key, _)| Some(TopicId(key.try_into().ok()?)));
    topics.find(|t| {
        let key = [t.0, pen.id.0].concat();
        s.get_typed::<Chain>(&CHAINS, &key).ok().flatten().is_some_and(|c| c.high > 0)
    })
}

/// Posts that are here, with their keys.
fn posts(s: &Snapshot) -> Vec<(Place, [u8; 32])> {
    let rows = s.scan_typed::<PostRow>(&POSTS, &KeyRange::all(), false, 4_096).expect("reads");
    rows.into_iter().map(|(key, row)| (place_in(&key), row.key)).collect()
}

fn place_in(key: &[u8]) -> Place {
    let id = id_in(key);
    let topic = TopicId(key[..32].try_into().expect("a topic"));
    Place { topic, device: id.device, seq: id.seq }
}

/// A topic's epochs, in no order.
fn secrets(s: &Snapshot, topic: TopicId) -> Vec<EpochSecret> {
    let rows = s.scan_typed::<Epoch>(&EPOCHS, &KeyRange::all(), false, 65_536).expect("reads");
    let of_topic = rows.into_iter().filter(|(_, e)| e.topic == topic);
    of_topic.map(|(_, e)| EpochSecret::from_bytes(e.secret)).collect()
}

/// Comments of others that open here, answers to nobody.
fn heard(s: &Snapshot, pen: &Pen, posts: &[(Place, [u8; 32])]) -> Vec<Heard> {
    let rows = s.scan_typed::<WordRow>(&WORDS, &KeyRange::all(), false, 4_096).expect("reads");
    let mut out = Vec::new();
    for (key, row) in rows {
        if row.account == pen.account || row.hints.len() != 1 {
            continue;
        }
        let on = PostRef(row.on);
        let Some((post, post_key)) = posts.iter().find(|(_, key)| post_ref(key) == on) else {
            continue;
        };
        let circles = secrets(s, post.topic);
        let Some(circle) = circles.iter().find(|c| hint(&on, c) == row.hints[0]) else { continue };
        let at = place_in(&key);
        let word = open_word(&row.sealed, &at, row.account, post, post_key, &[circle]);
        if let Ok(word) = word
            && matches!(word.said, Said::Comment { .. })
        {
            out.push(Heard { row, word });
        }
    }
    out
}
