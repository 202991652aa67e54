//! What redb's file may be: besides a plain file ([`redb::backends::FileBackend`]) a disk that
//! forgets ([`LossyFile`]) and a disk that exists only in memory and fails on demand
//! ([`SimDisk`]). Both hold blocks of 4 KiB, like a page cache.

mod lossy;
mod sim;
#[cfg(test)]
mod tests;

use std::io;
use std::ops::Range;

use redb::StorageBackend;

pub use lossy::LossyFile;
pub use sim::{DiskCounters, SimDisk, SimHandle, SyncFailure};

const BLOCK: usize = 4096;
type Block = Box<[u8; BLOCK]>;

fn zeroes() -> Block {
    Box::new([0; BLOCK])
}

/// Where a piece of a read or write lies in a block, and where in the caller's buffer.
struct Span {
    block: u64,
    in_block: Range<usize>,
    in_buffer: Range<usize>,
}

/// Cuts `len` bytes at `offset` along the blocks.
fn spans(offset: u64, len: usize) -> impl Iterator<Item = Span> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = offset + done as u64;
        let start = (at % BLOCK as u64) as usize;
        let n = (BLOCK - start).min(len - done);
        done += n;
        Some(Span {
            block: at / BLOCK as u64,
            in_block: start..start + n,
            in_buffer: done - n..done,
        })
    })
}

fn past_the_end() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "read past the end")
}

/// Where a file ends after writing `len` bytes at `offset`.
fn end_of(offset: u64, len: usize) -> io::Result<u64> {
    offset
        .checked_add(len as u64)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "offset out of range"))
}

/// A file that redb began to create but whose magic number never reached the disk holds no
/// commit: it is emptied, so that creation starts over. redb would refuse it for ever.
///
/// Anything else without a magic number is left alone: it is somebody's data, damaged.
pub(super) fn restart_unfinished(backend: &impl StorageBackend) -> io::Result<()> {
    // redb writes its header (320 bytes), syncs, then writes it again with the magic number.
    // A new file is a little over 1 MiB, all zeroes but for the header.
    const MAGIC: usize = 9;
    const HEADER: usize = 320;
    const LARGEST_NEW_FILE: u64 = 8 << 20;

    let len = backend.len()?;
    if len == 0 || len > LARGEST_NEW_FILE {
        return Ok(());
    }
    let mut image = vec![0; len as usize];
    backend.read(0, &mut image)?;
    let zero = |range: Range<usize>| {
        image[range.start.min(image.len())..range.end.min(image.len())].iter().all(|b| *b == 0)
    };
    if zero(0..MAGIC) && zero(HEADER..usize::MAX) {
        backend.set_len(0)?;
    }
    Ok(())
}
