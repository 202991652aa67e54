//! Sealed content.

use teahouse_protocols::content::{CHUNK, ContentKey, SEALED_CHUNK, open, seal, sealed_size};

use crate::json::{Node, fields, hex};
use crate::suite::Suite;

pub(crate) fn content() -> Suite {
    let mut suite = Suite::new(
        "content",
        "protocols/src/content.rs",
        "Contents sealed in chunks of 65,536 bytes with ChaCha20-Poly1305; the cipher's key \
         is BLAKE3's derive_key of the content's key in the context \"teahouse/v1/content \
         stream\". Byte i of the plain text is i modulo 251. `hash` is BLAKE3 of the sealed \
         form, `first` and `last` are its first and last 24 bytes.",
    );
    let key = ContentKey::from_bytes([7; 32]);
    let plain = |size: usize| -> Vec<u8> { (0..size).map(|i| (i % 251) as u8).collect() };
    for size in [0, 1, 63, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 1_000] {
        let sealed = seal(&key, &plain(size)).unwrap();
        assert_eq!(sealed_size(size as u64), Some(sealed.len() as u64));
        let end = sealed.len().min(24);
        suite.case(fields! {
            "name": format!("{size} bytes"),
            "key": hex(*key.to_bytes()),
            "size": size as u64,
            "sealed size": sealed.len() as u64,
            "hash": hex(blake3::hash(&sealed).as_bytes()),
            "first": hex(&sealed[..end]),
            "last": hex(&sealed[sealed.len() - end..]),
            "sealed": if sealed.len() < 100 { hex(&sealed) } else { Node::Null },
        });
    }
    let sealed = seal(&key, &plain(2 * CHUNK + 5)).unwrap();
    let chunks: Vec<&[u8]> = sealed.chunks(SEALED_CHUNK).collect();
    for (name, bytes) in [
        ("cut off at a chunk's end", sealed[..2 * SEALED_CHUNK].to_vec()),
        ("two chunks swapped", [chunks[1], chunks[0], chunks[2]].concat()),
        ("a chunk twice", [chunks[0], chunks[0], chunks[2]].concat()),
        ("the last chunk alone", chunks[2].to_vec()),
        ("a byte more", [&sealed[..], &[0]].concat()),
        ("an empty chunk at the end", [&sealed[..], &[0; 16]].concat()),
        ("nothing", Vec::new()),
    ] {
        let why = open(&key, &bytes).unwrap_err();
        suite.case(fields! {
            "name": name,
            "key": hex(*key.to_bytes()),
            "hash": hex(blake3::hash(&bytes).as_bytes()),
            "sealed size": bytes.len() as u64,
            "refused": why.to_string(),
        });
    }
    suite
}
