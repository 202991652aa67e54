//! A member who turns against the others: with a real device key and real epoch secrets.
//! `words` is what it does in Moments.

mod words;

use rand_core::Rng;
use std::collections::BTreeMap;

use teahouse_core::store::{KeyRange, ReadExt, Snapshot};
use teahouse_core::tables::{
    CHAINS, Chain, DEVICE_ACCOUNT, EPOCHS, Epoch, FORKS, LOG, LogRow, OPS, TOPICS, Topic,
};
use teahouse_protocols::codec::{self, Bytes, List};
use teahouse_protocols::cursor::{Ack, Cursor};
use teahouse_protocols::envelope::{Draft, Envelope, SealedBody, seal_body};
use teahouse_protocols::epoch::EpochSecret;
use teahouse_protocols::ids::{AccountId, DeviceId, EnvelopeId, EpochId, OpId, TopicId};
use teahouse_protocols::inbox::Letter;
use teahouse_protocols::membership::{
    History, MemberOp, MembershipLog, MembershipRecord, Role, TopicKind,
};
use teahouse_protocols::sign::{Signed, SigningKey};
use teahouse_protocols::sync::{Frame, Held, Run, TopicDigest};

use crate::chaos::plan::{Town, short};
use crate::chaos::truth::Branch;

/// What is needed to write in somebody's name.
struct Pen {
    device: usize,
    id: DeviceId,
    account: AccountId,
    key: SigningKey,
    topic: TopicId,
    heads: Vec<OpId>,
    epoch: EpochId,
    secret: EpochSecret,
    old: Option<(EpochId, EpochSecret)>,
    log: MembershipLog,
}

impl Town {
    fn pen(&mut self) -> Option<Pen> {
        let person = self.people.iter().position(|p| p.villain)?;
        let devices = self.people[person].devices.clone();
        let device = self.pick(&devices)?;
        let account = self.people[person].account;
        self.pen_of(device, account)
    }

    fn pen_of(&mut self, device: usize, account: AccountId) -> Option<Pen> {
        self.world.devices[device].core.as_ref()?;
        let s = self.world.snapshot(device);
        let topics: Vec<TopicId> = s
            .scan_typed::<Topic>(&TOPICS, &KeyRange::all(), false, 4_096)
            .ok()?
            .into_iter()
            .filter(|(_, row)| row.kind != TopicKind::Private && !row.proposed)
            .filter_map(|(k, _)| Some(TopicId(k.try_into().ok()?)))
            .collect();
        let topic = self.pick(&topics)?;
        self.pen_in(device, account, topic)
    }

    fn pen_in(&mut self, device: usize, account: AccountId, topic: TopicId) -> Option<Pen> {
        let core = self.world.devices[device].core.as_ref()?;
        let key = SigningKey::from_bytes(&core.device_secret());
        let s = self.world.snapshot(device);
        let records = s.scan(&OPS, &KeyRange::prefix(&topic.0), false, 4_096).ok()?;
        let records = records.iter().filter_map(|(_, b)| Signed::from_bytes(b).ok());
        let log = MembershipLog::from_records(topic, records).ok()?;
        let epochs: Vec<(EpochId, [u8; 32])> = s
            .scan_typed::<Epoch>(&EPOCHS, &KeyRange::all(), false, 65_536)
            .ok()?
            .into_iter()
            .filter(|(_, e)| e.topic == topic)
            .filter_map(|(k, e)| Some((EpochId(k.try_into().ok()?), e.secret)))
            .collect();
        let (epoch, secret) = self.pick(&epochs)?;
        let old = self.pick(&epochs).map(|(e, s)| (e, EpochSecret::from_bytes(s)));
        Some(Pen {
            device,
            id: self.world.devices[device].id,
            account,
            key,
            topic,
            heads: log.heads(),
            epoch,
            secret: EpochSecret::from_bytes(secret),
            old,
            log,
        })
    }

