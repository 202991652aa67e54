//! Reading tables of devices and relays, past what a core would answer.

use teahouse_core::command::MessageId;
use teahouse_core::store::{KeyRange, ReadExt, Snapshot, Table};
use teahouse_core::tables::{
    LOG, LogRow, MESSAGE_INDEX, MESSAGES, MessageRow, RECALLS, TOPICS, Topic,
};
use teahouse_protocols::ids::{DeviceId, TopicId};

pub(super) static RELAY_ITEMS: Table = Table::truth("relay.items");

pub(crate) fn id_in(key: &[u8]) -> MessageId {
    let tail = &key[key.len() - 40..];
    MessageId {
        device: DeviceId(tail[..32].try_into().expect("32 bytes")),
        seq: u64::from_be_bytes(tail[32..].try_into().expect("8 bytes")),
    }
}

pub(super) fn typed<T: serde::de::DeserializeOwned>(
    s: &Snapshot,
    t: &'static Table,
    range: &KeyRange,
) -> Vec<(Vec<u8>, T)> {
    s.scan_typed(t, range, false, 1 << 20).expect("reads")
}

pub(super) fn key(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

pub(super) fn topics_of(s: &Snapshot) -> Vec<(TopicId, Topic)> {
    typed::<Topic>(s, &TOPICS, &KeyRange::all())
        .into_iter()
        .map(|(k, row)| (TopicId(k.try_into().expect("a topic")), row))
        .collect()
}

pub(super) fn log_row(s: &Snapshot, topic: TopicId, id: MessageId) -> Option<LogRow> {
    let key = key(&[&topic.0, &id.device.0, &id.seq.to_be_bytes()]);
    s.get_typed_raw(&LOG, &key).and_then(|b| LogRow::from_bytes(&b))
}

/// A message's row.
pub(super) fn shown(s: &Snapshot, topic: TopicId, id: MessageId) -> Option<MessageRow> {
    let tail = key(&[&id.device.0, &id.seq.to_be_bytes()]);
    let time: u64 = s.get_typed(&MESSAGE_INDEX, &key(&[&topic.0, &tail])).expect("reads")?;
    s.get_typed(&MESSAGES, &key(&[&topic.0, &time.to_be_bytes(), &tail])).expect("reads")
}

/// How many recalls of a message are here, with or without right.
pub(super) fn recalls(s: &Snapshot, topic: TopicId, id: MessageId) -> usize {
    let prefix = key(&[&topic.0, &id.device.0, &id.seq.to_be_bytes()]);
    s.count(&RECALLS, &KeyRange::prefix(&prefix), 16).expect("reads")
}

trait Raw {
    fn get_typed_raw(&self, t: &'static Table, key: &[u8]) -> Option<Vec<u8>>;
}

impl Raw for Snapshot {
    fn get_typed_raw(&self, t: &'static Table, key: &[u8]) -> Option<Vec<u8>> {
        teahouse_core::store::Read::get(self, t, key).expect("reads")
    }
}
