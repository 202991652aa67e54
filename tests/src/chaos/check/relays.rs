//! What relays may know: neither text nor people.

use std::collections::BTreeSet;

use teahouse_core::store::{KeyRange, ReadExt};

use super::rows::RELAY_ITEMS;
use crate::chaos::plan::{Check, Town};
use crate::chaos::truth::numbers_in;

impl Town {
    /// A relay's disk shows neither text nor people.
    pub(super) fn check_relays(&self) -> Check {
        let mut secrets: Vec<[u8; 32]> = self.people.iter().map(|p| p.account.0).collect();
        secrets.extend(self.world.devices.iter().map(|d| d.id.0));
        for (i, relay) in self.world.relays.iter().enumerate() {
            let Some(machine) = &relay.relay else { continue };
            let s = machine.reader().snapshot().expect("reads");
            for (_, bytes) in s.scan(&RELAY_ITEMS, &KeyRange::all(), false, 1 << 20).expect("reads")
            {
                let mut numbers = BTreeSet::new();
                numbers_in(&bytes, &mut numbers);
                if !numbers.is_empty() {
                    return Err(format!("relay {i} holds the text of message {numbers:?}"));
                }
                // Ids are random: their first eight bytes are enough to find them.
                let found = bytes.windows(8).any(|w| {
                    secrets.iter().any(|id| id[0] == w[0] && id[1] == w[1] && id[..8] == *w)
                });
                if found {
                    return Err(format!("relay {i} holds the id of an account or a device"));
                }
            }
        }
        Ok(())
    }
}
