//! One conversation: its messages as rows that are ready to be drawn.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use teahouse_node::core::command::MessageId;
use teahouse_node::core::view::{self, ChatKind, ChatState, Content};
use teahouse_node::protocols::ids::{AccountId, DeviceId, Millis, TopicId};
use teahouse_node::protocols::link::ProgramLink;
use teahouse_node::protocols::membership::Role;

use super::rows::{one_line, title};
use crate::photos::previews;
use crate::strings;
use crate::vm::Zone;

/// For how long a message may be on its way before it is told that it waits.
const ON_ITS_WAY: Millis = 10_000;

/// A conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// The chat.
    pub topic: TopicId,
    /// Two people, or many.
    pub kind: ChatKind,
    /// The other person of a direct chat.
    pub peer: Option<AccountId>,
    /// The group's title or the contact's name.
    pub title: String,
    /// How this account stands to it.
    pub state: ChatState,
    /// The group's notice.
    pub notice: String,
    /// Seconds until new messages disappear; 0 for never.
    pub timer: u32,
    /// Messages not read here.
    pub unread: u64,
    /// Members, the highest role first.
    pub members: Vec<MemberRow>,
    /// What this account may do here.
    pub role: Role,
    /// The messages, and what happened between them, oldest first.
    pub messages: Vec<MessageRow>,
    /// Whether older messages exist that are not in `messages`.
    pub more: bool,
    /// Whether one of them has not reached everybody.
    pub undelivered: bool,
    /// Why something has not arrived, in words; empty when there is nothing to say.
    pub waiting: String,
}

impl Conversation {
    /// Whether messages can be written here.
    pub fn writable(&self) -> bool {
        self.state == ChatState::Active
    }
}

/// A member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberRow {
    /// The account.
    pub account: AccountId,
    /// What to call them here.
    pub name: String,
    /// Role.
    pub role: Role,
    /// Whether it is this account.
    pub me: bool,
}

/// A message, or something that happened ([`Body::Event`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageRow {
    /// Its id; of what is no message, one that no message has.
    pub id: MessageId,
    /// Who wrote it.
    pub author: AccountId,
    /// What to call them; empty where it would only repeat the obvious.
    pub author_name: String,
    /// Whether this account wrote it.
    pub mine: bool,
    /// The day, on the first message of each.
    pub day: Option<String>,
    /// The time of day.
    pub time: String,
    /// What it says; of photos alone, nothing.
    pub body: Body,
    /// Its photos.
    pub photos: Vec<PhotoRow>,
    /// The Mini Program that it offers.
    pub program: Option<ProgramLink>,
    /// The message that it answers.
    pub quote: Option<Quote>,
    /// Sent on from elsewhere.
    pub forwarded: bool,
    /// When it disappears, in words.
    pub expires: Option<String>,
    /// Reactions.
    pub reactions: Vec<ReactionRow>,
    /// For one's own: what is proved, in words.
    pub delivery: Option<String>,
    /// A digest of all that determines how the row looks.
    pub look: u64,
}

/// A photo of a message.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PhotoRow {
    /// Its preview's name as `photos::previews` has it; zeros until it has come.
    pub hash: [u8; 32],
    /// Width by height, as its sender says.
    pub shape: (u16, u16),
    /// Bytes in full size.
    pub bytes: u64,
    /// A small picture; `None` until it has come. Somebody else's bytes.
    pub preview: Option<Arc<[u8]>>,
}

/// What a row says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Body {
    /// Text that somebody wrote.
    Text(String),
    /// A remark in place of text that is not there.
    Remark(&'static str),
    /// No message: something happened in the group.
    Event(String),
}

/// A quoted message.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Quote {
    /// Its id.
    pub id: MessageId,
    /// Who wrote it.
    pub author: String,
    /// Its first line.
    pub line: String,
}

/// A reaction.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ReactionRow {
    /// The emoji.
    pub emoji: String,
    /// How many put it.
    pub count: usize,
    /// Whether this account did.
    pub mine: bool,
}

/// What else a conversation's rows depend on.
#[derive(Debug)]
pub struct Around<'a> {
    /// The chat's members.
    pub members: &'a [view::Member],
    /// What waits in it.
    pub waiting: &'a [view::Waiting],
    /// This account.
    pub me: Option<AccountId>,
    /// Whether there are older messages than those given.
    pub more: bool,
    /// The time.
    pub now: Millis,
    /// Where the clock is read.
    pub zone: &'a Zone,
}

