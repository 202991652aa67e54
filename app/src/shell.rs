//! The window: rail, list, conversation. Takes models and answers from the [`Link`], lets
//! the screens draw, and carries out what they noted on the desk.

mod keys;
mod tour;

use std::collections::BTreeMap;
use std::sync::Arc;

use egui::{CentralPanel, Frame, Margin, Panel, Ui, ViewportCommand};
use teahouse_node::core::command::Reply;
use teahouse_node::core::view::ChatKind;
use teahouse_node::protocols::ids::{AccountId, TopicId};

use crate::bridge::{Action, Answer, Link};
use crate::desk::{After, Desk, Go, Place};
use crate::pages::{PAGES, PageId, Screen};
use crate::photos::news::News;
use crate::photos::viewer::{Viewer, Wish};
use crate::screens::composer::Ime;
use crate::screens::conversation::{self, Talk};
use crate::screens::dialogs::{self, Dialog};
use crate::screens::{chats, contacts, me, rail, welcome};
use crate::strings;
use crate::theme::{space, tokens};
use crate::vm::{Model, Stage};
use crate::widgets::{hint, nothing, page};

pub use tour::{Outcome, Tour};

/// Chats whose composer and scroll position are remembered, at most.
const MOST_TALKS: usize = 64;

/// The window's state.
pub struct Shell {
    link: Box<dyn Link>,
    model: Arc<Model>,
    desk: Desk,
    place: Place,
    open: Option<TopicId>,
    person: Option<AccountId>,
    talks: BTreeMap<TopicId, Talk>,
    welcome: welcome::State,
    chats: chats::State,
    contacts: contacts::State,
    me: me::State,
    pages: BTreeMap<PageId, Box<dyn Screen>>,
    dialog: Option<Dialog>,
    viewer: Option<Viewer>,
    /// The page that is on the screen.
    looked_at: Option<PageId>,
    /// What the link was last told to keep in the model.
    shown: Option<(TopicId, usize)>,
    safety_of: Option<AccountId>,
    /// Alarms up to this time were hidden.
    alarms_hidden: Option<u64>,
    ime: Ime,
    /// Whether a menu was open at the end of the last frame: Escape is for it.
    popup_was_open: bool,
    /// Whether somebody was told that the words are shown only once.
    warned: bool,
    tour: Option<Tour>,
}

impl Shell {
    /// A window over a link.
    pub fn new(link: Box<dyn Link>) -> Self {
        Self {
            link,
            model: Arc::default(),
            desk: Desk::default(),
            place: Place::Chats,
            open: None,
            person: None,
            talks: BTreeMap::new(),
            welcome: welcome::State::default(),
            chats: chats::State::default(),
            contacts: contacts::State::default(),
            me: me::State::default(),
            pages: open_pages(),
            dialog: None,
            viewer: None,
            looked_at: None,
            shown: None,
            safety_of: None,
            alarms_hidden: None,
            ime: Ime::default(),
            popup_was_open: false,
            warned: false,
            tour: None,
        }
    }

    /// Lets a tour use the window.
    #[must_use]
    pub fn with_tour(mut self, tour: Tour) -> Self {
        self.tour = Some(tour);
        self
    }

    /// Which messages of the open conversation the last frame laid out, by their position.
    pub fn visible_messages(&self) -> Option<core::ops::Range<usize>> {
        self.open.and_then(|topic| self.talks.get(&topic)).map(|t| t.visible.clone())
    }

    /// Draws a frame.
    pub fn ui(&mut self, ui: &mut Ui) {
        self.ime.frame(ui);
        self.take(ui);
        if self.dialog.is_none() && self.viewer.is_none() {
            self.keys(ui);
        }
        let model = Arc::clone(&self.model);
        match &model.stage {
            Stage::Starting => {
                CentralPanel::default().show(ui, |ui| nothing(ui, strings::starting()));
            }
            Stage::Broken(why) => self.broken(ui, &model, why),
            Stage::Running if model.me.account.is_none() => {
                CentralPanel::default().frame(Frame::central_panel(ui.style())).show(ui, |ui| {
                    welcome::show(ui, &mut self.welcome, &model, &mut self.desk);
                });
            }
            Stage::Running => self.panes(ui, &model),
        }
        self.view(ui);
        if let Some(mut dialog) = self.dialog.take()
            && dialogs::show(ui, &mut dialog, &model, &mut self.desk)
        {
            self.dialog = Some(dialog);
        }
        self.desk.toasts.show(ui.ctx());
        if let Some(mut tour) = self.tour.take()
            && self.guide(ui, &mut tour)
        {
            self.tour = Some(tour);
        }
        if ui.input(|i| i.viewport().close_requested()) {
            self.close(ui);
        }
        self.popup_was_open = ui.ctx().any_popup_open();
        self.carry_out(ui);
    }

