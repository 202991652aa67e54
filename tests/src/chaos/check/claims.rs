//! What devices claim of their messages, against what lies at relays and with others.

use std::collections::{BTreeMap, BTreeSet};

use teahouse_core::command::MessageId;
use teahouse_core::query;
use teahouse_core::store::{KeyRange, ReadExt};
use teahouse_protocols::envelope::sealed_hash;
use teahouse_protocols::ids::{Tag, TopicId};
use teahouse_protocols::membership::TopicKind;

use super::rows::{RELAY_ITEMS, log_row, topics_of};
use crate::chaos::plan::{Check, Town, name_of};
use crate::chaos::truth::{EXPIRED, Message};

impl Town {
    /// No status claims more than is so.
    pub(super) fn check_claims(&mut self) -> Check {
        for deposit in std::mem::take(&mut self.mailroom.unresolved) {
            self.mailroom.note(&self.world, &deposit);
        }
        // What a device left where nobody could look proves nothing either way.
        let unknown: BTreeSet<(usize, usize)> =
            self.mailroom.unresolved.iter().map(|d| (d.relay, d.device)).collect();
        let mut on_disk: Vec<Option<OnDisk>> = Vec::new();
        for relay in &self.world.relays {
            on_disk.push(relay.relay.as_ref().map(|r| {
                let s = r.reader().snapshot().expect("reads");
                s.scan(&RELAY_ITEMS, &KeyRange::all(), false, 1 << 20)
                    .expect("reads")
                    .into_iter()
                    .map(|(k, bytes)| {
                        (Tag(k[..32].try_into().expect("a tag")), sealed_hash(&bytes).0)
                    })
                    .collect()
            }));
        }
        let by_id: BTreeMap<(TopicId, MessageId), &Message> =
            self.messages.iter().map(|m| ((m.topic, m.id), m)).collect();
        for device in 0..self.world.devices.len() {
            if !self.up(device) || self.is_villain(device) {
                continue;
            }
            let s = self.world.snapshot(device);
            for (topic, row) in topics_of(&s) {
                if row.kind == TopicKind::Private {
                    continue;
                }
                for shown in query::messages(&s, topic, None, 40).expect("reads") {
                    let Some(claim) = shown.delivery else { continue };
                    let Some(m) = by_id.get(&(topic, shown.id)) else { continue };
                    let place = |relay| (relay, topic, shown.id.device, shown.id.seq);
                    let now = self.world.now;
                    let relayed = (0..on_disk.len())
                        .filter(|relay| {
                            unknown.contains(&(*relay, device))
                                || self
                                    .mailroom
                                    .places
                                    .get(&place(*relay))
                                    .into_iter()
                                    .flatten()
                                    .any(|(tag, hash, at)| {
                                        at + EXPIRED < now
                                            || on_disk[*relay]
                                                .as_ref()
                                                .is_none_or(|d| d.contains(&(*tag, hash.0)))
                                    })
                        })
                        .count();
                    if claim.relayed as usize > relayed {
                        return Err(format!(
                            "device {device} claims that message {} ({}) is at {} relays; it is at {relayed}",
                            m.number,
                            name_of(m.id),
                            claim.relayed
                        ));
                    }
                    let author = self.owner(m.device);
                    let holders = self
                        .people
                        .iter()
                        .enumerate()
                        .filter(|(i, p)| {
                            Some(*i) != author
                                && p.devices.iter().any(|d| {
                                    !self.up(*d)
                                        || p.villain
                                        || log_row(&self.world.snapshot(*d), topic, m.id).is_some()
                                })
                        })
                        .count();
                    if claim.delivered as usize > holders {
                        return Err(format!(
                            "device {device} claims that {} have message {}; at most {holders} do",
                            claim.delivered, m.number
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}

/// What a relay's disk holds: tags and hashes of items.
type OnDisk = BTreeSet<(Tag, [u8; 32])>;
