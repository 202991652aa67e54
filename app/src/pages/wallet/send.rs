//! Money between friends: sending it, and taking what was sent.

use egui::{ComboBox, Label, RichText, Ui};
use teahouse_node::core::command::Command;
use teahouse_node::core::pay::Command as Act;
use teahouse_node::core::pay::tables::{IncomingState, Number};
use teahouse_node::core::view::ContactState;
use teahouse_node::protocols::ids::{AccountId, AssetId};
use teahouse_node::protocols::pay::amount;

use super::vm::{MoneyRow, Purse, WaitingRow};
use super::{Wallet, facts, words};
use crate::pages::Cx;
use crate::theme::{space, tokens};
use crate::vm::{ContactRow, Model, one_line};
use crate::widgets::{danger, field, hint, page, primary, section};

/// Longest note, in bytes.
const MAX_NOTE: usize = 140;

/// What is being sent.
#[derive(Default)]
pub(super) struct Sending {
    asset: Option<AssetId>,
    to: Option<AccountId>,
    amount: String,
    memo: String,
    /// It is read once more before it goes.
    review: bool,
    /// While it is on its way to the node.
    ticket: Option<u64>,
}

/// What was written, read.
struct Read<'a> {
    money: &'a MoneyRow,
    to: &'a ContactRow,
    minor: u64,
    shown: String,
}

impl Sending {
    pub(super) fn begin(&mut self) {
        self.review = false;
    }

    /// Back from the review; `false` if there is none.
    pub(super) fn change(&mut self) -> bool {
        core::mem::take(&mut self.review)
    }

    /// The node's answer, perhaps to this; whether it was.
    pub(super) fn answered(&mut self, ticket: u64, begun: Option<Number>) -> bool {
        if self.ticket != Some(ticket) {
            return false;
        }
        self.ticket = None;
        if begun.is_some() {
            *self = Self::default();
        }
        true
    }

    /// The form, and its review; `true` if somebody goes back.
    pub(super) fn show(&mut self, ui: &mut Ui, model: &Purse, cx: &mut Cx<'_>) -> bool {
        let mut back = false;
        page(ui, "wallet send", |ui| {
            ui.heading(words::send_title());
            hint(ui, words::send_how());
            let spendable: Vec<&MoneyRow> =
                model.money.iter().filter(|m| m.balance.is_some() && !m.whose.mine).collect();
            if spendable.is_empty() {
                hint(ui, words::no_money());
            }
            if friends(cx.app).next().is_none() {
                hint(ui, words::no_friends());
            }
            // Where there is one only, it is the one.
            if let [only] = spendable[..] {
                self.asset = Some(only.asset);
            }
            let ready = if self.review { None } else { self.form(ui, &spendable, cx) };
            if self.review {
                self.review(ui, &spendable, cx);
                return;
            }
            ui.add_space(space::SMALL);
            ui.horizontal(|ui| {
                self.review = primary(ui, ready.is_some(), words::review()).clicked();
                back = ui.button(words::back()).clicked();
            });
        });
        back
    }

    /// The fields; something if all are as they should be.
    fn form(&mut self, ui: &mut Ui, money: &[&MoneyRow], cx: &Cx<'_>) -> Option<()> {
        let danger = tokens(ui).danger;
        section(ui, words::which_money());
        let name = |m: &MoneyRow| {
            let amount = m.balance.clone().unwrap_or_default();
            words::balance(&amount, &m.whose.short())
        };
        let chosen = money.iter().find(|m| Some(m.asset) == self.asset);
        let text = chosen.map_or_else(|| words::which_money().to_owned(), |m| name(m));
        let combo =
            ComboBox::from_id_salt("which money").selected_text(text).width(ui.available_width());
        let shown = combo.show_ui(ui, |ui| {
            for m in money {
                ui.selectable_value(&mut self.asset, Some(m.asset), name(m));
            }
        });
        shown.response.accessible_name(words::which_money());
        section(ui, words::to_whom());
        let person = friends(cx.app).find(|f| Some(f.account) == self.to);
        let text = person.map_or(words::to_whom(), |f| f.name.as_str());
        let combo =
            ComboBox::from_id_salt("to whom").selected_text(text).width(ui.available_width());
        let shown = combo.show_ui(ui, |ui| {
            for f in friends(cx.app) {
                ui.selectable_value(&mut self.to, Some(f.account), &f.name);
            }
        });
        shown.response.accessible_name(words::to_whom());
        section(ui, words::how_much());
        field(ui, &mut self.amount, words::how_much(), words::how_much_hint());
        section(ui, words::memo());
        field(ui, &mut self.memo, words::memo(), words::memo());
        match self.read(money, cx.app) {
            Ok(_) => Some(()),
            Err(why) => {
                if let Some(why) = why {
                    ui.add(Label::new(RichText::new(why).color(danger)).wrap());
                }
                None
            }
        }
    }

