//! `merchant`: a shop that issues its own prepaid balances.

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use serde_json::json;
use teahouse_core::command::{Command, Reply};
use teahouse_core::pay::Command as Ask;
use teahouse_core::pay::query::{
    Channels, Issued, IssuedView, MAX_ROWS, OrderView, Orders, ProductView, Products,
};
use teahouse_core::pay::tables::OrderState;
use teahouse_protocols::ids::AccountId;
use teahouse_protocols::pay::amount;

use super::pay::shown;
use super::people::done;
use super::resolve::{Names, contact, pick};
use super::session::Session;
use super::show::{json, line, moment, qr, short, tidy};

/// Run a shop: issue prepaid balances, sell, give back.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  teahouse merchant open --currency EUR --name 'Old Street Tea'
  teahouse merchant product add 'Oolong' 3.50 --qr       a poster to print
  teahouse merchant create-value Lin 20.00               Lin paid 20.00 in, in cash
  teahouse merchant orders
  teahouse merchant fulfil last
  teahouse merchant refund last --amount 1.00 --memo 'cold'
  teahouse merchant settle --all                         what regulars paid out of their channels

What is created here is a debt of yours: you owe tea for it. One device keeps the books; lose it
and you begin anew. WHO is a contact or a whole account id (`teahouse status` on their side).")]
pub(super) struct Merchant {
    #[command(subcommand)]
    ask: Act,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// Begin to issue balances on this device
    Open {
        /// Three letters of ISO 4217, or an own code that begins with X
        #[arg(long)]
        currency: String,
        /// What they are called
        #[arg(long)]
        name: String,
    },
    /// Credit somebody who paid in
    CreateValue {
        /// A contact, or an account id
        who: String,
        /// Like 20.00
        amount: String,
        /// Which money, if there are several
        #[arg(long)]
        money: Option<String>,
    },
    /// What is for sale
    #[command(subcommand)]
    Product(Product),
    /// Orders that were paid or sent here
    Orders {
        /// How many
        #[arg(long, default_value_t = 20, value_name = "N")]
        limit: usize,
    },
    /// Say that an order was handed over
    Fulfil {
        /// `last`, or an order as the list shows it
        order: String,
    },
    /// Give back what an order paid, or a part
    Refund {
        /// `last`, or an order as the list shows it
        order: String,
        /// Like 1.00 [default: all that is left]
        #[arg(long)]
        amount: Option<String>,
        /// For the payer to read
        #[arg(long, default_value = "")]
        memo: String,
    },
    /// Settle channels before their time; without a customer or --all, list them
    Settle {
        /// Whose: a contact, or an account id
        #[arg(conflicts_with = "all")]
        customer: Option<String>,
        /// Everybody's
        #[arg(long)]
        all: bool,
    },
    /// Signed evidence of an order, in hexadecimal, for a dispute
    Evidence {
        /// `last`, or an order as the list shows it
        order: String,
    },
}

#[derive(Debug, Subcommand)]
enum Product {
    /// Put something up for sale; prints its link
    Add {
        /// What it is
        title: String,
        /// Like 3.50
        price: String,
        /// How many there are [default: any number]
        #[arg(long)]
        stock: Option<u32>,
        /// Draw the poster's QR code too
        #[arg(long)]
        qr: bool,
        /// Which money, if there are several
        #[arg(long)]
        money: Option<String>,
    },
    /// List what is for sale
    List,
    /// The link of a product
    Poster {
        /// Which
        product: String,
        /// Draw the QR code too
        #[arg(long)]
        qr: bool,
    },
    /// Take something off sale
    Remove {
        /// Which
        product: String,
    },
}

impl Merchant {
    pub(super) fn execute(self, session: &Session) -> Result<()> {
        match self.ask {
            Act::Open { currency, name } => {
                let ask = Ask::Open { currency, name: name.clone() };
                let Reply::Asset { asset } = submit(session, ask)? else {
                    bail!("unexpected reply")
                };
                let words =
                    format!("{} is open. Sell something: merchant product add", tidy(&name));
                shown(session, &json!({ "asset": asset }), &words)
            }
            Act::CreateValue { who, amount, money } => {
                let money = find_money(session, money.as_deref())?;
                let account = customer(session, &who)?;
                let amount = amount::parse(&amount, money.exponent)?;
                let asset = money.asset;
                submit(session, Ask::Create { asset, account, amount, number: None })?;
                done(session, "Credited.")
            }
            Act::Product(product) => product.execute(session),
            Act::Orders { limit } => orders(session, limit),
            Act::Fulfil { order } => {
                let order = find_order(session, &order)?.order;
                submit(session, Ask::Fulfil { order })?;
                done(session, "Handed over.")
            }
            Act::Refund { order, amount, memo } => {
                let order = find_order(session, &order)?;
                let amount = match amount {
                    Some(text) => {
                        let issued = session.ask(&Issued {})?;
                        let money = issued.iter().find(|i| i.asset == order.asset);
                        let money = money.context("the order's money is not issued here")?;
                        Some(amount::parse(&text, money.exponent)?)
                    }
                    None => None,
                };
                submit(session, Ask::Refund { order: order.order, amount, memo, number: None })?;
                done(session, "Given back.")
            }
            Act::Settle { customer: None, all: false } => channels(session),
            Act::Settle { customer: who, .. } => {
                let account = who.map(|who| customer(session, &who)).transpose()?;
                settle(session, account)
            }
            Act::Evidence { order } => {
                let order = find_order(session, &order)?;
                if session.json {
                    return json(&order);
                }
                order.evidence.iter().try_for_each(line)
            }
        }
    }
}

