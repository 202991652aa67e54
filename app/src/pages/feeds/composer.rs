//! Where an article is written. The draft stays until the node says that it is published.

use std::sync::Arc;

use egui::{Frame, Id, Key, Label, Modifiers, Panel, RichText, ScrollArea, TextEdit, Ui};
use teahouse_node::core::command::Command;
use teahouse_node::core::feeds::Command as Act;
use teahouse_node::protocols::feed::{MAX_ARTICLE, MAX_TITLE};
use teahouse_node::protocols::ids::TopicId;

use super::markdown::Text;
use super::vm::{FeedRow, Reading};
use super::{draw, head, words};
use crate::pages::Cx;
use crate::photos::tray::Tray;
use crate::theme::{SMALL, space, tokens};
use crate::vm::{PhotoRow, one_line};
use crate::widgets::feed::Feed;
use crate::widgets::{field, hint, primary};

/// Fewer bytes left than this are told.
const FEW: usize = 2 * 1024;
/// The same for the title.
const FEW_OF_TITLE: usize = 64;

/// An article that is being written.
#[derive(Default)]
pub(super) struct Draft {
    title: String,
    text: String,
    tray: Tray,
    /// While it is on its way to the node.
    ticket: Option<u64>,
    published: bool,
    preview: Option<Preview>,
    focused: bool,
}

struct Preview {
    reading: Arc<Reading>,
    list: Feed<usize>,
}

/// What somebody did.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Done {
    /// They go on.
    Stay,
    /// They look at something else.
    Later,
    /// They want to know where a link leads.
    Link(String),
}

impl Draft {
    pub(super) fn is_empty(&self) -> bool {
        self.title.trim().is_empty() && self.text.trim().is_empty() && self.tray.is_empty()
    }

    /// Whether it was published: nothing of it is needed any more.
    pub(super) const fn is_done(&self) -> bool {
        self.published
    }

    /// The node's answer, perhaps to this one; whether it was published.
    pub(super) fn answered(&mut self, ticket: u64, published: bool) -> bool {
        if self.ticket != Some(ticket) {
            return false;
        }
        self.ticket = None;
        self.published = published;
        published
    }

    /// Goes back to the text; `false` if it was not left.
    pub(super) fn end_preview(&mut self) -> bool {
        self.preview.take().is_some()
    }

    /// Draws it.
    pub(super) fn show(
        &mut self,
        ui: &mut Ui,
        feed: TopicId,
        row: &FeedRow,
        cx: &mut Cx<'_>,
    ) -> Done {
        let mut done = Done::Stay;
        let sending = self.ticket.is_some();
        let (title, text) = (self.title.trim().len(), self.text.trim_end().len());
        let fits = title <= MAX_TITLE && text <= MAX_ARTICLE;
        let ready = title > 0 && fits && !sending && !self.tray.busy() && !cx.app.me.revoked;
        let mut publish = false;
        head(ui, &row.name, |ui| {
            let word = if sending { words::publishing() } else { words::publish() };
            publish = primary(ui, ready, word).on_hover_text("Ctrl+Enter").clicked();
            let previews = self.preview.is_some();
            let word = if previews { words::go_on_writing() } else { words::preview() };
            if ui.button(word).clicked() {
                self.preview = if previews { None } else { Some(self.preview()) };
            }
            if ui.button(words::later()).clicked() {
                done = Done::Later;
            }
        });
        if let Some(preview) = &mut self.preview {
            let previews = &mut cx.desk.previews;
            let act = ui.push_id("preview", |ui| {
                draw::show(ui, &preview.reading, &mut preview.list, previews)
            });
            if let Some(draw::Act::Link(link)) = act.inner {
                done = preview.reading.text.links.get(link).cloned().map_or(done, Done::Link);
            }
        } else {
            publish |= self.write(ui, ready, sending, cx);
        }
        if publish && ready && !cx.ime.busy() {
            let publish = Act::Publish {
                feed,
                title: self.title.trim().to_owned(),
                text: self.text.trim_end().to_owned(),
                photos: self.tray.photos(),
            };
            self.ticket = Some(cx.submit(Command::Feeds(publish)));
        }
        done
    }

    /// The fields; whether the shortcut to publish was pressed.
    fn write(&mut self, ui: &mut Ui, ready: bool, sending: bool, cx: &mut Cx<'_>) -> bool {
        let id = Id::unique("feeds article");
        let focused = ui.memory(|m| m.has_focus(id));
        let shortcut =
            focused && ui.input_mut(|i| i.consume_key(Modifiers::COMMAND, Key::Enter)) && ready;
        if !sending {
            self.tray.gather(ui, focused, cx.desk);
        }
        let t = tokens(ui);
        let frame = Frame::new().inner_margin(draw::MARGIN);
        Panel::bottom("feeds photos").frame(frame).show_separator_line(false).show(ui, |ui| {
            self.tray.show(ui, !sending, cx.desk);
            ui.horizontal_wrapped(|ui| {
                self.tray.button(ui, id, !sending, cx.desk);
                let bytes = self.text.trim_end().len();
                room(ui, MAX_ARTICLE.checked_sub(bytes), FEW);
                let how = RichText::new(words::public_how()).size(SMALL).color(t.weak);
                ui.add(Label::new(how).wrap());
            });
        });
        Frame::new().inner_margin(draw::MARGIN).show(ui, |ui| {
            ui.add_enabled_ui(!sending, |ui| {
                let words = words::article_title();
                let typed = field(ui, &mut self.title, words, words);
                if !core::mem::replace(&mut self.focused, true) {
                    typed.request_focus();
                }
            });
            room(ui, MAX_TITLE.checked_sub(self.title.trim().len()), FEW_OF_TITLE);
            ui.add_space(space::SMALL);
            let high = ui.available_height();
            ScrollArea::vertical().id_salt("feeds article").max_height(high).show(ui, |ui| {
                let line = ui.text_style_height(&egui::TextStyle::Body).max(1.0);
                let rows = ((high - 24.0) / line).clamp(3.0, 200.0);
                #[expect(clippy::cast_sign_loss, reason = "from 3 to 200")]
                let rows = rows as usize;
                let edit = TextEdit::multiline(&mut self.text)
                    .id(id)
                    .hint_text(words::article_hint())
                    .margin(egui::Margin::symmetric(10, 8))
                    .desired_rows(rows)
                    .desired_width(f32::INFINITY);
                ui.add_enabled(!sending, edit).accessible_name(words::article_text());
            });
        });
        shortcut
    }

    /// How it will look. Made once, when somebody asks.
    fn preview(&self) -> Preview {
        let photos: Vec<PhotoRow> = self
            .tray
            .photos()
            .into_iter()
            .map(|p| PhotoRow {
                hash: p.photo.hash,
                shape: (p.photo.width.max(1), p.photo.height.max(1)),
                bytes: p.photo.size,
                preview: Some(p.preview.0.into()),
            })
            .collect();
        let title = one_line(self.title.trim());
        let reading = Reading {
            title: Some(if title.is_empty() { words::article_title().into() } else { title }),
            by: words::preview().into(),
            text: Text::read(&self.text, photos.len()),
            photos,
        };
        Preview { reading: Arc::new(reading), list: Feed::default() }
    }
}

/// Says how many bytes are left, where they are few.
fn room(ui: &mut Ui, left: Option<usize>, few: usize) {
    match left {
        Some(left) if left > few => {}
        Some(left) => {
            hint(ui, &words::left(left));
        }
        None => {
            ui.label(RichText::new(words::too_long()).color(tokens(ui).danger));
        }
    }
}
