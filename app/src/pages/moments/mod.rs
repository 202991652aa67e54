//! Moments: what friends and oneself share, and what mutual friends say about it.
//!
//! - [`vm`]: the timeline as plain values, and how it is made.
//! - [`pictures`]: previews of photos.
//! - `card`: draws a post.
//! - `composer`: where one is written; `audience`: for whom.
//! - [`words`]: what the page says.

mod audience;
mod card;
mod composer;
pub mod pictures;
pub mod vm;
pub mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use egui::{
    Frame, Key as Button, Margin, Modifiers, Painter, Panel, Pos2, RichText, Stroke, Ui, vec2,
};
use teahouse_node::core::command::Command;
use teahouse_node::core::moments::Command as Moment;
use teahouse_node::core::moments::query::Timeline;
use teahouse_node::core::query::Query;
use teahouse_node::core::store::{ChangeSet, StorageError};
use teahouse_node::core::view::ContactState;
use teahouse_node::media::Which;

use self::card::{Act, Doing};
use self::composer::Composer;
use self::pictures::Textures;
use self::vm::{Ask, Card, Key, MOST, PAGE};
use super::{Around, Cx, Page, PageId};
use crate::bridge::Answer;
use crate::desk::{After, Go, Place};
use crate::photos::viewer::{Album, Shot};
use crate::screens::dialogs::{Confirm, Dialog};
use crate::theme::{space, tokens};
use crate::widgets::feed::Feed;
use crate::widgets::{from_right, hint, primary};

/// Comments that are being written, at most; the oldest untouched ones go first.
const MOST_FIELDS: usize = 64;
/// Positions of posts are told to the bridge in steps of this: not with every line scrolled.
const STEP: usize = 4;

/// The page's state.
#[derive(Default)]
pub(crate) struct Moments {
    feed: Feed<Key>,
    composer: Composer,
    textures: Textures,
    limit: usize,
    near: (usize, usize),
    /// Posts shown whole.
    unfolded: BTreeSet<Key>,
    /// Posts with all their comments.
    all_comments: BTreeSet<Key>,
    /// The post that is being commented on.
    commenting: Option<Key>,
    fields: BTreeMap<Key, Field>,
    /// Posts there were when the page was last looked at; `None` before the first model.
    seen: Option<BTreeSet<Key>>,
    new: u64,
    /// The model changed since the page was last looked at.
    changed: bool,
}

/// A comment that is being written.
#[derive(Debug, Default)]
pub(crate) struct Field {
    text: String,
    /// The comment that it answers, and its author.
    answers: Option<(Key, String)>,
    /// While it is on its way to the node.
    ticket: Option<u64>,
    focus: bool,
}

impl Page for Moments {
    type Ask = Ask;
    type Model = vm::Feed;

    const ID: PageId = "moments";

