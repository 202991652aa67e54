//! Chaos: a small town of real cores and relays in which a seed draws what people do and
//! what goes wrong, and after which everything that was promised is checked.
//!
//! - [`plan`] draws a town and its days from the seed: actions and faults.
//! - [`hostile`] is the member who turns against the others.
//! - [`truth`] is what the simulator itself knows: who said what to whom, what lies where.
//! - [`check`] holds the invariants.
//! - [`report`] runs many seeds and prints tables.
//!
//! An *event* is one thing that the plan draws (an action of a person, a fault, time that
//! passes) or one step of a device's core. Everything follows from the seed: a failing one
//! replays exactly (`--seed S` with the same `--events`).

pub mod check;
pub mod hostile;
pub mod plan;
pub mod report;
pub mod truth;

use std::collections::BTreeMap;

/// What came of one seed.
#[derive(Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// How often each action and each fault happened.
    pub counts: BTreeMap<String, u64>,
    /// The invariant that broke, in words, with the last actions before it.
    pub broken: Option<Broken>,
}

/// A broken invariant.
#[derive(Debug)]
pub struct Broken {
    /// Which, and how.
    pub what: String,
    /// The last actions, oldest first.
    pub log: Vec<String>,
}

/// Runs one seed.
#[must_use]
pub fn run(seed: u64, events: u64, verbose: bool) -> Outcome {
    plan::Town::new(seed, events, verbose).live()
}