/// Builds the rows of a conversation. `messages` are the newest, oldest first, and `events`
/// what happened meanwhile; `find` looks up quoted messages that are not among them.
pub fn conversation(
    chat: &view::Chat,
    around: &Around<'_>,
    messages: &[view::Message],
    events: &[view::Event],
    mut find: impl FnMut(MessageId) -> Option<view::Message>,
) -> Arc<Conversation> {
    let Around { members, waiting, me, more, now, zone } = *around;
    let here: BTreeMap<MessageId, &view::Message> = messages.iter().map(|m| (m.id, m)).collect();
    let mut rows: Vec<MessageRow> = Vec::with_capacity(messages.len() + events.len());
    let (mut day, mut author) = (None, None);
    let mut events = events.iter().peekable();
    let mut happened = |rows: &mut Vec<MessageRow>, day: &mut Option<i64>, upto: Millis| {
        let before = rows.len();
        while let Some(e) = events.next_if(|e| e.time <= upto) {
            let moment = zone.moment(e.time);
            let new_day = day.replace(moment.day) != Some(moment.day);
            rows.push(event_row(e, new_day.then(|| zone.day(e.time, now)), moment.clock()));
        }
        rows.len() > before
    };
    for m in messages {
        if happened(&mut rows, &mut day, m.time) {
            author = None;
        }
        let moment = zone.moment(m.time);
        let new_day = day != Some(moment.day);
        let named =
            chat.kind == ChatKind::Group && !m.mine && (new_day || author != Some(m.author));
        (day, author) = (Some(moment.day), Some(m.author));
        let quote = m.reply_to.map(|id| {
            let found = match here.get(&id) {
                Some(m) => Some((*m).clone()),
                None => find(id),
            };
            match found {
                Some(q) => Quote {
                    id,
                    author: if q.mine { strings::you().into() } else { one_line(&q.author_name) },
                    line: match body(&q.content) {
                        Body::Text(text) if text.is_empty() && !q.photos.is_empty() => {
                            format!("[{}]", crate::photos::words::photo())
                        }
                        Body::Text(text) | Body::Event(text) => one_line(&text),
                        Body::Remark(words) => words.into(),
                    },
                },
                None => Quote { id, author: String::new(), line: strings::quote_missing().into() },
            }
        });
        let mut row = MessageRow {
            id: m.id,
            author: m.author,
            author_name: if named {
                title(&m.author_name, ChatKind::Direct)
            } else {
                String::new()
            },
            mine: m.mine,
            day: new_day.then(|| zone.day(m.time, now)),
            time: moment.clock(),
            body: body(&m.content),
            photos: m.photos.iter().map(photo).collect(),
            program: program(&m.content),
            quote,
            forwarded: m.forwarded,
            expires: m
                .expires
                .filter(|_| has_text(&m.content))
                .map(|at| strings::disappears(&zone.short(at, now))),
            reactions: m
                .reactions
                .iter()
                .map(|(emoji, who)| ReactionRow {
                    emoji: emoji.clone(),
                    count: who.len(),
                    mine: me.is_some_and(|me| who.contains(&me)),
                })
                .collect(),
            delivery: m.delivery.map(|d| d.words()),
            look: 0,
        };
        row.look = look(&row);
        rows.push(row);
    }
    happened(&mut rows, &mut day, Millis::MAX);

    let mut members: Vec<_> = members
        .iter()
        .map(|m| MemberRow {
            account: m.account,
            name: title(&m.name, ChatKind::Direct),
            role: m.role,
            me: m.me,
        })
        .collect();
    members.sort_by_cached_key(|m| (core::cmp::Reverse(m.role), m.name.to_lowercase(), m.account));
    Arc::new(Conversation {
        topic: chat.topic,
        kind: chat.kind,
        peer: chat.peer,
        title: title(&chat.title, chat.kind),
        state: chat.state,
        notice: chat.notice.clone(),
        timer: chat.timer,
        unread: chat.unread,
        role: members.iter().find(|m| m.me).map_or(Role::Member, |m| m.role),
        members,
        messages: rows,
        more,
        undelivered: messages
            .iter()
            .any(|m| m.delivery.is_some_and(|d| d.delivered < d.recipients)),
        waiting: why_waiting(waiting, now),
    })
}

