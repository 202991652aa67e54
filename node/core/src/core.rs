//! The core: a deterministic state machine over one database.
//!
//! [`Core::step`] takes a batch of inputs, prepares what can be checked without an order on
//! several threads, decides each input into staged writes, commits everything that
//! succeeded in one transaction, and only then lets outputs leave. So no acknowledgement
//! exists for a state that is not durable, an fsync is shared by the batch, and an input
//! that fails leaves nothing behind.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rand_core::Rng;
use rayon::prelude::*;
use teahouse_protocols::account::RelayAddr;
use teahouse_protocols::codec;
use teahouse_protocols::ids::{DeviceId, Millis, TopicId};
use teahouse_protocols::inbox::Letter;
use teahouse_protocols::sign::SigningKey;
use teahouse_protocols::sync::{Frame, MAX_FRAME, PAGE_BYTES, PAGE_LETTERS};
use zeroize::Zeroizing;

use crate::command::{Command, Refusal, Reply};
use crate::engine::letters::{self, Outcome, Prepared};
use crate::engine::mail::{self, MailOut};
use crate::engine::{accounts, cursors, inbox, pairing, sync, topics};
use crate::env::Env;
use crate::features::{chat, contacts, devices, groups};
use crate::store::{
    ChangeSet, OpenError, Read, ReadExt, Reader, Stage, StorageError, Store, TableKind, WriteSet,
};
use crate::tables::{ME, Me, QUARANTINE};
use crate::tx::{Effect, Fail, Memory, Tx};

/// Most inputs that one step should be given.
pub const MAX_BATCH: usize = 256;

/// Something that happened outside.
#[derive(Debug, Clone)]
pub enum Input {
    /// A person asks for something.
    Command {
        /// Number by which the reply is known.
        id: u64,
        /// What is asked.
        command: Command,
    },
    /// A device connected; the network proved its key.
    PeerUp {
        /// Which.
        device: DeviceId,
    },
    /// A device's last connection closed.
    PeerDown {
        /// Which.
        device: DeviceId,
    },
    /// A frame came from a connected device.
    Frame {
        /// From.
        device: DeviceId,
        /// Encoded.
        bytes: Vec<u8>,
    },
    /// The network's queue to a device is full.
    PeerFull {
        /// Which.
        device: DeviceId,
    },
    /// The network's queue to a device has drained.
    PeerDrained {
        /// Which.
        device: DeviceId,
    },
    /// A relay answered, or could not be reached (in words).
    MailReply {
        /// The request's number.
        id: u64,
        /// The encoded reply.
        result: Result<Vec<u8>, String>,
    },
    /// The moment asked for by [`Outputs::wake`] has come.
    Tick,
    /// This device's own addresses changed.
    Reachable {
        /// Multiaddresses.
        addrs: Vec<String>,
    },
}

/// Which devices the network should be connected to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peers {
    /// Devices, with the relays through which they may be reached.
    pub wanted: BTreeMap<DeviceId, Vec<RelayAddr>>,
    /// Direct addresses known for some.
    pub direct: BTreeMap<DeviceId, Vec<String>>,
    /// This account's relays: keep a way in through them.
    pub relays: Vec<RelayAddr>,
}

/// What leaves after a step.
#[derive(Debug, Clone, Default)]
pub struct Outputs {
    /// Replies to commands.
    pub replies: Vec<(u64, Result<Reply, Refusal>)>,
    /// Frames to connected devices, in order per device.
    pub frames: Vec<(DeviceId, Vec<u8>)>,
    /// Requests to relays.
    pub mail: Vec<MailOut>,
    /// Whom to be connected to, where it may have changed.
    pub peers: Option<Peers>,
    /// What changed in the tables.
    pub changes: ChangeSet,
    /// When to step again though nothing comes.
    pub wake: Option<Millis>,
}

/// Why a core can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum CoreError {
    /// The store.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What a rebuild did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Topics replayed.
    pub topics: u64,
    /// Envelopes applied.
    pub envelopes: u64,
}

