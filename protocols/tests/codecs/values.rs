//! Random values of every wire form, each within its type's rules.

use std::fmt::Debug;

use proptest::prelude::*;
use teahouse_protocols::account::{AccountOp, AccountRecord, RelayAddr, Signer};
use teahouse_protocols::card::{ContactCard, LinkSecret};
use teahouse_protocols::codec::{Bytes, List, Text};
use teahouse_protocols::cursor::{Ack, Cursor};
use teahouse_protocols::envelope::Header;
use teahouse_protocols::epoch::{EpochHead, Parcel};
use teahouse_protocols::functions::{self, Call, CallAnswer, CallFrame, CallRefusal};
use teahouse_protocols::ids::{AppId, DeviceId, OpId, RecordId};
use teahouse_protocols::inbox::{
    AccountPack, ContactRequest, InboxItem, InboxMessage, Letter, Welcome,
};
use teahouse_protocols::link::{PairCode, ProgramLink, Provider, RelayInvite};
use teahouse_protocols::mailbox::{Item, Read, Refusal, Reply, Request, Right, TagKind, TopicMail};
use teahouse_protocols::membership::{
    Cut, History, MAX_CUTS, MAX_PARENTS, MemberOp, MembershipRecord, Role, TopicKind,
};
use teahouse_protocols::moments::{self, Said, Word};
use teahouse_protocols::package::{
    self, Cloud, File, Manifest, PAGE, Package, Permission, Power, ProgramFrame, Release,
};
use teahouse_protocols::pairing::PairFrame;
use teahouse_protocols::photo::{Captioned, MAX_PICTURE, PREVIEWS_PER_BODY, Photo, Previews};
use teahouse_protocols::prekey::PrekeyBundle;
use teahouse_protocols::sign::{Signature, SigningKey};
use teahouse_protocols::sync::{Frame, Held, Run, TopicDigest};

pub(crate) fn ids<T: From<[u8; 32]> + Debug>() -> impl Strategy<Value = T> {
    any::<[u8; 32]>().prop_map(T::from)
}

pub(crate) fn key() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}

/// The device that signs all that is signed here.
pub(crate) fn me() -> DeviceId {
    DeviceId(key().verifying_key().to_bytes())
}

pub(crate) fn signature() -> impl Strategy<Value = Signature> {
    any::<([u8; 32], [u8; 32])>().prop_map(|(r, s)| {
        let mut both = [0; 64];
        both[..32].copy_from_slice(&r);
        both[32..].copy_from_slice(&s);
        Signature(both)
    })
}

/// Mostly short, for what counts is where lengths stand.
pub(crate) fn bytes<const N: usize>() -> impl Strategy<Value = Bytes<N>> {
    prop::collection::vec(any::<u8>(), 0..=N.min(200)).prop_map(|v| v.try_into().unwrap())
}

pub(crate) fn text<const N: usize>() -> impl Strategy<Value = Text<N>> {
    "\\PC{0,12}".prop_map(|s| s.as_str().try_into().unwrap_or_default())
}

pub(crate) fn list<T: Debug, const N: usize>(
    item: impl Strategy<Value = T>,
) -> impl Strategy<Value = List<T, N>> {
    prop::collection::vec(item, 0..=N.min(4)).prop_map(|v| v.try_into().unwrap())
}

/// Strictly ascending.
pub(crate) fn set<T: Ord + Debug, const N: usize>(
    item: impl Strategy<Value = T>,
    least: usize,
) -> impl Strategy<Value = List<T, N>> {
    prop::collection::btree_set(item, least..=N.min(5))
        .prop_map(|s| s.into_iter().collect::<Vec<_>>().try_into().unwrap())
}

/// Numbers of every encoded length.
pub(crate) fn number() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0_u32..64).prop_map(|(n, shift)| n >> shift)
}

pub(crate) fn relay() -> impl Strategy<Value = RelayAddr> {
    (ids(), list(text())).prop_map(|(id, addrs)| RelayAddr { id, addrs })
}

