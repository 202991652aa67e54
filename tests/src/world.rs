//! A world under virtual time: real cores and real relays, a simulated network and lossy
//! disks. Everything that happens follows from one seed, so a failing run replays exactly.

use std::collections::{BTreeMap, BTreeSet};

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use teahouse_core::command::{Chat, Command, Contacts, Devices, Groups, MessageId, Refusal, Relays, Reply};
use teahouse_core::relay::{Relay, RelayConfig, RelayInput};
use teahouse_core::store::backends::SimDisk;
use teahouse_core::store::{Snapshot, Store};
use teahouse_core::{Core, Env, Input, Outputs, Peers, query, view};
use teahouse_protocols::account::RelayAddr;
use teahouse_protocols::card::LinkSecret;
use teahouse_protocols::codec::Text;
use teahouse_protocols::ids::{AccountId, DeviceId, Millis, RelayId, TopicId};
use teahouse_protocols::link::{Link, RelayInvite};

/// How hostile the network is. Chances are in thousandths.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// A frame between devices is lost.
    pub lose: u32,
    /// A frame is delivered twice.
    pub double: u32,
    /// A frame overtakes others.
    pub reorder: u32,
    /// A relay's answer is lost, after it acted.
    pub lose_mail: u32,
    /// Longest delay of a frame, in milliseconds.
    pub delay: u64,
}

/// A person's device.
pub struct Device {
    /// The core; `None` while it is down.
    pub core: Option<Core>,
    /// Its disk; survives crashes.
    pub disk: SimDisk,
    /// Its key.
    pub id: DeviceId,
    /// Whether its network is up.
    pub online: bool,
    /// Replies to commands, by number.
    pub replies: BTreeMap<u64, Result<Reply, Refusal>>,
    /// How far its clock is off, in milliseconds (may be negative).
    pub skew: i64,
    env: Env,
    waiting: Vec<Input>,
    scheduled: bool,
    life: u64,
    wanted: Peers,
    connected: BTreeSet<usize>,
}

/// A community's relay.
pub struct RelayNode {
    /// The state machine; `None` while it is down.
    pub relay: Option<Relay>,
    /// Its disk.
    pub disk: SimDisk,
    /// Its key.
    pub id: RelayId,
    /// Whether it can be reached.
    pub online: bool,
    env: Env,
    waiting: Vec<RelayInput>,
    scheduled: bool,
    life: u64,
    requests: BTreeMap<u64, (usize, u64, u64)>,
    invites: BTreeMap<u64, [u8; 16]>,
}

enum Event {
    Step(usize, u64),
    Frame { to: usize, from: usize, bytes: Vec<u8> },
    MailRequest { relay: usize, device: usize, life: u64, id: u64, bytes: Vec<u8> },
    MailAnswer { device: usize, life: u64, id: u64, result: Result<Vec<u8>, String> },
    RelayStep(usize, u64),
}

/// The world.
pub struct World {
    /// Milliseconds since the Unix epoch.
    pub now: Millis,
    /// Draws everything that is not a core's own randomness.
    pub rng: ChaCha20Rng,
    /// People's devices.
    pub devices: Vec<Device>,
    /// Relays.
    pub relays: Vec<RelayNode>,
    /// The network's manners.
    pub faults: Faults,
    /// Pairs of devices that can't reach each other.
    pub cut: BTreeSet<(usize, usize)>,
    /// How often each thing happened.
    pub counts: BTreeMap<&'static str, u64>,
    queue: BTreeMap<(Millis, u64), Event>,
    number: u64,
}

/// When worlds begin: some day in November 2026.
pub const DAWN: Millis = 1_795_000_000_000;

