//! Draws a program's picture with the window's own widgets, and says what the person does.
//!
//! What a person has begun in a widget (what stands in a field, where the caret is) belongs to
//! the widget's key, and stays while the key does. Of a long list what is out of sight is not
//! laid out again: its height is remembered.

use std::collections::BTreeMap;
use std::sync::Arc;

use egui::{
    Align2, Button, Color32, FontId, Frame, Id, Label, Rect, Response, RichText, Role as Part,
    Sense, Shape, Stroke, StrokeKind, TextEdit, TextureHandle, TextureOptions, Ui, WidgetInfo,
    pos2, vec2,
};
use teahouse_node::programs::ui::{
    Align, ButtonStyle, Canvas, Draw, Event, Image, Kind, Node, Paint, Role, Stepper, Text,
    TextField, TextStyle,
};

use super::vm::Running;
use super::words;
use crate::strings;
use crate::theme::{SMALL, Tokens, space, tokens};
use crate::widgets::primary;

/// What is written is told to the program once nothing was typed for so long, in seconds.
const REST: f64 = 0.6;

/// What a person is doing in the open program.
#[derive(Default)]
pub(super) struct Doing {
    /// How many programs were opened before: what was written in one is nothing to the next.
    opened: u64,
    nodes: Arc<[Node]>,
    /// The children of each node.
    children: Vec<Vec<usize>>,
    fields: BTreeMap<String, Field>,
    /// Heights of what stands in long lists, by key.
    heights: BTreeMap<String, f32>,
    textures: BTreeMap<String, TextureHandle>,
}

struct Field {
    text: String,
    /// What the program last said stands in it.
    given: String,
    /// When it was last written in, if the program has not been told since.
    changed: Option<f64>,
}

impl Doing {
    /// Nothing yet, in another program.
    pub(super) fn next(&self) -> Self {
        Self { opened: self.opened + 1, ..Self::default() }
    }

    /// Takes a new picture over: what has gone is forgotten.
    fn take(&mut self, running: &Running) {
        if Arc::ptr_eq(&self.nodes, &running.nodes) {
            return;
        }
        self.nodes = Arc::clone(&running.nodes);
        self.children = vec![Vec::new(); self.nodes.len()];
        let mut fields = BTreeMap::new();
        for (index, node) in self.nodes.iter().enumerate() {
            if let Some(children) = node.parent.and_then(|p| self.children.get_mut(p as usize)) {
                children.push(index);
            }
            let Kind::TextField(field) = &node.kind else { continue };
            let old = self.fields.remove(&node.key);
            let kept = old.filter(|f| f.given == field.value || f.text == field.value);
            let fresh = || Field { text: field.value.clone(), given: String::new(), changed: None };
            let mut own = kept.unwrap_or_else(fresh);
            own.given.clone_from(&field.value);
            fields.insert(node.key.clone(), own);
        }
        self.fields = fields;
        self.heights.retain(|key, _| self.nodes.iter().any(|n| n.key == *key));
        self.textures.retain(|source, _| running.pictures.contains_key(source));
    }
}

/// The window's button to pay: a frame and a line of the window's around what it knows of the
/// offer.
fn pay_button(ui: &mut Ui, bill: &str) -> Response {
    let t = tokens(ui);
    let edge = Stroke::new(2.0, t.accent);
    let frame = Frame::new().fill(t.alarm).stroke(edge).corner_radius(10).inner_margin(10);
    frame
        .show(ui, |ui| {
            ui.label(RichText::new(words::pay_with()).size(SMALL).color(t.weak));
            ui.add_enabled(!bill.is_empty(), Button::new(RichText::new(bill).strong()).wrap())
        })
        .inner
}

/// Draws the picture; what the person did, in order.
pub(super) fn show(ui: &mut Ui, running: &Running, doing: &mut Doing) -> Vec<Event> {
    doing.take(running);
    let mut events = Vec::new();
    if !doing.nodes.is_empty() {
        let nodes = Arc::clone(&doing.nodes);
        Drawing { nodes: &nodes, running, doing, events: &mut events }.children(ui, 0);
    }
    events
}

struct Drawing<'a> {
    nodes: &'a [Node],
    running: &'a Running,
    doing: &'a mut Doing,
    events: &'a mut Vec<Event>,
}

