//! A conversation: header, messages, composer, and the details beside it.

use std::sync::Arc;

use egui::{Align, Button, Frame, Label, Layout, Margin, Panel, RichText, Ui};
use teahouse_node::core::command::{Chat, Command, MessageId};
use teahouse_node::core::view::{ChatKind, ChatState};
use teahouse_node::media::Which;
use teahouse_node::protocols::ids::TopicId;
use teahouse_node::protocols::link::Link;
use teahouse_node::protocols::membership::Role;

use crate::desk::{After, Desk, Go, Place};
use crate::pages::programs::{Card, PROGRAMS};
use crate::photos::viewer::{Album, Shot};
use crate::photos::words;
use crate::screens::composer::{Composer, Ime, Reply};
use crate::screens::dialogs::{Confirm, Dialog};
use crate::screens::{contacts, group};
use crate::strings;
use crate::theme::{SMALL, space, tokens};
use crate::vm::{Body, Conversation, MessageRow, Model, PhotoRow};
use crate::widgets::bubble::{self, Act, Rights};
use crate::widgets::message_list::MessageList;
use crate::widgets::{from_right, hint, nothing, section};

/// Messages asked for at first, and more each time the beginning is near.
pub(crate) const PAGE: usize = 200;

/// Seconds that can be chosen for messages to disappear after.
const TIMERS: [u32; 5] = [0, 3_600, 86_400, 7 * 86_400, 28 * 86_400];

/// What somebody is doing in a chat; kept while they are in another one.
#[derive(Debug)]
pub(crate) struct Talk {
    pub(crate) composer: Composer,
    pub(crate) details: bool,
    pub(crate) group: group::State,
    pub(crate) person: contacts::Card,
    list: MessageList,
    /// Messages asked for.
    pub(crate) limit: usize,
    /// The newest message when the chat was last marked as read.
    marked: Option<MessageId>,
    /// What the last frame showed.
    pub(crate) visible: core::ops::Range<usize>,
}

impl Talk {
    pub(crate) fn new(draft: &str) -> Self {
        Self {
            composer: Composer::new(draft),
            details: false,
            group: group::State::default(),
            person: contacts::Card::default(),
            list: MessageList::default(),
            limit: PAGE,
            marked: None,
            visible: 0..0,
        }
    }
}

pub(crate) fn show(
    ui: &mut Ui,
    talk: &mut Talk,
    model: &Model,
    topic: TopicId,
    ime: Ime,
    desk: &mut Desk,
) {
    let Some(conversation) = model.conversation.as_ref().filter(|c| c.topic == topic) else {
        nothing(ui, strings::conversation_opening());
        return;
    };
    header(ui, talk, conversation);
    if talk.details {
        let list = tokens(ui).list;
        Panel::right("details")
            .resizable(false)
            .exact_size(280.0)
            .frame(Frame::new().fill(list).inner_margin(Margin::symmetric(16, 8)))
            .show(ui, |ui| details(ui, talk, model, conversation, desk));
    }
    Panel::bottom("composer")
        .frame(Frame::new().inner_margin(Margin { left: 16, right: 16, top: 8, bottom: 8 }))
        .show_separator_line(false)
        .show(ui, |ui| {
            if !conversation.waiting.is_empty() {
                hint(ui, &conversation.waiting);
            }
            compose(ui, talk, model, conversation, ime, desk);
        });
    egui::CentralPanel::default_margins()
        .frame(Frame::new())
        .show(ui, |ui| messages(ui, talk, conversation, desk));
}

/// Where one writes, or why one can't.
fn compose(
    ui: &mut Ui,
    talk: &mut Talk,
    model: &Model,
    conversation: &Conversation,
    ime: Ime,
    desk: &mut Desk,
) {
    let topic = conversation.topic;
    match conversation.state {
        _ if model.me.revoked => {
            hint(ui, strings::revoked());
        }
        ChatState::Active => {
            talk.composer.show(ui, topic, ime, desk);
            // Who writes wants to see it.
            if talk.composer.just_sent() {
                talk.list.go_to_end();
            }
        }
        ChatState::Requested => {
            hint(ui, strings::conversation_waiting());
        }
        ChatState::Left => {
            hint(ui, strings::conversation_left());
        }
        ChatState::Blocked => {
            hint(ui, strings::conversation_blocked());
        }
    }
}

