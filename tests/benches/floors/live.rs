//! The floor of a live message: a bare redb commit on each of two databases, one after the
//! other, and a QUIC round trip on loopback.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use redb::{Database, Durability, TableDefinition};

use super::quic::{Caller, echo};

type Table = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// A message of 128 bytes with a few rows: (table, bytes of the value).
const ROWS: [(Table, usize); 5] = [
    (TableDefinition::new("log"), 640),
    (TableDefinition::new("bodies"), 144),
    (TableDefinition::new("messages"), 200),
    (TableDefinition::new("chains"), 80),
    (TableDefinition::new("list"), 64),
];

/// Bytes that travel with a message.
const FRAME: usize = 800;

/// Two databases and a connection.
pub(crate) struct Floor {
    a: Database,
    b: Database,
    caller: Caller,
    number: u64,
}

/// What one message took at least.
pub(crate) struct Lap {
    pub(crate) commit: Duration,
    pub(crate) round_trip: Duration,
    pub(crate) all: Duration,
}

impl Floor {
    pub(crate) async fn new(dir: &Path) -> Result<Self> {
        let open = |name: &str| Database::builder().set_cache_size(32 << 20).create(dir.join(name));
        let (peer, addr) = echo("/floor/1").await?;
        let caller = Caller::new("/floor/1", peer, addr)?;
        let (a, b) = (open("floor-a.redb")?, open("floor-b.redb")?);
        Ok(Self { a, b, caller, number: 0 })
    }

    /// One message.
    pub(crate) async fn lap(&mut self) -> Result<Lap> {
        self.number += 1;
        let began = Instant::now();
        commit(&self.a, self.number)?;
        let commit_took = began.elapsed();
        let asked = Instant::now();
        self.caller.ask(vec![7; FRAME]).await?;
        let round_trip = asked.elapsed();
        commit(&self.b, self.number)?;
        Ok(Lap { commit: commit_took, round_trip, all: began.elapsed() })
    }
}

fn commit(db: &Database, number: u64) -> Result<()> {
    let mut transaction = db.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    transaction.set_two_phase_commit(true);
    transaction.set_quick_repair(true);
    for (table, bytes) in ROWS {
        // As with us: some rows are new, some replace the last one.
        let mut key = [3; 72];
        if bytes >= 100 {
            key[64..].copy_from_slice(&number.to_be_bytes());
        }
        let value = vec![number.to_le_bytes()[0]; bytes];
        transaction.open_table(table)?.insert(key.as_slice(), value.as_slice())?;
    }
    transaction.commit()?;
    Ok(())
}
