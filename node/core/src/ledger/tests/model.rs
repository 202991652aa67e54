//! The reference: a list of what was accepted, from which every sum is counted anew.

use std::collections::BTreeMap;

use proptest::prelude::*;
use teahouse_protocols::ids::{AssetId, Millis};

use super::{Account, AccountKey, Chain, Ledger, LedgerError, StagedLedger, account, id};
use crate::ledger::{
    Limit, Movement, Record, Side, State, Totals, Transfer, TransferId, What, Why,
};
use crate::store::{Stage, Store};

#[derive(Clone, Default)]
struct Model {
    accounts: BTreeMap<AccountKey, (Limit, bool)>,
    accepted: Vec<Record>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
struct Sums {
    debits_pending: u128,
    debits_posted: u128,
    credits_pending: u128,
    credits_posted: u128,
}

impl Model {
    /// What an accepted transfer moved and what it holds, as far as its state says.
    fn effect(r: &Record) -> Option<(Movement, u128, u128)> {
        match (r.transfer.what, r.state) {
            (What::Move(m), _) => Some((m, r.amount, 0)),
            (What::Reserve { movement, .. }, State::Pending { .. }) => {
                Some((movement, 0, r.amount))
            }
            (What::Reserve { movement, .. }, State::Posted { amount }) => {
                Some((movement, amount, 0))
            }
            _ => None,
        }
    }

    /// Nothing where a sum doesn't fit.
    fn sums(&self, key: AccountKey) -> Option<Sums> {
        let mut s =
            Sums { debits_pending: 0, debits_posted: 0, credits_pending: 0, credits_posted: 0 };
        for (m, posted, pending) in self.accepted.iter().filter_map(Self::effect) {
            if m.debit == key {
                s.debits_posted = s.debits_posted.checked_add(posted)?;
                s.debits_pending = s.debits_pending.checked_add(pending)?;
            }
            if m.credit == key {
                s.credits_posted = s.credits_posted.checked_add(posted)?;
                s.credits_pending = s.credits_pending.checked_add(pending)?;
            }
        }
        s.debits_posted.checked_add(s.debits_pending)?;
        s.credits_posted.checked_add(s.credits_pending)?;
        Some(s)
    }

    fn find(&self, id: TransferId) -> Option<&Record> {
        self.accepted.iter().find(|r| r.transfer.id == id)
    }

    fn post(&mut self, chain: &[Transfer], now: Millis) -> Result<bool, (usize, Why)> {
        for (nth, t) in chain.iter().enumerate() {
            if chain[..nth].iter().any(|e| e.id == t.id) {
                return Err((nth, Why::IdTwice));
            }
            let held = self.find(t.id);
            if held.is_some_and(|r| r.transfer != *t) {
                return Err((nth, Why::IdTaken));
            }
            let first = self.find(chain[0].id).is_some();
            if held.is_some() != first {
                return Err((nth, Why::PartlyThere));
            }
        }
        if self.find(chain[0].id).is_some() {
            return Ok(false);
        }
        let mut after = self.clone();
        for (nth, t) in chain.iter().enumerate() {
            after.one(*t, now).map_err(|why| (nth, why))?;
        }
        *self = after;
        Ok(true)
    }

    fn one(&mut self, t: Transfer, now: Millis) -> Result<(), Why> {
        let (amount, state) = match t.what {
            What::Move(m) => (self.may(m)?, State::Done),
            What::Reserve { movement, timeout } => {
                let until = match timeout {
                    None => None,
                    Some(time) if time > 0 && now.checked_add(time).is_some() => Some(now + time),
                    Some(_) => return Err(Why::NoTime),
                };
                (self.may(movement)?, State::Pending { until })
            }
            What::Post { pending, amount } => {
                if amount == 0 {
                    return Err(Why::NoAmount);
                }
                let at = self.pending(pending, now)?;
                if amount > self.accepted[at].amount {
                    return Err(Why::MoreThanReserved);
                }
                self.accepted[at].state = State::Posted { amount };
                (amount, State::Done)
            }
            What::Void { pending } => {
                let at = self.pending(pending, now)?;
                self.accepted[at].state = State::Voided;
                (self.accepted[at].amount, State::Done)
            }
        };
        self.accepted.push(Record { transfer: t, amount, at: now, state });
        let (What::Move(m) | What::Reserve { movement: m, .. }) = t.what else { return Ok(()) };
        // Now look whether what came of it may be.
        let (Some(debit), Some(credit)) = (self.sums(m.debit), self.sums(m.credit)) else {
            return Err(Why::Overflow);
        };
        if self.accounts[&m.debit].0 == Limit::DebitsWithinCredits
            && debit.debits_posted + debit.debits_pending > debit.credits_posted
        {
            return Err(Why::ExceedsCredits);
        }
        if self.accounts[&m.credit].0 == Limit::CreditsWithinDebits
            && credit.credits_posted + credit.credits_pending > credit.debits_posted
        {
            return Err(Why::ExceedsDebits);
        }
        Ok(())
    }

