use automerge::transaction::{CommitOptions, Transactable};
use automerge::{Automerge, ObjType, ROOT, ReadDoc};
use proptest::prelude::*;

use super::*;
use crate::tests::hex;

const SEGMENT: SegmentRef = SegmentRef { topic: [7; 32], number: 3 };
const ACTOR: Actor = Actor([9; 16]);
const OTHER: Actor = Actor([10; 16]);

fn entry(key: &str, value: &[u8]) -> Entry {
    Entry { key: key.into(), value: value.into() }
}

/// 1 to 5 entries with different keys.
fn entries() -> impl Strategy<Value = Vec<Entry>> {
    proptest::collection::btree_map(
        "[a-z/é🍵]{1,12}",
        proptest::collection::vec(any::<u8>(), 0..40),
        1..6,
    )
    .prop_map(|map| map.into_iter().map(|(key, value)| Entry { key, value }).collect())
    .prop_shuffle()
}

fn chain() -> impl Strategy<Value = Vec<Vec<Entry>>> {
    proptest::collection::vec(entries(), 1..8)
}

fn write(actor: Actor, batches: &[Vec<Entry>]) -> (OwnChain, Vec<Vec<u8>>) {
    let mut own = OwnChain::new(SEGMENT, actor);
    let changes = batches.iter().map(|b| own.append(b).unwrap()).collect();
    (own, changes)
}

fn refusal(bytes: &[u8]) -> InvalidChange {
    inspect(bytes, SEGMENT, ACTOR).unwrap_err()
}

/// The genesis and the first change are part of the format: they may never become others.
#[test]
fn vectors() {
    assert_eq!(
        hex(&SEGMENT.genesis_bytes()),
        concat!(
            "856f4a83c448de630151000767656e65736973010100000006150a340142025603572470027f0874656168",
            "6f757365017f017fc704070707070707070707070707070707070707070707070707070707070707070700",
            "0000037f00"
        )
    );
    assert_eq!(
        hex(&SEGMENT.genesis_hash()),
        "c448de63f444e6ca765d61d6737e698a728a2986cd2a744ea0f9263bca40ff37"
    );
    let (own, changes) = write(ACTOR, &[vec![entry("a", b"x"), entry("b", b"")]]);
    assert_eq!(
        hex(&changes[0]),
        concat!(
            "856f4a8302537bc001800101c448de63f444e6ca765d61d6737e698a728a2986cd2a744ea0f9263b",
            "ca40ff3710090909090909090909090909090909090102000000061533340142025603570170027e",
            "1831465a3831465a3831465a3831465a3831465a3831462f611831465a3831465a3831465a383146",
            "5a3831465a3831462f620202017e1707780200"
        )
    );
    assert_eq!(own.len(), 1);
}

