//! The command line. Commands attach to the node that runs on the data folder, else they
//! open the folder themselves.

mod account;
mod chat;
mod device;
mod feed;
mod functions;
mod group;
mod merchant;
mod moments;
mod pay;
mod people;
mod photo;
mod play;
mod program;
mod read;
mod relay;
mod resolve;
mod run;
mod session;
mod show;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};

use crate::config::{self, Role};
use crate::logging;
use session::{Need, Session};

/// Chats, groups and a community's relay, with nobody's permission.
#[derive(Debug, Parser)]
#[command(
    name = "teahouse",
    version,
    max_term_width = 100,
    after_help = "\
Getting started:
  teahouse init --name 'Li Wei'      make an account (write the 24 words down)
  teahouse run                       run the node; leave it running
  teahouse card --qr                 show this to a friend
  teahouse add teahouse:card/…       or use the friend's card
  teahouse send Bob 'good morning'
  teahouse read Bob --follow
  teahouse doctor                    why was something not delivered?

CHAT and WHO are names, the beginnings of names, or at least four digits of an id.
Logs go to standard error: RUST_LOG=info teahouse run"
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Cmd,
}

#[derive(Debug, Clone, Args)]
struct Global {
    /// The data folder [default: the user's data directory]
    #[arg(long, global = true, value_name = "DIR", env = "TEAHOUSE_DATA")]
    data: Option<PathBuf>,
    /// Answer in JSON
    #[arg(long, global = true)]
    json: bool,
    /// Forget unsynced writes when killed, as in a power cut (for tests)
    #[arg(long, global = true, hide = true)]
    lossy_disk: bool,
}

#[derive(Debug, Subcommand)]
enum Cmd {
    /// Make an account on this device, offline
    Init(account::Init),
    /// Run a node until stopped
    Run(run::Run),
    /// Show or change the name that others see
    Name(account::Name),
    /// Who I am, what is connected
    Status,
    /// Make a contact card for somebody
    Card(people::Card),
    /// Ask the owner of a card for contact, or join a community
    Add(people::Add),
    /// Who asks for contact; accept or decline
    Requests(people::Requests),
    /// Everybody known; remark, block, delete, verify
    Contacts(people::Contacts),
    /// The safety number with somebody
    Safety(people::Safety),
    /// List chats
    Chats(chat::Chats),
    /// Write a message
    Send(chat::Send),
    /// Read messages
    Read(read::Read),
    /// Put or take back a reaction
    React(chat::React),
    /// Take a message back
    Recall(chat::Recall),
    /// Send a message on to another chat
    Forward(chat::Forward),
    /// Let new messages disappear after a time
    Timer(chat::Timer),
    /// Take a chat off the list until somebody writes in it
    Hide(chat::Hide),
    /// Photos of messages
    #[command(subcommand)]
    Photo(photo::Photo),
    /// Groups
    #[command(subcommand)]
    Group(group::Group),
    Moments(moments::Moments),
    Feed(feed::Feed),
    Pay(pay::Pay),
    Wallet(pay::Wallet),
    Merchant(merchant::Merchant),
    Program(program::Program),
    /// Devices of this account
    #[command(subcommand)]
    Device(device::Device),
    /// Relays: use one, or run one
    #[command(subcommand)]
    Relay(relay::Relay),
    /// Derive every list again from the signed log
    Rebuild,
    /// Find out what is wrong, verdict first (exit code 0 fine, 1 warning, 2 trouble)
    Doctor,
}

