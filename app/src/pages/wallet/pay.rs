//! Paying: a shop's link, the price it signs, the person's yes, and what became of it.

use egui::{DragValue, Label, RichText, ScrollArea, Ui};
use teahouse_node::core::command::Command;
use teahouse_node::core::pay::Command as Act;
use teahouse_node::core::pay::tables::{Number, PayState};
use teahouse_node::protocols::link::parse_order;
use teahouse_node::protocols::pay::Money;

use super::vm::{PaymentRow, Purse, Receipt};
use super::{Wallet, facts, words};
use crate::pages::Cx;
use crate::theme::{SMALL, space, tokens};
use crate::vm::one_line;
use crate::widgets::{area, danger, field, hint, page, primary, section};

/// Most of one thing that the field counts to.
const MOST: u32 = 999;
/// Longest note, in bytes.
const MAX_NOTE: usize = 140;
/// Prices of links that are remembered, to compare them with what the shop signs.
const MOST_POSTERS: usize = 64;

/// What is being done with a link.
#[derive(Default)]
pub(super) struct Paying {
    link: String,
    /// What the link says; read again when it changes.
    read: Option<Result<Poster, String>>,
    quantity: u32,
    note: String,
    /// While the price is being asked, and what the link said.
    asking: Option<(u64, String)>,
    /// What links said of payments that were begun here.
    posters: Vec<(Number, String)>,
    focus: bool,
}

/// What a link says.
struct Poster {
    title: String,
    each: Money,
}

impl Paying {
    pub(super) fn begin(&mut self) {
        self.focus = true;
        self.quantity = self.quantity.max(1);
    }

    /// The node's answer, perhaps to a question for a price; whether it was.
    pub(super) fn answered(&mut self, ticket: u64, begun: Option<Number>) -> bool {
        let Some((_, price)) = self.asking.take_if(|(t, _)| *t == ticket) else { return false };
        if let Some(number) = begun {
            if self.posters.len() == MOST_POSTERS {
                self.posters.remove(0);
            }
            self.posters.push((number, price));
            let posters = core::mem::take(&mut self.posters);
            *self = Self { posters, quantity: 1, ..Self::default() };
        }
        true
    }

    /// What the link said of a payment.
    fn said(&self, number: Number) -> Option<&str> {
        self.posters.iter().find(|(n, _)| *n == number).map(|(_, price)| price.as_str())
    }

    /// The form; `true` if somebody goes back.
    pub(super) fn show(&mut self, ui: &mut Ui, cx: &mut Cx<'_>) -> bool {
        let mut back = false;
        page(ui, "wallet pay", |ui| {
            ui.heading(words::pay_title());
            hint(ui, words::ask_how());
            section(ui, words::link());
            let shown = ScrollArea::vertical().id_salt("link").max_height(76.0);
            let typed =
                shown.show(ui, |ui| area(ui, &mut self.link, words::link(), "teahouse:order/…"));
            if core::mem::take(&mut self.focus) {
                typed.inner.request_focus();
            }
            if typed.inner.changed() {
                self.read = None;
            }
            // Mail programs break long links.
            let link: String = self.link.split_whitespace().collect();
            if link.is_empty() {
                self.read = None;
            } else if self.read.is_none() {
                self.read = Some(poster(&link));
            }
            let mut price = None;
            match &self.read {
                Some(Ok(poster)) => {
                    let all = poster.each.minor.checked_mul(u64::from(self.quantity));
                    price = all.map(|minor| Money { minor, ..poster.each }.to_string());
                    let each = format!("{} {}", poster.each, words::each());
                    section(ui, words::poster_says());
                    facts(
                        ui,
                        "poster",
                        &[
                            (words::paid_for(), poster.title.as_str()),
                            (words::amount(), each.as_str()),
                        ],
                    );
                }
                Some(Err(why)) => {
                    ui.add(Label::new(RichText::new(why).color(tokens(ui).danger)).wrap());
                }
                None => {}
            }
            section(ui, words::quantity());
            let quantity = DragValue::new(&mut self.quantity).range(1..=MOST);
            ui.add(quantity).accessible_name(words::quantity());
            section(ui, words::note());
            field(ui, &mut self.note, words::note(), words::note());
            let note = self.note.trim();
            if note.len() > MAX_NOTE {
                ui.colored_label(tokens(ui).danger, super::words::too_long());
            }
            let known = matches!(self.read, Some(Ok(_)));
            if known && price.is_none() {
                ui.colored_label(tokens(ui).danger, words::too_much());
            }
            let asking = self.asking.is_some();
            let ready = price.is_some() && note.len() <= MAX_NOTE && !asking && !cx.app.me.revoked;
            ui.add_space(space::SMALL);
            ui.horizontal(|ui| {
                let word = if asking { words::asking() } else { words::ask_price() };
                if primary(ui, ready, word).clicked()
                    && let Some(price) = price
                {
                    let order = Act::Order {
                        lines: vec![(link, self.quantity)],
                        note: note.to_owned(),
                        // The person confirms what the shop signs.
                        up_to: None,
                        number: None,
                    };
                    self.asking = Some((cx.submit(Command::Pay(order)), price));
                }
                back = ui.button(words::back()).clicked();
            });
        });
        back
    }
}

