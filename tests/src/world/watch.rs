//! What the network itself sees: what was said and deposited, and what must not be sent.

use teahouse_core::Outputs;
use teahouse_core::command::MessageId;
use teahouse_core::store::Snapshot;
use teahouse_protocols::codec;
use teahouse_protocols::epoch::EpochHead;
use teahouse_protocols::ids::{Millis, Tag, TopicId};
use teahouse_protocols::mailbox::{Request as MailRequest, Right};
use teahouse_protocols::sign::Signed;
use teahouse_protocols::sync::Frame;

use super::{Audience, World};

/// A message that was acknowledged to the person who wrote it.
#[derive(Debug, Clone)]
pub struct Said {
    /// The author's device.
    pub device: usize,
    /// The command's number.
    pub command: u64,
    /// The chat.
    pub topic: TopicId,
    /// The message.
    pub message: MessageId,
    /// Who was in, as its author's device knew it before or after the step.
    pub audience: Audience,
    /// When.
    pub at: Millis,
}

/// A deposit that a relay acknowledged, as the network saw it.
#[derive(Debug, Clone)]
pub struct Deposited {
    /// The relay.
    pub relay: usize,
    /// The device that deposited.
    pub device: usize,
    /// Where to.
    pub tag: Tag,
    /// The items' bytes.
    pub items: Vec<Vec<u8>>,
    /// The device's clock when it asked: it chose the tag's week.
    pub clock: Millis,
    /// When the relay acknowledged.
    pub at: Millis,
}

impl World {
    /// What a relay is about to see; remembers deposits.
    pub(super) fn look_at(&mut self, bytes: &[u8]) -> Option<(Tag, Vec<Vec<u8>>)> {
        if !self.watch {
            return None;
        }
        if !self.marker.is_empty() && contains(bytes, &self.marker) {
            self.broken.push("a request to a relay shows a message's text".into());
        }
        match codec::decode::<MailRequest>(bytes) {
            // What goes to a card is no message.
            Ok(MailRequest::Deposit { tag, items, right })
                if !matches!(right, Right::Invite(_)) =>
            {
                Some((tag, items.iter().map(|i| i.bytes.to_vec()).collect()))
            }
            _ => None,
        }
    }

    /// Whoever was removed is sent nothing of the topic but the removal.
    pub(super) fn check_suspects(&mut self, from: usize, before: &Snapshot, outputs: &Outputs) {
        for (to, bytes) in &outputs.frames {
            let known = self.devices.iter().position(|d| d.id == *to);
            if !known.is_some_and(|to| self.suspects.contains(&to)) {
                continue;
            }
            let topics: Vec<TopicId> = match codec::decode::<Frame>(bytes) {
                Ok(Frame::Page { topic, letters, .. }) if !letters.is_empty() => vec![topic],
                Ok(Frame::Push(topic, _)) => vec![topic],
                // An empty frontier is a question: it tells nothing.
                Ok(Frame::Frontier { topic, ops, chains, .. })
                    if !ops.is_empty() || !chains.is_empty() =>
                {
                    vec![topic]
                }
                Ok(Frame::Keys(parcels)) => parcels
                    .iter()
                    .filter_map(|p| Signed::<EpochHead>::from_bytes(&p.head).ok())
                    .map(|h| h.get().topic)
                    .collect(),
                Ok(Frame::Digests { topics, .. }) => topics.iter().map(|d| d.topic).collect(),
                _ => continue,
            };
            for topic in topics {
                let mut audience = Audience::of(before, topic);
                audience.extend(&Audience::of(&self.snapshot(from), topic));
                if audience.out.contains(to) {
                    self.broken.push(format!(
                        "device {from} sent a device something of a topic that it knew it out of"
                    ));
                }
            }
        }
    }
}

fn contains(hay: &[u8], needle: &[u8]) -> bool {
    hay.windows(needle.len()).any(|w| w == needle)
}
