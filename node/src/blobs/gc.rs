//! Removing what nothing references.
//!
//! iroh-blobs 0.104 sweeps in a loop of its own only, which asks a callback what to keep,
//! and which ends for ever at its first error. Here the callback is a [`Gate`]: it waits
//! until somebody asks for a collection, passes the set in, and when it is called again the
//! sweep before is over. When the loop has ended the gate is gone, which whoever asks
//! notices: the store is then closed, and opened anew, with a new loop, at its next use.
//! The store's named tags are not used: what is referenced is said in one place, by the
//! caller.
//!
//! Why nothing that is wanted is swept: `sweep` is held alone from before the set is made
//! until the sweep is over, and shared by whoever begins to hold something. So a hash is
//! in the set, or among the held ones, or nobody wants it. What an import adds meanwhile is
//! under a temporary tag of the store until it is held.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, fs};

use data_encoding::HEXLOWER;
use iroh_blobs::Hash;
use iroh_blobs::store::{GcConfig, ProtectCb, ProtectOutcome};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::store::{Disk, Opened};
use super::{BlobsError, ContentHash, Status};

/// What the loop sleeps between two sweeps, and so what a collection takes at least.
const PAUSE: Duration = Duration::from_millis(10);

/// What a sweep may take. Deleting a million contents takes less.
const LONGEST: Duration = Duration::from_mins(10);

/// What a collection did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Collected {
    /// Contents removed.
    pub removed: u64,
    /// Contents left, complete or not.
    pub left: u64,
}

/// One collection: what to keep, and who waits for its end.
pub(super) struct Sweep {
    keep: HashSet<Hash>,
    over: oneshot::Sender<()>,
}

struct Gate {
    asked: mpsc::Receiver<Sweep>,
    running: Option<oneshot::Sender<()>>,
}

/// The loop's settings, and where to ask for a collection.
pub(super) fn gate() -> (GcConfig, mpsc::Sender<Sweep>) {
    let (ask, asked) = mpsc::channel(1);
    let gate = Arc::new(Mutex::new(Gate { asked, running: None }));
    let add_protected: ProtectCb = Arc::new(move |set| {
        let gate = Arc::clone(&gate);
        Box::pin(async move {
            let mut gate = gate.lock().await;
            if let Some(over) = gate.running.take() {
                // Whoever asked may have gone.
                let _ = over.send(());
            }
            match gate.asked.recv().await {
                Some(sweep) => {
                    set.extend(sweep.keep);
                    gate.running = Some(sweep.over);
                    ProtectOutcome::Continue
                }
                // Nobody can ask any more: the store is being closed.
                None => std::future::pending().await,
            }
        })
    });
    (GcConfig { interval: PAUSE, add_protected: Some(add_protected) }, ask)
}

impl Disk {
    pub(super) async fn collect<I, E>(
        &self,
        live: impl FnOnce() -> Result<I, E>,
    ) -> Result<Collected, BlobsError>
    where
        I: IntoIterator<Item = ContentHash>,
        E: fmt::Display,
    {
        if !self.exists() {
            return Ok(Collected::default());
        }
        let opened = self.opened().await?;
        self.sweep_temp().await;
        let _alone = self.sweep.write().await;
        match self.swept(&opened, live).await {
            Err(e) => Err(self.failed(&opened, e).await),
            collected => collected,
        }
    }

    async fn swept<I, E>(
        &self,
        opened: &Arc<Opened>,
        live: impl FnOnce() -> Result<I, E>,
    ) -> Result<Collected, BlobsError>
    where
        I: IntoIterator<Item = ContentHash>,
        E: fmt::Display,
    {
        let before = opened.list().await?.len();
        let collected = |left: usize| Collected {
            removed: before.saturating_sub(left) as u64,
            left: left as u64,
        };
        // In this order: what is released after its reference was committed is then either
        // still protected or already in the set.
        let Some(protected) = self.held.protected() else {
            tracing::debug!("too much was released lately, so nothing is collected");
            return Ok(collected(before));
        };
        let referenced: Vec<ContentHash> = match live() {
            Ok(all) => all.into_iter().collect(),
            Err(e) => return Err(BlobsError::References(e.to_string())),
        };
        let kept = protected.iter().copied();
        let keep = referenced.into_iter().chain(kept).map(Hash::from_bytes).collect();
        let (over, ended) = oneshot::channel();
        let asked = opened.collect.send(Sweep { keep, over }).await.is_ok();
        if !asked || !matches!(timeout(LONGEST, ended).await, Ok(Ok(()))) {
            self.reopen(opened).await;
            return Err(BlobsError::Store("a collection ended with an error".into()));
        }
        let left = opened.list().await?;
        // No import may be under way: its file stands here before its name is listed.
        if let Ok(_none) = self.importing.try_write() {
            let listed = left.iter().chain(&protected).copied().collect();
            self.remove_strays(opened, listed).await?;
        }
        Ok(collected(left.len()))
    }

    /// Removes files that belong to nothing. The store leaves some: it forgets to delete a
    /// part's bookkeeping when the whole is there in the same moment, and a process that is
    /// killed leaves what it had not yet listed.
    async fn remove_strays(
        &self,
        opened: &Opened,
        listed: BTreeSet<ContentHash>,
    ) -> Result<(), BlobsError> {
        let (folder, grace) = (self.paths.data_path.clone(), self.held.grace());
        let found = spawn_blocking(move || strays(&folder, &listed, grace));
        let (strays, parts) = found.await.map_err(|_| BlobsError::Closed)?;
        let mut unneeded = strays;
        for (hash, path) in parts {
            if matches!(opened.status(&hash).await?, Status::Complete { .. }) {
                unneeded.push(path);
            }
        }
        let removing = spawn_blocking(move || {
            for path in unneeded {
                // The next collection tries again.
                if let Err(e) = fs::remove_file(&path) {
                    tracing::debug!("a stray file of the content store stays: {e}");
                }
            }
        });
        removing.await.map_err(|_| BlobsError::Closed)
    }
}

/// Files of contents that are not listed; and those that only an unfinished content needs,
/// of contents that are. Younger ones than `grace` are left alone.
fn strays(
    folder: &Path,
    listed: &BTreeSet<ContentHash>,
    grace: Duration,
) -> (Vec<PathBuf>, Vec<(ContentHash, PathBuf)>) {
    let (mut strays, mut parts) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let old = entry.metadata().and_then(|m| m.modified()).map(|m| m.elapsed());
        if !matches!(old, Ok(Ok(age)) if age >= grace) {
            continue;
        }
        let path = entry.path();
        let stem = path.file_stem().and_then(|s| s.to_str());
        let Some(hash) = stem.and_then(|s| HEXLOWER.decode(s.as_bytes()).ok()) else { continue };
        let Ok(hash) = ContentHash::try_from(hash) else { continue };
        if !listed.contains(&hash) {
            strays.push(path);
        } else if path.extension().is_some_and(|e| e == "sizes4" || e == "bitfield") {
            parts.push((hash, path));
        }
    }
    (strays, parts)
}
