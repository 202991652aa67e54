//! The rules of a channel's lanes, as small states whose every step is a function.
//!
//! Three parties keep three states of one lane: the payee a [`Lane`], the payer's device a
//! [`LaneOut`], the issuer a [`Settlement`]. A step takes the state and what came, and returns
//! the state after, or why not; whoever calls it makes the state durable before anything that
//! follows from it leaves.
//!
//! At payee and payer
//! - the nonce rises by one, each voucher names the one before, and the sums never fall;
//! - `credited ≤ cumulative`, and `cumulative − credited ≤ cap`.
//!
//! The issuer takes the highest sums that it is shown, whatever else was signed, and pays out no
//! more than the cap. Words that contradict each other are evidence
//! ([`super::Contradiction`]); they stop no settlement.
//!
//! A payee gives back only of vouchers that the issuer has counted ([`Lane::shown`]): then
//! nothing that it gave back can become void by a freeze. Where the payee is the issuer, that is
//! at once.

use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};

use super::{
    Asset, CREDIT_TIME, Channel, Credit, CreditReason, Freeze, MAX_ORDER_LIFE, Paid, Refusal,
    Voucher, VoucherAck, VoucherRefusal,
};
use crate::ids::{AccountId, AssetId, ChannelId, DeviceId, Millis, OfferId, VoucherId};
use crate::sign::Signed;

/// The voucher before the first.
const NONE: VoucherId = VoucherId([0; 32]);

/// A lane as the payee keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lane {
    /// The channel.
    pub channel: ChannelId,
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
    /// What the issuer has counted of it, in minor units.
    pub shown: u64,
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
    /// Of another channel, lane or key.
    #[error("of another lane")]
    Other,
    /// A voucher with this nonce was taken before. If it is the same one, its answer is given
    /// again; if not, both together are a [`super::Contradiction`].
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
    /// The issuer has not counted the voucher yet.
    #[error("the issuer has not counted this voucher yet")]
    NotShown,
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
            Self::Unanswered | Self::NotShown => Refusal::Unavailable,
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
    pub fn open(
        channel: &Signed<Channel>,
        asset: &Signed<Asset>,
        device: DeviceId,
    ) -> Option<Self> {
        let (channel, cap) = opened(channel, asset, &device)?;
        Some(Self {
            channel: channel.id,
            device,
            cap,
            until: channel.expires,
            nonce: 0,
            head: NONE,
            cumulative: 0,
            shown: 0,
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
        if (v.channel, v.lane) != (self.channel, self.device) {
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

    /// The issuer has counted so much of the lane, by its signed word or in the same
    /// transaction.
    pub fn shown(&self, cumulative: u64) -> Result<Self, LaneRefusal> {
        if cumulative > self.cumulative {
            return Err(LaneRefusal::Contradiction);
        }
        Ok(Self { shown: self.shown.max(cumulative), ..self.clone() })
    }

    /// Gives back an amount of one voucher: `by` is the lane's sum with that voucher, `paid`
    /// what was paid with it and went back of it. Returns both after.
    pub fn credit(&self, by: u64, paid: &Paid, amount: u64) -> Result<(Self, Paid), LaneRefusal> {
        if by > self.shown {
            return Err(LaneRefusal::NotShown);
        }
        let back = paid.refunded.checked_add(amount).ok_or(LaneRefusal::Overflow)?;
        if amount == 0 || amount > self.owed() || back > paid.amount {
            return Err(LaneRefusal::TooMuchBack);
        }
        let credited = self.credited.checked_add(amount).ok_or(LaneRefusal::Overflow)?;
        Ok((Self { credited, ..self.clone() }, Paid { refunded: back, ..*paid }))
    }

    /// Takes no voucher from now on: its device is frozen. What the issuer doesn't count within
    /// the grace is void.
    pub fn freeze(
        &self,
        freeze: &Signed<Freeze>,
        asset: &Signed<Asset>,
    ) -> Result<Self, LaneRefusal> {
        freeze_holds(freeze, asset, self.device)?;
        Ok(Self { frozen: true, ..self.clone() })
    }

    /// The grace of a freeze is over: only what the issuer has counted was ever paid.
    pub fn void(&self) -> Result<Self, LaneRefusal> {
        if !self.frozen {
            return Err(LaneRefusal::Contradiction);
        }
        Ok(Self { cumulative: self.shown, ..self.clone() })
    }
}

/// A channel and the cap of a device's lane, where the issuer of that money signed it.
fn opened<'a>(
    channel: &'a Signed<Channel>,
    asset: &Signed<Asset>,
    device: &DeviceId,
) -> Option<(&'a Channel, u64)> {
    let channel = channel.get();
    let cap = channel.cap(device)?;
    channel.is_in(asset).then_some((channel, cap))
}

fn freeze_holds(
    freeze: &Signed<Freeze>,
    asset: &Signed<Asset>,
    device: DeviceId,
) -> Result<(), LaneRefusal> {
    let f = freeze.get();
    if (f.asset, f.key, f.lane) != (Asset::id(asset), asset.get().key, device) {
        return Err(LaneRefusal::Other);
    }
    Ok(())
}

/// The voucher that is out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outstanding {
    /// Its signed bytes: what is sent again.
    pub bytes: Vec<u8>,
    /// What it added, in minor units.
    pub amount: u64,
    /// The offer that it pays.
    pub offer: OfferId,
}

/// A lane as the payer's device keeps it. One voucher is out at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneOut {
    /// The channel.
    pub channel: ChannelId,
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
    /// The most that the payee said to have given back, in minor units.
    pub credited: u64,
    /// The last voucher, until it is answered.
    pub unanswered: Option<Outstanding>,
    /// Nothing more is paid in this lane: it is frozen, or the payee refused a voucher for
    /// good. What it came to is settled.
    pub stopped: bool,
}

