//! The parent's calls on terminals: making pairs, looking at one, changing it.

use core::ffi::CStr;

use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::termios::{OptionalActions, Termios, Winsize};

use super::{Errno, check, fd};

/// Bytes for the name of a terminal, with its NUL.
pub(crate) const NAME_SIZE: usize = 64;

/// A control character that is this one is switched off.
pub(crate) const NO_CHARACTER: u8 = libc::_POSIX_VDISABLE;

/// A call that failed, in words, and why.
pub(crate) type Failed = (&'static str, Errno);

fn failed<E: Into<Errno>>(call: &'static str) -> impl Fn(E) -> Failed {
    move |errno| (call, errno.into())
}

/// A new pseudoterminal, both ends CLOEXEC from birth where the system can:
/// (master, slave). It becomes nobody's controlling terminal by this.
pub(crate) fn open_pair() -> Result<(OwnedFd, OwnedFd), Failed> {
    let master = open_master()?;
    rustix::pty::grantpt(&master).map_err(failed("grantpt"))?;
    rustix::pty::unlockpt(&master).map_err(failed("unlockpt"))?;
    let slave = open_slave(&master)?;
    Ok((master, slave))
}

#[cfg(linux)]
fn open_master() -> Result<OwnedFd, Failed> {
    fd::open(c"/dev/ptmx", OFlags::RDWR, Mode::empty()).map_err(failed("open \"/dev/ptmx\""))
}

#[cfg(any(target_os = "freebsd", target_os = "netbsd"))]
fn open_master() -> Result<OwnedFd, Failed> {
    use rustix::pty::{OpenptFlags, openpt};
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    openpt(flags).map_err(failed("posix_openpt"))
}

/// A thread that forks between these calls leaks it.
#[cfg(not(any(linux, target_os = "freebsd", target_os = "netbsd")))]
fn open_master() -> Result<OwnedFd, Failed> {
    use rustix::pty::{OpenptFlags, openpt};
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
    let master = openpt(flags).map_err(failed("posix_openpt"))?;
    let cloexec = rustix::io::FdFlags::CLOEXEC;
    rustix::io::fcntl_setfd(&master, cloexec).map_err(failed("fcntl F_SETFD"))?;
    Ok(master)
}

/// From the master itself, since Linux 4.13: no path is looked up, so neither a
/// root without `/dev/pts` nor another file system there is in the way.
#[cfg(linux)]
fn open_slave(master: &OwnedFd) -> Result<OwnedFd, Failed> {
    use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer};
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    match ioctl_tiocgptpeer(master, flags).map_err(Errno::from) {
        // A kernel that does not know the call, or a filter that refuses it.
        Err(Errno::NOTTY | Errno::INVAL | Errno::NOSYS | Errno::PERM) => open_slave_by_name(master),
        Err(errno) => Err(("ioctl TIOCGPTPEER", errno)),
        Ok(slave) => Ok(slave),
    }
}

#[cfg(not(linux))]
fn open_slave(master: &OwnedFd) -> Result<OwnedFd, Failed> {
    open_slave_by_name(master)
}

fn open_slave_by_name(master: &OwnedFd) -> Result<OwnedFd, Failed> {
    use rustix::fd::AsFd;
    let mut name = [0; NAME_SIZE];
    let name = slave_name(master.as_fd(), &mut name).map_err(failed("ptsname"))?;
    fd::open(name, OFlags::RDWR, Mode::empty()).map_err(failed("open of the terminal by its name"))
}

/// The path of a terminal, of whichever end this is.
pub(crate) fn name<'b>(
    fd: BorrowedFd<'_>,
    buffer: &'b mut [u8; NAME_SIZE],
) -> Result<&'b CStr, Errno> {
    if slave_name(fd, buffer).is_err() {
        // SAFETY: libc writes at most the length given.
        let errno =
            unsafe { libc::ttyname_r(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
        if errno != 0 {
            return Err(Errno::from_raw_os_error(errno));
        }
    }
    CStr::from_bytes_until_nul(buffer).map_err(|_| Errno::INVAL)
}

/// The path of a master's slave. By its number and not by libc, which may stat
/// the path and so fail where it is not to be seen.
#[cfg(linux)]
fn slave_name<'b>(
    master: BorrowedFd<'_>,
    buffer: &'b mut [u8; NAME_SIZE],
) -> Result<&'b CStr, Errno> {
    const DIRECTORY: &[u8] = b"/dev/pts/";
    let mut number: u32 = 0;
    // SAFETY: the kernel writes the number, or fails.
    check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTN, &raw mut number) })?;
    buffer[..DIRECTORY.len()].copy_from_slice(DIRECTORY);
    // SAFETY: behind the directory there is room for eleven bytes.
    unsafe { super::decimal::write(number, buffer[DIRECTORY.len()..].as_mut_ptr()) };
    CStr::from_bytes_until_nul(buffer).map_err(|_| Errno::INVAL)
}

