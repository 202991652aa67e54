//! Short remarks over the window's lower edge: what was refused and why, what is done.

use egui::{Align2, Area, Context, Frame, Id, Label, Margin, Order, RichText, vec2};

use crate::theme::tokens;
use crate::widgets::float;

/// Shown at the same time, at most.
const MOST: usize = 4;

#[derive(Debug)]
struct Toast {
    text: String,
    bad: bool,
    /// When it goes, by egui's clock; set when it is first shown.
    until: Option<f64>,
}

/// The remarks that are shown.
#[derive(Debug, Default)]
pub(crate) struct Toasts {
    list: Vec<Toast>,
}

impl Toasts {
    /// Something failed; why, as a sentence.
    pub(crate) fn bad(&mut self, text: impl Into<String>) {
        self.add(text.into(), true);
    }

    /// Something is done.
    pub(crate) fn good(&mut self, text: impl Into<String>) {
        self.add(text.into(), false);
    }

    fn add(&mut self, text: String, bad: bool) {
        self.list.retain(|t| t.text != text);
        if self.list.len() == MOST {
            self.list.remove(0);
        }
        self.list.push(Toast { text, bad, until: None });
    }

    pub(crate) fn show(&mut self, ctx: &Context) {
        let now = ctx.time();
        for toast in &mut self.list {
            // Long enough to read: a base, and a little for each letter.
            let length = 3.0 + 0.06 * f64::from(float(toast.text.chars().count()));
            toast.until.get_or_insert(now + length);
        }
        self.list.retain(|t| t.until.is_none_or(|until| now < until));
        let next = self.list.iter().filter_map(|t| t.until).fold(f64::INFINITY, f64::min);
        if self.list.is_empty() {
            return;
        }
        ctx.request_repaint_after_secs((next - now) as f32);
        Area::new(Id::unique("toasts"))
            .order(Order::Tooltip)
            .anchor(Align2::CENTER_BOTTOM, vec2(0.0, -72.0))
            .interactable(false)
            .show(ctx, |ui| {
                let t = tokens(ui);
                for toast in &self.list {
                    let (fill, color) =
                        if toast.bad { (t.danger, t.on_danger) } else { (t.text, t.list) };
                    Frame::new()
                        .fill(fill)
                        .corner_radius(8)
                        .inner_margin(Margin::symmetric(14, 9))
                        .show(ui, |ui| {
                            ui.set_max_width(420.0);
                            ui.add(Label::new(RichText::new(&toast.text).color(color)).wrap());
                        });
                }
            });
    }
}
