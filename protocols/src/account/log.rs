//! The records of one account and the state they fold to.

use std::collections::{BTreeMap, BTreeSet};

use ed25519_dalek::SigningKey;

use super::authority::{Authority, Standing};
use super::{
    AccountOp, AccountRecord, MAX_PENDING, MAX_RECORDS, ROOT_RESERVE, RelayAddr, Signer, VERSION,
};
use crate::codec::{DecodeError, List, Text, Wire};
use crate::dag::Dag;
use crate::ids::{AccountId, DeviceId, RecordId, Tag};
use crate::sign::Signed;

/// The records of one account.
///
/// The state is a function of the set of records given, whatever their order, as long as
/// the bounds ([`MAX_RECORDS`], [`MAX_PENDING`]) aren't reached.
#[derive(Debug, Clone)]
pub struct AccountLog {
    account: AccountId,
    records: BTreeMap<RecordId, Signed<AccountRecord>>,
    /// Records of which a parent is absent.
    pending: BTreeMap<RecordId, Signed<AccountRecord>>,
    authority: Authority,
    dag: Dag,
    state: AccountState,
}

/// What the records of an account amount to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountState {
    /// The account.
    pub account: AccountId,
    /// The root key; in a dispute the last undisputed one, which can sign nothing any more.
    pub root: [u8; 32],
    /// Whether the root was rotated to different keys. Nothing clears it.
    pub disputed: bool,
    /// Every device that was ever added, also those that are revoked or void.
    pub devices: BTreeMap<DeviceId, DeviceInfo>,
    /// Where the account is reached, best first.
    pub relays: List<RelayAddr, 8>,
    /// The name shown to others; empty until one is set.
    pub name: Text<64>,
    /// Where requests of strangers go.
    pub card: Option<CardKeys>,
    /// Numbers of the features that the account offers, ascending.
    pub features: List<u16, 64>,
    /// The records without children, ascending: what the next record names as parents.
    pub heads: Vec<RecordId>,
}

/// What is known of a device of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// What its owner calls it.
    pub name: Text<64>,
    /// The record that added it.
    pub added: RecordId,
    /// The first revocation in force, in the graph's order.
    pub revoked: Option<RecordId>,
    /// Whether the record that added it doesn't stand: it was never rightly a device.
    pub void: bool,
}

/// Where requests of strangers go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CardKeys {
    /// X25519 public key to seal requests to.
    pub inbox_key: [u8; 32],
    /// Mailbox tag to leave them under.
    pub tag: Tag,
}

/// What became of a batch of records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inserted {
    /// Newly part of the log, in this order; earlier arrivals that waited are among them.
    pub accepted: Vec<RecordId>,
    /// Refused, and why. What was known or waits is in neither list.
    pub refused: Vec<(RecordId, AccountError)>,
}

/// Why a record was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// The record is malformed.
    #[error(transparent)]
    Form(#[from] DecodeError),
    /// No genesis among the records.
    #[error("no genesis record")]
    NoGenesis,
    /// A record of another account.
    #[error("record of another account")]
    Foreign,
    /// A parent is absent.
    #[error("a parent is absent")]
    Orphan,
    /// The device or root that is added did not consent.
    #[error("the added key did not consent")]
    Consent,
    /// The key given is not the one the signer names.
    #[error("wrong signing key")]
    WrongKey,
    /// The signer wasn't active in the record's past.
    #[error("signer was not active in the record's past")]
    Unauthorised,
    /// The device was revoked: only the root can add it again.
    #[error("only the root can add a revoked device again")]
    OnlyRoot,
    /// The device to revoke isn't known in the record's past.
    #[error("device to revoke is not known")]
    UnknownDevice,
    /// The new root was a root before.
    #[error("the new root was a root before")]
    RootReused,
    /// The account is disputed: no device can be added.
    #[error("the account is disputed")]
    Disputed,
    /// The log is full.
    #[error("account log is full")]
    Full,
    /// Too many records wait for their parents.
    #[error("too many records wait for their parents")]
    TooManyPending,
}

