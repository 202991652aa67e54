//! Content: files and pictures, sealed, addressed by hash, fetched from whoever has them.
//!
//! The rest of the node sees this module's types alone; behind them is [iroh-blobs], one
//! store and one endpoint with the device's own key. Nothing is opened and nobody contacted
//! before the first use: the store opens at the first import or question, the endpoint at
//! the first [`Blobs::fetch`], [`Blobs::addr`] or [`Blobs::start`]. The endpoint knows no
//! third party: no discovery, no public resolver, and no relay but those it is given.
//!
//! *Secrecy.* What is stored and sent is sealed ([`teahouse_protocols::content`]) before it
//! is hashed. The hash is the right to fetch: whoever names one that this node serves gets
//! the sealed bytes, and learns nothing of any other. Lists of what is here are never given.
//!
//! *Nothing referenced is lost.* [`Blobs::collect`] removes what is neither referenced (the
//! caller says what is, completely), nor [`Held`], nor released less than [`Limits::grace`]
//! ago. Hold what you are about to reference: an import or fetch hands out a [`Held`], and
//! [`Blobs::hold`] makes one for what is here already. Drop it after the commit.
//!
//! *Durable first.* When an import or fetch says that it is done, content and catalogue have
//! been synced to disk. Parts of an unfinished download survive the process.
//!
//! [iroh-blobs]: https://docs.rs/iroh-blobs

use std::fmt;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use teahouse_protocols::content::{ContentError, ContentRef};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

mod endpoint;
mod fetch;
mod gc;
mod held;
pub mod image;
mod relay_url;
mod serve;
mod store;
#[cfg(test)]
mod tests;

pub use self::fetch::{Fetch, Progress};
pub use self::gc::Collected;
pub use self::held::Held;
pub use self::relay_url::{relay_addr, relay_urls};
pub use iroh::RelayUrl;

/// BLAKE3 of a sealed content.
pub type ContentHash = [u8; 32];

/// Addresses of one provider that are tried at most.
pub const MAX_ADDRS: usize = 8;

/// Providers of one content that are tried at most.
pub const MAX_PROVIDERS: usize = 32;

/// Which hashes this node hands to whoever names them. Asked for every request, on a thread
/// that waits for it: a look into memory or a read snapshot.
pub type ServePolicy = Arc<dyn Fn(&ContentHash) -> bool + Send + Sync>;

/// Where the endpoint listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// All interfaces, a port of the system's choice.
    Everywhere,
    /// These UDP addresses: at most one of IPv4 and one of IPv6.
    At(Vec<SocketAddr>),
    /// Nowhere: everything goes through relays, and nobody learns this device's address.
    RelaysOnly,
}

/// How much is allowed. Every number is a bound on what others can make this node do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of one content, before sealing. At most
    /// [`MAX_SIZE`](teahouse_protocols::content::MAX_SIZE).
    pub content: u64,
    /// Downloads at a time.
    pub downloads: usize,
    /// Downloads that may wait for their turn.
    pub queue: usize,
    /// Connections of others served at a time.
    pub connections: usize,
    /// Connections of one device served at a time.
    pub connections_each: usize,
    /// Requests of one connection served at a time.
    pub streams: usize,
    /// How long a provider may take to answer at all.
    pub connect: Duration,
    /// How long content stays that was released and that nothing references.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            content: 2 << 30,
            downloads: 4,
            queue: 256,
            connections: 64,
            connections_each: 4,
            streams: 8,
            connect: Duration::from_secs(15),
            grace: Duration::from_mins(10),
        }
    }
}

/// How content is kept and moved.
#[derive(Clone)]
pub struct BlobsConfig {
    /// The folder for content, made at the first use. Nobody else may write in it.
    pub dir: PathBuf,
    /// The device's ed25519 seed, the same as for the rest of its network.
    pub secret: Zeroizing<[u8; 32]>,
    /// Where to listen.
    pub listen: Listen,
    /// Relays to be reachable through; see [`Blobs::set_relays`].
    pub relays: Vec<RelayUrl>,
    /// What is served.
    pub serves: ServePolicy,
    /// Bounds.
    pub limits: Limits,
}

impl fmt::Debug for BlobsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the secret.
        f.debug_struct("BlobsConfig")
            .field("dir", &self.dir)
            .field("listen", &self.listen)
            .finish_non_exhaustive()
    }
}

/// Who may have a content, and how they are reached. Addresses are hints: whoever answers
/// must prove that it is the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// The device's ed25519 key.
    pub device: [u8; 32],
    /// Direct addresses, best first; [`MAX_ADDRS`] are tried.
    pub addrs: Vec<SocketAddr>,
    /// A relay through which it is reached. It will be contacted: name only relays that the
    /// device or its account vouches for.
    pub relay: Option<RelayUrl>,
}

