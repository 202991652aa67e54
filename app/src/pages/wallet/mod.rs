//! The wallet: balances, what this device paid, what friends sent, paying and sending.
//!
//! Nothing is signed but by a button that says what it pays, on a screen that shows who is paid,
//! in whose money. What is not known is called so: no state is guessed.
//!
//! - [`vm`]: what is shown, as plain values, and how it is made.
//! - `list`: what stands at the left.
//! - `money`: a balance and its statement.
//! - `pay`: a shop's link, and a payment.
//! - `send`: sending to a friend, and what a friend sent.
//! - `shop`: a shop of one's own.
//! - [`words`]: what the page says.

mod list;
mod money;
mod pay;
mod send;
mod shop;
pub mod vm;
pub mod words;

use std::sync::Arc;

use egui::{CentralPanel, Frame, Grid, Label, Painter, Panel, Pos2, Rect, RichText, Stroke};
use egui::{StrokeKind, Ui, vec2};
use teahouse_node::core::command::{Command, Reply};
use teahouse_node::core::pay::Command as Act;
use teahouse_node::core::pay::tables::Number;
use teahouse_node::core::store::{ChangeSet, StorageError};
use teahouse_node::protocols::ids::{AssetId, OrderId};

use self::pay::Paying;
use self::send::Sending;
use self::shop::{Part, Shop};
use self::vm::{Ask, Purse};
use super::{Around, Cx, Page, PageId};
use crate::bridge::Answer;
use crate::theme::{space, tokens};
use crate::widgets::nothing;

/// What stands right of the lists.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum View {
    /// Nothing was chosen.
    #[default]
    Nothing,
    /// A balance.
    Money(AssetId),
    /// A payment.
    Payment(Number),
    /// What a friend sent.
    Waiting(OrderId),
    /// A shop's link.
    Pay,
    /// Sending to a friend.
    Send,
    /// The shop.
    Shop(Part),
}

/// The page's state.
#[derive(Default)]
pub(crate) struct Wallet {
    view: View,
    paying: Paying,
    sending: Sending,
    shop: Shop,
    /// The order of the payment that is shown, as the model had it.
    order: Option<OrderId>,
    /// A payment that was just begun: the model does not have it yet.
    begun: Option<Number>,
    /// Commands under way that must not be given twice.
    asked: Option<u64>,
    undecided: u64,
}

impl Page for Wallet {
    type Ask = Ask;
    type Model = Purse;

    const ID: PageId = "wallet";

