//! The plan: a town drawn from a seed, and its days.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use teahouse_core::command::{
    Chat, Command, Contacts, Devices, Groups, MessageId, Refusal, Relays, Reply,
};
use teahouse_core::store::backends::SyncFailure;
use teahouse_core::store::{KeyRange, ReadExt, decode};
use teahouse_core::tables::{MESSAGES, MessageRow, TOPICS, Topic};
use teahouse_core::{Input, query, view};
use teahouse_protocols::envelope::Envelope;
use teahouse_protocols::ids::{AccountId, Millis, TopicId};
use teahouse_protocols::membership::{Role, TopicKind};

use crate::chaos::check::id_in;
use crate::chaos::truth::{Branch, MARK, Mailroom, Message, numbers_in};
use crate::chaos::{Broken, Outcome};
use crate::world::{Audience, Faults, Manners, World};

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

/// A chat to do something in.
#[derive(Debug, Clone, Copy)]
struct Place {
    topic: TopicId,
}

/// What a command under way was for.
#[derive(Debug, Clone)]
enum Asked {
    Say { number: u64, forward: bool },
    Card { other: usize },
    LinkStart { new: usize },
    Plain,
}

struct Linking {
    old: usize,
    new: usize,
    since: u64,
    confirmed: bool,
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

    // The beginning, in good weather.

    fn settle_in(&mut self) {
        let people = 3 + self.below(4);
        let relays = 1 + self.below(2);
        for _ in 0..relays {
            let relay = self.world.add_relay();
            let link = self.world.invite(relay, None);
            self.invites.push(link);
        }
        let names = ["Ann", "Bob", "Cy", "Di", "Eve", "Fay"];
        for name in names.iter().take(people) {
            let device = self.world.add_device();
            let account = self.world.create(device, name);
            for i in 0..relays {
                if i == 0 || self.coin(700) {
                    let link = self.invites[i].clone();
                    self.world.use_relay(device, &link);
                }
            }
            self.people.push(Person {
                name: (*name).to_owned(),
                account,
                devices: vec![device],
                revoked: BTreeSet::new(),
                revoked_at: BTreeMap::new(),
                villain: false,
            });
        }
        if self.profile.villain {
            let i = self.below(people);
            self.people[i].villain = true;
        }
        // Everybody knows the first, who makes a group; others meet later.
        for i in 1..people {
            let (a, b) = (self.people[0].devices[0], self.people[i].devices[0]);
            self.world.befriend(a, b);
        }
        self.world.run(5 * SECOND);
        let members = self.people[1..].iter().map(|p| p.account).collect();
        let _ = self.group(0, "tea", members);
        self.world.run(5 * SECOND);
        let lose = self.pick(&[0, 5, 20, 60]).unwrap_or_default();
        self.world.faults = Faults {
            lose,
            double: 20,
            reorder: 30,
            lose_mail: 10,
            delay: 10 + self.below(200) as u64,
        };
        if self.profile.cheat {
            let relay = self.below(relays);
            let manners = Manners { drop: 30, withhold: 50, repeat: 50, invent: 50 };
            self.world.relays[relay].manners = manners;
        }
    }

    fn group(&mut self, person: usize, title: &str, members: Vec<AccountId>) -> TopicId {
        let device = self.people[person].devices[0];
        let share_history = !self.coin(250);
        let command =
            Command::Groups(Groups::Create { title: title.to_owned(), members, share_history });
        match self.world.ask(device, command) {
            Ok(Reply::Topic { topic }) => {
                if !share_history {
                    self.from_joining.insert(topic);
                }
                topic
            }
            other => panic!("group: {other:?}"),
        }
    }

    // One event.

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

    /// Whoever may act: up, with an account, and not (yet) hostile.
    fn actor(&mut self) -> Option<(usize, usize)> {
        let person = self.below(self.people.len());
        if self.people[person].villain && self.turned {
            return None;
        }
        let devices = self.people[person].devices.clone();
        let device = self.pick(&devices)?;
        self.world.devices[device].core.is_some().then_some((person, device))
    }

    fn ask(&mut self, device: usize, command: Command, what: Asked) {
        let id = self.world.command(device, command);
        self.pending.insert((device, id), what);
    }

