//! Receipts: what a payer keeps, and what shows a stranger, offline, who paid whom how much
//! for what.
//!
//! A receipt holds signed bytes only: the asset, the offer if there was one, what the payer
//! signed and what it was answered, and account records that tie each key to its account. The
//! records show that a key was granted; that it had not been revoked by then, they can't. Nor
//! can a receipt show what was given back since, or that the issuer still exists: it is signed
//! evidence of a debt that was paid, not a claim that anybody must honour.

use serde::{Deserialize, Serialize};

use super::{
    Asset, Channel, Money, Offer, Outcome, PaymentOrder, Refusal, VERSION, Verdict, Voucher,
    VoucherAck, check_version,
};
use crate::card::{CardError, verify_grants};
use crate::codec::{Bytes, DecodeError, List, Wire};
use crate::ids::{AccountId, AssetId, DeviceId, Millis};
use crate::sign::{Signed, SignedError};

/// Account records that show a key to be an account's, as in a contact card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The account.
    pub account: AccountId,
    /// Its key.
    pub device: DeviceId,
    /// Genesis, then each record signed by a key granted before.
    pub records: List<Bytes<1024>, 8>,
}

/// What was signed about the payment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Evidence {
    /// A transfer at the issuer.
    Order {
        /// The payer's signed order.
        order: Bytes<{ PaymentOrder::MAX_SIGNED }>,
        /// The issuer's signed outcome.
        outcome: Bytes<{ Outcome::MAX_SIGNED }>,
    },
    /// A voucher in a channel.
    Voucher {
        /// The channel, signed by the issuer.
        channel: Bytes<{ Channel::MAX_SIGNED }>,
        /// The payer's signed voucher.
        voucher: Bytes<{ Voucher::MAX_SIGNED }>,
        /// The payee's signed acknowledgement.
        ack: Bytes<{ VoucherAck::MAX_SIGNED }>,
    },
}

/// A receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// [`super::VERSION`].
    pub version: u8,
    /// The signed asset.
    pub asset: Bytes<{ Asset::MAX_SIGNED }>,
    /// The signed offer that was paid, if there was one.
    pub offer: Option<Bytes<{ Offer::MAX_SIGNED }>>,
    /// What was signed about the payment.
    pub evidence: Evidence,
    /// Of the issuer's key, the payer's device, and the payee's key where an offer or a channel
    /// names one; each once.
    pub grants: List<Grant, 3>,
}

/// What a receipt shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The payment: the order's or the voucher's id. Two receipts of one payment say the same.
    pub payment: [u8; 32],
    /// In whose money.
    pub issuer: AccountId,
    /// Which.
    pub asset: AssetId,
    /// Who paid.
    pub payer: AccountId,
    /// By which device.
    pub device: DeviceId,
    /// Whom.
    pub payee: AccountId,
    /// How much.
    pub amount: Money,
    /// For what: the offer.
    pub offer: Option<Offer>,
    /// For what: the payer's memo; empty for vouchers.
    pub memo: String,
    /// When the payer signed.
    pub made: Millis,
    /// When it was answered.
    pub at: Millis,
}

