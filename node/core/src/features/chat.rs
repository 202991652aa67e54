//! Messages: text, replies, mentions, forwards, reactions, recall, disappearing messages.
//!
//! Rows: a message by (topic, time, device, seq) and an index from its id to its time;
//! reactions one per (message, device, emoji); recalls one per (message, device). What a
//! recall means is decided when rows meet, whichever comes first.

use teahouse_crdt::chat::{ChatEntry, Message, MessageRef};
use teahouse_crdt::segment::Entry;
use teahouse_crdt::{EntryError, PrivateEntry, TypedEntry};
use teahouse_protocols::envelope::MAX_BODY_PLAIN;
use teahouse_protocols::ids::{AccountId, DeviceId, Millis, TopicId};
use teahouse_protocols::membership::{Role, TopicKind};

use crate::command::{Chat, MessageId, Refusal, Reply};
use crate::engine::{accounts, letters, topics};
use crate::features::photos::{self, NewPhoto};
use crate::features::{Applied, Feature, choose, contacts, groups, letters_erased, next_lamport};
use crate::store::{Key, KeyRange, Read, ReadExt, StorageError};
use crate::tables::{
    BODIES, CHANGES, Chosen, EXPIRIES, FIELDS, Field, LAMPORT, MESSAGE_INDEX, MESSAGES, MessageRow,
    REACTIONS, RECALLS, TOPICS, body_key, log_key, message_key,
};
use crate::tx::{Fail, Tx};

pub(crate) const FEATURE: Feature = Feature {
    name: "chat",
    kinds: &[TopicKind::Direct, TopicKind::Group],
    apply,
    projects: &[
        &MESSAGES,
        &MESSAGE_INDEX,
        &REACTIONS,
        &RECALLS,
        &FIELDS,
        &CHANGES,
        &LAMPORT,
        &photos::PHOTOS,
        &photos::PREVIEWS,
    ],
    tend: Some(|tx| Ok(tend(tx)?)),
    ..Feature::NONE
};

/// How long one's own message can be taken back. A courtesy of the command, not a rule of
/// the protocol: clocks decide nothing about authority.
const RECALL_WITHIN: Millis = 2 * 60 * 1000;

/// Decides a command.
pub(crate) fn command(tx: &mut Tx<'_>, c: Chat) -> Result<Reply, Fail> {
    match c {
        Chat::Send { topic, text, reply_to, mentions } => {
            let said = vec![plain(&text)?];
            send(tx, topic, Said { bodies: said, album: false }, reply_to, mentions, false)
        }
        Chat::SendPhotos { topic, text, photos, reply_to } => {
            let said = Said { bodies: photos::bodies(&text, photos)?, album: true };
            send(tx, topic, said, reply_to, Vec::new(), false)
        }
        Chat::Forward { from, message, to } => {
            let said = said(tx, from, message)?;
            send(tx, to, said, None, Vec::new(), true)
        }
        Chat::React { topic, message, emoji, on } => {
            require_message(tx, topic, message)?;
            if !is_emoji(&emoji) {
                return Err(Refusal::Invalid { why: "a reaction is an emoji".into() }.into());
            }
            let lamport = next_lamport(tx, topic)?;
            write(tx, topic, ChatEntry::Reaction { target: target(message), emoji, on, lamport })
        }
        Chat::Recall { topic, message } => recall(tx, topic, message),
        Chat::MarkRead { topic } => {
            topics::require(tx, topic)?;
            let upto_time = last_time(tx, topic)?;
            let private = contacts::private_topic(tx)?;
            let lamport = next_lamport(tx, private)?;
            let known: Option<Chosen<u64>> = tx.typed(&crate::tables::READ_MARKS, &topic.0)?;
            if known.is_some_and(|k| k.value >= upto_time) {
                return Ok(Reply::Done);
            }
            contacts::write(tx, PrivateEntry::ReadMark { topic: topic.0, upto_time, lamport })
        }
        Chat::Timer { topic, seconds } => {
            let lamport = next_lamport(tx, topic)?;
            write(tx, topic, ChatEntry::Timer { seconds, lamport })
        }
        Chat::Hide { topic } => {
            // What comes from now on is unread, and brings it back.
            command(tx, Chat::MarkRead { topic })?;
            let upto = last_time(tx, topic)?.max(tx.now);
            let private = contacts::private_topic(tx)?;
            let lamport = next_lamport(tx, private)?;
            let (name, value) = (hidden_name(topic), upto.to_le_bytes().to_vec());
            contacts::write(tx, PrivateEntry::Setting { name, value, lamport })
        }
        Chat::Draft { topic, text } => {
            topics::require(tx, topic)?;
            let private = contacts::private_topic(tx)?;
            let lamport = next_lamport(tx, private)?;
            contacts::write(tx, PrivateEntry::Draft { topic: topic.0, text, lamport })
        }
    }
}

