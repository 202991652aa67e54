//! The way out: the next envelope of this device's chain, made, stored, applied and handed to
//! whoever is connected.

use teahouse_crdt::segment::{Entry, OwnChain, SEGMENT_BYTES, SEGMENT_CHANGES, SegmentRef, Tip};
use teahouse_protocols::codec;
use teahouse_protocols::envelope::{self, Draft, Envelope};
use teahouse_protocols::ids::{DeviceId, SealedHash, TopicId};
use teahouse_protocols::inbox::Letter;
use teahouse_protocols::sync::Frame;

use super::log::{FRESH, actor, advance, log_row, note_segment, store, tip_key};
use super::replay::apply;
use crate::command::{MessageId, Refusal};
use crate::engine::{accounts, topics};
use crate::tables::{BODIES, CHAINS, Chain, SEGMENTS, Segment, Status, TIPS, body_key, chain_key};
use crate::tx::{Effect, Fail, Tx, capped};

/// Writes the next envelope of this device's chain in a topic. `entries` gets the number
/// that the envelope will have and the hashes of the sealed bodies.
pub(crate) fn append(
    tx: &mut Tx<'_>,
    topic: TopicId,
    bodies: &[&[u8]],
    entries: impl FnOnce(u64, &[SealedHash]) -> Result<Vec<Entry>, Fail>,
) -> Result<MessageId, Fail> {
    let account = tx.account()?;
    let me = tx.me()?;
    let state = topics::require(tx, topic)?;
    if !accounts::is_active(tx, me.device)? {
        return Err(Refusal::Revoked.into());
    }
    if !state.now().members.contains_key(&account) {
        return Err(Refusal::NotAllowed { why: "you are no longer in this chat".into() }.into());
    }
    let (epoch, secret) = topics::epoch_for_sending(tx, topic)?;
    let mut chain = tx.typed::<Chain>(&CHAINS, &chain_key(topic, me.device))?.unwrap_or(FRESH);
    let seq = chain.high + 1;
    let mut sealed = Vec::with_capacity(bodies.len());
    for body in bodies {
        sealed.push(envelope::seal_body(body, tx.rng).map_err(too_large)?);
    }
    let hashes: Vec<SealedHash> = sealed.iter().map(|b| b.hash).collect();
    let entries = entries(seq, &hashes)?;

    // Continue in the newest segment; open the next when it is full.
    let newest = tx.typed::<Segment>(&SEGMENTS, &topic.0)?.unwrap_or_default();
    let full = newest.changes >= SEGMENT_CHANGES || newest.bytes >= SEGMENT_BYTES;
    let mut segment = (newest.number + u32::from(full)).max(chain.segment);
    // After a time in which one's own envelopes did not count, a fresh segment: others may
    // not hold what the old one would build on.
    if chain.high > 0
        && log_row(&tx.stage, topic, me.device, chain.high)?
            .is_some_and(|r| r.status != Status::Accepted)
    {
        segment = segment.max(chain.segment + 1);
    }
    let place = SegmentRef { topic: topic.0, number: segment };
    let tkey = tip_key(topic, me.device, segment);
    let tip = tx.typed::<Tip>(&TIPS, &tkey)?.unwrap_or_else(|| Tip::start(place));
    let mut own = OwnChain::resume_at(place, actor(topic, me.device, segment), tip);
    let change = own.append(&entries).map_err(|e| Refusal::Invalid { why: e.to_string() })?;
    tx.put(&TIPS, &tkey, &own.tip())?;

    let heads = state.eval.parents();
    let draft = Draft {
        topic,
        seq,
        prev: chain.head,
        segment,
        heads: &heads,
        epoch,
        time: tx.now,
        change: &change,
        bodies: &sealed,
    };
    let envelope = Envelope::seal(&draft, &secret, &me.key, tx.rng).map_err(too_large)?;
    let now = tx.now;
    chain.segment = segment;
    advance(tx, &mut chain, &envelope, Some(segment))?;
    store(tx, &envelope, now, Status::Accepted)?;
    note_segment(tx, topic, newest, segment, change.len())?;
    for (i, body) in sealed.iter().enumerate() {
        let key = body_key(topic, me.device, seq, i as u8);
        tx.put_raw(&BODIES, &key, body.sealed.clone())?;
    }
    let header =
        envelope.header.clone().ok_or_else(|| Fail::peer("own envelope without a header"))?;
    let plain: Vec<Option<Vec<u8>>> = bodies.iter().map(|b| Some(b.to_vec())).collect();
    apply(tx, &state, account, &envelope, &header, now, &plain, &entries)?;
    push(tx, topic, &envelope, sealed.into_iter().map(|b| b.sealed).collect())?;
    tx.mem.mail_topics.insert(topic);
    Ok(MessageId { device: me.device, seq })
}

/// Hands a new envelope to connected members.
fn push(
    tx: &mut Tx<'_>,
    topic: TopicId,
    envelope: &Envelope,
    bodies: Vec<Vec<u8>>,
) -> Result<(), Fail> {
    if tx.mem.peers.is_empty() {
        return Ok(());
    }
    let bodies: Vec<_> =
        bodies.into_iter().filter_map(|b| codec::Bytes::try_from(b).ok()).collect();
    let Ok(bytes) = codec::Bytes::try_from(envelope.bytes().to_vec()) else { return Ok(()) };
    let letter = Letter { envelope: bytes, bodies: capped(bodies) };
    let audience = topics::devices(tx, topic)?;
    let connected: Vec<DeviceId> = tx
        .mem
        .peers
        .iter()
        .filter(|(d, p)| audience.contains(*d) && !p.full)
        .map(|(d, _)| *d)
        .collect();
    for device in connected {
        tx.out.push(Effect::Frame(device, Frame::Push(topic, capped(vec![letter.clone()]))));
    }
    Ok(())
}

fn too_large(e: envelope::DraftTooLarge) -> Fail {
    Refusal::Invalid { why: e.to_string() }.into()
}
