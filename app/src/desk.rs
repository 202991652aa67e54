//! What screens may do: ask the node, say something, go somewhere. They only note it here;
//! the shell carries it out after the frame.

use std::collections::BTreeMap;

use teahouse_node::core::command::Command;
use teahouse_node::protocols::ids::{AccountId, TopicId};

use crate::bridge::Action;
use crate::pages::PageId;
use crate::pages::programs::Card;
use crate::photos::news::{News, Pick};
use crate::photos::previews::Previews;
use crate::photos::viewer::Album;
use crate::screens::dialogs::Dialog;
use crate::widgets::toast::Toasts;

/// News of pictures that nobody has heard yet, at most.
const MOST_NEWS: usize = 256;

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
    /// Photos, in full size.
    Photos(Album),
}

/// What the screens asked for in this frame, and what is under way.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    pub(crate) actions: Vec<Action>,
    pub(crate) going: Vec<Go>,
    pub(crate) toasts: Toasts,
    pub(crate) previews: Previews,
    /// A Mini Program's card that somebody tapped, for its page.
    pub(crate) card: Option<Card>,
    /// What the bridge said of pictures, until whoever asked hears it.
    news: BTreeMap<u64, News>,
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

    /// Lets a person choose pictures. What comes of it is [`Desk::heard`] with the ticket.
    pub(crate) fn choose_photos(&mut self) -> u64 {
        self.last_ticket += 1;
        self.actions.push(Action::ChoosePhotos { ticket: self.last_ticket });
        self.last_ticket
    }

    /// Has a picture made ready. What comes of it is [`Desk::heard`] with the ticket.
    pub(crate) fn take_in(&mut self, pick: Pick) -> u64 {
        self.last_ticket += 1;
        self.actions.push(Action::TakeIn { ticket: self.last_ticket, pick });
        self.last_ticket
    }

    /// Keeps news until it is heard.
    pub(crate) fn tell(&mut self, ticket: u64, news: News) {
        // The oldest goes: whoever asked for it is long gone.
        while self.news.len() >= MOST_NEWS {
            self.news.pop_first();
        }
        self.news.insert(ticket, news);
    }

    /// What came of a picture, once.
    pub(crate) fn heard(&mut self, ticket: u64) -> Option<News> {
        self.news.remove(&ticket)
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
        self.news.clear();
        self.card = None;
    }

    pub(crate) fn go(&mut self, to: Go) {
        self.going.push(to);
    }
}