impl LaneOut {
    /// This device's lane, before its first voucher; none where the channel has no such lane.
    #[must_use]
    pub fn open(
        channel: &Signed<Channel>,
        asset: &Signed<Asset>,
        device: DeviceId,
    ) -> Option<Self> {
        let (channel, cap) = opened(channel, asset, &device)?;
        Some(Self {
            channel: channel.id,
            device,
            payee_key: channel.payee_key,
            cap,
            until: channel.expires,
            nonce: 0,
            head: NONE,
            cumulative: 0,
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
            unanswered: Some(Outstanding { bytes: voucher.bytes().to_vec(), amount, offer }),
            ..self.clone()
        };
        Ok((after, voucher))
    }

    fn ours(&self, channel: ChannelId, lane: DeviceId, key: DeviceId) -> Result<(), LaneRefusal> {
        if (channel, lane, key) != (self.channel, self.device, self.payee_key) {
            return Err(LaneRefusal::Other);
        }
        Ok(())
    }

    /// Whether an answer is about the voucher that is out, and says the same of it: what it
    /// added and what it pays. No: it is about another, and changes nothing.
    fn answers(
        &self,
        voucher: VoucherId,
        nonce: u64,
        said: (u64, OfferId),
    ) -> Result<bool, LaneRefusal> {
        let Some(out) = &self.unanswered else { return Ok(false) };
        if nonce != self.nonce {
            return if nonce < self.nonce { Ok(false) } else { Err(LaneRefusal::Other) };
        }
        if voucher != self.head || said != (out.amount, out.offer) {
            return Err(LaneRefusal::Contradiction);
        }
        Ok(true)
    }

    /// The payee took the last voucher.
    pub fn acked(&self, ack: &Signed<VoucherAck>) -> Result<Self, LaneRefusal> {
        let a = ack.get();
        self.ours(a.channel, a.lane, a.key)?;
        let answered = self.answers(a.voucher, a.nonce, (a.amount, a.offer))?;
        let unanswered = self.unanswered.clone().filter(|_| !answered);
        Ok(Self { unanswered, ..self.clone() })
    }

    /// The payee gave something back; the highest sum counts. Where it refused the last voucher
    /// so, and gave back all of it, that is its answer.
    pub fn credit(&self, credit: &Signed<Credit>) -> Result<Self, LaneRefusal> {
        let c = credit.get();
        self.ours(c.channel, c.lane, c.key)?;
        if c.credited > self.cumulative {
            return Err(LaneRefusal::TooMuchBack);
        }
        let back = c.credited.saturating_sub(self.credited);
        let all = |out: &Outstanding| {
            c.voucher == self.head
                && c.offer == out.offer
                && matches!(c.reason, CreditReason::Refused(_))
                && back >= out.amount
        };
        let unanswered = self.unanswered.clone().filter(|out| !all(out));
        Ok(Self { credited: self.credited.max(c.credited), unanswered, ..self.clone() })
    }

    /// The payee refused a voucher, for good: if it is the one that is out, nothing more is paid
    /// in this lane. (What passes is not signed, and is no answer.)
    pub fn refused(&self, refusal: &Signed<VoucherRefusal>) -> Result<Self, LaneRefusal> {
        let r = refusal.get();
        self.ours(r.channel, r.lane, r.key)?;
        let answered = self.answers(r.voucher, r.nonce, (r.amount, r.offer))?;
        Ok(Self { stopped: self.stopped || answered, ..self.clone() })
    }

    /// Pays nothing more in this lane: its device is frozen.
    pub fn freeze(
        &self,
        freeze: &Signed<Freeze>,
        asset: &Signed<Asset>,
    ) -> Result<Self, LaneRefusal> {
        freeze_holds(freeze, asset, self.device)?;
        Ok(Self { stopped: true, ..self.clone() })
    }
}

/// A lane as the issuer settles it: what was paid out is `cumulative − credited`, at most the
/// cap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settlement {
    /// The channel.
    pub channel: ChannelId,
    /// In which money.
    pub asset: AssetId,
    /// Who pays.
    pub payer: AccountId,
    /// The lane's device.
    pub device: DeviceId,
    /// The payee's key.
    pub payee_key: DeviceId,
    /// The most that may be paid out, in minor units.
    pub cap: u64,
    /// Vouchers count until then, exclusive; credits [`CREDIT_TIME`] longer.
    pub settle_by: Millis,
    /// The highest sum of a voucher shown, in minor units.
    pub cumulative: u64,
    /// The highest sum of a credit shown, in minor units.
    pub credited: u64,
    /// Frozen: only vouchers that are shown before this time count any more.
    pub honoured_until: Option<Millis>,
}

