//! The invariants. Each error is a sentence that says what can't be.
//!
//! What must hold at any moment: `holds` (what one device holds and shows), `claims` (statuses),
//! `former` (who is out), `moments` (posts and words), `relays` (what their disks show). What must hold once all has healed:
//! `converged` (honest devices agree) by way of `replica` (rows), `removal` (strong removal),
//! `arrived` (what was said has come) and `timeline` (posts and words). What a device can be asked for by itself: `rebuild` and
//! `documents`. They read tables through `rows`.

mod arrived;
mod claims;
mod converged;
mod documents;
mod former;
mod holds;
mod moments;
mod rebuild;
mod relays;
mod removal;
mod replica;
mod rows;
mod timeline;

use crate::chaos::plan::{Check, Town};

pub(crate) use self::documents::actor;
pub(crate) use self::rows::id_in;

impl Town {
    /// Everything that must hold at any moment.
    pub(crate) fn check_all(&mut self) -> Check {
        for device in 0..self.world.devices.len() {
            self.check_device(device)?;
        }
        self.check_doubles()?;
        self.check_claims()?;
        self.check_former()?;
        self.check_moments()?;
        self.check_relays()
    }

    pub(crate) fn up(&self, device: usize) -> bool {
        self.world.devices[device].core.is_some()
    }

    pub(crate) fn owner(&self, device: usize) -> Option<usize> {
        self.people.iter().position(|p| p.devices.contains(&device))
    }

    fn is_villain(&self, device: usize) -> bool {
        self.owner(device).is_some_and(|p| self.people[p].villain)
    }
}
