//! A group, a relay that is killed and comes back, a removal, a second device.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use teahouse_core::command::{Command, Devices, Groups, Reply};
use teahouse_core::view;
use teahouse_protocols::ids::TopicId;

use super::cast::{self, Person};
use super::{Cast, Day, Stage};
use crate::roles::relay::RelayView;
use crate::town::wait;

const BOAT: &str = "Saturday it is. I bring the boat.";

impl<W: Write> Day<'_, W> {
    /// Gives the cast back, and Bob's tablet.
    pub(super) fn weekend(&mut self, stage: &Stage<'_>, cast: Cast) -> Result<(Cast, Person)> {
        let group = self.plan(&cast)?;
        let cast = self.without_relay(stage, cast, group)?;
        self.removed(&cast, group)?;
        let tablet = self.tablet(stage, &cast)?;
        Ok((cast, tablet))
    }

    fn plan(&mut self, cast: &Cast) -> Result<TopicId> {
        let create = Groups::Create {
            title: "Weekend 周末".into(),
            members: vec![cast.bob.account()?, cast.lin.account()?],
            share_history: true,
        };
        let Reply::Topic { topic: group } = cast.mei.ask(Command::Groups(create))? else {
            bail!("no group was made")
        };
        for person in [&cast.bob, &cast.lin] {
            wait("the group", || Ok(person.messages(group).is_ok()))?;
        }
        cast.lin.say(group, "The lake on Saturday?")?;
        for person in [&cast.mei, &cast.bob] {
            wait("Lin's message", || Ok(person.shows(group, "The lake on Saturday?")))?;
        }
        self.done("Mei makes a group; what Lin writes is at Mei's and Bob's")?;
        Ok(group)
    }

    fn without_relay(&mut self, stage: &Stage<'_>, cast: Cast, group: TopicId) -> Result<Cast> {
        let Cast { relay, invite, mei, bob, lin, chat } = cast;
        let status: RelayView = relay.client()?.get("/v1/relay/status")?;
        let lin_data = lin.stop()?;
        let relay_data = relay.kill()?;
        let id = bob.say(group, BOAT)?;
        wait("Bob's message at Mei without any relay", || {
            Ok(mei.shows(group, BOAT) || bob.state_of(group, id)? == "queued")
        })?;
        self.done("Lin's device is off, the relay is killed; Bob writes, and it is kept")?;

        let relay = cast::relay(stage.program, &relay_data, &status.listen)?;
        wait("the relay's acknowledgement at Bob", || {
            let delivery = bob
                .messages(group)?
                .into_iter()
                .find(|x| x.id == id)
                .and_then(|x| x.delivery)
                .context("an own message is gone")?;
            Ok(delivery.relayed > 0)
        })?;
        let bob_data = bob.stop()?;
        let lin = Person::start(&lin_data)?;
        wait("Bob's message at Lin, with Bob gone", || Ok(lin.shows(group, BOAT)))?;
        self.done("the relay is back and takes it; Bob goes, Lin comes, and has it")?;
        let bob = Person::start(&bob_data)?;
        Ok(Cast { relay, invite, mei, bob, lin, chat })
    }

    fn removed(&mut self, cast: &Cast, group: TopicId) -> Result<()> {
        let Cast { mei, bob, lin, .. } = cast;
        let account = lin.account()?;
        mei.ask(Command::Groups(Groups::Remove { topic: group, account }))?;
        wait("the removal at Lin", || {
            let chats: Vec<view::Chat> = lin.get("/v1/chats")?;
            Ok(chats.iter().any(|c| c.topic == group && c.state == view::ChatState::Left))
        })?;
        wait("the removal at Bob", || {
            let members: Vec<view::Member> = bob.get(&format!("/v1/chats/{group}/members"))?;
            Ok(members.len() == 2)
        })?;
        mei.say(group, "A surprise for Lin: cake.")?;
        wait("Mei's message at Bob", || Ok(bob.shows(group, "A surprise for Lin: cake.")))?;
        ensure!(!lin.shows(group, "A surprise for Lin: cake."), "a removed member reads on");
        ensure!(
            lin.say(group, "hello?").is_err(),
            "a removed member's node let it write into the group"
        );
        self.done("Mei removes Lin for an hour: a new key, and Lin reads nothing of it")
    }

    fn tablet(&mut self, stage: &Stage<'_>, cast: &Cast) -> Result<Person> {
        let Cast { mei, bob, chat, .. } = cast;
        let tablet = link(stage.dir, bob)?;
        wait("history on the tablet", || Ok(tablet.shows(*chat, "For you, always. 🍵")))?;
        tablet.say(*chat, "Written on the tablet.")?;
        wait("the tablet's message at Mei", || Ok(mei.shows(*chat, "Written on the tablet.")))?;
        wait("the tablet's message at Bob's desk", || {
            Ok(bob.shows(*chat, "Written on the tablet."))
        })?;
        self.done("Bob links a tablet: equal digits, the history, and it writes")?;

        let device = tablet.device()?;
        bob.ask(Command::Devices(Devices::Revoke { device }))?;
        let account = bob.account()?;
        wait("the revocation at Mei", || {
            let contacts: Vec<view::Contact> = mei.get("/v1/contacts")?;
            Ok(contacts.iter().any(|c| c.account == account && c.devices == 1))
        })?;
        mei.say(*chat, "Not for a lost tablet.")?;
        wait("Mei's message at Bob", || Ok(bob.shows(*chat, "Not for a lost tablet.")))?;
        ensure!(!tablet.shows(*chat, "Not for a lost tablet."), "a revoked device reads on");
        self.done("the tablet is lost: revoked, and it opens nothing later")?;
        Ok(tablet)
    }
}

fn link(dir: &Path, owner: &Person) -> Result<Person> {
    let Reply::Code { link } = owner.ask(Command::Devices(Devices::LinkStart))? else {
        bail!("no code")
    };
    let tablet = Person::start(&dir.join("tablet"))?;
    let join = Devices::LinkJoin { code: link, device_name: "tablet".into() };
    tablet.ask(Command::Devices(join))?;
    wait("the digits", || {
        Ok(matches!(owner.linking()?, view::Linking::Compare { .. })
            && matches!(tablet.linking()?, view::Linking::Compare { .. }))
    })?;
    ensure!(owner.linking()? == tablet.linking()?, "the screens show different digits");
    owner.ask(Command::Devices(Devices::LinkConfirm))?;
    wait("the tablet's account", || {
        let id: view::Identity = tablet.get("/v1/identity")?;
        Ok(id.account.is_some())
    })?;
    Ok(tablet)
}
