//! The task that owns the child: who waits for what, until when, and who is told when it
//! ends.

use std::collections::BTreeMap;
use std::io;
use std::sync::Weak;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::process::Process;
use super::{HostCommand, Status};
use crate::error::ProgramError;
use crate::ui::{Event, View};
use crate::wire::{self, Code, FromChild, Sandbox, ToChild};
use crate::{check, limits};

/// Where an answer goes. Nobody may be waiting for it any more.
type Reply<T> = oneshot::Sender<Result<T, ProgramError>>;

/// From the handles.
#[derive(Debug)]
pub(super) enum Request {
    Start { reply: Reply<Sandbox> },
    Open { code: Code, alive: Weak<()>, reply: Reply<u64> },
    Update { program: u64, events: Vec<Event>, reply: Reply<View> },
    Close { program: u64 },
}

/// What the child owes for one program.
enum Pending {
    Open(Reply<u64>),
    Update(Reply<View>),
}

impl Pending {
    fn fail(self, error: ProgramError) {
        match self {
            Self::Open(reply) => _ = reply.send(Err(error)),
            Self::Update(reply) => _ = reply.send(Err(error)),
        }
    }
}

struct Program {
    alive: Weak<()>,
    last_rev: Option<u64>,
    pending: Option<(Instant, Pending)>,
    /// To be closed when the child has answered.
    closing: bool,
}

/// A child and what it runs.
struct Running {
    process: Process,
    sandbox: Option<Sandbox>,
    /// When it must have said that it is ready.
    ready_by: Instant,
    starting: Vec<Reply<Sandbox>>,
    /// Programs with lower numbers were in an earlier child.
    first: u64,
    programs: BTreeMap<u64, Program>,
}

/// Callers that wait for the child to be ready.
const STARTING: usize = 64;

pub(super) struct Actor {
    command: HostCommand,
    requests: mpsc::Receiver<Request>,
    status: watch::Sender<Option<Status>>,
    running: Option<Running>,
    next_program: u64,
    /// [`limits::UPDATE_WAIT`]; shorter in tests.
    pub(super) update_wait: Duration,
    /// [`limits::OPEN_WAIT`]; shorter in tests.
    pub(super) open_wait: Duration,
}

/// Why a child is given up.
enum End {
    /// It ended by itself.
    Gone,
    /// It said what no honest child says.
    Liar(&'static str),
    /// It owes an answer for too long.
    Overdue,
}

impl Actor {
    pub(super) fn new(
        command: HostCommand,
        requests: mpsc::Receiver<Request>,
        status: watch::Sender<Option<Status>>,
    ) -> Self {
        Self {
            command,
            requests,
            status,
            running: None,
            next_program: 0,
            update_wait: limits::UPDATE_WAIT,
            open_wait: limits::OPEN_WAIT,
        }
    }

    /// Runs until the last handle is dropped; the child ends with it.
    pub(super) async fn run(mut self) {
        loop {
            let deadline = self.running.as_ref().and_then(Running::deadline);
            tokio::select! {
                request = self.requests.recv() => match request {
                    Some(request) => self.handle(request),
                    None => return,
                },
                frame = receive(&mut self.running) => self.receive(frame),
                () = wait_until(deadline) => self.end(End::Overdue),
            }
        }
    }

    fn handle(&mut self, request: Request) {
        match request {
            Request::Start { reply } => match self.running() {
                Ok(running) => match running.sandbox {
                    Some(sandbox) => _ = reply.send(Ok(sandbox)),
                    None if running.starting.len() < STARTING => running.starting.push(reply),
                    None => _ = reply.send(Err(ProgramError::Busy)),
                },
                Err(error) => _ = reply.send(Err(error)),
            },
            Request::Open { code, alive, reply } => {
                if let Err((error, reply)) = self.open(code, alive, reply) {
                    _ = reply.send(Err(error));
                }
            }
            Request::Update { program, events, reply } => {
                let deadline = Instant::now() + self.update_wait;
                if let Err((error, reply)) = self.update(program, events, reply, deadline) {
                    _ = reply.send(Err(error));
                }
            }
            Request::Close { program } => {
                if let Some(running) = &mut self.running {
                    running.close(program);
                }
            }
        }
    }

