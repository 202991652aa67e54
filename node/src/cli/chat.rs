//! `chats`, `send`, `react`, `recall`, `forward`, `timer`, `hide`.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde_json::json;
use teahouse_core::command::{Chat as Ask, Command, MessageId, Reply};
use teahouse_core::{query, view};
use teahouse_protocols::envelope::MAX_BODY_PLAIN;

use super::Global;
use super::people::done;
use super::photo;
use super::resolve;
use super::session::{Need, Session};
use super::show::{bytes, json, line, short, short_message, tidy};

/// Letters of a message in the list of chats.
const PREVIEW: usize = 60;

/// List chats, the newest first.
#[derive(Debug, Args)]
pub(super) struct Chats {
    /// Those that were taken off the list, too
    #[arg(long)]
    all: bool,
}

impl Chats {
    pub(super) fn execute(self, session: &Session) -> Result<()> {
        let mut chats = session.chats()?;
        if session.json {
            return json(&chats);
        }
        let known = chats.len();
        chats.retain(|c| self.all || !c.hidden);
        match (known, known - chats.len()) {
            (0, _) => line("No chats yet. Add somebody (`teahouse add LINK`) or make a group."),
            (_, 0) => list(&chats),
            (_, n) => {
                list(&chats)?;
                line(format!("{n} more off the list: teahouse chats --all"))
            }
        }
    }
}

fn list(chats: &[view::Chat]) -> Result<()> {
    for c in chats {
        let mut words = Vec::new();
        if c.kind == view::ChatKind::Group {
            words.push(match c.members {
                1 => "1 member".into(),
                n => format!("{n} members"),
            });
        }
        match c.state {
            view::ChatState::Active => {}
            view::ChatState::Requested => words.push("not accepted yet".into()),
            view::ChatState::Left => words.push("no longer in it".into()),
            view::ChatState::Blocked => words.push("blocked".into()),
        }
        if c.unread > 0 {
            // That many are counted.
            let more = if c.unread >= query::MAX_UNREAD { "+" } else { "" };
            words.push(format!("{}{more} unread", c.unread));
        }
        let words =
            if words.is_empty() { String::new() } else { format!(" ({})", words.join(", ")) };
        let preview = match c.delivery {
            Some(d) => format!("me: {} ({})", preview(c), d.words()),
            None if c.kind == view::ChatKind::Group && !c.preview_by.is_empty() => {
                format!("{}: {}", tidy(&c.preview_by), preview(c))
            }
            None => preview(c),
        };
        let id = short(&c.topic.to_hex());
        line(format!("{id}  {}{words}  {preview}", tidy(&c.title)))?;
    }
    Ok(())
}

/// The beginning of the newest message.
fn preview(chat: &view::Chat) -> String {
    let text = tidy(&chat.preview);
    let short: String = text.chars().take(PREVIEW).collect();
    if short.len() < text.len() { short + "…" } else { short }
}

/// Write a message.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  teahouse send Bob 'good morning'
  date | teahouse send Bob -
  teahouse send Bob 'the garden' --photo one.jpg --photo two.jpg
  teahouse send Bob yes --reply-to last
  teahouse send Bob 'are you there?' --wait delivered --timeout 60

