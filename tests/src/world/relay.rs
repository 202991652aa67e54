//! A community's relay: its mailbox, its disk, and how it cheats.

use std::collections::BTreeMap;

use teahouse_core::Env;
use teahouse_core::relay::{Relay, RelayConfig, RelayInput};
use teahouse_core::store::Store;
use teahouse_core::store::backends::SimDisk;
use teahouse_protocols::account::RelayAddr;
use teahouse_protocols::card::LinkSecret;
use teahouse_protocols::codec::{self, Text};
use teahouse_protocols::envelope::sealed_hash;
use teahouse_protocols::ids::{Millis, RelayId};
use teahouse_protocols::link::{Link, RelayInvite};
use teahouse_protocols::mailbox::{MAX_ITEM, Reply as MailReply};

use super::{Deposited, Event, World};

/// A community's relay.
pub struct RelayNode {
    /// The state machine; `None` while it is down.
    pub relay: Option<Relay>,
    /// Its disk.
    pub disk: SimDisk,
    /// Its key.
    pub id: RelayId,
    /// Whether it can be reached.
    pub online: bool,
    /// How it cheats.
    pub manners: Manners,
    env: Env,
    waiting: Vec<RelayInput>,
    pub(super) scheduled: bool,
    pub(super) wake: Option<Millis>,
    pub(super) life: u64,
    pub(super) requests: BTreeMap<u64, Asked>,
    invites: BTreeMap<u64, [u8; 16]>,
}

/// How a relay cheats. Chances are in thousandths, per item or per answer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Manners {
    /// An item is left out of an answer, for good: the client's position moves past it.
    pub drop: u32,
    /// An answer says that there is nothing.
    pub withhold: u32,
    /// An item is sent twice.
    pub repeat: u32,
    /// An item that nobody left is added.
    pub invent: u32,
}

/// A request that a relay is to answer.
pub(super) struct Asked {
    pub(super) device: usize,
    pub(super) life: u64,
    pub(super) id: u64,
    /// A deposit, acknowledged or not.
    pub(super) deposit: Option<Deposited>,
}

impl World {
    /// Adds a relay; returns its index.
    pub fn add_relay(&mut self) -> usize {
        let disk = SimDisk::new();
        let mut env = Env::seeded(self.now, self.seed());
        let id = RelayId(self.seed());
        let store = Store::on_disk(&disk).expect("an empty disk opens");
        let relay = Relay::open(store, id, relay_config(), &mut env).expect("a relay opens");
        self.relays.push(RelayNode {
            relay: Some(relay),
            disk,
            id,
            online: true,
            manners: Manners::default(),
            env,
            waiting: Vec::new(),
            scheduled: false,
            wake: None,
            life: 0,
            requests: BTreeMap::new(),
            invites: BTreeMap::new(),
        });
        self.relays.len() - 1
    }

    /// An invite link of a relay, with a greeter's card or without.
    pub fn invite(&mut self, relay: usize, greeter: Option<&str>) -> String {
        self.number += 1;
        let number = self.number;
        self.relay_input(relay, RelayInput::Invite { id: number, uses: 1_000, days: 365 });
        while !self.relays[relay].invites.contains_key(&number) {
            assert!(self.next(), "the relay answers");
        }
        let code = self.relays[relay].invites[&number];
        let card = greeter.map(|link| match Link::parse(link).expect("a card") {
            Link::Card(card) => card.bytes().to_vec().try_into().expect("fits"),
            _ => panic!("not a card"),
        });
        let invite = RelayInvite {
            version: 1,
            relay: RelayAddr {
                id: self.relays[relay].id,
                addrs: vec![Text::try_from("/memory/1").expect("short")].try_into().expect("one"),
            },
            code: LinkSecret(code),
            greeter: card,
            community: Text::try_from("town").expect("short"),
        };
        Link::RelayInvite(invite).to_uri()
    }

    /// Kills a relay.
    pub fn crash_relay(&mut self, relay: usize) {
        self.count("relay_crashes");
        let r = &mut self.relays[relay];
        r.disk.crash(&mut self.rng);
        r.relay = None;
        r.waiting.clear();
        r.scheduled = false;
        r.wake = None;
        r.life += 1;
        let requests = std::mem::take(&mut r.requests);
        for Asked { device, life, id, .. } in requests.into_values() {
            let result = Err("the relay went away".to_owned());
            self.at(self.now + 20, Event::MailAnswer { device, life, id, result });
        }
    }

