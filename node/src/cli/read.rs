//! `read`: a conversation as it stands, and what comes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use teahouse_core::command::{Chat as Ask, Command, MessageId};
use teahouse_core::view;
use teahouse_protocols::ids::{Millis, TopicId};

use super::Global;
use super::photo;
use super::resolve;
use super::session::{Need, Session};
use super::show::{self, json, json_line, line, tidy};
use crate::api::{MAX_MESSAGES, Place};

/// Messages whose later changes `read --follow` notices.
const FOLLOWED: usize = MAX_MESSAGES;

/// Letters of a message that an answer quotes.
const QUOTED: usize = 40;

/// Read messages.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  teahouse read Bob                 the newest messages, marked as read
  teahouse read Bob --follow        and what comes, until ctrl-c
  teahouse read Bob --limit 1000 --json

Each message ends with its [id], which --reply-to, react, recall and forward take.
Times are UTC.")]
pub(super) struct Read {
    /// Whose chat, or which group
    chat: String,
    /// Go on with what comes
    #[arg(long, short)]
    follow: bool,
    /// How many messages
    #[arg(long, default_value_t = 30, value_name = "N")]
    limit: usize,
    /// Don't mark them as read
    #[arg(long)]
    peek: bool,
}

impl Read {
    pub(super) fn execute(self, global: &Global) -> Result<()> {
        let need = if self.follow { Need::Network } else { Need::Account };
        let session = &global.session(need)?;
        let chat = resolve::chat(session, &self.chat)?;
        // Before the first read: nothing falls in between.
        let changes = self.follow.then(|| session.changes()).transpose()?;
        let (messages, whole) = newest(session, chat.topic, self.limit)?;
        if session.json && !self.follow {
            json(&messages)?;
        }
        // What happened before the first message that is shown is not asked for.
        let since = messages.first().filter(|_| !whole).map_or(0, |m| m.time);
        let mut printer = Printer::new(session, &chat, since);
        if self.follow || !session.json {
            printer.print(&messages)?;
            if !printer.printed && !session.json {
                line("No messages yet.")?;
            }
        }
        let mark = |unread: bool| -> Result<()> {
            if unread && !self.peek {
                session.submit(Command::Chat(Ask::MarkRead { topic: chat.topic }))?;
            }
            Ok(())
        };
        mark(chat.unread > 0)?;
        let Some(mut changes) = changes else { return Ok(()) };

        // What is older than what was shown was not asked for.
        let known = session.messages(chat.topic, None, FOLLOWED)?;
        let mut shown: BTreeSet<MessageId> = messages.iter().map(|m| m.id).collect();
        let oldest = messages.first().map(|m| (m.time, m.id));
        let mut seen: BTreeMap<MessageId, view::Message> = known
            .into_iter()
            .filter(|m| oldest.is_none_or(|oldest| (m.time, m.id) < oldest))
            .map(|m| (m.id, m))
            .collect();
        seen.extend(messages.into_iter().map(|m| (m.id, m)));
        loop {
            changes.wait(Duration::from_secs(30))?;
            let page = session.messages(chat.topic, None, FOLLOWED)?;
            let mut unread = false;
            let mut news = Vec::new();
            for m in &page {
                let before = seen.insert(m.id, m.clone());
                if !session.json
                    && shown.contains(&m.id)
                    && let Some(delivery) = m.delivery
                    && before
                        .as_ref()
                        .is_some_and(|b| b.delivery.is_some_and(|b| b.words() != delivery.words()))
                {
                    got_further(m, &delivery)?;
                }
                let worth = match &before {
                    None => true,
                    Some(before) if session.json => shown.contains(&m.id) && before != m,
                    Some(before) => shown.contains(&m.id) && before.content != m.content,
                };
                if worth {
                    shown.insert(m.id);
                    news.push(m.clone());
                }
                unread |= before.is_none() && !m.mine;
            }
            printer.print(&news)?;
            // What has scrolled out is not looked at again.
            let ids: BTreeSet<_> = page.iter().map(|m| m.id).collect();
            seen.retain(|id, _| ids.contains(id));
            shown.retain(|id| ids.contains(id));
            mark(unread)?;
        }
    }
}

