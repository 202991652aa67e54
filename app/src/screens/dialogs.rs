//! What stands in front of everything until it is answered.

use std::collections::BTreeSet;

use egui::{Frame, Id, Key, Modal, RichText, ScrollArea, Ui};
use teahouse_node::core::command::{Chat, Command, Contacts, Groups, MessageId};
use teahouse_node::core::programs;
use teahouse_node::core::view::{ChatState, ContactState};
use teahouse_node::protocols::ids::{AccountId, AppId, TopicId};
use teahouse_node::protocols::link::Link;

use crate::desk::{After, Desk, Go};
use crate::pages::programs::words::card_sent;
use crate::strings;
use crate::theme::{space, tokens};
use crate::vm::{ContactRow, Model};
use crate::widgets::{area, entered, field, hint, primary, row::Row, section};

/// A dialog with what is being done in it.
#[derive(Debug)]
pub(crate) enum Dialog {
    /// The 24 words, once.
    Words(String),
    /// Add a contact or follow an invite.
    Add { link: String, greeting: String, wrong: Option<String> },
    /// A new group.
    NewGroup { title: String, members: BTreeSet<AccountId>, share_history: bool },
    /// Invite to a group.
    Invite { topic: TopicId },
    /// Choose where to send something to.
    PassOn { what: Passing, filter: String },
    /// Go to a chat or person.
    GoTo { filter: String, at: usize },
    /// A question before something that can't be undone.
    Confirm(Confirm),
}

/// What is sent into a chat that the person picks.
#[derive(Debug, Clone)]
pub(crate) enum Passing {
    /// A message, once more.
    Message(TopicId, MessageId),
    /// A Mini Program's card.
    Card { app: AppId, title: String, launch: String },
}

impl Passing {
    fn command(&self, topic: TopicId) -> (Command, After) {
        match self.clone() {
            Self::Message(from, message) => {
                let forward = Chat::Forward { from, message, to: topic };
                (Command::Chat(forward), After::Say(strings::message_forwarded()))
            }
            Self::Card { app, title, launch } => {
                let send = programs::Command::Send { app, topic, title, launch };
                (Command::Programs(send), After::Say(card_sent()))
            }
        }
    }
}

/// What to ask, and what a yes does.
#[derive(Debug)]
pub(crate) struct Confirm {
    pub(crate) what: &'static str,
    pub(crate) whom: String,
    pub(crate) how: &'static str,
    pub(crate) command: Command,
    pub(crate) after: After,
}

impl Dialog {
    pub(crate) fn add() -> Self {
        Self::Add { link: String::new(), greeting: String::new(), wrong: None }
    }

    pub(crate) fn new_group() -> Self {
        Self::NewGroup { title: String::new(), members: BTreeSet::new(), share_history: true }
    }

    pub(crate) fn invite(topic: TopicId) -> Self {
        Self::Invite { topic }
    }

    pub(crate) fn forward(from: TopicId, message: MessageId) -> Self {
        Self::pass_on(Passing::Message(from, message))
    }

    pub(crate) fn pass_on(what: Passing) -> Self {
        Self::PassOn { what, filter: String::new() }
    }

    pub(crate) fn go_to() -> Self {
        Self::GoTo { filter: String::new(), at: 0 }
    }

    /// Whether Escape and a click beside it close it. The words must not go by accident.
    pub(crate) fn is_light(&self) -> bool {
        !matches!(self, Self::Words(_))
    }
}

/// Shows the dialog; `false` once it is answered.
pub(crate) fn show(ui: &Ui, dialog: &mut Dialog, model: &Model, desk: &mut Desk) -> bool {
    let frame = Frame::window(ui.style()).inner_margin(20);
    let light = dialog.is_light();
    let shown = Modal::new(Id::unique("dialog")).frame(frame).show(ui.ctx(), |ui| {
        ui.set_width(space::COLUMN.min(ui.ctx().content_rect().width() - 64.0));
        ui.spacing_mut().item_spacing.y = space::NORMAL;
        match dialog {
            Dialog::Words(list) => words(ui, list),
            Dialog::Add { link, greeting, wrong } => add(ui, link, greeting, wrong, desk),
            Dialog::NewGroup { title, members, share_history } => {
                new_group(ui, title, members, share_history, model, desk)
            }
            Dialog::Invite { topic } => invite(ui, *topic, model, desk),
            Dialog::PassOn { what, filter } => pass_on(ui, what, filter, model, desk),
            Dialog::GoTo { filter, at } => go_to(ui, filter, at, model, desk),
            Dialog::Confirm(confirm) => sure(ui, confirm, desk),
        }
    });
    shown.inner && !(light && shown.should_close())
}

