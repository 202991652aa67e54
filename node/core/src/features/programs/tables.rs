//! What Mini Programs keep on this device.

use serde::{Deserialize, Serialize};

crate::tables::tables! {
    /// program → the signed manifest of the package that runs here (raw); its pages are here.
    truth PROGRAM_PACKAGES = "program_packages";
    /// program → the signed manifest of a newer package (raw), of which pages are missing.
    truth PROGRAM_COMING = "program_coming";
    /// program, BLAKE3 of the page → the page (raw).
    truth PROGRAM_PAGES = "program_pages";
    /// program, key → what the program keeps there (raw).
    truth PROGRAM_STORAGE = "program_storage";
    /// program → [`Room`].
    truth PROGRAM_ROOM = "program_room";
}

/// How much a program keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// Its keys.
    pub keys: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
}
