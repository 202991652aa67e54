//! A shop of one's own: the money it owes its customers, what it sells, and its orders.
//!
//! What is created here is a debt: each button that creates or gives back says so, and is asked
//! for once more.

use std::sync::Arc;

use egui::{ComboBox, Frame, Label, Margin, RichText, Ui};
use teahouse_node::core::command::{Command, Reply};
use teahouse_node::core::pay::Command as Act;
use teahouse_node::core::pay::tables::{Number, OrderState};
use teahouse_node::core::view::ContactState;
use teahouse_node::protocols::ids::{AccountId, AssetId, OrderId};
use teahouse_node::protocols::pay::amount;

use super::vm::{IssuedRow, OrderRow, ProductRow, Purse};
use super::{View, Wallet, facts, words};
use crate::bridge::Answer;
use crate::pages::Cx;
use crate::theme::{SMALL, space, tokens};
use crate::vm::Qr;
use crate::widgets::row::Row;
use crate::widgets::{danger, field, hint, page, primary, qr, section, small};

/// What of the shop is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Opening one.
    Open,
    /// What is for sale.
    Products,
    /// A product's poster.
    Poster(Number),
    /// Orders that came.
    Orders,
    /// One of them.
    Order(OrderId),
    /// Crediting somebody who paid in.
    Credit,
}

/// What is being done in the shop.
#[derive(Default)]
pub(super) struct Shop {
    currency: String,
    name: String,
    asset: Option<AssetId>,
    title: String,
    price: String,
    stock: String,
    account: String,
    to: Option<AccountId>,
    amount: String,
    memo: String,
    /// The order that amount and memo are about.
    of: Option<OrderId>,
    /// It is read once more before it is signed.
    review: bool,
    /// While something is on its way to the node, and what it is.
    asked: Option<(u64, Asked)>,
    poster: Option<(Number, String, Option<Arc<Qr>>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Open,
    Offer,
    Poster,
    Create,
    Refund,
    Other,
}

impl Shop {
    /// Back from the second look; `false` if there is none.
    pub(super) fn change(&mut self) -> bool {
        core::mem::take(&mut self.review)
    }

    /// The node's answer, perhaps to one of this; where it leads.
    pub(super) fn answered(&mut self, answer: &Answer) -> Option<Part> {
        let (_, asked) = self.asked.take_if(|(ticket, _)| *ticket == answer.ticket)?;
        let Ok(reply) = &answer.result else { return None };
        match asked {
            Asked::Open => {
                *self = Self::default();
                return Some(Part::Products);
            }
            Asked::Offer => {
                self.title.clear();
                self.price.clear();
                self.stock.clear();
            }
            Asked::Create => {
                self.account.clear();
                self.amount.clear();
                (self.to, self.review) = (None, false);
            }
            Asked::Refund => {
                self.amount.clear();
                self.memo.clear();
                self.review = false;
            }
            Asked::Poster | Asked::Other => {}
        }
        if let (Reply::Product { product, link }, Asked::Offer | Asked::Poster) = (reply, asked) {
            self.poster = Some((*product, link.clone(), answer.qr.clone()));
            return Some(Part::Poster(*product));
        }
        None
    }

    fn ask(&mut self, what: Asked, command: Act, cx: &mut Cx<'_>) {
        if self.asked.is_none() {
            self.asked = Some((cx.submit(Command::Pay(command)), what));
        }
    }

    fn ready(&self, cx: &Cx<'_>) -> bool {
        self.asked.is_none() && !cx.app.me.revoked
    }

    /// Which of the shop's kinds of money; asked only where there are several.
    fn money<'a>(&mut self, ui: &mut Ui, issued: &'a [IssuedRow]) -> Option<&'a IssuedRow> {
        if let [only] = issued {
            return Some(only);
        }
        let name = |i: &IssuedRow| format!("{} {}", i.currency, words::quoted(&i.name));
        let chosen = issued.iter().find(|i| Some(i.asset) == self.asset);
        section(ui, words::which_money());
        let text = chosen.map_or_else(|| words::which_money().to_owned(), name);
        let combo = ComboBox::from_id_salt("shop money").selected_text(text);
        let shown = combo.width(ui.available_width()).show_ui(ui, |ui| {
            for i in issued {
                ui.selectable_value(&mut self.asset, Some(i.asset), name(i));
            }
        });
        shown.response.accessible_name(words::which_money());
        chosen
    }
}

fn wrong(ui: &mut Ui, why: &str) {
    let danger = tokens(ui).danger;
    ui.add(Label::new(RichText::new(why).color(danger)).wrap());
}