    /// A chat that a device shows, one that it is out of now and then.
    fn chat_of(&mut self, device: usize, group: bool) -> Option<Place> {
        let s = self.world.snapshot(device);
        let me = self.people.iter().find(|p| p.devices.contains(&device))?.account;
        let any = self.coin(50);
        let places: Vec<Place> = s
            .scan_typed::<Topic>(&TOPICS, &KeyRange::all(), false, 4_096)
            .expect("reads")
            .into_iter()
            .filter(|(_, row)| match row.kind {
                TopicKind::Private => false,
                TopicKind::Direct => !group && !row.hidden,
                TopicKind::Group => true,
            })
            .filter_map(|(key, _)| Some(Place { topic: TopicId(key.try_into().ok()?) }))
            .filter(|p| any || Audience::of(&s, p.topic).accounts.contains(&me))
            .collect();
        self.pick(&places)
    }

    /// One of the newest messages of a chat, with its text.
    fn message_in(&mut self, device: usize, topic: TopicId) -> Option<(MessageId, String)> {
        let rows = self
            .world
            .snapshot(device)
            .scan(&MESSAGES, &KeyRange::prefix(&topic.0), true, 20)
            .expect("reads");
        let (key, value) = self.pick(&rows)?;
        let row: MessageRow = decode(&MESSAGES, &value).expect("a row");
        Some((id_in(&key), row.text.unwrap_or_default()))
    }

    fn member_of(&mut self, device: usize, topic: TopicId) -> Option<AccountId> {
        let members = Audience::of(&self.world.snapshot(device), topic).accounts;
        let members: Vec<AccountId> = members.into_iter().collect();
        self.pick(&members)
    }

    fn text(&mut self) -> (u64, String) {
        self.next_number += 1;
        let number = self.next_number;
        let mut text = format!("{MARK}{number}~");
        let more = match self.below(40) {
            0 => 3_000,
            1 => self.below(20_000),
            _ => self.below(80),
        };
        while text.len() < more {
            let word = self.pick(&["tea ", "茶 ", "🍵 ", "later ", "\n", "ok"]).unwrap_or("");
            text.push_str(word);
        }
        (number, text)
    }

