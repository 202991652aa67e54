//! The sealed mailbox of a community relay.
//!
//! A relay keeps *items* (opaque bytes) per *tag* (an ed25519 public key). Whoever can sign
//! for a tag may read it:
//!
//! - a **topic tag** is derived from an epoch's secret and the week, so members can read
//!   and write it and nobody else can do either;
//! - a **device inbox tag** is random, stands in the prekey bundle, and takes items from
//!   whoever knows it;
//! - a **card tag** stands on a contact card and takes requests of strangers who show its
//!   invite secret (by hash), or a small daily allowance of others.
//!
//! Opening a tag costs a token. Items get rising indices per tag, are acknowledged once
//! durable, kept until their age exceeds the relay's limit, and deleted earlier only by the
//! delete secret whose hash was deposited with them. The same bytes deposited twice are one
//! item, so resending is safe. What is deposited under a topic tag is sealed once more
//! ([`seal_topic_mail`]): a relay sees tags, sizes and times, nothing else.

use serde::{Deserialize, Serialize};

use crate::codec::{self, Bytes, DecodeError, List, Text, Wire};
use crate::cursor::MAX_CURSOR;
use crate::envelope::{MAX_BODY, MAX_ENVELOPE};
use crate::epoch::EpochSecret;
use crate::ids::{RelayId, Tag};
use crate::inbox::{MAX_INBOX, MAX_OP};
use crate::seal::{self, OpenError};
use crate::sign::{self, BadSignature, Domain, Signature, SigningKey};

/// Most bytes of one item.
pub const MAX_ITEM: usize = MAX_INBOX + 16 * 1024;
/// Most bytes of one request or reply.
pub const MAX_MAIL: usize = 1024 * 1024;
/// Most tags named in one fetch.
pub const MAX_READS: usize = 256;
/// Most tags watched by one session.
pub const MAX_WATCHED: usize = 8_192;

/// A right to open one tag. Spent once.
pub type Token = [u8; 16];

/// What a tag is for; it decides who may deposit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TagKind {
    /// Deposits are signed with the tag's key.
    Topic,
    /// Anyone who knows the tag may deposit, within its quota.
    Inbox,
    /// Deposits show a secret whose hash is here, or use the daily allowance.
    Card {
        /// Hashes ([`secret_hash`]) of the invite secrets in force.
        secrets: List<[u8; 32], 32>,
    },
}

/// Something deposited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Opaque to the relay.
    pub bytes: Bytes<MAX_ITEM>,
    /// Hash of the secret that deletes it early.
    pub delete: Option<[u8; 32]>,
}

/// A tag to watch, and from where on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// The tag.
    pub tag: Tag,
    /// Highest index already held; 0 for none.
    pub after: u64,
    /// Signature by the tag's key, see [`read_proof`].
    pub proof: Signature,
}

/// What a client asks of a relay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// First word of a session: gives the challenge for reads. Said again, the session watches
    /// nothing any more.
    Hello,
    /// Become a member: an invite code for tokens.
    Admit {
        /// From the invite link.
        code: [u8; 16],
    },
    /// One token for a batch of fresh ones.
    Refill {
        /// Spent.
        token: Token,
    },
    /// Open a tag, or replace the secrets of an open card tag.
    Open {
        /// The tag.
        tag: Tag,
        /// Its kind.
        kind: TagKind,
        /// Spent, unless the tag was open already.
        token: Token,
        /// Signature by the tag's key, see [`open_proof`].
        proof: Signature,
    },
    /// Leave items under a tag.
    Deposit {
        /// The tag.
        tag: Tag,
        /// In order.
        items: List<Item, 256>,
        /// What entitles the depositor.
        right: Right,
    },
    /// What has come under the tags that the session watches, beyond what it was given or says
    /// that it has; with `wait`, hold the answer until something comes (at most 30 s). A
    /// session has one held fetch: the next takes its place, and it is answered with nothing.
    Fetch {
        /// Tags to watch from now on, for the session's life; those that it watches already
        /// are begun anew. [`MAX_WATCHED`] in all.
        reads: List<Read, MAX_READS>,
        /// Whether to wait when there is nothing.
        wait: bool,
    },
    /// Delete an item early.
    Delete {
        /// The tag.
        tag: Tag,
        /// Preimage of [`Item::delete`] under [`secret_hash`].
        secret: [u8; 32],
    },
}

