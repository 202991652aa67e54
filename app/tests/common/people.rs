//! People with real nodes on this machine, and the relay of their street.

#![allow(clippy::unwrap_used, reason = "a test's helper")]

use std::time::{Duration, Instant};

use teahouse_app::bridge::{Action, Bridge, Link, Source};
use teahouse_app::shell::Shell;
use teahouse_node::config::{RelayFile, store_options};
use teahouse_node::core::command::{Command, Contacts, Devices, Relays, Reply};
use teahouse_node::core::view::ContactState;
use teahouse_node::protocols::ids::AccountId;
use teahouse_node::roles::relay::{RelayNode, RelayOptions};
use teahouse_node::tokio::runtime::Runtime;
use teahouse_node::{NetworkConfig, NodeConfig};

use super::{PATIENCE, Window, window_of};

fn loopback() -> Vec<String> {
    vec!["/ip4/127.0.0.1/udp/0/quic-v1".into(), "/ip4/127.0.0.1/tcp/0".into()]
}

/// A relay, and a folder for all data.
pub(crate) struct Street {
    pub(crate) invite: String,
    relay: Option<RelayNode>,
    _runtime: Runtime,
    dir: tempfile::TempDir,
}

impl Street {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let runtime = Runtime::new().unwrap();
        let entered = runtime.enter();
        let options = RelayOptions {
            data: dir.path().join("relay"),
            store: store_options(false),
            listen: Some(loopback()),
            settings: RelayFile::default(),
        };
        let relay = RelayNode::start(options).unwrap();
        let handle = relay.handle().clone();
        let started = Instant::now();
        while !handle.status().online {
            assert!(started.elapsed() < PATIENCE, "the relay is not online");
            std::thread::sleep(Duration::from_millis(10));
        }
        let invite = runtime.block_on(handle.invite(10, 1, None)).unwrap();
        drop(entered);
        Self { invite, relay: Some(relay), _runtime: runtime, dir }
    }

    /// The folder.
    pub(crate) fn path(&self) -> &std::path::Path {
        self.dir.path()
    }
}

impl Drop for Street {
    fn drop(&mut self) {
        if let Some(relay) = self.relay.take() {
            relay.shutdown();
        }
    }
}

/// Somebody with a node.
pub(crate) struct Person {
    bridge: Option<Bridge>,
    account: AccountId,
}

impl Person {
    pub(crate) fn new(street: &Street, name: &str) -> Self {
        let network = Some(NetworkConfig { listen: loopback(), mdns: false });
        let data = street.dir.path().join(name);
        let config = NodeConfig { data, store: store_options(false), network };
        let bridge = Bridge::start(Source::Home(config.clone()), config, || {}).unwrap();
        let mut person = Self { bridge: Some(bridge), account: AccountId([0; 32]) };
        let create = Devices::Create { name: name.into(), device_name: "home".into() };
        match person.tell(Command::Devices(create)) {
            Reply::Created { account, .. } => person.account = account,
            other => panic!("{other:?}"),
        }
        person.tell(Command::Relays(Relays::Use { link: street.invite.clone() }));
        person
    }

    fn bridge(&mut self) -> &mut Bridge {
        self.bridge.as_mut().expect("the window was not opened yet")
    }

    /// Whose node it is.
    pub(crate) const fn account(&self) -> AccountId {
        self.account
    }

    /// Gives a command that nobody refuses.
    pub(crate) fn tell(&mut self, command: Command) -> Reply {
        assert!(self.bridge().send(Action::Submit { ticket: 1, command }));
        let mut answer = None;
        self.wait("an answer", |b| {
            answer = b.answer();
            answer.is_some()
        });
        answer.unwrap().result.unwrap()
    }

    fn wait(&mut self, what: &str, mut done: impl FnMut(&mut Bridge) -> bool) {
        let started = Instant::now();
        while !done(self.bridge()) {
            assert!(started.elapsed() < PATIENCE, "no {what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn stands(&mut self, to: AccountId, state: ContactState) {
        let is = |b: &mut Bridge| b.model().contact(to).is_some_and(|c| c.state == state);
        self.wait("such contact", is);
    }

    /// They become friends.
    pub(crate) fn befriend(&mut self, other: &mut Self) {
        let card = Contacts::Card { uses: 1, welcome_to: None };
        let Reply::Card { link } = other.tell(Command::Contacts(card)) else { panic!("no card") };
        self.tell(Command::Contacts(Contacts::Add { link, greeting: String::new() }));
        let (me, them) = (self.account, other.account);
        other.stands(me, ContactState::Asking);
        other.tell(Command::Contacts(Contacts::Accept { account: me }));
        self.stands(them, ContactState::Friend);
        other.stands(me, ContactState::Friend);
    }

    /// Opens the window over the node.
    pub(crate) fn window(&mut self) -> Window {
        let bridge = self.bridge.take().expect("the window was not opened yet");
        window_of(Shell::new(Box::new(bridge)), [1000.0, 1400.0])
    }
}
