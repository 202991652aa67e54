//! The first pass over a batch: frames are decoded, envelopes verified and opened, on several
//! threads and without looking at what the batch itself will change.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rayon::prelude::*;
use teahouse_protocols::codec;
use teahouse_protocols::ids::{DeviceId, TopicId};
use teahouse_protocols::inbox::Letter;
use teahouse_protocols::sync::{Frame, PAGE_LETTERS};

use super::Core;
use super::boundary::Input;
use crate::command::Command;
use crate::engine::letters::{self, Prepared};
use crate::features::services;
use crate::store::{Read, ReadExt};
use crate::tables::QUARANTINE;

pub(super) enum Work {
    Command(u64, Command),
    Up(DeviceId),
    Down(DeviceId),
    Full(DeviceId, bool),
    Frame(DeviceId, Box<Frame>),
    Letters { from: DeviceId, topic: TopicId, letters: Vec<Prepared>, page: Option<bool> },
    Mail(u64, Result<Vec<u8>, String>),
    Service(DeviceId, u8, services::Prepared),
    Tick,
    Reachable(Vec<String>),
    ContentAddr(Vec<u8>),
}

impl Core {
    /// Decodes and checks what needs no order, in parallel. To wake another thread for a
    /// single input would take longer than the input.
    pub(super) fn prepare(&self, snapshot: &dyn Read, batch: Vec<Input>) -> Vec<Work> {
        let secrets = &self.mem.epochs;
        let quarantined = self.quarantined;
        let one = |input| {
            Some(match input {
                Input::Command { id, command } => Work::Command(id, command),
                Input::PeerUp { device } => Work::Up(device),
                Input::PeerDown { device } => Work::Down(device),
                Input::PeerFull { device } => Work::Full(device, true),
                Input::PeerDrained { device } => Work::Full(device, false),
                Input::MailReply { id, result } => Work::Mail(id, result),
                Input::Tick => Work::Tick,
                Input::Reachable { addrs } => Work::Reachable(addrs),
                Input::ContentAddr { addr } => Work::ContentAddr(addr),
                Input::Frame { device, bytes } => {
                    if quarantined && is_quarantined(snapshot, &bytes) {
                        return None;
                    }
                    // Bytes that are no frame are dropped: their sender is at fault.
                    let frame = codec::decode::<Frame>(&bytes).ok()?;
                    match frame {
                        Frame::Push(topic, letters) => Work::Letters {
                            from: device,
                            topic,
                            letters: prepare_letters(snapshot, secrets, topic, letters),
                            page: None,
                        },
                        Frame::Page { topic, letters, more } => Work::Letters {
                            from: device,
                            topic,
                            letters: prepare_letters(snapshot, secrets, topic, letters),
                            page: Some(more),
                        },
                        Frame::Service(number, bytes) => Work::Service(
                            device,
                            number,
                            services::prepare(snapshot, number, &bytes)?,
                        ),
                        other => Work::Frame(device, Box::new(other)),
                    }
                }
            })
        };
        if batch.len() == 1 {
            batch.into_iter().filter_map(one).collect()
        } else {
            batch.into_par_iter().filter_map(one).collect()
        }
    }
}

pub(super) fn is_quarantined(read: &dyn Read, bytes: &[u8]) -> bool {
    read.contains(&QUARANTINE, blake3::hash(bytes).as_bytes()).unwrap_or(false)
}

fn prepare_letters(
    read: &dyn Read,
    secrets: &letters::Secrets,
    topic: TopicId,
    list: codec::List<Letter, PAGE_LETTERS>,
) -> Vec<Prepared> {
    let one = |letter| {
        // A panic in a parser is the letter's fault: it is dropped like a malformed one.
        let prepared = catch_unwind(AssertUnwindSafe(|| letters::prepare(read, secrets, letter)));
        let prepared = prepared.ok()?.ok()?;
        // An envelope of one topic in a frame about another is a lie.
        (prepared.envelope.topic == topic).then_some(prepared)
    };
    let list = list.into_inner();
    if list.len() == 1 {
        list.into_iter().filter_map(one).collect()
    } else {
        list.into_par_iter().filter_map(one).collect()
    }
}
