//! A world under virtual time: real cores and real relays, a simulated network and lossy
//! disks. Everything that happens follows from one seed, so a failing run replays exactly.
//!
//! Reading order: this file (the world, its dice, its queue of events), `device` (a core
//! between commands, steps and crashes), `network` (who is connected, and what becomes of what
//! a core sends), `relay` (the mailbox at the other end, and how it cheats), `watch`,
//! `audience` and `friends` (what the network itself sees, for whoever checks invariants),
//! `traffic` (how much went over a network), `people` and `moments` (what people do, in short).

mod audience;
mod device;
mod friends;
pub mod moments;
mod money;
mod network;
mod people;
mod relay;
mod traffic;
mod watch;

use std::collections::{BTreeMap, BTreeSet};

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use teahouse_core::Input;
use teahouse_core::relay::RelayInput;
use teahouse_protocols::ids::{Millis, Tag};

pub use self::audience::Audience;
pub use self::device::Device;
pub use self::friends::Friendships;
pub use self::network::Faults;
use self::relay::Asked;
pub use self::relay::{Manners, RelayNode};
pub use self::traffic::{Traffic, Volume, Way};
pub use self::watch::{Deposited, Said};

/// When worlds begin: some day in November 2026.
pub const DAWN: Millis = 1_795_000_000_000;

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
    /// Devices that were restored from an older copy.
    pub restored: BTreeSet<usize>,
    /// Text that must never be seen by a relay.
    pub marker: Vec<u8>,
    /// Who has been whose friend, noted while [`World::watch`] is on.
    pub friendships: Friendships,
    served: BTreeMap<(usize, Tag, u64), [u8; 16]>,
    queue: BTreeMap<(Millis, u64), Event>,
    number: u64,
}

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
            restored: BTreeSet::new(),
            marker: Vec::new(),
            friendships: Friendships::default(),
            served: BTreeMap::new(),
            queue: BTreeMap::new(),
            number: 0,
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
                    self.meter(to, Way::FromDevices, &bytes);
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
                    if let Ok(bytes) = &result {
                        self.meter(device, Way::FromRelays, bytes);
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
