//! One program: its store, its limits, and the two ways to call it.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Engine, ResourceLimiter, Store, Trap, UpdateDeadline};

use super::bindings::{Program, ProgramPre};
use super::worker::thread;
use super::{convert, javascript};
use crate::error::ProgramError;
use crate::ui::{Event, View};
use crate::wire::Code;
use crate::{check, limits};

/// The stack that WebAssembly may use, in bytes: deep enough for QuickJS to notice
/// recursion itself, and well below the thread's.
pub(super) const WASM_STACK: usize = 2 << 20;
/// Bytes that wasmtime copies out of a guest in one call, list items counted with their
/// size in the host: what a view within its bounds needs, with room.
const COPIED_BYTES: usize = 8 << 20;
/// Compiled components that are kept for when they are opened again.
const CACHED: usize = 16;
/// Items of all of a program's tables.
const TABLE_ITEMS: usize = 100_000;

/// What a store knows of its program.
pub(super) struct State {
    /// JavaScript modules while the program loads; empty for components.
    pub(super) modules: javascript::Modules,
    memory: usize,
    table: usize,
    memory_refused: bool,
    until: Duration,
    time_up: bool,
}

impl ResourceLimiter for State {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // All memories together.
        let memory = self.memory.saturating_add(desired.saturating_sub(current));
        if memory > limits::MEMORY {
            self.memory_refused = true;
            return Err(wasmtime::Error::msg("out of memory"));
        }
        self.memory = memory;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.memory_refused = true;
        Err(error)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let table = self.table.saturating_add(desired.saturating_sub(current));
        if table > TABLE_ITEMS {
            self.memory_refused = true;
            return Err(wasmtime::Error::msg("out of table space"));
        }
        self.table = table;
        Ok(true)
    }

    fn instances(&self) -> usize {
        64
    }

    fn tables(&self) -> usize {
        16
    }

    fn memories(&self) -> usize {
        8
    }
}

/// What all programs share: the compiler, and what it has compiled.
pub(super) struct Engines {
    engine: Engine,
    javascript: std::sync::OnceLock<Result<javascript::Shared, String>>,
    components: Mutex<VecDeque<(blake3::Hash, ProgramPre<State>)>>,
}

impl Engines {
    pub(super) fn new() -> wasmtime::Result<Self> {
        let mut config = Config::new();
        config
            .epoch_interruption(true)
            .max_wasm_stack(WASM_STACK)
            // Nobody reads a stranger's stack traces, and unwind tables need registering.
            .wasm_backtrace_max_frames(None)
            .native_unwind_info(false)
            // It would need a new descriptor, which the kernel refuses.
            .memory_init_cow(false)
            // What no program needs is a risk without a use.
            .wasm_memory64(false)
            .wasm_relaxed_simd(false);
        Ok(Self {
            engine: Engine::new(&config)?,
            javascript: std::sync::OnceLock::new(),
            components: Mutex::new(VecDeque::new()),
        })
    }

    /// Starts the thread by which running programs notice the time.
    pub(super) fn count_time(&self) -> io::Result<()> {
        let engine = self.engine.clone();
        thread("time", move || {
            loop {
                std::thread::sleep(limits::TICK);
                engine.increment_epoch();
            }
        })
    }

    /// Starts to compile the JavaScript engine, which takes about a second.
    pub(super) fn warm(self: &Arc<Self>) -> io::Result<()> {
        let engines = Arc::clone(self);
        thread("engine", move || _ = engines.javascript())
    }

    fn javascript(&self) -> Result<&javascript::Shared, ProgramError> {
        self.javascript
            .get_or_init(|| {
                javascript::Shared::new(&self.engine).map_err(|error| format!("{error:#}"))
            })
            .as_ref()
            .map_err(|error| ProgramError::CannotStart(error.clone()))
    }

    /// Compiles a component, or finds it compiled. It may import nothing.
    fn component(&self, bytes: &[u8]) -> Result<ProgramPre<State>, ProgramError> {
        let bad = |error: wasmtime::Error| ProgramError::BadProgram(format!("{error:#}"));
        let hash = blake3::hash(bytes);
        let cached = |cache: &VecDeque<(blake3::Hash, ProgramPre<State>)>| {
            cache.iter().find(|(known, _)| *known == hash).map(|(_, program)| program.clone())
        };
        let lock = || self.components.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(program) = cached(&lock()) {
            return Ok(program);
        }
        let component = Component::from_binary(&self.engine, bytes).map_err(bad)?;
        let linked = Linker::new(&self.engine).instantiate_pre(&component).map_err(bad)?;
        let program = ProgramPre::new(linked).map_err(bad)?;
        let mut cache = lock();
        if cached(&cache).is_none() {
            cache.truncate(CACHED - 1);
            cache.push_front((hash, program.clone()));
        }
        Ok(program)
    }
}

