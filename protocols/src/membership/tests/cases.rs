//! The cases one can name.

use super::*;

fn judge(log: &MembershipLog, dev: u8, seq: u64, heads: &[OpId]) -> Verdict {
    let who = account(dev / 2);
    log.evaluate(&belongs).judge(&belongs, who, device(dev), seq, envelope(seq), heads)
}

#[test]
fn a_removal_voids_what_the_removed_did_at_the_same_time() {
    let mut a = group(&[Admin]);
    let mut b = a.clone();
    let by = a.act(0, remove(1));
    let added = b.act(1, add(2, Plain));
    let heads = b.heads();
    b.act(2, MemberOp::CutDevice { cut: cut(4, 0) });
    a.merge(&b);
    assert_eq!(a.role(2), None);
    assert_eq!(a.now().void.get(&added), Some(&Refused::Overruled { by }));
    assert_eq!(judge(&b, 4, 1, &heads), Verdict::Void(Reason::DeviceCut { by: b.heads()[0] }));
    // The cut went with the member who made it; so did the standing.
    assert_eq!(judge(&a, 4, 1, &heads), Verdict::Void(Reason::NotAMember));
}

#[test]
fn of_mutual_removals_the_earlier_added_owner_wins() {
    let mut a = group(&[Owner, Owner]);
    let mut b = a.clone();
    a.act(1, remove(2));
    b.act(2, remove(1));
    a.merge(&b);
    assert_eq!((a.role(1), a.role(2)), (Some(Owner), None));
}

#[test]
fn owners_added_in_secret_cannot_save_a_removed_one() {
    let mut a = group(&[Owner, Owner]);
    let mut b = a.clone();
    a.act(1, remove(2));
    b.act(2, add(3, Owner));
    b.act(3, remove(1));
    b.act(3, remove(0));
    a.merge(&b);
    assert_eq!((a.role(0), a.role(1)), (Some(Owner), Some(Owner)));
    assert_eq!((a.role(2), a.role(3)), (None, None));
}

#[test]
fn a_demotion_voids_only_what_took_the_higher_role() {
    let mut a = group(&[Owner]);
    let mut b = a.clone();
    a.act(0, set_role(1, Admin));
    b.act(1, add(2, Plain));
    b.act(1, add(3, Admin));
    a.merge(&b);
    assert_eq!((a.role(1), a.role(2), a.role(3)), (Some(Admin), Some(Plain), None));
}

#[test]
fn a_removed_removal_is_withdrawn() {
    // 2 removes 3 while 1 removes 2: 3 stays, and so does what 3 did.
    let mut a = group(&[Owner, Owner, Admin]);
    let mut b = a.clone();
    let mut c = a.clone();
    a.act(1, remove(2));
    b.act(2, remove(3));
    c.act(3, add(4, Plain));
    a.merge(&b);
    a.merge(&c);
    assert_eq!((a.role(2), a.role(3), a.role(4)), (None, Some(Admin), Some(Plain)));
}

#[test]
fn the_last_owner_stays() {
    let mut a = group(&[Owner, Plain]);
    let check = |log: &MembershipLog, op: &MemberOp| {
        log.evaluate(&belongs).allowed(&belongs, account(0), device(0), op)
    };
    assert_eq!(check(&a, &leave()), Ok(()));
    let mut b = a.clone();
    a.act(0, leave());
    b.act(1, leave());
    a.merge(&b);
    let owners = a.now().members.values().filter(|m| m.role == Owner).count();
    assert_eq!(owners, 1);

    let alone = group(&[Admin]);
    assert_eq!(check(&alone, &leave()), Err(Refused::LastOwner));
    assert_eq!(check(&alone, &set_role(0, Admin)), Err(Refused::LastOwner));
    assert_eq!(
        check(&alone, &MemberOp::Remove { account: account(0), cuts: cuts(&[]) }),
        Err(Refused::RemoveSelf)
    );
}

