//! A graph of hash-linked items, as account logs and membership logs are made of: who
//! comes before whom, in an order that every replica computes alike.
//!
//! A [`Dag`] is built at once from a set of items and never changes; it depends on the set
//! only, not on the order in which the items came. Callers bound the number of items (the
//! logs hold at most 4,096): one bit per pair is kept, 2 MiB at that size.

use std::collections::{BTreeMap, BTreeSet};

/// The id of an item: the hash of its bytes.
pub type Id = [u8; 32];

/// The items whose ancestors are all present, in topological order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dag {
    order: Vec<Id>,
    index: BTreeMap<Id, usize>,
    // By position in `order`: strict ancestors, and the longest path from a root.
    ancestors: Vec<Bits>,
    depths: Vec<usize>,
    heads: Vec<Id>,
    pending: BTreeSet<Id>,
    missing: BTreeSet<Id>,
}

/// Some items of a [`Dag`] together with all their ancestors.
#[derive(Debug, Clone)]
pub struct Closure<'a> {
    dag: &'a Dag,
    bits: Bits,
}

impl Dag {
    /// Builds the graph of `items`, each an id and the ids of its parents.
    ///
    /// Items with an absent ancestor stay out, see [`Dag::pending`]. So do items on a
    /// cycle and their descendants: hashes can't form one, but hostile input may claim it.
    /// An id given twice is one item, with the parents of both.
    pub fn new(items: impl IntoIterator<Item = (Id, Vec<Id>)>) -> Self {
        let mut parents: BTreeMap<Id, BTreeSet<Id>> = BTreeMap::new();
        for (id, its) in items {
            parents.entry(id).or_default().extend(its);
        }
        let mut children: BTreeMap<Id, Vec<Id>> = BTreeMap::new();
        let mut waiting: BTreeMap<Id, usize> = BTreeMap::new();
        let mut ready: BTreeSet<Id> = BTreeSet::new();
        let mut dag = Self::default();
        for (id, its) in &parents {
            if its.is_empty() {
                ready.insert(*id);
            } else {
                waiting.insert(*id, its.len());
            }
            for parent in its {
                children.entry(*parent).or_default().push(*id);
                if !parents.contains_key(parent) {
                    dag.missing.insert(*parent);
                }
            }
        }
        // Kahn's algorithm; of the items that are ready the smallest id comes first.
        // Restricted to any closure this is the order the closure alone would have, for
        // whether an item is ready depends on its ancestors only.
        let mut has_child: BTreeSet<Id> = BTreeSet::new();
        while let Some(id) = ready.pop_first() {
            let position = dag.order.len();
            let mut ancestors = Bits::default();
            let mut depth = 0;
            for parent in &parents[&id] {
                let p = dag.index[parent];
                ancestors.union(&dag.ancestors[p]);
                ancestors.insert(p);
                depth = depth.max(dag.depths[p] + 1);
                has_child.insert(*parent);
            }
            dag.order.push(id);
            dag.index.insert(id, position);
            dag.ancestors.push(ancestors);
            dag.depths.push(depth);
            for child in children.get(&id).into_iter().flatten() {
                if let Some(left) = waiting.get_mut(child) {
                    *left -= 1;
                    if *left == 0 {
                        waiting.remove(child);
                        ready.insert(*child);
                    }
                }
            }
        }
        dag.heads = dag.index.keys().filter(|id| !has_child.contains(*id)).copied().collect();
        dag.pending = waiting.into_keys().collect();
        dag
    }

    /// How many items are in the graph; pending ones don't count.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether no item is in the graph.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Items that stay out because an ancestor is absent (or because they claim a cycle).
    pub const fn pending(&self) -> &BTreeSet<Id> {
        &self.pending
    }

    /// Ids named as parents of which no item was given.
    pub const fn missing(&self) -> &BTreeSet<Id> {
        &self.missing
    }

    /// All items, every one after its ancestors; ties go to the smaller id.
    pub fn order(&self) -> &[Id] {
        &self.order
    }

    /// Whether the item is in the graph; pending ones are not.
    pub fn contains(&self, id: &Id) -> bool {
        self.index.contains_key(id)
    }

    /// Whether `a` is a strict ancestor of `b`. False if either is not in the graph.
    pub fn is_ancestor(&self, a: &Id, b: &Id) -> bool {
        match (self.index.get(a), self.index.get(b)) {
            (Some(a), Some(b)) => self.ancestors[*b].contains(*a),
            _ => false,
        }
    }

    /// Whether `a` and `b` are different items of the graph and neither knew the other.
    pub fn concurrent(&self, a: &Id, b: &Id) -> bool {
        a != b
            && self.contains(a)
            && self.contains(b)
            && !self.is_ancestor(a, b)
            && !self.is_ancestor(b, a)
    }

