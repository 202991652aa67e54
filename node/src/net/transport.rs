//! How bytes travel: QUIC, and TCP with Noise and Yamux, under one DNS resolver.

use std::fmt;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv6Addr, TcpListener, UdpSocket};
use std::time::Duration;

use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, OrTransport};
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId, Transport, dns, noise, quic, relay, tcp, yamux};

use super::NetError;

/// A transport that yields authenticated, multiplexed connections.
pub(super) type Secured = Boxed<(PeerId, StreamMuxerBox)>;

/// Two may be lost before the connection counts as lost. It also keeps address mappings
/// alive in routers, which forget UDP after 30 s or more.
const QUIC_KEEP_ALIVE: Duration = Duration::from_secs(3);

/// Milliseconds of silence after which a QUIC connection counts as lost. A relay that was
/// killed says no farewell: until this has passed, what is sent to it waits.
const QUIC_IDLE_MS: u32 = 10_000;

/// Time for the handshake, and for opening a connection at all.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Most streams of one connection. A relay needs one per circuit and per long poll.
const MAX_STREAMS: u32 = 256;

fn setup(what: &'static str, why: impl fmt::Display) -> NetError {
    let why = why.to_string();
    NetError::Setup { what, why }
}

fn yamux() -> yamux::Config {
    let mut config = yamux::Config::default();
    config.set_max_num_streams(MAX_STREAMS as usize);
    config
}

/// QUIC and TCP to numeric addresses.
fn numeric(key: &Keypair) -> Result<Secured, NetError> {
    let noise = noise::Config::new(key).map_err(|e| setup("noise", e))?;
    // Port reuse, which hole punching needs, is chosen per dial and on by default.
    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
        .upgrade(Version::V1Lazy)
        .authenticate(noise)
        .multiplex(yamux())
        .timeout(HANDSHAKE)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let mut config = quic::Config::new(key);
    config.handshake_timeout = HANDSHAKE;
    config.max_idle_timeout = QUIC_IDLE_MS;
    config.keep_alive_interval = QUIC_KEEP_ALIVE;
    config.max_concurrent_stream_limit = MAX_STREAMS;
    let quic = quic::tokio::Transport::new(config)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let both = OrTransport::new(quic, tcp);
    Ok(both.map(|either, _| either.into_inner()).boxed())
}

/// Refuses an address whose port another process holds. libp2p shares TCP ports with whoever
/// else does (`SO_REUSEPORT`), so that two nodes on one port would each get some of the
/// connections, and neither a word about it. Whatever else is wrong with an address is told
/// when it is listened on.
pub(super) fn require_free(addr: &Multiaddr) -> Result<(), NetError> {
    let mut parts = addr.iter();
    let ip: IpAddr = match parts.next() {
        Some(Protocol::Ip4(ip)) => ip.into(),
        // All addresses would include those of IPv4 here, but don't for libp2p.
        Some(Protocol::Ip6(ip)) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        Some(Protocol::Ip6(ip)) => ip.into(),
        _ => return Ok(()),
    };
    let (port, tried) = match parts.next() {
        Some(Protocol::Tcp(port)) if port != 0 => (port, TcpListener::bind((ip, port)).map(drop)),
        Some(Protocol::Udp(port)) if port != 0 => (port, UdpSocket::bind((ip, port)).map(drop)),
        _ => return Ok(()),
    };
    match tried {
        Err(e) if e.kind() == ErrorKind::AddrInUse => Err(NetError::PortInUse { port }),
        _ => Ok(()),
    }
}

/// Direct connections.
pub(super) fn direct(key: &Keypair) -> Result<Secured, NetError> {
    // The system's resolver only: there is no fallback to anybody's public one.
    match dns::tokio::Transport::system(numeric(key)?) {
        Ok(named) => Ok(named.boxed()),
        Err(e) => {
            tracing::info!("no resolver, so only numeric addresses work: {e}");
            numeric(key)
        }
    }
}

/// Direct connections, and circuits through relays.
pub(super) fn with_circuits(
    key: &Keypair,
) -> Result<(Secured, relay::client::Behaviour), NetError> {
    let noise = noise::Config::new(key).map_err(|e| setup("noise", e))?;
    let (circuits, behaviour) = relay::client::new(key.public().to_peer_id());
    let circuits = circuits
        .upgrade(Version::V1Lazy)
        .authenticate(noise)
        .multiplex(yamux())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let both = OrTransport::new(circuits, direct(key)?);
    let both = both.map(|either, _| either.into_inner()).boxed();
    Ok((both, behaviour))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_somebody_holds_is_refused() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (t, u) = (tcp.local_addr().unwrap().port(), udp.local_addr().unwrap().port());
        let ask = |addr: String| require_free(&addr.parse().unwrap());
        for addr in [format!("/ip4/127.0.0.1/tcp/{t}"), format!("/ip4/0.0.0.0/tcp/{t}")] {
            assert!(matches!(ask(addr), Err(NetError::PortInUse { port }) if port == t));
        }
        let quic = format!("/ip4/0.0.0.0/udp/{u}/quic-v1");
        assert!(matches!(ask(quic.clone()), Err(NetError::PortInUse { port }) if port == u));
        ask("/ip4/0.0.0.0/tcp/0".into()).unwrap();
        drop((tcp, udp));
        ask(format!("/ip4/0.0.0.0/tcp/{t}")).unwrap();
        ask(quic).unwrap();
    }
}