fn header(ui: &mut Ui, talk: &mut Talk, conversation: &Conversation) {
    let (list, weak) = (tokens(ui).list, tokens(ui).weak);
    Panel::top("header")
        .frame(Frame::new().fill(list).inner_margin(Margin::symmetric(16, 9)))
        .show(ui, |ui| {
            from_right(ui, |ui| {
                let button = Button::new(strings::conversation_details()).selected(talk.details);
                if ui.add(button).clicked() {
                    talk.details = !talk.details;
                }
                ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
                    ui.add(Label::new(RichText::new(&conversation.title).size(17.0)).truncate());
                    if conversation.kind == ChatKind::Group {
                        let words = strings::members(conversation.members.len());
                        ui.label(RichText::new(words).size(SMALL).color(weak));
                    }
                });
            });
            if !conversation.notice.is_empty() {
                let line = RichText::new(conversation.notice.as_str()).size(13.0).color(weak);
                ui.add(Label::new(line).truncate()).on_hover_text(&conversation.notice);
            }
        });
}

fn messages(ui: &mut Ui, talk: &mut Talk, conversation: &Arc<Conversation>, desk: &mut Desk) {
    if conversation.messages.is_empty() {
        nothing(ui, strings::conversation_empty());
        return;
    }
    let rights = Rights {
        kind: conversation.kind,
        write: conversation.writable(),
        hide: conversation.kind == ChatKind::Group && conversation.role >= Role::Admin,
    };
    let mut chosen: Option<(MessageRow, Act)> = None;
    let pane = ui.max_rect();
    let shown = talk.list.show(ui, conversation, |ui, row| {
        if let Some(act) = bubble::show(ui, row, rights, &mut desk.previews) {
            chosen = Some((row.clone(), act));
        }
    });
    talk.visible = shown.rows;
    if shown.early && conversation.more && talk.limit <= conversation.messages.len() {
        // The shell tells the link.
        talk.limit = conversation.messages.len() + PAGE;
    }
    if !shown.at_end && to_end(ui, pane, shown.below) {
        talk.list.go_to_end();
        talk.composer.focus();
        ui.ctx().request_repaint();
    }
    let newest = conversation.messages.last().map(|m| m.id);
    let looking = ui.input(|i| i.focused);
    if shown.at_end && looking && conversation.unread > 0 && talk.marked != newest {
        talk.marked = newest;
        let read = Chat::MarkRead { topic: conversation.topic };
        desk.submit(Command::Chat(read), After::Nothing);
    }
    if let Some((row, act)) = chosen {
        carry_out(ui, talk, conversation, &row, act, desk);
    }
}

/// The button that floats over the messages' lower edge.
fn to_end(ui: &mut Ui, pane: egui::Rect, below: usize) -> bool {
    let t = tokens(ui);
    let text = RichText::new(format!("↓ {}", strings::below(below))).size(13.0).color(t.on_accent);
    let button = Button::new(text).fill(t.accent).corner_radius(15);
    let place = egui::Rect::from_min_size(
        egui::pos2(pane.center().x - 90.0, pane.bottom() - 42.0),
        egui::vec2(180.0, 34.0),
    );
    let builder = egui::UiBuilder::new()
        .max_rect(place)
        .layout(Layout::centered_and_justified(egui::Direction::TopDown));
    let clicked = ui.scope_builder(builder, |ui| {
        ui.add(button).accessible_name(strings::below(below)).clicked()
    });
    clicked.inner
}

