//! The second pass: one input at a time, each on stages of its own.

use std::collections::{BTreeMap, BTreeSet};

use teahouse_protocols::ids::{DeviceId, TopicId};

use super::Core;
use super::boundary::Outputs;
use super::prepare::{Work, is_quarantined};
use super::stage::PANICKED;
use crate::command::Refusal;
use crate::engine::letters::{self, Outcome, Prepared};
use crate::engine::{mail, sync, topics};
use crate::env::Env;
use crate::features::{self, contents, services};
use crate::store::{ReadExt, Stage, StorageError};
use crate::tables::QUARANTINE;
use crate::tx::{Effect, Fail};

impl Core {
    /// Runs one work item in stages of its own; what fails leaves nothing.
    pub(super) fn run(
        &mut self,
        env: &mut Env,
        stage: &mut Stage<'_>,
        work: Work,
        outputs: &mut Outputs,
        effects: &mut Vec<Effect>,
    ) -> Result<(), StorageError> {
        match work {
            Work::Command(id, command) => {
                let result = self.stage(env, stage, effects, |tx| features::decide(tx, command));
                let reply = match result {
                    Ok(reply) => Ok(reply),
                    Err(Fail::Refusal(refusal)) => Err(refusal),
                    Err(Fail::Peer(why)) if why == PANICKED => Err(Refusal::Internal),
                    Err(Fail::Peer(why) | Fail::Later(why)) => Err(Refusal::Invalid { why }),
                    Err(Fail::Storage(e)) => return Err(e),
                };
                outputs.replies.push((id, reply));
                Ok(())
            }
            Work::Up(device) => self.hint(env, stage, effects, |tx| sync::peer_up(tx, device)),
            Work::Down(device) => self.hint(env, stage, effects, |tx| {
                sync::peer_down(tx, device);
                Ok(())
            }),
            Work::Full(device, full) => self.hint(env, stage, effects, |tx| {
                // Its connection may be gone by now: then there is nothing to make up for.
                let Some(peer) = tx.mem.peers.get_mut(&device) else { return Ok(()) };
                peer.full = full;
                // What was not pushed meanwhile is found by comparing digests.
                if full { Ok(()) } else { sync::peer_drained(tx, device) }
            }),
            Work::Frame(device, frame) => {
                self.hint(env, stage, effects, |tx| sync::frame(tx, device, *frame))
            }
            Work::Letters { from, topic, letters, page } => {
                self.letters(env, stage, effects, from, topic, letters, page)
            }
            Work::Mail(id, result) => self.mail(env, stage, effects, id, &result),
            Work::Service(from, number, prepared) => {
                self.hint(env, stage, effects, |tx| services::take(tx, from, number, prepared))
            }
            Work::Tick => Ok(()),
            Work::ContentAddr(addr) => {
                self.hint(env, stage, effects, |tx| contents::reachable(tx, addr))
            }
            Work::Reachable(addrs) => {
                self.mem.addrs = addrs;
                Ok(())
            }
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn letters(
        &mut self,
        env: &mut Env,
        stage: &mut Stage<'_>,
        effects: &mut Vec<Effect>,
        from: DeviceId,
        topic: TopicId,
        mut letters: Vec<Prepared>,
        page: Option<bool>,
    ) -> Result<(), StorageError> {
        // History is taken over backwards, each envelope proved by its successor.
        let low = lows(stage, topic, &letters)?;
        if letters.iter().any(|l| low.get(&l.envelope.device).is_some_and(|b| l.envelope.seq < *b))
        {
            let (mut older, newer): (Vec<_>, Vec<_>) = letters
                .into_iter()
                .partition(|l| low.get(&l.envelope.device).is_some_and(|b| l.envelope.seq < *b));
            older.sort_by_key(|l| std::cmp::Reverse(l.envelope.seq));
            letters = newer;
            letters.extend(older);
        }
        let mut stored = false;
        let mut gap = false;
        for letter in letters {
            let result = self.stage(env, stage, effects, |tx| {
                // Only who could have it by right is listened to.
                if !topics::may_read(tx, topic, from)? {
                    return Err(Fail::peer("envelopes from a device that is no member's"));
                }
                let now = tx.now;
                let (device, seq) = (letter.envelope.device, letter.envelope.seq);
                let by_author = page.is_some() && from == device;
                let absent = if by_author { letter.absent() } else { Vec::new() };
                let outcome = letters::accept(tx, letter, now)?;
                letters::given_up(tx, topic, device, seq, &absent)?;
                Ok(outcome)
            });
            match result {
                Ok(Outcome::Stored(_)) => stored = true,
                Ok(Outcome::Waits) => gap = true,
                Ok(Outcome::Duplicate) | Err(Fail::Refusal(_) | Fail::Peer(_) | Fail::Later(_)) => {
                }
                Err(Fail::Storage(e)) => return Err(e),
            }
        }
        self.hint(env, stage, effects, |tx| {
            if stored {
                sync::note_news(tx, topic, Some(from));
            }
            if page.is_some() {
                sync::page_end(tx, from, topic, stored)
            } else if gap {
                sync::gap(tx, from, topic)
            } else {
                Ok(())
            }
        })
    }

    fn mail(
        &mut self,
        env: &mut Env,
        stage: &mut Stage<'_>,
        effects: &mut Vec<Effect>,
        id: u64,
        result: &Result<Vec<u8>, String>,
    ) -> Result<(), StorageError> {
        let result = result.as_ref().map(Vec::as_slice).map_err(String::as_str);
        let fetched = match self.stage(env, stage, effects, |tx| mail::reply(tx, id, result)) {
            Ok(fetched) => fetched,
            Err(Fail::Storage(e)) => return Err(e),
            Err(_) => return Ok(()),
        };
        let prepared = mail::prepare(stage, &self.mem.epochs, fetched);
        // Tags of which something came too early: the rest of them comes again, too.
        let mut stalled = BTreeSet::new();
        for (fetched, item) in prepared {
            if stalled.contains(&fetched.tag) {
                continue;
            }
            let quarantined = self.quarantined && is_quarantined(stage, &fetched.bytes);
            if !quarantined {
                let taken = self.stage(env, stage, effects, |tx| mail::take(tx, &fetched, item));
                match taken {
                    Err(Fail::Storage(e)) => return Err(e),
                    Err(Fail::Peer(why)) if why == PANICKED => {
                        self.quarantine(env, stage, &fetched.bytes)?;
                    }
                    Err(Fail::Later(_)) => {
                        stalled.insert(fetched.tag);
                        mail::stall(&mut self.mem, fetched.relay, fetched.tag, env.now);
                        continue;
                    }
                    Ok(()) | Err(_) => {}
                }
            }
            // Refused or not, it is not fetched again.
            self.hint(env, stage, effects, |tx| Ok(mail::note(tx, &fetched)?))?;
        }
        Ok(())
    }

    fn quarantine(
        &mut self,
        env: &Env,
        stage: &mut Stage<'_>,
        bytes: &[u8],
    ) -> Result<(), StorageError> {
        self.quarantined = true;
        stage.put_typed(&QUARANTINE, blake3::hash(bytes).as_bytes(), &env.now)
    }
}

/// Where each chain that letters are about begins here, if not at its beginning.
fn lows(
    stage: &Stage<'_>,
    topic: TopicId,
    letters: &[Prepared],
) -> Result<BTreeMap<DeviceId, u64>, StorageError> {
    let devices: BTreeSet<DeviceId> = letters.iter().map(|l| l.envelope.device).collect();
    let mut out = BTreeMap::new();
    for device in devices {
        let chain: Option<crate::tables::Chain> =
            stage.get_typed(&crate::tables::CHAINS, &crate::tables::chain_key(topic, device))?;
        if let Some(chain) = chain
            && chain.low > 1
        {
            out.insert(device, chain.low);
        }
    }
    Ok(out)
}