    /// What was written; or why it can't be sent, if there is something to say.
    fn read<'a>(&self, money: &[&'a MoneyRow], app: &'a Model) -> Result<Read<'a>, Option<String>> {
        if self.memo.trim().len() > MAX_NOTE {
            return Err(Some(words::too_long().into()));
        }
        let money = money.iter().find(|m| Some(m.asset) == self.asset).ok_or(None)?;
        if self.amount.trim().is_empty() {
            return Err(None);
        }
        let minor = amount::parse(&self.amount, money.exponent).map_err(|e| Some(e.to_string()))?;
        if minor == 0 {
            return Err(Some(words::not_nothing().into()));
        }
        if money.minor.is_none_or(|balance| minor > balance) {
            return Err(Some(words::not_more().into()));
        }
        let to = friends(app).find(|f| Some(f.account) == self.to).ok_or(None)?;
        let shown = format!("{} {}", amount::show(minor, money.exponent), money.currency);
        Ok(Read { money, to, minor, shown })
    }

    fn review(&mut self, ui: &mut Ui, money: &[&MoneyRow], cx: &mut Cx<'_>) {
        let app = cx.app;
        // A friend or a balance that is gone meanwhile: back to the form.
        let Ok(read) = self.read(money, app) else {
            self.review = false;
            return;
        };
        let name = one_line(read.to.name.trim());
        ui.add_space(space::NORMAL);
        let question = RichText::new(words::send_this(&read.shown, &name)).size(19.0);
        ui.add(Label::new(question).wrap());
        let (whose, to, memo) =
            (read.money.whose.words(), read.to.account.to_hex(), one_line(self.memo.trim()));
        let mut list = vec![
            (words::whose(), whose.as_str()),
            (words::to_whom(), name.as_str()),
            ("", to.as_str()),
            (words::amount(), read.shown.as_str()),
        ];
        if !memo.is_empty() {
            list.push((words::memo(), &memo));
        }
        facts(ui, "review", &list);
        let sending = self.ticket.is_some();
        ui.horizontal(|ui| {
            let word = if sending { words::sending() } else { words::send_now() };
            if primary(ui, !sending && !app.me.revoked, word).clicked() {
                let transfer = Act::Transfer {
                    asset: read.money.asset,
                    to: read.to.account,
                    amount: read.minor,
                    memo: self.memo.trim().to_owned(),
                    number: None,
                };
                self.ticket = Some(cx.submit(Command::Pay(transfer)));
            }
            if !sending && ui.button(words::change()).clicked() {
                self.review = false;
            }
        });
    }
}

fn friends(app: &Model) -> impl Iterator<Item = &ContactRow> {
    app.contacts.iter().filter(|c| c.state == ContactState::Friend)
}

impl Wallet {
    /// What a friend sent.
    pub(super) fn incoming(&mut self, ui: &mut Ui, row: &WaitingRow, cx: &mut Cx<'_>) {
        page(ui, "wallet incoming", |ui| {
            ui.add(
                Label::new(RichText::new(words::sent_by(&row.amount, &row.from)).size(21.0)).wrap(),
            );
            let whose = row.whose.as_ref().map(super::vm::Whose::words);
            let mut list = vec![
                (words::from(), row.from.as_str()),
                (words::amount(), row.amount.as_str()),
                (words::whose(), whose.as_deref().unwrap_or(words::money_unknown())),
                (words::state(), words::waiting_state(row.state)),
            ];
            if !row.memo.is_empty() {
                list.push((words::memo(), row.memo.as_str()));
            }
            if row.state == IncomingState::Waits {
                list.push((words::until(), row.until.as_str()));
            }
            facts(ui, "incoming", &list);
            if row.state != IncomingState::Waits {
                return;
            }
            hint(ui, words::take_how());
            let ready = self.asked.is_none() && !cx.app.me.revoked;
            let order = row.order;
            ui.horizontal(|ui| {
                if primary(ui, ready, words::take()).clicked() {
                    self.once(Act::Answer { order, accept: true }, cx);
                }
                if danger(ui, words::decline()).clicked() {
                    self.once(Act::Answer { order, accept: false }, cx);
                }
            });
        });
    }
}
