//! Numbers of fds that are held to be lent out.

use core::sync::atomic::{AtomicBool, Ordering};

use rustix::fd::{FromRawFd, IntoRawFd, OwnedFd};

use super::Errno;

/// A number with an fd on it, which others take turns to replace.
///
/// Not an `OwnedFd`: those who share it must be able to put another file there,
/// and to close it where that fails.
#[derive(Debug)]
pub(crate) struct Slot {
    number: i32,
    /// Closed; the number may be anybody's.
    lost: AtomicBool,
}

impl Slot {
    /// Takes the fd over, and its number.
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self { number: fd.into_raw_fd(), lost: AtomicBool::new(false) }
    }

    pub(crate) fn number(&self) -> i32 {
        self.number
    }

    /// Puts a copy of the fd with number `source` there, CLOEXEC, in place of
    /// what was there, in one step. One caller at a time.
    ///
    /// `EBADF` where the limit on numbers has been lowered since: then all is as
    /// it was.
    pub(crate) fn put(&self, source: i32) -> Result<(), Errno> {
        match self.lost.load(Ordering::Relaxed) {
            true => Err(Errno::BADF),
            false => copy_onto(source, self.number),
        }
    }

    /// Closes what is there. From here on it is no slot any more.
    pub(crate) fn lose(&self) {
        if !self.lost.swap(true, Ordering::Relaxed) {
            // SAFETY: the fd that `new` took over, or what `put` has put in its
            // place; nobody else closes it, and this only once.
            drop(unsafe { OwnedFd::from_raw_fd(self.number) });
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.lose();
    }
}

/// `dup3`, with `O_CLOEXEC`.
#[cfg(linux)]
fn copy_onto(source: i32, number: i32) -> Result<(), Errno> {
    // SAFETY: no pointers. What is replaced is a slot's own.
    super::check(unsafe { libc::dup3(source, number, libc::O_CLOEXEC) }).map(drop)
}

/// Of use where a child can share the fd table, which is Linux alone.
#[cfg(not(linux))]
fn copy_onto(_source: i32, _number: i32) -> Result<(), Errno> {
    Err(Errno::NOSYS)
}
