//! Lanes against a plain reference model: lists of what was taken and given back, summed anew
//! each time in 128 bits.

use proptest::prelude::*;

use super::samples::{NOW, ack, channel, credit, offer, plain_voucher};
use crate::account::testing::{device, key};
use crate::ids::{Millis, VoucherId};
use crate::pay::{
    CHANNEL_LIFE, Channel, FREEZE_GRACE, FraudProof, Lane, LaneOut, LaneRefusal, Move, Offer,
    Refusal, SETTLE_TIME, SettleError, Settlement, VERSION, Voucher, VoucherRefusal,
};
use crate::sign::Signed;

/// What somebody does. Numbers are turned into amounts near the lane's bounds.
#[derive(Debug, Clone, Copy)]
enum Op {
    /// The payer pays rightly.
    Pay(Amount),
    /// A voucher that was taken comes again.
    Replay(u8),
    /// A second voucher for a nonce that was used.
    Fork(u8, u64),
    /// A voucher with this distance to the right nonce.
    Skip(u8),
    /// The next voucher, naming another one before it.
    BadPrev,
    /// The next voucher with these sums, whatever they are.
    Raw(u64),
    /// The next voucher, of another lane, channel or epoch.
    Foreign(u8),
    /// Time passes.
    Wait(Millis),
    /// The payee gives back.
    Credit(Amount),
    /// The issuer freezes.
    Freeze,
    /// The payee learns of it.
    News,
    /// A voucher and a credit are settled, of the history; with or without acknowledgement.
    Settle(u8, u8, bool),
}

#[derive(Debug, Clone, Copy)]
enum Amount {
    Exactly(u64),
    /// This much less than the most, or more (wrapping is what is tried).
    RoomLess(u8),
    RoomMore(u8),
}

impl Amount {
    fn of(self, room: u64) -> u64 {
        match self {
            Self::Exactly(n) => n,
            Self::RoomLess(n) => room.saturating_sub(u64::from(n)),
            Self::RoomMore(n) => room.saturating_add(u64::from(n)),
        }
    }
}

