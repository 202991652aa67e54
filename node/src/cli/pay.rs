//! `pay` and `wallet`: paying by a link, balances, receipts, money between friends.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use serde_json::json;
use teahouse_core::command::{Command, Reply};
use teahouse_core::pay::Command as Ask;
use teahouse_core::pay::query::{
    BalanceView, Balances, Evidence, History, OnePayment, PaymentView, Payments, Receipts, Verify,
    Waiting,
};
use teahouse_core::pay::tables::{IncomingState, Number, PayState};
use teahouse_protocols::ids::OrderId;
use teahouse_protocols::link::parse_order;
use teahouse_protocols::pay::amount;

use super::people::done;
use super::resolve::{Names, contact, pick};
use super::session::Session;
use super::show::{json, line, moment, short, tidy};

/// How long a shop's answer is waited for.
const ANSWER: Duration = Duration::from_secs(15);

/// Pay what a link or a poster offers.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  teahouse pay teahouse:order/…            asks for the price, and pays if it is the poster's
  teahouse pay teahouse:order/… --quantity 2 --note 'less sugar'
  teahouse pay teahouse:order/… --ask      shows the price; pay it with `wallet confirm`

Without an answer the state is not known yet. It resolves itself: the same order is said again
until the shop answers, and after an hour it can only be refused.")]
pub(super) struct Pay {
    /// `teahouse:order/…`
    link: String,
    /// How many
    #[arg(long, default_value_t = 1)]
    quantity: u32,
    /// For the shop to read
    #[arg(long, default_value = "")]
    note: String,
    /// Only ask for the price
    #[arg(long)]
    ask: bool,
}

/// Balances, payments, receipts; send money to a friend.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  teahouse wallet                          balances
  teahouse wallet history                  the statement that the issuer signs
  teahouse wallet payments                 what this device paid
  teahouse wallet receipt last             text that anybody can check
  teahouse wallet verify teahouse:receipt/…
  teahouse wallet send Mei 5.00 --memo 'for the tea'
  teahouse wallet waiting                  what friends sent; `accept` or `decline` it

A balance is what an issuer owes you: if it vanishes, you hold signed evidence, and no money.")]
pub(super) struct Wallet {
    #[command(subcommand)]
    ask: Option<Act>,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// The account's statement
    History {
        /// Which money, if there are several
        #[arg(long)]
        money: Option<String>,
        /// How many lines
        #[arg(long, default_value_t = 20, value_name = "N")]
        limit: usize,
    },
    /// What this device paid
    Payments {
        /// How many
        #[arg(long, default_value_t = 20, value_name = "N")]
        limit: usize,
    },
    /// Pay what was offered
    Confirm {
        /// `last`, or a payment as the list shows it
        payment: String,
    },
    /// Give up a payment that was not signed
    Cancel {
        /// `last`, or a payment as the list shows it
        payment: String,
    },
    /// A receipt as text
    Receipt {
        /// `last`, or a payment as the list shows it
        payment: String,
    },
    /// What a receipt shows; asks nobody
    Verify {
        /// `teahouse:receipt/…`
        text: String,
    },
    /// Ask the issuer how the balance stands
    Refresh {
        /// Which money, if there are several
        #[arg(long)]
        money: Option<String>,
    },
    /// Send money to a friend, who has a day to take it
    Send {
        /// A contact
        who: String,
        /// Like 5.00
        amount: String,
        /// For them to read
        #[arg(long, default_value = "")]
        memo: String,
        /// Which money, if there are several
        #[arg(long)]
        money: Option<String>,
    },
    /// What friends sent
    Waiting,
    /// Take what a friend sent
    Accept {
        /// At least four digits of the transfer
        transfer: String,
    },
    /// Decline what a friend sent; it goes back
    Decline {
        /// At least four digits of the transfer
        transfer: String,
    },
    /// Proofs that an issuer told two stories
    Evidence,
}

impl Pay {
    pub(super) fn execute(self, session: &Session) -> Result<()> {
        let poster = parse_order(&self.link)?;
        let product = poster.product();
        let most = product.price.checked_mul(u64::from(self.quantity));
        let most = most.context("more than can be counted")?;
        let reply = submit(
            session,
            Ask::Order {
                lines: vec![(self.link.clone(), self.quantity)],
                note: self.note,
                up_to: (!self.ask).then_some(most),
                number: None,
            },
        )?;
        let Reply::Payment { payment } = reply else { bail!("unexpected reply") };
        settle(session, payment, |state| match state {
            PayState::Asked | PayState::Sent => false,
            PayState::Offered => self.ask || !session.online(),
            _ => true,
        })
    }
}

