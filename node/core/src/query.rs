//! Queries: from rows to what is shown. They read a snapshot and never wait for the core.

pub mod asked;
mod events;
mod names;
mod waiting;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use serde::Serialize;
use serde::de::DeserializeOwned;
use teahouse_protocols::account::AccountLog;
use teahouse_protocols::ids::{AccountId, DeviceId, Millis, TopicId};
use teahouse_protocols::membership::TopicKind;
use teahouse_protocols::safety::SafetyNumber;
use teahouse_protocols::sign::SigningKey;

use crate::command::MessageId;
use crate::engine::letters::log_row;
use crate::engine::{accounts, cursors, topics};
use crate::features::chat::{field_key, is_emoji, recalled};
use crate::features::photos;
use crate::store::{ChangeSet, Key, KeyRange, KeyReader, Read, ReadExt, StorageError, Table};
use crate::tables::{
    ALARMS, AlarmRow, CHAINS, CONTACTS, Chain, Chosen, ContactValue, DRAFTS, FIELDS, Field,
    LINKING, LinkingRow, ME, MESSAGES, Me, MessageRow, NICKNAMES, REACTIONS, READ_MARKS,
    RELAY_NAMES, RELAYS, REQUESTS, RelayRow, Request, SETTINGS, TAGS, TOKENS, TOPICS, TagRow,
    Topic, message_key,
};
use crate::tx::TopicState;
use crate::view;

pub(crate) use names::Names;

pub(crate) use asked::Asked;
pub use events::events;
pub use waiting::{NOT_REACHED, NOT_TAKEN, relay_trouble, waiting, waiting_here};

type Result<T> = std::result::Result<T, StorageError>;

/// A question to a node's tables. The window, the API and the command line ask the same ones;
/// whoever watches asks again when a batch touched what it [reads](Query::READS).
pub trait Query: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The answer: plain values.
    type Out: Serialize + DeserializeOwned + Clone + PartialEq + Send + 'static;
    /// `feature.question`, as the API calls it.
    const NAME: &'static str;
    /// What it answers and which fields it has, in a sentence for the API's description.
    const ABOUT: &'static str;
    /// Tables that the answer depends on.
    const READS: &'static [&'static Table];

    /// Reads the answer from one snapshot.
    fn run(&self, s: &dyn Read) -> Result<Self::Out>;

    /// Whether the answer may differ after these changes.
    fn depends(changes: &ChangeSet) -> bool {
        Self::READS.iter().any(|t| changes.touches(t))
    }
}

/// Unread messages are counted no further: what is shown is "99+".
pub const MAX_UNREAD: u64 = 100;
/// Messages looked at for that, one's own among them.
const MAX_LOOKED_AT: u64 = 1_000;

/// Who this device is.
pub fn identity(s: &dyn Read) -> Result<view::Identity> {
    let me = me(s)?;
    let device = this_device(s)?;
    let log = match me.account {
        Some(account) => accounts::load(s, account)?,
        None => None,
    };
    let state = log.as_ref().map(AccountLog::state);
    Ok(view::Identity {
        account: me.account,
        name: state.map(|s| s.name.to_string()).unwrap_or_default(),
        device,
        revoked: state.is_some_and(|s| !s.is_active(&device)),
        disputed: state.is_some_and(|s| s.disputed),
    })
}

pub(crate) fn me(s: &dyn Read) -> Result<Me> {
    s.get_typed(&ME, b"")?.ok_or_else(|| StorageError::corrupt(ME.name, "no device key"))
}

/// The chat list, newest first.
pub fn chats(s: &dyn Read) -> Result<Vec<view::Chat>> {
    let mut out = Vec::new();
    each_chat(s, &mut Names::new(s), &mut |_, chat, _| {
        out.push(chat);
        Ok(())
    })?;
    out.sort_by(|a, b| b.time.cmp(&a.time).then(a.topic.cmp(&b.topic)));
    Ok(out)
}

