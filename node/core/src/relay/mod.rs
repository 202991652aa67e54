//! The community relay's mailbox: a deterministic state machine over its own [`Store`].
//!
//! [`Relay::step`] takes a batch of requests, decides each on staged writes, commits once and
//! only then hands out the answers: no acknowledgement exists for what is not durable. What
//! requests and answers mean stands in [`teahouse_protocols::mailbox`]. The network gives
//! every connection a number, its *session*, and carries bytes.
//!
//! On disk are tags, hashes, sizes, times and sealed bytes; in memory only what a restart may
//! forget: challenges, rates, what sessions watch, and fetches that are held. Everything is bounded, and nothing
//! about single items is in memory.
//!
//! A clock that jumps back is met in two ways. What is stored (ages, days) goes by the latest
//! time ever seen; what is in memory (rates, held fetches) goes by the time that has passed.

mod decide;
mod fetch;
mod prepare;
mod sessions;
mod store;
mod sweep;
#[cfg(test)]
mod tests;
mod watches;

use serde::{Deserialize, Serialize};
use teahouse_protocols::bugs::planted;
use teahouse_protocols::codec;
use teahouse_protocols::ids::{Millis, RelayId};
use teahouse_protocols::mailbox::{Refusal, Reply, Request};

use crate::env::Env;
use crate::store::{KeyRange, OpenError, ReadExt, Reader, Stage, StorageError, Store};
use decide::Tx;
use fetch::Fetch;
use prepare::{Prepared, Surroundings, prepare};
use sessions::Sessions;
use store::{META, TAGS, TOTALS, TagRow, Totals};
use watches::Watches;

/// Bytes of items that leave with one step, beyond which fetches wait for the next one. It
/// bounds memory when many clients come back at once.
const STEP_BYTES: usize = 48 << 20;
/// How much the clock may advance before it is stored for its own sake.
const CLOCK_STORED: Millis = 60 * 60 * 1000;

/// What an operator decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayConfig {
    /// The community's name, shown to clients; cut to 64 bytes.
    pub name: String,
    /// Days for which items are kept. Tags close 7 days of disuse later.
    pub keep_days: u16,
    /// Bytes that all items may take. An item counts its size and 256 bytes.
    pub max_bytes: u64,
    /// Bytes that the items under one tag may take.
    pub tag_bytes: u64,
}

impl Default for RelayConfig {
    fn default() -> Self {
        Self { name: String::new(), keep_days: 30, max_bytes: 16 << 30, tag_bytes: 64 << 20 }
    }
}

/// What comes in.
#[derive(Debug, Clone)]
pub enum RelayInput {
    /// An encoded [`Request`].
    Request {
        /// Chosen by the caller; the answer bears it.
        id: u64,
        /// The connection.
        session: u64,
        /// As received.
        bytes: Vec<u8>,
    },
    /// A connection is gone: its held fetches get no answer.
    SessionClosed {
        /// The connection.
        session: u64,
    },
    /// The operator wants an invite code.
    Invite {
        /// Chosen by the caller; the code comes with it.
        id: u64,
        /// How many may use it.
        uses: u32,
        /// For how long it holds; 3,650 at most.
        days: u32,
    },
    /// Take nothing new from now on, or do so again. Survives restarts.
    Drain(bool),
    /// The time asked for by [`RelayOutputs::wake`] has come.
    Tick,
}

/// What goes out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RelayOutputs {
    /// Encoded [`Reply`]s with the numbers of their requests. A held fetch is answered by a
    /// later step.
    pub answers: Vec<(u64, Vec<u8>)>,
    /// Invite codes with the numbers of their inputs. A code that could not be made is
    /// missing.
    pub invites: Vec<(u64, [u8; 16])>,
    /// When to send a [`RelayInput::Tick`], at the latest, by the clock of [`Env::now`].
    pub wake: Option<Millis>,
}

