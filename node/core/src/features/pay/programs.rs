//! What Mini Programs have to do with money: offers that their functions make in the shop of
//! this device, and offers that a program shows to be paid.

use rand_core::Rng;
use serde::{Deserialize, Serialize};
use teahouse_protocols::account::RelayAddr;
use teahouse_protocols::codec::Text;
use teahouse_protocols::ids::{AssetId, DeviceId, Millis, OfferId, OrderId};
use teahouse_protocols::lines::one_line;
use teahouse_protocols::pay::{Ask, Asset, Item, MAX_TITLE, Offer};
use teahouse_protocols::sign::Signed;

use super::tables::{BALANCES, Balance, ISSUED, MET_BY, Number, PAYMENTS, PayState, Payment};
use super::{issuer, shop, wallet};
use crate::command::Refusal;
use crate::query::Query;
use crate::store::{KeyRange, Read, ReadExt, StorageError, Table};
use crate::tables::RECORDS;
use crate::tx::{Fail, Tx};
use crate::view::Blob;

/// Longest time that an offer of a function stands, in milliseconds: half an hour.
const MOST: Millis = 30 * 60 * 1000;

fn invalid(why: &str) -> Fail {
    Refusal::Invalid { why: why.into() }.into()
}

/// The money that is meant: the one that was named, or the only one that this device issues;
/// none where it issues none, or several.
pub(crate) fn issued_here(tx: &Tx<'_>, named: Option<AssetId>) -> Result<Option<AssetId>, Fail> {
    if let Some(asset) = named {
        issuer::required(tx, asset)?;
        return Ok(named);
    }
    let all = tx.scan(&ISSUED, &KeyRange::all(), false, 2)?;
    let one = if all.len() == 1 { all.into_iter().next() } else { None };
    Ok(one.and_then(|(key, _)| Some(AssetId(key.try_into().ok()?))))
}

/// Makes an offer to a device, and keeps it. `lines`: title, how many, price of one; `seconds`:
/// how long it stands, 0 for as long as any other.
pub(crate) fn put_up(
    tx: &mut Tx<'_>,
    asset: AssetId,
    device: DeviceId,
    title: &str,
    lines: &[(String, u32, u64)],
    seconds: u32,
) -> Result<(OfferId, Vec<u8>), Fail> {
    let asset = issuer::required(tx, asset)?;
    if !shop::has_room(tx, device)? {
        return Err(invalid("too many offers stand already"));
    }
    let text = |text: &str| -> Result<Text<MAX_TITLE>, Fail> {
        let text = text.trim();
        if text.is_empty() || text.contains(char::is_control) {
            return Err(invalid("a line of an offer has a title"));
        }
        text.try_into().map_err(|_| invalid("a title has at most 120 bytes"))
    };
    let mut items = Vec::new();
    let mut price = 0_u64;
    for (title, quantity, unit) in lines {
        let item = Item { title: text(title)?, quantity: *quantity, unit: *unit };
        let cost = item.price().filter(|_| *quantity > 0);
        let sum = cost.and_then(|cost| price.checked_add(cost));
        price = sum.ok_or_else(|| invalid("a line of an offer counts, and can be counted"))?;
        items.push(item);
    }
    if price == 0 || items.len() > teahouse_protocols::pay::MAX_ITEMS {
        return Err(invalid("an offer has 1 to 64 lines, and a price"));
    }
    let stands = match seconds {
        0 => shop::STANDS,
        n => Millis::from(n).saturating_mul(1_000).min(MOST),
    };
    let terms = shop::Terms { title: text(title)?, price, items, stands };
    shop::put_up(tx, &asset, device, terms, Vec::new(), "")
}

/// Gives back of an order, for a function.
pub(crate) fn give_back(
    tx: &mut Tx<'_>,
    order: OrderId,
    amount: Option<u64>,
    memo: &str,
) -> Result<(), Fail> {
    let mut number = [0; 16];
    tx.rng.fill_bytes(&mut number);
    issuer::refund(tx, order, amount, memo, number)
}

/// The number of the payment that an offer becomes.
fn number(offer: &Signed<Offer>) -> Number {
    let mut number = [0; 16];
    number.copy_from_slice(&Offer::id(offer).0[..16]);
    Number(number)
}

