//! The core: a deterministic state machine over one database.
//!
//! [`Core::step`] takes a batch of inputs, prepares what can be checked without an order on
//! several threads, decides each input into staged writes, commits everything that
//! succeeded in one transaction, and only then lets outputs leave. So no acknowledgement
//! exists for a state that is not durable, an fsync is shared by the batch, and an input
//! that fails leaves nothing behind.
//!
//! This file is the core, from its opening to the commit of a step. Beside it, in the order
//! of a step:
//!
//! - [`boundary`]: what goes in and what comes out.
//! - [`prepare`]: what needs no order, in parallel.
//! - [`decide`]: one input at a time.
//! - [`duties`]: what the end of every batch brings.
//! - [`stage`]: something runs on writes of its own, and leaves all of them or none.
//! - [`outputs`]: whom to be connected to, and frames as they leave.
//! - [`rebuild`]: the projections, made again from the logs.

mod boundary;
mod decide;
mod duties;
mod outputs;
mod prepare;
mod rebuild;
mod stage;

use rand_core::Rng;
use teahouse_protocols::bugs::planted;
use teahouse_protocols::ids::{DeviceId, Millis};
use teahouse_protocols::sign::SigningKey;
use zeroize::Zeroizing;

use self::outputs::{encode, peers};
use self::prepare::Work;
use crate::engine::accounts;
use crate::env::Env;
use crate::store::{OpenError, ReadExt, Reader, Stage, StorageError, Store, WriteSet};
use crate::tables::{ME, Me, QUARANTINE};
use crate::tx::{Effect, Memory, Tx};

pub use self::boundary::{CoreError, Input, MAX_BATCH, Outputs, Peers, Rebuilt};

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
        self.mem = Memory {
            addrs: std::mem::take(&mut self.mem.addrs),
            content_addr: std::mem::take(&mut self.mem.content_addr),
            ..Memory::default()
        };
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
        if !writes.is_empty() && !planted("ack_before_commit") {
            outputs.changes = self.store.commit(&writes)?;
        }
        if effects.iter().any(|e| matches!(e, Effect::Peers)) {
            outputs.peers = Some(self.with_tx(env, peers)?);
        }
        outputs.frames = encode(effects);
        if planted("ack_before_commit") && !writes.is_empty() {
            // The planted bug: outputs are decided, the commit's failure goes unnoticed.
            let _ = self.store.commit(&writes);
        }
        Ok(outputs)
    }
}
