//! Runs many seeds on all cores, and says what happened.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::chaos::{Broken, Outcome, run};

/// What came of many seeds.
#[derive(Debug, Default)]
pub struct Report {
    /// Seeds that ran.
    pub seeds: u64,
    /// How often each thing happened, and in how many seeds.
    pub counts: BTreeMap<String, (u64, u64)>,
    /// Broken seeds, lowest first; at most a few: the rest is not run.
    pub broken: Vec<Outcome>,
}

/// Panics of our own code on this thread, as the hook saw them.
static PANICS: Mutex<Vec<(std::thread::ThreadId, String)>> = Mutex::new(Vec::new());

fn watch_panics() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let text = format!("{place}: {}", info.payload_as_str().unwrap_or("?"));
        // redb panics on a disk that fails under it; the store catches that and reopens.
        if place.contains("redb") {
            return;
        }
        let mut panics = PANICS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        panics.push((std::thread::current().id(), text));
    }));
}

fn panics() -> Vec<String> {
    let me = std::thread::current().id();
    let mut all = PANICS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (mine, rest) = all.drain(..).partition(|(id, _)| *id == me);
    *all = rest;
    let mine: Vec<(std::thread::ThreadId, String)> = mine;
    mine.into_iter().map(|(_, text)| text).collect()
}

/// Runs one seed; a panic anywhere is a broken invariant.
#[must_use]
pub fn run_one(seed: u64, events: u64, verbose: bool) -> Outcome {
    let _ = panics();
    let mut outcome = catch_unwind(AssertUnwindSafe(|| run(seed, events, verbose)))
        .unwrap_or_else(|_| Outcome { seed, counts: BTreeMap::new(), broken: None });
    let panics = panics();
    if !panics.is_empty() {
        let log = outcome.broken.take().map(|b| b.log).unwrap_or_default();
        outcome.broken = Some(Broken { what: format!("panicked: {}", panics.join("; ")), log });
    }
    outcome
}

/// Runs seeds `from .. from + seeds` on all cores; stops after `most` broken ones.
#[must_use]
pub fn run_many(from: u64, seeds: u64, events: u64, most: usize) -> Report {
    watch_panics();
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let next = AtomicU64::new(from);
    let report = Mutex::new(Report::default());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                // A pool of one thread: the core's parallel steps stay on it, and seeds don't
                // wait for each other.
                let pool = rayon::ThreadPoolBuilder::new()
                    .num_threads(1)
                    .stack_size(8 << 20)
                    .build()
                    .expect("a thread");
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let full = || {
                        let r = report.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                        r.broken.len() >= most
                    };
                    if seed >= from + seeds || full() {
                        return;
                    }
                    let outcome = pool.install(|| run_one(seed, events, false));
                    let mut r = report.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    r.seeds += 1;
                    for (what, n) in &outcome.counts {
                        let count = r.counts.entry(what.clone()).or_default();
                        count.0 += n;
                        count.1 += u64::from(*n > 0);
                    }
                    if outcome.broken.is_some() {
                        r.broken.push(outcome);
                    }
                }
            });
        }
    });
    let _ = std::panic::take_hook();
    let mut report = report.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    report.broken.sort_by_key(|o| o.seed);
    report
}

/// Runs one seed and prints what happens.
#[must_use]
pub fn run_loud(seed: u64, events: u64) -> Outcome {
    watch_panics();
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .stack_size(8 << 20)
        .build()
        .expect("a thread");
    let outcome = pool.install(|| run_one(seed, events, true));
    let _ = std::panic::take_hook();
    outcome
}

impl Report {
    /// The table of what happened.
    #[must_use]
    pub fn table(&self) -> String {
        let mut out = format!("{:<52} {:>12} {:>8}\n", "what", "times", "seeds");
        for (what, (times, seeds)) in &self.counts {
            let _ = writeln!(out, "{what:<52} {times:>12} {seeds:>8}");
        }
        out
    }
}

/// A broken seed, for people.
#[must_use]
pub fn describe(outcome: &Outcome, events: u64) -> String {
    let Some(broken) = &outcome.broken else { return format!("seed {} held", outcome.seed) };
    let mut out = format!("seed {}: {}\n", outcome.seed, broken.what);
    for line in &broken.log {
        let _ = writeln!(out, "  {line}");
    }
    let _ = write!(
        out,
        "replay: cargo run -p teahouse-tests --bin sim -- --seed {} --events {events}",
        outcome.seed
    );
    out
}
