use proptest::prelude::*;

use super::*;
use crate::tests::hex;

fn private_entry() -> impl Strategy<Value = PrivateEntry> {
    let lamport = 0u64..5;
    let id = (0u8..3).prop_map(|b| [b; 32]);
    let bytes = proptest::collection::vec(any::<u8>(), 0..20);
    prop_oneof![
        (id.clone(), bytes.clone(), lamport.clone()).prop_map(|(account, value, lamport)| {
            PrivateEntry::Contact { account, value, lamport }
        }),
        ("[ab]", bytes.clone(), lamport.clone())
            .prop_map(|(name, value, lamport)| PrivateEntry::Setting { name, value, lamport }),
        (id.clone(), any::<u64>(), lamport.clone()).prop_map(|(topic, upto_time, lamport)| {
            PrivateEntry::ReadMark { topic, upto_time, lamport }
        }),
        ("[ab]", bytes, lamport.clone()).prop_map(|(name, value, lamport)| PrivateEntry::Secret {
            name,
            value,
            lamport
        }),
        (id.clone(), ".{0,10}", lamport.clone())
            .prop_map(|(topic, text, lamport)| PrivateEntry::Draft { topic, text, lamport }),
        ("[a/]{1,3}", id, proptest::collection::vec(any::<u8>(), 0..20), lamport).prop_map(
            |(feature, id, value, lamport)| PrivateEntry::Record { feature, id, value, lamport }
        ),
    ]
}

proptest! {
    #[test]
    fn entries_come_back(entry in private_entry()) {
        let wire = entry.to_entry(3).unwrap();
        prop_assert_eq!(PrivateEntry::from_entry(9, &wire).unwrap(), entry);
    }

    #[test]
    fn the_view_is_the_same_in_any_order_of_devices(
        chains in proptest::collection::vec(proptest::collection::vec(private_entry(), 0..8), 1..4),
    ) {
        let fold = |order: &mut dyn Iterator<Item = usize>| {
            let mut view = PrivateView::default();
            for device in order {
                for entry in &chains[device] {
                    view.add([device as u8; 32], entry.clone());
                }
            }
            view
        };
        let forth = fold(&mut (0..chains.len()));
        let back = fold(&mut (0..chains.len()).rev());
        prop_assert!(forth == back);
    }
}

#[test]
fn bounds() {
    let contact = |n| PrivateEntry::Contact { account: [1; 32], value: vec![0; n], lamport: 1 };
    let setting = |name: usize, n| PrivateEntry::Setting {
        name: "n".repeat(name),
        value: vec![0; n],
        lamport: 1,
    };
    let secret = |name: usize, n| PrivateEntry::Secret {
        name: "n".repeat(name),
        value: vec![0; n],
        lamport: 1,
    };
    let draft = |n| PrivateEntry::Draft { topic: [1; 32], text: "d".repeat(n), lamport: 1 };
    let accepted = [
        contact(MAX_CONTACT_BYTES),
        setting(MAX_NAME_BYTES, MAX_SETTING_BYTES),
        secret(MAX_NAME_BYTES, MAX_SECRET_BYTES),
        draft(MAX_DRAFT_BYTES),
    ];
    for entry in accepted {
        assert!(entry.to_entry(1).is_ok(), "{entry:?}");
    }
    let refused = [
        contact(MAX_CONTACT_BYTES + 1),
        setting(MAX_NAME_BYTES + 1, 0),
        setting(0, 0),
        setting(1, MAX_SETTING_BYTES + 1),
        secret(MAX_NAME_BYTES + 1, 0),
        secret(1, MAX_SECRET_BYTES + 1),
        draft(MAX_DRAFT_BYTES + 1),
    ];
    for entry in refused {
        assert!(entry.to_entry(1).is_err(), "{entry:?}");
    }
}

/// The wire form of every kind is fixed for ever.
#[test]
fn vectors() {
    let id = [1; 32];
    let ones = "01".repeat(32);
    let cases = [
        (
            PrivateEntry::Contact { account: id, value: vec![9], lamport: 2 },
            format!("00{ones}010902"),
        ),
        (
            PrivateEntry::Setting { name: "a".into(), value: vec![9], lamport: 2 },
            "010161010902".into(),
        ),
        (
            PrivateEntry::ReadMark { topic: id, upto_time: 300, lamport: 2 },
            format!("02{ones}ac0202"),
        ),
        (
            PrivateEntry::Secret { name: "a".into(), value: vec![9], lamport: 2 },
            "030161010902".into(),
        ),
        (
            PrivateEntry::Draft { topic: id, text: "a".into(), lamport: 2 },
            format!("04{ones}016102"),
        ),
        (
            PrivateEntry::Record { feature: "a".into(), id, value: vec![9], lamport: 2 },
            format!("050161{ones}010902"),
        ),
    ];
    assert_eq!(cases.len(), usize::from(PrivateEntry::VARIANTS));
    for (entry, expected) in cases {
        let wire = entry.to_entry(1).unwrap();
        assert_eq!(hex(&wire.value), expected, "{entry:?}");
    }
}

#[test]
fn the_view() {
    let (a, b, topic) = ([1; 32], [2; 32], [7; 32]);
    let draft = |text: &str, lamport| PrivateEntry::Draft { topic, text: text.into(), lamport };
    let mark = |upto_time, lamport| PrivateEntry::ReadMark { topic, upto_time, lamport };
    let mut view = PrivateView::default();
    view.add(a, draft("half a", 1));
    assert_eq!(view.draft(&topic), Some("half a"));
    view.add(b, draft("", 2));
    assert_eq!(view.draft(&topic), None);
    view.add(a, mark(100, 3));
    view.add(b, mark(50, 2));
    assert_eq!(view.read_mark(&topic), Some(100));
    let contact = |value: &[u8], lamport| PrivateEntry::Contact {
        account: topic,
        value: value.into(),
        lamport,
    };
    view.add(a, contact(b"Bo", 4));
    assert_eq!(view.contacts().collect::<Vec<_>>(), [(&topic, &b"Bo"[..])]);
    view.add(b, contact(b"", 5));
    assert_eq!(view.contacts().count(), 0);
    // A setting and a secret of one name are two things.
    view.add(a, PrivateEntry::Setting { name: "n".into(), value: vec![1], lamport: 5 });
    view.add(a, PrivateEntry::Secret { name: "n".into(), value: vec![2], lamport: 5 });
    assert_eq!(view.setting("n"), Some(&[1][..]));
    assert_eq!(view.secret("n"), Some(&[2][..]));
    assert_eq!(view.next_lamport(), 6);
}
