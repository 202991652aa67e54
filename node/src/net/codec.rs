//! The wire of the two protocols, each one request and one response on a fresh stream.
//!
//! `/teahouse/frames/1`, all integers little-endian:
//!
//! ```text
//! request   boot u64 · session u64 · seq u64 · base u64 · length u32 · body
//! body      1 to 1024 times: length u32 (1 to MAX_FRAME) · frame
//! response  u8: 0 accepted, 1 busy, 2 reset
//! ```
//!
//! `/teahouse/mail/1`: both ways `length u32 · bytes`, at most `MAX_MAIL`. A response of no
//! bytes says that the request was refused unread; a stream that ends without a response
//! says nothing.
//!
//! Limits are checked before work: a length beyond its bound is refused unread, memory
//! grows only with bytes that have arrived, and all bodies being read or waiting for the
//! consumer share one [`Budget`].

use std::io;
use std::sync::Arc;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::StreamProtocol;
use libp2p::bytes::Bytes;
use libp2p::request_response::Codec;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{MAX_FRAME, MAX_MAIL};

/// Frames between devices.
pub(super) const FRAMES: StreamProtocol = StreamProtocol::new("/teahouse/frames/1");

/// Mailbox requests to relays.
pub(super) const MAIL: StreamProtocol = StreamProtocol::new("/teahouse/mail/1");

/// Most frames in one batch.
pub(super) const MAX_BATCH_FRAMES: usize = 1024;

/// Bytes in front of each frame.
pub(super) const FRAME_HEAD: usize = 4;

/// The longest body of a batch in bytes. One frame of any allowed length fits.
pub(super) const MAX_BODY: usize = MAX_FRAME + FRAME_HEAD * MAX_BATCH_FRAMES;

/// Bytes read at a time, so that a claimed length costs nothing.
const CHUNK: usize = 64 << 10;

/// The bytes that all inbound bodies together may occupy.
#[derive(Clone)]
pub(super) struct Budget(Arc<Semaphore>);

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes)))
    }

    fn take(&self, bytes: usize) -> io::Result<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes).map_err(io::Error::other)?;
        let taken = Arc::clone(&self.0).try_acquire_many_owned(bytes);
        taken.map_err(|_| io::Error::other("too many bytes are waiting"))
    }
}

/// A part of the budget; given back when dropped.
pub(super) type Hold = Option<OwnedSemaphorePermit>;

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Reads `length u32 · bytes`.
async fn read_bytes<T>(
    io: &mut T,
    max: usize,
    budget: Option<&Budget>,
) -> io::Result<(Vec<u8>, Hold)>
where
    T: AsyncRead + Unpin + Send,
{
    let mut head = [0; 4];
    io.read_exact(&mut head).await?;
    let len = u32::from_le_bytes(head) as usize;
    if len > max {
        return Err(invalid("longer than allowed"));
    }
    let mut bytes = Vec::new();
    let mut hold: Hold = None;
    while bytes.len() < len {
        let chunk = CHUNK.min(len - bytes.len());
        if let Some(budget) = budget {
            let more = budget.take(chunk)?;
            match &mut hold {
                Some(hold) => hold.merge(more),
                None => hold = Some(more),
            }
        }
        let start = bytes.len();
        bytes.resize(start + chunk, 0);
        io.read_exact(&mut bytes[start..]).await?;
    }
    Ok((bytes, hold))
}

async fn write_bytes<T>(io: &mut T, bytes: &[u8], max: usize) -> io::Result<()>
where
    T: AsyncWrite + Unpin + Send,
{
    if bytes.len() > max {
        return Err(invalid("longer than allowed"));
    }
    let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    io.write_all(&len.to_le_bytes()).await?;
    io.write_all(bytes).await
}

/// Frames on their way, with their place in the stream of one peer; see
/// [`super::session`] for what the numbers mean.
#[derive(Debug)]
pub(super) struct Batch {
    /// Names one run of the sender's process.
    pub(super) boot: u64,
    /// Counts the sender's sessions within that run.
    pub(super) session: u64,
    /// Number of this batch within the session, from 0.
    pub(super) seq: u64,
    /// The lowest number that is not acknowledged yet.
    pub(super) base: u64,
    /// The frames, each after its length.
    pub(super) body: Bytes,
    /// The budget an inbound body occupies.
    pub(super) hold: Hold,
}

