//! What people do, in short: a command and its reply in one call each, for stories and tests.

use teahouse_core::command::{
    Chat, Command, Contacts, Devices, Groups, MessageId, Refusal, Relays, Reply,
};
use teahouse_core::{query, view};
use teahouse_protocols::ids::{AccountId, TopicId};

use super::World;

impl World {
    /// Creates an account.
    pub fn create(&mut self, device: usize, name: &str) -> AccountId {
        let command = Command::Devices(Devices::Create {
            name: name.to_owned(),
            device_name: format!("{name}'s"),
        });
        match self.ask(device, command) {
            Ok(Reply::Created { account, .. }) => account,
            other => panic!("create: {other:?}"),
        }
    }

    /// The account of a device.
    #[must_use]
    pub fn account(&self, device: usize) -> AccountId {
        query::identity(&self.snapshot(device)).expect("reads").account.expect("an account")
    }

    /// Uses a relay by its invite.
    pub fn use_relay(&mut self, device: usize, link: &str) {
        let command = Command::Relays(Relays::Use { link: link.to_owned() });
        self.ask(device, command).expect("a relay is used");
    }

    /// A contact card.
    pub fn card(&mut self, device: usize) -> String {
        let command = Command::Contacts(Contacts::Card { uses: 10, welcome_to: None });
        match self.ask(device, command) {
            Ok(Reply::Card { link }) => link,
            other => panic!("card: {other:?}"),
        }
    }

    /// Asks for contact.
    pub fn add(&mut self, device: usize, link: &str) -> Result<Reply, Refusal> {
        let command =
            Command::Contacts(Contacts::Add { link: link.to_owned(), greeting: "hi".into() });
        self.ask(device, command)
    }

    /// Makes two devices' accounts friends; returns the direct chat.
    pub fn befriend(&mut self, a: usize, b: usize) -> TopicId {
        let card = self.card(b);
        let topic = match self.add(a, &card) {
            Ok(Reply::Added { topic: Some(topic), .. }) => topic,
            other => panic!("add: {other:?}"),
        };
        let asker = self.account(a);
        for _ in 0..200 {
            self.run(1_000);
            if query::requests(&self.snapshot(b)).expect("reads").iter().any(|r| r.account == asker)
            {
                break;
            }
        }
        self.ask(b, Command::Contacts(Contacts::Accept { account: asker })).expect("accepts");
        topic
    }

    /// Writes a message; durable when this returns.
    pub fn say(&mut self, device: usize, topic: TopicId, text: &str) -> Result<MessageId, Refusal> {
        let command = Command::Chat(Chat::Send {
            topic,
            text: text.to_owned(),
            reply_to: None,
            mentions: Vec::new(),
        });
        match self.ask(device, command)? {
            Reply::Message { message, .. } => Ok(message),
            other => panic!("send: {other:?}"),
        }
    }

    /// Creates a group.
    pub fn group(&mut self, device: usize, title: &str, members: Vec<AccountId>) -> TopicId {
        let command = Command::Groups(Groups::Create {
            title: title.to_owned(),
            members,
            share_history: true,
        });
        match self.ask(device, command) {
            Ok(Reply::Topic { topic }) => topic,
            other => panic!("group: {other:?}"),
        }
    }

    /// Texts of a chat as a device shows them.
    #[must_use]
    pub fn texts(&self, device: usize, topic: TopicId) -> Vec<String> {
        query::messages(&self.snapshot(device), topic, None, 10_000)
            .expect("reads")
            .into_iter()
            .map(|m| match m.content {
                view::Content::Text(text) => text,
                other => format!("{other:?}"),
            })
            .collect()
    }

    /// What is proved of a message.
    #[must_use]
    pub fn delivery(&self, device: usize, topic: TopicId, id: MessageId) -> view::Delivery {
        query::message(&self.snapshot(device), topic, id)
            .expect("reads")
            .expect("the message")
            .delivery
            .expect("an own message")
    }
}
