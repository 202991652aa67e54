//! A community's relay: the sealed mailbox and the circuit relay in one process, with the
//! operator's local API.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use libp2p::Multiaddr;
use libp2p::identity::Keypair;
use serde::{Deserialize, Serialize};
use teahouse_core::relay::{Relay, RelayConfig, RelayStatus};
use teahouse_core::store::{Store, StoreOptions};
use teahouse_protocols::account::RelayAddr;
use teahouse_protocols::card::LinkSecret;
use teahouse_protocols::codec::{Bytes, List, Text};
use teahouse_protocols::ids::RelayId;
use teahouse_protocols::link::{self, Link, RelayInvite};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::relay_content::{self, ContentRelay};
use super::relay_driver::{Ask, Driver};
use super::{RunError, announce, told_to_stop};
use crate::api::Serves;
use crate::blobs::{relay_addr, relay_urls};
use crate::config::{self, ConfigError, RelayFile, Role};
use crate::handle::Health;
use crate::metrics::Metrics;
use crate::net::{self, NetConfig, NetError, NetRole, RelayLimits};
use crate::runtime::{StartError, Stop, best_first, os_env};

/// The port a relay listens on, unless told otherwise.
pub const PORT: u16 = 4747;

/// Requests of the operator waiting at most.
const ASKS: usize = 16;

/// Addresses in an invite link.
const INVITE_ADDRS: usize = 4;

/// How to start a relay.
#[derive(Debug, Clone)]
pub struct RelayOptions {
    /// The data folder, created if need be.
    pub data: PathBuf,
    /// How the database is opened.
    pub store: StoreOptions,
    /// Multiaddresses to listen on; `None` to work on the folder alone.
    pub listen: Option<Vec<String>>,
    /// Name, public addresses and quotas.
    pub settings: RelayFile,
}

/// A running relay. Stops when dropped.
pub struct RelayNode {
    handle: RelayHandle,
    stop: Stop,
    // Ends the content relay.
    _content: DropGuard,
}

/// Why a relay did not do what its operator asked.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// Too many requests wait, or the relay has stopped.
    #[error("the relay is busy or has stopped")]
    Stopped,
    /// It could not be made durable.
    #[error("not stored: {0}")]
    NotStored(String),
    /// The request itself is wrong; why, as a sentence.
    #[error("{0}")]
    Invalid(String),
}

/// The operator's handle.
#[derive(Clone)]
pub struct RelayHandle {
    asks: mpsc::Sender<Ask>,
    shared: Arc<RelayShared>,
}

/// What the relay's thread and the handles share.
pub(crate) struct RelayShared {
    pub(crate) id: RelayId,
    pub(crate) settings: RelayFile,
    pub(crate) listen: ArcSwap<Vec<String>>,
    /// Where the content relay listens, once it does.
    pub(crate) content: OnceLock<SocketAddr>,
    pub(crate) status: ArcSwap<RelayStatus>,
    pub(crate) health: ArcSwap<Health>,
    pub(crate) metrics: Metrics,
    pub(crate) ended: CancellationToken,
}

/// A relay's present state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayView {
    /// The relay.
    pub relay: RelayId,
    /// The community's name.
    pub name: String,
    /// Whether it has a network at all.
    pub online: bool,
    /// Addresses listened on.
    pub listen: Vec<String>,
    /// Addresses that invite links name.
    pub addrs: Vec<String>,
    /// Days that deposits are kept.
    pub keep_days: u16,
    /// Most bytes stored altogether.
    pub max_bytes: u64,
    /// Whether it does its work.
    pub health: Health,
    /// What it holds and did.
    pub mailbox: RelayStatus,
}

