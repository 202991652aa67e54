//! Draws a program's picture with the window's own widgets, and says what the person does.
//!
//! What a person has begun in a widget (what stands in a field, where the caret is) belongs to
//! the widget's key, and stays while the key does. What is out of sight is not laid out: its
//! height is remembered, or guessed until it comes into sight. And whatever a program wants
//! shown, a frame does so much of it and no more ([`Left`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use egui::{
    Button, Color32, Frame, Id, Label, Rect, Response, RichText, Role as Part, Sense, Stroke,
    TextEdit, TextureHandle, TextureOptions, Ui, UiBuilder, WidgetInfo, pos2, vec2,
};
use teahouse_node::programs::ui::{
    ButtonStyle, Canvas, Event, Image, Kind, Node, Role, Stepper, Text, TextField, TextStyle,
};

use super::canvas::Painted;
use super::vm::Running;
use super::words;
use crate::strings;
use crate::theme::{SMALL, Tokens, space, tokens};
use crate::widgets::{float, primary};

/// What is written is told to the program once nothing was typed for so long, in seconds.
const REST: f64 = 0.6;
/// How far beyond the window's edge things are laid out, in points: the next ones by Tab.
const MARGIN: f32 = 160.0;
/// Widgets that are laid out in a frame at most: a window full of buttons has some hundred.
const MOST_WIDGETS: usize = 768;
/// Bytes of text that are laid out in a frame at most: a window full of small print has 20 KiB.
const MOST_TEXT: usize = 64 << 10;
/// Vertices of all drawings at most; a seat map has some 20,000.
const MOST_VERTICES: usize = 1 << 17;
/// Labels on drawings in a frame at most.
const MOST_LABELS: usize = 1_024;
/// Square points of letters on drawings in a frame at most: each may have to be made.
const MOST_INK: f32 = 2_000_000.0;

/// What is left to be done for the program in this frame.
pub(super) struct Left {
    widgets: usize,
    text: usize,
    labels: usize,
    ink: f32,
    /// Whether something was left out.
    cut: bool,
}

impl Left {
    const fn all() -> Self {
        let (widgets, text, labels) = (MOST_WIDGETS, MOST_TEXT, MOST_LABELS);
        Self { widgets, text, labels, ink: MOST_INK, cut: false }
    }

    /// Whether there is room for a widget with so much text.
    fn widget(&mut self, text: usize) -> bool {
        let fits = self.widgets > 0 && self.text >= text;
        if fits {
            self.widgets -= 1;
            self.text -= text;
        }
        self.cut |= !fits;
        fits
    }

    /// Whether there is room for a label on a drawing.
    fn label(&mut self, text: &str, high: f32) -> bool {
        let ink = crate::widgets::float(text.chars().count()) * high * high;
        let fits = self.labels > 0 && self.text >= text.len() && self.ink >= ink;
        if fits {
            self.labels -= 1;
            self.text -= text.len();
            self.ink -= ink;
        }
        self.cut |= !fits;
        fits
    }
}

/// What a person is doing in the open program.
#[derive(Default)]
pub(super) struct Doing {
    /// How many programs were opened before: what was written in one is nothing to the next.
    opened: u64,
    nodes: Arc<[Node]>,
    /// The children of each node.
    children: Vec<Arc<[usize]>>,
    fields: BTreeMap<String, Field>,
    /// Heights of nodes as they were drawn last.
    heights: Vec<Option<f32>>,
    /// Drawings by their node.
    painted: BTreeMap<usize, Painted>,
    textures: BTreeMap<String, TextureHandle>,
    /// Whether the last frame left something out.
    pub(super) cut: bool,
}

struct Field {
    text: String,
    /// What the program last said stands in it.
    given: String,
    action: String,
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
        let known = self.nodes.iter().map(|n| n.key.as_str()).zip(&self.heights);
        let known: BTreeMap<&str, f32> = known.filter_map(|(k, h)| Some((k, (*h)?))).collect();
        self.heights = running.nodes.iter().map(|n| known.get(n.key.as_str()).copied()).collect();
        self.nodes = Arc::clone(&running.nodes);
        self.painted.clear();
        let mut children = vec![Vec::new(); self.nodes.len()];
        let mut fields = BTreeMap::new();
        for (index, node) in self.nodes.iter().enumerate() {
            if let Some(children) = node.parent.and_then(|p| children.get_mut(p as usize)) {
                children.push(index);
            }
            let Kind::TextField(field) = &node.kind else { continue };
            let old = self.fields.remove(&node.key);
            let kept = old.filter(|f| f.given == field.value || f.text == field.value);
            let fresh = || Field {
                text: field.value.clone(),
                given: String::new(),
                action: String::new(),
                changed: None,
            };
            let mut own = kept.unwrap_or_else(fresh);
            own.given.clone_from(&field.value);
            own.action.clone_from(&field.action);
            fields.insert(node.key.clone(), own);
        }
        self.children = children.into_iter().map(Arc::from).collect();
        self.fields = fields;
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
        let left = Left::all();
        let mut drawing = Drawing { nodes: &nodes, running, doing, left, events: &mut events };
        drawing.column(ui, 0);
        drawing.doing.cut = drawing.left.cut;
        drawing.tell(ui);
    }
    events
}

struct Drawing<'a> {
    nodes: &'a [Node],
    running: &'a Running,
    doing: &'a mut Doing,
    left: Left,
    events: &'a mut Vec<Event>,
}

