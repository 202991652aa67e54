//! What sessions watch, and the fetches that are held until something comes. In memory only: a
//! client whose session is gone says hello again, and names its tags anew.
//!
//! A session proves a tag once; from then on the relay knows how far the client has it, and
//! each fetch goes on from there. So waiting costs a few bytes, however many tags there are.

use std::collections::{BTreeMap, BTreeSet};

use teahouse_protocols::ids::Tag;
use teahouse_protocols::mailbox::{MAX_WATCHED, Refusal};

/// How long a fetch is held, in milliseconds.
pub(super) const HOLD: u64 = 25_000;
/// Most sessions that watch something.
const MAX_SESSIONS: usize = 8_192;
/// Most tags watched, over all sessions: about 150 MB.
const MAX_TAGS: usize = 1 << 20;

/// What one session watches.
#[derive(Default)]
struct Watch {
    /// Its tags, and the highest index that the client has of each.
    tags: BTreeMap<Tag, u64>,
    /// Those under which there may be something for it.
    due: BTreeSet<Tag>,
    /// How many were not open here when they were named.
    closed: usize,
    /// Fetches answered.
    answers: u64,
    /// With its number.
    held: Option<(u64, Held)>,
}

/// A fetch that is held.
#[derive(Clone)]
pub(super) struct Held {
    /// The request to answer.
    pub(super) request: u64,
    /// Those of the tags it named that were not open when it came.
    pub(super) closed: Vec<Tag>,
    /// Held until something comes; otherwise only until its turn comes.
    pub(super) hold: bool,
    /// Uptime at which it is answered in any case. Rises with its number, because all are
    /// held equally long.
    pub(super) deadline: u64,
}

/// How something was before a batch that may fail changed it.
enum Before {
    /// Up to where a session has a tag, and whether there may be more.
    Tag { session: u64, tag: Tag, after: u64, due: bool },
    /// How many answers a session got.
    Answers { session: u64, answers: u64 },
    /// A fetch that was held.
    Held { session: u64, number: u64, held: Held },
}

/// All that is watched.
#[derive(Default)]
pub(super) struct Watches {
    sessions: BTreeMap<u64, Watch>,
    by_tag: BTreeSet<(Tag, u64)>,
    /// Sessions whose fetches are held, in order of arrival.
    held: BTreeMap<u64, u64>,
    /// Numbers of held fetches whose session has something due.
    due: BTreeSet<u64>,
    /// What the batch under way changed, in order.
    before: Vec<Before>,
    /// Requests of sessions that had to make room.
    evicted: Vec<u64>,
    next: u64,
}

impl Watches {
    /// How many fetches are held.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// How many tags a session watches.
    pub(super) fn count(&self, session: u64) -> usize {
        self.sessions.get(&session).map_or(0, |w| w.tags.len())
    }

    /// Adds tags to what a session watches, or says that it is too much. `due` says whether
    /// there may be something under a tag that the client does not have; `closed` of them are
    /// not open here.
    pub(super) fn add(
        &mut self,
        session: u64,
        reads: &[(Tag, u64, bool)],
        closed: usize,
    ) -> Result<(), Refusal> {
        if reads.is_empty() {
            return Ok(());
        }
        self.make_room(session, reads.len());
        let known = self.sessions.get(&session);
        let fresh: BTreeSet<Tag> = reads
            .iter()
            .map(|(tag, ..)| *tag)
            .filter(|tag| known.is_none_or(|w| !w.tags.contains_key(tag)))
            .collect();
        let own = known.map_or(0, |w| w.tags.len()) + fresh.len();
        let crowd = known.is_none() && self.sessions.len() >= MAX_SESSIONS;
        if own > MAX_WATCHED || self.by_tag.len() + fresh.len() > MAX_TAGS || crowd {
            return Err(Refusal::SlowDown);
        }
        self.by_tag.extend(fresh.into_iter().map(|tag| (tag, session)));
        let watch = self.sessions.entry(session).or_default();
        watch.closed += closed;
        for (tag, after, due) in reads {
            watch.tags.insert(*tag, *after);
            if *due {
                watch.due.insert(*tag);
            } else {
                watch.due.remove(tag);
            }
        }
        Ok(())
    }

