//! The loop of the core's thread.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use teahouse_core::Env;
use teahouse_core::command::{Refusal, Reply};
use teahouse_core::store::{ChangeSet, StorageError};
use teahouse_core::{Core, Input, Outputs, Rebuilt};
use teahouse_protocols::ids::Millis;
use tokio::sync::{mpsc, oneshot};

use super::batch::{Batch, Unpark, poll_events, poll_queue};
use super::outward::Outward;
use super::{best_first, now};
use crate::handle::{Health, Request, Shared};
use crate::net::{NetCommand, NetEvent, NetEvents, NetHandle, SendError};

/// The longest wait without looking at the clock: it may be set, and timers follow it.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The shortest time between ticks: a timer that is always due must not keep a processor busy.
const TICKS: Duration = Duration::from_millis(5);

/// Waits between attempts to open the database again: doubled from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(10);

/// For saying good-bye to peers when stopping.
const CLOSING: Duration = Duration::from_secs(3);

type ReplyTo = oneshot::Sender<Result<Reply, Refusal>>;

/// The core with its queues.
pub(super) struct Driver {
    core: Core,
    env: Env,
    shared: Arc<Shared>,
    requests: mpsc::Receiver<Request>,
    net: Option<Net>,
    stop: Arc<AtomicBool>,
    /// Commands of the current batch.
    asked: BTreeMap<u64, ReplyTo>,
    next_id: u64,
    /// Inputs that come before any other: ours, and those of a batch that was not stored.
    first: VecDeque<Input>,
    wake: Option<Millis>,
    ticked: Instant,
    /// A rebuild that was asked for.
    rebuild: Option<oneshot::Sender<Result<Rebuilt, StorageError>>>,
    /// Attempts to store that failed since the last that did not.
    failures: u32,
}

struct Net {
    handle: NetHandle,
    events: NetEvents,
    outward: Outward,
}

impl Driver {
    pub(super) fn new(
        core: Core,
        env: Env,
        shared: Arc<Shared>,
        requests: mpsc::Receiver<Request>,
        net: Option<(NetHandle, NetEvents)>,
        stop: Arc<AtomicBool>,
    ) -> Self {
        let net = net.map(|(handle, events)| {
            let runtime = tokio::runtime::Handle::current();
            let outward = Outward::start(&runtime, handle.clone());
            Net { handle, events, outward }
        });
        Self {
            core,
            env,
            shared,
            requests,
            net,
            stop,
            asked: BTreeMap::new(),
            next_id: 0,
            first: VecDeque::new(),
            wake: None,
            ticked: Instant::now(),
            rebuild: None,
            failures: 0,
        }
    }

    pub(super) fn run(mut self) {
        // However the thread ends, those who wait for it learn it.
        let shared = Arc::clone(&self.shared);
        let _ended = shared.ended.clone().drop_guard();
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut cx = Context::from_waker(&waker);

        if let Err(error) = self.start() {
            self.failed(&error);
        }
        loop {
            let batch = self.gather(&mut cx);
            if !batch.is_empty() {
                self.step(batch);
            } else if self.stopping() {
                break;
            }
        }
        self.close(&mut cx);
        shared.set_health(Health::Stopped);
    }

    /// Sends what must leave after opening.
    fn start(&mut self) -> Result<(), StorageError> {
        self.env.now = now();
        let outputs = self.core.start(&mut self.env)?;
        self.dispatch(outputs);
        Ok(())
    }

    fn stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Waits until something is there and takes it. Empty only when stopping with nothing
    /// left to do.
    fn gather(&mut self, cx: &mut Context<'_>) -> Batch {
        loop {
            let stopping = self.stopping();
            if stopping {
                self.requests.close();
            }
            let mut batch = Batch::new();
            // When stopping only commands are finished: what else must happen is derived from
            // tables at the next start.
            while !stopping
                && batch.takes_events()
                && let Some(input) = self.first.pop_front()
            {
                batch.push(input);
            }
            if let Some(reply) = self.rebuild.take() {
                self.run_rebuild(reply);
            }
            while self.rebuild.is_none() && batch.takes_commands() {
                match poll_queue(&mut self.requests, cx) {
                    Poll::Ready(Some(Request::Command(command, reply))) => {
                        self.next_id += 1;
                        self.asked.insert(self.next_id, reply);
                        batch.push(Input::Command { id: self.next_id, command });
                    }
                    // After the batch: its commands were asked earlier.
                    Poll::Ready(Some(Request::Rebuild(reply))) => self.rebuild = Some(reply),
                    Poll::Ready(Some(Request::ContentAddr(addr))) => {
                        batch.push(Input::ContentAddr { addr });
                    }
                    // Closed: the node is being dropped, and the flag says when.
                    Poll::Ready(None) | Poll::Pending => break,
                }
            }
            // Peers send again what was not taken.
            while !stopping && batch.takes_events() {
                let Some(net) = &mut self.net else { break };
                match poll_events(&mut net.events, cx) {
                    Poll::Ready(Some(event)) => {
                        if let Some(input) = self.event(event) {
                            batch.push(input);
                        }
                    }
                    Poll::Ready(None) => {
                        tracing::error!("the network has stopped");
                        self.net = None;
                        self.shared.net().online = false;
                    }
                    Poll::Pending => break,
                }
            }
            let time = now();
            if !stopping && self.wake.is_some_and(|w| w <= time) && self.ticked.elapsed() >= TICKS {
                self.wake = None;
                self.ticked = Instant::now();
                batch.push(Input::Tick);
            }
            if self.rebuild.is_some() && batch.is_empty() {
                continue;
            }
            if !batch.is_empty() || stopping {
                return batch;
            }
            let wait =
                self.wake.map_or(LONGEST_WAIT, |w| Duration::from_millis(w.saturating_sub(time)));
            thread::park_timeout(wait.clamp(TICKS, LONGEST_WAIT));
        }
    }

