//! What one device asks of another though they may share no topic: payments, and what else
//! needs an answer instead of a copy of a log.
//!
//! A service is a feature's other half. Its words travel in [`Frame::Service`]; it judges who
//! may ask, keeps what must survive in tables of its own, and says again after a start, or
//! when the other device is met, what was not answered.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use teahouse_protocols::account::RelayAddr;
use teahouse_protocols::codec;
use teahouse_protocols::ids::{DeviceId, Millis};
use teahouse_protocols::sync::Frame;

use crate::features::FEATURES;
use crate::store::{Read, StorageError};
use crate::tx::{Fail, Tx, best_effort};

/// What a service made of a frame without an order: decoded, signatures checked.
pub(crate) type Prepared = Box<dyn Any + Send>;

/// A device that a service has business with, and how to reach it.
pub(crate) struct Wanted {
    pub(crate) device: DeviceId,
    pub(crate) relays: Vec<RelayAddr>,
    /// Addresses to try besides.
    pub(crate) addrs: Vec<String>,
}

/// A feature's half that answers other devices.
pub(crate) struct Service {
    /// Its number on the wire; never used for anything else.
    pub(crate) number: u8,
    /// Decodes and verifies, on several threads and without what the batch itself changes; `None` for what is refused unheard.
    pub(crate) prepare: fn(&dyn Read, &[u8]) -> Option<Prepared>,
    /// Takes in what a connected device says, be it a stranger's.
    pub(crate) take: fn(&mut Tx<'_>, DeviceId, Prepared) -> Result<(), Fail>,
    /// A device was met: says again what it has not answered.
    pub(crate) met: fn(&mut Tx<'_>, DeviceId) -> Result<(), Fail>,
    /// What is due by now; when to look again.
    pub(crate) tend: fn(&mut Tx<'_>) -> Result<Option<Millis>, Fail>,
    /// Whom to be connected to.
    pub(crate) wanted: fn(&mut Tx<'_>) -> Result<Vec<Wanted>, StorageError>,
}

/// All services.
fn services() -> impl Iterator<Item = &'static Service> {
    FEATURES.iter().filter_map(|f| f.service.as_ref())
}

fn of(number: u8) -> Option<&'static Service> {
    services().find(|s| s.number == number)
}

/// The first pass over a frame.
pub(crate) fn prepare(read: &dyn Read, number: u8, bytes: &[u8]) -> Option<Prepared> {
    let service = of(number)?;
    // A panic in a parser is the frame's fault: it is dropped like a malformed one.
    catch_unwind(AssertUnwindSafe(|| (service.prepare)(read, bytes))).ok()?
}

/// The second.
pub(crate) fn take(
    tx: &mut Tx<'_>,
    from: DeviceId,
    number: u8,
    prepared: Prepared,
) -> Result<(), Fail> {
    match of(number) {
        Some(service) => (service.take)(tx, from, prepared),
        None => Ok(()),
    }
}

/// Says something to a connected device; to one that is not, nothing is said.
pub(crate) fn say(tx: &mut Tx<'_>, to: DeviceId, number: u8, bytes: Vec<u8>) -> Result<(), Fail> {
    let bytes = codec::Bytes::try_from(bytes).map_err(Fail::peer)?;
    tx.send(to, Frame::Service(number, bytes));
    Ok(())
}

/// A device was met.
pub(crate) fn met(tx: &mut Tx<'_>, device: DeviceId) -> Result<(), StorageError> {
    services().try_for_each(|s| best_effort((s.met)(tx, device)))
}

/// What is due; when to look again.
pub(crate) fn tend(tx: &mut Tx<'_>) -> Result<Option<Millis>, Fail> {
    let mut next: Option<Millis> = None;
    for service in services() {
        let at = (service.tend)(tx)?;
        next = match (next, at) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
    Ok(next)
}

/// Whom services want to be connected to.
pub(crate) fn wanted(tx: &mut Tx<'_>) -> Result<Vec<Wanted>, StorageError> {
    let mut all = Vec::new();
    for service in services() {
        all.extend((service.wanted)(tx)?);
    }
    Ok(all)
}
