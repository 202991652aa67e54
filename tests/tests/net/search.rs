//! Finding out whether bytes are anywhere in a heap of bytes, as they are or encoded.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use data_encoding::{BASE32_NOPAD, BASE64_NOPAD, BASE64URL_NOPAD, Encoding, HEXLOWER, HEXUPPER};

/// A thing to look for.
#[derive(Debug, Clone)]
pub(crate) struct Needle {
    /// What it is, for people.
    pub(crate) what: String,
    pub(crate) bytes: Vec<u8>,
}

impl Needle {
    pub(crate) fn new(what: &str, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        // Shorter ones would be found by chance.
        assert!(bytes.len() >= 8, "too short to be looked for: {what}");
        Self { what: what.to_owned(), bytes }
    }
}

/// A way of writing bytes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Form {
    Raw,
    HexLower,
    HexUpper,
    Base64,
    Base64Url,
    Base32,
    Base32Lower,
    /// The bytes by themselves: base 58 has no alignment, so that within something longer
    /// they can't be told.
    Base58,
}

pub(crate) const FORMS: [Form; 8] = [
    Form::Raw,
    Form::HexLower,
    Form::HexUpper,
    Form::Base64,
    Form::Base64Url,
    Form::Base32,
    Form::Base32Lower,
    Form::Base58,
];

impl Form {
    /// Writes bytes down.
    pub(crate) fn write(self, bytes: &[u8]) -> Vec<u8> {
        let by = |encoding: Encoding| encoding.encode(bytes).into_bytes();
        match self {
            Self::Raw => bytes.to_vec(),
            Self::HexLower => by(HEXLOWER),
            Self::HexUpper => by(HEXUPPER),
            Self::Base64 => by(BASE64_NOPAD),
            Self::Base64Url => by(BASE64URL_NOPAD),
            Self::Base32 => by(BASE32_NOPAD),
            Self::Base32Lower => by(BASE32_NOPAD).to_ascii_lowercase(),
            Self::Base58 => base58(bytes),
        }
    }

    /// Bits of a character, and bytes after which the alignment repeats.
    fn alignment(self) -> (usize, usize) {
        match self {
            Self::Base64 | Self::Base64Url => (6, 3),
            Self::Base32 | Self::Base32Lower => (5, 5),
            Self::Raw | Self::HexLower | Self::HexUpper | Self::Base58 => (8, 1),
        }
    }

    /// What is seen of the bytes when they are written down in the middle of others: for each
    /// alignment the characters that depend on nothing else.
    fn seen(self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let (bits, alignments) = self.alignment();
        if alignments == 1 {
            return vec![self.write(bytes)];
        }
        let at = |before: usize| {
            let padded: Vec<u8> = std::iter::repeat_n(0, before).chain(bytes.to_vec()).collect();
            let written = self.write(&padded);
            written[(8 * before).div_ceil(bits)..8 * padded.len() / bits].to_vec()
        };
        (0..alignments).map(at).collect()
    }
}

/// Base 58 in the alphabet of Bitcoin, which `PeerId`s use.
pub(crate) fn base58(bytes: &[u8]) -> Vec<u8> {
    const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    // Digits, the lowest first.
    let mut digits: Vec<u32> = Vec::new();
    for byte in bytes {
        let mut carry = u32::from(*byte);
        for digit in &mut digits {
            carry += *digit << 8;
            *digit = carry % 58;
            carry /= 58;
        }
        while carry > 0 {
            digits.push(carry % 58);
            carry /= 58;
        }
    }
    let zeroes = bytes.iter().take_while(|b| **b == 0).count();
    let zeroes = std::iter::repeat_n(b'1', zeroes);
    zeroes.chain(digits.iter().rev().map(|d| ALPHABET[*d as usize])).collect()
}

/// Looks for many needles in all forms at once.
pub(crate) struct Search {
    /// What is looked for, by its first four bytes.
    patterns: BTreeMap<[u8; 4], Vec<(Vec<u8>, Found)>>,
    needles: Vec<Needle>,
}

/// A needle by its number and the form it was found in.
pub(crate) type Found = (usize, Form);

