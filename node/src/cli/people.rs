//! `card`, `add`, `requests`, `contacts`, `safety`.

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde_json::json;
use teahouse_core::command::{Command, Contacts as Ask, Reply};
use teahouse_core::view::{ChatState, ContactState};

use super::relay::used;
use super::resolve;
use super::session::Session;
use super::show::{json, line, qr, short, tidy};

/// Make a contact card for somebody.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  teahouse card --qr                       for somebody beside you
  teahouse card --uses 50                  for a web page
  teahouse card --welcome-to 'Book club'   accept whoever comes, into this group
  teahouse card --revoke teahouse:card/…   make an old card worthless")]
pub(super) struct Card {
    /// How many people may use it without waiting
    #[arg(long, default_value_t = 10, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    uses: u32,
    /// Draw it as a QR code too
    #[arg(long)]
    qr: bool,
    /// Accept whoever comes with it, and bring them into this group
    #[arg(long, value_name = "GROUP")]
    welcome_to: Option<String>,
    /// Revoke this card instead of making one
    #[arg(long, value_name = "LINK", conflicts_with_all = ["qr", "welcome_to"])]
    revoke: Option<String>,
}

impl Card {
    pub(super) fn execute(self, session: &Session) -> Result<()> {
        if let Some(link) = self.revoke {
            session.submit(Command::Contacts(Ask::RevokeCard { link }))?;
            return done(session, "That card is worthless now.");
        }
        let group = self.welcome_to.map(|g| resolve::group(session, &g)).transpose()?;
        let welcome_to = group.map(|g| g.topic);
        let ask = Ask::Card { uses: self.uses, welcome_to };
        let Reply::Card { link } = session.submit(Command::Contacts(ask))? else {
            bail!("unexpected reply")
        };
        if session.json {
            return json(&json!({ "link": link }));
        }
        if self.qr {
            line(qr(&link)?)?;
        }
        line(&link)?;
        session.note("whoever uses the card waits until one does");
        Ok(())
    }
}

/// Ask the owner of a card for contact, or join a community by its relay's invite.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  teahouse add teahouse:card/… --greeting 'Ada from the book club'
  teahouse add teahouse:relay/…       uses the relay and asks its greeter for contact")]
pub(super) struct Add {
    /// teahouse:card/… or teahouse:relay/…
    link: String,
    /// A word to the owner
    #[arg(long, default_value = "", value_name = "TEXT")]
    greeting: String,
}

impl Add {
    pub(super) fn execute(self, session: &Session) -> Result<()> {
        let ask = Ask::Add { link: self.link, greeting: self.greeting };
        let reply = session.submit(Command::Contacts(ask))?;
        if session.json {
            return json(&reply);
        }
        let Reply::Added { account, topic, relay } = reply else { bail!("unexpected reply") };
        if let Some(relay) = relay {
            used(session, relay)?;
        }
        if let Some(account) = account {
            let contacts = session.contacts()?;
            let contact = contacts.iter().find(|c| c.account == account);
            let name = contact.map_or_else(|| short(&account.to_hex()), |c| tidy(&c.name));
            let open = session
                .chats()?
                .iter()
                .any(|c| Some(c.topic) == topic && c.state == ChatState::Active);
            let said = match contact.map(|c| c.state) {
                Some(ContactState::Friend) => format!("{name} is a contact."),
                _ if open => format!("{name} is a contact."),
                _ => format!(
                    "A request to {name} leaves as soon as it can; the chat opens when they accept."
                ),
            };
            line(said)?;
        }
        session.note_offline();
        Ok(())
    }
}

/// Who asks for contact; accept or decline.
#[derive(Debug, Args)]
pub(super) struct Requests {
    #[command(subcommand)]
    answer: Option<Answer>,
}

#[derive(Debug, Subcommand)]
enum Answer {
    /// Become contacts
    Accept {
        /// Who asked
        who: String,
    },
    /// Say no, silently
    Decline {
        /// Who asked
        who: String,
    },
}

impl Requests {
    pub(super) fn execute(self, session: &Session) -> Result<()> {
        match self.answer {
            None => {
                let requests = session.requests()?;
                if session.json {
                    return json(&requests);
                }
                if requests.is_empty() {
                    return line("Nobody asks for contact.");
                }
                for r in requests {
                    let (id, name) = (short(&r.account.to_hex()), tidy(&r.name));
                    line(format!("{id}  {name}: {}", tidy(&r.greeting)))?;
                }
                line("\nteahouse requests accept WHO, or decline WHO")
            }
            Some(Answer::Accept { who }) => {
                let request = resolve::request(session, &who)?;
                let account = request.account;
                let reply = session.submit(Command::Contacts(Ask::Accept { account }))?;
                if session.json {
                    return json(&reply);
                }
                line(format!("{} is a contact now.", tidy(&request.name)))?;
                session.note_offline();
                Ok(())
            }
            Some(Answer::Decline { who }) => {
                let request = resolve::request(session, &who)?;
                let account = request.account;
                session.submit(Command::Contacts(Ask::Decline { account }))?;
                done(session, &format!("{} was declined, and is not told.", tidy(&request.name)))
            }
        }
    }
}