    /// The window is about to close. Not at once while it shows what is shown only once.
    fn close(&mut self, ui: &Ui) {
        let words = matches!(self.dialog, Some(Dialog::Words(_)));
        if words && !core::mem::replace(&mut self.warned, true) {
            ui.ctx().send_viewport_cmd(ViewportCommand::CancelClose);
            self.desk.toasts.bad(strings::words_keep());
            return;
        }
        self.keep_drafts();
    }

    /// Takes what has come from the link.
    fn take(&mut self, ui: &Ui) {
        let model = self.link.model();
        if model.demo != self.model.demo {
            // Another node: nothing of the last one's screens makes sense here.
            self.desk.forget();
            self.talks.clear();
            (self.open, self.person, self.dialog, self.viewer) = (None, None, None, None);
            (self.shown, self.safety_of, self.alarms_hidden) = (None, None, None);
            self.me = me::State::default();
            self.pages = open_pages();
            self.looked_at = None;
            self.place = Place::Chats;
        }
        self.model = model;
        for (id, page) in &mut self.pages {
            if let Some(Ok(model)) = self.model.pages.get(id) {
                page.take(model);
            }
        }
        while let Some(news) = self.link.news() {
            match news {
                News::Look { which, state } => {
                    if let Some(viewer) = &mut self.viewer {
                        viewer.hear(which, state);
                    }
                }
                News::Chosen { ticket, .. } | News::Taken { ticket, .. } => {
                    self.desk.tell(ticket, news);
                }
            }
            ui.ctx().request_repaint();
        }
        while let Some(answer) = self.link.answer() {
            self.answered(answer);
            ui.ctx().request_repaint();
        }
    }

    fn answered(&mut self, answer: Answer) {
        let Some(after) = self.desk.answered(answer.ticket) else { return };
        if let After::Page(id) = after
            && let Some(page) = self.pages.get_mut(id)
        {
            page.answered(&answer);
        }
        let Answer { ticket, result, qr } = answer;
        if let After::Sent(topic) = after
            && let Some(talk) = self.talks.get_mut(&topic)
        {
            talk.composer.answered(ticket, result.is_ok());
        }
        let reply = match result {
            Ok(reply) => reply,
            Err(why) => return self.desk.toasts.bad(why),
        };
        match (after, reply) {
            (After::Say(words), _) => self.desk.toasts.good(words),
            (After::Created, Reply::Created { words, .. }) => {
                self.dialog = Some(Dialog::Words(words));
            }
            (After::Card, Reply::Card { link }) => {
                let ground = me::Ground::of(&self.model);
                self.me.card = Some(me::Shown { link, qr, ground });
            }
            (After::Code, Reply::Code { link }) => {
                self.me.code = Some(me::Shown { link, qr, ground: me::Ground::default() });
            }
            (After::Open, Reply::Topic { topic }) => self.go(Go::Chat(topic)),
            (After::Added, Reply::Added { account, relay, .. }) => {
                if relay.is_some() {
                    self.desk.toasts.good(strings::contacts_relay_used());
                }
                if let Some(account) = account {
                    self.desk.toasts.good(strings::contacts_asked());
                    self.go(Go::Person(account));
                }
            }
            _ => {}
        }
    }

    /// A photo in full size, over everything.
    fn view(&mut self, ui: &Ui) {
        let Some(viewer) = &mut self.viewer else { return };
        match viewer.show(ui) {
            Wish::Stay => {}
            Wish::Bring(which) => self.desk.actions.push(Action::Look(Some(which))),
            Wish::Close => {
                self.viewer = None;
                self.desk.actions.push(Action::Look(None));
            }
        }
    }

