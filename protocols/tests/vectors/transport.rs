//! Inbox messages, contact requests, sync frames, mailbox requests and replies, topic mail,
//! pairing.

use teahouse_protocols::account::device_consent;
use teahouse_protocols::codec::{Bytes, encode};
use teahouse_protocols::epoch::{EpochSecret, Parcel};
use teahouse_protocols::ids::{
    AccountId, DeviceId, EnvelopeId, EpochId, OpId, RecordId, RelayId, SealedHash, Tag, TopicId,
};
use teahouse_protocols::inbox::{
    AccountPack, ContactRequest, InboxError, InboxItem, InboxMessage, Letter, Welcome,
    message_prekey, open_message, open_request, seal_message, seal_request,
};
use teahouse_protocols::link::Link;
use teahouse_protocols::mailbox::{
    Item, Read, Refusal, Reply, Request, Right, TagKind, TopicMail, open_proof, open_topic_mail,
    read_proof, seal_topic_mail, secret_hash, write_proof,
};
use teahouse_protocols::pairing::{NewStep, OldStep, PairFrame, PairNew, PairOld};
use teahouse_protocols::seal::{OpeningKey, hpke_seal};
use teahouse_protocols::sign::{self, Domain, Signature, Signed};
use teahouse_protocols::sync::{Frame, Held, Run, TopicDigest};

use crate::json::{Node, fields, hex, node};
use crate::samples::{self, bytes, device, key, list, public, rng, text};
use crate::suite::{
    NEUTRAL, NEUTRAL_SIGNATURE, Suite, overlong, signed_bytes, signed_error, variant,
};

const TOPIC: TopicId = TopicId([0x70; 32]);

fn pack() -> AccountPack {
    let log = samples::account();
    AccountPack {
        records: list(log.records().map(|r| bytes(r.bytes()))),
        prekeys: list([bytes(b"signed prekey bundle")]),
    }
}

// Wire forms within wire forms are opaque bytes here; their own files have real ones.
fn parcel() -> Parcel {
    Parcel { head: bytes(b"signed head"), to: device(2).0, sealed: bytes(&[0x5e; 80]) }
}

fn letter() -> Letter {
    Letter { envelope: bytes(b"envelope"), bodies: list([bytes(b"body"), bytes(b"")]) }
}

fn welcome() -> Welcome {
    Welcome {
        topic: TOPIC,
        records: list([bytes(b"signed membership record")]),
        parcels: list([parcel()]),
        accounts: list([pack()]),
        base: list([(device(1), 300, EnvelopeId([0xe1; 32]))]),
    }
}

fn inbox_error(e: &InboxError) -> &'static str {
    match e {
        InboxError::Open(_) => "does not open",
        InboxError::Signed(e) => signed_error(e),
        InboxError::Misaddressed => "misaddressed",
    }
}

