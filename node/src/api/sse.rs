//! `GET /v1/events`: what each batch touched, as server-sent events with rising ids.
//!
//! The newest 1,024 events are kept. Whoever comes back with `Last-Event-ID` gets what it
//! missed, or one event `resync` if that is no longer known: then it queries everything
//! again. A slow reader is treated the same way, so nothing grows with readers.

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::stream::{self, Stream};
use serde::{Deserialize, Serialize};
use teahouse_core::query::asked;
use teahouse_core::store::ChangeSet;
use teahouse_protocols::ids::TopicId;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::handle::Handle;
use crate::runtime::now;
use crate::watch::{View, topics};

/// Events kept.
pub(super) const KEPT: usize = 1024;

/// What a batch touched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Touched {
    /// The views whose answers may differ now.
    pub views: BTreeSet<View>,
    /// Features' queries whose answers may differ now.
    #[serde(default)]
    pub queries: BTreeSet<String>,
    /// In these topics; `None` if they are too many to tell.
    pub topics: Option<BTreeSet<TopicId>>,
}

impl Touched {
    fn of(changes: &ChangeSet) -> Self {
        Self {
            views: View::ALL.into_iter().filter(|v| v.depends(changes)).collect(),
            queries: asked::all()
                .filter(|q| (q.depends)(changes))
                .map(|q| q.name.to_owned())
                .collect(),
            topics: topics(changes),
        }
    }
}

/// The newest events. Ids begin at the start time in milliseconds, so that one from before a
/// restart lies below, and is not taken for one of this run.
pub(super) struct Events {
    ring: Mutex<Ring>,
    newest: watch::Sender<u64>,
}

struct Ring {
    /// Id of the event at the front.
    first: u64,
    events: VecDeque<Touched>,
}

/// What a reader gets next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Event(u64, Touched),
    Resync(u64),
}

impl Events {
    pub(super) fn new(start: u64) -> Self {
        let ring = Ring { first: start + 1, events: VecDeque::new() };
        Self { ring: Mutex::new(ring), newest: watch::Sender::new(start) }
    }

    /// Starts following a node.
    pub(super) fn follow(handle: &Handle, ended: CancellationToken) -> Arc<Self> {
        let events = Arc::new(Self::new(now()));
        let (all, mut changes) = (Arc::clone(&events), handle.changes());
        tokio::spawn(async move {
            loop {
                let next = tokio::select! {
                    next = changes.next() => next,
                    () = ended.cancelled() => None,
                };
                let Some(changes) = next else { return };
                all.push(Touched::of(&changes));
            }
        });
        events
    }

    pub(super) fn push(&self, touched: Touched) {
        let mut ring = self.lock();
        if ring.events.len() == KEPT {
            ring.events.pop_front();
            ring.first += 1;
        }
        ring.events.push_back(touched);
        self.newest.send_replace(ring.newest());
    }

    /// The event after `last`, if there is one.
    pub(super) fn after(&self, last: u64) -> Option<Next> {
        let ring = self.lock();
        if last == ring.newest() {
            return None;
        }
        let next = last.checked_add(1).and_then(|id| id.checked_sub(ring.first));
        let event = next.and_then(|i| ring.events.get(usize::try_from(i).ok()?));
        Some(match event {
            Some(event) => Next::Event(last + 1, event.clone()),
            None => Next::Resync(ring.newest()),
        })
    }

    fn newest(&self) -> u64 {
        self.lock().newest()
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn newest(&self) -> u64 {
        self.first + self.events.len() as u64 - 1
    }
}

/// The response.
pub(super) fn stream(
    events: &Arc<Events>,
    headers: &HeaderMap,
    ended: &CancellationToken,
) -> Sse<impl Stream<Item = Result<Event, Infallible>> + use<>> {
    // Without an id (or with nonsense) a reader begins with now.
    let last = headers
        .get("last-event-id")
        .and_then(|v| v.to_str().ok()?.trim().parse().ok())
        .unwrap_or_else(|| events.newest());
    let state = (Arc::clone(events), events.newest.subscribe(), last, ended.clone());
    let stream = stream::unfold(state, |(events, mut newest, last, ended)| async move {
        loop {
            newest.borrow_and_update();
            if let Some(next) = events.after(last) {
                let (last, event) = match next {
                    Next::Event(id, touched) => {
                        let data = serde_json::to_string(&touched).unwrap_or_default();
                        (id, Event::default().event("touched").data(data))
                    }
                    Next::Resync(id) => (id, Event::default().event("resync").data("{}")),
                };
                let event = event.id(last.to_string());
                return Some((Ok(event), (events, newest, last, ended)));
            }
            tokio::select! {
                changed = newest.changed() => changed.ok()?,
                () = ended.cancelled() => return None,
            }
        }
    });
    Sse::new(stream).keep_alive(KeepAlive::new().interval(Duration::from_secs(15)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touched(n: u8) -> Touched {
        let topics = Some(BTreeSet::from([TopicId([n; 32])]));
        Touched { views: BTreeSet::from([View::Chats]), queries: BTreeSet::new(), topics }
    }

    #[test]
    fn a_reader_resumes_where_it_was() {
        let events = Events::new(100);
        assert_eq!(events.after(100), None);
        events.push(touched(1));
        events.push(touched(2));
        assert_eq!(events.after(100), Some(Next::Event(101, touched(1))));
        assert_eq!(events.after(101), Some(Next::Event(102, touched(2))));
        assert_eq!(events.after(102), None);
    }

    #[test]
    fn a_reader_from_before_or_from_elsewhere_starts_anew() {
        let events = Events::new(100);
        for id in [0, 99, 103, u64::MAX] {
            assert_eq!(events.after(id), Some(Next::Resync(100)), "{id}");
        }
        for _ in 0..=KEPT {
            events.push(touched(1));
        }
        let newest = 101 + KEPT as u64;
        assert_eq!(events.after(100), Some(Next::Resync(newest)), "fell out of the ring");
        assert_eq!(events.after(101), Some(Next::Event(102, touched(1))));
        assert_eq!(events.after(newest), None);
    }
}
