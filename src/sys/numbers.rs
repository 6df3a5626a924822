//! The platform's numbers for what steps set.

/// Whether the steps that only Linux's raw syscalls have can be taken.
pub(crate) const LINUX_STEPS: bool = cfg!(raw_syscalls);

/// `RLIMIT_*`: names and numbers.
pub(crate) const LIMITS: &[(&str, i32)] = &[
    ("RLIMIT_CORE", libc::RLIMIT_CORE as i32),
    ("RLIMIT_CPU", libc::RLIMIT_CPU as i32),
    ("RLIMIT_DATA", libc::RLIMIT_DATA as i32),
    ("RLIMIT_FSIZE", libc::RLIMIT_FSIZE as i32),
    ("RLIMIT_NOFILE", libc::RLIMIT_NOFILE as i32),
    ("RLIMIT_STACK", libc::RLIMIT_STACK as i32),
    ("RLIMIT_AS", libc::RLIMIT_AS as i32),
    ("RLIMIT_MEMLOCK", libc::RLIMIT_MEMLOCK as i32),
    ("RLIMIT_NPROC", libc::RLIMIT_NPROC as i32),
    ("RLIMIT_RSS", libc::RLIMIT_RSS as i32),
    #[cfg(linux)]
    ("RLIMIT_LOCKS", libc::RLIMIT_LOCKS as i32),
    #[cfg(linux)]
    ("RLIMIT_MSGQUEUE", libc::RLIMIT_MSGQUEUE as i32),
    #[cfg(linux)]
    ("RLIMIT_NICE", libc::RLIMIT_NICE as i32),
    #[cfg(linux)]
    ("RLIMIT_RTPRIO", libc::RLIMIT_RTPRIO as i32),
    #[cfg(linux)]
    ("RLIMIT_RTTIME", libc::RLIMIT_RTTIME as i32),
    #[cfg(linux)]
    ("RLIMIT_SIGPENDING", libc::RLIMIT_SIGPENDING as i32),
];

/// The bytes of a path with its NUL: one that has more is `ENAMETOOLONG`.
pub(crate) const PATH_MAX: usize = libc::PATH_MAX as usize;

/// Kinds of namespaces. Linux's, wherever a plan is printed.
pub(crate) const NAMESPACES: &[(&str, u32)] = &[
    ("CLONE_NEWTIME", 0x80),
    ("CLONE_NEWNS", 0x0002_0000),
    ("CLONE_NEWCGROUP", 0x0200_0000),
    ("CLONE_NEWUTS", 0x0400_0000),
    ("CLONE_NEWIPC", 0x0800_0000),
    ("CLONE_NEWUSER", 0x1000_0000),
    ("CLONE_NEWPID", 0x2000_0000),
    ("CLONE_NEWNET", 0x4000_0000),
];

/// The number of a limit; −1 for one that this platform has not.
pub(crate) const fn limit(name: &str) -> i32 {
    let mut i = 0;
    while i < LIMITS.len() {
        let (known, number) = LIMITS[i];
        if equal(known.as_bytes(), name.as_bytes()) {
            return number;
        }
        i += 1;
    }
    -1
}

/// Of strings, at compile time.
pub(crate) const fn equal(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}
