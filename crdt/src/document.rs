//! The merged segment: all devices' chains in one automerge document.
//!
//! A cache: the sealed log is the truth, and whoever has the changes can build the same document
//! again. Applying costs in proportion to the document, so changes come in batches.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::panic::{AssertUnwindSafe, catch_unwind};

use automerge::{
    ActorId, Automerge, Change, ChangeHash, ExpandedChange, ROOT, ReadDoc, ScalarValueRef, ValueRef,
};

use crate::segment::{Actor, Entry, Inspected, Misfit, SegmentRef, Tip};

/// The merged document of one segment.
///
/// What it holds is a function of the set of changes applied, not of their order.
#[derive(Debug, Clone)]
pub struct Document {
    segment: SegmentRef,
    doc: Automerge,
    /// Where each device's chain has got to in `doc`; devices without changes are absent.
    tips: BTreeMap<Actor, Tip>,
    /// Automerge panicked or refused what we had checked: `doc` may hold half a batch.
    broken: bool,
}

/// What became of a batch.
#[derive(Debug, Default)]
pub struct Applied {
    /// Changes that are in the document now and weren't before.
    pub applied: usize,
    /// Changes that were in the document already. Copies within a batch count once.
    pub known: usize,
    /// Changes whose chain has a gap before them. The document keeps none of them: they are to
    /// be offered again when the gap is filled, from here or from the log.
    pub waiting: Vec<Inspected>,
    /// Changes that fork their chain: the document holds, or this batch held, another change
    /// of the same number. Which of two forks comes first depends on arrival, so the caller,
    /// who has the proof of equivocation, cuts the chain and builds the document again.
    pub forks: Vec<Inspected>,
    /// Changes inspected for another segment.
    pub strays: Vec<Inspected>,
}

/// The document is unusable and is to be built again from the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("automerge failed on checked changes; the document must be rebuilt")]
pub struct ApplyError;

/// Why saved bytes are not this segment's document. The caller builds it again from the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// Automerge can't read it.
    #[error("not an automerge document")]
    Malformed,
    /// Automerge panicked reading it.
    #[error("automerge panicked")]
    Panicked,
    /// It doesn't begin with this segment's genesis, or holds what no chain of devices makes.
    #[error("not a document of this segment")]
    WrongSegment,
}

impl Document {
    /// The segment with nothing but its genesis.
    #[must_use]
    pub fn new(segment: SegmentRef) -> Self {
        let mut doc = Automerge::new();
        let broken = !apply_isolated(&mut doc, vec![segment.genesis()]);
        Self { segment, doc, tips: BTreeMap::new(), broken }
    }

    /// Applies a batch, in whatever order it comes. Each device's chain is taken by itself:
    /// what is missing or wrong in one holds up none of the others.
    ///
    /// # Errors
    /// [`ApplyError`] when automerge fails; from then on always.
    pub fn apply(
        &mut self,
        batch: impl IntoIterator<Item = Inspected>,
    ) -> Result<Applied, ApplyError> {
        let mut batch: Vec<Inspected> = batch.into_iter().collect();
        // By hash too, so that which of two forks in one batch wins is no accident of order.
        batch.sort_by_cached_key(|c| (c.actor(), c.seq(), c.hash()));
        batch.dedup_by_key(|c| (c.actor(), c.seq(), c.hash()));
        let mut out = Applied::default();
        let mut next: Vec<Change> = Vec::with_capacity(batch.len());
        let mut tips = self.tips.clone();
        let start = Tip::start(self.segment);
        for change in batch {
            if change.segment() != self.segment {
                out.strays.push(change);
                continue;
            }
            let mut tip = tips.get(&change.actor()).copied().unwrap_or(start);
            match tip.follow(&change) {
                Ok(()) => {
                    tips.insert(change.actor(), tip);
                    next.push(change.into_change());
                }
                Err(Misfit::Past) if self.has(change.hash()) => out.known += 1,
                Err(Misfit::Past | Misfit::Fork) => out.forks.push(change),
                Err(Misfit::Gap { .. }) => out.waiting.push(change),
            }
        }
        out.applied = next.len();
        if self.broken || (!next.is_empty() && !apply_isolated(&mut self.doc, next)) {
            self.broken = true;
            return Err(ApplyError);
        }
        self.tips = tips;
        Ok(out)
    }

