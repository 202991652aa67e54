//! The rules of a channel's lanes, as small states whose every step is a function.
//!
//! Three parties keep three states of one lane: the payee a [`Lane`], the payer's device a
//! [`LaneOut`], the issuer a [`Settlement`]. A step takes the state and what came, and returns
//! the state after, or why not; whoever calls it makes the state durable before anything that
//! follows from it leaves.
//!
//! In all three
//! - the nonce rises by one, each voucher names the one before, and the sums never fall;
//! - `credited ≤ cumulative`, and `cumulative − credited ≤ cap` wherever vouchers are taken.

use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};

use super::{Channel, Credit, MAX_ORDER_LIFE, Refusal, Voucher, VoucherAck, VoucherRefusal};
use crate::ids::{ChannelId, DeviceId, Millis, OfferId, VoucherId};
use crate::sign::Signed;

/// The voucher before the first.
const NONE: VoucherId = VoucherId([0; 32]);

/// A lane as the payee keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lane {
    /// The channel.
    pub channel: ChannelId,
    /// Its epoch.
    pub epoch: u32,
    /// The lane's device.
    pub device: DeviceId,
    /// The most that may be owed, in minor units.
    pub cap: u64,
    /// Vouchers are taken until then, exclusive.
    pub until: Millis,
    /// Vouchers taken so far.
    pub nonce: u64,
    /// The last of them; zeros for none.
    pub head: VoucherId,
    /// Paid so far, in minor units.
    pub cumulative: u64,
    /// Credits given so far.
    pub credits: u32,
    /// Given back so far, in minor units.
    pub credited: u64,
    /// No voucher is taken any more.
    pub frozen: bool,
}

/// A voucher that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The lane after it.
    pub lane: Lane,
    /// What it added, in minor units; at least 1.
    pub amount: u64,
    /// It came after its own time: it is to be credited, not served.
    pub late: bool,
}

/// Why a voucher was not taken, or a step can't be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LaneRefusal {
    /// Of another channel, epoch, lane or key.
    #[error("of another lane")]
    Other,
    /// A voucher with this nonce was taken before. If it is the same one, its answer is given
    /// again; if not, both together are a [`super::FraudProof`].
    #[error("a voucher with this nonce was taken before")]
    Known,
    /// The lane is frozen.
    #[error("the lane is frozen")]
    Frozen,
    /// The channel's time is up.
    #[error("the channel has ended")]
    Over,
    /// Vouchers before this one haven't come.
    #[error("voucher {taken} is the last that was taken")]
    Gap {
        /// The nonce of the last voucher that was taken; 0 for none.
        taken: u64,
    },
    /// It doesn't name the last voucher as the one before.
    #[error("doesn't follow the last voucher")]
    BrokenChain,
    /// It adds nothing, or takes away.
    #[error("a voucher of nothing")]
    NoAmount,
    /// More than the cap leaves.
    #[error("only {room} may be spent")]
    OverCap {
        /// What may be spent, in minor units.
        room: u64,
    },
    /// A credit of nothing, or of more than was paid.
    #[error("a credit of more than was paid")]
    TooMuchBack,
    /// What was said contradicts what was said before.
    #[error("contradicts what was said before")]
    Contradiction,
    /// A voucher is out that has not been answered.
    #[error("the last voucher has not been answered")]
    Unanswered,
    /// Beyond what can be counted.
    #[error("beyond what can be counted")]
    Overflow,
    /// The times given don't fit.
    #[error("times don't fit")]
    Times,
}

