//! Rotation, patience, and the outbox's short form.

use teahouse_protocols::account::RelayAddr;
use teahouse_protocols::ids::{DeviceId, RelayId, Tag, TopicId};
use teahouse_protocols::mailbox::MAX_READS;

use std::mem::discriminant;

use super::fetch::following;
use super::outbox::Waits;
use super::session::{Fetch, Hush, MAX_HUSHED, Pending, REFUSAL_STANDS, Refused, Session};
use crate::tables::OutItem;

fn tag(n: u16) -> Tag {
    let mut tag = [0; 32];
    tag[..2].copy_from_slice(&n.to_be_bytes());
    Tag(tag)
}

/// With any number of tags, each is asked for once before one is asked for twice.
#[test]
fn all_tags_have_their_turn() {
    for n in [1, 255, 256, 257, 1_024, 1_500] {
        let all: Vec<Tag> = (0..n).map(tag).collect();
        let mut last = None;
        let mut times = vec![0; all.len()];
        for _ in 0..all.len().div_ceil(MAX_READS) {
            let asked = following(all.clone(), last, MAX_READS, |t| *t);
            assert!(asked.len() <= MAX_READS);
            last = asked.last().copied();
            for t in asked {
                times[usize::from(u16::from_be_bytes([t.0[0], t.0[1]]))] += 1;
            }
        }
        let (least, most) = (times.iter().min().unwrap(), times.iter().max().unwrap());
        assert!(*least >= 1 && *most <= 2, "{n} tags: {least} to {most} times");
    }
}

/// What fails again and again is asked for less and less; what fails together counts once.
#[test]
fn patience_grows_and_is_bounded() {
    let mut hush = Hush::default();
    let mut now = 1_000_000;
    let mut waits = Vec::new();
    for _ in 0..15 {
        hush.again(now);
        let until = hush.until;
        hush.again(now);
        assert_eq!(hush.until, until);
        waits.push(until - now);
        now = until;
    }
    assert_eq!(waits[..4], [1_000, 2_000, 4_000, 8_000]);
    assert_eq!(waits[14], 512_000);
}

#[test]
fn remembered_trouble_is_bounded() {
    let mut session = Session::default();
    for n in 0..u16::try_from(2 * MAX_HUSHED).unwrap() {
        session.hush(tag(n).0, 1_000);
        assert!(session.quiet(&tag(n).0, 1_000).is_some());
    }
    assert!(session.hushed.len() <= MAX_HUSHED);
    assert_eq!(session.quiet(&tag(8_000).0, 2_000), None);
}

/// A refusal is told until what was refused succeeds: an answer about something else, as
/// every fetch brings, settles nothing.
#[test]
fn a_refusal_stands_until_the_same_succeeds() {
    let run = |n: u8| Pending::Run { topic: TopicId([n; 32]), first: 1, upto: 2 };
    let fetch = Pending::Fetch(Fetch { reads: [].into(), wait: true, generation: 0, sent: 0 });
    let refused = |about| Refused { kind: discriminant(&run(1)), about, at: 1_000 };
    let one = refused(run(1).about());
    assert!(!one.is_settled_by(&fetch, 2_000));
    assert!(!one.is_settled_by(&run(2), 2_000), "another mailbox");
    assert!(one.is_settled_by(&run(1), 2_000));
    assert!(one.is_settled_by(&fetch, 1_000 + REFUSAL_STANDS), "not repeated");
    let whole = refused(None);
    assert!(!whole.is_settled_by(&fetch, 2_000));
    assert!(whole.is_settled_by(&run(2), 2_000), "the relay takes deposits again");
}

/// The short form reads what the whole form writes.
#[test]
fn the_short_form_of_an_outbox_row() {
    for (secret, run) in
        [(None, Some((TopicId([4; 32]), RelayId([5; 32]), 77))), (Some([6; 16]), None)]
    {
        let item = OutItem {
            device: secret.is_none().then_some(DeviceId([1; 32])),
            tag: tag(2),
            secret,
            sealed: vec![0xff; 70_000],
            relays: vec![RelayAddr { id: RelayId([3; 32]), addrs: Vec::new().try_into().unwrap() }],
            made: 1_795_000_000_000,
            run,
        };
        let short = Waits::read(&postcard::to_stdvec(&item).unwrap()).unwrap();
        assert_eq!(
            (short.device, short.tag, short.secret, short.relays, short.made),
            (item.device, item.tag, item.secret, item.relays, item.made)
        );
        assert!(Waits::read(&[1, 2, 3]).is_err());
    }
}