pub(crate) fn inbox() -> Suite {
    let mut suite = Suite::new(
        "inbox",
        "protocols/src/inbox.rs, protocols/src/seal.rs (HPKE)",
        "What is signed and then sealed to a device's prekey or to a card's inbox key. \
         `wire` is the signed value, which is the plaintext of `sealed`.",
    );
    suite.seeding("inbox_message");
    let message = |items: Vec<InboxItem>| InboxMessage {
        version: 1,
        account: AccountId([0xac; 32]),
        from: device(1),
        to: device(2),
        items: list(items),
    };
    for (name, items) in [
        ("no items", vec![]),
        ("account", vec![InboxItem::Account(pack())]),
        ("key", vec![InboxItem::Key(parcel())]),
        ("welcome", vec![InboxItem::Welcome(Box::new(welcome()))]),
        ("ops", vec![InboxItem::Ops(TOPIC, list([bytes(b"signed membership record")]))]),
        ("letters", vec![InboxItem::Letters(list([letter()]))]),
        ("cursor", vec![InboxItem::Cursor(bytes(b"signed cursor"))]),
        ("accepted, after an account", {
            vec![InboxItem::Account(AccountPack::default()), InboxItem::Accepted(TOPIC)]
        }),
    ] {
        suite.signed(name, &message(items), &key(1));
    }
    let good = message(vec![InboxItem::Accepted(TOPIC)]);
    let signed = Signed::new(good.clone(), &key(1));
    suite.refuse_usual_signed(&signed, &key(1), 97, |from| InboxMessage {
        from: DeviceId(from),
        ..good.clone()
    });
    let fixed = (1_u8, good.account, good.from, good.to);
    for (name, payload) in [
        ("version 2", encode(&InboxMessage { version: 2, ..good.clone() })),
        ("65 items", {
            let items = vec![InboxItem::Accepted(TOPIC); 65];
            postcard::to_stdvec(&(fixed, items)).unwrap()
        }),
        ("an item of unknown kind", postcard::to_stdvec(&(fixed, 1_u8, 7_u8, TOPIC)).unwrap()),
        ("four billion items claimed", postcard::to_stdvec(&(fixed, u32::MAX)).unwrap()),
        ("nine bodies", {
            let letter = (1_u8, 0_u8, vec![0_u8; 9]);
            postcard::to_stdvec(&(fixed, 1_u8, 4_u8, letter)).unwrap()
        }),
    ] {
        suite.refuse_payload::<InboxMessage>(name, &payload, &key(1));
    }

    let recipient = OpeningKey::from_bytes([0x44; 32]);
    let sealed = seal_message(good.clone(), &key(1), &recipient.public(), &mut rng(0x55)).unwrap();
    let opened = open_message(&sealed, device(2), &recipient).unwrap();
    assert_eq!(opened.get(), &good);
    suite.seed("sealed", &sealed);
    suite.case(fields! {
        "name": "sealed",
        "recipient": hex(device(2).0),
        "recipient private key": hex(*recipient.to_bytes()),
        "recipient public key": hex(recipient.public()),
        "HPKE info": hex(info(Domain::INBOX, &device(2).0)),
        "prekey id": hex(message_prekey(&sealed).unwrap()),
        "wire": hex(opened.bytes()),
        "sealed": hex(&sealed),
    });
    let mut flipped = sealed.clone();
    flipped[45] ^= 1;
    let forwarded = InboxMessage { to: device(3), ..good.clone() };
    let forwarded = Signed::new(forwarded, &key(1));
    let info_bytes: [&[u8]; 2] = [Domain::INBOX.0.as_bytes(), &device(2).0];
    let mut passed_on = sealed[..8].to_vec();
    passed_on.extend(
        hpke_seal(&recipient.public(), &info_bytes, forwarded.bytes(), &mut rng(0x56)).unwrap(),
    );
    for (name, me, sealed) in [
        ("sealed, a bit flipped", device(2), flipped),
        ("sealed for another device", device(3), sealed.clone()),
        ("sealed and cut to 39 bytes", device(2), sealed[..39].to_vec()),
        ("sealed and cut to 7 bytes", device(2), sealed[..7].to_vec()),
        ("sealed anew and passed on", device(2), passed_on),
    ] {
        let why = inbox_error(&open_message(&sealed, me, &recipient).unwrap_err());
        suite.seed(name, &sealed);
        suite.case(fields! {
            "name": name,
            "recipient": hex(me.0),
            "recipient private key": hex(*recipient.to_bytes()),
            "sealed": hex(sealed),
            "refused": why,
        });
    }
    requests(&mut suite);
    suite
}

fn info(domain: Domain, to: &[u8; 32]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in [domain.0.as_bytes(), to] {
        out.extend_from_slice(&(part.len() as u64).to_le_bytes());
        out.extend_from_slice(part);
    }
    out
}

