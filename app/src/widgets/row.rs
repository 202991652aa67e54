//! A row of a list: avatar, two lines, a time and a badge. One control, one accessible name.

use egui::{
    FontSelection, Pos2, Rect, Response, RichText, Role, Sense, TextWrapMode, Ui, WidgetInfo,
    WidgetText, pos2, vec2,
};

use crate::strings;
use crate::theme::{self, space, tokens};
use crate::widgets::{avatar, badge};

/// What a row shows.
#[derive(Default)]
pub(crate) struct Row<'a> {
    /// Decides the avatar's colour.
    pub(crate) id: [u8; 32],
    pub(crate) title: &'a str,
    /// Below the title; may be empty.
    pub(crate) line: &'a str,
    /// Before the line, in the colour of warnings.
    pub(crate) mark: &'a str,
    pub(crate) when: &'a str,
    pub(crate) unread: u64,
    pub(crate) chosen: bool,
}

impl Row<'_> {
    pub(crate) fn show(&self, ui: &mut Ui) -> Response {
        let t = tokens(ui);
        let size = vec2(ui.available_width(), space::ROW);
        let (rect, response) = ui.allocate_exact_size(size, Sense::click());
        let name = strings::with_unread(self.title, self.unread);
        response.widget_info(|| {
            WidgetInfo::selected(Role::Button, ui.is_enabled(), self.chosen, &name)
        });
        if !ui.is_rect_visible(rect) {
            return response;
        }

        let ground = if self.chosen {
            Some(t.chosen)
        } else if response.hovered() || response.has_focus() {
            Some(t.hover)
        } else {
            None
        };
        if let Some(ground) = ground {
            ui.painter().rect_filled(rect.shrink2(vec2(6.0, 1.0)), 8.0, ground);
        }
        if response.has_focus() {
            let edge = egui::Stroke::new(1.0, t.accent);
            let inside = egui::StrokeKind::Inside;
            ui.painter().rect_stroke(rect.shrink2(vec2(6.0, 1.0)), 8.0, edge, inside);
        }

        let inner = rect.shrink2(vec2(space::LARGE, 0.0));
        let radius = 20.0;
        avatar(ui, pos2(inner.left() + radius, inner.center().y), radius, &self.id, self.title);
        let left = inner.left() + 2.0 * radius + 12.0;
        let (first, second) = if self.line.is_empty() && self.mark.is_empty() {
            (inner.center().y, inner.center().y)
        } else {
            (inner.center().y - 10.0, inner.center().y + 11.0)
        };

        let mut right = inner.right();
        if !self.when.is_empty() {
            let text = RichText::new(self.when).size(theme::SMALL).color(t.weak);
            right -= line(ui, text, right, None, first) + space::NORMAL;
        }
        line(ui, RichText::new(self.title).color(t.text), left, Some(right), first);
        let mut right = inner.right();
        if self.unread > 0 {
            let at = pos2(right, second);
            right -= badge(ui, at, self.unread, t.accent, t.on_accent) + space::NORMAL;
        }
        let mut left = left;
        if !self.mark.is_empty() {
            let text = RichText::new(self.mark).size(13.0).color(t.danger);
            left += line(ui, text, left, Some(right), second) + space::SMALL;
        }
        if !self.line.is_empty() && left < right {
            let text = RichText::new(self.line).size(13.0).color(t.weak);
            line(ui, text, left, Some(right), second);
        }
        response
    }
}

/// Paints one line of text, centred on `y`: from `x` on and elided at `end`, or ending at
/// `x` where there is no `end`. Returns its width.
fn line(ui: &Ui, text: RichText, x: f32, end: Option<f32>, y: f32) -> f32 {
    let room = end.map_or(f32::INFINITY, |end| (end - x).max(0.0));
    let galley = WidgetText::from(text).into_galley(
        ui,
        Some(TextWrapMode::Truncate),
        room,
        FontSelection::Default,
    );
    let size = galley.size();
    let left = if end.is_some() { x } else { x - size.x };
    let rect = Rect::from_min_size(Pos2::new(left, y - size.y / 2.0), size);
    ui.painter().galley(rect.min, galley, tokens(ui).text);
    size.x
}
