//! Who belongs to a topic, in which role, and up to where the words of those who left count.
//!
//! A topic's membership is a DAG of signed operations, each naming the operations its
//! author had seen. This file has the wire forms and [`MembershipLog`], the set of records
//! held; [`Evaluation`] says what follows from the set. Neither depends on the order in
//! which records came, nor on any clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::codec::{self, DecodeError, List, Wire};
use crate::dag::Dag;
use crate::ids::{AccountId, DeviceId, EnvelopeId, OpId, TopicId};
use crate::sign::{Domain, Signable, Signed};

mod evaluate;
#[cfg(test)]
mod reference;
mod rounds;
mod rules;
#[cfg(test)]
mod tests;

pub use evaluate::{
    AuthorisedCut, Evaluation, Member, Membership, Oracle, Reason, Refused, Verdict,
};

/// The version of [`MembershipRecord`] this build writes and reads.
pub const VERSION: u8 = 1;
/// Most parents of a record. Whoever sees more heads merges the rest later.
pub const MAX_PARENTS: usize = 16;
/// Most devices one operation can name a cut for.
pub const MAX_CUTS: usize = 64;
/// Most records of one topic, pending ones included.
pub const MAX_RECORDS: usize = 4_096;
/// Most records held whose ancestors are not all here yet.
pub const MAX_PENDING: usize = 256;

/// What a member may do; each role may do all that the ones before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Writes, leaves, and cuts off its own devices.
    Member,
    /// Also adds and removes members, and sets the history policy.
    Admin,
    /// Also everything else.
    Owner,
}

/// What a topic is for, which decides who can be in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TopicKind {
    /// One account's own devices; nobody can be added.
    Private,
    /// Its creator and one other account; nobody is removed or leaves.
    Direct,
    /// Any number of accounts.
    Group,
    /// One account's posts: only its own devices write, nobody can be added. Who may read is
    /// known to its writers alone and stands in no record.
    Moments,
    /// Public words of its members, who are its publishers: whoever knows the topic reads it.
    Feed,
}

impl TopicKind {
    /// Whether its members can change.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Group | Self::Feed)
    }

    /// Whether people write to each other in it.
    #[must_use]
    pub const fn is_chat(self) -> bool {
        matches!(self, Self::Direct | Self::Group)
    }
}

/// How much of the past a member may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum History {
    /// Only what is written after it was added.
    FromJoining,
    /// Everything.
    All,
}

/// The last envelope of a device that is kept when the device or its account goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Cut {
    /// Whose envelopes.
    pub device: DeviceId,
    /// The last sequence number kept.
    pub seq: u64,
    /// The envelope that has this number: a device may have made two.
    pub id: EnvelopeId,
}

impl Cut {
    /// Whether the cut keeps the envelope `id` with number `seq` of this cut's device.
    #[must_use]
    pub fn keeps(&self, seq: u64, id: EnvelopeId) -> bool {
        seq < self.seq || (seq == self.seq && id == self.id)
    }
}

/// The cuts of one operation, ascending by device, one a device. Of a device that is not
/// listed nothing is kept.
pub type Cuts = List<Cut, MAX_CUTS>;

/// An operation on the membership of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberOp {
    /// Opens the topic; its author is the first owner.
    Create {
        /// What the topic is for.
        kind: TopicKind,
        /// Random, so that two topics never have one id.
        nonce: [u8; 16],
        /// What later members may read by default.
        history: History,
    },
    /// Adds an account that is not a member.
    Add {
        /// Who.
        account: AccountId,
        /// As what; admins add members only.
        role: Role,
        /// What it may read. Pinned here: forwarders of old keys go by this.
        history: History,
    },
    /// Removes another account; admins remove members only.
    Remove {
        /// Who.
        account: AccountId,
        /// What is kept of its devices' envelopes.
        cuts: Cuts,
    },
    /// Takes the author out. The last owner can't.
    Leave {
        /// What is kept of its devices' envelopes.
        cuts: Cuts,
    },
    /// Gives a member another role; only owners do.
    SetRole {
        /// Who.
        account: AccountId,
        /// The new role.
        role: Role,
    },
    /// Sets the history policy for later members.
    SetHistory {
        /// The new policy.
        history: History,
    },
    /// Cuts off a revoked device: one's own, or in a group one of an account of lower role.
    CutDevice {
        /// The device's last envelope that is kept.
        cut: Cut,
    },
}

