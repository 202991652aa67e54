//! What can be asked of functions: what is served here and what is to be run, and what became
//! of calls.

use serde::{Deserialize, Serialize};
use teahouse_protocols::functions::{CallAnswer, CallRefusal};
use teahouse_protocols::ids::{AppId, AssetId, Millis};

use super::tables::{
    Aside, CALLS_MADE, FUNCTION_CALLS, FUNCTION_JOBS, FUNCTION_ROOM, FUNCTION_STORAGE,
    FUNCTIONS_ASIDE, FUNCTIONS_SERVED, Made, MadeState, News, Served, What,
};
use super::{MAX_SERVED, SHELF, server};
use crate::features::pay::tables::Number;
use crate::features::programs;
use crate::query::Query;
use crate::store::{KeyRange, Read, ReadExt, StorageError, Table};
use crate::tables::RECORDS;
use crate::view::Blob;

/// A program whose functions run on this device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedView {
    /// The program.
    pub app: AppId,
    /// What it is called.
    pub name: String,
    /// The money of its offers.
    pub asset: Option<AssetId>,
    /// Since when.
    pub since: Millis,
    /// Calls and news that wait to be run, as far as they are counted.
    pub waiting: usize,
    /// News that its functions could not be told, and why; the first few.
    pub aside: Vec<(String, News, String)>,
    /// Keys that they keep.
    pub keys: u64,
    /// Bytes that they keep.
    pub bytes: u64,
}

/// Programs whose functions run on this device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Functions {}

/// As many waiting jobs are counted.
const COUNTED: usize = 1_000;
/// So many news that could not be told are shown.
const SHOWN: usize = 32;

fn all_served(s: &dyn Read) -> Result<Vec<(AppId, Served)>, StorageError> {
    let rows: Vec<(Vec<u8>, Served)> =
        s.scan_typed(&FUNCTIONS_SERVED, &KeyRange::all(), false, MAX_SERVED)?;
    let app = |key: Vec<u8>| Some(AppId(key.try_into().ok()?));
    Ok(rows.into_iter().filter_map(|(key, row)| Some((app(key)?, row))).collect())
}

impl Query for Functions {
    type Out = Vec<ServedView>;
    const NAME: &'static str = "functions.served";
    const ABOUT: &'static str = "programs whose functions run on this device";
    const READS: &'static [&'static Table] =
        &[&FUNCTIONS_SERVED, &FUNCTION_JOBS, &FUNCTIONS_ASIDE, &FUNCTION_ROOM, &RECORDS];

    fn run(&self, s: &dyn Read) -> Result<Self::Out, StorageError> {
        let mut all = Vec::new();
        for (app, served) in all_served(s)? {
            let range = KeyRange::prefix(&app.0);
            let aside: Vec<(Vec<u8>, Aside)> =
                s.scan_typed(&FUNCTIONS_ASIDE, &range, false, SHOWN)?;
            let room = SHELF.room(s, app)?;
            all.push(ServedView {
                app,
                name: programs::installed(s, app)?.map_or_else(String::new, |k| k.name),
                asset: served.asset,
                since: served.since,
                waiting: s.count(&FUNCTION_JOBS, &range, COUNTED)?,
                aside: aside.into_iter().filter_map(|(_, a)| shown(a)).collect(),
                keys: room.keys,
                bytes: room.bytes,
            });
        }
        Ok(all)
    }
}

fn shown(aside: Aside) -> Option<(String, News, String)> {
    match aside.job.what {
        What::Told { reference, news, .. } => Some((reference, news, aside.why)),
        What::Call { .. } => None,
    }
}

/// What is to be run next for one program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DueView {
    /// The program.
    pub app: AppId,
    /// The run's number.
    pub job: u64,
    /// When it came: the function's clock.
    pub at: Millis,
    /// For its randomness.
    pub seed: u32,
    /// What.
    pub what: DueWhat,
}

/// What is to be run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DueWhat {
    /// A function that somebody called.
    Call {
        /// Who, to this program alone: 32 bytes.
        caller: Blob,
        /// The call's number.
        id: Number,
        /// Which function.
        function: String,
        /// What it is given.
        payload: Blob,
    },
    /// What became of an offer.
    Told {
        /// The functions' name for it.
        reference: String,
        /// To whom it was made: 32 bytes.
        caller: Blob,
        /// What.
        news: News,
    },
    /// Nothing any more: its time was up.
    Gone,
}

