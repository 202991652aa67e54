//! People: the list with its requests, and one person's card.

use egui::{Label, RichText, ScrollArea, Ui};
use teahouse_node::core::command::{Command, Contacts};
use teahouse_node::core::view::ContactState;
use teahouse_node::protocols::ids::AccountId;

use crate::desk::{After, Desk, Go};
use crate::screens::dialogs::{Confirm, Dialog};
use crate::strings;
use crate::theme::{SMALL, space, tokens};
use crate::vm::{ContactRow, Model};
use crate::widgets::{danger, field, hint, nothing, page, primary, row::Row, section};

/// What is being done on the list.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) filter: String,
    card: Card,
}

/// What is being done on a person's card.
#[derive(Debug, Default)]
pub(crate) struct Card {
    of: Option<AccountId>,
    /// What is being typed; `None` while it is as the node has it.
    remark: Option<String>,
}

pub(crate) fn list(
    ui: &mut Ui,
    state: &mut State,
    model: &Model,
    open: Option<AccountId>,
    desk: &mut Desk,
) {
    egui::Frame::new().inner_margin(12).show(ui, |ui| {
        if primary(ui, true, strings::contacts_add()).clicked() {
            desk.go(Go::Dialog(Dialog::add()));
        }
        let words = strings::contacts_filter();
        field(ui, &mut state.filter, words, words);
    });
    let filter = state.filter.trim().to_lowercase();
    ScrollArea::vertical().id_salt("contacts").auto_shrink(false).show(ui, |ui| {
        ui.spacing_mut().item_spacing.y = 0.0;
        if model.contacts.is_empty() {
            let words = strings::contacts_none();
            egui::Frame::new().inner_margin(16).show(ui, |ui| hint(ui, words));
        }
        let parts = [
            (ContactState::Asking, strings::contacts_requests()),
            (ContactState::Requested, strings::contacts_waiting()),
            (ContactState::Friend, strings::contacts_friends()),
            (ContactState::Blocked, strings::contacts_blocked()),
        ];
        for (part, words) in parts {
            let mut people = model
                .contacts
                .iter()
                .filter(|c| c.state == part && c.name.to_lowercase().contains(&filter))
                .peekable();
            if people.peek().is_none() {
                continue;
            }
            egui::Frame::new()
                .inner_margin(egui::Margin::symmetric(16, 4))
                .show(ui, |ui| section(ui, words));
            for person in people {
                ui.push_id(person.account.0, |ui| {
                    let row = Row {
                        id: person.account.0,
                        title: &person.name,
                        line: &person.greeting,
                        chosen: open == Some(person.account),
                        ..Row::default()
                    };
                    if row.show(ui).clicked() {
                        desk.go(Go::Person(person.account));
                    }
                });
            }
        }
    });
}

pub(crate) fn detail(
    ui: &mut Ui,
    state: &mut State,
    model: &Model,
    open: Option<AccountId>,
    desk: &mut Desk,
) {
    match open.and_then(|account| model.contact(account)) {
        Some(person) => page(ui, "person", |ui| card(ui, &mut state.card, model, person, desk)),
        None => nothing(ui, strings::contact_none()),
    }
}

/// A person, with what can be done about them.
pub(crate) fn card(
    ui: &mut Ui,
    state: &mut Card,
    model: &Model,
    person: &ContactRow,
    desk: &mut Desk,
) {
    let account = person.account;
    if state.of != Some(account) {
        *state = Card { of: Some(account), remark: None };
    }
    let t = tokens(ui);
    ui.add_space(space::NORMAL);
    ui.add(Label::new(RichText::new(&person.name).size(22.0)).truncate());
    if person.own_name != person.name && !person.own_name.is_empty() {
        hint(ui, &strings::calls_themselves(&person.own_name));
    }
    let devices = strings::devices(person.devices);
    ui.label(RichText::new(devices).size(SMALL).color(t.weak));
    if person.disputed {
        ui.add(Label::new(RichText::new(strings::contact_disputed()).color(t.danger)).wrap());
    }
    match person.state {
        ContactState::Asking => asking(ui, person, desk),
        ContactState::Friend | ContactState::Requested => {
            let waits = person.state == ContactState::Requested;
            if waits {
                hint(ui, strings::contacts_waiting());
            }
            if let Some(topic) = person.topic {
                let open = if waits {
                    ui.button(strings::contact_open())
                } else {
                    primary(ui, true, strings::contact_message())
                };
                if open.clicked() {
                    desk.go(Go::Chat(topic));
                }
            }
            remark(ui, state, person, desk);
            safety(ui, model, person, desk);
        }
        // No longer a contact: the chat is still there.
        ContactState::Known => {
            if let Some(topic) = person.topic
                && ui.button(strings::contact_message()).clicked()
            {
                desk.go(Go::Chat(topic));
            }
        }
        ContactState::Blocked => {}
    }
    ui.add_space(space::LARGE);
    ui.horizontal_wrapped(|ui| ends(ui, person, desk));
}

