//! Pictures of a program's package: a stranger's bytes, decoded on the bridge's worker, within
//! bounds.

use std::io::Cursor;
use std::sync::Arc;

use egui::ColorImage;
use image::{ImageFormat, ImageReader, Limits};

/// Pixels along a side of what is decoded, at most.
const MOST_SIDE: u32 = 2_048;
/// Bytes that the decoder may take.
const MOST_MEMORY: u64 = 32 * 1024 * 1024;
/// Pixels along the longer side of what is shown.
const SHOWN: u32 = 512;

/// A decoded picture; `None` for one that can't be shown.
#[derive(Debug, Clone)]
pub struct Picture(pub Option<Arc<ColorImage>>);

impl Picture {
    /// Bytes that it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |p| p.pixels.len() * 4)
    }
}

/// Pointers are compared, not pixels.
impl PartialEq for Picture {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        }
    }
}

/// Decodes a picture.
#[must_use]
pub fn decode(bytes: &[u8]) -> Picture {
    Picture(try_decode(bytes).map(Arc::new))
}

fn try_decode(bytes: &[u8]) -> Option<ColorImage> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().ok()?;
    let known = [ImageFormat::Jpeg, ImageFormat::WebP, ImageFormat::Png];
    if !reader.format().is_some_and(|f| known.contains(&f)) {
        return None;
    }
    let mut limits = Limits::default();
    limits.max_image_width = Some(MOST_SIDE);
    limits.max_image_height = Some(MOST_SIDE);
    limits.max_alloc = Some(MOST_MEMORY);
    reader.limits(limits);
    let mut picture = reader.decode().ok()?;
    if picture.width() > SHOWN || picture.height() > SHOWN {
        picture = picture.thumbnail(SHOWN, SHOWN);
    }
    let rgba = picture.into_rgba8();
    let size = [rgba.width() as usize, rgba.height() as usize];
    (size[0] > 0 && size[1] > 0).then(|| ColorImage::from_rgba_unmultiplied(size, &rgba))
}
