//! The child process: it locks itself in, then runs programs that the host sends.
//!
//! One thread reads frames, `LOADERS` threads compile and load programs, `WORKERS`
//! threads run them (each program always on the same one), and one thread counts time. All
//! are started before the kernel is asked to refuse new threads.

mod bindings;
mod convert;
mod guest;
mod javascript;
mod lockdown;
mod worker;

use std::collections::BTreeSet;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use guest::Engines;
pub use lockdown::Lockdown;
use worker::{Loader, Output, Worker};

use crate::limits;
use crate::wire::{self, FromChild, ToChild};

/// Threads that run programs: a slow program holds up those on the same one only.
const WORKERS: usize = 4;
/// Threads that load programs: a large one holds up those behind it.
const LOADERS: usize = 2;

/// Runs the child until the host closes its input. Call it from the hidden subcommand
/// that [`crate::HostCommand`] names, before any thread is started.
pub fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("program host: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> io::Result<()> {
    // A panic of one thread must not leave its programs unanswered: all of it ends.
    std::panic::set_hook(Box::new(|info| {
        eprintln!("program host: {info}");
        std::process::exit(101);
    }));
    let lockdown = Lockdown::files();
    let engines = Arc::new(Engines::new().map_err(io::Error::other)?);
    let output = Arc::new(Output::default());
    let workers =
        (0..WORKERS).map(|_| Worker::spawn(Arc::clone(&output))).collect::<io::Result<Vec<_>>>()?;
    let loaders = (0..LOADERS)
        .map(|_| Loader::spawn(Arc::clone(&engines), Arc::clone(&output)))
        .collect::<io::Result<Vec<_>>>()?;
    engines.count_time()?;
    // While the host decides what to open.
    engines.warm()?;
    let sandbox = lockdown.calls();

    output.send(&FromChild::Ready(sandbox));
    let mut input = io::stdin().lock();
    let mut open = BTreeSet::new();
    while let Some(message) = wire::read(&mut input)? {
        match message {
            ToChild::Open { program, code } => {
                open.insert(program);
                if open.len() > limits::PROGRAMS {
                    return Err(io::Error::other("more programs than are allowed"));
                }
                loaders[program as usize % LOADERS].open(program, code, &workers[of(program)])?;
            }
            ToChild::Update { program, events } => workers[of(program)].update(program, events)?,
            ToChild::Close { program } => {
                open.remove(&program);
                workers[of(program)].close(program)?;
            }
        }
    }
    Ok(())
}

/// Which worker runs a program.
const fn of(program: u64) -> usize {
    program as usize % WORKERS
}
