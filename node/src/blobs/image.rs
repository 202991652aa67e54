//! Pictures: previews that fit into a message, and what is sent, freed of what a camera
//! writes into it (place, time, owner, serial number).
//!
//! Pictures come from strangers. Before anything is decoded the header says how large the
//! result would be; more than [`MAX_SIDE`] a side or [`MAX_ALLOC`] bytes is refused. A
//! decoder that panics counts as a damaged picture. Decoding is work for a blocking thread:
//! up to some seconds for the largest.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

use ::image::codecs::jpeg::JpegEncoder;
use ::image::metadata::Orientation;
use ::image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};

mod strip;
#[cfg(test)]
mod tests;

/// Most pixels of a side.
pub const MAX_SIDE: u32 = 12_000;

/// Most bytes that decoding may allocate: 256 MiB, about 89 million opaque pixels.
pub const MAX_ALLOC: u64 = 256 << 20;

/// Most bytes of a picture's file: 64 MiB.
pub const MAX_FILE: usize = 64 << 20;

/// Most bytes of a preview: as many as a message takes.
pub const MAX_PREVIEW: usize = teahouse_protocols::photo::MAX_PREVIEW;

/// Most pixels of a preview's side.
pub const PREVIEW_SIDE: u32 = 480;

/// Quality of a picture that must be encoded anew, of 100.
const QUALITY: u8 = 90;

/// What is tried, best first, until a preview is small enough: pixels of a side, quality.
/// The last fits always: noise of 64 × 64 at this quality has less than 4 KiB.
const PREVIEWS: [(u32, u8); 7] =
    [(PREVIEW_SIDE, 75), (PREVIEW_SIDE, 55), (360, 60), (360, 40), (240, 45), (128, 40), (64, 30)];

/// Why a picture is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// No JPEG, PNG, WebP or GIF.
    #[error("this is no JPEG, PNG, WebP or GIF picture")]
    Unknown,
    /// Larger than we decode.
    #[error("the picture is too large: {width} × {height} pixels")]
    TooLarge {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
    },
    /// The file has more than [`MAX_FILE`] bytes.
    #[error("the picture's file has more than {} MiB", MAX_FILE >> 20)]
    TooLong,
    /// It can't be decoded.
    #[error("the picture is damaged: {0}")]
    Damaged(String),
}

/// A small picture for a list or a chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// Pixels of the whole picture, the way up it is shown.
    pub width: u32,
    /// As `width`.
    pub height: u32,
    /// A JPEG of at most [`MAX_PREVIEW`] bytes and [`PREVIEW_SIDE`] pixels a side, without
    /// metadata. What was transparent is white.
    pub jpeg: Vec<u8>,
}

/// How a picture is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// image/jpeg
    Jpeg,
    /// image/png, also animated.
    Png,
    /// image/webp, also animated.
    WebP,
    /// image/gif, also animated.
    Gif,
}

impl Kind {
    /// As a media type (RFC 6838).
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::WebP => "image/webp",
            Self::Gif => "image/gif",
        }
    }
}

/// A picture ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// How `full` is encoded.
    pub kind: Kind,
    /// The picture without metadata. Its pixels are the original's, bit for bit, unless it
    /// had to be turned or did not follow its format.
    pub full: Vec<u8>,
    /// What is shown until `full` is there.
    pub preview: Preview,
}

/// Pixels to draw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pixels {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Four bytes each, row by row from the top left: red, green, blue, opacity.
    pub rgba: Vec<u8>,
}

/// How a picture is encoded, by its first bytes.
pub fn kind(bytes: &[u8]) -> Result<Kind, ImageError> {
    kind_of(bytes).map(|(kind, _)| kind)
}

/// While a full picture is decoded: one at a time in the whole process, for each may take
/// [`MAX_ALLOC`].
static DECODING: Mutex<()> = Mutex::new(());

fn one_at_a_time<T>(decode: impl FnOnce() -> T) -> T {
    // What panicked in there left nothing behind.
    let _turn = DECODING.lock().unwrap_or_else(PoisonError::into_inner);
    decode()
}

/// A preview of a JPEG, PNG, WebP or GIF (its first frame).
pub fn preview(bytes: &[u8]) -> Result<Preview, ImageError> {
    one_at_a_time(|| preview_of(bytes))
}

