//! A large content between two devices on loopback: sealed, verified and synced to disk.
//!
//! The floor is bare iroh-blobs with plain bytes, in turns with ours; see its file. Importing
//! seals, which the floor does not; fetching moves bytes that are sealed already.

#![allow(clippy::cast_precision_loss, reason = "figures for people")]

mod common;
mod floors;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use common::{Reach, Report, count, folder, median, note};
use floors::blobs as floor;
use rand_core::{Rng, SeedableRng};
use teahouse_node::blobs::{Blobs, BlobsConfig, Limits, Listen};

/// Turns of each; the middle one counts.
const TURNS: usize = 5;

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run())
}

fn content(dir: &Path, secret: u8) -> Result<Blobs> {
    Ok(Blobs::open(BlobsConfig {
        dir: dir.to_owned(),
        secret: [secret; 32].into(),
        listen: Listen::At(vec!["127.0.0.1:0".parse()?]),
        relays: Vec::new(),
        serves: Arc::new(|_| true),
        limits: Limits::default(),
    }))
}

/// Import and fetch, both until they are durable.
async fn ours(dir: &Path, file: &Path) -> Result<(Duration, Duration)> {
    let (one, two) = (content(&dir.join("1"), 1)?, content(&dir.join("2"), 2)?);
    one.start().await?;
    two.start().await?;
    let began = Instant::now();
    let content = one.import_file(file).await?.content;
    let import = began.elapsed();
    let size = content.sealed_size().context("too large")?;
    let addr = one.addr().await?;
    let began = Instant::now();
    two.fetch(content.hash, size, vec![addr])?.finish().await?;
    let fetch = began.elapsed();
    one.close().await;
    two.close().await;
    Ok((import, fetch))
}

async fn run() -> Result<()> {
    let mut report = Report::new("blobs");
    let mib = count(256, 16);
    let dir = folder()?;
    let file = dir.path().join("file");
    let mut bytes = vec![0; mib << 20];
    rand_chacha::ChaCha20Rng::from_seed([3; 32]).fill_bytes(&mut bytes);
    std::fs::write(&file, bytes)?;
    let rate = |took: Duration| mib as f64 / took.as_secs_f64();
    let [mut imports, mut fetches] = [(); 2].map(|()| Vec::new());
    let [mut bare_imports, mut bare_fetches, mut bare_synced] = [(); 3].map(|()| Vec::new());
    for turn in 0..count(TURNS, 1) {
        note(&format!("turn {}", turn + 1));
        let at = dir.path().join(turn.to_string());
        std::fs::create_dir(&at)?;
        let bare = floor::run(&at, &file).await?;
        let (import, fetch) = ours(&at, &file).await?;
        bare_imports.push(rate(bare.import));
        bare_fetches.push(rate(bare.fetch));
        bare_synced.push(rate(bare.synced));
        imports.push(rate(import));
        fetches.push(rate(fetch));
        std::fs::remove_dir_all(&at)?;
    }
    let (fetch, synced) = (median(fetches), median(bare_synced));
    report.figure("size_mib", mib as f64);
    report.figure("import_mib_per_s", median(imports));
    report.figure("fetch_mib_per_s", fetch);
    report.figure("floor_import_mib_per_s", median(bare_imports));
    report.figure("floor_fetch_not_synced_mib_per_s", median(bare_fetches));
    report.figure("floor_fetch_mib_per_s", synced);
    report.reach("ratio_fetch", fetch / synced, Reach::AtLeast(0.9));
    report.print();
    Ok(())
}
