//! A market, in some towns: one device issues money and sells tea, and everybody pays there and
//! sends each other money. It draws from dice of its own, so that what else a seed means stays.

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use teahouse_core::command::Command;
use teahouse_core::pay::Command as Ask;
use teahouse_core::pay::query::{Orders, Payments, Waiting};
use teahouse_core::pay::tables::{IncomingState, Number, OFFERS, OfferRow, PayState};
use teahouse_core::query::Query;
use teahouse_core::store::{KeyRange, ReadExt};
use teahouse_protocols::ids::AssetId;
use teahouse_protocols::pay::frames::OfferState;

use super::{Check, SECOND, Town};
use crate::chaos::plan::replies::Asked;

/// The market.
pub(crate) struct Market {
    rng: ChaCha20Rng,
    stall: usize,
    asset: AssetId,
    posters: Vec<String>,
    /// Products of which there are so many to begin with.
    counted: Vec<(Number, u32)>,
}

impl Market {
    fn below(&mut self, n: usize) -> usize {
        if n == 0 { 0 } else { (self.rng.next_u64() % n as u64) as usize }
    }
}

/// What everybody has to begin with, in minor units.
const PURSE: u64 = 3_000;

impl Town {
    /// Opens the market, in good weather, in more than half of all towns.
    pub(super) fn open_market(&mut self) {
        let mut rng = ChaCha20Rng::seed_from_u64(self.seed ^ 0x3a4_0000);
        if rng.next_u64() % 1000 >= 600 {
            return;
        }
        let stall = self.people[0].devices[0];
        let asset = self.world.issue(stall);
        for i in 1..self.people.len() {
            let account = self.people[i].account;
            self.world.credit(stall, asset, account, PURSE);
        }
        let stocks = [None, Some(20), Some(2)];
        let (mut posters, mut counted) = (Vec::new(), Vec::new());
        for stock in stocks {
            let (product, poster) = self.world.sell(stall, asset, 150, stock);
            posters.push(poster);
            counted.extend(stock.map(|stock| (product, stock)));
        }
        let market = Market { rng, stall, asset, posters, counted };
        // Everybody has bought a few times, and so has a channel.
        for _ in 0..3 {
            for i in 1..self.people.len() {
                let device = self.people[i].devices[0];
                let poster = market.posters[0].clone();
                self.world.buy(device, &poster, Some(150));
            }
            self.world.run(5 * SECOND);
        }
        self.market = Some(market);
    }

    /// Somebody does something with money, now and then.
    pub(super) fn trade(&mut self) {
        let Some(mut market) = self.market.take() else { return };
        if market.below(100) < 30 {
            self.deal(&mut market);
        }
        self.market = Some(market);
    }

    fn deal(&mut self, m: &mut Market) {
        let person = m.below(self.people.len());
        if self.people[person].villain && self.turned {
            return;
        }
        let devices = self.people[person].devices.clone();
        let nth = m.below(devices.len());
        let device = devices[nth];
        if self.world.devices[device].core.is_none() {
            return;
        }
        let up = self.world.devices[m.stall].core.is_some();
        let (what, at, ask) = match m.below(100) {
            0..40 => {
                let nth = m.below(m.posters.len());
                let poster = m.posters[nth].clone();
                let lines = vec![(poster, 1 + m.below(2) as u32)];
                let up_to = (m.below(10) < 7).then_some(300);
                let ask = Ask::Order { lines, note: String::new(), up_to, number: None };
                ("act: order", device, ask)
            }
            40..60 => {
                let all = Payments { before: None, limit: 20 }.run(&self.world.snapshot(device));
                let all = all.expect("reads");
                let offered: Vec<_> = all.iter().filter(|p| p.state == PayState::Offered).collect();
                let Some(one) = offered.get(m.below(offered.len().max(1))) else { return };
                ("act: pay", device, Ask::Pay { payment: one.payment })
            }
            60..75 => {
                let to = self.people[m.below(self.people.len())].account;
                let amount = 1 + m.below(200) as u64;
                let memo = "for the tea".to_owned();
                let ask = Ask::Transfer { asset: m.asset, to, amount, memo, number: None };
                ("act: send money", device, ask)
            }
            75..88 => {
                let all = Waiting {}.run(&self.world.snapshot(device)).expect("reads");
                let Some(one) = all.iter().find(|w| w.state == IncomingState::Waits) else {
                    return;
                };
                let accept = m.below(10) < 7;
                ("act: answer a transfer", device, Ask::Answer { order: one.order, accept })
            }
            88..92 if up => {
                let account = self.people[person].account;
                let amount = 1 + m.below(500) as u64;
                let ask = Ask::Create { asset: m.asset, account, amount, number: None };
                ("act: create value", m.stall, ask)
            }
            92..94 if up => {
                let account = self.people[person].account;
                let account = (m.below(4) > 0).then_some(account);
                ("act: settle channels", m.stall, Ask::Settle { account })
            }
            _ if up => {
                let orders = Orders { before: None, limit: 20 };
                let all = orders.run(&self.world.snapshot(m.stall)).expect("reads");
                if all.is_empty() {
                    return;
                }
                let order = all[m.below(all.len())].order;
                let ask = if m.below(3) == 0 {
                    Ask::Fulfil { order }
                } else {
                    let amount = (m.below(2) == 0).then_some(1 + m.below(200) as u64);
                    Ask::Refund { order, amount, memo: String::new(), number: None }
                };
                ("act: refund or hand over", m.stall, ask)
            }
            _ => return,
        };
        self.tell(what, format!("on {at}"));
        self.ask(at, Command::Pay(ask), Asked::Plain);
    }

    /// Money is right, on every device that is up.
    pub(crate) fn check_trade(&self) -> Check {
        let Some(market) = &self.market else { return Ok(()) };
        self.check_stock(market)?;
        self.world.check_money()
    }

    /// What is promised and what is left make what there was.
    fn check_stock(&self, market: &Market) -> Check {
        if self.world.devices[market.stall].core.is_none() {
            return Ok(());
        }
        let s = self.world.snapshot(market.stall);
        let offers: Vec<(Vec<u8>, OfferRow)> =
            s.scan_typed(&OFFERS, &KeyRange::all(), false, 1 << 16).expect("reads");
        for (product, there_were) in &market.counted {
            let promised: u32 = offers
                .iter()
                .filter(|(_, row)| row.state != OfferState::Expired)
                .flat_map(|(_, row)| &row.lines)
                .filter(|(of, _)| *of == product.0)
                .map(|(_, quantity)| quantity)
                .sum();
            let left = self.world.stock(market.stall, *product).unwrap_or_default();
            if promised.saturating_add(left) != *there_were {
                return Err(format!(
                    "of {there_were} of a product {promised} are promised and {left} left"
                ));
            }
        }
        Ok(())
    }
}
