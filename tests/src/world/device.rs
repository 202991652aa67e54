//! A person's device: its core, its disk and its clock; commands, steps, crashes and starts.

use std::collections::{BTreeMap, BTreeSet};

use teahouse_core::command::{Command, Refusal, Reply};
use teahouse_core::store::backends::{SimDisk, SyncFailure};
use teahouse_core::store::{Snapshot, Store};
use teahouse_core::{Core, Env, Input, Peers};
use teahouse_protocols::ids::{DeviceId, Millis};

use super::{Audience, Event, Said, Traffic, World};

/// A person's device.
pub struct Device {
    /// The core; `None` while it is down.
    pub core: Option<Core>,
    /// Its disk; survives crashes.
    pub disk: SimDisk,
    /// Its key.
    pub id: DeviceId,
    /// Whether its network is up.
    pub online: bool,
    /// Replies to commands, by number.
    pub replies: BTreeMap<u64, Result<Reply, Refusal>>,
    /// How far its clock is off, in milliseconds (may be negative).
    pub skew: i64,
    /// Whether its disk is full: then it may fail to start.
    pub disk_is_troubled: bool,
    /// What went over its network; counted only for whom that is asked.
    pub traffic: Option<Traffic>,
    env: Env,
    waiting: Vec<Input>,
    pub(super) scheduled: bool,
    pub(super) wake: Option<Millis>,
    pub(super) life: u64,
    pub(super) wanted: Peers,
    pub(super) connected: BTreeSet<usize>,
}

impl World {
    /// Adds a device with an empty disk; returns its index.
    pub fn add_device(&mut self) -> usize {
        let disk = SimDisk::new();
        let mut env = Env::seeded(self.now, self.seed());
        let store = Store::on_disk(&disk).expect("an empty disk opens");
        let core = Core::open(store, &mut env).expect("an empty core opens");
        let id = core.device();
        self.devices.push(Device {
            core: Some(core),
            disk,
            id,
            online: true,
            replies: BTreeMap::new(),
            skew: 0,
            disk_is_troubled: false,
            traffic: None,
            env,
            waiting: Vec::new(),
            scheduled: false,
            wake: None,
            life: 0,
            wanted: Peers::default(),
            connected: BTreeSet::new(),
        });
        self.devices.len() - 1
    }

    /// A read snapshot of a device that is up.
    #[must_use]
    pub fn snapshot(&self, device: usize) -> Snapshot {
        let core = self.devices[device].core.as_ref().expect("the device is up");
        core.store().snapshot().expect("a snapshot")
    }

    /// Hands a device an input; it steps a moment later, with whatever else has come.
    pub fn input(&mut self, device: usize, input: Input) {
        if self.devices[device].core.is_none() {
            return;
        }
        self.devices[device].waiting.push(input);
        if !self.devices[device].scheduled {
            self.devices[device].scheduled = true;
            let life = self.devices[device].life;
            let at = self.now + 1 + self.below(4);
            self.at(at, Event::Step(device, life));
        }
    }

    /// Sends a command; the reply is under the returned number once it is durable.
    pub fn command(&mut self, device: usize, command: Command) -> u64 {
        self.number += 1;
        let id = self.number;
        self.input(device, Input::Command { id, command });
        id
    }

    /// Sends a command and runs the world until it is answered.
    ///
    /// # Errors
    /// The refusal.
    pub fn ask(&mut self, device: usize, command: Command) -> Result<Reply, Refusal> {
        let id = self.command(device, command);
        loop {
            if let Some(reply) = self.devices[device].replies.get(&id) {
                return reply.clone();
            }
            assert!(self.next(), "a command is answered");
        }
    }

    /// Sets a device's clock off.
    pub fn set_skew(&mut self, device: usize, skew: i64) {
        self.devices[device].skew = skew;
        self.input(device, Input::Tick);
    }

    /// Limits the room on a device's disk, or gives plenty again.
    pub fn set_room(&mut self, device: usize, bytes: Option<u64>) {
        self.devices[device].disk.set_room(bytes);
        self.devices[device].disk_is_troubled = bytes.is_some();
    }

    /// Makes the nth sync of a device's disk fail.
    pub fn fail_sync(&mut self, device: usize, nth: u64, then: SyncFailure) {
        self.devices[device].disk.fail_sync(nth, then);
    }

    /// Kills a device: what its disk had not synced is lost, torn or kept as the seed has it.
    pub fn crash(&mut self, device: usize, count: bool) {
        if count {
            self.count("crashes");
        }
        let d = &mut self.devices[device];
        d.disk.crash(&mut self.rng);
        d.core = None;
        d.waiting.clear();
        d.scheduled = false;
        d.wake = None;
        d.life += 1;
        self.reconnect();
        self.devices[device].connected.clear();
    }

