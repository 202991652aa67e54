//! Epochs, envelopes, cursors.

use teahouse_protocols::codec::encode;
use teahouse_protocols::cursor::{Ack, Cursor};
use teahouse_protocols::envelope::{
    Draft, Envelope, Header, MAX_ENVELOPE, SealedBody, open_body, seal_body, sealed_hash,
};
use teahouse_protocols::epoch::{
    EpochHead, EpochSecret, GroupKeys, PairwiseHpke, Parcel, ParcelError, epoch_id, week_of,
};
use teahouse_protocols::ids::{AccountId, DeviceId, EnvelopeId, EpochId, OpId, TopicId};
use teahouse_protocols::seal::OpeningKey;
use teahouse_protocols::sign::{self, Domain, Signable, Signed};

use crate::json::{Node, fields, hex, node};
use crate::samples::{device, key, list, rng};
use crate::suite::{NEUTRAL, NEUTRAL_SIGNATURE, Suite, decode_error, overlong, signed_error};

pub(crate) fn epoch() -> Suite {
    let mut suite = Suite::new(
        "epoch",
        "protocols/src/epoch.rs (keys), protocols/src/seal.rs (HPKE)",
        "Epoch secrets with all that is derived from them, signed epoch heads, and parcels \
         that carry the secret to one prekey. HPKE is DHKEM(X25519, HKDF-SHA256), \
         HKDF-SHA256, ChaCha20Poly1305 in base mode, without associated data.",
    );
    suite.seeding("epoch");
    for (name, bytes) in [("zeros", [0; 32]), ("sevens", [7; 32])] {
        let secret = EpochSecret::from_bytes(bytes);
        let tags = [0, 2_800, u32::MAX].map(|week| {
            fields! {
                "week": u64::from(week),
                "private key": hex(secret.tag_key(week).to_bytes()),
                "tag": hex(secret.tag(week).0),
            }
        });
        suite.case(fields! {
            "name": format!("derived from {name}"),
            "secret": hex(bytes),
            "commitment": hex(secret.commitment()),
            "change key": hex(*secret.change_key()),
            "deposit key": hex(*secret.deposit_key()),
            "tags": tags.to_vec(),
        });
    }
    for time in [0, 604_799_999, 604_800_000, 1_795_000_000_000] {
        suite.case(fields! {
            "name": format!("the week of {time}"),
            "milliseconds": time,
            "week": u64::from(week_of(time)),
        });
    }

    let topic = TopicId([0x70; 32]);
    let (author, mut rng) = (key(1), rng(0x33));
    let recipients = [device(1), device(2)];
    let heads = [OpId([1; 32]), OpId([2; 32])];
    let (head, secret) = PairwiseHpke.rekey(topic, &heads, &recipients, &author, &mut rng);
    let again = suite.signed("head", head.get(), &author);
    assert!(again == head);
    suite.signed(
        "head for nobody",
        &EpochHead { heads: list([]), recipients: list([]), ..head.get().clone() },
        &author,
    );
    let good = head.get().clone();
    suite.refuse_usual_signed(&head, &author, 33, |by| EpochHead {
        author: DeviceId(by),
        ..good.clone()
    });
    let descending = {
        let mut ids = [device(1), device(2)];
        ids.sort_unstable();
        ids.reverse();
        ids
    };
    for (name, payload) in [
        ("version 2", encode(&EpochHead { version: 2, ..good.clone() })),
        ("recipients not ascending", {
            encode(&EpochHead { recipients: list(descending), ..good.clone() })
        }),
        ("a recipient twice", {
            encode(&EpochHead { recipients: list([device(1); 2]), ..good.clone() })
        }),
        ("17 heads", {
            let many: Vec<OpId> = (1..18).map(|n| OpId([n; 32])).collect();
            let g = &good;
            postcard::to_stdvec(&(1_u8, g.topic, many, g.commitment, &g.recipients, g.author))
                .unwrap()
        }),
        ("1025 recipients claimed", {
            let g = &good;
            let begin = (1_u8, g.topic, &g.heads, g.commitment, 1025_u16);
            postcard::to_stdvec(&(begin, g.author)).unwrap()
        }),
    ] {
        suite.refuse_payload::<EpochHead>(name, &payload, &author);
    }

    let recipient = OpeningKey::from_bytes([0x44; 32]);
    let parcel =
        PairwiseHpke.parcel(&head, &secret, device(2).0, &recipient.public(), &mut rng).unwrap();
    let opens = |parcel: &Parcel| PairwiseHpke.open(parcel, &recipient);
    let (opened, found) = opens(&parcel).unwrap();
    assert_eq!((opened.id(), found.to_bytes()), (head.id(), secret.to_bytes()));
    let wire = encode(&parcel);
    suite.seed("parcel", &wire);
    let mut info = Vec::new();
    for part in [topic.0, head.id(), parcel.to] {
        info.extend_from_slice(&32_u64.to_le_bytes());
        info.extend_from_slice(&part);
    }
    suite.case(fields! {
        "name": "parcel",
        "recipient private key": hex(*recipient.to_bytes()),
        "recipient public key": hex(recipient.public()),
        "value": node(&parcel),
        "HPKE info": hex(info),
        "wire": hex(&wire),
        "epoch": hex(epoch_id(&head).0),
        "secret": hex(*secret.to_bytes()),
    });
    // The last byte of the head's length.
    suite.seeding("epoch");
    suite.refuse_parcel_form(&wire);
    let other = EpochSecret::from_bytes([9; 32]);
    let swapped =
        PairwiseHpke.parcel(&head, &other, device(2).0, &recipient.public(), &mut rng).unwrap();
    let mut sealed = parcel.sealed.to_vec();
    sealed[40] ^= 1;
    let mut bad_head = parcel.head.to_vec();
    bad_head[40] ^= 1;
    for (name, parcel) in [
        ("parcel for another device", Parcel { to: device(3).0, ..parcel.clone() }),
        ("parcel with a bit flipped", {
            Parcel { sealed: sealed.try_into().unwrap(), ..parcel.clone() }
        }),
        ("parcel with a bit flipped in the head", {
            Parcel { head: bad_head.try_into().unwrap(), ..parcel.clone() }
        }),
        ("parcel whose secret is not the committed one", swapped),
        (
            "empty parcel",
            Parcel {
                head: Vec::new().try_into().unwrap(),
                to: [0; 32],
                sealed: Vec::new().try_into().unwrap(),
            },
        ),
    ] {
        let why = match opens(&parcel).unwrap_err() {
            ParcelError::Head(e) => signed_error(&e),
            ParcelError::Open(_) => "does not open",
            ParcelError::Commitment => "commitment",
        };
        let wire = encode(&parcel);
        suite.seed(name, &wire);
        suite.case(fields! {
            "name": name,
            "recipient private key": hex(*recipient.to_bytes()),
            "wire": hex(&wire),
            "refused": why,
        });
    }
    suite
}

