//! A long list of rows of different heights, of which only the visible ones are laid out.
//!
//! Heights are estimated until a row has been drawn once, then kept by message, look and
//! width. Whatever changes (new rows, older rows, a first measurement, the pane's size), the
//! first visible row stays where it is; or, while the list is at its end, the end does.

use std::collections::BTreeMap;
use std::sync::Arc;

use egui::{Rect, ScrollArea, Ui, UiBuilder, vec2};
use teahouse_node::core::command::MessageId;

use crate::photos::grid;
use crate::vm::{Body, Conversation, MessageRow};
use crate::widgets::bubble::PHOTO;
use crate::widgets::float;

/// Closer to the end than this counts as at the end, in points.
const NEAR: f32 = 8.0;
/// Closer to the beginning than this asks for older messages, in points.
const EARLY: f32 = 400.0;

/// The list's state between frames, for one conversation.
#[derive(Debug)]
pub(crate) struct MessageList {
    of: Option<Arc<Conversation>>,
    width: f32,
    height: f32,
    /// Of each row; `heights.len() == messages.len()`.
    heights: Vec<f32>,
    /// The top of each row, and the end of the last; one more than there are rows.
    tops: Vec<f32>,
    /// Measured heights at `width`, with the look they belong to.
    measured: BTreeMap<MessageId, (u64, f32)>,
    /// The first visible row, and how much of it is above the edge.
    anchor: Option<(MessageId, f32)>,
    at_end: bool,
    /// Heights or size changed: the offset must be set anew.
    moved: bool,
    /// The last row there was while the list was at its end.
    seen: Option<MessageId>,
    /// Go to this row.
    jump: Option<MessageId>,
    /// Frames in a row in which the scroll area did not go where it was told to.
    astray: u8,
}

impl Default for MessageList {
    fn default() -> Self {
        Self {
            of: None,
            width: 0.0,
            height: 0.0,
            heights: Vec::new(),
            tops: vec![0.0],
            measured: BTreeMap::new(),
            anchor: None,
            at_end: true,
            moved: true,
            seen: None,
            jump: None,
            astray: 0,
        }
    }
}

/// What a frame showed.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    /// The rows that were laid out.
    pub(crate) rows: core::ops::Range<usize>,
    /// The beginning is near: older messages are wanted.
    pub(crate) early: bool,
    /// The end is visible.
    pub(crate) at_end: bool,
    /// Messages that came below since the end was last visible.
    pub(crate) below: usize,
}

impl MessageList {
    /// Goes to the end with the next frame.
    pub(crate) fn go_to_end(&mut self) {
        self.at_end = true;
        self.moved = true;
    }

    /// Goes to a message with the next frame, if it is here.
    pub(crate) fn go_to(&mut self, id: MessageId) {
        self.jump = Some(id);
    }

    /// Draws the visible rows.
    pub(crate) fn show(
        &mut self,
        ui: &mut Ui,
        conversation: &Arc<Conversation>,
        mut row: impl FnMut(&mut Ui, &MessageRow),
    ) -> Shown {
        let messages = &conversation.messages;
        let (width, height) = (ui.available_width(), ui.available_height());
        self.fit(conversation, width, height);

        let mut area =
            ScrollArea::vertical().id_salt(conversation.topic.0).auto_shrink(false).animated(false);
        let wanted = self.offset(messages);
        if let Some(offset) = wanted {
            area = area.vertical_scroll_offset(offset);
        }
        let mut changed = false;
        let output = area.show_viewport(ui, |ui, view| {
            ui.set_width(width);
            ui.set_height(self.tops.last().copied().unwrap_or_default().max(height));
            let origin = ui.max_rect().left_top();
            // A short list stands on the pane's lower edge.
            let gap = (height - self.tops.last().copied().unwrap_or_default()).max(0.0);
            let first = self.tops.partition_point(|top| top + gap <= view.min.y).saturating_sub(1);
            let mut next = first;
            while next < messages.len() && self.tops[next] + gap < view.max.y {
                let message = &messages[next];
                let place = Rect::from_min_size(
                    origin + vec2(0.0, self.tops[next] + gap),
                    vec2(width, self.heights[next]),
                );
                let builder = UiBuilder::new().max_rect(place).id_salt(message.id);
                let mut child = ui.new_child(builder);
                row(&mut child, message);
                let real = child.min_rect().height();
                if (real - self.heights[next]).abs() > 0.5 {
                    self.heights[next] = real;
                    changed = true;
                }
                self.measured.insert(message.id, (message.look, real));
                next += 1;
            }
            first..next
        });

        let offset = output.state.clamped_offset().y;
        let end = self.tops.last().copied().unwrap_or_default();
        // A scroll area keeps within the bounds of the frame before: a list that grew needs
        // a second one.
        let astray = wanted.is_some_and(|w| (w - offset).abs() > 1.0) && self.astray < 3;
        self.astray = if astray { self.astray + 1 } else { 0 };
        changed |= astray;
        // A frame that moved the list tells nothing about what its reader wants.
        if !changed {
            self.at_end = offset + output.inner_rect.height() + NEAR >= end;
            let top = self.tops.partition_point(|t| *t <= offset).saturating_sub(1);
            self.anchor = messages.get(top).map(|m| (m.id, offset - self.tops[top]));
        }
        if changed {
            self.sum();
            self.moved = true;
            // Do this frame again with the real heights, so that nothing jumps.
            ui.ctx().request_discard("message heights");
            ui.ctx().request_repaint();
        }
        if self.at_end {
            self.seen = messages.last().map(|m| m.id);
        }
        let below = if self.at_end {
            0
        } else {
            messages.iter().rev().take_while(|m| Some(m.id) != self.seen).count()
        };
        Shown {
            rows: output.inner,
            early: offset < EARLY && !changed,
            at_end: self.at_end,
            below: if below == messages.len() { 0 } else { below },
        }
    }

