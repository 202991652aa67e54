//! Words, signatures and hashes, account records, prekeys, cards, links, safety numbers.

use data_encoding::BASE32_NOPAD;
use teahouse_protocols::account::{self, AccountLog, AccountOp, AccountRecord, RelayAddr, Signer};
use teahouse_protocols::card::{self, CardError, ContactCard, LinkSecret, VerifiedCard};
use teahouse_protocols::codec::{Text, encode};
use teahouse_protocols::ids::{AccountId, AppId, DeviceId, RecordId, RelayId, Tag};
use teahouse_protocols::link::{
    self, Link, LinkError, PairCode, ProgramLink, Provider, RelayInvite,
};
use teahouse_protocols::prekey::{self, PrekeyBundle};
use teahouse_protocols::safety::SafetyNumber;
use teahouse_protocols::sign::{self, Domain, Signature, Signed};
use teahouse_protocols::words::RecoveryWords;

use crate::json::{Node, fields, hex, node};
use crate::samples::{
    self, add, bytes, dev, device, key, list, public, relay, revoke, root, rotate, text,
};
use crate::suite::{
    NEUTRAL, NEUTRAL_SIGNATURE, Suite, decode_error, overlong, signed_error, variant,
};

pub(crate) fn words() -> Suite {
    let mut suite = Suite::new(
        "words",
        "protocols/src/words.rs",
        "24 recovery words and the keys derived from them. `text` is what somebody may type.",
    );
    let counting: [u8; 32] = std::array::from_fn(|i| i as u8);
    for (name, entropy) in
        [("zeros", [0; 32]), ("ones", [0xff; 32]), ("counting", counting), ("sevens", [7; 32])]
    {
        let words = RecoveryWords::from_entropy(entropy);
        suite.case(fields! {
            "name": name,
            "entropy": hex(entropy),
            "words": words.to_string(),
            "root private key": hex(words.root_key().to_bytes()),
            "root public key": hex(words.root_key().verifying_key()),
            "recovery tag private key": hex(words.recovery_tag_key().to_bytes()),
            "recovery tag": hex(words.recovery_tag_key().verifying_key()),
            "recovery key": hex(*words.recovery_key()),
        });
    }
    let good = RecoveryWords::from_entropy([7; 32]).to_string();
    let spaced = format!("\n {}\t", good.replace(' ', "\u{3000} \n"));
    let wide: String = good.chars().map(|c| if c == 'a' { '\u{ff41}' } else { c }).collect();
    for (name, typed) in [
        ("any white space", spaced),
        ("any case", good.to_uppercase()),
        ("full-width letters", wide),
    ] {
        let entropy = RecoveryWords::parse(&typed).unwrap().entropy();
        assert_eq!(*entropy, [7; 32]);
        suite.case(fields! { "name": name, "text": typed, "entropy": hex(*entropy) });
    }
    let mut swapped: Vec<&str> = good.split(' ').collect();
    assert_ne!(swapped[0], swapped[1]);
    swapped.swap(0, 1);
    for (name, typed) in [
        ("two words swapped", swapped.join(" ")),
        ("a word too few", good.rsplit_once(' ').unwrap().0.to_owned()),
        ("a word too many", format!("{good} zoo")),
        ("a word that is not in the list", format!("teahouse {}", good.split_once(' ').unwrap().1)),
        ("nothing", String::new()),
        ("longer than 1024 bytes", "a ".repeat(513).trim_end().to_owned()),
    ] {
        let why = variant(&RecoveryWords::parse(&typed).unwrap_err());
        suite.case(fields! { "name": name, "text": typed, "refused": why });
    }
    suite
}

