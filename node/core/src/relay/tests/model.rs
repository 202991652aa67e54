//! The relay against a plain model of itself: random requests, time jumps, failed commits and
//! crashes. The model is a handful of maps in memory; it shares only limits with the relay.

use std::collections::BTreeMap;

use proptest::prelude::*;
use teahouse_protocols::mailbox::{Refusal, secret_hash};

use super::super::decide::{ALLOWANCE, IDLE_DAYS, TOKENS_AT_ONCE, TOKENS_PER_DAY};
use super::super::store::charge;
use super::super::sweep::REMEMBER_DAYS;
use super::*;
use crate::store::backends::SyncFailure;

const KEEP_DAYS: u64 = 3;
const TAGS: u8 = 4;
/// Room for ten of these in a tag, and for sixteen in all.
const ITEM: usize = 50;
const TAG_BYTES: u64 = 10 * charge(ITEM);
const MAX_BYTES: u64 = 16 * charge(ITEM);

/// What the test asks, in small numbers.
#[derive(Debug, Clone)]
enum Op {
    Invite { uses: u32, days: u32 },
    Drain(bool),
    Tick,
    Admit(usize),
    Refill(usize),
    Open { tag: u8, other_kind: bool, secret: u8, token: usize, forged: bool },
    Deposit { tag: u8, contents: Vec<u8>, right: u8, delete: Option<u8> },
    Fetch { reads: Vec<(u8, u64)>, forged: bool },
    Delete { tag: u8, secret: u8 },
}

#[derive(Debug, Clone)]
enum Fault {
    None,
    Crash,
    FailSync(u64, bool),
}

#[derive(Debug, Clone)]
struct Round {
    jump: i64,
    ops: Vec<Op>,
    fault: Fault,
}

fn op() -> impl Strategy<Value = Op> {
    let tag = 0..TAGS;
    let contents = prop_oneof![9 => prop::collection::vec(0u8..16, 1..4), 1 => Just(vec![])];
    // 5 is what the tag wants.
    let right = prop_oneof![3 => Just(5u8), 1 => 0u8..5];
    let deposit = (tag.clone(), contents, right, prop::option::of(0u8..2))
        .prop_map(|(tag, contents, right, delete)| Op::Deposit { tag, contents, right, delete });
    let open =
        (tag.clone(), prop::bool::weighted(0.1), 0u8..2, 0usize..80, prop::bool::weighted(0.1))
            .prop_map(|(tag, other_kind, secret, token, forged)| Op::Open {
                tag,
                other_kind,
                secret,
                token,
                forged,
            });
    let after = prop_oneof![3 => Just(0u64), 1 => 0u64..12];
    let fetch = (prop::collection::vec((tag.clone(), after), 0..5), prop::bool::weighted(0.05))
        .prop_map(|(reads, forged)| Op::Fetch { reads, forged });
    prop_oneof![
        1 => (0u32..3, 0u32..3).prop_map(|(uses, days)| Op::Invite { uses, days }),
        1 => prop::bool::weighted(0.1).prop_map(Op::Drain),
        2 => Just(Op::Tick),
        2 => (0usize..4).prop_map(Op::Admit),
        2 => (0usize..80).prop_map(Op::Refill),
        6 => open,
        16 => deposit,
        6 => fetch,
        2 => (tag, 0u8..2).prop_map(|(tag, secret)| Op::Delete { tag, secret }),
    ]
}

fn rounds() -> impl Strategy<Value = Vec<Round>> {
    let hour = 60 * 60 * 1000i64;
    let day = 24 * hour;
    let jump = prop_oneof![
        8 => Just(1_000),
        4 => 0..4 * hour,
        3 => 0..4 * day,
        1 => 0..30 * day,
        1 => Just(400 * day),
        2 => -2 * day..0,
    ];
    let fault = prop_oneof![
        6 => Just(Fault::None),
        2 => Just(Fault::Crash),
        1 => (1u64..4, any::<bool>()).prop_map(|(nth, keep)| Fault::FailSync(nth, keep)),
    ];
    let round = (jump, prop::collection::vec(op(), 1..8), fault)
        .prop_map(|(jump, ops, fault)| Round { jump, ops, fault });
    prop::collection::vec(round, 1..40)
}

#[derive(Debug, Clone, PartialEq)]
struct Mailbox {
    kind: TagKind,
    items: BTreeMap<u64, (Millis, Item)>,
    used: u64,
    asked: (u64, u32),
}

