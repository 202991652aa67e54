//! Functions of programs, run at their developer's node: one after another, each to its end.
//!
//! What is to be run stands in the core's tables ([`Due`]). A task here takes the first, runs it
//! in the programs' child process as a program of the same world that nobody sees, keeps aside
//! what it writes, and says all that it did in one command. Until that command is durable
//! nothing happened: after a crash the same is run again, from the same state, with the same
//! clock and seed.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use teahouse_core::command::{Command, Refusal};
use teahouse_core::functions::query::{Due, DueView, DueWhat, Kept, KeptKeys};
use teahouse_core::functions::tables::News;
use teahouse_core::functions::{self, MAX_REFUNDS, MAX_WRITES, NewOffer, NewRefund, Ran, Write};
use teahouse_core::programs::query::{OneProgram, PackageOf};
use teahouse_core::query::Query;
use teahouse_core::view::Blob;
use teahouse_programs::ui::{Event, Outcome, Reason, Request, Start};
use teahouse_programs::{Code, Host, Launch, ProgramError, limits};
use teahouse_protocols::ids::{AppId, PackageId};
use teahouse_protocols::package::VerifiedPackage;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::sleep;

use super::dealings::halves;
use super::open::weight;
use super::{code_at, host, host_at};
use crate::handle::{Handle, NodeError};

/// Updates of one run at most: each reads once more.
const MAX_ROUNDS: usize = 128;
/// Runs that fail because of the machine, not of the function, are tried again so often.
const MAX_TRIES: u32 = 3;
/// Waits before such a try.
const PAUSE: Duration = Duration::from_secs(1);

/// The task that runs functions. It starts no process before there is something to run.
#[derive(Debug)]
pub struct Functions {
    task: JoinHandle<()>,
}

impl Functions {
    /// Starts it, on the current tokio runtime. `child` is the executable that becomes the
    /// programs' child process; this one where none is named.
    #[must_use]
    pub fn start(handle: Handle, child: Option<PathBuf>) -> Self {
        let runner = Runner { handle, child, host: None, codes: BTreeMap::new(), tries: 0 };
        Self { task: tokio::spawn(runner.run()) }
    }
}

impl Drop for Functions {
    fn drop(&mut self) {
        // What it was doing is not said to the core, so nothing of it happened.
        self.task.abort();
    }
}

/// Why a run came to no end.
enum Trouble {
    /// The function's own, in words.
    Function(String),
    /// The machine's: the same again may go well.
    Machine(String),
    /// The node has stopped.
    Stopped,
}

impl From<ProgramError> for Trouble {
    fn from(error: ProgramError) -> Self {
        match error {
            ProgramError::HostDied | ProgramError::CannotStart(_) | ProgramError::Busy => {
                Self::Machine(error.to_string())
            }
            other => Self::Function(other.to_string()),
        }
    }
}

struct Runner {
    handle: Handle,
    child: Option<PathBuf>,
    host: Option<Host>,
    /// The functions of each program, as they were last read.
    codes: BTreeMap<AppId, (PackageId, Code)>,
    /// Of the run that is tried again.
    tries: u32,
}

impl Runner {
    async fn run(mut self) {
        let mut changes = self.handle.changes();
        loop {
            let Ok(due) = self.ask(Due {}).await else {
                sleep(PAUSE).await;
                continue;
            };
            if due.is_empty() {
                loop {
                    let Some(changed) = changes.next().await else { return };
                    if Due::depends(&changed) {
                        break;
                    }
                }
                continue;
            }
            for one in due {
                if matches!(self.one(one).await, Err(Trouble::Stopped)) {
                    return;
                }
            }
        }
    }