    fn title() -> &'static str {
        words::title()
    }

    /// A purse with its clasp.
    fn icon(painter: &Painter, center: Pos2, pen: Stroke) {
        let purse = Rect::from_center_size(center + vec2(0.0, 1.0), vec2(21.0, 16.0));
        painter.rect_stroke(purse, 3.0, pen, StrokeKind::Middle);
        let flap = [vec2(-8.0, -7.0), vec2(5.5, -10.5), vec2(7.0, -7.0)];
        painter.line(flap.map(|v| center + v).to_vec(), pen);
        let pocket = Rect::from_min_max(center + vec2(3.0, -2.0), center + vec2(10.5, 4.5));
        painter.rect_stroke(pocket, 2.0, pen, StrokeKind::Middle);
        painter.circle_filled(center + vec2(6.3, 1.3), 1.2, pen.color);
    }

    fn depends(changes: &ChangeSet) -> bool {
        vm::depends(changes)
    }

    fn load(ask: &Ask, around: &Around<'_, Purse>) -> Result<Purse, StorageError> {
        vm::load(ask, around)
    }

    fn ask(&self) -> Ask {
        let statement = match self.view {
            View::Money(asset) => Some(asset),
            _ => None,
        };
        Ask { statement, receipt: self.order }
    }

    fn take(&mut self, model: &Arc<Purse>) {
        self.undecided = model.undecided();
        self.order = match self.view {
            View::Payment(number) => model.payment(number).and_then(|p| p.order),
            _ => None,
        };
        if self.begun.is_some_and(|number| model.payment(number).is_some()) {
            self.begun = None;
        }
    }

    fn badge(&self) -> u64 {
        self.undecided
    }

    fn ui(&mut self, ui: &mut Ui, model: &Arc<Purse>, cx: &mut Cx<'_>) {
        let fill = tokens(ui).list;
        Panel::left("wallet list")
            .default_size(space::LIST)
            .size_range(180.0..=420.0)
            .frame(Frame::new().fill(fill))
            .show(ui, |ui| self.list(ui, model, cx));
        CentralPanel::default_margins().frame(Frame::new()).show(ui, |ui| {
            self.right(ui, model, cx);
        });
        self.order = match self.view {
            View::Payment(number) => model.payment(number).and_then(|p| p.order),
            _ => None,
        };
    }

    fn answered(&mut self, answer: &Answer) {
        let ticket = Some(answer.ticket);
        if self.asked == ticket {
            self.asked = None;
        }
        if let Some(part) = self.shop.answered(answer) {
            self.view = View::Shop(part);
        }
        let begun = match &answer.result {
            Ok(Reply::Payment { payment }) => Some(*payment),
            _ => None,
        };
        let paying = self.paying.answered(answer.ticket, begun);
        let sending = self.sending.answered(answer.ticket, begun);
        if (paying || sending)
            && let Some(number) = begun
        {
            self.begun = Some(number);
            self.view = View::Payment(number);
        }
    }

    fn back(&mut self) -> bool {
        match self.view {
            View::Send if self.sending.change() => return true,
            View::Shop(_) if self.shop.change() => return true,
            View::Shop(Part::Order(_)) => {
                self.view = View::Shop(Part::Orders);
                return true;
            }
            View::Shop(Part::Poster(_)) => {
                self.view = View::Shop(Part::Products);
                return true;
            }
            _ => {}
        }
        core::mem::take(&mut self.view) != View::Nothing
    }
}

impl Wallet {
    fn right(&mut self, ui: &mut Ui, model: &Purse, cx: &mut Cx<'_>) {
        match self.view {
            View::Nothing if model.is_empty() => {
                if list::empty(ui, cx) {
                    self.view = View::Shop(Part::Open);
                }
            }
            View::Nothing => nothing(ui, words::choose()),
            View::Money(asset) => match model.money(asset) {
                Some(row) => {
                    let lines = model.statement.as_ref().filter(|(of, _)| *of == asset);
                    Self::money(ui, row, lines.map(|(_, lines)| &**lines), cx);
                }
                None => nothing(ui, words::choose()),
            },
            View::Payment(number) => match model.payment(number) {
                Some(row) => self.payment(ui, row, model, cx),
                None if self.begun == Some(number) => {
                    nothing(ui, crate::strings::conversation_opening());
                }
                None => nothing(ui, words::gone()),
            },
            View::Waiting(order) => match model.waiting.iter().find(|w| w.order == order) {
                Some(row) => self.incoming(ui, row, cx),
                None => nothing(ui, words::gone()),
            },
            View::Shop(part) => self.shop(ui, part, model, cx),
            View::Pay => {
                if self.paying.show(ui, cx) {
                    self.view = View::Nothing;
                }
            }
            View::Send => {
                if self.sending.show(ui, model, cx) {
                    self.view = View::Nothing;
                }
            }
        }
    }

    /// Gives a command, once until it is answered.
    fn once(&mut self, command: Act, cx: &mut Cx<'_>) {
        if self.asked.is_none() {
            self.asked = Some(cx.submit(Command::Pay(command)));
        }
    }
}

/// Names and what they stand for, below each other.
fn facts(ui: &mut Ui, id: &str, facts: &[(&str, &str)]) {
    let t = tokens(ui);
    let width = ui.available_width();
    Frame::new().fill(t.list).corner_radius(10).inner_margin(12).show(ui, |ui| {
        ui.set_width(ui.available_width());
        Grid::new(id).num_columns(2).spacing([space::LARGE, space::NORMAL]).show(ui, |ui| {
            for (name, value) in facts {
                ui.label(RichText::new(*name).color(t.weak));
                ui.scope(|ui| {
                    ui.set_max_width((width - 170.0).max(120.0));
                    ui.add(Label::new(RichText::new(*value).color(t.text)).wrap().selectable(true));
                });
                ui.end_row();
            }
        });
    });
}
