//! A heavy user's day, under virtual time: 500 friends, 100 chats, two relays. What goes over
//! the network, and what is stored, for each byte that people wrote and read.
//!
//! The floor is what people wrote. Bytes are counted where the core meets its network and its
//! database: real cores and relays, a simulated network without losses.

#![allow(clippy::cast_precision_loss, reason = "figures for people")]

mod common;

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use common::{Reach, Report, count, note};
use teahouse_core::command::{Chat, Command, Contacts, Reply};
use teahouse_core::query;
use teahouse_protocols::ids::TopicId;
use teahouse_tests::world::{Traffic, Way, World};

/// One minute, in milliseconds.
const MINUTE: u64 = 60_000;
/// The user is awake from the 7th to the 23rd hour, and the friends as well.
const AWAKE: std::ops::Range<u64> = 7 * 60..23 * 60;
/// In how many of a thousand minutes a friend who is away comes back: twice in three hours.
const COMES: u32 = 11;
/// In how many of a thousand minutes a friend who is there goes: after about a quarter of an
/// hour.
const GOES: u32 = 66;
/// Members of a group beside the user.
const IN_GROUP: usize = 7;

struct Town {
    world: World,
    user: usize,
    friends: Vec<usize>,
    chats: Vec<(TopicId, Vec<usize>)>,
}

fn main() -> Result<()> {
    let mut report = Report::new("traffic");
    let (friends, chats, messages) = (count(500, 30), count(100, 12), count(1_500, 120));
    note("everybody meets");
    let mut town = Town::new(friends)?;
    note("chats begin");
    town.begin(chats)?;
    town.world.run(24 * 60 * MINUTE);
    town.world.devices[town.user].traffic = Some(Traffic::default());
    let stored = town.stored()?;
    note("a day");
    let (mine, theirs) = town.day(messages)?;
    let went = town.world.devices[town.user].traffic.take().context("it was counted")?;

    let content = (mine + theirs) as f64;
    report.figure("friends", friends as f64);
    report.figure("chats", chats as f64);
    report.figure("messages", messages as f64);
    report.figure("floor_content_bytes", content);
    let mut parts = [
        (Way::ToDevices, "to_devices_bytes_per_content_byte", 0.0),
        (Way::FromDevices, "from_devices_bytes_per_content_byte", 0.0),
        (Way::ToRelays, "to_relays_bytes_per_content_byte", 0.0),
        (Way::FromRelays, "from_relays_bytes_per_content_byte", 0.0),
    ];
    for (way, kind, volume) in went.volumes() {
        let bytes = volume.bytes as f64 / content;
        note(&format!("{way:?} {kind}: {} of {bytes:.2} of the content", volume.count));
        for part in parts.iter_mut().filter(|p| p.0 == way) {
            part.2 += bytes;
        }
    }
    for (_, name, value) in parts {
        report.figure(name, value);
    }
    let traffic: f64 = parts.iter().map(|p| p.2).sum();
    let now = town.stored()?;
    let grown: BTreeMap<&String, u64> = now
        .iter()
        .map(|(table, bytes)| {
            (table, bytes.saturating_sub(stored.get(table).copied().unwrap_or(0)))
        })
        .filter(|(_, bytes)| *bytes as f64 > content / 20.0)
        .collect();
    for (table, bytes) in grown {
        note(&format!("stored in {table}: {:.2} of the content", bytes as f64 / content));
    }
    let total = |tables: &BTreeMap<String, u64>| tables.values().sum::<u64>();
    let kept = (total(&now) - total(&stored)) as f64 / content;
    let began = Instant::now();
    let lines = query::chats(&town.world.snapshot(town.user))?.len();
    report.figure("chat_list_lines", lines as f64);
    report.figure("chat_list_ms", began.elapsed().as_secs_f64() * 1e3);
    report.reach("traffic_bytes_per_content_byte", traffic, Reach::AtMost(3.0));
    report.reach("stored_bytes_per_content_byte", kept, Reach::AtMost(3.0));
    report.figure("ratio", traffic);
    report.print();
    Ok(())
}

