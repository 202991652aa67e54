//! Why something was not delivered: what waits, where, and what is known of the reason.

use std::collections::BTreeSet;

use teahouse_protocols::ids::{AccountId, DeviceId, RelayId, TopicId};

use super::{Names, Result, chat, each_chat, identity};
use crate::engine::letters::log_row;
use crate::engine::{accounts, cursors, topics};
use crate::store::{KeyRange, Read, ReadExt};
use crate::tables::{
    CHAINS, Chain, DEPOSITS, Deposit, OUTBOX, OutItem, RELAYS, REQUESTS, RelayRow, Request,
    chain_key,
};
use crate::tx::TopicState;
use crate::view;

/// Why a message waits, as far as is known: its relay never answered.
pub const NOT_REACHED: &str = "the relay was not reached yet";
/// Why a message waits, as far as is known: its relay answers, but does not have it.
pub const NOT_TAKEN: &str = "the relay has not taken it yet";

/// What is wrong with any relay that messages are meant for, one's own or a contact's.
pub fn relay_trouble(s: &dyn Read) -> Result<Vec<(RelayId, String)>> {
    let rows: Vec<(Vec<u8>, RelayRow)> = s.scan_typed(&RELAYS, &KeyRange::all(), false, 65_536)?;
    Ok(rows
        .into_iter()
        .filter(|(_, r)| !r.trouble.is_empty())
        .filter_map(|(k, r)| Some((RelayId(k.try_into().ok()?), r.trouble)))
        .collect())
}

/// What waits to be delivered, chat by chat and relay by relay, and why.
pub fn waiting(s: &dyn Read) -> Result<Vec<view::Waiting>> {
    let me = identity(s)?;
    let Some(account) = me.account else { return Ok(Vec::new()) };
    let mut chats: Vec<(view::Chat, Vec<view::Waiting>)> = Vec::new();
    each_chat(s, &mut Names::new(s), &mut |names, chat, state| {
        let lines = waiting_in(s, names, &chat, state, (account, me.device))?;
        chats.push((chat, lines));
        Ok(())
    })?;
    chats.sort_by(|(a, _), (b, _)| b.time.cmp(&a.time).then(a.topic.cmp(&b.topic)));
    let mut all = unsent_requests(s)?;
    all.extend(chats.into_iter().flat_map(|(_, lines)| lines));
    Ok(all)
}

/// What waits in one chat, relay by relay, and why.
pub fn waiting_here(s: &dyn Read, topic: TopicId) -> Result<Vec<view::Waiting>> {
    let me = identity(s)?;
    let Some(account) = me.account else { return Ok(Vec::new()) };
    let (Some(chat), Some(state)) = (chat(s, topic)?, topics::load(s, topic)?) else {
        return Ok(Vec::new());
    };
    let mut all = unsent_requests(s)?;
    all.retain(|w| w.topic == topic);
    all.extend(waiting_in(s, &mut Names::new(s), &chat, &state, (account, me.device))?);
    Ok(all)
}

/// What waits for relays, of those chats in which some relay is behind: others are not looked
/// at, for a chat's membership is evaluated.
pub(super) fn behind(s: &dyn Read, device: DeviceId) -> Result<Vec<view::Waiting>> {
    let rows: Vec<(Vec<u8>, Deposit)> = s.scan_typed(&DEPOSITS, &KeyRange::all(), false, 65_536)?;
    let mut topics = BTreeSet::new();
    for (key, deposit) in rows {
        let Some(topic) = key.first_chunk::<32>().map(|t| TopicId(*t)) else { continue };
        let chain: Option<Chain> = s.get_typed(&CHAINS, &chain_key(topic, device))?;
        if chain.is_some_and(|c| c.high > deposit.upto) {
            topics.insert(topic);
        }
    }
    let mut all = Vec::new();
    for topic in topics {
        all.extend(waiting_here(s, topic)?.into_iter().filter(|w| !w.request));
    }
    Ok(all)
}

