//! Whether an envelope counts: when it comes, and again when membership changes.

use teahouse_protocols::bugs::planted;
use teahouse_protocols::envelope::{Envelope, Header};
use teahouse_protocols::ids::{AccountId, OpId, TopicId};
use teahouse_protocols::membership::{History, Reason, Verdict};

use super::replay::replay;
use crate::engine::{accounts, forks, topics};
use crate::store::{KeyRange, ReadExt, StorageError};
use crate::tables::{LOG, LogRow, Status};
use crate::tx::{Fail, TopicState, Tx};

/// Judges every stored envelope of a topic again, and replays the rows if anything changed.
pub(crate) fn rejudge(tx: &mut Tx<'_>, topic: TopicId) -> Result<(), Fail> {
    let Some(state) = topics::state(tx, topic)? else { return Ok(()) };
    let mut changed = false;
    let mut range = KeyRange::prefix(&topic.0);
    loop {
        let rows = tx.scan(&LOG, &range, false, 1_024)?;
        let Some((last, _)) = rows.last() else { break };
        range = range.after(&last.clone());
        for (key, bytes) in rows {
            let damaged = || StorageError::corrupt(LOG.name, "envelope");
            let mut row = LogRow::from_bytes(&bytes).ok_or_else(damaged)?;
            if !matches!(row.status, Status::Accepted | Status::Void | Status::Sealed) {
                continue;
            }
            let envelope = Envelope::from_bytes(&row.envelope).map_err(|_| damaged())?;
            let Some(header) = &envelope.header else { continue };
            let Some(account) = accounts::account_of(tx, envelope.device)? else { continue };
            let status = match judge(tx, &state, account, &envelope, &header.heads)? {
                Verdict::Accepted => Status::Accepted,
                Verdict::Void(_) => Status::Void,
                Verdict::Pending { .. } => continue,
            };
            if status == Status::Accepted && row.status == Status::Sealed {
                continue;
            }
            if status != row.status {
                row.status = status;
                changed = true;
                tx.put_raw(&LOG, &key, row.to_bytes())?;
            }
        }
    }
    if changed {
        // What no longer counts holds no acknowledgement up.
        tx.mem.acks_due.insert(topic);
        replay(tx, topic)?;
    }
    Ok(())
}

/// Judges an envelope against what is known of membership and forks.
pub(super) fn judge(
    tx: &mut Tx<'_>,
    state: &TopicState,
    account: AccountId,
    envelope: &Envelope,
    heads: &[OpId],
) -> Result<Verdict, StorageError> {
    let (device, seq) = (envelope.device, envelope.seq);
    if forks::covers(tx, envelope.topic, device, seq)? && !planted("forks_ignored") {
        return Ok(Verdict::Void(Reason::NotADevice));
    }
    let now = state.now();
    // The common case: written under the membership that holds now, by an uncut device.
    if heads == now.heads && now.members.contains_key(&account) && !now.cuts.contains_key(&device) {
        return Ok(Verdict::Accepted);
    }
    let oracle = topics::oracle(&tx.stage);
    Ok(state.eval.judge(&oracle, account, device, seq, envelope.id(), heads))
}

/// Whether this account may have the key of an envelope: its grant covers all history, it was a
/// member when the envelope was written, or it is let read without being one.
pub(super) fn entitled(
    tx: &mut Tx<'_>,
    topic: TopicId,
    state: &TopicState,
    header: &Header,
) -> Result<bool, StorageError> {
    let Some(account) = tx.me()?.account else { return Ok(false) };
    // Who is let read may read all.
    if topics::author(tx, topic)?.is_some() {
        return topics::takes_part(tx, topic);
    }
    let granted = state.now().members.get(&account).is_some_and(|m| m.history == History::All);
    Ok(granted
        || *header.heads == *state.now().heads
        || state.eval.at(&header.heads).is_some_and(|m| m.members.contains_key(&account)))
}
