//! With what the parent's calls for a spawn may fail, and what an error names them.
//! As `errnos.rs` has it of the child's.

use crate::support::errnos::{OF_THE_CHILD, of};
use crate::support::held::Call;

/// A call of the parent's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) number: libc::c_long,
    /// Those of its page in the manual. `None`: the child's row has them.
    own: Option<&'static str>,
    /// What an error says in its place begins with one of these. None: it is never
    /// an error.
    pub(crate) words: &'static [&'static str],
}

const fn row(
    name: &'static str,
    number: libc::c_long,
    own: &'static str,
    words: &'static [&'static str],
) -> Row {
    Row { name, number, own: Some(own), words }
}

const fn as_the_childs(
    name: &'static str,
    number: libc::c_long,
    words: &'static [&'static str],
) -> Row {
    Row { name, number, own: None, words }
}

const OPEN: &str = "EACCES EBUSY EDQUOT EEXIST EFAULT EFBIG EINTR EINVAL EISDIR ELOOP EMFILE \
                    ENAMETOOLONG ENFILE ENODEV ENOENT ENOMEM ENOSPC ENOTDIR ENXIO EOPNOTSUPP \
                    EOVERFLOW EPERM EROFS ETXTBSY";
const CLONE: &str = "EACCES EAGAIN EBUSY EEXIST EINVAL ENOMEM ENOSPC EOPNOTSUPP EPERM EUSERS";
const STAT: &str = "EACCES EBADF EFAULT EINVAL ELOOP ENAMETOOLONG ENOENT ENOMEM ENOTDIR EOVERFLOW";
const TERMINAL: &[&str] = &["ioctl", "unlockpt", "tcgetattr", "tcsetattr"];

/// All that a spawn takes, but for the calls by which threads wait and memory is
/// allocated.
const CALLS: &[Row] = &[
    // The request.
    row("rt_sigaction", libc::SYS_rt_sigaction, "EFAULT EINVAL", &["rt_sigaction"]),
    row("prlimit64", libc::SYS_prlimit64, "EFAULT EINVAL EPERM ESRCH", &["getrlimit"]),
    row(
        "mmap",
        libc::SYS_mmap,
        "EACCES EAGAIN EBADF EEXIST EINVAL ENFILE ENODEV ENOMEM EOVERFLOW EPERM ETXTBSY",
        &["mmap"],
    ),
    row("mprotect", libc::SYS_mprotect, "EACCES EINVAL ENOMEM", &["mprotect"]),
    row("munmap", libc::SYS_munmap, "EINVAL ENOMEM", &[]),
    // Channels.
    row("pipe2", libc::SYS_pipe2, "EFAULT EINVAL EMFILE ENFILE", &["pipe2"]),
    row(
        "socketpair",
        libc::SYS_socketpair,
        "EAFNOSUPPORT EFAULT EMFILE ENFILE EOPNOTSUPP EPROTONOSUPPORT",
        &["socketpair"],
    ),
    row(
        "memfd_create",
        libc::SYS_memfd_create,
        "EFAULT EINVAL EMFILE ENFILE ENOMEM",
        &["memfd_create"],
    ),
    row(
        "pwrite64",
        libc::SYS_pwrite64,
        "EAGAIN EBADF EDESTADDRREQ EDQUOT EFAULT EFBIG EINTR EINVAL EIO ENOSPC ENXIO EOVERFLOW \
         EPERM EPIPE ESPIPE",
        &["pwrite"],
    ),
    #[cfg(target_arch = "x86_64")]
    row("open", libc::SYS_open, OPEN, &["open ", "write \"/proc/"]),
    row("openat", libc::SYS_openat, OPEN, &["open ", "write \"/proc/"]),
    row("mknodat", libc::SYS_mknodat, OPEN, &["mkfifo "]),
    row("newfstatat", libc::SYS_newfstatat, STAT, &["mkfifo "]),
    row("fstat", libc::SYS_fstat, STAT, &["fstat "]),
    row("unlinkat", libc::SYS_unlinkat, "EACCES EBUSY EIO EISDIR ENOENT ENOMEM EROFS", &[]),
    as_the_childs("ioctl", libc::SYS_ioctl, TERMINAL),
    as_the_childs("fcntl", libc::SYS_fcntl, &["fcntl", "dup2 "]),
    as_the_childs("dup3", libc::SYS_dup3, &[]),
    as_the_childs("close", libc::SYS_close, &[]),
    // The child.
    row("rt_sigprocmask", libc::SYS_rt_sigprocmask, "EFAULT EINVAL", &["rt_sigprocmask"]),
    row("clone3", libc::SYS_clone3, CLONE, &["clone3"]),
    row("clone", libc::SYS_clone, CLONE, &["clone"]),
    row(
        "readlinkat",
        libc::SYS_readlinkat,
        "EACCES EBADF EFAULT EINVAL EIO ELOOP ENAMETOOLONG ENOENT ENOMEM ENOTDIR",
        &["write \"/proc/"],
    ),
    as_the_childs("write", libc::SYS_write, &["write \"/proc/"]),
    as_the_childs("pwritev2", libc::SYS_pwritev2, &["write to the waiting child"]),
    // How it went.
    #[cfg(target_arch = "x86_64")]
    row("poll", libc::SYS_poll, "EFAULT EINTR EINVAL ENOMEM", &[]),
    row("ppoll", libc::SYS_ppoll, "EFAULT EINTR EINVAL ENOMEM", &[]),
    as_the_childs("setpgid", libc::SYS_setpgid, &[]),
    row("getsid", libc::SYS_getsid, "EPERM ESRCH", &[]),
    as_the_childs("read", libc::SYS_read, &[]),
    row("waitid", libc::SYS_waitid, "EAGAIN ECHILD EINTR EINVAL ESRCH", &[]),
    row("wait4", libc::SYS_wait4, "ECHILD EINTR EINVAL ESRCH", &[]),
    row("pidfd_send_signal", libc::SYS_pidfd_send_signal, "EBADF EINVAL EPERM ESRCH", &[]),
    row("kill", libc::SYS_kill, "EINVAL EPERM ESRCH", &[]),
    // What the kernel has.
    as_the_childs("close_range", libc::SYS_close_range, &[]),
];

