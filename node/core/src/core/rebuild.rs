//! Projections made again from the logs: what they show is a function of those alone.

use super::Core;
use super::boundary::Rebuilt;
use crate::engine::{accounts, letters};
use crate::env::Env;
use crate::store::{ReadExt, Stage, StorageError, TableKind};
use crate::tx::Fail;

impl Core {
    /// Clears all projections and makes them again from the logs.
    ///
    /// # Errors
    /// [`StorageError`]; then nothing happened.
    pub fn rebuild(&mut self, env: &mut Env) -> Result<Rebuilt, StorageError> {
        self.mem.forget();
        let snapshot = self.store.snapshot()?;
        let mut stage = Stage::new(&snapshot);
        let mut effects = Vec::new();
        let rebuilt = self.stage(env, &mut stage, &mut effects, |tx| {
            let mut rebuilt = Rebuilt::default();
            // Rows of code that is gone, too.
            for table in crate::tables::all().filter(|t| t.kind == TableKind::Projection) {
                let mut range = crate::store::KeyRange::all();
                loop {
                    let rows = tx.scan(table, &range, false, 4_096)?;
                    let Some((last, _)) = rows.last() else { break };
                    range = range.after(&last.clone());
                    for (key, _) in &rows {
                        tx.del(table, key)?;
                    }
                }
            }
            for topic in accounts::topic_ids(tx)? {
                rebuilt.envelopes += letters::replay(tx, topic)?;
                rebuilt.topics += 1;
            }
            Ok(rebuilt)
        });
        let rebuilt = match rebuilt {
            Ok(rebuilt) => rebuilt,
            Err(Fail::Storage(e)) => return Err(e),
            Err(_) => return Err(StorageError::corrupt("log", "can't be replayed")),
        };
        self.store.commit(&stage.into_writes())?;
        Ok(rebuilt)
    }
}
