//! The `private` topic: what an account's own devices keep in common.
//!
//! Everything here is a shared field with a Lamport number; each device's newest value replaces
//! its older one, and the view chooses among devices.

use core::fmt;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::document::Document;
use crate::segment::Actor;
use crate::text;
use crate::typed::{Chosen, DeviceKey, EntryError, TypedEntry, check_len};

/// Longest value of a contact, in bytes.
pub const MAX_CONTACT_BYTES: usize = 32 * 1024;
/// Longest name of a setting or a secret, in bytes.
pub const MAX_NAME_BYTES: usize = 32;
/// Longest value of a setting, in bytes.
pub const MAX_SETTING_BYTES: usize = 4 * 1024;
/// Longest secret, in bytes.
pub const MAX_SECRET_BYTES: usize = 1024;
/// Longest value of a feature's record, in bytes.
pub const MAX_RECORD_BYTES: usize = 32 * 1024;
/// Longest draft, in bytes.
pub const MAX_DRAFT_BYTES: usize = 4 * 1024;

/// What a device writes into its account's private topic. Grows at its end only.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PrivateEntry {
    /// What is kept about a contact; its meaning is the core's.
    Contact {
        /// The contact's account.
        account: [u8; 32],
        /// At most [`MAX_CONTACT_BYTES`]; empty for a contact removed.
        value: Vec<u8>,
        /// Lamport number.
        lamport: u64,
    },
    /// A setting that all devices follow.
    Setting {
        /// 1 to [`MAX_NAME_BYTES`] bytes.
        name: String,
        /// At most [`MAX_SETTING_BYTES`].
        value: Vec<u8>,
        /// Lamport number.
        lamport: u64,
    },
    /// How far a topic has been read.
    ReadMark {
        /// The topic.
        topic: [u8; 32],
        /// Display time of the last message read, in milliseconds since the Unix epoch.
        upto_time: u64,
        /// Lamport number.
        lamport: u64,
    },
    /// A key that all devices of the account hold.
    Secret {
        /// 1 to [`MAX_NAME_BYTES`] bytes.
        name: String,
        /// At most [`MAX_SECRET_BYTES`].
        value: Vec<u8>,
        /// Lamport number.
        lamport: u64,
    },
    /// A message not yet sent.
    Draft {
        /// The topic it is for.
        topic: [u8; 32],
        /// At most [`MAX_DRAFT_BYTES`] bytes; empty for none.
        text: String,
        /// Lamport number.
        lamport: u64,
    },
    /// What a feature keeps about something that has an id: who may see a topic, what is
    /// followed, what a program may do. The value's meaning is the feature's.
    Record {
        /// Whose: 1 to [`MAX_NAME_BYTES`] bytes.
        feature: String,
        /// About what.
        id: [u8; 32],
        /// At most [`MAX_RECORD_BYTES`]; empty for nothing.
        value: Vec<u8>,
        /// Lamport number.
        lamport: u64,
    },
}

// Content and secrets never reach a log by accident: kinds only.
impl fmt::Debug for PrivateEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Contact { .. } => "Contact",
            Self::Setting { .. } => "Setting",
            Self::ReadMark { .. } => "ReadMark",
            Self::Secret { .. } => "Secret",
            Self::Draft { .. } => "Draft",
            Self::Record { .. } => "Record",
        })
    }
}

impl PrivateEntry {
    /// The value's Lamport number.
    pub const fn lamport(&self) -> u64 {
        match self {
            Self::Contact { lamport, .. }
            | Self::Setting { lamport, .. }
            | Self::ReadMark { lamport, .. }
            | Self::Secret { lamport, .. }
            | Self::Draft { lamport, .. }
            | Self::Record { lamport, .. } => *lamport,
        }
    }
}

impl TypedEntry for PrivateEntry {
    const VARIANTS: u8 = 6;

    fn check(&self) -> Result<(), EntryError> {
        match self {
            Self::Contact { value, .. } => {
                check_len(value.len(), MAX_CONTACT_BYTES, "contact too long")
            }
            Self::Setting { name, value, .. } => {
                check_name(name)?;
                check_len(value.len(), MAX_SETTING_BYTES, "setting too long")
            }
            Self::ReadMark { .. } => Ok(()),
            Self::Secret { name, value, .. } => {
                check_name(name)?;
                check_len(value.len(), MAX_SECRET_BYTES, "secret too long")
            }
            Self::Draft { text, .. } => check_len(text.len(), MAX_DRAFT_BYTES, "draft too long"),
            Self::Record { feature, value, .. } => {
                check_name(feature)?;
                check_len(value.len(), MAX_RECORD_BYTES, "record too long")
            }
        }
    }