fn requests(suite: &mut Suite) {
    suite.seeding("contact_request");
    let request = ContactRequest {
        version: 1,
        account: samples::account().account(),
        from: device(2),
        to: AccountId([0xac; 32]),
        secret: [0x5e; 16],
        name: text("梅"),
        greeting: text("我们在茶馆见过"),
        pack: pack(),
        welcome: welcome(),
    };
    let signed = suite.signed("contact request", &request, &key(2));
    let from = |from| ContactRequest { from: DeviceId(from), ..request.clone() };
    let weak = signed_bytes(&encode(&from(NEUTRAL)), NEUTRAL_SIGNATURE);
    suite.refuse_signed::<ContactRequest>("contact request, a signer of small order", &weak);
    let payload = encode(&request);
    let r = &request;
    let fixed = (1_u8, r.account, r.from, r.to, r.secret, &r.name);
    for (name, payload) in [
        ("contact request, version 2", encode(&ContactRequest { version: 2, ..r.clone() })),
        ("contact request, a trailing byte", [&payload[..], &[0]].concat()),
        ("contact request, a varint one byte too long", { overlong(&payload, 113) }),
        ("contact request, a greeting of 401 bytes", {
            postcard::to_stdvec(&(fixed, "g".repeat(401), &r.pack, &r.welcome)).unwrap()
        }),
    ] {
        suite.refuse_payload::<ContactRequest>(name, &payload, &key(2));
    }
    let card = OpeningKey::from_bytes([0x45; 32]);
    let sealed = seal_request(request.clone(), &key(2), &card.public(), &mut rng(0x57)).unwrap();
    let opened = open_request(&sealed, request.to, &card).unwrap();
    assert_eq!(opened.get(), &request);
    assert_eq!(opened.bytes(), signed.bytes());
    suite.seed("sealed contact request", &sealed);
    suite.case(fields! {
        "name": "sealed contact request",
        "recipient": hex(request.to.0),
        "recipient private key": hex(*card.to_bytes()),
        "recipient public key": hex(card.public()),
        "HPKE info": hex(info(Domain::REQUEST, &request.to.0)),
        "wire": hex(opened.bytes()),
        "sealed": hex(&sealed),
    });
    let other = AccountId([0xad; 32]);
    let why = inbox_error(&open_request(&sealed, other, &card).unwrap_err());
    suite.case(fields! {
        "name": "sealed contact request to another account",
        "recipient": hex(other.0),
        "recipient private key": hex(*card.to_bytes()),
        "sealed": hex(&sealed),
        "refused": why,
    });
}

