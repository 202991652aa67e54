//! Whom to dial, under which addresses, and when to try again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use super::MAX_KNOWN;

/// The first pause after a failed attempt; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause between attempts.
const LONGEST_PAUSE: Duration = Duration::from_mins(15);

/// Most peers with remembered addresses that are not known.
const MAX_UNKNOWN: usize = 256;

/// A pause that doubles with each failure, spread by up to half of itself either way so
/// that peers which lost each other don't dial in step.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The pause before the next attempt; `jitter` is random.
    pub(super) fn next(&mut self, jitter: u64) -> Duration {
        let doubled = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16));
        self.failures += 1;
        let pause = doubled.min(LONGEST_PAUSE);
        let spread = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX).max(1);
        pause / 2 + Duration::from_millis(jitter % spread)
    }

    /// Starts again with a short pause.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// What is remembered about a peer.
#[derive(Debug, Default)]
pub(super) struct Contact {
    /// Its own addresses.
    pub(super) direct: Vec<Multiaddr>,
    /// Relays at which it may be found.
    pub(super) relays: Vec<PeerId>,
    pub(super) backoff: Backoff,
    /// A redial is due at the timer with this number; earlier ones are void.
    pub(super) timer: Option<u64>,
}

/// The peers and their addresses.
#[derive(Debug, Default)]
pub(super) struct Book {
    known: BTreeSet<PeerId>,
    contacts: BTreeMap<PeerId, Contact>,
    /// Addresses of relays named by anyone's contact or used by ourselves.
    relays: BTreeMap<PeerId, Vec<Multiaddr>>,
}

impl Book {
    /// Replaces the known peers; what is remembered of others is dropped.
    pub(super) fn set_known(&mut self, known: BTreeSet<PeerId>) {
        self.known = known;
        self.contacts.retain(|peer, _| self.known.contains(peer));
    }

    pub(super) fn known(&self) -> &BTreeSet<PeerId> {
        &self.known
    }

    pub(super) fn is_known(&self, peer: &PeerId) -> bool {
        self.known.contains(peer)
    }

    /// Remembers addresses of a peer in place of earlier ones; `None` when the book is
    /// full of strangers.
    pub(super) fn write(
        &mut self,
        peer: PeerId,
        direct: Vec<Multiaddr>,
        relays: Vec<PeerId>,
    ) -> Option<&mut Contact> {
        let room = MAX_UNKNOWN + self.known.len();
        if !self.contacts.contains_key(&peer) && self.contacts.len() >= room {
            return None;
        }
        let contact = self.contacts.entry(peer).or_default();
        contact.direct = direct;
        contact.relays = relays;
        Some(contact)
    }

    /// Makes room for a known peer that was found on the local network.
    pub(super) fn found(&mut self, peer: PeerId) {
        self.contacts.entry(peer).or_default();
    }

    pub(super) fn contact(&self, peer: &PeerId) -> Option<&Contact> {
        self.contacts.get(peer)
    }

    pub(super) fn contact_mut(&mut self, peer: &PeerId) -> Option<&mut Contact> {
        self.contacts.get_mut(peer)
    }

    pub(super) fn forget(&mut self, peer: &PeerId) {
        self.contacts.remove(peer);
    }

    /// Remembers a relay. Bounded: a relay that is new while the book is full is ignored.
    pub(super) fn write_relay(&mut self, relay: PeerId, addrs: Vec<Multiaddr>) {
        if self.relays.contains_key(&relay) || self.relays.len() < MAX_KNOWN {
            self.relays.insert(relay, addrs);
        }
    }

    /// The addresses of a relay; `None` for a peer that nobody named as a relay.
    pub(super) fn relay(&self, relay: &PeerId) -> Option<&[Multiaddr]> {
        self.relays.get(relay).map(Vec::as_slice)
    }

    /// The peers that may be found at a relay.
    pub(super) fn at_relay(&self, relay: &PeerId) -> Vec<PeerId> {
        let there = self.contacts.iter().filter(|(_, c)| c.relays.contains(relay));
        there.map(|(peer, _)| *peer).collect()
    }
}

/// Things to do later, in order of time. `T` says what.
#[derive(Debug)]
pub(super) struct Timers<T> {
    due: BTreeMap<(Instant, u64), T>,
    next: u64,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self { due: BTreeMap::new(), next: 0 }
    }
}

impl<T> Timers<T> {
    /// Adds a timer and returns its number.
    pub(super) fn add(&mut self, pause: Duration, what: T) -> u64 {
        self.next += 1;
        self.due.insert((Instant::now() + pause, self.next), what);
        self.next
    }

    /// When the next timer is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.keys().next().map(|(at, _)| *at)
    }

    /// The next timer that is due, with its number.
    pub(super) fn pop(&mut self) -> Option<(u64, T)> {
        let entry = self.due.first_entry()?;
        let (at, number) = *entry.key();
        (at <= Instant::now()).then(|| (number, entry.remove()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_are_spread() {
        for jitter in [0, 1, 499, u64::MAX] {
            let mut backoff = Backoff::default();
            let mut pause = FIRST_PAUSE;
            for _ in 0..40 {
                let drawn = backoff.next(jitter);
                assert!(drawn >= pause / 2 && drawn < pause * 3 / 2, "{drawn:?}");
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            backoff.reset();
            assert!(backoff.next(jitter) < FIRST_PAUSE * 2);
        }
    }
}
