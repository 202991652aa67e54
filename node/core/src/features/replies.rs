//! Automatic replies: what a service account answers to who writes to it.
//!
//! The text is a record that the account's devices share; the device on which it was set
//! answers, so that two of them never answer the same. It answers in direct chats whose other
//! side both have agreed to, and only where nobody of the account has written for a day: two
//! who both answer automatically say one thing each. What is due follows from the messages
//! alone, so that neither a restart nor a rebuild says anything twice.

use serde::{Deserialize, Serialize};
use teahouse_protocols::ids::{DeviceId, Millis, TopicId};
use teahouse_protocols::membership::TopicKind;

use crate::command::{Chat, Refusal, Reply};
use crate::engine::topics;
use crate::features::{Feature, chat, contacts};
use crate::query::{Asked, Query};
use crate::store::{KeyRange, Read, ReadExt, StorageError, Table};
use crate::tables::{Chosen, MESSAGES, MessageRow, RECORDS, record_key};
use crate::tx::{Fail, Tx, best_effort};

/// The feature's name, as in [`RECORDS`].
const NAME: &str = "replies";
/// The only record's id.
const ID: [u8; 32] = [0; 32];
/// Longest text, in bytes.
pub const MAX_TEXT: usize = 2 * 1024;
/// A chat in which somebody of the account wrote in this time is not answered; nor is a
/// message that is older.
pub const QUIET: Millis = 24 * 3600 * 1000;
/// Newest messages looked at for that.
const LOOKED_AT: usize = 64;

pub(crate) const FEATURE: Feature =
    Feature { name: NAME, queries: &[Asked::of::<Current>()], tend: Some(tend), ..Feature::NONE };

/// A command about automatic replies.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// This device answers so from now on.
    Set {
        /// 1 to [`MAX_TEXT`] bytes.
        text: String,
    },
    /// No device answers any longer.
    Off,
}

/// What is answered, and by which device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Automatic {
    /// The text.
    pub text: String,
    /// The device that answers.
    pub device: DeviceId,
}

pub(crate) fn command(tx: &mut Tx<'_>, c: Command) -> Result<Reply, Fail> {
    let value = match c {
        Command::Set { text } => {
            let text = text.trim().to_owned();
            if text.is_empty() || text.len() > MAX_TEXT {
                let why = format!("an automatic reply has 1 to {MAX_TEXT} bytes");
                return Err(Refusal::Invalid { why }.into());
            }
            let device = tx.me()?.device;
            postcard::to_stdvec(&Automatic { text, device }).map_err(Fail::peer)?
        }
        Command::Off => Vec::new(),
    };
    contacts::put_record(tx, NAME, ID, value)?;
    Ok(Reply::Done)
}

/// Somebody wrote: answers what is to be answered.
fn tend(tx: &mut Tx<'_>) -> Result<Option<Millis>, Fail> {
    let heard = std::mem::take(&mut tx.mem.heard);
    if heard.is_empty() {
        return Ok(None);
    }
    let Some(automatic) = current(&tx.stage)? else { return Ok(None) };
    if automatic.device != tx.me()?.device {
        return Ok(None);
    }
    for topic in heard {
        if is_due(tx, topic)? {
            let text = automatic.text.clone();
            let (reply_to, mentions) = (None, Vec::new());
            let send = Chat::Send { topic, text, reply_to, mentions };
            best_effort(chat::command(tx, send).map(|_| ()))?;
        }
    }
    Ok(None)
}

fn is_due(tx: &mut Tx<'_>, topic: TopicId) -> Result<bool, StorageError> {
    let direct = topics::row(tx, topic)?.is_some_and(|r| r.kind == TopicKind::Direct && !r.hidden);
    if !direct || contacts::is_quiet(tx, topic)? || contacts::is_proposal(tx, topic)? {
        return Ok(false);
    }
    let Some(own) = tx.me()?.account else { return Ok(false) };
    let since = tx.now.saturating_sub(QUIET);
    let rows: Vec<(Vec<u8>, MessageRow)> =
        tx.scan_typed(&MESSAGES, &KeyRange::prefix(&topic.0), true, LOOKED_AT)?;
    let time = |key: &[u8]| -> Option<Millis> {
        Some(u64::from_be_bytes(*key.get(32..)?.first_chunk::<8>()?))
    };
    let recent: Vec<_> =
        rows.iter().filter(|(key, _)| time(key).is_some_and(|t| t > since)).collect();
    let mine = recent.iter().any(|(_, row)| row.account == own);
    // Where more was said in a day than is looked at, people talk.
    Ok(!mine && !recent.is_empty() && recent.len() < LOOKED_AT)
}

fn current(read: &dyn Read) -> Result<Option<Automatic>, StorageError> {
    let row: Option<Chosen<Vec<u8>>> = read.get_typed(&RECORDS, &record_key(NAME, &ID))?;
    Ok(row.and_then(|r| postcard::from_bytes(&r.value).ok()))
}

/// What this account answers automatically, if it does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Current {}

impl Query for Current {
    type Out = Option<Automatic>;
    const NAME: &'static str = "replies.current";
    const ABOUT: &'static str = "what this account answers automatically, and on which device";
    const READS: &'static [&'static Table] = &[&RECORDS];

    fn run(&self, s: &dyn Read) -> Result<Self::Out, StorageError> {
        current(s)
    }
}
