//! One file of vectors in the making, and the seeds that it gives to fuzz targets.

use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};

use teahouse_protocols::codec::{DecodeError, Wire, decode, encode};
use teahouse_protocols::sign::{
    self, Domain, Signable, Signature, Signed, SignedError, SigningKey,
};

use crate::json::{Node, fields, hex, node};

/// The y-coordinate 1: the neutral element, a key under which a careless verifier accepts
/// [`NEUTRAL_SIGNATURE`] for every message.
pub(crate) const NEUTRAL: [u8; 32] = {
    let mut key = [0; 32];
    key[0] = 1;
    key
};

/// R = the neutral element, S = 0.
pub(crate) const NEUTRAL_SIGNATURE: Signature = {
    let mut signature = [0; 64];
    signature[0] = 1;
    Signature(signature)
};

/// One file of vectors.
pub(crate) struct Suite {
    file: &'static str,
    description: &'static str,
    spec: &'static str,
    target: Option<&'static str>,
    cases: Vec<Node>,
    seeds: Vec<(PathBuf, Vec<u8>)>,
}

impl Suite {
    pub(crate) fn new(file: &'static str, spec: &'static str, description: &'static str) -> Self {
        Self { file, description, spec, target: None, cases: Vec::new(), seeds: Vec::new() }
    }

    /// From here on every `wire` is a seed of this fuzz target too.
    pub(crate) fn seeding(&mut self, target: &'static str) {
        self.target = Some(target);
    }

    /// A seed that is no vector.
    pub(crate) fn seed(&mut self, name: &str, bytes: &[u8]) {
        let Some(target) = self.target else { return };
        let slug: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let path = Path::new(target).join(format!("{}-{slug}", self.file));
        assert!(self.seeds.iter().all(|(p, _)| *p != path), "two cases named {name:?}");
        self.seeds.push((path, bytes.to_vec()));
    }

    /// A case of its own form.
    pub(crate) fn case(&mut self, case: Node) {
        self.cases.push(case);
    }

    /// A value that is sent as it is.
    pub(crate) fn plain<T: Wire + PartialEq + Debug>(&mut self, name: &str, value: &T) -> Vec<u8> {
        let wire = encode(value);
        assert_eq!(&decode::<T>(&wire).unwrap(), value, "{name}");
        self.seed(name, &wire);
        self.case(fields! { "name": name, "value": node(value), "wire": hex(&wire) });
        wire
    }

    /// A value that is sent signed.
    pub(crate) fn signed<T: Signable + PartialEq + Clone>(
        &mut self,
        name: &str,
        value: &T,
        key: &SigningKey,
    ) -> Signed<T> {
        let signed = Signed::new(value.clone(), key);
        assert!(Signed::<T>::from_bytes(signed.bytes()).unwrap() == signed, "{name}");
        let payload = encode(value);
        self.seed(name, signed.bytes());
        self.case(fields! {
            "name": name,
            "private key": hex(key.to_bytes()),
            "value": node(value),
            "payload": hex(&payload),
            "signature": hex(sign::sign(T::DOMAIN, key, &payload).0),
            "wire": hex(signed.bytes()),
            "id": hex(signed.id()),
        });
        signed
    }

    /// Takes over the cases of another suite, with `form` before their names. They are no
    /// seeds.
    pub(crate) fn adopt(&mut self, form: &str, other: Self) {
        for mut case in other.cases {
            if let Node::Fields(fields) = &mut case
                && let Some((_, Node::Text(name))) = fields.first_mut()
            {
                *name = format!("{form}: {name}");
            }
            self.cases.push(case);
        }
    }

    /// Bytes that are no `T`.
    pub(crate) fn refuse<T: Wire + Debug>(&mut self, name: &str, wire: &[u8]) {
        let why = decode::<T>(wire).expect_err(name);
        self.refused(name, wire, decode_error(&why));
    }

    /// Bytes that are no signed `T`.
    pub(crate) fn refuse_signed<T: Signable>(&mut self, name: &str, wire: &[u8]) {
        let why = Signed::<T>::from_bytes(wire).expect_err(name);
        self.refused(name, wire, signed_error(&why));
    }

    /// A payload that is no `T`, rightly signed.
    pub(crate) fn refuse_payload<T: Signable>(
        &mut self,
        name: &str,
        payload: &[u8],
        key: &SigningKey,
    ) {
        let wire = signed_bytes(payload, sign::sign(T::DOMAIN, key, payload));
        self.refuse_signed::<T>(name, &wire);
    }

    /// Bytes that were refused, and what kind of error says so.
    pub(crate) fn refused(&mut self, name: &str, wire: &[u8], why: &str) {
        self.seed(name, wire);
        self.case(fields! { "name": name, "wire": hex(wire), "refused": why });
    }

