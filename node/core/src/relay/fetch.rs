//! Reading mail: at once, or when something comes.

use std::ops::ControlFlow;

use teahouse_protocols::codec::{Bytes, List};
use teahouse_protocols::ids::Tag;
use teahouse_protocols::mailbox::{self, MAX_ITEM, Refusal, Reply};

use super::decide::{Tx, bounded};
use super::store::{ITEMS, TAGS, TagRow, item_key};
use super::watches::{HOLD, Held, Watches};
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
        watches: &mut Watches,
        progress: &mut Progress,
        uptime: u64,
    ) -> Result<(), Refusal> {
        let Self { id, session, reads, wait } = self;
        let Looked { reads, closed } = tx.look(&reads)?;
        watches.add(session, &reads, closed.len())?;
        for request in watches.evicted() {
            progress.answer(request, &nothing(Vec::new()));
        }
        // Whoever asks anew has given up on what it asked before.
        if let Some(before) = watches.replace(session) {
            let page = Page { more: watches.is_due(session), ..Page::default() };
            page.answer(session, before.request, before.closed, watches, progress)?;
        }
        let deadline = uptime.saturating_add(HOLD);
        if watches.count(session) == 0 {
            return Ok(Page::default().answer(session, id, closed, watches, progress)?);
        }
        let crowded = progress.bytes >= STEP_BYTES;
        if !crowded {
            let page = page(&tx.stage, watches.due_of(session))?;
            if !page.is_empty() || !wait {
                return Ok(page.answer(session, id, closed, watches, progress)?);
            }
            page.note(session, watches);
        }
        watches.hold(session, Held { request: id, closed, hold: wait, deadline }, crowded);
        Ok(())
    }
}

/// Answers the held fetches under whose tags something came ([`Watches::touch`]), as many as may leave with this
/// step, and those whose time is over.
pub(super) fn serve(watches: &mut Watches, read: &dyn Read, progress: &mut Progress, uptime: u64) {
    for session in watches.due() {
        if progress.bytes >= STEP_BYTES {
            break;
        }
        let Some(held) = watches.held_by(session) else { continue };
        let (request, hold, closed) = (held.request, held.hold, held.closed.clone());
        let page = page(read, watches.due_of(session));
        if let Ok(page) = &page
            && page.is_empty()
            && hold
        {
            page.note(session, watches);
            watches.not_due(session);
            continue;
        }
        let answered = page.and_then(|p| p.answer(session, request, closed, watches, progress));
        if let Err(e) = answered {
            progress.answer(request, &Reply::Refused(e.into()));
        }
        progress.answered.push(session);
    }
    for session in watches.over(uptime) {
        let Some(held) = watches.held_by(session) else { continue };
        let (request, closed) = (held.request, held.closed.clone());
        if Page::default().answer(session, request, closed, watches, progress).is_ok() {
            progress.answered.push(session);
        }
    }
}

/// The answer to a fetch of a session that watches nothing any more.
pub(super) fn nothing(closed: Vec<Tag>) -> Reply {
    let closed = closed.try_into().unwrap_or_default();
    Reply::Items { items: List::default(), closed, more: false, watched: 0, nth: 0 }
}

/// What a fetch finds.
#[derive(Default)]
struct Page {
    items: Vec<(Tag, u64, Bytes<MAX_ITEM>)>,
    more: bool,
    /// Bytes of the items with their frames.
    bytes: usize,
    /// Tags that were read to their end.
    ended: Vec<Tag>,
}

/// The tags that a fetch names.
#[derive(Default)]
struct Looked {
    /// With the highest index that the client has, and whether there may be more.
    reads: Vec<(Tag, u64, bool)>,
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
                looked.reads.push((*tag, *after, false));
                continue;
            };
            looked.reads.push((*tag, *after, row.items > 0 && row.last > *after));
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
        page.ended.push(tag);
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

    /// Notes how far the session's client has its tags with this.
    fn note(&self, session: u64, watches: &mut Watches) {
        for (tag, index, _) in &self.items {
            watches.advance(session, *tag, *index);
        }
        for tag in &self.ended {
            watches.end(session, *tag);
        }
    }

    /// Answers a fetch with it.
    fn answer(
        self,
        session: u64,
        request: u64,
        closed: Vec<Tag>,
        watches: &mut Watches,
        progress: &mut Progress,
    ) -> Result<(), StorageError> {
        self.note(session, watches);
        let watched = watches.count(session) as u32;
        let (items, closed) = (bounded(self.items)?, bounded(closed)?);
        let nth = watches.answer(session);
        progress.bytes += self.bytes;
        progress.answer(request, &Reply::Items { items, closed, more: self.more, watched, nth });
        Ok(())
    }
}
