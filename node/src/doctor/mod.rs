//! What is wrong, verdict first and in words; the reasons why messages wait.
//!
//! Pure judgement over [`Facts`] that the command line gathers, so that it can be tested
//! without breaking a disk. This file is the outcome; `facts` is what is known, `checks` judges
//! it, `words` says it.

mod checks;
mod facts;
#[cfg(test)]
mod tests;
mod words;

use serde::Serialize;

pub use self::checks::slow;
pub use self::facts::{DeviceFacts, Facts, LOOKED_AT, Undelivered, undelivered};
pub use self::words::{relay_host, relay_name};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing to do.
    Fine,
    /// Something to know.
    Warning,
    /// Something to mend.
    Trouble,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub verdict: Verdict,
    /// What it is, as a sentence.
    pub text: String,
}

/// The outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The worst of the findings.
    pub verdict: Verdict,
    /// It in a sentence.
    pub summary: String,
    /// Everything looked at, the worst first.
    pub findings: Vec<Finding>,
}

struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, verdict: Verdict, text: String) {
        self.0.push(Finding { verdict, text });
    }

    fn fine(&mut self, text: String) {
        self.add(Verdict::Fine, text);
    }

    fn warn(&mut self, text: String) {
        self.add(Verdict::Warning, text);
    }

    fn trouble(&mut self, text: String) {
        self.add(Verdict::Trouble, text);
    }
}
