//! A file whose unsynced writes die with the process.
//!
//! SIGKILL alone proves no durability: the page cache outlives the process. This backend plays
//! the page cache inside the process, so killing it is like cutting the power. For tests with
//! the real binary.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

use super::{BLOCK, Block, end_of, past_the_end, spans, zeroes};

/// A [`StorageBackend`] over a real file that writes through on `sync_data` only.
///
/// Holds all bytes written between two syncs in memory.
#[derive(Debug)]
pub struct LossyFile(Mutex<State>);

#[derive(Debug)]
struct State {
    file: File,
    /// Blocks written since the last sync.
    cache: BTreeMap<u64, Block>,
    /// Length as redb sees it.
    len: u64,
    /// Below this the file's own bytes count, beyond it zeroes do: the least length since the
    /// last sync.
    valid: u64,
}

impl LossyFile {
    /// Takes over a file opened for reading and writing.
    pub fn new(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        Ok(Self(Mutex::new(State { file, cache: BTreeMap::new(), len, valid: len })))
    }

    // Each operation leaves the state whole even where it panics half-way.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A block as it is in the file.
    fn load(&mut self, block: u64) -> io::Result<Block> {
        let mut bytes = zeroes();
        let start = block * BLOCK as u64;
        let n = self.valid.saturating_sub(start).min(BLOCK as u64) as usize;
        if n > 0 {
            self.file.seek(SeekFrom::Start(start))?;
            self.file.read_exact(&mut bytes[..n])?;
        }
        Ok(bytes)
    }

    fn set_len(&mut self, len: u64) {
        if len < self.len {
            // What is cut off must read as zeroes if the file grows again.
            self.cache.split_off(&len.div_ceil(BLOCK as u64));
            let (last, keep) = (len / BLOCK as u64, (len % BLOCK as u64) as usize);
            if let Some(block) = self.cache.get_mut(&last) {
                block[keep..].fill(0);
            }
            self.valid = self.valid.min(len);
        }
        self.len = len;
    }
}

impl StorageBackend for LossyFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.state();
        if end_of(offset, out.len())? > state.len {
            return Err(past_the_end());
        }
        for span in spans(offset, out.len()) {
            let out = &mut out[span.in_buffer];
            if let Some(block) = state.cache.get(&span.block) {
                out.copy_from_slice(&block[span.in_block]);
            } else {
                out.copy_from_slice(&state.load(span.block)?[span.in_block]);
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.state().set_len(len);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        let State { file, cache, len, valid } = &mut *state;
        // Shrinking first drops what must not come back when the file grows again.
        file.set_len(*valid)?;
        file.set_len(*len)?;
        for (block, bytes) in &*cache {
            let start = block * BLOCK as u64;
            let n = (*len - start).min(BLOCK as u64) as usize;
            file.seek(SeekFrom::Start(start))?;
            file.write_all(&bytes[..n])?;
        }
        file.sync_data()?;
        cache.clear();
        *valid = *len;
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let end = end_of(offset, data.len())?;
        for span in spans(offset, data.len()) {
            if !state.cache.contains_key(&span.block) {
                let block = state.load(span.block)?;
                state.cache.insert(span.block, block);
            }
            if let Some(block) = state.cache.get_mut(&span.block) {
                block[span.in_block].copy_from_slice(&data[span.in_buffer]);
            }
        }
        state.len = state.len.max(end);
        Ok(())
    }
}
