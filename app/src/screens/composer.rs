//! Where a message is written. What was sent stays visible as "sending" until the node says
//! that it is durable, and comes back into the field if it says no.

use egui::{Event, ImeEvent, Key, RichText, ScrollArea, TextEdit, Ui};
use teahouse_node::core::command::{Chat, Command, MessageId};
use teahouse_node::core::photos::NewPhoto;
use teahouse_node::protocols::ids::TopicId;
use teahouse_node::protocols::photo::MAX_CAPTION;

use crate::desk::{After, Desk};
use crate::photos::tray::Tray;
use crate::photos::words;
use crate::strings;
use crate::theme::{space, tokens};
use crate::widgets::primary;

/// Messages on their way to the node at most; it takes milliseconds each.
const MOST_SENDING: usize = 16;
/// The node's bound on a message.
const MOST_BYTES: usize = 64 * 1024;
/// The node's bound on a draft.
const MOST_DRAFT: usize = 4 * 1024;
/// Seconds without typing after which the draft is kept.
const DRAFT_AFTER: f64 = 1.0;

/// The composer of one chat.
#[derive(Debug, Default)]
pub(crate) struct Composer {
    pub(crate) text: String,
    pub(crate) reply: Option<Reply>,
    tray: Tray,
    sending: Vec<Sending>,
    /// See [`Composer::just_sent`].
    sent: bool,
    /// The draft that the node has.
    kept: String,
    /// When the text last changed, by egui's clock.
    typed: Option<f64>,
    focus: bool,
}

/// The message that is answered.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) id: MessageId,
    pub(crate) words: String,
}

#[derive(Debug)]
struct Sending {
    ticket: u64,
    text: String,
    photos: Vec<NewPhoto>,
    reply: Option<Reply>,
}

/// Whether an input method is composing: its Enter chooses a word and sends nothing.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Ime {
    composing: bool,
    busy: bool,
}

impl Ime {
    /// Whether Enter belongs to it in this frame.
    pub(crate) const fn busy(self) -> bool {
        self.busy
    }

    /// Takes a frame's events. On a frame that ends a composition, Enter still belongs to it.
    pub(crate) fn frame(&mut self, ui: &Ui) {
        self.busy = self.composing;
        ui.input(|i| {
            for event in &i.events {
                let Event::Ime(ime) = event else { continue };
                self.busy = true;
                match ime {
                    ImeEvent::Preedit { text, .. } => self.composing = !text.is_empty(),
                    ImeEvent::Commit(_) => self.composing = false,
                    _ => {}
                }
            }
        });
    }
}

impl Composer {
    /// A composer that goes on with a kept draft.
    pub(crate) fn new(draft: &str) -> Self {
        Self { text: draft.into(), kept: draft.into(), focus: true, ..Self::default() }
    }

    pub(crate) fn focus(&mut self) {
        self.focus = true;
    }

    /// Whether nothing would be lost without it.
    pub(crate) fn is_idle(&self) -> bool {
        self.sending.is_empty() && self.text == self.kept && self.tray.is_empty()
    }

    pub(crate) fn show(&mut self, ui: &mut Ui, topic: TopicId, ime: Ime, desk: &mut Desk) {
        let t = tokens(ui);
        for s in &self.sending {
            ui.horizontal(|ui| {
                ui.label(RichText::new(strings::compose_sending()).size(12.5).color(t.accent));
                let first = s.text.lines().next().unwrap_or_default();
                let line = if first.is_empty() { words::photo() } else { first };
                let line = RichText::new(line);
                ui.add(egui::Label::new(line.size(12.5).color(t.weak)).truncate());
            });
        }
        if let Some(reply) = self.reply.clone() {
            ui.horizontal(|ui| {
                let close = egui::Button::new("×").small().frame_when_inactive(false);
                if ui.add(close).accessible_name(strings::compose_cancel_reply()).clicked() {
                    self.reply = None;
                }
                ui.label(RichText::new(strings::compose_replying()).size(12.5).color(t.accent));
                let line = RichText::new(&reply.words).size(12.5).color(t.weak);
                ui.add(egui::Label::new(line).truncate());
            });
        }
        let id = egui::Id::unique(("composer", topic.0));
        self.tray.gather(ui, ui.memory(|m| m.has_focus(id)), desk);
        self.tray.show(ui, true, desk);
        // Asked before the field is drawn: it is then still focused by the key's own frame.
        let enter = ui.memory(|m| m.has_focus(id)) && !ime.busy && plain_enter(ui);
        let mut send = false;
        let size = egui::vec2(ui.available_width(), ui.spacing().interact_size.y);
        let layout = egui::Layout::right_to_left(egui::Align::Min);
        ui.allocate_ui_with_layout(size, layout, |ui| {
            let something = !self.text.trim().is_empty() || !self.tray.is_empty();
            let ready = something && !self.tray.busy();
            send = primary(ui, ready, strings::compose_send()).clicked() || (enter && ready);
            self.tray.button(ui, id, true, desk);
            ScrollArea::vertical().id_salt(id).max_height(150.0).show(ui, |ui| {
                let field = TextEdit::multiline(&mut self.text)
                    .id(id)
                    .hint_text(strings::compose_hint())
                    .desired_rows(1)
                    .desired_width(f32::INFINITY)
                    .margin(egui::Margin::symmetric(10, 7))
                    .return_key(egui::KeyboardShortcut::new(egui::Modifiers::SHIFT, Key::Enter));
                let response = ui.add(field).accessible_name(strings::compose_hint());
                if response.changed() {
                    self.typed = Some(ui.input(|i| i.time));
                }
                if core::mem::take(&mut self.focus) || (send && !enter) {
                    response.request_focus();
                }
            });
        });
        if send {
            self.send(topic, desk);
        }
        self.keep_later(ui, topic, desk);
        ui.add_space(space::SMALL);
    }

