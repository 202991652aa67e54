//! A world under virtual time: real cores and real relays, a simulated network and lossy
//! disks. Everything that happens follows from one seed, so a failing run replays exactly.

use std::collections::{BTreeMap, BTreeSet};

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use teahouse_core::command::{
    Chat, Command, Contacts, Devices, Groups, MessageId, Refusal, Relays, Reply,
};
use teahouse_core::relay::{Relay, RelayConfig, RelayInput};
use teahouse_core::store::backends::{SimDisk, SyncFailure};
use teahouse_core::store::{KeyRange, ReadExt, Row, Snapshot, Store};
use teahouse_core::tables::{ACCOUNT_RECORDS, DEVICE_ACCOUNT, OPS};
use teahouse_core::{Core, Env, Input, Outputs, Peers, query, view};
use teahouse_protocols::account::{AccountLog, RelayAddr};
use teahouse_protocols::card::LinkSecret;
use teahouse_protocols::codec::{self, Text};
use teahouse_protocols::envelope::sealed_hash;
use teahouse_protocols::epoch::EpochHead;
use teahouse_protocols::ids::{AccountId, DeviceId, Millis, RelayId, Tag, TopicId};
use teahouse_protocols::link::{Link, RelayInvite};
use teahouse_protocols::mailbox::{MAX_ITEM, Reply as MailReply, Request as MailRequest, Right};
use teahouse_protocols::membership::MembershipLog;
use teahouse_protocols::sign::Signed;
use teahouse_protocols::sync::Frame;

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

/// How a relay cheats. Chances are in thousandths, per item or per answer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Manners {
    /// An item is left out of an answer, for good: the client's position moves past it.
    pub drop: u32,
    /// An answer says that there is nothing.
    pub withhold: u32,
    /// An item is sent twice.
    pub repeat: u32,
    /// An item that nobody left is added.
    pub invent: u32,
}

/// A message that was acknowledged to the person who wrote it.
#[derive(Debug, Clone)]
pub struct Said {
    /// The author's device.
    pub device: usize,
    /// The command's number.
    pub command: u64,
    /// The chat.
    pub topic: TopicId,
    /// The message.
    pub message: MessageId,
    /// Who was in, as its author's device knew it before or after the step.
    pub audience: Audience,
}

/// Who is in a topic, as one device knows it.
#[derive(Debug, Clone, Default)]
pub struct Audience {
    /// Members.
    pub accounts: BTreeSet<AccountId>,
    /// Their active devices.
    pub devices: BTreeSet<DeviceId>,
    /// Devices known to be out: revoked ones, and those of former members.
    pub out: BTreeSet<DeviceId>,
}

std::thread_local! {
    static AUDIENCES: std::cell::RefCell<BTreeMap<[u8; 32], Audience>> =
        const { std::cell::RefCell::new(BTreeMap::new()) };
}

impl Audience {
    /// Reads it from a device's tables.
    #[must_use]
    pub fn of(s: &Snapshot, topic: TopicId) -> Self {
        let accounts = s.scan(&ACCOUNT_RECORDS, &KeyRange::all(), false, 65_536).expect("reads");
        let ops = s.scan(&OPS, &KeyRange::prefix(&topic.0), false, 4_096).expect("reads");
        // The same records were verified and folded before, mostly.
        let mut hasher = blake3::Hasher::new();
        for (key, _) in accounts.iter().chain(&ops) {
            hasher.update(key);
        }
        let hash = *hasher.finalize().as_bytes();
        if let Some(known) = AUDIENCES.with_borrow(|known| known.get(&hash).cloned()) {
            return known;
        }
        let out = Self::fold(s, topic, &accounts, &ops);
        AUDIENCES.with_borrow_mut(|known| {
            if known.len() > 4_096 {
                known.clear();
            }
            known.insert(hash, out.clone());
        });
        out
    }

    fn fold(s: &Snapshot, topic: TopicId, accounts: &[Row], ops: &[Row]) -> Self {
        let mut out = Self::default();
        let mut records: BTreeMap<AccountId, Vec<_>> = BTreeMap::new();
        for (key, bytes) in accounts {
            let account = AccountId(*key.first_chunk().expect("a key"));
            records.entry(account).or_default().push(Signed::from_bytes(bytes).expect("signed"));
        }
        let ops = ops.iter().map(|(_, b)| Signed::from_bytes(b).expect("signed"));
        let Ok(log) = MembershipLog::from_records(topic, ops) else { return out };
        let eval = log.evaluate(&|account, device| {
            s.get_typed::<AccountId>(&DEVICE_ACCOUNT, &device.0).ok().flatten() == Some(*account)
        });
        let membership = eval.membership();
        out.accounts.extend(membership.members.keys());
        for (account, records) in records {
            let Ok(log) = AccountLog::from_records(records) else { continue };
            for (device, info) in &log.state().devices {
                let revoked = info.revoked.is_some();
                if !revoked && out.accounts.contains(&account) && log.state().is_active(device) {
                    out.devices.insert(*device);
                } else if revoked || membership.former.contains(&account) {
                    out.out.insert(*device);
                }
            }
        }
        out
    }