    /// How much is moved, if the accounts are fit for it.
    fn may(&self, m: Movement) -> Result<u128, Why> {
        if m.amount == 0 {
            return Err(Why::NoAmount);
        }
        if m.debit == m.credit {
            return Err(Why::SameAccount);
        }
        if m.debit.asset != m.credit.asset {
            return Err(Why::OtherAsset);
        }
        let get = |key| self.accounts.get(&key).ok_or(Why::UnknownAccount);
        if get(m.debit)?.1 | get(m.credit)?.1 {
            return Err(Why::Closed);
        }
        let left = match m.at_most {
            None => u128::MAX,
            Some(Side::Debit) => {
                let s = self.sums(m.debit).unwrap();
                s.credits_posted.saturating_sub(s.debits_posted + s.debits_pending)
            }
            Some(Side::Credit) => {
                let s = self.sums(m.credit).unwrap();
                s.debits_posted.saturating_sub(s.credits_posted + s.credits_pending)
            }
        };
        if left == 0 {
            return Err(Why::NothingLeft);
        }
        Ok(left.min(m.amount))
    }

    fn pending(&self, id: TransferId, now: Millis) -> Result<usize, Why> {
        let at = self.accepted.iter().position(|r| r.transfer.id == id);
        let at = at.ok_or(Why::UnknownPending)?;
        match self.accepted[at].state {
            State::Pending { until: Some(until) } if now >= until => Err(Why::Expired),
            State::Pending { .. } => Ok(at),
            State::Done => Err(Why::NotPending),
            State::Posted { .. } => Err(Why::AlreadyPosted),
            State::Voided => Err(Why::AlreadyVoided),
            State::Expired => Err(Why::Expired),
        }
    }

