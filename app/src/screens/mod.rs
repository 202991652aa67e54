//! The window's screens. Each draws a model, keeps what a person is doing on it, and notes
//! on the desk what they ask for.

pub(crate) mod chats;
pub(crate) mod composer;
pub(crate) mod contacts;
pub(crate) mod conversation;
pub(crate) mod dialogs;
pub(crate) mod group;
pub(crate) mod me;
pub(crate) mod rail;
pub(crate) mod welcome;
