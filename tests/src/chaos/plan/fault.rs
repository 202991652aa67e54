//! What goes wrong, drawn with its weight, and when it is over.

use rand_core::Rng;
use teahouse_core::Input;
use teahouse_core::store::backends::SyncFailure;

use super::{DAY, HOUR, SECOND, Town};

impl Town {
    pub(super) fn fault(&mut self) {
        let devices = self.world.devices.len();
        let device = self.below(devices);
        let relays = self.world.relays.len();
        let relay = self.below(relays);
        match self.below(1000) {
            0..220 => {
                if self.world.devices[device].core.is_some() {
                    self.tell("fault: crash", device);
                    self.world.crash(device, true);
                    let back = if self.coin(700) { 0 } else { 1 + self.below(40) as u64 };
                    self.away.insert(device, (self.event + back, true));
                }
            }
            220..330 => {
                self.tell("fault: offline", device);
                self.world.set_online(device, false);
                let back = 1 + self.below(120) as u64;
                self.away.entry(device).or_insert((self.event + back, false));
            }
            330..400 => {
                let long = if self.profile.sleepers { 500 } else { 150 };
                if self.world.devices[device].core.is_some() {
                    self.tell("fault: asleep", device);
                    self.world.crash(device, false);
                    let back = 20 + self.below(long) as u64;
                    self.away.insert(device, (self.event + back, true));
                }
            }
            400..520 => {
                let other = self.below(devices);
                if other != device {
                    self.tell("fault: partition", format!("{device} {other}"));
                    self.world.cut.insert((device.min(other), device.max(other)));
                    self.world.reconnect();
                }
            }
            520..560 => {
                self.tell("fault: split in two", "");
                for a in 0..devices {
                    for b in a + 1..devices {
                        if (a + b) % 2 == 1 {
                            self.world.cut.insert((a, b));
                        }
                    }
                }
                self.world.reconnect();
            }
            560..680 => {
                self.tell("fault: partitions heal", "");
                self.world.cut.clear();
                self.world.reconnect();
            }
            680..730 => {
                self.tell("fault: connections flap", device);
                self.world.flap(device);
            }
            730..770 => {
                let Some(to) = self.pick(&self.world.connected(device)) else { return };
                self.tell("fault: a peer's queue is full", format!("{device} to {to}"));
                self.world.full.insert((device, to));
                let peer = self.world.devices[to].id;
                self.world.input(device, Input::PeerFull { device: peer });
            }
            770..830 => {
                if self.profile.disks {
                    let then = if self.coin(500) { SyncFailure::Keep } else { SyncFailure::Drop };
                    let nth = 1 + self.below(4) as u64;
                    self.tell("fault: a sync fails", device);
                    self.world.fail_sync(device, nth, then);
                }
            }
            830..850 => {
                if self.profile.disks {
                    let room = self.below(64 * 1024) as u64;
                    self.tell("fault: disk full", format!("{device} {room} bytes left"));
                    self.world.set_room(device, Some(room));
                    let back = 5 + self.below(40) as u64;
                    self.room_back.insert(device, self.event + back);
                }
            }
            850..900 => {
                self.tell("fault: relay crash", relay);
                self.world.crash_relay(relay);
                let back = if self.coin(500) { 0 } else { self.below(60) as u64 };
                self.relay_back.insert(relay, self.event + back);
            }
            900..925 => {
                self.tell("fault: relay unreachable", relay);
                self.world.relays[relay].online = false;
                let back = 1 + self.below(60) as u64;
                self.relay_back.insert(relay, self.event + back);
            }
            925..945 => {
                if self.profile.disks {
                    self.tell("fault: a relay's sync fails", relay);
                    let nth = 1 + self.below(4) as u64;
                    self.world.relays[relay].disk.fail_sync(nth, SyncFailure::Drop);
                }
            }
            945..975 => {
                if self.profile.skew {
                    let unit =
                        self.pick(&[60 * SECOND, HOUR, DAY, 30 * DAY, 400 * DAY]).unwrap_or(HOUR);
                    let skew = i64::try_from(self.rng.next_u64() % (3 * unit)).unwrap_or(0);
                    let skew = if self.coin(500) { -skew } else { skew };
                    self.tell("fault: clock off", format!("{device} by {} min", skew / 60_000));
                    self.world.set_skew(device, skew);
                }
            }
            _ => {
                let lose = self.pick(&[0, 5, 20, 60, 200]).unwrap_or_default();
                self.tell("fault: loss changes", lose);
                self.world.faults.lose = lose;
                self.world.faults.lose_mail = lose.min(60);
                if self.profile.villain && self.progress() > self.events / 4 && !self.turned {
                    self.turned = true;
                    self.tell("fault: somebody turns hostile", "");
                }
            }
        }
    }

    /// Whoever was away long enough comes back.
    pub(super) fn come_back(&mut self) {
        let event = self.event;
        let back: Vec<usize> =
            self.away.iter().filter(|(_, (at, _))| *at <= event).map(|(d, _)| *d).collect();
        for device in back {
            self.away.remove(&device);
            self.world.start(device);
            if self.world.devices[device].core.is_none() {
                // Its disk is full.
                self.away.insert(device, (event + 5, true));
                continue;
            }
            self.world.set_online(device, true);
        }
        // A device whose core could not be opened again after an error.
        for device in 0..self.world.devices.len() {
            if self.world.devices[device].core.is_none() && !self.away.contains_key(&device) {
                self.away.insert(device, (event + 5, true));
            }
        }
        let back: Vec<usize> =
            self.room_back.iter().filter(|(_, at)| **at <= event).map(|(d, _)| *d).collect();
        for device in back {
            self.room_back.remove(&device);
            self.world.set_room(device, None);
        }
        let back: Vec<usize> =
            self.relay_back.iter().filter(|(_, at)| **at <= event).map(|(d, _)| *d).collect();
        for relay in back {
            self.relay_back.remove(&relay);
            self.world.relays[relay].online = true;
            self.world.start_relay(relay);
        }
        if self.coin(50) {
            self.drain();
        }
        self.go_on_linking();
    }

    pub(super) fn drain(&mut self) {
        for (from, to) in std::mem::take(&mut self.world.full) {
            let peer = self.world.devices[to].id;
            self.world.input(from, Input::PeerDrained { device: peer });
        }
    }
}
