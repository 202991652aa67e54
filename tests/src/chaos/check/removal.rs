//! Strong removal: who is being removed decides nothing meanwhile.

use teahouse_core::store::{KeyRange, ReadExt, Snapshot};
use teahouse_core::tables::{DEVICE_ACCOUNT, OPS};
use teahouse_protocols::ids::{AccountId, OpId, TopicId};
use teahouse_protocols::membership::{MemberOp, MembershipLog};
use teahouse_protocols::sign::Signed;

use crate::chaos::plan::Check;

/// No operation counts that somebody made while being removed: neither had seen the other,
/// and the removal holds. Unless its author stands on an add that the removal had not seen.
pub(super) fn strong_removal(s: &Snapshot, topic: TopicId) -> Check {
    let ops = s.scan(&OPS, &KeyRange::prefix(&topic.0), false, 4_096).expect("reads");
    let ops = ops.iter().map(|(_, b)| Signed::from_bytes(b).expect("signed"));
    let log = MembershipLog::from_records(topic, ops).expect("a log");
    let eval = log.evaluate(&|account, device| {
        s.get_typed::<AccountId>(&DEVICE_ACCOUNT, &device.0).ok().flatten() == Some(*account)
    });
    let void = &eval.membership().void;
    let holding: Vec<_> = log.records().filter(|r| !void.contains_key(&OpId(r.id()))).collect();
    for removal in &holding {
        let MemberOp::Remove { account: gone, .. } = &removal.get().op else { continue };
        let seen = log.dag().closure(&[removal.id()]).expect("held");
        for other in holding.iter().filter(|r| r.get().account == *gone) {
            let past = log.dag().closure(&[other.id()]).expect("held");
            let unseen_add = || {
                holding.iter().any(|r| {
                    matches!(&r.get().op, MemberOp::Add { account, .. } if account == gone)
                        && past.contains(&r.id())
                        && !seen.contains(&r.id())
                })
            };
            if !seen.contains(&other.id()) && !past.contains(&removal.id()) && !unseen_add() {
                return Err(format!(
                    "{:?} counts though its author was removed at the same time",
                    other.get().op
                ));
            }
        }
    }
    Ok(())
}