    fn branch(&self, pen: &Pen) -> Branch {
        let s = self.world.snapshot(pen.device);
        let key = [pen.topic.0, pen.id.0].concat();
        let chain: Option<Chain> = s.get_typed(&CHAINS, &key).expect("reads");
        let stored = chain.map_or(Branch { seq: 0, head: EnvelopeId([0; 32]) }, |c| Branch {
            seq: c.high,
            head: c.head,
        });
        match self.branches.get(&pen.topic) {
            Some(b) if b.seq > stored.seq => *b,
            _ => stored,
        }
    }

    fn envelope(
        &mut self,
        pen: &Pen,
        at: Branch,
        change: &[u8],
        bodies: &[SealedBody],
    ) -> Envelope {
        let (epoch, secret) = match &pen.old {
            Some((epoch, secret)) if self.coin(300) => (*epoch, secret.clone()),
            _ => (pen.epoch, pen.secret.clone()),
        };
        let segment = if self.coin(100) { self.rng.next_u32() } else { 0 };
        let draft = Draft {
            topic: pen.topic,
            seq: at.seq + 1,
            prev: at.head,
            segment,
            heads: &pen.heads,
            epoch,
            time: self.world.now,
            change,
            bodies,
        };
        Envelope::seal(&draft, &secret, &pen.key, &mut self.rng).expect("fits")
    }

    fn junk(&mut self, most: usize) -> Vec<u8> {
        let mut bytes = vec![0; 1 + self.below(most)];
        self.rng.fill_bytes(&mut bytes);
        bytes
    }

    /// A hostile act.
    pub(crate) fn attack(&mut self) {
        let Some(pen) = self.pen() else { return };
        let victims = self.world.connected(pen.device);
        let Some(victim) = self.pick(&victims) else { return };
        let to = format!("on {} to {victim}", short(pen.topic));
        match self.below(16) {
            0 => {
                self.tell("hostile: a frame of noise", &to);
                let bytes = self.junk(3_000);
                self.world.forge(pen.device, victim, bytes);
            }
            1 | 2 => self.mangled(&pen, victim),
            3 => {
                self.tell("hostile: garbage change, validly signed", &to);
                let at = self.branch(&pen);
                let change = self.junk(400);
                let envelope = self.envelope(&pen, at, &change, &[]);
                self.push(&pen, &[victim], &envelope, Vec::new(), pen.topic);
                let head = envelope.id();
                self.branches.insert(pen.topic, Branch { seq: at.seq + 1, head });
            }
            4 => {
                self.tell("hostile: wrong bodies", &to);
                let at = self.branch(&pen);
                let body = seal_body(b"junk", &mut self.rng).expect("fits");
                let change = self.junk(100);
                let envelope = self.envelope(&pen, at, &change, std::slice::from_ref(&body));
                let other = self.junk(300);
                self.push(&pen, &[victim], &envelope, vec![other], pen.topic);
                let head = envelope.id();
                self.branches.insert(pen.topic, Branch { seq: at.seq + 1, head });
            }
            5 => {
                self.tell("hostile: two stories", &to);
                let at = self.branch(&pen);
                let (one, two) = (self.junk(50), self.junk(50));
                let one = self.envelope(&pen, at, &one, &[]);
                let two = self.envelope(&pen, at, &two, &[]);
                let half = victims.len() / 2;
                self.push(&pen, &victims[..half], &one, Vec::new(), pen.topic);
                self.push(&pen, &victims[half..], &two, Vec::new(), pen.topic);
                self.equivocated.insert(pen.topic);
            }
            6 => {
                self.tell("hostile: an old place written again", &to);
                let s = self.world.snapshot(pen.device);
                let prefix = [pen.topic.0, pen.id.0].concat();
                let rows = s.scan(&LOG, &KeyRange::prefix(&prefix), false, 4_096).expect("reads");
                let Some((_, bytes)) = self.pick(&rows) else { return };
                let Some(row) = LogRow::from_bytes(&bytes) else { return };
                let Ok(old) = Envelope::from_bytes(&row.envelope) else { return };
                let at = Branch { seq: old.seq - 1, head: old.prev };
                let change = self.junk(50);
                let envelope = self.envelope(&pen, at, &change, &[]);
                self.push(&pen, &[victim], &envelope, Vec::new(), pen.topic);
                self.equivocated.insert(pen.topic);
            }
            7 => {
                self.tell("hostile: cross-topic", &to);
                let at = self.branch(&pen);
                let change = self.junk(50);
                let envelope = self.envelope(&pen, at, &change, &[]);
                let s = self.world.snapshot(pen.device);
                let topics = s.scan(&TOPICS, &KeyRange::all(), false, 4_096).expect("reads");
                let Some((other, _)) = self.pick(&topics) else { return };
                let Ok(other) = <[u8; 32]>::try_from(other) else { return };
                if other != pen.topic.0 {
                    self.push(&pen, &[victim], &envelope, Vec::new(), TopicId(other));
                }
            }
            8 => self.lie(&pen, victim),
            9 => self.usurp(&pen, victim),
            10 | 11 => self.beg(&pen, victim),
            _ => self.transplant(&pen),
        }
    }

