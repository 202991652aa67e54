//! Which epoch to seal under: one that is known only to who is in, and that was made by
//! somebody who had seen every removal.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;

use teahouse_protocols::bugs::planted;
use teahouse_protocols::epoch::{EpochHead, EpochSecret, public_epoch};
use teahouse_protocols::ids::{DeviceId, EpochId, OpId, TopicId};
use teahouse_protocols::membership::{MemberOp, TopicKind};
use teahouse_protocols::sign::Signed;

use super::epochs::{MAX_EPOCHS, epochs, head, secret};
use super::readers::{author, give, is_public, note_renewal, sealed_to, tell};
use super::rekey::{Demand, demand, is_renewal_due, note_rekey, reachable, rekey};
use super::{devices, is_member, require};
use crate::tx::{Fail, TopicState, Tx};

/// Epochs looked at for a choice, the newest.
const MAX_LOOKED_AT: usize = 8;

/// The epoch to seal under, made now if none is adequate.
pub(crate) fn epoch_for_sending(
    tx: &mut Tx<'_>,
    topic: TopicId,
) -> Result<(EpochId, Arc<EpochSecret>), Fail> {
    if is_public(tx, topic)? {
        let (epoch, secret) = (public_epoch(topic), EpochSecret::public(topic));
        return Ok((epoch, Arc::new(secret)));
    }
    // Readers who came since are given the keys that there are.
    tell(tx, topic)?;
    let needed = reachable(tx, topic)?;
    let outdated = Cell::new(is_renewal_due(tx, topic)?);
    let found = newest_fit(tx, topic, |to, clean, later| {
        outdated.set(outdated.get() || !clean || !later);
        if !clean && !planted("stale_epoch") && !planted("granted_epoch") {
            return Fit::NoOlder;
        }
        let covers = needed.iter().all(|d| to.contains(d));
        let adequate =
            covers && (clean && (later || planted("granted_epoch")) || planted("stale_epoch"));
        if adequate { Fit::Yes } else { Fit::No }
    })?;
    if let Some(found) = found {
        return Ok((found.epoch, found.secret));
    }
    let parcels = rekey(tx, topic)?;
    let newest = epochs(&tx.stage, topic, 1)?;
    let epoch = *newest.first().ok_or_else(|| Fail::peer("no epoch after a rekey"))?;
    // Noted first: where giving fails half-way, the rest asks.
    note_rekey(tx, topic, epoch)?;
    note_renewal(tx, topic, epoch, outdated.get())?;
    give(tx, topic, parcels)?;
    let (_, secret) = secret(tx, epoch)?.ok_or_else(|| Fail::peer("no epoch after a rekey"))?;
    Ok((epoch, secret))
}

/// An epoch was made because somebody is out: in a topic with readers, they are to be told.
pub(super) fn note_new_epoch(tx: &mut Tx<'_>, topic: TopicId) -> Result<(), Fail> {
    if author(tx, topic)?.is_some()
        && let Some(epoch) = epochs(&tx.stage, topic, 1)?.first().copied()
    {
        note_rekey(tx, topic, epoch)?;
        note_renewal(tx, topic, epoch, true)?;
        tx.mem.readers_due = true;
    }
    Ok(())
}

/// An epoch under which acknowledgements may be mailed.
pub(crate) struct ForCursors {
    pub(crate) secret: Arc<EpochSecret>,
    /// Whom it names.
    pub(crate) named: Vec<DeviceId>,
}

/// The epoch under which acknowledgements are mailed: the newest that only who is in can know.
/// None is made for them: where there is none, or somebody is not named in it, they go to
/// inboxes.
pub(crate) fn epoch_for_cursors(
    tx: &mut Tx<'_>,
    topic: TopicId,
) -> Result<Option<ForCursors>, Fail> {
    let found =
        newest_fit(tx, topic, |_, clean, later| if clean && later { Fit::Yes } else { Fit::No })?;
    Ok(found.map(|f| ForCursors { secret: f.secret, named: f.head.get().recipients.to_vec() }))
}

/// An epoch that fits.
struct Found {
    epoch: EpochId,
    head: Signed<EpochHead>,
    secret: Arc<EpochSecret>,
}

