//! Payments as they are shown.

use serde::{Deserialize, Serialize};
use teahouse_protocols::codec;
use teahouse_protocols::ids::{AccountId, AssetId, Millis, OrderId};
use teahouse_protocols::link;
use teahouse_protocols::pay::{
    Asset, Contradiction, Entry, EntryKind, Money, PaymentOrder, Receipt, Refusal, StatementHead,
};
use teahouse_protocols::sign::Signed;

use super::tables::{
    BALANCES, Balance, EVIDENCE, INCOMING, ISSUED, Incoming, IncomingState, Number, OFFERS,
    ORDER_TIMES, ORDERS, OfferRow, OrderState, PAYMENT_TIMES, PAYMENTS, PRODUCTS, PayState,
    Payment, ProductRow, REFUNDS, STATEMENT,
};
use super::{RECEIPTS, issuer, wallet};
use crate::query::{Names, Query, me};
use crate::store::{Key, KeyRange, KeyReader, Read, ReadExt, StorageError, Table};
use crate::tables::{ACCOUNT_RECORDS, CONTACTS, Chosen, RECORDS};

/// Most rows of one answer.
pub const MAX_ROWS: usize = 200;

/// A balance of this account's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BalanceView {
    /// The money.
    pub asset: AssetId,
    /// Who owes it.
    pub issuer: AccountId,
    /// What the issuer calls it.
    pub name: String,
    /// The currency.
    pub currency: String,
    /// Decimals.
    pub exponent: u8,
    /// What may be spent, as the issuer signed it last: to show, like `3.50 EUR`. None while
    /// nothing signed has come.
    pub balance: Option<String>,
    /// The same in minor units.
    pub minor: Option<u64>,
    /// What is held for others, to show.
    pub held: Option<String>,
    /// When the issuer was heard last.
    pub heard: Option<Millis>,
}

/// Balances of this account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balances {}

impl Query for Balances {
    type Out = Vec<BalanceView>;
    const NAME: &'static str = "pay.balances";
    const ABOUT: &'static str = "balances of this account, as issuers signed them";
    const READS: &'static [&'static Table] = &[&BALANCES, &RECORDS];

    fn run(&self, s: &dyn Read) -> Result<Self::Out, StorageError> {
        let mut out = Vec::new();
        for (id, _) in wallet::all_known(s)? {
            let Some(asset) = wallet::asset(s, id)? else { continue };
            let asset = asset.get();
            let balance: Option<Balance> = s.get_typed(&BALANCES, &id.0)?;
            let head = balance.as_ref().and_then(|b| {
                let head = Signed::<StatementHead>::from_bytes(&b.head).ok()?;
                Some((head.get().balance, head.get().pending))
            });
            out.push(BalanceView {
                asset: id,
                issuer: asset.issuer,
                name: asset.name.to_string(),
                currency: asset.currency.to_string(),
                exponent: asset.exponent,
                balance: head.map(|(n, _)| asset.money(n).to_string()),
                minor: head.map(|(n, _)| n),
                held: head.filter(|(_, n)| *n > 0).map(|(_, n)| asset.money(n).to_string()),
                heard: balance.map(|b| b.heard),
            });
        }
        Ok(out)
    }
}

/// A line of this account's statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryView {
    /// Its number.
    pub number: u64,
    /// What it does, in words.
    pub what: String,
    /// To show, without a sign.
    pub amount: String,
    /// Whether the balance rises by it.
    pub rises: bool,
    /// The other side.
    pub other: Option<String>,
    /// The order or request behind it.
    pub of: Option<String>,
    /// When.
    pub at: Millis,
}

/// The account's statement, the newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// In which money.
    pub asset: AssetId,
    /// Only entries before this number.
    #[serde(default)]
    pub before: Option<u64>,
    /// How many, at most [`MAX_ROWS`]; 0 for as many.
    #[serde(default)]
    pub limit: usize,
}

const fn limited(limit: usize) -> usize {
    if limit == 0 || limit > MAX_ROWS { MAX_ROWS } else { limit }
}

