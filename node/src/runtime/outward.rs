//! From the core's thread to the network, without ever waiting there: a task that does the
//! waiting. Mail waits in a bounded queue; of the wanted peers only the newest version
//! matters.

use std::collections::BTreeSet;

use teahouse_core::{MailOut, Peers};
use teahouse_protocols::account::RelayAddr;
use teahouse_protocols::ids::{DeviceId, RelayId};
use tokio::sync::{mpsc, watch};

use crate::net::{CommandError, NetCommand, NetHandle};

/// Mailbox requests waiting at most.
const MAIL: usize = 256;

/// The core thread's end.
pub(super) struct Outward {
    mail: mpsc::Sender<MailOut>,
    peers: watch::Sender<Peers>,
}

impl Outward {
    /// Starts the task on the current tokio runtime. It ends when this is dropped, or when
    /// the network stops.
    pub(super) fn start(runtime: &tokio::runtime::Handle, net: NetHandle) -> Self {
        let (mail, mail_queue) = mpsc::channel(MAIL);
        let (peers, wanted) = watch::channel(Peers::default());
        runtime.spawn(async move {
            // The network has stopped: nothing left to do.
            let _ = forward(net, mail_queue, wanted).await;
        });
        Self { mail, peers }
    }

    /// Hands a request on, or gives its id back: too many wait.
    pub(super) fn mail(&self, mail: MailOut) -> Result<(), u64> {
        self.mail.try_send(mail).map_err(|e| e.into_inner().id)
    }

    pub(super) fn peers(&self, peers: Peers) {
        self.peers.send_replace(peers);
    }
}

async fn forward(
    net: NetHandle,
    mut mail: mpsc::Receiver<MailOut>,
    mut wanted: watch::Receiver<Peers>,
) -> Result<(), CommandError> {
    let mut last = Peers::default();
    loop {
        tokio::select! {
            changed = wanted.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                let peers = wanted.borrow_and_update().clone();
                for command in difference(&last, &peers) {
                    net.command(command).await?;
                }
                last = peers;
            }
            out = mail.recv() => {
                let Some(MailOut { id, relay, addrs, request }) = out else { return Ok(()) };
                net.command(NetCommand::Mail { id, relay, addrs, request }).await?;
            }
        }
    }
}

/// What the network has to be told so that it knows `next` where it knew `last`.
fn difference(last: &Peers, next: &Peers) -> Vec<NetCommand> {
    let mut commands = Vec::new();
    let known = |p: &Peers| -> BTreeSet<DeviceId> { p.wanted.keys().copied().collect() };
    if known(last) != known(next) {
        commands.push(NetCommand::SetKnown(known(next)));
    }
    if last.relays != next.relays {
        commands.push(NetCommand::UseRelays(plain(&next.relays)));
    }
    let peers: BTreeSet<_> = next.wanted.keys().chain(next.direct.keys()).collect();
    for peer in peers {
        let (relays, addrs) = (next.wanted.get(peer), next.direct.get(peer));
        if (relays, addrs) != (last.wanted.get(peer), last.direct.get(peer)) {
            commands.push(NetCommand::Dial {
                peer: *peer,
                addrs: addrs.cloned().unwrap_or_default(),
                relays: plain(relays.map_or(&[], Vec::as_slice)),
            });
        }
    }
    commands
}

fn plain(relays: &[RelayAddr]) -> Vec<(RelayId, Vec<String>)> {
    relays.iter().map(|r| (r.id, r.addrs.iter().map(|a| (**a).to_owned()).collect())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(wanted: &[u8], direct: &[(u8, &str)]) -> Peers {
        Peers {
            wanted: wanted.iter().map(|&d| (DeviceId([d; 32]), Vec::new())).collect(),
            direct: direct.iter().map(|&(d, a)| (DeviceId([d; 32]), vec![a.to_owned()])).collect(),
            relays: Vec::new(),
        }
    }

    #[test]
    fn only_what_changed_is_told() {
        let (none, one) = (peers(&[], &[]), peers(&[1], &[(1, "/ip4/10.0.0.1/tcp/1")]));
        assert!(difference(&one, &one).is_empty());
        let told = difference(&none, &one);
        let [NetCommand::SetKnown(known), NetCommand::Dial { peer, addrs, .. }] = &told[..] else {
            panic!("{told:?}")
        };
        assert!(known.contains(&DeviceId([1; 32])));
        assert_eq!((*peer, addrs.len()), (DeviceId([1; 32]), 1));

        let told = difference(&one, &peers(&[1, 2], &[(1, "/ip4/10.0.0.1/tcp/1")]));
        let dialled: Vec<_> = told
            .iter()
            .filter_map(|c| if let NetCommand::Dial { peer, .. } = c { Some(*peer) } else { None })
            .collect();
        assert_eq!(dialled, [DeviceId([2; 32])]);
    }
}
