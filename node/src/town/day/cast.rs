//! Who takes part in the day: people's nodes in this process, and the relay, the shop and the
//! newspaper in processes of their own. All of them are asked through their HTTP APIs alone.

use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use teahouse_core::command::{Chat, Command, Devices, MessageId, Reply};
use teahouse_core::moments::query::{Post, Timeline};
use teahouse_core::photos::NewPhoto;
use teahouse_core::query::Query;
use teahouse_core::view;
use teahouse_protocols::ids::{AccountId, DeviceId, TopicId};

use crate::api::{Api, Serves};
use crate::client::Client;
use crate::config::{self, Role};
use crate::roles;
use crate::runtime::Node;
use crate::town::{loopback, node_in, wait};

/// A `teahouse run` in a process of its own; killed when dropped.
pub(super) struct NodeProcess {
    child: Child,
    data: PathBuf,
}

impl NodeProcess {
    /// Starts it and waits for its API.
    pub(super) fn start(program: &Path, data: &Path, role: &[&str]) -> Result<Self> {
        config::remove_api_file(data);
        let mut process = Process::new(program);
        process.arg("--data").arg(data).arg("run").args(role);
        let child = process
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let node = Self { child, data: data.to_path_buf() };
        wait("a process to answer", || Ok(node.attach()?.is_some()))?;
        Ok(node)
    }

    fn attach(&self) -> Result<Option<Client>> {
        Ok(Client::attach(&self.data)?)
    }

    pub(super) fn client(&self) -> Result<Client> {
        self.attach()?.context("a process does not answer")
    }

    /// As a power cut would: no warning, no farewell.
    pub(super) fn kill(mut self) -> Result<PathBuf> {
        self.child.kill().context("killing a process")?;
        self.child.wait().context("waiting for a process's end")?;
        Ok(self.data.clone())
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The relay, listening where it is told to.
pub(super) fn relay(program: &Path, data: &Path, listen: &[String]) -> Result<NodeProcess> {
    let mut role = vec!["--role", "relay", "--name", "The town"];
    for addr in listen {
        role.extend(["--listen", addr]);
    }
    NodeProcess::start(program, data, &role)
}

/// Where somebody's node runs.
enum Body {
    Here(Box<(Node, Api)>),
    Apart(NodeProcess),
}

/// Somebody's device.
pub(super) struct Person {
    body: Body,
    client: Client,
    data: PathBuf,
}

impl Person {
    /// A node in this process, on a folder.
    pub(super) fn start(data: &Path) -> Result<Self> {
        let node = node_in(data)?;
        let serves = Serves::Device(node.handle().clone());
        let runtime = tokio::runtime::Handle::current();
        let api = runtime.block_on(roles::announce(data, Role::Device, &serves, 0))?;
        let client = Client::attach(data)?.context("the node's API does not answer")?;
        let body = Body::Here(Box::new((node, api)));
        Ok(Self { body, client, data: data.to_path_buf() })
    }

    /// A node in a process of its own, on a folder.
    pub(super) fn start_apart(program: &Path, data: &Path, role: &str) -> Result<Self> {
        let listen = loopback();
        let mut args = vec!["--role", role, "--no-mdns"];
        for addr in &listen {
            args.extend(["--listen", addr]);
        }
        let process = NodeProcess::start(program, data, &args)?;
        let client = process.client()?;
        Ok(Self { body: Body::Apart(process), client, data: data.to_path_buf() })
    }

    /// A new account on a device of its own.
    pub(super) fn named(self, name: &str) -> Result<Self> {
        let device_name = format!("{name}'s desk");
        self.ask(Command::Devices(Devices::Create { name: name.into(), device_name }))?;
        Ok(self)
    }

    /// Ends the node: one of this process in good order, one of its own as a power cut would.
    pub(super) fn stop(self) -> Result<PathBuf> {
        match self.body {
            Body::Here(here) => {
                config::remove_api_file(&self.data);
                let (node, api) = *here;
                tokio::runtime::Handle::current().block_on(api.stop());
                node.shutdown();
            }
            Body::Apart(process) => {
                process.kill()?;
            }
        }
        Ok(self.data)
    }

    pub(super) fn ask(&self, command: Command) -> Result<Reply> {
        Ok(self.client.command(&command)?)
    }

    /// The way to its API.
    pub(super) const fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn query<Q: Query>(&self, query: &Q) -> Result<Q::Out> {
        Ok(self.client.ask(query)?)
    }

    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        Ok(self.client.get(path)?)
    }

    pub(super) fn rebuild(&self) -> Result<()> {
        let _: crate::api::Rebuilt = self.client.post("/v1/rebuild", &serde_json::json!({}))?;
        Ok(())
    }

    pub(super) fn account(&self) -> Result<AccountId> {
        let identity: view::Identity = self.get("/v1/identity")?;
        identity.account.context("the node has no account")
    }

    pub(super) fn device(&self) -> Result<DeviceId> {
        let identity: view::Identity = self.get("/v1/identity")?;
        Ok(identity.device)
    }

    pub(super) fn say(&self, topic: TopicId, text: &str) -> Result<MessageId> {
        let text = text.to_owned();
        let send = Chat::Send { topic, text, reply_to: None, mentions: Vec::new() };
        match self.ask(Command::Chat(send))? {
            Reply::Message { message, .. } => Ok(message),
            other => bail!("sending gave {other:?}"),
        }
    }

    pub(super) fn messages(&self, topic: TopicId) -> Result<Vec<view::Message>> {
        self.get(&format!("/v1/chats/{topic}/messages?limit=100"))
    }

    pub(super) fn shows(&self, topic: TopicId, text: &str) -> bool {
        // A chat that this node does not know yet shows nothing.
        let Ok(messages) = self.messages(topic) else { return false };
        messages.iter().any(|m| m.content == view::Content::Text(text.to_owned()))
    }

    pub(super) fn state_of(&self, topic: TopicId, id: MessageId) -> Result<String> {
        let messages = self.messages(topic)?;
        let message = messages.iter().find(|m| m.id == id).context("an own message is gone")?;
        Ok(message.delivery.map(|d| d.words()).unwrap_or_default())
    }

    pub(super) fn friend(&self, account: AccountId) -> Result<bool> {
        let all: Vec<view::Contact> = self.get("/v1/contacts")?;
        Ok(all.iter().any(|c| c.account == account && c.state == view::ContactState::Friend))
    }

    pub(super) fn linking(&self) -> Result<view::Linking> {
        self.get("/v1/linking")
    }

    /// The post with a text, if it is in the timeline.
    pub(super) fn post(&self, text: &str) -> Result<Option<Post>> {
        let all = self.query(&Timeline::default())?;
        Ok(all.into_iter().find(|p| p.text.as_deref() == Some(text)))
    }

    /// Takes a picture in, to be sent.
    pub(super) fn take_in(&self, picture: &[u8]) -> Result<NewPhoto> {
        Ok(self.client.post_bytes("/v1/photos", picture.to_vec())?)
    }

    /// A message's first photo in full size, brought from whoever has it.
    pub(super) fn picture(&self, topic: TopicId, message: MessageId) -> Result<Vec<u8>> {
        Ok(self.client.get_bytes(&format!("/v1/photos/{topic}/{message}/0"))?)
    }
}
