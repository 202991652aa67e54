//! What a program may ask of whom, and offers that it shows to be paid: only those of its own
//! developer's node, and only if the person lets it show any.

use teahouse_protocols::account::RelayAddr;
use teahouse_protocols::ids::{AppId, DeviceId};
use teahouse_protocols::package::{Manifest, Power};
use teahouse_protocols::pay::Offer;
use teahouse_protocols::sign::Signed;

use crate::command::Refusal;
use crate::features::pay::tables::Number;
use crate::features::{pay, programs};
use crate::store::{Read, StorageError};
use crate::tx::{Fail, Tx};

/// The manifest of a program that may do this.
pub(super) fn allowed(read: &dyn Read, app: AppId, power: Power) -> Result<Signed<Manifest>, Fail> {
    let none = || Refusal::NotFound { what: "program here".into() };
    let no = |why: &str| Refusal::NotAllowed { why: why.into() };
    let manifest = programs::manifest(read, app)?.ok_or_else(none)?;
    if manifest.get().names(power).is_none() {
        return Err(no("the program does not name this power").into());
    }
    if programs::granted(read, app, power)? != Some(true) {
        return Err(no("the program was not allowed this").into());
    }
    Ok(manifest)
}

/// How a device is reached, as the program's links say.
pub(super) fn way(
    read: &dyn Read,
    app: AppId,
    device: DeviceId,
) -> Result<(Vec<RelayAddr>, Vec<String>), StorageError> {
    let known = programs::installed(read, app)?;
    let provider = known.and_then(|k| k.providers.into_iter().find(|p| p.device == device));
    Ok(provider.map_or_else(Default::default, |p| {
        (p.relays.into_inner(), p.addrs.iter().map(|a| a.to_string()).collect())
    }))
}

/// Takes an offer that a program shows: it becomes a payment that waits for the person's word.
/// Nothing is paid by it.
pub(super) fn bill(tx: &mut Tx<'_>, app: AppId, offer: &[u8]) -> Result<Number, Fail> {
    let manifest = allowed(tx, app, Power::Pay)?;
    let invalid = |why: &str| Fail::from(Refusal::Invalid { why: why.into() });
    let offer = Signed::<Offer>::from_bytes(offer).map_err(|_| invalid("this is no offer"))?;
    let cloud = manifest.get().cloud.as_ref();
    if cloud.is_none_or(|c| c.device != offer.get().key) {
        return Err(invalid("this offer is not of the program's own developer"));
    }
    let (relays, addrs) = way(tx, app, offer.get().key)?;
    pay::take(tx, &offer, relays, addrs)
}
