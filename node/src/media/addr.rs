//! What devices say of their endpoints for content. The core carries it without looking.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use serde::{Deserialize, Serialize};
use teahouse_core::contents::MAX_ADDR;
use teahouse_protocols::ids::DeviceId;

use crate::blobs::{Listen, MAX_ADDRS, Provider, RelayUrl};

/// Most bytes of a relay's address.
const MAX_RELAY: usize = 300;

/// In postcard. Grows at the end only; what is not known is not used.
#[derive(Debug, Serialize, Deserialize)]
enum Said {
    /// Direct addresses, best first, and a relay's URL.
    Reached { addrs: Vec<SocketAddr>, relay: Option<String> },
}

/// What is said of this device.
pub(super) fn say(own: &Provider) -> Vec<u8> {
    let relay = own.relay.as_ref().map(ToString::to_string);
    let relay = relay.filter(|r| r.len() <= MAX_RELAY);
    let addrs = own.addrs.iter().copied().take(MAX_ADDRS).collect();
    // Far below the bound: eight addresses of at most 24 bytes, and the relay's.
    postcard::to_stdvec(&Said::Reached { addrs, relay }).unwrap_or_default()
}

/// What a device says of itself; `None` where nothing can be made of it. It is reached, with
/// a datagram, at addresses of its choice: whoever is believed here could name them to a
/// direct connection as well.
pub(super) fn read(device: DeviceId, said: &[u8]) -> Option<Provider> {
    if said.len() > MAX_ADDR {
        return None;
    }
    let Said::Reached { mut addrs, relay } = postcard::from_bytes(said).ok()?;
    addrs.retain(|a| a.port() != 0 && !a.ip().is_unspecified() && !a.ip().is_multicast());
    addrs.truncate(MAX_ADDRS);
    let relay = relay.filter(|r| r.len() <= MAX_RELAY && plain(r));
    Some(Provider { device: device.0, addrs, relay: relay.and_then(|r| r.parse().ok()) })
}

/// Whether a URL names a host and a port, and nothing more.
fn plain(url: &str) -> bool {
    url.parse::<RelayUrl>().is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.host_str().is_some_and(|h| !h.is_empty())
            && url.path() == "/"
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
    })
}

/// Where to listen for content, from where the node listens: the same interfaces, on ports
/// of the system's choice.
pub(crate) fn listen(addrs: &[String]) -> Listen {
    let (mut four, mut six): (Option<Ipv4Addr>, Option<Ipv6Addr>) = (None, None);
    for addr in addrs.iter().filter_map(|a| a.parse::<Multiaddr>().ok()) {
        match addr.iter().next() {
            Some(Protocol::Ip4(ip)) => {
                four = Some(four.filter(Ipv4Addr::is_unspecified).unwrap_or(ip));
            }
            Some(Protocol::Ip6(ip)) => {
                six = Some(six.filter(Ipv6Addr::is_unspecified).unwrap_or(ip));
            }
            _ => {}
        }
    }
    let four = four.map(IpAddr::from);
    let all: Vec<_> = four.into_iter().chain(six.map(IpAddr::from)).collect();
    match all.as_slice() {
        [] => Listen::RelaysOnly,
        all if all.iter().all(IpAddr::is_unspecified) && all.len() == 2 => Listen::Everywhere,
        all => Listen::At(all.iter().map(|&ip| SocketAddr::new(ip, 0)).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(addrs: &[&str], relay: Option<&str>) -> Provider {
        let addrs = addrs.iter().map(|a| a.parse().unwrap()).collect();
        Provider { device: [7; 32], addrs, relay: relay.map(|r| r.parse().unwrap()) }
    }

    #[test]
    fn what_is_said_is_understood() {
        let own = provider(&["192.0.2.1:5", "[2001:db8::1]:6"], Some("http://tea.example:4748/"));
        assert_eq!(read(DeviceId([7; 32]), &say(&own)), Some(own));
        let many: Vec<String> = (1..60).map(|n| format!("[2001:db8::{n}]:60000")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let long = format!("https://{}.example:60000/", "a.".repeat(100));
        let said = say(&provider(&many, Some(&long)));
        assert!(said.len() <= MAX_ADDR, "{}", said.len());
        assert_eq!(read(DeviceId([7; 32]), &said).unwrap().addrs.len(), MAX_ADDRS);
    }

    #[test]
    fn strange_words_lead_nowhere() {
        let read = |said: &Said| read(DeviceId([7; 32]), &postcard::to_stdvec(said).unwrap());
        let at = |addrs: &[&str], relay: &str| Said::Reached {
            addrs: addrs.iter().map(|a| a.parse().unwrap()).collect(),
            relay: Some(relay.into()),
        };
        let none = ["0.0.0.0:5", "[::]:5", "224.0.0.1:5", "192.0.2.1:0"];
        for relay in [
            "ftp://tea.example/",
            "http://me@tea.example/",
            "http://tea.example/path",
            "http://tea.example/?q",
            "not a url",
            &format!("http://{}.example/", "a".repeat(400)),
        ] {
            let got = read(&at(&none, relay)).unwrap();
            assert_eq!((got.addrs.len(), got.relay), (0, None), "{relay}");
        }
        for bytes in [&[][..], &[9], &[0, 255, 255, 255, 255, 15], &[0; 4096]] {
            assert!(super::read(DeviceId([7; 32]), bytes).is_none_or(|p| p.addrs.is_empty()));
        }
    }

    #[test]
    fn content_listens_where_the_node_does() {
        let at = |addrs: &[&str]| {
            let addrs: Vec<String> = addrs.iter().map(ToString::to_string).collect();
            listen(&addrs)
        };
        let only = |addr: &str| Listen::At(vec![addr.parse().unwrap()]);
        let (four, six) = ("/ip4/0.0.0.0/udp/4747/quic-v1", "/ip6/::/tcp/4747");
        assert_eq!(at(&[four, six]), Listen::Everywhere);
        assert_eq!(at(&[four]), only("0.0.0.0:0"));
        assert_eq!(
            at(&["/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0"]),
            only("127.0.0.1:0")
        );
        assert_eq!(at(&["/ip4/127.0.0.1/tcp/0", four]), only("0.0.0.0:0"));
        assert_eq!(at(&[]), Listen::RelaysOnly);
    }
}
