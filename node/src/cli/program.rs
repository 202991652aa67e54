//! `program`: Mini Programs: make, publish, install and open them, and say what they may.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use serde_json::json;
use teahouse_core::command::{Command, Reply};
use teahouse_core::programs::Command as Ask;
use teahouse_core::programs::query::{OneProgram, PackageOf, Program as Row, Programs};
use teahouse_core::query::Query;
use teahouse_core::view::Blob;
use teahouse_protocols::codec::Wire;
use teahouse_protocols::ids::AppId;
use teahouse_protocols::package::{Package, Power, VerifiedPackage};
use teahouse_protocols::sign::SigningKey;

use super::people::done;
use super::play::{self, power_words};
use super::resolve::{self, Names, pick};
use super::session::{Need, Session};
use super::show::{json, line, qr, short, tidy};
use super::{Global, functions};
use crate::client::ClientError;
use crate::config::{self, Role};
use crate::handle::NodeError;
use crate::programs::{Asker, Installed, PowerError, card, pack};

/// How long `install` waits for the package.
const FIRST: Duration = Duration::from_secs(15);
/// The developer's key in the data folder.
const KEY: &str = "developer.key";

/// Make, install and open Mini Programs.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  teahouse program                          those that are installed
  teahouse program dev breakfast/           try one out that you are writing
  teahouse program publish breakfast/ --qr  install it here, and show the link to it
  teahouse program install teahouse:program/…
  teahouse program open breakfast
  teahouse program open breakfast --chat Mei   where it may share state with them
  teahouse program send breakfast Mei --title Table-4 --launch table=4
  teahouse program revoke breakfast storage
  teahouse program serve breakfast          run its functions here: it is your shop's

