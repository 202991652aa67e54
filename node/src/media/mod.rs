//! Photos of a running node: what is taken in, brought from others, given to others, and
//! cleaned away. The rows of the core say what is wanted ([`contents`]); [`Blobs`] keeps and
//! moves the sealed bytes; this stands between the two, and is all that the API, the command
//! line and the window see of either.
//!
//! *Quiet until needed.* No file and no socket before the first photo. A node that refers to
//! photos opens its endpoint when it starts, for others may want them; its address goes to
//! the core, which tells whom this device has business with.
//!
//! *Nothing referenced is lost.* What was taken in is held for [`HOLD`], so that a person can
//! still write the words that go with it, and for as long as a command that sends it has no
//! answer (`Handle::submit`). After that its row protects it. What no row names goes with
//! the next collection.

mod addr;
mod referenced;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use serde::{Deserialize, Serialize};
use teahouse_core::command::MessageId;
use teahouse_core::contents::{self, CONTENT_PEERS, Source, Sources};
use teahouse_core::photos::NewPhoto;
use teahouse_core::query::{self, Query};
use teahouse_core::store::StorageError;
use teahouse_core::tables::{ACCOUNT_RECORDS, ME};
use teahouse_core::view::Blob;
use teahouse_protocols::content::{ContentKey, ContentRef, sealed_size};
use teahouse_protocols::ids::TopicId;
use teahouse_protocols::photo::{MAX_PHOTOS, MAX_PICTURE, Photo};
use tokio::sync::{Notify, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::blobs::image::{self, ImageError, Kind};
use crate::blobs::{
    Blobs, BlobsConfig, BlobsError, Held, Limits, Listen, Progress, Provider, Status, relay_urls,
};
use crate::handle::{Handle, NodeError, Request};
use referenced::Referenced;

pub(crate) use addr::listen;

/// The folder for sealed content, in the data folder.
const FOLDER: &str = "content";

/// How long a photo that was taken in waits for the command that sends it.
pub const HOLD: Duration = Duration::from_hours(1);

/// How long somebody who may have a picture is waited for, where nobody is known.
const LOOKED_FOR: Duration = Duration::from_secs(10);

/// Photos that wait so at a time.
pub const MAX_WAITING: usize = 256;

/// Most bytes of a file that is taken in. A picture that must be encoded anew may come out
/// larger than [`MAX_PICTURE`], and is refused then.
pub const MAX_FILE: usize = MAX_PICTURE as usize;

/// Pictures decoded at a time: each may take [`image::MAX_ALLOC`] bytes.
const PREPARED_AT_ONCE: usize = 2;

/// How long what is referenced no more stays, in case something was about to.
const GRACE: Duration = if cfg!(test) { Duration::ZERO } else { Duration::from_mins(10) };

/// How often what nothing refers to is removed.
const CLEAN: Duration = Duration::from_mins(10);

/// How often it is looked whether the endpoint is reached otherwise than it was told.
const LOOK: Duration = Duration::from_secs(20);

/// How long the end of content may take.
const CLOSING: Duration = Duration::from_secs(8);

/// Why a photo was not taken in, kept or brought.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    /// The node has no folder, or this way of handing a command over knows no photos.
    #[error("this node has no room for photos")]
    NoFolder,
    /// It is no picture, or one that can't be read.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// Its file has more than [`MAX_PICTURE`] bytes.
    #[error("a photo has at most {} MiB", MAX_PICTURE >> 20)]
    TooLarge,
    /// [`MAX_WAITING`] were taken in and not sent.
    #[error("{MAX_WAITING} photos wait to be sent already")]
    TooMany,
    /// What a command wants to send is not here, or no longer.
    #[error("a photo is not stored here (any more): choose it again")]
    Gone,
    /// Nothing is known of such a photo.
    #[error("there is no such photo")]
    Unknown,
    /// It isn't here, and this process has no network.
    #[error("the photo is not on this device, and nothing can be fetched without a network")]
    Offline,
    /// The store, or those who were asked.
    #[error(transparent)]
    Blobs(#[from] BlobsError),
    /// The rows.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Which photo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Which {
    /// The topic.
    pub topic: TopicId,
    /// The message, post or article.
    pub message: MessageId,
    /// Which of its photos, from 0.
    pub index: u8,
}

/// A photo as its sender took it in: full size, without metadata.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    /// How `bytes` begin. What follows may still be none: decode it within limits.
    pub kind: Kind,
    /// The file.
    pub bytes: Vec<u8>,
}

impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Picture({:?}, {} bytes)", self.kind, self.bytes.len())
    }
}

/// Photos of one node.
pub struct Media {
    /// The node; this handle has no media, so that nothing keeps itself alive.
    handle: Handle,
    blobs: Blobs,
    online: bool,
    /// Whether the endpoint is to run.
    wanted: AtomicBool,
    wake: Notify,
    waiting: Mutex<VecDeque<(Instant, Held)>>,
    preparing: Semaphore,
    /// Whether anything was ever opened: else there is nothing to close.
    used: AtomicBool,
    runtime: Option<tokio::runtime::Handle>,
}

impl Media {
    /// Prepares everything; with a network (`listen`) also begins to look after it, on the
    /// current tokio runtime, until the node ends.
    pub(crate) fn open(
        handle: Handle,
        data: &Path,
        secret: Zeroizing<[u8; 32]>,
        listen: Option<Listen>,
    ) -> Arc<Self> {
        let online = listen.is_some();
        let referenced = Referenced::follow(&handle);
        let blobs = Blobs::open(BlobsConfig {
            dir: data.join(FOLDER),
            secret,
            listen: listen.unwrap_or(Listen::RelaysOnly),
            relays: Vec::new(),
            serves: Arc::new(move |hash| referenced.has(hash)),
            limits: Limits { content: MAX_PICTURE, grace: GRACE, ..Limits::default() },
        });
        let media = Arc::new(Self {
            handle,
            blobs,
            online,
            wanted: AtomicBool::new(false),
            wake: Notify::new(),
            waiting: Mutex::default(),
            preparing: Semaphore::new(PREPARED_AT_ONCE),
            used: AtomicBool::new(false),
            runtime: tokio::runtime::Handle::try_current().ok(),
        });
        if online && let Some(runtime) = &media.runtime {
            runtime.spawn(Arc::clone(&media).attend());
        }
        media
    }

    /// Makes a picture's file ready to be sent: without metadata, sealed, stored, with its
    /// preview. It is kept for [`HOLD`], and for good by the command that sends it.
    ///
    /// # Errors
    /// [`MediaError::Image`], [`MediaError::TooLarge`], [`MediaError::TooMany`],
    /// [`MediaError::Blobs`].
    pub async fn take_in(&self, bytes: Vec<u8>) -> Result<NewPhoto, MediaError> {
        if bytes.len() > MAX_FILE {
            return Err(MediaError::TooLarge);
        }
        self.room()?;
        let prepared = {
            // Never closed.
            let _turn = self.preparing.acquire().await.map_err(|_| BlobsError::Closed)?;
            let prepared = spawn_blocking(move || image::prepare(&bytes)).await;
            prepared.map_err(|_| BlobsError::Closed)??
        };
        if prepared.full.len() as u64 > MAX_PICTURE {
            return Err(MediaError::TooLarge);
        }
        let side = |n: u32| u16::try_from(n).map_err(|_| MediaError::TooLarge);
        let (width, height) = (side(prepared.preview.width)?, side(prepared.preview.height)?);
        self.used.store(true, Ordering::Release);
        let imported = self.blobs.import_bytes(prepared.full).await?;
        let content = &imported.content;
        let photo = Photo {
            hash: content.hash,
            key: *content.key.to_bytes(),
            size: content.size,
            width,
            height,
        };
        self.waiting().push_back((Instant::now(), imported.held));
        self.want_endpoint();
        Ok(NewPhoto { photo, preview: Blob(prepared.preview.jpeg) })
    }

