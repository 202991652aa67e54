//! Order, windows and duplicates between two peers: pure state, no sockets.
//!
//! A sender numbers its batches and keeps up to [`WINDOW`] of them in flight, each on a
//! stream of its own, so they may arrive in any order and, after a failure, twice. The
//! receiver hands them on in order and acknowledges each when the consumer has it.
//!
//! Both sides forget everything when their last connection closes, which need not happen
//! on both at the same time. `boot` names a run of the process, `session` counts the
//! sender's sessions within it, and `base` says what was acknowledged: enough for a
//! receiver to tell a fresh start from the middle of something it has forgotten.

use std::collections::BTreeMap;

use super::codec::{Answer, Batch, MAX_BODY};
use libp2p::bytes::Bytes;

/// Most batches in flight.
pub(super) const WINDOW: usize = 8;

/// Another batch is sent while fewer bytes than this are in flight, so that at most twice
/// as many are.
const IN_FLIGHT: usize = MAX_BODY;

/// Most bytes held for one peer by the receiver. An honest sender stays below.
const MAX_HELD: usize = 3 * MAX_BODY;

/// A batch that is not acknowledged yet. `R` names a request in flight.
#[derive(Debug)]
pub(super) struct Unacknowledged<R> {
    body: Bytes,
    /// What the send queue charges for it.
    charge: usize,
    request: Option<R>,
}

/// The sending side of one session.
#[derive(Debug)]
pub(super) struct Sender<R> {
    boot: u64,
    session: u64,
    next: u64,
    batches: BTreeMap<u64, Unacknowledged<R>>,
    /// Failures since the last answer.
    pub(super) failures: u32,
    /// Nothing is sent while this is set: a retry is scheduled.
    pub(super) paused: bool,
}

impl<R: PartialEq> Sender<R> {
    pub(super) fn new(boot: u64, session: u64) -> Self {
        Self { boot, session, next: 0, batches: BTreeMap::new(), failures: 0, paused: false }
    }

    /// Whether another batch may be added.
    pub(super) fn has_room(&self) -> bool {
        let bytes: usize = self.batches.values().map(|b| b.body.len()).sum();
        self.batches.len() < WINDOW && bytes < IN_FLIGHT
    }

    /// Adds a batch.
    pub(super) fn push(&mut self, body: Bytes, charge: usize) {
        let request = None;
        let batch = Unacknowledged { body, charge, request };
        self.batches.insert(self.next, batch);
        self.next += 1;
    }

    /// Sends every batch that is not in flight, in order, through `send`.
    pub(super) fn send(&mut self, mut send: impl FnMut(Batch) -> R) {
        if self.paused {
            return;
        }
        let base = self.batches.keys().next().copied().unwrap_or(self.next);
        for (seq, batch) in &mut self.batches {
            if batch.request.is_none() {
                batch.request = Some(send(Batch {
                    boot: self.boot,
                    session: self.session,
                    seq: *seq,
                    base,
                    body: batch.body.clone(),
                    hold: None,
                }));
            }
        }
    }

    /// A request was accepted. The charge of its batch, unless it is of the past.
    pub(super) fn accepted(&mut self, request: &R) -> Option<usize> {
        let seq = self.find(request)?;
        self.failures = 0;
        self.batches.remove(&seq).map(|b| b.charge)
    }

    /// A request failed; its batch will be sent again. Whether it was one of ours.
    pub(super) fn failed(&mut self, request: &R) -> bool {
        let Some(batch) = self.find(request).and_then(|s| self.batches.get_mut(&s)) else {
            return false;
        };
        batch.request = None;
        true
    }

    fn find(&self, request: &R) -> Option<u64> {
        let mut batches = self.batches.iter();
        let found = batches.find(|(_, b)| b.request.as_ref() == Some(request));
        found.map(|(seq, _)| *seq)
    }
}

/// What to do after a batch arrived. `C` answers a request.
#[derive(Debug)]
pub(super) struct Received<C> {
    /// Requests to answer now.
    pub(super) answers: Vec<(C, Answer)>,
    /// Batches to hand on, in this order, each with its ticket for
    /// [`Receiver::taken`].
    pub(super) deliver: Vec<(Ticket, Batch)>,
    /// The peer's process is another one than before.
    pub(super) restarted: bool,
}

/// Names a batch that was handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket {
    generation: u64,
    seq: u64,
}