impl Query for History {
    type Out = Vec<EntryView>;
    const NAME: &'static str = "pay.history";
    const ABOUT: &'static str =
        "the account's statement in an `asset`, the newest first (`before`, `limit`)";
    const READS: &'static [&'static Table] = &[&STATEMENT, &RECORDS, &CONTACTS, &ACCOUNT_RECORDS];

    fn run(&self, s: &dyn Read) -> Result<Self::Out, StorageError> {
        let Some(asset) = wallet::asset(s, self.asset)? else { return Ok(Vec::new()) };
        let mut range = KeyRange::prefix(&self.asset.0);
        if let Some(before) = self.before {
            range = range.before(&Key::new().fixed(&self.asset.0).u64(before));
        }
        let rows: Vec<(Vec<u8>, Entry)> =
            s.scan_typed(&STATEMENT, &range, true, limited(self.limit))?;
        let mut names = Names::new(s);
        let mut out = Vec::with_capacity(rows.len());
        for (_, e) in rows {
            let (what, rises) = words(e.kind);
            out.push(EntryView {
                number: e.number,
                what: what.to_owned(),
                amount: asset.get().money(e.amount).to_string(),
                rises,
                other: e.other.map(|a| names.of(a)).transpose()?,
                of: e.of.map(|of| OrderId(of).to_hex()),
                at: e.at,
            });
        }
        Ok(out)
    }
}

const fn words(kind: EntryKind) -> (&'static str, bool) {
    match kind {
        EntryKind::Opened => ("opened", true),
        EntryKind::ToppedUp => ("paid in", true),
        EntryKind::Withdrawn => ("paid out", false),
        EntryKind::Paid => ("paid", false),
        EntryKind::Received => ("received", true),
        EntryKind::RefundReceived => ("given back", true),
        EntryKind::RefundGiven => ("gave back", false),
        EntryKind::Reserved => ("held for", false),
        EntryKind::Released => ("came back", true),
        EntryKind::Spent => ("taken by", false),
        EntryKind::Unspent => ("came back to the channel", true),
        EntryKind::Earned => ("earned by a channel", true),
        EntryKind::Unearned => ("given back of a channel", false),
    }
}

/// A payment of this device's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentView {
    /// Its number.
    pub payment: Number,
    /// When it was begun.
    pub at: Millis,
    /// The money.
    pub asset: AssetId,
    /// Who is paid.
    pub to: AccountId,
    /// What they are called.
    pub to_name: String,
    /// What it is for.
    pub title: String,
    /// To show; in minor units where the money is not known yet.
    pub amount: String,
    /// Minor units.
    pub minor: u64,
    /// Where it stands.
    pub state: PayState,
    /// The same in words.
    pub words: String,
    /// Given back, to show.
    pub refunded: Option<String>,
    /// The payee has handed over what was paid.
    pub fulfilled: bool,
    /// The order's id, once it was signed.
    pub order: Option<OrderId>,
}

/// This device's payments, the newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payments {
    /// Only payments begun before this time.
    #[serde(default)]
    pub before: Option<Millis>,
    /// How many, at most [`MAX_ROWS`]; 0 for as many.
    #[serde(default)]
    pub limit: usize,
}

const PAYMENT_READS: &[&Table] =
    &[&PAYMENTS, &PAYMENT_TIMES, &RECORDS, &CONTACTS, &ACCOUNT_RECORDS];

impl Query for Payments {
    type Out = Vec<PaymentView>;
    const NAME: &'static str = "pay.payments";
    const ABOUT: &'static str = "payments of this device, the newest first (`before`, `limit`)";
    const READS: &'static [&'static Table] = PAYMENT_READS;

    fn run(&self, s: &dyn Read) -> Result<Self::Out, StorageError> {
        let mut range = KeyRange::all();
        if let Some(before) = self.before {
            range = range.before(&before.to_be_bytes());
        }
        let mut names = Names::new(s);
        let mut out = Vec::new();
        for (key, _) in s.scan(&PAYMENT_TIMES, &range, true, limited(self.limit))? {
            let mut reader = KeyReader::new(&PAYMENT_TIMES, &key);
            reader.u64()?;
            out.extend(shown(s, &mut names, reader.fixed()?)?);
        }
        Ok(out)
    }
}

/// One payment of this device's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnePayment {
    /// Its number.
    pub payment: Number,
}

impl Query for OnePayment {
    type Out = Option<PaymentView>;
    const NAME: &'static str = "pay.payment";
    const ABOUT: &'static str = "one `payment` of this device";
    const READS: &'static [&'static Table] = PAYMENT_READS;

    fn run(&self, s: &dyn Read) -> Result<Self::Out, StorageError> {
        shown(s, &mut Names::new(s), self.payment.0)
    }
}

