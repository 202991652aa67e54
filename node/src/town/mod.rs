//! The town: real nodes of a few people in one process, with a relay, on this machine only.
//!
//! The app's "look around" opens a visitor's node in it; [`day`] plays a day in the
//! terminal and checks each step through another node's API. Nothing here is a mock: the
//! nodes are those that `teahouse run` starts, and nothing they say is prepared.

pub mod day;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use teahouse_core::command::{Chat, Command, Contacts, Devices, Groups, Relays, Reply};
use teahouse_core::query;
use teahouse_core::view;
use teahouse_protocols::ids::TopicId;

use crate::config;
use crate::handle::Handle;
use crate::roles::relay::{RelayNode, RelayOptions};
use crate::runtime::{NetworkConfig, Node, NodeConfig};

/// How long any step of the town may take on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// A town with a visitor in it. Gone, with all its data, when dropped.
pub struct Town {
    // Dropped in this order: the people stop talking, then the nodes, then the folder.
    talkers: Vec<Talker>,
    visitor: Node,
    people: Vec<Node>,
    relay: Option<RelayNode>,
    _dir: tempfile::TempDir,
}

struct Talker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Talker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It ends within one of its short waits.
            let _ = thread.join();
        }
    }
}

impl Town {
    /// Builds the town. Must be called where a tokio runtime is entered, on a thread that
    /// may block; takes a few seconds.
    ///
    /// # Errors
    /// What could not be started, in words.
    pub fn start() -> Result<Self> {
        let dir = tempfile::tempdir().context("a folder for the town")?;
        let relay = RelayNode::start(RelayOptions {
            data: dir.path().join("relay"),
            store: config::store_options(false),
            listen: Some(loopback()),
            settings: config::RelayFile { name: "The town".into(), ..config::RelayFile::default() },
        })?;
        let keeper = person(dir.path(), "Mei")?;
        let bob = person(dir.path(), "Bob")?;
        let visitor = person(dir.path(), "Visitor")?;
        let invite = invite(&relay, None)?;
        for node in [&keeper, &bob] {
            command(node.handle(), Command::Relays(Relays::Use { link: invite.clone() }))?;
        }
        let group = match command(
            keeper.handle(),
            Command::Groups(Groups::Create {
                title: "The teahouse 茶馆".into(),
                members: Vec::new(),
                share_history: true,
            }),
        )? {
            Reply::Topic { topic } => topic,
            other => bail!("creating a group gave {other:?}"),
        };
        say(keeper.handle(), group, "The kettle is on. 水开了。🍵")?;
        // The community's invite: a relay, the group, and somebody to greet.
        let card = card(keeper.handle(), Some(group))?;
        let link = self::invite(&relay, Some(&card))?;
        for (node, greeting) in [(&bob, "Morning, Mei!"), (&visitor, "Hello, may I look around?")] {
            command(
                node.handle(),
                Command::Contacts(Contacts::Add { link: link.clone(), greeting: greeting.into() }),
            )?;
            wait("the group", || in_group(node.handle(), group))?;
        }
        say(bob.handle(), group, "Two cups for me, please.")?;
        let talkers = vec![talk(keeper.handle().clone(), MEI)?, talk(bob.handle().clone(), BOB)?];
        Ok(Self { talkers, visitor, people: vec![keeper, bob], relay: Some(relay), _dir: dir })
    }

    /// The node that a visitor looks through.
    #[must_use]
    pub const fn visitor(&self) -> &Handle {
        self.visitor.handle()
    }
}

impl Drop for Town {
    fn drop(&mut self) {
        self.talkers.clear();
        self.people.clear();
        if let Some(relay) = self.relay.take() {
            relay.shutdown();
        }
    }
}

/// What a townsperson answers with, one after the other.
const MEI: &[&str] = &[
    "Welcome! Sit where you like. 请坐。",
    "Everything you write here goes through a relay that can't read it.",
    "Try the group: Bob is there, too.",
    "Another cup?",
];
const BOB: &[&str] = &["Good to see a new face. 你好！", "Ask Mei, she knows everybody.", "🍵"];

