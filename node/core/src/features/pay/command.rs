//! What can be asked of payments: of a wallet, and of a shop.

use rand_core::Rng;
use serde::{Deserialize, Serialize};
use teahouse_protocols::card::ContactCard;
use teahouse_protocols::codec::Text;
use teahouse_protocols::ids::{AccountId, AssetId, OrderId};
use teahouse_protocols::link;
use teahouse_protocols::pay::{
    Asset, Currency, Line, MAX_ITEMS, MAX_TITLE, Product, VERSION, VerifiedProduct,
};

use super::tables::{ISSUED, Number, PRODUCTS, ProductRow};
use super::{channels, issuer, shop, wallet};
use crate::command::{Refusal, Reply};
use crate::engine::accounts;
use crate::features::contacts;
use crate::store::{KeyRange, ReadExt};
use crate::tx::{Fail, Tx, capped};

/// Most kinds of money that a device issues.
const MAX_ISSUED: u64 = teahouse_protocols::pay::frames::MAX_ASSETS as u64;

/// A command to payments. Where a `number` can be given, the same command with the same number
/// does nothing twice; without, one is drawn.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Ask a shop what things cost now. Replies [`Reply::Payment`].
    Order {
        /// `teahouse:order/…` of what is wanted, and how many; all of one shop.
        lines: Vec<(String, u32)>,
        /// For the shop, at most 140 bytes.
        #[serde(default)]
        note: String,
        /// Pay without asking again if it costs no more, in minor units.
        #[serde(default)]
        up_to: Option<u64>,
        /// The payment's number.
        #[serde(default)]
        number: Option<Number>,
    },
    /// Pay what a shop offered.
    Pay {
        /// The payment.
        payment: Number,
    },
    /// Give up a payment that was not signed yet.
    Cancel {
        /// The payment.
        payment: Number,
    },
    /// Send an amount to somebody through an issuer, which holds it for a day until it is taken.
    /// Replies [`Reply::Payment`].
    Transfer {
        /// In which money.
        asset: AssetId,
        /// To whom.
        to: AccountId,
        /// Minor units.
        amount: u64,
        /// At most 140 bytes.
        #[serde(default)]
        memo: String,
        /// The payment's number.
        #[serde(default)]
        number: Option<Number>,
    },
    /// Take, or decline, what somebody sent.
    Answer {
        /// The sender's order.
        order: OrderId,
        /// Whether it is taken.
        accept: bool,
    },
    /// Ask an issuer how the balance stands.
    Refresh {
        /// In which money.
        asset: AssetId,
    },

    /// Begin to issue a money on this device: balances that are prepaid here. Replies
    /// [`Reply::Asset`].
    Open {
        /// Three capital letters: of ISO 4217, or an own code that begins with X.
        currency: String,
        /// What it is called, 1 to 64 bytes.
        name: String,
    },
    /// Credit somebody who paid in, by other means.
    Create {
        /// In which money.
        asset: AssetId,
        /// To whom.
        account: AccountId,
        /// Minor units.
        amount: u64,
        /// The entry's number.
        #[serde(default)]
        number: Option<Number>,
    },
    /// Put something up for sale. Replies [`Reply::Product`].
    Offer {
        /// In which money.
        asset: AssetId,
        /// 1 to 120 bytes.
        title: String,
        /// Minor units.
        price: u64,
        /// How many there are; none for any number.
        #[serde(default)]
        stock: Option<u32>,
    },
    /// Change something that is for sale. Offers that were made stand. Replies
    /// [`Reply::Product`]: an old poster shows the old price.
    Change {
        /// The product.
        product: Number,
        /// Minor units.
        price: u64,
        /// How many there are; none for any number.
        #[serde(default)]
        stock: Option<u32>,
        /// Whether it is for sale.
        open: bool,
    },
    /// The link to something that is for sale. Replies [`Reply::Product`].
    Poster {
        /// The product.
        product: Number,
    },
    /// What an order paid was handed over.
    Fulfil {
        /// The order, or the voucher.
        order: OrderId,
    },
    /// Give back what an order paid, or a part of it.
    Refund {
        /// The order, or the voucher.
        order: OrderId,
        /// Minor units; none for all that is left.
        #[serde(default)]
        amount: Option<u64>,
        /// For the payer, at most 140 bytes.
        #[serde(default)]
        memo: String,
        /// The refund's number.
        #[serde(default)]
        number: Option<Number>,
    },
    /// Settle open channels before their time: what was paid out of them is this shop's, the
    /// rest goes back to the customers. Settles at most 64; [`super::query::Channels`] says
    /// whether there are more.
    Settle {
        /// One customer's; none for all.
        #[serde(default)]
        account: Option<AccountId>,
    },
}

