//! The public handle of a running node: commands in, snapshots and changes out. The window,
//! the API and the town hold one and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use teahouse_core::Rebuilt;
use teahouse_core::command::{Command, Refusal, Reply};
use teahouse_core::query;
use teahouse_core::store::{ChangeSet, Reader, Snapshot, StorageError};
use teahouse_protocols::ids::{AccountId, DeviceId, RelayId};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::media::{Media, MediaError};
use crate::metrics::Metrics;

/// Commands waiting at most; further ones get [`NodeError::Busy`].
pub const COMMANDS: usize = 1024;

/// Batches that a subscriber may lag behind before it has to query everything again.
const CHANGES: usize = 256;

/// Why a node did not do or answer something.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The command was refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Too many commands are waiting.
    #[error("the node is busy: try again in a moment")]
    Busy,
    /// The node has stopped.
    #[error("the node has stopped")]
    Stopped,
    /// Reading failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A photo was not kept or brought.
    #[error(transparent)]
    Media(#[from] MediaError),
}

/// Whether a node does its work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// All is well.
    Good,
    /// Nothing can be stored; why, in words. It goes on trying.
    NotStoring {
        /// Why.
        why: String,
    },
    /// The core has ended.
    Stopped,
}

/// A connected peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// The device.
    pub device: DeviceId,
    /// Whether the connection runs through a relay.
    pub relayed: bool,
}

/// A node's present state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// This device.
    pub device: DeviceId,
    /// Its account, once there is one.
    pub account: Option<AccountId>,
    /// Whether it has a network at all.
    pub online: bool,
    /// Addresses listened on.
    pub listen: Vec<String>,
    /// Devices connected.
    pub peers: Vec<PeerStatus>,
    /// Relays through which this node can be reached now.
    pub relays: Vec<RelayId>,
    /// Whether others reach it without a relay; `None` while unknown.
    pub public: Option<bool>,
    /// Whether it does its work.
    pub health: Health,
}

/// What the network is like just now.
#[derive(Debug, Default)]
pub(crate) struct NetView {
    pub(crate) online: bool,
    pub(crate) listen: BTreeSet<String>,
    /// Peer → whether relayed.
    pub(crate) peers: BTreeMap<DeviceId, bool>,
    pub(crate) reservations: BTreeSet<RelayId>,
    pub(crate) public: Option<bool>,
}

/// Asked of the core's thread.
pub(crate) enum Request {
    Command(Command, oneshot::Sender<Result<Reply, Refusal>>),
    Rebuild(oneshot::Sender<Result<Rebuilt, StorageError>>),
    /// How the endpoint for content is reached from now on.
    ContentAddr(Vec<u8>),
}

/// What the core's thread and the handles share.
pub(crate) struct Shared {
    pub(crate) device: DeviceId,
    pub(crate) reader: Reader,
    pub(crate) net: Mutex<NetView>,
    pub(crate) health: ArcSwap<Health>,
    pub(crate) metrics: Metrics,
    pub(crate) changes: broadcast::Sender<Arc<ChangeSet>>,
    /// Cancelled when the core's thread has ended.
    pub(crate) ended: CancellationToken,
}

impl Shared {
    pub(crate) fn new(device: DeviceId, reader: Reader, online: bool) -> Self {
        Self {
            device,
            reader,
            net: Mutex::new(NetView { online, ..NetView::default() }),
            health: ArcSwap::from_pointee(Health::Good),
            metrics: Metrics::default(),
            changes: broadcast::Sender::new(CHANGES),
            ended: CancellationToken::new(),
        }
    }

    /// A panic can't leave the view half-written in a way that matters.
    pub(crate) fn net(&self) -> MutexGuard<'_, NetView> {
        self.net.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_health(&self, health: Health) {
        self.metrics.healthy.set(i64::from(health == Health::Good));
        self.health.store(Arc::new(health));
    }
}

/// A running node. Cheap to clone; usable from any thread.
#[derive(Clone)]
pub struct Handle {
    pub(crate) requests: mpsc::Sender<Request>,
    pub(crate) shared: Arc<Shared>,
    /// `None` for a node without a folder.
    pub(crate) media: Option<Arc<Media>>,
}

