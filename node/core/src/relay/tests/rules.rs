//! One test per rule and refusal.

use proptest::prelude::*;
use teahouse_protocols::mailbox::{MAX_ITEM, Refusal, secret_hash};

use super::super::decide::{
    ALLOWANCE, DELETES_AT_ONCE, TOKENS_AT_ONCE, TOKENS_KEPT, TOKENS_PER_DAY,
};
use super::super::sessions::BURST;
use super::super::store::{
    CODES, DELETES, DUE, HASHES, HEADS, ITEMS, MEMBERS, META, SERIALS, TAGS, TOKENS, charge,
};
use super::super::sweep::{ITEMS_AT_ONCE, REMEMBER_DAYS};
use super::*;
use crate::store::{KeyRange, ReadExt};

fn bench() -> Bench {
    Bench::new(RelayConfig { name: "茶".repeat(30), ..RelayConfig::default() })
}

fn no(why: Refusal) -> Reply {
    Reply::Refused(why)
}

fn deposited(last: u64) -> Reply {
    Reply::Deposited { last }
}

#[test]
fn hello_gives_one_challenge_per_session() {
    let mut b = bench();
    let first = b.hello(1);
    assert_eq!(b.hello(1), first);
    assert_ne!(b.hello(2), first);
    let Reply::Hello { keep_days: 30, name, .. } = b.ask(1, &Request::Hello) else { panic!() };
    // Cut to 64 bytes, between two characters of three.
    assert_eq!(name.len(), 63);

    b.step(vec![RelayInput::SessionClosed { session: 1 }]);
    let fetch =
        Request::Fetch { reads: vec![read(&key(1), 0, &first)].try_into().unwrap(), wait: false };
    assert_eq!(b.ask(1, &fetch), no(Refusal::NoSession));
    assert_ne!(b.hello(1), first);
    assert_eq!(b.ask(1, &fetch), no(Refusal::BadProof));
    b.restart();
    assert_eq!(b.ask(2, &fetch), no(Refusal::NoSession));
}

#[test]
fn codes_are_counted_and_expire() {
    let mut b = bench();
    let code = b.invite(2, 1);
    assert_eq!(tokens(b.ask(1, &Request::Admit { code })).len(), TOKENS_AT_ONCE);
    b.restart();
    tokens(b.ask(1, &Request::Admit { code }));
    assert_eq!(b.ask(1, &Request::Admit { code }), no(Refusal::BadCode));
    assert_eq!(b.ask(1, &Request::Admit { code: [0; 16] }), no(Refusal::BadCode));
    assert_eq!(b.relay.status().members, 2);

    let (code, useless) = (b.invite(1, 1), b.invite(0, 1));
    assert_eq!(b.ask(1, &Request::Admit { code: useless }), no(Refusal::BadCode));
    b.env.now += DAY;
    assert_eq!(b.ask(1, &Request::Admit { code }), no(Refusal::BadCode));
    b.env.now += DAY;
    b.tick();
    assert_eq!(b.relay.store.snapshot().unwrap().count(&CODES, &KeyRange::all(), 9), Ok(0));
}

#[test]
fn tokens_are_spent_once_and_limited_by_day() {
    let mut b = bench();
    let mut own = b.tokens();
    let token = own.pop().unwrap();
    let more = tokens(b.ask(1, &Request::Refill { token }));
    assert!(more.iter().all(|t| !own.contains(t)));
    assert_eq!(b.ask(1, &Request::Refill { token }), no(Refusal::BadToken));

    for _ in 2..TOKENS_PER_DAY as usize / TOKENS_AT_ONCE {
        tokens(b.ask(1, &Request::Refill { token: own.pop().unwrap() }));
    }
    // The refusal does not take the token.
    let token = own.pop().unwrap();
    assert_eq!(b.ask(1, &Request::Refill { token }), no(Refusal::SlowDown));
    b.env.now += DAY;
    tokens(b.ask(1, &Request::Refill { token }));
}

