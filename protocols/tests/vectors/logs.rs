//! What sets of account records and membership records amount to.

use std::collections::{BTreeMap, BTreeSet};

use teahouse_protocols::account::{
    self, AccountLog, AccountOp, AccountRecord, AccountState, Signer,
};
use teahouse_protocols::codec::encode;
use teahouse_protocols::ids::{AccountId, DeviceId, EnvelopeId, OpId, RecordId, Tag, TopicId};
use teahouse_protocols::membership::{
    self, Cut, Evaluation, History, MemberOp, Membership, MembershipLog, MembershipRecord, Role,
    TopicKind, Verdict,
};
use teahouse_protocols::sign::Signed;

use crate::json::{Node, fields, hex, node};
use crate::samples::{self, add, dev, device, key, list, relay, revoke, root, rotate, text};
use crate::suite::{Suite, variant};

/// Signed records in the order made, with parents of one's choice.
struct Story {
    account: AccountId,
    records: Vec<Signed<AccountRecord>>,
}

impl Story {
    /// Begins with a genesis by root 1, then device 2.
    fn new() -> Self {
        let log = samples::account();
        Self { account: log.account(), records: log.records().cloned().collect() }
    }

    /// A record on top of others, given by their place in the story.
    fn then(&mut self, after: &[usize], by: Signer, private: u8, op: AccountOp) -> usize {
        let parents: BTreeSet<_> = after.iter().map(|n| RecordId(self.records[*n].id())).collect();
        let record = AccountRecord {
            version: account::VERSION,
            account: Some(self.account),
            parents: list(parents),
            signer: by,
            op,
        };
        self.records.push(Signed::new(record, &key(private)));
        self.records.len() - 1
    }

    fn told(self, suite: &mut Suite, name: &str) {
        let mut log = AccountLog::open(self.records[0].clone()).unwrap();
        let done = log.insert_all(self.records[1..].iter().cloned());
        // Another order, in which most records must wait.
        let mut other = AccountLog::open(self.records[0].clone()).unwrap();
        other.insert_all(self.records[1..].iter().rev().cloned());
        assert_eq!(log.state(), other.state(), "{name}");
        let refused = done.refused.iter().map(|(id, why)| {
            fields! { "record": hex(id.0), "reason": variant(why) }
        });
        suite.case(fields! {
            "name": name,
            "records": self.records.iter().map(|r| hex(r.bytes())).collect::<Node>(),
            "refused records": refused.collect::<Node>(),
            "state": state(log.state()),
        });
    }
}

fn state(s: &AccountState) -> Node {
    let devices = s.devices.iter().map(|(id, d)| {
        let info = fields! {
            "name": &*d.name,
            "added": hex(d.added.0),
            "revoked": node(&d.revoked),
            "void": d.void,
            "active": s.is_active(id),
        };
        (id.to_hex(), info)
    });
    let card = s.card.map_or(Node::Null, |c| {
        fields! { "inbox_key": hex(c.inbox_key), "tag": hex(c.tag.0) }
    });
    fields! {
        "account": hex(s.account.0),
        "root": hex(s.root),
        "disputed": s.disputed,
        "devices": devices.collect::<Node>(),
        "relays": node(&s.relays),
        "name": &*s.name,
        "card": card,
        "features": node(&s.features),
        "heads": node(&s.heads),
    }
}