/// What a message says, as its bodies.
struct Said {
    bodies: Vec<Vec<u8>>,
    album: bool,
}

fn plain(text: &str) -> Result<Vec<u8>, Fail> {
    if text.is_empty() || text.len() > MAX_BODY_PLAIN {
        let why = "a message has 1 byte to 64 KiB of text".into();
        return Err(Refusal::Invalid { why }.into());
    }
    Ok(text.as_bytes().to_vec())
}

fn send(
    tx: &mut Tx<'_>,
    topic: TopicId,
    said: Said,
    reply_to: Option<MessageId>,
    mut mentions: Vec<AccountId>,
    forwarded: bool,
) -> Result<Reply, Fail> {
    require_open(tx, topic)?;
    if let Some(reply_to) = reply_to {
        require_message(tx, topic, reply_to)?;
    }
    mentions.sort_unstable();
    mentions.dedup();
    let expires_after = timer_of(tx, topic)?;
    let bodies: Vec<&[u8]> = said.bodies.iter().map(Vec::as_slice).collect();
    let message = letters::append(tx, topic, &bodies, |seq, hashes| {
        let message = Message {
            body: hashes[0].0,
            reply_to: reply_to.map(target),
            mentions: mentions.iter().map(|a| a.0).collect(),
            forwarded,
            expires_after,
        };
        let entry =
            if said.album { ChatEntry::Album(message) } else { ChatEntry::Message(message) };
        Ok(vec![entry.to_entry(seq).map_err(invalid)?])
    })?;
    Ok(Reply::Message { topic, message })
}

fn recall(tx: &mut Tx<'_>, topic: TopicId, message: MessageId) -> Result<Reply, Fail> {
    let row = require_message(tx, topic, message)?;
    let account = tx.account()?;
    let office = is_group(tx, topic)? && topics::my_role(tx, topic)? >= Some(Role::Admin);
    let mine = row.1.account == account;
    if mine && tx.now > row.0.saturating_add(RECALL_WITHIN) && !office {
        return Err(Refusal::NotAllowed {
            why: "a message can be taken back for two minutes".into(),
        }
        .into());
    }
    if !mine && !office {
        let why = if is_group(tx, topic)? {
            "only an admin can hide what others wrote"
        } else {
            "only what you wrote yourself can be taken back here"
        };
        return Err(Refusal::NotAllowed { why: why.into() }.into());
    }
    write(tx, topic, ChatEntry::Recall { target: target(message) })
}

/// Offices count in groups only: between two people it is chance who proposed the chat.
fn is_group(tx: &Tx<'_>, topic: TopicId) -> Result<bool, StorageError> {
    Ok(topics::row(tx, topic)?.is_some_and(|r| r.kind == TopicKind::Group))
}

/// Writes one entry without a body.
pub(crate) fn write(tx: &mut Tx<'_>, topic: TopicId, entry: ChatEntry) -> Result<Reply, Fail> {
    chat_kind(tx, topic)?;
    letters::append(tx, topic, &[], |seq, _| Ok(vec![entry.to_entry(seq).map_err(invalid)?]))?;
    Ok(Reply::Done)
}

pub(crate) fn invalid(e: EntryError) -> Fail {
    Refusal::Invalid { why: e.to_string() }.into()
}

fn chat_kind(tx: &mut Tx<'_>, topic: TopicId) -> Result<TopicKind, Fail> {
    let state = topics::require(tx, topic)?;
    match state.now().kind {
        kind if kind.is_chat() => Ok(kind),
        _ => Err(Refusal::NotFound { what: "chat".into() }.into()),
    }
}

/// Whether one writes there at all: not to whom one blocked.
pub(crate) fn require_open(tx: &mut Tx<'_>, topic: TopicId) -> Result<(), Fail> {
    chat_kind(tx, topic)?;
    let row = topics::row(tx, topic)?;
    if let Some(peer) = row.and_then(|r| r.peer)
        && contacts::is_blocked(tx, peer)?
    {
        return Err(Refusal::NotAllowed { why: "you blocked this contact".into() }.into());
    }
    Ok(())
}