/// Answers messages that others write in direct chats, each once.
fn talk(handle: Handle, lines: &'static [&'static str]) -> Result<Talker> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    let thread = std::thread::Builder::new()
        .name("town-talk".into())
        .spawn(move || {
            let mut answered = BTreeSet::new();
            let mut line = 0;
            while !flag.load(Ordering::Relaxed) {
                for (topic, id) in unanswered(&handle, &answered).unwrap_or_default() {
                    let text = lines[line % lines.len()];
                    if say(&handle, topic, text).is_ok() {
                        line += 1;
                        answered.insert(id);
                    }
                }
                std::thread::sleep(Duration::from_millis(150));
            }
        })
        .context("a thread for a townsperson")?;
    Ok(Talker { stop, thread: Some(thread) })
}

type MessageKey = (TopicId, teahouse_core::command::MessageId);

/// The newest message of each direct chat, where another wrote it and it has no answer yet.
fn unanswered(
    handle: &Handle,
    answered: &BTreeSet<MessageKey>,
) -> Result<Vec<(TopicId, MessageKey)>> {
    let chats = handle.query(|s| query::chats(s))?;
    let mut out = Vec::new();
    for chat in chats.iter().filter(|c| c.kind == view::ChatKind::Direct) {
        let newest = handle.query(|s| query::messages(s, chat.topic, None, 1))?;
        if let Some(m) = newest.last()
            && !m.mine
            && !answered.contains(&(chat.topic, m.id))
        {
            out.push((chat.topic, (chat.topic, m.id)));
        }
    }
    Ok(out)
}

/// Listening on this machine alone.
pub(crate) fn loopback() -> Vec<String> {
    vec!["/ip4/127.0.0.1/udp/0/quic-v1".into(), "/ip4/127.0.0.1/tcp/0".into()]
}

/// A node on this machine alone, in a folder of its own.
pub(crate) fn node_in(data: &Path) -> Result<Node> {
    let network = Some(NetworkConfig { listen: loopback(), mdns: false });
    let store = config::store_options(false);
    Ok(Node::start(NodeConfig { data: data.to_path_buf(), store, network })?)
}

pub(crate) fn person(dir: &Path, name: &str) -> Result<Node> {
    let folder: String = name.chars().take_while(char::is_ascii_alphanumeric).collect();
    let node = node_in(&dir.join(folder))?;
    let create = Devices::Create { name: name.into(), device_name: "home".into() };
    command(node.handle(), Command::Devices(create))?;
    Ok(node)
}

pub(crate) fn invite(relay: &RelayNode, greeter: Option<&str>) -> Result<String> {
    wait("the relay to listen", || Ok(relay.handle().status().online))?;
    let handle = relay.handle().clone();
    let greeter = greeter.map(str::to_owned);
    let runtime = tokio::runtime::Handle::current();
    Ok(runtime.block_on(async move { handle.invite(100, 1, greeter.as_deref()).await })?)
}

pub(crate) fn card(handle: &Handle, welcome_to: Option<TopicId>) -> Result<String> {
    match command(handle, Command::Contacts(Contacts::Card { uses: 100, welcome_to }))? {
        Reply::Card { link } => Ok(link),
        other => bail!("a card was asked for, not {other:?}"),
    }
}

pub(crate) fn say(handle: &Handle, topic: TopicId, text: &str) -> Result<()> {
    let text = text.to_owned();
    command(
        handle,
        Command::Chat(Chat::Send { topic, text, reply_to: None, mentions: Vec::new() }),
    )?;
    Ok(())
}

pub(crate) fn in_group(handle: &Handle, group: TopicId) -> Result<bool> {
    Ok(handle.query(|s| query::chat(s, group))?.is_some())
}

pub(crate) fn command(handle: &Handle, command: Command) -> Result<Reply> {
    Ok(handle.submit_blocking(command)?)
}

/// Waits until something is so.
pub(crate) fn wait(what: &str, mut so: impl FnMut() -> Result<bool>) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        if so()? {
            return Ok(());
        }
        if Instant::now() > until {
            bail!("{what}: not within {} s", PATIENCE.as_secs());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
