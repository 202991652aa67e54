//! An issuer's money: who owes, in which unit, and which key says so.

use serde::{Deserialize, Serialize};

use super::{Currency, Grant, MAX_EXPONENT, Money, check_version, rule, signed_by};
use crate::card::CardError;
use crate::codec::{DecodeError, Text, Wire};
use crate::ids::{AccountId, AssetId, DeviceId};
use crate::sign::Signed;

/// What an issuer's money is. Its id ([`AssetId`]) is the hash of the signed bytes.
///
/// One device key speaks for it: balances, outcomes, channels and freezes are all signed by
/// it. A node that loses that key has to begin a new asset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asset {
    /// [`super::VERSION`].
    pub version: u8,
    /// The account that owes.
    pub issuer: AccountId,
    /// The issuer's device that signs for it.
    pub key: DeviceId,
    /// The currency, or an own code for points.
    pub currency: Currency,
    /// Decimals: at most [`MAX_EXPONENT`]; what ISO 4217 says, see [`Asset::is_usual`].
    pub exponent: u8,
    /// What the issuer calls it.
    pub name: Text<64>,
}

impl Asset {
    /// Most bytes of a signed asset.
    pub const MAX_SIGNED: usize = Self::MAX_BYTES + Signed::<Self>::OVERHEAD;

    /// The id of a signed asset.
    #[must_use]
    pub const fn id(signed: &Signed<Self>) -> AssetId {
        AssetId(signed.id())
    }

    /// Whether the decimals are the currency's, as far as this build knows. No rule of the
    /// form: the list of currencies changes, and what is signed stays.
    #[must_use]
    pub fn is_usual(&self) -> bool {
        self.currency.decimals().is_none_or(|n| n == self.exponent)
    }

    /// An amount of it, to show.
    #[must_use]
    pub const fn money(&self, minor: u64) -> Money {
        Money { currency: self.currency, exponent: self.exponent, minor }
    }
}

/// An asset whose key is shown to be its issuer's. Made by [`VerifiedAsset::new`] only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedAsset(Signed<Asset>);

impl VerifiedAsset {
    /// Checks that account records grant the asset's key to its issuer.
    pub fn new(asset: Signed<Asset>, grant: &Grant) -> Result<Self, CardError> {
        let a = asset.get();
        if (grant.account, grant.device) != (a.issuer, a.key) {
            return Err(CardError::WrongKey);
        }
        grant.verify()?;
        Ok(Self(asset))
    }

    /// The asset.
    #[must_use]
    pub const fn asset(&self) -> &Signed<Asset> {
        &self.0
    }
}

impl Wire for Asset {
    const NAME: &'static str = "asset";
    const MAX_BYTES: usize = 1 + 32 + 32 + 3 + 1 + (1 + 64);

    fn check(&self) -> Result<(), DecodeError> {
        check_version(Self::NAME, self.version)?;
        rule(Self::NAME, self.exponent <= MAX_EXPONENT, "too many decimals")
    }
}

signed_by! {
    Asset: ASSET, key;
}
