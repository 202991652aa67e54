//! What can be asked of functions: by who uses a program, by its developer, and by the runtime
//! that runs them.

use serde::{Deserialize, Serialize};
use teahouse_protocols::ids::{AppId, AssetId};

use super::tables::{FUNCTIONS_SERVED, Served};
use super::{MAX_SERVED, bills, caller, server};
use crate::command::{Refusal, Reply};
use crate::features::pay::tables::Number;
use crate::features::{pay, programs};
use crate::store::{KeyRange, ReadExt};
use crate::tx::{Fail, Tx};
use crate::view::Blob;

/// A command to functions.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Ask a function of a program at its developer's node. Replies [`Reply::Call`]; the answer
    /// comes to `functions.answer`.
    Call {
        /// The program: it names the power, and was allowed it.
        app: AppId,
        /// 1 to 64 bytes.
        function: String,
        /// At most 64 KiB.
        payload: Blob,
    },
    /// Take an offer that a program shows. Replies [`Reply::Payment`]: nothing is paid before
    /// the person says so (`pay`). The same offer is the same payment.
    Bill {
        /// The program.
        app: AppId,
        /// The signed offer.
        offer: Blob,
    },

    /// Run a program's functions on this device, which its manifest names.
    Serve {
        /// The program, installed here.
        app: AppId,
        /// The money of its offers; none where it makes none, or this device issues one money
        /// only.
        #[serde(default)]
        asset: Option<AssetId>,
    },
    /// Run them no longer. What they keep stays.
    Stop {
        /// The program.
        app: AppId,
    },
    /// Tell functions once more what they could not be told.
    Retry {
        /// The program.
        app: AppId,
    },
    /// What became of the first run of `functions.due`: all that it did becomes true at once.
    Finish {
        /// The program.
        app: AppId,
        /// Its number.
        job: u64,
        /// What it did, or why it came to no end, in words.
        ran: Result<Ran, String>,
    },
}

/// What a run did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ran {
    /// What it changed of what the functions keep.
    #[serde(default)]
    pub writes: Vec<Write>,
    /// An offer to who called.
    #[serde(default)]
    pub offer: Option<NewOffer>,
    /// What it gives back.
    #[serde(default)]
    pub refunds: Vec<NewRefund>,
    /// What it answers: at most 48 KiB.
    pub answer: Blob,
}

/// A thing that is kept from now on, or no longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Write {
    /// 1 to 128 bytes.
    pub key: String,
    /// At most 64 KiB; nothing to drop it.
    pub value: Option<Blob>,
}

/// "This, at that price."
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewOffer {
    /// The functions' own name for it, 1 to 64 bytes: news of it come under this name.
    pub reference: String,
    /// 1 to 120 bytes.
    pub title: String,
    /// Title, how many, price of one in minor units.
    pub lines: Vec<(String, u32, u64)>,
    /// How long it stands, in seconds: at most half an hour. 0 for a quarter of an hour.
    #[serde(default)]
    pub seconds: u32,
}

/// "So much of it goes back."
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewRefund {
    /// Of the offer of this name.
    pub reference: String,
    /// Minor units; none for all that is left.
    #[serde(default)]
    pub amount: Option<u64>,
    /// For the payer, at most 140 bytes.
    #[serde(default)]
    pub memo: String,
}

pub(crate) fn command(tx: &mut Tx<'_>, c: Command) -> Result<Reply, Fail> {
    match c {
        Command::Call { app, function, payload } => {
            let id = caller::call(tx, app, &function, payload.0)?;
            Ok(Reply::Call { call: Number(id) })
        }
        Command::Bill { app, offer } => {
            let payment = bills::bill(tx, app, &offer.0)?;
            Ok(Reply::Payment { payment })
        }
        Command::Serve { app, asset } => {
            serve(tx, app, asset)?;
            Ok(Reply::Done)
        }
        Command::Stop { app } => {
            require(tx, app)?;
            server::stop(tx, app)?;
            Ok(Reply::Done)
        }
        Command::Retry { app } => {
            require(tx, app)?;
            server::retry(tx, app)?;
            Ok(Reply::Done)
        }
        Command::Finish { app, job, ran } => {
            server::finish(tx, app, job, ran)?;
            Ok(Reply::Done)
        }
    }
}

fn require(tx: &Tx<'_>, app: AppId) -> Result<(), Fail> {
    let none = || Refusal::NotFound { what: "program served here".into() };
    server::served(tx, app)?.map(|_| ()).ok_or_else(|| none().into())
}

fn serve(tx: &mut Tx<'_>, app: AppId, asset: Option<AssetId>) -> Result<(), Fail> {
    let none = || Refusal::NotFound { what: "program here".into() };
    let manifest = programs::manifest(tx, app)?.ok_or_else(none)?;
    let me = tx.me()?.device;
    if manifest.get().cloud.as_ref().is_none_or(|c| c.device != me) {
        let why = "the program's manifest does not name this device for its functions".into();
        return Err(Refusal::NotAllowed { why }.into());
    }
    let known = server::served(tx, app)?;
    if known.is_none() && tx.count(&FUNCTIONS_SERVED, &KeyRange::all(), MAX_SERVED)? == MAX_SERVED {
        let what = "programs whose functions run here".into();
        return Err(Refusal::Limit { what, max: MAX_SERVED as u64 }.into());
    }
    let asset = pay::issued_here(tx, asset)?;
    let since = known.map_or(tx.now, |k| k.since);
    Ok(tx.put(&FUNCTIONS_SERVED, &app.0, &Served { asset, since })?)
}
