//! `device …`: linking asks both people in front of both screens to compare six digits.

use std::io::{BufRead, IsTerminal, Write};
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Subcommand;
use serde_json::json;
use teahouse_core::command::{Command, Devices as Ask, Reply};
use teahouse_core::view::Linking;

use super::Global;

use super::people::done;
use super::resolve;
use super::session::{Need, Session};
use super::show::{json, json_line, line, qr, short, tidy};
use crate::config;

/// A code lives for ten minutes.
const CODE: Duration = Duration::from_mins(10);

/// A code is good for one attempt: what to do when that did not come to its end.
const AGAIN: &str = "Make a new code with `teahouse device link` on the old device.";

/// How long letting the new device in may take.
const LETTING_IN: Duration = Duration::from_mins(1);

/// History that stands still for so long has come.
const QUIET: Duration = Duration::from_secs(5);

/// How long a fresh node may take to know its addresses, and to know all of them.
const LISTENING: Duration = Duration::from_secs(5);
const SETTLING: Duration = Duration::from_millis(300);

/// Devices of this account.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
To link a second device:
  on the old one   teahouse device link          shows a code
  on the new one   teahouse device join CODE
Both show six digits. If they are the same, confirm on the old one.")]
pub(super) enum Device {
    /// List them
    List,
    /// Show a code that links another device
    Link {
        /// Draw it as a QR code too
        #[arg(long)]
        qr: bool,
        /// Print the code and return; go on with `status` and `confirm`
        #[arg(long)]
        no_wait: bool,
    },
    /// Join the account that shows this code
    Join {
        /// teahouse:pair/…
        code: String,
        /// What to call this device
        #[arg(long, default_value_t = config::device_name())]
        name: String,
        /// Return at once; go on with `status`
        #[arg(long)]
        no_wait: bool,
    },
    /// The digits are the same: let the device in
    Confirm,
    /// Stop linking
    Cancel,
    /// Remove a device: it opens nothing that comes later
    Revoke {
        /// Its name or id
        device: String,
    },
    /// How linking stands
    Status,
}

impl Device {
    pub(super) fn execute(self, global: &Global) -> Result<()> {
        match self {
            Self::List => list(&global.session(Need::Account)?),
            Self::Link { qr, no_wait } => {
                let need = if no_wait { Need::Account } else { Need::Network };
                link(&global.session(need)?, qr, no_wait)
            }
            Self::Join { code, name, no_wait } => {
                let session = global.session(Need::Joining)?;
                let ask = Ask::LinkJoin { code, device_name: name };
                session.submit(Command::Devices(ask))?;
                if no_wait {
                    if !session.attached() {
                        bail!("--no-wait needs a running node: start `teahouse run` first");
                    }
                    return done(&session, "Joining: `teahouse device status` shows how it goes.");
                }
                join(&session)
            }
            Self::Confirm => {
                let session = global.session(Need::Account)?;
                session.submit(Command::Devices(Ask::LinkConfirm))?;
                done(&session, "Confirmed.")
            }
            Self::Cancel => {
                let session = global.session(Need::Folder)?;
                session.submit(Command::Devices(Ask::LinkCancel))?;
                done(&session, "Linking is stopped.")
            }
            Self::Revoke { device } => {
                let session = global.session(Need::Account)?;
                let device = resolve::device(&session, &device)?;
                let this = session.devices()?.iter().any(|d| d.this && d.device == device);
                session.submit(Command::Devices(Ask::Revoke { device }))?;
                if this {
                    return done(
                        &session,
                        "This device is removed; it opens nothing that comes later.",
                    );
                }
                done(
                    &session,
                    "The device is removed; it opens nothing that comes later. Cards made before lead \
                     nowhere now: make new ones.",
                )?;
                session.note_offline();
                Ok(())
            }
            Self::Status => {
                let session = global.session(Need::Folder)?;
                let linking = session.linking()?;
                if session.json { json(&linking) } else { line(words(&linking)) }
            }
        }
    }
}

fn list(session: &Session) -> Result<()> {
    let devices = session.devices()?;
    if session.json {
        return json(&devices);
    }
    for d in devices {
        let this = if d.this { "  (this one)" } else { "" };
        let revoked = if d.revoked { "  removed" } else { "" };
        line(format!("{}  {}{this}{revoked}", short(&d.device.to_hex()), tidy(&d.name)))?;
    }
    Ok(())
}