    /// The document as bytes for [`Document::load`].
    #[must_use]
    pub fn save(&self) -> Vec<u8> {
        self.doc.save()
    }

    /// A document that [`Document::save`] wrote. For bytes of one's own store, not of others:
    /// inflating them is not bounded.
    ///
    /// # Errors
    /// [`LoadError`]
    pub fn load(segment: SegmentRef, bytes: &[u8]) -> Result<Self, LoadError> {
        let doc = catch_unwind(|| Automerge::load(bytes))
            .map_err(|_| LoadError::Panicked)?
            .map_err(|_| LoadError::Malformed)?;
        let genesis = ChangeHash(segment.genesis_hash());
        if doc.get_change_meta_by_hash(&genesis).is_none() {
            return Err(LoadError::WrongSegment);
        }
        let mut tips = BTreeMap::new();
        // Chains never merge: every head but a lone genesis is the tip of one device's chain.
        for head in doc.get_heads().into_iter().filter(|h| *h != genesis) {
            let (actor, tip) = doc
                .get_change_meta_by_hash(&head)
                .and_then(|m| {
                    let actor = Actor(m.actor.to_bytes().try_into().ok()?);
                    Some((actor, Tip { len: m.seq, head: head.0 }))
                })
                .ok_or(LoadError::WrongSegment)?;
            if tips.insert(actor, tip).is_some() {
                return Err(LoadError::WrongSegment);
            }
        }
        Ok(Self { segment, doc, tips, broken: false })
    }

    /// The newest value of every key, by actor and then by key.
    pub fn entries(&self) -> impl Iterator<Item = (Actor, Entry)> + '_ {
        self.doc.map_range(&ROOT, ..).filter_map(|item| {
            let (actor, key) = Actor::split_key(&item.key)?;
            let ValueRef::Scalar(ScalarValueRef::Bytes(value)) = item.value else {
                return None;
            };
            Some((actor, Entry { key: key.to_owned(), value: value.into_owned() }))
        })
    }

    /// The newest value under one device's key.
    #[must_use]
    pub fn get(&self, actor: Actor, key: &str) -> Option<Vec<u8>> {
        let (value, _) = self.doc.get(&ROOT, actor.prefix() + key).ok()??;
        value.as_bytes().map(<[u8]>::to_vec)
    }

    /// The segment.
    pub const fn segment(&self) -> SegmentRef {
        self.segment
    }

    /// Where a device's chain has got to in this document.
    #[must_use]
    pub fn tip(&self, actor: Actor) -> Tip {
        match self.tips.get(&actor) {
            Some(tip) => *tip,
            None => Tip::start(self.segment),
        }
    }

    /// The chains in this document, by actor.
    pub fn tips(&self) -> impl ExactSizeIterator<Item = (Actor, Tip)> + '_ {
        self.tips.iter().map(|(actor, tip)| (*actor, *tip))
    }

    /// Content changes in the document, of all devices.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.tips.values().map(|t| t.len).sum()
    }

    /// Hashes of the last change of every chain, ascending; of the genesis if there is none.
    #[must_use]
    pub fn heads(&self) -> Vec<[u8; 32]> {
        let mut heads: Vec<_> = self.doc.get_heads().into_iter().map(|h| h.0).collect();
        heads.sort_unstable();
        heads
    }

    /// Equal on two replicas exactly if they hold the same changes.
    ///
    /// It is the SHA-256 that automerge would give an empty change on top of all heads; a head
    /// commits to its whole chain.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let merge: Change = ExpandedChange {
            operations: Vec::new(),
            actor_id: ActorId::from(b"digest"),
            hash: None,
            seq: 1,
            start_op: NonZeroU64::MIN,
            time: 0,
            message: None,
            deps: self.heads().into_iter().map(ChangeHash).collect(),
            extra_bytes: Vec::new(),
            author: None,
        }
        .into();
        merge.hash().0
    }

    fn has(&self, hash: [u8; 32]) -> bool {
        self.doc.get_change_meta_by_hash(&ChangeHash(hash)).is_some()
    }
}

/// False if automerge refused or panicked; `doc` is then not to be used any more.
fn apply_isolated(doc: &mut Automerge, changes: Vec<Change>) -> bool {
    matches!(catch_unwind(AssertUnwindSafe(|| doc.apply_changes(changes))), Ok(Ok(())))
}

#[cfg(test)]
mod tests;
