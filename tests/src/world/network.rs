//! The network: who is connected, and how what a core sends gets lost, doubled and late.

use teahouse_core::{Input, Outputs};

use super::{Event, Way, World};

/// How hostile the network is. Chances are in thousandths.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// A frame between devices is lost.
    pub lose: u32,
    /// A frame is delivered twice.
    pub double: u32,
    /// A frame overtakes others.
    pub reorder: u32,
    /// A relay's answer is lost, after it acted.
    pub lose_mail: u32,
    /// Longest delay of a frame, in milliseconds.
    pub delay: u64,
}

impl World {
    /// Devices to which one is connected.
    #[must_use]
    pub fn connected(&self, device: usize) -> Vec<usize> {
        self.devices[device].connected.iter().copied().collect()
    }

    /// Connects whoever wants to be and can, and disconnects the rest.
    pub fn reconnect(&mut self) {
        for a in 0..self.devices.len() {
            for b in a + 1..self.devices.len() {
                let now = self.devices[a].connected.contains(&b);
                let should = self.reachable(a, b);
                let (ida, idb) = (self.devices[a].id, self.devices[b].id);
                if should && !now {
                    self.devices[a].connected.insert(b);
                    self.devices[b].connected.insert(a);
                    self.input(a, Input::PeerUp { device: idb });
                    self.input(b, Input::PeerUp { device: ida });
                } else if !should && now {
                    self.devices[a].connected.remove(&b);
                    self.devices[b].connected.remove(&a);
                    self.input(a, Input::PeerDown { device: idb });
                    self.input(b, Input::PeerDown { device: ida });
                }
            }
        }
    }

    /// Breaks every connection of a device and makes them again.
    pub fn flap(&mut self, device: usize) {
        let was = self.devices[device].online;
        self.devices[device].online = false;
        self.reconnect();
        self.devices[device].online = was;
        self.reconnect();
    }

    /// Takes a device's network away or gives it back.
    pub fn set_online(&mut self, device: usize, online: bool) {
        self.devices[device].online = online;
        self.reconnect();
        if online {
            self.input(device, Input::Tick);
        }
    }

    /// Puts a frame into a device as if a connected device had sent it.
    pub fn forge(&mut self, from: usize, to: usize, bytes: Vec<u8>) -> bool {
        if !self.devices[to].connected.contains(&from) {
            return false;
        }
        self.at(self.now + 1, Event::Frame { to, from, bytes });
        true
    }

    fn reachable(&self, a: usize, b: usize) -> bool {
        let (x, y) = (&self.devices[a], &self.devices[b]);
        let wants = x.wanted.wanted.contains_key(&y.id) || y.wanted.wanted.contains_key(&x.id);
        x.online
            && y.online
            && x.core.is_some()
            && y.core.is_some()
            && wants
            && !self.cut.contains(&(a.min(b), a.max(b)))
    }

    pub(super) fn outputs(&mut self, device: usize, outputs: Outputs) {
        for (id, reply) in outputs.replies {
            self.devices[device].replies.insert(id, reply);
        }
        for (to, bytes) in outputs.frames {
            let Some(to) = self.devices.iter().position(|d| d.id == to) else { continue };
            if !self.devices[device].connected.contains(&to) {
                continue;
            }
            self.meter(device, Way::ToDevices, &bytes);
            if self.full.contains(&(device, to)) {
                self.count("frames_refused_full");
                continue;
            }
            if self.chance(self.faults.lose) {
                self.count("frames_lost");
                continue;
            }
            let copies = 1 + usize::from(self.chance(self.faults.double));
            if copies > 1 {
                self.count("frames_doubled");
            }
            for _ in 0..copies {
                let mut delay = 1;
                if self.chance(self.faults.reorder) {
                    self.count("frames_reordered");
                    delay += self.below(self.faults.delay.max(1) * 50);
                } else {
                    delay += self.faults.delay / 2;
                }
                let bytes = bytes.clone();
                self.at(self.now + delay, Event::Frame { to, from: device, bytes });
            }
        }
        let life = self.devices[device].life;
        for mail in outputs.mail {
            let relay = self.relays.iter().position(|r| r.id == mail.relay);
            let delay = 1 + self.below(self.faults.delay.max(1));
            match relay {
                Some(relay) if self.devices[device].online => {
                    self.meter(device, Way::ToRelays, &mail.request);
                    let event = Event::MailRequest {
                        relay,
                        device,
                        life,
                        id: mail.id,
                        clock: self.clock(device),
                        bytes: mail.request,
                    };
                    self.at(self.now + delay, event);
                }
                _ => {
                    let result = Err("the relay can't be reached".to_owned());
                    self.at(self.now + 50, Event::MailAnswer { device, life, id: mail.id, result });
                }
            }
        }
        if let Some(peers) = outputs.peers {
            self.devices[device].wanted = peers;
            self.reconnect();
        }
        if let Some(wake) = outputs.wake {
            // The core counts in its own clock.
            let wait = wake.saturating_sub(self.clock(device)).max(1);
            let at = self.now + wait;
            self.devices[device].wake = Some(at);
            self.at(at, Event::Wake(device, life, at));
        }
    }
}
