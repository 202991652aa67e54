//! The rail at the left: the places, each with what waits there.

use std::collections::BTreeMap;

use egui::{Align2, FontId, Role, Sense, Ui, WidgetInfo, vec2};

use crate::bridge::Action;
use crate::desk::{Desk, Go, Place};
use crate::pages::{Entry, PAGES, PageId, Screen};
use crate::strings;
use crate::theme::{space, tokens};
use crate::vm::Model;
use crate::widgets::{avatar, badge};

pub(crate) fn show(
    ui: &mut Ui,
    model: &Model,
    place: Place,
    pages: &BTreeMap<PageId, Box<dyn Screen>>,
    desk: &mut Desk,
) {
    ui.spacing_mut().item_spacing.y = space::SMALL;
    ui.add_space(space::LARGE);
    let (rect, _) = ui.allocate_exact_size(vec2(ui.available_width(), 44.0), Sense::hover());
    let id = model.me.account.map_or([0; 32], |a| a.0);
    avatar(ui, rect.center(), 20.0, &id, &model.me.name);
    ui.add_space(space::NORMAL);

    let requests = model.requests().count() as u64;
    let mut places = vec![
        (Place::Chats, strings::rail_chats(), model.unread()),
        (Place::Contacts, strings::rail_contacts(), requests),
    ];
    for page in PAGES {
        let new = pages.get(page.id).map_or(0, |p| p.badge());
        places.push((Place::Page(page.id), (page.title)(), new));
    }
    places.push((Place::Me, strings::rail_me(), 0));
    ui.with_layout(egui::Layout::bottom_up(egui::Align::Center), |ui| {
        if model.demo {
            ui.add_space(space::NORMAL);
            let on_rail = tokens(ui).on_rail;
            ui.spacing_mut().button_padding = vec2(6.0, 6.0);
            let text = egui::RichText::new(strings::town_leave()).size(12.0).color(on_rail);
            let leave = egui::Button::new(text).wrap().fill(tokens(ui).rail_chosen);
            if ui.add(leave).on_hover_text(strings::town_how()).clicked() {
                desk.actions.push(Action::Home);
            }
        }
        // In a low window they don't all fit.
        let area = egui::ScrollArea::vertical().auto_shrink(false);
        let hidden = egui::containers::scroll_area::ScrollBarVisibility::AlwaysHidden;
        area.scroll_bar_visibility(hidden).show(ui, |ui| {
            ui.with_layout(egui::Layout::top_down(egui::Align::Min), |ui| {
                for (to, words, count) in places {
                    if button(ui, to, words, count, to == place) {
                        desk.go(Go::Place(to));
                    }
                }
            });
        });
    });
}

fn button(ui: &mut Ui, to: Place, words: &str, count: u64, chosen: bool) -> bool {
    let t = tokens(ui);
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), 60.0), Sense::click());
    let name = strings::with_unread(words, count);
    response.widget_info(|| WidgetInfo::selected(Role::Button, true, chosen, &name));
    let inner = rect.shrink2(vec2(5.0, 2.0));
    if chosen || response.hovered() || response.has_focus() {
        ui.painter().rect_filled(inner, 10.0, t.rail_chosen);
    }
    if response.gained_focus() {
        response.scroll_to_me(None);
    }
    if response.has_focus() {
        let edge = egui::Stroke::new(1.0, t.on_rail);
        ui.painter().rect_stroke(inner, 10.0, edge, egui::StrokeKind::Inside);
    }
    let center = rect.center();
    icon(ui, center - vec2(0.0, 9.0), to, t.on_rail);
    let below = center + vec2(0.0, 15.0);
    ui.painter().text(below, Align2::CENTER_CENTER, words, FontId::proportional(12.0), t.on_rail);
    if count > 0 {
        badge(ui, inner.right_top() + vec2(-2.0, 11.0), count, t.danger, t.on_danger);
    }
    response.clicked()
}

/// Drawn by hand: fonts differ in what symbols they have.
fn icon(ui: &Ui, center: egui::Pos2, place: Place, color: egui::Color32) {
    let pen = egui::Stroke::new(1.6, color);
    let painter = ui.painter();
    let at = |x: f32, y: f32| center + vec2(x, y);
    match place {
        Place::Page(id) => {
            if let Some(page) = Entry::find(id) {
                (page.icon)(painter, center, pen);
            }
        }
        Place::Chats => {
            let bubble = egui::Rect::from_center_size(at(0.0, -1.5), vec2(21.0, 15.0));
            painter.rect_stroke(bubble, 5.0, pen, egui::StrokeKind::Middle);
            painter.line(vec![at(-5.0, 6.0), at(-6.5, 10.0), at(-0.5, 6.0)], pen);
        }
        Place::Contacts => {
            painter.circle_stroke(at(0.0, -4.5), 4.5, pen);
            let shoulders = (0..=12_u8).map(|i| {
                let angle = core::f32::consts::PI * (1.0 + f32::from(i) / 12.0);
                at(9.0 * angle.cos(), 9.5 + 7.0 * angle.sin())
            });
            painter.line(shoulders.collect(), pen);
        }
        Place::Me => {
            let card = egui::Rect::from_center_size(center, vec2(22.0, 16.0));
            painter.rect_stroke(card, 3.0, pen, egui::StrokeKind::Middle);
            painter.circle_filled(at(-5.0, -1.0), 3.0, color);
            painter.hline(egui::Rangef::new(center.x + 1.5, center.x + 7.5), center.y - 2.0, pen);
            painter.hline(egui::Rangef::new(center.x + 1.5, center.x + 7.5), center.y + 3.0, pen);
        }
    }
}
