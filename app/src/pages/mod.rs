//! Pages: what each feature shows in the window, all of one shape.
//!
//! A page has two halves. The bridge's half (`Page::depends`, `Page::load`) turns the
//! node's data into a model, on a worker, when what it reads has changed or when the page asks
//! for something else. The window's half draws that model, keeps what a person is doing, and
//! hands commands over. Each page is served by a task of its own: none waits for another, nor
//! for the chats.
//!
//! To add one: a folder here with a type that is a `Page`, its `words`, and a line in
//! `PAGES`. The rail, the bridge and the shell go by that list.

pub mod feeds;
pub mod moments;
pub mod programs;
pub mod wallet;

use core::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use egui::{Painter, Pos2, Stroke, Ui};
use teahouse_node::core::command::Command;
use teahouse_node::core::store::{ChangeSet, Snapshot, StorageError};
use teahouse_node::protocols::ids::Millis;

use crate::bridge::Answer;
use crate::desk::{After, Desk};
use crate::screens::composer::Ime;
use crate::vm::{Model, Zone};

/// All pages, in the rail's order.
pub(crate) static PAGES: &[Entry] = &[
    Entry::of::<moments::Moments>(),
    Entry::of::<feeds::Feeds>(),
    Entry::of::<wallet::Wallet>(),
    Entry::of::<programs::Programs>(),
];

/// A page's name within the app.
pub type PageId = &'static str;

/// A page.
pub(crate) trait Page: Default + 'static {
    /// What the window wants to see: how many, which one. The default is what is kept while
    /// nobody has looked yet, enough for the badge.
    type Ask: Default + Clone + PartialEq + Send + Sync + 'static;
    /// What is drawn.
    type Model: PartialEq + Send + Sync + 'static;

    /// Its name within the app.
    const ID: PageId;

    /// What the rail calls it.
    fn title() -> &'static str;

    /// Its symbol, about 20 points wide. Drawn by hand: fonts differ in what symbols they have.
    fn icon(painter: &Painter, center: Pos2, pen: Stroke);

    /// Whether the model may differ after these changes: what its queries say.
    fn depends(changes: &ChangeSet) -> bool;

    /// Makes the model. Runs on a worker, may read the disk, and is bounded.
    fn load(ask: &Self::Ask, around: &Around<'_, Self::Model>)
    -> Result<Self::Model, StorageError>;

    /// What the window wants to see now. Asked after every frame.
    fn ask(&self) -> Self::Ask;

    /// A new model came, whether the page is on the screen or not.
    fn take(&mut self, _model: &Arc<Self::Model>) {}

    /// How many new things wait.
    fn badge(&self) -> u64 {
        0
    }

    /// Draws the page, in all the room right of the rail.
    fn ui(&mut self, ui: &mut Ui, model: &Arc<Self::Model>, cx: &mut Cx<'_>);

    /// The answer to a command of [`Cx::submit`]. A refusal is told by the shell.
    fn answered(&mut self, _answer: &Answer) {}

    /// Escape: goes one step back; `false` if there is none within the page.
    fn back(&mut self) -> bool {
        false
    }

    /// It came on the screen, or is on it no longer.
    fn looked_at(&mut self, _on: bool, _desk: &mut Desk) {}
}

/// What a model is made from.
pub(crate) struct Around<'a, M> {
    pub(crate) snapshot: &'a Snapshot,
    /// The last model.
    pub(crate) was: Option<&'a M>,
    /// Whether what the page depends on may have changed since; else only the ask has.
    pub(crate) fresh: bool,
    pub(crate) now: Millis,
    pub(crate) zone: &'a Zone,
}

/// What a page may use of the window around it.
pub(crate) struct Cx<'a> {
    /// Who one is, contacts, chats.
    pub(crate) app: &'a Model,
    /// Other places, questions, remarks.
    pub(crate) desk: &'a mut Desk,
    pub(crate) ime: Ime,
    id: PageId,
}

impl Cx<'_> {
    /// Asks the node; the answer comes to [`Page::answered`] with this ticket.
    pub(crate) fn submit(&mut self, command: Command) -> u64 {
        self.desk.submit(command, After::Page(self.id))
    }
}

/// A value of some page, where nobody needs to know which type it is.
#[derive(Clone)]
pub struct Shared(Arc<dyn Any + Send + Sync>);