pub(crate) fn domains() -> Suite {
    let mut suite = Suite::new(
        "domains",
        "protocols/src/sign.rs",
        "Signatures and hashes. `signature` is by `private key` over domain, a zero byte and \
         `bytes`; `hash` is over the `parts`.",
    );
    for domain in Domain::ALL {
        let parts: [&[u8]; 3] = [b"tea", b"", b"house"];
        suite.case(fields! {
            "name": domain.0,
            "domain": domain.0,
            "private key": hex([1; 32]),
            "public key": hex(public(1)),
            "bytes": hex(b"teahouse"),
            "signature": hex(sign::sign(*domain, &key(1), b"teahouse").0),
            "parts": parts.iter().map(hex).collect::<Node>(),
            "hash": hex(sign::hash(*domain, &parts)),
        });
    }
    for (name, parts) in [
        ("hash of no parts", vec![]),
        ("hash of one empty part", vec![&b""[..]]),
        ("hash of one part", vec![&b"teahouse"[..]]),
        ("hash of the same in two parts", vec![&b"tea"[..], &b"house"[..]]),
    ] {
        suite.case(fields! {
            "name": name,
            "domain": Domain::SEALED.0,
            "parts": parts.iter().map(hex).collect::<Node>(),
            "hash": hex(sign::hash(Domain::SEALED, &parts)),
        });
    }

    let good = sign::sign(Domain::CURSOR, &key(1), b"teahouse").0;
    let mut in_r = good;
    in_r[0] ^= 1;
    let mut in_s = good;
    in_s[32] ^= 1;
    // The group's order, little endian: S and S + order satisfy the same equation.
    let order = data_encoding::HEXLOWER
        .decode(b"edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010")
        .unwrap();
    let mut malleable = good;
    let mut carry = 0;
    for (s, o) in malleable[32..].iter_mut().zip(order) {
        let sum = u16::from(*s) + u16::from(o) + carry;
        *s = sum as u8;
        carry = sum >> 8;
    }
    let no_point = {
        let mut y = [0; 32];
        y[0] = 2;
        y
    };
    for (name, public, signed, signature) in [
        (
            "another purpose",
            public(1),
            &b"teahouse"[..],
            sign::sign(Domain::CARD, &key(1), b"teahouse").0,
        ),
        ("another key", public(2), b"teahouse", good),
        ("other bytes", public(1), b"teahousf", good),
        ("the zero byte after the domain left out", public(1), b"teahouse", {
            use ed25519_dalek::Signer;
            key(1).sign(&[Domain::CURSOR.0.as_bytes(), b"teahouse"].concat()).to_bytes()
        }),
        ("a bit flipped in R", public(1), b"teahouse", in_r),
        ("a bit flipped in S", public(1), b"teahouse", in_s),
        ("S not reduced", public(1), b"teahouse", malleable),
        ("a key of small order", NEUTRAL, b"teahouse", NEUTRAL_SIGNATURE.0),
        ("a key that is no point", no_point, b"teahouse", good),
        ("zeros", public(1), b"teahouse", [0; 64]),
    ] {
        sign::verify(Domain::CURSOR, &public, signed, &Signature(signature)).expect_err(name);
        suite.case(fields! {
            "name": name,
            "domain": Domain::CURSOR.0,
            "public key": hex(public),
            "bytes": hex(signed),
            "signature": hex(signature),
            "refused": "signature",
        });
    }
    suite
}

fn record(signer: Signer, op: AccountOp) -> AccountRecord {
    AccountRecord {
        version: account::VERSION,
        account: Some(AccountId([0xac; 32])),
        parents: list([RecordId([0x01; 32]), RecordId([0x02; 32])]),
        signer,
        op,
    }
}

