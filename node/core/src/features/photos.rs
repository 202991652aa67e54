//! Photos in messages and posts: what their bodies say, kept so that previews show at once and
//! the sealed pictures can be asked for.
//!
//! It looks at no topics itself: features that carry photos call it from their `apply`.

use serde::{Deserialize, Serialize};
use teahouse_protocols::codec;
use teahouse_protocols::ids::TopicId;
use teahouse_protocols::photo::{
    Captioned, MAX_PHOTOS, MAX_PREVIEW, PREVIEWS_PER_BODY, Photo, Previews,
};

use crate::command::{Chat, Command, MessageId, Refusal};
use crate::features::{Applied, Feature, feeds, moments};
use crate::store::{Key, KeyRange, Read, ReadExt, StorageError};
use crate::tables::log_key;
use crate::tx::{Fail, Tx, capped};
use crate::view;

crate::tables::tables! {
    /// topic, device, seq, index (u8) → [`Photo`]: what this node may be asked to fetch, and
    /// keeps.
    projection PHOTOS = "photos";
    /// topic, device, seq, index (u8) → preview (raw).
    projection PREVIEWS = "previews";
}

pub(crate) const FEATURE: Feature = Feature { name: "photos", tables: ALL, ..Feature::NONE };

/// A photo that is to be sent: sealed and stored already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewPhoto {
    /// Where it lies and what opens it.
    pub photo: Photo,
    /// At most [`MAX_PREVIEW`] bytes.
    pub preview: view::Blob,
}

impl Command {
    /// The photos that it sends: their sealed contents must be stored here.
    #[must_use]
    pub fn photos(&self) -> &[NewPhoto] {
        match self {
            Self::Chat(Chat::SendPhotos { photos, .. })
            | Self::Moments(moments::Command::Post { photos, .. })
            | Self::Feeds(feeds::Command::Publish { photos, .. }) => photos,
            _ => &[],
        }
    }
}

/// The bodies that say a text with photos.
pub(crate) fn bodies(text: &str, photos: Vec<NewPhoto>) -> Result<Vec<Vec<u8>>, Fail> {
    let (photos, previews) = split(photos)?;
    let text = text.try_into().map_err(|_| invalid("a text has at most 16 KiB"))?;
    let said = Captioned { text, photos };
    codec::Wire::check(&said).map_err(|_| invalid("write something, or choose a photo"))?;
    let mut bodies = vec![codec::encode(&said)];
    bodies.extend(previews);
    Ok(bodies)
}

/// Photos as a body names them, and the bodies of their previews.
pub(crate) fn split(
    photos: Vec<NewPhoto>,
) -> Result<(codec::List<Photo, MAX_PHOTOS>, Vec<Vec<u8>>), Fail> {
    if photos.len() > MAX_PHOTOS {
        return Err(Refusal::Limit { what: "photos at once".into(), max: MAX_PHOTOS as u64 }.into());
    }
    let (photos, previews): (Vec<Photo>, Vec<Vec<u8>>) =
        photos.into_iter().map(|p| (p.photo, p.preview.0)).unzip();
    if previews.iter().any(|p| p.len() > MAX_PREVIEW) {
        return Err(invalid("a preview is too large"));
    }
    let mut bodies = Vec::new();
    for chunk in previews.chunks(PREVIEWS_PER_BODY) {
        let list: Vec<_> =
            chunk.iter().filter_map(|p| codec::Bytes::try_from(p.clone()).ok()).collect();
        bodies.push(codec::encode(&Previews(capped(list))));
    }
    Ok((capped(photos), bodies))
}

fn invalid(why: &str) -> Fail {
    Refusal::Invalid { why: why.into() }.into()
}

/// Takes in what the bodies from `first` on say; `None` while the text is missing, or where it
/// is none.
pub(crate) fn put(
    tx: &mut Tx<'_>,
    change: &Applied<'_>,
    first: usize,
) -> Result<Option<Captioned>, StorageError> {
    let body = |i: usize| change.bodies.get(i).and_then(Option::as_ref);
    let Some(said) = body(first).and_then(|b| codec::decode::<Captioned>(b).ok()) else {
        return Ok(None);
    };
    put_all(tx, change, first, &said.photos)?;
    Ok(Some(said))
}

/// Takes in photos that the body `first` names; their previews are in those that follow.
pub(crate) fn put_all(
    tx: &mut Tx<'_>,
    change: &Applied<'_>,
    first: usize,
    photos: &[Photo],
) -> Result<(), StorageError> {
    let body = |i: usize| change.bodies.get(i).and_then(Option::as_ref);
    for (i, photo) in photos.iter().enumerate() {
        let key = photo_key(change.topic, change.id(), i);
        tx.put(&PHOTOS, &key, photo)?;
        let previews = body(first + 1 + i / PREVIEWS_PER_BODY);
        let previews = previews.and_then(|b| codec::decode::<Previews>(b).ok());
        if let Some(preview) = previews.and_then(|p| p.0.get(i % PREVIEWS_PER_BODY).cloned()) {
            tx.put_raw(&PREVIEWS, &key, preview.into_inner())?;
        }
    }
    Ok(())
}

/// Forgets the photos of a message or post: what only they needed can be dropped.
pub(crate) fn forget(tx: &mut Tx<'_>, topic: TopicId, id: MessageId) -> Result<(), StorageError> {
    for index in 0..MAX_PHOTOS {
        let key = photo_key(topic, id, index);
        tx.del(&PHOTOS, &key)?;
        tx.del(&PREVIEWS, &key)?;
    }
    Ok(())
}

/// The photos of a message or post as they are shown.
pub(crate) fn shown(
    s: &dyn Read,
    topic: TopicId,
    id: MessageId,
) -> Result<Vec<view::Photo>, StorageError> {
    let prefix = log_key(topic, id.device, id.seq);
    let rows: Vec<(Vec<u8>, Photo)> =
        s.scan_typed(&PHOTOS, &KeyRange::prefix(&prefix), false, MAX_PHOTOS)?;
    let mut photos = Vec::with_capacity(rows.len());
    for (key, photo) in rows {
        let preview = s.get(&PREVIEWS, &key)?.map(view::Blob);
        photos.push(view::Photo { photo, preview });
    }
    Ok(photos)
}

fn photo_key(topic: TopicId, id: MessageId, index: usize) -> Vec<u8> {
    Key::new().fixed(&topic.0).fixed(&id.device.0).u64(id.seq).u8(index as u8).into_bytes()
}
