//! An envelope from outside, checked as far as it can be without an order.

use std::collections::BTreeMap;
use std::sync::Arc;

use teahouse_crdt::segment::{Inspected, SegmentRef, inspect};
use teahouse_protocols::codec;
use teahouse_protocols::envelope::{Envelope, MAX_BODIES, open_body, sealed_hash};
use teahouse_protocols::epoch::EpochSecret;
use teahouse_protocols::ids::{EpochId, SealedHash, TopicId};
use teahouse_protocols::inbox::Letter;

use super::log::actor;
use crate::store::{Read, ReadExt};
use crate::tables::{EPOCHS, Epoch, LOG, log_key};

/// An envelope from outside, as far as it can be checked without an order.
pub(crate) struct Prepared {
    pub(crate) envelope: Envelope,
    pub(super) sealed: Vec<Vec<u8>>,
    pub(super) content: Content,
}

impl Prepared {
    /// Positions of the bodies that did not come with it.
    pub(crate) fn absent(&self) -> Vec<u8> {
        let came: Vec<SealedHash> = self.sealed.iter().map(|b| sealed_hash(b)).collect();
        let Some(header) = &self.envelope.header else { return Vec::new() };
        let all = header.bodies.iter().enumerate().take(MAX_BODIES);
        all.filter(|(_, hash)| !came.contains(hash)).map(|(i, _)| i as u8).collect()
    }
}

pub(super) enum Content {
    /// Held already, to the byte.
    Duplicate,
    /// The secret of its epoch is not known.
    NoKey,
    /// Opened and inspected.
    Good(Box<Good>),
    /// Signed by its author, but its content breaks the rules; in words.
    Bad(String),
    /// Made by a newer version.
    Newer,
}

/// What an opened envelope says.
pub(super) struct Good {
    pub(super) change: Inspected,
    /// By position in the header: sealed and opened.
    pub(super) bodies: Vec<Option<(Vec<u8>, Vec<u8>)>>,
}

/// The opened ones alone.
pub(super) fn opened(bodies: Vec<Option<(Vec<u8>, Vec<u8>)>>) -> Vec<Option<Vec<u8>>> {
    bodies.into_iter().map(|b| b.map(|(_, plain)| plain)).collect()
}

/// Secrets known before a batch, for [`prepare`] on several threads.
pub(crate) type Secrets = BTreeMap<EpochId, (TopicId, Arc<EpochSecret>)>;

/// Parses, verifies, opens and inspects. Cheap checks come first.
pub(crate) fn prepare(
    read: &dyn Read,
    secrets: &Secrets,
    letter: Letter,
) -> Result<Prepared, String> {
    let envelope = Envelope::from_bytes(&letter.envelope).map_err(|e| e.to_string())?;
    let sealed: Vec<Vec<u8>> = letter.bodies.into_iter().map(codec::Bytes::into_inner).collect();
    // An exact copy of what is held needs no signature check.
    let held = read
        .get(&LOG, &log_key(envelope.topic, envelope.device, envelope.seq))
        .map_err(|e| e.to_string())?;
    if held.is_some_and(|row| row.get(9..) == Some(envelope.bytes())) {
        return Ok(Prepared { envelope, sealed, content: Content::Duplicate });
    }
    envelope.verify().map_err(|e| e.to_string())?;
    let content = open(read, secrets, &envelope, &sealed);
    Ok(Prepared { envelope, sealed, content })
}

pub(super) fn open(
    read: &dyn Read,
    secrets: &Secrets,
    envelope: &Envelope,
    sealed: &[Vec<u8>],
) -> Content {
    let Some(header) = &envelope.header else { return Content::Newer };
    let (topic, secret) = match secrets.get(&header.epoch) {
        Some((topic, secret)) => (*topic, secret.clone()),
        None => match read.get_typed::<Epoch>(&EPOCHS, &header.epoch.0) {
            Ok(Some(row)) => (row.topic, Arc::new(EpochSecret::from_bytes(row.secret))),
            _ => return Content::NoKey,
        },
    };
    if topic != envelope.topic {
        return Content::Bad("sealed under another topic's epoch".into());
    }
    let opened = match envelope.open(&secret) {
        Ok(opened) => opened,
        Err(e) => return Content::Bad(e.to_string()),
    };
    if opened.body_keys.len() != header.bodies.len() {
        return Content::Bad("as many bodies as keys are needed".into());
    }
    let segment = SegmentRef { topic: envelope.topic.0, number: header.segment };
    let actor = actor(envelope.topic, envelope.device, header.segment);
    let change = match inspect(&opened.change, segment, actor) {
        Ok(change) => change,
        Err(e) => return Content::Bad(e.to_string()),
    };
    let by_hash: BTreeMap<SealedHash, &Vec<u8>> =
        sealed.iter().map(|b| (sealed_hash(b), b)).collect();
    let mut bodies = Vec::with_capacity(header.bodies.len());
    for (hash, key) in header.bodies.iter().zip(&opened.body_keys) {
        match by_hash.get(hash) {
            None => bodies.push(None),
            // A body that doesn't open is as good as none, in whichever order things come.
            Some(body) => {
                let plain = open_body(key, body).ok();
                bodies.push(plain.map(|plain| ((*body).clone(), plain)));
            }
        }
    }
    Content::Good(Box::new(Good { change, bodies }))
}