    #[allow(clippy::too_many_lines)]
    fn act(&mut self) {
        if self.turned && self.coin(120) {
            self.attack();
            return;
        }
        if self.coin(30) {
            self.pry();
        }
        if self.coin(30) {
            self.intrude();
        }
        let Some((person, device)) = self.actor() else { return };
        let name = self.people[person].name.clone();
        let who = format!("{name} on {device}");
        match self.below(1000) {
            0..560 => {
                let Some(chat) = self.chat_of(device, false) else { return };
                let burst = if self.coin(60) { 2 + self.below(12) } else { 1 };
                for _ in 0..burst {
                    let (number, text) = self.text();
                    let reply_to = if self.coin(150) {
                        self.message_in(device, chat.topic).map(|m| m.0)
                    } else {
                        None
                    };
                    let mentions =
                        if self.coin(50) { vec![self.people[0].account] } else { vec![] };
                    let command = Chat::Send { topic: chat.topic, text, reply_to, mentions };
                    self.tell(
                        "act: send",
                        format!("{who} to {} number {number}", short(chat.topic)),
                    );
                    self.ask(device, Command::Chat(command), Asked::Say { number, forward: false });
                }
            }
            560..640 => {
                let Some(chat) = self.chat_of(device, false) else { return };
                let Some((id, _)) = self.message_in(device, chat.topic) else { return };
                let emoji = self.pick(&["🍵", "👍", "❤"]).unwrap_or("👍").to_owned();
                let on = self.coin(700);
                self.tell("act: react", format!("{who} {emoji} {on} on {}", name_of(id)));
                let command = Chat::React { topic: chat.topic, message: id, emoji, on };
                self.ask(device, Command::Chat(command), Asked::Plain);
            }
            640..680 => {
                let Some(chat) = self.chat_of(device, false) else { return };
                let Some((id, _)) = self.message_in(device, chat.topic) else { return };
                self.tell("act: recall", format!("{who} {}", name_of(id)));
                self.recalled.insert(id);
                let command = Chat::Recall { topic: chat.topic, message: id };
                self.ask(device, Command::Chat(command), Asked::Plain);
            }
            680..700 => {
                let Some(from) = self.chat_of(device, false) else { return };
                let Some(to) = self.chat_of(device, false) else { return };
                let Some((id, text)) = self.message_in(device, from.topic) else { return };
                numbers_in(text.as_bytes(), &mut self.forwarded);
                self.next_number += 1;
                let number = self.next_number;
                self.tell("act: forward", format!("{who} {} to {}", name_of(id), short(to.topic)));
                let command = Chat::Forward { from: from.topic, message: id, to: to.topic };
                self.ask(device, Command::Chat(command), Asked::Say { number, forward: true });
            }
            700..740 => {
                let Some(chat) = self.chat_of(device, false) else { return };
                self.tell("act: mark read", format!("{who} {}", short(chat.topic)));
                self.ask(device, Command::Chat(Chat::MarkRead { topic: chat.topic }), Asked::Plain);
            }
            740..750 => {
                let Some(chat) = self.chat_of(device, false) else { return };
                let seconds = self.pick(&[0, 0, 5, 60, 3_600, 86_400]).unwrap_or(0);
                self.tell("act: timer", format!("{who} {} {seconds} s", short(chat.topic)));
                let command = Chat::Timer { topic: chat.topic, seconds };
                self.ask(device, Command::Chat(command), Asked::Plain);
            }
            750..765 => {
                let Some(chat) = self.chat_of(device, false) else { return };
                self.tell("act: draft", &who);
                let command = Chat::Draft { topic: chat.topic, text: "unsent".into() };
                self.ask(device, Command::Chat(command), Asked::Plain);
            }
            765..790 => {
                let Some(chat) = self.chat_of(device, true) else { return };
                let text = format!("title {}", self.event);
                let command = match self.below(3) {
                    0 => Groups::Rename { topic: chat.topic, title: text },
                    1 => Groups::Notice { topic: chat.topic, text },
                    _ => Groups::Nickname { topic: chat.topic, name: text },
                };
                self.tell("act: rename, notice, nickname", format!("{who} {}", short(chat.topic)));
                self.ask(device, Command::Groups(command), Asked::Plain);
            }
            790..805 => self.meet(person, device),
            805..835 => {
                let requests = query::requests(&self.world.snapshot(device)).expect("reads");
                let Some(request) = self.pick(&requests) else { return };
                let account = request.account;
                if self.coin(850) {
                    self.tell("act: accept", format!("{who} {}", self.name(account)));
                    self.ask(device, Command::Contacts(Contacts::Accept { account }), Asked::Plain);
                } else {
                    self.tell("act: decline", format!("{who} {}", self.name(account)));
                    self.ask(
                        device,
                        Command::Contacts(Contacts::Decline { account }),
                        Asked::Plain,
                    );
                }
            }
            835..850 => {
                let contacts = query::contacts(&self.world.snapshot(device)).expect("reads");
                let Some(contact) = self.pick(&contacts) else { return };
                let account = contact.account;
                let command = match self.below(6) {
                    0 => Contacts::Block { account },
                    1 | 2 => Contacts::Unblock { account },
                    3 => Contacts::Verify { account, verified: true },
                    4 => Contacts::Delete { account },
                    _ => Contacts::Remark { account, name: format!("r{}", self.event) },
                };
                let what = match &command {
                    Contacts::Block { .. } => "act: block",
                    Contacts::Unblock { .. } => "act: unblock",
                    Contacts::Delete { .. } => "act: delete contact",
                    _ => "act: remark, verify",
                };
                self.tell(what, format!("{who} {}", self.name(account)));
                self.ask(device, Command::Contacts(command), Asked::Plain);
            }
            850..862 => {
                let contacts = query::contacts(&self.world.snapshot(device)).expect("reads");
                let friends: Vec<AccountId> = contacts
                    .iter()
                    .filter(|c| c.state == view::ContactState::Friend && self.coin(500))
                    .map(|c| c.account)
                    .collect();
                let title = format!("group {}", self.event);
                self.tell("act: create group", format!("{who} with {}", friends.len()));
                let command = Groups::Create { title, members: friends, share_history: true };
                self.ask(device, Command::Groups(command), Asked::Plain);
            }
            862..890 => {
                let Some(chat) = self.chat_of(device, true) else { return };
                let s = self.world.snapshot(device);
                let members = Audience::of(&s, chat.topic).accounts;
                let mut contacts = query::contacts(&s).expect("reads");
                contacts.retain(|c| !members.contains(&c.account));
                let Some(contact) = self.pick(&contacts) else { return };
                let account = contact.account;
                self.tell(
                    "act: invite",
                    format!("{who} {} to {}", self.name(account), short(chat.topic)),
                );
                self.invited.insert((device, account));
                let command = Groups::Invite { topic: chat.topic, account };
                self.ask(device, Command::Groups(command), Asked::Plain);
            }
            890..910 => {
                let Some(chat) = self.chat_of(device, true) else { return };
                let Some(account) = self.member_of(device, chat.topic) else { return };
                self.tell(
                    "act: remove",
                    format!("{who} {} from {}", self.name(account), short(chat.topic)),
                );
                let command = Groups::Remove { topic: chat.topic, account };
                self.ask(device, Command::Groups(command), Asked::Plain);
                // They may be leaving, or naming others, while nobody has told them.
                let theirs = self.people.iter().find(|p| p.account == account && !p.villain);
                let Some(theirs) = theirs.and_then(|p| p.devices.first().copied()) else { return };
                if theirs == device || !self.up(theirs) || !self.coin(600) {
                    return;
                }
                self.tell("act: at the same time", theirs);
                let command = if self.coin(500) {
                    Groups::Leave { topic: chat.topic }
                } else {
                    let own = self.people[person].account;
                    Groups::SetRole { topic: chat.topic, account: own, role: Role::Member }
                };
                self.ask(theirs, Command::Groups(command), Asked::Plain);
            }
            910..916 => {
                let Some(chat) = self.chat_of(device, true) else { return };
                self.tell("act: leave", format!("{who} {}", short(chat.topic)));
                self.ask(
                    device,
                    Command::Groups(Groups::Leave { topic: chat.topic }),
                    Asked::Plain,
                );
            }
            916..940 => {
                let Some(chat) = self.chat_of(device, true) else { return };
                let Some(account) = self.member_of(device, chat.topic) else { return };
                let role = self
                    .pick(&[Role::Admin, Role::Admin, Role::Member, Role::Owner])
                    .unwrap_or(Role::Admin);
                self.tell(
                    "act: role",
                    format!("{who} {} {role:?} in {}", self.name(account), short(chat.topic)),
                );
                let command = Groups::SetRole { topic: chat.topic, account, role };
                self.ask(device, Command::Groups(command), Asked::Plain);
            }
            940..965 => self.link(person, device),
            965..972 => {
                let active: Vec<usize> = self.people[person]
                    .devices
                    .iter()
                    .copied()
                    .filter(|d| !self.people[person].revoked.contains(d) && *d != device)
                    .collect();
                let Some(other) = self.pick(&active) else { return };
                self.tell("act: revoke", format!("{who} device {other}"));
                let id = self.world.devices[other].id;
                self.people[person].revoked.insert(other);
                self.people[person].revoked_at.insert(other, self.event);
                self.world.suspects.insert(other);
                self.ask(device, Command::Devices(Devices::Revoke { device: id }), Asked::Plain);
            }
            972..984 => {
                let Some(link) = self.pick(&self.invites.clone()) else { return };
                self.tell("act: use relay", &who);
                self.ask(device, Command::Relays(Relays::Use { link }), Asked::Plain);
            }
            984..988 => {
                if self.profile.by_mail {
                    return;
                }
                let relays = query::relays(&self.world.snapshot(device)).expect("reads");
                if relays.len() < 2 {
                    return;
                }
                let Some(relay) = self.pick(&relays) else { return };
                self.tell("act: forget relay", &who);
                let command = Relays::Forget { relay: relay.relay };
                self.ask(device, Command::Relays(command), Asked::Plain);
            }
            988..994 => {
                self.tell("act: change one's name", &who);
                let name = format!("{name}{}", self.event);
                self.ask(device, Command::Devices(Devices::Rename { name }), Asked::Plain);
            }
            _ => {
                self.tell("act: rebuild", &who);
                self.rebuild(device);
            }
        }
    }

