//! Tests of the account log: the rules one by one, then all of them against a slow,
//! literal reading of the rules over random graphs.

mod rules;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::testing::{device, key, signed_holds, wire_holds};
use super::{
    AccountLog, AccountOp, AccountRecord, RelayAddr, Signer, VERSION, device_consent, root_consent,
};
use crate::codec::{List, Text, Wire, decode, encode};
use crate::dag::Dag;
use crate::ids::{AccountId, DeviceId, RecordId, RelayId, Tag};
use crate::sign::{Signature, Signed};

/// The root with key `n`.
pub(super) fn root(n: u8) -> Signer {
    Signer::Root(key(n).verifying_key().to_bytes())
}

/// The device with key `n`, as a signer.
pub(super) fn dev(n: u8) -> Signer {
    Signer::Device(device(n))
}

pub(super) fn add(account: AccountId, n: u8) -> AccountOp {
    let consent = device_consent(&account, &key(n));
    AccountOp::AddDevice { device: device(n), name: name(n), consent }
}

pub(super) fn revoke(n: u8) -> AccountOp {
    AccountOp::RevokeDevice { device: device(n) }
}

pub(super) fn rotate(account: AccountId, n: u8) -> AccountOp {
    let consent = root_consent(&account, &key(n));
    AccountOp::RotateRoot { root: key(n).verifying_key().to_bytes(), consent }
}

pub(super) fn name(n: u8) -> Text<64> {
    n.to_string().as_str().try_into().unwrap()
}

/// A record with parents of one's choice, as a liar can make it.
pub(super) fn forge(
    account: AccountId,
    parents: impl IntoIterator<Item = RecordId>,
    by: (Signer, u8),
    op: AccountOp,
) -> Signed<AccountRecord> {
    let parents: BTreeSet<RecordId> = parents.into_iter().collect();
    let record = AccountRecord {
        version: VERSION,
        account: Some(account),
        parents: parents.into_iter().collect::<Vec<_>>().try_into().unwrap(),
        signer: by.0,
        op,
    };
    Signed::new(record, &key(by.1))
}

fn long_relays() -> List<RelayAddr, 8> {
    let addr: Text<128> = "a".repeat(128).try_into().unwrap();
    let relay = RelayAddr { id: RelayId([1; 32]), addrs: vec![addr; 4].try_into().unwrap() };
    vec![relay; 8].try_into().unwrap()
}

fn record(op: AccountOp, parents: u8) -> AccountRecord {
    let parents: Vec<_> = (0..parents).map(|n| RecordId([n; 32])).collect();
    AccountRecord {
        version: VERSION,
        account: Some(AccountId([7; 32])),
        parents: parents.try_into().unwrap(),
        signer: root(1),
        op,
    }
}

#[test]
fn every_kind_has_one_encoding() {
    let account = AccountId([7; 32]);
    for op in [
        add(account, 2),
        revoke(2),
        rotate(account, 3),
        AccountOp::SetRelays {
            relays: vec![super::super::card::tests::relay()].try_into().unwrap(),
        },
        AccountOp::SetProfile { name: name(200) },
        AccountOp::SetCard { inbox_key: [1; 32], tag: Tag([2; 32]) },
        AccountOp::SetFeatures { features: vec![1, 300].try_into().unwrap() },
    ] {
        let record = record(op, 2);
        assert!(record.verify_consent().is_ok());
        wire_holds(&record);
        signed_holds(&Signed::new(record, &key(1)));
    }
    let log = AccountLog::create(&key(1), [5; 16]);
    let genesis = log.records().next().unwrap();
    wire_holds(genesis.get());
    signed_holds(genesis);
    let longest = record(AccountOp::SetRelays { relays: long_relays() }, 8);
    assert_eq!(encode(&longest).len(), AccountRecord::MAX_BYTES);
}

#[test]
fn records_that_don_t_fit_are_refused() {
    let refused = |r: &AccountRecord| decode::<AccountRecord>(&encode(r)).is_err();
    let profile = || record(AccountOp::SetProfile { name: name(1) }, 2);
    assert!(!refused(&profile()));
    let root_key = key(1).verifying_key().to_bytes();
    let genesis = AccountOp::Genesis { root: root_key, nonce: [0; 16] };
    let mut r = profile();
    r.version = 2;
    assert!(refused(&r));
    let mut r = profile();
    r.parents = vec![RecordId([2; 32]), RecordId([1; 32])].try_into().unwrap();
    assert!(refused(&r));
    let mut r = profile();
    r.parents = List::default();
    assert!(refused(&r));
    let mut r = profile();
    r.account = None;
    assert!(refused(&r));
    // A genesis has no account, no parents, and signs with the root it names.
    let mut r = record(genesis.clone(), 1);
    assert!(refused(&r));
    r.parents = List::default();
    assert!(refused(&r));
    r.account = None;
    assert!(!refused(&r));
    r.signer = root(2);
    assert!(refused(&r));
    // Only a root rotates; sets are sorted.
    let mut r = record(rotate(AccountId([7; 32]), 2), 1);
    r.signer = dev(1);
    assert!(refused(&r));
    assert!(refused(&record(
        AccountOp::SetFeatures { features: vec![2, 1].try_into().unwrap() },
        1
    )));
}

