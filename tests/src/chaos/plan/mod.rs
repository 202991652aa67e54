//! The plan: a town drawn from a seed, and its days.
//!
//! Reading order: this file (the town, its dice, one event after the other), `settle` (the
//! beginning, in good weather), `act` and `moments` (what people do; `choice` draws in what,
//! `linking` goes on over many events), `fault` (what goes wrong, and when it is over), `replies` (what came of
//! it), `heal` (the end).
//!
//! The plan draws from the town's one generator, in turn: a draw that is added or moved changes
//! what every seed means.

mod act;
mod choice;
mod fault;
mod heal;
mod linking;
mod moments;
mod replies;
mod settle;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use teahouse_core::command::MessageId;
use teahouse_protocols::envelope::Envelope;
use teahouse_protocols::ids::{AccountId, Millis, TopicId};

use self::linking::Linking;
use self::replies::Asked;
use crate::chaos::truth::{Branch, MARK, Mailroom, Message, Moments};
use crate::chaos::{Broken, Outcome};
use crate::world::World;

const SECOND: Millis = 1_000;
const HOUR: Millis = 3_600 * SECOND;
const DAY: Millis = 24 * HOUR;
/// What one seed may sleep through altogether: items at relays live for 30 days.
const MAX_WARP: Millis = 26 * DAY;
/// Actions remembered for a failure's report.
const REMEMBERED: usize = 40;

/// Somebody.
#[derive(Debug)]
pub struct Person {
    /// For the log.
    pub name: String,
    /// The account.
    pub account: AccountId,
    /// Devices by index, revoked ones too.
    pub devices: Vec<usize>,
    /// Devices that were asked to be revoked.
    pub revoked: BTreeSet<usize>,
    /// At which event each of those was.
    pub revoked_at: BTreeMap<usize, u64>,
    /// Whether this is the one who turns hostile.
    pub villain: bool,
}

/// What a seed's town is like.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_excessive_bools, reason = "independent switches")]
pub struct Profile {
    /// One person turns hostile half-way.
    pub villain: bool,
    /// One relay cheats.
    pub cheat: bool,
    /// Some clocks are off.
    pub skew: bool,
    /// Devices sleep for days and weeks.
    pub sleepers: bool,
    /// Disks fail and fill up.
    pub disks: bool,
    /// At the end, devices meet at relays only.
    pub by_mail: bool,
}

/// The town.
pub struct Town {
    pub(crate) world: World,
    pub(crate) rng: ChaCha20Rng,
    pub(crate) seed: u64,
    pub(crate) profile: Profile,
    pub(crate) people: Vec<Person>,
    pub(crate) messages: Vec<Message>,
    pub(crate) mailroom: Mailroom,
    pub(crate) moments: Moments,
    /// At which event each message was acknowledged, by number.
    pub(crate) said_at: BTreeMap<u64, u64>,
    /// Groups whose joiners don't get what was before.
    pub(crate) from_joining: BTreeSet<TopicId>,
    /// Texts that were sent on to other chats.
    pub(crate) forwarded: BTreeSet<u64>,
    /// Devices that invited somebody into a group that was there before.
    pub(crate) invited: BTreeSet<(usize, AccountId)>,
    /// What outsiders wrote to devices that knew them to be out.
    pub(crate) intrusions: Vec<(usize, Envelope)>,
    /// Messages that somebody asked to recall.
    pub(crate) recalled: BTreeSet<MessageId>,
    pub(crate) event: u64,
    pub(crate) turned: bool,
    pub(crate) branches: BTreeMap<TopicId, Branch>,
    /// Topics in which the hostile device told two stories.
    pub(crate) equivocated: BTreeSet<TopicId>,
    pub(crate) counts: BTreeMap<String, u64>,
    pending: BTreeMap<(usize, u64), Asked>,
    invites: Vec<String>,
    next_number: u64,
    linking: Option<Linking>,
    /// Devices that are down or away, and the event at which they come back.
    away: BTreeMap<usize, (u64, bool)>,
    relay_back: BTreeMap<usize, u64>,
    room_back: BTreeMap<usize, u64>,
    warped: Millis,
    log: VecDeque<String>,
    events: u64,
    steps_before: u64,
    verbose: bool,
}

/// Ends a run: an invariant broke.
pub(crate) type Check = Result<(), String>;