impl Drawing<'_> {
    fn children(&mut self, ui: &mut Ui, of: usize) {
        let children = self.doing.children.get(of).cloned().unwrap_or_default();
        for child in children {
            self.node(ui, child);
        }
    }

    /// As [`Drawing::children`], where what is out of sight only takes its room.
    fn long(&mut self, ui: &mut Ui, of: usize) {
        let children = self.doing.children.get(of).cloned().unwrap_or_default();
        for child in children {
            let Some(key) = self.nodes.get(child).map(|n| n.key.clone()) else { continue };
            if let Some(height) = self.doing.heights.get(&key) {
                let size = vec2(ui.available_width(), *height);
                let rect = Rect::from_min_size(ui.next_widget_position(), size);
                if !ui.is_rect_visible(rect) {
                    ui.allocate_space(size);
                    continue;
                }
            }
            let drawn = ui.vertical(|ui| self.node(ui, child)).response.rect.height();
            self.doing.heights.insert(key, drawn);
        }
    }

    fn node(&mut self, ui: &mut Ui, index: usize) {
        let nodes = self.nodes;
        let Some(node) = nodes.get(index) else { return };
        ui.push_id(&node.key, |ui| match &node.kind {
            // Checked by the host: only the first node is one.
            Kind::Page(_) => {}
            Kind::Column => {
                ui.vertical(|ui| self.children(ui, index));
            }
            Kind::Row => {
                ui.horizontal_wrapped(|ui| self.children(ui, index));
            }
            Kind::Card => {
                let fill = tokens(ui).list;
                Frame::new().fill(fill).corner_radius(10).inner_margin(12).show(ui, |ui| {
                    ui.set_width(ui.available_width());
                    self.children(ui, index);
                });
            }
            Kind::VirtualList => {
                ui.vertical(|ui| self.long(ui, index));
            }
            Kind::Text(said) => text(ui, said),
            Kind::Image(image) => self.image(ui, image),
            Kind::Button(b) => {
                let pressed = match b.style {
                    ButtonStyle::Primary => primary(ui, b.enabled, &b.label),
                    ButtonStyle::Secondary => ui.add_enabled(b.enabled, Button::new(&b.label)),
                    ButtonStyle::Quiet => {
                        ui.add_enabled(b.enabled, Button::new(&b.label).frame(false))
                    }
                };
                if pressed.clicked() {
                    self.tap(node, &b.action, 0.0, 0.0);
                }
            }
            Kind::TextField(field) => self.field(ui, node, field),
            Kind::Stepper(stepper) => self.stepper(ui, node, stepper),
            Kind::Divider => {
                ui.separator();
            }
            Kind::Canvas(canvas) => self.canvas(ui, node, canvas),
            // The window's words, on the window's own ground: a tap is the window's, too.
            Kind::PayButton(_) => {
                let bill = self.running.bills.get(&node.key).map_or("", String::as_str);
                if pay_button(ui, bill).clicked() {
                    self.tap(node, "", 0.0, 0.0);
                }
            }
        });
    }

    fn tap(&mut self, node: &Node, action: &str, x: f32, y: f32) {
        self.events.push(Event::Tap { key: node.key.clone(), action: action.to_owned(), x, y });
    }

    fn image(&mut self, ui: &mut Ui, image: &Image) {
        let fits = (ui.available_width() / image.width).min(1.0);
        let size = vec2(image.width, image.height) * fits;
        let (rect, response) = ui.allocate_exact_size(size, Sense::hover());
        let picture = self.running.pictures.get(&image.source).and_then(|p| p.0.as_ref());
        let label = if picture.is_some() { image.label.as_str() } else { words::picture_broken() };
        response.widget_info(|| WidgetInfo::labeled(Part::Image, true, label));
        let Some(picture) = picture else {
            ui.painter().rect_filled(rect, 6.0, tokens(ui).button);
            return;
        };
        let texture = self.doing.textures.entry(image.source.clone()).or_insert_with(|| {
            ui.ctx().load_texture("program", Arc::clone(picture), TextureOptions::LINEAR)
        });
        let whole = Rect::from_min_max(pos2(0.0, 0.0), pos2(1.0, 1.0));
        ui.painter().image(texture.id(), rect, whole, Color32::WHITE);
    }

    fn field(&mut self, ui: &mut Ui, node: &Node, field: &TextField) {
        let Some(own) = self.doing.fields.get_mut(&node.key) else { return };
        let weak = tokens(ui).weak;
        ui.label(RichText::new(&field.label).size(SMALL).color(weak));
        let edit = if field.multiline {
            TextEdit::multiline(&mut own.text).desired_rows(3)
        } else {
            TextEdit::singleline(&mut own.text)
        };
        let edit = edit
            .id(Id::unique(("program field", self.doing.opened, &node.key)))
            .char_limit(field.max_length as usize)
            .desired_width(f32::INFINITY);
        let response = ui.add(edit).accessible_name(field.label.as_str());
        let now = ui.input(|i| i.time);
        if response.changed() {
            own.changed = Some(now);
            ui.ctx().request_repaint_after_secs(REST as f32);
        }
        let rests = own.changed.is_some_and(|at| now - at >= REST);
        if own.changed.is_some() && (rests || response.lost_focus()) {
            own.changed = None;
            let (key, action) = (node.key.clone(), field.action.clone());
            self.events.push(Event::Input { key, action, text: own.text.clone() });
        }
    }

    fn stepper(&mut self, ui: &mut Ui, node: &Node, s: &Stepper) {
        let mut value = s.value;
        ui.horizontal(|ui| {
            let less = ui.add_enabled(s.value > s.min, Button::new("-"));
            if less.accessible_name(strings::doing(words::less(), &s.label)).clicked() {
                value = s.value.saturating_sub(1);
            }
            ui.label(s.value.to_string());
            let more = ui.add_enabled(s.value < s.max, Button::new("+"));
            if more.accessible_name(strings::doing(words::more(), &s.label)).clicked() {
                value = s.value.saturating_add(1);
            }
            ui.add(Label::new(&s.label).wrap());
        });
        if value != s.value {
            let (key, action) = (node.key.clone(), s.action.clone());
            self.events.push(Event::Step { key, action, value });
        }
    }

    fn canvas(&mut self, ui: &mut Ui, node: &Node, canvas: &Canvas) {
        let scale = (ui.available_width() / canvas.width).min(1.0);
        let size = vec2(canvas.width, canvas.height) * scale;
        let sense = if canvas.action.is_some() { Sense::click() } else { Sense::hover() };
        let (rect, response) = ui.allocate_exact_size(size, sense);
        let label = canvas.label.as_str();
        let part = if canvas.action.is_some() { Part::Button } else { Part::Image };
        response.widget_info(|| WidgetInfo::labeled(part, true, label));
        if ui.is_rect_visible(rect) {
            paint_all(ui, rect, scale, canvas);
        }
        if let Some(action) = &canvas.action {
            self.tapped(node, action, &response, rect, scale);
        }
    }

    fn tapped(&mut self, node: &Node, action: &str, response: &Response, at: Rect, scale: f32) {
        if response.clicked()
            && let Some(pointer) = response.interact_pointer_pos()
        {
            let place = (pointer - at.min) / scale;
            self.tap(node, action, place.x, place.y);
        }
    }
}

