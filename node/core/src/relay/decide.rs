//! The second pass: one input at a time, decided on writes staged above the batch.
//!
//! Every function checks first and writes last, or is dropped with all its writes: a refusal
//! leaves nothing behind.

use rand_core::CryptoRng;
use teahouse_protocols::codec::List;
use teahouse_protocols::ids::{Millis, RelayId, Tag};
use teahouse_protocols::mailbox::{
    Item, Refusal, Reply, Request, Right, TagKind, Token, check_write, secret_hash,
};

use super::store::{
    CODES, Code, DELETES, DUE, DUE_CODE, DUE_TAG, HASHES, HEADS, Head, ITEMS, MEMBERS, Member,
    SERIALS, TAGS, TOKENS, TagRow, Totals, charge, delete_key, due_key, hash_key, head_key,
    item_key, serial_key,
};
use super::store::{DAY, META, TOTALS};
use super::{Progress, RelayConfig, RelayInput, sweep};
use crate::env::Env;
use crate::store::{Key, KeyRange, KeyReader, Read, ReadExt, Stage, StorageError};

/// Tokens given at once.
pub(super) const TOKENS_AT_ONCE: usize = 64;
/// Tokens a member gets on one day, at most.
pub(super) const TOKENS_PER_DAY: u32 = 512;
/// A token holds until its member has been given this many more: what bounds their rows
/// without shutting out who was away for a year.
pub(super) const TOKENS_KEPT: u64 = 4_096;
/// Items of strangers without an invite secret that a card tag takes per day.
pub(super) const ALLOWANCE: u32 = 8;
/// Items one delete request removes at most.
pub(super) const DELETES_AT_ONCE: usize = 1_024;
/// Longest life of an invite code, in days.
pub(super) const MAX_CODE_DAYS: u32 = 3_650;
/// Days for which a tag is kept beyond the age of items, without fetch or deposit.
pub(super) const IDLE_DAYS: u64 = 7;

/// A client is told no more than that. [`RelayStatus::faults`](super::RelayStatus::faults)
/// counts them.
impl From<StorageError> for Refusal {
    fn from(_: StorageError) -> Self {
        Self::Storage
    }
}

/// The decision of one input: its writes, and the totals as they would be.
pub(super) struct Tx<'a> {
    pub(super) stage: Stage<'a>,
    pub(super) totals: Totals,
    pub(super) config: &'a RelayConfig,
    /// Tags under which something came.
    pub(super) touched: Vec<Tag>,
}

impl<'a> Tx<'a> {
    pub(super) fn new(batch: &'a dyn Read, totals: Totals, config: &'a RelayConfig) -> Self {
        Self { stage: Stage::new(batch), totals, config, touched: Vec::new() }
    }

    /// Decides a request other than a fetch. `proven` is what is known of its signature.
    pub(super) fn decide(
        &mut self,
        env: &mut Env,
        relay: RelayId,
        request: Request,
        proven: Option<bool>,
    ) -> Result<Reply, Refusal> {
        match request {
            Request::Admit { code } => self.admit(&mut env.rng, &code),
            Request::Refill { token } => self.refill(&mut env.rng, &token),
            Request::Open { .. } | Request::Fetch { .. } if proven != Some(true) => {
                Err(Refusal::BadProof)
            }
            Request::Open { tag, kind, token, .. } => self.open(tag, kind, &token),
            Request::Deposit { tag, items, right } => {
                self.deposit(relay, tag, &items, &right, proven)
            }
            Request::Delete { tag, secret } => self.delete(tag, &secret),
            // Answered elsewhere.
            Request::Hello | Request::Fetch { .. } => Err(Refusal::Malformed),
        }
    }