pub(crate) fn account_fold() -> Suite {
    let mut suite = Suite::new(
        "account_fold",
        "protocols/src/account/mod.rs, section Rules",
        "Signed account records and the state they fold to, in whatever order they come.",
    );
    let mut s = Story::new();
    let tag = Tag([0x2c; 32]);
    let mut last = 1;
    for (by, private, op) in [
        (dev(2), 2, AccountOp::SetProfile { name: text("梅") }),
        (dev(2), 2, AccountOp::SetRelays { relays: list([relay()]) }),
        (root(1), 1, AccountOp::SetCard { inbox_key: [0x2b; 32], tag }),
        (dev(2), 2, AccountOp::SetFeatures { features: list([1, 2]) }),
        (dev(2), 2, add(s.account, 3, "phone")),
    ] {
        last = s.then(&[last], by, private, op);
    }
    s.told(&mut suite, "two devices and every field");

    let mut s = Story::new();
    let a = s.then(&[1], dev(2), 2, add(s.account, 3, "phone"));
    let b = s.then(&[a], dev(2), 2, revoke(3));
    s.then(&[b], dev(3), 3, AccountOp::SetProfile { name: text("thief") });
    s.then(&[b], dev(2), 2, add(s.account, 3, "phone again"));
    s.then(&[b], root(1), 1, add(s.account, 3, "found again"));
    s.told(&mut suite, "a revoked device writes nothing and only the root brings it back");

    let mut s = Story::new();
    s.then(&[1], root(1), 1, revoke(2));
    let a = s.then(&[1], dev(2), 2, add(s.account, 4, "the thief's"));
    s.then(&[a], dev(4), 4, AccountOp::SetProfile { name: text("thief") });
    s.told(&mut suite, "what a stolen device backdates is void, with all that rests on it");

    let mut s = Story::new();
    let a = s.then(&[1], dev(2), 2, add(s.account, 3, "phone"));
    s.then(&[a], dev(2), 2, revoke(3));
    s.then(&[a], dev(3), 3, revoke(2));
    s.told(&mut suite, "two devices that revoke each other are both revoked");

    let mut s = Story::new();
    let a = s.then(&[1], dev(2), 2, AccountOp::SetProfile { name: text("by the device") });
    let b = s.then(&[1], root(1), 1, AccountOp::SetProfile { name: text("by the root") });
    s.then(&[a, b], dev(2), 2, AccountOp::SetFeatures { features: list([7]) });
    s.told(&mut suite, "of concurrent names the root's wins");

    let mut s = Story::new();
    let a = s.then(&[1], root(1), 1, rotate(s.account, 5));
    s.then(&[1], root(1), 1, add(s.account, 4, "by the old root"));
    s.then(&[a], root(5), 5, add(s.account, 3, "by the new root"));
    s.then(&[a], root(1), 1, add(s.account, 6, "too late"));
    s.told(&mut suite, "a rotation voids what the old root does beside it");

    let mut s = Story::new();
    let a = s.then(&[1], root(1), 1, rotate(s.account, 5));
    let b = s.then(&[1], root(1), 1, rotate(s.account, 6));
    s.then(&[a], root(5), 5, add(s.account, 3, "beside the other rotation"));
    s.then(&[a, b], dev(2), 2, add(s.account, 4, "after both"));
    s.told(&mut suite, "rotations to different roots are a dispute");

    let mut s = Story::new();
    let unwilling = AccountOp::AddDevice {
        device: device(3),
        name: text(""),
        consent: teahouse_protocols::account::device_consent(&AccountId([9; 32]), &key(3)),
    };
    s.then(&[1], root(1), 1, unwilling);
    s.then(&[1], root(1), 1, revoke(9));
    s.then(&[1], dev(9), 9, AccountOp::SetProfile { name: text("stranger") });
    s.told(&mut suite, "records that no log takes in");

    // Programs for the fuzz target, see `fuzz_bodies`: author, operation, target, parents.
    suite.seeding("account_log");
    suite.seed("nothing", &[]);
    suite.seed("add and revoke", &[0, 0, 4, 0xff, 4, 0, 5, 0xff, 5, 1, 4, 0xff, 4, 3, 0, 0xff]);
    suite.seed("thief", &[0, 0, 4, 0xff, 0, 1, 4, 1, 4, 0, 5, 1, 5, 4, 0, 3, 0, 0, 4, 0xff]);
    suite.seed("dispute", &[0, 2, 1, 0, 0, 2, 2, 0, 1, 0, 4, 1, 2, 0, 5, 2, 4, 0, 6, 0xff]);
    suite.seed(
        "every kind",
        &[
            0, 0, 4, 0xff, 4, 3, 0, 0xff, 4, 4, 1, 0xff, 0, 5, 2, 0xff, 4, 6, 3, 0xff, 0, 2, 1,
            0xff, 1, 7, 5, 0xff, 6, 6, 6, 6, 0xff, 0xff, 0xff,
        ],
    );
    suite
}

fn member(n: u8) -> AccountId {
    AccountId([0xa0 + n; 32])
}

/// Account n has the devices with keys 10 n + 1 and 10 n + 2.
fn belongs(account: &AccountId, signer: &DeviceId) -> bool {
    (0..6).any(|n| member(n) == *account && (0..2).any(|d| device(10 * n + d + 1) == *signer))
}

/// Device `d` (0 or 1) of account `n`.
fn device_of(n: u8, d: u8) -> DeviceId {
    device(10 * n + d + 1)
}

