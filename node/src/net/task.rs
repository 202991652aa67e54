//! The loop that owns the swarm: commands and swarm events in, network events out.
//!
//! This file holds the loop and the dispatch; [`links`] follows connections, dials and
//! reservations, [`traffic`] moves frames and mail.

mod links;
mod traffic;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::error::Error;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use libp2p::identity::Keypair;
use libp2p::request_response::ResponseChannel;
use libp2p::swarm::{ConnectionId, ListenError, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, autonat, mdns, ping, relay};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use self::links::{Peer, Reservation};
use super::behaviour::{Behaviour, BehaviourEvent, swarm};
use super::book::{Book, Timers};
use super::codec::Mail;
use super::key::{is_circuit, peer_id, without_peer};
use super::outgoing::Outgoing;
use super::session::Ticket;
use super::{
    MAX_KNOWN, NetCommand, NetConfig, NetError, NetEvent, NetRole, NetStatus, Staged, mail,
    parse_addrs,
};

/// Events waiting inside the task beyond which no frames and mail are taken in.
const STAGED_BUSY: usize = 16 << 10;

/// Events waiting inside the task beyond which the swarm stands still. Only a consumer
/// that has stopped while thousands of connections come and go gets here.
const STAGED_STOP: usize = 2 * STAGED_BUSY;

/// Time given to connections to close at the end.
const FAREWELL: Duration = Duration::from_millis(500);

/// How often things nobody waits for any more are dropped.
const PRUNE: Duration = Duration::from_secs(10);

/// A thing to do later.
#[derive(Debug)]
enum Timer {
    /// Dial a known peer again.
    Redial(PeerId),
    /// Make or check the reservation at a relay.
    Reserve(PeerId),
    /// Send again what failed.
    Resume(PeerId),
    /// Close connections a peer has too many of.
    Tidy(PeerId),
    /// Drop what nobody waits for any more.
    Prune,
}

/// The network's task.
pub(super) struct Task {
    swarm: Swarm<Behaviour>,
    /// The bound on waiting mailbox requests when this is a relay.
    relay: Option<usize>,
    /// A relay told no outside addresses takes the ones it listens on.
    claim_listening: bool,
    commands: mpsc::Receiver<NetCommand>,
    events: mpsc::Sender<Staged>,
    staged: VecDeque<Staged>,
    outgoing: Arc<Outgoing>,
    /// Names this run in batches; random.
    boot: u64,
    /// Counts sessions with any peer.
    sessions: u64,
    peers: BTreeMap<PeerId, Peer>,
    taken: FuturesUnordered<BoxFuture<'static, (PeerId, Ticket)>>,
    book: Book,
    reservations: BTreeMap<PeerId, Reservation>,
    timers: Timers<Timer>,
    mail: mail::Client,
    mail_replies: mpsc::Receiver<mail::Reply>,
    /// Mailbox requests to be answered by this relay.
    asked: BTreeMap<u64, ResponseChannel<Mail>>,
    next_asked: u64,
    /// The connections they came over.
    mail_sessions: BTreeMap<ConnectionId, u64>,
    /// What was last told about reachability.
    public: Option<bool>,
}

impl Task {
    /// Sets the swarm up and begins to listen.
    pub(super) fn new(
        config: NetConfig,
        commands: mpsc::Receiver<NetCommand>,
        events: mpsc::Sender<Staged>,
        outgoing: Arc<Outgoing>,
    ) -> Result<Self, NetError> {
        let mut secret = config.secret;
        let key = Keypair::ed25519_from_bytes(&mut secret[..]).map_err(|_| NetError::Key)?;
        let mut swarm = swarm(&key, &config.role, config.mdns)?;
        // Before the first is listened on: this process is to find no port of its own.
        for addr in &config.listen {
            super::transport::require_free(&parse(addr)?)?;
        }
        for addr in &config.listen {
            let parsed = parse(addr)?;
            swarm
                .listen_on(parsed)
                .map_err(|e| NetError::Listen { addr: addr.clone(), why: chain(&e) })?;
        }
        let (mut relay, mut claim_listening) = (None, false);
        if let NetRole::Relay(limits) = &config.role {
            relay = Some(limits.mail_requests);
            claim_listening = limits.external.is_empty();
            for addr in &limits.external {
                swarm.add_external_address(parse(addr)?);
            }
        }
        let boot = getrandom::u64()
            .map_err(|e| NetError::Setup { what: "randomness", why: e.to_string() })?;
        let (replies, mail_replies) = mpsc::channel(16);
        let mut timers = Timers::default();
        timers.add(PRUNE, Timer::Prune);
        Ok(Self {
            swarm,
            relay,
            claim_listening,
            commands,
            events,
            staged: VecDeque::new(),
            outgoing,
            boot,
            sessions: 0,
            peers: BTreeMap::new(),
            taken: FuturesUnordered::new(),
            book: Book::default(),
            reservations: BTreeMap::new(),
            timers,
            mail: mail::Client::new(replies),
            mail_replies,
            asked: BTreeMap::new(),
            next_asked: 0,
            mail_sessions: BTreeMap::new(),
            public: None,
        })
    }

