//! What people do: one action of one person, drawn with its weight.

use teahouse_core::command::{Chat, Command, Contacts, Devices, Groups, Relays};
use teahouse_core::{query, view};
use teahouse_protocols::ids::AccountId;
use teahouse_protocols::membership::Role;

use super::replies::Asked;
use super::{Town, name_of, short};
use crate::chaos::truth::numbers_in;
use crate::world::Audience;

/// How many of a thousand actions are in Moments.
const MOMENTS: u64 = 120;

impl Town {
    #[allow(clippy::too_many_lines)]
    pub(super) fn act(&mut self) {
        if self.turned && self.coin(120) {
            self.attack();
            return;
        }
        if self.coin(30) {
            self.pry();
        }
        if self.coin(30) {
            self.intrude();
        }
        let Some((person, device)) = self.actor() else { return };
        let name = self.people[person].name.clone();
        let who = format!("{name} on {device}");
        if self.coin(MOMENTS) {
            self.moment(person, device);
            return;
        }
        match self.below(1000) {
            0..560 => {
                let Some(chat) = self.chat_of(device, false) else { return };
                let burst = if self.coin(60) { 2 + self.below(12) } else { 1 };
                for _ in 0..burst {
                    let (number, text) = self.text();
                    let reply_to = if self.coin(150) {
                        self.message_in(device, chat.topic).map(|m| m.0)
                    } else {
                        None
                    };
                    let mentions =
                        if self.coin(50) { vec![self.people[0].account] } else { vec![] };
                    let command = Chat::Send { topic: chat.topic, text, reply_to, mentions };
                    self.tell(
                        "act: send",
                        format!("{who} to {} number {number}", short(chat.topic)),
                    );
                    self.ask(device, Command::Chat(command), Asked::Say { number, forward: false });
                }
            }
            560..640 => {
                let Some(chat) = self.chat_of(device, false) else { return };
                let Some((id, _)) = self.message_in(device, chat.topic) else { return };
                let emoji = self.pick(&["🍵", "👍", "❤"]).unwrap_or("👍").to_owned();
                let on = self.coin(700);
                self.tell("act: react", format!("{who} {emoji} {on} on {}", name_of(id)));
                let command = Chat::React { topic: chat.topic, message: id, emoji, on };
                self.ask(device, Command::Chat(command), Asked::Plain);
            }
            640..680 => {
                let Some(chat) = self.chat_of(device, false) else { return };
                let Some((id, _)) = self.message_in(device, chat.topic) else { return };
                self.tell("act: recall", format!("{who} {}", name_of(id)));
                self.recalled.insert(id);
                let command = Chat::Recall { topic: chat.topic, message: id };
                self.ask(device, Command::Chat(command), Asked::Plain);
            }
            680..700 => {
                let Some(from) = self.chat_of(device, false) else { return };
                let Some(to) = self.chat_of(device, false) else { return };
                let Some((id, text)) = self.message_in(device, from.topic) else { return };
                numbers_in(text.as_bytes(), &mut self.forwarded);
                self.next_number += 1;
                let number = self.next_number;
                self.tell("act: forward", format!("{who} {} to {}", name_of(id), short(to.topic)));
                let command = Chat::Forward { from: from.topic, message: id, to: to.topic };
                self.ask(device, Command::Chat(command), Asked::Say { number, forward: true });
            }
            700..740 => {
                let Some(chat) = self.chat_of(device, false) else { return };
                self.tell("act: mark read", format!("{who} {}", short(chat.topic)));
                self.ask(device, Command::Chat(Chat::MarkRead { topic: chat.topic }), Asked::Plain);
            }
            740..750 => {
                let Some(chat) = self.chat_of(device, false) else { return };
                let seconds = self.pick(&[0, 0, 5, 60, 3_600, 86_400]).unwrap_or(0);
                self.tell("act: timer", format!("{who} {} {seconds} s", short(chat.topic)));
                let command = Chat::Timer { topic: chat.topic, seconds };
                self.ask(device, Command::Chat(command), Asked::Plain);
            }
            750..765 => {
                let Some(chat) = self.chat_of(device, false) else { return };
                self.tell("act: draft", &who);
                let command = Chat::Draft { topic: chat.topic, text: "unsent".into() };
                self.ask(device, Command::Chat(command), Asked::Plain);
            }
            765..790 => {
                let Some(chat) = self.chat_of(device, true) else { return };
                let text = format!("title {}", self.event);
                let command = match self.below(3) {
                    0 => Groups::Rename { topic: chat.topic, title: text },
                    1 => Groups::Notice { topic: chat.topic, text },
                    _ => Groups::Nickname { topic: chat.topic, name: text },
                };
                self.tell("act: rename, notice, nickname", format!("{who} {}", short(chat.topic)));
                self.ask(device, Command::Groups(command), Asked::Plain);
            }
            790..805 => self.meet(person, device),
            805..835 => {
                let requests = query::requests(&self.world.snapshot(device)).expect("reads");
                let Some(request) = self.pick(&requests) else { return };
                let account = request.account;
                if self.coin(850) {
                    self.tell("act: accept", format!("{who} {}", self.name(account)));
                    self.ask(device, Command::Contacts(Contacts::Accept { account }), Asked::Plain);
                } else {
                    self.tell("act: decline", format!("{who} {}", self.name(account)));
                    self.ask(
                        device,
                        Command::Contacts(Contacts::Decline { account }),
                        Asked::Plain,
                    );
                }
            }
            835..850 => {
                let contacts = query::contacts(&self.world.snapshot(device)).expect("reads");
                let Some(contact) = self.pick(&contacts) else { return };
                let account = contact.account;
                let command = match self.below(6) {
                    0 => Contacts::Block { account },
                    1 | 2 => Contacts::Unblock { account },
                    3 => Contacts::Verify { account, verified: true },
                    4 => Contacts::Delete { account },
                    _ => Contacts::Remark { account, name: format!("r{}", self.event) },
                };
                let what = match &command {
                    Contacts::Block { .. } => "act: block",
                    Contacts::Unblock { .. } => "act: unblock",
                    Contacts::Delete { .. } => "act: delete contact",
                    _ => "act: remark, verify",
                };
                self.tell(what, format!("{who} {}", self.name(account)));
                self.ask(device, Command::Contacts(command), Asked::Plain);
            }
            850..862 => {
                let contacts = query::contacts(&self.world.snapshot(device)).expect("reads");
                let friends: Vec<AccountId> = contacts
                    .iter()
                    .filter(|c| c.state == view::ContactState::Friend && self.coin(500))
                    .map(|c| c.account)
                    .collect();
                let title = format!("group {}", self.event);
                self.tell("act: create group", format!("{who} with {}", friends.len()));
                let command = Groups::Create { title, members: friends, share_history: true };
                self.ask(device, Command::Groups(command), Asked::Plain);
            }
            862..890 => {
                let Some(chat) = self.chat_of(device, true) else { return };
                let s = self.world.snapshot(device);
                let members = Audience::of(&s, chat.topic).accounts;
                let mut contacts = query::contacts(&s).expect("reads");
                contacts.retain(|c| !members.contains(&c.account));
                let Some(contact) = self.pick(&contacts) else { return };
                let account = contact.account;
                self.tell(
                    "act: invite",
                    format!("{who} {} to {}", self.name(account), short(chat.topic)),
                );
                self.invited.insert((device, account));
                let command = Groups::Invite { topic: chat.topic, account };
                self.ask(device, Command::Groups(command), Asked::Plain);
            }
            890..910 => {
                let Some(chat) = self.chat_of(device, true) else { return };
                let Some(account) = self.member_of(device, chat.topic) else { return };
                self.tell(
                    "act: remove",
                    format!("{who} {} from {}", self.name(account), short(chat.topic)),
                );
                let command = Groups::Remove { topic: chat.topic, account };
                self.ask(device, Command::Groups(command), Asked::Plain);
                // They may be leaving, or naming others, while nobody has told them.
                let theirs = self.people.iter().find(|p| p.account == account && !p.villain);
                let Some(theirs) = theirs.and_then(|p| p.devices.first().copied()) else { return };
                if theirs == device || !self.up(theirs) || !self.coin(600) {
                    return;
                }
                self.tell("act: at the same time", theirs);
                let command = if self.coin(500) {
                    Groups::Leave { topic: chat.topic }
                } else {
                    let own = self.people[person].account;
                    Groups::SetRole { topic: chat.topic, account: own, role: Role::Member }
                };
                self.ask(theirs, Command::Groups(command), Asked::Plain);
            }
            910..916 => {
                let Some(chat) = self.chat_of(device, true) else { return };
                self.tell("act: leave", format!("{who} {}", short(chat.topic)));
                self.ask(
                    device,
                    Command::Groups(Groups::Leave { topic: chat.topic }),
                    Asked::Plain,
                );
            }
            916..940 => {
                let Some(chat) = self.chat_of(device, true) else { return };
                let Some(account) = self.member_of(device, chat.topic) else { return };
                let role = self
                    .pick(&[Role::Admin, Role::Admin, Role::Member, Role::Owner])
                    .unwrap_or(Role::Admin);
                self.tell(
                    "act: role",
                    format!("{who} {} {role:?} in {}", self.name(account), short(chat.topic)),
                );
                let command = Groups::SetRole { topic: chat.topic, account, role };
                self.ask(device, Command::Groups(command), Asked::Plain);
            }
            940..965 => self.link(person, device),
            965..972 => {
                let active: Vec<usize> = self.people[person]
                    .devices
                    .iter()
                    .copied()
                    .filter(|d| !self.people[person].revoked.contains(d) && *d != device)
                    .collect();
                let Some(other) = self.pick(&active) else { return };
                self.tell("act: revoke", format!("{who} device {other}"));
                let id = self.world.devices[other].id;
                self.people[person].revoked.insert(other);
                self.people[person].revoked_at.insert(other, self.event);
                self.world.suspects.insert(other);
                self.ask(device, Command::Devices(Devices::Revoke { device: id }), Asked::Plain);
            }
            972..984 => {
                let Some(link) = self.pick(&self.invites.clone()) else { return };
                self.tell("act: use relay", &who);
                self.ask(device, Command::Relays(Relays::Use { link }), Asked::Plain);
            }
            984..988 => {
                if self.profile.by_mail {
                    return;
                }
                let relays = query::relays(&self.world.snapshot(device)).expect("reads");
                if relays.len() < 2 {
                    return;
                }
                let Some(relay) = self.pick(&relays) else { return };
                self.tell("act: forget relay", &who);
                let command = Relays::Forget { relay: relay.relay };
                self.ask(device, Command::Relays(command), Asked::Plain);
            }
            988..994 => {
                self.tell("act: change one's name", &who);
                let name = format!("{name}{}", self.event);
                self.ask(device, Command::Devices(Devices::Rename { name }), Asked::Plain);
            }
            _ => {
                self.tell("act: rebuild", &who);
                self.rebuild(device);
            }
        }
    }

    fn meet(&mut self, person: usize, device: usize) {
        let other = self.below(self.people.len());
        if other == person || (self.people[other].villain && self.turned) {
            return;
        }
        let devices = self.people[other].devices.clone();
        let Some(their) = self.pick(&devices) else { return };
        if self.world.devices[their].core.is_none() {
            return;
        }
        self.tell("act: show a card", format!("{their} to {device}"));
        let command = Contacts::Card { uses: 3, welcome_to: None };
        self.ask(their, Command::Contacts(command), Asked::Card { other: device });
    }
}
