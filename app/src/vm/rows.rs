//! Lines of the lists: chats, people, relays.

use std::sync::Arc;

use teahouse_node::core::view::{self, ChatKind, ChatState, ContactState};
use teahouse_node::protocols::ids::{AccountId, Millis, RelayId, TopicId};

use crate::strings;
use crate::vm::Zone;

/// A line of the chat list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatRow {
    /// The chat.
    pub topic: TopicId,
    /// Two people, or many.
    pub kind: ChatKind,
    /// The group's title or the contact's name.
    pub title: String,
    /// The other person of a direct chat.
    pub peer: Option<AccountId>,
    /// How this account stands to it.
    pub state: ChatState,
    /// What to show below the title, on one line.
    pub preview: String,
    /// When it last changed, in words.
    pub when: String,
    /// Messages not read here.
    pub unread: u64,
    /// Unsent text, as the node keeps it.
    pub draft: String,
    /// Taken off the list; found by its name all the same.
    pub hidden: bool,
}

/// The chat list in the given order.
pub fn chat_rows(chats: &[view::Chat], now: Millis, zone: &Zone) -> Arc<[ChatRow]> {
    chats
        .iter()
        .map(|c| ChatRow {
            topic: c.topic,
            kind: c.kind,
            title: title(&c.title, c.kind),
            peer: c.peer,
            state: c.state,
            preview: match c.state {
                ChatState::Requested => strings::chat_requested().into(),
                ChatState::Left => strings::chat_left().into(),
                ChatState::Blocked => strings::chat_blocked().into(),
                ChatState::Active => preview(c),
            },
            when: zone.short(c.time, now),
            unread: c.unread,
            draft: c.draft.clone(),
            hidden: c.hidden,
        })
        .collect()
}

/// The latest message, and who wrote it where that is not plain.
fn preview(c: &view::Chat) -> String {
    if c.delivery.is_some() {
        one_line(&format!("{}: {}", strings::you(), c.preview))
    } else if c.kind == ChatKind::Group && !c.preview_by.is_empty() {
        one_line(&format!("{}: {}", c.preview_by, c.preview))
    } else {
        one_line(&c.preview)
    }
}

/// A title to show: never empty.
pub(super) fn title(title: &str, kind: ChatKind) -> String {
    match (title.trim(), kind) {
        ("", ChatKind::Direct) => strings::unnamed_person().into(),
        ("", ChatKind::Group) => strings::unnamed_group().into(),
        (title, _) => one_line(title),
    }
}

/// The text on one line, at most 200 characters: list rows are laid out whole before they
/// are elided.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().take(200).map(|c| if confuses(c) { ' ' } else { c }).collect()
}

/// Whether a letter shows nothing itself and changes how others look: control characters, and
/// marks that turn the direction of all that follows.
pub(crate) fn confuses(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContactRow {
    /// The account.
    pub account: AccountId,
    /// What to call them: the remark, else their own name.
    pub name: String,
    /// The name they gave themselves.
    pub own_name: String,
    /// How they stand to us.
    pub state: ContactState,
    /// Their greeting, while they ask.
    pub greeting: String,
    /// The direct chat.
    pub topic: Option<TopicId>,
    /// Whether the safety number was compared.
    pub verified: bool,
    /// Trust nothing new from them until a fresh card.
    pub disputed: bool,
    /// How many of their devices are known.
    pub devices: u32,
}

/// People by name; who is known from groups only, without a chat, is left out.
pub fn contact_rows(contacts: &[view::Contact]) -> Arc<[ContactRow]> {
    let mut rows: Vec<_> = contacts
        .iter()
        .filter(|c| c.state != ContactState::Known || c.topic.is_some())
        .map(|c| ContactRow {
            account: c.account,
            name: title(&c.name, ChatKind::Direct),
            own_name: one_line(&c.own_name),
            state: c.state,
            greeting: c.greeting.clone(),
            topic: c.topic,
            verified: c.verified,
            disputed: c.disputed,
            devices: c.devices,
        })
        .collect();
    rows.sort_by_cached_key(|c| (c.name.to_lowercase(), c.account));
    rows.into()
}

/// A relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayRow {
    /// The relay.
    pub relay: RelayId,
    /// Its host, else the beginning of its key.
    pub name: String,
    /// How it does, in words.
    pub words: String,
    /// Whether the words tell of trouble.
    pub trouble: bool,
}

/// The relays in the given order.
pub fn relay_rows(relays: &[view::Relay], now: Millis, zone: &Zone) -> Arc<[RelayRow]> {
    relays
        .iter()
        .map(|r| {
            let words = match (r.trouble.as_str(), r.last_answer) {
                ("", Some(at)) => strings::relay_well(&zone.short(at, now)),
                ("", None) => strings::relay_silent().into(),
                (trouble, _) => strings::relay_trouble(trouble),
            };
            RelayRow {
                relay: r.relay,
                name: teahouse_node::doctor::relay_name(r),
                words,
                trouble: !r.trouble.is_empty(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_one_short_line() {
        let line = one_line(&"ab\ncd\t".repeat(100));
        assert_eq!(line.chars().count(), 200);
        assert!(!line.contains(char::is_control));
    }

    #[test]
    fn people_are_sorted_by_name_and_strangers_left_out() {
        let person = |n: u8, name: &str, state| view::Contact {
            account: AccountId([n; 32]),
            name: name.into(),
            own_name: name.into(),
            state,
            greeting: String::new(),
            time: 0,
            topic: None,
            verified: false,
            disputed: false,
            devices: 1,
        };
        let rows = contact_rows(&[
            person(1, "mei", ContactState::Friend),
            person(2, "Known only", ContactState::Known),
            person(3, "Lin", ContactState::Friend),
            person(4, "  ", ContactState::Asking),
        ]);
        let names: Vec<_> = rows.iter().map(|r| r.name.as_str()).collect();
        assert_eq!(names, ["Lin", "mei", strings::unnamed_person()]);
    }
}
