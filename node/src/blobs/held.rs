//! What must not be collected though nothing references it yet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::ContentHash;

/// Released hashes that are remembered for the time of grace. When more are released in one
/// such time, nothing at all is collected until it has passed.
const MAX_RELEASED: usize = 65_536;

/// Keeps a content from being collected until it is dropped, and a time of grace longer.
#[derive(Debug)]
pub struct Held {
    hash: ContentHash,
    registry: Arc<Registry>,
}

impl Held {
    /// What is held.
    pub const fn hash(&self) -> &ContentHash {
        &self.hash
    }
}

impl Clone for Held {
    fn clone(&self) -> Self {
        self.registry.hold(self.hash)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.registry.release(self.hash);
    }
}

/// Who is held.
#[derive(Debug)]
pub(super) struct Registry {
    grace: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    held: BTreeMap<ContentHash, usize>,
    released: BTreeMap<ContentHash, Instant>,
    nothing_before: Option<Instant>,
}

impl Registry {
    pub(super) fn new(grace: Duration) -> Self {
        Self { grace, state: Mutex::default() }
    }

    /// How long what was released stays protected.
    pub(super) const fn grace(&self) -> Duration {
        self.grace
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change below is one step, so a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn hold(self: &Arc<Self>, hash: ContentHash) -> Held {
        *self.state().held.entry(hash).or_default() += 1;
        Held { hash, registry: Arc::clone(self) }
    }

    fn release(&self, hash: ContentHash) {
        let mut state = self.state();
        let Some(count) = state.held.get_mut(&hash) else { return };
        *count -= 1;
        if *count > 0 {
            return;
        }
        state.held.remove(&hash);
        if self.grace.is_zero() {
            return;
        }
        let until = Instant::now() + self.grace;
        if state.released.len() < MAX_RELEASED {
            state.released.insert(hash, until);
        } else {
            state.nothing_before = Some(until);
        }
    }

    /// What is held or was until a moment ago; `None` where that is not known.
    pub(super) fn protected(&self) -> Option<BTreeSet<ContentHash>> {
        let now = Instant::now();
        let mut state = self.state();
        state.released.retain(|_, until| *until > now);
        if state.nothing_before.is_some_and(|until| until > now) {
            return None;
        }
        Some(state.held.keys().chain(state.released.keys()).copied().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_protected_and_a_while_longer() {
        let registry = Arc::new(Registry::new(Duration::from_mins(1)));
        let is = |r: &Registry, n: u8| r.protected().unwrap().contains(&[n; 32]);
        let one = registry.hold([1; 32]);
        let two = one.clone();
        drop(one);
        assert!(is(&registry, 1));
        drop(two);
        assert!(is(&registry, 1) && registry.state().held.is_empty(), "grace");

        let registry = Arc::new(Registry::new(Duration::ZERO));
        let one = registry.hold([1; 32]);
        assert!(is(&registry, 1) && !is(&registry, 2));
        drop(one);
        assert!(!is(&registry, 1));
    }

    #[test]
    fn too_many_to_remember_protects_all() {
        let registry = Arc::new(Registry::new(Duration::from_mins(1)));
        for n in 0..=MAX_RELEASED as u64 {
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&n.to_le_bytes());
            drop(registry.hold(hash));
        }
        assert_eq!(registry.protected(), None);
    }
}
