//! What the screen, the command line and the API show: plain values, computed by queries
//! over a read snapshot (`crate::query`). Nothing here claims more than stored, signed
//! facts prove.

use serde::{Deserialize, Serialize};
use teahouse_protocols::ids::{AccountId, DeviceId, Millis, RelayId, TopicId};
use teahouse_protocols::membership::Role;

use crate::command::MessageId;

/// Who this device is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The account; `None` before `init` or linking.
    pub account: Option<AccountId>,
    /// The name others see.
    pub name: String,
    /// This device.
    pub device: DeviceId,
    /// Whether this device was revoked.
    pub revoked: bool,
    /// The account's root rotated twice at once: contacts distrust it.
    pub disputed: bool,
}

/// Kind of a chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChatKind {
    /// Two people.
    Direct,
    /// Many.
    Group,
}

/// How this account stands to a chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChatState {
    /// Taking part.
    Active,
    /// A direct chat whose other side has not accepted yet.
    Requested,
    /// Left, or removed: can read what it had, not write.
    Left,
    /// A direct chat with somebody who is blocked: what they write is not shown, and they are
    /// not told that it came.
    Blocked,
}

/// A line of the chat list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chat {
    /// The chat.
    pub topic: TopicId,
    /// Its kind.
    pub kind: ChatKind,
    /// What to show: the group's title or the contact's name.
    pub title: String,
    /// The other person of a direct chat.
    pub peer: Option<AccountId>,
    /// How this account stands to it.
    pub state: ChatState,
    /// First line of the latest message; empty when there is none.
    pub preview: String,
    /// Who wrote that message; empty when it is one's own, or there is none.
    pub preview_by: String,
    /// What is proved of it, if it is one's own.
    pub delivery: Option<Delivery>,
    /// When the latest message (or the chat) came.
    pub time: Millis,
    /// Taken off the list, until somebody writes in it.
    pub hidden: bool,
    /// Messages not read here.
    pub unread: u64,
    /// Unsent text.
    pub draft: String,
    /// The group's notice.
    pub notice: String,
    /// Seconds until new messages disappear; 0 for never.
    pub timer: u32,
    /// Number of members.
    pub members: u32,
}

/// A message's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// Text.
    Text(String),
    /// The text has not arrived yet.
    Pending,
    /// Its author took it back.
    Recalled,
    /// An admin hid it.
    Hidden,
    /// Its time was up.
    Expired,
    /// Made by a newer version: update to read.
    Unknown,
}

/// What is proved about a message of one's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Relays that acknowledged storing it…
    pub relayed: u32,
    /// …of so many it is meant for.
    pub relays: u32,
    /// Other members of whom a device acknowledged it…
    pub delivered: u32,
    /// …of so many.
    pub recipients: u32,
    /// Members who say that they read it.
    pub read: u32,
    /// Members who have no relay, as far as is known, and have not acknowledged it: it reaches
    /// them only while both are there.
    pub without_relay: u32,
    /// It was written on another device of this account: what relays have of it is known there.
    pub elsewhere: bool,
}

impl Delivery {
    /// The strongest claim that holds, in words.
    #[must_use]
    pub fn words(&self) -> String {
        if self.read > 0 && self.recipients == 1 {
            return "read".into();
        }
        if self.delivered > 0 {
            return if self.recipients == 1 {
                "delivered".into()
            } else {
                format!("delivered to {} of {}", self.delivered, self.recipients)
            };
        }
        if self.relayed > 0 {
            let relayed = format!("relayed {} of {}", self.relayed, self.relays);
            return match self.without_relay {
                0 => relayed,
                n => format!("{relayed}, no relay for {n} of {}", self.recipients),
            };
        }
        if self.elsewhere { "written on your other device".into() } else { "queued".into() }
    }
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The chat.
    pub topic: TopicId,
    /// Its id.
    pub id: MessageId,
    /// Who wrote it.
    pub author: AccountId,
    /// What to call them here.
    pub author_name: String,
    /// Whether this account wrote it.
    pub mine: bool,
    /// When, for display: the earlier of what its author claims and when it came.
    pub time: Millis,
    /// What it says; of photos, their text.
    pub content: Content,
    /// Its photos.
    #[serde(default)]
    pub photos: Vec<Photo>,
    /// The message that it answers.
    pub reply_to: Option<MessageId>,
    /// Accounts mentioned.
    pub mentions: Vec<AccountId>,
    /// Sent on from elsewhere.
    pub forwarded: bool,
    /// When it disappears.
    pub expires: Option<Millis>,
    /// Emoji and who put it.
    pub reactions: Vec<(String, Vec<AccountId>)>,
    /// For one's own: what is proved.
    pub delivery: Option<Delivery>,
}