    fn step(&mut self, batch: Batch) {
        let (counts, began) = (batch.counts(), batch.began());
        let inputs = batch.into_inputs();
        // Commands get an answer either way; everything else must not be lost, because the
        // network has already acknowledged it.
        let kept: VecDeque<Input> =
            inputs.iter().filter(|i| !matches!(i, Input::Command { .. })).cloned().collect();
        self.env.now = now();
        match self.core.step(&mut self.env, inputs) {
            Ok(outputs) => {
                let metrics = &self.shared.metrics;
                metrics.batches.inc();
                metrics.batch_seconds.observe(began.elapsed().as_secs_f64());
                for (kind, n) in counts {
                    metrics.count(kind, n);
                }
                if self.failures > 0 {
                    tracing::warn!("storage works again");
                    self.failures = 0;
                    self.shared.set_health(Health::Good);
                }
                self.dispatch(outputs);
                // The core answers every command of its batch; whoever were left would wait
                // for ever.
                self.answer_all(&Refusal::Internal);
            }
            Err(error) => {
                for input in kept.into_iter().rev() {
                    self.first.push_front(input);
                }
                self.failed(&error);
            }
        }
    }

    fn dispatch(&mut self, outputs: Outputs) {
        let Outputs { replies, frames, mail, peers, changes, wake } = outputs;
        // Changes first: whoever sees its reply and then asks, is told of the change before.
        self.publish(changes);
        for (id, reply) in replies {
            if let Some(to) = self.asked.remove(&id) {
                // Whoever asked may have gone away.
                let _ = to.send(reply);
            }
        }
        // A batch names only the timers that it looked at: the earliest counts, and a tick
        // looks at all of them.
        self.wake = match (self.wake, wake) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let metrics = &self.shared.metrics;
        let Some(net) = &self.net else {
            // Nothing leaves; it is derived from tables again when a node with a network opens
            // the folder. To answer "unreachable" would blame the relays.
            return;
        };
        if let Some(peers) = peers {
            net.outward.peers(peers);
        }
        // After a refused frame nothing more goes to that peer until the core has heard of
        // it: a later frame must not arrive without the earlier one.
        let mut full = BTreeSet::new();
        for (device, bytes) in frames {
            if full.contains(&device) {
                continue;
            }
            match net.handle.send(device, bytes) {
                Ok(()) => {
                    metrics.frames_sent.inc();
                }
                Err(SendError::Full) => {
                    metrics.frames_held.inc();
                    full.insert(device);
                    self.first.push_back(Input::PeerFull { device });
                }
                // The event that says so is on its way.
                Err(SendError::NotConnected) => {}
                Err(SendError::Length) => tracing::error!("a frame beyond the limit was made"),
            }
        }
        for out in mail {
            metrics.mail.inc();
            if let Err(id) = net.outward.mail(out) {
                metrics.mail_failed.inc();
                let result = Err("too many requests are waiting".into());
                self.first.push_back(Input::MailReply { id, result });
            }
        }
    }

    fn publish(&self, changes: ChangeSet) {
        if !changes.is_empty() {
            // Nobody may be listening.
            let _ = self.shared.changes.send(Arc::new(changes));
        }
    }

