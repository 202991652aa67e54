//! Ten people pay at a shop whose process is killed again and again, on a disk that forgets
//! what was not synced. In the end all books say the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::future::join_all;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use teahouse_core::command::{Command, Devices, Reply};
use teahouse_core::ledger::{
    Account, AccountKey, LEDGER_ACCOUNTS, LEDGER_TRANSFERS, Ledger, Record, StagedLedger,
    TransferId, What,
};
use teahouse_core::pay::Command as Ask;
use teahouse_core::pay::query::{Evidence, OnePayment, Receipts};
use teahouse_core::pay::tables::{
    BALANCES, Balance, CHANNELS, CHANNELS_OUT, ChannelOut, ChannelRow, HOLDER, HOLDINGS, Holding,
    Number, ORDERS, OUT, OrderRow, PAYMENT_VOUCHERS, PAYMENTS, PayState, Payment, RESERVE,
    STATEMENT, TAKINGS, VOUCHERS, VoucherOut, VoucherRow,
};
use teahouse_core::query::{self, Query};
use teahouse_core::store::{
    Key, KeyRange, Read, ReadExt, Snapshot, Stage, Store, StoreOptions, Table,
};
use teahouse_node::{Handle, NetworkConfig, Node as Device, NodeConfig};
use teahouse_protocols::ids::{AccountId, AssetId, OrderId};
use teahouse_protocols::link;
use teahouse_protocols::pay::{Entry, EntryKind, PaymentOrder, Voucher};
use teahouse_protocols::sign::Signed;
use teahouse_tests::world::World;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::process::{Home, Node, text, until, within};

const PAYERS: usize = 10;
const EACH: usize = 200;
const ALL: usize = PAYERS * EACH;
const KILLS: usize = 20;

/// One payer's payments under way: a shop lets so many offers stand for one device.
const IN_FLIGHT: usize = 8;
/// Minor units.
const PRICE: u64 = 350;
/// What each paid in: hardly more than is spent. What channels set aside comes back in time.
const PAID_IN: u64 = EACH as u64 * PRICE + 1_234;

/// For anything here: many times longer than it takes.
const LONG: Duration = Duration::from_mins(8);

/// Payments as one of the books has them: by order, who paid and how much.
type Book = BTreeMap<OrderId, (AccountId, u64)>;

/// What must be the same.
#[derive(Clone, Default)]
struct Books {
    /// What the payers' wallets say is paid.
    wallets: Book,
    /// What receipts show to a stranger.
    receipts: Book,
    /// What the shop's ledger moved, for orders and for the vouchers of its channels.
    ledger: Book,
    /// What each paid, by the statement that it follows: vouchers stand there as a sum.
    statements: BTreeMap<AccountId, u64>,
}

impl Books {
    fn agree(&self) -> Result<(), String> {
        let others = [("receipts", &self.receipts), ("the ledger", &self.ledger)];
        for (name, book) in others {
            let other = |(order, row): (&OrderId, &(AccountId, u64))| {
                let (wallet, there) = (self.wallets.get(order), book.get(order));
                (wallet != Some(row) || there != Some(row))
                    .then(|| format!("{}: wallets {wallet:?}, {name} {there:?}", order.to_hex()))
            };
            let first = self.wallets.iter().chain(book).find_map(other);
            if let Some(first) = first {
                let (wallets, there) = (self.wallets.len(), book.len());
                return Err(format!("wallets {wallets}, {name} {there}; {first}"));
            }
        }
        let mut spent: BTreeMap<AccountId, u64> = BTreeMap::new();
        for (account, amount) in self.wallets.values() {
            *spent.entry(*account).or_default() += amount;
        }
        if spent != self.statements {
            return Err(format!("wallets {spent:?}, the statements {:?}", self.statements));
        }
        Ok(())
    }

    /// The comparison can fail: it does for each payment that is missing, invented, or another
    /// one's in any of the books.
    fn differ_if_harmed(&self) {
        let books: [fn(&mut Self) -> &mut Book; 3] =
            [|b| &mut b.wallets, |b| &mut b.receipts, |b| &mut b.ledger];
        for book in books {
            let mut harmed = self.clone();
            let (order, (account, amount)) = book(&mut harmed).pop_last().expect("payments");
            assert!(harmed.agree().is_err(), "one is missing");
            book(&mut harmed).insert(order, (account, amount + 1));
            assert!(harmed.agree().is_err(), "another amount");
            book(&mut harmed).insert(order, (AccountId([0; 32]), amount));
            assert!(harmed.agree().is_err(), "another payer");
            book(&mut harmed).insert(order, (account, amount));
            harmed.agree().expect("as it was");
            book(&mut harmed).insert(OrderId([0; 32]), (account, amount));
            assert!(harmed.agree().is_err(), "one too many");
        }
        let mut harmed = self.clone();
        *harmed.statements.values_mut().next().expect("a payer") += 1;
        assert!(harmed.agree().is_err(), "a statement of another sum");
    }
}

