//! Money, as people move it in the world; and what must hold of it at any moment.

use std::collections::{BTreeMap, BTreeSet};

use teahouse_core::command::{Command, Refusal, Reply};
use teahouse_core::ledger::{AccountKey, LEDGER_ACCOUNTS, Ledger, StagedLedger, State, TransferId};
use teahouse_core::pay::Command as Ask;
use teahouse_core::pay::query::{Balances, OnePayment, PaymentView, Waiting, WaitingView};
use teahouse_core::pay::tables::{
    BALANCES, Balance, CHANNELS, CHANNELS_OUT, CREDITS, ChannelOut, ChannelRow, ChannelState,
    ENTRIES, EVIDENCE, HOLDER, HOLDINGS, Holding, ISSUED, LANES, Number, ORDERS, OrderRow,
    OrderState, PAYMENT_VOUCHERS, PAYMENTS, PRODUCTS, PayState, Payment, ProductRow, REFUNDS,
    RESERVE, VOUCHER_IDS, VOUCHERS, VoucherOut, VoucherRow, Word,
};
use teahouse_core::query::Query;
use teahouse_core::store::{Key, KeyRange, Read, ReadExt, Snapshot, Stage};
use teahouse_protocols::codec;
use teahouse_protocols::ids::{AccountId, AssetId, ChannelId, DeviceId, OrderId};
use teahouse_protocols::pay::{
    Asset, Channel, Contradiction, Credit, Entry, EntryKind, Kind, Lane, PaymentOrder, Refund,
    StatementHead, Tally, Voucher,
};
use teahouse_protocols::sign::Signed;

use super::World;

impl World {
    /// A command to payments.
    pub fn money(&mut self, device: usize, ask: Ask) -> Result<Reply, Refusal> {
        self.ask(device, Command::Pay(ask))
    }

    /// Begins to issue a money.
    pub fn issue(&mut self, device: usize) -> AssetId {
        let ask = Ask::Open { currency: "EUR".into(), name: "Tea stall".into() };
        match self.money(device, ask) {
            Ok(Reply::Asset { asset }) => asset,
            other => panic!("open: {other:?}"),
        }
    }

    /// Credits an account.
    pub fn credit(&mut self, device: usize, asset: AssetId, account: AccountId, amount: u64) {
        let ask = Ask::Create { asset, account, amount, number: None };
        self.money(device, ask).expect("value is created");
    }

    /// Puts something up for sale; returns its number and poster.
    pub fn sell(
        &mut self,
        device: usize,
        asset: AssetId,
        price: u64,
        stock: Option<u32>,
    ) -> (Number, String) {
        let ask = Ask::Offer { asset, title: "oolong".into(), price, stock };
        match self.money(device, ask) {
            Ok(Reply::Product { product, link }) => (product, link),
            other => panic!("sell: {other:?}"),
        }
    }

    /// Asks for one of what stands on a poster, and pays it if it costs no more.
    pub fn buy(&mut self, device: usize, link: &str, up_to: Option<u64>) -> Number {
        let lines = vec![(link.to_owned(), 1)];
        let ask = Ask::Order { lines, note: "less sugar".into(), up_to, number: None };
        match self.money(device, ask) {
            Ok(Reply::Payment { payment }) => payment,
            other => panic!("order: {other:?}"),
        }
    }

    /// Sends an amount to a friend.
    pub fn send_money(
        &mut self,
        device: usize,
        asset: AssetId,
        to: AccountId,
        amount: u64,
    ) -> Result<Number, Refusal> {
        let memo = "for the tea".into();
        match self.money(device, Ask::Transfer { asset, to, amount, memo, number: None })? {
            Reply::Payment { payment } => Ok(payment),
            other => panic!("transfer: {other:?}"),
        }
    }

    /// A payment of a device's.
    #[must_use]
    pub fn payment(&self, device: usize, payment: Number) -> PaymentView {
        OnePayment { payment }.run(&self.snapshot(device)).expect("reads").expect("a payment")
    }