    /// Runs until shutdown is asked for, or the handles or the events are gone.
    pub(super) async fn run(mut self) {
        loop {
            let next = self.timers.next().unwrap_or_else(|| Instant::now() + PRUNE);
            let running = self.staged.len() < STAGED_STOP;
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(NetCommand::Shutdown) | None => break,
                    Some(command) => self.on_command(command),
                },
                () = self.events.closed() => break,
                () = self.events.reserve().map(drop), if !self.staged.is_empty() => self.flush(),
                () = self.outgoing.woken() => self.on_outgoing(),
                Some((peer, ticket)) = self.taken.next(), if !self.taken.is_empty() => {
                    self.on_taken(peer, ticket);
                }
                Some((id, result)) = self.mail_replies.recv(), if running => {
                    self.stage(NetEvent::MailReply { id, result });
                }
                () = sleep_until(next) => self.on_timers(),
                event = self.swarm.select_next_some(), if running => self.on_swarm_event(event),
            }
        }
        self.close().await;
    }

    /// Says goodbye, so that peers notice at once.
    async fn close(mut self) {
        for peer in mem::take(&mut self.peers).into_values() {
            self.outgoing.close(peer.device);
        }
        let connected: Vec<_> = self.swarm.connected_peers().copied().collect();
        for peer in connected {
            // An error says that it is already gone.
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let closed = async {
            while self.swarm.network_info().num_peers() > 0 {
                self.swarm.select_next_some().await;
            }
        };
        if timeout(FAREWELL, closed).await.is_err() {
            tracing::debug!("some connections did not close in time");
        }
    }

    fn stage(&mut self, event: NetEvent) {
        self.stage_with(event.into());
    }

    /// Hands an event on at once when nothing waits before it.
    fn stage_with(&mut self, staged: Staged) {
        self.staged.push_back(staged);
        self.flush();
    }

    fn flush(&mut self) {
        while !self.staged.is_empty()
            && let Ok(room) = self.events.try_reserve()
            && let Some(staged) = self.staged.pop_front()
        {
            room.send(staged);
        }
    }

    fn on_command(&mut self, command: NetCommand) {
        match command {
            NetCommand::Dial { peer, addrs, relays } => self.on_dial(peer, &addrs, &relays),
            NetCommand::SetKnown(known) => {
                let known = known.iter().take(MAX_KNOWN);
                let known: BTreeSet<_> = known.filter_map(|d| peer_id(&d.0)).collect();
                self.book.set_known(known.clone());
                self.keep(known);
            }
            NetCommand::UseRelays(relays) => self.on_use_relays(&relays),
            NetCommand::Mail { id, relay, addrs, request } => {
                let addrs = parse_addrs(&addrs);
                let job = mail::Job { id, addrs, request };
                let asked = match peer_id(&relay.0) {
                    Some(relay) => self.mail.ask(relay, job),
                    None => Err(super::MailError::Refused),
                };
                if let Err(e) = asked {
                    self.stage(NetEvent::MailReply { id, result: Err(e) });
                }
            }
            NetCommand::Answer { id, response } => self.on_answer(id, response),
            NetCommand::Disconnect(device) => {
                if let Some(peer) = peer_id(&device.0) {
                    self.book.forget(&peer);
                    // An error says that there was no connection.
                    let _ = self.swarm.disconnect_peer_id(peer);
                }
            }
            NetCommand::Status(reply) => {
                // Whoever asked may have gone.
                let _ = reply.send(self.status());
            }
            // Handled by the loop.
            NetCommand::Shutdown => {}
        }
    }

    fn status(&self) -> NetStatus {
        let held = self.reservations.values().filter(|r| r.held);
        NetStatus {
            listening: self.swarm.listeners().map(ToString::to_string).collect(),
            external: self.swarm.external_addresses().map(ToString::to_string).collect(),
            connections: self.swarm.behaviour().gate.status(),
            reservations: held.map(|r| r.relay).collect(),
        }
    }

    fn on_timers(&mut self) {
        while let Some((number, timer)) = self.timers.pop() {
            match timer {
                Timer::Redial(peer) => self.on_redial(peer, number),
                Timer::Reserve(relay) => self.on_reserve_timer(relay, number),
                Timer::Resume(peer) => self.on_resume(peer),
                Timer::Tidy(peer) => self.on_tidy(peer),
                Timer::Prune => {
                    self.asked.retain(|_, channel| channel.is_open());
                    for peer in self.peers.values_mut() {
                        peer.receiver.prune(ResponseChannel::is_open);
                    }
                    self.timers.add(PRUNE, Timer::Prune);
                }
            }
        }
    }

    fn on_swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour_event(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.on_established(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, cause, .. } => {
                self.on_closed(peer_id, connection_id, cause.as_ref());
            }
            SwarmEvent::OutgoingConnectionError { peer_id: Some(peer), error, .. } => {
                self.on_dial_error(peer, &error);
            }
            SwarmEvent::IncomingConnectionError {
                error: ListenError::Denied { cause }, ..
            } => {
                tracing::debug!("a connection was refused: {cause}");
            }
            SwarmEvent::NewListenAddr { address, .. } => {
                if self.claim_listening && !is_circuit(&address) {
                    self.swarm.add_external_address(address.clone());
                }
                let addr = address.to_string();
                self.stage(NetEvent::Listening { addr });
            }
            SwarmEvent::ListenerClosed { listener_id, reason, .. } => {
                self.on_listener_closed(listener_id, reason);
            }
            // A circuit at a relay is an external address, too.
            SwarmEvent::ExternalAddrConfirmed { address } if !is_circuit(&address) => {
                self.tell_reachability(true);
            }
            SwarmEvent::ExternalAddrExpired { .. } => self.tell_reachability(false),
            _ => {}
        }
    }

    fn on_behaviour_event(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Frames(event) => self.on_frames_event(event),
            BehaviourEvent::Mail(event) => self.on_mail_event(event),
            BehaviourEvent::RelayClient(relay::client::Event::ReservationReqAccepted {
                relay_peer_id,
                ..
            }) => self.on_reserved(relay_peer_id),
            BehaviourEvent::AutonatClient(autonat::v2::client::Event { result, .. }) => {
                self.tell_reachability(result.is_ok());
            }
            BehaviourEvent::Mdns(mdns::Event::Discovered(found)) => self.on_found(found),
            BehaviourEvent::Ping(ping::Event {
                connection,
                result: Err(ping::Failure::Timeout),
                ..
            }) => {
                self.swarm.close_connection(connection);
            }
            _ => {}
        }
    }

    /// Tells a device whether it has a confirmed outside address. A relay knows.
    fn tell_reachability(&mut self, confirmed: bool) {
        let public = confirmed || self.swarm.external_addresses().any(|a| !is_circuit(a));
        if self.relay.is_none() && self.public != Some(public) {
            self.public = Some(public);
            self.stage(NetEvent::Nat { public });
        }
    }
}

/// An error with its causes: libp2p's outer ones have no text of their own.
fn chain(error: &dyn Error) -> String {
    let mut texts = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        texts.push(error.to_string());
        next = error.source();
    }
    texts.retain(|text| !text.is_empty());
    // Some repeat what their cause says.
    texts.dedup();
    texts.join(": ")
}

fn parse(addr: &str) -> Result<Multiaddr, NetError> {
    let parsed = addr.parse::<Multiaddr>();
    let parsed = parsed.map_err(|_| NetError::Address(addr.to_owned()))?;
    Ok(without_peer(parsed))
}