/// The receiving side of one session.
#[derive(Debug)]
pub(super) struct Receiver<C> {
    /// (boot, session) of the sender, once known.
    stream: Option<(u64, u64)>,
    /// The boot before: late batches of a dead process are no restart.
    old_boot: Option<u64>,
    /// Goes into tickets, so that those of an earlier receiver say nothing.
    generation: u64,
    /// The number to hand on next.
    next: u64,
    /// Arrived before their turn.
    early: BTreeMap<u64, (Batch, C)>,
    /// Handed on, not yet taken by the consumer; with the length of the body.
    waiting: BTreeMap<u64, (C, usize)>,
}

impl<C> Receiver<C> {
    /// A receiver that knows nothing yet. `generation` is never used twice.
    pub(super) fn new(generation: u64) -> Self {
        Self {
            stream: None,
            old_boot: None,
            generation,
            next: 0,
            early: BTreeMap::new(),
            waiting: BTreeMap::new(),
        }
    }

    /// Takes in a batch; `channel` answers it. `busy` refuses what is new.
    pub(super) fn receive(&mut self, batch: Batch, channel: C, busy: bool) -> Received<C> {
        let mut received = Received { answers: Vec::new(), deliver: Vec::new(), restarted: false };
        let stream = (batch.boot, batch.session);
        if self.stream != Some(stream) {
            let refusal = match self.stream {
                _ if self.old_boot == Some(batch.boot) => Some(Answer::Busy),
                // An earlier session of the same run: a straggler.
                Some((boot, session)) if boot == batch.boot && session > batch.session => {
                    Some(Answer::Busy)
                }
                // The middle of something this side has forgotten.
                _ if batch.base > 0 => Some(Answer::Reset),
                // What is handed on counts against its peer until it is taken, so a new
                // stream can't make room by making us forget.
                _ if busy || !self.waiting.is_empty() => Some(Answer::Busy),
                _ => None,
            };
            if let Some(answer) = refusal {
                received.answers.push((channel, answer));
                return received;
            }
            if let Some((boot, _)) = self.stream
                && boot != batch.boot
            {
                received.restarted = true;
                self.old_boot = Some(boot);
            }
            self.stream = Some(stream);
            self.next = 0;
            // Nobody waits for these answers any more.
            self.early.clear();
        }

        if batch.seq < self.next {
            // A duplicate: its sender lost the answer, or the connection.
            match self.waiting.get_mut(&batch.seq) {
                Some((waiting, _)) => *waiting = channel,
                None => received.answers.push((channel, Answer::Accepted)),
            }
            return received;
        }
        let in_window = batch.seq - self.next < WINDOW as u64;
        if busy || !in_window || self.held() + batch.body.len() > MAX_HELD {
            received.answers.push((channel, Answer::Busy));
            return received;
        }
        self.early.insert(batch.seq, (batch, channel));
        while let Some((batch, channel)) = self.early.remove(&self.next) {
            let ticket = Ticket { generation: self.generation, seq: self.next };
            self.waiting.insert(self.next, (channel, batch.body.len()));
            received.deliver.push((ticket, batch));
            self.next += 1;
        }
        received
    }

    /// The consumer has a batch: the request to be told so.
    pub(super) fn taken(&mut self, ticket: Ticket) -> Option<C> {
        if ticket.generation != self.generation {
            return None;
        }
        self.waiting.remove(&ticket.seq).map(|(channel, _)| channel)
    }

    /// Drops batches that wait for an earlier one although their sender no longer waits.
    pub(super) fn prune(&mut self, mut open: impl FnMut(&C) -> bool) {
        self.early.retain(|_, (_, channel)| open(channel));
    }

