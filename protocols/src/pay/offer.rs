//! What is for sale: offers that a payee signs for one order, and products on a poster.

use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};

use super::{
    Asset, Currency, MAX_EXPONENT, MAX_ITEMS, MAX_OFFER_LIFE, MAX_TITLE, Money, begun, check_span,
    check_version, rule, signed_by,
};
use crate::account::RelayAddr;
use crate::card::{CardError, verify_grants};
use crate::codec::{Bytes, DecodeError, List, Text, Wire};
use crate::ids::{AccountId, AssetId, DeviceId, Millis, OfferId};
use crate::sign::Signed;

/// A line of an offer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// What it is.
    pub title: Text<MAX_TITLE>,
    /// How many; at least 1.
    pub quantity: u32,
    /// Price of one, in minor units.
    pub unit: u64,
}

/// "This, at that price, until then." The payee reserves what it offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// [`super::VERSION`].
    pub version: u8,
    /// In which money.
    pub asset: AssetId,
    /// The payee's number for the order.
    pub order: [u8; 16],
    /// Who is paid.
    pub payee: AccountId,
    /// The payee's key; it signs.
    pub key: DeviceId,
    /// What is to be paid, in minor units; at least 1.
    pub price: u64,
    /// What it is.
    pub title: Text<MAX_TITLE>,
    /// The lines, which add up to the price; none where the title says enough.
    pub items: List<Item, MAX_ITEMS>,
    /// When it was made.
    pub made: Millis,
    /// Until when it can be paid, exclusive; at most [`MAX_OFFER_LIFE`] later.
    pub expires: Millis,
    /// For this device only, if any.
    pub for_device: Option<DeviceId>,
}

/// Something for sale, as a poster or a link shows it. Paying begins with asking its payee for
/// an [`Offer`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Product {
    /// [`super::VERSION`].
    pub version: u8,
    /// In which money.
    pub asset: AssetId,
    /// Its currency, so that the price can be shown before the asset is known.
    pub currency: Currency,
    /// Its decimals.
    pub exponent: u8,
    /// Who is paid.
    pub payee: AccountId,
    /// The payee's device; it signs, and it is the one to ask.
    pub key: DeviceId,
    /// The payee's number for the product.
    pub product: [u8; 16],
    /// What it is.
    pub title: Text<MAX_TITLE>,
    /// The price of one at the time, in minor units. The offer says what is to be paid.
    pub price: u64,
    /// Relays by which the device is reached, best first.
    pub relays: List<RelayAddr, 4>,
    /// Its multiaddresses when the poster was made, best first.
    pub addrs: List<Text<160>, 4>,
    /// Account records that show the device to be the payee's, as in a contact card.
    pub proof: List<Bytes<1024>, 8>,
}

/// A product whose signature and proof hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedProduct(Signed<Product>);

impl Item {
    /// What the line costs; nothing where it can't be counted.
    #[must_use]
    pub fn price(&self) -> Option<u64> {
        self.unit.checked_mul(u64::from(self.quantity))
    }
}

impl Offer {
    /// Most bytes of a signed offer.
    pub const MAX_SIGNED: usize = Self::MAX_BYTES + Signed::<Self>::OVERHEAD;

    /// The id of a signed offer.
    #[must_use]
    pub const fn id(signed: &Signed<Self>) -> OfferId {
        OfferId(signed.id())
    }

    /// Whether it can be paid at this time. One that claims to be made later is none yet.
    #[must_use]
    pub const fn stands(&self, now: Millis) -> bool {
        now < self.expires && begun(self.made, now)
    }

    /// Whether this device may pay it.
    #[must_use]
    pub fn is_for(&self, device: &DeviceId) -> bool {
        self.for_device.is_none_or(|d| d == *device)
    }
}

impl Wire for Offer {
    const NAME: &'static str = "offer";
    const MAX_BYTES: usize = 1
        + 32
        + 16
        + 32
        + 32
        + 10
        + (1 + MAX_TITLE)
        + (1 + MAX_ITEMS * (1 + MAX_TITLE + 5 + 10))
        + 10
        + 10
        + 33;

    fn check(&self) -> Result<(), DecodeError> {
        check_version(Self::NAME, self.version)?;
        check_span(Self::NAME, self.made, self.expires, MAX_OFFER_LIFE)?;
        rule(Self::NAME, self.price > 0, "a price of nothing")?;
        let counts = self.items.iter().all(|i| i.quantity > 0);
        rule(Self::NAME, counts, "a line of none")?;
        let lines: Option<Vec<u64>> = self.items.iter().map(Item::price).collect();
        let sum = lines.and_then(super::amount::sum);
        let adds_up = self.items.is_empty() || sum == Some(self.price);
        rule(Self::NAME, adds_up, "the lines don't add up to the price")
    }
}

impl Product {
    /// The price, to show.
    #[must_use]
    pub const fn money(&self) -> Money {
        Money { currency: self.currency, exponent: self.exponent, minor: self.price }
    }

    /// Whether the asset is the one that the product means, and shown as it is.
    #[must_use]
    pub fn is_in(&self, asset: &Signed<Asset>) -> bool {
        let a = asset.get();
        Asset::id(asset) == self.asset && a.currency == self.currency && a.exponent == self.exponent
    }
}

impl Wire for Product {
    const NAME: &'static str = "product";
    // Less than the fields' bounds together, so that every product fits into a link.
    const MAX_BYTES: usize = 4096;

    fn check(&self) -> Result<(), DecodeError> {
        check_version(Self::NAME, self.version)?;
        rule(Self::NAME, self.price > 0, "a price of nothing")?;
        rule(Self::NAME, self.exponent <= MAX_EXPONENT, "too many decimals")
    }
}

impl VerifiedProduct {
    /// Signs a product with the payee's key.
    pub fn sign(product: Product, key: &SigningKey) -> Result<Self, CardError> {
        if key.verifying_key().to_bytes() != product.key.0 {
            return Err(CardError::WrongKey);
        }
        // Reading it back refuses what others would refuse.
        Self::from_bytes(Signed::new(product, key).bytes())
    }

    /// Decodes a product and verifies signature and proof.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CardError> {
        let signed = Signed::<Product>::from_bytes(bytes)?;
        let p = signed.get();
        verify_grants(&p.payee, &p.key, p.proof.iter().map(|bytes| &**bytes))?;
        Ok(Self(signed))
    }

    /// The product.
    #[must_use]
    pub const fn product(&self) -> &Product {
        self.0.get()
    }

    /// The bytes to send.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }
}

signed_by! {
    Offer: OFFER, key;
    Product: PRODUCT, key;
}
