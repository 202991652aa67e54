//! A balance: whose it is, what may be spent, and the issuer's statement.

use egui::{Frame, Label, RichText, Ui};
use teahouse_node::core::command::Command;
use teahouse_node::core::pay::Command as Act;
use teahouse_node::core::pay::query::MAX_ROWS;

use super::vm::{Line, MoneyRow};
use super::{Wallet, facts, words};
use crate::desk::After;
use crate::pages::Cx;
use crate::theme::{SMALL, tokens};
use crate::widgets::{from_right, hint, page, section};

impl Wallet {
    pub(super) fn money(ui: &mut Ui, row: &MoneyRow, statement: Option<&[Line]>, cx: &mut Cx<'_>) {
        page(ui, "wallet money", |ui| {
            let amount = row.balance.as_deref().unwrap_or(words::nothing_signed());
            ui.add(Label::new(RichText::new(amount).size(28.0)).wrap());
            ui.add(Label::new(row.whose.words()).wrap());
            let mut list = vec![(words::issuer(), row.whose.full.as_str())];
            if let Some(held) = &row.held {
                list.insert(0, (words::held(), held));
            }
            if let Some(heard) = &row.heard {
                list.push((words::heard(), heard));
            }
            facts(ui, "money", &list);
            hint(ui, words::as_signed());
            ui.horizontal_wrapped(|ui| {
                if ui.button(words::refresh()).clicked() {
                    let ask = Command::Pay(Act::Refresh { asset: row.asset });
                    cx.desk.submit(ask, After::Say(words::asked_again()));
                }
                if let Some(account) = cx.app.me.account
                    && ui.button(words::copy_account()).clicked()
                {
                    ui.ctx().copy_text(account.to_hex());
                    cx.desk.toasts.good(words::copied());
                }
            });
            section(ui, words::statement());
            match statement {
                None => {
                    hint(ui, words::statement_waits());
                }
                Some([]) => {
                    hint(ui, words::statement_empty());
                }
                Some(lines) => {
                    for one in lines {
                        line(ui, one);
                    }
                    if lines.len() >= MAX_ROWS {
                        hint(ui, words::older());
                    }
                }
            }
        });
    }
}

/// A line of the statement.
fn line(ui: &mut Ui, line: &Line) {
    let t = tokens(ui);
    Frame::new().fill(t.list).corner_radius(8).inner_margin(10).show(ui, |ui| {
        from_right(ui, |ui| {
            let color = if line.rises { t.accent } else { t.text };
            ui.label(RichText::new(&line.amount).color(color));
            ui.with_layout(egui::Layout::top_down(egui::Align::Min), |ui| {
                ui.spacing_mut().item_spacing.y = 0.0;
                ui.add(Label::new(&line.what).truncate());
                ui.label(RichText::new(&line.at).size(SMALL).color(t.weak));
            });
        });
    });
}
