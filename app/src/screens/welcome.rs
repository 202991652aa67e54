//! What a device without an account shows: create one, link to one, or look around.

use egui::{RichText, Ui};
use teahouse_node::config;
use teahouse_node::core::command::{Command, Devices};
use teahouse_node::core::view::Linking;

use crate::bridge::Action;
use crate::desk::{After, Desk};
use crate::screens::me::digits;
use crate::strings;
use crate::theme::{space, tokens};
use crate::vm::Model;
use crate::widgets::{area, field, hint, page, primary, section};

/// What is being typed.
#[derive(Debug, Default)]
pub(crate) struct State {
    name: String,
    code: String,
}

pub(crate) fn show(ui: &mut Ui, state: &mut State, model: &Model, desk: &mut Desk) {
    page(ui, "welcome", |ui| {
        ui.add_space(space::LARGE);
        ui.label(RichText::new(strings::app_name()).size(34.0).color(tokens(ui).accent));
        hint(ui, strings::welcome_line());
        match &model.linking {
            Some(linking @ (Linking::Compare { .. } | Linking::Copying { .. })) => {
                joining(ui, linking, desk);
            }
            other => {
                create(ui, state, desk);
                link(ui, state, other.as_ref(), desk);
                look_around(ui, desk);
            }
        }
    });
}

fn create(ui: &mut Ui, state: &mut State, desk: &mut Desk) {
    ui.add_space(space::LARGE);
    section(ui, strings::welcome_new());
    let typed = field(ui, &mut state.name, strings::welcome_name(), strings::welcome_name_hint());
    let enter = typed.lost_focus() && ui.input(|i| i.key_pressed(egui::Key::Enter));
    let creating = desk.waits_for(After::Created);
    let ready = !state.name.trim().is_empty() && !creating;
    let words = if creating { strings::welcome_creating() } else { strings::welcome_create() };
    if (primary(ui, ready, words).clicked() || enter) && ready {
        let create =
            Devices::Create { name: state.name.trim().into(), device_name: config::device_name() };
        desk.submit(Command::Devices(create), After::Created);
    }
}

fn link(ui: &mut Ui, state: &mut State, linking: Option<&Linking>, desk: &mut Desk) {
    ui.add_space(space::LARGE);
    section(ui, strings::welcome_link());
    hint(ui, strings::welcome_link_how());
    area(ui, &mut state.code, strings::welcome_link_field(), strings::welcome_link_hint());
    if let Some(Linking::Failed { why }) = linking {
        ui.colored_label(tokens(ui).danger, strings::linking_failed(why));
    }
    let waiting = desk.waits_for(After::Joining) || matches!(linking, Some(Linking::Waiting));
    let ready = !state.code.trim().is_empty() && !waiting;
    ui.horizontal(|ui| {
        let button = ui.add_enabled(ready, egui::Button::new(strings::welcome_link_button()));
        if button.clicked() {
            let join = Devices::LinkJoin {
                code: state.code.trim().into(),
                device_name: config::device_name(),
            };
            desk.submit(Command::Devices(join), After::Joining);
        }
        if waiting {
            hint(ui, strings::welcome_linking());
        }
    });
}

fn look_around(ui: &mut Ui, desk: &mut Desk) {
    ui.add_space(space::LARGE);
    section(ui, strings::welcome_look());
    hint(ui, strings::welcome_look_how());
    if ui.button(strings::welcome_look_button()).clicked() {
        desk.actions.push(Action::Town);
    }
}

/// The other device was reached: compare, then wait for the history.
fn joining(ui: &mut Ui, linking: &Linking, desk: &mut Desk) {
    ui.add_space(space::LARGE);
    match linking {
        Linking::Compare { digits: six } => {
            hint(ui, strings::device_compare_new());
            digits(ui, six);
        }
        Linking::Copying { topics, envelopes } => {
            hint(ui, &strings::copying(*topics, *envelopes));
        }
        _ => {}
    }
    if ui.button(strings::device_stop()).clicked() {
        desk.submit(Command::Devices(Devices::LinkCancel), After::Nothing);
    }
}
