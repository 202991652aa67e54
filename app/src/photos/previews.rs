//! Previews of photos: other people's bytes, decoded within bounds on a thread of its own,
//! so that no frame waits for them. Textures are kept up to [`MOST`], those drawn last.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use egui::{ColorImage, Context, TextureHandle, TextureOptions};
use teahouse_node::blobs::image::preview_pixels;

/// Bytes of textures that are kept.
const MOST: usize = 64 << 20;
/// Previews that wait for the thread; further ones ask again with a later frame.
const QUEUE: usize = 64;

/// A preview, as far as it is known.
#[derive(Clone)]
pub(crate) enum Seen {
    /// It is being decoded.
    Waiting,
    /// It can't be shown.
    Broken,
    /// It can be drawn.
    Shown(TextureHandle),
}

struct Known {
    seen: Seen,
    bytes: usize,
    /// When it was drawn last, in asks.
    used: u64,
}

type Asked = ([u8; 32], Arc<[u8]>);
type Decoded = ([u8; 32], Option<ColorImage>);

/// All previews of the window.
#[derive(Default)]
pub(crate) struct Previews {
    known: BTreeMap<[u8; 32], Known>,
    bytes: usize,
    asks: u64,
    thread: Option<(SyncSender<Asked>, Receiver<Decoded>)>,
}

impl core::fmt::Debug for Previews {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Previews({} of {} bytes)", self.known.len(), self.bytes)
    }
}

impl Previews {
    /// The picture of a preview with this [name].
    pub(crate) fn of(&mut self, ctx: &Context, hash: [u8; 32], jpeg: &Arc<[u8]>) -> Seen {
        self.take(ctx);
        self.asks += 1;
        if let Some(known) = self.known.get_mut(&hash) {
            known.used = self.asks;
            return known.seen.clone();
        }
        let (ask, _) = self.thread.get_or_insert_with(|| start(ctx.clone()));
        match ask.try_send((hash, Arc::clone(jpeg))) {
            Ok(()) => {
                let (seen, bytes, used) = (Seen::Waiting, 0, self.asks);
                self.known.insert(hash, Known { seen, bytes, used });
            }
            // The answers that are due bring another frame.
            Err(TrySendError::Full(_)) => {}
            Err(TrySendError::Disconnected(_)) => return Seen::Broken,
        }
        Seen::Waiting
    }

    /// Takes over what was decoded.
    fn take(&mut self, ctx: &Context) {
        let Some((_, decoded)) = &self.thread else { return };
        while let Ok((hash, image)) = decoded.try_recv() {
            let Some(known) = self.known.get_mut(&hash) else { continue };
            known.seen = match image {
                Some(image) => {
                    known.bytes = image.pixels.len() * 4;
                    self.bytes += known.bytes;
                    Seen::Shown(ctx.load_texture("preview", image, TextureOptions::LINEAR))
                }
                None => Seen::Broken,
            };
        }
        while self.bytes > MOST {
            let shown = self.known.iter().filter(|(_, k)| k.bytes > 0);
            let Some(oldest) = shown.min_by_key(|(_, k)| k.used).map(|(hash, _)| *hash) else {
                return;
            };
            self.bytes -= self.known.remove(&oldest).map_or(0, |k| k.bytes);
        }
    }
}

/// The thread ends when the window lets go of its end.
fn start(ctx: Context) -> (SyncSender<Asked>, Receiver<Decoded>) {
    let (ask, asked) = sync_channel::<Asked>(QUEUE);
    let (done, decoded) = sync_channel(QUEUE);
    let work = move || {
        while let Ok((hash, jpeg)) = asked.recv() {
            if done.send((hash, checked(&hash, &jpeg))).is_err() {
                return;
            }
            ctx.request_repaint();
        }
    };
    // Without a thread nothing is ever decoded, and previews are told as broken.
    let _ = std::thread::Builder::new().name("teahouse-previews".into()).spawn(work);
    (ask, decoded)
}

/// What a preview is known by: its own bytes. What its sender says of the photo is not asked,
/// for two can say the same of different pictures.
pub(crate) fn name(jpeg: &[u8]) -> [u8; 32] {
    *blake3::hash(jpeg).as_bytes()
}

/// The picture, if the bytes are those that the name names.
fn checked(hash: &[u8; 32], jpeg: &[u8]) -> Option<ColorImage> {
    if name(jpeg) == *hash { decode(jpeg) } else { None }
}

fn decode(jpeg: &[u8]) -> Option<ColorImage> {
    let pixels = preview_pixels(jpeg).ok()?;
    let size = [pixels.width as usize, pixels.height as usize];
    (size[0] > 0 && size[1] > 0).then(|| ColorImage::from_rgba_unmultiplied(size, &pixels.rgba))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::{checked, name};

    #[test]
    fn a_picture_is_known_by_its_bytes_alone() {
        let jpeg = |shade: u8| {
            let mut out = Cursor::new(Vec::new());
            let picture = image::RgbImage::from_pixel(8, 8, image::Rgb([shade; 3]));
            picture.write_to(&mut out, image::ImageFormat::Jpeg).unwrap();
            out.into_inner()
        };
        let (own, other) = (jpeg(10), jpeg(200));
        assert!(checked(&name(&own), &own).is_some());
        assert!(checked(&name(&own), &other).is_none(), "another one under its name");
    }
}
