//! The rules one by one, with numbers that can be checked by eye.

use super::{
    AccountKey, Ledger, LedgerError, Limit, Movement, StagedLedger, Transfer, What, account, id,
    movement, moves, transfer, with_store,
};
use crate::ledger::{
    ALL, LEDGER_ACCOUNTS, LEDGER_PENDING_BY_TIME, LEDGER_TRANSFERS, MAX_CHAIN, MAX_EXPIRE, Side,
    State, Why,
};
use crate::store::{KeyRange, ReadExt, Stage, Store};

const CASH: u8 = 0;
const ANNA: u8 = 1;
const BEN: u8 = 2;

/// The issuer's cash, and two holders who can't overdraw, of whom Anna has 100.
fn town(stage: &mut Stage<'_>) {
    let mut ledger = StagedLedger::new(stage);
    ledger.open(account(1, CASH), Limit::None).unwrap();
    for holder in [ANNA, BEN] {
        ledger.open(account(1, holder), Limit::DebitsWithinCredits).unwrap();
    }
    ledger.post(&[moves(100, CASH, ANNA, 100)], 0).unwrap();
}

fn left(stage: &mut Stage<'_>, holder: u8) -> u128 {
    let ledger = StagedLedger::new(stage);
    ledger.account(account(1, holder)).unwrap().unwrap().left_to_debit()
}

fn post(stage: &mut Stage<'_>, chain: &[Transfer], now: u64) -> Result<bool, LedgerError> {
    StagedLedger::new(stage).post(chain, now).map(|c| !c.existed)
}

fn refused(nth: usize, why: Why) -> Result<bool, LedgerError> {
    Err(LedgerError::Refused { nth, why })
}

fn reserve(n: u8, amount: u128, timeout: Option<u64>) -> Transfer {
    transfer(n, What::Reserve { movement: movement(ANNA, BEN, amount), timeout })
}

#[test]
fn nobody_overdraws_and_nothing_is_done_twice() {
    with_store(|s| {
        town(s);
        assert_eq!(post(s, &[moves(1, ANNA, BEN, 101)], 1), refused(0, Why::ExceedsCredits));
        assert_eq!(post(s, &[moves(1, ANNA, BEN, 60)], 1), Ok(true));
        assert_eq!(post(s, &[moves(1, ANNA, BEN, 60)], 9), Ok(false), "the same again");
        assert_eq!(post(s, &[moves(1, ANNA, BEN, 61)], 9), refused(0, Why::IdTaken));
        assert_eq!((left(s, ANNA), left(s, BEN)), (40, 60));
    });
}

#[test]
fn a_chain_is_done_as_a_whole() {
    with_store(|s| {
        town(s);
        let chain = [moves(1, ANNA, BEN, 60), moves(2, ANNA, BEN, 41)];
        assert_eq!(post(s, &chain, 1), refused(1, Why::ExceedsCredits));
        assert_eq!((left(s, ANNA), left(s, BEN)), (100, 0));
        // A later link may rest on an earlier one.
        let chain = [moves(1, ANNA, BEN, 60), moves(2, BEN, CASH, 60)];
        assert_eq!(post(s, &chain, 1), Ok(true));
        assert_eq!(post(s, &chain, 1), Ok(false));
        assert_eq!(post(s, &chain[1..], 1), Ok(false), "its parts were done, too");
        let longer = [chain[0], chain[1], moves(3, ANNA, BEN, 1)];
        assert_eq!(post(s, &longer, 1), refused(2, Why::PartlyThere));
        let other = [moves(3, ANNA, BEN, 1), chain[0]];
        assert_eq!(post(s, &other, 1), refused(1, Why::PartlyThere));
        let twice = [moves(3, ANNA, BEN, 1), moves(3, ANNA, BEN, 1)];
        assert_eq!(post(s, &twice, 1), refused(1, Why::IdTwice));
        assert_eq!(post(s, &[], 1), Err(LedgerError::ChainLength(0)));
        let long: Vec<Transfer> = (0..=MAX_CHAIN as u8).map(|n| moves(n, CASH, ANNA, 1)).collect();
        assert_eq!(post(s, &long, 1), Err(LedgerError::ChainLength(MAX_CHAIN + 1)));
        assert_eq!(post(s, &long[..MAX_CHAIN - 60], 1), refused(1, Why::IdTaken));
    });
}