fn amount() -> impl Strategy<Value = Amount> {
    prop_oneof![
        4 => (0_u64..1_000).prop_map(Amount::Exactly),
        1 => any::<u64>().prop_map(Amount::Exactly),
        2 => (0_u8..3).prop_map(Amount::RoomLess),
        1 => (0_u8..3).prop_map(Amount::RoomMore),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let time = prop_oneof![
        4 => 0_u64..10_000,
        1 => Just(60 * 60 * 1000),
        1 => Just(CHANNEL_LIFE / 2),
        1 => Just(SETTLE_TIME),
    ];
    prop_oneof![
        10 => amount().prop_map(Op::Pay),
        2 => any::<u8>().prop_map(Op::Replay),
        2 => (any::<u8>(), any::<u64>()).prop_map(|(n, c)| Op::Fork(n, c)),
        1 => (2_u8..4).prop_map(Op::Skip),
        1 => Just(Op::BadPrev),
        2 => any::<u64>().prop_map(Op::Raw),
        1 => (0_u8..3).prop_map(Op::Foreign),
        1 => time.prop_map(Op::Wait),
        5 => amount().prop_map(Op::Credit),
        1 => Just(Op::Freeze),
        1 => Just(Op::News),
        4 => (any::<u8>(), any::<u8>(), any::<bool>()).prop_map(|(v, c, a)| Op::Settle(v, c, a)),
    ]
}

/// The model: everything that was taken, in order.
struct Model {
    channel: Channel,
    cap: u128,
    now: Millis,
    frozen: bool,
    honoured: Option<Millis>,
    vouchers: Vec<(Signed<Voucher>, u128, Millis)>,
    credits: Vec<u128>,
    /// How many vouchers and credits were settled.
    settled: (usize, usize),
    /// What the payee has of the reserve.
    paid_out: i128,
}

impl Model {
    fn paid(&self) -> u128 {
        self.vouchers.iter().map(|(_, amount, _)| amount).sum()
    }

    fn back(&self) -> u128 {
        self.credits.iter().sum()
    }

    fn head(&self) -> VoucherId {
        self.vouchers.last().map_or(VoucherId([0; 32]), |(v, ..)| Voucher::id(v))
    }

    /// Why the voucher is not taken, as the wire says it, or what it adds.
    fn judge(&self, v: &Voucher) -> Result<u128, Refusal> {
        if (v.channel, v.epoch, v.lane) != (self.channel.id, self.channel.epoch, device(21)) {
            return Err(Refusal::UnknownChannel);
        }
        let next = self.vouchers.len() as u64 + 1;
        if v.nonce < next {
            return Err(Refusal::SameKeyOtherBytes);
        }
        if self.frozen {
            return Err(Refusal::LaneFrozen);
        }
        if self.now >= self.channel.expires {
            return Err(Refusal::ChannelOver);
        }
        if v.nonce > next {
            return Err(Refusal::Gap);
        }
        if v.prev != self.head() {
            return Err(Refusal::BrokenChain);
        }
        if u128::from(v.cumulative) <= self.paid() {
            return Err(Refusal::WrongAmount);
        }
        if u128::from(v.cumulative) - self.back() > self.cap {
            return Err(Refusal::OverCap);
        }
        Ok(u128::from(v.cumulative) - self.paid())
    }

    fn sum(&self, vouchers: usize, credits: usize) -> i128 {
        let paid: u128 = self.vouchers[..vouchers].iter().map(|(_, amount, _)| amount).sum();
        let back: u128 = self.credits[..credits].iter().sum();
        i128::try_from(paid).unwrap() - i128::try_from(back).unwrap()
    }
}

/// All three sides and the model.
struct World {
    model: Model,
    lane: Lane,
    out: LaneOut,
    settlement: Settlement,
}

impl World {
    fn new(cap: u64) -> Self {
        let channel = channel(cap).get().clone();
        Self {
            lane: Lane::open(&channel, device(21)).unwrap(),
            out: LaneOut::open(&channel, device(21)).unwrap(),
            settlement: Settlement::open(&channel, device(21)).unwrap(),
            model: Model {
                channel,
                cap: cap.into(),
                now: NOW,
                frozen: false,
                honoured: None,
                vouchers: Vec::new(),
                credits: Vec::new(),
                settled: (0, 0),
                paid_out: 0,
            },
        }
    }

    /// The payee gets a voucher; both decide alike.
    fn come(&mut self, voucher: &Signed<Voucher>) -> bool {
        let now = self.model.now;
        let expected = self.model.judge(voucher.get());
        match (self.lane.accept(voucher, now), expected) {
            (Ok(accepted), Ok(amount)) => {
                assert_eq!(u128::from(accepted.amount), amount);
                assert_eq!(accepted.late, now >= voucher.get().expires);
                self.lane = accepted.lane;
                self.model.vouchers.push((voucher.clone(), amount, now));
                true
            }
            (Err(refused), Err(expected)) => {
                assert_eq!(refused.refusal(), expected);
                false
            }
            (got, expected) => panic!("{got:?} where {expected:?} is right"),
        }
    }

    fn next(&self, cumulative: u64) -> Voucher {
        let nonce = self.model.vouchers.len() as u64 + 1;
        plain_voucher(&self.model.channel, nonce, cumulative, self.model.head())
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Pay(amount) => self.pay(amount),
            Op::Replay(n) => {
                if let Some(voucher) = self.pick(n) {
                    assert!(!self.come(&voucher), "taken twice");
                    // It is the same one: no proof of anything.
                    let taken = &self.model.vouchers[(voucher.get().nonce - 1) as usize].0;
                    assert_eq!(FraudProof::of(taken, &voucher), None);
                }
            }
            Op::Fork(n, cumulative) => {
                let Some(taken) = self.pick(n) else { return };
                let other = Voucher { cumulative, made: 1 + NOW, ..taken.get().clone() };
                if codec_refuses(&other) {
                    return;
                }
                let other = Signed::new(other, &key(21));
                assert!(!self.come(&other), "one nonce, two vouchers");
                let proof = FraudProof::of(&other, &taken).unwrap();
                assert_eq!(FraudProof::of(&taken, &other).as_ref(), Some(&proof));
                assert_eq!(proof.verify().unwrap().0.get().place(), taken.get().place());
            }
            Op::Skip(by) => {
                let mut v = self.next(u64::MAX);
                v.nonce += u64::from(by) - 1;
                v.prev = VoucherId([1; 32]);
                assert!(!self.come(&Signed::new(v, &key(21))));
            }
            Op::BadPrev => {
                let mut v = self.next(self.lane.cumulative.saturating_add(1));
                v.prev = VoucherId([1; 32]);
                assert!(!self.come(&Signed::new(v, &key(21))));
            }
            Op::Raw(cumulative) => {
                let v = self.next(cumulative);
                // Only where the payer's side is not out of step after it.
                if !codec_refuses(&v) && self.model.judge(&v).is_err() {
                    assert!(!self.come(&Signed::new(v, &key(21))));
                }
            }
            Op::Foreign(which) => {
                let mut v = self.next(self.lane.cumulative.saturating_add(1));
                let mut by = key(21);
                match which {
                    0 => v.channel.0[0] ^= 1,
                    1 => v.epoch += 1,
                    _ => (v.lane, by) = (device(22), key(22)),
                }
                assert!(!self.come(&Signed::new(v, &by)));
            }
            Op::Wait(time) => self.model.now += time,
            Op::Credit(amount) => self.give_back(amount),
            Op::Freeze => {
                let until = self.model.now + FREEZE_GRACE;
                self.model.honoured = Some(self.model.honoured.map_or(until, |h| h.min(until)));
                self.settlement = self.settlement.freeze(until);
            }
            Op::News => {
                self.model.frozen = true;
                self.lane = self.lane.freeze();
            }
            Op::Settle(v, c, acked) => self.settle(v, c, acked),
        }
    }

    fn pick(&self, n: u8) -> Option<Signed<Voucher>> {
        let all = &self.model.vouchers;
        all.get(usize::from(n) % all.len().max(1)).map(|(v, ..)| v.clone())
    }

    fn pay(&mut self, amount: Amount) {
        let now = self.model.now;
        let amount = amount.of(self.out.room());
        let paid = self.out.pay(&key(21), amount, Offer::id(&offer()), now, now + 1_000);
        let total = self.model.paid() + u128::from(amount);
        let may = amount > 0
            && total - self.model.back() <= self.model.cap
            && total <= u128::from(u64::MAX)
            && now < self.model.channel.expires
            && !self.out.stopped;
        assert_eq!(paid.is_ok(), may, "{paid:?}");
        let Ok((after, voucher)) = paid else { return };
        assert_eq!(after.unanswered.as_deref(), Some(voucher.bytes()));
        let again = after.pay(&key(21), 1, Offer::id(&offer()), now, now + 1_000);
        assert_eq!(again.unwrap_err(), LaneRefusal::Unanswered);
        self.out = after;
        if self.come(&voucher) {
            let ack = ack(&voucher, amount, now);
            self.out = self.out.acked(&ack).unwrap();
            assert_eq!(self.out.acked(&ack).as_ref(), Ok(&self.out), "an answer come twice");
            assert_eq!(self.out.unanswered, None);
        } else {
            let frozen = self.out.refused(&refused(&voucher, Refusal::Gap)).unwrap();
            assert_eq!(frozen, self.out, "a gap is filled by sending again");
            self.out = self.out.refused(&refused(&voucher, Refusal::LaneFrozen)).unwrap();
            assert!(self.out.stopped);
        }
    }

    fn give_back(&mut self, amount: Amount) {
        let amount = amount.of(self.lane.owed());
        let owed = self.model.paid() - self.model.back();
        match self.lane.credit(amount) {
            Ok(after) => {
                assert!(amount > 0 && u128::from(amount) <= owed);
                self.lane = after;
                self.model.credits.push(amount.into());
                let voucher = self.pick(0).unwrap();
                let signed = credit(&voucher, self.lane.credits, self.lane.credited);
                self.out = self.out.credit(&signed).unwrap();
                assert_eq!(self.out.credit(&signed).as_ref(), Ok(&self.out));
            }
            Err(e) => {
                assert_eq!(e, LaneRefusal::TooMuchBack);
                assert!(amount == 0 || u128::from(amount) > owed);
            }
        }
    }

    fn settle(&mut self, v: u8, c: u8, acked: bool) {
        let (vs, cs) = (self.model.vouchers.len(), self.model.credits.len());
        let (v, c) = (usize::from(v) % (vs + 1), usize::from(c) % (cs + 1));
        let voucher = v.checked_sub(1).map(|i| self.model.vouchers[i].clone());
        let back: u128 = self.model.credits[..c].iter().sum();
        let credit = (c > 0)
            .then(|| credit(&self.model.vouchers[0].0, c as u32, u64::try_from(back).unwrap()));
        let proof = voucher.as_ref().filter(|_| acked).map(|(v, a, at)| ack(v, *a as u64, *at));
        let shown = voucher.as_ref().map(|(v, ..)| v);
        let result = self.settlement.settle(shown, credit.as_ref(), proof.as_ref(), self.model.now);

        let (v_after, c_after) = (v.max(self.model.settled.0), c.max(self.model.settled.1));
        let paid: u128 = self.model.vouchers[..v_after].iter().map(|(_, a, _)| a).sum();
        // A credit is held against what this voucher brings; older ones are included.
        let too_much_back = back > paid;
        let over = self.model.sum(v_after, c_after) > i128::try_from(self.model.cap).unwrap();
        let honoured = v <= self.model.settled.0
            || self
                .model
                .honoured
                .is_none_or(|until| acked && voucher.as_ref().is_some_and(|(.., at)| *at < until));
        if self.model.now >= self.model.channel.settle_by {
            assert_eq!(result, Err(SettleError::TooLate));
        } else if !honoured {
            assert_eq!(result, Err(SettleError::NotHonoured));
        } else if too_much_back {
            assert_eq!(result, Err(LaneRefusal::TooMuchBack.into()));
        } else if over {
            assert!(matches!(result, Err(SettleError::Lane(LaneRefusal::OverCap { .. }))));
        } else {
            let (after, moved) = result.unwrap();
            self.model.paid_out += match moved {
                Move::None => 0,
                Move::Pay(n) => i128::from(n),
                Move::Back(n) => -i128::from(n),
            };
            self.settlement = after;
            self.model.settled = (v_after, c_after);
        }
    }

    /// What holds after every step.
    fn check(&self) {
        let m = &self.model;
        assert_eq!(u128::from(self.lane.cumulative), m.paid());
        assert_eq!(u128::from(self.lane.credited), m.back());
        assert_eq!(self.lane.nonce, m.vouchers.len() as u64);
        assert_eq!(self.lane.credits as usize, m.credits.len());
        assert_eq!(self.lane.head, m.head());
        assert!(m.back() <= m.paid() && m.paid() - m.back() <= m.cap);
        assert_eq!(u128::from(self.lane.room()), m.cap - (m.paid() - m.back()));
        // The payer never believes to have more left than the payee grants.
        assert!(self.out.room() <= self.lane.room());
        // What left the reserve is what was settled, and never more than the cap.
        assert_eq!(m.paid_out, m.sum(m.settled.0, m.settled.1));
        assert_eq!(i128::from(self.settlement.paid()), m.paid_out);
        assert!((0..=i128::try_from(m.cap).unwrap()).contains(&m.paid_out));
    }
}

