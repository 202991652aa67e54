//! The invariants. Each error is a sentence that says what can't be.

use std::collections::{BTreeMap, BTreeSet};

use teahouse_core::command::MessageId;
use teahouse_core::query;
use teahouse_core::store::{KeyRange, ReadExt, Snapshot, Table, decode};
use teahouse_core::tables::{
    ACKS, ALL, AckRow, BODIES, CHAINS, CONTACTS, Chain, Chosen, DEVICE_ACCOUNT, DRAFTS, EPOCHS,
    Epoch, FIELDS, FORKS, Field, Fork, LOG, LogRow, MESSAGE_INDEX, MESSAGES, MISSING_BODIES,
    MessageRow, NICKNAMES, OPS, QUARANTINE, REACTIONS, READ_MARKS, RECALLS, SECRETS, Status,
    TOPICS, Topic, WAITING, Waiting, WaitingOn,
};
use teahouse_core::view::{self, Content};
use teahouse_crdt::Document;
use teahouse_crdt::chat::{ChatView, MessageRef};
use teahouse_crdt::segment::{Actor, SegmentRef, inspect};
use teahouse_protocols::envelope::{Envelope, sealed_hash};
use teahouse_protocols::epoch::{EpochHead, EpochSecret};
use teahouse_protocols::ids::{AccountId, DeviceId, EpochId, OpId, Tag, TopicId};
use teahouse_protocols::membership::{MemberOp, MembershipLog, TopicKind};
use teahouse_protocols::sign::Signed;

use crate::chaos::plan::{Check, Town, name_of, short};
use crate::chaos::truth::{EXPIRED, Message, numbers_in};
use crate::world::Audience;

static RELAY_ITEMS: Table = Table::truth("relay.items");

fn typed<T: serde::de::DeserializeOwned>(
    s: &Snapshot,
    t: &'static Table,
    range: &KeyRange,
) -> Vec<(Vec<u8>, T)> {
    s.scan_typed(t, range, false, 1 << 20).expect("reads")
}

