//! What a child's fds can be connected to.

extern crate std;

use std::fmt;
use std::os::fd::AsFd;
use std::path::PathBuf;

mod bytes;
mod end;
mod fifo;
mod file;
mod given;
mod info;
mod passed;
mod pty;
mod terminal;

pub use self::bytes::InputBytes;
pub use self::end::{End, EndError};
pub(crate) use self::end::{check_duplex, end_of};
pub use self::fifo::NamedPipe;
pub use self::file::{FileInChild, Open, OpenFile};
pub use self::given::GivenFd;
pub(crate) use self::info::{ChannelInfo, EndInfo, Kind, OwnedName};
pub use self::info::{Direction, Name};
pub use self::passed::PassedFd;
pub(crate) use self::pty::OpenError;
pub use self::pty::Pty;
pub use self::terminal::{Attributes, ControlCharacter, Terminal, WindowSize};

/// One communication channel between the parent and a child: what the child
/// gets on one or several of its fds, and what the parent keeps.
///
/// Pipes are named from the parent's side: the parent reads from a read pipe.
/// What the words of Twisted's `childFDs`, of the proposal to improve it, and of a
/// shell are here:
///
/// | there | here |
/// |---|---|
/// | `3: "r"` | `.fd(3, ReadPipe)` |
/// | `3: "w"` | `.fd(3, WritePipe)` |
/// | `3: 7` | `.fd(3, Channel::borrowed(&file))`, or anything that converts |
/// | `3: SocketPair()` | `.fd(3, SocketPair)` |
/// | `"talk": (SocketPair(), (0, 1))` | `.channel("talk", SocketPair, [0, 1])` |
/// | `ReadNamedPipe(path)` | [`NamedPipe::read(path)`](NamedPipe::read) |
/// | `"_defaultWriter": "talk"` | `.default_writer("talk")` |
/// | `2>&1`, of a pipe | `.fds([1, 2], ReadPipe)` |
/// | `3>>file` | `.fd(3, Channel::file("file", Open::Append))` |
/// | `<<<text` | `.fd(0, Channel::bytes("text"))` |
/// | `one \| two` | [`Channel::connected()`](Channel::connected) |
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
    /// A new pair of connected Unix sockets that keep message boundaries and
    /// have an end of file. Linux.
    ///
    /// In a pump each [`Event::Data`](crate::Event::Data) is one message. One
    /// that is longer than the pump's buffer of 256 KiB (the child has set
    /// `SO_SNDBUF` for that) closes the channel with `EMSGSIZE`. An empty message
    /// right before the end of file is lost: no call tells the two apart.
    SeqpacketPair,
    /// A new pair of connected Unix datagram sockets. Linux.
    ///
    /// As a [`SeqpacketPair`](Self::SeqpacketPair), but datagrams have no end of
    /// file, so that a child which closes its end is noticed by a write alone.
    /// In a pump such a channel is closed when the process was reaped and all
    /// that had arrived by then was read; a grandchild that holds the other end
    /// gets `EPIPE`.
    DatagramPair,
    /// A FIFO of the file system, opened by the parent at each spawn. See
    /// [`NamedPipe`].
    NamedPipe(NamedPipe),
    /// `/dev/null`, for reading and writing. Opened when the command is
    /// prepared.
    Null,
    /// A file, opened by the parent at each spawn; the parent keeps nothing.
    /// See [`Channel::file`].
    File(OpenFile),
    /// A file, opened by the child at each spawn; the parent keeps nothing. See
    /// [`Channel::file_in_child`].
    FileInChild(FileInChild),
    /// A file in memory with bytes for the child to read. See
    /// [`Channel::bytes`].
    Bytes(InputBytes),
    /// An fd of the parent's, which stays open there with its flags unchanged.
    /// The child's copy shares its offset and its `O_NONBLOCK`.
    Passthrough(PassedFd<'fd>),
    /// An fd of the parent's, which is closed there when a spawn succeeds. See
    /// [`Channel::give`].
    Given(GivenFd),
}

impl<'fd> Channel<'fd> {
    /// The file at `path`, opened by the parent at each spawn. A relative path
    /// is taken from the parent's directory, whatever the child's is.
    ///
    /// Opening blocks if the file does so: a FIFO without its other side.
    pub fn file(path: impl Into<PathBuf>, open: Open) -> Self {
        Self::File(OpenFile::new(path.into(), open))
    }

    /// The file at `path`, opened by the child at each spawn, by the last step but
    /// restrictions: in the child's root and directory, from which a relative
    /// path is taken, with its umask, and **with its rights**. So a path that comes
    /// from somebody untrusted opens no more than the program itself could. Who
    /// wants the parent's rights, or an fd of what the child's root hides, has
    /// [`Channel::file`].
    ///
    /// An error names the step: `openat "/log" ...: Permission denied`. The child
    /// is forked and never shares the parent's memory, for opening may block (a
    /// FIFO without its other side); the spawn waits as long. Opening takes a free
    /// number besides the child fds, so an
    /// [`rlimit`](crate::Command::rlimit) of `NOFILE` has to leave one.
    ///
    /// ```
    /// use forkplan::{Channel, Command, Open};
    ///
    /// let dir = tempfile::tempdir()?;
    /// let mut pwd = Command::new("pwd");
    /// pwd.current_dir(dir.path()).fd(1, Channel::file_in_child("log", Open::Append));
    /// assert!(pwd.spawn()?.wait()?.success());
    /// assert!(dir.path().join("log").exists());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn file_in_child(path: impl Into<PathBuf>, open: Open) -> Self {
        Self::FileInChild(FileInChild::new(OpenFile::new(path.into(), open)))
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
            Self::SeqpacketPair => (Kind::Seqpacket, Direction::Both),
            Self::DatagramPair => (Kind::Datagram, Direction::Both),
            Self::NamedPipe(fifo) => (Kind::Pipe, fifo.direction()),
            Self::Null
            | Self::File(_)
            | Self::FileInChild(_)
            | Self::Bytes(_)
            | Self::Passthrough(_)
            | Self::Given(_) => return None,
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
            Self::SeqpacketPair => f.write_str("seqpacket pair"),
            Self::DatagramPair => f.write_str("datagram pair"),
            Self::NamedPipe(fifo) => write!(f, "named pipe {:?}", fifo.path()),
            Self::Null => f.write_str("/dev/null"),
            Self::File(file) => write!(f, "file {:?}", file.path()),
            Self::FileInChild(file) => write!(f, "child's file {:?}", file.path()),
            Self::Bytes(input) => write!(f, "{} bytes", input.bytes().len()),
            Self::Passthrough(source) => write!(f, "parent's {}", source.number()),
            Self::Given(given) => match given.cell().number() {
                Some(number) => write!(f, "given {number}"),
                None => f.write_str("given away"),
            },
        }
    }
}
