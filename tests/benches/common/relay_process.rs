//! A relay as a process of its own: the `teahouse` binary, built if need be.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use libp2p::identity::{PublicKey, ed25519};
use libp2p::{Multiaddr, PeerId};
use teahouse_node::api::Invited;
use teahouse_node::client::Client;
use teahouse_protocols::ids::RelayId;
use teahouse_protocols::link::{Link, RelayInvite};

/// A running relay. Stopped when dropped.
pub(crate) struct RelayProcess {
    child: Child,
    client: Client,
}

/// What a stranger learns from an invite link.
pub(crate) struct Invitation {
    pub(crate) relay: RelayId,
    pub(crate) peer: PeerId,
    pub(crate) addr: Multiaddr,
    pub(crate) code: [u8; 16],
}

/// The release binary beside this bench, made by cargo if it is missing or out of date.
fn binary() -> Result<PathBuf> {
    let bench = std::env::current_exe()?;
    let folder = bench.parent().and_then(Path::parent).context("no target folder")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--quiet", "--release", "--package", "teahouse-node", "--bin", "teahouse"])
        .arg("--target-dir")
        .arg(folder.parent().context("no target folder")?)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .status();
    let binary = folder.join("teahouse");
    if built.is_ok_and(|s| s.success()) || binary.exists() {
        Ok(binary)
    } else {
        bail!("there is no {}, and cargo can't make it", binary.display())
    }
}

impl RelayProcess {
    /// Starts one on loopback.
    pub(crate) fn start(dir: &Path) -> Result<Self> {
        let mut child = Command::new(binary()?)
            .arg("--data")
            .arg(dir)
            .args(["--json", "run", "--role", "relay"])
            .args(["--listen", "/ip4/127.0.0.1/udp/0/quic-v1"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let out = child.stdout.take().context("its output")?;
        let mut ready = String::new();
        BufReader::new(out).read_line(&mut ready)?;
        ensure!(!ready.is_empty(), "the relay did not start");
        let client = Client::attach(dir)?.context("the relay does not answer")?;
        Ok(Self { child, client })
    }

    /// Its process.
    pub(crate) fn pid(&self) -> String {
        self.child.id().to_string()
    }

    /// An invitation for so many.
    pub(crate) fn invite(&self, uses: usize) -> Result<Invitation> {
        let asked = serde_json::json!({ "uses": uses, "days": 1 });
        // Its address is known a moment after it has started.
        let mut tries = 0..100;
        let Invited { link } = loop {
            match self.client.post("/v1/relay/invite", &asked) {
                Ok(invited) => break invited,
                Err(e) if tries.next().is_none() => return Err(e.into()),
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        };
        let Link::RelayInvite(RelayInvite { relay, code, .. }) = Link::parse(&link)? else {
            bail!("not an invite link")
        };
        let key: PublicKey = ed25519::PublicKey::try_from_bytes(&relay.id.0)?.into();
        let addr = relay.addrs.first().context("an address")?.parse()?;
        Ok(Invitation { relay: relay.id, peer: key.to_peer_id(), addr, code: code.0 })
    }
}

impl Drop for RelayProcess {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