    /// Where the table is nearly full, whoever watches most that is not open here goes: a tag
    /// that is open cost somebody a token, any other is free for strangers to make up.
    fn make_room(&mut self, session: u64, more: usize) {
        if self.by_tag.len() + more <= MAX_TAGS && self.sessions.len() < MAX_SESSIONS {
            return;
        }
        let worst = self.sessions.iter().max_by_key(|(_, w)| w.closed);
        let Some((worst, watch)) = worst.map(|(id, w)| (*id, w.closed)) else { return };
        if watch > 0 && worst != session {
            let held = self.forget(worst);
            self.evicted.extend(held.map(|held| held.request));
        }
    }

    /// Requests of sessions that watch nothing any more, for others needed the room.
    pub(super) fn evicted(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.evicted)
    }

    /// The how many-th answer of a session the next one is; 0 while it watches nothing.
    pub(super) fn answer(&mut self, session: u64) -> u64 {
        let Some(watch) = self.sessions.get_mut(&session) else { return 0 };
        self.before.push(Before::Answers { session, answers: watch.answers });
        watch.answers += 1;
        watch.answers
    }

    /// Whether there may be something for a session.
    pub(super) fn is_due(&self, session: u64) -> bool {
        self.sessions.get(&session).is_some_and(|w| !w.due.is_empty())
    }

    /// The tags of a session under which there may be something, with the highest index that
    /// the client has of each.
    pub(super) fn due_of(&self, session: u64) -> Vec<(Tag, u64)> {
        let Some(watch) = self.sessions.get(&session) else { return Vec::new() };
        watch.due.iter().filter_map(|tag| Some((*tag, *watch.tags.get(tag)?))).collect()
    }

    /// The client gets the item with this index under a tag. Undone when the batch fails
    /// ([`Self::undo`]).
    pub(super) fn advance(&mut self, session: u64, tag: Tag, index: u64) {
        let Some(watch) = self.sessions.get_mut(&session) else { return };
        let Some(after) = watch.tags.get_mut(&tag) else { return };
        let due = watch.due.contains(&tag);
        self.before.push(Before::Tag { session, tag, after: *after, due });
        *after = index.max(*after);
    }

    /// There is nothing more under a tag. Undone likewise.
    pub(super) fn end(&mut self, session: u64, tag: Tag) {
        let Some(watch) = self.sessions.get_mut(&session) else { return };
        let Some(after) = watch.tags.get(&tag).copied() else { return };
        if watch.due.remove(&tag) {
            self.before.push(Before::Tag { session, tag, after, due: true });
        }
    }

    /// Holds the fetch of a session that watches something and has none held; `now`: only until
    /// its turn comes.
    pub(super) fn hold(&mut self, session: u64, held: Held, now: bool) {
        let Some(watch) = self.sessions.get_mut(&session) else { return };
        let number = self.next;
        self.next += 1;
        self.held.insert(number, session);
        if now || !watch.due.is_empty() {
            self.due.insert(number);
        }
        watch.held = Some((number, held));
    }

    /// A session's held fetch is held no longer; undone when the batch fails.
    pub(super) fn replace(&mut self, session: u64) -> Option<Held> {
        let number = self.sessions.get(&session)?.held.as_ref()?.0;
        let held = self.release(session)?;
        self.before.push(Before::Held { session, number, held: held.clone() });
        Some(held)
    }

    /// A session's held fetch is held no longer.
    pub(super) fn release(&mut self, session: u64) -> Option<Held> {
        let (number, held) = self.sessions.get_mut(&session)?.held.take()?;
        self.held.remove(&number);
        self.due.remove(&number);
        Some(held)
    }

    /// Something may have come under a tag.
    pub(super) fn touch(&mut self, tag: Tag) {
        for (_, session) in self.by_tag.range((tag, 0)..=(tag, u64::MAX)) {
            if let Some(watch) = self.sessions.get_mut(session) {
                watch.due.insert(tag);
                self.due.extend(watch.held.as_ref().map(|(number, _)| *number));
            }
        }
    }

    /// Sessions whose held fetches are due, oldest first.
    pub(super) fn due(&self) -> Vec<u64> {
        self.due.iter().filter_map(|number| self.held.get(number).copied()).collect()
    }

    /// Whether any is due.
    pub(super) fn any_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// There was nothing for a session after all.
    pub(super) fn not_due(&mut self, session: u64) {
        if let Some((number, _)) = self.sessions.get(&session).and_then(|w| w.held.as_ref()) {
            self.due.remove(number);
        }
    }

    /// The fetch that is held for a session.
    pub(super) fn held_by(&self, session: u64) -> Option<&Held> {
        self.sessions.get(&session)?.held.as_ref().map(|(_, held)| held)
    }

    /// Sessions whose held fetches' time is over and that are not due.
    pub(super) fn over(&self, uptime: u64) -> Vec<u64> {
        self.held
            .iter()
            .take_while(|(_, s)| self.held_by(**s).is_some_and(|held| held.deadline <= uptime))
            .filter(|(number, _)| !self.due.contains(number))
            .map(|(_, session)| *session)
            .collect()
    }

    /// When the next held fetch's time is over.
    pub(super) fn deadline(&self) -> Option<u64> {
        let session = self.held.values().next()?;
        self.held_by(*session).map(|held| held.deadline)
    }

    /// A session watches nothing any more. Returns its held fetch.
    pub(super) fn forget(&mut self, session: u64) -> Option<Held> {
        let held = self.release(session);
        for tag in self.sessions.remove(&session).unwrap_or_default().tags.keys() {
            self.by_tag.remove(&(*tag, session));
        }
        held
    }

    /// The number of the next held fetch.
    pub(super) const fn mark(&self) -> u64 {
        self.next
    }

    /// The batch is durable: what it changed stands.
    pub(super) fn keep(&mut self) {
        self.before.clear();
    }

    /// The batch failed: its fetches since `mark` are held no longer, and what its answers
    /// would have brought is due again.
    pub(super) fn undo(&mut self, mark: u64) {
        let late: Vec<u64> = self.held.range(mark..).map(|(_, session)| *session).collect();
        for session in late {
            self.release(session);
        }
        for was in std::mem::take(&mut self.before).into_iter().rev() {
            match was {
                Before::Tag { session, tag, after: was, due } => {
                    let Some(watch) = self.sessions.get_mut(&session) else { continue };
                    let Some(after) = watch.tags.get_mut(&tag) else { continue };
                    *after = was;
                    if due {
                        watch.due.insert(tag);
                    }
                }
                Before::Answers { session, answers } => {
                    if let Some(watch) = self.sessions.get_mut(&session) {
                        watch.answers = answers;
                    }
                }
                Before::Held { session, number, held } => {
                    let Some(watch) = self.sessions.get_mut(&session) else { continue };
                    if watch.held.is_none() {
                        watch.held = Some((number, held));
                        self.held.insert(number, session);
                        // Looked at once more.
                        self.due.insert(number);
                    }
                }
            }
        }
    }

    #[cfg(test)]
    pub(super) fn is_consistent(&self) -> bool {
        let tags: usize = self.sessions.values().map(|w| w.tags.len()).sum();
        let held = self.sessions.values().filter(|w| w.held.is_some()).count();
        tags == self.by_tag.len()
            && held == self.held.len()
            && self.due.iter().all(|n| self.held.contains_key(n))
            && self.sessions.values().all(|w| w.due.iter().all(|t| w.tags.contains_key(t)))
    }
}