    /// The items without children in the graph, ascending.
    pub fn heads(&self) -> &[Id] {
        &self.heads
    }

    /// The length of the longest path from a root to the item; roots have 0.
    pub fn depth(&self, id: &Id) -> Option<usize> {
        self.index.get(id).map(|p| self.depths[*p])
    }

    /// `heads` and all their ancestors. None if one of them is not in the graph.
    pub fn closure(&self, heads: &[Id]) -> Option<Closure<'_>> {
        let mut bits = Bits::default();
        for head in heads {
            let p = *self.index.get(head)?;
            bits.union(&self.ancestors[p]);
            bits.insert(p);
        }
        Some(Closure { dag: self, bits })
    }

    /// The items that somebody with `heads` lacks, in topological order: those outside the
    /// closure of the heads we know. Heads we don't know say nothing.
    pub fn unknown_to(&self, heads: &[Id]) -> Vec<Id> {
        let known: Vec<Id> = heads.iter().filter(|h| self.contains(h)).copied().collect();
        let Some(closure) = self.closure(&known) else { return self.order.clone() };
        self.order
            .iter()
            .enumerate()
            .filter(|(p, _)| !closure.bits.contains(*p))
            .map(|(_, id)| *id)
            .collect()
    }

    /// The item's place in [`Dag::order`].
    pub(crate) fn position(&self, id: &Id) -> Option<usize> {
        self.index.get(id).copied()
    }

    /// The strict ancestors of the item at a position of [`Dag::order`].
    pub(crate) fn ancestors(&self, position: usize) -> &Bits {
        &self.ancestors[position]
    }

    /// [`Dag::concurrent`] by positions.
    pub(crate) fn concurrent_at(&self, a: usize, b: usize) -> bool {
        a != b && !self.ancestors[a].contains(b) && !self.ancestors[b].contains(a)
    }
}

impl Closure<'_> {
    /// Whether the item is among them.
    pub fn contains(&self, id: &Id) -> bool {
        self.dag.index.get(id).is_some_and(|p| self.bits.contains(*p))
    }

    /// The items in topological order.
    pub fn iter(&self) -> impl Iterator<Item = &Id> {
        self.bits.iter().map(|p| &self.dag.order[p])
    }

    /// The items' positions in [`Dag::order`].
    pub(crate) const fn bits(&self) -> &Bits {
        &self.bits
    }
}

/// A set of positions. It has no trailing zero words, so equal sets are equal values.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Bits(Vec<u64>);

impl Bits {
    pub(crate) fn contains(&self, position: usize) -> bool {
        self.0.get(position / 64).is_some_and(|w| w & (1 << (position % 64)) != 0)
    }

    pub(crate) fn insert(&mut self, position: usize) {
        let word = position / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (position % 64);
    }

    pub(crate) fn union(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (w, o) in self.0.iter_mut().zip(&other.0) {
            *w |= o;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn intersects(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(a, b)| a & b != 0)
    }

    /// The members, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(i, word)| {
            let mut left = *word;
            core::iter::from_fn(move || {
                (left != 0).then(|| {
                    let bit = left.trailing_zeros() as usize;
                    left &= left - 1;
                    i * 64 + bit
                })
            })
        })
    }
}

