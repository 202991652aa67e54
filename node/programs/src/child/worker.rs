//! The threads that load programs, and those that run them, each one after another.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use super::guest::{Engines, Guest};
use crate::error::ProgramError;
use crate::limits;
use crate::ui::Event;
use crate::wire::{self, Code, FromChild};

/// Requests that wait for one worker. The host has one under way for each program, and a
/// `Close` each may follow, so this is never full for an honest host.
const QUEUE: usize = 4 * limits::PROGRAMS;
/// The thread's stack: WebAssembly may use [`super::guest::WASM_STACK`] of it.
const STACK: usize = 8 << 20;

/// The child's standard output.
#[derive(Default)]
pub(super) struct Output(Mutex<()>);

impl Output {
    /// Writes a frame. Where the host is gone, so is the reason to live.
    pub(super) fn send(&self, message: &FromChild) {
        let frame = wire::encode(message);
        let _guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stdout = io::stdout().lock();
        let sent = frame.and_then(|frame| {
            stdout.write_all(&frame)?;
            stdout.flush()
        });
        if sent.is_err() {
            std::process::exit(1);
        }
    }
}

enum Job {
    Adopt { program: u64, guest: Box<Guest> },
    Update { program: u64, events: Vec<Event> },
    Close { program: u64 },
}

/// Runs programs that are loaded: short work, bounded by their processor time.
pub(super) struct Worker(SyncSender<Job>);

impl Worker {
    pub(super) fn spawn(output: Arc<Output>) -> io::Result<Self> {
        let (sender, jobs) = sync_channel(QUEUE);
        thread("run", move || run(&output, &jobs))?;
        Ok(Self(sender))
    }

    pub(super) fn update(&self, program: u64, events: Vec<Event>) -> io::Result<()> {
        self.give(Job::Update { program, events })
    }

    pub(super) fn close(&self, program: u64) -> io::Result<()> {
        self.give(Job::Close { program })
    }

    fn give(&self, job: Job) -> io::Result<()> {
        self.0.send(job).map_err(|_| io::Error::other("a worker has ended"))
    }
}

fn run(output: &Output, jobs: &Receiver<Job>) {
    let mut guests: BTreeMap<u64, Box<Guest>> = BTreeMap::new();
    while let Ok(job) = jobs.recv() {
        match job {
            Job::Adopt { program, guest } => {
                guests.insert(program, guest);
                output.send(&FromChild::Opened { program, result: Ok(()) });
            }
            Job::Update { program, events } => {
                let result = guests
                    .get_mut(&program)
                    .ok_or(ProgramError::Closed)
                    .and_then(|guest| guest.update(&events))
                    .map_err(ProgramError::in_words);
                if result.as_ref().is_err_and(ProgramError::is_final) {
                    guests.remove(&program);
                }
                output.send(&FromChild::Updated { program, result });
            }
            Job::Close { program } => _ = guests.remove(&program),
        }
    }
}

/// Loads programs: compiling one may take seconds, so no program that runs waits for it.
pub(super) struct Loader(SyncSender<Load>);

struct Load {
    program: u64,
    code: Code,
    worker: SyncSender<Job>,
}

impl Loader {
    pub(super) fn spawn(engines: Arc<Engines>, output: Arc<Output>) -> io::Result<Self> {
        let (sender, loads) = sync_channel(QUEUE);
        thread("load", move || load(&engines, &output, &loads))?;
        Ok(Self(sender))
    }

    /// Loads a program, which `worker` is to run.
    pub(super) fn open(&self, program: u64, code: Code, worker: &Worker) -> io::Result<()> {
        let load = Load { program, code, worker: worker.0.clone() };
        self.0.send(load).map_err(|_| io::Error::other("a loader has ended"))
    }
}

fn load(engines: &Engines, output: &Output, loads: &Receiver<Load>) {
    while let Ok(Load { program, code, worker }) = loads.recv() {
        match Guest::open(engines, code) {
            // A worker that has ended has ended the process.
            Ok(guest) => _ = worker.send(Job::Adopt { program, guest: Box::new(guest) }),
            Err(error) => {
                let result = Err(error.in_words());
                output.send(&FromChild::Opened { program, result });
            }
        }
    }
}

/// Starts a thread, and waits until it runs: what the C library does at a thread's start is
/// refused once the process is locked down.
pub(super) fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let (runs, started) = sync_channel(1);
    std::thread::Builder::new().name(name.to_owned()).stack_size(STACK).spawn(move || {
        _ = runs.send(());
        work();
    })?;
    started.recv().map_err(|_| io::Error::other("a thread doesn't start"))
}
