//! Which contents rows refer to, kept in memory for those who ask for them over the network.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use teahouse_core::photos::PHOTOS;

use crate::handle::{Handle, Subscription};

/// How long what is referenced no more may still be given. What is referenced newly is known
/// at once.
const FRESH: Duration = Duration::from_secs(1);

pub(super) struct Referenced {
    handle: Handle,
    state: Mutex<State>,
}

struct State {
    changes: Subscription,
    known: BTreeSet<[u8; 32]>,
    read: Option<Instant>,
    changed: bool,
}

impl Referenced {
    pub(super) fn follow(handle: &Handle) -> Self {
        // Subscribed before anything is read: nothing falls in between.
        let changes = handle.changes();
        let state = State { changes, known: BTreeSet::new(), read: None, changed: true };
        Self { handle: handle.clone(), state: Mutex::new(state) }
    }

    /// Whether a row refers to it. Reads all rows again only where they have changed, and
    /// then either the last reading is old or does not know the hash: strangers who ask for
    /// anything cost one reading per batch at most.
    pub(super) fn has(&self, hash: &[u8; 32]) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.changed |= state.changes.take().is_some_and(|c| c.touches(&PHOTOS));
        let old = state.read.is_none_or(|read| read.elapsed() >= FRESH);
        if state.changed && (old || !state.known.contains(hash)) {
            match super::live(&self.handle)() {
                Ok(known) => {
                    state.known = known;
                    state.read = Some(Instant::now());
                    state.changed = false;
                }
                Err(e) => {
                    tracing::warn!("what photos there are can't be told: {e}");
                    return false;
                }
            }
        }
        state.known.contains(hash)
    }
}
