//! `relay …`: the relays this account uses, and the relay that a community runs.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use clap::Subcommand;
use serde_json::json;
use teahouse_core::command::{Command, Relays as Ask, Reply};
use teahouse_core::store::OpenError;
use teahouse_protocols::ids::RelayId;
use tokio::runtime::Runtime;

use super::Global;
use super::people::done;
use super::resolve;
use super::session::{self, Need, Session};
use super::show::{bytes, host, json, line, moment, qr, short, tidy};
use crate::api::{Invited, RelayDrainRequest, RelayInviteRequest};
use crate::client::Client;
use crate::config::{self, Role};
use crate::doctor;
use crate::handle::Health;
use crate::roles::relay::{RelayNode, RelayOptions, RelayView};
use crate::runtime::{StartError, now};

/// Relays: use one, or run one.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
To use a community's relay:
  teahouse relay use teahouse:relay/…
To run one for a community:
  teahouse run --role relay --name 'Old Street' --public-addr tea.example
  teahouse relay invite --uses 20 --greeter \"$(teahouse card --welcome-to 'Old Street')\"
The relay's data lies in the folder `relay` inside the data folder, or where --data says.")]
pub(super) enum Relay {
    /// Use a relay, by its invite link
    Use {
        /// teahouse:relay/…
        link: String,
    },
    /// The relays this account uses
    List,
    /// Stop using one; contacts learn it
    Forget {
        /// Its host name or id
        relay: String,
    },
    /// (operator) Make an invite link
    Invite {
        /// The contact card of somebody who welcomes newcomers
        #[arg(long, value_name = "CARD")]
        greeter: Option<String>,
        /// How many newcomers may use it
        #[arg(long, default_value_t = 10, value_name = "N")]
        uses: u32,
        /// For how many days
        #[arg(long, default_value_t = 30, value_name = "N")]
        days: u32,
        /// Draw it as a QR code too
        #[arg(long)]
        qr: bool,
    },
    /// (operator) What the relay holds
    Status,
    /// (operator) Take no new deposits, before closing down
    Drain {
        /// Take them again
        #[arg(long)]
        off: bool,
    },
}

impl Relay {
    pub(super) fn execute(self, global: &Global) -> Result<()> {
        let own = || Access::open(global, &global.data(Role::Relay)?);
        match self {
            Self::Use { link } => {
                let session = global.session(Need::Account)?;
                let reply = session.submit(Command::Relays(Ask::Use { link }))?;
                if session.json {
                    return json(&reply);
                }
                match reply {
                    Reply::Added { relay: Some(relay), .. } => {
                        used(&session, relay)?;
                    }
                    _ => line("The relay is used now.")?,
                }
                session.note_offline();
                Ok(())
            }
            Self::List => list(&global.session(Need::Account)?),
            Self::Forget { relay } => {
                let session = global.session(Need::Account)?;
                let relay = resolve::relay(&session, &relay)?;
                session.submit(Command::Relays(Ask::Forget { relay }))?;
                done(&session, "The relay is not used any more.")?;
                session.note_offline();
                Ok(())
            }
            Self::Invite { greeter, uses, days, qr: draw } => {
                let own = own()?;
                let link = own.invite(&RelayInviteRequest { uses, days, greeter })?;
                if own.view()?.mailbox.draining {
                    eprintln!(
                        "This relay is draining and takes no newcomers: the link works after \
                         `teahouse relay drain --off`."
                    );
                }
                if global.json {
                    return json(&json!({ "link": link }));
                }
                if draw {
                    line(qr(&link)?)?;
                }
                line(link)
            }
            Self::Status => status(global, &own()?),
            Self::Drain { off } => {
                let view = own()?.drain(!off)?;
                if global.json {
                    return json(&view);
                }
                line(if view.mailbox.draining {
                    "Draining: nothing new is taken; what is here can be fetched."
                } else {
                    "Taking deposits and newcomers."
                })
            }
        }
    }
}

