//! Ends of channels that somebody else has made.

extern crate std;

use std::boxed::Box;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::{fmt, io};

use super::info::{ChannelInfo, Direction, EndInfo, Kind, Name};
use crate::sys::fd_kind::{access, kind_of, same_file};
use crate::sys::{Errno, FdKind, Message};

impl FdKind {
    /// Looks at an fd: some syscalls that change nothing.
    pub fn of(fd: impl AsFd) -> io::Result<Self> {
        Ok(kind_of(fd.as_fd())?)
    }
}

/// Our end of a channel that somebody else has made, with the name by which it
/// is known in a pump: see [`Pump::attach`](crate::Pump::attach). It owns its fd,
/// or its two.
///
/// A pipe, a stream socket, a terminal, a file or another device will do: what
/// has a stream of bytes. Which way they go is the fd's to say.
///
/// ```
/// use std::os::unix::net::UnixStream;
/// use forkplan::{End, EndError};
///
/// let (ours, _theirs) = UnixStream::pair()?;
/// End::new("control", ours)?;
/// let directory = std::fs::File::open("/")?;
/// assert!(matches!(End::new("root", directory), Err(EndError::NoStream(_))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct End {
    name: Option<Box<str>>,
    fds: Box<[i32]>,
    first: Half,
    /// What is written to, where that is another fd.
    writer: Option<Half>,
}

/// One fd of an end.
#[derive(Debug)]
pub(crate) struct Half {
    pub(crate) fd: OwnedFd,
    pub(crate) end: EndInfo,
}

/// An fd that can't be the end of a channel.
///
/// ```
/// use forkplan::{End, EndError};
///
/// let null = || std::fs::File::open("/dev/null"); // for reading
/// assert_eq!(End::duplex(0, null()?, null()?).unwrap_err(), EndError::NotWritable);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndError {
    /// It has no stream of bytes: a directory, a socket that listens, or one
    /// that has messages.
    NoStream(FdKind),
    /// What is to be read from is open for writing only.
    NotReadable,
    /// What is to be written to is open for reading only.
    NotWritable,
    /// It could not be looked at: the errno.
    Errno(i32),
}

impl End {
    /// One fd, which is read from and written to as far as it was opened for
    /// that. The name is a text, or a number as if it were that of a child's fd.
    pub fn new<'n>(name: impl Into<Name<'n>>, fd: impl Into<OwnedFd>) -> Result<Self, EndError> {
        let fd = fd.into();
        let end = end_of(fd.as_fd())?;
        let (name, fds) = known_as(name.into());
        Ok(Self { name, fds, first: Half { fd, end }, writer: None })
    }

    /// Two fds as one channel: one is read from, the other is written to.
    ///
    /// If both are the same socket, one of them is closed and the other does
    /// both: it has ways to end one direction alone.
    pub fn duplex<'n>(
        name: impl Into<Name<'n>>,
        reader: impl Into<OwnedFd>,
        writer: impl Into<OwnedFd>,
    ) -> Result<Self, EndError> {
        let (name, fds) = known_as(name.into());
        Self::of_two(name, fds, reader.into(), writer.into())
    }

    fn of_two(
        name: Option<Box<str>>,
        fds: Box<[i32]>,
        reader: OwnedFd,
        writer: OwnedFd,
    ) -> Result<Self, EndError> {
        let (of_reader, of_writer) = check_duplex(reader.as_fd(), writer.as_fd())?;
        let is_socket = of_reader.kind == Kind::Socket && of_writer.kind == Kind::Socket;
        if is_socket && same_file(reader.as_fd(), writer.as_fd())? {
            return Ok(Self {
                name,
                fds,
                first: Half { fd: reader, end: of_reader },
                writer: None,
            });
        }
        let first = EndInfo { direction: Direction::Read, ..of_reader };
        let second = EndInfo { direction: Direction::Write, ..of_writer };
        Ok(Self {
            name,
            fds,
            first: Half { fd: reader, end: first },
            writer: Some(Half { fd: writer, end: second }),
        })
    }

    /// As [`duplex`](Self::duplex), of an fd that was at 0 and one that was at 1.
    pub(crate) fn of_stdio(stdin: OwnedFd, stdout: OwnedFd) -> Result<Self, EndError> {
        Self::of_two(None, [0, 1].into(), stdin, stdout)
    }

    /// Gives it a name. A number by which it was known it keeps.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The fd that is read from, if one is.
    pub fn reader(&self) -> Option<BorrowedFd<'_>> {
        self.first.end.direction.reads().then(|| self.first.fd.as_fd())
    }

    /// The fd that is written to, if one is.
    pub fn writer(&self) -> Option<BorrowedFd<'_>> {
        let half = self.writer.as_ref().unwrap_or(&self.first);
        half.end.direction.writes().then(|| half.fd.as_fd())
    }

    /// The fd, and the second one if there are two: that is the one which is
    /// written to. The caller's from now on.
    pub fn into_fds(self) -> (OwnedFd, Option<OwnedFd>) {
        (self.first.fd, self.writer.map(|half| half.fd))
    }

    /// The parts, each with what is known of it. The second is written to.
    pub(crate) fn into_halves(self) -> (Half, Option<Half>, impl Fn(EndInfo) -> ChannelInfo) {
        let Self { name, fds, first, writer } = self;
        let info = move |end| ChannelInfo { name: name.clone(), fds: fds.clone(), end };
        (first, writer, info)
    }
}

fn known_as(name: Name<'_>) -> (Option<Box<str>>, Box<[i32]>) {
    match name {
        Name::Fd(fd) => (None, [fd].into()),
        Name::Text(name) => (Some(name.into()), [].into()),
    }
}

/// What an fd is as a channel's end.
pub(crate) fn end_of(fd: BorrowedFd<'_>) -> Result<EndInfo, EndError> {
    let found = kind_of(fd)?;
    let kind = match found {
        FdKind::STREAM => Kind::Socket,
        FdKind::TERMINAL | FdKind::NULL | FdKind::DEVICE => Kind::Device,
        FdKind::FILE => Kind::File,
        _ if FdKind::PIPE.contains(found) => Kind::Pipe,
        _ => return Err(EndError::NoStream(found)),
    };
    let direction = match access(fd)? {
        (true, true) => Direction::Both,
        (false, _) => Direction::Write,
        (true, false) => Direction::Read,
    };
    Ok(EndInfo { kind, direction })
}

/// What two fds are, of which one has to be readable and the other writable.
pub(crate) fn check_duplex(
    reader: BorrowedFd<'_>,
    writer: BorrowedFd<'_>,
) -> Result<(EndInfo, EndInfo), EndError> {
    let (of_reader, of_writer) = (end_of(reader)?, end_of(writer)?);
    if !of_reader.direction.reads() {
        return Err(EndError::NotReadable);
    }
    if !of_writer.direction.writes() {
        return Err(EndError::NotWritable);
    }
    Ok((of_reader, of_writer))
}

impl fmt::Display for EndError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoStream(found) => write!(f, "{found} has no stream of bytes"),
            Self::NotReadable => f.write_str("it is open for writing only"),
            Self::NotWritable => f.write_str("it is open for reading only"),
            Self::Errno(errno) => write!(f, "it can't be looked at: {}", Message(*errno)),
        }
    }
}

impl core::error::Error for EndError {}

impl From<Errno> for EndError {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno.raw_os_error())
    }
}

impl From<EndError> for io::Error {
    fn from(error: EndError) -> Self {
        match error {
            EndError::Errno(errno) => Self::from_raw_os_error(errno),
            other => Self::new(io::ErrorKind::InvalidInput, other),
        }
    }
}
