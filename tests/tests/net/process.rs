//! Processes and the folders they run on.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom};
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde_json::Value;
use teahouse_core::view;
use teahouse_node::client::Client;
use teahouse_node::config;
use teahouse_protocols::ids::TopicId;
use tempfile::TempDir;

use crate::binary::teahouse;

/// How long anything may take before it counts as broken: much longer than it takes, because
/// tests run beside each other on small machines.
pub(crate) const SOON: Duration = Duration::from_mins(1);

/// Asks again and again until there is an answer; a test that waits in vain says for what.
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    within(SOON, what, &mut ask)
}

/// As [`until`], with a deadline of one's own.
pub(crate) fn within<T>(time: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + time;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "waited {time:?} in vain: {what}");
        thread::sleep(Duration::from_millis(25));
    }
}

/// A folder for a test's folders, kept when the test fails.
pub(crate) struct Home(Option<TempDir>);

impl Home {
    pub(crate) fn new() -> Self {
        Self(Some(tempfile::tempdir().expect("a temporary folder")))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.as_ref().expect("there until dropped").path()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if thread::panicking()
            && let Some(dir) = self.0.take()
        {
            eprintln!("folders and logs are kept in {}", dir.keep().display());
        }
    }
}

/// A data folder, and the process that runs on it while one does.
///
/// The process stays in the test's process group, so that ctrl-c and a test runner's timeout
/// reach it; dropping kills it.
pub(crate) struct Node {
    name: String,
    pub(crate) dir: PathBuf,
    /// What the process wrote, over all its lives.
    pub(crate) log: PathBuf,
    run: Vec<String>,
    lossy: bool,
    /// Value of `RUST_LOG`.
    pub(crate) logs: &'static str,
    /// A command that runs the program as its last arguments.
    pub(crate) under: Vec<String>,
    child: Option<Child>,
}

impl Node {
    /// A person's device, without an account yet.
    pub(crate) fn device(home: &Home, name: &str) -> Self {
        // Without IPv6 and mDNS: whatever else runs on this machine is not met.
        let run = ["run", "--no-mdns", "--listen", "/ip4/127.0.0.1/udp/0/quic-v1"];
        Self::new(home, name, run.map(str::to_owned).to_vec())
    }

    /// A relay, at the same address in all its lives.
    pub(crate) fn relay(home: &Home, name: &str) -> Self {
        let port = free_port();
        let mut run = ["run", "--role", "relay"].map(str::to_owned).to_vec();
        for addr in [format!("udp/{port}/quic-v1"), format!("tcp/{port}")] {
            run.extend(["--listen".to_owned(), format!("/ip4/127.0.0.1/{addr}")]);
        }
        Self::new(home, name, run)
    }

    /// A shop's device, at the same address in all its lives. Over TCP the system tells its
    /// customers at once when it has died; QUIC would wait for ten seconds of silence.
    pub(crate) fn merchant(home: &Home, name: &str) -> Self {
        let listen = format!("/ip4/127.0.0.1/tcp/{}", free_port());
        let run = ["run", "--role", "merchant", "--no-mdns", "--listen", &listen];
        Self::new(home, name, run.map(str::to_owned).to_vec())
    }

    fn new(home: &Home, name: &str, run: Vec<String>) -> Self {
        Self {
            name: name.to_owned(),
            dir: home.path().join(name),
            log: home.path().join(format!("{name}.log")),
            run,
            lossy: false,
            logs: "warn",
            under: Vec::new(),
            child: None,
        }
    }

    /// On a disk that forgets what was not synced when the process dies.
    pub(crate) fn lossy(mut self) -> Self {
        self.lossy = true;
        self
    }

    /// With an account by its own name.
    pub(crate) fn with_account(self, name: &str) -> Self {
        self.json(&["init", "--name", name, "--device", "laptop"]);
        self
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = match self.under.split_first() {
            None => Command::new(teahouse()),
            Some((program, before)) => {
                let mut command = Command::new(program);
                command.args(before).arg(teahouse());
                command
            }
        };
        command.arg("--data").arg(&self.dir).args(arguments).env("RUST_LOG", self.logs);
        for unset in ["TEAHOUSE_DATA", "RUST_BACKTRACE", "RUST_LIB_BACKTRACE"] {
            command.env_remove(unset);
        }
        command.env_remove(config::LOSSY_DISK);
        if self.lossy {
            command.env(config::LOSSY_DISK, "1");
        }
        command.stdin(Stdio::null());
        command
    }

