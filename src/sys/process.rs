//! The parent's calls about one child: signal it, wait for it, ask whether it
//! has reached exec. Never about "any child".

use core::ffi::c_int;
#[cfg(linux)]
use core::ffi::{CStr, c_long};
use core::mem::MaybeUninit;

#[cfg(linux)]
use rustix::fd::AsRawFd;
use rustix::fd::{BorrowedFd, OwnedFd};

use super::{Errno, check};

/// A child is without an exit signal until its exec, and then a plain wait does
/// not see it.
#[cfg(linux)]
const ANY_EXIT_SIGNAL: c_int = libc::__WALL;
#[cfg(not(linux))]
const ANY_EXIT_SIGNAL: c_int = 0;

/// How a child ended: the raw wait status, and what it used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reaped {
    pub(crate) status: c_int,
    pub(crate) usage: Usage,
}

/// What a child and the children that it waited for used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) user_micros: u64,
    pub(crate) system_micros: u64,
    pub(crate) max_rss_bytes: u64,
    pub(crate) minor_faults: u64,
    pub(crate) major_faults: u64,
    pub(crate) voluntary_switches: u64,
    pub(crate) involuntary_switches: u64,
}

impl From<libc::rusage> for Usage {
    fn from(usage: libc::rusage) -> Self {
        let micros = |t: libc::timeval| t.tv_sec as u64 * 1_000_000 + t.tv_usec as u64;
        // Apple counts in bytes, all others in KiB.
        let unit = if cfg!(target_vendor = "apple") { 1 } else { 1024 };
        Self {
            user_micros: micros(usage.ru_utime),
            system_micros: micros(usage.ru_stime),
            max_rss_bytes: usage.ru_maxrss as u64 * unit,
            minor_faults: usage.ru_minflt as u64,
            major_faults: usage.ru_majflt as u64,
            voluntary_switches: usage.ru_nvcsw as u64,
            involuntary_switches: usage.ru_nivcsw as u64,
        }
    }
}

/// This process.
pub(crate) fn own_pid() -> c_int {
    // SAFETY: no pointers; can't fail.
    unsafe { libc::getpid() }
}

/// Waits for the child to end and reaps it. `None` if `block` is false and it
/// runs. `ECHILD`: somebody else has reaped it, or it reaped itself because
/// `SIGCHLD` is ignored. Goes on after `EINTR`.
pub(crate) fn wait(
    pid: c_int,
    pidfd: Option<BorrowedFd<'_>>,
    block: bool,
) -> Result<Option<Reaped>, Errno> {
    loop {
        let hang = ANY_EXIT_SIGNAL | if block { 0 } else { libc::WNOHANG };
        #[cfg(linux)]
        let result = match pidfd.map(|pidfd| waitid_pidfd(pidfd, libc::WEXITED | hang)) {
            // Whatever it is that the one call is not good for, the other may be. A
            // failed spawn has nobody who would come back for its child.
            Some(result) => or(result, || wait4(pid, hang)),
            None => or(wait4(pid, hang), || waitid(libc::P_PID, pid, libc::WEXITED | hang)),
        };
        #[cfg(not(linux))]
        let result = {
            let _ = pidfd;
            wait4(pid, hang)
        };
        if !matches!(result, Err(Errno::INTR)) {
            return result;
        }
    }
}

/// By another call, where the first does not tell.
#[cfg(linux)]
fn or<T>(first: Result<T, Errno>, other: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
    match first {
        Err(errno) if ![Errno::CHILD, Errno::INTR].contains(&errno) => other(),
        result => result,
    }
}

/// Whether a call on a pidfd failed for the call's sake and not the child's: a
/// seccomp filter that came after the features were looked for, or that knows
/// fewer of these calls than the kernel has. The pid serves as well, as long as
/// nobody else has reaped the child.
#[cfg(linux)]
fn refused(errno: Errno) -> bool {
    matches!(errno, Errno::NOSYS | Errno::PERM | Errno::INVAL)
}

fn wait4(pid: c_int, options: c_int) -> Result<Option<Reaped>, Errno> {
    let mut status = 0;
    let mut usage = MaybeUninit::zeroed();
    // SAFETY: writes the status and the usage. The pid is a child's that we
    // have not reaped, so it is nobody else's.
    let got = check(unsafe { libc::wait4(pid, &mut status, options, usage.as_mut_ptr()) })?;
    // SAFETY: all zero is a valid rusage.
    let usage = unsafe { usage.assume_init() };
    Ok((got != 0).then(|| Reaped { status, usage: usage.into() }))
}