    /// Nothing here is named by its envelope: `seq` plays no part.
    fn key(&self, _seq: u64) -> String {
        match self {
            Self::Contact { account, .. } => id_key(CONTACT, account),
            Self::Setting { name, .. } => setting_key(name),
            Self::ReadMark { topic, .. } => id_key(READ_MARK, topic),
            Self::Secret { name, .. } => secret_key(name),
            Self::Draft { topic, .. } => id_key(DRAFT, topic),
            Self::Record { feature, id, .. } => record_key(feature, id),
        }
    }
}

fn check_name(name: &str) -> Result<(), EntryError> {
    if name.is_empty() {
        return Err(EntryError::Malformed("no name"));
    }
    check_len(name.len(), MAX_NAME_BYTES, "name too long")
}

const CONTACT: &str = "c/";
const READ_MARK: &str = "r/";
const DRAFT: &str = "d/";

fn setting_key(name: &str) -> String {
    format!("s/{name}")
}

fn secret_key(name: &str) -> String {
    format!("k/{name}")
}

fn record_key(feature: &str, id: &[u8; 32]) -> String {
    id_key(&format!("f/{feature}/"), id)
}

fn id_key(kind: &str, id: &[u8; 32]) -> String {
    let mut key = kind.to_owned();
    text::encode_bytes(id, &mut key);
    key
}

/// What the account's devices have in common, chosen from all their entries.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PrivateView {
    /// The newest entry under each key of [`TypedEntry::key`].
    pub chosen: BTreeMap<String, Chosen<PrivateEntry>>,
    /// The highest Lamport number seen.
    pub lamport: u64,
    /// Entries that this build can't read.
    pub unknown: u64,
}

impl fmt::Debug for PrivateView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateView({} entries)", self.chosen.len())
    }
}

impl PrivateView {
    /// Adds one entry of a device.
    ///
    /// Devices may come in any order; the entries of one device in the order of its chain.
    pub fn add(&mut self, device: DeviceKey, entry: PrivateEntry) {
        let lamport = entry.lamport();
        self.lamport = self.lamport.max(lamport);
        Chosen::offer_at(&mut self.chosen, entry.key(0), entry, lamport, device);
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
            match PrivateEntry::from_entry(0, &entry) {
                Ok(value) => self.add(device, value),
                Err(_) => self.unknown += 1,
            }
        }
    }

    /// The Lamport number for the next value that is written.
    #[must_use]
    pub const fn next_lamport(&self) -> u64 {
        self.lamport.saturating_add(1)
    }

    /// All contacts that are not removed, by account.
    pub fn contacts(&self) -> impl Iterator<Item = (&[u8; 32], &[u8])> {
        self.chosen.values().filter_map(|c| match &c.value {
            PrivateEntry::Contact { account, value, .. } if !value.is_empty() => {
                Some((account, value.as_slice()))
            }
            _ => None,
        })
    }

    /// A setting's value.
    #[must_use]
    pub fn setting(&self, name: &str) -> Option<&[u8]> {
        match self.at(&setting_key(name))? {
            PrivateEntry::Setting { value, .. } => Some(value),
            _ => None,
        }
    }

    /// How far a topic has been read: display time in milliseconds.
    #[must_use]
    pub fn read_mark(&self, topic: &[u8; 32]) -> Option<u64> {
        match self.at(&id_key(READ_MARK, topic))? {
            PrivateEntry::ReadMark { upto_time, .. } => Some(*upto_time),
            _ => None,
        }
    }

    /// A secret.
    #[must_use]
    pub fn secret(&self, name: &str) -> Option<&[u8]> {
        match self.at(&secret_key(name))? {
            PrivateEntry::Secret { value, .. } => Some(value),
            _ => None,
        }
    }

    /// A topic's draft; `None` if there is none or it is empty.
    #[must_use]
    pub fn draft(&self, topic: &[u8; 32]) -> Option<&str> {
        match self.at(&id_key(DRAFT, topic))? {
            PrivateEntry::Draft { text, .. } if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    /// A feature's record about something; `None` if there is none or it is empty.
    #[must_use]
    pub fn record(&self, feature: &str, id: &[u8; 32]) -> Option<&[u8]> {
        match self.at(&record_key(feature, id))? {
            PrivateEntry::Record { value, .. } if !value.is_empty() => Some(value),
            _ => None,
        }
    }

    fn at(&self, key: &str) -> Option<&PrivateEntry> {
        Some(&self.chosen.get(key)?.value)
    }
}

#[cfg(test)]
mod tests;
