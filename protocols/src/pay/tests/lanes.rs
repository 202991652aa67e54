//! Lanes against a plain reference model: lists of what was taken and given back, summed anew
//! each time in 128 bits.

use proptest::prelude::*;

use super::samples::{
    HOUR, NOW, ack, asset, asset_of, channel, community, credit, offer, plain_voucher,
};
use crate::account::testing::{device, key};
use crate::ids::{Millis, VoucherId};
use crate::pay::{
    Asset, CHANNEL_LIFE, CREDIT_TIME, Channel, Contradiction, Credit, CreditReason, FREEZE_GRACE,
    Freeze, Lane, LaneOut, LaneRefusal, Move, Offer, Paid, Refusal, SETTLE_TIME, SettleError,
    Settlement, VERSION, Voucher, VoucherRefusal,
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
    /// The next voucher, of another lane or channel.
    Foreign(u8),
    /// Time passes.
    Wait(Millis),
    /// The payee gives back of a voucher.
    Credit(u8, Amount),
    /// The issuer freezes.
    Freeze,
    /// The payee learns of it.
    News,
    /// A voucher of the history is settled.
    Settle(u8),
    /// A credit of the history is.
    SettleCredit(u8),
    /// The payee learns what the issuer has counted.
    Shown,
    /// The payer's device signed another voucher for a nonce that is settled, and the payee
    /// acknowledges both.
    ForkSettled(u8, u64),
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
        1 => (0_u8..2).prop_map(Op::Foreign),
        1 => time.prop_map(Op::Wait),
        6 => (any::<u8>(), amount()).prop_map(|(n, a)| Op::Credit(n, a)),
        1 => Just(Op::Freeze),
        1 => Just(Op::News),
        5 => any::<u8>().prop_map(Op::Settle),
        3 => any::<u8>().prop_map(Op::SettleCredit),
        4 => Just(Op::Shown),
        1 => (any::<u8>(), any::<u64>()).prop_map(|(n, c)| Op::ForkSettled(n, c)),
    ]
}

/// The model: everything that was taken, in order.
struct Model {
    channel: Signed<Channel>,
    cap: u128,
    now: Millis,
    frozen: bool,
    honoured: Option<Millis>,
    /// Each with what it added and when it came.
    vouchers: Vec<(Signed<Voucher>, u128, Millis)>,
    /// Of which voucher, how much.
    credits: Vec<(usize, u128)>,
    /// How many vouchers the payee knows to be counted.
    shown: usize,
    /// The highest sums that the issuer was shown.
    cumulative: u128,
    credited: u128,
    /// What the payee has of the channel's account.
    paid_out: i128,
    /// A forked voucher was settled: sums are the device's own word from there on.
    forked: bool,
}

impl Model {
    fn paid(&self) -> u128 {
        self.vouchers.iter().map(|(_, amount, _)| amount).sum()
    }

    fn back(&self) -> u128 {
        self.credits.iter().map(|(_, amount)| amount).sum()
    }

    fn head(&self) -> VoucherId {
        self.vouchers.last().map_or(VoucherId([0; 32]), |(v, ..)| Voucher::id(v))
    }

