//! Official Accounts: those that are followed and one's own, their articles, and where one
//! writes.
//!
//! - [`vm`]: what is shown, as plain values, and how it is made.
//! - [`markdown`]: an article's text as plain blocks.
//! - `list`: the accounts.
//! - `articles`: one account's articles.
//! - `draw`: an article.
//! - `composer`: where one is written.
//! - `own`: one's own accounts: opening and naming them, links, automatic replies.
//! - [`words`]: what the page says.

mod articles;
mod composer;
mod draw;
mod list;
pub mod markdown;
mod own;
pub mod vm;
pub mod words;

use std::collections::BTreeMap;
use std::sync::Arc;

use egui::{CentralPanel, Frame, Id, Label, Modal, Painter, Panel, Pos2, Rect, RichText, Stroke};
use egui::{StrokeKind, Ui, vec2};
use teahouse_node::core::command::{Command, MessageId, Reply};
use teahouse_node::core::feeds::Command as Act;
use teahouse_node::core::store::{ChangeSet, StorageError};
use teahouse_node::media::Which;
use teahouse_node::protocols::ids::TopicId;

use self::composer::Draft;
use self::own::Own;
use self::vm::{Ask, FeedRow, Key, MOST, PAGE, Press, Reading};
use super::{Around, Cx, Page, PageId};
use crate::bridge::Answer;
use crate::desk::{After, Go};
use crate::photos::viewer::{Album, Shot};
use crate::screens::dialogs::{Confirm, Dialog};
use crate::theme::{space, tokens};
use crate::widgets::feed::Feed;
use crate::widgets::{danger, from_right, hint, nothing, primary};

/// Articles that are being written, at most: one for each of so many feeds.
const MOST_DRAFTS: usize = 16;

/// What stands right of the list.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum View {
    /// Nothing was chosen.
    #[default]
    Nothing,
    /// A new feed.
    New,
    /// A feed's articles.
    Articles(TopicId),
    /// An article.
    Article(Key),
    /// A new article.
    Write(TopicId),
    /// What a feed is called.
    Describe(TopicId),
    /// Its link.
    Link(TopicId),
    /// Automatic replies; the feed from which one came.
    Replies(TopicId),
}

impl View {
    /// The feed that is chosen in the list.
    const fn feed(self) -> Option<TopicId> {
        match self {
            Self::Nothing | Self::New => None,
            Self::Articles(feed)
            | Self::Article((feed, _))
            | Self::Write(feed)
            | Self::Describe(feed)
            | Self::Link(feed)
            | Self::Replies(feed) => Some(feed),
        }
    }
}

/// The page's state.
#[derive(Default)]
pub(crate) struct Feeds {
    view: View,
    link: String,
    /// While that link is on its way to the node.
    following: Option<u64>,
    limit: usize,
    articles: Feed<Option<Key>>,
    /// The article whose place in it is kept.
    read: Option<Key>,
    article: Feed<usize>,
    drafts: BTreeMap<TopicId, Draft>,
    own: Own,
    /// Where a link leads that somebody chose.
    leading: Option<String>,
    /// What was said to be read, as the model had it.
    marked: Option<FeedRow>,
    unread: u64,
}

impl Page for Feeds {
    type Ask = Ask;
    type Model = Press;

    const ID: PageId = "feeds";

