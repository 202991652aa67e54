//! Frames between devices, and mailbox requests that a relay answers.

use std::time::Duration;

use futures::FutureExt;
use libp2p::PeerId;
use libp2p::request_response::{Event, InboundFailure, Message, OutboundFailure, ResponseChannel};
use libp2p::swarm::ConnectionId;
use tokio::sync::oneshot;

use super::super::codec::{Answer, Batch, Mail, split_frames};
use super::super::key::{Short, peer_id};
use super::super::session::{Sender, Ticket};
use super::super::{MAX_MAIL, NetEvent, Staged};
use super::{STAGED_BUSY, Task, Timer};

/// The pause before a batch is sent again that found the peer busy.
const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// The pause after a first failure; each further one is twice as long.
const FAILURE_PAUSE: Duration = Duration::from_millis(50);

/// Failures in a row after which a peer is given up: it doesn't speak our protocol.
const MAX_FAILURES: u32 = 8;

impl Task {
    /// The send queues have something new.
    pub(super) fn on_outgoing(&mut self) {
        let (ready, full) = self.outgoing.changed();
        for peer in full {
            self.stage(NetEvent::Full { peer });
        }
        for peer in ready.iter().filter_map(|d| peer_id(&d.0)) {
            self.pump(peer);
        }
    }

    /// Sends as much as the window allows.
    pub(super) fn pump(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        while peer.sender.has_room()
            && let Some(taken) = self.outgoing.take(peer.device)
        {
            peer.sender.push(taken.body, taken.charge);
        }
        // Without a connection a request would dial; `on_closed` is about to be called.
        if let Some(frames) = self.swarm.behaviour_mut().frames.as_mut()
            && frames.is_connected(&id)
        {
            peer.sender.send(|batch| frames.send_request(&id, batch));
        }
    }

