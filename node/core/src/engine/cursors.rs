//! Acknowledgements: what this device says it holds, and what others' words prove.

use std::collections::{BTreeMap, BTreeSet};

use teahouse_protocols::bugs::planted;
use teahouse_protocols::codec;
use teahouse_protocols::cursor::{Ack, Cursor, MAX_ACKS};
use teahouse_protocols::envelope::Envelope;
use teahouse_protocols::ids::{AccountId, DeviceId, OpId, RelayId, TopicId};
use teahouse_protocols::membership::MemberOp;
use teahouse_protocols::sign::Signed;
use teahouse_protocols::sync::{Digest, Frame};

use crate::engine::{accounts, letters, topics};
use crate::features::contacts;
use crate::store::{Key, KeyRange, Read, ReadExt, StorageError};
use crate::tables::{ACKS, AckRow, CHAINS, DEPOSITS, Deposit, OWN_CURSORS, OwnCursor, chain_key};
use crate::tx::{Effect, Fail, TopicState, Tx, capped};
use crate::view::Delivery;

/// Publishes what changed in the topics that this batch stored something in. The cursor
/// leaves after the batch is durable, like every output: it claims what is.
pub(crate) fn publish(tx: &mut Tx<'_>) -> Result<(), Fail> {
    let due = std::mem::take(&mut tx.mem.acks_due);
    let me = tx.me()?;
    let Some(account) = me.account else { return Ok(()) };
    for topic in due {
        // Whoever waits for an answer, or is blocked, is told nothing; what is held is told
        // once that changes.
        if contacts::is_quiet(tx, topic)? || topics::is_followed(tx, topic)? {
            continue;
        }
        let mut own = tx.typed::<OwnCursor>(&OWN_CURSORS, &topic.0)?.unwrap_or_default();
        let mut published: BTreeMap<DeviceId, u64> = own.published.iter().copied().collect();
        let mut acks = Vec::new();
        for (device, chain) in topics::chains(&tx.stage, topic)? {
            let known = published.get(&device).copied().unwrap_or(0);
            if device == me.device || chain.high <= known {
                continue;
            }
            if acks.len() == MAX_ACKS {
                // The rest with the next batch.
                tx.mem.acks_due.insert(topic);
                break;
            }
            // Only what is here with its text.
            let Some((seq, id)) = letters::complete_upto(tx, topic, device, &chain)? else {
                continue;
            };
            if seq > known {
                published.insert(device, seq);
                acks.push(Ack { device, seq, id });
            }
        }
        if acks.is_empty() {
            continue;
        }
        own.counter += 1;
        own.published = published.into_iter().collect();
        tx.put(&OWN_CURSORS, &topic.0, &own)?;
        tx.mem.mail_topics.insert(topic);
        let signed = sign(tx, account, topic, own.counter, acks)?;
        let Ok(bytes) = codec::Bytes::try_from(signed.bytes().to_vec()) else { continue };
        let audience = topics::devices(tx, topic)?;
        let connected: Vec<DeviceId> =
            tx.mem.peers.keys().filter(|d| audience.contains(*d)).copied().collect();
        for device in connected {
            tx.out.push(Effect::Frame(device, Frame::Cursor(bytes.clone())));
        }
    }
    Ok(())
}

/// Tells a device what is held here of a topic: what was published while it was away.
pub(crate) fn greet(tx: &mut Tx<'_>, device: DeviceId, topic: TopicId) -> Result<(), Fail> {
    let me = tx.me()?;
    let Some(account) = me.account else { return Ok(()) };
    // What was published before a block stays here, too.
    if contacts::is_quiet(tx, topic)? {
        return Ok(());
    }
    let Some(own) = tx.typed::<OwnCursor>(&OWN_CURSORS, &topic.0)? else { return Ok(()) };
    let acks = acks(tx, topic, &own.published)?;
    if acks.is_empty() {
        return Ok(());
    }
    let signed = sign(tx, account, topic, own.counter, acks)?;
    if let Ok(bytes) = codec::Bytes::try_from(signed.bytes().to_vec()) {
        tx.send(device, Frame::Cursor(bytes));
    }
    Ok(())
}

/// What this device and another acknowledged in a topic, as both know it: the same on both
/// sides unless one missed a cursor.
pub(crate) fn digest(
    tx: &mut Tx<'_>,
    device: DeviceId,
    topic: TopicId,
) -> Result<Digest, StorageError> {
    let me = tx.me()?.device;
    let own = tx.typed::<OwnCursor>(&OWN_CURSORS, &topic.0)?.unwrap_or_default();
    let mut said: BTreeMap<DeviceId, BTreeMap<DeviceId, u64>> = BTreeMap::new();
    said.insert(me, own.published.into_iter().collect());
    for (chain, _) in topics::chains(&tx.stage, topic)? {
        let seq = acked(&tx.stage, topic, device, chain)?;
        if seq > 0 {
            said.entry(device).or_default().insert(chain, seq);
        }
    }
    let mut h = blake3::Hasher::new_derive_key("teahouse/v1/cursors digest");
    // Whoever said nothing counts like one of whom nothing is known.
    for (by, positions) in said.into_iter().filter(|(_, positions)| !positions.is_empty()) {
        h.update(&by.0);
        h.update(&(positions.len() as u64).to_le_bytes());
        for (chain, seq) in positions {
            h.update(&chain.0);
            h.update(&seq.to_le_bytes());
        }
    }
    let mut out = [0; 16];
    out.copy_from_slice(&h.finalize().as_bytes()[..16]);
    Ok(out)
}

