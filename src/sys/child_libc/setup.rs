//! Directories, ids, sessions, limits: what POSIX has.

use core::ffi::{c_char, c_int};

use super::check;
use crate::sys::Errno;

/// `close(fd)`.
pub(crate) fn close(number: c_int) -> Result<(), Errno> {
    // SAFETY: no pointers; the fd is the child's copy.
    check(unsafe { libc::close(number) }).map(drop)
}

/// `fchdir(fd)`.
pub(crate) fn fchdir(dir: c_int) -> Result<(), Errno> {
    // SAFETY: no pointers.
    check(unsafe { libc::fchdir(dir) }).map(drop)
}

/// `chroot(path)`.
///
/// # Safety
///
/// `path` is NUL-terminated.
pub(crate) unsafe fn chroot(path: *const c_char) -> Result<(), Errno> {
    // SAFETY: the caller's contract.
    check(unsafe { libc::chroot(path) }).map(drop)
}

/// `umask(mode)`.
pub(crate) fn umask(mode: u32) -> Result<(), Errno> {
    // SAFETY: no pointers; can't fail.
    unsafe { libc::umask(mode as libc::mode_t) };
    Ok(())
}

/// `setgroups(count, ids)`.
///
/// # Safety
///
/// `count` ids of 32 bits lie at `ids`, aligned to four bytes.
pub(crate) unsafe fn setgroups(count: usize, ids: *const u8) -> Result<(), Errno> {
    // SAFETY: the caller's contract.
    check(unsafe { libc::setgroups(count as _, ids.cast()) }).map(drop)
}

/// `setgid(gid)`: real, effective and saved, for who may change them.
pub(crate) fn setgid(gid: u32) -> Result<(), Errno> {
    // SAFETY: no pointers.
    check(unsafe { libc::setgid(gid) }).map(drop)
}

/// `setuid(uid)`: real, effective and saved, for who may change them.
pub(crate) fn setuid(uid: u32) -> Result<(), Errno> {
    // SAFETY: no pointers.
    check(unsafe { libc::setuid(uid) }).map(drop)
}

/// `setsid()`.
pub(crate) fn setsid() -> Result<(), Errno> {
    // SAFETY: no pointers.
    check(unsafe { libc::setsid() }).map(drop)
}

/// `setpgid(0, pgid)`.
pub(crate) fn setpgid(pgid: c_int) -> Result<(), Errno> {
    // SAFETY: no pointers.
    check(unsafe { libc::setpgid(0, pgid) }).map(drop)
}

/// `ioctl(fd, TIOCSCTTY, 0)`.
pub(crate) fn controlling_terminal(terminal: c_int) -> Result<(), Errno> {
    // SAFETY: no pointers.
    check(unsafe { libc::ioctl(terminal, libc::TIOCSCTTY as _, 0) }).map(drop)
}

/// `tcsetpgrp(fd, getpgrp())`, with `SIGTTOU` blocked.
pub(crate) fn foreground(terminal: c_int) -> Result<(), Errno> {
    // SAFETY: no pointers.
    check(unsafe { libc::tcsetpgrp(terminal, libc::getpgrp()) }).map(drop)
}

/// `setrlimit(resource, limits)`.
///
/// # Safety
///
/// Two numbers of 64 bits, soft and hard, lie at `limits`, at any alignment.
pub(crate) unsafe fn set_limit(resource: c_int, limits: *const u8) -> Result<(), Errno> {
    // SAFETY: the caller's contract.
    let [soft, hard] = unsafe { limits.cast::<[u64; 2]>().read_unaligned() };
    let limit = libc::rlimit { rlim_cur: limit(soft)?, rlim_max: limit(hard)? };
    // SAFETY: reads one rlimit.
    check(unsafe { libc::setrlimit(resource as _, &limit) }).map(drop)
}

/// A limit as libc has it, which may have 32 bits, or a sign, and its own number for
/// none. `EINVAL`: it has no such number.
fn limit(number: u64) -> Result<libc::rlim_t, Errno> {
    match number {
        u64::MAX => Ok(libc::RLIM_INFINITY),
        number => libc::rlim_t::try_from(number).map_err(|_| Errno::INVAL),
    }
}

/// `setpriority(PRIO_PROCESS, 0, nice)`.
pub(crate) fn set_nice(nice: c_int) -> Result<(), Errno> {
    // SAFETY: no pointers.
    check(unsafe { libc::setpriority(libc::PRIO_PROCESS as _, 0, nice) }).map(drop)
}

/// Opens a file at a number, to survive exec. What was at the number is closed.
///
/// # Safety
///
/// `path` is NUL-terminated.
pub(crate) unsafe fn open_file(path: *const c_char, flags: c_int, to: c_int) -> Result<(), Errno> {
    const MODE: libc::c_uint = 0o666;
    // SAFETY: the caller's contract.
    let opened = check(unsafe { libc::open(path, flags | libc::O_NOCTTY, MODE) })?;
    if opened == to {
        return Ok(());
    }
    super::dup2(opened, to)?;
    close(opened)
}

/// `getpid()`, as decimal digits and a NUL, of which there is room for eleven.
///
/// # Safety
///
/// Eleven bytes at `digits` may be written.
pub(crate) unsafe fn write_pid(digits: *mut u8) -> Result<(), Errno> {
    // SAFETY: no pointers; can't fail.
    let pid = unsafe { libc::getpid() }.unsigned_abs();
    // SAFETY: the caller's contract.
    unsafe { crate::sys::decimal::write(pid, digits) };
    Ok(())
}

/// `getppid() == pid`, or `ESRCH`: the parent is gone.
pub(crate) fn check_parent(pid: c_int) -> Result<(), Errno> {
    // SAFETY: no pointers; can't fail.
    if unsafe { libc::getppid() } == pid { Ok(()) } else { Err(Errno::SRCH) }
}