pub(crate) fn account_record() -> Suite {
    let mut suite = Suite::new(
        "account_record",
        "protocols/src/account/mod.rs",
        "Signed records of an account log. The id of a genesis is the account's id.",
    );
    suite.seeding("account_record");
    let genesis = AccountRecord {
        version: account::VERSION,
        account: None,
        parents: list([]),
        signer: root(1),
        op: AccountOp::Genesis { root: public(1), nonce: [0x11; 16] },
    };
    suite.signed("genesis", &genesis, &key(1));
    let id = AccountId([0xac; 32]);
    for (name, by, op) in [
        ("add a device", 1, add(id, 2, "laptop")),
        ("revoke a device", 1, revoke(2)),
        ("rotate the root", 1, rotate(id, 3)),
        ("set relays", 1, AccountOp::SetRelays { relays: list([relay()]) }),
        ("set no relays", 1, AccountOp::SetRelays { relays: list([]) }),
        ("set the name", 1, AccountOp::SetProfile { name: text("梅") }),
        ("set card keys", 1, AccountOp::SetCard { inbox_key: [0x2b; 32], tag: Tag([0x2c; 32]) }),
        ("set features", 1, AccountOp::SetFeatures { features: list([1, 127, 128, 65_535]) }),
    ] {
        let record = record(root(by), op);
        record.verify_consent().unwrap();
        suite.signed(name, &record, &key(by));
    }
    let by_device = record(dev(2), AccountOp::SetProfile { name: text("") });
    let signed = suite.signed("by a device", &by_device, &key(2));
    let with = |signer| AccountRecord { signer: dev_of(signer), ..by_device.clone() };
    // The number of parents.
    suite.refuse_usual_signed(&signed, &key(2), 34, with);

    let alter = |f: fn(&mut AccountRecord)| {
        let mut other = by_device.clone();
        f(&mut other);
        encode(&other)
    };
    for (name, payload) in [
        ("version 2", alter(|r| r.version = 2)),
        (
            "parents not ascending",
            alter(|r| {
                r.parents = list([RecordId([2; 32]), RecordId([1; 32])]);
            }),
        ),
        ("a parent twice", alter(|r| r.parents = list([RecordId([1; 32]), RecordId([1; 32])]))),
        ("no account though no genesis", alter(|r| r.account = None)),
        ("no parents though no genesis", alter(|r| r.parents = list([]))),
        (
            "features not ascending",
            alter(|r| {
                r.op = AccountOp::SetFeatures { features: list([2, 1]) };
            }),
        ),
        ("a rotation by a device", alter(|r| r.op = rotate(AccountId([0xac; 32]), 3))),
        ("nine parents", {
            let parents: Vec<RecordId> = (1..10).map(|n| RecordId([n; 32])).collect();
            let b = &by_device;
            postcard::to_stdvec(&(b.version, b.account, parents, b.signer, &b.op)).unwrap()
        }),
        ("a name of 65 bytes", {
            let b = &by_device;
            let name = "n".repeat(65);
            postcard::to_stdvec(&(b.version, b.account, &b.parents, b.signer, 5_u8, name)).unwrap()
        }),
        ("an operation of unknown kind", {
            let b = &by_device;
            postcard::to_stdvec(&(b.version, b.account, &b.parents, b.signer, 8_u8, "")).unwrap()
        }),
        ("a name that is not UTF-8", {
            let mut payload = alter(|r| r.op = AccountOp::SetProfile { name: text("a") });
            *payload.last_mut().unwrap() = 0xff;
            payload
        }),
    ] {
        suite.refuse_payload::<AccountRecord>(name, &payload, &key(2));
    }
    let foreign = AccountRecord { signer: root(2), ..genesis };
    suite.refuse_payload::<AccountRecord>("a genesis by another root", &encode(&foreign), &key(2));
    suite.refuse_signed::<AccountRecord>("beyond the bound", &vec![0; 4820]);
    // Read, but taken into no log.
    let unwilling = AccountOp::AddDevice {
        device: device(3),
        name: text(""),
        consent: sign::sign(Domain::ROOT_CONSENT, &key(3), &[[0xac; 32], public(3)].concat()),
    };
    let unwilling = record(root(1), unwilling);
    unwilling.verify_consent().unwrap_err();
    let unwilling = Signed::new(unwilling, &key(1));
    suite.refused("a consent for another purpose", unwilling.bytes(), "consent");
    suite
}

fn dev_of(public: [u8; 32]) -> Signer {
    Signer::Device(DeviceId(public))
}

