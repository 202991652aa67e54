//! What crosses the pipe between host and child: frames of a length and a postcard value.
//!
//! Both ends are of the same build, so the form has no versions. The host's end believes
//! nothing: a frame is bounded before it is read, decoding never panics, and what it says
//! is checked by [`crate::check`].

use std::collections::BTreeMap;
use std::io::{self, Read};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::error::ProgramError;
use crate::limits::FRAME_BYTES;
use crate::ui::{Event, View};

/// A program's code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Code {
    /// ES modules, run on the shared engine.
    JavaScript {
        /// The path of the module that exports `update`.
        main: String,
        /// All modules by their path in the package.
        modules: BTreeMap<String, String>,
    },
    /// A WebAssembly component of the world `teahouse:program`.
    Component(Vec<u8>),
}

impl Code {
    /// A JavaScript program of one module.
    #[must_use]
    pub fn javascript(source: impl Into<String>) -> Self {
        let main = "main.js".to_owned();
        Self::JavaScript { modules: BTreeMap::from([(main.clone(), source.into())]), main }
    }

    /// In bytes, names included.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::JavaScript { main, modules } => {
                let files = modules.iter().map(|(path, source)| path.len() + source.len());
                main.len() + files.sum::<usize>()
            }
            Self::Component(bytes) => bytes.len(),
        }
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What keeps the child in, beside WebAssembly itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Sandbox {
    /// The kernel refuses it every file and connection (Landlock).
    pub landlock: bool,
    /// The kernel refuses it every call but the few that it needs (seccomp).
    pub seccomp: bool,
    /// The kernel bounds its memory, and refuses it files and core dumps (rlimits).
    pub limits: bool,
}

/// From the host. A program's number is never used again, and it has one request under way
/// at most, so the number names the request too.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum ToChild {
    /// Answered by [`FromChild::Opened`].
    Open { program: u64, code: Code },
    /// Answered by [`FromChild::Updated`].
    Update { program: u64, events: Vec<Event> },
    /// Not answered.
    Close { program: u64 },
}

/// From the child.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum FromChild {
    /// Once, first: it is locked down and reads.
    Ready(Sandbox),
    Opened {
        program: u64,
        result: Result<(), ProgramError>,
    },
    Updated {
        program: u64,
        result: Result<View, ProgramError>,
    },
}

/// The length and the value.
pub(crate) fn encode<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    let frame = postcard::to_extend(value, vec![0; 4]).map_err(io::Error::other)?;
    let len = frame.len() - 4;
    frame_length(u32::try_from(len).unwrap_or(u32::MAX))?;
    let mut frame = frame;
    frame[..4].copy_from_slice(&(len as u32).to_le_bytes());
    Ok(frame)
}

/// The value of a frame that has been read whole.
pub(crate) fn decode<T: DeserializeOwned>(frame: &[u8]) -> io::Result<T> {
    match postcard::take_from_bytes(frame) {
        Ok((value, [])) => Ok(value),
        Ok(_) | Err(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "malformed frame")),
    }
}

/// A frame's length, where it is within the bound.
pub(crate) fn frame_length(len: u32) -> io::Result<usize> {
    let len = len as usize;
    if len > FRAME_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "frame longer than 4 MiB"));
    }
    Ok(len)
}

/// Reads one value; none at the end of the input.
pub(crate) fn read<T: DeserializeOwned>(input: &mut impl Read) -> io::Result<Option<T>> {
    let mut len = [0; 4];
    match input.read_exact(&mut len) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let mut frame = vec![0; frame_length(u32::from_le_bytes(len))?];
    input.read_exact(&mut frame)?;
    decode(&frame).map(Some)
}
