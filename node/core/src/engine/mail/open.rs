//! What was fetched, opened on several threads ([`prepare`]) and taken in, in order
//! ([`take`]).

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;
use teahouse_protocols::envelope::{Envelope, sealed_hash};
use teahouse_protocols::epoch::EpochSecret;
use teahouse_protocols::ids::{SealedHash, TopicId};
use teahouse_protocols::inbox::Letter;
use teahouse_protocols::mailbox::{self, TopicMail};

use super::fetch::Fetched;
use crate::engine::{cursors, inbox, letters, topics};
use crate::features;
use crate::store::ReadExt;
use crate::tables::{EPOCHS, Epoch, TAGS, TagRow, TagSource, pair_key};
use crate::tx::{Fail, Tx, capped};

/// A fetched item, opened as far as no order is needed.
pub(crate) enum Mail {
    /// An envelope, with the bodies that came beside it.
    Letter(Box<letters::Prepared>),
    /// A body that came alone.
    Body(TopicId, Vec<u8>),
    /// A cursor.
    Cursor(Vec<u8>),
    /// A membership record.
    Op(TopicId, Vec<u8>),
    /// Sealed to this device.
    Inbox,
    /// Sealed to the account's card.
    Card,
    /// Taken along with an envelope.
    Joined,
    /// Nothing that a member left; in words.
    Refused(String),
}

/// Opens fetched items on several threads: the outer seal first, then each envelope with
/// the bodies that belong to it.
pub(crate) fn prepare(
    read: &(dyn crate::store::Read + Sync),
    secrets: &letters::Secrets,
    fetched: Vec<Fetched>,
) -> Vec<(Fetched, Mail)> {
    let opened: Vec<(Fetched, Result<Outer, String>)> = fetched
        .into_par_iter()
        .map(|f| {
            let outer = open_outer(read, secrets, &f);
            (f, outer)
        })
        .collect();
    // A body belongs to the envelope whose header names its hash.
    let mut bodies: BTreeMap<SealedHash, usize> = BTreeMap::new();
    for (i, (_, outer)) in opened.iter().enumerate() {
        if let Ok(Outer::Topic(_, TopicMail::Body(body))) = outer {
            bodies.insert(sealed_hash(body), i);
        }
    }
    let mut taken: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let mut joined: BTreeSet<usize> = BTreeSet::new();
    for (i, (_, outer)) in opened.iter().enumerate() {
        if let Ok(Outer::Topic(_, TopicMail::Envelope(bytes))) = outer
            && let Ok(envelope) = Envelope::from_bytes(bytes)
            && let Some(header) = envelope.header
        {
            for hash in &header.bodies {
                if let Some(j) = bodies.get(hash) {
                    taken.entry(i).or_default().push(*j);
                    joined.insert(*j);
                }
            }
        }
    }
    let prepared: Vec<Mail> = (0..opened.len())
        .into_par_iter()
        .map(|i| match &opened[i].1 {
            Err(why) => Mail::Refused(why.clone()),
            Ok(Outer::Inbox) => Mail::Inbox,
            Ok(Outer::Card) => Mail::Card,
            Ok(Outer::Topic(topic, mail)) => match mail {
                TopicMail::Envelope(bytes) => {
                    let with: Vec<_> = taken
                        .get(&i)
                        .into_iter()
                        .flatten()
                        .filter_map(|j| match &opened[*j].1 {
                            Ok(Outer::Topic(_, TopicMail::Body(body))) => Some(body.clone()),
                            _ => None,
                        })
                        .collect();
                    let letter = Letter { envelope: bytes.clone(), bodies: capped(with) };
                    match letters::prepare(read, secrets, letter) {
                        // An envelope of one topic under another's tag is a lie.
                        Ok(p) if p.envelope.topic == *topic => Mail::Letter(Box::new(p)),
                        Ok(_) => Mail::Refused("an envelope of another topic".into()),
                        Err(why) => Mail::Refused(why),
                    }
                }
                TopicMail::Body(_) if joined.contains(&i) => Mail::Joined,
                TopicMail::Body(body) => Mail::Body(*topic, body.to_vec()),
                TopicMail::Cursor(bytes) => Mail::Cursor(bytes.to_vec()),
                TopicMail::Op(bytes) => Mail::Op(*topic, bytes.to_vec()),
            },
        })
        .collect();
    opened.into_iter().map(|(f, _)| f).zip(prepared).collect()
}

/// Takes one fetched item in. Its index is noted by the caller even if it is refused.
pub(crate) fn take(tx: &mut Tx<'_>, fetched: &Fetched, mail: Mail) -> Result<(), Fail> {
    match mail {
        Mail::Letter(prepared) => {
            let topic = prepared.envelope.topic;
            let now = tx.now;
            let outcome = letters::accept(tx, *prepared, now)?;
            if matches!(outcome, letters::Outcome::Stored(_)) {
                crate::engine::sync::note_news(tx, topic, None);
            }
            Ok(())
        }
        Mail::Body(topic, body) => letters::take_lone_body(tx, topic, body),
        Mail::Cursor(bytes) => cursors::learn(tx, &bytes),
        Mail::Op(topic, bytes) => topics::learn(tx, topic, &[bytes]).map(|_| ()),
        Mail::Inbox => inbox::receive(tx, &fetched.bytes).map(|_| ()),
        Mail::Card => features::contacts::request(tx, &fetched.bytes),
        Mail::Joined => Ok(()),
        Mail::Refused(why) => Err(Fail::Peer(why)),
    }
}

enum Outer {
    Topic(TopicId, TopicMail),
    Inbox,
    Card,
}

fn open_outer(
    read: &dyn crate::store::Read,
    secrets: &letters::Secrets,
    f: &Fetched,
) -> Result<Outer, String> {
    let row: Option<TagRow> =
        read.get_typed(&TAGS, &pair_key(&f.relay.0, &f.tag.0)).map_err(|e| e.to_string())?;
    let row = row.ok_or("an item under a tag that is not ours")?;
    let epoch = match row.source {
        TagSource::Inbox(_) => return Ok(Outer::Inbox),
        TagSource::Card => return Ok(Outer::Card),
        TagSource::Topic(epoch, _) => epoch,
    };
    let (topic, secret) = match secrets.get(&epoch) {
        Some((topic, secret)) => (*topic, secret.clone()),
        None => {
            let row: Option<Epoch> =
                read.get_typed(&EPOCHS, &epoch.0).map_err(|e| e.to_string())?;
            let row = row.ok_or("the epoch is gone")?;
            (row.topic, std::sync::Arc::new(EpochSecret::from_bytes(row.secret)))
        }
    };
    let mail = mailbox::open_topic_mail(&f.bytes, &secret, f.tag).map_err(|e| e.to_string())?;
    Ok(Outer::Topic(topic, mail))
}
