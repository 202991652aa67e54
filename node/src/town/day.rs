//! The town's day, in the terminal: what people do with the chat part, on real nodes and
//! with a relay in a process of its own that is killed in the middle. Every step is checked
//! through the *other* node's HTTP API; any failure ends the day with a non-zero exit code.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde::de::DeserializeOwned;
use teahouse_core::command::{Chat, Command, Contacts, Devices, Groups, MessageId, Relays, Reply};
use teahouse_core::view;
use teahouse_protocols::ids::{AccountId, TopicId};
use teahouse_protocols::link::Link;

use super::{account, node_in, wait};
use crate::api::{Api, Serves};
use crate::client::Client;
use crate::config::{self, Role};
use crate::roles;
use crate::runtime::Node;

/// Plays the day. `program` answers to `teahouse` commands (the relay is started with it).
///
/// # Errors
/// The first step that failed, and how.
pub fn play(mut out: impl Write, program: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the async runtime")?;
    let _entered = runtime.enter();
    let dir = tempfile::tempdir().context("a folder for the town")?;
    let started = Instant::now();
    let mut day = Day { out: &mut out, step: Instant::now(), steps: 0 };
    let result = day.chat(dir.path(), program);
    match &result {
        Ok(()) => {
            let (n, s) = (day.steps, started.elapsed().as_secs_f64());
            writeln!(
                out,
                "\nThe day is over: {n} steps in {s:.1} s, each checked at another node."
            )?;
            writeln!(out, "{}", closing(program))?;
        }
        Err(e) => writeln!(out, "FAILED  {e:#}")?,
    }
    result
}

fn closing(program: &Path) -> String {
    let p = program.display();
    format!(
        "\nYour own node:\n  {p} init --name YOU\n  {p} run\n  {p} card --qr          show it to a friend\n\
         \nYour community's relay, on a machine that others can reach:\n  {p} run --role relay --name OURS --public-addr HOST\n  {p} relay invite"
    )
}

/// A relay in a process of its own, killed when dropped.
struct RelayProcess {
    child: Child,
    data: PathBuf,
}

impl RelayProcess {
    fn start(program: &Path, data: &Path, listen: &[String]) -> Result<Self> {
        config::remove_api_file(data);
        let mut process = Process::new(program);
        process.arg("--data").arg(data).args(["run", "--role", "relay", "--name", "The town"]);
        for addr in listen {
            process.args(["--listen", addr]);
        }
        let child = process
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let relay = Self { child, data: data.to_path_buf() };
        wait("the relay to answer", || Ok(relay.client()?.is_some()))?;
        Ok(relay)
    }

    fn client(&self) -> Result<Option<Client>> {
        Ok(Client::attach(&self.data)?)
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let client = self.client()?.context("the relay does not answer")?;
        Ok(client.get(path)?)
    }

    /// As a power cut would: no warning, no farewell.
    fn kill(mut self) -> Result<PathBuf> {
        self.child.kill().context("killing the relay")?;
        self.child.wait().context("waiting for the relay's end")?;
        Ok(self.data.clone())
    }
}

impl Drop for RelayProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A person's device with its API.
struct Person {
    node: Option<Node>,
    api: Option<Api>,
    client: Client,
    data: PathBuf,
}

impl Person {
    fn start(data: &Path) -> Result<Self> {
        let node = node_in(data)?;
        let serves = Serves::Device(node.handle().clone());
        let runtime = tokio::runtime::Handle::current();
        let api = runtime.block_on(roles::announce(data, Role::Device, &serves, 0))?;
        let client = Client::attach(data)?.context("the node's API does not answer")?;
        Ok(Self { node: Some(node), api: Some(api), client, data: data.to_path_buf() })
    }

    fn new(dir: &Path, name: &str) -> Result<Self> {
        let person = Self::start(&dir.join(name))?;
        let create = Devices::Create { name: name.into(), device_name: format!("{name}'s desk") };
        person.ask(Command::Devices(create))?;
        Ok(person)
    }

    fn stop(mut self) -> PathBuf {
        config::remove_api_file(&self.data);
        if let Some(api) = self.api.take() {
            tokio::runtime::Handle::current().block_on(api.stop());
        }
        if let Some(node) = self.node.take() {
            node.shutdown();
        }
        self.data
    }

    fn ask(&self, command: Command) -> Result<Reply> {
        Ok(self.client.command(&command)?)
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        Ok(self.client.get(path)?)
    }