/// Runs a command line, program name first. The desktop program calls this too.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(e) => {
            let help = matches!(e.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            let _ = e.print();
            return if help { ExitCode::SUCCESS } else { ExitCode::from(2) };
        }
    };
    logging::init();
    match cli.execute() {
        Ok(code) => code,
        Err(e) => {
            if is_broken_pipe(&e) {
                return ExitCode::SUCCESS;
            }
            eprintln!("teahouse: {e:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whoever read our output has gone, having seen enough (`read Bob | head -1`): no failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}

impl Cli {
    fn execute(self) -> Result<ExitCode> {
        let global = &self.global;
        match self.command {
            Cmd::Init(c) => c.execute(global)?,
            Cmd::Run(c) => c.execute(global)?,
            Cmd::Name(c) => c.execute(&global.session(Need::Account)?)?,
            Cmd::Status => account::status(&global.session(Need::Account)?)?,
            Cmd::Card(c) => c.execute(&global.session(Need::Account)?)?,
            Cmd::Add(c) => c.execute(&global.session(Need::Account)?)?,
            Cmd::Requests(c) => c.execute(&global.session(Need::Account)?)?,
            Cmd::Contacts(c) => c.execute(&global.session(Need::Account)?)?,
            Cmd::Safety(c) => c.execute(&global.session(Need::Account)?)?,
            Cmd::Chats(c) => c.execute(&global.session(Need::Account)?)?,
            Cmd::Send(c) => return c.execute(global),
            Cmd::Read(c) => c.execute(global)?,
            Cmd::React(c) => c.execute(&global.session(Need::Account)?)?,
            Cmd::Recall(c) => c.execute(&global.session(Need::Account)?)?,
            Cmd::Forward(c) => c.execute(&global.session(Need::Account)?)?,
            Cmd::Timer(c) => c.execute(&global.session(Need::Account)?)?,
            Cmd::Hide(c) => c.execute(&global.session(Need::Account)?)?,
            Cmd::Photo(c) => c.execute(global)?,
            Cmd::Group(c) => c.execute(&global.session(Need::Account)?)?,
            Cmd::Pay(c) => c.execute(&global.session(Need::Account)?)?,
            Cmd::Wallet(c) => c.execute(&global.session(Need::Account)?)?,
            Cmd::Merchant(c) => c.execute(&global.session(Need::Account)?)?,
            Cmd::Feed(c) => {
                let session = global.session(c.need())?;
                c.execute(&session)?;
            }
            Cmd::Moments(c) => {
                let session = global.session(c.need())?;
                c.execute(&session)?;
            }
            Cmd::Program(c) => c.execute(global)?,
            Cmd::Device(c) => c.execute(global)?,
            Cmd::Relay(c) => c.execute(global)?,
            Cmd::Rebuild => account::rebuild(&global.session(Need::Account)?)?,
            Cmd::Doctor => return account::doctor(global),
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Global {
    fn data(&self, role: Role) -> Result<PathBuf> {
        Ok(config::data_dir(self.data.clone(), role)?)
    }

    fn session(&self, need: Need) -> Result<Session> {
        Session::open(self, need)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_account_is_made_and_used_without_a_node() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("tea").display().to_string();
        let code = |args: &[&str]| {
            let all = ["teahouse", "--data", &dir].into_iter().chain(args.iter().copied());
            run(all.map(OsString::from))
        };
        assert_eq!(code(&["init", "--name", "Ada"]), ExitCode::SUCCESS);
        assert_eq!(code(&["init", "--name", "Ada"]), ExitCode::FAILURE, "once");
        assert_eq!(code(&["name", "Ada Lovelace"]), ExitCode::SUCCESS);
        assert_eq!(code(&["name", " "]), ExitCode::FAILURE, "no name at all");
        assert_eq!(code(&["name"]), ExitCode::SUCCESS);
        assert_eq!(code(&["group", "create", " "]), ExitCode::FAILURE, "no title");
        assert_eq!(code(&["group", "create", "Book club"]), ExitCode::SUCCESS);
        assert_eq!(code(&["read", "book"]), ExitCode::SUCCESS, "nothing yet");
        assert_eq!(code(&["send", "book", " \n"]), ExitCode::FAILURE, "only spaces");
        assert_eq!(code(&["send", "book", "good morning"]), ExitCode::SUCCESS);
        assert_eq!(code(&["react", "book", "last", "👍"]), ExitCode::SUCCESS);
        assert_eq!(code(&["--json", "read", "BOOK"]), ExitCode::SUCCESS);
        assert_eq!(code(&["send", "nobody", "hello"]), ExitCode::FAILURE);
        assert_eq!(code(&["card", "--qr"]), ExitCode::SUCCESS);
        assert_eq!(code(&["card", "--uses", "0"]), ExitCode::from(2), "a card for nobody");
        assert_eq!(code(&["send", "book", "indeed", "--reply-to", "last"]), ExitCode::SUCCESS);
        let picture = format!("{dir}/../tea.png");
        image::RgbImage::new(8, 6).save(&picture).unwrap();
        assert_eq!(code(&["send", "book", "--photo", &picture]), ExitCode::SUCCESS, "alone");
        assert_eq!(code(&["send", "book", "tea", "--photo", &picture]), ExitCode::SUCCESS);
        assert_eq!(code(&["send", "book", "--photo", &dir]), ExitCode::FAILURE, "a folder");
        assert_eq!(code(&["read", "book"]), ExitCode::SUCCESS);
        assert_eq!(code(&["moments", "post", "--photo", &picture]), ExitCode::SUCCESS);
        assert_eq!(code(&["moments"]), ExitCode::SUCCESS);
        assert_eq!(code(&["group", "rename", "book", "Books"]), ExitCode::SUCCESS);
        assert_eq!(code(&["read", "books"]), ExitCode::SUCCESS);
        assert_eq!(code(&["group", "leave", "books"]), ExitCode::SUCCESS, "off the list");
        assert_eq!(code(&["chats"]), ExitCode::SUCCESS);
        assert_eq!(code(&["read", "books"]), ExitCode::SUCCESS, "and still there");
        assert_eq!(code(&["wallet"]), ExitCode::SUCCESS);
        assert_eq!(code(&["merchant", "product", "list"]), ExitCode::SUCCESS);
        assert_eq!(code(&["merchant", "product", "add", "tea", "1"]), ExitCode::FAILURE);
        let open = ["merchant", "open", "--currency", "EUR", "--name", "Tea"];
        assert_eq!(code(&open), ExitCode::SUCCESS);
        assert_eq!(code(&["merchant", "product", "add", "tea", "3.5", "--qr"]), ExitCode::SUCCESS);
        assert_eq!(code(&["merchant", "product", "add", "tea", "3.501"]), ExitCode::FAILURE);
        let who = "11".repeat(32);
        assert_eq!(code(&["merchant", "create-value", &who, "20.00"]), ExitCode::SUCCESS);
        assert_eq!(code(&["merchant", "create-value", "nobody", "20"]), ExitCode::FAILURE);
        assert_eq!(code(&["merchant", "orders"]), ExitCode::SUCCESS);
        assert_eq!(code(&["wallet", "verify", "teahouse:receipt/aa"]), ExitCode::FAILURE);
        assert_eq!(code(&["rebuild"]), ExitCode::SUCCESS);
        assert_eq!(code(&["doctor"]), ExitCode::from(1), "no node runs");
        assert_eq!(code(&["relay", "status"]), ExitCode::FAILURE, "no relay here");
    }

    #[test]
    fn wrong_use_is_told_by_the_exit_code() {
        let code = |args: &[&str]| run(args.iter().map(OsString::from));
        assert_eq!(code(&["teahouse", "no-such-thing"]), ExitCode::from(2));
        assert_eq!(code(&["teahouse", "--help"]), ExitCode::SUCCESS);
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("nothing").display().to_string();
        assert_eq!(code(&["teahouse", "--data", &dir, "chats"]), ExitCode::FAILURE);
        assert!(!std::path::Path::new(&dir).exists(), "looking makes no folder");
    }
}