    /// Does what the operator or the clock asks.
    pub(super) fn operate(
        &mut self,
        env: &mut Env,
        input: &RelayInput,
        progress: &mut Progress,
    ) -> Result<(), StorageError> {
        match input {
            RelayInput::Invite { id, uses, days } => {
                let code = self.invite(&mut env.rng, *uses, *days)?;
                progress.out.invites.push((*id, code));
            }
            RelayInput::Drain(drain) => self.totals.draining = *drain,
            RelayInput::Tick => {
                let swept = self.sweep();
                progress.sweep_failed = swept.is_err();
                swept?;
            }
            RelayInput::Request { .. } | RelayInput::SessionClosed { .. } => {}
        }
        Ok(())
    }

    /// Makes an invite code. More days than [`MAX_CODE_DAYS`] are cut to that.
    pub(super) fn invite(
        &mut self,
        rng: &mut impl CryptoRng,
        uses: u32,
        days: u32,
    ) -> Result<[u8; 16], StorageError> {
        let mut code = [0; 16];
        rng.fill_bytes(&mut code);
        let life = u64::from(days.min(MAX_CODE_DAYS)) * DAY;
        let row = Code { uses, expires: self.totals.clock.saturating_add(life) };
        let hash = secret_hash(&code);
        self.stage.put_typed(&CODES, &hash, &row)?;
        let day = row.expires / DAY + 1;
        self.stage.put(&DUE, &due_key(day, DUE_CODE, &hash), Vec::new())?;
        Ok(code)
    }

    pub(super) fn admit(
        &mut self,
        rng: &mut impl CryptoRng,
        code: &[u8; 16],
    ) -> Result<Reply, Refusal> {
        let hash = secret_hash(code);
        let mut row: Code = self.stage.get_typed(&CODES, &hash)?.ok_or(Refusal::BadCode)?;
        if row.uses == 0 || row.expires <= self.totals.clock {
            return Err(Refusal::BadCode);
        }
        row.uses -= 1;
        self.stage.put_typed(&CODES, &hash, &row)?;
        self.totals.members += 1;
        self.issue(rng, self.totals.members)
    }

    pub(super) fn refill(
        &mut self,
        rng: &mut impl CryptoRng,
        token: &Token,
    ) -> Result<Reply, Refusal> {
        let member = self.spend(token)?;
        self.issue(rng, member)
    }

    /// Spends a token; returns its member.
    fn spend(&mut self, token: &Token) -> Result<u64, Refusal> {
        let hash = secret_hash(token);
        let (member, serial): (u64, u64) =
            self.stage.get_typed(&TOKENS, &hash)?.ok_or(Refusal::BadToken)?;
        self.stage.del(&TOKENS, &hash)?;
        self.stage.del(&SERIALS, &serial_key(member, serial))?;
        Ok(member)
    }

    fn issue(&mut self, rng: &mut impl CryptoRng, member: u64) -> Result<Reply, Refusal> {
        let key = Key::new().u64(member);
        let mut row: Member = self.stage.get_typed(&MEMBERS, &key)?.unwrap_or_default();
        let today = self.totals.today();
        if row.day < today {
            (row.day, row.issued) = (today, 0);
        }
        row.issued = row.issued.saturating_add(TOKENS_AT_ONCE as u32);
        if row.issued > TOKENS_PER_DAY {
            return Err(Refusal::SlowDown);
        }
        let mut tokens = Vec::with_capacity(TOKENS_AT_ONCE);
        for _ in 0..TOKENS_AT_ONCE {
            let mut token = Token::default();
            rng.fill_bytes(&mut token);
            let hash = secret_hash(&token);
            self.stage.put_typed(&TOKENS, &hash, &(member, row.next))?;
            self.stage.put(&SERIALS, &serial_key(member, row.next), hash.to_vec())?;
            if let Some(old) = row.next.checked_sub(TOKENS_KEPT) {
                let old = serial_key(member, old);
                if let Some(hash) = self.stage.get(&SERIALS, &old)? {
                    self.stage.del(&TOKENS, &hash)?;
                    self.stage.del(&SERIALS, &old)?;
                }
            }
            row.next += 1;
            tokens.push(token);
        }
        self.stage.put_typed(&MEMBERS, &key, &row)?;
        Ok(Reply::Tokens(bounded(tokens)?))
    }