fn text(ui: &mut Ui, said: &Text) {
    let colour = role(tokens(ui), said.colour);
    let words = RichText::new(&said.content).color(colour);
    let words = match said.style {
        TextStyle::Body => words,
        TextStyle::Title => words.size(21.0),
        TextStyle::Caption => words.size(SMALL),
        TextStyle::Strong => words.strong().color(colour),
    };
    ui.add(Label::new(words).wrap());
}

fn role(t: &Tokens, role: Role) -> Color32 {
    match role {
        Role::Normal => t.text,
        Role::Muted => t.weak,
        Role::Accent | Role::Good => t.accent,
        Role::Warning | Role::Danger => t.danger,
        Role::Surface => t.button,
    }
}

fn paint(t: &Tokens, paint: Paint) -> Color32 {
    match paint {
        Paint::Role(named) => role(t, named),
        Paint::Rgba([red, green, blue, alpha]) => {
            Color32::from_rgba_unmultiplied(red, green, blue, alpha)
        }
    }
}

fn paint_all(ui: &Ui, rect: Rect, scale: f32, canvas: &Canvas) {
    let t = tokens(ui);
    let painter = ui.painter_at(rect);
    painter.rect_filled(rect, 6.0, t.list);
    let at = |x: f32, y: f32| rect.min + vec2(x, y) * scale;
    for command in &canvas.commands {
        match command {
            Draw::Rect { x, y, width, height, radius, stroke, paint: colour } => {
                let shape = Rect::from_min_size(at(*x, *y), vec2(*width, *height) * scale);
                let (round, colour) = (radius * scale, paint(t, *colour));
                if *stroke > 0.0 {
                    let pen = Stroke::new(stroke * scale, colour);
                    painter.rect_stroke(shape, round, pen, StrokeKind::Inside);
                } else {
                    painter.rect_filled(shape, round, colour);
                }
            }
            Draw::Circle { x, y, radius, stroke, paint: colour } => {
                let colour = paint(t, *colour);
                if *stroke > 0.0 {
                    let pen = Stroke::new(stroke * scale, colour);
                    painter.circle_stroke(at(*x, *y), radius * scale, pen);
                } else {
                    painter.circle_filled(at(*x, *y), radius * scale, colour);
                }
            }
            Draw::Line { start, end, width, paint: colour } => {
                let pen = Stroke::new(width * scale, paint(t, *colour));
                painter.line_segment([at(start.x, start.y), at(end.x, end.y)], pen);
            }
            Draw::Polygon { points, stroke, paint: colour } => {
                let points = points.iter().map(|p| at(p.x, p.y)).collect();
                let colour = paint(t, *colour);
                painter.add(if *stroke > 0.0 {
                    Shape::closed_line(points, Stroke::new(stroke * scale, colour))
                } else {
                    Shape::convex_polygon(points, colour, Stroke::NONE)
                });
            }
            Draw::Text { x, y, size, align, content, paint: colour } => {
                let align = match align {
                    Align::Left => Align2::LEFT_CENTER,
                    Align::Centre => Align2::CENTER_CENTER,
                    Align::Right => Align2::RIGHT_CENTER,
                };
                // Glyphs beyond this would fill the atlas and say nothing.
                let font = FontId::proportional((size * scale).clamp(1.0, 160.0));
                painter.text(at(*x, *y), align, content, font, paint(t, *colour));
            }
        }
    }
}

/// Around the program: no wider than what is read.
pub(super) const WIDTH: f32 = space::FEED;