    /// Brings a photo: from the store, else from whoever may have it. `told` hears where a
    /// transfer stands. Dropping the future ends the transfer; what has come stays, and the
    /// next goes on there.
    ///
    /// # Errors
    /// [`MediaError::Unknown`], [`MediaError::Offline`], [`MediaError::Image`] where it is no
    /// picture, [`MediaError::Blobs`].
    pub async fn picture(
        &self,
        which: Which,
        told: impl Fn(Progress) + Send,
    ) -> Result<Picture, MediaError> {
        let Which { topic, message: id, index } = which;
        let asked = Sources { topic, id, index };
        let mut source = self.source(&asked).await?;
        let content = content_of(&source.photo);
        let sealed = sealed_size(content.size).ok_or(MediaError::TooLarge)?;
        self.used.store(true, Ordering::Release);
        let _held = self.blobs.hold(content.hash).await;
        let here = self.blobs.status(&content.hash).await?;
        if here != (Status::Complete { size: sealed }) {
            if !self.online {
                return Err(MediaError::Offline);
            }
            if source.providers.is_empty() {
                // Whoever has just sent it says in a moment how its content is reached.
                let found = timeout(LOOKED_FOR, self.found(&asked)).await;
                source = found.unwrap_or(Ok(source))?;
            }
            let providers = self.nearest_first(source.providers);
            let fetch = self.blobs.fetch(content.hash, sealed, providers)?;
            self.want_endpoint();
            let mut stages = fetch.progress();
            let mut end = std::pin::pin!(fetch.finish());
            loop {
                tokio::select! {
                    ended = &mut end => {
                        ended?;
                        break;
                    }
                    Some(stage) = stages.next() => told(stage),
                }
            }
        }
        let bytes = self.blobs.read_plain(&content, MAX_PICTURE).await?;
        Ok(Picture { kind: image::kind(&bytes)?, bytes })
    }

    /// The picture that is asked for, and who may have it.
    async fn source(&self, asked: &Sources) -> Result<Source, MediaError> {
        let (handle, asked) = (self.handle.clone(), asked.clone());
        let source = spawn_blocking(move || handle.query(|s| asked.run(s))).await;
        let source = source.map_err(|_| BlobsError::Closed)?.map_err(|e| match e {
            NodeError::Storage(e) => MediaError::Storage(e),
            _ => BlobsError::Closed.into(),
        })?;
        source.ok_or(MediaError::Unknown)
    }

    /// The same, once somebody is known who may have it.
    async fn found(&self, asked: &Sources) -> Result<Source, MediaError> {
        let mut changes = self.handle.changes();
        loop {
            let source = self.source(asked).await?;
            if !source.providers.is_empty() {
                return Ok(source);
            }
            while !changes.next().await.ok_or(BlobsError::Closed)?.touches(&CONTENT_PEERS) {}
        }
    }

    /// Holds what a command is about to send, all of which must be here.
    pub(crate) async fn hold(&self, photos: &[NewPhoto]) -> Result<Vec<Held>, MediaError> {
        self.used.store(true, Ordering::Release);
        let mut all = Vec::with_capacity(photos.len());
        for NewPhoto { photo, .. } in photos {
            all.push(self.blobs.hold(photo.hash).await);
            let size = sealed_size(photo.size).ok_or(MediaError::TooLarge)?;
            if self.blobs.status(&photo.hash).await? != (Status::Complete { size }) {
                return Err(MediaError::Gone);
            }
        }
        Ok(all)
    }

    /// A command was stored that refers to these: its row keeps them.
    pub(crate) fn sent(&self, held: Vec<Held>) {
        let sent: BTreeSet<_> = held.iter().map(|h| *h.hash()).collect();
        self.waiting().retain(|(_, h)| !sent.contains(h.hash()));
    }

    /// Photos of this message were sent on from here: others will ask this device for them, so
    /// those that are not here are brought, as far as somebody gives them.
    pub(crate) fn sent_on(self: &Arc<Self>, topic: TopicId, message: MessageId) {
        let (Some(runtime), true) = (&self.runtime, self.online) else { return };
        let media = Arc::clone(self);
        runtime.spawn(async move {
            for index in 0..MAX_PHOTOS {
                let which = Which { topic, message, index: index as u8 };
                match media.picture(which, |_| ()).await {
                    Ok(_) => {}
                    Err(MediaError::Unknown) => return,
                    Err(e) => tracing::debug!("a photo that was sent on is not here: {e}"),
                }
            }
        });
    }

    /// Removes what nothing refers to, now rather than with the next turn.
    ///
    /// # Errors
    /// [`MediaError::Blobs`].
    pub async fn clean(&self) -> Result<u64, MediaError> {
        self.forget_old();
        Ok(self.blobs.collect(live(&self.handle)).await?.removed)
    }