pub(crate) fn account_record() -> impl Strategy<Value = AccountRecord> {
    let mine = Signer::Device(me());
    let root = Signer::Root(me().0);
    let genesis =
        any::<[u8; 16]>().prop_map(move |nonce| (root, AccountOp::Genesis { root: me().0, nonce }));
    let op = prop_oneof![
        (ids(), text(), signature()).prop_map(|(device, name, consent)| AccountOp::AddDevice {
            device,
            name,
            consent
        }),
        ids().prop_map(|device| AccountOp::RevokeDevice { device }),
        list(relay()).prop_map(|relays| AccountOp::SetRelays { relays }),
        text().prop_map(|name| AccountOp::SetProfile { name }),
        (any::<[u8; 32]>(), ids())
            .prop_map(|(inbox_key, tag)| AccountOp::SetCard { inbox_key, tag }),
        set(any::<u16>(), 0).prop_map(|features| AccountOp::SetFeatures { features }),
    ];
    let rotate = (any::<[u8; 32]>(), signature()).prop_map(move |(root_key, consent)| {
        (root, AccountOp::RotateRoot { root: root_key, consent })
    });
    let follows = prop_oneof![
        3 => op.prop_map(move |op| (mine, op)),
        1 => rotate,
    ];
    let rest = (ids(), set::<RecordId, 8>(ids(), 1), follows).prop_map(
        |(account, parents, (signer, op))| AccountRecord {
            version: 1,
            account: Some(account),
            parents,
            signer,
            op,
        },
    );
    let first = genesis.prop_map(|(signer, op)| AccountRecord {
        version: 1,
        account: None,
        parents: List::default(),
        signer,
        op,
    });
    prop_oneof![4 => rest, 1 => first]
}

pub(crate) fn history() -> impl Strategy<Value = History> {
    prop_oneof![Just(History::FromJoining), Just(History::All)]
}

pub(crate) fn cuts() -> impl Strategy<Value = List<Cut, MAX_CUTS>> {
    let map = prop::collection::btree_map(ids(), (number(), ids()), 0..4);
    map.prop_map(|m| {
        let cuts: Vec<Cut> =
            m.into_iter().map(|(device, (seq, id))| Cut { device, seq, id }).collect();
        cuts.try_into().unwrap()
    })
}

pub(crate) fn membership_record() -> impl Strategy<Value = MembershipRecord> {
    let role = || prop_oneof![Just(Role::Member), Just(Role::Admin), Just(Role::Owner)];
    let kind =
        prop_oneof![Just(TopicKind::Private), Just(TopicKind::Direct), Just(TopicKind::Group)];
    let create =
        (ids(), kind, history(), any::<[u8; 16]>()).prop_map(|(account, kind, history, nonce)| {
            MembershipRecord::create(account, me(), kind, history, nonce)
        });
    let op = prop_oneof![
        (ids(), role(), history()).prop_map(|(account, role, history)| MemberOp::Add {
            account,
            role,
            history
        }),
        (ids(), cuts()).prop_map(|(account, cuts)| MemberOp::Remove { account, cuts }),
        cuts().prop_map(|cuts| MemberOp::Leave { cuts }),
        (ids(), role()).prop_map(|(account, role)| MemberOp::SetRole { account, role }),
        history().prop_map(|history| MemberOp::SetHistory { history }),
        (ids(), number(), ids())
            .prop_map(|(device, seq, id)| MemberOp::CutDevice { cut: Cut { device, seq, id } }),
    ];
    let rest = (ids(), set::<OpId, MAX_PARENTS>(ids(), 1), ids(), op).prop_map(
        |(topic, parents, account, op)| MembershipRecord {
            version: 1,
            topic: Some(topic),
            parents,
            account,
            device: me(),
            op,
        },
    );
    prop_oneof![4 => rest, 1 => create]
}

pub(crate) fn prekey_bundle() -> impl Strategy<Value = PrekeyBundle> {
    (ids(), number(), any::<[u8; 32]>(), ids(), set(any::<u16>(), 0)).prop_map(
        |(account, counter, prekey, inbox, features)| PrekeyBundle {
            version: 1,
            account,
            device: me(),
            counter,
            prekey,
            inbox,
            features,
        },
    )
}

pub(crate) fn link_secret() -> impl Strategy<Value = LinkSecret> {
    any::<[u8; 16]>().prop_map(LinkSecret)
}

