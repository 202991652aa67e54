//! Replays the fuzz corpora on stable Rust, then throws mutations of their entries at the
//! same bodies. What fuzzing finds goes into `protocols/fuzz/corpus/<target>/` and is
//! checked here ever after.

#![allow(clippy::unwrap_used)]

mod fuzz_bodies;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{TestCaseError, TestRunner};

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn names(folder: PathBuf) -> BTreeSet<String> {
    let name = |e: std::io::Result<fs::DirEntry>| {
        e.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned()
    };
    fs::read_dir(folder).unwrap().map(name).collect()
}

/// The entries of a corpus, by name.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = fuzz().join("corpus").join(target);
    let read = |name: String| {
        let bytes = fs::read(folder.join(&name)).unwrap();
        (name, bytes)
    };
    names(folder.clone()).into_iter().map(read).collect()
}

#[test]
fn every_target_has_a_binary_and_a_corpus() {
    let bodies: BTreeSet<String> =
        fuzz_bodies::TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names(fuzz().join("fuzz_targets")), bodies);
    assert_eq!(names(fuzz().join("corpus")), bodies);
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    for name in &bodies {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
        let main = fs::read_to_string(fuzz().join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(main.contains(&format!("run(\"{name}\"")), "{name}");
    }
}

/// One change to a corpus entry.
#[derive(Debug, Clone)]
enum Mutation {
    Flip(Index, u8),
    Set(Index, u8),
    Truncate(Index),
    Remove(Index, u8),
    Insert(Index, Vec<u8>),
    /// From here on another entry, from there on.
    Splice(Index, Index, Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = any::<Index>;
    // Bytes that varints, lengths and variants care about.
    let byte = prop_oneof![any::<u8>(), Just(0), Just(1), Just(0x7f), Just(0x80), Just(0xff)];
    prop_oneof![
        3 => (at(), 0_u8..8).prop_map(|(i, bit)| Mutation::Flip(i, bit)),
        3 => (at(), byte).prop_map(|(i, b)| Mutation::Set(i, b)),
        1 => at().prop_map(Mutation::Truncate),
        1 => (at(), 1_u8..40).prop_map(|(i, n)| Mutation::Remove(i, n)),
        1 => (at(), prop::collection::vec(any::<u8>(), 1..40)).prop_map(|(i, b)| Mutation::Insert(i, b)),
        2 => (at(), at(), at()).prop_map(|(i, e, j)| Mutation::Splice(i, e, j)),
    ]
}

fn mutate(bytes: &mut Vec<u8>, mutation: &Mutation, corpus: &[(String, Vec<u8>)]) {
    let place = |i: &Index, len: usize| i.index(len + 1);
    let len = bytes.len();
    match mutation {
        Mutation::Flip(i, bit) if len > 0 => bytes[i.index(len)] ^= 1 << bit,
        Mutation::Set(i, b) if len > 0 => bytes[i.index(len)] = *b,
        Mutation::Flip(..) | Mutation::Set(..) => {}
        Mutation::Truncate(i) => bytes.truncate(place(i, len)),
        Mutation::Remove(i, n) => {
            let from = place(i, len);
            bytes.drain(from..len.min(from + usize::from(*n)));
        }
        Mutation::Insert(i, new) => {
            let at = place(i, len);
            bytes.splice(at..at, new.iter().copied());
        }
        Mutation::Splice(i, entry, j) => {
            let other = &entry.get(corpus).1;
            bytes.truncate(place(i, len));
            bytes.extend_from_slice(&other[place(j, other.len())..]);
        }
    }
}

fn replay(target: &str, cases: u32) {
    let (_, body) = fuzz_bodies::TARGETS.iter().find(|(name, _)| *name == target).unwrap();
    let corpus = corpus(target);
    assert!(!corpus.is_empty());
    for (name, bytes) in &corpus {
        println!("{target}/{name}");
        body(bytes);
    }
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let strategy = (any::<Index>(), prop::collection::vec(mutation(), 1..4));
    let outcome = TestRunner::new(config).run(&strategy, |(entry, mutations)| {
        let mut bytes = entry.get(&corpus).1.clone();
        for m in &mutations {
            mutate(&mut bytes, m, &corpus);
        }
        let quiet = std::panic::catch_unwind(|| body(&bytes));
        quiet.map_err(|_| TestCaseError::fail(data_encoding::HEXLOWER.encode(&bytes)))
    });
    if let Err(e) = outcome {
        panic!("{target}: {e}");
    }
}

macro_rules! targets {
    ($($name:ident: $cases:literal;)*) => {
        $(#[test]
        fn $name() {
            replay(stringify!($name), $cases);
        })*

        #[test]
        fn every_target_is_replayed() {
            let replayed = [$(stringify!($name)),*];
            let bodies: Vec<&str> = fuzz_bodies::TARGETS.iter().map(|(name, _)| *name).collect();
            assert_eq!(replayed[..], bodies[..]);
        }
    };
}

// The logs are whole histories, signed step by step.
targets! {
    account_log: 300;
    account_record: 4000;
    call_frame: 4000;
    contact_card: 4000;
    contact_request: 4000;
    cursor: 4000;
    envelope: 4000;
    epoch: 4000;
    inbox_message: 4000;
    link: 4000;
    mailbox_reply: 4000;
    mailbox_request: 4000;
    membership_log: 300;
    membership_record: 4000;
    pair_frame: 4000;
    pay_form: 2000;
    pay_receipt: 1000;
    pay_reply: 4000;
    pay_request: 4000;
    prekey_bundle: 4000;
    program_frame: 4000;
    program_package: 2000;
    sync_frame: 4000;
    topic_mail: 4000;
}
