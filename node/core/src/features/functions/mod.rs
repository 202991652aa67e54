//! Functions of Mini Programs: the part of a program that its developer's node runs.
//!
//! One device runs a program's functions, one after another, and is the only writer of what
//! they keep. What is to be run stands in a table: the runtime takes the first of it, runs it to
//! its end without keys or sockets, with what it writes set aside, and then says all of it in
//! *one* command ([`Command::Finish`]). What the function wrote, the offer it asked for, what it
//! gives back and its answer are one transaction, so a crash before it runs the function again
//! from the same state, and none comes after half of it.
//!
//! What becomes of an offer is put on the same list, in the transaction of the payment, of the
//! refund or of the offer's end: functions hear of each exactly once in effect.
//!
//! - `tables`: the rows.
//! - `server`: calls as they come, what functions did, what they are told.
//! - `caller`: calls of this device's programs, said until they are answered.
//! - `bills`: offers that programs show to be paid.
//! - `service`: both ends of the wire.
//! - `command`, `query`: what the runtime and people ask for.

mod bills;
mod caller;
mod command;
pub mod query;
mod server;
mod service;
pub mod tables;

use crate::features::Feature;
use crate::features::programs::Shelf;
use crate::query::Asked;

pub(crate) use self::command::command;
pub use self::command::{Command, NewOffer, NewRefund, Ran, Write};
pub(crate) use self::server::{closed, ordered, refunded};

/// What functions keep.
const SHELF: Shelf = Shelf {
    rows: &tables::FUNCTION_STORAGE,
    room: &tables::FUNCTION_ROOM,
    keys: MAX_KEYS,
    bytes: MAX_ROOM,
};
/// Most keys that one program's functions keep.
pub const MAX_KEYS: u64 = 65_536;
/// Most bytes that they keep: a shop's books of a season.
pub const MAX_ROOM: u64 = 64 * 1024 * 1024;
/// Most programs whose functions run here.
pub const MAX_SERVED: usize = 16;
/// Most keys and values that one function's run changes.
pub const MAX_WRITES: usize = 256;
/// Most that one run gives back.
pub const MAX_REFUNDS: usize = 8;

pub(crate) const FEATURE: Feature = Feature {
    name: "functions",
    tables: tables::ALL,
    queries: &[
        Asked::of::<query::Functions>(),
        Asked::of::<query::Due>(),
        Asked::of::<query::Kept>(),
        Asked::of::<query::KeptKeys>(),
        Asked::of::<query::AnswerOf>(),
    ],
    service: Some(service::SERVICE),
    ..Feature::NONE
};
