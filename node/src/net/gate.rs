//! Who may connect, and whose connections are kept.
//!
//! Own code instead of libp2p's `connection-limits`, because that one keeps an entry for
//! every peer ever seen (a leak at a relay, where mailbox identities are thrown away) and
//! because keeping idle connections to known peers needs the same list.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::DeniedUpgrade;
use libp2p::swarm::behaviour::{ConnectionClosed, DialFailure, ListenFailure};
use libp2p::swarm::handler::{ConnectionEvent, ConnectionHandlerEvent};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler,
    SubstreamProtocol, THandler, THandlerInEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

use super::ConnectionStatus;
use super::key::{is_circuit, key_of};

/// Bounds on connections.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Inbound connections still shaking hands.
    pub(super) pending_inbound: usize,
    /// Inbound connections from peers that are not known.
    pub(super) strangers: usize,
    /// Connections with one peer.
    pub(super) per_peer: usize,
}

/// Why the gate refused a connection.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("too many connections are being opened")]
    Pending,
    #[error("too many connections with strangers")]
    Strangers,
    #[error("too many connections with this peer")]
    PerPeer,
    #[error("not an ed25519 key")]
    Key,
}

struct Connection {
    peer: PeerId,
    status: ConnectionStatus,
}

/// The behaviour.
pub(super) struct Gate {
    limits: Limits,
    known: BTreeSet<PeerId>,
    pending_inbound: BTreeSet<ConnectionId>,
    connections: BTreeMap<ConnectionId, Connection>,
    notices: VecDeque<ToSwarm<Infallible, bool>>,
}

impl Gate {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            known: BTreeSet::new(),
            pending_inbound: BTreeSet::new(),
            connections: BTreeMap::new(),
            notices: VecDeque::new(),
        }
    }

    /// Replaces the peers whose connections are kept.
    pub(super) fn set_known(&mut self, known: BTreeSet<PeerId>) {
        for (id, connection) in &self.connections {
            let keep = known.contains(&connection.peer);
            if keep != self.known.contains(&connection.peer) {
                self.notices.push_back(ToSwarm::NotifyHandler {
                    peer_id: connection.peer,
                    handler: NotifyHandler::One(*id),
                    event: keep,
                });
            }
        }
        self.known = known;
    }

    /// Whether the connection is open.
    pub(super) fn is_open(&self, id: ConnectionId) -> bool {
        self.connections.contains_key(&id)
    }

    /// All open connections.
    pub(super) fn status(&self) -> Vec<ConnectionStatus> {
        self.connections.values().map(|c| c.status).collect()
    }

    fn admit(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        inbound: bool,
        relayed: bool,
    ) -> Result<Keep, ConnectionDenied> {
        let key = key_of(&peer).ok_or_else(|| ConnectionDenied::new(Refused::Key))?;
        let known = self.known.contains(&peer);
        let with_peer = self.connections.values().filter(|c| c.peer == peer);
        if with_peer.count() >= self.limits.per_peer {
            return Err(ConnectionDenied::new(Refused::PerPeer));
        }
        if inbound && !known {
            let stranger = |c: &&Connection| c.status.inbound && !self.known.contains(&c.peer);
            if self.connections.values().filter(stranger).count() >= self.limits.strangers {
                return Err(ConnectionDenied::new(Refused::Strangers));
            }
        }
        let status = ConnectionStatus { key, inbound, relayed };
        self.connections.insert(id, Connection { peer, status });
        Ok(Keep(known))
    }
}

impl NetworkBehaviour for Gate {
    type ConnectionHandler = Keep;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        if self.pending_inbound.len() >= self.limits.pending_inbound {
            return Err(ConnectionDenied::new(Refused::Pending));
        }
        self.pending_inbound.insert(id);
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.pending_inbound.remove(&id);
        self.admit(id, peer, true, is_circuit(local))
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        addr: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.admit(id, peer, false, is_circuit(addr))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        // A connection admitted here may still be refused by another behaviour; then one
        // of the failures follows instead of `ConnectionClosed`.
        let (FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, .. })
        | FromSwarm::ListenFailure(ListenFailure { connection_id, .. })
        | FromSwarm::DialFailure(DialFailure { connection_id, .. })) = event
        else {
            return;
        };
        self.pending_inbound.remove(&connection_id);
        self.connections.remove(&connection_id);
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: Infallible) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        self.notices.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

/// Speaks no protocol; says whether its connection is kept although idle.
pub(super) struct Keep(bool);

impl ConnectionHandler for Keep {
    type FromBehaviour = bool;
    type ToBehaviour = Infallible;
    type InboundProtocol = DeniedUpgrade;
    type OutboundProtocol = DeniedUpgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<DeniedUpgrade> {
        SubstreamProtocol::new(DeniedUpgrade, ())
    }

    fn connection_keep_alive(&self) -> bool {
        self.0
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<DeniedUpgrade, (), Infallible>> {
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, keep: bool) {
        self.0 = keep;
    }

    fn on_connection_event(&mut self, _: ConnectionEvent<'_, DeniedUpgrade, DeniedUpgrade>) {}
}