fn carry_out(
    ui: &Ui,
    talk: &mut Talk,
    conversation: &Conversation,
    row: &MessageRow,
    act: Act,
    desk: &mut Desk,
) {
    let (topic, message) = (conversation.topic, row.id);
    let text = match &row.body {
        Body::Text(text) | Body::Event(text) => text.as_str(),
        Body::Remark(words) => words,
    };
    match act {
        Act::Copy => {
            ui.ctx().copy_text(text.to_owned());
            desk.toasts.good(strings::copied());
        }
        Act::Reply => {
            let text = if text.is_empty() { words::photo() } else { text };
            let line: String = text.chars().take(120).collect();
            let words = line.replace('\n', " ");
            talk.composer.reply = Some(Reply { id: message, words });
            talk.composer.focus();
        }
        Act::React { emoji, on } => {
            let react = Chat::React { topic, message, emoji, on };
            desk.submit(Command::Chat(react), After::Nothing);
        }
        Act::Forward => desk.go(Go::Dialog(Dialog::forward(topic, message))),
        Act::Recall => {
            let what = if row.mine { strings::message_recall() } else { strings::message_hide() };
            desk.go(Go::Dialog(Dialog::Confirm(Confirm {
                what,
                whom: String::new(),
                how: strings::recall_how(),
                command: Command::Chat(Chat::Recall { topic, message }),
                after: After::Nothing,
            })));
        }
        Act::Photo(at) => {
            let shot = |(index, photo): (usize, &PhotoRow)| {
                let which = Which { topic, message, index: index as u8 };
                Shot::of(ui.ctx(), which, photo, &mut desk.previews)
            };
            let photos = row.photos.iter().enumerate().map(shot).collect();
            let author = conversation.members.iter().find(|m| m.account == row.author);
            let of = match author {
                _ if row.mine => strings::you().to_owned(),
                Some(author) => author.name.clone(),
                None => conversation.title.clone(),
            };
            desk.go(Go::Photos(Album { of, photos, at }));
        }
        Act::Program => {
            if let Some(link) = &row.program {
                desk.card = Some(Card {
                    app: link.app,
                    link: Link::Program(link.clone()).to_uri(),
                    launch: link.launch.to_string(),
                    chat: topic,
                });
                desk.go(Go::Place(Place::Page(PROGRAMS)));
            }
        }
        Act::Quoted => {
            if let Some(quote) = &row.quote {
                talk.list.go_to(quote.id);
                ui.ctx().request_repaint();
            }
        }
    }
}

fn details(
    ui: &mut Ui,
    talk: &mut Talk,
    model: &Model,
    conversation: &Conversation,
    desk: &mut Desk,
) {
    egui::ScrollArea::vertical().id_salt("details").auto_shrink(false).show(ui, |ui| {
        match (conversation.kind, conversation.peer.and_then(|p| model.contact(p))) {
            (ChatKind::Group, _) => group::details(ui, &mut talk.group, conversation, desk),
            (ChatKind::Direct, Some(person)) => {
                contacts::card(ui, &mut talk.person, model, person, desk);
            }
            (ChatKind::Direct, None) => {
                ui.add_space(space::LARGE);
                ui.label(&conversation.title);
            }
        }
        if conversation.writable() {
            timer(ui, conversation, desk);
        }
    });
}

/// After how long new messages disappear.
fn timer(ui: &mut Ui, conversation: &Conversation, desk: &mut Desk) {
    section(ui, strings::timer());
    let now = conversation.timer;
    let mut chosen = now;
    let menu = egui::ComboBox::from_id_salt("timer").selected_text(strings::timer_after(now));
    let menu = menu.show_ui(ui, |ui| {
        for seconds in TIMERS {
            ui.selectable_value(&mut chosen, seconds, strings::timer_after(seconds));
        }
    });
    menu.response.accessible_name(strings::timer());
    hint(ui, strings::timer_how());
    if chosen != now {
        let timer = Chat::Timer { topic: conversation.topic, seconds: chosen };
        desk.submit(Command::Chat(timer), After::Nothing);
    }
}
