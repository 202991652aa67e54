//! People: cards, requests, accepting, blocking, remarks; and what one's own devices share
//! in the private topic (read marks, drafts, secrets).
//!
//! This file is the feature, and what is chosen about each contact. Beside it:
//!
//! - [`cards`]: the links by which people find each other.
//! - [`requests`]: asking for contact, being asked, and saying yes.
//! - [`direct`]: the direct chats that this makes, which of them stays, which are quiet.
//! - [`private`]: writing to one's own devices.
//! - [`mod@relays`]: which relays this account uses.

mod cards;
mod direct;
mod private;
mod relays;
mod requests;

use teahouse_crdt::segment::Entry;
use teahouse_crdt::{PrivateEntry, TypedEntry};
use teahouse_protocols::ids::AccountId;
use teahouse_protocols::inbox::InboxItem;
use teahouse_protocols::link::Link;
use teahouse_protocols::membership::TopicKind;

use self::cards::{card, card_name};
use self::direct::{answered, hide};
use self::relays::use_relay;
use self::requests::{accept, ask, require_request};
use crate::command::{Contacts, Refusal, Reply};
use crate::engine::{accounts, inbox, mail, topics};
use crate::features::{Applied, Feature, choose, groups, next_lamport};
use crate::store::StorageError;
use crate::tables::{
    CONTACTS, Chosen, ContactValue, DRAFTS, LAMPORT, READ_MARKS, RECORDS, REQUESTS, Request,
    SECRETS, SETTINGS, record_key,
};
use crate::tx::{Effect, Fail, Tx};

pub(crate) use self::cards::{card_secret_hashes, card_tag_key, make_card_keys};
pub(crate) use self::direct::{agreed, is_proposal, is_quiet};
pub(crate) use self::private::{private_topic, put_record, put_secret, secret, write};
pub(crate) use self::relays::relays;
#[cfg(test)]
pub(super) use self::requests::make_room;
pub(crate) use self::requests::{accepted, request};

pub(crate) const FEATURE: Feature = Feature {
    name: "contacts",
    kinds: &[TopicKind::Private],
    apply,
    projects: &[&CONTACTS, &READ_MARKS, &SECRETS, &SETTINGS, &DRAFTS, &RECORDS, &LAMPORT],
    ..Feature::NONE
};

/// Decides a command.
pub(crate) fn command(tx: &mut Tx<'_>, c: Contacts) -> Result<Reply, Fail> {
    match c {
        Contacts::Card { uses, welcome_to } => card(tx, uses, welcome_to),
        Contacts::RevokeCard { link } => {
            let Link::Card(card) = parse(&link)? else { return Err(not_a_card().into()) };
            put_secret(tx, &card_name(&card.card().secret.0), Vec::new())?;
            mail::reopen_card(tx)?;
            Ok(Reply::Done)
        }
        Contacts::Add { link, greeting } => match parse(&link)? {
            Link::Card(card) => ask(tx, &card, &greeting, None),
            Link::RelayInvite(invite) => {
                let relay = invite.relay.id;
                use_relay(tx, invite.relay.clone(), invite.code.0)?;
                match invite.greeter_card().map_err(Fail::peer)? {
                    Some(card) => ask(tx, &card, &greeting, Some(relay)),
                    None => Ok(Reply::Added { account: None, topic: None, relay: Some(relay) }),
                }
            }
            Link::Pair(_) | Link::Feed(_) | Link::Program(_) => Err(not_a_card().into()),
        },
        Contacts::Accept { account } => {
            let older = contact(tx, account)?.topic;
            let topic = accept(tx, account, older)?;
            Ok(Reply::Topic { topic })
        }
        Contacts::Decline { account } => {
            let mut request = require_request(tx, account)?;
            request.declined = true;
            tx.put(&REQUESTS, &account.0, &request)?;
            hide(tx, request.topic, true)?;
            Ok(Reply::Done)
        }
        Contacts::Block { account } => {
            let done = edit(tx, account, |c| c.blocked = true)?;
            topics::shut_out(tx, account)?;
            Ok(done)
        }
        Contacts::Unblock { account } => unblock(tx, account),
        Contacts::Remark { account, name } => {
            if name.len() > 64 {
                return Err(Refusal::Invalid { why: "a name has at most 64 bytes".into() }.into());
            }
            edit(tx, account, |c| c.remark = name)
        }
        Contacts::Verify { account, verified } => edit(tx, account, |c| c.verified = verified),
        Contacts::Delete { account } => {
            let done = edit(tx, account, |c| c.friend = false)?;
            topics::shut_out(tx, account)?;
            Ok(done)
        }
    }
}