#[test]
fn consents_bind_account_and_key() {
    let account = AccountId([7; 32]);
    for (op, fine) in [
        (add(account, 2), true),
        (add(AccountId([8; 32]), 2), false),
        (rotate(account, 2), true),
        (rotate(AccountId([8; 32]), 2), false),
        (
            AccountOp::AddDevice {
                device: device(3),
                name: name(3),
                consent: device_consent(&account, &key(2)),
            },
            false,
        ),
        // A root's consent is not a device's.
        (
            AccountOp::AddDevice {
                device: device(3),
                name: name(3),
                consent: root_consent(&account, &key(3)),
            },
            false,
        ),
        (
            AccountOp::AddDevice { device: device(3), name: name(3), consent: Signature([0; 64]) },
            false,
        ),
    ] {
        assert_eq!(record(op, 1).verify_consent().is_ok(), fine);
    }
}

/// The rules of the module's documentation, read literally over sets of ids.
struct Literal {
    records: BTreeMap<[u8; 32], AccountRecord>,
    dag: Dag,
    admitted: BTreeSet<[u8; 32]>,
}

type Ids = BTreeSet<[u8; 32]>;

impl Literal {
    fn new(records: &[Signed<AccountRecord>]) -> Self {
        let dag = Dag::new(
            records.iter().map(|r| (r.id(), r.get().parents.iter().map(|p| p.0).collect())),
        );
        let records = records.iter().map(|r| (r.id(), r.get().clone())).collect();
        let mut literal = Self { records, dag, admitted: Ids::new() };
        for id in literal.dag.order().to_vec() {
            if literal.admits(&id) {
                literal.admitted.insert(id);
            }
        }
        literal
    }

    fn past(&self, id: &[u8; 32]) -> Ids {
        self.dag.order().iter().filter(|a| self.dag.is_ancestor(a, id)).copied().collect()
    }

    fn admits(&self, id: &[u8; 32]) -> bool {
        let r = &self.records[id];
        if r.parents.is_empty() {
            return true;
        }
        let past = self.past(id);
        past.is_subset(&self.admitted)
            && self.active(&r.signer, &past)
            && match &r.op {
                AccountOp::AddDevice { .. } => {
                    !self.disputed(&past)
                        && (r.signer.is_root()
                            || !past.iter().any(|v| self.rec(v).ends() == r.grants()))
                }
                AccountOp::RotateRoot { .. } => {
                    !past.iter().any(|g| self.rec(g).grants() == r.grants())
                }
                AccountOp::RevokeDevice { .. } => {
                    past.iter().any(|g| self.rec(g).grants() == r.ends())
                }
                _ => true,
            }
    }

    fn rec(&self, id: &[u8; 32]) -> &AccountRecord {
        &self.records[id]
    }

    fn overcomes(&self, g: &[u8; 32], v: &[u8; 32]) -> bool {
        let by_root = self.rec(g).signer.is_root();
        matches!(self.rec(g).op, AccountOp::AddDevice { .. })
            && by_root
            && (self.dag.is_ancestor(v, g)
                || (!self.rec(v).signer.is_root() && self.dag.concurrent(v, g)))
    }

    fn active(&self, key: &Signer, within: &Ids) -> bool {
        within.iter().any(|g| {
            self.rec(g).grants() == Some(*key)
                && self.stands(g, within)
                && within
                    .iter()
                    .filter(|v| self.rec(v).ends() == Some(*key))
                    .all(|v| self.overcomes(g, v))
        })
    }

    fn stands(&self, id: &[u8; 32], within: &Ids) -> bool {
        let r = self.rec(id);
        if r.parents.is_empty() {
            return true;
        }
        let past = self.past(id);
        past.iter().filter(|g| self.rec(g).grants() == Some(r.signer)).any(|g| {
            let ends = |v: &&[u8; 32]| self.rec(v).ends() == Some(r.signer);
            past.iter().filter(ends).all(|v| self.overcomes(g, v))
                && within
                    .iter()
                    .filter(ends)
                    .filter(|v| self.dag.concurrent(v, id))
                    .filter(|v| {
                        let both = |r: &AccountRecord| r.grants().filter(|_| r.ends().is_some());
                        both(r).is_none() || both(r) != both(self.rec(v))
                    })
                    .all(|v| self.overcomes(g, v))
                && self.stands(g, within)
        })
    }

