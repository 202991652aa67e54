//! A relay, accounts, contacts; a friend's Moment.

use std::io::Write;

use anyhow::{Context, Result, bail, ensure};
use teahouse_core::command::{Command, Contacts, Relays, Reply};
use teahouse_core::moments::{Audience, Command as Moments};
use teahouse_core::view;
use teahouse_protocols::ids::{AccountId, TopicId};
use teahouse_protocols::link::Link;

use super::cast::{self, Person};
use super::{Cast, Day, Stage};
use crate::town::{loopback, wait};

const MORNING: &str = "Mist over the lake. 湖上有雾。";
const HIDDEN: &str = "Who bakes Lin's cake?";
const COMMENT: &str = "And the kettle sings.";

impl<W: Write> Day<'_, W> {
    pub(super) fn morning(&mut self, stage: &Stage<'_>) -> Result<Cast> {
        let relay = cast::relay(stage.program, &stage.dir.join("relay"), &loopback())?;
        let invited: crate::api::Invited = relay.client()?.post(
            "/v1/relay/invite",
            &crate::api::RelayInviteRequest { uses: 10, days: 1, greeter: None },
        )?;
        self.done("a community's relay runs in a process of its own, and invites")?;

        let person = |name: &str| Person::start(&stage.dir.join(name))?.named(name);
        let (mei, bob, lin) = (person("Mei")?, person("Bob")?, person("Lin")?);
        let (m, b, l) = (mei.account()?, bob.account()?, lin.account()?);
        self.done("Mei, Bob and Lin have accounts: made offline, with nobody's permission")?;

        for person in [&mei, &bob, &lin] {
            join(person, &invited.link)?;
        }
        self.done("each of them has mailboxes at the relay")?;

        // The card goes through a real QR code: what is scanned is what was drawn.
        let qr = qr_card(&mei)?;
        let chat = befriend(&bob, &mei, &qr, (b, m))?;
        self.done("Bob scans Mei's QR card; she accepts; both see a contact")?;
        let qr = qr_card(&mei)?;
        befriend(&lin, &mei, &qr, (l, m))?;
        self.done("Lin and Mei are contacts, too")?;

        let ours: crate::api::Safety = bob.get(&format!("/v1/safety/{m}"))?;
        let theirs: crate::api::Safety = mei.get(&format!("/v1/safety/{b}"))?;
        ensure!(ours.number == theirs.number, "the safety numbers differ");
        self.done("Bob and Mei compare safety numbers: equal")?;

        let id = bob.say(chat, "Is the table by the window free? 靠窗的位子有吗？")?;
        wait("Bob's message at Mei", || {
            Ok(mei.shows(chat, "Is the table by the window free? 靠窗的位子有吗？"))
        })?;
        wait("Mei's signed acknowledgement at Bob", || Ok(bob.state_of(chat, id)? == "delivered"))?;
        mei.say(chat, "For you, always. 🍵")?;
        wait("Mei's answer at Bob", || Ok(bob.shows(chat, "For you, always. 🍵")))?;
        self.done("they talk; Bob's screen says delivered, because Mei's device signed for it")?;

        self.moments(&mei, &bob, &lin)?;
        Ok(Cast { relay, invite: invited.link, mei, bob, lin, chat })
    }

    fn moments(&mut self, mei: &Person, bob: &Person, lin: &Person) -> Result<()> {
        post(mei, MORNING, Audience::Friends)?;
        for (name, person) in [("Bob", bob), ("Lin", lin)] {
            wait(&format!("Mei's post at {name}"), || Ok(person.post(MORNING)?.is_some()))?;
        }
        self.done("Mei posts a Moment; Bob and Lin, her friends, read it")?;

        let seen = bob.post(MORNING)?.context("the post is gone")?;
        bob.ask(Command::Moments(Moments::Like { topic: seen.topic, post: seen.id, on: true }))?;
        let comment = Moments::Comment {
            topic: seen.topic,
            post: seen.id,
            text: COMMENT.into(),
            reply_to: None,
        };
        bob.ask(Command::Moments(comment))?;
        wait("Bob's words at Mei", || {
            let post = mei.post(MORNING)?.context("an own post is gone")?;
            Ok(post.likes.len() == 1 && post.comments.iter().any(|c| c.text == COMMENT))
        })?;
        self.done("Bob likes it and comments; Mei sees both")?;

        post(mei, HIDDEN, Audience::Except(vec![lin.account()?]))?;
        wait("the hidden post at Bob", || Ok(bob.post(HIDDEN)?.is_some()))?;
        // What Mei says after it has come; what she hid has not, and Lin, who is no friend of
        // Bob's, sees nothing of what he said.
        let after = "Good morning, street.";
        post(mei, after, Audience::Friends)?;
        wait("Mei's next post at Lin", || Ok(lin.post(after)?.is_some()))?;
        ensure!(lin.post(HIDDEN)?.is_none(), "Lin reads what was hidden from her");
        let seen = lin.post(MORNING)?.context("the post is gone")?;
        ensure!(
            seen.comments.is_empty() && seen.likes.is_empty(),
            "Lin sees the words of somebody who is no friend of hers"
        );
        self.done("a post hidden from Lin is at Bob, not at Lin; nor are Bob's words: no friend")
    }
}

/// Posts a text.
pub(super) fn post(author: &Person, text: &str, audience: Audience) -> Result<()> {
    let post = Moments::Post { text: text.into(), photos: Vec::new(), audience };
    author.ask(Command::Moments(post)).map(|_| ())
}

/// Uses the relay, and waits for mailboxes there.
pub(super) fn join(person: &Person, invite: &str) -> Result<()> {
    person.ask(Command::Relays(Relays::Use { link: invite.to_owned() }))?;
    wait("a mailbox at the relay", || {
        let relays: Vec<view::Relay> = person.get("/v1/relays")?;
        Ok(relays.iter().any(|r| r.tags > 0 && r.trouble.is_empty()))
    })
}

/// A contact card's QR code, drawn; returns the text it holds.
pub(super) fn qr_card(person: &Person) -> Result<String> {
    let card = Contacts::Card { uses: 1, welcome_to: None };
    let Reply::Card { link } = person.ask(Command::Contacts(card))? else { bail!("no card") };
    let text = Link::parse(&link).context("one's own card")?.to_qr_text();
    qrcode::QrCode::new(text.as_bytes()).context("the card does not fit a QR code")?;
    Ok(text)
}

fn befriend(
    asker: &Person,
    owner: &Person,
    card: &str,
    (a, o): (AccountId, AccountId),
) -> Result<TopicId> {
    let add = Contacts::Add { link: card.to_owned(), greeting: "Good morning!".into() };
    let Reply::Added { topic: Some(topic), .. } = asker.ask(Command::Contacts(add))? else {
        bail!("no chat was proposed")
    };
    wait("the request", || {
        let requests: Vec<view::Contact> = owner.get("/v1/requests")?;
        Ok(requests.iter().any(|r| r.account == a && r.greeting == "Good morning!"))
    })?;
    owner.ask(Command::Contacts(Contacts::Accept { account: a }))?;
    wait("the acceptance", || Ok(asker.friend(o)? && owner.friend(a)?))?;
    Ok(topic)
}
