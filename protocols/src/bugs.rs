//! The simulator's planted bugs: places where the code can be told to do wrong, so that it
//! is known that the simulator would notice.
//!
//! Only a build with `--cfg sim_bugs` can do wrong, and then only by the one bug that its
//! process was started with. In every other build [`planted`] is the constant `false`, and
//! the compiler removes what hangs on it.

/// Whether a bug is planted.
#[cfg(not(sim_bugs))]
#[must_use]
pub const fn planted(_bug: &str) -> bool {
    false
}

#[cfg(sim_bugs)]
static PLANTED: std::sync::OnceLock<String> = std::sync::OnceLock::new();

/// Whether a bug is planted.
#[cfg(sim_bugs)]
#[must_use]
pub fn planted(bug: &str) -> bool {
    PLANTED.get().is_some_and(|planted| planted == bug)
}

/// Plants a bug for as long as the process lives. The first one stays.
#[cfg(sim_bugs)]
pub fn plant(bug: String) {
    let _ = PLANTED.set(bug);
}