    fn title() -> &'static str {
        words::title()
    }

    /// A shutter.
    fn icon(painter: &Painter, center: Pos2, pen: Stroke) {
        painter.circle_stroke(center, 10.0, pen);
        for i in 0..6_u8 {
            let turn = core::f32::consts::TAU / 6.0;
            let at = |angle: f32, r: f32| center + vec2(angle.cos(), angle.sin()) * r;
            let angle = f32::from(i) * turn;
            painter.line_segment([at(angle, 10.0), at(angle + 1.25 * turn, 4.6)], pen);
        }
    }

    fn depends(changes: &ChangeSet) -> bool {
        Timeline::depends(changes)
    }

    fn load(ask: &Ask, around: &Around<'_, vm::Feed>) -> Result<vm::Feed, StorageError> {
        vm::load(ask, around)
    }

    fn ask(&self) -> Ask {
        Ask { limit: self.limit.max(PAGE), near: self.near }
    }

    fn take(&mut self, model: &Arc<vm::Feed>) {
        let keys: BTreeSet<Key> = model.posts.iter().map(|p| p.key).collect();
        self.changed = true;
        self.textures.keep(&model.pictures);
        self.unfolded.retain(|k| keys.contains(k));
        self.all_comments.retain(|k| keys.contains(k));
        let Some(seen) = &mut self.seen else {
            self.seen = Some(keys);
            return;
        };
        seen.retain(|k| keys.contains(k));
        // What stands after the last post that was seen is older: it was asked for.
        let end = model.posts.iter().rposition(|p| seen.contains(&p.key));
        let upto = end.unwrap_or(model.posts.len());
        let new = |p: &&Arc<Card>| !p.mine && !seen.contains(&p.key);
        self.new = model.posts[..upto].iter().filter(new).count() as u64;
    }

    fn badge(&self) -> u64 {
        self.new
    }

    fn ui(&mut self, ui: &mut Ui, model: &Arc<vm::Feed>, cx: &mut Cx<'_>) {
        if ui.input(|i| i.focused) {
            self.look(ui, model);
        }
        if self.composer.takes_keys()
            && ui.input_mut(|i| i.consume_key(Modifiers::COMMAND, Button::N))
        {
            self.composer.open();
        }
        self.head(ui, cx);
        if self.composer.show(ui, cx) {
            self.feed.go_to_top();
        }
        let frame = Frame::new();
        egui::CentralPanel::default_margins().frame(frame).show(ui, |ui| {
            if model.posts.is_empty() {
                empty(ui, cx);
            } else {
                self.timeline(ui, model, cx);
            }
        });
        self.composer.choose(ui, cx);
    }

    fn answered(&mut self, Answer { ticket, result, .. }: &Answer) {
        let ticket = *ticket;
        self.composer.answered(ticket, result.is_ok());
        let field = self.fields.iter_mut().find(|(_, f)| f.ticket == Some(ticket));
        if let Some((&key, field)) = field {
            field.ticket = None;
            if result.is_ok() {
                self.fields.remove(&key);
                self.commenting = self.commenting.filter(|k| *k != key);
            } else {
                field.focus = true;
            }
        }
    }

    fn back(&mut self) -> bool {
        self.composer.choosing_ends() || self.commenting.take().is_some() || self.composer.close()
    }
}

impl Moments {
    /// Somebody sees the page: nothing on it is new any more.
    fn look(&mut self, ui: &Ui, model: &vm::Feed) {
        if core::mem::take(&mut self.changed) {
            self.seen = Some(model.posts.iter().map(|p| p.key).collect());
        }
        if core::mem::take(&mut self.new) > 0 {
            // The rail was drawn with it already.
            ui.ctx().request_repaint();
        }
    }

    fn head(&mut self, ui: &mut Ui, cx: &Cx<'_>) {
        let fill = tokens(ui).list;
        let frame = Frame::new().fill(fill).inner_margin(Margin::symmetric(16, 9));
        Panel::top("moments head").frame(frame).show(ui, |ui| {
            from_right(ui, |ui| {
                if !self.composer.is_open() && !cx.app.me.revoked {
                    let words =
                        if self.composer.is_empty() { words::write() } else { words::go_on() };
                    if primary(ui, true, words).on_hover_text("Ctrl+N").clicked() {
                        self.composer.open();
                    }
                }
                ui.with_layout(egui::Layout::left_to_right(egui::Align::Center), |ui| {
                    ui.add(egui::Label::new(RichText::new(words::title()).size(17.0)).truncate());
                });
            });
        });
    }

    fn timeline(&mut self, ui: &mut Ui, model: &vm::Feed, cx: &mut Cx<'_>) {
        let mut chosen: Option<(Arc<Card>, Act)> = None;
        let Self { feed, textures, unfolded, all_comments, commenting, fields, .. } = self;
        let asked = self.limit > model.limit;
        let writable = !cx.app.me.revoked;
        let mut older = false;
        let shown = feed.show(
            ui,
            &model.posts,
            |post| post.key,
            |post| card::estimate(post),
            |ui, post| {
                let open = *commenting == Some(post.key);
                let doing = Doing {
                    textures,
                    pictures: &model.pictures,
                    unfolded: unfolded.contains(&post.key),
                    all_comments: all_comments.contains(&post.key),
                    field: if open { fields.get_mut(&post.key) } else { None },
                    writable,
                    ime: cx.ime,
                };
                if let Some(act) = card::show(ui, post, doing) {
                    chosen = Some((Arc::clone(post), act));
                }
            },
            |ui| {
                ui.vertical_centered(|ui| {
                    if asked {
                        hint(ui, words::loading_older());
                    } else if model.more && model.limit < MOST {
                        older = ui.button(words::older()).clicked();
                    } else {
                        hint(ui, if model.more { words::limit() } else { words::end() });
                    }
                });
            },
        );
        if (older || shown.near_end) && model.more && !asked {
            // The shell tells the bridge.
            self.limit = (model.limit + PAGE).min(MOST);
        }
        let (from, to) = (shown.rows.start, shown.rows.end);
        self.near = (from / STEP * STEP, to.next_multiple_of(STEP));
        if let Some((post, act)) = chosen {
            self.act(ui, &post, act, cx);
        }
    }

