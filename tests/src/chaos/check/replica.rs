//! Replicas of a topic, compared: membership records, chains, rows and messages.

use std::collections::{BTreeMap, BTreeSet};

use teahouse_core::command::MessageId;
use teahouse_core::moments::tables::{DELETED, POSTS, PostRow, WORDS, WordRow};
use teahouse_core::query;
use teahouse_core::store::{KeyRange, ReadExt, Snapshot, Table, decode};
use teahouse_core::tables::{
    CHAINS, CONTACTS, Chain, DRAFTS, FIELDS, FORKS, Fork, NICKNAMES, OPS, REACTIONS, READ_MARKS,
    RECALLS, SECRETS, Topic, WAITING, Waiting, WaitingOn,
};
use teahouse_core::view::ChatState;
use teahouse_protocols::ids::{DeviceId, TopicId};
use teahouse_protocols::membership::TopicKind;

use super::rows::{id_in, typed};
use crate::chaos::plan::{Check, Town, name_of, short};

impl Town {
    /// Replicas of a topic are equal.
    pub(super) fn agree(&self, topic: TopicId, held: &[(usize, Topic)]) -> Check {
        let mut first: Option<(usize, Replica)> = None;
        for (device, row) in held {
            let s = self.world.snapshot(*device);
            if self.kept_out(&s, topic) {
                continue;
            }
            let mut replica = Replica::of(&s, topic, row.kind, self.from_joining.contains(&topic));
            if self.profile.by_mail {
                replica.leave_out(&self.cut_off());
            }
            if let Some((other, theirs)) = &first {
                if let Some(what) = theirs.differs(&replica) {
                    let waiting = |device: usize| {
                        let s = self.world.snapshot(device);
                        let rows = typed::<Waiting>(&s, &WAITING, &KeyRange::prefix(&topic.0));
                        let mut text: Vec<String> = rows
                            .iter()
                            .take(8)
                            .map(|(k, w)| format!("{} {:?}", name_of(id_in(k)), w.on))
                            .collect();
                        text.truncate(4);
                        text
                    };
                    return Err(format!(
                        "devices {other} and {device} differ in {} ({:?}): {what}; waiting there: {:?} and {:?}",
                        short(topic),
                        row.kind,
                        waiting(*other),
                        waiting(*device)
                    ));
                }
                if replica.plain
                    && query::digest(&s, topic).expect("reads")
                        != query::digest(&self.world.snapshot(*other), topic).expect("reads")
                {
                    return Err(format!(
                        "devices {other} and {device}: digests of {} differ",
                        short(topic)
                    ));
                }
            } else {
                first = Some((*device, replica));
            }
        }
        Ok(())
    }

    /// Whether a hostile member wrote under a key that it gave to others only, or that is from
    /// before this device's joining: what it says from there on is not for this device.
    fn kept_out(&self, s: &Snapshot, topic: TopicId) -> bool {
        typed::<Waiting>(s, &WAITING, &KeyRange::prefix(&topic.0)).iter().any(|(key, row)| {
            let by = id_in(key).device;
            let by = self.world.devices.iter().position(|d| d.id == by);
            matches!(row.on, WaitingOn::Epoch(_)) && by.is_some_and(|d| self.is_villain(d))
        })
    }

    /// Devices that were removed from their accounts: they mail nothing any more, and whoever
    /// learns of a topic later gets what they wrote from a device that it connects to.
    fn cut_off(&self) -> BTreeSet<DeviceId> {
        let revoked = self.people.iter().flat_map(|p| &p.revoked);
        revoked.map(|d| self.world.devices[*d].id).collect()
    }
}

/// What replicas of a topic compare.
struct Replica {
    ops: Vec<Vec<u8>>,
    chains: BTreeMap<DeviceId, String>,
    rows: BTreeMap<&'static str, BTreeMap<Vec<u8>, Vec<u8>>>,
    /// As they are shown; `None` where the other person is blocked, and not all is.
    messages: Option<BTreeMap<MessageId, String>>,
    /// Whether `query::digest` must be equal too: no fork, no partial history, no timer.
    plain: bool,
    /// Some devices are left out: rows may differ.
    partial: bool,
}

