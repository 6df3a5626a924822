//! What an open fd is: a pipe's end, a socket, a terminal, a file.

use core::fmt;

use bitflags::bitflags;
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::fs::{FileType, OFlags, Stat, fcntl_getfl, fstat};
use rustix::net::{SocketType, sockopt};

use super::Errno;

bitflags! {
    /// What a file descriptor is: one of these, or for an expectation several.
    ///
    /// ```
    /// use forkplan::FdKind;
    /// use std::os::unix::net::UnixStream;
    ///
    /// let (stream, _) = UnixStream::pair()?;
    /// let kind = FdKind::of(&stream)?;
    /// assert_eq!(kind, FdKind::STREAM);
    /// assert!(FdKind::SOCKET.contains(kind));
    /// assert_eq!((FdKind::STREAM | FdKind::FILE).to_string(), "a stream socket or a file");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct FdKind: u32 {
        /// The end of a pipe or FIFO that is read from. A FIFO that was opened
        /// for both is this and [`PIPE_WRITER`](Self::PIPE_WRITER).
        const PIPE_READER = 1 << 0;
        /// The end of a pipe or FIFO that is written to.
        const PIPE_WRITER = 1 << 1;
        /// A stream socket that does not listen.
        const STREAM = 1 << 2;
        /// A socket that listens.
        const LISTENER = 1 << 3;
        /// A datagram socket.
        const DATAGRAM = 1 << 4;
        /// A socket of sequenced packets.
        const SEQPACKET = 1 << 5;
        /// A socket of another type.
        const OTHER_SOCKET = 1 << 6;
        /// A terminal.
        const TERMINAL = 1 << 7;
        /// A regular file.
        const FILE = 1 << 8;
        /// A directory.
        const DIRECTORY = 1 << 9;
        /// `/dev/null`. On 0, 1 and 2 it may be what std's runtime has put where
        /// nothing was.
        const NULL = 1 << 10;
        /// Another device.
        const DEVICE = 1 << 11;
        /// What has no other name here: an epoll, an eventfd, a pidfd.
        const OTHER = 1 << 12;

        /// Either end of a pipe.
        const PIPE = Self::PIPE_READER.bits() | Self::PIPE_WRITER.bits();
        /// A socket of whatever type.
        const SOCKET = Self::STREAM.bits()
            | Self::LISTENER.bits()
            | Self::DATAGRAM.bits()
            | Self::SEQPACKET.bits()
            | Self::OTHER_SOCKET.bits();
        /// Whatever it is.
        const ANY = (1 << 13) - 1;
    }
}

const WORDS: [(FdKind, &str); 13] = [
    (FdKind::PIPE_READER, "the read end of a pipe"),
    (FdKind::PIPE_WRITER, "the write end of a pipe"),
    (FdKind::STREAM, "a stream socket"),
    (FdKind::LISTENER, "a socket that listens"),
    (FdKind::DATAGRAM, "a datagram socket"),
    (FdKind::SEQPACKET, "a seqpacket socket"),
    (FdKind::OTHER_SOCKET, "a socket of another type"),
    (FdKind::TERMINAL, "a terminal"),
    (FdKind::FILE, "a file"),
    (FdKind::DIRECTORY, "a directory"),
    (FdKind::NULL, "/dev/null"),
    (FdKind::DEVICE, "a device"),
    (FdKind::OTHER, "something without a name"),
];

/// Looks at an fd: some syscalls that change nothing.
pub(crate) fn kind_of(fd: BorrowedFd<'_>) -> Result<FdKind, Errno> {
    let stat = fstat(fd)?;
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::Fifo => match fcntl_getfl(fd)? & OFlags::RWMODE {
            OFlags::WRONLY => FdKind::PIPE_WRITER,
            OFlags::RDWR => FdKind::PIPE,
            _ => FdKind::PIPE_READER,
        },
        FileType::Socket => socket_kind(fd)?,
        FileType::RegularFile => FdKind::FILE,
        FileType::Directory => FdKind::DIRECTORY,
        FileType::CharacterDevice if is_terminal(fd) => FdKind::TERMINAL,
        FileType::CharacterDevice if is_null(&stat) => FdKind::NULL,
        FileType::CharacterDevice | FileType::BlockDevice => FdKind::DEVICE,
        _ => FdKind::OTHER,
    })
}

/// Whether an open file can be read from, and whether it can be written to.
pub(crate) fn access(fd: BorrowedFd<'_>) -> Result<(bool, bool), Errno> {
    let mode = fcntl_getfl(fd)? & OFlags::RWMODE;
    Ok((mode != OFlags::WRONLY, mode == OFlags::WRONLY || mode == OFlags::RDWR))
}

fn socket_kind(fd: BorrowedFd<'_>) -> Result<FdKind, Errno> {
    let listens = sockopt::socket_acceptconn(fd)?;
    Ok(match sockopt::socket_type(fd)? {
        _ if listens => FdKind::LISTENER,
        SocketType::STREAM => FdKind::STREAM,
        SocketType::DGRAM => FdKind::DATAGRAM,
        SocketType::SEQPACKET => FdKind::SEQPACKET,
        _ => FdKind::OTHER_SOCKET,
    })
}

fn is_terminal(fd: BorrowedFd<'_>) -> bool {
    // SAFETY: no pointers.
    unsafe { libc::isatty(fd.as_raw_fd()) == 1 }
}

#[cfg(linux)]
fn is_null(stat: &Stat) -> bool {
    stat.st_rdev == rustix::fs::makedev(1, 3)
}

/// By its name: its number is each system's own.
#[cfg(not(linux))]
fn is_null(stat: &Stat) -> bool {
    rustix::fs::stat(c"/dev/null").is_ok_and(|null| null.st_rdev == stat.st_rdev)
}

/// Whether two fds are of the same file, pipe or socket.
pub(crate) fn same_file(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> Result<bool, Errno> {
    let (one, other) = (fstat(one)?, fstat(other)?);
    Ok((one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
}

/// The kinds in words, joined by "or".
impl fmt::Display for FdKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::ANY {
            return f.write_str("anything");
        }
        let mut first = true;
        for (_, word) in WORDS.iter().filter(|(kind, _)| self.contains(*kind)) {
            if !core::mem::replace(&mut first, false) {
                f.write_str(" or ")?;
            }
            f.write_str(word)?;
        }
        if first { f.write_str("nothing") } else { Ok(()) }
    }
}
