//! Makes a new model from the old one and what changed. What is equal keeps its `Arc`, so
//! that the screens can tell by the pointer that nothing moved.

use std::sync::Arc;

use teahouse_node::core::query;
use teahouse_node::core::store::{ChangeSet, Snapshot, StorageError};
use teahouse_node::protocols::ids::{AccountId, Millis, TopicId};
use teahouse_node::watch::View;
use teahouse_node::{Handle, NodeError};

use crate::vm::{self, Around, Conversation, Me, Model, Stage, Zone};

/// What the window looks at.
#[derive(Debug, Clone, Default)]
pub(super) struct Focus {
    /// The open conversation, and how many of its newest messages.
    pub(super) conversation: Option<(TopicId, usize)>,
    /// Whose safety number.
    pub(super) person: Option<AccountId>,
    /// It looks at something else than at the last refresh.
    pub(super) moved: bool,
}

/// The model after `touched`; `None` if it is the same. It reads the disk.
pub(super) fn refresh(
    handle: &Handle,
    was: &Model,
    focus: &Focus,
    touched: &ChangeSet,
    now: Millis,
    zone: &Zone,
) -> Result<Option<Model>, String> {
    let read = |e: NodeError| e.to_string();
    let snapshot = handle.snapshot().map_err(read)?;
    update(&snapshot, was, focus, touched, now, zone).map_err(|e| read(e.into()))
}

fn update(
    s: &Snapshot,
    was: &Model,
    focus: &Focus,
    touched: &ChangeSet,
    now: Millis,
    zone: &Zone,
) -> Result<Option<Model>, StorageError> {
    let mut new = was.clone();
    let mut changed = was.stage != Stage::Running;
    new.stage = Stage::Running;
    let depends = |view: View| view.depends(touched);

    if depends(View::Identity) {
        set(&mut new.me, Me::from(query::identity(s)?), &mut changed);
    }
    if depends(View::Chats) {
        keep(&mut new.chats, vm::chat_rows(&query::chats(s)?, now, zone), &mut changed);
    }
    if depends(View::Contacts) {
        keep(&mut new.contacts, vm::contact_rows(&query::contacts(s)?), &mut changed);
    }
    if depends(View::Devices) {
        keep(&mut new.devices, query::devices(s)?.into(), &mut changed);
    }
    if depends(View::Linking) {
        set(&mut new.linking, Some(query::linking(s)?), &mut changed);
    }
    if depends(View::Relays) {
        keep(&mut new.relays, vm::relay_rows(&query::relays(s)?, now, zone), &mut changed);
    }
    if depends(View::Alarms) {
        keep(&mut new.alarms, query::alarms(s)?.into(), &mut changed);
    }

    let stale = |topic| {
        [View::Chats, View::Messages, View::Members].iter().any(|v| v.depends_in(topic, touched))
    };
    match focus.conversation {
        Some((topic, limit)) if focus.moved || stale(topic) => {
            let next = conversation(s, topic, limit, new.me.account, now, zone)?;
            if new.conversation != next {
                new.conversation = next;
                changed = true;
            }
        }
        Some(_) => {}
        None => changed |= new.conversation.take().is_some(),
    }
    match focus.person {
        Some(account) if focus.moved || depends(View::Contacts) => {
            let number = query::safety_number(s, account)?;
            set(&mut new.safety, number.map(|n| (account, n)), &mut changed);
        }
        Some(_) => {}
        None => changed |= new.safety.take().is_some(),
    }
    Ok(changed.then_some(new))
}

fn conversation(
    s: &Snapshot,
    topic: TopicId,
    limit: usize,
    me: Option<AccountId>,
    now: Millis,
    zone: &Zone,
) -> Result<Option<Arc<Conversation>>, StorageError> {
    let Some(chat) = query::chat(s, topic)? else { return Ok(None) };
    let members = query::members(s, topic)?;
    // One more than is shown tells whether there are more.
    let mut messages = query::messages(s, topic, None, limit.saturating_add(1))?;
    let more = messages.len() > limit;
    if more {
        messages.remove(0);
    }
    let since = messages.first().filter(|_| more).map_or(0, |m| m.time);
    let events = query::events(s, topic, since, limit)?;
    let waiting = query::waiting_here(s, topic)?;
    let around = Around { members: &members, waiting: &waiting, me, more, now, zone };
    // A quoted message that can't be read is shown as one that is not here.
    let find = |id| query::message(s, topic, id).ok().flatten();
    Ok(Some(vm::conversation(&chat, &around, &messages, &events, find)))
}

fn set<T: PartialEq>(old: &mut T, new: T, changed: &mut bool) {
    if *old != new {
        *old = new;
        *changed = true;
    }
}

fn keep<T: PartialEq>(old: &mut Arc<[T]>, new: Arc<[T]>, changed: &mut bool) {
    if *old != new {
        *old = new;
        *changed = true;
    }
}