    fn disputed(&self, within: &Ids) -> bool {
        let rotations = || {
            within
                .iter()
                .map(|r| self.rec(r))
                .filter(|r| matches!(r.op, AccountOp::RotateRoot { .. }))
        };
        rotations().any(|a| rotations().any(|b| a.ends() == b.ends() && a.grants() != b.grants()))
    }

    fn name(&self) -> Text<64> {
        let setters: Vec<&[u8; 32]> = self
            .dag
            .order()
            .iter()
            .filter(|id| self.admitted.contains(*id))
            .filter(|id| matches!(self.rec(id).op, AccountOp::SetProfile { .. }))
            .filter(|id| self.stands(id, &self.admitted))
            .collect();
        let last = setters
            .iter()
            .filter(|a| !setters.iter().any(|b| self.dag.is_ancestor(a, b)))
            .max_by_key(|id| self.rec(id).signer.is_root());
        match last.map(|id| &self.rec(id).op) {
            Some(AccountOp::SetProfile { name }) => name.clone(),
            _ => Text::default(),
        }
    }
}

/// One step of a random history: parents among the records so far, signer, operation.
type Step = ([u8; 2], u8, u8, u8, bool);

const ROOTS: [u8; 3] = [1, 11, 12];
const DEVICES: [u8; 5] = [2, 3, 4, 5, 6];

/// Records by honest and dishonest hands: some are refused, many are concurrent.
fn history(steps: &[Step]) -> Vec<Signed<AccountRecord>> {
    let mut base = AccountLog::create(&key(1), [0; 16]);
    let account = base.account();
    for n in [2, 3] {
        base.append(&key(1), root(1), add(account, n)).unwrap();
    }
    let mut made: Vec<_> = base.records().cloned().collect();
    for (parents, who, what, target, honest) in steps {
        let literal = Literal::new(&made);
        // Recent parents; with luck two that are concurrent.
        let known: Vec<_> = made
            .iter()
            .map(Signed::id)
            .filter(|id| !honest || literal.admitted.contains(id))
            .collect();
        let pick = |p: u8| RecordId(known[known.len() - 1 - usize::from(p) % known.len().min(6)]);
        let parents: BTreeSet<RecordId> = parents.iter().map(|p| pick(*p)).collect();
        let mut past = Ids::new();
        for p in &parents {
            past.extend(literal.past(&p.0));
            past.insert(p.0);
        }
        let everybody =
            ROOTS.iter().map(|n| (root(*n), *n)).chain(DEVICES.iter().map(|n| (dev(*n), *n)));
        let may: Vec<_> = everybody.filter(|(s, _)| !honest || literal.active(s, &past)).collect();
        if may.is_empty() {
            continue;
        }
        let by = may[usize::from(*who) % may.len()];
        let target = DEVICES[usize::from(*target) % DEVICES.len()];
        let op = match what % 10 {
            0..3 => add(account, target),
            3..5 => revoke(target),
            5..8 if by.0.is_root() => rotate(account, ROOTS[1 + usize::from(*who / 8) % 2]),
            _ => AccountOp::SetProfile { name: name(*what) },
        };
        made.push(forge(account, parents, by, op));
    }
    made.dedup_by_key(|r| r.id());
    made
}

fn records_of(log: &AccountLog) -> Vec<[u8; 32]> {
    log.records().map(Signed::id).collect()
}

const STEPS: usize = 18;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (any::<[u8; 2]>(), any::<u8>(), any::<u8>(), any::<u8>(), prop::bool::weighted(0.9));
    prop::collection::vec(step, 4..STEPS)
}

