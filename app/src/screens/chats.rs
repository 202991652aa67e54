//! The chat list.

use egui::{ScrollArea, Ui};
use teahouse_node::core::command::{Chat, Command};
use teahouse_node::protocols::ids::TopicId;

use crate::desk::{After, Desk, Go};
use crate::screens::dialogs::Dialog;
use crate::strings;
use crate::vm::{ChatRow, Model};
use crate::widgets::{field, from_right, hint, row::Row};

/// What is being done.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) filter: String,
    /// Put the keyboard's focus into the filter.
    pub(crate) focus: bool,
}

impl State {
    /// The chats that the list shows now: by name, what was taken off it is found too.
    pub(crate) fn shown<'m>(&self, model: &'m Model) -> impl Iterator<Item = &'m ChatRow> {
        let filter = self.filter.trim().to_lowercase();
        model.chats.iter().filter(move |c| {
            (!c.hidden || !filter.is_empty()) && c.title.to_lowercase().contains(&filter)
        })
    }
}

/// What can be done with a chat from the list.
fn menu(ui: &mut Ui, chat: &ChatRow, desk: &mut Desk) {
    let topic = chat.topic;
    let mut item = |shown: bool, words: &str, command: Chat| {
        if shown && ui.button(words).clicked() {
            desk.submit(Command::Chat(command), After::Nothing);
            ui.close();
        }
    };
    item(chat.unread > 0, strings::chat_mark_read(), Chat::MarkRead { topic });
    item(!chat.hidden, strings::chat_hide(), Chat::Hide { topic });
}

pub(crate) fn show(
    ui: &mut Ui,
    state: &mut State,
    model: &Model,
    open: Option<TopicId>,
    desk: &mut Desk,
) {
    egui::Frame::new().inner_margin(12).show(ui, |ui| {
        from_right(ui, |ui| {
            let plus = ui.button("+").accessible_name(strings::chats_new_group());
            if plus.on_hover_text(strings::chats_new_group()).clicked() {
                desk.go(Go::Dialog(Dialog::new_group()));
            }
            let words = strings::chats_filter();
            let response = field(ui, &mut state.filter, words, words);
            if core::mem::take(&mut state.focus) {
                response.request_focus();
            }
        });
    });
    ScrollArea::vertical().id_salt("chats").auto_shrink(false).show(ui, |ui| {
        ui.spacing_mut().item_spacing.y = 0.0;
        let mut none = true;
        for chat in state.shown(model) {
            none = false;
            let chosen = open == Some(chat.topic);
            // The draft of the open chat is in its composer, for all to see.
            let draft = if chosen { "" } else { chat.draft.trim() };
            let line: String = draft.chars().take(200).collect();
            let response = ui
                .push_id(chat.topic.0, |ui| {
                    Row {
                        id: chat.peer.map_or(chat.topic.0, |p| p.0),
                        title: &chat.title,
                        mark: if draft.is_empty() { "" } else { strings::chat_draft() },
                        line: if draft.is_empty() { &chat.preview } else { &line },
                        when: &chat.when,
                        unread: chat.unread,
                        chosen,
                    }
                    .show(ui)
                })
                .inner;
            if response.clicked() {
                desk.go(Go::Chat(chat.topic));
            }
            response.context_menu(|ui| menu(ui, chat, desk));
        }
        if none {
            let words = if model.chats.is_empty() {
                strings::chats_none()
            } else {
                strings::chats_none_found()
            };
            egui::Frame::new().inner_margin(16).show(ui, |ui| hint(ui, words));
        }
    });
}
