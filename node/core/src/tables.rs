//! Every table of a device's database: name, key, value. Keys are order-preserving
//! composites ([`crate::store::Key`]); values are postcard unless said otherwise.
//!
//! *Truth* is what can't be derived again: logs, keys, acknowledgements. *Projections* are
//! caches over the logs, written only by `Feature::apply`; `rebuild` clears and replays them.

use serde::{Deserialize, Serialize};
use teahouse_protocols::ids::{AccountId, DeviceId, EnvelopeId, EpochId, Millis, RelayId, TopicId};
use teahouse_protocols::membership::TopicKind;

use crate::command::MessageId;
use crate::store::Key;
use crate::store::Table;

/// Declares tables, and `ALL` as the list of them.
macro_rules! tables {
    ($($(#[$doc:meta])* $kind:ident $name:ident = $s:literal;)*) => {
        $(
            $(#[$doc])*
            pub static $name: $crate::store::Table = $crate::store::Table::$kind($s);
        )*
        /// All of them.
        pub static ALL: &[&$crate::store::Table] = &[$(&$name),*];
    };
}
pub(crate) use tables;

/// Every table: the engine's and those of features that keep their own.
pub fn all() -> impl Iterator<Item = &'static Table> {
    ALL.iter().copied().chain(crate::features::tables())
}

tables! {
    /// `()` → [`Me`].
    truth ME = "me";
    /// account, record → signed account record (raw).
    truth ACCOUNT_RECORDS = "account_records";
    /// device → account. Every device ever named in an accepted log.
    truth DEVICE_ACCOUNT = "device_account";
    /// device → signed prekey bundle (raw).
    truth BUNDLES = "bundles";
    /// prekey id (8) → [`OwnPrekey`].
    truth OWN_PREKEYS = "own_prekeys";
    /// topic → [`Topic`].
    truth TOPICS = "topics";
    /// topic, op → signed membership record (raw).
    truth OPS = "ops";
    /// topic, op → when it came here (u64); none for what came with a welcome.
    truth OP_TIMES = "op_times";
    /// epoch → [`Epoch`].
    truth EPOCHS = "epochs";
    /// topic, order of arrival (u64), epoch → nothing.
    truth TOPIC_EPOCHS = "topic_epochs";
    /// epoch → devices that it was sealed to (list): made here, in a topic that has readers.
    truth SEALED_TO = "sealed_to";
    /// topic, device of a reader → nothing: this device welcomed it.
    truth READERS_TOLD = "readers_told";
    /// topic, device → the epoch made here since, if any (raw): removed from its account. Of a
    /// topic with readers also: topic, account → nothing, while an account that this device shut
    /// out may have the newest key.
    truth REKEY_DUE = "rekey_due";
    /// topic → epoch: made here in place of one that somebody has who may read no more;
    /// its readers were not told so yet.
    truth RENEWED = "renewed";
    /// topic, device, seq → [`LogRow`] (raw).
    truth LOG = "log";
    /// topic, device, seq, index (u8) → sealed body (raw); empty once its time was up.
    truth BODIES = "bodies";
    /// topic, device, seq, index (u8) → hash of a body that has not come; one byte longer once
    /// its author's device said that it has none.
    truth MISSING_BODIES = "missing_bodies";
    /// topic, epoch, device, seq → nothing: stored, but its key has not come.
    truth UNOPENED = "unopened";
    /// topic, device → [`Chain`].
    truth CHAINS = "chains";
    /// topic, device, segment → `teahouse_crdt::segment::Tip`.
    truth TIPS = "tips";
    /// topic → [`Segment`].
    truth SEGMENTS = "segments";
    /// topic, device, seq → [`Waiting`].
    truth WAITING = "waiting";
    /// topic, hash → an inbox item that came too early for its topic ([`Parked`]).
    truth PARKED = "parked";
    /// topic, device → [`Fork`].
    truth FORKS = "forks";
    /// topic, author device, acknowledging device → [`AckRow`].
    truth ACKS = "acks";
    /// topic → [`OwnCursor`].
    truth OWN_CURSORS = "own_cursors";
    /// topic, relay → [`Deposit`].
    truth DEPOSITS = "deposits";
    /// number (u64) → [`OutItem`]: sealed to one device, until it or a relay has it.
    truth OUTBOX = "outbox";
    /// relay → [`RelayRow`].
    truth RELAYS = "relays";
    /// relay → what its community is called (text), as it says.
    truth RELAY_NAMES = "relay_names";
    /// relay, token → nothing.
    truth TOKENS = "tokens";
    /// relay, tag → [`TagRow`].
    truth TAGS = "tags";
    /// hash of an input that panicked → when (u64).
    truth QUARANTINE = "quarantine";
    /// number (u64) → [`AlarmRow`].
    truth ALARMS = "alarms";
    /// account → [`Request`]: strangers who ask, and whom we asked.
    truth REQUESTS = "requests";
    /// account, account that asked → [`Greeting`]: what came with a request that was answered yes.
    truth GREETINGS = "greetings";
    /// message due to be erased: time (u64), topic, device, seq → nothing.
    truth EXPIRIES = "expiries";
    /// `()` → [`LinkingRow`].
    truth LINKING = "linking";

    /// topic, time, device, seq → [`MessageRow`].
    projection MESSAGES = "messages";
    /// topic, device, seq → display time (u64).
    projection MESSAGE_INDEX = "message_index";
    /// topic, device, seq of the target, reacting device, emoji (text) → [`Chosen`] of on.
    projection REACTIONS = "reactions";
    /// topic, device, seq of the target, recalling device → whether by right of office.
    projection RECALLS = "recalls";
    /// topic, field (u8) → [`Chosen`].
    projection FIELDS = "fields";
    /// topic, time, device, seq → [`ChangeRow`]: what was made of a chat's fields, one by one.
    projection CHANGES = "changes";
    /// topic, account → [`Chosen`] nickname.
    projection NICKNAMES = "nicknames";
    /// account → [`Chosen`] [`ContactValue`].
    projection CONTACTS = "contacts";
    /// topic → [`Chosen`] time.
    projection READ_MARKS = "read_marks";
    /// name (text) → [`Chosen`] bytes.
    projection SECRETS = "secrets";
    /// name (text) → [`Chosen`] bytes.
    projection SETTINGS = "settings";
    /// topic → [`Chosen`] text.
    projection DRAFTS = "drafts";
    /// feature (text), 0, id → [`Chosen`] bytes: what features keep about something.
    projection RECORDS = "records";
    /// topic → highest Lamport number seen (u64).
    projection LAMPORT = "lamport";
}

/// This device.
#[derive(Clone, Serialize, Deserialize)]
pub struct Me {
    /// The device key's seed.
    pub seed: [u8; 32],
    /// The account, once there is one.
    pub account: Option<AccountId>,
    /// The private topic.
    pub private: Option<TopicId>,
    /// Numbers alarms and outbox items.
    pub next: u64,
    /// Counter of the own prekey bundle.
    pub prekey_counter: u64,
    /// When the own prekey was made.
    pub prekey_made: Millis,
}

/// One of this device's prekeys.
#[derive(Clone, Serialize, Deserialize)]
pub struct OwnPrekey {
    /// X25519 private key.
    pub secret: [u8; 32],
    /// Seed of the inbox tag's key.
    pub inbox: [u8; 32],
    /// When it was made.
    pub made: Millis,
}

/// A topic that this device takes part in, or did.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Topic {
    /// Its kind.
    pub kind: TopicKind,
    /// When it came to be here.
    pub created: Millis,
    /// A direct chat's other account.
    pub peer: Option<AccountId>,
    /// A direct chat that was proposed and not accepted; or a request not yet answered.
    pub proposed: bool,
    /// Hidden: while `proposed`, a stranger's that was declined or pushed out; else superseded
    /// by an equal direct chat, and shown again when somebody writes in it.
    pub hidden: bool,
    /// Number of epochs known: orders [`TOPIC_EPOCHS`].
    pub epochs: u64,
}

/// An epoch whose secret is known here.
#[derive(Clone, Serialize, Deserialize)]
pub struct Epoch {
    /// Its topic.
    pub topic: TopicId,
    /// The signed head.
    pub head: Vec<u8>,
    /// The secret.
    pub secret: [u8; 32],
    /// When it came.
    pub received: Millis,
}

/// A chain as held here: everything in `low ..= high`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// Lowest sequence number held.
    pub low: u64,
    /// Highest held without a gap; `low - 1` for none.
    pub high: u64,
    /// The envelope at `high`.
    pub head: EnvelopeId,
    /// The last segment that the chain wrote to.
    pub segment: u32,
    /// The last envelope was stored unopened: the next change that opens starts anew from
    /// its own place, for what it builds on is not known here.
    pub loose: bool,
}

