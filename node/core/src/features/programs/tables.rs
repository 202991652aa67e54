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
    /// program → [`Heads`].
    truth PROGRAM_HEADS = "program_heads";
    /// topic, program, key → [`Chosen`](crate::tables::Chosen) of what is shared there (list).
    projection PROGRAM_STATE = "program_state";
    /// topic, program → [`Room`] of what is shared.
    projection PROGRAM_STATE_ROOM = "program_state_room";
    /// program, topic → what this device wrote there today
    /// ([`Spent`](super::state::Spent)).
    truth PROGRAM_STATE_SPENT = "program_state_spent";
}

/// How much a program keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// Its keys.
    pub keys: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
}

/// What is known of a manifest that was verified when it was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Its version code.
    pub code: u32,
    /// Its name among all.
    pub id: [u8; 32],
}

/// A program's manifests here, in short: whoever asks makes nobody verify them again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heads {
    /// Of the package that runs.
    pub whole: Option<Head>,
    /// Of the one that is coming.
    pub coming: Option<Head>,
}