    fn account(&self) -> Result<AccountId> {
        account(self.node.as_ref().context("the node is stopped")?.handle())
    }

    fn say(&self, topic: TopicId, text: &str) -> Result<MessageId> {
        let text = text.to_owned();
        let send = Chat::Send { topic, text, reply_to: None, mentions: Vec::new() };
        match self.ask(Command::Chat(send))? {
            Reply::Message { message, .. } => Ok(message),
            other => bail!("sending gave {other:?}"),
        }
    }

    fn messages(&self, topic: TopicId) -> Result<Vec<view::Message>> {
        self.get(&format!("/v1/chats/{topic}/messages?limit=100"))
    }

    fn shows(&self, topic: TopicId, text: &str) -> bool {
        // A chat that this node does not know yet shows nothing.
        let Ok(messages) = self.messages(topic) else { return false };
        messages.iter().any(|m| m.content == view::Content::Text(text.to_owned()))
    }

    fn state_of(&self, topic: TopicId, id: MessageId) -> Result<String> {
        let messages = self.messages(topic)?;
        let message = messages.iter().find(|m| m.id == id).context("an own message is gone")?;
        Ok(message.delivery.map(|d| d.words()).unwrap_or_default())
    }

    fn friend(&self, account: AccountId) -> Result<bool> {
        let all: Vec<view::Contact> = self.get("/v1/contacts")?;
        Ok(all.iter().any(|c| c.account == account && c.state == view::ContactState::Friend))
    }

    fn linking(&self) -> Result<view::Linking> {
        self.get("/v1/linking")
    }
}

struct Day<'o, W: Write> {
    out: &'o mut W,
    step: Instant,
    steps: u32,
}

