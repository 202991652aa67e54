//! Previews of photos: other people's bytes, decoded on the bridge's worker, within bounds.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::Arc;

use egui::{ColorImage, Context, TextureHandle, TextureOptions};
use image::{ImageFormat, ImageReader, Limits};

/// The longest preview, in bytes; what is longer is not looked at.
const MOST_BYTES: usize = 64 * 1024;
/// Pixels along a side of what is decoded, at most: a preview is made a tenth of that.
const MOST_SIDE: u32 = 2_048;
/// Bytes that the decoder may take.
const MOST_MEMORY: u64 = 32 * 1024 * 1024;
/// Pixels along the longer side of a picture that stands alone.
const ALONE: u32 = 480;
/// The same for one of several.
const OF_SEVERAL: u32 = 256;

/// A decoded preview.
#[derive(Debug, Clone)]
pub enum Picture {
    /// It can be shown.
    Shown(Arc<ColorImage>),
    /// It can't: damaged, too large, or of a kind not known here.
    Broken,
}

/// Pointers are compared, not pixels.
impl PartialEq for Picture {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Shown(a), Self::Shown(b)) => Arc::ptr_eq(a, b),
            (Self::Broken, Self::Broken) => true,
            _ => false,
        }
    }
}

/// Decodes a preview, one of so many on its post.
pub(super) fn decode(bytes: &[u8], of: usize) -> Picture {
    try_decode(bytes, of).map_or(Picture::Broken, |p| Picture::Shown(Arc::new(p)))
}

fn try_decode(bytes: &[u8], of: usize) -> Option<ColorImage> {
    if bytes.len() > MOST_BYTES {
        return None;
    }
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
    let side = if of == 1 { ALONE } else { OF_SEVERAL };
    if picture.width() > side || picture.height() > side {
        picture = picture.thumbnail(side, side);
    }
    let rgba = picture.into_rgba8();
    let size = [rgba.width() as usize, rgba.height() as usize];
    (size[0] > 0 && size[1] > 0).then(|| ColorImage::from_rgba_unmultiplied(size, &rgba))
}

/// Textures of the pictures that the model has: their number is bounded with it.
#[derive(Default)]
pub(super) struct Textures {
    known: BTreeMap<[u8; 32], TextureHandle>,
}

impl Textures {
    /// Lets go of all but these.
    pub(super) fn keep(&mut self, pictures: &BTreeMap<[u8; 32], Picture>) {
        self.known.retain(|hash, _| pictures.contains_key(hash));
    }

    /// A picture's texture, if it was drawn already.
    pub(super) fn known(&self, hash: &[u8; 32]) -> Option<TextureHandle> {
        self.known.get(hash).cloned()
    }

    /// A picture's texture; handed to the graphics card when it is first drawn.
    pub(super) fn of(
        &mut self,
        ctx: &Context,
        hash: [u8; 32],
        picture: &Arc<ColorImage>,
    ) -> &TextureHandle {
        self.known.entry(hash).or_insert_with(|| {
            ctx.load_texture("photo", Arc::clone(picture), TextureOptions::LINEAR)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(format: ImageFormat, width: u32, height: u32) -> Vec<u8> {
        let mut out = Cursor::new(Vec::new());
        image::RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8, y as u8, 128]))
            .write_to(&mut out, format)
            .unwrap();
        out.into_inner()
    }

    fn size(bytes: &[u8], of: usize) -> Option<[usize; 2]> {
        match decode(bytes, of) {
            Picture::Shown(p) => Some(p.size),
            Picture::Broken => None,
        }
    }

    #[test]
    fn previews_are_decoded_and_made_no_larger_than_needed() {
        for format in [ImageFormat::Jpeg, ImageFormat::WebP, ImageFormat::Png] {
            assert_eq!(size(&written(format, 40, 30), 1), Some([40, 30]), "{format:?}");
        }
        let large = written(ImageFormat::Jpeg, 960, 480);
        assert_eq!(size(&large, 1), Some([480, 240]));
        assert_eq!(size(&large, 9), Some([256, 128]));
    }

    #[test]
    fn nonsense_and_giants_are_not_shown() {
        let good = written(ImageFormat::Png, 40, 30);
        for end in [0, 1, 20, good.len() / 2] {
            assert_eq!(size(&good[..end], 1), None, "{end} bytes");
        }
        assert_eq!(size(&written(ImageFormat::Png, MOST_SIDE + 1, 1), 1), None);
        assert_eq!(size(&vec![0; MOST_BYTES + 1], 1), None);
        assert_eq!(size(&written(ImageFormat::Gif, 4, 4), 1), None);
    }
}
