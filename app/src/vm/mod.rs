//! View models: what the screens draw, as plain values. The bridge makes them when data
//! changes, never a frame.

mod conversation;
mod qr;
mod rows;
mod zone;

use std::sync::Arc;

use teahouse_node::core::view;
use teahouse_node::protocols::ids::{AccountId, DeviceId, TopicId};

pub use conversation::{
    Around, Body, Conversation, MemberRow, MessageRow, PhotoRow, Quote, ReactionRow, conversation,
};
pub use qr::Qr;
pub use rows::{ChatRow, ContactRow, RelayRow, chat_rows, contact_rows, relay_rows};
pub(crate) use rows::{confuses, one_line};
pub use zone::{Moment, Zone};

/// Everything the window may show at one moment. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Model {
    /// How far the node is.
    pub stage: Stage,
    /// Whether this is the town, not the person's own data.
    pub demo: bool,
    /// Who this device is.
    pub me: Me,
    /// The chat list, newest first.
    pub chats: Arc<[ChatRow]>,
    /// The conversation that [`crate::bridge::Action::Show`] asked for.
    pub conversation: Option<Arc<Conversation>>,
    /// People, by name.
    pub contacts: Arc<[ContactRow]>,
    /// The safety number that [`crate::bridge::Action::Person`] asked for.
    pub safety: Option<(AccountId, String)>,
    /// Devices of this account.
    pub devices: Arc<[view::Device]>,
    /// Linking under way.
    pub linking: Option<view::Linking>,
    /// Relays of this account.
    pub relays: Arc<[RelayRow]>,
    /// What a person should know about, newest first.
    pub alarms: Arc<[view::Alarm]>,
    /// The Mini Program that is open.
    pub program: Option<Arc<crate::pages::programs::vm::Running>>,
    /// What the pages show.
    pub pages: crate::pages::Models,
}

impl Model {
    /// Messages not read here, in all chats.
    pub fn unread(&self) -> u64 {
        self.chats.iter().map(|c| c.unread).sum()
    }

    /// People who wait for an answer.
    pub fn requests(&self) -> impl Iterator<Item = &ContactRow> {
        self.contacts.iter().filter(|c| c.state == view::ContactState::Asking)
    }

    /// A line of the chat list.
    pub fn chat(&self, topic: TopicId) -> Option<&ChatRow> {
        self.chats.iter().find(|c| c.topic == topic)
    }

    /// A person.
    pub fn contact(&self, account: AccountId) -> Option<&ContactRow> {
        self.contacts.iter().find(|c| c.account == account)
    }
}

/// How far the node is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Stage {
    /// It opens its data.
    #[default]
    Starting,
    /// It runs; there may be no account yet.
    Running,
    /// It can't be used; why, in words.
    Broken(String),
}

/// Who this device is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Me {
    /// The account, once there is one.
    pub account: Option<AccountId>,
    /// The name others see.
    pub name: String,
    /// This device.
    pub device: Option<DeviceId>,
    /// Whether this device was revoked.
    pub revoked: bool,
    /// Whether contacts distrust this account: its root rotated twice at once.
    pub disputed: bool,
}

impl From<view::Identity> for Me {
    fn from(i: view::Identity) -> Self {
        Self {
            account: i.account,
            name: i.name,
            device: Some(i.device),
            revoked: i.revoked,
            disputed: i.disputed,
        }
    }
}
