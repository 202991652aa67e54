//! A chat: messages, reactions, recalls and the fields its members share.
//!
//! Message text is not here: a message names the hash of its sealed body, which travels beside
//! the change and can be erased without it.

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::document::Document;
use crate::segment::{Actor, Entry};
use crate::text;
use crate::typed::{Chosen, DeviceKey, EntryError, TypedEntry, check_len};

/// Most mentions in a message.
pub const MAX_MENTIONS: usize = 32;
/// Longest emoji of a reaction, in bytes: a sequence with joiners and modifiers fits.
pub const MAX_EMOJI_BYTES: usize = 32;
/// Longest title, in bytes.
pub const MAX_TITLE_BYTES: usize = 128;
/// Longest notice, in bytes.
pub const MAX_NOTICE_BYTES: usize = 4 * 1024;
/// Longest nickname, in bytes.
pub const MAX_NICKNAME_BYTES: usize = 64;

/// Longest key of what a program shares, in bytes.
pub const MAX_STATE_KEY_BYTES: usize = 128;
/// Most bytes that a program shares under one key. Each write stays in the chat's log.
pub const MAX_STATE_BYTES: usize = 16 * 1024;

/// A message's name: its author's device and the number of the envelope that carries it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MessageRef {
    /// The device that wrote the message.
    pub device: DeviceKey,
    /// The envelope's number in that device's chain of the topic.
    pub seq: u64,
}

impl fmt::Debug for MessageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, ..] = self.device;
        write!(f, "MessageRef({a:02x}{b:02x}, {})", self.seq)
    }
}

impl MessageRef {
    fn write(&self, out: &mut String) {
        text::encode_bytes(&self.device, out);
        out.push('/');
        text::encode_number(self.seq, out);
    }
}

/// What a device writes into a chat. Grows at its end only.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ChatEntry {
    /// A message. At most one per envelope, whose number names it.
    Message(Message),
    /// Puts an emoji on a message or takes it off; the device's newest wins per message and
    /// emoji.
    Reaction {
        /// The message.
        target: MessageRef,
        /// 1 to [`MAX_EMOJI_BYTES`] bytes.
        emoji: String,
        /// On, or off again.
        on: bool,
        /// Lamport number.
        lamport: u64,
    },
    /// Asks for a message to be erased or hidden. Who may is the core's to decide.
    Recall {
        /// The message.
        target: MessageRef,
    },
    /// The chat's title.
    Title {
        /// At most [`MAX_TITLE_BYTES`] bytes.
        text: String,
        /// Lamport number.
        lamport: u64,
    },
    /// The chat's notice.
    Notice {
        /// At most [`MAX_NOTICE_BYTES`] bytes.
        text: String,
        /// Lamport number.
        lamport: u64,
    },
    /// The writer's own name in this chat.
    Nickname {
        /// At most [`MAX_NICKNAME_BYTES`] bytes; empty for none.
        text: String,
        /// Lamport number.
        lamport: u64,
    },
    /// How long new messages are kept.
    Timer {
        /// Seconds; 0 for ever.
        seconds: u32,
        /// Lamport number.
        lamport: u64,
    },
    /// A message with photos: its body says text and photos, further bodies are previews.
    Album(Message),
    /// What a Mini Program shares with the members under a key.
    State {
        /// The program.
        app: [u8; 32],
        /// 1 to [`MAX_STATE_KEY_BYTES`] bytes.
        key: String,
        /// At most [`MAX_STATE_BYTES`] bytes.
        value: Vec<u8>,
        /// Lamport number.
        lamport: u64,
    },
}

/// A message without its text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Message {
    /// Hash of the sealed body.
    pub body: [u8; 32],
    /// The message it answers.
    pub reply_to: Option<MessageRef>,
    /// Accounts mentioned: at most [`MAX_MENTIONS`], strictly ascending.
    pub mentions: Vec<[u8; 32]>,
    /// Whether it was forwarded from elsewhere. From where is not told.
    pub forwarded: bool,
    /// Seconds until it is erased, at least 1; `None` for never.
    pub expires_after: Option<u32>,
}

