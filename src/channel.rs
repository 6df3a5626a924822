//! What a child's fds can be connected to.

extern crate std;

use std::boxed::Box;
use std::ffi::CString;
use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

/// One communication channel between the parent and a child: what the child
/// gets on one or several of its fds, and what the parent keeps.
///
/// Pipes are named from the parent's side: the parent reads from a read pipe.
/// The letters of Twisted's `childFDs` are `ReadPipe` for `"r"`, `WritePipe`
/// for `"w"`, and any fd that converts for a number.
///
/// ```
/// use forkplan::{Channel::*, Command};
///
/// let mut child = Command::new("sh")
///     .args(["-c", "cat <&5 >&7"])
///     .fd(5, WritePipe)
///     .fd(7, ReadPipe)
///     .fd(2, std::io::stderr())
///     .spawn()?;
/// let mut to_child = std::fs::File::from(child.take(5).unwrap());
/// let from_child = std::fs::File::from(child.take(7).unwrap());
/// std::io::Write::write_all(&mut to_child, b"through the shell")?;
/// drop(to_child);
/// assert_eq!(std::io::read_to_string(from_child)?, "through the shell");
/// assert!(child.wait()?.success());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Channel<'fd> {
    /// A new pipe: the child writes, the parent reads.
    ReadPipe,
    /// A new pipe: the parent writes, the child reads.
    WritePipe,
    /// A new pair of connected Unix stream sockets: both read and write.
    SocketPair,
    /// `/dev/null`, for reading and writing. Opened when the command is
    /// prepared.
    Null,
    /// A file, opened by the parent at each spawn; the parent keeps nothing.
    /// See [`Channel::file`].
    File(OpenFile),
    /// An fd of the parent's, which stays open there with its flags unchanged.
    /// The child's copy shares its offset and its `O_NONBLOCK`.
    Passthrough(PassedFd<'fd>),
}

impl<'fd> Channel<'fd> {
    /// The file at `path`, opened by the parent at each spawn. A relative path
    /// is taken from the parent's directory, whatever the child's is.
    ///
    /// Opening blocks if the file does so: a FIFO without its other side.
    pub fn file(path: impl Into<PathBuf>, open: Open) -> Self {
        Self::File(OpenFile { path: path.into(), open })
    }

    /// The parent's own standard input.
    pub fn stdin() -> Channel<'static> {
        rustix::stdio::stdin().into()
    }

    /// The parent's own standard output.
    pub fn stdout() -> Channel<'static> {
        rustix::stdio::stdout().into()
    }

    /// The parent's own standard error.
    pub fn stderr() -> Channel<'static> {
        rustix::stdio::stderr().into()
    }

    /// An fd of the parent's that outlives the command.
    pub fn borrowed(fd: &'fd impl AsFd) -> Self {
        fd.as_fd().into()
    }

    /// What the parent's end can do, if the parent has one.
    pub(crate) fn direction(&self) -> Option<Direction> {
        match self {
            Self::ReadPipe => Some(Direction::Read),
            Self::WritePipe => Some(Direction::Write),
            Self::SocketPair => Some(Direction::Both),
            Self::Null | Self::File(_) | Self::Passthrough(_) => None,
        }
    }
}

/// What the child's end is, in the words of a printed plan.
impl fmt::Display for Channel<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReadPipe => f.write_str("read pipe"),
            Self::WritePipe => f.write_str("write pipe"),
            Self::SocketPair => f.write_str("socket pair"),
            Self::Null => f.write_str("/dev/null"),
            Self::File(file) => write!(f, "file {:?}", file.path),
            Self::Passthrough(source) => write!(f, "parent's {}", source.number()),
        }
    }
}

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

