//! The own chain, for whoever is not connected: under a topic's weekly tag at each member's
//! relays, and into inboxes where nobody opened that tag.

use std::collections::{BTreeMap, BTreeSet};

use teahouse_protocols::account::RelayAddr;
use teahouse_protocols::codec;
use teahouse_protocols::envelope::Envelope;
use teahouse_protocols::epoch::week_of;
use teahouse_protocols::ids::{DeviceId, EpochId, RelayId, Tag, TopicId};
use teahouse_protocols::inbox::InboxItem;
use teahouse_protocols::mailbox::{self, Item, Request, Right, TopicMail};

use super::pump::{LIVE_PATIENCE, Pump};
use super::session::Pending;
use crate::engine::{accounts, cursors, inbox, letters, topics};
use crate::tables::{CHAINS, Chain, DEPOSITS, Deposit, MAX_RUNS, chain_key, pair_key};
use crate::tx::{Fail, Tx, capped};

/// Bytes of one deposit or of letters in one inbox message.
const DEPOSIT_BYTES: usize = 512 * 1024;

impl Pump<'_, '_> {
    /// The own chain and cursors, for whoever is not connected.
    pub(super) fn topics(&mut self) -> Result<(), Fail> {
        let topics: BTreeSet<TopicId> = if self.tx.mem.mail_all {
            accounts::topic_ids(self.tx)?.into_iter().collect()
        } else {
            std::mem::take(&mut self.tx.mem.mail_topics)
        };
        self.tx.mem.mail_topics.clear();
        for topic in topics {
            let keep = self.topic(topic)?;
            if keep {
                self.tx.mem.mail_topics.insert(topic);
            }
        }
        Ok(())
    }

    /// Returns whether the topic needs another look.
    fn topic(&mut self, topic: TopicId) -> Result<bool, Fail> {
        let me = self.tx.me()?;
        let Some(account) = me.account else { return Ok(false) };
        // Who is out by now still owes the others what it had written before.
        let members = topics::audience(self.tx, topic)?;
        let within = topics::members(self.tx, topic)?.contains(&account);
        let chain: Option<Chain> = self.tx.typed(&CHAINS, &chain_key(topic, me.device))?;
        let high = chain.map_or(0, |c| c.high);
        if !within && high == 0 {
            return Ok(false);
        }
        let mut again = false;
        // Everybody's relays, with the devices that fetch there.
        let mut targets: BTreeMap<RelayId, (RelayAddr, Vec<DeviceId>)> = BTreeMap::new();
        let mut floor = u64::MAX;
        let mut all_live = true;
        for member in members {
            let devices = accounts::devices_of(self.tx, member)?;
            let others: Vec<DeviceId> = devices.into_iter().filter(|d| *d != me.device).collect();
            if member != account && others.is_empty() {
                floor = 0;
                all_live = false;
            }
            for device in &others {
                floor = floor.min(cursors::acked(&self.tx.stage, topic, *device, me.device)?);
                all_live &= self.tx.mem.peers.get(device).is_some_and(|p| !p.full);
            }
            if member == account && others.is_empty() {
                continue;
            }
            for relay in accounts::relays_of(self.tx, member)? {
                targets
                    .entry(relay.id)
                    .or_insert_with(|| (relay, Vec::new()))
                    .1
                    .extend(others.iter().copied());
            }
        }
        let floor = if floor == u64::MAX { high } else { floor };
        for (relay, _) in targets.values() {
            let key = pair_key(&topic.0, &relay.id.0);
            let known: Option<Deposit> = self.tx.typed(&DEPOSITS, &key)?;
            let mut deposit = known.clone().unwrap_or_else(|| Deposit::beginning(floor));
            // What every device has is no relay's business any more.
            deposit.skip(floor);
            if known.as_ref() != Some(&deposit) {
                self.tx.put(&DEPOSITS, &key, &deposit)?;
            }
            if deposit.handed < high {
                again = true;
                self.run(topic, relay, &deposit, high, all_live)?;
            }
        }
        if within {
            again |= self.cursor(topic, &targets)?;
        }
        Ok(again)
    }