fn note(book: &mut Book, order: OrderId, account: AccountId, amount: u64) {
    let before = book.insert(order, (account, amount));
    assert_eq!(before, None, "{} twice", order.to_hex());
}

fn rows<T: serde::de::DeserializeOwned>(
    s: &dyn Read,
    table: &'static Table,
    range: &KeyRange,
) -> Vec<(Vec<u8>, T)> {
    s.scan_typed(table, range, false, 1 << 16).expect("reads")
}

/// A payer's node, in this process: it is not what dies.
struct Payer {
    device: Device,
    account: AccountId,
}

impl Payer {
    /// Within a runtime.
    fn start(home: &Home, number: usize) -> Self {
        let data = home.path().join(format!("payer-{number}"));
        let listen = vec!["/ip4/127.0.0.1/udp/0/quic-v1".to_owned()];
        let network = Some(NetworkConfig { listen, mdns: false });
        let config = NodeConfig { data, store: StoreOptions::default(), network };
        let device = Device::start(config).expect("a payer's node starts");
        let name = format!("Payer {number}");
        let create = Devices::Create { name, device_name: "phone".into() };
        let reply = device.handle().submit_blocking(Command::Devices(create));
        reply.expect("an account is made");
        let account = device.handle().status().account;
        Self { account: account.expect("an account"), device }
    }

    fn snapshot(&self) -> Snapshot {
        self.device.handle().snapshot().expect("reads")
    }

    /// Whether it waits for no answer, and knows all that the shop says of its balance.
    fn is_settled(&self, asset: AssetId) -> bool {
        let s = self.snapshot();
        let balance: Option<Balance> = s.get_typed(&BALANCES, &asset.0).expect("reads");
        s.first(&OUT, b"").expect("reads").is_none()
            && balance.is_some_and(|b| b.tally.balance == PAID_IN - EACH as u64 * PRICE)
    }
}

/// Buys as often as it is to, a few at a time; ends when the wallet says that all is paid.
async fn buy(handle: Handle, poster: String, paid: Arc<AtomicUsize>) {
    let mut changes = handle.changes();
    let (mut begun, mut open) = (0, BTreeSet::<Number>::new());
    loop {
        let more = (EACH - begun).min(IN_FLIGHT - open.len());
        begun += more;
        let asked = (0..more).map(|_| {
            let lines = vec![(poster.clone(), 1)];
            let ask = Ask::Order { lines, note: String::new(), up_to: Some(PRICE), number: None };
            handle.submit(Command::Pay(ask))
        });
        for reply in join_all(asked.collect::<Vec<_>>()).await {
            let Ok(Reply::Payment { payment }) = reply else { panic!("order: {reply:?}") };
            open.insert(payment);
        }
        if open.is_empty() {
            return;
        }
        // What was missed is seen a moment later.
        let _ = timeout(Duration::from_secs(1), changes.next()).await;
        let s = handle.snapshot().expect("reads");
        open.retain(|payment| {
            let seen = OnePayment { payment: *payment }.run(&s).expect("reads").expect("begun");
            match seen.state {
                PayState::Paid => paid.fetch_add(1, Ordering::Relaxed),
                PayState::Asked | PayState::Offered | PayState::Sent => return true,
                other => panic!("{other:?}: {}", seen.words),
            };
            false
        });
    }
}

/// The poster of something for sale, once the shop knows where it is reached.
fn poster(shop: &Node) -> String {
    shop.json(&["merchant", "product", "add", "oolong", "3.50"]);
    until("the poster names an address", || {
        let link = text(&shop.json(&["merchant", "product", "poster", "oolong"]), "/link");
        let poster = link::parse_order(&link).expect("a poster");
        (!poster.product().addrs.is_empty()).then_some(link)
    })
}

