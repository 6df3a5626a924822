//! What the pump tells and what it refuses.

extern crate std;

use std::{fmt, io};

use crate::channel::Name;
use crate::child::Exit;

/// A child in a pump: its place and which of the children that were there.
/// Never names another child of that pump, even when that one has the same
/// place. It means nothing to another pump, which can't tell it from its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChildKey {
    pub(super) index: u32,
    pub(super) generation: u32,
}

/// What happened to a child.
///
/// For one child: `Made` is first and `Ended` last, each once. A channel's
/// `Data` precede its `Closed`, which comes once. `Exited` comes when the
/// process is reaped, whatever is still open: a grandchild that holds a channel
/// delays `Ended` alone. No order is promised between channels, nor between
/// `Exited` and the channels' events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The child was added.
    Made {
        /// The child.
        child: ChildKey,
        /// Its process id, until `Exited`.
        pid: u32,
    },
    /// Bytes came from a channel: at least one. They lie in the pump's buffer
    /// until its next call.
    Data {
        /// The child.
        child: ChildKey,
        /// The channel.
        channel: Name<'a>,
        /// What the child wrote.
        bytes: &'a [u8],
    },
    /// A socket pair's other side writes no more. We still may.
    HalfClosed {
        /// The child.
        child: ChildKey,
        /// The channel.
        channel: Name<'a>,
    },
    /// A channel took fewer bytes than it was given, and now its queue is
    /// empty.
    Drained {
        /// The child.
        child: ChildKey,
        /// The channel.
        channel: Name<'a>,
    },
    /// A channel is closed: the last event of it.
    Closed {
        /// The child.
        child: ChildKey,
        /// The channel.
        channel: Name<'a>,
        /// Who closed it.
        reason: CloseReason,
        /// Bytes that were taken and never written.
        unsent: usize,
    },
    /// The process ended and was reaped.
    Exited {
        /// The child.
        child: ChildKey,
        /// How.
        exit: Exit,
    },
    /// The process was reaped and every channel is closed. The key names
    /// nobody any more.
    Ended {
        /// The child.
        child: ChildKey,
        /// How the process ended.
        exit: Exit,
    },
}

/// Who closed a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// The other side: every process that had it has closed it or ended.
    Peer,
    /// [`Pump::close`](super::Pump::close) and its like; what was queued is
    /// written.
    Us,
    /// A read or write failed with this errno.
    Error(i32),
}

/// Why the pump did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChannelError {
    /// The key names no child: it has ended.
    NoChild,
    /// The child has no channel of this name with an end of ours.
    NoChannel,
    /// The channel is closed, or will be when its queue is written.
    Closed,
    /// The channel is not one that we write to.
    NotWritable,
    /// The channel is not one that we read from.
    NotReadable,
}

impl fmt::Display for ChannelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoChild => "no such child in this pump",
            Self::NoChannel => "the child has no such channel",
            Self::Closed => "the channel is closed",
            Self::NotWritable => "the channel can't be written to from this side",
            Self::NotReadable => "the channel can't be read from on this side",
        })
    }
}

impl std::error::Error for ChannelError {}

impl From<ChannelError> for io::Error {
    fn from(error: ChannelError) -> Self {
        let kind = match error {
            ChannelError::NoChild | ChannelError::NoChannel => io::ErrorKind::NotFound,
            ChannelError::Closed => io::ErrorKind::BrokenPipe,
            ChannelError::NotWritable | ChannelError::NotReadable => io::ErrorKind::InvalidInput,
        };
        Self::new(kind, error)
    }
}
