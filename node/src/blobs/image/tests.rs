use std::io::Cursor;

use ::image::codecs::gif::GifEncoder;
use ::image::{AnimationDecoder, DynamicImage, Frame, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};
use proptest::prelude::*;

use super::*;

const SECRET: &[u8] = b"52.5200N 13.4050E, my camera";

/// Left half red, right half blue: which way up it is can be told.
fn halves(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, _| {
        if x < width / 2 { Rgb([250, 10, 10]) } else { Rgb([10, 10, 250]) }
    })
}

fn encoded(picture: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    picture.into().write_to(&mut out, format).unwrap();
    out.into_inner()
}

/// EXIF in TIFF form: one entry, the orientation, and something secret behind it.
fn exif(orientation: u8) -> Vec<u8> {
    let mut tiff = b"II\x2a\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    tiff.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
    tiff.extend_from_slice(SECRET);
    tiff
}

fn segment(marker: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![0xff, marker];
    out.extend(u16::try_from(body.len() + 2).unwrap().to_be_bytes());
    out.extend_from_slice(body);
    out
}

fn jpeg_with(orientation: u8, picture: &RgbImage) -> Vec<u8> {
    let plain = encoded(picture.clone(), ImageFormat::Jpeg);
    let mut out = plain[..2].to_vec();
    out.extend(segment(0xe1, &[b"Exif\0\0".to_vec(), exif(orientation)].concat()));
    out.extend(segment(0xfe, SECRET));
    out.extend_from_slice(&plain[2..]);
    out.extend_from_slice(SECRET);
    out
}

fn chunk(name: [u8; 4], body: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    out.extend_from_slice(&name);
    out.extend_from_slice(body);
    // The checksum of PNG, bit by bit.
    let crc = name.iter().chain(body).fold(u32::MAX, |mut crc, b| {
        crc ^= u32::from(*b);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 };
        }
        crc
    });
    out.extend((!crc).to_be_bytes());
    out
}

/// A PNG whose header claims these sides, with hardly any data.
fn claims(width: u32, height: u32) -> Vec<u8> {
    let mut head = width.to_be_bytes().to_vec();
    head.extend(height.to_be_bytes());
    head.extend([8, 2, 0, 0, 0]);
    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    out.extend(chunk(*b"IHDR", &head));
    out.extend(chunk(*b"IDAT", b"\x78\x9c\x63\0\0\0\0\0\0\0"));
    out.extend(chunk(*b"IEND", b""));
    out
}

fn animation(frames: u32) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = GifEncoder::new(&mut out);
    encoder.set_repeat(::image::codecs::gif::Repeat::Infinite).unwrap();
    for n in 0..frames {
        let colour = if n == 0 { Rgba([250, 10, 10, 255]) } else { Rgba([10, 250, 10, 255]) };
        encoder.encode_frame(Frame::new(RgbaImage::from_pixel(20, 10, colour))).unwrap();
    }
    drop(encoder);
    out
}

fn holds(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|w| w == what)
}

fn colour(pixels: &Pixels, x: u32, y: u32) -> &'static str {
    let at = ((y * pixels.width + x) * 4) as usize;
    match pixels.rgba[at..at + 3] {
        [200..=255, 0..100, 0..100] => "red",
        [0..100, 200..=255, 0..100] => "green",
        [0..100, 0..100, 200..=255] => "blue",
        _ => "other",
    }
}

#[test]
fn previews_are_small_whatever_the_picture_is() {
    let noise = RgbImage::from_fn(1500, 900, |x, y| {
        let h = blake_like(x, y);
        Rgb([h as u8, (h >> 8) as u8, (h >> 16) as u8])
    });
    for picture in [noise, halves(12_000, 1), halves(1, 12_000), halves(1, 1), halves(480, 480)] {
        let (width, height) = picture.dimensions();
        let preview = preview(&encoded(picture, ImageFormat::Png)).unwrap();
        assert_eq!((preview.width, preview.height), (width, height));
        assert!(preview.jpeg.len() <= MAX_PREVIEW, "{}", preview.jpeg.len());
        let shown = preview_pixels(&preview.jpeg).unwrap();
        assert!(shown.width.max(shown.height) <= PREVIEW_SIDE && shown.width * shown.height > 0);
    }
}

