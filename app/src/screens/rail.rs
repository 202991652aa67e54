//! The rail at the left: the places, each with what waits there.

use egui::{Align2, FontId, Role, Sense, Ui, WidgetInfo, vec2};

use crate::bridge::Action;
use crate::desk::{Desk, Go, Place};
use crate::strings;
use crate::theme::{space, tokens};
use crate::vm::Model;
use crate::widgets::{avatar, badge};

pub(crate) fn show(ui: &mut Ui, model: &Model, place: Place, desk: &mut Desk) {
    ui.spacing_mut().item_spacing.y = space::SMALL;
    ui.add_space(space::LARGE);
    let (rect, _) = ui.allocate_exact_size(vec2(ui.available_width(), 44.0), Sense::hover());
    let id = model.me.account.map_or([0; 32], |a| a.0);
    avatar(ui, rect.center(), 20.0, &id, &model.me.name);
    ui.add_space(space::NORMAL);

    let requests = model.requests().count() as u64;
    let places = [
        (Place::Chats, strings::rail_chats(), model.unread()),
        (Place::Contacts, strings::rail_contacts(), requests),
        (Place::Me, strings::rail_me(), 0),
    ];
    for (to, words, count) in places {
        if button(ui, words, count, to == place) {
            desk.go(Go::Place(to));
        }
    }
    if model.demo {
        ui.with_layout(egui::Layout::bottom_up(egui::Align::Center), |ui| {
            ui.add_space(space::NORMAL);
            let on_rail = tokens(ui).on_rail;
            ui.spacing_mut().button_padding = vec2(6.0, 6.0);
            let text = egui::RichText::new(strings::town_leave()).size(12.0).color(on_rail);
            let leave = egui::Button::new(text).wrap().fill(tokens(ui).rail_chosen);
            if ui.add(leave).on_hover_text(strings::town_how()).clicked() {
                desk.actions.push(Action::Home);
            }
        });
    }
}

fn button(ui: &mut Ui, words: &str, count: u64, chosen: bool) -> bool {
    let t = tokens(ui);
    let (rect, response) =
        ui.allocate_exact_size(vec2(ui.available_width(), 52.0), Sense::click());
    let name = strings::with_unread(words, count);
    response.widget_info(|| WidgetInfo::selected(Role::Button, true, chosen, &name));
    let inner = rect.shrink2(vec2(5.0, 2.0));
    if chosen || response.hovered() || response.has_focus() {
        ui.painter().rect_filled(inner, 10.0, t.rail_chosen);
    }
    if response.has_focus() {
        let edge = egui::Stroke::new(1.0, t.on_rail);
        ui.painter().rect_stroke(inner, 10.0, edge, egui::StrokeKind::Inside);
    }
    let (center, font) = (rect.center(), FontId::proportional(12.5));
    ui.painter().text(center, Align2::CENTER_CENTER, words, font, t.on_rail);
    if count > 0 {
        badge(ui, inner.right_top() + vec2(-1.0, 10.0), count, t.danger, t.on_danger);
    }
    response.clicked()
}