impl LaneRefusal {
    /// The reason for the other side.
    #[must_use]
    pub const fn refusal(self) -> Refusal {
        match self {
            Self::Other => Refusal::UnknownChannel,
            Self::Known | Self::Contradiction => Refusal::SameKeyOtherBytes,
            Self::Frozen => Refusal::LaneFrozen,
            Self::Over => Refusal::ChannelOver,
            Self::Gap { .. } => Refusal::Gap,
            Self::BrokenChain => Refusal::BrokenChain,
            Self::NoAmount => Refusal::WrongAmount,
            Self::OverCap { .. } => Refusal::OverCap,
            Self::TooMuchBack => Refusal::TooMuchBack,
            Self::Overflow => Refusal::TooLarge,
            Self::Times => Refusal::Expired,
            Self::Unanswered => Refusal::Unavailable,
        }
    }
}

/// `cumulative − credited`: invariant, credits never exceed what was paid.
const fn owed(cumulative: u64, credited: u64) -> u64 {
    cumulative.saturating_sub(credited)
}

impl Lane {
    /// The lane of a device, before its first voucher; none where the channel has no such lane.
    #[must_use]
    pub fn open(channel: &Channel, device: DeviceId) -> Option<Self> {
        Some(Self {
            channel: channel.id,
            epoch: channel.epoch,
            device,
            cap: channel.cap(&device)?,
            until: channel.expires,
            nonce: 0,
            head: NONE,
            cumulative: 0,
            credits: 0,
            credited: 0,
            frozen: false,
        })
    }

    /// What the lane owes, in minor units.
    #[must_use]
    pub const fn owed(&self) -> u64 {
        owed(self.cumulative, self.credited)
    }

    /// What it may still spend, in minor units.
    #[must_use]
    pub const fn room(&self) -> u64 {
        self.cap.saturating_sub(self.owed())
    }

    /// Takes the next voucher.
    pub fn accept(&self, voucher: &Signed<Voucher>, now: Millis) -> Result<Accepted, LaneRefusal> {
        let v = voucher.get();
        if (v.channel, v.epoch, v.lane) != (self.channel, self.epoch, self.device) {
            return Err(LaneRefusal::Other);
        }
        if v.nonce <= self.nonce {
            return Err(LaneRefusal::Known);
        }
        if self.frozen {
            return Err(LaneRefusal::Frozen);
        }
        if now >= self.until {
            return Err(LaneRefusal::Over);
        }
        if self.nonce.checked_add(1) != Some(v.nonce) {
            return Err(LaneRefusal::Gap { taken: self.nonce });
        }
        if v.prev != self.head {
            return Err(LaneRefusal::BrokenChain);
        }
        let amount = match v.cumulative.checked_sub(self.cumulative) {
            Some(amount) if amount > 0 => amount,
            _ => return Err(LaneRefusal::NoAmount),
        };
        if amount > self.room() {
            return Err(LaneRefusal::OverCap { room: self.room() });
        }
        let lane = Self {
            nonce: v.nonce,
            head: Voucher::id(voucher),
            cumulative: v.cumulative,
            ..self.clone()
        };
        Ok(Accepted { lane, amount, late: now >= v.expires })
    }

    /// Gives an amount back.
    pub fn credit(&self, amount: u64) -> Result<Self, LaneRefusal> {
        if amount == 0 || amount > self.owed() {
            return Err(LaneRefusal::TooMuchBack);
        }
        let credits = self.credits.checked_add(1).ok_or(LaneRefusal::Overflow)?;
        let credited = self.credited.checked_add(amount).ok_or(LaneRefusal::Overflow)?;
        Ok(Self { credits, credited, ..self.clone() })
    }

    /// Takes no voucher from now on.
    #[must_use]
    pub fn freeze(&self) -> Self {
        Self { frozen: true, ..self.clone() }
    }
}

