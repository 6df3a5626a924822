//! Named pipes, opened without waiting for the other side.

use core::ffi::CStr;

use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, fstat, statat, unlinkat};

use super::{Errno, fd};

/// Which file it is: device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId(u64, u64);

impl From<Stat> for FileId {
    // Their types differ from system to system.
    #[allow(clippy::unnecessary_cast, reason = "not u64 everywhere")]
    fn from(stat: Stat) -> Self {
        Self(stat.st_dev as u64, stat.st_ino as u64)
    }
}

/// Makes a FIFO; which one it is. `None`: something was there before.
pub(crate) fn make(path: &CStr, mode: u32) -> Result<Option<FileId>, Errno> {
    #[cfg(not(target_vendor = "apple"))]
    let made = rustix::fs::mkfifoat(CWD, path, Mode::from_raw_mode(mode as _)).map_err(Errno::from);
    // SAFETY: the path is NUL-terminated.
    #[cfg(target_vendor = "apple")]
    let made = super::check(unsafe { libc::mkfifo(path.as_ptr(), mode as _) }).map(drop);
    match made {
        Ok(()) => {}
        Err(Errno::EXIST) => return Ok(None),
        Err(errno) => return Err(errno),
    }
    match statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat.into())),
        Err(errno) => {
            let _ = unlinkat(CWD, path, AtFlags::empty());
            Err(errno.into())
        }
    }
}

/// Opens the reading end, without a wait for a writer. What is no FIFO opens
/// too.
pub(crate) fn open_reader(path: &CStr) -> Result<OwnedFd, Errno> {
    fd::open(path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty())
}

/// Opens the writing end: `ENXIO` in place of a wait if nobody has the other.
pub(crate) fn open_writer(path: &CStr) -> Result<OwnedFd, Errno> {
    fd::open(path, OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty())
}

/// Which FIFO it is. `None`: it is something else.
pub(crate) fn id(end: BorrowedFd<'_>) -> Result<Option<FileId>, Errno> {
    let stat = fstat(end)?;
    let is_fifo = FileType::from_raw_mode(stat.st_mode) == FileType::Fifo;
    Ok(is_fifo.then(|| stat.into()))
}

/// Clears `O_NONBLOCK` on an end that we opened: nobody else has it.
pub(crate) fn set_blocking(end: BorrowedFd<'_>) -> Result<(), Errno> {
    Ok(rustix::io::ioctl_fionbio(end, false)?)
}

/// Removes the FIFO, if it is still the one at the path. Somebody who puts
/// another one there between the two calls loses it: no call does both.
pub(crate) fn remove(path: &CStr, fifo: FileId) {
    let found = statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW);
    if found.is_ok_and(|stat| FileId::from(stat) == fifo) {
        let _ = unlinkat(CWD, path, AtFlags::empty());
    }
}
