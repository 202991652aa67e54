//! What a wallet shows.

use serde::{Deserialize, Serialize};
use teahouse_protocols::codec;
use teahouse_protocols::ids::{AccountId, AssetId, Millis, OrderId};
use teahouse_protocols::pay::{
    Contradiction, Entry, EntryKind, PaymentOrder, Refusal, StatementHead,
};
use teahouse_protocols::sign::Signed;

use super::{MAX_ROWS, limited};
use crate::features::pay::tables::{
    BALANCES, Balance, CHANNEL_NOW, CHANNELS_OUT, EVIDENCE, INCOMING, Incoming, IncomingState,
    Number, PAYMENT_TIMES, PAYMENT_VOUCHERS, PAYMENTS, PayState, Payment, SET_ASIDE, STATEMENT,
    Word,
};
use crate::features::pay::wallet;
use crate::query::{Names, Query};
use crate::store::{Key, KeyRange, KeyReader, Read, ReadExt, StorageError, Table};
use crate::tables::{ACCOUNT_RECORDS, CONTACTS, RECORDS};

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
    /// What is held for others or set aside in channels, to show: all that is the account's
    /// and can't be spent freely, as the issuer signed it.
    pub held: Option<String>,
    /// When the issuer was heard last.
    pub heard: Option<Millis>,
    /// Of what is held: set aside by this account's devices for payments to the issuer, to show.
    /// What they paid out of it since is settled later.
    #[serde(default)]
    pub reserved: Option<String>,
    /// Of what is set aside: what this device may still pay out of it, to show.
    #[serde(default)]
    pub room: Option<String>,
}

/// Balances of this account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balances {}

impl Query for Balances {
    type Out = Vec<BalanceView>;
    const NAME: &'static str = "pay.balances";
    const ABOUT: &'static str = "balances of this account, as issuers signed them";
    const READS: &'static [&'static Table] =
        &[&BALANCES, &RECORDS, &SET_ASIDE, &CHANNEL_NOW, &CHANNELS_OUT];

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
            let (reserved, room) = (wallet::reserved(s, id)?, wallet::room(s, id)?);
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
                reserved: (reserved > 0).then(|| asset.money(reserved).to_string()),
                room: (room > 0).then(|| asset.money(room).to_string()),
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
            let (what, rises) = match e.kind {
                // Between the account and its issuer: about a channel, and nothing else.
                kind if e.other == Some(asset.get().issuer) => of_channel(kind),
                kind => words(kind),
            };
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

const fn of_channel(kind: EntryKind) -> (&'static str, bool) {
    match kind {
        EntryKind::Reserved => ("set aside for payments to", false),
        EntryKind::Released => ("set aside, and came back from", true),
        EntryKind::Spent => ("paid out of what was set aside for", false),
        other => words(other),
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
    /// Whether the person agreed to it, and it waits for what is set aside.
    #[serde(default)]
    pub agreed: bool,
    /// Given back, to show.
    pub refunded: Option<String>,
    /// The payee has handed over what was paid.
    pub fulfilled: bool,
    /// The order's or the voucher's id, once it was signed.
    pub order: Option<OrderId>,
    /// It was paid, or is being paid, out of what was set aside in a channel.
    #[serde(default)]
    pub channel: bool,
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
    &[&PAYMENTS, &PAYMENT_TIMES, &PAYMENT_VOUCHERS, &RECORDS, &CONTACTS, &ACCOUNT_RECORDS];

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
    let order = row.order.as_deref().map(|b| OrderId(Signed::<PaymentOrder>::id_of(b)));
    // A voucher that was refused paid nothing.
    let voucher = wallet::voucher_of(s, id)?.filter(|v| !matches!(v.word, Some(Word::NotTaken(_))));
    let channel = order.is_none() && voucher.is_some();
    let made = order.or(voucher.map(|v| OrderId(v.id.0)));
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
        words: state_words(&row, channel),
        agreed: row.state == PayState::Offered && row.up_to.is_some(),
        refunded: (row.refunded > 0).then(|| money(row.refunded)),
        fulfilled: row.fulfilled,
        order: made,
        channel,
    }))
}

fn state_words(row: &Payment, channel: bool) -> String {
    let hint = row.hint.map(|why| format!(" ({})", Refusal::from(why))).unwrap_or_default();
    match row.state {
        PayState::Asked => format!("asked; the shop has not answered yet{hint}"),
        PayState::Offered if row.hint.is_some() => {
            "waits until what is set aside for this shop has come back".to_owned()
        }
        PayState::Offered => "offered: yours to pay".to_owned(),
        PayState::Sent => {
            format!("not known yet: sent, and it resolves itself when the issuer answers{hint}")
        }
        PayState::Paid if row.fulfilled => "paid, and handed over".to_owned(),
        PayState::Paid if channel => "paid, out of what was set aside".to_owned(),
        PayState::Paid => "paid".to_owned(),
        PayState::Held { .. } => "held until it is taken, a day at most".to_owned(),
        PayState::Returned => "not taken; it came back".to_owned(),
        PayState::Refused { why } => format!("not paid: {}", Refusal::from(why)),
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