    /// Why the voucher is not taken, as the wire says it, or what it adds.
    fn judge(&self, v: &Voucher) -> Result<u128, Refusal> {
        if (v.channel, v.lane) != (self.channel.get().id, device(21)) {
            return Err(Refusal::UnknownChannel);
        }
        let next = self.vouchers.len() as u64 + 1;
        if v.nonce < next {
            return Err(Refusal::SameKeyOtherBytes);
        }
        if self.frozen {
            return Err(Refusal::LaneFrozen);
        }
        if self.now >= self.channel.get().expires {
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

    /// The lane's sum by its first so many vouchers.
    fn sum(&self, vouchers: usize) -> u128 {
        self.vouchers[..vouchers].iter().map(|(_, amount, _)| amount).sum()
    }

    /// What was given back of a voucher.
    fn back_of(&self, voucher: usize) -> u128 {
        self.credits.iter().filter(|(of, _)| *of == voucher).map(|(_, amount)| amount).sum()
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
        let (channel, asset) = (channel(cap), asset());
        let other = asset_of(&community(), 31);
        assert_eq!(Lane::open(&channel, &other, device(21)), None, "another's money");
        assert_eq!(LaneOut::open(&channel, &other, device(21)), None);
        assert_eq!(Settlement::open(&channel, &other, device(21)), None);
        Self {
            lane: Lane::open(&channel, &asset, device(21)).unwrap(),
            out: LaneOut::open(&channel, &asset, device(21)).unwrap(),
            settlement: Settlement::open(&channel, &asset, device(21)).unwrap(),
            model: Model {
                channel,
                cap: cap.into(),
                now: NOW,
                frozen: false,
                honoured: None,
                vouchers: Vec::new(),
                credits: Vec::new(),
                shown: 0,
                cumulative: 0,
                credited: 0,
                paid_out: 0,
                forked: false,
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
        plain_voucher(self.model.channel.get(), nonce, cumulative, self.model.head())
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Pay(amount) => self.pay(amount),
            Op::Replay(n) => {
                if let Some(voucher) = self.pick(n) {
                    assert!(!self.come(&voucher), "taken twice");
                    // It is the same one: no proof of anything.
                    let taken = &self.model.vouchers[(voucher.get().nonce - 1) as usize].0;
                    assert_eq!(Contradiction::of_vouchers(taken, &voucher), None);
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
                let proof = Contradiction::of_vouchers(&other, &taken).unwrap();
                assert_eq!(Contradiction::of_vouchers(&taken, &other).as_ref(), Some(&proof));
                assert_eq!(proof.verify(), Ok(device(21)));
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
                    _ => (v.lane, by) = (device(22), key(22)),
                }
                assert!(!self.come(&Signed::new(v, &by)));
            }
            Op::Wait(time) => self.model.now += time,
            Op::Credit(of, amount) => self.give_back(of, amount),
            Op::Freeze => {
                let until = self.model.now + FREEZE_GRACE;
                self.model.honoured = Some(self.model.honoured.map_or(until, |h| h.min(until)));
                self.settlement =
                    self.settlement.freeze(&freeze(self.model.now), &asset()).unwrap();
            }
            Op::News => {
                self.model.frozen = true;
                self.lane = self.lane.freeze(&freeze(NOW), &asset()).unwrap();
            }
            Op::Settle(n) => {
                let Some(voucher) = self.pick(n) else { return };
                let at = (voucher.get().nonce - 1) as usize;
                let amount = self.model.vouchers[at].1 as u64;
                self.settle(&voucher, amount);
            }
            Op::SettleCredit(n) => {
                let upto = usize::from(n) % (self.model.credits.len() + 1);
                let sum: u128 = self.model.credits[..upto].iter().map(|(_, n)| n).sum();
                if let (true, Some(voucher)) = (sum > 0, self.pick(0)) {
                    self.settle_credit(&credit(&voucher, sum as u64));
                }
            }
            Op::Shown => {
                let counted = self.settlement.cumulative;
                let n = (0..=self.model.vouchers.len())
                    .rfind(|n| self.model.sum(*n) <= u128::from(counted));
                let n = n.unwrap_or(0);
                let sum = self.model.sum(n) as u64;
                self.lane = self.lane.shown(sum).unwrap();
                self.model.shown = self.model.shown.max(n);
            }
            Op::ForkSettled(n, cumulative) => {
                let Some(taken) = self.pick(n) else { return };
                let other = Voucher { cumulative, made: 2 + NOW, ..taken.get().clone() };
                if !codec_refuses(&other) {
                    self.model.forked |= u128::from(cumulative) > self.model.paid();
                    self.settle(&Signed::new(other, &key(21)), 1);
                }
            }
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
            && now < self.model.channel.get().expires
            && !self.out.stopped;
        assert_eq!(paid.is_ok(), may, "{paid:?}");
        let Ok((after, voucher)) = paid else { return };
        assert_eq!(after.unanswered.as_ref().unwrap().bytes, voucher.bytes());
        let again = after.pay(&key(21), 1, Offer::id(&offer()), now, now + 1_000);
        assert_eq!(again.unwrap_err(), LaneRefusal::Unanswered);
        self.out = after;
        if self.come(&voucher) {
            let ack = ack(&voucher, amount, now);
            self.out = self.out.acked(&ack).unwrap();
            assert_eq!(self.out.acked(&ack).as_ref(), Ok(&self.out), "an answer come twice");
            assert_eq!(self.out.unanswered, None);
        } else {
            let other = refused(&voucher, amount.wrapping_add(1).max(1), Refusal::LaneFrozen);
            assert_eq!(self.out.refused(&other), Err(LaneRefusal::Contradiction));
            let refusal = refused(&voucher, amount, Refusal::LaneFrozen);
            self.out = self.out.refused(&refusal).unwrap();
            assert!(self.out.stopped);
        }
    }

    fn give_back(&mut self, of: u8, amount: Amount) {
        if self.model.vouchers.is_empty() {
            return;
        }
        let of = usize::from(of) % self.model.vouchers.len();
        let (paid, back) = (self.model.vouchers[of].1, self.model.back_of(of));
        let before = Paid { amount: paid as u64, refunded: back as u64 };
        let amount = amount.of(before.left());
        let by = self.model.sum(of + 1) as u64;
        let may = amount > 0 && back + u128::from(amount) <= paid;
        match self.lane.credit(by, &before, amount) {
            Ok((after, left)) => {
                assert!(of < self.model.shown && may, "only of what is counted");
                assert_eq!(left.refunded, before.refunded + amount);
                self.lane = after;
                self.model.credits.push((of, amount.into()));
                let signed = credit(&self.model.vouchers[of].0.clone(), self.lane.credited);
                self.out = self.out.credit(&signed).unwrap();
                assert_eq!(self.out.credit(&signed).as_ref(), Ok(&self.out));
            }
            Err(LaneRefusal::NotShown) => assert!(of >= self.model.shown),
            Err(LaneRefusal::TooMuchBack) => assert!(!may),
            Err(LaneRefusal::Overflow) => assert!(amount > u64::MAX - before.refunded),
            Err(e) => panic!("{e}"),
        }
    }

    fn moved(&mut self, result: (Settlement, Move)) {
        self.model.paid_out += match result.1 {
            Move::None => 0,
            Move::Pay(n) => i128::from(n),
            Move::Back(n) => -i128::from(n),
        };
        self.settlement = result.0;
    }

    fn settle(&mut self, voucher: &Signed<Voucher>, amount: u64) {
        let now = self.model.now;
        let sum = u128::from(voucher.get().cumulative);
        let result = self.settlement.taken(voucher, &ack(voucher, amount, NOW), now);
        let more = sum > self.model.cumulative;
        if more && now >= self.model.channel.get().settle_by {
            assert_eq!(result, Err(SettleError::TooLate));
        } else if more && self.model.honoured.is_some_and(|until| now >= until) {
            assert_eq!(result, Err(SettleError::NotHonoured));
        } else {
            self.model.cumulative = self.model.cumulative.max(sum);
            self.moved(result.unwrap());
        }
    }

    fn settle_credit(&mut self, credit: &Signed<Credit>) {
        let now = self.model.now;
        let sum = u128::from(credit.get().credited);
        let result = self.settlement.credit(credit, now);
        let over = now >= self.model.channel.get().settle_by + CREDIT_TIME;
        if sum > self.model.credited && over {
            assert_eq!(result, Err(SettleError::TooLate));
        } else {
            self.model.credited = self.model.credited.max(sum);
            self.moved(result.unwrap());
        }
    }

    /// What holds after every step.
    fn check(&self) {
        let m = &self.model;
        assert_eq!(u128::from(self.lane.cumulative), m.paid());
        assert_eq!(u128::from(self.lane.credited), m.back());
        assert_eq!(self.lane.nonce, m.vouchers.len() as u64);
        assert_eq!(self.lane.head, m.head());
        assert!(m.back() <= m.paid() && m.paid() - m.back() <= m.cap);
        assert_eq!(u128::from(self.lane.room()), m.cap - (m.paid() - m.back()));
        // The payer never believes to have more left than the payee grants.
        assert!(self.out.room() <= self.lane.room());
        // What left the channel's account is what was shown, and never more than the cap.
        let owed = m.cumulative.saturating_sub(m.credited).min(m.cap);
        assert_eq!(m.paid_out, i128::try_from(owed).unwrap());
        assert_eq!(i128::from(self.settlement.paid()), m.paid_out);
        // Whatever was forked, an honest payee can have what it took and did not give back,
        // while there is time.
        assert!(m.forked || m.cumulative <= m.paid());
        assert!(m.sum(m.shown) <= m.cumulative, "counted is counted");
        assert!(m.back() <= m.sum(m.shown), "nothing is given back that could become void");
        assert!((0..=i128::try_from(m.cap).unwrap()).contains(&m.paid_out));
    }
}

fn codec_refuses(v: &Voucher) -> bool {
    use crate::codec::Wire;
    v.check().is_err()
}

fn refused(voucher: &Signed<Voucher>, amount: u64, why: Refusal) -> Signed<VoucherRefusal> {
    let v = voucher.get();
    let refusal = VoucherRefusal {
        version: VERSION,
        channel: v.channel,
        lane: v.lane,
        key: device(11),
        voucher: Voucher::id(voucher),
        nonce: v.nonce,
        amount,
        offer: v.offer,
        why,
        taken: 0,
        at: NOW,
    };
    Signed::new(refusal, &key(11))
}

fn freeze(at: Millis) -> Signed<Freeze> {
    let freeze = Freeze {
        version: VERSION,
        asset: Asset::id(&asset()),
        account: super::samples::customer().account(),
        lane: device(21),
        key: device(11),
        at,
        honoured_until: at + FREEZE_GRACE,
        fraud: false,
    };
    Signed::new(freeze, &key(11))
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
    world.step(Op::Settle(0));
    world.step(Op::Shown);
    world.give_back(0, Amount::RoomLess(0));
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
fn answers_say_what_they_answer() {
    let mut world = World::new(100);
    world.pay(Amount::Exactly(10));
    let (after, voucher) =
        world.out.pay(&key(21), 5, Offer::id(&offer()), NOW, NOW + 1_000).unwrap();
    // By another key, of another voucher at this nonce, of another amount or offer.
    let good = ack(&voucher, 5, NOW).get().clone();
    let mut other = good.clone();
    other.key = device(12);
    assert_eq!(after.acked(&Signed::new(other, &key(12))), Err(LaneRefusal::Other));
    let mut other = good.clone();
    other.voucher = VoucherId([5; 32]);
    assert_eq!(after.acked(&Signed::new(other, &key(11))), Err(LaneRefusal::Contradiction));
    assert_eq!(after.acked(&ack(&voucher, 4, NOW)), Err(LaneRefusal::Contradiction));
    let mut other = good.clone();
    other.offer.0[0] ^= 1;
    assert_eq!(after.acked(&Signed::new(other, &key(11))), Err(LaneRefusal::Contradiction));
    let mut other = good;
    other.nonce = 3;
    assert_eq!(after.acked(&Signed::new(other, &key(11))), Err(LaneRefusal::Other));
    // A credit answers only if it refuses the voucher and gives all of it back.
    let back = |credited, refused: bool| {
        let mut c = credit(&voucher, credited).get().clone();
        if refused {
            c.reason = CreditReason::Refused(Refusal::OutOfStock);
        }
        after.credit(&Signed::new(c, &key(11)))
    };
    assert!(back(1, true).unwrap().unanswered.is_some(), "one cent is no answer");
    assert!(back(5, false).unwrap().unanswered.is_some(), "nor is a refund");
    assert_eq!(back(5, true).unwrap().unanswered, None, "taken and given back is");
    assert_eq!(back(16, true), Err(LaneRefusal::TooMuchBack));
    // Of two credits the higher sum counts, in whatever order they come.
    let high = after.credit(&credit(&voucher, 7)).unwrap();
    assert_eq!(high.room(), 92);
    assert_eq!(high.credit(&credit(&voucher, 3)).as_ref(), Ok(&high), "included already");
    let mut foreign = credit(&voucher, 9).get().clone();
    foreign.key = device(12);
    assert_eq!(after.credit(&Signed::new(foreign, &key(12))), Err(LaneRefusal::Other));
    // Another device's key can't pay in this lane.
    let wrong = world.out.pay(&key(22), 1, Offer::id(&offer()), NOW, NOW + 1);
    assert_eq!(wrong.unwrap_err(), LaneRefusal::Other);
}

#[test]
fn after_a_freeze_only_what_is_shown_in_time_counts() {
    let mut world = World::new(100);
    world.pay(Amount::Exactly(60));
    let voucher = world.pick(0).unwrap();
    let until = NOW + FREEZE_GRACE;
    let later = freeze(NOW + HOUR);
    let frozen = world.settlement.freeze(&later, &asset()).unwrap();
    let frozen = frozen.freeze(&freeze(NOW), &asset()).unwrap().freeze(&later, &asset()).unwrap();
    let settle = |now, at| frozen.taken(&voucher, &ack(&voucher, 60, at), now).map(|(_, m)| m);
    assert_eq!(settle(until - 1, NOW), Ok(Move::Pay(60)));
    assert_eq!(settle(until, NOW), Err(SettleError::NotHonoured), "the ack's time is a claim");
    // The acknowledgement of another voucher, or by another key.
    let other = Voucher { made: NOW + 1, ..voucher.get().clone() };
    let other = ack(&Signed::new(other, &key(21)), 60, NOW);
    assert_eq!(frozen.taken(&voucher, &other, NOW), Err(SettleError::Other));
    let mut forged = ack(&voucher, 60, NOW).get().clone();
    forged.key = device(21);
    let forged = Signed::new(forged, &key(21));
    assert_eq!(frozen.taken(&voucher, &forged, NOW), Err(SettleError::Other));
    // A freeze that the issuer didn't sign, or of another device or account.
    for change in [
        (|f| f.key = device(21)) as fn(&mut Freeze),
        |f| f.lane = device(22),
        |f| f.account = super::samples::nobody(),
    ] {
        let mut f = freeze(NOW).get().clone();
        change(&mut f);
        let by = if f.key == device(21) { 21 } else { 11 };
        let f = Signed::new(f, &key(by));
        assert_eq!(world.settlement.freeze(&f, &asset()), Err(SettleError::Other));
    }
    // What was settled before the freeze stays settled; the payee learns what is void.
    let proof = ack(&voucher, 60, NOW);
    let (settled, _) = world.settlement.taken(&voucher, &proof, NOW).unwrap();
    let frozen = settled.freeze(&freeze(NOW), &asset()).unwrap();
    assert_eq!(frozen.taken(&voucher, &proof, until).unwrap().1, Move::None);
    world.step(Op::Settle(0));
    world.step(Op::Shown);
    world.pay(Amount::Exactly(30));
    let lane = world.lane.freeze(&freeze(NOW), &asset()).unwrap();
    assert_eq!(lane.void().unwrap().cumulative, 60);
    assert_eq!(world.lane.void(), Err(LaneRefusal::Contradiction));
}

#[test]
fn credits_that_the_payee_hid_go_back() {
    let mut world = World::new(100);
    world.pay(Amount::Exactly(60));
    world.step(Op::Settle(0));
    world.step(Op::Shown);
    world.give_back(0, Amount::Exactly(45));
    let voucher = world.pick(0).unwrap();
    let settled = world.settlement.clone();
    assert_eq!(settled.paid(), 60);
    // In the time that only credits have, after the time to settle.
    let late = settled.settle_by + CREDIT_TIME;
    let shown = credit(&voucher, 45);
    let (after, moved) = settled.credit(&shown, late - 1).unwrap();
    assert_eq!((moved, after.paid()), (Move::Back(45), 15));
    let (after, moved) = after.credit(&shown, late).unwrap();
    assert_eq!(moved, Move::None, "settling twice moves nothing");
    assert_eq!(settled.credit(&shown, late), Err(SettleError::TooLate));
    assert!(after.is_final(late) && !after.is_final(late - 1));
}

#[test]
fn a_forked_lane_robs_nobody() {
    // The thief's device signs a low second voucher besides the honest first two.
    let mut world = World::new(100);
    world.pay(Amount::Exactly(30));
    world.pay(Amount::Exactly(30));
    let honest = world.pick(1).unwrap();
    let low = Voucher { cumulative: 2, made: NOW + 1, ..honest.get().clone() };
    let low = Signed::new(low, &key(21));
    let (after, moved) = world.settlement.taken(&low, &ack(&low, 1, NOW), NOW).unwrap();
    assert_eq!(moved, Move::Pay(2));
    let (after, moved) = after.taken(&honest, &ack(&honest, 30, NOW), NOW).unwrap();
    assert_eq!((moved, after.paid()), (Move::Pay(58), 60), "the payee gets what it took");
    let high = Voucher { cumulative: 5_000, made: NOW + 1, ..honest.get().clone() };
    let high = Signed::new(high, &key(21));
    let (after, moved) = after.taken(&high, &ack(&high, 1, NOW), NOW).unwrap();
    assert_eq!((moved, after.paid()), (Move::Pay(40), 100), "and never more than the cap");
    assert!(Contradiction::of_vouchers(&low, &honest).is_some());
    // A higher nonce whose sum is no higher proves it, too.
    let first = world.pick(0).unwrap();
    let fallen = Voucher { cumulative: 30, made: NOW + 1, ..honest.get().clone() };
    let fallen = Signed::new(fallen, &key(21));
    assert_eq!(Contradiction::of_vouchers(&fallen, &first).unwrap().verify(), Ok(device(21)));
    assert_eq!(Contradiction::of_vouchers(&honest, &first), None);
}
