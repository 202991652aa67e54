//! Request and response over QUIC on loopback: `length u32 little-endian · bytes` both ways,
//! by libp2p alone. The floor's round trip, and the way of the relay bench's clients.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::core::upgrade::Version;
use libp2p::request_response::{self, Codec, Event, Message, ProtocolSupport};
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder};
use tokio::sync::{mpsc, oneshot};

const MAX: usize = 2 << 20;

type Asked = (Vec<u8>, oneshot::Sender<Result<Vec<u8>>>);

/// The codec.
#[derive(Clone, Default)]
pub(crate) struct Bytes;

async fn read<T: AsyncRead + Unpin + Send>(io: &mut T) -> io::Result<Vec<u8>> {
    let mut head = [0; 4];
    io.read_exact(&mut head).await?;
    let len = u32::from_le_bytes(head) as usize;
    if len > MAX {
        return Err(io::Error::other("too long"));
    }
    let mut bytes = vec![0; len];
    io.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn write<T: AsyncWrite + Unpin + Send>(io: &mut T, bytes: &[u8]) -> io::Result<()> {
    let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    io.write_all(&len.to_le_bytes()).await?;
    io.write_all(bytes).await
}

impl Codec for Bytes {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io).await
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io).await
    }

    async fn write_request<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        bytes: Vec<u8>,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, &bytes).await
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        bytes: Vec<u8>,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, &bytes).await
    }
}

fn swarm(protocol: &'static str) -> Result<Swarm<request_response::Behaviour<Bytes>>> {
    let config = request_response::Config::default()
        .with_request_timeout(Duration::from_mins(1))
        .with_max_concurrent_streams(64);
    let protocols = [(StreamProtocol::new(protocol), ProtocolSupport::Full)];
    Ok(SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_quic()
        .with_behaviour(|_| request_response::Behaviour::with_codec(Bytes, protocols, config))
        .map_err(|e| anyhow!("{e}"))?
        .with_swarm_config(|c| {
            c.with_idle_connection_timeout(Duration::from_mins(10))
                .with_substream_upgrade_protocol_override(Version::V1Lazy)
        })
        .build())
}

/// Listens on loopback and answers every request with one byte.
pub(crate) async fn echo(protocol: &'static str) -> Result<(PeerId, Multiaddr)> {
    let mut swarm = swarm(protocol)?;
    swarm.listen_on("/ip4/127.0.0.1/udp/0/quic-v1".parse()?)?;
    let peer = *swarm.local_peer_id();
    let addr = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break address;
        }
    };
    tokio::spawn(async move {
        loop {
            if let SwarmEvent::Behaviour(Event::Message {
                message: Message::Request { channel, .. },
                ..
            }) = swarm.select_next_some().await
            {
                // Whoever asked may have gone.
                let _ = swarm.behaviour_mut().send_response(channel, vec![1]);
            }
        }
    });
    Ok((peer, addr))
}

/// One identity with one connection. Ends when dropped.
#[derive(Clone)]
pub(crate) struct Caller {
    asks: mpsc::Sender<Asked>,
}

impl Caller {
    /// Connects at the first request.
    pub(crate) fn new(protocol: &'static str, to: PeerId, addr: Multiaddr) -> Result<Self> {
        let mut swarm = swarm(protocol)?;
        let (asks, mut asked) = mpsc::channel::<Asked>(64);
        tokio::spawn(async move {
            let mut waiting: BTreeMap<_, oneshot::Sender<Result<Vec<u8>>>> = BTreeMap::new();
            loop {
                let event = tokio::select! {
                    ask = asked.recv() => {
                        let Some((bytes, reply)) = ask else { return };
                        let id = swarm
                            .behaviour_mut()
                            .send_request_with_addresses(&to, bytes, vec![addr.clone()]);
                        waiting.insert(id, reply);
                        continue;
                    }
                    event = swarm.select_next_some() => event,
                };
                let (id, result) = match event {
                    SwarmEvent::Behaviour(Event::Message {
                        message: Message::Response { request_id, response },
                        ..
                    }) => (request_id, Ok(response)),
                    SwarmEvent::Behaviour(Event::OutboundFailure { request_id, error, .. }) => {
                        (request_id, Err(anyhow!("{error}")))
                    }
                    _ => continue,
                };
                if let Some(reply) = waiting.remove(&id) {
                    // Whoever asked may have gone.
                    let _ = reply.send(result);
                }
            }
        });
        Ok(Self { asks })
    }

    /// Asks and waits for the answer.
    pub(crate) async fn ask(&self, bytes: Vec<u8>) -> Result<Vec<u8>> {
        let (reply, answer) = oneshot::channel();
        self.asks.send((bytes, reply)).await.ok().context("the caller has ended")?;
        answer.await?
    }
}