fn title(ui: &mut Ui, text: &str) {
    ui.label(RichText::new(text).size(19.0));
}

/// The row of buttons; the first is what the dialog is for. `Some(true)` for it, and
/// `Some(false)` for cancelling.
fn answer(ui: &mut Ui, ready: bool, yes: &str) -> Option<bool> {
    ui.add_space(space::NORMAL);
    ui.horizontal(|ui| {
        let yes = primary(ui, ready, yes).clicked();
        let no = ui.button(strings::cancel()).clicked();
        if yes { Some(true) } else { no.then_some(false) }
    })
    .inner
}

fn words(ui: &mut Ui, list: &str) -> bool {
    title(ui, strings::words_title());
    hint(ui, strings::words_why());
    let t = tokens(ui);
    Frame::new().fill(t.theirs).corner_radius(8).inner_margin(14).show(ui, |ui| {
        ui.set_width(ui.available_width());
        let list: Vec<_> = list.split_whitespace().collect();
        // Down the columns, as one writes them on paper.
        let rows = list.len().div_ceil(3).max(1);
        ui.columns(3, |columns| {
            for (i, word) in list.iter().enumerate() {
                let text = RichText::new(format!("{:>2} {word}", i + 1)).monospace();
                columns[i / rows].label(text.color(t.text));
            }
        });
    });
    ui.add_space(space::NORMAL);
    !primary(ui, true, strings::words_done()).clicked()
}

fn add(
    ui: &mut Ui,
    link: &mut String,
    greeting: &mut String,
    wrong: &mut Option<String>,
    desk: &mut Desk,
) -> bool {
    title(ui, strings::contacts_add());
    hint(ui, strings::contacts_add_how());
    let empty = link.is_empty() && greeting.is_empty();
    // A card is long: a few lines of it are enough to see that it is there.
    let first = ScrollArea::vertical()
        .id_salt("link")
        .max_height(76.0)
        .show(ui, |ui| area(ui, link, strings::contacts_link(), strings::contacts_link_hint()))
        .inner;
    if first.changed() {
        *wrong = None;
    }
    if empty && ui.memory(|m| m.focused().is_none()) {
        first.request_focus();
    }
    if let Some(wrong) = wrong {
        ui.colored_label(tokens(ui).danger, wrong.as_str());
    }
    section(ui, strings::contacts_greeting());
    let typed =
        field(ui, greeting, strings::contacts_greeting(), strings::contacts_greeting_hint());
    let ready = !link.trim().is_empty();
    let enter = entered(ui, &typed) && ready;
    match answer(ui, ready, strings::contacts_add_button()).or(enter.then_some(true)) {
        Some(true) => {
            // Mail programs break long links.
            let link: String = link.split_whitespace().collect();
            if let Err(e) = Link::parse(&link) {
                *wrong = Some(e.to_string());
                return true;
            }
            let add = Contacts::Add { link, greeting: greeting.trim().into() };
            desk.submit(Command::Contacts(add), After::Added);
            false
        }
        Some(false) => false,
        None => true,
    }
}

fn friends(model: &Model) -> impl Iterator<Item = &ContactRow> {
    model.contacts.iter().filter(|c| c.state == ContactState::Friend)
}

fn new_group(
    ui: &mut Ui,
    name: &mut String,
    members: &mut BTreeSet<AccountId>,
    share_history: &mut bool,
    model: &Model,
    desk: &mut Desk,
) -> bool {
    title(ui, strings::group_new());
    section(ui, strings::group_title());
    let typed = field(ui, name, strings::group_title(), strings::group_title_hint());
    if name.is_empty() && ui.memory(|m| m.focused().is_none()) {
        typed.request_focus();
    }
    let enter = entered(ui, &typed) && !name.trim().is_empty();
    section(ui, strings::group_who());
    if friends(model).next().is_none() {
        hint(ui, strings::group_nobody());
    }
    ScrollArea::vertical().id_salt("who").max_height(220.0).show(ui, |ui| {
        for person in friends(model) {
            let mut chosen = members.contains(&person.account);
            if ui.checkbox(&mut chosen, &person.name).changed() {
                if chosen {
                    members.insert(person.account);
                } else {
                    members.remove(&person.account);
                }
            }
        }
    });
    ui.checkbox(share_history, strings::group_history());
    match answer(ui, !name.trim().is_empty(), strings::group_create()).or(enter.then_some(true)) {
        Some(true) => {
            let create = Groups::Create {
                title: name.trim().into(),
                members: members.iter().copied().collect(),
                share_history: *share_history,
            };
            desk.submit(Command::Groups(create), After::Open);
            false
        }
        Some(false) => false,
        None => true,
    }
}

