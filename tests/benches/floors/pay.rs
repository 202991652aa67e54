//! The floor of payments at a merchant: one loop that verifies each payer's order and stores
//! about what a merchant stores of it, committed in batches.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use redb::{Database, Durability, TableDefinition};

type Table = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// Bytes that a payer signs.
const ORDER: usize = 220;

/// Rows that each payment adds: (table, bytes of the value).
const ADDED: [(Table, usize); 7] = [
    // Offer, with the item and what was asked for.
    (TableDefinition::new("offers"), 560),
    (TableDefinition::new("offers_by_request"), 32),
    // Order and answer.
    (TableDefinition::new("orders"), 560),
    (TableDefinition::new("orders_by_request"), 32),
    (TableDefinition::new("orders_by_time"), 0),
    // Ledger and statement.
    (TableDefinition::new("transfers"), 240),
    (TableDefinition::new("entries"), 90),
];

/// Rows that each payment writes anew: the payer's balance, the sales, the statement's head.
const CHANGED: [(Table, usize); 3] = [
    (TableDefinition::new("balances"), 110),
    (TableDefinition::new("sales"), 80),
    (TableDefinition::new("statements"), 300),
];

/// Takes `count` payments of `payers`, `at_once` per commit.
pub(crate) fn run(dir: &Path, count: usize, payers: usize, at_once: usize) -> Result<Duration> {
    let key = SigningKey::from_bytes(&[5; 32]);
    let signed: Vec<(Vec<u8>, Signature)> = (0..count)
        .map(|n| {
            let mut order = vec![0; ORDER];
            blake3::Hasher::new().update(&n.to_le_bytes()).finalize_xof().fill(&mut order);
            let signature = key.sign(&order);
            (order, signature)
        })
        .collect();
    let public: VerifyingKey = key.verifying_key();
    let path = dir.join("floor-pay.redb");
    let db = Database::builder().set_cache_size(32 << 20).create(&path)?;
    let began = Instant::now();
    for (nth, batch) in signed.chunks(at_once).enumerate() {
        let mut transaction = db.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        transaction.set_two_phase_commit(true);
        transaction.set_quick_repair(true);
        for (order, signature) in batch {
            public.verify_strict(order, signature)?;
        }
        for (table, bytes) in ADDED {
            let mut table = transaction.open_table(table)?;
            for (order, _) in batch {
                let value = order.repeat(3);
                table.insert(&order[..32], &value[..bytes])?;
            }
        }
        for (table, bytes) in CHANGED {
            let mut table = transaction.open_table(table)?;
            for (n, (order, _)) in batch.iter().enumerate() {
                let payer = ((nth * at_once + n) % payers).to_be_bytes();
                let value = order.repeat(2);
                table.insert(&payer[..], &value[..bytes])?;
            }
        }
        transaction.commit()?;
    }
    let took = began.elapsed();
    drop(db);
    std::fs::remove_file(path)?;
    Ok(took)
}