    async fn ask<Q: Query>(&self, query: Q) -> Result<Q::Out, Trouble> {
        let handle = self.handle.clone();
        let asked = spawn_blocking(move || handle.query(|s| query.run(s))).await;
        match asked {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(NodeError::Stopped)) => Err(Trouble::Stopped),
            Ok(Err(e)) => Err(Trouble::Machine(e.to_string())),
            Err(_) => Err(Trouble::Machine("reading failed".into())),
        }
    }

    /// Runs one, and says what became of it.
    async fn one(&mut self, due: DueView) -> Result<(), Trouble> {
        let (app, job) = (due.app, due.job);
        let ran = match self.carry_out(due).await {
            Ok(ran) => Ok(ran),
            Err(Trouble::Function(why)) => Err(why),
            Err(Trouble::Machine(why)) => {
                tracing::warn!("functions can't be run: {why}");
                self.tries += 1;
                sleep(PAUSE).await;
                if self.tries < MAX_TRIES {
                    return Ok(());
                }
                Err(why)
            }
            Err(stopped) => return Err(stopped),
        };
        self.tries = 0;
        match self.finish(app, job, ran).await {
            Ok(()) => Ok(()),
            Err(NodeError::Refused(why @ (Refusal::Invalid { .. } | Refusal::Limit { .. }))) => {
                // What it wants to do can't be: then it did nothing.
                match self.finish(app, job, Err(why.to_string())).await {
                    Err(NodeError::Stopped) => Err(Trouble::Stopped),
                    Err(e) => {
                        tracing::error!("what functions did is not kept: {e}");
                        sleep(PAUSE).await;
                        Ok(())
                    }
                    Ok(()) => Ok(()),
                }
            }
            Err(NodeError::Stopped) => Err(Trouble::Stopped),
            Err(_) => {
                // Not stored, or no longer served: it is looked at again.
                sleep(PAUSE).await;
                Ok(())
            }
        }
    }

    async fn finish(
        &self,
        app: AppId,
        job: u64,
        ran: Result<Ran, String>,
    ) -> Result<(), NodeError> {
        let finish = functions::Command::Finish { app, job, ran };
        self.handle.submit(Command::Functions(finish)).await.map(|_| ())
    }

    async fn carry_out(&mut self, due: DueView) -> Result<Ran, Trouble> {
        let (head, payload) = match due.what {
            DueWhat::Gone => return Err(Trouble::Function("its time is up".into())),
            DueWhat::Call { caller, id, function, payload } => {
                let head = json!({ "function": function, "caller": hex(&caller), "id": id });
                (head, payload.0)
            }
            DueWhat::Told { reference, caller, news } => {
                let caller = hex(&caller);
                let head = match news {
                    News::Paid { amount } => json!({ "told": "paid", "amount": amount }),
                    News::Expired => json!({ "told": "expired" }),
                    News::Refunded { refunded } => {
                        json!({ "told": "refunded", "refunded": refunded })
                    }
                };
                (with(with(head, "reference", json!(reference)), "caller", json!(caller)), vec![])
            }
        };
        let now = due.at / 1000;
        let head = with(with(head, "now", json!(now)), "seed", json!(due.seed));
        let code = self.code(due.app).await?;
        let host = match &self.host {
            Some(host) => host,
            None => {
                let started = match &self.child {
                    Some(child) => host_at(child.clone()),
                    None => host().map_err(|e| Trouble::Machine(e.to_string()))?,
                };
                self.host.insert(started)
            }
        };
        let mut instance = host.open(Launch { app: due.app.0, code }).await?;
        let start = Start { now, seed: due.seed, ..Start::default() };
        let given = Outcome::Value(halves(head.to_string().as_bytes(), &payload));
        let mut events =
            VecDeque::from([Event::Start(start), Event::Answer { id: 0, outcome: given }]);
        let mut run = Run { ran: Ran::default(), staged: BTreeMap::new() };
        for _ in 0..MAX_ROUNDS {
            let view = instance.update(next(&mut events)).await?;
            for effect in view.effects {
                let Some(outcome) = run.meet(self, due.app, effect.request).await? else {
                    return Ok(run.done());
                };
                events.push_back(Event::Answer { id: effect.id, outcome });
            }
            if events.is_empty() {
                return Err(Trouble::Function("the function gave no answer".into()));
            }
        }
        Err(Trouble::Function("the function reads too many things one after another".into()))
    }

    /// The functions of a program.
    async fn code(&mut self, app: AppId) -> Result<Code, Trouble> {
        let none = || Trouble::Function("the program's package is not here".into());
        let here = self.ask(OneProgram { app }).await?.and_then(|p| p.package);
        let id = here.ok_or_else(none)?.id;
        if let Some((known, code)) = self.codes.get(&app)
            && *known == id
        {
            return Ok(code.clone());
        }
        let Blob(bytes) = self.ask(PackageOf { app }).await?.ok_or_else(none)?;
        let package =
            VerifiedPackage::from_bytes(&bytes).map_err(|e| Trouble::Function(e.to_string()))?;
        let cloud = package.manifest().get().cloud.clone();
        let own = self.handle.device();
        let cloud = cloud.filter(|c| c.device == own);
        let cloud = cloud
            .ok_or_else(|| Trouble::Function("its functions belong to another device".into()))?;
        let code = code_at(&package, &cloud.main)?;
        self.codes.insert(app, (id, code.clone()));
        Ok(code)
    }
}