impl RelayNode {
    /// Opens the folder and starts. With a network it must be called within a tokio runtime,
    /// which has to outlive the relay.
    pub fn start(options: RelayOptions) -> Result<Self, StartError> {
        let RelayOptions { data, store, listen, settings } = options;
        config::prepare(&data, Role::Relay)?;
        let secret = config::relay_secret(&data)?;
        let store = Store::open(&data, store)?;
        config::save_relay_file(&data, &settings)?;

        let id = relay_id(&secret)?;
        let mut env = os_env()?;
        let quotas = RelayConfig {
            name: settings.name.clone(),
            keep_days: settings.keep_days,
            max_bytes: settings.max_bytes,
            tag_bytes: settings.tag_bytes,
        };
        let relay = Relay::open(store, id, quotas, &mut env).map_err(ConfigError::Storage)?;
        let content =
            listen.as_deref().and_then(|addrs| relay_content::listen(addrs, settings.content_port));
        let net = match listen {
            None => None,
            Some(listen) => {
                let own = |a: &&String| relay_urls([a.as_str()]).is_empty();
                let external = settings.public_addrs.iter().filter(own).cloned().collect();
                let role = NetRole::Relay(RelayLimits { external, ..RelayLimits::default() });
                Some(net::start(NetConfig { secret, listen, mdns: false, role })?)
            }
        };
        let shared = Arc::new(RelayShared {
            id,
            settings,
            listen: ArcSwap::default(),
            content: OnceLock::new(),
            status: ArcSwap::from_pointee(relay.status()),
            health: ArcSwap::from_pointee(Health::Good),
            metrics: Metrics::default(),
            ended: CancellationToken::new(),
        });
        let stopped = CancellationToken::new();
        if let Some(at) = content {
            tokio::spawn(relay_for_content(at, Arc::clone(&shared), stopped.clone()));
        }
        let (asks, waiting) = mpsc::channel(ASKS);
        let handle = RelayHandle { asks, shared: Arc::clone(&shared) };
        let stop = Stop::new("teahouse-relay", |flag| {
            let driver = Driver::new(relay, env, shared, waiting, net, flag);
            move || driver.run()
        })?;
        Ok(Self { handle, stop, _content: stopped.drop_guard() })
    }

    /// The operator's handle.
    pub const fn handle(&self) -> &RelayHandle {
        &self.handle
    }

    /// Finishes what waits, closes the network and the database. Blocks for up to a few
    /// seconds.
    pub fn shutdown(mut self) {
        self.stop.stop();
    }
}

impl RelayHandle {
    /// An invite link: `uses` newcomers within `days` days. `greeter` is the contact card of
    /// somebody who welcomes them.
    pub async fn invite(
        &self,
        uses: u32,
        days: u32,
        greeter: Option<&str>,
    ) -> Result<String, RelayError> {
        let invalid = |why: &str| RelayError::Invalid(why.to_owned());
        if uses == 0 || days == 0 {
            return Err(invalid("an invite needs at least one use and one day"));
        }
        let greeter = match greeter.map(Link::parse) {
            None => None,
            Some(Ok(Link::Card(card))) => {
                let bytes = Bytes::try_from(card.bytes().to_vec());
                Some(bytes.map_err(|_| invalid("the greeter's card is too long for an invite"))?)
            }
            Some(Ok(_)) => return Err(invalid("the greeter's link must be a contact card")),
            Some(Err(e)) => return Err(RelayError::Invalid(format!("the greeter's card: {e}"))),
        };
        let community = Text::try_from(self.shared.settings.name.clone())
            .map_err(|_| invalid("the community's name is longer than 64 bytes"))?;
        let addrs: Vec<Text<128>> =
            self.addrs().into_iter().filter_map(|a| Text::try_from(a).ok()).collect();
        if addrs.is_empty() {
            return Err(invalid(
                "no address of this relay is known: start it, or give it --public-addr once",
            ));
        }
        let addrs = List::try_from(addrs).map_err(|_| invalid("too many addresses"))?;
        let (reply, code) = oneshot::channel();
        self.ask(Ask::Invite { uses, days, reply })?;
        let code = code.await.map_err(|_| RelayError::Stopped)??;
        let relay = RelayAddr { id: self.shared.id, addrs };
        let code = LinkSecret(code);
        let version = link::VERSION;
        Ok(Link::RelayInvite(RelayInvite { version, relay, code, greeter, community }).to_uri())
    }