    fn act(&mut self, ui: &Ui, post: &Card, act: Act, cx: &mut Cx<'_>) {
        let (topic, id) = post.key;
        match act {
            Act::Person => cx.desk.go(Go::Person(post.account)),
            Act::Fold => flip(&mut self.unfolded, post.key),
            Act::AllComments => flip(&mut self.all_comments, post.key),
            Act::Like => {
                cx.submit(Command::Moments(Moment::Like { topic, post: id, on: !post.liked }));
            }
            Act::Photo(at) => {
                let shot = |(index, tile): (usize, &vm::Tile)| Shot {
                    which: Which { topic, message: id, index: index as u8 },
                    shape: tile.shape,
                    bytes: tile.bytes,
                    preview: self.textures.known(&tile.hash),
                };
                let photos = post.photos.iter().enumerate().map(shot).collect();
                cx.desk.go(Go::Photos(Album { of: post.name.clone(), photos, at }));
            }
            Act::Comment(answers) => {
                let close = self.commenting == Some(post.key) && answers.is_none();
                self.commenting = (!close).then_some(post.key);
                self.bound_fields();
                let field = self.fields.entry(post.key).or_default();
                field.focus = true;
                field.answers = answers;
            }
            Act::Send => {
                let Some(field) = self.fields.get_mut(&post.key) else { return };
                let text = field.text.trim().to_owned();
                let reply_to = field.answers.as_ref().map(|(key, _)| *key);
                let comment = Moment::Comment { topic, post: id, text, reply_to };
                field.ticket = Some(cx.submit(Command::Moments(comment)));
            }
            Act::DeletePost => {
                let (what, how) = (words::delete_post(), words::delete_post_how());
                sure(cx, what, how, post.key);
            }
            Act::DeleteComment(key) => {
                let (what, how) = (words::delete_comment(), words::delete_comment_how());
                sure(cx, what, how, key);
            }
        }
        ui.ctx().request_repaint();
    }

    fn bound_fields(&mut self) {
        while self.fields.len() >= MOST_FIELDS {
            let idle = self.fields.iter().find(|(_, f)| f.text.is_empty() && f.ticket.is_none());
            let Some(key) = idle.or(self.fields.iter().next()).map(|(k, _)| *k) else { return };
            self.fields.remove(&key);
        }
    }
}

/// Asks before something is taken back.
fn sure(cx: &mut Cx<'_>, what: &'static str, how: &'static str, (topic, target): Key) {
    cx.desk.go(Go::Dialog(Dialog::Confirm(Confirm {
        what,
        whom: String::new(),
        how,
        command: Command::Moments(Moment::Delete { topic, target }),
        after: After::Nothing,
    })));
}

fn flip(set: &mut BTreeSet<Key>, key: Key) {
    if !set.remove(&key) {
        set.insert(key);
    }
}

/// What to do when nothing is there.
fn empty(ui: &mut Ui, cx: &mut Cx<'_>) {
    let friends = cx.app.contacts.iter().any(|c| c.state == ContactState::Friend);
    let room = ui.available_height();
    ui.vertical_centered(|ui| {
        ui.set_max_width(space::COLUMN.min(ui.available_width() - 2.0 * space::LARGE));
        ui.add_space((room / 2.0 - 110.0).max(space::LARGE));
        ui.label(RichText::new(words::empty()).size(19.0));
        ui.add_space(space::SMALL);
        if friends {
            hint(ui, words::empty_how());
            return;
        }
        hint(ui, words::friendless_how());
        ui.add_space(space::NORMAL);
        if primary(ui, true, words::show_card()).clicked() {
            cx.desk.go(Go::Place(Place::Me));
        }
        if ui.button(words::add_friend()).clicked() {
            cx.desk.go(Go::Dialog(Dialog::add()));
        }
    });
}
