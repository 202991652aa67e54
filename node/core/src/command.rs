//! What a person can ask of a node, and what the node answers. The command line, the HTTP
//! API and the window all speak these types and no others.
//!
//! A command is decided against the state at its place in the batch; its reply leaves only
//! after the batch is durable.

use serde::{Deserialize, Serialize};
use teahouse_protocols::ids::{AccountId, AppId, AssetId, DeviceId, RelayId, TopicId};
use teahouse_protocols::membership::Role;

use crate::features::pay::tables::Number;
use crate::features::photos::NewPhoto;

pub use crate::features::Command;

/// A message's name: its author's device and the envelope's sequence number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MessageId {
    /// The author's device.
    pub device: DeviceId,
    /// Position in that device's chain in the topic.
    pub seq: u64,
}

impl core::fmt::Display for MessageId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}:{}", self.device, self.seq)
    }
}

impl core::str::FromStr for MessageId {
    type Err = &'static str;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let wrong = "a message id is 64 hexadecimal digits, a colon and a number";
        let (device, seq) = s.split_once(':').ok_or(wrong)?;
        Ok(Self {
            device: DeviceId::from_hex(device).ok_or(wrong)?,
            seq: seq.parse().map_err(|_| wrong)?,
        })
    }
}

/// The account and its devices.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Devices {
    /// Create an account on this device, offline. Replies [`Reply::Created`] with the words.
    Create {
        /// The name others see, at most 64 bytes.
        name: String,
        /// What this device is called, at most 64 bytes.
        device_name: String,
    },
    /// Change the name others see.
    Rename {
        /// At most 64 bytes.
        name: String,
    },
    /// Show a code that links another device. Replies [`Reply::Code`]. Valid for 10 minutes
    /// and one attempt.
    LinkStart,
    /// On a device without an account: join the account that shows `code`.
    LinkJoin {
        /// `teahouse:pair/…`.
        code: String,
        /// What this device is called, at most 64 bytes.
        device_name: String,
    },
    /// The digits on both screens are equal: let the device in.
    LinkConfirm,
    /// Stop a linking under way.
    LinkCancel,
    /// Revoke a device: it opens nothing later.
    Revoke {
        /// The device.
        device: DeviceId,
    },
}

/// People.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Contacts {
    /// A contact card. Replies [`Reply::Card`].
    Card {
        /// How many people may use it without waiting for a free allowance.
        uses: u32,
        /// Accept who comes with this card, and bring them into this group.
        welcome_to: Option<TopicId>,
    },
    /// Make a card's secret worthless.
    RevokeCard {
        /// The card's link.
        link: String,
    },
    /// Ask the owner of a card for contact, or follow a relay's invite link (which uses the
    /// relay, and asks the greeter for contact). Replies [`Reply::Added`].
    Add {
        /// `teahouse:card/…` or `teahouse:relay/…`.
        link: String,
        /// At most 400 bytes.
        greeting: String,
    },
    /// Accept a request. Replies [`Reply::Topic`].
    Accept {
        /// Who asked.
        account: AccountId,
    },
    /// Decline a request; the other side is not told.
    Decline {
        /// Who asked.
        account: AccountId,
    },
    /// Neither show nor tell anything to this account.
    Block {
        /// The account.
        account: AccountId,
    },
    /// Undo a block.
    Unblock {
        /// The account.
        account: AccountId,
    },
    /// My own name for a contact; empty for theirs. At most 64 bytes.
    Remark {
        /// The account.
        account: AccountId,
        /// The name.
        name: String,
    },
    /// The safety number was compared: mark it so, or not.
    Verify {
        /// The account.
        account: AccountId,
        /// Whether it matched.
        verified: bool,
    },
    /// Remove from contacts. The chat stays.
    Delete {
        /// The account.
        account: AccountId,
    },
}

/// Messages.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Chat {
    /// Write a message. Replies [`Reply::Message`].
    Send {
        /// The chat.
        topic: TopicId,
        /// 1 to 64 KiB of text.
        text: String,
        /// The message this answers.
        reply_to: Option<MessageId>,
        /// Accounts mentioned, at most 32.
        #[serde(default)]
        mentions: Vec<AccountId>,
    },
    /// Send photos, with a text or without. Replies [`Reply::Message`].
    SendPhotos {
        /// The chat.
        topic: TopicId,
        /// At most 16 KiB; may be empty.
        text: String,
        /// 1 to 9.
        photos: Vec<NewPhoto>,
        /// The message this answers.
        reply_to: Option<MessageId>,
    },
    /// Send what a message says on to another chat. Replies [`Reply::Message`].
    Forward {
        /// From this chat.
        from: TopicId,
        /// The message.
        message: MessageId,
        /// To this chat.
        to: TopicId,
    },
    /// Put or take back a reaction.
    React {
        /// The chat.
        topic: TopicId,
        /// The message.
        message: MessageId,
        /// An emoji, at most 32 bytes.
        emoji: String,
        /// Put or take back.
        on: bool,
    },
    /// Take back one's own message, or as an admin hide another's.
    Recall {
        /// The chat.
        topic: TopicId,
        /// The message.
        message: MessageId,
    },
    /// Everything up to now is read here.
    MarkRead {
        /// The chat.
        topic: TopicId,
    },
    /// New messages disappear after this many seconds; 0 for never.
    Timer {
        /// The chat.
        topic: TopicId,
        /// Seconds.
        seconds: u32,
    },
    /// Take a chat off the list until somebody writes in it. Its messages stay.
    Hide {
        /// The chat.
        topic: TopicId,
    },
    /// Keep an unsent text (empty to drop it). At most 4 KiB.
    Draft {
        /// The chat.
        topic: TopicId,
        /// The text.
        text: String,
    },
}

