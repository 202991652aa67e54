//! The content store on disk: iroh-blobs' `FsStore`, opened at its first use and again when
//! it has failed, with sealing in front of it and syncing behind it.

use std::error::Error;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::StreamExt;
use iroh_blobs::Hash;
use iroh_blobs::api::blobs::BlobStatus;
use iroh_blobs::api::proto::ExportRangesItem;
use iroh_blobs::store::fs::FsStore;
use iroh_blobs::store::fs::options::{Options, PathOptions};
use teahouse_protocols::content::{
    CHUNK, ContentError, ContentKey, ContentRef, MAX_SIZE, Opener, SEALED_CHUNK, Sealer, TAG,
    sealed_size,
};
use tokio::sync::{Mutex, RwLock, mpsc};
use tokio::task::spawn_blocking;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::gc::{self, Sweep};
use super::held::{Held, Registry};
use super::{BlobsError, ContentHash, Imported, Status};

/// Chunks between two threads: 64 KiB each.
const PIPE: usize = 8;

/// The store's catalogue, in the content's folder.
const CATALOGUE: &str = "blobs.db";

/// A store that is open.
pub(super) struct Opened {
    pub(super) store: FsStore,
    pub(super) collect: mpsc::Sender<Sweep>,
}

pub(super) struct Disk {
    dir: PathBuf,
    pub(super) paths: PathOptions,
    opened: Mutex<Option<Arc<Opened>>>,
    closed: CancellationToken,
    /// Imports under way: their temporary files are theirs.
    pub(super) importing: RwLock<()>,
    /// Collections are alone; see [`gc`].
    pub(super) sweep: RwLock<()>,
    pub(super) held: Arc<Registry>,
    /// How often it was opened.
    opens: AtomicUsize,
}

impl Disk {
    pub(super) fn new(dir: PathBuf, held: Arc<Registry>, closed: CancellationToken) -> Self {
        let paths = PathOptions::new(&dir);
        Self {
            dir,
            paths,
            opened: Mutex::default(),
            closed,
            importing: RwLock::default(),
            sweep: RwLock::default(),
            held,
            opens: AtomicUsize::new(0),
        }
    }

    /// Whether anything was ever stored.
    pub(super) fn exists(&self) -> bool {
        self.dir.join(CATALOGUE).exists()
    }

