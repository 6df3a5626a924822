//! Cgroups of the second version.

use rustix::fd::BorrowedFd;

use super::Errno;

/// Sends `SIGKILL` to all in a cgroup and below it, at once: `cgroup.kill`, Linux
/// 5.14. `ENOENT`: there is no such file in the directory.
pub(crate) fn kill(directory: BorrowedFd<'_>) -> Result<(), Errno> {
    #[cfg(linux)]
    {
        use rustix::fs::{Mode, OFlags, openat};

        let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = openat(directory, c"cgroup.kill", flags, Mode::empty())?;
        Ok(rustix::io::write(&file, b"1").map(drop)?)
    }
    #[cfg(not(linux))]
    {
        let _ = directory;
        Err(Errno::NOSYS)
    }
}