fn apply(tx: &mut Tx<'_>, change: &Applied<'_>, entry: &Entry) -> Result<(), StorageError> {
    let Ok(entry) = PrivateEntry::from_entry(change.seq, entry) else { return Ok(()) };
    match entry {
        PrivateEntry::Contact { account, value, lamport } => {
            let Ok(value) = postcard::from_bytes::<ContactValue>(&value) else { return Ok(()) };
            choose(tx, &CONTACTS, &account, change, lamport, value)?;
            tx.mem.readers_due = true;
            answered(tx, AccountId(account))
        }
        PrivateEntry::ReadMark { topic: of, upto_time, lamport } => {
            choose(tx, &READ_MARKS, &of, change, lamport, upto_time)
        }
        PrivateEntry::Secret { name, value, lamport } => {
            choose(tx, &SECRETS, name.as_bytes(), change, lamport, value)
        }
        PrivateEntry::Draft { topic: of, text, lamport } => {
            choose(tx, &DRAFTS, &of, change, lamport, text)
        }
        PrivateEntry::Setting { name, value, lamport } => {
            choose(tx, &SETTINGS, name.as_bytes(), change, lamport, value)
        }
        PrivateEntry::Record { feature, id, value, lamport } => {
            // What is followed says whom to be connected to.
            tx.out.push(Effect::Peers);
            tx.mem.records_due = true;
            choose(tx, &RECORDS, &record_key(&feature, &id), change, lamport, value)
        }
    }
}

fn unblock(tx: &mut Tx<'_>, account: AccountId) -> Result<Reply, Fail> {
    let done = edit(tx, account, |c| c.blocked = false)?;
    tx.mem.hello_due = true;
    // What they invited this account to meanwhile was refused: they are to invite again.
    let contact = contact(tx, account)?;
    if let Some(topic) = contact.topic.filter(|_| contact.friend) {
        for device in accounts::devices_of(tx, account)? {
            let items = groups::own_pack_then(tx, InboxItem::Accepted(topic))?;
            inbox::send(tx, device, items)?;
        }
    }
    Ok(done)
}

/// Whether an account's invitations are taken: of contacts and of whom we asked for contact
/// (their yes may come after their invitation), unless blocked.
pub(crate) fn welcomes_from(tx: &mut Tx<'_>, account: AccountId) -> Result<bool, Fail> {
    let c = contact(tx, account)?;
    let asked = tx.typed::<Request>(&REQUESTS, &account.0)?.is_some_and(|r| !r.incoming);
    Ok((c.friend || asked) && !c.blocked)
}

/// Whether both agreed to be contacts.
pub(crate) fn is_friend(tx: &mut Tx<'_>, account: AccountId) -> Result<bool, Fail> {
    Ok(contact(tx, account)?.friend)
}

/// Whether an account is blocked here.
pub(crate) fn is_blocked(tx: &mut Tx<'_>, account: AccountId) -> Result<bool, Fail> {
    Ok(contact(tx, account)?.blocked)
}

fn contact(tx: &Tx<'_>, account: AccountId) -> Result<ContactValue, StorageError> {
    let row: Option<Chosen<ContactValue>> = tx.typed(&CONTACTS, &account.0)?;
    Ok(row.map(|r| r.value).unwrap_or_default())
}

fn edit(
    tx: &mut Tx<'_>,
    account: AccountId,
    f: impl FnOnce(&mut ContactValue),
) -> Result<Reply, Fail> {
    if tx.account()? == account || accounts::log(tx, account)?.is_none() {
        return Err(Refusal::NotFound { what: "contact".into() }.into());
    }
    let before = contact(tx, account)?;
    let mut value = before.clone();
    f(&mut value);
    // Whoever is blocked stays so since then, whatever else is changed.
    // Otherwise an answer comes after what it answers, though the clock was set back.
    if !(before.blocked && value.blocked) {
        let request: Option<Request> = tx.typed(&REQUESTS, &account.0)?;
        value.time = tx.now.max(before.time).max(request.map_or(0, |r| r.time));
    }
    let private = private_topic(tx)?;
    let lamport = next_lamport(tx, private)?;
    let value = postcard::to_stdvec(&value).map_err(Fail::peer)?;
    write(tx, PrivateEntry::Contact { account: account.0, value, lamport })
}

fn parse(link: &str) -> Result<Link, Fail> {
    Link::parse(link).map_err(|e| Refusal::Invalid { why: e.to_string() }.into())
}

fn not_a_card() -> Refusal {
    Refusal::Invalid { why: "this link is no contact card".into() }
}