pub(crate) fn sync() -> Suite {
    let mut suite = Suite::new(
        "sync",
        "protocols/src/sync.rs",
        "Every frame between two connected devices. What is signed or sealed inside is \
         opaque here and has its own file.",
    );
    suite.seeding("sync_frame");
    let held = |low, high| Held {
        device: device(1),
        low,
        high,
        head: EnvelopeId([0xe1; 32]),
        fork: low / 2,
    };
    let run = |from, to| Run { device: device(1), from, to };
    let frontier = |chains: Vec<Held>| Frame::Frontier {
        topic: TOPIC,
        ops: list([OpId([1; 32])]),
        chains: list(chains),
        ask: true,
    };
    for (name, frame) in [
        ("hello", Frame::Hello { version: 1, summary: [0xd0; 16] }),
        ("hello of another version", Frame::Hello { version: 300, summary: [0; 16] }),
        (
            "digests",
            Frame::Digests {
                accounts: list([(AccountId([0xac; 32]), [0xd1; 16])]),
                topics: list([TopicDigest {
                    topic: TOPIC,
                    frontier: [0xd2; 16],
                    cursors: [0xd3; 16],
                }]),
                ask: true,
            },
        ),
        ("digests of nobody", Frame::Digests { accounts: list([]), topics: list([]), ask: false }),
        ("account want", Frame::AccountWant(AccountId([0xac; 32]), list([RecordId([1; 32])]))),
        ("account", Frame::Account(pack())),
        ("frontier", frontier(vec![held(1, 300)])),
        ("frontier with an empty chain", frontier(vec![held(1, 0)])),
        ("ops", Frame::Ops(TOPIC, list([bytes(b"signed membership record")]))),
        ("want", Frame::Want(TOPIC, list([run(1, 1), run(2, u64::MAX)]))),
        ("want backwards", Frame::Want(TOPIC, list([run(300, 2)]))),
        ("page", Frame::Page { topic: TOPIC, letters: list([letter()]), more: true }),
        ("push", Frame::Push(TOPIC, list([letter(), letter()]))),
        ("keys want", Frame::KeysWant(TOPIC, list([EpochId([0xe0; 32])]))),
        ("keys", Frame::Keys(list([parcel()]))),
        ("cursor", Frame::Cursor(bytes(b"signed cursor"))),
        ("inbox", Frame::Inbox(bytes(b"sealed inbox message"))),
        ("inbox held", Frame::InboxHeld(SealedHash([0x5e; 32]))),
        ("pair", Frame::Pair(bytes(&encode(&PairFrame::Abort)))),
        ("service", Frame::Service(1, bytes(b"a word to a service"))),
    ] {
        suite.plain(name, &frame);
    }
    let wire = encode(&Frame::Cursor(bytes(b"signed cursor")));
    suite.refuse_usual::<Frame>(&wire, 0);
    suite.refuse::<Frame>("a length one byte too long", &overlong(&wire, 1));
    for (name, frame) in [
        ("a run to 0", Frame::Want(TOPIC, list([run(1, 0)]))),
        ("a run from 0", Frame::Want(TOPIC, list([run(0, 1)]))),
        ("a chain from 0", frontier(vec![held(0, 1)])),
        ("a chain that ends long before it begins", frontier(vec![held(3, 1)])),
    ] {
        suite.refuse::<Frame>(name, &encode(&frame));
    }
    for (name, wire) in [
        ("an unknown frame", vec![16]),
        ("a truth that is neither yes nor no", {
            let mut wire = encode(&frontier(vec![]));
            *wire.last_mut().unwrap() = 2;
            wire
        }),
        ("257 runs", postcard::to_stdvec(&(6_u8, TOPIC, vec![run(1, 1); 257])).unwrap()),
        ("65 wanted keys claimed", postcard::to_stdvec(&(9_u8, TOPIC, 65_u8)).unwrap()),
        ("two to the 32 letters claimed", {
            postcard::to_stdvec(&(8_u8, TOPIC, 1_u64 << 32)).unwrap()
        }),
        ("bytes beyond the end", postcard::to_stdvec(&(11_u8, 1000_u16, 0_u8)).unwrap()),
    ] {
        suite.refuse::<Frame>(name, &wire);
    }
    suite
}