fn codec_refuses(v: &Voucher) -> bool {
    use crate::codec::Wire;
    v.check().is_err()
}

fn refused(voucher: &Signed<Voucher>, why: Refusal) -> Signed<VoucherRefusal> {
    let v = voucher.get();
    let refusal = VoucherRefusal {
        version: VERSION,
        channel: v.channel,
        epoch: v.epoch,
        lane: v.lane,
        key: device(11),
        voucher: Voucher::id(voucher),
        why,
        taken: 0,
        at: NOW,
    };
    Signed::new(refusal, &key(11))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn lanes_agree_with_the_model(
        cap in prop_oneof![3 => 1_u64..5_000, 1 => Just(u64::MAX - 1), 1 => (u64::MAX / 2)..(u64::MAX - 1)],
        ops in prop::collection::vec(op(), 1..48),
    ) {
        let mut world = World::new(cap);
        world.check();
        for op in ops {
            world.step(op);
            world.check();
        }
    }
}

#[test]
fn sums_near_the_end_of_numbers() {
    let mut world = World::new(u64::MAX - 1);
    world.pay(Amount::RoomLess(0));
    assert_eq!(world.lane.room(), 0);
    world.give_back(Amount::RoomLess(0));
    // Room there is, but sums can't rise by more than one any more.
    assert_eq!(world.lane.room(), u64::MAX - 1);
    let offer = Offer::id(&offer());
    let over = world.out.pay(&key(21), 2, offer, NOW, NOW + 1).unwrap_err();
    assert_eq!(over, LaneRefusal::Overflow);
    world.pay(Amount::Exactly(1));
    assert_eq!(world.lane.cumulative, u64::MAX);
    world.check();
    assert_eq!(world.lane.owed(), 1);
}

