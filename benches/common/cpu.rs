//! Which CPU, and how long one was used.

use std::io;
use std::mem::MaybeUninit;
use std::time::Duration;

/// Runs this thread on one CPU alone. What it starts, threads and children,
/// inherits that.
pub fn pin(cpu: usize) -> io::Result<()> {
    if cpu >= libc::CPU_SETSIZE as usize {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: all zero is an empty set, in which there is room for `cpu`; the
    // kernel reads it.
    let failed = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &set) != 0
    };
    if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The CPU time of this thread.
pub fn of_thread() -> Duration {
    clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// The CPU time of this process and of all its children that were reaped.
pub fn of_process_and_children() -> Duration {
    let mut usage = MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: writes the usage.
    let usage = unsafe {
        assert_eq!(libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr()), 0);
        usage.assume_init()
    };
    let time = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
    };
    clock(libc::CLOCK_PROCESS_CPUTIME_ID) + time(usage.ru_utime) + time(usage.ru_stime)
}

/// The time since the machine was started, more or less.
pub fn monotonic() -> Duration {
    clock(libc::CLOCK_MONOTONIC)
}

fn clock(id: libc::clockid_t) -> Duration {
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: writes the time.
    let time = unsafe {
        assert_eq!(libc::clock_gettime(id, time.as_mut_ptr()), 0);
        time.assume_init()
    };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