impl AccountState {
    /// Whether the device acts for the account.
    #[must_use]
    pub fn is_active(&self, device: &DeviceId) -> bool {
        self.devices.get(device).is_some_and(|d| !d.void && d.revoked.is_none())
    }

    /// Whether the device rightly acts, or acted before it was revoked.
    #[must_use]
    pub fn was_ever(&self, device: &DeviceId) -> bool {
        self.devices.get(device).is_some_and(|d| !d.void)
    }

    /// The active devices, ascending.
    pub fn active_devices(&self) -> impl Iterator<Item = &DeviceId> {
        self.devices.iter().filter(|(_, d)| !d.void && d.revoked.is_none()).map(|(id, _)| id)
    }
}

impl AccountLog {
    /// Begins an account. The nonce is random.
    #[must_use]
    pub fn create(root: &SigningKey, nonce: [u8; 16]) -> Self {
        let public = root.verifying_key().to_bytes();
        let genesis = AccountRecord {
            version: VERSION,
            account: None,
            parents: List::default(),
            signer: Signer::Root(public),
            op: AccountOp::Genesis { root: public, nonce },
        };
        Self::open(Signed::new(genesis, root)).expect("a genesis begins an account")
    }

    /// A log that holds a genesis only.
    pub fn open(genesis: Signed<AccountRecord>) -> Result<Self, AccountError> {
        let AccountOp::Genesis { root, .. } = genesis.get().op else {
            return Err(AccountError::NoGenesis);
        };
        let id = RecordId(genesis.id());
        let account = AccountId(id.0);
        let mut authority = Authority::default();
        authority.admit(id, genesis.get())?;
        let mut log = Self {
            account,
            records: BTreeMap::from([(id, genesis)]),
            pending: BTreeMap::new(),
            authority,
            dag: Dag::default(),
            state: AccountState {
                account,
                root,
                disputed: false,
                devices: BTreeMap::new(),
                relays: List::default(),
                name: Text::default(),
                card: None,
                features: List::default(),
                heads: Vec::new(),
            },
        };
        log.refold();
        Ok(log)
    }

    /// A log from records in any order, the genesis of the first one's account among them.
    /// Others that are refused are left out.
    pub fn from_records(
        records: impl IntoIterator<Item = Signed<AccountRecord>>,
    ) -> Result<Self, AccountError> {
        let mut rest: Vec<_> = records.into_iter().collect();
        let wanted = rest
            .first()
            .and_then(|r| r.get().account)
            .or_else(|| rest.first().map(|r| AccountId(r.id())))
            .ok_or(AccountError::NoGenesis)?;
        let at = rest.iter().position(|r| r.id() == wanted.0).ok_or(AccountError::NoGenesis)?;
        let mut log = Self::open(rest.swap_remove(at))?;
        // Stored records may be in the order of their ids: put parents first, so that none
        // has to wait.
        let dag = Dag::new(rest.iter().map(|r| (r.id(), parents(r, &log.account))));
        let mut by_id: BTreeMap<_, _> = rest.into_iter().map(|r| (r.id(), r)).collect();
        let mut sorted: Vec<_> = dag.order().iter().filter_map(|id| by_id.remove(id)).collect();
        sorted.extend(by_id.into_values());
        log.insert_all(sorted);
        Ok(log)
    }

    /// Writes a record on top of the heads and returns it, for others.
    pub fn append(
        &mut self,
        key: &SigningKey,
        signer: Signer,
        op: AccountOp,
    ) -> Result<Signed<AccountRecord>, AccountError> {
        if key.verifying_key().to_bytes() != *signer.key() {
            return Err(AccountError::WrongKey);
        }
        let record = AccountRecord {
            version: VERSION,
            account: Some(self.account),
            parents: self.next_parents(),
            signer,
            op,
        };
        record.check()?;
        let signed = Signed::new(record, key);
        self.insert(signed.clone())?;
        Ok(signed)
    }

