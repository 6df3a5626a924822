//! With what a call may fail: of each call that a child makes, the errnos that its page
//! in section 2 of the manual has (Linux man-pages 6.03), and what filters and file
//! systems say of any call. The parent's calls: `parent_errnos.rs`.

/// Of any call: a filter's favourites, what signals and want of memory, numbers or
/// a disk have to say, and one that no call has.
pub(crate) const OF_ANY: &str = "EACCES EAGAIN EINTR EINVAL EIO EMFILE ENOMEM ENOSYS EPERM EXFULL";

/// Of the calls of the child, in the order of the table in `SECURITY.md`; but of
/// `exit_group`, which does not return.
pub(crate) const OF_THE_CHILD: &[(&str, libc::c_long, &str)] = &[
    ("rt_sigaction", libc::SYS_rt_sigaction, "EFAULT EINVAL"),
    ("rt_sigprocmask", libc::SYS_rt_sigprocmask, "EFAULT EINVAL"),
    (
        "execve",
        libc::SYS_execve,
        "E2BIG EACCES EAGAIN EFAULT EINVAL EIO EISDIR ELIBBAD ELOOP EMFILE ENAMETOOLONG \
         ENFILE ENOENT ENOEXEC ENOMEM ENOTDIR EPERM ETXTBSY",
    ),
    (
        "execveat",
        libc::SYS_execveat,
        "E2BIG EACCES EAGAIN EBADF EFAULT EINVAL EIO EISDIR ELIBBAD ELOOP EMFILE \
         ENAMETOOLONG ENFILE ENOENT ENOEXEC ENOMEM ENOTDIR EPERM ETXTBSY",
    ),
    ("close_range", libc::SYS_close_range, "EINVAL EMFILE ENOMEM"),
    #[cfg(target_arch = "x86_64")]
    ("dup2", libc::SYS_dup2, "EBADF EBUSY EINTR EINVAL EMFILE"),
    ("dup3", libc::SYS_dup3, "EBADF EBUSY EINTR EINVAL EMFILE"),
    (
        "fcntl",
        libc::SYS_fcntl,
        "EACCES EAGAIN EBADF EBUSY EDEADLK EFAULT EINTR EINVAL EMFILE ENOLCK ENOTDIR \
         EPERM",
    ),
    ("close", libc::SYS_close, "EBADF EINTR EIO ENOSPC"),
    (
        "openat",
        libc::SYS_openat,
        "EACCES EBADF EBUSY EDQUOT EEXIST EFAULT EFBIG EINTR EINVAL EISDIR ELOOP EMFILE \
         ENAMETOOLONG ENFILE ENODEV ENOENT ENOMEM ENOSPC ENOTDIR ENXIO EOPNOTSUPP \
         EOVERFLOW EPERM EROFS ETXTBSY",
    ),
    ("getdents64", libc::SYS_getdents64, "EBADF EFAULT EINVAL ENOENT ENOTDIR"),
    ("chdir", libc::SYS_chdir, "EACCES EBADF EFAULT EIO ELOOP ENAMETOOLONG ENOENT ENOMEM ENOTDIR"),
    (
        "fchdir",
        libc::SYS_fchdir,
        "EACCES EBADF EFAULT EIO ELOOP ENAMETOOLONG ENOENT ENOMEM ENOTDIR",
    ),
    (
        "chroot",
        libc::SYS_chroot,
        "EACCES EFAULT EIO ELOOP ENAMETOOLONG ENOENT ENOMEM ENOTDIR EPERM",
    ),
    ("umask", libc::SYS_umask, ""),
    ("setsid", libc::SYS_setsid, "EPERM"),
    ("setpgid", libc::SYS_setpgid, "EACCES EINVAL EPERM ESRCH"),
    ("getpgid", libc::SYS_getpgid, "EACCES EINVAL EPERM ESRCH"),
    ("ioctl", libc::SYS_ioctl, "EBADF EFAULT EINVAL ENOTTY"),
    (
        "prctl",
        libc::SYS_prctl,
        "EACCES EBADF EBUSY EFAULT EINVAL ENODEV ENXIO EOPNOTSUPP EPERM ERANGE",
    ),
    ("getppid", libc::SYS_getppid, ""),
    ("prlimit64", libc::SYS_prlimit64, "EFAULT EINVAL EPERM ESRCH"),
    ("setpriority", libc::SYS_setpriority, "EACCES EINVAL EPERM ESRCH"),
    ("sched_setscheduler", libc::SYS_sched_setscheduler, "EINVAL EPERM ESRCH"),
    ("sched_setaffinity", libc::SYS_sched_setaffinity, "EFAULT EINVAL EPERM ESRCH"),
    ("ioprio_set", libc::SYS_ioprio_set, "EINVAL EPERM ESRCH"),
    (
        "write",
        libc::SYS_write,
        "EAGAIN EBADF EDESTADDRREQ EDQUOT EFAULT EFBIG EINTR EINVAL EIO ENOSPC EPERM \
         EPIPE",
    ),
    ("getpid", libc::SYS_getpid, ""),
    (
        "landlock_restrict_self",
        libc::SYS_landlock_restrict_self,
        "E2BIG EBADF EBADFD EINVAL EOPNOTSUPP EPERM",
    ),
    ("seccomp", libc::SYS_seccomp, "EACCES EBUSY EFAULT EINVAL ENOMEM EOPNOTSUPP ESRCH"),
    ("setgroups", libc::SYS_setgroups, "EFAULT EINVAL ENOMEM EPERM"),
    ("setresgid", libc::SYS_setresgid, "EAGAIN EINVAL EPERM"),
    ("setresuid", libc::SYS_setresuid, "EAGAIN EINVAL EPERM"),
    ("capset", libc::SYS_capset, "EFAULT EINVAL EPERM ESRCH"),
    ("read", libc::SYS_read, "EAGAIN EBADF EFAULT EINTR EINVAL EIO EISDIR"),
    ("setns", libc::SYS_setns, "EBADF EINVAL ENOMEM EPERM ESRCH"),
    (
        "mount",
        libc::SYS_mount,
        "EACCES EBUSY EFAULT EINVAL ELOOP EMFILE ENAMETOOLONG ENODEV ENOENT ENOMEM \
         ENOTBLK ENOTDIR ENXIO EPERM EROFS",
    ),
    ("pivot_root", libc::SYS_pivot_root, "EBUSY EINVAL ENOTDIR EPERM"),
    ("umount2", libc::SYS_umount2, "EAGAIN EBUSY EFAULT EINVAL ENAMETOOLONG ENOENT ENOMEM EPERM"),
];