/// What the payers have.
fn of_payers(payers: &[Payer], asset: AssetId, shop: AccountId, books: &mut Books) {
    for payer in payers {
        let s = payer.snapshot();
        for (number, row) in rows::<Payment>(&s, &PAYMENTS, &KeyRange::all()) {
            assert_eq!(row.state, PayState::Paid, "nothing is left open: {row:?}");
            let voucher: Option<VoucherOut> =
                s.get_typed(&PAYMENT_VOUCHERS, &number).expect("reads");
            // A voucher that was not taken is followed by an order for the same.
            let order = match (row.order, voucher) {
                (Some(order), _) => PaymentOrder::id(&Signed::from_bytes(&order).expect("one")),
                (None, voucher) => OrderId(voucher.expect("it was signed").id.0),
            };
            note(&mut books.wallets, order, payer.account, row.amount);
        }
        let mut after = None;
        loop {
            let page = Receipts { order: None, after, limit: 0 }.run(&s).expect("reads");
            let Some(last) = page.last() else { break };
            after = Some(last.order);
            for receipt in page {
                // Of the text alone, as anybody would.
                let receipt = link::parse_receipt(&receipt.text).expect("a receipt");
                let seen = receipt.verify().expect("a receipt shows something");
                assert_eq!((seen.asset, seen.issuer, seen.payee), (asset, shop, shop));
                note(&mut books.receipts, OrderId(seen.payment), seen.payer, seen.amount.minor);
            }
        }
        for (_, entry) in rows::<Entry>(&s, &STATEMENT, &KeyRange::prefix(&asset.0)) {
            if matches!(entry.kind, EntryKind::Paid | EntryKind::Spent) {
                *books.statements.entry(payer.account).or_default() += entry.amount;
            }
        }
        assert!(Evidence {}.run(&s).expect("reads").is_empty(), "nobody cheats here");
        assert_eq!(query::alarms(&s).expect("reads"), []);
    }
}

/// What the shop has: its ledger's sales, by order, and by voucher those that were settled.
fn of_shop(s: &Snapshot, books: &mut Books) {
    let orders: BTreeMap<TransferId, OrderId> = rows::<OrderRow>(s, &ORDERS, &KeyRange::all())
        .into_iter()
        .map(|(key, _)| OrderId(key.try_into().expect("an id")))
        .map(|order| (TransferId::of("paid", &[&order.0]), order))
        .collect();
    for (_, record) in rows::<Record>(s, &LEDGER_TRANSFERS, &KeyRange::all()) {
        let What::Move(moved) = record.transfer.what else { continue };
        if moved.debit.kind == RESERVE {
            continue;
        }
        assert_eq!((moved.debit.kind, moved.credit.kind), (HOLDER, TAKINGS), "{record:?}");
        let order = orders.get(&record.transfer.id).expect("money moves for an order");
        let amount = u64::try_from(record.amount).expect("an order's amount");
        note(&mut books.ledger, *order, AccountId(moved.debit.of), amount);
    }
    for (key, channel) in rows::<ChannelRow>(s, &CHANNELS, &KeyRange::all()) {
        // That the ledger moved just this is asserted by `check_issuer`.
        let (_, settled) = channel.settled.expect("all channels are settled");
        let mut sum = 0;
        for (_, row) in rows::<VoucherRow>(s, &VOUCHERS, &KeyRange::prefix(&key)) {
            let voucher = Signed::<Voucher>::from_bytes(&row.voucher).expect("a voucher");
            assert_eq!(row.paid.refunded, 0, "nothing is given back here");
            sum += row.paid.amount;
            let id = OrderId(voucher.id());
            note(&mut books.ledger, id, channel.payer, row.paid.amount);
        }
        assert_eq!(sum, settled, "a channel is settled at the sum of its vouchers");
    }
}

/// Created value is what is in balances and what was sold; payers hold the shop's statements.
fn conserved(s: &Snapshot, asset: AssetId, payers: &[Payer]) {
    World::check_issuer(0, s).expect("the shop's books hold");
    let mut stage = Stage::new(s);
    let ledger = StagedLedger::new(&mut stage);
    let account = |kind| {
        let key = AccountKey { asset, kind, of: [0; 32] };
        ledger.account(key).expect("reads").expect("there")
    };
    let created = account(RESERVE).debits_posted;
    let sold = account(TAKINGS).credits_posted - account(TAKINGS).debits_posted;
    let prefix = Key::new().fixed(&asset.0).u16(HOLDER);
    let holders = rows::<Account>(s, &LEDGER_ACCOUNTS, &KeyRange::prefix(&prefix));
    let held: u128 = holders.iter().map(|(_, account)| account.left_to_debit()).sum();
    assert_eq!(created, u128::from(PAID_IN) * PAYERS as u128);
    assert_eq!(sold, u128::from(PRICE) * ALL as u128);
    assert_eq!(held + sold, created);
    for payer in payers {
        let at = Key::new().fixed(&asset.0).fixed(&payer.account.0);
        let there: Holding = s.get_typed(&HOLDINGS, &at).expect("reads").expect("a holder");
        let here: Option<Balance> = payer.snapshot().get_typed(&BALANCES, &asset.0).expect("reads");
        let here = here.expect("a balance");
        assert_eq!((here.tally, here.head), (there.tally, there.head), "one statement");
    }
}

