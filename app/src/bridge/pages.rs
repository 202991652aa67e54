//! Serves the pages: one task each, so that a page that takes long keeps nobody waiting.

use std::collections::BTreeMap;
use std::sync::Arc;

use teahouse_node::Handle;
use teahouse_node::tokio::sync::watch;
use teahouse_node::tokio::task::{JoinSet, spawn_blocking};
use teahouse_node::tokio::time::{Instant, sleep_until};
use teahouse_node::{NodeError, tokio};

use super::live::{PACE, RETRY, next_midnight, now};
use super::{Outlet, Ports};
use crate::pages::{Around, Entry, PAGES, PageId, Shared};
use crate::vm::Zone;

/// The tasks, and what each was asked for last.
pub(super) struct Pages {
    asks: BTreeMap<PageId, watch::Sender<Shared>>,
    tasks: JoinSet<()>,
}

impl Pages {
    /// Begins to serve all pages from a node.
    pub(super) fn start(handle: &Handle, zone: &Arc<Zone>, ports: &Ports) -> Self {
        let mut pages = Self { asks: BTreeMap::new(), tasks: JoinSet::new() };
        for page in PAGES {
            let (asks, asked) = watch::channel((page.first)());
            pages.asks.insert(page.id, asks);
            let out = ports.outlet.clone();
            pages.tasks.spawn(serve(page, handle.clone(), Arc::clone(zone), asked, out));
        }
        pages
    }

    /// A page wants to see something else.
    pub(super) fn ask(&self, page: PageId, ask: Shared) {
        if let Some(asks) = self.asks.get(page) {
            asks.send_replace(ask);
        }
    }

    /// Ends them all: nothing more is published after this.
    pub(super) async fn end(mut self) {
        self.tasks.shutdown().await;
    }
}

async fn serve(
    page: &'static Entry,
    handle: Handle,
    zone: Arc<Zone>,
    mut asked: watch::Receiver<Shared>,
    out: Outlet,
) {
    // Subscribed before the first query runs: nothing falls in between.
    let mut changes = handle.changes();
    let mut model: Option<Shared> = None;
    let (mut due, mut fresh) = (true, true);
    let mut not_before = Instant::now();
    let mut midnight = next_midnight(&zone);
    loop {
        tokio::select! {
            biased;
            ask = asked.changed() => {
                if ask.is_err() {
                    return;
                }
                due = true;
                not_before = Instant::now();
            }
            more = changes.next() => {
                let Some(more) = more else { return };
                if (page.depends)(&more) {
                    (due, fresh) = (true, true);
                }
            }
            () = sleep_until(not_before), if due => {
                let ask = asked.borrow_and_update().clone();
                let (handle, zone, was) = (handle.clone(), Arc::clone(&zone), model.clone());
                let new = spawn_blocking(move || {
                    let snapshot = handle.snapshot()?;
                    let (was, now) = (was.as_ref(), now());
                    let around = Around { snapshot: &snapshot, was, fresh, now, zone: &zone };
                    (page.load)(&ask, &around).map_err(NodeError::from)
                });
                match new.await {
                    Ok(Ok(new)) => {
                        if let Some(new) = new {
                            model = Some(new.clone());
                            out.page(page.id, Ok(new));
                        }
                        (due, fresh) = (false, false);
                        not_before = Instant::now() + PACE;
                    }
                    Ok(Err(e)) => {
                        out.page(page.id, Err(e.to_string().into()));
                        // Its words must be replaced, though the model be the same.
                        (model, fresh) = (None, true);
                        not_before = Instant::now() + RETRY;
                    }
                    // It panicked, and told so on standard error. Only this page is lost.
                    Err(_) => return out.page(page.id, Err("a query crashed".into())),
                }
            }
            () = sleep_until(midnight) => {
                // "Today" has become "yesterday".
                (due, fresh) = (true, true);
                midnight = next_midnight(&zone);
            }
        }
    }
}
