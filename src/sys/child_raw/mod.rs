//! What the child may call on Linux: raw syscalls, nothing between.
//!
//! Each function is one syscall or a bounded loop of them. None touches
//! `errno`, takes a lock, allocates, or can panic.

use core::ffi::{c_char, c_int};
use core::mem::{MaybeUninit, offset_of};

use super::Errno;
use super::arch::syscall;
use super::decimal;

mod isolation;
mod setup;

pub(crate) use self::isolation::*;
pub(crate) use self::setup::*;

use crate::limits::DIRENT_BUFFER_SIZE;

const CLOSE_RANGE_UNSHARE: usize = 1 << 1;
const CLOSE_RANGE_CLOEXEC: usize = 1 << 2;
/// The kernel's `sizeof(sigset_t)`, which is not libc's.
const SIGSET_SIZE: usize = 8;
const SIGNAL_MAX: i32 = 64;

/// The kernel's own `struct sigaction`; all zero is `SIG_DFL` without flags.
#[repr(C)]
#[derive(Clone, Copy)]
struct KernelSigaction([u64; 4]);

fn check(result: isize) -> Result<usize, Errno> {
    if result < 0 {
        Err(Errno::from_raw_os_error(result.wrapping_neg() as i32))
    } else {
        Ok(result as usize)
    }
}

/// A syscall of which only success counts.
///
/// # Safety
///
/// As for [`syscall`].
unsafe fn call(number: i64, [a, b, c, d, e]: [usize; 5]) -> Result<(), Errno> {
    // SAFETY: the caller's contract.
    check(unsafe { syscall(number, [a, b, c, d, e, 0]) }).map(drop)
}

fn fd(fd: c_int) -> usize {
    fd as usize
}

/// `close_range(first, ~0, CLOSE_RANGE_UNSHARE)`.
pub(crate) fn unshare_fds(first: c_int) -> Result<(), Errno> {
    let args = [fd(first), u32::MAX as usize, CLOSE_RANGE_UNSHARE, 0, 0, 0];
    // SAFETY: no pointers. What it closes is the child's.
    check(unsafe { syscall(libc::SYS_close_range, args) }).map(drop)
}

/// `close_range(first, last, CLOSE_RANGE_CLOEXEC)`.
pub(crate) fn mark_range(first: c_int, last: Option<c_int>) -> Result<(), Errno> {
    let last = last.map_or(u32::MAX as usize, fd);
    // SAFETY: no pointers. What it marks is the child's.
    check(unsafe {
        syscall(libc::SYS_close_range, [fd(first), last, CLOSE_RANGE_CLOEXEC, 0, 0, 0])
    })
    .map(drop)
}

/// `dup2(from, to)`, which differ.
pub(crate) fn dup2(from: c_int, to: c_int) -> Result<(), Errno> {
    // aarch64 has dup3 alone.
    #[cfg(target_arch = "x86_64")]
    let number = libc::SYS_dup2;
    #[cfg(not(target_arch = "x86_64"))]
    let number = libc::SYS_dup3;
    // SAFETY: no pointers. What it overwrites is the child's.
    check(unsafe { syscall(number, [fd(from), fd(to), 0, 0, 0, 0]) }).map(drop)
}

/// `dup3(from, to, O_CLOEXEC)`.
pub(crate) fn dup3_cloexec(from: c_int, to: c_int) -> Result<(), Errno> {
    let args = [fd(from), fd(to), libc::O_CLOEXEC as usize, 0, 0, 0];
    // SAFETY: no pointers. What it overwrites is the child's.
    check(unsafe { syscall(libc::SYS_dup3, args) }).map(drop)
}

/// `fcntl(fd, F_SETFD, cloexec ? FD_CLOEXEC : 0)`.
pub(crate) fn set_cloexec(number: c_int, cloexec: bool) -> Result<(), Errno> {
    let flag = if cloexec { libc::FD_CLOEXEC } else { 0 };
    let args = [fd(number), libc::F_SETFD as usize, flag as usize, 0, 0, 0];
    // SAFETY: no pointers.
    check(unsafe { syscall(libc::SYS_fcntl, args) }).map(drop)
}

