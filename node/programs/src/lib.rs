//! Mini Programs: strangers' code that runs in a child process without keys.
//!
//! A program is a WebAssembly component with one function, or JavaScript on a shared
//! engine that is such a component. It imports nothing; see `protocols/wit/program.wit`,
//! and README.md beside this crate for who writes one. Four walls stand around it:
//!
//! 1. WebAssembly: memory, table and processor-time limits, and no imports at all;
//! 2. the child process: no keys, no environment, no open files but its three pipes;
//! 3. the kernel: Landlock, seccomp and rlimits, so that even a guest that escapes its
//!    engine opens no file and no connection ([`child`]);
//! 4. the host: it believes nothing that the child says, and ends it when it hangs
//!    ([`Host`]).
//!
//! What a program wants is only ever *asked for* ([`ui::Effect`]); carrying it out, and
//! the grants for it, are the node's.

pub mod child;
pub mod limits;
pub mod ui;

mod check;
mod error;
mod host;
mod wire;

pub use error::ProgramError;
pub use host::{Host, HostCommand, Instance, Launch, Status};
pub use wire::{Code, Sandbox};