impl Shared {
    /// Wraps a value.
    pub fn new<T: Any + Send + Sync>(value: T) -> Self {
        Self(Arc::new(value))
    }

    /// The value, if it is of this type.
    pub fn get<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        Arc::clone(&self.0).downcast().ok()
    }

    fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl core::fmt::Debug for Shared {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Shared")
    }
}

/// Models of pages, as far as they have come; or why there is none, in words.
pub type Models = BTreeMap<PageId, Result<Shared, Arc<str>>>;

/// A page as the shell and the bridge know it.
pub(crate) struct Entry {
    pub(crate) id: PageId,
    pub(crate) title: fn() -> &'static str,
    pub(crate) icon: fn(&Painter, Pos2, Stroke),
    pub(crate) depends: fn(&ChangeSet) -> bool,
    pub(crate) first: fn() -> Shared,
    pub(crate) load: fn(&Shared, &Around<'_, Shared>) -> Result<Option<Shared>, StorageError>,
    pub(crate) open: fn() -> Box<dyn Screen>,
}

impl Entry {
    const fn of<P: Page>() -> Self {
        Self {
            id: P::ID,
            title: P::title,
            icon: P::icon,
            depends: P::depends,
            first: || Shared::new(P::Ask::default()),
            load: load::<P>,
            open: || Box::new(Open { page: P::default(), model: None, asked: P::Ask::default() }),
        }
    }

    /// The page of this name.
    pub(crate) fn find(id: PageId) -> Option<&'static Self> {
        PAGES.iter().find(|p| p.id == id)
    }
}

/// The next model; `None` if it is the same.
fn load<P: Page>(
    ask: &Shared,
    around: &Around<'_, Shared>,
) -> Result<Option<Shared>, StorageError> {
    let ask = ask.get::<P::Ask>().unwrap_or_default();
    let was = around.was.and_then(Shared::get::<P::Model>);
    let Around { snapshot, fresh, now, zone, .. } = *around;
    let around = Around { snapshot, was: was.as_deref(), fresh, now, zone };
    let new = P::load(&ask, &around)?;
    Ok((was.as_deref() != Some(&new)).then(|| Shared::new(new)))
}

/// A page's window half, whatever its types.
pub(crate) trait Screen {
    /// Takes the newest model.
    fn take(&mut self, model: &Shared);
    /// What to ask of the bridge, if that has changed.
    fn ask(&mut self) -> Option<Shared>;
    /// How many new things wait.
    fn badge(&self) -> u64;
    /// Draws; `false` while there is no model yet.
    fn ui(&mut self, ui: &mut Ui, id: PageId, app: &Model, desk: &mut Desk, ime: Ime) -> bool;
    /// An answer came.
    fn answered(&mut self, answer: &Answer);
    /// Escape.
    fn back(&mut self) -> bool;
    /// It came on the screen, or is on it no longer.
    fn looked_at(&mut self, on: bool, desk: &mut Desk);
}

struct Open<P: Page> {
    page: P,
    model: Option<(Shared, Arc<P::Model>)>,
    asked: P::Ask,
}

impl<P: Page> Screen for Open<P> {
    fn take(&mut self, model: &Shared) {
        if self.model.as_ref().is_some_and(|(shared, _)| shared.same(model)) {
            return;
        }
        let Some(own) = model.get::<P::Model>() else { return };
        self.page.take(&own);
        self.model = Some((model.clone(), own));
    }

    fn ask(&mut self) -> Option<Shared> {
        let ask = self.page.ask();
        (ask != self.asked).then(|| {
            self.asked = ask.clone();
            Shared::new(ask)
        })
    }

    fn badge(&self) -> u64 {
        self.page.badge()
    }

    fn ui(&mut self, ui: &mut Ui, id: PageId, app: &Model, desk: &mut Desk, ime: Ime) -> bool {
        let Some((_, model)) = &self.model else { return false };
        self.page.ui(ui, model, &mut Cx { app, desk, ime, id });
        true
    }

    fn answered(&mut self, answer: &Answer) {
        self.page.answered(answer);
    }

    fn back(&mut self) -> bool {
        self.page.back()
    }

    fn looked_at(&mut self, on: bool, desk: &mut Desk) {
        self.page.looked_at(on, desk);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::PAGES;

    #[test]
    fn pages_have_names_of_their_own() {
        let names: BTreeSet<_> = PAGES.iter().map(|p| p.id).collect();
        assert_eq!(names.len(), PAGES.len());
    }
}
