//! My card, my devices, my relays.

use std::sync::Arc;

use egui::{Label, RichText, Ui};
use teahouse_node::core::command::{Command, Contacts, Devices, Relays};
use teahouse_node::core::view::{self, Linking};
use teahouse_node::protocols::ids::RelayId;

use crate::desk::{After, Desk, Go};
use crate::screens::dialogs::{Confirm, Dialog};
use crate::strings;
use crate::theme::{SMALL, space, tokens};
use crate::vm::{Model, Qr};
use crate::widgets::{entered, field, hint, page, primary, qr, row::Row, section, small};

/// How many people may use a card.
const USES: u32 = 10;

/// A page of this place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Page {
    #[default]
    Card,
    Devices,
    Relays,
}

/// A link with its QR code.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    pub(crate) link: String,
    pub(crate) qr: Option<Arc<Qr>>,
    /// What it was made on.
    pub(crate) ground: Ground,
}

/// What a card is good for as long as it stays the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ground {
    /// The account's relays: a card names them.
    relays: Vec<RelayId>,
    /// How many devices were removed: each knew the key of the cards before.
    removed: usize,
}

impl Ground {
    /// Of a card made now.
    pub(crate) fn of(model: &Model) -> Self {
        Self {
            relays: model.relays.iter().map(|r| r.relay).collect(),
            removed: model.devices.iter().filter(|d| d.revoked).count(),
        }
    }
}

/// What is being done.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) page: Page,
    pub(crate) card: Option<Shown>,
    pub(crate) code: Option<Shown>,
    /// A card was asked for; not again until somebody says so.
    asked: bool,
    name: Option<String>,
    relay: String,
}

pub(crate) fn list(ui: &mut Ui, state: &mut State, model: &Model) {
    ui.add_space(space::NORMAL);
    ui.spacing_mut().item_spacing.y = 0.0;
    let pages = [
        (Page::Card, strings::me_card(), model.me.name.as_str()),
        (Page::Devices, strings::me_devices(), ""),
        (Page::Relays, strings::me_relays(), ""),
    ];
    for (page, title, line) in pages {
        let id = [page as u8; 32];
        let row = Row { id, title, line, chosen: state.page == page, ..Row::default() };
        if row.show(ui).clicked() {
            state.page = page;
        }
    }
}

pub(crate) fn detail(ui: &mut Ui, state: &mut State, model: &Model, desk: &mut Desk) {
    page(ui, "me", |ui| match state.page {
        Page::Card => card(ui, state, model, desk),
        Page::Devices => devices(ui, state, model, desk),
        Page::Relays => relays(ui, state, model, desk),
    });
}

fn card(ui: &mut Ui, state: &mut State, model: &Model, desk: &mut Desk) {
    ui.heading(strings::me_card());
    let making = desk.waits_for(After::Card);
    let mut new = !core::mem::replace(&mut state.asked, true) && state.card.is_none();
    if state.card.is_some() || making {
        hint(ui, strings::card_how());
    }
    let ground = Ground::of(model);
    if let Some(old) = state.card.as_ref().filter(|c| c.ground != ground && !making) {
        let removed = old.ground.removed != ground.removed;
        let words = if removed { strings::card_void() } else { strings::card_renewed() };
        state.card = None;
        new = true;
        desk.toasts.good(words);
    }
    match state.card.clone() {
        Some(card) => {
            match &card.qr {
                Some(code) => {
                    qr::show(ui, code, 400.0, strings::card_qr());
                }
                None => {
                    hint(ui, strings::card_too_long());
                }
            }
            ui.add(Label::new(RichText::new(&card.link).monospace().size(SMALL)).truncate());
            ui.horizontal_wrapped(|ui| {
                if primary(ui, true, strings::card_copy()).clicked() {
                    ui.ctx().copy_text(card.link.clone());
                    desk.toasts.good(strings::copied());
                }
                new |= ui.button(strings::card_again()).clicked();
                if ui.button(strings::card_revoke()).clicked() {
                    let revoke = Contacts::RevokeCard { link: card.link.clone() };
                    let after = After::Say(strings::card_revoked());
                    desk.submit(Command::Contacts(revoke), after);
                    state.card = None;
                }
            });
        }
        None if making => {
            hint(ui, strings::card_making());
        }
        None => new |= ui.button(strings::card_again()).clicked(),
    }
    if new && !making {
        let card = Contacts::Card { uses: USES, welcome_to: None };
        desk.submit(Command::Contacts(card), After::Card);
    }

    ui.add_space(space::LARGE);
    section(ui, strings::me_name());
    let mut name = state.name.clone().unwrap_or_else(|| model.me.name.clone());
    let typed = field(ui, &mut name, strings::me_name(), strings::welcome_name_hint());
    if typed.changed() {
        state.name = Some(name.clone());
    }
    let differs = state.name.as_ref().is_some_and(|n| n.trim() != model.me.name);
    let ready = differs && !name.trim().is_empty();
    if ready && (ui.button(strings::me_rename()).clicked() || entered(ui, &typed)) {
        let rename = Devices::Rename { name: name.trim().into() };
        desk.submit(Command::Devices(rename), After::Nothing);
        state.name = None;
    }
}

