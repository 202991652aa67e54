//! What a relay remembers of connections, in memory only: the challenge, and how fast requests
//! may come. What they watch is in [`super::watches`].

use std::num::NonZeroUsize;

use lru::LruCache;
use rand_core::CryptoRng;

/// Most sessions remembered; the one unused for longest goes first.
pub(super) const MAX_SESSIONS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(8_191);

// The bucket counts fifths of requests, so that a millisecond is worth exactly one.
const UNITS: u64 = 5;
/// Requests a session may make at once.
pub(super) const BURST: u64 = 400;
/// Proofs that may be checked for the price of one request.
pub(super) const PROOFS_PER_REQUEST: u64 = 8;

/// The sessions.
pub(super) struct Sessions(LruCache<u64, Session>);

/// One connection of a client.
pub(super) struct Session {
    challenge: Option<[u8; 32]>,
    /// Units left in the bucket, at `filled`.
    level: u64,
    filled: u64,
}

impl Sessions {
    pub(super) fn new() -> Self {
        Self(LruCache::new(MAX_SESSIONS))
    }

    /// The session, created if it is not known. `uptime` is in milliseconds and never falls.
    pub(super) fn session(&mut self, id: u64, uptime: u64) -> &mut Session {
        let session = self.0.get_or_insert_mut(id, || Session {
            challenge: None,
            level: BURST * UNITS,
            filled: uptime,
        });
        let gained = uptime.saturating_sub(session.filled);
        session.level = session.level.saturating_add(gained).min(BURST * UNITS);
        session.filled = uptime;
        session
    }

    /// A session that is known.
    pub(super) fn known(&mut self, id: u64) -> Option<&mut Session> {
        self.0.get_mut(&id)
    }

    pub(super) fn close(&mut self, id: u64) {
        self.0.pop(&id);
    }
}

impl Session {
    /// Takes `requests` out of the bucket; false when they are not in it.
    pub(super) fn spend(&mut self, requests: u64) -> bool {
        let left = self.level.checked_sub(requests.saturating_mul(UNITS));
        self.level = left.unwrap_or(self.level);
        left.is_some()
    }

    /// The challenge; the same for the life of the session, so that a repeated hello spoils
    /// no proof under way.
    pub(super) fn hello(&mut self, rng: &mut impl CryptoRng) -> [u8; 32] {
        *self.challenge.get_or_insert_with(|| {
            let mut challenge = [0; 32];
            rng.fill_bytes(&mut challenge);
            challenge
        })
    }

    pub(super) const fn challenge(&self) -> Option<[u8; 32]> {
        self.challenge
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bucket_empties_and_fills() {
        let mut sessions = Sessions::new();
        let s = sessions.session(1, 1_000);
        assert!((0..BURST).all(|_| s.spend(1)));
        assert!(!s.spend(1));
        assert!(!sessions.session(1, 1_004).spend(1));
        assert!(sessions.session(1, 1_005).spend(1));
        assert!(!sessions.session(1, 1_005).spend(1));
        // 200 a second.
        let s = sessions.session(1, 2_005);
        assert!((0..200).all(|_| s.spend(1)) && !s.spend(1));
        assert!(sessions.session(2, 2_005).spend(BURST));
    }

    #[test]
    fn sessions_are_bounded() {
        let mut sessions = Sessions::new();
        for id in 0..10_000 {
            sessions.session(id, 0);
        }
        assert_eq!(sessions.0.len(), MAX_SESSIONS.get());
        assert!(sessions.known(0).is_none());
        assert!(sessions.known(9_999).is_some());
    }
}
