//! What the simulator itself knows, independently of what any core claims: messages and what
//! lies at relays here, [`moments`] beside.

pub mod moments;

use std::collections::{BTreeMap, BTreeSet};

use teahouse_core::command::MessageId;
use teahouse_core::store::{KeyRange, ReadExt};
use teahouse_core::tables::{EPOCHS, Epoch, OWN_PREKEYS, OwnPrekey};
use teahouse_protocols::envelope::{Envelope, sealed_hash};
use teahouse_protocols::epoch::{EpochSecret, week_of};
use teahouse_protocols::ids::{
    AccountId, DeviceId, EnvelopeId, EpochId, Millis, SealedHash, Tag, TopicId,
};
use teahouse_protocols::inbox::{InboxItem, message_prekey, open_message};
use teahouse_protocols::mailbox::{TopicMail, open_topic_mail};
use teahouse_protocols::seal::OpeningKey;

use crate::world::{Deposited, World};

pub use self::moments::{Comment, Moments, Post};

/// Every message's text begins with this, so that it can be found wherever it leaks to.
pub const MARK: &str = "~tea:";

/// A message that its author was told is durable.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its number, which stands in the text.
    pub number: u64,
    /// The chat.
    pub topic: TopicId,
    /// Its name.
    pub id: MessageId,
    /// The author's device.
    pub device: usize,
    /// Who was to get it.
    pub accounts: BTreeSet<AccountId>,
    /// Devices that had been in, and were known to be out: they must never open it.
    pub former: BTreeSet<usize>,
    /// Whether its author had turned hostile, or was a hostile person's device.
    pub hostile: bool,
    /// A forward, whose text stands elsewhere, too.
    pub forward: bool,
}

/// A message's place.
pub type MessageAt = (TopicId, DeviceId, u64);
/// An item's place, and when it was acknowledged.
pub type ItemAt = (Tag, SealedHash, Millis);

/// What lies at a relay: the messages in each item.
#[derive(Debug, Default)]
pub struct Mailroom {
    /// (relay, tag, hash of the bytes) → messages in it, and when it was acknowledged.
    pub items: BTreeMap<(usize, Tag, SealedHash), (Millis, Vec<MessageAt>)>,
    /// (relay, message) → (tag, hash, when) of the items that hold it.
    pub places: BTreeMap<(usize, TopicId, DeviceId, u64), Vec<ItemAt>>,
    /// Deposits under keys that were not seen: of devices, or for devices, that were down.
    pub unresolved: Vec<Deposited>,
    tags: BTreeMap<Tag, (EpochId, [u8; 32])>,
    known: BTreeSet<(EpochId, u32)>,
    prekeys: BTreeMap<[u8; 8], (DeviceId, [u8; 32])>,
}

impl Mailroom {
    /// Notes an acknowledged deposit.
    pub fn note(&mut self, world: &World, deposit: &Deposited) {
        let now = deposit.at;
        self.learn_tags(world, deposit);
        self.learn_prekeys(world, deposit);
        let opens =
            |b: &Vec<u8>| message_prekey(b).is_some_and(|id| self.prekeys.contains_key(&id));
        if !self.tags.contains_key(&deposit.tag) && !deposit.items.iter().all(opens) {
            self.unresolved.push(deposit.clone());
            return;
        }
        for bytes in &deposit.items {
            let hash = sealed_hash(bytes);
            let key = (deposit.relay, deposit.tag, hash);
            if let Some((time, _)) = self.items.get_mut(&key) {
                // The same bytes once more: one item, as old as it was, unless it had expired.
                if *time + EXPIRED > now {
                    continue;
                }
                *time = now;
            }
            let messages = self.messages(deposit, bytes);
            for (topic, device, seq) in &messages {
                self.places.entry((deposit.relay, *topic, *device, *seq)).or_default().push((
                    deposit.tag,
                    hash,
                    now,
                ));
            }
            self.items.insert(key, (now, messages));
        }
    }

