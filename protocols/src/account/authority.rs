//! Who may do what: the rules of the account log (see [`super`]), kept up to date record by
//! record.
//!
//! Records come parents first, in any such order. What depends on a pair of records only
//! (is this one before that one, does this end void that record) is noted when the second
//! of them comes, and never changes; what depends on a set is computed for the set.

use std::collections::BTreeMap;

use super::log::AccountError;
use super::{AccountOp, AccountRecord, Signer};
use crate::ids::RecordId;

/// A set of positions in [`Authority`]'s list.
#[derive(Debug, Clone, Default)]
pub(super) struct Set(Vec<u64>);

/// The admitted records, as far as authority is concerned.
#[derive(Debug, Clone, Default)]
pub(super) struct Authority {
    entries: Vec<Entry>,
    index: BTreeMap<RecordId, usize>,
    signed: BTreeMap<Signer, Vec<usize>>,
    grants: BTreeMap<Signer, Set>,
    ends: BTreeMap<Signer, Set>,
    /// All grants, ascending.
    grant_list: Vec<usize>,
}

#[derive(Debug, Clone)]
struct Entry {
    id: RecordId,
    signer: Signer,
    grants: Option<Signer>,
    ends: Option<Signer>,
    /// Strict ancestors.
    past: Set,
    /// Grants of the signer that made it active in the past, should they stand.
    supports: Set,
    /// Ends of the signer that are concurrent with this record and void it.
    voided_by: Set,
    /// If this is a grant: the ends of its key that it overcomes.
    overcomes: Set,
}

/// Which records stand when all that were admitted are known.
#[derive(Debug)]
pub(super) struct Standing<'a> {
    authority: &'a Authority,
    all: Set,
    grants: Set,
}

impl Authority {
    /// How many records were admitted.
    pub(super) const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Admits a record if its past allows it. The parents must have been admitted.
    pub(super) fn admit(
        &mut self,
        id: RecordId,
        record: &AccountRecord,
    ) -> Result<(), AccountError> {
        let signer = record.signer;
        let mut past = Set::default();
        for parent in &record.parents {
            let p = *self.index.get(parent).ok_or(AccountError::Orphan)?;
            past.union(&self.entries[p].past);
            past.insert(p);
        }
        let supports = self.supports(&signer, &past);
        if matches!(record.op, AccountOp::Genesis { .. }) {
            if !self.entries.is_empty() {
                return Err(AccountError::Foreign);
            }
        } else {
            if !supports.meets(&self.standing_grants(&past)) {
                return Err(AccountError::Unauthorised);
            }
            self.allows(record, &past)?;
        }
        self.push(Entry {
            id,
            signer,
            grants: record.grants(),
            ends: record.ends(),
            past,
            supports,
            voided_by: Set::default(),
            overcomes: Set::default(),
        });
        Ok(())
    }

    /// What stands when all records are known.
    pub(super) fn standing(&self) -> Standing<'_> {
        let mut all = Set::default();
        for i in 0..self.entries.len() {
            all.insert(i);
        }
        let grants = self.standing_grants(&all);
        Standing { authority: self, all, grants }
    }

    /// Whether two rotations among `within` replace one root by different ones.
    fn disputed(&self, within: &Set) -> bool {
        let mut next = BTreeMap::new();
        self.grant_list.iter().filter(|i| within.contains(**i)).any(|i| {
            let e = &self.entries[*i];
            match (e.ends, e.grants) {
                (Some(old), Some(new)) => *next.entry(old).or_insert(new) != new,
                _ => false,
            }
        })
    }

    /// What each kind of record asks of its past, beyond an active signer.
    fn allows(&self, record: &AccountRecord, past: &Set) -> Result<(), AccountError> {
        let known = |sets: &BTreeMap<Signer, Set>, key: &Signer| {
            sets.get(key).is_some_and(|s| s.meets(past))
        };
        match &record.op {
            AccountOp::AddDevice { device, .. } => {
                if self.disputed(past) {
                    return Err(AccountError::Disputed);
                }
                let revoked = known(&self.ends, &Signer::Device(*device));
                if revoked && !record.signer.is_root() {
                    return Err(AccountError::OnlyRoot);
                }
            }
            // A device can't be revoked by somebody who can't know it. So devices that the
            // root adds after a theft are out of the thief's reach, however he backdates.
            AccountOp::RevokeDevice { device }
                if !known(&self.grants, &Signer::Device(*device)) =>
            {
                return Err(AccountError::UnknownDevice);
            }
            AccountOp::RotateRoot { root, .. } if known(&self.grants, &Signer::Root(*root)) => {
                return Err(AccountError::RootReused);
            }
            _ => {}
        }
        Ok(())
    }

    /// Grants of `key` in a closed set that overcome every end of it there.
    fn supports(&self, key: &Signer, within: &Set) -> Set {
        let mut supports = Set::default();
        let (Some(grants), ends) = (self.grants.get(key), self.ends.get(key)) else {
            return supports;
        };
        for g in grants.iter().filter(|g| within.contains(*g)) {
            let ended = ends.is_some_and(|e| e.any_left(within, &self.entries[g].overcomes));
            if !ended {
                supports.insert(g);
            }
        }
        supports
    }

    /// The grants of a closed set that stand in it.
    fn standing_grants(&self, within: &Set) -> Set {
        let mut standing = Set::default();
        for i in self.grant_list.iter().filter(|i| within.contains(**i)) {
            if self.stands(*i, within, &standing) {
                standing.insert(*i);
            }
        }
        standing
    }

    /// Whether a record stands in a closed set, given the grants before it that do.
    /// Revocations aren't asked: they hold.
    fn stands(&self, i: usize, within: &Set, grants: &Set) -> bool {
        let e = &self.entries[i];
        let genesis = e.past.is_empty();
        genesis
            || e.supports.iter().any(|g| {
                grants.contains(g) && !e.voided_by.any_left(within, &self.entries[g].overcomes)
            })
    }

    fn push(&mut self, mut new: Entry) {
        let at = self.entries.len();
        // Every earlier end is in the past or concurrent: none can be a descendant.
        for v in self.ends.get(&new.signer).into_iter().flat_map(Set::iter) {
            if !new.past.contains(v) && voids(&self.entries[v], &new) {
                new.voided_by.insert(v);
            }
        }
        if let Some(granted @ Signer::Device(_)) = new.grants
            && new.signer.is_root()
        {
            for v in self.ends.get(&granted).into_iter().flat_map(Set::iter) {
                if new.past.contains(v) || !self.entries[v].signer.is_root() {
                    new.overcomes.insert(v);
                }
            }
        }
        if let Some(ended) = new.ends {
            for x in self.signed.get(&ended).into_iter().flatten() {
                if !new.past.contains(*x) && voids(&new, &self.entries[*x]) {
                    self.entries[*x].voided_by.insert(at);
                }
            }
            if !new.signer.is_root() {
                for g in self.grants.get(&ended).into_iter().flat_map(Set::iter) {
                    let grant = &mut self.entries[g];
                    if grant.signer.is_root() && !new.past.contains(g) {
                        grant.overcomes.insert(at);
                    }
                }
            }
            self.ends.entry(ended).or_default().insert(at);
        }
        if let Some(granted) = new.grants {
            self.grants.entry(granted).or_default().insert(at);
            self.grant_list.push(at);
        }
        self.signed.entry(new.signer).or_default().push(at);
        self.index.insert(new.id, at);
        self.entries.push(new);
    }
}

