//! Capabilities, namespaces, mounts, filters: one raw syscall each.

use core::ffi::{c_char, c_int};

use super::{call, fd};
use crate::sys::Errno;

fn prctl(option: c_int, argument: usize) -> Result<(), Errno> {
    // SAFETY: none of the options used here takes a pointer.
    unsafe { call(libc::SYS_prctl, [fd(option), argument, 0, 0, 0]) }
}

/// `prctl(PR_SET_PDEATHSIG, signal)`.
pub(crate) fn parent_death_signal(signal: c_int) -> Result<(), Errno> {
    prctl(libc::PR_SET_PDEATHSIG, fd(signal))
}

/// `prctl(PR_SET_NO_NEW_PRIVS, 1)`.
pub(crate) fn no_new_privs() -> Result<(), Errno> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1)
}

/// `prctl(PR_SET_KEEPCAPS, 1)`: until exec.
pub(crate) fn keep_caps() -> Result<(), Errno> {
    prctl(libc::PR_SET_KEEPCAPS, 1)
}

/// `prctl(PR_SET_SECUREBITS, bits)`.
pub(crate) fn secure_bits(bits: u32) -> Result<(), Errno> {
    prctl(libc::PR_SET_SECUREBITS, bits as usize)
}

/// `prctl(PR_CAPBSET_DROP)` of each capability that is not in `keep`, up to the
/// last that the kernel knows.
pub(crate) fn limit_bounding_set(keep: u64) -> Result<(), Errno> {
    let mut capability: u32 = 0;
    while capability < 64 {
        let kept = keep >> capability & 1 == 1;
        match prctl(libc::PR_CAPBSET_READ, capability as usize) {
            Ok(()) if kept => {}
            Ok(()) => prctl(libc::PR_CAPBSET_DROP, capability as usize)?,
            // No such capability, so none above it either.
            Err(Errno::INVAL) if capability > 0 => return Ok(()),
            Err(errno) => return Err(errno),
        }
        capability = capability.wrapping_add(1);
    }
    Ok(())
}

/// `capset`: effective, permitted and inheritable become `capabilities`, the first two
/// with `CAP_SETPCAP` besides if `setpcap`.
pub(crate) fn set_capabilities(capabilities: u64, setpcap: bool) -> Result<(), Errno> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: c_int,
    }
    /// `_LINUX_CAPABILITY_VERSION_3`.
    const VERSION: u32 = 0x2008_0522;
    const CAP_SETPCAP: u32 = 1 << 8;
    let (low, high) = (capabilities as u32, (capabilities >> 32) as u32);
    let header = Header { version: VERSION, pid: 0 };
    let besides = if setpcap { CAP_SETPCAP } else { 0 };
    let data = [low | besides, low | besides, low, high, high, high];
    let args = [&raw const header as usize, &raw const data as usize, 0, 0, 0];
    // SAFETY: the kernel reads the header and, of version 3, two times three
    // words.
    unsafe { call(libc::SYS_capset, args) }
}

/// `prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE)` of each.
pub(crate) fn raise_ambient(capabilities: u64) -> Result<(), Errno> {
    let mut capability: u32 = 0;
    while capability < 64 {
        if capabilities >> capability & 1 == 1 {
            let raise = libc::PR_CAP_AMBIENT_RAISE as usize;
            let args = [libc::PR_CAP_AMBIENT as usize, raise, capability as usize, 0, 0];
            // SAFETY: no pointers.
            unsafe { call(libc::SYS_prctl, args) }?;
        }
        capability = capability.wrapping_add(1);
    }
    Ok(())
}

/// `setns(fd, kind)`.
pub(crate) fn setns(namespace: c_int, kind: u32) -> Result<(), Errno> {
    // SAFETY: no pointers.
    unsafe { call(libc::SYS_setns, [fd(namespace), kind as usize, 0, 0, 0]) }
}

/// `mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)`.
pub(crate) fn private_mounts() -> Result<(), Errno> {
    let flags = (libc::MS_REC | libc::MS_PRIVATE) as usize;
    // SAFETY: the kernel reads the constant path; the others may be NULL for a
    // change of propagation.
    unsafe { call(libc::SYS_mount, [0, c"/".as_ptr() as usize, 0, flags, 0]) }
}

/// Makes `root` the root of the mount namespace and lets go of the old one:
/// `chdir(root)`, `pivot_root(".", ".")`, `umount2(".", MNT_DETACH)`,
/// `chdir("/")`, as pivot_root(2) has it.
///
/// # Safety
///
/// `root` is NUL-terminated.
pub(crate) unsafe fn pivot_root(root: *const c_char) -> Result<(), Errno> {
    // A mount point is wanted; a bind mount of the directory onto itself is one.
    let bind = (libc::MS_BIND | libc::MS_REC) as usize;
    let here = c".".as_ptr() as usize;
    // SAFETY: the kernel reads NUL-terminated paths.
    unsafe {
        call(libc::SYS_mount, [root as usize, root as usize, 0, bind, 0])?;
        call(libc::SYS_chdir, [root as usize, 0, 0, 0, 0])?;
        call(libc::SYS_pivot_root, [here, here, 0, 0, 0])?;
        call(libc::SYS_umount2, [here, libc::MNT_DETACH as usize, 0, 0, 0])?;
        call(libc::SYS_chdir, [c"/".as_ptr() as usize, 0, 0, 0, 0])
    }
}

/// `landlock_restrict_self(ruleset, 0)`.
pub(crate) fn landlock(ruleset: c_int) -> Result<(), Errno> {
    // SAFETY: no pointers.
    unsafe { call(libc::SYS_landlock_restrict_self, [fd(ruleset), 0, 0, 0, 0]) }
}

/// `seccomp(SECCOMP_SET_MODE_FILTER, 0, program)`.
///
/// # Safety
///
/// `count` instructions of eight bytes lie at `filter`, at any alignment.
pub(crate) unsafe fn seccomp(count: u16, filter: *const u8) -> Result<(), Errno> {
    #[repr(C)]
    struct Program {
        len: u16,
        filter: *const u8,
    }
    let program = Program { len: count, filter };
    let mode = libc::SECCOMP_SET_MODE_FILTER as usize;
    // SAFETY: the kernel reads the program's two fields and copies the filter
    // byte by byte.
    unsafe { call(libc::SYS_seccomp, [mode, 0, &raw const program as usize, 0, 0]) }
}

/// Reads one byte that the parent writes when it has done its part; the end of
/// file is `EPIPE`: it could not.
pub(crate) fn await_parent(pipe: c_int) -> Result<(), Errno> {
    let mut byte = 0u8;
    loop {
        let args = [fd(pipe), &raw mut byte as usize, 1, 0, 0, 0];
        // SAFETY: the kernel writes one byte at most.
        match super::check(unsafe { crate::sys::arch::syscall(libc::SYS_read, args) }) {
            Ok(1) => return Ok(()),
            Ok(_) => return Err(Errno::PIPE),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// `execveat(fd, "", argv, envp, AT_EMPTY_PATH)`; comes back only with an
/// error.
///
/// # Safety
///
/// As for `execve`.
pub(crate) unsafe fn execve_fd(
    program: c_int,
    argv: *const *const c_char,
    envp: *const *const c_char,
) -> Errno {
    let empty = c"".as_ptr() as usize;
    let flags = libc::AT_EMPTY_PATH as usize;
    let args = [fd(program), empty, argv as usize, envp as usize, flags];
    // SAFETY: the caller's contract is the kernel's.
    match unsafe { call(libc::SYS_execveat, args) } {
        Err(errno) => errno,
        Ok(()) => Errno::NOSYS,
    }
}
