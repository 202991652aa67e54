//! The loop of a relay's thread: the same shape as the core's, around another machine.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use teahouse_core::Env;
use teahouse_core::relay::{Relay, RelayInput, RelayOutputs};
use teahouse_core::store::StorageError;
use teahouse_protocols::codec;
use teahouse_protocols::ids::Millis;
use teahouse_protocols::mailbox::{Refusal, Reply};
use tokio::sync::{mpsc, oneshot};

use super::relay::{RelayError, RelayShared};
use crate::handle::Health;
use crate::net::{NetCommand, NetEvent, NetEvents, NetHandle};
use crate::runtime::{Unpark, now, poll_events};

/// Inputs in a batch at most.
const INPUTS: usize = 256;

/// Bytes of requests after which a batch takes no further one.
const BYTES: usize = 4 << 20;

/// Answers waiting for the network at most; further ones are dropped, and their clients ask
/// again.
const ANSWERS: usize = 1024;

const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// The shortest time between ticks.
const TICKS: Duration = Duration::from_millis(5);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(10);
const CLOSING: Duration = Duration::from_secs(3);

type Answered<T> = oneshot::Sender<Result<T, RelayError>>;

/// What the operator asks of the thread.
pub(crate) enum Ask {
    Invite { uses: u32, days: u32, reply: Answered<[u8; 16]> },
    Drain { on: bool, reply: Answered<()> },
}

/// The relay with its queues.
pub(super) struct Driver {
    relay: Relay,
    env: Env,
    shared: Arc<RelayShared>,
    asks: mpsc::Receiver<Ask>,
    net: Option<Net>,
    stop: Arc<AtomicBool>,
    wake: Option<Millis>,
    ticked: Instant,
    failures: u32,
}

struct Net {
    handle: NetHandle,
    events: NetEvents,
    answers: mpsc::Sender<NetCommand>,
}

#[derive(Default)]
struct Batch {
    inputs: VecDeque<RelayInput>,
    bytes: usize,
    /// Requests in it, to be refused if it can't be stored.
    requests: Vec<u64>,
    invites: Vec<Answered<[u8; 16]>>,
    drains: Vec<Answered<()>>,
}

impl Driver {
    pub(super) fn new(
        relay: Relay,
        env: Env,
        shared: Arc<RelayShared>,
        asks: mpsc::Receiver<Ask>,
        net: Option<(NetHandle, NetEvents)>,
        stop: Arc<AtomicBool>,
    ) -> Self {
        let net = net.map(|(handle, events)| {
            let (answers, mut waiting) = mpsc::channel(ANSWERS);
            let to = handle.clone();
            tokio::spawn(async move {
                while let Some(answer) = waiting.recv().await {
                    if to.command(answer).await.is_err() {
                        return;
                    }
                }
            });
            Net { handle, events, answers }
        });
        // The first tick does what became due while the relay was off.
        Self {
            relay,
            env,
            shared,
            asks,
            net,
            stop,
            wake: Some(0),
            ticked: Instant::now(),
            failures: 0,
        }
    }

