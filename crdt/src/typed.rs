//! Typed values as entries, and the choice among several devices' values of one shared field.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::segment::{Entry, MAX_VALUE_BYTES};

/// A device's public key, as 32 bytes.
pub type DeviceKey = [u8; 32];

/// An enum of the entries that one document type has.
///
/// The value is postcard, decoded canonically: one spelling per value. The enum only ever grows
/// at its end, because postcard numbers variants by position.
pub trait TypedEntry: Serialize + DeserializeOwned {
    /// How many variants this build knows; fewer than 128.
    const VARIANTS: u8;

    /// Checks bounds, and that sets are strictly ascending.
    ///
    /// # Errors
    /// [`EntryError::Malformed`] says what is out of bounds.
    fn check(&self) -> Result<(), EntryError>;

    /// The key under which the value is written. `seq` is the number of the envelope that
    /// carries it, which types of content that is never replaced put into their keys.
    fn key(&self, seq: u64) -> String;

    /// The entry to append for this value.
    ///
    /// # Errors
    /// [`EntryError`], for what [`TypedEntry::from_entry`] would refuse.
    fn to_entry(&self, seq: u64) -> Result<Entry, EntryError> {
        self.check()?;
        let value = postcard::to_stdvec(self).map_err(|_| EntryError::Malformed("unencodable"))?;
        if value.len() > MAX_VALUE_BYTES {
            return Err(EntryError::Malformed("too long"));
        }
        Ok(Entry { key: self.key(seq), value })
    }

    /// Decodes an entry that an envelope of number `seq` carried.
    ///
    /// # Errors
    /// [`EntryError`]
    fn from_entry(seq: u64, entry: &Entry) -> Result<Self, EntryError> {
        let value = entry.value.as_slice();
        if value.len() > MAX_VALUE_BYTES {
            return Err(EntryError::Malformed("too long"));
        }
        match value.first() {
            None => return Err(EntryError::Malformed("empty")),
            Some(&first) if first >= Self::VARIANTS => return Err(EntryError::Unknown),
            Some(_) => {}
        }
        let (this, rest) = postcard::take_from_bytes::<Self>(value)
            .map_err(|_| EntryError::Malformed("undecodable"))?;
        if !rest.is_empty() {
            return Err(EntryError::Malformed("trailing bytes"));
        }
        if postcard::to_stdvec(&this).as_deref() != Ok(value) {
            return Err(EntryError::NotCanonical);
        }
        this.check()?;
        if this.key(seq) != entry.key {
            return Err(EntryError::WrongKey);
        }
        Ok(this)
    }
}

/// Why an entry is not a value of a document type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// A kind that this build doesn't know: to be shown as "update to read", and read again
    /// after an upgrade.
    #[error("a kind of entry from a newer version")]
    Unknown,
    /// Not an encoding of this type, or out of its bounds.
    #[error("malformed ({0})")]
    Malformed(&'static str),
    /// A valid value in a second spelling.
    #[error("not the canonical encoding")]
    NotCanonical,
    /// Written under another key than its own.
    #[error("written under another value's key")]
    WrongKey,
}

/// Whether the candidate's value replaces the current one, each named by (Lamport number,
/// device).
///
/// The highest Lamport number wins; of equal ones the highest device. A device that uses one
/// number twice replaces its own earlier value: chains are read in their order, so every
/// replica sees the same one last.
#[must_use]
pub fn newer(candidate: (u64, DeviceKey), current: (u64, DeviceKey)) -> bool {
    candidate >= current
}

/// The value chosen for a shared field, and whose it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Chosen<T> {
    /// The value.
    pub value: T,
    /// Its Lamport number.
    pub lamport: u64,
    /// The device that wrote it.
    pub device: DeviceKey,
}

// The value is content: it never reaches a log by accident.
impl<T> core::fmt::Debug for Chosen<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Chosen(lamport {})", self.lamport)
    }
}

impl<T> Chosen<T> {
    /// Puts a value into `slot` if it is [`newer`] than what is there.
    pub fn offer(slot: &mut Option<Self>, value: T, lamport: u64, device: DeviceKey) {
        let candidate = Self { value, lamport, device };
        match slot {
            Some(now) => now.yield_to(candidate),
            None => *slot = Some(candidate),
        }
    }

    /// Puts a value under `key` if it is [`newer`] than what is there.
    pub fn offer_at<K: Ord>(
        map: &mut BTreeMap<K, Self>,
        key: K,
        value: T,
        lamport: u64,
        device: DeviceKey,
    ) {
        let candidate = Self { value, lamport, device };
        match map.entry(key) {
            Slot::Occupied(mut now) => now.get_mut().yield_to(candidate),
            Slot::Vacant(slot) => {
                slot.insert(candidate);
            }
        }
    }

    fn yield_to(&mut self, candidate: Self) {
        if newer((candidate.lamport, candidate.device), (self.lamport, self.device)) {
            *self = candidate;
        }
    }
}

/// Refuses text longer than `max` bytes.
pub(crate) fn check_len(len: usize, max: usize, what: &'static str) -> Result<(), EntryError> {
    if len > max {
        return Err(EntryError::Malformed(what));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        // A fold by `newer` must not depend on the order in which devices come.
        #[test]
        fn choice_is_the_same_in_any_order(
            lamports in proptest::collection::vec(0u64..4, 1..6),
            rotate in 0usize..6,
        ) {
            let values: Vec<_> = lamports.iter().zip(0u8..).map(|(l, d)| (*l, [d; 32])).collect();
            let mut turned = values.clone();
            turned.rotate_left(rotate % values.len());
            turned.reverse();
            let choose = |values: &[(u64, DeviceKey)]| {
                let mut slot = None;
                for (lamport, device) in values {
                    Chosen::offer(&mut slot, (), *lamport, *device);
                }
                slot
            };
            let chosen = choose(&values);
            prop_assert_eq!(&chosen, &choose(&turned));
            let chosen = chosen.unwrap();
            prop_assert_eq!((chosen.lamport, chosen.device), *values.iter().max().unwrap());
        }
    }

    #[test]
    fn a_devices_later_value_replaces_its_own_of_the_same_number() {
        let mut slot = None;
        Chosen::offer(&mut slot, "first", 3, [1; 32]);
        Chosen::offer(&mut slot, "second", 3, [1; 32]);
        Chosen::offer(&mut slot, "lower device", 3, [0; 32]);
        assert_eq!(slot.unwrap().value, "second");
    }
}