    fn extend(&mut self, other: &Self) {
        self.accounts.extend(&other.accounts);
        self.devices.extend(&other.devices);
        self.out.retain(|d| other.out.contains(d));
    }
}

/// A deposit that a relay acknowledged, as the network saw it.
#[derive(Debug, Clone)]
pub struct Deposited {
    /// The relay.
    pub relay: usize,
    /// The device that deposited.
    pub device: usize,
    /// Where to.
    pub tag: Tag,
    /// The items' bytes.
    pub items: Vec<Vec<u8>>,
    /// The device's clock when it asked: it chose the tag's week.
    pub clock: Millis,
    /// When the relay acknowledged.
    pub at: Millis,
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
    /// Whether its disk is full: then it may fail to start.
    pub disk_is_troubled: bool,
    env: Env,
    waiting: Vec<Input>,
    scheduled: bool,
    wake: Option<Millis>,
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
    /// How it cheats.
    pub manners: Manners,
    env: Env,
    waiting: Vec<RelayInput>,
    scheduled: bool,
    wake: Option<Millis>,
    life: u64,
    requests: BTreeMap<u64, Asked>,
    invites: BTreeMap<u64, [u8; 16]>,
}

/// A request that a relay is to answer.
struct Asked {
    device: usize,
    life: u64,
    id: u64,
    /// A deposit, acknowledged or not.
    deposit: Option<Deposited>,
}

