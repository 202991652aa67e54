//! What goes into the core and what comes out.

use std::collections::BTreeMap;

use teahouse_protocols::account::RelayAddr;
use teahouse_protocols::ids::{DeviceId, Millis};

use crate::command::{Command, Refusal, Reply};
use crate::engine::mail::MailOut;
use crate::store::{ChangeSet, OpenError, StorageError};

/// Most inputs that one step should be given.
pub const MAX_BATCH: usize = 256;

/// Something that happened outside.
#[derive(Debug, Clone)]
pub enum Input {
    /// A person asks for something.
    Command {
        /// Number by which the reply is known.
        id: u64,
        /// What is asked.
        command: Command,
    },
    /// A device connected; the network proved its key.
    PeerUp {
        /// Which.
        device: DeviceId,
    },
    /// A device's last connection closed.
    PeerDown {
        /// Which.
        device: DeviceId,
    },
    /// A frame came from a connected device.
    Frame {
        /// From.
        device: DeviceId,
        /// Encoded.
        bytes: Vec<u8>,
    },
    /// The network's queue to a device is full.
    PeerFull {
        /// Which.
        device: DeviceId,
    },
    /// The network's queue to a device has drained.
    PeerDrained {
        /// Which.
        device: DeviceId,
    },
    /// A relay answered, or could not be reached (in words).
    MailReply {
        /// The request's number.
        id: u64,
        /// The encoded reply.
        result: Result<Vec<u8>, String>,
    },
    /// The moment asked for by [`Outputs::wake`] has come.
    Tick,
    /// This device's own addresses changed.
    Reachable {
        /// Multiaddresses.
        addrs: Vec<String>,
    },
    /// This device's contents are reached so: told to those it has business with.
    ContentAddr {
        /// At most [`crate::contents::MAX_ADDR`] bytes, opaque to the core.
        addr: Vec<u8>,
    },
}

/// What leaves after a step.
#[derive(Debug, Clone, Default)]
pub struct Outputs {
    /// Replies to commands.
    pub replies: Vec<(u64, Result<Reply, Refusal>)>,
    /// Frames to connected devices, in order per device.
    pub frames: Vec<(DeviceId, Vec<u8>)>,
    /// Requests to relays.
    pub mail: Vec<MailOut>,
    /// Whom to be connected to, where it may have changed.
    pub peers: Option<Peers>,
    /// What changed in the tables.
    pub changes: ChangeSet,
    /// When to step again though nothing comes.
    pub wake: Option<Millis>,
}

/// Which devices the network should be connected to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peers {
    /// Devices, with the relays through which they may be reached.
    pub wanted: BTreeMap<DeviceId, Vec<RelayAddr>>,
    /// Direct addresses known for some.
    pub direct: BTreeMap<DeviceId, Vec<String>>,
    /// This account's relays: keep a way in through them.
    pub relays: Vec<RelayAddr>,
}

/// Why a core can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum CoreError {
    /// The store.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What a rebuild did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Topics replayed.
    pub topics: u64,
    /// Envelopes applied.
    pub envelopes: u64,
}
