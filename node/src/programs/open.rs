//! A program that is open: its picture, what it has not been told yet, and its wishes.
//!
//! Events wait in a bounded queue; wishes that need the person's word wait until they give
//! it. A program that keeps itself busy (each answer makes the next wish) is slowed down, so
//! that it costs neither the processor nor the disk what a person would notice.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use teahouse_core::pay::programs::BillView;
use teahouse_core::programs::state::Stamp;
use teahouse_programs::ui::{Event, Kind, Node, Outcome, PayButton, Reason, Request, Start};
use teahouse_programs::{Host, Instance, Launch, ProgramError, limits};
use teahouse_protocols::ids::DeviceId;
use teahouse_protocols::lines::one_line;
use teahouse_protocols::package::{Manifest, Power, VerifiedPackage};
use tokio::time::sleep;

use super::code_of;
use super::dealings::UnderWay;
use super::powers::{PowerError, Powers};

/// Events that wait for a program at most. Beyond it what a person does is dropped: the
/// program is too slow for them anyway.
pub const MAX_WAITING: usize = 256;
/// Wishes that wait for the person's word at most. Further ones are refused.
const MAX_ASKED: usize = 32;
/// Updates in a row that only answer the program's own wishes, before it is slowed down.
const BUSY: u32 = 32;
/// How long it then waits for each.
const PAUSE: Duration = Duration::from_millis(100);
/// Answers to its own wishes that wait for a program at most. Beyond it no further wish is
/// carried out before it has taken some.
const MAX_ANSWERS: usize = 128;
/// Bytes of such answers, the same way.
const ANSWER_BYTES: usize = 2 << 20;
/// Wishes that wait to be carried out at most: who asks for more without taking the answers is
/// ended.
const MAX_WISHES: usize = 256;
/// What is shown in passing at most at once.
const MAX_HAPPENINGS: usize = 8;

/// How a program is opened.
#[derive(Debug, Clone, Default)]
pub struct Opening {
    /// The language the person reads, as BCP 47.
    pub locale: String,
    /// Whether the theme is dark.
    pub dark_mode: bool,
    /// What the link carried that opened it.
    pub launch: String,
    /// Seconds since 1970.
    pub now: u64,
    /// For games.
    pub seed: u32,
}

/// What a program wants of whoever shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    /// A line shown in passing.
    Notice(String),
    /// A card to offer: its title, and what the program is told when it is opened.
    Share {
        /// What stands on it.
        title: String,
        /// What the link carries.
        launch: String,
    },
    /// It is done.
    Close,
}

/// A wish that waits for the person's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// What for.
    pub power: Power,
    /// Why, in the developer's words.
    pub reason: String,
}

/// An open program. Dropping it closes it.
#[derive(Debug)]
pub struct Open {
    package: VerifiedPackage,
    instance: Instance,
    waiting: VecDeque<Event>,
    /// Wishes not carried out yet, in order: first those of the last view.
    wishes: VecDeque<(u32, Request)>,
    /// Wishes that wait for the person's word.
    asked: VecDeque<(u32, Power, Request)>,
    nodes: Vec<Node>,
    rev: u64,
    /// Updates since the person last did something.
    own: u32,
    /// Answers among `waiting`, and their bytes.
    answers: (usize, usize),
    /// Who wrote each key of the chat's shared state last, as far as the program was told;
    /// nothing before it first asked.
    seen: Option<BTreeMap<String, (DeviceId, u64)>>,
    under_way: UnderWay,
}

impl Open {
    /// Loads a package. Its first picture comes with the first [`Open::update`].
    pub async fn open(
        host: &Host,
        package: VerifiedPackage,
        how: Opening,
    ) -> Result<Self, ProgramError> {
        let code = code_of(&package)?;
        let app = package.manifest().get().app().0;
        let instance = host.open(Launch { app, code }).await?;
        let mut launch = how.launch;
        launch.truncate(launch.floor_char_boundary(limits::LAUNCH));
        let Opening { locale, dark_mode, now, seed, .. } = how;
        let start = Event::Start(Start { locale, dark_mode, launch, now, seed });
        Ok(Self {
            package,
            instance,
            waiting: VecDeque::from([start]),
            wishes: VecDeque::new(),
            asked: VecDeque::new(),
            nodes: Vec::new(),
            rev: 0,
            own: 0,
            answers: (0, 0),
            seen: None,
            under_way: UnderWay::default(),
        })
    }

    /// What it is.
    #[must_use]
    pub const fn manifest(&self) -> &Manifest {
        self.package.manifest().get()
    }

