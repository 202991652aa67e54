//! Teahouse's deterministic heart: engine, features, store.
//!
//! Pure but for its store: no clock, no randomness, no sockets, no async runtime. Time and
//! randomness come in with [`Env`]; everything else is an [`Input`] or follows from the
//! tables. Start reading at [`Core::step`] (`core/mod.rs`), then `tx.rs`, then one feature
//! (`features/chat.rs`), then the engine (`engine/letters`).

mod core;
mod engine;
mod env;
mod features;
mod tx;

pub mod command;
pub mod ledger;
pub mod query;
pub mod relay;
pub mod store;
pub mod tables;
pub mod view;

pub use self::core::{Core, CoreError, Input, MAX_BATCH, Outputs, Peers, Rebuilt};
pub use self::engine::mail::MailOut;
pub use self::env::Env;
pub use self::features::{contents, feeds, functions, moments, pay, photos, programs, replies};