    fn meet(&mut self, person: usize, device: usize) {
        let other = self.below(self.people.len());
        if other == person || (self.people[other].villain && self.turned) {
            return;
        }
        let devices = self.people[other].devices.clone();
        let Some(their) = self.pick(&devices) else { return };
        if self.world.devices[their].core.is_none() {
            return;
        }
        self.tell("act: show a card", format!("{their} to {device}"));
        let command = Contacts::Card { uses: 3, welcome_to: None };
        self.ask(their, Command::Contacts(command), Asked::Card { other: device });
    }

    fn link(&mut self, person: usize, device: usize) {
        let active = self.people[person].devices.len() - self.people[person].revoked.len();
        if self.linking.is_some()
            || active > 1
            || self.world.devices.len() > 12
            || self.people[person].revoked.contains(&device)
        {
            return;
        }
        let new = self.world.add_device();
        self.tell("act: link a device", format!("{new} to {device}"));
        self.linking = Some(Linking { old: device, new, since: self.event, confirmed: false });
        self.ask(device, Command::Devices(Devices::LinkStart), Asked::LinkStart { new });
    }

    fn go_on_linking(&mut self) {
        let Some(Linking { old, new, since, confirmed }) = self.linking else { return };
        let up = self.world.devices[old].core.is_some() && self.world.devices[new].core.is_some();
        if up {
            let id = query::identity(&self.world.snapshot(new)).expect("reads");
            if let Some(account) = id.account {
                self.tell("act: a device is linked", new);
                if let Some(p) = self.people.iter_mut().find(|p| p.account == account) {
                    p.devices.push(new);
                }
                self.linking = None;
                return;
            }
            let shown = query::linking(&self.world.snapshot(old)).expect("reads");
            if !confirmed && matches!(shown, view::Linking::Compare { .. }) {
                self.linking = Some(Linking { old, new, since, confirmed: true });
                self.ask(old, Command::Devices(Devices::LinkConfirm), Asked::Plain);
            }
        }
        if self.event > since + 60 {
            self.linking = None;
            if up && self.coin(500) {
                self.ask(old, Command::Devices(Devices::LinkCancel), Asked::Plain);
            }
        }
    }

