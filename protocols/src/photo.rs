//! Photos as a message or a post carries them: where the sealed picture lies by its hash, the
//! key that opens it, and a preview that needs no further fetch.
//!
//! The first body of the envelope is a [`Captioned`]; the previews follow in bodies of
//! [`Previews`], [`PREVIEWS_PER_BODY`] to each, in the order of the photos.

use serde::{Deserialize, Serialize};

use crate::codec::{Bytes, DecodeError, List, Text, Wire};
use crate::envelope::MAX_BODY_PLAIN;

/// Most photos of one message or post.
pub const MAX_PHOTOS: usize = 9;
/// Most bytes of a text that goes with photos, or of a post.
pub const MAX_CAPTION: usize = 16 * 1024;
/// Most bytes of a preview.
pub const MAX_PREVIEW: usize = 15 * 1024;
/// Previews in one body.
pub const PREVIEWS_PER_BODY: usize = 4;
/// Most bytes of a picture, before it is sealed. Larger ones go as files.
pub const MAX_PICTURE: u64 = 32 * 1024 * 1024;

/// A picture that lies somewhere else, sealed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Photo {
    /// BLAKE3 of the sealed bytes: what is asked for.
    pub hash: [u8; 32],
    /// The key that opens them.
    pub key: [u8; 32],
    /// How many bytes the picture has before it is sealed, at most [`MAX_PICTURE`]. How many
    /// are fetched follows from it ([`crate::content::sealed_size`]): no more is taken.
    pub size: u64,
    /// Pixels across, as its sender says.
    pub width: u16,
    /// Pixels down, as its sender says.
    pub height: u16,
}

// The key never reaches a log by accident.
impl core::fmt::Debug for Photo {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Photo({}x{}, {} bytes)", self.width, self.height, self.size)
    }
}

/// A text with photos.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Captioned {
    /// The text; empty for photos alone.
    pub text: Text<MAX_CAPTION>,
    /// The photos.
    pub photos: List<Photo, MAX_PHOTOS>,
}

impl Wire for Captioned {
    const NAME: &'static str = "text with photos";
    const MAX_BYTES: usize = MAX_CAPTION + 3 + 1 + MAX_PHOTOS * (64 + 5 + 3 + 3);
    fn check(&self) -> Result<(), DecodeError> {
        if self.text.is_empty() && self.photos.is_empty() {
            return Err(DecodeError::malformed(Self::NAME, "neither text nor photos"));
        }
        let fits = |p: &Photo| (1..=MAX_PICTURE).contains(&p.size) && p.width > 0 && p.height > 0;
        if self.photos.iter().all(fits) {
            return Ok(());
        }
        Err(DecodeError::malformed(Self::NAME, "size of a photo"))
    }
}

/// Previews of photos, in their order: small pictures of a common format, without metadata.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Previews(pub List<Bytes<MAX_PREVIEW>, PREVIEWS_PER_BODY>);

impl Wire for Previews {
    const NAME: &'static str = "previews";
    const MAX_BYTES: usize = 1 + PREVIEWS_PER_BODY * (MAX_PREVIEW + 2);
    fn check(&self) -> Result<(), DecodeError> {
        if self.0.is_empty() {
            return Err(DecodeError::malformed(Self::NAME, "none"));
        }
        Ok(())
    }
}

const _: () = assert!(Captioned::MAX_BYTES <= MAX_BODY_PLAIN);
const _: () = assert!(Previews::MAX_BYTES <= MAX_BODY_PLAIN);
