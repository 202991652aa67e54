//! Photos of a message or post, side by side.

use egui::{Id, Rect, Response, Sense, TextureId, Ui, Vec2, pos2, vec2};

use super::previews::{Previews, Seen};
use super::words;
use crate::theme::{SMALL, space, tokens};
use crate::vm::PhotoRow;
use crate::widgets::float;

/// The side of one of several.
const TILE: f32 = 132.0;

/// The room that photos take: one alone at most `alone` along its longer side.
pub(crate) fn size(shapes: &[(u16, u16)], room: f32, alone: f32) -> Vec2 {
    match shapes {
        [] => Vec2::ZERO,
        [(w, h)] => {
            // A strip is shown as its middle.
            let shape = (f32::from(*w) / f32::from(*h).max(1.0)).clamp(0.5, 2.0);
            let side = alone.min(room);
            if shape > 1.0 { vec2(side, side / shape) } else { vec2(side * shape, side) }
        }
        many => {
            let (columns, side) = (columns(many.len()), side(room));
            let across = |n: usize| float(n) * (side + space::SMALL) - space::SMALL;
            vec2(across(columns.min(many.len())), across(many.len().div_ceil(columns)))
        }
    }
}

const fn columns(of: usize) -> usize {
    match of {
        2 | 4 => 2,
        _ => 3,
    }
}

fn side(room: f32) -> f32 {
    TILE.min((room - space::SMALL * 2.0) / 3.0).floor()
}

/// Makes room for photos and has each drawn; the one that was clicked, if any.
pub(crate) fn show(
    ui: &mut Ui,
    id: Id,
    shapes: &[(u16, u16)],
    alone: f32,
    mut each: impl FnMut(&mut Ui, usize, Rect, &Response),
) -> Option<usize> {
    let room = ui.available_width();
    let (all, _) = ui.allocate_exact_size(size(shapes, room, alone), Sense::hover());
    let mut clicked = None;
    for i in 0..shapes.len() {
        let rect = if shapes.len() == 1 {
            all
        } else {
            let (columns, side) = (columns(shapes.len()), side(room));
            let step = vec2(float(i % columns), float(i / columns)) * (side + space::SMALL);
            Rect::from_min_size(all.min + step, vec2(side, side))
        };
        let response = ui.interact(rect, id.with(i), Sense::click());
        each(ui, i, rect, &response);
        if response.has_focus() {
            let edge = egui::Stroke::new(2.0, tokens(ui).accent);
            ui.painter().rect_stroke(rect, 6.0, edge, egui::StrokeKind::Outside);
        }
        if response.clicked() {
            clicked = Some(i);
        }
        response.on_hover_cursor(egui::CursorIcon::PointingHand);
    }
    clicked
}

/// Draws a photo's preview, or says why there is none.
pub(crate) fn preview(ui: &Ui, rect: Rect, photo: &PhotoRow, previews: &mut Previews) {
    if !ui.is_rect_visible(rect) {
        return;
    }
    match photo.preview.as_ref().map(|jpeg| previews.of(ui.ctx(), photo.hash, jpeg)) {
        Some(Seen::Shown(texture)) => fill(ui, rect, (texture.id(), texture.size_vec2())),
        Some(Seen::Waiting) => blank(ui, rect, ""),
        Some(Seen::Broken) => blank(ui, rect, words::broken()),
        None => blank(ui, rect, words::waiting()),
    }
}

/// Fills a place with the middle of a picture.
pub(crate) fn fill(ui: &Ui, rect: Rect, (texture, size): (TextureId, Vec2)) {
    let scale = (rect.width() / size.x).max(rect.height() / size.y);
    let cut = vec2(rect.width() / (size.x * scale), rect.height() / (size.y * scale));
    let uv = Rect::from_center_size(pos2(0.5, 0.5), cut);
    egui::Image::from_texture((texture, rect.size())).uv(uv).corner_radius(6).paint_at(ui, rect);
}

/// A place without a picture, with words where there is something to say.
pub(crate) fn blank(ui: &Ui, rect: Rect, words: &str) {
    let t = tokens(ui);
    ui.painter().rect_filled(rect, 6.0, t.button);
    if words.is_empty() {
        return;
    }
    let font = egui::FontId::proportional(SMALL);
    let width = rect.width() - 2.0 * space::SMALL;
    let galley = ui.painter().layout(words.to_owned(), font, t.weak, width);
    ui.painter().galley(rect.center() - galley.size() / 2.0, galley, t.weak);
}