    fn expire(&mut self, now: Millis, most: usize) -> Vec<TransferId> {
        let mut due: Vec<(Millis, TransferId)> = self
            .accepted
            .iter()
            .filter_map(|r| match r.state {
                State::Pending { until: Some(until) } if until <= now => {
                    Some((until, r.transfer.id))
                }
                _ => None,
            })
            .collect();
        due.sort_unstable();
        due.truncate(most);
        for r in &mut self.accepted {
            if due.iter().any(|(_, id)| *id == r.transfer.id) {
                r.state = State::Expired;
            }
        }
        due.into_iter().map(|(_, id)| id).collect()
    }
}

#[derive(Debug, Clone)]
enum Op {
    Open(AccountKey, Limit),
    Close(AccountKey),
    Post(Vec<Transfer>),
    /// An earlier chain again.
    Again(prop::sample::Index),
    /// A part of an earlier chain, with new ones after it or before.
    Part(prop::sample::Index, Transfer, bool),
    /// The same ids, other bytes.
    Altered(prop::sample::Index),
    Wait(Millis),
    Expire(usize),
    /// Writes all to the store, and goes on from there.
    Commit,
}

fn any_account() -> impl Strategy<Value = AccountKey> {
    prop_oneof![9 => (0_u8..5).prop_map(|n| account(1, n)), 1 => (0_u8..2).prop_map(|n| account(2, n))]
}

fn limit() -> impl Strategy<Value = Limit> {
    prop_oneof![
        1 => Just(Limit::None),
        2 => Just(Limit::DebitsWithinCredits),
        1 => Just(Limit::CreditsWithinDebits),
    ]
}

fn amount() -> impl Strategy<Value = u128> {
    prop_oneof![
        12 => 1_u128..200,
        1 => 0_u128..2,
        1 => (0_u128..300).prop_map(|n| u128::MAX - n),
        1 => Just(u128::MAX / 2 + 1),
    ]
}

fn any_movement() -> impl Strategy<Value = Movement> {
    let side = prop_oneof![
        4 => Just(None),
        1 => Just(Some(Side::Debit)),
        1 => Just(Some(Side::Credit)),
    ];
    (any_account(), any_account(), amount(), side)
        .prop_map(|(debit, credit, amount, at_most)| Movement { debit, credit, amount, at_most })
}

fn any_transfer() -> impl Strategy<Value = Transfer> {
    let timeout = prop_oneof![
        2 => Just(None),
        6 => (1_u64..40).prop_map(Some),
        1 => Just(Some(0)),
        1 => Just(Some(u64::MAX)),
    ];
    let what = prop_oneof![
        6 => any_movement().prop_map(What::Move),
        5 => (any_movement(), timeout).prop_map(|(movement, timeout)| What::Reserve { movement, timeout }),
        4 => (0_u8..60, amount()).prop_map(|(n, amount)| What::Post { pending: id(n), amount }),
        2 => (0_u8..60).prop_map(|n| What::Void { pending: id(n) }),
    ];
    (0_u8..60, what).prop_map(|(n, what)| Transfer { id: id(n), code: 7, what })
}

fn op() -> impl Strategy<Value = Op> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        1 => (any_account(), limit()).prop_map(|(key, limit)| Op::Open(key, limit)),
        1 => any_account().prop_map(Op::Close),
        20 => prop::collection::vec(any_transfer(), 1..4).prop_map(Op::Post),
        3 => index().prop_map(Op::Again),
        2 => (index(), any_transfer(), any::<bool>()).prop_map(|(i, t, b)| Op::Part(i, t, b)),
        2 => index().prop_map(Op::Altered),
        3 => (0_u64..30).prop_map(Op::Wait),
        3 => (0_usize..4).prop_map(Op::Expire),
        1 => Just(Op::Commit),
    ]
}

/// A ledger whose stage is committed now and then, and its model.
struct World {
    store: Store,
    model: Model,
    now: Millis,
    chains: Vec<Vec<Transfer>>,
}

impl World {
    fn run(&mut self, ops: &[Op]) {
        let mut left = ops;
        while !left.is_empty() {
            let until = left.iter().position(|op| matches!(op, Op::Commit)).unwrap_or(left.len());
            let snapshot = self.store.snapshot().unwrap();
            let mut stage = Stage::new(&snapshot);
            for op in &left[..until] {
                self.step(&mut stage, op);
                self.check(&mut stage);
            }
            let writes = stage.into_writes();
            drop(snapshot);
            self.store.commit(&writes).unwrap();
            left = left.get(until + 1..).unwrap_or_default();
        }
    }

    fn step(&mut self, stage: &mut Stage<'_>, op: &Op) {
        match op {
            Op::Open(key, limit) => {
                let opened = StagedLedger::new(stage).open(*key, *limit);
                match self.model.accounts.get(key) {
                    Some((held, _)) if held != limit => {
                        assert_eq!(opened, Err(LedgerError::Account(Why::OtherLimit)));
                    }
                    Some(_) => assert_eq!(opened.unwrap().limit, *limit),
                    None => {
                        assert_eq!(opened, Ok(Account::new(*key, *limit)));
                        self.model.accounts.insert(*key, (*limit, false));
                    }
                }
            }
            Op::Close(key) => {
                let empty = StagedLedger::new(stage).account(*key).unwrap().map(|a| a.is_empty());
                let closed = StagedLedger::new(stage).close(*key);
                match self.model.accounts.get_mut(key) {
                    None => assert_eq!(closed, Err(LedgerError::Account(Why::UnknownAccount))),
                    Some(_) if empty == Some(false) => {
                        assert_eq!(closed, Err(LedgerError::Account(Why::NotEmpty)));
                    }
                    Some(account) => {
                        account.1 = true;
                        assert!(closed.unwrap().closed);
                    }
                }
            }
            Op::Post(chain) => self.post(stage, chain),
            Op::Again(i) => {
                if let Some(chain) = self.earlier(*i) {
                    self.post(stage, &chain);
                }
            }
            Op::Part(i, new, before) => {
                let Some(mut chain) = self.earlier(*i) else { return };
                let at = if *before { 0 } else { chain.len() };
                chain.insert(at, *new);
                self.post(stage, &chain);
            }
            Op::Altered(i) => {
                let Some(mut chain) = self.earlier(*i) else { return };
                let last = chain.len() - 1;
                chain[last].code ^= 1;
                self.post(stage, &chain);
            }
            Op::Wait(time) => self.now += time,
            Op::Expire(most) => {
                let ended = StagedLedger::new(stage).expire(self.now, *most).unwrap();
                assert_eq!(ended, self.model.expire(self.now, *most));
            }
            Op::Commit => {}
        }
    }