/// How somebody stands to this account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContactState {
    /// We asked; they have not answered.
    Requested,
    /// They asked; we have not answered.
    Asking,
    /// Both agreed.
    Friend,
    /// Blocked here.
    Blocked,
    /// Known from a group only.
    Known,
}

/// A person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
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
    /// When it last changed.
    pub time: Millis,
    /// The direct chat.
    pub topic: Option<TopicId>,
    /// Whether the safety number was compared.
    pub verified: bool,
    /// Their root rotated twice at once: trust nothing new from them until a fresh card.
    pub disputed: bool,
    /// Number of their active devices that we know.
    pub devices: u32,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The account.
    pub account: AccountId,
    /// What to call them here.
    pub name: String,
    /// Role.
    pub role: Role,
    /// Whether it is this account.
    pub me: bool,
}

/// A person in an [`Event`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// The account.
    pub account: AccountId,
    /// What to call them there.
    pub name: String,
    /// Whether it is this account.
    pub me: bool,
}

/// Something that happened in a chat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When this device heard of it.
    pub time: Millis,
    /// Who did it.
    pub by: Who,
    /// What.
    pub happened: Happened,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Happened {
    /// The group was made.
    Created,
    /// Somebody was added.
    Added {
        /// Who.
        who: Who,
    },
    /// Somebody was removed.
    Removed {
        /// Who.
        who: Who,
    },
    /// They left.
    Left,
    /// Somebody got another role.
    Role {
        /// Who.
        who: Who,
        /// Which.
        role: Role,
    },
    /// Whether those who join from then on see earlier messages.
    History {
        /// Yes or no.
        shared: bool,
    },
    /// The group got a title.
    Named {
        /// Which.
        title: String,
    },
    /// The notice was set.
    Notice {
        /// To what; empty for none.
        text: String,
    },
    /// They asked for contact, and said this.
    Greeted {
        /// Their words.
        text: String,
    },
    /// After how long new messages disappear was set.
    Timer {
        /// Seconds; 0 for never.
        seconds: u32,
    },
}

/// A number of seconds in words, in the largest unit that it is a whole number of.
#[must_use]
pub fn duration(seconds: u32) -> String {
    let (n, unit) = match seconds {
        s if s % 604_800 == 0 => (s / 604_800, "week"),
        s if s % 86_400 == 0 => (s / 86_400, "day"),
        s if s % 3_600 == 0 => (s / 3_600, "hour"),
        s if s % 60 == 0 => (s / 60, "minute"),
        s => (s, "second"),
    };
    if n == 1 { format!("1 {unit}") } else { format!("{n} {unit}s") }
}

