//! The first pass over a batch: what can be said without deciding anything. Bytes are decoded,
//! what is refused cheaply is refused, and all signatures of the batch are checked at once, in
//! parallel.

use rayon::prelude::*;
use teahouse_protocols::codec::{self, Text};
use teahouse_protocols::ids::{RelayId, Tag};
use teahouse_protocols::mailbox::{
    Item, Refusal, Reply, Request, Right, TagKind, check_open, check_read, check_write,
};
use teahouse_protocols::sign::Signature;

use super::sessions::{PROOFS_PER_REQUEST, Sessions};
use super::store::{TAGS, TagRow};
use super::{RelayConfig, RelayInput};
use crate::env::Env;
use crate::store::{Read, ReadExt};

/// The bound of the name in [`Reply::Hello`].
const NAME_BYTES: usize = 64;

/// An input after the first pass.
pub(super) enum Prepared {
    /// A request to decide. `proven` is `None` where its signature was not checked yet.
    Request { id: u64, session: u64, request: Request, proven: Option<bool> },
    /// A request whose answer is known.
    Answer { id: u64, reply: Reply },
    /// The first word of a session, or a new beginning.
    Hello { id: u64, session: u64, reply: Reply },
    /// Anything else.
    Other(RelayInput),
}

/// What the first pass needs to know.
pub(super) struct Surroundings<'a> {
    pub(super) relay: RelayId,
    pub(super) config: &'a RelayConfig,
    pub(super) snapshot: &'a dyn Read,
    /// Whether the relay drains before the batch.
    pub(super) draining: bool,
    pub(super) uptime: u64,
}

impl Surroundings<'_> {
    fn hello(&self, challenge: [u8; 32]) -> Reply {
        let name = &self.config.name;
        let name = &name[..name.floor_char_boundary(NAME_BYTES)];
        Reply::Hello {
            relay: self.relay,
            challenge,
            keep_days: self.config.keep_days,
            name: Text::try_from(name).unwrap_or_default(),
        }
    }
}

/// A signature to check, for the input at a position.
enum Check<'a> {
    Read { tag: Tag, challenge: [u8; 32], proof: &'a Signature },
    Write { tag: Tag, items: &'a [Item], proof: &'a Signature },
    Open { tag: Tag, kind: &'a TagKind, proof: &'a Signature },
}

impl Check<'_> {
    fn holds(&self, relay: RelayId) -> bool {
        match self {
            Self::Read { tag, challenge, proof } => check_read(*tag, relay, challenge, proof),
            Self::Write { tag, items, proof } => check_write(*tag, relay, items, proof),
            Self::Open { tag, kind, proof } => check_open(*tag, relay, kind, proof),
        }
        .is_ok()
    }
}

/// The first pass.
pub(super) fn prepare(
    around: &Surroundings<'_>,
    sessions: &mut Sessions,
    env: &mut Env,
    batch: Vec<RelayInput>,
) -> Vec<Prepared> {
    let mut draining = around.draining;
    let mut prepared: Vec<Prepared> = Vec::with_capacity(batch.len());
    for input in batch {
        prepared.push(match input {
            RelayInput::Request { id, session, bytes } => {
                match receive(around, sessions, env, session, &bytes, draining) {
                    Ok(request) => Prepared::Request { id, session, request, proven: None },
                    Err(reply @ Reply::Hello { .. }) => Prepared::Hello { id, session, reply },
                    Err(reply) => Prepared::Answer { id, reply },
                }
            }
            RelayInput::SessionClosed { session } => {
                sessions.close(session);
                Prepared::Other(RelayInput::SessionClosed { session })
            }
            RelayInput::Drain(drain) => {
                draining = drain;
                Prepared::Other(RelayInput::Drain(drain))
            }
            other => Prepared::Other(other),
        });
    }

    let results = verify(around, sessions, &prepared);
    for (input, proven) in prepared.iter_mut().zip(results) {
        if let Prepared::Request { proven: slot, .. } = input {
            *slot = proven;
        }
    }
    prepared
}

/// Decodes a request, and answers or refuses what can be by looking at it.
fn receive(
    around: &Surroundings<'_>,
    sessions: &mut Sessions,
    env: &mut Env,
    session: u64,
    bytes: &[u8],
    draining: bool,
) -> Result<Request, Reply> {
    let refuse = |why| Err(Reply::Refused(why));
    let session = sessions.session(session, around.uptime);
    if !session.spend(1) {
        return refuse(Refusal::SlowDown);
    }
    let Ok(request) = codec::decode::<Request>(bytes) else {
        return refuse(Refusal::Malformed);
    };
    match &request {
        Request::Hello => return Err(around.hello(session.hello(&mut env.rng))),
        Request::Open { .. } | Request::Deposit { .. } if draining => {
            return refuse(Refusal::Draining);
        }
        Request::Deposit { items, .. } if items.is_empty() => return refuse(Refusal::Malformed),
        Request::Fetch { reads, .. } => {
            if session.challenge().is_none() {
                return refuse(Refusal::NoSession);
            }
            if !session.spend(reads.len() as u64 / PROOFS_PER_REQUEST) {
                return refuse(Refusal::SlowDown);
            }
        }
        _ => {}
    }
    Ok(request)
}

/// Checks the batch's signatures. One result per input; `None` where there was none to check.
fn verify(
    around: &Surroundings<'_>,
    sessions: &mut Sessions,
    prepared: &[Prepared],
) -> Vec<Option<bool>> {
    let mut checks: Vec<(usize, Check<'_>)> = Vec::new();
    let mut results = vec![None; prepared.len()];
    for (position, input) in prepared.iter().enumerate() {
        let Prepared::Request { session, request, .. } = input else { continue };
        match request {
            Request::Fetch { reads, .. } => {
                results[position] = Some(true);
                // The session may have been closed by a later input of this batch. Then
                // nobody waits for the answer.
                let Some(challenge) = sessions.known(*session).and_then(|s| s.challenge()) else {
                    results[position] = Some(false);
                    continue;
                };
                checks.extend(reads.iter().map(|read| {
                    (position, Check::Read { tag: read.tag, challenge, proof: &read.proof })
                }));
            }
            Request::Deposit { tag, items, right: Right::Member(proof) }
                // Most floods end here, for the price of a look-up. Where the tag is opened
                // by this very batch, the signature is checked when the deposit is decided.
                if is_topic(around.snapshot, *tag) => {
                    checks.push((position, Check::Write { tag: *tag, items, proof }));
                }
            Request::Open { tag, kind, proof, .. } => {
                checks.push((position, Check::Open { tag: *tag, kind, proof }));
            }
            _ => {}
        }
    }
    let relay = around.relay;
    let held: Vec<bool> = checks.par_iter().map(|(_, check)| check.holds(relay)).collect();
    for ((position, _), holds) in checks.iter().zip(held) {
        let result = results[*position].get_or_insert(true);
        *result &= holds;
    }
    results
}

fn is_topic(snapshot: &dyn Read, tag: Tag) -> bool {
    let row = snapshot.get_typed::<TagRow>(&TAGS, &tag.0);
    matches!(row, Ok(Some(TagRow { kind: Some(TagKind::Topic), .. })))
}