#[derive(Debug, Clone, PartialEq, Default)]
struct Model {
    clock: Millis,
    draining: bool,
    codes: BTreeMap<[u8; 16], (u32, Millis)>,
    members: u64,
    tokens: BTreeMap<Token, u64>,
    issued: BTreeMap<u64, (u64, u32)>,
    open: BTreeMap<Tag, Mailbox>,
    /// What the round's session watches, and up to where it was given.
    watched: BTreeMap<Tag, u64>,
    answers: u64,
    /// Highest index ever given, and for closed tags the day on which it is forgotten.
    last: BTreeMap<Tag, (u64, u64)>,
}

/// What the model says a request is answered with.
#[derive(Debug)]
enum Expected {
    Exactly(Reply),
    /// Tokens for a member.
    Tokens(u64),
}

fn reply(result: Result<Reply, Refusal>) -> Expected {
    Expected::Exactly(result.unwrap_or_else(Reply::Refused))
}

impl Model {
    fn today(&self) -> u64 {
        self.clock / DAY
    }

    fn bytes(&self) -> u64 {
        let items = self.open.values().flat_map(|m| m.items.values());
        items.map(|(_, item)| charge(item.bytes.len())).sum()
    }

    fn tick(&mut self) {
        let oldest = self.clock.saturating_sub(KEEP_DAYS * DAY);
        let today = self.today();
        for mailbox in self.open.values_mut() {
            mailbox.items.retain(|_, (at, _)| *at >= oldest);
        }
        self.last.retain(|tag, (_, day)| self.open.contains_key(tag) || *day > today);
        let last = &mut self.last;
        self.open.retain(|tag, mailbox| {
            let keep = today <= mailbox.used + KEEP_DAYS + IDLE_DAYS;
            if !keep && let Some(last) = last.get_mut(tag) {
                last.1 = today + REMEMBER_DAYS;
            }
            keep
        });
    }

    fn issue(&mut self, member: u64) -> Result<u64, Refusal> {
        let today = self.today();
        let (day, n) = self.issued.entry(member).or_default();
        if *day != today {
            (*day, *n) = (today, 0);
        }
        if *n + TOKENS_AT_ONCE as u32 > TOKENS_PER_DAY {
            return Err(Refusal::SlowDown);
        }
        *n += TOKENS_AT_ONCE as u32;
        Ok(member)
    }

    fn tokens(&mut self, f: impl FnOnce(&mut Self) -> Result<u64, Refusal>) -> Expected {
        let mut after = self.clone();
        match f(&mut after) {
            Ok(member) => {
                *self = after;
                Expected::Tokens(member)
            }
            Err(why) => reply(Err(why)),
        }
    }

    fn ask(&mut self, request: &Request, forged: bool) -> Expected {
        let clock = self.clock;
        match request {
            Request::Admit { code } => self.tokens(|m| {
                let code = m.codes.get_mut(code).filter(|c| c.0 > 0 && c.1 > clock);
                code.ok_or(Refusal::BadCode)?.0 -= 1;
                m.members += 1;
                m.issue(m.members)
            }),
            Request::Refill { token } => self.tokens(|m| {
                let member = m.tokens.remove(token).ok_or(Refusal::BadToken)?;
                m.issue(member)
            }),
            Request::Open { tag, kind, token, .. } => reply(self.open(*tag, kind, token, forged)),
            Request::Deposit { tag, items, right } => {
                let mut after = self.clone();
                let result = after.deposit(*tag, items, right);
                if result.is_ok() {
                    *self = after;
                }
                reply(result)
            }
            Request::Fetch { reads, .. } => reply(self.fetch(reads, forged)),
            Request::Delete { tag, secret } => {
                if let Some(mailbox) = self.open.get_mut(tag) {
                    mailbox.items.retain(|_, (_, item)| item.delete != Some(secret_hash(secret)));
                }
                reply(Ok(Reply::Deleted))
            }
            Request::Hello => unreachable!("not asked"),
        }
    }