fn key(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

fn log_row(s: &Snapshot, topic: TopicId, id: MessageId) -> Option<LogRow> {
    let key = key(&[&topic.0, &id.device.0, &id.seq.to_be_bytes()]);
    s.get_typed_raw(&LOG, &key).and_then(|b| LogRow::from_bytes(&b))
}

/// How many recalls of a message are here, with or without right.
fn recalls(s: &Snapshot, topic: TopicId, id: MessageId) -> usize {
    let prefix = key(&[&topic.0, &id.device.0, &id.seq.to_be_bytes()]);
    s.count(&RECALLS, &KeyRange::prefix(&prefix), 16).expect("reads")
}

/// A message's row.
fn shown(s: &Snapshot, topic: TopicId, id: MessageId) -> Option<MessageRow> {
    let tail = key(&[&id.device.0, &id.seq.to_be_bytes()]);
    let time: u64 = s.get_typed(&MESSAGE_INDEX, &key(&[&topic.0, &tail])).expect("reads")?;
    s.get_typed(&MESSAGES, &key(&[&topic.0, &time.to_be_bytes(), &tail])).expect("reads")
}

trait Raw {
    fn get_typed_raw(&self, t: &'static Table, key: &[u8]) -> Option<Vec<u8>>;
}

/// What a relay's disk holds: tags and hashes of items.
type OnDisk = BTreeSet<(Tag, [u8; 32])>;

impl Raw for Snapshot {
    fn get_typed_raw(&self, t: &'static Table, key: &[u8]) -> Option<Vec<u8>> {
        teahouse_core::store::Read::get(self, t, key).expect("reads")
    }
}

pub(crate) fn id_in(key: &[u8]) -> MessageId {
    let tail = &key[key.len() - 40..];
    MessageId {
        device: DeviceId(tail[..32].try_into().expect("32 bytes")),
        seq: u64::from_be_bytes(tail[32..].try_into().expect("8 bytes")),
    }
}

fn topics_of(s: &Snapshot) -> Vec<(TopicId, Topic)> {
    typed::<Topic>(s, &TOPICS, &KeyRange::all())
        .into_iter()
        .map(|(k, row)| (TopicId(k.try_into().expect("a topic")), row))
        .collect()
}

impl Town {
    pub(crate) fn up(&self, device: usize) -> bool {
        self.world.devices[device].core.is_some()
    }

    pub(crate) fn owner(&self, device: usize) -> Option<usize> {
        self.people.iter().position(|p| p.devices.contains(&device))
    }

    fn is_villain(&self, device: usize) -> bool {
        self.owner(device).is_some_and(|p| self.people[p].villain)
    }

    /// Cheap: what one device holds and claims.
    pub(crate) fn check_device(&self, device: usize) -> Check {
        if !self.up(device) {
            return Ok(());
        }
        let s = self.world.snapshot(device);
        for m in self.messages.iter().filter(|m| m.device == device) {
            let Some(row) = log_row(&s, m.topic, m.id) else {
                return Err(format!(
                    "message {} of device {device}, acknowledged, is no longer in its log",
                    m.number
                ));
            };
            if row.status == Status::Accepted && shown(&s, m.topic, m.id).is_none() && !m.hostile {
                return Err(format!(
                    "message {} of device {device} counts but is not shown",
                    m.number
                ));
            }
        }
        if self.is_villain(device) {
            return Ok(());
        }
        if s.first(&QUARANTINE, b"").expect("reads").is_some() {
            return Err(format!("device {device} had to quarantine something"));
        }
        for (chain, fork) in typed::<Fork>(&s, &FORKS, &KeyRange::all()) {
            for (place, bytes) in
                s.scan(&LOG, &KeyRange::prefix(&chain), false, 1 << 16).expect("reads")
            {
                let accepted =
                    LogRow::from_bytes(&bytes).is_some_and(|r| r.status == Status::Accepted);
                if accepted && id_in(&place).seq >= fork.seq {
                    return Err(format!(
                        "device {device} counts {} of a device that told two stories from {} on",
                        name_of(id_in(&place)),
                        fork.seq
                    ));
                }
            }
        }
        for alarm in query::alarms(&s).expect("reads") {
            let blames = alarm.text.contains("breaks the rules")
                || alarm.text.contains("told different people");
            let villain = self.people.iter().find(|p| p.villain && self.turned);
            if blames && !villain.is_some_and(|v| alarm.text.contains(&v.name)) {
                return Err(format!("device {device} blames somebody honest: {}", alarm.text));
            }
        }
        for (key, row) in typed::<AckRow>(&s, &ACKS, &KeyRange::all()) {
            let by = DeviceId(key[64..96].try_into().expect("32 bytes"));
            let Some(by) = self.world.devices.iter().position(|d| d.id == by) else { continue };
            let author = DeviceId(key[32..64].try_into().expect("32 bytes"));
            let author = self.world.devices.iter().position(|d| d.id == author);
            if !self.up(by) || self.is_villain(by) || author.is_none_or(|a| self.is_villain(a)) {
                continue;
            }
            let theirs = self.world.snapshot(by);
            let chain: Option<Chain> = theirs.get_typed(&CHAINS, &key[..64]).expect("reads");
            if chain.is_none_or(|c| c.high < row.seq) {
                return Err(format!(
                    "device {device} believes that device {by} holds {} of a chain of device {}, which holds {:?}",
                    row.seq,
                    author.unwrap_or_default(),
                    chain.map(|c| c.high)
                ));
            }
        }
        Ok(())
    }

    /// Everything that must hold at any moment.
    pub(crate) fn check_all(&mut self) -> Check {
        for device in 0..self.world.devices.len() {
            self.check_device(device)?;
        }
        self.check_doubles()?;
        self.check_claims()?;
        self.check_former()?;
        self.check_relays()
    }

    /// No message is shown twice.
    fn check_doubles(&self) -> Check {
        for device in 0..self.world.devices.len() {
            if !self.up(device) {
                continue;
            }
            let s = self.world.snapshot(device);
            let mut ids: BTreeSet<(Vec<u8>, MessageId)> = BTreeSet::new();
            let mut seen: BTreeMap<(Vec<u8>, u64), MessageId> = BTreeMap::new();
            for (key, row) in typed::<MessageRow>(&s, &MESSAGES, &KeyRange::all()) {
                let (topic, id) = (key[..32].to_vec(), id_in(&key));
                if !ids.insert((topic.clone(), id)) {
                    return Err(format!("device {device} shows message {} twice", name_of(id)));
                }
                let mut numbers = BTreeSet::new();
                numbers_in(row.text.unwrap_or_default().as_bytes(), &mut numbers);
                if row.forwarded {
                    continue;
                }
                for number in numbers {
                    if let Some(other) = seen.insert((topic.clone(), number), id) {
                        return Err(format!(
                            "device {device} shows the text {number} as {} and as {}",
                            name_of(id),
                            name_of(other)
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    /// No status claims more than is so.
    fn check_claims(&mut self) -> Check {
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

    /// Ex-members and ex-devices open nothing later, and what they write is not kept.
    fn check_former(&self) -> Check {
        for (victim, envelope) in &self.intrusions {
            let at = MessageId { device: envelope.device, seq: envelope.seq };
            if self.up(*victim)
                && log_row(&self.world.snapshot(*victim), envelope.topic, at)
                    .is_some_and(|row| row.envelope == envelope.bytes())
            {
                return Err(format!(
                    "device {victim} keeps {}, written by who it knew to be out",
                    name_of(at)
                ));
            }
        }
        for device in &self.world.suspects {
            if !self.up(*device) {
                continue;
            }
            let Some(owner) = self.owner(*device) else { continue };
            let person = &self.people[owner];
            let s = self.world.snapshot(*device);
            let epochs: BTreeSet<EpochId> = s
                .scan(&EPOCHS, &KeyRange::all(), false, 65_536)
                .expect("reads")
                .into_iter()
                .filter_map(|(k, _)| Some(EpochId(k.try_into().ok()?)))
                .collect();
            let mut held = BTreeSet::new();
            for table in ALL {
                for (_, value) in s.scan(table, &KeyRange::all(), false, 1 << 20).expect("reads") {
                    numbers_in(&value, &mut held);
                }
            }
            // An operation that comes late can undo a removal for everybody.
            let id = self.world.devices[*device].id;
            let mut back = BTreeSet::new();
            for other in (0..self.world.devices.len()).filter(|d| self.up(*d)) {
                let t = self.world.snapshot(other);
                for (topic, _) in topics_of(&t) {
                    if Audience::of(&t, topic).devices.contains(&id) && other != *device {
                        back.insert(topic);
                    }
                }
            }
            for m in self.messages.iter().filter(|m| m.former.contains(device) && !m.hostile) {
                if back.contains(&m.topic) {
                    continue;
                }
                // Whoever was added again has what it missed, and keeps it when it is revoked.
                let was_own = person
                    .revoked_at
                    .get(device)
                    .is_none_or(|at| self.said_at.get(&m.number).is_some_and(|said| said < at));
                if was_own && self.added_since(m, person.account) {
                    continue;
                }
                if held.contains(&m.number) && !self.forwarded.contains(&m.number) {
                    return Err(format!(
                        "device {device} of {} reads message {}, sent by device {} after it knew it to be out ({})",
                        person.name,
                        m.number,
                        m.device,
                        self.key_of(m, *device)
                    ));
                }
                if !self.up(m.device) {
                    continue;
                }
                let epoch = log_row(&self.world.snapshot(m.device), m.topic, m.id)
                    .and_then(|row| Envelope::from_bytes(&row.envelope).ok())
                    .and_then(|e| e.header)
                    .map(|h| h.epoch);
                if epoch.is_some_and(|e| epochs.contains(&e)) {
                    return Err(format!(
                        "device {device} of {} has the key of message {}, sent by device {} after it knew it to be out ({})",
                        person.name,
                        m.number,
                        m.device,
                        self.key_of(m, *device)
                    ));
                }
            }
        }
        Ok(())
    }

    /// Whether somebody was added to a topic by an operation that a message's author had not
    /// seen: then others had the right to pass the message on.
    fn added_since(&self, m: &Message, account: AccountId) -> bool {
        let up = (0..self.world.devices.len()).filter(|d| self.up(*d));
        let Some(heads) = up
            .clone()
            .filter_map(|d| log_row(&self.world.snapshot(d), m.topic, m.id))
            .find_map(|row| Envelope::from_bytes(&row.envelope).ok()?.header)
            .map(|h| h.heads.to_vec())
        else {
            return false;
        };
        let heads: Vec<[u8; 32]> = heads.iter().map(|h| h.0).collect();
        // What a villain added without right has no effect on anybody. What somebody else
        // added may have lost its effect since.
        let villain = |a: AccountId| self.people.iter().any(|p| p.villain && p.account == a);
        up.into_iter().any(|d| {
            let s = self.world.snapshot(d);
            let rows = s.scan(&OPS, &KeyRange::prefix(&m.topic.0), false, 4_096).expect("reads");
            let records = rows.iter().map(|(_, b)| Signed::from_bytes(b).expect("signed"));
            let Ok(log) = MembershipLog::from_records(m.topic, records) else { return false };
            let Some(past) = log.dag().closure(&heads) else { return false };
            let eval = log.evaluate(&|account, device| {
                s.get_typed::<AccountId>(&DEVICE_ACCOUNT, &device.0).ok().flatten()
                    == Some(*account)
            });
            log.records().any(|r| {
                let by = r.get().account;
                matches!(&r.get().op, MemberOp::Add { account: a, .. } if *a == account)
                    && !past.contains(&r.id())
                    && (!villain(by) || !eval.membership().void.contains_key(&OpId(r.id())))
            })
        })
    }

    /// For a report: whom the key of a message was for.
    fn key_of(&self, m: &Message, device: usize) -> String {
        if !self.up(m.device) {
            return "its author is down".into();
        }
        let s = self.world.snapshot(m.device);
        let Some(header) = log_row(&s, m.topic, m.id)
            .and_then(|row| Envelope::from_bytes(&row.envelope).ok())
            .and_then(|e| e.header)
        else {
            return "no header".into();
        };
        let epoch: Option<Epoch> = s.get_typed(&EPOCHS, &header.epoch.0).expect("reads");
        let head = epoch.and_then(|e| Signed::<EpochHead>::from_bytes(&e.head).ok());
        let id = self.world.devices[device].id;
        let x = self.world.snapshot(device);
        let state = (0..self.world.devices.len())
            .filter(|d| self.up(*d))
            .map(|d| {
                let a = Audience::of(&self.world.snapshot(d), m.topic);
                let names: Vec<String> = a.accounts.iter().map(|a| self.name(*a)).collect();
                format!("{d}: {}", names.join(" "))
            })
            .collect::<Vec<_>>();
        format!(
            "epoch by device {:?}, received there at {:?}; named in its epoch: {:?}; it has the epoch: {}; said at event {:?}; members {state:?}",
            head.as_ref().and_then(|h| self
                .world
                .devices
                .iter()
                .position(|d| d.id == h.get().author)),
            x.get_typed::<Epoch>(&EPOCHS, &header.epoch.0)
                .expect("reads")
                .map(|e| e.received % 10_000_000_000),
            head.map(|h| h.get().recipients.contains(&id)),
            x.contains(&EPOCHS, &header.epoch.0).expect("reads"),
            self.said_at.get(&m.number)
        )
    }

    /// A relay's disk shows neither text nor people.
    fn check_relays(&self) -> Check {
        let mut secrets: Vec<[u8; 32]> = self.people.iter().map(|p| p.account.0).collect();
        secrets.extend(self.world.devices.iter().map(|d| d.id.0));
        for (i, relay) in self.world.relays.iter().enumerate() {
            let Some(machine) = &relay.relay else { continue };
            let s = machine.reader().snapshot().expect("reads");
            for (_, bytes) in s.scan(&RELAY_ITEMS, &KeyRange::all(), false, 1 << 20).expect("reads")
            {
                let mut numbers = BTreeSet::new();
                numbers_in(&bytes, &mut numbers);
                if !numbers.is_empty() {
                    return Err(format!("relay {i} holds the text of message {numbers:?}"));
                }
                // Ids are random: their first eight bytes are enough to find them.
                let found = bytes.windows(8).any(|w| {
                    secrets.iter().any(|id| id[0] == w[0] && id[1] == w[1] && id[..8] == *w)
                });
                if found {
                    return Err(format!("relay {i} holds the id of an account or a device"));
                }
            }
        }
        Ok(())
    }

    // After the healing.

    /// Devices of honest people that are in their accounts.
    fn live_devices(&self) -> Result<Vec<usize>, String> {
        let mut live = Vec::new();
        for person in self.people.iter().filter(|p| !p.villain) {
            let mut views: Vec<(usize, BTreeSet<DeviceId>)> = Vec::new();
            for device in &person.devices {
                if !self.up(*device) {
                    return Err(format!("device {device} is down"));
                }
                let s = self.world.snapshot(*device);
                if query::identity(&s).expect("reads").revoked {
                    continue;
                }
                let theirs = query::devices(&s).expect("reads").into_iter().filter(|d| !d.revoked);
                views.push((*device, theirs.map(|d| d.device).collect()));
                live.push(*device);
            }
            if views.windows(2).any(|w| w[0].1 != w[1].1) {
                let said: Vec<String> = views
                    .iter()
                    .map(|(by, all)| {
                        let named = |d: &usize| all.contains(&self.world.devices[*d].id);
                        let all: Vec<usize> = (0..self.world.devices.len()).filter(named).collect();
                        format!("{by} says {all:?}")
                    })
                    .collect();
                return Err(format!(
                    "{}'s devices disagree about who they are: {} (asked to be revoked: {:?})",
                    person.name,
                    said.join(", "),
                    person.revoked
                ));
            }
        }
        Ok(live)
    }

    /// Whether honest live replicas agree.
    pub(crate) fn converged(&self) -> Check {
        let live = self.live_devices()?;
        let mut replicas: BTreeMap<TopicId, Vec<(usize, Topic)>> = BTreeMap::new();
        for device in &live {
            let s = self.world.snapshot(*device);
            let account = query::identity(&s).expect("reads").account.expect("an account");
            for (topic, row) in topics_of(&s) {
                let audience = Audience::of(&s, topic);
                // Nothing is fetched from relays for a proposal that awaits its answer.
                let waits = self.profile.by_mail && row.proposed;
                if audience.accounts.contains(&account) && !waits {
                    replicas.entry(topic).or_default().push((*device, row));
                }
            }
        }
        for (topic, held) in &replicas {
            self.agree(*topic, held)?;
            for (device, _) in held {
                strong_removal(&self.world.snapshot(*device), *topic)
                    .map_err(|e| format!("device {device}, {}: {e}", short(*topic)))?;
            }
            self.all_there(*topic, held, &live)?;
        }
        for person in self.people.iter().filter(|p| !p.villain) {
            let mut topics: Option<(usize, BTreeSet<TopicId>)> = None;
            for device in person.devices.iter().filter(|d| live.contains(d)) {
                let s = self.world.snapshot(*device);
                let mine: BTreeSet<TopicId> = topics_of(&s)
                    .into_iter()
                    .filter(|(t, row)| {
                        !row.hidden
                            && !row.proposed
                            && Audience::of(&s, *t).accounts.contains(&person.account)
                    })
                    .map(|(t, _)| t)
                    .collect();
                if let Some((other, theirs)) = &topics
                    && *theirs != mine
                {
                    let differ: Vec<String> = theirs
                        .symmetric_difference(&mine)
                        .map(|t| {
                            let row = |d: usize| {
                                self.world
                                    .snapshot(d)
                                    .get_typed::<Topic>(&TOPICS, &t.0)
                                    .expect("reads")
                            };
                            let shown = |d: usize| {
                                row(d).map(|r| {
                                    (
                                        r.kind,
                                        r.proposed,
                                        r.hidden,
                                        r.created % 10_000_000_000,
                                        self.name(r.peer.unwrap_or(person.account)),
                                    )
                                })
                            };
                            format!("{}: {:?} and {:?}", short(*t), shown(*other), shown(*device))
                        })
                        .collect();
                    return Err(format!(
                        "{}'s devices {other} and {device} are not in the same chats: {differ:?}",
                        person.name
                    ));
                }
                topics.get_or_insert((*device, mine));
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

    /// Replicas of a topic are equal.
    fn agree(&self, topic: TopicId, held: &[(usize, Topic)]) -> Check {
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

    /// Whether a shown row should have its text: `s` is the author's device, `t` the reader's.
    fn owes_text(
        &self,
        s: &Snapshot,
        t: &Snapshot,
        topic: TopicId,
        m: &Message,
        row: &MessageRow,
    ) -> bool {
        if row.text.is_some() || row.expired || row.unknown || recalls(t, topic, m.id) > 0 {
            return false;
        }
        let there = shown(s, topic, m.id);
        // Its time is up; the reader's clock may be behind.
        let expired = there.as_ref().is_some_and(|r| r.expired);
        // Erased by a recall that the reader may not read (it was out then), or that was taken
        // back with who was removed.
        let erased =
            self.recalled.contains(&m.id) && there.as_ref().is_some_and(|r| r.text.is_none());
        !expired && !erased
    }

    /// What was said and counts is with everybody who was in and is.
    fn all_there(&self, topic: TopicId, held: &[(usize, Topic)], live: &[usize]) -> Check {
        let devices: BTreeSet<usize> = held.iter().map(|(d, _)| *d).collect();
        let mut delivered: BTreeMap<usize, BTreeMap<MessageId, u32>> = BTreeMap::new();
        for m in self.messages.iter().filter(|m| m.topic == topic && !m.hostile) {
            if !devices.contains(&m.device) {
                continue;
            }
            let s = self.world.snapshot(m.device);
            let Some(log) = log_row(&s, topic, m.id).filter(|r| r.status == Status::Accepted)
            else {
                continue;
            };
            let current = Audience::of(&s, topic);
            let stayed = stayed(&s, topic, &log);
            let mut owed = 0;
            for (i, person) in self.people.iter().enumerate() {
                if !m.accounts.contains(&person.account)
                    || !current.accounts.contains(&person.account)
                    || person.villain
                {
                    continue;
                }
                let theirs: Vec<usize> =
                    person.devices.iter().copied().filter(|d| devices.contains(d)).collect();
                for device in &theirs {
                    let t = self.world.snapshot(*device);
                    match shown(&t, topic, m.id) {
                        None => {
                            return Err(format!(
                                "message {} of device {} ({}) never came to device {device}",
                                m.number,
                                m.device,
                                name_of(m.id)
                            ));
                        }
                        Some(row) if self.owes_text(&s, &t, topic, m, &row) => {
                            let prefix = key(&[&topic.0, &m.id.device.0, &m.id.seq.to_be_bytes()]);
                            let prefix = KeyRange::prefix(&prefix);
                            let here = t.count(&BODIES, &prefix, 16).expect("reads");
                            let missing = t.count(&MISSING_BODIES, &prefix, 16).expect("reads");
                            return Err(format!(
                                "the text of message {} ({}) never came to device {device}: {here} bodies are there, {missing} missing; there {:?}, at its author {:?}",
                                m.number,
                                name_of(m.id),
                                shown(&t, topic, m.id),
                                shown(&s, topic, m.id)
                            ));
                        }
                        Some(_) => {}
                    }
                }
                // Who was out meanwhile has it, but can't prove it: to hold a chain is then to
                // hold what came since.
                let proves = stayed.contains(&person.account) && Some(i) != self.owner(m.device);
                owed += usize::from(!theirs.is_empty() && proves);
            }
            let claims = delivered.entry(m.device).or_insert_with(|| {
                let all = query::messages(&s, topic, None, 10_000).expect("reads");
                all.iter().filter_map(|m| Some((m.id, m.delivery?.delivered))).collect()
            });
            let delivered = claims.get(&m.id).copied().unwrap_or(0);
            if (delivered as usize) < owed && live.contains(&m.device) {
                return Err(format!(
                    "device {} says that message {} ({}) is delivered to {delivered}; {owed} have it",
                    m.device,
                    m.number,
                    name_of(m.id)
                ));
            }
        }
        Ok(())
    }

    /// A rebuild gives the same rows.
    pub(crate) fn check_rebuild(&mut self, device: usize) -> Check {
        if !self.up(device) {
            return Ok(());
        }
        let before = Views::of(&self.world.snapshot(device));
        self.world.rebuild(device)?;
        let after = Views::of(&self.world.snapshot(device));
        match before.differs(&after) {
            None => Ok(()),
            Some(what) => Err(format!("a rebuild on device {device} changed {what}")),
        }
    }

    /// A person asks for a rebuild in the middle of things.
    pub(crate) fn rebuild(&mut self, device: usize) {
        if let Err(what) = self.check_rebuild(device) {
            self.world.broken.push(what);
        }
    }

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

/// Accounts that were in where a message's author stood, and have been in ever since.
fn stayed(s: &Snapshot, topic: TopicId, row: &LogRow) -> BTreeSet<AccountId> {
    let heads = Envelope::from_bytes(&row.envelope).ok().and_then(|e| e.header).map(|h| h.heads);
    let ops = s.scan(&OPS, &KeyRange::prefix(&topic.0), false, 4_096).expect("reads");
    let ops = ops.iter().map(|(_, b)| Signed::from_bytes(b).expect("signed"));
    let log = MembershipLog::from_records(topic, ops).expect("a log");
    let eval = log.evaluate(&|account, device| {
        s.get_typed::<AccountId>(&DEVICE_ACCOUNT, &device.0).ok().flatten() == Some(*account)
    });
    let then = heads.and_then(|heads| eval.at(&heads));
    let by = |account| then.as_ref().and_then(|m| m.members.get(account)).map(|m| m.added_by);
    let now = &eval.membership().members;
    now.iter().filter(|(a, m)| by(*a) == Some(m.added_by)).map(|(a, _)| *a).collect()
}

/// No operation counts that somebody made while being removed: neither had seen the other,
/// and the removal holds. Unless its author stands on an add that the removal had not seen.
fn strong_removal(s: &Snapshot, topic: TopicId) -> Check {
    let ops = s.scan(&OPS, &KeyRange::prefix(&topic.0), false, 4_096).expect("reads");
    let ops = ops.iter().map(|(_, b)| Signed::from_bytes(b).expect("signed"));
    let log = MembershipLog::from_records(topic, ops).expect("a log");
    let eval = log.evaluate(&|account, device| {
        s.get_typed::<AccountId>(&DEVICE_ACCOUNT, &device.0).ok().flatten() == Some(*account)
    });
    let void = &eval.membership().void;
    let holding: Vec<_> = log.records().filter(|r| !void.contains_key(&OpId(r.id()))).collect();
    for removal in &holding {
        let MemberOp::Remove { account: gone, .. } = &removal.get().op else { continue };
        let seen = log.dag().closure(&[removal.id()]).expect("held");
        for other in holding.iter().filter(|r| r.get().account == *gone) {
            let past = log.dag().closure(&[other.id()]).expect("held");
            let unseen_add = || {
                holding.iter().any(|r| {
                    matches!(&r.get().op, MemberOp::Add { account, .. } if account == gone)
                        && past.contains(&r.id())
                        && !seen.contains(&r.id())
                })
            };
            if !seen.contains(&other.id()) && !past.contains(&removal.id()) && !unseen_add() {
                return Err(format!(
                    "{:?} counts though its author was removed at the same time",
                    other.get().op
                ));
            }
        }
    }
    Ok(())
}

/// What replicas of a topic compare.
struct Replica {
    ops: Vec<Vec<u8>>,
    chains: BTreeMap<DeviceId, String>,
    rows: BTreeMap<&'static str, BTreeMap<Vec<u8>, Vec<u8>>>,
    messages: BTreeMap<MessageId, String>,
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
        let tables: &[&'static Table] = if kind == TopicKind::Private {
            &[&CONTACTS, &READ_MARKS, &SECRETS, &DRAFTS]
        } else {
            &[&FIELDS, &NICKNAMES, &REACTIONS, &RECALLS]
        };
        let mut messages = BTreeMap::new();
        if !partial {
            for table in tables {
                let range =
                    if kind == TopicKind::Private { KeyRange::all() } else { prefix.clone() };
                let all = s.scan(table, &range, false, 1 << 20).expect("reads");
                rows.insert(table.name, all.into_iter().collect());
            }
        }
        if kind != TopicKind::Private && !partial {
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
        let ids: BTreeSet<&MessageId> = self.messages.keys().chain(other.messages.keys()).collect();
        for id in ids {
            let (a, b) = (self.messages.get(id), other.messages.get(id));
            if a != b {
                return Some(format!("message {}: {a:?} and {b:?}", name_of(*id)));
            }
        }
        None
    }
}

/// All that a person sees on one device.
#[derive(PartialEq)]
struct Views {
    chats: Vec<view::Chat>,
    contacts: Vec<view::Contact>,
    members: BTreeMap<TopicId, Vec<view::Member>>,
    messages: BTreeMap<TopicId, Vec<view::Message>>,
    digests: BTreeMap<TopicId, [u8; 32]>,
}

impl Views {
    fn of(s: &Snapshot) -> Self {
        let mut out = Self {
            chats: query::chats(s).expect("reads"),
            contacts: query::contacts(s).expect("reads"),
            members: BTreeMap::new(),
            messages: BTreeMap::new(),
            digests: BTreeMap::new(),
        };
        for (topic, row) in topics_of(s) {
            if row.kind == TopicKind::Private {
                continue;
            }
            out.members.insert(topic, query::members(s, topic).expect("reads"));
            let mut messages = query::messages(s, topic, None, 10_000).expect("reads");
            // A timer may run out between the two looks.
            let timed = messages.iter().any(|m| m.expires.is_some());
            for m in messages.iter_mut().filter(|m| m.expires.is_some()) {
                m.content = Content::Expired;
            }
            out.messages.insert(topic, messages);
            if timed {
                for chat in out.chats.iter_mut().filter(|c| c.topic == topic) {
                    chat.preview.clear();
                }
            } else {
                out.digests.insert(topic, query::digest(s, topic).expect("reads"));
            }
        }
        out
    }

    fn differs(&self, other: &Self) -> Option<String> {
        for (a, b) in self.chats.iter().zip(&other.chats) {
            if a != b {
                return Some(format!("the chat list: {a:?} became {b:?}"));
            }
        }
        if self.chats.len() != other.chats.len() {
            return Some("the chat list's length".into());
        }
        for (a, b) in self.contacts.iter().zip(&other.contacts) {
            if a != b {
                return Some(format!("contacts: {a:?} became {b:?}"));
            }
        }
        if self.contacts.len() != other.contacts.len() {
            return Some("the number of contacts".into());
        }
        for (topic, messages) in &self.messages {
            let theirs = &other.messages[topic];
            for (a, b) in messages.iter().zip(theirs) {
                if a != b {
                    return Some(format!("a message of {}: {a:?} became {b:?}", short(*topic)));
                }
            }
            if messages.len() != theirs.len() {
                return Some(format!(
                    "the messages of {}: {} became {}",
                    short(*topic),
                    messages.len(),
                    theirs.len()
                ));
            }
        }
        if self != other {
            return Some("members or digests".into());
        }
        None
    }
}

/// The actor of a device in a segment, derived as the core does.
fn actor(topic: TopicId, device: DeviceId, segment: u32) -> Actor {
    let mut h = blake3::Hasher::new_derive_key("teahouse/v1/actor");
    h.update(&topic.0);
    h.update(&device.0);
    h.update(&segment.to_le_bytes());
    Actor(*h.finalize().as_bytes().first_chunk().expect("32 bytes"))
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
