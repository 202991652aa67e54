//! Payments as they are shown: `wallet` (balances, statement, payments), `receipts`, `shop`.

mod receipts;
mod shop;
mod wallet;

pub use self::receipts::{ReceiptView, Receipts, Verify};
pub use self::shop::{
    ChannelView, Channels, Issued, IssuedView, OrderView, Orders, ProductView, Products,
};
pub use self::wallet::{
    BalanceView, Balances, EntryView, Evidence, History, OnePayment, PaymentView, Payments,
    Waiting, WaitingView,
};

/// Most rows of one answer.
pub const MAX_ROWS: usize = 200;

const fn limited(limit: usize) -> usize {
    if limit == 0 || limit > MAX_ROWS { MAX_ROWS } else { limit }
}