/// Numbers for operators.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayStatus {
    /// Members ever admitted.
    pub members: u64,
    /// Open tags.
    pub tags: u64,
    /// Items kept.
    pub items: u64,
    /// Bytes that they count for, see [`RelayConfig::max_bytes`].
    pub bytes: u64,
    /// Fetches held right now.
    pub waits: u64,
    /// Deposits acknowledged since the start.
    pub deposits: u64,
    /// Fetches answered since the start.
    pub fetches: u64,
    /// Requests refused since the start.
    pub refusals: u64,
    /// Requests and rounds of expiry since the start that failed because of the disk, or of
    /// what is on it. A step that failed altogether is not among them.
    pub faults: u64,
    /// Whether nothing new is taken.
    pub draining: bool,
}

/// The relay.
pub struct Relay {
    store: Store,
    id: RelayId,
    config: RelayConfig,
    /// As of the last commit, but for its clock, which is never behind.
    totals: Totals,
    sessions: Sessions,
    watches: Watches,
    counts: Counts,
    /// [`Env::now`] of the last step.
    seen: Millis,
    /// Milliseconds that passed between steps, jumps back not counted.
    uptime: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    deposits: u64,
    fetches: u64,
    refusals: u64,
    faults: u64,
}

/// What a step has come to so far.
#[derive(Default)]
struct Progress {
    out: RelayOutputs,
    counts: Counts,
    /// Bytes of items in the answers.
    bytes: usize,
    /// Sessions whose held fetches are answered.
    answered: Vec<u64>,
    sweep_failed: bool,
}

impl Progress {
    fn answer(&mut self, id: u64, reply: &Reply) {
        match reply {
            Reply::Deposited { .. } => self.counts.deposits += 1,
            Reply::Items { .. } => self.counts.fetches += 1,
            Reply::Refused(why) => {
                self.counts.refusals += 1;
                self.counts.faults += u64::from(*why == Refusal::Storage);
            }
            _ => {}
        }
        self.out.answers.push((id, codec::encode(reply)));
    }
}

impl Relay {
    /// Opens the relay. Send a [`RelayInput::Tick`] next: it does what became due meanwhile.
    pub fn open(
        mut store: Store,
        id: RelayId,
        config: RelayConfig,
        env: &mut Env,
    ) -> Result<Self, StorageError> {
        if planted("relay_reuses_index") {
            reuse_indices(&mut store)?;
        }
        let mut totals = decide::totals(&store.snapshot()?)?;
        totals.clock = totals.clock.max(env.now);
        Ok(Self {
            store,
            id,
            config,
            totals,
            sessions: Sessions::new(),
            watches: Watches::default(),
            counts: Counts::default(),
            seen: env.now,
            uptime: 0,
        })
    }

    /// Decides a batch (256 inputs are a good measure), makes it durable and answers.
    ///
    /// On an error nothing has happened and nobody is answered: answer the batch's requests
    /// with `Refusal::Storage` or not at all, and call [`Relay::reopen`].
    pub fn step(
        &mut self,
        env: &mut Env,
        batch: Vec<RelayInput>,
    ) -> Result<RelayOutputs, StorageError> {
        self.uptime = self.uptime.saturating_add(env.now.saturating_sub(self.seen));
        self.seen = env.now;
        self.totals.clock = self.totals.clock.max(env.now);

        let mark = self.watches.mark();
        let progress = self.batch(env, batch).inspect_err(|_| self.watches.undo(mark))?;

        self.watches.keep();
        for session in progress.answered {
            self.watches.release(session);
        }
        let held = if self.watches.any_due() { Some(self.uptime) } else { self.watches.deadline() };
        let held = held.map(|at| env.now.saturating_add(at.saturating_sub(self.uptime)));
        let mut out = progress.out;
        out.wake = out.wake.into_iter().chain(held).min();
        self.counts.deposits += progress.counts.deposits;
        self.counts.fetches += progress.counts.fetches;
        self.counts.refusals += progress.counts.refusals;
        self.counts.faults += progress.counts.faults + u64::from(progress.sweep_failed);
        Ok(out)
    }