    /// Takes over new rows or a new size.
    fn fit(&mut self, conversation: &Arc<Conversation>, width: f32, height: f32) {
        let same = self.of.as_ref().is_some_and(|of| Arc::ptr_eq(of, conversation));
        #[expect(clippy::float_cmp, reason = "unchanged or not, not computed")]
        let (wider, higher) = (width != self.width, height != self.height);
        if wider {
            self.measured.clear();
        }
        self.moved |= higher;
        (self.width, self.height) = (width, height);
        if same && !wider {
            return;
        }
        let messages = &conversation.messages;
        let mut measured = BTreeMap::new();
        self.heights.clear();
        for m in messages {
            let known = self.measured.get(&m.id).filter(|(look, _)| *look == m.look);
            self.heights.push(known.map_or_else(|| estimate(m, width), |(_, height)| *height));
            if let Some(known) = known {
                measured.insert(m.id, *known);
            }
        }
        self.measured = measured;
        self.of = Some(Arc::clone(conversation));
        self.moved = true;
        self.sum();
    }

    fn sum(&mut self) {
        let mut top = 0.0;
        self.tops.clear();
        self.tops.push(top);
        for height in &self.heights {
            top += height;
            self.tops.push(top);
        }
    }

    /// Where to scroll to, if that is for us to say in this frame.
    fn offset(&mut self, messages: &[MessageRow]) -> Option<f32> {
        let find = |id: MessageId| messages.iter().position(|m| m.id == id);
        let end = (self.tops.last().copied().unwrap_or_default() - self.height).max(0.0);
        if let Some(at) = self.jump.take().and_then(find) {
            self.at_end = false;
            self.anchor = Some((messages[at].id, -self.height / 3.0));
            self.moved = true;
        }
        if !core::mem::take(&mut self.moved) {
            return None;
        }
        if self.at_end {
            return Some(end);
        }
        let (id, above) = self.anchor?;
        Some((self.tops[find(id)?] + above).clamp(0.0, end))
    }
}

/// A first guess; it only decides how good the scroll bar is until a row was seen.
fn estimate(row: &MessageRow, width: f32) -> f32 {
    let letters_a_line = (width * 0.7 / 8.0).max(10.0);
    let lines = match &row.body {
        Body::Text(text) => text
            .split('\n')
            .map(|line| (float(line.chars().count()) / letters_a_line).ceil().max(1.0))
            .sum(),
        Body::Remark(_) | Body::Event(_) => 1.0,
    };
    let shapes: Vec<_> = row.photos.iter().map(|p| p.shape).collect();
    let mut height = 42.0 + lines * 19.0 + grid::size(&shapes, width, PHOTO).y;
    for extra in [row.day.is_some(), row.quote.is_some(), !row.reactions.is_empty()] {
        height += if extra { 32.0 } else { 0.0 };
    }
    height
}
