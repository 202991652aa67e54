//! Fetches that are held until something comes, in memory only: a client whose answer is
//! lost with a restart asks again.

use std::collections::{BTreeMap, BTreeSet};

use teahouse_protocols::ids::Tag;
use teahouse_protocols::mailbox::Refusal;

/// How long a fetch is held, in milliseconds.
pub(super) const HOLD: u64 = 25_000;
/// Most fetches held for one session.
pub(super) const PER_SESSION: usize = 4;
/// Most fetches held.
pub(super) const MAX_WAITS: usize = 8_192;
/// Most tags waited for, over all fetches held: about 40 MB.
pub(super) const MAX_READS: usize = 1 << 18;

/// A fetch that is held.
pub(super) struct Wait {
    /// The request to answer.
    pub(super) request: u64,
    pub(super) session: u64,
    /// Tags and the highest index the client has of each.
    pub(super) reads: Vec<(Tag, u64)>,
    /// Those that were not open when the request came.
    pub(super) closed: Vec<Tag>,
    /// Held until something comes; otherwise only until its turn comes.
    pub(super) hold: bool,
    /// Uptime at which it is answered in any case. Rises with the wait's number, because all
    /// are held equally long.
    pub(super) deadline: u64,
}

/// The fetches held, by number in order of arrival.
#[derive(Default)]
pub(super) struct Waits {
    all: BTreeMap<u64, Wait>,
    by_tag: BTreeSet<(Tag, u64, u16)>,
    by_session: BTreeMap<u64, Vec<u64>>,
    /// Waits for which there may be something, and the positions of the reads in question.
    due: BTreeMap<u64, BTreeSet<u16>>,
    reads: usize,
    next: u64,
}

impl Waits {
    /// How many fetches are held.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Holds a fetch, or says that too many are held. `due`: look at all of its tags as soon
    /// as possible.
    pub(super) fn hold(&mut self, wait: Wait, due: bool) -> Result<(), Refusal> {
        let own = self.by_session.get(&wait.session).map_or(0, Vec::len);
        let reads = self.reads + wait.reads.len();
        if own >= PER_SESSION || self.all.len() >= MAX_WAITS || reads > MAX_READS {
            return Err(Refusal::SlowDown);
        }
        let number = self.next;
        self.next += 1;
        self.reads = reads;
        self.by_session.entry(wait.session).or_default().push(number);
        for (position, (tag, _)) in (0..).zip(&wait.reads) {
            self.by_tag.insert((*tag, number, position));
            if due {
                self.due.entry(number).or_default().insert(position);
            }
        }
        self.all.insert(number, wait);
        Ok(())
    }

    /// Something may have come under a tag.
    pub(super) fn touch(&mut self, tag: Tag) {
        for (_, number, position) in self.by_tag.range((tag, 0, 0)..=(tag, u64::MAX, u16::MAX)) {
            self.due.entry(*number).or_default().insert(*position);
        }
    }

    /// Waits that are due, oldest first, with the reads to look at.
    pub(super) fn due(&self) -> impl Iterator<Item = (u64, &Wait, Vec<(Tag, u64)>)> {
        self.due.iter().filter_map(|(number, positions)| {
            let wait = self.all.get(number)?;
            let reads = positions.iter().filter_map(|p| wait.reads.get(usize::from(*p)).copied());
            Some((*number, wait, reads.collect()))
        })
    }

    /// Whether any is due.
    pub(super) fn any_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// There was nothing for it after all.
    pub(super) fn not_due(&mut self, number: u64) {
        self.due.remove(&number);
    }

    /// Waits whose time is over and that are not due.
    pub(super) fn over(&self, uptime: u64) -> impl Iterator<Item = (u64, &Wait)> {
        self.all
            .iter()
            .take_while(move |(_, wait)| wait.deadline <= uptime)
            .filter(|(number, _)| !self.due.contains_key(number))
            .map(|(number, wait)| (*number, wait))
    }

    /// When the next wait's time is over.
    pub(super) fn deadline(&self) -> Option<u64> {
        self.all.values().next().map(|wait| wait.deadline)
    }

    pub(super) fn remove(&mut self, number: u64) {
        let Some(wait) = self.all.remove(&number) else { return };
        self.due.remove(&number);
        self.reads -= wait.reads.len();
        for (position, (tag, _)) in (0..).zip(&wait.reads) {
            self.by_tag.remove(&(*tag, number, position));
        }
        if let Some(own) = self.by_session.get_mut(&wait.session) {
            own.retain(|n| *n != number);
            if own.is_empty() {
                self.by_session.remove(&wait.session);
            }
        }
    }

    pub(super) fn close_session(&mut self, session: u64) {
        for number in self.by_session.remove(&session).unwrap_or_default() {
            self.remove(number);
        }
    }

    /// The number of the next wait.
    pub(super) const fn mark(&self) -> u64 {
        self.next
    }

    /// Forgets the waits that came since `mark`.
    pub(super) fn forget_since(&mut self, mark: u64) {
        let late: Vec<u64> = self.all.range(mark..).map(|(number, _)| *number).collect();
        for number in late {
            self.remove(number);
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty_inside(&self) -> bool {
        self.all.is_empty()
            && self.by_tag.is_empty()
            && self.by_session.is_empty()
            && self.due.is_empty()
            && self.reads == 0
    }
}