fn apply(tx: &mut Tx<'_>, change: &Applied<'_>, entry: &Entry) -> Result<(), StorageError> {
    let entry = match ChatEntry::from_entry(change.seq, entry) {
        Ok(entry) => entry,
        Err(EntryError::Unknown) => return unknown(tx, change),
        // A member wrote nonsense: it shows nothing, on every replica alike.
        Err(_) => return Ok(()),
    };
    match entry {
        ChatEntry::Message(m) => message(tx, change, &m, false),
        ChatEntry::Album(m) => message(tx, change, &m, true),
        ChatEntry::Reaction { target, emoji, on, lamport } => {
            let key = Key::new()
                .fixed(&change.topic.0)
                .fixed(&target.device)
                .u64(target.seq)
                .fixed(&change.device.0)
                .text(&emoji)
                .into_bytes();
            choose(tx, &REACTIONS, &key, change, lamport, on)
        }
        ChatEntry::Recall { target } => {
            let by_office = change.kind == TopicKind::Group && change.role >= Role::Admin;
            let mut key = log_key(change.topic, DeviceId(target.device), target.seq);
            key.extend_from_slice(&change.device.0);
            // One device may recall twice, in different roles and any order.
            let known = tx.typed::<bool>(&RECALLS, &key)?.unwrap_or(false);
            tx.put(&RECALLS, &key, &(by_office || known))?;
            settle_recall(
                tx,
                change.topic,
                MessageId { device: DeviceId(target.device), seq: target.seq },
            )
        }
        ChatEntry::Timer { seconds, lamport } => {
            groups::set_field(tx, change, Field::Timer, lamport, seconds.to_string())
        }
        // Those of groups, and of programs.
        ChatEntry::Title { .. }
        | ChatEntry::Notice { .. }
        | ChatEntry::Nickname { .. }
        | ChatEntry::State { .. } => Ok(()),
    }
}

fn message(
    tx: &mut Tx<'_>,
    change: &Applied<'_>,
    m: &Message,
    album: bool,
) -> Result<(), StorageError> {
    let Some(index) = change.header.bodies.iter().position(|h| h.0 == m.body) else {
        return Ok(());
    };
    let expires = m.expires_after.map(|s| change.time.saturating_add(u64::from(s) * 1000));
    let place = body_key(change.topic, change.device, change.seq, index as u8);
    // What was erased stays so, wherever the clock is set since.
    let erased = tx.get(&BODIES, &place)?.is_some_and(|body| body.is_empty());
    let expired = expires.is_some_and(|e| erased || e <= tx.now);
    let body = change.bodies.get(index).and_then(Option::as_ref).filter(|_| !expired);
    let text = match body {
        Some(_) if album => photos::put(tx, change, index)?.map(|said| said.text.into_inner()),
        body => body.map(|b| String::from_utf8_lossy(b).into_owned()),
    };
    let row = MessageRow {
        account: change.account,
        text,
        body: index as u8,
        bodies: if album { (change.header.bodies.len() - index) as u8 } else { 1 },
        reply_to: m.reply_to.map(|r| MessageId { device: DeviceId(r.device), seq: r.seq }),
        mentions: m.mentions.iter().map(|a| AccountId(*a)).collect(),
        forwarded: m.forwarded,
        expires,
        expired,
        unknown: false,
    };
    put_row(tx, change, &row)?;
    if tx.me()?.account != Some(change.account) {
        tx.mem.heard.insert(change.topic);
    }
    if let Some(at) = expires
        && !expired
    {
        let key = Key::new()
            .u64(at)
            .fixed(&change.topic.0)
            .fixed(&change.device.0)
            .u64(change.seq)
            .into_bytes();
        tx.put_raw(&EXPIRIES, &key, Vec::new())?;
    }
    if expired {
        expire(tx, change.topic, change.id(), &row)?;
    }
    settle_recall(tx, change.topic, change.id())?;
    reveal(tx, change.topic)
}

/// Shows a superseded chat again: somebody wrote in it, and nothing written is ever
/// invisible. What a stranger proposed and was declined stays hidden.
fn reveal(tx: &mut Tx<'_>, topic: TopicId) -> Result<(), StorageError> {
    if let Some(mut row) = topics::row(tx, topic)?
        && row.hidden
        && !row.proposed
    {
        row.hidden = false;
        tx.put(&TOPICS, &topic.0, &row)?;
    }
    Ok(())
}

fn unknown(tx: &mut Tx<'_>, change: &Applied<'_>) -> Result<(), StorageError> {
    let row = MessageRow {
        account: change.account,
        text: None,
        body: 0,
        bodies: change.header.bodies.len() as u8,
        reply_to: None,
        mentions: Vec::new(),
        forwarded: false,
        expires: None,
        expired: false,
        unknown: true,
    };
    put_row(tx, change, &row)
}