impl Product {
    fn execute(self, session: &Session) -> Result<()> {
        match self {
            Self::Add { title, price, stock, qr, money } => {
                let money = find_money(session, money.as_deref())?;
                let price = amount::parse(&price, money.exponent)?;
                poster(session, Ask::Offer { asset: money.asset, title, price, stock }, qr)
            }
            Self::List => {
                let all = session.ask(&Products { after: None })?;
                if session.json {
                    return json(&all);
                }
                for p in all {
                    let stock = p.stock.map(|n| format!("  {n} left")).unwrap_or_default();
                    let off = if p.open { "" } else { "  (not for sale)" };
                    let (id, title) = (short(&p.product.to_string()), tidy(&p.title));
                    line(format!("{id}  {title}  {}{stock}{off}", p.price))?;
                }
                Ok(())
            }
            Self::Poster { product, qr } => {
                let product = find_product(session, &product)?.product;
                poster(session, Ask::Poster { product }, qr)
            }
            Self::Remove { product } => {
                let p = find_product(session, &product)?;
                let (product, price, stock) = (p.product, p.minor, p.stock);
                submit(session, Ask::Change { product, price, stock, open: false })?;
                done(session, "Not for sale any more; offers that were made stand.")
            }
        }
    }
}

/// A contact's account, or the account that is named whole.
fn customer(session: &Session, who: &str) -> Result<AccountId> {
    match AccountId::from_hex(who.trim()) {
        Some(account) => Ok(account),
        None => Ok(contact(session, who)?.account),
    }
}

fn channels(session: &Session) -> Result<()> {
    let all = session.ask(&Channels::default())?;
    if session.json {
        return json(&all);
    }
    if all.is_empty() {
        return line("No customer has a channel here.");
    }
    for c in all {
        let (id, who) = (short(&c.channel.to_hex()), tidy(&c.payer_name));
        line(format!("{id}  {who}: {} paid of {}", c.owed, c.capacity))?;
    }
    line("They are settled by themselves after 90 days, or now: merchant settle --all")
}

/// Settles, a part at a time, until nothing of it is open.
fn settle(session: &Session, account: Option<AccountId>) -> Result<()> {
    let ask = Channels { account, after: None, limit: 0 };
    let mut settled = 0;
    loop {
        let open = session.ask(&ask)?.len();
        if open == 0 {
            break;
        }
        submit(session, Ask::Settle { account })?;
        let left = session.ask(&ask)?.len();
        // Fewer than before unless the list was full, or customers opened others meanwhile.
        settled += open.saturating_sub(left);
        if left >= open && left < MAX_ROWS {
            break;
        }
    }
    done(session, if settled == 0 { "No channel was open." } else { "Settled." })
}

fn submit(session: &Session, command: Ask) -> Result<Reply> {
    session.submit(Command::Pay(command))
}

fn poster(session: &Session, ask: Ask, draw: bool) -> Result<()> {
    let Reply::Product { product, link } = submit(session, ask)? else { bail!("unexpected reply") };
    if session.json {
        return json(&json!({ "product": product, "link": link }));
    }
    if draw {
        line(qr(&link)?)?;
    }
    line(&link)?;
    session.note("customers reach the shop once one does");
    Ok(())
}

fn orders(session: &Session, limit: usize) -> Result<()> {
    let all = session.ask(&Orders { before: None, limit })?;
    if session.json {
        return json(&all);
    }
    if all.is_empty() {
        return line("No orders yet.");
    }
    for o in all {
        let lines: Vec<String> =
            o.lines.iter().map(|(title, n)| format!("{n} × {}", tidy(title))).collect();
        let state = match o.state {
            OrderState::Paid { refunded: 0, fulfilled: false } => "paid",
            OrderState::Paid { refunded: 0, fulfilled: true } => "paid, handed over",
            OrderState::Paid { .. } => "paid, something given back",
            OrderState::Held => "held for a friend",
            OrderState::Taken => "taken by a friend",
            OrderState::Returned => "went back",
            OrderState::Refused => "refused",
        };
        let (id, who, note) = (short(&o.order.to_hex()), tidy(&o.payer_name), tidy(&o.note));
        let what = lines.join(", ");
        line(format!("{id}  {}  {} by {who}: {state}  {what}  {note}", moment(o.at), o.amount))?;
    }
    Ok(())
}

pub(super) fn find_money(session: &Session, name: Option<&str>) -> Result<IssuedView> {
    let all = session.ask(&Issued {})?;
    match (name, &all[..]) {
        (None, [one]) => Ok(one.clone()),
        (None, []) => bail!("this device issues nothing yet: teahouse merchant open"),
        (None, _) => bail!("which money? --money NAME"),
        (Some(name), _) => {
            let called =
                |i: &IssuedView| Names { names: vec![i.name.clone()], ids: vec![i.asset.to_hex()] };
            Ok(pick("money", name, &all, called)?.clone())
        }
    }
}

fn find_product(session: &Session, name: &str) -> Result<ProductView> {
    let all = session.ask(&Products { after: None })?;
    let called =
        |p: &ProductView| Names { names: vec![p.title.clone()], ids: vec![p.product.to_string()] };
    Ok(pick("product", name, &all, called)?.clone())
}

fn find_order(session: &Session, name: &str) -> Result<OrderView> {
    let all = session.ask(&Orders { before: None, limit: 0 })?;
    if name == "last" {
        return all.into_iter().next().context("no order has come yet");
    }
    let called = |o: &OrderView| Names { names: Vec::new(), ids: vec![o.order.to_hex()] };
    Ok(pick("order", name, &all, called)?.clone())
}
