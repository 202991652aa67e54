//! A shop: products, and offers that reserve them.

use std::collections::BTreeMap;

use rand_core::Rng;
use teahouse_protocols::bugs::planted;
use teahouse_protocols::codec::{List, Text};
use teahouse_protocols::ids::{DeviceId, Millis, OfferId};
use teahouse_protocols::pay::frames::OfferState;
use teahouse_protocols::pay::{Asset, Item, Line, MAX_ITEMS, MAX_TITLE, Offer, Refusal, VERSION};
use teahouse_protocols::sign::Signed;

use super::issuer::{Not, issued};
use super::tables::{OFFER_KEYS, OFFER_TIMES, OFFERS, OFFERS_OPEN, OfferRow, PRODUCTS, ProductRow};
use crate::features::functions;
use crate::store::{Key, KeyRange, KeyReader, Read, ReadExt, StorageError};
use crate::tx::{Fail, Tx};

/// How long an offer stands, in milliseconds: a quarter of an hour. It reserves stock.
pub(super) const STANDS: Millis = 15 * 60 * 1000;
/// Most offers that stand for one device.
const MAX_OPEN: usize = 8;
/// Most offers that stand at all: strangers cost nothing.
const MAX_STANDING: usize = 4_096;
/// Most products of a shop.
pub(super) const MAX_PRODUCTS: u64 = 4_096;
/// Most offers that end in one step.
const MAX_ENDED: usize = 256;

/// The offer that answers a request; the same device and nonce are the same request.
pub(super) fn offer(
    tx: &mut Tx<'_>,
    device: DeviceId,
    nonce: [u8; 16],
    lines: &List<Line, MAX_ITEMS>,
    note: &str,
) -> Result<Vec<u8>, Not> {
    let place = Key::new().fixed(&device.0).fixed(&nonce);
    if let Some(id) = tx.get(&OFFER_KEYS, &place)? {
        let row: Option<OfferRow> = tx.typed(&OFFERS, &id)?;
        return row.map(|row| row.offer).ok_or_else(|| Refusal::UnknownOffer.into());
    }
    if !has_room(tx, device)? {
        return Err(Refusal::SlowDown.into());
    }
    let mut asset = None;
    // Nothing is staged before all of it is decided: what is refused reserves nothing.
    let mut reserved: BTreeMap<[u8; 16], ProductRow> = BTreeMap::new();
    let mut items = Vec::new();
    let mut price = 0_u64;
    for line in lines {
        let row = match reserved.get(&line.product) {
            Some(row) => Some(row.clone()),
            None => tx.typed::<ProductRow>(&PRODUCTS, &line.product)?,
        };
        let mut row = row.filter(|p| p.open).ok_or(Refusal::UnknownProduct)?;
        if *asset.get_or_insert(row.asset) != row.asset {
            return Err(Refusal::UnknownAsset.into());
        }
        if let Some(left) = row.stock {
            row.stock = Some(left.checked_sub(line.quantity).ok_or(Refusal::OutOfStock)?);
        }
        let title: Text<MAX_TITLE> = row.title.as_str().try_into().map_err(Fail::peer)?;
        let item = Item { title, quantity: line.quantity, unit: row.price };
        let cost = item.price().ok_or(Refusal::TooLarge)?;
        price = price.checked_add(cost).ok_or(Refusal::TooLarge)?;
        items.push(item);
        reserved.insert(line.product, row);
    }
    let asset = asset.ok_or(Refusal::UnknownProduct)?;
    let signed = issued(tx, asset)?.ok_or(Refusal::UnknownAsset)?;
    let title = match items.as_slice() {
        [one] => one.title.clone(),
        _ => signed.get().name.to_string().try_into().map_err(Fail::peer)?,
    };
    let counted = |row: &ProductRow| row.stock.is_some() && !planted("oversold");
    for (product, row) in reserved.iter().filter(|(_, row)| counted(row)) {
        tx.put(&PRODUCTS, product, row)?;
    }
    let lines = lines.iter().map(|l| (l.product, l.quantity)).collect();
    let terms = Terms { title, price, items, stands: STANDS };
    let (id, offer) = put_up(tx, &signed, device, terms, lines, note)?;
    tx.put_raw(&OFFER_KEYS, &place, id.0.to_vec())?;
    Ok(offer)
}