    fn open(
        &mut self,
        code: Code,
        alive: Weak<()>,
        reply: Reply<u64>,
    ) -> Result<(), (ProgramError, Reply<u64>)> {
        let program = self.next_program;
        let deadline = Instant::now() + self.open_wait;
        let running = match self.running() {
            Ok(running) => running,
            Err(error) => return Err((error, reply)),
        };
        running.sweep();
        if running.programs.len() >= limits::PROGRAMS {
            return Err((ProgramError::Busy, reply));
        }
        if let Err(error) = running.send(&ToChild::Open { program, code }) {
            return Err((error, reply));
        }
        let pending = Some((deadline, Pending::Open(reply)));
        let entry = Program { alive, last_rev: None, pending, closing: false };
        running.programs.insert(program, entry);
        self.next_program += 1;
        Ok(())
    }

    fn update(
        &mut self,
        program: u64,
        events: Vec<Event>,
        reply: Reply<View>,
        deadline: Instant,
    ) -> Result<(), (ProgramError, Reply<View>)> {
        let Some(running) = &mut self.running else { return Err((ProgramError::HostDied, reply)) };
        match running.programs.get(&program) {
            Some(Program { pending: None, closing: false, .. }) => {}
            Some(_) => return Err((ProgramError::Busy, reply)),
            None if program < running.first => return Err((ProgramError::HostDied, reply)),
            None => return Err((ProgramError::Closed, reply)),
        }
        if let Err(error) = running.send(&ToChild::Update { program, events }) {
            return Err((error, reply));
        }
        if let Some(program) = running.programs.get_mut(&program) {
            program.pending = Some((deadline, Pending::Update(reply)));
        }
        Ok(())
    }

    /// The child, started if need be.
    fn running(&mut self) -> Result<&mut Running, ProgramError> {
        let running = match self.running.take() {
            Some(running) => running,
            None => Running {
                process: Process::start(&self.command)
                    .map_err(|error| ProgramError::CannotStart(error.to_string()).in_words())?,
                sandbox: None,
                ready_by: Instant::now() + self.open_wait,
                starting: Vec::new(),
                first: self.next_program,
                programs: BTreeMap::new(),
            },
        };
        Ok(self.running.insert(running))
    }

    fn receive(&mut self, frame: Option<io::Result<FromChild>>) {
        let Some(running) = &mut self.running else { return };
        let taken = match frame {
            Some(Ok(frame)) => running.take(frame),
            Some(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                Err(End::Liar("a frame that is none"))
            }
            Some(Err(_)) | None => Err(End::Gone),
        };
        match taken {
            Err(end) => self.end(end),
            Ok(()) => {
                let process = running.process.id();
                let status = process.zip(running.sandbox);
                let status = status.map(|(process, sandbox)| Status { process, sandbox });
                self.status.send_if_modified(|known| {
                    let changed = *known != status;
                    *known = status;
                    changed
                });
            }
        }
    }

    /// Ends the child and tells everyone who waits for it.
    fn end(&mut self, end: End) {
        let Some(running) = self.running.take() else { return };
        self.status.send_replace(None);
        match end {
            End::Gone => tracing::warn!("the programs' process has ended"),
            End::Liar(what) => tracing::error!(what, "the programs' process broke its protocol"),
            End::Overdue => tracing::warn!("the programs' process doesn't answer and is ended"),
        }
        let others = if running.sandbox.is_some() {
            ProgramError::HostDied
        } else {
            let words = running.process.last_words();
            ProgramError::CannotStart(if words.is_empty() { "it ended".to_owned() } else { words })
        };
        let now = Instant::now();
        for reply in running.starting {
            _ = reply.send(Err(others.clone()));
        }
        for (_, program) in running.programs {
            let Some((deadline, pending)) = program.pending else { continue };
            let late = matches!(end, End::Overdue) && deadline <= now && running.sandbox.is_some();
            pending.fail(if late { ProgramError::TookTooLong } else { others.clone() });
        }
        // Dropping the process kills it.
    }
}

impl Running {
    /// When something is overdue.
    fn deadline(&self) -> Option<Instant> {
        let ready = self.sandbox.is_none().then_some(self.ready_by);
        let pending = self.programs.values().filter_map(|program| program.pending.as_ref());
        pending.map(|(deadline, _)| *deadline).chain(ready).min()
    }

