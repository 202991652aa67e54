//! How a relay's advertised addresses name its content relay, without a change of any wire
//! form: among its multiaddresses is one that ends in `/http` or `/https`.
//!
//! ```text
//! /ip4/192.0.2.1/tcp/4748/http       http://192.0.2.1:4748/
//! /dns/tea.example/tcp/443/https     https://tea.example:443/
//! ```
//! No transport of libp2p dials such an address; whoever doesn't know it skips it.

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

use super::RelayUrl;

/// The content relays that are named among a relay's addresses, in their order.
pub fn relay_urls<'a>(addrs: impl IntoIterator<Item = &'a str>) -> Vec<RelayUrl> {
    addrs.into_iter().filter_map(relay_url).collect()
}

fn relay_url(addr: &str) -> Option<RelayUrl> {
    let addr: Multiaddr = addr.parse().ok()?;
    let mut parts = addr.iter();
    let host = match parts.next()? {
        Protocol::Ip4(ip) => ip.to_string(),
        Protocol::Ip6(ip) => format!("[{ip}]"),
        Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) => name.into_owned(),
        _ => return None,
    };
    let Protocol::Tcp(port) = parts.next()? else { return None };
    let scheme = match (parts.next()?, parts.next(), parts.next()) {
        (Protocol::Http, None, None) => "http",
        (Protocol::Https, None, None) | (Protocol::Tls, Some(Protocol::Http), None) => "https",
        _ => return None,
    };
    let url: RelayUrl = format!("{scheme}://{host}:{port}").parse().ok()?;
    // A name could carry a user, a path or a question.
    let plain = url.host_str() == Some(host.trim_end_matches('.')) || url.host_str() == Some(&host);
    (plain && url.path() == "/" && url.username().is_empty() && url.query().is_none())
        .then_some(url)
}

/// The address that names a content relay at TCP port `port` of the host that `addr` names.
/// `None` where `addr` names none, or all interfaces.
pub fn relay_addr(addr: &str, port: u16) -> Option<String> {
    let addr: Multiaddr = addr.parse().ok()?;
    let host = addr.iter().next()?;
    match &host {
        Protocol::Ip4(ip) if ip.is_unspecified() => return None,
        Protocol::Ip6(ip) if ip.is_unspecified() => return None,
        Protocol::Ip4(_)
        | Protocol::Ip6(_)
        | Protocol::Dns(_)
        | Protocol::Dns4(_)
        | Protocol::Dns6(_) => {}
        _ => return None,
    }
    Some(Multiaddr::empty().with(host).with(Protocol::Tcp(port)).with(Protocol::Http).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_name_content_relays() {
        let one = |a: &str| relay_urls([a]).first().map(ToString::to_string);
        for (addr, url) in [
            ("/ip4/192.0.2.1/tcp/4748/http", "http://192.0.2.1:4748/"),
            ("/ip6/2001:db8::1/tcp/4748/http", "http://[2001:db8::1]:4748/"),
            ("/dns/tea.example/tcp/4748/http", "http://tea.example:4748/"),
            ("/dns4/tea.example/tcp/8443/https", "https://tea.example:8443/"),
            ("/dns/tea.example/tcp/8443/tls/http", "https://tea.example:8443/"),
        ] {
            assert_eq!(one(addr).as_deref(), Some(url));
        }
        for addr in [
            "/ip4/192.0.2.1/tcp/4747",
            "/ip4/192.0.2.1/udp/4747/quic-v1",
            "/ip4/192.0.2.1/udp/4748/http",
            "/ip4/192.0.2.1/tcp/4748/ws",
            "/ip4/192.0.2.1/tcp/4748/http/p2p-circuit",
            "/dns/me@tea.example/tcp/4748/http",
            "/dns/tea.example?x/tcp/4748/http",
            "/dns/a:1#/tcp/4748/http",
            "http://tea.example",
            "",
        ] {
            assert_eq!(one(addr), None, "{addr}");
        }
    }

    #[test]
    fn a_relays_own_address_becomes_its_content_relays() {
        let at = |a| relay_addr(a, 4748);
        assert_eq!(at("/dns/tea.example/udp/1/quic-v1").unwrap(), "/dns/tea.example/tcp/4748/http");
        assert_eq!(at("/ip6/2001:db8::1/tcp/1").unwrap(), "/ip6/2001:db8::1/tcp/4748/http");
        assert_eq!(at("/ip4/0.0.0.0/tcp/1"), None);
        assert_eq!(at("nothing"), None);
        assert_eq!(relay_urls([at("/ip4/192.0.2.1/tcp/1").unwrap().as_str()]).len(), 1);
    }
}
