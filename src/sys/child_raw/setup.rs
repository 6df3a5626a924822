//! Directories, ids, sessions, limits: one raw syscall each.

use core::ffi::{c_char, c_int};

use super::{call, fd};
use crate::sys::Errno;

/// `close(fd)`.
pub(crate) fn close(number: c_int) -> Result<(), Errno> {
    // SAFETY: no pointers; the fd is the child's copy.
    unsafe { call(libc::SYS_close, [fd(number), 0, 0, 0, 0]) }
}

/// `fchdir(fd)`.
pub(crate) fn fchdir(dir: c_int) -> Result<(), Errno> {
    // SAFETY: no pointers.
    unsafe { call(libc::SYS_fchdir, [fd(dir), 0, 0, 0, 0]) }
}

/// `chroot(path)`.
///
/// # Safety
///
/// `path` is NUL-terminated.
pub(crate) unsafe fn chroot(path: *const c_char) -> Result<(), Errno> {
    // SAFETY: the kernel reads the path up to its NUL.
    unsafe { call(libc::SYS_chroot, [path as usize, 0, 0, 0, 0]) }
}

/// `umask(mode)`.
pub(crate) fn umask(mode: u32) -> Result<(), Errno> {
    // SAFETY: no pointers.
    unsafe { call(libc::SYS_umask, [mode as usize, 0, 0, 0, 0]) }
}

/// `setgroups(count, ids)`.
///
/// # Safety
///
/// `count` ids of 32 bits lie at `ids`, at any alignment.
pub(crate) unsafe fn setgroups(count: usize, ids: *const u8) -> Result<(), Errno> {
    // SAFETY: the caller's contract; the kernel copies byte by byte.
    unsafe { call(libc::SYS_setgroups, [count, ids as usize, 0, 0, 0]) }
}

/// `setresgid(gid, gid, gid)`.
pub(crate) fn setgid(gid: u32) -> Result<(), Errno> {
    let gid = gid as usize;
    // SAFETY: no pointers.
    unsafe { call(libc::SYS_setresgid, [gid, gid, gid, 0, 0]) }
}

/// `setresuid(uid, uid, uid)`.
pub(crate) fn setuid(uid: u32) -> Result<(), Errno> {
    let uid = uid as usize;
    // SAFETY: no pointers.
    unsafe { call(libc::SYS_setresuid, [uid, uid, uid, 0, 0]) }
}

/// `setsid()`.
pub(crate) fn setsid() -> Result<(), Errno> {
    // SAFETY: no pointers.
    unsafe { call(libc::SYS_setsid, [0; 5]) }
}

/// `setpgid(0, pgid)`.
pub(crate) fn setpgid(pgid: c_int) -> Result<(), Errno> {
    // SAFETY: no pointers.
    unsafe { call(libc::SYS_setpgid, [0, fd(pgid), 0, 0, 0]) }
}

/// `ioctl(fd, TIOCSCTTY, 0)`: never takes a terminal from another session.
pub(crate) fn controlling_terminal(terminal: c_int) -> Result<(), Errno> {
    // SAFETY: no pointers.
    unsafe { call(libc::SYS_ioctl, [fd(terminal), libc::TIOCSCTTY as usize, 0, 0, 0]) }
}

/// `tcsetpgrp(fd, getpgrp())`. `SIGTTOU` is blocked with all signals, so the
/// call works from the background and does not stop the child.
pub(crate) fn foreground(terminal: c_int) -> Result<(), Errno> {
    // SAFETY: no pointers. Of oneself it fails where a filter says so, and no error
    // is a group.
    let group = super::check(unsafe { crate::sys::arch::syscall(libc::SYS_getpgid, [0; 6]) })?;
    let group = group as c_int;
    let args = [fd(terminal), libc::TIOCSPGRP as usize, &raw const group as usize, 0, 0];
    // SAFETY: the kernel reads one int.
    unsafe { call(libc::SYS_ioctl, args) }
}

/// `prlimit(0, resource, limits)`.
///
/// # Safety
///
/// Two numbers of 64 bits, soft and hard, lie at `limits`, at any alignment.
pub(crate) unsafe fn set_limit(resource: c_int, limits: *const u8) -> Result<(), Errno> {
    // SAFETY: the caller's contract; the kernel copies byte by byte.
    unsafe { call(libc::SYS_prlimit64, [0, fd(resource), limits as usize, 0, 0]) }
}

