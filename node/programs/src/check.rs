//! Whether a view keeps the bounds of `program.wit`, and events do.
//!
//! Run in the child, so that a bad view ends its program there, and again in the host,
//! which believes nothing that the child says.

use std::collections::HashSet;

use crate::limits;
use crate::ui::{Canvas, Draw, Event, Kind, Node, Outcome, Point, Request, View};

/// What a node, command or effect weighs beside its strings.
const ITEM_BYTES: usize = 16;

type Checked = Result<(), &'static str>;

/// Checks a view by itself. Whether its `rev` follows the last one is [`follows`].
pub(crate) fn view(view: &View) -> Checked {
    ensure(view.nodes.len() <= limits::NODES, "more than 4096 nodes")?;
    ensure(view.effects.len() <= limits::EFFECTS, "more than 32 effects")?;
    ensure(weight(view) <= limits::VIEW_BYTES, "more than 1 MiB in all")?;
    let commands = view.nodes.iter().map(|node| match &node.kind {
        Kind::Canvas(canvas) => canvas.commands.len(),
        _ => 0,
    });
    ensure(commands.sum::<usize>() <= limits::DRAW_COMMANDS, "more than 4096 draw commands")?;

    let mut keys = HashSet::with_capacity(view.nodes.len());
    let mut depths: Vec<usize> = Vec::with_capacity(view.nodes.len());
    for (index, node) in view.nodes.iter().enumerate() {
        ensure(!node.key.is_empty(), "a key is empty")?;
        string(&node.key, limits::NODE_KEY, "a key is longer than 64 B")?;
        ensure(keys.insert(node.key.as_str()), "two nodes have the same key")?;
        let is_page = matches!(node.kind, Kind::Page(_));
        let depth = match (index, node.parent) {
            (0, None) => {
                ensure(is_page, "the first node is not a page")?;
                1
            }
            (0, Some(_)) => return Err("the page has a parent"),
            (_, None) => return Err("a node has no parent"),
            (_, Some(parent)) => {
                ensure(!is_page, "a page stands inside another node")?;
                let parent = parent as usize;
                // `depths` holds the earlier nodes alone, so this is the order check.
                let above = depths.get(parent).ok_or("a parent stands after its child")?;
                let holds = view.nodes.get(parent).is_some_and(|n| n.kind.holds_children());
                ensure(holds, "a node stands in one that holds no children")?;
                above + 1
            }
        };
        ensure(depth <= limits::DEPTH, "more than 32 levels")?;
        depths.push(depth);
        kind(node)?;
    }
    view.effects.iter().try_for_each(|effect| request(&effect.request))
}

/// Checks that a view follows one whose `rev` was `last`, of which the first has none.
pub(crate) fn follows(view: &View, last: Option<u64>) -> Checked {
    match last {
        None => ensure(!view.nodes.is_empty(), "the first view is empty"),
        Some(last) if view.rev > last => ensure(!view.nodes.is_empty(), "a new picture is empty"),
        Some(last) if view.rev == last => {
            ensure(view.nodes.is_empty(), "a new picture has the number of the last one")
        }
        Some(_) => Err("pictures are counted backwards"),
    }
}

/// Checks what an update is to carry to a program.
pub(crate) fn events(events: &[Event]) -> Checked {
    ensure(events.len() <= limits::EVENTS, "more than 64 events")?;
    let mut bytes = 0usize;
    for event in events {
        bytes += match event {
            Event::Start(start) => {
                ensure(start.launch.len() <= limits::LAUNCH, "a launch parameter is too long")?;
                start.locale.len() + start.launch.len()
            }
            Event::Tap { key, action, .. }
            | Event::Step { key, action, .. }
            | Event::Paid { key, action, .. } => key.len() + action.len(),
            Event::Input { key, action, text } => key.len() + action.len() + text.len(),
            Event::Answer { outcome, .. } => match outcome {
                Outcome::Value(value) => value.len(),
                Outcome::Keys(keys) => {
                    ensure(keys.len() <= limits::KEYS, "more than 1024 keys")?;
                    keys.iter().map(String::len).sum()
                }
                Outcome::Done | Outcome::Missing | Outcome::Refused(_) => 0,
            },
            Event::StateChanged(key) => key.len(),
        };
    }
    ensure(bytes <= limits::EVENT_BYTES, "more than 1 MiB of events")
}