fn blake_like(x: u32, y: u32) -> u32 {
    let mut h = x.wrapping_mul(0x9e37_79b1) ^ y.wrapping_mul(0x85eb_ca77);
    h ^= h >> 15;
    h = h.wrapping_mul(0xc2b2_ae3d);
    h ^ (h >> 13)
}

#[test]
fn bombs_are_refused_by_their_header() {
    let too_large = |w, h| Err(ImageError::TooLarge { width: w, height: h });
    assert_eq!(preview(&claims(60_000, 60_000)), too_large(60_000, 60_000));
    assert_eq!(preview(&claims(12_001, 1)), too_large(12_001, 1));
    // Within the sides, but 432 MB of pixels.
    assert_eq!(preview(&claims(12_000, 12_000)), too_large(12_000, 12_000));
    assert!(matches!(preview(&claims(3_000, 3_000)), Err(ImageError::Damaged(_))));
    let mut gif = animation(1);
    gif[6..10].fill(0xff);
    assert!(preview(&gif).is_err());
    assert!(matches!(preview(&vec![0; MAX_FILE + 1]), Err(ImageError::Unknown)));
    let mut long = encoded(halves(2, 2), ImageFormat::Png);
    long.resize(MAX_FILE + 1, 0);
    assert_eq!(preview(&long), Err(ImageError::TooLong));
}

#[test]
fn a_sent_preview_must_be_one() {
    let png = encoded(halves(8, 8), ImageFormat::Png);
    assert_eq!(preview_pixels(&png), Err(ImageError::Unknown));
    let wide = encoded(halves(PREVIEW_SIDE + 1, 8), ImageFormat::Jpeg);
    assert!(matches!(preview_pixels(&wide), Err(ImageError::TooLarge { .. })));
    assert_eq!(preview_pixels(&vec![0xff; MAX_PREVIEW + 1]), Err(ImageError::TooLong));
}

#[test]
fn pictures_stand_upright_and_lose_their_metadata() {
    // What stands where after each orientation: (sides swapped, left top, right bottom).
    for (orientation, swapped, top_left, bottom_right) in [
        (1, false, "red", "blue"),
        (2, false, "blue", "red"),
        (3, false, "blue", "red"),
        (6, true, "red", "blue"),
        (8, true, "blue", "red"),
    ] {
        let file = jpeg_with(orientation, &halves(64, 32));
        assert!(holds(&file, SECRET));
        let prepared = prepare(&file).unwrap();
        assert!(!holds(&prepared.full, SECRET) && !holds(&prepared.preview.jpeg, SECRET));
        assert!(!holds(&prepared.full, b"Exif"));
        let sides = if swapped { (32, 64) } else { (64, 32) };
        assert_eq!((prepared.preview.width, prepared.preview.height), sides);
        let shown = pixels(&prepared.full, 100).unwrap();
        assert_eq!((shown.width, shown.height), sides);
        assert_eq!(colour(&shown, 2, 2), top_left, "orientation {orientation}");
        assert_eq!(colour(&shown, sides.0 - 3, sides.1 - 3), bottom_right);
        assert_eq!(prepared.kind, Kind::Jpeg);
        if orientation == 1 {
            let plain = encoded(halves(64, 32), ImageFormat::Jpeg);
            assert_eq!(shown, pixels(&plain, 100).unwrap(), "not encoded anew");
        }
    }
}

