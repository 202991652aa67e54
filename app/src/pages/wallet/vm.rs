//! Money as the page shows it, as plain values, and how they are made.
//!
//! Amounts are texts that were made of signed numbers; the screen computes nothing. Money is
//! never shown without whose it is: anybody can issue something and call it "EUR", so that the
//! name and the account of who owes it always stand beside it.

use std::collections::BTreeMap;
use std::sync::Arc;

use teahouse_node::core::pay::query::{
    BalanceView, Balances, EntryView, History, Issued, IssuedView, MAX_ROWS, OrderView, Orders,
    PaymentView, Payments, ProductView, Products, Receipts, Waiting, WaitingView,
};
use teahouse_node::core::pay::tables::{IncomingState, Number, OrderState, PayState};
use teahouse_node::core::query::{self, Query};
use teahouse_node::core::store::{ChangeSet, StorageError};
use teahouse_node::core::view::{Contact, ContactState};
use teahouse_node::protocols::ids::{AccountId, AssetId, Millis, OrderId};
use teahouse_node::protocols::pay::amount;

use super::words;
use crate::pages::Around;
use crate::vm::{Zone, one_line};

/// What the page wants to see beside the lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ask {
    /// The statement in this money.
    pub statement: Option<AssetId>,
    /// The receipt of this order.
    pub receipt: Option<OrderId>,
}

/// All that the page shows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Purse {
    /// Balances, by issuer.
    pub money: Arc<[MoneyRow]>,
    /// What this device paid, the newest first; as many as are shown.
    pub payments: Arc<[PaymentRow]>,
    /// What friends sent.
    pub waiting: Arc<[WaitingRow]>,
    /// Money that this device issues: it is a shop.
    pub issued: Arc<[IssuedRow]>,
    /// What the shop sells.
    pub products: Arc<[ProductRow]>,
    /// Orders that came to it, the newest first.
    pub orders: Arc<[OrderRow]>,
    /// The statement that was asked for.
    pub statement: Option<(AssetId, Arc<[Line]>)>,
    /// The receipt that was asked for; `None` for one that is not here.
    pub receipt: Option<(OrderId, Option<Arc<Receipt>>)>,
}

/// Whose money something is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whose {
    /// The account that owes it, short.
    pub account: String,
    /// The whole of it.
    pub full: String,
    /// What its issuer calls it.
    pub name: String,
    /// The issuer's name among this account's contacts.
    pub known: Option<String>,
    /// Whether this account owes it itself.
    pub mine: bool,
}

impl Whose {
    /// Who owes it, in a sentence.
    #[must_use]
    pub fn words(&self) -> String {
        match &self.known {
            _ if self.mine => words::owed_by_me(&self.name),
            Some(known) => words::owed_by_known(known, &self.name, &self.account),
            None => words::owed_by(&self.name, &self.account),
        }
    }

    /// The same in a few words.
    #[must_use]
    pub fn short(&self) -> String {
        match &self.known {
            _ if self.mine => words::own_money(&self.name),
            Some(known) => words::known_money(known, &self.name),
            None => format!("{} · {}", words::quoted(&self.name), self.account),
        }
    }
}

/// A balance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoneyRow {
    /// The money.
    pub asset: AssetId,
    /// Whose it is.
    pub whose: Whose,
    /// Its currency.
    pub currency: String,
    /// Its decimals.
    pub exponent: u8,
    /// What may be spent, as the issuer signed it last; `None` while nothing signed has come.
    pub balance: Option<String>,
    /// The same in minor units.
    pub minor: Option<u64>,
    /// What is held for others.
    pub held: Option<String>,
    /// When the issuer was heard last, in words.
    pub heard: Option<String>,
}

/// A payment of this device's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentRow {
    /// Its number.
    pub payment: Number,
    /// What it is for.
    pub title: String,
    /// Who is paid, in a few words.
    pub to: String,
    /// Who is paid, in a sentence, with their account.
    pub to_whom: String,
    /// How much.
    pub amount: String,
    /// Minor units.
    pub minor: u64,
    /// In which money.
    pub asset: AssetId,
    /// Whose money; `None` while its issuer has not answered.
    pub whose: Option<Whose>,
    /// Where it stands.
    pub state: PayState,
    /// The same in a sentence.
    pub words: String,
    /// Given back.
    pub refunded: Option<String>,
    /// Handed over.
    pub fulfilled: bool,
    /// When it was begun, in a few words.
    pub when: String,
    /// The same with the day and the time.
    pub at: String,
    /// Until when it is held, if it is.
    pub until: Option<String>,
    /// The order's id, once it was signed.
    pub order: Option<OrderId>,
}

