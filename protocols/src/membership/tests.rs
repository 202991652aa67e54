//! Random histories at several replicas against the plain reference.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::reference::{Fate, Reference};
use super::*;
use crate::sign::SigningKey;

mod cases;
mod wire;

type Record = Signed<MembershipRecord>;

const ACCOUNTS: u8 = 5;

/// Two devices for each account, and one that belongs to nobody.
fn keys() -> &'static [SigningKey] {
    static KEYS: OnceLock<Vec<SigningKey>> = OnceLock::new();
    KEYS.get_or_init(|| (0..=2 * ACCOUNTS).map(|n| SigningKey::from_bytes(&[n + 1; 32])).collect())
}

fn device(n: u8) -> DeviceId {
    DeviceId(keys()[usize::from(n)].verifying_key().to_bytes())
}

fn account(n: u8) -> AccountId {
    AccountId([n + 1; 32])
}

fn belongs(account: &AccountId, device: &DeviceId) -> bool {
    let n = keys().iter().position(|k| k.verifying_key().to_bytes() == device.0);
    n.is_some_and(|n| account.0 == [n as u8 / 2 + 1; 32])
}

fn sign(record: MembershipRecord) -> Record {
    let key = keys().iter().find(|k| k.verifying_key().to_bytes() == record.device.0).unwrap();
    Signed::new(record, key)
}

fn open(kind: TopicKind) -> MembershipLog {
    let create =
        MembershipRecord::create(account(0), device(0), kind, History::FromJoining, [7; 16]);
    MembershipLog::new(sign(create)).unwrap()
}

fn envelope(n: u64) -> EnvelopeId {
    EnvelopeId([n as u8; 32])
}

fn cut(dev: u8, seq: u64) -> Cut {
    Cut { device: device(dev), seq, id: envelope(seq) }
}

fn cuts(list: &[(u8, u64)]) -> Cuts {
    let mut list: Vec<Cut> = list.iter().map(|(d, s)| cut(*d, *s)).collect();
    list.sort_unstable();
    list.try_into().unwrap()
}

fn add(who: u8, role: Role) -> MemberOp {
    MemberOp::Add { account: account(who), role, history: History::FromJoining }
}

fn remove(who: u8) -> MemberOp {
    MemberOp::Remove { account: account(who), cuts: cuts(&[(2 * who, 5)]) }
}

fn set_role(who: u8, role: Role) -> MemberOp {
    MemberOp::SetRole { account: account(who), role }
}

fn leave() -> MemberOp {
    MemberOp::Leave { cuts: Cuts::default() }
}

impl MembershipLog {
    /// Account `who` acts with its device `dev` (0 or 1), whether it may or not.
    fn act_with(&mut self, who: u8, dev: u8, op: MemberOp) -> OpId {
        let record = sign(self.evaluate(&belongs).next(account(who), device(2 * who + dev), op));
        let id = OpId(record.id());
        self.insert(record).unwrap();
        id
    }

    fn act(&mut self, who: u8, op: MemberOp) -> OpId {
        self.act_with(who, 0, op)
    }

    fn merge(&mut self, other: &Self) {
        let theirs: Vec<Record> = other.records().cloned().collect();
        assert!(self.extend(theirs).refused.is_empty());
    }

    fn now(&self) -> Membership {
        self.evaluate(&belongs).membership().clone()
    }

    fn role(&self, who: u8) -> Option<Role> {
        self.now().members.get(&account(who)).map(|m| m.role)
    }
}

/// A group of which account 1.. have the given roles.
fn group(roles: &[Role]) -> MembershipLog {
    let mut log = open(TopicKind::Group);
    for (n, role) in roles.iter().enumerate() {
        log.act(0, add(n as u8 + 1, *role));
    }
    log
}

use Role::{Admin, Member as Plain, Owner};

/// One step at one of three replicas: take in another's records, or act.
#[derive(Debug, Clone)]
struct Step {
    replica: usize,
    pull: Option<usize>,
    who: u8,
    dev: u8,
    what: u8,
    target: u8,
    role: u8,
    seq: u64,
    // Low: act though it is not allowed, or name fewer heads.
    care: u8,
}