/// Every chat that is shown, with its membership: loading that verifies and evaluates it,
/// so it is done once.
fn each_chat(
    s: &dyn Read,
    names: &mut Names<'_>,
    f: &mut dyn FnMut(&mut Names<'_>, view::Chat, &TopicState) -> Result<()>,
) -> Result<()> {
    let Some(account) = me(s)?.account else { return Ok(()) };
    let rows: Vec<(Vec<u8>, Topic)> = s.scan_typed(&TOPICS, &KeyRange::all(), false, 65_536)?;
    for (key, row) in rows {
        let Ok(id) = <[u8; 32]>::try_from(key.as_slice()) else { continue };
        if row.hidden || !row.kind.is_chat() {
            continue;
        }
        let Some(state) = topics::load(s, TopicId(id))? else { continue };
        if let Some(chat) = chat_line(s, account, names, TopicId(id), &row, &state)? {
            f(names, chat, &state)?;
        }
    }
    Ok(())
}

/// One line of the chat list.
pub fn chat(s: &dyn Read, topic: TopicId) -> Result<Option<view::Chat>> {
    let Some(row) = s.get_typed::<Topic>(&TOPICS, &topic.0)? else { return Ok(None) };
    if !row.kind.is_chat() {
        return Ok(None);
    }
    let Some(account) = me(s)?.account else { return Ok(None) };
    let Some(state) = topics::load(s, topic)? else { return Ok(None) };
    chat_line(s, account, &mut Names::new(s), topic, &row, &state)
}

fn chat_line(
    s: &dyn Read,
    account: AccountId,
    names: &mut Names<'_>,
    topic: TopicId,
    row: &Topic,
    state: &TopicState,
) -> Result<Option<view::Chat>> {
    let request: Option<Request> = match row.peer {
        Some(peer) => s.get_typed(&REQUESTS, &peer.0)?,
        None => None,
    };
    // A stranger's proposal is a request, not yet a chat.
    if row.proposed && request.as_ref().is_some_and(|r| r.incoming && r.topic == topic) {
        return Ok(None);
    }
    let field = |f: Field| -> Result<String> {
        let row: Option<Chosen<String>> = s.get_typed(&FIELDS, &field_key(topic, f))?;
        Ok(row.map(|r| r.value).unwrap_or_default())
    };
    let title = match row.peer {
        Some(peer) => {
            let name = names.of(peer)?;
            match &request {
                Some(r) if name.len() == 8 && !r.name.is_empty() => r.name.clone(),
                _ => name,
            }
        }
        None => {
            let title = field(Field::Title)?;
            if title.is_empty() { "group".to_owned() } else { title }
        }
    };
    let blocked = blocked_since(s, row.peer)?;
    let mut line = Line { time: row.created, ..Line::default() };
    if blocked.is_some() {
        // As far as it is shown.
        line.time = messages(s, topic, None, 1)?.last().map_or(row.created, |m| m.time);
    } else if let Some((key, value)) = s.last(&MESSAGES, &topic.0)? {
        let (at, id) = message_place(&key)?;
        let message: MessageRow = crate::store::decode(&MESSAGES, &value)?;
        line = last_line(s, names, (account, topic), (at, id), &message)?;
    }
    let unread = if blocked.is_some() { 0 } else { unread(s, account, topic)? };
    let draft: Option<Chosen<String>> = s.get_typed(&DRAFTS, &topic.0)?;
    let active = state.now().members.contains_key(&account);
    Ok(Some(view::Chat {
        topic,
        kind: if row.peer.is_some() { view::ChatKind::Direct } else { view::ChatKind::Group },
        title,
        peer: row.peer,
        state: match (active, row.proposed) {
            _ if blocked.is_some() => view::ChatState::Blocked,
            (false, _) => view::ChatState::Left,
            (true, true) => view::ChatState::Requested,
            (true, false) => view::ChatState::Active,
        },
        preview: line.text,
        preview_by: line.by,
        delivery: line.delivery,
        time: line.time,
        hidden: unread == 0 && hidden_upto(s, topic)?.is_some_and(|upto| line.time <= upto),
        unread,
        draft: draft.map(|d| d.value).unwrap_or_default(),
        notice: if row.peer.is_some() { String::new() } else { field(Field::Notice)? },
        timer: field(Field::Timer)?.parse().unwrap_or(0),
        members: state.now().members.len() as u32,
    }))
}

/// What the chat list tells of the latest message.
#[derive(Default)]
struct Line {
    time: Millis,
    text: String,
    by: String,
    delivery: Option<view::Delivery>,
}

fn last_line(
    s: &dyn Read,
    names: &mut Names<'_>,
    (me, topic): (AccountId, TopicId),
    (time, id): (Millis, MessageId),
    row: &MessageRow,
) -> Result<Line> {
    let content = content(s, topic, id, row)?;
    let recalled = matches!(content, view::Content::Recalled | view::Content::Hidden);
    let text = match content {
        view::Content::Text(text) if row.bodies > 1 => {
            format!("[photo] {}", text.lines().next().unwrap_or_default()).trim_end().to_owned()
        }
        view::Content::Text(text) => text.lines().next().unwrap_or_default().to_owned(),
        view::Content::Recalled | view::Content::Hidden => "message taken back".to_owned(),
        view::Content::Expired => "message disappeared".to_owned(),
        view::Content::Pending => "…".to_owned(),
        view::Content::Unknown => "update to read".to_owned(),
    };
    if row.account != me {
        let by = names.in_topic(topic, row.account)?;
        return Ok(Line { time, text, by, delivery: None });
    }
    if recalled {
        return Ok(Line { time, text, ..Line::default() });
    }
    let proofs = cursors::Proofs::load(s, topic, me, this_device(s)?)?;
    let delivery = proofs.map(|mut p| p.delivery(s, id.device, id.seq)).transpose()?;
    Ok(Line { time, text, by: String::new(), delivery })
}

pub(crate) fn this_device(s: &dyn Read) -> Result<DeviceId> {
    Ok(DeviceId(SigningKey::from_bytes(&me(s)?.seed).verifying_key().to_bytes()))
}

/// Since when the other person of a direct chat is blocked, if it is.
fn blocked_since(s: &dyn Read, peer: Option<AccountId>) -> Result<Option<Millis>> {
    let Some(peer) = peer else { return Ok(None) };
    let contact: Option<Chosen<ContactValue>> = s.get_typed(&CONTACTS, &peer.0)?;
    Ok(contact.filter(|c| c.value.blocked).map(|c| c.value.time))
}

/// Up to when a chat is off the list.
fn hidden_upto(s: &dyn Read, topic: TopicId) -> Result<Option<Millis>> {
    let name = crate::features::chat::hidden_name(topic);
    let row: Option<Chosen<Vec<u8>>> = s.get_typed(&SETTINGS, name.as_bytes())?;
    Ok(row.and_then(|r| Some(Millis::from_le_bytes(r.value.try_into().ok()?))))
}

fn unread(s: &dyn Read, me: AccountId, topic: TopicId) -> Result<u64> {
    let mark: Option<Chosen<u64>> = s.get_typed(&READ_MARKS, &topic.0)?;
    let from = mark.map_or(0, |m| m.value.saturating_add(1));
    let start = Key::new().fixed(&topic.0).u64(from).into_bytes();
    let range = KeyRange::prefix(&topic.0).starting_at(&start);
    let (mut n, mut looked_at, mut damaged) = (0, 0, None);
    s.visit(&MESSAGES, &range, true, &mut |_, value| {
        match crate::store::decode::<MessageRow>(&MESSAGES, value) {
            Ok(row) => n += u64::from(row.account != me),
            Err(e) => damaged = Some(e),
        }
        looked_at += 1;
        if n >= MAX_UNREAD || looked_at >= MAX_LOOKED_AT || damaged.is_some() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    damaged.map_or(Ok(n), Err)
}

fn message_place(key: &[u8]) -> Result<(Millis, MessageId)> {
    let mut reader = KeyReader::new(&MESSAGES, key);
    let _: [u8; 32] = reader.fixed()?;
    let time = reader.u64()?;
    let id = MessageId { device: DeviceId(reader.fixed()?), seq: reader.u64()? };
    Ok((time, id))
}

fn content(s: &dyn Read, topic: TopicId, id: MessageId, row: &MessageRow) -> Result<view::Content> {
    if row.unknown {
        return Ok(view::Content::Unknown);
    }
    if let Some(own) = recalled(s, topic, id, row.account)? {
        return Ok(if own { view::Content::Recalled } else { view::Content::Hidden });
    }
    if row.expired {
        return Ok(view::Content::Expired);
    }
    Ok(row.text.clone().map_or(view::Content::Pending, view::Content::Text))
}

/// The newest `limit` messages before a place (or of all), oldest first.
pub fn messages(
    s: &dyn Read,
    topic: TopicId,
    before: Option<(Millis, MessageId)>,
    limit: usize,
) -> Result<Vec<view::Message>> {
    let limit = limit.min(10_000);
    let mut before = before.map(|(time, id)| message_key(topic, time, id));
    let mut shown = Shown::new(s, topic)?;
    let mut out = Vec::new();
    // What a blocked contact wrote takes no place: the next rows are read instead.
    while out.len() < limit {
        let mut range = KeyRange::prefix(&topic.0);
        if let Some(key) = &before {
            range = range.before(key);
        }
        let want = limit - out.len();
        let rows = s.scan(&MESSAGES, &range, true, want)?;
        let end = rows.len() < want;
        before = rows.last().map(|(key, _)| key.clone());
        for (key, value) in rows {
            let (time, id) = message_place(&key)?;
            let row: MessageRow = crate::store::decode(&MESSAGES, &value)?;
            out.extend(shown.message(time, id, row)?);
        }
        if end {
            break;
        }
    }
    out.reverse();
    Ok(out)
}

/// One message.
pub fn message(s: &dyn Read, topic: TopicId, id: MessageId) -> Result<Option<view::Message>> {
    let Some((time, row)) = crate::features::chat::find(s, topic, id)? else { return Ok(None) };
    Shown::new(s, topic)?.message(time, id, row)
}

/// What deliveries of one topic are judged by: loading it evaluates the topic's membership.
enum Proofs {
    NotAsked,
    None,
    Some(Box<cursors::Proofs>),
}

/// What messages of one topic are shown with.
struct Shown<'s> {
    s: &'s dyn Read,
    topic: TopicId,
    me: Me,
    /// Loaded for the first message of one's own.
    proofs: Proofs,
    names: Names<'s>,
    /// Since when the other person of a direct chat is blocked.
    blocked: Option<Millis>,
}

impl<'s> Shown<'s> {
    fn new(s: &'s dyn Read, topic: TopicId) -> Result<Self> {
        let me = me(s)?;
        let peer = s.get_typed::<Topic>(&TOPICS, &topic.0)?.and_then(|t| t.peer);
        let blocked = blocked_since(s, peer)?;
        Ok(Self { s, topic, me, proofs: Proofs::NotAsked, names: Names::new(s), blocked })
    }

    /// What is proved about a message of one's own.
    fn delivery(&mut self, id: MessageId) -> Result<Option<view::Delivery>> {
        if matches!(self.proofs, Proofs::NotAsked) {
            let loaded = match self.me.account {
                Some(account) => {
                    let device = this_device(self.s)?;
                    cursors::Proofs::load(self.s, self.topic, account, device)?
                }
                None => None,
            };
            self.proofs = loaded.map_or(Proofs::None, |proofs| Proofs::Some(Box::new(proofs)));
        }
        match &mut self.proofs {
            Proofs::Some(proofs) => Ok(Some(proofs.delivery(self.s, id.device, id.seq)?)),
            Proofs::NotAsked | Proofs::None => Ok(None),
        }
    }

    /// `None` for what is not shown: it came from a contact who was blocked by then.
    fn message(
        &mut self,
        time: Millis,
        id: MessageId,
        row: MessageRow,
    ) -> Result<Option<view::Message>> {
        let mine = Some(row.account) == self.me.account;
        if let Some(since) = self.blocked.filter(|_| !mine) {
            let came = log_row(self.s, self.topic, id.device, id.seq)?.map(|r| r.received);
            if came.is_none_or(|came| came >= since) {
                return Ok(None);
            }
        }
        let content = content(self.s, self.topic, id, &row)?;
        let mut reactions = reactions(self.s, self.topic, id)?;
        if self.blocked.is_some() {
            // In a chat of two, only one's own are left.
            for (_, by) in &mut reactions {
                by.retain(|a| Some(*a) == self.me.account);
            }
            reactions.retain(|(_, by)| !by.is_empty());
        }
        // Of what was taken back, it is not known who has heard of it.
        let recalled = matches!(content, view::Content::Recalled | view::Content::Hidden);
        let delivery = if mine && !recalled { self.delivery(id)? } else { None };
        Ok(Some(view::Message {
            topic: self.topic,
            id,
            author: row.account,
            author_name: self.names.in_topic(self.topic, row.account)?,
            mine,
            time,
            photos: if row.bodies > 1 && matches!(content, view::Content::Text(_)) {
                photos::shown(self.s, self.topic, id)?
            } else {
                Vec::new()
            },
            content,
            reply_to: row.reply_to,
            mentions: row.mentions,
            forwarded: row.forwarded,
            expires: row.expires,
            reactions,
            delivery,
        }))
    }
}

fn reactions(s: &dyn Read, topic: TopicId, id: MessageId) -> Result<Vec<(String, Vec<AccountId>)>> {
    let prefix = Key::new().fixed(&topic.0).fixed(&id.device.0).u64(id.seq).into_bytes();
    let rows: Vec<(Vec<u8>, Chosen<bool>)> =
        s.scan_typed(&REACTIONS, &KeyRange::prefix(&prefix), false, 4_096)?;
    // An account's devices speak with one voice: the newest word counts.
    let mut newest: BTreeMap<(String, AccountId), (u64, DeviceId, bool)> = BTreeMap::new();
    for (key, row) in rows {
        let mut reader = KeyReader::new(&REACTIONS, &key[prefix.len()..]);
        let device = DeviceId(reader.fixed()?);
        let emoji = reader.text()?;
        let account: Option<AccountId> = s.get_typed(&crate::tables::DEVICE_ACCOUNT, &device.0)?;
        let Some(account) = account else { continue };
        let slot = newest.entry((emoji, account)).or_insert((0, device, false));
        if (row.lamport, row.device) >= (slot.0, slot.1) {
            *slot = (row.lamport, row.device, row.value);
        }
    }
    let mut out: BTreeMap<String, Vec<AccountId>> = BTreeMap::new();
    for ((emoji, account), (_, _, on)) in newest {
        if on && is_emoji(&emoji) {
            out.entry(emoji).or_default().push(account);
        }
    }
    Ok(out.into_iter().collect())
}

/// Everybody known beyond oneself: contacts, requests both ways, members of groups.
pub fn contacts(s: &dyn Read) -> Result<Vec<view::Contact>> {
    let me = me(s)?.account;
    let mut known: BTreeMap<AccountId, (ContactValue, Option<Request>)> = BTreeMap::new();
    let rows: Vec<(Vec<u8>, Chosen<ContactValue>)> =
        s.scan_typed(&CONTACTS, &KeyRange::all(), false, 65_536)?;
    for (key, row) in rows {
        if let Ok(id) = <[u8; 32]>::try_from(key) {
            known.insert(AccountId(id), (row.value, None));
        }
    }
    let rows: Vec<(Vec<u8>, Request)> = s.scan_typed(&REQUESTS, &KeyRange::all(), false, 65_536)?;
    for (key, row) in rows {
        if let Ok(id) = <[u8; 32]>::try_from(key) {
            known.entry(AccountId(id)).or_default().1 = Some(row);
        }
    }
    let rows: Vec<(Vec<u8>, Topic)> = s.scan_typed(&TOPICS, &KeyRange::all(), false, 65_536)?;
    for (key, row) in rows {
        if row.kind == TopicKind::Group
            && let Ok(id) = <[u8; 32]>::try_from(key)
            && let Some(state) = topics::load(s, TopicId(id))?
        {
            for member in state.now().members.keys() {
                known.entry(*member).or_default();
            }
        }
    }
    let mut names = Names::new(s);
    let mut out = Vec::new();
    for (account, (value, request)) in known {
        if Some(account) == me {
            continue;
        }
        if request.as_ref().is_some_and(|r| r.incoming && r.declined) && !value.friend {
            continue;
        }
        let log = names.log(account)?;
        let state = log.as_ref().map(|l| l.state());
        let own = state
            .map(|s| s.name.to_string())
            .filter(|n| !n.is_empty())
            .or_else(|| request.as_ref().map(|r| r.name.clone()))
            .unwrap_or_else(|| account.to_hex()[..8].to_owned());
        let name = if value.remark.is_empty() && names.of(account)?.len() == 8 {
            own.clone()
        } else {
            names.of(account)?
        };
        out.push(view::Contact {
            account,
            name,
            own_name: own,
            state: match (&value, &request) {
                (c, _) if c.blocked => view::ContactState::Blocked,
                (c, _) if c.friend => view::ContactState::Friend,
                (_, Some(r)) if r.incoming => view::ContactState::Asking,
                (_, Some(_)) => view::ContactState::Requested,
                _ => view::ContactState::Known,
            },
            greeting: request.as_ref().map(|r| r.greeting.clone()).unwrap_or_default(),
            time: request.as_ref().map_or(value.time, |r| r.time),
            topic: value.topic.or(request.as_ref().map(|r| r.topic)),
            verified: value.verified,
            disputed: state.is_some_and(|s| s.disputed),
            devices: state.map_or(0, |s| s.active_devices().count() as u32),
        });
    }
    out.sort_by(|a, b| a.name.cmp(&b.name).then(a.account.cmp(&b.account)));
    Ok(out)
}

/// Strangers who ask for contact.
pub fn requests(s: &dyn Read) -> Result<Vec<view::Contact>> {
    let mut all = contacts(s)?;
    all.retain(|c| c.state == view::ContactState::Asking);
    Ok(all)
}

/// Members of a chat.
pub fn members(s: &dyn Read, topic: TopicId) -> Result<Vec<view::Member>> {
    let me = me(s)?.account;
    let mut names = Names::new(s);
    let Some(state) = topics::load(s, topic)? else { return Ok(Vec::new()) };
    let mut out = Vec::new();
    for (account, member) in &state.now().members {
        out.push(view::Member {
            account: *account,
            name: names.in_topic(topic, *account)?,
            role: member.role,
            me: Some(*account) == me,
        });
    }
    out.sort_by(|a, b| b.role.cmp(&a.role).then(a.name.cmp(&b.name)));
    Ok(out)
}

/// Devices of this account.
pub fn devices(s: &dyn Read) -> Result<Vec<view::Device>> {
    let id = identity(s)?;
    let Some(account) = id.account else { return Ok(Vec::new()) };
    let Some(log) = accounts::load(s, account)? else { return Ok(Vec::new()) };
    Ok(log
        .state()
        .devices
        .iter()
        .filter(|(_, info)| !info.void)
        .map(|(device, info)| view::Device {
            device: *device,
            name: info.name.to_string(),
            this: *device == id.device,
            revoked: info.revoked.is_some(),
        })
        .collect())
}

/// A device linking under way.
pub fn linking(s: &dyn Read) -> Result<view::Linking> {
    let row: Option<LinkingRow> = s.get_typed(&LINKING, b"")?;
    let linking = row.map_or(view::Linking::Idle, |r| r.0);
    if let view::Linking::Copying { .. } = linking {
        if me(s)?.private.is_some() && !history_on_its_way(s)? {
            return Ok(view::Linking::Idle);
        }
        let rows: Vec<(Vec<u8>, Chain)> = s.scan_typed(&CHAINS, &KeyRange::all(), false, 65_536)?;
        let envelopes = rows.iter().map(|(_, c)| (c.high + 1).saturating_sub(c.low)).sum();
        let topics = s.count(&TOPICS, &KeyRange::all(), 65_536)? as u32;
        return Ok(view::Linking::Copying { topics, envelopes });
    }
    Ok(linking)
}

/// Whether some chain of a topic with shared history does not reach back to its beginning.
fn history_on_its_way(s: &dyn Read) -> Result<bool> {
    let rows: Vec<(Vec<u8>, Topic)> = s.scan_typed(&TOPICS, &KeyRange::all(), false, 65_536)?;
    for (key, _) in rows {
        let Ok(id) = <[u8; 32]>::try_from(key) else { continue };
        let Some(state) = topics::load(s, TopicId(id))? else { continue };
        let shared = state.now().history == teahouse_protocols::membership::History::All;
        if shared && topics::chains(s, TopicId(id))?.iter().any(|(_, c)| c.low > 1) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Relays of this account.
pub fn relays(s: &dyn Read) -> Result<Vec<view::Relay>> {
    let id = identity(s)?;
    let Some(account) = id.account else { return Ok(Vec::new()) };
    let Some(log) = accounts::load(s, account)? else { return Ok(Vec::new()) };
    let waiting = waiting::behind(s, id.device)?;
    let mut out = Vec::new();
    for relay in &log.state().relays {
        let here = waiting.iter().filter(|w| w.relay == Some(relay.id));
        let row: RelayRow = s.get_typed(&RELAYS, &relay.id.0)?.unwrap_or_default();
        let tags: Vec<(Vec<u8>, TagRow)> =
            s.scan_typed(&TAGS, &KeyRange::prefix(&relay.id.0), false, 65_536)?;
        out.push(view::Relay {
            relay: relay.id,
            name: s.get_typed(&RELAY_NAMES, &relay.id.0)?.unwrap_or_default(),
            addrs: relay.addrs.iter().map(|a| a.to_string()).collect(),
            tokens: s.count(&TOKENS, &KeyRange::prefix(&relay.id.0), 65_536)? as u64,
            tags: tags.iter().filter(|(_, t)| t.open).count() as u64,
            last_answer: row.last_answer,
            trouble: row.trouble,
            waiting: here.map(|w| w.count).sum(),
        });
    }
    Ok(out)
}

/// Things a person should know, newest first.
pub fn alarms(s: &dyn Read) -> Result<Vec<view::Alarm>> {
    let rows: Vec<(Vec<u8>, AlarmRow)> = s.scan_typed(&ALARMS, &KeyRange::all(), true, 256)?;
    Ok(rows.into_iter().map(|(_, r)| view::Alarm { time: r.time, text: r.text }).collect())
}

/// The safety number with an account: 60 digits that are equal on both sides.
pub fn safety_number(s: &dyn Read, account: AccountId) -> Result<Option<String>> {
    let Some(me) = me(s)?.account else { return Ok(None) };
    let (Some(own), Some(their)) = (accounts::load(s, me)?, accounts::load(s, account)?) else {
        return Ok(None);
    };
    let number = SafetyNumber::new((&me, &own.state().root), (&account, &their.state().root));
    Ok(Some(number.to_string()))
}

/// A replica's own account of a topic, for comparing replicas: chains with their heads,
/// membership heads, and rows without what is local.
pub fn digest(s: &dyn Read, topic: TopicId) -> Result<[u8; 32]> {
    let mut h = blake3::Hasher::new_derive_key("teahouse/v1/replica digest");
    for (device, chain) in topics::chains(s, topic)? {
        h.update(&device.0);
        h.update(&chain.high.to_le_bytes());
        h.update(&chain.head.0);
    }
    let state: Option<TopicState> = topics::load(s, topic)?;
    if let Some(state) = state {
        for head in state.log.heads() {
            h.update(&head.0);
        }
    }
    for table in [&FIELDS, &NICKNAMES, &REACTIONS, &crate::tables::RECALLS] {
        for (key, value) in s.scan(table, &KeyRange::prefix(&topic.0), false, 1 << 20)? {
            h.update(&key);
            h.update(&value);
        }
    }
    // Display times may differ between replicas; what is shown of whom may not.
    let mut shown = BTreeMap::new();
    for (key, value) in s.scan(&MESSAGES, &KeyRange::prefix(&topic.0), false, 1 << 20)? {
        let (_, id) = message_place(&key)?;
        let row: MessageRow = crate::store::decode(&MESSAGES, &value)?;
        let content = match content(s, topic, id, &row)? {
            view::Content::Text(text) => text,
            other => format!("{other:?}"),
        };
        shown.insert(id, (row.account, content, row.reply_to));
    }
    let bytes = postcard::to_stdvec(&shown.into_iter().collect::<Vec<_>>())
        .map_err(|_| StorageError::corrupt(MESSAGES.name, "not encodable"))?;
    h.update(&bytes);
    Ok(*h.finalize().as_bytes())
}
