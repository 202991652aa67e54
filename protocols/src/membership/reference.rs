//! The rules of membership once more, as plainly as they can be said: sets, recursion and
//! loops, nothing remembered. The tests compare the real evaluation with it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Cut, History, MemberOp, MembershipRecord, Oracle, Role, TopicKind};
use crate::ids::{AccountId, DeviceId, EnvelopeId, OpId};

type Ops = BTreeSet<OpId>;

pub(super) struct Reference<'a> {
    records: BTreeMap<OpId, MembershipRecord>,
    kind: TopicKind,
    oracle: Oracle<'a>,
    order: Vec<OpId>,
    past: BTreeMap<OpId, Ops>,
    pub(super) valid: Ops,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) members: BTreeMap<AccountId, (Role, OpId, History)>,
    pub(super) former: BTreeSet<AccountId>,
    pub(super) history: History,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Accepted,
    Pending,
    Void,
}

impl<'a> Reference<'a> {
    /// Only records whose ancestors are all there may be given.
    pub(super) fn new(
        records: BTreeMap<OpId, MembershipRecord>,
        kind: TopicKind,
        oracle: Oracle<'a>,
    ) -> Self {
        let mut order: Vec<OpId> = Vec::new();
        while let Some(next) = records.iter().find_map(|(id, r)| {
            let ready = r.parents.iter().all(|p| order.contains(p));
            (ready && !order.contains(id)).then_some(*id)
        }) {
            order.push(next);
        }
        assert_eq!(order.len(), records.len());
        let past = records.keys().map(|id| (*id, ancestors(&records, id))).collect();
        let mut this = Self { records, kind, oracle, order, past, valid: Ops::new() };
        this.valid = this.decide();
        this
    }

    fn everything(&self) -> Ops {
        self.records.keys().copied().collect()
    }

    fn index(&self, op: &OpId) -> usize {
        self.order.iter().position(|o| o == op).unwrap()
    }

    fn concurrent(&self, a: &OpId, b: &OpId) -> bool {
        a != b && !self.past[a].contains(b) && !self.past[b].contains(a)
    }

    fn depth(&self, op: &OpId) -> usize {
        self.records[op].parents.iter().map(|p| 1 + self.depth(p)).max().unwrap_or(0)
    }

    /// The adds by which `who` is a member after the valid operations of `past`.
    fn adds(&self, valid: &Ops, past: &Ops, who: &AccountId) -> Vec<OpId> {
        let here = || past.iter().filter(|o| valid.contains(*o));
        let begins = |o: &&OpId| match &self.records[*o].op {
            MemberOp::Create { .. } => self.records[*o].account == *who,
            MemberOp::Add { account, .. } => account == who,
            _ => false,
        };
        let over =
            |add: &OpId| here().any(|o| self.gone(o) == Some(*who) && self.past[o].contains(add));
        here().filter(begins).filter(|add| !over(add)).copied().collect()
    }

    fn gone(&self, op: &OpId) -> Option<AccountId> {
        match &self.records[op].op {
            MemberOp::Remove { account, .. } => Some(*account),
            MemberOp::Leave { .. } => Some(self.records[op].account),
            _ => None,
        }
    }

    fn role(&self, valid: &Ops, past: &Ops, who: &AccountId) -> Option<Role> {
        let adds = self.adds(valid, past, who);
        let mut given: Vec<(usize, Role)> = Vec::new();
        for add in &adds {
            given.push(match &self.records[add].op {
                MemberOp::Add { role, .. } => (self.index(add), *role),
                _ => (self.index(add), Role::Owner),
            });
        }
        for op in past.iter().filter(|o| valid.contains(*o)) {
            if let MemberOp::SetRole { account, role } = &self.records[op].op
                && account == who
                && adds.iter().any(|a| self.past[op].contains(a))
            {
                given.push((self.index(op), *role));
            }
        }
        given.sort_unstable();
        given.last().map(|(_, role)| *role)
    }

    fn accounts(&self) -> BTreeSet<AccountId> {
        let mut all = BTreeSet::new();
        for r in self.records.values() {
            all.insert(r.account);
            if let MemberOp::Add { account, .. } = &r.op {
                all.insert(*account);
            }
        }
        all
    }

    fn owners(&self, valid: &Ops, past: &Ops) -> BTreeSet<AccountId> {
        let mut all = self.accounts();
        all.retain(|a| self.role(valid, past, a) == Some(Role::Owner));
        all
    }

    fn earliest(&self, adds: &[OpId]) -> Option<OpId> {
        adds.iter().copied().min_by_key(|a| (self.depth(a), *a))
    }

    /// Whose device a cut by `by` of rank `role` hits.
    fn victim(&self, valid: &Ops, by: &OpId, role: Role, device: &DeviceId) -> Option<AccountId> {
        let author = self.records[by].account;
        if (self.oracle)(&author, device) {
            return Some(author);
        }
        let may = self.kind.is_open() && role >= Role::Admin;
        self.accounts().into_iter().find(|a| {
            let theirs = self.role(valid, &self.past[by], a);
            may && (self.oracle)(a, device) && theirs.is_some_and(|t| t < role)
        })
    }

