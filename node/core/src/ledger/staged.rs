//! The ledger in the core's tables, staged.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use serde::Serialize;
use teahouse_protocols::ids::{AssetId, Millis};

use super::{
    Account, AccountKey, Chain, LEDGER_ACCOUNTS, LEDGER_PENDING_BY_TIME, LEDGER_TRANSFERS, Ledger,
    LedgerError, Limit, MAX_CHAIN, MAX_EXPIRE, Movement, Record, Side, State, Totals, Transfer,
    TransferId, What, Why,
};
use crate::store::{Key, KeyRange, KeyReader, Read, ReadExt, Stage, StorageError, Table, decode};
use crate::tx::Tx;

/// What the ledger writes to: staged rows, which it reads back.
pub trait Rows: Read {
    /// Stages a row.
    fn put_row(
        &mut self,
        t: &'static Table,
        key: &[u8],
        value: Vec<u8>,
    ) -> Result<(), StorageError>;

    /// Stages a deletion.
    fn del_row(&mut self, t: &'static Table, key: &[u8]) -> Result<(), StorageError>;
}

impl Rows for Stage<'_> {
    fn put_row(
        &mut self,
        t: &'static Table,
        key: &[u8],
        value: Vec<u8>,
    ) -> Result<(), StorageError> {
        self.put(t, key, value)
    }

    fn del_row(&mut self, t: &'static Table, key: &[u8]) -> Result<(), StorageError> {
        self.del(t, key)
    }
}

impl Rows for Tx<'_> {
    fn put_row(
        &mut self,
        t: &'static Table,
        key: &[u8],
        value: Vec<u8>,
    ) -> Result<(), StorageError> {
        self.put_raw(t, key, value)
    }

    fn del_row(&mut self, t: &'static Table, key: &[u8]) -> Result<(), StorageError> {
        self.del(t, key)
    }
}

/// A [`Ledger`] over staged rows.
pub struct StagedLedger<'a, R: Rows> {
    rows: &'a mut R,
}

impl<'a, R: Rows> StagedLedger<'a, R> {
    /// A ledger in these rows.
    pub const fn new(rows: &'a mut R) -> Self {
        Self { rows }
    }
}

fn account_key(key: &AccountKey) -> Vec<u8> {
    Key::new().fixed(&key.asset.0).u16(key.kind).fixed(&key.of).into_bytes()
}

fn time_key(until: Millis, id: TransferId) -> Vec<u8> {
    Key::new().u64(until).fixed(&id.0).into_bytes()
}

fn read_account<R: Read + ?Sized>(
    rows: &R,
    key: &AccountKey,
) -> Result<Option<Account>, StorageError> {
    let account: Option<Account> = rows.get_typed(&LEDGER_ACCOUNTS, &account_key(key))?;
    if account.is_some_and(|a| a.key != *key) {
        return Err(StorageError::corrupt(LEDGER_ACCOUNTS.name, "an account in another's place"));
    }
    Ok(account)
}

fn read_record<R: Read + ?Sized>(
    rows: &R,
    id: &TransferId,
) -> Result<Option<Record>, StorageError> {
    let record: Option<Record> = rows.get_typed(&LEDGER_TRANSFERS, &id.0)?;
    if record.is_some_and(|r| r.transfer.id != *id) {
        return Err(StorageError::corrupt(LEDGER_TRANSFERS.name, "a transfer in another's place"));
    }
    Ok(record)
}

/// Either a reason for the one who asked, or a failing database.
enum Stop {
    Why(Why),
    Storage(StorageError),
}

impl From<Why> for Stop {
    fn from(why: Why) -> Self {
        Self::Why(why)
    }
}

impl From<StorageError> for Stop {
    fn from(e: StorageError) -> Self {
        Self::Storage(e)
    }
}

impl Stop {
    fn at(self, nth: usize) -> LedgerError {
        match self {
            Self::Why(why) => LedgerError::Refused { nth, why },
            Self::Storage(e) => LedgerError::Storage(e),
        }
    }
}

/// What a chain changes, kept apart until all of it is decided.
struct Work<'r, R: Rows> {
    rows: &'r R,
    changes: Changes,
}

