//! What a shop shows to whoever runs it.

use serde::{Deserialize, Serialize};
use teahouse_protocols::ids::{AccountId, AssetId, ChannelId, Millis, OfferId, OrderId, VoucherId};
use teahouse_protocols::pay::{Asset, Lane, Offer, Voucher};
use teahouse_protocols::sign::Signed;

use super::{MAX_ROWS, limited};
use crate::features::pay::tables::{
    CHANNELS, CHANNELS_OPEN, ISSUED, LANES, Number, OFFERS, ORDER_TIMES, ORDERS, OfferRow,
    OrderState, PRODUCTS, ProductRow, REFUNDS, VOUCHERS, Word,
};
use crate::features::pay::{channels, issuer};
use crate::query::{Names, Query, me};
use crate::store::{KeyRange, KeyReader, Read, ReadExt, StorageError, Table};
use crate::tables::{ACCOUNT_RECORDS, CONTACTS};

/// Money that this device issues.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuedView {
    /// Its id.
    pub asset: AssetId,
    /// The currency.
    pub currency: String,
    /// Decimals.
    pub exponent: u8,
    /// What it is called.
    pub name: String,
}

/// Kinds of money that this device issues.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {}

impl Query for Issued {
    type Out = Vec<IssuedView>;
    const NAME: &'static str = "pay.issued";
    const ABOUT: &'static str = "money that this device issues";
    const READS: &'static [&'static Table] = &[&ISSUED];

    fn run(&self, s: &dyn Read) -> Result<Self::Out, StorageError> {
        let mut out = Vec::new();
        for (key, _) in s.scan(&ISSUED, &KeyRange::all(), false, MAX_ROWS)? {
            let id = AssetId(KeyReader::new(&ISSUED, &key).fixed()?);
            let Some(asset) = issuer::issued(s, id)? else { continue };
            let Asset { currency, exponent, name, .. } = asset.get();
            out.push(IssuedView {
                asset: id,
                currency: currency.to_string(),
                exponent: *exponent,
                name: name.to_string(),
            });
        }
        Ok(out)
    }
}

/// Something for sale.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductView {
    /// Its number.
    pub product: Number,
    /// What it is.
    pub title: String,
    /// To show.
    pub price: String,
    /// Minor units.
    pub minor: u64,
    /// How many are left; none for any number.
    pub stock: Option<u32>,
    /// Whether it is for sale.
    pub open: bool,
}

/// What this device's shop sells.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Products {
    /// Only those after this one: they come by number.
    #[serde(default)]
    pub after: Option<Number>,
}

impl Query for Products {
    type Out = Vec<ProductView>;
    const NAME: &'static str = "pay.products";
    const ABOUT: &'static str = "what this device's shop sells (`after`)";
    const READS: &'static [&'static Table] = &[&PRODUCTS, &ISSUED];

    fn run(&self, s: &dyn Read) -> Result<Self::Out, StorageError> {
        let mut range = KeyRange::all();
        if let Some(after) = self.after {
            range = range.after(&after.0);
        }
        let rows: Vec<(Vec<u8>, ProductRow)> = s.scan_typed(&PRODUCTS, &range, false, MAX_ROWS)?;
        let mut out = Vec::with_capacity(rows.len());
        for (key, row) in rows {
            let Some(asset) = issuer::issued(s, row.asset)? else { continue };
            out.push(ProductView {
                product: Number(KeyReader::new(&PRODUCTS, &key).fixed()?),
                title: row.title,
                price: asset.get().money(row.price).to_string(),
                minor: row.price,
                stock: row.stock,
                open: row.open,
            });
        }
        Ok(out)
    }
}

/// An order that came to this device's shop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderView {
    /// The order, or the voucher that was paid out of a channel.
    pub order: OrderId,
    /// In which money.
    pub asset: AssetId,
    /// When it was answered.
    pub at: Millis,
    /// Who ordered.
    pub payer: AccountId,
    /// What they are called here.
    pub payer_name: String,
    /// Who is paid: this account, or a friend of the payer's.
    pub to: AccountId,
    /// To show.
    pub amount: String,
    /// Lines, each with how many.
    pub lines: Vec<(String, u32)>,
    /// What the payer wrote.
    pub note: String,
    /// Where it stands.
    pub state: OrderState,
    /// Signed evidence, in hexadecimal: the order, this device's word on it, the offer, and
    /// refunds. What both sides hold if they disagree.
    pub evidence: Vec<String>,
}

/// Orders that were carried out at this device, the newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orders {
    /// Only orders answered before this time.
    #[serde(default)]
    pub before: Option<Millis>,
    /// How many, at most [`MAX_ROWS`]; 0 for as many.
    #[serde(default)]
    pub limit: usize,
}

