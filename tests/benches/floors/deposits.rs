//! The floor of deposits at a relay: one loop that verifies a depositor's signature and stores
//! the items, committed in batches.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use redb::{Database, Durability, TableDefinition};

type Table = TableDefinition<'static, &'static [u8], &'static [u8]>;

const ITEMS: Table = TableDefinition::new("items");
const HEADS: Table = TableDefinition::new("heads");
const HASHES: Table = TableDefinition::new("hashes");

/// Takes `count` deposits of `sizes` bytes each, `at_once` per commit.
pub(crate) fn run(dir: &Path, count: usize, sizes: &[usize], at_once: usize) -> Result<Duration> {
    let key = SigningKey::from_bytes(&[5; 32]);
    let signed: Vec<(Vec<u8>, Signature)> = (0..count)
        .map(|n| {
            let message = blake3::hash(&n.to_le_bytes()).as_bytes().to_vec();
            let signature = key.sign(&message);
            (message, signature)
        })
        .collect();
    let public: VerifyingKey = key.verifying_key();
    let path = dir.join("floor-deposits.redb");
    let db = Database::builder().set_cache_size(32 << 20).create(&path)?;
    let began = Instant::now();
    for batch in signed.chunks(at_once) {
        let mut transaction = db.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        transaction.set_two_phase_commit(true);
        transaction.set_quick_repair(true);
        {
            let mut items = transaction.open_table(ITEMS)?;
            let mut heads = transaction.open_table(HEADS)?;
            let mut hashes = transaction.open_table(HASHES)?;
            for (message, signature) in batch {
                public.verify_strict(message, signature)?;
                for (index, size) in sizes.iter().enumerate() {
                    let bytes = vec![message[index]; *size];
                    let hash = *blake3::hash(&bytes).as_bytes();
                    let index = [u8::try_from(index)?];
                    let key = [message.as_slice(), &index].concat();
                    items.insert(key.as_slice(), bytes.as_slice())?;
                    heads.insert(key.as_slice(), hash.as_slice())?;
                    let by_hash = [message.as_slice(), &hash].concat();
                    hashes.insert(by_hash.as_slice(), index.as_slice())?;
                }
            }
        }
        transaction.commit()?;
    }
    let took = began.elapsed();
    drop(db);
    std::fs::remove_file(path)?;
    Ok(took)
}