fn invite(ui: &mut Ui, topic: TopicId, model: &Model, desk: &mut Desk) -> bool {
    title(ui, strings::group_invite_title());
    let inside: BTreeSet<_> = model
        .conversation
        .iter()
        .filter(|c| c.topic == topic)
        .flat_map(|c| c.members.iter().map(|m| m.account))
        .collect();
    let outside: Vec<_> = friends(model).filter(|f| !inside.contains(&f.account)).collect();
    if outside.is_empty() {
        hint(ui, strings::group_invite_none());
    }
    let mut open = true;
    choose(ui, 300.0, |ui| {
        for person in outside {
            let row = Row { id: person.account.0, title: &person.name, ..Row::default() };
            if ui.push_id(person.account.0, |ui| row.show(ui)).inner.clicked() {
                let account = person.account;
                desk.submit(Command::Groups(Groups::Invite { topic, account }), After::Nothing);
                open = false;
            }
        }
    });
    open && !ui.button(strings::cancel()).clicked()
}

fn pass_on(
    ui: &mut Ui,
    what: &Passing,
    filter: &mut String,
    model: &Model,
    desk: &mut Desk,
) -> bool {
    title(ui, strings::forward_title());
    let typed = field(ui, filter, strings::chats_filter(), strings::go_hint());
    if filter.is_empty() && ui.memory(|m| m.focused().is_none()) {
        typed.request_focus();
    }
    let wanted = filter.trim().to_lowercase();
    let mut open = true;
    choose(ui, 320.0, |ui| {
        let chats = model
            .chats
            .iter()
            .filter(|c| c.state == ChatState::Active && c.title.to_lowercase().contains(&wanted));
        for chat in chats {
            let id = chat.peer.map_or(chat.topic.0, |p| p.0);
            let row = Row { id, title: &chat.title, ..Row::default() };
            if ui.push_id(chat.topic.0, |ui| row.show(ui)).inner.clicked() {
                let (command, after) = what.command(chat.topic);
                desk.submit(command, after);
                open = false;
            }
        }
    });
    open && !ui.button(strings::cancel()).clicked()
}

fn go_to(ui: &mut Ui, filter: &mut String, at: &mut usize, model: &Model, desk: &mut Desk) -> bool {
    title(ui, strings::go_title());
    let typed = field(ui, filter, strings::go_title(), strings::go_hint());
    typed.request_focus();
    if typed.changed() {
        *at = 0;
    }
    let wanted = filter.trim().to_lowercase();
    let chats = model
        .chats
        .iter()
        .map(|c| (c.peer.map_or(c.topic.0, |p| p.0), c.title.as_str(), Go::Chat(c.topic)));
    let people = model
        .contacts
        .iter()
        .filter(|c| c.topic.is_none_or(|topic| model.chat(topic).is_none()))
        .map(|c| (c.account.0, c.name.as_str(), Go::Person(c.account)));
    let found: Vec<_> = chats
        .chain(people)
        .filter(|(_, name, _)| name.to_lowercase().contains(&wanted))
        .take(50)
        .collect();
    if found.is_empty() {
        hint(ui, strings::go_none());
    }
    let (up, down, enter) = ui.input(|i| {
        let pressed = |key| i.key_pressed(key);
        (pressed(Key::ArrowUp), pressed(Key::ArrowDown), pressed(Key::Enter))
    });
    *at = (*at + usize::from(down)).saturating_sub(usize::from(up));
    *at = (*at).min(found.len().saturating_sub(1));
    let mut open = true;
    choose(ui, 320.0, |ui| {
        for (i, (id, title, go)) in found.into_iter().enumerate() {
            let chosen = i == *at;
            let row = Row { id, title, chosen, ..Row::default() };
            let response = ui.push_id(i, |ui| row.show(ui)).inner;
            if chosen && (up || down) {
                response.scroll_to_me(None);
            }
            if response.clicked() || (chosen && enter) {
                desk.go(go);
                open = false;
            }
        }
    });
    open
}

/// A scrolled list of rows within a dialog.
fn choose(ui: &mut Ui, height: f32, rows: impl FnOnce(&mut Ui)) {
    // As high as its rows need, from the first frame on.
    let area = ScrollArea::vertical().id_salt("choose").max_height(height);
    area.min_scrolled_height(height).show(ui, |ui| {
        ui.spacing_mut().item_spacing.y = 0.0;
        rows(ui);
    });
}

fn sure(ui: &mut Ui, confirm: &Confirm, desk: &mut Desk) -> bool {
    title(ui, &strings::sure(confirm.what, &confirm.whom));
    hint(ui, confirm.how);
    match answer(ui, true, confirm.what) {
        Some(true) => {
            desk.submit(confirm.command.clone(), confirm.after);
            false
        }
        Some(false) => false,
        None => true,
    }
}