impl<W: Write> Day<'_, W> {
    fn done(&mut self, what: &str) -> Result<()> {
        self.steps += 1;
        let ms = self.step.elapsed().as_millis();
        writeln!(self.out, "{ms:>7} ms  {what}")?;
        self.out.flush()?;
        self.step = Instant::now();
        Ok(())
    }

    fn chat(&mut self, dir: &Path, program: &Path) -> Result<()> {
        let relay = RelayProcess::start(program, &dir.join("relay"), &super::loopback())?;
        let invited: crate::api::Invited =
            relay.client()?.context("the relay does not answer")?.post(
                "/v1/relay/invite",
                &crate::api::RelayInviteRequest { uses: 10, days: 1, greeter: None },
            )?;
        self.done("a community's relay runs in a process of its own, and invites")?;

        let mei = Person::new(dir, "Mei")?;
        let bob = Person::new(dir, "Bob")?;
        let lin = Person::new(dir, "Lin")?;
        let (m, b, l) = (mei.account()?, bob.account()?, lin.account()?);
        self.done("Mei, Bob and Lin have accounts: made offline, with nobody's permission")?;

        for person in [&mei, &bob, &lin] {
            person.ask(Command::Relays(Relays::Use { link: invited.link.clone() }))?;
        }
        for person in [&mei, &bob, &lin] {
            wait("a mailbox at the relay", || {
                let relays: Vec<view::Relay> = person.get("/v1/relays")?;
                Ok(relays.iter().any(|r| r.tags > 0 && r.trouble.is_empty()))
            })?;
        }
        self.done("each of them has mailboxes at the relay")?;

        // The card goes through a real QR code: what is scanned is what was drawn.
        let qr = qr_card(&mei)?;
        let bob_mei = befriend(&bob, &mei, &qr, (b, m))?;
        self.done("Bob scans Mei's QR card; she accepts; both see a contact")?;
        let qr = qr_card(&mei)?;
        befriend(&lin, &mei, &qr, (l, m))?;
        self.done("Lin and Mei are contacts, too")?;

        let ours: crate::api::Safety = bob.get(&format!("/v1/safety/{m}"))?;
        let theirs: crate::api::Safety = mei.get(&format!("/v1/safety/{b}"))?;
        ensure!(ours.number == theirs.number, "the safety numbers differ");
        self.done("Bob and Mei compare safety numbers: equal")?;

        let id = bob.say(bob_mei, "Is the table by the window free? 靠窗的位子有吗？")?;
        wait("Bob's message at Mei", || {
            Ok(mei.shows(bob_mei, "Is the table by the window free? 靠窗的位子有吗？"))
        })?;
        wait("Mei's signed acknowledgement at Bob", || {
            Ok(bob.state_of(bob_mei, id)? == "delivered")
        })?;
        mei.say(bob_mei, "For you, always. 🍵")?;
        wait("Mei's answer at Bob", || Ok(bob.shows(bob_mei, "For you, always. 🍵")))?;
        self.done("they talk; Bob's screen says delivered, because Mei's device signed for it")?;

        let group = match mei.ask(Command::Groups(Groups::Create {
            title: "Weekend 周末".into(),
            members: vec![b, l],
            share_history: true,
        }))? {
            Reply::Topic { topic } => topic,
            other => bail!("creating a group gave {other:?}"),
        };
        for person in [&bob, &lin] {
            wait("the group", || Ok(person.messages(group).is_ok()))?;
        }
        lin.say(group, "The lake on Saturday?")?;
        for person in [&mei, &bob] {
            wait("Lin's message", || Ok(person.shows(group, "The lake on Saturday?")))?;
        }
        self.done("Mei makes a group; what Lin writes is at Mei's and Bob's")?;

        let listen: roles::relay::RelayView = relay.get("/v1/relay/status")?;
        let lin_data = lin.stop();
        let relay_data = relay.kill()?;
        let id = bob.say(group, "Saturday it is. I bring the boat.")?;
        wait("Bob's message at Mei without any relay", || {
            Ok(mei.shows(group, "Saturday it is. I bring the boat.")
                || bob.state_of(group, id)? == "queued")
        })?;
        self.done("Lin's device is off, the relay is killed; Bob writes, and it is kept")?;

        let relay = RelayProcess::start(program, &relay_data, &listen.listen)?;
        wait("the relay's acknowledgement at Bob", || {
            let delivery = bob
                .messages(group)?
                .into_iter()
                .find(|x| x.id == id)
                .and_then(|x| x.delivery)
                .context("an own message is gone")?;
            Ok(delivery.relayed > 0)
        })?;
        let bob_data = bob.stop();
        let lin = Person::start(&lin_data)?;
        wait("Bob's message at Lin, with Bob gone", || {
            Ok(lin.shows(group, "Saturday it is. I bring the boat."))
        })?;
        self.done("the relay is back and takes it; Bob goes, Lin comes, and has it")?;
        let bob = Person::start(&bob_data)?;

        mei.ask(Command::Groups(Groups::Remove { topic: group, account: l }))?;
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
        self.done("Mei removes Lin for an hour: a new key, and Lin reads nothing of it")?;

        let tablet = link(dir, &bob)?;
        wait("history on the tablet", || Ok(tablet.shows(bob_mei, "For you, always. 🍵")))?;
        tablet.say(bob_mei, "Written on the tablet.")?;
        wait("the tablet's message at Mei", || Ok(mei.shows(bob_mei, "Written on the tablet.")))?;
        wait("the tablet's message at Bob's desk", || {
            Ok(bob.shows(bob_mei, "Written on the tablet."))
        })?;
        self.done("Bob links a tablet: equal digits, the history, and it writes")?;

        let device = tablet.node.as_ref().context("stopped")?.handle().device();
        bob.ask(Command::Devices(Devices::Revoke { device }))?;
        wait("the revocation at Mei", || {
            let alarms: Vec<view::Contact> = mei.get("/v1/contacts")?;
            Ok(alarms.iter().any(|c| c.account == b && c.devices == 1))
        })?;
        mei.say(bob_mei, "Not for a lost tablet.")?;
        wait("Mei's message at Bob", || Ok(bob.shows(bob_mei, "Not for a lost tablet.")))?;
        ensure!(!tablet.shows(bob_mei, "Not for a lost tablet."), "a revoked device reads on");
        self.done("the tablet is lost: revoked, and it opens nothing later")?;

        let before = mei.messages(bob_mei)?;
        let _: crate::api::Rebuilt = mei.client.post("/v1/rebuild", &serde_json::json!({}))?;
        ensure!(before == mei.messages(bob_mei)?, "a rebuild shows other messages");
        self.done("Mei's lists are derived again from the signed log: the same")?;

        for person in [mei, bob, lin, tablet] {
            person.stop();
        }
        drop(relay);
        Ok(())
    }
}

/// A contact card's QR code, drawn; returns the text it holds.
fn qr_card(person: &Person) -> Result<String> {
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
