//! Fds of the parent's that a child gets.

extern crate std;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::Channel;

/// An fd of the parent's: borrowed for as long as the command lives, or its
/// own. Made by converting an fd into a [`Channel`].
///
/// ```
/// use forkplan::{Channel, Command};
///
/// let log = std::fs::File::open("/dev/null")?;
/// let lent = Channel::borrowed(&log);
/// let given = Channel::from(std::fs::File::open("/dev/null")?);
/// assert!(matches!((&lent, &given), (Channel::Passthrough(_), Channel::Passthrough(_))));
/// Command::new("true").fd(7, lent).fd(8, given).spawn()?.wait()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct PassedFd<'fd>(Held<'fd>);

#[derive(Clone, Debug)]
enum Held<'fd> {
    Borrowed(BorrowedFd<'fd>),
    // Shared, so that a clone of a command needs no new fd.
    Owned(Arc<OwnedFd>),
}

impl PassedFd<'_> {
    pub(crate) fn number(&self) -> i32 {
        use std::os::fd::AsRawFd;
        self.as_fd().as_raw_fd()
    }
}

impl AsFd for PassedFd<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.0 {
            Held::Borrowed(fd) => *fd,
            Held::Owned(fd) => fd.as_fd(),
        }
    }
}

impl<'fd> PassedFd<'fd> {
    /// An fd that outlives the command.
    pub fn borrowed(fd: &'fd impl AsFd) -> Self {
        fd.as_fd().into()
    }
}

impl<'fd> From<BorrowedFd<'fd>> for PassedFd<'fd> {
    fn from(fd: BorrowedFd<'fd>) -> Self {
        Self(Held::Borrowed(fd))
    }
}

/// An fd that outlives the command, of whatever has one.
impl<'fd, F: AsFd> From<&'fd F> for PassedFd<'fd> {
    fn from(fd: &'fd F) -> Self {
        fd.as_fd().into()
    }
}

/// Closed in the parent when the command and all that was prepared from it are
/// dropped.
impl From<OwnedFd> for PassedFd<'_> {
    fn from(fd: OwnedFd) -> Self {
        Self(Held::Owned(Arc::new(fd)))
    }
}

impl<'fd> From<PassedFd<'fd>> for Channel<'fd> {
    fn from(fd: PassedFd<'fd>) -> Self {
        Self::Passthrough(fd)
    }
}

impl<'fd> From<BorrowedFd<'fd>> for Channel<'fd> {
    fn from(fd: BorrowedFd<'fd>) -> Self {
        PassedFd::from(fd).into()
    }
}

/// As for [`PassedFd`].
impl<'fd, F: AsFd> From<&'fd F> for Channel<'fd> {
    fn from(fd: &'fd F) -> Self {
        PassedFd::from(fd).into()
    }
}

/// As for [`PassedFd`].
impl From<OwnedFd> for Channel<'_> {
    fn from(fd: OwnedFd) -> Self {
        PassedFd::from(fd).into()
    }
}

macro_rules! from_owner {
    ($($owner:ty),*) => {$(
        /// As for `OwnedFd`.
        impl From<$owner> for PassedFd<'_> {
            fn from(owner: $owner) -> Self {
                OwnedFd::from(owner).into()
            }
        }

        /// As for `OwnedFd`.
        impl From<$owner> for Channel<'_> {
            fn from(owner: $owner) -> Self {
                PassedFd::from(owner).into()
            }
        }
    )*};
}

from_owner!(
    File,
    std::net::TcpStream,
    std::net::TcpListener,
    std::net::UdpSocket,
    std::os::unix::net::UnixStream,
    std::os::unix::net::UnixListener,
    std::os::unix::net::UnixDatagram,
    std::process::ChildStdin,
    std::process::ChildStdout,
    std::process::ChildStderr
);

macro_rules! from_stdio {
    ($($handle:ty => $number:ident),*) => {$(
        /// The parent's own; nothing is closed.
        impl From<$handle> for PassedFd<'_> {
            fn from(_: $handle) -> Self {
                rustix::stdio::$number().into()
            }
        }

        /// The parent's own; nothing is closed.
        impl From<$handle> for Channel<'_> {
            fn from(handle: $handle) -> Self {
                PassedFd::from(handle).into()
            }
        }
    )*};
}

from_stdio!(std::io::Stdin => stdin, std::io::Stdout => stdout, std::io::Stderr => stderr);