    /// Deposits the next stretch of the own chain at one relay.
    fn run(
        &mut self,
        topic: TopicId,
        relay: &RelayAddr,
        deposit: &Deposit,
        high: u64,
        all_live: bool,
    ) -> Result<(), Fail> {
        let me = self.tx.me()?;
        let from = deposit.handed + 1;
        let first = letters::log_row(&self.tx.stage, topic, me.device, from)?;
        let written = first.map_or(0, |r| r.received);
        if all_live && self.tx.now < written.saturating_add(LIVE_PATIENCE) {
            self.wake_at(written + LIVE_PATIENCE);
            return Ok(());
        }
        if self.inflight(relay.id, |p| matches!(p, Pending::Run { topic: t, .. } if *t == topic)) {
            return Ok(());
        }
        let now = self.tx.now;
        if let Some(until) = self.session(relay.id).quiet(&topic.0, now) {
            self.wake_at(until);
            return Ok(());
        }
        if !self.ready(relay) {
            return Ok(());
        }
        let mut items = Vec::new();
        let mut bytes = 0;
        let mut epoch: Option<EpochId> = None;
        let mut upto = from - 1;
        for seq in from..=high {
            let Some(letter) = letters::letter(&self.tx.stage, topic, me.device, seq)? else {
                break;
            };
            let Ok(envelope) = Envelope::from_bytes(&letter.envelope) else { break };
            let Some(header) = &envelope.header else { break };
            let size = letters::size(&letter);
            if epoch.is_some_and(|e| e != header.epoch)
                || !items.is_empty() && bytes + size > DEPOSIT_BYTES
                || items.len() + 1 + letter.bodies.len() > 256
            {
                break;
            }
            epoch = Some(header.epoch);
            bytes += size;
            items.push(TopicMail::Envelope(letter.envelope));
            items.extend(letter.bodies.into_iter().map(TopicMail::Body));
            upto = seq;
        }
        let Some(epoch) = epoch else { return Ok(()) };
        if topics::is_public(self.tx, topic)? {
            // Whoever knows the topic could open its tag: the publisher's other devices are
            // reached at their inboxes.
            if !closed(self.tx, relay.id, topic, upto)? {
                self.session(relay.id).hush(topic.0, now);
            }
            return Ok(());
        }
        let Some((_, secret)) = topics::secret(self.tx, epoch)? else { return Ok(()) };
        let key = secret.tag_key(week_of(self.tx.now));
        let tag = Tag(key.verifying_key().to_bytes());
        let items: Vec<Item> = items
            .iter()
            .filter_map(|m| {
                let bytes = mailbox::seal_topic_mail(m, &secret, tag);
                Some(Item { bytes: codec::Bytes::try_from(bytes).ok()?, delete: None })
            })
            .collect();
        let right = Right::Member(mailbox::write_proof(&key, relay.id, &items));
        self.send(
            relay,
            &Request::Deposit { tag, items: capped(items), right },
            Pending::Run { topic, first: from, upto },
        );
        Ok(())
    }
}

/// Nobody opened the topic's tag there: leaves the run in the inboxes of the devices that fetch
/// there. False when none of them can be reached so.
pub(super) fn closed(
    tx: &mut Tx<'_>,
    relay: RelayId,
    topic: TopicId,
    upto: u64,
) -> Result<bool, Fail> {
    let me = tx.me()?;
    let key = pair_key(&topic.0, &relay.0);
    let Some(mut deposit) = tx.typed::<Deposit>(&DEPOSITS, &key)? else { return Ok(false) };
    if deposit.runs.len() >= MAX_RUNS {
        return Ok(false);
    }
    let first = deposit.handed + 1;
    let run = letters::run(&tx.stage, topic, me.device, first, upto)?;
    let last = deposit.handed + run.len() as u64;
    if run.is_empty() {
        // It was handed over meanwhile.
        tx.mem.mail_topics.insert(topic);
        return Ok(deposit.handed >= upto);
    }
    let mut copies = 0;
    for device in topics::devices(tx, topic)? {
        let account = accounts::account_of(tx, device)?;
        let Some(account) = account else { continue };
        let fetches_there = accounts::relays_of(tx, account)?.iter().any(|r| r.id == relay);
        if device == me.device || !fetches_there || accounts::bundle_of(tx, device)?.is_none() {
            continue;
        }
        // Every item in the outbox has a number: whether one was made shows there.
        let before = tx.me_row()?.next;
        let items = vec![InboxItem::Letters(capped(run.clone()))];
        inbox::send_run(tx, device, items, Some((topic, relay, last)))?;
        copies += u32::from(tx.me_row()?.next > before);
    }
    if copies == 0 {
        return Ok(false);
    }
    deposit.hand(first, last, copies);
    tx.put(&DEPOSITS, &key, &deposit)?;
    tx.mem.mail_topics.insert(topic);
    Ok(true)
}