    /// The store, opened if need be.
    pub(super) async fn opened(&self) -> Result<Arc<Opened>, BlobsError> {
        let mut opened = self.opened.lock().await;
        if self.closed.is_cancelled() {
            return Err(BlobsError::Closed);
        }
        if let Some(opened) = &*opened {
            return Ok(Arc::clone(opened));
        }
        let failed = |why: String| BlobsError::Open { dir: self.dir.clone(), why };
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&self.dir).map_err(|e| failed(e.to_string()))?;
        let (gc, collect) = gc::gate();
        let options = Options { path: self.paths.clone(), gc: Some(gc), ..Options::new(&self.dir) };
        let store = FsStore::load_with_opts(self.dir.join(CATALOGUE), options).await;
        let store = store.map_err(|e| failed(format!("{e:#}")))?;
        let fresh = Arc::new(Opened { store, collect });
        *opened = Some(Arc::clone(&fresh));
        if self.opens.fetch_add(1, Ordering::Relaxed) == 0 {
            // What a process that was killed left behind. The catalogue's lock is ours now.
            remove_all(&self.paths.temp_path);
        }
        Ok(fresh)
    }

    /// Closes a store that has failed, so that the next use opens it anew.
    pub(super) async fn reopen(&self, failed: &Arc<Opened>) {
        let mut opened = self.opened.lock().await;
        if opened.as_ref().is_some_and(|o| Arc::ptr_eq(o, failed)) {
            tracing::warn!("the content store failed and will be opened anew");
            *opened = None;
            // It has failed already; that it can't be asked to end says nothing new.
            let _ = failed.store.shutdown().await;
        }
    }

    /// Tells why something failed, and has the store opened anew if it has ended: it does so
    /// for good at its first failure to write its catalogue.
    pub(super) async fn failed(&self, opened: &Arc<Opened>, why: BlobsError) -> BlobsError {
        if opened.store.sync_db().await.is_err() {
            self.reopen(opened).await;
        }
        why
    }

    pub(super) async fn close(&self) {
        if let Some(opened) = self.opened.lock().await.take()
            && let Err(e) = opened.store.shutdown().await
        {
            tracing::warn!("the content store did not close: {e}");
        }
    }

    /// Removes temporary files, unless an import is under way.
    pub(super) async fn sweep_temp(&self) {
        if let Ok(_none) = self.importing.try_write() {
            let temp = self.paths.temp_path.clone();
            // Removing is a courtesy to the disk: the next collection tries again.
            let _ = spawn_blocking(move || remove_all(&temp)).await;
        }
    }

    /// Syncs what belongs to a content, then the catalogue that says that it is here.
    pub(super) async fn make_durable(
        &self,
        opened: &Opened,
        hash: &ContentHash,
    ) -> Result<(), BlobsError> {
        let hash = Hash::from_bytes(*hash);
        let files = [self.paths.data_path(&hash), self.paths.outboard_path(&hash)];
        let folder = self.paths.data_path.clone();
        let synced = spawn_blocking(move || -> io::Result<()> {
            for file in files {
                match File::open(file) {
                    Ok(file) => file.sync_all()?,
                    // Small ones are in the catalogue.
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    Err(e) => return Err(e),
                }
            }
            if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
        });
        synced.await.map_err(|_| BlobsError::Closed)?.map_err(|e| storage_error(&e))?;
        opened.store.sync_db().await.map_err(|e| storage_error(&e))
    }

    pub(super) async fn hold(&self, hash: ContentHash) -> Held {
        let _no_sweep = self.sweep.read().await;
        self.held.hold(hash)
    }

    pub(super) async fn status(&self, hash: &ContentHash) -> Result<Status, BlobsError> {
        if !self.exists() {
            return Ok(Status::Absent);
        }
        let opened = self.opened().await?;
        match opened.status(hash).await {
            Ok(status) => Ok(status),
            Err(e) => Err(self.failed(&opened, e).await),
        }
    }

    /// Seals what `source` gives, stores it, and holds it.
    pub(super) async fn import(
        &self,
        source: impl Read + Send + 'static,
        max: u64,
    ) -> Result<Imported, BlobsError> {
        let opened = self.opened().await?;
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut seed[..])
            .map_err(|_| BlobsError::Store("the operating system gives no randomness".into()))?;
        let key = ContentKey::from_bytes(*seed);
        let done = {
            let _importing = self.importing.read().await;
            self.import_sealed(&opened, source, &key, max.min(MAX_SIZE)).await
        };
        match done {
            Ok((hash, size, held)) => {
                Ok(Imported { content: ContentRef { hash, key, size }, held })
            }
            Err(e) => {
                let e = self.failed(&opened, e).await;
                self.sweep_temp().await;
                Err(e)
            }
        }
    }

    async fn import_sealed(
        &self,
        opened: &Opened,
        source: impl Read + Send + 'static,
        key: &ContentKey,
        max: u64,
    ) -> Result<(ContentHash, u64, Held), BlobsError> {
        let (chunks, sealed) = mpsc::channel(PIPE);
        let sealer = Sealer::new(key);
        let sealing = spawn_blocking(move || seal_all(source, sealer, max, &chunks));
        let sealed = ReceiverStream::new(sealed).map(|c: io::Result<Vec<u8>>| c.map(Into::into));
        let added = opened.store.blobs().add_stream(sealed).await.temp_tag().await;
        // An error of the source reaches the store as an error of its input: tell the first.
        let size = sealing.await.map_err(|_| BlobsError::Closed)?;
        let tag = match (size, added) {
            (Err(Some(e)), _) => return Err(e),
            (_, Err(e)) => return Err(storage_error(&e)),
            (Err(None), Ok(_)) => return Err(BlobsError::Store("it took less than given".into())),
            (Ok(size), Ok(tag)) => (size, tag),
        };
        let (size, tag) = tag;
        let hash = *tag.hash().as_bytes();
        let expected = sealed_size(size).ok_or(BlobsError::TooLarge { max })?;
        // The tag protects it until it is held, whatever is swept meanwhile.
        let held = self.hold(hash).await;
        self.make_durable(opened, &hash).await?;
        // A rename that failed is only told in the store's log.
        if opened.status(&hash).await? != (Status::Complete { size: expected }) {
            return Err(BlobsError::Store("what was imported is not there".into()));
        }
        drop(tag);
        Ok((hash, size, held))
    }

    pub(super) async fn open_to_file(
        &self,
        content: &ContentRef,
        path: &Path,
    ) -> Result<(), BlobsError> {
        let failed = |path: &Path, source| {
            let action = format!("write {}", path.display());
            BlobsError::File { action, source }
        };
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        let made = spawn_blocking(move || tempfile::NamedTempFile::new_in(folder));
        let made = made.await.map_err(|_| BlobsError::Closed)?.map_err(|e| failed(path, e))?;
        let written = self.open_into(content, made).await?;
        let to = path.to_owned();
        let kept = spawn_blocking(move || {
            written.as_file().sync_all()?;
            written.persist(to).map(drop).map_err(|e| e.error)
        });
        kept.await.map_err(|_| BlobsError::Closed)?.map_err(|e| failed(path, e))
    }

    /// Opens a content into `to`, which is worthless where this fails.
    pub(super) async fn open_into<W: Write + Send + 'static>(
        &self,
        content: &ContentRef,
        to: W,
    ) -> Result<W, BlobsError> {
        let sealed = content.sealed_size().ok_or(ContentError::TooLong)?;
        match self.status(&content.hash).await? {
            Status::Absent => return Err(BlobsError::Absent),
            Status::Partial { have, size } => return Err(BlobsError::Partial { have, size }),
            Status::Complete { size } if size != sealed => {
                return Err(ContentError::Refused.into());
            }
            Status::Complete { .. } => {}
        }
        let opened = self.opened().await?;
        let (chunks, pieces) = mpsc::channel(PIPE);
        let opener = Opener::new(&content.key);
        let opening = spawn_blocking(move || open_all(pieces, opener, sealed, to));
        let hash = Hash::from_bytes(content.hash);
        let mut stream = Box::pin(opened.store.blobs().export_ranges(hash, 0..sealed).stream());
        let mut failure = None;
        while let Some(item) = stream.next().await {
            match item {
                ExportRangesItem::Size(_) => {}
                ExportRangesItem::Data(leaf) => {
                    if chunks.send(leaf.data).await.is_err() {
                        break;
                    }
                }
                ExportRangesItem::Error(e) => {
                    failure = Some(storage_error(&e));
                    break;
                }
            }
        }
        drop(chunks);
        let done = opening.await.map_err(|_| BlobsError::Closed)?;
        match failure {
            Some(e) => Err(self.failed(&opened, e).await),
            None => done,
        }
    }
}

