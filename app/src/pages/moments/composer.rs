//! Where a post is written. The draft stays until the node says that the post is durable.

use egui::{Frame, Key, Label, Margin, Modifiers, Panel, RichText, ScrollArea, TextEdit, Ui};
use teahouse_node::core::command::Command;
use teahouse_node::core::moments::Command as Moment;
use teahouse_node::protocols::photo::MAX_CAPTION;

use super::audience::{Answer, Choice, Picker};
use super::words;
use crate::pages::Cx;
use crate::photos::tray::Tray;
use crate::theme::{SMALL, space, tokens};
use crate::widgets::{hint, primary};

/// Fewer bytes left than this are told.
const FEW: usize = 1_024;

/// The composer's state.
#[derive(Default)]
pub(super) struct Composer {
    open: bool,
    text: String,
    tray: Tray,
    choice: Choice,
    picker: Option<Picker>,
    /// While the post is on its way to the node.
    ticket: Option<u64>,
    focus: bool,
}

impl Composer {
    pub(super) fn open(&mut self) {
        self.open = true;
        self.focus = true;
    }

    pub(super) const fn is_open(&self) -> bool {
        self.open
    }

    pub(super) fn is_empty(&self) -> bool {
        self.text.trim().is_empty() && self.tray.is_empty()
    }

    /// Whether shortcuts of the page are for the page.
    pub(super) const fn takes_keys(&self) -> bool {
        self.picker.is_none()
    }

    /// Folds it away; what was written stays. `false` if it was.
    pub(super) fn close(&mut self) -> bool {
        core::mem::take(&mut self.open)
    }

    /// Ends the choice of the audience, as it was before. `false` if there was none.
    pub(super) fn choosing_ends(&mut self) -> bool {
        self.picker.take().is_some()
    }

    /// The node's answer, perhaps to the post.
    pub(super) fn answered(&mut self, ticket: u64, posted: bool) {
        if self.ticket == Some(ticket) {
            self.ticket = None;
            if posted {
                *self = Self::default();
            } else {
                self.open();
            }
        }
    }

    /// Draws it, if it is open; `true` when a post was handed over.
    pub(super) fn show(&mut self, ui: &mut Ui, cx: &mut Cx<'_>) -> bool {
        if !self.open || cx.app.me.revoked {
            return false;
        }
        let fill = tokens(ui).list;
        let high = ui.available_height();
        let frame = Frame::new().fill(fill).inner_margin(Margin::symmetric(16, 12));
        let shown = Panel::top("moments composer").frame(frame).show(ui, |ui| {
            let all = ui.available_width();
            let width = all.min(space::FEED);
            ui.horizontal_top(|ui| {
                ui.spacing_mut().item_spacing.x = 0.0;
                ui.add_space((all - width) / 2.0);
                ui.vertical(|ui| {
                    ui.set_width(width);
                    ui.spacing_mut().item_spacing.x = space::NORMAL;
                    self.write(ui, high, cx)
                })
                .inner
            })
            .inner
        });
        shown.inner
    }

    fn write(&mut self, ui: &mut Ui, high: f32, cx: &mut Cx<'_>) -> bool {
        let sending = self.ticket.is_some();
        let bytes = self.text.trim_end().len();
        let left = MAX_CAPTION.checked_sub(bytes);
        let ready = !self.is_empty() && left.is_some() && !sending && !self.tray.busy();
        let id = egui::Id::unique("moments text");
        let shortcut = ui.memory(|m| m.has_focus(id))
            && ui.input_mut(|i| i.consume_key(Modifiers::COMMAND, Key::Enter));
        if !sending {
            self.tray.gather(ui, ui.memory(|m| m.has_focus(id)), cx.desk);
        }
        let room = (high * 0.4).clamp(70.0, 260.0);
        ScrollArea::vertical().id_salt("moments text").max_height(room).show(ui, |ui| {
            let edit = TextEdit::multiline(&mut self.text)
                .id(id)
                .hint_text(words::text())
                .margin(Margin::symmetric(10, 8))
                .desired_rows(if room > 120.0 { 4 } else { 2 })
                .desired_width(f32::INFINITY);
            let response = ui.add_enabled(!sending, edit).accessible_name(words::text());
            if core::mem::take(&mut self.focus) {
                response.request_focus();
            }
        });
        ui.add_space(space::SMALL);
        self.tray.show(ui, !sending, cx.desk);
        let mut send = shortcut && ready && !cx.ime.busy();
        let t = tokens(ui);
        ui.horizontal_wrapped(|ui| {
            let words = self.choice.words(cx.app);
            let shown: String = words.chars().take(60).collect();
            let button = ui.button(format!("{}: {shown}", words::shown_to()));
            let button = button.accessible_name(words::shown_to_whom(&words));
            if button.on_hover_text(self.choice.how()).clicked() && !sending {
                self.picker = Some(Picker::new(&self.choice, cx.app));
            }
            let word = if sending { words::posting() } else { words::post() };
            send |= primary(ui, ready, word).on_hover_text(words::post_how()).clicked();
            self.tray.button(ui, id, !sending, cx.desk);
            if ui.button(words::close()).clicked() {
                self.open = false;
            }
            match left {
                Some(left) if left > FEW => {}
                Some(left) => {
                    hint(ui, &words::left(left));
                }
                None => {
                    let over = RichText::new(words::too_long()).color(t.danger);
                    ui.label(over);
                }
            }
        });
        let how = RichText::new(self.choice.how()).size(SMALL).color(t.weak);
        ui.add(Label::new(how).wrap());
        if send {
            let post = Moment::Post {
                text: self.text.trim_end().to_owned(),
                photos: self.tray.photos(),
                audience: self.choice.audience(),
            };
            self.ticket = Some(cx.submit(Command::Moments(post)));
        }
        send
    }

    /// The question to whom a post is shown, while it is asked.
    pub(super) fn choose(&mut self, ui: &Ui, cx: &Cx<'_>) {
        let Some(picker) = &mut self.picker else { return };
        match picker.show(ui, cx.app) {
            Answer::Open => return,
            Answer::Cancelled => {}
            Answer::Chosen(choice) => self.choice = choice,
        }
        self.picker = None;
        self.focus = true;
        ui.ctx().request_repaint();
    }
}
