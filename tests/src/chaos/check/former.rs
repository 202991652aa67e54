//! Who is out reads nothing later, and what they write is not kept.

use std::collections::BTreeSet;

use teahouse_core::command::MessageId;
use teahouse_core::store::{KeyRange, ReadExt};
use teahouse_core::tables::{ALL, DEVICE_ACCOUNT, EPOCHS, Epoch, OPS};
use teahouse_protocols::envelope::Envelope;
use teahouse_protocols::epoch::EpochHead;
use teahouse_protocols::ids::{AccountId, EpochId, OpId};
use teahouse_protocols::membership::{MemberOp, MembershipLog};
use teahouse_protocols::sign::Signed;

use super::rows::{log_row, topics_of};
use crate::chaos::plan::{Check, Town, name_of};
use crate::chaos::truth::{Message, numbers_in};
use crate::world::Audience;

impl Town {
    /// Ex-members and ex-devices open nothing later, and what they write is not kept.
    pub(super) fn check_former(&self) -> Check {
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
}