impl Town {
    /// A town for a seed.
    #[must_use]
    pub fn new(seed: u64, events: u64, verbose: bool) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed ^ 0x7ea_0000);
        let mut coin = |thousandths: u64| rng.next_u64() % 1000 < thousandths;
        let (villain, cheat, skew) = (coin(400), coin(250), coin(300));
        let profile = Profile {
            villain,
            cheat,
            skew,
            sleepers: coin(400),
            disks: coin(700),
            by_mail: coin(600) && !villain && !cheat && !skew,
        };
        Self {
            world: World::new(seed),
            rng,
            seed,
            profile,
            people: Vec::new(),
            messages: Vec::new(),
            mailroom: Mailroom::default(),
            moments: Moments::default(),
            said_at: BTreeMap::new(),
            from_joining: BTreeSet::new(),
            forwarded: BTreeSet::new(),
            invited: BTreeSet::new(),
            intrusions: Vec::new(),
            recalled: BTreeSet::new(),
            event: 0,
            turned: false,
            branches: BTreeMap::new(),
            equivocated: BTreeSet::new(),
            counts: BTreeMap::new(),
            pending: BTreeMap::new(),
            invites: Vec::new(),
            next_number: 0,
            linking: None,
            away: BTreeMap::new(),
            relay_back: BTreeMap::new(),
            room_back: BTreeMap::new(),
            warped: 0,
            log: VecDeque::new(),
            events,
            steps_before: 0,
            verbose,
        }
    }

    /// Lives through the plan, heals, and checks.
    #[must_use]
    pub fn live(mut self) -> Outcome {
        let result = self.days();
        let broken = result.err().map(|what| Broken { what, log: self.log.drain(..).collect() });
        let mut counts = self.counts;
        for (what, n) in &self.world.counts {
            *counts.entry(format!("world: {what}")).or_default() += n;
        }
        counts.insert("world: events".into(), self.world.events);
        counts.insert("world: virtual hours".into(), (self.world.now - crate::world::DAWN) / HOUR);
        let disks = self
            .world
            .devices
            .iter()
            .map(|d| &d.disk)
            .chain(self.world.relays.iter().map(|r| &r.disk));
        for disk in disks {
            let c = disk.counters();
            for (what, n) in [
                ("syncs", c.syncs),
                ("failed syncs", c.failed_syncs),
                ("writes refused: full", c.full),
                ("unsynced writes kept by a crash", c.kept),
                ("unsynced writes torn by a crash", c.torn),
                ("unsynced writes lost by a crash", c.lost),
            ] {
                *counts.entry(format!("disk: {what}")).or_default() += n;
            }
        }
        Outcome { seed: self.seed, counts, broken }
    }

    fn days(&mut self) -> Check {
        self.settle_in();
        self.world.watch = true;
        for device in 0..self.world.devices.len() {
            self.world.note_friends(device);
        }
        self.world.marker = MARK.as_bytes().to_vec();
        self.check_all()?;
        self.steps_before = self.steps();
        while self.progress() < self.events {
            self.event += 1;
            self.happen();
            self.come_back();
            self.note()?;
            if self.event.is_multiple_of(8) {
                let device = self.below(self.world.devices.len());
                self.check_device(device)?;
            }
            if self.event.is_multiple_of(100) {
                self.check_all()?;
            }
        }
        self.heal()?;
        self.finale()
    }

    fn steps(&self) -> u64 {
        self.world.counts.get("steps").copied().unwrap_or(0)
    }

    /// Events so far: what the plan drew, and the steps of cores that came of it.
    fn progress(&self) -> u64 {
        self.event + self.steps() - self.steps_before
    }

    fn happen(&mut self) {
        match self.below(100) {
            0..55 => self.act(),
            55..75 => self.fault(),
            _ => {}
        }
        self.pass_time();
    }

    fn pass_time(&mut self) {
        let millis = match self.below(1000) {
            0..640 => self.below(60) as u64,
            640..960 => self.below(2_000) as u64,
            960..996 => self.below(30_000) as u64,
            996..998 => self.below(200_000) as u64,
            _ => {
                let most = match self.below(if self.profile.sleepers { 4 } else { 2 }) {
                    0 => HOUR,
                    1 => 10 * HOUR,
                    2 => 3 * DAY,
                    _ => 9 * DAY,
                };
                let millis = (self.rng.next_u64() % most).min(MAX_WARP - self.warped);
                self.warped += millis;
                self.tell("time: all sleep", format!("{} h", millis / HOUR));
                self.world.warp(millis);
                for device in 0..self.world.devices.len() {
                    self.world.flap(device);
                }
                1_000
            }
        };
        self.world.run(millis);
    }

    // Dice.

    pub(crate) fn below(&mut self, n: usize) -> usize {
        if n == 0 { 0 } else { (self.rng.next_u64() % n as u64) as usize }
    }

    pub(crate) fn coin(&mut self, thousandths: u64) -> bool {
        self.rng.next_u64() % 1000 < thousandths
    }

    pub(crate) fn pick<T: Clone>(&mut self, list: &[T]) -> Option<T> {
        if list.is_empty() {
            return None;
        }
        let i = self.below(list.len());
        Some(list[i].clone())
    }

    // Words.

    pub(crate) fn tell(&mut self, what: &str, detail: impl std::fmt::Display) {
        *self.counts.entry(what.to_owned()).or_default() += 1;
        let line =
            format!("{:>5} {:>10} {what}: {detail}", self.event, self.world.now % 10_000_000_000);
        if self.verbose {
            println!("{line}");
        }
        if self.log.len() == REMEMBERED {
            self.log.pop_front();
        }
        self.log.push_back(line);
    }

    pub(crate) fn name(&self, account: AccountId) -> String {
        self.people
            .iter()
            .find(|p| p.account == account)
            .map_or_else(|| "?".to_owned(), |p| p.name.clone())
    }
}

pub(crate) fn short(topic: TopicId) -> String {
    topic.to_hex()[..6].to_owned()
}

pub(crate) fn name_of(id: MessageId) -> String {
    format!("{}:{}", &id.device.to_hex()[..6], id.seq)
}
