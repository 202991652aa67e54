//! Functions of Mini Programs: what a program asks of its developer's node, and what that
//! answers.
//!
//! A call is signed by the key under which the program knows the person
//! ([`Domain::PROGRAM_CALL`]): no two programs' callers can be told to be one. The signature
//! is over all of it, the device that it is meant for included, so that nobody else can be
//! made to take it. The same call again gets the same answer, until it expires; another one
//! under its id is refused. From then on it is refused, so that what was forgotten is never
//! carried out twice.

use serde::{Deserialize, Serialize};

use crate::codec::{Bytes, DecodeError, Text, Wire};
use crate::ids::{AppId, DeviceId, Millis};
use crate::pay::Offer;
use crate::sign::{Domain, Signable, Signed};
use crate::sync::MAX_SERVICE;

/// The number of this service ([`crate::sync::Frame::Service`]).
pub const SERVICE: u8 = 5;
/// The version of calls that this build writes and reads.
pub const VERSION: u8 = 1;
/// Most bytes of a function's name.
pub const MAX_FUNCTION: usize = 64;
/// Most bytes of what a function is given.
pub const MAX_PAYLOAD: usize = 64 * 1024;
/// Most bytes of what a function answers: with an offer it still fits a program's value.
pub const MAX_ANSWER: usize = 48 * 1024;
/// Longest time that a call may wait for its answer, in milliseconds: ten minutes. The device
/// that answers keeps its answers for as long.
pub const MAX_CALL_LIFE: Millis = 10 * 60 * 1000;

/// "Run this for me."
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// [`VERSION`].
    pub version: u8,
    /// The program.
    pub program: AppId,
    /// The device that is to run it.
    pub device: DeviceId,
    /// The key by which the program knows the person; it signs.
    pub caller: [u8; 32],
    /// Random. With program and caller it is the call's key.
    pub id: [u8; 16],
    /// The function, 1 to [`MAX_FUNCTION`] bytes.
    pub function: Text<MAX_FUNCTION>,
    /// When it was made.
    pub made: Millis,
    /// Not to be run from then on; at most [`MAX_CALL_LIFE`] later.
    pub expires: Millis,
    /// What the function is given.
    pub payload: Bytes<MAX_PAYLOAD>,
}

impl Call {
    /// Most bytes of a signed call.
    pub const MAX_SIGNED: usize = Self::MAX_BYTES + Signed::<Self>::OVERHEAD;
}

// What is asked is between the program and its developer: not for a log.
impl core::fmt::Debug for Call {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Call({} bytes)", self.payload.len())
    }
}

impl Wire for Call {
    const NAME: &'static str = "program call";
    const MAX_BYTES: usize =
        1 + 32 + 32 + 32 + 16 + (1 + MAX_FUNCTION) + 10 + 10 + (3 + MAX_PAYLOAD);

    fn check(&self) -> Result<(), DecodeError> {
        if self.version != VERSION {
            return Err(DecodeError::UnknownVersion { name: Self::NAME, version: self.version });
        }
        let ensure = |holds, why| {
            if holds { Ok(()) } else { Err(DecodeError::malformed(Self::NAME, why)) }
        };
        let plain = !self.function.is_empty() && !self.function.contains(char::is_control);
        ensure(plain, "the function's name")?;
        let life = self.expires.checked_sub(self.made);
        ensure(life.is_some_and(|l| l > 0 && l <= MAX_CALL_LIFE), "its time")
    }
}

impl Signable for Call {
    const DOMAIN: Domain = Domain::PROGRAM_CALL;
    fn signer(&self) -> [u8; 32] {
        self.caller
    }
}

/// Why a call was not answered with a value. What is added stands at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallRefusal {
    /// The program's functions don't run there.
    NotServed,
    /// Too much waits there: say it again later. Not final.
    Busy,
    /// Its time is up, or that of its clock.
    Expired,
    /// Another call came under this id.
    SameIdOtherBytes,
    /// The function did not come to an end: nothing of what it did is kept.
    Failed,
}

impl CallRefusal {
    /// Whether the same call may be answered otherwise later.
    #[must_use]
    pub const fn passes(self) -> bool {
        matches!(self, Self::Busy)
    }
}

/// What became of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallAnswer {
    /// The function's answer.
    Value {
        /// What it returned.
        value: Bytes<MAX_ANSWER>,
        /// A signed offer that it asked for.
        offer: Option<Box<Bytes<{ Offer::MAX_SIGNED }>>>,
    },
    /// There is none.
    Refused(CallRefusal),
}

/// One word between a device that calls and the one that is called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallFrame {
    /// A signed [`Call`].
    Call {
        /// The program, so that what nobody here serves costs no look at its signature.
        program: AppId,
        /// The call's id.
        id: [u8; 16],
        /// The call.
        call: Box<Bytes<{ Call::MAX_SIGNED }>>,
    },
    /// What became of a call.
    Answer {
        /// The call's id.
        id: [u8; 16],
        /// The answer.
        answer: CallAnswer,
    },
}

impl Wire for CallFrame {
    const NAME: &'static str = "call frame";
    const MAX_BYTES: usize = MAX_SERVICE;
}

const _: () = assert!(1 + 32 + 16 + 3 + Call::MAX_SIGNED <= MAX_SERVICE);
const _: () = assert!(MAX_ANSWER + Offer::MAX_SIGNED + 8 <= 64 * 1024);

#[cfg(test)]
mod tests {
    use super::{Call, MAX_CALL_LIFE, VERSION};
    use crate::account::testing::device;
    use crate::codec::{self, Wire};
    use crate::ids::AppId;
    use crate::sign::{Signed, SigningKey};

    fn call(key: &SigningKey) -> Call {
        Call {
            version: VERSION,
            program: AppId([1; 32]),
            device: device(2),
            caller: key.verifying_key().to_bytes(),
            id: [3; 16],
            function: "book".try_into().unwrap(),
            made: 1_000,
            expires: 1_000 + MAX_CALL_LIFE,
            payload: b"{}".to_vec().try_into().unwrap(),
        }
    }

    #[test]
    fn a_call_is_its_callers_and_for_one_device() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let signed = Signed::new(call(&key), &key);
        let bytes = signed.bytes().to_vec();
        assert_eq!(Signed::<Call>::from_bytes(&bytes).unwrap(), signed);
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert!(Signed::<Call>::from_bytes(&other).is_err(), "byte {at}");
        }
    }

    #[test]
    fn what_a_call_may_not_be() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let wrong: [&dyn Fn(&mut Call); 5] = [
            &|c| c.version = 2,
            &|c| c.function = "".try_into().unwrap(),
            &|c| c.function = "a\nb".try_into().unwrap(),
            &|c| c.expires = c.made,
            &|c| c.expires = c.made + MAX_CALL_LIFE + 1,
        ];
        for (n, edit) in wrong.iter().enumerate() {
            let mut call = call(&key);
            edit(&mut call);
            assert!(call.check().is_err(), "{n}");
            assert!(codec::decode::<Call>(&codec::encode(&call)).is_err(), "{n}");
        }
    }
}