impl Wallet {
    /// The shop's part of the list.
    pub(super) fn shop_list(&mut self, ui: &mut Ui, model: &Purse) {
        if model.issued.is_empty() {
            return;
        }
        Frame::new()
            .inner_margin(Margin::symmetric(16, 4))
            .show(ui, |ui| section(ui, words::shop()));
        let due = model.orders.iter().filter(|o| o.is_due()).count() as u64;
        let parts = [
            (Part::Orders, words::orders(), due),
            (Part::Products, words::products(), 0),
            (Part::Credit, words::credit(), 0),
        ];
        for (i, (part, title, unread)) in (0_u8..).zip(parts) {
            let chosen = match self.view {
                View::Shop(Part::Order(_)) => part == Part::Orders,
                View::Shop(Part::Poster(_)) => part == Part::Products,
                view => view == View::Shop(part),
            };
            let row = Row { id: [40 + i; 32], title, unread, chosen, ..Row::default() };
            if ui.push_id(("shop", i), |ui| row.show(ui)).inner.clicked() {
                self.shop.review = false;
                self.view = View::Shop(part);
            }
        }
    }

    pub(super) fn shop(&mut self, ui: &mut Ui, part: Part, model: &Purse, cx: &mut Cx<'_>) {
        let mut next = None;
        page(ui, "wallet shop", |ui| match part {
            Part::Open => self.open_shop(ui, cx),
            Part::Products => self.products(ui, model, cx),
            Part::Poster(number) => self.poster(ui, number, model, cx, &mut next),
            Part::Orders => orders(ui, &model.orders, &mut next),
            Part::Order(order) => match model.orders.iter().find(|o| o.order == order) {
                Some(row) => self.order(ui, row, model, cx, &mut next),
                None => {
                    hint(ui, words::gone());
                }
            },
            Part::Credit => self.credit(ui, model, cx),
        });
        if let Some(part) = next {
            self.view = View::Shop(part);
        }
    }

    fn open_shop(&mut self, ui: &mut Ui, cx: &mut Cx<'_>) {
        ui.heading(words::open_title());
        hint(ui, words::open_how());
        section(ui, words::shop_name());
        field(ui, &mut self.shop.name, words::shop_name(), words::shop_name());
        section(ui, words::currency());
        field(ui, &mut self.shop.currency, words::currency(), "EUR");
        let (name, currency) = (self.shop.name.trim(), self.shop.currency.trim());
        let letters = currency.len() == 3 && currency.bytes().all(|b| b.is_ascii_alphabetic());
        let ready = self.shop.ready(cx) && letters && !name.is_empty();
        ui.add_space(space::SMALL);
        if primary(ui, ready, words::open_now()).clicked() {
            let (name, currency) = (name.to_owned(), currency.to_ascii_uppercase());
            self.shop.ask(Asked::Open, Act::Open { currency, name }, cx);
        }
    }

    fn products(&mut self, ui: &mut Ui, model: &Purse, cx: &mut Cx<'_>) {
        ui.heading(words::products());
        if model.products.is_empty() {
            hint(ui, words::products_none());
        }
        for row in model.products.iter() {
            self.product(ui, row, cx);
        }
        section(ui, words::product_new());
        field(ui, &mut self.shop.title, words::product_title(), words::product_title());
        let money = self.shop.money(ui, &model.issued);
        field(ui, &mut self.shop.price, words::price(), words::price());
        field(ui, &mut self.shop.stock, words::stock(), words::stock_hint());
        let (title, price, stock) =
            (self.shop.title.trim(), self.shop.price.trim(), self.shop.stock.trim());
        let stock: Result<Option<u32>, _> =
            if stock.is_empty() { Ok(None) } else { stock.parse().map(Some) };
        let price =
            money.filter(|_| !price.is_empty()).map(|m| (m, amount::parse(price, m.exponent)));
        match (&price, &stock) {
            (Some((_, Err(why))), _) => wrong(ui, &why.to_string()),
            (Some((_, Ok(0))), _) => wrong(ui, words::not_nothing()),
            (_, Err(_)) => wrong(ui, words::stock_wrong()),
            _ => {}
        }
        let whole = match (price, stock) {
            (Some((money, Ok(price))), Ok(stock)) if price > 0 && !title.is_empty() => {
                Some((money.asset, price, stock))
            }
            _ => None,
        };
        let ready = whole.is_some() && self.shop.ready(cx);
        if primary(ui, ready, words::product_add()).clicked()
            && let Some((asset, price, stock)) = whole
        {
            let title = title.to_owned();
            self.shop.ask(Asked::Offer, Act::Offer { asset, title, price, stock }, cx);
        }
    }

