//! The content relay inside the relay role: an iroh relay, over which devices that can't
//! reach each other exchange sealed content (see [`crate::blobs`]).
//!
//! It is plain HTTP: what passes is end-to-end encrypted QUIC between devices that prove
//! their keys, and devices prove theirs to the relay, too. It listens one TCP port above the
//! mailbox, unless told otherwise, and invites name it as one more address that ends in
//! `/http`. Where it can't listen the relay does its other work without it.
//!
//! It serves whoever has its address, within limits: it can't know who is a member, for
//! devices use the mailbox under throw-away names.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};

use iroh::EndpointId;
use iroh_relay::server::{
    Access, AccessControl, ClientRateLimit, ClientRequest, ConnectionId, Limits, RelayConfig,
    Server, ServerConfig,
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Devices connected at a time.
const CLIENTS: usize = 2_000;

/// Connections of one device at a time. A device that comes back from elsewhere has two for
/// a moment.
const CLIENTS_EACH: usize = 3;

/// Bytes per second that are taken from one device.
const RATE: u32 = 4 << 20;

/// Bytes that are taken from one device at once.
const BURST: u32 = 16 << 20;

/// A content relay that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct ContentRelay {
    addr: SocketAddr,
    _stop: DropGuard,
}

impl ContentRelay {
    /// Listens and serves. Port 0 is any.
    pub(crate) async fn start(at: SocketAddr) -> Result<Self, String> {
        let mut limits = Limits::default();
        let mut rate = ClientRateLimit::new(NonZeroU32::new(RATE).unwrap_or(NonZeroU32::MAX));
        rate.max_burst_bytes = NonZeroU32::new(BURST);
        limits.client_rx = Some(rate);
        let mut relay = RelayConfig::new(at);
        relay.limits = limits;
        relay.access = Arc::new(Door::default());
        let mut config = ServerConfig::default();
        config.relay = Some(relay);
        let server = Server::spawn(config).await.map_err(|e| format!("{e:#}"))?;
        let addr = server.http_addr().ok_or("it listens nowhere")?;
        let stop = CancellationToken::new();
        let told = stop.clone();
        tokio::spawn(async move {
            told.cancelled().await;
            if let Err(e) = server.shutdown().await {
                tracing::warn!("the content relay did not end well: {e:#}");
            }
        });
        Ok(Self { addr, _stop: stop.drop_guard() })
    }

    /// Where it listens.
    pub(crate) const fn addr(&self) -> SocketAddr {
        self.addr
    }
}

/// Counts who is in.
#[derive(Debug, Default)]
struct Door(Mutex<BTreeMap<EndpointId, usize>>);

impl Door {
    fn enter(&self, id: EndpointId) -> Result<(), &'static str> {
        let mut inside = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if inside.values().sum::<usize>() >= CLIENTS {
            return Err("the relay is full");
        }
        let own = inside.entry(id).or_default();
        if *own >= CLIENTS_EACH {
            return Err("too many connections of this device");
        }
        *own += 1;
        Ok(())
    }
}

impl AccessControl for Door {
    async fn on_connect(&self, request: &ClientRequest) -> Access {
        match self.enter(request.endpoint_id()) {
            Ok(()) => Access::Allow,
            Err(why) => Access::Deny { reason: Some(why.to_owned()) },
        }
    }

    fn on_disconnect(&self, id: EndpointId, _: ConnectionId) {
        let mut inside = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = inside.get_mut(&id) {
            *own -= 1;
            if *own == 0 {
                inside.remove(&id);
            }
        }
    }
}

