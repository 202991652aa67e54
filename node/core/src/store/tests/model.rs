//! Stages and snapshots against a model: one ordered map.

use std::collections::BTreeMap;
use std::ops::Bound;

use proptest::prelude::*;

use super::*;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;
/// A put of a small value, or a deletion.
type Write = (Vec<u8>, Option<u8>);

fn key() -> impl Strategy<Value = Vec<u8>> {
    // Few keys, so that layers meet; 0xff at the ends, where prefix ranges go wrong.
    prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(0xff)], 0..4)
}

fn writes() -> impl Strategy<Value = Vec<Write>> {
    prop::collection::vec((key(), prop::option::weighted(0.6, any::<u8>())), 0..20)
}

fn range() -> impl Strategy<Value = KeyRange> {
    let bound = || {
        prop_oneof![
            Just(Bound::Unbounded),
            key().prop_map(Bound::Included),
            key().prop_map(Bound::Excluded),
        ]
    };
    prop_oneof![
        (bound(), bound()).prop_map(|(from, to)| KeyRange { from, to }),
        key().prop_map(|k| KeyRange::prefix(&k)),
        (key(), key()).prop_map(|(k, at)| KeyRange::prefix(&k).after(&at)),
        (key(), key()).prop_map(|(k, at)| KeyRange::prefix(&k).before(&at)),
        (key(), key()).prop_map(|(k, at)| KeyRange::all().starting_at(&k).before(&at)),
    ]
}

fn apply(model: &mut Model, writes: &[Write]) {
    for (key, value) in writes {
        match value {
            Some(value) => model.insert(key.clone(), vec![*value]),
            None => model.remove(key),
        };
    }
}

fn stage(stage: &mut Stage<'_>, writes: &[Write]) {
    for (key, value) in writes {
        match value {
            Some(value) => stage.put(&LOG, key, vec![*value]).unwrap(),
            None => stage.del(&LOG, key).unwrap(),
        }
    }
}

fn check(read: &dyn Read, model: &Model, range: &KeyRange, limit: usize) {
    for key in model.keys().chain([&vec![1, 2, 3]]) {
        assert_eq!(read.get(&LOG, key).unwrap().as_ref(), model.get(key));
    }
    let mut expected: Vec<Row> = model
        .iter()
        .filter(|(k, _)| range.contains(k))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    assert!(expected.is_empty() || !range.is_empty());
    assert_eq!(read.count(&LOG, range, limit).unwrap(), expected.len().min(limit));
    for reverse in [false, true] {
        assert_eq!(read.scan(&LOG, range, reverse, usize::MAX).unwrap(), expected);
        let page = &expected[..limit.min(expected.len())];
        assert_eq!(read.scan(&LOG, range, reverse, limit).unwrap(), page);
        expected.reverse();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn layers_read_as_one_map(
        committed in prop::collection::vec(writes(), 0..3),
        batch in writes(),
        failed in writes(),
        input in writes(),
        ranges in prop::collection::vec((range(), 0usize..6), 8),
    ) {
        let mut store = Store::in_memory().unwrap();
        let mut model = Model::new();
        for writes in &committed {
            apply(&mut model, writes);
            let snapshot = store.snapshot().unwrap();
            let mut layer = Stage::new(&snapshot);
            stage(&mut layer, writes);
            store.commit(&layer.into_writes()).unwrap();
        }
        let snapshot = store.snapshot().unwrap();
        for (range, limit) in &ranges {
            check(&snapshot, &model, range, *limit);
        }

        // The engine's pattern: a batch, an input that fails, an input that succeeds.
        let mut over = Stage::new(&snapshot);
        stage(&mut over, &batch);
        apply(&mut model, &batch);
        let mut child = Stage::new(&over);
        stage(&mut child, &failed);
        drop(child);
        let mut child = Stage::new(&over);
        stage(&mut child, &input);
        let mut later = model.clone();
        apply(&mut later, &input);
        for (range, limit) in &ranges {
            check(&over, &model, range, *limit);
            check(&child, &later, range, *limit);
        }

        let own = child.into_writes();
        over.absorb(own);
        let writes = over.into_writes();
        let sizes = writes.tables().flat_map(|(_, rows)| rows).map(|(k, v)| k.len() + v.map_or(0, <[u8]>::len));
        prop_assert_eq!(writes.bytes(), sizes.sum::<usize>());
        prop_assert_eq!(writes.len(), writes.tables().flat_map(|(_, rows)| rows).count());
        let changes = store.commit(&writes).unwrap();
        let snapshot = store.snapshot().unwrap();
        for (range, limit) in &ranges {
            check(&snapshot, &later, range, *limit);
            let touched = writes.tables().flat_map(|(_, rows)| rows).any(|(k, _)| range.contains(k));
            prop_assert_eq!(changes.touches_range(&LOG, range), touched);
        }
    }

    #[test]
    fn prefix_ranges_hold_what_starts_with_the_prefix(prefix in key(), key in key()) {
        let range = KeyRange::prefix(&prefix);
        prop_assert_eq!(range.contains(&key), key.starts_with(&prefix));
    }
}