/// Text that is there, or still to come.
const fn has_text(content: &Content) -> bool {
    matches!(content, Content::Text(_) | Content::Pending)
}

/// Why something has not arrived. What was just written is on its way.
fn why_waiting(waiting: &[view::Waiting], now: Millis) -> String {
    let late = waiting.iter().find(|w| w.request || now.saturating_sub(w.since) >= ON_ITS_WAY);
    match late {
        Some(w) if w.request => strings::request_waits(&w.why),
        Some(w) => strings::messages_wait(w.count, &w.why),
        None => String::new(),
    }
}

fn event_row(event: &view::Event, day: Option<String>, time: String) -> MessageRow {
    let words = one_line(&event.words());
    let mut hash = DefaultHasher::new();
    (event.time, &words).hash(&mut hash);
    // Messages are numbered from 1.
    let mut id = MessageId { device: DeviceId([0; 32]), seq: 0 };
    id.device.0[..8].copy_from_slice(&hash.finish().to_le_bytes());
    let mut row = MessageRow {
        id,
        author: event.by.account,
        author_name: String::new(),
        mine: event.by.me,
        day,
        time,
        body: Body::Event(words),
        photos: Vec::new(),
        program: None,
        quote: None,
        forwarded: false,
        expires: None,
        reactions: Vec::new(),
        delivery: None,
        look: 0,
    };
    row.look = look(&row);
    row
}

fn photo(p: &view::Photo) -> PhotoRow {
    PhotoRow {
        hash: p.preview.as_ref().map_or([0; 32], |b| previews::name(&b.0)),
        shape: (p.photo.width.max(1), p.photo.height.max(1)),
        bytes: p.photo.size,
        preview: p.preview.as_ref().map(|b| b.0.as_slice().into()),
    }
}

/// The program that a text offers.
fn program(content: &Content) -> Option<ProgramLink> {
    let Content::Text(text) = content else { return None };
    teahouse_node::programs::card(text)
}

fn body(content: &Content) -> Body {
    match content {
        Content::Text(text) => Body::Text(text.clone()),
        Content::Pending => Body::Remark(strings::message_pending()),
        Content::Recalled => Body::Remark(strings::message_recalled()),
        Content::Hidden => Body::Remark(strings::message_hidden()),
        Content::Expired => Body::Remark(strings::message_expired()),
        Content::Unknown => Body::Remark(strings::message_unknown()),
    }
}

fn look(row: &MessageRow) -> u64 {
    let mut hash = DefaultHasher::new();
    (&row.author_name, row.mine, &row.day, &row.time, &row.body, &row.quote).hash(&mut hash);
    (row.forwarded, &row.expires, &row.reactions, &row.delivery).hash(&mut hash);
    for photo in &row.photos {
        (photo.hash, photo.shape, photo.preview.is_some()).hash(&mut hash);
    }
    hash.finish()
}

#[cfg(test)]
mod tests {
    use teahouse_node::core::view::{Event, Happened, Who};

    use super::*;

    const HOUR: Millis = 3_600_000;

    fn message(seq: u64, author: u8, time: Millis) -> view::Message {
        view::Message {
            topic: TopicId([9; 32]),
            id: MessageId { device: DeviceId([author; 32]), seq },
            author: AccountId([author; 32]),
            author_name: format!("P{author}"),
            mine: author == 0,
            time,
            photos: Vec::new(),
            content: Content::Text("hello\nthere".into()),
            reply_to: None,
            mentions: Vec::new(),
            forwarded: false,
            expires: None,
            reactions: Vec::new(),
            delivery: None,
        }
    }

    fn group() -> view::Chat {
        view::Chat {
            topic: TopicId([9; 32]),
            kind: ChatKind::Group,
            title: "Walk".into(),
            peer: None,
            state: ChatState::Active,
            preview: String::new(),
            preview_by: String::new(),
            delivery: None,
            time: 0,
            hidden: false,
            unread: 0,
            draft: String::new(),
            notice: String::new(),
            timer: 0,
            members: 3,
        }
    }