/// How much of a content is here, in bytes of its sealed form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Nothing.
    Absent,
    /// A part, each byte verified.
    Partial {
        /// Bytes here.
        have: u64,
        /// Bytes altogether.
        size: u64,
    },
    /// Everything.
    Complete {
        /// Bytes.
        size: u64,
    },
}

/// What an import made.
#[derive(Debug)]
pub struct Imported {
    /// What to write into a message.
    pub content: ContentRef,
    /// Keeps it from being collected: drop it once the message is committed.
    pub held: Held,
}

/// What one provider did not give, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The device asked.
    pub device: [u8; 32],
    /// Why nothing, or not everything, came of it: a sentence's end.
    pub why: String,
}

/// Why content was not kept, moved or opened.
#[derive(Debug, thiserror::Error)]
pub enum BlobsError {
    /// The store.
    #[error("the content store in {} can't be opened: {why}", dir.display())]
    Open {
        /// Its folder.
        dir: PathBuf,
        /// What the store says.
        why: String,
    },
    /// No room.
    #[error("the content can't be stored: the disk is full")]
    Full,
    /// The store, otherwise.
    #[error("the content store failed: {0}")]
    Store(String),
    /// A file outside the store.
    #[error("cannot {action}: {source}")]
    File {
        /// What was attempted.
        action: String,
        /// Why it failed.
        source: io::Error,
    },
    /// More than is allowed.
    #[error("the content has more than the {max} bytes that are allowed")]
    TooLarge {
        /// The bound, in bytes before sealing.
        max: u64,
    },
    /// Nothing of it is here.
    #[error("this content is not on this device")]
    Absent,
    /// Only a part is here.
    #[error("only {have} of {size} bytes are on this device")]
    Partial {
        /// Sealed bytes here.
        have: u64,
        /// Sealed bytes altogether.
        size: u64,
    },
    /// It doesn't open, or has another size than its reference says.
    #[error(transparent)]
    Refused(#[from] ContentError),
    /// The endpoint did not start.
    #[error("the network for content can't start: {0}")]
    Network(String),
    /// One key, two endpoints: relays and peers would confuse them.
    #[error("another endpoint with this device's key runs in this process")]
    KeyInUse,
    /// The queue is full.
    #[error("{0} downloads wait already")]
    Busy(usize),
    /// There is nobody to ask.
    #[error("nobody is known who may have this content")]
    NobodyKnown,
    /// Everybody was asked. What came is kept, and the next try goes on from there.
    #[error("nobody gave this content: {}", reasons(.0))]
    Failed(Vec<Attempt>),
    /// The caller has lost interest.
    #[error("the download was cancelled")]
    Cancelled,
    /// What is referenced can't be told, so nothing was collected.
    #[error("what content is referenced can't be told: {0}")]
    References(String),
    /// After [`Blobs::close`].
    #[error("content has been shut down")]
    Closed,
}

fn reasons(attempts: &[Attempt]) -> String {
    let all: Vec<&str> = attempts.iter().map(|a| a.why.as_str()).collect();
    all.join("; ")
}

/// Content of one device. Clones share it.
#[derive(Clone)]
pub struct Blobs(Arc<Inner>);

struct Inner {
    limits: Limits,
    store: Arc<store::Disk>,
    net: Arc<endpoint::Net>,
    fetches: fetch::Fetches,
    closed: CancellationToken,
}

impl Blobs {
    /// Prepares everything and touches nothing: no file, no socket.
    pub fn open(config: BlobsConfig) -> Self {
        let BlobsConfig { dir, secret, listen, relays, serves, limits } = config;
        let closed = CancellationToken::new();
        let held = Arc::new(held::Registry::new(limits.grace));
        let store = Arc::new(store::Disk::new(dir, held, closed.clone()));
        let serving = serve::Serving::new(Arc::clone(&store), serves, &limits);
        let net = endpoint::Net::new(secret, listen, relays, serving, closed.clone());
        let fetches = fetch::Fetches::new(&limits);
        Self(Arc::new(Inner { limits, store, net: Arc::new(net), fetches, closed }))
    }

    /// Seals and stores a file, without holding it in memory.
    ///
    /// # Errors
    /// [`BlobsError::File`], [`BlobsError::TooLarge`], [`BlobsError::Full`],
    /// [`BlobsError::Store`]. Nothing of a failed import stays.
    pub async fn import_file(&self, path: &Path) -> Result<Imported, BlobsError> {
        let path = path.to_owned();
        let opened = tokio::task::spawn_blocking(move || {
            File::open(&path)
                .and_then(|file| {
                    // A folder opens, too; reading it would fail with worse words.
                    if file.metadata()?.is_file() {
                        Ok(file)
                    } else {
                        Err(io::ErrorKind::IsADirectory.into())
                    }
                })
                .map_err(|source| BlobsError::File {
                    action: format!("read {}", path.display()),
                    source,
                })
        });
        let file = opened.await.map_err(|_| BlobsError::Closed)??;
        self.0.store.import(file, self.0.limits.content).await
    }

