//! The endpoint: made at its first use, with the device's own key, and made anew when it has
//! closed or is wedged. One key never has two endpoints in one process.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use iroh::dns::DnsResolver;
use iroh::endpoint::{QuicTransportConfig, RelayStatus, VarInt, presets};
use iroh::{
    Endpoint, EndpointAddr, NetReportConfig, PublicKey, RelayConfig, RelayMap, RelayMode, RelayUrl,
    SecretKey, TransportAddr, Watcher,
};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::serve::Serving;
use super::{BlobsError, Listen, MAX_ADDRS, Provider};

/// Devices whose addresses are remembered.
const KNOWN: usize = 1_024;

/// How long [`Net::addr`] waits for addresses.
const ADDRS: Duration = Duration::from_secs(3);

/// How long an endpoint may take to say farewell.
const FAREWELL: Duration = Duration::from_secs(5);

/// How often the endpoint is looked after.
const LOOK: Duration = Duration::from_secs(30);

/// Without a relay for this long, though one can be reached, the endpoint is wedged.
const WEDGED: Duration = Duration::from_mins(2);

/// A connection without a sign of life for this long is over.
const QUIC_IDLE_MS: u32 = 15_000;

/// Keys of the endpoints that live in this process.
static LIVE: Mutex<BTreeSet<[u8; 32]>> = Mutex::new(BTreeSet::new());

/// The right to have an endpoint with one key.
struct OneKey([u8; 32]);

impl OneKey {
    fn take(public: [u8; 32]) -> Result<Self, BlobsError> {
        let mut live = LIVE.lock().unwrap_or_else(PoisonError::into_inner);
        if live.insert(public) { Ok(Self(public)) } else { Err(BlobsError::KeyInUse) }
    }
}

