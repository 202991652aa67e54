//! Photos in the window, wherever they are written or shown.
//!
//! - [`news`]: what the bridge says of them.
//! - `tray`: pictures that go with what is being written.
//! - `grid`: photos of a message or post, side by side.
//! - `previews`: decodes previews on a thread of its own, and keeps their textures.
//! - `viewer`: one photo in full size.
//! - [`words`]: what all of them say.

pub(crate) mod grid;
pub mod news;
pub(crate) mod previews;
pub(crate) mod tray;
pub(crate) mod viewer;
pub mod words;
