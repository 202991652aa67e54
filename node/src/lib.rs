//! A Teahouse node: the deterministic core with what makes it run in the world.
//!
//! Reading order: [`runtime`] (how a node lives), [`handle`] (how it is used), [`watch`]
//! (queries that follow the data), [`net`] (the network), [`media`] (photos, over [`blobs`]),
//! [`programs`] (Mini Programs, opened), [`roles`] (what `teahouse run` runs), [`api`] and
//! [`client`] (the local HTTP API and who speaks it), [`cli`].

pub mod api;
pub mod blobs;
pub mod cli;
pub mod client;
pub mod config;
pub mod doctor;
pub mod handle;
pub mod logging;
pub mod media;
pub mod metrics;
pub mod net;
pub mod programs;
pub mod roles;
pub mod runtime;
pub mod town;
pub mod watch;

pub use handle::{Handle, NodeError};
pub use runtime::{NetworkConfig, Node, NodeConfig};

// What the app needs of the layers below goes through here: it talks to the node alone.
pub use teahouse_core as core;
pub use teahouse_protocols as protocols;
pub use tokio;