    // Faults.

    fn fault(&mut self) {
        let devices = self.world.devices.len();
        let device = self.below(devices);
        let relays = self.world.relays.len();
        let relay = self.below(relays);
        match self.below(1000) {
            0..220 => {
                if self.world.devices[device].core.is_some() {
                    self.tell("fault: crash", device);
                    self.world.crash(device, true);
                    let back = if self.coin(700) { 0 } else { 1 + self.below(40) as u64 };
                    self.away.insert(device, (self.event + back, true));
                }
            }
            220..330 => {
                self.tell("fault: offline", device);
                self.world.set_online(device, false);
                let back = 1 + self.below(120) as u64;
                self.away.entry(device).or_insert((self.event + back, false));
            }
            330..400 => {
                let long = if self.profile.sleepers { 500 } else { 150 };
                if self.world.devices[device].core.is_some() {
                    self.tell("fault: asleep", device);
                    self.world.crash(device, false);
                    let back = 20 + self.below(long) as u64;
                    self.away.insert(device, (self.event + back, true));
                }
            }
            400..520 => {
                let other = self.below(devices);
                if other != device {
                    self.tell("fault: partition", format!("{device} {other}"));
                    self.world.cut.insert((device.min(other), device.max(other)));
                    self.world.reconnect();
                }
            }
            520..560 => {
                self.tell("fault: split in two", "");
                for a in 0..devices {
                    for b in a + 1..devices {
                        if (a + b) % 2 == 1 {
                            self.world.cut.insert((a, b));
                        }
                    }
                }
                self.world.reconnect();
            }
            560..680 => {
                self.tell("fault: partitions heal", "");
                self.world.cut.clear();
                self.world.reconnect();
            }
            680..730 => {
                self.tell("fault: connections flap", device);
                self.world.flap(device);
            }
            730..770 => {
                let Some(to) = self.pick(&self.world.connected(device)) else { return };
                self.tell("fault: a peer's queue is full", format!("{device} to {to}"));
                self.world.full.insert((device, to));
                let peer = self.world.devices[to].id;
                self.world.input(device, Input::PeerFull { device: peer });
            }
            770..830 => {
                if self.profile.disks {
                    let then = if self.coin(500) { SyncFailure::Keep } else { SyncFailure::Drop };
                    let nth = 1 + self.below(4) as u64;
                    self.tell("fault: a sync fails", device);
                    self.world.fail_sync(device, nth, then);
                }
            }
            830..850 => {
                if self.profile.disks {
                    let room = self.below(64 * 1024) as u64;
                    self.tell("fault: disk full", format!("{device} {room} bytes left"));
                    self.world.set_room(device, Some(room));
                    let back = 5 + self.below(40) as u64;
                    self.room_back.insert(device, self.event + back);
                }
            }
            850..900 => {
                self.tell("fault: relay crash", relay);
                self.world.crash_relay(relay);
                let back = if self.coin(500) { 0 } else { self.below(60) as u64 };
                self.relay_back.insert(relay, self.event + back);
            }
            900..925 => {
                self.tell("fault: relay unreachable", relay);
                self.world.relays[relay].online = false;
                let back = 1 + self.below(60) as u64;
                self.relay_back.insert(relay, self.event + back);
            }
            925..945 => {
                if self.profile.disks {
                    self.tell("fault: a relay's sync fails", relay);
                    let nth = 1 + self.below(4) as u64;
                    self.world.relays[relay].disk.fail_sync(nth, SyncFailure::Drop);
                }
            }
            945..975 => {
                if self.profile.skew {
                    let unit =
                        self.pick(&[60 * SECOND, HOUR, DAY, 30 * DAY, 400 * DAY]).unwrap_or(HOUR);
                    let skew = i64::try_from(self.rng.next_u64() % (3 * unit)).unwrap_or(0);
                    let skew = if self.coin(500) { -skew } else { skew };
                    self.tell("fault: clock off", format!("{device} by {} min", skew / 60_000));
                    self.world.set_skew(device, skew);
                }
            }
            _ => {
                let lose = self.pick(&[0, 5, 20, 60, 200]).unwrap_or_default();
                self.tell("fault: loss changes", lose);
                self.world.faults.lose = lose;
                self.world.faults.lose_mail = lose.min(60);
                if self.profile.villain && self.progress() > self.events / 4 && !self.turned {
                    self.turned = true;
                    self.tell("fault: somebody turns hostile", "");
                }
            }
        }
    }