    /// Whoever names a photo that somebody else sent does not get its picture, nor changes it.
    #[test]
    fn pictures_are_told_apart_by_their_bytes() {
        let photo = |preview: &[u8]| view::Photo {
            photo: teahouse_node::protocols::photo::Photo {
                hash: [1; 32],
                key: [0; 32],
                size: 1,
                width: 640,
                height: 480,
            },
            preview: Some(view::Blob(preview.to_vec())),
        };
        let [hers, his] = [photo(b"hers"), photo(b"his")];
        assert_ne!(super::photo(&hers).hash, super::photo(&his).hash);
        assert_eq!(super::photo(&hers).hash, super::photo(&photo(b"hers")).hash);
    }

    fn build(messages: &[view::Message]) -> Arc<Conversation> {
        build_with(messages, &[])
    }

    fn build_with(messages: &[view::Message], events: &[Event]) -> Arc<Conversation> {
        let zone = Zone::utc();
        let around = Around {
            members: &[],
            waiting: &[],
            me: None,
            more: false,
            now: 100 * HOUR,
            zone: &zone,
        };
        conversation(&group(), &around, messages, events, |_| None)
    }

    #[test]
    fn what_happened_stands_where_it_happened() {
        let who = |n: u8| Who { account: AccountId([n; 32]), name: format!("P{n}"), me: n == 0 };
        let at = |time, happened| Event { time, by: who(0), happened };
        let events = [
            at(HOUR / 2, Happened::Created),
            at(HOUR, Happened::Added { who: who(2) }),
            at(30 * HOUR, Happened::Removed { who: who(2) }),
        ];
        let c = build_with(&[message(1, 1, HOUR), message(2, 1, 2 * HOUR)], &events);
        let said = |m: &MessageRow| match &m.body {
            Body::Event(words) => words.clone(),
            _ => String::new(),
        };
        let rows: Vec<_> = c.messages.iter().map(said).collect();
        assert_eq!(rows, ["You made the group", "You added P2", "", "", "You removed P2"]);
        let days: Vec<_> = c.messages.iter().map(|m| m.day.is_some()).collect();
        assert_eq!(days, [true, false, false, false, true]);
        let ids: std::collections::BTreeSet<_> = c.messages.iter().map(|m| m.id).collect();
        assert_eq!(ids.len(), 5, "each row has an id of its own");
    }

    #[test]
    fn days_and_authors_are_told_once() {
        let c = build(&[
            message(1, 1, HOUR),
            message(2, 1, 2 * HOUR),
            message(3, 2, 3 * HOUR),
            message(4, 0, 4 * HOUR),
            message(5, 2, 30 * HOUR),
        ]);
        let days: Vec<_> = c.messages.iter().map(|m| m.day.is_some()).collect();
        assert_eq!(days, [true, false, false, false, true]);
        let names: Vec<_> = c.messages.iter().map(|m| m.author_name.as_str()).collect();
        assert_eq!(names, ["P1", "", "P2", "", "P2"]);
    }

    #[test]
    fn quotes_are_found_or_told_missing() {
        let mut answer = message(2, 0, 2 * HOUR);
        answer.reply_to = Some(message(1, 1, 0).id);
        let c = build(&[message(1, 1, HOUR), answer.clone()]);
        let quote = c.messages[1].quote.as_ref().unwrap();
        assert_eq!((quote.author.as_str(), quote.line.as_str()), ("P1", "hello there"));
        let c = build(&[answer]);
        assert_eq!(c.messages[0].quote.as_ref().unwrap().line, strings::quote_missing());
    }

    #[test]
    fn a_row_looks_different_when_anything_shown_differs() {
        let look = |m: view::Message| build(&[m]).messages[0].look;
        let plain = message(1, 0, HOUR);
        let mut changed = vec![plain.clone(); 4];
        changed[0].content = Content::Recalled;
        changed[1].reactions = vec![("👍".into(), vec![AccountId([1; 32])])];
        changed[2].delivery = Some(view::Delivery::clone(&view::Delivery {
            relayed: 0,
            relays: 1,
            delivered: 0,
            recipients: 1,
            read: 0,
            without_relay: 0,
            elsewhere: false,
        }));
        changed[3].forwarded = true;
        assert_eq!(look(plain.clone()), look(plain.clone()));
        for m in changed {
            assert_ne!(look(plain.clone()), look(m));
        }
    }
}
