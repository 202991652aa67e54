//! A disk in memory that crashes, tears, fills up and fails to sync, by seed.
//!
//! Model: a write reaches the cache at once and the platter at the next sync. A crash keeps an
//! arbitrary part of what was written since the last sync, in units of 512-byte sectors, which
//! are written whole or not at all. Space is taken when a block is first written, as in a
//! sparse file: overwriting works on a full disk, growing does not.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand_core::Rng;
use redb::StorageBackend;

use super::{BLOCK, Block, end_of, past_the_end, spans, zeroes};

const SECTOR: u64 = 512;

/// What becomes of the unsynced writes when a sync fails. Linux does either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncFailure {
    /// They stay in the cache; a later sync or a crash decides.
    Keep,
    /// They are gone, and reads show the old content.
    Drop,
}

/// How often each thing happened, so that a test can tell that its faults fired.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskCounters {
    /// Syncs that succeeded.
    pub syncs: u64,
    /// Syncs that were made to fail.
    pub failed_syncs: u64,
    /// Operations refused for want of space.
    pub full: u64,
    /// Crashes.
    pub crashes: u64,
    /// Writes that survived a crash whole.
    pub kept: u64,
    /// Writes of which a crash kept a part.
    pub torn: u64,
    /// Writes that a crash lost.
    pub lost: u64,
}

/// A simulated disk with one file on it. Clones share it; it outlives every handle.
#[derive(Debug, Clone, Default)]
pub struct SimDisk(Arc<Mutex<State>>);

/// One opening of a [`SimDisk`]: what redb gets. Dead once the disk crashed or was attached
/// again, so that a node that is still running can't write to it after its own crash.
#[derive(Debug)]
pub struct SimHandle {
    disk: SimDisk,
    generation: u64,
}

#[derive(Default)]
struct State {
    generation: u64,
    /// What a read sees. A block that is missing was never written and reads as zeroes.
    blocks: BTreeMap<u64, Block>,
    len: u64,
    /// What changed since the last sync, in order …
    log: Vec<Op>,
    /// … and the blocks it changed, as they were then.
    before: BTreeMap<u64, Option<Block>>,
    synced_len: u64,
    faults: Faults,
    counters: DiskCounters,
}

#[derive(Debug, Default)]
struct Faults {
    /// Syncs to go until one fails.
    fail_sync: Option<(u64, SyncFailure)>,
    /// Blocks that may be in use at most.
    capacity: Option<u64>,
    lying: bool,
}

enum Op {
    Write { offset: u64, data: Vec<u8> },
    SetLen(u64),
}

// The derived form would print the disk.
impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes, {} unsynced writes, {:?}", self.len, self.log.len(), self.faults)
    }
}

impl SimDisk {
    /// An empty disk without faults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens the disk's file; the handle before this one dies.
    #[must_use]
    pub fn attach(&self) -> SimHandle {
        let mut state = self.state();
        state.generation += 1;
        SimHandle { disk: self.clone(), generation: state.generation }
    }

    /// Cuts the power: `rng` decides what survives of the writes since the last sync. The
    /// handle dies; faults that were set stay set.
    pub fn crash(&self, rng: &mut impl Rng) {
        self.state().crash(rng);
    }

    /// A second disk that holds what this one does now, as a backup does. Without faults.
    #[must_use]
    pub fn copy(&self) -> Self {
        let state = self.state();
        let (blocks, len) = (state.blocks.clone(), state.len);
        Self(Arc::new(Mutex::new(State { blocks, len, synced_len: len, ..State::default() })))
    }

    /// Makes the `nth` sync from now fail (1 is the next), once.
    pub fn fail_sync(&self, nth: u64, then: SyncFailure) {
        self.state().faults.fail_sync = Some((nth, then));
    }

    /// Limits the space left to `bytes` (in whole blocks of 4 KiB); `None` is plenty.
    pub fn set_room(&self, bytes: Option<u64>) {
        let mut state = self.state();
        let used = state.blocks.len() as u64;
        state.faults.capacity = bytes.map(|b| used + b / BLOCK as u64);
    }

    /// A disk that lies says it synced and didn't. Plants the bug that crash tests must catch.
    pub fn set_lying(&self, lying: bool) {
        self.state().faults.lying = lying;
    }

    /// What happened so far.
    pub fn counters(&self) -> DiskCounters {
        self.state().counters
    }

    /// Space taken, in bytes.
    pub fn used(&self) -> u64 {
        (self.state().blocks.len() * BLOCK) as u64
    }