A program is a folder with a manifest.json (the W3C's MiniApp manifest) and its files; see
node/programs/README.md. PROGRAM is a name, its beginning, or at least four digits of its id.
POWER is one of login, storage, state, call, pay, share.")]
pub(super) struct Program {
    #[command(subcommand)]
    ask: Option<Act>,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// List the programs that are installed
    List,
    /// Pack a folder into one signed file
    Pack {
        /// The folder
        dir: PathBuf,
        /// The file to write [default: the folder's name with .program]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        #[command(flatten)]
        key: Key,
    },
    /// Try a folder out in the terminal; it starts anew when a file changes
    Dev {
        /// The folder
        dir: PathBuf,
        /// What the program is told as if a link had opened it
        #[arg(long, default_value = "")]
        launch: String,
    },
    /// Install a package here and show a link to it; your node serves whoever uses the link
    Publish {
        /// A folder, or a packed file
        what: PathBuf,
        /// Draw the link as a QR code too
        #[arg(long)]
        qr: bool,
        #[command(flatten)]
        key: Key,
    },
    /// Install a program by its link, or from a packed file
    Install {
        /// `teahouse:program/…`, or a file
        from: String,
    },
    /// Show a link to a program that is installed; your node serves whoever uses it
    Link {
        /// Which
        program: String,
        /// What the program is told when the link opens it
        #[arg(long, default_value = "")]
        launch: String,
        /// Draw it as a QR code too
        #[arg(long)]
        qr: bool,
    },
    /// Open a program in the terminal
    Open {
        /// Which; or a link to one that is installed, of which the program is told what it says
        program: String,
        /// The chat whose members it may share state with
        #[arg(long)]
        chat: Option<String>,
        /// What the program is told as if a link had opened it
        #[arg(long, default_value = "")]
        launch: String,
    },
    /// Send a card that opens a program into a chat; your node serves whoever uses it
    Send {
        /// Which
        program: String,
        /// To whom
        chat: String,
        /// What stands on the card
        #[arg(long, default_value = "")]
        title: String,
        /// What the program is told when the card opens it
        #[arg(long, default_value = "")]
        launch: String,
    },
    /// Remove a program with all that it keeps, on all your devices
    Remove {
        /// Which
        program: String,
    },
    /// Allow a program something
    Grant {
        /// Which
        program: String,
        /// What
        power: String,
    },
    /// Take back what a program was allowed
    Revoke {
        /// Which
        program: String,
        /// What
        power: String,
    },
    #[command(flatten)]
    Functions(functions::Act),
}

#[derive(Debug, Args)]
struct Key {
    /// The developer's key, made at first use [default: developer.key in the data folder]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

impl Key {
    fn read(self, global: &Global) -> Result<SigningKey> {
        let path = match self.key {
            Some(path) => path,
            None => {
                let data = global.data(Role::Device)?;
                config::prepare(&data, Role::Device)?;
                data.join(KEY)
            }
        };
        let fresh = !path.exists();
        let seed = config::secret_at(&path)?;
        if fresh {
            eprintln!(
                "Made your developer's key: {}. Keep it: who has it can publish new versions of \
                 your programs, and without it you can't.",
                path.display()
            );
        }
        Ok(SigningKey::from_bytes(&seed))
    }
}

impl Program {
    pub(super) fn execute(self, global: &Global) -> Result<()> {
        let session = || Session::open(global, Need::Account);
        match self.ask {
            None | Some(Act::List) => list(&session()?),
            Some(Act::Pack { dir, output, key }) => {
                let device = Session::open(global, Need::Account)?.identity()?.device;
                let package = pack::folder_for(&dir, &key.read(global)?, device)?;
                let left_out = pack::left_out(&dir)?;
                let file = output.map_or_else(|| default_file(&dir), Ok)?;
                std::fs::write(&file, package.to_bytes()?)
                    .with_context(|| file.display().to_string())?;
                if global.json {
                    return json(&json!({
                        "app": package.manifest().get().app(),
                        "package": package.id(),
                        "file": file.display().to_string(),
                        "left_out": left_out,
                    }));
                }
                tell_left(&left_out)?;
                line(format!("Packed {}.", file.display()))
            }
            Some(Act::Dev { dir, launch }) => play::dev(&dir, launch),
            Some(Act::Publish { what, qr, key }) => publish(global, &what, key, qr),
            Some(Act::Install { from }) => install(&session()?, from),
            Some(Act::Link { program, launch, qr }) => {
                let session = session()?;
                let app = find(&session, &program)?.app;
                link(&session, app, launch, qr)
            }
            Some(Act::Open { program, chat, launch }) => {
                let session = session()?;
                let (row, launch) = named(&session, &program, launch)?;
                let chat = chat.map(|chat| resolve::chat(&session, &chat)).transpose()?;
                let chat = chat.map(|chat| chat.topic);
                let Some(Blob(bytes)) = session.ask(&PackageOf { app: row.app })? else {
                    bail!("{} has not come yet: nobody who has it was met", tidy(&row.name));
                };
                let package = VerifiedPackage::from_bytes(&bytes)?;
                let mut powers = Installed { node: &session, app: row.app, chat };
                let mut send = |to: &str, title: String, launch: String| {
                    send(&session, row.app, to, title, launch)
                };
                play::open(package, launch, &mut powers, &mut send)
            }
            Some(Act::Send { program, chat, title, launch }) => {
                let session = session()?;
                let app = find(&session, &program)?.app;
                let sent = send(&session, app, &chat, title, launch)?;
                done(&session, &sent)
            }
            Some(Act::Remove { program }) => {
                let session = session()?;
                let row = find(&session, &program)?;
                submit(&session, Ask::Uninstall { app: row.app })?;
                done(&session, &format!("{} is removed.", tidy(&row.name)))
            }
            Some(Act::Grant { program, power }) => allow(&session()?, &program, &power, true),
            Some(Act::Revoke { program, power }) => allow(&session()?, &program, &power, false),
            Some(Act::Functions(act)) => act.execute(&session()?),
        }
    }
}

fn submit(session: &Session, command: Ask) -> Result<Reply> {
    session.submit(Command::Programs(command))
}

fn default_file(dir: &Path) -> Result<PathBuf> {
    let dir = dir.canonicalize().with_context(|| dir.display().to_string())?;
    let name = dir.file_name().context("the folder has no name: say -o FILE")?;
    let mut file = name.to_owned();
    file.push(".program");
    Ok(file.into())
}

fn read(file: &Path) -> Result<Vec<u8>> {
    let size = std::fs::metadata(file).with_context(|| file.display().to_string())?.len();
    if size > Package::MAX_BYTES as u64 {
        bail!("{} is too large to be a program", file.display());
    }
    std::fs::read(file).with_context(|| file.display().to_string())
}

fn publish(global: &Global, what: &Path, key: Key, draw: bool) -> Result<()> {
    let session = Session::open(global, Need::Account)?;
    let bytes = if what.is_dir() {
        let device = session.identity()?.device;
        let package = pack::folder_for(what, &key.read(global)?, device)?;
        if !global.json {
            tell_left(&pack::left_out(what)?)?;
        }
        package.to_bytes()?
    } else {
        read(what)?
    };
    let Reply::Program { app } = submit(&session, Ask::Install { package: Blob(bytes) })? else {
        bail!("unexpected reply")
    };
    link(&session, app, String::new(), draw)
}

/// What stayed out of a package: it may have been meant to be in it.
fn tell_left(left: &[String]) -> Result<()> {
    left.iter().try_for_each(|path| {
        line(format!("Not packed: {} (hidden, a key, or of no kind that programs use)", tidy(path)))
    })
}

/// Sends a card; what to say of it.
fn send(
    session: &Session,
    app: AppId,
    chat: &str,
    title: String,
    launch: String,
) -> Result<String> {
    let chat = resolve::chat(session, chat)?;
    submit(session, Ask::Send { app, topic: chat.topic, title, launch })?;
    Ok(format!("The card is sent: {}.", tidy(&chat.title)))
}

/// The program that a name or a link names, and what it is told: a link's words, unless others
/// are given.
fn named(session: &Session, text: &str, launch: String) -> Result<(Row, String)> {
    let Some(link) = card(text) else { return Ok((find(session, text)?, launch)) };
    let row = session.ask(&OneProgram { app: link.app })?;
    let row = row.context("this program is not installed: teahouse program install LINK")?;
    let launch = if launch.is_empty() { link.launch.to_string() } else { launch };
    Ok((row, launch))
}

fn link(session: &Session, app: AppId, launch: String, draw: bool) -> Result<()> {
    let Reply::Link { link } = submit(session, Ask::Share { app, launch })? else {
        bail!("unexpected reply")
    };
    if session.json {
        return json(&json!({ "app": app, "link": link }));
    }
    if draw {
        line(qr(&link)?)?;
    }
    line(&link)?;
    session.note("whoever uses the link waits until one does");
    Ok(())
}

pub(super) fn find(session: &Session, name: &str) -> Result<Row> {
    let all = session.ask(&Programs {})?;
    let called = |p: &Row| Names { names: vec![p.name.clone()], ids: vec![p.app.to_hex()] };
    Ok(pick("program", name, &all, called)?.clone())
}

fn list(session: &Session) -> Result<()> {
    let all = session.ask(&Programs {})?;
    if session.json {
        return json(&all);
    }
    if all.is_empty() {
        return line("None yet. Install one: teahouse program install LINK");
    }
    for p in all {
        let version = match (&p.package, p.coming) {
            (Some(package), _) => tidy(&package.version),
            (None, Some((here, all))) => format!("coming: {here} of {all} pages"),
            (None, None) => "nobody who has it was met yet".to_owned(),
        };
        line(format!("{}  {}  {version}", short(&p.app.to_hex()), tidy(&p.name)))?;
        for asks in p.powers {
            let word = match asks.allowed {
                Some(true) => "allowed",
                Some(false) => "refused",
                None => "not asked yet",
            };
            let name = power_name(asks.power);
            line(format!("          {name} ({}): {word}", power_words(asks.power)))?;
        }
    }
    Ok(())
}

fn install(session: &Session, from: String) -> Result<()> {
    let by_link = from.trim().get(..9).is_some_and(|s| s.eq_ignore_ascii_case("teahouse:"));
    let ask = if by_link {
        Ask::Add { link: from }
    } else {
        Ask::Install { package: Blob(read(Path::new(&from))?) }
    };
    let Reply::Program { app } = submit(session, ask)? else { bail!("unexpected reply") };
    let here = || -> Result<Option<Row>> {
        Ok(session.ask(&OneProgram { app })?.filter(|p| p.package.is_some()))
    };
    let came = if session.online() { session.wait_for(FIRST, here)? } else { here()? };
    if session.json {
        return json(&json!({ "app": app, "here": came.is_some() }));
    }
    match came {
        Some(row) => {
            // By its id: a name is a stranger's text, and this is for a shell.
            let (name, id) = (tidy(&row.name), short(&app.to_hex()));
            line(format!("{name} is installed. Open it: teahouse program open {id}"))
        }
        None => {
            line("Noted. Nobody who has it has answered yet; it comes as soon as one does.")?;
            session.note("that needs one");
            Ok(())
        }
    }
}

fn power_name(power: Power) -> &'static str {
    match power {
        Power::Login => "login",
        Power::Storage => "storage",
        Power::State => "state",
        Power::Call => "call",
        Power::Pay => "pay",
        Power::Share => "share",
    }
}

fn allow(session: &Session, program: &str, power: &str, allowed: bool) -> Result<()> {
    let app = find(session, program)?;
    let Some(power) = Power::ALL.into_iter().find(|p| power_name(*p) == power) else {
        let all: Vec<&str> = Power::ALL.into_iter().map(power_name).collect();
        bail!("a power is one of {}", all.join(", "));
    };
    submit(session, Ask::Grant { app: app.app, power, allowed: Some(allowed) })?;
    let word = if allowed { "may" } else { "may not" };
    done(session, &format!("{} {word}: {}.", tidy(&app.name), power_words(power)))
}

impl Asker for &Session {
    fn submit(&self, command: Command) -> Result<Reply, PowerError> {
        Session::submit(self, command).map_err(|e| failed(&e))
    }

    fn ask<Q: Query>(&self, query: &Q) -> Result<Q::Out, PowerError> {
        Session::ask(self, query).map_err(|e| failed(&e))
    }
}

fn failed(error: &anyhow::Error) -> PowerError {
    if let Some(NodeError::Refused(refusal)) = error.downcast_ref() {
        return PowerError::refused(refusal);
    }
    if let Some(ClientError::Problem(problem)) = error.downcast_ref()
        && let Some(refusal) = &problem.refusal
    {
        return PowerError::refused(refusal);
    }
    PowerError::Failed(error.to_string())
}