pub(crate) fn prekey_bundle() -> Suite {
    let mut suite =
        Suite::new("prekey_bundle", "protocols/src/prekey.rs", "A device's signed prekey.");
    suite.seeding("prekey_bundle");
    let bundle = |counter, features: &[u16]| PrekeyBundle {
        version: prekey::VERSION,
        account: AccountId([0xac; 32]),
        device: device(2),
        counter,
        prekey: [0x2b; 32],
        inbox: Tag([0x2c; 32]),
        features: list(features.iter().copied()),
    };
    let first = suite.signed("the first", &bundle(1, &[]), &key(2));
    suite.signed("the highest counter", &bundle(u64::MAX, &[0, 1, 300]), &key(2));
    suite.refuse_usual_signed(&first, &key(2), 65, |signer| {
        let device = DeviceId(signer);
        PrekeyBundle { device, ..bundle(1, &[]) }
    });
    let over: Vec<u16> = (0..33).collect();
    let b = bundle(1, &[]);
    let long = (b.version, b.account, b.device, b.counter, b.prekey, b.inbox, over);
    for (name, payload) in [
        ("version 0", encode(&PrekeyBundle { version: 0, ..bundle(1, &[]) })),
        ("features not ascending", encode(&bundle(1, &[3, 2]))),
        ("33 features", postcard::to_stdvec(&long).unwrap()),
        ("a counter of 65 bits", {
            let mut payload = encode(&bundle(u64::MAX, &[]));
            payload[74] = 0x02;
            payload
        }),
    ] {
        suite.refuse_payload::<PrekeyBundle>(name, &payload, &key(2));
    }
    suite
}

fn contact(log: &AccountLog, n: u8) -> ContactCard {
    ContactCard {
        version: card::VERSION,
        account: log.account(),
        device: device(n),
        name: text("梅"),
        inbox_key: [0x2b; 32],
        tag: Tag([0x2c; 32]),
        relays: list([relay()]),
        secret: LinkSecret([0x5e; 16]),
        proof: ContactCard::proof_for(log, &device(n)).unwrap(),
    }
}

fn card_error(e: &CardError) -> String {
    match e {
        CardError::Signed(e) => signed_error(e).to_owned(),
        other => variant(other).to_lowercase(),
    }
}

pub(crate) fn contact_card() -> Suite {
    let mut suite = Suite::new(
        "contact_card",
        "protocols/src/card.rs and protocols/src/link.rs",
        "Signed contact cards and the link that carries them. `root` is the newest root key \
         that the proof shows. Kinds of refusal beyond the usual: genesis, record, gap and \
         device are about the proof.",
    );
    suite.seeding("contact_card");
    let log = samples::account();
    let mut late = samples::account();
    late.append(&key(1), root(1), rotate(log.account(), 3)).unwrap();
    late.append(&key(3), root(3), add(log.account(), 4, "phone")).unwrap();
    late.append(&key(4), dev(4), add(log.account(), 5, "tablet")).unwrap();
    for (name, log, n) in [("of the first device", &log, 2), ("after a rotation", &late, 5)] {
        let card = contact(log, n);
        let signed = Signed::new(card.clone(), &key(n));
        let verified = VerifiedCard::from_bytes(signed.bytes()).unwrap();
        let link = Link::Card(Box::new(verified.clone()));
        suite.seed(name, signed.bytes());
        suite.case(fields! {
            "name": name,
            "private key": hex(key(n).to_bytes()),
            "value": node(&card),
            "wire": hex(signed.bytes()),
            "root": hex(verified.root()),
            "text": link.to_uri(),
            "QR text": link.to_qr_text(),
        });
    }
    let card = contact(&log, 2);
    let signed = Signed::new(card.clone(), &key(2));
    suite.refuse_usual_signed(&signed, &key(2), 65, |signer| {
        let device = DeviceId(signer);
        ContactCard { device, ..card.clone() }
    });
    let version = ContactCard { version: 2, ..card.clone() };
    suite.refuse_payload::<ContactCard>("version 2", &encode(&version), &key(2));

    let proof = |records: &[Signed<AccountRecord>]| ContactCard {
        proof: list(records.iter().map(|r| bytes(r.bytes()))),
        ..card.clone()
    };
    let records: Vec<_> = log.records().cloned().collect();
    let all: Vec<_> = late.records().cloned().collect();
    let profile = AccountOp::SetProfile { name: text("x") };
    let mut other = samples::account();
    let profile = other.append(&key(1), root(1), profile).unwrap();
    let mut broken = card.clone();
    let mut bad = records[1].bytes().to_vec();
    bad[60] ^= 1;
    broken.proof = list([bytes(records[0].bytes()), bytes(&bad)]);
    for (name, card) in [
        ("no proof", proof(&[])),
        (
            "the proof of another account",
            ContactCard { account: AccountId([1; 32]), ..card.clone() },
        ),
        ("a proof without the genesis", proof(&records[1..])),
        ("a proof that stops early", proof(&records[..1])),
        ("a proof with a gap", proof(&[all[0].clone(), all[4].clone(), all[1].clone()])),
        ("a proof with another kind of record", {
            proof(&[records[0].clone(), records[1].clone(), profile])
        }),
        ("a bit flipped in the proof", broken),
    ] {
        let wire = Signed::new(card, &key(2)).bytes().to_vec();
        let why = VerifiedCard::from_bytes(&wire).expect_err(name);
        suite.refused(name, &wire, &card_error(&why));
    }
    suite
}

