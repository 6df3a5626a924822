//! How each channel's ends come about.

extern crate std;

use std::ffi::{CStr, CString, OsStr};
use std::format;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::vec::Vec;

use rustix::fs::OFlags;

use super::fifo::{Fifo, Named};
use super::{SpawnError, Subject};
use crate::channel::{Channel, ChannelInfo, Name, Open, OpenError, PassedFd, Pty};
use crate::command::{Mapped, PlanError};
use crate::sys::once::OnceFd;
use crate::sys::socket::MessageKind;
use crate::sys::{Errno, fd, memfd, socket};

/// How a channel's ends come about at a spawn.
#[derive(Clone, Debug)]
pub(super) enum Opener<'fd> {
    ReadPipe,
    WritePipe,
    SocketPair,
    Pty(Pty),
    MessagePair(MessageKind),
    Fifo(Fifo),
    File { path: CString, flags: OFlags },
    Bytes(Arc<Vec<u8>>),
    Shared(Arc<OwnedFd>),
    Given(Arc<OnceFd>),
    Passthrough(PassedFd<'fd>),
}

impl Opener<'_> {
    /// The child's end, if it is there before the spawn.
    pub(super) fn number(&self) -> Option<i32> {
        match self {
            Self::Shared(fd) => Some(fd.as_raw_fd()),
            Self::Passthrough(source) => Some(source.as_fd().as_raw_fd()),
            _ => None,
        }
    }

    /// Whether the ends are made at the spawn, CLOEXEC, and known to nobody else; and
    /// not given, with whatever flags they have.
    pub(super) fn makes_its_ends(&self) -> bool {
        match self {
            Self::ReadPipe | Self::WritePipe | Self::SocketPair | Self::MessagePair(_) => true,
            Self::Fifo(_) | Self::File { .. } | Self::Bytes(_) => true,
            // A pair may be adopted.
            Self::Pty(_) => false,
            Self::Shared(_) | Self::Given(_) | Self::Passthrough(_) => false,
        }
    }

    /// Opens the channel for one spawn: the ends that are made now, or given.
    ///
    /// `channel` is what an error is about, where we get an end; `target` is asked
    /// for a child fd, where we get none.
    pub(super) fn open(
        &self,
        channel: Option<&ChannelInfo>,
        target: impl Fn() -> i32,
    ) -> Result<Made, SpawnError> {
        let pair = |(ours, theirs)| Made { ours: Some(ours), theirs: Some(theirs), name: None };
        let theirs = |theirs| Made { theirs: Some(theirs), ..Made::default() };
        Ok(match self {
            Self::ReadPipe => pair(fd::pipe().map_err(failed_for("pipe2", channel))?),
            Self::WritePipe => {
                let (reader, writer) = fd::pipe().map_err(failed_for("pipe2", channel))?;
                pair((writer, reader))
            }
            Self::SocketPair => pair(fd::socket_pair().map_err(failed_for("socketpair", channel))?),
            Self::MessagePair(kind) => {
                pair(socket::message_pair(*kind).map_err(failed_for("socketpair", channel))?)
            }
            Self::Fifo(fifo) => {
                let (ours, theirs, name) = fifo.open()?;
                Made { name: Some(name), ..pair((ours, theirs)) }
            }
            Self::Pty(pty) => pair(pty.open().map_err(|error| no_terminal(error, target()))?),
            Self::File { path, flags } => {
                let opened = fd::open(path, *flags, Open::MODE);
                theirs(opened.map_err(not_opened(path))?)
            }
            Self::Bytes(bytes) => {
                theirs(memfd::sealed(bytes).map_err(|(call, errno)| failed(call)(errno))?)
            }
            Self::Given(given) => {
                theirs(given.take().ok_or_else(|| PlanError::AlreadyGiven { fd: target() })?)
            }
            Self::Shared(_) | Self::Passthrough(_) => Made::default(),
        })
    }

    /// After a spawn that succeeded: what the child alone shall have is closed
    /// here, and a name that nobody needs goes.
    pub(super) fn settle(&self, made: Made) {
        if let (Self::Fifo(fifo), Some(name)) = (self, made.name) {
            fifo.settle(name);
        }
    }

    /// After one that failed, or never was: what was given goes back, what was
    /// made is closed, and a name that was made goes.
    pub(super) fn take_back(&self, made: Made) {
        match (self, made.theirs, made.name) {
            (Self::Given(given), Some(theirs), _) => given.put_back(theirs),
            (Self::Fifo(fifo), _, Some(name)) => fifo.take_back(name),
            _ => {}
        }
    }
}

