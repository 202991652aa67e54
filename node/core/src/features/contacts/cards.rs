//! Contact cards: the account's card keys, the links that are handed out, and the secrets by
//! which a request proves that it was invited.

use rand_core::Rng;
use teahouse_protocols::account::AccountOp;
use teahouse_protocols::card::{ContactCard, LinkSecret, VerifiedCard};
use teahouse_protocols::ids::{Tag, TopicId};
use teahouse_protocols::link::Link;
use teahouse_protocols::mailbox::secret_hash;
use teahouse_protocols::membership::Role;
use teahouse_protocols::seal::OpeningKey;
use teahouse_protocols::sign::SigningKey;

use super::private::{put_secret, secret};
use crate::command::{Refusal, Reply};
use crate::engine::{accounts, mail, topics};
use crate::store::{KeyRange, ReadExt, StorageError};
use crate::tables::{Chosen, SECRETS};
use crate::tx::{Fail, Tx, capped};

const CARD_PREFIX: &str = "c/";

/// Makes the keys that stand on contact cards, and tells the account's log.
pub(crate) fn make_card_keys(tx: &mut Tx<'_>) -> Result<(), Fail> {
    let inbox_key = OpeningKey::generate(tx.rng);
    let mut seed = [0; 32];
    tx.rng.fill_bytes(&mut seed);
    let tag = Tag(SigningKey::from_bytes(&seed).verifying_key().to_bytes());
    put_secret(tx, "card inbox", inbox_key.to_bytes().to_vec())?;
    put_secret(tx, "card tag", seed.to_vec())?;
    accounts::append(tx, AccountOp::SetCard { inbox_key: inbox_key.public(), tag })?;
    tx.mem.mail_due = true;
    Ok(())
}

/// The key of the card's tag.
pub(crate) fn card_tag_key(tx: &Tx<'_>) -> Result<Option<SigningKey>, StorageError> {
    Ok(secret(tx, "card tag")?
        .and_then(|b| <[u8; 32]>::try_from(b).ok())
        .map(|seed| SigningKey::from_bytes(&seed)))
}

/// Hashes of the invite secrets in force, at most 32, as the relay gets them.
pub(crate) fn card_secret_hashes(tx: &Tx<'_>) -> Result<Vec<[u8; 32]>, StorageError> {
    let rows: Vec<(Vec<u8>, Chosen<Vec<u8>>)> =
        tx.scan_typed(&SECRETS, &KeyRange::prefix(CARD_PREFIX.as_bytes()), true, 4_096)?;
    let mut newest: Vec<(u64, [u8; 32])> = Vec::new();
    for (key, row) in rows {
        let used: Option<CardUse> = postcard::from_bytes(&row.value).ok();
        if used.is_none_or(|u| u.left == 0) {
            continue;
        }
        let hex = key.get(CARD_PREFIX.len()..).unwrap_or_default();
        if let Some(secret) = unhex(hex) {
            newest.push((row.lamport, secret_hash(&secret)));
        }
    }
    newest.sort_unstable_by(|a, b| b.cmp(a));
    newest.truncate(32);
    Ok(newest.into_iter().map(|(_, h)| h).collect())
}

/// What is kept of a card that was handed out, by its secret.
#[derive(serde::Serialize, serde::Deserialize)]
pub(super) struct CardUse {
    pub(super) left: u32,
    pub(super) welcome_to: Option<TopicId>,
}

pub(super) fn card(tx: &mut Tx<'_>, uses: u32, welcome_to: Option<TopicId>) -> Result<Reply, Fail> {
    let account = tx.account()?;
    let me = tx.me()?;
    if let Some(topic) = welcome_to
        && topics::my_role(tx, topic)? < Some(Role::Admin)
    {
        return Err(Refusal::NotAllowed {
            why: "only an admin can welcome people into the group".into(),
        }
        .into());
    }
    let mut secret = [0; 16];
    tx.rng.fill_bytes(&mut secret);
    let value = CardUse { left: uses.clamp(1, 100_000), welcome_to };
    let value = postcard::to_stdvec(&value).map_err(Fail::peer)?;
    put_secret(tx, &card_name(&secret), value)?;
    mail::reopen_card(tx)?;
    let log = accounts::log(tx, account)?.ok_or(Refusal::NoAccount)?;
    let state = log.state();
    let keys = state.card.ok_or_else(|| Fail::peer("the account has no card keys"))?;
    let relays: Vec<_> = state.relays.iter().take(2).cloned().collect();
    let card = ContactCard {
        version: 1,
        account,
        device: me.device,
        name: state.name.clone(),
        inbox_key: keys.inbox_key,
        tag: keys.tag,
        relays: capped(relays),
        secret: LinkSecret(secret),
        proof: ContactCard::proof_for(&log, &me.device).map_err(Fail::peer)?,
    };
    let card = VerifiedCard::sign(card, &me.key).map_err(Fail::peer)?;
    Ok(Reply::Card { link: Link::Card(Box::new(card)).to_uri() })
}

/// A secret's name: the prefix and 15 of its bytes, in base64 to fit 32 bytes.
pub(super) fn card_name(secret: &[u8; 16]) -> String {
    let mut name = CARD_PREFIX.to_owned();
    name.push_str(&data_encoding::BASE64URL_NOPAD.encode(secret));
    name
}

fn unhex(encoded: &[u8]) -> Option<[u8; 16]> {
    data_encoding::BASE64URL_NOPAD.decode(encoded).ok()?.try_into().ok()
}