pub(crate) fn links() -> Suite {
    let mut suite = Suite::new(
        "links",
        "protocols/src/link.rs",
        "Relay invitations and pairing codes, and every kind of link as text. `text` is read \
         in any case and with white space around it.",
    );
    suite.seeding("link");
    let card = Signed::new(contact(&samples::account(), 2), &key(2));
    let invite = |greeter: Option<&[u8]>| RelayInvite {
        version: link::VERSION,
        relay: relay(),
        code: LinkSecret([0x5e; 16]),
        greeter: greeter.map(bytes),
        community: text("老街茶馆"),
    };
    let pair = PairCode {
        version: link::VERSION,
        device: device(2),
        secret: LinkSecret([0x5f; 16]),
        addrs: list([text("/ip4/192.168.1.5/udp/4001/quic-v1")]),
    };
    let developer = [0x5d; 32];
    let program = ProgramLink {
        version: link::VERSION,
        app: AppId::of(&developer, "早餐"),
        developer,
        name: text("早餐"),
        code: 3,
        providers: list([Provider {
            device: device(2),
            addrs: list([text("/ip4/192.0.2.8/udp/4001/quic-v1")]),
            relays: list([relay()]),
        }]),
        launch: text("table=4"),
    };
    let card_link = Link::Card(Box::new(VerifiedCard::from_bytes(card.bytes()).unwrap()));
    let greeted = invite(Some(card.bytes()));
    for (name, value, wire, link) in [
        ("card", Node::Null, card.bytes().to_vec(), card_link),
        ("invite", node(&invite(None)), encode(&invite(None)), Link::RelayInvite(invite(None))),
        ("invite with greeter", node(&greeted), encode(&greeted), Link::RelayInvite(greeted)),
        ("pairing code", node(&pair), encode(&pair), Link::Pair(pair.clone())),
        ("program", node(&program), encode(&program), Link::Program(program.clone())),
    ] {
        for text in [link.to_uri(), link.to_qr_text(), format!(" {}\n", link.to_uri())] {
            assert_eq!(Link::parse(&text).unwrap(), link);
        }
        suite.seed(name, link.to_uri().as_bytes());
        let mut case = vec![("name".to_owned(), Node::from(name))];
        if value != Node::Null {
            case.push(("value".to_owned(), value));
        }
        case.extend([
            ("wire".to_owned(), hex(&wire)),
            ("text".to_owned(), Node::from(link.to_uri())),
            ("QR text".to_owned(), Node::from(link.to_qr_text())),
        ]);
        suite.case(Node::Fields(case));
    }

    let of = |kind: &str, wire: &[u8]| {
        format!("teahouse:{kind}/{}", BASE32_NOPAD.encode(wire).to_lowercase())
    };
    let good = encode(&pair);
    let long_community = {
        let i = invite(None);
        let name = "n".repeat(65);
        postcard::to_stdvec(&(i.version, i.relay, i.code, i.greeter, name)).unwrap()
    };
    let many = {
        let addr: Text<160> = text("/ip4/192.0.2.1");
        postcard::to_stdvec(&(pair.version, pair.device, &pair.secret, vec![addr; 9])).unwrap()
    };
    let mut loose = of("pair", &good);
    // The bits of the last character that hold no data must be zero.
    assert_ne!(good.len() % 5, 0);
    let last = loose.pop().unwrap();
    loose.push(if last == 'a' { 'b' } else { char::from(last as u8 + 1) });
    let five = RelayInvite {
        relay: RelayAddr { id: RelayId(public(90)), addrs: list([]) },
        ..invite(None)
    };
    suite.plain("an invite without addresses, bare", &five);
    for (name, text) in [
        ("nothing", String::new()),
        ("another scheme", "https://example.org/card/aa".to_owned()),
        ("no kind", "teahouse:".to_owned()),
        ("an unknown kind", "teahouse:coin/aaaa".to_owned()),
        ("a character outside Base32", "teahouse:pair/a1".to_owned()),
        ("padding", format!("{}=", of("pair", &good))),
        ("unused bits that are not zero", loose),
        ("the wrong kind", of("relay", &good)),
        ("a pairing code one byte short", of("pair", &good[..good.len() - 1])),
        ("a trailing byte", of("pair", &[&good[..], &[0]].concat())),
        ("a varint one byte too long", of("pair", &overlong(&good, 49))),
        ("nine addresses", of("pair", &many)),
        ("a community's name of 65 bytes", of("relay", &long_community)),
        ("version 2", of("pair", &encode(&PairCode { version: 2, ..pair }))),
        ("a greeter that is no card", of("relay", &encode(&invite(Some(&[1, 2, 3]))))),
        ("a card with a bit flipped", {
            let mut wire = card.bytes().to_vec();
            wire[100] ^= 1;
            of("card", &wire)
        }),
        ("longer than 8 KiB", of("card", &[0; 5200])),
    ] {
        let why = match Link::parse(&text).expect_err(name) {
            LinkError::Decode(e) => decode_error(&e).to_owned(),
            LinkError::Card(e) => card_error(&e),
            other => variant(&other),
        };
        suite.seed(name, text.as_bytes());
        suite.case(fields! { "name": name, "text": text, "refused": why });
    }
    suite
}

pub(crate) fn safety_number() -> Suite {
    let mut suite = Suite::new(
        "safety_number",
        "protocols/src/safety.rs",
        "The 60 digits that two accounts compare; the order of the two doesn't matter.",
    );
    for (name, a, ra, b, rb) in [
        ("plain", [1; 32], [3; 32], [2; 32], [4; 32]),
        ("the other way round", [2; 32], [4; 32], [1; 32], [3; 32]),
        ("after a rotation of the second", [1; 32], [3; 32], [2; 32], [5; 32]),
        ("two accounts with one root", [1; 32], [3; 32], [2; 32], [3; 32]),
        ("zeros and ones", [0; 32], [0; 32], [0xff; 32], [0xff; 32]),
    ] {
        let number = SafetyNumber::new((&AccountId(a), &ra), (&AccountId(b), &rb));
        assert!(number.matches(&number.to_string()));
        suite.case(fields! {
            "name": name,
            "account a": hex(a),
            "root a": hex(ra),
            "account b": hex(b),
            "root b": hex(rb),
            "number": number.to_string(),
        });
    }
    suite
}
