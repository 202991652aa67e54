//! The keyboard's shortcuts.

use egui::{Key, Modifiers, Ui};

use super::Shell;
use crate::desk::{Go, Place};
use crate::screens::dialogs::Dialog;

impl Shell {
    /// Takes shortcuts before any field sees them.
    pub(super) fn keys(&mut self, ui: &Ui) {
        if self.model.me.account.is_none() {
            return;
        }
        let pressed =
            |modifiers: Modifiers, key: Key| ui.input_mut(|i| i.consume_key(modifiers, key));
        if pressed(Modifiers::COMMAND, Key::K) {
            self.dialog = Some(Dialog::go_to());
        }
        if pressed(Modifiers::COMMAND, Key::J) {
            self.place = Place::Contacts;
        }
        if pressed(Modifiers::COMMAND, Key::F) {
            self.place = Place::Chats;
            self.chats.focus = true;
        }
        let next =
            pressed(Modifiers::ALT, Key::ArrowDown) || pressed(Modifiers::COMMAND, Key::PageDown);
        let previous =
            pressed(Modifiers::ALT, Key::ArrowUp) || pressed(Modifiers::COMMAND, Key::PageUp);
        if next || previous {
            self.step_chat(next);
        }
        // An open menu takes Escape for itself.
        let popup = self.popup_was_open || ui.ctx().any_popup_open();
        if !popup && ui.input(|i| i.key_pressed(Key::Escape)) {
            self.back();
        }
    }

    fn step_chat(&mut self, next: bool) {
        let topics: Vec<_> = self.chats.shown(&self.model).map(|c| c.topic).collect();
        let at = self.open.and_then(|open| topics.iter().position(|t| *t == open));
        let to = match (at, next) {
            (None, _) => 0,
            (Some(at), true) => at + 1,
            (Some(at), false) => at.saturating_sub(1),
        };
        if let Some(topic) = topics.get(to) {
            self.desk.go(Go::Chat(*topic));
        }
    }

    /// One step back: what was opened last goes first.
    fn back(&mut self) {
        match self.place {
            Place::Chats => {
                let talk = self.open.and_then(|topic| self.talks.get_mut(&topic));
                match talk {
                    Some(talk) if talk.composer.reply.is_some() => talk.composer.reply = None,
                    Some(talk) if talk.details => talk.details = false,
                    _ if !self.chats.filter.is_empty() => self.chats.filter.clear(),
                    _ => self.leave_chat(),
                }
            }
            Place::Contacts if !self.contacts.filter.is_empty() => self.contacts.filter.clear(),
            Place::Contacts if self.person.is_some() => self.person = None,
            Place::Page(id) if self.pages.get_mut(id).is_some_and(|p| p.back()) => {}
            Place::Contacts | Place::Page(_) | Place::Me => self.place = Place::Chats,
        }
    }
}