    /// Ends transfers and closes the endpoint and the store. Blocks for up to some seconds.
    pub(crate) fn close(&self) {
        let (Some(runtime), true) = (&self.runtime, self.used.load(Ordering::Acquire)) else {
            return;
        };
        self.waiting().clear();
        let (done, ended) = std::sync::mpsc::sync_channel(1);
        let blobs = self.blobs.clone();
        runtime.spawn(async move {
            blobs.close().await;
            // Whoever waits may have run out of patience.
            let _ = done.send(());
        });
        if matches!(ended.recv_timeout(CLOSING), Err(std::sync::mpsc::RecvTimeoutError::Timeout)) {
            tracing::warn!("content did not close in time");
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, VecDeque<(Instant, Held)>> {
        // Every change is one step.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget_old(&self) {
        self.waiting().retain(|(since, _)| since.elapsed() < HOLD);
    }

    /// Whether another photo may wait.
    fn room(&self) -> Result<(), MediaError> {
        self.forget_old();
        if self.waiting().len() < MAX_WAITING { Ok(()) } else { Err(MediaError::TooMany) }
    }

    /// Has the endpoint opened, and its address told.
    fn want_endpoint(&self) {
        if self.online && !self.wanted.swap(true, Ordering::AcqRel) {
            self.wake.notify_one();
        }
    }

    /// Providers as they are tried: those whose devices are connected now come first.
    fn nearest_first(&self, said: Vec<(teahouse_protocols::ids::DeviceId, Blob)>) -> Vec<Provider> {
        let connected: BTreeSet<_> = self.handle.shared.net().peers.keys().copied().collect();
        let mut said: Vec<_> =
            said.into_iter().filter(|(device, _)| *device != self.handle.device()).collect();
        said.sort_by_key(|(device, _)| !connected.contains(device));
        said.into_iter().filter_map(|(device, said)| addr::read(device, &said.0)).collect()
    }

    /// Looks after everything until the node ends.
    async fn attend(self: Arc<Self>) {
        let mut changes = self.handle.changes();
        let handle = self.handle.clone();
        self.blobs.keep_clean(CLEAN, move || live(&handle)());
        let handle = self.handle.clone();
        match spawn_blocking(move || live(&handle)()).await {
            Ok(Ok(live)) if live.is_empty() => {}
            Ok(Ok(_)) => self.want_endpoint(),
            Ok(Err(e)) => tracing::warn!("what photos there are can't be told: {e}"),
            Err(_) => return,
        }
        let mut told = Vec::new();
        loop {
            if self.wanted.load(Ordering::Acquire) {
                self.used.store(true, Ordering::Release);
                match self.reached().await {
                    Ok(addr) if addr == told => {}
                    Ok(addr) => {
                        if self.handle.request(Request::ContentAddr(addr.clone())).is_ok() {
                            told = addr;
                        }
                    }
                    Err(MediaError::Blobs(BlobsError::Closed)) => return,
                    Err(e) => tracing::warn!("photos can't be given to others: {e}"),
                }
            }
            let changed = async {
                while let Some(changes) = changes.next().await {
                    // Relays stand in the account's records.
                    if changes.touches(&ACCOUNT_RECORDS) || changes.touches(&ME) {
                        return true;
                    }
                }
                false
            };
            tokio::select! {
                () = self.wake.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
                goes_on = changed => if !goes_on { return },
            }
            self.forget_old();
        }
    }

    /// How the endpoint is reached now, through the account's own relays among others.
    async fn reached(&self) -> Result<Vec<u8>, MediaError> {
        let handle = self.handle.clone();
        let relays = spawn_blocking(move || handle.query(|s| query::relays(s))).await;
        if let Ok(Ok(relays)) = relays {
            let addrs = relays.iter().flat_map(|r| &r.addrs).map(String::as_str);
            self.blobs.set_relays(relay_urls(addrs)).await;
        }
        Ok(addr::say(&self.blobs.addr().await?))
    }
}

/// A content as its store knows it.
fn content_of(photo: &Photo) -> ContentRef {
    let Photo { hash, key, size, .. } = *photo;
    ContentRef { hash, key: ContentKey::from_bytes(key), size }
}

/// Gives every content that a row refers to.
fn live(handle: &Handle) -> impl Fn() -> Result<BTreeSet<[u8; 32]>, NodeError> + use<> {
    let handle = handle.clone();
    move || Ok(handle.query(|s| contents::live(s))?.into_keys().collect())
}