    /// Whoever was away long enough comes back.
    fn come_back(&mut self) {
        let event = self.event;
        let back: Vec<usize> =
            self.away.iter().filter(|(_, (at, _))| *at <= event).map(|(d, _)| *d).collect();
        for device in back {
            self.away.remove(&device);
            self.world.start(device);
            if self.world.devices[device].core.is_none() {
                // Its disk is full.
                self.away.insert(device, (event + 5, true));
                continue;
            }
            self.world.set_online(device, true);
        }
        // A device whose core could not be opened again after an error.
        for device in 0..self.world.devices.len() {
            if self.world.devices[device].core.is_none() && !self.away.contains_key(&device) {
                self.away.insert(device, (event + 5, true));
            }
        }
        let back: Vec<usize> =
            self.room_back.iter().filter(|(_, at)| **at <= event).map(|(d, _)| *d).collect();
        for device in back {
            self.room_back.remove(&device);
            self.world.set_room(device, None);
        }
        let back: Vec<usize> =
            self.relay_back.iter().filter(|(_, at)| **at <= event).map(|(d, _)| *d).collect();
        for relay in back {
            self.relay_back.remove(&relay);
            self.world.relays[relay].online = true;
            self.world.start_relay(relay);
        }
        if self.coin(50) {
            self.drain();
        }
        self.go_on_linking();
    }

    fn drain(&mut self) {
        for (from, to) in std::mem::take(&mut self.world.full) {
            let peer = self.world.devices[to].id;
            self.world.input(from, Input::PeerDrained { device: peer });
        }
    }

    /// Takes in what the world saw: replies, messages, deposits, impossibilities.
    pub(crate) fn note(&mut self) -> Check {
        for said in std::mem::take(&mut self.world.said) {
            let asked = self.pending.get(&(said.device, said.command)).cloned();
            let Some(Asked::Say { number, forward }) = asked else { continue };
            let former = (0..self.world.devices.len())
                .filter(|d| said.audience.out.contains(&self.world.devices[*d].id))
                .collect();
            let hostile = self.people.iter().any(|p| p.villain && p.devices.contains(&said.device));
            self.said_at.insert(number, self.event);
            self.messages.push(Message {
                number,
                topic: said.topic,
                id: said.message,
                device: said.device,
                accounts: said.audience.accounts,
                former,
                hostile,
                forward,
            });
            self.world
                .suspects
                .extend(self.messages.last().map(|m| m.former.clone()).unwrap_or_default());
        }
        for deposit in std::mem::take(&mut self.world.deposited) {
            self.mailroom.note(&self.world, &deposit);
        }
        for device in 0..self.world.devices.len() {
            let replies = std::mem::take(&mut self.world.devices[device].replies);
            for (id, reply) in replies {
                let Some(asked) = self.pending.remove(&(device, id)) else { continue };
                self.answered(device, asked, reply)?;
            }
            if self.world.devices[device].core.is_none() {
                self.pending.retain(|(d, _), _| *d != device);
            }
        }
        if let Some(what) = self.world.broken.pop() {
            return Err(what);
        }
        Ok(())
    }