/// Waits until a payment is where it is wanted, a while at most, and shows it.
fn settle(session: &Session, payment: Number, there: impl Fn(PayState) -> bool) -> Result<()> {
    let look = || -> Result<Option<PaymentView>> {
        let seen = session.ask(&OnePayment { payment })?;
        Ok(seen.filter(|p| there(p.state)))
    };
    if session.online() {
        session.wait_for(ANSWER, look)?;
    }
    let seen = session.ask(&OnePayment { payment })?.context("the payment is gone")?;
    if session.json {
        return json(&seen);
    }
    line(told(&seen))?;
    if matches!(seen.state, PayState::Asked | PayState::Sent) {
        session.note("the shop is asked once one runs");
    }
    Ok(())
}

fn told(p: &PaymentView) -> String {
    let back = p.refunded.as_ref().map(|n| format!(", {n} given back")).unwrap_or_default();
    let (id, title, to) = (short(&p.payment.to_string()), tidy(&p.title), tidy(&p.to_name));
    format!("{id}  {}  {} to {to} for {title}: {}{back}", moment(p.at), p.amount, p.words)
}

impl Wallet {
    pub(super) fn execute(self, session: &Session) -> Result<()> {
        match self.ask {
            None => balances(session),
            Some(Act::History { money, limit }) => {
                let asset = find_money(session, money.as_deref())?.asset;
                let lines = session.ask(&History { asset, before: None, limit })?;
                if session.json {
                    return json(&lines);
                }
                for l in lines {
                    let sign = if l.rises { '+' } else { '-' };
                    let other = l.other.map(|o| format!("  {}", tidy(&o))).unwrap_or_default();
                    line(format!("{}  {sign}{}  {}{other}", moment(l.at), l.amount, l.what))?;
                }
                Ok(())
            }
            Some(Act::Payments { limit }) => {
                let all = session.ask(&Payments { before: None, limit })?;
                if session.json {
                    return json(&all);
                }
                if all.is_empty() {
                    return line("Nothing paid by this device yet.");
                }
                all.iter().try_for_each(|p| line(told(p)))
            }
            Some(Act::Confirm { payment }) => {
                let payment = find_payment(session, &payment)?.payment;
                submit(session, Ask::Pay { payment })?;
                settle(session, payment, |s| !matches!(s, PayState::Sent | PayState::Offered))
            }
            Some(Act::Cancel { payment }) => {
                let payment = find_payment(session, &payment)?.payment;
                submit(session, Ask::Cancel { payment })?;
                done(session, "Given up.")
            }
            Some(Act::Receipt { payment }) => {
                let payment = find_payment(session, &payment)?;
                let order = payment.order.context("this payment was not signed")?;
                let found = session.ask(&Receipts { order: Some(order), after: None, limit: 1 })?;
                let receipt = found.first().context("there is no receipt of it here")?;
                if session.json {
                    return json(receipt);
                }
                line(&receipt.text)
            }
            Some(Act::Verify { text }) => verify(session, text),
            Some(Act::Refresh { money }) => {
                let asset = find_money(session, money.as_deref())?.asset;
                submit(session, Ask::Refresh { asset })?;
                done(session, "Asked. See `teahouse wallet`.")
            }
            Some(Act::Send { who, amount, memo, money }) => {
                let to = contact(session, &who)?;
                let money = find_money(session, money.as_deref())?;
                let amount = amount::parse(&amount, money.exponent)?;
                let ask = Ask::Transfer {
                    asset: money.asset,
                    to: to.account,
                    amount,
                    memo,
                    number: None,
                };
                let Reply::Payment { payment } = submit(session, ask)? else {
                    bail!("unexpected reply")
                };
                settle(session, payment, |s| s != PayState::Sent)
            }
            Some(Act::Waiting) => {
                let all = session.ask(&Waiting {})?;
                if session.json {
                    return json(&all);
                }
                if all.is_empty() {
                    return line("Nothing waits.");
                }
                for w in all {
                    let state = match w.state {
                        IncomingState::Waits => format!("waits until {}", moment(w.until)),
                        IncomingState::Accepting => "taken; the issuer has not answered".into(),
                        IncomingState::Accepted => "taken".into(),
                        IncomingState::Declined => "declined".into(),
                        IncomingState::Gone => "not there any more".into(),
                    };
                    let (id, from) = (short(&w.order.to_hex()), tidy(&w.from));
                    let memo = tidy(&w.memo);
                    line(format!("{id}  {} from {from}: {state}  {memo}", w.amount))?;
                }
                Ok(())
            }
            Some(Act::Accept { transfer }) => {
                let order = find_transfer(session, &transfer)?;
                submit(session, Ask::Answer { order, accept: true })?;
                done(session, "Taken; the issuer is told.")
            }
            Some(Act::Decline { transfer }) => {
                let order = find_transfer(session, &transfer)?;
                submit(session, Ask::Answer { order, accept: false })?;
                done(session, "Declined; the issuer is told.")
            }
            Some(Act::Evidence) => {
                let all = session.ask(&Evidence {})?;
                if session.json {
                    return json(&all);
                }
                if all.is_empty() {
                    return line("None.");
                }
                all.iter().try_for_each(line)
            }
        }
    }
}

