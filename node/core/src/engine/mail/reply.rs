//! What a relay's reply changes: successes are noted in the tables, refusals make what was
//! refused wait, or go another way.

use std::mem::discriminant;

use teahouse_protocols::codec;
use teahouse_protocols::ids::RelayId;
use teahouse_protocols::mailbox::{Refusal, Reply};

use super::cursor::{cursor_to_inboxes, note_mailed};
use super::deposit::closed;
use super::fetch::{Fetched, fetched};
use super::outbox::stored;
use super::session::{Brought, Pending, REFILL, Refused};
use super::tokens::{add_tokens, token_key};
use crate::engine::topics;
use crate::tables::{
    DEPOSITS, Deposit, RELAY_NAMES, RELAYS, RelayRow, TAGS, TOKENS, TagRow, TagSource, pair_key,
};
use crate::tx::{Fail, Tx};

/// Takes a reply in; items are returned, to be taken in one by one.
pub(crate) fn reply(
    tx: &mut Tx<'_>,
    id: u64,
    result: Result<&[u8], &str>,
) -> Result<Vec<Fetched>, Fail> {
    let Some((relay, pending)) =
        tx.mem.mail.iter_mut().find_map(|(relay, s)| s.inflight.remove(&id).map(|p| (*relay, p)))
    else {
        return Ok(Vec::new());
    };
    let decoded = match result {
        Ok(bytes) => codec::decode::<Reply>(bytes).map_err(|e| e.to_string()),
        Err(why) => Err(why.to_owned()),
    };
    let mut row: RelayRow = tx.typed(&RELAYS, &relay.0)?.unwrap_or_default();
    let reply = match decoded {
        Ok(reply) => reply,
        Err(why) => {
            // Unreachable: everything at this relay waits, longer each time.
            let now = tx.now;
            let session = tx.mem.mail.entry(relay).or_default();
            session.back_off(now);
            session.end();
            session.refused = None;
            requeue(tx, &pending);
            if row.trouble != why {
                row.trouble = why;
                tx.put(&RELAYS, &relay.0, &row)?;
            }
            return Ok(Vec::new());
        }
    };
    let refused = matches!(reply, Reply::Refused(_));
    let now = tx.now;
    let session = tx.mem.mail.entry(relay).or_default();
    let settled =
        !refused && session.refused.as_ref().is_none_or(|r| r.is_settled_by(&pending, now));
    if settled {
        session.refused = None;
    }
    // A relay that answers again is noted once a minute, not for every answer.
    let well_again = settled && !row.trouble.is_empty();
    if well_again || row.last_answer.is_none_or(|t| t + 60_000 < now) {
        row.last_answer = Some(now);
        if well_again {
            row.trouble.clear();
        }
        tx.put(&RELAYS, &relay.0, &row)?;
    }
    if let Reply::Refused(refusal) = reply {
        refuse(tx, relay, row, pending, refusal)?;
        return Ok(Vec::new());
    }
    // A greeting is no success: what it is followed by may be refused.
    if pending != Pending::Hello {
        tx.mem.mail.entry(relay).or_default().fails = 0;
    }
    answered(tx, relay, row, pending, reply)
}