#[test]
fn unspent_tokens_of_a_member_are_bounded() {
    let mut b = bench();
    let mut own = b.tokens();
    let first = own.remove(0);
    for _ in 0..=TOKENS_KEPT as usize / TOKENS_AT_ONCE {
        b.env.now += DAY;
        own = tokens(b.ask(1, &Request::Refill { token: own[0] }));
    }
    assert_eq!(b.ask(1, &Request::Refill { token: first }), no(Refusal::BadToken));
    let snapshot = b.relay.store.snapshot().unwrap();
    let kept = snapshot.count(&TOKENS, &KeyRange::all(), usize::MAX).unwrap();
    assert!(kept as u64 <= TOKENS_KEPT);
    assert_eq!(snapshot.count(&SERIALS, &KeyRange::all(), usize::MAX), Ok(kept));
}

#[test]
fn opening_costs_a_token_once() {
    let mut b = bench();
    let token = b.tokens()[0];
    let forged = Request::Open { tag: tag(&key(1)), kind: TagKind::Inbox, token, proof: BAD };
    assert_eq!(b.ask(1, &forged), no(Refusal::BadProof));
    let with = |token| open(&key(1), TagKind::Inbox, token);
    assert_eq!(b.ask(1, &with([0; 16])), no(Refusal::BadToken));
    assert_eq!(b.ask(1, &with(token)), Reply::Opened { spent: true });
    assert_eq!(b.ask(1, &with([0; 16])), Reply::Opened { spent: false });
    assert_eq!(b.ask(1, &open(&key(2), TagKind::Inbox, token)), no(Refusal::BadToken));
    // An open tag keeps its kind.
    assert_eq!(b.ask(1, &open(&key(1), TagKind::Topic, [0; 16])), no(Refusal::BadProof));
    assert_eq!(b.relay.status().tags, 1);
}

#[test]
fn the_kind_decides_who_may_deposit() {
    let mut b = bench();
    let (topic, inbox, cards) = (key(1), key(2), key(3));
    let one = || vec![item(b"one")];
    assert_eq!(b.ask(1, &write(&topic, one())), no(Refusal::Closed));
    b.open(&topic, TagKind::Topic);
    b.open(&inbox, TagKind::Inbox);
    b.open(&cards, card(&[secret_hash(&[5; 16])]));

    for right in [Right::None, Right::Invite([5; 16]), Right::Member(BAD)] {
        assert_eq!(b.ask(1, &deposit(&topic, one(), right)), no(Refusal::BadProof));
    }
    let stolen = Right::Member(write_proof(&topic, RELAY, &[item(b"two")]));
    assert_eq!(b.ask(1, &deposit(&topic, one(), stolen)), no(Refusal::BadProof));
    assert_eq!(b.ask(1, &write(&topic, one())), deposited(1));

    for (right, last) in
        [Right::None, Right::Invite([5; 16]), Right::Member(BAD)].into_iter().zip(1..)
    {
        let one = vec![item(&[last as u8])];
        assert_eq!(b.ask(1, &deposit(&inbox, one, right)), deposited(last));
    }

    let invited = |s: u8, n: u8| deposit(&cards, vec![item(&[n])], Right::Invite([s; 16]));
    assert_eq!(b.ask(1, &invited(6, 0)), no(Refusal::BadProof));
    assert_eq!(b.ask(1, &write(&cards, one())), no(Refusal::BadProof));
    assert_eq!(b.ask(1, &invited(5, 0)), deposited(1));
    // New secrets replace the old ones.
    let replace = open(&cards, card(&[secret_hash(&[6; 16])]), [0; 16]);
    assert_eq!(b.ask(1, &replace), Reply::Opened { spent: false });
    assert_eq!(b.ask(1, &invited(5, 1)), no(Refusal::BadProof));
    assert_eq!(b.ask(1, &invited(6, 1)), deposited(2));
}

