//! Who is given what: one blob per request, only what the policy names, never a list, never
//! a word about anything else, and nothing is taken (iroh-blobs' push, observe and many-at-
//! once requests are refused like a hash that isn't here).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use iroh::endpoint::{Connection, Endpoint, Incoming, RecvStream, SendStream, VarInt};
use iroh_blobs::protocol::{ERR_INTERNAL, ERR_LIMIT, Request};
use iroh_blobs::provider::events::EventSender;
use iroh_blobs::provider::{StreamPair, handle_get};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::store::Disk;
use super::{Limits, ServePolicy};

/// Time for a handshake, and for a request to be said.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection on which nothing is asked for this long is closed.
const IDLE: Duration = Duration::from_mins(1);

/// Longest that one answer may take. Whoever is slower asks again for the rest.
const ANSWER: Duration = Duration::from_hours(1);

pub(super) struct Serving {
    store: Arc<Disk>,
    policy: ServePolicy,
    connections: Arc<Semaphore>,
    each: usize,
    streams: usize,
    of: Mutex<BTreeMap<[u8; 32], usize>>,
}

impl Serving {
    pub(super) fn new(store: Arc<Disk>, policy: ServePolicy, limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            store,
            policy,
            connections: Arc::new(Semaphore::new(limits.connections)),
            each: limits.connections_each,
            streams: limits.streams,
            of: Mutex::default(),
        })
    }

    /// Requests of one connection at a time.
    pub(super) const fn streams(&self) -> usize {
        self.streams
    }

    /// Serves until told to stop, or until the endpoint has closed.
    pub(super) async fn run(self: Arc<Self>, endpoint: Endpoint, stop: CancellationToken) {
        let tasks = TaskTracker::new();
        while let Some(Some(incoming)) = stop.run_until_cancelled(endpoint.accept()).await {
            // Refused at once rather than queued: the other side tries another provider.
            let Ok(room) = Arc::clone(&self.connections).try_acquire_owned() else {
                incoming.refuse();
                continue;
            };
            let (serving, stop) = (Arc::clone(&self), stop.clone());
            tasks.spawn(async move {
                stop.run_until_cancelled(serving.incoming(incoming)).await;
                drop(room);
            });
        }
        tasks.close();
        tasks.wait().await;
    }

    async fn incoming(self: Arc<Self>, incoming: Incoming) {
        let Ok(accepting) = incoming.accept() else { return };
        let Ok(Ok(connection)) = timeout(PATIENCE, accepting).await else { return };
        let Some(_place) = Place::take(&self, *connection.remote_id().as_bytes()) else {
            connection.close(ERR_LIMIT, b"limit");
            return;
        };
        self.connection(&connection).await;
        connection.close(VarInt::from_u32(0), b"");
    }

    async fn connection(self: &Arc<Self>, connection: &Connection) {
        let id = connection.stable_id() as u64;
        let tasks = TaskTracker::new();
        let room = Arc::new(Semaphore::new(self.streams));
        loop {
            let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
            let (send, recv) = match timeout(IDLE, connection.accept_bi()).await {
                Ok(Ok(pair)) => pair,
                Ok(Err(_)) => break,
                Err(_) if tasks.is_empty() => break,
                Err(_) => continue,
            };
            let serving = Arc::clone(self);
            tasks.spawn(async move {
                serving.request(id, send, recv).await;
                drop(place);
            });
        }
        tasks.close();
        // Answers end with their connection.
        tasks.wait().await;
    }

    async fn request(&self, connection: u64, mut send: SendStream, mut recv: RecvStream) {
        let asked = timeout(PATIENCE, Request::read_async(&mut recv)).await;
        let served = match asked {
            Ok(Ok((Request::Get(get), _)))
                if get.ranges.is_blob() && (self.policy)(get.hash.as_bytes()) =>
            {
                self.store.opened().await.ok().map(|opened| (opened, get))
            }
            _ => None,
        };
        let Some((opened, get)) = served else {
            // The very answer that a hash gets which isn't here. It is of no matter if the
            // stream has ended meanwhile.
            let _ = send.reset(ERR_INTERNAL);
            return;
        };
        let pair = StreamPair::new(connection, recv, send, EventSender::DEFAULT);
        let answer = handle_get(pair, (*opened.store).clone(), get);
        match timeout(ANSWER, answer).await {
            Ok(Ok(())) => {}
            Ok(Err(e)) => tracing::debug!("an answer ended early: {e:#}"),
            Err(_) => tracing::debug!("an answer took too long"),
        }
    }
}

/// A device's place among the connections.
struct Place {
    serving: Arc<Serving>,
    device: [u8; 32],
}

impl Place {
    fn take(serving: &Arc<Serving>, device: [u8; 32]) -> Option<Self> {
        let mut of = serving.of.lock().unwrap_or_else(PoisonError::into_inner);
        let count = of.entry(device).or_default();
        if *count >= serving.each {
            return None;
        }
        *count += 1;
        drop(of);
        Some(Self { serving: Arc::clone(serving), device })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut of = self.serving.of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = of.get_mut(&self.device) {
            *count -= 1;
            if *count == 0 {
                of.remove(&self.device);
            }
        }
    }
}
