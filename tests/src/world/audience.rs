//! Who is in a topic, as one device's tables say: what was said is owed to them, and nobody
//! else may read it.

use std::collections::{BTreeMap, BTreeSet};

use teahouse_core::store::{KeyRange, ReadExt, Row, Snapshot};
use teahouse_core::tables::{ACCOUNT_RECORDS, DEVICE_ACCOUNT, OPS};
use teahouse_protocols::account::AccountLog;
use teahouse_protocols::ids::{AccountId, DeviceId, TopicId};
use teahouse_protocols::membership::MembershipLog;
use teahouse_protocols::sign::Signed;

/// Who is in a topic, as one device knows it.
#[derive(Debug, Clone, Default)]
pub struct Audience {
    /// Members.
    pub accounts: BTreeSet<AccountId>,
    /// Their active devices.
    pub devices: BTreeSet<DeviceId>,
    /// Devices known to be out: revoked ones, and those of former members.
    pub out: BTreeSet<DeviceId>,
}

impl Audience {
    /// Reads it from a device's tables.
    #[must_use]
    pub fn of(s: &Snapshot, topic: TopicId) -> Self {
        let accounts = s.scan(&ACCOUNT_RECORDS, &KeyRange::all(), false, 65_536).expect("reads");
        let ops = s.scan(&OPS, &KeyRange::prefix(&topic.0), false, 4_096).expect("reads");
        // The same records were verified and folded before, mostly.
        let mut hasher = blake3::Hasher::new();
        for (key, _) in accounts.iter().chain(&ops) {
            hasher.update(key);
        }
        let hash = *hasher.finalize().as_bytes();
        if let Some(known) = AUDIENCES.with_borrow(|known| known.get(&hash).cloned()) {
            return known;
        }
        let out = Self::fold(s, topic, &accounts, &ops);
        AUDIENCES.with_borrow_mut(|known| {
            if known.len() > 4_096 {
                known.clear();
            }
            known.insert(hash, out.clone());
        });
        out
    }

    pub(super) fn extend(&mut self, other: &Self) {
        self.accounts.extend(&other.accounts);
        self.devices.extend(&other.devices);
        self.out.retain(|d| other.out.contains(d));
    }

    fn fold(s: &Snapshot, topic: TopicId, accounts: &[Row], ops: &[Row]) -> Self {
        let mut out = Self::default();
        let mut records: BTreeMap<AccountId, Vec<_>> = BTreeMap::new();
        for (key, bytes) in accounts {
            let account = AccountId(*key.first_chunk().expect("a key"));
            records.entry(account).or_default().push(Signed::from_bytes(bytes).expect("signed"));
        }
        let ops = ops.iter().map(|(_, b)| Signed::from_bytes(b).expect("signed"));
        let Ok(log) = MembershipLog::from_records(topic, ops) else { return out };
        let eval = log.evaluate(&|account, device| {
            s.get_typed::<AccountId>(&DEVICE_ACCOUNT, &device.0).ok().flatten() == Some(*account)
        });
        let membership = eval.membership();
        out.accounts.extend(membership.members.keys());
        for (account, records) in records {
            let Ok(log) = AccountLog::from_records(records) else { continue };
            for (device, info) in &log.state().devices {
                let revoked = info.revoked.is_some();
                if !revoked && out.accounts.contains(&account) && log.state().is_active(device) {
                    out.devices.insert(*device);
                } else if revoked || membership.former.contains(&account) {
                    out.out.insert(*device);
                }
            }
        }
        out
    }
}

std::thread_local! {
    static AUDIENCES: std::cell::RefCell<BTreeMap<[u8; 32], Audience>> =
        const { std::cell::RefCell::new(BTreeMap::new()) };
}