/// Reads a link, whose signature is checked with it.
fn poster(link: &str) -> Result<Poster, String> {
    let poster = parse_order(link).map_err(|e| e.to_string())?;
    let p = poster.product();
    let (currency, exponent) = (p.currency, p.exponent);
    let each = Money { currency, exponent, minor: p.price };
    Ok(Poster { title: one_line(p.title.trim()), each })
}

impl Wallet {
    /// A payment: what it pays, where it stands, and what can be done.
    pub(super) fn payment(
        &mut self,
        ui: &mut Ui,
        row: &PaymentRow,
        model: &Purse,
        cx: &mut Cx<'_>,
    ) {
        page(ui, "wallet payment", |ui| {
            let offered = row.state == PayState::Offered;
            let title = if offered { words::confirm_title() } else { row.title.as_str() };
            ui.add(Label::new(RichText::new(title).size(21.0)).wrap());
            let whose = row.whose.as_ref().map(super::vm::Whose::words);
            let mut list = vec![
                (words::paid_to(), row.to_whom.as_str()),
                (words::paid_for(), row.title.as_str()),
                (words::amount(), row.amount.as_str()),
                (words::whose(), whose.as_deref().unwrap_or(words::whose_unknown())),
            ];
            if !offered {
                list.push((words::state(), row.words.as_str()));
            }
            if let Some(until) = &row.until {
                list.push((words::until(), until));
            }
            if let Some(back) = &row.refunded {
                list.push((words::given_back(), back));
            }
            list.push((words::begun(), row.at.as_str()));
            facts(ui, "payment", &list);
            match row.state {
                PayState::Asked => {
                    hint(ui, words::asked_how());
                }
                PayState::Offered => {
                    let said = self.paying.said(row.payment).filter(|said| *said != row.amount);
                    if let Some(said) = said {
                        let words = RichText::new(words::poster_said(said)).strong();
                        ui.add(Label::new(words).wrap());
                    }
                    hint(ui, words::confirm_how());
                }
                PayState::Sent => {
                    hint(ui, words::sent_how());
                }
                PayState::Held { .. } => {
                    hint(ui, words::held_how());
                }
                PayState::Paid | PayState::Returned | PayState::Refused { .. } => {}
            }
            self.decide(ui, row, cx);
            let receipt = model.receipt.as_ref().filter(|(order, _)| Some(*order) == row.order);
            if let (PayState::Paid, Some((_, receipt))) = (row.state, receipt) {
                show_receipt(ui, receipt.as_deref(), cx);
            }
        });
    }

    fn decide(&mut self, ui: &mut Ui, row: &PaymentRow, cx: &mut Cx<'_>) {
        let payment = row.payment;
        let ready = self.asked.is_none() && !cx.app.me.revoked;
        ui.horizontal_wrapped(|ui| match row.state {
            PayState::Offered => {
                // Without knowing whose money it is, there is nothing to agree to.
                let ready = ready && row.whose.is_some();
                if primary(ui, ready, &words::pay_amount(&row.amount)).clicked() {
                    self.once(Act::Pay { payment }, cx);
                }
                if danger(ui, words::give_up()).clicked() {
                    self.once(Act::Cancel { payment }, cx);
                }
            }
            PayState::Asked if danger(ui, words::give_up_asked()).clicked() => {
                self.once(Act::Cancel { payment }, cx);
            }
            _ => {}
        });
    }
}

fn show_receipt(ui: &mut Ui, receipt: Option<&Receipt>, cx: &mut Cx<'_>) {
    section(ui, words::receipt());
    let Some(receipt) = receipt else {
        hint(ui, words::receipt_none());
        return;
    };
    let [payer, payee, issuer] = &receipt.accounts;
    facts(
        ui,
        "receipt",
        &[
            (words::paid_for(), receipt.title.as_str()),
            (words::amount(), receipt.amount.as_str()),
            (words::begun(), receipt.at.as_str()),
            (words::from(), payer),
            (words::paid_to(), payee),
            (words::issuer(), issuer),
        ],
    );
    let text = RichText::new(&receipt.text).monospace().size(SMALL);
    ui.add(Label::new(text).truncate());
    hint(ui, words::receipt_how());
    if ui.button(words::receipt_copy()).clicked() {
        ui.ctx().copy_text(receipt.text.clone());
        cx.desk.toasts.good(words::copied());
    }
}
