//! A stall that sells, and customers who pay: what stories about money begin with.

use teahouse_core::pay::Command as Ask;
use teahouse_core::pay::query::Channels;
use teahouse_core::pay::tables::{Number, PayState};
use teahouse_core::query::Query;
use teahouse_protocols::ids::AssetId;
use teahouse_tests::world::World;

pub(crate) const HOUR: u64 = 60 * 60 * 1_000;
pub(crate) const DAY: u64 = 24 * HOUR;

/// A stall (device 0) that issues, and customers with 100.00 each.
pub(crate) fn market(seed: u64, names: &[&str]) -> (World, AssetId, String) {
    let mut w = World::new(seed);
    let stall = w.add_device();
    w.create(stall, "Stall");
    let asset = w.issue(stall);
    for name in names {
        let device = w.add_device();
        let account = w.create(device, name);
        w.credit(stall, asset, account, 10_000);
    }
    w.run(2_000);
    let (_, poster) = w.sell(stall, asset, 350, None);
    (w, asset, poster)
}

/// Runs for a while, and looks at the money after every event.
pub(crate) fn watch(w: &mut World, millis: u64) {
    w.run_watching(millis).unwrap();
}

pub(crate) fn pays(w: &mut World, device: usize, poster: &str) -> Number {
    let payment = w.buy(device, poster, Some(350));
    watch(w, 10_000);
    assert_eq!(state(w, device, payment), PayState::Paid);
    payment
}

pub(crate) fn state(w: &World, device: usize, payment: Number) -> PayState {
    w.payment(device, payment).state
}

/// The stall settles all channels, and everybody hears of it.
pub(crate) fn settle(w: &mut World) {
    // What was asked for and not answered comes in between.
    for wait in [90_000, 30_000] {
        w.money(0, Ask::Settle { account: None }).unwrap();
        watch(w, wait);
    }
    assert!(Channels::default().run(&w.snapshot(0)).unwrap().is_empty());
}