    fn send(&self, message: &ToChild) -> Result<(), ProgramError> {
        let frame = wire::encode(message).map_err(|_| ProgramError::TooMuch)?;
        if self.process.send(frame) { Ok(()) } else { Err(ProgramError::Busy) }
    }

    /// Closes programs whose handles are gone.
    fn sweep(&mut self) {
        let dead = |(number, program): (&u64, &Program)| {
            (program.alive.strong_count() == 0).then_some(*number)
        };
        for number in self.programs.iter().filter_map(dead).collect::<Vec<_>>() {
            self.close(number);
        }
    }

    /// Closes a program, or does so once the child has answered: an answer for a program
    /// that isn't there would look like a lie.
    fn close(&mut self, number: u64) {
        let Some(program) = self.programs.get_mut(&number) else { return };
        program.closing = true;
        // A child that takes no frames is overdue soon; the program stays listed till then.
        if program.pending.is_none() && self.send(&ToChild::Close { program: number }).is_ok() {
            self.programs.remove(&number);
        }
    }

    /// Takes what the child says, if an honest child could say it.
    fn take(&mut self, frame: FromChild) -> Result<(), End> {
        match frame {
            FromChild::Ready(sandbox) => {
                if self.sandbox.replace(sandbox).is_some() {
                    return Err(End::Liar("ready twice"));
                }
                for reply in self.starting.drain(..) {
                    _ = reply.send(Ok(sandbox));
                }
                return Ok(());
            }
            _ if self.sandbox.is_none() => return Err(End::Liar("an answer before it was ready")),
            FromChild::Opened { program: number, result } => {
                let Some(Pending::Open(reply)) = self.owed(number) else {
                    return Err(End::Liar("opened what was not asked for"));
                };
                let opened = result.is_ok();
                let result = result.map(|()| number).map_err(ProgramError::in_words);
                if reply.send(result).is_err() || !opened {
                    self.close(number);
                }
            }
            FromChild::Updated { program: number, result } => {
                let Some(Pending::Update(reply)) = self.owed(number) else {
                    return Err(End::Liar("updated what was not asked for"));
                };
                let result = result.map_err(ProgramError::in_words);
                let last = self.programs.get(&number).and_then(|program| program.last_rev);
                let ended = match &result {
                    Ok(view) => {
                        let checked = check::view(view).and_then(|()| check::follows(view, last));
                        if let Err(why) = checked {
                            // The child has checked this view: it isn't itself any more.
                            _ = reply.send(Err(ProgramError::BadView(why.to_owned())));
                            return Err(End::Liar("a view beyond the bounds"));
                        }
                        if let Some(program) = self.programs.get_mut(&number) {
                            program.last_rev = Some(view.rev);
                        }
                        false
                    }
                    Err(error) => error.is_final(),
                };
                _ = reply.send(result);
                if ended {
                    self.close(number);
                }
            }
        }
        // What was waiting to be closed.
        self.sweep_closing();
        Ok(())
    }

    /// Whom the answer for this program is for, if one is owed.
    fn owed(&mut self, number: u64) -> Option<Pending> {
        let program = self.programs.get_mut(&number)?;
        program.pending.take().map(|(_, pending)| pending)
    }

    fn sweep_closing(&mut self) {
        let closing = |(number, program): (&u64, &Program)| {
            (program.closing && program.pending.is_none()).then_some(*number)
        };
        for number in self.programs.iter().filter_map(closing).collect::<Vec<_>>() {
            self.close(number);
        }
    }
}

/// The next frame; waits for ever while no child runs.
async fn receive(running: &mut Option<Running>) -> Option<io::Result<FromChild>> {
    match running {
        Some(running) => running.process.receive().await,
        None => std::future::pending().await,
    }
}

async fn wait_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