    /// Takes a record in. True if the log grew; false if the record was known or waits for
    /// parents (see [`AccountLog::missing`]).
    pub fn insert(&mut self, record: Signed<AccountRecord>) -> Result<bool, AccountError> {
        let id = RecordId(record.id());
        let mut done = self.insert_all([record]);
        match done.refused.iter().position(|(r, _)| *r == id) {
            Some(at) => Err(done.refused.swap_remove(at).1),
            None => Ok(!done.accepted.is_empty()),
        }
    }

    /// Takes many records in and folds once. Parents first is best, but any order will do.
    pub fn insert_all(
        &mut self,
        records: impl IntoIterator<Item = Signed<AccountRecord>>,
    ) -> Inserted {
        let mut done = Inserted::default();
        for record in records {
            let id = RecordId(record.id());
            match self.take(id, record) {
                Ok(true) => {
                    done.accepted.push(id);
                    self.release(&mut done);
                }
                Ok(false) => {}
                Err(why) => done.refused.push((id, why)),
            }
        }
        if !done.accepted.is_empty() {
            self.refold();
        }
        done
    }

    /// The account.
    #[must_use]
    pub const fn account(&self) -> AccountId {
        self.account
    }

    /// What the records amount to.
    #[must_use]
    pub const fn state(&self) -> &AccountState {
        &self.state
    }

    /// The records without children, ascending.
    #[must_use]
    pub fn heads(&self) -> &[RecordId] {
        &self.state.heads
    }

    /// Parents that waiting records name and that are absent, ascending.
    #[must_use]
    pub fn missing(&self) -> BTreeSet<RecordId> {
        self.pending
            .values()
            .flat_map(|r| r.get().parents.iter())
            .filter(|p| !self.records.contains_key(p) && !self.pending.contains_key(p))
            .copied()
            .collect()
    }

    /// The records, parents first.
    pub fn records(&self) -> impl Iterator<Item = &Signed<AccountRecord>> {
        self.dag.order().iter().filter_map(|id| self.records.get(&RecordId(*id)))
    }

    /// One record.
    #[must_use]
    pub fn get(&self, id: &RecordId) -> Option<&Signed<AccountRecord>> {
        self.records.get(id)
    }

    /// The records that somebody with `heads` lacks, parents first. Heads that are not here
    /// say nothing.
    #[must_use]
    pub fn records_unknown_to(&self, heads: &[RecordId]) -> Vec<&Signed<AccountRecord>> {
        let heads: Vec<[u8; 32]> = heads.iter().map(|h| h.0).collect();
        let unknown = self.dag.unknown_to(&heads);
        unknown.iter().filter_map(|id| self.records.get(&RecordId(*id))).collect()
    }

    /// See [`AccountState::is_active`].
    #[must_use]
    pub fn is_active(&self, device: &DeviceId) -> bool {
        self.state.is_active(device)
    }

    /// See [`AccountState::was_ever`].
    #[must_use]
    pub fn was_ever(&self, device: &DeviceId) -> bool {
        self.state.was_ever(device)
    }

    /// The records that show, on their own, that an active device belongs to the account:
    /// genesis, then grants, each by a key granted before, down to the device's own.
    #[must_use]
    pub fn proof_of(&self, device: &DeviceId) -> Option<Vec<&Signed<AccountRecord>>> {
        let chain = self.authority.standing().chain(&Signer::Device(*device))?;
        chain.iter().map(|id| self.records.get(id)).collect()
    }