/// Where to listen, from what the mailbox was told to listen on: the same interfaces, `port`
/// or one port above the mailbox's TCP port (port 0 stays 0). The first that fits wins; all
/// IPv6 interfaces are all IPv4 ones, too. `None` where no TCP address is among them, or
/// `port` is 0.
pub(crate) fn listen(addrs: &[String], port: Option<u16>) -> Option<SocketAddr> {
    use libp2p::multiaddr::Protocol;
    let mut found: Option<SocketAddr> = None;
    for addr in addrs.iter().filter_map(|a| a.parse::<libp2p::Multiaddr>().ok()) {
        let mut parts = addr.iter();
        let ip: IpAddr = match parts.next() {
            Some(Protocol::Ip4(ip)) => ip.into(),
            Some(Protocol::Ip6(ip)) => ip.into(),
            _ => continue,
        };
        let Some(Protocol::Tcp(own)) = parts.next() else { continue };
        let port = match (port, own) {
            (Some(0), _) => return None,
            (Some(port), _) => port,
            (None, 0) => 0,
            (None, own) => own.checked_add(1)?,
        };
        let wider = |f: &SocketAddr| ip.is_unspecified() && ip.is_ipv6() && f.ip().is_unspecified();
        if found.as_ref().is_none_or(wider) {
            found = Some(SocketAddr::new(ip, port));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use zeroize::Zeroizing;

    use super::*;
    use crate::blobs::{Blobs, BlobsConfig, BlobsError, Limits, Listen, RelayUrl, relay_urls};

    #[test]
    fn it_listens_beside_the_mailbox() {
        let at = |addrs: &[&str], port| {
            let addrs: Vec<String> = addrs.iter().map(ToString::to_string).collect();
            listen(&addrs, port).map(|a| a.to_string())
        };
        let all = ["/ip4/0.0.0.0/udp/4747/quic-v1", "/ip4/0.0.0.0/tcp/4747", "/ip6/::/tcp/4747"];
        assert_eq!(at(&all, None).as_deref(), Some("[::]:4748"));
        assert_eq!(at(&all[..2], None).as_deref(), Some("0.0.0.0:4748"));
        assert_eq!(at(&all, Some(80)).as_deref(), Some("[::]:80"));
        assert_eq!(at(&all, Some(0)), None);
        assert_eq!(at(&all[..1], None), None);
        assert_eq!(at(&["/ip4/127.0.0.1/tcp/0"], None).as_deref(), Some("127.0.0.1:0"));
        assert_eq!(at(&["/ip4/127.0.0.1/tcp/65535"], None), None);
    }

    #[test]
    fn the_door_counts() {
        let door = Door::default();
        let id = iroh::SecretKey::generate().public();
        for _ in 0..CLIENTS_EACH {
            door.enter(id).unwrap();
        }
        assert!(door.enter(id).is_err());
        door.enter(iroh::SecretKey::generate().public()).unwrap();
        let connection = |_: usize| {
            door.0.lock().unwrap().entry(id).and_modify(|n| *n -= 1);
        };
        connection(0);
        door.enter(id).unwrap();
    }

    fn device(dir: &std::path::Path, relays: Vec<RelayUrl>) -> Blobs {
        let mut secret = Zeroizing::new([0; 32]);
        getrandom::fill(&mut secret[..]).unwrap();
        Blobs::open(BlobsConfig {
            dir: dir.to_owned(),
            secret,
            listen: Listen::RelaysOnly,
            relays,
            serves: Arc::new(|_| true),
            limits: Limits { connect: Duration::from_secs(5), ..Limits::default() },
        })
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn content_passes_through_the_relay_where_no_address_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let relay = super::super::relay::tests::started(&dir.path().join("relay"));
        let url = tokio::time::timeout(Duration::from_secs(20), async {
            loop {
                let addrs = relay.handle().status().addrs;
                if let Some(url) = relay_urls(addrs.iter().map(String::as_str)).pop() {
                    assert!(addrs.len() > 1, "the mailbox is named, too: {addrs:?}");
                    return url;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let url = url.await.unwrap();
        let one = device(&dir.path().join("1"), vec![url.clone()]);
        // The second learns of the relay while it runs.
        let two = device(&dir.path().join("2"), Vec::new());
        two.start().await.unwrap();
        let plain: Vec<u8> = (0..2_000_000_u32).map(|n| (n % 253) as u8).collect();
        let content = one.import_bytes(plain.clone()).await.unwrap().content;
        let addr = one.addr().await.unwrap();
        assert!(addr.addrs.is_empty(), "{addr:?}");
        assert_eq!(addr.relay, Some(url.clone()));
        two.set_relays(vec![url]).await;
        let size = content.sealed_size().unwrap();
        two.fetch(content.hash, size, vec![addr.clone()]).unwrap().finish().await.unwrap();
        assert_eq!(two.read_plain(&content, 1 << 30).await.unwrap(), plain);

        // The relay was the way: without it there is none.
        tokio::task::block_in_place(|| relay.shutdown());
        let other = one.import_bytes(plain).await.unwrap().content;
        let cut = two.fetch(other.hash, size, vec![addr]).unwrap().finish().await;
        assert!(matches!(cut, Err(BlobsError::Failed(_))), "{cut:?}");
        one.close().await;
        two.close().await;
    }
}