fn shown(
    s: &dyn Read,
    names: &mut Names<'_>,
    id: [u8; 16],
) -> Result<Option<PaymentView>, StorageError> {
    let Some(row) = wallet::payment(s, id)? else { return Ok(None) };
    let asset = wallet::asset(s, row.asset)?;
    let money = |minor: u64| {
        asset.as_ref().map_or_else(|| minor.to_string(), |a| a.get().money(minor).to_string())
    };
    let order = row.order.as_deref().and_then(|b| Signed::<PaymentOrder>::from_bytes(b).ok());
    Ok(Some(PaymentView {
        payment: Number(id),
        at: row.at,
        asset: row.asset,
        to: row.to,
        to_name: match asset.as_ref().map(Signed::get) {
            // A shop is known by what it calls itself where it is paid.
            Some(a) if a.issuer == row.to => a.name.to_string(),
            _ => names.of(row.to)?,
        },
        title: row.title.clone(),
        amount: money(row.amount),
        minor: row.amount,
        state: row.state,
        words: state_words(&row),
        refunded: (row.refunded > 0).then(|| money(row.refunded)),
        fulfilled: row.fulfilled,
        order: order.as_ref().map(PaymentOrder::id),
    }))
}

fn state_words(row: &Payment) -> String {
    let hint = row.hint.map(|why| format!(" ({})", Refusal::from(why))).unwrap_or_default();
    match row.state {
        PayState::Asked => format!("asked; the shop has not answered yet{hint}"),
        PayState::Offered => "offered: yours to pay".to_owned(),
        PayState::Sent => {
            format!("not known yet: sent, and it resolves itself when the issuer answers{hint}")
        }
        PayState::Paid if row.fulfilled => "paid, and handed over".to_owned(),
        PayState::Paid => "paid".to_owned(),
        PayState::Held { .. } => "held until it is taken, a day at most".to_owned(),
        PayState::Returned => "not taken; it came back".to_owned(),
        PayState::Refused { why } => format!("not paid: {}", Refusal::from(why)),
    }
}

/// A receipt, as whoever checks it sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptView {
    /// The order.
    pub order: OrderId,
    /// In whose money.
    pub issuer: AccountId,
    /// Who paid.
    pub payer: AccountId,
    /// Whom.
    pub payee: AccountId,
    /// How much, to show.
    pub amount: String,
    /// For what.
    pub title: String,
    /// When it was answered.
    pub at: Millis,
    /// The receipt as text: whoever gets it checks it without asking anybody.
    pub text: String,
}

fn receipt_view(receipt: &Receipt) -> Option<ReceiptView> {
    let seen = receipt.verify().ok()?;
    Some(ReceiptView {
        order: OrderId(seen.payment),
        issuer: seen.issuer,
        payer: seen.payer,
        payee: seen.payee,
        amount: Money::to_string(&seen.amount),
        title: seen.offer.map_or(seen.memo, |o| o.title.to_string()),
        at: seen.at,
        text: link::receipt_uri(receipt),
    })
}

/// Receipts of this account's payments, by any of its devices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipts {
    /// Only this order's.
    #[serde(default)]
    pub order: Option<OrderId>,
    /// Only those after this order: they come by its id.
    #[serde(default)]
    pub after: Option<OrderId>,
    /// How many, at most [`MAX_ROWS`]; 0 for as many.
    #[serde(default)]
    pub limit: usize,
}

impl Query for Receipts {
    type Out = Vec<ReceiptView>;
    const NAME: &'static str = "pay.receipts";
    const ABOUT: &'static str =
        "receipts of this account's payments, or of one `order` (`after`, `limit`)";
    const READS: &'static [&'static Table] = &[&RECORDS];

    fn run(&self, s: &dyn Read) -> Result<Self::Out, StorageError> {
        if let Some(order) = self.order {
            let receipt = wallet::receipt(s, order)?;
            return Ok(receipt.as_ref().and_then(receipt_view).into_iter().collect());
        }
        let prefix = Key::new().text(RECEIPTS).into_bytes();
        let mut range = KeyRange::prefix(&prefix);
        if let Some(after) = self.after {
            range = range.after(&[&prefix[..], &after.0].concat());
        }
        let rows: Vec<(Vec<u8>, Chosen<Vec<u8>>)> =
            s.scan_typed(&RECORDS, &range, false, limited(self.limit))?;
        Ok(rows
            .into_iter()
            .filter_map(|(_, row)| receipt_view(&codec::decode(&row.value).ok()?))
            .collect())
    }
}

/// What a receipt shows, whoever brings it. Asks nobody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verify {
    /// `teahouse:receipt/…`.
    pub text: String,
}