#[cfg(linux)]
fn waitid_pidfd(pidfd: BorrowedFd<'_>, options: c_int) -> Result<Option<Reaped>, Errno> {
    waitid(libc::P_PIDFD, pidfd.as_raw_fd(), options)
}

/// The syscall, for libc's wrapper has no usage.
#[cfg(linux)]
fn waitid(which: libc::idtype_t, id: c_int, options: c_int) -> Result<Option<Reaped>, Errno> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: writes the info and the usage. The fd is alive, or the pid a child's that
    // we have not reaped.
    check(unsafe {
        libc::syscall(
            libc::SYS_waitid,
            c_long::from(which as c_int),
            c_long::from(id),
            info.as_mut_ptr(),
            c_long::from(options),
            usage.as_mut_ptr(),
        ) as c_int
    })?;
    // SAFETY: all zero is valid for both, and the kernel has written what the
    // accessors read for a child that changed state.
    let (pid, code, status, usage) = unsafe {
        let info = info.assume_init_ref();
        (info.si_pid(), info.si_code, info.si_status(), usage.assume_init())
    };
    if pid == 0 {
        return Ok(None);
    }
    let status = match code {
        libc::CLD_EXITED => (status & 0xff) << 8,
        libc::CLD_DUMPED => status | 0x80,
        _ => status,
    };
    Ok(Some(Reaped { status, usage: usage.into() }))
}

/// Whether the child has ended; it stays to be reaped. `ECHILD` as for
/// [`wait`].
pub(crate) fn has_ended(pid: c_int, pidfd: Option<BorrowedFd<'_>>) -> Result<bool, Errno> {
    #[cfg(linux)]
    if let Some(pidfd) = pidfd {
        let asked = ended_by(libc::P_PIDFD, pidfd.as_raw_fd() as libc::id_t, ANY_EXIT_SIGNAL);
        if !matches!(asked, Err(errno) if refused(errno)) {
            return asked;
        }
    }
    let _ = pidfd;
    ended_by(libc::P_PID, pid as libc::id_t, ANY_EXIT_SIGNAL)
}

fn ended_by(which: libc::idtype_t, id: libc::id_t, kinds: c_int) -> Result<bool, Errno> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | kinds;
    // SAFETY: writes the info.
    check(unsafe { libc::waitid(which, id, info.as_mut_ptr(), options) })?;
    // SAFETY: all zero is valid, and says that nothing has changed.
    Ok(unsafe { info.assume_init_ref().si_signo } == libc::SIGCHLD)
}

/// The raw wait status of a child that somebody else has reaped, from
/// `PIDFD_GET_INFO` (Linux 6.15 for the exit status). `None` if the kernel does
/// not tell.
pub(crate) fn status_after_reap(pidfd: BorrowedFd<'_>) -> Option<c_int> {
    #[cfg(linux)]
    {
        /// `struct pidfd_info` of its first version.
        #[repr(C)]
        struct PidfdInfo {
            mask: u64,
            cgroup_id: u64,
            ids: [u32; 11],
            exit_code: i32,
        }
        const PIDFD_GET_INFO: libc::Ioctl = libc::_IOWR::<PidfdInfo>(0xff, 11);
        const PIDFD_INFO_EXIT: u64 = 1 << 3;
        static_assertions::const_assert_eq!(size_of::<PidfdInfo>(), 64);

        let mut info =
            PidfdInfo { mask: PIDFD_INFO_EXIT, cgroup_id: 0, ids: [0; 11], exit_code: 0 };
        // SAFETY: the kernel reads and writes the 64 bytes that the request
        // number names.
        let asked = check(unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO, &raw mut info) });
        (asked.is_ok() && info.mask & PIDFD_INFO_EXIT != 0).then_some(info.exit_code)
    }
    #[cfg(not(linux))]
    {
        let _ = pidfd;
        None
    }
}

/// How many bytes the kernel's sets of CPUs have.
pub(crate) fn cpu_set_size() -> usize {
    #[cfg(linux)]
    {
        // Far above what any kernel is built for.
        let mut set = [0usize; 1024];
        // SAFETY: the kernel writes at most the bytes given.
        let size = unsafe {
            libc::syscall(libc::SYS_sched_getaffinity, 0, size_of_val(&set), set.as_mut_ptr())
        };
        usize::try_from(size).unwrap_or(0)
    }
    #[cfg(not(linux))]
    {
        0
    }
}