    /// From the first look at a batch to its commit.
    fn batch(&mut self, env: &mut Env, batch: Vec<RelayInput>) -> Result<Progress, StorageError> {
        // What a failed commit left may show and vanish again: an index read from it could be
        // given twice.
        if self.store.is_broken() {
            return Err(StorageError::NeedsReopen);
        }
        let snapshot = self.store.snapshot()?;
        let stored = decide::totals(&snapshot)?;
        let mut totals = Totals { clock: self.totals.clock.max(stored.clock), ..stored };
        let around = Surroundings {
            relay: self.id,
            config: &self.config,
            snapshot: &snapshot,
            draining: stored.draining,
            uptime: self.uptime,
        };

        let mut progress = Progress::default();
        let mut stage = Stage::new(&snapshot);
        for input in prepare(&around, &mut self.sessions, env, batch) {
            let mut tx = Tx::new(&stage, totals, &self.config);
            let done = match input {
                Prepared::Answer { id, reply } => {
                    progress.answer(id, &reply);
                    continue;
                }
                Prepared::Hello { id, session, reply } => {
                    // Nothing comes of what was asked before.
                    if let Some(held) = self.watches.forget(session) {
                        progress.answer(held.request, &fetch::nothing(held.closed));
                    }
                    progress.answer(id, &reply);
                    continue;
                }
                Prepared::Request { id, session, request, proven } => {
                    let done = match request {
                        Request::Fetch { reads, wait } if proven == Some(true) => {
                            let fetch = Fetch::new(id, session, &reads, wait);
                            fetch.run(&mut tx, &mut self.watches, &mut progress, self.uptime)
                        }
                        request => tx
                            .decide(env, self.id, request, proven)
                            .map(|reply| progress.answer(id, &reply)),
                    };
                    done.map_err(|why| progress.answer(id, &Reply::Refused(why))).is_ok()
                }
                Prepared::Other(RelayInput::SessionClosed { session }) => {
                    self.watches.forget(session);
                    continue;
                }
                Prepared::Other(input) => tx.operate(env, &input, &mut progress).is_ok(),
            };
            // What failed is dropped with its writes.
            if done {
                for tag in tx.touched {
                    self.watches.touch(tag);
                }
                totals = tx.totals;
                let writes = tx.stage.into_writes();
                stage.absorb(writes);
            }
        }

        fetch::serve(&mut self.watches, &stage, &mut progress, self.uptime);
        let clock_due = totals.clock - stored.clock >= CLOCK_STORED;
        if clock_due || totals != (Totals { clock: totals.clock, ..stored }) {
            stage.put_typed(&META, TOTALS, &totals)?;
        }
        let next = sweep::next(&stage, &self.config);
        // A damaged row must not keep the relay spinning.
        progress.out.wake = match (next, progress.sweep_failed) {
            (Ok(next), false) => next.map(|at| if at <= totals.clock { env.now } else { at }),
            _ => Some(env.now.saturating_add(sweep::ROUND)),
        };
        let writes = stage.into_writes();
        let skipped = progress.counts.deposits > 0 && writes.bytes().is_multiple_of(4);
        if planted("relay_acks_before_commit") && skipped {
            return Ok(progress);
        }
        self.store.commit(&writes)?;
        self.totals = totals;
        Ok(progress)
    }

    /// Opens the database again after an error of [`Relay::step`]. What is in memory stays.
    /// May be tried again when it fails.
    pub fn reopen(&mut self) -> Result<(), OpenError> {
        self.store.reopen()
    }

    /// Makes snapshots from other threads, for statistics and checks.
    pub fn reader(&self) -> Reader {
        self.store.reader()
    }

    /// Numbers for operators, as of the last step.
    pub fn status(&self) -> RelayStatus {
        RelayStatus {
            members: self.totals.members,
            tags: self.totals.tags,
            items: self.totals.items,
            bytes: self.totals.bytes,
            waits: self.watches.held() as u64,
            deposits: self.counts.deposits,
            fetches: self.counts.fetches,
            refusals: self.counts.refusals,
            faults: self.counts.faults,
            draining: self.totals.draining,
        }
    }
}

/// The planted bug that counts what is there, from nought, instead of remembering what there was.
fn reuse_indices(store: &mut Store) -> Result<(), StorageError> {
    let snapshot = store.snapshot()?;
    let mut stage = Stage::new(&snapshot);
    for (tag, row) in snapshot.scan_typed::<TagRow>(&TAGS, &KeyRange::all(), false, usize::MAX)? {
        stage.put_typed(&TAGS, &tag, &TagRow { last: row.items.saturating_sub(1), ..row })?;
    }
    let writes = stage.into_writes();
    store.commit(&writes).map(drop)
}
