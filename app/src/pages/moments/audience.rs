//! To whom a post is shown, and the question for it.

use std::collections::BTreeSet;

use egui::{Id, Modal, RichText, ScrollArea, Ui};
use teahouse_node::core::moments::{Audience, MAX_NAMED};
use teahouse_node::core::view::ContactState;
use teahouse_node::protocols::ids::AccountId;

use super::words;
use crate::theme::{SMALL, space, tokens};
use crate::vm::{ContactRow, Model};
use crate::widgets::{field, hint, primary};

/// Names in the button, at most.
const NAMES: usize = 4;

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Kind {
    #[default]
    All,
    Except,
    Only,
    Nobody,
}

impl Kind {
    const ALL: [Self; 4] = [Self::All, Self::Except, Self::Only, Self::Nobody];

    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::All => (words::all(), words::all_how()),
            Self::Except => (words::except(), words::except_how()),
            Self::Only => (words::only(), words::only_how()),
            Self::Nobody => (words::nobody(), words::nobody_how()),
        }
    }

    const fn names(self) -> bool {
        matches!(self, Self::Except | Self::Only)
    }
}

/// What was chosen.
#[derive(Debug, Default, Clone)]
pub(super) struct Choice {
    kind: Kind,
    who: BTreeSet<AccountId>,
}

impl Choice {
    /// For the node.
    pub(super) fn audience(&self) -> Audience {
        let who = || self.who.iter().copied().collect();
        match self.kind {
            Kind::All => Audience::Friends,
            Kind::Except => Audience::Except(who()),
            Kind::Only => Audience::Only(who()),
            Kind::Nobody => Audience::Only(Vec::new()),
        }
    }

    /// In a few words.
    pub(super) fn words(&self, app: &Model) -> String {
        let name = |a| app.contact(a).map_or(crate::strings::unnamed_person(), |c| &c.name);
        let names: Vec<&str> = self.who.iter().take(NAMES).map(|a| name(*a)).collect();
        let names = words::names(&names, self.who.len() - names.len());
        match self.kind {
            Kind::All => words::all().into(),
            Kind::Except => words::except_names(&names),
            Kind::Only => words::only_names(&names),
            Kind::Nobody => words::nobody().into(),
        }
    }

    /// In a sentence.
    pub(super) fn how(&self) -> &'static str {
        self.kind.words().1
    }
}

/// How the question was answered.
#[derive(Debug)]
pub(super) enum Answer {
    /// Not yet.
    Open,
    /// As before.
    Cancelled,
    /// To these.
    Chosen(Choice),
}

/// The question.
#[derive(Debug)]
pub(super) struct Picker {
    choice: Choice,
    filter: String,
}

fn friends(app: &Model) -> impl Iterator<Item = &ContactRow> {
    app.contacts.iter().filter(|c| c.state == ContactState::Friend)
}

impl Picker {
    pub(super) fn new(choice: &Choice, app: &Model) -> Self {
        let mut choice = choice.clone();
        // Who is no friend any more can't be named.
        choice.who.retain(|a| friends(app).any(|f| f.account == *a));
        Self { choice, filter: String::new() }
    }

    /// Asks.
    pub(super) fn show(&mut self, ui: &Ui, app: &Model) -> Answer {
        let frame = egui::Frame::window(ui.style()).inner_margin(20);
        let room = ui.ctx().content_rect().size();
        let shown = Modal::new(Id::unique("moments audience")).frame(frame).show(ui.ctx(), |ui| {
            ui.set_width(space::COLUMN.min(room.x - 64.0));
            ui.spacing_mut().item_spacing.y = 6.0;
            ui.label(RichText::new(words::audience_title()).size(19.0));
            let weak = tokens(ui).weak;
            for kind in Kind::ALL {
                let (title, how) = kind.words();
                ui.radio_value(&mut self.choice.kind, kind, title).on_hover_text(how);
            }
            let how = RichText::new(self.choice.how()).size(SMALL).color(weak);
            ui.add(egui::Label::new(how).wrap());
            if self.choice.kind.names() {
                self.people(ui, app, (room.y - 380.0).clamp(60.0, 240.0));
            }
            ui.add_space(space::SMALL);
            let chosen = self.choice.who.len();
            let ready = !self.choice.kind.names() || (1..=MAX_NAMED).contains(&chosen);
            ui.horizontal(|ui| {
                let done = primary(ui, ready, words::audience_done()).clicked();
                let cancelled = ui.button(crate::strings::cancel()).clicked();
                match (done, cancelled) {
                    (true, _) => Answer::Chosen(self.choice.clone()),
                    (_, true) => Answer::Cancelled,
                    _ => Answer::Open,
                }
            })
            .inner
        });
        match shown.inner {
            Answer::Open if shown.backdrop_response.clicked() => Answer::Cancelled,
            answer => answer,
        }
    }

    fn people(&mut self, ui: &mut Ui, app: &Model, height: f32) {
        field(ui, &mut self.filter, words::search(), words::search());
        let wanted = self.filter.trim().to_lowercase();
        let found: Vec<&ContactRow> =
            friends(app).filter(|f| f.name.to_lowercase().contains(&wanted)).collect();
        if found.is_empty() {
            hint(ui, words::none_found());
        }
        let row = ui.spacing().interact_size.y;
        let area = ScrollArea::vertical().id_salt("moments people").max_height(height);
        area.auto_shrink([false, true]).show_rows(ui, row, found.len(), |ui, rows| {
            for person in &found[rows] {
                let mut chosen = self.choice.who.contains(&person.account);
                if ui.checkbox(&mut chosen, &person.name).changed() {
                    if chosen {
                        self.choice.who.insert(person.account);
                    } else {
                        self.choice.who.remove(&person.account);
                    }
                }
            }
        });
        match self.choice.who.len() {
            0 => hint(ui, words::choose_some()),
            n if n > MAX_NAMED => hint(ui, words::too_many()),
            n => hint(ui, &words::chosen(n)),
        };
    }
}
