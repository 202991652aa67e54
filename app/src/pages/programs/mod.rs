//! Mini Programs: those that are installed, and the one that is open.
//!
//! The head with the program's name and what the person is asked are the window's: they stand
//! above the program's own room, over the whole width, where no program draws.
//!
//! - [`vm`]: what is shown, as plain values.
//! - [`pictures`]: pictures of packages.
//! - `draw`: a program's picture; `canvas`: drawings in it.
//! - [`words`]: what the page says.

mod canvas;
mod draw;
pub mod pictures;
pub mod vm;
pub mod words;

use std::sync::Arc;

use egui::{
    Button, Frame, Label, Margin, Painter, Panel, Pos2, RichText, ScrollArea, Stroke, Ui, vec2,
};
use teahouse_node::core::command::{Command, Reply};
use teahouse_node::core::pay::tables::{Number, PayState};
use teahouse_node::core::programs::Command as Ask;
use teahouse_node::core::programs::query::{Program, Programs as Installed};
use teahouse_node::core::query::Query;
use teahouse_node::core::store::{ChangeSet, StorageError};
use teahouse_node::programs::{Wish, bill_words};
use teahouse_node::protocols::ids::{AppId, TopicId};

use self::draw::Doing;
use self::vm::{Running, Shelf};
use super::{Around, Cx, Page, PageId};
use crate::bridge::{Action, Answer, ProgramAct};
use crate::desk::{After, Desk, Go};
use crate::screens::dialogs::{Confirm, Dialog, Passing};
use crate::strings;
use crate::theme::{SMALL, space, tokens};
use crate::widgets::armed::Armed;
use crate::widgets::{danger, field, hint, page, primary, small};

/// The page's name within the app.
pub(crate) const PROGRAMS: PageId = "programs";

/// A message's card: what it opens, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Card {
    /// The program.
    pub(crate) app: AppId,
    /// Its link.
    pub(crate) link: String,
    /// What the program is told.
    pub(crate) launch: String,
    /// The chat in which it stands.
    pub(crate) chat: TopicId,
}

/// The page's state.
#[derive(Default)]
pub(crate) struct Programs {
    link: String,
    /// While the link is on its way to the node.
    adding: Option<u64>,
    /// The program that the person opened.
    open: Option<AppId>,
    /// They went back with Escape: to be told to the bridge.
    closing: bool,
    doing: Doing,
    /// Lines in passing that were shown.
    notices: u64,
    /// Cards that were offered and answered.
    offers: u64,
    /// Whether the window's questions take an answer yet.
    wish: Armed<Wish>,
    card: Armed<u64>,
    /// What a message's card opens, once its program is here.
    carried: Option<Card>,
    /// While a card's link is being made, and the link.
    sharing: Option<u64>,
    shared: Option<String>,
    /// The bill that is before the person, by its payment and what it comes to: an amount that
    /// has just come is read first.
    billed: Armed<(Number, Option<String>)>,
}

/// Lines of a bill that are shown.
const MOST_LINES: usize = 12;

impl Page for Programs {
    type Ask = ();
    type Model = Shelf;

    const ID: PageId = PROGRAMS;

    fn title() -> &'static str {
        words::title()
    }

    /// Four tiles, one of them round.
    fn icon(painter: &Painter, center: Pos2, pen: Stroke) {
        for (x, y) in [(-5.5, -5.5), (5.5, -5.5), (-5.5, 5.5)] {
            let tile = egui::Rect::from_center_size(center + vec2(x, y), vec2(8.0, 8.0));
            painter.rect_stroke(tile, 2.0, pen, egui::StrokeKind::Middle);
        }
        painter.circle_stroke(center + vec2(5.5, 5.5), 4.2, pen);
    }

    fn depends(changes: &ChangeSet) -> bool {
        Installed::depends(changes)
    }

    fn load((): &(), around: &Around<'_, Shelf>) -> Result<Shelf, StorageError> {
        vm::load(around)
    }

    fn ask(&self) {}

    fn ui(&mut self, ui: &mut Ui, model: &Arc<Shelf>, cx: &mut Cx<'_>) {
        if core::mem::take(&mut self.closing) {
            cx.desk.actions.push(Action::Program(ProgramAct::Close));
        }
        if let Some(link) = self.shared.take() {
            ui.ctx().copy_text(link);
            cx.desk.toasts.good(words::card_copied());
        }
        if let Some(card) = cx.desk.card.take() {
            self.take_card(card, model, ui, cx);
        }
        let Some(app) = self.open else { return self.shelf(ui, model, cx) };
        let running = cx.app.program.clone().filter(|r| r.app == app);
        self.program(ui, app, running.as_deref(), cx);
    }

    fn answered(&mut self, Answer { ticket, result, .. }: &Answer) {
        let ticket = *ticket;
        if self.adding == Some(ticket) {
            self.adding = None;
            if result.is_ok() {
                self.link.clear();
            }
        }
        if self.sharing == Some(ticket) {
            self.sharing = None;
            if let Ok(Reply::Link { link }) = result {
                self.shared = Some(link.clone());
            }
        }
    }

    fn back(&mut self) -> bool {
        self.closing = self.open.take().is_some();
        self.closing
    }

    /// A program that nobody looks at does not run.
    fn looked_at(&mut self, on: bool, desk: &mut Desk) {
        if self.open.is_some() {
            desk.actions.push(Action::Program(ProgramAct::Show(on)));
        }
    }
}