fn put_row(tx: &mut Tx<'_>, change: &Applied<'_>, row: &MessageRow) -> Result<(), StorageError> {
    tx.put(&MESSAGES, &message_key(change.topic, change.time, change.id()), row)?;
    tx.put(&MESSAGE_INDEX, &log_key(change.topic, change.device, change.seq), &change.time)
}

/// Erases a message's text once an authorised recall and the message are both here.
fn settle_recall(tx: &mut Tx<'_>, topic: TopicId, id: MessageId) -> Result<(), StorageError> {
    let Some((time, mut row)) = find(tx, topic, id)? else { return Ok(()) };
    if row.text.is_none() && row.expired || recalled(tx, topic, id, row.account)?.is_none() {
        return Ok(());
    }
    row.text = None;
    tx.put(&MESSAGES, &message_key(topic, time, id), &row)?;
    erase(tx, topic, id, &row)
}

/// Whether a message is recalled: by its author's account (`true`), or by right of office
/// (`false`).
pub(crate) fn recalled(
    read: &dyn Read,
    topic: TopicId,
    id: MessageId,
    author: AccountId,
) -> Result<Option<bool>, StorageError> {
    let prefix = log_key(topic, id.device, id.seq);
    let rows: Vec<(Vec<u8>, bool)> =
        read.scan_typed(&RECALLS, &KeyRange::prefix(&prefix), false, 256)?;
    let mut hidden = None;
    for (key, by_office) in rows {
        let Some(device) = key.last_chunk::<32>() else { continue };
        let account: Option<AccountId> = read.get_typed(&crate::tables::DEVICE_ACCOUNT, device)?;
        if account == Some(author) {
            return Ok(Some(true));
        }
        if by_office {
            hidden = Some(false);
        }
    }
    Ok(hidden)
}

fn erase(
    tx: &mut Tx<'_>,
    topic: TopicId,
    id: MessageId,
    row: &MessageRow,
) -> Result<(), StorageError> {
    if row.bodies > 1 {
        photos::forget(tx, topic, id)?;
    }
    letters_erased(tx, topic, id, row.body..row.body.saturating_add(row.bodies))
}

/// Erases messages whose time is up. Returns when the next one is due.
fn tend(tx: &mut Tx<'_>) -> Result<Option<Millis>, StorageError> {
    loop {
        let rows = tx.scan(&EXPIRIES, &KeyRange::all(), false, 1)?;
        let Some((key, _)) = rows.into_iter().next() else { return Ok(None) };
        let mut reader = crate::store::KeyReader::new(&EXPIRIES, &key);
        let at = reader.u64()?;
        if at > tx.now {
            return Ok(Some(at));
        }
        let topic = TopicId(reader.fixed()?);
        let id = MessageId { device: DeviceId(reader.fixed()?), seq: reader.u64()? };
        tx.del(&EXPIRIES, &key)?;
        if let Some((time, mut row)) = find(tx, topic, id)? {
            row.text = None;
            row.expired = true;
            tx.put(&MESSAGES, &message_key(topic, time, id), &row)?;
            expire(tx, topic, id, &row)?;
        }
    }
}

/// Erases a body whose time is up, for good: an empty one in its place says so.
fn expire(
    tx: &mut Tx<'_>,
    topic: TopicId,
    id: MessageId,
    row: &MessageRow,
) -> Result<(), StorageError> {
    erase(tx, topic, id, row)?;
    tx.put_raw(&BODIES, &body_key(topic, id.device, id.seq, row.body), Vec::new())
}

/// A message's row with its display time.
pub(crate) fn find(
    read: &dyn Read,
    topic: TopicId,
    id: MessageId,
) -> Result<Option<(Millis, MessageRow)>, StorageError> {
    let time: Option<Millis> =
        read.get_typed(&MESSAGE_INDEX, &log_key(topic, id.device, id.seq))?;
    let Some(time) = time else { return Ok(None) };
    let row = read.get_typed(&MESSAGES, &message_key(topic, time, id))?;
    Ok(row.map(|row| (time, row)))
}

fn require_message(
    tx: &Tx<'_>,
    topic: TopicId,
    id: MessageId,
) -> Result<(Millis, MessageRow), Fail> {
    Ok(find(tx, topic, id)?.ok_or_else(|| Refusal::NotFound { what: "message".into() })?)
}