    /// Seals and stores what is in memory.
    ///
    /// # Errors
    /// As [`Self::import_file`].
    pub async fn import_bytes(&self, bytes: Vec<u8>) -> Result<Imported, BlobsError> {
        self.0.store.import(io::Cursor::new(bytes), self.0.limits.content).await
    }

    /// Fetches `sealed_size` bytes with this hash from the first provider that gives them,
    /// and goes on where an earlier download ended. What is here already is not asked for.
    /// A provider that names another size is refused before it sends anything, and every
    /// 16 KiB are verified before they are kept.
    ///
    /// # Errors
    /// [`BlobsError::TooLarge`], [`BlobsError::Busy`]; the rest comes from
    /// [`Fetch::finish`].
    pub fn fetch(
        &self,
        hash: ContentHash,
        sealed_size: u64,
        providers: Vec<Provider>,
    ) -> Result<Fetch, BlobsError> {
        fetch::start(&self.0, hash, sealed_size, providers)
    }

    /// How much of a content is here.
    pub async fn status(&self, hash: &ContentHash) -> Result<Status, BlobsError> {
        self.0.store.status(hash).await
    }

    /// Keeps what is here, or comes, from being collected until the guard is dropped. Waits
    /// for a collection that is under way. Hold first, then look at the [`Self::status`].
    pub async fn hold(&self, hash: ContentHash) -> Held {
        self.0.store.hold(hash).await
    }

    /// Opens a content into a file, which appears whole or not at all.
    ///
    /// # Errors
    /// [`BlobsError::Absent`], [`BlobsError::Partial`], [`BlobsError::Refused`],
    /// [`BlobsError::File`].
    pub async fn open_to_file(&self, content: &ContentRef, path: &Path) -> Result<(), BlobsError> {
        self.0.store.open_to_file(content, path).await
    }

    /// Opens a content of at most `max` bytes into memory.
    ///
    /// # Errors
    /// As [`Self::open_to_file`], and [`BlobsError::TooLarge`].
    pub async fn read_plain(&self, content: &ContentRef, max: u64) -> Result<Vec<u8>, BlobsError> {
        if content.size > max {
            return Err(BlobsError::TooLarge { max });
        }
        self.0.store.open_into(content, Vec::new()).await
    }

    /// Begins to serve. Every node that has content does so when it starts; one that has
    /// none stays quiet.
    ///
    /// # Errors
    /// [`BlobsError::Network`], [`BlobsError::KeyInUse`].
    pub async fn start(&self) -> Result<(), BlobsError> {
        self.0.net.endpoint().await.map(drop)
    }

    /// How others reach this device: for messages that name it as a provider. Waits up to
    /// three seconds for the addresses to be known.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn addr(&self) -> Result<Provider, BlobsError> {
        self.0.net.addr().await
    }

    /// Remembers how a device is reached, for fetches that name it without an address. The
    /// newest 1,024 devices are remembered.
    pub fn learn(&self, provider: Provider) {
        self.0.net.learn(provider);
    }

    /// Replaces the relays through which this device is reached.
    pub async fn set_relays(&self, relays: Vec<RelayUrl>) {
        self.0.net.set_relays(relays).await;
    }

    /// Removes what nothing references. `live` gives every referenced hash; it is called
    /// while nothing new can be held, so that what it doesn't name is referenced by nobody.
    /// Where it fails nothing is removed. Does nothing where there is no store.
    ///
    /// # Errors
    /// [`BlobsError::References`], [`BlobsError::Store`].
    pub async fn collect<I, E>(
        &self,
        live: impl FnOnce() -> Result<I, E>,
    ) -> Result<Collected, BlobsError>
    where
        I: IntoIterator<Item = ContentHash>,
        E: fmt::Display,
    {
        self.0.store.collect(live).await
    }

    /// Collects again and again, `every` so often, until [`Self::close`]. A collection that
    /// fails is told in the log and tried again at the next turn.
    pub fn keep_clean<I, E>(
        &self,
        every: Duration,
        live: impl Fn() -> Result<I, E> + Send + Sync + 'static,
    ) where
        I: IntoIterator<Item = ContentHash> + Send + 'static,
        E: fmt::Display + Send + 'static,
    {
        let (store, closed) = (Arc::clone(&self.0.store), self.0.closed.clone());
        tokio::spawn(async move {
            while closed.run_until_cancelled(tokio::time::sleep(every)).await.is_some() {
                match store.collect(&live).await {
                    Ok(collected) => tracing::debug!(removed = collected.removed, "collected"),
                    Err(e) => tracing::warn!("content is not collected: {e}"),
                }
            }
        });
    }

    /// Ends downloads, closes the endpoint, then the store. Takes up to some seconds.
    pub async fn close(&self) {
        self.0.closed.cancel();
        self.0.net.close().await;
        self.0.store.close().await;
    }
}