impl Query for Orders {
    type Out = Vec<OrderView>;
    const NAME: &'static str = "pay.orders";
    const ABOUT: &'static str =
        "orders carried out at this device, the newest first (`before`, `limit`)";
    const READS: &'static [&'static Table] = &[
        &ORDERS,
        &ORDER_TIMES,
        &OFFERS,
        &REFUNDS,
        &VOUCHERS,
        &ISSUED,
        &CONTACTS,
        &ACCOUNT_RECORDS,
    ];

    fn run(&self, s: &dyn Read) -> Result<Self::Out, StorageError> {
        if me(s)?.account.is_none() {
            return Ok(Vec::new());
        }
        let mut range = KeyRange::all();
        if let Some(before) = self.before {
            range = range.before(&before.to_be_bytes());
        }
        let mut names = Names::new(s);
        let mut out = Vec::new();
        for (key, _) in s.scan(&ORDER_TIMES, &range, true, limited(self.limit))? {
            let mut reader = KeyReader::new(&ORDER_TIMES, &key);
            reader.u64()?;
            let id = OrderId(reader.fixed()?);
            let Some(row) = issuer::order(s, id)? else {
                out.extend(by_voucher(s, &mut names, id)?);
                continue;
            };
            let order = issuer::stored(id, &row)?;
            let o = order.get();
            let Some(asset) = issuer::issued(s, o.asset)? else { continue };
            let mut evidence = vec![row.order.clone(), row.outcome.clone()];
            let mut lines = Vec::new();
            let mut note = o.memo.to_string();
            if let Some(offer) = row.offer
                && let Some((made, sold)) = offered(s, offer)?
            {
                lines = sold;
                evidence.push(made.offer);
                note = made.note;
            }
            evidence.extend(issuer::refunds(s, id)?);
            out.push(OrderView {
                order: id,
                asset: o.asset,
                at: row.at,
                payer: o.account,
                payer_name: names.of(o.account)?,
                to: o.to,
                amount: asset.get().money(o.amount).to_string(),
                lines,
                note,
                state: row.state,
                evidence: evidence.iter().map(|b| data_encoding::HEXLOWER.encode(b)).collect(),
            });
        }
        Ok(out)
    }
}

/// An offer that was paid, and its lines.
type Sold = (OfferRow, Vec<(String, u32)>);

fn offered(s: &dyn Read, offer: OfferId) -> Result<Option<Sold>, StorageError> {
    let Some(made) = s.get_typed::<OfferRow>(&OFFERS, &offer.0)? else { return Ok(None) };
    let signed = Signed::<Offer>::from_bytes(&made.offer).ok();
    let items = signed.iter().flat_map(|offer| offer.get().items.iter());
    let lines = items.map(|i| (i.title.to_string(), i.quantity)).collect();
    Ok(Some((made, lines)))
}

/// What was paid out of a channel.
fn by_voucher(
    s: &dyn Read,
    names: &mut Names<'_>,
    id: OrderId,
) -> Result<Option<OrderView>, StorageError> {
    let voucher = VoucherId(id.0);
    let Some((_, row)) = channels::taken(s, voucher)? else { return Ok(None) };
    let Word::Taken(ack) = &row.word else { return Ok(None) };
    let damaged = |_| StorageError::corrupt(VOUCHERS.name, "a voucher");
    let signed = Signed::<Voucher>::from_bytes(&row.voucher).map_err(damaged)?;
    let Some(channel) = channels::channel(s, signed.get().channel)? else { return Ok(None) };
    let Some(asset) = issuer::issued(s, channel.asset)? else { return Ok(None) };
    let mut evidence = vec![row.voucher.clone(), ack.clone(), channel.channel.clone()];
    let (mut lines, mut note) = (Vec::new(), String::new());
    if let Some((made, sold)) = offered(s, row.offer)? {
        lines = sold;
        evidence.push(made.offer);
        note = made.note;
    }
    evidence.extend(channels::credits(s, voucher)?);
    Ok(Some(OrderView {
        order: id,
        asset: channel.asset,
        at: row.at,
        payer: channel.payer,
        payer_name: names.of(channel.payer)?,
        to: asset.get().issuer,
        amount: asset.get().money(row.paid.amount).to_string(),
        lines,
        note,
        state: OrderState::Paid { refunded: row.paid.refunded, fulfilled: row.fulfilled },
        evidence: evidence.iter().map(|b| data_encoding::HEXLOWER.encode(b)).collect(),
    }))
}

/// A channel of a customer's that is open at this device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelView {
    /// Its id.
    pub channel: ChannelId,
    /// In which money.
    pub asset: AssetId,
    /// Who pays.
    pub payer: AccountId,
    /// What they are called here.
    pub payer_name: String,
    /// What is set aside, to show.
    pub capacity: String,
    /// What was paid out of it and not given back: what settling brings, to show.
    pub owed: String,
    /// From when.
    pub opened: Millis,
    /// It is settled then by itself.
    pub expires: Millis,
}

/// Channels that are open at this device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channels {
    /// Only those of this customer.
    #[serde(default)]
    pub account: Option<AccountId>,
    /// Only those after this one, which is open.
    #[serde(default)]
    pub after: Option<ChannelId>,
    /// How many, at most [`MAX_ROWS`]; 0 for as many.
    #[serde(default)]
    pub limit: usize,
}

impl Query for Channels {
    type Out = Vec<ChannelView>;
    const NAME: &'static str = "pay.channels";
    const ABOUT: &'static str =
        "customers' channels that are open at this device (`account`, `after`, `limit`)";
    const READS: &'static [&'static Table] =
        &[&CHANNELS, &CHANNELS_OPEN, &LANES, &ISSUED, &CONTACTS, &ACCOUNT_RECORDS];

    fn run(&self, s: &dyn Read) -> Result<Self::Out, StorageError> {
        if me(s)?.account.is_none() {
            return Ok(Vec::new());
        }
        let mut names = Names::new(s);
        let mut out = Vec::new();
        let open = channels::open_channels(s, self.account, self.after, limited(self.limit))?;
        for id in open {
            let Some(row) = channels::channel(s, id)? else { continue };
            let Some(asset) = issuer::issued(s, row.asset)? else { continue };
            let owed: u64 = channels::lanes(s, id)?.iter().map(Lane::owed).sum();
            out.push(ChannelView {
                channel: id,
                asset: row.asset,
                payer: row.payer,
                payer_name: names.of(row.payer)?,
                capacity: asset.get().money(row.capacity).to_string(),
                owed: asset.get().money(owed).to_string(),
                opened: row.opened,
                expires: row.expires,
            });
        }
        Ok(out)
    }
}
