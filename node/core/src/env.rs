//! What a step may know of the outside: the time and a source of randomness. A node takes
//! both from the operating system, the simulator from a seed.

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use teahouse_protocols::ids::Millis;

/// The surroundings of one step.
#[derive(Debug)]
pub struct Env {
    /// Milliseconds since the Unix epoch, as the clock shows. It may jump either way.
    pub now: Millis,
    /// A cryptographically secure generator.
    pub rng: ChaCha20Rng,
}

impl Env {
    /// Surroundings with a given time and seed.
    #[must_use]
    pub fn seeded(now: Millis, seed: [u8; 32]) -> Self {
        Self { now, rng: ChaCha20Rng::from_seed(seed) }
    }
}