#[derive(Default)]
struct Changes {
    accounts: BTreeMap<AccountKey, Account>,
    records: BTreeMap<TransferId, Record>,
    /// Reserves that can expire (true), or can't any more.
    times: BTreeMap<(Millis, TransferId), bool>,
}

impl<R: Rows> Work<'_, R> {
    fn account(&self, key: &AccountKey) -> Result<Account, Stop> {
        match self.changes.accounts.get(key) {
            Some(account) => Ok(*account),
            None => Ok(read_account(self.rows, key)?.ok_or(Why::UnknownAccount)?),
        }
    }

    fn record(&self, id: &TransferId) -> Result<Option<Record>, Stop> {
        match self.changes.records.get(id) {
            Some(record) => Ok(Some(*record)),
            None => Ok(read_record(self.rows, id)?),
        }
    }

    fn put(&mut self, debit: Account, credit: Account) {
        self.changes.accounts.insert(debit.key, debit);
        self.changes.accounts.insert(credit.key, credit);
    }

    fn carry_out(&mut self, transfer: &Transfer, now: Millis) -> Result<(), Stop> {
        let (amount, state) = match transfer.what {
            What::Move(movement) => (self.movement(&movement, false)?, State::Done),
            What::Reserve { movement, timeout } => {
                let until = match timeout {
                    Some(0) => return Err(Why::NoTime.into()),
                    Some(time) => Some(now.checked_add(time).ok_or(Why::NoTime)?),
                    None => None,
                };
                let amount = self.movement(&movement, true)?;
                if let Some(until) = until {
                    self.changes.times.insert((until, transfer.id), true);
                }
                (amount, State::Pending { until })
            }
            What::Post { pending, amount } => {
                if amount == 0 {
                    return Err(Why::NoAmount.into());
                }
                self.resolve(pending, State::Posted { amount }, Some(now))?;
                (amount, State::Done)
            }
            What::Void { pending } => {
                (self.resolve(pending, State::Voided, Some(now))?, State::Done)
            }
        };
        let record = Record { transfer: *transfer, amount, at: now, state };
        self.changes.records.insert(transfer.id, record);
        Ok(())
    }

    /// Moves or reserves; returns how much.
    fn movement(&mut self, m: &Movement, reserve: bool) -> Result<u128, Stop> {
        if m.amount == 0 {
            return Err(Why::NoAmount.into());
        }
        if m.debit == m.credit {
            return Err(Why::SameAccount.into());
        }
        if m.debit.asset != m.credit.asset {
            return Err(Why::OtherAsset.into());
        }
        let (mut debit, mut credit) = (self.account(&m.debit)?, self.account(&m.credit)?);
        if debit.closed || credit.closed {
            return Err(Why::Closed.into());
        }
        let amount = match m.at_most {
            None => m.amount,
            Some(Side::Debit) => m.amount.min(debit.left_to_debit()),
            Some(Side::Credit) => m.amount.min(credit.left_to_credit()),
        };
        if amount == 0 {
            return Err(Why::NothingLeft.into());
        }
        if reserve {
            add(&mut debit.debits_pending, amount)?;
            add(&mut credit.credits_pending, amount)?;
        } else {
            add(&mut debit.debits_posted, amount)?;
            add(&mut credit.credits_posted, amount)?;
        }
        let debits = both(debit.debits_posted, debit.debits_pending)?;
        let credits = both(credit.credits_posted, credit.credits_pending)?;
        if debit.limit == Limit::DebitsWithinCredits && debits > debit.credits_posted {
            return Err(Why::ExceedsCredits.into());
        }
        if credit.limit == Limit::CreditsWithinDebits && credits > credit.debits_posted {
            return Err(Why::ExceedsDebits.into());
        }
        self.put(debit, credit);
        Ok(amount)
    }

    /// Ends a reserve; returns how much was reserved. With `now` given it must be in time.
    fn resolve(&mut self, id: TransferId, end: State, now: Option<Millis>) -> Result<u128, Stop> {
        let mut record = self.record(&id)?.ok_or(Why::UnknownPending)?;
        let until = match record.state {
            State::Pending { until } => until,
            State::Done => return Err(Why::NotPending.into()),
            State::Posted { .. } => return Err(Why::AlreadyPosted.into()),
            State::Voided => return Err(Why::AlreadyVoided.into()),
            State::Expired => return Err(Why::Expired.into()),
        };
        if now.is_some_and(|now| until.is_some_and(|until| until <= now)) {
            return Err(Why::Expired.into());
        }
        let What::Reserve { movement: m, .. } = record.transfer.what else {
            return Err(
                StorageError::corrupt(LEDGER_TRANSFERS.name, "pending, but no reserve").into()
            );
        };
        let reserved = record.amount;
        let (mut debit, mut credit) = (self.account(&m.debit)?, self.account(&m.credit)?);
        take(&mut debit.debits_pending, reserved)?;
        take(&mut credit.credits_pending, reserved)?;
        if let State::Posted { amount } = end {
            if amount > reserved {
                return Err(Why::MoreThanReserved.into());
            }
            add(&mut debit.debits_posted, amount)?;
            add(&mut credit.credits_posted, amount)?;
        }
        self.put(debit, credit);
        record.state = end;
        self.changes.records.insert(id, record);
        if let Some(until) = until {
            self.changes.times.insert((until, id), false);
        }
        Ok(reserved)
    }
}

