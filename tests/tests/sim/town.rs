//! The beginning that most stories of mended defects share.

use teahouse_core::command::{Command, Devices, Reply};
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

/// Links a second device to an account; returns it.
pub(crate) fn link(w: &mut World, old: usize) -> usize {
    let new = w.add_device();
    w.run(5_000);
    let Ok(Reply::Code { link: code }) = w.ask(old, Command::Devices(Devices::LinkStart)) else {
        panic!("a code")
    };
    let join = Devices::LinkJoin { code, device_name: "second".into() };
    w.ask(new, Command::Devices(join)).unwrap();
    w.run(2_000);
    w.ask(old, Command::Devices(Devices::LinkConfirm)).unwrap();
    w.run(30_000);
    new
}