    // Each operation leaves the state whole even where it panics half-way.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Remembers a block as it was at the last sync.
    fn remember(&mut self, block: u64) {
        let (before, blocks) = (&mut self.before, &self.blocks);
        before.entry(block).or_insert_with(|| blocks.get(&block).cloned());
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Write { offset, data } => {
                for span in spans(*offset, data.len()) {
                    self.remember(span.block);
                    let block = self.blocks.entry(span.block).or_insert_with(zeroes);
                    block[span.in_block].copy_from_slice(&data[span.in_buffer]);
                }
                self.len = self.len.max(offset + data.len() as u64);
            }
            Op::SetLen(len) => self.set_len(*len),
        }
    }

    fn set_len(&mut self, len: u64) {
        if len < self.len {
            // What is cut off must read as zeroes if the file grows again.
            let first_gone = len.div_ceil(BLOCK as u64);
            let gone: Vec<u64> = self.blocks.range(first_gone..).map(|(b, _)| *b).collect();
            for block in gone {
                self.remember(block);
                self.blocks.remove(&block);
            }
            let (last, keep) = (len / BLOCK as u64, (len % BLOCK as u64) as usize);
            if keep > 0 && self.blocks.contains_key(&last) {
                self.remember(last);
                if let Some(block) = self.blocks.get_mut(&last) {
                    block[keep..].fill(0);
                }
            }
        }
        self.len = len;
    }

    /// Back to the last sync; returns what was written since.
    fn revert(&mut self) -> Vec<Op> {
        for (block, old) in std::mem::take(&mut self.before) {
            match old {
                Some(bytes) => self.blocks.insert(block, bytes),
                None => self.blocks.remove(&block),
            };
        }
        self.len = self.synced_len;
        std::mem::take(&mut self.log)
    }

    fn settle(&mut self) {
        self.before.clear();
        self.log.clear();
        self.synced_len = self.len;
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        end_of(offset, data.len())?;
        let new = spans(offset, data.len()).filter(|s| !self.blocks.contains_key(&s.block)).count();
        let used = (self.blocks.len() + new) as u64;
        if new > 0 && self.faults.capacity.is_some_and(|capacity| used > capacity) {
            self.counters.full += 1;
            return Err(io::Error::new(io::ErrorKind::StorageFull, "simulated full disk"));
        }
        let op = Op::Write { offset, data: data.to_vec() };
        self.apply(&op);
        self.log.push(op);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        if let Some((nth, then)) = self.faults.fail_sync.take() {
            if nth <= 1 {
                self.counters.failed_syncs += 1;
                if then == SyncFailure::Drop {
                    self.revert();
                }
                return Err(io::Error::other("simulated sync failure"));
            }
            self.faults.fail_sync = Some((nth - 1, then));
        }
        self.counters.syncs += 1;
        if !self.faults.lying {
            self.settle();
        }
        Ok(())
    }

    fn crash(&mut self, rng: &mut impl Rng) {
        self.generation += 1;
        self.counters.crashes += 1;
        let log = self.revert();
        // The four ways in which a cache meets its end.
        let (whole, torn_at) = match rng.next_u32() % 4 {
            0 => (0, 0),
            1 => (log.len(), log.len()),
            2 => {
                let whole = rng.next_u32() as usize % (log.len() + 1);
                (whole, whole + 1)
            }
            _ => (0, log.len()),
        };
        // Ops before `whole` survive, those before `torn_at` by the toss of a coin per sector.
        for (i, op) in log.into_iter().enumerate() {
            match op {
                op if i < whole => {
                    self.apply(&op);
                    self.counters.kept += 1;
                }
                op if i >= torn_at => {
                    self.counters.lost += 1;
                    drop(op);
                }
                Op::SetLen(len) if coin(rng) => {
                    self.set_len(len);
                    self.counters.kept += 1;
                }
                Op::SetLen(_) => self.counters.lost += 1,
                Op::Write { offset, data } => self.tear(offset, &data, rng),
            }
        }
        self.settle();
    }

    /// Applies a write sector by sector, each by the toss of a coin. Sectors beyond the end of
    /// the file are lost with the growth that would have made room for them.
    fn tear(&mut self, offset: u64, data: &[u8], rng: &mut impl Rng) {
        let (mut kept, mut lost) = (0, 0);
        let mut at = 0;
        while at < data.len() {
            let position = offset + at as u64;
            let n = ((SECTOR - position % SECTOR) as usize).min(data.len() - at);
            if position + n as u64 <= self.len && coin(rng) {
                self.apply(&Op::Write { offset: position, data: data[at..at + n].to_vec() });
                kept += 1;
            } else {
                lost += 1;
            }
            at += n;
        }
        let counter = match (kept, lost) {
            (0, _) => &mut self.counters.lost,
            (_, 0) => &mut self.counters.kept,
            _ => &mut self.counters.torn,
        };
        *counter += 1;
    }
}

fn coin(rng: &mut impl Rng) -> bool {
    rng.next_u32() & 1 == 1
}

impl SimHandle {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        if state.generation != self.generation {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "the simulated power is off"));
        }
        Ok(state)
    }
}

impl StorageBackend for SimHandle {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state()?.len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state()?;
        if end_of(offset, out.len())? > state.len {
            return Err(past_the_end());
        }
        for span in spans(offset, out.len()) {
            let out = &mut out[span.in_buffer];
            match state.blocks.get(&span.block) {
                Some(block) => out.copy_from_slice(&block[span.in_block]),
                None => out.fill(0),
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state()?;
        let op = Op::SetLen(len);
        state.apply(&op);
        state.log.push(op);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.state()?.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.state()?.write(offset, data)
    }
}