impl Query for Verify {
    type Out = Result<ReceiptView, String>;
    const NAME: &'static str = "pay.verify";
    const ABOUT: &'static str = "what a receipt's `text` shows, checked offline";
    const READS: &'static [&'static Table] = &[];

    fn run(&self, _: &dyn Read) -> Result<Self::Out, StorageError> {
        let receipt = match link::parse_receipt(&self.text) {
            Ok(receipt) => receipt,
            Err(e) => return Ok(Err(e.to_string())),
        };
        if let Err(e) = receipt.verify() {
            return Ok(Err(e.to_string()));
        }
        Ok(receipt_view(&receipt).ok_or_else(|| "shows nothing".to_owned()))
    }
}

/// What somebody sent to this account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingView {
    /// The sender's order.
    pub order: OrderId,
    /// The money.
    pub asset: AssetId,
    /// Who sent it.
    pub from: String,
    /// To show.
    pub amount: String,
    /// What the sender wrote.
    pub memo: String,
    /// Until when it can be taken.
    pub until: Millis,
    /// Where it stands.
    pub state: IncomingState,
}

/// What friends sent to this account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {}

impl Query for Waiting {
    type Out = Vec<WaitingView>;
    const NAME: &'static str = "pay.waiting";
    const ABOUT: &'static str = "what friends sent, and what became of it";
    const READS: &'static [&'static Table] = &[&INCOMING, &RECORDS, &CONTACTS, &ACCOUNT_RECORDS];

    fn run(&self, s: &dyn Read) -> Result<Self::Out, StorageError> {
        let rows: Vec<(Vec<u8>, Incoming)> =
            s.scan_typed(&INCOMING, &KeyRange::all(), false, MAX_ROWS)?;
        let mut names = Names::new(s);
        let mut out = Vec::with_capacity(rows.len());
        for (key, row) in rows {
            let asset = wallet::asset(s, row.asset)?;
            out.push(WaitingView {
                order: OrderId(KeyReader::new(&INCOMING, &key).fixed()?),
                asset: row.asset,
                from: names.of(row.from)?,
                amount: asset.map_or_else(
                    || row.amount.to_string(),
                    |a| a.get().money(row.amount).to_string(),
                ),
                memo: row.memo,
                until: row.until,
                state: row.state,
            });
        }
        Ok(out)
    }
}

/// Proofs that an issuer cheats, encoded, in hexadecimal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {}

impl Query for Evidence {
    type Out = Vec<String>;
    const NAME: &'static str = "pay.evidence";
    const ABOUT: &'static str = "proofs that an issuer told two stories, in hexadecimal";
    const READS: &'static [&'static Table] = &[&EVIDENCE];

    fn run(&self, s: &dyn Read) -> Result<Self::Out, StorageError> {
        let rows = s.scan(&EVIDENCE, &KeyRange::all(), false, MAX_ROWS)?;
        Ok(rows
            .into_iter()
            .filter(|(_, bytes)| codec::decode::<Contradiction>(bytes).is_ok())
            .map(|(_, bytes)| data_encoding::HEXLOWER.encode(&bytes))
            .collect())
    }
}

/// Money that this device issues.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuedView {
    /// Its id.
    pub asset: AssetId,
    /// The currency.
    pub currency: String,
    /// Decimals.
    pub exponent: u8,
    /// What it is called.
    pub name: String,
}

/// Kinds of money that this device issues.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {}

impl Query for Issued {
    type Out = Vec<IssuedView>;
    const NAME: &'static str = "pay.issued";
    const ABOUT: &'static str = "money that this device issues";
    const READS: &'static [&'static Table] = &[&ISSUED];

    fn run(&self, s: &dyn Read) -> Result<Self::Out, StorageError> {
        let mut out = Vec::new();
        for (key, _) in s.scan(&ISSUED, &KeyRange::all(), false, MAX_ROWS)? {
            let id = AssetId(KeyReader::new(&ISSUED, &key).fixed()?);
            let Some(asset) = issuer::issued(s, id)? else { continue };
            let Asset { currency, exponent, name, .. } = asset.get();
            out.push(IssuedView {
                asset: id,
                currency: currency.to_string(),
                exponent: *exponent,
                name: name.to_string(),
            });
        }
        Ok(out)
    }
}

/// Something for sale.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductView {
    /// Its number.
    pub product: Number,
    /// What it is.
    pub title: String,
    /// To show.
    pub price: String,
    /// Minor units.
    pub minor: u64,
    /// How many are left; none for any number.
    pub stock: Option<u32>,
    /// Whether it is for sale.
    pub open: bool,
}

/// What this device's shop sells.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Products {
    /// Only those after this one: they come by number.
    #[serde(default)]
    pub after: Option<Number>,
}

