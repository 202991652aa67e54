//! The network: opaque, bounded byte frames between authenticated peers.
//!
//! It knows no topic, account or message. A peer is an ed25519 public key; a frame is
//! bytes; who may ask for what is decided by the core. What it promises:
//!
//! * Frames of one peer arrive in order and once while both sides stay up. When the
//!   session breaks, [`NetEvent::Down`] says so and what was queued is dropped: whoever
//!   sends derives it again.
//! * Every queue is bounded, and a slow consumer slows its peers instead of growing
//!   memory: a peer's frames are acknowledged when [`NetEvents`] has handed them out.
//! * Mailbox requests travel over identities that are thrown away (`mail`), never over
//!   the device key.
//!
//! Reading order: this file (the interface), `task` (the loop that owns the swarm),
//! `session` (order, windows, duplicates), `outgoing` (send queues), `codec` (the
//! wire), `gate` (who may connect), `book` (whom to dial again, and when),
//! `behaviour` and `transport` (how libp2p is put together).

mod behaviour;
mod book;
mod codec;
mod gate;
mod key;
mod mail;
mod outgoing;
mod session;
mod task;
#[cfg(test)]
mod tests;
mod transport;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::task::{Context, Poll};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use teahouse_protocols::ids::{DeviceId, RelayId};
use tokio::sync::{mpsc, oneshot};
use zeroize::Zeroizing;

use self::outgoing::Outgoing;

/// The longest frame in bytes: 1 MiB of content and 16 KiB for what wraps it.
pub const MAX_FRAME: usize = (1 << 20) + (16 << 10);

/// The longest mailbox request or response in bytes.
pub const MAX_MAIL: usize = MAX_FRAME;

/// Most bytes waiting for one peer, unacknowledged ones included (32 bytes are charged for
/// each frame on top of its length).
pub const MAX_QUEUED: usize = 4 << 20;

/// Most peers in [`NetCommand::SetKnown`]; further ones are ignored.
pub const MAX_KNOWN: usize = 16 << 10;

/// Most addresses taken for one peer or relay; further ones are ignored.
pub const MAX_ADDRS: usize = 16;

/// Most relays taken in one command; further ones are ignored.
pub const MAX_RELAYS: usize = 16;

/// How a node takes part.
pub struct NetConfig {
    /// The ed25519 seed of the device's or the relay's key.
    pub secret: Zeroizing<[u8; 32]>,
    /// Multiaddresses to listen on, for instance `/ip4/0.0.0.0/udp/0/quic-v1`.
    pub listen: Vec<String>,
    /// Whether to look for peers on the local network. It shows this device's public key
    /// to everyone on that network.
    pub mdns: bool,
    /// What this node does for others.
    pub role: NetRole,
}

/// What a node does for others.
#[derive(Debug, Clone)]
pub enum NetRole {
    /// Exchanges frames with other devices.
    Device,
    /// Carries circuits and answers mailbox requests; exchanges no frames.
    Relay(RelayLimits),
}

/// The bounds of a relay. The defaults serve a community of a thousand members.
#[derive(Debug, Clone)]
pub struct RelayLimits {
    /// Addresses under which others reach this relay. When empty, the listening addresses
    /// are taken.
    pub external: Vec<String>,
    /// Most connections at a time.
    pub connections: usize,
    /// Most reservations at a time.
    pub reservations: usize,
    /// Most circuits at a time.
    pub circuits: usize,
    /// Most circuits of one peer at a time.
    pub circuits_per_peer: usize,
    /// Most seconds a circuit lives.
    pub circuit_seconds: u32,
    /// Most bytes a circuit carries, in each direction.
    pub circuit_bytes: u64,
    /// Most mailbox requests waiting for an answer, long polls included.
    pub mail_requests: usize,
}

impl Default for RelayLimits {
    fn default() -> Self {
        Self {
            external: Vec::new(),
            connections: 8_192,
            reservations: 1_024,
            circuits: 4_096,
            circuits_per_peer: 128,
            circuit_seconds: 60 * 60,
            circuit_bytes: 1 << 30,
            mail_requests: 8_192,
        }
    }
}

/// Why the network did not start.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The seed is not an ed25519 seed.
    #[error("the network key is not usable")]
    Key,
    /// An address in the configuration can't be parsed.
    #[error("not a network address: {0}")]
    Address(String),
    /// An address can't be listened on.
    #[error("cannot listen on {addr}: {why}")]
    Listen {
        /// The address as configured.
        addr: String,
        /// What the operating system or libp2p said.
        why: String,
    },
    /// Another process listens on the port that was asked for.
    #[error("port {port} is in use: does another node run? Choose another with --listen")]
    PortInUse {
        /// The port.
        port: u16,
    },
    /// A part of the network could not be set up.
    #[error("cannot set up {what}: {why}")]
    Setup {
        /// The part.
        what: &'static str,
        /// What it said.
        why: String,
    },
    /// There is no tokio runtime to run on.
    #[error("the network needs a tokio runtime")]
    NoRuntime,
}