impl Town {
    /// The user and as many friends, each at one of two relays; the user is at both.
    fn new(friends: usize) -> Result<Self> {
        let mut world = World::new(1);
        let relays = [world.add_relay(), world.add_relay()];
        let user = world.add_device();
        world.create(user, "User");
        for relay in relays {
            let link = world.invite(relay, None);
            world.use_relay(user, &link);
        }
        world.run(10_000);
        let mut town = Self { world, user, friends: Vec::new(), chats: Vec::new() };
        for n in 0..friends {
            let w = &mut town.world;
            let friend = w.add_device();
            w.create(friend, &format!("Friend {n}"));
            let link = w.invite(relays[n % 2], None);
            w.use_relay(friend, &link);
            w.run(1_000);
            let card = w.card(user);
            w.run(2_000);
            w.add(friend, &card).map_err(|e| anyhow::anyhow!("{e}"))?;
            for _ in 0..60 {
                w.run(1_000);
                if !query::requests(&w.snapshot(user))?.is_empty() {
                    break;
                }
            }
            let account = w.account(friend);
            w.ask(user, Command::Contacts(Contacts::Accept { account }))
                .with_context(|| format!("friend {n} did not ask"))?;
            w.run(2_000);
            // A relay gives a member so many tokens a day, and each friend takes some.
            if n % 200 == 199 {
                w.run(24 * 60 * MINUTE);
            }
            // Few are there at once.
            w.set_online(friend, false);
            town.friends.push(friend);
        }
        Ok(town)
    }

    /// Of ten chats three are groups.
    fn begin(&mut self, chats: usize) -> Result<()> {
        for n in 0..chats {
            let first = n * self.friends.len() / chats;
            let (topic, members) = if n % 10 < 7 {
                let friend = self.friends[first];
                let account = self.world.account(friend);
                let s = self.world.snapshot(self.user);
                let all = query::contacts(&s)?;
                let contact = all.into_iter().find(|c| c.account == account);
                (contact.and_then(|c| c.topic).context("a direct chat")?, vec![friend])
            } else {
                let members: Vec<usize> =
                    (0..IN_GROUP).map(|i| self.friends[(first + i) % self.friends.len()]).collect();
                let accounts = members.iter().map(|m| self.world.account(*m)).collect();
                (self.world.group(self.user, &format!("Group {n}"), accounts), members)
            };
            self.chats.push((topic, members));
        }
        // Everybody comes once and hears of it.
        for friend in self.friends.clone() {
            self.world.set_online(friend, true);
        }
        self.world.run(10 * MINUTE);
        for friend in self.friends.clone() {
            self.world.set_online(friend, false);
        }
        self.world.run(MINUTE);
        Ok(())
    }

    /// A day of so many messages; returns how many bytes the user wrote, and was written.
    fn day(&mut self, messages: usize) -> Result<(usize, usize)> {
        let (mut mine, mut theirs, mut number) = (0, 0, 0);
        let minutes = AWAKE.end - AWAKE.start;
        for minute in 0..24 * 60 {
            let awake = AWAKE.contains(&minute);
            if minute == AWAKE.start || minute == AWAKE.end {
                self.world.set_online(self.user, awake);
            }
            for friend in self.friends.clone() {
                let there = self.world.devices[friend].online;
                let turns = if there { GOES } else { COMES };
                if there && !awake || awake && self.world.chance(turns) {
                    self.world.set_online(friend, !there);
                }
            }
            while awake
                && number < messages * (minute + 1 - AWAKE.start) as usize / minutes as usize
            {
                number += 1;
                let chat = self.world.below(self.chats.len() as u64) as usize;
                let (topic, members) = self.chats[chat].clone();
                let text = text(&mut self.world, number);
                let length = text.len();
                // The user writes as much as everybody else in the chat.
                let who = self.world.below(members.len() as u64 + 1) as usize;
                let by = members.get(who).copied().unwrap_or(self.user);
                if !self.world.devices[by].online {
                    self.world.set_online(by, true);
                    self.world.run(2_000);
                }
                let send = Chat::Send { topic, text, reply_to: None, mentions: Vec::new() };
                let reply = self.world.ask(by, Command::Chat(send));
                ensure!(matches!(reply, Ok(Reply::Message { .. })), "not sent: {reply:?}");
                *if by == self.user { &mut mine } else { &mut theirs } += length;
            }
            self.world.run(MINUTE);
        }
        // Everything has come.
        let s = self.world.snapshot(self.user);
        let mut held = 0;
        for (topic, _) in &self.chats {
            held += query::messages(&s, *topic, None, 10_000)?.len();
        }
        ensure!(held == messages, "{held} of {messages} messages are there");
        Ok((mine, theirs))
    }

    /// Bytes of keys and values, table by table.
    fn stored(&self) -> Result<BTreeMap<String, u64>> {
        let core = self.world.devices[self.user].core.as_ref().context("the user is up")?;
        Ok(core.store().stats()?.into_iter().map(|t| (t.name, t.bytes)).collect())
    }
}

/// What people write: 10 to 190 bytes, 100 on the average.
fn text(world: &mut World, number: usize) -> String {
    let length = 10 + world.below(181) as usize;
    let mut text = common::text(number);
    while text.len() < length {
        text.push_str(" and so on");
    }
    text.truncate(length);
    text
}