fn list(session: &Session) -> Result<()> {
    let relays = session.relays()?;
    if session.json {
        return json(&relays);
    }
    if relays.is_empty() {
        return line(
            "No relay: messages pass only while both sides are on. `teahouse relay use LINK`",
        );
    }
    let waiting = session.waiting()?;
    for r in relays {
        let last = r.last_answer.map_or_else(|| "never answered".into(), moment);
        line(format!("{}  {}  {last}", short(&r.relay.to_hex()), tidy(&host(&r))))?;
        line(format!(
            "          {} tokens, {} mailboxes, {} waiting",
            r.tokens, r.tags, r.waiting
        ))?;
        if !r.trouble.is_empty() {
            line(format!("          TROUBLE: {}", tidy(&r.trouble)))?;
        } else if session.attached()
            && let Some(words) = doctor::slow(r.relay, &waiting, now())
        {
            line(format!("          TROUBLE: it answers, but {words}"))?;
        }
    }
    Ok(())
}

fn status(global: &Global, relay: &Access) -> Result<()> {
    let view = relay.view()?;
    if global.json {
        return json(&json!({ "running": relay.attached(), "relay": view }));
    }
    let m = &view.mailbox;
    line(format!("{}  {}", tidy(&view.name), view.relay))?;
    if relay.attached() {
        line("running    yes")?;
    } else {
        line("running    no: start it with `teahouse run --role relay`")?;
    }
    if let Health::NotStoring { why } = &view.health {
        line(format!("TROUBLE    nothing can be stored: {why}"))?;
    }
    if m.draining {
        line("draining   nothing new is taken")?;
    }
    for addr in &view.addrs {
        line(format!("address    {addr}"))?;
    }
    line(format!("mailboxes  {}; members admitted {}", m.tags, m.members))?;
    let (held, most) = (bytes(m.bytes), bytes(view.max_bytes));
    line(format!(
        "stored     {held} of {most}, in {} items, for {} days",
        m.items, view.keep_days
    ))?;
    line(format!(
        "since start {} deposits, {} fetches, {} refusals; {} clients wait",
        m.deposits, m.fetches, m.refusals, m.waits
    ))
}

/// The way to the relay's data: the relay that runs on the folder, else the folder itself.
pub(super) enum Access {
    Running(Client),
    Folder { relay: RelayNode, runtime: Runtime },
}

impl Access {
    pub(super) fn open(global: &Global, data: &Path) -> Result<Self> {
        if config::role_of(data) != Some(Role::Relay) {
            bail!(
                "there is no relay in {}: start one with `teahouse run --role relay`",
                data.display()
            );
        }
        let until = Instant::now() + Duration::from_secs(5);
        loop {
            if let Some(client) = Client::attach(data)? {
                return Ok(Self::Running(client));
            }
            let runtime = session::runtime()?;
            let guard = runtime.enter();
            let started = RelayNode::start(RelayOptions {
                data: data.to_owned(),
                store: config::store_options(global.lossy_disk),
                listen: None,
                settings: config::relay_file(data)?,
            });
            drop(guard);
            match started {
                Ok(relay) => return Ok(Self::Folder { relay, runtime }),
                Err(StartError::Open(OpenError::Locked { .. })) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(e) => return Err(e.into()),
            }
        }
    }

    pub(super) const fn attached(&self) -> bool {
        matches!(self, Self::Running(_))
    }

    pub(super) fn view(&self) -> Result<RelayView> {
        Ok(match self {
            Self::Running(client) => client.get("/v1/relay/status")?,
            Self::Folder { relay, .. } => relay.handle().status(),
        })
    }

    fn invite(&self, ask: &RelayInviteRequest) -> Result<String> {
        match self {
            Self::Running(client) => Ok(client.post::<Invited>("/v1/relay/invite", ask)?.link),
            Self::Folder { relay, runtime } => {
                let greeter = ask.greeter.as_deref();
                let invite = relay.handle().invite(ask.uses, ask.days, greeter);
                runtime.block_on(invite).map_err(|e| anyhow!(e))
            }
        }
    }

    fn drain(&self, drain: bool) -> Result<RelayView> {
        match self {
            Self::Running(client) => {
                Ok(client.post("/v1/relay/drain", &RelayDrainRequest { drain })?)
            }
            Self::Folder { relay, runtime } => {
                runtime.block_on(relay.handle().drain(drain))?;
                Ok(relay.handle().status())
            }
        }
    }
}

/// Says which relay is used from now on.
pub(super) fn used(session: &Session, relay: RelayId) -> Result<()> {
    let relays = session.relays()?;
    let name = relays.iter().find(|r| r.relay == relay).map(|r| tidy(&host(r)));
    line(format!("The relay {} is used now.", name.unwrap_or_else(|| short(&relay.to_hex()))))
}