/// The core of one device.
pub struct Core {
    store: Store,
    mem: Memory,
    device: DeviceId,
    seed: Zeroizing<[u8; 32]>,
    quarantined: bool,
    /// When the slow duties were last looked at.
    tended: Millis,
    /// When the mail pump wants to look again, whatever happens until then.
    mail_wake: Option<Millis>,
}

/// How often slow duties (prekey age, outbox age) are looked at.
const TEND_EVERY: Millis = 10 * 60 * 1000;

enum Work {
    Command(u64, Command),
    Up(DeviceId),
    Down(DeviceId),
    Full(DeviceId, bool),
    Frame(DeviceId, Box<Frame>),
    Letters { from: DeviceId, topic: TopicId, letters: Vec<Prepared>, page: Option<bool> },
    Mail(u64, Result<Vec<u8>, String>),
    Tick,
    Reachable(Vec<String>),
}

impl Core {
    /// Opens the core over a store; makes the device key on first use.
    ///
    /// # Errors
    /// [`CoreError`].
    pub fn open(mut store: Store, env: &mut Env) -> Result<Self, CoreError> {
        let snapshot = store.snapshot()?;
        let me = if let Some(me) = snapshot.get_typed::<Me>(&ME, b"")? {
            me
        } else {
            let mut seed = [0; 32];
            env.rng.fill_bytes(&mut seed);
            let me = Me {
                seed,
                account: None,
                private: None,
                next: 0,
                prekey_counter: 0,
                prekey_made: 0,
            };
            let mut writes = WriteSet::new();
            let bytes = postcard::to_stdvec(&me)
                .map_err(|_| StorageError::corrupt(ME.name, "not encodable"))?;
            writes.put(&ME, b"", bytes)?;
            store.commit(&writes)?;
            me
        };
        let quarantined = snapshot.first(&QUARANTINE, b"")?.is_some();
        let device = DeviceId(SigningKey::from_bytes(&me.seed).verifying_key().to_bytes());
        Ok(Self {
            store,
            mem: Memory::default(),
            device,
            seed: Zeroizing::new(me.seed),
            quarantined,
            tended: 0,
            mail_wake: None,
        })
    }

    /// This device.
    #[must_use]
    pub const fn device(&self) -> DeviceId {
        self.device
    }

    /// The seed of this device's key, for the network's identity.
    #[must_use]
    pub fn device_secret(&self) -> Zeroizing<[u8; 32]> {
        self.seed.clone()
    }

    /// Makes snapshots from other threads.
    #[must_use]
    pub fn reader(&self) -> Reader {
        self.store.reader()
    }

