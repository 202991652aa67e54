//! What two devices say when they meet: one summary of all that both should know alike. Where
//! the summaries differ, digests of each account and topic; what differs is then fetched, by
//! [`sync`] and [`accounts`].
//!
//! Two who know the same say 18 bytes each, whatever they share: people meet far more often
//! than something happened in between.
//!
//! A topic is named, or part of a summary, only for a device that is a current member of it
//! as far as is known here.

use std::collections::{BTreeMap, BTreeSet};

use teahouse_protocols::ids::{AccountId, DeviceId, TopicId};
use teahouse_protocols::sync::{Digest, Frame, TopicDigest};

use crate::engine::{accounts, cursors, sync, topics};
use crate::tx::{Fail, Tx, capped};

/// Says hello again to everybody connected.
pub(crate) fn hello_all(tx: &mut Tx<'_>) -> Result<(), Fail> {
    let devices: Vec<DeviceId> = tx.mem.peers.keys().copied().collect();
    for device in devices {
        hello(tx, device)?;
    }
    Ok(())
}

/// Says hello to a device with which something is shared.
pub(crate) fn hello(tx: &mut Tx<'_>, device: DeviceId) -> Result<(), Fail> {
    // What comes of it may be told again.
    if let Some(peer) = tx.mem.peers.get_mut(&device) {
        peer.told = None;
    }
    if let Some(digests) = Digests::of(tx, device)? {
        tx.send(device, Frame::Hello { version: 1, summary: digests.summary() });
    }
    Ok(())
}

/// A device said hello.
pub(crate) fn hear(tx: &mut Tx<'_>, from: DeviceId, theirs: Digest) -> Result<(), Fail> {
    match Digests::of(tx, from)? {
        Some(ours) if ours.summary() == theirs => {
            for topic in ours.topics.keys() {
                sync::compare(tx, from, *topic, true)?;
            }
            Ok(())
        }
        ours => {
            tell(tx, from, ours.unwrap_or_default(), true);
            Ok(())
        }
    }
}

/// Digests came: asks for what they have and this device lacks, and tells what they lack.
pub(crate) fn compare(
    tx: &mut Tx<'_>,
    from: DeviceId,
    list: &[(AccountId, Digest)],
    topic_list: &[TopicDigest],
    ask: bool,
) -> Result<(), Fail> {
    let ours = Digests::of(tx, from)?.unwrap_or_default();
    let concerns = Concerns::of(tx, from)?;
    let mut seen = BTreeSet::new();
    for (account, theirs) in list {
        if seen.insert(*account)
            && concerns.contains(account)
            && accounts::digest(tx, *account, concerns.member(account))? != *theirs
        {
            accounts::want(tx, from, *account)?;
        }
    }
    for theirs in topic_list {
        let known = ours.topics.get(&theirs.topic);
        if known.is_some_and(|ours| ours.cursors != theirs.cursors) {
            cursors::greet(tx, from, theirs.topic)?;
        }
        let same = known.is_some_and(|ours| ours.frontier == theirs.frontier);
        sync::compare(tx, from, theirs.topic, same)?;
    }
    let told = tx.mem.peers.get(&from).and_then(|peer| peer.told);
    if ask && told != Some(ours.summary()) {
        tell(tx, from, ours, false);
    }
    Ok(())
}

/// Asks a device that is in no account, as far as is known here, which one it believes to be
/// in: it may be one that was removed ([`dismiss`]).
pub(crate) fn ask_stranger(tx: &mut Tx<'_>, from: DeviceId) {
    tell(tx, from, Digests::default(), true);
}

fn tell(tx: &mut Tx<'_>, to: DeviceId, digests: Digests, ask: bool) {
    if let Some(peer) = tx.mem.peers.get_mut(&to) {
        peer.told = Some(digests.summary());
    }
    // The own account first: whoever knows better looks for it there. Who is out comes last.
    let mut list = digests.accounts;
    list.sort_by_key(|(place, ..)| *place);
    let list = list.into_iter().map(|(_, account, digest)| (account, digest)).collect();
    let topics = digests.topics.into_values().collect();
    tx.send(to, Frame::Digests { accounts: capped(list), topics: capped(topics), ask });
}

/// Accounts of a list among which a device's own is looked for: it comes first.
const MAX_CLAIMS: usize = 8;

/// Tells a device that believes to be in an account that it is out. Whether it was told.
pub(crate) fn dismiss(
    tx: &mut Tx<'_>,
    from: DeviceId,
    accounts: &[(AccountId, Digest)],
) -> Result<bool, Fail> {
    if accounts::is_active(tx, from)? {
        return Ok(false);
    }
    for (account, _) in accounts.iter().take(MAX_CLAIMS) {
        let packs = accounts::end_of(tx, *account, from)?;
        if !packs.is_empty() {
            for pack in packs {
                tx.send(from, Frame::Account(pack));
            }
            return Ok(true);
        }
    }
    Ok(false)
}

