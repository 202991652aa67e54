//! Linking a new device: it takes both devices and several events.

use teahouse_core::command::{Command, Devices};
use teahouse_core::{query, view};

use super::Town;
use super::replies::Asked;

pub(super) struct Linking {
    old: usize,
    new: usize,
    since: u64,
    confirmed: bool,
}

impl Town {
    pub(super) fn link(&mut self, person: usize, device: usize) {
        let active = self.people[person].devices.len() - self.people[person].revoked.len();
        if self.linking.is_some()
            || active > 1
            || self.world.devices.len() > 12
            || self.people[person].revoked.contains(&device)
        {
            return;
        }
        let new = self.world.add_device();
        self.tell("act: link a device", format!("{new} to {device}"));
        self.linking = Some(Linking { old: device, new, since: self.event, confirmed: false });
        self.ask(device, Command::Devices(Devices::LinkStart), Asked::LinkStart { new });
    }

    pub(super) fn go_on_linking(&mut self) {
        let Some(Linking { old, new, since, confirmed }) = self.linking else { return };
        let up = self.world.devices[old].core.is_some() && self.world.devices[new].core.is_some();
        if up {
            let id = query::identity(&self.world.snapshot(new)).expect("reads");
            if let Some(account) = id.account {
                self.tell("act: a device is linked", new);
                if let Some(p) = self.people.iter_mut().find(|p| p.account == account) {
                    p.devices.push(new);
                }
                self.linking = None;
                return;
            }
            let shown = query::linking(&self.world.snapshot(old)).expect("reads");
            if !confirmed && matches!(shown, view::Linking::Compare { .. }) {
                self.linking = Some(Linking { old, new, since, confirmed: true });
                self.ask(old, Command::Devices(Devices::LinkConfirm), Asked::Plain);
            }
        }
        if self.event > since + 60 {
            self.linking = None;
            if up && self.coin(500) {
                self.ask(old, Command::Devices(Devices::LinkCancel), Asked::Plain);
            }
        }
    }
}