/// Groups.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Groups {
    /// Create a group. Replies [`Reply::Topic`].
    Create {
        /// At most 128 bytes.
        title: String,
        /// Contacts to invite.
        members: Vec<AccountId>,
        /// Whether joiners get the earlier history.
        share_history: bool,
    },
    /// Invite a contact.
    Invite {
        /// The group.
        topic: TopicId,
        /// Whom.
        account: AccountId,
    },
    /// Remove a member; the rest rekeys at once.
    Remove {
        /// The group.
        topic: TopicId,
        /// Whom.
        account: AccountId,
    },
    /// Leave. The last owner can't.
    Leave {
        /// The group.
        topic: TopicId,
    },
    /// Give a role.
    SetRole {
        /// The group.
        topic: TopicId,
        /// To whom.
        account: AccountId,
        /// Which.
        role: Role,
    },
    /// Whether later joiners get the earlier history.
    ShareHistory {
        /// The group.
        topic: TopicId,
        /// Yes or no.
        share: bool,
    },
    /// Rename the group. At most 128 bytes.
    Rename {
        /// The group.
        topic: TopicId,
        /// The title.
        title: String,
    },
    /// Set the notice. At most 4 KiB.
    Notice {
        /// The group.
        topic: TopicId,
        /// The text.
        text: String,
    },
    /// One's own name in this group. At most 64 bytes.
    Nickname {
        /// The group.
        topic: TopicId,
        /// The name; empty for the usual one.
        name: String,
    },
}

/// Relays of this account.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Relays {
    /// Use a relay, by its invite link; without contacting a greeter.
    Use {
        /// `teahouse:relay/…`.
        link: String,
    },
    /// Stop using a relay. Contacts learn it in every shared topic.
    Forget {
        /// Which.
        relay: RelayId,
    },
}

/// What a command answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Done, and durable.
    Done,
    /// The account exists.
    Created {
        /// The account.
        account: AccountId,
        /// 24 words, shown once; whoever has them is the account.
        words: String,
    },
    /// A chat.
    Topic {
        /// Its id.
        topic: TopicId,
    },
    /// A message, durable here.
    Message {
        /// The chat.
        topic: TopicId,
        /// Its id.
        message: MessageId,
    },
    /// A link for linking a device.
    Code {
        /// `teahouse:pair/…`.
        link: String,
    },
    /// A contact card.
    Card {
        /// `teahouse:card/…`.
        link: String,
    },
    /// Another link.
    Link {
        /// `teahouse:…`.
        link: String,
    },
    /// A payment that is under way.
    Payment {
        /// Its number.
        payment: Number,
    },
    /// Money that this device issues.
    Asset {
        /// Its id.
        asset: AssetId,
    },
    /// Something for sale.
    Product {
        /// Its number.
        product: Number,
        /// `teahouse:order/…`.
        link: String,
    },
    /// A Mini Program.
    Program {
        /// Which.
        app: AppId,
    },
    /// A function was called.
    Call {
        /// The call's number.
        call: Number,
    },
    /// What a link led to.
    Added {
        /// Who was asked for contact.
        account: Option<AccountId>,
        /// The direct chat, which opens when they accept.
        topic: Option<TopicId>,
        /// The relay that is now used.
        relay: Option<RelayId>,
    },
}

/// Why a command was refused. The texts are for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// No account on this device yet.
    #[error("there is no account on this device yet: create one with `teahouse init`")]
    NoAccount,
    /// An account exists already.
    #[error("this device already belongs to an account")]
    AccountExists,
    /// This device was revoked.
    #[error("this device was removed from its account")]
    Revoked,
    /// Nothing by that name.
    #[error("there is no such {what}")]
    NotFound {
        /// What kind of thing.
        what: String,
    },
    /// Not allowed, with the rule.
    #[error("{why}")]
    NotAllowed {
        /// The rule, as a sentence.
        why: String,
    },
    /// Too long, too short, malformed.
    #[error("{why}")]
    Invalid {
        /// What is wrong, as a sentence.
        why: String,
    },
    /// A bound is reached.
    #[error("{what}: the limit of {max} is reached")]
    Limit {
        /// Of what.
        what: String,
        /// The bound.
        max: u64,
    },
    /// The database failed while this was being made durable. It is not acknowledged; as
    /// with any failed write, it may or may not be there once the database is open again.
    #[error("storage failed ({why}): look whether it is there before you try again")]
    NotStored {
        /// In words.
        why: String,
    },
    /// A bug: the command panicked; nothing of it happened.
    #[error("internal error; nothing was changed")]
    Internal,
}