/// `setpriority(PRIO_PROCESS, 0, nice)`.
pub(crate) fn set_nice(nice: c_int) -> Result<(), Errno> {
    // SAFETY: no pointers.
    unsafe { call(libc::SYS_setpriority, [libc::PRIO_PROCESS as usize, 0, fd(nice), 0, 0]) }
}

/// `sched_setscheduler(0, policy, {priority})`.
pub(crate) fn set_scheduler(policy: c_int, priority: c_int) -> Result<(), Errno> {
    // SAFETY: the kernel reads one int.
    unsafe {
        let param = &raw const priority as usize;
        call(libc::SYS_sched_setscheduler, [0, fd(policy), param, 0, 0])
    }
}

/// `sched_setaffinity(0, len, mask)`.
///
/// # Safety
///
/// `len` bytes lie at `mask`.
pub(crate) unsafe fn set_affinity(len: usize, mask: *const u8) -> Result<(), Errno> {
    // SAFETY: the caller's contract.
    unsafe { call(libc::SYS_sched_setaffinity, [0, len, mask as usize, 0, 0]) }
}

/// `ioprio_set(IOPRIO_WHO_PROCESS, 0, priority)`.
pub(crate) fn set_io_priority(priority: c_int) -> Result<(), Errno> {
    const IOPRIO_WHO_PROCESS: usize = 1;
    // SAFETY: no pointers.
    unsafe { call(libc::SYS_ioprio_set, [IOPRIO_WHO_PROCESS, 0, fd(priority), 0, 0]) }
}

/// Opens a file for writing, writes once, closes it: a number for `/proc`.
///
/// # Safety
///
/// `path` is NUL-terminated, and `len` bytes lie at `contents`.
pub(crate) unsafe fn write_file(
    path: *const c_char,
    contents: *const u8,
    len: usize,
) -> Result<(), Errno> {
    let flags = (libc::O_WRONLY | libc::O_CLOEXEC) as usize;
    let args = [libc::AT_FDCWD as usize, path as usize, flags, 0, 0, 0];
    // SAFETY: the kernel reads the path up to its NUL.
    let opened = super::check(unsafe { crate::sys::arch::syscall(libc::SYS_openat, args) })?;
    // SAFETY: the kernel reads `len` bytes.
    let written = unsafe { call(libc::SYS_write, [opened, contents as usize, len, 0, 0]) };
    // SAFETY: no pointers; the fd was opened here.
    let _ = unsafe { call(libc::SYS_close, [opened, 0, 0, 0, 0]) };
    written
}

/// Opens a file at a number, to survive exec. What was at the number is closed.
///
/// # Safety
///
/// `path` is NUL-terminated.
pub(crate) unsafe fn open_file(path: *const c_char, flags: c_int, to: c_int) -> Result<(), Errno> {
    const MODE: usize = 0o666;
    let flags = (flags | libc::O_NOCTTY) as usize;
    let args = [libc::AT_FDCWD as usize, path as usize, flags, MODE, 0, 0];
    // SAFETY: the kernel reads the path up to its NUL.
    let opened = super::check(unsafe { crate::sys::arch::syscall(libc::SYS_openat, args) })?;
    if opened == fd(to) {
        return Ok(());
    }
    super::dup2(opened as c_int, to)?;
    close(opened as c_int)
}

/// `getpid()`, as decimal digits and a NUL, of which there is room for eleven.
///
/// # Safety
///
/// Eleven bytes at `digits` may be written.
#[inline]
pub(crate) unsafe fn write_pid(digits: *mut u8) -> Result<(), Errno> {
    // SAFETY: no pointers. It fails where a filter says so, and no error is a pid.
    let pid = super::check(unsafe { crate::sys::arch::syscall(libc::SYS_getpid, [0; 6]) })?;
    // SAFETY: the caller's contract.
    unsafe { crate::sys::decimal::write(pid as u32, digits) };
    Ok(())
}

/// `getppid() == pid`, or `ESRCH`: the parent is gone. 0 is a parent that can't be
/// seen from here, for it has this process in another pid namespace than its own.
pub(crate) fn check_parent(pid: c_int) -> Result<(), Errno> {
    // SAFETY: no pointers; can't fail.
    let parent = unsafe { crate::sys::arch::syscall(libc::SYS_getppid, [0; 6]) };
    if parent == pid as isize || parent == 0 { Ok(()) } else { Err(Errno::SRCH) }
}