pub(crate) fn contact_card() -> impl Strategy<Value = ContactCard> {
    let keys = (any::<[u8; 32]>(), ids(), link_secret());
    (ids(), text(), keys, list(relay()), list(bytes())).prop_map(
        |(account, name, (inbox_key, tag, secret), relays, proof)| ContactCard {
            version: 1,
            account,
            device: me(),
            name,
            inbox_key,
            tag,
            relays,
            secret,
            proof,
        },
    )
}

pub(crate) fn relay_invite() -> impl Strategy<Value = RelayInvite> {
    (relay(), link_secret(), prop::option::of(bytes()), text()).prop_map(
        |(relay, code, greeter, community)| RelayInvite {
            version: 1,
            relay,
            code,
            greeter,
            community,
        },
    )
}

pub(crate) fn pair_code() -> impl Strategy<Value = PairCode> {
    (ids(), link_secret(), list(text())).prop_map(|(device, secret, addrs)| PairCode {
        version: 1,
        device,
        secret,
        addrs,
    })
}

pub(crate) fn epoch_head() -> impl Strategy<Value = EpochHead> {
    (ids(), set(ids(), 0), any::<[u8; 32]>(), set(ids(), 0)).prop_map(
        |(topic, heads, commitment, recipients)| EpochHead {
            version: 1,
            topic,
            heads,
            commitment,
            recipients,
            author: me(),
        },
    )
}

pub(crate) fn parcel() -> impl Strategy<Value = Parcel> {
    (bytes(), any::<[u8; 32]>(), bytes()).prop_map(|(head, to, sealed)| Parcel { head, to, sealed })
}

pub(crate) fn header() -> impl Strategy<Value = Header> {
    (any::<u32>(), set(ids(), 0), ids(), number(), list(ids())).prop_map(
        |(segment, heads, epoch, time, bodies)| Header { segment, heads, epoch, time, bodies },
    )
}

pub(crate) fn cursor() -> impl Strategy<Value = Cursor> {
    let acks = prop::collection::btree_map(ids::<DeviceId>(), (number(), ids()), 0..4);
    let read = prop::collection::btree_map(ids::<DeviceId>(), number(), 0..4);
    (ids(), ids(), number(), acks, read).prop_map(|(topic, account, counter, acks, read)| {
        let acks: Vec<Ack> =
            acks.into_iter().map(|(device, (seq, id))| Ack { device, seq, id }).collect();
        Cursor {
            version: 1,
            topic,
            account,
            device: me(),
            counter,
            acks: acks.try_into().unwrap(),
            read: read.into_iter().collect::<Vec<_>>().try_into().unwrap(),
        }
    })
}

pub(crate) fn pack() -> impl Strategy<Value = AccountPack> {
    (list(bytes()), list(bytes())).prop_map(|(records, prekeys)| AccountPack { records, prekeys })
}

pub(crate) fn letter() -> impl Strategy<Value = Letter> {
    (bytes(), list(bytes())).prop_map(|(envelope, bodies)| Letter { envelope, bodies })
}

pub(crate) fn welcome() -> impl Strategy<Value = Welcome> {
    let base = list((ids(), number(), ids()));
    (ids(), list(bytes()), list(parcel()), list(pack()), base).prop_map(
        |(topic, records, parcels, accounts, base)| Welcome {
            topic,
            records,
            parcels,
            accounts,
            base,
        },
    )
}

pub(crate) fn inbox_message() -> impl Strategy<Value = InboxMessage> {
    let item = prop_oneof![
        pack().prop_map(InboxItem::Account),
        parcel().prop_map(InboxItem::Key),
        welcome().prop_map(|w| InboxItem::Welcome(Box::new(w))),
        (ids(), list(bytes())).prop_map(|(topic, ops)| InboxItem::Ops(topic, ops)),
        list(letter()).prop_map(InboxItem::Letters),
        bytes().prop_map(InboxItem::Cursor),
        ids().prop_map(InboxItem::Accepted),
    ];
    (ids(), ids(), list(item)).prop_map(|(account, to, items)| InboxMessage {
        version: 1,
        account,
        from: me(),
        to,
        items,
    })
}