queued: durable on this device. relayed: a relay has it. delivered: a device of the
recipient signed for it; in a group, one of every member. What another device of yours
sent says so, until somebody signed for it.")]
pub(super) struct Send {
    /// To whom, or into which group
    chat: String,
    /// The text; - to read it from standard input
    #[arg(required_unless_present = "photo")]
    text: Option<String>,
    /// A photo to send with it or alone: JPEG, PNG, WebP or GIF (may be repeated)
    #[arg(long, value_name = "FILE", conflicts_with = "mention")]
    photo: Vec<PathBuf>,
    /// The message this answers: `last`, or as `read` shows it
    #[arg(long, value_name = "MESSAGE")]
    reply_to: Option<String>,
    /// Mention a member of the group (may be repeated)
    #[arg(long, value_name = "WHO")]
    mention: Vec<String>,
    /// Wait until it got this far
    #[arg(long, value_enum, value_name = "STATE")]
    wait: Option<Wait>,
    /// How many seconds to wait
    #[arg(long, default_value_t = 30, value_name = "S")]
    timeout: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Wait {
    /// A device of each recipient has it
    Delivered,
    /// A relay (or a recipient) has it
    Relayed,
}

impl Wait {
    const fn reached(self, d: &view::Delivery) -> bool {
        let delivered = d.delivered >= d.recipients;
        match self {
            Self::Delivered => delivered,
            Self::Relayed => delivered || d.relayed > 0,
        }
    }
}

impl Send {
    pub(super) fn execute(self, global: &Global) -> Result<ExitCode> {
        let need = if self.wait.is_some() { Need::Network } else { Need::Account };
        let session = &global.session(need)?;
        let chat = resolve::chat(session, &self.chat)?;
        let topic = chat.topic;
        let mut text = self.text.unwrap_or_default();
        if text == "-" {
            text.clear();
            std::io::stdin().lock().read_to_string(&mut text).context("standard input")?;
            text.truncate(text.trim_end_matches(['\r', '\n']).len());
        }
        if text.trim().is_empty() && self.photo.is_empty() {
            bail!("a message says something: this one is empty");
        }
        if text.len() > MAX_BODY_PLAIN {
            bail!("a message has at most 64 KiB: this one has {}", bytes(text.len() as u64));
        }
        let reply_to = self.reply_to.map(|m| resolve::message(session, topic, &m)).transpose()?;
        let mentions: Result<_> =
            self.mention.iter().map(|who| resolve::member(session, topic, who)).collect();
        let send = if self.photo.is_empty() {
            Ask::Send { topic, text, reply_to, mentions: mentions? }
        } else {
            let photos = photo::take_in(session, &self.photo)?;
            let text = text.trim_end().to_owned();
            Ask::SendPhotos { topic, text, photos, reply_to }
        };
        let id = sent(session.submit(Command::Chat(send))?)?;

        let mut view = session.message(topic, id)?;
        let mut in_time = true;
        if let Some(wait) = self.wait {
            let within = Duration::from_secs(self.timeout);
            let reached = session.wait_for(within, || {
                view = session.message(topic, id)?;
                Ok(view.delivery.is_none_or(|d| wait.reached(&d)).then_some(()))
            })?;
            in_time = reached.is_some();
        }
        let state = view.delivery.map_or_else(|| "queued".into(), |d| d.words());
        if session.json {
            json(&view)?;
        } else {
            line(format!("{} → {}: {state}", short_message(&id), tidy(&chat.title)))?;
            session.note_offline();
        }
        if in_time {
            return Ok(ExitCode::SUCCESS);
        }
        bail!("still {state} after {} s: `teahouse doctor` says why", self.timeout)
    }
}

/// Put or take back a reaction.
#[derive(Debug, Args)]
#[command(after_help = "Example: teahouse react Bob last 👍")]
pub(super) struct React {
    /// The chat
    chat: String,
    /// `last`, or as `read` shows it
    message: String,
    /// An emoji
    emoji: String,
    /// Take it back
    #[arg(long)]
    off: bool,
}

impl React {
    pub(super) fn execute(self, session: &Session) -> Result<()> {
        let topic = resolve::chat(session, &self.chat)?.topic;
        let message = resolve::message(session, topic, &self.message)?;
        let react = Ask::React { topic, message, emoji: self.emoji, on: !self.off };
        session.submit(Command::Chat(react))?;
        done(session, "Done.")?;
        session.note_offline();
        Ok(())
    }
}

/// Take a message back: one's own, or as an admin hide another's.
#[derive(Debug, Args)]
#[command(after_help = "\
Example: teahouse recall Bob 3fa92c10:17

It is a request: whoever has read the message has read it.")]
pub(super) struct Recall {
    /// The chat
    chat: String,
    /// `last` (the newest of your own), or as `read` shows it
    message: String,
}

impl Recall {
    pub(super) fn execute(self, session: &Session) -> Result<()> {
        let topic = resolve::chat(session, &self.chat)?.topic;
        let message = resolve::own_message(session, topic, &self.message)?;
        let mine = session.message(topic, message)?.mine;
        session.submit(Command::Chat(Ask::Recall { topic, message }))?;
        done(session, if mine { "Taken back." } else { "Hidden for everybody." })?;
        session.note_offline();
        Ok(())
    }
}

/// Send a message on to another chat.
#[derive(Debug, Args)]
#[command(after_help = "Example: teahouse forward Bob last 'Book club'")]
pub(super) struct Forward {
    /// From this chat
    chat: String,
    /// `last`, or as `read` shows it
    message: String,
    /// To this chat
    to: String,
}

impl Forward {
    pub(super) fn execute(self, session: &Session) -> Result<()> {
        let from = resolve::chat(session, &self.chat)?.topic;
        let message = resolve::message(session, from, &self.message)?;
        let to = resolve::chat(session, &self.to)?;
        let forward = Ask::Forward { from, message, to: to.topic };
        let reply = session.submit(Command::Chat(forward))?;
        if session.json {
            return json(&reply);
        }
        line(format!("{} → {}", short_message(&sent(reply)?), tidy(&to.title)))?;
        session.note_offline();
        Ok(())
    }
}

/// Let new messages disappear after a time.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  teahouse timer Bob 86400     after a day
  teahouse timer Bob 0         never")]
pub(super) struct Timer {
    /// The chat
    chat: String,
    /// Seconds; 0 for never
    seconds: u32,
}

impl Timer {
    pub(super) fn execute(self, session: &Session) -> Result<()> {
        let topic = resolve::chat(session, &self.chat)?.topic;
        session.submit(Command::Chat(Ask::Timer { topic, seconds: self.seconds }))?;
        let words = match self.seconds {
            0 => "New messages stay.".to_owned(),
            n => format!("New messages disappear after {}.", view::duration(n)),
        };
        done(session, &words)
    }
}

/// Take a chat off the list until somebody writes in it.
#[derive(Debug, Args)]
#[command(after_help = "\
Its messages stay on this device; `teahouse chats --all` lists it, and `read` and `send`
find it by its name.")]
pub(super) struct Hide {
    /// The chat
    chat: String,
}

impl Hide {
    pub(super) fn execute(self, session: &Session) -> Result<()> {
        let chat = resolve::chat(session, &self.chat)?;
        session.submit(Command::Chat(Ask::Hide { topic: chat.topic }))?;
        done(session, "It is off the list until somebody writes in it.")
    }
}

fn sent(reply: Reply) -> Result<MessageId> {
    match reply {
        Reply::Message { message, .. } => Ok(message),
        other => bail!("unexpected reply: {}", json!(other)),
    }
}
