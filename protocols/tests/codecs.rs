//! Every wire form, over random values: it reads back, stays within its bound, and no other
//! bytes are it.

#![allow(clippy::unwrap_used)]

#[path = "codecs/pay.rs"]
mod pay;
#[path = "codecs/values.rs"]
mod values;

use std::fmt::Debug;

use proptest::prelude::*;
use proptest::sample::Index;
use teahouse_protocols::account::{AccountRecord, RelayAddr};
use teahouse_protocols::card::ContactCard;
use teahouse_protocols::codec::{Bytes, DecodeError, List, Text, Wire, decode, encode};
use teahouse_protocols::cursor::{Ack, Cursor, MAX_ACKS};
use teahouse_protocols::envelope::{Header, MAX_BODY, MAX_ENVELOPE, MAX_HEADER};
use teahouse_protocols::epoch::{EpochHead, MAX_HEAD, MAX_RECIPIENTS, Parcel};
use teahouse_protocols::ids::{
    AccountId, AppId, AssetId, ChannelId, DeviceId, EnvelopeId, EpochId, OfferId, RelayId, Tag,
    TopicId,
};
use teahouse_protocols::inbox::{ContactRequest, InboxMessage, Letter, MAX_OP, MAX_PREKEYS};
use teahouse_protocols::link::{PairCode, ProgramLink, Provider, RelayInvite};
use teahouse_protocols::mailbox::{Item, Read, Reply, Request, Right, TopicMail};
use teahouse_protocols::membership::{Cut, MAX_CUTS, MemberOp, MembershipRecord};
use teahouse_protocols::moments::{self, MAX_COMMENT, Said, Word};
use teahouse_protocols::package::{Manifest, Package, ProgramFrame};
use teahouse_protocols::pairing::PairFrame;
use teahouse_protocols::pay::frames::MAX_ENTRIES;
use teahouse_protocols::pay::{
    Answer, Ask, Asset, Channel, Entry, EntryKind, Evidence, Grant, Item as Line, MAX_LANES, Offer,
    PayFrame, PayReply, PayRequest, PaymentOrder, Receipt, VERSION, Voucher,
};
use teahouse_protocols::photo::{Captioned, MAX_CAPTION, MAX_PICTURE, Photo, Previews};
use teahouse_protocols::prekey::PrekeyBundle;
use teahouse_protocols::sign::{Signable, Signature, Signed};
use teahouse_protocols::sync::{Frame, Held, Run, TopicDigest};

use self::values::{key, me};

// --- What holds of every one of them. ---

/// Where to do harm.
#[derive(Debug, Clone)]
struct Harm {
    flips: Vec<(Index, u8)>,
    cut: Index,
    stretch: Index,
    tail: Vec<u8>,
}

fn harm() -> impl Strategy<Value = Harm> {
    let flips = prop::collection::vec((any::<Index>(), 0_u8..8), 12);
    let tail = prop::collection::vec(any::<u8>(), 1..4);
    (flips, any::<Index>(), any::<Index>(), tail).prop_map(|(flips, cut, stretch, tail)| Harm {
        flips,
        cut,
        stretch,
        tail,
    })
}

/// The other byte strings that are tried.
fn others(bytes: &[u8], harm: &Harm) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = harm
        .flips
        .iter()
        .map(|(at, bit)| {
            let mut other = bytes.to_vec();
            other[at.index(bytes.len())] ^= 1 << bit;
            other
        })
        .collect();
    all.push(bytes[..harm.cut.index(bytes.len())].to_vec());
    all.push([bytes, &harm.tail].concat());
    // What ends a varint, spelt with a byte more; elsewhere just another change.
    let at = harm.stretch.index(bytes.len());
    let mut other = bytes.to_vec();
    other[at] |= 0x80;
    other.insert(at + 1, 0);
    all.push(other);
    all
}

/// Reads back; nothing else reads as the same value; what else reads is canonical.
fn holds<T: Wire + PartialEq + Debug>(value: &T, harm: &Harm) {
    let bytes = encode(value);
    assert!(bytes.len() <= T::MAX_BYTES, "{} of {}", bytes.len(), T::MAX_BYTES);
    assert_eq!(&decode::<T>(&bytes).unwrap(), value);
    for other in others(&bytes, harm) {
        if let Ok(read) = decode::<T>(&other) {
            assert_ne!(&read, value, "two spellings");
            assert_eq!(encode(&read), other);
        }
    }
}

/// Moreover, signed: any other bytes are refused.
fn signed_holds<T: Signable + PartialEq + Debug + Clone>(value: &T, harm: &Harm) {
    holds(value, harm);
    let signed = Signed::new(value.clone(), &key());
    let read = Signed::<T>::from_bytes(signed.bytes()).unwrap();
    assert_eq!(read, signed);
    assert_eq!(read.get(), value);
    for other in others(signed.bytes(), harm) {
        assert!(Signed::<T>::from_bytes(&other).is_err());
    }
}