/// What a friend sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingRow {
    /// The sender's order.
    pub order: OrderId,
    /// Who sent it.
    pub from: String,
    /// How much.
    pub amount: String,
    /// Whose money; `None` for money that is not known here.
    pub whose: Option<Whose>,
    /// What the sender wrote.
    pub memo: String,
    /// Until when it can be taken.
    pub until: String,
    /// Where it stands.
    pub state: IncomingState,
}

/// A line of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its number.
    pub number: u64,
    /// What it does, and with whom.
    pub what: String,
    /// With its sign.
    pub amount: String,
    /// Whether the balance rises by it.
    pub rises: bool,
    /// When.
    pub at: String,
}

/// Money that this device issues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedRow {
    /// Which.
    pub asset: AssetId,
    /// Its currency.
    pub currency: String,
    /// Its decimals.
    pub exponent: u8,
    /// What it is called.
    pub name: String,
}

/// Something for sale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProductRow {
    /// Its number.
    pub product: Number,
    /// What it is.
    pub title: String,
    /// Its price.
    pub price: String,
    /// Minor units.
    pub minor: u64,
    /// How many are left; `None` for any number.
    pub stock: Option<u32>,
    /// Whether it is for sale.
    pub open: bool,
}

/// An order that came to the shop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderRow {
    /// The order.
    pub order: OrderId,
    /// In which money.
    pub asset: AssetId,
    /// What was ordered.
    pub title: String,
    /// Who ordered.
    pub payer: String,
    /// Their account.
    pub account: String,
    /// How much.
    pub amount: String,
    /// What can still be given back, in minor units; `None` where that can't be told.
    pub left: Option<u64>,
    /// Given back.
    pub refunded: Option<String>,
    /// What the payer wrote.
    pub note: String,
    /// Where it stands.
    pub state: OrderState,
    /// When it was answered, in a few words.
    pub when: String,
    /// The same with the day and the time.
    pub at: String,
}

impl OrderRow {
    /// Whether something is to be handed over.
    #[must_use]
    pub fn is_due(&self) -> bool {
        matches!(self.state, OrderState::Paid { fulfilled: false, .. }) && self.left != Some(0)
    }
}

/// A receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// How much.
    pub amount: String,
    /// For what.
    pub title: String,
    /// When it was answered.
    pub at: String,
    /// Who paid, whom, and in whose money.
    pub accounts: [String; 3],
    /// The text that anybody can check.
    pub text: String,
}

impl Purse {
    /// Whether there is nothing to show.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.money.is_empty()
            && self.payments.is_empty()
            && self.waiting.is_empty()
            && self.issued.is_empty()
    }

    /// A payment by its number.
    #[must_use]
    pub fn payment(&self, number: Number) -> Option<&PaymentRow> {
        self.payments.iter().find(|p| p.payment == number)
    }

    /// A balance by its money.
    #[must_use]
    pub fn money(&self, asset: AssetId) -> Option<&MoneyRow> {
        self.money.iter().find(|m| m.asset == asset)
    }

    /// What waits for the person: offers to confirm, what friends sent, what is to be handed
    /// over.
    #[must_use]
    pub fn undecided(&self) -> u64 {
        let offered = self.payments.iter().filter(|p| p.state == PayState::Offered).count();
        let waits = self.waiting.iter().filter(|w| w.state == IncomingState::Waits).count();
        let due = self.orders.iter().filter(|o| o.is_due()).count();
        (offered + waits + due) as u64
    }
}

/// Whether the model may differ after these changes.
pub(super) fn depends(changes: &ChangeSet) -> bool {
    Balances::depends(changes)
        || Payments::depends(changes)
        || Waiting::depends(changes)
        || History::depends(changes)
        || Receipts::depends(changes)
        || Issued::depends(changes)
        || Products::depends(changes)
        || Orders::depends(changes)
}