    /// The records that show, on their own, that a device is out, parents first: those that
    /// ended it or, concurrently with a grant that it rests on, the grant's key. Empty for
    /// others; nothing that came after is among them.
    #[must_use]
    pub fn end_of(&self, device: &DeviceId) -> Vec<&Signed<AccountRecord>> {
        if self.is_active(device) || !self.state.devices.contains_key(device) {
            return Vec::new();
        }
        let mut keys = BTreeSet::from([Signer::Device(*device)]);
        let mut ends = BTreeSet::new();
        let ended = |key: Signer| self.records().filter(move |r| r.get().ends() == Some(key));
        ends.extend(ended(Signer::Device(*device)).map(Signed::id));
        let all: Vec<_> = self.records().collect();
        // A key's own grant is in the past of whatever it grants.
        for grant in all.into_iter().rev() {
            if grant.get().grants().is_some_and(|key| keys.contains(&key)) {
                let by = grant.get().signer;
                keys.insert(by);
                let beside = ended(by).filter(|r| self.dag.concurrent(&grant.id(), &r.id()));
                ends.extend(beside.map(Signed::id));
            }
        }
        let ends: Vec<[u8; 32]> = ends.into_iter().collect();
        let Some(past) = self.dag.closure(&ends) else { return Vec::new() };
        past.iter().filter_map(|id| self.records.get(&RecordId(*id))).collect()
    }

    /// Admits one record, or lets it wait (false).
    fn take(&mut self, id: RecordId, record: Signed<AccountRecord>) -> Result<bool, AccountError> {
        if self.records.contains_key(&id) || self.pending.contains_key(&id) {
            return Ok(false);
        }
        let value = record.get();
        if value.account != Some(self.account) {
            return Err(AccountError::Foreign);
        }
        value.verify_consent().map_err(|_| AccountError::Consent)?;
        if value.parents.iter().any(|p| !self.records.contains_key(p)) {
            if self.pending.len() >= MAX_PENDING {
                return Err(AccountError::TooManyPending);
            }
            self.pending.insert(id, record);
            return Ok(false);
        }
        self.admit(id, record)?;
        Ok(true)
    }

    fn admit(&mut self, id: RecordId, record: Signed<AccountRecord>) -> Result<(), AccountError> {
        let reserve = if record.get().signer.is_root() { 0 } else { ROOT_RESERVE };
        if self.authority.len() >= MAX_RECORDS - reserve {
            return Err(AccountError::Full);
        }
        self.authority.admit(id, record.get())?;
        self.records.insert(id, record);
        Ok(())
    }

    /// Admits waiting records whose parents have come.
    fn release(&mut self, done: &mut Inserted) {
        loop {
            let ready = self
                .pending
                .iter()
                .find(|(_, r)| r.get().parents.iter().all(|p| self.records.contains_key(p)));
            let Some(id) = ready.map(|(id, _)| *id) else { return };
            let Some(record) = self.pending.remove(&id) else { return };
            match self.admit(id, record) {
                Ok(()) => done.accepted.push(id),
                Err(why) => done.refused.push((id, why)),
            }
        }
    }

    /// The heads; the deepest of those that stand if there are too many to name.
    fn next_parents(&self) -> List<RecordId, 8> {
        const MOST: usize = 8;
        let mut heads = self.state.heads.clone();
        if heads.len() > MOST {
            let standing = self.authority.standing();
            heads
                .sort_by_key(|h| std::cmp::Reverse((standing.stands(h), self.dag.depth(&h.0), *h)));
            heads.truncate(MOST);
            heads.sort_unstable();
        }
        heads.try_into().expect("at most eight")
    }