/// In which order accounts are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Own,
    Member,
    Former,
}

/// What two devices compare. Both work out the same of what both know.
#[derive(Debug, Default)]
struct Digests {
    accounts: Vec<(Place, AccountId, Digest)>,
    topics: BTreeMap<TopicId, TopicDigest>,
}

impl Digests {
    /// `None` where nothing is shared: such a device is not greeted.
    fn of(tx: &mut Tx<'_>, device: DeviceId) -> Result<Option<Self>, Fail> {
        let Some(account) = tx.me()?.account else { return Ok(None) };
        let shared = shared_topics(tx, device)?;
        // Only a device of one's own, about to be welcomed, is greeted without a shared topic.
        if shared.is_empty() && accounts::account_of(tx, device)? != Some(account) {
            return Ok(None);
        }
        let mut digests = Self::default();
        for topic in shared {
            let frontier = sync::digest(tx, topic)?;
            let cursors = cursors::digest(tx, device, topic)?;
            digests.topics.insert(topic, TopicDigest { topic, frontier, cursors });
        }
        let concerns = Concerns::of(tx, device)?;
        let own = std::iter::once((Place::Own, account));
        let members = concerns.members.iter().map(|a| (Place::Member, *a));
        let former = concerns.shared.difference(&concerns.members).map(|a| (Place::Former, *a));
        for (place, other) in own.chain(members.chain(former).filter(|(_, a)| *a != account)) {
            let digest = accounts::digest(tx, other, concerns.member(&other))?;
            digests.accounts.push((place, other, digest));
        }
        Ok(Some(digests))
    }

    fn summary(&self) -> Digest {
        let mut h = blake3::Hasher::new_derive_key("teahouse/v1/greeting summary");
        let accounts: BTreeMap<_, _> = self.accounts.iter().map(|(_, a, d)| (a, d)).collect();
        h.update(&(accounts.len() as u64).to_le_bytes());
        for (account, digest) in accounts {
            h.update(&account.0);
            h.update(digest);
        }
        for (topic, digest) in &self.topics {
            h.update(&topic.0);
            h.update(&digest.frontier);
            h.update(&digest.cursors);
        }
        let mut out = [0; 16];
        out.copy_from_slice(&h.finalize().as_bytes()[..16]);
        out
    }
}

/// Whether a device is one's own, or shares a topic with this account.
pub(crate) fn shares(tx: &mut Tx<'_>, device: DeviceId) -> Result<bool, Fail> {
    let theirs = accounts::account_of(tx, device)?;
    Ok(theirs.is_some() && (theirs == tx.me()?.account || !shared_topics(tx, device)?.is_empty()))
}

fn shared_topics(tx: &mut Tx<'_>, device: DeviceId) -> Result<Vec<TopicId>, Fail> {
    let mut shared = Vec::new();
    if tx.me()?.account.is_none() || !accounts::is_active(tx, device)? {
        return Ok(shared);
    }
    for topic in accounts::topic_ids(tx)? {
        if topics::takes_part(tx, topic)? && topics::may_read(tx, topic, device)? {
            shared.push(topic);
        }
    }
    Ok(shared)
}

/// Accounts whose devices' words are judged in the topics shared with a device.
pub(crate) fn judged(tx: &mut Tx<'_>, device: DeviceId) -> Result<BTreeSet<AccountId>, Fail> {
    let mut judged = BTreeSet::new();
    for topic in shared_topics(tx, device)? {
        judged.extend(topics::judged(tx, topic)?);
    }
    Ok(judged)
}

/// Accounts that concern both this account and a device's: of which the two tell each other.
pub(crate) struct Concerns {
    all: bool,
    shared: BTreeSet<AccountId>,
    members: BTreeSet<AccountId>,
}

impl Concerns {
    /// What concerns this account and a device's.
    pub(crate) fn of(tx: &mut Tx<'_>, device: DeviceId) -> Result<Self, Fail> {
        let theirs = accounts::account_of(tx, device)?;
        let active = accounts::is_active(tx, device)?;
        let all = active && theirs.is_some() && theirs == tx.me()?.account;
        let (mut shared, mut members) = (BTreeSet::new(), BTreeSet::new());
        // Whoever is out of its account hears no more of it here (see [`dismiss`]).
        if active {
            shared.extend(theirs);
            members.extend(theirs);
        }
        for topic in shared_topics(tx, device)? {
            shared.extend(topics::judged(tx, topic)?);
            members.extend(topics::members(tx, topic)?);
        }
        Ok(Self { all, shared, members })
    }

    /// Whether the two tell each other of it.
    pub(crate) fn contains(&self, account: &AccountId) -> bool {
        self.all || self.shared.contains(account)
    }

    /// Whether things are sealed to it: who is out is only judged.
    pub(crate) fn member(&self, account: &AccountId) -> bool {
        self.all || self.members.contains(account)
    }
}