/// What a choice says of an epoch.
enum Fit {
    Yes,
    No,
    /// Nor does any older one.
    NoOlder,
}

/// The newest epoch that `fit` takes of those that removed devices leave usable ([`Demand`]).
/// It is told whom the epoch was sealed to, whether it is [`clean`], and whether it is and its author
/// [`saw_all_removals`].
fn newest_fit(
    tx: &mut Tx<'_>,
    topic: TopicId,
    fit: impl Fn(&BTreeSet<DeviceId>, bool, bool) -> Fit,
) -> Result<Option<Found>, Fail> {
    let current = devices(tx, topic)?;
    let state = require(tx, topic)?;
    let cut = cut_devices(&state);
    let me = tx.me()?.device;
    if state.now().kind == TopicKind::Moments && !is_member(tx, topic, me)? {
        // A reader does not know who else reads.
        return Ok(None);
    }
    let demand = demand(tx, topic, &cut)?;
    let most = match demand {
        Demand::Fresh => 0,
        // Others' may be in between.
        Demand::Own => MAX_EPOCHS,
        Demand::Nothing => MAX_LOOKED_AT,
    };
    for epoch in epochs(&tx.stage, topic, most)? {
        let Some(head) = head(tx, epoch)? else { continue };
        if demand == Demand::Own && head.get().author != me {
            continue;
        }
        // Of an epoch with readers only its maker knows who can open it.
        let Some(to) = sealed_to(&tx.stage, state.now().kind, epoch, head.get())? else {
            continue;
        };
        let to: BTreeSet<DeviceId> = to.into_iter().collect();
        let clean = clean(&to, head.get(), &current, &cut)
            || planted("former_friend_keeps_reading") && state.now().kind == TopicKind::Moments;
        let later = clean && saw_all_removals(&state, head.get(), me);
        match fit(&to, clean, later) {
            Fit::Yes => {
                if let Some((_, secret)) = secret(tx, epoch)? {
                    return Ok(Some(Found { epoch, head, secret }));
                }
            }
            Fit::No => {}
            Fit::NoOlder => break,
        }
        // Older ones of one's own may be from before.
        if demand == Demand::Own {
            break;
        }
    }
    Ok(None)
}

/// Devices that were cut off for good. (A removal cuts, too; but who is added again writes
/// on.)
pub(super) fn cut_devices(state: &TopicState) -> BTreeSet<DeviceId> {
    let for_good = |op: &OpId| {
        state.log.get(op).is_some_and(|r| matches!(r.get().op, MemberOp::CutDevice { .. }))
    };
    state
        .now()
        .cuts
        .iter()
        .filter(|(_, cuts)| cuts.iter().any(|c| for_good(&c.op)))
        .map(|(device, _)| *device)
        .collect()
}

/// Whether an epoch is known only to who is in. It is as good as who made it: a removed device
/// knows the secret it chose.
fn clean(
    to: &BTreeSet<DeviceId>,
    head: &EpochHead,
    current: &BTreeSet<DeviceId>,
    cut: &BTreeSet<DeviceId>,
) -> bool {
    to.is_subset(current) && current.contains(&head.author) && !cut.contains(&head.author)
}

/// Whether whoever stood at `heads` had seen every removal with effect. Whoever joined was
/// given what was older, too: an epoch from before a removal is the removed one's, even if
/// it was never named in it, and even if it is in and out again since. The same goes for
/// devices that were cut off: their account's other devices shared what they had.
fn saw_all_removals(state: &TopicState, head: &EpochHead, me: DeviceId) -> bool {
    // A head names a bounded number of operations: with more side by side, one made now by
    // this device would see no more.
    let heads = &head.heads;
    if **heads == state.now().heads[..] || head.author == me && **heads == state.eval.parents()[..]
    {
        return true;
    }
    let heads: Vec<[u8; 32]> = heads.iter().map(|h| h.0).collect();
    let Some(past) = state.log.dag().closure(&heads) else { return false };
    state.log.records().all(|r| {
        let ends = matches!(
            r.get().op,
            MemberOp::Remove { .. } | MemberOp::Leave { .. } | MemberOp::CutDevice { .. }
        );
        !ends || past.contains(&r.id()) || state.now().void.contains_key(&OpId(r.id()))
    })
}
