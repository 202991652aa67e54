//! Logs: to standard error, filtered by `RUST_LOG`, by default warnings and errors; of
//! libp2p's reachability probes, which fail wherever there is a firewall, errors only.
//!
//! What may be logged: counts, sizes, durations, error texts, and ids in their short form
//! (their `Debug`, eight digits). Never message text, names, links, keys or tokens.

use std::panic;
use std::sync::Once;

use tracing_subscriber::EnvFilter;

/// Starts logging. Later calls do nothing, so that several nodes can share a process.
pub fn init() {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("warn,libp2p_autonat=error"));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .try_init();
    quiet_redb();
}

/// redb panics on a file that was altered from outside. The store catches that and tells it
/// as damage, in words; the panic's own message and backtrace would only drown them.
fn quiet_redb() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| match info.location() {
            Some(at) if at.file().contains("/redb-") => {
                tracing::debug!("redb gave up in line {} of {}", at.line(), at.file());
            }
            _ => before(info),
        }));
    });
}