    fn product(&mut self, ui: &mut Ui, row: &ProductRow, cx: &mut Cx<'_>) {
        let t = tokens(ui);
        Frame::new().fill(t.list).corner_radius(10).inner_margin(12).show(ui, |ui| {
            ui.set_width(ui.available_width());
            ui.add(Label::new(RichText::new(&row.title).size(16.0)).truncate());
            hint(ui, &words::product_line(&row.price, row.stock, row.open));
            ui.horizontal_wrapped(|ui| {
                let product = row.product;
                if small(ui, words::poster(), &row.title, t.text).clicked() {
                    self.shop.ask(Asked::Poster, Act::Poster { product }, cx);
                }
                let (word, open) =
                    if row.open { (words::sell_not(), false) } else { (words::sell(), true) };
                if small(ui, word, &row.title, t.text).clicked() {
                    let (price, stock) = (row.minor, row.stock);
                    let change = Act::Change { product, price, stock, open };
                    self.shop.ask(Asked::Other, change, cx);
                }
            });
        });
    }

    fn poster(
        &mut self,
        ui: &mut Ui,
        number: Number,
        model: &Purse,
        cx: &mut Cx<'_>,
        next: &mut Option<Part>,
    ) {
        if let Some(row) = model.products.iter().find(|p| p.product == number) {
            ui.heading(&row.title);
            ui.label(RichText::new(&row.price).size(19.0));
        }
        if let Some((_, link, code)) = self.shop.poster.as_ref().filter(|(n, ..)| *n == number) {
            match code {
                Some(code) => {
                    qr::show(ui, code, 400.0, words::poster_qr());
                }
                None => {
                    hint(ui, words::poster_too_long());
                }
            }
            ui.add(Label::new(RichText::new(link).monospace().size(SMALL)).truncate());
            hint(ui, words::poster_how());
            if primary(ui, true, words::link_copy()).clicked() {
                ui.ctx().copy_text(link.clone());
                cx.desk.toasts.good(words::copied());
            }
        }
        if ui.button(words::back()).clicked() {
            *next = Some(Part::Products);
        }
    }

    fn order(
        &mut self,
        ui: &mut Ui,
        row: &OrderRow,
        model: &Purse,
        cx: &mut Cx<'_>,
        next: &mut Option<Part>,
    ) {
        if self.shop.of != Some(row.order) {
            self.shop.of = Some(row.order);
            self.shop.amount.clear();
            self.shop.memo.clear();
            self.shop.review = false;
        }
        ui.add(Label::new(RichText::new(&row.title).size(21.0)).wrap());
        let mut list = vec![
            (words::from(), row.payer.as_str()),
            ("", row.account.as_str()),
            (words::amount(), row.amount.as_str()),
            (words::state(), words::order_state(row.state)),
            (words::begun(), row.at.as_str()),
        ];
        if !row.note.is_empty() {
            list.insert(3, (words::note(), row.note.as_str()));
        }
        if let Some(back) = &row.refunded {
            list.push((words::given_back(), back));
        }
        facts(ui, "order", &list);
        let order = row.order;
        if row.is_due() && primary(ui, self.shop.ready(cx), words::fulfil()).clicked() {
            self.shop.ask(Asked::Other, Act::Fulfil { order }, cx);
        }
        if let (OrderState::Paid { .. }, Some(left)) = (row.state, row.left) {
            let money = model.issued.iter().find(|i| i.asset == row.asset);
            if let Some(money) = money.filter(|_| left > 0) {
                self.refund(ui, row, money, left, cx);
            }
        }
        if ui.button(words::back()).clicked() {
            *next = Some(Part::Orders);
        }
    }

    /// Gives back what an order paid, or a part of it.
    fn refund(
        &mut self,
        ui: &mut Ui,
        row: &OrderRow,
        money: &IssuedRow,
        left: u64,
        cx: &mut Cx<'_>,
    ) {
        let shown = |minor| format!("{} {}", amount::show(minor, money.exponent), money.currency);
        section(ui, words::refund_title());
        if !self.shop.review {
            let all = words::refund_hint(&shown(left));
            field(ui, &mut self.shop.amount, words::refund_amount(), &all);
            field(ui, &mut self.shop.memo, words::memo(), words::memo());
        }
        let text = self.shop.amount.trim();
        let minor = if text.is_empty() { Ok(left) } else { amount::parse(text, money.exponent) };
        let minor = match minor {
            Err(why) => return wrong(ui, &why.to_string()),
            Ok(0) => return wrong(ui, words::not_nothing()),
            Ok(minor) if minor > left => return wrong(ui, words::refund_more()),
            Ok(minor) => minor,
        };
        let ready = self.shop.ready(cx);
        if !self.shop.review {
            if danger(ui, words::refund()).clicked() {
                self.shop.review = true;
            }
            return;
        }
        let question = words::refund_this(&shown(minor), &row.payer);
        ui.add(Label::new(RichText::new(question).strong()).wrap());
        ui.horizontal(|ui| {
            if primary(ui, ready, words::refund_now()).clicked() {
                let (order, memo) = (row.order, self.shop.memo.trim().to_owned());
                let refund = Act::Refund { order, amount: Some(minor), memo, number: None };
                self.shop.ask(Asked::Refund, refund, cx);
            }
            if ui.button(words::change()).clicked() {
                self.shop.review = false;
            }
        });
    }