/// The newest messages, page by page, oldest first; and whether these are all.
fn newest(session: &Session, topic: TopicId, limit: usize) -> Result<(Vec<view::Message>, bool)> {
    let mut all: VecDeque<view::Message> = VecDeque::new();
    while all.len() < limit {
        let before = all.front().map(|m| Place(m.time, m.id));
        let want = (limit - all.len()).min(MAX_MESSAGES);
        let page = session.messages(topic, before, want)?;
        let short = page.len() < want;
        for m in page.into_iter().rev() {
            all.push_front(m);
        }
        if short {
            return Ok((all.into(), true));
        }
    }
    Ok((all.into(), false))
}

/// Prints a conversation: messages, and what happened between them.
struct Printer<'s> {
    session: &'s Session,
    topic: TopicId,
    /// Whether what happened is told.
    events: bool,
    day: String,
    /// From when on events are told, and which of that moment were.
    since: Millis,
    told: Vec<view::Event>,
    /// Whether anything was printed.
    printed: bool,
}

impl<'s> Printer<'s> {
    fn new(session: &'s Session, chat: &view::Chat, since: Millis) -> Self {
        Self {
            session,
            topic: chat.topic,
            events: !session.json,
            day: String::new(),
            since,
            told: Vec::new(),
            printed: false,
        }
    }

    fn print(&mut self, messages: &[view::Message]) -> Result<()> {
        let mut events: VecDeque<view::Event> = VecDeque::new();
        if self.events {
            events.extend(self.session.happened(self.topic, self.since)?);
            events.retain(|e| !self.told.contains(e));
        }
        for m in messages {
            while let Some(event) = events.pop_front_if(|e| e.time <= m.time) {
                self.event(event)?;
            }
            self.message(m)?;
        }
        for event in events {
            self.event(event)?;
        }
        Ok(())
    }

    fn event(&mut self, event: view::Event) -> Result<()> {
        self.day(event.time)?;
        let (_, minute) = show::day_and_minute(event.time);
        line(format!("{minute}  · {}", tidy(&event.words())))?;
        if event.time > self.since {
            self.since = event.time;
            self.told.clear();
        }
        self.told.push(event);
        Ok(())
    }

    fn message(&mut self, m: &view::Message) -> Result<()> {
        self.printed = true;
        if self.session.json {
            return json_line(m);
        }
        self.day(m.time)?;
        let quote = m.reply_to.map(|id| self.quote(id));
        line(show::message(m, quote.as_deref()))
    }

    /// What a message that is answered says, in short.
    fn quote(&self, id: MessageId) -> String {
        let Ok(m) = self.session.message(self.topic, id) else {
            return "a message that is not here".into();
        };
        let who = if m.mine { "me".to_owned() } else { tidy(&m.author_name) };
        let mut text = show::content(&m.content);
        if text.is_empty() {
            text = photo::words(&m.photos);
        }
        let first = tidy(text.lines().next().unwrap_or_default());
        let mut short: String = first.chars().take(QUOTED).collect();
        if short.len() < first.len() || text.lines().nth(1).is_some() {
            short.push('…');
        }
        format!("{who}: {short}")
    }

    fn day(&mut self, time: Millis) -> Result<()> {
        self.printed = true;
        let (day, _) = show::day_and_minute(time);
        if day != self.day {
            line(format!("— {day} —"))?;
            self.day = day;
        }
        Ok(())
    }
}

/// One of one's own messages got further.
fn got_further(m: &view::Message, delivery: &view::Delivery) -> Result<()> {
    let (_, minute) = show::day_and_minute(m.time);
    line(format!("{minute}  [{}] {}", show::short_message(&m.id), delivery.words()))
}