/// How many channels a payer has.
fn channels_of(s: &Snapshot) -> usize {
    rows::<ChannelOut>(s, &CHANNELS_OUT, &KeyRange::all()).len()
}

/// A shop's process, and how often it was killed.
struct Shop {
    node: Node,
    killed: usize,
}

impl Shop {
    fn kill(&mut self) {
        if let Some(status) = self.node.ended() {
            panic!("it ended by itself: {status}; see {}", self.node.log.display());
        }
        self.node.kill();
        self.killed += 1;
    }

    /// Killed after so many payments each time, in the middle of the next ones; each fifth time
    /// while it is still starting.
    fn comes_and_goes(&mut self, rng: &mut ChaCha20Rng, paid: &AtomicUsize) {
        let mut below = |n: u64| Duration::from_millis(rng.next_u64() % n);
        for kill in 1..=KILLS {
            if kill % 5 == 0 {
                thread::sleep(below(400));
            } else {
                let share = ALL * kill / (KILLS + 2);
                within(LONG, "payments go on", || {
                    (paid.load(Ordering::Relaxed) >= share).then_some(())
                });
                thread::sleep(below(30));
            }
            self.kill();
            thread::sleep(below(200));
            self.node.start();
        }
    }
}

/// `TEAHOUSE_NET_SEED` repeats the choices of a run (not its timing).
#[test]
fn paid_while_the_shop_is_killed_twenty_times() {
    let seed = std::env::var("TEAHOUSE_NET_SEED").ok().and_then(|s| s.parse().ok());
    let seed = seed.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        now.as_secs() ^ u64::from(now.subsec_nanos())
    });
    println!("TEAHOUSE_NET_SEED={seed}");
    let mut rng = ChaCha20Rng::seed_from_u64(seed);

    let home = Home::new();
    let mut node = Node::merchant(&home, "shop").lossy().with_account("Shop");
    node.up();
    let asset = node.json(&["merchant", "open", "--currency", "EUR", "--name", "Old Street Tea"]);
    let asset = AssetId::from_hex(&text(&asset, "/asset")).expect("an id");
    let runtime = Runtime::new().expect("a runtime");
    let payers: Vec<Payer> = {
        let _within = runtime.enter();
        (1..=PAYERS).map(|number| Payer::start(&home, number)).collect()
    };
    for payer in &payers {
        let (account, amount) = (payer.account, PAID_IN);
        let create = Ask::Create { asset, account, amount, number: None };
        node.client().command(&Command::Pay(create)).expect("value is created");
    }
    let poster = poster(&node);
    let account = link::parse_order(&poster).expect("a poster").product().payee;

    let mut shop = Shop { node, killed: 0 };
    let (began, paid) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
    let buyers: Vec<_> = payers
        .iter()
        .map(|payer| {
            let handle = payer.device.handle().clone();
            runtime.spawn(buy(handle, poster.clone(), Arc::clone(&paid)))
        })
        .collect();
    shop.comes_and_goes(&mut rng, &paid);
    let last = paid.load(Ordering::Relaxed);
    assert!(last < ALL, "it was killed in the middle");
    shop.node.answers();
    runtime.block_on(async {
        for buyer in buyers {
            let bought = timeout(LONG, buyer).await.expect("all is paid in the end");
            bought.expect("a buyer does not panic");
        }
    });
    let under_load = began.elapsed();
    let channels = payers.iter().map(|p| channels_of(&p.snapshot())).sum::<usize>();
    assert!(channels >= PAYERS, "regular customers have channels");
    shop.node.json(&["merchant", "settle", "--all"]);
    within(LONG, "every wallet hears the last of it", || {
        payers.iter().all(|p| p.is_settled(asset)).then_some(())
    });

    // Not what a process says, but what is on its disk.
    shop.node.stop();
    let store = Store::open(&shop.node.dir, StoreOptions::default()).expect("the shop's books");
    let s = store.snapshot().expect("reads");
    let mut books = Books::default();
    of_payers(&payers, asset, account, &mut books);
    of_shop(&s, &mut books);
    assert_eq!(books.wallets.len(), ALL);
    books.agree().expect("all books say the same");
    books.differ_if_harmed();
    conserved(&s, asset, &payers);
    println!(
        "{ALL} payments by {PAYERS} payers, {channels} channels, in {:.1} s, {} kills; {last} were \
         paid at the last one",
        under_load.as_secs_f64(),
        shop.killed,
    );
    assert_eq!(shop.killed, KILLS);
    thread::scope(|scope| {
        for payer in payers {
            scope.spawn(move || payer.device.shutdown());
        }
    });
}
