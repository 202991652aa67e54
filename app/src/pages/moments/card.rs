//! A post: its author, text and photos, and what mutual friends say about it.

use std::collections::BTreeMap;

use egui::text::{LayoutJob, TextWrapping};
use egui::{
    Align, Button, FontId, Frame, Label, Layout, Margin, Rect, Response, RichText, Role, Sense,
    Stroke, StrokeKind, TextEdit, TextFormat, TextStyle, Ui, WidgetInfo, vec2,
};
use teahouse_node::protocols::moments::MAX_COMMENT;

use super::pictures::{Picture, Textures};
use super::vm::{Card, Key, Line, Tile};
use super::{Field, words};
use crate::photos::grid;
use crate::screens::composer::Ime;
use crate::theme::{SMALL, space, tokens};
use crate::widgets::{avatar, float, primary};

/// Comments shown at first: the newest.
const COMMENTS: usize = 6;
/// The avatar's radius.
const RADIUS: f32 = 20.0;
/// The longest side of a photo that stands alone.
const ALONE: f32 = 280.0;
/// From line to line of a post's text.
const LINE: f32 = 21.0;
/// Fewer bytes left than this are told.
const FEW: usize = 200;

/// What the page knows of a post beside its model.
pub(super) struct Doing<'a> {
    pub(super) textures: &'a mut Textures,
    pub(super) pictures: &'a BTreeMap<[u8; 32], Picture>,
    pub(super) unfolded: bool,
    pub(super) all_comments: bool,
    /// The comment that is being written.
    pub(super) field: Option<&'a mut Field>,
    /// Whether this device may still say something.
    pub(super) writable: bool,
    pub(super) ime: Ime,
}

/// What was asked for on a post.
#[derive(Debug)]
pub(super) enum Act {
    Person,
    Fold,
    AllComments,
    Like,
    /// Show this photo in full size.
    Photo(usize),
    /// Open the field, to answer this comment of somebody's; or close it.
    Comment(Option<(Key, String)>),
    Send,
    DeletePost,
    DeleteComment(Key),
}

/// A first guess at a post's height.
pub(super) fn estimate(post: &Card) -> f32 {
    let text = post.folded.as_deref().or(post.text.as_deref()).unwrap_or(" ");
    let lines: f32 =
        text.split('\n').map(|l| (float(l.chars().count()) / 62.0).ceil().max(1.0)).sum();
    let shapes: Vec<_> = post.photos.iter().map(|p| p.shape).collect();
    let photos = grid::size(&shapes, space::FEED, ALONE).y;
    let said = float(post.comments.len().min(COMMENTS)) * 22.0;
    let likes = if post.likes.is_empty() { 0.0 } else { 24.0 };
    110.0 + lines * LINE + photos + said + likes
}

/// Draws it; what was asked for, if anything.
pub(super) fn show(ui: &mut Ui, post: &Card, mut doing: Doing<'_>) -> Option<Act> {
    let fill = tokens(ui).list;
    let mut act = None;
    Frame::new().fill(fill).corner_radius(12).inner_margin(14).show(ui, |ui| {
        ui.set_width(ui.available_width());
        ui.horizontal_top(|ui| {
            ui.spacing_mut().item_spacing.x = 12.0;
            let (disc, _) = ui.allocate_exact_size(vec2(2.0, 2.0) * RADIUS, Sense::hover());
            avatar(ui, disc.center(), RADIUS, &post.account.0, &post.name);
            ui.vertical(|ui| {
                ui.set_width(ui.available_width());
                ui.spacing_mut().item_spacing = vec2(space::NORMAL, 6.0);
                act = body(ui, post, &mut doing);
            });
        });
    });
    act
}

fn body(ui: &mut Ui, post: &Card, doing: &mut Doing<'_>) -> Option<Act> {
    let t = tokens(ui);
    let mut act = None;
    let name = RichText::new(&post.name).color(t.accent).strong();
    let who = Button::new(name).frame(false).truncate();
    ui.spacing_mut().button_padding.x = 0.0;
    ui.spacing_mut().interact_size.y = 22.0;
    if seen(ui.add(who)).clicked() && !post.mine {
        act = Some(Act::Person);
    }
    ui.spacing_mut().button_padding.x = space::NORMAL;
    act = text(ui, post, doing.unfolded).or(act);
    act = photos(ui, post, doing).or(act);
    act = line_below(ui, post, doing).or(act);
    said(ui, post, doing).or(act)
}