fn step() -> impl Strategy<Value = Step> {
    let pull = prop::option::weighted(0.25, 0_usize..3);
    let who = (0..ACCOUNTS, 0_u8..2, 0_u8..20, 0..ACCOUNTS);
    (0_usize..3, pull, who, (0_u8..3, 0_u64..4, any::<u8>())).prop_map(
        |(replica, pull, (who, dev, what, target), (role, seq, care))| Step {
            replica,
            pull,
            who,
            dev,
            what,
            target,
            role,
            seq,
            care,
        },
    )
}

fn op_of(s: &Step, what: u8) -> MemberOp {
    let role = [Plain, Admin, Owner][usize::from(s.role)];
    let history = if s.seq.is_multiple_of(2) { History::All } else { History::FromJoining };
    let account = account(s.target);
    let cuts = match s.seq {
        0 => Cuts::default(),
        1 => cuts(&[(2 * s.target, s.seq)]),
        n => cuts(&[(2 * s.target, n), (2 * s.target + 1, 1)]),
    };
    match what % 20 {
        0..5 => MemberOp::Add { account, role, history },
        5..10 => MemberOp::Remove { account, cuts },
        10 | 11 => MemberOp::Leave { cuts },
        12..16 => MemberOp::SetRole { account, role },
        16 => MemberOp::SetHistory { history },
        _ => MemberOp::CutDevice { cut: cut(2 * s.target + s.dev, s.seq) },
    }
}

/// Plays the steps and returns the union of the replicas.
fn play(kind: TopicKind, roles: &[u8], steps: &[Step]) -> MembershipLog {
    let mut start = open(kind);
    if kind.is_open() {
        for (n, role) in roles.iter().enumerate() {
            start.act(0, add(n as u8 + 1, [Plain, Admin, Owner, Owner][usize::from(*role)]));
        }
    }
    let mut replicas = vec![start.clone(), start.clone(), start];
    for s in steps {
        if let Some(from) = s.pull {
            let other = replicas[from].clone();
            replicas[s.replica].merge(&other);
            continue;
        }
        let log = &mut replicas[s.replica];
        let now = log.evaluate(&belongs);
        let mut author = s.who;
        let mut signer = 2 * s.who + s.dev;
        let mut op = op_of(s, s.what);
        if s.care >= 40 {
            // Mostly something allowed: else hardly a history would get far.
            let choices = (0..20 * ACCOUNTS).map(|n| {
                let who = (s.who + n / 20) % ACCOUNTS;
                (who, op_of(s, s.what + n % 20))
            });
            for (who, candidate) in choices {
                let dev = 2 * who + s.dev;
                if now.allowed(&belongs, account(who), device(dev), &candidate).is_ok() {
                    (author, signer, op) = (who, dev, candidate);
                    break;
                }
            }
        } else if s.care < 3 {
            signer = 2 * ACCOUNTS;
        }
        let mut record = now.next(account(author), device(signer), op);
        if s.care % 16 == 9 && record.parents.len() > 1 {
            record.parents = record.parents[1..].to_vec().try_into().unwrap();
        }
        log.insert(sign(record)).unwrap();
    }
    let mut all = replicas.remove(0);
    for replica in &replicas {
        all.merge(replica);
    }
    all
}

fn history_of(kind: TopicKind, max: usize) -> impl Strategy<Value = MembershipLog> {
    (prop::collection::vec(0_u8..4, 0..5), prop::collection::vec(step(), 1..max))
        .prop_map(move |(roles, steps)| play(kind, &roles, &steps))
}

fn any_history() -> impl Strategy<Value = MembershipLog> {
    prop_oneof![
        8 => history_of(TopicKind::Group, 24),
        1 => history_of(TopicKind::Direct, 12),
        1 => history_of(TopicKind::Private, 8),
        1 => history_of(TopicKind::Moments, 8),
        2 => history_of(TopicKind::Feed, 24),
    ]
}

