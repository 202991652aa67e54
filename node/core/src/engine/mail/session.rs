//! The session with one relay: what was asked of it, and what waits until when. All of it is
//! volatile; losing it costs a round trip.

use std::collections::BTreeMap;
use std::mem::{Discriminant, discriminant};

use teahouse_protocols::ids::{DeviceId, Millis, Tag, TopicId};
use teahouse_protocols::mailbox::Token;

use crate::tables::TagSource;

/// Tags and topics of one relay whose trouble is remembered.
pub(super) const MAX_HUSHED: usize = 4_096;
/// How long a refusal stands that is not repeated: longer than anything waits ([`Hush`]).
pub(super) const REFUSAL_STANDS: Millis = 10 * 60 * 1000;

/// The session with one relay. Volatile.
#[derive(Debug, Default)]
pub(crate) struct Session {
    pub(super) challenge: Option<[u8; 32]>,
    pub(super) inflight: BTreeMap<u64, Pending>,
    pub(super) retry_at: Millis,
    pub(super) fails: u32,
    pub(super) tags_checked: Millis,
    /// Tags to be opened.
    pub(super) to_open: BTreeMap<Tag, TagSource>,
    /// The tags that the relay watches for this session, and up to where it gave what was under
    /// each. Where that is beyond what is held here, something was of no use, or was lost.
    pub(super) watched: BTreeMap<Tag, u64>,
    /// Since when it does, and for the how many-th time it was told so.
    pub(super) watched_since: Millis,
    pub(super) generation: u64,
    /// Answers to fetches taken in since, and those that overtook earlier ones.
    pub(super) taken: u64,
    pub(super) early: BTreeMap<u64, Brought>,
    /// The last topic tag named: where there are too many, the next session begins after it.
    pub(super) named: Option<Tag>,
    /// What is watched has to be compared with what should be.
    pub(super) look: bool,
    /// When the first of the tags that are left alone for a while is to be named again.
    pub(super) hushed_until: Option<Millis>,
    /// When every tag was last noted as read to its end.
    pub(super) noted: Millis,
    /// Where each tag stood when items came for it: if it stands there still when it is asked
    /// for again, they were of no use.
    pub(super) served: BTreeMap<Tag, u64>,
    /// Tags, and topics, that wait on their own: what is wrong with one is no reason to leave
    /// the others alone.
    pub(super) hushed: BTreeMap<[u8; 32], Hush>,
    /// The same for fetches that come back at once with nothing.
    pub(super) empty: Hush,
    /// When each topic's cursor may be mailed.
    pub(super) cursor_due: BTreeMap<TopicId, Millis>,
    /// The last refusal.
    pub(super) refused: Option<Refused>,
}

impl Session {
    /// Waits longer after each failure, up to half a minute. Requests that fail together
    /// count once.
    pub(super) fn back_off(&mut self, now: Millis) {
        if self.retry_at > now {
            return;
        }
        self.retry_at = now + (500 << self.fails).min(30_000);
        self.fails = (self.fails + 1).min(6);
    }

    /// Leaves one tag or topic alone for a while, longer each time.
    pub(super) fn hush(&mut self, id: [u8; 32], now: Millis) {
        if self.hushed.len() >= MAX_HUSHED && !self.hushed.contains_key(&id) {
            self.hushed.retain(|_, h| h.until > now);
            if self.hushed.len() >= MAX_HUSHED {
                self.hushed.pop_first();
            }
        }
        self.hushed.entry(id).or_default().again(now);
    }

    /// The session is over: the relay is greeted before anything else is asked.
    pub(super) fn end(&mut self) {
        self.challenge = None;
        self.watched.clear();
        self.early.clear();
    }

    /// The relay answered the greeting.
    pub(super) fn begin(&mut self, challenge: [u8; 32], now: Millis) {
        self.challenge = Some(challenge);
        self.watched.clear();
        self.early.clear();
        self.taken = 0;
        self.watched_since = now;
        self.generation += 1;
        self.look = true;
    }

    /// Until when a tag or topic is left alone, if it is.
    pub(super) fn quiet(&self, id: &[u8; 32], now: Millis) -> Option<Millis> {
        self.hushed.get(id).map(|h| h.until).filter(|until| *until > now)
    }
}

/// What a refill is hushed by: no mailbox has this name.
pub(super) const REFILL: [u8; 32] = [0; 32];

/// What a request under way is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Pending {
    Hello,
    Admit,
    Refill(Token),
    Open(Tag, Token),
    Fetch(Fetch),
    Run { topic: TopicId, first: u64, upto: u64 },
    Cursor { topic: TopicId, acks: Vec<(DeviceId, u64)> },
    Out { key: Vec<u8>, tag: Tag },
}

impl Pending {
    /// Whether it is a fetch of the session as it is now.
    pub(super) fn is_fetch_of(&self, generation: u64) -> bool {
        matches!(self, Self::Fetch(fetch) if fetch.generation == generation)
    }

    /// The tag or topic it is about; `None` when it concerns the whole relay.
    pub(super) const fn about(&self) -> Option<[u8; 32]> {
        match self {
            Self::Run { topic, .. } | Self::Cursor { topic, .. } => Some(topic.0),
            Self::Open(tag, _) | Self::Out { tag, .. } => Some(tag.0),
            Self::Refill(_) => Some(REFILL),
            Self::Hello | Self::Admit | Self::Fetch(_) => None,
        }
    }
}

/// A fetch under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fetch {
    /// The tags that it names, and the highest index held of each.
    pub(super) reads: BTreeMap<Tag, u64>,
    /// Whether it is to be held.
    pub(super) wait: bool,
    /// The session's [`Session::generation`].
    pub(super) generation: u64,
    pub(super) sent: Millis,
}

/// What a fetch brought.
#[derive(Debug)]
pub(super) struct Brought {
    pub(super) fetch: Fetch,
    pub(super) items: Vec<(Tag, u64, Vec<u8>)>,
    pub(super) more: bool,
    /// How many tags the relay says that it watches.
    pub(super) watched: u32,
}

/// A refusal that is told to people: until the same succeeds, or it was not repeated for
/// longer than anything waits to be tried again. That the relay answers something else is no
/// reason to forget it.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) kind: Discriminant<Pending>,
    /// The tag or topic it is about; `None` when it says something of the relay.
    pub(super) about: Option<[u8; 32]>,
    pub(super) at: Millis,
}

impl Refused {
    pub(super) fn is_settled_by(&self, success: &Pending, now: Millis) -> bool {
        now >= self.at.saturating_add(REFUSAL_STANDS)
            || self.kind == discriminant(success)
                && (self.about.is_none() || self.about == success.about())
    }
}

/// How long something waits after it failed.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Hush {
    pub(super) until: Millis,
    fails: u32,
}

impl Hush {
    /// Twice as long each time, up to nine minutes. What fails together counts once.
    pub(super) const fn again(&mut self, now: Millis) {
        if self.until <= now {
            self.until = now + (1_000 << self.fails);
            self.fails = if self.fails < 9 { self.fails + 1 } else { 9 };
        }
    }
}
