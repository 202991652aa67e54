//! Strong removal: how operations that were made at the same time and take something from
//! each other's authors are settled.
//!
//! A *restriction* (`Remove`, a lowering `SetRole`, `CutDevice`) voids operations concurrent
//! with it that its target could not have made had it known. What depended on those loses
//! its ground in the next replay.
//!
//! Restrictions can void each other, so they are decided one at a time, each time the one
//! of highest rank (author's role, then earlier add, then id) that has something to void,
//! after which everything is replayed. A decided one that loses its own ground later is
//! void for good. Last, if concurrent departures would leave no owner, the one that took
//! the last owner is void for good. Every round but the last adds to the decided or moves
//! from there to the struck, so with n restrictions there are few more than 2n; without
//! conflicts there is one.

use core::cmp::Reverse;
use std::collections::BTreeMap;

use super::evaluate::{Oracle, Refused};
use super::rules::Index;
use super::{MemberOp, MembershipRecord, Role, TopicKind};
use crate::bugs::planted;
use crate::dag::{Bits, Dag};
use crate::ids::{AccountId, DeviceId, OpId};

/// An operation that takes something from an account, and thereby voids what that account
/// did at the same time and could not have done after it.
#[derive(Debug, Clone)]
struct Restriction {
    position: usize,
    target: AccountId,
    leaves: Leaves,
    rank: Rank,
}

/// What a restriction leaves to its target.
#[derive(Debug, Clone, Copy)]
enum Leaves {
    Nothing,
    Role(Role),
    AllBut(DeviceId),
}

/// An account with all its devices, or with one.
type Author = (AccountId, Option<DeviceId>);

impl Restriction {
    /// Whose operations it can void.
    const fn reach(&self) -> Author {
        match self.leaves {
            Leaves::AllBut(device) => (self.target, Some(device)),
            Leaves::Nothing | Leaves::Role(_) => (self.target, None),
        }
    }
}

/// Smaller goes first: the author's role in its past, depth and id of the add it stands on,
/// the operation itself. An account added in secret ranks behind those who were there.
type Rank = (Reverse<Role>, usize, OpId, OpId);

/// What all replays of one evaluation share.
pub(super) struct Ground<'a> {
    kind: TopicKind,
    dag: &'a Dag,
    records: &'a [&'a MembershipRecord],
    by_author: BTreeMap<Author, Vec<usize>>,
    oracle: Oracle<'a>,
}

pub(super) struct Replay {
    pub(super) verdicts: Vec<Result<(), Refused>>,
    pub(super) index: Index,
    // Those that are valid, in topological order.
    restrictions: Vec<Restriction>,
}