impl Programs {
    fn shelf(&mut self, ui: &mut Ui, model: &Shelf, cx: &mut Cx<'_>) {
        let mut opened = None;
        page(ui, "programs", |ui| {
            ui.heading(words::title());
            ui.horizontal(|ui| {
                let room = ui.available_width() - 100.0;
                ui.scope(|ui| {
                    ui.set_max_width(room.max(120.0));
                    field(ui, &mut self.link, words::link(), "teahouse:program/…");
                });
                let ready = self.adding.is_none() && !self.link.trim().is_empty();
                if primary(ui, ready, words::install()).clicked() {
                    let link = self.link.trim().to_owned();
                    self.adding = Some(cx.submit(Command::Programs(Ask::Add { link })));
                }
            });
            if model.programs.is_empty() {
                ui.add_space(space::LARGE);
                ui.label(RichText::new(words::empty()).size(19.0));
                hint(ui, words::empty_how());
            }
            for program in &model.programs {
                if row(ui, program, cx) {
                    opened = Some(program.app);
                }
            }
        });
        if let Some(app) = opened {
            let card = self.carried.take().filter(|card| card.app == app);
            let (launch, chat) = card.map(|c| (c.launch, c.chat)).unzip();
            self.start((app, launch.unwrap_or_default(), chat), ui, cx);
        }
    }

    /// Opens what a message's card offers, or installs it first.
    fn take_card(&mut self, card: Card, shelf: &Shelf, ui: &Ui, cx: &mut Cx<'_>) {
        let here = |p: &Program| p.app == card.app && p.package.is_some();
        if shelf.programs.iter().any(here) {
            return self.start((card.app, card.launch, Some(card.chat)), ui, cx);
        }
        self.closing = self.open.take().is_some();
        cx.submit(Command::Programs(Ask::Add { link: card.link.clone() }));
        self.carried = Some(card);
    }

    fn start(
        &mut self,
        (app, launch, chat): (AppId, String, Option<TopicId>),
        ui: &Ui,
        cx: &mut Cx<'_>,
    ) {
        self.open = Some(app);
        self.wish.rest();
        self.card.rest();
        self.doing = self.doing.next();
        (self.notices, self.offers) = (0, 0);
        let dark_mode = ui.visuals().dark_mode;
        cx.desk.actions.push(Action::Program(ProgramAct::Open { app, launch, chat, dark_mode }));
    }

