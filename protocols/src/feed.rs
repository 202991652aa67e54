//! Public feeds: articles, and the words by which a follower asks whoever has the feed.
//!
//! A feed is a topic like any other, but that its one epoch is public
//! ([`crate::epoch::EpochSecret::public`]): its envelopes, signed by its publishers' devices,
//! prove themselves wherever they come from. Followers are in no list. They ask a publisher, or
//! any other follower, with [`FeedFrame::Ask`]; the topic's id, which is the hash of its first
//! record, vouches for the rest.

use serde::{Deserialize, Serialize};

use crate::codec::{Bytes, DecodeError, List, Text, Wire};
use crate::envelope::MAX_BODY_PLAIN;
use crate::ids::{AccountId, DeviceId, OpId, RecordId, TopicId};
use crate::inbox::{AccountPack, Letter, MAX_OP};
use crate::photo::{MAX_PHOTOS, MAX_PICTURE, Photo};
use crate::sync::MAX_SERVICE;

/// The number of this service ([`crate::sync::Frame::Service`]).
pub const SERVICE: u8 = 2;
/// Most bytes of a title.
pub const MAX_TITLE: usize = 256;
/// Most bytes of an article's text.
pub const MAX_ARTICLE: usize = 60 * 1024;
/// Bytes that a page has at most, unless its only letter is larger.
pub const PAGE_BYTES: usize = 96 * 1024;

/// An article, as the first body of its envelope. Previews of its photos follow as in
/// [`crate::photo`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Article {
    /// 1 to [`MAX_TITLE`] bytes.
    pub title: Text<MAX_TITLE>,
    /// Markdown (of the `CommonMark` kind); `photo:0` as an image's target is the first photo.
    pub text: Text<MAX_ARTICLE>,
    /// Its photos.
    pub photos: List<Photo, MAX_PHOTOS>,
}

impl Wire for Article {
    const NAME: &'static str = "article";
    const MAX_BYTES: usize =
        (2 + MAX_TITLE) + (3 + MAX_ARTICLE) + 1 + MAX_PHOTOS * (64 + 5 + 3 + 3);
    fn check(&self) -> Result<(), DecodeError> {
        let fits = |p: &Photo| (1..=MAX_PICTURE).contains(&p.size) && p.width > 0 && p.height > 0;
        if self.title.is_empty() || !self.photos.iter().all(fits) {
            return Err(DecodeError::malformed(Self::NAME, "no title, or size of a photo"));
        }
        Ok(())
    }
}

const _: () = assert!(Article::MAX_BYTES <= MAX_BODY_PLAIN);

/// One word between a follower and whoever has the feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FeedFrame {
    /// "I follow this; send what I lack, and what comes from now on."
    Ask {
        /// The feed.
        topic: TopicId,
        /// Membership heads that the follower has.
        ops: List<OpId, 16>,
        /// Up to where it has each chain, ascending by device.
        chains: List<(DeviceId, u64), 64>,
        /// Heads of the publishers' account logs that it has, ascending by account.
        accounts: List<(AccountId, List<RecordId, 16>), 8>,
    },
    /// What the follower lacks, in chain order.
    Page {
        /// The feed.
        topic: TopicId,
        /// Membership records, the first before all others.
        records: List<Bytes<MAX_OP>, 64>,
        /// What the follower lacks of the publishers' account logs; no prekeys.
        accounts: List<AccountPack, 8>,
        /// Envelopes with bodies.
        letters: List<Letter, 64>,
        /// Whether there is more.
        more: bool,
    },
    /// "I don't have it", or no longer.
    Unknown {
        /// The feed.
        topic: TopicId,
    },
    /// "There is more": to who asked during this connection.
    News {
        /// The feed.
        topic: TopicId,
    },
}

impl Wire for FeedFrame {
    const NAME: &'static str = "feed frame";
    const MAX_BYTES: usize = MAX_SERVICE;
    fn check(&self) -> Result<(), DecodeError> {
        match self {
            Self::Ask { chains, accounts, .. }
                if !chains.windows(2).all(|w| w[0].0 < w[1].0)
                    || !accounts.windows(2).all(|w| w[0].0 < w[1].0) =>
            {
                Err(DecodeError::malformed(Self::NAME, "not strictly ascending"))
            }
            _ => Ok(()),
        }
    }
}