fn link(session: &Session, draw: bool, no_wait: bool) -> Result<()> {
    if no_wait && !session.attached() {
        bail!("--no-wait needs a running node: start `teahouse run` first");
    }
    if !session.attached() {
        // The code names this device's addresses: wait until it has some.
        session.wait_for(LISTENING, || Ok((!session.status()?.listen.is_empty()).then_some(())))?;
        std::thread::sleep(SETTLING);
    }
    let reply = session.submit(Command::Devices(Ask::LinkStart))?;
    let Reply::Code { link } = reply else { bail!("unexpected reply") };
    if session.json {
        json_line(&json!({ "link": link }))?;
    } else {
        if draw {
            line(qr(&link)?)?;
        }
        line(&link)?;
        line("\nOn the new device: teahouse device join CODE")?;
    }
    if no_wait {
        return Ok(());
    }
    let digits = session.wait_for(CODE, || match session.linking()? {
        Linking::Compare { digits } => Ok(Some(digits)),
        Linking::Failed { why } => bail!("linking failed: {why}. {AGAIN}"),
        Linking::Idle => bail!("linking was stopped"),
        Linking::Waiting | Linking::Copying { .. } => Ok(None),
    })?;
    let Some(digits) = digits else { bail!("nobody used the code in time") };
    match compare(session, &digits)? {
        Compared::Elsewhere => {}
        Compared::Same => {
            session.submit(Command::Devices(Ask::LinkConfirm))?;
        }
        Compared::Different => {
            session.submit(Command::Devices(Ask::LinkCancel))?;
            bail!("linking is stopped: where digits differ, somebody may sit in between");
        }
    }
    let outcome = session.wait_for(LETTING_IN, || match session.linking()? {
        Linking::Failed { why } => bail!("linking failed: {why}"),
        Linking::Idle => Ok(Some(())),
        _ => Ok(None),
    })?;
    match outcome {
        Some(()) => done(session, "The device is linked."),
        None => bail!("letting the device in did not finish in time"),
    }
}

fn join(session: &Session) -> Result<()> {
    let mut shown = String::new();
    let mut show = |linking: &Linking| -> Result<()> {
        // How it ended is told below.
        let ended = matches!(linking, Linking::Idle | Linking::Failed { .. });
        if ended {
            return Ok(());
        }
        let now = words(linking);
        if now != shown {
            if session.json {
                json_line(linking)?;
            } else {
                line(&now)?;
            }
            shown = now;
        }
        Ok(())
    };
    let account = session.wait_for(CODE, || {
        let linking = session.linking()?;
        show(&linking)?;
        match (linking, session.identity()?.account) {
            (Linking::Failed { why }, _) => bail!("linking failed: {why}. {AGAIN}"),
            (_, Some(account)) => Ok(Some(account)),
            (Linking::Idle, None) => bail!("linking was stopped"),
            _ => Ok(None),
        }
    })?;
    let Some(account) = account else { bail!("linking did not finish in time. {AGAIN}") };
    // A running node goes on copying; this process ends, so it waits while history comes.
    while !session.attached() {
        let before = session.linking()?;
        let moved = session.wait_for(QUIET, || Ok((session.linking()? != before).then_some(())))?;
        show(&session.linking()?)?;
        if moved.is_none() {
            break;
        }
    }
    if session.json {
        return json_line(&json!({ "account": account }));
    }
    line(format!("This device belongs to {} now.", tidy(&session.identity()?.name)))?;
    if !session.attached() {
        line("Start `teahouse run` to stay connected; what is missing goes on arriving.")?;
    }
    Ok(())
}

fn words(linking: &Linking) -> String {
    match linking {
        Linking::Idle => "No linking is under way.".into(),
        Linking::Waiting => {
            "Waiting for the other device. A code is good once: if nothing happens, make a new \
             one with `teahouse device link`."
                .into()
        }
        Linking::Compare { digits } => {
            format!("Both screens must show {digits}. If so, confirm on the old device.")
        }
        Linking::Copying { topics, envelopes } => {
            format!("Copying: {envelopes} entries of {topics} chats so far.")
        }
        Linking::Failed { why } => format!("Linking failed: {why}. {AGAIN}"),
    }
}

enum Compared {
    Same,
    Different,
    /// Somebody confirmed by another command.
    Elsewhere,
}

/// Asks whoever sits at the terminal. A script that is attached to a node may also confirm
/// with `device confirm`.
fn compare(session: &Session, digits: &str) -> Result<Compared> {
    if session.json {
        json_line(&json!({ "digits": digits }))?;
    }
    if session.attached() && (session.json || !std::io::stdin().is_terminal()) {
        if !session.json {
            line(format!(
                "{digits}: if the other screen shows the same, `teahouse device confirm`"
            ))?;
        }
        let answered = session.wait_for(CODE, || match session.linking()? {
            Linking::Compare { .. } => Ok(None),
            Linking::Failed { why } => bail!("linking failed: {why}"),
            _ => Ok(Some(())),
        })?;
        let Some(()) = answered else { bail!("nobody confirmed in time") };
        return Ok(Compared::Elsewhere);
    }
    let mut out = std::io::stderr().lock();
    write!(out, "{digits}\nDoes the new device show the same digits? [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    let same = matches!(answer.trim().to_lowercase().as_str(), "y" | "yes");
    Ok(if same { Compared::Same } else { Compared::Different })
}