fn preview_of(bytes: &[u8]) -> Result<Preview, ImageError> {
    let (image, _) = decode(bytes)?;
    small(&image.picture)
}

/// Makes a picture ready to be sent: metadata gone, the right way up, with its preview.
pub fn prepare(bytes: &[u8]) -> Result<Prepared, ImageError> {
    one_at_a_time(|| prepared(bytes))
}

fn prepared(bytes: &[u8]) -> Result<Prepared, ImageError> {
    let (decoded, kind) = decode(bytes)?;
    let preview = small(&decoded.picture)?;
    let stripped = if decoded.turned { None } else { strip::strip(kind, bytes) };
    // What was stripped must still be a picture, and the same one in size.
    let stripped = stripped.filter(|b| header(b).is_ok_and(|h| h.kind == kind && h.plain()));
    if let Some(full) = stripped {
        return Ok(Prepared { kind, full, preview });
    }
    let lossless = kind == Kind::Png || decoded.picture.color().has_alpha();
    let (kind, full) = if lossless {
        (Kind::Png, png(&decoded.picture)?)
    } else {
        (Kind::Jpeg, jpeg(&decoded.picture.into_rgb8(), QUALITY)?)
    };
    Ok(Prepared { kind, full, preview })
}

/// The pixels of a picture's first frame, the right way up, shrunk to `max_side` if it is
/// larger.
pub fn pixels(bytes: &[u8], max_side: u32) -> Result<Pixels, ImageError> {
    one_at_a_time(|| pixels_of(bytes, max_side))
}

fn pixels_of(bytes: &[u8], max_side: u32) -> Result<Pixels, ImageError> {
    let (decoded, _) = decode(bytes)?;
    let rgba = fit(&decoded.picture, max_side).into_rgba8();
    Ok(Pixels { width: rgba.width(), height: rgba.height(), rgba: rgba.into_raw() })
}

/// The pixels of a preview that somebody sent: refuses what [`preview`] would not make.
pub fn preview_pixels(jpeg: &[u8]) -> Result<Pixels, ImageError> {
    if jpeg.len() > MAX_PREVIEW {
        return Err(ImageError::TooLong);
    }
    let header = header(jpeg)?;
    if header.kind != Kind::Jpeg {
        return Err(ImageError::Unknown);
    }
    if header.width.max(header.height) > PREVIEW_SIDE {
        return Err(ImageError::TooLarge { width: header.width, height: header.height });
    }
    // A small one need not wait for its turn.
    pixels_of(jpeg, PREVIEW_SIDE)
}

struct Header {
    kind: Kind,
    width: u32,
    height: u32,
    orientation: Orientation,
    metadata: bool,
}

impl Header {
    fn plain(&self) -> bool {
        !self.metadata && self.orientation == Orientation::NoTransforms
    }
}

struct Decoded {
    picture: DynamicImage,
    turned: bool,
}

fn damaged(e: ::image::ImageError) -> ImageError {
    match e {
        ::image::ImageError::Limits(e) => ImageError::Damaged(format!("beyond the limits: {e}")),
        e => ImageError::Damaged(e.to_string()),
    }
}

fn kind_of(bytes: &[u8]) -> Result<(Kind, ImageFormat), ImageError> {
    match ::image::guess_format(bytes) {
        Ok(format @ ImageFormat::Jpeg) => Ok((Kind::Jpeg, format)),
        Ok(format @ ImageFormat::Png) => Ok((Kind::Png, format)),
        Ok(format @ ImageFormat::WebP) => Ok((Kind::WebP, format)),
        Ok(format @ ImageFormat::Gif) => Ok((Kind::Gif, format)),
        _ => Err(ImageError::Unknown),
    }
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_ALLOC);
    limits
}

/// Runs what reads bytes from outside; a panic in there is an error out here.
fn guarded<T>(work: impl FnOnce() -> Result<T, ImageError>) -> Result<T, ImageError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(ImageError::Damaged("the decoder gave up".into())))
}

/// Reads the header, allocates no pixels.
fn header(bytes: &[u8]) -> Result<Header, ImageError> {
    let (kind, _) = kind_of(bytes)?;
    guarded(|| open(bytes, |decoder, _| read_header(decoder, kind)))
}

