//! `program serve` and its kin: functions of programs at their developer's node, and calling
//! and paying them without a picture.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use serde_json::{Value, json};
use teahouse_core::command::{Command, Reply};
use teahouse_core::functions::Command as Ask;
use teahouse_core::functions::query::{AnswerOf, CallState, Functions};
use teahouse_core::functions::tables::News;
use teahouse_core::pay;
use teahouse_core::pay::programs::Bill;
use teahouse_core::pay::query::OnePayment;
use teahouse_core::pay::tables::PayState;
use teahouse_core::view::Blob;

use super::merchant::find_money;
use super::people::done;
use super::program::find;
use super::session::Session;
use super::show::{json, line, short, tidy};
use crate::programs::bill_words;

/// How long a call or a payment is waited for; it goes on by itself.
const SOON: Duration = Duration::from_secs(20);

#[derive(Debug, Subcommand)]
pub(super) enum Act {
    /// Run a program's functions on this device, which its package names
    Serve {
        /// Which
        program: String,
        /// The money of its offers, if there are several
        #[arg(long)]
        money: Option<String>,
    },
    /// Run them no longer; what they keep stays
    Unserve {
        /// Which
        program: String,
    },
    /// Programs whose functions run here, what waits, and what they could not be told
    Functions,
    /// Tell a program's functions once more what they could not be told
    Retry {
        /// Which
        program: String,
    },
    /// Call a function of a program, and show its answer
    Call {
        /// Which
        program: String,
        /// The function
        function: String,
        /// What it is given, as JSON
        #[arg(default_value = "null")]
        payload: String,
    },
    /// Pay an offer that a program's function made
    Pay {
        /// Which
        program: String,
        /// The offer, as `call` shows it
        offer: String,
    },
}

impl Act {
    pub(super) fn execute(self, session: &Session) -> Result<()> {
        match self {
            Self::Serve { program, money } => {
                let row = find(session, &program)?;
                let asset = match &money {
                    Some(_) => Some(find_money(session, money.as_deref())?.asset),
                    None => None,
                };
                submit(session, Ask::Serve { app: row.app, asset })?;
                done(session, &format!("{} is served while this node runs.", tidy(&row.name)))
            }
            Self::Unserve { program } => {
                let row = find(session, &program)?;
                submit(session, Ask::Stop { app: row.app })?;
                done(session, &format!("{} is not served any more.", tidy(&row.name)))
            }
            Self::Functions => functions(session),
            Self::Retry { program } => {
                let row = find(session, &program)?;
                submit(session, Ask::Retry { app: row.app })?;
                done(session, "They are told once more.")
            }
            Self::Call { program, function, payload } => call(session, &program, function, payload),
            Self::Pay { program, offer } => bill(session, &program, &offer),
        }
    }
}

fn submit(session: &Session, command: Ask) -> Result<Reply> {
    session.submit(Command::Functions(command))
}

fn functions(session: &Session) -> Result<()> {
    let all = session.ask(&Functions {})?;
    if session.json {
        return json(&all);
    }
    if all.is_empty() {
        return line("None are served here. Serve some: teahouse program serve PROGRAM");
    }
    for served in all {
        let (id, name) = (short(&served.app.to_hex()), tidy(&served.name));
        line(format!(
            "{id}  {name}  {} waiting; {} things kept, {} bytes",
            served.waiting, served.keys, served.bytes
        ))?;
        for (reference, news, why) in served.aside {
            let what = match news {
                News::Paid { .. } => "was paid",
                News::Expired => "expired",
                News::Refunded { .. } => "was given back",
            };
            line(format!(
                "          not told: the offer {} {what} ({})",
                tidy(&reference),
                tidy(&why)
            ))?;
        }
    }
    Ok(())
}

fn call(session: &Session, program: &str, function: String, payload: String) -> Result<()> {
    let app = find(session, program)?.app;
    let _: Value = serde_json::from_str(&payload).context("what it is given is not JSON")?;
    let payload = Blob(payload.into_bytes());
    let Reply::Call { call } = submit(session, Ask::Call { app, function, payload })? else {
        bail!("unexpected reply")
    };
    let asked = AnswerOf { call };
    let state = session
        .wait_for(SOON, || Ok(session.ask(&asked)?.filter(|state| *state != CallState::Waits)))?;
    match state {
        None => {
            let words = "No answer yet; it is said again for ten minutes.";
            if session.json {
                json(&json!({ "call": call, "state": "waits" }))
            } else {
                line(words)
            }
        }
        Some(CallState::Waits | CallState::NoAnswer) => {
            bail!("no answer came in time: whether it was carried out is not known")
        }
        Some(CallState::Refused { why, .. }) => bail!("not carried out: {}", tidy(&why)),
        Some(CallState::Value { value, offer }) => {
            let text = String::from_utf8_lossy(&value.0).into_owned();
            let answer: Value = serde_json::from_str(&text).unwrap_or(Value::String(text.clone()));
            if session.json {
                return json(&json!({ "call": call, "answer": answer, "offer": offer }));
            }
            line(tidy(&text))?;
            match offer {
                Some(Blob(offer)) => line(data_encoding::BASE64.encode(&offer)),
                None => Ok(()),
            }
        }
    }
}

fn bill(session: &Session, program: &str, offer: &str) -> Result<()> {
    let app = find(session, program)?.app;
    let offer = data_encoding::BASE64.decode(offer.trim().as_bytes());
    let offer = Blob(offer.context("an offer is base64, as `program call` shows it")?);
    let Reply::Payment { payment } = submit(session, Ask::Bill { app, offer: offer.clone() })?
    else {
        bail!("unexpected reply")
    };
    // In which money, the shop may have to be asked first.
    let known = session.wait_for(SOON, || {
        Ok(session.ask(&Bill { offer: offer.clone() })?.filter(|b| b.amount.is_some()))
    })?;
    let Some(known) = known else { bail!("the shop has not said yet in which money") };
    if !session.json {
        line(tidy(&bill_words(Some(&known), Some(known.by))))?;
    }
    session.submit(Command::Pay(pay::Command::Pay { payment }))?;
    let paid = session.wait_for(SOON, || {
        let row = session.ask(&OnePayment { payment })?;
        Ok(row.filter(|row| row.state != PayState::Sent))
    })?;
    let row = match paid {
        Some(row) => row,
        None => session.ask(&OnePayment { payment })?.context("the payment")?,
    };
    if session.json { json(&row) } else { line(tidy(&row.words)) }
}
