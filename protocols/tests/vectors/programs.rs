//! Mini Programs: packages, and the words by which they are asked for.

use std::collections::BTreeMap;

use teahouse_protocols::codec::encode;
use teahouse_protocols::functions::{self, Call, CallAnswer, CallFrame, CallRefusal};
use teahouse_protocols::ids::AppId;
use teahouse_protocols::package::{
    Cloud, Manifest, Package, Permission, Power, ProgramFrame, Release, VERSION, VerifiedPackage,
};

use crate::json::{fields, hex};
use crate::samples::{bytes, device, key, list, text};
use crate::suite::Suite;

fn package(cloud: bool) -> VerifiedPackage {
    let draft = Manifest {
        form: VERSION,
        developer: [0; 32],
        name: text("早餐"),
        version: Release { code: 3, name: text("1.2") },
        description: text("Breakfast, ready when you are"),
        lang: text("zh-CN"),
        pages: list([text("main.js")]),
        icons: list([text("icon.png")]),
        req_permissions: list([
            Permission { power: Power::Login, reason: text("to know your order again") },
            Permission { power: Power::Pay, reason: text("to be paid") },
        ]),
        cloud: cloud.then(|| Cloud { device: device(2), main: text("server.js") }),
        files: list([]),
    };
    let mut files = BTreeMap::from([
        ("icon.png".to_owned(), vec![0x89, b'P', b'N', b'G']),
        ("main.js".to_owned(), b"export function update() {}".to_vec()),
        ("empty".to_owned(), Vec::new()),
    ]);
    if cloud {
        files.insert("server.js".to_owned(), b"export function update() {}".to_vec());
    }
    VerifiedPackage::new(draft, &files, &key(7)).unwrap()
}

pub(crate) fn program_packages() -> Suite {
    let mut suite = Suite::new(
        "program_packages",
        "protocols/src/package.rs",
        "Manifests of Mini Programs, signed by their developers, and packages: the signed \
         manifest with the pages that it names, each once. `app` is BLAKE3's derive_key of the \
         developer's key and the name.",
    );
    suite.seeding("program_package");
    for (name, package) in [("a program", package(false)), ("with a cloud part", package(true))] {
        let manifest = package.manifest();
        suite.signed(&format!("manifest of {name}"), manifest.get(), &key(7));
        let wire = package.to_bytes().unwrap();
        assert_eq!(VerifiedPackage::from_bytes(&wire).unwrap(), package);
        suite.seed(name, &wire);
        suite.case(fields! {
            "name": name,
            "app": hex(manifest.get().app().0),
            "package": hex(package.id().0),
            "wire": hex(&wire),
        });
    }
    let whole = package(false);
    let manifest = whole.manifest();
    suite.refuse_usual_signed::<Manifest>(manifest, &key(7), 33, |developer| Manifest {
        developer,
        ..manifest.get().clone()
    });
    for (name, bad) in [
        ("no pages", Manifest { pages: list([]), ..manifest.get().clone() }),
        (
            "a page that is not there",
            Manifest { pages: list([text("page.js")]), ..manifest.get().clone() },
        ),
        (
            "version 0",
            Manifest { version: Release { code: 0, name: text("0") }, ..manifest.get().clone() },
        ),
        ("no files", Manifest { files: list([]), ..manifest.get().clone() }),
    ] {
        suite.refuse_payload::<Manifest>(name, &encode(&bad), &key(7));
    }
    let pages: Vec<Vec<u8>> = whole.pages().values().cloned().collect();
    let of = |pages: &[Vec<u8>]| {
        encode(&Package {
            version: VERSION,
            manifest: bytes(manifest.bytes()),
            pages: list(pages.iter().map(|p| bytes(p))),
        })
    };
    let swapped: Vec<Vec<u8>> = {
        let good = VerifiedPackage::from_bytes(&of(&pages)).is_ok();
        let mut other = pages.clone();
        if good {
            other.reverse();
        }
        other
    };
    for (name, wire) in [
        ("two pages swapped", of(&swapped)),
        ("a page missing", of(&pages[..1])),
        ("a page too many", of(&[pages.clone(), pages.clone()].concat())),
    ] {
        assert!(VerifiedPackage::from_bytes(&wire).is_err(), "{name}");
        suite.refused(name, &wire, "damaged");
    }
    suite
}

pub(crate) fn program_frames() -> Suite {
    let mut suite = Suite::new(
        "program_frames",
        "protocols/src/package.rs",
        "Words between a device that wants a Mini Program and one that has it: service 4.",
    );
    suite.seeding("program_frame");
    let whole = package(false);
    let app: AppId = whole.manifest().get().app();
    let manifest = bytes(whole.manifest().bytes());
    let wire = suite.plain("ask", &ProgramFrame::Ask { app, above: 300 });
    suite.plain("offer", &ProgramFrame::Offer { app, manifest });
    let (hash, page) = whole.pages().first_key_value().unwrap();
    suite.plain("want", &ProgramFrame::Want { app, page: *hash });
    suite.plain("page", &ProgramFrame::Page { app, bytes: bytes(page) });
    suite.plain("unknown", &ProgramFrame::Unknown { app });
    suite.refuse_usual::<ProgramFrame>(&wire, wire.len() - 1);
    suite.refuse::<ProgramFrame>("an unknown word", &[0x20; 33]);
    suite
}

pub(crate) fn program_calls() -> Suite {
    let mut suite = Suite::new(
        "program_calls",
        "protocols/src/functions.rs",
        "What a Mini Program asks of its developer's node, signed by the key under which it knows \
         the person, and what that answers: service 5.",
    );
    let caller = key(8);
    let call = Call {
        version: functions::VERSION,
        program: AppId([1; 32]),
        device: device(2),
        caller: caller.verifying_key().to_bytes(),
        id: [3; 16],
        function: text("book"),
        made: 1_700_000_000_000,
        expires: 1_700_000_600_000,
        payload: bytes(b"{\"seats\":[5]}"),
    };
    suite.signed("a call", &call, &caller);
    suite.seeding("call_frame");
    let signed = teahouse_protocols::sign::Signed::new(call.clone(), &caller);
    let (program, id) = (call.program, call.id);
    let frame = CallFrame::Call { program, id, call: Box::new(bytes(signed.bytes())) };
    let wire = suite.plain("a call", &frame);
    let answer = |answer| CallFrame::Answer { id: call.id, answer };
    let value = |offer| CallAnswer::Value { value: bytes(b"[]"), offer };
    suite.plain("an answer", &answer(value(None)));
    suite.plain("an answer with an offer", &answer(value(Some(Box::new(bytes(&[7; 40]))))));
    for why in [
        CallRefusal::NotServed,
        CallRefusal::Busy,
        CallRefusal::Expired,
        CallRefusal::SameIdOtherBytes,
        CallRefusal::Failed,
    ] {
        suite.plain(&format!("{why:?}"), &answer(CallAnswer::Refused(why)));
    }
    suite.refuse::<CallFrame>("a byte too many", &[&wire[..], &[0]].concat());
    suite.refuse::<CallFrame>("cut short", &wire[..wire.len() - 1]);
    suite.refuse::<CallFrame>("an unknown word", &[0x20; 33]);
    suite
}
