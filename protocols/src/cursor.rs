//! Cursors: a device's signed word about what it holds.
//!
//! *Delivered* means: some device of the recipient signed a cursor that covers the
//! message. A cursor is a delta: it lists only chains whose acknowledged position changed,
//! under a counter that rises by one, so a lost or reordered cursor never lowers anything
//! (receivers keep the maximum per chain). The head's id is named, so an acknowledgement
//! of one branch of a forked chain is no acknowledgement of the other.

use serde::{Deserialize, Serialize};

use crate::codec::{DecodeError, List, Wire};
use crate::ids::{AccountId, DeviceId, EnvelopeId, TopicId};
use crate::sign::{Domain, Signable};

/// Most chains in one cursor.
pub const MAX_ACKS: usize = 512;

/// "I hold this chain, durably, without gaps, up to here."
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ack {
    /// Whose chain.
    pub device: DeviceId,
    /// Highest sequence number held, with all before it.
    pub seq: u64,
    /// The envelope at `seq`.
    pub id: EnvelopeId,
}

/// A device's acknowledgements in one topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Always 1.
    pub version: u8,
    /// The topic.
    pub topic: TopicId,
    /// The account of the acknowledging device.
    pub account: AccountId,
    /// The acknowledging device; it signs.
    pub device: DeviceId,
    /// Rises with every cursor of this device in this topic.
    pub counter: u64,
    /// Chains whose position changed, strictly ascending by device.
    pub acks: List<Ack, MAX_ACKS>,
    /// Chains read by a person up to here, where the person shares that.
    pub read: List<(DeviceId, u64), MAX_ACKS>,
}

impl Wire for Cursor {
    const NAME: &'static str = "cursor";
    const MAX_BYTES: usize = 1 + 32 * 3 + 10 + 4 + MAX_ACKS * (74 + 42);
    fn check(&self) -> Result<(), DecodeError> {
        if self.version != 1 {
            return Err(DecodeError::UnknownVersion { name: Self::NAME, version: self.version });
        }
        let acks = self.acks.windows(2).all(|w| w[0].device < w[1].device);
        let read = self.read.windows(2).all(|w| w[0].0 < w[1].0);
        if acks && read {
            return Ok(());
        }
        Err(DecodeError::malformed(Self::NAME, "chains not strictly ascending"))
    }
}

impl Signable for Cursor {
    const DOMAIN: Domain = Domain::CURSOR;
    fn signer(&self) -> [u8; 32] {
        self.device.0
    }
}

/// Most bytes of a signed cursor.
pub const MAX_CURSOR: usize = Cursor::MAX_BYTES + 69;
