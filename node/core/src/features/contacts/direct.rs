//! The direct chats of two people: proposed by one, agreed by both; one stays where both asked.

use teahouse_protocols::ids::{AccountId, TopicId};
use teahouse_protocols::inbox::InboxItem;
use teahouse_protocols::membership::History;

use super::{contact, edit};
use crate::engine::{accounts, inbox, topics};
use crate::features::groups;
use crate::store::{KeyRange, ReadExt, StorageError};
use crate::tables::{GREETINGS, Greeting, LOG, REQUESTS, Request, TOPICS, Topic, pair_key};
use crate::tx::{Fail, Tx};

/// Whether nothing of a topic is dialled for or acknowledged: a stranger's proposal, and the
/// direct chat with a blocked account. A chat that an equal one superseded is not quiet:
/// somebody may write in it yet.
pub(crate) fn is_quiet(tx: &Tx<'_>, topic: TopicId) -> Result<bool, StorageError> {
    if is_proposal(tx, topic)? {
        return Ok(true);
    }
    let peer = topics::row(tx, topic)?.and_then(|r| r.peer);
    Ok(match peer {
        Some(peer) => contact(tx, peer)?.blocked,
        None => false,
    })
}

/// Whether a stranger proposed this direct chat and nobody here said yes: unanswered,
/// declined, or pushed out by newer requests.
pub(crate) fn is_proposal(tx: &Tx<'_>, topic: TopicId) -> Result<bool, StorageError> {
    let Some(row) = topics::row(tx, topic)? else { return Ok(false) };
    let (true, Some(peer)) = (row.proposed, row.peer) else { return Ok(false) };
    let request: Option<Request> = tx.typed(&REQUESTS, &peer.0)?;
    Ok(row.hidden || request.is_some_and(|r| r.incoming && r.topic == topic))
}

/// Another device of this account knows that both are in a direct chat by their will.
pub(crate) fn agreed(tx: &mut Tx<'_>, topic: TopicId) -> Result<(), StorageError> {
    let Some(row) = topics::row(tx, topic)? else { return Ok(()) };
    if row.proposed {
        hide(tx, topic, false)?;
    }
    match row.peer {
        Some(peer) => answered(tx, peer),
        None => Ok(()),
    }
}

/// Whether nobody wrote in a chat. Asked of the log, not of its rows: a rebuild makes those
/// again, one topic after the other.
fn is_unwritten(tx: &Tx<'_>, topic: TopicId) -> Result<bool, StorageError> {
    Ok(tx.first(&LOG, &topic.0)?.is_none())
}

/// All direct chats with somebody; more than one where both asked, or asked again.
pub(super) fn direct_with(
    tx: &Tx<'_>,
    them: AccountId,
) -> Result<Vec<(TopicId, Topic)>, StorageError> {
    let rows: Vec<(Vec<u8>, Topic)> = tx.scan_typed(&TOPICS, &KeyRange::all(), false, 65_536)?;
    Ok(rows
        .into_iter()
        .filter(|(_, row)| row.peer == Some(them))
        .filter_map(|(key, row)| Some((TopicId(key.try_into().ok()?), row)))
        .collect())
}

/// There are two direct chats, for both asked: the one with the smaller id stays, on both
/// sides. The other is shown no longer, unless somebody wrote or writes in it.
pub(super) fn settle_mutual(
    tx: &mut Tx<'_>,
    them: AccountId,
    mine: TopicId,
    theirs: TopicId,
) -> Result<TopicId, Fail> {
    if mine == theirs {
        return Ok(mine);
    }
    let (keep, drop) = if mine < theirs { (mine, theirs) } else { (theirs, mine) };
    let empty = is_unwritten(tx, drop)?;
    // Both agreed: neither is a proposal any longer.
    hide(tx, keep, false)?;
    hide(tx, drop, false)?;
    if empty {
        hide(tx, drop, true)?;
    }
    edit(tx, them, |c| c.topic = Some(keep))?;
    if keep == mine {
        // Our request may never reach them; this does not depend on it.
        for device in accounts::devices_of(tx, them)? {
            let welcome = topics::welcome(tx, mine, device, History::All)?;
            let items = groups::own_pack_then(tx, InboxItem::Welcome(Box::new(welcome)))?;
            inbox::send(tx, device, items)?;
        }
    }
    topics::welcome_own(tx, keep)?;
    Ok(keep)
}

pub(super) fn hide(tx: &mut Tx<'_>, topic: TopicId, hidden: bool) -> Result<(), StorageError> {
    if let Some(mut row) = topics::row(tx, topic)? {
        row.hidden = hidden;
        if !hidden {
            row.proposed = false;
            // Acknowledgements were held back while it was a proposal.
            tx.mem.acks_due.insert(topic);
        }
        tx.put(&TOPICS, &topic.0, &row)?;
    }
    Ok(())
}

/// A request was answered yes: of it, the greeting stays.
pub(super) fn answer(tx: &mut Tx<'_>, them: AccountId) -> Result<(), StorageError> {
    keep_greeting(tx, them)?;
    tx.del(&REQUESTS, &them.0)
}

/// Keeps what was said with a request. A contact's later words change nothing.
pub(super) fn keep_greeting(tx: &mut Tx<'_>, them: AccountId) -> Result<(), StorageError> {
    let Some(request) = tx.typed::<Request>(&REQUESTS, &them.0)? else { return Ok(()) };
    let Some(own) = tx.me()?.account.filter(|_| !request.greeting.is_empty()) else {
        return Ok(());
    };
    let by = if request.incoming { them } else { own };
    let key = pair_key(&them.0, &by.0);
    if contact(tx, them)?.friend && tx.contains(&GREETINGS, &key)? {
        return Ok(());
    }
    tx.put(&GREETINGS, &key, &Greeting { time: request.time, text: request.greeting })
}

/// One of this account's devices said yes, or heard it: what was proposed is a chat, on every
/// device, and an empty one beside the chat that the two settled for is not shown.
pub(super) fn answered(tx: &mut Tx<'_>, them: AccountId) -> Result<(), StorageError> {
    let c = contact(tx, them)?;
    // Acknowledgements were held back while they were blocked.
    for (topic, _) in direct_with(tx, them)? {
        tx.mem.acks_due.insert(topic);
    }
    let Some(kept) = c.topic else { return Ok(()) };
    let request: Option<Request> = tx.typed(&REQUESTS, &them.0)?;
    // A yes answers what was asked before it: told again by a replay, it must not answer
    // what was asked since.
    let since = request.as_ref().filter(|r| r.time > c.time).map(|r| r.topic);
    if c.friend && since.is_none() && request.is_some_and(|r| r.topic == kept) {
        answer(tx, them)?;
    }
    for (topic, row) in direct_with(tx, them)? {
        if since == Some(topic) {
            continue;
        }
        let agreed = c.friend && row.proposed && (topic == kept || !is_proposal(tx, topic)?);
        // The one that stays is shown, whatever was settled before.
        if agreed || topic == kept && !row.proposed && row.hidden {
            hide(tx, topic, false)?;
        }
        let proposed = topics::row(tx, topic)?.is_none_or(|r| r.proposed);
        if topic != kept && !proposed && is_unwritten(tx, topic)? {
            hide(tx, topic, true)?;
        }
    }
    Ok(())
}
