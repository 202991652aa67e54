//! What was said has come to everybody who was in and is, and its author was told so.

use std::collections::{BTreeMap, BTreeSet};

use teahouse_core::command::MessageId;
use teahouse_core::store::{KeyRange, ReadExt, Snapshot};
use teahouse_core::tables::{
    BODIES, DEVICE_ACCOUNT, LogRow, MISSING_BODIES, MessageRow, OPS, Status, TOPICS, Topic,
};
use teahouse_core::view::ChatState;
use teahouse_core::{query, view};
use teahouse_protocols::envelope::Envelope;
use teahouse_protocols::ids::{AccountId, TopicId};
use teahouse_protocols::membership::MembershipLog;
use teahouse_protocols::sign::Signed;

use super::rows::{key, log_row, recalls, shown};
use crate::chaos::plan::{Check, Town, name_of};
use crate::chaos::truth::Message;
use crate::world::Audience;

impl Town {
    /// What was said and counts is with everybody who was in and is.
    pub(super) fn all_there(
        &self,
        topic: TopicId,
        held: &[(usize, Topic)],
        live: &[usize],
    ) -> Check {
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
                // Nor is anything told in answer to a proposal that waits, or to who is blocked.
                let proves = stayed.contains(&person.account)
                    && Some(i) != self.owner(m.device)
                    && !theirs.iter().any(|d| is_quiet(&self.world.snapshot(*d), topic));
                owed += usize::from(!theirs.is_empty() && proves);
            }
            let claims = delivered.entry(m.device).or_insert_with(|| {
                let all = query::messages(&s, topic, None, 10_000).expect("reads");
                // Of what was taken back nothing is claimed.
                let told = |m: &&view::Message| {
                    !matches!(m.content, view::Content::Recalled | view::Content::Hidden)
                };
                all.iter()
                    .map(|m| match Some(m).filter(told) {
                        Some(m) => (m.id, m.delivery.map_or(0, |d| d.delivered)),
                        None => (m.id, u32::MAX),
                    })
                    .collect()
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
}

/// Whether a device says nothing about a direct chat to its other side.
fn is_quiet(s: &Snapshot, topic: TopicId) -> bool {
    let row: Option<Topic> = s.get_typed(&TOPICS, &topic.0).expect("reads");
    let blocked = || {
        let chat = query::chat(s, topic).expect("reads");
        chat.is_some_and(|c| c.state == ChatState::Blocked)
    };
    row.is_some_and(|r| r.proposed) || blocked()
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