/// What entitles a depositor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Right {
    /// Nothing: an inbox tag, or a card tag's allowance.
    None,
    /// A topic tag's signature, see [`write_proof`].
    Member(Signature),
    /// The invite secret of a card.
    Invite([u8; 16]),
}

/// What a relay answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// To [`Request::Hello`].
    Hello {
        /// The relay.
        relay: RelayId,
        /// To be signed in reads of this session.
        challenge: [u8; 32],
        /// How long items are kept, in days.
        keep_days: u16,
        /// The community's name.
        name: Text<64>,
    },
    /// Fresh tokens.
    Tokens(List<Token, 256>),
    /// The tag is open; whether the token was spent.
    Opened {
        /// False when the tag was open already.
        spent: bool,
    },
    /// All items are durable; the highest index under the tag.
    Deposited {
        /// Index of the last item.
        last: u64,
    },
    /// What there is, oldest first within each tag.
    Items {
        /// (tag, index, bytes).
        items: List<(Tag, u64, Bytes<MAX_ITEM>), 1_024>,
        /// Tags named in the request that are not open here. They are watched all the same.
        closed: List<Tag, MAX_READS>,
        /// Whether more is there than fitted.
        more: bool,
        /// How many tags the session watches. Fewer than it believes: it says hello again.
        watched: u32,
        /// The how many-th answer this is since the session watches something: what one leaves
        /// out, an earlier one held. Answers can overtake each other on their way. 0 while
        /// nothing is watched.
        nth: u64,
    },
    /// Deleted (or never there).
    Deleted,
    /// No, and why.
    Refused(Refusal),
}

/// Why a relay says no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// Not a request of this version.
    #[error("the relay did not understand the request")]
    Malformed,
    /// The session has no challenge (the relay restarted): say hello again.
    #[error("the relay does not know this session")]
    NoSession,
    /// A signature doesn't hold.
    #[error("the relay refused the proof")]
    BadProof,
    /// The invite code is unknown, used up or expired.
    #[error("the invite code is not valid, or used up")]
    BadCode,
    /// The token is unknown or spent.
    #[error("the token is not valid")]
    BadToken,
    /// Nobody opened this tag here.
    #[error("the recipient has no such mailbox at this relay")]
    Closed,
    /// The tag holds as much as it may.
    #[error("the recipient's mailbox at this relay is full")]
    TagFull,
    /// The relay's disk quota is reached; it evicts nothing.
    #[error("the relay is full")]
    RelayFull,
    /// Too many requests.
    #[error("the relay asks to slow down")]
    SlowDown,
    /// The relay is being drained and takes nothing new.
    #[error("the relay is closing down and takes nothing new")]
    Draining,
    /// The relay could not make it durable.
    #[error("the relay could not store it")]
    Storage,
}

impl Wire for Request {
    const NAME: &'static str = "mailbox request";
    const MAX_BYTES: usize = MAX_MAIL;
}

impl Wire for Reply {
    const NAME: &'static str = "mailbox reply";
    const MAX_BYTES: usize = MAX_MAIL;
}

/// Proof of the right to read `tag` in a session with this challenge.
#[must_use]
pub fn read_proof(key: &SigningKey, relay: RelayId, challenge: &[u8; 32]) -> Signature {
    sign::sign(Domain::MAILBOX_READ, key, &read_message(relay, challenge))
}

/// Checks a [`read_proof`].
///
/// # Errors
/// [`BadSignature`].
pub fn check_read(
    tag: Tag,
    relay: RelayId,
    challenge: &[u8; 32],
    proof: &Signature,
) -> Result<(), BadSignature> {
    sign::verify(Domain::MAILBOX_READ, &tag.0, &read_message(relay, challenge), proof)
}

/// Proof of the right to write `items` under a topic tag.
#[must_use]
pub fn write_proof(key: &SigningKey, relay: RelayId, items: &[Item]) -> Signature {
    sign::sign(Domain::MAILBOX_WRITE, key, &write_message(relay, items))
}

