//! Whether one child was stopped or goes on. Never about "any child".

use core::ffi::c_int;
use core::mem::MaybeUninit;

use rustix::fd::{AsRawFd, BorrowedFd};

use super::{Errno, check};

/// A change of a child's state that is no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// By this signal.
    Stopped(c_int),
    Continued,
}

/// What has changed since this was asked last. Blocks never and reaps nobody: a
/// child that has ended is left as it is.
///
/// By the pid only if the caller has not reaped the child.
pub(crate) fn last_stop(pid: c_int, pidfd: Option<BorrowedFd<'_>>) -> Result<Option<Stop>, Errno> {
    #[cfg(linux)]
    if let Some(pidfd) = pidfd {
        match asked(libc::P_PIDFD, pidfd.as_raw_fd() as libc::id_t) {
            // Of the call and not of the child: a filter, an old kernel.
            Err(Errno::NOSYS | Errno::PERM | Errno::INVAL) => {}
            stop => return stop,
        }
    }
    let _ = pidfd.map(|pidfd| pidfd.as_raw_fd());
    asked(libc::P_PID, pid as libc::id_t)
}

fn asked(which: libc::idtype_t, id: libc::id_t) -> Result<Option<Stop>, Errno> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // Without WEXITED, so an end is neither seen nor taken.
    let options = libc::WSTOPPED | libc::WCONTINUED | libc::WNOHANG;
    // SAFETY: writes the info.
    check(unsafe { libc::waitid(which, id, info.as_mut_ptr(), options) })?;
    // SAFETY: all zero is valid, and says that nothing has changed; else the
    // kernel has written what is read for a change of a child's state.
    let (code, status) = unsafe {
        let info = info.assume_init_ref();
        if info.si_signo != libc::SIGCHLD {
            return Ok(None);
        }
        (info.si_code, info.si_status())
    };
    Ok(match code {
        libc::CLD_STOPPED => Some(Stop::Stopped(status)),
        libc::CLD_CONTINUED => Some(Stop::Continued),
        _ => None,
    })
}
