//! Issuers that this account knows: records that its devices share.

use teahouse_protocols::account::RelayAddr;
use teahouse_protocols::ids::AssetId;
use teahouse_protocols::pay::{Asset, Grant, VerifiedAsset};
use teahouse_protocols::sign::Signed;

use crate::features::contacts;
use crate::features::pay::NAME;
use crate::features::pay::tables::Known;
use crate::store::{Key, KeyRange, Read, ReadExt, StorageError};
use crate::tables::{Chosen, RECORDS, record_key};
use crate::tx::{Effect, Fail, Tx};

/// An issuer that this account knows.
pub(crate) fn known(read: &dyn Read, asset: AssetId) -> Result<Option<Known>, StorageError> {
    let row: Option<Chosen<Vec<u8>>> = read.get_typed(&RECORDS, &record_key(NAME, &asset.0))?;
    Ok(row.and_then(|row| postcard::from_bytes(&row.value).ok()))
}

/// The verified asset of an issuer that this account knows.
pub(crate) fn asset(read: &dyn Read, id: AssetId) -> Result<Option<Signed<Asset>>, StorageError> {
    let Some(known) = known(read, id)? else { return Ok(None) };
    // A record of this account's own devices: verified before it was written.
    Ok(Signed::from_stored(&known.asset, &id.0).ok())
}

/// All of them.
pub(crate) fn all_known(read: &dyn Read) -> Result<Vec<(AssetId, Known)>, StorageError> {
    let prefix = Key::new().text(NAME).into_bytes();
    let rows: Vec<(Vec<u8>, Chosen<Vec<u8>>)> =
        read.scan_typed(&RECORDS, &KeyRange::prefix(&prefix), false, 1_024)?;
    Ok(rows
        .into_iter()
        .filter_map(|(key, row)| {
            let id = AssetId(*key.last_chunk::<32>()?);
            Some((id, postcard::from_bytes(&row.value).ok()?))
        })
        .collect())
}

pub(super) fn learn(
    tx: &mut Tx<'_>,
    asset: Signed<Asset>,
    grant: &Grant,
    relays: Vec<RelayAddr>,
    addrs: Vec<String>,
) -> Result<(), Fail> {
    let asset = VerifiedAsset::new(asset, grant).map_err(Fail::peer)?;
    let asset = asset.asset();
    let id = Asset::id(asset);
    let held = known(tx, id)?;
    let newer = held.as_ref().is_none_or(|k| {
        (!relays.is_empty() && k.relays != relays) || (!addrs.is_empty() && k.addrs != addrs)
    });
    if !newer {
        return Ok(());
    }
    let old = held.map(|k| (k.relays, k.addrs)).unwrap_or_default();
    let value = Known {
        asset: asset.bytes().to_vec(),
        grant: grant.clone(),
        relays: if relays.is_empty() { old.0 } else { relays },
        addrs: if addrs.is_empty() { old.1 } else { addrs },
    };
    let value = postcard::to_stdvec(&value).map_err(Fail::peer)?;
    contacts::put_record(tx, NAME, id.0, value)?;
    tx.out.push(Effect::Peers);
    Ok(())
}
