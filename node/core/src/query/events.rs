//! What happened in a chat: who came and went, who may do what, what it was called, and
//! whether messages disappear. Told from the membership log and the fields that were set, where
//! this device saw them.

use teahouse_protocols::ids::{AccountId, Millis, OpId, TopicId};
use teahouse_protocols::membership::{History, MemberOp, TopicKind};

use super::{Names, Result, blocked_since, me, message_place};
use crate::engine::letters::log_row;
use crate::engine::topics;
use crate::store::{KeyRange, Read, ReadExt};
use crate::tables::{
    CHANGES, CONTACTS, ChangeRow, Chosen, ContactValue, Field, GREETINGS, Greeting, OP_TIMES,
    REQUESTS, Request, TOPICS, Topic, pair_key,
};
use crate::view::{Event, Happened, Who};

/// Changes of fields looked at, the newest.
const MAX_CHANGES: usize = 1_024;

/// What happened in a chat since a time, oldest first; at most `limit`, the newest.
///
/// Operations carry no time of their own: theirs is when they came to this device. What came
/// with the invitation has none, and is not told.
pub fn events(s: &dyn Read, topic: TopicId, since: Millis, limit: usize) -> Result<Vec<Event>> {
    let me = me(s)?.account;
    let Some(state) = topics::load(s, topic)? else { return Ok(Vec::new()) };
    if !state.now().kind.is_chat() {
        return Ok(Vec::new());
    }
    let group = state.now().kind == TopicKind::Group;
    let peer = s.get_typed::<Topic>(&TOPICS, &topic.0)?.and_then(|t| t.peer);
    // Of who is blocked, what was before the block is shown.
    let blocked = blocked_since(s, peer)?.unwrap_or(Millis::MAX);
    let mut names = Names::new(s);
    let mut who = |account: AccountId| -> Result<Who> {
        Ok(Who { account, name: names.in_topic(topic, account)?, me: Some(account) == me })
    };
    // By time; what came together, operations first and in their own order.
    let mut out: Vec<((Millis, u64), Event)> = Vec::new();

    // What waits for earlier operations is not in the order yet.
    for (position, id) in (0..).zip(state.log.dag().order()).filter(|_| group) {
        let time: Option<Millis> = s.get_typed(&OP_TIMES, &pair_key(&topic.0, id))?;
        let Some(time) = time.filter(|time| *time >= since) else { continue };
        let Some(record) = state.log.get(&OpId(*id)) else { continue };
        if state.now().void.contains_key(&OpId(*id)) {
            continue;
        }
        let record = record.get();
        let happened = match &record.op {
            MemberOp::Create { .. } => Happened::Created,
            MemberOp::Add { account, .. } => Happened::Added { who: who(*account)? },
            MemberOp::Remove { account, .. } => Happened::Removed { who: who(*account)? },
            MemberOp::Leave { .. } => Happened::Left,
            MemberOp::SetRole { account, role } => {
                Happened::Role { who: who(*account)?, role: *role }
            }
            MemberOp::SetHistory { history } => {
                Happened::History { shared: *history == History::All }
            }
            MemberOp::CutDevice { .. } => continue,
        };
        out.push(((time, position), Event { time, by: who(record.account)?, happened }));
    }

    let changes: Vec<(Vec<u8>, ChangeRow)> =
        s.scan_typed(&CHANGES, &KeyRange::prefix(&topic.0), true, MAX_CHANGES)?;
    for (nth, (key, row)) in (0..).zip(changes) {
        let (time, id) = message_place(&key)?;
        if time < since {
            break;
        }
        // Told by when it came: what it says of its time is its author's word.
        let since_block = !group
            && Some(row.account) != me
            && log_row(s, topic, id.device, id.seq)?.is_none_or(|r| r.received >= blocked);
        // A chat of two has no title and no notice, whatever somebody writes; and nothing of
        // who is blocked is shown.
        if !group && row.field != Field::Timer as u8 || since_block {
            continue;
        }
        let happened = match row.field {
            f if f == Field::Title as u8 => Happened::Named { title: row.text },
            f if f == Field::Notice as u8 => Happened::Notice { text: row.text },
            _ => Happened::Timer { seconds: row.text.parse().unwrap_or(0) },
        };
        out.push(((time, u64::MAX - nth), Event { time, by: who(row.account)?, happened }));
    }
    if let (Some(peer), Some(own)) = (peer, me) {
        for (by, greeting) in greetings(s, topic, peer, own)? {
            let time = greeting.time;
            if time >= since && (time < blocked || by == own) {
                let happened = Happened::Greeted { text: greeting.text };
                out.push(((time, 0), Event { time, by: who(by)?, happened }));
            }
        }
    }
    out.sort_by_key(|(place, _)| *place);
    Ok(out.drain(out.len().saturating_sub(limit)..).map(|(_, event)| event).collect())
}

/// What the two said when they asked each other for contact, told in the chat that they have,
/// or in the one that awaits an answer.
fn greetings(
    s: &dyn Read,
    topic: TopicId,
    peer: AccountId,
    own: AccountId,
) -> Result<Vec<(AccountId, Greeting)>> {
    let mut out = Vec::new();
    let contact: Option<Chosen<ContactValue>> = s.get_typed(&CONTACTS, &peer.0)?;
    if contact.is_some_and(|c| c.value.friend && c.value.topic == Some(topic)) {
        for by in [peer, own] {
            let greeting: Option<Greeting> = s.get_typed(&GREETINGS, &pair_key(&peer.0, &by.0))?;
            out.extend(greeting.map(|g| (by, g)));
        }
    }
    let request: Option<Request> = s.get_typed(&REQUESTS, &peer.0)?;
    if let Some(r) = request.filter(|r| !r.incoming && r.topic == topic && !r.greeting.is_empty()) {
        out.push((own, Greeting { time: r.time, text: r.greeting }));
    }
    Ok(out)
}
