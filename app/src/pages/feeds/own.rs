//! One's own accounts: opening and naming them, links, automatic replies.

use std::sync::Arc;

use egui::{Label, RichText, Ui};
use teahouse_node::core::command::{Command, Reply};
use teahouse_node::core::feeds::Command as Act;
use teahouse_node::core::replies::{Automatic, Command as Answering, MAX_TEXT};
use teahouse_node::protocols::ids::TopicId;

use super::vm::FeedRow;
use super::{View, words};
use crate::bridge::Answer;
use crate::pages::Cx;
use crate::theme::SMALL;
use crate::vm::Qr;
use crate::widgets::{area, field, hint, page, primary, qr, section};

/// Longest name, in bytes.
const MAX_NAME: usize = 64;
/// Longest description, in bytes.
const MAX_ABOUT: usize = 1_024;

/// What is being done.
#[derive(Default)]
pub(super) struct Own {
    /// The feed that the form is about; none for a new one.
    of: Option<TopicId>,
    name: String,
    about: String,
    service: bool,
    /// While the form is on its way to the node.
    saving: Option<u64>,
    /// A feed that was just made or followed: the model does not have it yet.
    pub(super) made: Option<TopicId>,
    /// While a link is being made, and the link.
    making: Option<(TopicId, u64)>,
    shared: Option<(TopicId, String, Option<Arc<Qr>>)>,
    /// What is being typed as automatic reply; `None` while it is as the node has it.
    reply: Option<String>,
}

impl Own {
    /// A form that says what a feed is now, or an empty one.
    pub(super) fn begin(&mut self, row: Option<&FeedRow>) {
        self.of = row.map(|r| r.topic);
        self.name = row.map_or_else(String::new, |r| r.name.clone());
        self.about = row.map_or_else(String::new, |r| r.about.clone());
        self.service = row.is_some_and(|r| r.service);
    }

    /// The node's answer, perhaps to one of this; where it leads from here.
    pub(super) fn answered(&mut self, answer: &Answer, from: View) -> Option<View> {
        let ticket = answer.ticket;
        if self.saving == Some(ticket) {
            self.saving = None;
            return match (&answer.result, from) {
                (Ok(Reply::Topic { topic }), _) => {
                    self.made = Some(*topic);
                    self.begin(None);
                    Some(View::Articles(*topic))
                }
                (Ok(_), View::Describe(feed)) => Some(View::Articles(feed)),
                _ => None,
            };
        }
        if let Some((feed, _)) = self.making.take_if(|(_, t)| *t == ticket)
            && let Ok(Reply::Link { link }) = &answer.result
        {
            self.shared = Some((feed, link.clone(), answer.qr.clone()));
        }
        None
    }

    /// The form for a new feed; `true` if somebody changed their mind.
    pub(super) fn create(&mut self, ui: &mut Ui, cx: &mut Cx<'_>) -> bool {
        if self.of.is_some() {
            self.begin(None);
        }
        self.form(ui, words::new_title(), words::create(), cx)
    }

    /// The form for what a feed is called; `true` if somebody changed their mind.
    pub(super) fn describe(&mut self, ui: &mut Ui, row: &FeedRow, cx: &mut Cx<'_>) -> bool {
        if self.of != Some(row.topic) {
            self.begin(Some(row));
        }
        let cancelled = self.form(ui, words::change_title(), words::save(), cx);
        if cancelled {
            self.begin(None);
        }
        cancelled
    }