/// Everybody known; remark, block, delete, verify.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  teahouse contacts
  teahouse contacts remark Bob 'Bob (plumber)'
  teahouse contacts verify Bob        after comparing `teahouse safety Bob`")]
pub(super) struct Contacts {
    #[command(subcommand)]
    change: Option<Change>,
}

#[derive(Debug, Subcommand)]
enum Change {
    /// Call somebody something else; empty for their own name
    Remark {
        /// Whom
        who: String,
        /// The name
        name: String,
    },
    /// Neither hear from them nor write to them; what they send meanwhile shows after
    /// `unblock`. What they write in groups is still shown
    Block {
        /// Whom
        who: String,
    },
    /// Undo a block
    Unblock {
        /// Whom
        who: String,
    },
    /// Remove from contacts. The chat stays, and they can still write in it: block them to
    /// stop that
    Delete {
        /// Whom
        who: String,
    },
    /// The safety number was compared and is the same
    Verify {
        /// With whom
        who: String,
        /// It was not the same after all
        #[arg(long)]
        undo: bool,
    },
}

impl Contacts {
    pub(super) fn execute(self, session: &Session) -> Result<()> {
        let Some(change) = self.change else { return list(session) };
        let who = match &change {
            Change::Remark { who, .. }
            | Change::Block { who }
            | Change::Unblock { who }
            | Change::Delete { who }
            | Change::Verify { who, .. } => who,
        };
        let contact = resolve::contact(session, who)?;
        let (account, called) = (contact.account, tidy(&contact.name));
        let (ask, said) = match change {
            Change::Remark { name, .. } => {
                (Ask::Remark { account, name }, "The remark is kept.".to_owned())
            }
            Change::Block { .. } => (Ask::Block { account }, format!("{called} is blocked.")),
            Change::Unblock { .. } => {
                (Ask::Unblock { account }, format!("{called} is no longer blocked."))
            }
            Change::Delete { .. } => {
                (Ask::Delete { account }, format!("{called} is no longer a contact."))
            }
            Change::Verify { undo, .. } => {
                let said = if undo { "not verified" } else { "verified" };
                (Ask::Verify { account, verified: !undo }, format!("{called} is {said}."))
            }
        };
        session.submit(Command::Contacts(ask))?;
        done(session, &said)
    }
}

fn list(session: &Session) -> Result<()> {
    let contacts = session.contacts()?;
    if session.json {
        return json(&contacts);
    }
    if contacts.is_empty() {
        return line(
            "Nobody yet. Show somebody `teahouse card --qr`, or use theirs: teahouse add LINK",
        );
    }
    for c in contacts {
        let mut words = vec![match c.state {
            ContactState::Requested => "asked, no answer yet",
            ContactState::Asking => "asks for contact",
            ContactState::Friend => "contact",
            ContactState::Blocked => "blocked",
            ContactState::Known if c.topic.is_some() => "no longer a contact",
            ContactState::Known => "from a group",
        }];
        words.extend(c.verified.then_some("verified"));
        words.extend(c.disputed.then_some("DISPUTED: trust nothing new until a fresh card"));
        let mut name = tidy(&c.name);
        if c.own_name != c.name {
            name = format!("{name} ({})", tidy(&c.own_name));
        }
        line(format!("{}  {name}  {}", short(&c.account.to_hex()), words.join(", ")))?;
    }
    Ok(())
}

/// The safety number with somebody.
#[derive(Debug, Args)]
#[command(after_help = "\
Compare it with what they see, in person or by telephone. If it is the same, nobody sits
between you: teahouse contacts verify WHO")]
pub(super) struct Safety {
    /// With whom
    who: String,
}

impl Safety {
    pub(super) fn execute(self, session: &Session) -> Result<()> {
        let contact = resolve::contact(session, &self.who)?;
        let number = session.safety(contact.account)?;
        if session.json {
            return json(&json!({
                "account": contact.account, "number": number, "verified": contact.verified,
            }));
        }
        line(&number)?;
        let state = if contact.verified { "compared before" } else { "not compared yet" };
        line(format!("with {}, {state}", tidy(&contact.name)))
    }
}

/// Says that it is done, in words or in JSON.
pub(super) fn done(session: &Session, words: &str) -> Result<()> {
    if session.json {
        return json(&Reply::Done);
    }
    line(words)
}