/// A call, its errnos, and what may be left after it, by its first words.
type Documented = (libc::c_long, &'static [i32], &'static [&'static str]);

/// What is no fault but an answer, which is believed of the kernel; and what nobody
/// can undo.
const DOCUMENTED: &[Documented] = &[
    // Somebody else has reaped it: so it is not reaped here.
    (libc::SYS_waitid, &[libc::ECHILD], &["a zombie is left", "a child is left", "came to Ended"]),
    (libc::SYS_wait4, &[libc::ECHILD], &["a zombie is left", "a child is left", "came to Ended"]),
    // Nor is one to be killed that was.
    (libc::SYS_pidfd_send_signal, &[libc::ESRCH], &["a child is left"]),
    // Here it is no signal.
    (libc::SYS_rt_sigaction, &[libc::EINVAL], &["came to Child"]),
    // The named pipe was there before.
    (libc::SYS_mknodat, &[libc::EEXIST], &["came to Error { text: \"open"]),
    // The child is gone, for a reason of its own, which is told: the kill here.
    (libc::SYS_pwritev2, &[libc::EPIPE], &["came to Error"]),
    // The name of a pipe stays.
    (libc::SYS_newfstatat, &[], &["files are left"]),
    (libc::SYS_unlinkat, &[], &["files are left"]),
];

impl Row {
    /// What a fault may leave behind, by its first words.
    pub(crate) fn leaves(&self, errno: i32, call: &Call) -> Vec<&'static str> {
        // Whoever may not set the mask back has it as it is.
        if self.number == libc::SYS_rt_sigprocmask && call.arguments[2] == 0 {
            return vec!["mask changed"];
        }
        let is_its = |row: &&Documented| {
            row.0 == self.number && (row.1.is_empty() || row.1.contains(&errno))
        };
        let rows = DOCUMENTED.iter().filter(is_its);
        rows.flat_map(|row| row.2).copied().collect()
    }

    /// `None` for a call that is nobody's fault: of the one std says that it fails by
    /// `EINTR` alone, of the other POSIX that it never does.
    pub(crate) fn of(number: libc::c_long) -> Option<Self> {
        if [libc::SYS_clock_nanosleep, libc::SYS_getpid].contains(&number) {
            return None;
        }
        let found = CALLS.iter().find(|row| row.number == number);
        Some(*found.unwrap_or_else(|| panic!("call {number} has no errnos")))
    }

    /// Whether it depends on when a child does what that the parent comes to it.
    pub(crate) fn may_be_asked_of_a_child(&self) -> bool {
        const OF_A_CHILD: &str = "setpgid getsid poll ppoll waitid wait4 open openat read \
                                  fcntl close";
        OF_A_CHILD.split_whitespace().any(|name| name == self.name)
    }

    /// Its own, and those of any call.
    pub(crate) fn errnos(&self) -> Vec<i32> {
        let childs = OF_THE_CHILD.iter().find(|(_, number, _)| *number == self.number);
        let is_write = OF_THE_CHILD.iter().find(|(name, ..)| *name == "write");
        of(self.own.unwrap_or_else(|| childs.or(is_write).unwrap().2))
    }
}