    /// Starts a relay from its disk.
    pub fn start_relay(&mut self, relay: usize) {
        let seed = self.seed();
        let now = self.now;
        let r = &mut self.relays[relay];
        if r.relay.is_some() {
            return;
        }
        r.env = Env::seeded(now, seed);
        // A sync that is made to fail fails once.
        let mut open = || {
            let store = Store::on_disk(&r.disk).map_err(|e| e.to_string())?;
            Relay::open(store, r.id, relay_config(), &mut r.env).map_err(|e| e.to_string())
        };
        let machine = open().or_else(|_| open()).or_else(|_| open()).expect("a relay opens");
        r.relay = Some(machine);
        self.relay_input(relay, RelayInput::Tick);
    }

    pub(super) fn relay_input(&mut self, relay: usize, input: RelayInput) {
        if self.relays[relay].relay.is_none() {
            return;
        }
        self.relays[relay].waiting.push(input);
        if !self.relays[relay].scheduled {
            self.relays[relay].scheduled = true;
            let life = self.relays[relay].life;
            let at = self.now + 1 + self.below(4);
            self.at(at, Event::RelayStep(relay, life));
        }
    }

    pub(super) fn relay_step(&mut self, relay: usize) {
        let now = self.now;
        let r = &mut self.relays[relay];
        let Some(machine) = r.relay.as_mut() else { return };
        let mut batch = std::mem::take(&mut r.waiting);
        if batch.is_empty() {
            batch.push(RelayInput::Tick);
        }
        r.env.now = now;
        let Ok(outputs) = machine.step(&mut r.env, batch) else {
            self.count("relay_storage_errors");
            self.crash_relay(relay);
            self.start_relay(relay);
            return;
        };
        let life = r.life;
        for (id, code) in outputs.invites {
            r.invites.insert(id, code);
        }
        for (number, bytes) in outputs.answers {
            let Some(asked) = self.relays[relay].requests.remove(&number) else {
                continue;
            };
            let Asked { device, life, id, deposit } = asked;
            let bytes = self.see_answer(relay, bytes, deposit);
            let result = if self.chance(self.faults.lose_mail) {
                self.count("answers_lost");
                Err("no answer".to_owned())
            } else {
                Ok(bytes)
            };
            let delay = 1 + self.below(self.faults.delay.max(1));
            self.at(self.now + delay, Event::MailAnswer { device, life, id, result });
        }
        if let Some(wake) = outputs.wake {
            let wait = wake.saturating_sub(self.now).max(1);
            let at = self.now + wait;
            self.relays[relay].wake = Some(at);
            self.at(at, Event::RelayWake(relay, life, at));
        }
    }

    /// Looks at an honest answer, then lets the relay cheat.
    fn see_answer(&mut self, relay: usize, bytes: Vec<u8>, deposit: Option<Deposited>) -> Vec<u8> {
        if !self.watch {
            return bytes;
        }
        let manners = self.relays[relay].manners;
        match codec::decode::<MailReply>(&bytes) {
            Ok(MailReply::Deposited { .. }) => {
                self.deposited.extend(deposit.map(|d| Deposited { at: self.now, ..d }));
                bytes
            }
            Ok(MailReply::Items { items, closed, more, watched, nth }) => {
                let mut out = Vec::new();
                for (tag, index, item) in items {
                    let hash = short_hash(&item);
                    let known = *self.served.entry((relay, tag, index)).or_insert(hash);
                    if known != hash {
                        self.broken.push(format!(
                            "relay {relay} gave the index {index} of a tag to two items"
                        ));
                    }
                    if self.chance(manners.drop) {
                        self.count("relay_dropped");
                        continue;
                    }
                    if self.chance(manners.repeat) {
                        self.count("relay_repeated");
                        out.push((tag, index, item.clone()));
                    }
                    if self.chance(manners.invent) {
                        self.count("relay_invented");
                        let mut junk = item.to_vec();
                        let at = self.below(junk.len() as u64) as usize;
                        junk[at] ^= 1 << self.below(8);
                        if let Ok(junk) = codec::Bytes::<MAX_ITEM>::try_from(junk) {
                            out.push((tag, index, junk));
                        }
                    }
                    out.push((tag, index, item));
                }
                if !out.is_empty() && self.chance(manners.withhold) {
                    self.count("relay_withheld");
                    out.clear();
                }
                let Ok(items) = codec::List::try_from(out) else { return bytes };
                codec::encode(&MailReply::Items { items, closed, more, watched, nth })
            }
            _ => bytes,
        }
    }
}

fn short_hash(bytes: &[u8]) -> [u8; 16] {
    let hash = sealed_hash(bytes);
    *hash.0.first_chunk().expect("32 bytes")
}

fn relay_config() -> RelayConfig {
    RelayConfig { name: "town".into(), keep_days: 30, max_bytes: 1 << 30, tag_bytes: 64 << 20 }
}
