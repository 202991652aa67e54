//! What the content module costs above bare iroh-blobs.
//!
//! ```text
//! cargo run --release -p teahouse-node --example blobs_cost [MiB]
//! ```
//! In one run, in turns: 256 MiB are imported and fetched between two endpoints on loopback,
//! by bare iroh-blobs (the floor: plain bytes) and by the content module (sealed, synced to
//! disk). A ratio of 1 is as fast as the floor. Bare iroh-blobs syncs nothing, so the floor
//! is given twice: as it is, and with its files synced afterwards, which is what can be
//! compared. Fetching moves bytes that are sealed already, and should reach 0.9 of that.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use iroh::endpoint::presets;
use iroh::protocol::Router;
use iroh::{Endpoint, RelayMode};
use iroh_blobs::store::fs::FsStore;
use iroh_blobs::{ALPN, BlobsProtocol};
use teahouse_node::blobs::{Blobs, BlobsConfig, Limits, Listen};
use zeroize::Zeroizing;

/// Turns of each; the best counts.
const TURNS: usize = 3;

#[derive(Clone, Copy)]
struct Times {
    import: Duration,
    fetch: Duration,
    /// The fetch, until what it brought is on the disk.
    synced: Duration,
}

impl Times {
    fn best(self, other: Self) -> Self {
        Self {
            import: self.import.min(other.import),
            fetch: self.fetch.min(other.fetch),
            synced: self.synced.min(other.synced),
        }
    }
}

async fn endpoint() -> Result<Endpoint> {
    Endpoint::builder(presets::Minimal)
        .relay_mode(RelayMode::Disabled)
        .clear_ip_transports()
        .bind_addr("127.0.0.1:0")?
        .bind()
        .await
        .map_err(|e| anyhow!("{e:#}"))
}

async fn floor(dir: &Path, file: &Path) -> Result<Times> {
    let failed = |e: &dyn std::fmt::Display| anyhow!("{e:#}");
    let from = FsStore::load(dir.join("floor-1")).await.map_err(|e| failed(&e))?;
    let to = FsStore::load(dir.join("floor-2")).await.map_err(|e| failed(&e))?;
    let began = Instant::now();
    let tag = from.blobs().add_path(file).await?;
    let import = began.elapsed();
    let (one, two) = (endpoint().await?, endpoint().await?);
    let router = Router::builder(one.clone()).accept(ALPN, BlobsProtocol::new(&from, None)).spawn();
    let mut addr = iroh::EndpointAddr::new(one.id());
    for socket in one.bound_sockets() {
        addr = addr.with_ip_addr(socket);
    }
    let began = Instant::now();
    let connection = two.connect(addr, ALPN).await.map_err(|e| failed(&e))?;
    to.remote()
        .fetch(connection, tag.hash_and_format())
        .complete()
        .await
        .map_err(|e| failed(&e))?;
    let fetch = began.elapsed();
    for entry in std::fs::read_dir(dir.join("floor-2/data"))? {
        std::fs::File::open(entry?.path())?.sync_all()?;
    }
    to.sync_db().await?;
    let synced = began.elapsed();
    router.shutdown().await.map_err(|e| failed(&e))?;
    two.close().await;
    to.shutdown().await?;
    Ok(Times { import, fetch, synced })
}

fn content(dir: &Path) -> Result<Blobs> {
    let mut secret = Zeroizing::new([0; 32]);
    getrandom::fill(&mut secret[..]).map_err(|e| anyhow!("{e}"))?;
    Ok(Blobs::open(BlobsConfig {
        dir: dir.to_owned(),
        secret,
        listen: Listen::At(vec!["127.0.0.1:0".parse()?]),
        relays: Vec::new(),
        serves: Arc::new(|_| true),
        limits: Limits::default(),
    }))
}

async fn ours(dir: &Path, file: &Path) -> Result<Times> {
    let (one, two) = (content(&dir.join("1"))?, content(&dir.join("2"))?);
    one.start().await?;
    two.start().await?;
    let began = Instant::now();
    let imported = one.import_file(file).await?;
    let import = began.elapsed();
    let content = imported.content;
    let size = content.sealed_size().context("too large")?;
    let addr = one.addr().await?;
    let began = Instant::now();
    two.fetch(content.hash, size, vec![addr])?.finish().await?;
    let fetch = began.elapsed();
    one.close().await;
    two.close().await;
    Ok(Times { import, fetch, synced: fetch })
}

#[tokio::main]
async fn main() -> Result<()> {
    let mib: usize = std::env::args().nth(1).map_or(Ok(256), |n| n.parse())?;
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("file");
    let mut bytes = vec![0; mib << 20];
    getrandom::fill(&mut bytes).map_err(|e| anyhow!("{e}"))?;
    std::fs::write(&file, bytes)?;
    let (mut bare, mut sealed): (Option<Times>, Option<Times>) = (None, None);
    for turn in 0..TURNS {
        let at = dir.path().join(turn.to_string());
        std::fs::create_dir(&at)?;
        let (b, s) = (floor(&at, &file).await?, ours(&at, &file).await?);
        bare = Some(bare.map_or(b, |best| best.best(b)));
        sealed = Some(sealed.map_or(s, |best| best.best(s)));
        std::fs::remove_dir_all(&at)?;
    }
    let (bare, sealed) = (bare.context("no turn")?, sealed.context("no turn")?);
    #[allow(clippy::cast_precision_loss)]
    let rate = |t: Duration| mib as f64 / t.as_secs_f64();
    for (what, floor, own) in [
        ("import, floor not synced", bare.import, sealed.import),
        ("fetch, floor not synced", bare.fetch, sealed.fetch),
        ("fetch, floor synced", bare.synced, sealed.synced),
    ] {
        let ratio = floor.as_secs_f64() / own.as_secs_f64();
        println!(
            "{what:24}  floor {:5.0} MiB/s   sealed and synced {:5.0} MiB/s   ratio {ratio:.2}",
            rate(floor),
            rate(own),
        );
    }
    Ok(())
}
