//! A rebuild from the log shows the same as before.

use std::collections::BTreeMap;

use teahouse_core::moments::query::{Post, Timeline};
use teahouse_core::moments::tables::ALL as MOMENTS;
use teahouse_core::query::{self, Query};
use teahouse_core::store::{KeyRange, ReadExt, Row, Snapshot};
use teahouse_core::view::{self, Content};
use teahouse_protocols::ids::TopicId;
use teahouse_protocols::membership::TopicKind;

use super::rows::topics_of;
use crate::chaos::plan::{Check, Town, short};

impl Town {
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
}

/// All that a person sees on one device.
#[derive(PartialEq)]
struct Views {
    chats: Vec<view::Chat>,
    contacts: Vec<view::Contact>,
    members: BTreeMap<TopicId, Vec<view::Member>>,
    messages: BTreeMap<TopicId, Vec<view::Message>>,
    digests: BTreeMap<TopicId, [u8; 32]>,
    timeline: Vec<Post>,
    /// Rows of features' own tables.
    rows: BTreeMap<&'static str, Vec<Row>>,
}

impl Views {
    fn of(s: &Snapshot) -> Self {
        let mut out = Self {
            chats: query::chats(s).expect("reads"),
            contacts: query::contacts(s).expect("reads"),
            members: BTreeMap::new(),
            messages: BTreeMap::new(),
            digests: BTreeMap::new(),
            timeline: Timeline::default().run(s).expect("reads"),
            rows: BTreeMap::new(),
        };
        for table in MOMENTS {
            let rows = s.scan(table, &KeyRange::all(), false, 1 << 20).expect("reads");
            out.rows.insert(table.name, rows);
        }
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
        for (a, b) in self.timeline.iter().zip(&other.timeline) {
            if a != b {
                return Some(format!("a post: {a:?} became {b:?}"));
            }
        }
        if self.timeline.len() != other.timeline.len() {
            let lens = (self.timeline.len(), other.timeline.len());
            return Some(format!("the posts: {lens:?} before and after"));
        }
        for (table, rows) in &self.rows {
            if *rows != other.rows[table] {
                let lens = (rows.len(), other.rows[table].len());
                return Some(format!("rows of {table}: {lens:?} before and after"));
            }
        }
        if self != other {
            return Some("members or digests".into());
        }
        None
    }
}
