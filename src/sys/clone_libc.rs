//! Making a child where the clone is not ours: libc's fork.

use core::ffi::c_void;

use rustix::fd::OwnedFd;

use super::memory::Region;
use super::{Errno, Features, check};

/// What a child runs: it never comes back.
pub(crate) type Entry = unsafe extern "C" fn(*mut c_void) -> !;

/// The call that is made.
pub(crate) fn name(_features: Features) -> &'static str {
    "fork"
}

/// A child, not yet known to have reached exec.
#[derive(Debug)]
pub(crate) struct Cloned {
    pub(crate) pid: i32,
    pub(crate) pidfd: Option<OwnedFd>,
    /// What the parent is sent at its end, unless exec has changed that.
    pub(crate) exit_signal: i32,
}

/// What kind of child. A fork has `SIGCHLD` at its end, and namespaces and cgroups
/// are refused when a command is prepared.
#[derive(Clone, Copy, Debug)]
#[allow(dead_code, reason = "the same for every platform")]
pub(crate) struct How {
    pub(crate) features: Features,
    pub(crate) exit_signal: i32,
    pub(crate) namespaces: u32,
    pub(crate) cgroup: Option<i32>,
    pub(crate) stops_caller: bool,
}

/// Makes a child with a copy of the memory, which runs `entry(argument)`.
///
/// # Safety
///
/// All signals are blocked. `entry` and what it reads through `argument` keep
/// to what a child after fork may do.
pub(crate) unsafe fn clone(
    how: How,
    _region: &Region,
    entry: Entry,
    argument: *mut c_void,
) -> Result<Cloned, Errno> {
    // SAFETY: the child calls nothing but the entry, the caller's contract.
    let pid = check(unsafe { libc::fork() })?;
    if pid == 0 {
        // SAFETY: the caller's contract.
        unsafe { entry(argument) }
    }
    // The child is ours and not reaped, so the pid is still its own.
    let pidfd =
        how.features.contains(Features::PIDFD).then(|| super::process::open_pidfd(pid)).flatten();
    Ok(Cloned { pid, pidfd, exit_signal: libc::SIGCHLD })
}
