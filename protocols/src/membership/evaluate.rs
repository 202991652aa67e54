//! What follows from a set of membership records: a pure function of the records and of
//! the members' account logs. Here is what one can ask; `rules` has who may do what, and
//! `rounds` how concurrent removals are settled.

use core::cell::RefCell;
use core::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::rounds::{Ground, Replay};
use super::rules::Index;
use super::{Cut, History, MAX_PARENTS, MemberOp, MembershipRecord, Role, TopicKind, VERSION};
use crate::codec::List;
use crate::dag::{Bits, Dag, Id};
use crate::ids::{AccountId, DeviceId, EnvelopeId, OpId, TopicId};

/// Says whether a device was ever validly added to an account's log, revoked since or not.
pub type Oracle<'a> = &'a dyn Fn(&AccountId, &DeviceId) -> bool;

/// A member of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// What it may do.
    pub role: Role,
    /// The operation that added it; of concurrent ones the earliest.
    pub added_by: OpId,
    /// What it may read; of concurrent grants the widest.
    pub history: History,
}

/// A cut that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuthorisedCut {
    /// The `Remove`, `Leave` or `CutDevice` that made it.
    pub op: OpId,
    /// The account whose device is cut.
    pub account: AccountId,
    /// What is kept.
    pub cut: Cut,
}

/// The membership of a topic after some operations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// What the topic is for.
    pub kind: TopicKind,
    /// The policy for members to come.
    pub history: History,
    /// Who is in.
    pub members: BTreeMap<AccountId, Member>,
    /// Who was in and is no longer.
    pub former: BTreeSet<AccountId>,
    /// Cuts that hold, by device, in topological order of the operations that made them.
    pub cuts: BTreeMap<DeviceId, Vec<AuthorisedCut>>,
    /// Operations without effect, and why.
    pub void: BTreeMap<OpId, Refused>,
    /// The operations this is the state after, ascending.
    pub heads: Vec<OpId>,
}

/// Why an operation has no effect, or would have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The signing device was never added to the author's account.
    #[error("this device does not belong to the account")]
    NotADevice,
    /// The signing device has been cut off.
    #[error("this device has been cut off from the topic")]
    DeviceCut,
    /// The author is not a member.
    #[error("the account is not a member")]
    NotAMember,
    /// Topics are created once.
    #[error("the topic exists already")]
    Exists,
    /// Private and direct topics don't change their members or roles.
    #[error("the members of such a topic are fixed")]
    FixedMembers,
    /// The author's role is too low.
    #[error("this takes the role of {0:?} at least")]
    Needs(Role),
    /// The account to add is a member.
    #[error("the account is a member already")]
    AlreadyMember,
    /// The account to remove or to give a role is not a member.
    #[error("there is no such member")]
    NoSuchMember,
    /// Who wants to go leaves; removing is for others.
    #[error("nobody removes themselves: leave instead")]
    RemoveSelf,
    /// The topic would be left without an owner.
    #[error("the last owner must stay: name another owner first")]
    LastOwner,
    /// The device is neither one's own nor one of an account of lower role.
    #[error("this device is not yours to cut off")]
    NotYourDevice,
    /// A concurrent restriction of its author or device voids it.
    #[error("its author was removed or restricted at the same time")]
    Overruled {
        /// The restriction.
        by: OpId,
    },
    /// It was overruled while mutual removals were being resolved.
    #[error("it lost against a removal made at the same time")]
    Lost,
}

/// Whether an envelope counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It does.
    Accepted,
    /// Operations its author had seen are not here yet.
    Pending {
        /// What to ask for, ascending.
        missing: Vec<OpId>,
    },
    /// It doesn't, unless more operations change that.
    Void(Reason),
}

/// Why an envelope doesn't count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The device was never added to the author's account.
    #[error("its device does not belong to the account")]
    NotADevice,
    /// The author was not a member at the heads it names.
    #[error("its author was not a member")]
    NotAMember,
    /// It lies above the cut of the author's removal or departure.
    #[error("its author had been removed")]
    Removed {
        /// The `Remove` or `Leave`; of several the first in topological order.
        by: OpId,
    },
    /// It lies above the cut of its device.
    #[error("its device had been cut off")]
    DeviceCut {
        /// The `CutDevice`; of several the first in topological order.
        by: OpId,
    },
}