pub(crate) fn contact_request() -> impl Strategy<Value = ContactRequest> {
    let who = (ids(), ids(), any::<[u8; 16]>());
    (who, text(), text(), pack(), welcome()).prop_map(
        |((account, to, secret), name, greeting, pack, welcome)| ContactRequest {
            version: 1,
            account,
            from: me(),
            to,
            secret,
            name,
            greeting,
            pack,
            welcome,
        },
    )
}

pub(crate) fn frame() -> impl Strategy<Value = Frame> {
    let held = (ids(), 1_u64.., number(), ids(), number());
    let held = held.prop_map(|(device, low, length, head, fork)| {
        let high = (low - 1).saturating_add(length);
        Held { device, low, high, head, fork }
    });
    let run = (ids(), 1_u64.., number()).prop_map(|(device, from, to)| {
        let to = to.max(1);
        Run { device, from, to }
    });
    let letters = || list(letter());
    let topic_digest = (ids(), any::<[u8; 16]>(), any::<[u8; 16]>())
        .prop_map(|(topic, frontier, cursors)| TopicDigest { topic, frontier, cursors });
    prop_oneof![
        any::<(u16, [u8; 16])>().prop_map(|(version, summary)| Frame::Hello { version, summary }),
        (list((ids(), any::<[u8; 16]>())), list(topic_digest), any::<bool>()).prop_map(
            |(accounts, topics, ask): (_, List<TopicDigest, 4_096>, _)| {
                let mut topics = topics.into_inner();
                topics.sort_unstable_by_key(|t| t.topic);
                topics.dedup_by_key(|t| t.topic);
                Frame::Digests { accounts, topics: topics.try_into().unwrap(), ask }
            }
        ),
        (ids(), list(ids())).prop_map(|(account, heads)| Frame::AccountWant(account, heads)),
        pack().prop_map(Frame::Account),
        (ids(), list(ids()), list(held), any::<bool>())
            .prop_map(|(topic, ops, chains, ask)| { Frame::Frontier { topic, ops, chains, ask } }),
        (ids(), list(bytes())).prop_map(|(topic, ops)| Frame::Ops(topic, ops)),
        (ids(), list(run)).prop_map(|(topic, runs)| Frame::Want(topic, runs)),
        (ids(), letters(), any::<bool>()).prop_map(|(topic, letters, more)| Frame::Page {
            topic,
            letters,
            more
        }),
        (ids(), letters()).prop_map(|(topic, letters)| Frame::Push(topic, letters)),
        (ids(), list(ids())).prop_map(|(topic, epochs)| Frame::KeysWant(topic, epochs)),
        list(parcel()).prop_map(Frame::Keys),
        bytes().prop_map(Frame::Cursor),
        bytes().prop_map(Frame::Inbox),
        ids().prop_map(Frame::InboxHeld),
        bytes().prop_map(Frame::Pair),
        (any::<u8>(), bytes()).prop_map(|(number, bytes)| Frame::Service(number, bytes)),
    ]
}

pub(crate) fn captioned() -> impl Strategy<Value = Captioned> {
    let photo = (any::<([u8; 32], [u8; 32])>(), 1..=MAX_PICTURE, 1_u16.., 1_u16..)
        .prop_map(|((hash, key), size, width, height)| Photo { hash, key, size, width, height });
    (text(), list(photo)).prop_map(|(text, photos): (Text<_>, List<_, _>)| {
        let nothing = text.is_empty() && photos.is_empty();
        let text = if nothing { "tea".try_into().unwrap() } else { text };
        Captioned { text, photos }
    })
}

pub(crate) fn previews() -> impl Strategy<Value = Previews> {
    prop::collection::vec(bytes(), 1..=PREVIEWS_PER_BODY)
        .prop_map(|all| Previews(all.try_into().unwrap()))
}

fn place() -> impl Strategy<Value = moments::Place> {
    (ids(), ids(), number()).prop_map(|(topic, device, seq)| moments::Place { topic, device, seq })
}

pub(crate) fn word() -> impl Strategy<Value = Word> {
    let said = prop_oneof![
        (any::<bool>(), number()).prop_map(|(on, lamport)| (None, Said::Like { on, lamport })),
        (prop::option::of(place()), "\\PC{1,40}").prop_map(|(parent, text)| {
            (parent, Said::Comment { text: text.try_into().unwrap() })
        }),
    ];
    (place(), ids(), said).prop_map(|(post, by, (parent, said))| Word {
        version: 1,
        post,
        parent,
        by,
        said,
    })
}

