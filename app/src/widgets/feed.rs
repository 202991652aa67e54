//! A long list that begins at its top: posts, articles, entries of an account. Only what is
//! visible is laid out.
//!
//! Heights are estimated until a row has been drawn, then kept. Whatever changes (rows that
//! come above, a first measurement, the width), the first visible row stays where it is; or,
//! while the list is at its top, the top does.

use core::ops::Range;
use std::collections::BTreeMap;

use egui::{Rect, ScrollArea, Ui, UiBuilder, vec2};

use crate::theme::space;

/// Closer to the end than this counts as near it, in points.
const NEAR: f32 = 600.0;
/// Room for the remark after the last row.
const FOOT: f32 = 64.0;

/// The list's state between frames. `K` names a row.
#[derive(Debug)]
pub(crate) struct Feed<K> {
    width: f32,
    /// Measured heights at `width`.
    measured: BTreeMap<K, f32>,
    /// The top of each row, and the end of the last, as the last frame had them.
    tops: Vec<f32>,
    /// The first visible row, and how much of it is above the edge; `None` at the top.
    anchor: Option<(K, f32)>,
    /// A row was measured anew: the offset must follow the anchor.
    moved: bool,
    to_top: bool,
}

impl<K> Default for Feed<K> {
    fn default() -> Self {
        Self {
            width: 0.0,
            measured: BTreeMap::new(),
            tops: Vec::new(),
            anchor: None,
            moved: false,
            to_top: false,
        }
    }
}

/// What a frame showed.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    /// The rows that were laid out.
    pub(crate) rows: Range<usize>,
    /// The end is near: more is wanted.
    pub(crate) near_end: bool,
}

impl<K: Ord + Copy + core::hash::Hash + core::fmt::Debug> Feed<K> {
    /// Goes to the top with the next frame.
    pub(crate) fn go_to_top(&mut self) {
        self.to_top = true;
        self.anchor = None;
    }

    /// Draws the visible rows in a column of readable width, and `foot` after the last one.
    pub(crate) fn show<R>(
        &mut self,
        ui: &mut Ui,
        rows: &[R],
        key: impl Fn(&R) -> K,
        estimate: impl Fn(&R) -> f32,
        mut draw: impl FnMut(&mut Ui, &R),
        foot: impl FnOnce(&mut Ui),
    ) -> Shown {
        let all = ui.available_width();
        let width = space::FEED.min(all - 2.0 * space::LARGE).max(100.0);
        if (width - self.width).abs() > 0.5 {
            self.measured.clear();
            self.width = width;
            self.moved = true;
        }
        let before = core::mem::take(&mut self.tops);
        let mut top = space::LARGE;
        for row in rows {
            self.tops.push(top);
            let known = self.measured.get(&key(row)).copied();
            top += known.unwrap_or_else(|| estimate(row)) + space::GAP;
        }
        self.tops.push(top);
        self.moved |= before != self.tops;

        let mut area = ScrollArea::vertical().id_salt("feed").auto_shrink(false).animated(false);
        if core::mem::take(&mut self.to_top) {
            area = area.vertical_scroll_offset(0.0);
        } else if core::mem::take(&mut self.moved)
            && let Some((anchor, above)) = self.anchor
            && let Some(at) = rows.iter().position(|r| key(r) == anchor)
        {
            area = area.vertical_scroll_offset(self.tops[at] + above);
        }
        let mut changed = false;
        let output = area.show_viewport(ui, |ui, view| {
            ui.set_width(all);
            ui.set_height(top + FOOT);
            let origin = ui.max_rect().left_top() + vec2(((all - width) / 2.0).max(0.0), 0.0);
            let at = |top: f32, height: f32| {
                Rect::from_min_size(origin + vec2(0.0, top), vec2(width, height))
            };
            // One more on each side, so that the keyboard finds its way to the next.
            let first = self.tops.partition_point(|t| *t <= view.min.y).saturating_sub(2);
            let end = self.tops.partition_point(|t| *t < view.max.y);
            let last = (end + 1).min(rows.len());
            for (i, row) in rows.iter().enumerate().take(last).skip(first) {
                let height = self.tops[i + 1] - self.tops[i] - space::GAP;
                let builder = UiBuilder::new().max_rect(at(self.tops[i], height)).id_salt(key(row));
                let mut child = ui.new_child(builder);
                draw(&mut child, row);
                let real = child.min_rect().height();
                changed |= (real - height).abs() > 0.5;
                self.measured.insert(key(row), real);
            }
            if last == rows.len() {
                foot(&mut ui.new_child(UiBuilder::new().max_rect(at(top, FOOT))));
            }
            first..last
        });
        let offset = output.state.clamped_offset().y;
        if changed {
            self.moved = true;
            // Do this frame again with the real heights, so that nothing jumps.
            ui.ctx().request_discard("row heights");
            ui.ctx().request_repaint();
        } else {
            let at = self.tops.partition_point(|t| *t <= offset).saturating_sub(1);
            let row = rows.get(at).filter(|_| offset > 1.0);
            self.anchor = row.map(|r| (key(r), offset - self.tops[at]));
        }
        if self.measured.len() > 2 * rows.len() + 64 {
            let known: std::collections::BTreeSet<K> = rows.iter().map(&key).collect();
            self.measured.retain(|k, _| known.contains(k));
        }
        let end = self.tops.last().copied().unwrap_or_default();
        let near_end = !changed && offset + output.inner_rect.height() + NEAR >= end;
        Shown { rows: output.inner, near_end }
    }
}
