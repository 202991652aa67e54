//! The relay against a plain model of itself, and each of its rules.

mod held;
mod model;
mod rules;

use teahouse_protocols::codec;
use teahouse_protocols::ids::{Millis, RelayId, Tag};
use teahouse_protocols::mailbox::{
    Item, Read, Reply, Request, Right, TagKind, Token, open_proof, read_proof, write_proof,
};
use teahouse_protocols::sign::{Signature, SigningKey};

use super::store::DAY;
use super::{Relay, RelayConfig, RelayInput, RelayOutputs};
use crate::env::Env;
use crate::store::backends::SimDisk;
use crate::store::{StorageError, Store};

const RELAY: RelayId = RelayId([9; 32]);
const START: Millis = 20_000 * DAY;

/// A relay on a simulated disk, and a client that talks to it.
struct Bench {
    relay: Relay,
    env: Env,
    disk: SimDisk,
    config: RelayConfig,
    next: u64,
}

impl Bench {
    fn new(config: RelayConfig) -> Self {
        let disk = SimDisk::new();
        let mut env = Env::seeded(START, [1; 32]);
        let store = Store::on_disk(&disk).unwrap();
        let relay = Relay::open(store, RELAY, config.clone(), &mut env).unwrap();
        Self { relay, env, disk, config, next: 0 }
    }

    fn restart(&mut self) {
        // A fault that is still armed may hit the opening.
        let store = (0..9).find_map(|_| Store::on_disk(&self.disk).ok()).unwrap();
        self.relay = Relay::open(store, RELAY, self.config.clone(), &mut self.env).unwrap();
    }

    fn request(&mut self, session: u64, request: &Request) -> RelayInput {
        self.next += 1;
        RelayInput::Request { id: self.next, session, bytes: codec::encode(request) }
    }

    fn try_step(&mut self, batch: Vec<RelayInput>) -> Result<RelayOutputs, StorageError> {
        self.relay.step(&mut self.env, batch)
    }

    fn step(&mut self, batch: Vec<RelayInput>) -> RelayOutputs {
        self.try_step(batch).unwrap()
    }

    /// Asks and expects an answer at once.
    fn ask(&mut self, session: u64, request: &Request) -> Reply {
        let input = self.request(session, request);
        let answers = self.step(vec![input]).answers;
        assert_eq!(answers.len(), 1);
        assert_eq!(answers[0].0, self.next);
        codec::decode(&answers[0].1).unwrap()
    }

    /// Ticks until nothing is left to be done now.
    fn tick(&mut self) {
        for _ in 0..100 {
            let out = self.step(vec![RelayInput::Tick]);
            if out.wake.is_none_or(|at| at > self.env.now) {
                return;
            }
        }
        panic!("the relay spins");
    }

    fn hello(&mut self, session: u64) -> [u8; 32] {
        match self.ask(session, &Request::Hello) {
            Reply::Hello { relay: RELAY, challenge, .. } => challenge,
            other => panic!("{other:?}"),
        }
    }

    fn invite(&mut self, uses: u32, days: u32) -> [u8; 16] {
        self.next += 1;
        let id = self.next;
        let out = self.step(vec![RelayInput::Invite { id, uses, days }]);
        assert_eq!((out.invites.len(), out.invites[0].0), (1, id));
        out.invites[0].1
    }

    fn tokens(&mut self) -> Vec<Token> {
        let code = self.invite(1, 1);
        tokens(self.ask(1, &Request::Admit { code }))
    }

    /// Opens a tag with a fresh member's token.
    fn open(&mut self, key: &SigningKey, kind: TagKind) {
        let token = self.tokens()[0];
        assert_eq!(self.ask(1, &open(key, kind, token)), Reply::Opened { spent: true });
    }

    /// A fetch by a session that watches nothing else.
    fn fetch(&mut self, session: u64, reads: &[(&SigningKey, u64)], wait: bool) -> Request {
        let challenge = self.hello(session);
        let reads: Vec<_> =
            reads.iter().map(|(key, after)| read(key, *after, &challenge)).collect();
        Request::Fetch { reads: reads.try_into().unwrap(), wait }
    }

    /// Indices and bytes under one tag.
    fn read(&mut self, key: &SigningKey, after: u64) -> Vec<(u64, Vec<u8>)> {
        let request = self.fetch(1, &[(key, after)], false);
        let (items, ..) = items(self.ask(1, &request));
        items.into_iter().map(|(_, index, bytes)| (index, bytes)).collect()
    }
}

fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

fn tag(key: &SigningKey) -> Tag {
    Tag(key.verifying_key().to_bytes())
}

fn item(bytes: &[u8]) -> Item {
    Item { bytes: bytes.to_vec().try_into().unwrap(), delete: None }
}

fn card(secrets: &[[u8; 32]]) -> TagKind {
    TagKind::Card { secrets: secrets.to_vec().try_into().unwrap() }
}

fn open(key: &SigningKey, kind: TagKind, token: Token) -> Request {
    let proof = open_proof(key, RELAY, &kind);
    Request::Open { tag: tag(key), kind, token, proof }
}

fn read(key: &SigningKey, after: u64, challenge: &[u8; 32]) -> Read {
    Read { tag: tag(key), after, proof: read_proof(key, RELAY, challenge) }
}

fn deposit(key: &SigningKey, items: Vec<Item>, right: Right) -> Request {
    Request::Deposit { tag: tag(key), items: items.try_into().unwrap(), right }
}

/// A deposit under a topic tag.
fn write(key: &SigningKey, items: Vec<Item>) -> Request {
    let right = Right::Member(write_proof(key, RELAY, &items));
    deposit(key, items, right)
}

fn tokens(reply: Reply) -> Vec<Token> {
    match reply {
        Reply::Tokens(tokens) => tokens.into_inner(),
        other => panic!("{other:?}"),
    }
}

type Items = (Vec<(Tag, u64, Vec<u8>)>, Vec<Tag>, bool);

fn items(reply: Reply) -> Items {
    let Reply::Items { items, closed, more, .. } = reply else { panic!("{reply:?}") };
    let items = items.into_iter().map(|(tag, index, bytes)| (tag, index, bytes.into_inner()));
    (items.collect(), closed.into_inner(), more)
}

fn decoded(out: &RelayOutputs) -> Vec<(u64, Reply)> {
    out.answers.iter().map(|(id, bytes)| (*id, codec::decode(bytes).unwrap())).collect()
}

const BAD: Signature = Signature([7; 64]);