/// Names around what is shown.
pub struct Known {
    /// This account.
    pub me: Option<AccountId>,
    /// Friends, by account.
    pub friends: BTreeMap<AccountId, String>,
}

impl Known {
    /// Of these contacts.
    #[must_use]
    pub fn of(me: Option<AccountId>, contacts: &[Contact]) -> Self {
        let friend = |c: &&Contact| c.state == ContactState::Friend;
        let named = |c: &Contact| (c.account, one_line(c.name.trim()));
        Self { me, friends: contacts.iter().filter(friend).map(named).collect() }
    }

    fn whose(&self, b: &BalanceView) -> Whose {
        Whose {
            account: short(b.issuer),
            full: b.issuer.to_hex(),
            name: one_line(b.name.trim()),
            known: self.friends.get(&b.issuer).cloned(),
            mine: self.me == Some(b.issuer),
        }
    }
}

/// The beginning of an account's id, by which two of one name are told apart.
fn short(account: AccountId) -> String {
    let hex = account.to_hex();
    let parts = [hex.get(..4), hex.get(4..8), hex.get(8..12)];
    parts.map(Option::unwrap_or_default).join(" ")
}

/// Makes the model.
pub(super) fn load(ask: &Ask, around: &Around<'_, Purse>) -> Result<Purse, StorageError> {
    let (s, zone, now) = (around.snapshot, around.zone, around.now);
    let mut new = around.was.cloned().unwrap_or_default();
    let fresh = around.fresh || around.was.is_none();
    if fresh {
        let known = Known::of(query::identity(s)?.account, &query::contacts(s)?);
        let balances = Balances {}.run(s)?;
        let payments = Payments { before: None, limit: MAX_ROWS }.run(s)?;
        let lists = lists(&balances, &payments, &Waiting {}.run(s)?, &known, now, zone);
        (new.money, new.payments, new.waiting) = (lists.money, lists.payments, lists.waiting);
        let issued = Issued {}.run(s)?;
        (new.products, new.orders) = Default::default();
        if !issued.is_empty() {
            new.products = Products { after: None }.run(s)?.iter().map(product).collect();
            let orders = Orders { before: None, limit: MAX_ROWS }.run(s)?;
            new.orders = orders.iter().map(|o| order(o, &issued, now, zone)).collect();
        }
        new.issued = issued.iter().map(issue).collect();
    }
    if fresh || new.statement.as_ref().map(|(asset, _)| *asset) != ask.statement {
        new.statement = match ask.statement {
            Some(asset) => {
                let entries = History { asset, before: None, limit: MAX_ROWS }.run(s)?;
                Some((asset, entries.iter().map(|e| line(e, now, zone)).collect()))
            }
            None => None,
        };
    }
    if fresh || new.receipt.as_ref().map(|(order, _)| *order) != ask.receipt {
        new.receipt = match ask.receipt {
            Some(order) => {
                let found = Receipts { order: Some(order), after: None, limit: 1 }.run(s)?;
                let receipt = found.first().map(|r| Receipt {
                    amount: r.amount.clone(),
                    title: one_line(r.title.trim()),
                    at: moment(zone, r.at, now),
                    accounts: [r.payer, r.payee, r.issuer].map(|a| a.to_hex()),
                    text: r.text.clone(),
                });
                Some((order, receipt.map(Arc::new)))
            }
            None => None,
        };
    }
    Ok(new)
}

