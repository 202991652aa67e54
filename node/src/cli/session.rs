//! How a command reaches the data: through the node that runs on the folder, else by opening
//! the folder in this process, with a network only where the command is pointless without.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use teahouse_core::command::{Command, MessageId, Reply};
use teahouse_core::photos::NewPhoto;
use teahouse_core::query::{self, Query};
use teahouse_core::store::{OpenError, Snapshot, StorageError};
use teahouse_core::view;
use teahouse_protocols::ids::{AccountId, Millis, TopicId};
use tokio::runtime::Runtime;

use super::Global;
use crate::api::{MAX_EVENTS, MAX_MESSAGES, Place, Rebuilt, Safety};
use crate::client::Client;
use crate::config::{self, Role};
use crate::handle::{NodeStatus, Subscription};
use crate::media::Which;
use crate::runtime::{NetworkConfig, Node, NodeConfig, StartError};

/// How long to wait for a node that has locked the folder but is not up yet.
const STARTING: Duration = Duration::from_secs(5);

/// What a command needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// A folder, made if need be.
    Folder,
    /// A folder with an account in it.
    Account,
    /// An account and a network: if no node runs, one runs as long as the command.
    Network,
    /// A folder, made if need be, and a network.
    Joining,
}

impl Need {
    const fn network(self) -> bool {
        matches!(self, Self::Network | Self::Joining)
    }
}

/// The way to the data.
pub(super) struct Session {
    inner: Inner,
    /// Answer in JSON.
    pub(super) json: bool,
    /// The folder.
    pub(super) data: PathBuf,
}

enum Inner {
    Remote(Client),
    // The node stops before the runtime it runs on.
    Local { node: Node, runtime: Runtime, network: bool },
}

impl Session {
    pub(super) fn open(global: &Global, need: Need) -> Result<Self> {
        let data = global.data(Role::Device)?;
        let until = Instant::now() + STARTING;
        let inner = loop {
            if let Some(client) = Client::attach(&data)? {
                if client.role() != Role::Device {
                    bail!("{} belongs to a relay, not to a device", data.display());
                }
                break Inner::Remote(client);
            }
            match local(global, data.clone(), need) {
                // A node is starting, stopping, or another command is at work.
                Err(StartError::Open(OpenError::Locked { .. })) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(e) => return Err(e.into()),
                Ok(None) => bail!("there is no account here yet: make one with `teahouse init`"),
                Ok(Some(inner)) => break inner,
            }
        };
        Ok(Self { inner, json: global.json, data })
    }

    /// Whether something can leave: a node runs, or this process is one.
    pub(super) const fn online(&self) -> bool {
        matches!(&self.inner, Inner::Remote(_) | Inner::Local { network: true, .. })
    }

    /// Whether a node runs on the folder besides this process.
    pub(super) const fn attached(&self) -> bool {
        matches!(&self.inner, Inner::Remote(_))
    }

    /// Says, where it matters, that nothing leaves yet.
    pub(super) fn note_offline(&self) {
        self.note("this leaves as soon as one does");
    }

    /// Says what it means that no node is running, where none is.
    pub(super) fn note(&self, so: &str) {
        if !self.online() && !self.json {
            eprintln!("No node is running: {so} (`teahouse run`).");
        }
    }

    pub(super) fn submit(&self, command: Command) -> Result<Reply> {
        Ok(match &self.inner {
            Inner::Remote(client) => client.command(&command)?,
            Inner::Local { node, runtime, .. } => {
                runtime.block_on(node.handle().submit(command))?
            }
        })
    }

    /// Takes a picture in, so that a command can send it.
    pub(super) fn take_in(&self, bytes: Vec<u8>) -> Result<NewPhoto> {
        Ok(match &self.inner {
            Inner::Remote(client) => client.post_bytes("/v1/photos", bytes)?,
            Inner::Local { node, runtime, .. } => {
                runtime.block_on(node.handle().media()?.take_in(bytes))?
            }
        })
    }

    /// Brings a photo in full size.
    pub(super) fn picture(&self, which: Which) -> Result<Vec<u8>> {
        let Which { topic, message, index } = which;
        Ok(match &self.inner {
            Inner::Remote(client) => {
                client.get_bytes(&format!("/v1/photos/{topic}/{message}/{index}"))?
            }
            Inner::Local { node, runtime, .. } => {
                runtime.block_on(node.handle().media()?.picture(which, |_| ()))?.bytes
            }
        })
    }

    fn read<T: DeserializeOwned>(
        &self,
        path: &str,
        query: impl FnOnce(&Snapshot) -> Result<T, StorageError>,
    ) -> Result<T> {
        Ok(match &self.inner {
            Inner::Remote(client) => client.get(path)?,
            Inner::Local { node, .. } => node.handle().query(query)?,
        })
    }

    pub(super) fn status(&self) -> Result<NodeStatus> {
        Ok(match &self.inner {
            Inner::Remote(client) => client.get("/v1/status")?,
            Inner::Local { node, .. } => node.handle().status(),
        })
    }

    pub(super) fn rebuild(&self) -> Result<Rebuilt> {
        Ok(match &self.inner {
            Inner::Remote(client) => client.post_within("/v1/rebuild", &(), None)?,
            Inner::Local { node, runtime, .. } => runtime.block_on(node.handle().rebuild())?.into(),
        })
    }

    /// Asks a feature's query.
    pub(super) fn ask<Q: Query>(&self, query: &Q) -> Result<Q::Out> {
        Ok(match &self.inner {
            Inner::Remote(client) => client.ask(query)?,
            Inner::Local { node, .. } => node.handle().query(|s| query.run(s))?,
        })
    }

    pub(super) fn identity(&self) -> Result<view::Identity> {
        self.read("/v1/identity", |s| query::identity(s))
    }