/// What is offered.
pub(super) struct Terms {
    /// What it is.
    pub(super) title: Text<MAX_TITLE>,
    /// What is to be paid, in minor units.
    pub(super) price: u64,
    /// The lines, which add up to it.
    pub(super) items: Vec<Item>,
    /// How long, in milliseconds.
    pub(super) stands: Millis,
}

/// Whether one more offer can be made to a device.
pub(super) fn has_room(tx: &Tx<'_>, device: DeviceId) -> Result<bool, StorageError> {
    Ok(tx.count(&OFFERS_OPEN, &KeyRange::prefix(&device.0), MAX_OPEN)? < MAX_OPEN
        && tx.count(&OFFER_TIMES, &KeyRange::all(), MAX_STANDING)? < MAX_STANDING)
}

/// Signs an offer and keeps it. The caller saw to it that there is room.
pub(super) fn put_up(
    tx: &mut Tx<'_>,
    asset: &Signed<Asset>,
    device: DeviceId,
    terms: Terms,
    lines: Vec<([u8; 16], u32)>,
    note: &str,
) -> Result<(OfferId, Vec<u8>), Fail> {
    let me = tx.me()?;
    let mut order = [0; 16];
    tx.rng.fill_bytes(&mut order);
    let Terms { title, price, items, stands } = terms;
    let expires = tx.now.saturating_add(stands);
    let offer = Offer {
        version: VERSION,
        asset: Asset::id(asset),
        order,
        payee: asset.get().issuer,
        key: asset.get().key,
        price,
        title,
        items: items.try_into().map_err(Fail::peer)?,
        made: tx.now,
        expires,
        for_device: Some(device),
    };
    let offer = Signed::new(offer, &me.key);
    let id = Offer::id(&offer);
    let bytes = offer.bytes().to_vec();
    let (state, note) = (OfferState::Open, note.to_owned());
    let row = OfferRow { offer: bytes.clone(), device, lines, note, state };
    tx.put(&OFFERS, &id.0, &row)?;
    tx.put_raw(&OFFER_TIMES, &Key::new().u64(expires).fixed(&id.0), Vec::new())?;
    tx.put_raw(&OFFERS_OPEN, &Key::new().fixed(&device.0).fixed(&id.0), Vec::new())?;
    Ok((id, bytes))
}

/// An offer's end, or that it was fulfilled. What expired gives its stock back.
pub(super) fn close(tx: &mut Tx<'_>, id: OfferId, state: OfferState) -> Result<(), Fail> {
    let Some(row) = tx.typed::<OfferRow>(&OFFERS, &id.0)? else { return Ok(()) };
    if row.state == OfferState::Open {
        let damaged = |_| StorageError::corrupt(OFFERS.name, "an offer");
        let offer = Signed::<Offer>::from_stored(&row.offer, &id.0).map_err(damaged)?;
        tx.del(&OFFER_TIMES, &Key::new().u64(offer.get().expires).fixed(&id.0))?;
        tx.del(&OFFERS_OPEN, &Key::new().fixed(&row.device.0).fixed(&id.0))?;
        if state == OfferState::Expired {
            give_back(tx, &row.lines)?;
        }
        functions::closed(tx, id, state, offer.get().price)?;
    }
    Ok(tx.put(&OFFERS, &id.0, &OfferRow { state, ..row })?)
}

fn give_back(tx: &mut Tx<'_>, lines: &[([u8; 16], u32)]) -> Result<(), StorageError> {
    for (product, quantity) in lines {
        let Some(mut row) = tx.typed::<ProductRow>(&PRODUCTS, product)? else { continue };
        if let Some(left) = row.stock {
            row.stock = Some(left.saturating_add(*quantity));
            tx.put(&PRODUCTS, product, &row)?;
        }
    }
    Ok(())
}

/// Ends offers whose time is up.
pub(super) fn expire(tx: &mut Tx<'_>) -> Result<(), Fail> {
    for _ in 0..MAX_ENDED {
        let Some((key, _)) = tx.first(&OFFER_TIMES, b"")? else { break };
        let mut reader = KeyReader::new(&OFFER_TIMES, &key);
        if reader.u64()? > tx.now {
            break;
        }
        close(tx, OfferId(reader.fixed()?), OfferState::Expired)?;
    }
    Ok(())
}