/// What follows from the records of a topic. It owns what it needs, so it can be kept
/// until records or account logs change.
#[derive(Debug, Clone)]
pub struct Evaluation {
    topic: TopicId,
    dag: Arc<Dag>,
    verdicts: Vec<Result<(), Refused>>,
    index: Index,
    now: Membership,
}

impl Evaluation {
    /// The state after all records held.
    pub const fn membership(&self) -> &Membership {
        &self.now
    }

    /// The state after `heads` and their ancestors; None if one of them is unknown or
    /// pending. Operations that are void now are void in it.
    pub fn at(&self, heads: &[OpId]) -> Option<Membership> {
        let heads: Vec<Id> = heads.iter().map(|h| h.0).collect();
        let past = self.dag.closure(&heads)?;
        Some(membership(&self.index, &self.dag, &self.verdicts, past.bits(), heads))
    }

    /// Judges an envelope of `device` of `account` with number `seq`, written when its
    /// author had seen `heads`.
    ///
    /// Its author must have been a member at `heads`. Ends of that standing which the
    /// author had not seen keep what lies up to their cut; if there are several, the
    /// highest cut wins. A cut of the device counts whether the author had seen it or not;
    /// again the highest wins. An envelope must pass both.
    pub fn judge(
        &self,
        oracle: Oracle<'_>,
        account: AccountId,
        device: DeviceId,
        seq: u64,
        id: EnvelopeId,
        heads: &[OpId],
    ) -> Verdict {
        let ids: Vec<Id> = heads.iter().map(|h| h.0).collect();
        let Some(past) = self.dag.closure(&ids) else {
            return Verdict::Pending { missing: self.missing(&ids) };
        };
        if !oracle(&account, &device) {
            return Verdict::Void(Reason::NotADevice);
        }
        let mut reason = Reason::NotAMember;
        let mut holds = false;
        for standing in self.index.active(&account, past.bits()) {
            let kept = |end: usize| {
                self.index.ends[&end].1.iter().any(|c| c.device == device && c.keeps(seq, id))
            };
            match standing.first_end {
                Some(end) if !standing.ended_by.iter().any(kept) => {
                    reason = Reason::Removed { by: self.op(end) };
                }
                _ => holds = true,
            }
        }
        if !holds {
            return Verdict::Void(reason);
        }
        let cuts = self.index.cuts.get(&(account, device));
        match cuts.and_then(|cuts| Some((cuts, cuts.first()?))) {
            Some((cuts, (first, _))) if !cuts.iter().any(|(_, c)| c.keeps(seq, id)) => {
                Verdict::Void(Reason::DeviceCut { by: self.op(*first) })
            }
            _ => Verdict::Accepted,
        }
    }

