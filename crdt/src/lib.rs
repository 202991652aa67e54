//! Teahouse's typed documents over automerge. Pure: no I/O, clock or randomness.
//!
//! # The rule
//! **An honest change never depends on somebody else's.**
//!
//! A topic's content is a sequence of *segments* (about 2,000 changes each). A segment is one
//! automerge document whose first change, the *genesis*, is byte-identical everywhere. Every
//! device has its own actor in every segment. A change's dependencies are exactly one hash:
//! the device's previous change in this segment, or the genesis. A device writes only keys of
//! the root map that begin with its own actor's prefix, and only bytes.
//!
//! So the merged document is the union of independent chains. Merging can't conflict, and a
//! refused, missing or erased change of one device holds up nobody else. Fields that people
//! share (a title, a reaction) are one entry per device with a Lamport number; the *view*
//! chooses among them ([`newer`]).
//!
//! # One spelling per change
//! A change is a function of (segment, actor, number in the chain, previous hash, entries):
//! [`OwnChain::append`] encodes it and [`inspect`] accepts exactly those bytes, so whether a
//! change is valid depends on nothing else that a replica happens to hold. Hostile bytes never
//! reach automerge's parser: our reader takes out what a change claims to say, the change is
//! encoded again from that, and the bytes must be equal.
//!
//! | module | what |
//! |---|---|
//! | [`segment`] | authoring ([`OwnChain`]) and validating ([`inspect`]) one device's changes |
//! | [`document`] | [`Document`], the merged segment: a cache that can be rebuilt |
//! | [`typed`] | [`TypedEntry`], how typed values become entries, and the choice by Lamport number |
//! | [`chat`], [`feed`], [`moments`], [`private`] | document types |
//!
//! # Adding a document type
//! 1. An enum of entries: structs of bounded fields; it only ever grows at its end. Derive serde
//!    and implement [`TypedEntry`]: `VARIANTS`, `check` (bounds and sortedness) and `key`. The
//!    key says what the value replaces: an entry under the same key of the same device is
//!    replaced by that device's next one. Content that is never replaced carries the envelope's
//!    number in its key (`m/<seq>`).
//! 2. A view folded from `(device, entry)`: shared fields are a [`Chosen`] by (lamport, device).
//! 3. A property test that the view is the same whatever the order of devices.

pub mod chat;
pub mod document;
pub mod feed;
pub mod moments;
pub mod private;
pub mod segment;
mod text;
pub mod typed;

pub use chat::{ChatEntry, ChatView, MessageRef};
pub use document::{Applied, ApplyError, Document, LoadError};
pub use feed::FeedEntry;
pub use moments::MomentsEntry;
pub use private::{PrivateEntry, PrivateView};
pub use segment::{
    Actor, AppendError, Entry, Inspected, InvalidChange, InvalidEntries, Misfit, OwnChain,
    ResumeError, SegmentRef, Tip, inspect,
};
pub use typed::{Chosen, DeviceKey, EntryError, TypedEntry, newer};

#[cfg(test)]
mod tests;