impl Suite {
    fn refuse_parcel_form(&mut self, wire: &[u8]) {
        assert!(wire[0] >= 0x80 && wire[1] < 0x80);
        self.refuse::<Parcel>("parcel one byte short", &wire[..wire.len() - 1]);
        self.refuse::<Parcel>("parcel with a trailing byte", &[wire, &[0]].concat());
        self.refuse::<Parcel>("parcel with a varint one byte too long", &overlong(wire, 1));
        let mut long = wire[..wire.len() - 81].to_vec();
        long.push(81);
        long.extend_from_slice(&[0; 81]);
        self.refuse::<Parcel>("parcel with 81 sealed bytes", &long);
    }
}

struct Sample {
    secret: EpochSecret,
    bodies: Vec<SealedBody>,
    envelope: Envelope,
}

/// An envelope by device 2 with these bodies.
fn sample(seq: u64, prev: EnvelopeId, texts: &[&str]) -> Sample {
    let mut rng = rng(0x66);
    let secret = EpochSecret::from_bytes([7; 32]);
    let bodies: Vec<_> = texts.iter().map(|t| seal_body(t.as_bytes(), &mut rng).unwrap()).collect();
    let draft = Draft {
        topic: TopicId([0x70; 32]),
        seq,
        prev,
        segment: 300,
        heads: &[OpId([2; 32]), OpId([1; 32])],
        epoch: EpochId([0xe0; 32]),
        time: 1_795_000_000_000,
        change: b"an automerge change",
        bodies: &bodies,
    };
    let envelope = Envelope::seal(&draft, &secret, &key(2), &mut rng).unwrap();
    Sample { secret, bodies, envelope }
}

/// The fields of the outer frame, by offset.
fn frame(bytes: &[u8]) -> Node {
    let header = 139 + usize::from(u16::from_le_bytes([bytes[137], bytes[138]]));
    fields! {
        "version": hex(&bytes[..1]),
        "topic": hex(&bytes[1..33]),
        "device": hex(&bytes[33..65]),
        "seq": hex(&bytes[65..73]),
        "prev": hex(&bytes[73..105]),
        "hash of the sealed change": hex(&bytes[105..137]),
        "header length": hex(&bytes[137..139]),
        "header version": hex(&bytes[139..140]),
        "header": hex(&bytes[140..header]),
        "signature": hex(&bytes[header..header + 64]),
        "sealed change length": hex(&bytes[header + 64..header + 68]),
        "sealed change": hex(&bytes[header + 68..]),
    }
}

