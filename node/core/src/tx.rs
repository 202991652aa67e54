//! The context of one input: reads see the batch so far, writes are staged, effects wait.
//!
//! An input that fails leaves neither writes nor effects: its stage is dropped, and every
//! cache entry it touched is forgotten ([`Memory::forget`]) and loaded again from the batch.
//! What [`Memory`] holds besides caches (sessions with peers and relays) are hints: losing
//! or repeating one costs a round trip, never a message.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rand_chacha::ChaCha20Rng;
use serde::Serialize;
use serde::de::DeserializeOwned;
use teahouse_protocols::account::AccountLog;
use teahouse_protocols::codec;
use teahouse_protocols::epoch::EpochSecret;
use teahouse_protocols::ids::{
    AccountId, AssetId, ChannelId, DeviceId, EpochId, Millis, RelayId, TopicId,
};
use teahouse_protocols::membership::{Evaluation, Membership, MembershipLog};
use teahouse_protocols::prekey::PrekeyBundle;
use teahouse_protocols::sign::SigningKey;
use teahouse_protocols::sync::Frame;

use crate::command::Refusal;
use crate::engine::mail::{Look, Session};
use crate::engine::pairing::Pairing;
use crate::engine::sync::Peer;
use crate::features::pay::Checked;
use crate::features::programs::Fetches;
use crate::store::{Read, ReadExt, Stage, StorageError, Table};
use crate::tables::{ALARMS, AlarmRow, ME, Me};

/// Why an input failed. Its writes are dropped; the batch goes on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fail {
    /// A person asked for something that can't be.
    #[error(transparent)]
    Refusal(#[from] Refusal),
    /// A peer or relay sent something that is refused; in words for a log.
    #[error("refused: {0}")]
    Peer(String),
    /// Not now: something it builds on is not here, and there is no room to keep it. It is
    /// not acknowledged, so it comes again.
    #[error("too early: {0}")]
    Later(String),
    /// The database failed: the whole batch fails.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Fail {
    /// Something outside that is refused.
    pub(crate) fn peer(why: impl std::fmt::Display) -> Self {
        Self::Peer(why.to_string())
    }
}

/// What leaves once the batch is durable.
#[derive(Debug, Clone)]
pub(crate) enum Effect {
    /// A frame to a connected device.
    Frame(DeviceId, Frame),
    /// The set of wanted peers or own relays may have changed.
    Peers,
}

/// A topic's membership records and what follows from them.
#[derive(Debug)]
pub(crate) struct TopicState {
    pub(crate) log: MembershipLog,
    pub(crate) eval: Evaluation,
}

impl TopicState {
    pub(crate) const fn now(&self) -> &Membership {
        self.eval.membership()
    }
}

/// This device's identity, unpacked.
#[derive(Clone)]
pub(crate) struct MeKeys {
    pub(crate) key: SigningKey,
    pub(crate) device: DeviceId,
    pub(crate) account: Option<AccountId>,
    pub(crate) private: Option<TopicId>,
}

/// What is kept in memory between steps.
#[allow(clippy::struct_excessive_bools, reason = "each is due or not, whatever the others are")]
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) me: Option<Arc<MeKeys>>,
    pub(crate) accounts: BTreeMap<AccountId, Arc<AccountLog>>,
    pub(crate) topics: BTreeMap<TopicId, Arc<TopicState>>,
    pub(crate) epochs: BTreeMap<EpochId, (TopicId, Arc<EpochSecret>)>,
    /// Prekey bundles whose signature was checked.
    pub(crate) bundles: BTreeMap<DeviceId, Arc<PrekeyBundle>>,
    pub(crate) peers: BTreeMap<DeviceId, Peer>,
    pub(crate) mail: BTreeMap<RelayId, Session>,
    pub(crate) pairing: Pairing,
    pub(crate) next_request: u64,
    /// Friends or their devices changed: those who may read this account's posts are told.
    pub(crate) readers_due: bool,
    /// Everybody connected is greeted again at the end of the step: a topic was joined.
    pub(crate) hello_due: bool,
    /// Chats in which somebody else wrote, in this step.
    pub(crate) heard: BTreeSet<TopicId>,
    /// Topics with acknowledgements to publish at the end of the step.
    pub(crate) acks_due: BTreeSet<TopicId>,
    /// Keys that something waits for: one may have come too early ([`crate::engine::inbox`]).
    pub(crate) keys_due: BTreeSet<(TopicId, EpochId)>,
    /// Topics of which a fork was proved: judged again once, at the end of the step.
    pub(crate) rejudge_due: BTreeSet<TopicId>,
    /// Topics whose own chain or cursor relays may lack.
    pub(crate) mail_topics: BTreeSet<TopicId>,
    /// The card's secrets changed while its tag was being opened with the old ones.
    pub(crate) card_dirty: bool,
    /// Whether every topic needs a look.
    pub(crate) mail_all: bool,
    /// Whether tags, tokens or the outbox need a look.
    pub(crate) mail_due: bool,
    /// A look at the outbox that is to go on.
    pub(crate) outbox: Look,
    /// A feature's record changed: services look again.
    pub(crate) records_due: bool,
    /// Packages of Mini Programs that are being fetched.
    pub(crate) programs: Fetches,
    /// How this device's contents are reached; empty while they are not.
    pub(crate) content_addr: Vec<u8>,
    /// Statements that grew, and to which entry: asked for once, at the end of the step.
    pub(crate) statements_due: BTreeMap<AssetId, u64>,
    /// When what issuers have not answered is said again.
    pub(crate) pay_again: Millis,
    /// Lanes of channels of which the payee was asked where they stand; at most one a money.
    pub(crate) pay_lanes: BTreeMap<ChannelId, Checked>,
    /// What issuers said is paid, by money and entry of a statement that was not followed so far.
    pub(crate) pay_ahead: BTreeMap<AssetId, BTreeMap<u64, u64>>,
    /// When calls of functions that were not answered are said again.
    pub(crate) calls_again: Millis,
    /// Own addresses, for pairing codes.
    pub(crate) addrs: Vec<String>,
}