pub(crate) fn command(tx: &mut Tx<'_>, c: Command) -> Result<Reply, Fail> {
    // Refused while this device is still taking over the account, or was removed from it.
    contacts::private_topic(tx)?;
    let account = tx.account()?;
    let device = tx.me()?.device;
    if !accounts::is_active(tx, device)? {
        return Err(Refusal::Revoked.into());
    }
    match c {
        Command::Order { lines, note, up_to, number } => {
            let number = drawn(tx, number);
            let (product, lines) = read(lines)?;
            wallet::order(tx, number.0, &product, lines, &note, up_to)?;
            Ok(Reply::Payment { payment: number })
        }
        Command::Pay { payment } => {
            wallet::pay(tx, payment.0)?;
            Ok(Reply::Payment { payment })
        }
        Command::Cancel { payment } => {
            wallet::cancel(tx, payment.0)?;
            Ok(Reply::Done)
        }
        Command::Transfer { asset, to, amount, memo, number } => {
            let number = drawn(tx, number);
            wallet::transfer(tx, number.0, asset, to, amount, &memo)?;
            Ok(Reply::Payment { payment: number })
        }
        Command::Answer { order, accept } => {
            wallet::decide(tx, order, accept)?;
            Ok(Reply::Done)
        }
        Command::Refresh { asset } => {
            if wallet::known(tx, asset)?.is_none() {
                return Err(Refusal::NotFound { what: "money".into() }.into());
            }
            wallet::follow(tx, asset)?;
            Ok(Reply::Done)
        }
        Command::Open { currency, name } => begin(tx, account, &currency, &name),
        Command::Create { asset, account, amount, number } => {
            let number = drawn(tx, number);
            issuer::create(tx, asset, account, amount, number.0)?;
            Ok(Reply::Done)
        }
        Command::Offer { asset, title, price, stock } => {
            issuer::required(tx, asset)?;
            let title: Text<MAX_TITLE> =
                title.trim().try_into().map_err(|_| invalid("a title has at most 120 bytes"))?;
            if title.is_empty() || price == 0 {
                return Err(invalid("a product has a title and a price"));
            }
            let max = shop::MAX_PRODUCTS;
            if tx.count(&PRODUCTS, &KeyRange::all(), max as usize)? as u64 == max {
                return Err(Refusal::Limit { what: "products".into(), max }.into());
            }
            let product = drawn(tx, None);
            let row = ProductRow { asset, title: title.to_string(), price, stock, open: true };
            tx.put(&PRODUCTS, &product.0, &row)?;
            poster(tx, product)
        }
        Command::Change { product, price, stock, open } => {
            let row = row_of(tx, product)?;
            if price == 0 {
                return Err(invalid("a product has a price"));
            }
            tx.put(&PRODUCTS, &product.0, &ProductRow { price, stock, open, ..row })?;
            poster(tx, product)
        }
        Command::Poster { product } => poster(tx, product),
        Command::Fulfil { order } => {
            issuer::fulfil(tx, order)?;
            Ok(Reply::Done)
        }
        Command::Refund { order, amount, memo, number } => {
            let number = drawn(tx, number);
            issuer::refund(tx, order, amount, &memo, number.0)?;
            Ok(Reply::Done)
        }
        Command::Settle { account } => {
            channels::settle_all(tx, account)?;
            Ok(Reply::Done)
        }
    }
}