#[test]
fn a_reserve_is_resolved_once() {
    with_store(|s| {
        town(s);
        assert_eq!(post(s, &[reserve(1, 70, None)], 1), Ok(true));
        assert_eq!((left(s, ANNA), left(s, BEN)), (30, 0), "not Ben's yet");
        assert_eq!(post(s, &[moves(2, ANNA, BEN, 31)], 1), refused(0, Why::ExceedsCredits));
        let too_much = transfer(3, What::Post { pending: id(1), amount: 71 });
        assert_eq!(post(s, &[too_much], 1), refused(0, Why::MoreThanReserved));
        let some = transfer(3, What::Post { pending: id(1), amount: 50 });
        assert_eq!(post(s, &[some], 1), Ok(true));
        assert_eq!((left(s, ANNA), left(s, BEN)), (50, 50), "what is over goes back");
        let again = transfer(4, What::Post { pending: id(1), amount: 1 });
        assert_eq!(post(s, &[again], 1), refused(0, Why::AlreadyPosted));
        let void = transfer(5, What::Void { pending: id(1) });
        assert_eq!(post(s, &[void], 1), refused(0, Why::AlreadyPosted));
        assert_eq!(post(s, &[some], 2), Ok(false));
        let of_none = transfer(6, What::Void { pending: id(9) });
        assert_eq!(post(s, &[of_none], 1), refused(0, Why::UnknownPending));
        let of_done = transfer(6, What::Void { pending: id(3) });
        assert_eq!(post(s, &[of_done], 1), refused(0, Why::NotPending));
        // Reserved and voided within a chain.
        let both = [reserve(7, 50, Some(5)), transfer(8, What::Void { pending: id(7) })];
        assert_eq!(post(s, &both, 1), Ok(true));
        assert_eq!(left(s, ANNA), 50);
        assert_eq!(StagedLedger::new(s).expire(u64::MAX, 10), Ok(vec![]));
        let again = transfer(9, What::Void { pending: id(7) });
        assert_eq!(post(s, &[again], 1), refused(0, Why::AlreadyVoided));
    });
}

#[test]
fn time_is_up_whether_or_not_somebody_looked() {
    with_store(|s| {
        town(s);
        for (n, timeout) in [(1, 10), (2, 20), (3, 10)] {
            assert_eq!(post(s, &[reserve(n, 10, Some(timeout))], 100), Ok(true));
        }
        assert_eq!(StagedLedger::new(s).expire(109, 10), Ok(vec![]));
        let late = transfer(4, What::Post { pending: id(1), amount: 10 });
        assert_eq!(post(s, &[late], 110), refused(0, Why::Expired));
        assert_eq!(left(s, ANNA), 70, "held until it is ended");
        assert_eq!(StagedLedger::new(s).expire(115, 1), Ok(vec![id(1)]));
        assert_eq!(StagedLedger::new(s).expire(115, 9), Ok(vec![id(3)]));
        assert_eq!(left(s, ANNA), 90);
        assert_eq!(post(s, &[late], 100), refused(0, Why::Expired), "the clock went back");
        let state = StagedLedger::new(s).record(id(1)).unwrap().unwrap().state;
        assert_eq!(state, State::Expired);
        // What is posted in time is not ended later.
        let good = transfer(5, What::Post { pending: id(2), amount: 10 });
        assert_eq!(post(s, &[good], 119), Ok(true));
        assert_eq!(StagedLedger::new(s).expire(u64::MAX, 9), Ok(vec![]));
        for timeout in [0, u64::MAX] {
            assert_eq!(post(s, &[reserve(6, 1, Some(timeout))], 1), refused(0, Why::NoTime));
        }
    });
}