/// What a message says, to be sent on.
fn said(tx: &Tx<'_>, topic: TopicId, id: MessageId) -> Result<Said, Fail> {
    let (_, row) = require_message(tx, topic, id)?;
    let text = row
        .text
        .ok_or_else(|| Refusal::NotAllowed { why: "this message has no text to send on".into() })?;
    let shown = photos::shown(tx, topic, id)?;
    if shown.is_empty() {
        return Ok(Said { bodies: vec![plain(&text)?], album: false });
    }
    let photos = shown
        .into_iter()
        .map(|p| NewPhoto { photo: p.photo, preview: p.preview.unwrap_or_default() });
    Ok(Said { bodies: photos::bodies(&text, photos.collect())?, album: true })
}

fn last_time(tx: &Tx<'_>, topic: TopicId) -> Result<Millis, StorageError> {
    let Some((key, _)) = tx.last(&MESSAGES, &topic.0)? else { return Ok(0) };
    let mut reader = crate::store::KeyReader::new(&MESSAGES, &key);
    let _: [u8; 32] = reader.fixed()?;
    reader.u64()
}

fn timer_of(tx: &Tx<'_>, topic: TopicId) -> Result<Option<u32>, StorageError> {
    let row: Option<Chosen<String>> = tx.typed(&FIELDS, &field_key(topic, Field::Timer))?;
    Ok(row.and_then(|r| r.value.parse().ok()).filter(|s| *s > 0))
}

/// The setting that takes a chat off the list, up to a time (8 bytes, little endian): names
/// have room for the beginning of the topic's id, and no two of a person's topics share it.
pub(crate) fn hidden_name(topic: TopicId) -> String {
    format!("hidden/{}", data_encoding::BASE64URL_NOPAD.encode(&topic.0[..18]))
}

/// topic, field.
pub(crate) fn field_key(topic: TopicId, field: Field) -> Vec<u8> {
    Key::new().fixed(&topic.0).u8(field as u8).into_bytes()
}

const fn target(id: MessageId) -> MessageRef {
    MessageRef { device: id.device.0, seq: id.seq }
}

/// Names an account as it names itself; its id's beginning if it never did.
pub(crate) fn own_name(tx: &mut Tx<'_>, account: AccountId) -> Result<String, StorageError> {
    let name = accounts::log(tx, account)?.map(|l| l.state().name.to_string());
    Ok(name.filter(|n| !n.is_empty()).unwrap_or_else(|| account.to_hex()[..8].to_owned()))
}

/// Whether a text can stand for a reaction: symbols, no words. What is none is not shown, for
/// it would read like part of the message.
pub(crate) fn is_emoji(text: &str) -> bool {
    let mut chars = text.chars();
    // A keycap: a digit in a box.
    if chars.next().is_some_and(|c| matches!(c, '#' | '*' | '0'..='9')) {
        return matches!(chars.as_str(), "\u{20e3}" | "\u{fe0f}\u{20e3}");
    }
    // What joins and tints symbols, and is none itself.
    let joins = |c: char| matches!(c, '\u{200d}' | '\u{fe0e}' | '\u{fe0f}');
    let symbol = |c: char| match c {
        // Letters that are drawn as signs.
        '\u{2139}' | '\u{24c2}' | '\u{1f170}'..='\u{1f189}' => true,
        // Marks that combine, spaces without width, and what turns text around.
        '\u{300}'..='\u{36f}'
        | '\u{20d0}'..='\u{20ff}'
        | '\u{feff}'
        | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' => false,
        c => !c.is_ascii() && !c.is_alphanumeric() && !c.is_whitespace() && !c.is_control(),
    };
    text.chars().count() <= 16
        && text.chars().all(|c| joins(c) || symbol(c))
        && text.chars().any(symbol)
}

#[cfg(test)]
mod tests {
    use super::is_emoji;

    #[test]
    fn reactions_are_symbols() {
        for yes in ["👍", "❤", "❤️", "🍵", "👨‍👩‍👧", "🇩🇪", "1️⃣", "👍🏽", "ℹ️", "🅰️", "™"]
        {
            assert!(is_emoji(yes), "{yes}");
        }
        for no in [
            "",
            "\u{200d}",
            "\u{200b}👍",
            "\u{202e}👍",
            "5000\u{20e3}",
            "\u{301}",
            "ok",
            "1",
            "好",
            "👍 yes",
            " ",
            "\n",
            "é",
            &"👍".repeat(17),
        ] {
            assert!(!is_emoji(no), "{no}");
        }
    }
}