    fn open(
        &mut self,
        tag: Tag,
        kind: &TagKind,
        token: &Token,
        forged: bool,
    ) -> Result<Reply, Refusal> {
        if self.draining {
            return Err(Refusal::Draining);
        }
        if forged {
            return Err(Refusal::BadProof);
        }
        if let Some(mailbox) = self.open.get_mut(&tag) {
            match (&mailbox.kind, kind) {
                (TagKind::Topic, TagKind::Topic) | (TagKind::Inbox, TagKind::Inbox) => {}
                (TagKind::Card { .. }, TagKind::Card { .. }) => mailbox.kind = kind.clone(),
                _ => return Err(Refusal::BadProof),
            }
            return Ok(Reply::Opened { spent: false });
        }
        self.tokens.remove(token).ok_or(Refusal::BadToken)?;
        let used = self.today();
        let fresh = Mailbox { kind: kind.clone(), items: BTreeMap::new(), used, asked: (0, 0) };
        self.open.insert(tag, fresh);
        Ok(Reply::Opened { spent: true })
    }

    fn deposit(&mut self, tag: Tag, items: &[Item], right: &Right) -> Result<Reply, Refusal> {
        let (clock, today, mut bytes) = (self.clock, self.today(), self.bytes());
        if self.draining {
            return Err(Refusal::Draining);
        }
        if items.is_empty() {
            return Err(Refusal::Malformed);
        }
        let mailbox = self.open.get_mut(&tag).ok_or(Refusal::Closed)?;
        let allowance = matches!((&mailbox.kind, right), (TagKind::Card { .. }, Right::None));
        let entitled = match (&mailbox.kind, right) {
            (TagKind::Inbox, _) => true,
            (TagKind::Topic, Right::Member(proof)) => *proof != BAD,
            (TagKind::Card { secrets }, Right::Invite(s)) => secrets.contains(&secret_hash(s)),
            _ => allowance,
        };
        if !entitled {
            return Err(Refusal::BadProof);
        }
        mailbox.used = today;
        let (last, _) = self.last.entry(tag).or_default();
        let mut highest = 0;
        for item in items {
            let there = mailbox.items.iter().find(|(_, (_, i))| i.bytes == item.bytes);
            if let Some((index, _)) = there {
                highest = highest.max(*index);
                continue;
            }
            if allowance {
                if mailbox.asked.0 != today {
                    mailbox.asked = (today, 0);
                }
                mailbox.asked.1 += 1;
                if mailbox.asked.1 > ALLOWANCE {
                    return Err(Refusal::SlowDown);
                }
            }
            bytes += charge(item.bytes.len());
            *last += 1;
            highest = *last;
            mailbox.items.insert(*last, (clock, item.clone()));
            let own: u64 = mailbox.items.values().map(|(_, i)| charge(i.bytes.len())).sum();
            if own > TAG_BYTES {
                return Err(Refusal::TagFull);
            }
            if bytes > MAX_BYTES {
                return Err(Refusal::RelayFull);
            }
        }
        Ok(Reply::Deposited { last: highest })
    }

    fn answer(&mut self) -> u64 {
        self.answers += u64::from(!self.watched.is_empty());
        self.answers
    }

    fn fetch(&mut self, reads: &[Read], forged: bool) -> Result<Reply, Refusal> {
        if forged && !reads.is_empty() {
            return Err(Refusal::BadProof);
        }
        let today = self.today();
        let (mut items, mut closed) = (Vec::new(), Vec::new());
        for read in reads {
            match self.open.get_mut(&read.tag) {
                Some(mailbox) => mailbox.used = today,
                None => closed.push(read.tag),
            }
            self.watched.insert(read.tag, read.after);
        }
        for (tag, after) in &mut self.watched {
            let Some(mailbox) = self.open.get(tag) else { continue };
            for (index, (_, item)) in mailbox.items.range(*after + 1..) {
                items.push((*tag, *index, item.bytes.clone()));
                *after = *index;
            }
        }
        Ok(Reply::Items {
            items: items.try_into().unwrap(),
            closed: closed.try_into().unwrap(),
            more: false,
            watched: self.watched.len() as u32,
            nth: self.answer(),
        })
    }
}

/// An input to the relay, and what is asked of the model.
enum Asked {
    Request { id: u64, request: Request, forged: bool },
    Invite { id: u64, uses: u32, days: u32 },
    Drain(bool),
    Tick,
}

struct World {
    bench: Bench,
    /// States the relay may be in: several only after a commit failed.
    models: Vec<Model>,
    tokens: Vec<Token>,
    codes: Vec<[u8; 16]>,
    session: u64,
    latest: Millis,
}

impl World {
    fn new() -> Self {
        let bench = Bench::new(RelayConfig {
            keep_days: KEEP_DAYS as u16,
            max_bytes: MAX_BYTES,
            tag_bytes: TAG_BYTES,
            ..RelayConfig::default()
        });
        let models = vec![Model::default()];
        let latest = bench.env.now;
        Self { bench, models, tokens: Vec::new(), codes: Vec::new(), session: 0, latest }
    }

