//! A program's picture as lines of text, and a person's line as what they did: how the
//! command line opens programs.

use teahouse_programs::ui::{Event, Kind, Node};

/// What stands on a line, and which widget it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// From 1 for what can be used; 0 for the rest.
    pub number: usize,
    /// Levels from the page.
    pub depth: usize,
    /// The words, in which a program's control characters may stand: to be tidied.
    pub text: String,
}

/// The picture in lines. `bill` says what stands on a button to pay, by its key.
#[must_use]
pub fn lines(nodes: &[Node], bill: impl Fn(&str) -> String) -> Vec<Line> {
    let mut depths: Vec<usize> = Vec::with_capacity(nodes.len());
    let mut lines = Vec::new();
    let mut number = 0;
    for node in nodes {
        let above = node.parent.and_then(|p| depths.get(p as usize).copied());
        let depth = above.map_or(0, |d| d + 1);
        depths.push(depth);
        let text = match &node.kind {
            Kind::Column | Kind::Row | Kind::Card | Kind::VirtualList => continue,
            Kind::Page(title) => title.clone(),
            Kind::Text(text) => text.content.clone(),
            Kind::Image(image) => format!("(picture: {})", image.label),
            Kind::Button(b) if b.enabled => format!("<{}>", b.label),
            Kind::Button(b) => format!("<{}> (not now)", b.label),
            Kind::TextField(f) => format!("{}: {}_", f.label, f.value),
            Kind::Stepper(s) => format!("{}: {} ({} to {})", s.label, s.value, s.min, s.max),
            Kind::Divider => "----".to_owned(),
            Kind::Canvas(c) => format!("(drawing, {} by {}: {})", c.width, c.height, c.label),
            // Programs can write the same; what asks for money stands where they write nothing.
            Kind::PayButton(_) => format!("[$$ {} $$]", bill(&node.key)),
        };
        let usable = is_usable(node);
        number += usize::from(usable);
        lines.push(Line { number: if usable { number } else { 0 }, depth, text });
    }
    lines
}

fn is_usable(node: &Node) -> bool {
    match &node.kind {
        Kind::Button(b) => b.enabled,
        Kind::TextField(_) | Kind::Stepper(_) | Kind::PayButton(_) => true,
        Kind::Canvas(c) => c.action.is_some(),
        _ => false,
    }
}

/// The key of the button to pay that a person's line means, if it means one.
#[must_use]
pub fn pay_button<'a>(nodes: &'a [Node], line: &str) -> Option<&'a str> {
    let number: usize = line.trim().parse().ok()?;
    let node = nodes.iter().filter(|n| is_usable(n)).nth(number.checked_sub(1)?)?;
    matches!(node.kind, Kind::PayButton(_)).then_some(node.key.as_str())
}

/// What a person's line means: the number of a widget, and what is done to it. `3` taps,
/// `4 some text` writes, `5 +`, `5 -` and `5 7` step, `6 10,20` taps a drawing there.
pub fn event(nodes: &[Node], line: &str) -> Result<Event, String> {
    let (number, rest) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
    let number: usize = number.parse().map_err(|_| "a line begins with a number".to_owned())?;
    let mut usable = nodes.iter().filter(|n| is_usable(n));
    let node = number.checked_sub(1).and_then(|n| usable.nth(n));
    let node = node.ok_or_else(|| format!("there is no {number}"))?;
    let key = node.key.clone();
    match &node.kind {
        Kind::Button(b) => Ok(Event::Tap { key, action: b.action.clone(), x: 0.0, y: 0.0 }),
        Kind::TextField(field) => {
            let text: String = rest.chars().take(field.max_length as usize).collect();
            Ok(Event::Input { key, action: field.action.clone(), text })
        }
        Kind::Stepper(s) => {
            let value = match rest {
                "+" | "" => s.value.saturating_add(1),
                "-" => s.value.saturating_sub(1),
                number => number.parse().map_err(|_| "say +, - or a number".to_owned())?,
            };
            let value = value.clamp(s.min, s.max);
            Ok(Event::Step { key, action: s.action.clone(), value })
        }
        Kind::Canvas(canvas) => {
            let place = rest.split_once(',').and_then(|(x, y)| {
                let (x, y): (f32, f32) = (x.trim().parse().ok()?, y.trim().parse().ok()?);
                let inside =
                    (0.0..=canvas.width).contains(&x) && (0.0..=canvas.height).contains(&y);
                inside.then_some((x, y))
            });
            let (x, y) = place.ok_or_else(|| "say where, as in 10,20".to_owned())?;
            let action = canvas.action.clone().unwrap_or_default();
            Ok(Event::Tap { key, action, x, y })
        }
        _ => Err("nothing can be done with it".to_owned()),
    }
}
