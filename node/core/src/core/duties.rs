//! Duties at the end of every batch, and when to look again.

use teahouse_protocols::ids::Millis;

use super::Core;
use super::boundary::Outputs;
use crate::engine::{accounts, cursors, greeting, inbox, letters, mail, sync, topics};
use crate::env::Env;
use crate::features::{self, devices, services};
use crate::store::{Stage, StorageError};
use crate::tx::{Effect, Fail, Tx};

/// How often slow duties (prekey age, outbox age) are looked at.
const TEND_EVERY: Millis = 10 * 60 * 1000;

/// Keys that were too early and are tried again at the end of one batch.
const KEYS_A_BATCH: usize = 256;

impl Core {
    /// Duties at the end of every batch.
    pub(super) fn finish(
        &mut self,
        env: &mut Env,
        stage: &mut Stage<'_>,
        mail_came: bool,
        outputs: &mut Outputs,
        effects: &mut Vec<Effect>,
    ) -> Result<(), StorageError> {
        let mut wake: Option<Millis> = None;
        let mut at = |t: Option<Millis>| {
            wake = match (wake, t) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        };
        // One key may let something in that waits for another: the rest has its turn later.
        for _ in 0..KEYS_A_BATCH {
            let Some((topic, epoch)) = self.mem.keys_due.pop_first() else { break };
            self.duty(env, stage, effects, |tx| {
                inbox::unpark_key(tx, topic, epoch).map(|()| None)
            })?;
        }
        for topic in std::mem::take(&mut self.mem.rejudge_due) {
            self.duty(env, stage, effects, |tx| letters::rejudge(tx, topic).map(|()| None))?;
        }
        for tend in features::FEATURES.iter().filter_map(|f| f.tend) {
            at(self.duty(env, stage, effects, tend)?);
        }
        if std::mem::take(&mut self.mem.readers_due) {
            self.duty(env, stage, effects, |tx| topics::tell_all(tx).map(|()| None))?;
        }
        if std::mem::take(&mut self.mem.hello_due) {
            self.duty(env, stage, effects, |tx| greeting::hello_all(tx).map(|()| None))?;
        }
        if !self.mem.acks_due.is_empty() {
            self.duty(env, stage, effects, |tx| cursors::publish(tx).map(|()| None))?;
        }
        at(self.duty(env, stage, effects, sync::tend)?);
        at(self.duty(env, stage, effects, services::tend)?);
        if env.now >= self.tended.saturating_add(TEND_EVERY) || env.now < self.tended {
            self.tended = env.now;
            self.mem.readers_due = true;
            self.duty(env, stage, effects, |tx| {
                accounts::tend_prekeys(tx)?;
                inbox::tend(tx)?;
                Ok(None)
            })?;
            self.duty(env, stage, effects, |tx| devices::tend(tx).map(|()| None))?;
            self.mem.mail_all = true;
        }
        at(Some(self.tended + TEND_EVERY));
        let mail = &self.mem;
        let due = self.mail_wake.is_some_and(|t| t <= env.now);
        if due || mail_came || mail.mail_due || mail.mail_all || !mail.mail_topics.is_empty() {
            let mut out = Vec::new();
            self.mail_wake = self.duty(env, stage, effects, |tx| mail::pump(tx, &mut out))?;
            outputs.mail = out;
        }
        at(self.mail_wake);
        outputs.wake = wake;
        Ok(())
    }

    fn duty(
        &mut self,
        env: &mut Env,
        stage: &mut Stage<'_>,
        effects: &mut Vec<Effect>,
        f: impl FnOnce(&mut Tx<'_>) -> Result<Option<Millis>, Fail>,
    ) -> Result<Option<Millis>, StorageError> {
        match self.stage(env, stage, effects, f) {
            Ok(at) => Ok(at),
            Err(Fail::Storage(e)) => Err(e),
            Err(_) => Ok(None),
        }
    }
}
