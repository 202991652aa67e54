//! What went over a device's network, by way and kind.

use std::collections::BTreeMap;

use teahouse_protocols::codec;
use teahouse_protocols::mailbox::{Reply, Request};
use teahouse_protocols::sync::Frame;

use super::World;

/// What a device sent and received, as its core hands it out and gets it: without what a
/// transport adds. By way and kind.
#[derive(Debug, Clone, Default)]
pub struct Traffic(BTreeMap<(Way, &'static str), Volume>);

/// Which way something went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "they say it")]
pub enum Way {
    ToDevices,
    FromDevices,
    ToRelays,
    FromRelays,
}

/// How much of a kind went one way.
#[derive(Debug, Clone, Copy, Default)]
pub struct Volume {
    /// How many.
    pub count: u64,
    /// Bytes of all of them.
    pub bytes: u64,
}

impl Traffic {
    fn add(&mut self, way: Way, bytes: &[u8]) {
        let kind = match way {
            Way::ToDevices | Way::FromDevices => {
                codec::decode::<Frame>(bytes).map_or("other", |f| frame(&f))
            }
            Way::ToRelays => codec::decode::<Request>(bytes).map_or("other", |r| request(&r)),
            Way::FromRelays => codec::decode::<Reply>(bytes).map_or("other", |r| reply(&r)),
        };
        let volume = self.0.entry((way, kind)).or_default();
        volume.count += 1;
        volume.bytes += bytes.len() as u64;
    }

    /// How much of what went which way.
    pub fn volumes(&self) -> impl Iterator<Item = (Way, &'static str, Volume)> {
        self.0.iter().map(|((way, kind), volume)| (*way, *kind, *volume))
    }
}

impl World {
    /// Counts, if that is asked for this device.
    pub(super) fn meter(&mut self, device: usize, way: Way, bytes: &[u8]) {
        if let Some(traffic) = &mut self.devices[device].traffic {
            traffic.add(way, bytes);
        }
    }
}

const fn frame(frame: &Frame) -> &'static str {
    match frame {
        Frame::Hello { .. } => "hello",
        Frame::Digests { .. } => "digests",
        Frame::AccountWant(..) => "account_want",
        Frame::Account(_) => "account",
        Frame::Frontier { .. } => "frontier",
        Frame::Ops(..) => "ops",
        Frame::Want(..) => "want",
        Frame::Page { .. } => "page",
        Frame::Push(..) => "push",
        Frame::KeysWant(..) => "keys_want",
        Frame::Keys(_) => "keys",
        Frame::Cursor(_) => "cursor",
        Frame::Inbox(_) => "inbox",
        Frame::InboxHeld(_) => "inbox_held",
        Frame::Pair(_) => "pair",
        Frame::Service(..) => "service",
    }
}

const fn request(request: &Request) -> &'static str {
    match request {
        Request::Hello => "hello",
        Request::Admit { .. } => "admit",
        Request::Refill { .. } => "refill",
        Request::Open { .. } => "open",
        Request::Deposit { .. } => "deposit",
        Request::Fetch { .. } => "fetch",
        Request::Delete { .. } => "delete",
    }
}

const fn reply(reply: &Reply) -> &'static str {
    match reply {
        Reply::Hello { .. } => "hello",
        Reply::Tokens(_) => "tokens",
        Reply::Opened { .. } => "opened",
        Reply::Deposited { .. } => "deposited",
        Reply::Items { .. } => "items",
        Reply::Deleted => "deleted",
        Reply::Refused(_) => "refused",
    }
}