#[test]
fn a_tag_opened_by_the_same_batch_takes_only_what_is_signed() {
    let mut b = bench();
    let token = b.tokens()[0];
    let good = write(&key(1), vec![item(b"one")]);
    let bad = deposit(&key(1), vec![item(b"two")], Right::Member(BAD));
    let batch = [open(&key(1), TagKind::Topic, token), bad, good].map(|r| b.request(1, &r)).into();
    let replies: Vec<_> = decoded(&b.step(batch)).into_iter().map(|(_, reply)| reply).collect();
    assert_eq!(replies, [Reply::Opened { spent: true }, no(Refusal::BadProof), deposited(1)]);
}

#[test]
fn strangers_have_a_daily_allowance() {
    let mut b = bench();
    b.open(&key(1), card(&[secret_hash(&[5; 16])]));
    let ask = |n: u8| deposit(&key(1), vec![item(&[n])], Right::None);
    for n in 0..ALLOWANCE as u8 {
        assert_eq!(b.ask(1, &ask(n)), deposited(u64::from(n) + 1));
    }
    assert_eq!(b.ask(1, &ask(99)), no(Refusal::SlowDown));
    // Resending is no new request, and a secret needs no allowance.
    assert_eq!(b.ask(1, &ask(0)), deposited(1));
    let invited = deposit(&key(1), vec![item(b"x")], Right::Invite([5; 16]));
    assert_eq!(b.ask(1, &invited), deposited(u64::from(ALLOWANCE) + 1));
    b.env.now += DAY;
    assert_eq!(b.ask(1, &ask(99)), deposited(u64::from(ALLOWANCE) + 2));
}

#[test]
fn the_same_bytes_are_one_item() {
    let mut b = bench();
    b.open(&key(1), TagKind::Inbox);
    b.open(&key(2), TagKind::Inbox);
    let put = |k: u8, all: &[&[u8]]| {
        deposit(&key(k), all.iter().map(|bytes| item(bytes)).collect(), Right::None)
    };
    assert_eq!(b.ask(1, &put(1, &[b"a", b"b", b"a"])), deposited(2));
    assert_eq!(b.ask(1, &put(1, &[b"a"])), deposited(1));
    assert_eq!(b.ask(1, &put(1, &[b"c", b"a"])), deposited(3));
    assert_eq!(b.ask(1, &put(2, &[b"a"])), deposited(1));
    assert_eq!(b.read(&key(1), 0), [(1, b"a".to_vec()), (2, b"b".to_vec()), (3, b"c".to_vec())]);
    assert_eq!(b.ask(1, &put(1, &[])), no(Refusal::Malformed));
}

#[test]
fn a_full_tag_and_a_full_relay_take_nothing() {
    let room = charge(100);
    let mut b = Bench::new(RelayConfig {
        tag_bytes: 2 * room,
        max_bytes: 3 * room,
        ..RelayConfig::default()
    });
    b.open(&key(1), TagKind::Inbox);
    b.open(&key(2), TagKind::Inbox);
    let put = |k: u8, all: &[u8]| {
        deposit(&key(k), all.iter().map(|n| item(&[*n; 100])).collect(), Right::None)
    };
    assert_eq!(b.ask(1, &put(1, &[1, 2, 3])), no(Refusal::TagFull));
    assert_eq!(b.relay.status().items, 0);
    assert_eq!(b.ask(1, &put(1, &[1, 2])), deposited(2));
    assert_eq!(b.ask(1, &put(1, &[3])), no(Refusal::TagFull));
    assert_eq!(b.ask(1, &put(1, &[2])), deposited(2));
    assert_eq!(b.ask(1, &put(2, &[1, 2])), no(Refusal::RelayFull));
    assert_eq!(b.ask(1, &put(2, &[1])), deposited(1));
    assert_eq!(b.relay.status().bytes, 3 * room);
    // Room comes back with age.
    b.env.now += 31 * DAY;
    b.tick();
    assert_eq!(b.ask(1, &put(1, &[3])), deposited(3));
}