/// Signs an altered frame anew.
fn resign(bytes: &[u8], alter: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let split = 139 + usize::from(u16::from_le_bytes([bytes[137], bytes[138]]));
    let mut out = bytes[..split].to_vec();
    alter(&mut out);
    let signature = sign::sign(Domain::ENVELOPE, &key(2), &out);
    out.extend_from_slice(&signature.0);
    out.extend_from_slice(&bytes[split + 64..]);
    out
}

pub(crate) fn envelope() -> Suite {
    let mut suite = Suite::new(
        "envelope",
        "protocols/src/envelope.rs",
        "Envelopes with every part, what the sealed change holds, and sealed bodies. The \
         change is XChaCha20Poly1305 (nonce, ciphertext, tag) under `change key` with \
         `associated data`; a body is the same cipher with a zero nonce under its own key.",
    );
    suite.seeding("envelope");
    let first = sample(1, EnvelopeId([0; 32]), &["你好，茶馆", ""]);
    let second = sample(2, first.envelope.id(), &[]);
    for (name, s) in [("the first, with two bodies", &first), ("the second, without", &second)] {
        let e = &s.envelope;
        assert_eq!(&Envelope::from_bytes(e.bytes()).unwrap(), e);
        e.verify().unwrap();
        let opened = e.open(&s.secret).unwrap();
        let bodies = s.bodies.iter().zip(&opened.body_keys).map(|(body, key)| {
            let plain = open_body(key, &body.sealed).unwrap();
            fields! {
                "key": hex(key),
                "plain": hex(plain),
                "sealed": hex(&body.sealed),
                "hash": hex(sealed_hash(&body.sealed).0),
            }
        });
        let mut associated = Vec::new();
        for part in [&e.topic.0[..], &e.device.0, &e.seq.to_le_bytes()] {
            associated.extend_from_slice(&(part.len() as u64).to_le_bytes());
            associated.extend_from_slice(part);
        }
        suite.seed(name, e.bytes());
        suite.case(fields! {
            "name": name,
            "private key": hex(key(2).to_bytes()),
            "epoch secret": hex(*s.secret.to_bytes()),
            "change key": hex(*s.secret.change_key()),
            "associated data": hex(associated),
            "header": node(e.header.as_ref().unwrap()),
            "change": hex(&opened.change),
            "bodies": bodies.collect::<Node>(),
            "frame": frame(e.bytes()),
            "wire": hex(e.bytes()),
            "id": hex(e.id().0),
        });
    }
    let good = second.envelope.bytes();
    let newer = resign(good, |b| b[139] = 2);
    let read = Envelope::from_bytes(&newer).unwrap();
    read.verify().unwrap();
    assert!(read.header.is_none());
    suite.seed("a newer header", &newer);
    suite.case(fields! {
        "name": "a header of a newer version: verified, stored and passed on, not read",
        "header": Node::Null,
        "wire": hex(&newer),
        "id": hex(read.id().0),
    });

    let header_end = 139 + usize::from(u16::from_le_bytes([good[137], good[138]]));
    let flip = |at: usize| {
        let mut bytes = good.to_vec();
        bytes[at] ^= 1;
        bytes
    };
    let set = |range: std::ops::Range<usize>, with: &[u8]| {
        let mut bytes = good.to_vec();
        bytes[range].copy_from_slice(with);
        bytes
    };
    // A header that is another spelling or another value, with the right length field.
    let header = |new: &[u8]| {
        resign(good, |b| {
            b.truncate(140);
            b.extend_from_slice(new);
            let len = (b.len() - 139) as u16;
            b[137..139].copy_from_slice(&len.to_le_bytes());
        })
    };
    let read = second.envelope.header.clone().unwrap();
    let header_bytes = encode(&read);
    let many: Vec<OpId> = (1..18).map(|n| OpId([n; 32])).collect();
    let hash = (read.segment, &read.heads, read.epoch, read.time, vec![sealed_hash(b""); 9]);
    for (name, bytes) in [
        ("nothing", Vec::new()),
        ("one byte short", good[..good.len() - 1].to_vec()),
        ("a trailing byte", [good, &[0]].concat()),
        ("version 2", resign(good, |b| b[0] = 2)),
        ("sequence number 0", resign(good, |b| b[65..73].fill(0))),
        ("the first with a predecessor", resign(good, |b| b[65] = 1)),
        ("the second without", resign(good, |b| b[73..105].fill(0))),
        ("no header", set(137..139, &[0, 0])),
        ("a header of 1025 bytes", set(137..139, &1025_u16.to_le_bytes())),
        ("a header longer than the rest", set(137..139, &1024_u16.to_le_bytes())),
        ("a change longer than the rest", flip(header_end + 64)),
        ("a change length beyond all bounds", set(header_end + 64..header_end + 68, &[0xff; 4])),
        ("another change", flip(good.len() - 1)),
        ("a varint in the header one byte too long", header(&overlong(&header_bytes, 1))),
        ("a trailing byte in the header", header(&[&header_bytes[..], &[0]].concat())),
        ("heads not ascending", {
            let heads = list([OpId([2; 32]), OpId([1; 32])]);
            header(&encode(&Header { heads, ..read.clone() }))
        }),
        ("17 heads", {
            let long = (read.segment, many, read.epoch, read.time, &read.bodies);
            header(&postcard::to_stdvec(&long).unwrap())
        }),
        ("nine bodies", header(&postcard::to_stdvec(&hash).unwrap())),
    ] {
        let why = Envelope::from_bytes(&bytes).expect_err(name);
        suite.refused(name, &bytes, decode_error(&why));
    }
    let why = Envelope::from_bytes(&vec![1; MAX_ENVELOPE + 1]).unwrap_err();
    assert_eq!(decode_error(&why), "too long");

    let wrong_purpose = {
        let mut bytes = good.to_vec();
        let signature = sign::sign(Domain::CURSOR, &key(2), &bytes[..header_end]);
        bytes[header_end..header_end + 64].copy_from_slice(&signature.0);
        bytes
    };
    let mut weak = good.to_vec();
    weak[33..65].copy_from_slice(&NEUTRAL);
    weak[header_end..header_end + 64].copy_from_slice(&NEUTRAL_SIGNATURE.0);
    for (name, bytes) in [
        ("another topic", flip(1)),
        ("another device", flip(33)),
        ("another sequence number", flip(66)),
        ("another predecessor", flip(73)),
        ("a bit flipped in the header", flip(140)),
        ("a bit flipped in R", flip(header_end)),
        ("a bit flipped in S", flip(header_end + 32)),
        ("signed for another purpose", wrong_purpose),
        ("a device key of small order", weak),
    ] {
        Envelope::from_bytes(&bytes).unwrap().verify().expect_err(name);
        suite.refused(name, &bytes, "signature");
    }
    second.envelope.open(&EpochSecret::from_bytes([8; 32])).err().unwrap();
    suite
}