    fn broken(&mut self, ui: &mut Ui, model: &Model, why: &str) {
        CentralPanel::default().show(ui, |ui| {
            page(ui, "broken", |ui| {
                ui.heading(strings::broken());
                ui.add(egui::Label::new(why).wrap().selectable(true));
                hint(ui, strings::broken_how());
                if model.demo && ui.button(strings::town_leave()).clicked() {
                    self.desk.actions.push(Action::Home);
                }
            });
        });
    }

    fn panes(&mut self, ui: &mut Ui, model: &Arc<Model>) {
        let t = tokens(ui);
        Panel::left("rail")
            .resizable(false)
            .exact_size(space::RAIL)
            .show_separator_line(false)
            .frame(Frame::new().fill(t.rail))
            .show(ui, |ui| rail::show(ui, model, self.place, &self.pages, &mut self.desk));
        self.banner(ui, model);
        if let Place::Page(id) = self.place {
            return self.page(ui, model, id);
        }
        Panel::left("list")
            .default_size(space::LIST)
            .size_range(200.0..=420.0)
            .frame(Frame::new().fill(t.list))
            .show(ui, |ui| match self.place {
                Place::Chats => {
                    chats::show(ui, &mut self.chats, model, self.open, &mut self.desk);
                }
                Place::Contacts => {
                    contacts::list(ui, &mut self.contacts, model, self.person, &mut self.desk);
                }
                Place::Me => me::list(ui, &mut self.me, model),
                // Drawn above, in all the room.
                Place::Page(_) => {}
            });
        CentralPanel::default().frame(Frame::new().fill(t.page)).show(ui, |ui| match self.place {
            Place::Chats => match self.open {
                Some(topic) => {
                    let draft = || model.chat(topic).map_or("", |c| &c.draft);
                    let talk = self.talks.entry(topic).or_insert_with(|| Talk::new(draft()));
                    conversation::show(ui, talk, model, topic, self.ime, &mut self.desk);
                }
                None => nothing(ui, strings::conversation_none()),
            },
            Place::Contacts => {
                contacts::detail(ui, &mut self.contacts, model, self.person, &mut self.desk);
            }
            Place::Me => me::detail(ui, &mut self.me, model, &mut self.desk),
            Place::Page(_) => {}
        });
    }

    /// A page, in all the room there is.
    fn page(&mut self, ui: &mut Ui, model: &Model, id: PageId) {
        let Some(page) = self.pages.get_mut(id) else { return };
        let frame = Frame::new().fill(tokens(ui).page);
        CentralPanel::default().frame(frame).show(ui, |ui| {
            if let Some(Err(why)) = model.pages.get(id) {
                nothing(ui, why);
            } else if !page.ui(ui, id, model, &mut self.desk, self.ime) {
                nothing(ui, strings::conversation_opening());
            }
        });
    }

    /// What a person should know, above everything.
    fn banner(&mut self, ui: &mut Ui, model: &Model) {
        let alarms: Vec<_> = model
            .alarms
            .iter()
            .filter(|a| self.alarms_hidden.is_none_or(|hidden| a.time > hidden))
            .collect();
        let mut lines = Vec::new();
        if model.me.revoked {
            lines.push(strings::revoked());
        }
        if model.me.disputed {
            lines.push(strings::disputed());
        }
        lines.extend(alarms.first().map(|a| a.text.as_str()).filter(|a| !lines.contains(a)));
        if lines.is_empty() {
            return;
        }
        let fill = tokens(ui).alarm;
        let frame = Frame::new().fill(fill).inner_margin(Margin::symmetric(16, 8));
        Panel::top("banner").frame(frame).show_separator_line(false).show(ui, |ui| {
            for line in lines {
                ui.add(egui::Label::new(line).wrap().selectable(true));
            }
            let Some(newest) = alarms.iter().map(|a| a.time).max() else { return };
            ui.horizontal(|ui| {
                if ui.button(strings::alarms_hide()).clicked() {
                    self.alarms_hidden = Some(newest);
                }
                if alarms.len() > 1 {
                    hint(ui, &strings::alarms_more(alarms.len() - 1));
                }
            });
        });
    }