enum Event {
    Step(usize, u64),
    Wake(usize, u64, Millis),
    Frame { to: usize, from: usize, bytes: Vec<u8> },
    MailRequest { relay: usize, device: usize, life: u64, id: u64, clock: Millis, bytes: Vec<u8> },
    MailAnswer { device: usize, life: u64, id: u64, result: Result<Vec<u8>, String> },
    RelayStep(usize, u64),
    RelayWake(usize, u64, Millis),
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
    /// Pairs (from, to) whose queue in the network is full: frames are dropped.
    pub full: BTreeSet<(usize, usize)>,
    /// How often each thing happened.
    pub counts: BTreeMap<&'static str, u64>,
    /// Events handled.
    pub events: u64,
    /// What can't be, seen by the network itself: for whoever checks invariants.
    pub broken: Vec<String>,
    /// Deposits that relays acknowledged, for whoever checks claims. Kept while
    /// [`World::watch`] is on.
    pub deposited: Vec<Deposited>,
    /// Messages that were acknowledged, likewise.
    pub said: Vec<Said>,
    /// Whether [`World::deposited`] is kept, and what travels is looked at.
    pub watch: bool,
    /// Devices that are out of something: what is sent to them is looked at.
    pub suspects: BTreeSet<usize>,
    /// Text that must never be seen by a relay.
    pub marker: Vec<u8>,
    served: BTreeMap<(usize, Tag, u64), [u8; 16]>,
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
            full: BTreeSet::new(),
            counts: BTreeMap::new(),
            events: 0,
            broken: Vec::new(),
            deposited: Vec::new(),
            said: Vec::new(),
            watch: false,
            suspects: BTreeSet::new(),
            marker: Vec::new(),
            served: BTreeMap::new(),
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
            disk_is_troubled: false,
            env,
            waiting: Vec::new(),
            scheduled: false,
            wake: None,
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
            manners: Manners::default(),
            env,
            waiting: Vec::new(),
            scheduled: false,
            wake: None,
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
                addrs: vec![Text::try_from("/memory/1").expect("short")].try_into().expect("one"),
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
    #[allow(clippy::should_implement_trait, reason = "it steps a world, it is no iterator")]
    pub fn next(&mut self) -> bool {
        let Some(((time, _), event)) = self.queue.pop_first() else { return false };
        self.now = self.now.max(time);
        self.events += 1;
        match event {
            Event::Step(device, life) => {
                if self.devices[device].life == life {
                    self.devices[device].scheduled = false;
                    self.step(device);
                }
            }
            Event::Wake(device, life, at) => {
                let d = &self.devices[device];
                if d.life == life && d.wake == Some(at) && !d.scheduled {
                    self.step(device);
                }
            }
            Event::RelayWake(relay, life, at) => {
                let r = &self.relays[relay];
                if r.life == life && r.wake == Some(at) && !r.scheduled {
                    self.relay_step(relay);
                }
            }
            Event::Frame { to, from, bytes } => {
                if self.devices[to].connected.contains(&from) {
                    let device = self.devices[from].id;
                    self.input(to, Input::Frame { device, bytes });
                }
            }
            Event::MailRequest { relay, device, life, id, clock, bytes } => {
                if self.relays[relay].online && self.relays[relay].relay.is_some() {
                    self.number += 1;
                    let number = self.number;
                    let deposit = self.look_at(&bytes).map(|(tag, items)| Deposited {
                        relay,
                        device,
                        tag,
                        items,
                        clock,
                        at: self.now,
                    });
                    let asked = Asked { device, life, id, deposit };
                    self.relays[relay].requests.insert(number, asked);
                    // One session per device's life: what the network calls a connection.
                    let session = (device as u64) << 32 | life;
                    self.relay_input(relay, RelayInput::Request { id: number, session, bytes });
                } else {
                    let result = Err("the relay can't be reached".to_owned());
                    self.at(self.now + 50, Event::MailAnswer { device, life, id, result });
                }
            }
            Event::MailAnswer { device, life, id, mut result } => {
                if self.devices[device].life == life {
                    if !self.devices[device].online {
                        result = Err("the connection broke".to_owned());
                    }
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

    /// Everybody sleeps for a while: what was to happen happens later.
    pub fn warp(&mut self, millis: Millis) {
        self.now += millis;
        let queue = std::mem::take(&mut self.queue);
        self.queue = queue.into_iter().map(|((t, n), e)| ((t + millis, n), e)).collect();
        for d in &mut self.devices {
            d.wake = d.wake.map(|at| at + millis);
        }
        for r in &mut self.relays {
            r.wake = r.wake.map(|at| at + millis);
        }
        for ((_, _), event) in &mut self.queue {
            if let Event::Wake(_, _, at) | Event::RelayWake(_, _, at) = event {
                *at += millis;
            }
        }
    }

    /// What a relay is about to see; remembers deposits.
    fn look_at(&mut self, bytes: &[u8]) -> Option<(Tag, Vec<Vec<u8>>)> {
        if !self.watch {
            return None;
        }
        if !self.marker.is_empty() && contains(bytes, &self.marker) {
            self.broken.push("a request to a relay shows a message's text".into());
        }
        match codec::decode::<MailRequest>(bytes) {
            // What goes to a card is no message.
            Ok(MailRequest::Deposit { tag, items, right })
                if !matches!(right, Right::Invite(_)) =>
            {
                Some((tag, items.iter().map(|i| i.bytes.to_vec()).collect()))
            }
            _ => None,
        }
    }

    /// Puts a frame into a device as if a connected device had sent it.
    pub fn forge(&mut self, from: usize, to: usize, bytes: Vec<u8>) -> bool {
        if !self.devices[to].connected.contains(&from) {
            return false;
        }
        self.at(self.now + 1, Event::Frame { to, from, bytes });
        true
    }

    /// Devices to which one is connected.
    #[must_use]
    pub fn connected(&self, device: usize) -> Vec<usize> {
        self.devices[device].connected.iter().copied().collect()
    }

    /// Sets a device's clock off.
    pub fn set_skew(&mut self, device: usize, skew: i64) {
        self.devices[device].skew = skew;
        self.input(device, Input::Tick);
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
        let before = if self.watch { core.store().snapshot().ok() } else { None };
        let result = core.step(&mut d.env, batch);
        *self.counts.entry("steps").or_default() += 1;
        match result {
            Ok(outputs) => {
                for (id, reply) in &outputs.replies {
                    if let Ok(Reply::Message { topic, message }) = reply
                        && let Some(before) = &before
                    {
                        let mut audience = Audience::of(before, *topic);
                        audience.extend(&Audience::of(&self.snapshot(device), *topic));
                        let said = Said {
                            device,
                            command: *id,
                            topic: *topic,
                            message: *message,
                            audience,
                        };
                        self.said.push(said);
                    }
                }
                if let Some(before) = before {
                    self.check_suspects(device, &before, &outputs);
                }
                self.outputs(device, outputs);
            }
            Err(_) => {
                self.count("storage_errors");
                self.recover(device);
                return;
            }
        }
        for input in rest {
            self.input(device, input);
        }
    }

    /// After a storage error: as the runtime does, reopened in place; else started anew.
    fn recover(&mut self, device: usize) {
        if self.chance(500) {
            let clock = self.clock(device);
            let d = &mut self.devices[device];
            if let Some(core) = d.core.as_mut()
                && core.reopen().is_ok()
            {
                d.env.now = clock;
                if let Ok(outputs) = core.start(&mut d.env) {
                    self.count("reopened");
                    let peers = self.connected(device);
                    self.outputs(device, outputs);
                    for peer in peers {
                        let device_id = self.devices[peer].id;
                        self.input(device, Input::PeerUp { device: device_id });
                    }
                    return;
                }
            }
        }
        self.crash(device, false);
        self.start(device);
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
            if self.full.contains(&(device, to)) {
                self.count("frames_refused_full");
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
                        clock: self.clock(device),
                        bytes: mail.request,
                    };
                    self.at(self.now + delay, event);
                }
                _ => {
                    let result = Err("the relay can't be reached".to_owned());
                    self.at(self.now + 50, Event::MailAnswer { device, life, id: mail.id, result });
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
            let at = self.now + wait;
            self.devices[device].wake = Some(at);
            self.at(at, Event::Wake(device, life, at));
        }
    }

    /// Whoever was removed is sent nothing of the topic but the removal.
    fn check_suspects(&mut self, from: usize, before: &Snapshot, outputs: &Outputs) {
        for (to, bytes) in &outputs.frames {
            let known = self.devices.iter().position(|d| d.id == *to);
            if !known.is_some_and(|to| self.suspects.contains(&to)) {
                continue;
            }
            let topics: Vec<TopicId> = match codec::decode::<Frame>(bytes) {
                Ok(Frame::Page { topic, letters, .. }) if !letters.is_empty() => vec![topic],
                Ok(Frame::Push(topic, _)) => vec![topic],
                // An empty frontier is a question: it tells nothing.
                Ok(Frame::Frontier { topic, ops, chains, .. })
                    if !ops.is_empty() || !chains.is_empty() =>
                {
                    vec![topic]
                }
                Ok(Frame::Keys(parcels)) => parcels
                    .iter()
                    .filter_map(|p| Signed::<EpochHead>::from_bytes(&p.head).ok())
                    .map(|h| h.get().topic)
                    .collect(),
                Ok(Frame::Hello { topics, .. }) => topics.iter().map(|(t, _)| *t).collect(),
                _ => continue,
            };
            for topic in topics {
                let mut audience = Audience::of(before, topic);
                audience.extend(&Audience::of(&self.snapshot(from), topic));
                if audience.out.contains(to) {
                    self.broken.push(format!(
                        "device {from} sent a device something of a topic that it knew it out of"
                    ));
                }
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
        let Ok(outputs) = machine.step(&mut r.env, batch) else {
            self.count("relay_storage_errors");
            self.crash_relay(relay);
            self.start_relay(relay);
            return;
        };
        let life = r.life;
        for (id, code) in outputs.invites {
            r.invites.insert(id, code);
        }
        for (number, bytes) in outputs.answers {
            let Some(asked) = self.relays[relay].requests.remove(&number) else {
                continue;
            };
            let Asked { device, life, id, deposit } = asked;
            let bytes = self.see_answer(relay, bytes, deposit);
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
            let at = self.now + wait;
            self.relays[relay].wake = Some(at);
            self.at(at, Event::RelayWake(relay, life, at));
        }
    }

    /// Looks at an honest answer, then lets the relay cheat.
    fn see_answer(&mut self, relay: usize, bytes: Vec<u8>, deposit: Option<Deposited>) -> Vec<u8> {
        if !self.watch {
            return bytes;
        }
        let manners = self.relays[relay].manners;
        match codec::decode::<MailReply>(&bytes) {
            Ok(MailReply::Deposited { .. }) => {
                self.deposited.extend(deposit.map(|d| Deposited { at: self.now, ..d }));
                bytes
            }
            Ok(MailReply::Items { items, closed, more }) => {
                let mut out = Vec::new();
                for (tag, index, item) in items {
                    let hash = short_hash(&item);
                    let known = *self.served.entry((relay, tag, index)).or_insert(hash);
                    if known != hash {
                        self.broken.push(format!(
                            "relay {relay} gave the index {index} of a tag to two items"
                        ));
                    }
                    if self.chance(manners.drop) {
                        self.count("relay_dropped");
                        continue;
                    }
                    if self.chance(manners.repeat) {
                        self.count("relay_repeated");
                        out.push((tag, index, item.clone()));
                    }
                    if self.chance(manners.invent) {
                        self.count("relay_invented");
                        let mut junk = item.to_vec();
                        let at = self.below(junk.len() as u64) as usize;
                        junk[at] ^= 1 << self.below(8);
                        if let Ok(junk) = codec::Bytes::<MAX_ITEM>::try_from(junk) {
                            out.push((tag, index, junk));
                        }
                    }
                    out.push((tag, index, item));
                }
                if !out.is_empty() && self.chance(manners.withhold) {
                    self.count("relay_withheld");
                    out.clear();
                }
                let Ok(items) = codec::List::try_from(out) else { return bytes };
                codec::encode(&MailReply::Items { items, closed, more })
            }
            _ => bytes,
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
        d.wake = None;
        d.life += 1;
        self.reconnect();
        self.devices[device].connected.clear();
    }

    /// Starts a device from its disk. With a full disk it may not come up.
    pub fn start(&mut self, device: usize) {
        if self.devices[device].core.is_some() {
            return;
        }
        let clock = self.clock(device);
        let seed = self.seed();
        let d = &mut self.devices[device];
        d.env = Env::seeded(clock, seed);
        let mut open = || {
            let store = Store::on_disk(&d.disk).map_err(|e| e.to_string())?;
            let mut core = Core::open(store, &mut d.env).map_err(|e| e.to_string())?;
            let outputs = core.start(&mut d.env).map_err(|e| e.to_string())?;
            Ok::<_, String>((core, outputs))
        };
        let failed = d.disk.counters().failed_syncs;
        let mut opened = open();
        if opened.is_err() && d.disk.counters().failed_syncs > failed {
            opened = open();
        }
        let (core, outputs) = match opened {
            Ok(opened) => opened,
            Err(why) => {
                assert!(d.disk_is_troubled, "device {device} does not start: {why}");
                self.count("starts_failed");
                return;
            }
        };
        assert_eq!(core.device(), d.id, "the device key survives");
        d.core = Some(core);
        self.outputs(device, outputs);
        self.reconnect();
    }

    /// Limits the room on a device's disk, or gives plenty again.
    pub fn set_room(&mut self, device: usize, bytes: Option<u64>) {
        self.devices[device].disk.set_room(bytes);
        self.devices[device].disk_is_troubled = bytes.is_some();
    }

    /// Makes the nth sync of a device's disk fail.
    pub fn fail_sync(&mut self, device: usize, nth: u64, then: SyncFailure) {
        self.devices[device].disk.fail_sync(nth, then);
    }

    /// Kills a relay.
    pub fn crash_relay(&mut self, relay: usize) {
        self.count("relay_crashes");
        let r = &mut self.relays[relay];
        r.disk.crash(&mut self.rng);
        r.relay = None;
        r.waiting.clear();
        r.scheduled = false;
        r.wake = None;
        r.life += 1;
        let requests = std::mem::take(&mut r.requests);
        for Asked { device, life, id, .. } in requests.into_values() {
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
        // A sync that is made to fail fails once.
        let mut open = || {
            let store = Store::on_disk(&r.disk).map_err(|e| e.to_string())?;
            Relay::open(store, r.id, relay_config(), &mut r.env).map_err(|e| e.to_string())
        };
        let machine = open().or_else(|_| open()).or_else(|_| open()).expect("a relay opens");
        r.relay = Some(machine);
        self.relay_input(relay, RelayInput::Tick);
    }

    /// Rebuilds a device's projections.
    ///
    /// # Errors
    /// Why it could not.
    pub fn rebuild(&mut self, device: usize) -> Result<(), String> {
        let clock = self.clock(device);
        let d = &mut self.devices[device];
        let Some(core) = d.core.as_mut() else { return Ok(()) };
        d.env.now = clock;
        match core.rebuild(&mut d.env) {
            Ok(_) => Ok(()),
            // The disk's fault; the runtime opens the database again.
            Err(_) if core.store().is_broken() => {
                self.recover(device);
                Ok(())
            }
            Err(e) => Err(format!("a rebuild on device {device} fails: {e}")),
        }
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

fn contains(hay: &[u8], needle: &[u8]) -> bool {
    hay.windows(needle.len()).any(|w| w == needle)
}

fn short_hash(bytes: &[u8]) -> [u8; 16] {
    let hash = sealed_hash(bytes);
    *hash.0.first_chunk().expect("32 bytes")
}

fn relay_config() -> RelayConfig {
    RelayConfig { name: "town".into(), keep_days: 30, max_bytes: 1 << 30, tag_bytes: 64 << 20 }
}