// Content never reaches a log by accident: kinds only.
impl fmt::Debug for ChatEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Message(_) => "Message",
            Self::Album(_) => "Album",
            Self::Reaction { .. } => "Reaction",
            Self::Recall { .. } => "Recall",
            Self::Title { .. } => "Title",
            Self::Notice { .. } => "Notice",
            Self::Nickname { .. } => "Nickname",
            Self::Timer { .. } => "Timer",
            Self::State { .. } => "State",
        })
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Message")
    }
}

impl TypedEntry for ChatEntry {
    const VARIANTS: u8 = 9;

    fn check(&self) -> Result<(), EntryError> {
        match self {
            Self::Message(m) | Self::Album(m) => {
                check_len(m.mentions.len(), MAX_MENTIONS, "too many mentions")?;
                if m.mentions.windows(2).any(|w| w[0] >= w[1]) {
                    return Err(EntryError::Malformed("mentions not strictly ascending"));
                }
                if m.expires_after == Some(0) {
                    return Err(EntryError::Malformed("expires at once"));
                }
                Ok(())
            }
            Self::Reaction { emoji, .. } => {
                if emoji.is_empty() {
                    return Err(EntryError::Malformed("no emoji"));
                }
                check_len(emoji.len(), MAX_EMOJI_BYTES, "emoji too long")
            }
            Self::Title { text, .. } => check_len(text.len(), MAX_TITLE_BYTES, "title too long"),
            Self::Notice { text, .. } => check_len(text.len(), MAX_NOTICE_BYTES, "notice too long"),
            Self::Nickname { text, .. } => {
                check_len(text.len(), MAX_NICKNAME_BYTES, "nickname too long")
            }
            Self::State { key, value, .. } => {
                if key.is_empty() {
                    return Err(EntryError::Malformed("no key"));
                }
                check_len(key.len(), MAX_STATE_KEY_BYTES, "key too long")?;
                check_len(value.len(), MAX_STATE_BYTES, "state too long")
            }
            Self::Recall { .. } | Self::Timer { .. } => Ok(()),
        }
    }

    fn key(&self, seq: u64) -> String {
        let mut key = String::new();
        match self {
            Self::Message(_) | Self::Album(_) => {
                key.push_str(MESSAGE);
                text::encode_number(seq, &mut key);
            }
            Self::Reaction { target, emoji, .. } => {
                key.push_str("r/");
                target.write(&mut key);
                key.push('/');
                key.push_str(emoji);
            }
            Self::Recall { target } => {
                key.push_str("x/");
                target.write(&mut key);
            }
            Self::Title { .. } => key.push_str("title"),
            Self::Notice { .. } => key.push_str("notice"),
            Self::Nickname { .. } => key.push_str("nick"),
            Self::Timer { .. } => key.push_str("timer"),
            Self::State { app, key: name, .. } => {
                key.push_str(STATE);
                text::encode_bytes(&slot(app, name), &mut key);
            }
        }
        key
    }
}

const MESSAGE: &str = "m/";
const STATE: &str = "p/";

/// A program's key in the length that an entry's key has room for. Programs have one length,
/// so that no two pairs meet.
fn slot(app: &[u8; 32], key: &str) -> [u8; 32] {
    let mut hash = blake3::Hasher::new_derive_key("teahouse/v1/program state slot");
    hash.update(app);
    hash.update(key.as_bytes());
    *hash.finalize().as_bytes()
}

/// Whether an entry claims to be what a program shares: a look at its key alone.
#[must_use]
pub fn is_state(entry: &Entry) -> bool {
    entry.key.starts_with(STATE)
}

/// The envelope number in a message's key; `None` for every other key.
#[must_use]
pub fn message_seq(key: &str) -> Option<u64> {
    text::decode_number(key.strip_prefix(MESSAGE)?)
}

/// What a chat shows, chosen from all devices' entries.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ChatView {
    /// Messages, recalled ones included.
    pub messages: BTreeMap<MessageRef, Message>,
    /// Reactions by message, then by device and emoji: whether it is on.
    pub reactions: BTreeMap<MessageRef, BTreeMap<(DeviceKey, String), Chosen<bool>>>,
    /// Who asked for a message to be recalled.
    pub recalls: BTreeMap<MessageRef, BTreeSet<DeviceKey>>,
    /// The title.
    pub title: Option<Chosen<String>>,
    /// The notice.
    pub notice: Option<Chosen<String>>,
    /// Seconds that new messages are kept; 0 for ever.
    pub timer: Option<Chosen<u32>>,
    /// Each device's own name in this chat.
    pub nicknames: BTreeMap<DeviceKey, Chosen<String>>,
    /// What programs share, by program and key.
    pub state: BTreeMap<([u8; 32], String), Chosen<Vec<u8>>>,
    /// The highest Lamport number seen.
    pub lamport: u64,
    /// Entries that this build can't read.
    pub unknown: u64,
}

