//! Real nodes of people, for benches: started on loopback, made friends through a relay in
//! the same process, asked and watched through their handles.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use teahouse_core::command::{Chat, Command, Contacts, Devices, Groups, Relays, Reply};
use teahouse_core::store::{Snapshot, StorageError, StoreOptions};
use teahouse_core::{query, view};
use teahouse_node::config::RelayFile;
use teahouse_node::roles::relay::{RelayNode, RelayOptions};
use teahouse_node::{Handle, NetworkConfig, Node, NodeConfig};
use teahouse_protocols::ids::TopicId;
use tokio::time::{Instant, timeout};

const LOOPBACK: &str = "/ip4/127.0.0.1/udp/0/quic-v1";

/// How long anything may take.
fn patience() -> Duration {
    if super::quick() { Duration::from_mins(1) } else { Duration::from_mins(15) }
}

/// Starts a node that listens for QUIC on loopback.
pub(crate) fn start(dir: &Path) -> Result<Node> {
    let network = Some(NetworkConfig { listen: vec![LOOPBACK.to_owned()], mdns: false });
    let config = NodeConfig { data: dir.to_owned(), store: StoreOptions::default(), network };
    Ok(Node::start(config)?)
}

/// Stops a node without keeping the async workers waiting.
pub(crate) async fn stop(node: Node) -> Result<()> {
    Ok(tokio::task::spawn_blocking(move || node.shutdown()).await?)
}

/// Starts a relay in this process and makes an invite link.
pub(crate) async fn relay(dir: &Path) -> Result<(RelayNode, String)> {
    let options = RelayOptions {
        data: dir.to_owned(),
        store: StoreOptions::default(),
        listen: Some(vec![LOOPBACK.to_owned()]),
        settings: RelayFile::default(),
    };
    let relay = RelayNode::start(options)?;
    while relay.handle().status().listen.is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let link = relay.handle().invite(100, 1, None).await?;
    Ok((relay, link))
}

/// Waits until a query tells something.
pub(crate) async fn until<T>(
    handle: &Handle,
    what: &str,
    query: impl Fn(&Snapshot) -> Result<Option<T>, StorageError>,
) -> Result<T> {
    let mut changes = handle.changes();
    let end = Instant::now() + patience();
    loop {
        if let Some(found) = handle.query(&query)? {
            return Ok(found);
        }
        if Instant::now() > end {
            bail!("in vain: {what}; {:?}", handle.status());
        }
        // What doesn't show in tables is looked at again soon.
        let _ = timeout(Duration::from_millis(100), changes.next()).await;
    }
}

/// Waits until something holds that is not in the database.
pub(crate) async fn wait(what: &str, holds: impl Fn() -> bool) -> Result<()> {
    let end = Instant::now() + patience();
    while !holds() {
        if Instant::now() > end {
            bail!("in vain: {what}");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Creates an account.
pub(crate) async fn create(handle: &Handle, name: &str) -> Result<()> {
    let (name, device_name) = (name.to_owned(), "bench".to_owned());
    handle.submit(Command::Devices(Devices::Create { name, device_name })).await?;
    Ok(())
}

/// Uses a relay, and waits for the reservation there.
pub(crate) async fn use_relay(handle: &Handle, link: &str) -> Result<()> {
    handle.submit(Command::Relays(Relays::Use { link: link.to_owned() })).await?;
    wait("a reservation", || !handle.status().relays.is_empty()).await
}

/// Makes two people friends; returns their chat once they are connected directly.
pub(crate) async fn befriend(a: &Handle, b: &Handle) -> Result<TopicId> {
    let card = Contacts::Card { uses: 1, welcome_to: None };
    let Reply::Card { link } = b.submit(Command::Contacts(card)).await? else { bail!("no card") };
    let add = Contacts::Add { link, greeting: "hi".into() };
    let added = a.submit(Command::Contacts(add)).await?;
    let Reply::Added { topic: Some(topic), .. } = added else { bail!("not added") };
    let asker = until(b, "the request", |s| Ok(query::requests(s)?.pop())).await?;
    b.submit(Command::Contacts(Contacts::Accept { account: asker.account })).await?;
    for handle in [a, b] {
        until(handle, "the chat", |s| {
            let chat = query::chat(s, topic)?;
            Ok(chat.filter(|c| c.state == view::ChatState::Active))
        })
        .await?;
    }
    met(a, b).await?;
    Ok(topic)
}

/// Waits until two nodes are connected without a relay between them.
pub(crate) async fn met(a: &Handle, b: &Handle) -> Result<()> {
    let direct = |x: &Handle, y: &Handle| {
        x.status().peers.iter().any(|p| p.device == y.device() && !p.relayed)
    };
    wait("a direct connection", || direct(a, b) && direct(b, a)).await
}

/// A group of one, to write in.
pub(crate) fn group(title: &str) -> Command {
    Command::Groups(Groups::Create { title: title.into(), members: vec![], share_history: true })
}

/// A message.
pub(crate) fn send(topic: TopicId, text: String) -> Command {
    Command::Chat(Chat::Send { topic, text, reply_to: None, mentions: vec![] })
}

/// Number in the newest message that the bench has written.
pub(crate) fn newest(s: &Snapshot, topic: TopicId) -> Result<Option<usize>, StorageError> {
    let newest = query::messages(s, topic, None, 1)?.pop();
    Ok(newest.and_then(|m| shown(&m)))
}

/// The bench's number in a message.
pub(crate) fn shown(message: &view::Message) -> Option<usize> {
    match &message.content {
        view::Content::Text(text) => super::number(text),
        _ => None,
    }
}

/// The addresses that a node listens on.
pub(crate) async fn listening(handle: &Handle) -> Result<String> {
    wait("an address", || !handle.status().listen.is_empty()).await?;
    handle.status().listen.first().cloned().context("an address")
}
