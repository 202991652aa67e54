//! What stands at the left: what can be done, what friends sent, balances, payments.

use egui::{Frame, Margin, RichText, ScrollArea, Ui};
use teahouse_node::core::pay::query::MAX_ROWS;
use teahouse_node::core::pay::tables::{IncomingState, PayState};

use super::shop::Part;
use super::vm::{MoneyRow, PaymentRow, Purse, WaitingRow};
use super::{View, Wallet, words};
use crate::pages::Cx;
use crate::theme::space;
use crate::widgets::row::Row;
use crate::widgets::{hint, primary, section};

impl Wallet {
    pub(super) fn list(&mut self, ui: &mut Ui, model: &Purse, cx: &mut Cx<'_>) {
        let writable = !cx.app.me.revoked;
        Frame::new().inner_margin(12).show(ui, |ui| {
            ui.horizontal_wrapped(|ui| {
                if primary(ui, writable, words::pay()).clicked() {
                    self.paying.begin();
                    self.view = View::Pay;
                }
                if writable && ui.button(words::send()).clicked() {
                    self.sending.begin();
                    self.view = View::Send;
                }
            });
        });
        ScrollArea::vertical().id_salt("wallet").auto_shrink(false).show(ui, |ui| {
            ui.spacing_mut().item_spacing.y = 0.0;
            let mut next = None;
            self.shop_list(ui, model);
            part(ui, words::waits(), &model.waiting, |ui, row| {
                if self.waiting(ui, row) {
                    next = Some(View::Waiting(row.order));
                }
            });
            part(ui, words::balances(), &model.money, |ui, row| {
                if self.balance(ui, row) {
                    next = Some(View::Money(row.asset));
                }
            });
            part(ui, words::payments(), &model.payments, |ui, row| {
                if self.paid(ui, row) {
                    next = Some(View::Payment(row.payment));
                }
            });
            if model.issued.is_empty() && !model.is_empty() && writable {
                Frame::new().inner_margin(16).show(ui, |ui| {
                    if ui.button(words::open_shop()).clicked() {
                        next = Some(View::Shop(Part::Open));
                    }
                });
            }
            if model.payments.len() >= MAX_ROWS {
                Frame::new().inner_margin(16).show(ui, |ui| hint(ui, words::older()));
            }
            if let Some(view) = next {
                self.view = view;
            }
        });
    }

    fn waiting(&self, ui: &mut Ui, row: &WaitingRow) -> bool {
        let title = words::sent_by(&row.amount, &row.from);
        let row = Row {
            id: row.order.0,
            title: &title,
            line: words::waiting_state(row.state),
            unread: u64::from(row.state == IncomingState::Waits),
            chosen: self.view == View::Waiting(row.order),
            ..Row::default()
        };
        ui.push_id(("waiting", row.id), |ui| row.show(ui)).inner.clicked()
    }

    fn balance(&self, ui: &mut Ui, row: &MoneyRow) -> bool {
        let whose = row.whose.short();
        let amount = row.balance.clone().unwrap_or_else(|| row.currency.clone());
        let line = match &row.balance {
            Some(_) => whose,
            None => format!("{whose}: {}", words::nothing_signed()),
        };
        let row = Row {
            id: row.asset.0,
            title: &amount,
            line: &line,
            chosen: self.view == View::Money(row.asset),
            ..Row::default()
        };
        let shown = ui.push_id(("money", row.id), |ui| row.show(ui)).inner;
        shown.accessible_name(words::balance(&amount, &line)).clicked()
    }

    fn paid(&self, ui: &mut Ui, row: &PaymentRow) -> bool {
        let state = words::payment_state(row.state, row.fulfilled, row.refunded.is_some());
        let line = words::payment_line(&row.amount, &row.to, state);
        // Where it stands is in the line; what is not settled is marked, too.
        let mark = if row.state == PayState::Sent { "?" } else { "" };
        let mut id = [0; 32];
        id[..16].copy_from_slice(&row.payment.0);
        let row = Row {
            id,
            title: &row.title,
            line: &line,
            mark,
            when: &row.when,
            unread: u64::from(row.state == PayState::Offered),
            chosen: self.view == View::Payment(row.payment),
        };
        let shown = ui.push_id(("payment", row.id), |ui| row.show(ui)).inner;
        shown.accessible_name(format!("{}, {line}", row.title)).clicked()
    }
}

/// A part of the list with its heading, if there is anything.
fn part<T>(ui: &mut Ui, title: &str, rows: &[T], mut each: impl FnMut(&mut Ui, &T)) {
    if rows.is_empty() {
        return;
    }
    Frame::new().inner_margin(Margin::symmetric(16, 4)).show(ui, |ui| section(ui, title));
    for row in rows {
        each(ui, row);
    }
}

/// What to do when there is nothing; whether somebody opens a shop.
pub(super) fn empty(ui: &mut Ui, cx: &mut Cx<'_>) -> bool {
    let mut open = false;
    let room = ui.available_height();
    ui.vertical_centered(|ui| {
        ui.set_max_width(space::COLUMN.min(ui.available_width() - 2.0 * space::LARGE));
        ui.add_space((room / 2.0 - 120.0).max(space::LARGE));
        ui.label(RichText::new(words::empty()).size(19.0));
        ui.add_space(space::SMALL);
        hint(ui, words::empty_how());
        ui.add_space(space::NORMAL);
        if let Some(account) = cx.app.me.account
            && ui.button(words::copy_account()).clicked()
        {
            ui.ctx().copy_text(account.to_hex());
            cx.desk.toasts.good(words::copied());
        }
        if !cx.app.me.revoked {
            open = ui.button(words::open_shop()).clicked();
        }
    });
    open
}
