//! Asking the kernel, once per process, what it has.
//!
//! Version numbers lie (backports, seccomp filters, emulators), so each feature
//! is tried. What would change the parent is tried in a child.

use core::sync::atomic::{AtomicU32, Ordering};

use super::Features;

/// What was found, with the highest bit set once it was looked for. Two threads
/// that look at once find the same.
static FOUND: AtomicU32 = AtomicU32::new(0);
const LOOKED: u32 = 1 << 31;

impl Features {
    /// What this kernel has, for this process. The first call makes up to four
    /// short-lived children (without `SIGCHLD`) to find out; later ones read a
    /// number.
    pub fn of_this_kernel() -> Self {
        match FOUND.load(Ordering::Relaxed) {
            0 => {
                let found = look();
                FOUND.store(found.bits() | LOOKED, Ordering::Relaxed);
                found
            }
            found => Self::from_bits_truncate(found),
        }
    }

    /// Asks once more, for this thread: a seccomp filter of its own may have come
    /// since. Other threads' answer stays.
    pub(crate) fn of_this_thread() -> Self {
        look()
    }
}

fn look() -> Features {
    (clone_features() | fd_features()).consistent()
}

fn fd_features() -> Features {
    let mut found = Features::empty();
    // No fd has such a number, so nothing is marked.
    found.set(Features::CLOSE_RANGE, super::fd::mark_range(i32::MAX, None).is_ok());
    found.set(Features::PROC_FD, cfg!(raw_syscalls) && super::fd::lists_fds());
    found
}

/// Without raw syscalls libc's fork makes the child: only the pidfd is asked
/// for, on our own pid.
#[cfg(not(raw_syscalls))]
fn clone_features() -> Features {
    let mut found = Features::empty();
    let own = rustix::process::getpid().as_raw_nonzero().get();
    found.set(Features::PIDFD, super::process::open_pidfd(own).is_some());
    found
}

#[cfg(raw_syscalls)]
fn clone_features() -> Features {
    let memory = Features::SHARED_MEMORY;
    // The modern call with all that it offers.
    let all = memory | Features::SHARED_FILES | Features::CLONE3 | Features::PIDFD;
    if let Some(found) = child::try_clone(all) {
        return found;
    }
    // The old call. `CLONE_FILES` waits until it is known that memory is
    // shared: valgrind ends the program at the sight of it.
    let old = child::try_clone(memory | Features::PIDFD).or_else(|| child::try_clone(memory));
    let found = old.unwrap_or(Features::empty());
    if found.contains(memory) {
        return child::try_clone(found | Features::SHARED_FILES).unwrap_or(found);
    }
    found
}

#[cfg(raw_syscalls)]
mod child {
    use core::ffi::c_void;
    use core::sync::atomic::{AtomicBool, Ordering};

    use super::super::clone::How;
    use super::super::memory::Region;
    use super::super::signals::Blocked;
    use super::super::{child, clone, process};
    use super::Features;

    #[derive(Default)]
    struct Answer {
        try_unshare: bool,
        ran: AtomicBool,
        unshared: AtomicBool,
    }

    /// Makes a child with these features and returns those that worked. `None`
    /// if there was no child.
    pub(super) fn try_clone(asked: Features) -> Option<Features> {
        let try_unshare = asked.contains(Features::SHARED_FILES);
        let answer = Answer { try_unshare, ..Answer::default() };
        let region = Region::get().ok()?;
        let argument = (&raw const answer).cast_mut().cast();
        let how = How {
            features: asked,
            exit_signal: 0,
            namespaces: 0,
            cgroup: None,
            stops_caller: true,
        };
        let blocked = Blocked::all().ok()?;
        // SAFETY: signals are blocked; the entry only stores to atomics and
        // makes syscalls. If the kernel does not stop us until the child is
        // done, `wait_all` below does, before `answer` goes.
        let cloned = unsafe { clone::clone(how, &region, answer_and_exit, argument) };
        drop(blocked);
        let cloned = cloned.ok()?;
        // Nothing but a value seen here, where the call returned, shows that
        // memory is shared and the parent waited.
        let shared = answer.ran.load(Ordering::Acquire);
        let by_pidfd = process::wait_for_probe(cloned.pid, cloned.pidfd.as_ref());
        let mut found = asked;
        found.set(Features::SHARED_MEMORY, shared);
        found.set(Features::SHARED_FILES, shared && answer.unshared.load(Ordering::Acquire));
        found.set(Features::PIDFD, by_pidfd);
        Some(found)
    }

    unsafe extern "C" fn answer_and_exit(answer: *mut c_void) -> ! {
        // SAFETY: `try_clone` passed an `Answer` that outlives this child. Both
        // sides only share it.
        let answer = unsafe { &*answer.cast::<Answer>() };
        answer.ran.store(true, Ordering::Release);
        if answer.try_unshare && child::unshare_fds(i32::MAX).is_ok() {
            answer.unshared.store(true, Ordering::Release);
        }
        child::exit(0)
    }
}