impl Handle {
    /// Hands a command over at once and returns its reply to wait for. The reply comes when
    /// the command's effect is durable. Dropping the future doesn't take the command back.
    ///
    /// A command that sends photos is handed over by the future, once it is known that they
    /// are stored here; nothing collects them before the command has an answer.
    pub fn submit(
        &self,
        command: Command,
    ) -> impl Future<Output = Result<Reply, NodeError>> + Send + 'static {
        let hand_over = |handle: &Self, command| {
            let (reply, answer) = oneshot::channel();
            handle.request(Request::Command(command, reply)).map(|()| answer)
        };
        let first = if command.photos().is_empty() {
            Ok(hand_over(self, command))
        } else {
            Err((self.clone(), command))
        };
        async move {
            let (answer, sent) = match first {
                Ok(answer) => (answer?, None),
                Err((handle, command)) => {
                    let media = Arc::clone(handle.media()?);
                    let held = media.hold(command.photos()).await?;
                    (hand_over(&handle, command)?, Some((media, held)))
                }
            };
            let reply = answer.await.map_err(|_| NodeError::Stopped)??;
            if let Some((media, held)) = sent {
                media.sent(held);
            }
            Ok(reply)
        }
    }

    /// As [`Handle::submit`], for threads that are not part of an async runtime; not for
    /// commands that send photos.
    pub fn submit_blocking(&self, command: Command) -> Result<Reply, NodeError> {
        if !command.photos().is_empty() {
            return Err(MediaError::NoFolder.into());
        }
        let (reply, answer) = oneshot::channel();
        self.request(Request::Command(command, reply))?;
        Ok(answer.blocking_recv().map_err(|_| NodeError::Stopped)??)
    }

    /// Throws every projection away and derives it again from the log. The node does nothing
    /// else meanwhile.
    pub fn rebuild(&self) -> impl Future<Output = Result<Rebuilt, NodeError>> + Send + 'static {
        let (reply, answer) = oneshot::channel();
        let sent = self.request(Request::Rebuild(reply));
        async move {
            sent?;
            Ok(answer.await.map_err(|_| NodeError::Stopped)??)
        }
    }

    pub(crate) fn request(&self, request: Request) -> Result<(), NodeError> {
        self.requests.try_send(request).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => {
                self.shared.metrics.busy.inc();
                NodeError::Busy
            }
            mpsc::error::TrySendError::Closed(_) => NodeError::Stopped,
        })
    }

    /// Photos: taking them in and bringing them.
    ///
    /// # Errors
    /// [`MediaError::NoFolder`].
    pub fn media(&self) -> Result<&Arc<Media>, MediaError> {
        self.media.as_ref().ok_or(MediaError::NoFolder)
    }

    /// A consistent view of the last commit. Let go of it within seconds.
    pub fn snapshot(&self) -> Result<Snapshot, NodeError> {
        Ok(self.shared.reader.snapshot()?)
    }

    /// Runs a query on the last commit. It reads from the disk: not on a UI thread.
    pub fn query<T>(
        &self,
        query: impl FnOnce(&Snapshot) -> Result<T, StorageError>,
    ) -> Result<T, NodeError> {
        Ok(query(&self.snapshot()?)?)
    }

    /// What later batches touch.
    pub fn changes(&self) -> Subscription {
        Subscription { changes: self.shared.changes.subscribe(), ended: self.shared.ended.clone() }
    }

    /// This device.
    pub fn device(&self) -> DeviceId {
        self.shared.device
    }

    /// The present state.
    pub fn status(&self) -> NodeStatus {
        // A database that can't be read shows in `health`.
        let account = self.query(|s| query::identity(s)).ok().and_then(|i| i.account);
        let net = self.shared.net();
        NodeStatus {
            device: self.shared.device,
            account,
            online: net.online,
            listen: net.listen.iter().cloned().collect(),
            peers: net
                .peers
                .iter()
                .map(|(&device, &relayed)| PeerStatus { device, relayed })
                .collect(),
            relays: net.reservations.iter().copied().collect(),
            public: net.public,
            health: Health::clone(&self.shared.health.load()),
        }
    }

    /// Prometheus metrics.
    pub fn metrics(&self) -> String {
        self.shared.metrics.text()
    }

    /// Waits until the node has stopped, however it came to that.
    pub async fn stopped(&self) {
        self.shared.ended.cancelled().await;
    }
}

/// The changes of a node, batch by batch.
pub struct Subscription {
    changes: broadcast::Receiver<Arc<ChangeSet>>,
    ended: CancellationToken,
}

impl Subscription {
    /// What the next batch touched; everything, for a subscriber that lagged. `None` once
    /// the node has stopped. Safe to cancel.
    pub async fn next(&mut self) -> Option<Arc<ChangeSet>> {
        let next = tokio::select! {
            biased;
            next = self.changes.recv() => next,
            () = self.ended.cancelled() => return None,
        };
        match next {
            Ok(changes) => Some(changes),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(Arc::new(ChangeSet::everything())),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }

    /// What was touched since the last call, merged, without waiting; `None` for nothing.
    pub fn take(&mut self) -> Option<ChangeSet> {
        let mut all: Option<ChangeSet> = None;
        loop {
            let next = match self.changes.try_recv() {
                Ok(changes) => changes,
                Err(broadcast::error::TryRecvError::Lagged(_)) => Arc::new(ChangeSet::everything()),
                Err(_) => return all,
            };
            all.get_or_insert_default().merge(&next);
        }
    }
}