    /// What an event means to the core, if anything.
    fn event(&self, event: NetEvent) -> Option<Input> {
        let mut view = self.shared.net();
        let input = match event {
            NetEvent::Up { peer, relayed } => {
                // Said again whenever the path changes.
                let new = view.peers.insert(peer, relayed).is_none();
                new.then_some(Input::PeerUp { device: peer })
            }
            NetEvent::Down { peer } => {
                view.peers.remove(&peer).map(|_| Input::PeerDown { device: peer })
            }
            NetEvent::Frame { peer, bytes } => Some(Input::Frame { device: peer, bytes }),
            NetEvent::Drained { peer } => Some(Input::PeerDrained { device: peer }),
            NetEvent::MailReply { id, result } => {
                if result.is_err() {
                    self.shared.metrics.mail_failed.inc();
                }
                Some(Input::MailReply { id, result: result.map_err(|e| e.to_string()) })
            }
            NetEvent::Listening { addr } => {
                let circuit = addr.contains("p2p-circuit");
                let new = !circuit && view.listen.insert(addr);
                new.then(|| Input::Reachable { addrs: best_first(&view.listen) })
            }
            NetEvent::Reservation { relay, ok } => {
                if ok {
                    view.reservations.insert(relay);
                } else {
                    view.reservations.remove(&relay);
                }
                None
            }
            NetEvent::Nat { public } => {
                view.public = Some(public);
                None
            }
            // The refused `send` was told to the core already; a lost session is followed by
            // `Down`; failed attempts are made again by the network.
            NetEvent::Full { .. } | NetEvent::SendFailed { .. } | NetEvent::DialFailed { .. } => {
                None
            }
            // Only relays are asked.
            NetEvent::MailRequest { .. } | NetEvent::MailClosed { .. } => None,
        };
        let metrics = &self.shared.metrics;
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        metrics.peers.set(count(view.peers.len()));
        metrics.reservations.set(count(view.reservations.len()));
        input
    }

    fn run_rebuild(&mut self, reply: oneshot::Sender<Result<Rebuilt, StorageError>>) {
        self.env.now = now();
        let result = self.core.rebuild(&mut self.env);
        match &result {
            Ok(_) => self.publish(ChangeSet::everything()),
            Err(error) => self.failed(error),
        }
        let _ = reply.send(result);
    }

    fn answer_all(&mut self, refusal: &Refusal) {
        for (_, reply) in std::mem::take(&mut self.asked) {
            let _ = reply.send(Err(refusal.clone()));
        }
    }

    /// Answers the commands, then pauses and opens the database again until that works.
    fn failed(&mut self, error: &StorageError) {
        tracing::error!("not stored: {error}");
        self.shared.metrics.storage_errors.inc();
        let mut why = error.to_string();
        loop {
            self.shared.set_health(Health::NotStoring { why: why.clone() });
            self.answer_all(&Refusal::NotStored { why: why.clone() });
            let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16)).min(LAST_PAUSE);
            self.failures = self.failures.saturating_add(1);
            let until = Instant::now() + pause;
            loop {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                if self.stopping() {
                    // Nothing of it was promised to anybody.
                    self.first.clear();
                    self.wake = None;
                    return;
                }
                self.refuse_waiting(&why);
                thread::park_timeout(left.min(Duration::from_millis(50)));
            }
            let again = self.core.reopen().map_err(|e| e.to_string());
            match again.and_then(|()| self.resume().map_err(|e| e.to_string())) {
                Ok(()) => return,
                Err(e) => {
                    tracing::error!("the database can't be opened again: {e}");
                    why = e;
                }
            }
        }
    }

    /// Goes on after reopening: the core has forgotten who is connected.
    fn resume(&mut self) -> Result<(), StorageError> {
        self.start()?;
        self.first.retain(|i| !matches!(i, Input::PeerUp { .. } | Input::PeerDown { .. }));
        for &device in self.shared.net().peers.keys() {
            self.first.push_front(Input::PeerUp { device });
        }
        Ok(())
    }

    fn refuse_waiting(&mut self, why: &str) {
        while let Ok(request) = self.requests.try_recv() {
            match request {
                Request::Command(_, reply) => {
                    let _ = reply.send(Err(Refusal::NotStored { why: why.to_owned() }));
                }
                Request::Rebuild(reply) => {
                    let _ = reply.send(Err(StorageError::NeedsReopen));
                }
                // It is said once only: kept for when storage works again.
                Request::ContentAddr(addr) => {
                    self.first.push_back(Input::ContentAddr { addr });
                }
            }
        }
    }

    /// Lets the network close its connections, for a bounded time.
    fn close(&mut self, cx: &mut Context<'_>) {
        let Some(Net { handle, mut events, outward }) = self.net.take() else { return };
        drop(outward);
        close_network(&handle, &mut events, cx, CLOSING);
    }
}

/// Asks the network to close its connections and waits until it has, for a bounded time.
pub(crate) fn close_network(
    handle: &NetHandle,
    events: &mut NetEvents,
    cx: &mut Context<'_>,
    longest: Duration,
) {
    let until = Instant::now() + longest;
    let mut asked = handle.try_command(NetCommand::Shutdown).is_ok();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        match poll_events(events, cx) {
            Poll::Ready(Some(_)) => {}
            Poll::Ready(None) => return,
            Poll::Pending => thread::park_timeout(left.min(Duration::from_millis(20))),
        }
        if !asked {
            asked = handle.try_command(NetCommand::Shutdown).is_ok();
        }
    }
    tracing::warn!("the network did not close in time");
}
