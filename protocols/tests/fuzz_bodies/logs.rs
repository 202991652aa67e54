//! Bytes as programs that write logs: who acts, what, upon whom, having seen what. Valid
//! signatures can't be found by mutation, so the records are made here; what a program
//! decides is everything else.

use std::collections::BTreeSet;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use teahouse_protocols::account::{
    self, AccountLog, AccountOp, AccountRecord, Signer, device_consent, root_consent,
};
use teahouse_protocols::card::{self, ContactCard, LinkSecret};
use teahouse_protocols::codec::{Bytes, List, Text, Wire, decode, encode};
use teahouse_protocols::ids::{AccountId, DeviceId, EnvelopeId, OpId, RecordId, Tag};
use teahouse_protocols::membership::{
    self, Cut, History, MemberOp, MembershipLog, MembershipRecord, Role, TopicKind,
};
use teahouse_protocols::sign::{Signed, SigningKey};

/// Most steps of a program: enough for every rule, few enough to be quick.
const STEPS: usize = 24;

/// Fixed randomness.
pub(super) fn rng(n: u8) -> ChaCha20Rng {
    ChaCha20Rng::from_seed([n; 32])
}

/// Keys 0 to 3 are roots, 4 to 7 devices.
fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n % 8 + 1; 32])
}

fn public(n: u8) -> [u8; 32] {
    key(n).verifying_key().to_bytes()
}

fn signer(n: u8) -> Signer {
    if n % 8 < 4 { Signer::Root(public(n)) } else { Signer::Device(DeviceId(public(n))) }
}

/// What an author has seen: everything, or one or two earlier records.
fn seen<T: Ord + Copy>(byte: u8, all: &[T], heads: Vec<T>) -> Vec<T> {
    if byte == 0xff || all.is_empty() {
        return heads;
    }
    let pick = |n: u8| all[usize::from(n) % all.len()];
    BTreeSet::from([pick(byte % 16), pick(byte / 16)]).into_iter().collect()
}

/// Steps of four bytes: author, operation, target, parents.
pub(super) fn account_log(data: &[u8]) {
    let mut log = AccountLog::create(&key(0), [0x11; 16]);
    let genesis = log.records().next().unwrap().clone();
    let mut all = vec![];
    let mut ids = vec![RecordId(genesis.id())];
    for step in data.as_chunks::<4>().0.iter().take(STEPS) {
        let [by, what, target, after] = *step;
        let mut parents = seen(after, &ids, log.heads().to_vec());
        parents.truncate(8);
        let record = AccountRecord {
            version: account::VERSION,
            account: Some(log.account()),
            parents: parents.try_into().unwrap(),
            signer: signer(by),
            op: account_op(log.account(), what, target),
        };
        if record.check().is_err() {
            assert!(decode::<AccountRecord>(&encode(&record)).is_err());
            continue;
        }
        let record = Signed::new(record, &key(by));
        let _ = log.insert(record.clone());
        ids.push(RecordId(record.id()));
        all.push(record);
    }
    // Whatever the order, the same comes of it.
    let mut other = AccountLog::open(genesis).unwrap();
    for record in all.iter().rev() {
        let _ = other.insert(record.clone());
    }
    assert_eq!(log.state(), other.state());
    assert!(log.records().eq(other.records()));
    let stored = AccountLog::from_records(log.records().cloned()).unwrap();
    assert_eq!(log.state(), stored.state());
    for device in log.state().active_devices() {
        // An active device can show that it is one; a card carries that if it is short.
        assert!(log.was_ever(device) && log.proof_of(device).is_some());
        if let Ok(proof) = ContactCard::proof_for(&log, device) {
            card(log.account(), *device, proof).verify_proof().unwrap();
        }
    }
}

fn card(account: AccountId, device: DeviceId, proof: List<Bytes<1024>, 8>) -> ContactCard {
    ContactCard {
        version: card::VERSION,
        account,
        device,
        name: Text::default(),
        inbox_key: [1; 32],
        tag: Tag([2; 32]),
        relays: List::default(),
        secret: LinkSecret([3; 16]),
        proof,
    }
}

fn account_op(account: AccountId, what: u8, target: u8) -> AccountOp {
    let device = DeviceId(public(target % 4 + 4));
    match what % 8 {
        0 => {
            let consent = device_consent(&account, &key(target % 4 + 4));
            AccountOp::AddDevice { device, name: Text::default(), consent }
        }
        1 => AccountOp::RevokeDevice { device },
        2 => {
            let root = key(target % 4);
            AccountOp::RotateRoot {
                root: public(target % 4),
                consent: root_consent(&account, &root),
            }
        }
        3 => AccountOp::SetProfile { name: target.to_string().as_str().try_into().unwrap() },
        4 => AccountOp::SetFeatures { features: vec![u16::from(target)].try_into().unwrap() },
        5 => AccountOp::SetCard { inbox_key: [target; 32], tag: Tag([target; 32]) },
        6 => AccountOp::SetRelays { relays: List::default() },
        _ => {
            // A consent that is somebody else's.
            let consent = device_consent(&account, &key(target));
            AccountOp::AddDevice { device, name: Text::default(), consent }
        }
    }
}