    /// A device's balance as the issuer signed it, in minor units.
    #[must_use]
    pub fn balance(&self, device: usize, asset: AssetId) -> Option<u64> {
        let all = Balances {}.run(&self.snapshot(device)).expect("reads");
        all.into_iter().find(|b| b.asset == asset).and_then(|b| b.minor)
    }

    /// What waits for a device's account.
    #[must_use]
    pub fn waits(&self, device: usize) -> Vec<WaitingView> {
        Waiting {}.run(&self.snapshot(device)).expect("reads")
    }

    /// How many of a product are left.
    #[must_use]
    pub fn stock(&self, device: usize, product: Number) -> Option<u32> {
        let row: Option<ProductRow> =
            self.snapshot(device).get_typed(&PRODUCTS, &product.0).expect("reads");
        row.and_then(|row| row.stock)
    }

    /// Runs for some virtual time, and looks at the money after every event.
    pub fn run_watching(&mut self, millis: u64) -> Result<(), String> {
        let until = self.now + millis;
        while self.queue.first_key_value().is_some_and(|((t, _), _)| *t <= until) {
            self.next();
            self.check_money()?;
        }
        self.now = self.now.max(until);
        Ok(())
    }

    /// What must hold of money at any moment, on all devices that are up: no money comes from
    /// nowhere or is lost, statements say what the ledger says, each order moved money once, and
    /// what a payer was told is what its issuer has.
    pub fn check_money(&self) -> Result<(), String> {
        for device in 0..self.devices.len() {
            if self.devices[device].core.is_some() {
                let s = self.snapshot(device);
                Self::check_issuer(device, &s)?;
                self.check_wallet(device, &s)?;
            }
        }
        Ok(())
    }

    /// What must hold of an issuer's rows: debits are credits, what was created is what was paid
    /// in, and every statement says what the ledger says.
    pub fn check_issuer(device: usize, s: &Snapshot) -> Result<(), String> {
        for (key, bytes) in s.scan(&ISSUED, &KeyRange::all(), false, 64).expect("reads") {
            let id = AssetId(key.try_into().expect("an id"));
            let asset = Signed::<Asset>::from_bytes(&bytes).expect("an asset");
            let mut stage = Stage::new(s);
            let ledger = StagedLedger::new(&mut stage);
            let totals = ledger.totals(id).expect("sums");
            if !totals.balanced() {
                return Err(format!("debits are not credits at device {device}: {totals:?}"));
            }
            let reserve = AccountKey { asset: id, kind: RESERVE, of: [0; 32] };
            let created = ledger.account(reserve).expect("reads").expect("a reserve");
            if created.credits_posted != 0 {
                return Err(format!("device {device} took value back that it created"));
            }
            let mut held_back = Self::held_back(s, id);
            let mut topped = 0_u128;
            let prefix = KeyRange::prefix(&id.0);
            for (key, held) in rows::<Holding>(s, &HOLDINGS, &prefix) {
                let holder = AccountId(key[32..64].try_into().expect("an id"));
                topped += Self::check_statement(device, s, &asset, holder, &held)?;
                let of = AccountKey { asset: id, kind: HOLDER, of: holder.0 };
                let account = ledger.account(of).expect("reads").expect("a holder");
                let (left, pending) = (account.left_to_debit(), account.debits_pending);
                if held_back.remove(&holder).unwrap_or(0) != pending {
                    return Err(format!(
                        "{pending} is pending at device {device}, and other orders and channels"
                    ));
                }
                if left != u128::from(held.tally.balance)
                    || pending != u128::from(held.tally.pending)
                {
                    return Err(format!(
                        "the statement says {} and {}, the ledger of device {device} {left} and \
                         {pending}",
                        held.tally.balance, held.tally.pending
                    ));
                }
            }
            if held_back.values().any(|n| *n > 0) {
                return Err(format!("device {device} holds what nobody has"));
            }
            if topped != created.debits_posted {
                return Err(format!("{topped} was paid in, {} created", created.debits_posted));
            }
        }
        Self::check_channels(device, s)?;
        Self::check_orders(device, s)
    }