#[test]
fn answers_of_others_change_nothing() {
    let mut world = World::new(100);
    world.pay(Amount::Exactly(10));
    let (after, voucher) =
        world.out.pay(&key(21), 5, Offer::id(&offer()), NOW, NOW + 1_000).unwrap();
    // Of another epoch, by another key, of another voucher at this nonce.
    let good = ack(&voucher, 5, NOW).get().clone();
    let mut other = good.clone();
    other.epoch = 9;
    assert_eq!(after.acked(&Signed::new(other, &key(11))), Err(LaneRefusal::Other));
    let mut other = good.clone();
    other.key = device(12);
    assert_eq!(after.acked(&Signed::new(other, &key(12))), Err(LaneRefusal::Other));
    let mut other = good.clone();
    other.voucher = VoucherId([5; 32]);
    assert_eq!(after.acked(&Signed::new(other, &key(11))), Err(LaneRefusal::Contradiction));
    let mut other = good;
    other.nonce = 3;
    assert_eq!(after.acked(&Signed::new(other, &key(11))), Err(LaneRefusal::Other));
    // Credits that fall, repeat a number, or give back what was never paid.
    let after = after.credit(&credit(&voucher, 2, 7)).unwrap();
    assert_eq!(after.unanswered, None, "taken and given back is an answer");
    assert_eq!(after.room(), 92);
    for (number, credited, why) in [
        (2, 8, LaneRefusal::Contradiction),
        (3, 7, LaneRefusal::Contradiction),
        (3, 6, LaneRefusal::Contradiction),
        (1, 7, LaneRefusal::Contradiction),
        (3, 16, LaneRefusal::TooMuchBack),
    ] {
        assert_eq!(after.credit(&credit(&voucher, number, credited)), Err(why));
    }
    assert_eq!(after.credit(&credit(&voucher, 1, 3)).as_ref(), Ok(&after), "included already");
    let mut foreign = credit(&voucher, 3, 9).get().clone();
    foreign.key = device(12);
    assert_eq!(after.credit(&Signed::new(foreign, &key(12))), Err(LaneRefusal::Other));
    // Another device's key can't pay in this lane.
    let wrong = world.out.pay(&key(22), 1, Offer::id(&offer()), NOW, NOW + 1);
    assert_eq!(wrong.unwrap_err(), LaneRefusal::Other);
}

