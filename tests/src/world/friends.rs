//! Who has been whose friend, as the tables of devices say: looked at after every step.

use std::collections::{BTreeMap, BTreeSet};

use teahouse_core::query;
use teahouse_core::store::{KeyRange, ReadExt};
use teahouse_core::tables::{CONTACTS, Chosen, ContactValue};
use teahouse_protocols::ids::{AccountId, Millis};

use super::World;

/// Whom accounts' devices have had as friends, and when.
#[derive(Debug, Default)]
pub struct Friendships(BTreeMap<Between, BTreeMap<usize, Vec<Span>>>);

/// Whose friend, and who is it.
type Between = (AccountId, AccountId);

#[derive(Debug, Clone, Copy)]
struct Span {
    from: Millis,
    to: Option<Millis>,
}

impl Friendships {
    /// Whether some device of an account has had somebody as a friend, at that time or later.
    #[must_use]
    pub fn since(&self, of: AccountId, who: AccountId, time: Millis) -> bool {
        let devices = self.0.get(&(of, who));
        devices
            .into_iter()
            .flat_map(BTreeMap::values)
            .flatten()
            .any(|s| s.to >= Some(time) || s.to.is_none())
    }

    /// Whether some device of an account has ever had somebody as a friend.
    #[must_use]
    pub fn ever(&self, of: AccountId, who: AccountId) -> bool {
        self.0.contains_key(&(of, who))
    }

    /// Whether all of these devices have somebody as a friend by now.
    #[must_use]
    pub fn now(&self, of: AccountId, who: AccountId, devices: &[usize]) -> bool {
        let known = self.0.get(&(of, who));
        devices.iter().all(|d| {
            let last = known.and_then(|k| k.get(d)).and_then(|spans| spans.last());
            last.is_some_and(|s| s.to.is_none())
        })
    }

    /// Whether no device of an account has ever ended a friendship.
    #[must_use]
    pub fn unbroken(&self, of: AccountId, who: AccountId) -> bool {
        let devices = self.0.get(&(of, who));
        devices.is_some_and(|d| d.values().flatten().all(|s| s.to.is_none()))
    }

    fn note(&mut self, of: AccountId, device: usize, friends: &BTreeSet<AccountId>, now: Millis) {
        for who in friends {
            let spans = self.0.entry((of, *who)).or_default().entry(device).or_default();
            if spans.last().is_none_or(|s| s.to.is_some()) {
                spans.push(Span { from: now, to: None });
            }
        }
        for ((account, who), devices) in &mut self.0 {
            if *account != of || friends.contains(who) {
                continue;
            }
            let last = devices.get_mut(&device).and_then(|spans| spans.last_mut());
            if let Some(span) = last.filter(|s| s.to.is_none()) {
                span.to = Some(now.max(span.from));
            }
        }
    }
}

impl World {
    /// Notes whom a device has as friends.
    pub fn note_friends(&mut self, device: usize) {
        if self.devices[device].core.is_none() {
            return;
        }
        let s = self.snapshot(device);
        let Some(of) = query::identity(&s).expect("reads").account else { return };
        let rows: Vec<(Vec<u8>, Chosen<ContactValue>)> =
            s.scan_typed(&CONTACTS, &KeyRange::all(), false, 65_536).expect("reads");
        let friends = rows
            .into_iter()
            .filter(|(_, c)| c.value.friend && !c.value.blocked)
            .filter_map(|(key, _)| Some(AccountId(key.try_into().ok()?)))
            .collect();
        self.friendships.note(of, device, &friends, self.now);
    }
}
