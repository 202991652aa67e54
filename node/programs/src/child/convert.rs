//! Between wasmtime's types of `program.wit` and [`crate::ui`]'s.

use super::bindings::exports::teahouse::program::ui as wit;
use crate::ui;

/// Events as a program is given them.
pub(super) fn events(events: &[ui::Event]) -> Vec<wit::Event> {
    events.iter().cloned().map(event).collect()
}

fn event(event: ui::Event) -> wit::Event {
    match event {
        ui::Event::Start(ui::Start { locale, dark_mode, launch, now, seed }) => {
            wit::Event::Start(wit::Start { locale, dark_mode, launch, now, seed })
        }
        ui::Event::Tap { key, action, x, y } => wit::Event::Tap(wit::Tap { key, action, x, y }),
        ui::Event::Input { key, action, text } => {
            wit::Event::Input(wit::Input { key, action, text })
        }
        ui::Event::Step { key, action, value } => {
            wit::Event::Step(wit::Step { key, action, value })
        }
        ui::Event::Answer { id, outcome: answer } => {
            wit::Event::Answer(wit::Answer { id, outcome: outcome(answer) })
        }
        ui::Event::Paid { key, action, outcome } => {
            let outcome = match outcome {
                ui::Payment::Paid => wit::Payment::Paid,
                ui::Payment::Refused => wit::Payment::Refused,
                ui::Payment::Unknown => wit::Payment::Unknown,
                ui::Payment::Cancelled => wit::Payment::Cancelled,
            };
            wit::Event::Paid(wit::Paid { key, action, outcome })
        }
        ui::Event::StateChanged(key) => wit::Event::StateChanged(key),
    }
}

fn outcome(outcome: ui::Outcome) -> wit::Outcome {
    match outcome {
        ui::Outcome::Done => wit::Outcome::Done,
        ui::Outcome::Value(value) => wit::Outcome::Value(value),
        ui::Outcome::Missing => wit::Outcome::Missing,
        ui::Outcome::Keys(keys) => wit::Outcome::Keys(keys),
        ui::Outcome::Refused(reason) => wit::Outcome::Refused(match reason {
            ui::Reason::NoGrant => wit::Reason::NoGrant,
            ui::Reason::NotHere => wit::Reason::NotHere,
            ui::Reason::TooLarge => wit::Reason::TooLarge,
            ui::Reason::Offline => wit::Reason::Offline,
            ui::Reason::Failed => wit::Reason::Failed,
        }),
    }
}

/// A view as a program gave it, not yet checked.
pub(super) fn view(view: wit::View) -> ui::View {
    ui::View {
        rev: view.rev,
        nodes: view.nodes.into_iter().map(node).collect(),
        effects: view.effects.into_iter().map(effect).collect(),
    }
}

fn node(node: wit::Node) -> ui::Node {
    ui::Node { key: node.key, parent: node.parent, kind: kind(node.kind) }
}

fn kind(kind: wit::Kind) -> ui::Kind {
    match kind {
        wit::Kind::Page(title) => ui::Kind::Page(title),
        wit::Kind::Column => ui::Kind::Column,
        wit::Kind::Row => ui::Kind::Row,
        wit::Kind::Card => ui::Kind::Card,
        wit::Kind::VirtualList => ui::Kind::VirtualList,
        wit::Kind::Divider => ui::Kind::Divider,
        wit::Kind::Text(wit::Text { content, style, colour }) => ui::Kind::Text(ui::Text {
            content,
            style: match style {
                wit::TextStyle::Body => ui::TextStyle::Body,
                wit::TextStyle::Title => ui::TextStyle::Title,
                wit::TextStyle::Caption => ui::TextStyle::Caption,
                wit::TextStyle::Strong => ui::TextStyle::Strong,
            },
            colour: role(colour),
        }),
        wit::Kind::Image(wit::Image { source, width, height, label }) => {
            ui::Kind::Image(ui::Image { source, width, height, label })
        }
        wit::Kind::Button(wit::Button { label, action, style, enabled }) => {
            let style = match style {
                wit::ButtonStyle::Primary => ui::ButtonStyle::Primary,
                wit::ButtonStyle::Secondary => ui::ButtonStyle::Secondary,
                wit::ButtonStyle::Quiet => ui::ButtonStyle::Quiet,
            };
            ui::Kind::Button(ui::Button { label, action, style, enabled })
        }
        wit::Kind::TextField(wit::TextField { label, value, action, multiline, max_length }) => {
            ui::Kind::TextField(ui::TextField { label, value, action, multiline, max_length })
        }
        wit::Kind::Stepper(wit::Stepper { label, value, min, max, action }) => {
            ui::Kind::Stepper(ui::Stepper { label, value, min, max, action })
        }
        wit::Kind::Canvas(wit::Canvas { width, height, label, commands, action }) => {
            let commands = commands.into_iter().map(draw).collect();
            ui::Kind::Canvas(ui::Canvas { width, height, label, commands, action })
        }
        wit::Kind::PayButton(wit::PayButton { order, action }) => {
            ui::Kind::PayButton(ui::PayButton { order, action })
        }
    }
}

