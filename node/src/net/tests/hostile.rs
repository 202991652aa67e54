//! A peer that speaks libp2p well and our protocol badly.

use std::io;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::StreamProtocol;
use libp2p::request_response::{self, Codec, Event, Message, ProtocolSupport};
use libp2p::swarm::SwarmEvent;
use libp2p::{PeerId, Swarm};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::super::behaviour::swarm_config;
use super::super::codec::FRAMES;
use super::super::transport::direct;
use super::*;

/// Writes any bytes as a request and reads at most one byte as the response.
#[derive(Clone, Default)]
struct Raw;

impl Codec for Raw {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Option<u8>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, _: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        Ok(Vec::new())
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Option<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        let mut byte = [0];
        let read = io.read(&mut byte).await?;
        Ok((read == 1).then_some(byte[0]))
    }

    async fn write_request<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        r: Vec<u8>,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&r).await
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        _: &mut T,
        _: Option<u8>,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        Ok(())
    }
}

struct Hostile {
    swarm: Swarm<request_response::Behaviour<Raw>>,
    target: PeerId,
    addr: String,
}

impl Hostile {
    fn new(target: &Node) -> Self {
        let keypair = Keypair::ed25519_from_bytes([66; 32]).unwrap();
        let protocols = [(FRAMES, ProtocolSupport::Outbound)];
        let config = request_response::Config::default();
        let behaviour = request_response::Behaviour::new(protocols, config);
        let transport = direct(&keypair).unwrap();
        let me = keypair.public().to_peer_id();
        let config = swarm_config(Duration::from_mins(1));
        Self {
            swarm: Swarm::new(transport, behaviour, me, config),
            target: super::super::key::peer_id(&target.key).unwrap(),
            addr: target.addrs[0].clone(),
        }
    }

    /// Sends bytes as a request; the byte that came back, if any.
    async fn ask(&mut self, bytes: Vec<u8>) -> Option<u8> {
        let addr = vec![self.addr.parse().unwrap()];
        let behaviour = self.swarm.behaviour_mut();
        behaviour.send_request_with_addresses(&self.target, bytes, addr);
        let answer = async {
            loop {
                match self.swarm.select_next_some().await {
                    SwarmEvent::Behaviour(Event::Message {
                        message: Message::Response { response, .. },
                        ..
                    }) => return response,
                    SwarmEvent::Behaviour(Event::OutboundFailure { .. }) => return None,
                    _ => {}
                }
            }
        };
        timeout(PATIENCE, answer).await.expect("the stream ends")
    }
}

fn batch(numbers: [u64; 4], length: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

fn body(frames: &[&[u8]]) -> Vec<u8> {
    let lengths = frames.iter().map(|f| (f.len() as u32).to_le_bytes());
    lengths.zip(frames).flat_map(|(l, f)| [l.to_vec(), f.to_vec()].concat()).collect()
}

fn honest(numbers: [u64; 4], frames: &[&[u8]]) -> Vec<u8> {
    let body = body(frames);
    batch(numbers, body.len() as u32, &body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_closes_its_stream_and_harms_nothing() {
    let mut node = Node::device(1, &[QUIC]).await;
    let mut hostile = Hostile::new(&node);
    let start = [5, 0, 0, 0];
    let garbage = [
        vec![],
        vec![0; 31],
        // A length beyond the bound, and one that doesn't come.
        batch(start, u32::MAX, &[]),
        batch(start, (MAX_FRAME + 5_000) as u32, &[]),
        batch(start, 1_000, &[1; 999]),
        // Bodies that are empty, too short, or hold a frame of no length or of too much.
        batch(start, 0, &[]),
        batch(start, 3, &[1, 0, 0]),
        honest(start, &[b"fine", b""]),
        batch(start, 8, &[200, 0, 0, 0, 1, 2, 3, 4]),
        batch(start, 8, &[255, 255, 255, 255, 1, 2, 3, 4]),
        honest(start, &vec![&[1][..]; 1_025]),
        // Acknowledged beyond itself.
        honest([5, 0, 1, 2], &[b"x"]),
    ];
    for bytes in garbage {
        assert_eq!(hostile.ask(bytes).await, None);
    }
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for _ in 0..100 {
        let mut noise = vec![0; rng.next_u32() as usize % 2_000];
        rng.fill_bytes(&mut noise);
        assert_eq!(hostile.ask(noise).await, None);
    }
    // The same peer's honest batch arrives, and nothing arrived before it.
    let send = hostile.ask(honest(start, &[b"one", b"two"]));
    let (answer, first) = tokio::join!(send, async {
        let first = node.frame().await;
        assert_eq!(node.frame().await, b"two");
        first
    });
    assert_eq!((answer, first), (Some(0), b"one".to_vec()));

    // The middle of a session that nobody knows; a batch too far ahead; a duplicate.
    assert_eq!(hostile.ask(honest([6, 0, 9, 9], &[b"x"])).await, Some(2));
    assert_eq!(hostile.ask(honest([5, 0, 1_000, 0], &[b"x"])).await, Some(1));
    assert_eq!(hostile.ask(honest(start, &[b"one", b"two"])).await, Some(0));
    let restarted = hostile.ask(honest([7, 0, 0, 0], &[b"new"]));
    let (answer, ()) = tokio::join!(restarted, async {
        let peer = DeviceId(key(66));
        assert_eq!(node.next().await, NetEvent::Down { peer });
        assert_eq!(node.next().await, NetEvent::Up { peer, relayed: false });
        assert_eq!(node.next().await, NetEvent::Frame { peer, bytes: b"new".to_vec() });
    });
    assert_eq!(answer, Some(0));
}