#[test]
fn draining_takes_nothing_new_and_gives_what_is_there() {
    let mut b = bench();
    b.open(&key(1), TagKind::Inbox);
    let put = |n: u8| deposit(&key(1), vec![item(&[n])], Right::None);
    b.ask(1, &put(1));
    // Order within a batch counts.
    let (early, late) = (b.request(1, &put(2)), b.request(1, &put(3)));
    let out = decoded(&b.step(vec![early, RelayInput::Drain(true), late]));
    assert_eq!([&out[0].1, &out[1].1], [&deposited(2), &no(Refusal::Draining)]);
    b.restart();
    assert!(b.relay.status().draining);
    assert_eq!(b.ask(1, &open(&key(2), TagKind::Inbox, [0; 16])), no(Refusal::Draining));
    assert_eq!(b.read(&key(1), 1), [(2, vec![2])]);
    b.step(vec![RelayInput::Drain(false)]);
    assert_eq!(b.ask(1, &put(3)), deposited(3));
}

#[test]
fn one_bad_proof_refuses_the_whole_fetch() {
    let mut b = bench();
    b.open(&key(1), TagKind::Inbox);
    b.ask(1, &deposit(&key(1), vec![item(b"one")], Right::None));
    let challenge = b.hello(1);
    // Not open, badly proven.
    let forged = Read { proof: BAD, ..read(&key(2), 0, &challenge) };
    let fetch = |reads: Vec<Read>| Request::Fetch { reads: reads.try_into().unwrap(), wait: false };
    let good = read(&key(1), 0, &challenge);
    assert_eq!(b.ask(1, &fetch(vec![good.clone(), forged])), no(Refusal::BadProof));
    // Nothing of it is watched, and what was proven once is proven for that proof alone.
    for _ in 0..2 {
        let Reply::Items { watched: 0 | 1, items, .. } = b.ask(1, &fetch(vec![good.clone()]))
        else {
            panic!()
        };
        assert_eq!(items.len(), 1);
        let forged = Read { proof: BAD, ..good.clone() };
        assert_eq!(b.ask(1, &fetch(vec![forged])), no(Refusal::BadProof));
    }
    // In another session it proves nothing.
    b.hello(2);
    assert_eq!(b.ask(2, &fetch(vec![good])), no(Refusal::BadProof));
}

#[test]
fn fetches_are_ordered_paged_and_name_closed_tags() {
    let mut b = bench();
    for n in [1, 2] {
        b.open(&key(n), TagKind::Inbox);
        for i in 0..3u8 {
            let big = item(&vec![i; if i == 1 { MAX_ITEM } else { 100_000 }]);
            b.ask(1, &deposit(&key(n), vec![big], Right::None));
        }
    }
    let (one, two, none) = (key(1), key(2), key(3));
    let mut after = [0, 0];
    let mut seen = Vec::new();
    for pages in 1.. {
        let fetch = b.fetch(1, &[(&two, after[1]), (&none, 0), (&one, after[0])], false);
        let (items, closed, more) = items(b.ask(1, &fetch));
        assert_eq!(closed, [tag(&none)]);
        for (t, index, bytes) in items {
            after[usize::from(t == tag(&two))] = index;
            assert_eq!(bytes[0], index as u8 - 1);
            seen.push((t, index));
        }
        seen.sort_by_key(|(t, index)| (*t != tag(&two), *index));
        if !more {
            assert_eq!(pages, 3);
            break;
        }
    }
    let all: Vec<_> = [&two, &one].into_iter().flat_map(|k| (1..=3).map(|i| (tag(k), i))).collect();
    assert_eq!(seen, all);
    // An index from the future finds nothing.
    assert!(b.read(&one, u64::MAX).is_empty());
}