    fn permitted(&self, valid: &Ops, id: &OpId, at_most: Role) -> bool {
        let r = &self.records[id];
        let past = &self.past[id];
        if !(self.oracle)(&r.account, &r.device) {
            return false;
        }
        if past.is_empty() {
            return true;
        }
        let group = self.kind.is_open();
        let cut_off = past.iter().any(|o| match &self.records[o].op {
            MemberOp::CutDevice { cut } => {
                let role = self.role(valid, &self.past[o], &self.records[o].account);
                valid.contains(o)
                    && cut.device == r.device
                    && self.victim(valid, o, role.unwrap(), &cut.device) == Some(r.account)
            }
            _ => false,
        });
        let Some(full) = self.role(valid, past, &r.account) else { return false };
        let mine = full.min(at_most);
        let role_of = |a: &AccountId| self.role(valid, past, a);
        let owners = self.owners(valid, past);
        !cut_off
            && match &r.op {
                MemberOp::Create { .. } => false,
                MemberOp::Add { account, role, .. } => {
                    role_of(account).is_none()
                        && match self.kind {
                            TopicKind::Private | TopicKind::Moments => false,
                            TopicKind::Direct => {
                                mine == Role::Owner && !self.second_peer(valid, id, *account)
                            }
                            TopicKind::Group | TopicKind::Feed => {
                                mine == Role::Owner
                                    || (mine == Role::Admin && *role == Role::Member)
                            }
                        }
                }
                MemberOp::Remove { account, .. } => match role_of(account) {
                    Some(theirs) if group && *account != r.account => {
                        mine == Role::Owner || (mine == Role::Admin && theirs == Role::Member)
                    }
                    _ => false,
                },
                MemberOp::Leave { .. } => group && owners != BTreeSet::from([r.account]),
                MemberOp::SetRole { account, role } => {
                    group
                        && mine == Role::Owner
                        && role_of(account).is_some()
                        && (*role == Role::Owner || owners != BTreeSet::from([*account]))
                }
                MemberOp::SetHistory { .. } => mine >= Role::Admin,
                MemberOp::CutDevice { cut } => self.victim(valid, id, mine, &cut.device).is_some(),
            }
    }

    /// Whether somebody else was added to this direct topic, earlier in the order.
    fn second_peer(&self, valid: &Ops, id: &OpId, peer: AccountId) -> bool {
        self.order.iter().take_while(|o| *o != id).filter(|o| valid.contains(*o)).any(
            |o| matches!(&self.records[o].op, MemberOp::Add { account, .. } if *account != peer),
        )
    }

    /// Whether the valid operation `r` takes something from somebody.
    fn restricts(&self, valid: &Ops, r: &OpId) -> Option<AccountId> {
        let mine = self.role(valid, &self.past[r], &self.records[r].account)?;
        match &self.records[r].op {
            MemberOp::Remove { account, .. } => Some(*account),
            MemberOp::SetRole { account, role } => {
                (self.role(valid, &self.past[r], account)? > *role).then_some(*account)
            }
            MemberOp::CutDevice { cut } => self.victim(valid, r, mine, &cut.device),
            _ => None,
        }
    }

    /// Whether restriction `r` of `target` voids `op`.
    fn overrules(&self, valid: &Ops, r: &OpId, target: AccountId, op: &OpId) -> bool {
        if self.records[op].account != target || !self.concurrent(r, op) {
            return false;
        }
        let stands_on = self.adds(valid, &self.past[op], &target);
        let known = stands_on.iter().all(|a| self.past[r].contains(a));
        match &self.records[r].op {
            MemberOp::CutDevice { cut } => cut.device == self.records[op].device,
            MemberOp::SetRole { role, .. } => known && !self.permitted(valid, op, *role),
            _ => known,
        }
    }

    fn replay(&self, decided: &BTreeMap<OpId, AccountId>, struck: &Ops) -> Ops {
        let mut valid = Ops::new();
        for op in &self.order {
            if !struck.contains(op)
                && self.permitted(&valid, op, Role::Owner)
                && !decided.iter().any(|(r, target)| self.overrules(&valid, r, *target, op))
            {
                valid.insert(*op);
            }
        }
        valid
    }

