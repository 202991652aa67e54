//! Real nodes on loopback: sockets, handshakes, circuits and mailboxes.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use libp2p::identity::Keypair;
use tokio::time::{sleep, timeout};

use super::*;

mod hostile;
mod relays;

/// Longer than anything should take on a busy machine, shorter than libp2p's own timeouts
/// where a test relies on not meeting them.
const PATIENCE: Duration = Duration::from_secs(25);

const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";
const TCP: &str = "/ip4/127.0.0.1/tcp/0";

fn key(seed: u8) -> [u8; 32] {
    let keypair = Keypair::ed25519_from_bytes([seed; 32]).unwrap();
    keypair.try_into_ed25519().unwrap().public().to_bytes()
}

struct Node {
    key: [u8; 32],
    handle: NetHandle,
    events: NetEvents,
    addrs: Vec<String>,
}

impl Node {
    async fn start(seed: u8, listen: &[&str], role: NetRole) -> Self {
        let config = || NetConfig {
            secret: Zeroizing::new([seed; 32]),
            listen: listen.iter().map(ToString::to_string).collect(),
            mdns: false,
            role: role.clone(),
        };
        // A QUIC socket outlives its swarm until its connections are drained.
        let deadline = Instant::now() + PATIENCE;
        let (handle, events) = loop {
            match super::start(config()) {
                Err(NetError::PortInUse { .. }) if Instant::now() < deadline => {
                    sleep(Duration::from_millis(50)).await;
                }
                started => break started.unwrap(),
            }
        };
        let mut node = Self { key: key(seed), handle, events, addrs: Vec::new() };
        while node.addrs.len() < listen.len() {
            let NetEvent::Listening { addr } = node.next().await else { continue };
            node.addrs.push(addr);
        }
        node
    }

    async fn device(seed: u8, listen: &[&str]) -> Self {
        Self::start(seed, listen, NetRole::Device).await
    }

    fn id(&self) -> DeviceId {
        DeviceId(self.key)
    }

    async fn command(&self, command: NetCommand) {
        self.handle.command(command).await.unwrap();
    }

    async fn dial(&self, other: &Self) {
        let (peer, addrs, relays) = (other.id(), other.addrs.clone(), Vec::new());
        self.command(NetCommand::Dial { peer, addrs, relays }).await;
    }

    async fn next(&mut self) -> NetEvent {
        let next = timeout(PATIENCE, self.events.recv()).await;
        next.expect("an event in time").expect("the network runs")
    }

    /// Skips events until one is `wanted`.
    async fn until<T>(&mut self, wanted: impl Fn(NetEvent) -> Option<T>) -> T {
        let search = async {
            loop {
                let event = self.events.recv().await.expect("the network runs");
                if let Some(found) = wanted(event) {
                    return found;
                }
            }
        };
        timeout(PATIENCE, search).await.expect("the event in time")
    }

    async fn until_event(&mut self, wanted: NetEvent) {
        self.until(|e| (e == wanted).then_some(())).await;
    }

    async fn until_up(&mut self, other: &Self) {
        self.until_event(NetEvent::Up { peer: other.id(), relayed: false }).await;
    }

    async fn frame(&mut self) -> Vec<u8> {
        self.until(|e| match e {
            NetEvent::Frame { bytes, .. } => Some(bytes),
            NetEvent::Down { .. } | NetEvent::SendFailed { .. } => panic!("{e:?}"),
            _ => None,
        })
        .await
    }

    async fn stop(mut self) {
        self.command(NetCommand::Shutdown).await;
        timeout(PATIENCE, async { while self.events.recv().await.is_some() {} }).await.unwrap();
    }
}

async fn pair(listen: &[&str]) -> (Node, Node) {
    let mut a = Node::device(1, listen).await;
    let mut b = Node::device(2, listen).await;
    a.dial(&b).await;
    a.until_up(&b).await;
    b.until_up(&a).await;
    (a, b)
}