fn cut(n: u8, seq: u64) -> Cut {
    Cut { device: device_of(n, 0), seq, id: EnvelopeId([seq as u8; 32]) }
}

fn invite(n: u8, role: Role) -> MemberOp {
    MemberOp::Add { account: member(n), role, history: History::FromJoining }
}

fn remove(n: u8, seq: u64) -> MemberOp {
    MemberOp::Remove { account: member(n), cuts: list([cut(n, seq)]) }
}

pub(crate) fn membership_record() -> Suite {
    let mut suite = Suite::new(
        "membership_record",
        "protocols/src/membership/mod.rs",
        "Signed operations of a topic's membership log. The id of the creating one is the \
         topic's id.",
    );
    suite.seeding("membership_record");
    let create = |kind, history| {
        MembershipRecord::create(member(0), device_of(0, 0), kind, history, [0x11; 16])
    };
    let record = |op| MembershipRecord {
        version: membership::VERSION,
        topic: Some(TopicId([0x70; 32])),
        parents: list([OpId([1; 32]), OpId([2; 32])]),
        account: member(0),
        device: device_of(0, 0),
        op,
    };
    for (name, value) in [
        ("create a group", create(TopicKind::Group, History::FromJoining)),
        ("create a direct chat", create(TopicKind::Direct, History::All)),
        ("create a private topic", create(TopicKind::Private, History::All)),
        ("add a member", record(invite(1, Role::Member))),
        ("add an owner who may read everything", {
            let history = History::All;
            record(MemberOp::Add { account: member(1), role: Role::Owner, history })
        }),
        ("remove", record(remove(1, 300))),
        ("remove and keep nothing", {
            record(MemberOp::Remove { account: member(1), cuts: list([]) })
        }),
        ("leave", record(MemberOp::Leave { cuts: list([cut(0, 1)]) })),
        ("set a role", record(MemberOp::SetRole { account: member(1), role: Role::Admin })),
        ("set the history policy", record(MemberOp::SetHistory { history: History::All })),
        ("cut a device", record(MemberOp::CutDevice { cut: cut(1, u64::MAX) })),
    ] {
        suite.signed(name, &value, &key(1));
    }
    let good = record(MemberOp::SetHistory { history: History::All });
    let signed = Signed::new(good.clone(), &key(1));
    suite.refuse_usual_signed(&signed, &key(1), 34, |signer| MembershipRecord {
        device: DeviceId(signer),
        ..good.clone()
    });
    let many: Vec<OpId> = (1..18).map(|n| OpId([n; 32])).collect();
    let long = (good.version, good.topic, many, good.account, good.device, &good.op);
    let mut descending = [cut(1, 1), cut(2, 1)];
    descending.sort_unstable();
    descending.reverse();
    let cuts: Vec<Cut> = {
        let all: BTreeSet<_> = (0..65).map(|n| DeviceId([n; 32])).collect();
        all.into_iter().map(|device| Cut { device, ..cut(1, 1) }).collect()
    };
    for (name, payload) in [
        ("version 2", encode(&MembershipRecord { version: 2, ..good.clone() })),
        ("no topic", encode(&MembershipRecord { topic: None, ..good.clone() })),
        ("no parents", encode(&MembershipRecord { parents: list([]), ..good.clone() })),
        ("a creation with a topic", {
            let op = create(TopicKind::Group, History::All).op;
            encode(&record(op))
        }),
        ("parents not ascending", {
            let parents = list([OpId([2; 32]), OpId([1; 32])]);
            encode(&MembershipRecord { parents, ..good.clone() })
        }),
        ("cuts not ascending by device", {
            encode(&record(MemberOp::Leave { cuts: list(descending) }))
        }),
        ("two cuts of one device", {
            encode(&record(MemberOp::Leave { cuts: list([cut(1, 1), cut(1, 2)]) }))
        }),
        ("17 parents", postcard::to_stdvec(&long).unwrap()),
        ("65 cuts", {
            let g = &good;
            let fixed = (g.version, g.topic, &g.parents, g.account, g.device);
            postcard::to_stdvec(&(fixed, 3_u8, cuts)).unwrap()
        }),
        ("an unknown operation", {
            let g = &good;
            let fixed = (g.version, g.topic, &g.parents, g.account, g.device);
            postcard::to_stdvec(&(fixed, 7_u8)).unwrap()
        }),
    ] {
        suite.refuse_payload::<MembershipRecord>(name, &payload, &key(1));
    }
    suite
}