    pub(super) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let _ended = shared.ended.clone().drop_guard();
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut cx = Context::from_waker(&waker);
        loop {
            let batch = self.gather(&mut cx);
            if !batch.inputs.is_empty() {
                self.step(batch);
            } else if self.stopping() {
                break;
            }
        }
        self.close(&mut cx);
        shared.health.store(Arc::new(Health::Stopped));
    }

    fn stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    fn gather(&mut self, cx: &mut Context<'_>) -> Batch {
        loop {
            let stopping = self.stopping();
            if stopping {
                self.asks.close();
            }
            let mut batch = Batch::default();
            while batch.inputs.len() < INPUTS {
                match self.asks.poll_recv(cx) {
                    Poll::Ready(Some(Ask::Invite { uses, days, reply })) => {
                        let id = batch.invites.len() as u64;
                        batch.invites.push(reply);
                        batch.inputs.push_back(RelayInput::Invite { id, uses, days });
                    }
                    Poll::Ready(Some(Ask::Drain { on, reply })) => {
                        batch.drains.push(reply);
                        batch.inputs.push_back(RelayInput::Drain(on));
                    }
                    Poll::Ready(None) | Poll::Pending => break,
                }
            }
            while !stopping && batch.inputs.len() < INPUTS && batch.bytes < BYTES {
                let Some(net) = &mut self.net else { break };
                match poll_events(&mut net.events, cx) {
                    Poll::Ready(Some(event)) => self.event(event, &mut batch),
                    Poll::Ready(None) => {
                        tracing::error!("the network has stopped");
                        self.net = None;
                        self.shared.listen.store(Arc::default());
                    }
                    Poll::Pending => break,
                }
            }
            let time = now();
            if !stopping && self.wake.is_some_and(|w| w <= time) && self.ticked.elapsed() >= TICKS {
                self.wake = None;
                self.ticked = Instant::now();
                batch.inputs.push_back(RelayInput::Tick);
            }
            if !batch.inputs.is_empty() || stopping {
                return batch;
            }
            let wait =
                self.wake.map_or(LONGEST_WAIT, |w| Duration::from_millis(w.saturating_sub(time)));
            thread::park_timeout(wait.clamp(TICKS, LONGEST_WAIT));
        }
    }

    fn event(&self, event: NetEvent, batch: &mut Batch) {
        match event {
            NetEvent::MailRequest { id, session, bytes } => {
                batch.bytes += bytes.len();
                batch.requests.push(id);
                batch.inputs.push_back(RelayInput::Request { id, session, bytes });
            }
            NetEvent::MailClosed { session } => {
                batch.inputs.push_back(RelayInput::SessionClosed { session });
            }
            NetEvent::Listening { addr } => {
                let mut all = self.shared.listen.load().to_vec();
                if !all.contains(&addr) {
                    all.push(addr);
                    self.shared.listen.store(Arc::new(all));
                }
            }
            // A relay exchanges no frames and reserves nothing.
            _ => {}
        }
    }

    fn step(&mut self, batch: Batch) {
        let Batch { inputs, requests, invites, drains, .. } = batch;
        let metrics = &self.shared.metrics;
        let began = Instant::now();
        let n = inputs.len();
        self.env.now = now();
        match self.relay.step(&mut self.env, inputs.into()) {
            Ok(outputs) => {
                metrics.batches.inc();
                metrics.batch_seconds.observe(began.elapsed().as_secs_f64());
                metrics.count("mail", requests.len());
                metrics.count("other", n - requests.len());
                if self.failures > 0 {
                    tracing::warn!("storage works again");
                    self.failures = 0;
                    self.shared.health.store(Arc::new(Health::Good));
                    metrics.healthy.set(1);
                }
                self.dispatch(outputs, invites, drains);
            }
            Err(error) => {
                let why = error.to_string();
                let refused = codec::encode(&Reply::Refused(Refusal::Storage));
                for id in requests {
                    self.answer(id, refused.clone());
                }
                for reply in invites {
                    let _ = reply.send(Err(RelayError::NotStored(why.clone())));
                }
                for reply in drains {
                    let _ = reply.send(Err(RelayError::NotStored(why.clone())));
                }
                self.failed(&error);
            }
        }
    }

    fn dispatch(
        &mut self,
        outputs: RelayOutputs,
        invites: Vec<Answered<[u8; 16]>>,
        drains: Vec<Answered<()>>,
    ) {
        let status = self.relay.status();
        let metrics = &self.shared.metrics;
        metrics.relay_tags.set(i64::try_from(status.tags).unwrap_or(i64::MAX));
        metrics.relay_bytes.set(status.bytes);
        self.shared.status.store(Arc::new(status));
        self.wake = outputs.wake;
        for (id, answer) in outputs.answers {
            self.answer(id, answer);
        }
        for (id, reply) in (0_u64..).zip(invites) {
            let code = outputs.invites.iter().find(|(i, _)| *i == id).map(|(_, code)| *code);
            let refused = || RelayError::NotStored("the code could not be made".into());
            let _ = reply.send(code.ok_or_else(refused));
        }
        for reply in drains {
            let _ = reply.send(Ok(()));
        }
    }

    fn answer(&self, id: u64, response: Vec<u8>) {
        let Some(net) = &self.net else { return };
        if net.answers.try_send(NetCommand::Answer { id, response }).is_ok() {
            self.shared.metrics.mail.inc();
        } else {
            self.shared.metrics.mail_failed.inc();
        }
    }

    /// Pauses and opens the database again until that works. Requests wait meanwhile in the
    /// network's bounded queues.
    fn failed(&mut self, error: &StorageError) {
        tracing::error!("not stored: {error}");
        self.shared.metrics.storage_errors.inc();
        self.shared.metrics.healthy.set(0);
        let mut why = error.to_string();
        loop {
            self.shared.health.store(Arc::new(Health::NotStoring { why: why.clone() }));
            let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16)).min(LAST_PAUSE);
            self.failures = self.failures.saturating_add(1);
            let until = Instant::now() + pause;
            loop {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                if self.stopping() {
                    self.wake = None;
                    return;
                }
                thread::park_timeout(left.min(Duration::from_millis(50)));
            }
            match self.relay.reopen() {
                Ok(()) => break,
                Err(e) => {
                    tracing::error!("the database can't be opened again: {e}");
                    why = e.to_string();
                }
            }
        }
        // What was due is still due.
        self.wake = Some(0);
    }

    fn close(&mut self, cx: &mut Context<'_>) {
        let Some(Net { handle, mut events, answers }) = self.net.take() else { return };
        drop(answers);
        crate::runtime::close_network(&handle, &mut events, cx, CLOSING);
    }
}