    fn held(&self) -> usize {
        let early = self.early.values().map(|(b, _)| b.body.len());
        let waiting = self.waiting.values().map(|(_, len)| *len);
        early.chain(waiting).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    /// One direction over a network that reorders, loses requests and loses answers. What
    /// is handed on must be what was sent, in order and once.
    #[test]
    fn order_survives_a_network_that_reorders_and_loses() {
        for seed in 0..200 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let mut sender = Sender::new(1, 0);
            let mut receiver = Receiver::new(0);
            let (mut id, mut sent, mut charged) = (0_u32, 0_u32, 0);
            let mut wire: Vec<(u32, Batch)> = Vec::new();
            let mut tickets = Vec::new();
            let mut delivered = Vec::new();
            while delivered.len() < 100 || !sender.batches.is_empty() || !tickets.is_empty() {
                while sent < 100 && sender.has_room() {
                    sender.push(Bytes::copy_from_slice(&sent.to_le_bytes()), 1);
                    charged += 1;
                    sent += 1;
                }
                sender.send(|batch| {
                    id += 1;
                    wire.push((id, batch));
                    id
                });
                let mut answers = Vec::new();
                if !wire.is_empty() {
                    let (request, batch) = wire.swap_remove(rng.next_u32() as usize % wire.len());
                    if rng.next_u32() % 4 == 0 {
                        assert!(sender.failed(&request));
                    } else {
                        let busy = rng.next_u32() % 8 == 0;
                        let received = receiver.receive(batch, request, busy);
                        assert!(!received.restarted);
                        answers = received.answers;
                        for (ticket, batch) in received.deliver {
                            delivered.push(batch.body);
                            tickets.push(ticket);
                        }
                    }
                }
                if !tickets.is_empty() && rng.next_u32() % 2 == 0 {
                    let ticket = tickets.remove(0);
                    answers.extend(receiver.taken(ticket).map(|r| (r, Answer::Accepted)));
                }
                for (request, answer) in answers {
                    let lost = rng.next_u32() % 8 == 0;
                    if answer == Answer::Accepted && !lost {
                        charged -= sender.accepted(&request).unwrap_or(0);
                    } else {
                        sender.failed(&request);
                    }
                }
            }
            let expected: Vec<_> =
                (0..100_u32).map(|n| Bytes::from(n.to_le_bytes().to_vec())).collect();
            assert_eq!(delivered, expected, "seed {seed}");
            assert_eq!(charged, 0);
            assert_eq!(receiver.held(), 0);
        }
    }

    fn batch(boot: u64, session: u64, seq: u64, base: u64) -> Batch {
        let body = Bytes::from_static(b"x");
        Batch { boot, session, seq, base, body, hold: None }
    }

    #[test]
    fn a_restart_a_new_session_and_a_forgotten_one_are_told_apart() {
        let mut receiver = Receiver::new(0);
        let forgotten = receiver.receive(batch(1, 0, 5, 4), 0, false);
        assert_eq!(forgotten.answers, [(0, Answer::Reset)]);

        let first = receiver.receive(batch(1, 0, 0, 0), 1, false);
        assert_eq!((first.deliver.len(), first.restarted), (1, false));
        let ticket = first.deliver[0].0;

        // Nothing new begins before what was handed on is taken.
        let hasty = receiver.receive(batch(1, 1, 0, 0), 7, false);
        assert_eq!(hasty.answers, [(7, Answer::Busy)]);
        let foreign = Ticket { generation: 9, ..ticket };
        assert_eq!(receiver.taken(foreign), None);
        assert_eq!(receiver.taken(ticket), Some(1));

        // The sender lost its connections and starts over: no restart of the process.
        let session = receiver.receive(batch(1, 1, 0, 0), 2, false);
        assert_eq!((session.deliver.len(), session.restarted), (1, false));
        assert_eq!(receiver.taken(session.deliver[0].0), Some(2));
        let straggler = receiver.receive(batch(1, 0, 1, 0), 3, false);
        assert_eq!(straggler.answers, [(3, Answer::Busy)]);

        let restart = receiver.receive(batch(2, 0, 0, 0), 4, false);
        assert_eq!((restart.deliver.len(), restart.restarted), (1, true));
        let late = receiver.receive(batch(1, 1, 1, 0), 5, false);
        assert_eq!(late.answers, [(5, Answer::Busy)]);
        assert!(!late.restarted);
        assert_eq!(receiver.taken(restart.deliver[0].0), Some(4));
    }

    #[test]
    fn what_a_peer_can_make_us_hold_is_bounded() {
        let mut receiver = Receiver::new(0);
        let mut refused = 0;
        for seq in 1..1_000 {
            let mut batch = batch(1, 0, seq, 0);
            batch.body = vec![0; MAX_BODY].into();
            let received = receiver.receive(batch, (), false);
            assert!(received.deliver.is_empty());
            refused += received.answers.len();
            assert!(receiver.held() <= MAX_HELD && receiver.early.len() <= WINDOW);
        }
        assert_eq!(refused, 999 - 3);
        receiver.prune(|()| false);
        assert_eq!(receiver.held(), 0);
    }
}