/// How a file is opened.
///
/// ```
/// use forkplan::{Channel, Command, Open};
///
/// let dir = tempfile::tempdir()?;
/// let log = dir.path().join("log");
/// for line in ["one", "two"] {
///     let mut echo = Command::new("echo");
///     echo.arg(line).fd(1, Channel::file(&log, Open::Append)).spawn()?.wait()?;
/// }
/// assert_eq!(std::fs::read_to_string(&log)?, "one\ntwo\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Files that are made get mode 0666 less the umask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Open {
    /// For reading; it has to be there.
    Read,
    /// For writing; made if it is not there, emptied if it is.
    Write,
    /// For writing at the end; made if it is not there.
    Append,
    /// For reading and writing; made if it is not there, and not emptied.
    ReadWrite,
    /// For writing; it must not be there.
    CreateNew,
}

impl Open {
    pub(crate) fn flags(self) -> OFlags {
        match self {
            Self::Read => OFlags::RDONLY,
            Self::Write => OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC,
            Self::Append => OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND,
            Self::ReadWrite => OFlags::RDWR | OFlags::CREATE,
            Self::CreateNew => OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL,
        }
    }

    pub(crate) const MODE: Mode = Mode::from_raw_mode(0o666);
}

/// A path and how it is opened: made by [`Channel::file`].
///
/// ```
/// use forkplan::{Channel, Open};
///
/// let channel = Channel::file("/etc/hosts", Open::Read);
/// assert!(matches!(channel, Channel::File(_)));
/// ```
#[derive(Clone, Debug)]
pub struct OpenFile {
    path: PathBuf,
    open: Open,
}

impl OpenFile {
    /// The path as the kernel takes it, and the flags. `None` if there is a NUL
    /// in it.
    pub(crate) fn freeze(&self) -> Option<(CString, OFlags)> {
        let path = CString::new(self.path.clone().into_os_string().into_vec()).ok()?;
        Some((path, self.open.flags()))
    }
}

/// What the parent's end can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Direction {
    /// It reads from a pipe.
    Read,
    /// It writes to a pipe.
    Write,
    /// It reads from and writes to a socket.
    Both,
}

impl Direction {
    pub(crate) fn reads(self) -> bool {
        self != Self::Write
    }

    pub(crate) fn writes(self) -> bool {
        self != Self::Read
    }
}

/// How a channel is known: by a name that the user gave, or by any child fd
/// that it is mapped on.
///
/// ```
/// use forkplan::Name;
///
/// assert_eq!(Name::from(3), Name::Fd(3));
/// assert_eq!(Name::from("control"), Name::Text("control"));
/// assert_eq!(Name::from("control").to_string(), "control");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Name<'a> {
    /// The channel that is mapped on this child fd.
    Fd(i32),
    /// The channel with this name.
    Text(&'a str),
}

impl From<i32> for Name<'_> {
    fn from(fd: i32) -> Self {
        Self::Fd(fd)
    }
}

impl<'a> From<&'a str> for Name<'a> {
    fn from(name: &'a str) -> Self {
        Self::Text(name)
    }
}

impl<'a> From<&'a std::string::String> for Name<'a> {
    fn from(name: &'a std::string::String) -> Self {
        Self::Text(name)
    }
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fd(fd) => fd.fmt(f),
            Self::Text(name) => f.write_str(name),
        }
    }
}

/// A channel of which the parent has an end: what stays the same from spawn to
/// spawn.
#[derive(Clone, Debug)]
pub(crate) struct ChannelInfo {
    pub(crate) name: Option<Box<str>>,
    /// The child fds, at least one, in the user's order.
    pub(crate) fds: Box<[i32]>,
    pub(crate) direction: Direction,
}

impl ChannelInfo {
    pub(crate) fn name(&self) -> Name<'_> {
        match &self.name {
            Some(name) => Name::Text(name),
            None => Name::Fd(self.fds[0]),
        }
    }

    pub(crate) fn is(&self, name: Name<'_>) -> bool {
        match name {
            Name::Fd(fd) => self.fds.contains(&fd),
            Name::Text(name) => self.name.as_deref() == Some(name),
        }
    }
}
