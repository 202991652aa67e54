//! Taking envelopes in, in order: each is judged, stored and applied, or waits. The newest of
//! a chain go forward, each after its predecessor; older history comes backwards, each proved
//! by its successor.

use teahouse_crdt::segment::{SegmentRef, Tip};
use teahouse_protocols::bugs::planted;
use teahouse_protocols::envelope::Envelope;
use teahouse_protocols::ids::{AccountId, Millis};
use teahouse_protocols::membership::{Reason, Verdict};

use super::bodies::take_bodies;
use super::judge::{entitled, judge};
use super::log::{
    FRESH, advance, log_row, note_segment, store, store_bodies, tip_key, unopened_key,
};
use super::prepare::{Content, Prepared, Secrets, open, opened};
use super::replay::apply;
use super::waiting::{continue_chain, wait};
use crate::engine::{accounts, forks, topics};
use crate::tables::{
    CHAINS, Chain, SEGMENTS, Segment, Status, TIPS, UNOPENED, WaitingOn, chain_key,
};
use crate::tx::{Fail, TopicState, Tx};

/// What became of an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Stored; it counts or not as its status says.
    Stored(Status),
    /// Held already.
    Duplicate,
    /// Kept until something arrives.
    Waits,
}

/// Takes one envelope in. `received` is now, unless it waited.
pub(crate) fn accept(
    tx: &mut Tx<'_>,
    prepared: Prepared,
    received: Millis,
) -> Result<Outcome, Fail> {
    let (topic, device, seq) =
        (prepared.envelope.topic, prepared.envelope.device, prepared.envelope.seq);
    let outcome = accept_one(tx, prepared, received)?;
    if matches!(outcome, Outcome::Stored(_)) {
        continue_chain(tx, topic, device, seq)?;
    }
    Ok(outcome)
}

pub(super) fn accept_one(
    tx: &mut Tx<'_>,
    prepared: Prepared,
    received: Millis,
) -> Result<Outcome, Fail> {
    let Prepared { envelope, sealed, mut content } = prepared;
    let (topic, device) = (envelope.topic, envelope.device);
    if matches!(content, Content::Duplicate) {
        take_bodies(tx, topic, &sealed)?;
        return Ok(Outcome::Duplicate);
    }
    let Some(state) = topics::state(tx, topic)? else {
        return Err(Fail::peer("an envelope of an unknown topic"));
    };
    let ckey = chain_key(topic, device);
    let mut chain = tx.typed::<Chain>(&CHAINS, &ckey)?.unwrap_or(FRESH);
    // Whatever its author is by now: a place that is taken is a fork, or nothing new.
    if (chain.low..=chain.high).contains(&envelope.seq) {
        let held = log_row(&tx.stage, topic, device, envelope.seq)?;
        let same = held.is_some_and(|row| row.envelope == envelope.bytes());
        if same {
            take_bodies(tx, topic, &sealed)?;
            return Ok(Outcome::Duplicate);
        }
        forks::note(tx, &envelope)?;
        return Ok(Outcome::Duplicate);
    }
    let Some(account) = accounts::account_of(tx, device)? else {
        // A member's new device, perhaps, of which the account's log will tell.
        return wait(tx, &envelope, sealed, received, WaitingOn::Operations);
    };
    if envelope.seq < chain.low {
        return backfill(tx, &state, account, chain, envelope, content, received);
    }
    if envelope.seq > chain.high + 1 {
        return wait(tx, &envelope, sealed, received, WaitingOn::Predecessor);
    }
    // Where nothing above the base is held, the base is only an inviter's word; what the
    // author signed goes before it.
    let on_base = chain.low > 1 && chain.high < chain.low;
    if envelope.prev != chain.head && !on_base {
        // Its author continues another branch than the one held. The envelope that proves
        // it is asked for by sync, which sees two heads for one number.
        return wait(tx, &envelope, sealed, received, WaitingOn::Predecessor);
    }
    let Some(header) = envelope.header.clone() else {
        if !state.now().members.contains_key(&account) {
            return Err(Fail::peer("a newer version's envelope by somebody who is no member"));
        }
        chain.loose = true;
        advance(tx, &mut chain, &envelope, None)?;
        store(tx, &envelope, received, Status::Unknown)?;
        return Ok(Outcome::Stored(Status::Unknown));
    };
    let status = match judge(tx, &state, account, &envelope, &header.heads)? {
        Verdict::Accepted => Status::Accepted,
        Verdict::Pending { .. } => {
            return wait(tx, &envelope, sealed, received, WaitingOn::Operations);
        }
        // Who was no member when writing is not even stored.
        Verdict::Void(why @ (Reason::NotAMember | Reason::NotADevice))
            if !planted("outsiders_stored") && !forks::covers(tx, topic, device, envelope.seq)? =>
        {
            return Err(Fail::peer(why));
        }
        Verdict::Void(_) => Status::Void,
    };
    if matches!(content, Content::NoKey) {
        content = open(&tx.stage, &Secrets::new(), &envelope, &sealed);
    }
    let good = match content {
        Content::Good(good) => good,
        // What doesn't count need not open.
        Content::NoKey if status == Status::Void || !entitled(tx, topic, &state, &header)? => {
            let status = if status == Status::Void { status } else { Status::Sealed };
            chain.loose = true;
            let segment = header.segment.max(chain.segment);
            advance(tx, &mut chain, &envelope, Some(segment))?;
            store(tx, &envelope, received, status)?;
            tx.put_raw(&UNOPENED, &unopened_key(&envelope, header.epoch), Vec::new())?;
            return Ok(Outcome::Stored(status));
        }
        Content::NoKey => {
            // The key of somebody who has left may have come when nothing waited for it.
            tx.mem.keys_due.insert((topic, header.epoch));
            return wait(tx, &envelope, sealed, received, WaitingOn::Epoch(header.epoch));
        }
        Content::Bad(why) => {
            return garbage(tx, &mut chain, &envelope, received, account, &why);
        }
        Content::Duplicate | Content::Newer => return Ok(Outcome::Duplicate),
    };
    let tkey = tip_key(topic, device, header.segment);
    let segment = SegmentRef { topic: topic.0, number: header.segment };
    let mut tip = tx.typed::<Tip>(&TIPS, &tkey)?.unwrap_or_else(|| Tip::start(segment));
    let newest = tx.typed::<Segment>(&SEGMENTS, &topic.0)?.unwrap_or_default();
    if header.segment < chain.segment {
        return garbage(tx, &mut chain, &envelope, received, account, "segment falls");
    }
    // Where what it builds on is not held or not opened here, it stands for itself.
    let partial = chain.loose || chain.low > 1 && tip.len == 0;
    chain.loose = false;
    if partial {
        tip = Tip { len: good.change.seq(), head: good.change.hash() };
    } else if let Err(why) = tip.follow(&good.change) {
        return garbage(tx, &mut chain, &envelope, received, account, &why.to_string());
    }
    tx.put(&TIPS, &tkey, &tip)?;
    advance(tx, &mut chain, &envelope, Some(header.segment))?;
    store(tx, &envelope, received, status)?;
    note_segment(tx, topic, newest, header.segment, good.change.bytes().len())?;
    store_bodies(tx, &envelope, &header, &good.bodies)?;
    if status == Status::Accepted {
        let opened = opened(good.bodies);
        apply(tx, &state, account, &envelope, &header, received, &opened, good.change.entries())?;
    }
    Ok(Outcome::Stored(status))
}

