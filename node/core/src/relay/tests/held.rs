//! Fetches that are held.

use teahouse_protocols::mailbox::{MAX_ITEM, MAX_MAIL, MAX_READS, MAX_WATCHED, Refusal};

use super::super::STEP_BYTES;
use super::super::watches::HOLD;
use super::*;
use crate::store::backends::SyncFailure;

fn bench() -> Bench {
    let mut b = Bench::new(RelayConfig::default());
    for n in [1, 2] {
        b.open(&key(n), TagKind::Inbox);
    }
    b
}

fn put(k: u8, n: u8) -> Request {
    deposit(&key(k), vec![item(&[n])], Right::None)
}

impl Bench {
    /// That so many fetches are held.
    fn holds(&self, fetches: usize) {
        assert_eq!(self.relay.watches.held(), fetches);
        assert!(self.relay.watches.is_consistent());
    }

    /// A fetch that goes on with what its session watches, and watches this besides.
    fn more(&mut self, session: u64, reads: &[(&SigningKey, u64)], wait: bool) -> Request {
        let challenge = self.relay.sessions.known(session).and_then(|s| s.challenge()).unwrap();
        let reads: Vec<_> =
            reads.iter().map(|(key, after)| read(key, *after, &challenge)).collect();
        Request::Fetch { reads: reads.try_into().unwrap(), wait }
    }

    /// Sends a fetch that is held; returns its number.
    fn hold(&mut self, session: u64, reads: &[(&SigningKey, u64)]) -> u64 {
        let fetch = self.fetch(session, reads, true);
        self.hold_this(session, &fetch)
    }

    fn hold_this(&mut self, session: u64, fetch: &Request) -> u64 {
        let input = self.request(session, fetch);
        let out = self.step(vec![input]);
        assert_eq!(out.answers, []);
        assert!(out.wake.is_some_and(|at| at <= self.env.now + HOLD));
        self.next
    }
}

#[test]
fn a_held_fetch_is_answered_by_a_deposit() {
    let mut b = bench();
    b.ask(1, &put(1, 1));
    let (one, two, three) = (key(1), key(2), key(3));
    // What is there is given at once.
    let fetch = b.fetch(5, &[(&one, 0)], true);
    assert_eq!(items(b.ask(5, &fetch)).0.len(), 1);

    let first = b.hold(5, &[(&two, 0), (&one, 1), (&three, 0)]);
    let second = b.hold(6, &[(&two, 0)]);
    // Bytes that are there already wake nobody, nor do other tags.
    b.ask(1, &put(1, 1));
    let input = b.request(1, &put(1, 2));
    let out = decoded(&b.step(vec![input]));
    assert_eq!(out[0].1, Reply::Deposited { last: 2 });
    assert_eq!(out.len(), 2);
    assert_eq!(out[1].0, first);
    let expected = (vec![(tag(&one), 2, vec![2])], vec![tag(&three)], false);
    assert_eq!(items(out[1].1.clone()), expected);

    let input = b.request(1, &put(2, 3));
    let out = decoded(&b.step(vec![input]));
    assert_eq!((out.len(), out[1].0), (2, second));
    b.holds(0);
}

#[test]
fn a_fetch_and_a_deposit_in_one_batch_meet() {
    let mut b = bench();
    let one = key(1);
    let fetch = b.fetch(5, &[(&one, 0)], true);
    let batch = [(5, fetch), (1, put(1, 1))].map(|(s, r)| b.request(s, &r)).into();
    let out = decoded(&b.step(batch));
    assert_eq!(items(out[1].1.clone()).0, [(tag(&one), 1, vec![1])]);
    b.holds(0);
}

#[test]
fn a_held_fetch_ends_after_its_time() {
    let mut b = bench();
    let (one, three) = (key(1), key(3));
    let first = b.hold(5, &[(&one, 0), (&three, 0)]);
    // A jump back neither prolongs nor ends it.
    b.env.now -= 3 * DAY;
    b.step(vec![]);
    b.env.now += HOLD - 1;
    let out = b.step(vec![RelayInput::Tick]);
    assert_eq!((out.answers.len(), out.wake), (0, Some(b.env.now + 1)));
    b.env.now += 1;
    let out = decoded(&b.step(vec![RelayInput::Tick]));
    assert_eq!(out[0].0, first);
    assert_eq!(items(out[0].1.clone()), (vec![], vec![tag(&three)], false));
    b.holds(0);
}

#[test]
fn a_tag_opened_meanwhile_wakes_who_waits_for_it() {
    let mut b = bench();
    let three = key(3);
    let held = b.hold(5, &[(&three, 0)]);
    b.open(&three, TagKind::Inbox);
    let input = b.request(1, &put(3, 1));
    let out = decoded(&b.step(vec![input]));
    assert_eq!(out[1].0, held);
    assert_eq!(items(out[1].1.clone()).0, [(tag(&three), 1, vec![1])]);
}

