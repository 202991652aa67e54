//! One message: a bubble with what belongs to it, and the menu of what can be done with it.

use egui::{
    Align, Button, FontSelection, Frame, Label, Layout, Margin, Popup, RichText, Role, Sense,
    TextWrapMode, Ui, WidgetInfo, WidgetText,
};
use teahouse_node::core::view::ChatKind;
use teahouse_node::protocols::lines::one_line;

use crate::photos::previews::Previews;
use crate::photos::{grid, words};
use crate::strings;
use crate::theme::{SMALL, space, tokens};
use crate::vm::{Body, MessageRow, Quote};
use crate::widgets::avatar;

/// The reactions that the menu offers.
pub(crate) const REACTIONS: [&str; 6] = ["👍", "❤", "😂", "😮", "😢", "🙏"];

const AVATAR: f32 = 17.0;
const MAX_WIDTH: f32 = 520.0;
/// The longer side of a photo that stands alone.
pub(crate) const PHOTO: f32 = 280.0;

/// What somebody chose to do with a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Act {
    Copy,
    Reply,
    React {
        emoji: String,
        on: bool,
    },
    Forward,
    Recall,
    /// Show the quoted message.
    Quoted,
    /// Show this photo in full size.
    Photo(usize),
    /// Install the Mini Program that it offers.
    Program,
}

/// What is allowed here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rights {
    pub(crate) kind: ChatKind,
    /// Writing, and so replying and reacting.
    pub(crate) write: bool,
    /// Hiding what others wrote.
    pub(crate) hide: bool,
}

/// Draws a message over the ui's whole width.
pub(crate) fn show(
    ui: &mut Ui,
    row: &MessageRow,
    rights: Rights,
    previews: &mut Previews,
) -> Option<Act> {
    let mut act = None;
    let width = ui.max_rect().width();
    let hovered = ui.rect_contains_pointer(ui.max_rect());
    ui.spacing_mut().item_spacing.y = 0.0;
    if let Some(day) = &row.day {
        day_line(ui, day);
    }
    if let Body::Event(words) = &row.body {
        event_line(ui, words, &row.time);
        return None;
    }
    ui.add_space(space::SMALL / 2.0);
    if !row.author_name.is_empty() {
        let weak = tokens(ui).weak;
        ui.horizontal(|ui| {
            ui.add_space(space::LARGE + 2.0 * AVATAR + space::NORMAL);
            ui.label(RichText::new(&row.author_name).size(SMALL).color(weak));
        });
    }

    let beside = rights.kind == ChatKind::Group && !row.mine;
    let room = (width - 2.0 * space::LARGE - 48.0 - if beside { 42.0 } else { 0.0 }).max(120.0);
    line(ui, row.mine, |ui| {
        ui.add_space(space::LARGE);
        if beside {
            let size = egui::vec2(2.0 * AVATAR + space::SMALL, 2.0 * AVATAR);
            let (rect, _) = ui.allocate_exact_size(size, Sense::hover());
            if !row.author_name.is_empty() {
                let center = rect.left_center() + egui::vec2(AVATAR, 0.0);
                avatar(ui, center, AVATAR, &row.author.0, &row.author_name);
            }
        }
        let bubble = content(ui, row, room.min(MAX_WIDTH), previews, &mut act);
        bubble.container_context_menu(|ui| menu(ui, row, rights, &mut act));
        more(ui, row, rights, hovered, &mut act);
    });
    reactions(ui, row, rights, beside, &mut act);
    ui.add_space(space::SMALL / 2.0);
    act
}

/// A line as high as what is in it, from the side that the author is on.
fn line(ui: &mut Ui, mine: bool, content: impl FnOnce(&mut Ui)) {
    let layout =
        if mine { Layout::right_to_left(Align::Min) } else { Layout::left_to_right(Align::Min) };
    ui.allocate_ui_with_layout(egui::vec2(ui.available_width(), 0.0), layout, |ui| {
        ui.spacing_mut().item_spacing.x = space::SMALL;
        content(ui);
    });
}