/// What was decided about a stored envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// It counts.
    Accepted = 0,
    /// Its author was no member, or was cut off: it doesn't count unless membership changes.
    Void = 1,
    /// A member signed it, but its content breaks the rules: it never counts.
    Garbage = 2,
    /// Made by a newer version.
    Unknown = 3,
    /// It counts for those who may read it; this account joined later and may not.
    Sealed = 4,
}

/// A stored envelope. Raw: received (u64, little endian) ‖ status (u8) ‖ envelope.
#[derive(Debug, Clone)]
pub struct LogRow {
    /// When it came here.
    pub received: Millis,
    /// What was decided.
    pub status: Status,
    /// The encoded envelope.
    pub envelope: Vec<u8>,
}

impl LogRow {
    /// To stored form.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut b = Vec::with_capacity(9 + self.envelope.len());
        b.extend_from_slice(&self.received.to_le_bytes());
        b.push(self.status as u8);
        b.extend_from_slice(&self.envelope);
        b
    }

    /// From stored form; `None` when damaged.
    #[must_use]
    pub fn from_bytes(b: &[u8]) -> Option<Self> {
        let (received, rest) = b.split_first_chunk::<8>()?;
        let (status, envelope) = rest.split_first()?;
        let status = match status {
            0 => Status::Accepted,
            1 => Status::Void,
            2 => Status::Garbage,
            3 => Status::Unknown,
            4 => Status::Sealed,
            _ => return None,
        };
        Some(Self { received: u64::from_le_bytes(*received), status, envelope: envelope.to_vec() })
    }
}