fn submit(session: &Session, command: Ask) -> Result<Reply> {
    session.submit(Command::Pay(command))
}

fn balances(session: &Session) -> Result<()> {
    let all = session.ask(&Balances {})?;
    if session.json {
        return json(&all);
    }
    if all.is_empty() {
        return line("No balances yet. Use a shop's link: teahouse pay teahouse:order/…");
    }
    for b in all {
        let held = b.held.map(|h| format!(", {h} held")).unwrap_or_default();
        let balance = b.balance.unwrap_or_else(|| "none that is known".into());
        let heard = b.heard.map(|at| format!("  (heard {})", moment(at))).unwrap_or_default();
        let (id, name) = (short(&b.asset.to_hex()), tidy(&b.name));
        let aside = b.reserved.map(|n| format!("; {n} of it set aside for paying there"));
        let room = b.room.map(|n| format!(" ({n} left for this device)"));
        let aside = aside.map(|n| n + &room.unwrap_or_default()).unwrap_or_default();
        line(format!("{id}  {name}: {balance}{held}{aside}{heard}"))?;
    }
    Ok(())
}

fn verify(session: &Session, text: String) -> Result<()> {
    match session.ask(&Verify { text })? {
        Err(why) => bail!("this receipt shows nothing: {why}"),
        Ok(seen) if session.json => json(&seen),
        Ok(seen) => {
            line(format!("{} for {}, {}", seen.amount, tidy(&seen.title), moment(seen.at)))?;
            line(format!("paid by    {}", seen.payer))?;
            line(format!("to         {}", seen.payee))?;
            line(format!("issued by  {}", seen.issuer))?;
            line("It does not show what was given back since.")
        }
    }
}

fn find_money(session: &Session, name: Option<&str>) -> Result<BalanceView> {
    let all = session.ask(&Balances {})?;
    match (name, &all[..]) {
        (None, [one]) => Ok(one.clone()),
        (None, []) => bail!("no money is known here yet"),
        (None, _) => bail!("which money? --money NAME; `teahouse wallet` lists them"),
        (Some(name), _) => {
            let called = |b: &BalanceView| Names {
                names: vec![b.name.clone()],
                ids: vec![b.asset.to_hex()],
            };
            Ok(pick("money", name, &all, called)?.clone())
        }
    }
}

fn find_payment(session: &Session, name: &str) -> Result<PaymentView> {
    let all = session.ask(&Payments { before: None, limit: 0 })?;
    if name == "last" {
        return all.into_iter().next().context("nothing was paid by this device yet");
    }
    let called = |p: &PaymentView| Names { names: Vec::new(), ids: vec![p.payment.to_string()] };
    Ok(pick("payment", name, &all, called)?.clone())
}

fn find_transfer(session: &Session, name: &str) -> Result<OrderId> {
    let all = session.ask(&Waiting {})?;
    let ids = |o: &OrderId| Names { names: Vec::new(), ids: vec![o.to_hex()] };
    let orders: Vec<OrderId> = all.iter().map(|w| w.order).collect();
    Ok(*pick("transfer", name, &orders, ids)?)
}

/// What a command answers, for those that answer with a number.
pub(super) fn shown(session: &Session, value: &serde_json::Value, words: &str) -> Result<()> {
    if session.json { json(&json!(value)) } else { line(words) }
}