impl<'a> Ground<'a> {
    /// `records` are those of `dag`, in its order.
    pub(super) fn new(
        kind: TopicKind,
        dag: &'a Dag,
        records: &'a [&'a MembershipRecord],
        oracle: Oracle<'a>,
    ) -> Self {
        let mut by_author: BTreeMap<Author, Vec<usize>> = BTreeMap::new();
        for (position, record) in records.iter().enumerate() {
            for author in [(record.account, None), (record.account, Some(record.device))] {
                by_author.entry(author).or_default().push(position);
            }
        }
        Self { kind, dag, records, by_author, oracle }
    }

    /// The rounds described at the top.
    pub(super) fn resolve(&self) -> Replay {
        // A planted bug for the simulator: removals don't reach back.
        let strong = !planted("no_strong_remove");
        let mut decided: BTreeMap<usize, Restriction> = BTreeMap::new();
        let mut struck: BTreeMap<usize, Refused> = BTreeMap::new();
        loop {
            let replay = self.replay(&decided, &struck);
            let fallen: Vec<usize> =
                decided.keys().filter(|p| replay.verdicts[**p].is_err()).copied().collect();
            if !fallen.is_empty() {
                for position in fallen {
                    decided.remove(&position);
                    struck.insert(position, Refused::Lost);
                }
                continue;
            }
            if strong && let Some(next) = self.next_to_decide(&replay, &decided) {
                decided.insert(next.position, next);
                continue;
            }
            if let Some(position) = self.took_the_last_owner(&replay) {
                decided.remove(&position);
                struck.insert(position, Refused::LastOwner);
                continue;
            }
            return replay;
        }
    }

    /// Judges all operations in topological order, each in its own past.
    fn replay(
        &self,
        decided: &BTreeMap<usize, Restriction>,
        struck: &BTreeMap<usize, Refused>,
    ) -> Replay {
        let mut reach: BTreeMap<Author, Vec<&Restriction>> = BTreeMap::new();
        for restriction in decided.values() {
            reach.entry(restriction.reach()).or_default().push(restriction);
        }
        let mut index = Index::new(self.kind);
        let mut verdicts = Vec::with_capacity(self.records.len());
        let mut restrictions = Vec::new();
        for (position, record) in self.records.iter().enumerate() {
            let past = self.dag.ancestors(position);
            let verdict = match struck.get(&position) {
                Some(why) => Err(*why),
                None => self.permits(&index, position, None).and_then(|()| {
                    let author = [(record.account, None), (record.account, Some(record.device))];
                    let mut over = author.iter().filter_map(|a| reach.get(a)).flatten();
                    match over.find(|r| self.voids(&index, r, position)) {
                        Some(r) => Err(Refused::Overruled { by: self.op(r.position) }),
                        None => Ok(()),
                    }
                }),
            };
            if verdict.is_ok() {
                restrictions.extend(self.restriction(&index, position));
                index.apply(self.oracle, position, record, past);
            }
            verdicts.push(verdict);
        }
        Replay { verdicts, index, restrictions }
    }

    fn permits(&self, index: &Index, position: usize, cap: Option<Role>) -> Result<(), Refused> {
        let r = self.records[position];
        let past = self.dag.ancestors(position);
        index.permits(self.oracle, &r.account, &r.device, &r.op, past, cap)
    }

    /// What a valid operation restricts, if anything.
    fn restriction(&self, index: &Index, position: usize) -> Option<Restriction> {
        let record = self.records[position];
        let past = self.dag.ancestors(position);
        let author = &record.account;
        let role = index.role(author, past)?;
        let (target, leaves) = match &record.op {
            MemberOp::Remove { account, .. } => (*account, Leaves::Nothing),
            MemberOp::SetRole { account, role: new } if index.role(account, past)? > *new => {
                (*account, Leaves::Role(*new))
            }
            MemberOp::CutDevice { cut } => {
                let target = index.cut_target(self.oracle, author, role, &cut.device, past)?;
                (target, Leaves::AllBut(cut.device))
            }
            _ => return None,
        };
        let (depth, add) = index.first_add(self.dag, author, past)?;
        let rank = (Reverse(role), depth, add, self.op(position));
        Some(Restriction { position, target, leaves, rank })
    }

    /// Whether the restriction voids the operation at `position`, which is one of those in
    /// its reach and permitted otherwise. It doesn't if the author stands on an add that
    /// the restriction had not seen.
    fn voids(&self, index: &Index, r: &Restriction, position: usize) -> bool {
        if !self.dag.concurrent_at(r.position, position) {
            return false;
        }
        let seen = self.dag.ancestors(r.position);
        let past = self.dag.ancestors(position);
        let stands_on_seen = || index.active(&r.target, past).all(|s| seen.contains(s.add));
        match r.leaves {
            Leaves::AllBut(_) => true,
            Leaves::Nothing => stands_on_seen(),
            Leaves::Role(kept) => {
                stands_on_seen() && self.permits(index, position, Some(kept)).is_err()
            }
        }
    }

    /// The restriction of highest rank that is undecided and has something to void.
    fn next_to_decide(
        &self,
        replay: &Replay,
        decided: &BTreeMap<usize, Restriction>,
    ) -> Option<Restriction> {
        let has_effect = |r: &&Restriction| {
            let mut ops = self.by_author.get(&r.reach()).into_iter().flatten();
            ops.any(|p| replay.verdicts[*p].is_ok() && self.voids(&replay.index, r, *p))
        };
        replay
            .restrictions
            .iter()
            .filter(|r| !decided.contains_key(&r.position))
            .filter(has_effect)
            .min_by_key(|r| r.rank)
            .cloned()
    }

    /// If no owner is left at the end: the operation after which, in topological order,
    /// there never was one again.
    fn took_the_last_owner(&self, replay: &Replay) -> Option<usize> {
        let everything: Bits = (0..self.records.len()).collect();
        if replay.index.has_owner(&everything, None) {
            return None;
        }
        let mut past = Bits::default();
        let mut had_owner = false;
        let mut culprit = None;
        for (position, verdict) in replay.verdicts.iter().enumerate() {
            past.insert(position);
            if verdict.is_ok() {
                let has_owner = replay.index.has_owner(&past, None);
                if had_owner && !has_owner {
                    culprit = Some(position);
                }
                had_owner = has_owner;
            }
        }
        culprit
    }

    fn op(&self, position: usize) -> OpId {
        OpId(self.dag.order()[position])
    }
}
