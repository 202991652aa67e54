//! What leaves after the commit: whom to be connected to, and frames.

use std::collections::{BTreeMap, BTreeSet};

use teahouse_protocols::codec;
use teahouse_protocols::ids::{DeviceId, TopicId};
use teahouse_protocols::sync::{Frame, MAX_FRAME, PAGE_BYTES, PAGE_LETTERS};

use super::boundary::Peers;
use crate::engine::{accounts, letters, pairing, topics};
use crate::features::{contacts, services};
use crate::store::StorageError;
use crate::tx::{Effect, Tx};

pub(super) fn peers(tx: &mut Tx<'_>) -> Result<Peers, StorageError> {
    let mut peers = Peers::default();
    let me = tx.me()?;
    if let Some((device, addrs)) = pairing::target(&tx.mem.pairing) {
        peers.wanted.insert(device, Vec::new());
        peers.direct.insert(device, addrs);
    }
    let Some(account) = me.account else { return Ok(peers) };
    for wanted in services::wanted(tx)? {
        peers.wanted.insert(wanted.device, wanted.relays);
        peers.direct.insert(wanted.device, wanted.addrs);
    }
    let mut involved = BTreeSet::from([account]);
    for topic in accounts::topic_ids(tx)? {
        let members = topics::members(tx, topic)?;
        // Nobody is dialled for what a stranger proposed or a person declined.
        if members.contains(&account) && !contacts::is_quiet(tx, topic)? {
            involved.extend(members);
        }
    }
    for member in involved {
        let relays = accounts::relays_of(tx, member)?;
        for device in accounts::devices_of(tx, member)? {
            if device != me.device {
                peers.wanted.insert(device, relays.clone());
            }
        }
    }
    peers.relays = accounts::relays_of(tx, account)?;
    Ok(peers)
}

/// Encodes frames; news of one topic for one device travels together.
pub(super) fn encode(effects: Vec<Effect>) -> Vec<(DeviceId, Vec<u8>)> {
    let mut frames: Vec<(DeviceId, Frame)> = Vec::new();
    let mut open: BTreeMap<(DeviceId, TopicId), (usize, usize)> = BTreeMap::new();
    for effect in effects {
        let Effect::Frame(device, frame) = effect else { continue };
        if let Frame::Push(topic, letters) = frame {
            let size: usize = letters.iter().map(letters::size).sum();
            if let Some((index, bytes)) = open.get_mut(&(device, topic))
                && *bytes + size <= PAGE_BYTES
                && let Frame::Push(_, list) = &mut frames[*index].1
                && list.len() + letters.len() <= PAGE_LETTERS
            {
                let mut joined = std::mem::take(list).into_inner();
                joined.extend(letters.into_inner());
                *list = crate::tx::capped(joined);
                *bytes += size;
                continue;
            }
            open.insert((device, topic), (frames.len(), size));
            frames.push((device, Frame::Push(topic, letters)));
        } else {
            frames.push((device, frame));
        }
    }
    frames
        .into_iter()
        .map(|(device, frame)| (device, codec::encode(&frame)))
        .filter(|(_, bytes)| bytes.len() <= MAX_FRAME)
        .collect()
}