/// An offer that a program shows becomes a payment that waits for the person's word: as if this
/// device had asked for it at a poster. The same offer is the same payment.
pub(crate) fn take(
    tx: &mut Tx<'_>,
    offer: &Signed<Offer>,
    relays: Vec<RelayAddr>,
    addrs: Vec<String>,
) -> Result<Number, Fail> {
    let (o, id) = (offer.get(), number(offer));
    if let Some(known) = wallet::payment(tx, id.0)? {
        let same = known.offer.as_deref() == Some(offer.bytes());
        return if same { Ok(id) } else { Err(invalid("another payment has this number")) };
    }
    if !o.is_for(&tx.me()?.device) {
        return Err(invalid("this offer was made to another device"));
    }
    if !o.stands(tx.now) {
        return Err(invalid("the offer has expired: ask again"));
    }
    if o.payee == tx.account()? {
        return Err(invalid("this is your own shop"));
    }
    let known = wallet::asset(tx, o.asset)?;
    if known.as_ref().is_some_and(|a| !is_of(o, a)) {
        return Err(invalid("this offer is not in the money of who makes it"));
    }
    let row = Payment {
        at: tx.now,
        asset: o.asset,
        issuer: o.key,
        to: o.payee,
        title: o.title.to_string(),
        amount: o.price,
        up_to: None,
        state: PayState::Offered,
        hint: None,
        offer: Some(offer.bytes().to_vec()),
        order: None,
        outcome: None,
        refunds: Vec::new(),
        refunded: 0,
        fulfilled: false,
    };
    wallet::begin(tx, id.0, &row)?;
    if known.is_none() {
        tx.put(&MET_BY, &o.key.0, &(relays, addrs))?;
        wallet::ask(tx, o.key, (wallet::MONEY, o.asset.0), Ask::Money, None)?;
    }
    Ok(id)
}

/// Whether an offer is its asset's issuer's own: paid in the money that who makes it owes.
fn is_of(offer: &Offer, asset: &Signed<Asset>) -> bool {
    let a = asset.get();
    (a.key, a.issuer, Asset::id(asset)) == (offer.key, offer.payee, offer.asset)
}

/// A stranger's words as they may stand beside the host's: on one line, and in one direction.
/// Their length is bounded by the form that they came in.
fn plain(text: &str) -> String {
    one_line(text, usize::MAX)
}

/// An offer as the host shows it to the person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BillView {
    /// The device that signed it.
    pub by: DeviceId,
    /// Who is paid, as known here; nothing while nobody here knows them.
    pub to_name: Option<String>,
    /// What it is.
    pub title: String,
    /// What is to be paid: in the money's own words once it is known here.
    pub amount: Option<String>,
    /// Title, how many, price of one.
    pub lines: Vec<(String, u32, String)>,
    /// Until when it can be paid, exclusive.
    pub expires: Millis,
    /// Whether it was made to this device, in its maker's own money.
    pub sound: bool,
    /// What the balance is, to show.
    pub balance: Option<String>,
    /// The payment that it is or would be.
    pub payment: Number,
    /// Where that stands, once the person was asked.
    pub state: Option<PayState>,
    /// Whether the person agreed already, and it waits for what is set aside.
    #[serde(default)]
    pub agreed: bool,
}

/// What an offer says. Its signature is checked; nothing is asked of anybody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bill {
    /// The signed offer.
    pub offer: Blob,
}

impl Query for Bill {
    type Out = Option<BillView>;
    const NAME: &'static str = "pay.bill";
    const ABOUT: &'static str = "what a signed `offer` says, and what became of it here";
    const READS: &'static [&'static Table] = &[&PAYMENTS, &BALANCES, &RECORDS];

    fn run(&self, s: &dyn Read) -> Result<Self::Out, StorageError> {
        let Ok(offer) = Signed::<Offer>::from_bytes(&self.offer.0) else { return Ok(None) };
        let o = offer.get();
        let asset = wallet::asset(s, o.asset)?;
        let own = crate::query::this_device(s)?;
        let sound = o.is_for(&own) && asset.as_ref().is_none_or(|a| is_of(o, a));
        let money = |minor: u64| asset.as_ref().map(|a| a.get().money(minor).to_string());
        let balance: Option<Balance> = s.get_typed(&BALANCES, &o.asset.0)?;
        let id = number(&offer);
        let taken = wallet::payment(s, id.0)?.filter(|p| p.offer == Some(offer.bytes().to_vec()));
        let line = |i: &Item| {
            (plain(&i.title), i.quantity, money(i.unit).unwrap_or_else(|| i.unit.to_string()))
        };
        Ok(Some(BillView {
            by: o.key,
            to_name: asset.as_ref().map(|a| plain(&a.get().name)),
            title: plain(&o.title),
            amount: money(o.price),
            lines: o.items.iter().map(line).collect(),
            expires: o.expires,
            sound,
            balance: balance.and_then(|b| money(b.tally.balance)),
            payment: id,
            agreed: taken
                .as_ref()
                .is_some_and(|p| p.state == PayState::Offered && p.up_to.is_some()),
            state: taken.map(|p| p.state),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn a_strangers_words_stay_on_their_line() {
        assert_eq!(plain("tea\n\u{202e}free\u{2028}x"), "tea free x");
        assert_eq!(plain("早餐, Straße 3"), "早餐, Straße 3");
    }
}