/// The newest segment of a topic, as far as accepted envelopes tell.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Segment {
    /// Its number.
    pub number: u32,
    /// Changes in it.
    pub changes: u64,
    /// Bytes of those changes.
    pub bytes: u64,
}

/// An envelope that can't be judged yet.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Waiting {
    /// When it came.
    pub received: Millis,
    /// What it waits for.
    pub on: WaitingOn,
    /// The encoded envelope.
    pub envelope: Vec<u8>,
    /// Sealed bodies that came with it.
    pub bodies: Vec<Vec<u8>>,
}

/// What an envelope waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WaitingOn {
    /// Its predecessor.
    Predecessor,
    /// Membership operations that it names.
    Operations,
    /// The secret of its epoch.
    Epoch(EpochId),
}

/// A key or an operation that can't be used yet: its topic, its author or what it builds on
/// is not known. Items of different senders overtake each other.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Parked {
    /// When it came.
    pub received: Millis,
    /// Who sent it.
    pub from: DeviceId,
    /// The item.
    pub item: teahouse_protocols::inbox::InboxItem,
}

/// Proof that a device signed two envelopes for one place.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Fork {
    /// The lowest sequence number with two envelopes.
    pub seq: u64,
    /// The envelope that is not in the log.
    pub other: Vec<u8>,
}

/// What a device acknowledged of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AckRow {
    /// The account of the acknowledging device.
    pub account: AccountId,
    /// Everything up to here.
    pub seq: u64,
    /// Read by a person up to here.
    pub read: u64,
}

/// What this device has acknowledged.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct OwnCursor {
    /// Counter of the last cursor.
    pub counter: u64,
    /// Published, by author device: (device, seq).
    pub published: Vec<(DeviceId, u64)>,
    /// Mailed, by author device.
    pub mailed: Vec<(DeviceId, u64)>,
}

/// How far the own chain of a topic is at a relay.
///
/// What *need not wait any longer* (`upto`) and what the relay *acknowledged* (`stored`) are
/// two things: a message that every device already has never goes to a relay, and no relay
/// may be said to hold it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deposit {
    /// Where depositing at this relay began: messages up to here are not meant for it.
    pub from: u64,
    /// Nothing up to here waits for this relay: it is stored there, or every device has it.
    pub upto: u64,
    /// Handed over up to here, in order: deposited, sealed to inboxes, or needed by nobody.
    pub handed: u64,
    /// Runs sealed to device inboxes that wait to leave; ascending, at most [`MAX_RUNS`].
    pub runs: Vec<Run>,
    /// What the relay acknowledged: first and last of each range, ascending, apart from each
    /// other, at most [`MAX_STORED`]. What was forgotten counts as not acknowledged.
    pub stored: Vec<(u64, u64)>,
}

/// A stretch of the own chain that was sealed to the devices that fetch at a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Its first message.
    pub first: u64,
    /// Its last.
    pub last: u64,
    /// Copies that neither the relay nor their device has yet.
    pub left: u32,
    /// Whether the relay stored a copy.
    pub relayed: bool,
}

