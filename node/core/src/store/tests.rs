//! The store as the core sees it: folders, commits, snapshots, reopening.

mod crash;
mod damage;
mod model;

use super::*;

static LOG: Table = Table::truth("log");
static ROWS: Table = Table::projection("rows");

fn put(t: &'static Table, key: &[u8], value: &[u8]) -> WriteSet {
    let mut writes = WriteSet::new();
    writes.put(t, key, value.to_vec()).unwrap();
    writes
}

#[test]
fn a_second_store_on_a_folder_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let first = Store::open(dir.path(), StoreOptions::default()).unwrap();
    let reader = first.reader();
    let second = Store::open(dir.path(), StoreOptions::default()).map(drop);
    let Err(OpenError::Locked { pid }) = second else { panic!("{second:?}") };
    assert_eq!(pid, Some(std::process::id()));
    drop(first);
    // A reader that is still around must not keep the database open.
    assert_eq!(reader.snapshot().map(drop), Err(StorageError::Closed));
    Store::open(dir.path(), StoreOptions::default()).unwrap();
}

#[cfg(unix)]
#[test]
fn only_the_owner_can_look() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("a/b");
    let _store = Store::open(&dir, StoreOptions::default()).unwrap();
    let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    for entry in std::fs::read_dir(&dir).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
}

#[test]
fn a_folder_that_cannot_be_is_an_error_in_words() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), b"").unwrap();
    let e = Store::open(&dir.path().join("file"), StoreOptions::default()).map(drop).unwrap_err();
    assert!(e.to_string().starts_with("cannot create "), "{e}");
}

#[test]
fn commits_survive_closing_and_a_sudden_end() {
    let dir = tempfile::tempdir().unwrap();
    for (lossy, value) in [(false, b"1"), (true, b"2")] {
        let options = StoreOptions { lossy, ..StoreOptions::default() };
        let mut store = Store::open(dir.path(), options).unwrap();
        store.commit(&put(&LOG, b"k", value)).unwrap();
        // The file as a process killed at this moment leaves it.
        let copy = tempfile::tempdir().unwrap();
        std::fs::copy(dir.path().join(FILE), copy.path().join(FILE)).unwrap();
        drop(store);
        for dir in [copy.path(), dir.path()] {
            let store = Store::open(dir, StoreOptions::default()).unwrap();
            assert_eq!(store.snapshot().unwrap().get(&LOG, b"k").unwrap().unwrap(), value);
        }
    }
}

#[test]
fn a_snapshot_stays_while_the_writer_goes_on() {
    let mut store = Store::in_memory().unwrap();
    store.commit(&put(&LOG, b"k", b"old")).unwrap();
    let old = store.snapshot().unwrap();
    let reader = store.reader();
    store.commit(&put(&LOG, b"k", b"new")).unwrap();
    store.commit(&put(&ROWS, b"k", b"new")).unwrap();
    std::thread::spawn(move || {
        assert_eq!(old.get(&LOG, b"k").unwrap().unwrap(), b"old");
        assert_eq!(old.get(&ROWS, b"k").unwrap(), None);
        assert_eq!(reader.snapshot().unwrap().get(&LOG, b"k").unwrap().unwrap(), b"new");
    })
    .join()
    .unwrap();
}

#[test]
fn reopening_closes_snapshots_but_not_readers() {
    let mut store = Store::in_memory().unwrap();
    store.commit(&put(&LOG, b"k", b"old")).unwrap();
    let old = store.snapshot().unwrap();
    let reader = store.reader();
    store.commit(&put(&LOG, b"k", b"v")).unwrap();
    store.reopen().unwrap();
    // What it has in memory it may still answer, and rightly.
    let answer = old.get(&LOG, b"k");
    assert!([Ok(Some(b"old".to_vec())), Err(StorageError::Closed)].contains(&answer), "{answer:?}");
    assert_eq!(reader.snapshot().unwrap().get(&LOG, b"k").unwrap().unwrap(), b"v");
}

#[test]
fn projections_are_cleared_and_truth_stays() {
    let mut store = Store::in_memory().unwrap();
    let mut writes = put(&LOG, b"a", b"1");
    writes.absorb(put(&ROWS, b"a", b"2"));
    store.commit(&writes).unwrap();
    let changes = store.clear_projections(&put(&LOG, b"rebuilding", b"")).unwrap();
    assert!(changes.touches_key(&ROWS, b"anything"));
    let snapshot = store.snapshot().unwrap();
    assert!(
        snapshot.contains(&LOG, b"a").unwrap() && snapshot.contains(&LOG, b"rebuilding").unwrap()
    );
    assert_eq!(snapshot.count(&ROWS, &KeyRange::all(), 9).unwrap(), 0);
}

