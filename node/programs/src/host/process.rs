//! The child process and its three pipes, each with a task of its own.

use std::io;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;

use super::HostCommand;
use crate::error::one_line;
use crate::limits;
use crate::wire::{self, FromChild};

/// Frames on their way to the child: one request for each program, and its closing.
const FRAMES_OUT: usize = 4 * limits::PROGRAMS;
/// Frames read ahead. The child waits while nobody takes them.
const FRAMES_IN: usize = 4;
/// What is kept of the child's standard error, in bytes.
const ERROR_BYTES: usize = 1024;

/// A child that runs. Dropping it ends it.
pub(super) struct Process {
    child: Child,
    out: mpsc::Sender<Vec<u8>>,
    frames: mpsc::Receiver<io::Result<FromChild>>,
    errors: Arc<Mutex<Vec<u8>>>,
}

impl Process {
    pub(super) fn start(command: &HostCommand) -> io::Result<Self> {
        let mut child = Command::new(&command.program)
            .args(&command.args)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(io::Error::other("the child has no pipes"));
        };
        let (out, to_write) = mpsc::channel(FRAMES_OUT);
        let (read, frames) = mpsc::channel(FRAMES_IN);
        let errors = Arc::new(Mutex::new(Vec::new()));
        // Each ends when its pipe does, which is when the child does.
        tokio::spawn(write_frames(stdin, to_write));
        tokio::spawn(read_frames(stdout, read));
        tokio::spawn(drain(stderr, Arc::clone(&errors)));
        Ok(Self { child, out, frames, errors })
    }

    /// Its id, until it has ended.
    pub(super) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Hands a frame over to be written; false where the child has not taken many
    /// earlier ones.
    pub(super) fn send(&self, frame: Vec<u8>) -> bool {
        self.out.try_send(frame).is_ok()
    }

    /// The next frame; none once there will be no more.
    pub(super) async fn receive(&mut self) -> Option<io::Result<FromChild>> {
        self.frames.recv().await
    }

    /// How it explained its end, on one line.
    pub(super) fn last_words(&self) -> String {
        let errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        one_line(&String::from_utf8_lossy(&errors))
    }
}

async fn write_frames(mut stdin: ChildStdin, mut frames: mpsc::Receiver<Vec<u8>>) {
    while let Some(frame) = frames.recv().await {
        if stdin.write_all(&frame).await.is_err() {
            return;
        }
    }
}

/// Reads frames until the end or the first that is none.
pub(super) async fn read_frames(
    mut output: impl AsyncRead + Unpin,
    frames: mpsc::Sender<io::Result<FromChild>>,
) {
    loop {
        let frame = read_frame(&mut output).await;
        let last = frame.is_err();
        if frames.send(frame).await.is_err() || last {
            return;
        }
    }
}

async fn read_frame(output: &mut (impl AsyncRead + Unpin)) -> io::Result<FromChild> {
    let len = wire::frame_length(output.read_u32_le().await?)?;
    // Not reserved at once: what was promised may never come.
    let mut frame = Vec::new();
    (&mut *output).take(len as u64).read_to_end(&mut frame).await?;
    if frame.len() < len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    wire::decode(&frame)
}

/// Keeps the beginning of what the child says on standard error and reads on, so that it
/// never waits for a reader. It may quote a program, so it reaches no log.
async fn drain(mut stderr: impl AsyncRead + Unpin, errors: Arc<Mutex<Vec<u8>>>) {
    let mut buffer = [0; 512];
    while let Ok(read @ 1..) = stderr.read(&mut buffer).await {
        let mut errors = errors.lock().unwrap_or_else(PoisonError::into_inner);
        let room = ERROR_BYTES - errors.len();
        errors.extend_from_slice(&buffer[..read.min(room)]);
    }
}