#[cfg(any(target_vendor = "apple", target_os = "freebsd", target_os = "illumos"))]
fn slave_name<'b>(
    master: BorrowedFd<'_>,
    buffer: &'b mut [u8; NAME_SIZE],
) -> Result<&'b CStr, Errno> {
    let name = rustix::pty::ptsname(master, [])?;
    let name = name.to_bytes_with_nul();
    buffer.get_mut(..name.len()).ok_or(Errno::INVAL)?.copy_from_slice(name);
    CStr::from_bytes_until_nul(buffer).map_err(|_| Errno::INVAL)
}

/// Only by a call that answers in memory which all threads share.
#[cfg(not(any(linux, target_vendor = "apple", target_os = "freebsd", target_os = "illumos")))]
fn slave_name<'b>(
    _master: BorrowedFd<'_>,
    _buffer: &'b mut [u8; NAME_SIZE],
) -> Result<&'b CStr, Errno> {
    Err(Errno::NOSYS)
}

/// Its attributes; a master has those of its slave.
pub(crate) fn attributes(fd: BorrowedFd<'_>) -> Result<Termios, Errno> {
    Ok(rustix::termios::tcgetattr(fd)?)
}

/// Changes them at once, whatever is on its way.
pub(crate) fn set_attributes(fd: BorrowedFd<'_>, attributes: &Termios) -> Result<(), Errno> {
    Ok(rustix::termios::tcsetattr(fd, OptionalActions::Now, attributes)?)
}

/// Its size; both ends have the same.
pub(crate) fn size(fd: BorrowedFd<'_>) -> Result<Winsize, Errno> {
    Ok(rustix::termios::tcgetwinsize(fd)?)
}

/// Changes it. The foreground group gets `SIGWINCH` if it is another.
pub(crate) fn set_size(fd: BorrowedFd<'_>, size: Winsize) -> Result<(), Errno> {
    Ok(rustix::termios::tcsetwinsize(fd, size)?)
}

/// The foreground process group, as the kernel has it: 0 for none.
pub(crate) fn foreground(fd: BorrowedFd<'_>) -> Result<i32, Errno> {
    // SAFETY: no pointers. Not rustix's, for which 0 is an error.
    check(unsafe { libc::tcgetpgrp(fd.as_raw_fd()) })
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use rustix::fd::AsFd;
    use rustix::io::FdFlags;

    #[test]
    fn both_ends_are_cloexec_and_the_ends_of_one_terminal() {
        let (master, slave) = open_pair().unwrap();
        for end in [&master, &slave] {
            assert_eq!(rustix::io::fcntl_getfd(end).unwrap(), FdFlags::CLOEXEC);
        }
        rustix::io::write(&slave, b"out").unwrap();
        let mut buffer = [0; 8];
        assert_eq!(fd::read(master.as_fd(), &mut buffer), Ok(3));
    }

    #[test]
    fn the_slave_opened_by_name_is_the_same_terminal() {
        let (master, slave) = open_pair().unwrap();
        let named = open_slave_by_name(&master).unwrap();
        let device = |fd: &OwnedFd| rustix::fs::fstat(fd).unwrap().st_rdev;
        assert_eq!(device(&named), device(&slave));
        assert_eq!(rustix::io::fcntl_getfd(&named).unwrap(), FdFlags::CLOEXEC);
    }

    #[test]
    fn both_ends_have_one_name_and_one_size() {
        let (master, slave) = open_pair().unwrap();
        let (mut ours, mut theirs) = ([0; NAME_SIZE], [0; NAME_SIZE]);
        let ours = name(master.as_fd(), &mut ours).unwrap();
        assert_eq!(name(slave.as_fd(), &mut theirs).unwrap(), ours);
        let size_set = Winsize { ws_row: 5, ws_col: 7, ws_xpixel: 11, ws_ypixel: 13 };
        set_size(master.as_fd(), size_set).unwrap();
        assert_eq!(size(slave.as_fd()), Ok(size_set));
        assert_eq!(foreground(master.as_fd()), Ok(0));
    }

    #[test]
    fn what_is_no_terminal_is_enotty() {
        let (reader, _writer) = fd::pipe().unwrap();
        assert_eq!(name(reader.as_fd(), &mut [0; NAME_SIZE]), Err(Errno::NOTTY));
        assert_eq!(size(reader.as_fd()), Err(Errno::NOTTY));
        assert_eq!(attributes(reader.as_fd()).err(), Some(Errno::NOTTY));
    }
}
