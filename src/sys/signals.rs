//! Signals in the parent: blocked across a clone, asked for, named.

use core::ffi::c_int;
use core::mem::MaybeUninit;

use super::Errno;

/// The highest signal number that is looked at.
pub(crate) const SIGNAL_MAX: c_int = if cfg!(linux) { 64 } else { 31 };

pub(crate) const SIGPIPE: c_int = libc::SIGPIPE;

pub(crate) const SIGKILL: c_int = libc::SIGKILL;

/// The names of signals, without `SIG`.
pub(crate) const NAMES: &[(&str, c_int)] = &[
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("CHLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("SYS", libc::SIGSYS),
    #[cfg(linux)]
    ("PWR", libc::SIGPWR),
];

/// The mask as libc's set.
#[cfg(not(raw_syscalls))]
pub(crate) fn to_sigset(mask: u64) -> libc::sigset_t {
    let mut set = empty_set();
    for signal in 1..=SIGNAL_MAX {
        if mask & (1 << (signal - 1)) != 0 {
            // SAFETY: writes the set alone. A number that libc keeps for itself
            // is refused, which leaves it out.
            unsafe { libc::sigaddset(&mut set, signal) };
        }
    }
    set
}

fn empty_set() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: initialises the set.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    }
}

/// Every signal blocked in this thread until dropped.
///
/// With raw syscalls that includes the two that libc keeps for itself, which
/// its own calls never block: a thread cancelled or made to change its ids in
/// the middle of a clone would run libc's handler in the child.
#[must_use]
pub(crate) struct Blocked {
    #[cfg(raw_syscalls)]
    old: u64,
    #[cfg(not(raw_syscalls))]
    old: libc::sigset_t,
}

impl Blocked {
    /// An error, of a filter that lets nobody do it, leaves the mask as it is.
    #[cfg(raw_syscalls)]
    pub(crate) fn all() -> Result<Self, Errno> {
        let mut old = 0;
        set_mask(u64::MAX, Some(&mut old))?;
        Ok(Self { old })
    }

    #[cfg(not(raw_syscalls))]
    pub(crate) fn all() -> Result<Self, Errno> {
        let mut all = MaybeUninit::uninit();
        let mut old = empty_set();
        // SAFETY: initialises the set, then reads it and writes the old one.
        let errno = unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), &mut old)
        };
        if errno == 0 { Ok(Self { old }) } else { Err(Errno::from_raw_os_error(errno)) }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // Whoever lets it be set lets it be set back.
        #[cfg(raw_syscalls)]
        let _ = set_mask(self.old, None);
        // SAFETY: reads the set that `all` got.
        #[cfg(not(raw_syscalls))]
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &self.old, core::ptr::null_mut());
        }
    }
}

#[cfg(raw_syscalls)]
fn set_mask(mask: u64, old: Option<&mut u64>) -> Result<(), Errno> {
    let old = old.map_or(0, |old| &raw mut *old as usize);
    let args = [libc::SIG_SETMASK as usize, &raw const mask as usize, old, 8, 0, 0];
    // SAFETY: the kernel reads eight bytes and writes eight where asked.
    done(unsafe { super::arch::syscall(libc::SYS_rt_sigprocmask, args) })
}

#[cfg(raw_syscalls)]
fn done(result: isize) -> Result<(), Errno> {
    if result < 0 { Err(Errno::from_raw_os_error(result.wrapping_neg() as c_int)) } else { Ok(()) }
}

/// The signals that this process ignores. One `sigaction` for each signal. An error,
/// of a filter that lets nobody ask, is not for none: one that stays ignored in the
/// child would be missed there.
pub(crate) fn ignored() -> Result<u64, Errno> {
    let mut ignored = 0;
    for signal in 1..=SIGNAL_MAX {
        match handler(signal) {
            Ok(libc::SIG_IGN) => ignored |= 1 << (signal - 1),
            // Here it is no signal.
            Ok(_) | Err(Errno::INVAL) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(ignored)
}

/// With raw syscalls that is said of the two that libc keeps for itself too: a
/// program that glibc's `posix_spawn` started may ignore one of them.
#[cfg(raw_syscalls)]
fn handler(signal: c_int) -> Result<libc::sighandler_t, Errno> {
    // The kernel's own `struct sigaction`, of which the handler comes first.
    let mut old = [0u64; 4];
    let args = [signal as usize, 0, &raw mut old as usize, 8, 0, 0];
    // SAFETY: the kernel writes one of its sigactions.
    done(unsafe { super::arch::syscall(libc::SYS_rt_sigaction, args) })?;
    Ok(old[0] as libc::sighandler_t)
}

#[cfg(not(raw_syscalls))]
fn handler(signal: c_int) -> Result<libc::sighandler_t, Errno> {
    let mut old = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: writes one sigaction.
    super::check(unsafe { libc::sigaction(signal, core::ptr::null(), old.as_mut_ptr()) })?;
    // SAFETY: all zero is a valid one too.
    Ok(unsafe { old.assume_init() }.sa_sigaction)
}

/// Runs `write` so that a `SIGPIPE` which it causes is neither delivered nor
/// left pending, without touching the signal's disposition: for calls that have
/// no flag to say so.
pub(crate) fn without_sigpipe<T>(write: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
    let mut pipe = empty_set();
    let mut old = empty_set();
    let mut pending = empty_set();
    // SAFETY: reads and writes the sets above. The mask is this thread's.
    let was_pending = unsafe {
        libc::sigaddset(&mut pipe, SIGPIPE);
        let errno = libc::pthread_sigmask(libc::SIG_BLOCK, &pipe, &mut old);
        if errno != 0 {
            return Err(Errno::from_raw_os_error(errno));
        }
        libc::sigpending(&mut pending);
        libc::sigismember(&pending, SIGPIPE) == 1
    };
    let result = write();
    // A SIGPIPE that a write causes is sent to its thread, so if there was none
    // before, the one that is pending now is ours to take.
    if result.as_ref().err() == Some(&Errno::PIPE) && !was_pending {
        take_pending(&pipe);
    }
    // SAFETY: reads the set that was got above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &old, core::ptr::null_mut()) };
    result
}

/// Takes a pending signal of the set, without waiting for one.
#[cfg(any(linux, target_os = "freebsd", target_os = "netbsd"))]
fn take_pending(set: &libc::sigset_t) {
    let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: reads the set and the time.
    unsafe { libc::sigtimedwait(set, core::ptr::null_mut(), &now) };
}

/// As above, where there is no `sigtimedwait`.
#[cfg(not(any(linux, target_os = "freebsd", target_os = "netbsd")))]
fn take_pending(set: &libc::sigset_t) {
    let mut pending = empty_set();
    let mut taken = 0;
    // SAFETY: reads and writes sets. Does not wait: the signal is pending, and
    // to this thread.
    unsafe {
        libc::sigpending(&mut pending);
        if libc::sigismember(&pending, SIGPIPE) == 1 {
            libc::sigwait(set, &mut taken);
        }
    }
}