    fn push(
        &mut self,
        pen: &Pen,
        victims: &[usize],
        envelope: &Envelope,
        bodies: Vec<Vec<u8>>,
        topic: TopicId,
    ) {
        let bodies: Vec<_> = bodies.into_iter().filter_map(|b| b.try_into().ok()).collect();
        let letter = Letter {
            envelope: envelope.bytes().to_vec().try_into().expect("fits"),
            bodies: bodies.try_into().expect("few"),
        };
        let letters = vec![letter].try_into().expect("one");
        let frame = if self.coin(500) {
            Frame::Push(topic, letters)
        } else {
            Frame::Page { topic, letters, more: false }
        };
        let bytes = codec::encode(&frame);
        for victim in victims {
            self.world.forge(pen.device, *victim, bytes.clone());
        }
    }

    /// Real letters, changed on the way.
    fn mangled(&mut self, pen: &Pen, victim: usize) {
        let s = self.world.snapshot(pen.device);
        let rows = s.scan(&LOG, &KeyRange::prefix(&pen.topic.0), false, 4_096).expect("reads");
        let Some((_, bytes)) = self.pick(&rows) else { return };
        let Some(row) = LogRow::from_bytes(&bytes) else { return };
        let mut bytes = row.envelope;
        let how = self.below(6);
        let at = self.below(bytes.len());
        match how {
            0 => bytes.truncate(at),
            1 => bytes[at] ^= 1 << self.below(8),
            2 => bytes[0] = 2 + self.below(200) as u8,
            3 => {
                // Another device's signature.
                let me = pen.id.0;
                bytes[33..65].copy_from_slice(&me);
            }
            4 => {
                let more = self.junk(70_000);
                bytes.extend(more);
            }
            _ => {}
        }
        let what = [
            "truncated",
            "bit-flipped",
            "of an unknown version",
            "wrongly signed",
            "oversized",
            "replayed",
        ][how];
        self.tell(&format!("hostile: a letter {what}"), victim);
        let Ok(envelope) = Bytes::try_from(bytes) else { return };
        let letter = Letter { envelope, bodies: List::default() };
        let frame = Frame::Push(pen.topic, vec![letter].try_into().expect("one"));
        let mut bytes = codec::encode(&frame);
        if self.coin(200) {
            let at = self.below(bytes.len());
            bytes.truncate(at);
        }
        self.world.forge(pen.device, victim, bytes);
    }