#[test]
fn stats_and_compaction() {
    let mut store = Store::in_memory().unwrap();
    store.commit(&put(&LOG, b"key", &[7; 100])).unwrap();
    store.commit(&put(&ROWS, b"k", b"v")).unwrap();
    let stats = store.stats().unwrap();
    let of = |name, kind, rows, bytes| TableStats { name, kind, rows, bytes };
    assert_eq!(
        stats,
        [
            of("log".into(), TableKind::Truth, 1, 103),
            of("rows".into(), TableKind::Projection, 1, 2)
        ]
    );
    let snapshot = store.snapshot().unwrap();
    assert_eq!(store.compact(), Err(StorageError::Busy));
    drop(snapshot);
    store.compact().unwrap();
    store.commit(&put(&ROWS, b"k", b"w")).unwrap();
}

#[test]
fn typed_values_and_damaged_ones() {
    let mut store = Store::in_memory().unwrap();
    let snapshot = store.snapshot().unwrap();
    let mut stage = Stage::new(&snapshot);
    stage.put_typed(&LOG, b"good", &(7u32, "seven")).unwrap();
    stage.put(&LOG, b"short", vec![]).unwrap();
    stage.put(&LOG, b"trailing", vec![7, 0, 0]).unwrap();
    store.commit(&stage.into_writes()).unwrap();

    let snapshot = store.snapshot().unwrap();
    let get = |key| snapshot.get_typed::<(u32, String)>(&LOG, key);
    assert_eq!(get(b"good"), Ok(Some((7, "seven".into()))));
    assert_eq!(get(b"none"), Ok(None));
    for key in [b"short".as_slice(), b"trailing"] {
        assert!(matches!(get(key), Err(StorageError::Corrupt { table: "log", .. })));
    }
}

#[test]
fn oversized_rows_are_refused_before_the_batch() {
    let mut writes = WriteSet::new();
    assert!(writes.put(&LOG, &[0; MAX_KEY], vec![]).is_ok());
    let max = MAX_KEY;
    let refused = Err(StorageError::TooLarge { table: "log", len: max + 1, max });
    assert_eq!(writes.put(&LOG, &[0; MAX_KEY + 1], vec![]), refused);
    assert_eq!(writes.del(&LOG, &[0; MAX_KEY + 1]), refused);
    assert!(writes.put(&LOG, b"", vec![0; MAX_VALUE + 1]).is_err());
    assert_eq!((writes.len(), writes.bytes()), (1, MAX_KEY));
}

#[test]
fn a_panic_of_the_visitor_is_the_callers() {
    let mut store = Store::in_memory().unwrap();
    store.commit(&put(&LOG, b"k", b"v")).unwrap();
    let snapshot = store.snapshot().unwrap();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        snapshot.visit(&LOG, &KeyRange::all(), false, &mut |_, _| panic!("mine"))
    }));
    assert_eq!(outcome.unwrap_err().downcast_ref::<&str>(), Some(&"mine"));
}

#[test]
fn change_sets_list_keys_until_they_are_many() {
    let mut store = Store::in_memory().unwrap();
    let mut changes = store.commit(&put(&LOG, b"chat/1", b"")).unwrap();
    assert!(changes.touches(&LOG) && !changes.touches(&ROWS));
    assert!(changes.touches_prefix(&LOG, b"chat/") && !changes.touches_prefix(&LOG, b"feed/"));
    assert!(changes.touches_key(&LOG, b"chat/1") && !changes.touches_key(&LOG, b"chat/2"));

    let mut many = WriteSet::new();
    for i in 0..=MAX_KEYS as u64 {
        many.del(&ROWS, &i.to_be_bytes()).unwrap();
    }
    changes.merge(&ChangeSet::from(&many));
    assert!(changes.keys(&ROWS).is_none() && changes.touches_key(&ROWS, b"any"));
    assert_eq!(changes.keys(&LOG).unwrap().collect::<Vec<_>>(), [b"chat/1"]);
    assert!(store.commit(&WriteSet::new()).unwrap().is_empty());
}
