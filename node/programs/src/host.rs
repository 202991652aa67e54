//! The host's end: it starts the child, speaks with it, and doubts it.
//!
//! [`Host`] and [`Instance`] are handles on a task ([`actor`]) that owns the child. It is
//! started by the first program, ended when it hangs, babbles or the last handle is
//! dropped, and started again by the next program. Every queue is bounded, every request
//! has a deadline, and every view is checked here again.

mod actor;
mod process;
#[cfg(test)]
#[cfg(unix)]
mod tests;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use crate::error::ProgramError;
use crate::ui::{Event, View};
use crate::wire::{Code, Sandbox};
use crate::{check, limits};
use actor::{Actor, Request};

/// Requests that wait for the task, beyond which callers wait.
const QUEUE: usize = 64;

/// How the child is started: a program that calls [`crate::child::main`]. It gets an empty
/// environment and the root folder.
#[derive(Debug, Clone)]
pub struct HostCommand {
    /// The executable, usually the app's own.
    pub program: PathBuf,
    /// What tells it to be the child.
    pub args: Vec<OsString>,
}

/// A program to open.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Which program it is. Stays here: the child doesn't know what it runs.
    pub app: [u8; 32],
    /// Its code, whose signature the caller has checked.
    pub code: Code,
}

/// The child that runs now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Its process id.
    pub process: u32,
    /// What keeps it in.
    pub sandbox: Sandbox,
}

/// Runs Mini Programs in a child process. Clones share it.
#[derive(Debug, Clone)]
pub struct Host {
    requests: mpsc::Sender<Request>,
    status: watch::Receiver<Option<Status>>,
}

impl Host {
    /// A host that starts its child when it is first needed. To be called in a tokio
    /// runtime.
    #[must_use]
    pub fn new(command: HostCommand) -> Self {
        let (requests, received) = mpsc::channel(QUEUE);
        let (status_sender, status) = watch::channel(None);
        tokio::spawn(Actor::new(command, received, status_sender).run());
        Self { requests, status }
    }

    /// Starts the child unless it runs, so that the first program opens at once, and says
    /// what keeps it in.
    pub async fn start(&self) -> Result<Sandbox, ProgramError> {
        self.ask(|reply| Request::Start { reply }).await
    }

    /// The child that runs now, if one does.
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        *self.status.borrow()
    }

    /// Loads a program. Nothing of it is seen before its first
    /// [`update`](Instance::update), which should begin with [`Event::Start`].
    pub async fn open(&self, launch: Launch) -> Result<Instance, ProgramError> {
        let Launch { app, code } = launch;
        acceptable(&code)?;
        let alive = Arc::new(());
        let weak = Arc::downgrade(&alive);
        let program = self.ask(|reply| Request::Open { code, alive: weak, reply }).await?;
        Ok(Instance { app, program, requests: self.requests.clone(), _alive: alive })
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, ProgramError>>) -> Request,
    ) -> Result<T, ProgramError> {
        ask(&self.requests, request).await
    }
}

async fn ask<T>(
    requests: &mpsc::Sender<Request>,
    request: impl FnOnce(oneshot::Sender<Result<T, ProgramError>>) -> Request,
) -> Result<T, ProgramError> {
    let (reply, answer) = oneshot::channel();
    requests.send(request(reply)).await.map_err(|_| ProgramError::HostDied)?;
    answer.await.map_err(|_| ProgramError::HostDied)?
}

/// Whether the code is worth sending to the child.
fn acceptable(code: &Code) -> Result<(), ProgramError> {
    let bad = |why: &str| Err(ProgramError::BadProgram(why.to_owned()));
    if code.len() > limits::CODE_BYTES {
        return bad("its code is larger than 3 MiB");
    }
    match code {
        Code::JavaScript { modules, .. } if modules.len() > limits::MODULES => {
            bad("it has more than 64 modules")
        }
        Code::JavaScript { main, modules } if !modules.contains_key(main) => {
            bad("its main module is missing")
        }
        Code::JavaScript { .. } | Code::Component(_) => Ok(()),
    }
}

/// An open program. Dropping it closes it.
#[derive(Debug)]
pub struct Instance {
    app: [u8; 32],
    program: u64,
    requests: mpsc::Sender<Request>,
    /// Tells the task that the handle is gone, should its queue be full just then.
    _alive: Arc<()>,
}

impl Instance {
    /// Which program it is.
    #[must_use]
    pub const fn app(&self) -> [u8; 32] {
        self.app
    }

    /// Tells the program what happened, and returns what it wants shown and asks for. The
    /// view is within every bound of `program.wit`. After an error that
    /// [is final](ProgramError::is_final) the program has ended.
    pub async fn update(&mut self, events: Vec<Event>) -> Result<View, ProgramError> {
        check::events(&events).map_err(|_| ProgramError::TooMuch)?;
        let program = self.program;
        ask(&self.requests, |reply| Request::Update { program, events, reply }).await
    }

    /// Ends the program.
    pub fn close(self) {}
}

impl Drop for Instance {
    fn drop(&mut self) {
        // Where the queue is full, the task notices by `_alive`.
        _ = self.requests.try_send(Request::Close { program: self.program });
    }
}