    /// Opens a tag, or replaces the secrets of a card tag. An open tag keeps its kind.
    /// The proof has been checked.
    pub(super) fn open(
        &mut self,
        tag: Tag,
        kind: TagKind,
        token: &Token,
    ) -> Result<Reply, Refusal> {
        let row = self.stage.get_typed::<TagRow>(&TAGS, &tag.0)?;
        if let Some(mut row) = row.clone()
            && let Some(old) = &row.kind
        {
            if std::mem::discriminant(old) != std::mem::discriminant(&kind) {
                return Err(Refusal::BadProof);
            }
            if *old != kind {
                row.kind = Some(kind);
                self.stage.put_typed(&TAGS, &tag.0, &row)?;
            }
            return Ok(Reply::Opened { spent: false });
        }
        self.spend(token)?;
        let today = self.totals.today();
        let due = sweep::idle_until(self.config, today) + 1;
        let fresh = TagRow {
            kind: None,
            last: 0,
            items: 0,
            bytes: 0,
            used: today,
            due,
            asked_day: today,
            asked: 0,
        };
        let mut row = match row {
            None => fresh,
            Some(old) => {
                self.stage.del(&DUE, &due_key(old.due, DUE_TAG, &tag.0))?;
                TagRow { last: old.last, ..fresh }
            }
        };
        row.kind = Some(kind);
        self.stage.put_typed(&TAGS, &tag.0, &row)?;
        self.stage.put(&DUE, &due_key(due, DUE_TAG, &tag.0), Vec::new())?;
        self.totals.tags += 1;
        Ok(Reply::Opened { spent: true })
    }

    /// Takes all items or none. `proven` is what is known of a member's signature.
    pub(super) fn deposit(
        &mut self,
        relay: RelayId,
        tag: Tag,
        items: &[Item],
        right: &Right,
        proven: Option<bool>,
    ) -> Result<Reply, Refusal> {
        let before: TagRow = self.stage.get_typed(&TAGS, &tag.0)?.ok_or(Refusal::Closed)?;
        let kind = before.kind.as_ref().ok_or(Refusal::Closed)?;
        let entitled = match (kind, right) {
            (TagKind::Topic, Right::Member(proof)) => {
                proven.unwrap_or_else(|| check_write(tag, relay, items, proof).is_ok())
            }
            (TagKind::Card { secrets }, Right::Invite(secret)) => {
                secrets.contains(&secret_hash(secret))
            }
            (TagKind::Inbox, _) | (TagKind::Card { .. }, Right::None) => true,
            (TagKind::Topic | TagKind::Card { .. }, _) => false,
        };
        if !entitled {
            return Err(Refusal::BadProof);
        }
        let allowance = matches!((kind, right), (TagKind::Card { .. }, Right::None));

        let mut row = before.clone();
        let today = self.totals.today();
        row.used = row.used.max(today);
        if row.asked_day < today {
            (row.asked_day, row.asked) = (today, 0);
        }
        let mut highest = 0;
        for item in items {
            let hash = *blake3::hash(&item.bytes).as_bytes();
            let index = match self.stage.get_typed(&HASHES, &hash_key(tag, &hash))? {
                Some(index) => index,
                None => self.keep(tag, &mut row, item, hash, allowance)?,
            };
            highest = highest.max(index);
        }
        if row != before {
            self.stage.put_typed(&TAGS, &tag.0, &row)?;
        }
        Ok(Reply::Deposited { last: highest })
    }

