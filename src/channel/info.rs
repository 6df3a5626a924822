//! What is known of a channel whose parent's end is ours: its names, and what
//! it can do.

extern crate std;

use std::boxed::Box;
use std::fmt;

/// What the parent's end of a channel is, and what it can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct EndInfo {
    pub(crate) kind: Kind,
    pub(crate) direction: Direction,
}

/// What the calls on an end depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Pipe,
    /// A stream socket: it can be closed in half, and a write may be told not to
    /// raise a signal.
    Socket,
    /// A pseudoterminal's master: the end of what it reads is `EIO`, and it can't
    /// be closed in half.
    Terminal,
    /// A character device, such as a terminal from its program's side: plain
    /// writes, and `EIO` when it was hung up.
    Device,
    /// A regular file: always ready.
    File,
    /// A socket that keeps message boundaries, and has no end of file.
    Datagram,
    /// A socket that keeps message boundaries.
    Seqpacket,
}

impl Kind {
    pub(crate) fn is_socket(self) -> bool {
        matches!(self, Self::Socket | Self::Datagram | Self::Seqpacket)
    }

    /// Whether each write is a message, which each read gets as a whole.
    pub(crate) fn keeps_messages(self) -> bool {
        matches!(self, Self::Datagram | Self::Seqpacket)
    }
}

/// Which way a channel's bytes go, seen from the parent.
///
/// ```
/// use forkplan::{Command, Direction, Pump};
///
/// let mut pump = Pump::new();
/// let cat = pump.add(Command::new("cat").spawn()?);
/// let directions: Vec<Direction> = pump.channels(cat)?.map(|channel| channel.direction).collect();
/// assert_eq!(directions, [Direction::Write, Direction::Read, Direction::Read]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// We read what the child writes.
    Read,
    /// We write what the child reads.
    Write,
    /// Both, over one end or over two.
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

/// A name that a command keeps.
#[derive(Clone, Debug)]
pub(crate) enum OwnedName {
    Fd(i32),
    Text(Box<str>),
}

impl OwnedName {
    pub(crate) fn get(&self) -> Name<'_> {
        match self {
            Self::Fd(fd) => Name::Fd(*fd),
            Self::Text(name) => Name::Text(name),
        }
    }
}

impl From<Name<'_>> for OwnedName {
    fn from(name: Name<'_>) -> Self {
        match name {
            Name::Fd(fd) => Self::Fd(fd),
            Name::Text(name) => Self::Text(name.into()),
        }
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
    /// The child fds, in the user's order: at least one if there is no name.
    pub(crate) fds: Box<[i32]>,
    pub(crate) end: EndInfo,
    /// It is the one that is written to where none is named.
    pub(crate) default_writer: bool,
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