#[test]
fn another_segment_has_another_genesis() {
    let next = SegmentRef { number: 4, ..SEGMENT };
    let elsewhere = SegmentRef { topic: [8; 32], ..SEGMENT };
    assert_ne!(SEGMENT.genesis_hash(), next.genesis_hash());
    assert_ne!(SEGMENT.genesis_hash(), elsewhere.genesis_hash());
    let (_, changes) = write(ACTOR, &[vec![entry("a", b"x")]]);
    assert_eq!(inspect(&changes[0], next, ACTOR).unwrap_err(), InvalidChange::Genesis);
    assert_eq!(inspect(&changes[0], SEGMENT, OTHER).unwrap_err(), InvalidChange::Actor);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn honest_changes_pass_and_say_what_was_appended(batches in chain()) {
        let (_, changes) = write(ACTOR, &batches);
        let mut tip = Tip::start(SEGMENT);
        for ((bytes, mut said), seq) in changes.iter().zip(batches).zip(1..) {
            let got = inspect(bytes, SEGMENT, ACTOR).unwrap();
            said.sort();
            prop_assert_eq!(got.entries(), &said[..]);
            prop_assert_eq!(got.seq(), seq);
            prop_assert_eq!(got.prev(), tip.head);
            prop_assert_eq!(got.bytes(), &bytes[..]);
            // Automerge reads the same change from the same bytes.
            let theirs = Change::try_from(&bytes[..]).unwrap();
            prop_assert_eq!(theirs.hash().0, got.hash());
            prop_assert_eq!(theirs.actor_id().to_bytes(), ACTOR.0);
            prop_assert_eq!(theirs.deps(), &[ChangeHash(tip.head)][..]);
            tip.follow(&got).unwrap();
        }
    }

    #[test]
    fn appending_is_deterministic_and_resumes(batches in chain(), at in 0usize..8) {
        let (whole, changes) = write(ACTOR, &batches);
        prop_assert_eq!(&write(ACTOR, &batches).1, &changes);
        let at = at.min(changes.len());
        let before = changes[..at].iter().map(Vec::as_slice);
        let mut resumed = OwnChain::resume(SEGMENT, ACTOR, before).unwrap();
        let mut from_tip = OwnChain::resume_at(SEGMENT, ACTOR, resumed.tip());
        for (batch, bytes) in batches[at..].iter().zip(&changes[at..]) {
            prop_assert_eq!(&resumed.append(batch).unwrap(), bytes);
            prop_assert_eq!(&from_tip.append(batch).unwrap(), bytes);
        }
        prop_assert_eq!(resumed.tip(), whole.tip());
    }

    // Automerge writes changes again from its columns when it saves and loads, and checks
    // their hashes: its encoder for that must agree with the one we use.
    #[test]
    fn automerge_writes_the_same_bytes_again(a in chain(), b in chain()) {
        let mut doc = Automerge::new();
        let changes = [write(ACTOR, &a).1, write(OTHER, &b).1].concat();
        let parsed: Vec<_> = core::iter::once(SEGMENT.genesis_bytes())
            .chain(changes.clone())
            .map(|b| Change::try_from(&b[..]).unwrap())
            .collect();
        doc.apply_changes(parsed).unwrap();
        let doc = Automerge::load(&doc.save()).unwrap();
        for bytes in &changes {
            let hash = Change::try_from(&bytes[..]).unwrap().hash();
            let again = doc.get_change_by_hash(&hash).unwrap();
            prop_assert_eq!(again.raw_bytes(), &bytes[..]);
        }
    }

    #[test]
    fn cut_extended_or_spliced_bytes_are_refused(
        batches in chain(),
        pick: prop::sample::Index,
        at: prop::sample::Index,
        len in 0usize..6,
        new in proptest::collection::vec(any::<u8>(), 0..6),
    ) {
        let (_, changes) = write(ACTOR, &batches);
        let honest = &changes[pick.index(changes.len())];
        let at = at.index(honest.len());
        let end = (at + len).min(honest.len());
        let mut bytes = honest.clone();
        bytes.splice(at..end, new);
        if &bytes != honest {
            prop_assert!(inspect(&bytes, SEGMENT, ACTOR).is_err());
        }
        prop_assert!(inspect(&honest[..at], SEGMENT, ACTOR).is_err());
        prop_assert!(inspect(&[&honest[..], &[0]].concat(), SEGMENT, ACTOR).is_err());
    }

    #[test]
    fn random_bytes_are_refused(tail in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(inspect(&tail, SEGMENT, ACTOR).is_err());
        // Again behind an honest beginning, so that the columns are reached.
        let (_, changes) = write(ACTOR, &[vec![entry("a", b"x")]]);
        let body = [&changes[0][11..11 + 56], &tail[..]].concat();
        prop_assert!(inspect(&chunk(&body), SEGMENT, ACTOR).is_err());
    }
}

/// A change chunk with a zero checksum around `body`.
fn chunk(body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x85, 0x6f, 0x4a, 0x83, 0, 0, 0, 0, 1];
    let mut n = body.len();
    while n > 127 {
        bytes.push(n as u8 | 0x80);
        n >>= 7;
    }
    bytes.push(n as u8);
    bytes.extend_from_slice(body);
    bytes
}

#[test]
fn every_flipped_bit_is_refused() {
    let (_, changes) = write(
        ACTOR,
        &[vec![entry("title", b"Tea"), entry("m/1", &[3; 40])], vec![entry("title", b"Late tea")]],
    );
    for honest in &changes {
        for at in 0..honest.len() {
            for bit in 0..8 {
                let mut bytes = honest.clone();
                bytes[at] ^= 1 << bit;
                assert!(inspect(&bytes, SEGMENT, ACTOR).is_err(), "byte {at} bit {bit}");
            }
        }
    }
}