/// Most runs of one topic that wait in the outbox for one relay.
pub const MAX_RUNS: usize = 64;
/// Most ranges kept of what one relay acknowledged.
pub const MAX_STORED: usize = 64;

impl Deposit {
    /// A relay to which nothing up to `floor` goes.
    #[must_use]
    pub const fn beginning(floor: u64) -> Self {
        Self { from: floor, upto: floor, handed: floor, runs: Vec::new(), stored: Vec::new() }
    }

    /// Whether the relay acknowledged this message.
    #[must_use]
    pub fn holds(&self, seq: u64) -> bool {
        self.stored.iter().any(|(first, last)| (*first..=*last).contains(&seq))
    }

    /// The relay acknowledged everything in `first ..= last`, left under the topic's tag.
    pub fn deposited(&mut self, first: u64, last: u64) {
        self.note_stored(first, last);
        self.handed = self.handed.max(last);
        self.settle();
    }

    /// `left` copies of `first ..= last` wait to leave.
    pub fn hand(&mut self, first: u64, last: u64, left: u32) {
        self.runs.push(Run { first, last, left, relayed: false });
        self.handed = self.handed.max(last);
        self.settle();
    }

    /// A copy of the run that ends at `last` is at the relay, or at its device, or gone.
    pub fn copy_settled(&mut self, last: u64, at_relay: bool) {
        let Some(at) = self.runs.iter().position(|r| r.last == last) else { return };
        let run = &mut self.runs[at];
        run.left = run.left.saturating_sub(1);
        run.relayed |= at_relay;
        if run.left == 0 {
            let run = self.runs.remove(at);
            if run.relayed {
                self.note_stored(run.first, run.last);
            }
        }
        self.settle();
    }

    /// Every device has everything up to `floor`: it is no relay's business any more.
    pub fn skip(&mut self, floor: u64) {
        if floor <= self.upto {
            return;
        }
        if self.from == self.handed {
            self.from = floor;
        }
        self.handed = self.handed.max(floor);
        let done: Vec<Run> = self.runs.iter().filter(|r| r.last <= floor).copied().collect();
        self.runs.retain(|r| r.last > floor);
        for run in done {
            if run.relayed {
                self.note_stored(run.first, run.last);
            }
        }
        self.upto = floor;
        self.settle();
    }

    fn settle(&mut self) {
        let done = self.runs.first().map_or(self.handed, |r| r.first.saturating_sub(1));
        self.upto = self.upto.max(done);
    }

    fn note_stored(&mut self, first: u64, last: u64) {
        if first > last {
            return;
        }
        let (mut first, mut last) = (first, last);
        self.stored.retain(|(a, b)| {
            let apart = *b + 1 < first || last + 1 < *a;
            if !apart {
                first = first.min(*a);
                last = last.max(*b);
            }
            apart
        });
        let at = self.stored.partition_point(|(a, _)| *a < first);
        self.stored.insert(at, (first, last));
        if self.stored.len() > MAX_STORED {
            self.stored.remove(0);
        }
    }
}

/// Something sealed to one device.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OutItem {
    /// The device; `None` for a contact request, which goes to a card's tag.
    pub device: Option<DeviceId>,
    /// The mailbox tag.
    pub tag: teahouse_protocols::ids::Tag,
    /// Invite secret, for a card's tag.
    pub secret: Option<[u8; 16]>,
    /// Sealed bytes.
    pub sealed: Vec<u8>,
    /// Relays that are still to store it.
    pub relays: Vec<teahouse_protocols::account::RelayAddr>,
    /// When it was made.
    pub made: Millis,
    /// When it is a run of envelopes: (topic, relay, upto) that it stands for.
    pub run: Option<(TopicId, RelayId, u64)>,
}

/// A relay known here, as one's own or a contact's.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RelayRow {
    /// The code to be admitted with, until it is.
    pub code: Option<[u8; 16]>,
    /// When it last answered.
    pub last_answer: Option<Millis>,
    /// What is wrong; empty when nothing.
    pub trouble: String,
    /// When tags were last fetched completely.
    pub fetched: Millis,
}

/// A tag that this device reads at a relay.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TagRow {
    /// Where its key comes from.
    pub source: TagSource,
    /// Highest index held.
    pub after: u64,
    /// Whether this device asked the relay to open it, and it is.
    pub open: bool,
    /// When it came to be wanted.
    pub since: Millis,
    /// When it was last read to its end; 0 for never. Noted once an hour.
    pub read: Millis,
}