    /// Take no new deposits and newcomers, or do so again; what is stored can be fetched.
    pub async fn drain(&self, on: bool) -> Result<(), RelayError> {
        let (reply, done) = oneshot::channel();
        self.ask(Ask::Drain { on, reply })?;
        done.await.map_err(|_| RelayError::Stopped)?
    }

    fn ask(&self, ask: Ask) -> Result<(), RelayError> {
        self.asks.try_send(ask).map_err(|_| RelayError::Stopped)
    }

    /// The present state.
    pub fn status(&self) -> RelayView {
        let RelayShared { id, settings, listen, status, health, .. } = &*self.shared;
        RelayView {
            relay: *id,
            name: settings.name.clone(),
            online: !listen.load().is_empty(),
            listen: listen.load().to_vec(),
            addrs: self.addrs(),
            keep_days: settings.keep_days,
            max_bytes: settings.max_bytes,
            health: Health::clone(&health.load()),
            mailbox: **status.load(),
        }
    }

    /// The addresses that an invite names: the public ones, else those listened on, the
    /// loopback ones last.
    fn addrs(&self) -> Vec<String> {
        let public = &self.shared.settings.public_addrs;
        let mut addrs = if public.is_empty() {
            best_first(&**self.shared.listen.load())
        } else {
            public.clone()
        };
        addrs.truncate(INVITE_ADDRS);
        // The content relay is at the best of them, unless the operator named it himself.
        if let Some(at) = self.shared.content.get()
            && relay_urls(public.iter().map(String::as_str)).is_empty()
            && let Some(content) = addrs.iter().find_map(|a| relay_addr(a, at.port()))
        {
            addrs.truncate(INVITE_ADDRS - 1);
            addrs.push(content);
        }
        addrs
    }

    /// Prometheus metrics.
    pub fn metrics(&self) -> String {
        self.shared.metrics.text()
    }

    /// Waits until the relay has stopped, however it came to that.
    pub async fn stopped(&self) {
        self.shared.ended.cancelled().await;
    }
}

/// Runs the content relay until told to stop.
async fn relay_for_content(at: SocketAddr, shared: Arc<RelayShared>, stop: CancellationToken) {
    match ContentRelay::start(at).await {
        Ok(relay) => {
            // It is started once: nobody else has set it.
            let _ = shared.content.set(relay.addr());
            stop.cancelled().await;
        }
        Err(why) => tracing::warn!("no content relay at {at}: {why}"),
    }
}

/// The relay's name: the public half of its key.
fn relay_id(secret: &[u8; 32]) -> Result<RelayId, NetError> {
    let key = Keypair::ed25519_from_bytes(*secret).map_err(|_| NetError::Key)?;
    let key = key.try_into_ed25519().map_err(|_| NetError::Key)?;
    Ok(RelayId(key.public().to_bytes()))
}

/// What was given as an address is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("“{0}” is no host name, IP address or multiaddress")]
pub struct NoAddress(String);

/// Multiaddresses for what an operator calls an address: a multiaddress as it is; a host
/// name or IP address, with or without a port, as QUIC and TCP there.
///
/// # Errors
/// [`NoAddress`] where it is none of these. Whether the name can be resolved is not asked.
pub fn public_addrs(text: &str, port: u16) -> Result<Vec<String>, NoAddress> {
    use std::net::{IpAddr, SocketAddr};
    let no_address = || NoAddress(text.to_owned());
    if text.starts_with('/') {
        text.parse::<Multiaddr>().map_err(|_| no_address())?;
        return Ok(vec![text.to_owned()]);
    }
    let ip = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => format!("/ip4/{ip}"),
        IpAddr::V6(ip) => format!("/ip6/{ip}"),
    };
    let (host, port) = if let Ok(addr) = text.parse::<SocketAddr>() {
        (ip(addr.ip()), addr.port())
    } else if let Ok(addr) = text.parse::<IpAddr>() {
        (ip(addr), port)
    } else {
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) => (name, port.parse().map_err(|_| no_address())?),
            None => (text, port),
        };
        if !is_host_name(name) {
            return Err(no_address());
        }
        (format!("/dns/{name}"), port)
    };
    Ok(vec![format!("{host}/udp/{port}/quic-v1"), format!("{host}/tcp/{port}")])
}