/// Acknowledgements of what was published, at most as many as one cursor takes.
pub(crate) fn acks(
    tx: &Tx<'_>,
    topic: TopicId,
    published: &[(DeviceId, u64)],
) -> Result<Vec<Ack>, StorageError> {
    let mut acks = Vec::new();
    for (author, seq) in published.iter().take(MAX_ACKS) {
        if let Some(row) = letters::log_row(&tx.stage, topic, *author, *seq)?
            && let Ok(envelope) = Envelope::from_bytes(&row.envelope)
        {
            acks.push(Ack { device: *author, seq: *seq, id: envelope.id() });
        }
    }
    Ok(acks)
}

/// Signs a cursor.
pub(crate) fn sign(
    tx: &mut Tx<'_>,
    account: AccountId,
    topic: TopicId,
    counter: u64,
    acks: Vec<Ack>,
) -> Result<Signed<Cursor>, Fail> {
    let me = tx.me()?;
    let mut acks = acks;
    if planted("cursor_overclaims") {
        for ack in &mut acks {
            ack.seq += 1;
        }
    }
    let cursor = Cursor {
        version: 1,
        topic,
        account,
        device: me.device,
        counter,
        acks: capped(acks),
        read: codec::List::default(),
    };
    Ok(Signed::new(cursor, &me.key))
}

/// Takes a cursor in. Anybody may pass it on: its signature speaks for itself.
pub(crate) fn learn(tx: &mut Tx<'_>, bytes: &[u8]) -> Result<(), Fail> {
    let signed = Signed::<Cursor>::from_bytes(bytes).map_err(Fail::peer)?;
    let cursor = signed.get();
    if accounts::account_of(tx, cursor.device)? != Some(cursor.account) {
        return Err(Fail::peer("a cursor by a device that is not its account's"));
    }
    if !topics::may_read(tx, cursor.topic, cursor.device)? {
        return Err(Fail::peer("a cursor by a device that is no member's"));
    }
    let me = tx.me()?;
    for ack in cursor.acks.iter().filter(|a| a.seq <= topics::MAX_SEQ) {
        // Only chains that are here: a cursor can't fill the tables with names.
        if !tx.contains(&CHAINS, &chain_key(cursor.topic, ack.device))? {
            continue;
        }
        // An acknowledgement of a branch that is not ours proves nothing about ours.
        match letters::log_row(&tx.stage, cursor.topic, ack.device, ack.seq)? {
            Some(row) => {
                let held = Envelope::from_bytes(&row.envelope).map_err(Fail::peer)?;
                if held.id() != ack.id {
                    continue;
                }
            }
            // Nobody can hold what this device has not written.
            None if ack.device == me.device => continue,
            None => {}
        }
        let key = ack_key(cursor.topic, cursor.device, ack.device);
        let mut row = tx.typed::<AckRow>(&ACKS, &key)?.unwrap_or(AckRow {
            account: cursor.account,
            seq: 0,
            read: 0,
        });
        if ack.seq > row.seq {
            row.seq = ack.seq;
            tx.put(&ACKS, &key, &row)?;
            if ack.device == me.device {
                tx.mem.mail_topics.insert(cursor.topic);
            }
        }
    }
    Ok(())
}

/// What a device acknowledged of a chain.
pub(crate) fn acked(
    read: &dyn Read,
    topic: TopicId,
    by: DeviceId,
    chain: DeviceId,
) -> Result<u64, StorageError> {
    let row: Option<AckRow> = read.get_typed(&ACKS, &ack_key(topic, by, chain))?;
    Ok(row.map_or(0, |r| r.seq))
}

/// What proofs about this account's messages in one topic are judged by.
pub(crate) struct Proofs {
    topic: TopicId,
    own: AccountId,
    this: DeviceId,
    state: TopicState,
    deposits: Vec<(RelayId, Deposit)>,
    relays: BTreeMap<AccountId, Vec<RelayId>>,
    /// The last audience worked out: messages shown together mostly share it.
    audience: Option<(Vec<OpId>, Audience)>,
}

/// To whom a message was sent.
#[derive(Clone, Default)]
struct Audience {
    /// Who was in where its author stood, and is in since.
    current: BTreeSet<AccountId>,
    /// Who was in then and is out by now, and was never in twice: what those acknowledged
    /// they had.
    gone: BTreeSet<AccountId>,
}