impl Replica {
    fn of(s: &Snapshot, topic: TopicId, kind: TopicKind, partial: bool) -> Self {
        let prefix = KeyRange::prefix(&topic.0);
        let forks: BTreeMap<Vec<u8>, Fork> =
            typed::<Fork>(s, &FORKS, &prefix).into_iter().collect();
        let mut plain = forks.is_empty() && !partial;
        let ops = s
            .scan(&OPS, &prefix, false, 1 << 16)
            .expect("reads")
            .into_iter()
            .map(|(k, _)| k)
            .collect();
        let chains = typed::<Chain>(s, &CHAINS, &prefix)
            .into_iter()
            .map(|(k, c)| {
                let device = DeviceId(*k.last_chunk().expect("a device"));
                let text = match forks.get(&k) {
                    Some(fork) => format!("told two stories from {} on", fork.seq),
                    None => format!("{} {}", c.high, &c.head.to_hex()[..8]),
                };
                (device, text)
            })
            .collect();
        let mut rows = BTreeMap::new();
        let tables: &[&'static Table] = match kind {
            TopicKind::Private => &[&CONTACTS, &READ_MARKS, &SECRETS, &DRAFTS],
            TopicKind::Moments => &[&POSTS, &WORDS, &DELETED],
            _ => &[&FIELDS, &NICKNAMES, &REACTIONS, &RECALLS],
        };
        let chat = query::chat(s, topic).expect("reads");
        // A blocked stranger's proposal is no chat at all.
        let blocked = chat.is_none_or(|c| c.state == ChatState::Blocked);
        let mut messages = (!blocked).then(BTreeMap::new);
        if !partial {
            for table in tables {
                let range =
                    if kind == TopicKind::Private { KeyRange::all() } else { prefix.clone() };
                let all = s.scan(table, &range, false, 1 << 20).expect("reads");
                let all = all.into_iter().map(|(k, v)| (k, timeless(table, v)));
                rows.insert(table.name, all.collect());
            }
        }
        if kind != TopicKind::Private
            && !partial
            && let Some(messages) = &mut messages
        {
            for m in query::messages(s, topic, None, 10_000).expect("reads") {
                let content = if m.expires.is_some() {
                    plain = false;
                    "timed".to_owned()
                } else {
                    format!("{:?}", m.content)
                };
                let mut text = format!("{:?} {:?} {content}", m.author, m.reply_to);
                text.truncate(text.floor_char_boundary(160));
                messages.insert(m.id, text);
            }
        }
        Self { ops, chains, rows, messages, plain, partial: false }
    }

    /// Leaves out what some devices wrote, and the rows that may depend on it.
    fn leave_out(&mut self, devices: &BTreeSet<DeviceId>) {
        if self.chains.keys().any(|d| devices.contains(d)) {
            self.chains.retain(|d, _| !devices.contains(d));
            self.partial = true;
            self.plain = false;
        }
    }

    fn differs(&self, other: &Self) -> Option<String> {
        if self.ops != other.ops {
            return Some(format!("membership records: {} and {}", self.ops.len(), other.ops.len()));
        }
        if self.chains != other.chains {
            let devices: BTreeSet<&DeviceId> =
                self.chains.keys().chain(other.chains.keys()).collect();
            for d in devices {
                let (a, b) = (self.chains.get(d), other.chains.get(d));
                if a != b {
                    return Some(format!("the chain of {}: {a:?} and {b:?}", &d.to_hex()[..6]));
                }
            }
        }
        if self.partial || other.partial {
            return None;
        }
        for (table, rows) in &self.rows {
            let theirs = &other.rows[table];
            if rows != theirs {
                let keys: BTreeSet<&Vec<u8>> = rows.keys().chain(theirs.keys()).collect();
                let differ: Vec<_> =
                    keys.iter().filter(|k| rows.get(**k) != theirs.get(**k)).take(2).collect();
                let differ: Vec<String> = differ
                    .iter()
                    .map(|k| format!("{:?}/{:?}", rows.get(**k), theirs.get(**k)))
                    .collect();
                return Some(format!("rows of {table}: {differ:?}"));
            }
        }
        let (Some(mine), Some(theirs)) = (&self.messages, &other.messages) else { return None };
        let ids: BTreeSet<&MessageId> = mine.keys().chain(theirs.keys()).collect();
        for id in ids {
            let (a, b) = (mine.get(id), theirs.get(id));
            if a != b {
                return Some(format!("message {}: {a:?} and {b:?}", name_of(*id)));
            }
        }
        None
    }
}

/// A row without its time for display, which is that by which it was here, where its author's
/// clock goes ahead.
fn timeless(table: &'static Table, value: Vec<u8>) -> Vec<u8> {
    if table.name == POSTS.name {
        let row: PostRow = decode(&POSTS, &value).expect("a row");
        let text = row.text.unwrap_or_default();
        return [&row.account.0[..], &row.key, &[row.body, row.bodies], text.as_bytes()].concat();
    }
    if table.name == WORDS.name {
        let row: WordRow = decode(&WORDS, &value).expect("a row");
        return [&row.account.0[..], &row.on, &row.sealed].concat();
    }
    value
}