fn numbered(n: u32) -> Vec<u8> {
    let mut frame = n.to_le_bytes().to_vec();
    frame.resize(4 + (n as usize * 7) % 300, n as u8);
    frame
}

/// Sends, waiting while the queue is full.
async fn send(handle: &NetHandle, peer: DeviceId, frame: Vec<u8>) {
    while handle.send(peer, frame.clone()) == Err(SendError::Full) {
        sleep(Duration::from_millis(1)).await;
    }
}

async fn exchange(listen: &[&str], count: u32) {
    let (a, b) = pair(listen).await;
    let (a_id, b_id) = (a.id(), b.id());
    let one_way = async |handle: NetHandle, peer, mut node: Node| {
        let sending = tokio::spawn(async move {
            for n in 0..count {
                send(&handle, peer, numbered(n)).await;
            }
        });
        for n in 0..count {
            assert_eq!(node.frame().await, numbered(n));
        }
        sending.await.unwrap();
        node
    };
    let (to_b, to_a) = (a.handle.clone(), b.handle.clone());
    // The nodes are kept until both directions are done.
    let _nodes = tokio::join!(one_way(to_b, b_id, b), one_way(to_a, a_id, a));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_frames_each_way_keep_their_order_over_quic() {
    exchange(&[QUIC], 10_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_keep_their_order_over_tcp() {
    exchange(&[TCP], 2_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_have_bounds() {
    let (a, mut b) = pair(&[QUIC]).await;
    let nobody = DeviceId(key(9));
    assert_eq!(a.handle.send(nobody, vec![1]), Err(SendError::NotConnected));
    assert_eq!(a.handle.send(b.id(), vec![]), Err(SendError::Length));
    assert_eq!(a.handle.send(b.id(), vec![0; MAX_FRAME + 1]), Err(SendError::Length));
    assert_eq!(a.handle.send(b.id(), vec![7; MAX_FRAME]), Ok(()));
    assert_eq!(a.handle.send(b.id(), vec![8]), Ok(()));
    assert!(b.frame().await == vec![7; MAX_FRAME]);
    assert_eq!(b.frame().await, [8]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_consumer_fills_the_queue_and_nothing_is_lost() {
    let (mut a, mut b) = pair(&[QUIC]).await;
    let frame = |n: u32| [vec![5; 20_000], n.to_le_bytes().to_vec()].concat();
    let mut sent = 0;
    // `b` takes nothing: windows and queues fill up, and then stay full.
    let deadline = Instant::now() + Duration::from_secs(1);
    while Instant::now() < deadline {
        match a.handle.send(b.id(), frame(sent)) {
            Ok(()) => sent += 1,
            Err(e) => {
                assert_eq!(e, SendError::Full);
                sleep(Duration::from_millis(20)).await;
            }
        }
    }
    // What is under way to `b` is part of what `a` is charged for.
    assert!(sent as usize * 20_000 <= MAX_QUEUED, "{sent} frames were taken");
    a.until_event(NetEvent::Full { peer: b.id() }).await;
    for n in 0..sent {
        assert_eq!(b.frame().await, frame(n));
    }
    a.until_event(NetEvent::Drained { peer: b.id() }).await;
    send(&a.handle, b.id(), frame(sent)).await;
    assert_eq!(b.frame().await, frame(sent));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_known_peer_that_went_away_is_dialled_again() {
    let mut a = Node::device(1, &[QUIC]).await;
    let mut b = Node::device(2, &[QUIC]).await;
    let b_id = b.id();
    a.command(NetCommand::SetKnown(BTreeSet::from([b_id]))).await;
    a.dial(&b).await;
    a.until_up(&b).await;
    b.until_up(&a).await;
    let addrs = b.addrs.clone();
    b.stop().await;
    a.until_event(NetEvent::Down { peer: b_id }).await;
    assert_eq!(a.handle.send(b_id, vec![1]), Err(SendError::NotConnected));

    let listen: Vec<_> = addrs.iter().map(String::as_str).collect();
    let mut b = Node::device(2, &listen).await;
    a.until_up(&b).await;
    b.until_up(&a).await;
    send(&a.handle, b_id, vec![3]).await;
    assert_eq!(b.frame().await, [3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_dialling_at_once_is_one_peer_and_one_connection_remains() {
    let mut a = Node::device(1, &[QUIC, TCP]).await;
    let mut b = Node::device(2, &[QUIC, TCP]).await;
    tokio::join!(a.dial(&b), b.dial(&a));
    a.until_up(&b).await;
    b.until_up(&a).await;
    let (a_id, b_id) = (a.id(), b.id());
    let started = Instant::now();
    let mut n = 0;
    // Longer than the time after which superfluous connections are closed.
    while started.elapsed() < Duration::from_millis(1_500) {
        send(&a.handle, b_id, numbered(n)).await;
        send(&b.handle, a_id, numbered(n)).await;
        assert_eq!(a.frame().await, numbered(n));
        assert_eq!(b.frame().await, numbered(n));
        n += 1;
        sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(a.handle.status().await.unwrap().connections.len(), 1);
    assert_eq!(b.handle.status().await.unwrap().connections.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_there_is_told() {
    let mut a = Node::device(1, &[QUIC]).await;
    let peer = DeviceId(key(9));
    let addrs = vec!["/ip4/127.0.0.1/tcp/1".to_owned(), "not an address".to_owned()];
    a.command(NetCommand::Dial { peer, addrs, relays: Vec::new() }).await;
    a.until_event(NetEvent::DialFailed { peer }).await;
    a.command(NetCommand::Dial { peer, addrs: Vec::new(), relays: Vec::new() }).await;
    a.until_event(NetEvent::DialFailed { peer }).await;
}

#[tokio::test]
async fn a_wrong_configuration_is_an_error() {
    let config = |listen: &str| NetConfig {
        secret: Zeroizing::new([1; 32]),
        listen: vec![listen.to_owned()],
        mdns: false,
        role: NetRole::Device,
    };
    assert!(matches!(super::start(config("nowhere")), Err(NetError::Address(_))));
    let unsupported = super::start(config("/ip4/127.0.0.1/sctp/1"));
    assert!(matches!(unsupported, Err(NetError::Listen { .. })));
}

/// Figures, not a check: `cargo nextest run -p teahouse-node --run-ignored only measure`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures"]
#[allow(clippy::cast_precision_loss)] // figures for people
async fn measure() {
    for (name, listen) in [("quic", QUIC), ("tcp", TCP)] {
        let (mut a, mut b) = pair(&[listen]).await;
        let (a_id, b_id) = (a.id(), b.id());
        let mut trips = Vec::new();
        for n in 0..2_000_u32 {
            let sent = Instant::now();
            send(&a.handle, b_id, numbered(n)).await;
            let echo = b.frame().await;
            send(&b.handle, a_id, echo).await;
            a.frame().await;
            trips.push(sent.elapsed());
        }
        trips.sort();
        let at = |p: usize| trips[trips.len() * p / 100];
        println!("{name}: round trip p50 {:?} p90 {:?} p99 {:?}", at(50), at(90), at(99));
        for (size, count) in
            [(100, 200_000_usize), (1_000, 50_000), (60_000, 2_000), (1_000_000, 200)]
        {
            let started = Instant::now();
            let handle = a.handle.clone();
            let sending = tokio::spawn(async move {
                for _ in 0..count {
                    send(&handle, b_id, vec![1; size]).await;
                }
            });
            for _ in 0..count {
                b.frame().await;
            }
            sending.await.unwrap();
            let seconds = started.elapsed().as_secs_f64();
            let (rate, mib) =
                (count as f64 / seconds, (count * size) as f64 / seconds / 1_048_576.0);
            println!("{name}: {count} × {size} B: {rate:.0} frames/s, {mib:.1} MiB/s");
        }
    }
}
