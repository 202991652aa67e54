//! `run`: the long-lived process.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use serde_json::json;
use teahouse_core::pay::query::Issued;
use teahouse_core::query::Query as _;

use super::Global;
use super::session;
use super::show::{json_line, line};
use crate::config::{self, Role};
use crate::roles;
use crate::roles::relay::{PORT, RelayOptions, public_addrs};
use crate::runtime::{NetworkConfig, NodeConfig, default_listen};

/// Run a node until stopped (ctrl-c or SIGTERM).
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  teahouse run
  teahouse run --listen /ip4/0.0.0.0/udp/4001/quic-v1
  teahouse run --role merchant
  teahouse run --role relay --name 'Old Street' --public-addr tea.example

A relay listens on port 4747 (UDP and TCP) unless told otherwise, and remembers name,
public addresses and quotas. Its data lies in the folder `relay` inside the data folder.
The local API's port and token stand in api.json in the data folder.")]
pub(super) struct Run {
    /// What to run
    #[arg(long, value_enum, default_value = "device")]
    role: What,
    /// Multiaddress to listen on (may be repeated) [default: all interfaces, QUIC and TCP]
    #[arg(long, value_name = "ADDR")]
    listen: Vec<String>,
    /// Port of the local API [default: any]
    #[arg(long, value_name = "PORT", default_value_t = 0, hide_default_value = true)]
    api: u16,
    /// Neither look for peers on the local network nor be found there
    #[arg(long)]
    no_mdns: bool,
    /// (relay) The community's name
    #[arg(long)]
    name: Option<String>,
    /// (relay) Host name, IP address or multiaddress under which others reach it (may be repeated)
    #[arg(long, value_name = "ADDR")]
    public_addr: Vec<String>,
    /// (relay) Days that messages are kept
    #[arg(long, value_name = "N")]
    keep_days: Option<u16>,
    /// (relay) Most megabytes stored altogether
    #[arg(long, value_name = "MB")]
    max_mb: Option<u64>,
}

/// What is run. A merchant's node is a device's that keeps a shop's books as well
/// (`teahouse merchant open`): the same folder, told with the shop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    Device,
    Merchant,
    Relay,
}

impl Run {
    pub(super) fn execute(self, global: &Global) -> Result<()> {
        let runtime = session::runtime()?;
        match self.role {
            What::Device | What::Merchant => runtime.block_on(self.device(global)),
            What::Relay => runtime.block_on(self.relay(global)),
        }
    }

    async fn device(self, global: &Global) -> Result<()> {
        let only_relay = self.name.is_some()
            || !self.public_addr.is_empty()
            || self.keep_days.is_some()
            || self.max_mb.is_some();
        if only_relay {
            bail!("--name, --public-addr, --keep-days and --max-mb are for --role relay");
        }
        let merchant = self.role == What::Merchant;
        let data = global.data(Role::Device)?;
        let listen = if self.listen.is_empty() { default_listen(0) } else { self.listen };
        let network = Some(NetworkConfig { listen, mdns: !self.no_mdns });
        let store = config::store_options(global.lossy_disk);
        let config = NodeConfig { data: data.clone(), store, network };
        roles::device::run(config, self.api, |node, port| {
            let status = node.handle().status();
            if global.json {
                let started = json!({ "role": "device", "api_port": port, "node": status });
                let _ = json_line(&started);
                return;
            }
            let _ = line(format!("Running on {} (API on 127.0.0.1:{port}).", data.display()));
            if status.account.is_none() {
                let _ = line("No account yet: `teahouse init`, or `teahouse device join CODE`.");
            }
            if merchant {
                let issued = node.handle().query(|s| Issued {}.run(s)).unwrap_or_default();
                if issued.is_empty() {
                    let _ = line("No shop yet: `teahouse merchant open --currency EUR --name …`.");
                }
                for money in issued {
                    let _ =
                        line(format!("The shop “{}” is open ({}).", money.name, money.currency));
                }
            }
        })
        .await?;
        Ok(())
    }

    async fn relay(self, global: &Global) -> Result<()> {
        let data = global.data(Role::Relay)?;
        config::prepare(&data, Role::Relay)?;
        let mut settings = config::relay_file(&data)?;
        if let Some(name) = self.name {
            if name.is_empty() || name.len() > 64 {
                bail!("a community's name has 1 to 64 bytes");
            }
            settings.name = name;
        }
        if !self.public_addr.is_empty() {
            let addrs: Result<Vec<_>, _> =
                self.public_addr.iter().map(|a| public_addrs(a, PORT)).collect();
            settings.public_addrs = addrs?.concat();
        }
        settings.keep_days = self.keep_days.unwrap_or(settings.keep_days);
        settings.max_bytes =
            self.max_mb.map_or(settings.max_bytes, |mb| mb.saturating_mul(1 << 20));
        let listen = if self.listen.is_empty() { default_listen(PORT) } else { self.listen };
        let (ports, public) = (ports(&listen), settings.public_addrs.clone());
        let options = RelayOptions {
            data: data.clone(),
            store: config::store_options(global.lossy_disk),
            listen: Some(listen),
            settings,
        };
        roles::relay::run(options, self.api, |relay, port| {
            let view = relay.handle().status();
            if global.json {
                let started = json!({ "role": "relay", "api_port": port, "relay": view });
                let _ = json_line(&started);
                return;
            }
            let _ = line(format!("Relay “{}” on {} (API on 127.0.0.1:{port}).", view.name, data.display()));
            if !ports.is_empty() {
                let _ = line(format!("It listens on {ports}: open that in firewall and router."));
            }
            for addr in &public {
                let _ = line(format!("Others reach it at {addr}."));
            }
            if public.is_empty() {
                let _ = line("Invite links name its local addresses; give --public-addr to be reached from elsewhere.");
            }
            let _ = line("Newcomers: teahouse relay invite");
        })
        .await?;
        Ok(())
    }
}

/// The ports that are listened on, in words; empty where the system chooses them.
fn ports(listen: &[String]) -> String {
    let mut kinds: BTreeMap<u16, BTreeSet<&str>> = BTreeMap::new();
    for addr in listen {
        let parts: Vec<&str> = addr.split('/').collect();
        for pair in parts.windows(2) {
            let kind = match pair[0] {
                "tcp" => "TCP",
                "udp" => "UDP",
                _ => continue,
            };
            if let Some(port) = pair[1].parse().ok().filter(|port| *port != 0) {
                kinds.entry(port).or_default().insert(kind);
            }
        }
    }
    let words = kinds.into_iter().map(|(port, kinds)| {
        let kinds: Vec<&str> = kinds.into_iter().collect();
        format!("{} port {port}", kinds.join(" and "))
    });
    words.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_told() {
        assert_eq!(ports(&default_listen(4747)), "TCP and UDP port 4747");
        assert_eq!(ports(&default_listen(0)), "");
        let both = ["/ip4/0.0.0.0/tcp/80".to_owned(), "/ip6/::/udp/443/quic-v1".to_owned()];
        assert_eq!(ports(&both), "TCP port 80, UDP port 443");
    }
}
