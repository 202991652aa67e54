//! Takes metadata out of a picture's file without touching its pixels: a walk over the
//! container, which copies what is needed to show the picture and nothing else. What is not
//! known to be needed goes, and so does whatever follows the picture's end (a phone hides
//! videos there).
//!
//! `None` where the file doesn't follow its format to the end: such a picture is encoded
//! anew instead.

use super::Kind;

/// The file without metadata.
pub(super) fn strip(kind: Kind, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut from = Reader(bytes);
    let mut out = Vec::with_capacity(bytes.len());
    match kind {
        Kind::Jpeg => jpeg(&mut from, &mut out)?,
        Kind::Png => png(&mut from, &mut out)?,
        Kind::WebP => webp(&mut from, &mut out)?,
        Kind::Gif => gif(&mut from, &mut out)?,
    }
    Some(out)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }
}

/// ITU T.81, annex B. Kept: JFIF (APP0), the colour profile (APP2), Adobe's colour transform
/// (APP14), and all that is not an application's or a comment.
fn jpeg(from: &mut Reader, out: &mut Vec<u8>) -> Option<()> {
    if from.take(2)? != [0xff, 0xd8] {
        return None;
    }
    out.extend([0xff, 0xd8]);
    loop {
        if from.byte()? != 0xff {
            return None;
        }
        let mut marker = from.byte()?;
        while marker == 0xff {
            marker = from.byte()?;
        }
        if marker == 0xd9 {
            out.extend([0xff, 0xd9]);
            return Some(());
        }
        if matches!(marker, 0 | 1 | 0xd0..=0xd8) {
            return None;
        }
        let len: [u8; 2] = from.take(2)?.try_into().ok()?;
        let body = from.take(usize::from(u16::from_be_bytes(len)).checked_sub(2)?)?;
        let keep = match marker {
            0xe0 => body.starts_with(b"JFIF\0"),
            0xe2 => body.starts_with(b"ICC_PROFILE\0"),
            0xee => body.starts_with(b"Adobe"),
            0xe1..=0xef | 0xfe => false,
            _ => true,
        };
        if keep {
            // A thumbnail may follow the 14 bytes of JFIF: leave it out.
            let body = if marker == 0xe0 { body.get(..14)? } else { body };
            out.extend([0xff, marker]);
            out.extend(u16::try_from(body.len() + 2).ok()?.to_be_bytes());
            let at = out.len();
            out.extend_from_slice(body);
            if marker == 0xe0 {
                out[at + 12..at + 14].fill(0);
            }
        }
        if marker == 0xda {
            // Entropy-coded data, up to a marker that is no stuffing and no restart.
            let ends = |w: &[u8]| w[0] == 0xff && !matches!(w[1], 0 | 0xd0..=0xd7);
            let end = from.0.windows(2).position(ends)?;
            out.extend_from_slice(from.take(end)?);
        }
    }
}

/// PNG, third edition, section 5. Chunks are copied with their checksums.
fn png(from: &mut Reader, out: &mut Vec<u8>) -> Option<()> {
    const KEPT: [&[u8]; 18] = [
        b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"sBIT",
        b"bKGD", b"hIST", b"pHYs", b"cICP", b"mDCV", b"acTL", b"fcTL", b"fdAT",
    ];
    out.extend_from_slice(from.take(8)?);
    loop {
        let chunk = from.0;
        let len: [u8; 4] = from.take(4)?.try_into().ok()?;
        let len = usize::try_from(u32::from_be_bytes(len)).ok()?;
        let name = from.take(4)?;
        from.take(len.checked_add(4)?)?;
        if KEPT.contains(&name) {
            out.extend_from_slice(&chunk[..12 + len]);
        }
        if name == b"IEND" {
            return Some(());
        }
    }
}

/// RFC 9649, section 2.
fn webp(from: &mut Reader, out: &mut Vec<u8>) -> Option<()> {
    /// Bits of VP8X's first byte that say: there is EXIF, there is XMP.
    const METADATA: u8 = 0b1100;
    const KEPT: [&[u8]; 7] = [b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP"];
    if from.take(4)? != b"RIFF" {
        return None;
    }
    let len: [u8; 4] = from.take(4)?.try_into().ok()?;
    let mut inner = Reader(from.take(usize::try_from(u32::from_le_bytes(len)).ok()?)?);
    if inner.take(4)? != b"WEBP" {
        return None;
    }
    out.extend(b"RIFF\0\0\0\0WEBP");
    while !inner.0.is_empty() {
        let chunk = inner.0;
        let name = inner.take(4)?;
        let len: [u8; 4] = inner.take(4)?.try_into().ok()?;
        let len = usize::try_from(u32::from_le_bytes(len)).ok()?;
        let padded = len.checked_add(len % 2)?;
        inner.take(padded)?;
        if KEPT.contains(&name) {
            let at = out.len();
            out.extend_from_slice(&chunk[..8 + padded]);
            if name == b"VP8X" {
                *out.get_mut(at + 8)? &= !METADATA;
            }
        }
    }
    let len = u32::try_from(out.len() - 8).ok()?;
    out[4..8].copy_from_slice(&len.to_le_bytes());
    Some(())
}

/// The specification of GIF, version 89a. Of the extensions, graphic control and the loop count stay.
fn gif(from: &mut Reader, out: &mut Vec<u8>) -> Option<()> {
    let table = |flags: u8| if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) };
    let head = from.take(13)?;
    out.extend_from_slice(head);
    out.extend_from_slice(from.take(table(head[10]))?);
    loop {
        let block = from.0;
        let keep = match from.byte()? {
            0x3b => {
                out.push(0x3b);
                return Some(());
            }
            0x2c => {
                let flags = from.take(9)?[8];
                from.take(table(flags) + 1)?;
                true
            }
            0x21 => {
                let label = from.byte()?;
                let name = from.0.get(1..12).unwrap_or_default();
                label == 0xf9 || label == 0xff && (name == b"NETSCAPE2.0" || name == b"ANIMEXTS1.0")
            }
            _ => return None,
        };
        loop {
            match from.byte()? {
                0 => break,
                len => from.take(usize::from(len))?,
            };
        }
        if keep {
            out.extend_from_slice(&block[..block.len() - from.0.len()]);
        }
    }
}