fn invalid(why: &str) -> Fail {
    Refusal::Invalid { why: why.into() }.into()
}

fn drawn(tx: &mut Tx<'_>, given: Option<Number>) -> Number {
    given.unwrap_or_else(|| {
        let mut number = [0; 16];
        tx.rng.fill_bytes(&mut number);
        Number(number)
    })
}

/// What links are about: the first one's product, and all lines.
fn read(lines: Vec<(String, u32)>) -> Result<(Product, Vec<Line>), Fail> {
    if lines.len() > MAX_ITEMS {
        return Err(invalid("too many lines"));
    }
    let mut first: Option<Product> = None;
    let mut out = Vec::with_capacity(lines.len());
    for (text, quantity) in lines {
        let poster = link::parse_order(&text).map_err(|e| invalid(&e.to_string()))?;
        let product = poster.product();
        if quantity == 0 {
            return Err(invalid("how many? at least one"));
        }
        let of = |p: &Product| (p.asset, p.payee, p.key);
        if first.as_ref().is_some_and(|f| of(f) != of(product)) {
            return Err(invalid("all lines of an order are of one shop"));
        }
        out.push(Line { product: product.product, quantity });
        first.get_or_insert_with(|| product.clone());
    }
    Ok((first.ok_or_else(|| invalid("an order has at least one line"))?, out))
}

fn begin(tx: &mut Tx<'_>, account: AccountId, currency: &str, name: &str) -> Result<Reply, Fail> {
    let currency = Currency::parse(currency)
        .ok_or_else(|| invalid("a currency is three capital letters, like EUR"))?;
    let own = currency.as_str().starts_with('X').then_some(0);
    let exponent = currency
        .decimals()
        .or(own)
        .ok_or_else(|| invalid("this currency is not known; own codes begin with X"))?;
    let name: Text<64> =
        name.trim().try_into().map_err(|_| invalid("a name has at most 64 bytes"))?;
    if name.is_empty() {
        return Err(invalid("money has a name"));
    }
    let count = tx.count(&ISSUED, &KeyRange::all(), MAX_ISSUED as usize)? as u64;
    if count == MAX_ISSUED {
        return Err(Refusal::Limit { what: "kinds of money".into(), max: MAX_ISSUED }.into());
    }
    let key = tx.me()?.device;
    let asset = Asset { version: VERSION, issuer: account, key, currency, exponent, name };
    Ok(Reply::Asset { asset: issuer::begin(tx, asset)? })
}

fn row_of(tx: &Tx<'_>, product: Number) -> Result<ProductRow, Fail> {
    let none = || Refusal::NotFound { what: "product".into() };
    Ok(tx.typed(&PRODUCTS, &product.0)?.ok_or_else(none)?)
}

fn poster(tx: &mut Tx<'_>, number: Number) -> Result<Reply, Fail> {
    let row = row_of(tx, number)?;
    let asset = issuer::required(tx, row.asset)?;
    let (account, me) = (tx.account()?, tx.me()?);
    let log = accounts::log(tx, account)?.ok_or(Refusal::NoAccount)?;
    let proof = ContactCard::proof_for(&log, &me.device)
        .map_err(|_| invalid("too many devices stand between the account and this one"))?;
    let addrs: Vec<Text<160>> =
        tx.mem.addrs.iter().filter_map(|a| a.as_str().try_into().ok()).collect();
    let product = Product {
        version: VERSION,
        asset: row.asset,
        currency: asset.get().currency,
        exponent: asset.get().exponent,
        payee: account,
        key: me.device,
        product: number.0,
        title: row.title.as_str().try_into().map_err(Fail::peer)?,
        price: row.price,
        relays: capped(accounts::relays_of(tx, account)?),
        addrs: capped(addrs),
        proof,
    };
    let poster = VerifiedProduct::sign(product, &me.key).map_err(Fail::peer)?;
    Ok(Reply::Product { product: number, link: link::order_uri(&poster) })
}