/// Why a receipt shows nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// A part of it doesn't read, or isn't signed.
    #[error(transparent)]
    Signed(#[from] SignedError),
    /// A key isn't shown to be its account's.
    #[error(transparent)]
    Grant(#[from] CardError),
    /// A key without records.
    #[error("nothing shows whose key this is")]
    NoGrant,
    /// Records of a key that the receipt isn't about.
    #[error("records of a key that the receipt isn't about")]
    Unneeded,
    /// The parts are not about one payment.
    #[error("the parts are not about one payment")]
    Mismatch,
    /// The order names no offer, but there is one; or it does, and there is none.
    #[error("the offer is missing, or of something else")]
    Offer,
    /// What was paid is not the offer's price.
    #[error("what was paid is not the offer's price")]
    Amount,
    /// The order was refused.
    #[error("not paid: {0}")]
    NotPaid(Refusal),
    /// It was held for whoever is paid: whether it was taken, the receipt can't show.
    #[error("held for whoever is paid; this doesn't show that it was taken")]
    Held,
}

type Key = (AccountId, DeviceId);

impl Receipt {
    /// Checks everything, offline.
    pub fn verify(&self) -> Result<Verified, ReceiptError> {
        let asset = Signed::<Asset>::from_bytes(&self.asset)?;
        let offer = match &self.offer {
            Some(bytes) => Some(Signed::<Offer>::from_bytes(bytes)?),
            None => None,
        };
        if offer.as_ref().is_some_and(|o| o.get().asset != Asset::id(&asset)) {
            return Err(ReceiptError::Mismatch);
        }
        let issuer = (asset.get().issuer, asset.get().key);
        let (keys, verified) = match &self.evidence {
            Evidence::Order { order, outcome } => {
                let order = Signed::<PaymentOrder>::from_bytes(order)?;
                let outcome = Signed::<Outcome>::from_bytes(outcome)?;
                by_order(&asset, offer.as_ref(), &order, &outcome)?
            }
            Evidence::Voucher { channel, voucher, ack } => {
                let channel = Signed::<Channel>::from_bytes(channel)?;
                let voucher = Signed::<Voucher>::from_bytes(voucher)?;
                let ack = Signed::<VoucherAck>::from_bytes(ack)?;
                let offer = offer.as_ref().ok_or(ReceiptError::Offer)?;
                by_voucher(&asset, offer, &channel, &voucher, &ack)?
            }
        };
        self.check_grants(core::iter::once(issuer).chain(keys).collect())?;
        Ok(verified)
    }

    /// Each of these keys is shown to be its account's, and no others are.
    fn check_grants(&self, keys: Vec<Key>) -> Result<(), ReceiptError> {
        let mut wanted = keys;
        wanted.sort_unstable();
        wanted.dedup();
        for grant in &self.grants {
            let key = (grant.account, grant.device);
            let at = wanted.iter().position(|k| *k == key).ok_or(ReceiptError::Unneeded)?;
            grant.verify()?;
            wanted.remove(at);
        }
        if wanted.is_empty() { Ok(()) } else { Err(ReceiptError::NoGrant) }
    }
}

fn by_order(
    asset: &Signed<Asset>,
    offer: Option<&Signed<Offer>>,
    order: &Signed<PaymentOrder>,
    outcome: &Signed<Outcome>,
) -> Result<(Vec<Key>, Verified), ReceiptError> {
    let o = order.get();
    if !outcome.get().is_of(order, asset) {
        return Err(ReceiptError::Mismatch);
    }
    match outcome.get().verdict {
        Verdict::Paid { .. } => {}
        Verdict::Refused(why) => return Err(ReceiptError::NotPaid(why)),
        Verdict::Held { .. } => return Err(ReceiptError::Held),
    }
    if o.offer != offer.map(Offer::id) {
        return Err(ReceiptError::Offer);
    }
    let mut keys = vec![(o.account, o.device)];
    if let Some(offer) = offer.map(Signed::get) {
        if offer.payee != o.to || !offer.is_for(&o.device) {
            return Err(ReceiptError::Offer);
        }
        if offer.price != o.amount {
            return Err(ReceiptError::Amount);
        }
        keys.push((offer.payee, offer.key));
    }
    let verified = Verified {
        payment: order.id(),
        issuer: asset.get().issuer,
        asset: Asset::id(asset),
        payer: o.account,
        device: o.device,
        payee: o.to,
        amount: asset.get().money(o.amount),
        offer: offer.map(|offer| offer.get().clone()),
        memo: o.memo.to_string(),
        made: o.made,
        at: outcome.get().at,
    };
    Ok((keys, verified))
}

fn by_voucher(
    asset: &Signed<Asset>,
    offer: &Signed<Offer>,
    channel: &Signed<Channel>,
    voucher: &Signed<Voucher>,
    ack: &Signed<VoucherAck>,
) -> Result<(Vec<Key>, Verified), ReceiptError> {
    let (channel, ack) = (channel.get(), ack.get());
    let v = voucher.get();
    let o = offer.get();
    let one = channel.is_in(asset)
        && v.channel == channel.id
        && (ack.channel, ack.lane) == (channel.id, v.lane)
        && ack.key == channel.payee_key
        && ack.voucher == Voucher::id(voucher)
        && ack.nonce == v.nonce
        && channel.cap(&v.lane).is_some();
    if !one {
        return Err(ReceiptError::Mismatch);
    }
    let offered = v.offer == Offer::id(offer)
        && ack.offer == v.offer
        && o.payee == channel.payee
        && o.key == channel.payee_key
        && o.is_for(&v.lane);
    if !offered {
        return Err(ReceiptError::Offer);
    }
    // What the voucher added is the payee's word; the payer's is that all came to as much.
    if ack.amount != o.price || ack.amount > v.cumulative {
        return Err(ReceiptError::Amount);
    }
    let keys = vec![(channel.payer, v.lane), (channel.payee, channel.payee_key)];
    let verified = Verified {
        payment: voucher.id(),
        issuer: asset.get().issuer,
        asset: Asset::id(asset),
        payer: channel.payer,
        device: v.lane,
        payee: channel.payee,
        amount: asset.get().money(ack.amount),
        offer: Some(o.clone()),
        memo: String::new(),
        made: v.made,
        at: ack.at,
    };
    Ok((keys, verified))
}

impl Receipt {
    /// A receipt of these parts; nothing where a part doesn't fit.
    #[must_use]
    pub fn of_order(
        asset: &Signed<Asset>,
        offer: Option<&Signed<Offer>>,
        order: &Signed<PaymentOrder>,
        outcome: &Signed<Outcome>,
        grants: Vec<Grant>,
    ) -> Option<Self> {
        let evidence = Evidence::Order { order: carried(order)?, outcome: carried(outcome)? };
        Self::of(asset, offer, evidence, grants)
    }

    /// A receipt of these parts; nothing where a part doesn't fit.
    #[must_use]
    pub fn of_voucher(
        asset: &Signed<Asset>,
        offer: &Signed<Offer>,
        channel: &Signed<Channel>,
        voucher: &Signed<Voucher>,
        ack: &Signed<VoucherAck>,
        grants: Vec<Grant>,
    ) -> Option<Self> {
        let evidence = Evidence::Voucher {
            channel: carried(channel)?,
            voucher: carried(voucher)?,
            ack: carried(ack)?,
        };
        Self::of(asset, Some(offer), evidence, grants)
    }

    fn of(
        asset: &Signed<Asset>,
        offer: Option<&Signed<Offer>>,
        evidence: Evidence,
        grants: Vec<Grant>,
    ) -> Option<Self> {
        let offer = match offer {
            Some(offer) => Some(carried(offer)?),
            None => None,
        };
        let grants = grants.try_into().ok()?;
        Some(Self { version: VERSION, asset: carried(asset)?, offer, evidence, grants })
    }
}

fn carried<T, const N: usize>(signed: &Signed<T>) -> Option<Bytes<N>>
where
    T: crate::sign::Signable,
{
    signed.bytes().to_vec().try_into().ok()
}

impl Grant {
    /// Checks that the records lead from the account's genesis to the key.
    pub fn verify(&self) -> Result<(), CardError> {
        let records = self.records.iter().map(|r| &**r);
        verify_grants(&self.account, &self.device, records).map(|_| ())
    }

    /// Upper bound of its encoding, in bytes.
    pub const MAX_BYTES: usize = 32 + 32 + 1 + 8 * (2 + 1024);
}

impl Wire for Receipt {
    const NAME: &'static str = "receipt";
    const MAX_BYTES: usize = 1
        + (2 + Asset::MAX_SIGNED)
        + (1 + 2 + Offer::MAX_SIGNED)
        + (1 + 3 * 2 + Channel::MAX_SIGNED + Voucher::MAX_SIGNED + VoucherAck::MAX_SIGNED)
        + (1 + 3 * Grant::MAX_BYTES);

    fn check(&self) -> Result<(), DecodeError> {
        check_version(Self::NAME, self.version)
    }
}