/// Most accounts, topics, epochs and bundles kept unpacked.
const CACHE: usize = 4_096;

impl Memory {
    /// Drops every cache: after a failed commit, and after inputs that failed.
    pub(crate) fn forget(&mut self) {
        self.me = None;
        self.accounts.clear();
        self.topics.clear();
        self.epochs.clear();
        self.bundles.clear();
    }

    pub(crate) fn trim(&mut self) {
        if self.accounts.len() > CACHE {
            self.accounts.clear();
        }
        if self.topics.len() > CACHE {
            self.topics.clear();
        }
        if self.epochs.len() > CACHE {
            self.epochs.clear();
        }
        if self.bundles.len() > CACHE {
            self.bundles.clear();
        }
    }
}

/// One input's context.
pub(crate) struct Tx<'a> {
    pub(crate) stage: Stage<'a>,
    pub(crate) now: Millis,
    pub(crate) rng: &'a mut ChaCha20Rng,
    pub(crate) mem: &'a mut Memory,
    pub(crate) out: Vec<Effect>,
}

impl Read for Tx<'_> {
    fn get(&self, t: &'static Table, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        self.stage.get(t, key)
    }

    fn visit(
        &self,
        t: &'static Table,
        range: &crate::store::KeyRange,
        reverse: bool,
        f: &mut crate::store::Visitor<'_>,
    ) -> Result<(), StorageError> {
        self.stage.visit(t, range, reverse, f)
    }
}

impl Tx<'_> {
    pub(crate) fn put<T: Serialize>(
        &mut self,
        t: &'static Table,
        key: &[u8],
        value: &T,
    ) -> Result<(), StorageError> {
        self.stage.put_typed(t, key, value)
    }

    pub(crate) fn put_raw(
        &mut self,
        t: &'static Table,
        key: &[u8],
        value: Vec<u8>,
    ) -> Result<(), StorageError> {
        self.stage.put(t, key, value)
    }

    pub(crate) fn del(&mut self, t: &'static Table, key: &[u8]) -> Result<(), StorageError> {
        self.stage.del(t, key)
    }

    pub(crate) fn typed<T: DeserializeOwned>(
        &self,
        t: &'static Table,
        key: &[u8],
    ) -> Result<Option<T>, StorageError> {
        self.stage.get_typed(t, key)
    }

    pub(crate) fn send(&mut self, to: DeviceId, frame: Frame) {
        // Frames to devices that are not connected would be dropped by the network anyway.
        if self.mem.peers.contains_key(&to) {
            self.out.push(Effect::Frame(to, frame));
        }
    }

    /// The stored row of this device.
    pub(crate) fn me_row(&self) -> Result<Me, StorageError> {
        self.typed(&ME, b"")?.ok_or_else(|| StorageError::corrupt(ME.name, "no device key"))
    }

    pub(crate) fn me(&mut self) -> Result<Arc<MeKeys>, StorageError> {
        if let Some(me) = &self.mem.me {
            return Ok(me.clone());
        }
        let row = self.me_row()?;
        let key = SigningKey::from_bytes(&row.seed);
        let me = Arc::new(MeKeys {
            device: DeviceId(key.verifying_key().to_bytes()),
            key,
            account: row.account,
            private: row.private,
        });
        self.mem.me = Some(me.clone());
        Ok(me)
    }

    /// This device's account, or the refusal that there is none.
    pub(crate) fn account(&mut self) -> Result<AccountId, Fail> {
        Ok(self.me()?.account.ok_or(Refusal::NoAccount)?)
    }

    /// Changes the stored row of this device.
    pub(crate) fn edit_me<T>(&mut self, f: impl FnOnce(&mut Me) -> T) -> Result<T, StorageError> {
        let mut row = self.me_row()?;
        let out = f(&mut row);
        self.put(&ME, b"", &row)?;
        self.mem.me = None;
        Ok(out)
    }

    /// A number never used before.
    pub(crate) fn number(&mut self) -> Result<u64, StorageError> {
        self.edit_me(|me| {
            me.next += 1;
            me.next
        })
    }

    /// Tells the person, durably.
    pub(crate) fn alarm(&mut self, text: String) -> Result<(), StorageError> {
        const MOST: u64 = 256;
        let newest = self.last(&ALARMS, b"")?;
        if let Some((_, v)) = &newest {
            let last: AlarmRow = crate::store::decode(&ALARMS, v)?;
            if last.text == text {
                return Ok(());
            }
        }
        let n = self.number()?;
        let row = AlarmRow { time: self.now, text };
        self.put(&ALARMS, &n.to_be_bytes(), &row)?;
        let all = crate::store::KeyRange::all();
        if self.count(&ALARMS, &all, MOST as usize + 1)? as u64 > MOST
            && let Some((oldest, _)) = self.first(&ALARMS, b"")?
        {
            self.del(&ALARMS, &oldest)?;
        }
        Ok(())
    }
}

/// Encodes a bounded list, cutting what exceeds the bound.
pub(crate) fn capped<T, const N: usize>(mut v: Vec<T>) -> codec::List<T, N> {
    v.truncate(N);
    codec::List::try_from(v).unwrap_or_default()
}

/// What is refused is left; only a failing database is a failure.
pub(crate) fn best_effort(result: Result<(), Fail>) -> Result<(), StorageError> {
    match result {
        Err(Fail::Storage(e)) => Err(e),
        Ok(()) | Err(_) => Ok(()),
    }
}