/// A group in the making.
#[derive(Clone)]
struct Group(MembershipLog);

impl Group {
    /// Account 0 creates and adds accounts 1.. in these roles.
    fn new(roles: &[Role]) -> Self {
        let create = MembershipRecord::create(
            member(0),
            device_of(0, 0),
            TopicKind::Group,
            History::FromJoining,
            [0x11; 16],
        );
        let mut group = Self(MembershipLog::new(Signed::new(create, &key(1))).unwrap());
        for (n, role) in roles.iter().enumerate() {
            group.act(0, invite(n as u8 + 1, *role));
        }
        group
    }

    fn now(&self) -> Evaluation {
        self.0.evaluate(&belongs)
    }

    fn act(&mut self, n: u8, op: MemberOp) -> OpId {
        self.act_with(n, 0, op)
    }

    fn act_with(&mut self, n: u8, d: u8, op: MemberOp) -> OpId {
        let record = self.now().next(member(n), device_of(n, d), op);
        let signed = Signed::new(record, &key(10 * n + d + 1));
        let id = OpId(signed.id());
        self.0.insert(signed).unwrap();
        id
    }

    fn merge(mut self, other: &Self) -> Self {
        self.0.extend(other.0.records().cloned());
        self
    }

    /// Writes down the records, what they amount to, and verdicts on envelopes: (account,
    /// device, seq, whether the id is the one cuts name, heads).
    fn told(&self, suite: &mut Suite, name: &str, asked: &[(u8, u64, bool, Vec<OpId>)]) {
        let now = self.now();
        let devices = (0..6).map(|n| {
            let own = (0..2).map(|d| hex(device_of(n, d).0));
            (member(n).to_hex(), own.collect::<Node>())
        });
        let verdicts = asked.iter().map(|(n, seq, same, heads)| {
            let id = EnvelopeId(if *same { [*seq as u8; 32] } else { [0xee; 32] });
            let verdict = now.judge(&belongs, member(*n), device_of(*n, 0), *seq, id, heads);
            let (verdict, by) = match &verdict {
                Verdict::Void(reason) => (format!("Void: {}", variant(reason)), Node::Null),
                Verdict::Pending { missing } => ("Pending".to_owned(), node(missing)),
                Verdict::Accepted => ("Accepted".to_owned(), Node::Null),
            };
            fields! {
                "account": hex(member(*n).0),
                "device": hex(device_of(*n, 0).0),
                "seq": *seq,
                "id": hex(id.0),
                "heads": node(heads),
                "verdict": verdict,
                "missing": by,
            }
        });
        suite.case(fields! {
            "name": name,
            "devices": devices.collect::<Node>(),
            "records": self.0.records().map(|r| hex(r.bytes())).collect::<Node>(),
            "membership": membership(now.membership()),
            "envelopes": verdicts.collect::<Node>(),
        });
    }
}

fn membership(m: &Membership) -> Node {
    let members = m.members.iter().map(|(id, m)| {
        let is = fields! {
            "role": node(&m.role),
            "added_by": hex(m.added_by.0),
            "history": node(&m.history),
        };
        (id.to_hex(), is)
    });
    let cuts = m.cuts.iter().map(|(device, cuts)| {
        let cuts = cuts.iter().map(|c| {
            fields! { "op": hex(c.op.0), "seq": c.cut.seq, "id": hex(c.cut.id.0) }
        });
        (device.to_hex(), cuts.collect::<Node>())
    });
    let void: BTreeMap<String, Node> =
        m.void.iter().map(|(op, why)| (op.to_hex(), Node::from(variant(why)))).collect();
    fields! {
        "history": node(&m.history),
        "members": members.collect::<Node>(),
        "former": node(&m.former.iter().collect::<Vec<_>>()),
        "cuts": cuts.collect::<Node>(),
        "void": void.into_iter().collect::<Node>(),
        "heads": node(&m.heads),
    }
}

