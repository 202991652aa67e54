//! The end: everything that went wrong is over, and honest replicas must come to agree.

use std::fmt::Write as _;

use super::{Check, SECOND, Town};
use crate::world::{Faults, Manners};

impl Town {
    /// Everything that went wrong is over; nobody does anything any more.
    pub(super) fn heal(&mut self) -> Check {
        self.tell("time: all heals", "");
        self.world.faults = Faults { delay: 20, ..Faults::default() };
        self.world.cut.clear();
        if self.profile.by_mail {
            // People meet at relays only. One's own devices meet: what was written before others
            // knew of a new device, that device has from its siblings. Who was invited into a
            // group meets the inviter: older history comes from device to device.
            let n = self.world.devices.len();
            let pairs = (0..n).flat_map(|a| (a + 1..n).map(move |b| (a, b)));
            self.world.cut = pairs
                .filter(|(a, b)| {
                    let account = |d| self.owner(d).map(|o| self.people[o].account);
                    let invited = |a, b| account(b).is_some_and(|b| self.invited.contains(&(a, b)));
                    let own = account(*a).is_some() && account(*a) == account(*b);
                    !own && !invited(*a, *b) && !invited(*b, *a)
                })
                .collect();
        }
        self.drain();
        for relay in 0..self.world.relays.len() {
            self.world.relays[relay].online = true;
            self.world.relays[relay].manners = Manners::default();
            self.world.start_relay(relay);
        }
        for device in 0..self.world.devices.len() {
            self.world.set_room(device, None);
            self.world.start(device);
            self.world.set_online(device, true);
        }
        self.world.reconnect();
        self.note()
    }

    /// Waits until honest replicas agree; a bounded time.
    pub(super) fn finale(&mut self) -> Check {
        let mut why = String::new();
        for round in 0..12 {
            self.world.run(30 * SECOND);
            if round % 2 == 1 {
                for device in 0..self.world.devices.len() {
                    self.world.flap(device);
                }
                self.world.run(10 * SECOND);
            }
            self.note()?;
            match self.converged() {
                Ok(()) => {
                    self.tell("time: converged", format!("after {round} rounds"));
                    self.check_all()?;
                    for device in 0..self.world.devices.len() {
                        self.check_rebuild(device)?;
                        self.check_documents(device)?;
                    }
                    return self.check_all();
                }
                Err(e) => why = e,
            }
        }
        let mut text = format!("honest members did not converge: {why}");
        if self.profile.by_mail {
            let _ = write!(text, " (by mail)");
        }
        Err(text)
    }
}