#[test]
fn after_a_freeze_only_what_was_taken_in_time_counts() {
    let mut world = World::new(100);
    world.pay(Amount::Exactly(60));
    let voucher = world.pick(0).unwrap();
    let frozen = world.settlement.freeze(NOW + 50).freeze(NOW + 90);
    let settle = |proof: Option<&Signed<crate::pay::VoucherAck>>| {
        frozen.settle(Some(&voucher), None, proof, NOW + 100).map(|(_, moved)| moved)
    };
    assert_eq!(settle(None), Err(SettleError::NotHonoured));
    assert_eq!(settle(Some(&ack(&voucher, 60, NOW + 50))), Err(SettleError::NotHonoured));
    assert_eq!(settle(Some(&ack(&voucher, 60, NOW + 49))), Ok(Move::Pay(60)));
    // The acknowledgement of another voucher, or by another key.
    let other = Voucher { made: NOW + 1, ..voucher.get().clone() };
    let other = ack(&Signed::new(other, &key(21)), 60, NOW);
    assert_eq!(settle(Some(&other)), Err(SettleError::NotHonoured));
    let mut forged = ack(&voucher, 60, NOW).get().clone();
    forged.key = device(21);
    assert_eq!(settle(Some(&Signed::new(forged, &key(21)))), Err(SettleError::NotHonoured));
    // What was settled before the freeze stays settled.
    let (settled, _) = world.settlement.settle(Some(&voucher), None, None, NOW).unwrap();
    let again = settled.freeze(NOW).settle(Some(&voucher), None, None, NOW).unwrap();
    assert_eq!(again.1, Move::None);
}

#[test]
fn credits_that_the_payee_hid_go_back() {
    let mut world = World::new(100);
    world.pay(Amount::Exactly(60));
    world.give_back(Amount::Exactly(45));
    let voucher = world.pick(0).unwrap();
    let (settled, moved) = world.settlement.settle(Some(&voucher), None, None, NOW).unwrap();
    assert_eq!(moved, Move::Pay(60));
    let shown = credit(&voucher, 1, 45);
    let (settled, moved) = settled.settle(None, Some(&shown), None, NOW).unwrap();
    assert_eq!((moved, settled.paid()), (Move::Back(45), 15));
    let (_, moved) = settled.settle(Some(&voucher), Some(&shown), None, NOW).unwrap();
    assert_eq!(moved, Move::None, "settling twice moves nothing");
    let late = settled.settle(Some(&voucher), None, None, settled.settle_by);
    assert_eq!(late, Err(SettleError::TooLate));
}