macro_rules! round_trips {
    ($($check:ident $name:ident;)*) => {
        proptest! {
            #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]
            $(#[test]
            fn $name(value in values::$name(), harm in harm()) {
                $check(&value, &harm);
            })*
        }
    };
}

mod one_spelling {
    use super::{harm, holds, signed_holds, values};
    use proptest::prelude::*;

    round_trips! {
        signed_holds account_record;
        signed_holds membership_record;
        signed_holds prekey_bundle;
        signed_holds contact_card;
        signed_holds epoch_head;
        signed_holds cursor;
        signed_holds inbox_message;
        signed_holds contact_request;
        holds relay_invite;
        holds pair_code;
        holds parcel;
        holds header;
        holds frame;
        holds request;
        holds reply;
        holds topic_mail;
        holds pair_frame;
        holds captioned;
        holds previews;
        holds word;
        signed_holds manifest;
        holds package;
        holds program_frame;
        signed_holds call;
        holds call_frame;
        holds program_link;
    }
}

mod one_spelling_of_money {
    use super::{harm, holds, pay as values, signed_holds};
    use proptest::prelude::*;

    round_trips! {
        signed_holds asset;
        signed_holds offer;
        signed_holds product;
        signed_holds payment_order;
        signed_holds outcome;
        signed_holds transfer_answer;
        signed_holds refund;
        signed_holds channel_request;
        signed_holds channel;
        signed_holds voucher;
        signed_holds voucher_ack;
        signed_holds voucher_refusal;
        signed_holds credit;
        signed_holds freeze_request;
        signed_holds freeze;
        signed_holds release;
        signed_holds statement_head;
        holds entry;
        holds receipt;
        holds contradiction;
        holds pay_request;
        holds pay_reply;
    }
}

// --- At the bounds. ---

fn full<const N: usize>() -> Bytes<N> {
    vec![0xff; N].try_into().unwrap()
}

fn times<T: Clone, const N: usize>(item: T) -> List<T, N> {
    vec![item; N].try_into().unwrap()
}

/// As many distinct ids as fit, ascending.
fn distinct<T: From<[u8; 32]>, const N: usize>() -> List<T, N> {
    let id = |n: usize| {
        let mut id = [0xff; 32];
        id[..8].copy_from_slice(&(n as u64).to_be_bytes());
        T::from(id)
    };
    (0..N).map(id).collect::<Vec<_>>().try_into().unwrap()
}

/// The longest value there is fits, and reads back.
fn fits<T: Wire + PartialEq + Debug>(value: &T) -> usize {
    let bytes = encode(value);
    assert!(bytes.len() <= T::MAX_BYTES, "{}: {} of {}", T::NAME, bytes.len(), T::MAX_BYTES);
    assert_eq!(&decode::<T>(&bytes).unwrap(), value);
    bytes.len()
}