#[test]
fn a_cut_keeps_exactly_what_it_names() {
    let mut log = group(&[Plain]);
    let before = log.heads();
    // Keeps device 2 up to 5; of device 3 nothing.
    let by = log.act(0, remove(1));
    assert_eq!(judge(&log, 2, 4, &before), Verdict::Accepted);
    assert_eq!(judge(&log, 2, 5, &before), Verdict::Accepted);
    assert_eq!(judge(&log, 2, 6, &before), Verdict::Void(Reason::Removed { by }));
    assert_eq!(judge(&log, 3, 0, &before), Verdict::Void(Reason::Removed { by }));
    assert_eq!(judge(&log, 2, 5, &log.heads()), Verdict::Void(Reason::NotAMember));
    let twin =
        log.evaluate(&belongs).judge(&belongs, account(1), device(2), 5, envelope(9), &before);
    assert_eq!(twin, Verdict::Void(Reason::Removed { by }));
    let unknown = OpId([3; 32]);
    assert_eq!(judge(&log, 2, 1, &[unknown]), Verdict::Pending { missing: vec![unknown] });
}

#[test]
fn of_several_cuts_the_highest_wins() {
    let mut a = group(&[Admin, Plain]);
    let before = a.heads();
    let mut b = a.clone();
    a.act(0, MemberOp::Remove { account: account(2), cuts: cuts(&[(4, 3)]) });
    b.act(1, MemberOp::Remove { account: account(2), cuts: cuts(&[(4, 8)]) });
    a.merge(&b);
    assert_eq!(judge(&a, 4, 8, &before), Verdict::Accepted);
    assert!(matches!(judge(&a, 4, 9, &before), Verdict::Void(Reason::Removed { .. })));
}

#[test]
fn a_re_added_account_writes_again_and_an_old_removal_does_not_reach_it() {
    let mut a = group(&[Admin, Plain]);
    let before = a.heads();
    let mut b = a.clone();
    a.act(0, remove(2));
    a.act(0, add(2, Plain));
    let again = a.heads();
    b.act(1, remove(2));
    a.merge(&b);
    assert_eq!(a.role(2), Some(Plain));
    assert_eq!(judge(&a, 4, 9, &again), Verdict::Accepted);
    assert!(matches!(judge(&a, 4, 9, &before), Verdict::Void(Reason::Removed { .. })));
}

#[test]
fn a_cut_device_is_out_and_the_account_stays() {
    let mut a = group(&[Admin, Plain]);
    let before = a.heads();
    let mut stolen = a.clone();
    let by = a.act_with(1, 1, MemberOp::CutDevice { cut: cut(2, 5) });
    // The thief adds a friend and leaves with generous cuts.
    stolen.act(1, add(3, Plain));
    stolen.act(1, MemberOp::Leave { cuts: cuts(&[(2, 1_000)]) });
    a.merge(&stolen);
    assert_eq!((a.role(1), a.role(3)), (Some(Admin), None));
    for heads in [&before, &a.heads()] {
        assert_eq!(judge(&a, 2, 5, heads), Verdict::Accepted);
        assert_eq!(judge(&a, 2, 6, heads), Verdict::Void(Reason::DeviceCut { by }));
        assert_eq!(judge(&a, 3, 6, heads), Verdict::Accepted);
    }
    let late = a.act(1, add(3, Plain));
    assert_eq!(a.now().void.get(&late), Some(&Refused::DeviceCut));

    let now = a.evaluate(&belongs);
    let may = |who: u8, dev: u8| {
        let op = MemberOp::CutDevice { cut: cut(dev, 0) };
        now.allowed(&belongs, account(who), device(2 * who + 1), &op)
    };
    assert_eq!(may(1, 4), Ok(()));
    assert_eq!(may(2, 4), Ok(()));
    assert_eq!(may(2, 2), Err(Refused::NotYourDevice));
    assert_eq!(may(1, 0), Err(Refused::NotYourDevice));
}

#[test]
fn direct_and_private_topics_have_fixed_members() {
    let mut direct = open(TopicKind::Direct);
    let mut other = direct.clone();
    direct.act(0, add(1, Plain));
    other.act_with(0, 1, add(2, Plain));
    direct.merge(&other);
    assert_eq!(direct.now().members.len(), 2);
    let now = direct.evaluate(&belongs);
    for op in [add(3, Plain), remove(1), leave(), set_role(1, Owner)] {
        let refused = now.allowed(&belongs, account(0), device(0), &op);
        assert_eq!(refused, Err(Refused::FixedMembers), "{op:?}");
    }
    let private = open(TopicKind::Private).evaluate(&belongs);
    let refused = private.allowed(&belongs, account(0), device(0), &add(1, Plain));
    assert_eq!(refused, Err(Refused::FixedMembers));
}