/// A call's errnos, its own and those of any, in ascending order.
pub(crate) fn of(own: &str) -> Vec<i32> {
    let mut all: Vec<i32> =
        [own, OF_ANY].into_iter().flat_map(str::split_whitespace).map(number).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// The name and errnos of a call of the child's.
pub(crate) fn of_call(call: libc::c_long) -> (&'static str, Vec<i32>) {
    let row = OF_THE_CHILD.iter().find(|(_, number, _)| *number == call);
    let (name, _, own) = row.unwrap_or_else(|| panic!("call {call} has no errnos"));
    (name, of(own))
}

macro_rules! numbers {
    ($($name:ident)*) => {
        /// The number of an errno.
        pub(crate) fn number(name: &str) -> i32 {
            match name {
                $(stringify!($name) => libc::$name,)*
                _ => panic!("no such errno here: {name}"),
            }
        }
    };
}

numbers! {
    E2BIG EACCES EAFNOSUPPORT EAGAIN EBADF EBADFD EBUSY ECHILD EDEADLK EDESTADDRREQ EDQUOT
    EEXIST EFAULT EFBIG EINTR EINVAL EIO EISDIR ELIBBAD ELOOP EMFILE ENAMETOOLONG ENFILE
    ENODEV ENOENT ENOEXEC ENOLCK ENOMEM ENOSPC ENOSYS ENOTBLK ENOTDIR ENOTTY ENXIO EOPNOTSUPP
    EOVERFLOW EPERM EPIPE EPROTONOSUPPORT ERANGE EROFS ESPIPE ESRCH ETXTBSY EUSERS EXFULL
}