    fn title() -> &'static str {
        words::title()
    }

    /// A folded newspaper.
    fn icon(painter: &Painter, center: Pos2, pen: Stroke) {
        let page = Rect::from_center_size(center + vec2(-1.5, 0.0), vec2(17.0, 18.0));
        painter.rect_stroke(page, 2.0, pen, StrokeKind::Middle);
        let fold = [vec2(7.0, -4.0), vec2(10.5, -4.0), vec2(10.5, 9.0), vec2(7.0, 9.0)];
        painter.line(fold.map(|v| center + v).to_vec(), pen);
        for (y, end) in [(-4.5, 3.5), (0.0, 3.5), (4.5, 0.0)] {
            painter.hline(center.x - 6.5..=center.x + end, center.y + y, pen);
        }
    }

    fn depends(changes: &ChangeSet) -> bool {
        vm::depends(changes)
    }

    fn load(ask: &Ask, around: &Around<'_, Press>) -> Result<Press, StorageError> {
        vm::load(ask, around)
    }

    fn ask(&self) -> Ask {
        let article = match self.view {
            View::Article(key) => Some(key),
            _ => None,
        };
        Ask { feed: self.view.feed(), limit: self.limit.max(PAGE), article }
    }

    fn take(&mut self, model: &Arc<Press>) {
        self.unread = model.unread();
        // A feed that is no longer followed is no longer shown.
        if self.view.feed().is_some_and(|f| model.feed(f).is_none())
            && self.own.made != self.view.feed()
        {
            self.view = View::Nothing;
        }
        if self.own.made.is_some_and(|made| model.feed(made).is_some()) {
            self.own.made = None;
        }
    }

    fn badge(&self) -> u64 {
        self.unread
    }

    fn ui(&mut self, ui: &mut Ui, model: &Arc<Press>, cx: &mut Cx<'_>) {
        let fill = tokens(ui).list;
        Panel::left("feeds list")
            .default_size(space::LIST)
            .size_range(180.0..=420.0)
            .frame(Frame::new().fill(fill))
            .show(ui, |ui| self.list(ui, model, cx));
        CentralPanel::default_margins().frame(Frame::new()).show(ui, |ui| {
            self.right(ui, model, cx);
        });
        self.lead(ui, cx);
    }

    fn answered(&mut self, answer: &Answer) {
        let (ticket, done) = (Some(answer.ticket), answer.result.is_ok());
        if self.following == ticket {
            self.following = None;
            if let Ok(Reply::Topic { topic }) = answer.result {
                self.link.clear();
                self.own.made = Some(topic);
                self.open(topic);
            }
        }
        for (feed, draft) in &mut self.drafts {
            if draft.answered(answer.ticket, done) && self.view == View::Write(*feed) {
                self.view = View::Articles(*feed);
            }
        }
        self.drafts.retain(|_, draft| !draft.is_done());
        if let Some(view) = self.own.answered(answer, self.view) {
            self.view = view;
        }
    }

    fn back(&mut self) -> bool {
        if self.leading.take().is_some() {
            return true;
        }
        if let View::Write(feed) = self.view
            && self.drafts.get_mut(&feed).is_some_and(Draft::end_preview)
        {
            return true;
        }
        self.view = match self.view {
            View::Nothing => return false,
            View::New | View::Articles(_) => View::Nothing,
            View::Article((feed, _))
            | View::Write(feed)
            | View::Describe(feed)
            | View::Link(feed)
            | View::Replies(feed) => View::Articles(feed),
        };
        true
    }
}

impl Feeds {
    /// Shows a feed's articles, from the top.
    fn open(&mut self, feed: TopicId) {
        if self.view.feed() != Some(feed) {
            self.limit = PAGE;
            self.articles.go_to_top();
        }
        self.view = View::Articles(feed);
    }

    fn right(&mut self, ui: &mut Ui, model: &Press, cx: &mut Cx<'_>) {
        let row = self.view.feed().and_then(|f| model.feed(f));
        match (self.view, row) {
            (View::Nothing, _) if model.feeds.is_empty() => list::empty(ui),
            (View::Nothing, _) => nothing(ui, words::choose()),
            (View::New, _) => {
                if self.own.create(ui, cx) {
                    self.view = View::Nothing;
                }
            }
            // It was just followed or opened: its row is about to come.
            (_, None) => nothing(ui, crate::strings::conversation_opening()),
            (View::Articles(feed), Some(row)) => {
                self.mark(ui, row, cx);
                let listed = model.listed.as_ref().filter(|l| l.topic == feed);
                self.articles(ui, row, listed, cx);
            }
            (View::Article(key), Some(row)) => {
                let reading = model.article.as_ref().filter(|(k, _)| *k == key);
                self.read(ui, row, key, reading.map(|(_, r)| r.as_deref()), cx);
            }
            (View::Write(feed), Some(row)) => self.write(ui, feed, row, cx),
            (View::Describe(feed), Some(row)) => {
                if self.own.describe(ui, row, cx) {
                    self.view = View::Articles(feed);
                }
            }
            (View::Link(feed), Some(row)) => {
                if self.own.link(ui, row, cx) {
                    self.view = View::Articles(feed);
                }
            }
            (View::Replies(feed), Some(_)) => {
                if self.own.replies(ui, model.automatic.as_ref(), cx) {
                    self.view = View::Articles(feed);
                }
            }
        }
    }

    /// Somebody sees the articles: none of them is new any more.
    fn mark(&mut self, ui: &Ui, row: &FeedRow, cx: &mut Cx<'_>) {
        if row.unread == 0 || !ui.input(|i| i.focused) || self.marked.as_ref() == Some(row) {
            return;
        }
        self.marked = Some(row.clone());
        cx.submit(Command::Feeds(Act::Read { feed: row.topic }));
    }

