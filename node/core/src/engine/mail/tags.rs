//! Which tags this device reads at its relays, and which of them it opens.

use std::collections::{BTreeMap, BTreeSet};

use teahouse_protocols::account::RelayAddr;
use teahouse_protocols::epoch::week_of;
use teahouse_protocols::ids::{EpochId, Millis, RelayId, Tag};
use teahouse_protocols::mailbox::{self, Request, TagKind};
use teahouse_protocols::sign::SigningKey;

use super::pump::Pump;
use super::session::Pending;
use crate::engine::{accounts, topics};
use crate::features;
use crate::store::{KeyRange, ReadExt};
use crate::tables::{
    EPOCHS, Epoch, OWN_PREKEYS, OwnPrekey, RELAYS, RelayRow, TAGS, TagRow, TagSource, pair_key,
};
use crate::tx::{Fail, Tx, capped};

/// Weeks for which tags are read.
const WEEKS: u32 = 6;
/// How often tags are compared with what is wanted.
pub(super) const TAGS_EVERY: Millis = 60 * 60 * 1000;
/// Epochs of a topic whose tags are opened here; those of older ones are read only, for whoever
/// still leaves something under them opens them too.
const OPENED_EPOCHS: usize = 16;
/// Tags read at one relay, newest epochs first.
const MAX_TAGS: usize = 32_768;
/// One week.
const WEEK: Millis = 7 * 24 * 60 * 60 * 1000;

impl Pump<'_, '_> {
    /// Compares the tags that should be read with those that are, and opens what is to be open.
    pub(super) fn tags(&mut self, relay: &RelayAddr, row: &RelayRow) -> Result<(), Fail> {
        let now = self.tx.now;
        let checked = self.session(relay.id).tags_checked;
        if checked == 0 || now > checked.saturating_add(TAGS_EVERY) || now < checked {
            self.compare(relay.id, row.clone())?;
            self.session(relay.id).tags_checked = now.max(1);
        }
        let mut to_open: Vec<(Tag, TagSource)> =
            self.session(relay.id).to_open.iter().map(|(t, s)| (*t, *s)).collect();
        // Where tokens are scarce: the inbox and the card first, by which this device is found.
        to_open.sort_by_key(|(_, source)| *source);
        for (tag, source) in to_open {
            if !self.ready(relay) {
                break;
            }
            let session = self.session(relay.id);
            if let Some(until) = session.quiet(&tag.0, now) {
                self.wake_at(until);
                continue;
            }
            if self.inflight(relay.id, |p| matches!(p, Pending::Open(t, _) if *t == tag)) {
                continue;
            }
            let Some(key) = tag_key(self.tx, source)? else { continue };
            let Some(token) = self.take_token(relay.id, source)? else { break };
            let kind = kind_of(self.tx, source)?;
            let proof = mailbox::open_proof(&key, relay.id, &kind);
            self.send(relay, &Request::Open { tag, kind, token, proof }, Pending::Open(tag, token));
        }
        Ok(())
    }

    /// Adds tags that are wanted, drops those that are of no more use, and notes which are to
    /// be opened.
    fn compare(&mut self, relay: RelayId, mut row: RelayRow) -> Result<(), Fail> {
        let now = self.tx.now;
        let week = week_of(now);
        let rows: Vec<(Vec<u8>, TagRow)> =
            self.tx.scan_typed(&TAGS, &KeyRange::prefix(&relay.0), false, 65_536)?;
        // Read completely up to here: the earliest of all tags.
        let complete = rows
            .iter()
            .filter(|(_, r)| !matches!(r.source, TagSource::Topic(_, w) if w > week))
            .map(|(_, r)| r.read)
            .min()
            .unwrap_or(0);
        if complete > row.fetched {
            row.fetched = complete;
            self.tx.put(&RELAYS, &relay.0, &row)?;
        }
        let wanted = wanted(self.tx, row.fetched)?;
        let mut to_open = BTreeMap::new();
        let mut known: BTreeSet<TagSource> = BTreeSet::new();
        for (key, row) in rows {
            let Some(tag) = key.last_chunk::<32>().map(|t| Tag(*t)) else { continue };
            let keep = match row.source {
                // Whatever was left until a week after its own was fetched, or is gone.
                TagSource::Topic(_, w) => {
                    let fetched = row.read >= Millis::from(w + 2) * WEEK;
                    wanted.contains_key(&row.source) || !fetched && w + WEEKS + 2 >= week
                }
                // These have one tag at a time.
                source => {
                    wanted.contains_key(&source)
                        && tag_key(self.tx, source)?
                            .is_some_and(|k| k.verifying_key().to_bytes() == tag.0)
                }
            };
            if !keep {
                self.tx.del(&TAGS, &key)?;
                continue;
            }
            known.insert(row.source);
            if !row.open && wanted.get(&row.source) == Some(&true) {
                to_open.insert(tag, row.source);
            }
        }
        for (source, open) in &wanted {
            if known.contains(source) {
                continue;
            }
            let Some(key) = tag_key(self.tx, *source)? else { continue };
            let tag = Tag(key.verifying_key().to_bytes());
            let row = TagRow { source: *source, after: 0, open: false, since: now, read: 0 };
            self.tx.put(&TAGS, &pair_key(&relay.0, &tag.0), &row)?;
            if *open {
                to_open.insert(tag, *source);
            }
        }
        let session = self.session(relay);
        session.to_open = to_open;
        session.look = true;
        Ok(())
    }
}