impl Query for Products {
    type Out = Vec<ProductView>;
    const NAME: &'static str = "pay.products";
    const ABOUT: &'static str = "what this device's shop sells (`after`)";
    const READS: &'static [&'static Table] = &[&PRODUCTS, &ISSUED];

    fn run(&self, s: &dyn Read) -> Result<Self::Out, StorageError> {
        let mut range = KeyRange::all();
        if let Some(after) = self.after {
            range = range.after(&after.0);
        }
        let rows: Vec<(Vec<u8>, ProductRow)> = s.scan_typed(&PRODUCTS, &range, false, MAX_ROWS)?;
        let mut out = Vec::with_capacity(rows.len());
        for (key, row) in rows {
            let Some(asset) = issuer::issued(s, row.asset)? else { continue };
            out.push(ProductView {
                product: Number(KeyReader::new(&PRODUCTS, &key).fixed()?),
                title: row.title,
                price: asset.get().money(row.price).to_string(),
                minor: row.price,
                stock: row.stock,
                open: row.open,
            });
        }
        Ok(out)
    }
}

/// An order that came to this device's shop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderView {
    /// The order.
    pub order: OrderId,
    /// In which money.
    pub asset: AssetId,
    /// When it was answered.
    pub at: Millis,
    /// Who ordered.
    pub payer: AccountId,
    /// What they are called here.
    pub payer_name: String,
    /// Who is paid: this account, or a friend of the payer's.
    pub to: AccountId,
    /// To show.
    pub amount: String,
    /// Lines, each with how many.
    pub lines: Vec<(String, u32)>,
    /// What the payer wrote.
    pub note: String,
    /// Where it stands.
    pub state: OrderState,
    /// Signed evidence, in hexadecimal: the order, this device's word on it, the offer, and
    /// refunds. What both sides hold if they disagree.
    pub evidence: Vec<String>,
}

/// Orders that were carried out at this device, the newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orders {
    /// Only orders answered before this time.
    #[serde(default)]
    pub before: Option<Millis>,
    /// How many, at most [`MAX_ROWS`]; 0 for as many.
    #[serde(default)]
    pub limit: usize,
}

impl Query for Orders {
    type Out = Vec<OrderView>;
    const NAME: &'static str = "pay.orders";
    const ABOUT: &'static str =
        "orders carried out at this device, the newest first (`before`, `limit`)";
    const READS: &'static [&'static Table] =
        &[&ORDERS, &ORDER_TIMES, &OFFERS, &REFUNDS, &ISSUED, &CONTACTS, &ACCOUNT_RECORDS];

    fn run(&self, s: &dyn Read) -> Result<Self::Out, StorageError> {
        if me(s)?.account.is_none() {
            return Ok(Vec::new());
        }
        let mut range = KeyRange::all();
        if let Some(before) = self.before {
            range = range.before(&before.to_be_bytes());
        }
        let mut names = Names::new(s);
        let mut out = Vec::new();
        for (key, _) in s.scan(&ORDER_TIMES, &range, true, limited(self.limit))? {
            let mut reader = KeyReader::new(&ORDER_TIMES, &key);
            reader.u64()?;
            let id = OrderId(reader.fixed()?);
            let Some(row) = issuer::order(s, id)? else { continue };
            let order = issuer::stored(id, &row)?;
            let o = order.get();
            let Some(asset) = issuer::issued(s, o.asset)? else { continue };
            let mut evidence = vec![row.order.clone(), row.outcome.clone()];
            let mut lines = Vec::new();
            let mut note = o.memo.to_string();
            if let Some(offer) = row.offer
                && let Some(made) = s.get_typed::<OfferRow>(&OFFERS, &offer.0)?
            {
                let signed = Signed::<teahouse_protocols::pay::Offer>::from_bytes(&made.offer);
                if let Ok(signed) = signed {
                    let items = signed.get().items.iter();
                    lines = items.map(|i| (i.title.to_string(), i.quantity)).collect();
                }
                evidence.push(made.offer);
                note = made.note;
            }
            evidence.extend(issuer::refunds(s, id)?);
            out.push(OrderView {
                order: id,
                asset: o.asset,
                at: row.at,
                payer: o.account,
                payer_name: names.of(o.account)?,
                to: o.to,
                amount: asset.get().money(o.amount).to_string(),
                lines,
                note,
                state: row.state,
                evidence: evidence.iter().map(|b| data_encoding::HEXLOWER.encode(b)).collect(),
            });
        }
        Ok(out)
    }
}