impl fmt::Debug for ChatView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChatView({} messages)", self.messages.len())
    }
}

impl ChatView {
    /// Adds one entry, which `device` wrote in its envelope `seq`.
    ///
    /// Devices may come in any order; the entries of one device in the order of its chain.
    pub fn add(&mut self, device: DeviceKey, seq: u64, entry: ChatEntry) {
        match entry {
            ChatEntry::Message(message) | ChatEntry::Album(message) => {
                self.messages.insert(MessageRef { device, seq }, message);
            }
            ChatEntry::Reaction { target, emoji, on, lamport } => {
                self.lamport = self.lamport.max(lamport);
                let of_message = self.reactions.entry(target).or_default();
                Chosen::offer_at(of_message, (device, emoji), on, lamport, device);
            }
            ChatEntry::Recall { target } => {
                self.recalls.entry(target).or_default().insert(device);
            }
            ChatEntry::Title { text, lamport } => {
                self.lamport = self.lamport.max(lamport);
                Chosen::offer(&mut self.title, text, lamport, device);
            }
            ChatEntry::Notice { text, lamport } => {
                self.lamport = self.lamport.max(lamport);
                Chosen::offer(&mut self.notice, text, lamport, device);
            }
            ChatEntry::Nickname { text, lamport } => {
                self.lamport = self.lamport.max(lamport);
                Chosen::offer_at(&mut self.nicknames, device, text, lamport, device);
            }
            ChatEntry::Timer { seconds, lamport } => {
                self.lamport = self.lamport.max(lamport);
                Chosen::offer(&mut self.timer, seconds, lamport, device);
            }
            ChatEntry::State { app, key, value, lamport } => {
                self.lamport = self.lamport.max(lamport);
                Chosen::offer_at(&mut self.state, (app, key), value, lamport, device);
            }
        }
    }

    /// Adds all entries of a segment; segments in ascending order. `device_of` says whose an
    /// actor is; entries of actors it doesn't know are left out.
    pub fn add_document(
        &mut self,
        document: &Document,
        device_of: impl Fn(Actor) -> Option<DeviceKey>,
    ) {
        for (actor, entry) in document.entries() {
            let Some(device) = device_of(actor) else {
                continue;
            };
            // The document doesn't keep envelope numbers; a message's key tells its own.
            let seq = message_seq(&entry.key).unwrap_or(0);
            match ChatEntry::from_entry(seq, &entry) {
                Ok(value) => self.add(device, seq, value),
                Err(_) => self.unknown += 1,
            }
        }
    }

    /// The Lamport number for the next shared value that is written.
    #[must_use]
    pub const fn next_lamport(&self) -> u64 {
        self.lamport.saturating_add(1)
    }

    /// Reactions that are on, with the devices that put them there.
    #[must_use]
    pub fn reactions_on(&self, target: &MessageRef) -> BTreeMap<&str, BTreeSet<DeviceKey>> {
        let mut out: BTreeMap<&str, BTreeSet<DeviceKey>> = BTreeMap::new();
        for ((device, emoji), on) in self.reactions.get(target).into_iter().flatten() {
            if on.value {
                out.entry(emoji).or_default().insert(*device);
            }
        }
        out
    }

    /// Whether somebody recalled the message who may: `may` is asked for each who did.
    pub fn is_recalled(&self, target: &MessageRef, may: impl Fn(&DeviceKey) -> bool) -> bool {
        self.recalls.get(target).is_some_and(|who| who.iter().any(may))
    }

    /// A device's own name in this chat.
    #[must_use]
    pub fn nickname(&self, device: &DeviceKey) -> Option<&str> {
        Some(&self.nicknames.get(device)?.value)
    }
}

#[cfg(test)]
pub(crate) mod tests;