    pub(super) fn on_resume(&mut self, id: PeerId) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.sender.paused = false;
            self.pump(id);
        }
    }

    pub(super) fn on_frames_event(&mut self, event: Event<Batch, Answer>) {
        match event {
            Event::Message { peer, message: Message::Request { request, channel, .. }, .. } => {
                self.on_batch(peer, request, channel);
            }
            Event::Message {
                peer: id,
                message: Message::Response { request_id, response },
                ..
            } => {
                let Some(peer) = self.peers.get_mut(&id) else {
                    return;
                };
                match response {
                    Answer::Accepted => {
                        if let Some(charge) = peer.sender.accepted(&request_id) {
                            let device = peer.device;
                            if self.outgoing.acknowledged(device, charge) {
                                self.stage(NetEvent::Drained { peer: device });
                            }
                            self.pump(id);
                        }
                    }
                    Answer::Busy => {
                        if peer.sender.failed(&request_id) {
                            peer.sender.paused = true;
                            self.timers.add(BUSY_PAUSE, Timer::Resume(id));
                        }
                    }
                    Answer::Reset => {
                        if peer.sender.failed(&request_id) {
                            let failures = peer.sender.failures + 1;
                            self.restart_session(id);
                            self.hold_back(id, failures);
                        }
                    }
                }
            }
            Event::OutboundFailure { peer, request_id, error, .. } => {
                let ours = self.peers.get_mut(&peer);
                if ours.is_some_and(|p| p.sender.failed(&request_id)) {
                    self.on_batch_failed(peer, &error);
                }
            }
            // The sender sends again, or is gone.
            Event::InboundFailure { .. } | Event::ResponseSent { .. } => {}
        }
    }

    fn on_batch_failed(&mut self, id: PeerId, error: &OutboundFailure) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        match error {
            // A slow consumer, or another connection carries on.
            OutboundFailure::Timeout
            | OutboundFailure::ConnectionClosed
            | OutboundFailure::DialFailure => self.pump(id),
            OutboundFailure::Io(_) | OutboundFailure::UnsupportedProtocols => {
                tracing::debug!("a batch for {} failed: {error}", Short(&id));
                let failures = peer.sender.failures + 1;
                self.hold_back(id, failures);
            }
        }
    }

    /// Waits before sending to a peer again, longer after each failure in a row, and gives
    /// it up in the end.
    fn hold_back(&mut self, id: PeerId, failures: u32) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.sender.failures = failures;
        peer.sender.paused = true;
        if failures < MAX_FAILURES {
            self.timers.add(FAILURE_PAUSE * (1 << failures), Timer::Resume(id));
        } else {
            // An error says that it is already gone.
            let _ = self.swarm.disconnect_peer_id(id);
        }
    }

    fn on_batch(&mut self, id: PeerId, batch: Batch, channel: ResponseChannel<Answer>) {
        // Nobody is named before `Up`; dropping the channel closes the stream.
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let device = peer.device;
        let busy = self.staged.len() >= STAGED_BUSY;
        let received = peer.receiver.receive(batch, channel, busy);
        if received.restarted {
            self.restart_session(id);
        }
        for (ticket, mut batch) in received.deliver {
            // The codec has checked the body; an empty list is impossible.
            let frames = split_frames(&batch.body).unwrap_or_default();
            let last = frames.len().saturating_sub(1);
            let (taken, was_taken) = oneshot::channel();
            let mut taken = Some(taken);
            for (i, bytes) in frames.into_iter().enumerate() {
                let event = NetEvent::Frame { peer: device, bytes: bytes.to_vec() };
                let is_last = i == last;
                self.stage_with(Staged {
                    event,
                    taken: taken.take_if(|_| is_last),
                    hold: batch.hold.take_if(|_| is_last),
                });
            }
            let told = was_taken.map(move |_| (id, ticket));
            self.taken.push(told.boxed());
        }
        self.answer(received.answers);
    }

    fn answer(&mut self, answers: Vec<(ResponseChannel<Answer>, Answer)>) {
        if let Some(frames) = self.swarm.behaviour_mut().frames.as_mut() {
            for (channel, answer) in answers {
                // An error says that the sender no longer waits.
                let _ = frames.send_response(channel, answer);
            }
        }
    }

    /// The consumer has all frames of a batch.
    pub(super) fn on_taken(&mut self, peer: PeerId, ticket: Ticket) {
        let peer = self.peers.get_mut(&peer);
        if let Some(channel) = peer.and_then(|p| p.receiver.taken(ticket)) {
            self.answer(vec![(channel, Answer::Accepted)]);
        }
    }

    /// The other side has forgotten the session: tell the consumer as if the peer had gone
    /// and come back.
    fn restart_session(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        tracing::debug!("{} has restarted", Short(&id));
        self.sessions += 1;
        peer.sender = Sender::new(self.boot, self.sessions);
        let (peer, relayed) = (peer.device, peer.relayed);
        if self.outgoing.open(peer) {
            self.stage(NetEvent::SendFailed { peer });
        }
        self.stage(NetEvent::Down { peer });
        self.stage(NetEvent::Up { peer, relayed });
    }

    pub(super) fn on_mail_event(&mut self, event: Event<Mail, Mail>) {
        match event {
            Event::Message {
                connection_id,
                message: Message::Request { request, channel, .. },
                ..
            } => self.on_mail(connection_id, request, channel),
            Event::InboundFailure { error: InboundFailure::Io(error), .. } => {
                tracing::debug!("an answer could not be sent: {error}");
            }
            _ => {}
        }
    }

    fn on_mail(&mut self, connection: ConnectionId, mail: Mail, channel: ResponseChannel<Mail>) {
        if !self.swarm.behaviour().gate.is_open(connection) {
            // It closed while the request was on its way here.
            return;
        }
        let limit = self.relay.unwrap_or(0);
        if self.asked.len() >= limit || self.staged.len() >= STAGED_BUSY {
            tracing::debug!("a mailbox request was refused: too many are waiting");
            self.answer_mail(channel, Vec::new());
            return;
        }
        self.next_asked += 1;
        let id = self.next_asked;
        // The number of its first request names the connection.
        let session = *self.mail_sessions.entry(connection).or_insert(id);
        self.asked.insert(id, channel);
        let event = NetEvent::MailRequest { id, session, bytes: mail.bytes };
        let (taken, hold) = (None, mail.hold);
        self.stage_with(Staged { event, taken, hold });
    }

    pub(super) fn on_answer(&mut self, id: u64, response: Vec<u8>) {
        let Some(channel) = self.asked.remove(&id) else {
            return;
        };
        let fits = response.len() <= MAX_MAIL;
        if !fits {
            tracing::warn!("an answer of {} bytes is too long", response.len());
        }
        self.answer_mail(channel, if fits { response } else { Vec::new() });
    }

    /// An empty response refuses.
    fn answer_mail(&mut self, channel: ResponseChannel<Mail>, response: Vec<u8>) {
        if let Some(mail) = self.swarm.behaviour_mut().mail.as_mut() {
            // An error says that the client no longer waits.
            let _ = mail.send_response(channel, response.into());
        }
    }
}
