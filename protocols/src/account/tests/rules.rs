//! The rules of the account log, one by one.

use super::super::testing::{device, key};
use super::super::{
    AccountError, AccountLog, AccountOp, MAX_PENDING, MAX_RECORDS, ROOT_RESERVE, Signer,
};
use super::{add, dev, forge, name, revoke, root, rotate};
use crate::ids::RecordId;

/// Root 1, devices 2 and 3 (added by the root, one after the other).
fn two_devices() -> AccountLog {
    let mut log = AccountLog::create(&key(1), [0; 16]);
    for n in [2, 3] {
        let op = add(log.account(), n);
        log.append(&key(1), root(1), op).unwrap();
    }
    log
}

fn append(log: &mut AccountLog, by: (Signer, u8), op: AccountOp) -> RecordId {
    RecordId(log.append(&key(by.1), by.0, op).unwrap().id())
}

fn try_append(log: &mut AccountLog, by: (Signer, u8), op: AccountOp) -> AccountError {
    log.append(&key(by.1), by.0, op).unwrap_err()
}

/// Both logs learn all of the other's.
fn merge(a: &mut AccountLog, b: &mut AccountLog) {
    let from_b: Vec<_> = b.records_unknown_to(a.heads()).into_iter().cloned().collect();
    let from_a: Vec<_> = a.records_unknown_to(b.heads()).into_iter().cloned().collect();
    assert!(a.insert_all(from_b).refused.is_empty());
    assert!(b.insert_all(from_a).refused.is_empty());
    assert_eq!(a.state(), b.state());
}

fn profile(n: u8) -> AccountOp {
    AccountOp::SetProfile { name: name(n) }
}

#[test]
fn a_quiet_life() {
    let mut log = two_devices();
    let account = log.account();
    append(&mut log, (dev(2), 2), add(account, 4));
    append(&mut log, (dev(4), 4), profile(4));
    let state = log.state();
    assert_eq!(state.account, account);
    assert_eq!(Signer::Root(state.root), root(1));
    assert_eq!(state.active_devices().count(), 3);
    assert_eq!(state.name, name(4));
    assert_eq!(state.devices[&device(4)].name, name(4));
    assert_eq!(log.heads().len(), 1);

    let revocation = append(&mut log, (dev(3), 3), revoke(4));
    assert!(!log.is_active(&device(4)) && log.was_ever(&device(4)));
    assert_eq!(log.state().devices[&device(4)].revoked, Some(revocation));
    // What it did before stands.
    assert_eq!(log.state().name, name(4));
    assert_eq!(try_append(&mut log, (dev(4), 4), profile(5)), AccountError::Unauthorised);
    // Only the root adds it again.
    assert_eq!(try_append(&mut log, (dev(2), 2), add(account, 4)), AccountError::OnlyRoot);
    append(&mut log, (root(1), 1), add(account, 4));
    assert!(log.is_active(&device(4)));
    append(&mut log, (dev(4), 4), profile(5));
    assert_eq!(log.state().name, name(5));
}

#[test]
fn strangers_and_other_accounts_are_refused() {
    let mut log = two_devices();
    let account = log.account();
    let heads = log.heads().to_vec();
    let stranger = forge(account, heads.clone(), (dev(66), 66), profile(1));
    assert_eq!(log.insert(stranger), Err(AccountError::Unauthorised));
    let false_root = forge(account, heads.clone(), (root(66), 66), add(account, 66));
    assert_eq!(log.insert(false_root), Err(AccountError::Unauthorised));
    let mut other = AccountLog::create(&key(1), [1; 16]);
    assert_ne!(other.account(), account);
    let foreign = other.append(&key(1), root(1), add(other.account(), 2)).unwrap();
    assert_eq!(log.insert(foreign), Err(AccountError::Foreign));
    let genesis = other.records().next().unwrap().clone();
    assert_eq!(log.insert(genesis), Err(AccountError::Foreign));
    // Consent to another account doesn't count.
    let lured = forge(account, heads, (root(1), 1), add(other.account(), 4));
    assert_eq!(log.insert(lured), Err(AccountError::Consent));
    assert_eq!(try_append(&mut log, (root(1), 2), profile(1)), AccountError::WrongKey);
    assert_eq!(try_append(&mut log, (dev(2), 2), revoke(66)), AccountError::UnknownDevice);
}

#[test]
fn concurrent_revocations_all_hold() {
    let (mut a, mut b) = (two_devices(), two_devices());
    append(&mut a, (dev(2), 2), revoke(3));
    append(&mut b, (dev(3), 3), revoke(2));
    merge(&mut a, &mut b);
    assert_eq!(a.state().active_devices().count(), 0);
    // The words resolve it.
    let account = a.account();
    append(&mut a, (root(1), 1), add(account, 2));
    assert!(a.is_active(&device(2)) && !a.is_active(&device(3)));
}

