//! The send queues, one per connected peer, shared by the handle and the swarm's task.
//!
//! Whoever sends learns at once whether a frame was taken, so nothing has to be guessed
//! from events. A queue exists exactly while its peer is up.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use libp2p::bytes::Bytes;
use teahouse_protocols::ids::DeviceId;
use tokio::sync::Notify;

use super::codec::{FRAME_HEAD, MAX_BATCH_FRAMES, MAX_BODY, push_frame};
use super::{MAX_FRAME, MAX_QUEUED, SendError};

/// Bytes charged for a frame on top of its length, for what holds it in memory.
const CHARGE: usize = 32;

/// A queue that was full counts as drained at this many bytes.
const LOW_WATER: usize = MAX_QUEUED / 4;

#[derive(Default)]
struct Queue {
    frames: VecDeque<Vec<u8>>,
    /// Charged bytes: queued and unacknowledged.
    bytes: usize,
    /// A frame was refused and the queue has not drained since.
    full: bool,
}

#[derive(Default)]
struct State {
    queues: BTreeMap<DeviceId, Queue>,
    /// Peers with something new to send.
    ready: BTreeSet<DeviceId>,
    /// Peers whose queue refused a frame, not yet reported.
    full: BTreeSet<DeviceId>,
}

/// All send queues.
#[derive(Default)]
pub(super) struct Outgoing {
    state: Mutex<State>,
    wake: Notify,
}

/// Frames taken from a queue to travel together.
#[derive(Debug)]
pub(super) struct Taken {
    /// The encoded frames.
    pub(super) body: Bytes,
    /// What the queue charges for them until [`Outgoing::acknowledged`].
    pub(super) charge: usize,
}

impl Outgoing {
    /// No invariant spans a panic inside the lock, so a poisoned one is still good.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a frame.
    pub(super) fn push(&self, peer: DeviceId, frame: Vec<u8>) -> Result<(), SendError> {
        if frame.is_empty() || frame.len() > MAX_FRAME {
            return Err(SendError::Length);
        }
        let mut state = self.lock();
        let queue = state.queues.get_mut(&peer).ok_or(SendError::NotConnected)?;
        let charge = frame.len() + CHARGE;
        let result = if queue.bytes + charge > MAX_QUEUED {
            if !mem::replace(&mut queue.full, true) {
                state.full.insert(peer);
            }
            Err(SendError::Full)
        } else {
            queue.bytes += charge;
            queue.frames.push_back(frame);
            state.ready.insert(peer);
            Ok(())
        };
        drop(state);
        self.wake.notify_one();
        result
    }

    /// Waits until [`changed`](Self::changed) has something to tell.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Peers with something new to send, and peers whose queue has become full.
    pub(super) fn changed(&self) -> (BTreeSet<DeviceId>, BTreeSet<DeviceId>) {
        let mut state = self.lock();
        (mem::take(&mut state.ready), mem::take(&mut state.full))
    }

    /// Gives a peer an empty queue. Whether frames of an earlier one were dropped.
    pub(super) fn open(&self, peer: DeviceId) -> bool {
        let old = self.lock().queues.insert(peer, Queue::default());
        old.is_some_and(|q| q.bytes > 0)
    }

    /// Drops a peer's queue. Whether frames were dropped with it, unacknowledged ones
    /// included.
    pub(super) fn close(&self, peer: DeviceId) -> bool {
        let mut state = self.lock();
        state.ready.remove(&peer);
        state.full.remove(&peer);
        let old = state.queues.remove(&peer);
        old.is_some_and(|q| q.bytes > 0)
    }

    /// Takes the next frames, as many as fit into one batch.
    pub(super) fn take(&self, peer: DeviceId) -> Option<Taken> {
        let mut state = self.lock();
        let queue = state.queues.get_mut(&peer)?;
        let first = queue.frames.pop_front()?;
        let mut body = Vec::with_capacity(first.len() + FRAME_HEAD);
        push_frame(&mut body, &first);
        let mut count = 1;
        let fits = |body: &Vec<u8>, f: &mut Vec<u8>| body.len() + FRAME_HEAD + f.len() <= MAX_BODY;
        while count < MAX_BATCH_FRAMES
            && let Some(frame) = queue.frames.pop_front_if(|f| fits(&body, f))
        {
            push_frame(&mut body, &frame);
            count += 1;
        }
        let charge = body.len() - count * FRAME_HEAD + count * CHARGE;
        let body = body.into();
        Some(Taken { body, charge })
    }

    /// Gives back what an acknowledged batch was charged. Whether a queue that was full
    /// has drained.
    pub(super) fn acknowledged(&self, peer: DeviceId, charge: usize) -> bool {
        let mut state = self.lock();
        let Some(queue) = state.queues.get_mut(&peer) else {
            return false;
        };
        queue.bytes = queue.bytes.saturating_sub(charge);
        let drained = queue.full && queue.bytes <= LOW_WATER;
        if drained {
            queue.full = false;
        }
        drained
    }
}

#[cfg(test)]
mod tests {
    use super::super::codec::split_frames;
    use super::*;

    const PEER: DeviceId = DeviceId([1; 32]);

    #[test]
    fn a_queue_keeps_order_within_its_bounds_and_reports_full_once() {
        let outgoing = Outgoing::default();
        assert_eq!(outgoing.push(PEER, vec![1]), Err(SendError::NotConnected));
        assert!(!outgoing.open(PEER));
        assert_eq!(outgoing.push(PEER, vec![]), Err(SendError::Length));
        let long = vec![0; MAX_FRAME + 1];
        assert_eq!(outgoing.push(PEER, long), Err(SendError::Length));

        let mut sent = 0_u32;
        while outgoing.push(PEER, frame(sent)).is_ok() {
            sent += 1;
        }
        assert_eq!(outgoing.push(PEER, frame(sent)), Err(SendError::Full));
        assert!((sent as usize) * frame(0).len() <= MAX_QUEUED);
        let (ready, full) = outgoing.changed();
        assert!(ready.contains(&PEER) && full.contains(&PEER));
        assert!(outgoing.changed().1.is_empty());

        let (mut next, mut drained) = (0, 0);
        while let Some(taken) = outgoing.take(PEER) {
            assert!(taken.body.len() <= MAX_BODY);
            for bytes in split_frames(&taken.body).unwrap() {
                assert_eq!(bytes, frame(next));
                next += 1;
            }
            drained += u32::from(outgoing.acknowledged(PEER, taken.charge));
        }
        assert_eq!((next, drained), (sent, 1));
        // Every byte charged was given back.
        assert!(!outgoing.close(PEER));
    }

    fn frame(n: u32) -> Vec<u8> {
        let mut bytes = vec![7; 1 + (n as usize * 37) % 5_000];
        bytes.extend_from_slice(&n.to_le_bytes());
        bytes
    }
}