fn day_line(ui: &mut Ui, day: &str) {
    let weak = tokens(ui).weak;
    ui.add_space(space::NORMAL);
    ui.vertical_centered(|ui| ui.label(RichText::new(day).size(SMALL).color(weak)));
    ui.add_space(space::SMALL);
}

/// Something that happened: no bubble, nothing to be done with it.
fn event_line(ui: &mut Ui, words: &str, time: &str) {
    let text = RichText::new(words).size(SMALL).color(tokens(ui).weak);
    ui.add_space(space::SMALL);
    ui.vertical_centered(|ui| {
        ui.set_max_width(MAX_WIDTH);
        ui.add(Label::new(text).wrap()).on_hover_text(time);
    });
    ui.add_space(space::SMALL);
}

/// The photos of a message, in what room there is.
fn photos(
    ui: &mut Ui,
    row: &MessageRow,
    shapes: &[(u16, u16)],
    previews: &mut Previews,
) -> Option<Act> {
    let id = ui.scope_id().with(("photos", row.id));
    let clicked = grid::show(ui, id, shapes, PHOTO, |ui, i, rect, response| {
        let Some(photo) = row.photos.get(i) else { return };
        let name = words::described(i + 1, row.photos.len(), photo.shape, photo.bytes);
        response.widget_info(|| WidgetInfo::labeled(Role::Button, true, &name));
        grid::preview(ui, rect, photo, previews);
    });
    ui.add_space(space::SMALL);
    clicked.map(Act::Photo)
}

fn content(
    ui: &mut Ui,
    row: &MessageRow,
    room: f32,
    previews: &mut Previews,
    act: &mut Option<Act>,
) -> egui::Response {
    let t = tokens(ui);
    let text = match &row.body {
        Body::Text(text) | Body::Event(text) => RichText::new(text).color(t.text),
        Body::Remark(words) => RichText::new(*words).color(t.weak).italics(),
    };
    let galley = WidgetText::from(text).into_galley(
        ui,
        Some(TextWrapMode::Wrap),
        room,
        FontSelection::Default,
    );
    let meta = meta(row);
    let meta = ui.painter().layout_no_wrap(meta, egui::FontId::proportional(11.5), t.weak);
    let fill = if row.mine { t.mine } else { t.theirs };
    Frame::new()
        .fill(fill)
        .corner_radius(10)
        .inner_margin(Margin::symmetric(11, 7))
        .show(ui, |ui| {
            // The widest of what is inside decides; a quote is elided to fit, within reason.
            let least = if row.quote.is_some() { room.min(220.0) } else { 0.0 };
            let shapes: Vec<_> = row.photos.iter().map(|p| p.shape).collect();
            let photos_room = grid::size(&shapes, room, PHOTO).x;
            let width = galley.size().x.max(meta.size().x).max(least).max(photos_room);
            ui.allocate_ui_with_layout(
                egui::vec2(width, 0.0),
                Layout::top_down(Align::Min),
                |ui| {
                    ui.set_width(width);
                    ui.spacing_mut().item_spacing.y = 2.0;
                    if row.forwarded {
                        let words = strings::message_forwarded();
                        ui.label(RichText::new(words).size(SMALL).color(t.weak).italics());
                    }
                    if let Some(q) = &row.quote {
                        quote(ui, q, act);
                    }
                    if !shapes.is_empty() {
                        *act = photos(ui, row, &shapes, previews).or(act.take());
                    }
                    if shapes.is_empty() || !matches!(&row.body, Body::Text(t) if t.is_empty()) {
                        ui.add(Label::new(galley).selectable(true));
                    }
                    if let Some(link) = &row.program {
                        let name = one_line(&link.name, link.name.len());
                        let words = strings::doing(strings::message_program(), &name);
                        if ui.add(Button::new(words).truncate()).clicked() {
                            *act = Some(Act::Program);
                        }
                    }
                    let size = egui::vec2(width, meta.size().y);
                    ui.allocate_ui_with_layout(size, Layout::right_to_left(Align::Min), |ui| {
                        let line = ui.add(Label::new(meta).selectable(false));
                        if row.delivery.is_some() {
                            line.on_hover_text(strings::delivery_how());
                        }
                    });
                },
            );
        })
        .response
}