pub(crate) fn request() -> impl Strategy<Value = Request> {
    let kind = prop_oneof![
        Just(TagKind::Topic),
        Just(TagKind::Inbox),
        list(any::<[u8; 32]>()).prop_map(|secrets| TagKind::Card { secrets }),
    ];
    let item = (bytes(), prop::option::of(any::<[u8; 32]>()))
        .prop_map(|(bytes, delete)| Item { bytes, delete });
    let right = prop_oneof![
        Just(Right::None),
        signature().prop_map(Right::Member),
        any::<[u8; 16]>().prop_map(Right::Invite),
    ];
    let read =
        (ids(), number(), signature()).prop_map(|(tag, after, proof)| Read { tag, after, proof });
    prop_oneof![
        Just(Request::Hello),
        any::<[u8; 16]>().prop_map(|code| Request::Admit { code }),
        any::<[u8; 16]>().prop_map(|token| Request::Refill { token }),
        (ids(), kind, any::<[u8; 16]>(), signature())
            .prop_map(|(tag, kind, token, proof)| Request::Open { tag, kind, token, proof }),
        (ids(), list(item), right).prop_map(|(tag, items, right)| Request::Deposit {
            tag,
            items,
            right
        }),
        (list(read), any::<bool>()).prop_map(|(reads, wait)| Request::Fetch { reads, wait }),
        (ids(), any::<[u8; 32]>()).prop_map(|(tag, secret)| Request::Delete { tag, secret }),
    ]
}

pub(crate) fn reply() -> impl Strategy<Value = Reply> {
    let refusal = prop::sample::select(vec![
        Refusal::Malformed,
        Refusal::NoSession,
        Refusal::BadProof,
        Refusal::BadCode,
        Refusal::BadToken,
        Refusal::Closed,
        Refusal::TagFull,
        Refusal::RelayFull,
        Refusal::SlowDown,
        Refusal::Draining,
        Refusal::Storage,
    ]);
    prop_oneof![
        (ids(), any::<[u8; 32]>(), any::<u16>(), text()).prop_map(
            |(relay, challenge, keep_days, name)| Reply::Hello {
                relay,
                challenge,
                keep_days,
                name
            }
        ),
        list(any::<[u8; 16]>()).prop_map(Reply::Tokens),
        any::<bool>().prop_map(|spent| Reply::Opened { spent }),
        number().prop_map(|last| Reply::Deposited { last }),
        (list((ids(), number(), bytes())), list(ids()), any::<bool>(), any::<u32>(), number())
            .prop_map(|(items, closed, more, watched, nth)| Reply::Items {
                items,
                closed,
                more,
                watched,
                nth
            }),
        Just(Reply::Deleted),
        refusal.prop_map(Reply::Refused),
    ]
}

pub(crate) fn topic_mail() -> impl Strategy<Value = TopicMail> {
    prop_oneof![
        bytes().prop_map(TopicMail::Envelope),
        bytes().prop_map(TopicMail::Body),
        bytes().prop_map(TopicMail::Cursor),
        bytes().prop_map(TopicMail::Op),
    ]
}

pub(crate) fn pair_frame() -> impl Strategy<Value = PairFrame> {
    prop_oneof![
        (ids(), any::<[u8; 32]>(), any::<[u8; 32]>()).prop_map(|(device, commitment, proof)| {
            PairFrame::Hello { version: 1, device, commitment, proof }
        }),
        (ids(), any::<[u8; 32]>(), any::<[u8; 32]>())
            .prop_map(|(account, nonce, proof)| PairFrame::Challenge { account, nonce, proof }),
        (any::<[u8; 32]>(), signature())
            .prop_map(|(nonce, consent)| PairFrame::Reveal { nonce, consent }),
        bytes().prop_map(|payload| PairFrame::Grant { payload }),
        Just(PairFrame::Abort),
    ]
}