fn answered(
    tx: &mut Tx<'_>,
    relay: RelayId,
    mut row: RelayRow,
    pending: Pending,
    reply: Reply,
) -> Result<Vec<Fetched>, Fail> {
    match (pending, reply) {
        (Pending::Hello, Reply::Hello { challenge, name, .. }) => {
            let known: Option<String> = tx.typed(&RELAY_NAMES, &relay.0)?;
            if known.as_deref().unwrap_or_default() != &*name {
                tx.put(&RELAY_NAMES, &relay.0, &name.to_string())?;
            }
            let now = tx.now;
            tx.mem.mail.entry(relay).or_default().begin(challenge, now);
            tx.mem.mail_all = true;
            tx.mem.mail_due = true;
        }
        (Pending::Admit, Reply::Tokens(tokens)) => {
            row.code = None;
            tx.put(&RELAYS, &relay.0, &row)?;
            add_tokens(tx, relay, &tokens)?;
        }
        (Pending::Refill(token), Reply::Tokens(tokens)) => {
            tx.mem.mail.entry(relay).or_default().hushed.remove(&REFILL);
            tx.del(&TOKENS, &token_key(relay, &token))?;
            add_tokens(tx, relay, &tokens)?;
        }
        (Pending::Open(tag, token), Reply::Opened { spent }) => {
            if spent {
                tx.del(&TOKENS, &token_key(relay, &token))?;
            }
            let key = pair_key(&relay.0, &tag.0);
            let mut opened = None;
            if let Some(mut row) = tx.typed::<TagRow>(&TAGS, &key)? {
                // Opened with secrets that have changed since: once more, with the new ones.
                let stale = row.source == TagSource::Card && std::mem::take(&mut tx.mem.card_dirty);
                row.open = !stale;
                tx.mem.mail_due |= stale;
                tx.put(&TAGS, &key, &row)?;
                if let TagSource::Topic(epoch, _) = row.source {
                    opened = topics::secret(tx, epoch)?.map(|(topic, _)| topic);
                }
            }
            let session = tx.mem.mail.entry(relay).or_default();
            session.to_open.remove(&tag);
            session.hushed.remove(&tag.0);
            if let Some(topic) = opened {
                session.hushed.remove(&topic.0);
            }
            // What was refused because the tag was closed may be left now.
            tx.mem.mail_all = true;
        }
        (Pending::Run { topic, first, upto }, Reply::Deposited { .. }) => {
            let key = pair_key(&topic.0, &relay.0);
            if let Some(mut deposit) = tx.typed::<Deposit>(&DEPOSITS, &key)? {
                deposit.deposited(first, upto);
                tx.put(&DEPOSITS, &key, &deposit)?;
            }
            tx.mem.mail.entry(relay).or_default().hushed.remove(&topic.0);
            tx.mem.mail_topics.insert(topic);
        }
        (Pending::Cursor { topic, acks }, Reply::Deposited { .. }) => {
            note_mailed(tx, topic, &acks)?;
        }
        (Pending::Out { key, tag }, Reply::Deposited { .. }) => {
            tx.mem.mail.entry(relay).or_default().hushed.remove(&tag.0);
            stored(tx, relay, &key)?;
        }
        (Pending::Fetch(fetch), Reply::Items { items, more, watched, nth, .. }) => {
            let items = items.into_iter().map(|(tag, n, bytes)| (tag, n, bytes.into_inner()));
            let brought = Brought { fetch, items: items.collect(), more, watched };
            return fetched(tx, relay, brought, nth);
        }
        (pending, _) => {
            // Nothing that can be worked with: it is left alone for a while.
            let now = tx.now;
            tx.mem.mail.entry(relay).or_default().back_off(now);
            requeue(tx, &pending);
            return Err(Fail::peer("a relay answered something else than was asked"));
        }
    }
    Ok(Vec::new())
}

fn refuse(
    tx: &mut Tx<'_>,
    relay: RelayId,
    mut row: RelayRow,
    pending: Pending,
    refusal: Refusal,
) -> Result<(), Fail> {
    let now = tx.now;
    match (&pending, refusal) {
        (_, Refusal::NoSession) => {
            let session = tx.mem.mail.entry(relay).or_default();
            session.end();
            session.back_off(now);
            requeue(tx, &pending);
            return Ok(());
        }
        (Pending::Open(_, token) | Pending::Refill(token), Refusal::BadToken) => {
            tx.del(&TOKENS, &token_key(relay, token))?;
            return Ok(());
        }
        (Pending::Admit, Refusal::BadCode) => {
            row.code = None;
        }
        (Pending::Run { topic, upto, .. }, Refusal::Closed)
            if closed(tx, relay, *topic, *upto)? =>
        {
            return Ok(());
        }
        // A member gets so many tokens a day: that stops nothing else.
        (Pending::Refill(_), Refusal::SlowDown) => {
            tx.mem.mail.entry(relay).or_default().hush(REFILL, now);
            return Ok(());
        }
        // The cursor's author has no open tag there: it will be told when it connects.
        (Pending::Cursor { topic, acks }, Refusal::Closed) => {
            return cursor_to_inboxes(tx, *topic, acks);
        }
        _ => {}
    }
    let words = refusal.to_string();
    if row.trouble != words {
        row.trouble = words;
        tx.put(&RELAYS, &relay.0, &row)?;
    }
    let session = tx.mem.mail.entry(relay).or_default();
    // Nothing of a refused fetch is watched. Where it may be for what it named, others are
    // named without that.
    if let Pending::Fetch(fetch) = &pending {
        session.look = true;
        let named = matches!(refusal, Refusal::SlowDown | Refusal::BadProof | Refusal::Malformed);
        for tag in fetch.reads.keys().filter(|_| named) {
            session.hush(tag.0, now);
        }
    }
    // What concerns one mailbox stops that mailbox.
    let one = pending.about();
    if let Some(id) = one {
        session.hush(id, now);
    }
    let whole = matches!(
        refusal,
        Refusal::SlowDown | Refusal::RelayFull | Refusal::Storage | Refusal::Draining
    );
    let about = one.filter(|_| !whole);
    session.refused = Some(Refused { kind: discriminant(&pending), about, at: now });
    if whole || one.is_none() {
        session.back_off(now);
    }
    requeue(tx, &pending);
    Ok(())
}

fn requeue(tx: &mut Tx<'_>, pending: &Pending) {
    match pending {
        Pending::Run { topic, .. } | Pending::Cursor { topic, .. } => {
            tx.mem.mail_topics.insert(*topic);
        }
        _ => {}
    }
}
