//! Two cores in one thread, on stores on a real disk, with frames handed over: what catching
//! up costs without a network.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use teahouse_core::command::{Command, Devices, Reply};
use teahouse_core::store::{KeyRange, Read, ReadExt, StorageError, Store, StoreOptions};
use teahouse_core::tables::{CHAINS, Chain};
use teahouse_core::{Core, Env, Input, MAX_BATCH, Outputs, query, view};
use teahouse_protocols::ids::{DeviceId, Millis, TopicId};

/// As in the runtime: bytes of frames after which a batch takes no further one.
const BATCH_BYTES: usize = 256 << 10;

/// A core with what waits for it.
pub(crate) struct Side {
    pub(crate) core: Core,
    env: Env,
    waiting: Vec<Input>,
    /// Time spent in steps.
    pub(crate) spent: Duration,
    /// Steps taken.
    pub(crate) steps: u32,
    number: u64,
    /// Milliseconds added to the clock, so that nobody has to wait for a timer.
    ahead: Millis,
}

impl Side {
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let now = clock();
        let seed = blake3::hash(format!("{now} {}", dir.display()).as_bytes());
        let mut env = Env::seeded(now, *seed.as_bytes());
        let store = Store::open(dir, StoreOptions::default())?;
        let mut core = Core::open(store, &mut env)?;
        core.start(&mut env)?;
        let (waiting, spent) = (Vec::new(), Duration::ZERO);
        Ok(Self { core, env, waiting, spent, steps: 0, number: 0, ahead: 0 })
    }

    pub(crate) fn id(&self) -> DeviceId {
        self.core.device()
    }

    /// One step with what is waiting, up to the bounds of a batch.
    fn step(&mut self) -> Result<Outputs> {
        let mut bytes = 0;
        let mut take = 0;
        while take < self.waiting.len().min(MAX_BATCH) && bytes < BATCH_BYTES {
            if let Input::Frame { bytes: frame, .. } = &self.waiting[take] {
                bytes += frame.len();
            }
            take += 1;
        }
        let rest = self.waiting.split_off(take);
        let batch = std::mem::replace(&mut self.waiting, rest);
        self.env.now = clock() + self.ahead;
        let began = Instant::now();
        let outputs = self.core.step(&mut self.env, batch)?;
        self.spent += began.elapsed();
        self.steps += 1;
        Ok(outputs)
    }

    /// Submits commands as one batch and returns the replies. Nobody is connected.
    pub(crate) fn ask_all(&mut self, commands: Vec<Command>) -> Result<Vec<Reply>> {
        for command in commands {
            self.number += 1;
            self.waiting.push(Input::Command { id: self.number, command });
        }
        let mut replies = Vec::new();
        while !self.waiting.is_empty() {
            for (_, reply) in self.step()?.replies {
                replies.push(reply?);
            }
        }
        Ok(replies)
    }

    pub(crate) fn ask(&mut self, command: Command) -> Result<Reply> {
        self.ask_all(vec![command])?.pop().context("a reply")
    }

    /// Envelopes held of a topic.
    pub(crate) fn held(&self, topic: TopicId) -> Result<u64> {
        Ok(held(&self.core.store().snapshot()?, topic)?)
    }
}

/// Envelopes held of a topic.
pub(crate) fn held(s: &dyn Read, topic: TopicId) -> Result<u64, StorageError> {
    let rows: Vec<(Vec<u8>, Chain)> =
        s.scan_typed(&CHAINS, &KeyRange::prefix(&topic.0), false, 4_096)?;
    Ok(rows.iter().map(|(_, c)| (c.high + 1).saturating_sub(c.low)).sum())
}

fn clock() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(0)
}

/// Connects two cores.
pub(crate) fn connect(a: &mut Side, b: &mut Side) {
    a.waiting.push(Input::PeerUp { device: b.id() });
    b.waiting.push(Input::PeerUp { device: a.id() });
}

/// Disconnects them.
pub(crate) fn disconnect(a: &mut Side, b: &Side) -> Result<()> {
    a.waiting.push(Input::PeerDown { device: b.id() });
    a.step()?;
    Ok(())
}

/// Hands frames to and fro until nothing is left to say.
pub(crate) fn talk(a: &mut Side, b: &mut Side) -> Result<()> {
    while !(a.waiting.is_empty() && b.waiting.is_empty()) {
        turn(a, b)?;
        turn(b, a)?;
    }
    Ok(())
}

fn turn(from: &mut Side, to: &mut Side) -> Result<()> {
    if from.waiting.is_empty() {
        return Ok(());
    }
    let outputs = from.step()?;
    for (_, reply) in outputs.replies {
        reply?;
    }
    for (device, bytes) in outputs.frames {
        ensure!(device == to.id(), "a frame for somebody else");
        to.waiting.push(Input::Frame { device: from.id(), bytes });
    }
    Ok(())
}

/// Links `b`, which is fresh, to `a`'s account, up to the confirmation; [`talk`] does the
/// rest.
pub(crate) fn link(a: &mut Side, b: &mut Side) -> Result<()> {
    a.waiting.push(Input::Reachable { addrs: vec!["/ip4/127.0.0.1/udp/1/quic-v1".into()] });
    let Reply::Code { link } = a.ask(Command::Devices(Devices::LinkStart))? else {
        bail!("no code")
    };
    connect(a, b);
    talk(a, b)?;
    let join = Devices::LinkJoin { code: link, device_name: "second".into() };
    b.waiting.push(Input::Command { id: 0, command: Command::Devices(join) });
    talk(a, b)?;
    let linking = query::linking(&a.core.store().snapshot()?)?;
    ensure!(matches!(linking, view::Linking::Compare { .. }), "no digits: {linking:?}");
    a.waiting.push(Input::Command { id: 0, command: Command::Devices(Devices::LinkConfirm) });
    Ok(())
}

/// Lets time pass until `b` holds as many envelopes of a topic as `a`.
pub(crate) fn settle(a: &mut Side, b: &mut Side, topic: TopicId) -> Result<()> {
    talk(a, b)?;
    for _ in 0..100 {
        if b.held(topic)? == a.held(topic)? {
            return Ok(());
        }
        for side in [&mut *a, &mut *b] {
            side.ahead += 500;
            side.waiting.push(Input::Tick);
        }
        talk(a, b)?;
    }
    bail!("{} of {} envelopes came", b.held(topic)?, a.held(topic)?)
}

/// Whether two cores show the same.
pub(crate) fn same(a: &Side, b: &Side, topic: TopicId) -> Result<bool> {
    let digest = |side: &Side| -> Result<[u8; 32]> {
        Ok(query::digest(&side.core.store().snapshot()?, topic)?)
    };
    Ok(digest(a)? == digest(b)?)
}
