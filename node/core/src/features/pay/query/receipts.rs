//! Receipts as they are shown, and what one shows that somebody brings.

use serde::{Deserialize, Serialize};
use teahouse_protocols::codec;
use teahouse_protocols::ids::{AccountId, Millis, OrderId};
use teahouse_protocols::link;
use teahouse_protocols::pay::{Money, Receipt};

use super::limited;
use crate::features::pay::{RECEIPTS, wallet};
use crate::query::Query;
use crate::store::{Key, KeyRange, Read, ReadExt, StorageError, Table};
use crate::tables::{Chosen, RECORDS};

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
    /// How many, at most [`super::MAX_ROWS`]; 0 for as many.
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