    fn answered(&mut self, device: usize, asked: Asked, reply: Result<Reply, Refusal>) -> Check {
        match (asked, reply) {
            (_, Err(Refusal::Internal)) => return Err(format!("a command panicked on {device}")),
            (Asked::Card { other }, Ok(Reply::Card { link }))
                if self.world.devices[other].core.is_some() =>
            {
                self.tell("act: ask for contact", other);
                let command = Contacts::Add { link, greeting: "hello".into() };
                self.ask(other, Command::Contacts(command), Asked::Plain);
            }
            (Asked::LinkStart { new }, Ok(Reply::Code { link })) => {
                let command = Devices::LinkJoin { code: link, device_name: "second".into() };
                self.ask(new, Command::Devices(command), Asked::Plain);
            }
            (_, Err(refusal)) => {
                let kind = match refusal {
                    Refusal::NotFound { .. } => "not found",
                    Refusal::NotAllowed { .. } => "not allowed",
                    Refusal::Invalid { .. } => "invalid",
                    Refusal::Limit { .. } => "limit",
                    Refusal::Revoked => "revoked",
                    _ => "other",
                };
                self.tell(&format!("refused: {kind}"), format!("{device}: {refusal}"));
            }
            _ => {}
        }
        Ok(())
    }

    // The end.

    /// Everything that went wrong is over; nobody does anything any more.
    fn heal(&mut self) -> Check {
        self.tell("time: all heals", "");
        self.world.faults = Faults { delay: 20, ..Faults::default() };
        self.world.cut.clear();
        if self.profile.by_mail {
            // People meet at relays only. One's own devices meet: what was written before others
            // knew of a new device, that device has from its siblings. Who was invited into a
            // group meets the inviter: older history comes from device to device.
            let n = self.world.devices.len();
            let pairs = (0..n).flat_map(|a| (a + 1..n).map(move |b| (a, b)));
            self.world.cut = pairs
                .filter(|(a, b)| {
                    let account = |d| self.owner(d).map(|o| self.people[o].account);
                    let invited = |a, b| account(b).is_some_and(|b| self.invited.contains(&(a, b)));
                    let own = account(*a).is_some() && account(*a) == account(*b);
                    !own && !invited(*a, *b) && !invited(*b, *a)
                })
                .collect();
        }
        self.drain();
        for relay in 0..self.world.relays.len() {
            self.world.relays[relay].online = true;
            self.world.relays[relay].manners = Manners::default();
            self.world.start_relay(relay);
        }
        for device in 0..self.world.devices.len() {
            self.world.set_room(device, None);
            self.world.start(device);
            self.world.set_online(device, true);
        }
        self.world.reconnect();
        self.note()
    }

    /// Waits until honest replicas agree; a bounded time.
    fn finale(&mut self) -> Check {
        let mut why = String::new();
        for round in 0..12 {
            self.world.run(30 * SECOND);
            if round % 2 == 1 {
                for device in 0..self.world.devices.len() {
                    self.world.flap(device);
                }
                self.world.run(10 * SECOND);
            }
            self.note()?;
            match self.converged() {
                Ok(()) => {
                    self.tell("time: converged", format!("after {round} rounds"));
                    self.check_all()?;
                    for device in 0..self.world.devices.len() {
                        self.check_rebuild(device)?;
                        self.check_documents(device)?;
                    }
                    return self.check_all();
                }
                Err(e) => why = e,
            }
        }
        let mut text = format!("honest members did not converge: {why}");
        if self.profile.by_mail {
            let _ = write!(text, " (by mail)");
        }
        Err(text)
    }

    // Words.

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