/// What a settlement moves between the channel's account and the payee, in minor units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// Nothing.
    None,
    /// From the channel to the payee.
    Pay(u64),
    /// From the payee back to the channel: credits came that it had not shown.
    Back(u64),
}

/// Why a settlement was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SettleError {
    /// Of another lane, or an acknowledgement of another voucher.
    #[error("of another lane or voucher")]
    Other,
    /// The time to settle is over.
    #[error("the time to settle is over")]
    TooLate,
    /// The device is frozen, and the voucher wasn't shown in time.
    #[error("the device is frozen, and the voucher was not shown in time")]
    NotHonoured,
}

impl Settlement {
    /// A lane of which nothing is settled; none where the channel has no such lane, or isn't in
    /// that money.
    #[must_use]
    pub fn open(
        channel: &Signed<Channel>,
        asset: &Signed<Asset>,
        device: DeviceId,
    ) -> Option<Self> {
        let (channel, cap) = opened(channel, asset, &device)?;
        Some(Self {
            channel: channel.id,
            asset: channel.asset,
            payer: channel.payer,
            device,
            payee_key: channel.payee_key,
            cap,
            settle_by: channel.settle_by,
            cumulative: 0,
            credited: 0,
            honoured_until: None,
        })
    }

    /// What was paid out, in minor units.
    #[must_use]
    pub const fn paid(&self) -> u64 {
        let owed = owed(self.cumulative, self.credited);
        if owed < self.cap { owed } else { self.cap }
    }

    /// Whether nothing can change any more.
    #[must_use]
    pub const fn is_final(&self, now: Millis) -> bool {
        now >= self.settle_by.saturating_add(CREDIT_TIME)
    }

    /// Counts a voucher with its payee's acknowledgement, whoever shows them: without, it may
    /// have been refused. What is less than was shown before changes nothing.
    pub fn taken(
        &self,
        voucher: &Signed<Voucher>,
        ack: &Signed<VoucherAck>,
        now: Millis,
    ) -> Result<(Self, Move), SettleError> {
        let (v, a) = (voucher.get(), ack.get());
        let ours = (v.channel, v.lane) == (self.channel, self.device)
            && (a.channel, a.lane, a.key) == (self.channel, self.device, self.payee_key)
            && (a.voucher, a.nonce, a.offer) == (Voucher::id(voucher), v.nonce, v.offer);
        if !ours {
            return Err(SettleError::Other);
        }
        if v.cumulative > self.cumulative {
            if now >= self.settle_by {
                return Err(SettleError::TooLate);
            }
            if self.honoured_until.is_some_and(|until| now >= until) {
                return Err(SettleError::NotHonoured);
            }
        }
        Ok(self.after(Self { cumulative: self.cumulative.max(v.cumulative), ..self.clone() }))
    }

    /// Counts a credit, whoever shows it.
    pub fn credit(
        &self,
        credit: &Signed<Credit>,
        now: Millis,
    ) -> Result<(Self, Move), SettleError> {
        let c = credit.get();
        if (c.channel, c.lane, c.key) != (self.channel, self.device, self.payee_key) {
            return Err(SettleError::Other);
        }
        if c.credited > self.credited && self.is_final(now) {
            return Err(SettleError::TooLate);
        }
        Ok(self.after(Self { credited: self.credited.max(c.credited), ..self.clone() }))
    }

    const fn after(&self, after: Self) -> (Self, Move) {
        let (before, now) = (self.paid(), after.paid());
        let moved = match now.checked_sub(before) {
            Some(0) => Move::None,
            Some(more) => Move::Pay(more),
            None => Move::Back(before.saturating_sub(now)),
        };
        (after, moved)
    }

    /// Freezes the lane by the issuer's signed word; of several freezes the earliest holds.
    pub fn freeze(
        &self,
        freeze: &Signed<Freeze>,
        asset: &Signed<Asset>,
    ) -> Result<Self, SettleError> {
        let f = freeze.get();
        if Asset::id(asset) != self.asset
            || f.account != self.payer
            || freeze_holds(freeze, asset, self.device).is_err()
        {
            return Err(SettleError::Other);
        }
        let until = self.honoured_until.map_or(f.honoured_until, |held| held.min(f.honoured_until));
        Ok(Self { honoured_until: Some(until), ..self.clone() })
    }
}
