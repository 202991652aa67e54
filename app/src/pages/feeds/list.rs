//! The accounts: where a link is pasted, one's own, and those that are followed.

use egui::{Frame, Margin, RichText, ScrollArea, Ui};
use teahouse_node::core::command::Command;
use teahouse_node::core::feeds::Command as Act;

use super::vm::{FeedRow, Press};
use super::{Feeds, View, words};
use crate::pages::Cx;
use crate::theme::space;
use crate::widgets::row::Row;
use crate::widgets::{entered, field, hint, primary, section};

impl Feeds {
    pub(super) fn list(&mut self, ui: &mut Ui, model: &Press, cx: &mut Cx<'_>) {
        let writable = !cx.app.me.revoked;
        Frame::new().inner_margin(12).show(ui, |ui| {
            let typed = field(ui, &mut self.link, words::follow_link(), "teahouse:feed/…");
            let typed = typed.on_hover_text(words::follow_how());
            ui.horizontal_wrapped(|ui| {
                let ready = writable && self.following.is_none() && !self.link.trim().is_empty();
                let follow = primary(ui, ready, words::follow()).on_hover_text(words::follow_how());
                if (follow.clicked() || entered(ui, &typed)) && ready {
                    // Mail programs break long links.
                    let link: String = self.link.split_whitespace().collect();
                    self.following = Some(cx.submit(Command::Feeds(Act::Follow { link })));
                }
                if writable && ui.button(words::new()).clicked() {
                    self.own.begin(None);
                    self.view = View::New;
                }
            });
        });
        ScrollArea::vertical().id_salt("feeds").auto_shrink(false).show(ui, |ui| {
            ui.spacing_mut().item_spacing.y = 0.0;
            for (mine, part) in [(true, words::yours()), (false, words::followed())] {
                let mut feeds = model.feeds.iter().filter(|f| f.mine == mine).peekable();
                if feeds.peek().is_none() {
                    continue;
                }
                Frame::new()
                    .inner_margin(Margin::symmetric(16, 4))
                    .show(ui, |ui| section(ui, part));
                for feed in feeds {
                    if ui.push_id(feed.topic, |ui| self.row(ui, feed)).inner {
                        self.open(feed.topic);
                    }
                }
            }
        });
    }

    fn row(&self, ui: &mut Ui, feed: &FeedRow) -> bool {
        let row = Row {
            id: feed.topic.0,
            title: &feed.name,
            line: &feed.line,
            when: &feed.when,
            unread: feed.unread,
            chosen: self.view.feed() == Some(feed.topic),
            ..Row::default()
        };
        row.show(ui).clicked()
    }
}

/// What to do when there is none.
pub(super) fn empty(ui: &mut Ui) {
    let room = ui.available_height();
    ui.vertical_centered(|ui| {
        ui.set_max_width(space::COLUMN.min(ui.available_width() - 2.0 * space::LARGE));
        ui.add_space((room / 2.0 - 90.0).max(space::LARGE));
        ui.label(RichText::new(words::empty()).size(19.0));
        ui.add_space(space::SMALL);
        hint(ui, words::empty_how());
    });
}