impl Proofs {
    /// For messages of `own`, read at its device `this`; `None` for an unknown topic.
    pub(crate) fn load(
        read: &dyn Read,
        topic: TopicId,
        own: AccountId,
        this: DeviceId,
    ) -> Result<Option<Self>, StorageError> {
        let Some(state) = topics::load(read, topic)? else { return Ok(None) };
        let deposits: Vec<(Vec<u8>, Deposit)> =
            read.scan_typed(&DEPOSITS, &KeyRange::prefix(&topic.0), false, 64)?;
        let deposits = deposits
            .into_iter()
            .filter_map(|(key, d)| Some((RelayId(*key.last_chunk::<32>()?), d)))
            .collect();
        let relays = BTreeMap::new();
        Ok(Some(Self { topic, own, this, state, deposits, relays, audience: None }))
    }

    /// What is proved about message `seq` of `device`, one of the account's.
    ///
    /// Deposits are known of this device's own chain only: for messages of the account's
    /// other devices no relay is claimed.
    pub(crate) fn delivery(
        &mut self,
        read: &dyn Read,
        device: DeviceId,
        seq: u64,
    ) -> Result<Delivery, StorageError> {
        let Audience { current: mut recipients, gone } = self.audience(read, device, seq)?;
        let mut delivered = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let chain = chain_key(self.topic, device);
        let rows: Vec<(Vec<u8>, AckRow)> =
            read.scan_typed(&ACKS, &KeyRange::prefix(&chain), false, 65_536)?;
        for (_, row) in rows {
            if gone.contains(&row.account) && row.seq >= seq {
                recipients.insert(row.account);
            }
            if !recipients.contains(&row.account) {
                continue;
            }
            let claims = row.seq >= seq
                || planted("delivered_without_ack")
                || planted("status_overclaims") && row.seq + 1 >= seq;
            if claims {
                delivered.insert(row.account);
            }
            if row.read >= seq {
                seen.insert(row.account);
            }
        }
        let (mut relays, mut relayed, mut without) = (0, 0, 0);
        if device == self.this && !self.deposits.is_empty() {
            // What lies at a relay for one's own other device is on its way to nobody else.
            let mut theirs = BTreeSet::new();
            for account in &recipients {
                let fetches_at = self.relays_of(read, *account)?;
                without += u32::from(fetches_at.is_empty() && !delivered.contains(account));
                theirs.extend(fetches_at.iter().copied());
            }
            let meant = |(relay, d): &&(RelayId, Deposit)| theirs.contains(relay) && d.from < seq;
            for (_, deposit) in self.deposits.iter().filter(meant) {
                relays += 1;
                relayed += u32::from(deposit.holds(seq));
            }
        }
        Ok(Delivery {
            relayed,
            relays,
            delivered: delivered.len() as u32,
            recipients: recipients.len() as u32,
            read: seen.len() as u32,
            without_relay: without,
            elsewhere: device != self.this,
        })
    }

    /// Where an account's devices fetch.
    fn relays_of(
        &mut self,
        read: &dyn Read,
        account: AccountId,
    ) -> Result<Vec<RelayId>, StorageError> {
        if let Some(known) = self.relays.get(&account) {
            return Ok(known.clone());
        }
        let log = accounts::load(read, account)?;
        let relays: Vec<RelayId> = log.iter().flat_map(accounts::relays).map(|r| r.id).collect();
        self.relays.insert(account, relays.clone());
        Ok(relays)
    }

    /// Other members to whom the message was sent: those who were in where its author stood
    /// and are in since. Whoever joined later says that it holds the chain, and means the part
    /// from its joining on: its word proves nothing of what was before.
    fn audience(
        &mut self,
        read: &dyn Read,
        device: DeviceId,
        seq: u64,
    ) -> Result<Audience, StorageError> {
        let row = letters::log_row(read, self.topic, device, seq)?;
        let header = row
            .and_then(|r| Envelope::from_bytes(&r.envelope).ok())
            .and_then(|envelope| envelope.header);
        let now = self.state.now();
        let heads = header.map_or_else(|| now.heads.clone(), |h| h.heads.to_vec());
        if let Some((known, audience)) = &self.audience
            && *known == heads
        {
            return Ok(audience.clone());
        }
        let then = if heads == now.heads { None } else { self.state.eval.at(&heads) };
        let members = now.members.iter().filter(|(account, member)| {
            **account != self.own
                && then.as_ref().is_none_or(|then| {
                    then.members.get(account).is_some_and(|m| m.added_by == member.added_by)
                })
        });
        let current = members.map(|(account, _)| *account).collect();
        let gone = then.iter().flat_map(|then| then.members.keys()).filter(|account| {
            **account != self.own && !now.members.contains_key(account) && self.once(account)
        });
        let audience = Audience { current, gone: gone.copied().collect() };
        self.audience = Some((heads, audience.clone()));
        Ok(audience)
    }

    /// Whether an account came in once only, as far as is known.
    fn once(&self, account: &AccountId) -> bool {
        let adds = |op: &MemberOp| matches!(op, MemberOp::Add { account: a, .. } if a == account);
        self.state.log.records().filter(|r| adds(&r.get().op)).count() <= 1
    }
}

fn ack_key(topic: TopicId, by: DeviceId, chain: DeviceId) -> Vec<u8> {
    Key::new().fixed(&topic.0).fixed(&chain.0).fixed(&by.0).into_bytes()
}
