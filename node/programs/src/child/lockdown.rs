//! The third wall: what the kernel refuses this process, whatever runs in it.
//!
//! Meant for native code that has escaped WebAssembly. In two parts, because threads must
//! be started in between: [`Lockdown::files`] while there is one thread, and
//! [`Lockdown::calls`], after which no thread, process, file or connection can be made.
//! Each part is best effort; [`Sandbox`] says what holds, and the host shows it.

use crate::wire::Sandbox;

/// The first part of the lockdown, done.
#[derive(Debug)]
pub struct Lockdown(Sandbox);

impl Lockdown {
    /// Gives up files, connections, memory beyond a bound, and core dumps. To be called
    /// while this is the process's only thread.
    #[must_use]
    pub fn files() -> Self {
        Self(Sandbox { landlock: landlock(), limits: limits(), seccomp: false })
    }

    /// Gives up new threads, processes and every kernel call that running programs don't
    /// need, for all threads.
    #[must_use]
    pub fn calls(self) -> Sandbox {
        Sandbox { limits: self.0.limits && no_threads(), seccomp: seccomp(), ..self.0 }
    }
}

/// The memory of all programs together, of the engine and of the code made from both. The
/// kernel counts what can be written, not the address space that wasmtime reserves.
#[cfg(unix)]
const DATA_BYTES: u64 = 3 << 30;

/// Address space: wasmtime reserves 4 GiB for each memory, so that reads beyond its end
/// fault.
#[cfg(unix)]
const ADDRESS_BYTES: u64 = 512 << 30;

#[cfg(unix)]
fn limits() -> bool {
    use rustix::process::Resource;

    [
        // No new descriptor; the three open ones go on.
        (Resource::Nofile, 0),
        (Resource::Fsize, 0),
        (Resource::Core, 0),
        (Resource::Memlock, 0),
        (Resource::Data, DATA_BYTES),
        (Resource::As, ADDRESS_BYTES),
    ]
    .into_iter()
    .all(|(resource, bound)| limit(resource, bound))
}

/// For a user that is not root; seccomp refuses threads to any.
#[cfg(unix)]
fn no_threads() -> bool {
    limit(rustix::process::Resource::Nproc, 0)
}

#[cfg(unix)]
fn limit(resource: rustix::process::Resource, bound: u64) -> bool {
    use rustix::process::{Rlimit, getrlimit, setrlimit};

    // An administrator may have set a lower one, which can't be raised.
    let bound = getrlimit(resource).maximum.map_or(bound, |maximum| maximum.min(bound));
    setrlimit(resource, Rlimit { current: Some(bound), maximum: Some(bound) }).is_ok()
}

#[cfg(not(unix))]
fn limits() -> bool {
    false
}

#[cfg(not(unix))]
fn no_threads() -> bool {
    false
}

/// Handles every right that Landlock knows, and grants none.
#[cfg(target_os = "linux")]
fn landlock() -> bool {
    use landlock::{
        ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetError, RulesetStatus, Scope,
    };

    // The newest rights that this was read for; older kernels enforce those they know.
    const KNOWN: ABI = ABI::V6;
    let restrict = || -> Result<bool, RulesetError> {
        let status = Ruleset::default()
            .handle_access(AccessFs::from_all(KNOWN))?
            .handle_access(AccessNet::from_all(KNOWN))?
            .scope(Scope::from_all(KNOWN))?
            .create()?
            .restrict_self()?;
        Ok(status.ruleset != RulesetStatus::NotEnforced)
    };
    restrict().unwrap_or(false)
}

#[cfg(not(target_os = "linux"))]
fn landlock() -> bool {
    false
}

/// Refuses, with "not permitted", all but the listed kernel calls.
#[cfg(target_os = "linux")]
fn seccomp() -> bool {
    let Ok(arch) = std::env::consts::ARCH.try_into() else { return false };
    let Ok(rules) = rules() else { return false };
    let refuse = seccompiler::SeccompAction::Errno(libc::EPERM as u32);
    let allow = seccompiler::SeccompAction::Allow;
    seccompiler::SeccompFilter::new(rules, refuse, allow, arch)
        .and_then(seccompiler::BpfProgram::try_from)
        .is_ok_and(|program| seccompiler::apply_filter_all_threads(&program).is_ok())
}

#[cfg(not(target_os = "linux"))]
fn seccomp() -> bool {
    false
}

/// What is left: memory of its own, waiting, telling time, its own signals, reading
/// standard input and writing standard output and error. A descriptor that was inherited
/// by mistake is of no use.
#[cfg(target_os = "linux")]
fn rules()
-> Result<std::collections::BTreeMap<i64, Vec<seccompiler::SeccompRule>>, seccompiler::BackendError>
{
    use seccompiler::{SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

    let when = |argument: u8, operator: SeccompCmpOp, value: u64| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
            .and_then(|condition| SeccompRule::new(vec![condition]))
    };
    let anonymous = libc::MAP_ANONYMOUS as u64;
    let mut rules = std::collections::BTreeMap::from([
        (libc::SYS_read, vec![when(0, SeccompCmpOp::Eq, 0)?]),
        (libc::SYS_write, vec![when(0, SeccompCmpOp::Eq, 1)?, when(0, SeccompCmpOp::Eq, 2)?]),
        // How the C library says why it gives up.
        (libc::SYS_writev, vec![when(0, SeccompCmpOp::Eq, 2)?]),
        (libc::SYS_mmap, vec![when(3, SeccompCmpOp::MaskedEq(anonymous), anonymous)?]),
        // How a process aborts. To another process it would be a signal.
        (libc::SYS_tgkill, vec![when(0, SeccompCmpOp::Eq, u64::from(std::process::id()))?]),
    ]);
    let free = [
        libc::SYS_brk,
        libc::SYS_clock_gettime,
        libc::SYS_clock_nanosleep,
        libc::SYS_exit,
        libc::SYS_exit_group,
        libc::SYS_futex,
        libc::SYS_getpid,
        libc::SYS_getrandom,
        libc::SYS_gettid,
        libc::SYS_madvise,
        libc::SYS_membarrier,
        libc::SYS_mprotect,
        libc::SYS_mremap,
        libc::SYS_munmap,
        libc::SYS_nanosleep,
        libc::SYS_restart_syscall,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sched_getaffinity,
        libc::SYS_sched_yield,
        libc::SYS_sigaltstack,
    ];
    rules.extend(free.map(|call| (call, Vec::new())));
    Ok(rules)
}
