//! The bridge's part in photos: the system's dialog, pictures that are made ready, and the
//! one that somebody looks at.

use std::fs::File;
use std::io::{Cursor, Read as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use egui::ColorImage;
use image::{ExtendedColorType, ImageEncoder as _, codecs::png::PngEncoder};
use teahouse_node::Handle;
use teahouse_node::blobs::image::pixels;
use teahouse_node::blobs::{BlobsError, Progress};
use teahouse_node::core::photos::NewPhoto;
use teahouse_node::media::{MAX_FILE, MediaError, Which};
use teahouse_node::tokio::sync::{Semaphore, mpsc};
use teahouse_node::tokio::task::{AbortHandle, JoinSet, spawn_blocking};
use teahouse_node::tokio::time::Instant;

use super::{Ports, QUEUE};
use crate::photos::news::{Look, News, Pick};

/// Pixels along a side of a photo as it is shown. What is larger is shrunk.
const MOST_SIDE: u32 = 2_048;
/// How far a photo is, is told no more often than this.
const TELL: Duration = Duration::from_millis(50);

/// Where news goes.
#[derive(Clone)]
pub(super) struct Out {
    news: mpsc::Sender<News>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl Out {
    pub(super) fn of(ports: &Ports) -> Self {
        Self { news: ports.news.clone(), wake: Arc::clone(&ports.outlet.wake) }
    }

    /// Says something that must arrive, unless the window is gone.
    pub(super) async fn say(&self, news: News) {
        let _ = self.news.send(news).await;
        (self.wake)();
    }

    /// Says something that may be left out.
    fn mention(&self, news: News) {
        if self.news.try_send(news).is_ok() {
            (self.wake)();
        }
    }
}

/// What is under way for one node.
pub(super) struct Photos {
    handle: Handle,
    out: Out,
    picks: mpsc::Sender<(u64, Pick)>,
    tasks: JoinSet<()>,
    look: Option<AbortHandle>,
    /// One picture is decoded at a time; who looks at another one meanwhile leaves the queue.
    turn: Arc<Semaphore>,
}

impl Photos {
    pub(super) fn start(handle: &Handle, ports: &Ports) -> Self {
        let (picks, waiting) = mpsc::channel(QUEUE);
        let out = Out::of(ports);
        let mut tasks = JoinSet::new();
        tasks.spawn(make_ready(handle.clone(), waiting, out.clone()));
        Self {
            handle: handle.clone(),
            out,
            picks,
            tasks,
            look: None,
            turn: Arc::new(Semaphore::new(1)),
        }
    }

    /// Asks a person for files.
    pub(super) fn choose(&mut self, ticket: u64) {
        let out = self.out.clone();
        self.tasks.spawn(async move {
            let files = files().await;
            out.say(News::Chosen { ticket, files }).await;
        });
    }

    /// Makes a picture ready, after those before it.
    pub(super) fn take_in(&mut self, ticket: u64, pick: Pick) {
        if self.picks.try_send((ticket, pick)).is_err() {
            let result = Err(crate::strings::busy().into());
            let out = self.out.clone();
            self.tasks.spawn(async move { out.say(News::Taken { ticket, result }).await });
        }
    }

    /// Brings this photo and no longer another one.
    pub(super) fn look(&mut self, which: Option<Which>) {
        if let Some(before) = self.look.take() {
            before.abort();
        }
        while self.tasks.try_join_next().is_some() {}
        if let Some(which) = which {
            let task = bring(self.handle.clone(), which, self.out.clone(), Arc::clone(&self.turn));
            self.look = Some(self.tasks.spawn(task));
        }
    }

    /// Ends everything: nothing more is said after this.
    pub(super) async fn end(mut self) {
        self.tasks.shutdown().await;
    }
}

/// The system's dialog, where there is one.
async fn files() -> Vec<std::path::PathBuf> {
    let dialog = rfd::AsyncFileDialog::new()
        .add_filter(crate::photos::words::photo(), &["jpg", "jpeg", "png", "webp", "gif"])
        .pick_files();
    let chosen = dialog.await.unwrap_or_default();
    chosen.into_iter().map(|f| f.path().to_owned()).collect()
}

async fn make_ready(handle: Handle, mut waiting: mpsc::Receiver<(u64, Pick)>, out: Out) {
    while let Some((ticket, pick)) = waiting.recv().await {
        let result = ready(&handle, pick).await;
        out.say(News::Taken { ticket, result }).await;
    }
}

async fn ready(handle: &Handle, pick: Pick) -> Result<NewPhoto, String> {
    let read = spawn_blocking(move || match pick {
        Pick::File(path) => read(&path),
        Pick::Pixels(image) => encode(&image),
    });
    let bytes = read.await.map_err(|_| "it could not be read".to_owned())??;
    let media = handle.media().map_err(|e| e.to_string())?;
    media.take_in(bytes).await.map_err(|e| e.to_string())
}

/// Reads a file, no more of it than is taken.
fn read(path: &Path) -> Result<Vec<u8>, String> {
    let bytes = || -> std::io::Result<Vec<u8>> {
        // A pipe would be waited for without end.
        if !std::fs::metadata(path)?.is_file() {
            return Err(std::io::ErrorKind::IsADirectory.into());
        }
        let mut bytes = Vec::new();
        File::open(path)?.take(MAX_FILE as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    bytes().map_err(|e| e.to_string())
}

fn encode(image: &ColorImage) -> Result<Vec<u8>, String> {
    let mut png = Cursor::new(Vec::new());
    let rgba: Vec<u8> =
        image.pixels.iter().flat_map(egui::Color32::to_srgba_unmultiplied).collect();
    let side = |n: usize| u32::try_from(n).map_err(|e| e.to_string());
    let [width, height] = image.size;
    let (width, height) = (side(width)?, side(height)?);
    let encoder = PngEncoder::new(&mut png);
    encoder
        .write_image(&rgba, width, height, ExtendedColorType::Rgba8)
        .map_err(|e| e.to_string())?;
    Ok(png.into_inner())
}

async fn bring(handle: Handle, which: Which, out: Out, turn: Arc<Semaphore>) {
    let state = match try_bring(&handle, which, &out, turn).await {
        Ok(image) => Look::Here(Arc::new(image)),
        Err(MediaError::Blobs(BlobsError::NobodyKnown | BlobsError::Failed(_))) => Look::Away,
        Err(e) => Look::Failed(e.to_string()),
    };
    out.say(News::Look { which, state }).await;
}

async fn try_bring(
    handle: &Handle,
    which: Which,
    out: &Out,
    turn: Arc<Semaphore>,
) -> Result<ColorImage, MediaError> {
    let told: Mutex<Option<Instant>> = Mutex::default();
    let tell = |progress: Progress| {
        let state = match progress {
            Progress::Bytes { have, size } => Look::Coming { have, size },
            Progress::Waiting | Progress::Trying { .. } => Look::Asking,
            Progress::Done | Progress::Ended => return,
        };
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|at| at.elapsed() >= TELL) {
            *told = Some(Instant::now());
            out.mention(News::Look { which, state });
        }
    };
    let picture = handle.media()?.picture(which, tell).await?;
    let turn = turn.acquire_owned().await.map_err(|_| BlobsError::Closed)?;
    let decode = move || {
        let drawn = pixels(&picture.bytes, MOST_SIDE);
        drop(turn);
        drawn
    };
    let drawn = spawn_blocking(decode).await;
    let drawn = drawn.map_err(|_| BlobsError::Closed)??;
    let size = [drawn.width as usize, drawn.height as usize];
    Ok(ColorImage::from_rgba_unmultiplied(size, &drawn.rgba))
}

/// What is said where there is no node.
pub(super) fn without(action: super::Action, why: &str) -> Option<News> {
    use super::Action;
    match action {
        Action::ChoosePhotos { ticket } => Some(News::Chosen { ticket, files: Vec::new() }),
        Action::TakeIn { ticket, .. } => Some(News::Taken { ticket, result: Err(why.to_owned()) }),
        Action::Look(Some(which)) => {
            Some(News::Look { which, state: Look::Failed(why.to_owned()) })
        }
        _ => None,
    }
}