fn hex(bytes: &Blob) -> String {
    data_encoding::HEXLOWER.encode(&bytes.0)
}

fn with(mut head: serde_json::Value, name: &str, value: serde_json::Value) -> serde_json::Value {
    if let Some(fields) = head.as_object_mut() {
        fields.insert(name.to_owned(), value);
    }
    head
}

/// As many of the events that wait as one update may carry.
fn next(waiting: &mut VecDeque<Event>) -> Vec<Event> {
    let (mut events, mut bytes) = (Vec::new(), 0);
    while let Some(event) = waiting.front() {
        bytes += weight(event);
        let full = events.len() >= limits::EVENTS || bytes > limits::EVENT_BYTES;
        if full && !events.is_empty() {
            break;
        }
        events.extend(waiting.pop_front());
    }
    events
}

/// One run, and what it did so far.
struct Run {
    ran: Ran,
    /// What it wrote: read before what is kept.
    staged: BTreeMap<String, Option<Vec<u8>>>,
}

/// An offer as a function asks for it.
#[derive(Deserialize)]
struct Asked {
    reference: String,
    title: String,
    lines: Vec<(String, u32, u64)>,
    #[serde(default)]
    seconds: u32,
}

impl Run {
    /// Carries a wish out, on what is staged; `None` where it was the last one.
    async fn meet(
        &mut self,
        node: &Runner,
        app: AppId,
        request: Request,
    ) -> Result<Option<Outcome>, Trouble> {
        let bad = |why: &str| Trouble::Function(why.to_owned());
        let outcome = match request {
            Request::StorageGet(key) => {
                let found = match self.staged.get(&key) {
                    Some(staged) => staged.clone(),
                    None => node.ask(Kept { app, key }).await?.map(|b| b.0),
                };
                found.map_or(Outcome::Missing, Outcome::Value)
            }
            Request::StorageSet(entry) => {
                self.staged.insert(entry.key, Some(entry.value));
                Outcome::Done
            }
            Request::StorageRemove(key) => {
                self.staged.insert(key, None);
                Outcome::Done
            }
            Request::StorageList(prefix) => {
                let mut keys = node.ask(KeptKeys { app, prefix: prefix.clone() }).await?;
                keys.retain(|key| !self.staged.contains_key(key));
                let added = self.staged.iter().filter(|(_, value)| value.is_some());
                keys.extend(added.map(|(key, _)| key.clone()).filter(|k| k.starts_with(&prefix)));
                keys.sort();
                keys.truncate(limits::KEYS);
                Outcome::Keys(keys)
            }
            Request::Call { function, payload } => match function.as_str() {
                "answer" => {
                    self.ran.answer = Blob(payload);
                    return Ok(None);
                }
                "offer" if self.ran.offer.is_none() => {
                    let Asked { reference, title, lines, seconds } =
                        serde_json::from_slice(&payload).map_err(|_| bad("a malformed offer"))?;
                    self.ran.offer = Some(NewOffer { reference, title, lines, seconds });
                    Outcome::Done
                }
                "refund" if self.ran.refunds.len() < MAX_REFUNDS => {
                    let refund: NewRefund =
                        serde_json::from_slice(&payload).map_err(|_| bad("a malformed refund"))?;
                    self.ran.refunds.push(refund);
                    Outcome::Done
                }
                _ => return Err(bad("more than one offer, or more than 8 refunds")),
            },
            Request::Login
            | Request::StateGet(_)
            | Request::StateSet(_)
            | Request::StateList(_)
            | Request::Share { .. }
            | Request::Notice(_)
            | Request::Close => Outcome::Refused(Reason::NotHere),
        };
        if self.staged.len() > MAX_WRITES {
            return Err(bad("a run changes at most 256 things"));
        }
        Ok(Some(outcome))
    }

    fn done(mut self) -> Ran {
        let write = |(key, value): (String, Option<Vec<u8>>)| Write { key, value: value.map(Blob) };
        self.ran.writes = self.staged.into_iter().map(write).collect();
        self.ran
    }
}