/// The page's lists.
#[must_use]
pub fn lists(
    balances: &[BalanceView],
    payments: &[PaymentView],
    waiting: &[WaitingView],
    known: &Known,
    now: Millis,
    zone: &Zone,
) -> Purse {
    let whose: BTreeMap<AssetId, Whose> =
        balances.iter().map(|b| (b.asset, known.whose(b))).collect();
    let money = balances.iter().map(|b| MoneyRow {
        asset: b.asset,
        whose: known.whose(b),
        currency: b.currency.clone(),
        exponent: b.exponent,
        balance: b.balance.clone(),
        minor: b.minor,
        held: b.held.clone(),
        heard: b.heard.map(|at| moment(zone, at, now)),
    });
    let payment = |p: &PaymentView| {
        let whose = whose.get(&p.asset).cloned();
        let shop = whose.as_ref().is_none_or(|w| w.full == p.to.to_hex());
        let name = one_line(p.to_name.trim());
        let friend = known.friends.get(&p.to);
        let (to, to_whom) = match friend {
            Some(friend) if !shop => (friend.clone(), words::friend_called(friend, &short(p.to))),
            Some(friend) => {
                (words::known_money(friend, &name), words::known_shop(friend, &name, &short(p.to)))
            }
            None => (words::quoted(&name), words::shop_called(&name, &short(p.to))),
        };
        PaymentRow {
            payment: p.payment,
            title: one_line(p.title.trim()),
            to,
            to_whom,
            amount: p.amount.clone(),
            minor: p.minor,
            asset: p.asset,
            whose,
            state: p.state,
            words: sentence(&p.words),
            refunded: p.refunded.clone(),
            fulfilled: p.fulfilled,
            when: zone.short(p.at, now),
            at: moment(zone, p.at, now),
            until: match p.state {
                PayState::Held { until } => Some(moment(zone, until, now)),
                _ => None,
            },
            order: p.order,
        }
    };
    let sent = |w: &WaitingView| WaitingRow {
        order: w.order,
        from: one_line(w.from.trim()),
        // Minor units of who knows what are no amount.
        amount: match whose.get(&w.asset) {
            Some(_) => w.amount.clone(),
            None => words::unknown_amount().into(),
        },
        whose: whose.get(&w.asset).cloned(),
        memo: one_line(w.memo.trim()),
        until: moment(zone, w.until, now),
        state: w.state,
    };
    Purse {
        money: money.collect(),
        payments: payments.iter().map(payment).collect(),
        waiting: waiting.iter().map(sent).collect(),
        ..Purse::default()
    }
}

/// Money that this device issues, as it is shown.
#[must_use]
pub fn issue(i: &IssuedView) -> IssuedRow {
    IssuedRow {
        asset: i.asset,
        currency: i.currency.clone(),
        exponent: i.exponent,
        name: one_line(i.name.trim()),
    }
}

/// Something for sale, as it is shown.
#[must_use]
pub fn product(p: &ProductView) -> ProductRow {
    ProductRow {
        product: p.product,
        title: one_line(p.title.trim()),
        price: p.price.clone(),
        minor: p.minor,
        stock: p.stock,
        open: p.open,
    }
}

/// An order, as it is shown.
#[must_use]
pub fn order(o: &OrderView, issued: &[IssuedView], now: Millis, zone: &Zone) -> OrderRow {
    let money = issued.iter().find(|i| i.asset == o.asset);
    // The amount comes as text that was made of the signed number.
    let minor = money.and_then(|i| amount::parse(o.amount.split(' ').next()?, i.exponent).ok());
    let back = match o.state {
        OrderState::Paid { refunded, .. } => refunded,
        _ => 0,
    };
    let lines: Vec<String> =
        o.lines.iter().map(|(title, n)| format!("{n} × {}", one_line(title.trim()))).collect();
    let title = lines.join(", ");
    let shown =
        |i: &IssuedView| format!("{} {}", amount::show(back, i.exponent), i.currency.as_str());
    OrderRow {
        order: o.order,
        asset: o.asset,
        title: if title.is_empty() { words::transfer().into() } else { title },
        payer: match one_line(o.payer_name.trim()) {
            name if name.is_empty() => short(o.payer),
            name => name,
        },
        account: o.payer.to_hex(),
        amount: o.amount.clone(),
        left: minor.and_then(|minor| minor.checked_sub(back)),
        refunded: money.filter(|_| back > 0).map(shown),
        note: one_line(o.note.trim()),
        state: o.state,
        when: zone.short(o.at, now),
        at: moment(zone, o.at, now),
    }
}

fn line(e: &EntryView, now: Millis, zone: &Zone) -> Line {
    let other = e.other.as_deref().map(|o| one_line(o.trim())).filter(|o| !o.is_empty());
    let sign = if e.rises { "+" } else { "−" };
    Line {
        number: e.number,
        what: match other {
            Some(other) => format!("{} · {other}", sentence(&e.what)),
            None => sentence(&e.what),
        },
        amount: format!("{sign}{}", e.amount),
        rises: e.rises,
        at: moment(zone, e.at, now),
    }
}

/// The day and the time of day.
fn moment(zone: &Zone, at: Millis, now: Millis) -> String {
    format!("{} {}", zone.day(at, now), zone.moment(at).clock())
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
