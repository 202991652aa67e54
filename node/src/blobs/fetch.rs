//! Downloads: a few at a time, the others in a queue, each from one provider after another,
//! going on where the last one stopped.
//!
//! What a provider sends is a verified stream (BLAKE3's tree, 16 KiB at a time): a wrong
//! byte ends the transfer, and what came before it is kept, for it was proven. The size that
//! a provider names must be the one that the message named, so nobody can make this node
//! take more than was agreed to.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures::Stream;
use iroh_blobs::get::fsm::{self, BlobContentNext, ConnectedNext, EndBlobNext};
use iroh_blobs::protocol::GetRequest;
use iroh_blobs::{Hash, HashAndFormat};
use teahouse_protocols::content::plain_size;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::DropGuard;

use super::held::Held;
use super::store::{Opened, storage_error};
use super::{Attempt, BlobsError, ContentHash, Inner, Limits, MAX_PROVIDERS, Provider, Status};

/// A provider must send [`PACE_BYTES`], or the rest, in this time; else the next is asked.
const PACE: Duration = Duration::from_secs(30);

/// See [`PACE`]: about 2 KiB/s.
const PACE_BYTES: u64 = 64 << 10;

/// Pieces between the network and the disk: at most 16 KiB each.
const PIPE: usize = 64;

/// After so many bytes, more than are in the pipe, the catalogue is written once: from then
/// on what has come survives the process. The store does so by itself after half a second,
/// which a fast transfer doesn't need.
const LISTED: u64 = 4 << 20;

/// Where a download stands. Only the latest is kept for whoever looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// In the queue.
    Waiting,
    /// A provider is being asked.
    Trying {
        /// Its device.
        device: [u8; 32],
    },
    /// Bytes come.
    Bytes {
        /// Sealed bytes here.
        have: u64,
        /// Sealed bytes altogether.
        size: u64,
    },
    /// All is here, verified and durable.
    Done,
    /// It has ended without; [`Fetch::finish`] says why.
    Ended,
}

/// A download. Dropping it cancels it; what has come stays for the next.
#[derive(Debug)]
pub struct Fetch {
    progress: watch::Receiver<Progress>,
    done: oneshot::Receiver<Result<Held, BlobsError>>,
    cancel: DropGuard,
}

impl Fetch {
    /// Where it stands, again whenever that has changed.
    pub fn progress(&self) -> impl Stream<Item = Progress> + Send + Unpin + use<> {
        WatchStream::new(self.progress.clone())
    }

    /// Waits for the end. The content is held until the guard is dropped.
    ///
    /// # Errors
    /// [`BlobsError::NobodyKnown`], [`BlobsError::Failed`], [`BlobsError::Full`],
    /// [`BlobsError::Store`], [`BlobsError::Network`], [`BlobsError::Closed`].
    pub async fn finish(self) -> Result<Held, BlobsError> {
        let Self { done, cancel, .. } = self;
        let end = done.await.unwrap_or(Err(BlobsError::Closed));
        drop(cancel);
        end
    }
}

/// The queue.
pub(super) struct Fetches {
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    queue: usize,
    /// One download of a hash at a time: a second finds what the first brought.
    each: Mutex<BTreeMap<ContentHash, Weak<tokio::sync::Mutex<()>>>>,
}

impl Fetches {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            running: Arc::new(Semaphore::new(limits.downloads)),
            waiting: Arc::new(Semaphore::new(limits.downloads + limits.queue)),
            queue: limits.queue,
            each: Mutex::default(),
        }
    }

    fn of(&self, hash: ContentHash) -> Arc<tokio::sync::Mutex<()>> {
        let mut each = self.each.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(same) = each.get(&hash).and_then(Weak::upgrade) {
            return same;
        }
        // As many as downloads wait or run at most.
        each.retain(|_, same| same.strong_count() > 0);
        let fresh = Arc::default();
        each.insert(hash, Arc::downgrade(&fresh));
        fresh
    }
}