pub(crate) fn manifest() -> impl Strategy<Value = Manifest> {
    let files = prop::collection::btree_map("[a-z]{1,9}", (any::<[u8; 32]>(), 0..3 * PAGE), 1..5);
    let powers = prop::collection::btree_map(prop::sample::select(&Power::ALL[..]), text(), 0..4);
    let texts = ("[a-z]{1,20}", text(), text(), text());
    (files, powers, texts, 1_u32.., any::<bool>()).prop_map(
        |(files, powers, (name, version, description, lang), code, cloud)| {
            let main: package::Path = files.keys().next().unwrap().as_str().try_into().unwrap();
            let file = |(path, (hash, size)): (String, ([u8; 32], usize))| File {
                path: path.as_str().try_into().unwrap(),
                size: size as u32,
                pages: vec![hash; size.div_ceil(PAGE)].try_into().unwrap(),
            };
            let files: Vec<File> = files.into_iter().map(file).collect();
            let powers: Vec<Permission> =
                powers.into_iter().map(|(power, reason)| Permission { power, reason }).collect();
            Manifest {
                form: package::VERSION,
                developer: me().0,
                name: name.as_str().try_into().unwrap(),
                version: Release { code, name: version },
                description,
                lang,
                pages: vec![main.clone()].try_into().unwrap(),
                icons: List::default(),
                req_permissions: powers.try_into().unwrap(),
                cloud: cloud.then(|| Cloud { device: me(), main }),
                files: files.try_into().unwrap(),
            }
        },
    )
}

pub(crate) fn package() -> impl Strategy<Value = Package> {
    (bytes(), list(bytes())).prop_map(|(manifest, pages)| Package {
        version: package::VERSION,
        manifest,
        pages,
    })
}

pub(crate) fn program_frame() -> impl Strategy<Value = ProgramFrame> {
    prop_oneof![
        (ids(), any::<u32>()).prop_map(|(app, above)| ProgramFrame::Ask { app, above }),
        (ids(), bytes()).prop_map(|(app, manifest)| ProgramFrame::Offer { app, manifest }),
        (ids(), any::<[u8; 32]>()).prop_map(|(app, page)| ProgramFrame::Want { app, page }),
        (ids(), bytes()).prop_map(|(app, bytes)| ProgramFrame::Page { app, bytes }),
        ids().prop_map(|app| ProgramFrame::Unknown { app }),
    ]
}

pub(crate) fn call() -> impl Strategy<Value = Call> {
    let name = "[a-z]{1,64}".prop_map(|s| s.as_str().try_into().unwrap());
    let time = (any::<u32>(), 1..=functions::MAX_CALL_LIFE);
    let ids = (ids(), ids(), any::<[u8; 16]>());
    (ids, name, time, bytes()).prop_map(
        |((program, device, id), function, (made, life), payload)| Call {
            version: functions::VERSION,
            program,
            device,
            caller: me().0,
            id,
            function,
            made: made.into(),
            expires: u64::from(made) + life,
            payload,
        },
    )
}

pub(crate) fn call_frame() -> impl Strategy<Value = CallFrame> {
    let why = prop_oneof![
        Just(CallRefusal::NotServed),
        Just(CallRefusal::Busy),
        Just(CallRefusal::Expired),
        Just(CallRefusal::SameIdOtherBytes),
        Just(CallRefusal::Failed),
    ];
    let answer = prop_oneof![
        (bytes(), prop::option::of(bytes()))
            .prop_map(|(value, offer)| CallAnswer::Value { value, offer: offer.map(Box::new) }),
        why.prop_map(CallAnswer::Refused),
    ];
    prop_oneof![
        (ids(), any::<[u8; 16]>(), bytes()).prop_map(|(program, id, call)| CallFrame::Call {
            program,
            id,
            call: Box::new(call)
        }),
        (any::<[u8; 16]>(), answer).prop_map(|(id, answer)| CallFrame::Answer { id, answer }),
    ]
}

pub(crate) fn program_link() -> impl Strategy<Value = ProgramLink> {
    let provider = (ids(), list(text()), list(relay()))
        .prop_map(|(device, addrs, relays)| Provider { device, addrs, relays });
    (any::<[u8; 32]>(), text(), any::<u32>(), list(provider), text()).prop_map(
        |(developer, name, code, providers, launch): (_, Text<64>, _, _, _)| ProgramLink {
            version: 1,
            app: AppId::of(&developer, &name),
            developer,
            name,
            code,
            providers,
            launch,
        },
    )
}
