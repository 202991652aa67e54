//! Connections, dials, and reservations at relays.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use libp2p::core::transport::ListenerId;
use libp2p::core::{ConnectedPoint, Endpoint};
use libp2p::multiaddr::Protocol;
use libp2p::request_response::{OutboundRequestId, ResponseChannel};
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionError, ConnectionId, DialError};
use libp2p::{Multiaddr, PeerId};
use teahouse_protocols::ids::{DeviceId, RelayId};

use super::super::book::Backoff;
use super::super::codec::Answer;
use super::super::key::{Short, key_of, peer_id};
use super::super::session::{Receiver, Sender};
use super::super::{MAX_RELAYS, NetEvent, parse_addrs};
use super::{Task, Timer};

/// Superfluous connections live this long, so that both sides have noticed the better one
/// and what is in flight arrives.
const TIDY: Duration = Duration::from_secs(1);

/// Time for a relay to answer a request for a reservation.
const RESERVE: Duration = Duration::from_secs(30);

/// Most dials at a time; further ones wait about a second.
const MAX_DIALS: u32 = 64;

/// One connection with a peer.
#[derive(Debug, Clone, Copy)]
struct Link {
    relayed: bool,
    dialled: bool,
}

/// A connected device.
pub(super) struct Peer {
    pub(super) device: DeviceId,
    links: BTreeMap<ConnectionId, Link>,
    /// As told in the last `Up`.
    pub(super) relayed: bool,
    pub(super) sender: Sender<OutboundRequestId>,
    pub(super) receiver: Receiver<ResponseChannel<Answer>>,
}

/// A reservation that is wanted.
pub(super) struct Reservation {
    pub(super) relay: RelayId,
    listener: Option<ListenerId>,
    /// The relay has granted it.
    pub(super) held: bool,
    backoff: Backoff,
    /// The number of the valid timer.
    timer: u64,
}

impl Task {
    /// Keeps idle connections to these peers and to our relays.
    pub(super) fn keep(&mut self, mut known: BTreeSet<PeerId>) {
        known.extend(self.reservations.keys());
        self.swarm.behaviour_mut().gate.set_known(known);
    }

    pub(super) fn on_dial(
        &mut self,
        device: DeviceId,
        addrs: &[String],
        relays: &[(RelayId, Vec<String>)],
    ) {
        let Some(peer) = peer_id(&device.0) else {
            self.stage(NetEvent::DialFailed { peer: device });
            return;
        };
        let mut at = Vec::new();
        for (relay, addrs) in relays.iter().take(MAX_RELAYS) {
            let addrs = parse_addrs(addrs);
            if let Some(relay) = peer_id(&relay.0).filter(|_| !addrs.is_empty()) {
                self.book.write_relay(relay, addrs);
                at.push(relay);
            }
        }
        if self.book.write(peer, parse_addrs(addrs), at).is_some() {
            self.dial(peer);
        } else {
            self.stage(NetEvent::DialFailed { peer: device });
        }
    }

    /// Tries to reach a peer in every way the book knows, and for a known one sets the
    /// time of the next attempt.
    fn dial(&mut self, peer: PeerId) {
        let connected = self.peers.get(&peer).map(|p| p.relayed);
        let Some(contact) = self.book.contact(&peer) else {
            return;
        };
        if connected == Some(false) {
            return;
        }
        let counters = self.swarm.network_info();
        if counters.connection_counters().num_pending_outgoing() >= MAX_DIALS {
            self.schedule_redial(peer, Some(Duration::from_secs(1)));
            return;
        }
        let opts = DialOpts::peer_id(peer);
        let opts = if connected.is_some() {
            // A circuit may be replaced by something better.
            let opts = opts.condition(PeerCondition::NotDialing);
            opts.addresses(contact.direct.clone()).build()
        } else {
            // Addresses found on the local network come through the behaviour.
            let opts = opts.addresses(contact.direct.clone());
            opts.extend_addresses_through_behaviour().build()
        };
        let relays = contact.relays.clone();
        let mut started = going(&self.swarm.dial(opts));
        if connected.is_none() {
            for relay in relays {
                started |= if self.swarm.is_connected(&relay) {
                    self.dial_circuit(peer, relay)
                } else {
                    // `on_established` goes on from there.
                    self.dial_relay(relay)
                };
            }
            if !started {
                self.fail(peer);
            }
            self.schedule_redial(peer, None);
        }
    }