pub(crate) fn mailbox() -> Suite {
    let mut suite = Suite::new(
        "mailbox",
        "protocols/src/mailbox.rs",
        "Every request to a relay and every reply, and the bytes that proofs sign.",
    );
    let relay = RelayId(public(90));
    let (tag_key, tag) = (key(7), Tag(public(7)));
    let challenge = [0xc4; 32];
    let items = [
        Item { bytes: bytes(b"sealed"), delete: None },
        Item { bytes: bytes(b"sealed body"), delete: Some(secret_hash(&[0xde; 32])) },
    ];
    let card = TagKind::Card { secrets: list([secret_hash(&[0x5e; 16])]) };

    let read = read_proof(&tag_key, relay, &challenge);
    let read_bytes = [relay.0, challenge].concat();
    proof(&mut suite, "proof to read", Domain::MAILBOX_READ, &read_bytes, read);
    for (name, kind, wire) in [
        ("topic", TagKind::Topic, vec![0]),
        ("inbox", TagKind::Inbox, vec![1]),
        ("card", card.clone(), [&[2, 1][..], &secret_hash(&[0x5e; 16])].concat()),
    ] {
        let signed = [&relay.0[..], &wire].concat();
        let name = format!("proof to open, {name}");
        let proven = open_proof(&tag_key, relay, &kind);
        proof(&mut suite, &name, Domain::MAILBOX_OPEN, &signed, proven);
    }
    let hashes = items.iter().map(|i| {
        let delete = i.delete.map_or(vec![], |d| d.to_vec());
        sign::hash(Domain::MAILBOX_WRITE, &[&i.bytes, &delete])
    });
    let signed = [&relay.0[..], &hashes.collect::<Vec<_>>().concat()].concat();
    let write = write_proof(&tag_key, relay, &items);
    proof(&mut suite, "proof to write two items", Domain::MAILBOX_WRITE, &signed, write);
    suite.case(fields! {
        "name": "secret hash",
        "secret": hex([0x5e; 16]),
        "hash": hex(secret_hash(&[0x5e; 16])),
    });

    suite.seeding("mailbox_request");
    let deposit = |right| Request::Deposit { tag, items: list(items.clone()), right };
    let open = |kind: TagKind| {
        let proof = open_proof(&tag_key, relay, &kind);
        Request::Open { tag, kind, token: [0x70; 16], proof }
    };
    let fetch = Request::Fetch { reads: list([Read { tag, after: 300, proof: read }]), wait: true };
    for (name, request) in [
        ("request hello", Request::Hello),
        ("admit", Request::Admit { code: [0x5e; 16] }),
        ("refill", Request::Refill { token: [0x70; 16] }),
        ("open a topic tag", open(TagKind::Topic)),
        ("open an inbox tag", open(TagKind::Inbox)),
        ("open a card tag", open(card)),
        ("deposit by nobody", deposit(Right::None)),
        ("deposit by a member", deposit(Right::Member(write))),
        ("deposit by an invited", deposit(Right::Invite([0x5e; 16]))),
        ("fetch", fetch.clone()),
        ("delete", Request::Delete { tag, secret: [0xde; 32] }),
    ] {
        suite.plain(name, &request);
    }
    suite.refuse_usual::<Request>(&encode(&fetch), 0);
    for (name, wire) in [
        ("an unknown request", vec![7]),
        ("an unknown kind of tag", postcard::to_stdvec(&(3_u8, tag, 3_u8)).unwrap()),
        ("33 secrets", postcard::to_stdvec(&(3_u8, tag, 2_u8, vec![[0_u8; 32]; 33])).unwrap()),
        ("257 items", {
            let items = vec![(0_u8, 0_u8); 257];
            postcard::to_stdvec(&(4_u8, tag, items, 0_u8)).unwrap()
        }),
        ("257 reads claimed", postcard::to_stdvec(&(5_u8, 257_u16)).unwrap()),
        ("a signature cut short", {
            let wire = encode(&deposit(Right::Member(write)));
            wire[..wire.len() - 32].to_vec()
        }),
    ] {
        suite.refuse::<Request>(name, &wire);
    }

    suite.seeding("mailbox_reply");
    let items = Reply::Items {
        items: list([(tag, 301, bytes(b"sealed")), (tag, 302, bytes(b""))]),
        closed: list([Tag(public(8))]),
        more: true,
        watched: 3,
        nth: 5,
    };
    for (name, reply) in [
        ("reply hello", Reply::Hello { relay, challenge, keep_days: 30, name: text("老街") }),
        ("tokens", Reply::Tokens(list([[0x70; 16], [0x71; 16]]))),
        ("opened", Reply::Opened { spent: true }),
        ("deposited", Reply::Deposited { last: u64::MAX }),
        ("items", items.clone()),
        ("deleted", Reply::Deleted),
    ] {
        suite.plain(name, &reply);
    }
    for refusal in [
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
    ] {
        suite.plain(&format!("refused, {refusal:?}"), &Reply::Refused(refusal));
    }
    let wire = encode(&items);
    suite.refuse::<Reply>("reply of nothing", &[]);
    for (name, wire) in [
        ("reply one byte short", wire[..wire.len() - 1].to_vec()),
        ("reply with a trailing byte", [&wire[..], &[0]].concat()),
        ("reply with a varint one byte too long", overlong(&wire, 0)),
        ("an unknown reply", vec![7]),
        ("an unknown refusal", vec![6, 11]),
        ("257 tokens", postcard::to_stdvec(&(1_u8, vec![[0_u8; 16]; 257])).unwrap()),
        ("1025 items claimed", postcard::to_stdvec(&(4_u8, 1025_u16)).unwrap()),
        ("an index of 65 bits", [&[3][..], &[0xff; 9], &[2]].concat()),
    ] {
        suite.refuse::<Reply>(name, &wire);
    }
    suite
}

