//! What happened in a group: who came and went, who may do what, what it was called. Told
//! from the membership log and the titles that were given, where this device saw them.

use teahouse_protocols::ids::{AccountId, Millis, OpId, TopicId};
use teahouse_protocols::membership::{History, MemberOp, TopicKind};

use super::{Names, Result, me, message_place};
use crate::engine::topics;
use crate::store::{KeyRange, Read, ReadExt};
use crate::tables::{OP_TIMES, TITLES, TitleRow};
use crate::view::{Event, Happened, Who};

/// Titles looked at, the newest.
const MAX_TITLES: usize = 1_024;

/// What happened in a group since a time, oldest first; at most `limit`, the newest. Empty
/// for what is no group.
///
/// Operations carry no time of their own: theirs is when they came to this device. What came
/// with the invitation has none, and is not told.
pub fn events(s: &dyn Read, topic: TopicId, since: Millis, limit: usize) -> Result<Vec<Event>> {
    let me = me(s)?.account;
    let Some(state) = topics::load(s, topic)? else { return Ok(Vec::new()) };
    if state.now().kind != TopicKind::Group {
        return Ok(Vec::new());
    }
    let mut names = Names::new(s);
    let mut who = |account: AccountId| -> Result<Who> {
        Ok(Who { account, name: names.in_topic(topic, account)?, me: Some(account) == me })
    };
    let mut out: Vec<((Millis, [u8; 32], u64), Event)> = Vec::new();

    let times: Vec<(Vec<u8>, Millis)> =
        s.scan_typed(&OP_TIMES, &KeyRange::prefix(&topic.0), true, 65_536)?;
    for (key, time) in times.into_iter().filter(|(_, time)| *time >= since) {
        let Some(id) = key.last_chunk::<32>() else { continue };
        let Some(record) = state.log.get(&OpId(*id)) else { continue };
        if state.now().void.contains_key(&OpId(*id)) || state.log.dag().pending().contains(id) {
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
        out.push(((time, *id, 0), Event { time, by: who(record.account)?, happened }));
    }

    let titles: Vec<(Vec<u8>, TitleRow)> =
        s.scan_typed(&TITLES, &KeyRange::prefix(&topic.0), true, MAX_TITLES)?;
    for (key, row) in titles {
        let (time, id) = message_place(&key)?;
        if time < since {
            break;
        }
        let happened = Happened::Named { title: row.title };
        out.push(((time, id.device.0, id.seq), Event { time, by: who(row.account)?, happened }));
    }
    out.sort_by_key(|(place, _)| *place);
    Ok(out.drain(out.len().saturating_sub(limit)..).map(|(_, event)| event).collect())
}
