//! Expiry: items by age, tags that nobody uses, invite codes. A bounded piece of work each
//! time, with the rest for the next.

use teahouse_protocols::ids::{Millis, Tag};

use super::RelayConfig;
use super::decide::{IDLE_DAYS, Tx};
use super::store::{CODES, DAY, DUE, DUE_TAG, HEADS, Head, TAGS, TagRow, due_key};
use crate::store::{KeyRange, KeyReader, Read, ReadExt, StorageError};

/// Items removed in one step, at most.
pub(super) const ITEMS_AT_ONCE: usize = 512;
/// Tags and codes looked at in one step, at most.
pub(super) const DUE_AT_ONCE: usize = 256;
/// Expiry comes in rounds of this many milliseconds, so that a busy relay doesn't commit for
/// each item. An item may stay this much longer.
pub(super) const ROUND: Millis = 10 * 60 * 1000;
/// Days for which a closed tag's last index is remembered. A client that comes back later
/// than that with an old index may miss what came under the tag's new life.
pub(super) const REMEMBER_DAYS: u64 = 366;

/// The last day on which a tag last used on day `used` is kept open.
pub(super) fn idle_until(config: &RelayConfig, used: u64) -> u64 {
    used.saturating_add(u64::from(config.keep_days) + IDLE_DAYS)
}

/// Since when items must be here to be kept.
const fn oldest(config: &RelayConfig, clock: Millis) -> Millis {
    clock.saturating_sub(config.keep_days as u64 * DAY)
}

impl Tx<'_> {
    /// Does one piece of work.
    pub(super) fn sweep(&mut self) -> Result<(), StorageError> {
        let oldest = oldest(self.config, self.totals.clock);
        let heads =
            self.stage.scan_typed::<Head>(&HEADS, &KeyRange::all(), false, ITEMS_AT_ONCE)?;
        for (key, head) in heads {
            let mut key = KeyReader::new(&HEADS, &key);
            let at = key.u64()?;
            if at >= oldest {
                break;
            }
            let (tag, index) = (Tag(key.fixed()?), key.u64()?);
            self.remove(at, tag, index, &head)?;
        }

        for (key, _) in self.stage.scan(&DUE, &KeyRange::all(), false, DUE_AT_ONCE)? {
            let mut reader = KeyReader::new(&DUE, &key);
            let (day, what, id) = (reader.u64()?, reader.u8()?, reader.fixed::<32>()?);
            if day > self.totals.today() {
                break;
            }
            self.stage.del(&DUE, &key)?;
            if what == DUE_TAG {
                self.look_after(Tag(id))?;
            } else {
                self.stage.del(&CODES, &id)?;
            }
        }
        Ok(())
    }

    /// Closes a tag that nobody uses, forgets one that was closed long ago, or says when to
    /// look again.
    fn look_after(&mut self, tag: Tag) -> Result<(), StorageError> {
        let Some(mut row) = self.stage.get_typed::<TagRow>(&TAGS, &tag.0)? else { return Ok(()) };
        let today = self.totals.today();
        let until = idle_until(self.config, row.used);
        row.due = if row.kind.is_none() {
            return self.stage.del(&TAGS, &tag.0);
        } else if today <= until || row.items > 0 {
            // Items outlive an idle tag only while their expiry lags behind.
            until.max(today) + 1
        } else {
            row.kind = None;
            self.totals.tags = self.totals.tags.saturating_sub(1);
            if row.last == 0 {
                return self.stage.del(&TAGS, &tag.0);
            }
            today + REMEMBER_DAYS
        };
        self.stage.put_typed(&TAGS, &tag.0, &row)?;
        self.stage.put(&DUE, &due_key(row.due, DUE_TAG, &tag.0), Vec::new())
    }
}

/// The time of the next piece of work, by the relay's clock; now or earlier when there is
/// some already.
pub(super) fn next(read: &dyn Read, config: &RelayConfig) -> Result<Option<Millis>, StorageError> {
    let expiry = match read.first(&HEADS, &[])? {
        None => None,
        Some((key, _)) => {
            let at = KeyReader::new(&HEADS, &key).u64()?;
            let expires = at.saturating_add(u64::from(config.keep_days) * DAY).saturating_add(1);
            Some(expires.div_ceil(ROUND).saturating_mul(ROUND))
        }
    };
    let due = match read.first(&DUE, &[])? {
        None => None,
        Some((key, _)) => Some(KeyReader::new(&DUE, &key).u64()?.saturating_mul(DAY)),
    };
    Ok([expiry, due].into_iter().flatten().min())
}
