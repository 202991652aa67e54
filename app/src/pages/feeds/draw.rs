//! Draws an article: its blocks, of which only those on the screen are laid out.

use core::ops::Range;

use egui::text::{CCursor, LayoutJob, TextWrapping};
use egui::{
    Color32, CursorIcon, FontId, Frame, Label, Margin, Rect, Response, RichText, Role, Sense,
    Stroke, StrokeKind, TextFormat, Ui, WidgetInfo, vec2,
};

use super::markdown::{Block, Kind, Piece};
use super::vm::Reading;
use super::words;
use crate::photos::grid;
use crate::photos::previews::Previews;
use crate::theme::{SMALL, space, tokens};
use crate::vm::PhotoRow;
use crate::widgets::feed::Feed;
use crate::widgets::{float, hint};

/// The longer side of a photo.
const PHOTO: f32 = 480.0;
/// Text that is read is a little larger than the window's.
const SIZE: f32 = 16.0;
/// From line to line of it.
const LINE: f32 = 25.0;
/// How far an item of a list is moved in.
const INSET: f32 = 24.0;
/// The same for a quote.
const QUOTE: f32 = 14.0;
/// Letters of a link's address beside the pointer.
const ADDRESS: usize = 80;

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Act {
    /// Say where this link leads.
    Link(usize),
    /// Show this photo in full size.
    Photo(usize),
}

/// Draws it; what was asked for, if anything.
pub(super) fn show(
    ui: &mut Ui,
    reading: &Reading,
    list: &mut Feed<usize>,
    previews: &mut Previews,
) -> Option<Act> {
    let mut act = None;
    // The first row is the title.
    let rows: Vec<usize> = (0..=reading.text.blocks.len()).collect();
    let block = |row: usize| row.checked_sub(1).and_then(|i| reading.text.blocks.get(i));
    list.show(
        ui,
        &rows,
        |row| *row,
        |row| block(*row).map_or(80.0, estimate),
        |ui, row| match block(*row) {
            Some(block) => {
                let chosen = show_block(ui, block, reading, previews);
                if let Some(chosen) = chosen {
                    act = Some(chosen);
                }
            }
            None => title(ui, reading),
        },
        |ui| {
            if reading.text.cut {
                hint(ui, words::cut());
            }
        },
    );
    act
}

/// A first guess at a block's height.
fn estimate(block: &Block) -> f32 {
    let lines = |letters: usize| float(letters / 70 + 1);
    let letters = |pieces: &[Piece]| pieces.iter().map(|p| p.text.len()).sum();
    match &block.kind {
        Kind::Heading(_, pieces) => lines(letters(pieces)) * 32.0,
        Kind::Paragraph(pieces) => lines(letters(pieces)) * LINE,
        Kind::Code(text) => float(text.lines().count()) * 18.0 + 20.0,
        Kind::Photo(..) => PHOTO * 0.7,
        Kind::Rule => 8.0,
    }
}

fn title(ui: &mut Ui, reading: &Reading) {
    let t = tokens(ui);
    match &reading.title {
        Some(title) => {
            let title = RichText::new(title).size(26.0).color(t.text);
            ui.add(Label::new(title).wrap().selectable(true));
        }
        None => {
            hint(ui, words::waits());
        }
    }
    ui.add(Label::new(RichText::new(&reading.by).size(13.0).color(t.weak)).wrap());
}

fn show_block(
    ui: &mut Ui,
    block: &Block,
    reading: &Reading,
    previews: &mut Previews,
) -> Option<Act> {
    let t = tokens(ui);
    let mut act = None;
    let (quote, inset) = (f32::from(block.quote) * QUOTE, f32::from(block.inset) * INSET);
    let row = ui.horizontal_top(|ui| {
        ui.spacing_mut().item_spacing.x = 0.0;
        ui.add_space(quote + inset);
        if !block.mark.is_empty() {
            let font = FontId::proportional(SIZE);
            let galley = ui.painter().layout_no_wrap(block.mark.clone(), font, t.weak);
            let at = ui.cursor().left_top() - vec2(galley.size().x.min(INSET - 4.0) + 6.0, -3.0);
            ui.painter().galley(at, galley, t.weak);
        }
        ui.vertical(|ui| {
            ui.set_width(ui.available_width());
            act = match &block.kind {
                Kind::Heading(level, pieces) => {
                    let size = [24.0, 21.0, 18.0].get(usize::from(*level) - 1);
                    text(ui, pieces, reading, *size.unwrap_or(&SIZE), true)
                }
                Kind::Paragraph(pieces) => text(ui, pieces, reading, SIZE, false),
                Kind::Code(code) => {
                    Frame::new().fill(t.theirs).corner_radius(6).inner_margin(10).show(ui, |ui| {
                        ui.set_width(ui.available_width());
                        let code = RichText::new(code).monospace().color(t.text);
                        ui.add(Label::new(code).wrap().selectable(true));
                    });
                    None
                }
                Kind::Photo(i, words) => {
                    reading.photos.get(*i).and_then(|photo| picture(ui, *i, words, photo, previews))
                }
                Kind::Rule => {
                    ui.separator();
                    None
                }
            };
        });
    });
    let rect = row.response.rect;
    for i in 0..block.quote {
        let x = rect.left() + 3.0 + f32::from(i) * QUOTE;
        let pen = Stroke::new(3.0, t.line);
        ui.painter().vline(x, rect.y_range().expand(space::GAP / 2.0), pen);
    }
    act
}