/// Checks a [`write_proof`].
///
/// # Errors
/// [`BadSignature`].
pub fn check_write(
    tag: Tag,
    relay: RelayId,
    items: &[Item],
    proof: &Signature,
) -> Result<(), BadSignature> {
    sign::verify(Domain::MAILBOX_WRITE, &tag.0, &write_message(relay, items), proof)
}

/// Proof that who opens `tag` at a relay holds its key.
#[must_use]
pub fn open_proof(key: &SigningKey, relay: RelayId, kind: &TagKind) -> Signature {
    sign::sign(Domain::MAILBOX_OPEN, key, &open_message(relay, kind))
}

/// Checks an [`open_proof`].
///
/// # Errors
/// [`BadSignature`].
pub fn check_open(
    tag: Tag,
    relay: RelayId,
    kind: &TagKind,
    proof: &Signature,
) -> Result<(), BadSignature> {
    sign::verify(Domain::MAILBOX_OPEN, &tag.0, &open_message(relay, kind), proof)
}

/// How invite and delete secrets are known to a relay.
#[must_use]
pub fn secret_hash(secret: &[u8]) -> [u8; 32] {
    sign::hash(Domain::MAILBOX_SECRET, &[secret])
}

/// What members leave for each other under a topic tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TopicMail {
    /// An encoded envelope.
    Envelope(Bytes<MAX_ENVELOPE>),
    /// A sealed body.
    Body(Bytes<MAX_BODY>),
    /// A signed cursor.
    Cursor(Bytes<MAX_CURSOR>),
    /// A signed membership record.
    Op(Bytes<MAX_OP>),
}

impl Wire for TopicMail {
    const NAME: &'static str = "topic mail";
    const MAX_BYTES: usize = MAX_ENVELOPE + 8;
}

/// Seals once more for deposit under `tag`. The result is a function of the arguments, so
/// that depositing again after a crash leaves one item.
#[must_use]
pub fn seal_topic_mail(mail: &TopicMail, secret: &EpochSecret, tag: Tag) -> Vec<u8> {
    let plain = codec::encode(mail);
    seal::aead_seal_repeatable(&secret.deposit_key(), &[tag.as_bytes()], &plain)
}

/// Opens what was deposited under `tag`.
///
/// # Errors
/// [`OpenError`] for anything that no member deposited here.
pub fn open_topic_mail(
    sealed: &[u8],
    secret: &EpochSecret,
    tag: Tag,
) -> Result<TopicMail, OpenError> {
    let plain = seal::aead_open(&secret.deposit_key(), &[tag.as_bytes()], sealed)?;
    codec::decode(&plain).map_err(|_: DecodeError| OpenError)
}

fn read_message(relay: RelayId, challenge: &[u8; 32]) -> Vec<u8> {
    [relay.as_bytes().as_slice(), challenge].concat()
}

fn open_message(relay: RelayId, kind: &TagKind) -> Vec<u8> {
    let kind = postcard::to_stdvec(kind).expect("plain data");
    [relay.as_bytes().as_slice(), &kind].concat()
}

fn write_message(relay: RelayId, items: &[Item]) -> Vec<u8> {
    let mut m = relay.as_bytes().to_vec();
    for item in items {
        m.extend_from_slice(&sign::hash(
            Domain::MAILBOX_WRITE,
            &[&item.bytes, item.delete.as_ref().map_or(&[][..], |d| d.as_slice())],
        ));
    }
    m
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proofs_are_bound_to_relay_session_and_items() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let tag = Tag(key.verifying_key().to_bytes());
        let (here, there) = (RelayId([1; 32]), RelayId([2; 32]));
        let proof = read_proof(&key, here, &[3; 32]);
        assert!(check_read(tag, here, &[3; 32], &proof).is_ok());
        assert!(check_read(tag, there, &[3; 32], &proof).is_err());
        assert!(check_read(tag, here, &[4; 32], &proof).is_err());

        let item = |b: &[u8]| Item { bytes: b.to_vec().try_into().unwrap(), delete: None };
        let proof = write_proof(&key, here, &[item(b"a"), item(b"b")]);
        assert!(check_write(tag, here, &[item(b"a"), item(b"b")], &proof).is_ok());
        assert!(check_write(tag, here, &[item(b"ab")], &proof).is_err());
        assert!(check_read(tag, here, &[3; 32], &proof).is_err());
    }
}
