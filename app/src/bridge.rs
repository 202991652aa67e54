//! Between the window and the node: actions go in and models come out, and neither side
//! ever waits for the other.

use std::sync::Arc;

use teahouse_node::core::command::{Command, Reply};
use teahouse_node::protocols::ids::{AccountId, TopicId};

use crate::vm::{Model, Qr};

/// What the window asks for.
#[derive(Debug, Clone)]
pub enum Action {
    /// Hand a command to the node; the answer comes back with the ticket.
    Submit {
        /// The window's own number for it.
        ticket: u64,
        /// The command.
        command: Command,
    },
    /// Keep this conversation in the model.
    Show {
        /// Which; `None` for none.
        topic: Option<TopicId>,
        /// Its newest messages, so many.
        limit: usize,
    },
    /// Keep this person's safety number in the model.
    Person(Option<AccountId>),
    /// Leave one's own data for the town.
    Town,
    /// Leave the town for one's own data.
    Home,
}

/// The answer to a command.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The ticket.
    pub ticket: u64,
    /// What the node says; a refusal in its own words.
    pub result: Result<Reply, String>,
    /// The QR code of a card or link code.
    pub qr: Option<Arc<Qr>>,
}

/// What the window needs of the other side.
pub trait Link {
    /// Hands an action over; `false` when too many wait already.
    fn send(&mut self, action: Action) -> bool;
    /// The newest model.
    fn model(&mut self) -> Arc<Model>;
    /// An answer that has come.
    fn answer(&mut self) -> Option<Answer>;
}
