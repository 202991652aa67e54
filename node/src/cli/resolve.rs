//! From what a person types to the thing that is meant: a name, the beginning of a name, or
//! at least four digits of an id. Whatever is ambiguous is refused, with the candidates.

use anyhow::{Context, Result, bail};
use teahouse_core::command::MessageId;
use teahouse_core::view;
use teahouse_protocols::ids::{AccountId, DeviceId, RelayId, TopicId};

use super::session::Session;
use super::show::{short, tidy};
use crate::doctor::relay_host;

/// Digits of an id that are needed at least.
const DIGITS: usize = 4;

/// Candidates that are listed at most.
const LISTED: usize = 8;

/// How a thing can be called.
pub(super) struct Names {
    /// The first is the one shown.
    pub(super) names: Vec<String>,
    /// In hexadecimal digits.
    pub(super) ids: Vec<String>,
}

/// Picks the one item that `text` names.
pub(super) fn pick<'a, T>(
    what: &str,
    text: &str,
    items: &'a [T],
    called: impl Fn(&T) -> Names,
) -> Result<&'a T> {
    let wanted = text.trim().to_lowercase();
    if wanted.is_empty() {
        bail!("say which {what} is meant");
    }
    let hex = wanted.len() >= DIGITS && wanted.bytes().all(|b| b.is_ascii_hexdigit());
    let matching = |test: &dyn Fn(&Names) -> bool| -> Vec<&'a T> {
        items.iter().filter(|item| test(&called(item))).collect()
    };
    // A whole name beats a beginning, and a name beats an id.
    let whole = matching(&|n| n.names.iter().any(|name| name.to_lowercase() == wanted));
    let begins = || matching(&|n| n.names.iter().any(|s| s.to_lowercase().starts_with(&wanted)));
    let id = || matching(&|n| hex && n.ids.iter().any(|id| id.starts_with(&wanted)));
    let mut found = whole;
    if found.is_empty() {
        found = begins();
    }
    if found.is_empty() {
        found = id();
    }
    match found[..] {
        [one] => Ok(one),
        [] => bail!("there is no {what} called “{}”", tidy(text)),
        _ => {
            let mut list: Vec<String> = found
                .iter()
                .take(LISTED)
                .map(|item| {
                    let Names { names, ids } = called(item);
                    let name = names.first().map_or("", String::as_str);
                    format!("{} ({})", tidy(name), short(ids.first().map_or("", String::as_str)))
                })
                .collect();
            if found.len() > LISTED {
                list.push("…".into());
            }
            bail!("“{}” could be: {}", tidy(text), list.join(", "))
        }
    }
}

fn contact_names(c: &view::Contact) -> Names {
    Names { names: vec![c.name.clone(), c.own_name.clone()], ids: vec![c.account.to_hex()] }
}

fn chat_names(c: &view::Chat) -> Names {
    let peer = c.peer.map(|p| p.to_hex());
    Names {
        names: vec![c.title.clone()],
        ids: std::iter::once(c.topic.to_hex()).chain(peer).collect(),
    }
}

/// A chat.
pub(super) fn chat(session: &Session, text: &str) -> Result<view::Chat> {
    let chats = session.chats()?;
    if let Ok(one) = pick("chat", text, &chats, chat_names) {
        return Ok(one.clone());
    }
    // Two people who both asked may have two chats: the one that they settled for is meant.
    let contacts = session.contacts()?;
    let settled = |c: &view::Chat| {
        let topic = contacts.iter().find(|of| Some(of.account) == c.peer).and_then(|of| of.topic);
        topic.is_none_or(|topic| topic == c.topic || !chats.iter().any(|o| o.topic == topic))
    };
    let settled: Vec<view::Chat> = chats.iter().filter(|c| settled(c)).cloned().collect();
    Ok(pick("chat", text, &settled, chat_names)?.clone())
}

/// A group.
pub(super) fn group(session: &Session, text: &str) -> Result<view::Chat> {
    let mut chats = session.chats()?;
    chats.retain(|c| c.kind == view::ChatKind::Group);
    Ok(pick("group", text, &chats, chat_names)?.clone())
}

/// A contact.
pub(super) fn contact(session: &Session, text: &str) -> Result<view::Contact> {
    Ok(pick("contact", text, &session.contacts()?, contact_names)?.clone())
}

/// Somebody who asks for contact.
pub(super) fn request(session: &Session, text: &str) -> Result<view::Contact> {
    Ok(pick("request", text, &session.requests()?, contact_names)?.clone())
}

/// A member of a group.
pub(super) fn member(session: &Session, group: TopicId, text: &str) -> Result<AccountId> {
    let members = session.members(group)?;
    let found = pick("member", text, &members, |m| Names {
        names: vec![m.name.clone()],
        ids: vec![m.account.to_hex()],
    })?;
    Ok(found.account)
}

/// A device of this account.
pub(super) fn device(session: &Session, text: &str) -> Result<DeviceId> {
    let devices = session.devices()?;
    let found = pick("device", text, &devices, |d| Names {
        names: vec![d.name.clone()],
        ids: vec![d.device.to_hex()],
    })?;
    Ok(found.device)
}