fn proof(suite: &mut Suite, name: &str, domain: Domain, signed: &[u8], signature: Signature) {
    sign::verify(domain, &public(7), signed, &signature).unwrap();
    suite.case(fields! {
        "name": name,
        "domain": domain.0,
        "tag private key": hex(key(7).to_bytes()),
        "tag": hex(public(7)),
        "bytes": hex(signed),
        "signature": hex(signature.0),
    });
}

pub(crate) fn topic_mail() -> Suite {
    let mut suite = Suite::new(
        "topic_mail",
        "protocols/src/mailbox.rs, protocols/src/seal.rs (aead_seal_repeatable)",
        "What members leave under a topic tag. `sealed` is a function of deposit key, tag \
         and `wire`: nonce, ciphertext and tag of XChaCha20Poly1305.",
    );
    suite.seeding("topic_mail");
    let secret = EpochSecret::from_bytes([7; 32]);
    let tag = secret.tag(2_800);
    for (name, mail) in [
        ("envelope", TopicMail::Envelope(bytes(b"envelope"))),
        ("body", TopicMail::Body(bytes(b"sealed body"))),
        ("empty body", TopicMail::Body(bytes(b""))),
        ("cursor", TopicMail::Cursor(bytes(b"signed cursor"))),
        ("op", TopicMail::Op(bytes(b"signed membership record"))),
    ] {
        let sealed = seal_topic_mail(&mail, &secret, tag);
        assert_eq!(open_topic_mail(&sealed, &secret, tag).unwrap(), mail);
        let wire = encode(&mail);
        suite.seed(name, &wire);
        suite.seed(&format!("{name} sealed"), &sealed);
        suite.case(fields! {
            "name": name,
            "epoch secret": hex(*secret.to_bytes()),
            "deposit key": hex(*secret.deposit_key()),
            "tag": hex(tag.0),
            "value": node(&mail),
            "wire": hex(wire),
            "nonce": hex(&sealed[..24]),
            "sealed": hex(&sealed),
        });
    }
    let body = TopicMail::Body(bytes(b"sealed body"));
    let wire = encode(&body);
    suite.refuse_usual::<TopicMail>(&wire, 0);
    suite.refuse::<TopicMail>("an unknown kind", &[4, 0]);
    let long = vec![0_u8; 8193];
    let long = postcard::to_stdvec(&(3_u8, &long)).unwrap();
    suite.refuse::<TopicMail>("an operation of 8193 bytes", &long);
    let sealed = seal_topic_mail(&body, &secret, tag);
    let mut flipped = sealed.clone();
    flipped[30] ^= 1;
    for (name, secret, tag, sealed) in [
        ("sealed, a bit flipped", [7; 32], tag, flipped),
        ("sealed, moved to another tag", [7; 32], secret.tag(2_801), sealed.clone()),
        ("sealed under another epoch", [8; 32], tag, sealed.clone()),
        ("sealed and cut to 23 bytes", [7; 32], tag, sealed[..23].to_vec()),
    ] {
        open_topic_mail(&sealed, &EpochSecret::from_bytes(secret), tag).unwrap_err();
        suite.seed(name, &sealed);
        suite.case(fields! {
            "name": name,
            "epoch secret": hex(secret),
            "tag": hex(tag.0),
            "sealed": hex(sealed),
            "refused": "does not open",
        });
    }
    suite
}