    /// What it is called, on one line.
    #[must_use]
    pub fn name(&self) -> String {
        one_line(&self.manifest().name, limits::LABEL)
    }

    /// A file of its package: a picture.
    #[must_use]
    pub fn file(&self, path: &str) -> Option<Vec<u8>> {
        self.package.file(path)
    }

    /// Its picture.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Counts its pictures.
    #[must_use]
    pub const fn rev(&self) -> u64 {
        self.rev
    }

    /// The person did something. False where the program has more to do than it can.
    pub fn tell(&mut self, event: Event) -> bool {
        self.own = 0;
        // Of what is written into one field only the last counts.
        if let Event::Input { key, .. } = &event
            && let Some(Event::Input { key: before, .. }) = self.waiting.back()
            && before == key
        {
            self.waiting.pop_back();
        }
        if self.waiting.len() >= MAX_WAITING {
            return false;
        }
        self.waiting.push_back(event);
        true
    }

    /// Whether there is something to tell it.
    #[must_use]
    pub fn is_due(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Tells the program what waits, and takes its new picture and wishes. Says whether the
    /// picture is new. After an error that [is final](ProgramError::is_final) it has ended.
    pub async fn update(&mut self) -> Result<bool, ProgramError> {
        if self.own >= BUSY {
            sleep(PAUSE).await;
        }
        self.own = self.own.saturating_add(1);
        let events = self.next_events();
        let view = self.instance.update(events).await?;
        self.wishes.extend(view.effects.into_iter().map(|e| (e.id, e.request)));
        if self.wishes.len() > MAX_WISHES {
            return Err(ProgramError::AskedTooMuch);
        }
        if view.nodes.is_empty() {
            return Ok(false);
        }
        (self.nodes, self.rev) = (view.nodes, view.rev);
        Ok(true)
    }

    /// As many of the events that wait as one update may carry.
    fn next_events(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        let mut bytes = 0;
        while let Some(event) = self.waiting.front() {
            let weight = weight(event);
            let full = events.len() >= limits::EVENTS || bytes + weight > limits::EVENT_BYTES;
            if full && !events.is_empty() {
                break;
            }
            bytes += weight;
            if matches!(event, Event::Answer { .. }) {
                self.answers = (self.answers.0 - 1, self.answers.1 - weight);
            }
            events.extend(self.waiting.pop_front());
        }
        events
    }

    /// Carries the wishes of the last update out, as far as the person allowed them and the
    /// program takes the answers. Waits for the disk.
    pub fn carry_out(&mut self, powers: &mut impl Powers) -> Vec<Happening> {
        let mut happened = Vec::new();
        while self.answers.0 < MAX_ANSWERS && self.answers.1 < ANSWER_BYTES {
            let Some((id, request)) = self.wishes.pop_front() else { break };
            let outcome = match self.may(powers, &request) {
                May::Yes => match request {
                    Request::Call { function, payload } => {
                        match self.under_way.call(powers, id, function, payload) {
                            Some(outcome) => outcome,
                            // Its answer comes later.
                            None => continue,
                        }
                    }
                    request => self.meet(powers, request, &mut happened),
                },
                May::Ask(power) if self.asked.len() < MAX_ASKED => {
                    self.asked.push_back((id, power, request));
                    continue;
                }
                May::Ask(_) => Outcome::Refused(Reason::Failed),
                May::No(reason) => Outcome::Refused(reason),
            };
            self.answer(id, outcome);
        }
        happened
    }

    /// How many answers wait for the program, and of how many bytes: bounded, whatever it asks.
    #[must_use]
    pub const fn owed(&self) -> (usize, usize) {
        self.answers
    }

    /// An answer to one of its wishes.
    fn answer(&mut self, id: u32, outcome: Outcome) {
        let event = Event::Answer { id, outcome };
        self.answers = (self.answers.0 + 1, self.answers.1 + weight(&event));
        self.waiting.push_back(event);
    }

    /// Takes in what came from others: answers to calls, what became of payments, changes of
    /// the chat's shared state. Waits for the disk.
    pub fn look(&mut self, powers: &impl Powers) {
        if self.waiting.len() < MAX_WAITING {
            let mut came = VecDeque::new();
            self.under_way.look(powers, &mut came);
            for event in came {
                match event {
                    Event::Answer { id, outcome } => self.answer(id, outcome),
                    event => self.waiting.push_back(event),
                }
            }
        }
        self.look_at_shared(powers);
    }

    /// Tells the program which keys of the chat's shared state others changed since it was
    /// told last.
    fn look_at_shared(&mut self, powers: &impl Powers) {
        if self.seen.is_none() || !matches!(powers.granted(Power::State), Ok(Some(true))) {
            return;
        }
        let (Some(seen), Ok(stamps)) = (&mut self.seen, powers.shared_keys("")) else { return };
        for stamp in stamps {
            let by = (stamp.device, stamp.seq);
            if seen.get(&stamp.key) == Some(&by) {
                continue;
            }
            let told = Event::StateChanged(stamp.key.clone());
            if !self.waiting.contains(&told) {
                if self.waiting.len() >= MAX_WAITING {
                    // The rest another time.
                    return;
                }
                self.waiting.push_back(told);
            }
            seen.insert(stamp.key, by);
        }
    }

    /// From the first time that the program asks for what is shared, it is told of changes.
    fn watch(&mut self, powers: &impl Powers) {
        if self.seen.is_none()
            && let Ok(stamps) = powers.shared_keys("")
        {
            let by = |s: Stamp| (s.key, (s.device, s.seq));
            self.seen = Some(stamps.into_iter().map(by).collect());
        }
    }

    /// What the person has to be asked next.
    #[must_use]
    pub fn wish(&self) -> Option<Wish> {
        let asked = self.asked.front().map(|(_, power, _)| *power);
        let power = asked.or_else(|| self.under_way.wants().then_some(Power::Pay))?;
        let reason = one_line(&self.manifest().names(power)?.reason, limits::LABEL);
        Some(Wish { power, reason })
    }

    /// The person's word: kept, and what waited for it is carried out or refused.
    pub fn decide(
        &mut self,
        powers: &mut impl Powers,
        power: Power,
        allowed: bool,
    ) -> Result<Vec<Happening>, PowerError> {
        powers.grant(power, allowed)?;
        self.own = 0;
        let (now, later) = self.asked.drain(..).partition(|(_, p, _)| *p == power);
        self.asked = later;
        let now: VecDeque<(u32, Power, Request)> = now;
        self.wishes.extend(now.into_iter().map(|(id, _, request)| (id, request)));
        if power == Power::Pay && self.under_way.wants() {
            if allowed {
                self.under_way.take(powers)?;
            } else if let Some(event) = self.under_way.refuse() {
                self.waiting.push_back(event);
            }
        }
        Ok(self.carry_out(powers))
    }

    /// Whether something may come that the program waits for: [`Open::look`] now and then.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.under_way.waits()
    }