/// An envelope older than what is held: taken from the newest backwards, each proved by the
/// `prev` of its successor.
fn backfill(
    tx: &mut Tx<'_>,
    state: &TopicState,
    account: AccountId,
    mut chain: Chain,
    envelope: Envelope,
    content: Content,
    received: Millis,
) -> Result<Outcome, Fail> {
    let (topic, device) = (envelope.topic, envelope.device);
    if envelope.seq + 1 != chain.low {
        return Ok(Outcome::Duplicate);
    }
    let expected = match log_row(&tx.stage, topic, device, chain.low)? {
        Some(row) => Envelope::from_bytes(&row.envelope).map_err(Fail::peer)?.prev,
        None => chain.head,
    };
    if envelope.id() != expected {
        return Err(Fail::peer("an older envelope that its successor does not name"));
    }
    let header = envelope.header.clone();
    let verdict = match &header {
        None => Status::Unknown,
        Some(header) => match judge(tx, state, account, &envelope, &header.heads)? {
            Verdict::Accepted => Status::Accepted,
            Verdict::Pending { .. } => return Err(Fail::peer("older history too early")),
            Verdict::Void(_) => Status::Void,
        },
    };
    let status = match (&content, verdict) {
        (Content::Bad(_), _) => Status::Garbage,
        (Content::NoKey, Status::Accepted) => Status::Sealed,
        (_, verdict) => verdict,
    };
    chain.low = envelope.seq;
    tx.put(&CHAINS, &chain_key(topic, device), &chain)?;
    store(tx, &envelope, received, status)?;
    let Some(header) = header else { return Ok(Outcome::Stored(status)) };
    let Content::Good(good) = content else {
        if matches!(content, Content::NoKey) {
            tx.put_raw(&UNOPENED, &unopened_key(&envelope, header.epoch), Vec::new())?;
            // Whoever gave it gives the key, too, if it is this account's to have.
            crate::engine::sync::want_key(tx, topic, header.epoch)?;
        }
        return Ok(Outcome::Stored(status));
    };
    store_bodies(tx, &envelope, &header, &good.bodies)?;
    if status == Status::Accepted {
        let opened = opened(good.bodies);
        apply(tx, state, account, &envelope, &header, received, &opened, good.change.entries())?;
    }
    Ok(Outcome::Stored(status))
}

fn garbage(
    tx: &mut Tx<'_>,
    chain: &mut Chain,
    envelope: &Envelope,
    received: Millis,
    account: AccountId,
    why: &str,
) -> Result<Outcome, Fail> {
    advance(tx, chain, envelope, None)?;
    store(tx, envelope, received, Status::Garbage)?;
    let name = accounts::log(tx, account)?.map(|l| l.state().name.clone()).unwrap_or_default();
    tx.alarm(format!(
        "A device of {} sent something that breaks the rules ({why}); it was ignored.",
        if name.is_empty() { "a member" } else { &name }
    ))?;
    Ok(Outcome::Stored(Status::Garbage))
}