/// A program that runs.
pub(super) struct Guest {
    store: Store<State>,
    program: Program,
    last_rev: Option<u64>,
}

impl Guest {
    /// Loads a program and, in JavaScript, runs its top level.
    pub(super) fn open(engines: &Engines, code: Code) -> Result<Self, ProgramError> {
        let (pre, modules, script) = match code {
            Code::Component(bytes) => (engines.component(&bytes)?, None, None),
            Code::JavaScript { main, modules } => {
                let shared = engines.javascript()?;
                (shared.program.clone(), Some(modules), Some((main, shared)))
            }
        };
        let state = State {
            modules: javascript::Modules::new(modules.unwrap_or_default()),
            memory: 0,
            table: 0,
            memory_refused: false,
            until: Duration::ZERO,
            time_up: false,
        };
        let mut store = Store::new(&engines.engine, state);
        store.limiter(|state| state);
        store.set_hostcall_fuel(COPIED_BYTES);
        store.epoch_deadline_callback(|mut store| {
            let state = store.data_mut();
            if time_used() < state.until {
                return Ok(UpdateDeadline::Continue(1));
            }
            state.time_up = true;
            Ok(UpdateDeadline::Interrupt)
        });

        allow(&mut store, limits::FIRST_UPDATE);
        let opened = match &script {
            None => pre.instantiate(&mut store).map(|program| Ok((program, None))),
            Some((main, shared)) => {
                shared.start(&mut store, main).map(|done| done.map(|program| (program, None)))
            }
        };
        match opened {
            Ok(Ok((program, last_rev))) => {
                store.data_mut().modules.close();
                Ok(Self { store, program, last_rev })
            }
            // What JavaScript threw at its top level.
            Ok(Err(thrown)) => Err(ProgramError::BadProgram(thrown)),
            Err(error) => Err(why(&store, &error)),
        }
    }

    /// Calls the program with what happened.
    pub(super) fn update(&mut self, events: &[Event]) -> Result<View, ProgramError> {
        let first = self.last_rev.is_none();
        allow(&mut self.store, if first { limits::FIRST_UPDATE } else { limits::UPDATE });
        let events = convert::events(events);
        let answer = self
            .program
            .teahouse_program_ui()
            .call_update(&mut self.store, &events)
            .map_err(|error| why(&self.store, &error))?;
        let view = answer.map(convert::view).map_err(ProgramError::Threw)?;
        check::view(&view)
            .and_then(|()| check::follows(&view, self.last_rev))
            .map_err(|why| ProgramError::BadView(why.to_owned()))?;
        self.last_rev = Some(view.rev);
        Ok(view)
    }
}

/// Gives the program so much processor time from now on.
fn allow(store: &mut Store<State>, time: Duration) {
    store.data_mut().until = time_used() + time;
    store.data_mut().time_up = false;
    store.set_epoch_deadline(1);
}

/// The processor time that this thread has used: a busy machine is not the program's
/// fault.
#[cfg(unix)]
fn time_used() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_nanos(nanoseconds)
}

/// Without such a clock: time on the wall.
#[cfg(not(unix))]
fn time_used() -> Duration {
    use std::sync::LazyLock;
    static START: LazyLock<std::time::Instant> = LazyLock::new(std::time::Instant::now);
    START.elapsed()
}

/// Why a call into a program ended without an answer.
fn why(store: &Store<State>, error: &wasmtime::Error) -> ProgramError {
    let state = store.data();
    if state.time_up {
        return ProgramError::TookTooLong;
    }
    if state.memory_refused {
        return ProgramError::OutOfMemory;
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::StackOverflow) => ProgramError::Trapped("it called itself too deeply".into()),
        Some(trap) => ProgramError::Trapped(trap.to_string()),
        None => {
            let text = format!("{error:#}");
            // wasmtime's error for it has no public type.
            if text.contains("fuel allocated for hostcalls") {
                return ProgramError::BadView("more than can be taken over".to_owned());
            }
            ProgramError::Trapped(text)
        }
    }
}
