//! Teahouse's scenarios across crates. [`world`] runs real cores and real relays under
//! virtual time, with every fault drawn from a seed.

pub mod chaos;
pub mod world;