/// Sources of the tags that this device should read at each of its relays, and whether it is to
/// open them.
fn wanted(tx: &mut Tx<'_>, last_fetch: Millis) -> Result<BTreeMap<TagSource, bool>, Fail> {
    let mut wanted = BTreeMap::new();
    let prekeys = tx.scan(&OWN_PREKEYS, &KeyRange::all(), false, 256)?;
    for (key, _) in prekeys {
        let Ok(id) = <[u8; 8]>::try_from(key.as_slice()) else { continue };
        wanted.insert(TagSource::Inbox(id), true);
    }
    if features::contacts::card_tag_key(tx)?.is_some() {
        wanted.insert(TagSource::Card, true);
    }
    let now = week_of(tx.now);
    let since = week_of(last_fetch).max(now.saturating_sub(WEEKS)).saturating_sub(1);
    let horizon = tx.now.saturating_sub(Millis::from(WEEKS) * WEEK);
    let mut epochs: Vec<(usize, EpochId)> = Vec::new();
    for topic in accounts::topic_ids(tx)? {
        // Followers of a feed ask whoever has it.
        if !topics::takes_part(tx, topic)? || topics::is_public(tx, topic)? {
            continue;
        }
        // Whoever lags leaves things under an epoch until it hears of the next one: the newest
        // is read, and each that was the newest within this many weeks.
        let mut superseded = Millis::MAX;
        let all = topics::epochs(&tx.stage, topic, topics::MAX_EPOCHS)?;
        for (age, epoch) in all.into_iter().enumerate() {
            if superseded < horizon {
                break;
            }
            let Some(row) = tx.typed::<Epoch>(&EPOCHS, &epoch.0)? else { continue };
            superseded = row.received;
            epochs.push((age, epoch));
        }
    }
    epochs.sort_unstable();
    for (age, epoch) in epochs {
        if wanted.len() >= MAX_TAGS {
            break;
        }
        for week in since..=now + 1 {
            let open = age < OPENED_EPOCHS && week >= now;
            wanted.insert(TagSource::Topic(epoch, week), open);
        }
    }
    Ok(wanted)
}

pub(super) fn tag_key(tx: &mut Tx<'_>, source: TagSource) -> Result<Option<SigningKey>, Fail> {
    Ok(match source {
        TagSource::Inbox(id) => {
            let row: Option<OwnPrekey> = tx.typed(&OWN_PREKEYS, &id)?;
            row.map(|r| SigningKey::from_bytes(&r.inbox))
        }
        TagSource::Card => features::contacts::card_tag_key(tx)?,
        TagSource::Topic(epoch, week) => {
            topics::secret(tx, epoch)?.map(|(_, secret)| secret.tag_key(week))
        }
    })
}

fn kind_of(tx: &mut Tx<'_>, source: TagSource) -> Result<TagKind, Fail> {
    Ok(match source {
        TagSource::Inbox(_) => TagKind::Inbox,
        TagSource::Card => {
            TagKind::Card { secrets: capped(features::contacts::card_secret_hashes(tx)?) }
        }
        TagSource::Topic(..) => TagKind::Topic,
    })
}

/// The card's secrets changed: its tag is opened anew with the new ones.
pub(crate) fn reopen_card(tx: &mut Tx<'_>) -> Result<(), Fail> {
    let rows: Vec<(Vec<u8>, TagRow)> = tx.scan_typed(&TAGS, &KeyRange::all(), false, 65_536)?;
    for (key, mut row) in rows {
        if row.source == TagSource::Card {
            row.open = false;
            tx.put(&TAGS, &key, &row)?;
            let opening = |p: &Pending| matches!(p, Pending::Open(tag, _) if key.last_chunk::<32>() == Some(&tag.0));
            tx.mem.card_dirty |= tx.mem.mail.values().any(|s| s.inflight.values().any(opening));
        }
    }
    tx.mem.mail_due = true;
    Ok(())
}