/// What the network is asked to do.
#[derive(Debug)]
pub enum NetCommand {
    /// Connect to a peer: first its own addresses, and circuits through `relays` beside
    /// them. The addresses of a known peer are remembered and dialled again.
    Dial {
        /// The peer.
        peer: DeviceId,
        /// Its multiaddresses, without the `/p2p/` part.
        addrs: Vec<String>,
        /// Relays at which it may have a reservation, with their addresses.
        relays: Vec<(RelayId, Vec<String>)>,
    },
    /// The peers that are wanted: found on the local network they are dialled, once lost
    /// they are dialled again, and their connections are kept although idle.
    SetKnown(BTreeSet<DeviceId>),
    /// Keep a reservation at each of these relays, and at no other.
    UseRelays(Vec<(RelayId, Vec<String>)>),
    /// Send a mailbox request from a throw-away identity.
    Mail {
        /// Comes back in [`NetEvent::MailReply`].
        id: u64,
        /// The relay asked.
        relay: RelayId,
        /// Its multiaddresses, without the `/p2p/` part.
        addrs: Vec<String>,
        /// At most [`MAX_MAIL`] bytes.
        request: Vec<u8>,
    },
    /// Answer a [`NetEvent::MailRequest`] (relay).
    Answer {
        /// The request's id.
        id: u64,
        /// 1 to [`MAX_MAIL`] bytes; with any other length the client sees
        /// [`MailError::Refused`].
        response: Vec<u8>,
    },
    /// Close all connections to a peer and forget its addresses.
    Disconnect(DeviceId),
    /// Report the present state.
    Status(oneshot::Sender<NetStatus>),
    /// Close every connection and stop. The events end when that is done.
    Shutdown,
}

/// What the network has to tell.
#[derive(Debug, PartialEq, Eq)]
pub enum NetEvent {
    /// A peer is reachable: sent when the first connection opens, and again when
    /// `relayed` changes.
    Up {
        /// The peer.
        peer: DeviceId,
        /// Whether all connections to it run through relays.
        relayed: bool,
    },
    /// The last connection to a peer closed, or the peer restarted (then `Up` follows).
    /// Unacknowledged frames to it are lost.
    Down {
        /// The peer.
        peer: DeviceId,
    },
    /// A frame arrived.
    Frame {
        /// Who sent it; authenticated.
        peer: DeviceId,
        /// 1 to [`MAX_FRAME`] bytes.
        bytes: Vec<u8>,
    },
    /// A frame to the peer was refused because its queue is full.
    Full {
        /// The peer.
        peer: DeviceId,
    },
    /// The queue that was full has room again.
    Drained {
        /// The peer.
        peer: DeviceId,
    },
    /// Frames that were accepted for the peer were dropped: the session ended first.
    SendFailed {
        /// The peer.
        peer: DeviceId,
    },
    /// An attempt to reach the peer failed. A known peer is dialled again later.
    DialFailed {
        /// The peer.
        peer: DeviceId,
    },
    /// The answer to [`NetCommand::Mail`].
    MailReply {
        /// The command's id.
        id: u64,
        /// The response, or why there is none.
        result: Result<Vec<u8>, MailError>,
    },
    /// A mailbox request arrived (relay). Answer it within 55 s.
    MailRequest {
        /// To be named in [`NetCommand::Answer`].
        id: u64,
        /// The connection it came over; says nothing about who sent it.
        session: u64,
        /// At most [`MAX_MAIL`] bytes.
        bytes: Vec<u8>,
    },
    /// A connection that carried mailbox requests closed (relay).
    MailClosed {
        /// The connection.
        session: u64,
    },
    /// The node listens on this address.
    Listening {
        /// A multiaddress.
        addr: String,
    },
    /// A reservation at a relay was made, or lost (it is tried again).
    Reservation {
        /// The relay.
        relay: RelayId,
        /// Whether others can reach this node through it now.
        ok: bool,
    },
    /// Whether others reach this node without a relay, as far as relays could find out.
    Nat {
        /// True when an outside address was confirmed.
        public: bool,
    },
}

/// Why a mailbox request has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MailError {
    /// The relay can't be reached, or the connection broke.
    #[error("the relay can't be reached")]
    Unreachable,
    /// The relay did not answer within 60 s.
    #[error("the relay did not answer in time")]
    Timeout,
    /// Too many requests are waiting here.
    #[error("too many requests are waiting")]
    Busy,
    /// The relay would not look at the request, or an argument was unusable.
    #[error("the request was refused")]
    Refused,
}

/// The present state, for a status page.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NetStatus {
    /// Addresses listened on.
    pub listening: Vec<String>,
    /// Addresses others reach this node under, as far as confirmed.
    pub external: Vec<String>,
    /// Open connections.
    pub connections: Vec<ConnectionStatus>,
    /// Relays at which a reservation holds.
    pub reservations: Vec<RelayId>,
}

/// One open connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionStatus {
    /// The ed25519 public key at the other end: a device, a relay or a throw-away one.
    pub key: [u8; 32],
    /// Whether the other side opened it.
    pub inbound: bool,
    /// Whether it runs through a relay.
    pub relayed: bool,
}