/// A lane as the payer's device keeps it. One voucher is out at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneOut {
    /// The channel.
    pub channel: ChannelId,
    /// Its epoch.
    pub epoch: u32,
    /// This device.
    pub device: DeviceId,
    /// The payee's key.
    pub payee_key: DeviceId,
    /// The most that may be owed, in minor units.
    pub cap: u64,
    /// Vouchers are taken until then, exclusive.
    pub until: Millis,
    /// Vouchers signed so far.
    pub nonce: u64,
    /// The last of them; zeros for none.
    pub head: VoucherId,
    /// Paid so far, the unanswered voucher included, in minor units.
    pub cumulative: u64,
    /// The highest number of a credit seen.
    pub credits: u32,
    /// What it gave back, with those before it, in minor units.
    pub credited: u64,
    /// The signed bytes of the last voucher, until it is answered: what is sent again.
    pub unanswered: Option<Vec<u8>>,
    /// Nothing more is paid in this lane: it is frozen, or the payee doesn't follow it.
    pub stopped: bool,
}

impl LaneOut {
    /// This device's lane, before its first voucher; none where the channel has no such lane.
    #[must_use]
    pub fn open(channel: &Channel, device: DeviceId) -> Option<Self> {
        Some(Self {
            channel: channel.id,
            epoch: channel.epoch,
            device,
            payee_key: channel.payee_key,
            cap: channel.cap(&device)?,
            until: channel.expires,
            nonce: 0,
            head: NONE,
            cumulative: 0,
            credits: 0,
            credited: 0,
            unanswered: None,
            stopped: false,
        })
    }

    /// What the lane owes, in minor units.
    #[must_use]
    pub const fn owed(&self) -> u64 {
        owed(self.cumulative, self.credited)
    }

    /// What it may still spend, in minor units.
    #[must_use]
    pub const fn room(&self) -> u64 {
        self.cap.saturating_sub(self.owed())
    }

    /// Signs the next voucher. It leaves once the state after it is durable, and from then on
    /// only the bytes in [`LaneOut::unanswered`] do.
    pub fn pay(
        &self,
        key: &SigningKey,
        amount: u64,
        offer: OfferId,
        now: Millis,
        expires: Millis,
    ) -> Result<(Self, Signed<Voucher>), LaneRefusal> {
        if key.verifying_key().to_bytes() != self.device.0 {
            return Err(LaneRefusal::Other);
        }
        if self.stopped {
            return Err(LaneRefusal::Frozen);
        }
        if now >= self.until {
            return Err(LaneRefusal::Over);
        }
        if self.unanswered.is_some() {
            return Err(LaneRefusal::Unanswered);
        }
        let life = expires.checked_sub(now).ok_or(LaneRefusal::Times)?;
        if life == 0 || life > MAX_ORDER_LIFE {
            return Err(LaneRefusal::Times);
        }
        if amount == 0 {
            return Err(LaneRefusal::NoAmount);
        }
        if amount > self.room() {
            return Err(LaneRefusal::OverCap { room: self.room() });
        }
        let nonce = self.nonce.checked_add(1).ok_or(LaneRefusal::Overflow)?;
        let cumulative = self.cumulative.checked_add(amount).ok_or(LaneRefusal::Overflow)?;
        let voucher = Signed::new(
            Voucher {
                version: super::VERSION,
                channel: self.channel,
                epoch: self.epoch,
                lane: self.device,
                nonce,
                cumulative,
                offer,
                prev: self.head,
                made: now,
                expires,
            },
            key,
        );
        let after = Self {
            nonce,
            cumulative,
            head: Voucher::id(&voucher),
            unanswered: Some(voucher.bytes().to_vec()),
            ..self.clone()
        };
        Ok((after, voucher))
    }

    fn ours(&self, channel: ChannelId, epoch: u32, lane: DeviceId, key: DeviceId) -> bool {
        (channel, epoch, lane, key) == (self.channel, self.epoch, self.device, self.payee_key)
    }

