//! Calls and answers on the wire (service 5).

use teahouse_protocols::codec;
use teahouse_protocols::functions::{Call, CallAnswer, CallFrame, CallRefusal, SERVICE as NUMBER};
use teahouse_protocols::ids::{DeviceId, Millis};
use teahouse_protocols::sign::Signed;

use super::{caller, server};
use crate::features::services::{self, Prepared, Service};
use crate::store::Read;
use crate::tx::{Fail, Tx};

pub(super) const SERVICE: Service =
    Service { number: NUMBER, prepare, take, met: caller::again, tend, wanted: caller::wanted };

/// A frame, with its call verified.
enum Word {
    Call(Box<Signed<Call>>),
    NotServed([u8; 16]),
    Answer([u8; 16], CallAnswer),
}

fn prepare(read: &dyn Read, bytes: &[u8]) -> Option<Prepared> {
    let word = match codec::decode::<CallFrame>(bytes).ok()? {
        CallFrame::Call { program, id, call } => {
            // What is not served here is not worth a look at its signature.
            if server::served(read, program).ok()?.is_none() {
                Word::NotServed(id)
            } else {
                let call = Signed::<Call>::from_bytes(&call).ok()?;
                if (call.get().program, call.get().id) != (program, id) {
                    return None;
                }
                Word::Call(Box::new(call))
            }
        }
        CallFrame::Answer { id, answer } => Word::Answer(id, answer),
    };
    Some(Box::new(word))
}

fn take(tx: &mut Tx<'_>, from: DeviceId, prepared: Prepared) -> Result<(), Fail> {
    let Ok(word) = prepared.downcast::<Word>() else { return Ok(()) };
    match *word {
        Word::Call(call) => {
            let id = call.get().id;
            match server::called(tx, from, &call)? {
                Some(answer) => say(tx, from, &CallFrame::Answer { id, answer }),
                None => Ok(()),
            }
        }
        Word::NotServed(id) => {
            let answer = CallAnswer::Refused(CallRefusal::NotServed);
            say(tx, from, &CallFrame::Answer { id, answer })
        }
        Word::Answer(id, answer) => caller::heard(tx, from, id, answer),
    }
}

fn tend(tx: &mut Tx<'_>) -> Result<Option<Millis>, Fail> {
    let (a, b) = (caller::tend(tx)?, server::prune(tx)?);
    Ok(match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    })
}

pub(super) fn say(tx: &mut Tx<'_>, to: DeviceId, frame: &CallFrame) -> Result<(), Fail> {
    services::say(tx, to, NUMBER, codec::encode(frame))
}