/// Time, what is proved, and when it goes.
fn meta(row: &MessageRow) -> String {
    let mut parts = vec![row.time.as_str()];
    parts.extend(row.expires.as_deref());
    parts.extend(row.delivery.as_deref());
    parts.join(" · ")
}

fn quote(ui: &mut Ui, quote: &Quote, act: &mut Option<Act>) {
    let t = tokens(ui);
    let words = if quote.author.is_empty() {
        quote.line.clone()
    } else {
        format!("{}: {}", quote.author, quote.line)
    };
    let text = RichText::new(words).size(13.0).color(t.weak);
    let button = Button::new(text)
        .truncate()
        .fill(t.page.gamma_multiply(0.7))
        .min_size(egui::vec2(ui.available_width(), 24.0));
    ui.scope(|ui| {
        ui.spacing_mut().button_padding = egui::vec2(8.0, 3.0);
        if ui.add(button).clicked() {
            *act = Some(Act::Quoted);
        }
    });
}

/// The menu's button: always there for keyboards and screen readers, seen when it is near.
fn more(ui: &mut Ui, row: &MessageRow, rights: Rights, hovered: bool, act: &mut Option<Act>) {
    let weak = tokens(ui).weak;
    let id = ui.next_auto_id();
    let near = hovered || ui.memory(|m| m.has_focus(id));
    let text = RichText::new("…").color(if near { weak } else { egui::Color32::TRANSPARENT });
    let button = ui.add(Button::new(text).frame_when_inactive(false).small());
    let button = button.accessible_name(strings::message_actions());
    Popup::menu(&button).show(|ui| menu(ui, row, rights, act));
}

fn menu(ui: &mut Ui, row: &MessageRow, rights: Rights, act: &mut Option<Act>) {
    let is_text = matches!(row.body, Body::Text(_));
    let mut chosen = None;
    if is_text && rights.write {
        ui.horizontal(|ui| {
            ui.spacing_mut().button_padding = egui::vec2(6.0, 4.0);
            for emoji in REACTIONS {
                let on = !row.reactions.iter().any(|r| r.mine && r.emoji == emoji);
                let button = Button::new(RichText::new(emoji).size(18.0)).frame_when_inactive(!on);
                let name = strings::doing(strings::message_react(), emoji);
                if ui.add(button).accessible_name(name).clicked() {
                    chosen = Some(Act::React { emoji: emoji.into(), on });
                }
            }
        });
    }
    let mut item = |allowed: bool, words: &str, what: Act| {
        if allowed && ui.button(words).clicked() {
            chosen = Some(what);
        }
    };
    let words = matches!(&row.body, Body::Text(text) if !text.is_empty());
    item(words, strings::message_copy(), Act::Copy);
    item(rights.write, strings::message_reply(), Act::Reply);
    item(is_text, strings::message_forward(), Act::Forward);
    item(row.mine && is_text && rights.write, strings::message_recall(), Act::Recall);
    item(!row.mine && is_text && rights.hide, strings::message_hide(), Act::Recall);
    if chosen.is_some() {
        *act = chosen;
        ui.close();
    }
}

fn reactions(ui: &mut Ui, row: &MessageRow, rights: Rights, beside: bool, act: &mut Option<Act>) {
    if row.reactions.is_empty() {
        return;
    }
    let t = tokens(ui);
    ui.add_space(2.0);
    line(ui, row.mine, |ui| {
        ui.spacing_mut().button_padding = egui::vec2(7.0, 2.0);
        ui.spacing_mut().interact_size.y = 22.0;
        ui.add_space(space::LARGE + if beside { 2.0 * AVATAR + 2.0 * space::SMALL } else { 0.0 });
        for r in &row.reactions {
            let text = RichText::new(format!("{} {}", r.emoji, r.count)).size(13.0).color(t.text);
            let fill = if r.mine { t.chosen } else { t.list };
            let button = Button::new(text).fill(fill).corner_radius(11);
            let response = ui.add_enabled(rights.write, button);
            if response.accessible_name(strings::reaction(&r.emoji, r.count)).clicked() {
                *act = Some(Act::React { emoji: r.emoji.clone(), on: !r.mine });
            }
        }
    });
}