/// The first that is to be run, of each program that is served here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Due {}

impl Query for Due {
    type Out = Vec<DueView>;
    const NAME: &'static str = "functions.due";
    const ABOUT: &'static str = "what is to be run first, of each program that is served here";
    const READS: &'static [&'static Table] = &[&FUNCTIONS_SERVED, &FUNCTION_JOBS, &FUNCTION_CALLS];

    fn run(&self, s: &dyn Read) -> Result<Self::Out, StorageError> {
        let mut due = Vec::new();
        for (app, _) in all_served(s)? {
            let Some((number, job)) = server::first_job(s, app)? else { continue };
            let what = match job.what {
                What::Call { caller, id, .. } => match server::asked(s, app, &caller, &id)? {
                    Some((function, payload)) => DueWhat::Call {
                        caller: Blob(caller.to_vec()),
                        id: Number(id),
                        function,
                        payload: Blob(payload),
                    },
                    None => DueWhat::Gone,
                },
                What::Told { reference, caller, news } => {
                    DueWhat::Told { reference, caller: Blob(caller.to_vec()), news }
                }
            };
            due.push(DueView { app, job: number, at: job.at, seed: job.seed, what });
        }
        Ok(due)
    }
}

/// A thing that a program's functions keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The program.
    pub app: AppId,
    /// Its key.
    pub key: String,
}

impl Query for Kept {
    type Out = Option<Blob>;
    const NAME: &'static str = "functions.kept";
    const ABOUT: &'static str = "what functions of a program (`app`) keep under a `key`";
    const READS: &'static [&'static Table] = &[&FUNCTION_STORAGE];

    fn run(&self, s: &dyn Read) -> Result<Self::Out, StorageError> {
        Ok(SHELF.get(s, self.app, &self.key)?.map(Blob))
    }
}

/// Keys under which a program's functions keep something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptKeys {
    /// The program.
    pub app: AppId,
    /// How they begin.
    pub prefix: String,
}

impl Query for KeptKeys {
    type Out = Vec<String>;
    const NAME: &'static str = "functions.keys";
    const ABOUT: &'static str =
        "keys under which functions of a program (`app`) keep something, beginning with `prefix`";
    const READS: &'static [&'static Table] = &[&FUNCTION_STORAGE];

    fn run(&self, s: &dyn Read) -> Result<Self::Out, StorageError> {
        SHELF.keys(s, self.app, &self.prefix)
    }
}

/// What became of a call of this device's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallState {
    /// It is said until it is answered, ten minutes at most.
    Waits,
    /// Answered.
    Value {
        /// What the function returned.
        value: Blob,
        /// A signed offer.
        offer: Option<Blob>,
    },
    /// Not carried out.
    Refused {
        /// Why, in words.
        why: String,
        /// Whether there are no such functions there.
        not_here: bool,
    },
    /// No answer came in time: whether it was carried out is not known.
    NoAnswer,
}

/// Asks what became of a call of this device's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerOf {
    /// The call.
    pub call: Number,
}

impl Query for AnswerOf {
    type Out = Option<CallState>;
    const NAME: &'static str = "functions.answer";
    const ABOUT: &'static str = "what became of a `call` of this device's";
    const READS: &'static [&'static Table] = &[&CALLS_MADE];

    fn run(&self, s: &dyn Read) -> Result<Self::Out, StorageError> {
        let made: Option<Made> = s.get_typed(&CALLS_MADE, &self.call.0)?;
        Ok(made.map(|made| match made.state {
            MadeState::Waits => CallState::Waits,
            MadeState::NoAnswer => CallState::NoAnswer,
            MadeState::Answered(CallAnswer::Value { value, offer }) => CallState::Value {
                value: Blob(value.into_inner()),
                offer: offer.map(|o| Blob(o.into_inner())),
            },
            MadeState::Answered(CallAnswer::Refused(why)) => CallState::Refused {
                why: words(why).to_owned(),
                not_here: why == CallRefusal::NotServed,
            },
        }))
    }
}

const fn words(why: CallRefusal) -> &'static str {
    match why {
        CallRefusal::NotServed => "the program's functions do not run there",
        CallRefusal::Busy => "too much waits there",
        CallRefusal::Expired => "its time was up, or a clock is wrong",
        CallRefusal::SameIdOtherBytes => "another call came under its number",
        CallRefusal::Failed => "the function did not come to an end; nothing of it is kept",
    }
}
