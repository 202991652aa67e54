//! What a Mini Program costs: `cargo run --release -p teahouse-programs --example programs_cost`.
//!
//! Prints the engine's compile time, from opening to the first view, and the time of an
//! update of 500 nodes, each with the host, the pipe and both checks of the view.
//! The child is the crate's own binary, built beside this one.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use teahouse_programs::ui::{Event, Start};
use teahouse_programs::{Code, Host, HostCommand, Launch, ProgramError};

const HELLO: &str = r#"
import { page, text, button } from "teahouse";
let taps = 0;
export const update = () => page("Hello", text(`${taps++} taps`), button("Add", "add"));
"#;

const ROWS: &str = r#"
import { page, list, text } from "teahouse";
let round = 0;
export const update = () => {
    round += 1;
    return page("Rows", list(Array.from({ length: 498 }, (_, i) => text(`row ${i} of ${round}`))));
};
"#;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let child = match std::env::args().nth(1) {
        Some(path) => PathBuf::from(path),
        // target/release/examples/cost → target/release/teahouse-program-host
        None => {
            let name = format!("teahouse-program-host{}", std::env::consts::EXE_SUFFIX);
            let here = std::env::current_exe()?;
            here.ancestors().nth(2).ok_or("no folder above")?.join(name)
        }
    };
    let host = Host::new(HostCommand { program: child, args: Vec::new() });

    let began = Instant::now();
    let sandbox = host.start().await?;
    println!("child started and locked down   {:>9.2} ms   {sandbox:?}", ms(began.elapsed()));
    let began = Instant::now();
    drop(open(&host, HELLO).await?);
    println!("engine compiled, first program  {:>9.2} ms", ms(began.elapsed()));

    let mut times = Vec::new();
    for _ in 0..200 {
        let began = Instant::now();
        let mut program = open(&host, HELLO).await?;
        program.update(start()).await?;
        times.push(began.elapsed());
        program.close();
    }
    report("open to first view, JavaScript", times);

    let mut program = open(&host, HELLO).await?;
    program.update(start()).await?;
    let mut times = Vec::new();
    for _ in 0..1000 {
        let began = Instant::now();
        program.update(Vec::new()).await?;
        times.push(began.elapsed());
    }
    report("update of 3 nodes", times);

    let mut program = open(&host, ROWS).await?;
    program.update(start()).await?;
    let mut times = Vec::new();
    for _ in 0..300 {
        let began = Instant::now();
        program.update(Vec::new()).await?;
        times.push(began.elapsed());
    }
    report("update of 500 nodes", times);

    if let Some(resident) = host.status().and_then(|status| resident(status.process)) {
        println!("child's memory                  {resident:>9} kB");
    }
    Ok(())
}

async fn open(host: &Host, source: &str) -> Result<teahouse_programs::Instance, ProgramError> {
    host.open(Launch { app: [0; 32], code: Code::javascript(source) }).await
}

fn start() -> Vec<Event> {
    vec![Event::Start(Start::default())]
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: usize| times.get(times.len() * share / 100).map_or(0.0, |time| ms(*time));
    println!("{what:<31} {:>9.3} ms   p99 {:.3} ms", at(50), at(99));
}

/// Resident memory in kB, where the system tells.
fn resident(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