    /// What stands on a button to pay, by its key: of the offer, as it is known here.
    pub fn bill_of(&self, powers: &impl Powers, key: &str) -> Result<Option<BillView>, PowerError> {
        match self.pay_button(key) {
            Some(button) => powers.bill(&button.order),
            None => Ok(None),
        }
    }

    fn pay_button(&self, key: &str) -> Option<&PayButton> {
        self.nodes.iter().find(|n| n.key == key).and_then(|n| match &n.kind {
            Kind::PayButton(button) => Some(button),
            _ => None,
        })
    }

    /// Whether this is a button to pay: what a tap on it means is the host's to say.
    #[must_use]
    pub fn is_pay_button(&self, key: &str) -> bool {
        self.pay_button(key).is_some()
    }

    /// The person tapped a button to pay. If the program may show it, the bill is before them
    /// ([`Open::bill`]); if they were not asked yet, that comes first ([`Open::wish`]).
    pub fn press(&mut self, powers: &mut impl Powers, key: &str) -> Result<(), PowerError> {
        let refuse = |why: &str| Err(PowerError::Failed(why.to_owned()));
        let Some(PayButton { order, action }) = self.pay_button(key).cloned() else {
            return refuse("there is no such button");
        };
        if self.manifest().names(Power::Pay).is_none() {
            return refuse("this program does not name that it wants to be paid");
        }
        let granted = powers.granted(Power::Pay)?;
        if granted == Some(false) {
            return refuse("you have not allowed this program to show a button to pay");
        }
        if !self.under_way.press(key.to_owned(), action, order) {
            return refuse("another bill waits for your word");
        }
        if granted == Some(true) { self.under_way.take(powers) } else { Ok(()) }
    }

    /// What the person is asked to pay now. Drawn by the host alone.
    pub fn bill(&self, powers: &impl Powers) -> Result<Option<BillView>, PowerError> {
        match self.under_way.bill() {
            Some(offer) => powers.bill(offer),
            None => Ok(None),
        }
    }

    /// Whether the person is asked to pay something now.
    #[must_use]
    pub fn has_bill(&self) -> bool {
        self.under_way.bill().is_some()
    }

    /// The person's word on the bill.
    pub fn settle(&mut self, powers: &mut impl Powers, pay: bool) -> Result<(), PowerError> {
        self.own = 0;
        let (event, done) = self.under_way.settle(powers, pay);
        self.waiting.extend(event);
        done
    }

