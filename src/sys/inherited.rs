//! Fds that a program was started with: numbers that nobody in it owns yet.

use core::ffi::c_int;

use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::stdio;

use super::{Errno, check, fd};

/// The number of an open fd that nobody owns. There is one of it for each such
/// fd: whoever turns it into an [`OwnedFd`] has given it up.
#[derive(Debug)]
pub(crate) struct Unowned(i32);

impl Unowned {
    /// Finds every fd that this program was started with. One that would be
    /// closed by an exec was not: it would have been closed by ours.
    ///
    /// # Safety
    ///
    /// Nobody in this program owns any of them or will, but through what is
    /// found here, and nobody closes one; and they are found once. Of 0, 1 and 2
    /// others may say that they are open, and use them.
    pub(crate) unsafe fn each(mut each: impl FnMut(Self)) -> Result<(), Errno> {
        each_open(|number| {
            if is_inheritable(number) == Ok(true) {
                each(Self(number));
            }
        })
    }

    pub(crate) fn number(&self) -> i32 {
        self.0
    }

    /// To look at, as long as nobody owns it.
    pub(crate) fn look(&self) -> BorrowedFd<'_> {
        // SAFETY: open, and closed by nobody else while this is there, as was
        // promised for `each`.
        unsafe { BorrowedFd::borrow_raw(self.0) }
    }

    /// The fd, close-on-exec from now on, and to be closed by its owner.
    ///
    /// 0, 1 and 2 are moved to another number, and `/dev/null` comes in their
    /// place: others say of these numbers that they are open, and would reach
    /// whatever was opened next.
    pub(crate) fn own(self) -> Result<OwnedFd, (Self, Errno)> {
        match self.0 {
            0..3 => self.move_away().map_err(|errno| (self, errno)),
            number => match mark(number) {
                // SAFETY: open and nobody else's, as was promised for `each`;
                // and this, which alone could say so again, is gone.
                Ok(()) => Ok(unsafe { OwnedFd::from_raw_fd(number) }),
                Err(errno) => Err((self, errno)),
            },
        }
    }

    fn move_away(&self) -> Result<OwnedFd, Errno> {
        let null = fd::open_null()?;
        let moved = fcntl_dupfd_cloexec(self.look(), 3)?;
        match self.0 {
            0 => stdio::dup2_stdin(null)?,
            1 => stdio::dup2_stdout(null)?,
            _ => stdio::dup2_stderr(null)?,
        }
        Ok(moved)
    }
}

/// Whether this number is open now, whoever has it.
pub(crate) fn is_open(number: i32) -> bool {
    is_inheritable(number).is_ok()
}

/// `EBADF`: it is closed.
fn is_inheritable(number: i32) -> Result<bool, Errno> {
    // SAFETY: no pointers; asks.
    let flags: c_int = check(unsafe { libc::fcntl(number, libc::F_GETFD) })?;
    Ok(flags & libc::FD_CLOEXEC == 0)
}

fn mark(number: i32) -> Result<(), Errno> {
    // SAFETY: no pointers. The number is ours to mark.
    check(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) }).map(drop)
}

/// Calls once for each number that is open. Without `/proc` each number is looked
/// at, up to the hard limit.
fn each_open(mut each: impl FnMut(i32)) -> Result<(), Errno> {
    match fd::open(c"/proc/self/fd", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()) {
        Ok(listing) => each_listed(&listing, each),
        Err(_) => {
            (0..fd::highest()).filter(|&number| is_open(number)).for_each(&mut each);
            Ok(())
        }
    }
}

#[cfg(linux)]
fn each_listed(listing: &OwnedFd, mut each: impl FnMut(i32)) -> Result<(), Errno> {
    let mut buffer = [core::mem::MaybeUninit::uninit(); crate::limits::DIRENT_BUFFER_SIZE];
    let mut entries = rustix::fs::RawDir::new(listing, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = core::str::from_utf8(entry.file_name().to_bytes());
        // The others are "." and "..".
        if let Some(number) = name.ok().and_then(|name| name.parse().ok()) {
            if number != listing.as_raw_fd() {
                each(number);
            }
        }
    }
    Ok(())
}

/// What lies there is Linux's alone.
#[cfg(not(linux))]
fn each_listed(_listing: &OwnedFd, each: impl FnMut(i32)) -> Result<(), Errno> {
    (0..fd::highest()).filter(|&number| is_open(number)).for_each(each);
    Ok(())
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    #[test]
    fn numbers_are_found_with_proc_and_without_it() {
        // What stays open for as long as both look, beside what other tests do.
        let (reader, writer) = fd::pipe().unwrap();
        let high = fcntl_dupfd_cloexec(&reader, 700).unwrap();
        let mine = [reader.as_raw_fd(), writer.as_raw_fd(), high.as_raw_fd()];
        let mut listed = Vec::new();
        each_open(|number| listed.push(number)).unwrap();
        let tried: Vec<i32> = (0..fd::highest()).filter(|&number| is_open(number)).collect();
        for number in mine {
            assert!(listed.contains(&number) && tried.contains(&number), "{number}");
        }
        assert!(!listed.contains(&-1) && !is_open(-1));
    }
}