fn ensure(holds: bool, why: &'static str) -> Checked {
    if holds { Ok(()) } else { Err(why) }
}

fn string(text: &str, max: usize, why: &'static str) -> Checked {
    ensure(text.len() <= max, why)
}

/// Bytes of strings and lists, and [`ITEM_BYTES`] for each item. Lists are bounded by what
/// was decoded, so the sum can't overflow.
fn weight(view: &View) -> usize {
    let nodes: usize = view.nodes.iter().map(node_weight).sum();
    let effects = view.effects.iter().map(|effect| match &effect.request {
        Request::Login | Request::Close => ITEM_BYTES,
        Request::StorageGet(text)
        | Request::StorageRemove(text)
        | Request::StorageList(text)
        | Request::StateGet(text)
        | Request::StateList(text)
        | Request::Notice(text) => ITEM_BYTES + text.len(),
        Request::StorageSet(entry) | Request::StateSet(entry) => {
            ITEM_BYTES + entry.key.len() + entry.value.len()
        }
        Request::Call { function, payload } => ITEM_BYTES + function.len() + payload.len(),
        Request::Share { title, launch } => ITEM_BYTES + title.len() + launch.len(),
    });
    nodes + effects.sum::<usize>()
}

fn node_weight(node: &Node) -> usize {
    let inside = match &node.kind {
        Kind::Column | Kind::Row | Kind::Card | Kind::VirtualList | Kind::Divider => 0,
        Kind::Page(title) => title.len(),
        Kind::Text(text) => text.content.len(),
        Kind::Image(image) => image.source.len() + image.label.len(),
        Kind::Button(button) => button.label.len() + button.action.len(),
        Kind::TextField(field) => field.label.len() + field.value.len() + field.action.len(),
        Kind::Stepper(stepper) => stepper.label.len() + stepper.action.len(),
        Kind::PayButton(pay) => pay.order.len() + pay.action.len(),
        Kind::Canvas(canvas) => {
            let commands = canvas.commands.iter().map(|command| match command {
                Draw::Polygon { points, .. } => ITEM_BYTES + points.len() * size_of::<Point>(),
                Draw::Text { content, .. } => ITEM_BYTES + content.len(),
                Draw::Rect { .. } | Draw::Circle { .. } | Draw::Line { .. } => ITEM_BYTES,
            });
            canvas.label.len()
                + canvas.action.as_ref().map_or(0, String::len)
                + commands.sum::<usize>()
        }
    };
    ITEM_BYTES + node.key.len() + inside
}

fn label(text: &str) -> Checked {
    ensure(!text.is_empty(), "a label is empty")?;
    string(text, limits::LABEL, "a label is longer than 256 B")
}

fn action(text: &str) -> Checked {
    string(text, limits::ACTION, "an action is longer than 128 B")
}

fn size(value: f32) -> Checked {
    // False for NaN as well.
    ensure((1.0..=limits::SIZE).contains(&value), "a size is not from 1 to 4096")
}

fn kind(node: &Node) -> Checked {
    match &node.kind {
        Kind::Column | Kind::Row | Kind::Card | Kind::VirtualList | Kind::Divider => Ok(()),
        Kind::Page(title) => string(title, limits::TITLE, "a title is longer than 64 B"),
        Kind::Text(text) => string(&text.content, limits::TEXT, "a text is longer than 8 KiB"),
        Kind::Image(image) => {
            file(&image.source)?;
            size(image.width)?;
            size(image.height)?;
            string(&image.label, limits::LABEL, "a label is longer than 256 B")
        }
        Kind::Button(button) => {
            label(&button.label)?;
            action(&button.action)
        }
        Kind::TextField(field) => {
            label(&field.label)?;
            string(&field.value, limits::TEXT, "a field's value is longer than 8 KiB")?;
            let fits = (1..=limits::FIELD_CHARS).contains(&field.max_length);
            ensure(fits, "a field's length is not from 1 to 4096")?;
            action(&field.action)
        }
        Kind::Stepper(stepper) => {
            label(&stepper.label)?;
            // The first half says that min is at most max.
            let ordered = stepper.min <= stepper.value && stepper.value <= stepper.max;
            ensure(ordered, "a stepper's value is not from its least to its most")?;
            action(&stepper.action)
        }
        Kind::Canvas(canvas) => drawing(canvas),
        Kind::PayButton(pay) => {
            ensure(pay.order.len() <= limits::ORDER, "an order is larger than 16 KiB")?;
            action(&pay.action)
        }
    }
}