    /// An article: `None` while it is looked for, `Some(None)` if there is none.
    #[expect(clippy::option_option, reason = "either may not be there")]
    fn read(
        &mut self,
        ui: &mut Ui,
        row: &FeedRow,
        key: Key,
        reading: Option<Option<&Reading>>,
        cx: &mut Cx<'_>,
    ) {
        let mut back = false;
        head(ui, &row.name, |ui| {
            back = ui.button(words::back()).clicked();
            if row.mine && reading.flatten().is_some() && danger(ui, words::delete()).clicked() {
                cx.desk.go(Go::Dialog(Dialog::Confirm(Confirm {
                    what: words::delete_what(),
                    whom: String::new(),
                    how: words::delete_how(),
                    command: Command::Feeds(Act::Delete { feed: key.0, article: key.1 }),
                    after: After::Nothing,
                })));
            }
        });
        if back {
            self.view = View::Articles(key.0);
        }
        if self.read != Some(key) {
            self.read = Some(key);
            self.article = Feed::default();
            self.article.go_to_top();
        }
        let Some(reading) = reading else {
            return nothing(ui, crate::strings::conversation_opening());
        };
        let Some(reading) = reading else { return nothing(ui, words::taken_back()) };
        let act =
            ui.push_id(key, |ui| draw::show(ui, reading, &mut self.article, &mut cx.desk.previews));
        match act.inner {
            Some(draw::Act::Link(link)) => self.leading = reading.text.links.get(link).cloned(),
            Some(draw::Act::Photo(at)) => photos(ui, key, reading, at, cx),
            None => {}
        }
    }

    fn write(&mut self, ui: &mut Ui, feed: TopicId, row: &FeedRow, cx: &mut Cx<'_>) {
        if !self.drafts.contains_key(&feed) && self.drafts.len() >= MOST_DRAFTS {
            let empty = self.drafts.iter().find(|(_, d)| d.is_empty()).map(|(feed, _)| *feed);
            if let Some(feed) = empty.or(self.drafts.keys().next().copied()) {
                self.drafts.remove(&feed);
            }
        }
        let draft = self.drafts.entry(feed).or_default();
        match draft.show(ui, feed, row, cx) {
            composer::Done::Stay => {}
            composer::Done::Later => self.view = View::Articles(feed),
            composer::Done::Link(to) => self.leading = Some(to),
        }
    }

    /// Where a link leads: it is shown, and never opened.
    fn lead(&mut self, ui: &Ui, cx: &mut Cx<'_>) {
        let Some(to) = &self.leading else { return };
        let frame = Frame::window(ui.style()).inner_margin(20);
        let shown = Modal::new(Id::unique("feeds link")).frame(frame).show(ui.ctx(), |ui| {
            ui.set_width(space::COLUMN.min(ui.ctx().content_rect().width() - 64.0));
            ui.spacing_mut().item_spacing.y = space::NORMAL;
            ui.label(RichText::new(words::link_title()).size(19.0));
            egui::ScrollArea::vertical().id_salt("address").max_height(160.0).show(ui, |ui| {
                ui.add(Label::new(RichText::new(to).monospace()).wrap().selectable(true));
            });
            hint(ui, words::link_how());
            ui.horizontal(|ui| {
                let copied = primary(ui, true, words::copy_address()).clicked();
                if copied {
                    ui.ctx().copy_text(to.clone());
                    cx.desk.toasts.good(words::copied());
                }
                copied || ui.button(words::close()).clicked()
            })
            .inner
        });
        if shown.inner || shown.backdrop_response.clicked() {
            self.leading = None;
            ui.ctx().request_repaint();
        }
    }
}

/// Shows an article's photos in full size.
fn photos(
    ui: &Ui,
    (topic, message): (TopicId, MessageId),
    r: &Reading,
    at: usize,
    cx: &mut Cx<'_>,
) {
    let shots = r.photos.iter().enumerate().map(|(index, photo)| {
        let which = Which { topic, message, index: index as u8 };
        Shot::of(ui.ctx(), which, photo, &mut cx.desk.previews)
    });
    let (of, photos) = (r.title.clone().unwrap_or_default(), shots.collect());
    cx.desk.go(Go::Photos(Album { of, photos, at }));
}

/// What stands above everything: a name, and at the right what can be done.
fn head(ui: &mut Ui, name: &str, actions: impl FnOnce(&mut Ui)) {
    let fill = tokens(ui).list;
    let frame = Frame::new().fill(fill).inner_margin(draw::MARGIN);
    Panel::top("feeds head").frame(frame).show(ui, |ui| {
        from_right(ui, |ui| {
            actions(ui);
            ui.with_layout(egui::Layout::left_to_right(egui::Align::Center), |ui| {
                ui.add(Label::new(RichText::new(name).size(17.0)).truncate());
            });
        });
    });
}

/// How many articles to ask for next.
const fn more(limit: usize) -> usize {
    if limit + PAGE < MOST { limit + PAGE } else { MOST }
}
