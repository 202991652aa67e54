//! Reading mail: at once, or when something comes.

use std::ops::ControlFlow;

use teahouse_protocols::codec::Bytes;
use teahouse_protocols::ids::Tag;
use teahouse_protocols::mailbox::{self, MAX_ITEM, Refusal, Reply};

use super::decide::{Tx, bounded};
use super::store::{ITEMS, TAGS, TagRow, item_key};
use super::waits::{HOLD, Wait, Waits};
use super::{Progress, STEP_BYTES};
use crate::store::{KeyRange, KeyReader, Read, ReadExt, StorageError};

/// Bytes of items in one reply, at most. One item of any size fits, and the reply with a full
/// list of closed tags stays within `MAX_MAIL`.
const PAGE_BYTES: usize = 900 * 1024;
/// Items in one reply, at most.
const PAGE_ITEMS: usize = 1_024;
/// What an item takes in a reply besides its bytes: tag, index and length, rounded up.
const FRAME: usize = 32 + 10 + 4;

/// A tag, and the highest index that the client has of it.
type After = (Tag, u64);

/// A fetch whose proofs hold.
pub(super) struct Fetch {
    id: u64,
    session: u64,
    reads: Vec<After>,
    wait: bool,
}

impl Fetch {
    pub(super) fn new(id: u64, session: u64, reads: &[mailbox::Read], wait: bool) -> Self {
        let reads = reads.iter().map(|read| (read.tag, read.after)).collect();
        Self { id, session, reads, wait }
    }

    /// Answers, or holds the fetch: because there is nothing, or because enough leaves with
    /// this step already.
    pub(super) fn run(
        self,
        tx: &mut Tx<'_>,
        waits: &mut Waits,
        progress: &mut Progress,
        uptime: u64,
    ) -> Result<(), Refusal> {
        let Looked { open, closed } = tx.look(&self.reads)?;
        let crowded = progress.bytes >= STEP_BYTES;
        if !crowded {
            let page = page(&tx.stage, open)?;
            if !page.is_empty() || !self.wait || self.reads.is_empty() {
                return Ok(page.answer(self.id, closed, progress)?);
            }
        }
        let wait = Wait {
            request: self.id,
            session: self.session,
            reads: self.reads,
            closed,
            hold: self.wait,
            deadline: uptime.saturating_add(HOLD),
        };
        waits.hold(wait, crowded)
    }
}

/// Answers the held fetches under whose tags something came, as many as may leave with this
/// step, and those whose time is over.
pub(super) fn serve(waits: &mut Waits, read: &dyn Read, progress: &mut Progress, uptime: u64) {
    for tag in std::mem::take(&mut progress.touched) {
        waits.touch(tag);
    }
    let mut in_vain = Vec::new();
    for (number, wait, reads) in waits.due() {
        if progress.bytes >= STEP_BYTES {
            break;
        }
        let page = page(read, reads);
        if page.as_ref().is_ok_and(|page| page.is_empty() && wait.hold) {
            in_vain.push(number);
            continue;
        }
        let answered = page.and_then(|p| p.answer(wait.request, wait.closed.clone(), progress));
        if let Err(e) = answered {
            progress.answer(wait.request, &Reply::Refused(e.into()));
        }
        progress.answered.push(number);
    }
    for number in in_vain {
        waits.not_due(number);
    }
    for (number, wait) in waits.over(uptime) {
        if Page::default().answer(wait.request, wait.closed.clone(), progress).is_ok() {
            progress.answered.push(number);
        }
    }
}

/// What a fetch finds.
#[derive(Default)]
struct Page {
    items: Vec<(Tag, u64, Bytes<MAX_ITEM>)>,
    more: bool,
    /// Bytes of the items with their frames.
    bytes: usize,
}

/// Which of the tags of a fetch are worth looking at.
#[derive(Default)]
struct Looked {
    /// Those with items that the client may not have.
    open: Vec<After>,
    /// Those that are not open here.
    closed: Vec<Tag>,
}

impl Tx<'_> {
    /// Looks at the tags of a fetch, and notes that they were fetched.
    fn look(&mut self, reads: &[After]) -> Result<Looked, StorageError> {
        let today = self.totals.today();
        let mut looked = Looked::default();
        for (tag, after) in reads {
            let row = self.stage.get_typed::<TagRow>(&TAGS, &tag.0)?;
            let Some(mut row) = row.filter(|row| row.kind.is_some()) else {
                looked.closed.push(*tag);
                continue;
            };
            if row.items > 0 && row.last > *after {
                looked.open.push((*tag, *after));
            }
            // At most once a day, so that fetching seldom costs a commit.
            if row.used < today {
                row.used = today;
                self.stage.put_typed(&TAGS, &tag.0, &row)?;
            }
        }
        Ok(looked)
    }
}

/// What there is, tags in the order given, oldest first within each, as much as fits.
fn page(read: &dyn Read, reads: impl IntoIterator<Item = After>) -> Result<Page, StorageError> {
    let mut page = Page::default();
    for (tag, after) in reads {
        let range = KeyRange::prefix(&tag.0).after(&item_key(tag, after));
        let mut damage = None;
        read.visit(&ITEMS, &range, false, &mut |key, bytes| match page.take(tag, key, bytes) {
            Ok(flow) => flow,
            Err(e) => {
                damage = Some(e);
                ControlFlow::Break(())
            }
        })?;
        if let Some(e) = damage {
            return Err(e);
        }
        if page.more {
            break;
        }
    }
    Ok(page)
}

impl Page {
    fn take(
        &mut self,
        tag: Tag,
        key: &[u8],
        bytes: &[u8],
    ) -> Result<ControlFlow<()>, StorageError> {
        let size = bytes.len() + FRAME;
        if self.items.len() == PAGE_ITEMS || self.bytes + size > PAGE_BYTES {
            self.more = true;
            return Ok(ControlFlow::Break(()));
        }
        let mut key = KeyReader::new(&ITEMS, key);
        key.fixed::<32>()?;
        let index = key.u64()?;
        let bytes = Bytes::try_from(bytes.to_vec())
            .map_err(|_| StorageError::corrupt(ITEMS.name, "an item beyond its bound"))?;
        self.items.push((tag, index, bytes));
        self.bytes += size;
        Ok(ControlFlow::Continue(()))
    }

    /// Whether there is nothing.
    const fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Answers a fetch with it.
    fn answer(
        self,
        request: u64,
        closed: Vec<Tag>,
        progress: &mut Progress,
    ) -> Result<(), StorageError> {
        let (items, closed) = (bounded(self.items)?, bounded(closed)?);
        progress.bytes += self.bytes;
        progress.answer(request, &Reply::Items { items, closed, more: self.more });
        Ok(())
    }
}