/// One signed operation of a topic's membership log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembershipRecord {
    /// [`VERSION`].
    pub version: u8,
    /// The topic; None in [`MemberOp::Create`] only, whose id is the topic's.
    pub topic: Option<TopicId>,
    /// The heads its author had seen, ascending; empty in [`MemberOp::Create`] only.
    pub parents: List<OpId, MAX_PARENTS>,
    /// The account that acts.
    pub account: AccountId,
    /// The device of that account that signs.
    pub device: DeviceId,
    /// What it does.
    pub op: MemberOp,
}

impl MembershipRecord {
    /// The record that opens a topic. `nonce` must be random.
    #[must_use]
    pub fn create(
        account: AccountId,
        device: DeviceId,
        kind: TopicKind,
        history: History,
        nonce: [u8; 16],
    ) -> Self {
        let op = MemberOp::Create { kind, nonce, history };
        Self { version: VERSION, topic: None, parents: List::default(), account, device, op }
    }
}

impl Wire for MembershipRecord {
    const NAME: &'static str = "membership record";
    // Version, topic, 16 parents, author, signer, and 64 cuts of at most 74 bytes.
    const MAX_BYTES: usize = 1 + 33 + (1 + 16 * 32) + 64 + (1 + 32) + (1 + 64 * 74);

    fn check(&self) -> Result<(), DecodeError> {
        let bad = |why| Err(DecodeError::malformed(Self::NAME, why));
        if self.version != VERSION {
            return Err(DecodeError::UnknownVersion { name: Self::NAME, version: self.version });
        }
        codec::check_ascending(Self::NAME, &self.parents)?;
        let create = matches!(self.op, MemberOp::Create { .. });
        if create != self.topic.is_none() || create != self.parents.is_empty() {
            return bad("a topic and parents belong in every record but the first");
        }
        if let MemberOp::Remove { cuts, .. } | MemberOp::Leave { cuts } = &self.op
            && !cuts.windows(2).all(|w| w[0].device < w[1].device)
        {
            return bad("cuts not ascending by device");
        }
        Ok(())
    }
}

impl Signable for MembershipRecord {
    const DOMAIN: Domain = Domain::MEMBERSHIP;
    fn signer(&self) -> [u8; 32] {
        self.device.0
    }
}

/// Why a record can't be in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The record that opens the topic is not there.
    #[error("the record that opens the topic is missing")]
    NoCreate,
    /// The record is of another topic, or opens one.
    #[error("the record belongs to another topic")]
    OtherTopic,
    /// [`MAX_RECORDS`] are held.
    #[error("the topic has its {MAX_RECORDS} membership records")]
    Full,
    /// [`MAX_PENDING`] records wait for their ancestors; send those first.
    #[error("{MAX_PENDING} membership records already wait for earlier ones")]
    TooManyPending,
}

/// What became of the records given to [`MembershipLog::extend`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extended {
    /// Records that were not held before, ascending.
    pub new: Vec<OpId>,
    /// Records that were refused.
    pub refused: Vec<(OpId, LogError)>,
}

/// The membership records held of one topic.
#[derive(Debug, Clone)]
pub struct MembershipLog {
    topic: TopicId,
    kind: TopicKind,
    records: BTreeMap<OpId, Signed<MembershipRecord>>,
    // Always the graph of `records`.
    dag: Arc<Dag>,
}

impl MembershipLog {
    /// The log of the topic that `create` opens.
    ///
    /// # Errors
    /// [`LogError::NoCreate`] for any other operation.
    pub fn new(create: Signed<MembershipRecord>) -> Result<Self, LogError> {
        let MemberOp::Create { kind, .. } = create.get().op else {
            return Err(LogError::NoCreate);
        };
        let topic = TopicId(create.id());
        let mut log = Self { topic, kind, records: BTreeMap::new(), dag: Arc::default() };
        log.records.insert(OpId(create.id()), create);
        log.rebuild();
        Ok(log)
    }

    /// The log of `topic` from stored or received records, in any order.
    ///
    /// # Errors
    /// The first that was refused, or [`LogError::NoCreate`].
    pub fn from_records(
        topic: TopicId,
        records: impl IntoIterator<Item = Signed<MembershipRecord>>,
    ) -> Result<Self, LogError> {
        let (create, rest): (Vec<_>, Vec<_>) = records.into_iter().partition(|r| r.id() == topic.0);
        let mut log = Self::new(create.into_iter().next().ok_or(LogError::NoCreate)?)?;
        match log.extend(rest).refused.first() {
            Some((_, error)) => Err(*error),
            None => Ok(log),
        }
    }