/// Where a tag's key comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TagSource {
    /// This device's inbox, of the prekey with this id.
    Inbox([u8; 8]),
    /// The account's contact card.
    Card,
    /// A topic's epoch in a week.
    Topic(EpochId, u32),
}

/// Something a person should know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AlarmRow {
    /// When.
    pub time: Millis,
    /// What.
    pub text: String,
}

/// A request for contact, either way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    /// True when they asked.
    pub incoming: bool,
    /// Their name.
    pub name: String,
    /// The greeting.
    pub greeting: String,
    /// When.
    pub time: Millis,
    /// The direct chat that was proposed.
    pub topic: TopicId,
    /// Declined here: not shown again.
    pub declined: bool,
    /// They came with a secret that this account had handed out.
    pub invited: bool,
}

/// What somebody said when they asked for contact.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Greeting {
    /// When.
    pub time: Millis,
    /// What.
    pub text: String,
}

/// A device linking under way, for the screen.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LinkingRow(pub crate::view::Linking);

/// A message as the list shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageRow {
    /// The author.
    pub account: AccountId,
    /// The text; `None` while its body is missing.
    pub text: Option<String>,
    /// Position of the body in the envelope.
    pub body: u8,
    /// Bodies from there on that are its own: photos have previews.
    pub bodies: u8,
    /// What it answers.
    pub reply_to: Option<MessageId>,
    /// Who is mentioned.
    pub mentions: Vec<AccountId>,
    /// Sent on from elsewhere.
    pub forwarded: bool,
    /// When it disappears.
    pub expires: Option<Millis>,
    /// Its time was up: text and body are gone.
    pub expired: bool,
    /// Content of a newer version.
    pub unknown: bool,
}

/// A shared field's value and what it was chosen by (`features::rank`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chosen<T> {
    /// Lamport number.
    pub lamport: u64,
    /// Who wrote it.
    pub device: DeviceId,
    /// In which of its envelopes.
    pub seq: u64,
    /// The value.
    pub value: T,
}

/// Shared fields of a chat, as keyed in [`FIELDS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Field {
    /// The group's title.
    Title = 0,
    /// The group's notice.
    Notice = 1,
    /// Seconds until new messages disappear, as decimal text.
    Timer = 2,
}

/// A field of a chat was set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeRow {
    /// By whom.
    pub account: AccountId,
    /// The field's number ([`Field`]).
    pub field: u8,
    /// To what.
    pub text: String,
}

/// What one's own devices keep about a contact.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContactValue {
    /// Both agreed.
    pub friend: bool,
    /// Blocked.
    pub blocked: bool,
    /// The safety number was compared.
    pub verified: bool,
    /// Own name for them; empty for theirs.
    pub remark: String,
    /// The direct chat.
    pub topic: Option<TopicId>,
    /// When it changed; of who is blocked, since when.
    pub time: Millis,
}

/// topic, device.
pub(crate) fn chain_key(topic: TopicId, device: DeviceId) -> Vec<u8> {
    Key::new().fixed(&topic.0).fixed(&device.0).into_bytes()
}

/// topic, device, seq.
pub(crate) fn log_key(topic: TopicId, device: DeviceId, seq: u64) -> Vec<u8> {
    Key::new().fixed(&topic.0).fixed(&device.0).u64(seq).into_bytes()
}

/// topic, device, seq, index.
pub(crate) fn body_key(topic: TopicId, device: DeviceId, seq: u64, index: u8) -> Vec<u8> {
    Key::new().fixed(&topic.0).fixed(&device.0).u64(seq).u8(index).into_bytes()
}

/// topic, time, device, seq.
pub(crate) fn message_key(topic: TopicId, time: Millis, id: MessageId) -> Vec<u8> {
    Key::new().fixed(&topic.0).u64(time).fixed(&id.device.0).u64(id.seq).into_bytes()
}

/// feature, 0, id: what a feature keeps about something ([`RECORDS`]).
pub(crate) fn record_key(feature: &str, id: &[u8; 32]) -> Vec<u8> {
    Key::new().text(feature).fixed(id).into_bytes()
}

/// Two 32-byte ids.
pub(crate) fn pair_key(a: &[u8; 32], b: &[u8; 32]) -> Vec<u8> {
    Key::new().fixed(a).fixed(b).into_bytes()
}

#[cfg(test)]
mod tests;