/// Whether an end voids a concurrent record of the key it ends. Two rotations of one root
/// to the same new root agree.
fn voids(end: &Entry, record: &Entry) -> bool {
    !(record.ends == end.ends && record.grants.is_some() && record.grants == end.grants)
}

impl Standing<'_> {
    /// Whether two rotations replaced one root by different ones.
    pub(super) fn disputed(&self) -> bool {
        self.authority.disputed(&self.all)
    }

    /// Whether a record stands; of revocations: whether their signer's authority does.
    pub(super) fn stands(&self, id: &RecordId) -> bool {
        let a = self.authority;
        a.index.get(id).is_some_and(|i| a.stands(*i, &self.all, &self.grants))
    }

    /// Whether a grant stands and overcomes every end of its key.
    pub(super) fn is_active(&self, grant: &RecordId) -> bool {
        let a = self.authority;
        a.index.get(grant).is_some_and(|g| {
            let ends = a.entries[*g].grants.and_then(|key| a.ends.get(&key));
            self.grants.contains(*g)
                && !ends.is_some_and(|e| e.any_left(&self.all, &a.entries[*g].overcomes))
        })
    }

    /// Whether `end` ends the key of `grant`, which doesn't overcome it.
    pub(super) fn ended_by(&self, grant: &RecordId, end: &RecordId) -> bool {
        let a = self.authority;
        let (Some(g), Some(v)) = (a.index.get(grant), a.index.get(end)) else { return false };
        let (g, end) = (&a.entries[*g], &a.entries[*v]);
        end.ends.is_some() && end.ends == g.grants && !g.overcomes.contains(*v)
    }

    /// The records of `ids` that are in the past of none of the others.
    pub(super) fn latest(&self, ids: &[RecordId]) -> Vec<RecordId> {
        let a = self.authority;
        let mut before = Set::default();
        for i in ids.iter().filter_map(|id| a.index.get(id)) {
            before.union(&a.entries[*i].past);
        }
        let late = |id: &&RecordId| a.index.get(*id).is_some_and(|i| !before.contains(*i));
        ids.iter().filter(late).copied().collect()
    }

    /// The grants on which an active key rests, from the genesis to its own.
    pub(super) fn chain(&self, key: &Signer) -> Option<Vec<RecordId>> {
        let a = self.authority;
        let mut at = a.supports(key, &self.all).iter().find(|g| self.grants.contains(*g))?;
        let mut chain = vec![a.entries[at].id];
        while !a.entries[at].past.is_empty() {
            // A support is an ancestor, so this ends.
            at = a.entries[at].supports.iter().find(|g| self.grants.contains(*g))?;
            chain.push(a.entries[at].id);
        }
        chain.reverse();
        Some(chain)
    }
}

impl Set {
    pub(super) fn contains(&self, i: usize) -> bool {
        self.0.get(i / 64).is_some_and(|w| w & (1 << (i % 64)) != 0)
    }

    pub(super) fn insert(&mut self, i: usize) {
        if self.0.len() <= i / 64 {
            self.0.resize(i / 64 + 1, 0);
        }
        self.0[i / 64] |= 1 << (i % 64);
    }

    // No member is ever taken out, so a set without words is the empty one.
    const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn union(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (w, o) in self.0.iter_mut().zip(&other.0) {
            *w |= o;
        }
    }

    fn meets(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(a, b)| a & b != 0)
    }

    /// Whether a member is in `within` and not in `minus`.
    fn any_left(&self, within: &Self, minus: &Self) -> bool {
        self.0
            .iter()
            .zip(&within.0)
            .enumerate()
            .any(|(i, (a, b))| a & b & !minus.0.get(i).copied().unwrap_or(0) != 0)
    }

    /// The members, ascending.
    fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(i, word)| {
            let mut left = *word;
            std::iter::from_fn(move || {
                (left != 0).then(|| {
                    let bit = left.trailing_zeros() as usize;
                    left &= left - 1;
                    i * 64 + bit
                })
            })
        })
    }
}
