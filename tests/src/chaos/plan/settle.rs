//! The beginning, in good weather: relays, people, their first chats.

use std::collections::{BTreeMap, BTreeSet};

use teahouse_core::command::{Command, Groups, Reply};
use teahouse_protocols::ids::{AccountId, TopicId};

use super::{Person, SECOND, Town};
use crate::world::{Faults, Manners};

impl Town {
    pub(super) fn settle_in(&mut self) {
        let people = 3 + self.below(4);
        let relays = 1 + self.below(2);
        for _ in 0..relays {
            let relay = self.world.add_relay();
            let link = self.world.invite(relay, None);
            self.invites.push(link);
        }
        let names = ["Ann", "Bob", "Cy", "Di", "Eve", "Fay"];
        for name in names.iter().take(people) {
            let device = self.world.add_device();
            let account = self.world.create(device, name);
            for i in 0..relays {
                if i == 0 || self.coin(700) {
                    let link = self.invites[i].clone();
                    self.world.use_relay(device, &link);
                }
            }
            self.people.push(Person {
                name: (*name).to_owned(),
                account,
                devices: vec![device],
                revoked: BTreeSet::new(),
                revoked_at: BTreeMap::new(),
                villain: false,
            });
        }
        if self.profile.villain {
            let i = self.below(people);
            self.people[i].villain = true;
        }
        // Everybody knows the first, who makes a group; others meet later.
        for i in 1..people {
            let (a, b) = (self.people[0].devices[0], self.people[i].devices[0]);
            self.world.befriend(a, b);
        }
        self.world.run(5 * SECOND);
        let members = self.people[1..].iter().map(|p| p.account).collect();
        let _ = self.group(0, "tea", members);
        self.world.run(5 * SECOND);
        let lose = self.pick(&[0, 5, 20, 60]).unwrap_or_default();
        self.world.faults = Faults {
            lose,
            double: 20,
            reorder: 30,
            lose_mail: 10,
            delay: 10 + self.below(200) as u64,
        };
        if self.profile.cheat {
            let relay = self.below(relays);
            let manners = Manners { drop: 30, withhold: 50, repeat: 50, invent: 50 };
            self.world.relays[relay].manners = manners;
        }
    }

    fn group(&mut self, person: usize, title: &str, members: Vec<AccountId>) -> TopicId {
        let device = self.people[person].devices[0];
        let share_history = !self.coin(250);
        let command =
            Command::Groups(Groups::Create { title: title.to_owned(), members, share_history });
        match self.world.ask(device, command) {
            Ok(Reply::Topic { topic }) => {
                if !share_history {
                    self.from_joining.insert(topic);
                }
                topic
            }
            other => panic!("group: {other:?}"),
        }
    }
}