/// A pidfd for a child that is not reaped.
pub(crate) fn open_pidfd(pid: c_int) -> Option<OwnedFd> {
    #[cfg(linux)]
    {
        let pid = rustix::process::Pid::from_raw(pid)?;
        rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()
    }
    #[cfg(not(linux))]
    {
        let _ = pid;
        None
    }
}

/// Waits for a child that was made without an exit signal; whether its pidfd,
/// if it has one, could be waited on.
#[cfg(raw_syscalls)]
pub(crate) fn wait_for_probe(pid: c_int, pidfd: Option<&OwnedFd>) -> bool {
    use rustix::fd::AsFd;
    if let Some(pidfd) = pidfd {
        loop {
            match waitid_pidfd(pidfd.as_fd(), libc::WEXITED | ANY_EXIT_SIGNAL) {
                Err(Errno::INTR) => {}
                Err(_) => break,
                Ok(_) => return true,
            }
        }
    }
    while matches!(wait4(pid, ANY_EXIT_SIGNAL), Err(Errno::INTR)) {}
    false
}

#[cfg(linux)]
fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: c_int, flags: c_long) -> Result<(), Errno> {
    // SAFETY: no info is passed; the fd is alive.
    let sent = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            c_long::from(pidfd.as_raw_fd()),
            c_long::from(signal),
            core::ptr::null::<libc::siginfo_t>(),
            flags,
        )
    };
    check(sent as c_int).map(drop)
}

/// Sends `signal` to the group that a child leads. By its number only if the
/// child was not reaped: until then no other group has it.
pub(crate) fn signal_group(
    pid: c_int,
    pidfd: Option<BorrowedFd<'_>>,
    signal: c_int,
    reaped: bool,
) -> Result<(), Errno> {
    #[cfg(linux)]
    if let Some(pidfd) = pidfd {
        /// Linux 6.9.
        const PIDFD_SIGNAL_PROCESS_GROUP: c_long = 1 << 2;
        match pidfd_send_signal(pidfd, signal, PIDFD_SIGNAL_PROCESS_GROUP) {
            Err(errno) if refused(errno) => {}
            result => return result,
        }
    }
    if reaped || has_ended(pid, pidfd) == Err(Errno::CHILD) {
        return Err(Errno::SRCH);
    }
    // SAFETY: no pointers. The pid is a child's that nobody has reaped.
    check(unsafe { libc::kill(-pid, signal) }).map(drop)
}