    /// What is refused of every plain form. `varint` is the place of the last byte of some
    /// varint.
    pub(crate) fn refuse_usual<T: Wire + Debug>(&mut self, wire: &[u8], varint: usize) {
        self.refuse::<T>("nothing", &[]);
        self.refuse::<T>("one byte short", &wire[..wire.len() - 1]);
        self.refuse::<T>("a trailing byte", &[wire, &[0]].concat());
        self.refuse::<T>("a varint one byte too long", &overlong(wire, varint));
    }

    /// What is refused of every signed form. `varint` is the place in the payload of the
    /// last byte of some varint; `by` makes the value with another signer.
    pub(crate) fn refuse_usual_signed<T: Signable>(
        &mut self,
        signed: &Signed<T>,
        key: &SigningKey,
        varint: usize,
        by: impl FnOnce([u8; 32]) -> T,
    ) {
        let wire = signed.bytes();
        let payload = encode(signed.get());
        let prefix = wire.len() - 64 - payload.len();
        self.refuse_signed::<T>("nothing", &[]);
        self.refuse_signed::<T>("one byte short", &wire[..wire.len() - 1]);
        self.refuse_signed::<T>("a trailing byte", &[wire, &[0]].concat());
        self.refuse_signed::<T>(
            "the payload's length one byte too long",
            &overlong(wire, prefix - 1),
        );
        self.refuse_payload::<T>("a varint one byte too long", &overlong(&payload, varint), key);
        self.refuse_payload::<T>(
            "a trailing byte in the payload",
            &[&payload[..], &[0]].concat(),
            key,
        );
        self.refuse_payload::<T>("a payload one byte short", &payload[..payload.len() - 1], key);
        let other = if T::DOMAIN == Domain::EPOCH { Domain::CURSOR } else { Domain::EPOCH };
        let wrong = signed_bytes(&payload, sign::sign(other, key, &payload));
        self.refuse_signed::<T>("signed for another purpose", &wrong);
        let other = SigningKey::from_bytes(&[0x55; 32]);
        let wrong = signed_bytes(&payload, sign::sign(T::DOMAIN, &other, &payload));
        self.refuse_signed::<T>("signed by another key", &wrong);
        for (name, at) in [("in R", wire.len() - 64), ("in S", wire.len() - 32)] {
            let mut flipped = wire.to_vec();
            flipped[at] ^= 1;
            self.refuse_signed::<T>(&format!("a bit flipped {name}"), &flipped);
        }
        let weak = signed_bytes(&encode(&by(NEUTRAL)), NEUTRAL_SIGNATURE);
        self.refuse_signed::<T>("a signer of small order", &weak);
    }

    /// Compares with the committed files, or writes them when `TEAHOUSE_BLESS=1`.
    pub(crate) fn finish(self) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let file = fields! {
            "description": self.description,
            "spec": self.spec,
            "cases": self.cases,
        };
        let mut text = serde_json::to_string_pretty(&file).unwrap();
        text.push('\n');
        assert!(text.len() < 200_000, "{}: {} bytes", self.file, text.len());
        let mut files = vec![(root.join(format!("vectors/{}.json", self.file)), text.into_bytes())];
        for (path, bytes) in self.seeds {
            assert!(bytes.len() < 10_000, "{}: {} bytes", path.display(), bytes.len());
            files.push((root.join("fuzz/corpus").join(path), bytes));
        }
        let bless = std::env::var_os("TEAHOUSE_BLESS").is_some_and(|v| v == "1");
        for (path, bytes) in files {
            if bless {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, &bytes).unwrap();
            }
            let held = fs::read(&path).unwrap_or_default();
            assert!(
                held == bytes,
                "{} differs from what this build makes. If the wire form was meant to \
                 change, run this test with TEAHOUSE_BLESS=1 and say so in the change.",
                path.display()
            );
        }
    }
}

/// The framing of a signed value.
pub(crate) fn signed_bytes(payload: &[u8], signature: Signature) -> Vec<u8> {
    postcard::to_stdvec(&(payload, signature)).unwrap()
}

/// The same varint, spelt with one byte more.
pub(crate) fn overlong(bytes: &[u8], last: usize) -> Vec<u8> {
    assert!(bytes[last] < 0x80, "byte {last} doesn't end a varint");
    let mut out = bytes.to_vec();
    out[last] |= 0x80;
    out.insert(last + 1, 0);
    out
}

pub(crate) const fn decode_error(e: &DecodeError) -> &'static str {
    match e {
        DecodeError::TooLong { .. } => "too long",
        DecodeError::Malformed { .. } => "malformed",
        DecodeError::NotCanonical { .. } => "not canonical",
        DecodeError::UnknownVersion { .. } => "unknown version",
    }
}

pub(crate) const fn signed_error(e: &SignedError) -> &'static str {
    match e {
        SignedError::Decode(e) => decode_error(e),
        SignedError::Signature(_) => "signature",
    }
}

/// The name of an error's variant.
pub(crate) fn variant(e: &impl Debug) -> String {
    format!("{e:?}").split([' ', '(', '{']).next().unwrap_or_default().to_owned()
}