pub(super) fn start(
    inner: &Arc<Inner>,
    hash: ContentHash,
    size: u64,
    mut providers: Vec<Provider>,
) -> Result<Fetch, BlobsError> {
    let max = inner.limits.content;
    // A size that no content has is refused with those that are too large.
    if plain_size(size).is_none_or(|plain| plain > max) {
        return Err(BlobsError::TooLarge { max });
    }
    if inner.closed.is_cancelled() {
        return Err(BlobsError::Closed);
    }
    let place = Arc::clone(&inner.fetches.waiting).try_acquire_owned();
    let place = place.map_err(|_| BlobsError::Busy(inner.fetches.queue))?;
    providers.truncate(MAX_PROVIDERS);
    let (show, progress) = watch::channel(Progress::Waiting);
    let (end, done) = oneshot::channel();
    let cancel = inner.closed.child_token();
    let inner = Arc::clone(inner);
    let stop = cancel.clone();
    tokio::spawn(async move {
        let job = Job { inner, hash, size, providers, show };
        let result = stop.run_until_cancelled(Box::pin(job.run())).await;
        let result = result.unwrap_or_else(|| {
            Err(if job.inner.closed.is_cancelled() {
                BlobsError::Closed
            } else {
                BlobsError::Cancelled
            })
        });
        job.show.send_replace(if result.is_ok() { Progress::Done } else { Progress::Ended });
        // Whoever asked may have gone; the guard goes with them.
        let _ = end.send(result);
        drop(place);
    });
    Ok(Fetch { progress, done, cancel: cancel.drop_guard() })
}

struct Job {
    inner: Arc<Inner>,
    hash: ContentHash,
    size: u64,
    providers: Vec<Provider>,
    show: watch::Sender<Progress>,
}

/// What ends a transfer: the provider's fault, which another may make good, or our own.
enum Stopped {
    Theirs(String),
    Ours(BlobsError),
}

fn theirs(e: impl std::fmt::Display) -> Stopped {
    Stopped::Theirs(e.to_string())
}

impl Job {
    async fn run(&self) -> Result<Held, BlobsError> {
        let Inner { store, net, fetches, .. } = &*self.inner;
        let same = fetches.of(self.hash);
        let _first = same.lock().await;
        let _turn = fetches.running.acquire().await.map_err(|_| BlobsError::Closed)?;
        let held = store.hold(self.hash).await;
        let opened = store.opened().await?;
        match opened.status(&self.hash).await {
            Ok(Status::Complete { size }) if size == self.size => {
                store.make_durable(&opened, &self.hash).await?;
                return Ok(held);
            }
            Ok(Status::Complete { .. }) => {
                return Err(BlobsError::Failed(vec![Attempt {
                    device: net.device(),
                    why: "the content has another size than its message says".into(),
                }]));
            }
            Ok(_) => {}
            Err(e) => return Err(store.failed(&opened, e).await),
        }
        let mut attempts = Vec::new();
        for provider in self.providers.iter().filter(|p| p.device != net.device()) {
            self.show.send_replace(Progress::Trying { device: provider.device });
            match self.from(provider, &opened).await {
                Ok(()) => {
                    store.make_durable(&opened, &self.hash).await?;
                    return Ok(held);
                }
                Err(Stopped::Ours(e)) => return Err(store.failed(&opened, e).await),
                Err(Stopped::Theirs(why)) => {
                    tracing::debug!("a provider did not give a content: {why}");
                    attempts.push(Attempt { device: provider.device, why });
                }
            }
        }
        if attempts.is_empty() {
            Err(BlobsError::NobodyKnown)
        } else {
            Err(BlobsError::Failed(attempts))
        }
    }

    /// Fetches what is missing from one provider.
    async fn from(&self, provider: &Provider, opened: &Arc<Opened>) -> Result<(), Stopped> {
        let net = &self.inner.net;
        let Some(addr) = net.whereabouts(provider) else {
            return Err(theirs("no address of the device is known"));
        };
        let endpoint = net.endpoint().await.map_err(Stopped::Ours)?;
        let connected =
            timeout(self.inner.limits.connect, endpoint.connect(addr, iroh_blobs::ALPN)).await;
        let connection = connected
            .map_err(|_| theirs("the device did not answer in time"))?
            .map_err(|e| theirs(format!("the device can't be reached: {e:#}")))?;
        let result = self.over(&connection, opened).await;
        connection.close(iroh::endpoint::VarInt::from_u32(0), b"");
        result
    }