#[test]
fn bounds_of_authoring() {
    let mut own = OwnChain::new(SEGMENT, ACTOR);
    let many = |n: usize| -> Vec<Entry> { (0..n).map(|i| entry(&format!("{i}"), b"v")).collect() };
    let cases: [(Vec<Entry>, InvalidEntries); 6] = [
        (vec![], InvalidEntries::Empty),
        (many(MAX_ENTRIES + 1), InvalidEntries::TooMany),
        (vec![entry("", b"")], InvalidEntries::KeyLength(0)),
        (
            vec![entry(&"k".repeat(MAX_KEY_BYTES + 1), b"")],
            InvalidEntries::KeyLength(MAX_KEY_BYTES + 1),
        ),
        (
            vec![entry("k", &vec![0; MAX_VALUE_BYTES + 1])],
            InvalidEntries::ValueLength(MAX_VALUE_BYTES + 1),
        ),
        (vec![entry("k", b"a"), entry("k", b"b")], InvalidEntries::Order),
    ];
    for (entries, why) in cases {
        assert_eq!(own.append(&entries), Err(AppendError::Entries(why)));
    }
    let big: Vec<_> = (0..5).map(|i| entry(&format!("{i}"), &vec![1; MAX_VALUE_BYTES])).collect();
    assert!(matches!(own.append(&big), Err(AppendError::TooLarge(_))));
    // A refusal leaves the chain where it was; the largest of each is accepted.
    assert_eq!(own.tip(), Tip::start(SEGMENT));
    for entries in
        [many(MAX_ENTRIES), big[..3].to_vec(), vec![entry(&"k".repeat(MAX_KEY_BYTES), b"")]]
    {
        let bytes = own.append(&entries).unwrap();
        assert_eq!(inspect(&bytes, SEGMENT, ACTOR).unwrap().seq(), own.len());
    }
    let tip = Tip { len: MAX_CHAIN, head: [1; 32] };
    let mut full = OwnChain::resume_at(SEGMENT, ACTOR, tip);
    assert_eq!(full.append(&many(1)), Err(AppendError::ChainFull));
    let last = Tip { len: MAX_CHAIN - 1, ..tip };
    let bytes = OwnChain::resume_at(SEGMENT, ACTOR, last).append(&many(1)).unwrap();
    assert_eq!(inspect(&bytes, SEGMENT, ACTOR).unwrap().seq(), MAX_CHAIN);
}

#[test]
fn resume_refuses_a_broken_chain() {
    let (_, c) =
        write(ACTOR, &[vec![entry("a", b"1")], vec![entry("a", b"2")], vec![entry("a", b"3")]]);
    let resume = |picked: &[usize]| {
        OwnChain::resume(SEGMENT, ACTOR, picked.iter().map(|i| c[*i].as_slice())).map(|o| o.len())
    };
    assert_eq!(resume(&[0, 1, 2]), Ok(3));
    assert_eq!(
        resume(&[0, 2]),
        Err(ResumeError::Misfit { number: 2, why: Misfit::Gap { missing: 2 } })
    );
    assert_eq!(resume(&[0, 0]), Err(ResumeError::Misfit { number: 2, why: Misfit::Past }));
    let (_, fork) = write(ACTOR, &[vec![entry("a", b"other")]]);
    assert_eq!(
        OwnChain::resume(SEGMENT, ACTOR, [&fork[0][..], &c[1]].into_iter()).unwrap_err(),
        ResumeError::Misfit { number: 2, why: Misfit::Fork }
    );
    assert_eq!(
        OwnChain::resume(SEGMENT, OTHER, [&c[0][..]].into_iter()).unwrap_err(),
        ResumeError::Invalid { number: 1, why: InvalidChange::Actor }
    );
}

/// A document with the genesis, as a device that uses automerge in the ordinary way has it.
fn ordinary() -> Automerge {
    let mut doc = Automerge::new().with_actor(ActorId::from(ACTOR.0));
    doc.apply_changes([SEGMENT.genesis()]).unwrap();
    doc
}

fn own_key(key: &str) -> String {
    ACTOR.prefix() + key
}