    /// Does what was noted on the desk, and tells the link what to keep in the model.
    fn carry_out(&mut self, ui: &Ui) {
        for to in core::mem::take(&mut self.desk.going) {
            self.go(to);
            ui.ctx().request_repaint();
        }
        self.note_page(ui);
        let limit = |topic| self.talks.get(&topic).map_or(conversation::PAGE, |t| t.limit);
        let shown = self.open.map(|topic| (topic, limit(topic)));
        if shown != self.shown {
            self.shown = shown;
            let (topic, limit) = shown.unzip();
            self.desk.actions.push(Action::Show { topic, limit: limit.unwrap_or(0) });
        }
        let safety_of = self.looked_at();
        if safety_of != self.safety_of {
            self.safety_of = safety_of;
            self.desk.actions.push(Action::Person(safety_of));
        }
        for (page, screen) in &mut self.pages {
            if let Some(ask) = screen.ask() {
                self.desk.actions.push(Action::Page { page, ask });
            }
        }
        for action in core::mem::take(&mut self.desk.actions) {
            let ticket = match &action {
                Action::Submit { ticket, .. } => Some(*ticket),
                _ => None,
            };
            if !self.link.send(action) {
                let refused = Err(strings::busy().to_owned());
                match ticket {
                    Some(ticket) => self.answered(Answer { ticket, result: refused, qr: None }),
                    None => self.desk.toasts.bad(strings::busy()),
                }
                ui.ctx().request_repaint();
            }
        }
    }

    /// Tells pages that come on the screen or leave it.
    fn note_page(&mut self, ui: &Ui) {
        let hidden = ui.input(|i| i.viewport().minimized == Some(true));
        let page = match self.place {
            Place::Page(id) if !hidden => Some(id),
            _ => None,
        };
        if page == self.looked_at {
            return;
        }
        let before = core::mem::replace(&mut self.looked_at, page);
        for (id, on) in [(before, false), (page, true)] {
            if let Some(page) = id.and_then(|id| self.pages.get_mut(id)) {
                page.looked_at(on, &mut self.desk);
            }
        }
    }

    /// Whose card is on the screen.
    fn looked_at(&self) -> Option<AccountId> {
        match self.place {
            Place::Contacts => self.person,
            Place::Chats => {
                let topic = self.open.filter(|t| self.talks.get(t).is_some_and(|t| t.details))?;
                let chat = self.model.chat(topic).filter(|c| c.kind == ChatKind::Direct)?;
                chat.peer
            }
            Place::Page(_) | Place::Me => None,
        }
    }

    fn go(&mut self, to: Go) {
        match to {
            Go::Place(place) => self.place = place,
            Go::Person(account) => {
                self.place = Place::Contacts;
                self.person = Some(account);
            }
            Go::Dialog(dialog) => self.dialog = Some(dialog),
            Go::Photos(album) => {
                self.viewer = Viewer::open(album);
                let which = self.viewer.as_ref().map(Viewer::which);
                self.desk.actions.push(Action::Look(which));
            }
            Go::Chat(topic) => {
                self.place = Place::Chats;
                if self.open != Some(topic) {
                    self.leave_chat();
                    self.open = Some(topic);
                }
                if let Some(talk) = self.talks.get_mut(&topic) {
                    talk.composer.focus();
                }
            }
        }
    }

    /// Keeps the open chat's draft, and forgets long-idle chats' state.
    fn leave_chat(&mut self) {
        self.keep_drafts();
        if self.talks.len() >= MOST_TALKS {
            let idle = self.talks.iter().find(|(_, t)| t.composer.is_idle()).map(|(t, _)| *t);
            if let Some(topic) = idle {
                self.talks.remove(&topic);
            }
        }
        self.open = None;
    }

    fn keep_drafts(&mut self) {
        if let Some(topic) = self.open
            && let Some(talk) = self.talks.get_mut(&topic)
        {
            talk.composer.keep(topic, &mut self.desk);
        }
    }
}

fn open_pages() -> BTreeMap<PageId, Box<dyn Screen>> {
    PAGES.iter().map(|p| (p.id, (p.open)())).collect()
}