pub(crate) fn cursor() -> Suite {
    let mut suite = Suite::new("cursor", "protocols/src/cursor.rs", "Signed delivery cursors.");
    suite.seeding("cursor");
    let mut devices = [device(1), device(2)];
    devices.sort_unstable();
    let ack = |n: usize, seq| Ack { device: devices[n], seq, id: EnvelopeId([seq as u8; 32]) };
    let cursor = |acks: Vec<Ack>, read: Vec<(DeviceId, u64)>| Cursor {
        version: 1,
        topic: TopicId([0x70; 32]),
        account: AccountId([0xac; 32]),
        device: device(3),
        counter: 5,
        acks: list(acks),
        read: list(read),
    };
    let first = suite.signed("two chains", &cursor(vec![ack(0, 7), ack(1, 300)], vec![]), &key(3));
    suite.signed("read", &cursor(vec![], vec![(devices[0], 7), (devices[1], 1)]), &key(3));
    let highest = Cursor { counter: u64::MAX, ..cursor(vec![ack(0, u64::MAX)], vec![]) };
    suite.signed("the highest numbers", &highest, &key(3));
    let good = first.get().clone();
    suite.refuse_usual_signed(&first, &key(3), 97, |by| Cursor {
        device: DeviceId(by),
        ..good.clone()
    });
    for (name, payload) in [
        ("version 0", encode(&Cursor { version: 0, ..good.clone() })),
        ("chains not ascending", encode(&cursor(vec![ack(1, 7), ack(0, 7)], vec![]))),
        ("a chain twice", encode(&cursor(vec![ack(0, 7), ack(0, 8)], vec![]))),
        ("read chains not ascending", {
            encode(&cursor(vec![], vec![(devices[1], 7), (devices[0], 1)]))
        }),
        ("513 chains claimed", {
            let g = &good;
            let fixed = (g.version, g.topic, g.account, g.device, g.counter);
            postcard::to_stdvec(&(fixed, 513_u16)).unwrap()
        }),
    ] {
        suite.refuse_payload::<Cursor>(name, &payload, &key(3));
    }
    assert_eq!(good.signer(), device(3).0);
    let _: &Signed<Cursor> = &first;
    suite
}
