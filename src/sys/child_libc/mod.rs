//! What the child may call where there is no raw syscall: the thinnest
//! wrappers of libc, all on POSIX's list of async-signal-safe functions.
//!
//! They write `errno`, so this child never shares the parent's memory.

use core::ffi::{c_char, c_int};

use super::{Errno, check, last_errno};

mod setup;
mod unknown;

pub(crate) use self::setup::*;
pub(crate) use self::unknown::*;

/// `close_range(first, last, CLOSE_RANGE_CLOEXEC)`.
pub(crate) fn mark_range(first: c_int, last: Option<c_int>) -> Result<(), Errno> {
    super::fd::mark_range(first, last)
}

/// `dup2(from, to)`, which differ.
pub(crate) fn dup2(from: c_int, to: c_int) -> Result<(), Errno> {
    // SAFETY: no pointers. What it overwrites is the child's.
    check(unsafe { libc::dup2(from, to) }).map(drop)
}

/// `dup2` and then the flag; nothing can exec between.
pub(crate) fn dup3_cloexec(from: c_int, to: c_int) -> Result<(), Errno> {
    dup2(from, to)?;
    set_cloexec(to, true)
}

/// `fcntl(fd, F_SETFD, cloexec ? FD_CLOEXEC : 0)`.
pub(crate) fn set_cloexec(number: c_int, cloexec: bool) -> Result<(), Errno> {
    let flag = if cloexec { libc::FD_CLOEXEC } else { 0 };
    // SAFETY: no pointers.
    check(unsafe { libc::fcntl(number, libc::F_SETFD, flag) }).map(drop)
}

/// Marks `first..below`, those that are open.
pub(crate) fn mark_each(first: c_int, below: c_int) -> Result<(), Errno> {
    let mut number = first;
    while number < below {
        match set_cloexec(number, true) {
            Ok(()) | Err(Errno::BADF) => {}
            Err(error) => return Err(error),
        }
        number = number.wrapping_add(1);
    }
    Ok(())
}

/// `chdir(path)`.
///
/// # Safety
///
/// `path` is NUL-terminated.
pub(crate) unsafe fn chdir(path: *const c_char) -> Result<(), Errno> {
    // SAFETY: the caller's contract.
    check(unsafe { libc::chdir(path) }).map(drop)
}

/// `sigaction(signal, SIG_DFL)`.
pub(crate) fn default_signal(signal: c_int) -> Result<(), Errno> {
    set_action(signal, libc::SIG_DFL)
}

/// `sigaction(signal, SIG_IGN)`.
pub(crate) fn ignore_signal(signal: c_int) -> Result<(), Errno> {
    set_action(signal, libc::SIG_IGN)
}

fn set_action(signal: c_int, handler: libc::sighandler_t) -> Result<(), Errno> {
    // SAFETY: all zero is a valid sigaction: SIG_DFL, no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { core::mem::zeroed() };
    action.sa_sigaction = handler;
    // SAFETY: reads one sigaction.
    check(unsafe { libc::sigaction(signal, &action, core::ptr::null_mut()) }).map(drop)
}

/// Gives each signal that has a handler its default. Numbers that libc does
/// not give out, or keeps for itself, are passed over: they have no handler of
/// the program's.
pub(crate) fn clear_handlers() -> Result<(), Errno> {
    let mut signal = 1;
    while signal <= super::signals::SIGNAL_MAX {
        // SAFETY: all zero is a valid sigaction.
        let mut old: libc::sigaction = unsafe { core::mem::zeroed() };
        // SAFETY: writes one sigaction.
        let asked = unsafe { libc::sigaction(signal, core::ptr::null(), &mut old) };
        let handler = old.sa_sigaction;
        if asked == 0 && handler != libc::SIG_DFL && handler != libc::SIG_IGN {
            default_signal(signal)?;
        }
        signal = signal.wrapping_add(1);
    }
    Ok(())
}

/// `sigprocmask(SIG_SETMASK, mask)`.
pub(crate) fn set_signal_mask(mask: u64) -> Result<(), Errno> {
    let set = super::signals::to_sigset(mask);
    // SAFETY: reads one set. The child has one thread.
    check(unsafe { libc::sigprocmask(libc::SIG_SETMASK, &set, core::ptr::null_mut()) }).map(drop)
}

/// `execve(path, argv, envp)`; comes back only with an error.
///
/// # Safety
///
/// `path` is NUL-terminated; `argv` and `envp` are NULL-terminated arrays of
/// NUL-terminated strings.
pub(crate) unsafe fn execve(
    path: *const c_char,
    argv: *const *const c_char,
    envp: *const *const c_char,
) -> Errno {
    // SAFETY: the caller's contract.
    unsafe { libc::execve(path, argv, envp) };
    last_errno()
}

/// `_exit(code)`.
pub(crate) fn exit(code: c_int) -> ! {
    // SAFETY: ends this process, runs nothing of the parent's.
    unsafe { libc::_exit(code) }
}
