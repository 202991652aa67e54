//! What the swarm speaks, by role.

use std::num::NonZeroU32;
use std::time::Duration;

use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::request_response::{self, ProtocolSupport};
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::{self, NetworkBehaviour};
use libp2p::{Swarm, autonat, dcutr, identify, mdns, memory_connection_limits, ping, relay};

use super::codec::{Budget, FRAMES, FrameCodec, MAIL, MailCodec};
use super::gate::{Gate, Limits};
use super::transport;
use super::{NetError, NetRole, RelayLimits};

/// Bytes that inbound bodies may occupy, from their first byte until the consumer has
/// them.
const BUDGET: usize = 64 << 20;

/// Share of the machine's memory beyond which no connection is opened or accepted.
const MEMORY_SHARE: f64 = 0.9;

/// How long a connection without streams lives, unless its peer is known.
const IDLE: Duration = Duration::from_mins(2);

/// How long a batch waits for its answer before it is sent again. A stopped consumer
/// costs its peers one resend per this time.
const FRAME_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a mailbox request waits for its answer.
const MAIL_TIMEOUT: Duration = Duration::from_mins(1);

/// Most mailbox requests in flight on one connection.
pub(super) const MAIL_STREAMS: usize = 8;

/// Most frame streams of one connection: a window each way, twice, because one side may
/// have an answer before the other counts its stream as finished.
const FRAME_STREAMS: usize = 4 * super::session::WINDOW;

/// Everything the main swarm speaks.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    // First, so that what it refuses costs nothing further.
    pub(super) gate: Gate,
    memory: memory_connection_limits::Behaviour,
    pub(super) frames: Toggle<request_response::Behaviour<FrameCodec>>,
    pub(super) mail: Toggle<request_response::Behaviour<MailCodec>>,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    relay_client: relay::client::Behaviour,
    relay_server: Toggle<relay::Behaviour>,
    dcutr: Toggle<dcutr::Behaviour>,
    autonat_client: Toggle<autonat::v2::client::Behaviour>,
    autonat_server: Toggle<autonat::v2::server::Behaviour>,
    mdns: Toggle<mdns::tokio::Behaviour>,
}

/// Puts a swarm together.
pub(super) fn swarm(
    key: &Keypair,
    role: &NetRole,
    mdns: bool,
) -> Result<Swarm<Behaviour>, NetError> {
    let (transport, relay_client) = transport::with_circuits(key)?;
    let me = key.public().to_peer_id();
    let budget = Budget::new(BUDGET);
    let (device, relay) = match role {
        NetRole::Device => (true, None),
        NetRole::Relay(limits) => (false, Some(limits)),
    };
    let mdns = (mdns && device).then(|| mdns::tokio::Behaviour::new(mdns::Config::default(), me));
    let mdns = mdns.transpose().map_err(|e| NetError::Setup {
        what: "discovery on the local network",
        why: e.to_string(),
    })?;
    let behaviour = Behaviour {
        gate: Gate::new(gate_limits(relay)),
        memory: memory_connection_limits::Behaviour::with_max_percentage(MEMORY_SHARE),
        frames: device.then(|| frames(budget.clone())).into(),
        mail: relay.map(|_| mail_server(budget)).into(),
        // Says no more than the protocol needs: no version, and no addresses but those
        // that were confirmed from outside.
        identify: identify::Behaviour::new(
            identify::Config::new("/teahouse/1".to_owned(), key.public())
                .with_agent_version("teahouse".to_owned())
                .with_hide_listen_addrs(true)
                // Whom to dial where is the core's knowledge, not a stranger's claim.
                .with_cache_size(0),
        ),
        ping: ping::Behaviour::new(ping::Config::new().with_interval(Duration::from_secs(30))),
        relay_client,
        relay_server: relay.map(|l| relay::Behaviour::new(me, relay_config(l))).into(),
        dcutr: device.then(|| dcutr::Behaviour::new(me)).into(),
        autonat_client: device.then(autonat::v2::client::Behaviour::default).into(),
        autonat_server: relay.map(|_| autonat::v2::server::Behaviour::default()).into(),
        mdns: mdns.into(),
    };
    Ok(Swarm::new(transport, behaviour, me, swarm_config(IDLE)))
}

/// The swarm's settings, shared with the mailbox client.
pub(super) fn swarm_config(idle: Duration) -> swarm::Config {
    swarm::Config::with_tokio_executor()
        .with_idle_connection_timeout(idle)
        // A stream's first bytes travel with the proposal of its protocol: one round trip
        // less for every request.
        .with_substream_upgrade_protocol_override(Version::V1Lazy)
        .with_smart_dial()
}

fn gate_limits(relay: Option<&RelayLimits>) -> Limits {
    relay.map_or(Limits { pending_inbound: 128, strangers: 64, per_peer: 8 }, |limits| Limits {
        pending_inbound: 1_024,
        strangers: limits.connections,
        per_peer: 8,
    })
}

fn frames(budget: Budget) -> request_response::Behaviour<FrameCodec> {
    let config = request_response::Config::default()
        .with_request_timeout(FRAME_TIMEOUT)
        .with_max_concurrent_streams(FRAME_STREAMS);
    let protocols = [(FRAMES, ProtocolSupport::Full)];
    request_response::Behaviour::with_codec(FrameCodec(budget), protocols, config)
}

fn mail_server(budget: Budget) -> request_response::Behaviour<MailCodec> {
    let config = request_response::Config::default()
        .with_request_timeout(MAIL_TIMEOUT)
        .with_max_concurrent_streams(2 * MAIL_STREAMS);
    let protocols = [(MAIL, ProtocolSupport::Inbound)];
    request_response::Behaviour::with_codec(MailCodec(Some(budget)), protocols, config)
}

/// The asking side of the mailbox protocol, for a swarm of its own.
pub(super) fn mail_client() -> request_response::Behaviour<MailCodec> {
    let config = request_response::Config::default()
        .with_request_timeout(MAIL_TIMEOUT)
        .with_max_concurrent_streams(MAIL_STREAMS);
    let protocols = [(MAIL, ProtocolSupport::Outbound)];
    request_response::Behaviour::with_codec(MailCodec(None), protocols, config)
}

/// libp2p's defaults end a circuit after 2 minutes or 128 KiB, and count attempts per IP
/// address, which hurts people behind one carrier's NAT: here they count per peer.
fn relay_config(limits: &RelayLimits) -> relay::Config {
    const MINUTE: Duration = Duration::from_mins(1);
    const RESERVATIONS: NonZeroU32 = NonZeroU32::new(30).expect("not zero");
    const CIRCUITS: NonZeroU32 = NonZeroU32::new(120).expect("not zero");
    relay::Config {
        max_reservations: limits.reservations,
        max_reservations_per_peer: 4,
        reservation_duration: 60 * MINUTE,
        reservation_rate_limiters: Vec::new(),
        max_circuits: limits.circuits,
        max_circuits_per_peer: limits.circuits_per_peer,
        max_circuit_duration: Duration::from_secs(limits.circuit_seconds.into()),
        max_circuit_bytes: limits.circuit_bytes,
        circuit_src_rate_limiters: Vec::new(),
    }
    .reservation_rate_per_peer(RESERVATIONS, MINUTE)
    .circuit_src_per_peer(CIRCUITS, MINUTE)
}
