//! Looking at a process from outside, through `/proc`.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

/// Device and inode: which file it is.
pub(crate) type File = (u64, u64);

/// What `/proc` tells of one fd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Open {
    pub(crate) file: File,
    /// Of the open file, as `fcntl(F_GETFL)` has them, and `O_CLOEXEC` of the fd.
    pub(crate) flags: i32,
}

impl Open {
    pub(crate) fn is_for_reading(self) -> bool {
        self.flags & libc::O_ACCMODE == libc::O_RDONLY
    }

    pub(crate) fn is_for_writing(self) -> bool {
        self.flags & libc::O_ACCMODE == libc::O_WRONLY
    }
}

/// All fds of a process that stands still.
pub(crate) fn fds_of(pid: u32) -> BTreeMap<i32, Open> {
    fds_under(&format!("/proc/{pid}"))
}

/// All of this process's fds, less the one by which they are listed.
pub(crate) fn fds_of_self() -> BTreeMap<i32, Open> {
    fds_under("/proc/self")
}

fn fds_under(process: &str) -> BTreeMap<i32, Open> {
    let listed: Vec<i32> = fs::read_dir(format!("{process}/fd"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .collect();
    let look = |fd| {
        // Gone: the one by which the directory was read.
        let metadata = fs::metadata(format!("{process}/fd/{fd}")).ok()?;
        let info = fs::read_to_string(format!("{process}/fdinfo/{fd}")).ok()?;
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
        let flags = i32::from_str_radix(flags.trim(), 8).unwrap();
        Some((fd, Open { file: (metadata.dev(), metadata.ino()), flags }))
    };
    listed.into_iter().filter_map(look).collect()
}

/// Process group, session, terminal and the terminal's foreground group.
pub(crate) fn session_of(pid: i32) -> [i32; 4] {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after = stat.rsplit(')').next().unwrap();
    let field = |number: usize| after.split_whitespace().nth(number - 3).unwrap().parse().unwrap();
    [field(5), field(6), field(7), field(8)]
}

/// A terminal as `/proc/PID/stat` has it.
pub(crate) fn terminal_number(metadata: &fs::Metadata) -> i32 {
    let device = metadata.rdev();
    let (major, minor) = (libc::major(device), libc::minor(device));
    (minor & 0xff | major << 8 | (minor & !0xff) << 12) as i32
}

pub(crate) fn file_of(fd: impl AsFd) -> File {
    let stat = rustix::fs::fstat(fd).unwrap();
    (stat.st_dev, stat.st_ino)
}

/// One of the signal sets in `/proc/PID/status`: `SigBlk`, `SigIgn`, `SigCgt`,
/// `SigPnd`.
pub(crate) fn signal_set(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
}

/// Copies `fd` to the number `at`, not CLOEXEC, whatever was there. The number
/// stays taken: for processes of one test alone.
pub(crate) fn place_at(fd: impl AsFd, at: i32) -> BorrowedFd<'static> {
    // SAFETY: no pointers; what is overwritten is the calling test's.
    assert_eq!(unsafe { libc::dup2(fd.as_fd().as_raw_fd(), at) }, at);
    with_fd(at)
}

/// The fd with this number, which the test knows to be what it says.
pub(crate) fn with_fd(number: i32) -> BorrowedFd<'static> {
    // SAFETY: the number is not −1. The tests that use this run in a process of
    // their own, in which nobody else takes the number for something else.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// As above, to be closed.
pub(crate) fn owned(number: i32) -> OwnedFd {
    // SAFETY: as above; the test gives it up.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// The highest CPU that this thread may run on.
pub(crate) fn own_cpu() -> usize {
    let mine = rustix::thread::sched_getaffinity(None).unwrap();
    (0..rustix::thread::CpuSet::MAX_CPU).rfind(|&cpu| mine.is_set(cpu)).unwrap()
}