    fn decide(&self) -> Ops {
        let mut decided: BTreeMap<OpId, AccountId> = BTreeMap::new();
        let mut struck = Ops::new();
        loop {
            let valid = self.replay(&decided, &struck);
            let lost: Ops = decided.keys().filter(|r| !valid.contains(*r)).copied().collect();
            if !lost.is_empty() {
                decided.retain(|r, _| !lost.contains(r));
                struck.extend(lost);
                continue;
            }
            let mut open: Vec<_> = Vec::new();
            for r in valid.iter().filter(|r| !decided.contains_key(*r)) {
                let Some(target) = self.restricts(&valid, r) else { continue };
                if valid.iter().any(|op| self.overrules(&valid, r, target, op)) {
                    let author = &self.records[r].account;
                    let role = self.role(&valid, &self.past[r], author).unwrap();
                    let add = self.earliest(&self.adds(&valid, &self.past[r], author)).unwrap();
                    let weakness = Role::Owner as u8 - role as u8;
                    open.push(((weakness, self.depth(&add), add, *r), target));
                }
            }
            open.sort_unstable();
            if let Some(((.., r), target)) = open.first() {
                decided.insert(*r, *target);
                continue;
            }
            if self.owners(&valid, &self.everything()).is_empty() {
                // Backwards from the end: the first operation before which there was one.
                let culprit = (0..self.order.len()).rev().find(|n| {
                    let before: Ops = self.order[..*n].iter().copied().collect();
                    !self.owners(&valid, &before).is_empty()
                });
                if let Some(n) = culprit {
                    decided.remove(&self.order[n]);
                    struck.insert(self.order[n]);
                    continue;
                }
            }
            return valid;
        }
    }

    fn closure(&self, heads: &[OpId]) -> Option<Ops> {
        let mut past = Ops::new();
        for h in heads {
            past.extend(self.past.get(h)?);
            past.insert(*h);
        }
        Some(past)
    }

    pub(super) fn at(&self, heads: &[OpId]) -> Option<State> {
        let past = self.closure(heads)?;
        let mut state = State {
            members: BTreeMap::new(),
            former: BTreeSet::new(),
            history: History::FromJoining,
        };
        for who in self.accounts() {
            let adds = self.adds(&self.valid, &past, &who);
            let grants = adds.iter().map(|a| match &self.records[a].op {
                MemberOp::Add { history, .. } => *history,
                _ => History::All,
            });
            if let Some(history) = grants.max() {
                let role = self.role(&self.valid, &past, &who).unwrap();
                let first = self.earliest(&adds).unwrap();
                state.members.insert(who, (role, first, history));
            } else if past.iter().any(|o| {
                let r = &self.records[o];
                self.valid.contains(o)
                    && (matches!(&r.op, MemberOp::Add { account, .. } if *account == who)
                        || (r.parents.is_empty() && r.account == who))
            }) {
                state.former.insert(who);
            }
        }
        for op in self.order.iter().filter(|o| past.contains(*o) && self.valid.contains(*o)) {
            if let MemberOp::SetHistory { history } | MemberOp::Create { history, .. } =
                &self.records[op].op
            {
                state.history = *history;
            }
        }
        Some(state)
    }

    /// Device, operation and cut of every cut that holds in the end.
    pub(super) fn cuts(&self) -> BTreeSet<(DeviceId, OpId, AccountId, Cut)> {
        let mut all = BTreeSet::new();
        for op in &self.valid {
            let account = self.gone(op).or_else(|| self.restricts(&self.valid, op));
            let list: &[Cut] = match &self.records[op].op {
                MemberOp::Remove { cuts, .. } | MemberOp::Leave { cuts } => cuts,
                MemberOp::CutDevice { cut } => core::slice::from_ref(cut),
                _ => &[],
            };
            all.extend(list.iter().map(|c| (c.device, *op, account.unwrap(), *c)));
        }
        all
    }

    pub(super) fn judge(
        &self,
        account: AccountId,
        device: DeviceId,
        seq: u64,
        id: EnvelopeId,
        heads: &[OpId],
    ) -> Fate {
        let Some(past) = self.closure(heads) else { return Fate::Pending };
        let keeps =
            |cut: &Cut| cut.device == device && (cut.seq > seq || (cut.seq == seq && cut.id == id));
        let mut member = false;
        for add in self.adds(&self.valid, &past, &account) {
            let mut ended = false;
            let mut kept = false;
            for op in &self.valid {
                let ends = self.gone(op) == Some(account)
                    && self.adds(&self.valid, &self.past[op], &account).contains(&add);
                if let MemberOp::Remove { cuts, .. } | MemberOp::Leave { cuts } =
                    &self.records[op].op
                    && ends
                {
                    ended = true;
                    kept |= cuts.iter().any(keeps);
                }
            }
            member |= !ended || kept;
        }
        let cuts: Vec<_> = self
            .valid
            .iter()
            .filter_map(|op| match &self.records[op].op {
                MemberOp::CutDevice { cut } => Some((self.restricts(&self.valid, op)?, *cut)),
                _ => None,
            })
            .filter(|(whose, cut)| *whose == account && cut.device == device)
            .collect();
        let uncut = cuts.is_empty() || cuts.iter().any(|(_, cut)| keeps(cut));
        if (self.oracle)(&account, &device) && member && uncut {
            Fate::Accepted
        } else {
            Fate::Void
        }
    }
}

fn ancestors(records: &BTreeMap<OpId, MembershipRecord>, op: &OpId) -> Ops {
    let mut all = Ops::new();
    for parent in &records[op].parents {
        all.insert(*parent);
        all.extend(ancestors(records, parent));
    }
    all
}