fn devices(ui: &mut Ui, state: &mut State, model: &Model, desk: &mut Desk) {
    ui.heading(strings::me_devices());
    for device in model.devices.iter() {
        device_line(ui, device, desk);
    }
    ui.add_space(space::LARGE);
    let start = match &model.linking {
        Some(Linking::Compare { digits: six }) => {
            state.code = None;
            hint(ui, strings::device_compare());
            digits(ui, six);
            ui.horizontal(|ui| {
                if primary(ui, true, strings::device_equal()).clicked() {
                    desk.submit(Command::Devices(Devices::LinkConfirm), After::Nothing);
                }
                stop(ui, state, desk);
            });
            false
        }
        Some(Linking::Copying { topics, envelopes }) => {
            state.code = None;
            hint(ui, &strings::copying(*topics, *envelopes));
            false
        }
        Some(Linking::Waiting) if state.code.is_some() => {
            link_code(ui, state, desk);
            false
        }
        other => {
            if let Some(Linking::Failed { why }) = other {
                ui.colored_label(tokens(ui).danger, strings::linking_failed(why));
            }
            primary(ui, !desk.waits_for(After::Code), strings::device_link()).clicked()
        }
    };
    if start {
        desk.submit(Command::Devices(Devices::LinkStart), After::Code);
    }
}

fn device_line(ui: &mut Ui, device: &view::Device, desk: &mut Desk) {
    let t = tokens(ui);
    let name = if device.name.is_empty() { strings::device_unnamed() } else { &device.name };
    ui.horizontal(|ui| {
        ui.set_min_height(34.0);
        let color = if device.revoked { t.weak } else { t.text };
        ui.add(Label::new(RichText::new(name).color(color)).truncate());
        let key = RichText::new(&device.device.to_hex()[..8]).monospace().size(SMALL);
        ui.label(key.color(t.weak));
        let words = match (device.this, device.revoked) {
            (_, true) => strings::device_revoked(),
            (true, false) => strings::device_this(),
            (false, false) => "",
        };
        ui.label(RichText::new(words).size(SMALL).color(t.weak));
        if !device.this
            && !device.revoked
            && small(ui, strings::device_revoke(), name, t.danger).clicked()
        {
            desk.go(Go::Dialog(Dialog::Confirm(Confirm {
                what: strings::device_revoke(),
                whom: format!("{name} ({})", &device.device.to_hex()[..8]),
                how: strings::device_revoke_how(),
                command: Command::Devices(Devices::Revoke { device: device.device }),
                after: After::Nothing,
            })));
        }
    });
}

fn link_code(ui: &mut Ui, state: &mut State, desk: &mut Desk) {
    let Some(code) = state.code.clone() else { return };
    hint(ui, strings::device_link_how());
    if let Some(squares) = &code.qr {
        qr::show(ui, squares, 300.0, strings::device_link_code());
    }
    ui.add(Label::new(RichText::new(&code.link).monospace().size(SMALL)).wrap().selectable(true));
    ui.horizontal(|ui| {
        if primary(ui, true, strings::device_copy_code()).clicked() {
            ui.ctx().copy_text(code.link);
            desk.toasts.good(strings::copied());
        }
        stop(ui, state, desk);
    });
}

fn stop(ui: &mut Ui, state: &mut State, desk: &mut Desk) {
    if ui.button(strings::device_stop()).clicked() {
        state.code = None;
        desk.submit(Command::Devices(Devices::LinkCancel), After::Nothing);
    }
}

/// The digits that two people, or two screens, compare.
pub(crate) fn digits(ui: &mut Ui, six: &str) {
    let middle = six.len() / 2;
    let apart = match six.split_at_checked(middle) {
        Some((a, b)) => format!("{a} {b}"),
        None => six.to_owned(),
    };
    let accent = tokens(ui).accent;
    ui.label(RichText::new(apart).monospace().size(40.0).color(accent));
}

fn relays(ui: &mut Ui, state: &mut State, model: &Model, desk: &mut Desk) {
    ui.heading(strings::me_relays());
    if model.relays.is_empty() {
        hint(ui, strings::relay_none());
    }
    for relay in model.relays.iter() {
        let t = tokens(ui);
        egui::Frame::new().fill(t.list).corner_radius(8).inner_margin(12).show(ui, |ui| {
            ui.set_width(ui.available_width());
            ui.add(Label::new(RichText::new(&relay.name).monospace().size(13.0)).truncate());
            let color = if relay.trouble { t.danger } else { t.weak };
            ui.add(Label::new(RichText::new(&relay.words).color(color)).wrap());
            if small(ui, strings::relay_forget(), &relay.name, t.text).clicked() {
                desk.go(Go::Dialog(Dialog::Confirm(Confirm {
                    what: strings::relay_forget(),
                    whom: relay.name.clone(),
                    how: strings::relay_forget_how(),
                    command: Command::Relays(Relays::Forget { relay: relay.relay }),
                    after: After::Nothing,
                })));
            }
        });
    }
    ui.add_space(space::LARGE);
    section(ui, strings::relay_link());
    let typed = field(ui, &mut state.relay, strings::relay_link(), strings::relay_link_hint());
    let ready = !state.relay.trim().is_empty();
    let enter = entered(ui, &typed) && ready;
    if primary(ui, ready, strings::relay_add()).clicked() || enter {
        let link = core::mem::take(&mut state.relay).trim().to_owned();
        let after = After::Say(strings::contacts_relay_used());
        desk.submit(Command::Relays(Relays::Use { link }), after);
    }
}
