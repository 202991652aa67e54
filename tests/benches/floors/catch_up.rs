//! The floor of catching up: one loop that verifies, opens, applies (automerge, in batches, in
//! segments of 2,000) and commits (redb, in batches) as many messages, on one core.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use automerge::transaction::Transactable;
use automerge::{ActorId, AutoCommit, Automerge, Change, ObjType, ROOT};
use chacha20poly1305::aead::{Aead, KeyInit};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use redb::{Database, Durability, TableDefinition};

type Table = TableDefinition<'static, &'static [u8], &'static [u8]>;

const LOG: Table = TableDefinition::new("log");
const BODIES: Table = TableDefinition::new("bodies");
const MESSAGES: Table = TableDefinition::new("messages");
/// Messages of one document.
const SEGMENT: usize = 2_000;
/// Messages applied and committed at once.
const BATCH: usize = 1_000;
/// Bytes signed beside the two hashes: topic, device, number, predecessor and the like.
const HEAD: usize = 190;

/// Messages as they travel.
pub(crate) struct Data {
    author: VerifyingKey,
    key: [u8; 32],
    genesis: Vec<Vec<u8>>,
    letters: Vec<Letter>,
}

struct Letter {
    /// Head, hash of the sealed change, hash of the sealed body.
    signed: Vec<u8>,
    signature: [u8; 64],
    /// The change and the body's key.
    sealed: Vec<u8>,
    body: Vec<u8>,
}

fn cipher(key: &[u8; 32]) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(&Key::from(*key))
}

fn nonce(number: usize) -> XNonce {
    let mut nonce = [0; 24];
    nonce[..8].copy_from_slice(&(number as u64).to_le_bytes());
    XNonce::from(nonce)
}

impl Data {
    /// Writes `count` messages with these texts.
    pub(crate) fn new(count: usize, text: impl Fn(usize) -> String) -> Result<Self> {
        let author = SigningKey::from_bytes(&[5; 32]);
        let key = [9; 32];
        let mut data =
            Self { author: author.verifying_key(), key, genesis: Vec::new(), letters: Vec::new() };
        while data.letters.len() < count {
            let mut doc = AutoCommit::new().with_actor(ActorId::from([1; 16]));
            let map = doc.put_object(ROOT, "messages", ObjType::Map)?;
            doc.commit();
            let genesis = doc.get_last_local_change().context("a genesis")?;
            data.genesis.push(genesis.raw_bytes().to_vec());
            for _ in 0..SEGMENT.min(count - data.letters.len()) {
                let number = data.letters.len();
                let body_key = *blake3::hash(&number.to_le_bytes()).as_bytes();
                let body = cipher(&body_key).encrypt(&nonce(0), text(number).as_bytes());
                let body = body.ok().context("sealed")?;
                // A message's entry: the body's hash and a few flags, as bytes.
                let mut entry = blake3::hash(&body).as_bytes().to_vec();
                entry.extend_from_slice(&[0; 8]);
                doc.put(&map, format!("device/{number:016x}"), entry)?;
                doc.commit();
                let change = doc.get_last_local_change().context("a change")?;
                let plain = [&body_key, change.raw_bytes()].concat();
                let sealed = cipher(&key).encrypt(&nonce(number), plain.as_slice());
                let sealed = sealed.ok().context("sealed")?;
                let mut signed = vec![4; HEAD];
                signed[..8].copy_from_slice(&(number as u64).to_be_bytes());
                signed.extend_from_slice(blake3::hash(&sealed).as_bytes());
                signed.extend_from_slice(blake3::hash(&body).as_bytes());
                let signature = author.sign(&signed).to_bytes();
                data.letters.push(Letter { signed, signature, sealed, body });
            }
        }
        Ok(data)
    }

    /// Bytes of a message on average.
    pub(crate) fn bytes_each(&self) -> usize {
        let all = self.letters.iter();
        let bytes = all.map(|l| l.signed.len() + 64 + l.sealed.len() + l.body.len());
        bytes.sum::<usize>() / self.letters.len().max(1)
    }

    /// The loop. A fresh database is made in `dir`.
    pub(crate) fn run(&self, dir: &Path) -> Result<Duration> {
        let path = dir.join("floor.redb");
        let db = Database::builder().set_cache_size(32 << 20).create(&path)?;
        let began = Instant::now();
        for (segment, genesis) in self.letters.chunks(SEGMENT).zip(&self.genesis) {
            let mut doc = Automerge::new().with_actor(ActorId::from([2; 16]));
            doc.apply_changes([Change::from_bytes(genesis.clone())?])?;
            for batch in segment.chunks(BATCH) {
                self.batch(&db, &mut doc, batch)?;
            }
        }
        let took = began.elapsed();
        drop(db);
        std::fs::remove_file(path)?;
        Ok(took)
    }

    fn batch(&self, db: &Database, doc: &mut Automerge, letters: &[Letter]) -> Result<()> {
        let mut changes = Vec::with_capacity(letters.len());
        let mut bodies = Vec::with_capacity(letters.len());
        for letter in letters {
            let Letter { signed, signature, sealed, body } = letter;
            self.author.verify_strict(signed, &Signature::from_bytes(signature))?;
            ensure!(signed[HEAD..HEAD + 32] == *blake3::hash(sealed).as_bytes());
            ensure!(signed[HEAD + 32..] == *blake3::hash(body).as_bytes());
            let number = u64::from_be_bytes(signed[..8].try_into()?) as usize;
            let plain = cipher(&self.key).decrypt(&nonce(number), sealed.as_slice());
            let plain = plain.ok().context("opens")?;
            let (body_key, change) = plain.split_first_chunk::<32>().context("a key")?;
            let text = cipher(body_key).decrypt(&nonce(0), body.as_slice()).ok();
            changes.push(Change::from_bytes(change.to_vec())?);
            bodies.push(text.context("opens")?);
        }
        doc.apply_changes(changes)?;
        let mut transaction = db.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        transaction.set_two_phase_commit(true);
        transaction.set_quick_repair(true);
        {
            let mut log = transaction.open_table(LOG)?;
            let mut sealed_bodies = transaction.open_table(BODIES)?;
            let mut messages = transaction.open_table(MESSAGES)?;
            for (letter, text) in letters.iter().zip(&bodies) {
                let mut key = [3; 72];
                key[64..].copy_from_slice(&letter.signed[..8]);
                let frame = [&letter.signed, letter.signature.as_slice(), &letter.sealed].concat();
                log.insert(key.as_slice(), frame.as_slice())?;
                sealed_bodies.insert(key.as_slice(), letter.body.as_slice())?;
                // The text and what is shown beside it.
                let row = [text.as_slice(), &[0; 64]].concat();
                messages.insert(key.as_slice(), row.as_slice())?;
            }
        }
        transaction.commit()?;
        Ok(())
    }
}
