//! Rows must not depend on the order in which changes come.

use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use teahouse_crdt::TypedEntry;
use teahouse_crdt::chat::{ChatEntry, MessageRef};
use teahouse_protocols::codec::List;
use teahouse_protocols::ids::EpochId;

use super::*;
use crate::features::chat::field_key;
use crate::store::backends::SimDisk;
use crate::store::{KeyRange, ReadExt, Stage, Store};
use crate::tables::{FIELDS, Field, RECALLS, REQUESTS, Request, TOPICS, Topic};
use crate::tx::Memory;

const TOPIC: TopicId = TopicId([1; 32]);

/// Runs something in the context of one input over an empty store.
pub(super) fn with_tx<T>(f: impl FnOnce(&mut Tx<'_>) -> T) -> T {
    let store = Store::on_disk(&SimDisk::new()).unwrap();
    let snapshot = store.snapshot().unwrap();
    let mut tx = Tx {
        stage: Stage::new(&snapshot),
        now: 1_000,
        rng: &mut ChaCha20Rng::seed_from_u64(1),
        mem: &mut Memory::default(),
        out: Vec::new(),
    };
    f(&mut tx)
}

fn header() -> Header {
    Header {
        segment: 0,
        heads: List::default(),
        epoch: EpochId([0; 32]),
        time: 0,
        bodies: List::default(),
    }
}

fn see(tx: &mut Tx<'_>, device: u8, seq: u64, role: Role, entry: &ChatEntry) {
    let header = header();
    let change = Applied {
        topic: TOPIC,
        kind: TopicKind::Group,
        account: AccountId([device; 32]),
        device: DeviceId([device; 32]),
        seq,
        role,
        time: 0,
        header: &header,
        bodies: &[],
    };
    apply(tx, &change, &[entry.to_entry(seq).unwrap()]).unwrap();
}

fn title(tx: &mut Tx<'_>, device: u8, seq: u64, lamport: u64, text: &str) {
    let entry = ChatEntry::Title { text: text.to_owned(), lamport };
    see(tx, device, seq, Role::Member, &entry);
}

fn shown(tx: &Tx<'_>) -> Option<Chosen<String>> {
    tx.typed(&FIELDS, &field_key(TOPIC, Field::Title)).unwrap()
}

fn lamport() -> impl Strategy<Value = u64> {
    prop_oneof![1..4_u64, MAX_LAMPORT - 1..MAX_LAMPORT + 3, Just(u64::MAX)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_field_is_the_same_in_every_order(
        (one, other) in prop::collection::btree_map((1..4_u8, 1..6_u64), lamport(), 1..10)
            .prop_map(|m| m.into_iter().collect::<Vec<_>>())
            .prop_flat_map(|v| (Just(v.clone()), Just(v).prop_shuffle()))
    ) {
        let after = |list: &[((u8, u64), u64)]| {
            with_tx(|tx| {
                for ((device, seq), lamport) in list {
                    title(tx, *device, *seq, *lamport, &format!("{device}/{seq}"));
                }
                (shown(tx), next_lamport(tx, TOPIC).unwrap())
            })
        };
        let first = after(&one);
        prop_assert_eq!(&first, &after(&other));
        prop_assert!(first.1 <= MAX_LAMPORT);
        prop_assert!(first.0.is_none_or(|c| c.lamport <= MAX_LAMPORT));
    }
}

#[test]
fn a_number_out_of_bounds_freezes_nothing() {
    with_tx(|tx| {
        title(tx, 9, 1, u64::MAX, "mine for ever");
        assert_eq!(shown(tx), None);
        assert_eq!(next_lamport(tx, TOPIC).unwrap(), 1);
        // The highest number that counts leaves the others their say, too.
        title(tx, 9, 1, MAX_LAMPORT, "mine for ever");
        let next = next_lamport(tx, TOPIC).unwrap();
        title(tx, 1, 2, next, "ours");
        assert_eq!(shown(tx).unwrap().value, "ours");
    });
}

#[test]
fn of_two_recalls_by_one_device_the_office_counts_in_any_order() {
    let entry = ChatEntry::Recall { target: MessageRef { device: [7; 32], seq: 1 } };
    for roles in [[Role::Admin, Role::Member], [Role::Member, Role::Admin]] {
        with_tx(|tx| {
            see(tx, 1, 1, roles[0], &entry);
            see(tx, 1, 2, roles[1], &entry);
            let (key, _) = tx.first(&RECALLS, &TOPIC.0).unwrap().unwrap();
            assert_eq!(tx.typed(&RECALLS, &key).unwrap(), Some(true));
        });
    }
}

fn stranger(tx: &mut Tx<'_>, n: u16, declined: bool, invited: bool) -> TopicId {
    let mut id = [2; 32];
    id[..2].copy_from_slice(&n.to_be_bytes());
    let row = Topic {
        kind: TopicKind::Direct,
        created: 0,
        peer: Some(AccountId(id)),
        proposed: true,
        hidden: declined,
        epochs: 0,
    };
    tx.put(&TOPICS, &id, &row).unwrap();
    let request = Request {
        incoming: true,
        name: String::new(),
        greeting: String::new(),
        time: u64::from(1_000 - n),
        topic: TopicId(id),
        declined,
        invited,
    };
    tx.put(&REQUESTS, &id, &request).unwrap();
    TopicId(id)
}

#[test]
fn the_declined_then_the_uninvited_make_room() {
    with_tx(|tx| {
        let topics: Vec<TopicId> =
            [(false, true), (false, false), (true, true), (false, false), (true, false)]
                .iter()
                .zip(0..)
                .map(|((declined, invited), n)| stranger(tx, n, *declined, *invited))
                .collect();
        // The higher the number, the older.
        for gone in [4, 2, 3, 1] {
            contacts::make_room(tx).unwrap();
            assert!(!tx.contains(&REQUESTS, &topics[gone].0).unwrap(), "{gone}");
            assert!(contacts::is_quiet(tx, topics[gone]).unwrap());
        }
        assert!(contacts::make_room(tx).is_err());
        assert_eq!(tx.count(&REQUESTS, &KeyRange::all(), 10).unwrap(), 1);
        assert!(contacts::is_quiet(tx, topics[0]).unwrap());
    });
}

fn state_entry() -> impl Strategy<Value = (u8, u64, ChatEntry)> {
    (1..4_u8, 1..40_u64, "[ab]", prop::collection::vec(any::<u8>(), 0..3), lamport()).prop_map(
        |(device, seq, key, value, lamport)| {
            (device, seq, ChatEntry::State { app: [7; 32], key, value, lamport })
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What a program shares, and how much it is, follows from what was written alone.
    #[test]
    fn shared_state_is_the_same_in_every_order(
        (one, other) in prop::collection::vec(state_entry(), 1..12)
            .prop_map(|mut all| {
                all.sort_by_key(|(device, seq, _)| (*device, *seq));
                all.dedup_by_key(|(device, seq, _)| (*device, *seq));
                all
            })
            .prop_flat_map(|v| (Just(v.clone()), Just(v).prop_shuffle()))
    ) {
        use crate::features::programs::tables::{PROGRAM_STATE, PROGRAM_STATE_ROOM, Room};
        let rows = |all: &[(u8, u64, ChatEntry)]| with_tx(|tx| {
            for (device, seq, entry) in all {
                see(tx, *device, *seq, Role::Member, entry);
            }
            let rows = |table| tx.scan(table, &KeyRange::all(), false, 100).unwrap();
            (rows(&PROGRAM_STATE), rows(&PROGRAM_STATE_ROOM))
        });
        let (state, room) = rows(&one);
        prop_assert_eq!(&(state.clone(), room.clone()), &rows(&other));
        let bytes: u64 = state.iter().map(|(_, row)| {
            let chosen: Chosen<Vec<u8>> = postcard::from_bytes(row).unwrap();
            1 + chosen.value.len() as u64
        }).sum();
        let counted: Room = room.first().map_or_else(Room::default, |(_, row)| {
            postcard::from_bytes(row).unwrap()
        });
        prop_assert_eq!(counted, Room { keys: state.len() as u64, bytes });
    }
}