/// Appends a frame to a body.
pub(super) fn push_frame(body: &mut Vec<u8>, frame: &[u8]) {
    let len = u32::try_from(frame.len()).expect("frames are at most MAX_FRAME long");
    body.extend_from_slice(&len.to_le_bytes());
    body.extend_from_slice(frame);
}

/// The frames of a body, or `None` when it is malformed.
pub(super) fn split_frames(mut body: &[u8]) -> Option<Vec<&[u8]>> {
    let mut frames = Vec::new();
    while !body.is_empty() {
        let (head, rest) = body.split_first_chunk::<FRAME_HEAD>()?;
        let len = u32::from_le_bytes(*head) as usize;
        if len == 0 || len > MAX_FRAME || frames.len() == MAX_BATCH_FRAMES {
            return None;
        }
        let (frame, rest) = rest.split_at_checked(len)?;
        frames.push(frame);
        body = rest;
    }
    (!frames.is_empty()).then_some(frames)
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// The consumer has its frames.
    Accepted,
    /// No room; send it again later.
    Busy,
    /// The receiver does not know this session; start a new one.
    Reset,
}

/// The codec of `/teahouse/frames/1`.
#[derive(Clone)]
pub(super) struct FrameCodec(pub(super) Budget);

impl Codec for FrameCodec {
    type Protocol = StreamProtocol;
    type Request = Batch;
    type Response = Answer;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Batch>
    where
        T: AsyncRead + Unpin + Send,
    {
        let mut numbers = [0; 4];
        for number in &mut numbers {
            let mut bytes = [0; 8];
            io.read_exact(&mut bytes).await?;
            *number = u64::from_le_bytes(bytes);
        }
        let [boot, session, seq, base] = numbers;
        if base > seq {
            return Err(invalid("base beyond seq"));
        }
        let (body, hold) = read_bytes(io, MAX_BODY, Some(&self.0)).await?;
        if split_frames(&body).is_none() {
            return Err(invalid("malformed batch"));
        }
        Ok(Batch { boot, session, seq, base, body: body.into(), hold })
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Answer>
    where
        T: AsyncRead + Unpin + Send,
    {
        let mut answer = [0];
        io.read_exact(&mut answer).await?;
        match answer {
            [0] => Ok(Answer::Accepted),
            [1] => Ok(Answer::Busy),
            [2] => Ok(Answer::Reset),
            _ => Err(invalid("unknown answer")),
        }
    }

    async fn write_request<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        batch: Batch,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        // One write for the numbers: a small batch leaves in one packet.
        let mut head = Vec::with_capacity(32);
        for number in [batch.boot, batch.session, batch.seq, batch.base] {
            head.extend_from_slice(&number.to_le_bytes());
        }
        io.write_all(&head).await?;
        write_bytes(io, &batch.body, MAX_BODY).await
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        answer: Answer,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        let byte = match answer {
            Answer::Accepted => 0,
            Answer::Busy => 1,
            Answer::Reset => 2,
        };
        io.write_all(&[byte]).await
    }
}

/// Bytes of a mailbox request or response.
#[derive(Debug)]
pub(super) struct Mail {
    /// At most [`MAX_MAIL`] bytes.
    pub(super) bytes: Vec<u8>,
    /// The budget an inbound body occupies.
    pub(super) hold: Hold,
}

impl From<Vec<u8>> for Mail {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, hold: None }
    }
}

/// The codec of `/teahouse/mail/1`. The client has few requests in flight and needs no
/// budget.
#[derive(Clone)]
pub(super) struct MailCodec(pub(super) Option<Budget>);

impl Codec for MailCodec {
    type Protocol = StreamProtocol;
    type Request = Mail;
    type Response = Mail;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Mail>
    where
        T: AsyncRead + Unpin + Send,
    {
        let (bytes, hold) = read_bytes(io, MAX_MAIL, self.0.as_ref()).await?;
        Ok(Mail { bytes, hold })
    }

    async fn read_response<T>(&mut self, p: &StreamProtocol, io: &mut T) -> io::Result<Mail>
    where
        T: AsyncRead + Unpin + Send,
    {
        self.read_request(p, io).await
    }

    async fn write_request<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        mail: Mail,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write_bytes(io, &mail.bytes, MAX_MAIL).await
    }

    async fn write_response<T>(
        &mut self,
        p: &StreamProtocol,
        io: &mut T,
        mail: Mail,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        self.write_request(p, io, mail).await
    }
}
