//! The simulator's command: `sim --seeds N --events N [--from SEED]` runs many seeds,
//! `sim --seed S --events N` one, loudly.
//!
//! Exit code 0: every invariant held. 1: one broke; what, after which actions, and the
//! command that replays it are printed. 2: wrong arguments.
//!
//! A build with `--cfg sim_bugs` also takes `--bug NAME`, which plants that bug.

use std::process::ExitCode;
use std::time::Instant;

use teahouse_tests::chaos::report::{describe, run_loud, run_many};

const USAGE: &str = "usage: sim [--seeds N] [--events N] [--from SEED] [--keep-going]\n\
                     \x20      sim --seed SEED [--events N]";

/// Broken seeds after which the rest is not run.
const ENOUGH: usize = 1;

fn main() -> ExitCode {
    let (mut seeds, mut events, mut from, mut one, mut enough) = (200, 2_000, 1, None, ENOUGH);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        if arg == "--keep-going" {
            enough = usize::MAX;
            continue;
        }
        #[cfg(sim_bugs)]
        if arg == "--bug" {
            let Some(bug) = args.next() else { return usage() };
            teahouse_protocols::bugs::plant(bug);
            continue;
        }
        let Some(value) = args.next().and_then(|v| v.parse::<u64>().ok()) else {
            return usage();
        };
        match arg.as_str() {
            "--seeds" => seeds = value,
            "--events" => events = value,
            "--from" => from = value,
            "--seed" => one = Some(value),
            _ => return usage(),
        }
    }
    let start = Instant::now();
    if let Some(seed) = one {
        let outcome = run_loud(seed, events);
        println!("{}", describe(&outcome, events));
        return ExitCode::from(u8::from(outcome.broken.is_some()));
    }
    let report = run_many(from, seeds, events, enough);
    print!("{}", report.table());
    for outcome in &report.broken {
        println!("\n{}", describe(outcome, events));
    }
    println!(
        "\n{} seeds of {events} events in {} s; {} broke an invariant",
        report.seeds,
        start.elapsed().as_secs(),
        report.broken.len()
    );
    ExitCode::from(u8::from(!report.broken.is_empty()))
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}
