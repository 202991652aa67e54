//! Both disks against a model: two byte vectors, what is seen and what is synced.

use std::fs::OpenOptions;

use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Write(u16, Vec<u8>),
    SetLen(u16),
    Sync,
    Read(u16, u16),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let data = (1u8.., 1usize..9000).prop_map(|(byte, n)| vec![byte; n]);
    let step = prop_oneof![
        4 => (0u16..20_000, data).prop_map(|(at, data)| Step::Write(at, data)),
        2 => (0u16..30_000).prop_map(Step::SetLen),
        2 => Just(Step::Sync),
        2 => (0u16..30_000, 0u16..9000).prop_map(|(at, n)| Step::Read(at, n)),
    ];
    prop::collection::vec(step, 1..30)
}

/// Runs the steps on a backend and on the model; returns (seen, synced).
fn run(backend: &impl StorageBackend, steps: &[Step]) -> (Vec<u8>, Vec<u8>) {
    let (mut seen, mut synced) = (vec![], vec![]);
    for step in steps {
        match step {
            Step::Write(at, data) => {
                let (at, end) = (usize::from(*at), usize::from(*at) + data.len());
                if seen.len() < end {
                    seen.resize(end, 0);
                }
                seen[at..end].copy_from_slice(data);
                backend.write(at as u64, data).unwrap();
            }
            Step::SetLen(len) => {
                seen.resize(usize::from(*len), 0);
                backend.set_len(u64::from(*len)).unwrap();
            }
            Step::Sync => {
                synced.clone_from(&seen);
                backend.sync_data().unwrap();
            }
            Step::Read(at, n) => {
                let (at, end) = (usize::from(*at), usize::from(*at) + usize::from(*n));
                let mut out = vec![7; usize::from(*n)];
                let result = backend.read(at as u64, &mut out);
                match seen.get(at..end) {
                    Some(expected) => assert_eq!(out, expected),
                    None => assert_eq!(result.unwrap_err().kind(), io::ErrorKind::UnexpectedEof),
                }
            }
        }
        assert_eq!(backend.len().unwrap(), seen.len() as u64);
    }
    (seen, synced)
}

fn content(backend: &impl StorageBackend) -> Vec<u8> {
    let mut out = vec![0; backend.len().unwrap() as usize];
    backend.read(0, &mut out).unwrap();
    out
}

proptest! {
    // Real syncs are slow.
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_lossy_file_is_a_file_that_forgets(steps in steps()) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let open = || OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let lossy = LossyFile::new(open().unwrap()).unwrap();
        let (seen, synced) = run(&lossy, &steps);
        prop_assert_eq!(content(&lossy), seen);
        prop_assert_eq!(std::fs::read(&path).unwrap(), synced.clone());
        drop(lossy);
        prop_assert_eq!(content(&LossyFile::new(open().unwrap()).unwrap()), synced);
    }
}

proptest! {
    #[test]
    fn a_simulated_disk_keeps_what_was_synced(steps in steps(), seed: u64) {
        let disk = SimDisk::new();
        let handle = disk.attach();
        let (seen, synced) = run(&handle, &steps);
        prop_assert_eq!(content(&handle), seen.clone());

        disk.crash(&mut ChaCha8Rng::seed_from_u64(seed));
        prop_assert!(handle.write(0, b"x").is_err(), "the old handle must be dead");
        let after = content(&disk.attach());
        // Every byte is one that was synced or written since, or zero from a growth.
        let since = steps.iter().rposition(|s| matches!(s, Step::Sync)).map_or(0, |i| i + 1);
        let written: Vec<u8> = steps[since..]
            .iter()
            .filter_map(|s| match s { Step::Write(_, d) => Some(d[0]), _ => None })
            .collect();
        if since == steps.len() {
            prop_assert_eq!(&after, &synced);
        }
        for (i, byte) in after.iter().enumerate() {
            prop_assert!(*byte == 0 || synced.get(i) == Some(byte) || written.contains(byte));
        }
    }

    #[test]
    fn a_failed_sync_may_drop_the_writes(steps in steps()) {
        let disk = SimDisk::new();
        let handle = disk.attach();
        let (_, synced) = run(&handle, &steps);
        disk.fail_sync(1, SyncFailure::Drop);
        prop_assert!(handle.sync_data().is_err());
        prop_assert_eq!(content(&handle), synced);
        prop_assert!(handle.sync_data().is_ok(), "a fault fires once");
    }
}

#[test]
fn crashes_keep_tear_and_lose() {
    let disk = SimDisk::new();
    for seed in 0..100 {
        let handle = disk.attach();
        handle.set_len(1 << 16).unwrap();
        handle.sync_data().unwrap();
        for i in 0..8 {
            handle.write(i * 8192, &[seed as u8; 5000]).unwrap();
        }
        disk.crash(&mut ChaCha8Rng::seed_from_u64(seed));
    }
    let counters = disk.counters();
    assert_eq!(counters.crashes, 100);
    assert!(counters.kept > 100 && counters.torn > 100 && counters.lost > 100, "{counters:?}");
}

#[test]
fn a_full_disk_still_overwrites() {
    let disk = SimDisk::new();
    let handle = disk.attach();
    handle.write(0, &[1; 4096]).unwrap();
    disk.set_room(Some(8192));
    handle.set_len(1 << 20).unwrap();
    handle.write(4096, &[2; 8192]).unwrap();
    let refused = handle.write(40_960, b"x").unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
    handle.write(0, &[3; 12_288]).unwrap();
    assert_eq!((disk.used(), disk.counters().full), (12_288, 1));
    disk.set_room(None);
    handle.write(40_960, b"x").unwrap();
}

#[test]
fn only_unfinished_files_start_over() {
    let with = |image: &[u8]| {
        let handle = SimDisk::new().attach();
        handle.write(0, image).unwrap();
        restart_unfinished(&handle).unwrap();
        handle.len().unwrap()
    };
    let mut unfinished = vec![0; 1 << 20];
    assert_eq!(with(&unfinished), 0);
    unfinished[9..320].fill(1);
    assert_eq!(with(&unfinished), 0);
    assert_eq!(with(&[0; 5]), 0);

    let mut damaged = unfinished.clone();
    damaged[4096] = 1;
    assert_eq!(with(&damaged), 1 << 20);
    let mut finished = unfinished;
    finished[0] = b'r';
    assert_eq!(with(&finished), 1 << 20);
}
