//! After the healing: whether honest devices agree on who they are, what they are in, and what
//! stands there.

use std::collections::{BTreeMap, BTreeSet};

use teahouse_core::query;
use teahouse_core::store::ReadExt;
use teahouse_core::tables::{TOPICS, Topic};
use teahouse_protocols::ids::{DeviceId, TopicId};

use super::removal::strong_removal;
use super::rows::topics_of;
use crate::chaos::plan::{Check, Town, short};
use crate::world::Audience;

impl Town {
    /// Whether honest live replicas agree.
    pub(crate) fn converged(&self) -> Check {
        let live = self.live_devices()?;
        let mut replicas: BTreeMap<TopicId, Vec<(usize, Topic)>> = BTreeMap::new();
        for device in &live {
            let s = self.world.snapshot(*device);
            let account = query::identity(&s).expect("reads").account.expect("an account");
            for (topic, row) in topics_of(&s) {
                let audience = Audience::of(&s, topic);
                // Nothing is fetched from relays for a proposal that awaits its answer.
                let waits = self.profile.by_mail && row.proposed;
                if audience.accounts.contains(&account) && !waits {
                    replicas.entry(topic).or_default().push((*device, row));
                }
            }
        }
        for (topic, held) in &replicas {
            self.agree(*topic, held)?;
            for (device, _) in held {
                strong_removal(&self.world.snapshot(*device), *topic)
                    .map_err(|e| format!("device {device}, {}: {e}", short(*topic)))?;
            }
            self.all_there(*topic, held, &live)?;
        }
        for person in self.people.iter().filter(|p| !p.villain) {
            let mut topics: Option<(usize, BTreeSet<TopicId>)> = None;
            for device in person.devices.iter().filter(|d| live.contains(d)) {
                let s = self.world.snapshot(*device);
                let mine: BTreeSet<TopicId> = topics_of(&s)
                    .into_iter()
                    .filter(|(t, row)| {
                        !row.hidden
                            && !row.proposed
                            && Audience::of(&s, *t).accounts.contains(&person.account)
                    })
                    .map(|(t, _)| t)
                    .collect();
                if let Some((other, theirs)) = &topics
                    && *theirs != mine
                {
                    let differ: Vec<String> = theirs
                        .symmetric_difference(&mine)
                        .map(|t| {
                            let row = |d: usize| {
                                self.world
                                    .snapshot(d)
                                    .get_typed::<Topic>(&TOPICS, &t.0)
                                    .expect("reads")
                            };
                            let shown = |d: usize| {
                                row(d).map(|r| {
                                    (
                                        r.kind,
                                        r.proposed,
                                        r.hidden,
                                        r.created % 10_000_000_000,
                                        self.name(r.peer.unwrap_or(person.account)),
                                    )
                                })
                            };
                            format!("{}: {:?} and {:?}", short(*t), shown(*other), shown(*device))
                        })
                        .collect();
                    return Err(format!(
                        "{}'s devices {other} and {device} are not in the same chats: {differ:?}",
                        person.name
                    ));
                }
                topics.get_or_insert((*device, mine));
            }
        }
        self.moments_there(&live)
    }

    /// Devices of honest people that are in their accounts.
    fn live_devices(&self) -> Result<Vec<usize>, String> {
        let mut live = Vec::new();
        for person in self.people.iter().filter(|p| !p.villain) {
            let mut views: Vec<(usize, BTreeSet<DeviceId>)> = Vec::new();
            for device in &person.devices {
                if !self.up(*device) {
                    return Err(format!("device {device} is down"));
                }
                let s = self.world.snapshot(*device);
                if query::identity(&s).expect("reads").revoked {
                    continue;
                }
                let theirs = query::devices(&s).expect("reads").into_iter().filter(|d| !d.revoked);
                views.push((*device, theirs.map(|d| d.device).collect()));
                live.push(*device);
            }
            if views.windows(2).any(|w| w[0].1 != w[1].1) {
                let said: Vec<String> = views
                    .iter()
                    .map(|(by, all)| {
                        let named = |d: &usize| all.contains(&self.world.devices[*d].id);
                        let all: Vec<usize> = (0..self.world.devices.len()).filter(named).collect();
                        format!("{by} says {all:?}")
                    })
                    .collect();
                return Err(format!(
                    "{}'s devices disagree about who they are: {} (asked to be revoked: {:?})",
                    person.name,
                    said.join(", "),
                    person.revoked
                ));
            }
        }
        Ok(live)
    }
}