    async fn over(
        &self,
        connection: &iroh::endpoint::Connection,
        opened: &Arc<Opened>,
    ) -> Result<(), Stopped> {
        let blobs = opened.store.blobs();
        let ours = |e: &(dyn std::error::Error + 'static)| Stopped::Ours(storage_error(e));
        let hash = Hash::from_bytes(self.hash);
        let local = opened.store.remote().local(HashAndFormat::raw(hash)).await;
        let local = local.map_err(|e| ours(&e))?;
        if local.is_complete() {
            return Ok(());
        }
        let (before, missing): (u64, GetRequest) = (local.local_bytes(), local.missing());

        let mut pace = Pace::new();
        let start = fsm::start(connection.clone(), missing, fsm::RequestCounters::default());
        let asked = pace.within(start.next()).await?.map_err(theirs)?;
        let root = match pace.within(asked.next()).await?.map_err(theirs)? {
            ConnectedNext::StartRoot(root) => root,
            ConnectedNext::StartChild(_) | ConnectedNext::Closing(_) => {
                return Err(Stopped::Ours(BlobsError::Store("asked for nothing".into())));
            }
        };
        let head = pace.within(root.next().next()).await?;
        let (mut content, claimed) = head.map_err(|_| theirs("the device does not have it"))?;
        if claimed != self.size {
            let why = format!("the device says that it has {claimed} bytes, not {}", self.size);
            return Err(Stopped::Theirs(why));
        }
        let Some(size) = NonZeroU64::new(self.size) else {
            return Err(theirs("nothing to send"));
        };
        let import = blobs.import_bao(hash, size, PIPE).await.map_err(|e| ours(&e))?;
        let mut listed = before > 0;
        let receive = async {
            loop {
                match pace.within(content.next()).await? {
                    BlobContentNext::More((next, item)) => {
                        let item = item.map_err(|e| theirs(format!("a wrong answer: {e}")))?;
                        // The import's own end says why, if it takes no more.
                        if import.tx.send(item).await.is_err() {
                            return Ok(None);
                        }
                        let got = next.stats().payload_bytes_read;
                        if !listed && got >= LISTED {
                            listed = true;
                            blobs_synced(opened).await?;
                        }
                        pace.got(got);
                        let have = (before + got).min(self.size);
                        self.show.send_replace(Progress::Bytes { have, size: self.size });
                        content = next;
                    }
                    BlobContentNext::Done(end) => return Ok(Some(end)),
                }
            }
        };
        let received: Result<_, Stopped> = receive.await;
        drop(import.tx);
        let stored = import.rx.await.map_err(|e| ours(&e))?;
        let end = received?;
        stored.map_err(|e| ours(&e))?;
        match end.map(fsm::AtEndBlob::next) {
            Some(EndBlobNext::Closing(_)) => {}
            Some(EndBlobNext::MoreChildren(_)) | None => {
                return Err(Stopped::Ours(BlobsError::Store("the import ended early".into())));
            }
        }
        match opened.status(&self.hash).await {
            Ok(Status::Complete { size }) if size == self.size => Ok(()),
            Ok(_) => Err(theirs("the device sent only a part")),
            Err(e) => Err(Stopped::Ours(e)),
        }
    }
}

/// Has the catalogue written.
async fn blobs_synced(opened: &Opened) -> Result<(), Stopped> {
    opened.store.sync_db().await.map_err(|e| Stopped::Ours(storage_error(&e)))
}

/// Demands of a provider that it goes on: see [`PACE`].
struct Pace {
    until: Instant,
    counted: u64,
}

impl Pace {
    fn new() -> Self {
        Self { until: Instant::now() + PACE, counted: 0 }
    }

    fn got(&mut self, bytes: u64) {
        if bytes >= self.counted + PACE_BYTES {
            *self = Self { until: Instant::now() + PACE, counted: bytes };
        }
    }

    async fn within<T>(&self, step: impl Future<Output = T>) -> Result<T, Stopped> {
        timeout_at(self.until, step).await.map_err(|_| theirs("the device is too slow"))
    }
}
