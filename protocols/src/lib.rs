//! Teahouse's wire: what is signed, sealed and sent, and the rules by which anybody can
//! judge it. Pure: no I/O, no clock, no randomness of its own, no threads.
//!
//! Read in this order: [`codec`] (bytes ↔ values), [`sign`] (signatures and hashes),
//! [`ids`], [`lines`] (texts of strangers), then identity ([`words`], [`account`],
//! [`prekey`], [`card`], [`link`]), then topics ([`envelope`], [`membership`], [`epoch`]) and [`content`], then transport
//! ([`inbox`], [`sync`], [`cursor`], [`mailbox`], [`pairing`]), then what topics carry
//! ([`photo`], [`moments`], [`feed`]), then money ([`pay`]) and Mini Programs ([`package`],
//! [`functions`]). [`bugs`] is for the simulator alone.

pub mod account;
pub mod bugs;
pub mod card;
pub mod codec;
pub mod content;
pub mod cursor;
pub mod dag;
pub mod envelope;
pub mod epoch;
pub mod feed;
pub mod functions;
pub mod ids;
pub mod inbox;
pub mod lines;
pub mod link;
pub mod mailbox;
pub mod membership;
pub mod moments;
pub mod package;
pub mod pairing;
pub mod pay;
pub mod photo;
pub mod prekey;
pub mod safety;
pub mod seal;
pub mod sign;
pub mod sync;
pub mod words;