    fn program(&mut self, ui: &mut Ui, app: AppId, running: Option<&Running>, cx: &mut Cx<'_>) {
        let name = running.map_or("", |r| r.name.as_str()).to_owned();
        let fill = tokens(ui).list;
        let frame = Frame::new().fill(fill).inner_margin(Margin::symmetric(16, 9));
        Panel::top("program head").frame(frame).show(ui, |ui| {
            ui.horizontal(|ui| {
                if ui.button(words::back()).clicked() {
                    self.open = None;
                    self.closing = true;
                }
                ui.add(Label::new(RichText::new(&name).size(17.0)).truncate());
            });
        });
        let Some(running) = running else {
            hint(ui, words::opening());
            return;
        };
        match &running.wish {
            Some(wish) => {
                let takes = self.wish.takes(ui, wish);
                sheet(ui, app, &name, (wish, takes), cx);
            }
            None => self.wish.rest(),
        }
        self.bill(ui, running, cx);
        if running.notices > self.notices {
            self.notices = running.notices;
            cx.desk.toasts.good(format!("{name}: {}", running.notice));
        }
        self.offer(ui, running, cx);
        self.trouble(ui, running, cx);
        let mut events = Vec::new();
        let area = ScrollArea::vertical().id_salt("program").auto_shrink(false);
        area.show(ui, |ui| {
            ui.horizontal_top(|ui| {
                let side = ((ui.available_width() - draw::WIDTH) / 2.0).max(space::LARGE);
                ui.add_space(side);
                ui.vertical(|ui| {
                    ui.set_width(draw::WIDTH.min(ui.available_width() - space::LARGE));
                    ui.add_space(space::LARGE);
                    ui.add_enabled_ui(!running.ended, |ui| {
                        events = draw::show(ui, running, &mut self.doing);
                    });
                    if self.doing.cut {
                        hint(ui, words::too_much());
                    }
                    ui.add_space(space::LARGE);
                });
            });
        });
        for event in events {
            cx.desk.actions.push(Action::Program(ProgramAct::Tell(event)));
        }
    }

    /// What the person is asked to pay: as any question of the window's above the program's room.
    /// It can't be answered before it was there for a moment: a tap that was meant for the
    /// program pays nothing.
    fn bill(&mut self, ui: &mut Ui, running: &Running, cx: &mut Cx<'_>) {
        let Some(bill) = &running.bill else { return self.billed.rest() };
        let takes = self.billed.takes(ui, &(bill.payment, bill.amount.clone()));
        let t = tokens(ui);
        let frame = Frame::new().fill(t.alarm).inner_margin(Margin::symmetric(16, 12));
        Panel::top("program bill").frame(frame).show(ui, |ui| {
            ui.label(RichText::new(words::pay_asks()).size(SMALL).color(t.weak));
            let words = bill_words(Some(bill), Some(bill.by));
            ui.add(Label::new(RichText::new(words).strong()).wrap());
            for (title, count, unit) in bill.lines.iter().take(MOST_LINES) {
                ui.add(Label::new(format!("{count} × {title}, {unit}")).truncate());
            }
            let about = match (&bill.amount, &bill.balance) {
                (None, _) => words::pay_asking().to_owned(),
                (_, Some(balance)) => format!("{} {balance}", words::pay_balance()),
                (_, None) => String::new(),
            };
            hint(ui, &about);
            ui.horizontal(|ui| {
                let mut settle = |pay| {
                    let settle =
                        ProgramAct::Settle { app: running.app, payment: bill.payment, pay };
                    cx.desk.actions.push(Action::Program(settle));
                };
                if ui.button(words::pay_no()).clicked() {
                    settle(false);
                }
                let open = bill.state.is_none_or(|s| s == PayState::Offered);
                let ready = takes && bill.sound && open && bill.amount.is_some();
                if primary(ui, ready, words::pay_yes()).clicked() {
                    settle(true);
                }
            });
        });
    }

    /// A card that the program offers: nothing is sent unless the person says to whom.
    fn offer(&mut self, ui: &mut Ui, running: &Running, cx: &mut Cx<'_>) {
        let Some((title, launch)) = &running.offer else { return };
        if running.offers <= self.offers {
            return self.card.rest();
        }
        let takes = self.card.takes(ui, &running.offers);
        let frame = Frame::new().fill(tokens(ui).list).inner_margin(Margin::symmetric(16, 8));
        Panel::top("program offer").frame(frame).show(ui, |ui| {
            ui.add(Label::new(words::offers(&running.name, title)).wrap());
            ui.horizontal(|ui| {
                let send = primary(ui, takes, words::card_send()).clicked();
                if send {
                    let (app, title, launch) = (running.app, title.clone(), launch.clone());
                    let card = Passing::Card { app, title, launch };
                    cx.desk.go(Go::Dialog(Dialog::pass_on(card)));
                }
                let ready = takes && self.sharing.is_none();
                let take = ui.add_enabled(ready, Button::new(words::card_copy())).clicked();
                if take {
                    let share = Ask::Share { app: running.app, launch: launch.clone() };
                    self.sharing = Some(cx.submit(Command::Programs(share)));
                }
                let not = ui.add_enabled(takes, Button::new(words::card_not())).clicked();
                if not || take || send {
                    self.offers = running.offers;
                }
            });
        });
    }