    /// Writes and sends, as a person would.
    pub(crate) fn say(&mut self, text: &str, topic: TopicId, desk: &mut Desk) {
        self.text = text.into();
        self.send(topic, desk);
    }

    fn send(&mut self, topic: TopicId, desk: &mut Desk) {
        let text = self.text.trim().to_owned();
        if text.len() > MOST_BYTES {
            return desk.toasts.bad(strings::compose_long());
        }
        if self.sending.len() >= MOST_SENDING {
            return desk.toasts.bad(strings::compose_full());
        }
        let photos = self.tray.photos();
        if !photos.is_empty() && text.len() > MAX_CAPTION {
            return desk.toasts.bad(words::too_long());
        }
        self.tray = Tray::default();
        let reply = self.reply.take();
        let (words, reply_to) = (text.clone(), reply.as_ref().map(|r| r.id));
        let command = if photos.is_empty() {
            Chat::Send { topic, text: words, reply_to, mentions: Vec::new() }
        } else {
            Chat::SendPhotos { topic, text: words, photos: photos.clone(), reply_to }
        };
        let ticket = desk.submit(Command::Chat(command), After::Sent(topic));
        self.sending.push(Sending { ticket, text, photos, reply });
        self.text.clear();
        self.sent = true;
    }

    /// Whether something was sent since this was asked last.
    pub(crate) fn just_sent(&mut self) -> bool {
        core::mem::take(&mut self.sent)
    }

    /// The node's answer to a message that was sent from here.
    pub(crate) fn answered(&mut self, ticket: u64, sent: bool) {
        let Some(at) = self.sending.iter().position(|s| s.ticket == ticket) else { return };
        let back = self.sending.remove(at);
        if sent {
            // The node's draft, if there is one, is now out of date.
            self.typed.get_or_insert(f64::NEG_INFINITY);
        } else {
            // In front of what was typed meanwhile.
            let gap = if self.text.is_empty() { "" } else { "\n" };
            self.text = format!("{}{gap}{}", back.text, self.text);
            self.reply = self.reply.take().or(back.reply);
            self.tray.give_back(back.photos);
        }
    }

    /// Keeps the draft once typing rests.
    fn keep_later(&mut self, ui: &Ui, topic: TopicId, desk: &mut Desk) {
        let Some(typed) = self.typed else { return };
        let rest = ui.input(|i| i.time) - typed;
        if rest >= DRAFT_AFTER && self.sending.is_empty() {
            self.keep(topic, desk);
        } else if rest < DRAFT_AFTER {
            ui.ctx().request_repaint_after_secs((DRAFT_AFTER - rest) as f32);
        }
    }

    /// Keeps the draft with the node, if it changed.
    pub(crate) fn keep(&mut self, topic: TopicId, desk: &mut Desk) {
        self.typed = None;
        let mut end = self.text.len().min(MOST_DRAFT);
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        let draft = &self.text[..end];
        if draft != self.kept {
            self.kept = draft.into();
            let draft = Chat::Draft { topic, text: draft.into() };
            desk.submit(Command::Chat(draft), After::Nothing);
        }
    }
}

/// Enter alone, pressed in this frame and not held.
fn plain_enter(ui: &Ui) -> bool {
    ui.input(|i| {
        i.events.iter().any(|e| {
            matches!(e, Event::Key { key: Key::Enter, pressed: true, repeat: false, modifiers, .. }
                if modifiers.is_none())
        })
    })
}
