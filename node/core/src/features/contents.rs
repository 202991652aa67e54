//! Where sealed contents (photos) can be fetched: devices tell those they have business with
//! how their content endpoint is reached, and remember what they were told.
//!
//! The endpoint itself is the runtime's ([`Input::ContentAddr`](crate::Input)); what is said
//! of it is opaque here. Contents are named by their hash and sealed: whoever asks for one
//! knows it from a message.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use teahouse_protocols::ids::{DeviceId, Millis, TopicId};
use teahouse_protocols::photo::Photo;

use crate::command::MessageId;
use crate::engine::{accounts, greeting, topics};
use crate::features::photos::PHOTOS;
use crate::features::services::{self, Prepared, Service};
use crate::features::{Feature, feeds};
use crate::query::{Asked, Query};
use crate::store::{Key, KeyRange, Read, ReadExt, StorageError, Table};
use crate::tables::{CHAINS, OPS, RECORDS};
use crate::tx::{Fail, Tx};
use crate::view::Blob;

crate::tables::tables! {
    /// device → [`Endpoint`].
    truth CONTENT_PEERS = "content_peers";
}

/// The number of this service.
const NUMBER: u8 = 3;
/// Most bytes of what a device says of its endpoint.
pub const MAX_ADDR: usize = 2 * 1024;
/// Most devices whose endpoints are remembered.
const MAX_PEERS: usize = 8_192;
/// Most devices that are named for one content.
const MAX_PROVIDERS: usize = 64;

pub(crate) const FEATURE: Feature = Feature {
    name: "contents",
    tables: ALL,
    queries: &[Asked::of::<Sources>()],
    service: Some(SERVICE),
    ..Feature::NONE
};

const SERVICE: Service = Service {
    number: NUMBER,
    prepare: |_, bytes| (bytes.len() <= MAX_ADDR).then(|| Box::new(bytes.to_vec()) as Prepared),
    take,
    met,
    tend: |_| Ok(None),
    wanted: |_| Ok(Vec::new()),
};

/// How a device's contents are reached, as it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Opaque here; the runtime's.
    pub addr: Blob,
    /// When it said so.
    pub told: Millis,
}

/// This device's content endpoint is reached so from now on.
pub(crate) fn reachable(tx: &mut Tx<'_>, addr: Vec<u8>) -> Result<(), Fail> {
    if tx.mem.content_addr == addr {
        return Ok(());
    }
    tx.mem.content_addr = addr;
    let peers: Vec<DeviceId> = tx.mem.peers.keys().copied().collect();
    peers.into_iter().try_for_each(|device| met(tx, device))
}

fn met(tx: &mut Tx<'_>, device: DeviceId) -> Result<(), Fail> {
    // Strangers are told nothing, but for those who ask for a feed of this device's.
    let known = greeting::shares(tx, device)?;
    let listens = tx.mem.peers.get(&device).is_some_and(|p| !p.listens.is_empty());
    if tx.mem.content_addr.is_empty() || !known && !listens {
        return Ok(());
    }
    let addr = tx.mem.content_addr.clone();
    services::say(tx, device, NUMBER, addr)
}

/// Tells one device, which has just asked for something public.
pub(crate) fn tell(tx: &mut Tx<'_>, device: DeviceId) -> Result<(), Fail> {
    met(tx, device)
}

fn take(tx: &mut Tx<'_>, from: DeviceId, prepared: Prepared) -> Result<(), Fail> {
    let Ok(addr) = prepared.downcast::<Vec<u8>>() else { return Ok(()) };
    let known = accounts::account_of(tx, from)?.is_some();
    if !known && !services::wanted(tx)?.iter().any(|w| w.device == from) {
        return Ok(());
    }
    let row = Endpoint { addr: Blob(*addr), told: tx.now };
    let same = tx.typed::<Endpoint>(&CONTENT_PEERS, &from.0)?.is_some_and(|r| r.addr == row.addr);
    if same || tx.count(&CONTENT_PEERS, &KeyRange::all(), MAX_PEERS)? >= MAX_PEERS {
        return Ok(());
    }
    Ok(tx.put(&CONTENT_PEERS, &from.0, &row)?)
}

/// A photo of a message, a post or an article, and who may have it, best first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The photo.
    pub photo: Photo,
    /// Devices with what they said of their endpoints.
    pub providers: Vec<(DeviceId, Blob)>,
}

/// Where one photo can be fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sources {
    /// The topic.
    pub topic: TopicId,
    /// The message, post or article.
    pub id: MessageId,
    /// Which of its photos, from 0.
    pub index: u8,
}

impl Query for Sources {
    type Out = Option<Source>;
    const NAME: &'static str = "photos.sources";
    const ABOUT: &'static str = "who may have a photo (`topic`, `id`, `index`)";
    const READS: &'static [&'static Table] = &[&PHOTOS, &CONTENT_PEERS, &OPS, &CHAINS, &RECORDS];

    fn run(&self, s: &dyn Read) -> Result<Self::Out, StorageError> {
        let key = Key::new()
            .fixed(&self.topic.0)
            .fixed(&self.id.device.0)
            .u64(self.id.seq)
            .u8(self.index)
            .into_bytes();
        let Some(photo) = s.get_typed::<Photo>(&PHOTOS, &key)? else { return Ok(None) };
        let mut devices = vec![self.id.device];
        // Other devices of who is in the topic may have fetched it already.
        if let Some(state) = topics::load(s, self.topic)? {
            for account in state.now().members.keys() {
                let log = accounts::load(s, *account)?;
                devices.extend(log.iter().flat_map(|l| l.state().devices.keys().copied()));
            }
        }
        // So may those who share a feed. Nobody else is asked: it would tell them of it.
        devices.extend(feeds::providers(s, self.topic)?);
        let mut providers = Vec::new();
        let mut seen = BTreeSet::new();
        for device in devices {
            if providers.len() < MAX_PROVIDERS
                && seen.insert(device)
                && let Some(row) = s.get_typed::<Endpoint>(&CONTENT_PEERS, &device.0)?
            {
                providers.push((device, row.addr));
            }
        }
        Ok(Some(Source { photo, providers }))
    }
}

/// Every content that something here refers to: what must be kept.
///
/// # Errors
/// [`StorageError`].
pub fn live(s: &dyn Read) -> Result<BTreeMap<[u8; 32], u64>, StorageError> {
    let mut all = BTreeMap::new();
    let mut range = KeyRange::all();
    loop {
        let rows: Vec<(Vec<u8>, Photo)> = s.scan_typed(&PHOTOS, &range, false, 4_096)?;
        let Some((last, _)) = rows.last() else { return Ok(all) };
        range = range.after(&last.clone());
        all.extend(rows.into_iter().map(|(_, p)| (p.hash, p.size)));
    }
}