/// Why a frame was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// There is no connection to the peer.
    #[error("not connected")]
    NotConnected,
    /// The peer's queue is full; [`NetEvent::Drained`] will say when it is not.
    #[error("the peer's queue is full")]
    Full,
    /// The frame is empty or longer than [`MAX_FRAME`].
    #[error("a frame has 1 to {MAX_FRAME} bytes")]
    Length,
}

/// Why a command was not taken.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The queue of commands is full; the command comes back.
    #[error("too many commands are waiting")]
    Full(Box<NetCommand>),
    /// The network has stopped.
    #[error("the network has stopped")]
    Stopped,
}

/// The way to the network; cheap to clone. When the last one is dropped the network stops.
#[derive(Clone)]
pub struct NetHandle {
    commands: mpsc::Sender<NetCommand>,
    outgoing: Arc<Outgoing>,
}

impl NetHandle {
    /// Queues a frame for a connected peer. Never blocks and never waits.
    ///
    /// # Errors
    /// See [`SendError`]; the frame is not queued then.
    pub fn send(&self, peer: DeviceId, frame: Vec<u8>) -> Result<(), SendError> {
        self.outgoing.push(peer, frame)
    }

    /// Hands over a command, waiting while the queue of commands is full.
    ///
    /// # Errors
    /// [`CommandError::Stopped`].
    pub async fn command(&self, command: NetCommand) -> Result<(), CommandError> {
        let sent = self.commands.send(command).await;
        sent.map_err(|_| CommandError::Stopped)
    }

    /// Hands over a command without waiting.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub fn try_command(&self, command: NetCommand) -> Result<(), CommandError> {
        self.commands.try_send(command).map_err(|e| match e {
            mpsc::error::TrySendError::Full(command) => CommandError::Full(Box::new(command)),
            mpsc::error::TrySendError::Closed(_) => CommandError::Stopped,
        })
    }

    /// The present state.
    ///
    /// # Errors
    /// [`CommandError::Stopped`].
    pub async fn status(&self) -> Result<NetStatus, CommandError> {
        let (reply, status) = oneshot::channel();
        self.command(NetCommand::Status(reply)).await?;
        status.await.map_err(|_| CommandError::Stopped)
    }
}

/// An event, and what to drop once it is handed out: the last frame of a batch carries the
/// signal that lets its sender go on.
struct Staged {
    event: NetEvent,
    taken: Option<oneshot::Sender<()>>,
    /// The budget its bytes occupy.
    hold: codec::Hold,
}

impl Staged {
    /// Hands the event out, which lets its sender go on.
    fn into_event(self) -> NetEvent {
        drop((self.taken, self.hold));
        self.event
    }
}

impl From<NetEvent> for Staged {
    fn from(event: NetEvent) -> Self {
        Self { event, taken: None, hold: None }
    }
}

/// What the network has to tell, in order. Not taking events slows the peers down.
pub struct NetEvents {
    staged: mpsc::Receiver<Staged>,
}

impl NetEvents {
    /// The next event; `None` once the network has stopped. Safe to cancel.
    pub async fn recv(&mut self) -> Option<NetEvent> {
        self.staged.recv().await.map(Staged::into_event)
    }

    /// Polls for the next event; see [`recv`](Self::recv).
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<NetEvent>> {
        self.staged.poll_recv(cx).map(|staged| staged.map(Staged::into_event))
    }

    /// The next event if one is there.
    pub fn try_recv(&mut self) -> Option<NetEvent> {
        self.staged.try_recv().ok().map(Staged::into_event)
    }
}

/// Commands waiting at most; one may carry [`MAX_MAIL`] bytes.
const COMMANDS: usize = 64;

/// Events waiting at most between the swarm's task and the consumer. More wait inside the
/// task, bounded there by what each peer may have unacknowledged.
const EVENTS: usize = 256;

/// Starts the network on the current tokio runtime.
///
/// # Errors
/// See [`NetError`].
pub fn start(config: NetConfig) -> Result<(NetHandle, NetEvents), NetError> {
    if tokio::runtime::Handle::try_current().is_err() {
        return Err(NetError::NoRuntime);
    }
    let (commands, command_queue) = mpsc::channel(COMMANDS);
    let (events, staged) = mpsc::channel(EVENTS);
    let outgoing = Arc::new(Outgoing::default());
    let task = task::Task::new(config, command_queue, events, Arc::clone(&outgoing))?;
    tokio::spawn(task.run());
    Ok((NetHandle { commands, outgoing }, NetEvents { staged }))
}

/// Parses addresses that came from outside: unusable ones are left out.
fn parse_addrs(addrs: &[String]) -> Vec<Multiaddr> {
    let parsed = addrs.iter().filter_map(|a| a.parse::<Multiaddr>().ok());
    // A relay's content relay is named among its addresses, and no transport here dials it.
    let http = |p: Protocol<'_>| matches!(p, Protocol::Http | Protocol::Https);
    let parsed = parsed.filter(|a| !a.iter().any(http));
    parsed.map(key::without_peer).take(MAX_ADDRS).collect()
}
