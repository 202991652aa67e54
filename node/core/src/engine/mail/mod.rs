//! The client of relays: admission, tags, fetching, depositing.
//!
//! Everything to be done follows from tables (which tags are wanted, how far each relay has
//! the own chain, what waits in the outbox); [`pump()`] compares and asks, and [`reply()`] notes
//! what came of it. A lost request or reply costs time, nothing else: deposits are idempotent at
//! the relay, and fetches start after the highest index that is durable here.
//!
//! - [`session`]: what is remembered of a relay between steps: what is under way, what waits.
//! - [`mod@pump`]: the comparison, and how a request leaves. It looks at
//!   - [`tags`]: which tags are to be read, and which opened;
//!   - [`fetch`]: long fetches, round and round over the tags, and what they bring;
//!   - [`deposit`]: the own chain, under a topic's tag or into inboxes;
//!   - [`cursor`]: acknowledgements for authors that are not connected;
//!   - [`outbox`]: what is sealed to single devices.
//! - [`mod@reply`]: what a relay's answer or refusal changes.
//! - [`open`]: opening what was fetched, and taking it in.
//! - [`tokens`]: the right to open tags.

mod cursor;
mod deposit;
mod fetch;
mod open;
mod outbox;
mod pump;
mod reply;
mod session;
mod tags;
#[cfg(test)]
mod tests;
mod tokens;

pub(crate) use self::fetch::{note, stall};
pub(crate) use self::open::{prepare, take};
pub(crate) use self::outbox::{Look, run_settled};
pub use self::pump::MailOut;
pub(crate) use self::pump::pump;
pub(crate) use self::reply::reply;
pub(crate) use self::session::Session;
pub(crate) use self::tags::reopen_card;
pub(crate) use self::tokens::{share_tokens, take_tokens};