    fn may(&self, powers: &impl Powers, request: &Request) -> May {
        let power = match request {
            Request::Notice(_) | Request::Close => return May::Yes,
            Request::Login => Power::Login,
            Request::StorageGet(_)
            | Request::StorageSet(_)
            | Request::StorageRemove(_)
            | Request::StorageList(_) => Power::Storage,
            Request::Share { .. } => Power::Share,
            Request::StateGet(_) | Request::StateSet(_) | Request::StateList(_)
                if powers.in_chat() =>
            {
                Power::State
            }
            Request::Call { .. } if self.manifest().cloud.is_some() => Power::Call,
            // Nobody is asked for what there is not.
            Request::StateGet(_)
            | Request::StateSet(_)
            | Request::StateList(_)
            | Request::Call { .. } => return May::No(Reason::NotHere),
        };
        if self.manifest().names(power).is_none() {
            return May::No(Reason::NoGrant);
        }
        match powers.granted(power) {
            Ok(Some(true)) => May::Yes,
            Ok(Some(false)) => May::No(Reason::NoGrant),
            Ok(None) => May::Ask(power),
            Err(_) => May::No(Reason::Failed),
        }
    }

    fn meet(
        &mut self,
        powers: &mut impl Powers,
        request: Request,
        happened: &mut Vec<Happening>,
    ) -> Outcome {
        let value = |value: Option<Vec<u8>>| value.map_or(Outcome::Missing, Outcome::Value);
        let done = |()| Outcome::Done;
        let result = match request {
            Request::Login => powers.login().map(value),
            Request::StorageGet(key) => powers.get(&key).map(value),
            Request::StorageSet(entry) => powers.put(&entry.key, Some(entry.value)).map(done),
            Request::StorageRemove(key) => powers.put(&key, None).map(done),
            Request::StorageList(prefix) => powers.keys(&prefix).map(|mut keys| {
                keys.truncate(limits::KEYS);
                Outcome::Keys(keys)
            }),
            Request::StateGet(key) => {
                self.watch(powers);
                powers.shared(&key).map(value)
            }
            Request::StateSet(entry) => {
                self.watch(powers);
                powers.put_shared(&entry.key, entry.value).map(|stamp| {
                    if let (Some(seen), Some(stamp)) = (&mut self.seen, stamp) {
                        seen.insert(stamp.key, (stamp.device, stamp.seq));
                    }
                    Outcome::Done
                })
            }
            Request::StateList(prefix) => {
                self.watch(powers);
                powers.shared_keys(&prefix).map(|stamps| {
                    Outcome::Keys(stamps.into_iter().take(limits::KEYS).map(|s| s.key).collect())
                })
            }
            Request::Notice(text) => {
                let text = one_line(&text, limits::LABEL);
                return happen(happened, Happening::Notice(text));
            }
            Request::Close => return happen(happened, Happening::Close),
            Request::Share { title, launch } => {
                let title = one_line(&title, limits::LABEL);
                return happen(happened, Happening::Share { title, launch });
            }
            Request::Call { .. } => return Outcome::Refused(Reason::NotHere),
        };
        match result {
            Ok(outcome) => outcome,
            Err(PowerError::TooLarge(_)) => Outcome::Refused(Reason::TooLarge),
            Err(PowerError::Failed(_)) => Outcome::Refused(Reason::Failed),
            Err(PowerError::NotHere) => Outcome::Refused(Reason::NotHere),
        }
    }
}

fn happen(all: &mut Vec<Happening>, one: Happening) -> Outcome {
    if all.len() >= MAX_HAPPENINGS {
        return Outcome::Refused(Reason::Failed);
    }
    all.push(one);
    Outcome::Done
}

enum May {
    Yes,
    Ask(Power),
    No(Reason),
}

/// What an event counts of an update's bytes.
pub(super) fn weight(event: &Event) -> usize {
    match event {
        Event::Start(start) => start.locale.len() + start.launch.len(),
        Event::Tap { key, action, .. }
        | Event::Step { key, action, .. }
        | Event::Paid { key, action, .. } => key.len() + action.len(),
        Event::Input { key, action, text } => key.len() + action.len() + text.len(),
        Event::Answer { outcome, .. } => match outcome {
            Outcome::Value(value) => value.len(),
            Outcome::Keys(keys) => keys.iter().map(String::len).sum(),
            Outcome::Done | Outcome::Missing | Outcome::Refused(_) => 0,
        },
        Event::StateChanged(key) => key.len(),
    }
}
