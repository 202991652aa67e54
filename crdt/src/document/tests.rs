use proptest::prelude::*;

use super::*;
use crate::segment::{OwnChain, inspect};

const SEGMENT: SegmentRef = SegmentRef { topic: [1; 32], number: 0 };
const A: Actor = Actor([1; 16]);
const B: Actor = Actor([2; 16]);

fn entry(key: &str, value: &[u8]) -> Entry {
    Entry { key: key.into(), value: value.into() }
}

fn chain(actor: Actor, values: &[&[u8]]) -> Vec<Inspected> {
    let mut own = OwnChain::new(SEGMENT, actor);
    values
        .iter()
        .map(|v| {
            let bytes = own.append(&[entry("k", v)]).unwrap();
            inspect(&bytes, SEGMENT, actor).unwrap()
        })
        .collect()
}

#[test]
fn a_devices_newest_value_replaces_its_older_one() {
    let a = chain(A, &[b"one", b"two", b"three"]);
    let b = chain(B, &[b"elsewhere"]);
    let mut doc = Document::new(SEGMENT);
    let out = doc.apply(a.into_iter().chain(b)).unwrap();
    assert_eq!(out.applied, 4);
    let all: Vec<_> = doc.entries().collect();
    assert_eq!(all, vec![(A, entry("k", b"three")), (B, entry("k", b"elsewhere"))]);
    assert_eq!(doc.get(A, "k"), Some(b"three".to_vec()));
    assert_eq!(doc.get(A, "other"), None);
    assert_eq!(doc.changes(), 4);
    assert_eq!(doc.tips().map(|(_, t)| t.len).collect::<Vec<_>>(), [3, 1]);
}

#[test]
fn a_gap_in_one_chain_holds_up_no_other() {
    let a = chain(A, &[b"1", b"2", b"3"]);
    let b = chain(B, &[b"1", b"2"]);
    let mut doc = Document::new(SEGMENT);
    let out = doc.apply([&a[1..], &b[..]].concat()).unwrap();
    assert_eq!((out.applied, out.waiting.len()), (2, 2));
    assert_eq!(doc.get(B, "k"), Some(b"2".to_vec()));
    assert_eq!(doc.get(A, "k"), None);
    assert_eq!(doc.tip(A), Tip::start(SEGMENT));
    // The gap is filled, and what waited is offered again.
    let out = doc.apply(out.waiting.into_iter().chain([a[0].clone()])).unwrap();
    assert_eq!((out.applied, out.waiting.len()), (3, 0));
    assert_eq!(doc.get(A, "k"), Some(b"3".to_vec()));
}

#[test]
fn a_fork_is_told_and_holds_up_no_other() {
    let a = chain(A, &[b"1", b"2"]);
    let fork = chain(A, &[b"1", b"other", b"later"]);
    let b = chain(B, &[b"1"]);
    let mut doc = Document::new(SEGMENT);
    doc.apply(a.clone()).unwrap();
    let before = doc.digest();
    let out = doc.apply(fork.clone()).unwrap();
    // The first is common to both; of the other two, one forks and one follows the fork.
    assert_eq!((out.applied, out.known), (0, 1));
    assert_eq!(out.forks.len(), 2);
    assert_eq!(doc.digest(), before);
    assert_eq!(doc.apply(b).unwrap().applied, 1);
    assert_eq!(doc.get(A, "k"), Some(b"2".to_vec()));

    // In one batch, the same one wins whatever the order.
    let digest = |batch: Vec<Inspected>| {
        let mut doc = Document::new(SEGMENT);
        doc.apply(batch).unwrap();
        doc.digest()
    };
    assert_eq!(digest([&a[..], &fork[..]].concat()), digest([&fork[..], &a[..]].concat()));
}

#[test]
fn strays_of_another_segment_are_left_out() {
    let elsewhere = SegmentRef { number: 1, ..SEGMENT };
    let bytes = OwnChain::new(elsewhere, A).append(&[entry("k", b"v")]).unwrap();
    let stray = inspect(&bytes, elsewhere, A).unwrap();
    let mut doc = Document::new(SEGMENT);
    let out = doc.apply([stray]).unwrap();
    assert_eq!((out.applied, out.strays.len()), (0, 1));
    assert_eq!(doc.changes(), 0);
}

#[test]
fn an_empty_document_is_its_genesis() {
    let doc = Document::new(SEGMENT);
    assert_eq!(doc.heads(), [SEGMENT.genesis_hash()]);
    assert_eq!(doc.entries().count(), 0);
    let again = Document::load(SEGMENT, &doc.save()).unwrap();
    assert_eq!(again.digest(), doc.digest());
    let next = SegmentRef { number: 1, ..SEGMENT };
    assert_eq!(Document::load(next, &doc.save()).unwrap_err(), LoadError::WrongSegment);
    assert_ne!(Document::new(next).digest(), doc.digest());
}

#[test]
fn a_document_with_other_writers_is_not_loaded() {
    let mut doc = Document::new(SEGMENT);
    doc.apply(chain(A, &[b"1"])).unwrap();
    let mut stranger = Automerge::load(&doc.save())
        .unwrap()
        .with_actor(ActorId::from(b"a name of another length"));
    let mut tx = stranger.transaction();
    automerge::transaction::Transactable::put(&mut tx, ROOT, "k", 1).unwrap();
    tx.commit();
    assert_eq!(Document::load(SEGMENT, &stranger.save()).unwrap_err(), LoadError::WrongSegment);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn damaged_saves_are_refused_or_unchanged(at: prop::sample::Index, to: u8) {
        let mut doc = Document::new(SEGMENT);
        doc.apply(chain(A, &[b"1", b"2"]).into_iter().chain(chain(B, &[b"3"]))).unwrap();
        let mut bytes = doc.save();
        let at = at.index(bytes.len());
        bytes[at] = to;
        if let Ok(loaded) = Document::load(SEGMENT, &bytes) {
            prop_assert_eq!(loaded.digest(), doc.digest());
        }
    }

    #[test]
    fn a_loaded_document_goes_on(split in 0usize..6) {
        let a = chain(A, &[b"1", b"2", b"3", b"4", b"5"]);
        let mut whole = Document::new(SEGMENT);
        whole.apply(a.clone()).unwrap();
        let mut half = Document::new(SEGMENT);
        half.apply(a[..split].to_vec()).unwrap();
        let mut loaded = Document::load(SEGMENT, &half.save()).unwrap();
        prop_assert_eq!(loaded.tip(A), half.tip(A));
        prop_assert_eq!(loaded.digest(), half.digest());
        let out = loaded.apply(a).unwrap();
        prop_assert_eq!((out.known, out.applied), (split, 5 - split));
        prop_assert_eq!(loaded.digest(), whole.digest());
        prop_assert_eq!(loaded.heads(), whole.heads());
    }
}