    /// Takes one item that is not there yet; returns its index.
    fn keep(
        &mut self,
        tag: Tag,
        row: &mut TagRow,
        item: &Item,
        hash: [u8; 32],
        allowance: bool,
    ) -> Result<u64, Refusal> {
        if allowance {
            row.asked += 1;
            if row.asked > ALLOWANCE {
                return Err(Refusal::SlowDown);
            }
        }
        let cost = charge(item.bytes.len());
        row.bytes = row.bytes.saturating_add(cost);
        if row.bytes > self.config.tag_bytes {
            return Err(Refusal::TagFull);
        }
        self.totals.bytes = self.totals.bytes.saturating_add(cost);
        if self.totals.bytes > self.config.max_bytes {
            return Err(Refusal::RelayFull);
        }
        row.last += 1;
        row.items += 1;
        self.totals.items += 1;

        let (at, index) = (self.totals.clock, row.last);
        let head = Head { hash, delete: item.delete, size: item.bytes.len() as u32 };
        self.stage.put(&ITEMS, &item_key(tag, index), item.bytes.to_vec())?;
        self.stage.put_typed(&HEADS, &head_key(at, tag, index), &head)?;
        self.stage.put_typed(&HASHES, &hash_key(tag, &hash), &index)?;
        if let Some(secret) = &item.delete {
            self.stage.put_typed(&DELETES, &delete_key(tag, secret, index), &at)?;
        }
        if self.touched.last() != Some(&tag) {
            self.touched.push(tag);
        }
        Ok(index)
    }

    /// Removes an item and all its rows.
    pub(super) fn remove(
        &mut self,
        at: Millis,
        tag: Tag,
        index: u64,
        head: &Head,
    ) -> Result<(), StorageError> {
        self.stage.del(&ITEMS, &item_key(tag, index))?;
        self.stage.del(&HEADS, &head_key(at, tag, index))?;
        self.stage.del(&HASHES, &hash_key(tag, &head.hash))?;
        if let Some(secret) = &head.delete {
            self.stage.del(&DELETES, &delete_key(tag, secret, index))?;
        }
        let cost = charge(head.size as usize);
        self.totals.items = self.totals.items.saturating_sub(1);
        self.totals.bytes = self.totals.bytes.saturating_sub(cost);
        if let Some(mut row) = self.stage.get_typed::<TagRow>(&TAGS, &tag.0)? {
            row.items = row.items.saturating_sub(1);
            row.bytes = row.bytes.saturating_sub(cost);
            self.stage.put_typed(&TAGS, &tag.0, &row)?;
        }
        Ok(())
    }

    /// Deletes the items whose delete secret this is. Where they are more than
    /// [`DELETES_AT_ONCE`], that many go and the client is told to come again.
    pub(super) fn delete(&mut self, tag: Tag, secret: &[u8; 32]) -> Result<Reply, Refusal> {
        let range = KeyRange::prefix(&hash_key(tag, &secret_hash(secret)));
        let rows: Vec<(Vec<u8>, Millis)> =
            self.stage.scan_typed(&DELETES, &range, false, DELETES_AT_ONCE + 1)?;
        for (key, at) in rows.iter().take(DELETES_AT_ONCE) {
            let mut key = KeyReader::new(&DELETES, key);
            let (_tag, _hash) = (key.fixed::<32>()?, key.fixed::<32>()?);
            let index = key.u64()?;
            let head = self.stage.get_typed(&HEADS, &head_key(*at, tag, index))?;
            let head = head.ok_or(StorageError::corrupt(HEADS.name, "a head is missing"))?;
            self.remove(*at, tag, index, &head)?;
        }
        if rows.len() > DELETES_AT_ONCE {
            return Ok(Reply::Refused(Refusal::SlowDown));
        }
        Ok(Reply::Deleted)
    }
}

/// The totals as stored.
pub(super) fn totals(read: &dyn Read) -> Result<Totals, StorageError> {
    Ok(read.get_typed(&META, TOTALS)?.unwrap_or_default())
}

/// A list that is known to fit.
pub(super) fn bounded<T, const N: usize>(items: Vec<T>) -> Result<List<T, N>, StorageError> {
    let max = N;
    let len = items.len();
    List::try_from(items).map_err(|_| StorageError::TooLarge { table: "reply", len, max })
}
