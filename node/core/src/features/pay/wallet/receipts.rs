//! Receipts, kept where all of this account's devices find them.

use teahouse_protocols::codec;
use teahouse_protocols::ids::{AssetId, OrderId};
use teahouse_protocols::pay::{Grant, Receipt};

use super::known::known;
use crate::features::contacts;
use crate::features::pay::RECEIPTS;
use crate::features::pay::service::own_grant;
use crate::store::{Read, ReadExt, StorageError};
use crate::tables::{Chosen, RECORDS, record_key};
use crate::tx::{Fail, Tx};

/// Keeps the receipt that `make` makes of the issuer's grant and this device's, under the id of
/// what was paid by. Where none can be made, what was paid is paid: this device has its parts.
pub(super) fn keep(
    tx: &mut Tx<'_>,
    money: AssetId,
    id: [u8; 32],
    make: impl FnOnce(Vec<Grant>) -> Option<Receipt>,
) -> Result<(), Fail> {
    let Some(known) = known(tx, money)? else { return Ok(()) };
    let own = match own_grant(tx) {
        Ok(own) => own,
        Err(Fail::Storage(e)) => return Err(e.into()),
        // Of a device far down a row of devices that linked each other, it is too long.
        Err(_) => return Ok(()),
    };
    let Some(receipt) = make(vec![known.grant, own]) else { return Ok(()) };
    if receipt.verify().is_err() {
        tx.alarm("A payment's receipt does not hold: keep its evidence.".to_owned())?;
        return Ok(());
    }
    match contacts::put_record(tx, RECEIPTS, id, codec::encode(&receipt)) {
        // Longer than a record may be.
        Err(Fail::Refusal(_)) => Ok(()),
        other => other,
    }
}

/// The receipt of a payment of this account's, by order.
pub(crate) fn receipt(read: &dyn Read, order: OrderId) -> Result<Option<Receipt>, StorageError> {
    let row: Option<Chosen<Vec<u8>>> = read.get_typed(&RECORDS, &record_key(RECEIPTS, &order.0))?;
    Ok(row.and_then(|row| codec::decode(&row.value).ok()))
}