impl World {
    /// An empty world.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            now: DAWN,
            rng: ChaCha20Rng::seed_from_u64(seed),
            devices: Vec::new(),
            relays: Vec::new(),
            faults: Faults { delay: 20, ..Faults::default() },
            cut: BTreeSet::new(),
            counts: BTreeMap::new(),
            queue: BTreeMap::new(),
            number: 0,
        }
    }

    /// Counts something.
    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        if n == 0 { 0 } else { self.rng.next_u64() % n }
    }

    /// Whether something of a chance in thousandths happens.
    pub fn chance(&mut self, thousandths: u32) -> bool {
        thousandths > 0 && self.below(1000) < u64::from(thousandths)
    }

    fn seed(&mut self) -> [u8; 32] {
        let mut s = [0; 32];
        self.rng.fill_bytes(&mut s);
        s
    }

    fn at(&mut self, time: Millis, event: Event) {
        self.number += 1;
        self.queue.insert((time, self.number), event);
    }

    /// Adds a device with an empty disk; returns its index.
    pub fn add_device(&mut self) -> usize {
        let disk = SimDisk::new();
        let mut env = Env::seeded(self.now, self.seed());
        let store = Store::on_disk(&disk).expect("an empty disk opens");
        let core = Core::open(store, &mut env).expect("an empty core opens");
        let id = core.device();
        self.devices.push(Device {
            core: Some(core),
            disk,
            id,
            online: true,
            replies: BTreeMap::new(),
            skew: 0,
            env,
            waiting: Vec::new(),
            scheduled: false,
            life: 0,
            wanted: Peers::default(),
            connected: BTreeSet::new(),
        });
        self.devices.len() - 1
    }

    /// Adds a relay; returns its index.
    pub fn add_relay(&mut self) -> usize {
        let disk = SimDisk::new();
        let mut env = Env::seeded(self.now, self.seed());
        let id = RelayId(self.seed());
        let store = Store::on_disk(&disk).expect("an empty disk opens");
        let relay = Relay::open(store, id, relay_config(), &mut env).expect("a relay opens");
        self.relays.push(RelayNode {
            relay: Some(relay),
            disk,
            id,
            online: true,
            env,
            waiting: Vec::new(),
            scheduled: false,
            life: 0,
            requests: BTreeMap::new(),
            invites: BTreeMap::new(),
        });
        self.relays.len() - 1
    }

    /// An invite link of a relay, with a greeter's card or without.
    pub fn invite(&mut self, relay: usize, greeter: Option<&str>) -> String {
        self.number += 1;
        let number = self.number;
        self.relay_input(relay, RelayInput::Invite { id: number, uses: 1_000, days: 365 });
        while !self.relays[relay].invites.contains_key(&number) {
            assert!(self.next(), "the relay answers");
        }
        let code = self.relays[relay].invites[&number];
        let card = greeter.map(|link| match Link::parse(link).expect("a card") {
            Link::Card(card) => card.bytes().to_vec().try_into().expect("fits"),
            _ => panic!("not a card"),
        });
        let invite = RelayInvite {
            version: 1,
            relay: RelayAddr {
                id: self.relays[relay].id,
                addrs: vec![Text::try_from("/memory/1").expect("short")]
                    .try_into()
                    .expect("one"),
            },
            code: LinkSecret(code),
            greeter: card,
            community: Text::try_from("town").expect("short"),
        };
        Link::RelayInvite(invite).to_uri()
    }

    /// Hands a device an input; it steps a moment later, with whatever else has come.
    pub fn input(&mut self, device: usize, input: Input) {
        if self.devices[device].core.is_none() {
            return;
        }
        self.devices[device].waiting.push(input);
        if !self.devices[device].scheduled {
            self.devices[device].scheduled = true;
            let life = self.devices[device].life;
            let at = self.now + 1 + self.below(4);
            self.at(at, Event::Step(device, life));
        }
    }

    fn relay_input(&mut self, relay: usize, input: RelayInput) {
        if self.relays[relay].relay.is_none() {
            return;
        }
        self.relays[relay].waiting.push(input);
        if !self.relays[relay].scheduled {
            self.relays[relay].scheduled = true;
            let life = self.relays[relay].life;
            let at = self.now + 1 + self.below(4);
            self.at(at, Event::RelayStep(relay, life));
        }
    }

    /// Sends a command; the reply is under the returned number once it is durable.
    pub fn command(&mut self, device: usize, command: Command) -> u64 {
        self.number += 1;
        let id = self.number;
        self.input(device, Input::Command { id, command });
        id
    }

    /// Sends a command and runs the world until it is answered.
    ///
    /// # Errors
    /// The refusal.
    pub fn ask(&mut self, device: usize, command: Command) -> Result<Reply, Refusal> {
        let id = self.command(device, command);
        loop {
            if let Some(reply) = self.devices[device].replies.get(&id) {
                return reply.clone();
            }
            assert!(self.next(), "a command is answered");
        }
    }

    /// Handles the next event; false when there is none.
    pub fn next(&mut self) -> bool {
        let Some(((time, _), event)) = self.queue.pop_first() else { return false };
        self.now = self.now.max(time);
        match event {
            Event::Step(device, life) => {
                if self.devices[device].life == life {
                    self.devices[device].scheduled = false;
                    self.step(device);
                }
            }
            Event::Frame { to, from, bytes } => {
                if self.devices[to].connected.contains(&from) {
                    let device = self.devices[from].id;
                    self.input(to, Input::Frame { device, bytes });
                }
            }
            Event::MailRequest { relay, device, life, id, bytes } => {
                if self.relays[relay].online && self.relays[relay].relay.is_some() {
                    self.number += 1;
                    let number = self.number;
                    self.relays[relay].requests.insert(number, (device, life, id));
                    // One session per device's life: what the network calls a connection.
                    let session = (device as u64) << 32 | life;
                    self.relay_input(relay, RelayInput::Request { id: number, session, bytes });
                } else {
                    let result = Err("the relay can't be reached".to_owned());
                    self.at(self.now + 50, Event::MailAnswer { device, life, id, result });
                }
            }
            Event::MailAnswer { device, life, id, result } => {
                if self.devices[device].life == life {
                    self.input(device, Input::MailReply { id, result });
                }
            }
            Event::RelayStep(relay, life) => {
                if self.relays[relay].life == life {
                    self.relays[relay].scheduled = false;
                    self.relay_step(relay);
                }
            }
        }
        true
    }

    /// Runs for some virtual time.
    pub fn run(&mut self, millis: Millis) {
        let until = self.now + millis;
        while self.queue.first_key_value().is_some_and(|((t, _), _)| *t <= until) {
            self.next();
        }
        self.now = self.now.max(until);
    }

    fn clock(&self, device: usize) -> Millis {
        self.now.saturating_add_signed(self.devices[device].skew)
    }

    fn step(&mut self, device: usize) {
        let clock = self.clock(device);
        let d = &mut self.devices[device];
        let Some(core) = d.core.as_mut() else { return };
        let mut batch: Vec<Input> = std::mem::take(&mut d.waiting);
        let rest = batch.split_off(batch.len().min(teahouse_core::MAX_BATCH));
        if batch.is_empty() {
            batch.push(Input::Tick);
        }
        d.env.now = clock;
        let result = core.step(&mut d.env, batch);
        *self.counts.entry("steps").or_default() += 1;
        match result {
            Ok(outputs) => self.outputs(device, outputs),
            Err(_) => {
                self.count("storage_errors");
                self.crash(device, false);
                self.start(device);
                return;
            }
        }
        for input in rest {
            self.input(device, input);
        }
    }

    fn outputs(&mut self, device: usize, outputs: Outputs) {
        for (id, reply) in outputs.replies {
            self.devices[device].replies.insert(id, reply);
        }
        for (to, bytes) in outputs.frames {
            let Some(to) = self.devices.iter().position(|d| d.id == to) else { continue };
            if !self.devices[device].connected.contains(&to) {
                continue;
            }
            if self.chance(self.faults.lose) {
                self.count("frames_lost");
                continue;
            }
            let copies = 1 + usize::from(self.chance(self.faults.double));
            if copies > 1 {
                self.count("frames_doubled");
            }
            for _ in 0..copies {
                let mut delay = 1;
                if self.chance(self.faults.reorder) {
                    self.count("frames_reordered");
                    delay += self.below(self.faults.delay.max(1) * 50);
                } else {
                    delay += self.faults.delay / 2;
                }
                let bytes = bytes.clone();
                self.at(self.now + delay, Event::Frame { to, from: device, bytes });
            }
        }
        let life = self.devices[device].life;
        for mail in outputs.mail {
            let relay = self.relays.iter().position(|r| r.id == mail.relay);
            let delay = 1 + self.below(self.faults.delay.max(1));
            match relay {
                Some(relay) if self.devices[device].online => {
                    let event = Event::MailRequest {
                        relay,
                        device,
                        life,
                        id: mail.id,
                        bytes: mail.request,
                    };
                    self.at(self.now + delay, event);
                }
                _ => {
                    let result = Err("the relay can't be reached".to_owned());
                    self.at(
                        self.now + 50,
                        Event::MailAnswer { device, life, id: mail.id, result },
                    );
                }
            }
        }
        if let Some(peers) = outputs.peers {
            self.devices[device].wanted = peers;
            self.reconnect();
        }
        if let Some(wake) = outputs.wake {
            // The core counts in its own clock.
            let wait = wake.saturating_sub(self.clock(device)).max(1);
            if !self.devices[device].scheduled {
                self.at(self.now + wait, Event::Step(device, life));
            }
        }
    }

    fn relay_step(&mut self, relay: usize) {
        let now = self.now;
        let r = &mut self.relays[relay];
        let Some(machine) = r.relay.as_mut() else { return };
        let mut batch = std::mem::take(&mut r.waiting);
        if batch.is_empty() {
            batch.push(RelayInput::Tick);
        }
        r.env.now = now;
        let outputs = match machine.step(&mut r.env, batch) {
            Ok(outputs) => outputs,
            Err(_) => {
                self.count("relay_storage_errors");
                self.crash_relay(relay);
                self.start_relay(relay);
                return;
            }
        };
        let life = r.life;
        for (id, code) in outputs.invites {
            r.invites.insert(id, code);
        }
        for (number, bytes) in outputs.answers {
            let Some((device, life, id)) = self.relays[relay].requests.remove(&number) else {
                continue;
            };
            let result = if self.chance(self.faults.lose_mail) {
                self.count("answers_lost");
                Err("no answer".to_owned())
            } else {
                Ok(bytes)
            };
            let delay = 1 + self.below(self.faults.delay.max(1));
            self.at(self.now + delay, Event::MailAnswer { device, life, id, result });
        }
        if let Some(wake) = outputs.wake {
            let wait = wake.saturating_sub(self.now).max(1);
            self.at(self.now + wait, Event::RelayStep(relay, life));
        }
    }

    fn reachable(&self, a: usize, b: usize) -> bool {
        let (x, y) = (&self.devices[a], &self.devices[b]);
        let wants = x.wanted.wanted.contains_key(&y.id) || y.wanted.wanted.contains_key(&x.id);
        x.online
            && y.online
            && x.core.is_some()
            && y.core.is_some()
            && wants
            && !self.cut.contains(&(a.min(b), a.max(b)))
    }

    /// Connects whoever wants to be and can, and disconnects the rest.
    pub fn reconnect(&mut self) {
        for a in 0..self.devices.len() {
            for b in a + 1..self.devices.len() {
                let now = self.devices[a].connected.contains(&b);
                let should = self.reachable(a, b);
                let (ida, idb) = (self.devices[a].id, self.devices[b].id);
                if should && !now {
                    self.devices[a].connected.insert(b);
                    self.devices[b].connected.insert(a);
                    self.input(a, Input::PeerUp { device: idb });
                    self.input(b, Input::PeerUp { device: ida });
                } else if !should && now {
                    self.devices[a].connected.remove(&b);
                    self.devices[b].connected.remove(&a);
                    self.input(a, Input::PeerDown { device: idb });
                    self.input(b, Input::PeerDown { device: ida });
                }
            }
        }
    }

    /// Breaks every connection of a device and makes them again.
    pub fn flap(&mut self, device: usize) {
        let was = self.devices[device].online;
        self.devices[device].online = false;
        self.reconnect();
        self.devices[device].online = was;
        self.reconnect();
    }

    /// Takes a device's network away or gives it back.
    pub fn set_online(&mut self, device: usize, online: bool) {
        self.devices[device].online = online;
        self.reconnect();
        if online {
            self.input(device, Input::Tick);
        }
    }

    /// Kills a device: what its disk had not synced is lost, torn or kept as the seed has it.
    pub fn crash(&mut self, device: usize, count: bool) {
        if count {
            self.count("crashes");
        }
        let d = &mut self.devices[device];
        d.disk.crash(&mut self.rng);
        d.core = None;
        d.waiting.clear();
        d.scheduled = false;
        d.life += 1;
        self.reconnect();
        self.devices[device].connected.clear();
    }

    /// Starts a device from its disk.
    pub fn start(&mut self, device: usize) {
        if self.devices[device].core.is_some() {
            return;
        }
        let clock = self.clock(device);
        let seed = self.seed();
        let d = &mut self.devices[device];
        d.env = Env::seeded(clock, seed);
        let store = Store::on_disk(&d.disk).expect("a crashed disk opens");
        let mut core = Core::open(store, &mut d.env).expect("a crashed core opens");
        assert_eq!(core.device(), d.id, "the device key survives");
        let outputs = core.start(&mut d.env).expect("a start reads");
        d.core = Some(core);
        self.outputs(device, outputs);
        self.reconnect();
    }

    /// Kills a relay.
    pub fn crash_relay(&mut self, relay: usize) {
        self.count("relay_crashes");
        let r = &mut self.relays[relay];
        r.disk.crash(&mut self.rng);
        r.relay = None;
        r.waiting.clear();
        r.scheduled = false;
        r.life += 1;
        let requests = std::mem::take(&mut r.requests);
        for (device, life, id) in requests.into_values() {
            let result = Err("the relay went away".to_owned());
            self.at(self.now + 20, Event::MailAnswer { device, life, id, result });
        }
    }

    /// Starts a relay from its disk.
    pub fn start_relay(&mut self, relay: usize) {
        let seed = self.seed();
        let now = self.now;
        let r = &mut self.relays[relay];
        if r.relay.is_some() {
            return;
        }
        r.env = Env::seeded(now, seed);
        let store = Store::on_disk(&r.disk).expect("a crashed disk opens");
        let machine =
            Relay::open(store, r.id, relay_config(), &mut r.env).expect("a relay opens");
        r.relay = Some(machine);
        self.relay_input(relay, RelayInput::Tick);
    }

    /// A read snapshot of a device that is up.
    #[must_use]
    pub fn snapshot(&self, device: usize) -> Snapshot {
        let core = self.devices[device].core.as_ref().expect("the device is up");
        core.store().snapshot().expect("a snapshot")
    }

    // What people do, in short.

    /// Creates an account.
    pub fn create(&mut self, device: usize, name: &str) -> AccountId {
        let command = Command::Devices(Devices::Create {
            name: name.to_owned(),
            device_name: format!("{name}'s"),
        });
        match self.ask(device, command) {
            Ok(Reply::Created { account, .. }) => account,
            other => panic!("create: {other:?}"),
        }
    }

    /// Uses a relay by its invite.
    pub fn use_relay(&mut self, device: usize, link: &str) {
        let command = Command::Relays(Relays::Use { link: link.to_owned() });
        self.ask(device, command).expect("a relay is used");
    }

    /// A contact card.
    pub fn card(&mut self, device: usize) -> String {
        let command = Command::Contacts(Contacts::Card { uses: 10, welcome_to: None });
        match self.ask(device, command) {
            Ok(Reply::Card { link }) => link,
            other => panic!("card: {other:?}"),
        }
    }

    /// Asks for contact.
    pub fn add(&mut self, device: usize, link: &str) -> Result<Reply, Refusal> {
        let command =
            Command::Contacts(Contacts::Add { link: link.to_owned(), greeting: "hi".into() });
        self.ask(device, command)
    }

    /// Makes two devices' accounts friends; returns the direct chat.
    pub fn befriend(&mut self, a: usize, b: usize) -> TopicId {
        let card = self.card(b);
        let topic = match self.add(a, &card) {
            Ok(Reply::Added { topic: Some(topic), .. }) => topic,
            other => panic!("add: {other:?}"),
        };
        let asker = self.account(a);
        for _ in 0..200 {
            self.run(1_000);
            if query::requests(&self.snapshot(b)).expect("reads").iter().any(|r| r.account == asker)
            {
                break;
            }
        }
        self.ask(b, Command::Contacts(Contacts::Accept { account: asker })).expect("accepts");
        topic
    }

    /// The account of a device.
    #[must_use]
    pub fn account(&self, device: usize) -> AccountId {
        query::identity(&self.snapshot(device)).expect("reads").account.expect("an account")
    }

    /// Writes a message; durable when this returns.
    pub fn say(&mut self, device: usize, topic: TopicId, text: &str) -> Result<MessageId, Refusal> {
        let command = Command::Chat(Chat::Send {
            topic,
            text: text.to_owned(),
            reply_to: None,
            mentions: Vec::new(),
        });
        match self.ask(device, command)? {
            Reply::Message { message, .. } => Ok(message),
            other => panic!("send: {other:?}"),
        }
    }

    /// Creates a group.
    pub fn group(&mut self, device: usize, title: &str, members: Vec<AccountId>) -> TopicId {
        let command = Command::Groups(Groups::Create {
            title: title.to_owned(),
            members,
            share_history: true,
        });
        match self.ask(device, command) {
            Ok(Reply::Topic { topic }) => topic,
            other => panic!("group: {other:?}"),
        }
    }

    /// Texts of a chat as a device shows them.
    #[must_use]
    pub fn texts(&self, device: usize, topic: TopicId) -> Vec<String> {
        query::messages(&self.snapshot(device), topic, None, 10_000)
            .expect("reads")
            .into_iter()
            .map(|m| match m.content {
                view::Content::Text(text) => text,
                other => format!("{other:?}"),
            })
            .collect()
    }

    /// What is proved of a message.
    #[must_use]
    pub fn delivery(&self, device: usize, topic: TopicId, id: MessageId) -> view::Delivery {
        query::message(&self.snapshot(device), topic, id)
            .expect("reads")
            .expect("the message")
            .delivery
            .expect("an own message")
    }
}

fn relay_config() -> RelayConfig {
    RelayConfig {
        name: "town".into(),
        keep_days: 30,
        max_bytes: 1 << 30,
        tag_bytes: 64 << 20,
    }
}