    /// What is held for friends, or reserved in channels, by holder.
    fn held_back(s: &Snapshot, asset: AssetId) -> BTreeMap<AccountId, u128> {
        let mut sums: BTreeMap<AccountId, u128> = BTreeMap::new();
        for (_, row) in rows::<OrderRow>(s, &ORDERS, &KeyRange::all()) {
            let order = Signed::<PaymentOrder>::from_bytes(&row.order).expect("an order");
            let o = order.get();
            if o.asset == asset && row.state == OrderState::Held {
                *sums.entry(o.account).or_default() += u128::from(o.amount);
            }
        }
        for (_, row) in rows::<ChannelRow>(s, &CHANNELS, &KeyRange::all()) {
            if row.asset == asset && row.settled.is_none() {
                *sums.entry(row.payer).or_default() += u128::from(row.capacity);
            }
        }
        sums
    }

    /// Caps within the capacity, which is reserved until it is settled, once; nonces without a
    /// gap; sums that are those of the vouchers and credits; nobody signed two for one place.
    fn check_channels(device: usize, s: &Snapshot) -> Result<(), String> {
        let mut stage = Stage::new(s);
        let ledger = StagedLedger::new(&mut stage);
        for (key, row) in rows::<ChannelRow>(s, &CHANNELS, &KeyRange::all()) {
            let id = ChannelId(key.try_into().expect("an id"));
            let wrong = |what: &str| Err(format!("a channel at device {device}: {what}"));
            let channel = Signed::<Channel>::from_bytes(&row.channel).expect("a channel");
            let caps: u64 = channel.get().lanes.iter().map(|(_, cap)| *cap).sum();
            if caps > row.capacity || channel.get().capacity != row.capacity {
                return wrong("more in its lanes than is reserved");
            }
            let reserve = ledger.record(TransferId::of("channel", &[&id.0])).expect("reads");
            let reserve = reserve.expect("a reserve");
            let ends = match row.settled {
                None => State::Pending { until: None },
                Some((_, 0)) => State::Voided,
                Some((_, paid)) => State::Posted { amount: u128::from(paid) },
            };
            if reserve.amount != u128::from(row.capacity) || reserve.state != ends {
                return wrong("the ledger has it otherwise");
            }
            for (_, lane) in rows::<Lane>(s, &LANES, &KeyRange::prefix(&id.0)) {
                let prefix = Key::new().fixed(&id.0).fixed(&lane.device.0);
                let prefix = KeyRange::prefix(&prefix);
                let (mut nonce, mut sum, mut back) = (0, 0, 0);
                for (_, v) in rows::<VoucherRow>(s, &VOUCHERS, &prefix) {
                    let voucher = Signed::<Voucher>::from_bytes(&v.voucher).expect("a voucher");
                    nonce += 1;
                    sum += v.paid.amount;
                    back += v.paid.refunded;
                    let whole = matches!(v.word, Word::Credited(_)) == (v.paid.left() == 0)
                        || matches!(v.word, Word::Taken(_));
                    if (voucher.get().nonce, voucher.get().cumulative) != (nonce, sum) || !whole {
                        return wrong("its vouchers don't follow each other");
                    }
                }
                let credits = s.scan(&CREDITS, &prefix, true, 1).expect("reads");
                let credited = credits.first().map_or(0, |(_, bytes)| {
                    Signed::<Credit>::from_bytes(bytes).expect("a credit").get().credited
                });
                if (lane.nonce, lane.cumulative) != (nonce, sum)
                    || (lane.credited, lane.credited) != (back, credited)
                    || lane.owed() > lane.cap
                {
                    return wrong("a lane is not what its vouchers and credits come to");
                }
            }
        }
        for (_, bytes) in s.scan(&EVIDENCE, &KeyRange::all(), false, 1_024).expect("reads") {
            let proof: Contradiction = codec::decode(&bytes).expect("a proof");
            if proof.kind == Kind::Vouchers {
                return Err(format!("device {device} has two vouchers for one place in a lane"));
            }
        }
        Ok(())
    }