    /// Starts the process and waits for nothing.
    pub(crate) fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let log = log.expect("a log file");
        let also = log.try_clone().expect("a second handle");
        let run: Vec<&str> = self.run.iter().map(String::as_str).collect();
        let child = self.command(&run).stdout(log).stderr(also).spawn();
        self.child = Some(child.expect("the process starts"));
    }

    /// Starts the process and waits until it answers.
    pub(crate) fn up(&mut self) {
        self.start();
        self.answers();
    }

    /// Waits until the process that was started answers.
    pub(crate) fn answers(&mut self) {
        let what = format!("{} answers", self.name);
        until(&what, || {
            if let Some(status) = self.ended() {
                panic!("{} ended by itself ({status}):\n{}", self.name, self.last_words());
            }
            let api = config::api_file(&self.dir).ok().flatten()?;
            // Not a file left over from an earlier life.
            (Some(api.pid) == self.pid()).then_some(())?;
            Client::attach(&self.dir).ok().flatten().map(drop)
        });
    }

    /// SIGKILL, now.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // A process that has ended already is as dead.
            let _ = child.kill();
            child.wait().expect("it was started");
        }
    }

    /// Asks the process to stop, and waits until it has, without an error.
    pub(crate) fn stop(&mut self) {
        let pid = self.pid().expect("it runs").to_string();
        let told = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(told.is_ok_and(|status| status.success()), "no signal was sent");
        let status = until(&format!("{} stops", self.name), || self.ended());
        assert!(status.success(), "{} stopped with {status}:\n{}", self.name, self.last_words());
        self.child = None;
    }

    pub(crate) fn is_up(&self) -> bool {
        self.child.is_some()
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// How the process ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().and_then(|child| child.try_wait().expect("it was started"))
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Runs a command of the program on this folder, whatever comes of it. One that does not
    /// end is killed, and the test fails.
    pub(crate) fn tell(&self, arguments: &[&str]) -> Output {
        let mut out = tempfile::tempfile().expect("a temporary file");
        let mut err = tempfile::tempfile().expect("a temporary file");
        let copy = |file: &File| file.try_clone().expect("a second handle");
        let mut command = self.command(arguments);
        let child = command.stdout(copy(&out)).stderr(copy(&err)).spawn();
        let mut child = child.expect("the program starts");
        let end = Instant::now() + SOON;
        let status = loop {
            if let Some(status) = child.try_wait().expect("it was started") {
                break status;
            }
            if Instant::now() > end {
                let _ = child.kill();
                let _ = child.wait();
                panic!("teahouse {arguments:?} does not end");
            }
            thread::sleep(Duration::from_millis(5));
        };
        let read = |file: &mut File| {
            file.seek(SeekFrom::Start(0)).expect("a file can be rewound");
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(file, &mut bytes).expect("a file can be read");
            bytes
        };
        Output { status, stdout: read(&mut out), stderr: read(&mut err) }
    }

    /// Runs a command that has to succeed, and reads its answer.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let with: Vec<&str> = std::iter::once("--json").chain(arguments.iter().copied()).collect();
        let output = self.tell(&with);
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {arguments:?}: {}: {err}", self.name, output.status);
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|e| panic!("{arguments:?} answers no JSON ({e}): {err}"))
    }

    /// As [`Node::json`], as a type.
    pub(crate) fn read<T: DeserializeOwned>(&self, arguments: &[&str]) -> T {
        serde_json::from_value(self.json(arguments)).expect("the type that the command answers")
    }

    /// The API of the running process.
    pub(crate) fn client(&self) -> Client {
        Client::attach(&self.dir).expect("the folder can be read").expect("the process answers")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that is free for TCP and UDP, outside of what outgoing connections use.
fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().expect("no test panics here");
    // Tests that are processes of their own begin at different places.
    let first = 10_000 + (std::process::id() % 20_000) as u16;
    let mut all = (first..32_000).chain(10_000..first);
    let free = all.find(|port| {
        let at = ("127.0.0.1", *port);
        !given.contains(port) && TcpListener::bind(at).is_ok() && UdpSocket::bind(at).is_ok()
    });
    let port = free.expect("a free port");
    given.insert(port);
    port
}

/// A text in an answer.
pub(crate) fn text(value: &Value, pointer: &str) -> String {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or_else(|| panic!("no {pointer} in {value}")).to_owned()
}

/// A link by which devices come to use the relay.
pub(crate) fn invite(relay: &Node) -> String {
    text(&relay.json(&["relay", "invite"]), "/link")
}

/// Lets a running device use a relay, and waits until it has tokens and mailboxes there.
pub(crate) fn use_relay(node: &Node, link: &str) {
    node.json(&["relay", "use", link]);
    until("the relay knows the device", || {
        let all: Vec<view::Relay> = node.read(&["relay", "list"]);
        let relay = all.first()?;
        (relay.tokens > 0 && relay.tags > 0 && relay.trouble.is_empty()).then_some(())
    });
}

/// Waits until nothing of the running device waits to be stored at its relay.
pub(crate) fn deposited(node: &Node) {
    until("the relay has everything", || {
        let all: Vec<view::Relay> = node.read(&["relay", "list"]);
        let relay = all.first()?;
        (relay.waiting == 0 && relay.last_answer.is_some()).then_some(())
    });
}

/// The active direct chat with a contact.
pub(crate) fn active_chat(node: &Node, with: &str) -> TopicId {
    until(&format!("the chat with {with} opens"), || {
        let chats: Vec<view::Chat> = node.read(&["chats"]);
        let chat = chats.into_iter().find(|c| c.title == with)?;
        (chat.state == view::ChatState::Active).then_some(chat.topic)
    })
}

/// Two running devices become contacts; gives their chat.
pub(crate) fn befriend(asks: &Node, name: &str, asked: &Node, greeting: &str) -> TopicId {
    let card = text(&asked.json(&["card"]), "/link");
    asks.json(&["add", &card, "--greeting", greeting]);
    let request = until("the request arrives", || {
        let all: Vec<view::Contact> = asked.read(&["requests"]);
        all.into_iter().find(|c| c.name == name)
    });
    assert_eq!(request.greeting, greeting);
    asked.json(&["requests", "accept", name]);
    let topic = active_chat(asked, name);
    until("both have the chat", || {
        let chats: Vec<view::Chat> = asks.read(&["chats"]);
        chats.iter().find(|c| c.topic == topic && c.state == view::ChatState::Active).map(drop)
    });
    topic
}

/// The texts of a chat, oldest first, without marking them as read.
pub(crate) fn texts(node: &Node, chat: &str) -> Vec<String> {
    let all: Vec<view::Message> = node.read(&["read", chat, "--peek", "--limit", "1000"]);
    all.into_iter()
        .map(|m| match m.content {
            view::Content::Text(text) => text,
            other => format!("{other:?}"),
        })
        .collect()
}