/// A name inside the package: nothing that could mean another place.
fn file(path: &str) -> Checked {
    string(path, limits::LABEL, "a file's name is longer than 256 B")?;
    let plain = path.split('/').all(|part| {
        !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', '\0', ':'])
    });
    ensure(plain, "a picture is not a file of the package")
}

fn drawing(canvas: &Canvas) -> Checked {
    label(&canvas.label)?;
    size(canvas.width)?;
    size(canvas.height)?;
    canvas.action.as_deref().map_or(Ok(()), action)?;
    canvas.commands.iter().try_for_each(draw)
}

fn draw(command: &Draw) -> Checked {
    let place = |values: &[f32]| {
        // False for NaN as well.
        let near = values.iter().all(|value| value.abs() <= limits::COORDINATE);
        ensure(near, "a place on a canvas is not a number within 65536")
    };
    let length = |values: &[f32]| {
        let fits = values.iter().all(|value| (0.0..=limits::COORDINATE).contains(value));
        ensure(fits, "a length on a canvas is not a number from 0 to 65536")
    };
    match command {
        Draw::Rect { x, y, width, height, radius, stroke, .. } => {
            place(&[*x, *y])?;
            length(&[*width, *height, *radius, *stroke])
        }
        Draw::Circle { x, y, radius, stroke, .. } => {
            place(&[*x, *y])?;
            length(&[*radius, *stroke])
        }
        Draw::Line { start, end, width, .. } => {
            place(&[start.x, start.y, end.x, end.y])?;
            length(&[*width])
        }
        Draw::Polygon { points, stroke, .. } => {
            let fits = (3..=limits::POINTS).contains(&points.len());
            ensure(fits, "a polygon has not 3 to 256 corners")?;
            points.iter().try_for_each(|point| place(&[point.x, point.y]))?;
            length(&[*stroke])
        }
        Draw::Text { x, y, size, content, .. } => {
            place(&[*x, *y])?;
            length(&[*size])?;
            string(content, limits::LABEL, "a text on a canvas is longer than 256 B")
        }
    }
}

fn request(request: &Request) -> Checked {
    let key = |key: &str| {
        let fits = (1..=limits::STATE_KEY).contains(&key.len());
        ensure(fits, "a key of storage is not 1 to 128 B long")
    };
    let value = |value: &[u8]| ensure(value.len() <= limits::VALUE, "a value is over 64 KiB");
    match request {
        Request::Login | Request::Close => Ok(()),
        Request::StorageGet(name) | Request::StorageRemove(name) | Request::StateGet(name) => {
            key(name)
        }
        Request::StorageList(prefix) | Request::StateList(prefix) => {
            string(prefix, limits::STATE_KEY, "a key's beginning is longer than 128 B")
        }
        Request::StorageSet(entry) | Request::StateSet(entry) => {
            key(&entry.key)?;
            value(&entry.value)
        }
        Request::Call { function, payload } => {
            let fits = (1..=limits::FUNCTION).contains(&function.len());
            ensure(fits, "a function's name is not 1 to 64 B long")?;
            value(payload)
        }
        Request::Share { title, launch } => {
            label(title)?;
            string(launch, limits::LAUNCH, "a card's parameter is longer than 1 KiB")
        }
        Request::Notice(text) => string(text, limits::LABEL, "a notice is longer than 256 B"),
    }
}
