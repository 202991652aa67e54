//! Drawing who acts, in which chat, on which message, with which words.

use teahouse_core::command::MessageId;
use teahouse_core::store::{KeyRange, ReadExt, decode};
use teahouse_core::tables::{MESSAGES, MessageRow, TOPICS, Topic};
use teahouse_protocols::ids::{AccountId, TopicId};
use teahouse_protocols::membership::TopicKind;

use super::Town;
use crate::chaos::check::id_in;
use crate::chaos::truth::MARK;
use crate::world::Audience;

/// A chat to do something in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) topic: TopicId,
}

impl Town {
    /// Whoever may act: up, with an account, and not (yet) hostile.
    pub(super) fn actor(&mut self) -> Option<(usize, usize)> {
        let person = self.below(self.people.len());
        if self.people[person].villain && self.turned {
            return None;
        }
        let devices = self.people[person].devices.clone();
        let device = self.pick(&devices)?;
        self.world.devices[device].core.is_some().then_some((person, device))
    }

    /// A chat that a device shows, one that it is out of now and then.
    pub(super) fn chat_of(&mut self, device: usize, group: bool) -> Option<Place> {
        let s = self.world.snapshot(device);
        let me = self.people.iter().find(|p| p.devices.contains(&device))?.account;
        let any = self.coin(50);
        let places: Vec<Place> = s
            .scan_typed::<Topic>(&TOPICS, &KeyRange::all(), false, 4_096)
            .expect("reads")
            .into_iter()
            .filter(|(_, row)| match row.kind {
                TopicKind::Private | TopicKind::Moments | TopicKind::Feed => false,
                TopicKind::Direct => !group && !row.hidden,
                TopicKind::Group => true,
            })
            .filter_map(|(key, _)| Some(Place { topic: TopicId(key.try_into().ok()?) }))
            .filter(|p| any || Audience::of(&s, p.topic).accounts.contains(&me))
            .collect();
        self.pick(&places)
    }

    /// One of the newest messages of a chat, with its text.
    pub(super) fn message_in(
        &mut self,
        device: usize,
        topic: TopicId,
    ) -> Option<(MessageId, String)> {
        let rows = self
            .world
            .snapshot(device)
            .scan(&MESSAGES, &KeyRange::prefix(&topic.0), true, 20)
            .expect("reads");
        let (key, value) = self.pick(&rows)?;
        let row: MessageRow = decode(&MESSAGES, &value).expect("a row");
        Some((id_in(&key), row.text.unwrap_or_default()))
    }

    pub(super) fn member_of(&mut self, device: usize, topic: TopicId) -> Option<AccountId> {
        let members = Audience::of(&self.world.snapshot(device), topic).accounts;
        let members: Vec<AccountId> = members.into_iter().collect();
        self.pick(&members)
    }

    pub(super) fn text(&mut self) -> (u64, String) {
        self.next_number += 1;
        let number = self.next_number;
        let mut text = format!("{MARK}{number}~");
        let more = match self.below(40) {
            0 => 3_000,
            1 => self.below(20_000),
            _ => self.below(80),
        };
        while text.len() < more {
            let word = self.pick(&["tea ", "茶 ", "🍵 ", "later ", "\n", "ok"]).unwrap_or("");
            text.push_str(word);
        }
        (number, text)
    }
}
