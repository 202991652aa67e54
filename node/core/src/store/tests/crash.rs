//! Crashes, failing syncs and a full disk: after any of them the state is that of a commit no
//! older than the last acknowledged one.

use std::collections::BTreeMap;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::*;
use crate::store::backends::SyncFailure;

type State = BTreeMap<Vec<u8>, Vec<u8>>;

fn state(store: &Store) -> State {
    let snapshot = store.snapshot().unwrap();
    let mut all = State::new();
    for t in [&LOG, &ROWS] {
        for (mut key, value) in snapshot.scan(t, &KeyRange::all(), false, usize::MAX).unwrap() {
            key.insert(0, t.name.as_bytes()[0]);
            all.insert(key, value);
        }
    }
    all
}

/// Some writes over both tables: short and long values, replacements, deletions.
fn random_writes(rng: &mut ChaCha8Rng, state: &mut State) -> WriteSet {
    let mut writes = WriteSet::new();
    for _ in 0..=rng.next_u32() % 12 {
        let t = if rng.next_u32() & 1 == 0 { &LOG } else { &ROWS };
        let key = (rng.next_u32() % 40).to_be_bytes();
        let mut id = vec![t.name.as_bytes()[0]];
        id.extend(key);
        if rng.next_u32().is_multiple_of(4) {
            writes.del(t, &key).unwrap();
            state.remove(&id);
        } else {
            // Now and then beyond a page.
            let len = if rng.next_u32().is_multiple_of(8) { 20_000 } else { 60 };
            let value = vec![rng.next_u32() as u8; len];
            writes.put(t, &key, value.clone()).unwrap();
            state.insert(id, value);
        }
    }
    writes
}

/// Commits at random on a disk that fails at random. Returns what went wrong, if anything.
fn live_a_hard_life(seed: u64, lying: bool) -> (Result<(), String>, SimDisk) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let disk = SimDisk::new();
    disk.set_lying(lying);
    let outcome = (|| {
        let mut acknowledged = State::new();
        for _life in 0..6 {
            // The opening, too, may be cut short: at first in the middle of creating the file.
            if rng.next_u32() % 3 == 0 {
                disk.fail_sync(u64::from(1 + rng.next_u32() % 6), SyncFailure::Keep);
            }
            let failed = disk.counters().failed_syncs;
            let mut store = match Store::on_disk(&disk) {
                Ok(store) => store,
                Err(e) if disk.counters().failed_syncs == failed => {
                    return Err(format!("open: {e}"));
                }
                Err(_) => {
                    disk.crash(&mut rng);
                    continue;
                }
            };
            let found = state(&store);
            if found != acknowledged {
                return Err("opened to a state that was never acknowledged".to_owned());
            }
            if rng.next_u32() % 2 == 0 {
                let then = [SyncFailure::Keep, SyncFailure::Drop][rng.next_u32() as usize % 2];
                disk.fail_sync(u64::from(1 + rng.next_u32() % 12), then);
            }
            for _ in 0..rng.next_u32() % 8 {
                let mut next = acknowledged.clone();
                let writes = random_writes(&mut rng, &mut next);
                if store.commit(&writes).is_ok() {
                    acknowledged = next;
                    continue;
                }
                if store.commit(&writes) != Err(StorageError::NeedsReopen) {
                    return Err("a broken store took a commit".to_owned());
                }
                // In place, or through a crash: either way the state before or after.
                if rng.next_u32() % 2 == 0 {
                    store.reopen().map_err(|e| format!("reopen: {e}"))?;
                } else {
                    disk.crash(&mut rng);
                    drop(store);
                    store = Store::on_disk(&disk).map_err(|e| format!("open: {e}"))?;
                }
                let found = state(&store);
                if found == next {
                    acknowledged = next;
                } else if found != acknowledged {
                    return Err("a commit was applied in part".to_owned());
                }
            }
            // Sometimes the end is orderly.
            if rng.next_u32() % 4 > 0 {
                disk.crash(&mut rng);
            }
        }
        Ok(())
    })();
    (outcome, disk)
}

#[test]
fn crashes_never_lose_or_split_a_commit() {
    let (mut crashes, mut torn, mut lost, mut failed) = (0, 0, 0, 0);
    for seed in 0..200 {
        let (outcome, disk) = live_a_hard_life(seed, false);
        assert_eq!(outcome, Ok(()), "seed {seed}");
        let c = disk.counters();
        (crashes, torn) = (crashes + c.crashes, torn + c.torn);
        (lost, failed) = (lost + c.lost, failed + c.failed_syncs);
    }
    // The faults did fire.
    assert!(
        crashes > 500 && torn > 100 && lost > 200 && failed > 300,
        "{crashes} {torn} {lost} {failed}"
    );
}

#[test]
fn a_disk_that_lies_about_syncing_is_caught() {
    let caught = (0..10).filter(|seed| live_a_hard_life(*seed, true).0.is_err()).count();
    assert!(caught >= 5, "caught {caught} of 10");
}

#[test]
fn opening_after_a_crash_repairs_nothing() {
    for seed in 0..20 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let disk = SimDisk::new();
        let mut store = Store::on_disk(&disk).unwrap();
        store.commit(&random_writes(&mut rng, &mut State::new())).unwrap();
        disk.fail_sync(1 + seed % 2, SyncFailure::Keep);
        store.commit(&random_writes(&mut rng, &mut State::new())).unwrap_err();
        disk.crash(&mut rng);
        // A full repair walks the whole file; quick repair makes it needless.
        let mut builder = Builder::new();
        builder.set_repair_callback(redb::RepairSession::abort);
        builder.create_with_backend(disk.attach()).unwrap();
    }
}

#[test]
fn a_full_disk_refuses_and_keeps() {
    let disk = SimDisk::new();
    let mut store = Store::on_disk(&disk).unwrap();
    store.commit(&put(&LOG, b"early", &[1; 5000])).unwrap();
    disk.set_room(Some(200 << 10));
    let mut refused = 0;
    for i in 0..100u8 {
        if let Err(e) = store.commit(&put(&LOG, &[i], &[i; 10_000])) {
            assert_eq!(e, StorageError::Full);
            refused += 1;
            store.reopen().unwrap();
            let snapshot = store.snapshot().unwrap();
            assert_eq!(snapshot.get(&LOG, b"early").unwrap().unwrap(), [1; 5000]);
            assert_eq!(snapshot.get(&LOG, &[i]).unwrap(), None);
        }
        if refused == 3 {
            break;
        }
    }
    assert_eq!((refused, disk.counters().full > 2), (3, true));
    // Room again: all is well.
    disk.set_room(None);
    store.commit(&put(&LOG, b"late", &vec![2; 50_000])).unwrap();
    assert_eq!(store.snapshot().unwrap().get(&LOG, b"late").unwrap().unwrap().len(), 50_000);
}

#[test]
fn reopening_can_fail_and_be_tried_again() {
    let disk = SimDisk::new();
    let mut store = Store::on_disk(&disk).unwrap();
    store.commit(&put(&LOG, b"k", b"v")).unwrap();
    disk.fail_sync(1, SyncFailure::Drop);
    assert!(store.commit(&put(&LOG, b"k", b"w")).is_err() && store.is_broken());
    disk.fail_sync(1, SyncFailure::Drop);
    assert!(store.reopen().is_err() && store.is_broken());
    assert_eq!(store.snapshot().map(drop), Err(StorageError::Closed));
    store.reopen().unwrap();
    assert_eq!(store.snapshot().unwrap().get(&LOG, b"k").unwrap().unwrap(), b"v");
    store.commit(&put(&LOG, b"k", b"w")).unwrap();
}