/// Once named, a tag is watched: fetches that name nothing go on from what was given.
#[test]
fn a_session_goes_on_from_what_it_was_given() {
    let mut b = bench();
    let (one, two) = (key(1), key(2));
    b.ask(1, &put(1, 1));
    let fetch = b.fetch(5, &[(&one, 0), (&two, 0)], true);
    assert_eq!(items(b.ask(5, &fetch)).0, [(tag(&one), 1, vec![1])]);
    let next = b.more(5, &[], true);
    for n in 2..5 {
        let held = b.hold_this(5, &next);
        let input = b.request(1, &put(1 + n % 2, n));
        let out = decoded(&b.step(vec![input]));
        assert_eq!((out.len(), out[1].0), (2, held));
        let Reply::Items { items, watched: 2, more: false, .. } = &out[1].1 else { panic!() };
        assert_eq!((items.len(), &items[0].2[..]), (1, &[n][..]));
    }
    // What came while nothing was held is there at once; nothing comes twice.
    b.ask(1, &put(1, 8));
    b.ask(1, &put(2, 9));
    let again = b.more(5, &[], false);
    assert_eq!(items(b.ask(5, &again)).0.len(), 2);
    assert_eq!(items(b.ask(5, &again)).0, []);
    // Named once more, it begins where it is said to; a hello ends it all.
    let anew = b.more(5, &[(&one, 1)], false);
    assert_eq!(items(b.ask(5, &anew)).0.len(), 3);
    b.hello(5);
    let Reply::Items { watched: 0, .. } = b.ask(5, &again) else { panic!() };
    b.holds(0);
}

/// What is added while a fetch is held takes its place; what is under it is not lost.
#[test]
fn a_second_fetch_takes_the_place_of_the_held_one() {
    let mut b = bench();
    let (one, two) = (key(1), key(2));
    let first = b.hold(5, &[(&one, 0)]);
    let second = b.more(5, &[(&two, 0)], true);
    let input = b.request(5, &second);
    let number = b.next;
    let out = decoded(&b.step(vec![input]));
    assert_eq!((out.len(), out[0].0), (1, first));
    assert_eq!(items(out[0].1.clone()).0, []);
    b.holds(1);
    let input = b.request(1, &put(1, 1));
    let out = decoded(&b.step(vec![input]));
    assert_eq!(out[1].0, number);
    assert_eq!(items(out[1].1.clone()).0.len(), 1);
    b.holds(0);
}

#[test]
fn a_session_watches_so_much_and_no_more() {
    let mut b = bench();
    b.hello(5);
    let keys: Vec<SigningKey> = (0..=MAX_WATCHED as u32)
        .map(|n| {
            let mut seed = [9; 32];
            seed[..4].copy_from_slice(&n.to_be_bytes());
            SigningKey::from_bytes(&seed)
        })
        .collect();
    for some in keys[..MAX_WATCHED].chunks(MAX_READS) {
        let some: Vec<_> = some.iter().map(|k| (k, 0)).collect();
        let fetch = b.more(5, &some, false);
        assert!(matches!(b.ask(5, &fetch), Reply::Items { .. }));
        // Proofs are dear: they are not checked faster than this.
        b.env.now += 1_000;
    }
    let fetch = b.more(5, &[(&keys[MAX_WATCHED], 0)], false);
    assert_eq!(b.ask(5, &fetch), Reply::Refused(Refusal::SlowDown));
    let known = b.more(5, &[(&keys[0], 3)], false);
    let Reply::Items { watched, .. } = b.ask(5, &known) else { panic!() };
    assert_eq!(watched as usize, MAX_WATCHED);
    b.step(vec![RelayInput::SessionClosed { session: 5 }]);
    b.holds(0);
}

#[test]
fn a_closed_session_holds_nothing() {
    let mut b = bench();
    let one = key(1);
    b.hold(5, &[(&one, 0)]);
    b.hold(6, &[(&one, 0)]);
    b.holds(2);
    // Also one that came in the same batch.
    let challenge = b.hello(7);
    let reads = vec![read(&one, 0, &challenge)].try_into().unwrap();
    let input = b.request(7, &Request::Fetch { reads, wait: true });
    let closed = |session| RelayInput::SessionClosed { session };
    b.step(vec![closed(5), input, closed(7)]);
    b.holds(1);
    b.step(vec![closed(6)]);
    b.holds(0);
    let input = b.request(1, &put(1, 1));
    assert_eq!(b.step(vec![input]).answers.len(), 1);
}