fn role(role: wit::Role) -> ui::Role {
    match role {
        wit::Role::Normal => ui::Role::Normal,
        wit::Role::Muted => ui::Role::Muted,
        wit::Role::Accent => ui::Role::Accent,
        wit::Role::Good => ui::Role::Good,
        wit::Role::Warning => ui::Role::Warning,
        wit::Role::Danger => ui::Role::Danger,
        wit::Role::Surface => ui::Role::Surface,
    }
}

fn point(point: wit::Point) -> ui::Point {
    ui::Point { x: point.x, y: point.y }
}

fn colour(paint: wit::Paint) -> ui::Paint {
    match paint {
        wit::Paint::Role(name) => ui::Paint::Role(role(name)),
        wit::Paint::Rgba(wit::Rgba { red, green, blue, alpha }) => {
            ui::Paint::Rgba([red, green, blue, alpha])
        }
    }
}

fn draw(command: wit::Draw) -> ui::Draw {
    match command {
        wit::Draw::Rect(wit::Rect { x, y, width, height, radius, stroke, paint }) => {
            ui::Draw::Rect { x, y, width, height, radius, stroke, paint: colour(paint) }
        }
        wit::Draw::Circle(wit::Circle { x, y, radius, stroke, paint }) => {
            ui::Draw::Circle { x, y, radius, stroke, paint: colour(paint) }
        }
        wit::Draw::Line(wit::Line { start, end, width, paint }) => {
            ui::Draw::Line { start: point(start), end: point(end), width, paint: colour(paint) }
        }
        wit::Draw::Polygon(wit::Polygon { points, stroke, paint }) => {
            let points = points.into_iter().map(point).collect();
            ui::Draw::Polygon { points, stroke, paint: colour(paint) }
        }
        wit::Draw::Text(wit::Label { x, y, size, align, content, paint }) => {
            let align = match align {
                wit::Align::Left => ui::Align::Left,
                wit::Align::Centre => ui::Align::Centre,
                wit::Align::Right => ui::Align::Right,
            };
            ui::Draw::Text { x, y, size, align, content, paint: colour(paint) }
        }
    }
}

fn effect(effect: wit::Effect) -> ui::Effect {
    let entry = |wit::Entry { key, value }| ui::Entry { key, value };
    let request = match effect.request {
        wit::Request::Login => ui::Request::Login,
        wit::Request::Close => ui::Request::Close,
        wit::Request::StorageGet(key) => ui::Request::StorageGet(key),
        wit::Request::StorageSet(value) => ui::Request::StorageSet(entry(value)),
        wit::Request::StorageRemove(key) => ui::Request::StorageRemove(key),
        wit::Request::StorageList(prefix) => ui::Request::StorageList(prefix),
        wit::Request::StateGet(key) => ui::Request::StateGet(key),
        wit::Request::StateSet(value) => ui::Request::StateSet(entry(value)),
        wit::Request::StateList(prefix) => ui::Request::StateList(prefix),
        wit::Request::Call(wit::Call { function, payload }) => {
            ui::Request::Call { function, payload }
        }
        wit::Request::Share(wit::Card { title, launch }) => ui::Request::Share { title, launch },
        wit::Request::Notice(text) => ui::Request::Notice(text),
    };
    ui::Effect { id: effect.id, request }
}
