//! Things that several screens draw.

pub(crate) mod armed;
pub(crate) mod bubble;
pub(crate) mod feed;
pub(crate) mod message_list;
pub(crate) mod qr;
pub(crate) mod row;
pub(crate) mod toast;

use egui::{
    Align2, Button, Color32, FontId, Label, Pos2, Response, RichText, TextEdit, TextWrapMode, Ui,
};

use crate::strings;
use crate::theme::{self, space, tokens};

/// A number of things on a screen, as points or a factor of them.
#[expect(clippy::cast_precision_loss, reason = "far below 2²³")]
pub(crate) fn float(n: usize) -> f32 {
    n as f32
}

/// The button for what a page is about.
pub(crate) fn primary(ui: &mut Ui, enabled: bool, text: &str) -> Response {
    let t = tokens(ui);
    let (text, fill) = if enabled {
        (RichText::new(text).color(t.on_accent), t.accent)
    } else {
        (RichText::new(text).color(t.weak), t.button)
    };
    ui.add_enabled(enabled, Button::new(text).fill(fill))
}

/// The button for what can't be undone.
pub(crate) fn danger(ui: &mut Ui, text: &str) -> Response {
    let t = tokens(ui);
    ui.add(Button::new(RichText::new(text).color(t.danger)))
}

/// A button within a line of text. Its accessible name says also whom it is about.
pub(crate) fn small(ui: &mut Ui, text: &str, whom: &str, color: Color32) -> Response {
    ui.scope(|ui| {
        ui.spacing_mut().button_padding = egui::vec2(8.0, 2.0);
        ui.spacing_mut().interact_size.y = 22.0;
        let text_drawn = RichText::new(text).size(theme::SMALL).color(color);
        let button = Button::new(text_drawn).corner_radius(6);
        ui.add(button).accessible_name(strings::doing(text, whom))
    })
    .inner
}

/// A one-line field with an accessible name.
pub(crate) fn field(ui: &mut Ui, text: &mut String, name: &str, hint: &str) -> Response {
    ui.add(TextEdit::singleline(text).hint_text(hint.to_owned()).desired_width(f32::INFINITY))
        .accessible_name(name)
}

/// Whether Enter was pressed in a one-line field.
pub(crate) fn entered(ui: &Ui, field: &Response) -> bool {
    field.lost_focus() && ui.input(|i| i.key_pressed(egui::Key::Enter))
}

/// A field of several lines with an accessible name.
pub(crate) fn area(ui: &mut Ui, text: &mut String, name: &str, hint: &str) -> Response {
    ui.add(
        TextEdit::multiline(text)
            .hint_text(hint.to_owned())
            .desired_rows(3)
            .desired_width(f32::INFINITY),
    )
    .accessible_name(name)
}

/// Text that explains.
pub(crate) fn hint(ui: &mut Ui, text: &str) -> Response {
    let weak = tokens(ui).weak;
    ui.add(Label::new(RichText::new(text).color(weak)).wrap())
}

/// A heading within a page or list.
pub(crate) fn section(ui: &mut Ui, text: &str) {
    let weak = tokens(ui).weak;
    ui.add_space(space::SMALL);
    ui.label(RichText::new(text).size(theme::SMALL).color(weak));
}

/// A line in the middle of an empty pane.
pub(crate) fn nothing(ui: &mut Ui, text: &str) {
    let weak = tokens(ui).weak;
    ui.centered_and_justified(|ui| {
        ui.add(Label::new(RichText::new(text).color(weak)).wrap_mode(TextWrapMode::Wrap));
    });
}

/// A line of controls, the first of them at the right end; as high as a button, whatever
/// room there is.
pub(crate) fn from_right(ui: &mut Ui, content: impl FnOnce(&mut Ui)) {
    let size = egui::vec2(ui.available_width(), ui.spacing().interact_size.y);
    let layout = egui::Layout::right_to_left(egui::Align::Center);
    ui.allocate_ui_with_layout(size, layout, content);
}

/// Pages are a column of readable width, scrolled when they are long.
pub(crate) fn page(ui: &mut Ui, id: &str, content: impl FnOnce(&mut Ui)) {
    egui::ScrollArea::vertical().id_salt(id).auto_shrink(false).show(ui, |ui| {
        ui.horizontal_top(|ui| {
            ui.add_space(((ui.available_width() - space::COLUMN) / 2.0).max(space::LARGE));
            ui.vertical(|ui| {
                ui.set_width(space::COLUMN.min(ui.available_width() - space::LARGE));
                ui.add_space(space::LARGE);
                content(ui);
                ui.add_space(space::LARGE);
            });
        });
    });
}

/// A disc with the first letter of a name.
pub(crate) fn avatar(ui: &Ui, center: Pos2, radius: f32, id: &[u8; 32], name: &str) {
    let painter = ui.painter();
    painter.circle_filled(center, radius, theme::person(id));
    let letter = name.chars().find(|c| c.is_alphanumeric()).unwrap_or('?');
    painter.text(
        center,
        Align2::CENTER_CENTER,
        letter.to_uppercase().to_string(),
        FontId::proportional(radius),
        theme::ON_PERSON,
    );
}

/// A number in a pill; returns its width.
pub(crate) fn badge(ui: &Ui, right: Pos2, n: u64, fill: Color32, color: Color32) -> f32 {
    let text = if n > 99 { "99+".to_owned() } else { n.to_string() };
    let galley = ui.painter().layout_no_wrap(text, FontId::proportional(11.0), color);
    let size = egui::vec2((galley.size().x + 10.0).max(18.0), 18.0);
    let rect = egui::Rect::from_min_size(right - egui::vec2(size.x, size.y / 2.0), size);
    ui.painter().rect_filled(rect, 9.0, fill);
    ui.painter().galley(rect.center() - galley.size() / 2.0, galley, color);
    size.x
}