#[test]
fn what_a_revoked_device_did_meanwhile_is_void_with_all_that_rests_on_it() {
    let (mut owner, mut thief) = (two_devices(), two_devices());
    let account = owner.account();
    append(&mut owner, (dev(2), 2), revoke(3));
    append(&mut thief, (dev(3), 3), profile(66));
    append(&mut thief, (dev(3), 3), add(account, 66));
    append(&mut thief, (dev(66), 66), add(account, 67));
    append(&mut thief, (dev(67), 67), profile(67));
    assert_eq!(thief.state().name, name(67));
    merge(&mut owner, &mut thief);
    for n in [66, 67] {
        assert!(!owner.is_active(&device(n)) && !owner.was_ever(&device(n)));
        assert!(owner.state().devices[&device(n)].void);
    }
    assert!(owner.state().name.is_empty());
    assert!(owner.is_active(&device(2)));
    assert_eq!(try_append(&mut owner, (dev(67), 67), profile(1)), AccountError::Unauthorised);
    // Once it stands on the other side of the revocation, the root may still take it in.
    append(&mut owner, (root(1), 1), add(account, 66));
    assert!(owner.is_active(&device(66)) && !owner.is_active(&device(67)));
}

#[test]
fn the_root_s_records_stand_against_devices() {
    let (mut owner, mut thief) = (two_devices(), two_devices());
    let account = owner.account();
    append(&mut owner, (root(1), 1), add(account, 4));
    append(&mut owner, (root(1), 1), profile(4));
    append(&mut thief, (dev(3), 3), revoke(2));
    append(&mut thief, (dev(3), 3), profile(3));
    append(&mut thief, (dev(3), 3), profile(33));
    merge(&mut owner, &mut thief);
    assert!(owner.is_active(&device(4)));
    assert_eq!(owner.state().name, name(4));
    // Later, knowing of it, a device may set it again.
    append(&mut owner, (dev(4), 4), profile(44));
    assert_eq!(owner.state().name, name(44));
}

/// The thief's device 3 is revoked by device 4, which device 2 added. He forges an older
/// revocation of device 2, so that the addition of 4 is void: his own revocation holds all
/// the same.
#[test]
fn a_thief_can_t_undo_his_revocation_by_backdating() {
    let (mut owner, mut thief) = (two_devices(), two_devices());
    let account = owner.account();
    let added = append(&mut owner, (dev(2), 2), add(account, 4));
    append(&mut owner, (dev(4), 4), revoke(3));
    append(&mut thief, (dev(3), 3), revoke(2));
    merge(&mut owner, &mut thief);
    assert!(!owner.is_active(&device(3)), "the thief got away");
    assert!(!owner.is_active(&device(2)));
    assert!(!owner.is_active(&device(4)) && owner.state().devices[&device(4)].void);

    // The words bring the devices back, and no further backdating reaches them.
    append(&mut owner, (root(1), 1), add(account, 2));
    append(&mut owner, (root(1), 1), add(account, 4));
    append(&mut owner, (dev(2), 2), profile(2));
    for n in [2, 4] {
        let again = forge(account, [added], (dev(3), 3), revoke(n));
        assert_eq!(owner.insert(again), Ok(true));
    }
    assert!(owner.is_active(&device(2)) && owner.is_active(&device(4)));
    assert_eq!(owner.state().name, name(2));
    // He can't name a device that came after his revocation without admitting to it.
    let late = owner.append(&key(1), root(1), add(account, 5)).unwrap();
    let unaware = forge(account, [added], (dev(3), 3), revoke(5));
    assert_eq!(owner.insert(unaware), Err(AccountError::UnknownDevice));
    let aware = forge(account, [RecordId(late.id())], (dev(3), 3), revoke(5));
    assert_eq!(owner.insert(aware), Err(AccountError::Unauthorised));
}

#[test]
fn a_root_s_revocation_beside_its_adding_again_holds() {
    let (mut a, mut b) = (two_devices(), two_devices());
    let account = a.account();
    append(&mut a, (root(1), 1), revoke(3));
    append(&mut b, (root(1), 1), add(account, 3));
    merge(&mut a, &mut b);
    assert!(!a.is_active(&device(3)));
}

#[test]
fn a_rotation_replaces_the_root_and_voids_what_the_old_one_does_beside_it() {
    let (mut owner, mut thief) = (two_devices(), two_devices());
    let account = owner.account();
    append(&mut owner, (root(1), 1), rotate(account, 11));
    assert_eq!(Signer::Root(owner.state().root), root(11));
    assert_eq!(try_append(&mut owner, (root(1), 1), profile(1)), AccountError::Unauthorised);
    append(&mut owner, (root(11), 11), add(account, 4));
    append(&mut thief, (root(1), 1), add(account, 66));
    append(&mut thief, (root(1), 1), profile(66));
    merge(&mut owner, &mut thief);
    assert!(!owner.state().disputed);
    assert!(!owner.is_active(&device(66)) && owner.is_active(&device(4)));
    assert_ne!(owner.state().name, name(66));
    assert_eq!(owner.account(), account);
    // Back to a key that was a root before: never.
    let back = rotate(account, 1);
    assert_eq!(try_append(&mut owner, (root(11), 11), back), AccountError::RootReused);
}