#[test]
fn deleting_takes_the_secret() {
    let mut b = bench();
    b.open(&key(1), TagKind::Inbox);
    let secret = [4; 32];
    let delete = Some(secret_hash(&secret));
    let erasable = |n: u8| Item { delete, ..item(&[n]) };
    b.ask(1, &deposit(&key(1), vec![erasable(1), item(&[2]), erasable(3)], Right::None));
    let with = |secret| Request::Delete { tag: tag(&key(1)), secret };
    assert_eq!(b.ask(1, &with([5; 32])), Reply::Deleted);
    assert_eq!(b.relay.status().items, 3);
    assert_eq!(b.ask(1, &with(secret)), Reply::Deleted);
    assert_eq!(b.read(&key(1), 0), [(2, vec![2])]);
    assert_eq!(b.relay.status().bytes, charge(1));
    // Gone is gone: the same bytes are a new item under a new index, also after a restart.
    b.restart();
    assert_eq!(b.ask(1, &deposit(&key(1), vec![erasable(1)], Right::None)), deposited(4));
    assert_eq!(b.ask(1, &with(secret)), Reply::Deleted);
    assert_eq!(b.ask(1, &deposit(&key(1), vec![item(&[2])], Right::None)), deposited(2));
}

#[test]
fn many_deletions_come_in_pieces() {
    let mut b = bench();
    b.open(&key(1), TagKind::Inbox);
    let delete = Some(secret_hash(&[4; 32]));
    for chunk in (0..=DELETES_AT_ONCE as u32).collect::<Vec<_>>().chunks(256) {
        let all = chunk.iter().map(|n| Item { delete, ..item(&n.to_be_bytes()) }).collect();
        b.ask(1, &deposit(&key(1), all, Right::None));
    }
    let request = Request::Delete { tag: tag(&key(1)), secret: [4; 32] };
    assert_eq!(b.ask(1, &request), no(Refusal::SlowDown));
    assert_eq!(b.relay.status().items, 1);
    assert_eq!(b.ask(1, &request), Reply::Deleted);
    assert_eq!(b.relay.status().items, 0);
}

#[test]
fn items_and_tags_expire_and_indices_go_on() {
    let mut b = bench();
    let used = key(1);
    b.open(&used, TagKind::Inbox);
    b.open(&key(2), TagKind::Inbox);
    let put = |n: u8| deposit(&used, vec![item(&[n])], Right::None);
    b.ask(1, &put(1));
    b.env.now += 30 * DAY;
    b.tick();
    assert_eq!(b.read(&used, 0).len(), 1);
    b.ask(1, &put(2));
    b.env.now += 1;
    b.tick();
    assert_eq!(b.read(&used, 0), [(2, vec![2])]);

    // The one was just fetched; the other was never used.
    b.env.now += 7 * DAY;
    b.tick();
    assert_eq!(b.relay.status().tags, 2);
    b.env.now += DAY;
    b.tick();
    assert_eq!(b.relay.status().tags, 1);
    assert_eq!(b.ask(1, &deposit(&key(2), vec![item(b"x")], Right::None)), no(Refusal::Closed));

    b.env.now += 30 * DAY;
    b.tick();
    assert_eq!((b.relay.status().tags, b.relay.status().items), (0, 0));
    assert_eq!(b.ask(1, &put(3)), no(Refusal::Closed));
    b.restart();
    b.open(&used, TagKind::Inbox);
    assert_eq!(b.ask(1, &put(3)), deposited(3));

    // In the end nothing of it is left.
    b.env.now += 40 * DAY;
    b.tick();
    b.env.now += REMEMBER_DAYS * DAY;
    b.tick();
    let snapshot = b.relay.store.snapshot().unwrap();
    for table in [&TAGS, &ITEMS, &HEADS, &HASHES, &DELETES, &DUE, &CODES] {
        assert_eq!(snapshot.count(table, &KeyRange::all(), 9), Ok(0), "{table:?}");
    }
}