    /// The payee took the last voucher.
    pub fn acked(&self, ack: &Signed<VoucherAck>) -> Result<Self, LaneRefusal> {
        let a = ack.get();
        if !self.ours(a.channel, a.epoch, a.lane, a.key) {
            return Err(LaneRefusal::Other);
        }
        if a.nonce != self.nonce {
            // An answer to an earlier voucher, come again, changes nothing.
            return if a.nonce < self.nonce { Ok(self.clone()) } else { Err(LaneRefusal::Other) };
        }
        if a.voucher != self.head {
            return Err(LaneRefusal::Contradiction);
        }
        Ok(Self { unanswered: None, ..self.clone() })
    }

    /// The payee gave something back; if it is of the last voucher, that is its answer.
    /// A credit that came before, or one that a later credit includes, changes nothing.
    pub fn credit(&self, credit: &Signed<Credit>) -> Result<Self, LaneRefusal> {
        let c = credit.get();
        if !self.ours(c.channel, c.epoch, c.lane, c.key) {
            return Err(LaneRefusal::Other);
        }
        let mut after = self.clone();
        (after.credits, after.credited) =
            follow((self.credits, self.credited), (c.number, c.credited), self.cumulative)?;
        if c.voucher == self.head {
            after.unanswered = None;
        }
        Ok(after)
    }

    /// The payee did not take a voucher. If that is the last one, nothing more is paid in this
    /// lane, unless the payee only waits for earlier vouchers.
    pub fn refused(&self, refusal: &Signed<VoucherRefusal>) -> Result<Self, LaneRefusal> {
        let r = refusal.get();
        if !self.ours(r.channel, r.epoch, r.lane, r.key) {
            return Err(LaneRefusal::Other);
        }
        if r.voucher != self.head || self.unanswered.is_none() || r.why == Refusal::Gap {
            return Ok(self.clone());
        }
        Ok(Self { stopped: true, ..self.clone() })
    }

    /// Pays nothing more in this lane: it was frozen.
    #[must_use]
    pub fn freeze(&self) -> Self {
        Self { stopped: true, ..self.clone() }
    }
}

/// The later of two credits (number, sum): both rise together, and never above what was paid.
const fn follow(
    held: (u32, u64),
    came: (u32, u64),
    cumulative: u64,
) -> Result<(u32, u64), LaneRefusal> {
    if came.1 > cumulative {
        return Err(LaneRefusal::TooMuchBack);
    }
    let fits = match came.0 {
        number if number > held.0 => came.1 > held.1,
        number if number == held.0 => came.1 == held.1,
        _ => came.1 < held.1,
    };
    if !fits {
        return Err(LaneRefusal::Contradiction);
    }
    Ok(if came.0 > held.0 { came } else { held })
}

/// A lane as the issuer settles it: what was paid out is `cumulative − credited`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settlement {
    /// The channel.
    pub channel: ChannelId,
    /// Its epoch.
    pub epoch: u32,
    /// The lane's device.
    pub device: DeviceId,
    /// The payee's key.
    pub payee_key: DeviceId,
    /// The most that may be paid out, in minor units.
    pub cap: u64,
    /// Settled until then, exclusive.
    pub settle_by: Millis,
    /// The highest voucher shown; 0 for none.
    pub nonce: u64,
    /// Paid in the lane by then, in minor units.
    pub cumulative: u64,
    /// The highest credit shown; 0 for none.
    pub credits: u32,
    /// Given back by then, in minor units.
    pub credited: u64,
    /// Frozen: only vouchers that the payee acknowledged before this time count any more.
    pub honoured_until: Option<Millis>,
}

/// What a settlement moves between the channel's reserve and the payee, in minor units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// Nothing.
    None,
    /// From the reserve to the payee.
    Pay(u64),
    /// From the payee back into the reserve: credits came that it had not shown.
    Back(u64),
}

/// Why a settlement was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SettleError {
    /// What was shown breaks the lane's rules.
    #[error(transparent)]
    Lane(#[from] LaneRefusal),
    /// The time to settle is over.
    #[error("the time to settle is over")]
    TooLate,
    /// The lane is frozen, and the payee doesn't show that it took the voucher in time.
    #[error("the lane is frozen, and the voucher was not taken in time")]
    NotHonoured,
}