    fn request(&self, op: &Op, challenge: &[u8; 32]) -> (Request, bool) {
        let kind = |tag: u8, other: bool, secret: u8| match (tag + u8::from(other)) % 4 {
            0 | 1 => TagKind::Topic,
            2 => TagKind::Inbox,
            _ => card(&[secret_hash(&[secret; 16])]),
        };
        match op {
            Op::Admit(n) => {
                let code = self.codes.iter().rev().nth(*n).copied().unwrap_or_default();
                (Request::Admit { code }, false)
            }
            Op::Refill(n) => (Request::Refill { token: self.token(*n) }, false),
            Op::Open { tag: t, other_kind, secret, token, forged } => {
                let request = open(&key(*t), kind(*t, *other_kind, *secret), self.token(*token));
                match request {
                    Request::Open { tag, kind, token, .. } if *forged => {
                        (Request::Open { tag, kind, token, proof: BAD }, true)
                    }
                    request => (request, false),
                }
            }
            Op::Deposit { tag, contents, right, delete } => {
                let delete = delete.map(|secret| secret_hash(&[secret; 32]));
                let items: Vec<_> =
                    contents.iter().map(|n| Item { delete, ..item(&[*n; ITEM]) }).collect();
                let key = key(*tag);
                let right = match (right, tag) {
                    (1 | 2, _) => Right::Invite([right - 1; 16]),
                    (5, 3) if contents.len() < 2 => Right::Invite([0; 16]),
                    (0, _) | (5, 2 | 3) => Right::None,
                    (3 | 5, _) => Right::Member(write_proof(&key, RELAY, &items)),
                    _ => Right::Member(BAD),
                };
                (deposit(&key, items, right), false)
            }
            Op::Fetch { reads, forged } => {
                let mut reads: Vec<_> =
                    reads.iter().map(|(tag, after)| read(&key(*tag), *after, challenge)).collect();
                if let (true, Some(last)) = (*forged, reads.last_mut()) {
                    last.proof = BAD;
                }
                (Request::Fetch { reads: reads.try_into().unwrap(), wait: false }, *forged)
            }
            Op::Delete { tag: t, secret } => {
                (Request::Delete { tag: tag(&key(*t)), secret: [*secret; 32] }, false)
            }
            Op::Invite { .. } | Op::Drain(_) | Op::Tick => unreachable!("no requests"),
        }
    }

    /// The newest tokens first, so that most are unspent; beyond, none.
    fn token(&self, n: usize) -> Token {
        self.tokens.iter().rev().nth(n).copied().unwrap_or_default()
    }

    fn round(&mut self, round: &Round) {
        self.bench.env.now = self.bench.env.now.saturating_add_signed(round.jump);
        // A session of its own, so that rates don't matter.
        self.session += 1;
        let challenge = (0..9).find_map(|_| {
            let input = self.bench.request(self.session, &Request::Hello);
            let Ok(out) = self.bench.try_step(vec![input]) else {
                // The step stored the clock, and the fault of an earlier round hit it.
                self.reopen();
                return None;
            };
            match codec::decode(&out.answers[0].1) {
                Ok(Reply::Hello { challenge, .. }) => Some(challenge),
                other => panic!("{other:?}"),
            }
        });
        let challenge = challenge.unwrap();
        self.latest = self.latest.max(self.bench.env.now);
        for model in &mut self.models {
            model.clock = self.latest;
            model.watched.clear();
            model.answers = 0;
        }

        if let Fault::FailSync(nth, keep) = round.fault {
            let then = if keep { SyncFailure::Keep } else { SyncFailure::Drop };
            self.bench.disk.fail_sync(nth, then);
        }
        let (asked, batch) = self.batch(&round.ops, &challenge);
        if let Ok(out) = self.bench.try_step(batch) {
            self.compare(&asked, &out);
        } else {
            // It happened or it did not, as a whole.
            let mut after = self.models.clone();
            for model in &mut after {
                run(model, &asked, &RelayOutputs::default());
            }
            self.models.extend(after);
            self.models.dedup();
            self.reopen();
        }
        if let Fault::Crash = round.fault {
            self.bench.disk.crash(&mut self.bench.env.rng);
            // A clock that was wrong is set right before the restart: the relay stores the
            // time only now and then.
            self.bench.env.now = self.latest;
            self.bench.restart();
        }
    }