#[test]
fn a_device_of_nobody_has_no_say() {
    let mut log = group(&[]);
    let record = log.evaluate(&belongs).next(account(0), device(2 * ACCOUNTS), add(1, Owner));
    log.insert(sign(record)).unwrap();
    assert_eq!(log.role(1), None);
    // Once the account log shows the device, the same records say otherwise.
    let all = |_: &AccountId, _: &DeviceId| true;
    assert!(log.evaluate(&all).membership().members.contains_key(&account(1)));
}

#[test]
fn a_flood_of_heads_leaves_the_own_ground_in_the_past() {
    let mut log = group(&[Admin, Plain]);
    let topic = Some(log.topic());
    let early: Vec<OpId> = vec![OpId(log.topic().0)];
    for n in 0..40 {
        let op = MemberOp::CutDevice { cut: cut(4, n) };
        let parents = early.clone().try_into().unwrap();
        let (account, device) = (account(2), device(4));
        let record = MembershipRecord { version: 1, topic, parents, account, device, op };
        log.insert(sign(record)).unwrap();
    }
    assert!(log.heads().len() > MAX_PARENTS);
    let by = log.act(1, add(3, Plain));
    assert!(!log.now().void.contains_key(&by));
    assert_eq!(log.get(&by).unwrap().get().parents.len(), MAX_PARENTS);
}

#[test]
fn a_long_log_is_quick() {
    let mut log = group(&[Admin, Plain]);
    let mut records = Vec::new();
    let (mut parent, topic) = (log.heads(), Some(log.topic()));
    for n in 0..2_000_u32 {
        let op = match n % 4 {
            0 => remove(2),
            1 => add(2, Plain),
            2 => set_role(1, Plain),
            _ => set_role(1, Admin),
        };
        let parents = parent.try_into().unwrap();
        let (account, device) = (account(0), device(0));
        let record = sign(MembershipRecord { version: 1, topic, parents, account, device, op });
        parent = vec![OpId(record.id())];
        records.push(record);
    }
    assert!(log.extend(records).refused.is_empty());
    let start = std::time::Instant::now();
    assert!(log.now().void.is_empty());
    // Some 20 ms; the bound is for slow machines and still far below anything quadratic.
    assert!(start.elapsed().as_millis() < 1_000, "{:?}", start.elapsed());
}

#[test]
fn logs_are_bounded_and_of_one_topic() {
    let mut log = group(&[]);
    let topic = Some(log.topic());
    let orphan = |n: u16, topic| {
        let mut missing = [0; 32];
        missing[..2].copy_from_slice(&n.to_be_bytes());
        let parents = vec![OpId(missing)].try_into().unwrap();
        let (account, device, op) = (account(0), device(0), leave());
        sign(MembershipRecord { version: 1, topic, parents, account, device, op })
    };
    let many = (0..MAX_PENDING as u16 + 10).map(|n| orphan(n, topic));
    let Extended { new, refused } = log.extend(many);
    assert_eq!((new.len(), refused.len()), (MAX_PENDING, 10));
    assert!(refused.iter().all(|(_, e)| *e == LogError::TooManyPending));
    assert_eq!(log.insert(orphan(9_999, topic)), Err(LogError::TooManyPending));
    assert_eq!(log.insert(orphan(1, Some(TopicId([1; 32])))), Err(LogError::OtherTopic));
    let second = open(TopicKind::Direct).records().next().unwrap().clone();
    assert_eq!(log.insert(second.clone()), Err(LogError::OtherTopic));
    assert_eq!(MembershipLog::new(orphan(1, topic)).unwrap_err(), LogError::NoCreate);
    let missing = MembershipLog::from_records(log.topic(), [second]).unwrap_err();
    assert_eq!(missing, LogError::NoCreate);
    // A full topic refuses, and the records it has keep their effect.
    log.act(0, add(1, Plain));
    assert_eq!(log.role(1), Some(Plain));
}
