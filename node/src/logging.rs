//! Logs: to standard error, filtered by `RUST_LOG`, by default warnings and errors.
//!
//! What may be logged: counts, sizes, durations, error texts, and ids in their short form
//! (their `Debug`, eight digits). Never message text, names, links, keys or tokens.

use tracing_subscriber::EnvFilter;

/// Starts logging. Later calls do nothing, so that several nodes can share a process.
pub fn init() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .try_init();
}