#[test]
fn the_longest_values_fit() {
    let cut = |device| Cut { device, seq: u64::MAX, id: EnvelopeId([1; 32]) };
    let cuts: Vec<Cut> = distinct::<DeviceId, MAX_CUTS>().into_iter().map(cut).collect();
    fits(&MembershipRecord {
        version: 1,
        topic: Some(TopicId([1; 32])),
        parents: distinct(),
        account: AccountId([1; 32]),
        device: me(),
        op: MemberOp::Remove { account: AccountId([1; 32]), cuts: cuts.try_into().unwrap() },
    });
    let ack = |device| Ack { device, seq: u64::MAX, id: EnvelopeId([1; 32]) };
    let devices = distinct::<DeviceId, MAX_ACKS>();
    fits(&Cursor {
        version: 1,
        topic: TopicId([1; 32]),
        account: AccountId([1; 32]),
        device: me(),
        counter: u64::MAX,
        acks: devices.iter().copied().map(ack).collect::<Vec<_>>().try_into().unwrap(),
        read: devices.iter().map(|d| (*d, u64::MAX)).collect::<Vec<_>>().try_into().unwrap(),
    });
    let header = Header {
        segment: u32::MAX,
        heads: distinct(),
        epoch: EpochId([1; 32]),
        time: u64::MAX,
        bodies: distinct(),
    };
    assert!(fits(&header) < MAX_HEADER, "with the byte of the version");
    let head = EpochHead {
        version: 1,
        topic: TopicId([1; 32]),
        heads: distinct(),
        commitment: [1; 32],
        recipients: distinct::<DeviceId, MAX_RECIPIENTS>(),
        author: me(),
    };
    fits(&head);
    assert!(Signed::new(head, &key()).bytes().len() <= MAX_HEAD);
    fits(&Parcel { head: full(), to: [1; 32], sealed: full() });
    fits(&TopicMail::Envelope(full::<MAX_ENVELOPE>()));
    fits(&TopicMail::Body(full::<MAX_BODY>()));
    fits(&PairFrame::Grant { payload: full() });
    // The largest frames, requests and replies: one item as large as there is any.
    fits(&Frame::Inbox(full()));
    fits(&Frame::Pair(full()));
    let letter = Letter { envelope: full(), bodies: times(full()) };
    fits(&Frame::Push(TopicId([1; 32]), vec![letter].try_into().unwrap()));
    let right = Right::Member(Signature([1; 64]));
    let item = Item { bytes: full(), delete: Some([1; 32]) };
    let tag = Tag([1; 32]);
    fits(&Request::Deposit { tag, items: vec![item].try_into().unwrap(), right });
    let items = vec![(tag, u64::MAX, full())].try_into().unwrap();
    fits(&Reply::Items { items, closed: times(tag), more: true, watched: u32::MAX, nth: u64::MAX });
    let read = Read { tag, after: u64::MAX, proof: Signature([1; 64]) };
    fits(&Request::Fetch { reads: times(read), wait: true });
    fits(&Frame::Want(TopicId([1; 32]), times(Run { device: me(), from: 1, to: u64::MAX })));
    let photo =
        Photo { hash: [1; 32], key: [1; 32], size: MAX_PICTURE, width: u16::MAX, height: u16::MAX };
    let text = "x".repeat(MAX_CAPTION).try_into().unwrap();
    fits(&Captioned { text, photos: times(photo) });
    fits(&Previews(times(full())));
    let at = moments::Place { topic: TopicId([1; 32]), device: me(), seq: u64::MAX };
    let said = Said::Comment { text: "x".repeat(MAX_COMMENT).try_into().unwrap() };
    fits(&Word { version: 1, post: at, parent: Some(at), by: AccountId([1; 32]), said });
    fits(&Frame::Service(u8::MAX, full()));
    let app = AppId([1; 32]);
    fits(&ProgramFrame::Offer { app, manifest: full() });
    fits(&ProgramFrame::Page { app, bytes: full() });
    let addr = "a".repeat(128).as_str().try_into().unwrap();
    let relay = RelayAddr { id: RelayId([1; 32]), addrs: times(addr) };
    let provider = Provider { device: me(), addrs: times(long()), relays: times(relay) };
    let name = "n".repeat(64);
    let link = ProgramLink {
        version: 1,
        app: AppId::of(&[1; 32], &name),
        developer: [1; 32],
        name: name.as_str().try_into().unwrap(),
        code: u32::MAX,
        providers: times(provider),
        launch: long(),
    };
    assert_eq!(fits(&link), ProgramLink::MAX_BYTES);
    let digest = [1; 16];
    let ids: List<TopicId, 4_096> = distinct();
    let topics = ids.iter().map(|id| TopicDigest { topic: *id, frontier: digest, cursors: digest });
    fits(&Frame::Digests {
        accounts: times((AccountId([1; 32]), digest)),
        topics: topics.collect::<Vec<_>>().try_into().unwrap(),
        ask: true,
    });
    let held = Held { device: me(), low: 1, high: u64::MAX, head: EnvelopeId([1; 32]), fork: 1 };
    fits(&Frame::Frontier {
        topic: TopicId([1; 32]),
        ops: distinct(),
        chains: times(held),
        ask: true,
    });
}

/// Text as long as may be.
fn long<const N: usize>() -> Text<N> {
    Text::try_from("t".repeat(N)).unwrap()
}

