//! Merged automerge documents, built from the accepted envelopes, against the rows.

use std::collections::{BTreeMap, BTreeSet};

use teahouse_core::store::{KeyRange, ReadExt, Snapshot, decode};
use teahouse_core::tables::{
    CHAINS, Chain, Chosen, EPOCHS, Epoch, FIELDS, FORKS, Field, Fork, LOG, LogRow, MESSAGES,
    REACTIONS, Status,
};
use teahouse_crdt::Document;
use teahouse_crdt::chat::{ChatView, MessageRef};
use teahouse_crdt::segment::{Actor, SegmentRef, inspect};
use teahouse_protocols::envelope::Envelope;
use teahouse_protocols::epoch::EpochSecret;
use teahouse_protocols::ids::{DeviceId, TopicId};
use teahouse_protocols::membership::TopicKind;

use super::rows::{id_in, topics_of, typed};
use crate::chaos::plan::{Check, Town, short};

impl Town {
    /// Merged automerge documents say what the rows say.
    pub(crate) fn check_documents(&self, device: usize) -> Check {
        if !self.up(device) {
            return Ok(());
        }
        let s = self.world.snapshot(device);
        for (topic, row) in topics_of(&s) {
            if row.kind != TopicKind::Private {
                documents(&s, topic)
                    .map_err(|e| format!("device {device}, {}: {e}", short(topic)))?;
            }
        }
        Ok(())
    }
}

/// Builds a topic's documents from its accepted envelopes, and compares them with the rows.
/// Topics with gaps (voided envelopes, history from joining) are left out.
fn documents(s: &Snapshot, topic: TopicId) -> Check {
    let prefix = KeyRange::prefix(&topic.0);
    if typed::<Chain>(s, &CHAINS, &prefix).iter().any(|(_, c)| c.low > 1)
        || !typed::<Fork>(s, &FORKS, &prefix).is_empty()
    {
        return Ok(());
    }
    let mut segments: BTreeMap<u32, Vec<_>> = BTreeMap::new();
    let mut devices: BTreeMap<Actor, DeviceId> = BTreeMap::new();
    for (_, bytes) in s.scan(&LOG, &prefix, false, 1 << 20).expect("reads") {
        let row = LogRow::from_bytes(&bytes).ok_or("a damaged log row")?;
        if row.status != Status::Accepted {
            return Ok(());
        }
        let envelope = Envelope::from_bytes(&row.envelope).map_err(|e| e.to_string())?;
        let Some(header) = &envelope.header else { return Ok(()) };
        let epoch: Epoch = s
            .get_typed(&EPOCHS, &header.epoch.0)
            .expect("reads")
            .ok_or("an accepted envelope under an unknown epoch")?;
        let opened = envelope
            .open(&EpochSecret::from_bytes(epoch.secret))
            .map_err(|e| format!("an accepted envelope does not open: {e}"))?;
        let place = SegmentRef { topic: topic.0, number: header.segment };
        let actor = actor(topic, envelope.device, header.segment);
        devices.insert(actor, envelope.device);
        let change = inspect(&opened.change, place, actor)
            .map_err(|e| format!("an accepted change is not valid: {e}"))?;
        segments.entry(header.segment).or_default().push(change);
    }
    let mut chat = ChatView::default();
    for (number, changes) in segments {
        let n = changes.len();
        let mut document = Document::new(SegmentRef { topic: topic.0, number });
        let applied = document.apply(changes).map_err(|e| e.to_string())?;
        if applied.applied != n {
            return Err(format!(
                "the document of segment {number} takes {} of {n} changes",
                applied.applied
            ));
        }
        chat.add_document(&document, |actor| devices.get(&actor).map(|d| d.0));
    }
    let rows: BTreeSet<(DeviceId, u64)> = s
        .scan(&MESSAGES, &prefix, false, 1 << 20)
        .expect("reads")
        .iter()
        .map(|(k, _)| id_in(k))
        .map(|id| (id.device, id.seq))
        .collect();
    let merged: BTreeSet<(DeviceId, u64)> =
        chat.messages.keys().map(|m: &MessageRef| (DeviceId(m.device), m.seq)).collect();
    if rows != merged {
        return Err(format!("documents hold {} messages, rows {}", merged.len(), rows.len()));
    }
    let mut key = topic.0.to_vec();
    key.push(Field::Title as u8);
    let title: Option<Chosen<String>> = s.get_typed(&FIELDS, &key).expect("reads");
    if title.as_ref().map(|t| &t.value) != chat.title.as_ref().map(|t| &t.value) {
        return Err("documents and rows have different titles".into());
    }
    for (key, value) in s.scan(&REACTIONS, &prefix, false, 1 << 20).expect("reads") {
        let on: Chosen<bool> = decode(&REACTIONS, &value).map_err(|e| e.to_string())?;
        let target = MessageRef {
            device: key[32..64].try_into().expect("32 bytes"),
            seq: u64::from_be_bytes(key[64..72].try_into().expect("8 bytes")),
        };
        let emojis = chat.reactions.get(&target);
        let same = emojis.into_iter().flatten().any(|((device, _), chosen)| {
            *device == on.device.0 && chosen.value == on.value && chosen.lamport == on.lamport
        });
        if !same {
            return Err("documents and rows have different reactions".into());
        }
    }
    Ok(())
}

/// The actor of a device in a segment, derived as the core does.
pub(crate) fn actor(topic: TopicId, device: DeviceId, segment: u32) -> Actor {
    let mut h = blake3::Hasher::new_derive_key("teahouse/v1/actor");
    h.update(&topic.0);
    h.update(&device.0);
    h.update(&segment.to_le_bytes());
    Actor(*h.finalize().as_bytes().first_chunk().expect("32 bytes"))
}
