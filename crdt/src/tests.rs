//! Replicas that get the same changes in different orders, batches and numbers of copies.

use proptest::prelude::*;

use crate::*;

/// Lower-case hexadecimal digits, for vectors.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |s, b| s + &format!("{b:02x}"))
}

const SEGMENT: SegmentRef = SegmentRef { topic: [5; 32], number: 1 };

fn actor(device: usize) -> Actor {
    Actor([device as u8 + 1; 16])
}

fn device_of(actor: Actor) -> DeviceKey {
    [actor.0[0]; 32]
}

/// Per device, the typed entries it writes: one per change, which is also its envelope's number.
fn devices() -> impl Strategy<Value = Vec<Vec<ChatEntry>>> {
    proptest::collection::vec(proptest::collection::vec(chat::tests::chat_entry(), 0..12), 1..5)
}

/// Lamport numbers made to rise in each chain, as honest devices' do.
fn rising(chain: &[ChatEntry]) -> Vec<ChatEntry> {
    let mut next = 0;
    let mut chain = chain.to_vec();
    for entry in &mut chain {
        if let ChatEntry::Reaction { lamport, .. }
        | ChatEntry::Title { lamport, .. }
        | ChatEntry::Notice { lamport, .. }
        | ChatEntry::Nickname { lamport, .. }
        | ChatEntry::Timer { lamport, .. }
        | ChatEntry::State { lamport, .. } = entry
        {
            next += 1 + *lamport;
            *lamport = next;
        }
    }
    chain
}

fn write(device: usize, chain: &[ChatEntry]) -> Vec<Inspected> {
    let mut own = OwnChain::new(SEGMENT, actor(device));
    chain
        .iter()
        .zip(1..)
        .map(|(entry, seq)| {
            let bytes = own.append(&[entry.to_entry(seq).unwrap()]).unwrap();
            inspect(&bytes, SEGMENT, actor(device)).unwrap()
        })
        .collect()
}

/// A replica that gets `changes` in this order in batches of these sizes; a batch size of 0
/// saves and loads it instead. What waits is offered again with the next batch.
fn replica(changes: &[Inspected], sizes: &[usize]) -> Document {
    let mut doc = Document::new(SEGMENT);
    let mut waiting: Vec<Inspected> = Vec::new();
    let mut rest = changes;
    let mut sizes = sizes.iter().copied().chain(core::iter::repeat(usize::MAX));
    while !rest.is_empty() {
        let size = sizes.next().unwrap();
        if size == 0 {
            doc = Document::load(SEGMENT, &doc.save()).unwrap();
            continue;
        }
        let (batch, later) = rest.split_at(size.min(rest.len()));
        rest = later;
        waiting.extend_from_slice(batch);
        let out = doc.apply(core::mem::take(&mut waiting)).unwrap();
        assert!(out.forks.is_empty() && out.strays.is_empty());
        waiting = out.waiting;
    }
    doc
}

fn view(doc: &Document) -> ChatView {
    let mut view = ChatView::default();
    view.add_document(doc, |actor| Some(device_of(actor)));
    view
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn replicas_converge(
        devices in devices(),
        sizes in proptest::collection::vec(0usize..9, 0..12),
        copies in proptest::collection::vec(any::<prop::sample::Index>(), 0..20),
        order in proptest::collection::vec(any::<u32>(), 80),
    ) {
        let devices: Vec<_> = devices.iter().map(|c| rising(c)).collect();
        let all: Vec<Inspected> = devices
            .iter()
            .enumerate()
            .flat_map(|(d, chain)| write(d, chain))
            .collect();
        let straight = replica(&all, &[]);
        let mut mixed: Vec<_> = all.clone();
        if !all.is_empty() {
            mixed.extend(copies.iter().map(|i| i.get(&all).clone()));
        }
        let mut mixed: Vec<_> = order.iter().cycle().zip(mixed).collect();
        mixed.sort_by_key(|(o, _)| **o);
        let mixed: Vec<_> = mixed.into_iter().map(|(_, c)| c).collect();
        let other = replica(&mixed, &sizes);

        prop_assert_eq!(straight.digest(), other.digest());
        prop_assert_eq!(straight.heads(), other.heads());
        prop_assert_eq!(
            straight.entries().collect::<Vec<_>>(),
            other.entries().collect::<Vec<_>>()
        );
        prop_assert!(straight.entries().is_sorted());
        prop_assert_eq!(straight.changes() as usize, all.len());
        prop_assert!(view(&straight) == view(&other));

        // The view of the rows, folded change by change, is the view of the document.
        let mut rows = ChatView::default();
        for (d, chain) in devices.into_iter().enumerate() {
            for (entry, seq) in chain.into_iter().zip(1..) {
                rows.add(device_of(actor(d)), seq, entry);
            }
        }
        prop_assert!(rows == view(&straight));
        prop_assert_eq!(rows.unknown, 0);
    }

    // Whatever one device withholds, the others' entries are all there.
    #[test]
    fn a_missing_change_holds_up_only_its_own_device(
        devices in devices(),
        missing: prop::sample::Index,
        order in any::<u64>(),
    ) {
        let all: Vec<Inspected> = devices
            .iter()
            .enumerate()
            .flat_map(|(d, chain)| write(d, chain))
            .collect();
        prop_assume!(!all.is_empty());
        let gone = missing.get(&all).clone();
        let mut held: Vec<_> = all.iter().filter(|c| c.hash() != gone.hash()).cloned().collect();
        if !held.is_empty() {
            let turn = order as usize % held.len();
            held.rotate_left(turn);
        }
        let doc = replica(&held, &[3, 1, 4]);
        for (d, chain) in devices.iter().enumerate() {
            let expected = if actor(d) == gone.actor() {
                gone.seq() - 1
            } else {
                chain.len() as u64
            };
            prop_assert_eq!(doc.tip(actor(d)).len, expected);
        }
    }
}