impl Opened {
    pub(super) async fn status(&self, hash: &ContentHash) -> Result<Status, BlobsError> {
        let hash = Hash::from_bytes(*hash);
        let blobs = self.store.blobs();
        let status = blobs.status(hash).await.map_err(|e| storage_error(&e))?;
        Ok(match status {
            BlobStatus::NotFound => Status::Absent,
            BlobStatus::Complete { size } => Status::Complete { size },
            BlobStatus::Partial { .. } => {
                let bits = blobs.observe(hash).await.map_err(|e| storage_error(&e))?;
                let (have, size) = (bits.total_bytes(), bits.size());
                match have {
                    0 => Status::Absent,
                    _ if bits.is_complete() => Status::Complete { size },
                    _ => Status::Partial { have, size },
                }
            }
        })
    }

    /// The hashes of all that is here, complete or not.
    pub(super) async fn list(&self) -> Result<Vec<ContentHash>, BlobsError> {
        let list = self.store.blobs().list();
        let mut stream = list.stream().await.map_err(|e| storage_error(&e))?;
        let mut all = Vec::new();
        while let Some(item) = stream.next().await {
            all.push(*item.map_err(|e| storage_error(&e))?.as_bytes());
        }
        // A store that has ended says that it has nothing. It ends for good: if it answers
        // now, it did before.
        self.store.sync_db().await.map_err(|e| storage_error(&e))?;
        Ok(all)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Without this the loop that waits for collections keeps the store open for ever.
        if let Some(opened) = self.opened.get_mut().take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move { opened.store.shutdown().await });
        }
    }
}