/// A photo, which opens in full size, and its words.
fn picture(
    ui: &mut Ui,
    number: usize,
    words: &str,
    photo: &PhotoRow,
    previews: &mut Previews,
) -> Option<Act> {
    let id = ui.scope_id().with(("photo", number));
    let name = words::photo(number + 1, words);
    let clicked = grid::show(ui, id, &[photo.shape], PHOTO, |ui, _, rect, response| {
        response.widget_info(|| WidgetInfo::labeled(Role::Button, true, &name));
        seen(response);
        grid::preview(ui, rect, photo, previews);
    });
    if !words.trim().is_empty() {
        let weak = tokens(ui).weak;
        ui.add(Label::new(RichText::new(words).size(SMALL + 1.0).color(weak)).wrap());
    }
    clicked.map(|_| Act::Photo(number))
}

/// Where a link stands in a block: its letters, and its place among the text's links.
type Place = (Range<usize>, usize);

/// Text with links; which of them was chosen.
fn text(ui: &mut Ui, pieces: &[Piece], reading: &Reading, size: f32, bold: bool) -> Option<Act> {
    let t = tokens(ui);
    let width = ui.available_width();
    let job = |shade: &dyn Fn(&Piece) -> Color32| {
        let mut job =
            LayoutJob { wrap: TextWrapping::wrap_at_width(width), ..LayoutJob::default() };
        for piece in pieces {
            job.append(&piece.text, 0.0, format(piece, size, shade(piece), t.theirs));
        }
        job
    };
    let shade = |p: &Piece| if p.link.is_some() { t.accent } else { t.text };
    let galley = ui.fonts_mut(|f| f.layout_job(job(&shade)));
    let label = ui.add(Label::new(galley.clone()).selectable(true));
    let at = label.rect.left_top();
    // The fonts have one weight: what is strong is drawn twice, a little apart.
    let strong = |p: &Piece| bold || p.look.strong;
    if pieces.iter().any(strong) && ui.is_rect_visible(label.rect) {
        let shade = |p: &Piece| if strong(p) { shade(p) } else { Color32::TRANSPARENT };
        let mut job = job(&shade);
        for (section, piece) in job.sections.iter_mut().zip(pieces) {
            if !strong(piece) {
                section.format.background = Color32::TRANSPARENT;
                section.format.underline = Stroke::NONE;
                section.format.strikethrough = Stroke::NONE;
            }
        }
        let again = ui.fonts_mut(|f| f.layout_job(job));
        ui.painter().galley(at + vec2(0.4, 0.0), again, t.text);
    }
    let mut act = None;
    for (n, (letters, link)) in places(pieces).into_iter().enumerate() {
        let words: String =
            galley.job.text.chars().skip(letters.start).take(letters.len()).collect();
        let to = reading.text.links.get(link)?;
        let mut first = None;
        for (row, rect) in rects(&galley, &letters).into_iter().enumerate() {
            let rect = rect.translate(at.to_vec2());
            let id = ui.scope_id().with(("link", n, row));
            // One stop for the keyboard, though it goes over several lines.
            let sense = if row == 0 { Sense::click() } else { Sense::CLICK };
            let response = ui.interact(rect, id, sense);
            if row == 0 {
                response.widget_info(|| WidgetInfo::labeled(Role::Link, true, &words));
                seen(&response);
                first = Some(response.has_focus());
            }
            if first == Some(true) {
                let edge = Stroke::new(1.0, t.accent);
                ui.painter().rect_stroke(rect.expand(2.0), 3.0, edge, StrokeKind::Outside);
            }
            let short: String = to.chars().take(ADDRESS).collect();
            let response = response.on_hover_cursor(CursorIcon::PointingHand).on_hover_text(short);
            if response.clicked() {
                act = Some(Act::Link(link));
            }
        }
    }
    act
}

fn format(piece: &Piece, size: f32, color: Color32, ground: Color32) -> TextFormat {
    let font =
        if piece.look.code { FontId::monospace(size - 1.5) } else { FontId::proportional(size) };
    let line = |on: bool| if on { Stroke::new(1.0, color) } else { Stroke::NONE };
    TextFormat {
        line_height: Some(size * LINE / SIZE),
        italics: piece.look.emphasis,
        background: if piece.look.code { ground } else { Color32::TRANSPARENT },
        underline: line(piece.link.is_some()),
        strikethrough: line(piece.look.struck),
        ..TextFormat::simple(font, color)
    }
}

/// Links of a line; neighbours of one link are one.
fn places(pieces: &[Piece]) -> Vec<Place> {
    let mut out: Vec<Place> = Vec::new();
    let mut at = 0;
    for piece in pieces {
        let end = at + piece.text.chars().count();
        if let Some(link) = piece.link {
            match out.last_mut() {
                Some((letters, last)) if *last == link && letters.end == at => letters.end = end,
                _ => out.push((at..end, link)),
            }
        }
        at = end;
    }
    out
}

/// Where these letters are drawn: a rectangle for each row.
fn rects(galley: &egui::Galley, letters: &Range<usize>) -> Vec<Rect> {
    let mut out = Vec::new();
    let mut at = 0;
    for row in &galley.rows {
        let count = row.char_count_excluding_newline().0;
        let (from, to) = (letters.start.max(at), letters.end.min(at + count));
        if from < to {
            let x = |letter: usize| row.pos.x + row.x_offset(CCursor::new(letter - at).index);
            let (top, bottom) = (row.rect().top(), row.rect().bottom());
            out.push(Rect::from_x_y_ranges(x(from)..=x(to), top..=bottom));
        }
        at += count + usize::from(row.ends_with_newline);
    }
    out
}

/// A control that the keyboard comes to is brought into view.
fn seen(response: &Response) {
    if response.gained_focus() {
        response.scroll_to_me(None);
    }
}

/// Room around an article's parts that are no text.
pub(super) const MARGIN: Margin = Margin::symmetric(16, 9);