impl Search {
    pub(crate) fn new(needles: Vec<Needle>) -> Self {
        let mut patterns: BTreeMap<[u8; 4], Vec<_>> = BTreeMap::new();
        for (number, needle) in needles.iter().enumerate() {
            for form in FORMS {
                for pattern in form.seen(&needle.bytes) {
                    let first = pattern[..4].try_into().expect("four bytes");
                    patterns.entry(first).or_default().push((pattern, (number, form)));
                }
            }
        }
        Self { patterns, needles }
    }

    pub(crate) fn needles(&self) -> &[Needle] {
        &self.needles
    }

    /// What is there, each once, with how often.
    pub(crate) fn bytes(&self, heap: &[u8]) -> BTreeMap<Found, usize> {
        let mut found = BTreeMap::new();
        // Patterns begin rarely with these: most places end at the first look.
        let begins: Vec<bool> =
            (0..=u8::MAX).map(|byte| self.patterns.keys().any(|first| first[0] == byte)).collect();
        for at in 0..heap.len().saturating_sub(3) {
            if !begins[usize::from(heap[at])] {
                continue;
            }
            let first: [u8; 4] = heap[at..at + 4].try_into().expect("four bytes");
            for (pattern, what) in self.patterns.get(&first).into_iter().flatten() {
                if heap[at..].starts_with(pattern) {
                    *found.entry(*what).or_insert(0) += 1;
                }
            }
        }
        found
    }

    /// As [`Search::bytes`], in the names and contents of all files of a folder.
    pub(crate) fn folder(&self, dir: &Path) -> BTreeMap<Found, usize> {
        let mut found = BTreeMap::new();
        let mut add = |more: BTreeMap<Found, usize>| {
            for (what, n) in more {
                *found.entry(what).or_insert(0) += n;
            }
        };
        for entry in fs::read_dir(dir).expect("a folder").map(|e| e.expect("an entry")) {
            add(self.bytes(entry.file_name().as_encoded_bytes()));
            let path = entry.path();
            if path.is_dir() {
                add(self.folder(&path));
            } else {
                add(self.bytes(&fs::read(&path).expect("a file")));
            }
        }
        found
    }

    /// In words.
    pub(crate) fn words(&self, found: &BTreeMap<Found, usize>) -> Vec<String> {
        let word = |((needle, form), n): (&Found, &usize)| {
            format!("{} as {form:?}, {n} times", self.needles[*needle].what)
        };
        found.iter().map(word).collect()
    }
}

#[test]
fn base58_is_what_others_write() {
    assert_eq!(base58(b"Hello World!"), b"2NEpo7TZRRrLZSi2U");
    assert_eq!(base58(&[0, 0, 0x28, 0x7f, 0xb4, 0xcd]), b"11233QC4");
    let key = libp2p::identity::Keypair::ed25519_from_bytes([7; 32]).unwrap();
    let peer = key.public().to_peer_id();
    assert_eq!(base58(&peer.to_bytes()), peer.to_base58().into_bytes());
}

#[test]
fn every_form_is_found_at_every_alignment_and_nothing_else() {
    let search = Search::new(vec![
        Needle::new("ASCII", "the lantern is lit"),
        Needle::new("Chinese", "灯笼已经点亮了"),
        Needle::new("key", [0xd3; 32]),
    ]);
    for (number, needle) in search.needles().iter().enumerate() {
        for form in FORMS {
            for before in 0..8 {
                // Base 58 is found only by itself.
                let (before, after) = if form == Form::Base58 { (0, 0) } else { (before, 3) };
                let mut bytes = vec![0x5a; before];
                bytes.extend(&needle.bytes);
                bytes.extend(vec![0xa5; after]);
                let mut heap = b"\0\x01{\"x\": \"".to_vec();
                heap.extend(form.write(&bytes));
                heap.extend(b"\"}");
                let found = search.bytes(&heap);
                assert!(found.contains_key(&(number, form)), "{needle:?} {form:?} {before}");
                assert!(found.keys().all(|(n, _)| *n == number), "{found:?}");
            }
        }
    }
    assert!(search.bytes("The Lantern Is Lit 灯笼".as_bytes()).is_empty());
}
