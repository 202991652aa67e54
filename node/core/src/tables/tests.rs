//! What a relay is credited with, against a model that keeps every message apart.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{Deposit, MAX_RUNS, Run};

#[derive(Debug, Clone)]
enum Step {
    /// So many messages are left under the topic's tag.
    Deposit(u64),
    /// So many are sealed to inboxes, in so many copies.
    Hand(u64, u32),
    /// A copy of some run leaves the outbox, for the relay or not.
    Settle(usize, bool),
    /// Every device has this many more.
    Skip(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (1..5_u64).prop_map(Step::Deposit),
        (1..5_u64, 1..4_u32).prop_map(|(n, c)| Step::Hand(n, c)),
        (0..8_usize, any::<bool>()).prop_map(|(r, at)| Step::Settle(r, at)),
        (0..6_u64).prop_map(Step::Skip),
    ];
    proptest::collection::vec(step, 0..60)
}

proptest! {
    /// Only what the relay acknowledged counts as there; nothing that waits counts as done.
    #[test]
    fn claims_are_proved(floor in 0..10_u64, steps in steps()) {
        let mut d = Deposit::beginning(floor);
        let mut proved: BTreeSet<u64> = BTreeSet::new();
        for step in steps {
            let before = d.clone();
            let next = d.handed + 1;
            match step {
                Step::Deposit(n) => {
                    d.deposited(next, next + n - 1);
                    proved.extend(next..next + n);
                }
                Step::Hand(n, copies) if d.runs.len() < MAX_RUNS => {
                    d.hand(next, next + n - 1, copies);
                }
                Step::Hand(..) => {}
                Step::Settle(at, at_relay) => {
                    if let Some(Run { first, last, .. }) = d.runs.get(at).copied() {
                        d.copy_settled(last, at_relay);
                        if at_relay {
                            proved.extend(first..=last);
                        }
                    }
                }
                Step::Skip(n) => d.skip(d.upto + n),
            }
            for seq in 0..=d.handed + 2 {
                prop_assert!(!d.holds(seq) || proved.contains(&seq), "{seq} of {d:?}");
                let waits = d.runs.iter().any(|r| (r.first..=r.last).contains(&seq));
                let skipped = matches!(step, Step::Skip(_)) || before.upto >= seq;
                prop_assert!(!waits || seq > d.upto || skipped, "{seq} waits in {d:?}");
            }
            prop_assert!(d.upto >= before.upto && d.handed >= before.handed);
            prop_assert!(d.upto <= d.handed);
            prop_assert!(d.runs.iter().all(|r| r.left > 0 && r.last > d.upto));
            if d.runs.is_empty() {
                prop_assert_eq!(d.upto, d.handed);
            }
            let apart = d.stored.windows(2).all(|w| w[0].1 + 1 < w[1].0);
            prop_assert!(apart, "{:?}", d.stored);
        }
    }
}

/// A later deposit says nothing of a run that still waits in the outbox.
#[test]
fn a_waiting_run_is_not_passed_over() {
    let mut d = Deposit::beginning(0);
    d.hand(1, 3, 2);
    d.hand(4, 4, 1);
    d.deposited(5, 6);
    assert_eq!((d.upto, d.holds(2), d.holds(4), d.holds(5)), (0, false, false, true));
    d.copy_settled(4, true);
    assert_eq!((d.upto, d.holds(4)), (0, true));
    d.copy_settled(3, true);
    assert!(!d.holds(3));
    d.copy_settled(3, false);
    assert_eq!((d.upto, d.holds(3)), (6, true));
    assert_eq!(d.stored, [(1, 6)]);
}
