//! What the machine can do without us: no file in this folder imports a `teahouse-*` crate, so
//! that no floor can be slowed by our own code.

#![allow(dead_code, reason = "each bench uses its part")]

pub(crate) mod blobs;
pub(crate) mod catch_up;
pub(crate) mod deposits;
pub(crate) mod live;
pub(crate) mod pay;
pub(crate) mod quic;
