//! Real stores and real endpoints on loopback.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use iroh::Endpoint;
use iroh::endpoint::presets;
use zeroize::Zeroizing;

use super::*;

mod basics;
mod collect;
mod hostile;
mod transfer;

/// What a node serves, shared with the test.
type Served = Arc<Mutex<BTreeSet<ContentHash>>>;

struct Tester {
    blobs: Blobs,
    served: Served,
}

fn key() -> [u8; 32] {
    let mut key = [0; 32];
    getrandom::fill(&mut key).unwrap();
    key
}

fn config(dir: &Path, secret: [u8; 32]) -> (BlobsConfig, Served) {
    let served = Served::default();
    let asks = Arc::clone(&served);
    let config = BlobsConfig {
        dir: dir.to_owned(),
        secret: Zeroizing::new(secret),
        listen: Listen::At(vec!["127.0.0.1:0".parse().unwrap()]),
        relays: Vec::new(),
        serves: Arc::new(move |hash| asks.lock().unwrap().contains(hash)),
        limits: Limits {
            connect: Duration::from_secs(2),
            grace: Duration::ZERO,
            ..Limits::default()
        },
    };
    (config, served)
}

fn tester(dir: &Path) -> Tester {
    let (config, served) = config(dir, key());
    Tester { blobs: Blobs::open(config), served }
}

impl Tester {
    /// Imports and serves.
    async fn offer(&self, bytes: Vec<u8>) -> Imported {
        let imported = self.blobs.import_bytes(bytes).await.unwrap();
        self.served.lock().unwrap().insert(imported.content.hash);
        imported
    }

    async fn get(&self, content: &ContentRef, from: &[&Self]) -> Result<Held, BlobsError> {
        let mut providers = Vec::new();
        for tester in from {
            providers.push(tester.blobs.addr().await.unwrap());
        }
        let size = content.sealed_size().unwrap();
        self.blobs.fetch(content.hash, size, providers)?.finish().await
    }
}

/// Bytes that look random, the same for the same seed.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(len);
    out
}

/// Bytes of all files below.
fn usage(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let size = |e: std::fs::DirEntry| {
        let meta = e.metadata().unwrap();
        if meta.is_dir() { usage(&e.path()) } else { meta.len() }
    };
    entries.flatten().map(size).sum()
}

fn files(dir: &Path) -> usize {
    std::fs::read_dir(dir).map_or(0, Iterator::count)
}

/// A bare endpoint, for peers that don't behave.
async fn bare() -> (Endpoint, Provider) {
    let endpoint = Endpoint::builder(presets::Minimal)
        .alpns(vec![iroh_blobs::ALPN.to_vec()])
        .relay_mode(iroh::RelayMode::Disabled)
        .clear_ip_transports()
        .bind_addr("127.0.0.1:0")
        .unwrap()
        .bind()
        .await
        .unwrap();
    let addrs = endpoint.bound_sockets();
    let provider = Provider { device: *endpoint.id().as_bytes(), addrs, relay: None };
    (endpoint, provider)
}
