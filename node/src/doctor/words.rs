//! Words for relays, their troubles, and numbers of things.

use teahouse_core::view;
use teahouse_protocols::lines::one_line;
use teahouse_protocols::mailbox::Refusal;

use super::Verdict;

/// What people call a relay: its community and its host.
pub fn relay_name(relay: &view::Relay) -> String {
    let host = relay_host(relay);
    // What a stranger chose: one line, without what moves a cursor or turns text around.
    let name = one_line(&relay.name, relay.name.len());
    if name.is_empty() { host } else { format!("{name} ({host})") }
}

/// A relay's host name, else the beginning of its id.
pub fn relay_host(relay: &view::Relay) -> String {
    let host = relay.addrs.iter().find_map(|addr| {
        let mut parts = addr.split('/').skip(1);
        let kind = parts.next()?;
        ["dns", "dns4", "dns6", "ip4", "ip6"].contains(&kind).then(|| parts.next())?
    });
    host.map_or_else(|| short(&relay.relay.to_hex()), ToOwned::to_owned)
}

/// What is told of a relay that is about to go away. Whoever runs it means it: there is
/// nothing to mend, but something to know.
pub(super) const CLOSING: &str = "is closing down and takes nothing new";

pub(super) fn is_closing(trouble: &str) -> bool {
    trouble == Refusal::Draining.to_string()
}

/// A relay's trouble in words, and how bad it is.
pub(super) fn says(name: &str, trouble: &str) -> (Verdict, String) {
    if is_closing(trouble) {
        (Verdict::Warning, format!("the relay {name} {CLOSING}"))
    } else {
        (Verdict::Trouble, format!("the relay {name}: {trouble}"))
    }
}

pub(super) fn alarms(n: usize, kind: &str) -> String {
    if n == 1 { format!("1 {kind}alarm") } else { format!("{n} {kind}alarms") }
}

pub(super) fn count(n: usize) -> String {
    if n == 1 { "1 message".into() } else { format!("{n} messages") }
}

pub(super) const fn verb(n: usize) -> &'static str {
    if n == 1 { "waits" } else { "wait" }
}

pub(super) const fn them(n: usize) -> &'static str {
    if n == 1 { "it" } else { "them" }
}

/// The first eight digits of an id.
pub(super) fn short(id: &str) -> String {
    id.chars().take(8).collect()
}