pub(crate) fn membership_evaluation() -> Suite {
    use Role::{Admin, Member, Owner};
    let mut suite = Suite::new(
        "membership_evaluation",
        "protocols/src/membership/ (mod.rs, evaluate.rs, rules.rs, rounds.rs)",
        "Signed membership records, in whatever order they come, what they amount to, and \
         whether envelopes count. `devices` says which devices were ever validly added to \
         which account.",
    );
    let mut group = Group::new(&[Admin, Member]);
    let before = group.0.heads();
    group.act(1, remove(2, 5));
    let after = group.0.heads();
    group.told(
        &mut suite,
        "a removal keeps what lies up to its cut",
        &[
            (2, 4, false, before.clone()),
            (2, 5, true, before.clone()),
            (2, 5, false, before.clone()),
            (2, 6, false, before.clone()),
            (2, 4, false, after.clone()),
            (1, 9, false, after),
            (5, 1, false, before),
            (1, 1, false, vec![OpId([0xee; 32])]),
        ],
    );

    let start = Group::new(&[Owner, Owner, Member]);
    let before = start.0.heads();
    let (mut left, mut right) = (start.clone(), start.clone());
    left.act(1, remove(2, 3));
    left.act(1, invite(4, Member));
    right.act(2, remove(1, 3));
    right.act(2, invite(5, Member));
    left.merge(&right).told(
        &mut suite,
        "of two owners that remove each other the one added earlier stays",
        &[(1, 9, false, before.clone()), (2, 3, true, before.clone()), (2, 4, false, before)],
    );

    let start = Group::new(&[Admin, Owner, Member]);
    let (mut left, mut right) = (start.clone(), start.clone());
    left.act(1, remove(3, 2));
    right.act(2, remove(1, 2));
    left.merge(&right).told(&mut suite, "what the removed does beside the removal is void", &[]);

    let start = Group::new(&[Member, Owner]);
    let (mut left, mut right) = (start.clone(), start.clone());
    left.act(0, MemberOp::SetRole { account: member(2), role: Member });
    right.act(2, MemberOp::SetRole { account: member(0), role: Member });
    left.merge(&right).told(&mut suite, "two owners that demote each other", &[]);

    let mut group = Group::new(&[Admin, Member]);
    group.act(2, remove(1, 1));
    group.act(1, remove(0, 1));
    group.act(0, MemberOp::Leave { cuts: list([]) });
    group.act(5, invite(4, Member));
    group.act(1, invite(2, Member));
    group.act(1, invite(3, Admin));
    group.told(&mut suite, "operations that are void for what their authors may do", &[]);

    let start = Group::new(&[Admin, Member]);
    let before = start.0.heads();
    let (mut left, mut right) = (start.clone(), start.clone());
    left.act(0, MemberOp::CutDevice { cut: cut(1, 7) });
    right.act(1, MemberOp::CutDevice { cut: cut(0, 1) });
    right.act_with(1, 1, MemberOp::CutDevice { cut: cut(1, 5) });
    left.merge(&right).told(
        &mut suite,
        "of two cuts of a device the higher holds",
        &[(1, 6, false, before.clone()), (1, 7, true, before.clone()), (1, 8, false, before)],
    );

    let mut group = Group::new(&[Member]);
    let before = group.0.heads();
    group.act(0, remove(1, 2));
    let between = group.0.heads();
    group.act(0, invite(1, Member));
    let after = group.0.heads();
    group.told(
        &mut suite,
        "removed and added again",
        &[(1, 3, false, before), (1, 3, false, between), (1, 3, false, after)],
    );

    let start = Group::new(&[Admin, Admin]);
    let (mut left, mut right) = (start.clone(), start.clone());
    left.act(1, invite(3, Member));
    left.act(0, MemberOp::SetHistory { history: History::All });
    right.act(2, invite(3, Member));
    right.act(2, MemberOp::Leave { cuts: list([cut(2, 4)]) });
    left.merge(&right).told(
        &mut suite,
        "two concurrent additions of one account, and a leave",
        &[],
    );

    // Programs for the fuzz target, see `fuzz_bodies`: author, device, operation, target,
    // parents.
    suite.seeding("membership_log");
    suite.seed("nothing", &[]);
    suite.seed("a group", &[0, 0, 0, 1, 0xff, 0, 0, 5, 2, 0xff, 1, 0, 1, 2, 0xff]);
    suite.seed(
        "mutual removal",
        &[0, 0, 10, 1, 0xff, 0, 0, 10, 2, 0xff, 1, 0, 1, 2, 2, 2, 0, 1, 1, 2, 0, 1, 4, 2, 0xff],
    );
    suite.seed(
        "roles, policy, leave and cut",
        &[
            0, 0, 0, 1, 0xff, 0, 1, 8, 1, 0xff, 1, 0, 4, 0, 0xff, 1, 0, 2, 1, 1, 0, 1, 11, 0, 1, 3,
            1, 0, 4, 0, 4, 4, 5, 1, 0xff,
        ],
    );
    suite
}