pub(crate) fn pairing() -> Suite {
    let mut suite = Suite::new(
        "pairing",
        "protocols/src/pairing.rs",
        "A whole pairing with its digits, and each frame alone. `nonce`s and the code's \
         secret are as both sides would draw them.",
    );
    suite.seeding("pair_frame");
    let account = AccountId([0xac; 32]);
    let mut old = PairOld::new(device(1), account, &mut rng(0x77));
    let code = old.code(list([text("/ip4/192.168.1.5/udp/4001/quic-v1")]));
    let (mut new, hello) = PairNew::new(&code, device(2), &mut rng(0x78));
    let OldStep::Send(challenge) = old.receive(&device(2), &hello).unwrap() else {
        panic!("no challenge")
    };
    let step = new.receive(&device(1), &challenge, &key(2)).unwrap();
    let NewStep::Compare { send: reveal, sas, .. } = step else { panic!("no digits") };
    let step = old.receive(&device(2), &reveal).unwrap();
    assert_eq!(step, OldStep::Compare(sas));
    let confirmed = old.confirm(true).unwrap();
    assert_eq!(confirmed.consent, device_consent(&account, &key(2)));
    new.confirm(true).unwrap();
    let payload: Bytes<{ 880 * 1024 }> = bytes(b"what the caller grants");
    let grant = old.grant(payload.clone()).unwrap();
    let granted = new.receive(&device(1), &grant, &key(2)).unwrap();
    assert_eq!(granted, NewStep::Granted(payload));
    let frames = [&hello, &challenge, &reveal, &grant].map(|f| hex(encode(f)));
    suite.case(fields! {
        "name": "transcript",
        "account": hex(account.0),
        "old device private key": hex(key(1).to_bytes()),
        "new device private key": hex(key(2).to_bytes()),
        "code": node(&code),
        "link": Link::Pair(code.clone()).to_uri(),
        "old nonce": hex(nonce(&challenge)),
        "new nonce": hex(nonce(&reveal)),
        "key": hex(sign::hash(Domain::PAIRING, &[b"key", &code.secret.0])),
        "frames": frames.to_vec(),
        "digits": sas.to_string(),
        "consent": hex(confirmed.consent.0),
    });
    for (name, frame) in [
        ("hello", &hello),
        ("challenge", &challenge),
        ("reveal", &reveal),
        ("grant", &grant),
        ("abort", &PairFrame::Abort),
        ("name", &PairFrame::Name { name: text("laptop") }),
    ] {
        suite.plain(name, frame);
    }
    suite.refuse_usual::<PairFrame>(&encode(&hello), 0);
    let mut version = encode(&hello);
    version[1] = 2;
    suite.refuse::<PairFrame>("version 2", &version);
    suite.refuse::<PairFrame>("a name that is missing", &[5]);
    suite.refuse::<PairFrame>("an unknown frame", &[6]);
    let long = postcard::to_stdvec(&(3_u8, 880 * 1024 + 1_u32)).unwrap();
    suite.refuse::<PairFrame>("a grant beyond the bound claimed", &long);
    let mut loose = encode(&grant);
    let at = loose.iter().position(|b| *b == 22).unwrap();
    loose = overlong(&loose, at);
    suite.refuse::<PairFrame>("a length one byte too long", &loose);

    // Well-formed, and refused by the side that gets it.
    let fresh = || PairOld::new(device(1), account, &mut rng(0x77));
    let PairFrame::Hello { version, device: own, commitment, mut proof } = hello else {
        panic!("no hello")
    };
    proof[0] ^= 1;
    let guessed = PairFrame::Hello { version, device: own, commitment, proof };
    let PairFrame::Reveal { nonce, consent } = reveal else { panic!("no reveal") };
    let mut other = nonce;
    other[0] ^= 1;
    for (name, first, frame) in [
        ("a hello with a guessed proof", None, guessed),
        (
            "a nonce that was not committed to",
            Some(&hello),
            PairFrame::Reveal { nonce: other, consent },
        ),
        ("a consent for another account", Some(&hello), {
            let consent = device_consent(&AccountId([0xad; 32]), &key(2));
            PairFrame::Reveal { nonce, consent }
        }),
        ("a reveal before the hello", None, PairFrame::Reveal { nonce, consent }),
        ("an abort", Some(&hello), PairFrame::Abort),
    ] {
        let mut old = fresh();
        if let Some(first) = first {
            old.receive(&device(2), first).unwrap();
        }
        let why = old.receive(&device(2), &frame).unwrap_err();
        let wire = encode(&frame);
        suite.case(fields! {
            "name": name,
            "after": first.map_or(Node::Null, |f| hex(encode(f))),
            "wire": hex(wire),
            "refused by the old device": variant(&why),
        });
    }
    suite
}

fn nonce(frame: &PairFrame) -> [u8; 32] {
    match frame {
        PairFrame::Challenge { nonce, .. } | PairFrame::Reveal { nonce, .. } => *nonce,
        other => panic!("{other:?} has no nonce"),
    }
}
