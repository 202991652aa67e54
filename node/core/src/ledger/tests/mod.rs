//! The ledger against a plain model, and its rules one by one.

mod model;
mod rules;

use teahouse_protocols::ids::AssetId;

use super::{
    Account, AccountKey, Chain, Ledger, LedgerError, Limit, Movement, StagedLedger, Transfer,
    TransferId, What,
};
use crate::store::{Read, Stage, Store};

fn account(asset: u8, n: u8) -> AccountKey {
    AccountKey { asset: AssetId([asset; 32]), kind: u16::from(n), of: [n; 32] }
}

fn id(n: u8) -> TransferId {
    TransferId([n; 32])
}

fn movement(debit: u8, credit: u8, amount: u128) -> Movement {
    Movement { debit: account(1, debit), credit: account(1, credit), amount, at_most: None }
}

fn transfer(n: u8, what: What) -> Transfer {
    Transfer { id: id(n), code: 1, what }
}

fn moves(n: u8, debit: u8, credit: u8, amount: u128) -> Transfer {
    transfer(n, What::Move(movement(debit, credit, amount)))
}

/// Runs on a stage over a store, and again on what was committed.
fn with_store(test: impl FnOnce(&mut Stage<'_>)) {
    let store = Store::in_memory().unwrap();
    let snapshot = store.snapshot().unwrap();
    let base: &dyn Read = &snapshot;
    test(&mut Stage::new(base));
}