    /// Puts another disk into a device that is down, as who restores an older copy does.
    pub fn restore(&mut self, device: usize, disk: SimDisk) {
        assert!(self.devices[device].core.is_none(), "the device is down");
        self.devices[device].disk = disk;
        self.restored.insert(device);
    }

    /// Starts a device from its disk. With a full disk it may not come up.
    pub fn start(&mut self, device: usize) {
        if self.devices[device].core.is_some() {
            return;
        }
        let clock = self.clock(device);
        let seed = self.seed();
        let d = &mut self.devices[device];
        d.env = Env::seeded(clock, seed);
        let mut open = || {
            let store = Store::on_disk(&d.disk).map_err(|e| e.to_string())?;
            let mut core = Core::open(store, &mut d.env).map_err(|e| e.to_string())?;
            let outputs = core.start(&mut d.env).map_err(|e| e.to_string())?;
            Ok::<_, String>((core, outputs))
        };
        let failed = d.disk.counters().failed_syncs;
        let mut opened = open();
        if opened.is_err() && d.disk.counters().failed_syncs > failed {
            opened = open();
        }
        let (core, outputs) = match opened {
            Ok(opened) => opened,
            Err(why) => {
                assert!(d.disk_is_troubled, "device {device} does not start: {why}");
                self.count("starts_failed");
                return;
            }
        };
        assert_eq!(core.device(), d.id, "the device key survives");
        d.core = Some(core);
        if self.watch {
            self.note_friends(device);
        }
        self.outputs(device, outputs);
        self.reconnect();
    }

    /// Rebuilds a device's projections.
    ///
    /// # Errors
    /// Why it could not.
    pub fn rebuild(&mut self, device: usize) -> Result<(), String> {
        let clock = self.clock(device);
        let d = &mut self.devices[device];
        let Some(core) = d.core.as_mut() else { return Ok(()) };
        d.env.now = clock;
        match core.rebuild(&mut d.env) {
            Ok(_) => Ok(()),
            // The disk's fault; the runtime opens the database again.
            Err(_) if core.store().is_broken() => {
                self.recover(device);
                Ok(())
            }
            Err(e) => Err(format!("a rebuild on device {device} fails: {e}")),
        }
    }

    pub(super) fn clock(&self, device: usize) -> Millis {
        self.now.saturating_add_signed(self.devices[device].skew)
    }

    pub(super) fn step(&mut self, device: usize) {
        let clock = self.clock(device);
        let d = &mut self.devices[device];
        let Some(core) = d.core.as_mut() else { return };
        let mut batch: Vec<Input> = std::mem::take(&mut d.waiting);
        let rest = batch.split_off(batch.len().min(teahouse_core::MAX_BATCH));
        if batch.is_empty() {
            batch.push(Input::Tick);
        }
        d.env.now = clock;
        let before = if self.watch { core.store().snapshot().ok() } else { None };
        let result = core.step(&mut d.env, batch);
        *self.counts.entry("steps").or_default() += 1;
        match result {
            Ok(outputs) => {
                for (id, reply) in &outputs.replies {
                    if let Ok(Reply::Message { topic, message }) = reply
                        && let Some(before) = &before
                    {
                        let mut audience = Audience::of(before, *topic);
                        audience.extend(&Audience::of(&self.snapshot(device), *topic));
                        let said = Said {
                            device,
                            command: *id,
                            topic: *topic,
                            message: *message,
                            audience,
                            at: self.now,
                        };
                        self.said.push(said);
                    }
                }
                if let Some(before) = before {
                    self.note_friends(device);
                    self.check_suspects(device, &before, &outputs);
                }
                self.outputs(device, outputs);
            }
            Err(_) => {
                self.count("storage_errors");
                self.recover(device);
                return;
            }
        }
        for input in rest {
            self.input(device, input);
        }
    }

    /// After a storage error: as the runtime does, reopened in place; else started anew.
    fn recover(&mut self, device: usize) {
        if self.chance(500) {
            let clock = self.clock(device);
            let d = &mut self.devices[device];
            if let Some(core) = d.core.as_mut()
                && core.reopen().is_ok()
            {
                d.env.now = clock;
                if let Ok(outputs) = core.start(&mut d.env) {
                    self.count("reopened");
                    let peers = self.connected(device);
                    self.outputs(device, outputs);
                    for peer in peers {
                        let device_id = self.devices[peer].id;
                        self.input(device, Input::PeerUp { device: device_id });
                    }
                    return;
                }
            }
        }
        self.crash(device, false);
        self.start(device);
    }
}