fn shuffled() -> impl Strategy<Value = Vec<usize>> {
    Just((0..STEPS + 3).collect::<Vec<_>>()).prop_shuffle()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// The incremental authority says exactly what the rules say.
    #[test]
    fn folds_by_the_rules(steps in steps()) {
        let made = history(&steps);
        let literal = Literal::new(&made);
        let log = AccountLog::from_records(made).unwrap();
        let state = log.state();
        prop_assert_eq!(records_of(&log).into_iter().collect::<Ids>(), literal.admitted.clone());
        prop_assert_eq!(state.disputed, literal.disputed(&literal.admitted));
        for n in DEVICES {
            let grants: Vec<_> = literal
                .admitted
                .iter()
                .filter(|g| literal.rec(g).grants() == Some(dev(n)))
                .collect();
            let stands = grants.iter().any(|g| literal.stands(g, &literal.admitted));
            prop_assert_eq!(state.devices.contains_key(&device(n)), !grants.is_empty());
            prop_assert_eq!(state.was_ever(&device(n)), stands);
            let active = literal.active(&dev(n), &literal.admitted);
            prop_assert_eq!(state.is_active(&device(n)), active);
            prop_assert_eq!(log.proof_of(&device(n)).is_some(), active);
        }
        prop_assert_eq!(
            !state.disputed,
            literal.active(&Signer::Root(state.root), &literal.admitted)
        );
        prop_assert_eq!(&state.name, &literal.name());
    }

    /// Any order of arrival gives one state, however records are batched.
    #[test]
    fn converges(steps in steps(), orders in prop::collection::vec(shuffled(), 2), cut: prop::sample::Index) {
        let made = history(&steps);
        let genesis = made[0].clone();
        let reference = AccountLog::from_records(made.clone()).unwrap();
        for order in orders {
            let mut log = AccountLog::open(genesis.clone()).unwrap();
            let order: Vec<_> = order.iter().filter_map(|i| made.get(*i)).cloned().collect();
            let (one_by_one, batch) = order.split_at(cut.index(order.len() + 1));
            let mut disputed = false;
            for record in one_by_one {
                let _ = log.insert(record.clone());
                prop_assert!(!disputed || log.state().disputed, "a dispute was cleared");
                disputed = log.state().disputed;
            }
            let early = log.clone();
            log.insert_all(batch.iter().cloned());
            prop_assert_eq!(log.state(), reference.state());
            prop_assert_eq!(records_of(&log), records_of(&reference));
            // What is left waiting waits for something that was refused.
            let none_held = log.missing().iter().all(|m| reference.get(m).is_none());
            prop_assert!(none_held);

            // Catching up by heads.
            let mut behind = early;
            let lacking: Vec<_> =
                reference.records_unknown_to(behind.heads()).into_iter().cloned().collect();
            let none_known = lacking.iter().all(|r| behind.get(&RecordId(r.id())).is_none());
            prop_assert!(none_known);
            behind.insert_all(lacking);
            prop_assert_eq!(behind.state(), reference.state());
        }
    }

    /// Who was revoked and not added again by the root is out, whatever else there is.
    #[test]
    fn revocations_hold(steps in steps()) {
        let log = AccountLog::from_records(history(&steps)).unwrap();
        for n in DEVICES {
            let revoked = log.records().any(|r| r.get().ends() == Some(dev(n)));
            let again = log
                .records()
                .filter(|r| r.get().grants() == Some(dev(n)) && r.get().signer.is_root())
                .count();
            if revoked && again == 0 {
                prop_assert!(!log.is_active(&device(n)));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Who is out is convinced by the records of its end, whatever else it holds.
    #[test]
    fn an_end_is_proved(steps in steps(), cut: prop::sample::Index) {
        let made = history(&steps);
        let log = AccountLog::from_records(made.clone()).unwrap();
        let early = AccountLog::from_records(made[..=cut.index(made.len())].to_vec()).unwrap();
        for n in DEVICES {
            let end: Vec<_> = log.end_of(&device(n)).into_iter().cloned().collect();
            let is_out = log.state().devices.contains_key(&device(n)) && !log.is_active(&device(n));
            prop_assert_eq!(!end.is_empty(), is_out);
            if is_out {
                let mut told = early.clone();
                told.insert_all(end);
                prop_assert!(!told.is_active(&device(n)));
            }
        }
    }
}

#[test]
fn random_histories_are_not_trivial() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let (mut disputes, mut voids, mut refused, mut revoked, mut again) = (0, 0, 0, 0, 0);
    for _ in 0..150 {
        let made = history(&steps().new_tree(&mut runner).unwrap().current());
        let count = made.len();
        let log = AccountLog::from_records(made).unwrap();
        let devices: Vec<_> = log.state().devices.values().collect();
        disputes += usize::from(log.state().disputed);
        voids += usize::from(devices.iter().any(|d| d.void));
        refused += usize::from(log.records().count() < count);
        revoked += usize::from(devices.iter().any(|d| d.revoked.is_some()));
        again += usize::from(DEVICES.iter().any(|n: &u8| {
            log.is_active(&device(*n)) && log.records().any(|r| r.get().ends() == Some(dev(*n)))
        }));
    }
    let seen = [disputes, voids, refused, revoked, again];
    assert!(seen.iter().all(|n| *n >= 5), "{seen:?}");
}

#[test]
fn device_ids_are_compared_as_keys() {
    // A device that has a root's key is still another signer.
    assert_ne!(root(1), Signer::Device(DeviceId(*root(1).key())));
}