/// A batch that is not durable answers nothing: what its answers held is given again.
#[test]
fn what_a_failed_commit_would_have_given_is_given_again() {
    let mut b = bench();
    let one = key(1);
    b.ask(1, &put(1, 1));
    b.hello(6);
    let fetch = b.more(6, &[(&one, 0)], false);
    b.disk.fail_sync(1, SyncFailure::Drop);
    let batch = [(6, fetch), (1, put(1, 2))].map(|(s, r)| b.request(s, &r)).into();
    assert!(b.try_step(batch).is_err());
    b.relay.reopen().unwrap();
    let again = b.more(6, &[], false);
    assert_eq!(items(b.ask(6, &again)).0, [(tag(&one), 1, vec![1])]);
    assert_eq!(items(b.ask(6, &again)).0, []);
    b.holds(0);
}

#[test]
fn a_failed_commit_keeps_older_waits_only() {
    let mut b = bench();
    let one = key(1);
    let held = b.hold(5, &[(&one, 0)]);
    let fetch = b.fetch(6, &[(&one, 5)], true);
    b.disk.fail_sync(1, SyncFailure::Drop);
    let batch = [(6, fetch), (1, put(1, 1))].map(|(s, r)| b.request(s, &r)).into();
    assert!(b.try_step(batch).is_err());
    b.relay.reopen().unwrap();
    assert_eq!(b.relay.status().waits, 1);
    assert_eq!(b.step(vec![]).answers, []);
    let input = b.request(1, &put(1, 2));
    let out = decoded(&b.step(vec![input]));
    assert_eq!(out[1].0, held);
    assert_eq!(items(out[1].1.clone()).0, [(tag(&one), 1, vec![2])]);
    b.holds(0);
}

#[test]
fn a_rush_of_fetches_is_spread_over_steps() {
    let mut b = bench();
    let one = key(1);
    b.ask(1, &deposit(&key(1), vec![item(&vec![1; MAX_ITEM])], Right::None));
    let rush = STEP_BYTES / MAX_ITEM + 5;
    let mut batch = Vec::new();
    for n in 0..rush as u64 {
        let fetch = b.fetch(100 + n, &[(&one, 0)], n % 2 == 0);
        batch.push(b.request(100 + n, &fetch));
    }
    let out = b.step(batch);
    assert_eq!(out.wake, Some(b.env.now));
    let first = decoded(&out);
    assert!(first.len() < rush && first.len() * (MAX_MAIL) > STEP_BYTES);
    let rest = decoded(&b.step(vec![RelayInput::Tick]));
    assert_eq!(first.len() + rest.len(), rush);
    for (_, reply) in first.into_iter().chain(rest) {
        assert_eq!(items(reply).0.len(), 1);
    }
    b.holds(0);
}

/// Answers of a session are numbered in the order in which they hold what comes: a client can
/// tell that one overtook another. A batch that failed gave none.
#[test]
fn answers_are_numbered() {
    let nth = |reply: &Reply| match reply {
        Reply::Items { nth, .. } => *nth,
        other => panic!("{other:?}"),
    };
    let mut b = bench();
    let one = key(1);
    b.hello(5);
    let nothing = b.more(5, &[], false);
    assert_eq!(nth(&b.ask(5, &nothing)), 0, "nothing is watched");
    let held = b.more(5, &[(&one, 0)], true);
    let first = b.hold_this(5, &held);
    let more = b.more(5, &[(&key(2), 0)], false);
    let input = b.request(5, &more);
    let out = decoded(&b.step(vec![input]));
    assert_eq!((out[0].0, nth(&out[0].1), nth(&out[1].1)), (first, 1, 2));
    b.disk.fail_sync(1, SyncFailure::Drop);
    let batch = [(5, more.clone()), (1, put(1, 1))].map(|(s, r)| b.request(s, &r)).into();
    assert!(b.try_step(batch).is_err());
    b.relay.reopen().unwrap();
    assert_eq!(nth(&b.ask(5, &more)), 3);
    b.hello(5);
    let again = b.more(5, &[(&one, 0)], false);
    assert_eq!(nth(&b.ask(5, &again)), 1);
}

/// A fetch that was held before a batch that fails is held after it, though another one of the
/// batch took its place.
#[test]
fn a_failed_batch_releases_no_held_fetch() {
    let mut b = bench();
    let one = key(1);
    let held = b.hold(5, &[(&one, 0)]);
    let more = b.more(5, &[(&key(2), 0)], true);
    b.disk.fail_sync(1, SyncFailure::Drop);
    let batch = [(5, more), (1, put(2, 1))].map(|(s, r)| b.request(s, &r)).into();
    assert!(b.try_step(batch).is_err());
    b.relay.reopen().unwrap();
    b.step(vec![]);
    b.holds(1);
    let input = b.request(1, &put(1, 1));
    let out = decoded(&b.step(vec![input]));
    assert_eq!(out[1].0, held);
    assert_eq!(items(out[1].1.clone()).0, [(tag(&one), 1, vec![1])]);
}