/// Marks what `/proc/self/fd` lists from `first` on.
#[inline]
pub(crate) fn mark_listed(first: c_int) -> Result<(), Errno> {
    // Not zeroed first: that would be a call of libc's memset.
    #[repr(C, align(8))]
    struct Buffer(MaybeUninit<[u8; DIRENT_BUFFER_SIZE]>);

    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
    let path = c"/proc/self/fd".as_ptr() as usize;
    let args = [libc::AT_FDCWD as usize, path, flags as usize, 0, 0, 0];
    // SAFETY: the path is a NUL-terminated constant.
    let dir = check(unsafe { syscall(libc::SYS_openat, args) })?;
    let mut buffer = Buffer(MaybeUninit::uninit());
    loop {
        let start = buffer.0.as_mut_ptr().cast::<u8>();
        let args = [dir, start as usize, DIRENT_BUFFER_SIZE, 0, 0, 0];
        // SAFETY: the kernel writes at most the buffer's size.
        let filled = check(unsafe { syscall(libc::SYS_getdents64, args) })?;
        if filled == 0 {
            break;
        }
        let mut at = 0;
        while at < filled {
            // SAFETY: the kernel filled `filled` bytes with whole records, `at`
            // is the start of one, and its fields are read where the kernel's
            // `struct linux_dirent64`, of which libc's is a copy, has them. The
            // name is NUL-terminated within the record.
            let (length, number) = unsafe {
                let record = start.add(at);
                let length = record.add(offset_of!(libc::dirent64, d_reclen)).cast::<u16>();
                let name = record.add(offset_of!(libc::dirent64, d_name));
                (length.read_unaligned(), decimal::read(name))
            };
            if let Some(number) = number.filter(|&number| number >= first && fd(number) != dir) {
                set_cloexec(number, true)?;
            }
            at = at.wrapping_add(length as usize);
        }
    }
    // SAFETY: the directory is ours, opened above. A close that fails has
    // closed all the same.
    let _ = unsafe { syscall(libc::SYS_close, [dir, 0, 0, 0, 0, 0]) };
    Ok(())
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
    // SAFETY: the kernel reads the path up to its NUL.
    check(unsafe { syscall(libc::SYS_chdir, [path as usize, 0, 0, 0, 0, 0]) }).map(drop)
}

/// `sigaction(signal, SIG_DFL)`.
pub(crate) fn default_signal(signal: c_int) -> Result<(), Errno> {
    set_action(signal, libc::SIG_DFL)
}

/// `sigaction(signal, SIG_IGN)`.
pub(crate) fn ignore_signal(signal: c_int) -> Result<(), Errno> {
    set_action(signal, libc::SIG_IGN)
}

fn set_action(signal: c_int, handler: usize) -> Result<(), Errno> {
    let action = KernelSigaction([handler as u64, 0, 0, 0]);
    let args = [fd(signal), &raw const action as usize, 0, SIGSET_SIZE, 0, 0];
    // SAFETY: the kernel reads one of its sigactions. A child has a table of
    // dispositions of its own even where it shares memory (no CLONE_SIGHAND).
    check(unsafe { syscall(libc::SYS_rt_sigaction, args) }).map(drop)
}

/// Gives each signal that has a handler its default.
pub(crate) fn clear_handlers() -> Result<(), Errno> {
    let mut signal = 1;
    while signal <= SIGNAL_MAX {
        let mut old = KernelSigaction([0; 4]);
        let args = [fd(signal), 0, &raw mut old as usize, SIGSET_SIZE, 0, 0];
        // SAFETY: the kernel writes one of its sigactions.
        check(unsafe { syscall(libc::SYS_rt_sigaction, args) })?;
        let KernelSigaction([handler, ..]) = old;
        if handler != libc::SIG_DFL as u64 && handler != libc::SIG_IGN as u64 {
            default_signal(signal)?;
        }
        signal = signal.wrapping_add(1);
    }
    Ok(())
}

/// `sigprocmask(SIG_SETMASK, mask)`.
pub(crate) fn set_signal_mask(mask: u64) -> Result<(), Errno> {
    let args = [libc::SIG_SETMASK as usize, &raw const mask as usize, 0, SIGSET_SIZE, 0, 0];
    // SAFETY: the kernel reads eight bytes.
    check(unsafe { syscall(libc::SYS_rt_sigprocmask, args) }).map(drop)
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
    let args = [path as usize, argv as usize, envp as usize, 0, 0, 0];
    // SAFETY: the caller's contract is the kernel's.
    let result = unsafe { syscall(libc::SYS_execve, args) };
    Errno::from_raw_os_error(result.wrapping_neg() as i32)
}

/// `exit_group(code)`. Inlined, since before the call of a function that never returns
/// AddressSanitizer looks at the stack, and says on fd 2 that it does not know this one.
#[inline(always)]
pub(crate) fn exit(code: c_int) -> ! {
    loop {
        // SAFETY: ends this process; where it shares memory it is a process of
        // its own all the same (no CLONE_THREAD).
        unsafe { syscall(libc::SYS_exit_group, [fd(code), 0, 0, 0, 0, 0]) };
    }
}