/// Sends `signal` to a child that was not reaped.
pub(crate) fn signal(
    pid: c_int,
    pidfd: Option<BorrowedFd<'_>>,
    signal: c_int,
) -> Result<(), Errno> {
    #[cfg(linux)]
    if let Some(pidfd) = pidfd {
        match pidfd_send_signal(pidfd, signal, 0) {
            // As above: nobody comes back for a child that could not be killed.
            Err(errno) if errno != Errno::SRCH => {}
            result => return result,
        }
    }
    // Without a pidfd the pid is all there is. A child that somebody else has
    // reaped is not ours to wait for any more, and its number may be a
    // stranger's; unless it is another child of ours by now.
    if has_ended(pid, pidfd) == Err(Errno::CHILD) {
        return Err(Errno::SRCH);
    }
    // SAFETY: no pointers.
    check(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// Whether a child has reached exec. `None` if that can't be told any more, for
/// somebody else has reaped it.
///
/// POSIX has `setpgid` of a child that has called exec fail with `EACCES`, and
/// no process group has the largest number, so the call changes nothing. `EPERM`
/// has several meanings: not yet, or another session, or a filter that answers
/// in the kernel's place. Then Linux's `/proc` knows, and where that is hidden,
/// the signal of the child's end, if `exit_signal`, with which it was made, was
/// none. All of them work on a zombie too.
pub(crate) fn reached_exec(pid: c_int, exit_signal: c_int) -> Option<bool> {
    // SAFETY: no pointers.
    match check(unsafe { libc::setpgid(pid, c_int::MAX) }) {
        Err(Errno::ACCESS) => return Some(true),
        Err(Errno::SRCH) => return None,
        _ => {}
    }
    if let Some(not_yet) = forked_without_exec(pid) {
        return Some(!not_yet);
    }
    if exit_signal == 0 {
        return has_exit_signal(pid);
    }
    // SAFETY: no pointers.
    let same_session = unsafe { libc::getsid(pid) == libc::getsid(0) };
    same_session.then_some(false)
}

/// A child that is made without an exit signal has `SIGCHLD` from its exec on:
/// only then does a plain wait see it. `None`: nor does any other.
pub(crate) fn has_exit_signal(pid: c_int) -> Option<bool> {
    let seen_by = |kinds| ended_by(libc::P_PID, pid as libc::id_t, kinds).is_ok();
    if seen_by(0) {
        return Some(true);
    }
    seen_by(ANY_EXIT_SIGNAL).then_some(false)
}

/// The kernel's flag `PF_FORKNOEXEC`, from `/proc/PID/stat`. Allocates nothing.
#[cfg(linux)]
fn forked_without_exec(pid: c_int) -> Option<bool> {
    use rustix::fs::{Mode, OFlags};

    const PF_FORKNOEXEC: u64 = 0x40;
    let mut room = [0; PROC_PATH_SIZE];
    let path = proc_path(pid, "stat", &mut room)?;
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut line = [0; 1024];
    let len = rustix::io::read(&file, &mut line).ok()?;
    // The name, in parentheses, may hold any byte; the flags are the seventh
    // field after it.
    let after = line[..len].rsplit(|&byte| byte == b')').next()?;
    let flags = after.split(|&byte| byte == b' ').nth(7)?;
    let flags: u64 = core::str::from_utf8(flags).ok()?.parse().ok()?;
    Some(flags & PF_FORKNOEXEC != 0)
}

/// What `/proc/PID/` and a name of up to 13 bytes take.
#[cfg(linux)]
const PROC_PATH_SIZE: usize = 32;

#[cfg(linux)]
fn proc_path<'a>(pid: c_int, name: &str, room: &'a mut [u8; PROC_PATH_SIZE]) -> Option<&'a CStr> {
    let mut digits = [0; 11];
    // SAFETY: eleven bytes.
    unsafe { super::decimal::write(pid.unsigned_abs(), digits.as_mut_ptr()) };
    let len = digits.iter().position(|&byte| byte == 0)?;
    let mut at = 0;
    for part in [b"/proc/", &digits[..len], b"/", name.as_bytes(), b"\0"] {
        room.get_mut(at..at + part.len())?.copy_from_slice(part);
        at += part.len();
    }
    CStr::from_bytes_until_nul(room).ok()
}

/// Writes a file of a process in `/proc`, which takes the text whole or not at
/// all. Allocates nothing.
pub(crate) fn write_to_proc(pid: c_int, name: &str, text: &str) -> Result<(), Errno> {
    #[cfg(linux)]
    {
        use rustix::fs::{Mode, OFlags};

        let mut room = [0; PROC_PATH_SIZE];
        let path = proc_path(pid, name, &mut room).ok_or(Errno::NOENT)?;
        let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(rustix::io::write(&file, text.as_bytes()).map(drop)?)
    }
    #[cfg(not(linux))]
    {
        let _ = (pid, name, text);
        Err(Errno::NOSYS)
    }
}

#[cfg(not(linux))]
fn forked_without_exec(_pid: c_int) -> Option<bool> {
    None
}

#[cfg(all(test, linux))]
mod tests {
    use super::*;

    #[test]
    fn proc_tells_who_has_not_called_exec() {
        // This process was started by an exec.
        assert_eq!(forked_without_exec(own_pid()), Some(false));
        // SAFETY: the child only waits to be killed.
        let child = unsafe { libc::fork() };
        if child == 0 {
            loop {
                // SAFETY: waits.
                unsafe { libc::pause() };
            }
        }
        let answers = (forked_without_exec(child), reached_exec(child, libc::SIGCHLD));
        signal(child, None, libc::SIGKILL).unwrap();
        let zombie = has_ended(child, None).map(|_| reached_exec(child, libc::SIGCHLD));
        wait(child, None, true).unwrap();
        assert_eq!(answers, (Some(true), Some(false)));
        assert_eq!(zombie, Ok(Some(false)));
        assert_eq!(forked_without_exec(i32::MAX), None);
    }
}
