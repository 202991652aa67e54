//! Envelopes in and out.
//!
//! In: [`prepare()`] (parallel: parse, verify, open, inspect) → [`accept()`] (in order: judge,
//! store, apply). An envelope that can't be judged yet waits, and is tried again when its
//! predecessor, an operation or a key arrives ([`release`]). What is accepted is a function
//! of what is held: when membership changes, stored envelopes are judged again
//! ([`rejudge`]) and the topic's rows are replayed ([`replay`]).
//!
//! Out: [`append()`] makes the next envelope of this device's chain, and runs it through the
//! same `apply` as everybody else's.
//!
//! - [`mod@prepare`]: the checks that need no order.
//! - [`mod@accept`]: one envelope's way in; older history, backwards.
//! - [`waiting`]: what can't be judged yet.
//! - [`judge`]: whether an envelope counts, now and again later.
//! - [`mod@replay`]: from envelopes that count to rows.
//! - [`bodies`]: texts that come later than their envelopes, or not at all.
//! - [`log`]: the rows of the log and its chains, and letters made of them.
//! - [`mod@append`]: the way out.

mod accept;
mod append;
mod bodies;
mod judge;
mod log;
mod prepare;
mod replay;
mod waiting;

pub(crate) use self::accept::{Outcome, accept};
pub(crate) use self::append::append;
pub(crate) use self::bodies::{complete_upto, given_up, missing, take_lone_body};
pub(crate) use self::judge::rejudge;
pub(crate) use self::log::{MAX_RUN, letter, log_row, newest, run, size};
pub(crate) use self::prepare::{Prepared, Secrets, prepare};
pub(crate) use self::replay::{open_stored, replay};
pub(crate) use self::waiting::{release, waits_for};