/// A relay of this account.
pub(super) fn relay(session: &Session, text: &str) -> Result<RelayId> {
    let relays = session.relays()?;
    let found = pick("relay", text, &relays, |r| Names {
        names: vec![r.name.clone(), relay_host(r)],
        ids: vec![r.relay.to_hex()],
    })?;
    Ok(found.relay)
}

/// A message of a chat: `last`, an id, or an id with its device's digits cut short, as
/// `read` shows it.
pub(super) fn message(session: &Session, topic: TopicId, text: &str) -> Result<MessageId> {
    if let Ok(id) = text.parse::<MessageId>() {
        return Ok(session.message(topic, id)?.id);
    }
    let newest = session.messages(topic, None, crate::api::MAX_MESSAGES)?;
    if text == "last" {
        return Ok(newest.last().context("there is no message yet")?.id);
    }
    message_among(&newest, text)
}

/// Like [`message`], but `last` is the newest of one's own: what one takes back.
pub(super) fn own_message(session: &Session, topic: TopicId, text: &str) -> Result<MessageId> {
    if text != "last" {
        return message(session, topic, text);
    }
    let newest = session.messages(topic, None, crate::api::MAX_MESSAGES)?;
    let own = newest.iter().rev().find(|m| m.mine);
    Ok(own.context("you have written nothing here lately")?.id)
}

fn message_among(newest: &[view::Message], text: &str) -> Result<MessageId> {
    let (device, seq) = text
        .split_once(':')
        .and_then(|(device, seq)| Some((device.to_lowercase(), seq.parse::<u64>().ok()?)))
        .context("a message is named `last` or as `read` shows it, for instance 3fa92c10:17")?;
    let mut found: Vec<MessageId> = newest
        .iter()
        .map(|m| m.id)
        .filter(|id| id.seq == seq && id.device.to_hex().starts_with(&device))
        .collect();
    found.dedup();
    match found[..] {
        [id] => Ok(id),
        [] => bail!("there is no message {} among the newest {}", tidy(text), newest.len()),
        _ => bail!("{} is the beginning of more than one message's id", tidy(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contact(name: &str, own_name: &str, id: u8) -> view::Contact {
        view::Contact {
            account: AccountId([id; 32]),
            name: name.into(),
            own_name: own_name.into(),
            state: view::ContactState::Friend,
            greeting: String::new(),
            time: 0,
            topic: None,
            verified: false,
            disputed: false,
            devices: 1,
        }
    }

    fn people() -> Vec<view::Contact> {
        vec![
            contact("Bob", "Robert", 0xb0),
            contact("Bobby", "Bobby", 0xb1),
            contact("王小明", "王小明", 0x10),
            contact("Beef", "Beef", 0x20),
            contact("Ada", "Ada", 0xbe),
        ]
    }

    fn who(text: &str) -> Result<String> {
        let all = people();
        Ok(pick("contact", text, &all, contact_names)?.name.clone())
    }

    #[test]
    fn names_beginnings_and_ids() {
        assert_eq!(who("bob").unwrap(), "Bob", "a whole name beats a beginning");
        assert_eq!(who("BOBB").unwrap(), "Bobby");
        assert_eq!(who("robert").unwrap(), "Bob", "their own name counts too");
        assert_eq!(who("王").unwrap(), "王小明");
        assert_eq!(who("b0b0").unwrap(), "Bob", "digits of the id");
        assert_eq!(who("beef").unwrap(), "Beef", "a name beats an id");
        assert_eq!(who("bebebe").unwrap(), "Ada");
    }

    #[test]
    fn what_is_unclear_is_refused_with_the_candidates() {
        let error = who("bo").unwrap_err().to_string();
        assert!(error.contains("Bob (b0b0b0b0)") && error.contains("Bobby"), "{error}");
        assert!(!error.contains("Ada"), "{error}");
        for nobody in ["Carol", "b0b", "", " "] {
            assert!(who(nobody).is_err(), "{nobody}");
        }
    }

    #[test]
    fn messages_by_what_read_shows() {
        let message = |device: u8, seq| view::Message {
            topic: TopicId([1; 32]),
            id: MessageId { device: DeviceId([device; 32]), seq },
            author: AccountId([1; 32]),
            author_name: "Bob".into(),
            mine: false,
            time: 0,
            photos: Vec::new(),
            content: view::Content::Pending,
            reply_to: None,
            mentions: vec![],
            forwarded: false,
            expires: None,
            reactions: vec![],
            delivery: None,
        };
        let all = [message(0xab, 1), message(0xac, 1), message(0xab, 2)];
        assert_eq!(message_among(&all, "abab:2").unwrap().seq, 2);
        assert_eq!(message_among(&all, "AB:1").unwrap().device, DeviceId([0xab; 32]));
        for bad in ["a:1", "ab:3", "ab", "ab:x", ":"] {
            assert!(message_among(&all, bad).is_err(), "{bad}");
        }
    }
}