    /// Cursors: its own that claim too much, and others' that it forged.
    fn lie(&mut self, pen: &Pen, victim: usize) {
        self.tell("hostile: a lying cursor", victim);
        let other = self.world.devices[victim].id;
        let own = self.coin(500);
        let acks =
            vec![Ack { device: other, seq: 1 + self.below(1_000) as u64, id: EnvelopeId([7; 32]) }];
        let cursor = Cursor {
            version: 1,
            topic: pen.topic,
            account: pen.account,
            device: pen.id,
            counter: self.rng.next_u64(),
            acks: acks.try_into().expect("one"),
            read: List::default(),
        };
        let mut bytes = Signed::new(cursor, &pen.key).bytes().to_vec();
        if !own {
            // In the victim's name, under its own signature.
            let at = bytes.windows(32).position(|w| *w == pen.id.0).expect("it names its device");
            bytes[at..at + 32].copy_from_slice(&other.0);
        }
        let frame = Frame::Cursor(bytes.try_into().expect("fits"));
        self.world.forge(pen.device, victim, codec::encode(&frame));
    }

    /// Membership records that it has no right to.
    fn usurp(&mut self, pen: &Pen, victim: usize) {
        self.tell("hostile: a membership record without right", victim);
        let s = self.world.snapshot(pen.device);
        let oracle = |account: &AccountId, device: &DeviceId| {
            s.get_typed::<AccountId>(&DEVICE_ACCOUNT, &device.0).ok().flatten() == Some(*account)
        };
        let eval = pen.log.evaluate(&oracle);
        let others: Vec<AccountId> =
            self.people.iter().filter(|p| !p.villain).map(|p| p.account).collect();
        let Some(account) = self.pick(&others) else { return };
        let op = match self.below(4) {
            0 => MemberOp::Remove { account, cuts: List::default() },
            1 => MemberOp::SetRole { account: pen.account, role: Role::Owner },
            2 => MemberOp::Add { account: pen.account, role: Role::Owner, history: History::All },
            _ => MemberOp::SetRole { account, role: Role::Member },
        };
        if eval.allowed(&oracle, pen.account, pen.id, &op).is_ok() {
            // It has the right after all: not what is meant here.
            return;
        }
        let record: MembershipRecord = eval.next(pen.account, pen.id, op);
        let bytes = Signed::new(record, &pen.key).bytes().to_vec();
        let Ok(bytes) = Bytes::try_from(bytes) else { return };
        let frame = Frame::Ops(pen.topic, vec![bytes].try_into().expect("one"));
        self.world.forge(pen.device, victim, codec::encode(&frame));
    }

    /// Whoever is out writes on, and a member passes it to somebody who knows: that is not even
    /// stored.
    pub(crate) fn intrude(&mut self) {
        let suspects: Vec<usize> = self.world.suspects.iter().copied().collect();
        let Some(from) = self.pick(&suspects) else { return };
        let Some(owner) = self.owner(from) else { return };
        let up: Vec<usize> = (0..self.world.devices.len()).filter(|d| self.up(*d)).collect();
        let Some(victim) = self.pick(&up).filter(|v| *v != from) else { return };
        let Some(mut pen) = self.pen_of(from, self.people[owner].account) else { return };
        let s = self.world.snapshot(victim);
        let place = [pen.topic.0, pen.id.0].concat();
        let records = s.scan(&OPS, &KeyRange::prefix(&pen.topic.0), false, 4_096).expect("reads");
        let records = records.iter().map(|(_, b)| Signed::from_bytes(b).expect("signed"));
        let Ok(log) = MembershipLog::from_records(pen.topic, records) else { return };
        let eval = log.evaluate(&|account, device| {
            s.get_typed::<AccountId>(&DEVICE_ACCOUNT, &device.0).ok().flatten() == Some(*account)
        });
        let now = eval.membership();
        if now.members.contains_key(&pen.account) || s.contains(&FORKS, &place).expect("reads") {
            return;
        }
        let helpers: Vec<usize> = self
            .world
            .connected(victim)
            .into_iter()
            .filter(|d| {
                let account = self.owner(*d).map(|o| self.people[o].account);
                account.is_some_and(|a| now.members.contains_key(&a))
            })
            .collect();
        let Some(helper) = self.pick(&helpers) else { return };
        pen.heads.clone_from(&now.heads);
        let chain: Option<Chain> = s.get_typed(&CHAINS, &place).expect("reads");
        let at = chain.map_or(Branch { seq: 0, head: EnvelopeId([0; 32]) }, |c| Branch {
            seq: c.high,
            head: c.head,
        });
        let change = self.junk(100);
        let envelope = self.envelope(&pen, at, &change, &[]);
        self.tell(
            "hostile: who is out writes",
            format!("{from} to {victim} in {}", short(pen.topic)),
        );
        pen.device = helper;
        self.push(&pen, &[victim], &envelope, Vec::new(), pen.topic);
        self.intrusions.push((victim, envelope));
    }