fn text(ui: &mut Ui, post: &Card, unfolded: bool) -> Option<Act> {
    let t = tokens(ui);
    let Some(whole) = &post.text else {
        ui.label(RichText::new(words::pending()).italics().color(t.weak));
        return None;
    };
    if whole.is_empty() {
        return None;
    }
    let shown = post.folded.as_ref().filter(|_| !unfolded).unwrap_or(whole);
    let shown = RichText::new(shown).color(t.text).line_height(Some(LINE));
    ui.add(Label::new(shown).wrap().selectable(true));
    post.folded.as_ref()?;
    let word = if unfolded { words::less() } else { words::more() };
    let button = Button::new(RichText::new(word).size(13.0).color(t.accent)).frame(false);
    ui.spacing_mut().button_padding.x = 0.0;
    let more = seen(ui.add(button)).accessible_name(words::doing(word, &post.name));
    ui.spacing_mut().button_padding.x = space::NORMAL;
    more.clicked().then_some(Act::Fold)
}

fn photos(ui: &mut Ui, post: &Card, doing: &mut Doing<'_>) -> Option<Act> {
    if post.photos.is_empty() {
        return None;
    }
    let shapes: Vec<_> = post.photos.iter().map(|p| p.shape).collect();
    let id = ui.scope_id().with(post.key);
    let clicked = grid::show(ui, id, &shapes, ALONE, |ui, i, rect, response| {
        if let Some(tile) = post.photos.get(i) {
            photo(ui, rect, response, tile, doing);
        }
    });
    clicked.map(Act::Photo)
}

fn photo(ui: &Ui, rect: Rect, response: &Response, tile: &Tile, doing: &mut Doing<'_>) {
    let picture = doing.pictures.get(&tile.hash);
    let name = match picture {
        _ if !tile.here => words::photo_waiting(),
        Some(Picture::Broken) => words::photo_broken(),
        Some(Picture::Shown(_)) | None => words::photo(),
    };
    response.widget_info(|| WidgetInfo::labeled(Role::Button, true, name));
    if !ui.is_rect_visible(rect) {
        return;
    }
    if let Some(Picture::Shown(picture)) = picture {
        let texture = doing.textures.of(ui.ctx(), tile.hash, picture);
        grid::fill(ui, rect, (texture.id(), texture.size_vec2()));
    } else {
        let told = !tile.here || picture.is_some();
        let said = name.split([':', '：']).nth(1).unwrap_or(name).trim();
        grid::blank(ui, rect, if told { said } else { "" });
    }
}

/// When, for whom, and what one can do.
fn line_below(ui: &mut Ui, post: &Card, doing: &Doing<'_>) -> Option<Act> {
    let t = tokens(ui);
    let mut act = None;
    let weak = |text: &str| RichText::new(text).size(SMALL).color(t.weak);
    ui.spacing_mut().button_padding = vec2(10.0, 2.0);
    ui.spacing_mut().interact_size.y = 26.0;
    ui.horizontal_wrapped(|ui| {
        ui.label(weak(&post.when));
        if post.mine {
            ui.label(weak("·"));
            ui.add(Label::new(weak(&post.audience)).truncate()).on_hover_text(&post.audience);
            let delete = Button::new(weak(words::delete_post())).frame(false);
            let delete = seen(ui.add(delete));
            if delete.clicked() {
                act = Some(Act::DeletePost);
            }
        }
    });
    if doing.writable {
        ui.horizontal(|ui| {
            let word = if post.liked { words::liked() } else { words::like() };
            let text = RichText::new(format!("♥ {word}")).size(13.0);
            let text = if post.liked { text.color(t.accent) } else { text };
            let like = seen(ui.add(Button::new(text).selected(post.liked)));
            let name = words::doing(word, &post.name);
            if like.accessible_name(name).on_hover_text(words::words_how()).clicked() {
                act = Some(Act::Like);
            }
            let open = doing.field.is_some();
            let text = RichText::new(words::comment()).size(13.0);
            let comment = seen(ui.add(Button::new(text).selected(open)));
            let name = words::doing(words::comment(), &post.name);
            if comment.accessible_name(name).on_hover_text(words::words_how()).clicked() {
                act = Some(Act::Comment(None));
            }
        });
    }
    act
}

/// Likes, comments, and where one is written.
fn said(ui: &mut Ui, post: &Card, doing: &mut Doing<'_>) -> Option<Act> {
    if post.likes.is_empty() && post.comments.is_empty() && doing.field.is_none() {
        return None;
    }
    let t = tokens(ui);
    let mut act = None;
    let frame = Frame::new().fill(t.page).corner_radius(8).inner_margin(Margin::symmetric(10, 8));
    frame.show(ui, |ui| {
        ui.set_width(ui.available_width());
        ui.spacing_mut().item_spacing.y = space::SMALL;
        if !post.likes.is_empty() {
            likes(ui, &post.likes);
        }
        let all = doing.all_comments || post.comments.len() <= COMMENTS + 1;
        let from = if all { 0 } else { post.comments.len() - COMMENTS };
        if post.comments.len() > COMMENTS + 1 {
            let word = if all { words::less().into() } else { words::earlier(from) };
            let text = RichText::new(&word).size(13.0).color(t.accent);
            let button = seen(ui.add(Button::new(text).frame(false)));
            if button.accessible_name(words::doing(&word, &post.name)).clicked() {
                act = Some(Act::AllComments);
            }
        }
        for line in &post.comments[from..] {
            act = comment(ui, line, doing.writable).or(act.take());
        }
        if let Some(field) = &mut doing.field {
            act = write(ui, field, doing.ime).or(act.take());
        }
    });
    act
}