    /// The store, for statistics and checks.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// Opens the database again after a storage error.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn reopen(&mut self) -> Result<(), OpenError> {
        self.mem = Memory { addrs: std::mem::take(&mut self.mem.addrs), ..Memory::default() };
        self.store.reopen()
    }

    /// What must leave after a start: everything is derived from tables.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn start(&mut self, env: &mut Env) -> Result<Outputs, StorageError> {
        self.mem.mail_all = true;
        self.mem.mail_due = true;
        // What was to be acknowledged when it stopped shows in the tables.
        self.mem.acks_due = self.with_tx(env, |tx| accounts::topic_ids(tx))?.into_iter().collect();
        let mut outputs = self.step(env, vec![Input::Tick])?;
        outputs.peers = Some(self.with_tx(env, peers)?);
        Ok(outputs)
    }

    fn with_tx<T>(
        &mut self,
        env: &mut Env,
        f: impl FnOnce(&mut Tx<'_>) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let snapshot = self.store.snapshot()?;
        let mut tx = Tx {
            stage: Stage::new(&snapshot),
            now: env.now,
            rng: &mut env.rng,
            mem: &mut self.mem,
            out: Vec::new(),
        };
        f(&mut tx)
    }

    /// Takes a batch of inputs. On success all that was decided is durable, and the outputs
    /// may leave. On failure nothing happened: call [`Core::reopen`].
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn step(&mut self, env: &mut Env, batch: Vec<Input>) -> Result<Outputs, StorageError> {
        let result = self.step_inner(env, batch);
        if result.is_err() {
            self.mem.forget();
            self.mem.mail.clear();
            self.mem.mail_all = true;
            self.mem.mail_due = true;
        }
        result
    }

    fn step_inner(&mut self, env: &mut Env, batch: Vec<Input>) -> Result<Outputs, StorageError> {
        self.mem.trim();
        let snapshot = self.store.snapshot()?;
        let works = self.prepare(&snapshot, batch);
        let mut outputs = Outputs::default();
        let mut effects = Vec::new();
        let mut stage = Stage::new(&snapshot);
        let mut mail_came = false;
        for work in works {
            mail_came |= matches!(work, Work::Mail(..) | Work::Tick);
            self.run(env, &mut stage, work, &mut outputs, &mut effects)?;
        }
        self.finish(env, &mut stage, mail_came, &mut outputs, &mut effects)?;

        let writes = stage.into_writes();
        if !writes.is_empty() && !cfg!(sim_bug = "ack_before_commit") {
            outputs.changes = self.store.commit(&writes)?;
        }
        if effects.iter().any(|e| matches!(e, Effect::Peers)) {
            outputs.peers = Some(self.with_tx(env, peers)?);
        }
        outputs.frames = encode(effects);
        if cfg!(sim_bug = "ack_before_commit") && !writes.is_empty() {
            // The planted bug: outputs are decided, the commit's failure goes unnoticed.
            let _ = self.store.commit(&writes);
        }
        Ok(outputs)
    }

    /// Decodes and checks what needs no order, in parallel.
    fn prepare(&self, snapshot: &dyn Read, batch: Vec<Input>) -> Vec<Work> {
        let secrets = &self.mem.epochs;
        let quarantined = self.quarantined;
        batch
            .into_par_iter()
            .filter_map(|input| {
                Some(match input {
                    Input::Command { id, command } => Work::Command(id, command),
                    Input::PeerUp { device } => Work::Up(device),
                    Input::PeerDown { device } => Work::Down(device),
                    Input::PeerFull { device } => Work::Full(device, true),
                    Input::PeerDrained { device } => Work::Full(device, false),
                    Input::MailReply { id, result } => Work::Mail(id, result),
                    Input::Tick => Work::Tick,
                    Input::Reachable { addrs } => Work::Reachable(addrs),
                    Input::Frame { device, bytes } => {
                        if quarantined && is_quarantined(snapshot, &bytes) {
                            return None;
                        }
                        // Bytes that are no frame are dropped: their sender is at fault.
                        let frame = codec::decode::<Frame>(&bytes).ok()?;
                        match frame {
                            Frame::Push(topic, letters) => Work::Letters {
                                from: device,
                                topic,
                                letters: prepare_letters(snapshot, secrets, topic, letters),
                                page: None,
                            },
                            Frame::Page { topic, letters, more } => Work::Letters {
                                from: device,
                                topic,
                                letters: prepare_letters(snapshot, secrets, topic, letters),
                                page: Some(more),
                            },
                            other => Work::Frame(device, Box::new(other)),
                        }
                    }
                })
            })
            .collect()
    }

    /// Runs one work item in stages of its own; what fails leaves nothing.
    fn run(
        &mut self,
        env: &mut Env,
        stage: &mut Stage<'_>,
        work: Work,
        outputs: &mut Outputs,
        effects: &mut Vec<Effect>,
    ) -> Result<(), StorageError> {
        match work {
            Work::Command(id, command) => {
                let result = self.stage(env, stage, effects, |tx| dispatch(tx, command));
                let reply = match result {
                    Ok(reply) => Ok(reply),
                    Err(Fail::Refusal(refusal)) => Err(refusal),
                    Err(Fail::Peer(why)) if why == PANICKED => Err(Refusal::Internal),
                    Err(Fail::Peer(why) | Fail::Later(why)) => Err(Refusal::Invalid { why }),
                    Err(Fail::Storage(e)) => return Err(e),
                };
                outputs.replies.push((id, reply));
                Ok(())
            }
            Work::Up(device) => self.hint(env, stage, effects, |tx| sync::peer_up(tx, device)),
            Work::Down(device) => self.hint(env, stage, effects, |tx| {
                sync::peer_down(tx, device);
                Ok(())
            }),
            Work::Full(device, full) => self.hint(env, stage, effects, |tx| {
                // Its connection may be gone by now: then there is nothing to make up for.
                let Some(peer) = tx.mem.peers.get_mut(&device) else { return Ok(()) };
                peer.full = full;
                // What was not pushed meanwhile is found by comparing digests.
                if full { Ok(()) } else { sync::peer_up(tx, device) }
            }),
            Work::Frame(device, frame) => {
                self.hint(env, stage, effects, |tx| sync::frame(tx, device, *frame))
            }
            Work::Letters { from, topic, letters, page } => {
                self.letters(env, stage, effects, from, topic, letters, page)
            }
            Work::Mail(id, result) => self.mail(env, stage, effects, id, &result),
            Work::Tick => Ok(()),
            Work::Reachable(addrs) => {
                self.mem.addrs = addrs;
                Ok(())
            }
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn letters(
        &mut self,
        env: &mut Env,
        stage: &mut Stage<'_>,
        effects: &mut Vec<Effect>,
        from: DeviceId,
        topic: TopicId,
        mut letters: Vec<Prepared>,
        page: Option<bool>,
    ) -> Result<(), StorageError> {
        // History is taken over backwards, each envelope proved by its successor.
        let low = lows(stage, topic, &letters)?;
        if letters.iter().any(|l| low.get(&l.envelope.device).is_some_and(|b| l.envelope.seq < *b))
        {
            let (mut older, newer): (Vec<_>, Vec<_>) = letters
                .into_iter()
                .partition(|l| low.get(&l.envelope.device).is_some_and(|b| l.envelope.seq < *b));
            older.sort_by_key(|l| std::cmp::Reverse(l.envelope.seq));
            letters = newer;
            letters.extend(older);
        }
        let mut stored = false;
        let mut gap = false;
        for letter in letters {
            let result = self.stage(env, stage, effects, |tx| {
                // Only who could have it by right is listened to.
                if !topics::is_member(tx, topic, from)? {
                    return Err(Fail::peer("envelopes from a device that is no member's"));
                }
                let now = tx.now;
                let (device, seq) = (letter.envelope.device, letter.envelope.seq);
                let by_author = page.is_some() && from == device;
                let absent = if by_author { letter.absent() } else { Vec::new() };
                let outcome = letters::accept(tx, letter, now)?;
                letters::given_up(tx, topic, device, seq, &absent)?;
                Ok(outcome)
            });
            match result {
                Ok(Outcome::Stored(_)) => stored = true,
                Ok(Outcome::Waits) => gap = true,
                Ok(Outcome::Duplicate) | Err(Fail::Refusal(_) | Fail::Peer(_) | Fail::Later(_)) => {
                }
                Err(Fail::Storage(e)) => return Err(e),
            }
        }
        self.hint(env, stage, effects, |tx| {
            if stored {
                sync::note_news(tx, topic, Some(from));
            }
            if page.is_some() {
                sync::page_end(tx, from, topic, stored)
            } else if gap {
                sync::gap(tx, from, topic)
            } else {
                Ok(())
            }
        })
    }

    fn mail(
        &mut self,
        env: &mut Env,
        stage: &mut Stage<'_>,
        effects: &mut Vec<Effect>,
        id: u64,
        result: &Result<Vec<u8>, String>,
    ) -> Result<(), StorageError> {
        let result = result.as_ref().map(Vec::as_slice).map_err(String::as_str);
        let fetched = match self.stage(env, stage, effects, |tx| mail::reply(tx, id, result)) {
            Ok(fetched) => fetched,
            Err(Fail::Storage(e)) => return Err(e),
            Err(_) => return Ok(()),
        };
        let prepared = mail::prepare(stage, &self.mem.epochs, fetched);
        // Tags of which something came too early: the rest of them comes again, too.
        let mut stalled = BTreeSet::new();
        for (fetched, item) in prepared {
            if stalled.contains(&fetched.tag) {
                continue;
            }
            let quarantined = self.quarantined && is_quarantined(stage, &fetched.bytes);
            if !quarantined {
                let taken = self.stage(env, stage, effects, |tx| mail::take(tx, &fetched, item));
                match taken {
                    Err(Fail::Storage(e)) => return Err(e),
                    Err(Fail::Peer(why)) if why == PANICKED => {
                        self.quarantine(env, stage, &fetched.bytes)?;
                    }
                    Err(Fail::Later(_)) => {
                        stalled.insert(fetched.tag);
                        mail::stall(&mut self.mem, fetched.relay, fetched.tag, env.now);
                        continue;
                    }
                    Ok(()) | Err(_) => {}
                }
            }
            // Refused or not, it is not fetched again.
            self.hint(env, stage, effects, |tx| Ok(mail::note(tx, &fetched)?))?;
        }
        Ok(())
    }

    /// Duties at the end of every batch.
    fn finish(
        &mut self,
        env: &mut Env,
        stage: &mut Stage<'_>,
        mail_came: bool,
        outputs: &mut Outputs,
        effects: &mut Vec<Effect>,
    ) -> Result<(), StorageError> {
        let mut wake: Option<Millis> = None;
        let mut at = |t: Option<Millis>| {
            wake = match (wake, t) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        };
        for topic in std::mem::take(&mut self.mem.rejudge_due) {
            self.duty(env, stage, effects, |tx| letters::rejudge(tx, topic).map(|()| None))?;
        }
        at(self.duty(env, stage, effects, |tx| Ok(chat::tend(tx)?))?);
        if !self.mem.acks_due.is_empty() {
            self.duty(env, stage, effects, |tx| cursors::publish(tx).map(|()| None))?;
        }
        at(self.duty(env, stage, effects, sync::tend)?);
        if env.now >= self.tended.saturating_add(TEND_EVERY) || env.now < self.tended {
            self.tended = env.now;
            self.duty(env, stage, effects, |tx| {
                accounts::tend_prekeys(tx)?;
                inbox::tend(tx)?;
                Ok(None)
            })?;
            self.duty(env, stage, effects, |tx| devices::tend(tx).map(|()| None))?;
            self.mem.mail_all = true;
        }
        at(Some(self.tended + TEND_EVERY));
        let mail = &self.mem;
        let due = self.mail_wake.is_some_and(|t| t <= env.now);
        if due || mail_came || mail.mail_due || mail.mail_all || !mail.mail_topics.is_empty() {
            let mut out = Vec::new();
            self.mail_wake = self.duty(env, stage, effects, |tx| mail::pump(tx, &mut out))?;
            outputs.mail = out;
        }
        at(self.mail_wake);
        outputs.wake = wake;
        Ok(())
    }

    fn duty(
        &mut self,
        env: &mut Env,
        stage: &mut Stage<'_>,
        effects: &mut Vec<Effect>,
        f: impl FnOnce(&mut Tx<'_>) -> Result<Option<Millis>, Fail>,
    ) -> Result<Option<Millis>, StorageError> {
        match self.stage(env, stage, effects, f) {
            Ok(at) => Ok(at),
            Err(Fail::Storage(e)) => Err(e),
            Err(_) => Ok(None),
        }
    }

    /// Runs something whose refusal concerns nobody here.
    fn hint(
        &mut self,
        env: &mut Env,
        stage: &mut Stage<'_>,
        effects: &mut Vec<Effect>,
        f: impl FnOnce(&mut Tx<'_>) -> Result<(), Fail>,
    ) -> Result<(), StorageError> {
        match self.stage(env, stage, effects, f) {
            Err(Fail::Storage(e)) => Err(e),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Runs `f` on a stage of its own above the batch's; keeps its writes and effects if it
    /// succeeds. A panic is a failure like any other.
    fn stage<T>(
        &mut self,
        env: &mut Env,
        stage: &mut Stage<'_>,
        effects: &mut Vec<Effect>,
        f: impl FnOnce(&mut Tx<'_>) -> Result<T, Fail>,
    ) -> Result<T, Fail> {
        let acks = self.mem.acks_due.clone();
        let (result, writes, out) = {
            let mut tx = Tx {
                stage: Stage::new(stage),
                now: env.now,
                rng: &mut env.rng,
                mem: &mut self.mem,
                out: Vec::new(),
            };
            let result = catch_unwind(AssertUnwindSafe(|| f(&mut tx)))
                .unwrap_or_else(|_| Err(Fail::Peer(PANICKED.to_owned())));
            (result, tx.stage.into_writes(), tx.out)
        };
        match &result {
            Ok(_) => {
                stage.absorb(writes);
                effects.extend(out);
            }
            Err(_) => {
                self.mem.acks_due = acks;
                // Caches may hold what was just dropped.
                if !writes.is_empty() {
                    self.mem.forget();
                }
            }
        }
        result
    }

    fn quarantine(
        &mut self,
        env: &Env,
        stage: &mut Stage<'_>,
        bytes: &[u8],
    ) -> Result<(), StorageError> {
        self.quarantined = true;
        stage.put_typed(&QUARANTINE, blake3::hash(bytes).as_bytes(), &env.now)
    }

    /// Clears all projections and makes them again from the logs.
    ///
    /// # Errors
    /// [`StorageError`]; then nothing happened.
    pub fn rebuild(&mut self, env: &mut Env) -> Result<Rebuilt, StorageError> {
        self.mem.forget();
        let snapshot = self.store.snapshot()?;
        let mut stage = Stage::new(&snapshot);
        let mut effects = Vec::new();
        let rebuilt = self.stage(env, &mut stage, &mut effects, |tx| {
            let mut rebuilt = Rebuilt::default();
            // Rows of code that is gone, too.
            for table in crate::tables::ALL.iter().filter(|t| t.kind == TableKind::Projection) {
                let mut range = crate::store::KeyRange::all();
                loop {
                    let rows = tx.scan(table, &range, false, 4_096)?;
                    let Some((last, _)) = rows.last() else { break };
                    range = range.after(&last.clone());
                    for (key, _) in &rows {
                        tx.del(table, key)?;
                    }
                }
            }
            for topic in accounts::topic_ids(tx)? {
                rebuilt.envelopes += letters::replay(tx, topic)?;
                rebuilt.topics += 1;
            }
            Ok(rebuilt)
        });
        let rebuilt = match rebuilt {
            Ok(rebuilt) => rebuilt,
            Err(Fail::Storage(e)) => return Err(e),
            Err(_) => return Err(StorageError::corrupt("log", "can't be replayed")),
        };
        self.store.commit(&stage.into_writes())?;
        Ok(rebuilt)
    }
}

/// Where each chain that letters are about begins here, if not at its beginning.
fn lows(
    stage: &Stage<'_>,
    topic: TopicId,
    letters: &[Prepared],
) -> Result<BTreeMap<DeviceId, u64>, StorageError> {
    let devices: BTreeSet<DeviceId> = letters.iter().map(|l| l.envelope.device).collect();
    let mut out = BTreeMap::new();
    for device in devices {
        let chain: Option<crate::tables::Chain> =
            stage.get_typed(&crate::tables::CHAINS, &crate::tables::chain_key(topic, device))?;
        if let Some(chain) = chain
            && chain.low > 1
        {
            out.insert(device, chain.low);
        }
    }
    Ok(out)
}

const PANICKED: &str = "panicked";

fn is_quarantined(read: &dyn Read, bytes: &[u8]) -> bool {
    read.contains(&QUARANTINE, blake3::hash(bytes).as_bytes()).unwrap_or(false)
}

fn prepare_letters(
    read: &dyn Read,
    secrets: &letters::Secrets,
    topic: TopicId,
    list: codec::List<Letter, PAGE_LETTERS>,
) -> Vec<Prepared> {
    list.into_inner()
        .into_par_iter()
        .filter_map(|letter| {
            // A panic in a parser is the letter's fault: it is dropped like a malformed one.
            let prepared =
                catch_unwind(AssertUnwindSafe(|| letters::prepare(read, secrets, letter)));
            let prepared = prepared.ok()?.ok()?;
            // An envelope of one topic in a frame about another is a lie.
            (prepared.envelope.topic == topic).then_some(prepared)
        })
        .collect()
}

fn dispatch(tx: &mut Tx<'_>, command: Command) -> Result<Reply, Fail> {
    match command {
        Command::Devices(c) => devices::command(tx, c),
        Command::Contacts(c) => contacts::command(tx, c),
        Command::Chat(c) => chat::command(tx, c),
        Command::Groups(c) => groups::command(tx, c),
        Command::Relays(c) => contacts::relays(tx, c),
    }
}

fn peers(tx: &mut Tx<'_>) -> Result<Peers, StorageError> {
    let mut peers = Peers::default();
    let me = tx.me()?;
    if let Some((device, addrs)) = pairing::target(&tx.mem.pairing) {
        peers.wanted.insert(device, Vec::new());
        peers.direct.insert(device, addrs);
    }
    let Some(account) = me.account else { return Ok(peers) };
    let mut involved = BTreeSet::from([account]);
    for topic in accounts::topic_ids(tx)? {
        let members = topics::members(tx, topic)?;
        // Nobody is dialled for what a stranger proposed or a person declined.
        if members.contains(&account) && !contacts::is_quiet(tx, topic)? {
            involved.extend(members);
        }
    }
    for member in involved {
        let relays = accounts::relays_of(tx, member)?;
        for device in accounts::devices_of(tx, member)? {
            if device != me.device {
                peers.wanted.insert(device, relays.clone());
            }
        }
    }
    peers.relays = accounts::relays_of(tx, account)?;
    Ok(peers)
}

/// Encodes frames; news of one topic for one device travels together.
fn encode(effects: Vec<Effect>) -> Vec<(DeviceId, Vec<u8>)> {
    let mut frames: Vec<(DeviceId, Frame)> = Vec::new();
    let mut open: BTreeMap<(DeviceId, TopicId), (usize, usize)> = BTreeMap::new();
    for effect in effects {
        let Effect::Frame(device, frame) = effect else { continue };
        if let Frame::Push(topic, letters) = frame {
            let size: usize = letters
                .iter()
                .map(|l| l.envelope.len() + l.bodies.iter().map(|b| b.len()).sum::<usize>())
                .sum();
            if let Some((index, bytes)) = open.get_mut(&(device, topic))
                && *bytes + size <= PAGE_BYTES
                && let Frame::Push(_, list) = &mut frames[*index].1
                && list.len() + letters.len() <= PAGE_LETTERS
            {
                let mut joined = std::mem::take(list).into_inner();
                joined.extend(letters.into_inner());
                *list = crate::tx::capped(joined);
                *bytes += size;
                continue;
            }
            open.insert((device, topic), (frames.len(), size));
            frames.push((device, Frame::Push(topic, letters)));
        } else {
            frames.push((device, frame));
        }
    }
    frames
        .into_iter()
        .map(|(device, frame)| (device, codec::encode(&frame)))
        .filter(|(_, bytes)| bytes.len() <= MAX_FRAME)
        .collect()
}
