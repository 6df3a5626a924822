//! Making a child on Linux: one that shares the parent's memory, or one that
//! has a copy. Either runs on a stack of its own.

use core::ffi::c_void;

use rustix::fd::{FromRawFd, OwnedFd};

use super::arch::{Entry, clone_into};
use super::memory::Region;
use super::sanitizer::beside_child;
use super::{Errno, Features};

const CLONE_CLEAR_SIGHAND: u64 = 1 << 32;
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// `struct clone_args` as Linux 5.7 has it.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// What the kernel before 5.7 takes: without the cgroup.
const SIZE_WITHOUT_CGROUP: usize = 64;

static_assertions::const_assert_eq!(size_of::<CloneArgs>(), 88);

/// The call that is made with these features.
pub(crate) fn name(features: Features) -> &'static str {
    if features.contains(Features::CLONE3) { "clone3" } else { "clone" }
}

/// A child, not yet known to have reached exec.
#[derive(Debug)]
pub(crate) struct Cloned {
    pub(crate) pid: i32,
    pub(crate) pidfd: Option<OwnedFd>,
    /// What the parent is sent at its end, unless exec has changed that.
    pub(crate) exit_signal: i32,
}

/// What kind of child.
#[derive(Clone, Copy, Debug)]
pub(crate) struct How {
    pub(crate) features: Features,
    /// What the parent is sent at its end; 0 for none.
    pub(crate) exit_signal: i32,
    /// `CLONE_NEW*`.
    pub(crate) namespaces: u32,
    /// The directory of a cgroup; with [`Features::CLONE3`] alone.
    pub(crate) cgroup: Option<i32>,
    /// Whether the caller stops where memory is shared.
    pub(crate) stops_caller: bool,
}

/// Makes a child that runs `entry(argument)`. With [`Features::SHARED_MEMORY`]
/// it shares the parent's memory, and the caller stops until it has called exec
/// or ended if that was said; else it has a copy. Where the caller does not stop,
/// both run.
///
/// # Safety
///
/// All signals are blocked. `entry` and what it reads through `argument` keep
/// to what a child after fork may do, and use less than the region's stack,
/// which nobody else uses until the child has called exec or ended. So long the
/// region and all that is read through `argument` stay as they are, also if the
/// caller runs on.
pub(crate) unsafe fn clone(
    how: How,
    region: &Region,
    entry: Entry,
    argument: *mut c_void,
) -> Result<Cloned, Errno> {
    let How { features, exit_signal, namespaces, cgroup, stops_caller } = how;
    let mut flags = 0;
    if features.contains(Features::SHARED_MEMORY) {
        flags |= libc::CLONE_VM;
        if stops_caller {
            flags |= libc::CLONE_VFORK;
        }
    }
    if features.contains(Features::SHARED_FILES) {
        flags |= libc::CLONE_FILES;
    }
    if features.contains(Features::PIDFD) {
        flags |= libc::CLONE_PIDFD;
    }
    let mut flags = flags as u64 | u64::from(namespaces);
    let mut pidfd: i32 = -1;
    let result = if features.contains(Features::CLONE3) {
        let stack = region.stack() as u64;
        let mut size = SIZE_WITHOUT_CGROUP;
        if cgroup.is_some() {
            flags |= CLONE_INTO_CGROUP;
            size = size_of::<CloneArgs>();
        }
        let args = CloneArgs {
            flags: flags | CLONE_CLEAR_SIGHAND,
            cgroup: cgroup.unwrap_or(0) as u64,
            pidfd: &raw mut pidfd as u64,
            exit_signal: exit_signal as u64,
            stack,
            stack_size: region.stack_top() as u64 - stack,
            ..CloneArgs::default()
        };
        let args = [&raw const args as usize, size, 0, 0, 0];
        // SAFETY: the stack is the region's, ours alone by the contract, its top
        // aligned to a page; no CLONE_THREAD or CLONE_SETTLS; the kernel reads
        // `args` and writes `pidfd` before it returns. The entry is the
        // caller's contract.
        let clones = || unsafe { clone_into(libc::SYS_clone3, args, entry, argument) };
        beside_child(region, clones)
    } else {
        // clone(2) gives the pidfd through the argument for the parent's tid.
        let flags = flags as usize | exit_signal as usize;
        let args = [flags, region.stack_top() as usize, &raw mut pidfd as usize, 0, 0];
        // SAFETY: as above.
        beside_child(region, || unsafe { clone_into(libc::SYS_clone, args, entry, argument) })
    };
    if result < 0 {
        return Err(Errno::from_raw_os_error(result.wrapping_neg() as i32));
    }
    // Kernels before 5.2 ignore the flag.
    // SAFETY: the kernel made this fd for us, CLOEXEC, and nobody else knows it.
    let pidfd = (pidfd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(pidfd) });
    Ok(Cloned { pid: result as i32, pidfd, exit_signal })
}