fn asking(ui: &mut Ui, person: &ContactRow, desk: &mut Desk) {
    let account = person.account;
    hint(ui, strings::contact_wants());
    if !person.greeting.is_empty() {
        egui::Frame::new().fill(tokens(ui).theirs).corner_radius(8).inner_margin(12).show(
            ui,
            |ui| {
                ui.add(Label::new(&person.greeting).wrap().selectable(true));
            },
        );
    }
    ui.horizontal(|ui| {
        if primary(ui, true, strings::contact_accept()).clicked() {
            desk.submit(Command::Contacts(Contacts::Accept { account }), After::Open);
        }
        if ui.button(strings::contact_decline()).clicked() {
            desk.submit(Command::Contacts(Contacts::Decline { account }), After::Nothing);
        }
    });
}

fn remark(ui: &mut Ui, state: &mut Card, person: &ContactRow, desk: &mut Desk) {
    section(ui, strings::contact_remark());
    let as_it_is = if person.name == person.own_name { "" } else { &person.name };
    let mut name = state.remark.clone().unwrap_or_else(|| as_it_is.to_owned());
    if field(ui, &mut name, strings::contact_remark(), &person.own_name).changed() {
        state.remark = Some(name.clone());
    }
    let differs = state.remark.as_ref().is_some_and(|r| r.trim() != as_it_is);
    if differs && ui.button(strings::save()).clicked() {
        let remark = Contacts::Remark { account: person.account, name: name.trim().into() };
        desk.submit(Command::Contacts(remark), After::Nothing);
        state.remark = None;
    }
}

fn safety(ui: &mut Ui, model: &Model, person: &ContactRow, desk: &mut Desk) {
    let account = person.account;
    let Some((_, number)) = model.safety.as_ref().filter(|(of, _)| *of == account) else { return };
    section(ui, strings::contact_safety());
    hint(ui, strings::contact_safety_how());
    let label = Label::new(RichText::new(number).monospace()).wrap().selectable(true);
    ui.add(label);
    if ui.button(strings::contact_safety_copy()).clicked() {
        ui.ctx().copy_text(number.clone());
        desk.toasts.good(strings::copied());
    }
    let mut verified = person.verified;
    if ui.checkbox(&mut verified, strings::contact_verified()).changed() {
        let verify = Contacts::Verify { account, verified };
        desk.submit(Command::Contacts(verify), After::Nothing);
    }
}

/// Delete, block, unblock.
fn ends(ui: &mut Ui, person: &ContactRow, desk: &mut Desk) {
    let account = person.account;
    if person.state == ContactState::Blocked {
        if ui.button(strings::contact_unblock()).clicked() {
            desk.submit(Command::Contacts(Contacts::Unblock { account }), After::Nothing);
        }
        return;
    }
    let mut confirm = |what, how, command| {
        desk.go(Go::Dialog(Dialog::Confirm(Confirm {
            what,
            whom: person.name.clone(),
            how,
            command: Command::Contacts(command),
            after: After::Nothing,
        })));
    };
    if person.state == ContactState::Friend && danger(ui, strings::contact_delete()).clicked() {
        let delete = Contacts::Delete { account };
        confirm(strings::contact_delete(), strings::contact_delete_how(), delete);
    }
    if danger(ui, strings::contact_block()).clicked() {
        let block = Contacts::Block { account };
        confirm(strings::contact_block(), strings::contact_block_how(), block);
    }
}
