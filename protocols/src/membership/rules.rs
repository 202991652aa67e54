//! Who may do what, judged in an operation's own causal past.
//!
//! **Standing.** An account is a member through a *standing*: it begins with an `Add` (or
//! `Create`) and is ended by every `Remove` or `Leave` whose author had seen it. An end
//! that had not seen a re-add leaves the re-add alone. Of concurrent role or policy
//! changes the later in topological order holds.

use std::collections::{BTreeMap, BTreeSet};

use super::evaluate::{Member, Oracle, Refused};
use super::{Cut, History, MemberOp, MembershipRecord, Role, TopicKind};
use crate::dag::{Bits, Dag};
use crate::ids::{AccountId, DeviceId, OpId};

/// One stay of an account in the topic. Positions are those of the graph's order.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    pub(super) add: usize,
    granted: Role,
    pub(super) history: History,
    // Ends that had seen it alive, and role changes likewise, ascending.
    pub(super) first_end: Option<usize>,
    pub(super) ended_by: Bits,
    roles: Vec<(usize, Role)>,
}

impl Standing {
    fn is_active(&self, past: &Bits) -> bool {
        // Nearly always the first end tells; the rest matters after concurrent ones.
        let over =
            self.first_end.is_some_and(|e| past.contains(e)) || self.ended_by.intersects(past);
        past.contains(self.add) && !over
    }

    /// The role in a past that has the standing, and the position that gave it.
    fn role(&self, past: &Bits) -> (usize, Role) {
        let set = self.roles.iter().rev().find(|(p, _)| past.contains(*p));
        set.copied().unwrap_or((self.add, self.granted))
    }
}

/// The valid operations met so far, by what they do. Asked with a *past*, a set of
/// positions, it answers for the state after the valid operations in it: one index serves
/// every past, so that no state is ever copied.
#[derive(Debug, Clone)]
pub(super) struct Index {
    pub(super) kind: TopicKind,
    pub(super) standings: BTreeMap<AccountId, Vec<Standing>>,
    // Accounts that ever were owners somewhere.
    owners: BTreeSet<AccountId>,
    pub(super) histories: Vec<(usize, History)>,
    // `Remove` and `Leave`: who goes and what is kept.
    pub(super) ends: BTreeMap<usize, (AccountId, Vec<Cut>)>,
    pub(super) cuts: BTreeMap<(AccountId, DeviceId), Vec<(usize, Cut)>>,
}

impl Index {
    pub(super) const fn new(kind: TopicKind) -> Self {
        Self {
            kind,
            standings: BTreeMap::new(),
            owners: BTreeSet::new(),
            histories: Vec::new(),
            ends: BTreeMap::new(),
            cuts: BTreeMap::new(),
        }
    }

    pub(super) fn active(
        &self,
        account: &AccountId,
        past: &Bits,
    ) -> impl Iterator<Item = &Standing> {
        let all = self.standings.get(account).into_iter().flatten();
        all.filter(|s| s.is_active(past))
    }

    pub(super) fn role(&self, account: &AccountId, past: &Bits) -> Option<Role> {
        self.active(account, past).map(|s| s.role(past)).max().map(|(_, role)| role)
    }

    pub(super) fn member(&self, dag: &Dag, account: &AccountId, past: &Bits) -> Option<Member> {
        let role = self.role(account, past)?;
        let history = self.active(account, past).map(|s| s.history).max()?;
        let (_, added_by) = self.first_add(dag, account, past)?;
        Some(Member { role, added_by, history })
    }

    /// Depth and id of the earliest add the account's membership rests on.
    pub(super) fn first_add(
        &self,
        dag: &Dag,
        account: &AccountId,
        past: &Bits,
    ) -> Option<(usize, OpId)> {
        self.active(account, past)
            .map(|s| dag.order()[s.add])
            .filter_map(|id| Some((dag.depth(&id)?, OpId(id))))
            .min()
    }

    pub(super) fn has_owner(&self, past: &Bits, but: Option<&AccountId>) -> bool {
        self.owners.iter().any(|a| Some(a) != but && self.role(a, past) == Some(Role::Owner))
    }

    /// Whose device `author` would cut: its own, or in a group that of an account of
    /// lower role. None if it may not.
    pub(super) fn cut_target(
        &self,
        oracle: Oracle<'_>,
        author: &AccountId,
        role: Role,
        device: &DeviceId,
        past: &Bits,
    ) -> Option<AccountId> {
        if oracle(author, device) {
            return Some(*author);
        }
        if !self.kind.is_open() || role < Role::Admin {
            return None;
        }
        let lower = |a: &AccountId| self.role(a, past).is_some_and(|r| r < role);
        self.standings.keys().find(|a| oracle(a, device) && lower(a)).copied()
    }

