//! Frames between two devices that have met over an authenticated connection.
//!
//! Each side names only topics in which it knows the *other's device* to be a current
//! member, so a non-member learns no topic id, not even a blinded one. A summary of both
//! sides' knowledge comes first; where it differs, digests; where these differ, frontiers;
//! then exactly the missing runs are pulled, page by page, so a slow peer is never sent more
//! than it asked for. New envelopes are pushed to connected members.

use serde::{Deserialize, Serialize};

use crate::codec::{Bytes, DecodeError, List, Wire};
use crate::cursor::MAX_CURSOR;
use crate::epoch::Parcel;
use crate::ids::{AccountId, DeviceId, EnvelopeId, EpochId, OpId, RecordId, SealedHash, TopicId};
use crate::inbox::{AccountPack, Letter, MAX_OP};

/// Most bytes of one frame.
pub const MAX_FRAME: usize = 1024 * 1024;
/// Bytes after which a page is closed; a single letter may exceed it.
pub const PAGE_BYTES: usize = 384 * 1024;
/// Most letters of one page.
pub const PAGE_LETTERS: usize = 1_024;

/// Most bytes of one word to or from a service.
pub const MAX_SERVICE: usize = 256 * 1024;

/// A hash by which two devices find out whether they know the same; the first 16 bytes of
/// BLAKE3 in a mode of its own.
pub type Digest = [u8; 16];

/// What two devices compare of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicDigest {
    /// The topic.
    pub topic: TopicId,
    /// The frontier and the membership heads.
    pub frontier: Digest,
    /// What each of the two acknowledged to the other.
    pub cursors: Digest,
}

/// What a device holds of one chain: all of `low ..= high`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Whose chain.
    pub device: DeviceId,
    /// First sequence number held; 1 unless history begins later here.
    pub low: u64,
    /// Last sequence number held without a gap.
    pub high: u64,
    /// The envelope at `high`.
    pub head: EnvelopeId,
    /// The lowest number for which two envelopes of this device are known; 0 if none is.
    pub fork: u64,
}

/// A run of one chain that is asked for: `from ..= to`; backwards where `from` is above
/// `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Whose chain.
    pub device: DeviceId,
    /// First sequence number.
    pub from: u64,
    /// Last sequence number.
    pub to: u64,
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Frame {
    /// After connecting: one summary of all that a [`Frame::Digests`] would say.
    Hello {
        /// Highest wire version the sender speaks; now 1.
        version: u16,
        /// Equal to the receiver's own where both know the same.
        summary: Digest,
    },
    /// "I have these heads of that account's log; send what I lack." No heads: send all.
    AccountWant(AccountId, List<RecordId, 64>),
    /// An account's records and prekeys.
    Account(AccountPack),
    /// What the sender holds of a topic.
    Frontier {
        /// The topic.
        topic: TopicId,
        /// Membership heads.
        ops: List<OpId, 64>,
        /// Chains held.
        chains: List<Held, 4_096>,
        /// Whether the receiver should answer with its own frontier.
        ask: bool,
    },
    /// Membership records that the receiver lacks.
    Ops(TopicId, List<Bytes<MAX_OP>, 64>),
    /// Runs that the sender lacks.
    Want(TopicId, List<Run, 256>),
    /// Answer to a [`Frame::Want`], in chain order.
    Page {
        /// The topic.
        topic: TopicId,
        /// Envelopes with bodies.
        letters: List<Letter, PAGE_LETTERS>,
        /// Whether more of the wanted runs remains.
        more: bool,
    },
    /// New envelopes, unasked.
    Push(TopicId, List<Letter, PAGE_LETTERS>),
    /// "I can't open these epochs; seal them to me, if I may have them."
    KeysWant(TopicId, List<EpochId, 64>),
    /// Epoch keys.
    Keys(List<Parcel, 64>),
    /// A signed cursor.
    Cursor(Bytes<MAX_CURSOR>),
    /// A sealed inbox message, handed over directly.
    Inbox(Bytes<{ crate::mailbox::MAX_ITEM }>),
    /// "That inbox message is durable here": its [`crate::envelope::sealed_hash`].
    InboxHeld(SealedHash),
    /// A step of device pairing; the only frame taken from a device that is no contact.
    Pair(Bytes<{ 900 * 1024 }>),
    /// Where summaries differ: a digest per account of interest and per shared topic.
    Digests {
        /// Accounts: digest of log heads and prekey counters. The sender's own comes first.
        accounts: List<(AccountId, Digest), 4_096>,
        /// Topics, strictly ascending.
        topics: List<TopicDigest, 4_096>,
        /// Whether the receiver should answer with its own, unless it just said them.
        ask: bool,
    },
    /// Something for a service of the receiver's, or an answer of one's own. Taken from
    /// strangers, too: the service judges who may ask. Unknown services answer nothing.
    Service(u8, Bytes<MAX_SERVICE>),
}

impl Wire for Frame {
    const NAME: &'static str = "frame";
    const MAX_BYTES: usize = MAX_FRAME;
    fn check(&self) -> Result<(), DecodeError> {
        match self {
            Self::Want(_, runs) if runs.iter().any(|r| r.from == 0 || r.to == 0) => {
                Err(DecodeError::malformed(Self::NAME, "a run begins at 1"))
            }
            Self::Frontier { chains, .. }
                if chains.iter().any(|h| h.low == 0 || h.low > h.high.saturating_add(1)) =>
            {
                Err(DecodeError::malformed(Self::NAME, "empty chain"))
            }
            Self::Digests { topics, .. } if !topics.windows(2).all(|w| w[0].topic < w[1].topic) => {
                Err(DecodeError::malformed(Self::NAME, "topics not strictly ascending"))
            }
            _ => Ok(()),
        }
    }
}
