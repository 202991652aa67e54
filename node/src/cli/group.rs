//! `group …`.

use anyhow::{Result, bail};
use clap::{Subcommand, ValueEnum};
use teahouse_core::command::{Chat, Command, Groups as Ask, Reply};
use teahouse_core::view::ChatState;
use teahouse_protocols::membership;

use super::people::done;
use super::resolve;
use super::session::Session;
use super::show::{json, line, short, tidy};

/// Groups.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  teahouse group create 'Book club' Ada Bob
  teahouse group invite 'Book club' Carol
  teahouse group remove book Bob
  teahouse group role book Ada admin
  teahouse send book 'see you on Friday'")]
pub(super) enum Group {
    /// Make a group
    Create {
        /// Its title
        title: String,
        /// Contacts to invite
        members: Vec<String>,
        /// Whoever joins later doesn't get the earlier messages
        #[arg(long)]
        no_history: bool,
    },
    /// Invite a contact
    Invite {
        /// The group
        group: String,
        /// Whom
        who: String,
    },
    /// Remove a member: they read nothing that comes later, unless they are invited again
    /// (see `group history`)
    Remove {
        /// The group
        group: String,
        /// Whom
        who: String,
    },
    /// Leave; or, where nobody else is in it, take it off the list
    Leave {
        /// The group
        group: String,
    },
    /// Give a role
    Role {
        /// The group
        group: String,
        /// To whom
        who: String,
        /// Which
        role: Role,
    },
    /// Give it another title
    Rename {
        /// The group
        group: String,
        /// The title
        title: String,
    },
    /// Show or set the notice
    Notice {
        /// The group
        group: String,
        /// The new text; '' for none. Without it the notice is shown
        text: Option<String>,
    },
    /// My own name in this group
    Nick {
        /// The group
        group: String,
        /// The name; '' for the usual one
        name: String,
    },
    /// Who is in it
    Members {
        /// The group
        group: String,
    },
    /// Whether later joiners get the earlier messages
    History {
        /// The group
        group: String,
        /// Yes or no
        share: Share,
    },
}

/// A role.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Role {
    /// Writes
    Member,
    /// Also adds and removes members
    Admin,
    /// Everything
    Owner,
}

/// Whether later joiners get the earlier messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Share {
    /// They do
    Share,
    /// They begin with what comes
    Hide,
}

impl Group {
    pub(super) fn execute(self, session: &Session) -> Result<()> {
        let group = |text: &str| resolve::group(session, text);
        let (ask, words) = match self {
            Self::Create { title, members, no_history } => {
                return create(session, title, &members, !no_history);
            }
            Self::Members { group } => return members(session, &group),
            Self::Notice { group: text, text: None } => {
                let group = group(&text)?;
                return if session.json { json(&group.notice) } else { line(tidy(&group.notice)) };
            }
            Self::Notice { group: g, text: Some(text) } => {
                (Ask::Notice { topic: group(&g)?.topic, text }, "The notice is set.".to_owned())
            }
            Self::Invite { group: g, who } => {
                let (g, who) = (group(&g)?, resolve::contact(session, &who)?);
                let said = format!("{} is in “{}”.", tidy(&who.name), tidy(&g.title));
                (Ask::Invite { topic: g.topic, account: who.account }, said)
            }
            Self::Remove { group: g, who } => {
                let topic = group(&g)?.topic;
                let account = resolve::member(session, topic, &who)?;
                (Ask::Remove { topic, account }, "Removed; the keys are new.".to_owned())
            }
            Self::Leave { group: g } => {
                let g = group(&g)?;
                if g.members == 1 && g.state == ChatState::Active {
                    session.submit(Command::Chat(Chat::Hide { topic: g.topic }))?;
                    let said = "Nobody else is in it: it is off your list. Its messages stay here.";
                    return done(session, said);
                }
                (Ask::Leave { topic: g.topic }, "Left.".to_owned())
            }
            Self::Role { group: g, who, role } => {
                let topic = group(&g)?.topic;
                let account = resolve::member(session, topic, &who)?;
                let role = match role {
                    Role::Member => membership::Role::Member,
                    Role::Admin => membership::Role::Admin,
                    Role::Owner => membership::Role::Owner,
                };
                (Ask::SetRole { topic, account, role }, "The role is given.".to_owned())
            }
            Self::Rename { group: g, title } => {
                (Ask::Rename { topic: group(&g)?.topic, title }, "Renamed.".to_owned())
            }
            Self::Nick { group: g, name } => {
                (Ask::Nickname { topic: group(&g)?.topic, name }, "The name is set.".to_owned())
            }
            Self::History { group: g, share } => {
                let share = share == Share::Share;
                let said = if share { "get" } else { "don't get" };
                let said = format!("Later joiners {said} the earlier messages.");
                (Ask::ShareHistory { topic: group(&g)?.topic, share }, said)
            }
        };
        session.submit(Command::Groups(ask))?;
        done(session, &words)?;
        session.note_offline();
        Ok(())
    }
}

fn create(session: &Session, title: String, members: &[String], share_history: bool) -> Result<()> {
    let members: Result<Vec<_>> =
        members.iter().map(|who| Ok(resolve::contact(session, who)?.account)).collect();
    let said = tidy(&title);
    let ask = Ask::Create { title, members: members?, share_history };
    let reply = session.submit(Command::Groups(ask))?;
    if session.json {
        return json(&reply);
    }
    let Reply::Topic { topic } = reply else { bail!("unexpected reply") };
    line(format!("Created “{said}” ({}).", short(&topic.to_hex())))?;
    session.note_offline();
    Ok(())
}

fn members(session: &Session, group: &str) -> Result<()> {
    // A direct chat has members too.
    let chat = resolve::chat(session, group)?;
    let members = session.members(chat.topic)?;
    if session.json {
        return json(&members);
    }
    for m in members {
        let role = match m.role {
            membership::Role::Member => "",
            membership::Role::Admin => "  admin",
            membership::Role::Owner => "  owner",
        };
        let me = if m.me { "  (me)" } else { "" };
        line(format!("{}  {}{role}{me}", short(&m.account.to_hex()), tidy(&m.name)))?;
    }
    Ok(())
}