fn member(n: u8) -> AccountId {
    AccountId([0xa0 + n % 5; 32])
}

/// Account n has the devices with keys n and n + 5; two more belong to nobody.
fn member_key(n: u8, device: u8) -> SigningKey {
    SigningKey::from_bytes(&[(n % 5 + 5 * (device % 2)) % 12 + 1; 32])
}

fn member_device(n: u8, device: u8) -> DeviceId {
    DeviceId(member_key(n, device).verifying_key().to_bytes())
}

/// Steps of five bytes: author, device, operation, target, parents.
pub(super) fn membership_log(data: &[u8]) {
    let devices: Vec<[DeviceId; 2]> =
        (0..5).map(|n| [member_device(n, 0), member_device(n, 1)]).collect();
    // The second device of account 4 was never added to it.
    let belongs = |account: &AccountId, device: &DeviceId| {
        let n = usize::from(account.0[0].wrapping_sub(0xa0));
        devices.get(n).is_some_and(|d| d[0] == *device || (d[1] == *device && n != 4))
    };
    let kind = match data.len() % 8 {
        0 => TopicKind::Direct,
        7 => TopicKind::Private,
        _ => TopicKind::Group,
    };
    let create = MembershipRecord::create(
        member(0),
        member_device(0, 0),
        kind,
        History::FromJoining,
        [0x11; 16],
    );
    let create = Signed::new(create, &member_key(0, 0));
    let mut log = MembershipLog::new(create.clone()).unwrap();
    let mut all = vec![];
    let mut ids = vec![OpId(create.id())];
    for step in data.as_chunks::<5>().0.iter().take(STEPS) {
        let [by, with, what, target, after] = *step;
        let mut parents = seen(after, &ids, log.heads());
        parents.truncate(membership::MAX_PARENTS);
        let record = MembershipRecord {
            version: membership::VERSION,
            topic: Some(log.topic()),
            parents: parents.try_into().unwrap(),
            account: member(by),
            device: member_device(by, with),
            op: member_op(what, target),
        };
        record.check().unwrap();
        let record = Signed::new(record, &member_key(by, with));
        log.insert(record.clone()).unwrap();
        ids.push(OpId(record.id()));
        all.push(record);
    }
    let now = log.evaluate(&belongs);
    let mut other = MembershipLog::new(create).unwrap();
    for record in all.iter().rev() {
        other.insert(record.clone()).unwrap();
    }
    let again = other.evaluate(&belongs);
    assert_eq!(now.membership(), again.membership());
    assert_eq!(now.at(&log.heads()).as_ref(), Some(now.membership()));
    assert!(now.membership().members.values().any(|m| m.role == Role::Owner), "no owner");
    for (n, own) in (0..).zip(&devices) {
        for seq in [1, 3] {
            let id = EnvelopeId([seq as u8; 32]);
            for heads in [&log.heads()[..], &ids[..1]] {
                let verdict = now.judge(&belongs, member(n), own[0], seq, id, heads);
                assert_eq!(verdict, again.judge(&belongs, member(n), own[0], seq, id, heads));
            }
        }
        // What is allowed has effect.
        let op = member_op(n, n + 1);
        let next = now.next(member(n), own[0], op.clone());
        next.check().unwrap();
        let allowed = now.allowed(&belongs, member(n), own[0], &op).is_ok();
        let next = Signed::new(next, &member_key(n, 0));
        let mut after = log.clone();
        let new = after.insert(next.clone()).unwrap();
        let void = after.evaluate(&belongs).membership().void.contains_key(&OpId(next.id()));
        assert!(!new || void != allowed, "allowed: {allowed}, void: {void}");
    }
}

fn member_op(what: u8, target: u8) -> MemberOp {
    let account = member(target);
    let seq = u64::from(what / 16);
    let cut = |device| Cut {
        device: member_device(target, device),
        seq,
        id: EnvelopeId([seq as u8; 32]),
    };
    let mut cuts = if what.is_multiple_of(2) { vec![] } else { vec![cut(0), cut(1)] };
    cuts.sort_unstable();
    let cuts = cuts.try_into().unwrap();
    match what % 12 {
        0 | 6 => MemberOp::Add { account, role: Role::Member, history: History::FromJoining },
        5 => MemberOp::Add { account, role: Role::Admin, history: History::All },
        10 => MemberOp::Add { account, role: Role::Owner, history: History::All },
        1 | 7 => MemberOp::Remove { account, cuts },
        2 => MemberOp::Leave { cuts },
        3 => MemberOp::SetRole { account, role: Role::Member },
        8 => MemberOp::SetRole { account, role: Role::Admin },
        9 => MemberOp::SetRole { account, role: Role::Owner },
        4 => MemberOp::SetHistory { history: History::All },
        _ => MemberOp::CutDevice { cut: cut(what / 12) },
    }
}
