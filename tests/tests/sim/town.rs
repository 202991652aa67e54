//! The beginning that most stories of mended defects share.

use teahouse_tests::world::World;

/// A world with one relay that everybody named uses.
pub(crate) fn town(seed: u64, names: &[&str]) -> (World, usize, Vec<usize>) {
    let mut w = World::new(seed);
    let relay = w.add_relay();
    let link = w.invite(relay, None);
    let mut devices = Vec::new();
    for name in names {
        let d = w.add_device();
        w.create(d, name);
        w.use_relay(d, &link);
        devices.push(d);
    }
    w.run(5_000);
    (w, relay, devices)
}