fn add(sum: &mut u128, amount: u128) -> Result<(), Why> {
    *sum = both(*sum, amount)?;
    Ok(())
}

fn both(a: u128, b: u128) -> Result<u128, Why> {
    a.checked_add(b).ok_or(Why::Overflow)
}

/// What is pending was added before, so it can be taken away.
fn take(sum: &mut u128, amount: u128) -> Result<(), StorageError> {
    *sum = sum
        .checked_sub(amount)
        .ok_or(StorageError::corrupt(LEDGER_ACCOUNTS.name, "less pending than was reserved"))?;
    Ok(())
}

impl<R: Rows> StagedLedger<'_, R> {
    fn put<T: Serialize>(
        &mut self,
        t: &'static Table,
        key: &[u8],
        value: &T,
    ) -> Result<(), StorageError> {
        let bytes = postcard::to_stdvec(value)
            .map_err(|_| StorageError::corrupt(t.name, "a value that can't be encoded"))?;
        self.rows.put_row(t, key, bytes)
    }

    fn write(&mut self, changes: Changes) -> Result<(), StorageError> {
        for account in changes.accounts.values() {
            self.put(&LEDGER_ACCOUNTS, &account_key(&account.key), account)?;
        }
        for (id, record) in &changes.records {
            self.put(&LEDGER_TRANSFERS, &id.0, record)?;
        }
        for ((until, id), pending) in changes.times {
            let key = time_key(until, id);
            if pending {
                self.rows.put_row(&LEDGER_PENDING_BY_TIME, &key, Vec::new())?;
            } else {
                self.rows.del_row(&LEDGER_PENDING_BY_TIME, &key)?;
            }
        }
        Ok(())
    }

    /// The records of a chain that was accepted before, or nothing for one that is new.
    fn accepted_before(&self, chain: &[Transfer]) -> Result<Option<Vec<Record>>, LedgerError> {
        let mut held = Vec::with_capacity(chain.len());
        for (nth, transfer) in chain.iter().enumerate() {
            let refused = |why| Err(LedgerError::Refused { nth, why });
            if chain[..nth].iter().any(|t| t.id == transfer.id) {
                return refused(Why::IdTwice);
            }
            match read_record(&*self.rows, &transfer.id)? {
                Some(record) if record.transfer != *transfer => return refused(Why::IdTaken),
                Some(record) if held.len() == nth => held.push(record),
                None if held.is_empty() => {}
                Some(_) | None => return refused(Why::PartlyThere),
            }
        }
        Ok((!held.is_empty()).then_some(held))
    }
}