impl Settlement {
    /// A lane of which nothing is settled; none where the channel has no such lane.
    #[must_use]
    pub fn open(channel: &Channel, device: DeviceId) -> Option<Self> {
        Some(Self {
            channel: channel.id,
            epoch: channel.epoch,
            device,
            payee_key: channel.payee_key,
            cap: channel.cap(&device)?,
            settle_by: channel.settle_by,
            nonce: 0,
            cumulative: 0,
            credits: 0,
            credited: 0,
            honoured_until: None,
        })
    }

    /// What was paid out, in minor units.
    #[must_use]
    pub const fn paid(&self) -> u64 {
        owed(self.cumulative, self.credited)
    }

    /// Settles up to a voucher and a credit, whoever shows them. What was shown before, or is
    /// included in what was, changes nothing. Of a frozen lane a new voucher needs its
    /// acknowledgement.
    pub fn settle(
        &self,
        voucher: Option<&Signed<Voucher>>,
        credit: Option<&Signed<Credit>>,
        ack: Option<&Signed<VoucherAck>>,
        now: Millis,
    ) -> Result<(Self, Move), SettleError> {
        if now >= self.settle_by {
            return Err(SettleError::TooLate);
        }
        let mut after = self.clone();
        if let Some(voucher) = voucher {
            after.show(voucher, ack)?;
        }
        if let Some(credit) = credit {
            let c = credit.get();
            if !self.ours(c.channel, c.epoch, c.lane) || c.key != self.payee_key {
                return Err(LaneRefusal::Other.into());
            }
            (after.credits, after.credited) =
                follow((self.credits, self.credited), (c.number, c.credited), after.cumulative)?;
        }
        if after.paid() > after.cap {
            return Err(LaneRefusal::OverCap { room: self.cap.saturating_sub(self.paid()) }.into());
        }
        let (before, now) = (self.paid(), after.paid());
        let moved = match now.checked_sub(before) {
            Some(0) => Move::None,
            Some(more) => Move::Pay(more),
            None => Move::Back(before.saturating_sub(now)),
        };
        Ok((after, moved))
    }

    fn show(
        &mut self,
        voucher: &Signed<Voucher>,
        ack: Option<&Signed<VoucherAck>>,
    ) -> Result<(), SettleError> {
        let v = voucher.get();
        if !self.ours(v.channel, v.epoch, v.lane) {
            return Err(LaneRefusal::Other.into());
        }
        let fits = match v.nonce {
            nonce if nonce > self.nonce => v.cumulative > self.cumulative,
            nonce if nonce == self.nonce => v.cumulative == self.cumulative,
            _ => v.cumulative < self.cumulative,
        };
        if !fits {
            return Err(LaneRefusal::Contradiction.into());
        }
        if v.nonce <= self.nonce {
            return Ok(());
        }
        if let Some(until) = self.honoured_until {
            let in_time = ack.is_some_and(|ack| {
                let a = ack.get();
                self.ours(a.channel, a.epoch, a.lane)
                    && a.key == self.payee_key
                    && a.voucher == Voucher::id(voucher)
                    && a.at < until
            });
            if !in_time {
                return Err(SettleError::NotHonoured);
            }
        }
        (self.nonce, self.cumulative) = (v.nonce, v.cumulative);
        Ok(())
    }

    fn ours(&self, channel: ChannelId, epoch: u32, lane: DeviceId) -> bool {
        (channel, epoch, lane) == (self.channel, self.epoch, self.device)
    }

    /// Freezes the lane; of several freezes the earliest holds.
    #[must_use]
    pub fn freeze(&self, honoured_until: Millis) -> Self {
        let until = self.honoured_until.map_or(honoured_until, |held| held.min(honoured_until));
        Self { honoured_until: Some(until), ..self.clone() }
    }
}