    /// Adds one record; false if it was held already. Many are cheaper together:
    /// [`MembershipLog::extend`].
    ///
    /// # Errors
    /// See [`LogError`].
    pub fn insert(&mut self, record: Signed<MembershipRecord>) -> Result<bool, LogError> {
        let Extended { new, refused } = self.extend([record]);
        match refused.first() {
            Some((_, error)) => Err(*error),
            None => Ok(!new.is_empty()),
        }
    }

    /// Adds records in any order. One that is refused doesn't hinder the others.
    pub fn extend(
        &mut self,
        records: impl IntoIterator<Item = Signed<MembershipRecord>>,
    ) -> Extended {
        let mut new = BTreeSet::new();
        let mut refused = Vec::new();
        for record in records {
            let id = OpId(record.id());
            if self.records.contains_key(&id) {
                continue;
            }
            if record.get().topic != Some(self.topic) {
                refused.push((id, LogError::OtherTopic));
            } else if self.records.len() >= MAX_RECORDS {
                refused.push((id, LogError::Full));
            } else {
                self.records.insert(id, record);
                new.insert(id);
            }
        }
        if !new.is_empty() {
            self.rebuild();
        }
        // What was held before stays; of the new ones that wait, the largest ids go. A
        // pending record has only pending descendants, so one pass is enough.
        let excess = self.dag.pending().len().saturating_sub(MAX_PENDING);
        let waiting: Vec<OpId> =
            new.iter().rev().filter(|id| self.dag.pending().contains(&id.0)).copied().collect();
        for id in waiting.into_iter().take(excess) {
            self.records.remove(&id);
            new.remove(&id);
            refused.push((id, LogError::TooManyPending));
        }
        if excess > 0 {
            self.rebuild();
        }
        Extended { new: new.into_iter().collect(), refused }
    }

    fn rebuild(&mut self) {
        let items = self
            .records
            .iter()
            .map(|(id, r)| (id.0, r.get().parents.iter().map(|p| p.0).collect()));
        self.dag = Arc::new(Dag::new(items));
    }

    /// The topic's id: that of its first record.
    pub const fn topic(&self) -> TopicId {
        self.topic
    }

    /// What the topic is for.
    pub const fn kind(&self) -> TopicKind {
        self.kind
    }

    /// The graph of the records held; pending ones are outside it.
    pub fn dag(&self) -> &Dag {
        &self.dag
    }

    /// The records nobody follows yet, ascending; void ones included, pending ones not.
    pub fn heads(&self) -> Vec<OpId> {
        self.dag.heads().iter().copied().map(OpId).collect()
    }

    /// One record; a pending one too.
    pub fn get(&self, id: &OpId) -> Option<&Signed<MembershipRecord>> {
        self.records.get(id)
    }

    /// Every record that is not pending, each after its ancestors.
    pub fn records(&self) -> impl Iterator<Item = &Signed<MembershipRecord>> {
        self.dag.order().iter().map(|id| &self.records[&OpId(*id)])
    }

    /// Records held whose ancestors are not all here.
    pub fn pending(&self) -> impl Iterator<Item = &Signed<MembershipRecord>> {
        self.dag.pending().iter().map(|id| &self.records[&OpId(*id)])
    }

    /// Ids that pending records name and that are to be asked for.
    pub fn missing(&self) -> Vec<OpId> {
        self.dag.missing().iter().copied().map(OpId).collect()
    }

    /// What somebody with these heads lacks, each record after its ancestors.
    pub fn records_unknown_to(&self, heads: &[OpId]) -> Vec<&Signed<MembershipRecord>> {
        let heads: Vec<_> = heads.iter().map(|h| h.0).collect();
        self.dag.unknown_to(&heads).into_iter().map(|id| &self.records[&OpId(id)]).collect()
    }

    /// What follows from the records. `oracle` answers for the members' account logs.
    pub fn evaluate(&self, oracle: Oracle<'_>) -> Evaluation {
        let records: Vec<_> = self.records().map(Signed::get).collect();
        Evaluation::new(self.topic, self.kind, Arc::clone(&self.dag), &records, oracle)
    }
}