impl FromIterator<usize> for Bits {
    fn from_iter<I: IntoIterator<Item = usize>>(positions: I) -> Self {
        let mut bits = Self::default();
        for position in positions {
            bits.insert(position);
        }
        bits
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::{Dag, Id};

    fn id(n: u16) -> Id {
        // Ids that don't ascend with n, so that ties are real.
        *blake3::hash(&n.to_le_bytes()).as_bytes()
    }

    /// The transitive parents, by plain recursion; None if one is absent or comes back to
    /// itself.
    fn slow(items: &BTreeMap<Id, Vec<Id>>, of: &Id, path: &mut Vec<Id>) -> Option<BTreeSet<Id>> {
        if path.contains(of) {
            return None;
        }
        path.push(*of);
        let mut all = BTreeSet::new();
        for p in items.get(of)? {
            all.extend(slow(items, p, path)?);
            all.insert(*p);
        }
        path.pop();
        Some(all)
    }

    /// Up to 12 items whose parents are any ids: cycles, gaps and unknown ones included.
    fn wild() -> impl Strategy<Value = Vec<(Id, Vec<Id>)>> {
        prop::collection::vec((prop::collection::vec(0_u16..14, 0..3), any::<u8>()), 1..13)
            .prop_map(|rows| {
                rows.into_iter()
                    .enumerate()
                    .map(|(n, (parents, tame))| {
                        let n = n as u16;
                        // Most are honest, so that graphs grow.
                        let parents =
                            parents
                                .into_iter()
                                .filter_map(|p| {
                                    if tame < 230 { (n > 0).then(|| p % n) } else { Some(p) }
                                })
                                .map(id)
                                .collect();
                        (id(n), parents)
                    })
                    .collect()
            })
    }

    proptest! {
        #[test]
        fn equals_plain_recursion_in_every_order(
            items in wild(),
            shuffled in any::<prop::sample::Index>(),
        ) {
            let dag = Dag::new(items.clone());
            let mut other = items.clone();
            other.rotate_left(shuffled.index(items.len()));
            other.reverse();
            prop_assert_eq!(&dag, &Dag::new(other));

            let map: BTreeMap<Id, Vec<Id>> = items.iter().cloned().collect();
            let sets: BTreeMap<Id, Option<BTreeSet<Id>>> =
                map.keys().map(|i| (*i, slow(&map, i, &mut Vec::new()))).collect();
            let known: Vec<Id> = dag.order().to_vec();
            for (i, set) in &sets {
                prop_assert_eq!(dag.contains(i), set.is_some());
                prop_assert_eq!(dag.pending().contains(i), set.is_none());
            }
            for a in &known {
                for b in &known {
                    let before = sets[b].as_ref().unwrap().contains(a);
                    let after = sets[a].as_ref().unwrap().contains(b);
                    prop_assert_eq!(dag.is_ancestor(a, b), before);
                    prop_assert_eq!(dag.concurrent(a, b), a != b && !before && !after);
                }
                let deepest = map[a].iter().map(|p| dag.depth(p).unwrap() + 1).max().unwrap_or(0);
                prop_assert_eq!(dag.depth(a), Some(deepest));
            }
            for (i, a) in known.iter().enumerate() {
                prop_assert!(known[i..].iter().all(|b| !dag.is_ancestor(b, a)));
            }
            let heads: Vec<Id> = sets
                .iter()
                .filter(|(i, s)| s.is_some() && !known.iter().any(|k| dag.is_ancestor(i, k)))
                .map(|(i, _)| *i)
                .collect();
            prop_assert_eq!(dag.heads(), &heads[..]);
            let missing: BTreeSet<Id> =
                map.values().flatten().filter(|p| !map.contains_key(*p)).copied().collect();
            prop_assert_eq!(dag.missing(), &missing);
        }

        #[test]
        fn closures(items in wild(), picks in prop::collection::vec(0_u16..14, 0..4)) {
            let dag = Dag::new(items.clone());
            let map: BTreeMap<Id, Vec<Id>> = items.into_iter().collect();
            let heads: Vec<Id> = picks.into_iter().map(id).collect();
            let mut want = BTreeSet::new();
            for h in heads.iter().filter(|h| dag.contains(h)) {
                want.insert(*h);
                want.extend(slow(&map, h, &mut Vec::new()).unwrap());
            }
            match dag.closure(&heads) {
                None => prop_assert!(heads.iter().any(|h| !dag.contains(h))),
                Some(c) => {
                    let got: Vec<Id> = c.iter().copied().collect();
                    let in_order: Vec<Id> =
                        dag.order().iter().filter(|i| want.contains(*i)).copied().collect();
                    prop_assert_eq!(got, in_order.clone());
                    prop_assert!(dag.order().iter().all(|i| c.contains(i) == want.contains(i)));
                    // A closure alone has the same order.
                    let alone = Dag::new(in_order.iter().map(|i| (*i, map[i].clone())));
                    prop_assert_eq!(alone.order(), &in_order[..]);
                }
            }
            let unknown: Vec<Id> =
                dag.order().iter().filter(|i| !want.contains(*i)).copied().collect();
            prop_assert_eq!(dag.unknown_to(&heads), unknown);
        }
    }

    #[test]
    fn a_claimed_cycle_and_its_descendants_stay_pending() {
        let dag = Dag::new([
            (id(0), vec![]),
            (id(1), vec![id(2)]),
            (id(2), vec![id(1)]),
            (id(3), vec![id(3)]),
            (id(4), vec![id(0), id(2)]),
        ]);
        assert_eq!(dag.order(), [id(0)]);
        assert_eq!(dag.pending().len(), 4);
        assert!(dag.missing().is_empty());
    }

    #[test]
    fn a_long_chain_is_no_deep_recursion() {
        let chain =
            (0..4096_u16).map(|n| (id(n), (n > 0).then(|| id(n - 1)).into_iter().collect()));
        let dag = Dag::new(chain);
        assert_eq!(dag.len(), 4096);
        assert_eq!(dag.depth(&id(4095)), Some(4095));
        assert!(dag.is_ancestor(&id(0), &id(4095)));
    }
}