impl Event {
    /// In words, without a full stop.
    #[must_use]
    pub fn words(&self) -> String {
        let by = if self.by.me { "You" } else { &self.by.name };
        let name = |who: &Who| if who.me { "you".to_owned() } else { who.name.clone() };
        match &self.happened {
            Happened::Created => format!("{by} made the group"),
            Happened::Added { who } => format!("{by} added {}", name(who)),
            Happened::Removed { who } => format!("{by} removed {}", name(who)),
            Happened::Left => format!("{by} left"),
            Happened::Role { who, role } => {
                let role = match role {
                    Role::Member => "an ordinary member",
                    Role::Admin => "an admin",
                    Role::Owner => "an owner",
                };
                format!("{by} made {} {role}", name(who))
            }
            Happened::History { shared: true } => {
                format!("{by} decided: whoever joins from now on sees earlier messages")
            }
            Happened::History { shared: false } => {
                format!("{by} decided: whoever joins from now on sees only later messages")
            }
            Happened::Named { title } => format!("{by} named the group “{title}”"),
            Happened::Notice { text } if text.is_empty() => format!("{by} took the notice away"),
            Happened::Notice { .. } => format!("{by} set a new notice"),
            Happened::Greeted { text } if self.by.me => {
                format!("You asked for contact: “{text}”")
            }
            Happened::Greeted { text } => format!("{by} asked for contact: “{text}”"),
            Happened::Timer { seconds: 0 } => {
                format!("{by} decided: new messages do not disappear")
            }
            Happened::Timer { seconds } => {
                format!("{by} decided: new messages disappear after {}", duration(*seconds))
            }
        }
    }
}

/// A device of this account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// The device.
    pub device: DeviceId,
    /// What it is called.
    pub name: String,
    /// Whether it is the one asked.
    pub this: bool,
    /// Whether it was revoked.
    pub revoked: bool,
}

/// Linking a device, as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Linking {
    /// Nothing under way.
    Idle,
    /// A code is shown.
    Waiting,
    /// Both screens show these digits; compare them, then confirm on the old device.
    Compare {
        /// Six digits.
        digits: String,
    },
    /// The new device takes over history: envelopes received.
    Copying {
        /// Topics known.
        topics: u32,
        /// Envelopes held.
        envelopes: u64,
    },
    /// It failed; why, in words.
    Failed {
        /// Why.
        why: String,
    },
}

/// A relay of this account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relay {
    /// The relay.
    pub relay: RelayId,
    /// What its community is called, as it says; empty if it did not say yet.
    pub name: String,
    /// Addresses.
    pub addrs: Vec<String>,
    /// Tokens left.
    pub tokens: u64,
    /// Tags that we opened there.
    pub tags: u64,
    /// When it last answered; `None` for never.
    pub last_answer: Option<Millis>,
    /// What it last refused, or why it could not be reached; empty when all is well.
    pub trouble: String,
    /// Envelopes of ours that wait to be stored there.
    pub waiting: u64,
}

/// Messages of one's own that a relay does not have yet and whose recipients have not
/// acknowledged them: why something was not delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// The chat.
    pub topic: TopicId,
    /// What it is called.
    pub title: String,
    /// The relay; `None` when no member named one.
    pub relay: Option<RelayId>,
    /// Whether it is the request for contact that waits, and no messages.
    pub request: bool,
    /// How many messages.
    pub count: u64,
    /// When the oldest was written.
    pub since: Millis,
    /// What the relay last refused, or that it was not tried yet; in words.
    pub why: String,
}

/// Something a person should know about: never silently resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// When it was noticed.
    pub time: Millis,
    /// One sentence.
    pub text: String,
}

/// Bytes; in text formats as base64.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Blob(pub Vec<u8>);

impl core::fmt::Debug for Blob {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Blob({} bytes)", self.0.len())
    }
}

impl Serialize for Blob {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() {
            s.serialize_str(&data_encoding::BASE64.encode(&self.0))
        } else {
            s.serialize_bytes(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        if d.is_human_readable() {
            let text = String::deserialize(d)?;
            let bytes = data_encoding::BASE64.decode(text.as_bytes());
            bytes.map(Self).map_err(serde::de::Error::custom)
        } else {
            Vec::<u8>::deserialize(d).map(Self)
        }
    }
}

/// A photo of a message or post.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Photo {
    /// Where it lies, and what opens it.
    pub photo: teahouse_protocols::photo::Photo,
    /// A small picture; `None` until it has come.
    pub preview: Option<Blob>,
}
