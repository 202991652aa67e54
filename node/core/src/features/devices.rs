//! The account and its devices: create, rename, link, revoke.

use teahouse_protocols::account::{AccountOp, Signer};
use teahouse_protocols::codec::Text;
use teahouse_protocols::ids::{AccountId, DeviceId, EnvelopeId, TopicId};
use teahouse_protocols::membership::{Cut, History, MemberOp, TopicKind};
use teahouse_protocols::words::RecoveryWords;

use crate::command::{Devices, Refusal, Reply};
use crate::engine::{accounts, cursors, latecomers, letters, pairing, topics};
use crate::features::contacts;
use crate::store::StorageError;
use crate::tables::{CHAINS, Chain, chain_key};
use crate::tx::{Fail, Tx, best_effort};

/// Decides a command.
pub(crate) fn command(tx: &mut Tx<'_>, c: Devices) -> Result<Reply, Fail> {
    match c {
        Devices::Create { name, device_name } => {
            let name = require_name(&name)?;
            let (account, entropy) = accounts::create(tx, name, device_name.trim())?;
            let private = topics::create(tx, TopicKind::Private, History::All, None)?;
            tx.edit_me(|me| me.private = Some(private))?;
            contacts::make_card_keys(tx)?;
            let words = RecoveryWords::from_entropy(entropy).to_string();
            Ok(Reply::Created { account, words })
        }
        Devices::Rename { name } => {
            let name = Text::try_from(require_name(&name)?)
                .map_err(|_| Refusal::Invalid { why: "a name has at most 64 bytes".into() })?;
            accounts::append(tx, AccountOp::SetProfile { name })?;
            Ok(Reply::Done)
        }
        Devices::LinkStart => pairing::start(tx),
        Devices::LinkJoin { code, device_name } => pairing::join(tx, &code, device_name),
        Devices::LinkConfirm => pairing::confirm(tx),
        Devices::LinkCancel => pairing::cancel(tx),
        Devices::Revoke { device } => revoke(tx, device),
    }
}

/// A name without what surrounds it; others are to see something.
fn require_name(name: &str) -> Result<&str, Fail> {
    let name = name.trim();
    if name.is_empty() {
        return Err(Refusal::Invalid { why: "a name has at least one letter".into() }.into());
    }
    Ok(name)
}

/// Revokes a device: in the account's log, with a cut in every topic, and with new keys
/// that it doesn't get. The card's inbox key rotates too, for it knew the old one.
///
/// The account's log comes first and always: a topic that can't be changed now is tried
/// again later ([`tend`]), and holds up neither the revocation nor the other topics.
fn revoke(tx: &mut Tx<'_>, device: DeviceId) -> Result<Reply, Fail> {
    let account = tx.account()?;
    let me = tx.me()?;
    let own = accounts::devices_of(tx, account)?;
    if !own.contains(&device) {
        return Err(Refusal::NotFound { what: "device".into() }.into());
    }
    if device == me.device && own.len() == 1 {
        return Err(Refusal::NotAllowed { why: "this is the account's only device".into() }.into());
    }
    // Telling others may fail where the record itself stands.
    match accounts::append(tx, AccountOp::RevokeDevice { device }) {
        Err(Fail::Storage(e)) => return Err(e.into()),
        Err(other) if accounts::is_active(tx, device)? => return Err(other),
        Ok(()) | Err(_) => {}
    }
    let mut topics = accounts::topic_ids(tx)?;
    topics.sort_by_key(|t| Some(*t) != me.private);
    for topic in topics {
        cut(tx, topic, account, device)?;
    }
    if device != me.device {
        best_effort(contacts::make_card_keys(tx))?;
    }
    Ok(Reply::Done)
}

/// Cuts revoked devices of this account off where they are not yet: in topics that refused
/// when the device was revoked, and in those that came later. Left to the device that
/// revoked, as long as it is there: another one may learn of the revocation late, and would
/// keep what the revoked device wrote in the meantime.
pub(crate) fn tend(tx: &mut Tx<'_>) -> Result<(), Fail> {
    let me = tx.me()?;
    let Some(account) = me.account else { return Ok(()) };
    let Some(log) = accounts::log(tx, account)? else { return Ok(()) };
    if !log.is_active(&me.device) {
        return Ok(());
    }
    let mut due = Vec::new();
    for (device, info) in &log.state().devices {
        let Some(record) = info.revoked.filter(|_| !info.void) else { continue };
        let elsewhere = log.get(&record).is_some_and(|r| match r.get().signer {
            Signer::Device(by) => by != me.device && log.is_active(&by),
            Signer::Root(_) => false,
        });
        if !elsewhere {
            due.push(*device);
        }
    }
    if due.is_empty() {
        return Ok(());
    }
    for topic in accounts::topic_ids(tx)? {
        for device in &due {
            cut(tx, topic, account, *device)?;
        }
    }
    Ok(())
}

/// Cuts a device of this account off from one topic, if this account is in it and the
/// device is not cut yet. What the device wrote stays up to what is held here; of a device
/// that wrote nothing, nothing ever counts.
fn cut(
    tx: &mut Tx<'_>,
    topic: TopicId,
    account: AccountId,
    device: DeviceId,
) -> Result<(), StorageError> {
    let Some(state) = topics::state(tx, topic)? else { return Ok(()) };
    let now = state.now();
    // What the removal of an account kept of its devices is no cut of a device.
    let done = now.cuts.get(&device).into_iter().flatten().any(|c| {
        let record = state.log.get(&c.op);
        record.is_some_and(|r| matches!(r.get().op, MemberOp::CutDevice { .. }))
    });
    // A stranger whose proposal was not answered is told nothing.
    if done || !now.members.contains_key(&account) || contacts::is_proposal(tx, topic)? {
        return Ok(());
    }
    let chain: Option<Chain> = tx.typed(&CHAINS, &chain_key(topic, device))?;
    let cut = match chain.filter(|c| c.high > 0) {
        Some(c) => Cut { device, seq: c.high, id: c.head },
        None => Cut { device, seq: 0, id: EnvelopeId([0; 32]) },
    };
    match topics::operate(tx, topic, MemberOp::CutDevice { cut }) {
        Ok(()) => best_effort(pass_on(tx, topic, device, cut.seq)),
        refused => best_effort(refused),
    }
}

/// What a cut keeps, the device that was cut off hands over to nobody any more: whoever cuts
/// passes its newest on to those who have not acknowledged them.
fn pass_on(tx: &mut Tx<'_>, topic: TopicId, device: DeviceId, last: u64) -> Result<(), Fail> {
    for to in topics::devices(tx, topic)? {
        let held = cursors::acked(&tx.stage, topic, to, device)?;
        let newest = last.saturating_sub(letters::MAX_RUN as u64 - 1);
        let mut next = held.saturating_add(1).max(newest);
        while next <= last {
            let run = letters::run(&tx.stage, topic, device, next, last)?;
            if run.is_empty() {
                break;
            }
            next += run.len() as u64;
            latecomers::send(tx, topic, to, run)?;
        }
    }
    Ok(())
}
