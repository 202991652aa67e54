//! The account's own statement, followed entry by entry.

use teahouse_protocols::ids::{AccountId, AssetId, DeviceId, OrderId};
use teahouse_protocols::pay::{Ask, Contradiction, Entry, EntryKind, StatementHead, Tally};
use teahouse_protocols::sign::Signed;

use super::contradiction;
use super::known::asset;
use super::lanes;
use super::orders::{look, pay_expected};
use super::outbox::{FOLLOW, answered, ask, own_log};
use crate::features::pay::tables::{
    BALANCES, Balance, NOTICES, PAYMENT_ORDERS, PAYMENTS, PayState, Payment, STATEMENT,
};
use crate::store::{Key, Read};
use crate::tx::{Fail, Tx};

/// Asks an issuer for the account's statement, from where it was followed to.
pub(crate) fn follow(tx: &mut Tx<'_>, money: AssetId) -> Result<(), Fail> {
    let Some(asset) = asset(tx, money)? else { return Ok(()) };
    let account = tx.account()?;
    let balance: Option<Balance> = tx.typed(&BALANCES, &money.0)?;
    let after = balance.map_or(0, |b| b.tally.number);
    let log = own_log(tx)?;
    let question = Ask::Statement { account, log, asset: money, after };
    ask(tx, asset.get().key, (FOLLOW, money.0), question, None)
}

/// A head that came with something: whether there is more than was followed, or two stories.
pub(super) fn head_came(tx: &mut Tx<'_>, head: &Signed<StatementHead>) -> Result<(), Fail> {
    let h = head.get();
    let Some(asset) = asset(tx, h.asset)? else { return Ok(()) };
    if h.key != asset.get().key || h.holder != tx.account()? {
        return Ok(());
    }
    let balance: Option<Balance> = tx.typed(&BALANCES, &h.asset.0)?;
    if let Some(held) = &balance {
        // Heads further apart contradict nothing: no signature needs to be checked for them.
        let may_contradict = held.head != head.bytes()
            && Signed::<StatementHead>::claimed(&held.head)
                .is_ok_and(|before| before.number.abs_diff(h.number) <= 1);
        if may_contradict
            && let Ok(before) = Signed::<StatementHead>::from_bytes(&held.head)
            && let Some(proof) = Contradiction::of_heads(&before, head)
        {
            return contradiction(tx, &asset, &proof);
        }
        tx.put(&BALANCES, &h.asset.0, &Balance { heard: tx.now, ..held.clone() })?;
    }
    if balance.is_none_or(|b| b.tally.number < h.number) {
        let due = tx.mem.statements_due.entry(h.asset).or_default();
        *due = h.number.max(*due);
    }
    Ok(())
}

/// Asks for what statements grew by in this step: once, however many words said so.
pub(crate) fn follow_due(tx: &mut Tx<'_>) -> Result<(), Fail> {
    for (money, number) in std::mem::take(&mut tx.mem.statements_due) {
        let balance: Option<Balance> = tx.typed(&BALANCES, &money.0)?;
        if balance.is_none_or(|b| b.tally.number < number) {
            follow(tx, money)?;
        }
    }
    Ok(())
}

/// Entries of the account's own statement.
pub(super) fn followed(
    tx: &mut Tx<'_>,
    from: DeviceId,
    money: AssetId,
    entries: &[Entry],
    more: bool,
    head: &Signed<StatementHead>,
) -> Result<(), Fail> {
    let Some(asset) = asset(tx, money)? else { return Ok(()) };
    let account = tx.account()?;
    // Entries are not signed one by one: they are taken from the issuer's own device, and from
    // nobody else.
    let (key, h) = (asset.get().key, head.get());
    let ours = (h.asset, h.key, h.holder) == (money, key, account);
    if from != key || !ours {
        return Ok(());
    }
    let balance: Option<Balance> = tx.typed(&BALANCES, &money.0)?;
    let tally = balance.as_ref().map_or_else(|| Tally::new(&asset, account), |b| b.tally.clone());
    // What was followed meanwhile is here already.
    let fresh: Vec<Entry> = entries.iter().filter(|e| e.number > tally.number).cloned().collect();
    if more {
        // The head is of the whole: this page is checked with the last one, and kept until then
        // only as far as it adds up.
        let after = fresh.iter().try_fold(tally, |t, e| t.apply(e)).map_err(Fail::peer)?;
        keep(tx, money, asset.get().issuer, &fresh)?;
        look_again(tx, asset.get().key, &fresh)?;
        let held = balance.map(|b| b.head).unwrap_or_default();
        tx.put(&BALANCES, &money.0, &Balance { tally: after, head: held, heard: tx.now })?;
        pay_what_waited(tx, money, &fresh)?;
        return follow(tx, money);
    }
    answered(tx, asset.get().key, FOLLOW, money.0)?;
    match tally.follow(&fresh, head) {
        Ok(after) => {
            keep(tx, money, asset.get().issuer, &fresh)?;
            let head = head.bytes().to_vec();
            tx.put(&BALANCES, &money.0, &Balance { tally: after, head, heard: tx.now })?;
        }
        Err(_) => {
            if let Some(held) = &balance
                && let Ok(before) = Signed::<StatementHead>::from_bytes(&held.head)
                && let Some(proof) = Contradiction::of_heads(&before, head)
            {
                return contradiction(tx, &asset, &proof);
            }
            // An older page than what is held, come late, says nothing.
            if head.get().number > balance.map_or(0, |b| b.tally.number) {
                let name = asset.get().name.to_string();
                tx.alarm(format!("The statement of {name} does not add up."))?;
                // It is followed anew, from the beginning.
                tx.del(&BALANCES, &money.0)?;
            }
            return Ok(());
        }
    }
    look_again(tx, asset.get().key, &fresh)?;
    pay_what_waited(tx, money, &fresh)
}

/// More is known of what is free: what waited for that is paid.
fn pay_what_waited(tx: &mut Tx<'_>, money: AssetId, entries: &[Entry]) -> Result<(), Fail> {
    let moved = |kind| matches!(kind, EntryKind::Released | EntryKind::Reserved);
    if entries.iter().any(|e| moved(e.kind)) { pay_expected(tx, money) } else { Ok(()) }
}

fn keep(tx: &mut Tx<'_>, money: AssetId, issuer: AccountId, entries: &[Entry]) -> Result<(), Fail> {
    for entry in entries {
        lanes::entered(tx, money, issuer, entry)?;
        tx.put(&STATEMENT, &Key::new().fixed(&money.0).u64(entry.number), entry)?;
    }
    Ok(())
}

/// What entries say of this device's own payments. What was given back is signed by the payee:
/// that is asked for.
fn look_again(tx: &mut Tx<'_>, issuer: DeviceId, entries: &[Entry]) -> Result<(), Fail> {
    for entry in entries {
        let Some(of) = entry.of else { continue };
        let state = match entry.kind {
            EntryKind::RefundReceived => {
                look(tx, issuer, OrderId(of))?;
                continue;
            }
            EntryKind::Spent => PayState::Paid,
            EntryKind::Released => PayState::Returned,
            _ => continue,
        };
        let Some(id) = tx.get(&PAYMENT_ORDERS, &of)? else { continue };
        let Some(row) = tx.typed::<Payment>(&PAYMENTS, &id)? else { continue };
        if let PayState::Held { .. } = row.state {
            tx.del(&NOTICES, &Key::new().fixed(&row.to.0).fixed(&of))?;
            tx.put(&PAYMENTS, &id, &Payment { state, ..row })?;
        }
    }
    Ok(())
}
