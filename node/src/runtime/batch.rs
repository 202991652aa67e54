//! Gathering a batch: what is waiting, in the core's order, up to its bounds.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::thread::Thread;
use std::time::{Duration, Instant};

use teahouse_core::Input;
use tokio::sync::mpsc;

use crate::net::{NetEvent, NetEvents};

/// Inputs in a batch at most.
pub(crate) const INPUTS: usize = 256;

/// Commands in a batch at most: a flood of commands leaves room for what peers send.
pub(crate) const COMMAND_SHARE: usize = 192;

/// Bytes of frames and mail after which a batch takes no further one. A page of catch-up is
/// up to 1 MiB and verifies in tens of milliseconds; several in one batch would make a
/// command that comes meanwhile wait for all of them.
pub(crate) const BYTES: usize = 256 << 10;

/// Time for gathering at most.
pub(crate) const GATHER: Duration = Duration::from_millis(8);

/// Wakes a parked thread: so a thread can wait for several async queues at once without a
/// runtime. Each poll registers it; a wake-up before parking is not lost.
pub(crate) struct Unpark(pub(crate) Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Takes the next item, or registers to be woken. `Ready(None)`: the queue is closed.
pub(crate) fn poll_queue<T>(
    queue: &mut mpsc::Receiver<T>,
    cx: &mut Context<'_>,
) -> Poll<Option<T>> {
    queue.poll_recv(cx)
}

/// Takes the next event, or registers to be woken. `Ready(None)`: the network has stopped.
pub(crate) fn poll_events(events: &mut NetEvents, cx: &mut Context<'_>) -> Poll<Option<NetEvent>> {
    pin!(events.recv()).poll(cx)
}

/// A batch being gathered.
pub(crate) struct Batch {
    commands: Vec<Input>,
    live: Vec<Input>,
    mail: Vec<Input>,
    bytes: usize,
    began: Instant,
}

impl Batch {
    pub(crate) fn new() -> Self {
        let (commands, live, mail) = (Vec::new(), Vec::new(), Vec::new());
        Self { commands, live, mail, bytes: 0, began: Instant::now() }
    }

    pub(crate) fn push(&mut self, input: Input) {
        match input {
            Input::Command { .. } => self.commands.push(input),
            Input::MailReply { ref result, .. } => {
                self.bytes += result.as_ref().map_or(0, Vec::len);
                self.mail.push(input);
            }
            _ => {
                if let Input::Frame { bytes, .. } = &input {
                    self.bytes += bytes.len();
                }
                self.live.push(input);
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.commands.len() + self.live.len() + self.mail.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether another command fits.
    pub(crate) fn takes_commands(&self) -> bool {
        self.commands.len() < COMMAND_SHARE && self.len() < INPUTS
    }

    /// Whether another event fits.
    pub(crate) fn takes_events(&self) -> bool {
        self.len() < INPUTS && self.bytes < BYTES && self.began.elapsed() < GATHER
    }

    /// Number of commands, of frames, of mail, of others.
    pub(crate) fn counts(&self) -> [(&'static str, usize); 4] {
        let frames = self.live.iter().filter(|i| matches!(i, Input::Frame { .. })).count();
        [
            ("command", self.commands.len()),
            ("frame", frames),
            ("mail", self.mail.len()),
            ("other", self.live.len() - frames),
        ]
    }

    /// When gathering began.
    pub(crate) const fn began(&self) -> Instant {
        self.began
    }

    /// Everything: commands, then what peers sent, in its order, then mail.
    pub(crate) fn into_inputs(self) -> Vec<Input> {
        let Self { mut commands, live, mail, .. } = self;
        commands.extend(live);
        commands.extend(mail);
        commands
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use teahouse_core::command::{Command, Devices};
    use teahouse_protocols::ids::DeviceId;

    fn command(id: u64) -> Input {
        Input::Command { id, command: Command::Devices(Devices::LinkCancel) }
    }

    fn frame(n: usize) -> Input {
        Input::Frame { device: DeviceId([1; 32]), bytes: vec![0; n] }
    }

    #[test]
    fn commands_come_first_and_mail_last() {
        let mut batch = Batch::new();
        batch.push(Input::MailReply { id: 9, result: Ok(vec![1]) });
        batch.push(frame(1));
        batch.push(Input::PeerDown { device: DeviceId([1; 32]) });
        batch.push(command(1));
        let inputs = batch.into_inputs();
        assert!(matches!(
            &inputs[..],
            [
                Input::Command { .. },
                Input::Frame { .. },
                Input::PeerDown { .. },
                Input::MailReply { .. }
            ]
        ));
    }

    #[test]
    fn bounds_leave_room_for_the_others() {
        let mut batch = Batch::new();
        for id in 0..COMMAND_SHARE {
            assert!(batch.takes_commands());
            batch.push(command(id as u64));
        }
        assert!(!batch.takes_commands());
        assert!(batch.len() < INPUTS);
        batch.push(frame(BYTES));
        assert!(!batch.takes_events());
    }
}