    fn messages(&self, deposit: &Deposited, bytes: &[u8]) -> Vec<(TopicId, DeviceId, u64)> {
        let place =
            |bytes: &[u8]| Envelope::from_bytes(bytes).ok().map(|e| (e.topic, e.device, e.seq));
        if let Some((_, secret)) = self.tags.get(&deposit.tag) {
            let secret = EpochSecret::from_bytes(*secret);
            return match open_topic_mail(bytes, &secret, deposit.tag) {
                Ok(TopicMail::Envelope(bytes)) => place(&bytes).into_iter().collect(),
                _ => Vec::new(),
            };
        }
        let Some(id) = message_prekey(bytes) else { return Vec::new() };
        let Some((device, secret)) = self.prekeys.get(&id) else { return Vec::new() };
        let key = OpeningKey::from_bytes(*secret);
        let Ok(message) = open_message(bytes, *device, &key) else { return Vec::new() };
        let mut out = Vec::new();
        for item in &message.get().items {
            if let InboxItem::Letters(list) = item {
                out.extend(list.iter().filter_map(|l| place(&l.envelope)));
            }
        }
        out
    }

    /// Tags of the week that the device believed in when it asked, and of those beside it.
    fn learn_tags(&mut self, world: &World, deposit: &Deposited) {
        if self.tags.contains_key(&deposit.tag) || world.devices[deposit.device].core.is_none() {
            return;
        }
        let s = world.snapshot(deposit.device);
        let week = week_of(deposit.clock);
        let rows: Vec<(Vec<u8>, Epoch)> =
            s.scan_typed(&EPOCHS, &KeyRange::all(), false, 65_536).expect("reads");
        for (key, row) in rows {
            let Ok(id) = <[u8; 32]>::try_from(key) else { continue };
            for week in week.saturating_sub(1)..=week + 1 {
                if self.known.insert((EpochId(id), week)) {
                    let tag = EpochSecret::from_bytes(row.secret).tag(week);
                    self.tags.insert(tag, (EpochId(id), row.secret));
                }
            }
        }
    }

    fn learn_prekeys(&mut self, world: &World, deposit: &Deposited) {
        let mut ids = deposit.items.iter().filter_map(|b| message_prekey(b));
        if self.tags.contains_key(&deposit.tag) || ids.all(|id| self.prekeys.contains_key(&id)) {
            return;
        }
        for (i, device) in world.devices.iter().enumerate().filter(|(_, d)| d.core.is_some()) {
            let rows: Vec<(Vec<u8>, OwnPrekey)> = world
                .snapshot(i)
                .scan_typed(&OWN_PREKEYS, &KeyRange::all(), false, 256)
                .expect("reads");
            for (key, row) in rows {
                if let Ok(id) = <[u8; 8]>::try_from(key) {
                    self.prekeys.insert(id, (device.id, row.secret));
                }
            }
        }
    }
}

/// Age beyond which a relay may have let an item go, with a margin for sweeping.
pub const EXPIRED: Millis = 29 * 24 * 3600 * 1000;

/// Numbers of all messages whose text stands in some bytes.
pub fn numbers_in(bytes: &[u8], out: &mut BTreeSet<u64>) {
    let mark = MARK.as_bytes();
    let mut rest = bytes;
    while let Some(at) = rest.windows(mark.len()).position(|w| w == mark) {
        rest = &rest[at + mark.len()..];
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        if rest.get(digits) == Some(&b'~')
            && let Ok(text) = std::str::from_utf8(&rest[..digits])
            && let Ok(number) = text.parse()
        {
            out.insert(number);
        }
    }
}

/// A chain's head as the town remembers it for a hostile device.
#[derive(Debug, Clone, Copy)]
pub struct Branch {
    /// The last sequence number.
    pub seq: u64,
    /// Its envelope.
    pub head: EnvelopeId,
}