impl Drop for OneKey {
    fn drop(&mut self) {
        LIVE.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

pub(super) struct Net {
    key: SecretKey,
    listen: Listen,
    serving: Arc<Serving>,
    running: tokio::sync::Mutex<Option<Running>>,
    state: Mutex<State>,
    closed: CancellationToken,
}

struct State {
    relays: Vec<RelayUrl>,
    known: BTreeMap<[u8; 32], Provider>,
    order: VecDeque<[u8; 32]>,
}

struct Running {
    endpoint: Endpoint,
    stop: CancellationToken,
    serving: JoinHandle<()>,
    key: OneKey,
}

impl Running {
    async fn end(self) {
        let Self { endpoint, stop, serving, key } = self;
        stop.cancel();
        if timeout(FAREWELL, endpoint.close()).await.is_err() {
            tracing::debug!("the endpoint for content took too long to close");
        }
        // It can only have been cancelled or have panicked: over either way.
        let _ = serving.await;
        drop(endpoint);
        drop(key);
    }
}

impl Net {
    pub(super) fn new(
        secret: Zeroizing<[u8; 32]>,
        listen: Listen,
        relays: Vec<RelayUrl>,
        serving: Arc<Serving>,
        closed: CancellationToken,
    ) -> Self {
        let state = State { relays, known: BTreeMap::new(), order: VecDeque::new() };
        Self {
            key: SecretKey::from_bytes(&secret),
            listen,
            serving,
            running: tokio::sync::Mutex::default(),
            state: Mutex::new(state),
            closed,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Hints only: nothing here can be half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The device's key.
    pub(super) fn device(&self) -> [u8; 32] {
        *self.key.public().as_bytes()
    }

    /// The endpoint, made if there is none that lives.
    pub(super) async fn endpoint(self: &Arc<Self>) -> Result<Endpoint, BlobsError> {
        let mut running = self.running.lock().await;
        if self.closed.is_cancelled() {
            return Err(BlobsError::Closed);
        }
        if let Some(alive) = running.as_ref().filter(|r| !r.endpoint.is_closed()) {
            return Ok(alive.endpoint.clone());
        }
        if let Some(dead) = running.take() {
            dead.end().await;
        }
        let key = OneKey::take(self.device())?;
        let endpoint = self.bind().await?;
        let stop = self.closed.child_token();
        let serving = tokio::spawn(Arc::clone(&self.serving).run(endpoint.clone(), stop.clone()));
        tokio::spawn(look_after(Arc::downgrade(self), endpoint.clone(), stop.clone()));
        *running = Some(Running { endpoint: endpoint.clone(), stop, serving, key });
        Ok(endpoint)
    }

    async fn bind(&self) -> Result<Endpoint, BlobsError> {
        let failed = |why: String| BlobsError::Network(why);
        // Room for the requests that are served, and one that is refused.
        let streams = VarInt::from_u32(u32::try_from(self.serving.streams() + 1).unwrap_or(16));
        let transport = QuicTransportConfig::builder()
            .max_concurrent_bidi_streams(streams)
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .max_idle_timeout(Some(VarInt::from_u32(QUIC_IDLE_MS).into()))
            .datagram_receive_buffer_size(None)
            .build();
        // The resolver's default falls back to public ones.
        let resolver = DnsResolver::builder().with_system_defaults().disable_fallback().build();
        let relays: RelayMap = self.state().relays.iter().cloned().map(relay).collect();
        // The check asks port 80 of a relay's host, where ours serve nothing.
        let mut report = NetReportConfig::default();
        report.captive_portal_check = false;
        // No lookup at all: whom a fetch names is reached at the addresses it names.
        let mut builder = Endpoint::builder(presets::Minimal)
            .secret_key(self.key.clone())
            .alpns(vec![iroh_blobs::ALPN.to_vec()])
            .relay_mode(RelayMode::Custom(relays))
            .dns_resolver(resolver)
            .net_report_config(report)
            .transport_config(transport);
        match &self.listen {
            Listen::Everywhere => {}
            Listen::RelaysOnly => builder = builder.clear_ip_transports(),
            Listen::At(addrs) => {
                builder = builder.clear_ip_transports();
                for addr in addrs {
                    builder = builder.bind_addr(*addr).map_err(|e| failed(e.to_string()))?;
                }
            }
        }
        builder.bind().await.map_err(|e| failed(format!("{e:#}")))
    }

    pub(super) async fn addr(self: &Arc<Self>) -> Result<Provider, BlobsError> {
        let endpoint = self.endpoint().await?;
        let wants_relay = !self.state().relays.is_empty();
        let wants_addrs = self.listen != Listen::RelaysOnly;
        let enough = |addr: &EndpointAddr| {
            (!wants_relay || addr.relay_urls().next().is_some())
                && (!wants_addrs || addr.ip_addrs().next().is_some())
        };
        let mut watcher = endpoint.watch_addr();
        let mut addr = watcher.get();
        let waited = timeout(ADDRS, async {
            while !enough(&addr) {
                match watcher.updated().await {
                    Ok(newer) => addr = newer,
                    Err(_) => break,
                }
            }
        });
        // What is known by then is what others get.
        let _ = waited.await;
        let relay = addr.relay_urls().next().cloned();
        let mut addrs: Vec<SocketAddr> = addr.ip_addrs().copied().collect();
        addrs.sort_by_key(|a| (a.ip().is_loopback(), a.is_ipv6()));
        addrs.truncate(MAX_ADDRS);
        Ok(Provider { device: self.device(), addrs, relay })
    }

    pub(super) fn learn(&self, provider: Provider) {
        if provider.device == self.device() {
            return;
        }
        let mut state = self.state();
        let device = provider.device;
        if state.known.insert(device, provider).is_some() {
            state.order.retain(|d| *d != device);
        }
        state.order.push_back(device);
        if state.order.len() > KNOWN
            && let Some(oldest) = state.order.pop_front()
        {
            state.known.remove(&oldest);
        }
    }

    /// Where to reach a provider: what it is said to have, and what was learnt where nothing
    /// is said. `None` where that is nothing, or the key is none.
    pub(super) fn whereabouts(&self, provider: &Provider) -> Option<EndpointAddr> {
        let id = PublicKey::from_bytes(&provider.device).ok()?;
        let mut found = provider.clone();
        if found.addrs.is_empty() && found.relay.is_none() {
            found = self.state().known.get(&provider.device)?.clone();
        }
        let addrs = found.addrs.into_iter().take(MAX_ADDRS).map(TransportAddr::Ip);
        let addr = EndpointAddr::from_parts(id, addrs.chain(found.relay.map(TransportAddr::Relay)));
        (!addr.is_empty()).then_some(addr)
    }

    pub(super) async fn set_relays(&self, relays: Vec<RelayUrl>) {
        // Taken first, so that an endpoint that is just being made has the old or the new.
        let running = self.running.lock().await;
        let before = std::mem::replace(&mut self.state().relays, relays.clone());
        let Some(running) = running.as_ref() else { return };
        for gone in before.iter().filter(|url| !relays.contains(url)) {
            running.endpoint.remove_relay(gone).await;
        }
        for fresh in relays.into_iter().filter(|url| !before.contains(url)) {
            running.endpoint.insert_relay(fresh.clone(), Arc::new(relay(fresh))).await;
        }
    }

    pub(super) async fn close(&self) {
        let running = self.running.lock().await.take();
        if let Some(running) = running {
            running.end().await;
        }
    }

    #[cfg(test)]
    pub(super) async fn running(&self) -> bool {
        self.running.lock().await.is_some()
    }
}

/// A relay as ours are: no QUIC address discovery, which they don't serve.
fn relay(url: RelayUrl) -> RelayConfig {
    RelayConfig::new(url, None)
}

/// Waits until the endpoint has closed by itself or is wedged, and has another made: others
/// count on being served. Boxed, for the new endpoint is looked after in the same way.
fn look_after(
    net: Weak<Net>,
    endpoint: Endpoint,
    stop: CancellationToken,
) -> BoxFuture<'static, ()> {
    let look = async move {
        let closed = endpoint.closed();
        tokio::select! {
            () = stop.cancelled() => return,
            () = async { closed.await; } => {
                tracing::warn!("the endpoint for content closed by itself");
            }
            () = wedged(&endpoint) => {
                tracing::warn!("the endpoint for content is cut off from a relay that answers");
            }
        }
        drop(endpoint);
        let Some(net) = net.upgrade() else { return };
        let mut running = net.running.lock().await;
        // Cancelled: somebody else has ended it meanwhile.
        if !stop.is_cancelled()
            && let Some(dead) = running.take()
        {
            dead.end().await;
        }
        drop(running);
        match net.endpoint().await {
            Ok(_) | Err(BlobsError::Closed) => {}
            // The next use tries again.
            Err(e) => tracing::warn!("no new endpoint for content: {e}"),
        }
    };
    look.boxed()
}

/// Waits until the endpoint has been without a relay for [`WEDGED`] though one answers.
async fn wedged(endpoint: &Endpoint) {
    let mut without_since: Option<Instant> = None;
    loop {
        sleep(LOOK).await;
        let relays = endpoint.home_relay_status().get();
        if relays.is_empty() || relays.iter().any(RelayStatus::is_connected) {
            without_since = None;
            continue;
        }
        let since = *without_since.get_or_insert_with(Instant::now);
        if since.elapsed() < WEDGED {
            continue;
        }
        for relay in &relays {
            if answers(relay.url()).await {
                return;
            }
        }
    }
}

/// Whether the relay's host takes a connection.
async fn answers(url: &RelayUrl) -> bool {
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        return false;
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    matches!(timeout(Duration::from_secs(5), TcpStream::connect((host, port))).await, Ok(Ok(_)))
}
