//! A program's drawing: tessellated once for each picture and size, within bounds, and kept
//! until one of them changes.
//!
//! Labels are laid out by the window's own fonts, which may move their glyphs about, and so are
//! kept as words.

use std::sync::Arc;

use egui::epaint::{TessellationOptions, Tessellator};
use egui::{
    Align2, Color32, FontId, Mesh, Pos2, Rect, Shape, Stroke, StrokeKind, Ui, Vec2, pos2, vec2,
};
use teahouse_node::programs::ui::{Align, Canvas, Draw, Paint};

use super::draw::role;
use crate::theme::{Tokens, tokens};

/// How often a drawing may cover its whole field: a graphics card paints what is below, too.
const MOST_OVERDRAW: f32 = 24.0;
/// The largest letters, in points: beyond it they would fill the fonts' texture.
const LARGEST: f32 = 160.0;

/// A drawing, ready to be painted.
pub(super) struct Painted {
    layers: Vec<Layer>,
    /// Where the meshes lie.
    at: Pos2,
    /// What it was made for.
    made_for: (f32, f32, bool),
    /// Vertices of the meshes.
    pub(super) vertices: usize,
    /// Whether something was left out.
    pub(super) cut: bool,
}

enum Layer {
    Shapes(Arc<Mesh>),
    /// The place of a label among the canvas's commands.
    Label(usize),
}

impl Painted {
    /// What the drawing's look depends on beside its commands.
    fn around(ui: &Ui, scale: f32) -> (f32, f32, bool) {
        (scale, ui.ctx().pixels_per_point(), ui.visuals().dark_mode)
    }

    pub(super) fn fits(&self, ui: &Ui, scale: f32) -> bool {
        self.made_for == Self::around(ui, scale)
    }

    /// Tessellates a drawing into at most about so many vertices.
    pub(super) fn new(ui: &Ui, canvas: &Canvas, scale: f32, most: usize) -> Self {
        let options = TessellationOptions {
            coarse_tessellation_culling: false,
            // They lie in the fonts' texture, where they may move.
            prerasterized_discs: false,
            ..TessellationOptions::default()
        };
        let mut tessellator =
            Tessellator::new(ui.ctx().pixels_per_point(), options, [1, 1], Vec::new());
        let field = Rect::from_min_size(Pos2::ZERO, vec2(canvas.width, canvas.height) * scale);
        let mut painted = Self {
            layers: Vec::new(),
            at: Pos2::ZERO,
            made_for: Self::around(ui, scale),
            vertices: 0,
            cut: false,
        };
        let mut room = field.area() * MOST_OVERDRAW;
        let mut mesh = Mesh::default();
        for (index, command) in canvas.commands.iter().enumerate() {
            let Some(shape) = shape(tokens(ui), command, scale) else {
                painted.push(&mut mesh);
                painted.layers.push(Layer::Label(index));
                continue;
            };
            let seen = shape.visual_bounding_rect().intersect(field);
            if !seen.is_positive() {
                continue;
            }
            room -= seen.area();
            if room < 0.0 || painted.vertices + mesh.vertices.len() >= most {
                painted.cut = true;
                break;
            }
            tessellator.tessellate_shape(shape, &mut mesh);
        }
        painted.push(&mut mesh);
        painted
    }

    fn push(&mut self, mesh: &mut Mesh) {
        if !mesh.is_empty() {
            self.vertices += mesh.vertices.len();
            self.layers.push(Layer::Shapes(Arc::new(core::mem::take(mesh))));
        }
    }

    /// Paints it. `label` says whether there is room for one more, of so many bytes and letters
    /// so high.
    pub(super) fn paint(
        &mut self,
        ui: &Ui,
        rect: Rect,
        canvas: &Canvas,
        mut label: impl FnMut(&str, f32) -> bool,
    ) {
        let (scale, ..) = self.made_for;
        let t = tokens(ui);
        let painter = ui.painter_at(rect);
        painter.rect_filled(rect, 6.0, t.list);
        let by = rect.min - self.at;
        self.at = rect.min;
        for layer in &mut self.layers {
            match layer {
                Layer::Shapes(mesh) => {
                    if by != Vec2::ZERO {
                        Arc::make_mut(mesh).translate(by);
                    }
                    painter.add(Shape::Mesh(Arc::clone(mesh)));
                }
                Layer::Label(index) => {
                    let Some(Draw::Text { x, y, size, align, content, paint: colour }) =
                        canvas.commands.get(*index)
                    else {
                        continue;
                    };
                    let at = rect.min + vec2(*x, *y) * scale;
                    let high = step(size * scale);
                    let reach = Vec2::splat(high * float_chars(content));
                    let near = Rect::from_center_size(at, reach * 2.0);
                    if !near.intersects(ui.clip_rect()) || !label(content, high) {
                        continue;
                    }
                    let align = match align {
                        Align::Left => Align2::LEFT_CENTER,
                        Align::Centre => Align2::CENTER_CENTER,
                        Align::Right => Align2::RIGHT_CENTER,
                    };
                    painter.text(
                        at,
                        align,
                        content,
                        FontId::proportional(high),
                        colour_of(t, *colour),
                    );
                }
            }
        }
    }
}

fn float_chars(text: &str) -> f32 {
    crate::widgets::float(text.chars().count().max(1))
}

/// Letters come in few sizes, so that one that grows does not fill the fonts' texture.
fn step(size: f32) -> f32 {
    let by = if size < 32.0 { 1.0 } else { 8.0 };
    ((size / by).round() * by).clamp(1.0, LARGEST)
}

/// The shape in points from the field's corner; `None` for a label.
fn shape(t: &Tokens, command: &Draw, scale: f32) -> Option<Shape> {
    let at = |x: f32, y: f32| pos2(x, y) * scale;
    Some(match command {
        Draw::Rect { x, y, width, height, radius, stroke, paint } => {
            let rect = Rect::from_min_size(at(*x, *y), vec2(*width, *height) * scale);
            let (round, colour) = (radius * scale, colour_of(t, *paint));
            if *stroke > 0.0 {
                let pen = Stroke::new(stroke * scale, colour);
                Shape::rect_stroke(rect, round, pen, StrokeKind::Inside)
            } else {
                Shape::rect_filled(rect, round, colour)
            }
        }
        Draw::Circle { x, y, radius, stroke, paint } => {
            let colour = colour_of(t, *paint);
            if *stroke > 0.0 {
                let pen = Stroke::new(stroke * scale, colour);
                Shape::circle_stroke(at(*x, *y), radius * scale, pen)
            } else {
                Shape::circle_filled(at(*x, *y), radius * scale, colour)
            }
        }
        Draw::Line { start, end, width, paint } => {
            let pen = Stroke::new(width * scale, colour_of(t, *paint));
            Shape::line_segment([at(start.x, start.y), at(end.x, end.y)], pen)
        }
        Draw::Polygon { points, stroke, paint } => {
            let points = points.iter().map(|p| at(p.x, p.y)).collect();
            let colour = colour_of(t, *paint);
            if *stroke > 0.0 {
                Shape::closed_line(points, Stroke::new(stroke * scale, colour))
            } else {
                Shape::convex_polygon(points, colour, Stroke::NONE)
            }
        }
        Draw::Text { .. } => return None,
    })
}

fn colour_of(t: &Tokens, paint: Paint) -> Color32 {
    match paint {
        Paint::Role(named) => role(t, named),
        Paint::Rgba([red, green, blue, alpha]) => {
            Color32::from_rgba_unmultiplied(red, green, blue, alpha)
        }
    }
}
