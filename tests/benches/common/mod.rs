//! What every bench shares: the report, samples, the quick mode, folders on a real disk.

#![allow(dead_code, reason = "each bench uses its part")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

pub(crate) mod cores;
pub(crate) mod people;
pub(crate) mod relay_process;

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Map, Number, Value};
use tempfile::TempDir;

/// Whether only a quick look is wanted: small counts, figures that mean little.
pub(crate) fn quick() -> bool {
    std::env::var_os("TEAHOUSE_BENCH_QUICK").is_some_and(|v| v == "1")
}

/// `full`, or `small` in the quick mode.
pub(crate) fn count(full: usize, small: usize) -> usize {
    if quick() { small } else { full }
}

/// A folder inside `target/`, which is on a real disk where `/tmp` may be memory.
pub(crate) fn folder() -> Result<TempDir> {
    let parent = env!("CARGO_TARGET_TMPDIR");
    fs::create_dir_all(parent)?;
    Ok(tempfile::Builder::new().prefix("bench-").tempdir_in(parent)?)
}

/// Says what is going on, beside the report.
pub(crate) fn note(what: &str) {
    eprintln!("… {what}");
}

/// A text of exactly 128 bytes that names its number.
pub(crate) fn text(number: usize) -> String {
    let mut text = format!("message {number:>8} ");
    while text.len() < 128 {
        text.push_str("steam over the cup, rain on the roof; ");
    }
    text.truncate(128);
    text
}

/// The number in a [`text`].
pub(crate) fn number(text: &str) -> Option<usize> {
    text.get(8..16)?.trim().parse().ok()
}

/// A process's memory in MiB: `VmHWM` (peak) or `VmRSS` of `/proc/<process>/status`.
pub(crate) fn memory_mb(process: &str, field: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find(|l| l.starts_with(field)).context("no such field")?;
    let kib: f64 = line.split_whitespace().nth(1).context("no value")?.parse()?;
    Ok(kib / 1024.0)
}

/// The machine's load in the last minute.
pub(crate) fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(f64::NAN)
}

/// Bytes of all files in a folder.
pub(crate) fn folder_bytes(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes)
}

/// Durations of one kind.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    pub(crate) fn push(&mut self, sample: Duration) {
        self.0.push(sample);
    }

    pub(crate) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The sample below which this share of all lies, in milliseconds.
    pub(crate) fn quantile_ms(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        if sorted.is_empty() {
            return f64::NAN;
        }
        #[allow(clippy::cast_sign_loss, reason = "a share is not negative")]
        let index = ((sorted.len() - 1) as f64 * share).round() as usize;
        sorted[index].as_secs_f64() * 1e3
    }

    pub(crate) fn p50_ms(&self) -> f64 {
        self.quantile_ms(0.5)
    }

    pub(crate) fn p99_ms(&self) -> f64 {
        self.quantile_ms(0.99)
    }
}

/// The middle one of a few values.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// What a figure is to reach.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Reach {
    AtMost(f64),
    AtLeast(f64),
}

/// The figures of one bench: a table for people, then one line of JSON.
pub(crate) struct Report {
    bench: &'static str,
    load: f64,
    rows: Vec<(&'static str, f64, Option<Reach>)>,
}

impl Report {
    pub(crate) fn new(bench: &'static str) -> Self {
        Self { bench, load: load(), rows: Vec::new() }
    }

    /// A figure; its name ends in its unit.
    pub(crate) fn figure(&mut self, name: &'static str, value: f64) {
        self.rows.push((name, value, None));
    }

    /// A figure with a value to reach.
    pub(crate) fn reach(&mut self, name: &'static str, value: f64, reach: Reach) {
        self.rows.push((name, value, Some(reach)));
    }

    /// Prints table and JSON.
    pub(crate) fn print(mut self) {
        self.figure("load_before", self.load);
        self.figure("load_after", load());
        let quick = if quick() { " (quick mode: the figures mean little)" } else { "" };
        println!("\n{}{quick}", self.bench);
        for (name, value, reach) in &self.rows {
            let reach = match reach {
                None => String::new(),
                Some(Reach::AtMost(most)) => verdict("<=", *most, value <= most),
                Some(Reach::AtLeast(least)) => verdict(">=", *least, value >= least),
            };
            println!("  {name:<44}{value:>14.3}{reach}");
        }
        let mut json = Map::new();
        json.insert("bench".into(), self.bench.into());
        json.insert("quick".into(), crate::common::quick().into());
        for (name, value, _) in self.rows {
            let rounded = (value * 1e4).round() / 1e4;
            let value = Number::from_f64(rounded).map_or(Value::Null, Value::Number);
            json.insert(name.into(), value);
        }
        println!("{}", Value::Object(json));
    }
}

fn verdict(sign: &str, bound: f64, met: bool) -> String {
    format!("   {sign} {bound}: {}", if met { "reached" } else { "MISSED" })
}