    /// Returns what was paid in.
    fn check_statement(
        device: usize,
        s: &Snapshot,
        asset: &Signed<Asset>,
        holder: AccountId,
        held: &Holding,
    ) -> Result<u128, String> {
        let prefix = Key::new().fixed(&Asset::id(asset).0).fixed(&holder.0);
        let entries: Vec<Entry> = rows::<Entry>(s, &ENTRIES, &KeyRange::prefix(&prefix))
            .into_iter()
            .map(|(_, entry)| entry)
            .collect();
        let head = Signed::<StatementHead>::from_bytes(&held.head).expect("a signed head");
        Tally::new(asset, holder)
            .follow(&entries, &head)
            .map_err(|e| format!("a statement at device {device}: {e}"))?;
        let mut once = BTreeSet::new();
        let mut left: BTreeMap<Option<[u8; 32]>, u64> = BTreeMap::new();
        for entry in &entries {
            let of = entry.of;
            match entry.kind {
                EntryKind::Paid | EntryKind::Reserved if !once.insert((entry.kind, of)) => {
                    return Err(format!("an order was carried out twice at device {device}"));
                }
                EntryKind::Reserved => {
                    left.insert(of, entry.amount);
                }
                EntryKind::Spent | EntryKind::Released => {
                    let rest = left.get(&of).and_then(|n| n.checked_sub(entry.amount));
                    if rest.is_none() || !once.insert((entry.kind, of)) {
                        return Err(format!("a reserve was resolved twice at device {device}"));
                    }
                    left.insert(of, rest.unwrap_or(0));
                }
                _ => {}
            }
        }
        let topped = entries.iter().filter(|e| e.kind == EntryKind::ToppedUp);
        Ok(topped.map(|e| u128::from(e.amount)).sum())
    }

    fn check_orders(device: usize, s: &Snapshot) -> Result<(), String> {
        for (key, row) in rows::<OrderRow>(s, &ORDERS, &KeyRange::all()) {
            let id = OrderId(key.try_into().expect("an id"));
            let order = Signed::<PaymentOrder>::from_bytes(&row.order).expect("an order");
            let OrderState::Paid { refunded, .. } = row.state else { continue };
            let back: u64 = s
                .scan(&REFUNDS, &KeyRange::prefix(&id.0), false, 1_024)
                .expect("reads")
                .iter()
                .map(|(_, b)| Signed::<Refund>::from_bytes(b).expect("a refund").get().amount)
                .sum();
            if back != refunded || refunded > order.get().amount {
                return Err(format!(
                    "of {} paid at device {device}, {refunded} went back, and {back} was signed",
                    order.get().amount
                ));
            }
        }
        Ok(())
    }

    fn check_wallet(&self, device: usize, s: &Snapshot) -> Result<(), String> {
        for (_, row) in rows::<Payment>(s, &PAYMENTS, &KeyRange::all()) {
            let Some(theirs) = self.issuer_of(row.issuer) else { continue };
            if let (Some(order), Some(outcome)) = (&row.order, &row.outcome) {
                let id = Signed::<PaymentOrder>::from_bytes(order).expect("an order").id();
                let known: Option<OrderRow> = theirs.get_typed(&ORDERS, &id).expect("reads");
                let paid = matches!(
                    row.state,
                    PayState::Paid | PayState::Held { .. } | PayState::Returned
                );
                if paid && known.as_ref().is_none_or(|k| k.outcome != *outcome) {
                    return Err(format!(
                        "device {device} was told that it paid, and its issuer doesn't know"
                    ));
                }
            }
        }
        self.check_lanes(device, s)?;
        for (key, row) in rows::<Balance>(s, &BALANCES, &KeyRange::all()) {
            let Some(theirs) = self.issuer_of(row.tally.key) else { continue };
            let at = Key::new().fixed::<32>(key[..].try_into().expect("an id"));
            let at = at.fixed(&row.tally.holder.0);
            let held: Option<Holding> = theirs.get_typed(&HOLDINGS, &at).expect("reads");
            if held.is_none_or(|h| h.tally.number < row.tally.number) {
                return Err(format!(
                    "device {device} has {} entries of a statement, its issuer fewer",
                    row.tally.number
                ));
            }
        }
        Ok(())
    }