#[test]
fn two_rotations_are_a_dispute_for_ever() {
    let (mut owner, mut thief) = (two_devices(), two_devices());
    let account = owner.account();
    append(&mut owner, (root(1), 1), rotate(account, 11));
    append(&mut owner, (dev(2), 2), add(account, 4));
    append(&mut owner, (root(11), 11), add(account, 5));
    append(&mut thief, (root(1), 1), rotate(account, 12));
    append(&mut thief, (root(12), 12), add(account, 66));
    append(&mut thief, (root(12), 12), rotate(account, 13));
    merge(&mut owner, &mut thief);
    assert!(owner.state().disputed);
    assert_eq!(Signer::Root(owner.state().root), root(1), "the last undisputed one");
    // Devices that rest on either rotation are out, older ones and theirs remain.
    for (n, active) in [(2, true), (3, true), (4, true), (5, false), (66, false)] {
        assert_eq!(owner.is_active(&device(n)), active, "device {n}");
    }
    // Nobody adds devices any more, and no root clears the dispute.
    let six = add(account, 6);
    assert_eq!(try_append(&mut owner, (dev(2), 2), six.clone()), AccountError::Disputed);
    for n in [1, 11, 12, 13] {
        let why = try_append(&mut owner, (root(n), n), six.clone());
        assert_eq!(why, AccountError::Unauthorised);
        let why = try_append(&mut owner, (root(n), n), rotate(account, 14));
        assert_eq!(why, AccountError::Unauthorised);
    }
    // Devices still revoke and set.
    append(&mut owner, (dev(2), 2), revoke(3));
    append(&mut owner, (dev(2), 2), profile(2));
    assert!(owner.state().disputed && !owner.is_active(&device(3)));
    assert_eq!(owner.state().name, name(2));
}

#[test]
fn two_rotations_to_one_root_agree() {
    let (mut a, mut b) = (two_devices(), two_devices());
    let account = a.account();
    append(&mut a, (root(1), 1), rotate(account, 11));
    append(&mut b, (dev(2), 2), profile(2));
    append(&mut b, (root(1), 1), rotate(account, 11));
    append(&mut a, (root(11), 11), rotate(account, 12));
    merge(&mut a, &mut b);
    assert!(!a.state().disputed);
    assert_eq!(Signer::Root(a.state().root), root(12));
    append(&mut a, (root(12), 12), add(account, 4));
    assert!(a.is_active(&device(4)));
}

#[test]
fn records_wait_for_their_parents_and_waiting_is_bounded() {
    let mut full = two_devices();
    let first = full.records().next().unwrap().clone();
    let mut log = AccountLog::open(first).unwrap();
    let account = log.account();
    let last = full.append(&key(2), dev(2), profile(7)).unwrap();
    assert_eq!(log.insert(last.clone()), Ok(false));
    assert_eq!(log.insert(last.clone()), Ok(false));
    let missing: Vec<_> = log.missing().into_iter().collect();
    assert_eq!(missing, last.get().parents.to_vec());
    let rest: Vec<_> = full.records().skip(1).take(2).cloned().collect();
    let done = log.insert_all(rest);
    assert_eq!(done.accepted.len(), 3);
    assert_eq!(log.state(), full.state());
    assert!(log.missing().is_empty());

    for n in 0..=MAX_PENDING {
        let mut absent = [0; 32];
        absent[..8].copy_from_slice(&n.to_le_bytes());
        let orphan = forge(account, [RecordId(absent)], (dev(2), 2), profile(1));
        let want = if n < MAX_PENDING { Ok(false) } else { Err(AccountError::TooManyPending) };
        assert_eq!(log.insert(orphan), want);
    }
}

#[test]
fn many_heads_are_merged_eight_at_a_time() {
    let mut log = two_devices();
    let account = log.account();
    let at = log.heads().to_vec();
    let forks: Vec<_> =
        (0..30).map(|n| forge(account, at.clone(), (dev(3), 3), profile(n))).collect();
    log.insert_all(forks);
    assert_eq!(log.heads().len(), 30);
    append(&mut log, (dev(2), 2), revoke(3));
    assert!(!log.is_active(&device(3)));
    append(&mut log, (dev(2), 2), profile(77));
    assert_eq!(log.state().name, name(77), "what hangs beside a revocation is void");
}

#[test]
fn a_full_log_still_obeys_the_root() {
    let mut log = two_devices();
    let account = log.account();
    let at = log.heads().to_vec();
    let names = |n: usize| format!("{n}").as_str().try_into().unwrap();
    let flood = (0..MAX_RECORDS).map(|n| {
        let op = AccountOp::SetProfile { name: names(n) };
        forge(account, at.clone(), (dev(3), 3), op)
    });
    let done = log.insert_all(flood);
    assert_eq!(done.accepted.len(), MAX_RECORDS - ROOT_RESERVE - 3);
    assert!(done.refused.iter().all(|(_, why)| *why == AccountError::Full));
    assert_eq!(try_append(&mut log, (dev(2), 2), revoke(3)), AccountError::Full);
    append(&mut log, (root(1), 1), revoke(3));
    assert!(!log.is_active(&device(3)));
}
