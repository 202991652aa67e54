//! The child process by itself, for tests. The app starts the same thing from itself.
//!
//! With the argument `probe` it locks itself down and then tries, as native code that has
//! escaped its guest would, what must not work; see `tests/escape.rs`.

use std::process::ExitCode;

mod probe;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("probe") => probe::main(),
        _ => teahouse_programs::child::main(),
    }
}