#[test]
fn balancing_moves_what_is_left() {
    with_store(|s| {
        town(s);
        let most = |n, side, amount| {
            let m = Movement { at_most: Some(side), ..movement(ANNA, BEN, amount) };
            transfer(n, What::Move(m))
        };
        assert_eq!(post(s, &[most(1, Side::Debit, 30)], 1), Ok(true));
        assert_eq!(post(s, &[reserve(2, 30, None)], 1), Ok(true));
        assert_eq!(post(s, &[most(3, Side::Debit, 1_000)], 1), Ok(true));
        assert_eq!((left(s, ANNA), left(s, BEN)), (0, 70), "what is reserved stays");
        assert_eq!(post(s, &[most(4, Side::Debit, 1)], 1), refused(0, Why::NothingLeft));
        assert_eq!(StagedLedger::new(s).record(id(3)).unwrap().unwrap().amount, 40);
        // Up to what the credited account was debited.
        let back = Movement {
            debit: account(1, BEN),
            credit: account(1, CASH),
            amount: 500,
            at_most: Some(Side::Credit),
        };
        let twenty = Movement { amount: 20, ..back };
        assert_eq!(post(s, &[transfer(5, What::Move(twenty))], 1), Ok(true));
        let debt = StagedLedger::new(s).account(account(1, CASH)).unwrap().unwrap();
        assert_eq!(debt.left_to_credit(), 80);
        assert_eq!(
            post(s, &[transfer(6, What::Move(back))], 1),
            refused(0, Why::ExceedsCredits),
            "80, where Ben has 50"
        );
    });
}

#[test]
fn what_is_refused_of_accounts() {
    with_store(|s| {
        town(s);
        assert_eq!(post(s, &[moves(1, ANNA, ANNA, 1)], 1), refused(0, Why::SameAccount));
        assert_eq!(post(s, &[moves(1, ANNA, 9, 1)], 1), refused(0, Why::UnknownAccount));
        assert_eq!(post(s, &[moves(1, ANNA, BEN, 0)], 1), refused(0, Why::NoAmount));
        let elsewhere = Movement { credit: account(2, BEN), ..movement(ANNA, BEN, 1) };
        let other = transfer(1, What::Move(elsewhere));
        assert_eq!(post(s, &[other], 1), refused(0, Why::OtherAsset));
        assert_eq!(post(s, &[reserve(2, 10, None)], 1), Ok(true));
        let close = |s: &mut Stage<'_>, n| StagedLedger::new(s).close(account(1, n));
        let not_empty = Err(LedgerError::Account(Why::NotEmpty));
        assert_eq!(close(s, BEN), not_empty, "something is reserved for it");
        let last = transfer(3, What::Post { pending: id(2), amount: 10 });
        assert_eq!(post(s, &[last], 1), Ok(true));
        assert_eq!(close(s, BEN), not_empty, "money is never locked away");
        assert_eq!(post(s, &[moves(5, BEN, ANNA, 10)], 1), Ok(true));
        assert!(close(s, BEN).unwrap().closed && close(s, BEN).unwrap().closed);
        assert_eq!(post(s, &[moves(1, ANNA, BEN, 1)], 1), refused(0, Why::Closed));
        assert_eq!(post(s, &[moves(1, BEN, ANNA, 1)], 1), refused(0, Why::Closed));
        let wrong = StagedLedger::new(s).open(account(1, ANNA), Limit::None);
        assert_eq!(wrong, Err(LedgerError::Account(Why::OtherLimit)));
        // Credits within debits: the issuer takes back no more than it gave out.
        let vault = AccountKey { kind: 77, ..account(1, 7) };
        StagedLedger::new(s).open(vault, Limit::CreditsWithinDebits).unwrap();
        let m = Movement { debit: account(1, CASH), credit: vault, amount: 1, at_most: None };
        assert_eq!(post(s, &[transfer(4, What::Move(m))], 1), refused(0, Why::ExceedsDebits));
    });
}