/// What a failure of the store means to its user.
pub(super) fn storage_error(e: &(dyn Error + 'static)) -> BlobsError {
    let mut cause = Some(e);
    while let Some(e) = cause {
        let full = |e: &io::Error| {
            matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        };
        if e.downcast_ref::<io::Error>().is_some_and(full) {
            return BlobsError::Full;
        }
        cause = e.source();
    }
    BlobsError::Store(e.to_string())
}

fn remove_all(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if let Err(e) = fs::remove_file(entry.path()) {
            tracing::debug!("a temporary file of the content store stays: {e}");
        }
    }
}

/// Reads until `chunk` is full or the source ends.
fn fill(source: &mut impl Read, chunk: &mut Vec<u8>) -> io::Result<()> {
    chunk.clear();
    let wanted = CHUNK as u64;
    source.by_ref().take(wanted).read_to_end(chunk).map(drop)
}

/// Seals a source chunk by chunk; how many bytes it had. `Err(None)` where the store has
/// stopped taking.
fn seal_all(
    mut source: impl Read,
    mut sealer: Sealer,
    max: u64,
    to: &mpsc::Sender<io::Result<Vec<u8>>>,
) -> Result<u64, Option<BlobsError>> {
    let mut size = 0;
    let mut chunk = Vec::with_capacity(SEALED_CHUNK);
    let mut next = Vec::with_capacity(SEALED_CHUNK);
    let mut work = || -> Result<u64, Option<BlobsError>> {
        let unread = |source| BlobsError::File { action: "read the content".into(), source };
        fill(&mut source, &mut chunk).map_err(unread)?;
        loop {
            size += chunk.len() as u64;
            if size > max {
                return Err(Some(BlobsError::TooLarge { max }));
            }
            next.clear();
            if chunk.len() == CHUNK {
                fill(&mut source, &mut next).map_err(unread)?;
            }
            let last = next.is_empty();
            sealer.seal(&mut chunk, last).map_err(BlobsError::from)?;
            let fresh = Vec::with_capacity(SEALED_CHUNK);
            let full = std::mem::replace(&mut chunk, std::mem::replace(&mut next, fresh));
            to.blocking_send(Ok(full)).map_err(|_| None)?;
            if last {
                return Ok(size);
            }
        }
    };
    let done = work();
    if done.is_err() {
        // The store must not take the end of the stream for the end of the content.
        let _ = to.blocking_send(Err(io::Error::other("the source failed")));
    }
    done
}

/// Opens sealed pieces of any length into `to`.
fn open_all<W: Write>(
    mut pieces: mpsc::Receiver<impl AsRef<[u8]>>,
    mut opener: Opener,
    sealed: u64,
    mut to: W,
) -> Result<W, BlobsError> {
    let unwritten = |source| BlobsError::File { action: "write the content".into(), source };
    let mut chunk = Vec::with_capacity(SEALED_CHUNK);
    let mut left = sealed;
    while let Some(piece) = pieces.blocking_recv() {
        let mut piece = piece.as_ref();
        while !piece.is_empty() {
            let whole = left.min(SEALED_CHUNK as u64) as usize;
            let (taken, rest) = piece.split_at(piece.len().min(whole - chunk.len()));
            chunk.extend_from_slice(taken);
            piece = rest;
            if chunk.len() == whole {
                left -= whole as u64;
                if whole < TAG {
                    return Err(ContentError::Refused.into());
                }
                opener.open(&mut chunk, left == 0)?;
                to.write_all(&chunk).map_err(unwritten)?;
                chunk.clear();
            }
            if left == 0 && !piece.is_empty() {
                return Err(ContentError::AfterLast.into());
            }
        }
    }
    if left > 0 {
        return Err(BlobsError::Partial { have: sealed - left, size: sealed });
    }
    to.flush().map_err(unwritten)?;
    Ok(to)
}