/// Who likes it.
fn likes(ui: &mut Ui, names: &str) {
    let t = tokens(ui);
    let width = ui.available_width();
    let font = FontId::proportional(14.0);
    let galley = ui.painter().layout(format!("♥ {names}"), font, t.accent, width);
    let (rect, response) = ui.allocate_exact_size(vec2(width, galley.size().y), Sense::hover());
    ui.painter().galley(rect.min, galley, t.accent);
    response.widget_info(|| WidgetInfo::labeled(Role::Label, true, words::liked_by(names)));
    response.on_hover_text(words::words_how());
}

/// One comment; to choose it is to answer it, or with one's own, to take it back.
fn comment(ui: &mut Ui, line: &Line, writable: bool) -> Option<Act> {
    let t = tokens(ui);
    let mut job = LayoutJob::default();
    let font = FontId::proportional(14.0);
    let piece = |color| TextFormat::simple(font.clone(), color);
    job.append(&line.by, 0.0, piece(t.accent));
    job.append(crate::strings::either(": ", "："), 0.0, piece(t.text));
    job.append(&line.text, 0.0, piece(t.text));
    job.wrap = TextWrapping::wrap_at_width(ui.available_width() - space::NORMAL);
    let galley = ui.fonts_mut(|f| f.layout_job(job));
    let size = vec2(ui.available_width(), galley.size().y + 2.0);
    let (rect, response) = ui.allocate_exact_size(size, Sense::click());
    let response = seen(response);
    let name =
        || WidgetInfo::labeled(Role::Button, writable, format!("{}: {}", line.by, line.text));
    response.widget_info(name);
    if !ui.is_rect_visible(rect) {
        return None;
    }
    let ground = rect.expand2(vec2(4.0, 0.0));
    if response.hovered() || response.has_focus() {
        ui.painter().rect_filled(ground, 4.0, t.hover);
    }
    if response.has_focus() {
        let edge = Stroke::new(1.0, t.accent);
        ui.painter().rect_stroke(ground, 4.0, edge, StrokeKind::Outside);
    }
    ui.painter().galley(rect.min + vec2(0.0, 1.0), galley, t.text);
    let how = if line.mine { words::delete_comment().into() } else { words::reply_to(&line.name) };
    let hover = format!("{}\n{how}", line.when);
    let chosen = response.on_hover_text(hover).clicked() && writable;
    if !chosen {
        return None;
    }
    let answer = || Act::Comment(Some((line.key, line.name.clone())));
    Some(if line.mine { Act::DeleteComment(line.key) } else { answer() })
}

/// Where a comment is written.
fn write(ui: &mut Ui, field: &mut Field, ime: Ime) -> Option<Act> {
    let t = tokens(ui);
    let text = field.text.trim();
    let left = MAX_COMMENT.checked_sub(text.len());
    let sending = field.ticket.is_some();
    let ready = !text.is_empty() && left.is_some() && !sending;
    let mut act = None;
    let hint = match &field.answers {
        Some((_, name)) => words::reply_to(name),
        None => words::comment_hint().to_owned(),
    };
    let size = vec2(ui.available_width(), ui.spacing().interact_size.y);
    ui.allocate_ui_with_layout(size, Layout::right_to_left(Align::Center), |ui| {
        let word = if sending { words::sending() } else { words::comment_send() };
        let mut send = primary(ui, ready, word).clicked();
        match left {
            Some(left) if left > FEW => {}
            Some(left) => {
                ui.label(RichText::new(words::left(left)).size(SMALL).color(t.weak));
            }
            None => {
                ui.label(RichText::new(words::too_long()).size(SMALL).color(t.danger));
            }
        }
        let edit = TextEdit::singleline(&mut field.text)
            .font(TextStyle::Body)
            .hint_text(hint.as_str())
            .margin(Margin::symmetric(8, 4))
            .desired_width(f32::INFINITY);
        let response = ui.add_enabled(!sending, edit).accessible_name(hint.as_str());
        let enter = response.lost_focus() && ui.input(|i| i.key_pressed(egui::Key::Enter));
        send |= enter && ready && !ime.busy();
        if core::mem::take(&mut field.focus) || (enter && !send) {
            response.request_focus();
            response.scroll_to_me(None);
        }
        if send {
            act = Some(Act::Send);
        }
    });
    act
}

/// A control that the keyboard comes to is brought into view.
fn seen(response: Response) -> Response {
    if response.gained_focus() {
        response.scroll_to_me(None);
    }
    response
}
