//! Authoring: a device's own chain in one segment.

use super::{
    Actor, Entry, InvalidChange, InvalidEntries, MAX_CHAIN, MAX_CHANGE_BYTES, Misfit, SegmentRef,
    Tip, check_entries, encode_change, inspect,
};

/// A device's own chain in one segment.
///
/// It holds no document: a change depends on the chain's [`Tip`] and on nothing else. The same
/// chain given the same entries gives the same bytes.
#[derive(Debug, Clone)]
pub struct OwnChain {
    segment: SegmentRef,
    actor: Actor,
    tip: Tip,
}

/// Why entries can't be appended. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The entries break a bound.
    #[error(transparent)]
    Entries(#[from] InvalidEntries),
    /// The change would be longer than [`MAX_CHANGE_BYTES`].
    #[error("a change of {0} bytes")]
    TooLarge(usize),
    /// The chain has [`MAX_CHAIN`] changes: go on in the next segment.
    #[error("the chain is full")]
    ChainFull,
}

/// Why a chain can't be taken up again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResumeError {
    /// One of the changes is not valid.
    #[error("change {number} of the chain: {why}")]
    Invalid {
        /// The change's place among those given, from 1.
        number: u64,
        /// What is wrong with it.
        why: InvalidChange,
    },
    /// A valid change that does not follow the one before.
    #[error("change {number} of the chain: {why}")]
    Misfit {
        /// The change's place among those given, from 1.
        number: u64,
        /// How it does not fit.
        why: Misfit,
    },
}

impl OwnChain {
    /// A chain without changes.
    #[must_use]
    pub fn new(segment: SegmentRef, actor: Actor) -> Self {
        Self::resume_at(segment, actor, Tip::start(segment))
    }

    /// Takes a chain up after its own changes, given in order from the first.
    ///
    /// # Errors
    /// [`ResumeError`] names the first change that is not valid or doesn't follow.
    pub fn resume<'a>(
        segment: SegmentRef,
        actor: Actor,
        own_changes: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Self, ResumeError> {
        let mut chain = Self::new(segment, actor);
        for (bytes, number) in own_changes.zip(1..) {
            let change = inspect(bytes, segment, actor)
                .map_err(|why| ResumeError::Invalid { number, why })?;
            chain.tip.follow(&change).map_err(|why| ResumeError::Misfit { number, why })?;
        }
        Ok(chain)
    }

    /// Takes a chain up at a tip that the caller has kept, without reading its changes.
    #[must_use]
    pub fn resume_at(segment: SegmentRef, actor: Actor, tip: Tip) -> Self {
        Self { segment, actor, tip }
    }

    /// Encodes the chain's next change, with `entries` in any order, and moves on to it.
    ///
    /// # Errors
    /// [`AppendError`], for what [`inspect`] would refuse.
    pub fn append(&mut self, entries: &[Entry]) -> Result<Vec<u8>, AppendError> {
        if self.tip.len >= MAX_CHAIN {
            return Err(AppendError::ChainFull);
        }
        let mut entries: Vec<&Entry> = entries.iter().collect();
        entries.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        check_entries(entries.iter().copied())?;
        let seq = self.tip.len + 1;
        let change = encode_change(self.actor, seq, self.tip.head, entries.into_iter());
        let bytes = change.raw_bytes();
        if bytes.len() > MAX_CHANGE_BYTES {
            return Err(AppendError::TooLarge(bytes.len()));
        }
        self.tip = Tip { len: seq, head: change.hash().0 };
        Ok(bytes.to_vec())
    }

    /// Changes in the chain.
    #[allow(clippy::len_without_is_empty, reason = "a count, not a container")]
    pub const fn len(&self) -> u64 {
        self.tip.len
    }

    /// Where the chain has got to; what [`OwnChain::resume_at`] takes.
    pub const fn tip(&self) -> Tip {
        self.tip
    }

    /// The segment the chain is in.
    pub const fn segment(&self) -> SegmentRef {
        self.segment
    }

    /// The device's actor in the segment.
    pub const fn actor(&self) -> Actor {
        self.actor
    }
}
