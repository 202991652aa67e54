//! What functions of Mini Programs keep: at the developer's node, and at who calls.

use serde::{Deserialize, Serialize};
use teahouse_protocols::functions::CallAnswer;
use teahouse_protocols::ids::{AppId, AssetId, DeviceId, Millis, OfferId, OrderId};

crate::tables::tables! {
    /// program → [`Served`]: programs whose functions this device runs.
    truth FUNCTIONS_SERVED = "functions_served";
    /// program, number (u64) → [`Job`]: what is to be run, in order.
    truth FUNCTION_JOBS = "function_jobs";
    /// program, number (u64) → [`Aside`]: what functions were to be told, and failed.
    truth FUNCTIONS_ASIDE = "functions_aside";
    /// program, caller, id (16) → [`Called`]: calls that came to this device, until they expire.
    truth FUNCTION_CALLS = "function_calls";
    /// expires (u64), program, caller, id (16) → device that asked (raw).
    truth FUNCTION_CALL_TIMES = "function_call_times";
    /// device, program, caller, id (16) → nothing: calls that are kept, by who asked.
    truth FUNCTION_CALLERS = "function_callers";
    /// `()` → the latest end of a call that was forgotten (u64).
    truth FUNCTION_FORGOTTEN = "function_forgotten";
    /// offer → [`Offered`]: offers that functions asked for.
    truth FUNCTION_OFFERS = "function_offers";
    /// program, reference → offer (raw).
    truth FUNCTION_REFERENCES = "function_references";
    /// program, key → what its functions keep there (raw).
    truth FUNCTION_STORAGE = "function_storage";
    /// program → how much they keep.
    truth FUNCTION_ROOM = "function_room";

    /// id (16) → [`Made`]: calls that this device made.
    truth CALLS_MADE = "calls_made";
    /// device, id (16) → the frame (raw): said until it is answered.
    truth CALLS_OUT = "calls_out";
    /// time (u64), id (16) → nothing: when a call's state ends.
    truth CALL_TIMES = "call_times";
}

/// How a program is served here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// The money of its offers, if it may make some.
    pub asset: Option<AssetId>,
    /// Since when.
    pub since: Millis,
}

/// What is to be run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// When it came: the only clock that a function has.
    pub at: Millis,
    /// For a function's randomness. Kept, so that running it again makes the same of it.
    pub seed: u32,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// Somebody called.
    Call {
        /// Who, to this program alone.
        caller: [u8; 32],
        /// The call.
        id: [u8; 16],
        /// The device that asked.
        device: DeviceId,
    },
    /// Something became of an offer that the functions made.
    Told {
        /// Their name for it.
        reference: String,
        /// To whom it was made.
        caller: [u8; 32],
        /// What.
        news: News,
    },
}

/// What became of an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum News {
    /// It was paid.
    Paid {
        /// Minor units.
        amount: u64,
    },
    /// Its time is up: it can't be paid any more.
    Expired,
    /// Of what was paid, something was given back.
    Refunded {
        /// Minor units, altogether.
        refunded: u64,
    },
}

/// What could not be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aside {
    /// What.
    pub job: Job,
    /// Why, in words.
    pub why: String,
}

/// A call that came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Called {
    /// The hash of its signed bytes.
    pub hash: [u8; 32],
    /// What it asks for; dropped once it is answered.
    pub waiting: Option<(String, Vec<u8>)>,
    /// The answer, word for word.
    pub answer: Option<CallAnswer>,
}

/// An offer that functions asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offered {
    /// Whose functions.
    pub app: AppId,
    /// Their name for it.
    pub reference: String,
    /// To whom it was made.
    pub caller: [u8; 32],
    /// The order that paid it.
    pub order: Option<OrderId>,
}

/// A call that this device made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// For which program.
    pub app: AppId,
    /// The device that is asked.
    pub device: DeviceId,
    /// Not asked any more from then on.
    pub until: Millis,
    /// Where it stands.
    pub state: MadeState,
}

/// Where a call of this device's stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MadeState {
    /// It is said until it is answered.
    Waits,
    /// It was answered.
    Answered(CallAnswer),
    /// No answer came in time: whether it was carried out is not known.
    NoAnswer,
}

/// An offer's id as it is stored.
pub(super) fn offer_id(raw: &[u8]) -> Option<OfferId> {
    Some(OfferId(raw.try_into().ok()?))
}