/// Labels of letters, digits and hyphens (RFC 1123, section 2.1), of any script.
fn is_host_name(name: &str) -> bool {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_')
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    name.len() <= 253 && name.split('.').all(label)
}

/// Runs until told to stop. `ready` is called once the API answers, with its port.
pub async fn run(
    options: RelayOptions,
    api_port: u16,
    ready: impl FnOnce(&RelayNode, u16),
) -> Result<(), RunError> {
    let data = options.data.clone();
    let relay = RelayNode::start(options)?;
    let serves = Serves::Relay(relay.handle().clone());
    let api = announce(&data, Role::Relay, &serves, api_port).await?;
    ready(&relay, api.port());
    let by_itself = tokio::select! {
        () = told_to_stop() => false,
        () = relay.handle().stopped() => true,
    };
    config::remove_api_file(&data);
    api.stop().await;
    tokio::task::block_in_place(|| relay.shutdown());
    if by_itself { Err(RunError::Ended) } else { Ok(()) }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A relay on loopback.
    pub(in crate::roles) fn started(dir: &std::path::Path) -> RelayNode {
        RelayNode::start(RelayOptions {
            data: dir.to_owned(),
            store: StoreOptions::default(),
            listen: Some(vec!["/ip4/127.0.0.1/tcp/0".into()]),
            settings: RelayFile::default(),
        })
        .unwrap()
    }

    #[test]
    fn operators_write_addresses_as_they_like() {
        let all = |t| public_addrs(t, 4747).unwrap();
        assert_eq!(all("/dns/tea.example/tcp/1"), ["/dns/tea.example/tcp/1"]);
        let tea = ["/dns/tea.example/udp/4747/quic-v1", "/dns/tea.example/tcp/4747"];
        assert_eq!(all("tea.example"), tea);
        assert_eq!(all("tea.example:9")[1], "/dns/tea.example/tcp/9");
        assert_eq!(all("192.0.2.1")[1], "/ip4/192.0.2.1/tcp/4747");
        assert_eq!(all("192.0.2.1:9")[1], "/ip4/192.0.2.1/tcp/9");
        assert_eq!(all("2001:db8::1")[1], "/ip6/2001:db8::1/tcp/4747");
        assert_eq!(all("[2001:db8::1]:9")[0], "/ip6/2001:db8::1/udp/9/quic-v1");
        for addr in ["tea.example", "192.0.2.1:9", "[2001:db8::1]:9"].map(all).concat() {
            assert!(addr.parse::<libp2p::Multiaddr>().is_ok(), "{addr}");
        }
        for none in
            ["", "not a host!", "a..b", "-tea.example", "tea.example:port", "/dns", "http://x"]
        {
            assert!(public_addrs(none, 4747).is_err(), "{none}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_invite_needs_an_address_and_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let start = |public: &[&str]| {
            let public_addrs = public.iter().map(ToString::to_string).collect();
            let settings =
                RelayFile { name: "老街".into(), public_addrs, ..RelayFile::default() };
            let (data, store) = (dir.path().to_owned(), StoreOptions::default());
            RelayNode::start(RelayOptions { data, store, listen: None, settings }).unwrap()
        };
        let relay = start(&[]);
        assert!(matches!(relay.handle().invite(1, 1, None).await, Err(RelayError::Invalid(_))));
        let id = relay.handle().status().relay;
        relay.shutdown();

        let relay = start(&["/dns/tea.example/tcp/4747"]);
        let link = relay.handle().invite(3, 7, None).await.unwrap();
        let Ok(Link::RelayInvite(invite)) = Link::parse(&link) else { panic!("{link}") };
        assert_eq!(invite.relay.id, id, "the key is kept");
        assert_eq!(invite.community.to_string(), "老街");
        assert_eq!(invite.relay.addrs.len(), 1);

        relay.handle().drain(true).await.unwrap();
        assert!(relay.handle().status().mailbox.draining);
        relay.shutdown();
        let relay = start(&[]);
        assert!(relay.handle().status().mailbox.draining, "draining survives a restart");
    }
}