    fn credit(&mut self, ui: &mut Ui, model: &Purse, cx: &mut Cx<'_>) {
        ui.heading(words::credit());
        hint(ui, words::credit_how());
        let friends = || cx.app.contacts.iter().filter(|c| c.state == ContactState::Friend);
        if !self.shop.review {
            section(ui, words::credit_whom());
            let chosen = friends().find(|f| Some(f.account) == self.shop.to);
            let text = chosen.map_or(words::credit_friend(), |f| f.name.as_str());
            let combo = ComboBox::from_id_salt("credit").selected_text(text);
            let shown = combo.width(ui.available_width()).show_ui(ui, |ui| {
                for f in friends() {
                    ui.selectable_value(&mut self.shop.to, Some(f.account), &f.name);
                }
            });
            shown.response.accessible_name(words::credit_friend());
            let typed =
                field(ui, &mut self.shop.account, words::credit_account(), words::credit_account());
            if typed.changed() {
                self.shop.to = None;
            }
            section(ui, words::how_much());
        }
        let money = self.shop.money(ui, &model.issued);
        if !self.shop.review {
            field(ui, &mut self.shop.amount, words::how_much(), words::how_much_hint());
        }
        let account = self.shop.to.or_else(|| AccountId::from_hex(self.shop.account.trim()));
        if account.is_none() && !self.shop.account.trim().is_empty() {
            wrong(ui, words::credit_wrong());
        }
        let text = self.shop.amount.trim();
        let read = money.filter(|_| !text.is_empty()).map(|m| (m, amount::parse(text, m.exponent)));
        if let Some((_, Err(why))) = &read {
            wrong(ui, &why.to_string());
        }
        let whole = match (account, read) {
            (Some(account), Some((money, Ok(minor)))) if minor > 0 => Some((account, money, minor)),
            _ => None,
        };
        let Some((account, money, minor)) = whole else {
            self.shop.review = false;
            primary(ui, false, words::review());
            return;
        };
        if !self.shop.review {
            self.shop.review = primary(ui, true, words::review()).clicked();
            return;
        }
        let shown = format!("{} {}", amount::show(minor, money.exponent), money.currency);
        let name = friends().find(|f| f.account == account).map(|f| f.name.as_str());
        let question = words::credit_this(&shown, name.unwrap_or(words::credit_stranger()));
        ui.add(Label::new(RichText::new(question).size(19.0)).wrap());
        facts(
            ui,
            "credit",
            &[
                (words::credit_account(), account.to_hex().as_str()),
                (words::amount(), shown.as_str()),
                (words::whose(), words::own_money(&money.name).as_str()),
            ],
        );
        let ready = self.shop.ready(cx);
        ui.horizontal(|ui| {
            if primary(ui, ready, words::credit_now()).clicked() {
                let asset = money.asset;
                let create = Act::Create { asset, account, amount: minor, number: None };
                self.shop.ask(Asked::Create, create, cx);
            }
            if ui.button(words::change()).clicked() {
                self.shop.review = false;
            }
        });
    }
}

fn orders(ui: &mut Ui, orders: &[OrderRow], next: &mut Option<Part>) {
    ui.heading(words::orders());
    if orders.is_empty() {
        hint(ui, words::orders_none());
    }
    for row in orders {
        let line = format!("{} · {}: {}", row.amount, row.payer, words::order_state(row.state));
        let name = format!("{}, {line}", row.title);
        let shown = Row {
            id: row.order.0,
            title: &row.title,
            line: &line,
            when: &row.when,
            unread: u64::from(row.is_due()),
            ..Row::default()
        };
        let response = ui.push_id(row.order, |ui| shown.show(ui)).inner;
        if response.accessible_name(name).clicked() {
            *next = Some(Part::Order(row.order));
        }
    }
}