    /// Whoever is out asks for the keys all the same: its app may be a modified one.
    pub(crate) fn pry(&mut self) {
        let suspects: Vec<usize> = self.world.suspects.iter().copied().collect();
        let Some(from) = self.pick(&suspects) else { return };
        let Some(victim) = self.pick(&self.world.connected(from)) else { return };
        let s = self.world.snapshot(victim);
        let mut epochs: BTreeMap<TopicId, Vec<EpochId>> = BTreeMap::new();
        let rows = s.scan_typed::<Epoch>(&EPOCHS, &KeyRange::all(), false, 65_536);
        for (key, epoch) in rows.expect("reads") {
            let Ok(id) = key.try_into() else { continue };
            epochs.entry(epoch.topic).or_default().push(EpochId(id));
        }
        self.tell("hostile: who is out asks for keys", format!("{from} of {victim}"));
        for (topic, mut list) in epochs {
            list.truncate(64);
            let Ok(list) = list.try_into() else { continue };
            self.world.forge(from, victim, codec::encode(&Frame::KeysWant(topic, list)));
        }
    }

    /// Asks for what it may no longer have, or never could.
    fn beg(&mut self, pen: &Pen, victim: usize) {
        self.tell("hostile: asks for everything", victim);
        let s: Snapshot = self.world.snapshot(victim);
        let chains: Vec<(Vec<u8>, Chain)> =
            s.scan_typed(&CHAINS, &KeyRange::prefix(&pen.topic.0), false, 256).expect("reads");
        let epochs: Vec<EpochId> = s
            .scan_typed::<Epoch>(&EPOCHS, &KeyRange::all(), true, 64)
            .expect("reads")
            .into_iter()
            .filter_map(|(k, _)| Some(EpochId(k.try_into().ok()?)))
            .collect();
        let devices = chains.iter().filter_map(|(k, c)| Some((DeviceId(*k.last_chunk()?), *c)));
        let runs: Vec<Run> =
            devices.clone().map(|(device, c)| Run { device, from: 1, to: c.high.max(1) }).collect();
        let held: Vec<Held> = devices
            .map(|(device, _)| Held { device, low: 1, high: 1, head: EnvelopeId([1; 32]), fork: 0 })
            .collect();
        let digest = TopicDigest { topic: pen.topic, frontier: [0; 16], cursors: [0; 16] };
        let frame = match self.below(5) {
            0 => Frame::Want(pen.topic, runs.try_into().unwrap_or_default()),
            1 => Frame::KeysWant(pen.topic, epochs.try_into().unwrap_or_default()),
            2 => Frame::Frontier {
                topic: pen.topic,
                ops: List::default(),
                chains: held.try_into().unwrap_or_default(),
                ask: true,
            },
            3 => Frame::Hello { version: 1, summary: [0; 16] },
            _ => Frame::Digests {
                accounts: List::default(),
                topics: vec![digest].try_into().expect("one"),
                ask: true,
            },
        };
        self.world.forge(pen.device, victim, codec::encode(&frame));
    }
}
