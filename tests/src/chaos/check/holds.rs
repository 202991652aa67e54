//! What one device holds and shows: all that it acknowledged, nothing twice, nobody honest
//! blamed.

use std::collections::{BTreeMap, BTreeSet};

use teahouse_core::command::MessageId;
use teahouse_core::query;
use teahouse_core::store::{KeyRange, ReadExt};
use teahouse_core::tables::{
    ACKS, AckRow, CHAINS, Chain, FORKS, Fork, LOG, LogRow, MESSAGES, MessageRow, QUARANTINE, Status,
};
use teahouse_protocols::ids::DeviceId;

use super::rows::{id_in, log_row, shown, typed};
use crate::chaos::plan::{Check, Town, name_of};
use crate::chaos::truth::numbers_in;

impl Town {
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

    /// No message is shown twice.
    pub(super) fn check_doubles(&self) -> Check {
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
}