#[test]
fn the_longest_forms_of_money_fit() {
    let item = Line { title: long(), quantity: 1, unit: 1 };
    let mut offer = Offer {
        version: VERSION,
        asset: AssetId([1; 32]),
        order: [1; 16],
        payee: AccountId([1; 32]),
        key: me(),
        price: 64,
        title: long(),
        items: times(item),
        made: u64::MAX - 1,
        expires: u64::MAX,
        for_device: Some(me()),
    };
    fits(&offer);
    offer.items = List::default();
    offer.price = u64::MAX;
    fits(&offer);
    let order = PaymentOrder {
        version: VERSION,
        asset: AssetId([1; 32]),
        account: AccountId([1; 32]),
        device: me(),
        to: AccountId([2; 32]),
        amount: u64::MAX,
        offer: Some(OfferId([1; 32])),
        memo: long(),
        nonce: [1; 16],
        made: u64::MAX - 1,
        expires: u64::MAX,
    };
    let longest = Signed::new(order, &key()).bytes().len();
    assert!(longest <= PaymentOrder::MAX_SIGNED && longest + 2 > PaymentOrder::MAX_SIGNED - 8);
    let devices = distinct::<DeviceId, MAX_LANES>();
    let cap = u64::MAX / MAX_LANES as u64;
    let lanes: Vec<(DeviceId, u64)> = devices.iter().map(|d| (*d, cap)).collect();
    fits(&Channel {
        version: VERSION,
        id: ChannelId([1; 32]),
        asset: AssetId([1; 32]),
        key: me(),
        payer: AccountId([1; 32]),
        payee: AccountId([2; 32]),
        payee_key: me(),
        capacity: u64::MAX,
        lanes: lanes.try_into().unwrap(),
        opened: u64::MAX - 2,
        expires: u64::MAX - 1,
        settle_by: u64::MAX,
    });
    let grant = Grant { account: AccountId([1; 32]), device: me(), records: times(full()) };
    let log = vec![full(); 38].try_into().unwrap();
    let ask = Ask::Pay { log, order: full(), offer: Some(Box::new(full())) };
    let request = PayRequest { version: VERSION, id: u64::MAX, ask };
    fits(&request);
    fits(&PayFrame::Request(Box::new(request)));
    let evidence = Evidence::Voucher { channel: full(), voucher: full(), ack: full() };
    fits(&Receipt {
        version: VERSION,
        asset: full(),
        offer: Some(full()),
        evidence,
        grants: times(grant.clone()),
    });
    let of = Some([1; 32]);
    let entry = |number| Entry {
        number,
        kind: EntryKind::Paid,
        amount: u64::MAX,
        other: Some(AccountId([1; 32])),
        of,
        at: u64::MAX,
    };
    let first = u64::MAX - MAX_ENTRIES as u64;
    let entries: Vec<Entry> = (first..).take(MAX_ENTRIES).map(entry).collect();
    let reply = |answer| PayReply { version: VERSION, id: u64::MAX, head: Some(full()), answer };
    let (asset, entries) = (AssetId([1; 32]), entries.try_into().unwrap());
    fits(&reply(Answer::Statement { asset, entries, more: true }));
    fits(&reply(Answer::Money { grant, assets: times(full()) }));
    fits(&reply(Answer::Offer { nonce: [1; 16], offer: Box::new(full()) }));
    let refunds = times(full());
    fits(&reply(Answer::Order { outcome: full(), fulfilled: true, refunds }));
}

#[test]
fn signed_values_fit_where_they_are_carried() {
    const OVERHEAD: usize = Signed::<Cursor>::OVERHEAD;
    const { assert!(MembershipRecord::MAX_BYTES + OVERHEAD <= MAX_OP) };
    const { assert!(PrekeyBundle::MAX_BYTES + OVERHEAD <= MAX_PREKEYS) };
}

#[test]
fn one_more_than_the_bound_is_refused_unread() {
    fn refused<T: Wire + Debug>() {
        let err = decode::<T>(&vec![0; T::MAX_BYTES + 1]).unwrap_err();
        assert!(matches!(err, DecodeError::TooLong { .. }), "{err}");
    }
    refused::<AccountRecord>();
    refused::<MembershipRecord>();
    refused::<PrekeyBundle>();
    refused::<ContactCard>();
    refused::<RelayInvite>();
    refused::<PairCode>();
    refused::<EpochHead>();
    refused::<Parcel>();
    refused::<Header>();
    refused::<Cursor>();
    refused::<InboxMessage>();
    refused::<ContactRequest>();
    refused::<Frame>();
    refused::<Request>();
    refused::<Reply>();
    refused::<TopicMail>();
    refused::<PairFrame>();
    refused::<Manifest>();
    refused::<Package>();
    refused::<ProgramFrame>();
    refused::<ProgramLink>();
    refused::<Asset>();
    refused::<Offer>();
    refused::<PaymentOrder>();
    refused::<Channel>();
    refused::<Voucher>();
    refused::<Receipt>();
    refused::<PayRequest>();
    refused::<PayReply>();
    refused::<PayFrame>();

    // A list, bytes or text with one item more than its bound can't be made, nor read.
    assert!(List::<u8, 3>::try_from(vec![0; 4]).is_err());
    assert!(Bytes::<3>::try_from(vec![0; 4]).is_err());
    assert!(Text::<3>::try_from("茶馆").is_err());
    let read = |wire: &[u8]| postcard::from_bytes::<List<u8, 3>>(wire).is_ok();
    assert!(read(&[3, 0, 0, 0]) && !read(&[4, 0, 0, 0, 0]));
    let read = |wire: &[u8]| postcard::from_bytes::<Bytes<3>>(wire).is_ok();
    assert!(read(&[3, 0, 0, 0]) && !read(&[4, 0, 0, 0, 0]));
    let read = |wire: &[u8]| postcard::from_bytes::<Text<3>>(wire).is_ok();
    assert!(read("\u{3}茶".as_bytes()) && !read("\u{4}teas".as_bytes()));
}
