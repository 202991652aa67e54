//! Running something on a stage above the batch's: its writes and effects are kept together,
//! or not at all.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Core;
use crate::env::Env;
use crate::store::{Stage, StorageError};
use crate::tx::{Effect, Fail, Tx};

pub(super) const PANICKED: &str = "panicked";

impl Core {
    /// Runs `f` on a stage of its own above the batch's; keeps its writes and effects if it
    /// succeeds. A panic is a failure like any other.
    pub(super) fn stage<T>(
        &mut self,
        env: &mut Env,
        stage: &mut Stage<'_>,
        effects: &mut Vec<Effect>,
        f: impl FnOnce(&mut Tx<'_>) -> Result<T, Fail>,
    ) -> Result<T, Fail> {
        let acks = self.mem.acks_due.clone();
        let (result, writes, out) = {
            let mut tx = Tx {
                stage: Stage::new(stage),
                now: env.now,
                rng: &mut env.rng,
                mem: &mut self.mem,
                out: Vec::new(),
            };
            let result = catch_unwind(AssertUnwindSafe(|| f(&mut tx)))
                .unwrap_or_else(|_| Err(Fail::Peer(PANICKED.to_owned())));
            (result, tx.stage.into_writes(), tx.out)
        };
        match &result {
            Ok(_) => {
                stage.absorb(writes);
                effects.extend(out);
            }
            Err(_) => {
                self.mem.acks_due = acks;
                // Caches may hold what was just dropped.
                if !writes.is_empty() {
                    self.mem.forget();
                }
            }
        }
        result
    }

    /// Runs something whose refusal concerns nobody here.
    pub(super) fn hint(
        &mut self,
        env: &mut Env,
        stage: &mut Stage<'_>,
        effects: &mut Vec<Effect>,
        f: impl FnOnce(&mut Tx<'_>) -> Result<(), Fail>,
    ) -> Result<(), StorageError> {
        match self.stage(env, stage, effects, f) {
            Err(Fail::Storage(e)) => Err(e),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}
