//! What screens may do: ask the node, say something, go somewhere. They only note it here;
//! the shell carries it out after the frame.

use std::collections::BTreeMap;

use teahouse_node::core::command::Command;
use teahouse_node::protocols::ids::{AccountId, TopicId};

use crate::bridge::Action;
use crate::pages::PageId;
use crate::screens::dialogs::Dialog;
use crate::widgets::toast::Toasts;

/// What to do with a command's answer. A refusal is always told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// Nothing more.
    Nothing,
    /// Say that it is done.
    Say(&'static str),
    /// Show the 24 words.
    Created,
    /// The composer of this chat waits for it.
    Sent(TopicId),
    /// Show the card.
    Card,
    /// Show the code.
    Code,
    /// Tell what a link led to.
    Added,
    /// Open the chat that it made.
    Open,
    /// The new device joins.
    Joining,
    /// The page wants to know.
    Page(PageId),
}

/// A place on the rail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Chats,
    Contacts,
    Page(PageId),
    Me,
}

/// Where to go.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one or two a frame, and not kept")]
pub(crate) enum Go {
    Place(Place),
    Chat(TopicId),
    Person(AccountId),
    Dialog(Dialog),
}

/// What the screens asked for in this frame, and what is under way.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    pub(crate) actions: Vec<Action>,
    pub(crate) going: Vec<Go>,
    pub(crate) toasts: Toasts,
    waiting: BTreeMap<u64, After>,
    last_ticket: u64,
}

impl Desk {
    /// Asks the node. The ticket comes back with the answer.
    pub(crate) fn submit(&mut self, command: Command, after: After) -> u64 {
        self.last_ticket += 1;
        self.waiting.insert(self.last_ticket, after);
        self.actions.push(Action::Submit { ticket: self.last_ticket, command });
        self.last_ticket
    }

    /// Takes what was to be done with an answer; `None` for one that nobody waits for.
    pub(crate) fn answered(&mut self, ticket: u64) -> Option<After> {
        self.waiting.remove(&ticket)
    }

    /// Whether an answer of this kind is still to come.
    pub(crate) fn waits_for(&self, after: After) -> bool {
        self.waiting.values().any(|a| *a == after)
    }

    /// Nothing that was asked will be answered: the node behind is another one now.
    pub(crate) fn forget(&mut self) {
        self.waiting.clear();
    }

    pub(crate) fn go(&mut self, to: Go) {
        self.going.push(to);
    }
}
