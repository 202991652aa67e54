//! A node: the core on a thread of its own, the network beside it, queues between them.
//!
//! The core's thread takes what is waiting, steps, and hands the outputs on; it never waits
//! for the network. Commands and network events have separate bounded queues, so that a
//! flood of catch-up can't keep a command from being taken. Whatever does not fit waits at
//! its source: commands get [`NodeError::Busy`](crate::handle::NodeError), peers are slowed
//! down by the network's own windows.
//!
//! Where storage fails, the batch's commands get an error, its other inputs are kept and
//! tried again once the database is open again.

mod batch;
mod driver;
mod outward;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use teahouse_core::Env;
use teahouse_core::store::{OpenError, Store, StoreOptions};
use teahouse_core::{Core, CoreError};
use teahouse_protocols::ids::Millis;
use tokio::sync::mpsc;

use crate::config::{self, ConfigError, Role};
use crate::handle::{COMMANDS, Handle, Shared};
use crate::media::{self, Media};
use crate::net::{self, NetConfig, NetError, NetRole};

pub(crate) use batch::{Unpark, poll_events};
pub(crate) use driver::close_network;

/// How to start a node.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// The data folder, created if need be.
    pub data: PathBuf,
    /// How the database is opened.
    pub store: StoreOptions,
    /// The network; `None` to work on the folder alone.
    pub network: Option<NetworkConfig>,
}

/// How a device takes part in the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkConfig {
    /// Multiaddresses to listen on.
    pub listen: Vec<String>,
    /// Whether to find peers on the local network (and be found there).
    pub mdns: bool,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self { listen: default_listen(0), mdns: true }
    }
}

/// All interfaces, QUIC and TCP, on this port (0: any).
#[must_use]
pub fn default_listen(port: u16) -> Vec<String> {
    let mut all =
        vec![format!("/ip4/0.0.0.0/udp/{port}/quic-v1"), format!("/ip4/0.0.0.0/tcp/{port}")];
    // Some machines have IPv6 switched off.
    if std::net::UdpSocket::bind("[::]:0").is_ok() {
        all.push(format!("/ip6/::/udp/{port}/quic-v1"));
        all.push(format!("/ip6/::/tcp/{port}"));
    }
    all
}

/// Addresses in the order in which others should try them: those of this machine alone last,
/// QUIC before TCP. Link-local ones are left out: they need a zone, which a multiaddress of
/// ours doesn't name.
pub(crate) fn best_first<'a>(addrs: impl IntoIterator<Item = &'a String>) -> Vec<String> {
    let mut all: Vec<String> =
        addrs.into_iter().filter(|a| !a.starts_with("/ip6/fe80:")).cloned().collect();
    let loopback = |a: &str| a.starts_with("/ip4/127.") || a.starts_with("/ip6/::1/");
    all.sort_by_key(|a| (loopback(a), a.starts_with("/ip6/"), a.contains("/tcp/")));
    all
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The folder.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The database.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The core.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// The network.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The operating system gave no thread.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

/// A running node. Stops when dropped.
pub struct Node {
    handle: Handle,
    stop: Stop,
}

/// Stops a core's thread and waits for it.
pub(crate) struct Stop {
    flag: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Node {
    /// Opens the folder (one folder, one process) and starts. With a network it must be
    /// called within a tokio runtime, which has to outlive the node.
    pub fn start(config: NodeConfig) -> Result<Self, StartError> {
        config::prepare(&config.data, Role::Device)?;
        let store = Store::open(&config.data, config.store)?;
        Self::launch(store, config.network, Some(config.data))
    }

    /// Starts on a store that is open already. Without a folder it has no photos.
    pub fn with_store(store: Store, network: Option<NetworkConfig>) -> Result<Self, StartError> {
        Self::launch(store, network, None)
    }

    fn launch(
        store: Store,
        network: Option<NetworkConfig>,
        data: Option<PathBuf>,
    ) -> Result<Self, StartError> {
        let mut env = os_env()?;
        let core = Core::open(store, &mut env)?;
        let shared = Arc::new(Shared::new(core.device(), core.reader(), network.is_some()));
        let secret = core.device_secret();
        let listen = network.as_ref().map(|n| media::listen(&n.listen));
        let net = match network {
            None => None,
            Some(NetworkConfig { listen, mdns }) => Some(net::start(NetConfig {
                secret: core.device_secret(),
                listen,
                mdns,
                role: NetRole::Device,
            })?),
        };
        let (requests, waiting) = mpsc::channel(COMMANDS);
        let stop = Stop::new("teahouse-core", |flag| {
            let driver = driver::Driver::new(core, env, Arc::clone(&shared), waiting, net, flag);
            move || driver.run()
        })?;
        let mut handle = Handle { requests, shared, media: None };
        handle.media = data.map(|dir| Media::open(handle.clone(), &dir, secret, listen));
        Ok(Self { handle, stop })
    }

    /// The handle, to be cloned by whoever uses the node.
    pub const fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Takes no more commands, finishes those that wait, closes the network and the
    /// database. Blocks for up to a few seconds.
    pub fn shutdown(self) {
        drop(self);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.stop();
        if let Some(media) = &self.handle.media {
            media.close();
        }
    }
}

impl Stop {
    /// Starts a thread with what `body` makes of the flag.
    pub(crate) fn new<F: FnOnce() + Send + 'static>(
        name: &str,
        body: impl FnOnce(Arc<AtomicBool>) -> F,
    ) -> Result<Self, StartError> {
        let flag = Arc::new(AtomicBool::new(false));
        let run = body(Arc::clone(&flag));
        let thread = thread::Builder::new().name(name.to_owned()).spawn(run);
        Ok(Self { flag, thread: Some(thread.map_err(StartError::Thread)?) })
    }

    pub(crate) fn stop(&mut self) {
        self.flag.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            Thread::unpark(thread.thread());
            if thread.join().is_err() {
                tracing::error!("the core's thread panicked");
            }
        }
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The time by the operating system's clock.
pub(crate) fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Time and randomness of the operating system.
pub(crate) fn os_env() -> Result<Env, ConfigError> {
    let mut seed = zeroize::Zeroizing::new([0u8; 32]);
    getrandom::fill(&mut seed[..]).map_err(|_| ConfigError::NoRandomness)?;
    Ok(Env { now: now(), rng: ChaCha20Rng::from_seed(*seed) })
}