/// Contact requests that no relay has yet.
fn unsent_requests(s: &dyn Read) -> Result<Vec<view::Waiting>> {
    let rows: Vec<(Vec<u8>, OutItem)> = s.scan_typed(&OUTBOX, &KeyRange::all(), false, 65_536)?;
    let asks: Vec<OutItem> =
        rows.into_iter().map(|(_, item)| item).filter(|i| i.secret.is_some()).collect();
    if asks.is_empty() {
        return Ok(Vec::new());
    }
    let requests: Vec<(Vec<u8>, Request)> =
        s.scan_typed(&REQUESTS, &KeyRange::all(), false, 65_536)?;
    let mut out = Vec::new();
    for (key, request) in requests.into_iter().filter(|(_, r)| !r.incoming) {
        let Ok(account) = <[u8; 32]>::try_from(key.as_slice()) else { continue };
        let log = accounts::load(s, AccountId(account))?;
        let theirs =
            |d: &DeviceId| log.as_ref().is_some_and(|log| log.state().devices.contains_key(d));
        let card = log.as_ref().and_then(|log| log.state().card);
        // Of an account that only its card tells of, the tag is not known; then what was asked
        // in the same moment is meant.
        let ask = asks.iter().find(|i| {
            i.device.as_ref().is_some_and(theirs)
                || card.is_some_and(|card| card.tag == i.tag)
                || i.device.is_none() && i.made == request.time
        });
        let Some(ask) = ask else { continue };
        let relay = ask.relays.first().map(|r| r.id);
        let why = match relay {
            None => {
                "your request for contact has not left: their card names no relay, so it leaves \
                 when you meet in one network; or ask for a newer card"
                    .to_owned()
            }
            Some(relay) => format!("your request for contact has not left: {}", why(s, relay)?),
        };
        out.push(view::Waiting {
            topic: request.topic,
            title: request.name,
            relay,
            request: true,
            count: 1,
            since: ask.made,
            why,
        });
    }
    Ok(out)
}

/// Why something is not at a relay yet.
fn why(s: &dyn Read, relay: RelayId) -> Result<String> {
    let row: RelayRow = s.get_typed(&RELAYS, &relay.0)?.unwrap_or_default();
    Ok(if row.trouble.is_empty() {
        let words = if row.last_answer.is_some() { NOT_TAKEN } else { NOT_REACHED };
        words.to_owned()
    } else {
        row.trouble
    })
}

/// What waits in one chat.
fn waiting_in(
    s: &dyn Read,
    names: &mut Names<'_>,
    chat: &view::Chat,
    state: &TopicState,
    (account, device): (AccountId, DeviceId),
) -> Result<Vec<view::Waiting>> {
    if matches!(chat.state, view::ChatState::Blocked | view::ChatState::Left) {
        return Ok(Vec::new());
    }
    let chain: Option<Chain> = s.get_typed(&CHAINS, &chain_key(chat.topic, device))?;
    let high = chain.map_or(0, |c| c.high);
    // Up to here every other member has it on some device.
    let mut floor = high;
    let mut theirs = BTreeSet::new();
    // Up to here those who have no relay have it.
    let mut without = high;
    for member in state.now().members.keys().filter(|m| **m != account) {
        let mut best = 0;
        if let Some(log) = names.log(*member)? {
            for by in log.state().active_devices() {
                best = best.max(cursors::acked(s, chat.topic, *by, device)?);
            }
            if best < high {
                theirs.extend(accounts::relays(&log).map(|r| r.id));
                if accounts::relays(&log).next().is_none() {
                    without = without.min(best);
                }
            }
        }
        floor = floor.min(best);
    }
    if floor >= high {
        return Ok(Vec::new());
    }
    let line = |relay: Option<RelayId>, from: u64, why: String| -> Result<view::Waiting> {
        let first = log_row(s, chat.topic, device, from + 1)?;
        Ok(view::Waiting {
            topic: chat.topic,
            title: chat.title.clone(),
            relay,
            request: false,
            count: high - from,
            since: first.map_or(0, |r| r.received),
            why,
        })
    };
    // What relays hold changes nothing while nobody over there looks for it.
    if chat.state == view::ChatState::Requested {
        return Ok(vec![line(None, floor, "they have not accepted your request yet".into())?]);
    }
    // What lies at one's own relay for one's own other device reaches nobody else.
    if theirs.is_empty() {
        let why = "no relay is known where they look for messages: it arrives when you are both \
                   online";
        return Ok(vec![line(None, floor, why.into())?]);
    }
    let deposits: Vec<(Vec<u8>, Deposit)> =
        s.scan_typed(&DEPOSITS, &KeyRange::prefix(&chat.topic.0), false, 64)?;
    if deposits.is_empty() {
        return Ok(vec![line(None, floor, NOT_REACHED.to_owned())?]);
    }
    let (mut out, mut meant) = (Vec::new(), false);
    if without < high {
        let why = "no relay is known for some of them: it reaches those when you are both online";
        out.push(line(None, without, why.into())?);
    }
    for (key, deposit) in deposits {
        let Some(relay) = key.last_chunk::<32>().map(|r| RelayId(*r)) else { continue };
        if !theirs.contains(&relay) {
            continue;
        }
        meant = true;
        let upto = deposit.upto.max(floor);
        if upto < high {
            out.push(line(Some(relay), upto, why(s, relay)?)?);
        }
    }
    if !meant && out.is_empty() {
        out.push(line(None, floor, NOT_REACHED.to_owned())?);
    }
    Ok(out)
}