#[test]
fn every_format_is_stripped_without_touching_pixels() {
    let mut png = encoded(halves(30, 20), ImageFormat::Png);
    let secrets = [
        chunk(*b"eXIf", &exif(1)),
        chunk(*b"tEXt", &[b"Comment\0", SECRET].concat()),
        chunk(*b"prVt", SECRET),
    ];
    png.splice(33..33, secrets.concat());
    png.extend_from_slice(SECRET);

    let mut webp = encoded(halves(30, 20), ImageFormat::WebP);
    let exif = exif(1);
    let mut body = b"VP8X\x0a\0\0\0\x08\0\0\0\x1d\0\0\x13\0\0".to_vec();
    body.extend_from_slice(&webp[12..]);
    body.extend_from_slice(b"EXIF");
    body.extend(u32::try_from(exif.len()).unwrap().to_le_bytes());
    body.extend_from_slice(&exif);
    body.resize(body.len() + exif.len() % 2, 0);
    webp.truncate(12);
    webp.extend(body);
    let len = u32::try_from(webp.len() - 8).unwrap();
    webp[4..8].copy_from_slice(&len.to_le_bytes());
    webp.extend_from_slice(SECRET);

    let mut gif = animation(3);
    let at = 13 + if gif[10] & 0x80 == 0 { 0 } else { 3 << ((gif[10] & 7) + 1) };
    let comment = [b"\x21\xfe\x1c", SECRET, b"\0"].concat();
    assert_eq!(SECRET.len(), 0x1c);
    gif.splice(at..at, comment);
    gif.extend_from_slice(SECRET);

    for (kind, file) in [(Kind::Png, png), (Kind::WebP, webp), (Kind::Gif, gif)] {
        assert!(holds(&file, SECRET));
        let prepared = prepare(&file).unwrap();
        assert_eq!(prepared.kind, kind);
        assert!(!holds(&prepared.full, SECRET), "{kind:?}");
        assert_eq!(pixels(&prepared.full, 50).unwrap(), pixels(&file, 50).unwrap(), "{kind:?}");
        assert!(prepared.full.len() < file.len());
    }
}

#[test]
fn an_animation_keeps_its_frames_and_previews_its_first() {
    let prepared = prepare(&animation(3)).unwrap();
    let shown = preview_pixels(&prepared.preview.jpeg).unwrap();
    assert_eq!(colour(&shown, 10, 5), "red");
    let decoder = ::image::codecs::gif::GifDecoder::new(Cursor::new(&prepared.full[..])).unwrap();
    assert_eq!(decoder.into_frames().count(), 3);
    assert!(holds(&prepared.full, b"NETSCAPE2.0"));
}

#[test]
fn transparency_is_kept_and_previewed_on_white() {
    let picture = RgbaImage::from_pixel(40, 40, Rgba([10, 10, 250, 0]));
    let mut file = encoded(picture, ImageFormat::Png);
    file.splice(33..33, chunk(*b"eXIf", &exif(6)));
    let prepared = prepare(&file).unwrap();
    assert_eq!(prepared.kind, Kind::Png);
    assert_eq!(pixels(&prepared.full, 40).unwrap().rgba[3], 0);
    let shown = preview_pixels(&prepared.preview.jpeg).unwrap();
    assert!(shown.rgba[..3].iter().all(|c| *c > 250));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Cut off or changed anywhere: an error or a picture, never a panic, and what is
    /// prepared can be shown.
    #[test]
    fn damaged_files_do_no_harm(
        kind in 0..4_usize, cut: prop::sample::Index, at: prop::sample::Index, byte: u8,
    ) {
        let mut file = match kind {
            0 => jpeg_with(6, &halves(24, 16)),
            1 => encoded(halves(24, 16), ImageFormat::Png),
            2 => encoded(halves(24, 16), ImageFormat::WebP),
            _ => animation(2),
        };
        let _ = preview(&file[..cut.index(file.len())]);
        let at = at.index(file.len());
        file[at] = byte;
        if let Ok(prepared) = prepare(&file) {
            prop_assert!(pixels(&prepared.full, 64).is_ok());
            prop_assert!(preview_pixels(&prepared.preview.jpeg).is_ok());
        }
    }
}

/// Several large pictures at once would take several times the memory.
#[test]
fn full_pictures_are_decoded_one_at_a_time() {
    let inside = std::sync::atomic::AtomicUsize::new(0);
    let order = std::sync::atomic::Ordering::SeqCst;
    std::thread::scope(|s| {
        for _ in 0..8 {
            s.spawn(|| {
                for _ in 0..50 {
                    super::one_at_a_time(|| {
                        assert_eq!(inside.fetch_add(1, order), 0);
                        std::thread::yield_now();
                        inside.fetch_sub(1, order);
                    });
                }
            });
        }
    });
    // What decodes takes its turn.
    super::one_at_a_time(|| assert!(super::DECODING.try_lock().is_err()));
}