    fn earlier(&self, i: prop::sample::Index) -> Option<Vec<Transfer>> {
        (!self.chains.is_empty()).then(|| i.get(&self.chains).clone())
    }

    fn post(&mut self, stage: &mut Stage<'_>, chain: &[Transfer]) {
        let before = stage.writes().clone();
        let done = StagedLedger::new(stage).post(chain, self.now);
        match (done, self.model.post(chain, self.now)) {
            (Ok(Chain { records, existed }), Ok(new)) => {
                assert_eq!(existed, !new);
                assert_eq!(records.len(), chain.len());
                for (record, t) in records.iter().zip(chain) {
                    assert_eq!(Some(record), self.model.find(t.id));
                }
                if existed {
                    assert_eq!(*stage.writes(), before, "done twice");
                } else {
                    self.chains.push(chain.to_vec());
                }
            }
            (Err(refused), Err((nth, why))) => {
                assert_eq!(refused, LedgerError::Refused { nth, why });
                assert_eq!(*stage.writes(), before, "half done");
            }
            (done, expected) => panic!("{done:?} where {expected:?} is right"),
        }
    }

    fn check(&self, stage: &mut Stage<'_>) {
        let ledger = StagedLedger::new(stage);
        for (key, (limit, closed)) in &self.model.accounts {
            let a = ledger.account(*key).unwrap().unwrap();
            let sums = Sums {
                debits_pending: a.debits_pending,
                debits_posted: a.debits_posted,
                credits_pending: a.credits_pending,
                credits_posted: a.credits_posted,
            };
            assert_eq!(Some(sums), self.model.sums(*key));
            assert_eq!((a.limit, a.closed), (*limit, *closed));
            let debits = a.debits_posted + a.debits_pending;
            let credits = a.credits_posted + a.credits_pending;
            match limit {
                Limit::None => {}
                Limit::DebitsWithinCredits => assert!(debits <= a.credits_posted),
                Limit::CreditsWithinDebits => assert!(credits <= a.debits_posted),
            }
        }
        for n in 0..60 {
            assert_eq!(ledger.record(id(n)).unwrap().as_ref(), self.model.find(id(n)));
        }
        for asset in [AssetId([1; 32]), AssetId([2; 32])] {
            match ledger.totals(asset) {
                Ok(totals) => {
                    assert!(totals.balanced(), "{totals:?}");
                    let accounts = self.model.accounts.keys().filter(|k| k.asset == asset);
                    assert_eq!(totals.accounts, accounts.count() as u64);
                }
                Err(e) => assert_eq!(e, LedgerError::Account(Why::Overflow)),
            }
        }
        let _ = Totals::default();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_ledger_agrees_with_the_model(
        limits in prop::collection::vec(limit(), 3),
        ops in prop::collection::vec(op(), 1..60),
    ) {
        let mut world = World {
            store: Store::in_memory().unwrap(),
            model: Model::default(),
            now: 1_000,
            chains: Vec::new(),
        };
        let mut all = vec![Op::Open(account(1, 0), Limit::None), Op::Open(account(2, 0), Limit::None)];
        all.extend((1_u8..).zip(limits).map(|(n, limit)| Op::Open(account(1, n), limit)));
        all.extend(ops);
        world.run(&all);
    }
}
