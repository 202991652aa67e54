//! One account's articles: what it is, what one can do with it, and the newest first.

use std::sync::Arc;

use egui::text::{LayoutJob, TextWrapping};
use egui::{
    Color32, FontId, Label, Rect, RichText, Role, Sense, Stroke, StrokeKind, TextFormat, Ui,
    WidgetInfo, vec2,
};
use teahouse_node::core::command::Command;
use teahouse_node::core::feeds::Command as Act;

use super::vm::{FeedRow, Headline, Key, Listed, MOST};
use super::{Feeds, View, head, more, words};
use crate::desk::{After, Go};
use crate::pages::Cx;
use crate::photos::grid;
use crate::photos::previews::Previews;
use crate::screens::dialogs::{Confirm, Dialog};
use crate::theme::{SMALL, tokens};
use crate::widgets::{danger, hint, primary};

/// The side of an article's picture.
const SIDE: f32 = 84.0;

/// A row of the list.
enum Entry {
    About,
    Article(Arc<Headline>),
}

impl Entry {
    fn key(&self) -> Option<Key> {
        match self {
            Self::About => None,
            Self::Article(article) => Some(article.key),
        }
    }
}

impl Feeds {
    pub(super) fn articles(
        &mut self,
        ui: &mut Ui,
        row: &FeedRow,
        listed: Option<&Listed>,
        cx: &mut Cx<'_>,
    ) {
        let writable = row.mine && !cx.app.me.revoked;
        let begun = self.drafts.get(&row.topic).is_some_and(|d| !d.is_empty());
        head(ui, &row.name, |ui| {
            let word = if begun { words::go_on() } else { words::write() };
            if writable && primary(ui, true, word).clicked() {
                self.view = View::Write(row.topic);
            }
        });
        let articles = listed.map(|l| l.articles.as_slice()).unwrap_or_default();
        let mut rows = vec![Entry::About];
        rows.extend(articles.iter().map(|a| Entry::Article(Arc::clone(a))));
        let more_here = listed.is_some_and(|l| l.more && l.limit < MOST);
        let asked = listed.is_some_and(|l| self.limit > l.limit);
        let (mut chosen, mut act, mut older) = (None, None, false);
        let shown = ui.push_id(row.topic, |ui| {
            self.articles.show(
                ui,
                &rows,
                Entry::key,
                |entry| if matches!(entry, Entry::About) { 120.0 } else { SIDE + 28.0 },
                |ui, entry| match entry {
                    Entry::About => {
                        if let Some(chosen) = about(ui, row, cx) {
                            act = Some(chosen);
                        }
                    }
                    Entry::Article(article) => {
                        if card(ui, article, &mut cx.desk.previews) {
                            chosen = Some(article.key);
                        }
                    }
                },
                |ui| {
                    ui.vertical_centered(|ui| {
                        if asked {
                            hint(ui, words::loading_older());
                        } else if more_here {
                            older = ui.button(words::older()).clicked();
                        } else if listed.is_some_and(|l| l.more) {
                            hint(ui, words::limit());
                        } else if listed.is_some() && !articles.is_empty() {
                            hint(ui, words::end());
                        } else if listed.is_some() {
                            hint(ui, none(row));
                        }
                    });
                },
            )
        });
        if (older || (shown.inner.near_end && !articles.is_empty())) && more_here && !asked {
            self.limit = more(self.limit.max(articles.len()));
        }
        if let Some(view) = act {
            self.view = view;
        }
        if let Some(key) = chosen {
            self.view = View::Article(key);
        }
    }
}

/// Why there is no article.
fn none(row: &FeedRow) -> &'static str {
    match row {
        row if row.mine => words::first_article(),
        row if row.here => words::nothing_yet(),
        _ => words::waits_feed(),
    }
}

/// What it is, and what can be done with it.
fn about(ui: &mut Ui, row: &FeedRow, cx: &mut Cx<'_>) -> Option<View> {
    let t = tokens(ui);
    let mut view = None;
    ui.spacing_mut().item_spacing.y = 6.0;
    if !row.about.is_empty() {
        ui.add(Label::new(RichText::new(&row.about).color(t.text)).wrap().selectable(true));
    }
    if !row.mine {
        let line = if row.here { words::published_by(&row.by) } else { words::nobody_met().into() };
        hint(ui, &line);
    }
    if row.service {
        hint(ui, words::service());
    }
    let writable = !cx.app.me.revoked;
    ui.horizontal_wrapped(|ui| {
        if writable && ui.button(words::link()).clicked() {
            view = Some(View::Link(row.topic));
        }
        if row.mine && writable {
            if ui.button(words::describe()).clicked() {
                view = Some(View::Describe(row.topic));
            }
            if row.service && ui.button(words::replies()).clicked() {
                view = Some(View::Replies(row.topic));
            }
        } else if !row.mine && danger(ui, words::unfollow()).clicked() {
            cx.desk.go(Go::Dialog(Dialog::Confirm(Confirm {
                what: words::unfollow(),
                whom: row.name.clone(),
                how: words::unfollow_how(),
                command: Command::Feeds(Act::Unfollow { feed: row.topic }),
                after: After::Nothing,
            })));
        }
    });
    view
}

/// An article in the list; whether it was chosen.
fn card(ui: &mut Ui, article: &Headline, previews: &mut Previews) -> bool {
    let t = tokens(ui);
    let width = ui.available_width();
    let side = if article.photo.is_some() { SIDE + 12.0 } else { 0.0 };
    let room = (width - 28.0 - side).max(60.0);
    let line = |text: &str, size: f32, color: Color32, rows: usize| {
        let format = TextFormat::simple(FontId::proportional(size), color);
        let mut job = LayoutJob::single_section(text.to_owned(), format);
        job.wrap = TextWrapping { max_width: room, max_rows: rows, ..TextWrapping::default() };
        ui.fonts_mut(|f| f.layout_job(job))
    };
    let title = match &article.title {
        Some(title) => line(title, 17.0, t.text, 2),
        None => line(words::waits(), 15.0, t.weak, 2),
    };
    let lead = line(&article.lead, 14.0, t.weak, 2);
    let when = line(&article.when, SMALL, t.weak, 1);
    let lead_height = if article.lead.is_empty() { 0.0 } else { lead.size().y + 4.0 };
    let text = title.size().y + lead_height + when.size().y + 6.0;
    let high = if article.photo.is_some() { text.max(SIDE) } else { text };
    let (rect, response) = ui.allocate_exact_size(vec2(width, high + 24.0), Sense::click());
    let name = article.title.as_deref().unwrap_or(words::waits());
    response.widget_info(|| WidgetInfo::labeled(Role::Button, true, name));
    if response.gained_focus() {
        response.scroll_to_me(None);
    }
    let fill = if response.hovered() || response.has_focus() { t.hover } else { t.list };
    ui.painter().rect_filled(rect, 12.0, fill);
    if response.has_focus() {
        ui.painter().rect_stroke(rect, 12.0, Stroke::new(1.0, t.accent), StrokeKind::Inside);
    }
    let mut at = rect.min + vec2(14.0, 12.0);
    for (galley, below) in [(title, 4.0), (lead, 6.0), (when, 0.0)] {
        let height = if galley.is_empty() { 0.0 } else { galley.size().y + below };
        ui.painter().galley(at, galley, t.text);
        at.y += height;
    }
    if let Some(photo) = &article.photo {
        let corner = rect.right_top() + vec2(-14.0 - SIDE, 12.0);
        grid::preview(ui, Rect::from_min_size(corner, vec2(SIDE, SIDE)), photo, previews);
    }
    response.clicked()
}