    fn refold(&mut self) {
        self.dag = Dag::new(
            self.records.values().map(|r| (r.id(), r.get().parents.iter().map(|p| p.0).collect())),
        );
        let standing = self.authority.standing();
        let mut fold = Fold {
            standing,
            roots: BTreeMap::new(),
            grants: BTreeMap::new(),
            revocations: BTreeMap::new(),
            fields: Default::default(),
        };
        for record in self.records() {
            fold.add(record);
        }
        let mut state = AccountState {
            account: self.account,
            root: self.state.root,
            disputed: fold.standing.disputed(),
            devices: BTreeMap::new(),
            relays: List::default(),
            name: Text::default(),
            card: None,
            features: List::default(),
            heads: self.dag.heads().iter().map(|h| RecordId(*h)).collect(),
        };
        if let Some(AccountOp::Genesis { root, .. }) = self.op(&RecordId(self.account.0)) {
            state.root = *root;
        }
        // The rotations that stand are a chain; taking out what was used ends the walk.
        while let Some(next) = fold.roots.remove(&state.root) {
            state.root = next;
        }
        for (device, (rank, added)) in &fold.grants {
            let Some(AccountOp::AddDevice { name, .. }) = self.op(added) else { continue };
            let revoked = fold
                .revocations
                .get(device)
                .and_then(|ids| ids.iter().copied().find(|id| fold.standing.ended_by(added, id)));
            let void = *rank == Rank::Void;
            let info = DeviceInfo { name: name.clone(), added: *added, revoked, void };
            state.devices.insert(*device, info);
        }
        for ids in &fold.fields {
            // Still in the graph's order: the last of the highest rank wins.
            let latest = fold.standing.latest(ids);
            let winner = latest
                .iter()
                .filter_map(|id| self.records.get(id))
                .max_by_key(|r| r.get().signer.is_root());
            match winner.map(|r| &r.get().op) {
                Some(AccountOp::SetRelays { relays }) => state.relays = relays.clone(),
                Some(AccountOp::SetProfile { name }) => state.name = name.clone(),
                Some(AccountOp::SetCard { inbox_key, tag }) => {
                    state.card = Some(CardKeys { inbox_key: *inbox_key, tag: *tag });
                }
                Some(AccountOp::SetFeatures { features }) => state.features = features.clone(),
                _ => {}
            }
        }
        self.state = state;
    }

    fn op(&self, id: &RecordId) -> Option<&AccountOp> {
        self.records.get(id).map(|r| &r.get().op)
    }
}

/// How good a grant of a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Void,
    Ended,
    Active,
}

/// What is gathered from the records in the graph's order.
struct Fold<'a> {
    standing: Standing<'a>,
    /// Rotations that stand: old root to new.
    roots: BTreeMap<[u8; 32], [u8; 32]>,
    /// The best grant of each device; of equals the last.
    grants: BTreeMap<DeviceId, (Rank, RecordId)>,
    /// The revocations of each device.
    revocations: BTreeMap<DeviceId, Vec<RecordId>>,
    /// The standing records that set relays, profile, card, features.
    fields: [Vec<RecordId>; 4],
}

impl Fold<'_> {
    fn add(&mut self, record: &Signed<AccountRecord>) {
        let id = RecordId(record.id());
        let stands = self.standing.stands(&id);
        let field = match &record.get().op {
            AccountOp::AddDevice { device, .. } => {
                let rank = match (stands, self.standing.is_active(&id)) {
                    (false, _) => Rank::Void,
                    (true, false) => Rank::Ended,
                    (true, true) => Rank::Active,
                };
                let best = self.grants.entry(*device).or_insert((rank, id));
                if rank >= best.0 {
                    *best = (rank, id);
                }
                return;
            }
            AccountOp::RotateRoot { root, .. } => {
                if stands {
                    self.roots.insert(*record.get().signer.key(), *root);
                }
                return;
            }
            AccountOp::RevokeDevice { device } => {
                self.revocations.entry(*device).or_default().push(id);
                return;
            }
            AccountOp::Genesis { .. } => return,
            AccountOp::SetRelays { .. } => 0,
            AccountOp::SetProfile { .. } => 1,
            AccountOp::SetCard { .. } => 2,
            AccountOp::SetFeatures { .. } => 3,
        };
        if stands {
            self.fields[field].push(id);
        }
    }
}

/// The parents but for the genesis, so that the rest is a graph of its own.
fn parents(record: &Signed<AccountRecord>, account: &AccountId) -> Vec<[u8; 32]> {
    record.get().parents.iter().map(|p| p.0).filter(|p| *p != account.0).collect()
}
