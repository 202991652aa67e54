//! Tokens: a relay's permission to open tags, spent one for one and refilled in time.

use std::collections::BTreeSet;

use teahouse_protocols::ids::RelayId;
use teahouse_protocols::mailbox::Token;

use super::pump::{MAX_INFLIGHT, Pump};
use super::session::Pending;
use crate::engine::accounts;
use crate::store::{Key, KeyRange, ReadExt, StorageError};
use crate::tables::{TOKENS, TagSource};
use crate::tx::{Fail, Tx};

/// Tokens that no topic's tag takes.
const KEPT_TOKENS: usize = 8;

/// Takes tokens out, for a new device of the account.
pub(crate) fn share_tokens(
    tx: &mut Tx<'_>,
    most: usize,
) -> Result<Vec<(RelayId, Vec<Token>)>, Fail> {
    let account = tx.account()?;
    let mut out = Vec::new();
    for relay in accounts::relays_of(tx, account)? {
        // Half of them at most: with none left, none can be asked for.
        let all = KeyRange::prefix(&relay.id.0);
        let most = most.min(tx.count(&TOKENS, &all, 2 * most)? / 2);
        let rows = tx.scan(&TOKENS, &all, true, most)?;
        let mut tokens = Vec::new();
        for (key, _) in rows {
            tokens.push(token_of(&key));
            tx.del(&TOKENS, &key)?;
        }
        out.push((relay.id, tokens));
    }
    Ok(out)
}

/// Puts tokens in.
pub(crate) fn take_tokens(
    tx: &mut Tx<'_>,
    list: &[(RelayId, Vec<Token>)],
) -> Result<(), StorageError> {
    for (relay, tokens) in list.iter().take(8) {
        for token in tokens.iter().take(64) {
            tx.put_raw(&TOKENS, &token_key(*relay, token), Vec::new())?;
        }
    }
    tx.mem.mail_due = true;
    Ok(())
}

pub(super) fn add_tokens(
    tx: &mut Tx<'_>,
    relay: RelayId,
    tokens: &[Token],
) -> Result<(), StorageError> {
    for token in tokens {
        tx.put_raw(&TOKENS, &token_key(relay, token), Vec::new())?;
    }
    tx.mem.mail_due = true;
    Ok(())
}

impl Pump<'_, '_> {
    /// A token that no request under way uses. The last ones are for what must not wait: a
    /// relay gives a member only so many a day, and one is needed to ask for more.
    pub(super) fn take_token(
        &mut self,
        relay: RelayId,
        source: TagSource,
    ) -> Result<Option<Token>, Fail> {
        let used: BTreeSet<Token> = self
            .session(relay)
            .inflight
            .values()
            .filter_map(|p| match p {
                Pending::Open(_, token) | Pending::Refill(token) => Some(*token),
                _ => None,
            })
            .collect();
        let kept = if matches!(source, TagSource::Topic(..)) { KEPT_TOKENS } else { 0 };
        let most = MAX_INFLIGHT + KEPT_TOKENS + 2;
        let rows = self.tx.scan(&TOKENS, &KeyRange::prefix(&relay.0), false, most)?;
        Ok(rows.iter().map(|(k, _)| token_of(k)).filter(|t| !used.contains(t)).nth(kept))
    }
}

pub(super) fn token_key(relay: RelayId, token: &Token) -> Vec<u8> {
    Key::new().fixed(&relay.0).fixed(token).into_bytes()
}

pub(super) fn token_of(key: &[u8]) -> Token {
    key.last_chunk::<16>().copied().unwrap_or_default()
}
