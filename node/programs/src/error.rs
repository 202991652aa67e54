//! What can go wrong with a program, in words for the person who opened it.

use serde::{Deserialize, Serialize};

use crate::limits;

/// Why a program has no next view. [`ProgramError::is_final`] tells whether it has ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum ProgramError {
    /// It doesn't load: not a program, damaged, or it asks for what no program gets.
    #[error("this is not a program that can run here: {0}")]
    BadProgram(String),
    /// It reported an error of its own, and goes on.
    #[error("the program reports an error: {0}")]
    Threw(String),
    /// It broke down.
    #[error("the program broke down: {0}")]
    Trapped(String),
    /// It used up its processor time.
    #[error("the program took too long and was stopped")]
    TookTooLong,
    /// It used up its memory.
    #[error("the program used too much memory and was stopped")]
    OutOfMemory,
    /// What it wants shown is beyond a bound or makes no sense.
    #[error("the program was stopped, because what it wants to show is not allowed: {0}")]
    BadView(String),
    /// More events, or larger ones, than an update may carry; nothing was sent.
    #[error("too much happened at once for the program")]
    TooMuch,
    /// Too many programs are open, or this one has not answered yet.
    #[error("too much is going on: close a program, or try again")]
    Busy,
    /// It was closed, or ended with an earlier error.
    #[error("the program is closed")]
    Closed,
    /// The process that runs the programs has ended, and all of them with it.
    #[error("the programs' own process has ended; open the program again")]
    HostDied,
    /// The process that runs the programs can't be started.
    #[error("programs can't run on this machine: {0}")]
    CannotStart(String),
    /// It asked for more than it took answers to.
    #[error("the program asked for more than it took answers to, and was stopped")]
    AskedTooMuch,
}

impl ProgramError {
    /// Whether the program has ended, so that it can only be opened again.
    pub const fn is_final(&self) -> bool {
        !matches!(self, Self::Threw(_) | Self::TooMuch | Self::Busy)
    }

    /// The same error with its words cut to one bounded line: they come from a program.
    #[must_use]
    pub(crate) fn in_words(self) -> Self {
        match self {
            Self::BadProgram(text) => Self::BadProgram(one_line(&text)),
            Self::Threw(text) => Self::Threw(one_line(&text)),
            Self::Trapped(text) => Self::Trapped(one_line(&text)),
            Self::BadView(text) => Self::BadView(one_line(&text)),
            Self::CannotStart(text) => Self::CannotStart(one_line(&text)),
            other => other,
        }
    }
}

/// The text on one line without control characters, of at most [`limits::ERROR_TEXT`].
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::new();
    for c in text.trim().chars().take(limits::ERROR_TEXT) {
        let c = if c.is_control() { ' ' } else { c };
        if line.len() + c.len_utf8() > limits::ERROR_TEXT {
            break;
        }
        line.push(c);
    }
    line
}