    pub(super) fn chats(&self) -> Result<Vec<view::Chat>> {
        self.read("/v1/chats", |s| query::chats(s))
    }

    /// The newest messages, oldest first. A remote node gives no more than 200 at a time.
    pub(super) fn messages(
        &self,
        topic: TopicId,
        before: Option<Place>,
        limit: usize,
    ) -> Result<Vec<view::Message>> {
        let limit = limit.min(MAX_MESSAGES);
        let mut path = format!("/v1/chats/{topic}/messages?limit={limit}");
        if let Some(place) = before {
            // A comma and colons are allowed in a query as they are.
            path = format!("{path}&before={place}");
        }
        let before = before.map(|Place(time, id)| (time, id));
        self.read(&path, |s| query::messages(s, topic, before, limit))
    }

    pub(super) fn message(&self, topic: TopicId, id: MessageId) -> Result<view::Message> {
        let found = match &self.inner {
            Inner::Remote(client) => Some(client.get(&format!("/v1/chats/{topic}/messages/{id}"))?),
            Inner::Local { node, .. } => node.handle().query(|s| query::message(s, topic, id))?,
        };
        found.context("there is no such message")
    }

    /// What happened in a group since a time, oldest first.
    pub(super) fn happened(&self, topic: TopicId, since: Millis) -> Result<Vec<view::Event>> {
        let path = format!("/v1/chats/{topic}/events?since={since}");
        self.read(&path, |s| query::events(s, topic, since, MAX_EVENTS))
    }

    pub(super) fn members(&self, topic: TopicId) -> Result<Vec<view::Member>> {
        self.read(&format!("/v1/chats/{topic}/members"), |s| query::members(s, topic))
    }

    pub(super) fn contacts(&self) -> Result<Vec<view::Contact>> {
        self.read("/v1/contacts", |s| query::contacts(s))
    }

    pub(super) fn requests(&self) -> Result<Vec<view::Contact>> {
        self.read("/v1/requests", |s| query::requests(s))
    }

    pub(super) fn devices(&self) -> Result<Vec<view::Device>> {
        self.read("/v1/devices", |s| query::devices(s))
    }

    pub(super) fn linking(&self) -> Result<view::Linking> {
        self.read("/v1/linking", |s| query::linking(s))
    }

    pub(super) fn relays(&self) -> Result<Vec<view::Relay>> {
        self.read("/v1/relays", |s| query::relays(s))
    }

    pub(super) fn waiting(&self) -> Result<Vec<view::Waiting>> {
        self.read("/v1/waiting", |s| query::waiting(s))
    }

    pub(super) fn alarms(&self) -> Result<Vec<view::Alarm>> {
        self.read("/v1/alarms", |s| query::alarms(s))
    }

    pub(super) fn safety(&self, account: AccountId) -> Result<String> {
        Ok(match &self.inner {
            Inner::Remote(client) => client.get::<Safety>(&format!("/v1/safety/{account}"))?.number,
            Inner::Local { node, .. } => node
                .handle()
                .query(|s| query::safety_number(s, account))?
                .context("there is no such account")?,
        })
    }

    /// Changes from now on.
    pub(super) fn changes(&self) -> Result<Changes<'_>> {
        Ok(match &self.inner {
            Inner::Remote(client) => {
                let events = client.events()?;
                // One waiting ring of the bell says as much as many.
                let (ring, bell) = sync_channel(1);
                std::thread::spawn(move || {
                    for _ in events {
                        if let Err(TrySendError::Disconnected(())) = ring.try_send(()) {
                            return;
                        }
                    }
                });
                Changes::Remote(bell)
            }
            Inner::Local { node, runtime, .. } => Changes::Local(node.handle().changes(), runtime),
        })
    }

    /// Asks again after every change until `ready` has an answer, or the time is up.
    pub(super) fn wait_for<T>(
        &self,
        within: Duration,
        mut ready: impl FnMut() -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        let until = Instant::now() + within;
        let mut changes = self.changes()?;
        loop {
            if let Some(value) = ready()? {
                return Ok(Some(value));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            // What is no change of the data is noticed too.
            changes.wait(left.min(Duration::from_millis(250)))?;
        }
    }
}

/// Opens the folder in this process; `None` where the command needs an account and nothing
/// is there.
fn local(global: &Global, data: PathBuf, need: Need) -> Result<Option<Inner>, StartError> {
    let wants_account = matches!(need, Need::Account | Need::Network);
    if wants_account && config::role_of(&data).is_none() {
        return Ok(None);
    }
    let runtime = runtime().map_err(StartError::Thread)?;
    let network = need.network().then(NetworkConfig::default);
    let store = config::store_options(global.lossy_disk);
    let guard = runtime.enter();
    let node = Node::start(NodeConfig { data, store, network })?;
    drop(guard);
    Ok(Some(Inner::Local { node, runtime, network: need.network() }))
}

/// The async runtime of a node.
pub(super) fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("teahouse")
        .enable_all()
        .build()
}

/// Tells when something may have changed.
pub(super) enum Changes<'a> {
    Remote(Receiver<()>),
    Local(Subscription, &'a Runtime),
}

impl Changes<'_> {
    /// Waits for a change, for at most `within`; an error once the node has stopped.
    pub(super) fn wait(&mut self, within: Duration) -> Result<()> {
        let stopped = match self {
            Self::Remote(bell) => {
                matches!(bell.recv_timeout(within), Err(RecvTimeoutError::Disconnected))
            }
            Self::Local(changes, runtime) => {
                let next = async { tokio::time::timeout(within, changes.next()).await };
                matches!(runtime.block_on(next), Ok(None))
            }
        };
        if stopped {
            bail!("the node has stopped");
        }
        Ok(())
    }
}