    /// Dials a peer through a relay we are connected to, even while its own addresses are
    /// being tried.
    fn dial_circuit(&mut self, peer: PeerId, relay: PeerId) -> bool {
        let Some(addr) = self.circuit(relay) else {
            return false;
        };
        let opts = DialOpts::peer_id(peer)
            .condition(PeerCondition::Disconnected)
            .addresses(vec![addr.with(Protocol::P2p(peer))])
            .build();
        going(&self.swarm.dial(opts))
    }

    fn dial_relay(&mut self, relay: PeerId) -> bool {
        let Some(addrs) = self.book.relay(&relay) else {
            return false;
        };
        let opts = DialOpts::peer_id(relay).addresses(addrs.to_vec()).build();
        going(&self.swarm.dial(opts))
    }

    /// `<address>/p2p/<relay>/p2p-circuit`. The address only matters while there is no
    /// connection with the relay.
    fn circuit(&self, relay: PeerId) -> Option<Multiaddr> {
        let addr = self.book.relay(&relay)?.first()?.clone();
        Some(addr.with(Protocol::P2p(relay)).with(Protocol::P2pCircuit))
    }

    /// Sets the next attempt to reach a known peer: after `pause`, or after the contact's
    /// growing one.
    fn schedule_redial(&mut self, peer: PeerId, pause: Option<Duration>) {
        if !self.book.is_known(&peer) {
            return;
        }
        if let Some(contact) = self.book.contact_mut(&peer) {
            let pause = pause.unwrap_or_else(|| contact.backoff.next(jitter()));
            contact.timer = Some(self.timers.add(pause, Timer::Redial(peer)));
        }
    }

    pub(super) fn on_redial(&mut self, peer: PeerId, number: u64) {
        let contact = self.book.contact(&peer);
        if contact.is_some_and(|c| c.timer == Some(number)) && !self.peers.contains_key(&peer) {
            self.dial(peer);
        }
    }

    fn fail(&mut self, peer: PeerId) {
        if self.relay.is_none()
            && !self.peers.contains_key(&peer)
            && let Some(key) = key_of(&peer)
        {
            let peer = DeviceId(key);
            self.stage(NetEvent::DialFailed { peer });
        }
    }

    pub(super) fn on_dial_error(&mut self, peer: PeerId, error: &DialError) {
        tracing::debug!("{} can't be reached: {}", Short(&peer), why(error));
        if self.book.contact(&peer).is_some() {
            self.fail(peer);
        }
        if self.book.relay(&peer).is_some() {
            // Reservations have a timer of their own.
            for there in self.book.at_relay(&peer) {
                let only_there = self.book.contact(&there).is_some_and(|c| c.direct.is_empty());
                if only_there {
                    self.fail(there);
                }
            }
        }
    }

    /// Peers on the local network: only known ones are of interest.
    pub(super) fn on_found(&mut self, found: Vec<(PeerId, Multiaddr)>) {
        let mut peers = BTreeSet::new();
        for (peer, _) in found {
            if self.book.is_known(&peer) {
                self.book.found(peer);
                peers.insert(peer);
            }
        }
        for peer in peers {
            self.dial(peer);
        }
    }

