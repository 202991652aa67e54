//! Commands under way, and what came of them.

use teahouse_core::command::{Command, Contacts, Devices, Refusal, Reply};

use super::moments::Moment;
use super::{Check, Town};
use crate::chaos::truth::Message;

/// What a command under way was for.
#[derive(Debug, Clone)]
pub(super) enum Asked {
    Say { number: u64, forward: bool },
    Card { other: usize },
    LinkStart { new: usize },
    Moment(Moment),
    Plain,
}

impl Town {
    pub(super) fn ask(&mut self, device: usize, command: Command, what: Asked) {
        let id = self.world.command(device, command);
        self.pending.insert((device, id), what);
    }

    /// Takes in what the world saw: replies, messages, deposits, impossibilities.
    pub(super) fn note(&mut self) -> Check {
        for said in std::mem::take(&mut self.world.said) {
            let asked = self.pending.get(&(said.device, said.command)).cloned();
            let (number, forward) = match asked {
                Some(Asked::Say { number, forward }) => (number, forward),
                Some(Asked::Moment(moment)) => {
                    self.said_in_moments(&said, moment);
                    continue;
                }
                _ => continue,
            };
            let former = (0..self.world.devices.len())
                .filter(|d| said.audience.out.contains(&self.world.devices[*d].id))
                .collect();
            let hostile = self.people.iter().any(|p| p.villain && p.devices.contains(&said.device));
            self.said_at.insert(number, self.event);
            self.messages.push(Message {
                number,
                topic: said.topic,
                id: said.message,
                device: said.device,
                accounts: said.audience.accounts,
                former,
                hostile,
                forward,
            });
            self.world
                .suspects
                .extend(self.messages.last().map(|m| m.former.clone()).unwrap_or_default());
        }
        for deposit in std::mem::take(&mut self.world.deposited) {
            self.mailroom.note(&self.world, &deposit);
        }
        for device in 0..self.world.devices.len() {
            let replies = std::mem::take(&mut self.world.devices[device].replies);
            for (id, reply) in replies {
                let Some(asked) = self.pending.remove(&(device, id)) else { continue };
                self.answered(device, asked, reply)?;
            }
            if self.world.devices[device].core.is_none() {
                self.pending.retain(|(d, _), _| *d != device);
            }
        }
        if let Some(what) = self.world.broken.pop() {
            return Err(what);
        }
        Ok(())
    }

    fn answered(&mut self, device: usize, asked: Asked, reply: Result<Reply, Refusal>) -> Check {
        match (asked, reply) {
            (_, Err(Refusal::Internal)) => return Err(format!("a command panicked on {device}")),
            (Asked::Card { other }, Ok(Reply::Card { link }))
                if self.world.devices[other].core.is_some() =>
            {
                self.tell("act: ask for contact", other);
                let command = Contacts::Add { link, greeting: "hello".into() };
                self.ask(other, Command::Contacts(command), Asked::Plain);
            }
            (Asked::LinkStart { new }, Ok(Reply::Code { link })) => {
                let command = Devices::LinkJoin { code: link, device_name: "second".into() };
                self.ask(new, Command::Devices(command), Asked::Plain);
            }
            (Asked::Moment(Moment::Like { post, on }), Ok(_)) => {
                self.liked(device, post, Some(on));
            }
            (asked, Err(refusal)) => {
                if let Asked::Moment(Moment::Like { post, .. }) = asked {
                    self.liked(device, post, None);
                }
                let kind = match refusal {
                    Refusal::NotFound { .. } => "not found",
                    Refusal::NotAllowed { .. } => "not allowed",
                    Refusal::Invalid { .. } => "invalid",
                    Refusal::Limit { .. } => "limit",
                    Refusal::Revoked => "revoked",
                    _ => "other",
                };
                self.tell(&format!("refused: {kind}"), format!("{device}: {refusal}"));
            }
            _ => {}
        }
        Ok(())
    }
}