    fn form(&mut self, ui: &mut Ui, title: &str, done: &str, cx: &mut Cx<'_>) -> bool {
        let mut cancelled = false;
        page(ui, "feeds form", |ui| {
            ui.heading(title);
            section(ui, words::name());
            let typed = field(ui, &mut self.name, words::name(), words::name());
            if self.name.is_empty() && ui.memory(|m| m.focused().is_none()) {
                typed.request_focus();
            }
            section(ui, words::about());
            area(ui, &mut self.about, words::about(), words::about());
            ui.checkbox(&mut self.service, words::is_service());
            hint(ui, words::public_how());
            let (name, about) = (self.name.trim(), self.about.trim());
            let fits = name.len() <= MAX_NAME && about.len() <= MAX_ABOUT;
            if !fits {
                ui.colored_label(crate::theme::tokens(ui).danger, words::too_long());
            }
            let saving = self.saving.is_some();
            let ready = fits && !name.is_empty() && !saving && !cx.app.me.revoked;
            ui.horizontal(|ui| {
                let word = if saving { words::saving() } else { done };
                if primary(ui, ready, word).clicked() {
                    let (name, about) = (name.to_owned(), about.to_owned());
                    let service = self.service;
                    let ask = match self.of {
                        Some(feed) => Act::Describe { feed, name, about, service },
                        None => Act::Create { name, about, service },
                    };
                    self.saving = Some(cx.submit(Command::Feeds(ask)));
                }
                cancelled = ui.button(words::cancel()).clicked();
            });
        });
        cancelled
    }

    /// A feed's link and QR code; `true` if that was seen. They are made when somebody says
    /// so: from then on this account's devices serve whoever asks.
    pub(super) fn link(&mut self, ui: &mut Ui, row: &FeedRow, cx: &mut Cx<'_>) -> bool {
        let shared = self.shared.clone().filter(|(feed, ..)| *feed == row.topic);
        let making = self.making.is_some_and(|(feed, _)| feed == row.topic);
        let mut back = false;
        page(ui, "feeds link", |ui| {
            ui.heading(&row.name);
            hint(ui, words::link_serves());
            match &shared {
                Some((_, link, code)) => {
                    match code {
                        Some(code) => {
                            qr::show(ui, code, 400.0, words::link_qr());
                        }
                        None => {
                            hint(ui, words::link_too_long());
                        }
                    }
                    let link_shown = RichText::new(link).monospace().size(SMALL);
                    ui.add(Label::new(link_shown).truncate());
                }
                None if making => {
                    hint(ui, words::link_making());
                }
                None => {}
            }
            ui.horizontal(|ui| {
                match &shared {
                    Some((_, link, _)) => {
                        if primary(ui, true, words::link_copy()).clicked() {
                            ui.ctx().copy_text(link.clone());
                            cx.desk.toasts.good(words::copied());
                        }
                    }
                    None => {
                        if primary(ui, !making, words::link_show()).clicked() {
                            let ask = Act::Share { feed: row.topic };
                            self.making = Some((row.topic, cx.submit(Command::Feeds(ask))));
                        }
                    }
                }
                back = ui.button(words::back()).clicked();
            });
        });
        if back {
            // The next one names where this device is met by then.
            self.shared = None;
        }
        back
    }

    /// What is answered automatically; `true` if somebody goes back.
    pub(super) fn replies(
        &mut self,
        ui: &mut Ui,
        now: Option<&Automatic>,
        cx: &mut Cx<'_>,
    ) -> bool {
        let mut back = false;
        page(ui, "feeds replies", |ui| {
            ui.heading(words::replies_title());
            hint(ui, words::replies_how());
            let here = now.map(|n| Some(n.device) == cx.app.me.device);
            ui.label(match here {
                Some(true) => words::replies_are_on(),
                Some(false) => words::replies_elsewhere(),
                None => words::replies_are_off(),
            });
            let known = || now.map_or_else(String::new, |n| n.text.clone());
            let text = self.reply.get_or_insert_with(known);
            area(ui, text, words::replies_text(), words::replies_text());
            let said = text.trim();
            let changed = here != Some(true) || now.is_none_or(|n| n.text != said);
            if said.len() > MAX_TEXT {
                ui.colored_label(crate::theme::tokens(ui).danger, words::too_long());
            }
            let ready = !said.is_empty() && said.len() <= MAX_TEXT && changed;
            ui.horizontal(|ui| {
                if primary(ui, ready, words::replies_on()).clicked() {
                    let text = said.to_owned();
                    cx.submit(Command::Replies(Answering::Set { text }));
                }
                if now.is_some() && ui.button(words::replies_off()).clicked() {
                    cx.submit(Command::Replies(Answering::Off));
                }
                back = ui.button(words::back()).clicked();
            });
        });
        if back {
            self.reply = None;
        }
        back
    }
}