    fn reopen(&mut self) {
        assert!((0..9).any(|_| self.bench.relay.reopen().is_ok()));
    }

    fn batch(&mut self, ops: &[Op], challenge: &[u8; 32]) -> (Vec<Asked>, Vec<RelayInput>) {
        ops.iter()
            .map(|op| match *op {
                Op::Invite { uses, days } => {
                    self.bench.next += 1;
                    let id = self.bench.next;
                    (Asked::Invite { id, uses, days }, RelayInput::Invite { id, uses, days })
                }
                Op::Drain(drain) => (Asked::Drain(drain), RelayInput::Drain(drain)),
                Op::Tick => (Asked::Tick, RelayInput::Tick),
                _ => {
                    let (request, forged) = self.request(op, challenge);
                    let input = self.bench.request(self.session, &request);
                    (Asked::Request { id: self.bench.next, request, forged }, input)
                }
            })
            .unzip()
    }

    /// Keeps the models that say what the relay said. There must be one.
    fn compare(&mut self, asked: &[Asked], out: &RelayOutputs) {
        let mut why = Vec::new();
        let status = self.bench.relay.status();
        self.models.retain_mut(|model| {
            let expected = run(model, asked, out);
            let answers = decoded(out);
            let same = expected.len() == answers.len()
                && expected.iter().zip(&answers).all(|((id, expected), (got_id, got))| {
                    id == got_id
                        && match (expected, got) {
                            (Expected::Exactly(expected), got) => expected == got,
                            (Expected::Tokens(_), got) => matches!(got, Reply::Tokens(_)),
                        }
                });
            let items: usize = model.open.values().map(|m| m.items.len()).sum();
            let numbers = (model.members, model.open.len() as u64, items as u64, model.bytes());
            let same_numbers = numbers == (status.members, status.tags, status.items, status.bytes);
            if !same || !same_numbers {
                why.push(format!("{expected:?}\n{answers:?}\n{numbers:?} {status:?}"));
            }
            same && same_numbers
        });
        assert!(!self.models.is_empty(), "no model agrees:\n{}", why.join("\n\n"));
        for (_, reply) in decoded(out) {
            if let Reply::Tokens(fresh) = reply {
                self.tokens.extend(fresh);
            }
        }
        self.codes.extend(out.invites.iter().map(|(_, code)| *code));
    }
}

/// Lets a model do what was asked. Random values are taken from what the relay gave out.
fn run(model: &mut Model, asked: &[Asked], out: &RelayOutputs) -> Vec<(u64, Expected)> {
    let mut answers = Vec::new();
    let given = decoded(out);
    for asked in asked {
        match asked {
            Asked::Invite { id, uses, days } => {
                let expires = model.clock + u64::from(*days) * DAY;
                let code = out.invites.iter().find(|(got, _)| got == id);
                if let Some((_, code)) = code {
                    model.codes.insert(*code, (*uses, expires));
                }
            }
            Asked::Drain(drain) => model.draining = *drain,
            Asked::Tick => model.tick(),
            Asked::Request { id, request, forged } => {
                let expected = model.ask(request, *forged);
                if let Expected::Tokens(member) = expected
                    && let Some((_, Reply::Tokens(fresh))) = given.iter().find(|(got, _)| got == id)
                {
                    model.tokens.extend(fresh.iter().map(|token| (*token, member)));
                }
                answers.push((*id, expected));
            }
        }
    }
    answers
}

/// Opens all four tags, so that most requests find something.
fn opening() -> Round {
    let opened = (0..TAGS).map(|tag| Op::Open {
        tag,
        other_kind: false,
        secret: 0,
        token: usize::from(tag),
        forged: false,
    });
    Round { jump: 0, ops: opened.collect(), fault: Fault::None }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn the_relay_is_its_model(rounds in rounds()) {
        let mut world = World::new();
        for ops in [vec![Op::Invite { uses: 3, days: 9 }], vec![Op::Admit(0)]] {
            world.round(&Round { jump: 0, ops, fault: Fault::None });
        }
        world.round(&opening());
        for round in &rounds {
            world.round(round);
        }
        // At last everything that was acknowledged is read once more.
        let reads = (0..TAGS).map(|tag| (tag, 0)).collect();
        let ops = vec![Op::Fetch { reads, forged: false }];
        world.round(&Round { jump: 0, ops, fault: Fault::None });
    }
}
