//! The wire form of the records.

use super::*;

fn any_record() -> impl Strategy<Value = MembershipRecord> {
    let ids = prop::collection::btree_set(any::<[u8; 32]>(), 1..=MAX_PARENTS);
    (step(), ids, any::<[u8; 32]>(), 0_u8..21).prop_map(|(s, parents, topic, what)| {
        if what == 20 {
            let kind = [TopicKind::Private, TopicKind::Direct, TopicKind::Group];
            let kind = kind[usize::from(s.role)];
            return MembershipRecord::create(
                account(0),
                device(s.dev),
                kind,
                History::All,
                [s.care; 16],
            );
        }
        MembershipRecord {
            version: VERSION,
            topic: Some(TopicId(topic)),
            parents: parents.into_iter().map(OpId).collect::<Vec<_>>().try_into().unwrap(),
            account: account(s.who),
            device: device(s.dev),
            op: op_of(&s, what),
        }
    })
}

proptest! {
    #[test]
    fn records_survive_the_wire_and_no_byte_can_change(
        record in any_record(),
        at in any::<prop::sample::Index>(),
        flip in 1_u8..,
    ) {
        let signed = sign(record.clone());
        let back = Record::from_bytes(signed.bytes()).unwrap();
        prop_assert_eq!(back.get(), &record);
        prop_assert_eq!(back.id(), signed.id());
        let mut bytes = signed.bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        prop_assert!(Record::from_bytes(&bytes).is_err());
        prop_assert!(Record::from_bytes(&signed.bytes()[..at]).is_err());
    }

    #[test]
    fn any_bytes_are_refused_or_canonical(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(record) = codec::decode::<MembershipRecord>(&bytes) {
            prop_assert_eq!(codec::encode(&record), bytes);
        }
    }
}

#[test]
fn the_largest_record_fits_its_bound() {
    let many: Vec<Cut> = (0..MAX_CUTS as u8)
        .map(|n| Cut { device: DeviceId([n; 32]), seq: u64::MAX, id: envelope(0) })
        .collect();
    let record = MembershipRecord {
        version: VERSION,
        topic: Some(TopicId([0; 32])),
        parents: (0..16).map(|n| OpId([n; 32])).collect::<Vec<_>>().try_into().unwrap(),
        account: account(0),
        device: device(0),
        op: MemberOp::Remove { account: account(1), cuts: many.try_into().unwrap() },
    };
    let bytes = codec::encode(&record);
    assert!(bytes.len() <= MembershipRecord::MAX_BYTES);
    assert_eq!(bytes.len(), MembershipRecord::MAX_BYTES);
    assert_eq!(codec::decode(&bytes), Ok(record));
}

#[test]
fn disorderly_records_are_refused() {
    let good = group(&[]).evaluate(&belongs).next(account(0), device(0), leave());
    let refused = |change: &dyn Fn(&mut MembershipRecord)| {
        let mut record = good.clone();
        change(&mut record);
        codec::decode::<MembershipRecord>(&codec::encode(&record)).is_err()
    };
    let parents = |ids: &[u8]| -> List<OpId, MAX_PARENTS> {
        ids.iter().map(|n| OpId([*n; 32])).collect::<Vec<_>>().try_into().unwrap()
    };
    let twice = Cuts::try_from(vec![cut(1, 1), Cut { seq: 2, ..cut(1, 1) }]).unwrap();
    assert!(!refused(&|_| ()));
    assert!(refused(&|r| r.version = 2));
    assert!(refused(&|r| r.topic = None));
    assert!(refused(&|r| r.parents = List::default()));
    assert!(refused(&|r| r.parents = parents(&[2, 1])));
    assert!(refused(&|r| r.parents = parents(&[1, 1])));
    assert!(refused(&|r| r.op = MemberOp::Leave { cuts: twice.clone() }));
    let create = |kind| MemberOp::Create { kind, nonce: [0; 16], history: History::All };
    assert!(refused(&|r| r.op = create(TopicKind::Group)));
    assert!(!refused(&|r| {
        *r = MembershipRecord::create(
            account(0),
            device(0),
            TopicKind::Group,
            History::All,
            [0; 16],
        );
    }));
}
