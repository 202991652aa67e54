//! Files damaged from outside: an error, or the right data, never a panic.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::*;

const ROWS_WRITTEN: u32 = 300;

fn value(i: u32) -> Vec<u8> {
    vec![i as u8; 40]
}

/// The image of a database with some hundred rows, closed in order or killed.
fn image(killed: bool) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path(), StoreOptions::default()).unwrap();
    for half in [0..ROWS_WRITTEN / 2, ROWS_WRITTEN / 2..ROWS_WRITTEN] {
        let mut writes = WriteSet::new();
        for i in half {
            writes.put(&LOG, &i.to_be_bytes(), value(i)).unwrap();
        }
        store.commit(&writes).unwrap();
    }
    if killed {
        return std::fs::read(dir.path().join(FILE)).unwrap();
    }
    drop(store);
    std::fs::read(dir.path().join(FILE)).unwrap()
}

/// Opens an image and reads everything; the number of rows if all went well.
fn read_all(image: &[u8], verify: bool) -> Result<u32, String> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(FILE), image).unwrap();
    let options = StoreOptions { verify, ..StoreOptions::default() };
    let store = Store::open(dir.path(), options).map_err(|e| e.to_string())?;
    let snapshot = store.snapshot().map_err(|e| e.to_string())?;
    let rows = snapshot.scan(&LOG, &KeyRange::all(), false, 10_000).map_err(|e| e.to_string())?;
    if verify {
        // Checked: what is there is what was written, up to some commit.
        for (i, (k, v)) in (0u32..).zip(&rows) {
            assert_eq!((k.as_slice(), v), (i.to_be_bytes().as_slice(), &value(i)));
        }
    }
    Ok(rows.len() as u32)
}

#[test]
fn flipped_bytes() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut refused = 0;
    for killed in [false, true] {
        let image = image(killed);
        assert_eq!(read_all(&image, true), Ok(ROWS_WRITTEN));
        // Damage where there is something to damage.
        let used: Vec<usize> = (0..image.len()).filter(|i| image[*i] != 0 || *i < 320).collect();
        for round in 0..24 {
            let mut damaged = image.clone();
            for _ in 0..=rng.next_u32() % 4 {
                // Every other time in the header and the pages' own bookkeeping.
                let at = if round % 2 == 0 {
                    rng.next_u32() as usize % 320
                } else {
                    used[rng.next_u32() as usize % used.len()]
                };
                damaged[at] ^= 1 << (rng.next_u32() % 8);
            }
            let _ = read_all(&damaged, false);
            match read_all(&damaged, true) {
                Ok(rows) => assert!([0, ROWS_WRITTEN / 2, ROWS_WRITTEN].contains(&rows), "{rows}"),
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 10, "{refused}");
}

#[test]
fn truncated_files() {
    let image = image(false);
    for len in [1, 9, 320, 4096, 100_000, image.len() / 2, image.len() - 1] {
        for verify in [false, true] {
            let e = read_all(&image[..len], verify).expect_err("a truncated file");
            assert!(e.contains("damaged"), "{len}: {e}");
        }
    }
}

#[test]
fn files_that_are_something_else() {
    for image in [b"hello".to_vec(), vec![0xff; 1 << 20], b"SQLite format 3\0".repeat(1000)] {
        let e = read_all(&image, false).expect_err("no database");
        assert_eq!(e, "the database is damaged: not a Teahouse database");
    }
}