#[test]
fn expiry_is_done_in_pieces_and_asks_to_be_woken() {
    let mut b = bench();
    b.open(&key(1), TagKind::Inbox);
    for chunk in (0..=ITEMS_AT_ONCE as u32).collect::<Vec<_>>().chunks(256) {
        let all = chunk.iter().map(|n| item(&n.to_be_bytes())).collect();
        b.ask(1, &deposit(&key(1), all, Right::None));
    }
    // The invite code comes first.
    b.env.now = b.step(vec![]).wake.unwrap();
    assert_eq!(b.env.now, START + 2 * DAY);
    let wake = b.step(vec![RelayInput::Tick]).wake.unwrap();
    assert!(wake > START + 30 * DAY && wake < START + 31 * DAY);
    b.env.now = wake - 1;
    assert_eq!(b.step(vec![]).wake, Some(wake));
    b.env.now = wake;
    assert_eq!(b.step(vec![RelayInput::Tick]).wake, Some(wake));
    assert_eq!(b.relay.status().items, 1);
    assert!(b.step(vec![RelayInput::Tick]).wake.unwrap() > wake);
    assert_eq!(b.relay.status().items, 0);
}

#[test]
fn a_clock_that_jumps_back_ages_nothing_and_stops_nothing() {
    let mut b = bench();
    b.open(&key(1), TagKind::Inbox);
    let put = |n: u8| deposit(&key(1), vec![item(&[n])], Right::None);
    b.ask(1, &put(1));
    b.env.now -= 400 * DAY;
    assert_eq!(b.ask(1, &put(2)), deposited(2));
    b.tick();
    b.restart();
    assert_eq!(b.ask(1, &put(3)), deposited(3));
    b.tick();
    assert_eq!(b.read(&key(1), 0).len(), 3);
    // Rates recover with the time that passes, whatever the clock says.
    for _ in 0..BURST {
        b.ask(7, &Request::Hello);
    }
    assert_eq!(b.ask(7, &Request::Hello), no(Refusal::SlowDown));
    b.env.now -= 400 * DAY;
    assert_eq!(b.ask(7, &Request::Hello), no(Refusal::SlowDown));
    b.env.now += 1_000;
    b.hello(7);
    b.env.now = START + 31 * DAY;
    b.tick();
    assert_eq!(b.relay.status().items, 0);
    // The ends of time.
    for now in [u64::MAX, 0, 1] {
        b.env.now = now;
        b.step(vec![RelayInput::Tick]);
    }
}

#[test]
fn rates_are_limited_per_session_and_by_proofs() {
    let mut b = bench();
    for _ in 0..BURST {
        b.hello(1);
    }
    assert_eq!(b.ask(1, &Request::Hello), no(Refusal::SlowDown));
    let challenge = b.hello(2);
    b.env.now += 1_000;
    b.hello(1);

    // 256 forged proofs cost as much as 33 requests.
    let forged: Vec<Read> = (0..=255)
        .map(|n| Read { tag: Tag([n; 32]), proof: BAD, ..read(&key(1), 0, &challenge) })
        .collect();
    let fetch = Request::Fetch { reads: forged.try_into().unwrap(), wait: false };
    let refusals: Vec<_> = (0..13).map(|_| b.ask(2, &fetch)).collect();
    assert!(refusals[..12].iter().all(|r| *r == no(Refusal::BadProof)));
    assert_eq!(refusals[12], no(Refusal::SlowDown));
}

#[test]
fn a_failed_commit_is_answered_by_nothing() {
    use crate::store::backends::SyncFailure;
    let mut b = bench();
    b.open(&key(1), TagKind::Inbox);
    let put = |n: u8| deposit(&key(1), vec![item(&[n])], Right::None);
    b.ask(1, &put(1));
    let before = b.relay.status();
    b.disk.fail_sync(1, SyncFailure::Drop);
    let input = b.request(1, &put(2));
    assert!(b.try_step(vec![input.clone()]).is_err());
    assert_eq!(b.relay.status(), before);
    assert_eq!(b.try_step(vec![input]), Err(StorageError::NeedsReopen));
    assert_eq!(b.try_step(vec![]), Err(StorageError::NeedsReopen));
    b.relay.reopen().unwrap();
    assert_eq!(b.read(&key(1), 0), [(1, vec![1])]);
    assert_eq!(b.ask(1, &put(2)), deposited(2));
}