fn read_header(decoder: &mut dyn ImageDecoder, kind: Kind) -> Result<Header, ImageError> {
    let (width, height) = decoder.dimensions();
    let orientation = decoder.orientation().map_err(damaged)?;
    let metadata = decoder.exif_metadata().map_err(damaged)?.is_some()
        || decoder.xmp_metadata().map_err(damaged)?.is_some()
        || decoder.iptc_metadata().map_err(damaged)?.is_some();
    Ok(Header { kind, width, height, orientation, metadata })
}

/// Opens a decoder whose picture is within the limits.
fn open<T>(
    bytes: &[u8],
    work: impl FnOnce(&mut dyn ImageDecoder, Limits) -> Result<T, ImageError>,
) -> Result<T, ImageError> {
    let mut decoder = decoder(bytes)?;
    work(&mut decoder, limits())
}

fn decoder(bytes: &[u8]) -> Result<impl ImageDecoder + '_, ImageError> {
    if bytes.len() > MAX_FILE {
        return Err(ImageError::TooLong);
    }
    let (_, format) = kind_of(bytes)?;
    // The sides are checked below, where the error can tell them.
    let mut early = limits();
    early.max_image_width = None;
    early.max_image_height = None;
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(early);
    let decoder = reader.into_decoder().map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    let sides = width.max(height) <= MAX_SIDE && width.min(height) > 0;
    if !sides || decoder.total_bytes() > MAX_ALLOC {
        return Err(ImageError::TooLarge { width, height });
    }
    Ok(decoder)
}

/// Decodes the first frame and turns it the right way up.
fn decode(bytes: &[u8]) -> Result<(Decoded, Kind), ImageError> {
    let (kind, _) = kind_of(bytes)?;
    let decoded = guarded(|| {
        let mut decoder = decoder(bytes)?;
        let orientation = decoder.orientation().map_err(damaged)?;
        let mut limits = limits();
        limits.reserve(decoder.total_bytes()).map_err(damaged)?;
        decoder.set_limits(limits).map_err(damaged)?;
        let mut picture = DynamicImage::from_decoder(decoder).map_err(damaged)?;
        picture.apply_orientation(orientation);
        Ok(Decoded { picture, turned: orientation != Orientation::NoTransforms })
    })?;
    Ok((decoded, kind))
}

/// Shrinks to `side`, keeps the proportions, never enlarges.
fn fit(picture: &DynamicImage, side: u32) -> DynamicImage {
    if picture.width().max(picture.height()) <= side {
        return picture.clone();
    }
    picture.thumbnail(side, side)
}

fn small(picture: &DynamicImage) -> Result<Preview, ImageError> {
    // Each is made from the one before: the whole picture is walked once.
    let mut smaller = fit(picture, PREVIEW_SIDE);
    for (side, quality) in PREVIEWS {
        smaller = fit(&smaller, side);
        let jpeg = jpeg(&on_white(&smaller), quality)?;
        if jpeg.len() <= MAX_PREVIEW {
            return Ok(Preview { width: picture.width(), height: picture.height(), jpeg });
        }
    }
    Err(ImageError::Damaged("no preview is small enough".into()))
}

fn on_white(picture: &DynamicImage) -> RgbImage {
    if !picture.color().has_alpha() {
        return picture.to_rgb8();
    }
    let rgba = picture.to_rgba8();
    let mut out = RgbImage::new(rgba.width(), rgba.height());
    for (to, from) in out.pixels_mut().zip(rgba.pixels()) {
        let opacity = u16::from(from.0[3]);
        for (to, from) in to.0.iter_mut().zip(from.0) {
            let mixed = u16::from(from) * opacity + 255 * (255 - opacity);
            *to = (mixed / 255) as u8;
        }
    }
    out
}

fn jpeg(picture: &RgbImage, quality: u8) -> Result<Vec<u8>, ImageError> {
    let mut out = Vec::new();
    JpegEncoder::new_with_quality(&mut out, quality).encode_image(picture).map_err(damaged)?;
    Ok(out)
}

fn png(picture: &DynamicImage) -> Result<Vec<u8>, ImageError> {
    let mut out = Cursor::new(Vec::new());
    picture.write_to(&mut out, ImageFormat::Png).map_err(damaged)?;
    Ok(out.into_inner())
}
