//! Children that are held at a call for as long as a test wants.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::seccomp::{Rule, install_with_listener};

/// Who is asked about each such call of the thread that made it, and of the children
/// of that thread.
pub(crate) struct Holder(OwnedFd);

/// A process that waits in its call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    id: u64,
    pub(crate) pid: u32,
}

impl Holder {
    /// From here on this thread's calls of this kind wait to be let go.
    pub(crate) fn at(number: libc::c_long) -> Self {
        // SAFETY: the kernel made this fd for us.
        Self(unsafe { OwnedFd::from_raw_fd(install_with_listener(&[Rule::hold(number)])) })
    }

    /// Waits for the next call.
    pub(crate) fn next(&self) -> Held {
        // SAFETY: all zero is what the kernel wants to be given.
        let mut asked: libc::seccomp_notif = unsafe { core::mem::zeroed() };
        const RECV: libc::Ioctl = libc::_IOWR::<libc::seccomp_notif>(b'!' as u32, 0);
        // SAFETY: the kernel writes one notification.
        let got = unsafe { libc::ioctl(self.0.as_raw_fd(), RECV, &raw mut asked) };
        assert_eq!(got, 0, "{}", io::Error::last_os_error());
        Held { id: asked.id, pid: asked.pid }
    }

    /// The call is made.
    pub(crate) fn let_go(&self, held: Held) {
        const SEND: libc::Ioctl = libc::_IOWR::<libc::seccomp_notif_resp>(b'!' as u32, 1);
        const FLAG_CONTINUE: u32 = 1;
        let mut answer =
            libc::seccomp_notif_resp { id: held.id, val: 0, error: 0, flags: FLAG_CONTINUE };
        // SAFETY: the kernel reads one answer.
        let sent = unsafe { libc::ioctl(self.0.as_raw_fd(), SEND, &raw mut answer) };
        assert_eq!(sent, 0, "{}", io::Error::last_os_error());
    }
}

impl Held {
    /// Whether its memory is ours.
    pub(crate) fn is_among_us(self) -> bool {
        const KCMP_VM: i32 = 1;
        // SAFETY: no pointers.
        let compared = unsafe {
            libc::syscall(libc::SYS_kcmp, libc::getpid(), self.pid as i32, KCMP_VM, 0, 0)
        };
        assert!(compared >= 0, "kcmp: {}", io::Error::last_os_error());
        compared == 0
    }
}