impl<R: Rows> Ledger for StagedLedger<'_, R> {
    fn open(&mut self, key: AccountKey, limit: Limit) -> Result<Account, LedgerError> {
        if let Some(account) = self.account(key)? {
            if account.limit != limit {
                return Err(LedgerError::Account(Why::OtherLimit));
            }
            return Ok(account);
        }
        let account = Account::new(key, limit);
        self.put(&LEDGER_ACCOUNTS, &account_key(&key), &account)?;
        Ok(account)
    }

    fn close(&mut self, key: AccountKey) -> Result<Account, LedgerError> {
        let mut account = self.account(key)?.ok_or(LedgerError::Account(Why::UnknownAccount))?;
        if !account.closed {
            if !account.is_empty() {
                return Err(LedgerError::Account(Why::NotEmpty));
            }
            account.closed = true;
            self.put(&LEDGER_ACCOUNTS, &account_key(&key), &account)?;
        }
        Ok(account)
    }

    fn account(&self, key: AccountKey) -> Result<Option<Account>, LedgerError> {
        Ok(read_account(&*self.rows, &key)?)
    }

    fn record(&self, id: TransferId) -> Result<Option<Record>, LedgerError> {
        Ok(read_record(&*self.rows, &id)?)
    }

    fn post(&mut self, chain: &[Transfer], now: Millis) -> Result<Chain, LedgerError> {
        if chain.is_empty() || chain.len() > MAX_CHAIN {
            return Err(LedgerError::ChainLength(chain.len()));
        }
        if let Some(records) = self.accepted_before(chain)? {
            return Ok(Chain { records, existed: true });
        }
        let mut work = Work { rows: &*self.rows, changes: Changes::default() };
        for (nth, transfer) in chain.iter().enumerate() {
            work.carry_out(transfer, now).map_err(|stop| stop.at(nth))?;
        }
        let changes = work.changes;
        let records = chain.iter().filter_map(|t| changes.records.get(&t.id).copied()).collect();
        self.write(changes)?;
        Ok(Chain { records, existed: false })
    }

    fn expire(&mut self, now: Millis, most: usize) -> Result<Vec<TransferId>, LedgerError> {
        let most = most.min(MAX_EXPIRE);
        let mut due = Vec::new();
        for (key, _) in self.rows.scan(&LEDGER_PENDING_BY_TIME, &KeyRange::all(), false, most)? {
            let mut key = KeyReader::new(&LEDGER_PENDING_BY_TIME, &key);
            if key.u64()? > now {
                break;
            }
            due.push(TransferId(key.fixed()?));
        }
        let mut work = Work { rows: &*self.rows, changes: Changes::default() };
        for id in &due {
            work.resolve(*id, State::Expired, None).map_err(|stop| match stop {
                Stop::Storage(e) => e,
                // Invariant: what is listed is pending.
                Stop::Why(_) => StorageError::corrupt(LEDGER_PENDING_BY_TIME.name, "not pending"),
            })?;
        }
        let changes = work.changes;
        self.write(changes)?;
        Ok(due)
    }

    fn totals(&self, asset: AssetId) -> Result<Totals, LedgerError> {
        let mut totals = Totals::default();
        let mut broken: Option<LedgerError> = None;
        let range = KeyRange::prefix(&asset.0);
        self.rows.visit(&LEDGER_ACCOUNTS, &range, false, &mut |_, value| {
            let summed = decode::<Account>(&LEDGER_ACCOUNTS, value)
                .map_err(LedgerError::from)
                .and_then(|account| sum(totals, &account).map_err(LedgerError::Account));
            match summed {
                Ok(after) => {
                    totals = after;
                    ControlFlow::Continue(())
                }
                Err(e) => {
                    broken = Some(e);
                    ControlFlow::Break(())
                }
            }
        })?;
        broken.map_or(Ok(totals), Err)
    }
}

fn sum(totals: Totals, account: &Account) -> Result<Totals, Why> {
    Ok(Totals {
        accounts: totals.accounts.saturating_add(1),
        debits_pending: both(totals.debits_pending, account.debits_pending)?,
        debits_posted: both(totals.debits_posted, account.debits_posted)?,
        credits_pending: both(totals.credits_pending, account.credits_pending)?,
        credits_posted: both(totals.credits_posted, account.credits_posted)?,
    })
}
