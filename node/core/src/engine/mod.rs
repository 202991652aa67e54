//! The engine: accounts, topics, keys, envelopes, sync and mailboxes. It knows no feature.
//!
//! - [`accounts`]: account logs, devices, prekeys. Who is who.
//! - [`topics`]: membership and epochs. Who is in, and which key opens what.
//! - [`letters`]: envelopes in and out: append, accept, wait, replay.
//! - [`forks`]: devices that told two stories, and the proofs of it.
//! - [`latecomers`]: what devices that became known late are sent.
//! - [`greeting`]: what two devices compare when they meet.
//! - [`sync`]: frames with connected devices.
//! - [`cursors`]: acknowledgements, and what they prove.
//! - [`inbox`]: what is sealed to one device.
//! - [`mail`]: the client of relays.
//! - [`pairing`]: linking a device.

pub(crate) mod accounts;
pub(crate) mod cursors;
pub(crate) mod forks;
pub(crate) mod greeting;
pub(crate) mod inbox;
pub(crate) mod latecomers;
pub(crate) mod letters;
pub(crate) mod mail;
pub(crate) mod pairing;
pub(crate) mod sync;
pub(crate) mod topics;