    /// Whether the operation would have effect if `account` made it now, as
    /// [`Evaluation::next`] writes it.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn allowed(
        &self,
        oracle: Oracle<'_>,
        account: AccountId,
        device: DeviceId,
        op: &MemberOp,
    ) -> Result<(), Refused> {
        let parents: Vec<Id> = self.parents().iter().map(|p| p.0).collect();
        let past = self.dag.closure(&parents).ok_or(Refused::NotAMember)?;
        self.index.permits(oracle, &account, &device, op, past.bits(), None)
    }

    /// The record of an operation made now, to be signed by `device`.
    pub fn next(&self, account: AccountId, device: DeviceId, op: MemberOp) -> MembershipRecord {
        let parents = List::try_from(self.parents()).unwrap_or_default();
        MembershipRecord { version: VERSION, topic: Some(self.topic), parents, account, device, op }
    }

    /// The parents of the next record: all heads, ascending. If they are too many, those
    /// with effect first, then the deeper ones, then the smaller ids: so that a flood of
    /// void or shallow records can't push the author's own ground out of its past.
    pub fn parents(&self) -> Vec<OpId> {
        let mut heads: Vec<(bool, Reverse<usize>, OpId)> = self
            .dag
            .heads()
            .iter()
            .filter_map(|h| {
                let void = self.verdicts[self.dag.position(h)?].is_err();
                Some((void, Reverse(self.dag.depth(h)?), OpId(*h)))
            })
            .collect();
        heads.sort_unstable();
        heads.truncate(MAX_PARENTS);
        let mut parents: Vec<OpId> = heads.into_iter().map(|(_, _, id)| id).collect();
        parents.sort_unstable();
        parents
    }

    /// What to ask for so that `heads` are known.
    fn missing(&self, heads: &[Id]) -> Vec<OpId> {
        let unknown = heads.iter().filter(|h| !self.dag.contains(h));
        let mut missing = BTreeSet::new();
        for head in unknown {
            if self.dag.pending().contains(head) {
                missing.extend(self.dag.missing().iter().copied().map(OpId));
            } else {
                missing.insert(OpId(*head));
            }
        }
        missing.into_iter().collect()
    }

    fn op(&self, position: usize) -> OpId {
        OpId(self.dag.order()[position])
    }

    /// `records` are those of the graph, in its order.
    pub(super) fn new(
        topic: TopicId,
        kind: TopicKind,
        dag: Arc<Dag>,
        records: &[&MembershipRecord],
        oracle: Oracle<'_>,
    ) -> Self {
        // Replays ask the same again and again, and looking into account logs isn't free.
        let asked = RefCell::new(BTreeMap::new());
        let oracle = |account: &AccountId, device: &DeviceId| {
            let mut asked = asked.borrow_mut();
            *asked.entry((*account, *device)).or_insert_with(|| oracle(account, device))
        };
        let Replay { verdicts, index, .. } = Ground::new(kind, &dag, records, &oracle).resolve();
        let everything: Bits = (0..records.len()).collect();
        let now = membership(&index, &dag, &verdicts, &everything, dag.heads().to_vec());
        Self { topic, dag, verdicts, index, now }
    }
}

fn membership(
    index: &Index,
    dag: &Dag,
    verdicts: &[Result<(), Refused>],
    past: &Bits,
    mut heads: Vec<Id>,
) -> Membership {
    heads.sort_unstable();
    heads.dedup();
    let op = |position: usize| OpId(dag.order()[position]);
    let mut members = BTreeMap::new();
    let mut former = BTreeSet::new();
    for account in index.standings.keys() {
        if let Some(member) = index.member(dag, account, past) {
            members.insert(*account, member);
        } else if index.standings[account].iter().any(|s| past.contains(s.add)) {
            former.insert(*account);
        }
    }
    // By position first, so that each device's list is in topological order.
    let mut cuts: BTreeMap<(usize, DeviceId), AuthorisedCut> = BTreeMap::new();
    let ends = index.ends.iter().flat_map(|(p, (a, list))| list.iter().map(move |c| (*p, *a, *c)));
    let devices =
        index.cuts.iter().flat_map(|((a, _), list)| list.iter().map(move |(p, c)| (*p, *a, *c)));
    for (p, account, cut) in ends.chain(devices).filter(|(p, ..)| past.contains(*p)) {
        cuts.insert((p, cut.device), AuthorisedCut { op: op(p), account, cut });
    }
    let mut by_device: BTreeMap<DeviceId, Vec<AuthorisedCut>> = BTreeMap::new();
    for ((_, device), cut) in cuts {
        by_device.entry(device).or_default().push(cut);
    }
    let set = index.histories.iter().rev().find(|(p, _)| past.contains(*p));
    Membership {
        kind: index.kind,
        history: set.map_or(History::FromJoining, |(_, h)| *h),
        members,
        former,
        cuts: by_device,
        void: past.iter().filter_map(|p| verdicts[p].err().map(|why| (op(p), why))).collect(),
        heads: heads.into_iter().map(OpId).collect(),
    }
}