    /// What went wrong, in words, and how to go on.
    fn trouble(&mut self, ui: &mut Ui, running: &Running, cx: &mut Cx<'_>) {
        let words = match (&running.trouble, running.busy) {
            (Some(why), _) => why.as_str(),
            (None, true) => words::busy(),
            (None, false) => return,
        };
        let frame = Frame::new().fill(tokens(ui).alarm).inner_margin(Margin::symmetric(16, 8));
        Panel::top("program trouble").frame(frame).show(ui, |ui| {
            if running.ended {
                ui.strong(words::ended());
            }
            ui.add(Label::new(words).wrap());
            if running.ended && ui.button(words::again()).clicked() {
                self.start((running.app, running.launch.clone(), running.chat), ui, cx);
            }
        });
    }
}

/// What a person is asked for a program: the window's own sheet, above the program's room and
/// over the whole width, where no program draws.
/// It takes no answer before it has stood for a moment: see [`Armed`].
fn sheet(ui: &mut Ui, app: AppId, name: &str, (wish, takes): (&Wish, bool), cx: &mut Cx<'_>) {
    let t = tokens(ui);
    let frame = Frame::new().fill(t.alarm).inner_margin(Margin::symmetric(16, 12));
    Panel::top("program wish").frame(frame).show(ui, |ui| {
        ui.label(RichText::new(words::from_teahouse()).size(SMALL).color(t.weak));
        ui.add(Label::new(RichText::new(words::asks(name, wish.power)).strong()).wrap());
        if !wish.reason.is_empty() {
            let said = format!("{} “{}”", words::says(), wish.reason);
            ui.add(Label::new(RichText::new(said).color(t.weak)).wrap());
        }
        ui.horizontal(|ui| {
            let mut decide = |allowed| {
                let decide = ProgramAct::Decide { app, power: wish.power, allowed };
                cx.desk.actions.push(Action::Program(decide));
            };
            if ui.add_enabled(takes, Button::new(words::refuse())).clicked() {
                decide(false);
            }
            if ui.add_enabled(takes, Button::new(words::allow())).clicked() {
                decide(true);
            }
        });
    });
}

/// A program on the shelf; whether it is to be opened.
fn row(ui: &mut Ui, program: &Program, cx: &mut Cx<'_>) -> bool {
    let t = tokens(ui);
    let mut open = false;
    Frame::new().fill(t.list).corner_radius(10).inner_margin(12).show(ui, |ui| {
        ui.set_width(ui.available_width());
        ui.add(Label::new(RichText::new(&program.name).size(17.0)).truncate());
        match (&program.package, program.coming) {
            (Some(package), _) => {
                if !package.description.is_empty() {
                    hint(ui, &package.description);
                }
                hint(ui, &package.version);
            }
            (None, Some((here, all))) => {
                hint(ui, &format!("{} ({here}/{all})", words::coming()));
            }
            (None, None) => {
                hint(ui, words::waiting());
            }
        }
        for asks in &program.powers {
            ui.horizontal_wrapped(|ui| {
                let said = match asks.allowed {
                    Some(true) => words::allowed(),
                    Some(false) => words::refused(),
                    None => words::not_asked(),
                };
                let line = format!("{}: {said}", words::power(asks.power));
                ui.label(RichText::new(line).size(SMALL).color(t.weak));
                let (word, next) = match asks.allowed {
                    Some(true) => (words::take_back(), false),
                    _ => (words::allow(), true),
                };
                let whom = format!("{}, {}", program.name, words::power(asks.power));
                if small(ui, word, &whom, t.text).clicked() {
                    let (app, power) = (program.app, asks.power);
                    cx.submit(Command::Programs(Ask::Grant { app, power, allowed: Some(next) }));
                }
            });
        }
        ui.horizontal(|ui| {
            let ready = program.package.is_some();
            let name = |word| strings::doing(word, &program.name);
            open = primary(ui, ready, words::open()).accessible_name(name(words::open())).clicked();
            if danger(ui, words::remove()).accessible_name(name(words::remove())).clicked() {
                cx.desk.go(Go::Dialog(Dialog::Confirm(Confirm {
                    what: words::remove_what(),
                    whom: program.name.clone(),
                    how: words::remove_how(),
                    command: Command::Programs(Ask::Uninstall { app: program.app }),
                    after: After::Nothing,
                })));
            }
        });
    });
    open
}
