//! The floor of moving content: bare iroh-blobs between two endpoints on loopback, plain
//! bytes, whose files are synced afterwards, for iroh-blobs itself syncs nothing.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use iroh::endpoint::presets;
use iroh::protocol::Router;
use iroh::{Endpoint, EndpointAddr, RelayMode};
use iroh_blobs::store::fs::FsStore;
use iroh_blobs::{ALPN, BlobsProtocol};

/// How long it took.
pub(crate) struct Took {
    pub(crate) import: Duration,
    pub(crate) fetch: Duration,
    /// The fetch, until what it brought is on the disk.
    pub(crate) synced: Duration,
}

fn failed(e: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("{e:#}")
}

async fn endpoint() -> Result<Endpoint> {
    let builder = Endpoint::builder(presets::Minimal).relay_mode(RelayMode::Disabled);
    builder.clear_ip_transports().bind_addr("127.0.0.1:0")?.bind().await.map_err(failed)
}

/// Imports a file at one end and fetches it at the other.
pub(crate) async fn run(dir: &Path, file: &Path) -> Result<Took> {
    let from = FsStore::load(dir.join("floor-1")).await.map_err(failed)?;
    let to = FsStore::load(dir.join("floor-2")).await.map_err(failed)?;
    let began = Instant::now();
    let tag = from.blobs().add_path(file).await?;
    let import = began.elapsed();
    let (one, two) = (endpoint().await?, endpoint().await?);
    let router = Router::builder(one.clone()).accept(ALPN, BlobsProtocol::new(&from, None)).spawn();
    let mut addr = EndpointAddr::new(one.id());
    for socket in one.bound_sockets() {
        addr = addr.with_ip_addr(socket);
    }
    let began = Instant::now();
    let connection = two.connect(addr, ALPN).await.map_err(failed)?;
    let fetched = to.remote().fetch(connection, tag.hash_and_format()).complete().await;
    fetched.map_err(failed)?;
    let fetch = began.elapsed();
    for entry in std::fs::read_dir(dir.join("floor-2/data"))? {
        std::fs::File::open(entry?.path())?.sync_all()?;
    }
    to.sync_db().await?;
    let synced = began.elapsed();
    router.shutdown().await.map_err(failed)?;
    two.close().await;
    to.shutdown().await?;
    Ok(Took { import, fetch, synced })
}
