//! `init`, `status`, `rebuild`, `doctor`.

use std::io::{BufRead, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use serde_json::json;
use teahouse_core::command::{Command, Devices, Reply};

use super::people::done;
use super::session::{Need, Session};
use super::show::{json, line, moment, short, tidy};
use super::{Global, relay};
use crate::config::{self, Role};
use crate::doctor::{self, DeviceFacts, Facts, Report, Verdict};
use crate::handle::Health;

/// Make an account on this device, offline.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  teahouse init --name 'Li Wei'
  teahouse init --name 'Li Wei' --device laptop

It prints 24 words, once. Whoever has them is this account: write them on paper.
To use an existing account on this device: teahouse device join CODE")]
pub(super) struct Init {
    /// The name others see [default: asked for on a terminal, else the system's user]
    #[arg(long)]
    name: Option<String>,
    /// What to call this device
    #[arg(long, default_value_t = config::device_name())]
    device: String,
}

fn default_name() -> String {
    std::env::var("USER").or_else(|_| std::env::var("USERNAME")).unwrap_or_else(|_| "me".into())
}

impl Init {
    pub(super) fn execute(self, global: &Global) -> Result<()> {
        let session = global.session(Need::Folder)?;
        let given = self.name.is_some();
        let asked = !given && !session.json && session.identity()?.account.is_none();
        let name = match self.name {
            Some(name) => name,
            None if asked => ask_name()?.unwrap_or_else(default_name),
            None => default_name(),
        };
        let create = Devices::Create { name: name.clone(), device_name: self.device };
        let reply = session.submit(Command::Devices(create))?;
        let Reply::Created { account, words } = reply else { bail!("unexpected reply") };
        if session.json {
            return json(&json!({ "account": account, "words": words }));
        }
        line(format!("{} now has an account: {}", tidy(&name), account))?;
        if !given {
            line(format!(
                "Others see the name “{}”; `teahouse name 'Another Name'` changes it.",
                tidy(&name)
            ))?;
        }
        line(
            "\nThese 24 words are the account. Write them down; they are not shown again. (Getting \
             an account back with them is not built yet.)\n",
        )?;
        let words: Vec<&str> = words.split_whitespace().collect();
        for (row, some) in words.chunks(6).enumerate() {
            let numbered: Vec<String> =
                (row * 6 + 1..).zip(some).map(|(n, word)| format!("{n:>2} {word:<10}")).collect();
            line(format!("  {}", numbered.join(" ").trim_end()))?;
        }
        line(
            "\nNext: `teahouse run` in another terminal, then `teahouse card --qr` or `teahouse add LINK`.",
        )
    }
}

/// Asks whoever sits at the terminal; `None` where nobody does, or nothing is typed.
fn ask_name() -> Result<Option<String>> {
    if !std::io::stdin().is_terminal() {
        return Ok(None);
    }
    let mut out = std::io::stderr().lock();
    write!(out, "The name others will see [{}]: ", tidy(&default_name()))?;
    out.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(Some(answer.trim().to_owned()).filter(|name| !name.is_empty()))
}

/// Show or change the name that others see.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  teahouse name                the name as it is
  teahouse name 'Li Wei'       another one; contacts and groups learn it

What you call somebody else is `teahouse contacts remark`.")]
pub(super) struct Name {
    /// The new name, at most 64 bytes; without it the present one is shown
    name: Option<String>,
}

impl Name {
    pub(super) fn execute(self, session: &Session) -> Result<()> {
        let Some(name) = self.name else {
            let name = session.identity()?.name;
            return if session.json { json(&name) } else { line(tidy(&name)) };
        };
        session.submit(Command::Devices(Devices::Rename { name: name.clone() }))?;
        done(session, &format!("Others see the name “{}” now.", tidy(name.trim())))?;
        session.note_offline();
        Ok(())
    }
}

pub(super) fn status(session: &Session) -> Result<()> {
    let (status, identity) = (session.status()?, session.identity()?);
    let (alarms, linking) = (session.alarms()?, session.linking()?);
    if session.json {
        return json(&json!({
            "running": session.attached(),
            "node": status,
            "identity": identity,
            "linking": linking,
            "alarms": alarms,
        }));
    }
    let account = identity.account.map_or_else(|| "no account yet".into(), |a| a.to_hex());
    line(format!("{}  {account}", tidy(&identity.name)))?;
    line(format!("device   {}", identity.device))?;
    line(format!("folder   {}", session.data.display()))?;
    if identity.revoked {
        line("This device was removed from its account.")?;
    }
    if session.attached() {
        line(format!("running  yes; devices connected: {}", status.peers.len()))?;
        for addr in &status.listen {
            line(format!("listens  {addr}"))?;
        }
        for relay in &status.relays {
            line(format!("reached  through relay {}", short(&relay.to_hex())))?;
        }
    } else {
        line("running  no: start it with `teahouse run`")?;
    }
    if let Health::NotStoring { why } = &status.health {
        line(format!("TROUBLE  nothing can be stored: {why}"))?;
    }
    for alarm in &alarms {
        line(format!("ALARM    {}  {}", moment(alarm.time), tidy(&alarm.text)))?;
    }
    Ok(())
}

pub(super) fn rebuild(session: &Session) -> Result<()> {
    let done = session.rebuild()?;
    if session.json {
        return json(&done);
    }
    line(format!("Rebuilt: {} entries of {} topics replayed.", done.envelopes, done.topics))
}

/// Prints the report; the exit code is the verdict.
pub(super) fn doctor(global: &Global) -> Result<ExitCode> {
    let report = examine(global)?;
    if global.json {
        json(&report)?;
    } else {
        line(&report.summary)?;
        for finding in &report.findings {
            let mark = match finding.verdict {
                Verdict::Fine => "ok      ",
                Verdict::Warning => "warning ",
                Verdict::Trouble => "TROUBLE ",
            };
            line(format!("  {mark}{}", finding.text))?;
        }
    }
    Ok(match report.verdict {
        Verdict::Fine => ExitCode::SUCCESS,
        Verdict::Warning => ExitCode::from(1),
        Verdict::Trouble => ExitCode::from(2),
    })
}

fn examine(global: &Global) -> Result<Report> {
    let data = global.data(Role::Device)?;
    let mut facts = Facts::of_folder(&data);
    match config::role_of(&data) {
        None => return Ok(facts.report()),
        Some(Role::Relay) => {
            match relay::Access::open(global, &data) {
                Ok(relay) => {
                    facts.running = relay.attached();
                    facts.relay = Some(relay.view()?);
                }
                Err(e) => facts.broken = Some(format!("{e:#}")),
            }
            return Ok(facts.report());
        }
        Some(Role::Device) => {}
    }
    let session = match global.session(Need::Account) {
        Ok(session) => session,
        Err(e) => {
            facts.broken = Some(format!("{e:#}"));
            return Ok(facts.report());
        }
    };
    facts.running = session.attached();
    let gather = || -> Result<DeviceFacts> {
        let chats = session.chats()?;
        let mut undelivered = Vec::new();
        for chat in &chats {
            let newest = session.messages(chat.topic, None, doctor::LOOKED_AT)?;
            undelivered.extend(doctor::undelivered(chat, &newest));
        }
        Ok(DeviceFacts {
            status: session.status()?,
            identity: session.identity()?,
            relays: session.relays()?,
            waiting: session.waiting()?,
            alarms: session.alarms()?,
            undelivered,
        })
    };
    match gather() {
        Ok(device) => facts.device = Some(device),
        Err(e) => facts.broken = Some(format!("{e:#}")),
    }
    Ok(facts.report())
}