/// Half of proptest's usual number: each case is a whole history.
fn cases() -> u32 {
    ProptestConfig::default().cases / 2
}

/// Heads to ask about: up to two records, or everything.
fn pick(log: &MembershipLog, picks: &[prop::sample::Index]) -> Vec<OpId> {
    if picks.is_empty() {
        return log.heads();
    }
    let order = log.dag().order();
    picks.iter().map(|p| OpId(order[p.index(order.len())])).collect()
}

fn all_verdicts(log: &MembershipLog, heads: &[OpId]) -> Vec<Verdict> {
    let now = log.evaluate(&belongs);
    let mut all = Vec::new();
    for dev in 0..=2 * ACCOUNTS {
        let who = account((dev / 2).min(ACCOUNTS - 1));
        for seq in 0..4 {
            for id in [envelope(seq), envelope(99)] {
                all.push(now.judge(&belongs, who, device(dev), seq, id, heads));
            }
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn equals_the_plain_reference(
        log in any_history(),
        picks in prop::collection::vec(any::<prop::sample::Index>(), 0..3),
    ) {
        let records = log.records().map(|r| (OpId(r.id()), r.get().clone())).collect();
        let plain = Reference::new(records, log.kind(), &belongs);
        let now = log.evaluate(&belongs);
        let everything: BTreeSet<OpId> = log.dag().order().iter().copied().map(OpId).collect();
        let void: BTreeSet<OpId> = now.membership().void.keys().copied().collect();
        prop_assert_eq!(&void, &everything.difference(&plain.valid).copied().collect());
        prop_assert_eq!(&now.at(&log.heads()).unwrap(), now.membership());
        let cuts = now.membership().cuts.iter();
        let cuts = cuts.flat_map(|(d, l)| l.iter().map(|c| (*d, c.op, c.account, c.cut)));
        prop_assert_eq!(cuts.collect::<BTreeSet<_>>(), plain.cuts());

        let heads = pick(&log, &picks);
        let want = plain.at(&heads).unwrap();
        let got = now.at(&heads).unwrap();
        let members: BTreeMap<_, _> = got
            .members
            .iter()
            .map(|(a, m)| (*a, (m.role, m.added_by, m.history)))
            .collect();
        prop_assert_eq!(members, want.members);
        prop_assert_eq!(got.former, want.former);
        prop_assert_eq!(got.history, want.history);

        for dev in 0..=2 * ACCOUNTS {
            let who = account((dev / 2).min(ACCOUNTS - 1));
            for seq in 0..4 {
                for id in [envelope(seq), envelope(99)] {
                    let got = match now.judge(&belongs, who, device(dev), seq, id, &heads) {
                        Verdict::Accepted => Fate::Accepted,
                        Verdict::Pending { .. } => Fate::Pending,
                        Verdict::Void(_) => Fate::Void,
                    };
                    prop_assert_eq!(got, plain.judge(who, device(dev), seq, id, &heads));
                }
            }
        }
    }

    #[test]
    fn every_order_of_arrival_gives_the_same(
        (log, order) in any_history().prop_flat_map(|log| {
            let records: Vec<Record> = log.records().skip(1).cloned().collect();
            (Just(log), Just(records).prop_shuffle())
        }),
        picks in prop::collection::vec(any::<prop::sample::Index>(), 0..3),
    ) {
        let create = log.records().next().unwrap().clone();
        let mut other = MembershipLog::new(create).unwrap();
        for record in &order {
            prop_assert!(other.insert(record.clone()).unwrap());
            prop_assert!(!other.insert(record.clone()).unwrap());
            // What is pending has no effect and is asked for.
            prop_assert_eq!(other.pending().next().is_none(), other.missing().is_empty());
        }
        prop_assert_eq!(other.now(), log.now());
        let heads = pick(&log, &picks);
        prop_assert_eq!(all_verdicts(&other, &heads), all_verdicts(&log, &heads));
        let again = MembershipLog::from_records(log.topic(), log.records().cloned()).unwrap();
        prop_assert_eq!(again.now(), log.now());
    }

    #[test]
    fn invariants(log in any_history()) {
        let now = log.evaluate(&belongs);
        let m = now.membership();
        let owners = m.members.values().filter(|m| m.role == Owner).count();
        prop_assert!(owners >= 1, "no owner");
        match log.kind() {
            TopicKind::Private | TopicKind::Moments => prop_assert_eq!(m.members.len(), 1),
            TopicKind::Direct => prop_assert!(m.members.len() <= 2 && m.former.is_empty()),
            TopicKind::Group | TopicKind::Feed => {}
        }
        prop_assert!(m.members.keys().all(|a| !m.former.contains(a)));
        // What a removed account, or a cut device, did at the same time doesn't hold, but
        // by a standing of its own that the removal had not seen.
        let valid: Vec<&Record> =
            log.records().filter(|r| !m.void.contains_key(&OpId(r.id()))).collect();
        for r in &valid {
            for o in valid.iter().filter(|o| log.dag().concurrent(&o.id(), &r.id())) {
                match &r.get().op {
                    MemberOp::Remove { account, .. } if *account == o.get().account => {
                        let readded = valid.iter().any(|a| {
                            matches!(&a.get().op, MemberOp::Add { account: b, .. } if b == account)
                                && log.dag().is_ancestor(&a.id(), &o.id())
                                && !log.dag().is_ancestor(&a.id(), &r.id())
                        });
                        prop_assert!(readded);
                    }
                    MemberOp::CutDevice { cut } => prop_assert!(cut.device != o.get().device),
                    _ => {}
                }
            }
        }
        // What is allowed now has effect once made.
        for who in 0..ACCOUNTS {
            for op in [add(4, Plain), remove(1), leave(), set_role(2, Admin)] {
                let allowed = now.allowed(&belongs, account(who), device(2 * who), &op);
                let mut after = log.clone();
                let id = after.act(who, op);
                prop_assert_eq!(after.now().void.get(&id).copied(), allowed.err());
            }
        }
    }

    #[test]
    fn what_a_replica_lacks_brings_it_up_to_date(
        log in any_history(),
        pick in any::<prop::sample::Index>(),
    ) {
        let order = log.dag().order();
        let known = OpId(order[pick.index(order.len())]);
        let lacks: BTreeSet<[u8; 32]> =
            log.records_unknown_to(&[known]).iter().map(|r| r.id()).collect();
        let has = log.records().filter(|r| !lacks.contains(&r.id())).cloned();
        let mut other = MembershipLog::from_records(log.topic(), has).unwrap();
        prop_assert_eq!(other.heads(), vec![known]);
        for record in log.records_unknown_to(&[known]) {
            prop_assert!(other.insert(record.clone()).unwrap());
            prop_assert_eq!(other.pending().count(), 0);
        }
        prop_assert_eq!(other.now(), log.now());
    }
}

/// Without this the comparisons above could be of histories in which nothing happens.
#[test]
fn the_random_histories_reach_the_rare_rules() {
    let mut runner = TestRunner::deterministic();
    let strategy = history_of(TopicKind::Group, 24);
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for _ in 0..300 {
        let log = strategy.new_tree(&mut runner).unwrap().current();
        let now = log.now();
        for why in now.void.values() {
            let what = match why {
                Refused::Overruled { .. } => "overruled",
                Refused::Lost => "lost",
                Refused::LastOwner => "last owner",
                Refused::DeviceCut => "device cut",
                Refused::NotAMember => "not a member",
                _ => "other",
            };
            *seen.entry(what).or_default() += 1;
        }
        if log.heads().len() > 1 {
            *seen.entry("forked").or_default() += 1;
        }
        if now.members.len() > 2 && !now.former.is_empty() {
            *seen.entry("lively").or_default() += 1;
        }
    }
    let rare = ["lost", "last owner", "device cut"];
    for what in rare.into_iter().chain(["overruled", "not a member", "forked", "lively"]) {
        assert!(seen.get(what).is_some_and(|n| *n >= 5), "{what}: {seen:?}");
    }
}
