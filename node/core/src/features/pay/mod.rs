//! Payments: an issuer's balances and shop, and the wallet that pays there.
//!
//! The payee is the issuer: a merchant keeps prepaid balances of its customers and is paid out
//! of them. One device issues an asset, and alone writes its ledger. A payment is the payer's
//! signed order and the issuer's signed word on it; ledger, statement, offer, stock and answer
//! change in the transaction of one input, so that no answer exists for money that did not
//! move. What a wallet asked and is not told yet stands in a table, and the same bytes are said
//! again whenever the issuer is met. Friends pay each other through an issuer, which holds the
//! amount for a day, until the other takes it. Whoever pays at one shop again and again has a
//! channel there: an amount that is set aside, out of which vouchers pay.
//!
//! - `tables`: the rows.
//! - `issuer`: balances, orders, transfers, refunds. `channels`: what regular customers set aside
//!   and pay from. `shop`: products and offers.
//! - `wallet`: what this device pays, and what it knows of its balances.
//! - `service`: questions and answers between the two.
//! - `programs`: offers of Mini Programs, on both sides.
//! - `command`, `query`: what a person asks for and sees.

mod channels;
mod command;
mod issuer;
pub mod programs;
pub mod query;
mod service;
mod shop;
pub mod tables;
mod wallet;

use crate::features::Feature;
use crate::query::Asked;

pub use self::command::Command;
pub(crate) use self::command::command;
pub(crate) use self::programs::{give_back, issued_here, put_up, take};
pub(crate) use self::wallet::Checked;

/// The feature's name, and that of its records of issuers.
const NAME: &str = "pay";
/// The name of its records of receipts.
const RECEIPTS: &str = "pay-receipts";

pub(crate) const FEATURE: Feature = Feature {
    name: NAME,
    tables: tables::ALL,
    queries: &[
        Asked::of::<query::Balances>(),
        Asked::of::<query::History>(),
        Asked::of::<query::Payments>(),
        Asked::of::<query::OnePayment>(),
        Asked::of::<programs::Bill>(),
        Asked::of::<query::Receipts>(),
        Asked::of::<query::Verify>(),
        Asked::of::<query::Waiting>(),
        Asked::of::<query::Evidence>(),
        Asked::of::<query::Issued>(),
        Asked::of::<query::Products>(),
        Asked::of::<query::Orders>(),
        Asked::of::<query::Channels>(),
    ],
    service: Some(service::SERVICE),
    ..Feature::NONE
};