#[test]
fn sums_at_the_end_of_numbers() {
    with_store(|s| {
        town(s);
        let most = u128::MAX - 100;
        assert_eq!(post(s, &[moves(1, CASH, ANNA, most + 1)], 1), refused(0, Why::Overflow));
        assert_eq!(post(s, &[moves(1, CASH, ANNA, most)], 1), Ok(true));
        assert_eq!(post(s, &[moves(2, CASH, BEN, 1)], 1), refused(0, Why::Overflow));
        let hold = Movement { ..movement(CASH, BEN, 1) };
        let hold = transfer(2, What::Reserve { movement: hold, timeout: None });
        assert_eq!(post(s, &[hold], 1), refused(0, Why::Overflow), "pending counts, too");
        assert_eq!(post(s, &[moves(3, ANNA, BEN, u128::MAX)], 1), Ok(true));
        assert_eq!((left(s, ANNA), left(s, BEN)), (0, u128::MAX));
        let totals = StagedLedger::new(s).totals(account(1, 0).asset);
        assert_eq!(totals, Err(LedgerError::Account(Why::Overflow)));
    });
}

#[test]
fn one_call_ends_a_bounded_number_of_reserves() {
    with_store(|s| {
        let mut ledger = StagedLedger::new(s);
        ledger.open(account(1, CASH), Limit::None).unwrap();
        ledger.open(account(1, ANNA), Limit::None).unwrap();
        let many = MAX_EXPIRE + 3;
        for n in 0..many {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&(n as u64).to_be_bytes());
            let what = What::Reserve { movement: movement(CASH, ANNA, 1), timeout: Some(1) };
            let t = Transfer { id: super::TransferId(key), code: 0, what };
            ledger.post(&[t], 0).unwrap();
        }
        assert_eq!(ledger.expire(5, usize::MAX).unwrap().len(), MAX_EXPIRE);
        assert_eq!(ledger.expire(5, usize::MAX).unwrap().len(), 3);
        let totals = ledger.totals(account(1, 0).asset).unwrap();
        assert_eq!((totals.debits_pending, totals.balanced()), (0, true));
    });
}

#[test]
fn it_is_there_after_a_commit_and_damage_is_noticed() {
    let mut store = Store::in_memory().unwrap();
    let snapshot = store.snapshot().unwrap();
    let mut stage = Stage::new(&snapshot);
    town(&mut stage);
    post(&mut stage, &[reserve(1, 10, Some(5))], 1).unwrap();
    let writes = stage.into_writes();
    drop(snapshot);
    store.commit(&writes).unwrap();

    let snapshot = store.snapshot().unwrap();
    let mut stage = Stage::new(&snapshot);
    assert_eq!(left(&mut stage, ANNA), 90);
    assert_eq!(post(&mut stage, &[reserve(1, 10, Some(5))], 3), Ok(false));
    for table in ALL {
        assert!(stage.count(table, &KeyRange::all(), 10).unwrap() > 0, "{table:?}");
    }
    // An account or transfer in another's place, and a time without a reserve.
    let (key, row) = stage.first(&LEDGER_ACCOUNTS, b"").unwrap().unwrap();
    let mut other = key;
    other[65] ^= 1;
    stage.put(&LEDGER_ACCOUNTS, &other, row).unwrap();
    let of: [u8; 32] = other[34..].try_into().unwrap();
    let damaged = StagedLedger::new(&mut stage).account(AccountKey { of, ..account(1, CASH) });
    assert!(matches!(damaged, Err(LedgerError::Storage(_))), "{damaged:?}");
    let (_, row) = stage.first(&LEDGER_TRANSFERS, b"").unwrap().unwrap();
    stage.put(&LEDGER_TRANSFERS, &[9; 32], row).unwrap();
    let damaged = StagedLedger::new(&mut stage).record(id(9));
    assert!(matches!(damaged, Err(LedgerError::Storage(_))));
    stage.put(&LEDGER_PENDING_BY_TIME, &[0; 40], Vec::new()).unwrap();
    let damaged = StagedLedger::new(&mut stage).expire(u64::MAX, 10);
    assert!(matches!(damaged, Err(LedgerError::Storage(_))));
}
