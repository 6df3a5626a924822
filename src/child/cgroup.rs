//! The end of all that a child has started, where they are in a cgroup.

extern crate std;

use std::io;
use std::os::fd::AsFd;

use crate::sys::{Errno, cgroup};

/// Sends `SIGKILL` to every process in a cgroup and in those below it, given the
/// cgroup's directory.
///
/// For a child that was spawned into a cgroup of its own, by
/// [`Command::cgroup`](crate::Command::cgroup): none that it has started gets away,
/// whatever session or group it is in, and none that is forked meanwhile, for the
/// kernel does it under its own lock (`cgroup.kill`, Linux 5.14). Nobody is
/// reaped by this; the children in a pump end as by any signal. Does not block.
///
/// The next child wants a new cgroup: Linux 6.18 at least kills each one at once
/// that is spawned into a cgroup which was killed before, and the spawn says so.
///
/// ```no_run
/// use forkplan::{Command, kill_cgroup};
///
/// std::fs::create_dir("/sys/fs/cgroup/job")?;
/// let job = std::fs::File::open("/sys/fs/cgroup/job")?;
/// let script = "setsid sleep 1000 & exec sleep 1000";
/// let mut child = Command::new("sh").args(["-c", script]).cgroup(&job).spawn()?;
/// kill_cgroup(&job)?;
/// child.wait()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`Unsupported`](io::ErrorKind::Unsupported): the directory has no `cgroup.kill`.
/// It is no cgroup's of the second version, or the root's, or the cgroup was removed,
/// or the kernel is older. Else the kernel's errno: `EACCES` for a cgroup that is
/// somebody else's, `EOPNOTSUPP` for a threaded one.
pub fn kill_cgroup(directory: impl AsFd) -> io::Result<()> {
    match cgroup::kill(directory.as_fd()) {
        Err(Errno::NOENT | Errno::NOSYS) => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "no cgroup.kill here: no cgroup v2 below the root, or one that was removed, or Linux before 5.14",
        )),
        result => Ok(result?),
    }
}
