//! The platform's numbers for what steps set.

/// Whether the steps that only Linux's raw syscalls have can be taken.
pub(crate) const LINUX_STEPS: bool = cfg!(raw_syscalls);

/// `RLIMIT_*`, by the names that the public type gives them. `None`: not here.
pub(crate) const fn limit(name: &str) -> i32 {
    match name.as_bytes() {
        b"CORE" => libc::RLIMIT_CORE as i32,
        b"CPU" => libc::RLIMIT_CPU as i32,
        b"DATA" => libc::RLIMIT_DATA as i32,
        b"FSIZE" => libc::RLIMIT_FSIZE as i32,
        b"NOFILE" => libc::RLIMIT_NOFILE as i32,
        b"STACK" => libc::RLIMIT_STACK as i32,
        b"AS" => libc::RLIMIT_AS as i32,
        b"MEMLOCK" => libc::RLIMIT_MEMLOCK as i32,
        b"NPROC" => libc::RLIMIT_NPROC as i32,
        b"RSS" => libc::RLIMIT_RSS as i32,
        #[cfg(linux)]
        b"LOCKS" => libc::RLIMIT_LOCKS as i32,
        #[cfg(linux)]
        b"MSGQUEUE" => libc::RLIMIT_MSGQUEUE as i32,
        #[cfg(linux)]
        b"NICE" => libc::RLIMIT_NICE as i32,
        #[cfg(linux)]
        b"RTPRIO" => libc::RLIMIT_RTPRIO as i32,
        #[cfg(linux)]
        b"RTTIME" => libc::RLIMIT_RTTIME as i32,
        #[cfg(linux)]
        b"SIGPENDING" => libc::RLIMIT_SIGPENDING as i32,
        // No system has it: refused by the kernel where it is set.
        _ => -1,
    }
}