#[test]
fn a_batch_is_one_commit() {
    let mut b = bench();
    b.open(&key(1), TagKind::Topic);
    let syncs = |b: &mut Bench, range: std::ops::Range<u32>| {
        let before = b.disk.counters().syncs;
        let batch =
            range.map(|n| b.request(1, &write(&key(1), vec![item(&n.to_be_bytes())]))).collect();
        let out = b.step(batch);
        assert!(decoded(&out).iter().all(|(_, r)| matches!(r, Reply::Deposited { .. })));
        b.disk.counters().syncs - before
    };
    let one = syncs(&mut b, 0..1);
    // Growing the file takes a sync now and then.
    assert!(syncs(&mut b, 1..257) <= one + 2);
    // Reading costs none.
    let before = b.disk.counters().syncs;
    b.read(&key(1), 0);
    assert_eq!(b.disk.counters().syncs, before);
}

#[test]
fn secrets_are_on_disk_as_hashes_only() {
    let mut b = bench();
    let code = b.invite(2, 1);
    let own = tokens(b.ask(1, &Request::Admit { code }));
    b.ask(1, &open(&key(1), card(&[secret_hash(&[5; 16])]), own[0]));
    let erasable = Item { delete: Some(secret_hash(&[6; 32])), ..item(b"sealed") };
    b.ask(1, &deposit(&key(1), vec![erasable], Right::Invite([5; 16])));
    let snapshot = b.relay.store.snapshot().unwrap();
    let mut secrets: Vec<&[u8]> = own.iter().map(<[u8; 16]>::as_slice).collect();
    secrets.extend([code.as_slice(), &[5; 16], &[6; 32]]);
    let tables = [
        &META, &CODES, &MEMBERS, &TOKENS, &SERIALS, &TAGS, &ITEMS, &HEADS, &HASHES, &DELETES, &DUE,
    ];
    for table in tables {
        let rows = snapshot.scan(table, &KeyRange::all(), false, 999).unwrap();
        assert!(!rows.is_empty(), "{table:?}");
        for (key, value) in rows {
            for secret in &secrets {
                let found = |bytes: &[u8]| bytes.windows(secret.len()).any(|w| w == *secret);
                assert!(!found(&key) && !found(&value), "{table:?}");
            }
        }
    }
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let challenge = [0; 32];
    let good = vec![
        codec::encode(&Request::Hello),
        codec::encode(&Request::Admit { code: [1; 16] }),
        codec::encode(&write(&key(1), vec![item(b"x")])),
        codec::encode(&open(&key(1), card(&[[1; 32]]), [1; 16])),
        codec::encode(&Request::Fetch {
            reads: vec![read(&key(1), 3, &challenge)].try_into().unwrap(),
            wait: true,
        }),
    ];
    let spoilt =
        (prop::sample::select(good), any::<prop::sample::Index>(), any::<u8>(), any::<bool>())
            .prop_map(|(mut bytes, at, with, cut)| {
                let at = at.index(bytes.len());
                bytes[at] = with;
                if cut {
                    bytes.truncate(at);
                }
                bytes
            });
    prop_oneof![prop::collection::vec(any::<u8>(), 0..64), spoilt]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_bytes_get_one_answer(all in prop::collection::vec(bytes(), 1..20)) {
        let mut b = bench();
        b.open(&key(1), TagKind::Topic);
        b.hello(3);
        let n = all.len();
        let batch = (0..).zip(all).map(|(id, bytes)| RelayInput::Request { id, session: 3, bytes });
        let out = b.step(batch.collect());
        let held = b.relay.status().waits as usize;
        prop_assert_eq!(out.answers.len() + held, n);
    }
}

#[test]
fn malformed_bytes_are_refused() {
    let mut b = bench();
    for bytes in [vec![], vec![99], vec![0, 0], vec![1; 3], vec![0; 2 << 20]] {
        let out = b.step(vec![RelayInput::Request { id: 1, session: 1, bytes }]);
        assert_eq!(decoded(&out), [(1, no(Refusal::Malformed))]);
    }
    assert_eq!(b.relay.status().refusals, 5);
}