impl Drawing<'_> {
    /// Children below each other; what is out of sight only takes its room.
    fn column(&mut self, ui: &mut Ui, of: usize) {
        let Some(children) = self.doing.children.get(of).cloned() else { return };
        let seen = ui.clip_rect().expand2(vec2(0.0, MARGIN));
        for child in children.iter().copied() {
            let known = self.doing.heights.get(child).copied().flatten();
            let height = known.unwrap_or_else(|| self.guess(ui, child));
            let size = vec2(ui.available_width(), height);
            let rect = Rect::from_min_size(ui.next_widget_position(), size);
            let drawn = seen.y_range().intersects(rect.y_range()) && self.node(ui, child);
            if !drawn {
                ui.allocate_space(size);
            }
        }
    }

    /// Children beside each other: where one stands follows from all before it.
    fn row(&mut self, ui: &mut Ui, of: usize) {
        let Some(children) = self.doing.children.get(of).cloned() else { return };
        for child in children.iter().copied() {
            if !self.node(ui, child) {
                return;
            }
        }
    }

    /// How high something is that was not drawn yet: good enough for what is out of sight.
    fn guess(&self, ui: &Ui, index: usize) -> f32 {
        let line = ui.text_style_height(&egui::TextStyle::Body);
        let Some(node) = self.nodes.get(index) else { return 0.0 };
        let scaled = |width: f32, height: f32| height * (ui.available_width() / width).min(1.0);
        match &node.kind {
            Kind::Text(text) => line * float(1 + text.content.len() / 80),
            Kind::Image(image) => scaled(image.width, image.height),
            Kind::Canvas(canvas) => scaled(canvas.width, canvas.height),
            Kind::TextField(field) if field.multiline => 5.0 * line,
            Kind::TextField(_) => 3.0 * line,
            Kind::Divider => 6.0,
            _ => 2.0 * line,
        }
    }

    /// Draws a node, if there is room for it in this frame.
    fn node(&mut self, ui: &mut Ui, index: usize) -> bool {
        let nodes = self.nodes;
        let Some(node) = nodes.get(index) else { return false };
        let text = match &node.kind {
            Kind::Text(said) => said.content.len(),
            Kind::Button(b) => b.label.len(),
            Kind::TextField(field) => {
                let own = self.doing.fields.get(&node.key).map_or(0, |f| f.text.len());
                field.label.len() + own
            }
            Kind::Stepper(s) => s.label.len(),
            _ => 0,
        };
        if !self.left.widget(text) {
            return false;
        }
        // By its key alone: what stands above it may be drawn or not.
        let id = Id::unique(("program node", self.doing.opened, &node.key));
        let drawn = ui.scope_builder(UiBuilder::new().scope_id(id), |ui| match &node.kind {
            // Checked by the host: only the first node is one.
            Kind::Page(_) => {}
            Kind::Column | Kind::VirtualList => {
                ui.vertical(|ui| self.column(ui, index));
            }
            Kind::Row => {
                ui.horizontal_wrapped(|ui| self.row(ui, index));
            }
            Kind::Card => {
                let fill = tokens(ui).list;
                Frame::new().fill(fill).corner_radius(10).inner_margin(12).show(ui, |ui| {
                    ui.set_width(ui.available_width());
                    self.column(ui, index);
                });
            }
            Kind::Text(said) => self::text(ui, said),
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
            Kind::Canvas(canvas) => self.canvas(ui, (index, node), canvas),
            // The window's words, on the window's own ground: a tap is the window's, too.
            Kind::PayButton(_) => {
                let bill = self.running.bills.get(&node.key).map_or("", String::as_str);
                if pay_button(ui, bill).clicked() {
                    self.tap(node, "", 0.0, 0.0);
                }
            }
        });
        if let Some(height) = self.doing.heights.get_mut(index) {
            *height = Some(drawn.response.rect.height());
        }
        true
    }

    /// Tells what was written in fields and has come to rest, in sight or not.
    fn tell(&mut self, ui: &Ui) {
        let now = ui.input(|i| i.time);
        for (key, own) in &mut self.doing.fields {
            if own.changed.is_some_and(|at| now - at >= REST) {
                own.changed = None;
                let (key, action, text) = (key.clone(), own.action.clone(), own.text.clone());
                self.events.push(Event::Input { key, action, text });
            }
        }
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
        if response.changed() {
            own.changed = Some(ui.input(|i| i.time));
            ui.ctx().request_repaint_after_secs(REST as f32);
        }
        if own.changed.is_some() && response.lost_focus() {
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

    fn canvas(&mut self, ui: &mut Ui, (index, node): (usize, &Node), canvas: &Canvas) {
        let scale = (ui.available_width() / canvas.width).min(1.0);
        let size = vec2(canvas.width, canvas.height) * scale;
        let sense = if canvas.action.is_some() { Sense::click() } else { Sense::hover() };
        let (rect, response) = ui.allocate_exact_size(size, sense);
        let label = canvas.label.as_str();
        let part = if canvas.action.is_some() { Part::Button } else { Part::Image };
        response.widget_info(|| WidgetInfo::labeled(part, true, label));
        if ui.is_rect_visible(rect) {
            let kept = self.doing.painted.remove(&index).filter(|p| p.fits(ui, scale));
            let mut painted = kept.unwrap_or_else(|| {
                let others: usize = self.doing.painted.values().map(|p| p.vertices).sum();
                Painted::new(ui, canvas, scale, MOST_VERTICES.saturating_sub(others))
            });
            self.left.cut |= painted.cut;
            let left = &mut self.left;
            painted.paint(ui, rect, canvas, |text, high| left.label(text, high));
            self.doing.painted.insert(index, painted);
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

pub(super) fn role(t: &Tokens, role: Role) -> Color32 {
    match role {
        Role::Normal => t.text,
        Role::Muted => t.weak,
        Role::Accent | Role::Good => t.accent,
        Role::Warning | Role::Danger => t.danger,
        Role::Surface => t.button,
    }
}

/// Around the program: no wider than what is read.
pub(super) const WIDTH: f32 = space::FEED;