    /// Whether the operation has effect, judged in its past. With `cap` it is judged as if
    /// its author had at most that role.
    pub(super) fn permits(
        &self,
        oracle: Oracle<'_>,
        author: &AccountId,
        device: &DeviceId,
        op: &MemberOp,
        past: &Bits,
        cap: Option<Role>,
    ) -> Result<(), Refused> {
        if !oracle(author, device) {
            return Err(Refused::NotADevice);
        }
        if matches!(op, MemberOp::Create { .. }) {
            return if past.is_empty() { Ok(()) } else { Err(Refused::Exists) };
        }
        let cut = self.cuts.get(&(*author, *device)).into_iter().flatten();
        if cut.map(|(p, _)| *p).any(|p| past.contains(p)) {
            return Err(Refused::DeviceCut);
        }
        let full = self.role(author, past).ok_or(Refused::NotAMember)?;
        let role = cap.map_or(full, |cap| cap.min(full));
        let needs = |least: Role| if role < least { Err(Refused::Needs(least)) } else { Ok(()) };
        let only_groups = || {
            if self.kind.is_open() { Ok(()) } else { Err(Refused::FixedMembers) }
        };
        let target = |account| self.role(account, past).ok_or(Refused::NoSuchMember);
        match op {
            MemberOp::Create { .. } => Err(Refused::Exists),
            MemberOp::Add { account, role: granted, .. } => {
                match self.kind {
                    TopicKind::Private | TopicKind::Moments => return Err(Refused::FixedMembers),
                    TopicKind::Direct => {
                        needs(Role::Owner)?;
                        // Of concurrent adds the first in topological order holds.
                        if self.standings.keys().any(|a| a != author && a != account) {
                            return Err(Refused::FixedMembers);
                        }
                    }
                    TopicKind::Group | TopicKind::Feed => {
                        needs(if *granted == Role::Member { Role::Admin } else { Role::Owner })?;
                    }
                }
                if target(account).is_ok() { Err(Refused::AlreadyMember) } else { Ok(()) }
            }
            MemberOp::Remove { account, .. } => {
                only_groups()?;
                if account == author {
                    return Err(Refused::RemoveSelf);
                }
                // Who removes an owner is one, so the last owner can't be removed.
                needs(if target(account)? == Role::Member { Role::Admin } else { Role::Owner })
            }
            MemberOp::Leave { .. } => {
                only_groups()?;
                if full == Role::Owner && !self.has_owner(past, Some(author)) {
                    return Err(Refused::LastOwner);
                }
                Ok(())
            }
            MemberOp::SetRole { account, role: new } => {
                only_groups()?;
                needs(Role::Owner)?;
                let lowers_owner = target(account)? == Role::Owner && *new < Role::Owner;
                if lowers_owner && !self.has_owner(past, Some(account)) {
                    return Err(Refused::LastOwner);
                }
                Ok(())
            }
            MemberOp::SetHistory { .. } => needs(Role::Admin),
            MemberOp::CutDevice { cut } => self
                .cut_target(oracle, author, role, &cut.device, past)
                .map(|_| ())
                .ok_or(Refused::NotYourDevice),
        }
    }

    /// Takes in a valid operation.
    pub(super) fn apply(
        &mut self,
        oracle: Oracle<'_>,
        position: usize,
        r: &MembershipRecord,
        past: &Bits,
    ) {
        let mut begin = |account: AccountId, granted: Role, history: History| {
            self.standings.entry(account).or_default().push(Standing {
                add: position,
                granted,
                history,
                first_end: None,
                ended_by: Bits::default(),
                roles: Vec::new(),
            });
            if granted == Role::Owner {
                self.owners.insert(account);
            }
        };
        match &r.op {
            MemberOp::Create { history, .. } => {
                begin(r.account, Role::Owner, History::All);
                self.histories.push((position, *history));
            }
            MemberOp::Add { account, role, history } => begin(*account, *role, *history),
            MemberOp::Remove { account, cuts } => self.end(position, *account, cuts, past),
            MemberOp::Leave { cuts } => self.end(position, r.account, cuts, past),
            MemberOp::SetRole { account, role } => {
                for standing in self.active_mut(account, past) {
                    standing.roles.push((position, *role));
                }
                if *role == Role::Owner {
                    self.owners.insert(*account);
                }
            }
            MemberOp::SetHistory { history } => self.histories.push((position, *history)),
            MemberOp::CutDevice { cut } => {
                let role = self.role(&r.account, past).unwrap_or(Role::Member);
                let target = self.cut_target(oracle, &r.account, role, &cut.device, past);
                if let Some(account) = target {
                    self.cuts.entry((account, cut.device)).or_default().push((position, *cut));
                }
            }
        }
    }

    fn end(&mut self, position: usize, account: AccountId, cuts: &[Cut], past: &Bits) {
        for standing in self.active_mut(&account, past) {
            standing.first_end.get_or_insert(position);
            standing.ended_by.insert(position);
        }
        self.ends.insert(position, (account, cuts.to_vec()));
    }

    fn active_mut(
        &mut self,
        account: &AccountId,
        past: &Bits,
    ) -> impl Iterator<Item = &mut Standing> {
        let all = self.standings.get_mut(account).into_iter().flatten();
        all.filter(|s| s.is_active(past))
    }
}
