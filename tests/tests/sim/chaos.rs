//! A few seeds of the chaos simulator; the binary `sim` runs hundreds.

use teahouse_tests::chaos::report::{describe, run_many};

/// Whatever people do and whatever goes wrong, nothing that was promised breaks.
#[test]
fn a_few_seeds_hold() {
    let events = 600;
    let report = run_many(1, 24, events, 1);
    assert!(report.broken.is_empty(), "{}", describe(&report.broken[0], events));
    assert_eq!(report.seeds, 24);
}