/// What was made of a channel for one spawn.
#[derive(Debug, Default)]
pub(super) struct Made {
    /// Our end, until it is moved to the child's handle.
    pub(super) ours: Option<OwnedFd>,
    /// The child's end.
    pub(super) theirs: Option<OwnedFd>,
    /// Of a named pipe.
    name: Option<Named>,
}

/// One for each channel. `/dev/null` is opened once.
pub(super) fn openers<'fd>(channels: &[Mapped<'fd>]) -> Result<Vec<Opener<'fd>>, PlanError> {
    let mut null: Option<Arc<OwnedFd>> = None;
    channels.iter().map(|mapped| opener(&mapped.channel, &mut null)).collect()
}

fn opener<'fd>(
    channel: &Channel<'fd>,
    null: &mut Option<Arc<OwnedFd>>,
) -> Result<Opener<'fd>, PlanError> {
    Ok(match channel {
        Channel::ReadPipe => Opener::ReadPipe,
        Channel::WritePipe => Opener::WritePipe,
        Channel::SocketPair => Opener::SocketPair,
        Channel::Pty(pty) => Opener::Pty(pty.clone()),
        Channel::SeqpacketPair => message_pair(MessageKind::Seqpacket, "SeqpacketPair")?,
        Channel::DatagramPair => message_pair(MessageKind::Datagram, "DatagramPair")?,
        Channel::NamedPipe(pipe) => Opener::Fifo(Fifo::new(pipe)?),
        Channel::Passthrough(source) => Opener::Passthrough(source.clone()),
        Channel::Given(given) => Opener::Given(given.cell().clone()),
        Channel::File(file) => {
            let nul = || PlanError::NulByte { what: "path of a file".into() };
            let (path, flags): (CString, OFlags) = file.freeze().ok_or_else(nul)?;
            Opener::File { path, flags }
        }
        Channel::Bytes(_) if !memfd::HAS_MEMFD => {
            return Err(PlanError::Unsupported { what: "Channel::bytes" });
        }
        Channel::Bytes(input) => Opener::Bytes(input.bytes().clone()),
        Channel::Null => Opener::Shared(shared_null(null)?),
        // It holds the number until the child opens the file there.
        Channel::FileInChild(_) => Opener::Shared(shared_null(null)?),
    })
}

/// `target`: a child fd of the channel.
fn no_terminal(error: OpenError, target: i32) -> SpawnError {
    match error {
        OpenError::Call(call, errno) => failed(call)(errno),
        OpenError::Gone => PlanError::AlreadyGiven { fd: target }.into(),
    }
}

fn shared_null(null: &mut Option<Arc<OwnedFd>>) -> Result<Arc<OwnedFd>, PlanError> {
    if let Some(null) = null {
        return Ok(null.clone());
    }
    let opened = fd::open_null().map_err(|errno| PlanError::System {
        call: "open \"/dev/null\"",
        errno: errno.raw_os_error(),
    })?;
    Ok(null.insert(Arc::new(opened)).clone())
}

fn message_pair<'fd>(kind: MessageKind, what: &'static str) -> Result<Opener<'fd>, PlanError> {
    match socket::HAS_MESSAGES {
        true => Ok(Opener::MessagePair(kind)),
        false => Err(PlanError::Unsupported { what }),
    }
}

/// An error of a call of the parent's.
pub(super) fn failed(call: &'static str) -> impl Fn(Errno) -> SpawnError {
    move |errno| SpawnError::in_parent(call, Subject::Nothing, errno)
}

/// A call that makes the ends of a channel.
fn failed_for(call: &'static str, channel: Option<&ChannelInfo>) -> impl Fn(Errno) -> SpawnError {
    move |errno| match channel {
        Some(channel) => {
            let words = match channel.name() {
                Name::Fd(fd) => format!("{call} for child fd {fd}"),
                Name::Text(name) => format!("{call} for channel {name:?}"),
            };
            SpawnError::in_parent(words, Subject::of_channel(channel), errno)
        }
        None => failed(call)(errno),
    }
}

fn not_opened(path: &CStr) -> impl Fn(Errno) -> SpawnError {
    move |errno| {
        let subject = Subject::Path(OsStr::from_bytes(path.to_bytes()).into());
        SpawnError::in_parent(format!("open {path:?}"), subject, errno)
    }
}
