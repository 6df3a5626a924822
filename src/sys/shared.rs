//! Open files that other processes hold too: `O_NONBLOCK` would be theirs as
//! much as ours.

use core::time::Duration;

use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::Errno;
use super::poll::{Interest, PollFd, poll};

/// What a pipe that has room takes at once without blocking.
pub(crate) const PIECE_MAX: usize = libc::PIPE_BUF;

/// Whether a read or a write would find something now. Somebody else who has the
/// same open file may be quicker.
pub(crate) fn is_ready(fd: BorrowedFd<'_>, interest: Interest) -> Result<bool, Errno> {
    let mut polled = [PollFd::new(fd.as_raw_fd(), interest)];
    Ok(poll(&mut polled, Some(Duration::ZERO))? > 0)
}

/// Opens a pipe or a terminal once more: an open file of our own, with flags of
/// our own, among them `O_NONBLOCK`. They have no offset that would be missed.
///
/// An error where there is no `/proc`, or this process may not open it (a pipe
/// belongs to whoever made it, and we may have become somebody else), or it would
/// be something else: the master of a PTY opened by its path is another PTY's, and
/// `O_DIRECT`, by which each write to a pipe is a packet, can't be had by opening.
#[cfg(linux)]
pub(crate) fn open_anew(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    use rustix::fs::{Mode, OFlags, fcntl_getfl, openat};
    use rustix::path::DecInt;

    use super::fd_kind::{FdKind, kind_of, same_file};

    let kind = kind_of(fd)?;
    let flags = fcntl_getfl(fd)?;
    let other = !FdKind::PIPE.union(FdKind::TERMINAL).contains(kind);
    if other || flags.contains(OFlags::DIRECT) || is_master(fd) {
        return Err(Errno::INVAL);
    }
    let listing = OFlags::RDONLY | OFlags::DIRECTORY;
    let listing = super::fd::open(c"/proc/self/fd", listing, Mode::empty())?;
    let mode = flags & OFlags::RWMODE;
    let flags = mode | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let opened = openat(&listing, DecInt::from_fd(fd), flags, Mode::empty())?;
    match same_file(fd, rustix::fd::AsFd::as_fd(&opened))? {
        true => Ok(opened),
        false => Err(Errno::INVAL),
    }
}

#[cfg(linux)]
fn is_master(fd: BorrowedFd<'_>) -> bool {
    let mut number: core::ffi::c_uint = 0;
    // SAFETY: writes the number of the PTY whose master this is, if it is one.
    unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCGPTN as _, &raw mut number) == 0 }
}

/// Linux's alone.
#[cfg(not(linux))]
pub(crate) fn open_anew(_fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    Err(Errno::NOSYS)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::sys::fd::pipe;
    use rustix::fd::AsFd;
    use rustix::fs::{OFlags, fcntl_getfl};

    #[cfg(linux)]
    #[test]
    fn a_pipe_opened_anew_has_flags_of_its_own() {
        let (reader, writer) = pipe().unwrap();
        for end in [&reader, &writer] {
            let own = open_anew(end.as_fd()).unwrap();
            assert!(fcntl_getfl(&own).unwrap().contains(OFlags::NONBLOCK));
            assert!(!fcntl_getfl(end).unwrap().contains(OFlags::NONBLOCK));
        }
        rustix::io::write(open_anew(writer.as_fd()).unwrap(), b"abc").unwrap();
        let mut got = [0; 8];
        let own = open_anew(reader.as_fd()).unwrap();
        assert_eq!(rustix::io::read(&own, &mut got), Ok(3));
        assert_eq!(rustix::io::read(&own, &mut got), Err(rustix::io::Errno::AGAIN));
    }

    #[cfg(linux)]
    #[test]
    fn what_would_be_something_else_is_not_opened_anew() {
        let (ours, _theirs) = crate::sys::fd::socket_pair().unwrap();
        assert!(open_anew(ours.as_fd()).is_err());
        let null = crate::sys::fd::open_null().unwrap();
        assert_eq!(open_anew(null.as_fd()).unwrap_err(), Errno::INVAL);
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        assert_eq!(open_anew(file.as_fd()).unwrap_err(), Errno::INVAL);
        let master = rustix::pty::openpt(rustix::pty::OpenptFlags::NOCTTY).unwrap();
        assert_eq!(open_anew(master.as_fd()).unwrap_err(), Errno::INVAL);
        let packets = rustix::pipe::PipeFlags::DIRECT | rustix::pipe::PipeFlags::CLOEXEC;
        let (_reader, writer) = rustix::pipe::pipe_with(packets).unwrap();
        assert_eq!(open_anew(writer.as_fd()).unwrap_err(), Errno::INVAL);
    }

    #[test]
    fn a_pipe_is_ready_when_a_call_would_not_block() {
        let (reader, writer) = pipe().unwrap();
        assert_eq!(is_ready(reader.as_fd(), Interest::READ), Ok(false));
        assert_eq!(is_ready(writer.as_fd(), Interest::WRITE), Ok(true));
        rustix::io::write(&writer, &[0; 65536]).unwrap();
        assert_eq!(is_ready(writer.as_fd(), Interest::WRITE), Ok(false));
        drop(writer);
        assert_eq!(is_ready(reader.as_fd(), Interest::READ), Ok(true));
    }
}