/// What an ordinary automerge transaction makes.
fn transact(
    doc: &mut Automerge,
    f: impl FnOnce(&mut automerge::transaction::Transaction<'_>),
) -> Vec<u8> {
    transact_with(doc, CommitOptions::default(), f)
}

fn transact_with(
    doc: &mut Automerge,
    options: CommitOptions,
    f: impl FnOnce(&mut automerge::transaction::Transaction<'_>),
) -> Vec<u8> {
    let mut tx = doc.transaction();
    f(&mut tx);
    tx.commit_with(options);
    doc.get_last_local_change().unwrap().raw_bytes().to_vec()
}

#[test]
fn a_first_change_is_what_automerge_itself_would_write() {
    let bytes = transact(&mut ordinary(), |tx| {
        tx.put(ROOT, own_key("a"), b"one".to_vec()).unwrap();
        tx.put(ROOT, own_key("b"), b"two".to_vec()).unwrap();
    });
    let (_, changes) = write(ACTOR, &[vec![entry("a", b"one"), entry("b", b"two")]]);
    assert_eq!(bytes, changes[0]);
}

#[test]
fn operations_that_are_not_puts_of_bytes_are_refused() {
    let first = |f: &dyn Fn(&mut automerge::transaction::Transaction<'_>)| {
        refusal(&transact(&mut ordinary(), f))
    };
    let put = |key: String, value: ScalarValue| {
        first(&move |tx| tx.put(ROOT, key.clone(), value.clone()).unwrap())
    };
    assert_eq!(put(own_key("a"), "text".into()), InvalidChange::NotBytes);
    assert_eq!(put(own_key("a"), 5.into()), InvalidChange::NotBytes);
    assert_eq!(put(own_key("a"), ().into()), InvalidChange::NotBytes);
    assert_eq!(put(own_key("a"), ScalarValue::counter(1)), InvalidChange::NotBytes);
    assert_eq!(put("title".into(), vec![1].into()), InvalidChange::Prefix);
    assert_eq!(put(OTHER.prefix() + "title", vec![1].into()), InvalidChange::Prefix);
    for kind in [ObjType::Map, ObjType::List, ObjType::Text] {
        let why = first(&|tx| {
            tx.put_object(ROOT, own_key("a"), kind).unwrap();
        });
        assert_eq!(why, InvalidChange::NotBytes);
    }
    // In a nested map, in a list, and of a text, after the change that made the object.
    let later =
        |kind: ObjType,
         f: &dyn Fn(&mut automerge::transaction::Transaction<'_>, automerge::ObjId)| {
            let mut doc = ordinary();
            transact(&mut doc, |tx| {
                tx.put_object(ROOT, own_key("a"), kind).unwrap();
            });
            let (_, object) = doc.get(ROOT, own_key("a")).unwrap().unwrap();
            refusal(&transact(&mut doc, |tx| f(tx, object)))
        };
    assert_eq!(
        later(ObjType::Map, &|tx, o| tx.put(o, own_key("b"), vec![1]).unwrap()),
        InvalidChange::NotCanonical
    );
    assert_eq!(
        later(ObjType::List, &|tx, o| tx.insert(o, 0, vec![1]).unwrap()),
        InvalidChange::Malformed("keys and values differ in number")
    );
    assert_eq!(
        later(ObjType::Text, &|tx, o| tx.splice_text(o, 0, 0, "tea").unwrap()),
        InvalidChange::Malformed("keys and values differ in number")
    );
    // Deletes and increments.
    let mut doc = ordinary();
    transact(&mut doc, |tx| {
        tx.put(ROOT, own_key("a"), vec![1]).unwrap();
        tx.put(ROOT, own_key("n"), ScalarValue::counter(1)).unwrap();
    });
    let deleted = transact(&mut doc, |tx| tx.delete(ROOT, own_key("a")).unwrap());
    assert_eq!(refusal(&deleted), InvalidChange::NotBytes);
    let increment = transact(&mut doc, |tx| tx.increment(ROOT, own_key("n"), 2).unwrap());
    assert_eq!(refusal(&increment), InvalidChange::NotBytes);
}

#[test]
fn other_fields_of_a_change_are_refused() {
    let tea = |tx: &mut automerge::transaction::Transaction<'_>| {
        tx.put(ROOT, own_key("a"), vec![1]).unwrap();
    };
    let timed = CommitOptions::default().with_time(1);
    assert_eq!(refusal(&transact_with(&mut ordinary(), timed, tea)), InvalidChange::Time);
    let told = CommitOptions::default().with_message("hello");
    assert_eq!(refusal(&transact_with(&mut ordinary(), told, tea)), InvalidChange::Message);
    // Dependence on somebody else's change.
    let mut doc = ordinary();
    let (_, other) = write(OTHER, &[vec![entry("a", b"x")]]);
    transact(&mut doc, tea);
    doc.apply_changes([Change::try_from(&other[0][..]).unwrap()]).unwrap();
    let merge = transact(&mut doc, |tx| {
        tx.put(ROOT, own_key("b"), vec![1]).unwrap();
    });
    assert_eq!(refusal(&merge), InvalidChange::Deps(2));
    // Overwriting the ordinary way: it names a predecessor, and numbers without gaps.
    let mut doc = ordinary();
    transact(&mut doc, tea);
    let overwrite = transact(&mut doc, |tx| {
        tx.put(ROOT, own_key("a"), vec![2]).unwrap();
    });
    assert_eq!(refusal(&overwrite), InvalidChange::NotCanonical);

    let expand = |f: &dyn Fn(&mut ExpandedChange)| {
        let (_, changes) = write(ACTOR, &[vec![entry("a", b"x"), entry("b", b"y")]]);
        let mut e = Change::try_from(&changes[0][..]).unwrap().decode();
        f(&mut e);
        refusal(Change::from(e).raw_bytes())
    };
    assert_eq!(expand(&|e| e.extra_bytes = vec![1, 2]), InvalidChange::NotCanonical);
    assert_eq!(expand(&|e| e.start_op = NonZeroU64::new(3).unwrap()), InvalidChange::NotCanonical);
    assert_eq!(expand(&|e| e.operations[0].insert = true), InvalidChange::NotCanonical);
    assert_eq!(expand(&|e| e.operations.swap(0, 1)), InvalidChange::Entries(InvalidEntries::Order));
    assert_eq!(
        expand(&|e| e.operations[1] = e.operations[0].clone()),
        InvalidChange::Entries(InvalidEntries::Order)
    );
    assert_eq!(expand(&|e| e.operations.clear()), InvalidChange::Entries(InvalidEntries::Empty));
    assert_eq!(expand(&|e| e.seq = 0), InvalidChange::Seq(0));
    assert_eq!(expand(&|e| e.seq = MAX_CHAIN + 1), InvalidChange::Seq(MAX_CHAIN + 1));
    assert_eq!(expand(&|e| e.deps.clear()), InvalidChange::Deps(0));
    assert_eq!(expand(&|e| e.deps[0] = ChangeHash([1; 32])), InvalidChange::Genesis);
    let foreign = automerge::legacy::OpId(2, ActorId::from(OTHER.0));
    assert_eq!(
        expand(&|e| e.operations[0].pred = vec![foreign.clone()].into()),
        InvalidChange::OtherActors
    );
}

#[test]
fn other_chunks_are_refused() {
    let (_, changes) = write(ACTOR, &[vec![entry("a", &[1; 600])], vec![entry("a", &[2; 600])]]);
    let mut change = Change::try_from(&changes[0][..]).unwrap();
    let compressed = change.bytes().to_vec();
    assert!(compressed.len() < changes[0].len());
    assert_eq!(refusal(&compressed), InvalidChange::Compressed);
    assert_eq!(refusal(&changes.concat()), InvalidChange::Malformed("length"));
    assert_eq!(refusal(&ordinary().save()), InvalidChange::Malformed("chunk type"));
    assert_eq!(refusal(&SEGMENT.genesis_bytes()), InvalidChange::Deps(0));
    assert_eq!(
        refusal(&vec![0; MAX_CHANGE_BYTES + 1]),
        InvalidChange::TooLarge(MAX_CHANGE_BYTES + 1)
    );
    assert_eq!(refusal(&[]), InvalidChange::Malformed("truncated"));
}

/// Run lengths are what makes automerge's own parser walk 2^40 operations of a hundred bytes.
#[test]
fn a_huge_run_is_refused_at_once() {
    let (_, changes) = write(ACTOR, &[vec![entry("a", b"x")]]);
    // Magic to chunk type are 9 bytes; length, dependency, actor, seq to other actors follow.
    let length_bytes = usize::from(changes[0][9] & 0x80 != 0) + 1;
    let header = &changes[0][9 + length_bytes..][..1 + 32 + 17 + 5];
    let key = own_key("a");
    let mut column = vec![0x80, 0x80, 0x80, 0x80, 0x80, 0x20]; // 2^40
    column.push(key.len() as u8);
    column.extend_from_slice(key.as_bytes());
    let body = [header, &[1, 0x15, column.len() as u8], &column].concat();
    assert_eq!(refusal(&chunk(&body)), InvalidChange::Entries(InvalidEntries::TooMany));
}
