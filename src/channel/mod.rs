//! What a child's fds can be connected to.

extern crate std;

use std::fmt;
use std::os::fd::AsFd;
use std::path::PathBuf;

mod end;
mod file;
mod info;
mod passed;
mod pty;
mod terminal;

pub use self::end::{End, EndError};
pub(crate) use self::end::{check_duplex, end_of};
pub use self::file::{Open, OpenFile};
pub use self::info::Name;
pub(crate) use self::info::{ChannelInfo, Direction, EndInfo, Kind};
pub use self::passed::PassedFd;
pub(crate) use self::pty::OpenError;
pub use self::pty::Pty;
pub use self::terminal::{Attributes, ControlCharacter, Terminal, WindowSize};

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
///
/// # Terminals
///
/// A [`Pty`] is on as many fds as a program wants its terminal on, and may stand
/// beside anything else:
///
/// ```
/// use forkplan::{Channel::*, Command, Pty};
///
/// let mut child = Command::new("sh")
///     .args(["-c", "tty && echo beside it >&3"])
///     .channel("terminal", Pty::new(), [0, 1, 2])
///     .fd(3, ReadPipe)
///     .spawn()?;
/// let beside = std::fs::File::from(child.take(3).unwrap());
/// assert_eq!(std::io::read_to_string(beside)?, "beside it\n");
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
    /// A pseudoterminal: the child has a terminal, the parent is its user. See
    /// [`Pty`].
    Pty(Pty),
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
        Self::File(OpenFile::new(path.into(), open))
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

    /// What the parent's end is, if the parent has one.
    pub(crate) fn end_info(&self) -> Option<EndInfo> {
        let (kind, direction) = match self {
            Self::ReadPipe => (Kind::Pipe, Direction::Read),
            Self::WritePipe => (Kind::Pipe, Direction::Write),
            Self::SocketPair => (Kind::Socket, Direction::Both),
            Self::Pty(_) => (Kind::Terminal, Direction::Both),
            Self::Null | Self::File(_) | Self::Passthrough(_) => return None,
        };
        Some(EndInfo { kind, direction })
    }
}

/// What the child's end is, in the words of a printed plan.
impl fmt::Display for Channel<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReadPipe => f.write_str("read pipe"),
            Self::WritePipe => f.write_str("write pipe"),
            Self::SocketPair => f.write_str("socket pair"),
            Self::Pty(pty) => pty.fmt(f),
            Self::Null => f.write_str("/dev/null"),
            Self::File(file) => write!(f, "file {:?}", file.path()),
            Self::Passthrough(source) => write!(f, "parent's {}", source.number()),
        }
    }
}
