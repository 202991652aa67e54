//! The asking side of mailboxes, over identities that are thrown away.
//!
//! Each relay is asked by a small swarm of its own with a fresh random key, so that a
//! relay sees no device key, and two relays see two unrelated keys. The key is replaced
//! whenever the connection ends, and after about an hour; requests in flight then finish
//! on the old one.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use libp2p::identity::Keypair;
use libp2p::request_response::{self, Message, OutboundFailure, OutboundRequestId};
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, PeerId, Swarm};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::{Instant, sleep_until};

use super::behaviour::{MAIL_STREAMS, mail_client, swarm_config};
use super::codec::{Mail, MailCodec};
use super::key::Short;
use super::transport;
use super::{MAX_MAIL, MAX_RELAYS, MailError};

/// Most requests of one relay waiting for a free stream.
const WAITING: usize = 32;

/// Life of a key, before jitter of up to half as much again.
const LIFE: Duration = Duration::from_mins(40);

/// A session without requests ends after this time.
const IDLE: Duration = Duration::from_mins(2);

/// A request for one relay.
pub(super) struct Job {
    pub(super) id: u64,
    pub(super) addrs: Vec<Multiaddr>,
    pub(super) request: Vec<u8>,
}

/// An answer, by the id of its request.
pub(super) type Reply = (u64, Result<Vec<u8>, MailError>);

/// The sessions with all relays.
pub(super) struct Client {
    sessions: BTreeMap<PeerId, mpsc::Sender<Job>>,
    replies: mpsc::Sender<Reply>,
}

impl Client {
    pub(super) fn new(replies: mpsc::Sender<Reply>) -> Self {
        Self { sessions: BTreeMap::new(), replies }
    }

    /// Hands a request to the relay's session, and starts one if there is none. An error
    /// is the final answer.
    pub(super) fn ask(&mut self, relay: PeerId, job: Job) -> Result<(), MailError> {
        if job.request.len() > MAX_MAIL || job.addrs.is_empty() {
            return Err(MailError::Refused);
        }
        let job = match self.sessions.get(&relay) {
            None => job,
            Some(session) => match session.try_send(job) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Full(_)) => return Err(MailError::Busy),
                // It has ended, or takes nothing more: the next key's turn.
                Err(TrySendError::Closed(job)) => job,
            },
        };
        self.sessions.retain(|_, session| !session.is_closed());
        if self.sessions.len() >= MAX_RELAYS {
            return Err(MailError::Busy);
        }
        let (sender, jobs) = mpsc::channel(WAITING);
        sender.try_send(job).map_err(|_| MailError::Busy)?;
        let session = Session::new(relay, jobs, self.replies.clone())?;
        tokio::spawn(session.run());
        self.sessions.insert(relay, sender);
        Ok(())
    }
}

/// One key's dealings with one relay.
struct Session {
    relay: PeerId,
    swarm: Swarm<request_response::Behaviour<MailCodec>>,
    jobs: mpsc::Receiver<Job>,
    replies: mpsc::Sender<Reply>,
    in_flight: BTreeMap<OutboundRequestId, u64>,
    /// Answers that wait for room.
    done: VecDeque<Reply>,
    /// The connection ended; this key dials no second time.
    lost: bool,
}

impl Session {
    fn new(
        relay: PeerId,
        jobs: mpsc::Receiver<Job>,
        replies: mpsc::Sender<Reply>,
    ) -> Result<Self, MailError> {
        let key = Keypair::generate_ed25519();
        let me = key.public().to_peer_id();
        let transport = transport::direct(&key).map_err(|_| MailError::Unreachable)?;
        let swarm = Swarm::new(transport, mail_client(), me, swarm_config(IDLE));
        Ok(Self {
            relay,
            swarm,
            jobs,
            replies,
            in_flight: BTreeMap::new(),
            done: VecDeque::new(),
            lost: false,
        })
    }

    async fn run(mut self) {
        let jitter = getrandom::u64().unwrap_or(0) % (LIFE.as_secs() / 2);
        let end = Instant::now() + LIFE + Duration::from_secs(jitter);
        let mut idle = Instant::now() + IDLE;
        let mut drained = false;
        while !(drained && self.in_flight.is_empty() && self.done.is_empty()) {
            if !self.in_flight.is_empty() {
                idle = Instant::now() + IDLE;
            }
            let has_room = self.in_flight.len() + self.done.len() < MAIL_STREAMS;
            tokio::select! {
                () = self.replies.closed() => return,
                () = self.replies.reserve().map(drop), if !self.done.is_empty() => self.reply(),
                job = self.jobs.recv(), if has_room && !drained => match job {
                    Some(job) => self.send(job),
                    None => drained = true,
                },
                event = self.swarm.select_next_some() => self.on_event(event),
                () = sleep_until(end.min(idle)), if !self.jobs.is_closed() => self.jobs.close(),
            }
        }
    }

    fn reply(&mut self) {
        while let Some(reply) = self.done.pop_front() {
            if let Err(TrySendError::Full(reply)) = self.replies.try_send(reply) {
                self.done.push_front(reply);
                return;
            }
        }
    }

    fn send(&mut self, job: Job) {
        if self.lost {
            self.done.push_back((job.id, Err(MailError::Unreachable)));
            return;
        }
        let mail = job.request.into();
        let behaviour = self.swarm.behaviour_mut();
        // Dials if there is no connection yet, and verifies that the relay has its key.
        let request = behaviour.send_request_with_addresses(&self.relay, mail, job.addrs);
        self.in_flight.insert(request, job.id);
    }

    fn on_event(&mut self, event: SwarmEvent<request_response::Event<Mail, Mail>>) {
        let (request, result) = match event {
            SwarmEvent::Behaviour(request_response::Event::Message {
                message: Message::Response { request_id, response },
                ..
            }) if response.bytes.is_empty() => (request_id, Err(MailError::Refused)),
            SwarmEvent::Behaviour(request_response::Event::Message {
                message: Message::Response { request_id, response },
                ..
            }) => (request_id, Ok(response.bytes)),
            SwarmEvent::Behaviour(request_response::Event::OutboundFailure {
                request_id,
                error,
                ..
            }) => {
                let error = match error {
                    OutboundFailure::Timeout => MailError::Timeout,
                    OutboundFailure::UnsupportedProtocols => MailError::Refused,
                    // A broken connection shows itself here or there.
                    OutboundFailure::DialFailure
                    | OutboundFailure::ConnectionClosed
                    | OutboundFailure::Io(_) => MailError::Unreachable,
                };
                (request_id, Err(error))
            }
            SwarmEvent::ConnectionClosed { .. } | SwarmEvent::OutgoingConnectionError { .. } => {
                tracing::debug!("mailbox session with {} ends", Short(&self.relay));
                self.lost = true;
                self.jobs.close();
                return;
            }
            _ => return,
        };
        if let Some(id) = self.in_flight.remove(&request) {
            self.done.push_back((id, result));
        }
    }
}