    pub(super) fn on_established(
        &mut self,
        id: PeerId,
        connection: ConnectionId,
        endpoint: &ConnectedPoint,
    ) {
        let relayed = endpoint.is_relayed();
        tracing::debug!(relayed, "connected with {}", Short(&id));
        if self.book.relay(&id).is_some() && !relayed {
            self.reserve(id);
            for peer in self.book.at_relay(&id) {
                if !self.peers.contains_key(&peer) {
                    self.dial_circuit(peer, id);
                }
            }
        }
        // A relay is no device, unless it is one that we know: else whoever names a
        // friend's device as a relay would hide the friend.
        let is_relay = self.book.relay(&id).is_some() && !self.book.is_known(&id);
        let Some(key) = key_of(&id).filter(|_| self.relay.is_none() && !is_relay) else {
            return;
        };
        let device = DeviceId(key);
        // In a hole punched by both, one side plays the listener.
        let dialled =
            matches!(endpoint, ConnectedPoint::Dialer { role_override: Endpoint::Dialer, .. });
        let link = Link { relayed, dialled };
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.links.insert(connection, link);
            self.timers.add(TIDY, Timer::Tidy(id));
            self.tell_relayed(id);
            return;
        }
        if let Some(contact) = self.book.contact_mut(&id) {
            contact.backoff.reset();
            contact.timer = None;
        }
        self.outgoing.open(device);
        self.sessions += 1;
        let peer = Peer {
            device,
            links: BTreeMap::from([(connection, link)]),
            relayed,
            sender: Sender::new(self.boot, self.sessions),
            receiver: Receiver::new(self.sessions),
        };
        self.peers.insert(id, peer);
        self.stage(NetEvent::Up { peer: device, relayed });
    }

    pub(super) fn on_closed(
        &mut self,
        id: PeerId,
        connection: ConnectionId,
        cause: Option<&ConnectionError>,
    ) {
        if let Some(cause) = cause {
            tracing::debug!("connection with {} lost: {cause}", Short(&id));
        }
        if let Some(session) = self.mail_sessions.remove(&connection) {
            self.stage(NetEvent::MailClosed { session });
        }
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.links.remove(&connection);
        if !peer.links.is_empty() {
            self.tell_relayed(id);
            return;
        }
        let peer = peer.device;
        self.peers.remove(&id);
        if self.outgoing.close(peer) {
            self.stage(NetEvent::SendFailed { peer });
        }
        self.stage(NetEvent::Down { peer });
        if self.book.is_known(&id) {
            self.schedule_redial(id, None);
        } else {
            self.book.forget(&id);
        }
    }

    fn tell_relayed(&mut self, id: PeerId) {
        if let Some(peer) = self.peers.get_mut(&id) {
            let relayed = peer.links.values().all(|l| l.relayed);
            if relayed != peer.relayed {
                peer.relayed = relayed;
                let peer = peer.device;
                self.stage(NetEvent::Up { peer, relayed });
            }
        }
    }

    /// Closes circuits beside a direct connection, and all of the better kind but one. Both
    /// sides must choose the same: it is the first that the smaller name has dialled, or
    /// else the first of the other's, and each closes only what it has dialled itself.
    pub(super) fn on_tidy(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get(&id) else {
            return;
        };
        let relayed = peer.links.values().all(|l| l.relayed);
        let good = || peer.links.iter().filter(|(_, l)| l.relayed == relayed);
        let theirs_stays = *self.swarm.local_peer_id() > id && good().any(|(_, l)| !l.dialled);
        let mine = good().filter(|(_, l)| l.dialled).skip(usize::from(!theirs_stays));
        let worse = peer.links.iter().filter(|(_, l)| l.relayed != relayed);
        for connection in worse.chain(mine).map(|(c, _)| *c).collect::<Vec<_>>() {
            self.swarm.close_connection(connection);
        }
    }

    pub(super) fn on_use_relays(&mut self, relays: &[(RelayId, Vec<String>)]) {
        let mut wanted = BTreeSet::new();
        for (relay, addrs) in relays.iter().take(MAX_RELAYS) {
            let addrs = parse_addrs(addrs);
            let Some(id) = peer_id(&relay.0).filter(|_| !addrs.is_empty()) else {
                continue;
            };
            wanted.insert(id);
            self.book.write_relay(id, addrs);
            self.reservations.entry(id).or_insert(Reservation {
                relay: *relay,
                listener: None,
                held: false,
                backoff: Backoff::default(),
                timer: 0,
            });
        }
        let gone = self.reservations.keys().filter(|r| !wanted.contains(r));
        for relay in gone.copied().collect::<Vec<_>>() {
            self.reservations.remove(&relay);
            // The listener closes with the connection. Closing it alone while an answer
            // is under way makes libp2p-relay 0.22 panic.
            let _ = self.swarm.disconnect_peer_id(relay);
        }
        self.keep(self.book.known().clone());
        for relay in wanted {
            self.reserve(relay);
        }
    }

    /// Asks a relay for a reservation, or connects to it first, and sets the time to look
    /// again. A relay that holds one, or is being asked, is left alone.
    fn reserve(&mut self, relay: PeerId) {
        let connected = self.swarm.is_connected(&relay);
        let circuit = self.circuit(relay);
        let Some(reservation) = self.reservations.get_mut(&relay) else {
            return;
        };
        if reservation.listener.is_some() {
            return;
        }
        let mut pause = reservation.backoff.next(jitter());
        if let Some(circuit) = circuit.filter(|_| connected) {
            match self.swarm.listen_on(circuit) {
                Ok(listener) => {
                    reservation.listener = Some(listener);
                    pause = RESERVE;
                }
                Err(e) => tracing::info!("no reservation at {}: {e}", Short(&relay)),
            }
        }
        reservation.timer = self.timers.add(pause, Timer::Reserve(relay));
        if !connected {
            self.dial_relay(relay);
        }
    }

    pub(super) fn on_reserve_timer(&mut self, relay: PeerId, number: u64) {
        let Some(reservation) = self.reservations.get(&relay) else {
            return;
        };
        if reservation.timer != number || reservation.held {
            return;
        }
        if reservation.listener.is_some() {
            // The relay doesn't answer. The listener closes with the connection.
            let _ = self.swarm.disconnect_peer_id(relay);
        } else {
            self.reserve(relay);
        }
    }

    pub(super) fn on_reserved(&mut self, id: PeerId) {
        if let Some(reservation) = self.reservations.get_mut(&id) {
            reservation.backoff.reset();
            if !reservation.held {
                reservation.held = true;
                let relay = reservation.relay;
                tracing::info!("reservation at {}", Short(&id));
                self.stage(NetEvent::Reservation { relay, ok: true });
            }
        }
    }

    pub(super) fn on_listener_closed(
        &mut self,
        listener: ListenerId,
        reason: Result<(), io::Error>,
    ) {
        let mut reservations = self.reservations.iter_mut();
        let Some((id, reservation)) = reservations.find(|(_, r)| r.listener == Some(listener))
        else {
            if let Err(e) = reason {
                tracing::warn!("a listening address was lost: {e}");
            }
            return;
        };
        let id = *id;
        tracing::info!("reservation at {} lost", Short(&id));
        reservation.listener = None;
        let pause = reservation.backoff.next(jitter());
        reservation.timer = self.timers.add(pause, Timer::Reserve(id));
        if std::mem::replace(&mut reservation.held, false) {
            let relay = reservation.relay;
            self.stage(NetEvent::Reservation { relay, ok: false });
        }
    }
}

/// Whether a dial has begun, or is no longer needed because one is under way.
fn going(dialled: &Result<(), DialError>) -> bool {
    matches!(dialled, Ok(()) | Err(DialError::DialPeerConditionFalse(_)))
}

/// Why a dial failed, without the addresses that libp2p's own message holds.
fn why(error: &DialError) -> &'static str {
    match error {
        DialError::LocalPeerId { .. } => "that is this node itself",
        DialError::NoAddresses => "no address is known",
        DialError::DialPeerConditionFalse(_) => "another dial is under way",
        DialError::Aborted => "the dial was aborted",
        DialError::WrongPeerId { .. } => "another key answered",
        DialError::Denied { .. } => "a limit was reached",
        DialError::Transport(_) => "no address answered",
    }
}

/// Randomness for pauses; a missing source only makes them regular.
fn jitter() -> u64 {
    getrandom::u64().unwrap_or(0)
}