    /// What a payer was told of its vouchers is what the payee has, and no payee has one that
    /// its payer doesn't know of.
    fn check_lanes(&self, device: usize, s: &Snapshot) -> Result<(), String> {
        let own = self.devices[device].id;
        for (key, row) in rows::<ChannelOut>(s, &CHANNELS_OUT, &KeyRange::all()) {
            let Some(theirs) = self.issuer_of(row.issuer) else { continue };
            let Some(lane) = row.lane else { continue };
            let id: [u8; 32] = key.try_into().expect("an id");
            let at = Key::new().fixed(&id).fixed(&own.0);
            let held: Option<Lane> = theirs.get_typed(&LANES, &at).expect("reads");
            let held =
                held.ok_or_else(|| format!("device {device} has a channel that nobody opened"))?;
            let known = lane.nonce - u64::from(lane.unanswered.is_some());
            let behind = held.nonce > lane.nonce && !self.restored.contains(&device);
            if behind || held.nonce < known || held.credited < lane.credited {
                return Err(format!(
                    "device {device} signed {} vouchers of which {known} are answered, its payee \
                     took {}",
                    lane.nonce, held.nonce
                ));
            }
            if row.state == ChannelState::OutOfStep && !self.restored.contains(&device) {
                return Err(format!("device {device} gave a lane up that was in step"));
            }
        }
        for (number, made) in rows::<VoucherOut>(s, &PAYMENT_VOUCHERS, &KeyRange::all()) {
            let row: Option<Payment> = s.get_typed(&PAYMENTS, &number).expect("reads");
            let row = row.expect("a payment");
            let Some(theirs) = self.issuer_of(row.issuer) else { continue };
            let at = theirs.get(&VOUCHER_IDS, &made.id.0).expect("reads");
            let held: Option<VoucherRow> = match at {
                Some(at) => theirs.get_typed(&VOUCHERS, &at).expect("reads"),
                None => None,
            };
            let holds = match &made.word {
                None => row.state != PayState::Paid,
                Some(Word::NotTaken(_)) => held.is_none(),
                word => held.as_ref().map(|h| &h.word) == word.as_ref(),
            };
            if !holds {
                return Err(format!(
                    "device {device} was told something of a voucher that its payee doesn't know"
                ));
            }
        }
        Ok(())
    }

    /// The rows of an issuer's device that is up.
    fn issuer_of(&self, id: DeviceId) -> Option<Snapshot> {
        let at = self.devices.iter().position(|d| d.id == id && d.core.is_some())?;
        Some(self.snapshot(at))
    }

    /// Every holder's balance in the ledger of a device, by account.
    #[must_use]
    pub fn holders(&self, device: usize, asset: AssetId) -> BTreeMap<AccountId, u128> {
        let s = self.snapshot(device);
        let prefix = Key::new().fixed(&asset.0).u16(HOLDER);
        rows::<teahouse_core::ledger::Account>(&s, &LEDGER_ACCOUNTS, &KeyRange::prefix(&prefix))
            .into_iter()
            .map(|(_, account)| (AccountId(account.key.of), account.left_to_debit()))
            .collect()
    }
}

fn rows<T: serde::de::DeserializeOwned>(
    s: &dyn Read,
    table: &'static teahouse_core::store::Table,
    range: &KeyRange,
) -> Vec<(Vec<u8>, T)> {
    s.scan_typed(table, range, false, 1 << 16).expect("reads")
}
